//! A recorder that dies with its node, spool and all, when its newest segments are in storage and its manifest does not say so.

use crate::fence::{epoch, manifest_of, segments};
use crate::recording::Kind;
use anyhow::{Context, Result, ensure};
use recording_crds::exit;
use recording_crds::job::{JobState, StopReason};
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::attempt::{Attempt, AttemptEnded};
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::harness::s3_proxy::{self as proxy, Call, Fault, S3Proxy, Seen};
use recording_tests::stored::{Gap, Stored};
use recording_tests::watch::while_watching;
use serde_json::Value;
use std::time::Duration;

const UNLISTED: &str = "listing-refused";
const LIMIT: Duration = Duration::from_secs(90);
/// So many segments are stored that the manifest does not name.
const UNNAMED: usize = 4;
const SEGMENT_SECONDS: f64 = 2.0;
/// Until the next recorder writes: its start, and the room's first key frame.
const START_SECONDS: f64 = 6.0;

/// The next attempt finds them by listing: one playlist names everything that is stored, and the hole is what nobody stored.
pub fn lists(name: &str, kind: Kind, s3: &S3) -> Result<()> {
    s3.create_bucket(name)?;
    let ((ended, left), looks) = while_watching(s3, name, || {
        let left = dies(s3, name, kind)?;
        Ok((goes_on(s3, name, kind, &s3.endpoint())?, left))
    })?;
    ensure!(looks > 10, "the reader looked {looks} times");
    let stored = Stored::download(s3, name, "acme")?;
    stored.manifest_is_true()?;
    let playlist = stored.only_playlist()?;
    let all = segments(s3, name)?;
    ensure!(playlist.segments.len() == all.len() && all.is_superset(&left), "{} of {all:?}", playlist.segments.len());
    let hole = only_hole(&stored)?;
    ensure!(hole <= SEGMENT_SECONDS + START_SECONDS, "a hole of {hole} s\n{}", ended.log);
    let video = content::video(&playlist)?;
    ensure!(video.undecodable == 0 && video.backwards == 0, "{} without a code", video.undecodable);
    println!("{name}: {} segments of the first, {} in all, a hole of {hole:.1} s", left.len(), all.len());
    verified(s3, name)
}

/// The storage does not let the next attempt list: it says so, and the hole begins where the manifest ends.
pub fn goes_on_unlisted(s3: &S3) -> Result<()> {
    s3.create_bucket(UNLISTED)?;
    let left = dies(s3, UNLISTED, Kind::Individual)?;
    let refusing = S3Proxy::to(s3)?;
    refusing.inflict(Fault::AccessDenied, |call: &Call| call.method == "GET" && call.key.trim_end_matches('/') == UNLISTED);
    let ended = goes_on(s3, UNLISTED, Kind::Individual, &refusing.endpoint())?;
    let refused = refusing.seen().into_iter().filter(|seen| seen.status == Some(403)).count();
    ensure!(refused > 0 && ended.log.contains("storage cannot be listed"), "{refused} refused\n{}", ended.log);
    let stored = Stored::download(s3, UNLISTED, "acme")?;
    let named = stored.only_playlist()?.segments.len();
    let all = segments(s3, UNLISTED)?.len();
    ensure!(named < all && named + left.len() > all, "{named} of {all} are named");
    let hole = only_hole(&stored)?;
    ensure!(hole >= SEGMENT_SECONDS * (UNNAMED - 1) as f64, "a hole of {hole} s");
    println!("{UNLISTED}: {named} of {all} segments, a hole of {hole:.1} s");
    verified(s3, UNLISTED)
}

/// Its documents are refused from some moment on; its segments are not. Then it is gone. Returns what it has stored.
fn dies(s3: &S3, name: &str, kind: Kind) -> Result<std::collections::BTreeSet<String>> {
    let way = S3Proxy::to(s3)?;
    let mut first = Attempt::start(&manifest_of(s3, &way.endpoint(), name, kind), 1)?;
    let stored = |seen: &Seen| seen.call.method == "PUT" && proxy::segments(&seen.call) && seen.status == Some(200);
    way.wait_for("a segment stored", 2, LIMIT, stored)?;
    way.inflict(Fault::SlowDown, |call: &Call| call.method == "PUT" && !proxy::segments(call));
    way.wait_for("a segment stored", UNNAMED + 1, LIMIT, stored)?;
    first.process.kill();
    let left = segments(s3, name)?;
    let manifest = manifest_object(s3, name)?;
    let named = manifest["tail"].as_array().context("a ledger")?.len();
    ensure!(named + UNNAMED <= left.len(), "the manifest names {named} of {}", left.len());
    Ok(left)
}

pub fn manifest_object(s3: &S3, name: &str) -> Result<Value> {
    let key = s3.list(name)?.into_iter().find(|key| key.ends_with(".json")).context("a manifest")?;
    Ok(serde_json::from_slice(&s3.get(name, &key)?)?)
}

/// Another attempt with a spool of its own, until it has stored some segments.
fn goes_on(s3: &S3, name: &str, kind: Kind, endpoint: &str) -> Result<AttemptEnded> {
    let before = segments(s3, name)?.len();
    let mut second = Attempt::start(&manifest_of(s3, endpoint, name, kind), 2)?;
    wait_until("the second one's claim", LIMIT, || (epoch(s3, name).ok()? == 2).then_some(()))?;
    let more = || segments(s3, name).ok().filter(|now| now.len() >= before + 2);
    wait_until("segments of the second", LIMIT, more)?;
    second.order(JobState::Stopped, Some(StopReason::StopRequested))?;
    let ended = second.wait(LIMIT)?;
    ensure!(ended.exit_code == exit::RESULT && ended.status.phase == Some(Phase::Completed), "{:?}\n{}", ended.status, ended.log);
    Ok(ended)
}

/// Seconds.
fn only_hole(stored: &Stored) -> Result<f64> {
    let gaps: &[Gap] = &stored.manifest.gaps;
    let [gap] = gaps else { anyhow::bail!("one gap, found {gaps:?}") };
    ensure!(gap.reason == "RecorderRestarted" && !gap.open, "{gap:?}");
    Ok(gap.duration90k as f64 / 90_000.0)
}

fn verified(s3: &S3, name: &str) -> Result<()> {
    let (code, verdict) = recording_tests::verify::in_bucket(s3, name, &[])?;
    ensure!(code == 0, "{verdict:#}");
    Ok(())
}
