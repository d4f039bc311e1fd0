//! Endings of the connection to the SFU.

use crate::orders::continued_after;
use crate::scene::{Over, Scene, leave};
use anyhow::{Result, ensure};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::stored::Stored;
use std::time::{Duration, Instant};

/// How long the server is away.
const OUTAGE: Duration = Duration::from_secs(20);
/// Beyond the outage: its detection, the longest pause between two tries (3 s), and Zoe's own way back into the room.
const BACK_WITHIN: Duration = Duration::from_secs(12);
/// api.md: after this long without a connection the recording ends.
const RECONNECT_WINDOW: Duration = Duration::from_secs(60);

pub fn away_for_a_while(scene: &mut Scene) -> Result<Over> {
    let mut livekit = LiveKit::start()?;
    let running = scene.record(&scene.manifest_for(&livekit, "idleTimeoutSeconds: 8"), &[])?;
    let mut before = scene.zoe_at(&livekit)?;
    scene.wait_for_segments(1)?;
    livekit.kill();
    before.kill();
    // The outage itself is what is tested; nothing is waited for.
    std::thread::sleep(OUTAGE);
    livekit.restart()?;
    let zoe = scene.zoe_at(&livekit)?;
    scene.wait_for_segments(2)?;
    leave(zoe)?;
    let over = running.wait()?;
    continued_after(scene, "Disconnected")?;
    let gap = &Stored::download(&scene.world.s3, scene.name, "acme")?.manifest.gaps[0];
    let hole = Duration::from_millis((gap.duration90k / 90) as u64);
    ensure!(hole >= OUTAGE - Duration::from_secs(1) && hole <= OUTAGE + BACK_WITHIN, "a hole of {hole:?}");
    Ok(over)
}

pub fn gone_for_good(scene: &mut Scene) -> Result<Over> {
    let mut livekit = LiveKit::start()?;
    let running = scene.record(&scene.manifest_for(&livekit, ""), &[])?;
    let mut zoe = scene.zoe_at(&livekit)?;
    scene.wait_for_segments(1)?;
    livekit.kill();
    let since = Instant::now();
    zoe.kill();
    let over = running.wait()?;
    let took = since.elapsed();
    ensure!(took >= RECONNECT_WINDOW && took < RECONNECT_WINDOW + BACK_WITHIN, "it ended after {took:?}");
    let gaps = Stored::download(&scene.world.s3, scene.name, "acme")?.manifest.gaps;
    ensure!(gaps.len() == 1 && gaps[0].reason == "Disconnected" && !gaps[0].open, "{gaps:?}");
    Ok(over)
}
