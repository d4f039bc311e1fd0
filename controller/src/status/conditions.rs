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
        let backup = status.progress.as_ref().map_or(0, |p| p.backup_files);
        if backup > 0 {
            let message = format!("{backup} files are in backupStorage; they are moved when storage works again");
            set(status, c::UPLOADED, Truth::False, "BackedUp", &message, now);
            set(status, c::BACKED_UP, Truth::True, "StorageRefused", &message, now);
        } else {
            set(status, c::UPLOADED, Truth::False, "Uploading", "media is stored while it is recorded", now);
            not_backed_up(status, "Moved", "what was in backupStorage was moved to storage", now);
        }
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
    let interrupted = report.is_some_and(|r| r.state == ReportState::Interrupted);
    if (facts.restarting || interrupted) && media {
        return set(status, c::RECORDING, Truth::Unknown, "NextAttempt", "the next attempt is starting and continues the recording", now);
    }
    if facts.silent {
        let message = "the recorder was not heard for 30 s; it may still be recording";
        return set(status, c::RECORDING, Truth::Unknown, "ReportSilent", message, now);
    }
    // A restart in place, a mute or a lost connection does not interrupt what has begun.
    let in_room = report.is_some_and(|r| r.connected);
    if media && (was_true || in_room) {
        let left = report.is_some() && !in_room;
        let message = if left { "it goes on; the recorder is not in the room now, and joins again" } else { "media is being recorded" };
        return set(status, c::RECORDING, Truth::True, "MediaArrives", message, now);
    }
    let (reason, message) = match report.map(|r| r.state) {
        None if facts.running => ("Starting", "the recorder is starting"),
        None => ("Pending", "the recorder has not started yet"),
        Some(ReportState::Starting | ReportState::Connecting) => ("Connecting", "the recorder is joining the room"),
        Some(ReportState::Unknown) => {
            ("StateUnknown", "the recorder is of a newer version and in a state that this controller does not know")
        }
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
    let backup = status.progress.as_ref().map_or(0, |p| p.backup_files);
    match (media, outcome.all_stored) {
        (true, false) if outcome.backed_up => {
            let message = format!("{backup} files are in backupStorage and not in storage; the manifest there names them");
            set(status, c::UPLOADED, Truth::False, "BackedUp", &message, now);
            set(status, c::BACKED_UP, Truth::True, "StorageRefused", &message, now);
        }
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
    if outcome.all_stored {
        not_backed_up(status, "Moved", "what was in backupStorage was moved to storage", now);
    } else if !outcome.backed_up {
        not_backed_up(status, "UploaderFailed", "not everything recorded is in one of the storages", now);
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

/// Only of a recording that was: most have no backup, or never need it.
fn not_backed_up(status: &mut RecordingStatus, reason: &str, message: &str, now: &Time) {
    if c::find(&status.conditions, c::BACKED_UP).is_some() {
        set(status, c::BACKED_UP, Truth::False, reason, message, now);
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
