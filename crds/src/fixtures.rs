//! The table of wrong manifests that local mode and a real API server must both refuse, for the tests of other crates.

use serde::Deserialize;
use serde_json::Value;

const TABLE: &str = include_str!("../tests/wrong_manifests.yaml");

#[derive(Clone, Debug, Deserialize)]
pub struct WrongManifests {
    /// A manifest that is accepted.
    pub base: Value,
    pub wrong: Vec<WrongManifest>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct WrongManifest {
    pub case: String,
    /// JSON merge patch (RFC 7386) onto the base.
    pub patch: Value,
    /// The base exists already, the patched manifest is an update of it.
    #[serde(default)]
    pub update: bool,
    /// The field that the answer names.
    pub names: String,
    /// A part of what it says about the remedy or the allowed values, compared without regard to case.
    pub says: String,
}

impl WrongManifests {
    pub fn load() -> Self {
        serde_yaml::from_str(TABLE).unwrap_or_else(|e| panic!("wrong_manifests.yaml: {e}"))
    }

    /// The manifest of a case.
    pub fn manifest(&self, wrong: &WrongManifest) -> Value {
        let mut manifest = self.base.clone();
        merge(&mut manifest, &wrong.patch);
        manifest
    }
}

/// JSON merge patch, RFC 7386 section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_readable_and_its_base_is_a_recording() {
        let table = WrongManifests::load();
        assert!(table.wrong.len() >= 25);
        serde_json::from_value::<crate::Recording>(table.base).expect("the base is a Recording");
    }

    #[test]
    fn a_patch_sets_and_removes() {
        let mut value = serde_json::json!({"a": {"b": 1, "c": 2}});
        merge(&mut value, &serde_json::json!({"a": {"b": null, "d": {"e": null, "f": 3}}}));
        assert_eq!(value, serde_json::json!({"a": {"c": 2, "d": {"f": 3}}}));
    }
}
