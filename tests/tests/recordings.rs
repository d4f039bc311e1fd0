//! What is stored, measured: every frame, its order, lip sync, the transport stream, a real player.

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, player, probe, ts};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::s3::S3;
use recording_tests::harness::workspace;
use recording_tests::local::{Local, download, livekit_to_s3, publisher};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The test pattern's reports come from the clock that makes its media (media.md: test pattern p99).
const EXACT_OFFSET_MS: f64 = 20.0;
/// libwebrtc's sender reports are true to +-20 ms on either track, and LiveKit extrapolates them (testing.md).
const LIBWEBRTC_OFFSET_MS: f64 = 60.0;

#[test]
fn the_built_in_room_is_recorded_whole_and_in_sync() -> Result<()> {
    let media = tempfile::tempdir()?;
    let manifest = std::fs::read_to_string(workspace().join("examples/test-pattern.yaml"))?;
    let ended = Local::start(&manifest, &["--output", &media.path().display().to_string()])?.wait(Duration::from_secs(90))?;
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.playlist_count == Some(2), "{status:?}");
    ensure!(status.result.as_ref().is_some_and(|r| r.reason == Code::NoUsers), "{status:?}");
    ensure!(ended.said.contains("ffplay"), "it says how to play the result: {}", ended.said);

    let playlists = playlists(media.path())?;
    ensure!(playlists.len() == 2, "{playlists:?}");
    for path in &playlists {
        let playlist = sound(path)?;
        let video = content::video(&playlist)?;
        let (&id, counts) = video.participants.iter().next().context("a participant in the picture")?;
        ensure!(video.participants.len() == 1 && video.undecodable == 0, "{:?}", video.participants);
        ensure!(counts.missing.is_empty() && counts.duplicated == 0 && counts.out_of_order == 0, "{counts:?}");
        ensure!(counts.present >= 19 * 30, "20 s at 30 pictures a second: {counts:?}");
        let audio = content::audio(&playlist, &[id])?;
        ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
        let offsets = content::av_offset(&video, &audio, id, 30);
        ensure!(offsets.each.len() >= 15, "{offsets:?}");
        ensure!(offsets.p99.abs() <= EXACT_OFFSET_MS && offsets.max.abs() <= EXACT_OFFSET_MS, "{offsets:?}");
        println!("{}: {} frames, A/V offset median {:.1} p99 {:.1} ms", id, counts.present, offsets.median, offsets.p99);
    }
    let report = player::play(&Playlist::read(&playlists[0])?)?;
    ensure!(report.is_good(), "{report:?}");
    manifest_is_true(media.path())
}

#[test]
fn two_livekit_publishers_into_s3_nothing_missing() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "standup", "media", 5, 6), &[])?;
    let mut alice = publisher(&livekit, "standup", "alice", 1, &["--seconds", "30", "--fps", "15"])?;
    let mut bob = publisher(&livekit, "standup", "bob", 5, &["--seconds", "30", "--fps", "15", "--video-after", "8"])?;
    let over = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_bucket(&s3, "media", &over));
        let ended = recording.wait(Duration::from_secs(120));
        over.store(true, Ordering::Relaxed);
        let looks = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        ensure!(looks > 20, "the watcher looked {looks} times only");
        ended
    })?;
    for person in [&mut alice, &mut bob] {
        ensure!(person.wait(Duration::from_secs(20))?.success(), "{}", person.log());
    }
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.playlist_count == Some(2), "{status:?}");

    let folder = tempfile::tempdir()?;
    download(&s3, "media", "acme", folder.path())?;
    manifest_is_true(folder.path())?;
    for (identity, id) in [("alice", 1), ("bob", 5)] {
        let path = playlists(folder.path())?.into_iter().find(|p| p.display().to_string().contains(identity)).context(identity)?;
        let playlist = sound(&path)?;
        every_received_frame_is_there(folder.path(), identity, &playlist)?;
        let video = content::video(&playlist)?;
        let counts = &video.participants[&id];
        ensure!(counts.duplicated == 0 && counts.out_of_order == 0, "{identity}: {counts:?}");
        let audio = content::audio(&playlist, &[id])?;
        let offsets = content::av_offset(&video, &audio, id, 15);
        println!(
            "{identity}: {} of {} frames, A/V offset median {:.1} p99 {:.1} max {:.1} ms",
            counts.present, counts.expected, offsets.median, offsets.p99, offsets.max
        );
        ensure!(offsets.p99.abs() <= LIBWEBRTC_OFFSET_MS, "{identity}: {offsets:?}");
        if identity == "bob" {
            speech_before_the_camera(&video, &audio, id)?;
        }
        let report = player::play(&playlist)?;
        ensure!(report.is_good(), "{identity}: {report:?}");
    }
    Ok(())
}

#[test]
fn a_vp8_publisher_is_degraded_and_heard() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "vp8", "media", 5, 4), &["--follow"])?;
    let mut carol = publisher(&livekit, "vp8", "carol", 3, &["--seconds", "10", "--codec", "VP8"])?;
    let ended = recording.wait(Duration::from_secs(60))?;
    ensure!(carol.wait(Duration::from_secs(20))?.success(), "{}", carol.log());
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let degraded = ended.said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|status| {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Degraded" && c["status"] == "True" && c["reason"] == "CodecNotSupported")
    });
    ensure!(degraded, "Degraded/CodecNotSupported was never stated: {}", ended.said);
    let folder = tempfile::tempdir()?;
    download(&s3, "media", "acme", folder.path())?;
    let path = playlists(folder.path())?.pop().context("a playlist")?;
    let audio = content::audio(&Playlist::read(&path)?, &[3])?;
    let heard = audio.voices[&3].tone.iter().filter(|share| **share > 0.5).count();
    ensure!(heard >= 8, "10 s of tone: {:?}", audio.voices[&3].tone);
    Ok(())
}

#[test]
fn vp8_alone_fails_with_codec_not_supported() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let recording = Local::start(&livekit_to_s3(&livekit, &s3, "mute", "media", 5, 4), &[])?;
    let mut dave = publisher(&livekit, "mute", "dave", 4, &["--seconds", "6", "--codec", "VP8", "--kinds", "v"])?;
    let ended = recording.wait(Duration::from_secs(60))?;
    ensure!(dave.wait(Duration::from_secs(20))?.success(), "{}", dave.log());
    ensure!(ended.exit_code == 1, "{}\n{}", ended.said, ended.recorder_log());
    let failure = ended.status()?.failure.clone().context("a failure")?;
    ensure!(failure.code == Code::CodecNotSupported, "{failure:?}");
    Ok(())
}

/// A playlist that a strict reader, our own walker and ffprobe all accept.
fn sound(path: &Path) -> Result<Playlist> {
    let playlist = Playlist::read(path)?;
    ensure!(playlist.endlist && playlist.kind.as_deref() == Some("EVENT"), "{}", path.display());
    let longest = playlist.segments.iter().map(|s| s.duration).fold(0.0, f64::max);
    ensure!(longest <= f64::from(playlist.target_duration), "a segment of {longest} s");
    let report = ts::inspect_playlist(&playlist)?;
    ensure!(report.faults.is_empty() && report.continuity_errors == 0, "{}: {:?}", path.display(), report.faults);
    let probed = probe::ffprobe(&playlist)?;
    ensure!(probed.complaints.is_empty(), "ffprobe: {:?}", probed.complaints);
    ensure!(probed.stream("video").is_some_and(|s| s.codec == "h264"), "{probed:?}");
    ensure!(probed.stream("audio").is_some_and(|s| s.codec == "aac" && s.sample_rate == 48_000), "{probed:?}");
    for check in probe::extinf_matches_decoded(&playlist)? {
        ensure!(check.agrees(), "{check:?}");
    }
    Ok(playlist)
}

fn playlists(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder)?.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "m3u8")).collect();
    found.sort();
    Ok(found)
}

fn manifest(folder: &Path) -> Result<Value> {
    let path = std::fs::read_dir(folder)?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "json"))
        .context("a manifest")?;
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Every segment the manifest names is there, of that size; every file there is named by it.
fn manifest_is_true(folder: &Path) -> Result<()> {
    let manifest = manifest(folder)?;
    let entries = manifest["tail"].as_array().context("tail")?;
    let mut named = BTreeSet::new();
    for entry in entries {
        let name = entry["name"].as_str().context("name")?;
        let bytes = std::fs::metadata(folder.join(name)).with_context(|| name.to_owned())?.len();
        ensure!(entry["bytes"].as_u64() == Some(bytes), "{name}: {bytes} bytes, {entry}");
        named.insert(name.to_owned());
    }
    let stored: BTreeSet<String> =
        std::fs::read_dir(folder)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(".ts")).collect();
    ensure!(named == stored, "the manifest names {named:?}, stored is {stored:?}");
    Ok(())
}

/// What was received whole from the first key frame on is in the file, as the manifest counts and as the file holds.
fn every_received_frame_is_there(folder: &Path, identity: &str, playlist: &Playlist) -> Result<()> {
    let manifest = manifest(folder)?;
    let tracks = manifest["tracks"].as_array().context("tracks")?;
    let camera = tracks.iter().find(|t| t["identity"] == identity && t["source"] == "Camera").context("the camera's track")?;
    let (received, written) = (camera["receivedUnits"].as_u64(), camera["writtenUnits"].as_u64());
    ensure!(received.is_some() && received == written, "{camera}");
    let video = content::video(playlist)?;
    let in_file = video.frames.iter().filter(|f| !f.filler).count() as u64;
    ensure!(Some(in_file) == received, "{identity}: received {received:?}, in the file {in_file}");
    Ok(())
}

/// Bob speaks 8 s before his camera comes: the tone is there, over black.
fn speech_before_the_camera(video: &content::VideoReport, audio: &content::AudioReport, id: u8) -> Result<()> {
    let first = video.frames.iter().find(|f| f.code.is_some()).context("a camera picture")?;
    let start = audio.first_pts;
    let before = first.pts_90k as f64 / 90_000.0 - start;
    ensure!((7.0..10.0).contains(&before), "the camera came after {before:.2} s");
    let spoken = audio.voices[&id].tone.iter().take(7).filter(|share| **share > 0.5).count();
    ensure!(spoken >= 6, "speech before the camera: {:?}", &audio.voices[&id].tone[..8]);
    ensure!(video.filler >= 5, "black pictures while there is no camera: {}", video.filler);
    Ok(())
}

/// Reads every playlist again and again; each object it names must be there. How often it looked.
fn watch_bucket(s3: &S3, bucket: &str, over: &AtomicBool) -> Result<u32> {
    let mut looks = 0;
    let deadline = Instant::now() + Duration::from_secs(180);
    while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
        let keys = s3.list(bucket)?;
        for key in keys.iter().filter(|k| k.ends_with(".m3u8")) {
            let text = String::from_utf8(s3.get(bucket, key)?)?;
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            for segment in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
                // Listed again: what the playlist names was stored before the playlist, not before our first listing.
                let object = format!("{folder}/{segment}");
                ensure!(keys.contains(&object) || s3.head(bucket, &object).is_ok(), "{key} names {segment}, which is not there");
            }
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(looks)
}
