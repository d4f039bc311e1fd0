use super::*;
use recording_crds::fixtures::WrongManifests;
use serde_json::json;

#[test]
fn the_base_of_the_table_is_accepted() {
    assert_eq!(check(&WrongManifests::load().base), []);
}

/// The same table goes through a real API server in the cluster tier: the verdicts must agree.
#[test]
fn every_wrong_manifest_is_refused_by_field_and_with_a_remedy() {
    let table = WrongManifests::load();
    let mut missed = Vec::new();
    for wrong in &table.wrong {
        let manifest = table.manifest(wrong);
        let problems = if wrong.update { check_update(&manifest, &table.base) } else { check(&manifest) };
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let fits = |text: &String| text.contains(&wrong.names) && text.to_lowercase().contains(&wrong.says.to_lowercase());
        if !said.iter().any(fits) {
            missed.push(format!("{}: wanted {:?} and {:?}, got {said:#?}", wrong.case, wrong.names, wrong.says));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn no_rule_of_the_crd_is_beyond_our_evaluator() {
    let compiled = kube::core::cel::compile_schema(open_api());
    assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
}

#[test]
fn an_unknown_field_is_named_with_the_known_ones() {
    let mut manifest = WrongManifests::load().base;
    manifest["spec"]["storage"]["s4"] = json!({});
    let problems = check(&manifest);
    assert_eq!(problems[0].path, "spec.storage.s4");
    assert!(problems[0].message.contains("knows s3, volume"), "{problems:?}");
}

#[test]
fn paths_count_list_entries() {
    let mut manifest = WrongManifests::load().base;
    manifest["spec"]["pod"] = json!({"tolerations": [{}, {"tolerationSeconds": "long"}]});
    assert_eq!(check(&manifest)[0].path, "spec.pod.tolerations[1].tolerationSeconds");
}

#[test]
fn defaults_are_those_of_the_schema() {
    let manifest = with_defaults(&WrongManifests::load().base);
    assert_eq!(manifest["spec"]["idleTimeoutSeconds"], 30);
    assert_eq!(manifest["spec"]["desiredState"], "Recording");
}
