//! What real publishers sent is what is stored: every picture received, the sound, and players that play it to the end.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, player};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::s3::S3;
use recording_tests::local::{Ended, Local, livekit_to_s3};
use recording_tests::publisher::{Publisher, Sent};
use recording_tests::stored::Stored;
use recording_tests::watch;
use std::time::Duration;

/// Publishers that have sent everything are gone this soon.
const PUBLISHER_END: Duration = Duration::from_secs(30);
const FPS: u32 = 15;
/// What is shared has an id of its own in the block code (publisher.py).
const SCREEN: u8 = 17;
/// libwebrtc's sender reports are true to +-20 ms on either track, and LiveKit extrapolates them (testing.md).
const LIBWEBRTC_OFFSET_MS: f64 = 60.0;
/// Of its captured frames libwebrtc sends at least so many (measured: 493 to 497 of 500).
const LEAST_SENT: f64 = 0.97;

#[test]
fn three_publishers_for_a_minute_nothing_missing() -> Result<()> {
    let (livekit, s3) = servers()?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "standup", "media", 5, 6), &[])?;
    let people = vec![
        Publisher::start(&livekit, "standup", "alice", 1, &["--seconds", "60"])?,
        Publisher::start(&livekit, "standup", "bob", 5, &["--seconds", "60", "--codec", "VP8", "--simulcast"])?,
        Publisher::start(&livekit, "standup", "carol", 9, &["--seconds", "60", "--kinds", "st"])?,
    ];
    let (ended, looks) = watch::while_watching(&s3, "media", || recording.wait(Duration::from_secs(150)))?;
    ensure!(looks > 50, "the reader looked {looks} times only");
    completed(&ended, 3)?;
    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;
    let roles = [("av", "Camera", "v", 1, FPS), ("av", "Camera", "v", 5, FPS), ("screen", "ScreenShare", "s", SCREEN, 5)];
    let mut playlists = vec![];
    for (mut person, (kind, source, letter, id, fps)) in people.into_iter().zip(roles) {
        let sent = person.finish(PUBLISHER_END)?.into_iter().find(|s| s.kind == letter).context("sent")?;
        let playlist = stored.playlist(&person.identity, kind)?;
        let video = content::video(&playlist)?;
        stored.every_picture_is_there(&person.identity, source, &video)?;
        received_what_was_sent(&stored, &person.identity, source, &sent, &video.participants[&id])?;
        in_sync(&stored, &person.identity, &playlist, &video, id, fps)?;
        playlists.push(playlist);
    }
    plays_to_the_end(&playlists)
}

fn servers() -> Result<(LiveKit, S3)> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    Ok((livekit, s3))
}

fn completed(ended: &Ended, playlists: i64) -> Result<()> {
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.playlist_count == Some(playlists), "{status:?}");
    Ok(())
}

/// No sequence number is missing; so from the first picture received on, all that was sent has been received. (That all that was received is
/// in the file is asserted elsewhere.)
fn received_what_was_sent(stored: &Stored, identity: &str, source: &str, sent: &Sent, counts: &content::Counts) -> Result<()> {
    let (track, is_screen) = (stored.tracks(identity, source)[0], source == "ScreenShare");
    let received = track.received_units;
    ensure!(track.lost == 0, "{identity}: {track:?}");
    let &[(first, last)] = &sent.captured[..] else { anyhow::bail!("{identity} captured in one go: {:?}", sent.captured) };
    let (captured, before) = (u64::from(last - first) + 1, u64::from(counts.first - first));
    // Of a screen it repeats a picture when none comes in time.
    let (dropped, repeated) = (captured.saturating_sub(sent.frames_sent), sent.frames_sent.saturating_sub(captured));
    println!("{identity}: {captured} captured, {} sent, {before} before the first received, {received}", sent.frames_sent);
    ensure!(sent.frames_sent as f64 >= captured as f64 * LEAST_SENT, "{identity}: {} of {captured} frames sent", sent.frames_sent);
    ensure!(before < 2 * u64::from(FPS), "{identity}: {before} frames went by before the first was received");
    // Of the frames its encoder dropped or repeated, some may be among those before the first one received.
    let rest = sent.frames_sent - before;
    // And of a screen the first may have been sent once more for us, and another one dropped for that.
    let least = rest - repeated - u64::from(is_screen);
    ensure!((least..=rest + dropped.min(before)).contains(&received), "{identity}: {received} received, {counts:?}, {sent:?}, {track:?}");
    Ok(())
}

fn in_sync(stored: &Stored, identity: &str, playlist: &Playlist, video: &content::VideoReport, id: u8, fps: u32) -> Result<()> {
    let audio = content::audio(playlist, &[id])?;
    let source = if id == SCREEN { "ScreenShareAudio" } else { "Microphone" };
    stored.all_sound_is_there(identity, source, &audio, id)?;
    let offsets = content::av_offset(video, &audio, id, fps);
    println!("{identity}: A/V offset median {:.1} p99 {:.1} max {:.1} ms", offsets.median, offsets.p99, offsets.max);
    ensure!(offsets.each.len() >= 50 && offsets.p99 <= LIBWEBRTC_OFFSET_MS, "{identity}: {offsets:?}");
    Ok(())
}

fn plays_to_the_end(playlists: &[Playlist]) -> Result<()> {
    for (playlist, report) in playlists.iter().zip(player::play_all(playlists)?) {
        let name = playlist.path.display();
        ensure!(report.is_good(), "{name}: {report:?}");
        ensure!(
            (report.played_to - playlist.duration()).abs() < 1.0,
            "{name}: {} s are played to {}",
            playlist.duration(),
            report.played_to
        );
        println!("{name}: longest stall {} ms, {:?}", report.longest_stall_ms, report.errors);
    }
    Ok(())
}
