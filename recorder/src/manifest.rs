//! The manifest object and its ledger as text (contracts.md), and back. A small head holds the newest ledger entries; full chunks of
//! older ones, none of which changes any more, are objects of their own.

mod records;

use std::collections::BTreeMap;

use bytes::Bytes;
use recorder_media as media;
use recorder_media::{LEDGER_CHUNK, MediaTime};
use serde::{Deserialize, Serialize};

use crate::wall;

pub(crate) const FORMAT: &str = "recording-operator.io/manifest/v1";

#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("failed to read the manifest: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("failed to read the manifest: format {0} is not {FORMAT}; a newer recorder wrote it")]
    Format(String),
    #[error("failed to read the manifest: {0} is not a time")]
    Time(String),
}

/// What a manifest says besides the session's own knowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) stem: String,
    pub(crate) recording_id: String,
    pub(crate) channel: String,
    pub(crate) app_id: Option<String>,
}

/// The objects that make up a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) head: Bytes,
    /// Keys of the first chunks, which only the spool has.
    pub(crate) spooled: Vec<String>,
    /// Key and NDJSON text of the others; a chunk never changes once it exists.
    pub(crate) chunks: Vec<(String, Bytes)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    pub(crate) format: String,
    #[serde(rename = "recordingID")]
    pub(crate) recording_id: String,
    channel: String,
    #[serde(rename = "appID", default, skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    /// The attempt that wrote this.
    pub(crate) epoch: u32,
    /// A newer attempt that has begun to read: whoever else writes is to stop (start/fence.rs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fenced_by: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// Keys of the ledger's full chunks, in order.
    pub(crate) chunks: Vec<String>,
    tail: Vec<Entry>,
    participants: Vec<Participant>,
    tracks: Vec<Track>,
    gaps: Vec<Gap>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    clock_overrides: Vec<ClockOverride>,
    playlists: Vec<Playlist>,
    /// Absent: none was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshots: Option<Snapshots>,
    /// Only in a spool's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marks: Option<Marks>,
}

/// Stills: taken are also those that wait for storage.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Snapshots {
    taken: u64,
    stored: u64,
    lost: u64,
}

/// Where a replay of the journal goes on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marks {
    /// The journal holds all that this state does not.
    journalled: bool,
    as_of90k: i64,
    /// Of each track, in order: the newest unit received and the newest written.
    tracks: Vec<(Option<media::UnitMark>, Option<media::UnitMark>)>,
    /// Of each playlist, in order: the end of its newest finished segment.
    playlists: Vec<Option<media::Seam>>,
    /// Of each snapshot's base, the newest moments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    snapshots: BTreeMap<String, media::SnapshotMark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum At {
    Primary,
    Backup,
    Lost,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    playlist: String,
    n: u32,
    name: String,
    start90k: i64,
    duration90k: i64,
    utc: String,
    bytes: u64,
    sha256: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    etag: String,
    /// Absent: finished, not in storage yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    /// Moved to the primary, and the backup still has it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    backup_copy: bool,
    discontinuity: bool,
    independent: bool,
    epoch: u32,
}

/// From and to, 90 kHz; no end: still so.
type Stay = (i64, Option<i64>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Participant {
    identity: String,
    stays90k: Vec<Stay>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Track {
    identity: String,
    #[serde(with = "SourceName")]
    source: media::Source,
    #[serde(with = "CodecName")]
    codec: media::Codec,
    start90k: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end90k: Option<i64>,
    packets: u64,
    lost: u64,
    received_units: u64,
    written_units: u64,
    muted90k: Vec<Stay>,
    /// When the job's lists left it out.
    #[serde(default)]
    unsubscribed90k: Vec<Stay>,
    recorded: bool,
    /// Absent: what was published passed untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transcoded: Option<Transcoded>,
    /// Why nothing of it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Unrecorded>,
    /// Sizes of its pictures, each with when it was first seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sizes: Vec<PictureSize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Unrecorded(#[serde(with = "UnrecordedName")] media::Unrecorded);

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::Unrecorded")]
enum UnrecordedName {
    MediaNotWanted,
    NotSubscribed,
    CodecNotSupported,
}

#[derive(Debug, Serialize, Deserialize)]
struct PictureSize {
    at90k: i64,
    width: u32,
    height: u32,
}

/// Its pictures (while it was so) are not the publisher's but of the recorder's encoder.
#[derive(Debug, Serialize, Deserialize)]
struct Transcoded {
    #[serde(with = "CodecName")]
    from: media::Codec,
    #[serde(with = "CodecName")]
    to: media::Codec,
    #[serde(with = "TranscodeReasonName")]
    reason: media::TranscodeReason,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::TranscodeReason")]
enum TranscodeReasonName {
    Codec,
    Rotation,
    Composed,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gap {
    start90k: i64,
    duration90k: i64,
    #[serde(with = "GapReasonName")]
    reason: media::GapReason,
    /// Absent: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    playlist: Option<String>,
    open: bool,
}

/// A sender's clock that was not believed any more.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClockOverride {
    identity: String,
    #[serde(with = "SourceName")]
    source: media::Source,
    at90k: i64,
    #[serde(with = "ClockFaultName")]
    fault: media::ClockFault,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Playlist {
    name: String,
    identity: String,
    has_video: bool,
    has_audio: bool,
    stored: bool,
    ended: bool,
    /// Where a later attempt goes on: next segment number, next continuity counter of each PID.
    next_n: u32,
    continuity_counters: Vec<(u16, u8)>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::Source")]
enum SourceName {
    Microphone,
    Camera,
    ScreenShare,
    ScreenShareAudio,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::Codec")]
enum CodecName {
    Opus,
    H264,
    Vp8,
    Vp9,
    Av1,
    H265,
    Other,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::ClockFault")]
enum ClockFaultName {
    Jumped,
    Moved,
    StoodStill,
    Apart,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::GapReason")]
enum GapReasonName {
    Disconnected,
    RecorderRestarted,
    PacketLoss,
    NoPicture,
    DiskFull,
    SegmentLost,
    Overloaded,
    Undecodable,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Outcome(#[serde(with = "OutcomeName")] media::Outcome);

#[derive(Serialize, Deserialize)]
#[serde(remote = "media::Outcome")]
enum OutcomeName {
    NoUsers,
    StopRequested,
    Deleted,
    MaxDurationReached,
    RemovedFromChannel,
    Disconnected,
    CodecNotSupported,
    NoRecordedData,
    UploaderFailed,
    Superseded,
    Cancelled,
    Interrupted,
}

/// The manifest as objects.
pub(crate) fn render(identity: &Identity, manifest: &media::Manifest) -> Rendered {
    rendered(identity, manifest, head(identity, manifest))
}

/// The same as the spool keeps it, with what a replay of the journal needs. `journalled`: the journal holds all that this does not.
pub(crate) fn render_state(identity: &Identity, manifest: &media::Manifest, journalled: bool) -> Rendered {
    rendered(identity, manifest, head_with(identity, manifest, Some(Marks::of(manifest, journalled))))
}

fn rendered(identity: &Identity, manifest: &media::Manifest, head: Bytes) -> Rendered {
    let sealed = manifest.ledger.sealed() / LEDGER_CHUNK;
    let spooled = (0..sealed).map(|n| chunk_key(&identity.stem, n)).collect();
    let text = |n: usize| chunk_text(&manifest.ledger.since(n * LEDGER_CHUNK)[..LEDGER_CHUNK]);
    let chunks = (sealed..full_chunks(manifest)).map(|n| (chunk_key(&identity.stem, n), text(n))).collect();
    Rendered { head, spooled, chunks }
}

/// Chunks of which nothing will change any more.
fn full_chunks(manifest: &media::Manifest) -> usize {
    manifest.ledger.settled() / LEDGER_CHUNK
}

fn head(identity: &Identity, manifest: &media::Manifest) -> Bytes {
    head_with(identity, manifest, None)
}

/// Serialising plain structs to memory cannot fail.
fn head_with(identity: &Identity, manifest: &media::Manifest, marks: Option<Marks>) -> Bytes {
    let full = full_chunks(manifest);
    let head = Head {
        format: FORMAT.to_owned(),
        recording_id: identity.recording_id.clone(),
        channel: identity.channel.clone(),
        app_id: identity.app_id.clone(),
        epoch: manifest.epoch,
        fenced_by: None,
        epoch_time: manifest.epoch_time.map(wall::to_text),
        outcome: manifest.outcome.map(Outcome),
        chunks: (0..full).map(|n| chunk_key(&identity.stem, n)).collect(),
        tail: manifest.ledger.since(full * LEDGER_CHUNK).iter().map(Entry::from).collect(),
        participants: manifest.participants.iter().map(Participant::from).collect(),
        tracks: manifest.tracks.iter().map(Track::from).collect(),
        gaps: manifest.gaps.iter().map(Gap::from).collect(),
        clock_overrides: manifest.clock_overrides.iter().map(ClockOverride::from).collect(),
        playlists: manifest.playlists.iter().map(Playlist::from).collect(),
        snapshots: Snapshots::of(&manifest.snapshots),
        marks,
    };
    serde_json::to_vec(&head).unwrap_or_default().into()
}

/// Keys of all objects that make up a manifest, as long as its ledger is: the head and every chunk there may be.
pub(crate) fn keys(identity: &Identity, manifest: &media::Manifest) -> Vec<String> {
    let chunks = (0..manifest.ledger.len() / LEDGER_CHUNK).map(|n| chunk_key(&identity.stem, n));
    std::iter::once(recording_crds::names::manifest_key(&identity.stem)).chain(chunks).collect()
}

fn chunk_key(stem: &str, n: usize) -> String {
    format!("{stem}_ledger_{n}.ndjson")
}

fn chunk_text(entries: &[media::LedgerEntry]) -> Bytes {
    entries.iter().map(|entry| ledger_line(entry) + "\n").collect::<String>().into()
}

/// One entry as a line of JSON: a chunk's line and a segment's object metadata.
pub(crate) fn ledger_line(entry: &media::LedgerEntry) -> String {
    serde_json::to_string(&Entry::from(entry)).unwrap_or_default()
}

/// Reads what [`ledger_line`] has written.
///
/// # Errors
/// When it is no entry.
pub(crate) fn parse_ledger_line(line: &str) -> Result<media::LedgerEntry, ManifestError> {
    serde_json::from_str::<Entry>(line)?.into_media()
}

/// Reads a head; its chunks are then fetched and given to [`Head::into_manifest`].
///
/// # Errors
/// When it is no manifest, or of another format version.
pub(crate) fn parse(text: &[u8]) -> Result<Head, ManifestError> {
    let head: Head = serde_json::from_slice(text)?;
    if head.format == FORMAT { Ok(head) } else { Err(ManifestError::Format(head.format)) }
}

impl Head {
    /// The newest attempt that it tells of.
    pub(crate) fn newest(&self) -> u32 {
        self.epoch.max(self.fenced_by.unwrap_or(0))
    }

    /// The same with a word to older attempts.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which would be a mistake of ours.
    pub(crate) fn fenced(mut self, attempt: u32) -> Result<Vec<u8>, ManifestError> {
        self.fenced_by = Some(attempt);
        Ok(serde_json::to_vec(&self)?)
    }

    /// Names of the playlists that had not ended.
    pub(crate) fn open_playlists(&self) -> impl Iterator<Item = &str> {
        self.playlists.iter().filter(|playlist| !playlist.ended).map(|playlist| playlist.name.as_str())
    }

    /// A journal beside it can be replayed.
    pub(crate) fn is_journalled(&self) -> bool {
        self.marks.as_ref().is_some_and(|marks| marks.journalled)
    }

    /// `chunks`: the bodies of the objects that `self.chunks` names, in order.
    ///
    /// # Errors
    /// When a chunk or a time cannot be read.
    pub(crate) fn into_manifest(self, chunks: &[Bytes]) -> Result<media::Manifest, ManifestError> {
        let mut ledger = Vec::with_capacity(chunks.len() * LEDGER_CHUNK + self.tail.len());
        for line in chunks.iter().flat_map(|chunk| chunk.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()) {
            ledger.push(serde_json::from_slice::<Entry>(line)?.into_media()?);
        }
        for entry in self.tail {
            ledger.push(entry.into_media()?);
        }
        let manifest = media::Manifest {
            epoch: self.epoch,
            as_of: MediaTime::default(),
            epoch_time: self.epoch_time.map(time).transpose()?,
            ledger: ledger.into(),
            participants: self.participants.into_iter().map(Into::into).collect(),
            tracks: self.tracks.into_iter().map(Into::into).collect(),
            gaps: self.gaps.into_iter().map(Into::into).collect(),
            clock_overrides: self.clock_overrides.into_iter().map(Into::into).collect(),
            playlists: self.playlists.into_iter().map(Into::into).collect(),
            snapshots: self.snapshots.map(Into::into).unwrap_or_default(),
            outcome: self.outcome.map(|outcome| outcome.0),
        };
        Ok(match self.marks {
            Some(marks) => marks.into_manifest(manifest),
            None => manifest,
        })
    }
}

fn time(text: String) -> Result<media::WallMicros, ManifestError> {
    wall::parse(&text).ok_or(ManifestError::Time(text))
}

impl From<&media::LedgerEntry> for Entry {
    fn from(entry: &media::LedgerEntry) -> Self {
        Self {
            playlist: entry.playlist.clone(),
            n: entry.n,
            name: entry.name.clone(),
            start90k: entry.start.0,
            duration90k: entry.duration90k,
            utc: wall::to_text(entry.wall),
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
            etag: entry.etag.clone(),
            at: match (entry.stored, entry.in_backup, entry.lost) {
                (true, ..) => Some(At::Primary),
                (false, true, _) => Some(At::Backup),
                (false, false, true) => Some(At::Lost),
                (false, false, false) => None,
            },
            backup_copy: entry.stored && entry.in_backup,
            discontinuity: entry.discontinuity,
            independent: entry.independent,
            epoch: entry.epoch,
        }
    }
}

impl Entry {
    fn into_media(self) -> Result<media::LedgerEntry, ManifestError> {
        Ok(media::LedgerEntry {
            playlist: self.playlist,
            n: self.n,
            name: self.name,
            start: MediaTime(self.start90k),
            duration90k: self.duration90k,
            wall: time(self.utc)?,
            bytes: self.bytes,
            sha256: self.sha256,
            etag: self.etag,
            stored: self.at == Some(At::Primary),
            in_backup: self.at == Some(At::Backup) || self.backup_copy,
            lost: self.at == Some(At::Lost),
            discontinuity: self.discontinuity,
            independent: self.independent,
            epoch: self.epoch,
        })
    }
}

#[cfg(test)]
mod tests;
