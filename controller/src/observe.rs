//! Step one, the only one that looks: the Recording, its pods from the cache, the last report heard.

use crate::controller::{Context, Error};
use crate::plan::has_run;
use crate::seen::{Container, Observed, PodSeen, trouble_from_events};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use recording_crds::Recording;
use std::sync::Arc;

/// A pod that has not started by then has perhaps said why in its events; before it they would be asked for in vain.
const EVENTS_AFTER_SECONDS: i64 = 3;
/// Of one pod; the newest that matters is among them.
const EVENTS_MAX: u32 = 50;

pub(crate) async fn observe(recording: Arc<Recording>, context: &Context) -> Result<Observed, Error> {
    // An empty cache is not an empty cluster.
    if !context.pods.filled().await {
        return Err(Error::CacheGone);
    }
    let uid = recording.uid().unwrap_or_default();
    let mut pods = pods_of(&recording, context);
    if let Some(newest) = pods.last_mut() {
        listen(newest, &recording, context);
        if let (None, true) = (&newest.trouble, is_slow(newest)) {
            newest.trouble = trouble_from_events(&events_of(newest, &recording, context).await?);
        }
    }
    for older in pods.iter().rev().skip(1) {
        context.listeners.leave(&older.uid);
    }
    Ok(Observed {
        heard: pods.last().and_then(|pod| context.reports.of(&pod.uid)),
        refusal: context.refusals.of(&uid),
        listening_since: context.started,
        pods,
        recording,
    })
}

fn pods_of(recording: &Recording, context: &Context) -> Vec<PodSeen> {
    let mut pods: Vec<PodSeen> = context.pods.of(recording).iter().map(|pod| PodSeen::of(pod)).collect();
    pods.sort_by_key(|pod| pod.attempt);
    pods
}

/// A live pod with an address is listened to; one that is over has said what it had to say.
fn listen(pod: &PodSeen, recording: &Recording, context: &Context) {
    match (&pod.container, pod.ip.as_deref().and_then(|ip| ip.parse().ok())) {
        (Container::Running, Some(ip)) => context.listeners.follow(&pod.uid, ip, ObjectRef::from_obj(recording)),
        (Container::Ended(_), _) => context.listeners.leave(&pod.uid),
        _ => {}
    }
}

fn is_slow(pod: &PodSeen) -> bool {
    let age = pod.created.map_or(0, |created| Timestamp::now().as_second() - created.as_second());
    pod.node.is_some() && !has_run(pod) && age >= EVENTS_AFTER_SECONDS
}

/// The kubelet says of a volume that it cannot mount only here.
async fn events_of(pod: &PodSeen, recording: &Recording, context: &Context) -> Result<Vec<Event>, Error> {
    let api: Api<Event> = Api::namespaced(context.client.clone(), &recording.namespace().unwrap_or_default());
    let params = ListParams::default().fields(&format!("involvedObject.uid={}", pod.uid)).limit(EVENTS_MAX);
    let events = api.list(&params).await.map_err(|source| Error::Kubernetes { doing: "list the pod's events", source })?;
    Ok(events.items)
}
