//! ValidatedRecording -> the job that the recorder reads.

use crate::validate::ValidatedRecording;
use recording_crds::job::{API_VERSION, Job, JobChannel, JobHls, JobKind, JobSpec, roles};
use recording_crds::paths;
use recording_crds::recording::{Layout, Mode, RecordingSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The job of an attempt. `files` says where each role's folder is: `pod_files` in a pod, folders of its own in local mode.
pub fn build(v: &ValidatedRecording, attempt: i32, kind: JobKind, files: BTreeMap<String, PathBuf>) -> Job {
    Job {
        api_version: API_VERSION.into(),
        kind,
        recording_id: v.recording_id.clone(),
        namespace: v.namespace.clone(),
        name: v.name.clone(),
        attempt,
        generation: v.generation,
        desired_state: v.order.state,
        stop_reason: v.order.reason,
        stem: v.stem.clone(),
        spec: spec(v),
        files,
        spool_bytes: v.sizes.spool_bytes,
    }
}

fn spec(v: &ValidatedRecording) -> JobSpec {
    JobSpec {
        channel: JobChannel {
            name: v.spec.channel.name.clone(),
            app_id: v.spec.channel.app_id.clone(),
            profile: v.spec.channel.profile,
            room: v.room.clone(),
        },
        identity: v.identity.clone(),
        mode: v.spec.mode,
        media: v.spec.media,
        video_stream: v.spec.video_stream(),
        audio_profile: v.spec.audio.unwrap_or_default().profile,
        subscription: v.spec.subscription.clone().unwrap_or_default(),
        idle_timeout_seconds: v.timeouts.idle,
        max_duration_seconds: v.timeouts.max_duration,
        drain_timeout_seconds: v.timeouts.drain,
        hls: JobHls { segment_seconds: v.spec.output.hls.segment_seconds(v.spec.mode) },
        snapshots: v.spec.output.snapshots,
        layout: layout(&v.spec),
        storage: v.storage.clone(),
        backup_storage: v.backup.clone(),
    }
}

fn layout(spec: &RecordingSpec) -> Option<Layout> {
    (spec.mode == Mode::Composite).then(|| spec.layout.as_deref().cloned().unwrap_or_default())
}

/// Where the roles' folders are in a recorder pod.
pub fn pod_files(v: &ValidatedRecording) -> BTreeMap<String, PathBuf> {
    let mounted = v.files.iter().map(|source| (source.role.to_owned(), Path::new(paths::SECRETS).join(source.role)));
    let volume = v.claim.iter().map(|_| (roles::STORAGE.to_owned(), PathBuf::from(paths::STORAGE)));
    let backup = v.backup_claim.iter().map(|_| (roles::BACKUP.to_owned(), PathBuf::from(paths::BACKUP)));
    mounted.chain(volume).chain(backup).collect()
}
