//! What Kubernetes says that keeps a pod from running, as a code of ours with its remedy.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, PodStatus};
use recording_crds::codes::Code;

/// Kubernetes' own messages can be long; a condition message is for reading.
const MESSAGE_MAX: usize = 512;

/// Stated while it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub code: Code,
    pub message: String,
}

/// From the pod alone: scheduling and the container's waiting reason.
pub(super) fn of_pod(status: &PodStatus, recorder: &ContainerStatus) -> Option<Trouble> {
    unschedulable(status).or_else(|| waiting(recorder))
}

fn unschedulable(status: &PodStatus) -> Option<Trouble> {
    let scheduled = status.conditions.as_ref()?.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    (scheduled.reason.as_deref() == Some("Unschedulable")).then(|| {
        let message = scheduled.message.clone().unwrap_or_default();
        // The scheduler's own word for a claim that is not there.
        let code = if message.contains("persistentvolumeclaim") { Code::VolumeUnavailable } else { Code::Unschedulable };
        said(code, &message)
    })
}

fn waiting(recorder: &ContainerStatus) -> Option<Trouble> {
    let waiting = recorder.state.as_ref()?.waiting.as_ref()?;
    let code = match waiting.reason.as_deref()? {
        "CreateContainerConfigError" => Code::SecretNotFound,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => Code::ImageUnavailable,
        "CreateContainerError" | "RunContainerError" => Code::RecorderInit,
        _ => return None,
    };
    Some(said(code, waiting.message.as_deref().unwrap_or_default()))
}

/// From the pod's events: a volume that cannot be mounted is said nowhere else.
pub fn trouble_from_events(events: &[Event]) -> Option<Trouble> {
    let newest = events
        .iter()
        .filter(|e| matches!(e.reason.as_deref(), Some("FailedMount" | "FailedAttachVolume")))
        .max_by_key(|e| e.last_timestamp.as_ref().map(|t| t.0).or_else(|| e.event_time.as_ref().map(|t| t.0)))?;
    let message = newest.message.as_deref().unwrap_or_default();
    let names_a_key = ["secret", "configmap", "references non-existent"].iter().any(|word| message.to_ascii_lowercase().contains(word));
    Some(said(if names_a_key { Code::SecretNotFound } else { Code::VolumeUnavailable }, message))
}

fn said(code: Code, kubernetes: &str) -> Trouble {
    let message = match kubernetes.trim() {
        "" => code.meaning().to_owned(),
        text => text.chars().take(MESSAGE_MAX).collect(),
    };
    Trouble { code, message }
}
