//! The conditions, each from the facts it speaks of.

use super::Facts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use recording_crds::codes::Code;
use recording_crds::conditions::{self as c, Truth};
use recording_crds::report::{Degraded, Report, ReportOutcome, ReportState};
use recording_crds::status::{Phase, RecordingStatus};

/// While it goes on.
pub(super) fn state(status: &mut RecordingStatus, report: Option<&Report>, facts: &Facts<'_>, now: &Time) {
    set(status, c::ACCEPTED, Truth::True, "Valid", "the spec is accepted", now);
    recording(status, report, facts, now);
    if status.first_media_time.is_some() || super::media_stored(status) {
        set(status, c::UPLOADED, Truth::False, "Uploading", "media is stored while it is recorded", now);
    }
    degraded(status, report, facts, now);
    ready(status, report, facts, now);
    set(status, c::STALLED, Truth::False, "Progressing", "the recording goes on", now);
}

fn recording(status: &mut RecordingStatus, report: Option<&Report>, facts: &Facts<'_>, now: &Time) {
    let was_true = c::is_true(&status.conditions, c::RECORDING);
    let media = status.first_media_time.is_some();
    let ended = report.is_some_and(|r| matches!(r.state, ReportState::Draining | ReportState::Finished));
    if ended {
        return set(status, c::RECORDING, Truth::False, "Ended", "the recording has ended; what is left is being stored", now);
    }
    if let Some(trouble) = facts.trouble {
        let truth = if media { Truth::Unknown } else { Truth::False };
        return set(status, c::RECORDING, truth, trouble.code.as_str(), &with_remedy(trouble.code, &trouble.message), now);
    }
    if facts.restarting && media {
        return set(status, c::RECORDING, Truth::Unknown, "NextAttempt", "the next attempt is starting and continues the recording", now);
    }
    if facts.silent {
        let message = "the recorder was not heard for 30 s; it may still be recording";
        return set(status, c::RECORDING, Truth::Unknown, "ReportSilent", message, now);
    }
    // A restart in place, or a mute, does not interrupt what has begun.
    let flows = report.is_some_and(|r| r.connected && media);
    if flows || (was_true && media) {
        return set(status, c::RECORDING, Truth::True, "MediaArrives", "media is being recorded", now);
    }
    let (reason, message) = match report.map(|r| r.state) {
        None if facts.running => ("Starting", "the recorder is starting"),
        None => ("Pending", "the recorder has not started yet"),
        Some(ReportState::Starting | ReportState::Connecting) => ("Connecting", "the recorder is joining the room"),
        Some(_) => ("WaitingForMedia", "the recorder is in the room and nothing was published yet"),
    };
    set(status, c::RECORDING, if media { Truth::Unknown } else { Truth::False }, reason, message, now);
}

fn degraded(status: &mut RecordingStatus, report: Option<&Report>, facts: &Facts<'_>, now: &Time) {
    let from_pod = facts.trouble.map(|t| Degraded { code: t.code, message: t.message.clone() });
    let all: Vec<Degraded> = from_pod.into_iter().chain(report.into_iter().flat_map(|r| r.degraded.clone())).collect();
    match all.first() {
        Some(first) => {
            let message = all.iter().map(|d| with_remedy(d.code, &d.message)).collect::<Vec<_>>().join("; ");
            set(status, c::DEGRADED, Truth::True, first.code.as_str(), &message, now);
        }
        // Nothing was heard: what was degraded stays so until a report says otherwise.
        None if report.is_none() && facts.running && c::find(&status.conditions, c::DEGRADED).is_some() => {}
        None => set(status, c::DEGRADED, Truth::False, "AsAsked", "everything is as the spec asks", now),
    }
}

fn ready(status: &mut RecordingStatus, report: Option<&Report>, facts: &Facts<'_>, now: &Time) {
    match (facts.trouble, report) {
        (Some(trouble), _) => set(status, c::READY, Truth::False, trouble.code.as_str(), &with_remedy(trouble.code, &trouble.message), now),
        (None, _) if facts.silent => set(status, c::READY, Truth::Unknown, "ReportSilent", "the recorder was not heard for 30 s", now),
        // A controller that has just started has heard nothing yet, and nothing has changed by that.
        (None, None) if facts.running && !facts.restarting && c::find(&status.conditions, c::READY).is_some_and(|r| r.status == "True") => {
        }
        (None, Some(r)) if r.connected => set(status, c::READY, Truth::True, "InRoom", "the recorder is in the room", now),
        _ => set(status, c::READY, Truth::False, "NotInRoom", "the recorder is not in the room", now),
    }
}

/// The last word.
pub(super) fn finish(status: &mut RecordingStatus, code: Code, outcome: &ReportOutcome, media: bool, now: &Time) {
    let completed = status.phase == Some(Phase::Completed);
    let message = if outcome.message.is_empty() { outcome.code.meaning().to_owned() } else { outcome.message.clone() };
    let remedy = with_remedy(code, &message);
    set(status, c::RECORDING, Truth::False, "Ended", "the recording has ended", now);
    match (media, outcome.all_stored) {
        (true, true) => set(status, c::UPLOADED, Truth::True, "AllStored", "everything recorded is stored", now),
        (true, false) => set(
            status,
            c::UPLOADED,
            Truth::False,
            "UploaderFailed",
            "not everything recorded is known to be stored; the manifest says what is",
            now,
        ),
        (false, _) => set(status, c::UPLOADED, Truth::False, "NoRecordedData", "there is nothing to store", now),
    }
    set(status, c::COMPLETE, completed.into(), if completed { outcome.code.as_str() } else { "Failed" }, &message, now);
    if completed {
        set(status, c::FAILED, Truth::False, "Completed", "the recording ended in good order", now);
        set(status, c::STALLED, Truth::False, "Completed", "the recording ended in good order", now);
        set(status, c::READY, Truth::True, "Completed", "the recording is complete", now);
    } else {
        set(status, c::FAILED, Truth::True, code.as_str(), &remedy, now);
        set(status, c::STALLED, Truth::True, code.as_str(), &remedy, now);
        set(status, c::READY, Truth::False, code.as_str(), &message, now);
    }
}

pub(super) fn not_accepted(status: &mut RecordingStatus, message: &str, now: &Time) {
    set(status, c::ACCEPTED, Truth::False, Code::InvalidParameter.as_str(), message, now);
}

fn with_remedy(code: Code, message: &str) -> String {
    let message = if message.is_empty() { code.meaning() } else { message };
    format!("{}. {}", message.trim_end_matches('.'), code.remedy())
}

fn set(status: &mut RecordingStatus, type_: &str, truth: Truth, reason: &str, message: &str, now: &Time) {
    c::set(&mut status.conditions, type_, truth, reason, message, status.observed_generation, now);
}
