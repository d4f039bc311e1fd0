//! A playlist of more than a day goes on in its next volume, and both play. A real recording is made a day old between two attempts: its
//! timestamps are late from then on, and the day is over in the middle of the second.

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use recording_crds::codes::Code;
use recording_crds::exit;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, ffplay, player};
use recording_tests::attempt::{Attempt, AttemptEnded};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::local::livekit_to_s3;
use recording_tests::publisher::Publisher;
use recording_tests::stored::Stored;
use serde_json::Value;
use std::time::Duration;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const DAY_90K: i64 = DAY.as_secs() * 90_000;
/// What is left of the day when the second attempt starts: it joins and writes some segments, on a busy machine too.
const LEFT: SignedDuration = SignedDuration::from_secs(30);
/// The publisher leaves when he is told to.
const SECONDS: &str = "600";
/// Of the second volume.
const SEGMENTS: usize = 2;
const LIMIT: Duration = Duration::from_secs(90);
/// Timestamps begin here (media.md section 4).
const FIRST_PTS_90K: i64 = 900_000;
const FPS: u64 = 15;

#[test]
fn after_a_day_the_next_volume_goes_on_and_both_play() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let manifest = livekit_to_s3(&livekit, &s3, "day", "media", 5, 4);
    let manifest = manifest.replace("metadata: {name: day}", "metadata: {name: day, uid: 00000000-0000-4000-8000-000000000001}");
    let manifest = manifest.replace("\nspec:\n", "\nspec:\n  maxDurationSeconds: 172800\n");
    let first = Attempt::start(&manifest, 1)?;
    let mut alice = Publisher::start(&livekit, "day", "alice", 1, &["--seconds", SECONDS, "--size", "320x180"])?;
    let stored = || s3.list("media").ok().filter(|keys| keys.iter().any(|key| key.ends_with(".ts"))).map(drop);
    wait_until("a stored segment", LIMIT, stored)?;
    first.process.signal(libc::SIGTERM)?;
    let interrupted = first.wait(LIMIT)?;
    ensure!(interrupted.exit_code == exit::INTERRUPTED, "{}", interrupted.said);
    make_a_day_old(&s3)?;
    let second = Attempt::start(&manifest, 2)?;
    wait_until("segments of the second volume", LIMIT, || (segments(&s3, "_av_2.m3u8")? >= SEGMENTS).then_some(()))?;
    alice.order("quit")?;
    alice.finish(LIMIT)?;
    ended_in_order(&second.wait(LIMIT)?)?;

    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;
    let volumes = [stored.playlist("alice", "av")?, stored.playlist("alice", "av_2")?];
    pictures(&stored, &volumes)?;
    for (playlist, played) in volumes.iter().zip(ffplay::play_all(&volumes)?) {
        played.check(playlist)?;
    }
    for (playlist, report) in volumes.iter().zip(player::play_all(&volumes)?) {
        println!("{:.2} s, {report:?}", playlist.duration());
        ensure!(report.is_good(), "{}: {report:?}", playlist.path.display());
    }
    Ok(())
}

/// That its stored playlist names.
fn segments(s3: &S3, playlist: &str) -> Option<usize> {
    let key = s3.list("media").ok()?.into_iter().find(|key| key.ends_with(playlist))?;
    let text = String::from_utf8(s3.get("media", &key).ok()?).ok()?;
    Some(text.matches("#EXTINF").count())
}

/// The epoch of the recording moves back, so that [`LEFT`] is left of its day.
fn make_a_day_old(s3: &S3) -> Result<()> {
    let key = s3.list("media")?.into_iter().find(|key| key.ends_with(".json")).context("a manifest")?;
    let mut manifest: Value = serde_json::from_slice(&s3.get("media", &key)?)?;
    ensure!(manifest["epochTime"].is_string(), "no epoch: {manifest}");
    manifest["epochTime"] = (Timestamp::now() - (DAY - LEFT)).to_string().into();
    s3.put("media", &key, &serde_json::to_vec(&manifest)?)
}

fn ended_in_order(ended: &AttemptEnded) -> Result<()> {
    let outcome = ended.report.outcome.as_ref().with_context(|| ended.said.clone())?;
    ensure!(outcome.code == Code::NoUsers && ended.exit_code == exit::RESULT, "{}\n{}", ended.said, ended.log);
    Ok(())
}

/// Late at the end of the first volume, from the start again in the second; nothing is missing at the seam.
fn pictures(stored: &Stored, [one, two]: &[Playlist; 2]) -> Result<()> {
    let returns = one.segments.iter().filter(|s| s.discontinuity).count();
    ensure!(returns == 1 && one.segments.len() >= 3 && two.segments.len() >= 2, "{one:?} {two:?}");
    let (first, second) = (content::video(one)?, content::video(two)?);
    let late: Vec<i64> = first.frames.iter().map(|f| f.pts_90k).filter(|pts| *pts > DAY_90K / 2).collect();
    let (from, to) = late.first().zip(late.last()).context("late timestamps")?;
    ensure!(*from > DAY_90K - LEFT.as_secs() * 90_000, "the second attempt begins at {from}");
    // A volume ends with the segment in which the day is over: its last picture may be the one just before.
    ensure!((-2 * 90_000 / FPS as i64..6 * 90_000).contains(&(to - FIRST_PTS_90K - DAY_90K)), "the first volume ends at {to}");
    ensure!((second.frames[0].pts_90k - FIRST_PTS_90K).abs() < 90_000, "the second begins at {}", second.frames[0].pts_90k);
    let received: u64 = stored.tracks("alice", "Camera").iter().map(|track| track.received_units).sum();
    let codes: Vec<u32> = [&first, &second].iter().flat_map(|v| v.frames.iter().filter_map(|f| f.code)).map(|code| code.frame).collect();
    ensure!(codes.windows(2).all(|w| w[1] > w[0]), "out of order: {codes:?}");
    ensure!(codes.len() as u64 == received && received > 20 * FPS, "received {received}, in the files {}", codes.len());
    let seam = first.frames.last().and_then(|f| f.code).zip(second.frames[0].code);
    let (last, next) = seam.context("pictures at the seam")?;
    ensure!(next.frame - last.frame <= 2, "{last:?}, then {next:?}");
    Ok(())
}
