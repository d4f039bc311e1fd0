//! What the API server said when it would not create a pod; remembered until a pod could be created.

use crate::seen::{Refusal, Trouble};
use kube::core::Status;
use recording_crds::codes::Code;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// By uid of the Recording. Lost with the process, and heard again at the next try.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Refusal>>);

impl Refusals {
    pub fn put(&self, uid: &str, refusal: Refusal) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), refusal);
    }

    pub fn of(&self, uid: &str) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// A refusal speaks of the pod; everything else (time-outs, conflicts, server errors) of the moment.
pub fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 403 | 422)
}

pub fn refusal(status: &Status) -> Refusal {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") {
        return Refusal::NamespaceTerminating;
    }
    // Quota, LimitRange, Pod Security and webhooks forbid (403); what is not a pod at all is invalid (400, 422).
    let code = if status.code == 403 { Code::QuotaExceeded } else { Code::InvalidParameter };
    Refusal::Trouble(Trouble::new(code, format!("the API server refuses the pod: {}", status.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: serde_json::Value) -> Status {
        serde_json::from_value(value).expect("a Status")
    }

    #[test]
    fn a_namespace_that_goes_is_told_from_a_quota() {
        let going =
            status(serde_json::json!({"code": 403, "reason": "Forbidden", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}));
        assert_eq!(refusal(&going), Refusal::NamespaceTerminating);
        let quota = status(serde_json::json!({"code": 403, "reason": "Forbidden", "message": "exceeded quota: small"}));
        assert!(matches!(refusal(&quota), Refusal::Trouble(t) if t.code == Code::QuotaExceeded && t.message.contains("small")));
        let wrong = status(serde_json::json!({"code": 422, "reason": "Invalid", "message": "spec.tolerations"}));
        assert!(matches!(refusal(&wrong), Refusal::Trouble(t) if t.code == Code::InvalidParameter));
    }
}
