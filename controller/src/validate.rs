//! Recording -> ValidatedRecording: names and numbers become types here, so that the builders after it cannot fail.
//!
//! The schema and its CEL rules have been through the object before (API server or `manifest::check`); what they cannot
//! know is refused here, and stated as condition `Accepted`.

mod sizes;

use k8s_openapi::jiff::Timestamp;
use recording_crds::job::{JobS3, JobState, JobStorage, Room, StopReason, roles};
use recording_crds::recording::{DesiredState, KeyRef, OnDelete, PodOptions, S3Storage, Storage};
use recording_crds::{Recording, RecordingSpec, names};
pub use sizes::{Sizes, parse_quantity};

/// Amazon's own default, and what S3-compatible servers accept when they have no regions.
const DEFAULT_REGION: &str = "us-east-1";
/// Room names are bytes of UTF-8 in object names and on the wire; a rule of the CRD says the same.
const CHANNEL_NAME_MAX_BYTES: usize = 255;

/// A Recording after which job, pod and status can be built without an error.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedRecording {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// 32 hex digits; what object names begin with.
    pub recording_id: String,
    /// `<recordingID>_<escaped channel>`.
    pub stem: String,
    pub generation: i64,
    pub created: Timestamp,
    pub deleting: Option<Timestamp>,
    /// What the recorder is told to do, and why, when that is not to record.
    pub order: Order,
    pub room: Room,
    /// The recorder's identity where the SFU wants a string.
    pub identity: String,
    pub storage: JobStorage,
    /// Secrets and ConfigMaps by role.
    pub files: Vec<Source>,
    /// PersistentVolumeClaim of the storage volume.
    pub claim: Option<String>,
    pub backup: Option<JobStorage>,
    /// PersistentVolumeClaim of the backup volume.
    pub backup_claim: Option<String>,
    pub sizes: Sizes,
    pub timeouts: Timeouts,
    pub pod: PodOptions,
    pub spec: RecordingSpec,
}

/// Seconds, all within the ranges of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub idle: u32,
    pub max_duration: u32,
    pub drain: u32,
    pub start_deadline: Option<u32>,
    pub ttl: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub state: JobState,
    pub reason: Option<StopReason>,
}

/// Files that the recorder finds in the folder of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// One of `recording_crds::job::roles`.
    pub role: &'static str,
    pub kind: SourceKind,
    /// Name of the Secret or ConfigMap.
    pub name: String,
    /// Only this key, under this file name; absent: every key under its own name.
    pub key: Option<(String, &'static str)>,
    /// The field that names it, for messages.
    pub field: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Secret,
    ConfigMap,
}

/// Why a Recording cannot be acted on; its spec is immutable there, so it ends by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Rejection {
    pub field: &'static str,
    pub message: String,
}

fn refuse<T>(field: &'static str, message: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection { field, message: message.into() })
}

/// Makes types of a Recording; `now` stands in for a creation time that a manifest in a file does not have.
pub fn validate(recording: &Recording, now: Timestamp) -> Result<ValidatedRecording, Rejection> {
    let meta = &recording.metadata;
    let spec = &recording.spec;
    let Some(uid) = meta.uid.clone() else { return refuse("metadata.uid", "missing; the API server (or local mode) gives one") };
    let Some(name) = meta.name.clone() else { return refuse("metadata.name", "missing; give the recording a name") };
    if spec.channel.name.len() > CHANNEL_NAME_MAX_BYTES {
        return refuse("spec.channel.name", format!("longer than {CHANNEL_NAME_MAX_BYTES} bytes of UTF-8; shorten it"));
    }
    let recording_id = names::recording_id(&uid);
    let (storage, claim) = job_storage(&spec.storage, "spec.storage")?;
    let backup = spec.backup_storage.as_ref().map(|backup| job_storage(backup, "spec.backupStorage")).transpose()?;
    let (backup, backup_claim) = backup.map_or((None, None), |(backup, claim)| (Some(backup), claim));
    let pod = pod_options(spec)?;
    Ok(ValidatedRecording {
        namespace: meta.namespace.clone().unwrap_or_else(|| "default".into()),
        name,
        stem: names::stem(&recording_id, &spec.channel.name),
        generation: meta.generation.unwrap_or(1),
        created: meta.creation_timestamp.as_ref().map_or(now, |t| t.0),
        deleting: meta.deletion_timestamp.as_ref().map(|t| t.0),
        order: order(recording),
        room: room(spec)?,
        identity: names::recorder_identity(spec.uid, &recording_id),
        storage,
        files: sources(spec)?,
        claim,
        backup,
        backup_claim,
        sizes: Sizes::of(spec)?,
        timeouts: timeouts(spec)?,
        pod,
        spec: spec.clone(),
        recording_id,
        uid,
    })
}

fn order(recording: &Recording) -> Order {
    match (&recording.metadata.deletion_timestamp, recording.spec.on_delete, recording.spec.desired_state) {
        (Some(_), OnDelete::Finish, _) => Order { state: JobState::Stopped, reason: Some(StopReason::Deleted) },
        (Some(_), OnDelete::Cancel, _) => Order { state: JobState::Cancelled, reason: Some(StopReason::Deleted) },
        (None, _, DesiredState::Stopped) => Order { state: JobState::Stopped, reason: Some(StopReason::StopRequested) },
        (None, _, DesiredState::Recording) => Order { state: JobState::Recording, reason: None },
    }
}

fn room(spec: &RecordingSpec) -> Result<Room, Rejection> {
    match (&spec.channel.livekit, &spec.channel.test_pattern) {
        (Some(livekit), None) => Ok(Room::Livekit { url: livekit.url.clone() }),
        (None, Some(pattern)) => Ok(Room::TestPattern(pattern.clone())),
        _ => refuse("spec.channel", "needs exactly one of livekit and testPattern"),
    }
}

fn job_storage(storage: &Storage, field: &'static str) -> Result<(JobStorage, Option<String>), Rejection> {
    match (&storage.s3, &storage.volume) {
        (Some(s3), None) => Ok((JobStorage::S3(job_s3(s3)), None)),
        (None, Some(volume)) => Ok((JobStorage::Volume { sub_path: volume.sub_path.clone() }, Some(volume.claim_name.clone()))),
        _ => refuse(field, "needs exactly one of s3 and volume"),
    }
}

fn job_s3(s3: &S3Storage) -> JobS3 {
    JobS3 {
        bucket: s3.bucket.clone(),
        region: s3.region.clone().unwrap_or_else(|| DEFAULT_REGION.into()),
        endpoint: s3.endpoint.clone(),
        force_path_style: s3.force_path_style,
        prefix: s3.prefix.clone(),
        server_side_encryption: s3.server_side_encryption.clone(),
        storage_class: s3.storage_class.clone(),
        tags: s3.tags.clone(),
        cache_control: s3.cache_control.clone(),
    }
}

fn sources(spec: &RecordingSpec) -> Result<Vec<Source>, Rejection> {
    use SourceKind::{ConfigMap, Secret};
    let mut files = Vec::new();
    let mut whole = |role, name: &str, field| files.push(Source { role, kind: Secret, name: name.to_owned(), key: None, field });
    if let Some(secret) = spec.token.as_ref().and_then(|t| t.api_key_secret_ref.as_ref()) {
        whole(roles::API_KEY, &secret.name, "spec.token.apiKeySecretRef");
    }
    if let Some(secret) = spec.storage.s3.as_ref().and_then(|s3| s3.credentials_secret_ref.as_ref()) {
        whole(roles::S3_CREDENTIALS, &secret.name, "spec.storage.s3.credentialsSecretRef");
    }
    let backup_s3 = spec.backup_storage.as_ref().and_then(|backup| backup.s3.as_ref());
    if let Some(secret) = backup_s3.and_then(|s3| s3.credentials_secret_ref.as_ref()) {
        whole(roles::BACKUP_CREDENTIALS, &secret.name, "spec.backupStorage.s3.credentialsSecretRef");
    }
    let mut one = |role, kind, key: &KeyRef, file, field| {
        files.push(Source { role, kind, name: key.name.clone(), key: Some((key.key.clone(), file)), field });
    };
    if let Some(key) = spec.token.as_ref().and_then(|t| t.secret_key_ref.as_ref()) {
        one(roles::TOKEN, Secret, key, roles::TOKEN_KEY, "spec.token.secretKeyRef");
    }
    if let Some(bundle) = &spec.channel.ca_bundle {
        one(roles::CHANNEL_CA, ConfigMap, &bundle.config_map_key_ref, roles::CA_FILE, "spec.channel.caBundle");
    }
    if let Some(bundle) = spec.storage.s3.as_ref().and_then(|s3| s3.ca_bundle.as_ref()) {
        one(roles::S3_CA, ConfigMap, &bundle.config_map_key_ref, roles::CA_FILE, "spec.storage.s3.caBundle");
    }
    if let Some(bundle) = backup_s3.and_then(|s3| s3.ca_bundle.as_ref()) {
        one(roles::BACKUP_CA, ConfigMap, &bundle.config_map_key_ref, roles::CA_FILE, "spec.backupStorage.s3.caBundle");
    }
    if spec.channel.livekit.is_some() && !files.iter().any(|f| matches!(f.role, roles::TOKEN | roles::API_KEY)) {
        return refuse("spec.token", "required for a LiveKit room; set token.secretKeyRef or token.apiKeySecretRef");
    }
    Ok(files)
}

fn pod_options(spec: &RecordingSpec) -> Result<PodOptions, Rejection> {
    let pod = spec.pod.as_deref().cloned().unwrap_or_default();
    let ours = |key: &&String| key.contains(recording_crds::labels::GROUP) || key.starts_with("app.kubernetes.io/");
    if let Some(key) = pod.labels.keys().find(ours) {
        return refuse("spec.pod.labels", format!("{key} belongs to the operator; choose another name"));
    }
    if let Some(key) = pod.annotations.keys().find(|key| key.contains(recording_crds::labels::GROUP)) {
        return refuse("spec.pod.annotations", format!("{key} belongs to the operator; choose another name"));
    }
    Ok(pod)
}

fn timeouts(spec: &RecordingSpec) -> Result<Timeouts, Rejection> {
    Ok(Timeouts {
        idle: seconds("spec.idleTimeoutSeconds", spec.idle_timeout_seconds)?,
        max_duration: seconds("spec.maxDurationSeconds", spec.max_duration_seconds)?,
        drain: seconds("spec.drainTimeoutSeconds", spec.drain_timeout_seconds)?,
        start_deadline: spec.start_deadline_seconds.map(|s| seconds("spec.startDeadlineSeconds", s)).transpose()?,
        ttl: spec.ttl_seconds_after_finished.map(|s| seconds("spec.ttlSecondsAfterFinished", s)).transpose()?,
    })
}

fn seconds(field: &'static str, value: i64) -> Result<u32, Rejection> {
    u32::try_from(value).or_else(|_| refuse(field, format!("{value} is not a number of seconds")))
}

#[cfg(test)]
mod tests;
