//! Storage is away for longer than the spool holds.

use anyhow::{Result, ensure};
use recording_crds::codes::Code;
use recording_crds::job::{JobState, StopReason};
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::attempt::Attempt;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::harness::s3_proxy::S3Proxy;
use recording_tests::local::pattern_to_s3;
use recording_tests::stored::Stored;
use recording_tests::watch::while_watching;
use std::time::Duration;

const NAME: &str = "spool-full";
/// Some 20 s of this small picture until four fifths of it are full.
const SPOOL_BYTES: u64 = 800_000;
/// What was in the delay line is written, and the open segments are closed.
const SETTLED: Duration = Duration::from_secs(16);
const STAYS_FULL: Duration = Duration::from_secs(8);
/// Pictures that come between the room in the spool and the key frame that is asked for then, without which they cannot be decoded: 2 s.
const AWAITING_KEY: u64 = 20;
const LIMIT: Duration = Duration::from_secs(90);

/// Nothing more is accepted until uploads have made room; then it goes on. What is missing is one gap, and the spool never outgrows its size.
pub fn fills(s3: &S3) -> Result<()> {
    s3.create_bucket(NAME)?;
    let proxy = S3Proxy::to(s3)?;
    let manifest = pattern_to_s3(s3, &proxy.endpoint(), NAME, 600, 2)
        .replace("metadata: {name: spool-full}\nspec", "metadata: {name: spool-full, uid: 5b0c0f11-0000-4000-8000-000000000001}\nspec");
    let mut attempt = Attempt::start_with_spool(&manifest, 1, SPOOL_BYTES)?;
    let (peak, _looks) = while_watching(s3, NAME, || {
        wait_for_segments(s3, 2)?;
        proxy.go_away();
        let peak = fills_up(&attempt)?;
        let stored = segments(s3)?;
        proxy.come_back();
        let well = || attempt.report().ok().filter(|report| report.degraded.is_empty() && report.backlog_seconds == 0);
        wait_until("room in the spool", LIMIT, well)?;
        wait_for_segments(s3, stored + 20)?;
        Ok(peak)
    })?;
    ensure!(peak <= SPOOL_BYTES as f64, "{peak} bytes in a spool of {SPOOL_BYTES}");
    attempt.order(JobState::Stopped, Some(StopReason::StopRequested))?;
    let ended = attempt.wait(LIMIT)?;
    ensure!(ended.exit_code == 0 && ended.status.phase == Some(Phase::Completed), "{:?}\n{}", ended.status, ended.log);
    is_whole_but_for_one_gap(s3, peak)
}

/// The most that was in the spool.
fn fills_up(attempt: &Attempt) -> Result<f64> {
    let used = || attempt.metric("recorder_spool_bytes");
    let is_full = || attempt.report().ok().filter(|report| report.degraded.iter().any(|degraded| degraded.code == Code::DiskFull));
    wait_until("a full spool", LIMIT, is_full)?;
    std::thread::sleep(SETTLED);
    let (before, held) = (attempt.report()?, used()?);
    std::thread::sleep(STAYS_FULL);
    let (after, still) = (attempt.report()?, used()?);
    ensure!(before.counters.recorded_seconds == after.counters.recorded_seconds, "nothing is accepted: {before:?}, {after:?}");
    ensure!(held == still, "{held} bytes became {still}");
    ensure!(after.degraded.iter().any(|degraded| degraded.code == Code::DiskFull), "{after:?}");
    ensure!(after.backlog_seconds > 0, "{after:?}");
    Ok(still)
}

fn is_whole_but_for_one_gap(s3: &S3, peak: f64) -> Result<()> {
    let stored = Stored::download(s3, NAME, "acme")?;
    stored.manifest_is_true()?;
    ensure!(stored.manifest.tail.iter().all(|entry| entry.at.as_deref() == Some("Primary")), "all that was accepted is stored");
    let [gap] = &stored.manifest.gaps[..] else { anyhow::bail!("{:?}", stored.manifest.gaps) };
    ensure!(gap.reason == "DiskFull" && !gap.open && gap.playlist.is_none(), "{gap:?}");
    let full = (SETTLED + STAYS_FULL).as_secs_f64();
    ensure!(gap.duration90k as f64 / 90_000.0 >= full, "{gap:?}");
    let playlist = stored.playlist("participant-1", "av")?;
    let breaks: Vec<_> = playlist.segments.iter().filter(|segment| segment.discontinuity).collect();
    ensure!(breaks.len() == 1, "{breaks:?}");
    let pictures = stored.every_written_picture_is_there("participant-1", "Camera", &content::video(&playlist)?)?;
    let left_out: u64 = stored.tracks("participant-1", "Camera").iter().map(|track| track.received_units - track.written_units).sum();
    ensure!(left_out <= AWAITING_KEY, "{left_out} pictures were left out");
    println!("{NAME}: {peak} of {SPOOL_BYTES} bytes, a gap of {} s, {pictures} pictures", gap.duration90k / 90_000);
    let (code, verdict) = recording_tests::verify::in_bucket(s3, NAME, &[])?;
    ensure!(code == 0, "{verdict:#}");
    Ok(())
}

fn wait_for_segments(s3: &S3, count: usize) -> Result<()> {
    let enough = || segments(s3).ok().filter(|stored| *stored >= count);
    wait_until(&format!("{count} segments in storage"), LIMIT, enough).map(drop)
}

fn segments(s3: &S3) -> Result<usize> {
    Ok(s3.list(NAME)?.iter().filter(|key| key.ends_with(".ts")).count())
}
