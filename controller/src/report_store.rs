//! The last report heard of each pod. Report tasks write, reconcile reads; every write that matters triggers a reconcile.

use k8s_openapi::jiff::Timestamp;
use recording_crds::report::Report;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A report and the moment it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub report: Arc<Report>,
    pub at: Timestamp,
}

/// By pod uid: a pod of the same name is another pod.
#[derive(Clone, Debug, Default)]
pub struct ReportStore(Arc<Mutex<HashMap<String, Heard>>>);

impl ReportStore {
    /// Keeps the report; true when it says something new and a reconcile is due.
    pub fn put(&self, pod_uid: &str, report: Report, at: Timestamp) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = heard.get(pod_uid).is_none_or(|old| old.report.version != report.version);
        heard.insert(pod_uid.to_owned(), Heard { report: Arc::new(report), at });
        news
    }

    pub fn of(&self, pod_uid: &str) -> Option<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pod_uid).cloned()
    }

    /// A pod that is gone has nothing more to say.
    pub fn forget(&self, pod_uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(pod_uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_version_is_news() {
        let store = ReportStore::default();
        let report = Report { version: 1, ..Report::default() };
        assert!(store.put("a", report.clone(), Timestamp::UNIX_EPOCH));
        assert!(!store.put("a", report.clone(), Timestamp::UNIX_EPOCH));
        assert!(store.put("b", report.clone(), Timestamp::UNIX_EPOCH), "another pod");
        assert!(store.put("a", Report { version: 2, ..report }, Timestamp::UNIX_EPOCH));
        store.forget("a");
        assert_eq!(store.of("a"), None);
    }
}
