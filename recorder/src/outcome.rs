//! Every way to end, as a code of the API: one exhaustive match each.

use recorder_media::{Degradation, GapReason, Outcome};
use recording_crds::codes::Code;
use recording_crds::report::ReportOutcome;

use crate::connect::{EndReason, Stage};
use crate::store::StoreFailure;

/// Why a recorder never got to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitFailure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl InitFailure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<StoreFailure> for InitFailure {
    fn from(failure: StoreFailure) -> Self {
        match failure {
            StoreFailure::Invalid(why) => Self::new(Code::InvalidParameter, why),
            StoreFailure::Denied(why) | StoreFailure::Retryable(why) => Self::new(Code::UploaderInit, why),
            StoreFailure::Conflict => Self::new(Code::Superseded, "a newer attempt has claimed the manifest"),
        }
    }
}

/// A session's end; `reason`: what the connector said, when that was the cause. None: interrupted, there is no result yet.
pub(crate) fn code(outcome: Outcome, reason: Option<&EndReason>) -> Option<(Code, String)> {
    let plain = |code: Code| Some((code, code.meaning().to_owned()));
    match outcome {
        Outcome::NoUsers => plain(Code::NoUsers),
        Outcome::StopRequested => plain(Code::StopRequested),
        Outcome::Deleted | Outcome::Cancelled => plain(Code::Deleted),
        Outcome::MaxDurationReached => plain(Code::MaxDurationReached),
        Outcome::CodecNotSupported => plain(Code::CodecNotSupported),
        Outcome::NoRecordedData => plain(Code::NoRecordedData),
        Outcome::UploaderFailed => plain(Code::UploaderFailed),
        Outcome::Superseded => plain(Code::Superseded),
        Outcome::Interrupted => None,
        Outcome::RemovedFromChannel => match reason {
            Some(reason) => Some(ended(reason)),
            None => plain(Code::RemovedFromChannel),
        },
        Outcome::Disconnected => match reason {
            Some(reason) => Some(ended(reason)),
            None => plain(Code::Disconnected),
        },
    }
}

fn ended(reason: &EndReason) -> (Code, String) {
    match reason {
        EndReason::Disconnected(why) => (Code::Disconnected, why.clone()),
        EndReason::RemovedFromChannel(why) => (Code::RemovedFromChannel, why.clone()),
        EndReason::TokenInvalid(why) => (Code::TokenInvalid, why.clone()),
        EndReason::TokenExpired(why) => (Code::TokenExpired, why.clone()),
        EndReason::ConnectError { stage: Stage::Signalling, message } => {
            (Code::ConnectError, format!("the SFU's signalling cannot be reached: {message}"))
        }
        EndReason::ConnectError { stage: Stage::Media, message } => (Code::ConnectError, format!("no media path to the SFU: {message}")),
        EndReason::InvalidParameter(why) => (Code::InvalidParameter, why.clone()),
        EndReason::SourceFinished => (Code::NoUsers, "the test pattern is over".to_owned()),
    }
}

/// What a session calls an ending that the connector caused. None: nothing to do, the idle time decides.
pub(crate) fn stop_for(reason: &EndReason) -> Option<recorder_media::StopReason> {
    match reason {
        EndReason::RemovedFromChannel(_) => Some(recorder_media::StopReason::RemovedFromChannel),
        EndReason::SourceFinished => None,
        EndReason::Disconnected(_)
        | EndReason::TokenInvalid(_)
        | EndReason::TokenExpired(_)
        | EndReason::ConnectError { .. }
        | EndReason::InvalidParameter(_) => Some(recorder_media::StopReason::Disconnected),
    }
}

pub(crate) fn degradation(degradation: Degradation) -> (Code, &'static str) {
    match degradation {
        Degradation::CodecNotSupported => (Code::CodecNotSupported, "a track's codec cannot be recorded"),
        Degradation::DiskFull => (Code::DiskFull, "the spool is full: media is not accepted"),
        Degradation::StorageUnavailable => (Code::UploaderFailed, "storage does not take objects at the moment; media waits in the spool"),
        Degradation::BackupUnavailable => (Code::BackupFailed, "neither storage takes objects at the moment; media waits in the spool"),
        Degradation::StoredInBackup => {
            (Code::UploaderFailed, "storage does not take objects; they are in the backup storage until it does")
        }
        Degradation::Overloaded => (Code::Overloaded, "pictures come faster than they can be transcoded: some are left out"),
    }
}

pub(crate) const fn gap_reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Disconnected => "Disconnected",
        GapReason::RecorderRestarted => "RecorderRestarted",
        GapReason::PacketLoss => "PacketLoss",
        GapReason::NoPicture => "NoPicture",
        GapReason::DiskFull => "DiskFull",
        GapReason::SegmentLost => "SegmentLost",
        GapReason::Overloaded => "Overloaded",
        GapReason::Undecodable => "Undecodable",
    }
}

/// The final word on a session's end.
pub(crate) fn report(code: Code, message: &str, report: &recorder_media::Report) -> ReportOutcome {
    let all_stored = report.recorded_files == report.uploaded_files;
    let anywhere = report.uploaded_files + report.backup_files;
    let message = match code {
        Code::UploaderFailed => format!(
            "{message}: of {} files {} are in the storage, {} in the backup storage, {} in neither",
            report.recorded_files,
            report.uploaded_files,
            report.backup_files,
            report.recorded_files.saturating_sub(anywhere)
        ),
        _ => message.to_owned(),
    };
    let backed_up = report.backup_files > 0 && anywhere == report.recorded_files && code != Code::UploaderFailed;
    ReportOutcome { backed_up, ..ReportOutcome::new(code, message, anywhere > 0, all_stored) }
}

#[cfg(test)]
mod tests;
