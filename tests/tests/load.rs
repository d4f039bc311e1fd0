//! The load publisher: what it says it sent is what a recorder stores.

use anyhow::{Context, Result, ensure};
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::load::{Stimulus, Target, publish, sent};
use recording_tests::local::{Local, livekit_to_folder};
use std::time::Duration;

const PARTICIPANTS: u32 = 3;
const SECONDS: f64 = 8.0;
/// It never wraps: frame numbers count what was sent.
const STIMULUS: Stimulus = Stimulus { participant: 7, width: 640, height: 360, frames_per_second: 15, seconds: 20, kbps: None };
/// An IDR every 2 s; the recording begins with one.
const KEY_FRAME_EVERY: u32 = 30;
/// Its reports are exact, LiveKit extrapolates them from when packets reached it: a busy machine is late by this.
const OFFSET_MS: f64 = 20.0;

#[test]
fn every_frame_that_the_load_publisher_counts_is_stored_once_and_in_order() -> Result<()> {
    let media = STIMULUS.media()?;
    let livekit = LiveKit::start()?;
    let folder = tempfile::tempdir()?;
    let recording = Local::start(&livekit_to_folder(&livekit, "load", 5), &["--output", &folder.path().display().to_string()])?;
    let target = Target::LiveKit { server: &livekit, room: "load" };
    let mut publisher = publish(&target, &media, PARTICIPANTS, SECONDS, &[])?;
    ensure!(publisher.wait(Duration::from_secs(60))?.success(), "{}", publisher.log());
    let ended = recording.wait(Duration::from_secs(60))?;
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let sent = sent(&publisher.log())?;
    ensure!(sent.len() == PARTICIPANTS as usize, "{sent:?}");
    for (identity, sent) in &sent {
        let video_sent = sent.video.context("video")?;
        let sound_sent = sent.audio.context("audio")?;
        // They begin spread over a frame, and end at the same moment.
        let least = SECONDS - 1.0 / f64::from(STIMULUS.frames_per_second);
        ensure!(video_sent.units as f64 >= least * 15.0 - 1.0 && sound_sent.units as f64 >= least * 50.0 - 1.0, "{sent:?}");
        ensure!(u64::from(KEY_FRAME_EVERY) * (video_sent.key_frames - 1) < video_sent.units, "an IDR every 2 s: {video_sent:?}");
        let name = format!("uid_s_{identity}__uid_e_av.m3u8");
        let mut stored = std::fs::read_dir(folder.path())?.flatten().map(|entry| entry.path());
        let path = stored.find(|path| path.display().to_string().ends_with(&name));
        let playlist = Playlist::read(&path.with_context(|| name.clone())?)?;
        let video = content::video(&playlist)?;
        let counts = video.participants.get(&STIMULUS.participant).context("the participant's code in the picture")?;
        ensure!(video.undecodable == 0 && counts.missing.is_empty() && counts.duplicated == 0 && counts.out_of_order == 0, "{counts:?}");
        ensure!(counts.first % KEY_FRAME_EVERY == 0 && u64::from(counts.last) + 1 == video_sent.units, "{counts:?}, sent {video_sent:?}");
        let audio = content::audio(&playlist, &[STIMULUS.participant])?;
        let offsets = content::av_offset(&video, &audio, STIMULUS.participant, 15);
        println!("{identity}: frames {} to {}, A/V offset p99 {:.1} ms", counts.first, counts.last, offsets.p99);
        ensure!(offsets.p99.abs() <= OFFSET_MS, "{identity}: {offsets:?}");
    }
    Ok(())
}
