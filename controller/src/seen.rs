//! What is seen of a recording, as plain data: `plan` works on this, tests build it by hand.

mod trouble;

use crate::pod::CONTAINER;
use crate::report_store::Heard;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use recording_crds::codes::Code;
use recording_crds::job::{Job, JobKind};
use recording_crds::report::Report;
use recording_crds::{Recording, labels, names};
use std::sync::{Arc, LazyLock};
pub use trouble::{Trouble, trouble_from_events};

/// Everything that is known of one recording at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    pub recording: Arc<Recording>,
    /// By attempt, rising.
    pub pods: Vec<PodSeen>,
    /// The last report of the newest pod and when it was heard.
    pub heard: Option<Heard>,
    /// What the API server said when a pod could not be created.
    pub refusal: Option<Refusal>,
    /// Since when reports are listened to: a controller that has just started has heard nothing yet.
    pub listening_since: Timestamp,
}

impl Observed {
    pub fn newest(&self) -> Option<&PodSeen> {
        self.pods.last()
    }
}

/// Why the API server would not create a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The namespace is going away: nothing can ever be created in it again.
    NamespaceTerminating,
    /// Quota, Pod Security, or an admission policy; may pass.
    Trouble(Trouble),
}

/// One attempt's pod, reduced to what decides.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSeen {
    pub name: String,
    pub uid: String,
    pub attempt: i32,
    pub ip: Option<String>,
    pub node: Option<String>,
    pub created: Option<Timestamp>,
    pub deleting: Option<Timestamp>,
    pub container: Container,
    /// How the container's previous run ended, when it was restarted in place.
    pub previous: Option<Ended>,
    /// Reason of the pod's DisruptionTarget condition: preempted, evicted by the API, node lost.
    pub disruption: Option<String>,
    /// Killed by the kubelet for want of space or memory on the node.
    pub evicted: bool,
    pub ready: bool,
    /// Not ready by the word of the control plane, while the kubelet was last heard to say the opposite: the node does not answer.
    pub node_silent: bool,
    pub trouble: Option<Trouble>,
    /// Our finalizer is still on it: its result may not have been read.
    pub held: bool,
    /// The job annotation as it stands.
    pub job: Option<String>,
    /// Attempts before this one, in a row, that counted and recorded nothing; written on the pod when it was created.
    pub fruitless: u32,
    /// Seconds that were recorded when it was created.
    pub recorded_before: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Container {
    /// Not started yet, or between two runs.
    Waiting {
        crash_loop: bool,
    },
    Running,
    Ended(Ended),
}

/// How one run of the recorder ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub exit_code: i32,
    /// The kubelet's word: Completed, Error, OOMKilled.
    pub reason: String,
    pub at: Option<Timestamp>,
    /// The termination message, when it is a report.
    pub report: Option<Box<Report>>,
}

impl PodSeen {
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let recorder = recorder_status(&status).cloned().unwrap_or_default();
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            attempt: pod.labels().get(labels::ATTEMPT).and_then(|n| n.parse().ok()).unwrap_or(0),
            ip: status.pod_ip.clone(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            created: pod.creation_timestamp().map(|t| t.0),
            deleting: pod.metadata.deletion_timestamp.as_ref().map(|t| t.0),
            container: container(&recorder, &status),
            previous: previous(&recorder),
            disruption: disruption(&status),
            evicted: status.reason.as_deref() == Some("Evicted"),
            ready: recorder.ready,
            node_silent: recorder.ready && is_not_ready(&status),
            trouble: trouble::of_pod(&status, &recorder),
            held: pod.finalizers().iter().any(|f| f == labels::RESULT),
            job: pod.annotations().get(labels::JOB).cloned(),
            fruitless: pod.annotations().get(labels::FRUITLESS).and_then(|n| n.parse().ok()).unwrap_or(0),
            recorded_before: pod.annotations().get(labels::RECORDED_BEFORE).and_then(|n| n.parse().ok()).unwrap_or(0),
        }
    }

    /// No process of this pod is alive, or ever will be again.
    pub fn is_over(&self) -> bool {
        matches!(self.container, Container::Ended(_))
    }

    /// What it was created for.
    pub fn kind(&self) -> JobKind {
        self.job.as_deref().and_then(|text| Job::parse(text).ok()).map_or(JobKind::Record, |job| job.kind)
    }

    /// The final report, by the road of the termination message.
    pub fn last_words(&self) -> Option<&Report> {
        match &self.container {
            Container::Ended(ended) => ended.report.as_deref(),
            _ => None,
        }
    }

    /// It was ended from outside and not by anything the recorder did: never counts against the budget.
    pub fn was_disrupted(&self) -> bool {
        self.disruption.is_some() || (self.deleting.is_some() && !self.evicted)
    }
}

/// Is it a pod of the Recording with this uid? It owns it; or it did, and `kubectl delete --cascade=orphan` took the reference away.
pub fn belongs_to(pod: &Pod, recording: &str) -> bool {
    let owners = pod.owner_references();
    let made_for_it = || {
        let is = |label, value: &str| pod.labels().get(label).is_some_and(|found| found == value);
        is(labels::MANAGED_BY, labels::MANAGER) && is(labels::RECORDING_ID, &names::recording_id(recording))
    };
    owners.iter().any(|owner| owner.uid == recording) || owners.is_empty() && made_for_it()
}

/// Stated of a recorder that is not heard, on a node that is not heard.
pub(crate) static NODE_LOST: LazyLock<Trouble> = LazyLock::new(|| Trouble::new(Code::NodeLost, Code::NodeLost.meaning()));

fn is_not_ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "False")
}

fn recorder_status(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.as_ref()?.iter().find(|c| c.name == CONTAINER)
}

fn container(recorder: &ContainerStatus, status: &PodStatus) -> Container {
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    match recorder.state.as_ref() {
        // OnFailure restarts anything but 0 while the pod lives: only then is it the end.
        Some(ContainerState { terminated: Some(t), .. }) if over || t.exit_code == 0 => Container::Ended(ended(t)),
        Some(ContainerState { running: Some(_), .. }) if !over => Container::Running,
        // A pod that failed before its container ran (evicted, admission by the kubelet refused) has no state of it.
        _ if over => Container::Ended(Ended {
            exit_code: -1,
            reason: status.reason.clone().unwrap_or_else(|| "PodFailed".into()),
            at: None,
            report: None,
        }),
        Some(ContainerState { waiting: Some(w), .. }) => Container::Waiting { crash_loop: w.reason.as_deref() == Some("CrashLoopBackOff") },
        _ => Container::Waiting { crash_loop: false },
    }
}

/// The run before this one; between two runs it is the current state that tells of it.
fn previous(recorder: &ContainerStatus) -> Option<Ended> {
    let terminated = |state: &Option<ContainerState>| state.as_ref().and_then(|s| s.terminated.clone());
    terminated(&recorder.state).or_else(|| terminated(&recorder.last_state)).as_ref().map(ended)
}

fn ended(terminated: &ContainerStateTerminated) -> Ended {
    Ended {
        exit_code: terminated.exit_code,
        reason: terminated.reason.clone().unwrap_or_default(),
        at: terminated.finished_at.as_ref().map(|t| t.0),
        report: terminated.message.as_deref().and_then(|m| serde_json::from_str(m).ok()).map(Box::new),
    }
}

fn disruption(status: &PodStatus) -> Option<String> {
    let target = status.conditions.as_ref()?.iter().find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    Some(target.reason.clone().unwrap_or_else(|| "Disrupted".into()))
}

impl Trouble {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests;
