//! The step that acts. The order matters: what must be true before an object exists is written before it is created, and what
//! only exists in one place is written down before that place may go.

use crate::controller::{Context, Error};
use crate::plan::{Finalizer, Plan, WAKE_SOON};
use crate::pod::{self, NewPod};
use crate::seen::{Observed, belongs_to};
use crate::validate::ValidatedRecording;
use crate::{events, refusals, status};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMetaExt;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use recording_crds::{Recording, labels};
use serde_json::{Value, json};
use std::time::Duration;

/// Carries out the plan; when to look again.
pub(crate) async fn apply(plan: &Plan, v: Option<&ValidatedRecording>, seen: &Observed, context: &Context) -> Result<Duration, Error> {
    let act = Act::new(seen, context);
    let mut version = seen.recording.resource_version();
    if plan.finish == Finalizer::Add {
        version = act.set_finalizers(with(seen.recording.finalizers(), labels::FINISH), version).await?;
    }
    for pod in &plan.delete {
        act.delete_pod(pod).await?;
    }
    version = act.write_status(plan, version).await?;
    let mut wake = plan.wake;
    if let (Some(new), Some(v)) = (&plan.create, v) {
        wake = wake.min(act.create(new, v).await?);
    }
    for (pod, job) in &plan.orders {
        let patch = json!({"metadata": {"annotations": {labels::JOB: job.to_text()}}});
        gone_is_fine(act.pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await, "write the job")?;
    }
    for pod in &plan.release {
        act.release(pod).await?;
    }
    if plan.finish == Finalizer::Remove {
        act.set_finalizers(without(seen.recording.finalizers(), labels::FINISH), version).await?;
    }
    if plan.remove_recording {
        act.remove_recording().await?;
    }
    Ok(wake)
}

struct Act<'a> {
    seen: &'a Observed,
    context: &'a Context,
    recordings: Api<Recording>,
    pods: Api<Pod>,
    name: String,
}

impl<'a> Act<'a> {
    fn new(seen: &'a Observed, context: &'a Context) -> Self {
        let namespace = seen.recording.namespace().unwrap_or_default();
        Self {
            seen,
            context,
            recordings: Api::namespaced(context.client.clone(), &namespace),
            pods: Api::namespaced(context.client.clone(), &namespace),
            name: seen.recording.name_any(),
        }
    }

    /// Only over the version that was looked at: two controllers, or a stale cache, end here with a conflict.
    async fn write_status(&self, plan: &Plan, version: Option<String>) -> Result<Option<String>, Error> {
        let old = self.seen.recording.status.clone().unwrap_or_default();
        if !status::worth_writing(&old, &plan.status) {
            return Ok(version);
        }
        let changes = status::merge_patch(&to_json(&old), &to_json(&plan.status));
        let patch = json!({"metadata": {"resourceVersion": version}, "status": changes});
        let written = self.recordings.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let written = written.map_err(|source| Error::Kubernetes { doing: "write the status", source })?;
        self.context.metrics.ended(&old, &plan.status);
        events::publish(&self.context.events, &self.seen.recording, events::notices(&old, &plan.status)).await;
        Ok(written.resource_version())
    }

    /// The pod of an attempt whose number is written; when to look again if it was refused.
    async fn create(&self, new: &NewPod, v: &ValidatedRecording) -> Result<Duration, Error> {
        let pod = pod::build(v, new, &self.context.image);
        match self.pods.create(&PostParams::default(), &pod).await {
            Ok(_) => self.context.refusals.forget(&v.uid),
            Err(kube::Error::Api(status)) if status.is_already_exists() => self.check_owner(&pod.name_any(), &v.uid).await?,
            Err(kube::Error::Api(status)) if refusals::is_refusal(&status) => {
                let refusal = refusals::refusal(&status);
                let news = self.seen.refusal.as_ref() != Some(&refusal);
                self.context.refusals.put(&v.uid, refusal);
                // The next reconcile states it; without news there is nothing to hurry for.
                return Ok(if news { WAKE_SOON } else { Duration::MAX });
            }
            Err(source) => return Err(Error::Kubernetes { doing: "create the recorder pod", source }),
        }
        Ok(Duration::MAX)
    }

    /// Our cache was behind, or a stranger has the name.
    async fn check_owner(&self, pod: &str, uid: &str) -> Result<(), Error> {
        let found = self.pods.get_opt(pod).await.map_err(|source| Error::Kubernetes { doing: "read the recorder pod", source })?;
        match found {
            Some(found) if !belongs_to(&found, uid) => Err(Error::NameTaken { pod: pod.to_owned() }),
            _ => Ok(()),
        }
    }

    async fn delete_pod(&self, pod: &str) -> Result<(), Error> {
        let params = match self.seen.pods.iter().find(|p| p.name == pod) {
            Some(seen) => DeleteParams::default().preconditions(Preconditions { uid: Some(seen.uid.clone()), resource_version: None }),
            None => DeleteParams::default(),
        };
        gone_is_fine(self.pods.delete(pod, &params).await, "delete a recorder pod")
    }

    /// Its result was read: the pod may go.
    async fn release(&self, pod: &str) -> Result<(), Error> {
        let namespace = self.seen.recording.namespace().unwrap_or_default();
        let Some(cached) = self.context.pods.get(&ObjectRef::<Pod>::new(pod).within(&namespace)) else { return Ok(()) };
        self.context.listeners.forget(&cached.uid().unwrap_or_default());
        release(&self.pods, &cached).await
    }

    async fn set_finalizers(&self, finalizers: Vec<String>, version: Option<String>) -> Result<Option<String>, Error> {
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        match self.recordings.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written) => Ok(written.resource_version()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(version),
            Err(source) => Err(Error::Kubernetes { doing: "write the finalizers", source }),
        }
    }

    async fn remove_recording(&self) -> Result<(), Error> {
        let only_this = Preconditions { uid: self.seen.recording.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(only_this);
        gone_is_fine(self.recordings.delete(&self.name, &params).await, "delete the finished Recording")
    }
}

/// Takes our finalizer from this very pod, not from a later one of its name.
pub(crate) async fn release(pods: &Api<Pod>, pod: &Pod) -> Result<(), Error> {
    let meta = kube::core::ObjectMeta { finalizers: Some(without(pod.finalizers(), labels::RESULT)), ..Default::default() };
    let mut patch = to_json(&meta.into_request_partial::<Pod>());
    patch["metadata"]["uid"] = json!(pod.uid());
    match pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        other => gone_is_fine(other, "release a recorder pod"),
    }
}

fn gone_is_fine<T>(result: kube::Result<T>, doing: &'static str) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(Error::Kubernetes { doing, source }),
    }
}

fn with(finalizers: &[String], ours: &str) -> Vec<String> {
    without(finalizers, ours).into_iter().chain([ours.to_owned()]).collect()
}

fn without(finalizers: &[String], ours: &str) -> Vec<String> {
    finalizers.iter().filter(|f| *f != ours).cloned().collect()
}

fn to_json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("API types are JSON")
}
