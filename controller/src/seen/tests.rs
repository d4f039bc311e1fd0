use super::*;
use serde_json::{Value, json};

fn seen(status: Value) -> PodSeen {
    let pod = json!({
        "metadata": {"name": "p-1", "uid": "u", "labels": {labels::ATTEMPT: "1"}, "finalizers": [labels::RESULT],
                     "annotations": {labels::FRUITLESS: "2", labels::RECORDED_BEFORE: "30"}},
        "status": status
    });
    PodSeen::of(&serde_json::from_value(pod).expect("a Pod"))
}

fn recorder(state: Value) -> Value {
    json!({"name": "recorder", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

#[test]
fn what_was_written_on_it_is_read() {
    let pod = seen(json!({}));
    assert_eq!((pod.attempt, pod.fruitless, pod.recorded_before, pod.held), (1, 2, 30, true));
    assert_eq!(pod.container, Container::Waiting { crash_loop: false });
}

/// exit code, phase of the pod -> over?
#[test]
fn a_container_that_will_be_restarted_is_not_over() {
    let cases = [(137, "Running", false), (143, "Running", false), (0, "Running", true), (0, "Succeeded", true), (143, "Failed", true)];
    for (code, phase, over) in cases {
        let terminated = recorder(json!({"terminated": {"exitCode": code}}));
        let pod = seen(json!({"phase": phase, "containerStatuses": [terminated]}));
        assert_eq!(pod.is_over(), over, "{code} {phase}");
        assert!(crate::plan::has_run(&pod), "{code} {phase}: it has run, whatever comes next");
    }
}

#[test]
fn the_termination_message_is_the_last_word_and_other_text_is_none() {
    let words = Report { attempt: 1, ..Report::default() }.to_termination_message();
    for (message, read) in [(words.as_str(), true), ("panicked at", false), ("", false)] {
        let terminated = recorder(json!({"terminated": {"exitCode": 0, "message": message}}));
        let pod = seen(json!({"phase": "Succeeded", "containerStatuses": [terminated]}));
        assert_eq!(pod.last_words().is_some(), read, "{message}");
    }
}

#[test]
fn an_evicted_pod_without_a_container_state_is_over() {
    let pod = seen(json!({"phase": "Failed", "reason": "Evicted"}));
    assert!(pod.is_over() && pod.evicted && !pod.was_disrupted());
}

#[test]
fn disruptions_are_told_by_their_condition() {
    let condition = |status: &str| json!([{"type": "DisruptionTarget", "status": status, "reason": "PreemptionByScheduler"}]);
    assert_eq!(seen(json!({"conditions": condition("True")})).disruption.as_deref(), Some("PreemptionByScheduler"));
    assert_eq!(seen(json!({"conditions": condition("False")})).disruption, None);
}

#[test]
fn trouble_is_read_from_conditions_and_waiting_reasons() {
    let unschedulable =
        |message: &str| json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]});
    let waiting = |reason: &str| json!({"containerStatuses": [recorder(json!({"waiting": {"reason": reason, "message": "m"}}))]});
    let cases = [
        (unschedulable("0/3 nodes are available"), Some(Code::Unschedulable)),
        (unschedulable("persistentvolumeclaim \"recordings\" not found"), Some(Code::VolumeUnavailable)),
        (waiting("ImagePullBackOff"), Some(Code::ImageUnavailable)),
        (waiting("ErrImageNeverPull"), Some(Code::ImageUnavailable)),
        (waiting("CreateContainerConfigError"), Some(Code::SecretNotFound)),
        (waiting("ContainerCreating"), None),
    ];
    for (status, code) in cases {
        assert_eq!(seen(status.clone()).trouble.map(|t| t.code), code, "{status}");
    }
}

/// An image that is not there and cannot be pulled (IfNotPresent): between two pulls the kubelet says the same in other words.
#[test]
fn a_pull_that_fails_is_told_the_same_way_while_the_kubelet_waits() {
    let why =
        "failed to resolve reference \"registry.example.com/recording-operator:1\": dial tcp 192.0.2.1:443: connect: connection refused";
    let said = |reason: &str, message: &str| {
        let waiting = recorder(json!({"waiting": {"reason": reason, "message": message}}));
        seen(json!({"containerStatuses": [waiting]})).trouble.expect("a trouble")
    };
    let pulled = said("ErrImagePull", why);
    let waits =
        said("ImagePullBackOff", &format!("Back-off pulling image \"registry.example.com/recording-operator:1\": ErrImagePull: {why}"));
    assert_eq!((pulled.code, pulled.message.as_str()), (Code::ImageUnavailable, why));
    assert_eq!(waits, pulled);
    // An older kubelet does not say why.
    assert_eq!(said("ImagePullBackOff", "Back-off pulling image \"x\"").message, "Back-off pulling image \"x\"");
}

#[test]
fn of_a_long_message_the_cause_at_its_end_is_kept() {
    let long = format!("failed to pull {}: connection refused", "é".repeat(2000));
    let waiting = recorder(json!({"waiting": {"reason": "ErrImagePull", "message": long}}));
    let message = seen(json!({"containerStatuses": [waiting]})).trouble.expect("a trouble").message;
    assert!(message.starts_with("failed to pull é") && message.ends_with("é: connection refused"), "{message}");
    assert_eq!(message.chars().count(), 512);
}

#[test]
fn a_crash_loop_is_told_from_a_start() {
    let pod = seen(json!({"containerStatuses": [recorder(json!({"waiting": {"reason": "CrashLoopBackOff"}}))]}));
    assert_eq!((pod.container, pod.trouble), (Container::Waiting { crash_loop: true }, None));
}

/// The kubelet's own words, from its source and from a node.
#[test]
fn mounts_that_fail_say_so_in_events() {
    let cases = [
        ("FailedMount", "MountVolume.SetUp failed for volume \"s3-credentials\" : secret \"s3\" not found", Some(Code::SecretNotFound)),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"token\" : references non-existent secret key: jwt",
            Some(Code::SecretNotFound),
        ),
        ("FailedMount", "MountVolume.SetUp failed for volume \"channel-ca\" : configmap \"ca\" not found", Some(Code::SecretNotFound)),
        ("FailedMount", "MountVolume.MountDevice failed for volume \"pvc-1\" : timed out", Some(Code::VolumeUnavailable)),
        ("Scheduled", "Successfully assigned", None),
    ];
    for (reason, message, code) in cases {
        let event = json!({"metadata": {}, "involvedObject": {}, "reason": reason, "message": message});
        let events = [serde_json::from_value(event).expect("an Event")];
        assert_eq!(trouble_from_events(&events).map(|t| t.code), code, "{message}");
    }
}

#[test]
fn a_pod_belongs_to_its_owner_and_an_orphan_to_whom_it_was_made_for() {
    const UID: &str = "0f8c2a3b-1111-2222-3333-444455556666";
    let made_for = |uid: &str| json!({labels::MANAGED_BY: labels::MANAGER, labels::RECORDING_ID: names::recording_id(uid)});
    let owned_by = |uid: &str| json!([{"apiVersion": "v1", "kind": "X", "name": "r", "uid": uid}]);
    let cases = [
        ("owned", json!({}), owned_by(UID), true),
        ("orphaned", made_for(UID), json!([]), true),
        ("of another Recording of that name", made_for("1f8c2a3b-1111-2222-3333-444455556666"), json!([]), false),
        ("somebody else's, dressed like ours", made_for(UID), owned_by("other"), false),
        ("a stranger", json!({labels::RECORDING_ID: names::recording_id(UID)}), json!([]), false),
    ];
    for (case, labels, owners, ours) in cases {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": labels, "ownerReferences": owners}})).expect("a Pod");
        assert_eq!(belongs_to(&pod, UID), ours, "{case}");
    }
}

/// What the node controller does to the pods of a node that it does not hear.
#[test]
fn a_pod_of_a_silent_node_is_not_ready_though_its_container_was() {
    for (pod_ready, container_ready, silent) in [("False", true, true), ("True", true, false), ("False", false, false)] {
        let mut container = recorder(json!({"running": {}}));
        container["ready"] = container_ready.into();
        let conditions = json!([{"type": "Ready", "status": pod_ready}]);
        let pod = seen(json!({"phase": "Running", "conditions": conditions, "containerStatuses": [container]}));
        assert_eq!((pod.node_silent, pod.is_over()), (silent, false));
    }
}
