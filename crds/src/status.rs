//! What a Recording says of itself: small, true, without personal data (lists live in the manifest object).

use crate::codes::{Code, Component};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a recording, as true as its last report.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecordingStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pending, Starting, Recording, Stopping, Completed or Failed: a summary of the conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// 32 hexadecimal digits from the object's uid.
    #[serde(rename = "recordingID", skip_serializing_if = "Option::is_none")]
    pub recording_id: Option<String>,
    /// Key of the manifest object, below the storage prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Where the manifest is: s3://bucket/key or the path in the volume.
    #[serde(rename = "manifestURL", skip_serializing_if = "Option::is_none")]
    pub manifest_url: Option<String>,
    /// Key of the playlist of mode Composite, below the storage prefix; in mode Individual the manifest names the playlists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playlist: Option<String>,
    /// Where that playlist is, as manifestURL.
    #[serde(rename = "playlistURL", skip_serializing_if = "Option::is_none")]
    pub playlist_url: Option<String>,
    /// Playlists that exist in storage; the manifest names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playlist_count: Option<i64>,
    /// When the recorder joined the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the first media arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_media_time: Option<Time>,
    /// When the recording ended; storing may go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_time: Option<Time>,
    /// When everything was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The counters are true as of this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_report_time: Option<Time>,
    /// How much is recorded, and how much of that is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// People in the room, recorders and agents not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant_count: Option<i64>,
    /// Holes in the recording; the manifest lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_count: Option<i64>,
    /// Their length, rounded up to seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_seconds: Option<i64>,
    /// The newest hole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_gap: Option<LastGap>,
    /// The recorder pod that is responsible now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// Generation of the job that the recorder says is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_generation: Option<i64>,
    /// Why it ended; always present at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Ending>,
    /// Present only in phase Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Accepted, Recording, Uploaded, Complete, Failed, Degraded, BackedUp, Ready and Stalled; each has a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nothing runs yet.
    Pending,
    /// A recorder starts or waits for media.
    Starting,
    /// Media is being recorded.
    Recording,
    /// Ended; storing what is left.
    Stopping,
    Completed,
    Failed,
}

impl Phase {
    pub const ALL: [Phase; 6] = [Phase::Pending, Phase::Starting, Phase::Recording, Phase::Stopping, Phase::Completed, Phase::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Starting => "Starting",
            Phase::Recording => "Recording",
            Phase::Stopping => "Stopping",
            Phase::Completed => "Completed",
            Phase::Failed => "Failed",
        }
    }

    /// Completed and Failed latch: nothing leads out of them.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Completed | Phase::Failed)
    }
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Stored files of recorded files, 0..100; never falls.
    pub percent: i64,
    /// Files confirmed by storage.
    pub uploaded_files: i64,
    /// Files finished.
    pub recorded_files: i64,
    /// Bytes confirmed by storage.
    pub uploaded_bytes: i64,
    /// Seconds of the longest playlist.
    pub recorded_seconds: i64,
    /// Seconds of media that wait for storage.
    pub backlog_seconds: i64,
    /// Files that are in backupStorage and not in storage.
    #[serde(default)]
    pub backup_files: i64,
    /// Snapshots confirmed by storage; absent without output.snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<i64>,
    /// Snapshots that were taken and could not be stored or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots_lost: Option<i64>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastGap {
    /// When it began, by the media.
    pub start_time: Time,
    /// Length, rounded up to seconds.
    pub duration_seconds: i64,
    /// Disconnected, RecorderRestarted, PacketLoss, NoPicture, DiskFull, SegmentLost, Overloaded or Undecodable.
    pub reason: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Counts recorder pods from 1.
    pub number: i32,
    /// Name of the recorder pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When its pod was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

/// How a recording ended.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// A code of docs/codes.md.
    #[schemars(with = "String")]
    pub reason: Code,
    /// The number the field knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Recorder, Uploader or Service.
    #[schemars(with = "String")]
    pub component: Component,
    /// What happened, in one sentence; no identities, no secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Why a recording failed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A code of docs/codes.md.
    #[schemars(with = "String")]
    pub code: Code,
    /// The number the field knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Recorder, Uploader or Service.
    #[schemars(with = "String")]
    pub component: Component,
    /// What happened, in one sentence; no identities, no secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
