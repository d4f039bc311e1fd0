//! Ready-made tokens that run out while the recording goes on.

use crate::scene::{LIMIT, Over, Running, Scene, leave};
use anyhow::{Result, ensure};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::stored::Stored;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The first token's validity.
const SHORT: Duration = Duration::from_secs(12);
const LONG: Duration = Duration::from_secs(3600);
/// The server's second: neither the first token nor what the server itself made of it is worth anything then.
const NEW_SECRET: &str = "another-secret-of-at-least-32-characters";

/// The Secret changes, then the connection breaks: the new token leads back into the room.
pub fn renewed(scene: &mut Scene) -> Result<Over> {
    let mut play = Play::start(scene)?;
    play.livekit.rotate_secret(NEW_SECRET)?;
    put_token(scene, &play.livekit, play.secret.path(), LONG)?;
    let state = play.running.local.state();
    wait_until("the new Secret to be noticed", LIMIT, || log(&state).contains("Secret has changed").then_some(()))?;
    play.break_the_connection()?;
    let zoe = scene.zoe_at(&play.livekit)?;
    scene.wait_for_segments(2)?;
    leave(zoe)?;
    let over = play.running.wait()?;
    let manifest = Stored::download(&scene.world.s3, scene.name, "acme")?.manifest;
    let stays = &manifest.participants[0].stays90k;
    ensure!(manifest.playlists.len() == 1 && stays.len() == 2, "she was recorded before and after: {stays:?}");
    Ok(over)
}

pub fn expired_for_good(scene: &mut Scene) -> Result<Over> {
    let mut play = Play::start(scene)?;
    play.livekit.rotate_secret(NEW_SECRET)?;
    play.break_the_connection()?;
    play.running.wait()
}

/// A recording with a token that has just run out, which nobody notices while the connection holds.
struct Play {
    livekit: LiveKit,
    secret: TempDir,
    running: Running,
    zoe: Process,
}

impl Play {
    fn start(scene: &mut Scene) -> Result<Self> {
        let (livekit, secret) = (LiveKit::start()?, tempfile::tempdir()?);
        scene.forbidden.secret(NEW_SECRET);
        let dies = unix_now() + SHORT;
        put_token(scene, &livekit, secret.path(), SHORT)?;
        let manifest = scene.manifest_for(&livekit, "token: {secretKeyRef: {name: jwt, key: t}}");
        let running = scene.record(&manifest, &["--secret", &format!("jwt={}", secret.path().display())])?;
        let zoe = scene.zoe_at(&livekit)?;
        scene.wait_for_segments(1)?;
        wait_until("the end of the token", LIMIT, || (unix_now() > dies + Duration::from_secs(1)).then_some(()))?;
        Ok(Self { livekit, secret, running, zoe })
    }

    fn break_the_connection(&mut self) -> Result<()> {
        self.livekit.restart()?;
        self.zoe.kill();
        Ok(())
    }
}

/// Into the file of the Secret's key, as an editor or a sync tool would.
fn put_token(scene: &mut Scene, livekit: &LiveKit, folder: &Path, validity: Duration) -> Result<()> {
    let mut claims = livekit.claims(scene.name, "recorder-with-a-token", json!({"canSubscribe": true, "hidden": true}));
    claims["exp"] = (unix_now() + validity).as_secs().into();
    let token = livekit.sign(&claims);
    scene.forbidden.token(&token);
    std::fs::write(folder.join("t.new"), token)?;
    Ok(std::fs::rename(folder.join("t.new"), folder.join("t"))?)
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn log(state: &Path) -> String {
    recording_tests::local::recorder_log(state)
}
