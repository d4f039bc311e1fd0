//! The job: what a controller orders and a recorder reads. Versioned; unknown fields are ignored, an unknown version is refused.

use crate::recording::{
    AudioProfile, ChannelProfile, Layout, Media, Mode, ServerSideEncryption, Snapshots, Subscription, TestPattern, VideoStream,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The one version there is.
pub const API_VERSION: &str = "job.recording-operator.io/v1";
/// Label value on pods.
pub const VERSION_LABEL: &str = "v1";

/// Roles of files that a job names; a role is a folder of files, or one file where it says so.
pub mod roles {
    /// Folder with the file [`TOKEN_KEY`]: a ready-made token.
    pub const TOKEN: &str = "token";
    /// Folder with LIVEKIT_API_KEY and LIVEKIT_API_SECRET.
    pub const API_KEY: &str = "api-key";
    /// Folder with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and optionally AWS_SESSION_TOKEN.
    pub const S3_CREDENTIALS: &str = "s3-credentials";
    /// Folder with the file [`CA_FILE`].
    pub const CHANNEL_CA: &str = "channel-ca";
    /// Folder with the file [`CA_FILE`].
    pub const S3_CA: &str = "s3-ca";
    /// Folder: the storage volume's root (`subPath` is applied by the recorder).
    pub const STORAGE: &str = "storage";
    /// As [`S3_CREDENTIALS`], of the backup storage.
    pub const BACKUP_CREDENTIALS: &str = "backup-credentials";
    /// As [`S3_CA`], of the backup storage.
    pub const BACKUP_CA: &str = "backup-ca";
    /// As [`STORAGE`], of the backup storage.
    pub const BACKUP: &str = "backup";

    pub const LIVEKIT_API_KEY: &str = "LIVEKIT_API_KEY";
    pub const LIVEKIT_API_SECRET: &str = "LIVEKIT_API_SECRET";
    /// Whatever key the spec names, the mount calls it this.
    pub const TOKEN_KEY: &str = "token";
    pub const CA_FILE: &str = "ca.pem";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    pub api_version: String,
    pub kind: JobKind,
    #[serde(rename = "recordingID")]
    pub recording_id: String,
    pub namespace: String,
    pub name: String,
    /// Counts from 1; the epoch of fencing.
    pub attempt: i32,
    /// The Recording's metadata.generation.
    pub generation: i64,
    pub desired_state: JobState,
    /// Why desiredState is Stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// `<recordingID>_<escaped channel>`: what every object name begins with.
    pub stem: String,
    pub spec: JobSpec,
    /// Where the files of a role are.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Size of the spool.
    pub spool_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    Record,
    /// Join nothing: finish what an earlier attempt left.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    Recording,
    Stopped,
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    StopRequested,
    Deleted,
}

/// The validated spec, defaults filled, as far as a recorder needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    pub channel: JobChannel,
    /// The recorder's identity where the SFU wants a string and the token is minted.
    pub identity: String,
    pub mode: Mode,
    pub media: Media,
    /// Absent in jobs of controllers that did not know it: the default.
    #[serde(default)]
    pub video_stream: VideoStream,
    /// Absent in jobs of controllers that did not know it: the default.
    #[serde(default)]
    pub audio_profile: AudioProfile,
    /// Absent in jobs of controllers that did not know it: everybody.
    #[serde(default)]
    pub subscription: Subscription,
    pub idle_timeout_seconds: u32,
    pub max_duration_seconds: u32,
    pub drain_timeout_seconds: u32,
    pub hls: JobHls,
    /// Absent in jobs of controllers that did not know it: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,
    /// In mode Composite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    pub storage: JobStorage,
    /// Absent in jobs of controllers that did not know it: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_storage: Option<JobStorage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobHls {
    pub segment_seconds: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobChannel {
    pub name: String,
    #[serde(rename = "appID", default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    pub profile: ChannelProfile,
    pub room: Room,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Room {
    Livekit { url: String },
    TestPattern(TestPattern),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobStorage {
    S3(JobS3),
    #[serde(rename_all = "camelCase")]
    Volume {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_path: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobS3 {
    pub bucket: String,
    pub region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub force_path_style: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Of segments; absent: the recorder's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
}

/// Why a job cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobError {
    Syntax(String),
    Version(String),
}

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JobError::Syntax(reason) => write!(f, "failed to read the job: {reason}"),
            JobError::Version(found) => {
                write!(
                    f,
                    "failed to read the job: version {found} is not {API_VERSION}; controller and recorder are too far apart, use one image for both"
                )
            }
        }
    }
}

impl std::error::Error for JobError {}

impl Job {
    pub fn parse(text: &str) -> Result<Self, JobError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            api_version: String,
        }
        let version: Version = serde_json::from_str(text).map_err(|e| JobError::Syntax(e.to_string()))?;
        if version.api_version != API_VERSION {
            return Err(JobError::Version(version.api_version));
        }
        serde_json::from_str(text).map_err(|e| JobError::Syntax(e.to_string()))
    }

    /// Compact, keys in a fixed order: equal jobs give equal text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field there is; the fixture of the next version.
    const GOLDEN: &str = include_str!("../tests/golden/job-v1.json");
    /// As the first controllers wrote it: fields that came later are absent.
    const FIRST: &str = include_str!("../tests/golden/job-v1-first.json");

    #[test]
    fn the_first_version_of_the_contract_is_still_understood() {
        let job = Job::parse(FIRST).expect("the first job");
        assert_eq!((job.spec.video_stream, &job.spec.subscription), (VideoStream::High, &Subscription::default()));
        assert_eq!(job.spec.audio_profile, AudioProfile::Mono48);
        assert_eq!((&job.spec.backup_storage, &job.spec.layout, job.spec.snapshots), (&None, &None, None));
        assert_eq!((job.attempt, job.generation, job.desired_state), (1, 3, JobState::Stopped));
        assert_eq!(job.stop_reason, Some(StopReason::Deleted));
        assert!(matches!(&job.spec.channel.room, Room::Livekit { url } if url == "wss://sfu.example.com"));
        assert_eq!(Job::parse(&job.to_text()), Ok(job));
    }

    #[test]
    fn every_field_of_the_contract_survives_the_way_through_the_file() {
        let golden: serde_json::Value = serde_json::from_str(GOLDEN).expect("JSON");
        let job = Job::parse(GOLDEN).expect("the golden job");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&job.to_text()).expect("JSON"), golden);
        let subscription = job.spec.subscription;
        assert!(subscription.audio.is_some_and(|audio| audio.takes("alice") && !audio.takes("bob")));
        assert!(subscription.video.is_some_and(|video| video.takes("alice") && !video.takes("robot")));
    }

    #[test]
    fn unknown_fields_are_ignored_and_an_unknown_version_refused() {
        let mut value: serde_json::Value = serde_json::from_str(GOLDEN).expect("JSON");
        value["colour"] = "red".into();
        assert!(Job::parse(&value.to_string()).is_ok());
        value["apiVersion"] = "job.recording-operator.io/v2".into();
        assert!(matches!(Job::parse(&value.to_string()), Err(JobError::Version(v)) if v.ends_with("v2")));
        assert!(matches!(Job::parse("{"), Err(JobError::Syntax(_))));
    }
}
