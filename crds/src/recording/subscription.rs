//! Whose sound and whose picture is recorded.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Whose media is recorded, per kind. A kind without a list is recorded from everybody, whatever the other kind says.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Microphones and the sound of shared screens. Default: everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Selection>,
    /// Cameras and shared screens. Default: everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Selection>,
}

/// At most one of `allow` and `deny`; without either: everybody.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.allow) && has(self.deny))")
    .message("allow and deny exclude each other: keep one of the two lists"))]
pub struct Selection {
    /// Only these people, 1..32: identities, or numeric uids written as strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set", "items" = {"type": "string", "minLength": 1, "maxLength": 255}))]
    pub allow: Option<BTreeSet<String>>,
    /// Everybody but these people, 1..32: identities, or numeric uids written as strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set", "items" = {"type": "string", "minLength": 1, "maxLength": 255}))]
    pub deny: Option<BTreeSet<String>>,
}

impl Selection {
    /// Whether this person's media is recorded.
    pub fn takes(&self, identity: &str) -> bool {
        let names = |list: &Option<BTreeSet<String>>| list.as_ref().map(|names| names.contains(identity));
        names(&self.allow).unwrap_or(true) && !names(&self.deny).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(text: &str) -> Selection {
        serde_json::from_str(text).expect("a selection")
    }

    #[test]
    fn allow_names_those_who_are_taken_and_deny_those_who_are_not() {
        assert!(selection("{}").takes("anybody"));
        let only = selection(r#"{"allow": ["alice", "42"]}"#);
        assert_eq!(["alice", "42", "bob", "Alice", ""].map(|name| only.takes(name)), [true, true, false, false, false]);
        let but = selection(r#"{"deny": ["alice"]}"#);
        assert_eq!(["alice", "bob"].map(|name| but.takes(name)), [false, true]);
    }
}
