//! What no reconcile would see: pods whose Recording is gone, and listeners of pods that are.

use super::Context;
use crate::apply;
use crate::filled::Filled;
use crate::seen::belongs_to;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use kube::{Api, ResourceExt};
use recording_crds::{Recording, labels};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Such pods exist only when somebody took the Recording's finalizer away by hand; nobody waits for them.
const EVERY: Duration = Duration::from_secs(30);

/// Never returns while the caches live.
pub(super) async fn run(context: Arc<Context>, recordings: Store<Recording>, filled: Filled) {
    // Without full caches everything would look like an orphan.
    if !filled.wait().await || !context.pods.filled().await {
        return;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        let pods = context.pods.all();
        let there: HashSet<String> = pods.iter().filter_map(|pod| pod.uid()).collect();
        context.listeners.retain(|uid| there.contains(uid));
        let owners: HashSet<String> = recordings.state().iter().filter_map(|recording| recording.uid()).collect();
        for pod in pods.iter().filter(|pod| is_orphan(pod, &owners)) {
            let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
            if let Err(error) = apply::release(&api, pod).await {
                tracing::warn!(pod = pod.name_any(), %error, "failed to release a pod without a Recording");
            }
        }
    }
}

/// On its way out, held by us, and its Recording is no more.
fn is_orphan(pod: &Pod, owners: &HashSet<String>) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && pod.finalizers().iter().any(|f| f == labels::RESULT)
        && !owners.iter().any(|uid| belongs_to(pod, uid))
}
