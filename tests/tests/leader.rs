//! Two controllers on a real API server: one acts, never two, and the other takes over in time.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use recording_tests::harness::cluster::api_server::ApiServer;
use recording_tests::harness::process::{Process, Spec, wait_until};
use recording_tests::harness::{binary, ports};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
/// [D] From the death of the leader until the next one leads.
const TAKEOVER_MAX: Duration = Duration::from_secs(9);
/// [D] From SIGTERM: the Lease is released, the other looks twice a second.
const HANDOVER_MAX: Duration = Duration::from_secs(4);
/// [D] A leader that cannot renew has ended by then: deadline and a moment to end.
const GIVE_UP_MAX: Duration = Duration::from_secs(7);
const LEASE: &str = "recording-operator";

/// One controller, its page of metrics, and when it was seen to lead.
struct Candidate {
    process: Process,
    port: u16,
}

impl Candidate {
    fn start(server: &ApiServer, name: &str) -> Result<Self> {
        let port = ports::free_port(Ipv4Addr::LOCALHOST.into())?;
        let process = Spec::new(name, binary("recording-operator")?)?
            .args(["run", "--recorder-image", "none", "--log-format", "json", "--metrics-addr", &format!("127.0.0.1:{port}")])
            .env("KUBECONFIG", server.kubeconfig())
            .env("POD_NAMESPACE", "default")
            .env("POD_NAME", name)
            .spawn()?;
        let mut candidate = Self { process, port };
        candidate.process.wait_until("/readyz, leading or not", LIMIT, || page(port, "readyz").map(drop))?;
        Ok(candidate)
    }

    fn leads(&self) -> bool {
        leads(self.port).is_some()
    }
}

fn page(port: u16, name: &str) -> Option<String> {
    ureq::get(format!("http://127.0.0.1:{port}/{name}")).call().ok()?.body_mut().read_to_string().ok()
}

/// Every version of the Lease, in the order in which the API server stored them: resourceVersion and holder.
type Spans = Arc<Mutex<Vec<(u64, Option<String>)>>>;

/// Watches until the runtime goes.
fn watch(server: &ApiServer) -> Result<(tokio::runtime::Runtime, Spans)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let spans = Spans::default();
    let client = runtime.block_on(async {
        let config = kube::config::Kubeconfig::read_from(server.kubeconfig())?;
        anyhow::Ok(Client::try_from(Config::from_custom_kubeconfig(config, &Default::default()).await?)?)
    })?;
    let seen = spans.clone();
    runtime.spawn(async move {
        let api: Api<Lease> = Api::namespaced(client, "default");
        let config = watcher::Config::default().fields(&format!("metadata.name={LEASE}"));
        let leases = watcher(api, config).default_backoff().applied_objects();
        leases
            .into_stream()
            .filter_map(|lease| std::future::ready(lease.ok()))
            .for_each(|lease| {
                let version = lease.metadata.resource_version.and_then(|v| v.parse().ok()).unwrap_or(0);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((version, lease.spec.and_then(|s| s.holder_identity)));
                std::future::ready(())
            })
            .await;
    });
    Ok((runtime, spans))
}

/// The holders in turn, each with its first and last version.
fn holders(spans: &Spans) -> Vec<(String, u64, u64)> {
    let mut turns: Vec<(String, u64, u64)> = Vec::new();
    let mut before = None;
    for (version, holder) in spans.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(holder) = holder {
            match turns.last_mut().filter(|_| before.as_ref() == Some(holder)) {
                Some(turn) => turn.2 = *version,
                None => turns.push((holder.clone(), *version, *version)),
            }
        }
        before = holder.clone();
    }
    turns
}

#[test]
fn one_of_two_leads_and_the_other_takes_over_in_time() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(&recording_crds::crd::yaml(), &["--server-side"])?;
    let (_runtime, spans) = watch(&server)?;
    let mut a = Candidate::start(&server, "a")?;
    a.process.wait_until("to lead", LIMIT, || leads(a.port))?;
    let mut b = Candidate::start(&server, "b")?;
    ensure!(a.leads() && !b.leads(), "two lead");

    // Killed: nobody released anything.
    a.process.kill();
    let died = Instant::now();
    b.process.wait_until("to take over", LIMIT, || leads(b.port))?;
    let took = died.elapsed();
    ensure!(took <= TAKEOVER_MAX, "took over after {took:?}");
    println!("killed: the other led after {took:?}");

    // Told to go: released.
    a.process.restart()?;
    a.process.wait_for_line("standing by", LIMIT)?;
    let told = Instant::now();
    b.process.signal(libc::SIGTERM)?;
    let status = b.process.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", b.process.tail());
    a.process.wait_until("to take over", LIMIT, || leads(a.port))?;
    ensure!(told.elapsed() <= HANDOVER_MAX, "took over after {:?}", told.elapsed());
    println!("SIGTERM: the other led after {:?}", told.elapsed());

    // Frozen for longer than its Lease: when it wakes it must not go on.
    b.process.restart()?;
    wait_until("b to stand by", LIMIT, || (b.process.log().matches("standing by").count() >= 2).then_some(()))?;
    a.process.signal(libc::SIGSTOP)?;
    b.process.wait_until("to take over from who sleeps", LIMIT, || leads(b.port))?;
    a.process.signal(libc::SIGCONT)?;
    let status = a.process.wait(LIMIT)?;
    ensure!(status.code() == Some(1) && a.process.log().contains("lost the Lease"), "{status}: {}", a.process.tail());
    ensure!(b.leads(), "{}", b.process.tail());

    let turns = wait_until("the watch to have seen all", LIMIT, || Some(holders(&spans)).filter(|turns| turns.len() >= 4))?;
    let names: Vec<&str> = turns.iter().map(|(name, ..)| name.as_str()).collect();
    ensure!(names == ["a", "b", "a", "b"], "{turns:?}");
    ensure!(turns.windows(2).all(|pair| pair[0].2 < pair[1].1), "spans overlap: {turns:?}");
    Ok(())
}

#[test]
fn a_leader_that_cannot_renew_ends_before_its_lease_does() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(&recording_crds::crd::yaml(), &["--server-side"])?;
    let mut a = Candidate::start(&server, "a")?;
    a.process.wait_until("to lead", LIMIT, || leads(a.port))?;
    server.process().signal(libc::SIGSTOP)?;
    let silent = Instant::now();
    let ended = a.process.wait(LIMIT);
    let took = silent.elapsed();
    server.process().signal(libc::SIGCONT)?;
    let status = ended?;
    ensure!(status.code() == Some(1), "{status}: {}", a.process.tail());
    ensure!(a.process.log().contains("could not be renewed for 5 s"), "{}", a.process.tail());
    ensure!(took <= GIVE_UP_MAX, "ended after {took:?}");
    println!("API server away: ended after {took:?}");
    Ok(())
}

#[test]
fn a_lease_that_is_taken_or_deleted_ends_the_leader() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(&recording_crds::crd::yaml(), &["--server-side"])?;
    let takes: [&[&str]; 2] =
        [&["patch", "lease", LEASE, "--type=merge", "-p", r#"{"spec":{"holderIdentity":"somebody"}}"#], &["delete", "lease", LEASE]];
    for take in takes {
        // Without waiting for the eight seconds of whoever was before.
        server.kubectl(&["delete", "lease", LEASE, "--ignore-not-found"])?;
        let mut a = Candidate::start(&server, "a")?;
        a.process.wait_until("to lead", LIMIT, || leads(a.port))?;
        server.kubectl(&["label", "lease", LEASE, "harmless=yes"])?;
        let renewed = || server.kubectl(&["get", "lease", LEASE, "-o", "jsonpath={.spec.renewTime}"]).context("the Lease");
        let before = renewed()?;
        a.process.wait_until("to renew what somebody labelled", LIMIT, || renewed().ok().filter(|time| *time != before))?;
        server.kubectl(take)?;
        let status = a.process.wait(LIMIT)?;
        ensure!(status.code() == Some(1) && a.process.log().contains("lost the Lease"), "{take:?}: {status}: {}", a.process.tail());
        for line in a.process.log().lines() {
            let line: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            ensure!(line["level"].is_string() && line["message"].is_string(), "{line}");
        }
    }
    Ok(())
}

/// Nothing is under way before the caches are full, and nobody would fill them any more.
#[test]
fn one_that_has_not_seen_everything_yet_ends_when_told_to() -> Result<()> {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    let server = format!("http://{}", mute.local_addr()?);
    std::fs::write(
        &kubeconfig,
        format!(
            "{{apiVersion: v1, kind: Config, current-context: mute, clusters: [{{name: mute, cluster: {{server: \"{server}\"}}}}], \
             contexts: [{{name: mute, context: {{cluster: mute, user: none}}}}], users: [{{name: none, user: {{}}}}]}}"
        ),
    )?;
    let mut process = Spec::new("early", binary("recording-operator")?)?
        .args(["run", "--recorder-image", "none", "--leader-elect=false", "--log-format", "json", "--metrics-addr", "127.0.0.1:0"])
        .env("KUBECONFIG", &kubeconfig)
        .spawn()?;
    process.wait_for_line("watching Recordings", LIMIT)?;
    process.signal(libc::SIGTERM)?;
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", process.tail());
    Ok(())
}

fn leads(port: u16) -> Option<()> {
    page(port, "metrics")?.lines().any(|line| line == "recording_operator_leader 1").then_some(())
}
