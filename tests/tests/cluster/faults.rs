//! What is killed, taken away or full while it records: the hole is bounded and told, no attempt of the budget is lost to others, and the rest
//! of the cluster may come and go. Holes may be twice as long as on an idle machine.

use crate::goes_on;
use crate::world::{DRAIN_GAP_MAX_SECONDS, FINISH, FPS, GAP_MAX_SECONDS, IDLE, START, SYSTEM, World, at_once, is_whole, restarts, uris};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::{conditions, labels};
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::cluster::GATEWAY;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::local::{composed, livekit_to_s3, publisher};
use std::time::{Duration, Instant};

/// [D] 10 s until the status is true again once the API server is back; thrice that on a busy machine.
const TRUE_AGAIN: Duration = Duration::from_secs(30);
/// How long the store is away: several tries of an upload.
const STORE_AWAY: Duration = Duration::from_secs(8);

#[test]
fn a_recorder_whose_pod_is_deleted_or_crashes_again_goes_on_in_a_new_pod() -> Result<()> {
    let world = &World::new("pods")?;
    for name in ["removed", "twice"] {
        world.record(name, 14)?;
    }
    world.ns.apply(&composed(&world.room("composed", 14)?, FPS))?;
    at_once(&[&|| removed(world, "removed"), &|| killed_twice(world), &|| removed(world, "composed")])
}

fn removed(world: &World, name: &str) -> Result<()> {
    let before = world.three_segments(name)?;
    let pod = world.pod(name)?.metadata.name.context("a pod's name")?;
    world.ns.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
    world.wait(name, "jsonpath={.status.attempt.number}=2", START)?;
    costs_no_attempt(world, name)?;
    world.wait(name, "condition=Complete", FINISH)?;
    goes_on(world, name, 2, &before, 2 * DRAIN_GAP_MAX_SECONDS)
}

/// The second time the kubelet would wait 10 s before it restarts it: the pod is replaced instead.
fn killed_twice(world: &World) -> Result<()> {
    world.three_segments("twice")?;
    let pod = world.pod("twice")?.metadata.name.context("a pod's name")?;
    world.cluster.kill_container(world.ns.name(), &pod, "recorder")?;
    wait_until("the kubelet to restart it", START, || world.pod("twice").ok().filter(|pod| restarts(pod) == 1))?;
    // What the first run left in the spool is stored before anything new.
    let resumed = |playlist: &Playlist| playlist.segments.iter().any(|segment| segment.discontinuity);
    let before = wait_until("a segment behind the hole", FINISH, || world.listed("twice").ok().filter(resumed))?;
    world.cluster.kill_container(world.ns.name(), &pod, "recorder")?;
    world.wait("twice", "jsonpath={.status.attempt.number}=2", START)?;
    world.wait("twice", "condition=Complete", FINISH)?;
    goes_on(world, "twice", 2, &before, 2 * (GAP_MAX_SECONDS + DRAIN_GAP_MAX_SECONDS))
}

/// What others do to a pod is not held against the recording.
fn costs_no_attempt(world: &World, name: &str) -> Result<()> {
    let fruitless = |attempt: &str| {
        let pod =
            world.pods(name).ok()?.into_iter().find(|pod| pod.metadata.labels.as_ref().is_some_and(|l| l[labels::ATTEMPT] == attempt))?;
        pod.metadata.annotations?.get(labels::FRUITLESS).cloned()
    };
    let counted = wait_until("the pod of the second attempt", START, || fruitless("2"))?;
    ensure!(counted == "0", "{name}: {counted} attempts were counted");
    Ok(())
}

/// Somebody more important needs the node; when he has gone the recording goes on.
#[test]
fn a_preempted_recorder_waits_for_room_and_goes_on() -> Result<()> {
    let world = &World::new("preempted")?;
    let cores = world.cluster.kubectl(&["get", "node", "-o", "jsonpath={.items[0].status.allocatable.cpu}"])?;
    let cores: u32 = cores.trim().parse().with_context(|| cores.clone())?;
    // Each fits beside the controllers, the two together do not.
    let (ours, theirs) = (cores * 1000 - 600, 700);
    world.cluster.apply(
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: meek}, value: -10, description: recordings that may wait}",
    )?;
    let pod = format!("  pod: {{priorityClassName: meek, resources: {{requests: {{cpu: {ours}m}}}}}}\n  storage:\n    s3:");
    world.ns.apply(&world.room("meek", 14)?.replace("  storage:\n    s3:", &pod))?;
    let before = world.three_segments("meek")?;
    world.ns.apply(&hog(theirs))?;
    let away = Instant::now();
    world.wait("meek", "jsonpath={.status.attempt.number}=2", START)?;
    let unschedulable = || {
        let conditions = world.status("meek").ok()?.conditions;
        conditions::find(&conditions, conditions::RECORDING)
            .filter(|c| c.reason == Code::Unschedulable.as_str() && c.status == "Unknown")
            .cloned()
    };
    wait_until("the status to say that no node has room", START, unschedulable)?;
    costs_no_attempt(world, "meek")?;
    world.ns.kubectl(&["delete", "pod", "hog", "--wait=false"])?;
    let away = i64::try_from(away.elapsed().as_secs())?;
    world.wait("meek", "condition=Complete", FINISH)?;
    goes_on(world, "meek", 2, &before, away + 2 * DRAIN_GAP_MAX_SECONDS)
}

/// A pod that only takes room, as the namespace's policy wants pods.
fn hog(millis: u32) -> String {
    let image = recording_tests::harness::cluster::PAUSE_IMAGE;
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: hog}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: hog
      image: {image}
      imagePullPolicy: Never
      resources: {{requests: {{cpu: {millis}m}}}}
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    )
}

/// SIGKILL to the controller that leads, to the API server, to etcd: the recorder does not notice, and the status is true soon after.
#[test]
fn the_control_plane_dies_piece_by_piece_and_nothing_is_missing() -> Result<()> {
    let world = &World::new("plane")?;
    for name in ["steady", "ended"] {
        world.record(name, 600)?;
    }
    for name in ["steady", "ended"] {
        world.three_segments(name)?;
    }
    let before = world.pod("steady")?;
    let leader = || world.cluster.kubectl(&["get", "lease", "recording-operator", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"]);
    let first = leader()?;
    world.cluster.kill_container(SYSTEM, &first, "controller")?;
    is_true_again(world, "ended", "the controller that led was killed")?;
    for server in ["kube-apiserver", "etcd"] {
        world.cluster.restart(server)?;
        let name = format!("after-{server}");
        world.record(&name, 5)?;
        let back = Instant::now();
        wait_until("a Recording to be taken up", TRUE_AGAIN, || world.status(&name).ok()?.phase)?;
        println!("{server}: a new Recording is taken up {:.1} s after it is back", back.elapsed().as_secs_f64());
    }
    is_true_again(world, "steady", "API server and etcd were killed")?;
    let after = world.status("steady")?;
    ensure!(after.gap_count == Some(0) && after.attempt.as_ref().is_some_and(|a| a.pod == before.metadata.name), "{after:?}");
    for name in ["steady", "ended"] {
        world.completed(name, Code::StopRequested, 1)?;
        is_whole(&world.stored(name)?, 5 * FPS)?;
    }
    for server in ["kube-apiserver", "etcd"] {
        world.wait(&format!("after-{server}"), "condition=Complete", FINISH)?;
    }
    Ok(())
}

/// An order is carried out: somebody watches, and hears the recorder.
fn is_true_again(world: &World, name: &str, after: &str) -> Result<()> {
    let back = Instant::now();
    world.stop(name)?;
    world.wait(name, "condition=Complete", TRUE_AGAIN)?;
    println!("{after}: an order was carried out after {:.1} s", back.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn the_store_is_killed_and_comes_back_with_everything_stored() -> Result<()> {
    let mut world = World::new("store")?;
    world.record("stored", 24)?;
    let before = world.three_segments("stored")?;
    world.s3.kill();
    std::thread::sleep(STORE_AWAY);
    ensure!(world.status("stored")?.phase == Some(recording_crds::status::Phase::Recording), "it records into its spool");
    world.s3.restart()?;
    world.wait("stored", "condition=Complete", FINISH)?;
    let status = world.completed("stored", Code::NoUsers, 1)?;
    let stored = world.stored("stored")?;
    let after = stored.only_playlist()?;
    ensure!(status.gap_count == Some(0) && after.segments.len() > before.segments.len(), "{status:?}");
    is_whole(&stored, 23 * FPS)
}

/// The SFU dies and comes back as another process: the status says that nobody is in the room, then that the recorder is again, and why there is a hole.
#[test]
fn the_sfu_is_killed_and_the_recorder_comes_back_by_itself() -> Result<()> {
    let world = World::new("sfu")?;
    let mut livekit = LiveKit::start_on(GATEWAY.into())?;
    world.s3.create_bucket("sfu")?;
    world.ns.apply(&livekit_to_s3(&livekit, &world.s3, "sfu", "sfu", IDLE, 2))?;
    let flags = ["--seconds", "120", "--fps", "15"];
    let mut alice = publisher(&livekit, "sfu", "alice", 1, &flags)?;
    let before = world.three_segments("sfu")?;
    livekit.kill();
    let away = Instant::now();
    alice.kill();
    world.wait("sfu", "condition=Ready=False", TRUE_AGAIN)?;
    println!("the SFU was killed: the status said so after {:.1} s", away.elapsed().as_secs_f64());
    ensure!(world.status("sfu")?.phase == Some(recording_crds::status::Phase::Recording), "it waits for the SFU");
    livekit.restart()?;
    let mut alice = publisher(&livekit, "sfu", "alice", 1, &flags)?;
    world.wait("sfu", "condition=Ready", TRUE_AGAIN)?;
    // A short absence is silence and a picture that holds, in segments that go on.
    let behind = |playlist: &Playlist| playlist.segments.len() >= before.segments.len() + 6;
    let more = || world.listed("sfu").ok().filter(behind);
    let after = wait_until("segments behind the hole", FINISH, more)?;
    let lasted = away.elapsed();
    ensure!(uris(&after).starts_with(&uris(&before)), "promised {before:?}, kept {after:?}");
    alice.kill();
    world.wait("sfu", "condition=Complete", FINISH)?;
    world.completed("sfu", Code::NoUsers, 1)?;
    let gaps = world.stored("sfu")?.manifest.gaps;
    let hole = gaps.iter().find(|gap| gap.reason == "Disconnected").with_context(|| format!("{gaps:?}"))?;
    ensure!((hole.duration90k / 90_000) as u64 <= lasted.as_secs(), "{gaps:?}, away for {lasted:?}");
    Ok(())
}

/// More than its limit lies in the spool: the kubelet evicts the pod, and what was stored goes on in the next one.
#[test]
#[ignore = "two minutes: make faults"]
fn a_recorder_that_is_evicted_for_its_spool_goes_on_in_a_new_pod() -> Result<()> {
    let world = &World::new("evicted")?;
    let pod = "  pod: {spool: {sizeLimit: 1Gi}}\n  storage:\n    s3:";
    world.ns.apply(&world.room("spool", 14)?.replace("  storage:\n    s3:", pod).replace("durationSeconds: 14", "durationSeconds: 120"))?;
    let before = world.three_segments("spool")?;
    let pod = world.pod("spool")?;
    let spool = world.cluster.empty_dir(&pod.metadata.uid.context("a uid")?, "spool");
    // A hole in a file takes no space, and the kubelet counts blocks.
    let ballast = std::fs::File::create(spool.join("ballast"))?;
    fill(&ballast, (1 << 30) + (64 << 20))?;
    world.wait("spool", "jsonpath={.status.attempt.number}=2", EVICTED)?;
    world.wait("spool", "condition=Recording", START)?;
    world.stop("spool")?;
    world.wait("spool", "condition=Complete", FINISH)?;
    let status = world.completed("spool", Code::StopRequested, 2)?;
    let after = world.stored("spool")?.only_playlist()?;
    ensure!(uris(&after).starts_with(&uris(&before)), "promised {before:?}, kept {after:?}");
    println!("evicted: {:?}", status.last_gap);
    Ok(())
}

/// [M] The kubelet measures about once a minute.
const EVICTED: Duration = Duration::from_secs(180);

fn fill(file: &std::fs::File, bytes: u64) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for the whole call; no memory of ours is touched.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, i64::try_from(bytes)?) };
    ensure!(failed == 0, "failed to fill the spool: {}", std::io::Error::last_os_error());
    Ok(())
}
