//! Where a recording is kept: one trait, two stores, the same conformance suite for both (`store/conformance.rs`).

pub(crate) mod s3;
pub(crate) mod volume;

#[cfg(test)]
mod conformance;

use std::path::Path;

use async_trait::async_trait;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;
use recording_crds::job::{Job, JobS3, JobStorage, roles};
use recording_crds::recording::EncryptionType;

/// When a document may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Only if no such object exists.
    Absent,
    /// Only over the version with this ETag: what this process wrote or read last.
    Matches(String),
}

/// A playlist, a manifest, a ledger chunk or a snapshot on its way to storage.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Below the storage prefix.
    pub(crate) key: String,
    pub(crate) body: Bytes,
    pub(crate) kind: DocumentKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Playlist,
    Manifest,
    LedgerChunk,
    Snapshot,
}

impl DocumentKind {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Playlist => "application/vnd.apple.mpegurl",
            Self::Manifest => "application/json",
            Self::LedgerChunk => "application/x-ndjson",
            Self::Snapshot => "image/jpeg",
        }
    }

    /// Chunks and snapshots are written once; the others are rewritten while the recording grows.
    pub(crate) const fn cache_control(self) -> &'static str {
        match self {
            Self::Playlist | Self::Manifest => "no-cache",
            Self::LedgerChunk | Self::Snapshot => SEGMENT_CACHE_CONTROL,
        }
    }
}

pub(crate) const SEGMENT_CONTENT_TYPE: &str = "video/mp2t";
pub(crate) const SEGMENT_CACHE_CONTROL: &str = "max-age=31536000, immutable";

/// A finished segment on its way to storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// Below the storage prefix.
    pub(crate) key: &'a str,
    pub(crate) path: &'a Path,
    /// Lower-case hex of the file's SHA-256.
    pub(crate) sha256: &'a str,
    /// The ledger entry as one line of JSON, kept beside the object where the store can.
    pub(crate) ledger: &'a str,
}

/// An object as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) body: Bytes,
    pub(crate) etag: String,
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) bytes: u64,
    pub(crate) etag: String,
    /// A segment's ledger entry as it was stored with it; None: this store cannot keep one, or it is no segment of ours.
    pub(crate) ledger: Option<String>,
}

/// Most names in one answer to a listing; S3 gives no more.
pub(crate) const LIST_PAGE: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreFailure {
    /// Time-out, connection, 5xx, throttled: the same call may succeed later.
    #[error("{0}")]
    Retryable(String),
    /// The credentials are wrong, expired, or not allowed to do this.
    #[error("{0}")]
    Denied(String),
    /// The bucket or the folder does not exist, or the store does not take such a request.
    #[error("{0}")]
    Invalid(String),
    /// The condition does not hold: somebody else's object is there.
    #[error("the object was changed by somebody else")]
    Conflict,
}

impl StoreFailure {
    /// As the session sees it; a conflict has been looked into before (`uploader`).
    pub(crate) fn into_media(self) -> recorder_media::StoreError {
        match self {
            Self::Retryable(why) => recorder_media::StoreError::Retryable(why),
            Self::Denied(why) | Self::Invalid(why) => recorder_media::StoreError::Refused(why),
            Self::Conflict => recorder_media::StoreError::Refused("another object of this name is in the storage".into()),
        }
    }
}

#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// Stores a segment that must not exist yet; the same content under the same key (our own retry) is success.
    ///
    /// # Errors
    /// [`StoreFailure::Conflict`] when other content has this key.
    async fn put_segment(&self, segment: Segment<'_>) -> Result<String, StoreFailure>;

    /// Stores a document under its condition and returns its new ETag; the same content already there is success.
    ///
    /// # Errors
    /// [`StoreFailure::Conflict`] when the condition does not hold.
    async fn put_document(&self, document: &Document, condition: &Condition) -> Result<String, StoreFailure>;

    /// `None`: no such object.
    async fn fetch(&self, key: &str) -> Result<Option<Fetched>, StoreFailure>;

    /// `None`: no such object.
    async fn describe(&self, key: &str) -> Result<Option<Described>, StoreFailure>;

    /// Keys that begin with `prefix` and sort behind `after` (by bytes), in order: the first of them, at most [`LIST_PAGE`]. Empty: there
    /// are no more.
    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreFailure>;

    /// What is not there is removed.
    async fn remove(&self, key: &str) -> Result<(), StoreFailure>;
}

/// Under which roles a storage's files are, and where its volume is in a pod.
struct Roles {
    credentials: &'static str,
    ca: &'static str,
    volume: &'static str,
    mount: &'static str,
}

const PRIMARY: Roles =
    Roles { credentials: roles::S3_CREDENTIALS, ca: roles::S3_CA, volume: roles::STORAGE, mount: recording_crds::paths::STORAGE };
const BACKUP: Roles =
    Roles { credentials: roles::BACKUP_CREDENTIALS, ca: roles::BACKUP_CA, volume: roles::BACKUP, mount: recording_crds::paths::BACKUP };

/// The storage of a job.
///
/// # Errors
/// When the volume is not there or not writable, or the CA bundle cannot be used. S3 is not asked yet.
pub(crate) async fn open(job: &Job) -> Result<Box<dyn Store>, StoreFailure> {
    open_as(job, &job.spec.storage, &PRIMARY).await
}

/// The backup storage of a job; None: it has none.
///
/// # Errors
/// As [`open`].
pub(crate) async fn open_backup(job: &Job) -> Result<Option<Box<dyn Store>>, StoreFailure> {
    match &job.spec.backup_storage {
        Some(storage) => Ok(Some(open_as(job, storage, &BACKUP).await?)),
        None => Ok(None),
    }
}

async fn open_as(job: &Job, storage: &JobStorage, at: &Roles) -> Result<Box<dyn Store>, StoreFailure> {
    let folder = |role: &str| job.files.get(role);
    match storage {
        JobStorage::Volume { sub_path } => {
            let mount = folder(at.volume).map_or(Path::new(at.mount), |path| path.as_path());
            Ok(Box::new(volume::VolumeStore::open(mount, sub_path.as_deref().unwrap_or_default())?))
        }
        JobStorage::S3(s3) => {
            let ca_bundle = folder(at.ca).map(|path| std::fs::read(path.join(roles::CA_FILE))).transpose();
            let ca_bundle = ca_bundle.map_err(|error| StoreFailure::Invalid(format!("failed to read the storage's caBundle: {error}")))?;
            let options = s3_options(s3, folder(at.credentials).cloned(), ca_bundle);
            Ok(Box::new(s3::S3Store::open(options).await?))
        }
    }
}

fn s3_options(s3: &JobS3, credentials: Option<std::path::PathBuf>, ca_bundle: Option<Vec<u8>>) -> s3::S3Options {
    let encryption = s3.server_side_encryption.as_ref().map(|wanted| match wanted.kind {
        EncryptionType::AES256 => (ServerSideEncryption::Aes256, None),
        EncryptionType::KMS => (ServerSideEncryption::AwsKms, wanted.kms_key_id.clone()),
    });
    s3::S3Options {
        bucket: s3.bucket.clone(),
        region: Some(s3.region.clone()),
        endpoint: s3.endpoint.clone(),
        force_path_style: s3.force_path_style,
        prefix: s3.prefix.clone().unwrap_or_default(),
        credentials,
        encryption,
        storage_class: s3.storage_class.clone(),
        tags: s3.tags.clone().into_iter().collect(),
        cache_control: s3.cache_control.clone(),
        ca_bundle,
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `prefix` and `key` with exactly one slash between; no slash in front (object keys begin with a name).
pub(crate) fn join_key(prefix: &str, key: &str) -> String {
    match prefix.trim_matches('/') {
        "" => key.to_owned(),
        prefix => format!("{prefix}/{key}"),
    }
}
