//! What LiveKit's clients publish besides H.264 is recorded as H.264: every picture of it, and the manifest says so.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::{content, player};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::s3::S3;
use recording_tests::local::{Ended, Local, livekit_to_s3};
use recording_tests::publisher::Publisher;
use recording_tests::stored::{Stored, Track};
use std::time::Duration;

const FPS: u64 = 15;
/// Each codec is published this long; its first key frame may take two seconds of that.
const SECONDS_EACH: u64 = 10;
const LEAST_PICTURES: u64 = (SECONDS_EACH - 2) * FPS;
/// With three sizes of VP8 to encode, libwebrtc's RTP times of the pictures move by up to 140 ms in its first second (measured with four
/// busy loops beside it). `offsets.rs` judges the recorder; beyond this, tracks have been placed by clocks that are not one person's.
const LIBWEBRTC_OFFSET_MS: f64 = 200.0;

/// VP8 in three sizes, of which LiveKit sends a better one as soon as it can; then VP9; then AV1: one playlist.
#[test]
fn vp8_with_simulcast_then_vp9_then_av1_are_one_playlist_of_h264() -> Result<()> {
    let (livekit, s3) = servers()?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "codecs", "media", 5, 4), &[])?;
    let script = "10 unpublish v; 11 size v 640x360; 11.5 publish v VP9; 21.5 unpublish v; 23 publish v AV1";
    let flags = ["--seconds", "33", "--size", "1280x720", "--codec", "VP8", "--simulcast", "--bitrate", "1200000", "--script", script];
    let mut dana = Publisher::start(&livekit, "codecs", "dana", 4, &flags)?;
    let ended = recording.wait(Duration::from_secs(120))?;
    let sent = dana.finish(Duration::from_secs(30))?;
    completed(&ended, 1)?;
    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;
    let playlist = stored.playlist("dana", "av")?;
    let video = content::video(&playlist)?;
    let pictures = stored.every_picture_is_there("dana", "Camera", &video)?;
    let tracks = stored.tracks("dana", "Camera");
    ensure!(tracks.iter().map(|t| t.codec.as_str()).eq(["Vp8", "Vp9", "Av1"]), "{tracks:?}");
    for track in &tracks {
        transcoded(track)?;
        ensure!(track.lost == 0 && track.received_units >= LEAST_PICTURES, "{track:?}");
    }
    ensure!(stored.gaps(&playlist).is_empty(), "{:?}", stored.manifest.gaps);
    println!("{pictures} pictures of {:?} in sizes {:?}", sent.iter().map(|s| (&s.kind, s.frames_sent)).collect::<Vec<_>>(), video.sizes);
    ensure!(video.sizes.len() >= 2, "the publications differ in size, and each keeps its own: {:?}", video.sizes);
    let audio = content::audio(&playlist, &[4])?;
    stored.all_sound_is_there("dana", "Microphone", &audio, 4)?;
    let offsets = content::av_offset(&video, &audio, 4, FPS as u32);
    println!("A/V offset median {:.1} p99 {:.1} max {:.1} ms", offsets.median, offsets.p99, offsets.max);
    ensure!(offsets.each.len() >= 25 && offsets.p99 <= LIBWEBRTC_OFFSET_MS, "{offsets:?}");
    let report = player::play(&playlist)?;
    ensure!(report.is_good(), "{report:?}");
    Ok(())
}

/// A screen share is a playlist of its own, whatever its codec; the camera beside it passes untouched.
#[test]
fn a_screen_share_in_vp8_with_its_sound_beside_a_camera_in_h264() -> Result<()> {
    let (livekit, s3) = servers()?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "share", "media", 5, 4), &[])?;
    let flags = ["--seconds", "14", "--kinds", "vast", "--screen-codec", "VP8", "--screen-participant", "9"];
    let mut erin = Publisher::start(&livekit, "share", "erin", 6, &flags)?;
    let ended = recording.wait(Duration::from_secs(90))?;
    erin.finish(Duration::from_secs(30))?;
    completed(&ended, 2)?;
    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;
    for (kind, source, id) in [("av", "Camera", 6), ("screen", "ScreenShare", 9)] {
        let playlist = stored.playlist("erin", kind)?;
        let video = content::video(&playlist)?;
        let pictures = stored.every_picture_is_there("erin", source, &video)?;
        let audio = content::audio(&playlist, &[id])?;
        let heard = audio.voices[&id].tone.iter().filter(|share| **share > 0.5).count();
        ensure!(heard >= 11 && audio.gaps.is_empty(), "{kind}: {:?}", audio.voices[&id].tone);
        println!("{kind}: {pictures} pictures, {heard} s of sound");
        let report = player::play(&playlist)?;
        ensure!(report.is_good(), "{kind}: {report:?}");
    }
    let (camera, screen) = (stored.tracks("erin", "Camera"), stored.tracks("erin", "ScreenShare"));
    ensure!(camera[0].transcoded.is_none() && screen[0].codec == "Vp8", "{camera:?} {screen:?}");
    transcoded(screen[0])
}

fn servers() -> Result<(LiveKit, S3)> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    Ok((livekit, s3))
}

/// In good order, and nothing was wrong on the way.
fn completed(ended: &Ended, playlists: i64) -> Result<()> {
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.playlist_count == Some(playlists), "{status:?}");
    ensure!(!ended.said.contains("CodecNotSupported") && !ended.said.contains("Overloaded"), "{}", ended.said);
    Ok(())
}

fn transcoded(track: &Track) -> Result<()> {
    let stated = track.transcoded.as_ref().with_context(|| format!("{track:?} does not say that it was transcoded"))?;
    ensure!(stated.from == track.codec && stated.to == "H264" && stated.reason == "Codec", "{track:?}");
    ensure!(track.recorded, "{track:?}");
    Ok(())
}
