//! What a Recording says of itself: a pure merge of what it said before with what is seen now, and the one way to write it.
//!
//! Final phases latch, counters and the percentage never fall, only the newest attempt speaks, and times are whole seconds
//! because that is what comes back from the API server (anything finer would differ from itself forever).

mod conditions;
mod write;

use crate::seen::Trouble;
use crate::validate::{Rejection, ValidatedRecording};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use recording_crds::codes::{Code, Ends};
use recording_crds::job::{JobState, JobStorage};
use recording_crds::recording::Mode;
use recording_crds::report::{Report, ReportOutcome, ReportState};
use recording_crds::status::{Ending, Failure, LastGap, Phase, Progress, RecordingStatus};
use recording_crds::{Recording, names};
pub use write::{COUNTERS_SECONDS, merge_patch, worth_writing};

/// No report for this long while the recorder should be alive: what it does is unknown.
pub const SILENCE_SECONDS: i64 = 30;

/// What is seen now, besides the Recording itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The newest attempt's last report.
    pub report: Option<&'a Report>,
    /// When it was heard; absent: now.
    pub heard: Option<Timestamp>,
    /// A recorder process is alive, or has been in this attempt.
    pub running: bool,
    /// Nothing was heard for [`SILENCE_SECONDS`] though it runs.
    pub silent: bool,
    /// A further attempt is on its way.
    pub restarting: bool,
    /// What keeps the pod from running.
    pub trouble: Option<&'a Trouble>,
}

/// The status after a report was heard (or none yet): all that a runner without pods needs.
pub fn fold(v: &ValidatedRecording, previous: &RecordingStatus, report: Option<&Report>, now: Timestamp) -> RecordingStatus {
    fold_facts(v, previous, &Facts { report, running: report.is_some(), ..Facts::default() }, now)
}

/// The status after everything that is seen.
pub fn fold_facts(v: &ValidatedRecording, previous: &RecordingStatus, facts: &Facts<'_>, now: Timestamp) -> RecordingStatus {
    let mut status = previous.clone();
    status.observed_generation = Some(v.generation);
    if is_final(previous) {
        return status;
    }
    name(v, &mut status);
    let number = status.attempt.as_ref().map_or(0, |a| a.number);
    // A report of an older attempt is history; a newer one's is the truth even before its number is in our cache.
    let report = facts.report.filter(|r| r.attempt >= number);
    if let Some(report) = report {
        take_report(v, &mut status, report, facts.heard.unwrap_or(now));
    }
    status.phase = Some(phase(v, &status, report, facts.running));
    conditions::state(&mut status, report, facts, &whole_seconds(now));
    match report.and_then(|r| r.outcome.as_ref()) {
        Some(outcome) if outcome.code != Code::Superseded => end(v, &status, outcome, now),
        _ => status,
    }
}

/// The status of a recording that is over.
pub fn end(v: &ValidatedRecording, previous: &RecordingStatus, outcome: &ReportOutcome, now: Timestamp) -> RecordingStatus {
    let mut status = previous.clone();
    if is_final(previous) {
        return status;
    }
    status.observed_generation = Some(v.generation);
    name(v, &mut status);
    conclude(&mut status, outcome, now);
    status
}

/// The status of a Recording that cannot be acted on.
pub fn reject(recording: &Recording, rejection: &Rejection, now: Timestamp) -> RecordingStatus {
    let mut status = recording.status.clone().unwrap_or_default();
    if !is_final(&status) {
        status.observed_generation = recording.metadata.generation;
        conclude(&mut status, &ReportOutcome::new(Code::InvalidParameter, rejection.to_string(), false, false), now);
        conditions::not_accepted(&mut status, &rejection.to_string(), &whole_seconds(now));
    }
    status
}

fn conclude(status: &mut RecordingStatus, outcome: &ReportOutcome, now: Timestamp) {
    let media = outcome.media || media_stored(status);
    let (phase, code) = phase_after(outcome.code, media);
    let time = whole_seconds(now);
    status.phase = Some(phase);
    status.stop_time.get_or_insert_with(|| time.clone());
    status.completion_time = Some(time.clone());
    status.participant_count = Some(0);
    status.result = Some(ending(outcome));
    status.failure = (phase == Phase::Failed).then(|| failure(code, outcome));
    conditions::finish(status, code, outcome, media, &time);
}

/// Phase and code at the end: an end in good order without any media is a failure of its own.
pub fn phase_after(code: Code, media_stored: bool) -> (Phase, Code) {
    match (code.ends(), media_stored) {
        (Ends::InOrder, true) => (Phase::Completed, code),
        (Ends::InOrder, false) => (Phase::Failed, Code::NoRecordedData),
        (Ends::Failed | Ends::No, _) => (Phase::Failed, code),
    }
}

pub fn is_final(status: &RecordingStatus) -> bool {
    status.phase.is_some_and(Phase::is_final)
}

/// Some media is in one of the storages, as far as was ever reported.
pub fn media_stored(status: &RecordingStatus) -> bool {
    status.playlist_count.unwrap_or(0) > 0 || status.progress.as_ref().is_some_and(|p| p.uploaded_files + p.backup_files > 0)
}

/// `s3://bucket/prefix/key`, or `claim/folder/key` in a volume.
pub fn manifest_url(v: &ValidatedRecording) -> String {
    url(v, names::manifest_key(&v.stem))
}

fn url(v: &ValidatedRecording, key: String) -> String {
    let parts = match &v.storage {
        JobStorage::S3(s3) => [Some(format!("s3://{}", s3.bucket)), s3.prefix.clone(), Some(key)],
        JobStorage::Volume { sub_path } => [v.claim.clone(), sub_path.clone(), Some(key)],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// The API keeps seconds.
pub fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// What is known at once, and the same after any restart.
fn name(v: &ValidatedRecording, status: &mut RecordingStatus) {
    status.recording_id = Some(v.recording_id.clone());
    status.manifest = Some(names::manifest_key(&v.stem));
    status.manifest_url = Some(manifest_url(v));
    let playlist = (v.spec.mode == Mode::Composite).then(|| names::playlist_key(&v.stem));
    status.playlist_url = playlist.clone().map(|key| url(v, key));
    status.playlist = playlist;
}

fn take_report(v: &ValidatedRecording, status: &mut RecordingStatus, report: &Report, heard: Timestamp) {
    let parsed = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<Timestamp>().ok()).map(whole_seconds);
    status.start_time = status.start_time.take().or_else(|| parsed(&report.connected_time));
    status.first_media_time = status.first_media_time.take().or_else(|| parsed(&report.first_media_time));
    let known = status.stop_time.take();
    status.stop_time = match parsed(&report.stop_time) {
        Some(stop) => known.or(Some(stop)),
        // An attempt that was told to go may have called that the end (older recorders do), and another one goes on.
        None => known.filter(|_| v.order.state != JobState::Recording),
    };
    status.last_report_time = Some(whole_seconds(heard));
    status.job_generation = Some(report.generation);
    status.participant_count = Some(report.participants.into());
    let old = status.progress.clone().unwrap_or_default();
    status.progress = Some(progress(v, &old, report));
    status.playlist_count = Some(status.playlist_count.unwrap_or(0).max(report.counters.playlists.into()));
    status.gap_count = Some(status.gap_count.unwrap_or(0).max(count(report.gaps.count)));
    status.gap_seconds = Some(status.gap_seconds.unwrap_or(0).max(ceiled(report.gaps.seconds)));
    if let Some(gap) = &report.gaps.last
        && let Ok(start) = gap.start_time.parse::<Timestamp>()
    {
        status.last_gap =
            Some(LastGap { start_time: whole_seconds(start), duration_seconds: ceiled(gap.duration_seconds), reason: gap.reason.clone() });
    }
}

fn progress(v: &ValidatedRecording, old: &Progress, report: &Report) -> Progress {
    let counters = &report.counters;
    let snapshots = |old: Option<i64>, now| v.spec.output.snapshots.map(|_| old.unwrap_or(0).max(count(now)));
    let uploaded_files = old.uploaded_files.max(count(counters.uploaded_files));
    let recorded_files = old.recorded_files.max(count(counters.recorded_files));
    let percent = if recorded_files == 0 { 0 } else { (uploaded_files.saturating_mul(100) / recorded_files).min(100) };
    Progress {
        percent: old.percent.max(percent),
        uploaded_files,
        recorded_files,
        uploaded_bytes: old.uploaded_bytes.max(count(counters.uploaded_bytes)),
        recorded_seconds: old.recorded_seconds.max(count(counters.recorded_seconds)),
        backlog_seconds: count(report.backlog_seconds),
        backup_files: count(counters.backup_files),
        snapshots: snapshots(old.snapshots, counters.snapshots),
        snapshots_lost: snapshots(old.snapshots_lost, counters.snapshots_lost),
    }
}

fn phase(v: &ValidatedRecording, status: &RecordingStatus, report: Option<&Report>, running: bool) -> Phase {
    let draining = report.is_some_and(|r| matches!(r.state, ReportState::Draining | ReportState::Finished));
    if draining || v.order.state != JobState::Recording {
        Phase::Stopping
    } else if status.first_media_time.is_some() {
        Phase::Recording
    } else if running || report.is_some() || matches!(status.phase, Some(Phase::Starting)) {
        Phase::Starting
    } else {
        Phase::Pending
    }
}

fn ending(outcome: &ReportOutcome) -> Ending {
    Ending {
        reason: outcome.code,
        number: outcome.code.number().map(i64::from),
        component: outcome.component,
        message: Some(said_or(&outcome.message, outcome.code.meaning())),
        remedy: Some(said_or(&outcome.remedy, outcome.code.remedy())),
    }
}

fn failure(code: Code, outcome: &ReportOutcome) -> Failure {
    // The end was in order and only the media is missing: then the remedy is that of the missing media.
    let same = code == outcome.code;
    let message = said_or(&outcome.message, outcome.code.meaning());
    Failure {
        code,
        number: code.number().map(i64::from),
        component: if same { outcome.component } else { code.component() },
        message: Some(if same { message } else { format!("{} ({}: {message})", code.meaning(), outcome.code) }),
        remedy: Some(if same { said_or(&outcome.remedy, code.remedy()) } else { code.remedy().to_owned() }),
    }
}

fn said_or(said: &str, otherwise: &str) -> String {
    if said.is_empty() { otherwise.to_owned() } else { said.to_owned() }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn ceiled(seconds: f64) -> i64 {
    // Saturating, and NaN becomes 0: a report is input.
    seconds.ceil().max(0.0) as i64
}

#[cfg(test)]
mod tests;
