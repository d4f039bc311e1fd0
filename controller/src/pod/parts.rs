//! Parts of the recorder pod: container, volumes, security, tolerations, resources.

use super::{CONTAINER, Image};
use crate::validate::{Source, SourceKind, ValidatedRecording};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, Probe, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use recording_crds::job::roles;
use recording_crds::{labels, paths};
use std::collections::BTreeMap;

/// The user `nonroot` of distroless images; the image has it too.
const NON_ROOT: i64 = 65532;
/// A node that is not ready or unreachable: the pod goes after this long, and the next attempt elsewhere.
const TOLERATION_SECONDS: i64 = 30;

pub(super) fn container(v: &ValidatedRecording, image: &Image) -> Container {
    Container {
        name: CONTAINER.into(),
        image: Some(image.name.clone()),
        image_pull_policy: Some(image.pull_policy.clone()),
        // One image holds both binaries; its entry point is the controller.
        command: Some(vec!["recorder".into()]),
        args: image.allow_private_images.then(|| vec!["--allow-private-images".into()]),
        ports: Some(vec![ContainerPort {
            name: Some(paths::PORT_NAME.into()),
            container_port: paths::PORT.into(),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(v)),
        volume_mounts: Some(mounts(v)),
        // The loop ticks every second; three silent probes are ten seconds and more.
        liveness_probe: Some(probe("/healthz", 5, 3)),
        readiness_probe: Some(probe("/readyz", 2, 1)),
        security_context: Some(container_security()),
        termination_message_path: Some(paths::TERMINATION_LOG.into()),
        // Only our own word: a log's tail would not be a report.
        termination_message_policy: Some("File".into()),
        ..Container::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(paths::PORT_NAME.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// The user's own requests and limits, each replacing the computed one of the same name.
fn resources(v: &ValidatedRecording) -> ResourceRequirements {
    let quantity = |bytes: u64| Quantity(bytes.to_string());
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{}m", v.sizes.cpu_millis))),
        ("memory".to_owned(), quantity(v.sizes.memory_bytes)),
        ("ephemeral-storage".to_owned(), quantity(v.sizes.spool_bytes)),
    ]);
    // No CPU limit: throttling loses packets.
    let mut limits = BTreeMap::from([("memory".to_owned(), quantity(v.sizes.memory_limit_bytes))]);
    let theirs = v.pod.resources.clone().unwrap_or_default();
    for (name, limit) in theirs.limits.unwrap_or_default() {
        // As the API server does for a limit without a request; ours could be above it.
        requests.insert(name.clone(), limit.clone());
        limits.insert(name, limit);
    }
    for (name, request) in theirs.requests.unwrap_or_default() {
        requests.insert(name, request);
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: theirs.claims }
}

/// Roles are whole folders: a subPath mount would never see a Secret change.
fn mounts(v: &ValidatedRecording) -> Vec<VolumeMount> {
    let mount = |name: &str, path: String, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path,
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let fixed =
        [mount("job", paths::JOB_FOLDER.into(), true), mount("spool", paths::SPOOL.into(), false), mount("tmp", "/tmp".into(), false)];
    let roles = v.files.iter().map(|source| mount(source.role, format!("{}/{}", paths::SECRETS, source.role), true));
    let storage = v.claim.iter().map(|_| mount(roles::STORAGE, paths::STORAGE.into(), false));
    let backup = v.backup_claim.iter().map(|_| mount(roles::BACKUP, paths::BACKUP.into(), false));
    fixed.into_iter().chain(roles).chain(storage).chain(backup).collect()
}

pub(super) fn volumes(v: &ValidatedRecording) -> Vec<Volume> {
    let empty = |name: &str, size: Quantity| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(size), ..EmptyDirVolumeSource::default() }),
        ..Volume::default()
    };
    let claims = [(roles::STORAGE, &v.claim), (roles::BACKUP, &v.backup_claim)];
    let claimed = claims.into_iter().filter_map(|(role, claim)| {
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.clone()?, read_only: None };
        Some(Volume { name: role.into(), persistent_volume_claim: Some(source), ..Volume::default() })
    });
    let fixed = [job_volume(), empty("spool", Quantity(v.sizes.spool_bytes.to_string())), empty("tmp", Quantity("16Mi".into()))];
    fixed.into_iter().chain(v.files.iter().map(source_volume)).chain(claimed).collect()
}

/// The job annotation as the file that the recorder watches.
fn job_volume() -> Volume {
    let field = ObjectFieldSelector { api_version: Some("v1".into()), field_path: format!("metadata.annotations['{}']", labels::JOB) };
    let file = DownwardAPIVolumeFile { path: "job".into(), field_ref: Some(field), ..DownwardAPIVolumeFile::default() };
    Volume {
        name: "job".into(),
        downward_api: Some(DownwardAPIVolumeSource { items: Some(vec![file]), ..DownwardAPIVolumeSource::default() }),
        ..Volume::default()
    }
}

fn source_volume(source: &Source) -> Volume {
    let items = source.key.as_ref().map(|(key, file)| vec![KeyToPath { key: key.clone(), path: (*file).into(), ..KeyToPath::default() }]);
    let mut volume = Volume { name: source.role.into(), ..Volume::default() };
    match source.kind {
        SourceKind::Secret => {
            volume.secret = Some(SecretVolumeSource { secret_name: Some(source.name.clone()), items, ..SecretVolumeSource::default() });
        }
        SourceKind::ConfigMap => {
            volume.config_map = Some(ConfigMapVolumeSource { name: source.name.clone(), items, ..ConfigMapVolumeSource::default() });
        }
    }
    volume
}

pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NON_ROOT),
        run_as_group: Some(NON_ROOT),
        fs_group: Some(NON_ROOT),
        // A recording volume may hold a great many files: not one by one at every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}

pub(super) fn tolerations(v: &ValidatedRecording) -> Vec<Toleration> {
    let ours = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|taint| Toleration {
        key: Some(taint.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(TOLERATION_SECONDS),
        value: None,
    });
    // The user's own word about the same taint replaces ours: of two, the longer would count.
    let spoken = |t: &Toleration| v.pod.tolerations.iter().any(|theirs| theirs.key == t.key);
    let kept = ours.into_iter().filter(|t| !spoken(t));
    kept.chain(v.pod.tolerations.iter().cloned()).collect()
}
