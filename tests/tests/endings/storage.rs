//! Endings, and narrow escapes, of the storage.

use crate::scene::{LIMIT, Over, Running, Scene, leave};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_tests::harness::process::wait_until;
use recording_tests::stored::Stored;
use std::path::PathBuf;

/// Long enough to be tried several times.
const DRAIN: &str = "drainTimeoutSeconds: 8";

pub fn bucket_deleted(scene: &mut Scene) -> Result<Over> {
    let mut running = scene.record(&scene.manifest(DRAIN), &["--follow"])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    scene.world.s3.delete_bucket(scene.name)?;
    running.wait_to_be_degraded(Code::UploaderFailed)?;
    leave(zoe)?;
    kept(running)
}

pub fn credentials_revoked(scene: &mut Scene) -> Result<Over> {
    let manifest = with_account(scene, "revoked", DRAIN)?;
    let mut running = scene.record(&manifest, &["--follow"])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    scene.world.s3.delete_user("user-revoked")?;
    running.wait_to_be_degraded(Code::UploaderFailed)?;
    leave(zoe)?;
    kept(running)
}

/// New keys come into the Secret before the drain time-out: nothing is lost.
pub fn credentials_replaced(scene: &mut Scene) -> Result<Over> {
    let folder = tempfile::tempdir()?;
    let keys = |name: &str| -> Result<()> {
        std::fs::write(folder.path().join("AWS_ACCESS_KEY_ID"), format!("user-{name}"))?;
        Ok(std::fs::write(folder.path().join("AWS_SECRET_ACCESS_KEY"), format!("key-of-{name}"))?)
    };
    let manifest = with_account(scene, "leaked", "")?;
    scene.forbidden.secret("key-of-rotated");
    keys("leaked")?;
    let flag = format!("bucket={}", folder.path().display());
    let mut running = scene.record(&manifest, &["--follow", "--secret", &flag])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    scene.world.s3.delete_user("user-leaked")?;
    running.wait_to_be_degraded(Code::UploaderFailed)?;
    leave(zoe)?;
    running.local.process.wait_for_line("\"phase\":\"Stopping\"", LIMIT)?;
    scene.world.s3.create_user("user-rotated", "key-of-rotated")?;
    keys("rotated")?;
    let over = running.wait()?;
    ensure!(Stored::download(&scene.world.s3, scene.name, "acme")?.manifest.gaps.is_empty(), "nothing is missing");
    Ok(over)
}

/// The disk loses a segment that storage does not have yet: a hole, and everything else is stored.
pub fn segment_lost(scene: &mut Scene) -> Result<Over> {
    let manifest = with_account(scene, "away", DRAIN)?;
    let running = scene.record(&manifest, &[])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    scene.world.s3.delete_user("user-away")?;
    let state = running.local.state();
    // Two waiting: then the first of them is closed and was tried.
    let waiting = wait_until("two segments that wait", LIMIT, || Some(waiting(&state)).filter(|files| files.len() >= 2))?;
    std::fs::remove_file(&waiting[0])?;
    scene.world.s3.create_user("user-away", "key-of-away")?;
    leave(zoe)?;
    let over = running.wait()?;
    let stored = Stored::download(&scene.world.s3, scene.name, "acme")?;
    let name = waiting[0].file_name().context("a name")?.to_string_lossy().into_owned();
    let lost: Vec<_> = stored.manifest.tail.iter().filter(|entry| entry.at.as_deref() == Some("Lost")).collect();
    ensure!(lost.len() == 1 && lost[0].name == name, "{lost:?}");
    let gap = stored.manifest.gaps.iter().find(|gap| gap.reason == "SegmentLost").context("a gap")?;
    ensure!((gap.start90k, gap.duration90k) == (lost[0].start90k, lost[0].duration90k), "{gap:?}, {lost:?}");
    let playlists = crate::judge::playlists(&stored)?;
    let text = std::fs::read_to_string(&playlists[0])?;
    ensure!(!text.contains(&name) && text.contains("#EXT-X-DISCONTINUITY"), "{text}");
    Ok(over)
}

/// Closed and not stored, the oldest first.
fn waiting(state: &std::path::Path) -> Vec<PathBuf> {
    let recordings = std::fs::read_dir(state).into_iter().flatten().flatten();
    let segments = recordings.flat_map(|folder| std::fs::read_dir(folder.path().join("spool/segments")).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = segments.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "ts")).collect();
    files.sort();
    files
}

/// The manifest with an account of its own in the storage: `user-NAME`, `key-of-NAME`.
fn with_account(scene: &mut Scene, name: &str, more: &str) -> Result<String> {
    let (user, key) = (format!("user-{name}"), format!("key-of-{name}"));
    scene.world.s3.create_user(&user, &key)?;
    scene.forbidden.secret(&user);
    scene.forbidden.secret(&key);
    let s3 = &scene.world.s3;
    Ok(scene.manifest(more).replace(s3.access_key(), &user).replace(s3.secret_key(), &key))
}

/// What storage did not take is in the spool, whose path is printed.
fn kept(running: Running) -> Result<Over> {
    let ended = running.end()?;
    let spool = ended.kept().context("the state folder is gone")?.join("spool");
    ensure!(ended.said.contains(&format!("is kept in {}", spool.display())), "the path is not printed: {}", ended.said);
    let segments = std::fs::read_dir(spool.join("segments"))?.count();
    ensure!(segments > 0, "nothing is kept");
    Ok(ended.into())
}
