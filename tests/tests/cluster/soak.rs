//! Faults in a random order, one after the other and sometimes two at once, and one recording that goes through all of them.
//!
//! The order comes from a seed: `SOAK_SEED` (1), `SOAK_FAULTS` (50). What a fault takes: [`Fault`]. While it lasts the status may not say that the
//! recorder is in the room when none runs; soon after it the recorder stores media again and the status says so. A reader looks at the playlist all
//! the time. In the end every hole in the pictures is a gap in the manifest, and no attempt was counted.

use crate::world::{FINISH, IDLE, START, SYSTEM, World};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use recording_crds::codes::Code;
use recording_crds::{RecordingStatus, conditions, labels};
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::cluster::GATEWAY;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::harness::s3::Objects;
use recording_tests::local::{livekit_to_s3, publisher};
use recording_tests::stored::{Gap, Stored};
use recording_tests::verify;
use recording_tests::watch::while_watching;
use std::time::{Duration, Instant};

const NAME: &str = "soak";
/// [D] 10 s until the status is true; thrice that on a busy machine.
const TRUE: Duration = Duration::from_secs(30);
/// Until media is stored again, the worst of the faults: a pod that has to go, and its successor.
const GOES_ON: Duration = Duration::from_secs(90);
/// While the SFU or the store is away.
const AWAY_SECONDS: std::ops::Range<u64> = 1..16;
/// The room is empty while the SFU is away; nobody is to think that it is over.
const EMPTY_SECONDS: u32 = 120;
/// Pictures further apart are a hole: one in 15 frames a second, and those that a busy sender leaves out.
const HOLE_SECONDS: f64 = 1.0;
/// A hole is told by its edges: the pictures beside it may be a key frame away.
const TOLD_WITHIN_SECONDS: f64 = 2.0;
/// PTS of media time 0 (media.md section 4).
const FIRST_PTS_90K: i64 = 900_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL to the recorder's process.
    Recorder,
    PodDeleted,
    PodEvicted,
    /// The node takes no pods, the pod is evicted, the node takes pods again.
    NodeDrained,
    /// SIGKILL to the controller that leads.
    Leader,
    ApiServer,
    Etcd,
    Kubelet,
    Store,
    Sfu,
}

const FAULTS: [Fault; 10] = [
    Fault::Recorder,
    Fault::PodDeleted,
    Fault::PodEvicted,
    Fault::NodeDrained,
    Fault::Leader,
    Fault::ApiServer,
    Fault::Etcd,
    Fault::Kubelet,
    Fault::Store,
    Fault::Sfu,
];

#[test]
#[ignore = "half an hour: make soak"]
fn through_fifty_faults_goes_one_playlist() -> Result<()> {
    let number = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |value| value.parse().context(name.to_owned()));
    let (seed, faults) = (number("SOAK_SEED", 1)?, number("SOAK_FAULTS", 50)?);
    let mut soak = Soak::begin()?;
    let store = Objects::clone(&soak.world.s3);
    let (struck, looks) = while_watching(&store, NAME, || soak.run(fastrand::Rng::with_seed(seed), faults))?;
    println!("seed {seed}: {struck} faults, the playlist was read {looks} times");
    ensure!(looks > 10 * u32::try_from(struck)?, "the reader hardly looked: {looks} times");
    soak.end()
}

struct Soak {
    world: World,
    livekit: LiveKit,
    alice: Process,
}

impl Soak {
    fn begin() -> Result<Self> {
        let world = World::new(NAME)?;
        let livekit = LiveKit::start_on(GATEWAY.into())?;
        world.s3.create_bucket(NAME)?;
        let manifest = livekit_to_s3(&livekit, &world.s3, NAME, NAME, IDLE, 2);
        world.ns.apply(&manifest.replace(&format!("idleTimeoutSeconds: {IDLE}"), &format!("idleTimeoutSeconds: {EMPTY_SECONDS}")))?;
        let alice = alice(&livekit)?;
        world.three_segments(NAME)?;
        Ok(Self { world, livekit, alice })
    }

    fn run(&mut self, mut random: fastrand::Rng, faults: u64) -> Result<u64> {
        for number in 1..=faults {
            let fault = FAULTS[random.usize(..FAULTS.len())];
            // One in four meets a recorder that has not come back yet.
            let in_a_row = random.u8(..4) == 0 && number < faults;
            let began = Instant::now();
            self.strike(fault, &mut random).with_context(|| format!("fault {number}, {fault:?}"))?;
            if in_a_row {
                println!("{number}: {fault:?}, and at once");
                continue;
            }
            let (again, told) = self.is_true_again().with_context(|| format!("after fault {number}, {fault:?}"))?;
            println!(
                "{number}: {fault:?} for {:.1} s; stores again after {again:.1} s, told {told:.1} s later",
                began.elapsed().as_secs_f64() - again - told
            );
            std::thread::sleep(Duration::from_millis(random.u64(..4_000)));
        }
        Ok(faults)
    }

    /// Returns when what was taken is there again.
    fn strike(&mut self, fault: Fault, random: &mut fastrand::Rng) -> Result<()> {
        let Self { world, livekit, .. } = self;
        let cluster = world.cluster;
        match fault {
            Fault::Recorder => {
                // The one of the last fault may be dead already, and the cluster not know it yet.
                let kill = || running(world).and_then(|pod| cluster.kill_container(world.ns.name(), &pod, "recorder")).ok();
                wait_until("a recorder to kill", GOES_ON, kill)
            }
            Fault::PodDeleted => {
                let pod = running(world)?;
                world.ns.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
                another_runs(world, &pod)
            }
            Fault::PodEvicted => {
                let pod = running(world)?;
                world.evict(&pod)?;
                another_runs(world, &pod)
            }
            Fault::NodeDrained => {
                let pod = running(world)?;
                let node = world.ns.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.spec.nodeName}"])?;
                cluster.kubectl(&["cordon", &node])?;
                let evicted = world.evict(&pod).and_then(|()| self.is_away());
                cluster.kubectl(&["uncordon", &node])?;
                evicted
            }
            Fault::Leader => {
                let holder = ["get", "lease", "recording-operator", "-n", SYSTEM, "-o", "jsonpath={.spec.holderIdentity}"];
                let kill = || cluster.kubectl(&holder).and_then(|leader| cluster.kill_container(SYSTEM, &leader, "controller")).ok();
                wait_until("a leader to kill", START, kill)
            }
            Fault::ApiServer => cluster.restart("kube-apiserver"),
            Fault::Etcd => cluster.restart("etcd"),
            Fault::Kubelet => cluster.restart("kubelet"),
            Fault::Store => {
                world.s3.kill();
                std::thread::sleep(Duration::from_secs(random.u64(AWAY_SECONDS)));
                world.s3.restart()
            }
            Fault::Sfu => {
                livekit.kill();
                self.alice.kill();
                let away = Duration::from_secs(random.u64(AWAY_SECONDS));
                std::thread::sleep(away.min(TRUE));
                livekit.restart()?;
                self.alice = alice(livekit)?;
                Ok(())
            }
        }
    }

    /// While the recorder is nowhere the status says so in time.
    fn is_away(&self) -> Result<()> {
        let said = || self.world.status(NAME).ok().filter(|status| !conditions::is_true(&status.conditions, conditions::READY)).map(drop);
        wait_until("the status to say that no recorder is in the room", TRUE, said)
    }

    /// Seconds until media is stored again, and from then until the status says so. Whatever it says meanwhile is no lie.
    fn is_true_again(&self) -> Result<(f64, f64)> {
        let world = &self.world;
        let began = Instant::now();
        // Not those that the playlist names: one that has grown long is put less often than segments are (docs/recording.md).
        let segments = || Some(world.s3.list(NAME).ok()?.iter().filter(|key| key.ends_with(".ts")).count());
        let known = wait_until("the stored segments", START, segments)?;
        let mut without = None::<Instant>;
        let mut lie = None;
        let stored = wait_until("new segments", GOES_ON, || {
            lie = lie.take().or_else(|| self.lie(&mut without));
            let more = segments().filter(|stored| *stored >= known + 2).map(drop);
            more.or(lie.as_ref().map(drop))
        });
        if let Some(lie) = lie {
            anyhow::bail!("the status lies: {lie}");
        }
        stored.with_context(|| format!("{:?}", world.status(NAME)))?;
        let again = began.elapsed();
        let told = || {
            let pod = running(world).ok()?;
            world
                .status(NAME)
                .ok()
                .filter(|status| says_in_the_room(status) && status.attempt.as_ref().is_some_and(|a| a.pod.as_deref() == Some(&pod)))
        };
        wait_until("the status to say so", TRUE, told).with_context(|| format!("{:?}", world.status(NAME)))?;
        Ok((again.as_secs_f64(), (began.elapsed() - again).as_secs_f64()))
    }

    /// In the room for too long since the last recorder has run.
    fn lie(&self, without: &mut Option<Instant>) -> Option<String> {
        let pods = self.world.pods(NAME).ok()?;
        if pods.iter().any(runs) {
            *without = None;
            return None;
        }
        let since = *without.get_or_insert_with(Instant::now);
        let status = self.world.status(NAME).ok()?;
        (since.elapsed() > TRUE && says_in_the_room(&status)).then(|| format!("nothing has run for {:?}: {status:?}", since.elapsed()))
    }

    fn end(mut self) -> Result<()> {
        let world = &self.world;
        let pod = world.pod(NAME)?;
        let fruitless = pod.metadata.annotations.as_ref().and_then(|a| a.get(labels::FRUITLESS)).cloned();
        ensure!(fruitless.as_deref() == Some("0"), "attempts were counted: {fruitless:?}");
        let attempt = world.status(NAME)?.attempt.context("an attempt")?.number;
        self.alice.kill();
        world.stop(NAME)?;
        world.wait(NAME, "condition=Complete", FINISH)?;
        let status = world.completed(NAME, Code::StopRequested, attempt)?;
        let (exit, verdict) = verify::in_bucket(&world.s3, NAME, &[])?;
        ensure!(exit == 0, "{verdict}");
        let stored = Stored::download(&world.s3, NAME, "acme")?;
        let playlist = stored.only_playlist()?;
        every_hole_is_told(&stored, &playlist)?;
        println!("{attempt} attempts, {:?} gaps of {:?} s in {:.0} s", status.gap_count, status.gap_seconds, playlist.duration());
        Ok(())
    }
}

fn alice(livekit: &LiveKit) -> Result<Process> {
    publisher(livekit, NAME, "alice", 1, &["--seconds", "7200", "--fps", "15", "--size", "320x180"])
}

/// The pod whose recorder runs.
fn running(world: &World) -> Result<String> {
    wait_until("a recorder that runs", GOES_ON, || {
        world.pods(NAME).ok()?.into_iter().find(|pod| runs(pod) && pod.metadata.deletion_timestamp.is_none())?.metadata.name
    })
}

fn another_runs(world: &World, than: &str) -> Result<()> {
    wait_until("another recorder", GOES_ON, || running(world).ok().filter(|pod| pod != than).map(drop))
}

fn runs(pod: &Pod) -> bool {
    let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn says_in_the_room(status: &RecordingStatus) -> bool {
    [conditions::RECORDING, conditions::READY].iter().all(|type_| conditions::is_true(&status.conditions, type_))
}

/// Two pictures that follow each other are close, or the manifest has gaps between them.
fn every_hole_is_told(stored: &Stored, playlist: &Playlist) -> Result<()> {
    let video = content::video(playlist)?;
    ensure!(video.undecodable == 0 && video.backwards == 0, "{} undecodable, {} backwards", video.undecodable, video.backwards);
    let pictures: Vec<f64> =
        video.frames.iter().filter(|frame| frame.code.is_some()).map(|frame| (frame.pts_90k - FIRST_PTS_90K) as f64 / 90_000.0).collect();
    let gaps = stored.gaps(playlist);
    let holes: Vec<(f64, f64)> = pictures.windows(2).filter(|two| two[1] - two[0] > HOLE_SECONDS).map(|two| (two[0], two[1])).collect();
    let untold: Vec<_> = holes.iter().filter(|(from, until)| until - from - told(&gaps, *from, *until) > TOLD_WITHIN_SECONDS).collect();
    println!("{} pictures, {} holes, {} gaps", pictures.len(), holes.len(), gaps.len());
    ensure!(untold.is_empty(), "no gap says so: {untold:?}; {gaps:?}");
    Ok(())
}

/// Seconds of a stretch that lie in gaps; where they overlap they count once.
fn told(gaps: &[&Gap], from: f64, until: f64) -> f64 {
    let mut inside: Vec<(f64, f64)> = gaps
        .iter()
        .map(|gap| (gap.start90k as f64 / 90_000.0, (gap.start90k + gap.duration90k) as f64 / 90_000.0))
        .map(|(start, end)| (start.max(from), end.min(until)))
        .filter(|(start, end)| end > start)
        .collect();
    inside.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sum, mut reached) = (0.0, from);
    for (start, end) in inside {
        sum += (end - start.max(reached)).max(0.0);
        reached = reached.max(end);
    }
    sum
}
