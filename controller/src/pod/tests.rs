use super::*;
use crate::fixture::{recording, validated};
use serde_json::{Value, json};
use std::path::Path;

fn image() -> Image {
    Image { name: "example.com/recording-operator:1".into(), pull_policy: "IfNotPresent".into(), allow_private_images: false }
}

#[test]
fn private_images_are_allowed_by_an_argument() {
    let args = |allow_private_images| {
        let image = Image { allow_private_images, ..image() };
        build(&validated(&recording(json!({}))), &NewPod::first(1, JobKind::Record), &image).spec.expect("a spec").containers[0]
            .args
            .clone()
    };
    assert_eq!((args(false), args(true)), (None, Some(vec!["--allow-private-images".to_owned()])));
}

fn built(changes: Value) -> Pod {
    build(&validated(&recording(changes)), &NewPod::first(1, JobKind::Record), &image())
}

/// `GOLDEN=write cargo test -p recording-controller` rewrites it.
fn golden(name: &str, changes: Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = serde_yaml::to_string(&built(changes)).expect("YAML");
    if std::env::var_os("GOLDEN").is_some_and(|v| v == "write") {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(&path, &text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs; look at it, then GOLDEN=write:\n{text}");
}

#[test]
fn livekit_into_s3() {
    golden("pod-livekit-s3.yaml", json!({}));
}

#[test]
fn test_pattern_into_a_volume_with_every_option() {
    let changes = json!({"spec": {
        "channel": {"livekit": null, "testPattern": {"participants": 2}, "caBundle": {"configMapKeyRef": {"name": "ca", "key": "root.crt"}}},
        "token": null,
        "storage": {"s3": null, "volume": {"claimName": "recordings", "subPath": "standups"}},
        "pod": {
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "serviceAccountName": "storage-writer",
            "priorityClassName": "recordings",
            "imagePullSecrets": [{"name": "registry"}],
            "labels": {"team": "acme"},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
            "spool": {"sizeLimit": "2Gi"}
        }
    }});
    golden("pod-test-pattern-volume.yaml", changes);
}

#[test]
fn which_layer_is_taken_depends_on_the_mode_unless_it_is_said() {
    let layer = |spec: Value| {
        let pod = built(json!({"spec": spec}));
        let job = pod.metadata.annotations.expect("annotations")["recording-operator.io/job"].clone();
        serde_json::from_str::<Value>(&job).expect("JSON")["spec"]["videoStream"].clone()
    };
    assert_eq!((layer(json!({"mode": "Individual"})), layer(json!({"mode": "Composite"}))), (json!("High"), json!("Auto")));
    assert_eq!(layer(json!({"mode": "Composite", "videoStream": "Low"})), json!("Low"));
}

#[test]
fn a_backup_has_its_own_folder_and_its_own_secret() {
    let files = |changes| {
        let spec = built(changes).spec.expect("set");
        let mounts: Vec<String> = spec.containers[0].volume_mounts.iter().flatten().map(|m| m.mount_path.clone()).collect();
        let volumes = spec.volumes.into_iter().flatten();
        let claim = volumes.filter_map(|v| Some((v.name, v.persistent_volume_claim?.claim_name))).next();
        (mounts, claim)
    };
    let (mounts, claim) = files(json!({"spec": {"backupStorage": {"volume": {"claimName": "spare"}}}}));
    assert!(mounts.contains(&"/backup".to_owned()), "{mounts:?}");
    assert_eq!(claim, Some(("backup".into(), "spare".into())));
    let s3 = json!({"bucket": "spare", "region": "eu-west-1", "credentialsSecretRef": {"name": "spare"}});
    let (mounts, claim) = files(json!({"spec": {"backupStorage": {"s3": s3}}}));
    assert!(mounts.contains(&"/run/recorder/secrets/backup-credentials".to_owned()), "{mounts:?}");
    assert!(mounts.contains(&"/run/recorder/secrets/s3-credentials".to_owned()) && claim.is_none(), "{mounts:?}");
}

/// The rules of Pod Security `restricted`, one by one (Kubernetes documentation, Pod Security Standards).
#[test]
fn it_passes_restricted() {
    let spec = built(json!({})).spec.expect("set");
    let pod = spec.security_context.expect("set");
    assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(true), Some(65532)));
    assert_eq!(pod.seccomp_profile.expect("set").type_, "RuntimeDefault");
    assert!(!(spec.host_network.unwrap_or(false) || spec.host_pid.unwrap_or(false) || spec.host_ipc.unwrap_or(false)));
    for container in spec.containers {
        let security = container.security_context.expect("set");
        assert_eq!((security.allow_privilege_escalation, security.privileged), (Some(false), None));
        assert_eq!(security.capabilities.and_then(|c| c.drop), Some(vec!["ALL".to_owned()]));
        assert!(container.ports.into_iter().flatten().all(|port| port.host_port.is_none()));
        assert_eq!(container.env, None, "nothing secret, nothing else either, comes by the environment");
    }
    for volume in spec.volumes.into_iter().flatten() {
        let kinds = [
            volume.config_map.is_some(),
            volume.secret.is_some(),
            volume.empty_dir.is_some(),
            volume.downward_api.is_some(),
            volume.persistent_volume_claim.is_some(),
        ];
        assert_eq!(kinds.iter().filter(|k| **k).count(), 1, "{}", volume.name);
    }
}

#[test]
fn its_owner_may_be_deleted_without_waiting_for_it() {
    let owner = built(json!({})).metadata.owner_references.expect("set").remove(0);
    assert_eq!((owner.controller, owner.block_owner_deletion, owner.uid.as_str()), (Some(true), None, crate::fixture::UID));
}

#[test]
fn the_longest_name_fits_a_label_and_the_job_is_what_the_recorder_reads() {
    let pod = built(json!({"metadata": {"name": "x".repeat(48)}}));
    assert!(pod.metadata.name.expect("set").len() <= 63);
    assert!(pod.metadata.labels.expect("set").values().all(|value| value.len() <= 63));
    let text = &pod.metadata.annotations.expect("set")[labels::JOB];
    let job = recording_crds::job::Job::parse(text).expect("a job");
    assert_eq!((job.attempt, job.spec.identity.as_str()), (1, "recorder-260844091-0f8c2a3b"));
    assert_eq!(job.files["s3-credentials"], Path::new("/run/recorder/secrets/s3-credentials"));
}
