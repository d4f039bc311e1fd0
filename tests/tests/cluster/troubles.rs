//! What keeps a recorder from starting: said with code and remedy in time, waited for without haste, and over by itself when the world is mended.

use crate::world::{CONTROLLER, FINISH, FPS, START, SYSTEM, World, at_once, built_image, chart, image, is_whole, release};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::conditions;
use recording_tests::harness::process::wait_until;
use recording_tests::stored::Stored;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// [D] 15 s until the status names the trouble; twice that on a busy machine.
const SAID: Duration = Duration::from_secs(30);
/// How long looks are counted.
const WATCHED: Duration = Duration::from_secs(30);
/// [D] Six a minute, and one that had begun before.
const LOOKS_MAX: usize = 3 + 1;
const SECONDS: u32 = 5;

#[test]
fn what_keeps_a_recorder_from_starting_is_said_and_waited_for() -> Result<()> {
    let world = &World::new("troubles")?;
    let full = &World::new("full")?;
    full.ns.kubectl(&["create", "quota", "none", "--hard=pods=0"])?;
    world.cluster.remove_image(&image())?;
    let outcome = stuck(world, full);
    world.cluster.tag_image(&built_image(), &image())?;
    outcome?;
    full.ns.kubectl(&["delete", "quota", "none"])?;
    world.cluster.kubectl(&["label", "node", "--all", "example.com/disk=fast"])?;
    let claimed = volume(world)?;
    let completes = |world: &World, name: &str| {
        world.wait(name, "condition=Complete", START + FINISH)?;
        world.completed(name, Code::NoUsers, 1)
    };
    at_once(&[
        &|| completes(world, "image").and_then(|_| is_whole(&world.stored("image")?, 4 * FPS)),
        &|| completes(world, "node").and_then(|_| is_whole(&world.stored("node")?, 4 * FPS)),
        &|| completes(full, "quota").and_then(|_| is_whole(&full.stored("quota")?, 4 * FPS)),
        &|| completes(world, "claim").and_then(|_| is_whole(&Stored::open(claimed.path())?, 4 * FPS)),
    ])
}

/// Who pulls by hand says so, and the kubelet does not even try.
#[test]
fn an_image_that_may_not_be_pulled_is_said_and_waited_for() -> Result<()> {
    let world = &World::new("never")?;
    release(world.cluster, "upgrade", &chart(), &["image.pullPolicy=Never"])?;
    let outcome = not_pulled(world);
    release(world.cluster, "upgrade", &chart(), &["image.pullPolicy=IfNotPresent"])?;
    outcome
}

fn not_pulled(world: &World) -> Result<()> {
    world.cluster.remove_image(&image())?;
    let said = world.record("never", SECONDS).and_then(|()| {
        wait_until("ImageUnavailable", SAID, || says_so(world, "never", Code::ImageUnavailable, "Never").ok())
            .with_context(|| format!("{:?}", world.status("never")))
    });
    world.cluster.tag_image(&built_image(), &image())?;
    said?;
    world.wait("never", "condition=Complete", START + FINISH)?;
    world.completed("never", Code::NoUsers, 1)?;
    is_whole(&world.stored("never")?, 4 * FPS)
}

/// Until now nothing of it can start.
fn stuck(world: &World, full: &World) -> Result<()> {
    let room = |name: &str| world.room(name, SECONDS);
    let s3 = "  storage:\n    s3:";
    world.ns.apply(&room("image")?)?;
    world.ns.apply(&room("node")?.replace(s3, &format!("  pod: {{nodeSelector: {{example.com/disk: fast}}}}\n{s3}")))?;
    let claim = room("claim")?;
    let (spec, _) = claim.split_once(s3).context("storage stands last")?;
    world.ns.apply(&format!("{spec}  storage: {{volume: {{claimName: late}}}}\n"))?;
    full.record("quota", SECONDS)?;
    let applied = Instant::now();
    let cases = [
        (world, "image", Code::ImageUnavailable, "connection refused"),
        (world, "node", Code::Unschedulable, "node"),
        (world, "claim", Code::VolumeUnavailable, "late"),
        (full, "quota", Code::QuotaExceeded, "exceeded quota"),
    ];
    for (world, name, code, says) in cases {
        wait_until(&format!("{name}: {code}"), SAID, || says_so(world, name, code, says).ok())
            .with_context(|| format!("{:?}", world.status(name)))?;
        println!("{name}: {code} within {:.1} s", applied.elapsed().as_secs_f64());
        let table = world.ns.kubectl(&["get", "rec", name])?;
        ensure!(table.contains("Pending"), "{table}");
    }
    std::thread::sleep(WATCHED);
    for (world, name, ..) in cases {
        let looks = looks(world, name)?;
        ensure!((1..=LOOKS_MAX).contains(&looks), "{name} was looked at {looks} times in {WATCHED:?}");
    }
    Ok(())
}

fn says_so(world: &World, name: &str, code: Code, says: &str) -> Result<()> {
    let status = world.status(name)?;
    for type_ in [conditions::RECORDING, conditions::READY, conditions::DEGRADED] {
        let condition = conditions::find(&status.conditions, type_).with_context(|| type_.to_owned())?;
        ensure!(condition.reason == code.as_str(), "{condition:?}");
        ensure!(condition.message.contains(says) && condition.message.contains(code.remedy()), "{condition:?}");
    }
    Ok(())
}

/// How often the controller planned for it of late, by its log.
fn looks(world: &World, name: &str) -> Result<usize> {
    let since = format!("--since={}s", WATCHED.as_secs());
    let log = world.cluster.kubectl(&["logs", "-n", SYSTEM, "-l", CONTROLLER, "--tail=-1", &since])?;
    let object = format!("/{name}.{}", world.ns.name());
    Ok(log.lines().filter(|line| line.contains("planned") && line.contains(&object)).count())
}

/// The claim, and a folder of this machine that anybody may write to.
fn volume(world: &World) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
    let path = folder.path().display();
    let rest = "accessModes: [ReadWriteOnce], storageClassName: \"\"";
    world.ns.apply(&format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: late}}
spec: {{{rest}, capacity: {{storage: 1Gi}}, hostPath: {{path: {path}}}, persistentVolumeReclaimPolicy: Retain}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: late}}
spec: {{{rest}, volumeName: late, resources: {{requests: {{storage: 1Gi}}}}}}
"
    ))?;
    Ok(folder)
}
