//! Many Recordings on a real API server, their recorders simulated: what the controller takes, and how soon it acts.
//! A small number is run by `make test`, so that this does not rot; `make bench-controller` runs ten thousand.

mod recorders;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use recording_controller::{status, validate};
use recording_crds::codes::Code;
use recording_crds::report::{Counters, Report, ReportOutcome, ReportState};
use recording_crds::{Recording, RecordingStatus, names};
use recording_tests::harness::cluster::api_server::ApiServer;
use recording_tests::harness::process::{Process, Spec, eventually};
use recording_tests::harness::{binary, ports};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "scale";
/// Requests at once while the world is made.
const AT_ONCE: usize = 32;
const MADE: Duration = Duration::from_secs(600);
/// Whoever has just started hears everybody anew; and how long idling is measured: counters are written every 45 s.
const IDLE: Duration = Duration::from_secs(60);
/// Looked at one after the other; the 99th of a hundred is the second worst.
const SAMPLES: usize = 100;
/// [D] At 10,000.
const RSS_MAX_MIB: u64 = 150;
/// [D] 5 % of a core at 10,000, of which 1,000 record; CPU time, so that a busy machine does not matter much.
const IDLE_MAX: f64 = 0.05;
/// [D] 30 s, 500 ms, 300 ms on an idle machine: printed; here only what would be a defect on any.
const PATIENCE: u32 = 10;

#[test]
fn a_hundred_recordings() -> Result<()> {
    measure(100, 20, Duration::from_secs(5))
}

#[test]
#[ignore = "five minutes: make bench-controller"]
fn ten_thousand_recordings_of_which_a_thousand_record() -> Result<()> {
    measure(10_000, 1_000, IDLE)
}

fn measure(total: usize, live: usize, idle: Duration) -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(&recording_crds::crd::yaml(), &["--server-side"])?;
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    server.kubectl(&["create", "namespace", NAMESPACE])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = runtime.block_on(async {
        let config = kube::config::Kubeconfig::read_from(server.kubeconfig())?;
        anyhow::Ok(Client::try_from(Config::from_custom_kubeconfig(config, &Default::default()).await?)?)
    })?;
    let world = World { client, port: ports::free_port(Ipv4Addr::LOCALHOST.into())? };
    runtime.spawn(recorders::run(world.client.clone(), NAMESPACE.into()));
    runtime.block_on(world.measure(&server, total, live, idle))
}

struct World {
    client: Client,
    port: u16,
}

impl World {
    async fn measure(&self, server: &ApiServer, total: usize, live: usize, settled: Duration) -> Result<()> {
        let bytes = self.create_finished(total - live).await?;
        self.create(live).await?;
        let mut controller = self.controller(server)?;
        let began = Instant::now();
        eventually("all that are not finished to record", MADE, || async { self.phase("Recording").await.filter(|n| *n == live) }).await?;
        println!("{live} pods made and heard: {:.1} s", began.elapsed().as_secs_f64());

        controller.restart()?;
        let began = Instant::now();
        let looked_at =
            || async { self.metric("recording_operator_reconcile_duration_seconds_count").await.filter(|n| *n as usize >= total) };
        eventually("every Recording to have been looked at again", MADE, looked_at).await?;
        let in_sync = began.elapsed();

        tokio::time::sleep(settled).await;
        let before = cpu(controller.pid())?;
        tokio::time::sleep(settled).await;
        let idle = (cpu(controller.pid())? - before) / settled.as_secs_f64();
        let changed = self.changes(live).await?;
        let created = self.creations().await?;
        let (rss, peak) = (memory(controller.pid(), "VmRSS:")?, memory(controller.pid(), "VmHWM:")?);
        println!(
            "| Recordings | recording | RSS, peak (MiB) | idle (cores) | restart -> in sync | change -> reconciled p50, p99 | apply -> pod p50 | status (bytes) |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        println!(
            "| {total} | {live} | {rss}, {peak} | {idle:.3} | {in_sync:.1?} | {:.0?}, {:.0?} | {:.0?} | {bytes} |",
            at(&changed, 50),
            at(&changed, 99),
            at(&created, 50)
        );
        ensure!(rss <= RSS_MAX_MIB, "{rss} MiB");
        ensure!(idle <= IDLE_MAX, "{idle} of a core");
        ensure!(in_sync <= Duration::from_secs(30) * PATIENCE, "in sync after {in_sync:?}");
        ensure!(at(&changed, 99) <= Duration::from_millis(500) * PATIENCE, "{:?}", at(&changed, 99));
        ensure!(at(&created, 50) <= Duration::from_millis(300) * PATIENCE, "{:?}", at(&created, 50));
        let log = controller.log();
        ensure!(!log.contains("ERROR"), "{}", controller.tail());
        Ok(())
    }

    fn recordings(&self) -> Api<Recording> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// With the status that such a recording has at its end; bytes of it.
    async fn create_finished(&self, count: usize) -> Result<usize> {
        let bytes: Vec<usize> = stream::iter(0..count)
            .map(|n| async move {
                let made = self.recordings().create(&PostParams::default(), &recording(&format!("finished-{n}"))?).await?;
                let status = finished(&made)?;
                let patch = Patch::Merge(json!({"status": status}));
                self.recordings().patch_status(&made.name_any(), &PatchParams::default(), &patch).await?;
                anyhow::Ok(serde_json::to_vec(&status)?.len())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(bytes.iter().sum::<usize>() / bytes.len().max(1))
    }

    async fn create(&self, count: usize) -> Result<()> {
        stream::iter(0..count)
            .map(|n| async move { anyhow::Ok(self.recordings().create(&PostParams::default(), &recording(&format!("live-{n}"))?).await?) })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
    }

    fn controller(&self, server: &ApiServer) -> Result<Process> {
        Spec::new("controller", binary("recording-operator")?)?
            // On a machine that starves the API server a leader would rightly give up.
            .args(["run", "--recorder-image", "none", "--leader-elect=false", "--metrics-addr", &format!("127.0.0.1:{}", self.port)])
            .env("KUBECONFIG", server.kubeconfig())
            .env("POD_NAMESPACE", "default")
            .env("POD_NAME", "controller")
            .spawn()
    }

    /// From the answer to a change until the status speaks of it.
    async fn changes(&self, live: usize) -> Result<Vec<Duration>> {
        let api = self.recordings();
        let mut took = Vec::new();
        for n in 0..SAMPLES {
            let name = format!("live-{}", n % live);
            let patch = Patch::Merge(json!({"spec": {"idleTimeoutSeconds": 100 + n}}));
            let changed = api.patch(&name, &PatchParams::default(), &patch).await?;
            let began = Instant::now();
            let seen = || async {
                let found = api.get(&name).await.ok()?;
                (found.status?.observed_generation == changed.metadata.generation).then_some(())
            };
            eventually(&name, MADE, seen).await?;
            took.push(began.elapsed());
        }
        took.sort();
        Ok(took)
    }

    /// From the answer to an apply until the pod is there.
    async fn creations(&self) -> Result<Vec<Duration>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut took = Vec::new();
        for n in 0..SAMPLES / 10 {
            let made = self.recordings().create(&PostParams::default(), &recording(&format!("new-{n}"))?).await?;
            let began = Instant::now();
            let pod = names::pod_name(&made.name_any(), &names::recording_id(&made.uid().context("a uid")?), 1);
            eventually(&pod, MADE, || async { pods.get_opt(&pod).await.ok().flatten().map(drop) }).await?;
            took.push(began.elapsed());
        }
        took.sort();
        Ok(took)
    }

    async fn phase(&self, phase: &str) -> Option<usize> {
        self.metric(&format!("recording_operator_recordings{{namespace=\"{NAMESPACE}\",phase=\"{phase}\"}}")).await.map(|n| n as usize)
    }

    async fn metric(&self, series: &str) -> Option<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        let page = tokio::task::spawn_blocking(move || ureq::get(url).call().ok()?.body_mut().read_to_string().ok()).await.ok()??;
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

/// The percentile of sorted times.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn recording(name: &str) -> Result<Recording> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "recording-operator.io/v1alpha1", "kind": "Recording",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "channel": {"name": name, "livekit": {"url": "wss://sfu.example.com"}},
            "token": {"apiKeySecretRef": {"name": "livekit"}},
            "mode": "Individual",
            "storage": {"s3": {"bucket": "recordings", "region": "eu-west-1", "prefix": "acme/standups", "credentialsSecretRef": {"name": "bucket"}}},
        },
    }))?)
}

/// Of a meeting of an hour.
fn finished(recording: &Recording) -> Result<RecordingStatus> {
    let now = Timestamp::now();
    let v = validate::validate(recording, now)?;
    let time = Some(format!("{now:.3}"));
    let report = Report {
        version: 300,
        generation: 1,
        attempt: 1,
        state: ReportState::Finished,
        counters: Counters {
            recorded_files: 960,
            uploaded_files: 960,
            uploaded_bytes: 4 << 30,
            recorded_seconds: 3600,
            playlists: 4,
            ..Counters::default()
        },
        connected_time: time.clone(),
        first_media_time: time.clone(),
        stop_time: time,
        outcome: Some(ReportOutcome::new(Code::NoUsers, "", true, true)),
        ..Report::default()
    };
    Ok(status::fold(&v, &RecordingStatus::default(), Some(&report), now))
}

/// Seconds of CPU that it has taken; see proc(5).
fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // USER_HZ is 100 on every Linux that there is.
    Ok(ticks as f64 / 100.0)
}

fn memory(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse::<u64>()? / 1024)
}
