//! Endings that whoever runs the recording orders: by Ctrl-C, by a signal, by the job.

use crate::scene::{LIMIT, Over, Running, Scene, leave};
use anyhow::{Context, Result, ensure};
use recording_crds::exit;
use recording_crds::job::{JobState, StopReason};
use recording_tests::attempt::{Attempt, AttemptEnded};
use recording_tests::harness::process::{send_signal, wait_until};
use recording_tests::local::{Ended, Local};
use recording_tests::stored::Stored;
use recording_tests::sweep::children;
use std::path::Path;

pub fn interrupted(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let _zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    running.local.process.signal(libc::SIGINT)?;
    running.wait()
}

pub fn interrupted_before_anybody_came(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    scene.recorder_identity()?;
    running.wait_to_be_watched()?;
    running.local.process.signal(libc::SIGINT)?;
    running.wait()
}

/// The manifest orders it, as after `kubectl apply`: nothing is recorded.
pub fn stopped_from_the_start(scene: &mut Scene) -> Result<Over> {
    Ok(Local::start(&scene.manifest("desiredState: Stopped"), &[])?.wait(LIMIT)?.into())
}

pub fn interrupted_twice_and_resumed(scene: &mut Scene) -> Result<Over> {
    let mut running = scene.record(&scene.manifest(""), &[])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    running.local.process.signal(libc::SIGINT)?;
    running.local.process.wait_for_line("Ctrl-C again", LIMIT)?;
    running.local.process.signal(libc::SIGINT)?;
    let resumed = aborted_and_resumed(scene, running)?;
    // Of these at most two were in the spool.
    scene.wait_for_segments(3)?;
    leave(zoe)?;
    continued(scene, resumed.wait()?)
}

/// Somebody ends the recorder, as the kubelet does on a drain: that is no order to stop.
pub fn recorder_terminated_and_resumed(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    let recorder = children(running.local.process.pid()).pop().context("a recorder")?;
    send_signal(recorder as i32, libc::SIGTERM)?;
    let resumed = aborted_and_resumed(scene, running)?;
    // Of these at most two were in the spool.
    scene.wait_for_segments(3)?;
    leave(zoe)?;
    continued(scene, resumed.wait()?)
}

/// Exit status 130; the spool is kept, its path and how to go on are printed; no secret stays behind.
fn aborted_and_resumed(scene: &Scene, running: Running) -> Result<Running> {
    let ended = running.end()?;
    ensure!(ended.exit_code == exit::LOCAL_ABORTED, "exit {}: {}", ended.exit_code, ended.said);
    let kept = ended.kept().context("the state folder is gone")?;
    ensure!(kept.join("spool/state.json").is_file() && !kept.join("secrets").exists(), "{:?}", files(&kept));
    ensure!(ended.said.contains(&kept.join("spool").display().to_string()), "the path is not printed: {}", ended.said);
    still_open(scene, &ended)?;
    Ok(scene.watch(ended.resume(&[])?))
}

/// The playlist goes on, so nobody may have ended it.
fn still_open(scene: &Scene, ended: &Ended) -> Result<()> {
    for key in scene.world.s3.list(scene.name)?.iter().filter(|key| key.ends_with(".m3u8")) {
        let text = String::from_utf8(scene.world.s3.get(scene.name, key)?)?;
        ensure!(!text.contains("#EXT-X-ENDLIST"), "the playlist is ended: {}", ended.said);
    }
    Ok(())
}

pub fn continued(scene: &Scene, over: Over) -> Result<Over> {
    continued_after(scene, "RecorderRestarted")?;
    Ok(over)
}

/// One playlist, with a DISCONTINUITY where it was interrupted, and one gap with the reason.
pub fn continued_after(scene: &Scene, reason: &str) -> Result<()> {
    let stored = Stored::download(&scene.world.s3, scene.name, "acme")?;
    let playlists = crate::judge::playlists(&stored)?;
    ensure!(playlists.len() == 1, "{playlists:?}");
    let text = std::fs::read_to_string(&playlists[0])?;
    ensure!(text.contains("#EXT-X-DISCONTINUITY"), "{text}");
    let reasons: Vec<&str> = stored.manifest.gaps.iter().map(|gap| gap.reason.as_str()).collect();
    ensure!(reasons == [reason], "{reasons:?}");
    Ok(())
}

pub fn stopped_by_the_job(scene: &mut Scene) -> Result<Over> {
    ordered_by_the_job(scene, JobState::Stopped, None)
}

/// `onDelete: Finish`, the default.
pub fn deleted(scene: &mut Scene) -> Result<Over> {
    ordered_by_the_job(scene, JobState::Stopped, Some(StopReason::Deleted))
}

fn ordered_by_the_job(scene: &mut Scene, state: JobState, reason: Option<StopReason>) -> Result<Over> {
    let mut attempt = Attempt::start(&with_uid(scene), 1)?;
    let watcher = scene.watch_attempt(&attempt);
    let _zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    attempt.order(state, reason)?;
    let ended = attempt.wait(LIMIT)?;
    watcher.finish()?;
    ensure!(ended.report.generation == 2, "the job that is in force: {:?}", ended.report);
    Ok(Over::from(ended))
}

/// Attempts of one recording agree on its uid; every scene has a room and a bucket of its own.
pub fn with_uid(scene: &Scene) -> String {
    let name = format!("metadata: {{name: {}", scene.name);
    scene.manifest("").replace(&name, &format!("{name}, uid: 00000000-0000-4000-8000-000000000001"))
}

impl From<AttemptEnded> for Over {
    fn from(ended: AttemptEnded) -> Self {
        Self { exit_code: ended.exit_code, status: Some(ended.status), said: ended.log, termination_message: Some(ended.said) }
    }
}

/// A recorder that never comes up is tried three times.
pub fn recorder_crashes(scene: &mut Scene) -> Result<Over> {
    // Storage knows nothing of it, so there is no manifest to judge.
    scene.world.s3.put(scene.name, "acme/none.json", EMPTY_MANIFEST)?;
    Ok(Local::start(&scene.manifest(""), &["--recorder", "/bin/false"])?.wait(LIMIT)?.into())
}

const EMPTY_MANIFEST: &[u8] = br#"{"chunks": [], "tail": [], "participants": [], "tracks": [], "gaps": [], "playlists": []}"#;

fn files(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Until an attempt has claimed the recording as its own.
pub fn wait_for_epoch(scene: &Scene, epoch: u64) -> Result<()> {
    let claimed = || {
        let key = scene.world.s3.list(scene.name).ok()?.into_iter().find(|key| key.ends_with(".json"))?;
        let manifest: serde_json::Value = serde_json::from_slice(&scene.world.s3.get(scene.name, &key).ok()?).ok()?;
        (manifest["epoch"].as_u64() >= Some(epoch)).then_some(())
    };
    wait_until("the next attempt's claim", LIMIT, claimed)
}
