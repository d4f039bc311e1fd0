//! Whose media is recorded, which kinds and which layer, against a real LiveKit server with real publishers.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::local::{Ended, Local, publisher, recorder_log};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);
const RECEIVED: &str = "recorder_packets_total{kind=\"received\"}";
/// How long the wire is watched for packets that must not come.
const WATCHED: Duration = Duration::from_secs(3);

/// A LiveKit Recording into a folder; `lines` are further fields of the spec, one a line.
fn manifest(livekit: &LiveKit, room: &str, lines: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: livekit}}
stringData: {{LIVEKIT_API_KEY: {key}, LIVEKIT_API_SECRET: {secret}}}
---
apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: {room}}}
spec:
  channel: {{name: {room}, livekit: {{url: '{url}'}}}}
  token: {{apiKeySecretRef: {{name: livekit}}}}
  mode: Individual
  idleTimeoutSeconds: 5
  output: {{hls: {{segmentSeconds: 4}}}}
  storage: {{volume: {{claimName: media}}}}
{lines}",
        key = livekit.api_key(),
        secret = livekit.api_secret(),
        url = livekit.url(),
    )
}

/// The folder's manifest object.
fn stored(folder: &Path) -> Result<Value> {
    let files = std::fs::read_dir(folder)?.flatten().map(|e| e.path());
    let path = files.into_iter().find(|p| p.extension().is_some_and(|e| e == "json")).context("a manifest")?;
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn track(manifest: &Value, identity: &str, source: &str) -> Result<Value> {
    let tracks = manifest["tracks"].as_array().context("tracks")?;
    let found = tracks.iter().find(|t| t["identity"] == identity && t["source"] == source);
    found.cloned().with_context(|| format!("no {source} of {identity} in {tracks:?}"))
}

fn playlists(folder: &Path) -> Result<Vec<String>> {
    let files = std::fs::read_dir(folder)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = files.filter(|name| name.ends_with(".m3u8")).collect();
    names.sort();
    Ok(names)
}

fn path(folder: &Path, ending: &str) -> Result<PathBuf> {
    let found = playlists(folder)?.into_iter().find(|name| name.ends_with(ending));
    Ok(folder.join(found.with_context(|| format!("no {ending} in {:?}", playlists(folder)))?))
}

fn completed(ended: &Ended) -> Result<()> {
    ensure!(ended.exit_code == 0, "exit {}: {}\n{}", ended.exit_code, ended.said, ended.recorder_log());
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}", ended.said);
    ensure!(ended.status()?.gap_count.unwrap_or(0) == 0, "what is left out is no gap: {:?}", ended.status);
    Ok(())
}

fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    recording_tests::harness::process::wait_until(what, SOON, || condition().ok().filter(|is| *is).map(drop))
}

#[test]
fn lists_change_while_recording_and_who_is_left_out_costs_nothing() -> Result<()> {
    let livekit = LiveKit::start()?;
    let media = tempfile::tempdir()?;
    let with = |lines: &str| manifest(&livekit, "lists", lines);
    let nobody = "  subscription: {audio: {deny: [alice]}, video: {allow: [bob]}}\n";
    let flags = [format!("media={}", media.path().display())];
    let mut recording = Local::start(&with(nobody), &["--volume", &flags[0], "--follow"])?;
    let mut alice = publisher(&livekit, "lists", "alice", 1, &["--seconds", "60"])?;
    alice.wait_for_line("\"kind\": \"v\"", SOON)?;
    recording.process.wait_for_line("\"participantCount\":1", SOON)?;

    let watched = Instant::now();
    while watched.elapsed() < WATCHED {
        ensure!(recording.metric(RECEIVED)? == 0.0, "packets of somebody who is on no list");
    }
    recording.save(&with("  subscription: {video: {allow: [alice]}}\n"))?;
    recording.wait_for_generation(2, SOON)?;
    until("packets", || Ok(recording.metric(RECEIVED)? > 100.0))?;
    until("a stored playlist", || Ok(!playlists(media.path())?.is_empty()))?;

    recording.save(&with("  subscription: {video: {deny: [alice, carol]}}\n"))?;
    recording.wait_for_generation(3, SOON)?;
    // Sound is 50 packets a second; a camera at 15 pictures a second is some 60 to 100 on top.
    until("the sound alone", || {
        let (before, since) = (recording.metric(RECEIVED)?, Instant::now());
        while since.elapsed() < WATCHED {
            // The window of a measurement, not a wait for something.
            std::thread::sleep(Duration::from_millis(100));
        }
        let rate = (recording.metric(RECEIVED)? - before) / since.elapsed().as_secs_f64();
        Ok((30.0..60.0).contains(&rate))
    })?;
    // The last picture holds for 3.5 s: coming back earlier would leave nothing to see.
    until("black in its place", || {
        let video = content::video(&Playlist::read(&path(media.path(), "__uid_s_alice__uid_e_av.m3u8")?)?)?;
        Ok(video.frames.last().is_some_and(|frame| frame.filler))
    })?;
    recording.save(&with(""))?;
    recording.wait_for_generation(4, SOON)?;
    until("the picture again", || {
        let video = content::video(&Playlist::read(&path(media.path(), "__uid_s_alice__uid_e_av.m3u8")?)?)?;
        let last_black = video.frames.iter().rposition(|f| f.filler);
        Ok(last_black.is_some_and(|n| n + 15 < video.frames.len()))
    })?;
    alice.write_line("quit")?;
    let ended = recording.wait(LIMIT)?;
    completed(&ended)?;

    ensure!(playlists(media.path())?.len() == 1, "one person, one playlist: {:?}", playlists(media.path())?);
    let manifest = stored(media.path())?;
    let (camera, microphone) = (track(&manifest, "alice", "Camera")?, track(&manifest, "alice", "Microphone")?);
    ensure!(camera["unsubscribed90k"].as_array().is_some_and(|spans| spans.len() == 2), "{camera}");
    ensure!(microphone["unsubscribed90k"].as_array().is_some_and(|spans| spans.len() == 1), "{microphone}");
    ensure!(camera["recorded"] == true && camera["lost"] == 0 && camera["reason"].is_null(), "{camera}");
    ensure!(camera["receivedUnits"] == camera["writtenUnits"], "{camera}");

    let playlist = Playlist::read(&path(media.path(), "_av.m3u8")?)?;
    let video = content::video(&playlist)?;
    let counts = &video.participants[&1];
    ensure!(counts.duplicated == 0 && counts.out_of_order == 0 && video.undecodable == 0, "{counts:?}");
    let audio = content::audio(&playlist, &[1])?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "the sound went on: {:?}", audio.gaps);
    Ok(())
}

#[test]
fn a_person_who_is_on_no_list_is_in_the_manifest_with_the_reason() -> Result<()> {
    let livekit = LiveKit::start()?;
    let media = tempfile::tempdir()?;
    let lists = "  subscription: {audio: {allow: [alice]}, video: {deny: [bob]}}\n";
    let flags = [format!("media={}", media.path().display())];
    let recording = Local::start(&manifest(&livekit, "reasons", lists), &["--volume", &flags[0]])?;
    let mut people =
        [publisher(&livekit, "reasons", "alice", 1, &["--seconds", "8"])?, publisher(&livekit, "reasons", "bob", 5, &["--seconds", "8"])?];
    let ended = recording.wait(LIMIT)?;
    for person in &mut people {
        ensure!(person.wait(SOON)?.success(), "{}", person.log());
    }
    completed(&ended)?;
    let manifest = stored(media.path())?;
    for source in ["Camera", "Microphone"] {
        let (alice, bob) = (track(&manifest, "alice", source)?, track(&manifest, "bob", source)?);
        ensure!(alice["recorded"] == true && alice["packets"].as_u64() > Some(100), "{alice}");
        ensure!(bob["recorded"] == false && bob["reason"] == "NotSubscribed" && bob["packets"] == 0, "{bob}");
    }
    ensure!(playlists(media.path())?.iter().all(|name| name.contains("alice")), "{:?}", playlists(media.path())?);
    Ok(())
}

#[test]
fn only_sound_also_of_a_shared_screen() -> Result<()> {
    let livekit = LiveKit::start()?;
    let media = tempfile::tempdir()?;
    let flags = [format!("media={}", media.path().display())];
    let recording = Local::start(&manifest(&livekit, "sound", "  media: Audio\n"), &["--volume", &flags[0]])?;
    let mut alice = publisher(&livekit, "sound", "alice", 1, &["--seconds", "8", "--kinds", "avst", "--screen-participant", "7"])?;
    let ended = recording.wait(LIMIT)?;
    ensure!(alice.wait(SOON)?.success(), "{}", alice.log());
    completed(&ended)?;
    let manifest = stored(media.path())?;
    for source in ["Camera", "ScreenShare"] {
        let track = track(&manifest, "alice", source)?;
        ensure!(track["recorded"] == false && track["reason"] == "MediaNotWanted" && track["packets"] == 0, "{track}");
    }
    ensure!(playlists(media.path())?.len() == 2, "{:?}", playlists(media.path())?);
    for (ending, id) in [("__uid_e_audio.m3u8", 1), ("__uid_e_screenaudio.m3u8", 7)] {
        let playlist = Playlist::read(&path(media.path(), ending)?)?;
        let probed = recording_tests::analyser::probe::ffprobe(&playlist)?;
        ensure!(probed.stream("audio").is_some() && probed.stream("video").is_none(), "{ending}: {probed:?}");
        let audio = content::audio(&playlist, &[id])?;
        let heard = audio.voices[&id].tone.iter().filter(|share| **share > 0.5).count();
        ensure!(heard >= 6, "{ending}: 8 s of tone: {:?}", audio.voices[&id].tone);
    }
    Ok(())
}

#[test]
fn only_pictures() -> Result<()> {
    let livekit = LiveKit::start()?;
    let media = tempfile::tempdir()?;
    let flags = [format!("media={}", media.path().display())];
    let recording = Local::start(&manifest(&livekit, "pictures", "  media: Video\n"), &["--volume", &flags[0]])?;
    let mut alice = publisher(&livekit, "pictures", "alice", 1, &["--seconds", "8"])?;
    let ended = recording.wait(LIMIT)?;
    ensure!(alice.wait(SOON)?.success(), "{}", alice.log());
    completed(&ended)?;
    let microphone = track(&stored(media.path())?, "alice", "Microphone")?;
    ensure!(microphone["recorded"] == false && microphone["reason"] == "MediaNotWanted" && microphone["packets"] == 0, "{microphone}");
    ensure!(playlists(media.path())?.len() == 1, "{:?}", playlists(media.path())?);
    let playlist = Playlist::read(&path(media.path(), "__uid_e_video.m3u8")?)?;
    let probed = recording_tests::analyser::probe::ffprobe(&playlist)?;
    ensure!(probed.stream("video").is_some() && probed.stream("audio").is_none(), "{probed:?}");
    let video = content::video(&playlist)?;
    let counts = &video.participants[&1];
    ensure!(counts.duplicated == 0 && counts.out_of_order == 0 && counts.present >= 100, "8 s at 15 a second: {counts:?}");
    let camera = track(&stored(media.path())?, "alice", "Camera")?;
    ensure!(camera["receivedUnits"] == camera["writtenUnits"] && camera["lost"] == 0, "{camera}");
    Ok(())
}

#[test]
fn the_layer_that_is_asked_for_is_the_one_in_the_file_and_in_the_manifest() -> Result<()> {
    for (layer, is_low) in [("Low", true), ("High", false)] {
        let livekit = LiveKit::start()?;
        let media = tempfile::tempdir()?;
        let flags = [format!("media={}", media.path().display())];
        let wish = format!("  videoStream: {layer}\n");
        let recording = Local::start(&manifest(&livekit, "layers", &wish), &["--volume", &flags[0]])?;
        let camera = ["--seconds", "12", "--simulcast", "--size", "1280x720", "--bitrate", "1700000"];
        let mut alice = publisher(&livekit, "layers", "alice", 1, &camera)?;
        let ended = recording.wait(LIMIT)?;
        ensure!(alice.wait(SOON)?.success(), "{}", alice.log());
        completed(&ended)?;
        let track = track(&stored(media.path())?, "alice", "Camera")?;
        let sizes: Vec<u64> = track["sizes"].as_array().context("sizes")?.iter().filter_map(|size| size["width"].as_u64()).collect();
        println!("{layer}: {}", track["sizes"]);
        // libwebrtc may begin small and grow; what is asked for is what it comes to.
        let last = *sizes.last().context("a size")?;
        ensure!(if is_low { last == 320 } else { last == 1280 }, "{layer}: {track}");
        let video = content::video(&Playlist::read(&path(media.path(), "_av.m3u8")?)?)?;
        ensure!(video.sizes.iter().any(|(width, _)| *width as u64 == last), "{layer}: {:?}", video.sizes);
    }
    Ok(())
}

/// A server that has lost a subscription says nothing, and one that never sends looks the same from here: it is asked again, and what comes
/// in the end is recorded.
#[test]
fn what_was_asked_for_and_does_not_come_is_asked_for_again() -> Result<()> {
    const SILENT: f64 = 9.0;
    const SECONDS: f64 = 16.0;
    let livekit = LiveKit::start()?;
    let media = tempfile::tempdir()?;
    let volume = format!("media={}", media.path().display());
    let recording = Local::start(&manifest(&livekit, "silent", ""), &["--volume", &volume])?;
    let state = recording.state();
    let (seconds, silent) = (SECONDS.to_string(), SILENT.to_string());
    let _alice = publisher(&livekit, "silent", "alice", 1, &["--kinds", "a", "--seconds", &seconds, "--sound-after", &silent])?;
    until("the second subscription", || Ok(recorder_log(&state).contains("nothing has come of tracks")))?;
    let ended = recording.wait(LIMIT)?;
    completed(&ended)?;
    let audio = content::audio(&Playlist::read(&path(media.path(), "__uid_s_alice__uid_e_av.m3u8")?)?, &[1])?;
    let heard = audio.voices[&1].heard.map(|span| span.end - span.start);
    ensure!(heard.is_some_and(|heard| (heard - (SECONDS - SILENT)).abs() < 0.5), "heard for {heard:?} s");
    Ok(())
}
