//! Recordings, pods and reports for the tests of this crate.

use crate::report_store::Heard;
use crate::seen::{Container, Ended, Observed, PodSeen};
use crate::validate::{ValidatedRecording, validate};
use k8s_openapi::jiff::Timestamp;
use recording_crds::job::JobKind;
use recording_crds::report::{Counters, Report, ReportOutcome, ReportState};
use recording_crds::{Recording, labels};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const UID: &str = "0f8c2a3b-1111-2222-3333-444455556666";
/// Second 0 of the tests.
pub(crate) const CREATED: &str = "2026-11-21T10:00:00Z";

pub(crate) fn at(second: i64) -> Timestamp {
    let created: Timestamp = CREATED.parse().expect("a time");
    Timestamp::from_second(created.as_second() + second).expect("in range")
}

/// A LiveKit room into S3; `changes` are merged into the object.
pub(crate) fn recording(changes: Value) -> Recording {
    let base = json!({
        "apiVersion": "recording-operator.io/v1alpha1", "kind": "Recording",
        "metadata": {"name": "standup", "namespace": "team", "uid": UID, "generation": 1, "creationTimestamp": CREATED, "finalizers": [labels::FINISH]},
        "spec": {
            "channel": {"name": "daily standup", "livekit": {"url": "wss://sfu.example.com"}},
            "token": {"apiKeySecretRef": {"name": "lk"}},
            "mode": "Individual",
            "storage": {"s3": {"bucket": "recordings", "region": "eu-west-1", "prefix": "acme", "credentialsSecretRef": {"name": "s3"}}}
        }
    });
    serde_json::from_value(merged(base, changes)).expect("a Recording")
}

/// RFC 7386.
pub(crate) fn merged(base: Value, changes: Value) -> Value {
    match (base, changes) {
        (Value::Object(mut base), Value::Object(changes)) => {
            for (key, change) in changes {
                let old = base.remove(&key).unwrap_or(Value::Null);
                if !change.is_null() {
                    base.insert(key, merged(old, change));
                }
            }
            Value::Object(base)
        }
        (_, changes) => changes,
    }
}

pub(crate) fn validated(recording: &Recording) -> ValidatedRecording {
    validate(recording, at(0)).expect("a valid Recording")
}

pub(crate) fn observed(recording: Recording, pods: Vec<PodSeen>) -> Observed {
    Observed { recording: Arc::new(recording), pods, heard: None, refusal: None, listening_since: at(0) }
}

pub(crate) fn heard(report: Report, second: i64) -> Option<Heard> {
    Some(Heard { report: Arc::new(report), at: at(second) })
}

/// A pod whose recorder runs and has the job it should have.
pub(crate) fn pod(v: &ValidatedRecording, attempt: i32) -> PodSeen {
    PodSeen {
        name: format!("standup-0f8c2a3b-{attempt}"),
        uid: format!("pod-{attempt}"),
        attempt,
        ip: Some("10.0.0.7".into()),
        node: Some("node-a".into()),
        created: Some(at(1)),
        deleting: None,
        container: Container::Running,
        previous: None,
        disruption: None,
        evicted: false,
        ready: true,
        node_silent: false,
        trouble: None,
        held: true,
        job: Some(crate::job::build(v, attempt, JobKind::Record, crate::job::pod_files(v)).to_text()),
        fruitless: 0,
        recorded_before: 0,
    }
}

pub(crate) fn ended(exit_code: i32, report: Option<Report>) -> Container {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    Container::Ended(Ended { exit_code, reason: reason.into(), at: Some(at(60)), report: report.map(Box::new) })
}

/// In the room, with this many seconds recorded and stored.
pub(crate) fn report(state: ReportState, seconds: u64) -> Report {
    let files = seconds / 15;
    Report {
        version: 1 + seconds,
        generation: 1,
        attempt: 1,
        state,
        connected: !matches!(state, ReportState::Starting | ReportState::Connecting | ReportState::Finished),
        participants: 2,
        counters: Counters {
            recorded_files: files,
            uploaded_files: files,
            uploaded_bytes: files * 1000,
            recorded_seconds: seconds,
            playlists: u32::from(files > 0) * 2,
            ..Counters::default()
        },
        connected_time: Some("2026-11-21T10:00:02.123Z".into()),
        first_media_time: (seconds > 0).then(|| "2026-11-21T10:00:03.456Z".into()),
        ..Report::default()
    }
}

pub(crate) fn final_report(code: recording_crds::codes::Code, seconds: u64, all_stored: bool) -> Report {
    Report { outcome: Some(ReportOutcome::new(code, "", seconds > 0, all_stored)), ..report(ReportState::Finished, seconds) }
}
