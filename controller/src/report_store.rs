//! The last report heard of each pod. Report tasks write, reconcile reads; every write that matters triggers a reconcile.

use crate::status::COUNTERS_SECONDS;
use k8s_openapi::jiff::Timestamp;
use recording_crds::report::{Counters, Gaps, Report};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A report and the moment it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub report: Arc<Report>,
    pub at: Timestamp,
}

#[derive(Debug)]
struct Known {
    heard: Heard,
    /// When a reconcile was said to be due last.
    told: Timestamp,
}

/// By pod uid: a pod of the same name is another pod.
#[derive(Clone, Debug, Default)]
pub struct ReportStore(Arc<Mutex<HashMap<String, Known>>>);

impl ReportStore {
    /// Keeps the report; true when it says something new and a reconcile is due: for counters alone not before they would be written.
    pub fn put(&self, pod_uid: &str, report: Report, at: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = known.get(pod_uid);
        let is_news = old.is_none_or(|old| {
            let due = at.as_second() - old.told.as_second() >= COUNTERS_SECONDS;
            let newer = old.heard.report.version != report.version;
            newer && (due || without_counters(&old.heard.report) != without_counters(&report))
        });
        let told = old.filter(|_| !is_news).map_or(at, |old| old.told);
        known.insert(pod_uid.to_owned(), Known { heard: Heard { report: Arc::new(report), at }, told });
        is_news
    }

    pub fn of(&self, pod_uid: &str) -> Option<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pod_uid).map(|known| known.heard.clone())
    }

    /// A pod that is gone has nothing more to say.
    pub fn forget(&self, pod_uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pod_uid);
    }
}

/// What changes all the time while everything is well: what [`crate::status::worth_writing`] does not write at once need not wake anybody.
fn without_counters(report: &Report) -> Report {
    Report {
        version: 0,
        counters: Counters { playlists: report.counters.playlists, ..Counters::default() },
        backlog_seconds: 0,
        gaps: Gaps { seconds: 0.0, ..report.gaps.clone() },
        ..report.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_news_and_counters_when_they_are_due() {
        let store = ReportStore::default();
        let report = Report { version: 1, ..Report::default() };
        assert!(store.put("a", report.clone(), Timestamp::UNIX_EPOCH));
        assert!(!store.put("a", report.clone(), Timestamp::UNIX_EPOCH));
        assert!(store.put("b", report.clone(), Timestamp::UNIX_EPOCH), "another pod");
        assert!(store.put("a", Report { version: 2, connected: true, ..report }, Timestamp::UNIX_EPOCH));
        let recorded = |files| Counters { recorded_files: files, ..Counters::default() };
        let counted = |version, files| Report { version, counters: recorded(files), ..Report::default() };
        let second = |n| Timestamp::from_second(n).expect("a time");
        assert!(!store.put("b", counted(2, 5), second(10)), "counters alone");
        assert!(store.put("b", Report { participants: 1, ..counted(3, 5) }, second(20)));
        assert!(!store.put("b", Report { participants: 1, ..counted(4, 6) }, second(19 + COUNTERS_SECONDS)));
        assert!(store.put("b", Report { participants: 1, ..counted(5, 7) }, second(20 + COUNTERS_SECONDS)), "they are due");
        assert_eq!(store.of("b").expect("heard").report.counters.recorded_files, 7);
        store.forget("a");
        assert_eq!(store.of("a"), None);
    }
}
