//! The `Recording` resource: what a user declares. Units are in the names of fields; every default is in the schema.

// The derive macros of kube repeat items in a private module.
#![allow(unreachable_pub)]

use crate::status::RecordingStatus;
use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A recording of one room, by one recorder pod, into one place.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "recording-operator.io",
    version = "v1alpha1",
    kind = "Recording",
    plural = "recordings",
    shortname = "rec",
    category = "all",
    namespaced,
    status = "RecordingStatus",
    derive = "PartialEq",
    doc = "A recording of a live WebRTC room.",
    selectable = ".spec.channel.name",
    selectable = ".status.phase",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Channel","type":"string","jsonPath":".spec.channel.name"}"#,
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Progress","type":"integer","jsonPath":".status.progress.percent","description":"Stored files of recorded files, per cent"}"#,
    printcolumn = r#"{"name":"Duration","type":"integer","jsonPath":".status.progress.recordedSeconds","description":"Recorded seconds"}"#,
    printcolumn = r#"{"name":"Failure","type":"string","jsonPath":".status.failure.code"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Manifest","type":"string","jsonPath":".status.manifest","priority":1}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".status.attempt.node","priority":1}"#,
    validation = Rule::new("size(self.metadata.name) <= 48").message("metadata.name may have at most 48 characters, because it becomes the name of pods: shorten it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.channel.testPattern) || has(self.token)")
        .message("spec.token is required for a LiveKit room: set token.secretKeyRef or token.apiKeySecretRef"),
    validation = Rule::new("!has(self.channel.testPattern) || !has(self.token)")
        .message("spec.token has no meaning for channel.testPattern: remove it"),
    validation = Rule::new("self.channel == oldSelf.channel").message("spec.channel cannot be changed: apply a new Recording"),
    validation = Rule::new("has(self.token) == has(oldSelf.token) && (!has(self.token) || self.token == oldSelf.token)")
        .message("spec.token cannot be changed: put the new token into the same Secret, it is re-read"),
    validation = Rule::new("has(self.uid) == has(oldSelf.uid) && (!has(self.uid) || self.uid == oldSelf.uid)")
        .message("spec.uid cannot be changed: apply a new Recording"),
    validation = Rule::new("self.mode == oldSelf.mode").message("spec.mode cannot be changed: apply a new Recording"),
    validation = Rule::new("self.media == oldSelf.media").message("spec.media cannot be changed: apply a new Recording"),
    validation = Rule::new("has(self.startDeadlineSeconds) == has(oldSelf.startDeadlineSeconds) && (!has(self.startDeadlineSeconds) || self.startDeadlineSeconds == oldSelf.startDeadlineSeconds)")
        .message("spec.startDeadlineSeconds cannot be changed: apply a new Recording"),
    validation = Rule::new("self.output == oldSelf.output").message("spec.output cannot be changed: apply a new Recording"),
    validation = Rule::new("self.storage == oldSelf.storage").message("spec.storage cannot be changed: apply a new Recording"),
    validation = Rule::new("has(self.pod) == has(oldSelf.pod) && (!has(self.pod) || self.pod == oldSelf.pod)")
        .message("spec.pod cannot be changed: apply a new Recording"),
    validation = Rule::new("oldSelf.desiredState != 'Stopped' || self.desiredState == 'Stopped'")
        .message("spec.desiredState cannot go back to Recording: a stopped recording never starts again, apply a new one")
)]
pub struct RecordingSpec {
    /// The room to record.
    pub channel: Channel,
    /// How the recorder proves that it may join; not used by testPattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The recorder's own number in the room, 1..4294967295. Default: derived from the recording ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295_i64))]
    pub uid: Option<i64>,
    /// Individual: one recording per participant.
    pub mode: Mode,
    /// What to record. Default: AudioVideo.
    #[serde(default)]
    pub media: Media,
    /// Recording, or Stopped to end it in good order. One way: a stopped recording never starts again.
    #[serde(default)]
    pub desired_state: DesiredState,
    /// Fails when no recorder could start within this many seconds, 1..2592000. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2592000))]
    pub start_deadline_seconds: Option<i64>,
    /// Ends when the room was empty for this many seconds, 5..2592000. Default: 30.
    #[serde(default = "defaults::idle_timeout_seconds")]
    #[schemars(range(min = 5, max = 2592000))]
    pub idle_timeout_seconds: i64,
    /// Ends after this many seconds of recording, 1..2592000. Default: 86400.
    #[serde(default = "defaults::max_duration_seconds")]
    #[schemars(range(min = 1, max = 2592000))]
    pub max_duration_seconds: i64,
    /// After the end: how many seconds to try to get everything stored, 1..2592000. Default: 3600.
    #[serde(default = "defaults::drain_timeout_seconds")]
    #[schemars(range(min = 1, max = 2592000))]
    pub drain_timeout_seconds: i64,
    /// What is written.
    #[serde(default)]
    pub output: Output,
    /// Where it is stored.
    pub storage: Storage,
    /// Options of the recorder pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// Finish: deletion waits (at most drainTimeoutSeconds) until everything is stored. Cancel: end now, keep what is stored. Default: Finish.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// Removes the Recording, never its media, this many seconds after its end. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2592000))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// The room to record; exactly one of `livekit` and `testPattern`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.livekit) ? 1 : 0) + (has(self.testPattern) ? 1 : 0) == 1")
        .message("spec.channel needs exactly one of livekit and testPattern"),
    validation = Rule::new("!self.name.matches('[\\\\x00-\\\\x1f\\\\x7f]')")
        .message("spec.channel.name must not contain control characters: remove them")
)]
pub struct Channel {
    /// Name of the room, 1..255 bytes of UTF-8 without control characters; becomes part of object names.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// An application's identifier, recorded in the manifest.
    #[serde(rename = "appID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub app_id: Option<String>,
    /// Communication: idle = nobody else is there. LiveBroadcasting: idle = nobody publishes. Default: Communication.
    #[serde(default)]
    pub profile: ChannelProfile,
    /// A room of a LiveKit server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub livekit: Option<LiveKit>,
    /// The built-in room: a moving picture and a tone per participant, over real WebRTC inside the recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_pattern: Option<TestPattern>,
    /// Certificate authorities to trust for the room's url, besides the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelProfile {
    #[default]
    Communication,
    LiveBroadcasting,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LiveKit {
    /// Address of the server: wss://, ws://, https:// or http://.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(wss?|https?)://[^\s/]+"))]
    pub url: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TestPattern {
    /// People in the room, 1..8. Default: 2.
    #[serde(default = "defaults::participants")]
    #[schemars(range(min = 1, max = 8))]
    pub participants: i32,
    /// Width of their picture in pixels, 160..1920, a multiple of 16. Default: 1280.
    #[serde(default = "defaults::width")]
    #[schemars(range(min = 160, max = 1920), extend("multipleOf" = 16))]
    pub width: i32,
    /// Height of their picture in pixels, 90..1080, even. Default: 720.
    #[serde(default = "defaults::height")]
    #[schemars(range(min = 90, max = 1080), extend("multipleOf" = 2))]
    pub height: i32,
    /// Pictures per second, 1..60. Default: 30.
    #[serde(default = "defaults::frames_per_second")]
    #[schemars(range(min = 1, max = 60))]
    pub frames_per_second: i32,
    /// They leave after this many seconds, 1..86400. Default: 20.
    #[serde(default = "defaults::duration_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub duration_seconds: i32,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// A ConfigMap's key that holds PEM certificates.
    pub config_map_key_ref: KeyRef,
}

/// A key of a Secret or ConfigMap in the Recording's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object, in the Recording's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A Secret in the Recording's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Exactly one of `secretKeyRef` and `apiKeySecretRef`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.apiKeySecretRef)")
    .message("spec.token needs exactly one of secretKeyRef and apiKeySecretRef"))]
pub struct Token {
    /// A ready-made token; re-read when the Secret changes. Its subject is the recorder's identity, uid is not used then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// LiveKit API key: keys LIVEKIT_API_KEY and LIVEKIT_API_SECRET. The recorder mints a hidden, subscribe-only token and renews it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretRef>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Individual,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    #[default]
    AudioVideo,
    Audio,
    Video,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DesiredState {
    #[default]
    Recording,
    Stopped,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    #[default]
    Finish,
    Cancel,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// HTTP Live Streaming: MPEG-TS segments and playlists.
    #[serde(default)]
    pub hls: Hls,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Hls {
    /// Length of a segment in seconds, 2..60; cut at the next key frame. Default: 15.
    #[serde(default = "defaults::segment_seconds")]
    #[schemars(range(min = 2, max = 60))]
    pub segment_seconds: i32,
}

impl Default for Hls {
    fn default() -> Self {
        Self { segment_seconds: defaults::segment_seconds() }
    }
}

/// Exactly one of `s3` and `volume`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.s3) != has(self.volume)").message("spec.storage needs exactly one of s3 and volume"))]
pub struct Storage {
    /// A bucket of Amazon S3 or of anything that speaks its protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    /// A PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStorage>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.prefix) || !(self.prefix.startsWith('/') || self.prefix.endsWith('/') || self.prefix.split('/').exists(p, p == '' || p == '.' || p == '..'))")
        .message("spec.storage.s3.prefix must be folders joined by /, without a leading or trailing / and without . and .. parts, like acme/standups"),
    validation = Rule::new("!has(self.region) && !has(self.endpoint) ? false : true")
        .message("spec.storage.s3 needs a region (Amazon S3) or an endpoint (other servers)")
)]
pub struct S3Storage {
    /// Name of the bucket.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Region, like eu-west-1. Default: us-east-1 when an endpoint is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: Option<String>,
    /// Address of an S3-compatible server, like https://minio.example.com:9000. Default: Amazon S3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s/]+"))]
    pub endpoint: Option<String>,
    /// Put the bucket into the path instead of the host name; most S3-compatible servers want true. Default: false.
    #[serde(default)]
    pub force_path_style: bool,
    /// Folder in the bucket, like acme/standups. Default: the bucket's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,
    /// Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_SESSION_TOKEN; re-read when it changes. Default: workload identity of pod.serviceAccountName.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Encryption at rest. Default: the bucket's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Storage class of segments, like STANDARD_IA. Default: the bucket's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Z0-9_]+$"))]
    pub storage_class: Option<String>,
    /// Tags of every object, at most 10.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10))]
    pub tags: BTreeMap<String, String>,
    /// Certificate authorities to trust for the endpoint, besides the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.kmsKeyID) || self.type == 'KMS'")
    .message("spec.storage.s3.serverSideEncryption.kmsKeyID needs type KMS"))]
pub struct ServerSideEncryption {
    /// AES256: keys of the storage. KMS: keys of a key management service.
    #[serde(rename = "type")]
    pub kind: EncryptionType,
    /// Key for KMS. Default: the account's.
    #[serde(rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionType {
    AES256,
    KMS,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.subPath) || !(self.subPath.startsWith('/') || self.subPath.split('/').exists(p, p == '' || p == '.' || p == '..'))")
    .message("spec.storage.volume.subPath must be a relative path without empty, . and .. parts, like standups/2026"))]
pub struct VolumeStorage {
    /// Name of the PersistentVolumeClaim; ReadWriteMany, or used from one node.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
    /// Folder in the volume. Default: its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub sub_path: Option<String>,
}

/// Options of the recorder pod.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// Requests and limits. Default: requests computed from the spec, a memory limit, no CPU limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pod tolerates, besides not-ready and unreachable for 30 s; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Node and pod affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Service account, for workload identity at the storage; its token is mounted only then. Default: default, without a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Secrets for pulling the image; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Labels of the pod, besides the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod, besides the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// The disk on which media waits for storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<Spool>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Spool {
    /// Size of the spool, like 4Gi. Default: computed from the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// Defaults, once.
pub mod defaults {
    pub const fn idle_timeout_seconds() -> i64 {
        30
    }
    pub const fn max_duration_seconds() -> i64 {
        86_400
    }
    pub const fn drain_timeout_seconds() -> i64 {
        3600
    }
    pub const fn segment_seconds() -> i32 {
        15
    }
    pub const fn participants() -> i32 {
        2
    }
    pub const fn width() -> i32 {
        1280
    }
    pub const fn height() -> i32 {
        720
    }
    pub const fn frames_per_second() -> i32 {
        30
    }
    pub const fn duration_seconds() -> i32 {
        20
    }
}
