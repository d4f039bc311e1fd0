//! The report: what a recorder says of itself (`GET /v1/report`, and at the end the container's termination message).

use crate::codes::{Code, Component};
use serde::{Deserialize, Deserializer, Serialize};

/// The kubelet keeps this many bytes of a termination message.
pub const TERMINATION_MESSAGE_MAX: usize = 4096;

/// Counts only, no names: it is as open as `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Rises with every change; what `after=` refers to.
    pub version: u64,
    /// Generation of the job that is in force.
    pub generation: i64,
    pub attempt: i32,
    pub state: ReportState,
    pub connected: bool,
    pub participants: u32,
    pub counters: Counters,
    pub gaps: Gaps,
    /// Seconds of media that wait for storage.
    pub backlog_seconds: u64,
    /// RFC 3339 with milliseconds; when the recorder joined the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_time: Option<String>,
    /// RFC 3339 with milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_media_time: Option<String>,
    /// RFC 3339 with milliseconds; when the recording ended (storing may go on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Degraded>,
    /// The last word of this attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ReportOutcome>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ReportState {
    #[default]
    Starting,
    Connecting,
    /// In the room, no media yet.
    Waiting,
    Recording,
    /// Ended; storing what is left.
    Draining,
    /// Told to go, storing what is left; another attempt goes on with the recording.
    Interrupted,
    Finished,
    /// A newer recorder's word; what else it reports counts.
    Unknown,
}

impl<'de> Deserialize<'de> for ReportState {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(from)?.as_str() {
            "Starting" => Self::Starting,
            "Connecting" => Self::Connecting,
            "Waiting" => Self::Waiting,
            "Recording" => Self::Recording,
            "Draining" => Self::Draining,
            "Interrupted" => Self::Interrupted,
            "Finished" => Self::Finished,
            _ => Self::Unknown,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Segments finished, and of these confirmed by storage.
    pub recorded_files: u64,
    pub uploaded_files: u64,
    pub uploaded_bytes: u64,
    /// Segments in the backup storage alone.
    pub backup_files: u64,
    pub recorded_seconds: u64,
    pub packets: u64,
    pub packets_lost: u64,
    /// Playlists that exist in storage.
    pub playlists: u32,
    /// Snapshots confirmed by storage, and those that were taken and will never be.
    pub snapshots: u64,
    pub snapshots_lost: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gaps {
    pub count: u64,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastGap>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastGap {
    /// RFC 3339 with milliseconds.
    pub start_time: String,
    pub duration_seconds: f64,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Degraded {
    pub code: Code,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportOutcome {
    pub code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    pub component: Component,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Some media is stored.
    pub media: bool,
    /// Everything that was recorded is stored.
    #[serde(default)]
    pub all_stored: bool,
    /// Everything that was recorded is stored, some of it in the backup storage alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backed_up: bool,
}

impl ReportOutcome {
    pub fn new(code: Code, message: impl Into<String>, media: bool, all_stored: bool) -> Self {
        Self {
            code,
            number: code.number(),
            component: code.component(),
            message: message.into(),
            remedy: code.remedy().to_owned(),
            media,
            all_stored,
            backed_up: false,
        }
    }
}

impl Report {
    /// Compact JSON of at most [`TERMINATION_MESSAGE_MAX`] bytes: remedy, then message, then degraded are left out when it is longer.
    pub fn to_termination_message(&self) -> String {
        let mut report = self.clone();
        for step in 0..=3 {
            match (step, report.outcome.as_mut()) {
                (1, Some(outcome)) => outcome.remedy.clear(),
                (2, Some(outcome)) => outcome.message.clear(),
                (3, _) => report.degraded.clear(),
                _ => {}
            }
            let text = serde_json::to_string(&report).unwrap_or_default();
            if text.len() <= TERMINATION_MESSAGE_MAX {
                return text;
            }
        }
        unreachable!("what remains are numbers and a few times")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_termination_message_always_fits() {
        let mut report = Report { outcome: Some(ReportOutcome::new(Code::ConnectError, "", false, false)), ..Report::default() };
        let room = TERMINATION_MESSAGE_MAX - report.to_termination_message().len();
        report.outcome = Some(ReportOutcome::new(Code::ConnectError, "x".repeat(room), false, false));
        let text = report.to_termination_message();
        let read: Report = serde_json::from_str(&text).expect("JSON");
        let outcome = read.outcome.expect("kept");
        assert!(outcome.remedy.is_empty() && outcome.message.len() == room, "the remedy goes first");

        report.outcome = Some(ReportOutcome::new(Code::ConnectError, "x".repeat(9000), false, false));
        report.degraded = (0..200).map(|_| Degraded { code: Code::DiskFull, message: "y".repeat(50) }).collect();
        let text = report.to_termination_message();
        assert!(text.len() <= TERMINATION_MESSAGE_MAX);
        let read: Report = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read.outcome.expect("the code is kept").code, Code::ConnectError);
        assert!(read.degraded.is_empty());
    }

    #[test]
    fn an_old_report_with_unknown_and_missing_fields_is_read() {
        let read: Report = serde_json::from_str(r#"{"version":3,"colour":"red","counters":{"packets":7}}"#).expect("lenient");
        assert_eq!((read.version, read.counters.packets, read.state), (3, 7, ReportState::Starting));
    }

    #[test]
    fn a_newer_recorders_words_do_not_make_its_report_unreadable() {
        let text = r#"{"version":3,"state":"Rewinding","participants":2,"degraded":[{"code":"LensCap","message":"dark"}],
            "outcome":{"code":"CameraOnFire","number":777,"component":"Mixer","message":"smoke","media":true}}"#;
        let read: Report = serde_json::from_str(text).expect("lenient");
        assert_eq!((read.state, read.participants, read.degraded[0].code), (ReportState::Unknown, 2, Code::GeneralError));
        let outcome = read.outcome.expect("an outcome");
        assert_eq!(
            (outcome.code, outcome.number, outcome.component, outcome.message.as_str()),
            (Code::GeneralError, Some(777), Component::Service, "smoke")
        );
    }
}
