use super::*;
use crate::fixture::{at, recording};
use serde_json::json;

#[test]
fn what_the_schema_cannot_know_is_refused_by_field() {
    let cases = [
        (json!({"metadata": {"uid": null}}), "metadata.uid"),
        (json!({"spec": {"channel": {"name": "ü".repeat(200)}}}), "spec.channel.name"),
        (json!({"spec": {"channel": {"livekit": null}}}), "spec.channel"),
        (json!({"spec": {"storage": {"s3": null}}}), "spec.storage"),
        (json!({"spec": {"token": null}}), "spec.token"),
        (json!({"spec": {"pod": {"labels": {"app.kubernetes.io/name": "x"}}}}), "spec.pod.labels"),
        (json!({"spec": {"pod": {"annotations": {"recording-operator.io/job": "x"}}}}), "spec.pod.annotations"),
        (json!({"spec": {"pod": {"spool": {"sizeLimit": "4 GB"}}}}), "spec.pod.spool.sizeLimit"),
        (json!({"spec": {"pod": {"spool": {"sizeLimit": "1Mi"}}}}), "spec.pod.spool.sizeLimit"),
    ];
    for (changes, field) in cases {
        let rejection = validate(&recording(changes), at(0)).expect_err(field);
        assert_eq!(rejection.field, field, "{rejection}");
    }
}

#[test]
fn the_order_is_that_of_the_deletion_before_that_of_the_spec() {
    let deleted = json!({"deletionTimestamp": "2026-11-21T10:01:00Z"});
    let cases = [
        (json!({}), JobState::Recording, None),
        (json!({"spec": {"desiredState": "Stopped"}}), JobState::Stopped, Some(StopReason::StopRequested)),
        (json!({"metadata": deleted, "spec": {"desiredState": "Stopped"}}), JobState::Stopped, Some(StopReason::Deleted)),
        (json!({"metadata": deleted, "spec": {"onDelete": "Cancel"}}), JobState::Cancelled, Some(StopReason::Deleted)),
    ];
    for (changes, state, reason) in cases {
        let v = validate(&recording(changes.clone()), at(0)).expect("valid");
        assert_eq!(v.order, Order { state, reason }, "{changes}");
    }
}

#[test]
fn sources_are_named_by_role_with_the_field_that_names_them() {
    let changes = json!({"spec": {
        "token": {"apiKeySecretRef": null, "secretKeyRef": {"name": "t", "key": "jwt"}},
        "channel": {"caBundle": {"configMapKeyRef": {"name": "ca", "key": "root.crt"}}}
    }});
    let v = validate(&recording(changes), at(0)).expect("valid");
    let seen: Vec<_> = v.files.iter().map(|s| (s.role, s.kind, s.name.as_str(), s.key.as_ref().map(|(k, f)| (k.as_str(), *f)))).collect();
    assert_eq!(
        seen,
        [
            ("s3-credentials", SourceKind::Secret, "s3", None),
            ("token", SourceKind::Secret, "t", Some(("jwt", "token"))),
            ("channel-ca", SourceKind::ConfigMap, "ca", Some(("root.crt", "ca.pem"))),
        ]
    );
}

#[test]
fn sizes_follow_the_table() {
    let size = |changes| validate(&recording(changes), at(0)).expect("valid").sizes;
    let livekit = size(json!({}));
    assert_eq!((livekit.cpu_millis, livekit.spool_bytes >> 30, livekit.grace_seconds), (250, 3, 60));
    assert_eq!(size(json!({"spec": {"media": "Audio"}})).spool_bytes >> 30, 1);
    let pattern = json!({"spec": {"token": null, "channel": {"livekit": null, "testPattern": {"participants": 2}}}});
    assert_eq!(size(pattern).cpu_millis, 550);
    assert_eq!(size(json!({"spec": {"output": {"hls": {"segmentSeconds": 60}}}})).grace_seconds, 150);
}

#[test]
fn quantities_as_kubernetes_writes_them() {
    let cases = [
        ("0", Some(0)),
        ("1024", Some(1024)),
        ("4Gi", Some(4 << 30)),
        ("1.5Gi", Some(3 << 29)),
        ("500M", Some(500_000_000)),
        ("100m", Some(1)),
        ("1e9", Some(1_000_000_000)),
        ("", None),
        ("Gi", None),
        ("-1", None),
        ("inf", None),
        ("NaN", None),
        ("4 Gi", None),
        ("99999Pi", None),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_quantity(text), bytes, "{text:?}");
    }
}
