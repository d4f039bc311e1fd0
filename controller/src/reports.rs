//! Listening to recorders: one long poll per live pod, bounded in number; what is heard goes to the store and wakes a reconcile.
//!
//! Reconcile itself never calls a pod: a recorder that hangs costs one waiting task and nothing else.

use crate::report_store::ReportStore;
use crate::status::SILENCE_SECONDS;
use futures::channel::mpsc::UnboundedSender;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use recording_crds::Recording;
use recording_crds::report::Report;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long the recorder holds a question that has no news; older ones answer after 10 s. A finished segment is the news that most have most often.
const WAIT: Duration = Duration::from_secs(15);
/// Beyond its own wait, what the network and the recorder may take; then the question is asked again.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// Between questions to a recorder that does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// A recorder that answers has been heard at most this long ago.
pub const HEARD_WITHIN: Duration = WAIT.saturating_add(ANSWER_MARGIN).saturating_add(RETRY);
/// Silence is told after this long, and each time again.
const SILENCE: Duration = Duration::from_secs(SILENCE_SECONDS.unsigned_abs() + 1);
/// A report is counts only; anything larger is not one.
const REPORT_MAX_BYTES: usize = 64 << 10;
/// Read at once: a report of the usual size with its head. One connection for each recorder keeps such a buffer.
const READ_BYTES: usize = 2 << 10;
/// Questions under way at once; beyond it recorders are heard in turn, later than within a second.
const IN_FLIGHT_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the recorder did not answer in time")]
    Timeout,
    #[error("failed to ask the recorder: {0}")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("the recorder answered {0}")]
    Status(hyper::StatusCode),
    #[error("failed to read the recorder's answer: {0}")]
    Body(String),
    #[error("the recorder's answer is not a report: {0}")]
    Syntax(#[from] serde_json::Error),
}

static CLIENT: LazyLock<Client<HttpConnector, Empty<Bytes>>> = LazyLock::new(|| {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(ANSWER_MARGIN));
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(Duration::from_secs(30)).http1_read_buf_exact_size(READ_BYTES);
    builder.build(connector)
});

/// The report when it is newer than version `after`, or the last one after `wait`.
pub async fn fetch(recorder: SocketAddr, after: u64, wait: Duration) -> Result<Report, FetchError> {
    let text = format!("http://{recorder}/v1/report?after={after}&wait={}", wait.as_secs());
    let uri = text.parse().expect("a socket address and two numbers make a URI");
    let answer = tokio::time::timeout(wait + ANSWER_MARGIN, read(uri)).await;
    answer.map_err(|_| FetchError::Timeout)?
}

async fn read(uri: hyper::Uri) -> Result<Report, FetchError> {
    let response = CLIENT.get(uri).await?;
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), REPORT_MAX_BYTES).collect().await;
    let bytes = body.map_err(|error| FetchError::Body(error.to_string()))?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

/// The tasks that listen, by pod uid.
#[derive(Debug)]
pub struct Listeners {
    store: ReportStore,
    wake: UnboundedSender<ObjectRef<Recording>>,
    in_flight: Arc<Semaphore>,
    tasks: Mutex<HashMap<String, AbortOnDropHandle<()>>>,
}

impl Listeners {
    /// Every report that is news sends its Recording down `wake`, and so does silence.
    pub fn new(store: ReportStore, wake: UnboundedSender<ObjectRef<Recording>>) -> Self {
        Self { store, wake, in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), tasks: Mutex::default() }
    }

    /// Listens to this pod from now on; nothing happens when it is listened to already.
    pub fn follow(&self, pod_uid: &str, ip: IpAddr, recording: ObjectRef<Recording>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.get(pod_uid).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let listener = Listener {
            store: self.store.clone(),
            wake: self.wake.clone(),
            in_flight: self.in_flight.clone(),
            pod_uid: pod_uid.to_owned(),
            address: SocketAddr::new(ip, recording_crds::paths::PORT),
            recording,
        };
        tasks.insert(pod_uid.to_owned(), AbortOnDropHandle::new(tokio::spawn(listener.listen())));
    }

    /// The pod is over or gone. What it said is kept until `forget`.
    pub fn leave(&self, pod_uid: &str) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(pod_uid);
    }

    pub fn forget(&self, pod_uid: &str) {
        self.leave(pod_uid);
        self.store.forget(pod_uid);
    }

    /// Forgets the pods that are not there any more; nobody says so of a pod that was deleted by force.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let gone: Vec<String> = {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.keys().filter(|uid| !is_there(uid)).cloned().collect()
        };
        gone.iter().for_each(|uid| self.forget(uid));
    }
}

struct Listener {
    store: ReportStore,
    wake: UnboundedSender<ObjectRef<Recording>>,
    in_flight: Arc<Semaphore>,
    pod_uid: String,
    address: SocketAddr,
    recording: ObjectRef<Recording>,
}

impl Listener {
    /// Until the last word, or until it is dropped.
    async fn listen(self) {
        let (mut version, mut heard) = (0, Instant::now());
        loop {
            let Ok(permit) = self.in_flight.acquire().await else { return };
            // Without version it is answered at once.
            let patience = SILENCE.saturating_sub(heard.elapsed()).max(RETRY);
            let answer = tokio::time::timeout(patience, fetch(self.address, version, WAIT)).await;
            let answer = answer.unwrap_or(Err(FetchError::Timeout));
            drop(permit);
            match answer {
                Ok(report) => {
                    (version, heard) = (report.version, Instant::now());
                    let over = report.outcome.is_some();
                    if self.store.put(&self.pod_uid, report, Timestamp::now()) {
                        self.wake();
                    }
                    if over {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(recording = %self.recording, %error, "no report");
                    // A process that restarted in place counts its versions from the beginning.
                    version = 0;
                    if heard.elapsed() >= SILENCE {
                        heard = Instant::now();
                        self.wake();
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn wake(&self) {
        // The receiver only goes away with the controller.
        self.wake.unbounded_send(self.recording.clone()).ok();
    }
}

#[cfg(test)]
mod tests;
