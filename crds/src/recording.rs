//! The `Recording` resource: what a user declares. Units are in the names of fields; every default is in the schema.

// The derive macros of kube repeat items in a private module.
#![allow(unreachable_pub)]

mod channel;
pub mod defaults;
mod layout;
mod output;
mod pod;
mod references;
mod storage;
mod subscription;
mod token;

use crate::status::RecordingStatus;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use channel::{Channel, ChannelProfile, LiveKit, TestPattern};
pub use layout::{Canvas, Captions, Fit, Layout, LayoutType, Region, UserImage, Watermark, WatermarkType};
pub use output::{Hls, Output, Snapshots};
pub use pod::{PodOptions, Spool};
pub use references::{CaBundle, KeyRef, SecretRef};
pub use storage::{EncryptionType, S3Storage, ServerSideEncryption, Storage, VolumeStorage};
pub use subscription::{Selection, Subscription};
pub use token::Token;

/// A recording of one room, by one recorder pod, into one place.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "recording-operator.io",
    version = "v1alpha1",
    kind = "Recording",
    plural = "recordings",
    shortname = "rec",
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
    validation = Rule::new("has(self.videoStream) == has(oldSelf.videoStream) && (!has(self.videoStream) || self.videoStream == oldSelf.videoStream)")
        .message("spec.videoStream cannot be changed: apply a new Recording"),
    validation = Rule::new("!has(self.videoStream) || self.media != 'Audio'")
        .message("spec.videoStream has no meaning with media: Audio: remove it"),
    validation = Rule::new("has(self.audio) == has(oldSelf.audio) && (!has(self.audio) || self.audio == oldSelf.audio)")
        .message("spec.audio cannot be changed: apply a new Recording"),
    validation = Rule::new("!has(self.audio) || self.media != 'Video'")
        .message("spec.audio has no meaning with media: Video: remove it"),
    validation = Rule::new("!has(self.subscription) || ((!has(self.subscription.audio) || self.media != 'Video') && (!has(self.subscription.video) || self.media != 'Audio'))")
        .message("spec.subscription speaks of a kind that spec.media does not record: remove subscription.audio (media: Video) or subscription.video (media: Audio)"),
    validation = Rule::new("!has(self.layout) || (self.mode == 'Composite' && self.media != 'Audio')")
        .message("spec.layout has a meaning only in mode: Composite with pictures: remove it"),
    validation = Rule::new("!has(self.output.snapshots) || self.media != 'Audio'")
        .message("spec.output.snapshots has a meaning only with pictures: remove it or media: Audio"),
    validation = Rule::new("has(self.startDeadlineSeconds) == has(oldSelf.startDeadlineSeconds) && (!has(self.startDeadlineSeconds) || self.startDeadlineSeconds == oldSelf.startDeadlineSeconds)")
        .message("spec.startDeadlineSeconds cannot be changed: apply a new Recording"),
    validation = Rule::new("self.output == oldSelf.output").message("spec.output cannot be changed: apply a new Recording"),
    validation = Rule::new("self.storage == oldSelf.storage").message("spec.storage cannot be changed: apply a new Recording"),
    validation = Rule::new("has(self.backupStorage) == has(oldSelf.backupStorage) && (!has(self.backupStorage) || self.backupStorage == oldSelf.backupStorage)")
        .message("spec.backupStorage cannot be changed: apply a new Recording"),
    validation = Rule::new("!has(self.backupStorage) || !has(self.backupStorage.s3) || !has(self.storage.s3) || self.backupStorage.s3.bucket != self.storage.s3.bucket || (has(self.backupStorage.s3.endpoint) ? self.backupStorage.s3.endpoint : '') != (has(self.storage.s3.endpoint) ? self.storage.s3.endpoint : '')")
        .message("spec.backupStorage must be another bucket or another endpoint than spec.storage: what fails there would fail here"),
    validation = Rule::new("!has(self.backupStorage) || !has(self.backupStorage.volume) || !has(self.storage.volume) || self.backupStorage.volume.claimName != self.storage.volume.claimName")
        .message("spec.backupStorage must be another claim than spec.storage: what fails there would fail here"),
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
    /// Individual: one recording per participant. Composite: one picture and one sound of everybody.
    pub mode: Mode,
    /// What to record. Default: AudioVideo.
    #[serde(default)]
    pub media: Media,
    /// Which layer to take of a picture that is sent in several sizes. High: the largest. Low: the smallest. Auto: in mode Composite the smallest that fills its place, else as the server chooses. Default: High, in mode Composite Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_stream: Option<VideoStream>,
    /// How sound is written. Default: 48 kHz mono at 48 kbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<Audio>,
    /// Whose media is recorded; may be changed while recording. Default: everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// Who is where in the picture of mode Composite; may be changed while recording. Default: BestFit on 1280 x 720 at 30 pictures per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Box<Layout>>,
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
    /// Where a segment goes when `storage` refuses it; it is moved to `storage` when that works again. Another bucket, endpoint or claim. Default: none, media waits in the spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_storage: Option<Box<Storage>>,
    /// Options of the recorder pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Box<PodOptions>>,
    /// Finish: deletion waits (at most drainTimeoutSeconds) until everything is stored. Cancel: end now, keep what is stored. Default: Finish.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// Removes the Recording, never its media, this many seconds after its end. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2592000))]
    pub ttl_seconds_after_finished: Option<i64>,
}

impl RecordingSpec {
    pub fn video_stream(&self) -> VideoStream {
        self.video_stream.unwrap_or(match self.mode {
            Mode::Individual => VideoStream::High,
            Mode::Composite => VideoStream::Auto,
        })
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Individual,
    Composite,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    #[default]
    AudioVideo,
    Audio,
    Video,
}

/// Which simulcast layer; a wish: a sender that has only one layer sends that one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VideoStream {
    Auto,
    #[default]
    High,
    Low,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audio {
    /// Channels and kbit/s of AAC-LC at 48 kHz: Mono48, Mono128 or Stereo192. Default: Mono48.
    #[serde(default)]
    pub profile: AudioProfile,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudioProfile {
    #[default]
    Mono48,
    Mono128,
    Stereo192,
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
