//! The committed CRD is the generated one. After a change of the types: `UPDATE_GOLDEN=1 cargo test -p recording-crds`.

use std::path::Path;

#[test]
fn committed_crd_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings.yaml");
    let generated = recording_crds::crd::yaml();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &generated).expect("crds/recordings.yaml can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("crds/recordings.yaml");
    assert!(committed == generated, "crds/recordings.yaml is not what the types say: run UPDATE_GOLDEN=1 cargo test -p recording-crds");
}

#[test]
fn every_field_of_spec_and_status_has_a_description() {
    let crd: serde_json::Value = serde_yaml::from_str(&recording_crds::crd::yaml()).expect("YAML");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut missing = Vec::new();
    for part in ["spec", "status"] {
        undocumented(&schema[part], part, &mut missing);
    }
    assert!(missing.is_empty(), "fields without a sentence: {missing:?}");
}

/// Fields of Kubernetes' own types (below `spec.pod`) are documented by Kubernetes.
fn undocumented(schema: &serde_json::Value, path: &str, missing: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        // What a time is, Kubernetes says; what happened then, only we can.
        if field["description"].as_str().is_none_or(|d| d.len() < 8 || d.starts_with("Time is a wrapper")) {
            missing.push(path.clone());
        }
        if !path.starts_with("spec.pod.") {
            undocumented(field, &path, missing);
        }
    }
}
