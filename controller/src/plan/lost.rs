//! An attempt ended without a result: what follows, and when enough is enough.

use super::{Step, by_order, over};
use crate::pod::NewPod;
use crate::seen::{Container, PodSeen};
use crate::status;
use crate::validate::ValidatedRecording;
use k8s_openapi::jiff::Timestamp;
use recording_crds::codes::Code;
use recording_crds::job::{JobKind, JobState};
use recording_crds::status::RecordingStatus;

/// So many attempts in a row that counted and recorded nothing new: the recording is given up.
pub(crate) const BUDGET: u32 = 3;
/// This much new media clears the count.
pub(crate) const MEDIA_CLEARS_SECONDS: i64 = 300;

/// The next step after an attempt is over; without a pod, whoever deleted it did not wait for the finalizer.
pub(crate) fn next(v: &ValidatedRecording, status: &RecordingStatus, pod: Option<&PodSeen>, now: Timestamp) -> Step {
    // A foreground deletion makes the garbage collector delete every pod at once: closing is not tried for ever against it.
    let counted = pod.is_some_and(|pod| pod.kind() == JobKind::Close || (!pod.was_disrupted() && !interrupted(pod)));
    follow(v, status, pod, counted, now)
}

/// A pod that crashes again and again is replaced while the kubelet waits.
pub(crate) fn replace(v: &ValidatedRecording, status: &RecordingStatus, pod: &PodSeen, now: Timestamp) -> Step {
    match follow(v, status, Some(pod), true, now) {
        Step::Start { new, .. } => Step::Start { new, instead_of: Some(pod.name.clone()) },
        Step::End { outcome, .. } => Step::End { outcome, delete: None },
        other => other,
    }
}

/// SIGTERM is not a failure of the recorder, whoever sent it.
fn interrupted(pod: &PodSeen) -> bool {
    !pod.evicted && matches!(&pod.container, Container::Ended(e) if e.exit_code == recording_crds::exit::INTERRUPTED)
}

fn follow(v: &ValidatedRecording, status: &RecordingStatus, pod: Option<&PodSeen>, counted: bool, now: Timestamp) -> Step {
    let recorded = status.progress.as_ref().map_or(0, |p| p.recorded_seconds);
    let fruitless = fruitless(pod, recorded, counted);
    let number = pod.map(|p| p.attempt).into_iter().chain(status.attempt.as_ref().map(|a| a.number)).max().unwrap_or(0);
    let ending = v.order.state != JobState::Recording || duration_is_over(v, status, now);
    if ending && (!status::media_stored(status) && recorded == 0 || v.order.state == JobState::Cancelled) {
        return Step::End { outcome: by_order(v, status), delete: None };
    }
    if fruitless >= BUDGET {
        let message = format!("{BUDGET} attempts in a row recorded nothing; the last one {}", how(pod));
        return Step::End { outcome: over(Code::RecorderExit, message, status), delete: None };
    }
    let kind = if ending { JobKind::Close } else { JobKind::Record };
    Step::Start { new: NewPod { attempt: number + 1, kind, fruitless, recorded_before: recorded }, instead_of: None }
}

fn fruitless(pod: Option<&PodSeen>, recorded: i64, counted: bool) -> u32 {
    let Some(pod) = pod else { return 0 };
    let new_media = recorded - pod.recorded_before;
    match (counted, new_media) {
        (_, MEDIA_CLEARS_SECONDS..) => 0,
        (true, ..=0) => pod.fruitless + 1,
        _ => pod.fruitless,
    }
}

fn duration_is_over(v: &ValidatedRecording, status: &RecordingStatus, now: Timestamp) -> bool {
    let since = status.start_time.as_ref().map(|t| super::seconds_between(t.0, now));
    since.is_some_and(|seconds| seconds >= i64::from(v.timeouts.max_duration))
}

/// In the words of the kubelet.
fn how(pod: Option<&PodSeen>) -> String {
    let ended = pod.and_then(|pod| match &pod.container {
        Container::Ended(ended) => Some(ended),
        _ => pod.previous.as_ref(),
    });
    match ended {
        Some(ended) if ended.exit_code >= 0 => format!("ended with exit code {} ({})", ended.exit_code, ended.reason),
        Some(ended) => format!("was ended by the node ({})", ended.reason),
        None => "left no trace".into(),
    }
}
