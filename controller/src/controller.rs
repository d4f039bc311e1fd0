//! The spine, and the wiring that drives it.

mod sweep;

use crate::cli::{ElectionArgs, RunArgs};
use crate::filled::Filled;
use crate::leader::Elector;
use crate::metrics::{self, Caches, Metrics};
use crate::pod::Image;
use crate::pods::{self, Pods, PodsWriter};
use crate::refusals::Refusals;
use crate::report_store::ReportStore;
use crate::reports::Listeners;
use crate::{apply, observe, plan, validate};
use anyhow::Context as _;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client};
use recording_crds::{Recording, labels};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Recordings looked at at once.
const CONCURRENCY: u16 = 16;
/// Of a process that was told twice to end.
const EXIT_INTERRUPTED: i32 = 130;
/// After an error that concerns the moment.
const RETRY: Duration = Duration::from_secs(5);
/// After somebody else wrote first: the cache needs a moment.
const RETRY_CONFLICT: Duration = Duration::from_millis(500);

/// What a reconcile works with; no state of any recording that is not in the API server or the recorder.
pub struct Context {
    pub client: Client,
    pub pods: Pods,
    pub reports: ReportStore,
    pub listeners: Listeners,
    pub refusals: Refusals,
    pub image: Image,
    pub started: Timestamp,
    pub events: Recorder,
    pub metrics: Metrics,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("image", &self.image).field("started", &self.started).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {doing}: {source}")]
    Kubernetes { doing: &'static str, source: kube::Error },
    #[error("the pod {pod} belongs to somebody else; delete it, or name the Recording differently")]
    NameTaken { pod: String },
    #[error("the cache of pods has ended")]
    CacheGone,
}

impl Error {
    /// A bounded word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Kubernetes { source: kube::Error::Api(status), .. } if status.is_conflict() => "conflict",
            Error::Kubernetes { source: kube::Error::Api(status), .. } if status.is_forbidden() => "forbidden",
            Error::Kubernetes { source: kube::Error::Api(_), .. } => "api",
            Error::Kubernetes { .. } => "connection",
            Error::NameTaken { .. } => "name_taken",
            Error::CacheGone => "cache",
        }
    }
}

/// One look at one Recording: observe, validate, plan, apply.
pub async fn reconcile(recording: Arc<Recording>, context: Arc<Context>) -> Result<Action, Error> {
    let _timer = context.metrics.reconcile_duration.start_timer();
    let now = Timestamp::now();
    let seen = observe::observe(recording, &context).await?;
    let validated = validate::validate(&seen.recording, now);
    let plan = match &validated {
        Ok(v) => plan::plan(v, &seen, now),
        Err(rejection) => plan::rejected(rejection, &seen, now),
    };
    tracing::debug!(recording = %ObjectRef::from_obj(&*seen.recording), phase = ?plan.status.phase, wake = ?plan.wake, "planned");
    let wake = apply::apply(&plan, validated.as_ref().ok(), &seen, &context).await?;
    Ok(Action::requeue(wake))
}

fn on_error(recording: Arc<Recording>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.reconcile_errors.with_label_values(&[error.category()]).inc();
    if error.category() == "conflict" {
        return Action::requeue(RETRY_CONFLICT);
    }
    tracing::warn!(recording = %ObjectRef::from_obj(&*recording), %error, "will be tried again");
    Action::requeue(RETRY)
}

/// Waits for the Lease, then runs until SIGTERM or Ctrl-C; recordings go on without us.
///
/// # Errors
/// When it cannot begin, and when the Lease is lost: whoever holds it now must be the only one that acts.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    // Another crate of the build may bring a second provider; then rustls would refuse to choose.
    rustls::crypto::ring::default_provider().install_default().ok();
    let stop = stop_on_signal()?;
    let client = Client::try_default().await.context("failed to find a cluster: run in a pod, or set KUBECONFIG")?;
    let metrics = Metrics::new()?;
    let caches = Caches::default();
    let server = metrics::serve(args.metrics_addr, metrics.clone(), caches.clone()).await?;
    tokio::select! {
        done = lead(&args, &client, &metrics, &caches, &stop) => done,
        served = server => served.context("failed to serve metrics"),
    }
}

/// From standing by to the release of the Lease.
async fn lead(args: &RunArgs, client: &Client, metrics: &Metrics, caches: &Caches, stop: &CancellationToken) -> anyhow::Result<()> {
    if !args.election.leader_elect {
        metrics.leader.set(1);
        act(args, client, metrics, caches, stop).await;
        return Ok(());
    }
    let elector = elector(&args.election, client);
    let Some(mut held) = stop.run_until_cancelled(elector.acquire()).await else {
        // It may have been ours just now.
        elector.release().await;
        return Ok(());
    };
    metrics.leader.set(1);
    let lost = tokio::select! {
        () = act(args, client, metrics, caches, stop) => None,
        lost = held.keep() => Some(lost),
    };
    metrics.leader.set(0);
    match lost {
        Some(lost) => Err(anyhow::Error::new(lost).context("must not go on")),
        None => {
            elector.release().await;
            Ok(())
        }
    }
}

fn elector(args: &ElectionArgs, client: &Client) -> Elector {
    let namespace = args.lease_namespace.as_deref().unwrap_or(client.default_namespace());
    let identity = args.identity.clone().unwrap_or_else(|| format!("{}-{}", labels::MANAGER, uuid::Uuid::new_v4()));
    Elector::new(client.clone(), namespace, &args.lease_name, &identity)
}

/// Reconciles until told to stop, and then until what is under way has ended.
async fn act(args: &RunArgs, client: &Client, metrics: &Metrics, caches: &Caches, stop: &CancellationToken) {
    let namespaces: Vec<Option<&str>> = match args.watch_namespaces.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let scopes: Vec<Scope> = namespaces.into_iter().map(|namespace| Scope::new(client, namespace, args, metrics)).collect();
    caches.begin(scopes.iter().map(|scope| (scope.recordings.clone(), scope.filled.clone())).collect());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), image = args.recorder_image, "watching Recordings");
    future::join_all(scopes.into_iter().map(|scope| scope.run(stop.clone()))).await;
}

/// Cancelled at the first SIGTERM or Ctrl-C; a second one ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let cancelled = stop.clone();
    let mut signalled = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::spawn(async move {
        signalled().await;
        tracing::info!("stopping when what is under way has ended; recordings go on");
        cancelled.cancel();
        signalled().await;
        tracing::warn!("stopping at once");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(stop)
}

/// All namespaces, or one: a controller with caches of its own.
struct Scope {
    recordings: Store<Recording>,
    filled: Filled,
    recordings_writer: reflector::store::Writer<Recording>,
    pods_writer: PodsWriter,
    recordings_api: Api<Recording>,
    pods_api: Api<Pod>,
    woken: UnboundedReceiver<ObjectRef<Recording>>,
    context: Arc<Context>,
}

impl Scope {
    fn new(client: &Client, namespace: Option<&str>, args: &RunArgs, metrics: &Metrics) -> Self {
        let (recordings, recordings_writer) = reflector::store();
        let (pods, pods_writer) = pods::cache();
        let (wake, woken) = futures::channel::mpsc::unbounded();
        let reports = ReportStore::default();
        let context = Context {
            client: client.clone(),
            pods,
            listeners: Listeners::new(reports.clone(), wake),
            reports,
            refusals: Refusals::default(),
            image: Image {
                name: args.recorder_image.clone(),
                pull_policy: args.image_pull_policy.clone(),
                allow_private_images: args.allow_private_images,
            },
            started: Timestamp::now(),
            events: Recorder::new(client.clone(), Reporter::from(labels::MANAGER)),
            metrics: metrics.clone(),
        };
        Self {
            filled: Filled::of(&recordings),
            recordings,
            recordings_writer,
            pods_writer,
            recordings_api: api(client, namespace),
            pods_api: api(client, namespace),
            woken,
            context: Arc::new(context),
        }
    }

    async fn run(self, stop: CancellationToken) {
        // Until both caches are full every reconcile waits for them. Stopped then, it would wait for ever: nobody fills them any more.
        let (filled, caches) = (self.filled.clone(), self.context.clone());
        let full = async move { filled.wait().await && caches.pods.filled().await }.shared();
        let in_order = {
            let (full, stop) = (full.clone(), stop.clone());
            async move {
                full.await;
                stop.cancelled().await;
            }
        };
        let early = stop.run_until_cancelled(full).then(|full| async move {
            if full.is_some() {
                future::pending::<()>().await;
            }
        });
        let sweeping = sweep::run(self.context.clone(), self.recordings.clone(), self.filled);
        let everything = watcher::Config::default();
        let ours = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
        let recordings =
            watcher(self.recordings_api, everything).default_backoff().modify(slim).reflect(self.recordings_writer).touched_objects();
        let mut pods_writer = self.pods_writer;
        let pods = watcher(self.pods_api, ours)
            .default_backoff()
            .modify(pods::slim)
            .inspect_ok(move |event| pods_writer.take(event))
            .touched_objects();
        let reconciling = Controller::for_stream(recordings, self.recordings)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .owns_stream(pods)
            .reconcile_on(self.woken)
            .graceful_shutdown_on(in_order)
            .run(reconcile, on_error, self.context)
            .for_each(|_| future::ready(()));
        tokio::select! {
            () = reconciling => {}
            () = sweeping => {}
            () = early => {}
        }
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What nobody here looks at is not kept, ten thousand times over.
fn slim(recording: &mut Recording) {
    recording.metadata.managed_fields = None;
    if let Some(annotations) = &mut recording.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    if let Some(status) = &mut recording.status {
        status.conditions.shrink_to_fit();
    }
}
