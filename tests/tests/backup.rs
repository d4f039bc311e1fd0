//! A backup storage with real parts: what the primary refuses goes there, comes back when it can, and every word about it is true.

#[allow(dead_code)] // shared with the endings, which use more of it
#[path = "endings/scene.rs"]
mod scene;

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::conditions::{BACKED_UP, UPLOADED, find};
use recording_crds::exit;
use recording_crds::status::{Phase, RecordingStatus};
use recording_tests::harness::process::wait_until;
use recording_tests::stored::{Stored, sound};
use scene::{LIMIT, Running, Scene, World, leave};
use std::path::PathBuf;

/// Long enough for several tries at both storages.
const DRAIN: &str = "drainTimeoutSeconds: 10";

struct Play<'a> {
    scene: Scene<'a>,
    backup: String,
}

impl<'a> Play<'a> {
    /// A room, a bucket and a backup bucket, each bucket with an account of its own: `user-primary`, `user-backup`.
    fn new(world: &'a World, name: &'static str) -> Result<Self> {
        let mut scene = Scene::new(world, name)?;
        let backup = format!("{name}-backup");
        world.s3.create_bucket(&backup)?;
        for place in ["primary", "backup"] {
            scene.forbidden.secret(&user(name, place));
            scene.forbidden.secret(&key(place));
        }
        let play = Self { scene, backup };
        play.allow("primary")?;
        play.allow("backup")?;
        Ok(play)
    }

    fn allow(&self, place: &str) -> Result<()> {
        self.scene.world.s3.create_user(&user(self.scene.name, place), &key(place))
    }

    fn refuse(&self, place: &str) -> Result<()> {
        self.scene.world.s3.delete_user(&user(self.scene.name, place))
    }

    fn record(&self, more: &str) -> Result<Running> {
        let (s3, name) = (&self.scene.world.s3, self.scene.name);
        let manifest = self.scene.manifest(more).replace(s3.access_key(), &user(name, "primary")).replace(s3.secret_key(), &key("primary"));
        let backup = format!(
            "  backupStorage:\n    s3: {{bucket: {bucket}, region: {region}, endpoint: '{endpoint}', forcePathStyle: true, prefix: spare, \
             credentialsSecretRef: {{name: spare}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: spare}}\n\
             stringData: {{AWS_ACCESS_KEY_ID: '{user}', AWS_SECRET_ACCESS_KEY: '{key}'}}\n",
            bucket = self.backup,
            region = s3.region(),
            endpoint = s3.endpoint(),
            user = user(name, "backup"),
            key = key("backup"),
        );
        self.scene.record(&(manifest + &backup), &["--follow"])
    }

    fn backup_keys(&self) -> Vec<String> {
        self.scene.world.s3.list(&self.backup).unwrap_or_default()
    }

    fn wait_for_segments_in_the_backup(&self, count: usize) -> Result<()> {
        let segments = || self.backup_keys().iter().filter(|key| key.ends_with(".ts")).count();
        wait_until(&format!("{count} segments in the backup"), LIMIT, || (segments() >= count).then_some(()))
    }

    /// What lies in a bucket: its manifest is true, its playlists can be played. Returns how many of the ledger are at each place.
    fn look(&self, bucket: &str, prefix: &str) -> Result<Stored> {
        let stored = Stored::download(&self.scene.world.s3, bucket, prefix)?;
        let playlists: Vec<PathBuf> = std::fs::read_dir(stored.folder())?.flatten().map(|entry| entry.path()).collect();
        let playlists: Vec<&PathBuf> = playlists.iter().filter(|path| path.extension().is_some_and(|end| end == "m3u8")).collect();
        ensure!(playlists.len() == 1, "{playlists:?}");
        let playlist = sound(playlists[0])?;
        let ledger: Vec<&str> = stored.manifest.tail.iter().map(|entry| entry.name.as_str()).collect();
        let named: Vec<String> = playlist.segments.iter().map(|segment| file_name(&segment.path)).collect();
        ensure!(named == ledger, "the playlist names {named:?}, the ledger {ledger:?}");
        ensure!(stored.manifest.gaps.is_empty(), "{:?}", stored.manifest.gaps);
        Ok(stored)
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn user(name: &str, place: &str) -> String {
    format!("user-{place}-{name}")
}

fn key(place: &str) -> String {
    format!("key-of-the-{place}")
}

fn places(stored: &Stored) -> Vec<&str> {
    let mut places: Vec<&str> = stored.manifest.tail.iter().map(|entry| entry.at.as_deref().unwrap_or("nowhere")).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn condition<'a>(status: &'a RecordingStatus, kind: &str) -> (&'a str, &'a str) {
    find(&status.conditions, kind).map_or(("absent", ""), |found| (found.status.as_str(), found.reason.as_str()))
}

/// Until a line of `--follow` says so of a condition.
fn wait_for_condition(running: &mut Running, kind: &str, truth: &str) -> Result<()> {
    let log = running.local.process.log_path().to_owned();
    let told = |line: &str| {
        let status: RecordingStatus = serde_json::from_str(line).unwrap_or_default();
        condition(&status, kind).0 == truth
    };
    running
        .local
        .process
        .wait_until(&format!("{kind} {truth}"), LIMIT, || std::fs::read_to_string(&log).ok()?.lines().any(told).then_some(()))
}

#[test]
fn a_primary_that_refuses_for_good_leaves_a_whole_recording_in_the_backup() -> Result<()> {
    let world = World::start()?;
    let play = Play::new(&world, "refused-for-good")?;
    play.refuse("primary")?;
    let mut running = play.record(DRAIN)?;
    let zoe = play.scene.zoe()?;
    play.wait_for_segments_in_the_backup(2)?;
    running.wait_to_be_degraded(Code::UploaderFailed)?;
    leave(zoe)?;
    let over = running.wait()?;
    ensure!(over.exit_code == exit::LOCAL_COMPLETED, "{}", over.said);
    let status = over.status.context("a status")?;
    ensure!(status.phase == Some(Phase::Completed), "{status:?}");
    ensure!(condition(&status, UPLOADED) == ("False", "BackedUp"), "{:?}", status.conditions);
    ensure!(condition(&status, BACKED_UP).0 == "True", "{:?}", status.conditions);
    let progress = status.progress.context("progress")?;
    ensure!(progress.uploaded_files == 0 && progress.backup_files == progress.recorded_files && progress.backup_files > 1, "{progress:?}");
    ensure!(play.scene.world.s3.list(play.scene.name)?.is_empty(), "it could not have been written");
    let stored = play.look(&play.backup, "spare")?;
    ensure!(places(&stored) == ["Backup"], "{:?}", places(&stored));
    Ok(())
}

#[test]
fn what_lies_in_the_backup_is_moved_when_the_primary_is_back() -> Result<()> {
    let world = World::start()?;
    let play = Play::new(&world, "away-and-back")?;
    let mut running = play.record("")?;
    let zoe = play.scene.zoe()?;
    play.scene.wait_for_segments(1)?;
    play.refuse("primary")?;
    play.wait_for_segments_in_the_backup(2)?;
    wait_for_condition(&mut running, BACKED_UP, "True")?;
    play.allow("primary")?;
    wait_until("an empty backup", LIMIT, || play.backup_keys().is_empty().then_some(()))?;
    play.scene.wait_for_segments(1)?;
    leave(zoe)?;
    moved(&play, running)
}

#[test]
fn what_lies_in_the_backup_is_moved_after_the_end_too() -> Result<()> {
    let world = World::start()?;
    let play = Play::new(&world, "back-after-the-end")?;
    let mut running = play.record("")?;
    let zoe = play.scene.zoe()?;
    play.scene.wait_for_segments(1)?;
    play.refuse("primary")?;
    play.wait_for_segments_in_the_backup(1)?;
    leave(zoe)?;
    running.local.process.wait_for_line("\"phase\":\"Stopping\"", LIMIT)?;
    play.allow("primary")?;
    moved(&play, running)
}

/// All is in the primary, the backup is empty, and the status says so.
fn moved(play: &Play<'_>, running: Running) -> Result<()> {
    let over = running.wait()?;
    let status = over.status.with_context(|| over.said.clone())?;
    ensure!(over.exit_code == exit::LOCAL_COMPLETED, "{}", over.said);
    ensure!(condition(&status, UPLOADED).0 == "True" && condition(&status, BACKED_UP) == ("False", "Moved"), "{:?}", status.conditions);
    ensure!(play.backup_keys().is_empty(), "{:?}", play.backup_keys());
    let stored = play.look(play.scene.name, "acme")?;
    stored.manifest_is_true()?;
    ensure!(places(&stored) == ["Primary"], "{:?}", places(&stored));
    Ok(())
}

#[test]
fn when_both_refuse_it_fails_says_what_is_where_and_keeps_the_spool() -> Result<()> {
    let world = World::start()?;
    let play = Play::new(&world, "both-refuse")?;
    let mut running = play.record(DRAIN)?;
    let zoe = play.scene.zoe()?;
    play.scene.wait_for_segments(1)?;
    play.refuse("primary")?;
    play.wait_for_segments_in_the_backup(1)?;
    play.refuse("backup")?;
    running.wait_to_be_degraded(Code::BackupFailed)?;
    leave(zoe)?;
    let ended = running.end()?;
    ensure!(ended.exit_code == exit::LOCAL_FAILED, "{}", ended.said);
    let status = ended.status()?;
    let failure = status.failure.as_ref().context("a failure")?;
    ensure!((failure.code, failure.number) == (Code::UploaderFailed, Some(439)), "{failure:?}");
    let progress = status.progress.clone().context("progress")?;
    let neither = progress.recorded_files - progress.uploaded_files - progress.backup_files;
    ensure!(progress.uploaded_files > 0 && progress.backup_files > 0 && neither > 0, "{progress:?}");
    let told = format!(
        "of {} files {} are in the storage, {} in the backup storage, {neither} in neither",
        progress.recorded_files, progress.uploaded_files, progress.backup_files
    );
    ensure!(failure.message.as_ref().is_some_and(|message| message.contains(&told)), "{told}: {failure:?}");
    ensure!(
        condition(status, UPLOADED).0 == "False" && condition(status, BACKED_UP) == ("False", "UploaderFailed"),
        "{:?}",
        status.conditions
    );
    let spool = ended.kept().context("the state folder is gone")?.join("spool/segments");
    let kept = std::fs::read_dir(&spool)?.count();
    ensure!(kept as i64 == neither, "{kept} files are kept, {neither} are nowhere else");
    Ok(())
}
