use super::*;
use serde_json::{Value, json};

fn seen(status: Value) -> PodSeen {
    let pod = json!({
        "metadata": {"name": "p-1", "uid": "u", "labels": {labels::ATTEMPT: "1"}, "finalizers": [labels::RESULT],
                     "annotations": {FRUITLESS: "2", RECORDED_BEFORE: "30"}},
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
