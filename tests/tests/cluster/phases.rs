//! The end is ordered before there is media, and again while what is left is being stored. (Pending: `lifecycle.rs`; Recording: `main.rs`.)

use crate::world::{FINISH, FPS, START, World, at_once, is_whole};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::conditions;
use recording_crds::status::{Phase, RecordingStatus};
use recording_tests::harness::cluster::GATEWAY;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::local::livekit_to_s3;
use serde_json::json;
use std::time::{Duration, Instant};

/// [D] 10 s until an order is carried out where nothing is to be stored; thrice that on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(30);
/// [D] `onDelete: Cancel` waits 10 s for the recorder; thrice that on a busy machine.
const CANCELLED: Duration = Duration::from_secs(30);
/// Longer than any of these tests looks at it.
const LONG: u32 = 600;

/// Nobody listens there: a recorder tries for 90 s.
const NO_SFU: &str = "ws://10.213.0.1:9";

/// Two that are joining, two that wait in an empty room; one of each is stopped, the other deleted.
#[test]
fn what_is_ended_while_it_starts_has_recorded_nothing_and_goes_at_once() -> Result<()> {
    let world = &World::new("starting")?;
    let livekit = LiveKit::start_on(GATEWAY.into())?;
    let mut cases = Vec::new();
    for (phase, reason) in [("joining", "Connecting"), ("empty", "WaitingForMedia")] {
        for order in ["stop", "delete"] {
            let name = format!("{phase}-{order}");
            world.s3.create_bucket(&name)?;
            let manifest = livekit_to_s3(&livekit, &world.s3, &name, &name, LONG, 2);
            let unreachable = manifest.replace(&livekit.url(), NO_SFU);
            world.ns.apply(if phase == "joining" { &unreachable } else { &manifest })?;
            cases.push((name, reason));
        }
    }
    for (name, reason) in &cases {
        starting(world, name, reason)?;
    }
    at_once(&[
        &|| stopped_at_once(world, "joining-stop"),
        &|| stopped_at_once(world, "empty-stop"),
        &|| deleted_at_once(world, "joining-delete"),
        &|| deleted_at_once(world, "empty-delete"),
    ])
}

fn starting(world: &World, name: &str, reason: &str) -> Result<()> {
    let seen = || {
        let status = world.status(name).ok()?;
        let why = &conditions::find(&status.conditions, conditions::RECORDING)?.reason;
        (status.phase == Some(Phase::Starting) && why == reason).then_some(())
    };
    wait_until(&format!("{name} to be Starting, {reason}"), START, seen).with_context(|| format!("{:?}", world.status(name)))
}

fn stopped_at_once(world: &World, name: &str) -> Result<()> {
    let ordered = Instant::now();
    world.stop(name)?;
    let ended = || world.status(name).ok().filter(|status| status.phase.is_some_and(Phase::is_final));
    let status = wait_until(&format!("the end of {name}"), AT_ONCE, ended).with_context(|| format!("{:?}", world.status(name)))?;
    println!("{name}: {:?} after {:.1} s", status.phase, ordered.elapsed().as_secs_f64());
    let result = status.result.clone().with_context(|| format!("{name}: {status:?}"))?;
    ensure!(result.reason == Code::StopRequested, "{name}: {result:?}");
    let failure = status.failure.with_context(|| format!("{name}: nothing was recorded, {result:?}"))?;
    ensure!(failure.code == Code::NoRecordedData && status.attempt.is_some_and(|a| a.number == 1), "{name}: {failure:?}");
    Ok(())
}

fn deleted_at_once(world: &World, name: &str) -> Result<()> {
    let ordered = Instant::now();
    world.ns.kubectl(&["delete", "rec", name, "--wait=false"])?;
    world.is_gone(name, AT_ONCE)?;
    println!("{name}: gone after {:.1} s", ordered.elapsed().as_secs_f64());
    let media: Vec<_> = world.s3.list(name)?.into_iter().filter(|key| !key.ends_with(".json")).collect();
    ensure!(media.is_empty(), "{name}: {media:?}");
    Ok(())
}

/// The store is away while three recordings are stopped. One only waits, one is deleted, one is deleted in a hurry; then the store is back.
#[test]
fn what_is_ended_again_while_it_is_stored_ends_as_the_last_order_says() -> Result<()> {
    let mut world = World::new("stopping")?;
    const NAMES: [&str; 3] = ["stopped", "deleted", "hurried"];
    for name in NAMES {
        world.record(name, LONG)?;
    }
    let promised = NAMES.iter().map(|name| world.three_segments(name)).collect::<Result<Vec<_>>>()?;
    world.s3.kill();
    for name in NAMES {
        world.stop(name)?;
    }
    for name in NAMES {
        wait_until(&format!("{name} to be Stopping"), START, || stopping(&world, name))
            .with_context(|| format!("{:?}", world.status(name)))?;
    }
    // The same once more changes nothing, something else is taken.
    world.stop("stopped")?;
    world.ns.kubectl(&["delete", "rec", "deleted", "--wait=false"])?;
    world.patch("hurried", &json!({"onDelete": "Cancel"}))?;
    let ordered = Instant::now();
    world.ns.kubectl(&["delete", "rec", "hurried", "--wait=false"])?;
    world.is_gone("hurried", CANCELLED)?;
    println!("hurried: gone after {:.1} s, the store is away", ordered.elapsed().as_secs_f64());
    for name in ["stopped", "deleted"] {
        wait_until(&format!("{name} to say what it waits for"), START, || waits_for_storage(&world, name))
            .with_context(|| format!("{:?}", world.status(name)))?;
    }
    world.s3.restart()?;
    world.is_gone("deleted", FINISH)?;
    world.wait("stopped", "condition=Complete", FINISH)?;
    world.completed("stopped", Code::StopRequested, 1)?;
    for (name, promised) in NAMES.iter().zip(&promised) {
        let kept = world.kept(name, promised)?;
        ensure!(kept.endlist || *name == "hurried", "{name}: the playlist is left open");
    }
    for name in ["stopped", "deleted"] {
        is_whole(&world.stored(name)?, 5 * FPS)?;
    }
    Ok(())
}

/// Counters may be a minute old; what is wrong is said at once.
fn waits_for_storage(world: &World, name: &str) -> Option<()> {
    let status = stopping(world, name)?;
    let degraded = conditions::find(&status.conditions, conditions::DEGRADED)?;
    let stored = conditions::is_true(&status.conditions, conditions::UPLOADED);
    (degraded.status == "True" && degraded.reason == Code::UploaderFailed.as_str() && !stored).then_some(())
}

fn stopping(world: &World, name: &str) -> Option<RecordingStatus> {
    world.status(name).ok().filter(|status| status.phase == Some(Phase::Stopping))
}
