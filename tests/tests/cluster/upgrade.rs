//! The release goes back to an older definition and forward again: Recordings, their status and what runs stay as they are.

use crate::world::{FINISH, FPS, World, built_image, chart, image_of, is_whole, release, restarts};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use recording_crds::codes::Code;
use recording_tests::harness::process::run;
use serde_json::Value;
use std::path::PathBuf;

/// The newest field of the spec: an older definition does not know it.
const NEW_FIELD: &str = "backupStorage";
/// Longer than both upgrades take.
const SECONDS: u32 = 60;
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NEXT: &str = "next";

#[test]
fn an_upgrade_of_the_definition_keeps_every_object_and_lets_recorders_be() -> Result<()> {
    let world = &World::new("upgrade")?;
    let folder = tempfile::tempdir()?;
    let older = older_chart(folder.path().join("chart"))?;
    world.record("finished", 5)?;
    world.wait("finished", "condition=Complete", FINISH)?;
    world.record("running", SECONDS)?;
    world.three_segments("running")?;
    let before = (object(world, "finished")?, object(world, "running")?, world.pod("running")?);
    let newer = with_backup(world)?;

    release(world.cluster, "upgrade", &older, &[])?;
    let refused = world.ns.apply(&newer).err().context("an older definition took a field that it does not know")?;
    ensure!(format!("{refused:#}").contains(NEW_FIELD), "{refused:#}");
    release(world.cluster, "upgrade", &chart(), &[])?;
    world.ns.apply(&newer)?;

    for (name, before) in [("finished", &before.0), ("running", &before.1)] {
        let after = object(world, name)?;
        for part in ["/metadata/uid", "/metadata/finalizers", "/spec", "/status/recordingID", "/status/result"] {
            ensure!(after.pointer(part) == before.pointer(part), "{name}, {part}: {before} became {after}");
        }
    }
    let after = object(world, "finished")?;
    ensure!(after["status"] == before.0["status"], "{} became {}", before.0["status"], after["status"]);
    let pod = world.pod("running")?;
    ensure!(pod.metadata.uid == before.2.metadata.uid && restarts(&pod) == 0, "the recorder's pod was touched: {pod:?}");
    for name in ["running", "newer"] {
        world.wait(name, "condition=Complete", FINISH)?;
    }
    let status = world.completed("running", Code::NoUsers, 1)?;
    ensure!(status.gap_count == Some(0), "{status:?}");
    is_whole(&world.stored("running")?, u64::from(SECONDS - 1) * FPS)?;
    world.completed("newer", Code::NoUsers, 1).map(drop)
}

/// Another image: the controllers are new, recorders stay as they are and obey; what begins now is of the new one. Then back again.
#[test]
fn controllers_of_another_image_lead_the_recorders_of_this_one() -> Result<()> {
    let world = &World::new("tags")?;
    world.cluster.tag_image(&built_image(), &image_of(NEXT))?;
    for (name, seconds) in [("through", SECONDS), ("ordered", 600)] {
        world.record(name, seconds)?;
    }
    let before = ["through", "ordered"].map(|name| world.three_segments(name).and_then(|_| world.pod(name)));
    let [through, ordered] = before;
    let (through, ordered) = (through?, ordered?);
    release(world.cluster, "upgrade", &chart(), &[&format!("image.tag={NEXT}")])?;
    world.stop("ordered")?;
    world.wait("ordered", "condition=Complete", FINISH)?;
    world.completed("ordered", Code::StopRequested, 1)?;
    world.record("newer", 600)?;
    world.three_segments("newer")?;
    ensure!(image_in(&world.pod("newer")?) == Some(image_of(NEXT)), "{:?}", world.pod("newer")?);
    release(world.cluster, "upgrade", &chart(), &[])?;
    world.stop("newer")?;
    for (name, reason) in [("newer", Code::StopRequested), ("through", Code::NoUsers)] {
        world.wait(name, "condition=Complete", FINISH)?;
        let status = world.completed(name, reason, 1)?;
        ensure!(status.gap_count == Some(0), "{name}: {status:?}");
    }
    for pod in [&through, &ordered] {
        ensure!(image_in(pod) == Some(image_of(VERSION)) && restarts(pod) == 0, "{pod:?}");
    }
    is_whole(&world.stored("ordered")?, 5 * FPS)?;
    is_whole(&world.stored("newer")?, 5 * FPS)?;
    is_whole(&world.stored("through")?, u64::from(SECONDS - 1) * FPS)
}

fn image_in(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.containers.first()?.image.clone()
}

/// This one with a definition from before the field.
fn older_chart(to: PathBuf) -> Result<PathBuf> {
    run("cp", ["--recursive".into(), chart(), to.clone()])?;
    let file = to.join("files/recordings.yaml");
    let mut definition: Value = serde_yaml::from_str(&std::fs::read_to_string(&file)?)?;
    let spec = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").context("the spec's schema")?;
    spec["properties"].as_object_mut().and_then(|fields| fields.remove(NEW_FIELD)).context(NEW_FIELD)?;
    let rules = spec["x-kubernetes-validations"].as_array_mut().context("rules")?;
    rules.retain(|rule| !rule.to_string().contains(NEW_FIELD));
    std::fs::write(&file, serde_json::to_string(&definition)?)?;
    Ok(to)
}

fn with_backup(world: &World) -> Result<String> {
    world.s3.create_bucket("spare")?;
    let room = world.room("newer", 5)?;
    let (_, s3) = room.split_once("  storage:\n    s3: ").context("storage stands last")?;
    Ok(format!("{room}  {NEW_FIELD}:\n    s3: {}", s3.replace("bucket: newer", "bucket: spare")))
}

fn object(world: &World, name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&world.ns.kubectl(&["get", "rec", name, "-o", "json"])?)?)
}
