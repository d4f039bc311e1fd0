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
    assert_eq!(manifest["spec"]["output"]["snapshots"], json!(null), "none without a word");
}

#[test]
fn snapshots_without_a_word_are_ten_seconds_apart() {
    let mut manifest = WrongManifests::load().base;
    manifest["spec"]["output"] = json!({"snapshots": {}});
    assert_eq!(check(&manifest), []);
    assert_eq!(with_defaults(&manifest)["spec"]["output"]["snapshots"], json!({"intervalSeconds": 10, "perParticipant": false}));
}

#[test]
fn null_is_as_good_as_absent() {
    let mut manifest = WrongManifests::load().base;
    manifest["spec"]["uid"] = json!(null);
    manifest["spec"]["idleTimeoutSeconds"] = json!(null);
    manifest["spec"]["subscription"] = json!({"audio": null, "video": {"deny": null}});
    assert_eq!(check(&manifest), []);
    assert_eq!(with_defaults(&manifest)["spec"]["idleTimeoutSeconds"], 30);
}

/// May be changed at any time; everything else is what the recording was created with.
const MUTABLE: [&str; 8] = [
    "desiredState",
    "layout",
    "subscription",
    "idleTimeoutSeconds",
    "maxDurationSeconds",
    "drainTimeoutSeconds",
    "ttlSecondsAfterFinished",
    "onDelete",
];

/// Two values for each, and absence where it may be absent: no step from one to another is let through.
#[test]
fn what_is_immutable_may_not_be_added_changed_or_removed() {
    let base = WrongManifests::load().base;
    let livekit = |url: &str| json!({"name": "standup", "livekit": {"url": url}});
    let s3 = |bucket: &str| json!({"s3": {"bucket": bucket, "region": "eu-west-1"}});
    let values = json!({
        "channel": [livekit("wss://sfu.example.com"), livekit("wss://other.example.com")],
        "token": [{"apiKeySecretRef": {"name": "livekit"}}, {"secretKeyRef": {"name": "livekit", "key": "token"}}],
        "uid": [null, 7, 8],
        "media": [null, "Audio", "Video"],
        "videoStream": [null, "High", "Low"],
        "audio": [null, {"profile": "Mono128"}, {"profile": "Stereo192"}],
        "startDeadlineSeconds": [null, 60, 61],
        "output": [null, {"hls": {"segmentSeconds": 4}}, {"hls": {"segmentSeconds": 6}}, {"snapshots": {}}, {"snapshots": {"perParticipant": true}}],
        "storage": [s3("recordings"), s3("others"), {"volume": {"claimName": "c"}}],
        "backupStorage": [null, s3("spare"), {"volume": {"claimName": "spare"}}],
        "pod": [null, {"priorityClassName": "low"}, {"priorityClassName": "low", "nodeSelector": {"a": "b"}}],
        "mode": ["Individual", "Composite"],
    });
    let with = |field: &str, value: &Value| {
        let mut manifest = base.clone();
        manifest["spec"][field] = value.clone();
        manifest
    };
    let known = values.as_object().expect("a table").keys().map(String::as_str).chain(MUTABLE).collect::<std::collections::BTreeSet<_>>();
    let fields = open_api()["properties"]["spec"]["properties"].as_object().expect("fields").keys().map(String::as_str);
    assert_eq!(known, fields.collect(), "each field of the spec is in one of the two lists");
    for (field, values) in values.as_object().expect("a table") {
        let values = values.as_array().expect("a list");
        for (old, new) in values.iter().flat_map(|old| values.iter().map(move |new| (old, new))) {
            assert_eq!(check(&with(field, new)), [], "{field}: {new} is right by itself");
            let problems = check_update(&with(field, new), &with(field, old));
            let refused = problems.iter().any(|p| p.to_string().contains(&format!("spec.{field} cannot be changed")));
            assert_eq!(refused, old != new, "{field} from {old} to {new}: {problems:?}");
        }
    }
}

/// What may be changed while recording, and back, is no update of something immutable.
#[test]
fn what_is_mutable_may_be_added_changed_and_removed() {
    let mut base = WrongManifests::load().base;
    base["spec"]["mode"] = json!("Composite");
    let changes = [
        ("desiredState", json!("Stopped")),
        ("layout", json!({"type": "Vertical", "maxResolutionUID": "alice"})),
        ("subscription", json!({"audio": {"allow": ["alice"]}, "video": {"deny": ["bob"]}})),
        ("idleTimeoutSeconds", json!(2592000)),
        ("maxDurationSeconds", json!(1)),
        ("drainTimeoutSeconds", json!(1)),
        ("ttlSecondsAfterFinished", json!(0)),
        ("onDelete", json!("Cancel")),
    ];
    assert_eq!(changes.each_ref().map(|(field, _)| *field), MUTABLE);
    for (field, value) in changes {
        let mut changed = base.clone();
        changed["spec"][field] = value;
        assert_eq!(check_update(&changed, &base), [], "{field} added");
        // Stopping is one way.
        if field != "desiredState" {
            assert_eq!(check_update(&base, &changed), [], "{field} removed");
        }
    }
}
