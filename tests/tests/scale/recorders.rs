//! Recorder pods without a kubelet: of each new one it is said that it runs, and its report is answered on an address of its own.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use recording_crds::labels;
use recording_crds::paths::PORT;
use recording_crds::report::{Counters, Report, ReportState};
use serde_json::json;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A finished segment of 15 s is the news that a recorder has most often.
const NEWS_EVERY: Duration = Duration::from_secs(15);

/// Until it is dropped.
pub async fn run(client: Client, namespace: String) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let ours = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let mut seen = HashSet::new();
    let mut events = watcher(pods.clone(), ours).default_backoff().applied_objects().boxed();
    while let Some(pod) = events.try_next().await? {
        if seen.insert(pod.uid().unwrap_or_default()) {
            let address = address(seen.len());
            let listener = TcpListener::bind((address, PORT)).await.with_context(|| address.to_string())?;
            tokio::spawn(serve(listener, seen.len()));
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(running(address))).await?;
        }
    }
    Ok(())
}

/// All of 127/8 is this machine.
fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 99, (n / 250) as u8, (n % 250 + 1) as u8)
}

/// As a kubelet says it.
fn running(address: Ipv4Addr) -> serde_json::Value {
    let now = format!("{:.0}", Timestamp::now());
    let container = json!({
        "name": "recorder", "image": "none", "imageID": "none", "ready": true, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    });
    let ip = address.to_string();
    json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now, "containerStatuses": [container],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
    }})
}

async fn serve(listener: TcpListener, n: usize) {
    // Spread, as meetings are.
    let began = Instant::now() - NEWS_EVERY.mul_f64((n % 97) as f64 / 97.0);
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(answer(connection, began));
    }
}

/// One connection, question after question; its end is the asker's.
async fn answer(connection: TcpStream, began: Instant) -> Option<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let mut question = String::new();
        connection.read_line(&mut question).await.ok()?;
        let mut header = String::from("-");
        while !header.trim().is_empty() {
            header.clear();
            if connection.read_line(&mut header).await.ok()? == 0 {
                return None;
            }
        }
        let number = |key: &str| -> Option<u64> { question.split_once(key)?.1.split(['&', ' ']).next()?.parse().ok() };
        let (after, wait) = (number("after=")?, Duration::from_secs(number("wait=")?));
        let news = began + NEWS_EVERY * u32::try_from(after).ok()?;
        tokio::time::sleep_until(news.min(Instant::now() + wait)).await;
        let body = serde_json::to_string(&report(began)).ok()?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all((head + &body).as_bytes()).await.ok()?;
    }
}

/// In the room since it began.
fn report(began: Instant) -> Report {
    let age = began.elapsed();
    let files = age.as_secs() / NEWS_EVERY.as_secs();
    let joined = Timestamp::now().as_second().saturating_sub(age.as_secs().cast_signed());
    let joined = Timestamp::from_second(joined).map(|at| format!("{at:.3}")).ok();
    Report {
        version: 1 + files,
        generation: 1,
        attempt: 1,
        state: ReportState::Recording,
        connected: true,
        participants: 4,
        counters: Counters {
            recorded_files: 4 * files,
            uploaded_files: 4 * files,
            uploaded_bytes: files << 20,
            recorded_seconds: age.as_secs(),
            playlists: 4,
            ..Counters::default()
        },
        connected_time: joined.clone(),
        first_media_time: joined,
        ..Report::default()
    }
}
