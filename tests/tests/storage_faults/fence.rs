//! Two recorders of one recording, as after a node that was lost and is not: the older one comes too late.

use crate::death::growing;
use crate::recording::Kind;
use crate::successor::manifest_object;
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::exit;
use recording_crds::job::{JobState, StopReason};
use recording_crds::status::Phase;
use recording_tests::attempt::Attempt;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::harness::s3_proxy::{self as proxy, Call, Point, S3Proxy, Seen};
use recording_tests::local::pattern_to_s3;
use recording_tests::stored::Stored;
use recording_tests::watch::while_watching;
use std::collections::BTreeSet;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

/// The older one's playlist is on its way when the newer one takes over and goes on, and its segments are stored; when the playlist arrives
/// at last it is refused, the older one ends, and nothing of what it wrote since is in the recording.
pub fn older_attempt(name: &str, kind: Kind, s3: &S3) -> Result<()> {
    s3.create_bucket(name)?;
    let late = S3Proxy::to(s3)?;
    let older = Attempt::start(&manifest_of(s3, &late.endpoint(), name, kind), 1)?;
    let (left_behind, looks) = while_watching(s3, name, || {
        late.wait_for("a playlist stored", 2, LIMIT, |seen| seen.call.method == "PUT" && is_playlist_taken(seen))?;
        let held = late.hold(Point::Request, |call| call.method == "PUT" && proxy::playlists(call));
        held.wait(LIMIT)?;
        let mut newer = Attempt::start(&manifest_of(s3, &s3.endpoint(), name, kind), 2)?;
        wait_until("the newer one's claim", LIMIT, || (epoch(s3, name).ok()? == 2).then_some(()))?;
        let (taken, known) = (late.seen().len(), segments(s3, name)?);
        late.wait_for("a segment of the older one stored", 2, LIMIT, |seen| proxy::segments(&seen.call) && seen.status == Some(200))?;
        goes_on(s3, name)?;
        held.release();
        let fenced = older.wait(LIMIT)?;
        let outcome = fenced.report.outcome.as_ref().context("an outcome")?;
        ensure!(fenced.exit_code == exit::RESULT && outcome.code == Code::Superseded, "{outcome:?}\n{}", fenced.log);
        ensure!(fenced.status.phase.is_none_or(|phase| !phase.is_final()), "it has no say in the end: {:?}", fenced.status);
        let left_behind = of_the_late(&late.seen()[taken..], &known)?;
        newer.order(JobState::Stopped, Some(StopReason::StopRequested))?;
        let ended = newer.wait(LIMIT)?;
        ensure!(ended.exit_code == exit::RESULT && ended.status.phase == Some(Phase::Completed), "{:?}\n{}", ended.status, ended.log);
        Ok(left_behind)
    })?;
    ensure!(looks > 10, "the reader looked {looks} times");
    is_without(s3, name, &left_behind)
}

/// Of segments of 2 s, with a UID: attempts of the same recording can follow.
pub fn manifest_of(s3: &S3, endpoint: &str, name: &str, kind: Kind) -> String {
    let with_uid = format!("metadata: {{name: {name}, uid: 5b0c0f11-0000-4000-8000-000000000002}}\nspec");
    let manifest = pattern_to_s3(s3, endpoint, name, 600, 2).replace(&format!("metadata: {{name: {name}}}\nspec"), &with_uid);
    kind.of(&manifest)
}

fn is_playlist_taken(seen: &Seen) -> bool {
    proxy::playlists(&seen.call) && seen.status == Some(200)
}

pub fn epoch(s3: &S3, bucket: &str) -> Result<u64> {
    manifest_object(s3, bucket)?["epoch"].as_u64().context("an epoch")
}

pub fn segments(s3: &S3, bucket: &str) -> Result<BTreeSet<String>> {
    Ok(s3.list(bucket)?.into_iter().filter(|key| key.ends_with(".ts")).collect())
}

/// Segments that the older one has stored since; of its documents storage has taken none.
fn of_the_late(since: &[Seen], known: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let is_document = |call: &Call| call.method == "PUT" && !proxy::segments(call);
    let taken: Vec<&Seen> = since.iter().filter(|seen| is_document(&seen.call) && seen.status == Some(200)).collect();
    ensure!(taken.is_empty(), "documents of the older one: {taken:?}");
    ensure!(since.iter().any(|seen| is_document(&seen.call) && seen.status == Some(412)), "nothing was refused: {since:?}");
    let stored = since.iter().filter(|seen| proxy::segments(&seen.call) && seen.call.method == "PUT" && seen.status == Some(200));
    let keys = stored.filter_map(|seen| seen.call.key.split_once('/').map(|(_bucket, key)| key.to_owned()));
    let left_behind: BTreeSet<String> = keys.filter(|key| !known.contains(key)).collect();
    ensure!(!left_behind.is_empty(), "the older one stored nothing: {since:?}");
    Ok(left_behind)
}

/// The newer one's playlist grows.
fn goes_on(s3: &S3, name: &str) -> Result<()> {
    let named = || Ok::<_, anyhow::Error>(growing(s3, name)?.segments.len());
    let before = named()?;
    wait_until("the newer one's segments", LIMIT, || named().ok().filter(|now| *now >= before + 2)).map(drop)
}

fn is_without(s3: &S3, bucket: &str, left_behind: &BTreeSet<String>) -> Result<()> {
    let stored = Stored::download(s3, bucket, "acme")?;
    let name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    let late: BTreeSet<String> = left_behind.iter().map(|key| name(key)).collect();
    let listed = stored.manifest.tail.iter().map(|entry| entry.name.clone());
    let named = stored.only_playlist()?.segments.into_iter().map(|segment| name(&segment.uri));
    let visible: Vec<String> = listed.chain(named).filter(|name| late.contains(name)).collect();
    ensure!(visible.is_empty(), "of the older one: {visible:?}");
    let (code, verdict) = recording_tests::verify::in_bucket(s3, bucket, &[])?;
    ensure!(code == 0, "{verdict:#}");
    println!("{bucket}: {} segments of the older one are named nowhere", left_behind.len());
    Ok(())
}
