//! The harness itself: real servers start, answer, and leave nothing behind.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use recording_tests::harness::cluster::{Cluster, GATEWAY, PAUSE_IMAGE};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Spec, run, wait_until};
use recording_tests::harness::s3::S3;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_process_goes_with_its_owner() -> Result<()> {
    let mut process = Spec::new("sleeper", "sh")?.args(["-c", "echo started; sleep 1000 & wait"]).spawn()?;
    process.wait_for_line("started", LIMIT)?;
    let group = process.pid();
    drop(process);
    // Its child too: signal 0 only asks whether the group has members.
    wait_until("the end of the whole group", LIMIT, || run("kill", ["-0", "--", &format!("-{group}")]).is_err().then_some(()))
}

#[test]
fn an_early_end_is_told_with_the_log() -> Result<()> {
    let mut process = Spec::new("failing", "sh")?.args(["-c", "echo no such option >&2; exit 3"]).spawn()?;
    let error = process.wait_until("an answer", LIMIT, || None::<()>).err().context("it cannot have answered")?;
    let told = format!("{error:#}");
    ensure!(told.contains("exit status: 3") && told.contains("no such option"), "{told}");
    Ok(())
}

#[test]
fn livekit_knows_its_rooms_and_forgets_them_when_killed() -> Result<()> {
    let mut livekit = LiveKit::start()?;
    livekit.room_service("CreateRoom", json!({"name": "lobby"}))?;
    let rooms = livekit.room_service("ListRooms", json!({}))?;
    ensure!(rooms["rooms"][0]["name"] == "lobby", "{rooms}");
    livekit.kill();
    livekit.restart()?;
    let rooms = livekit.room_service("ListRooms", json!({}))?;
    ensure!(rooms["rooms"].as_array().is_none_or(Vec::is_empty), "{rooms}");
    Ok(())
}

#[test]
fn s3_keeps_what_is_put_over_a_restart() -> Result<()> {
    let mut s3 = S3::start()?;
    s3.create_bucket("media")?;
    ensure!(s3.list("media")?.is_empty());
    for key in ["b/2.ts", "a.json", "b/1 with space.ts"] {
        s3.put("media", key, key.as_bytes())?;
    }
    s3.kill();
    ensure!(s3.list("media").is_err(), "a killed store does not answer");
    s3.restart()?;
    ensure!(s3.list("media")? == ["a.json", "b/1 with space.ts", "b/2.ts"], "{:?}", s3.list("media")?);
    ensure!(s3.get("media", "b/1 with space.ts")? == b"b/1 with space.ts");
    ensure!(s3.head("media", "a.json")?["content-length"] == "6");
    s3.delete("media", "a.json")?;
    ensure!(s3.get("media", "a.json").is_err_and(|error| error.to_string().contains("404")));
    Ok(())
}

#[test]
fn a_cluster_runs_pods_and_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start()?;
    ensure!(cluster.kubectl(&["version"])?.contains("Server Version: v1.36.3"));
    let livekit = LiveKit::start_on(IpAddr::V4(GATEWAY))?;
    let s3 = S3::start_on(IpAddr::V4(GATEWAY))?;
    ensure!(livekit.url().contains("10.213.0.1") && s3.endpoint().contains("10.213.0.1"));
    pod_runs_and_can_be_looked_into(&cluster)?;
    killed_container_comes_back(&cluster)?;
    pod_security_is_enforced(&cluster)?;
    ensure!(cluster.helm(&["list", "--all-namespaces", "--output", "json"])?.trim() == "[]");
    let logs = cluster.logs().to_owned();
    drop((livekit, s3));
    drop(cluster);
    nothing_is_left()?;
    let kept = run("find", [logs.join("pods").as_os_str(), "-name".as_ref(), "*.log".as_ref()])?;
    ensure!(kept.contains("holder"), "the containers' logs are kept: {kept}");
    Ok(())
}

fn pod_runs_and_can_be_looked_into(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("pods")?;
    namespace.apply(&pod("one", ""))?;
    namespace.wait_for("pod/one", "condition=Ready", LIMIT)?;
    // Ready says that the process runs, not that its words have reached the log.
    let log = wait_until("the container's log", LIMIT, || namespace.kubectl(&["logs", "one"]).ok().filter(|log| !log.is_empty()))?;
    ensure!(log.trim() == "hello from a pod", "{log}");
    let executed = namespace.kubectl(&["exec", "one", "--", "/pause-absent"]);
    let told = format!("{:#}", executed.err().context("there is no such program")?);
    ensure!(told.contains("no such file"), "exec reaches the container's runtime: {told}");
    Ok(())
}

fn killed_container_comes_back(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("killed")?;
    namespace.apply(&pod("one", ""))?;
    namespace.wait_for("pod/one", "condition=Ready", LIMIT)?;
    cluster.kill_container(namespace.name(), "one", "holder")?;
    namespace.wait_for("pod/one", "jsonpath={.status.containerStatuses[0].restartCount}=1", LIMIT)?;
    let code = namespace.kubectl(&["get", "pod", "one", "-o", "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}"])?;
    ensure!(code == "137", "{code}");
    Ok(())
}

fn pod_security_is_enforced(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("restricted")?;
    cluster.kubectl(&["label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted"])?;
    let refusal = namespace.apply(&pod("loose", "privileged: true")).err().context("a privileged pod must be refused")?;
    ensure!(format!("{refusal:#}").contains("violates PodSecurity"), "{refusal:#}");
    Ok(())
}

fn pod(name: &str, security: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 terminationGracePeriodSeconds: 2\n\
         \x20 containers:\n\
         \x20 - name: holder\n\
         \x20   image: {PAUSE_IMAGE}\n\
         \x20   imagePullPolicy: Never\n\
         \x20   args: [hello, from, a, pod]\n\
         \x20   securityContext: {{{security}}}\n"
    )
}

fn nothing_is_left() -> Result<()> {
    let state = "/tmp/recording-cluster";
    ensure!(!Path::new(state).exists(), "the state folder is gone");
    ensure!(!Path::new("/sys/class/net/recording0").exists(), "the bridge is gone");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(state), "no mount is left: {mounts}");
    let remembered = run("grep", ["--recursive", "--files-with-matches", state, "/var/lib/cni", "/var/log/containers"]);
    ensure!(remembered.is_err(), "no plugin remembers a pod: {remembered:?}");
    let processes = run("ps", ["-eo", "args"])?;
    let ours = processes.lines().find(|line| line.contains(&format!("{state}/")));
    ensure!(ours.is_none(), "no process is left: {ours:?}");
    for port in [6443, 10250] {
        ensure!(std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok(), "port {port} is free again");
    }
    Ok(())
}
