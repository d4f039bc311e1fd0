//! The whole product on a real Kubernetes node: chart, controller, recorder pods, and what users see of them.
//!
//! Recordings that do not disturb each other run at the same time; the built-in room wherever LiveKit is not the point.

mod changes;
mod faults;
mod lifecycle;
mod nodes;
mod phases;
mod soak;
mod speed;
mod tenant;
mod troubles;
mod upgrade;
mod world;

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::conditions;
use recording_crds::fixtures::WrongManifests;
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::cluster::GATEWAY;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::local::{composed, livekit_to_s3, publisher, secrets};
use serde_json::Value;
use std::time::Duration;
use world::{CONNECT_TRIES, CONTROLLER, DRAIN_GAP_MAX_SECONDS, FINISH, FPS, GAP_MAX_SECONDS, IDLE, RELEASE, START, SYSTEM, World};
use world::{at_once, installed, is_whole, longest_hole, may, restarts, runs_with_no_rights, uris};

#[test]
fn a_livekit_room_into_s3_and_everything_kubectl_says_of_it() -> Result<()> {
    let world = World::new("room")?;
    let livekit = LiveKit::start_on(GATEWAY.into())?;
    world.s3.create_bucket("standup")?;
    world.ns.apply(&livekit_to_s3(&livekit, &world.s3, "standup", "standup", IDLE, 2))?;
    let mut alice = publisher(&livekit, "standup", "alice", 1, &["--seconds", "12", "--fps", "15"])?;
    world.wait("standup", "condition=Recording", START)?;
    let pod = world.pod("standup")?;
    runs_with_no_rights(&pod)?;
    ensure!(alice.wait(Duration::from_secs(60))?.success(), "{}", alice.log());
    world.wait("standup", "condition=Complete", FINISH)?;

    let status = world.completed("standup", Code::NoUsers, 1)?;
    let table = world.ns.kubectl(&["get", "rec", "standup", "-o", "wide"])?;
    let manifest = status.manifest.clone().context("a manifest")?;
    for word in ["PHASE", "PROGRESS", "MANIFEST", "NODE", "Completed", "100", manifest.as_str(), "node1"] {
        ensure!(table.contains(word), "`kubectl get rec -o wide` does not say {word}: {table}");
    }
    let stored = world.stored("standup")?;
    ensure!(stored.folder().join(&manifest).is_file(), "{manifest} is not stored");
    is_whole(&stored, 8 * FPS)
}

#[test]
fn stop_delete_and_a_controller_that_dies() -> Result<()> {
    let world = &World::new("orders")?;
    for name in ["stopped", "deleted", "unwatched", "unseen"] {
        // The first two end by order, long before everybody has left.
        let seconds = match name {
            "unwatched" => 25,
            "unseen" => 14,
            _ => 600,
        };
        world.record(name, seconds)?;
    }
    for name in ["stopped", "deleted", "unwatched", "unseen"] {
        world.wait(name, "condition=Recording", START)?;
    }
    a_controller_that_dies_changes_nothing(world)?;
    at_once(&[&|| stopped(world), &|| deleted(world), &|| unwatched(world)])
}

/// Gone while two recordings end, one of them unseen; then it is back.
fn a_controller_that_dies_changes_nothing(world: &World) -> Result<()> {
    let before = world.pod("unwatched")?;
    let scale = |replicas: &str| world.cluster.kubectl(&["-n", SYSTEM, "scale", &format!("deployment/{RELEASE}"), replicas]);
    scale("--replicas=0")?;
    world.cluster.kubectl(&["-n", SYSTEM, "wait", "pod", "-l", CONTROLLER, "--for=delete", "--timeout=60s"])?;
    wait_until("the unseen recording's recorder to end by itself", FINISH, || {
        let pod = world.pod("unseen").ok()?;
        pod.status?.container_statuses?.first()?.state.as_ref()?.terminated.as_ref().map(drop)
    })?;
    ensure!(world.status("unseen")?.phase == Some(Phase::Recording), "nobody was there to say that it has ended");
    scale("--replicas=1")?;
    world.cluster.kubectl(&["-n", SYSTEM, "rollout", "status", &format!("deployment/{RELEASE}"), "--timeout=60s"])?;
    let after = world.pod("unwatched")?;
    ensure!(after.metadata.uid == before.metadata.uid && restarts(&after) == 0, "the recorder's pod was touched: {after:?}");
    world.wait("unseen", "condition=Complete", FINISH)?;
    world.completed("unseen", Code::NoUsers, 1)?;
    is_whole(&world.stored("unseen")?, 13 * FPS)
}

fn stopped(world: &World) -> Result<()> {
    world.stop("stopped")?;
    world.wait("stopped", "condition=Complete", FINISH)?;
    world.completed("stopped", Code::StopRequested, 1)?;
    is_whole(&world.stored("stopped")?, 5 * FPS)
}

fn deleted(world: &World) -> Result<()> {
    world.ns.kubectl(&["delete", "rec", "deleted", "--timeout=90s"])?;
    // At this moment, not some time later.
    let stored = world.stored("deleted")?;
    let left = world.ns.kubectl(&["get", "rec", "deleted", "--ignore-not-found", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    is_whole(&stored, 5 * FPS)?;
    wait_until("its pods to go with it", START, || world.pods("deleted").ok().filter(Vec::is_empty)).map(drop)
}

fn unwatched(world: &World) -> Result<()> {
    world.wait("unwatched", "condition=Complete", FINISH)?;
    let status = world.completed("unwatched", Code::NoUsers, 1)?;
    ensure!(status.gap_count == Some(0), "{status:?}");
    is_whole(&world.stored("unwatched")?, 24 * FPS)
}

#[test]
fn a_recorder_that_is_killed_or_drained_goes_on_in_the_same_playlist() -> Result<()> {
    let world = &World::new("crash")?;
    // The room begins anew with the process that makes it.
    for name in ["killed", "drained"] {
        world.record(name, 14)?;
        world.ns.apply(&composed(&world.room(&format!("{name}-composed"), 14)?, FPS))?;
    }
    let keyless = world.room("keyless", 6)?.replace("{name: bucket}", "{name: late}");
    world.ns.apply(&keyless)?;
    at_once(&[
        &|| killed(world, "killed"),
        &|| killed(world, "killed-composed"),
        &|| drained(world, "drained"),
        &|| drained(world, "drained-composed"),
        &|| keyless_until_the_secret_comes(world),
    ])
}

fn killed(world: &World, name: &str) -> Result<()> {
    let before = world.three_segments(name)?;
    let pod = world.pod(name)?.metadata.name.context("a pod's name")?;
    world.cluster.kill_container(world.ns.name(), &pod, "recorder")?;
    wait_until("the kubelet to restart it", START, || world.pod(name).ok().filter(|pod| restarts(pod) == 1))?;
    world.wait(name, "condition=Complete", FINISH)?;
    goes_on(world, name, 1, &before, GAP_MAX_SECONDS)
}

/// As by `kubectl drain`: the pod is evicted.
fn drained(world: &World, name: &str) -> Result<()> {
    let before = world.three_segments(name)?;
    let pod = world.pod(name)?.metadata.name.context("a pod's name")?;
    world.evict(&pod)?;
    world.wait(name, "jsonpath={.status.attempt.number}=2", START)?;
    world.wait(name, "condition=Complete", FINISH)?;
    goes_on(world, name, 2, &before, DRAIN_GAP_MAX_SECONDS)
}

/// What was stored before is still promised; after it a hole of known length and cause, then the rest.
fn goes_on(world: &World, name: &str, attempt: i32, before: &Playlist, gap_max: i64) -> Result<()> {
    let status = world.completed(name, Code::NoUsers, attempt)?;
    let gap = status.last_gap.clone().with_context(|| format!("no gap: {status:?}"))?;
    ensure!(status.gap_count.is_some_and(|n| n >= 1) && !gap.reason.is_empty(), "{status:?}");
    ensure!(status.gap_seconds.is_some_and(|s| (1..=gap_max).contains(&s)), "{status:?}");
    let stored = world.stored(name)?;
    let after = stored.only_playlist()?;
    ensure!(uris(&after).starts_with(&uris(before)), "promised: {before:?}, kept: {:?}", after);
    ensure!(after.segments.iter().any(|s| s.discontinuity), "{:?}", after);
    let hole = longest_hole(&after)?;
    ensure!(hole > 0.0 && hole <= gap_max as f64, "a hole of {hole} s");
    let video = content::video(&after)?;
    let told = video.frames.iter().filter(|frame| frame.code.is_some()).count() as u64;
    ensure!(video.undecodable == 0 && told >= (13 + 5) * FPS, "{told} pictures, {} undecodable", video.undecodable);
    println!("{name}: {hole:.2} s are missing, {told} pictures are there; {gap:?}");
    Ok(())
}

fn keyless_until_the_secret_comes(world: &World) -> Result<()> {
    wait_until("the status to say which Secret is missing", START, || {
        let conditions = world.status("keyless").ok()?.conditions;
        let ready = conditions::find(&conditions, conditions::READY)?;
        (ready.reason == Code::SecretNotFound.as_str() && ready.message.contains("late")).then_some(())
    })?;
    world.ns.apply(&secrets("none", "none", &world.s3).replace("name: bucket", "name: late"))?;
    world.wait("keyless", "condition=Complete", FINISH)?;
    world.completed("keyless", Code::NoUsers, 1)?;
    is_whole(&world.stored("keyless")?, 5 * FPS)
}

#[test]
fn wrong_worlds_are_failures_with_code_number_and_remedy() -> Result<()> {
    let world = &World::new("wrong")?;
    let livekit = LiveKit::start_on(GATEWAY.into())?;
    let wrong_key = "apiVersion: v1\nkind: Secret\nmetadata: {name: wrong}\nstringData: {LIVEKIT_API_KEY: APIkeyOfTheHarness, LIVEKIT_API_SECRET: not-the-secret-that-the-server-has!!}\n";
    world.s3.create_bucket("media")?;
    world.ns.apply(&secrets(livekit.api_key(), livekit.api_secret(), &world.s3))?;
    world.ns.apply(wrong_key)?;
    for (name, bucket) in [("key", "media"), ("nobody", "media"), ("bucket", "nowhere"), ("host", "media")] {
        let manifest = livekit_to_s3(&livekit, &world.s3, name, bucket, IDLE, 2);
        let recording = manifest.rsplit("---\n").next().context("the Recording stands last")?;
        let recording = match name {
            "key" => recording.replace("apiKeySecretRef: {name: livekit}", "apiKeySecretRef: {name: wrong}"),
            "host" => recording.replace(&livekit.url(), "ws://sfu.invalid:7880"),
            _ => recording.to_owned(),
        };
        world.ns.apply(&recording)?;
    }
    let expected = [
        ("key", Code::TokenInvalid, 110),
        ("nobody", Code::NoRecordedData, 435),
        ("bucket", Code::InvalidParameter, 432),
        ("host", Code::ConnectError, 430),
    ];
    for (name, code, number) in expected {
        world.wait(name, "condition=Failed", CONNECT_TRIES + FINISH)?;
        let status = world.status(name)?;
        let failure = status.failure.clone().with_context(|| format!("{name}: {status:?}"))?;
        ensure!(status.phase == Some(Phase::Failed), "{name}: {status:?}");
        ensure!(failure.code == code && failure.number == Some(number), "{name}: {failure:?}");
        ensure!(failure.remedy.is_some_and(|remedy| remedy.len() > 10), "{name}: no remedy");
        ensure!(!conditions::is_true(&status.conditions, conditions::COMPLETE), "{name}: {:?}", status.conditions);
        let table = world.ns.kubectl(&["get", "rec", name])?;
        ensure!(table.contains("Failed") && table.contains(code.as_str()), "{table}");
        // The last pod of a failure stays, for its log.
        let log = world.ns.kubectl(&["logs", &world.pod(name)?.metadata.name.unwrap_or_default()])?;
        ensure!(!log.is_empty() && !log.contains("not-the-secret"), "{name}: {log}");
    }
    let said = world.status("bucket")?.failure.and_then(|failure| failure.message).unwrap_or_default();
    ensure!(said.contains("bucket nowhere"), "{said}");
    Ok(())
}

#[test]
fn every_wrong_manifest_is_refused_by_the_api_server_with_the_field_and_the_fix() -> Result<()> {
    let world = World::new("refused")?;
    let table = WrongManifests::load();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("manifest.json");
    let apply = |manifest: &Value, flags: &[&str]| -> Result<String> {
        let mut manifest = manifest.clone();
        manifest["metadata"]["namespace"] = world.ns.name().into();
        std::fs::write(&file, serde_json::to_vec(&manifest)?)?;
        let file = file.display().to_string();
        world.cluster.kubectl(&[&["apply", "-f", &file], flags].concat())
    };
    let mut complaints = Vec::new();
    let mut check = |updates: bool| {
        for wrong in table.wrong.iter().filter(|wrong| wrong.update == updates) {
            match apply(&table.manifest(wrong), &["--dry-run=server"]) {
                Ok(said) => complaints.push(format!("{}: accepted: {said}", wrong.case)),
                Err(error) => {
                    let said = format!("{error:#}").to_lowercase();
                    for expected in [&wrong.names, &wrong.says] {
                        if !said.contains(&expected.to_lowercase()) {
                            complaints.push(format!("{}: does not say {expected:?}: {said}", wrong.case));
                        }
                    }
                }
            }
        }
    };
    check(false);
    apply(&table.base, &[])?;
    check(true);
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    ensure!(table.wrong.iter().filter(|w| w.update).count() >= 9 && table.wrong.len() >= 60, "the table has shrunk");
    // What has not begun is gone at once.
    world.ns.kubectl(&["delete", "rec", "--all", "--timeout=60s"]).map(drop)
}

#[test]
fn the_controller_has_no_right_to_secrets_and_serves_metrics() -> Result<()> {
    let cluster = installed()?;
    let account = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
    let may = |what: &[&str]| may(cluster, &account, &[what, &["--all-namespaces"]].concat());
    ensure!(may(&["create", "pods"])? && may(&["patch", "recordings.recording-operator.io"])?, "what it needs");
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        ensure!(!may(&[verb, "secrets"])?, "the controller may {verb} Secrets");
    }
    for what in [&["get", "configmaps"][..], &["get", "nodes"], &["create", "pods", "--subresource=exec"], &["update", "deployments.apps"]]
    {
        ensure!(!may(what)?, "the controller may {what:?}");
    }
    let service = format!("/api/v1/namespaces/{SYSTEM}/services/{RELEASE}-metrics:http/proxy/metrics");
    let metrics = cluster.kubectl(&["get", "--raw", &service])?;
    ensure!(metrics.contains("recording_operator_reconcile_duration_seconds_count"), "{metrics}");
    Ok(())
}
