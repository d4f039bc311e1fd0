//! Every example is a manifest that works: run in local mode against real servers, with their addresses put in.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::probe;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::harness::workspace;
use recording_tests::local::{Ended, Local, publisher};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

fn example(name: &str) -> Result<String> {
    std::fs::read_to_string(workspace().join("examples").join(name)).with_context(|| name.to_owned())
}

/// Shorter idle time than a person would want, so that the test ends soon.
fn impatient(manifest: &str) -> String {
    manifest.replace("idleTimeoutSeconds: 30", "idleTimeoutSeconds: 5").replace("mode: Individual\n", "mode: Individual\n  IDLE")
}

/// The keys of a server in place of the example's.
fn with_keys(manifest: &str, name: &str, s3: &S3) -> String {
    let id = manifest.replace(&format!("AWS_ACCESS_KEY_ID: {name}"), &format!("AWS_ACCESS_KEY_ID: {}", s3.access_key()));
    id.replace(&format!("AWS_SECRET_ACCESS_KEY: {name}"), &format!("AWS_SECRET_ACCESS_KEY: {}", s3.secret_key()))
}

#[test]
fn test_pattern() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let manifest = example("test-pattern.yaml")?.replace("durationSeconds: 20", "durationSeconds: 6");
    let ended = Local::start(&manifest, &["--output", &text(folder.path())])?.wait(LIMIT)?;
    completed(&ended)?;
    ensure!(playlists(folder.path())?.len() == 2);
    Ok(())
}

/// What is in them: `composite.rs`, `layouts.rs`, `images.rs`.
#[test]
fn composites() -> Result<()> {
    for name in ["composite-floating.yaml", "composite-vertical.yaml", "composite-custom.yaml", "composite-audio-only.yaml"] {
        let folder = tempfile::tempdir()?;
        let manifest = example(name)?.replace("durationSeconds: 20", "durationSeconds: 4");
        completed(&Local::start(&manifest, &["--output", &text(folder.path())])?.wait(LIMIT)?)?;
        let found = playlists(folder.path())?;
        let [playlist] = &found[..] else { anyhow::bail!("{name}: {found:?}") };
        let probe = probe::ffprobe(&Playlist::read(playlist)?)?;
        let (sound, pictures) = (probe.stream("audio").is_some(), probe.stream("video").is_some());
        ensure!(sound && pictures == (name != "composite-audio-only.yaml"), "{name}: {probe:?}");
    }
    Ok(())
}

#[test]
fn composite_and_its_update() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let shorter = |name: &str| Ok::<_, anyhow::Error>(example(name)?.replace("durationSeconds: 20", "durationSeconds: 12"));
    let update = shorter("composite-update.yaml")?;
    let mut recording = Local::start(&shorter("composite.yaml")?, &["--output", &text(folder.path()), "--follow"])?;
    wait_until("a segment", LIMIT, || recording.report().ok().filter(|report| report.counters.recorded_files > 0))?;
    recording.save(&update)?;
    recording.wait_for_generation(2, LIMIT)?;
    completed(&recording.wait(LIMIT)?)?;
    let found = playlists(folder.path())?;
    let canvases = std::fs::read_to_string(found.first().context("a playlist")?)?.matches("#EXT-X-DISCONTINUITY\n").count();
    ensure!(found.len() == 1 && canvases == 1, "{found:?}: {canvases}");
    Ok(())
}

/// What is in them: `snapshots.rs`.
#[test]
fn snapshots() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let manifest = example("snapshots.yaml")?.replace("durationSeconds: 20", "durationSeconds: 8");
    let ended = Local::start(&manifest, &["--output", &text(folder.path())])?.wait(LIMIT)?;
    completed(&ended)?;
    let names = std::fs::read_dir(folder.path())?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let stills: Vec<String> = names.filter(|name| name.ends_with(".jpg")).collect();
    for of in ["__uid_s_participant-1__uid_e_video_", "__uid_s_participant-2__uid_e_video_", "_snapshots_2"] {
        ensure!(stills.iter().any(|name| name.contains(of)), "none of {of}: {stills:?}");
    }
    Ok(())
}

#[test]
fn livekit_s3() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("recordings")?;
    let manifest = impatient(&example("livekit-s3.yaml")?)
        .replace("\n  IDLE", "\n")
        .replace("ws://127.0.0.1:7880", &livekit.url())
        .replace("http://127.0.0.1:9000", &s3.endpoint())
        .replace("LIVEKIT_API_KEY: devkey", &format!("LIVEKIT_API_KEY: {}", livekit.api_key()))
        .replace("secretsecretsecretsecretsecretsecret", livekit.api_secret());
    let recording = Local::start(&with_keys(&manifest, "minioadmin", &s3), &[])?;
    let _alice = publisher(&livekit, "daily-standup", "alice", 1, &["--seconds", "6"])?;
    completed(&recording.wait(LIMIT)?)?;
    let keys = s3.list("recordings")?;
    ensure!(keys.iter().all(|key| key.starts_with("acme/standups/")), "{keys:?}");
    ensure!(keys.iter().any(|key| key.ends_with("__uid_s_alice__uid_e_av.m3u8")), "{keys:?}");
    Ok(())
}

#[test]
fn backup_storage() -> Result<()> {
    let (livekit, s3, spare) = (LiveKit::start()?, S3::start()?, S3::start()?);
    spare.create_bucket("recordings-backup")?;
    let manifest = impatient(&example("backup-storage.yaml")?)
        .replace("\n  IDLE", "\n")
        .replace("ws://127.0.0.1:7880", &livekit.url())
        .replace("http://127.0.0.1:9000", &s3.endpoint())
        .replace("LIVEKIT_API_KEY: devkey", &format!("LIVEKIT_API_KEY: {}", livekit.api_key()))
        .replace("secretsecretsecretsecretsecretsecret", livekit.api_secret())
        .replace("http://127.0.0.1:9001", &spare.endpoint());
    let manifest = with_keys(&with_keys(&manifest, "minioadmin", &s3), "spareadmin", &spare);
    let recording = Local::start(&manifest, &[])?;
    let _alice = publisher(&livekit, "town-hall", "alice", 1, &["--seconds", "6"])?;
    let is_spare = || spare.list("recordings-backup").ok().filter(|keys| keys.iter().any(|key| key.ends_with(".ts")));
    wait_until("a segment in the backup", LIMIT, is_spare)?;
    // What was missing all the time.
    s3.create_bucket("recordings")?;
    completed(&recording.wait(LIMIT)?)?;
    let keys = s3.list("recordings")?;
    ensure!(keys.iter().any(|key| key.ends_with("__uid_s_alice__uid_e_av.m3u8")), "{keys:?}");
    ensure!(spare.list("recordings-backup")?.is_empty(), "all was moved");
    Ok(())
}

#[test]
fn livekit_token() -> Result<()> {
    let livekit = LiveKit::start()?;
    let (media, secret) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let grants = serde_json::json!({"roomJoin": true, "room": "board-meeting", "canSubscribe": true, "canPublish": false, "hidden": true});
    std::fs::write(secret.path().join("token"), livekit.token("board-meeting", "recorder", grants))?;
    let manifest = impatient(&example("livekit-token.yaml")?)
        .replace("\n  IDLE", "\n  idleTimeoutSeconds: 5\n")
        .replace("wss://sfu.example.com", &livekit.url());
    let flags = [format!("board-meeting-token={}", text(secret.path())), format!("recordings={}", text(media.path()))];
    let recording = Local::start(&manifest, &["--secret", &flags[0], "--volume", &flags[1]])?;
    let _alice = publisher(&livekit, "board-meeting", "alice", 1, &["--seconds", "6"])?;
    completed(&recording.wait(LIMIT)?)?;
    ensure!(playlists(&media.path().join("board"))?.len() == 1, "below subPath");
    Ok(())
}

#[test]
fn livekit_audio_only() -> Result<()> {
    let livekit = LiveKit::start()?;
    let (media, secret) = (tempfile::tempdir()?, tempfile::tempdir()?);
    std::fs::write(secret.path().join("LIVEKIT_API_KEY"), livekit.api_key())?;
    std::fs::write(secret.path().join("LIVEKIT_API_SECRET"), livekit.api_secret())?;
    let manifest = impatient(&example("livekit-audio-only.yaml")?)
        .replace("\n  IDLE", "\n  idleTimeoutSeconds: 5\n")
        .replace("ws://127.0.0.1:7880", &livekit.url());
    let flags = [format!("livekit={}", text(secret.path())), format!("recordings={}", text(media.path()))];
    let recording = Local::start(&manifest, &["--secret", &flags[0], "--volume", &flags[1]])?;
    let _alice = publisher(&livekit, "radio-show", "alice", 1, &["--seconds", "8"])?;
    completed(&recording.wait(LIMIT)?)?;
    let found = playlists(media.path())?;
    ensure!(found.len() == 1 && text(&found[0]).ends_with("__uid_e_audio.m3u8"), "{found:?}");
    let audio = content::audio(&Playlist::read(&found[0])?, &[1])?;
    let heard = audio.voices[&1].tone.iter().filter(|share| **share > 0.5).count();
    ensure!(heard >= 6, "8 s of tone: {:?}", audio.voices[&1].tone);
    Ok(())
}

#[test]
fn subscription() -> Result<()> {
    let livekit = LiveKit::start()?;
    let (media, secret) = (tempfile::tempdir()?, tempfile::tempdir()?);
    std::fs::write(secret.path().join("LIVEKIT_API_KEY"), livekit.api_key())?;
    std::fs::write(secret.path().join("LIVEKIT_API_SECRET"), livekit.api_secret())?;
    let manifest = impatient(&example("subscription.yaml")?)
        .replace("\n  IDLE", "\n  idleTimeoutSeconds: 5\n")
        .replace("ws://127.0.0.1:7880", &livekit.url());
    let flags = [format!("livekit={}", text(secret.path())), format!("recordings={}", text(media.path()))];
    let recording = Local::start(&manifest, &["--secret", &flags[0], "--volume", &flags[1]])?;
    let _people = [
        publisher(&livekit, "panel", "alice", 1, &["--seconds", "8"])?,
        publisher(&livekit, "panel", "interpreter", 5, &["--seconds", "8"])?,
    ];
    completed(&recording.wait(LIMIT)?)?;
    let found = playlists(media.path())?;
    ensure!(found.len() == 1 && text(&found[0]).ends_with("__uid_s_alice__uid_e_av.m3u8"), "{found:?}");
    Ok(())
}

fn completed(ended: &Ended) -> Result<()> {
    ensure!(ended.exit_code == 0, "exit {}: {}\n{}", ended.exit_code, ended.said, ended.recorder_log());
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}", ended.said);
    Ok(())
}

fn playlists(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(std::fs::read_dir(folder)?.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "m3u8")).collect())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
