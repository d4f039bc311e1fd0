//! The one port: `/metrics /healthz /readyz /v1/report`. Counts only, no names; open to whoever reaches the pod.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use recording_crds::report::Report;
use serde::Deserialize;

use crate::metrics::Metrics;
use crate::report::Publisher;

/// A long poll waits no longer than this.
const WAIT_MAX_SECONDS: u64 = 15;

#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(address: &str, shown: Shown) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(shown)).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    });
    Ok(())
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(|State(shown): State<Shown>| async move { shown.metrics.text() }))
        .route("/healthz", get(|State(shown): State<Shown>| async move { verdict(shown.publisher.is_alive()) }))
        .route("/readyz", get(ready))
        .route("/v1/report", get(report))
        .with_state(shown)
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    verdict(shown.publisher.is_alive() && shown.publisher.current().connected)
}

const fn verdict(ok: bool) -> (StatusCode, &'static str) {
    if ok { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok\n") }
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

async fn report(State(shown): State<Shown>, Query(query): Query<After>) -> Json<Report> {
    let wait = Duration::from_secs(query.wait.min(WAIT_MAX_SECONDS));
    Json(shown.publisher.newer_than(query.after, wait).await)
}
