//! The product: from what is seen to what to do. Pure; its tests are tables.
//!
//! Every plan says when to look again, also when everything is well: an event that never comes must not be waited for.

mod lost;

use crate::job;
use crate::pod::NewPod;
use crate::report_store::Heard;
use crate::reports::HEARD_WITHIN;
use crate::seen::{Container, NODE_LOST, Observed, PodSeen, Refusal};
use crate::status::{self, COUNTERS_SECONDS, Facts, SILENCE_SECONDS};
use crate::validate::{Rejection, ValidatedRecording};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use recording_crds::codes::Code;
use recording_crds::job::{Job, JobKind, JobState, StopReason};
use recording_crds::labels;
use recording_crds::report::{Report, ReportOutcome};
use recording_crds::status::{Attempt, RecordingStatus};
use std::time::Duration;

/// Nothing is expected of a finished recording; this is only so that no state is without a next look.
pub const WAKE_FINISHED: Duration = Duration::from_secs(3600);
/// While a pod starts: its events are read again.
pub const WAKE_STARTING: Duration = Duration::from_secs(5);
/// While something keeps it from starting: most of that tells us by itself when it is over.
pub const WAKE_TROUBLED: Duration = Duration::from_secs(10);
/// A pod that was refused (quota, policy) is tried again.
pub const WAKE_REFUSED: Duration = Duration::from_secs(15);
/// The plan changed what is seen: look at once.
pub const WAKE_SOON: Duration = Duration::from_secs(1);

/// A pod that is being deleted and has not ended this long after its time was up: the next attempt starts without it, fenced.
pub const DELETION_OVERDUE_SECONDS: i64 = 10;
/// A cancelled recording that has not ended by itself: it is ended for it.
pub const CANCEL_SECONDS: i64 = 30;
/// After drainTimeoutSeconds the recorder ends by itself; this is how much later the controller ends it without it.
pub const DRAIN_MARGIN_SECONDS: i64 = 60;

/// What is to be done, in the order in which `apply` does it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub finish: Finalizer,
    /// Pods to delete before anything else: they crash again and again, or were never needed.
    pub delete: Vec<String>,
    /// To write, if it differs; it holds the attempt before the attempt's pod is created.
    pub status: RecordingStatus,
    pub create: Option<NewPod>,
    /// Pod and the job that its annotation should hold.
    pub orders: Vec<(String, Job)>,
    /// Pods whose result was read: they may go.
    pub release: Vec<String>,
    /// ttlSecondsAfterFinished is over.
    pub remove_recording: bool,
    pub wake: Duration,
}

/// The finalizer on the Recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    Leave,
    Add,
    /// After everything else of the plan was done.
    Remove,
}

impl Plan {
    fn new(status: RecordingStatus, wake: Duration) -> Self {
        let nothing = (Vec::new(), Vec::new(), Vec::new());
        Self {
            finish: Finalizer::Leave,
            delete: nothing.0,
            status,
            create: None,
            orders: nothing.1,
            release: nothing.2,
            remove_recording: false,
            wake,
        }
    }
}

/// What the newest attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing but to look again.
    Follow(Duration),
    /// Its recorder runs: reports and the pod's own changes tell what happens.
    Listen,
    /// A pod of this attempt; the pod named is deleted first.
    Start { new: NewPod, instead_of: Option<String> },
    /// The recording is over without the recorder having said so.
    End { outcome: ReportOutcome, delete: Option<String> },
}

/// What to do about a Recording.
pub fn plan(v: &ValidatedRecording, seen: &Observed, now: Timestamp) -> Plan {
    let previous = seen.recording.status.clone().unwrap_or_default();
    let folded = status::fold_facts(v, &previous, &facts(seen, now), now);
    if status::is_final(&folded) {
        return finished(v.timeouts.ttl, seen, folded, now);
    }
    match next_step(v, seen, &folded, now) {
        Step::Follow(wake) => followed(v, seen, folded, wake),
        Step::Listen => followed(v, seen, folded, until_due(seen, &previous, now)),
        Step::Start { new, instead_of } => started(v, seen, folded, new, instead_of),
        Step::End { outcome, delete } => {
            let mut plan = Plan::new(status::end(v, &folded, &outcome, now), WAKE_SOON);
            plan.delete = delete.into_iter().collect();
            plan
        }
    }
}

/// What to do about a Recording that cannot be acted on: say so, and let it go when it is deleted.
pub fn rejected(rejection: &Rejection, seen: &Observed, now: Timestamp) -> Plan {
    finished(None, seen, status::reject(&seen.recording, rejection, now), now)
}

fn facts(seen: &Observed, now: Timestamp) -> Facts<'_> {
    let newest = seen.newest();
    let (report, heard) = last_word(newest, seen.heard.as_ref());
    let running = newest.is_some_and(has_run);
    let silent = newest.is_some_and(|p| p.container == Container::Running) && silent(seen, now);
    let node_lost = silent && newest.is_some_and(|p| p.node_silent);
    let refused = match &seen.refusal {
        Some(Refusal::Trouble(trouble)) => Some(trouble),
        _ => None,
    };
    Facts {
        report,
        heard,
        running,
        silent,
        restarting: newest.is_none_or(|p| p.is_over() || p.deleting.is_some() || !has_run(p)),
        trouble: newest.and_then(|p| p.trouble.as_ref()).or(refused).or(node_lost.then(|| &*NODE_LOST)),
    }
}

/// The termination message is the last word; before it, what was heard.
fn last_word<'a>(pod: Option<&'a PodSeen>, heard: Option<&'a Heard>) -> (Option<&'a Report>, Option<Timestamp>) {
    match pod.and_then(PodSeen::last_words) {
        Some(words) => (Some(words), None),
        None => (heard.map(|h| &*h.report), heard.map(|h| h.at)),
    }
}

/// Silence is counted from the last report, from the pod's start, and from our own: a controller that has just started was not listening.
fn seconds_of_silence(seen: &Observed, now: Timestamp) -> i64 {
    let heard = seen.heard.as_ref().map(|h| h.at);
    let created = seen.newest().and_then(|p| p.created);
    let since = [heard, created, Some(seen.listening_since)].into_iter().flatten().max().unwrap_or(now);
    seconds_between(since, now)
}

fn silent(seen: &Observed, now: Timestamp) -> bool {
    seconds_of_silence(seen, now) > SILENCE_SECONDS
}

/// Until counters that alone have changed are due; what else happens wakes us. Of a recorder that answers, its listener tells when it falls silent.
fn until_due(seen: &Observed, written: &RecordingStatus, now: Timestamp) -> Duration {
    let since = seconds_of_silence(seen, now);
    let answers = seen.heard.is_some() && since.unsigned_abs() <= HEARD_WITHIN.as_secs();
    let silence = if answers { i64::MAX } else { SILENCE_SECONDS + 1 - since };
    let age = written.last_report_time.as_ref().map_or(0, |at| seconds_between(at.0, now));
    let due = silence.min(COUNTERS_SECONDS + 1 - age);
    // Overdue: it waits for the next report, which comes within 15 s.
    u64::try_from(due).ok().filter(|due| *due > 0).map_or(WAKE_STARTING, Duration::from_secs)
}

/// Its recorder runs, or ran in this pod before.
pub(crate) fn has_run(pod: &PodSeen) -> bool {
    pod.previous.is_some() || !matches!(pod.container, Container::Waiting { .. })
}

fn next_step(v: &ValidatedRecording, seen: &Observed, status: &RecordingStatus, now: Timestamp) -> Step {
    if seen.refusal == Some(Refusal::NamespaceTerminating) {
        let message = "the namespace is being deleted, so nothing more can be recorded";
        return Step::End { outcome: over(Code::Deleted, message, status), delete: None };
    }
    let number = status.attempt.as_ref().map_or(0, |a| a.number);
    match seen.newest() {
        None if number == 0 || never_seen(status) && number == 1 => first(v, status, now),
        // The attempt was written and its pod was not created, or the pod is gone without a trace.
        None => unborn(v, status, None, number, now),
        Some(pod) if pod.attempt < number => unborn(v, status, Some(pod), number, now),
        Some(pod) if pod.is_over() => lost::next(v, status, Some(pod), now),
        Some(pod) => alive(v, status, pod, now),
    }
}

fn first(v: &ValidatedRecording, status: &RecordingStatus, now: Timestamp) -> Step {
    if v.order.state != JobState::Recording {
        return Step::End { outcome: by_order(v, status), delete: None };
    }
    if let Some(outcome) = start_deadline(v, status, now) {
        return Step::End { outcome, delete: None };
    }
    Step::Start { new: NewPod::first(1, JobKind::Record), instead_of: None }
}

/// Status speaks of an attempt that has no pod: create it with the number that is written, or the next one if its pod was there before.
fn unborn(v: &ValidatedRecording, status: &RecordingStatus, older: Option<&PodSeen>, number: i32, now: Timestamp) -> Step {
    match lost::next(v, status, older, now) {
        Step::Start { new, instead_of } if never_seen(status) => Step::Start { new: NewPod { attempt: number, ..new }, instead_of },
        step => step,
    }
}

/// Its start time is written when its pod is seen.
fn never_seen(status: &RecordingStatus) -> bool {
    status.attempt.as_ref().is_some_and(|a| a.start_time.is_none())
}

fn alive(v: &ValidatedRecording, status: &RecordingStatus, pod: &PodSeen, now: Timestamp) -> Step {
    let delete = Some(pod.name.clone());
    if let Some(deleting) = pod.deleting {
        return being_deleted(v, status, pod, deleting, now);
    }
    if pod.container == (Container::Waiting { crash_loop: true }) {
        return lost::replace(v, status, pod, now);
    }
    if v.order.state != JobState::Recording && !has_run(pod) && pod.attempt == 1 {
        return Step::End { outcome: by_order(v, status), delete };
    }
    if let Some(outcome) = overdue(v, status, now) {
        return Step::End { outcome, delete };
    }
    if !has_run(pod)
        && let Some(outcome) = start_deadline(v, status, now)
    {
        return Step::End { outcome, delete };
    }
    match (has_run(pod), &pod.trouble) {
        (_, Some(_)) => Step::Follow(WAKE_TROUBLED),
        (true, None) => Step::Listen,
        (false, None) => Step::Follow(WAKE_STARTING),
    }
}

fn being_deleted(v: &ValidatedRecording, status: &RecordingStatus, pod: &PodSeen, deleting: Timestamp, now: Timestamp) -> Step {
    let node_lost = pod.disruption.as_deref() == Some("DeletionByTaintManager");
    // A pod that never ran has nothing to wait for.
    if node_lost || !has_run(pod) || seconds_between(deleting, now) >= DELETION_OVERDUE_SECONDS {
        return lost::next(v, status, Some(pod), now);
    }
    Step::Follow(WAKE_STARTING)
}

/// The order to end is so old that the recorder must have ended by itself.
fn overdue(v: &ValidatedRecording, status: &RecordingStatus, now: Timestamp) -> Option<ReportOutcome> {
    let since = v.deleting.or(status.stop_time.as_ref().map(|t| t.0))?;
    let age = seconds_between(since, now);
    match v.order.state {
        JobState::Cancelled if age > CANCEL_SECONDS => Some(over(Code::Deleted, "ended without waiting, as onDelete: Cancel asks", status)),
        _ if age > i64::from(v.timeouts.drain) + DRAIN_MARGIN_SECONDS => {
            Some(over(Code::UploaderFailed, "drainTimeoutSeconds is over and the recorder has not said that everything is stored", status))
        }
        _ => None,
    }
}

fn start_deadline(v: &ValidatedRecording, status: &RecordingStatus, now: Timestamp) -> Option<ReportOutcome> {
    let deadline = v.timeouts.start_deadline?;
    let missed = status.start_time.is_none() && seconds_between(v.created, now) >= i64::from(deadline);
    missed.then(|| {
        let why = recording_crds::conditions::find(&status.conditions, recording_crds::conditions::RECORDING);
        let why = why.map_or(String::new(), |c| format!(" ({}: {})", c.reason, c.message));
        over(Code::StartDeadlineExceeded, format!("no recorder could start within {deadline} s{why}"), status)
    })
}

/// The end that was ordered, when there is no recorder to carry it out.
pub(crate) fn by_order(v: &ValidatedRecording, status: &RecordingStatus) -> ReportOutcome {
    let code = match v.order.reason {
        Some(StopReason::Deleted) => Code::Deleted,
        Some(StopReason::StopRequested) => Code::StopRequested,
        None => Code::MaxDurationReached,
    };
    over(code, code.meaning(), status)
}

/// An end that the controller states; it cannot know that everything is stored.
pub(crate) fn over(code: Code, message: impl Into<String>, status: &RecordingStatus) -> ReportOutcome {
    let p = status.progress.clone().unwrap_or_default();
    let all_stored = p.recorded_files > 0 && p.uploaded_files >= p.recorded_files && p.backlog_seconds == 0;
    ReportOutcome::new(code, message, status::media_stored(status), all_stored)
}

fn followed(v: &ValidatedRecording, seen: &Observed, mut folded: RecordingStatus, wake: Duration) -> Plan {
    if let (Some(attempt), Some(pod)) = (folded.attempt.as_mut(), seen.newest()) {
        *attempt = Attempt {
            number: pod.attempt,
            pod: Some(pod.name.clone()),
            node: pod.node.clone(),
            start_time: pod.created.map(status::whole_seconds),
        };
    }
    let mut plan = Plan::new(folded, wake);
    plan.finish = finish(v, seen);
    plan.orders = seen.newest().and_then(|pod| order(v, pod)).into_iter().collect();
    retire_older(seen, &mut plan);
    plan
}

fn started(v: &ValidatedRecording, seen: &Observed, mut folded: RecordingStatus, new: NewPod, instead_of: Option<String>) -> Plan {
    // The number precedes the pod: whoever finds the number and no pod creates it, whoever finds neither starts there.
    folded.attempt = Some(Attempt { number: new.attempt, pod: Some(new.name(v)), node: None, start_time: None });
    let wake = if seen.refusal.is_some() { WAKE_REFUSED } else { WAKE_STARTING };
    let mut plan = Plan::new(folded, wake);
    plan.finish = finish(v, seen);
    plan.delete = instead_of.into_iter().collect();
    plan.create = Some(new);
    retire_all(seen, &mut plan);
    plan
}

/// A live pod whose annotation is not the job it should have.
fn order(v: &ValidatedRecording, pod: &PodSeen) -> Option<(String, Job)> {
    // It does not reach a pod that is already terminating.
    if pod.deleting.is_some() {
        return None;
    }
    let job = job::build(v, pod.attempt, pod.kind(), job::pod_files(v));
    (pod.job.as_deref() != Some(job.to_text().as_str())).then(|| (pod.name.clone(), job))
}

fn finish(v: &ValidatedRecording, seen: &Observed) -> Finalizer {
    let has = seen.recording.metadata.finalizers.iter().flatten().any(|f| f == labels::FINISH);
    if has || v.deleting.is_some() { Finalizer::Leave } else { Finalizer::Add }
}

/// Pods of attempts that are history: only the newest may still say something.
fn retire_older(seen: &Observed, plan: &mut Plan) {
    let older = &seen.pods[..seen.pods.len().saturating_sub(1)];
    retire(older, plan);
}

fn retire_all(seen: &Observed, plan: &mut Plan) {
    retire(&seen.pods, plan);
}

fn retire(pods: &[PodSeen], plan: &mut Plan) {
    plan.delete.extend(pods.iter().filter(|p| p.deleting.is_none()).map(|p| p.name.clone()));
    plan.delete.dedup();
    plan.release.extend(pods.iter().filter(|p| p.held).map(|p| p.name.clone()));
}

/// Over: the pods go (the last one of a failure stays, for its log), then the finalizer, in time the Recording.
fn finished(ttl: Option<u32>, seen: &Observed, status: RecordingStatus, now: Timestamp) -> Plan {
    let written = seen.recording.status.as_ref().is_some_and(status::is_final);
    let mut plan = Plan::new(status, WAKE_FINISHED);
    if !written {
        // The result is written before its only other copy may go.
        plan.wake = WAKE_SOON;
        return plan;
    }
    let keep_last = seen.recording.status.as_ref().and_then(|s| s.failure.as_ref()).is_some();
    retire(if keep_last { &seen.pods[..seen.pods.len().saturating_sub(1)] } else { &seen.pods }, &mut plan);
    if keep_last {
        plan.release.extend(seen.newest().filter(|p| p.held).map(|p| p.name.clone()));
    }
    if seen.recording.metadata.finalizers.iter().flatten().any(|f| f == labels::FINISH) {
        plan.finish = Finalizer::Remove;
    }
    let over = plan.status.completion_time.as_ref().map(|t| t.0);
    if let (Some(ttl), Some(over)) = (ttl, over) {
        let left = i64::from(ttl) - seconds_between(over, now);
        plan.remove_recording = left <= 0 && seen.recording.metadata.deletion_timestamp.is_none();
        plan.wake = Duration::from_secs(left.max(1).unsigned_abs()).min(WAKE_FINISHED);
    }
    plan
}

pub(crate) fn seconds_between(earlier: Timestamp, later: Timestamp) -> i64 {
    let between: SignedDuration = later.duration_since(earlier);
    between.as_secs()
}

#[cfg(test)]
mod tests;
