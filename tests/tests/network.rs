//! A bad network between the recorder and a real SFU: pictures survive it, and what does not is stated.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::content::{self, Span};
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::detour::Detour;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::local::{Local, livekit_to_s3};
use recording_tests::publisher::Publisher;
use recording_tests::stored::Stored;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const LOSS: Duration = Duration::from_secs(10);
/// LiveKit resends a packet three times and no more: one in a million is lost at 3 %, one in ten thousand at 10 %.
const LOST_PER_MILLE: u32 = 30;
/// Of some 100 packets a second.
const LEAST_DROPPED: u64 = 20;
/// Shorter than the delay line grows, and than what LiveKit keeps for retransmission at this bit rate (500 packets).
const BLACK_HOLE: Duration = Duration::from_secs(7);
/// A hole in the sound this short is concealed (media.md section 2) and no gap.
const CONCEALED_SECONDS: f64 = 0.1;
/// An edge of a hole, told by windows of 20 ms, and AAC's overlap.
const EDGE_SECONDS: f64 = 0.06;

#[test]
fn loss_a_black_hole_and_a_lost_connection_cost_no_picture() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let detour = Detour::to(&livekit)?;
    let manifest = livekit_to_s3(&livekit, &s3, "storm", "media", 5, 6).replace(&livekit.url(), &detour.url());
    let mut recording = Local::start(&manifest, &[])?;
    let mut redundant = Publisher::start(&livekit, "storm", "redundant", 2, &["--seconds", "60"])?;
    let mut plain = Publisher::start(&livekit, "storm", "plain", 8, &["--seconds", "60", "--no-red"])?;
    // RED: the recorder hears of losses by sequence numbers alone. Without it audio is resent like pictures.
    for person in [&mut redundant, &mut plain] {
        person.started()?;
    }
    let weather = &detour.weather;
    flowing(&mut recording, &detour, 200)?;
    weather.lose(LOST_PER_MILLE);
    std::thread::sleep(LOSS);
    weather.lose(0);
    let dropped = weather.dropped();
    ensure!(dropped > LEAST_DROPPED, "the network lost only {dropped} packets");
    flowing(&mut recording, &detour, 400)?;
    weather.black_hole(true);
    std::thread::sleep(BLACK_HOLE);
    weather.black_hole(false);
    flowing(&mut recording, &detour, 800)?;
    ensure!(detour.connections() == 1, "signalling has held so far: {}", detour.connections());
    detour.cut_signalling();
    wait_until("the recorder's return", LIMIT, || (detour.connections() == 2).then_some(()))?;
    flowing(&mut recording, &detour, 600)?;
    for person in [&mut redundant, &mut plain] {
        person.order("quit")?;
        person.finish(LIMIT)?;
    }
    let ended = recording.wait(Duration::from_secs(60))?;
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;
    println!("{dropped} packets lost on the way, gaps: {:?}", stored.manifest.gaps);
    for (identity, id) in [("redundant", 2), ("plain", 8)] {
        judge(&stored, identity, id).with_context(|| format!("{identity}: {:?}", stored.manifest.gaps))?;
    }
    Ok(())
}

/// So many more packets come through.
fn flowing(recording: &mut Local, detour: &Detour, packets: u64) -> Result<()> {
    let enough = detour.weather.passed() + packets;
    recording.process.wait_until(&format!("{packets} packets"), LIMIT, || (detour.weather.passed() >= enough).then_some(()))
}

/// No picture is lost, and every hole in the sound is a gap of the manifest.
fn judge(stored: &Stored, identity: &str, id: u8) -> Result<()> {
    let playlist = stored.playlist(identity, "av")?;
    let video = content::video(&playlist)?;
    stored.every_picture_is_there(identity, "Camera", &video)?;
    let camera = stored.tracks(identity, "Camera");
    ensure!(camera.len() == 1 && camera[0].lost == 0, "{camera:?}");
    let counts = &video.participants[&id];
    // libwebrtc drops a few before its encoder; a lost packet would cost all frames up to the next key frame.
    ensure!(counts.missing.len() <= 10 && counts.missing.windows(3).all(|w| w[2] > w[0] + 2), "{:?}", counts.missing);
    let audio = content::audio(&playlist, &[id])?;
    let holes: Vec<&Span> = audio.voices[&id].holes.iter().filter(|h| h.end - h.start > CONCEALED_SECONDS).collect();
    let microphone = &stored.tracks(identity, "Microphone")[0];
    println!("{identity}: {} pictures, {} of {} audio packets lost, holes {holes:?}", counts.present, microphone.lost, microphone.packets);
    for hole in holes {
        ensure!(is_stated(stored, &playlist, hole)?, "nothing states the hole {hole:?}");
    }
    Ok(())
}

/// Some gap of the manifest covers this stretch of timestamps.
fn is_stated(stored: &Stored, playlist: &Playlist, hole: &Span) -> Result<bool> {
    let name = playlist.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let origin = stored.manifest.tail.iter().find(|e| e.playlist == name).context("a segment")?.start90k;
    // The first timestamp of a playlist is 10 s (media.md section 4).
    let seconds = |media: i64| (media - origin) as f64 / 90_000.0 + 10.0;
    let covers =
        |start: i64, length: i64| seconds(start) <= hole.start + EDGE_SECONDS && seconds(start + length) >= hole.end - EDGE_SECONDS;
    Ok(stored.gaps(playlist).iter().any(|gap| covers(gap.start90k, gap.duration90k)))
}
