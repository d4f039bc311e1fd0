//! The chart holds what this code says: the CRD byte for byte, and no right on what the controller never reads.

use std::path::PathBuf;

fn chart(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts/recording-operator").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_charts_crd_is_the_generated_one() {
    assert!(chart("files/recordings.yaml") == recording_crds::crd::yaml(), "cp crds/recordings.yaml charts/recording-operator/files/");
}

#[test]
fn the_charts_version_is_the_workspaces() {
    let chart: serde_yaml::Value = serde_yaml::from_str(&chart("Chart.yaml")).expect("YAML");
    assert_eq!(
        (chart["version"].as_str(), chart["appVersion"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), Some(env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn the_controller_has_no_right_on_secrets_or_nodes() {
    let rules = chart("templates/_helpers.tpl");
    let resources: Vec<&str> = rules.lines().filter(|line| line.trim_start().starts_with("resources:")).collect();
    assert_eq!(resources.len(), 5);
    assert!(resources.iter().all(|line| !line.contains("secrets") && !line.contains("nodes") && !line.contains('*')), "{resources:?}");
}
