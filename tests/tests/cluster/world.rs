//! A namespace with a store of its own in the shared cluster, and what is asked of the Recordings in it.

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_crds::{RecordingStatus, conditions, labels};
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::cluster::{Cluster, GATEWAY, Namespace};
use recording_tests::harness::process::{run, wait_until};
use recording_tests::harness::s3::S3;
use recording_tests::harness::workspace;
use recording_tests::local::secrets;
use recording_tests::stored::Stored;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

pub const RELEASE: &str = "recording-operator";
pub const SYSTEM: &str = "recording-system";
/// A registry that refuses at once: what is not on the node cannot be pulled, whatever network the machine has.
const REPOSITORY: &str = "127.0.0.1:1/recording-operator";
pub const FPS: u64 = 15;
/// Seconds until a room is called empty: the least the API allows.
pub const IDLE: u32 = 5;
/// A pod starts in a second on an idle machine.
pub const START: Duration = Duration::from_secs(60);
pub const FINISH: Duration = Duration::from_secs(90);
/// [D] A recorder tries this long to reach a room.
pub const CONNECT_TRIES: Duration = Duration::from_secs(90);
/// [D] A recorder that dies in mid-recording and is restarted in place loses at most this much.
pub const GAP_MAX_SECONDS: i64 = 6;
/// [D] Until a pod has ended, another is scheduled and in the room.
pub const DRAIN_GAP_MAX_SECONDS: i64 = 15;

pub const CONTROLLER: &str = "app.kubernetes.io/name=recording-operator,app.kubernetes.io/component=controller";

/// A namespace that enforces `restricted`, in a cluster with the operator; a store of its own.
pub struct World {
    pub cluster: &'static Cluster,
    pub ns: Namespace<'static>,
    pub s3: S3,
}

impl World {
    pub fn new(namespace: &str) -> Result<Self> {
        let cluster = installed()?;
        let ns = cluster.namespace(namespace)?;
        cluster.kubectl(&["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"])?;
        let s3 = S3::start_on(GATEWAY.into())?;
        ns.apply(&secrets("none", "none", &s3))?;
        Ok(Self { cluster, ns, s3 })
    }

    /// The built-in room with one small person in it, into a bucket of the recording's name.
    pub fn record(&self, name: &str, seconds: u32) -> Result<()> {
        self.ns.apply(&self.room(name, seconds)?).map(drop)
    }

    pub fn room(&self, name: &str, seconds: u32) -> Result<String> {
        self.s3.create_bucket(name)?;
        Ok(self.room_again(name, seconds))
    }

    /// The same, of a bucket that is there.
    pub fn room_again(&self, name: &str, seconds: u32) -> String {
        format!(
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
        )
    }

    pub fn wait(&self, name: &str, condition: &str, timeout: Duration) -> Result<()> {
        self.ns.wait_for(&format!("recording/{name}"), condition, timeout)
    }

    pub fn status(&self, name: &str) -> Result<RecordingStatus> {
        let recording: Value = serde_json::from_str(&self.ns.kubectl(&["get", "rec", name, "-o", "json"])?)?;
        Ok(serde_json::from_value(recording["status"].clone())?)
    }

    /// Completed for this reason, one playlist, everything stored, by this attempt.
    pub fn completed(&self, name: &str, reason: Code, attempt: i32) -> Result<RecordingStatus> {
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

    pub fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let selector = format!("{}={name}", labels::RECORDING);
        let list: Value = serde_json::from_str(&self.ns.kubectl(&["get", "pods", "-l", &selector, "-o", "json"])?)?;
        Ok(serde_json::from_value(list["items"].clone())?)
    }

    pub fn pod(&self, name: &str) -> Result<Pod> {
        let mut pods = self.pods(name)?;
        ensure!(pods.len() == 1, "{name} has {} pods", pods.len());
        pods.pop().context("a pod")
    }

    /// The eviction that `kubectl drain` asks for.
    pub fn evict(&self, pod: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("eviction.json");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.ns.name()}});
        std::fs::write(&file, eviction.to_string())?;
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.ns.name());
        self.cluster.kubectl(&["create", "--raw", &path, "-f", &file.display().to_string()]).map(drop)
    }

    pub fn three_segments(&self, name: &str) -> Result<Playlist> {
        wait_until("three stored segments", FINISH, || self.listed(name).ok().filter(|playlist| playlist.segments.len() >= 3))
    }

    /// The playlist as it is stored now.
    pub fn listed(&self, name: &str) -> Result<Playlist> {
        let key = self.s3.list(name)?.into_iter().find(|key| key.ends_with(".m3u8")).context("no playlist yet")?;
        Playlist::parse(Path::new(&key), &String::from_utf8(self.s3.get(name, &key)?)?)
    }

    /// What was promised stands at the beginning of its playlist, ended or not, and every segment that it names is there.
    pub fn kept(&self, name: &str, promised: &Playlist) -> Result<Playlist> {
        let kept = self.listed(name)?;
        ensure!(uris(&kept).starts_with(&uris(promised)), "{name}: promised {promised:?}, kept {kept:?}");
        let stored = self.s3.list(name)?;
        let missing: Vec<_> = uris(&kept).into_iter().filter(|uri| !stored.iter().any(|key| key.ends_with(uri))).collect();
        ensure!(missing.is_empty(), "{name}: the playlist names {missing:?}, which are not there");
        Ok(kept)
    }

    pub fn patch(&self, name: &str, spec: &Value) -> Result<()> {
        let patch = json!({"spec": spec}).to_string();
        self.ns.kubectl(&["patch", "rec", name, "--type=merge", "-p", &patch]).map(drop)
    }

    pub fn stop(&self, name: &str) -> Result<()> {
        self.patch(name, &json!({"desiredState": "Stopped"}))
    }

    /// Returns when it is gone.
    pub fn is_gone(&self, name: &str, limit: Duration) -> Result<()> {
        let gone = || self.ns.kubectl(&["get", "rec", name, "--ignore-not-found", "-o", "name"]).ok().filter(String::is_empty);
        wait_until(&format!("the Recording {name} to be gone"), limit, gone)?;
        wait_until("its pods to go with it", START, || self.pods(name).ok().filter(Vec::is_empty)).map(drop)
    }

    /// What lies in the recording's bucket, after its manifest was found true.
    pub fn stored(&self, name: &str) -> Result<Stored> {
        let stored = Stored::download(&self.s3, name, "acme")?;
        stored.manifest_is_true().with_context(|| name.to_owned())?;
        Ok(stored)
    }
}

/// One playlist of one person with everything that was received, so many pictures at least; nothing was lost on the way.
pub fn is_whole(stored: &Stored, least: u64) -> Result<()> {
    let video = content::video(&stored.only_playlist()?)?;
    ensure!(video.participants.len() == 1 && stored.manifest.gaps.is_empty(), "{:?} {:?}", video.participants, stored.manifest.gaps);
    let pictures = stored.every_picture_is_there(&stored.manifest.participants[0].identity, "Camera", &video)?;
    let lost: u64 = stored.manifest.tracks.iter().map(|track| track.lost).sum();
    ensure!(pictures >= least && lost == 0, "{pictures} pictures, {lost} packets lost");
    Ok(())
}

/// All of them, at the same time; the first failure of the list is told.
pub fn at_once(cases: &[&(dyn Fn() -> Result<()> + Sync)]) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| scope.spawn(case)).collect();
        let outcomes: Vec<Result<()>> = running.into_iter().map(|case| case.join().map_err(|_| anyhow!("a case panicked"))?).collect();
        outcomes.into_iter().collect()
    })
}

/// The shared cluster with image and chart, for all tests of this file.
pub fn installed() -> Result<&'static Cluster> {
    static INSTALLED: OnceLock<Result<&'static Cluster>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        run(workspace().join("scripts/image.sh"), ["operator"])?;
        let cluster = Cluster::shared()?;
        cluster.import_image(&archive())?;
        cluster.tag_image(&built_image(), &image())?;
        cluster.kubectl(&["create", "namespace", SYSTEM])?;
        cluster.kubectl(&["label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted"])?;
        install(cluster)?;
        Ok(cluster)
    });
    installed.as_ref().copied().map_err(|error| anyhow!("the operator could not be installed: {error:#}"))
}

pub fn archive() -> PathBuf {
    workspace().join("target/image/recording-operator.tar")
}

/// As `scripts/image.sh` tags it and containerd completes it.
pub fn built_image() -> String {
    format!("docker.io/library/recording-operator:{}", env!("CARGO_PKG_VERSION"))
}

/// As the chart is told to call it.
pub fn image() -> String {
    image_of(env!("CARGO_PKG_VERSION"))
}

pub fn image_of(tag: &str) -> String {
    format!("{REPOSITORY}:{tag}")
}

pub fn chart() -> PathBuf {
    workspace().join("charts/recording-operator")
}

/// The chart, of the image that is there; returns when its controllers are ready.
pub fn install(cluster: &Cluster) -> Result<()> {
    release(cluster, "install", &chart(), &[])
}

/// `helm install` or `helm upgrade` of this chart with further values; returns when its controllers are ready and those of before have ended:
/// until then one of them may lead.
pub fn release(cluster: &Cluster, verb: &str, chart: &Path, values: &[&str]) -> Result<()> {
    let chart = chart.display().to_string();
    let repository = format!("image.repository={REPOSITORY}");
    let mut args = vec![verb, RELEASE, &chart, "-n", SYSTEM, "--wait", "--timeout", "90s"];
    for value in [repository.as_str(), "log.filter=info\\,recording_controller=debug"].iter().chain(values) {
        args.extend(["--set", value]);
    }
    cluster.helm(&args)?;
    let replicas =
        cluster.kubectl(&["get", "deployment", RELEASE, "-n", SYSTEM, "-o", "jsonpath={.spec.replicas}"])?.trim().parse::<usize>()?;
    wait_until("the controllers of before to end", START, || {
        cluster.kubectl(&["rollout", "status", "deployment", RELEASE, "-n", SYSTEM, "--timeout=1s"]).ok()?;
        let pods = cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", CONTROLLER, "-o", "name"]).ok()?;
        (pods.lines().count() == replicas).then_some(())
    })
}

pub fn uris(playlist: &Playlist) -> Vec<&str> {
    playlist.segments.iter().map(|segment| segment.uri.as_str()).collect()
}

/// Longest time between the end of a segment and the start of the next, by their dates.
pub fn longest_hole(playlist: &Playlist) -> Result<f64> {
    Ok(playlist.dates()?.windows(2).map(|two| two[1].start - two[0].end).fold(0.0, f64::max))
}

/// What `kubectl auth can-i` says of somebody.
pub fn may(cluster: &Cluster, user: &str, what: &[&str]) -> Result<bool> {
    let output = cluster.client("kubectl")?.args(["auth", "can-i", "--as", user]).args(what).output()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        said => bail!("can-i {what:?}: {said} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// No token, not root, nothing writable but what it was given.
pub fn runs_with_no_rights(pod: &Pod) -> Result<()> {
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

pub fn restarts(pod: &Pod) -> i32 {
    pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten()).map(|c| c.restart_count).sum()
}
