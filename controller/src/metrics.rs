//! Prometheus metrics (names of the API) and the three pages: /metrics, /healthz, /readyz.
//!
//! What can be read from the cache is computed when it is asked for; only what happened is counted.

mod scrape;

use crate::filled::Filled;
use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use kube::runtime::reflector::Store;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use recording_crds::Recording;
use recording_crds::status::RecordingStatus;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::task::JoinHandle;

/// Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub reconcile_duration: Histogram,
    pub reconcile_errors: IntCounterVec,
    /// 1 while this process holds the Lease, or needs none.
    pub leader: IntGauge,
    failures: IntCounterVec,
    scrape: scrape::Gauges,
}

impl Metrics {
    pub fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let duration = HistogramOpts::new("recording_operator_reconcile_duration_seconds", "How long one look at one Recording takes");
        let metrics = Self {
            reconcile_duration: Histogram::with_opts(duration)?,
            reconcile_errors: counter("reconcile_errors_total", "Looks that failed and are tried again", &["category"])?,
            leader: IntGauge::new("recording_operator_leader", "1 while this controller is the one that acts")?,
            failures: counter("recording_failures_total", "Recordings that ended as Failed", &["code", "component"])?,
            scrape: scrape::Gauges::new(&registry)?,
            registry,
        };
        metrics.registry.register(Box::new(metrics.reconcile_duration.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_errors.clone()))?;
        metrics.registry.register(Box::new(metrics.failures.clone()))?;
        metrics.registry.register(Box::new(metrics.leader.clone()))?;
        let build = gauge("build_info", "Always 1; the version is in the label", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(build))?;
        Ok(metrics)
    }

    /// Counts a failure once: when it is written.
    pub fn ended(&self, old: &RecordingStatus, new: &RecordingStatus) {
        if let (None, Some(failure)) = (&old.failure, &new.failure) {
            self.failures.with_label_values(&[failure.code.as_str(), &failure.component.to_string()]).inc();
        }
    }

    /// The page, computed from the caches.
    pub fn text(&self, caches: &[Store<Recording>]) -> String {
        let recordings: Vec<_> = caches.iter().flat_map(Store::state).collect();
        self.scrape.fill(&recordings, k8s_openapi::jiff::Timestamp::now());
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

fn counter(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(format!("recording_operator_{name}"), help), labels)
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(format!("recording_operator_{name}"), help), labels)
}

/// Of one namespace, or of all; and whether it has been filled.
type Cache = (Store<Recording>, Filled);

/// What the pages read; the caches come when this process begins to act. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caches(Arc<OnceLock<Vec<Cache>>>);

impl Caches {
    /// Only the first call counts.
    pub(crate) fn begin(&self, caches: Vec<(Store<Recording>, Filled)>) {
        self.0.set(caches).ok();
    }

    /// None while standing by: two controllers must not count the same Recordings.
    fn stores(&self) -> Vec<Store<Recording>> {
        self.0.get().into_iter().flatten().map(|(store, _)| store.clone()).collect()
    }

    /// Who stands by is ready to take over; who acts is when its caches are filled: until then nothing is reconciled.
    fn ready(&self) -> bool {
        self.0.get().into_iter().flatten().all(|(_, filled)| filled.already())
    }
}

type Pages = State<(Metrics, Caches)>;

/// Listens before it returns, so that a taken port is an error at the start.
pub(crate) async fn serve(address: SocketAddr, metrics: Metrics, caches: Caches) -> anyhow::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| format!("failed to listen on --metrics-addr {address}"))?;
    let pages = Router::new()
        .route("/metrics", get(|State((metrics, caches)): Pages| async move { metrics.text(&caches.stores()) }))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state((metrics, caches));
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, pages).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    }))
}

async fn ready(State((_, caches)): Pages) -> (StatusCode, &'static str) {
    if caches.ready() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet") }
}

#[cfg(test)]
mod tests;
