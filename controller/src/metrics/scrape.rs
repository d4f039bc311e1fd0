//! Gauges that are read from the cache of Recordings when somebody asks.

use super::gauge;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use prometheus::{IntGaugeVec, Registry};
use recording_crds::status::{Phase, RecordingStatus};
use recording_crds::{Recording, conditions};
use std::sync::{Arc, Mutex, PoisonError};

/// A finished recording keeps its own lines this long, so that its end can be seen; then it is only counted.
const LINGER_SECONDS: i64 = 600;

#[derive(Clone, Debug)]
pub(super) struct Gauges {
    recordings: IntGaugeVec,
    report_age: IntGaugeVec,
    phase: IntGaugeVec,
    backlog: IntGaugeVec,
    gap: IntGaugeVec,
    attempt: IntGaugeVec,
    degraded: IntGaugeVec,
    /// Two pages at once would read each other's halves.
    filling: Arc<Mutex<()>>,
}

impl Gauges {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let object = ["namespace", "name"];
        let gauges = Self {
            recordings: gauge("recordings", "Recordings by phase", &["namespace", "phase"])?,
            report_age: gauge("report_age_seconds", "Age of the last report of a live recording, as written in its status", &object)?,
            phase: gauge("recording_phase", "1 for the phase a live recording is in", &["namespace", "name", "phase"])?,
            backlog: gauge("recording_backlog_seconds", "Media that waits for storage", &object)?,
            gap: gauge("recording_gap_seconds", "Length of all gaps", &object)?,
            attempt: gauge("recording_attempt", "Number of the recorder pod, from 1", &object)?,
            degraded: gauge("recording_degraded", "1 while the condition Degraded is True", &["namespace", "name", "reason"])?,
            filling: Arc::default(),
        };
        for all in gauges.all() {
            registry.register(Box::new(all.clone()))?;
        }
        Ok(gauges)
    }

    fn all(&self) -> [&IntGaugeVec; 7] {
        [&self.recordings, &self.report_age, &self.phase, &self.backlog, &self.gap, &self.attempt, &self.degraded]
    }

    pub(super) fn fill(&self, recordings: &[Arc<Recording>], now: Timestamp) {
        let _alone = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for all in self.all() {
            all.reset();
        }
        for recording in recordings {
            let status = recording.status.clone().unwrap_or_default();
            let namespace = recording.namespace().unwrap_or_default();
            let phase = status.phase.unwrap_or(Phase::Pending).as_str();
            self.recordings.with_label_values(&[namespace.as_str(), phase]).inc();
            if is_shown(&status, now) {
                self.fill_one(&namespace, &recording.name_any(), phase, &status, now);
            }
        }
    }

    fn fill_one(&self, namespace: &str, name: &str, phase: &str, status: &RecordingStatus, now: Timestamp) {
        self.phase.with_label_values(&[namespace, name, phase]).set(1);
        self.backlog.with_label_values(&[namespace, name]).set(status.progress.as_ref().map_or(0, |p| p.backlog_seconds));
        self.gap.with_label_values(&[namespace, name]).set(status.gap_seconds.unwrap_or(0));
        self.attempt.with_label_values(&[namespace, name]).set(status.attempt.as_ref().map_or(0, |a| a.number.into()));
        if let Some(heard) = status.last_report_time.as_ref().filter(|_| status.completion_time.is_none()) {
            self.report_age.with_label_values(&[namespace, name]).set(now.as_second() - heard.0.as_second());
        }
        if let Some(degraded) = conditions::find(&status.conditions, conditions::DEGRADED).filter(|c| c.status == "True") {
            self.degraded.with_label_values(&[namespace, name, &degraded.reason]).set(1);
        }
    }
}

fn is_shown(status: &RecordingStatus, now: Timestamp) -> bool {
    status.completion_time.as_ref().is_none_or(|over| now.as_second() - over.0.as_second() < LINGER_SECONDS)
}
