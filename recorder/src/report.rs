//! The report: what anybody may know of this recorder while it runs, and its last word.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use recorder_media::State;
use recording_crds::codes::Code;
use recording_crds::report::{Counters, Degraded, Gaps, LastGap, Report, ReportOutcome, ReportState};
use tokio::sync::watch;

use crate::{outcome, wall};

/// Without a turn for so long the event loop is stuck (architecture.md: liveness).
const ALIVE_WITHIN: Duration = Duration::from_secs(10);
const TICKS_PER_SECOND: f64 = recorder_media::MediaTime::PER_SECOND as f64;

/// Written by the driver, read by HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    report: watch::Sender<Report>,
    origin: Instant,
    last_turn_ms: Arc<AtomicU64>,
}

impl Publisher {
    pub(crate) fn new(attempt: i32, generation: i64) -> Self {
        let first = Report { version: 1, attempt, generation, ..Report::default() };
        Self { report: watch::Sender::new(first), origin: Instant::now(), last_turn_ms: Arc::default() }
    }

    pub(crate) fn turned(&self) {
        let since = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_turn_ms.store(since, Ordering::Relaxed);
    }

    pub(crate) fn is_alive(&self) -> bool {
        let last = Duration::from_millis(self.last_turn_ms.load(Ordering::Relaxed));
        self.origin.elapsed().saturating_sub(last) < ALIVE_WITHIN
    }

    /// Changes the report; the version rises if anything is different.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Report)) {
        self.report.send_if_modified(|report| {
            let before = report.clone();
            change(report);
            let changed = *report != before;
            report.version = before.version + u64::from(changed);
            changed
        });
    }

    pub(crate) fn current(&self) -> Report {
        self.report.borrow().clone()
    }

    /// The report as soon as it is newer than `after`, at the latest after `wait`.
    pub(crate) async fn newer_than(&self, after: u64, wait: Duration) -> Report {
        let mut reports = self.report.subscribe();
        // A time-out is an answer too: nothing new.
        let _ = tokio::time::timeout(wait, reports.wait_for(|report| report.version > after)).await;
        self.current()
    }
}

/// Copies what a session says of itself; times that are known stay. `image`: why one cannot be shown.
pub(crate) fn fill(report: &mut Report, session: &recorder_media::Report, encrypted: bool, image: Option<String>) {
    report.state = match session.state {
        State::Connecting => ReportState::Connecting,
        State::Waiting => ReportState::Waiting,
        State::Recording => ReportState::Recording,
        State::Draining => ReportState::Draining,
        State::Interrupted => ReportState::Interrupted,
        State::Finished => ReportState::Finished,
    };
    report.connected = session.connected;
    report.participants = session.participants;
    report.counters = Counters {
        recorded_files: session.recorded_files,
        uploaded_files: session.uploaded_files,
        uploaded_bytes: session.uploaded_bytes,
        backup_files: session.backup_files,
        recorded_seconds: seconds(session.recorded90k),
        packets: session.packets,
        packets_lost: session.packets_lost,
        playlists: session.playlists_stored,
        snapshots: session.snapshots,
        snapshots_lost: session.snapshots_lost,
    };
    report.backlog_seconds = seconds(session.backlog90k);
    report.gaps = Gaps {
        count: u64::from(session.gaps),
        seconds: session.gap90k as f64 / TICKS_PER_SECOND,
        last: session.last_gap.as_ref().zip(session.first_media).map(|(gap, epoch)| LastGap {
            start_time: time(recorder_media::names::wall_at(epoch, gap.start)),
            duration_seconds: gap.duration90k as f64 / TICKS_PER_SECOND,
            reason: outcome::gap_reason(gap.reason).to_owned(),
        }),
    };
    report.first_media_time = session.first_media.map(time);
    if session.connected && report.connected_time.is_none() {
        report.connected_time = Some(time(wall::now()));
    }
    if matches!(session.state, State::Draining | State::Finished) && report.stop_time.is_none() {
        report.stop_time = Some(time(wall::now()));
    }
    // First: to the session such a track is one of an unknown codec, whose remedy does not help.
    report.degraded = encrypted
        .then_some((Code::DecryptionFailed, "an end-to-end encrypted track is not recorded"))
        .into_iter()
        .chain(session.degraded.iter().map(|degradation| outcome::degradation(*degradation)))
        .map(|(code, message)| Degraded { code, message: message.to_owned() })
        .chain(image.map(|message| Degraded { code: Code::LayoutImageUnavailable, message }))
        .collect();
}

fn seconds(ticks: i64) -> u64 {
    u64::try_from(ticks / recorder_media::MediaTime::PER_SECOND).unwrap_or(0)
}

/// RFC 3339 with milliseconds.
fn time(wall: recorder_media::WallMicros) -> String {
    recorder_media::names::Civil::from_wall(wall).iso()
}

impl Publisher {
    /// The last word; `None`: interrupted, another attempt goes on.
    pub(crate) fn finish(&self, outcome: Option<ReportOutcome>) {
        self.update(|report| {
            report.state = if outcome.is_some() { ReportState::Finished } else { ReportState::Interrupted };
            report.connected = false;
            report.outcome = outcome;
        });
    }
}

/// # Errors
/// When the file cannot be written: then there is no result.
pub(crate) fn write_termination_message(path: &Path, report: &Report) -> std::io::Result<()> {
    std::fs::write(path, report.to_termination_message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_version_rises_with_changes_only_and_a_long_poll_returns_at_once() {
        let publisher = Publisher::new(2, 7);
        publisher.update(|report| report.participants = 0);
        assert_eq!(publisher.current().version, 1, "nothing changed");
        let waiting = {
            let publisher = publisher.clone();
            tokio::spawn(async move { publisher.newer_than(1, Duration::from_secs(60)).await })
        };
        publisher.update(|report| report.participants = 3);
        let seen = waiting.await.expect("answered");
        assert_eq!((seen.version, seen.participants, seen.attempt, seen.generation), (2, 3, 2, 7));
        assert_eq!(publisher.newer_than(0, Duration::from_secs(60)).await.version, 2, "an old reader waits for nothing");
        assert_eq!(publisher.newer_than(2, Duration::ZERO).await.version, 2, "nothing new in time");
    }
}
