//! Endings that the people in the room, or those who run it, bring about.

use crate::scene::{LIMIT, Over, Scene, ZOE, leave};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::stored::Stored;
use serde_json::json;
use std::time::{Duration, Instant};

/// The last packets are out of the delay line, and the last objects are stored.
const TO_END: Duration = Duration::from_secs(15);

pub fn everybody_left(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    leave(zoe)?;
    running.wait()
}

/// LiveKit closes a room 20 s after the last leaver. The recorder joins it anew, and the idle time goes on.
pub fn closed_while_idle(scene: &mut Scene) -> Result<Over> {
    // LiveKit closes it 20 to 30 s after the last leaver: it looks every 10 s.
    let idle = Duration::from_secs(45);
    let running = scene.record(&scene.manifest(&format!("idleTimeoutSeconds: {}", idle.as_secs())), &[])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    let room = || {
        let rooms = scene.world.livekit.room_service("ListRooms", json!({"names": [scene.name]})).ok()?;
        rooms["rooms"][0]["sid"].as_str().map(str::to_owned)
    };
    let first = wait_until("the room", LIMIT, room)?;
    leave(zoe)?;
    let since = Instant::now();
    wait_until("the recorder in a new room", idle, || room().filter(|sid| *sid != first))?;
    let over = running.wait()?;
    let took = since.elapsed();
    ensure!(took >= idle - Duration::from_secs(1) && took < idle + TO_END, "it ended {took:?} after the last leaver");
    let gaps = Stored::download(&scene.world.s3, scene.name, "acme")?.manifest.gaps;
    ensure!(gaps.is_empty(), "nothing was missed: {gaps:?}");
    Ok(over)
}

pub fn nobody_published(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let mut zoe = scene.person(&scene.world.livekit, ZOE, &["--kinds", ""])?;
    zoe.wait_for_line("\"started\"", LIMIT)?;
    leave(zoe)?;
    running.wait()
}

pub fn only_encrypted(scene: &mut Scene) -> Result<Over> {
    let mut running = scene.record(&scene.manifest(""), &["--follow"])?;
    let zoe = scene.person(&scene.world.livekit, ZOE, &["--e2ee", "a key that the recorder does not have"])?;
    running.wait_to_be_degraded(Code::DecryptionFailed)?;
    leave(zoe)?;
    running.wait()
}

pub fn max_duration(scene: &mut Scene) -> Result<Over> {
    let seconds = 5;
    let running = scene.record(&scene.manifest(&format!("maxDurationSeconds: {seconds}")), &[])?;
    let _zoe = scene.zoe()?;
    let over = running.wait()?;
    let ledger = Stored::download(&scene.world.s3, scene.name, "acme")?.manifest.tail;
    let end = ledger.iter().map(|entry| entry.start90k + entry.duration90k).max().context("a segment")?;
    // Sound is cut at the duration, by whole frames of AAC (21 ms).
    ensure!((end - seconds * 90_000).abs() <= 90_000 / 20, "it is {end} ticks long");
    Ok(over)
}

pub fn deleted(scene: &mut Scene) -> Result<Over> {
    ordered_by_the_service(scene, "DeleteRoom", None)
}

pub fn recorder_removed(scene: &mut Scene) -> Result<Over> {
    let identity = |scene: &Scene| scene.recorder_identity();
    ordered_by_the_service(scene, "RemoveParticipant", Some(identity))
}

fn ordered_by_the_service(scene: &mut Scene, method: &str, whom: Option<fn(&Scene) -> Result<String>>) -> Result<Over> {
    let running = scene.record(&scene.manifest("idleTimeoutSeconds: 60"), &[])?;
    let _zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    let mut request = json!({"room": scene.name});
    if let Some(whom) = whom {
        request["identity"] = whom(scene)?.into();
    }
    scene.world.livekit.room_service(method, request)?;
    running.wait()
}

/// An agent, an egress and somebody hidden stay; who counts has left.
pub fn machines_are_nobody(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let kinds = [("agent", json!({"kind": "agent"})), ("egress", json!({"kind": "egress"})), ("hidden", json!({}))];
    let zoe = scene.zoe()?;
    let machines = kinds.map(|(identity, claims)| machine(scene, identity, claims));
    scene.wait_for_segments(1)?;
    leave(zoe)?;
    let over = running.wait()?;
    for machine in machines {
        ensure!(machine?.exit_status().is_none(), "it left before the recording ended");
    }
    let manifest = Stored::download(&scene.world.s3, scene.name, "acme")?.manifest;
    ensure!(manifest.participants.iter().all(|person| person.identity == ZOE), "{:?}", manifest.participants);
    Ok(over)
}

fn machine(scene: &Scene, identity: &str, more: serde_json::Value) -> Result<Process> {
    let livekit = &scene.world.livekit;
    let mut claims = livekit.claims(scene.name, identity, json!({"hidden": identity == "hidden"}));
    if let (Some(claims), serde_json::Value::Object(more)) = (claims.as_object_mut(), more) {
        claims.extend(more);
    }
    let token = livekit.sign(&claims);
    // An agent may speak; what machines say is not recorded.
    let kinds = if identity == "agent" { "a" } else { "" };
    let mut machine = scene.person(livekit, identity, &["--token", &token, "--kinds", kinds])?;
    machine.wait_for_line("\"started\"", LIMIT)?;
    Ok(machine)
}
