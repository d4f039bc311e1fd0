//! Lip sync of a real publisher: against RTP and its sender reports as a second subscriber saw them, and against the stimulus itself.

use anyhow::{Context, Result, ensure};
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, witness};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Process, Spec};
use recording_tests::harness::s3::S3;
use recording_tests::harness::tool;
use recording_tests::local::{Local, download, livekit_to_s3, publisher};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const FPS: u32 = 15;
const SIZE: (usize, usize) = (640, 360);
const ID: u8 = 1;
/// What a recorder may add to what the reports say: the delay line's slews and the onset that the analyser finds in coded sound.
const BEYOND_REPORTS_MS: f64 = 10.0;
/// libwebrtc's reports tie sound to the moment of sending instead of capture, and pictures to capture.
const ABSOLUTE_MS: f64 = 60.0;
/// Within one run what libwebrtc adds hardly moves: later reports slew, 5 ms a second.
const RANGE_MS: f64 = 30.0;

#[test]
fn a_recording_is_in_sync_with_rtp_and_reports() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let seen = tempfile::tempdir()?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "sync", "media", 5, 6), &[])?;
    let mut witness = witness(&livekit, "sync", seen.path())?;
    let mut alice = publisher(&livekit, "sync", "alice", ID, &["--seconds", "60", "--fps", "15", "--no-red"])?;
    ensure!(alice.wait(Duration::from_secs(90))?.success(), "{}", alice.log());
    ensure!(witness.stop(Duration::from_secs(10)).is_some_and(|exit| exit.success()), "{}", witness.log());
    let ended = recording.wait(Duration::from_secs(60))?;
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());

    let truth = witness::read(seen.path(), SIZE, FPS, ID)?;
    let folder = tempfile::tempdir()?;
    let names = download(&s3, "media", "acme", folder.path())?;
    let name = names.iter().find(|name| name.ends_with(".m3u8")).context("a playlist")?;
    let playlist = Playlist::read(folder.path().join(name))?;
    let offsets = content::av_offset(&content::video(&playlist)?, &content::audio(&playlist, &[ID])?, ID, FPS);
    judge(&truth, &offsets)
}

/// Hidden, so that the recorder does not wait for it to leave.
fn witness(livekit: &LiveKit, room: &str, folder: &Path) -> Result<Process> {
    let token = livekit.token(room, "witness", json!({"hidden": true, "canPublish": false}));
    let spec = Spec::new("witness", tool("witness")?)?;
    spec.args(["--url", &livekit.url(), "--token", &token]).arg("--out").arg(folder).spawn()
}

fn judge(truth: &witness::Truth, offsets: &content::Offsets) -> Result<()> {
    let own = truth.video.spread_ms.max(truth.audio.spread_ms);
    let both = offsets.each.iter().filter_map(|(k, stored)| Some((*k, *stored, stored - truth.each.get(k)?)));
    let both: Vec<(u32, f64, f64)> = both.collect();
    ensure!(both.len() >= 45, "{} seconds in both: {:?} {:?}", both.len(), truth.each, offsets.each);
    let worst = both.iter().map(|b| b.2.abs()).fold(0.0, f64::max);
    let mut stored: Vec<f64> = both.iter().map(|b| b.1).collect();
    stored.sort_by(f64::total_cmp);
    let rank = |q: f64| stored[((q * stored.len() as f64).ceil() as usize).clamp(1, stored.len()) - 1];
    let absolute = stored.iter().map(|o| o.abs()).fold(0.0, f64::max);
    println!(
        "{} reports of the picture within {:.1} ms, {} of the sound within {:.1} ms; stored minus RTP and reports: worst {worst:.1} ms, \
         median {:.1} ms; stored: median {:.1}, p1 {:.1}, p99 {:.1}, largest {absolute:.1} ms",
        truth.video.reports,
        truth.video.spread_ms,
        truth.audio.reports,
        truth.audio.spread_ms,
        median(both.iter().map(|b| b.2).collect()),
        rank(0.5),
        rank(0.01),
        rank(0.99),
    );
    ensure!(worst <= BEYOND_REPORTS_MS + own, "off RTP and reports by {worst:.1} ms, whose own error is {own:.1}: {both:.1?}");
    ensure!(absolute <= ABSOLUTE_MS, "{absolute:.1} ms: {both:.1?}");
    ensure!(rank(0.99) - rank(0.01) <= RANGE_MS, "it moves within the run: {both:.1?}");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
