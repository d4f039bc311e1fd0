//! The recorder pod: ValidatedRecording -> Pod. It passes Pod Security `restricted` and cannot fail to be built.

mod parts;

use crate::job;
use crate::validate::ValidatedRecording;
use k8s_openapi::api::core::v1::{LocalObjectReference, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::core::ObjectMeta;
use recording_crds::job::{JobKind, VERSION_LABEL};
use recording_crds::{Recording, labels, names};
use std::collections::BTreeMap;

/// Name of the recorder's container; others in the pod (a mesh's sidecar) are not looked at.
pub const CONTAINER: &str = "recorder";
/// What every recorder pod of this controller has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub name: String,
    /// Always, IfNotPresent or Never.
    pub pull_policy: String,
    /// Layouts may name images on private addresses.
    pub allow_private_images: bool,
}

/// A pod that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    pub attempt: i32,
    pub kind: JobKind,
    pub fruitless: u32,
    pub recorded_before: i64,
}

impl NewPod {
    pub fn first(attempt: i32, kind: JobKind) -> Self {
        Self { attempt, kind, fruitless: 0, recorded_before: 0 }
    }

    pub fn name(&self, v: &ValidatedRecording) -> String {
        names::pod_name(&v.name, &v.recording_id, self.attempt)
    }
}

pub fn build(v: &ValidatedRecording, new: &NewPod, image: &Image) -> Pod {
    Pod { metadata: metadata(v, new), spec: Some(spec(v, image)), status: None }
}

fn metadata(v: &ValidatedRecording, new: &NewPod) -> ObjectMeta {
    ObjectMeta {
        name: Some(new.name(v)),
        namespace: Some(v.namespace.clone()),
        labels: Some(pod_labels(v, new)),
        annotations: Some(annotations(v, new)),
        owner_references: Some(vec![owner(v)]),
        finalizers: Some(vec![labels::RESULT.into()]),
        ..ObjectMeta::default()
    }
}

fn pod_labels(v: &ValidatedRecording, new: &NewPod) -> BTreeMap<String, String> {
    let ours = [
        (labels::NAME, labels::NAME_RECORDER.to_owned()),
        (labels::COMPONENT, labels::NAME_RECORDER.to_owned()),
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
        (labels::RECORDING, v.name.clone()),
        (labels::RECORDING_ID, v.recording_id.clone()),
        (labels::ATTEMPT, new.attempt.to_string()),
        (labels::JOB_VERSION, VERSION_LABEL.to_owned()),
    ];
    merged(&v.pod.labels, ours)
}

fn annotations(v: &ValidatedRecording, new: &NewPod) -> BTreeMap<String, String> {
    let job = job::build(v, new.attempt, new.kind, job::pod_files(v));
    let mut annotations = merged(
        &v.pod.annotations,
        [
            (labels::JOB, job.to_text()),
            (labels::FRUITLESS, new.fruitless.to_string()),
            (labels::RECORDED_BEFORE, new.recorded_before.to_string()),
        ],
    );
    // Hints to autoscalers not to move a recording; the user's own word goes first.
    for (hint, value) in [("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true")] {
        annotations.entry(hint.into()).or_insert_with(|| value.into());
    }
    annotations
}

fn merged<const N: usize>(theirs: &BTreeMap<String, String>, ours: [(&str, String); N]) -> BTreeMap<String, String> {
    theirs.clone().into_iter().chain(ours.map(|(key, value)| (key.to_owned(), value))).collect()
}

/// Without blockOwnerDeletion: that would need a right on finalizers of the owner and delays foreground deletion.
fn owner(v: &ValidatedRecording) -> OwnerReference {
    OwnerReference {
        api_version: Recording::api_version(&()).into_owned(),
        kind: Recording::kind(&()).into_owned(),
        name: v.name.clone(),
        uid: v.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn spec(v: &ValidatedRecording, image: &Image) -> PodSpec {
    let pull_secrets: Vec<LocalObjectReference> = v.pod.image_pull_secrets.clone();
    PodSpec {
        containers: vec![parts::container(v, image)],
        volumes: Some(parts::volumes(v)),
        security_context: Some(parts::pod_security()),
        restart_policy: Some("OnFailure".into()),
        // Its token is for workload identity at the storage; the recorder never talks to the API server.
        automount_service_account_token: Some(v.pod.service_account_name.is_some()),
        service_account_name: v.pod.service_account_name.clone(),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(v.sizes.grace_seconds.into()),
        tolerations: Some(parts::tolerations(v)),
        affinity: v.pod.affinity.clone(),
        node_selector: (!v.pod.node_selector.is_empty()).then(|| v.pod.node_selector.clone()),
        priority_class_name: v.pod.priority_class_name.clone(),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        ..PodSpec::default()
    }
}

#[cfg(test)]
mod tests;
