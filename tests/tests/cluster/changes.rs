//! What may be changed while it records takes effect. (`desiredState`: `main.rs`; `onDelete`: `phases.rs`; `subscription`: `subscriptions.rs`; what may not
//! be changed: `definition.rs`.)

use crate::world::{FINISH, FPS, IDLE, START, World, at_once, is_whole};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_tests::harness::process::wait_until;
use serde_json::json;
use std::time::{Duration, Instant};

/// Longer than any of these tests looks at it.
const LONG: u32 = 600;
/// Beyond what was recorded when the change is made.
const SHORT: u32 = 15;
/// The store is away; as long as it is tried.
const DRAIN: u32 = 5;
/// [D] 10 s after the new time; thrice that on a busy machine.
const IN_TIME: Duration = Duration::from_secs(30);

#[test]
fn what_may_be_changed_takes_effect_while_it_records() -> Result<()> {
    let world = &World::new("changes")?;
    let mut away = World::new("changes-away")?;
    let patient = world.room("idle", 4)?.replace(&format!("idleTimeoutSeconds: {IDLE}"), &format!("idleTimeoutSeconds: {LONG}"));
    world.ns.apply(&patient)?;
    world.record("max", LONG)?;
    world.record("ttl", 4)?;
    away.record("drain", LONG)?;
    at_once(&[&|| idle(world), &|| max(world), &|| ttl(world)])?;
    drain(&mut away)
}

/// Everybody has left, and nobody waits any more.
fn idle(world: &World) -> Result<()> {
    wait_until("everybody to have left", FINISH, || {
        world.status("idle").ok().filter(|s| s.first_media_time.is_some() && s.participant_count == Some(0))
    })?;
    ensure!(world.status("idle")?.phase == Some(Phase::Recording), "it waits");
    let changed = Instant::now();
    world.patch("idle", &json!({"idleTimeoutSeconds": IDLE}))?;
    world.wait("idle", "condition=Complete", Duration::from_secs(IDLE.into()) + IN_TIME)?;
    println!("idleTimeoutSeconds: ended {:.1} s after it became {IDLE}", changed.elapsed().as_secs_f64());
    world.completed("idle", Code::NoUsers, 1)?;
    is_whole(&world.stored("idle")?, 3 * FPS)
}

fn max(world: &World) -> Result<()> {
    world.three_segments("max")?;
    world.patch("max", &json!({"maxDurationSeconds": SHORT}))?;
    world.wait("max", "condition=Complete", Duration::from_secs(SHORT.into()) + IN_TIME)?;
    let status = world.completed("max", Code::MaxDurationReached, 1)?;
    let recorded = status.progress.context("progress")?.recorded_seconds;
    ensure!((i64::from(SHORT) - 2..=i64::from(SHORT) + 2).contains(&recorded), "{recorded} s were recorded");
    is_whole(&world.stored("max")?, u64::from(SHORT - 2) * FPS)
}

/// Asked for when it was over already.
fn ttl(world: &World) -> Result<()> {
    world.wait("ttl", "condition=Complete", START + FINISH)?;
    world.patch("ttl", &json!({"ttlSecondsAfterFinished": 1}))?;
    world.is_gone("ttl", IN_TIME)?;
    is_whole(&world.stored("ttl")?, 3 * FPS)
}

/// Nobody waits an hour for a store that does not come back.
fn drain(world: &mut World) -> Result<()> {
    let promised = world.three_segments("drain")?;
    world.s3.kill();
    world.stop("drain")?;
    wait_until("it to be Stopping", START, || world.status("drain").ok().filter(|status| status.phase == Some(Phase::Stopping)))?;
    world.patch("drain", &json!({"drainTimeoutSeconds": DRAIN}))?;
    world.wait("drain", "condition=Failed", Duration::from_secs(DRAIN.into()) + IN_TIME)?;
    let status = world.status("drain")?;
    let failure = status.failure.clone().with_context(|| format!("{status:?}"))?;
    ensure!(failure.code == Code::UploaderFailed && status.phase == Some(Phase::Failed), "{failure:?}");
    world.s3.restart()?;
    world.kept("drain", &promised).map(drop)
}
