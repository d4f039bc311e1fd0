//! What Kubernetes says that keeps a pod from running, as a code of ours with its remedy.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, PodStatus};
use recording_crds::codes::Code;

/// Kubernetes' own messages can be long; a condition message is for reading.
const MESSAGE_MAX: usize = 512;
/// Where something was left out of one.
const CUT: &str = " … ";
/// The kubelet's words (pkg/kubelet/images, 1.36): `Back-off pulling image "x": ErrImagePull: why`.
const BACK_OFF: &str = "Back-off pulling image ";
const ERR_IMAGE_PULL: &str = ": ErrImagePull: ";

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
        text => shortened(without_back_off(text)),
    };
    Trouble { code, message }
}

/// Between two pulls the kubelet puts this before what the last one said: the same trouble, so the same message.
fn without_back_off(text: &str) -> &str {
    let pull = |rest: &str| rest.find(ERR_IMAGE_PULL).map(|at| at + ERR_IMAGE_PULL.len());
    text.strip_prefix(BACK_OFF).and_then(|rest| rest.get(pull(rest)?..)).unwrap_or(text)
}

/// Its beginning and its end: errors are wrapped, and the cause stands last.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= MESSAGE_MAX {
        return text.to_owned();
    }
    let (head, tail) = (MESSAGE_MAX / 3, MESSAGE_MAX - MESSAGE_MAX / 3 - CUT.chars().count());
    let end: String = text.chars().skip(length - tail).collect();
    text.chars().take(head).chain(CUT.chars()).chain(end.chars()).collect()
}
