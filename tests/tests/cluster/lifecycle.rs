//! Every way out of the world: stopped, deleted, expired, the namespace or the operator gone. Objects go, media stays, nothing hangs.

use crate::world::{FINISH, FPS, RELEASE, START, SYSTEM, World, at_once, install, is_whole, restarts, uris};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_tests::harness::process::wait_until;
use std::time::{Duration, Instant};

/// [D] 10 s until an order is carried out where nothing is to be stored; thrice that on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(30);
/// Longer than any of these tests looks at it.
const LONG: u32 = 600;

/// No node has it.
const NOWHERE: &str = "  pod: {nodeSelector: {example.com/none: none}}\n  storage:\n    s3:";

#[test]
fn however_a_recording_is_ended_its_objects_go_and_its_media_stays() -> Result<()> {
    let world = &World::new("ends")?;
    let doomed = World::new("doomed")?;
    for name in ["foreground", "orphan"] {
        world.record(name, LONG)?;
    }
    doomed.record("namespace", LONG)?;
    let brief = world.room("ttl", 5)?;
    world.ns.apply(&brief.replace("  output:", "  ttlSecondsAfterFinished: 1\n  output:"))?;
    for name in ["stop-pending", "delete-pending"] {
        world.ns.apply(&world.room(name, LONG)?.replace("  storage:\n    s3:", NOWHERE))?;
    }
    at_once(&[
        &|| deleted_in_cascade(world, "foreground"),
        &|| deleted_in_cascade(world, "orphan"),
        &|| namespace_goes(&doomed),
        &|| expires(world),
        &|| ended_before_it_began(world),
    ])
}

/// Whichever way the garbage collector is told to go about it.
fn deleted_in_cascade(world: &World, name: &str) -> Result<()> {
    let promised = world.three_segments(name)?;
    let began = Instant::now();
    world.ns.kubectl(&["delete", "rec", name, &format!("--cascade={name}"), "--timeout=90s"])?;
    println!("{name}: gone after {:.1} s", began.elapsed().as_secs_f64());
    wait_until("its pods to go with it", START, || world.pods(name).ok().filter(Vec::is_empty))?;
    let stored = world.stored(name)?;
    let kept = stored.only_playlist()?;
    ensure!(uris(&kept).starts_with(&uris(&promised)), "{name}: promised {promised:?}, kept {kept:?}");
    // The collector deletes pods at once in the foreground: then nobody is left to close the playlist.
    ensure!(kept.endlist || name == "foreground", "{name}: the playlist is left open");
    println!("{name}: {} segments, ended: {}", kept.segments.len(), kept.endlist);
    Ok(())
}

/// Nothing can be created in it any more; what runs ends with SIGTERM.
fn namespace_goes(world: &World) -> Result<()> {
    let promised = world.three_segments("namespace")?;
    let began = Instant::now();
    world.cluster.kubectl(&["delete", "namespace", "doomed", "--timeout=120s"])?;
    println!("namespace: gone after {:.1} s", began.elapsed().as_secs_f64());
    // Nobody is left to close it: what it names is there all the same, and the manifest is true.
    world.stored("namespace")?;
    let kept = world.kept("namespace", &promised)?;
    println!("namespace: {} segments, ended: {}", kept.segments.len(), kept.endlist);
    Ok(())
}

fn expires(world: &World) -> Result<()> {
    world.is_gone("ttl", START + FINISH)?;
    is_whole(&world.stored("ttl")?, 4 * FPS)
}

fn ended_before_it_began(world: &World) -> Result<()> {
    for name in ["stop-pending", "delete-pending"] {
        wait_until("a pod that no node takes", START, || world.pod(name).ok())?;
    }
    world.stop("stop-pending")?;
    let status = wait_until("its end", AT_ONCE, || world.status("stop-pending").ok().filter(|s| s.phase == Some(Phase::Failed)))?;
    let failure = status.failure.context("a failure")?;
    ensure!(failure.code == Code::NoRecordedData && status.result.is_some_and(|r| r.reason == Code::StopRequested), "{failure:?}");
    world.ns.kubectl(&["delete", "rec", "delete-pending", &format!("--timeout={}s", AT_ONCE.as_secs())])?;
    wait_until("its pod to go with it", START, || world.pods("delete-pending").ok().filter(Vec::is_empty)).map(drop)
}

/// The definition stays, the recorder goes on, and whoever comes back takes it up. What was ended meanwhile ends then.
#[test]
fn the_operator_is_removed_and_installed_again_while_it_records() -> Result<()> {
    let world = &World::new("reinstall")?;
    world.record("through", 40)?;
    for name in ["stopped", "deleted"] {
        world.record(name, LONG)?;
    }
    for name in ["through", "stopped", "deleted"] {
        world.three_segments(name)?;
    }
    let before = world.pod("through")?;
    world.cluster.helm(&["uninstall", RELEASE, "-n", SYSTEM, "--wait", "--timeout", "60s"])?;
    world.stop("stopped")?;
    world.ns.kubectl(&["delete", "rec", "deleted", "--wait=false"])?;
    let pod = world.pod("through")?;
    ensure!(pod.metadata.uid == before.metadata.uid && restarts(&pod) == 0, "the recorder's pod was touched: {pod:?}");
    install(world.cluster)?;
    let back = Instant::now();
    world.is_gone("deleted", FINISH)?;
    world.wait("stopped", "condition=Complete", FINISH)?;
    println!("both orders were carried out {:.1} s after the operator was back", back.elapsed().as_secs_f64());
    world.completed("stopped", Code::StopRequested, 1)?;
    for name in ["stopped", "deleted"] {
        is_whole(&world.stored(name)?, 6 * FPS)?;
    }
    world.wait("through", "condition=Complete", FINISH)?;
    world.completed("through", Code::NoUsers, 1)?;
    is_whole(&world.stored("through")?, 39 * FPS)?;
    applied_again_changes_nothing(world)
}

fn applied_again_changes_nothing(world: &World) -> Result<()> {
    let generation = || world.ns.kubectl(&["get", "rec", "through", "-o", "jsonpath={.metadata.generation} {.metadata.resourceVersion}"]);
    let before = generation()?;
    let said = world.ns.apply(&world.room_again("through", 40))?;
    ensure!(said.contains("unchanged") && generation()? == before, "{said}");
    Ok(())
}
