//! `recording-operator release`: takes our finalizers from Recordings and pods when the operator is gone for good.
//!
//! Finalizers hold a Recording until its media is stored, and a pod until its result was read. Without a controller nobody takes them away, and
//! what is deleted stays, its namespace too.

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use recording_crds::{Recording, labels};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};

/// Of one answer of the API server.
const PAGE: u32 = 500;
/// A Lease is renewed every second; clocks of two machines may differ by this much, less is not believed.
const FORGOTTEN_SECONDS: i64 = 60;

/// Whose finalizers, and whether it is really meant.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true))]
pub struct ReleaseArgs {
    /// Everything of ours in all namespaces
    #[arg(long, group = "whose")]
    pub all: bool,
    /// Everything of ours in this namespace
    #[arg(short, long, group = "whose", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only say what would be released
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Also while a controller runs, which would put them back on what it still records
    #[arg(long)]
    pub while_running: bool,
}

/// A kind of which we hold objects.
trait Ours: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned {}
impl Ours for Recording {}
impl Ours for Pod {}

/// One object that we hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    kind: &'static str,
    namespace: String,
    name: String,
    finalizers: Vec<String>,
    version: Option<String>,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Asks, then releases; says each object on standard output.
///
/// # Errors
/// When a controller runs, nobody confirms, or an object could not be released; the others are released all the same.
pub async fn run(args: &ReleaseArgs) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = Client::try_default().await.context("failed to find a cluster: run in a pod, or set KUBECONFIG")?;
    if !args.while_running {
        no_controller(&client).await?;
    }
    let recordings = held::<Recording>(&client, args, "recording", labels::FINISH, &ListParams::default()).await?;
    let ours = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let pods = held::<Pod>(&client, args, "pod", labels::RESULT, &ours).await?;
    if recordings.is_empty() && pods.is_empty() {
        return say("nothing is held");
    }
    if args.dry_run {
        return recordings.iter().chain(&pods).try_for_each(|held| say(&format!("{held} would be released")));
    }
    if !args.yes {
        confirm(recordings.len(), pods.len())?;
    }
    // Pods first: a Recording that goes takes its pods along.
    let mut failed = 0;
    for pod in &pods {
        failed += u32::from(!release_one::<Pod>(&client, pod, labels::RESULT).await?);
    }
    for recording in &recordings {
        failed += u32::from(!release_one::<Recording>(&client, recording, labels::FINISH).await?);
    }
    ensure!(failed == 0, "{failed} objects were not released; run it again");
    Ok(())
}

/// Refuses while a Lease of ours is renewed.
async fn no_controller(client: &Client) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::all(client.clone());
    let params = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let leases = leases.list(&params).await.context("failed to look for controllers (--while-running does not look)")?;
    let now = Timestamp::now();
    if let Some((lease, holder)) = leases.items.iter().find_map(|lease| Some((lease, alive(lease.spec.as_ref()?, now)?))) {
        let (namespace, name) = (lease.namespace().unwrap_or_default(), lease.name_any());
        bail!("a controller runs: {holder} holds the Lease {namespace}/{name}. Uninstall it first, or say --while-running");
    }
    Ok(())
}

/// The holder of a Lease that was renewed not long ago. One that could not release it any more is forgotten.
fn alive(lease: &LeaseSpec, now: Timestamp) -> Option<&str> {
    let holder = lease.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
    let renewed = lease.renew_time.as_ref()?.0;
    (now.as_second() - renewed.as_second() < FORGOTTEN_SECONDS).then_some(holder)
}

async fn held<K: Ours>(
    client: &Client,
    args: &ReleaseArgs,
    kind: &'static str,
    finalizer: &str,
    params: &ListParams,
) -> anyhow::Result<Vec<Held>> {
    let api = api::<K>(client, args.namespace.as_deref());
    let (mut found, mut params) = (Vec::new(), params.clone().limit(PAGE));
    loop {
        let page = api.list_metadata(&params).await.with_context(|| format!("failed to list {kind}s"))?;
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        let ours = page.items.iter().filter(|object| object.finalizers().iter().any(|f| f == finalizer));
        found.extend(ours.map(|object: &PartialObjectMeta<K>| Held {
            kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            finalizers: object.finalizers().to_vec(),
            version: object.resource_version(),
        }));
        if params.continue_token.is_none() {
            return Ok(found);
        }
    }
}

/// Whether it was; what is gone already is fine. Over the version that was listed: a finalizer that somebody adds meanwhile is kept.
async fn release_one<K: Ours>(client: &Client, held: &Held, finalizer: &str) -> anyhow::Result<bool> {
    let left: Vec<&String> = held.finalizers.iter().filter(|f| *f != finalizer).collect();
    let patch = json!({"metadata": {"resourceVersion": held.version, "finalizers": left}});
    let api = api::<K>(client, Some(&held.namespace));
    match api.patch_metadata(&held.name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => say(&format!("{held} released")).map(|()| true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
        Err(error) => say(&format!("{held} not released: {error}")).map(|()| false),
    }
}

fn api<K: Ours>(client: &Client, namespace: Option<&str>) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn confirm(recordings: usize, pods: usize) -> anyhow::Result<()> {
    ensure!(std::io::stdin().is_terminal(), "nobody can be asked here: say --yes, or --dry-run to see what it is about");
    say(&format!(
        "{recordings} Recordings and {pods} pods will be released. What recorders have not stored yet may be lost when their Recording is deleted."
    ))?;
    print!("Type yes to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == "yes", "nothing was released");
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
