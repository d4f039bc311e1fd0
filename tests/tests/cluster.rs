//! The whole product on a real Kubernetes node: chart, controller, recorder pods, and what users see of them.
//!
//! Recordings that do not disturb each other run at the same time; the built-in room wherever LiveKit is not the point.

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use recording_crds::codes::Code;
use recording_crds::fixtures::WrongManifests;
use recording_crds::status::Phase;
use recording_crds::{RecordingStatus, conditions, labels};
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::cluster::{Cluster, GATEWAY, Namespace};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{run, wait_until};
use recording_tests::harness::s3::S3;
use recording_tests::harness::workspace;
use recording_tests::local::{download, livekit_to_s3, publisher, secrets};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

const RELEASE: &str = "recording-operator";
const SYSTEM: &str = "recording-system";
/// As `scripts/image.sh` tags it and containerd completes it.
const REPOSITORY: &str = "docker.io/library/recording-operator";
const FPS: u64 = 15;
/// Seconds until a room is called empty: the least the API allows.
const IDLE: u32 = 5;
/// A pod starts in a second on an idle machine.
const START: Duration = Duration::from_secs(60);
const FINISH: Duration = Duration::from_secs(90);
/// [D] A recorder tries this long to reach a room.
const CONNECT_TRIES: Duration = Duration::from_secs(90);
/// [D] A recorder that dies in mid-recording and is restarted in place loses at most this much.
const GAP_MAX_SECONDS: i64 = 6;
/// [D] Until a pod has ended, another is scheduled and in the room.
const DRAIN_GAP_MAX_SECONDS: i64 = 15;

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
    ensure!(stored.names.contains(&manifest), "{manifest} is not among {:?}", stored.names);
    let counts = stored.one_playlist()?.counts(1)?;
    ensure!(counts.duplicated == 0 && counts.out_of_order == 0 && counts.present >= 8 * FPS, "{counts:?}");
    Ok(())
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
    at_once([&|| stopped(world), &|| deleted(world), &|| unwatched(world)])
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
    let counts = world.stored("unseen")?.one_playlist()?.counts(1)?;
    ensure!(counts.missing.is_empty() && counts.present >= 13 * FPS, "{counts:?}");
    Ok(())
}

fn stopped(world: &World) -> Result<()> {
    world.ns.kubectl(&["patch", "rec", "stopped", "--type=merge", "-p", r#"{"spec":{"desiredState":"Stopped"}}"#])?;
    world.wait("stopped", "condition=Complete", FINISH)?;
    world.completed("stopped", Code::StopRequested, 1)?;
    let counts = world.stored("stopped")?.one_playlist()?.counts(1)?;
    ensure!(counts.missing.is_empty() && counts.present >= 5 * FPS, "{counts:?}");
    Ok(())
}

fn deleted(world: &World) -> Result<()> {
    world.ns.kubectl(&["delete", "rec", "deleted", "--timeout=90s"])?;
    // At this moment, not some time later.
    let stored = world.stored("deleted")?;
    let left = world.ns.kubectl(&["get", "rec", "deleted", "--ignore-not-found", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    let counts = stored.one_playlist()?.counts(1)?;
    ensure!(counts.missing.is_empty() && counts.present >= 5 * FPS, "{counts:?}");
    wait_until("its pods to go with it", START, || world.pods("deleted").ok().filter(Vec::is_empty)).map(drop)
}

fn unwatched(world: &World) -> Result<()> {
    world.wait("unwatched", "condition=Complete", FINISH)?;
    let status = world.completed("unwatched", Code::NoUsers, 1)?;
    ensure!(status.gap_count == Some(0), "{status:?}");
    let counts = world.stored("unwatched")?.one_playlist()?.counts(1)?;
    ensure!(counts.missing.is_empty() && counts.duplicated == 0 && counts.present >= 24 * FPS, "{counts:?}");
    Ok(())
}

#[test]
fn a_recorder_that_is_killed_or_drained_goes_on_in_the_same_playlist() -> Result<()> {
    let world = &World::new("crash")?;
    // The room begins anew with the process that makes it.
    for name in ["killed", "drained"] {
        world.record(name, 14)?;
    }
    let keyless = world.room("keyless", 6)?.replace("{name: bucket}", "{name: late}");
    world.ns.apply(&keyless)?;
    at_once([&|| killed(world), &|| drained(world), &|| keyless_until_the_secret_comes(world)])
}

fn killed(world: &World) -> Result<()> {
    let before = world.three_segments("killed")?;
    let pod = world.pod("killed")?.metadata.name.context("a pod's name")?;
    world.cluster.kill_container(world.ns.name(), &pod, "recorder")?;
    wait_until("the kubelet to restart it", START, || world.pod("killed").ok().filter(|pod| restarts(pod) == 1))?;
    world.wait("killed", "condition=Complete", FINISH)?;
    goes_on(world, "killed", 1, &before, GAP_MAX_SECONDS)
}

/// As by `kubectl drain`: the pod is evicted.
fn drained(world: &World) -> Result<()> {
    let before = world.three_segments("drained")?;
    let pod = world.pod("drained")?.metadata.name.context("a pod's name")?;
    world.evict(&pod)?;
    world.wait("drained", "jsonpath={.status.attempt.number}=2", START)?;
    world.wait("drained", "condition=Complete", FINISH)?;
    goes_on(world, "drained", 2, &before, DRAIN_GAP_MAX_SECONDS)
}

/// What was stored before is still promised; after it a hole of known length and cause, then the rest.
fn goes_on(world: &World, name: &str, attempt: i32, before: &Playlist, gap_max: i64) -> Result<()> {
    let status = world.completed(name, Code::NoUsers, attempt)?;
    let gap = status.last_gap.clone().with_context(|| format!("no gap: {status:?}"))?;
    ensure!(status.gap_count.is_some_and(|n| n >= 1) && !gap.reason.is_empty(), "{status:?}");
    ensure!(status.gap_seconds.is_some_and(|s| (1..=gap_max).contains(&s)), "{status:?}");
    let after = world.stored(name)?.one_playlist()?;
    let uris = |playlist: &Playlist| playlist.segments.iter().map(|s| s.uri.clone()).collect::<Vec<_>>();
    ensure!(uris(&after.playlist).starts_with(&uris(before)), "promised: {before:?}, kept: {:?}", after.playlist);
    ensure!(after.playlist.segments.iter().any(|s| s.discontinuity), "{:?}", after.playlist);
    let hole = longest_hole(&after.playlist)?;
    ensure!(hole > 0.0 && hole <= gap_max as f64, "a hole of {hole} s");
    let video = content::video(&after.playlist)?;
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
    let counts = world.stored("keyless")?.one_playlist()?.counts(1)?;
    ensure!(counts.missing.is_empty() && counts.present >= 5 * FPS, "{counts:?}");
    Ok(())
}

#[test]
fn wrong_worlds_are_failures_with_code_number_and_remedy() -> Result<()> {
    let world = &World::new("wrong")?;
    let livekit = LiveKit::start_on(GATEWAY.into())?;
    let wrong_key = "apiVersion: v1\nkind: Secret\nmetadata: {name: wrong}\nstringData: {LIVEKIT_API_KEY: test-key, LIVEKIT_API_SECRET: not-the-secret-that-the-server-has!!}\n";
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
    ensure!(table.wrong.iter().filter(|w| w.update).count() >= 5 && table.wrong.len() >= 30, "the table has shrunk");
    // What has not begun is gone at once.
    world.ns.kubectl(&["delete", "rec", "--all", "--timeout=60s"]).map(drop)
}

#[test]
fn the_controller_has_no_right_to_secrets_and_serves_metrics() -> Result<()> {
    let cluster = installed()?;
    let account = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
    let may = |verb: &str, resource: &str| -> Result<bool> {
        let output = cluster.client("kubectl")?.args(["auth", "can-i", verb, resource, "-A", "--as", &account]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == "yes")
    };
    ensure!(may("create", "pods")? && may("patch", "recordings.recording-operator.io")?, "what it needs");
    for (verb, resource) in
        [("get", "secrets"), ("list", "secrets"), ("get", "configmaps"), ("get", "nodes"), ("update", "deployments.apps")]
    {
        ensure!(!may(verb, resource)?, "the controller may {verb} {resource}");
    }
    let service = format!("/api/v1/namespaces/{SYSTEM}/services/{RELEASE}-metrics:http/proxy/metrics");
    let metrics = cluster.kubectl(&["get", "--raw", &service])?;
    ensure!(metrics.contains("recording_operator_reconcile_duration_seconds_count"), "{metrics}");
    Ok(())
}

const CONTROLLER: &str = "app.kubernetes.io/name=recording-operator,app.kubernetes.io/component=controller";

/// A namespace that enforces `restricted`, in a cluster with the operator; a store of its own.
struct World {
    cluster: &'static Cluster,
    ns: Namespace<'static>,
    s3: S3,
}

impl World {
    fn new(namespace: &str) -> Result<Self> {
        let cluster = installed()?;
        let ns = cluster.namespace(namespace)?;
        cluster.kubectl(&["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"])?;
        let s3 = S3::start_on(GATEWAY.into())?;
        ns.apply(&secrets("none", "none", &s3))?;
        Ok(Self { cluster, ns, s3 })
    }

    /// The built-in room with one small person in it, into a bucket of the recording's name.
    fn record(&self, name: &str, seconds: u32) -> Result<()> {
        self.ns.apply(&self.room(name, seconds)?).map(drop)
    }

    fn room(&self, name: &str, seconds: u32) -> Result<String> {
        self.s3.create_bucket(name)?;
        Ok(format!(
            "apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: {name}}}
spec:
  channel:
    name: {name}
    testPattern: {{participants: 1, width: 320, height: 180, framesPerSecond: {FPS}, durationSeconds: {seconds}}}
  mode: Individual
  idleTimeoutSeconds: {IDLE}
  output: {{hls: {{segmentSeconds: 2}}}}
  storage:
    s3: {{bucket: {name}, region: {}, endpoint: '{}', forcePathStyle: true, prefix: acme, credentialsSecretRef: {{name: bucket}}}}
",
            self.s3.region(),
            self.s3.endpoint()
        ))
    }

    fn wait(&self, name: &str, condition: &str, timeout: Duration) -> Result<()> {
        self.ns.wait_for(&format!("recording/{name}"), condition, timeout)
    }

    fn status(&self, name: &str) -> Result<RecordingStatus> {
        let recording: Value = serde_json::from_str(&self.ns.kubectl(&["get", "rec", name, "-o", "json"])?)?;
        Ok(serde_json::from_value(recording["status"].clone())?)
    }

    /// Completed for this reason, one playlist, everything stored, by this attempt.
    fn completed(&self, name: &str, reason: Code, attempt: i32) -> Result<RecordingStatus> {
        let status = self.status(name)?;
        ensure!(status.phase == Some(Phase::Completed) && status.failure.is_none(), "{name}: {status:?}");
        ensure!(status.result.as_ref().is_some_and(|r| r.reason == reason), "{name}: {status:?}");
        ensure!(conditions::is_true(&status.conditions, conditions::UPLOADED), "{name}: {:?}", status.conditions);
        ensure!(status.playlist_count == Some(1), "{name}: {status:?}");
        let progress = status.progress.clone().context("progress")?;
        ensure!(
            progress.percent == 100 && progress.uploaded_files == progress.recorded_files && progress.uploaded_bytes > 0,
            "{name}: {progress:?}"
        );
        ensure!(status.attempt.as_ref().is_some_and(|a| a.number == attempt), "{name}: {status:?}");
        Ok(status)
    }

    fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let selector = format!("{}={name}", labels::RECORDING);
        let list: Value = serde_json::from_str(&self.ns.kubectl(&["get", "pods", "-l", &selector, "-o", "json"])?)?;
        Ok(serde_json::from_value(list["items"].clone())?)
    }

    fn pod(&self, name: &str) -> Result<Pod> {
        let mut pods = self.pods(name)?;
        ensure!(pods.len() == 1, "{name} has {} pods", pods.len());
        pods.pop().context("a pod")
    }

    /// The eviction that `kubectl drain` asks for.
    fn evict(&self, pod: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("eviction.json");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.ns.name()}});
        std::fs::write(&file, eviction.to_string())?;
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.ns.name());
        self.cluster.kubectl(&["create", "--raw", &path, "-f", &file.display().to_string()]).map(drop)
    }

    fn three_segments(&self, name: &str) -> Result<Playlist> {
        wait_until("three stored segments", FINISH, || self.listed(name).ok().filter(|playlist| playlist.segments.len() >= 3))
    }

    /// The playlist as it is stored now.
    fn listed(&self, name: &str) -> Result<Playlist> {
        let key = self.s3.list(name)?.into_iter().find(|key| key.ends_with(".m3u8")).context("no playlist yet")?;
        Playlist::parse(Path::new(&key), &String::from_utf8(self.s3.get(name, &key)?)?)
    }

    /// What lies in the recording's bucket, after its manifest was found true.
    fn stored(&self, name: &str) -> Result<Stored> {
        let folder = tempfile::tempdir()?;
        let names = download(&self.s3, name, "acme", folder.path())?;
        let stored = Stored { folder, names };
        stored.manifest_is_true().with_context(|| format!("{name}: {:?}", stored.names))?;
        Ok(stored)
    }
}

/// All of them, at the same time; the first failure of the list is told.
fn at_once(cases: [&(dyn Fn() -> Result<()> + Sync); 3]) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = cases.into_iter().map(|case| scope.spawn(case)).collect();
        let outcomes: Vec<Result<()>> = running.into_iter().map(|case| case.join().map_err(|_| anyhow!("a case panicked"))?).collect();
        outcomes.into_iter().collect()
    })
}

/// The shared cluster with image and chart, for all tests of this file.
fn installed() -> Result<&'static Cluster> {
    static INSTALLED: OnceLock<Result<&'static Cluster>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let image = workspace().join("target/image/recording-operator.tar");
        run(workspace().join("scripts/image.sh"), ["operator"])?;
        let cluster = Cluster::shared()?;
        cluster.import_image(&image)?;
        cluster.kubectl(&["create", "namespace", SYSTEM])?;
        cluster.kubectl(&["label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted"])?;
        let chart = workspace().join("charts/recording-operator").display().to_string();
        let repository = format!("image.repository={REPOSITORY}");
        let values = ["--set", &repository, "--set", "image.pullPolicy=Never", "--set", "log.filter=info\\,recording_controller=debug"];
        cluster.helm(&[&["install", RELEASE, &chart, "-n", SYSTEM, "--wait", "--timeout", "90s"], &values[..]].concat())?;
        Ok(cluster)
    });
    installed.as_ref().copied().map_err(|error| anyhow!("the operator could not be installed: {error:#}"))
}

/// A recording in a folder.
struct Stored {
    folder: tempfile::TempDir,
    names: Vec<String>,
}

/// A playlist that was ended, with its files.
struct Ended {
    playlist: Playlist,
    _folder: tempfile::TempDir,
}

impl Stored {
    fn one_playlist(self) -> Result<Ended> {
        let found: Vec<PathBuf> = self.names.iter().filter(|n| n.ends_with(".m3u8")).map(|n| self.folder.path().join(n)).collect();
        ensure!(found.len() == 1, "{found:?}");
        let playlist = Playlist::read(&found[0])?;
        ensure!(playlist.endlist && playlist.kind.as_deref() == Some("EVENT") && !playlist.segments.is_empty(), "{playlist:?}");
        Ok(Ended { playlist, _folder: self.folder })
    }

    /// Every segment that the manifest names is there with its size and digest; every segment there is named by it.
    fn manifest_is_true(&self) -> Result<()> {
        let name = self.names.iter().find(|n| n.ends_with(".json")).context("no manifest")?;
        let manifest: Value = serde_json::from_slice(&std::fs::read(self.folder.path().join(name))?)?;
        let mut named = BTreeSet::new();
        for entry in manifest["tail"].as_array().context("tail")? {
            let name = entry["name"].as_str().context("name")?;
            let bytes = std::fs::read(self.folder.path().join(name)).with_context(|| name.to_owned())?;
            ensure!(entry["bytes"].as_u64() == Some(bytes.len() as u64), "{name}: {} bytes, {entry}", bytes.len());
            let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
            let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            ensure!(entry["sha256"].as_str() == Some(&hex), "{name}: {hex}, {entry}");
            named.insert(name.to_owned());
        }
        let stored: BTreeSet<String> = self.names.iter().filter(|n| n.ends_with(".ts")).cloned().collect();
        ensure!(named == stored, "the manifest names {named:?}, stored is {stored:?}");
        Ok(())
    }
}

impl Ended {
    /// The frames of the only person in the picture.
    fn counts(&self, id: u8) -> Result<content::Counts> {
        let video = content::video(&self.playlist)?;
        ensure!(video.undecodable == 0 && video.participants.len() == 1, "{:?}, {} undecodable", video.participants, video.undecodable);
        video.participants.get(&id).cloned().with_context(|| format!("{:?}", video.participants))
    }
}

/// Longest time between the end of a segment and the start of the next, by their dates.
fn longest_hole(playlist: &Playlist) -> Result<f64> {
    let mut longest = 0.0_f64;
    let mut end = None::<f64>;
    for segment in &playlist.segments {
        let start = segment.program_date_time.as_ref().map(|date| date.parse::<Timestamp>()).transpose()?;
        let start = start.map(|at| at.as_millisecond() as f64 / 1000.0);
        if let (Some(start), Some(end)) = (start, end) {
            longest = longest.max(start - end);
        }
        end = start.or(end).map(|at| at + segment.duration);
    }
    Ok(longest)
}

/// No token, not root, nothing writable but what it was given.
fn runs_with_no_rights(pod: &Pod) -> Result<()> {
    let spec = pod.spec.as_ref().context("a spec")?;
    ensure!(spec.automount_service_account_token == Some(false), "{spec:?}");
    ensure!(spec.volumes.iter().flatten().all(|volume| volume.projected.is_none()), "{:?}", spec.volumes);
    ensure!(spec.security_context.as_ref().is_some_and(|s| s.run_as_non_root == Some(true)), "{:?}", spec.security_context);
    for container in &spec.containers {
        let security = container.security_context.as_ref().context("a security context")?;
        ensure!(security.read_only_root_filesystem == Some(true) && security.allow_privilege_escalation == Some(false), "{security:?}");
        let mounts = container.volume_mounts.iter().flatten();
        ensure!(mounts.clone().all(|mount| !mount.mount_path.contains("kubernetes.io")), "{:?}", container.volume_mounts);
    }
    Ok(())
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.restart_count).sum()
}
