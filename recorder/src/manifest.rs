//! The manifest object and its ledger as text (contracts.md), and back. A small head holds the newest ledger entries; full chunks of
//! older ones, none of which changes any more, are objects of their own.

mod records;

use bytes::Bytes;
use recorder_media as media;
use recorder_media::MediaTime;
use serde::{Deserialize, Serialize};

use crate::wall;

pub(crate) const FORMAT: &str = "recording-operator.io/manifest/v1";
/// Ledger entries in a chunk object (media.md section 4).
pub(crate) const CHUNK_ENTRIES: usize = 256;

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
    /// Key and NDJSON text; a chunk never changes once it exists.
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
    playlists: Vec<Playlist>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum At {
    Primary,
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
    recorded: bool,
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
#[serde(remote = "media::GapReason")]
enum GapReasonName {
    Disconnected,
    RecorderRestarted,
    PacketLoss,
    NoPicture,
    DiskFull,
    SegmentLost,
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

/// The manifest as objects. Serialising plain structs to memory cannot fail.
pub(crate) fn render(identity: &Identity, manifest: &media::Manifest) -> Rendered {
    let settled = manifest.ledger.iter().take_while(|entry| entry.stored || entry.lost).count();
    let full = settled / CHUNK_ENTRIES;
    let chunks: Vec<(String, Bytes)> = manifest.ledger[..full * CHUNK_ENTRIES]
        .chunks(CHUNK_ENTRIES)
        .enumerate()
        .map(|(n, entries)| (chunk_key(&identity.stem, n), chunk_text(entries)))
        .collect();
    let head = Head {
        format: FORMAT.to_owned(),
        recording_id: identity.recording_id.clone(),
        channel: identity.channel.clone(),
        app_id: identity.app_id.clone(),
        epoch: manifest.epoch,
        epoch_time: manifest.epoch_time.map(wall::to_text),
        outcome: manifest.outcome.map(Outcome),
        chunks: chunks.iter().map(|(key, _)| key.clone()).collect(),
        tail: manifest.ledger[full * CHUNK_ENTRIES..].iter().map(Entry::from).collect(),
        participants: manifest.participants.iter().map(Participant::from).collect(),
        tracks: manifest.tracks.iter().map(Track::from).collect(),
        gaps: manifest.gaps.iter().map(Gap::from).collect(),
        playlists: manifest.playlists.iter().map(Playlist::from).collect(),
    };
    Rendered { head: serde_json::to_vec(&head).unwrap_or_default().into(), chunks }
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

/// Reads a head; its chunks are then fetched and given to [`Head::into_manifest`].
///
/// # Errors
/// When it is no manifest, or of another format version.
pub(crate) fn parse(text: &[u8]) -> Result<Head, ManifestError> {
    let head: Head = serde_json::from_slice(text)?;
    if head.format == FORMAT { Ok(head) } else { Err(ManifestError::Format(head.format)) }
}

impl Head {
    /// `chunks`: the bodies of the objects that `self.chunks` names, in order.
    ///
    /// # Errors
    /// When a chunk or a time cannot be read.
    pub(crate) fn into_manifest(self, chunks: &[Bytes]) -> Result<media::Manifest, ManifestError> {
        let mut ledger = Vec::with_capacity(chunks.len() * CHUNK_ENTRIES + self.tail.len());
        for line in chunks.iter().flat_map(|chunk| chunk.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()) {
            ledger.push(serde_json::from_slice::<Entry>(line)?.into_media()?);
        }
        for entry in self.tail {
            ledger.push(entry.into_media()?);
        }
        Ok(media::Manifest {
            epoch: self.epoch,
            epoch_time: self.epoch_time.map(time).transpose()?,
            ledger,
            participants: self.participants.into_iter().map(Into::into).collect(),
            tracks: self.tracks.into_iter().map(Into::into).collect(),
            gaps: self.gaps.into_iter().map(Into::into).collect(),
            playlists: self.playlists.into_iter().map(Into::into).collect(),
            outcome: self.outcome.map(|outcome| outcome.0),
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
            at: match (entry.stored, entry.lost) {
                (true, _) => Some(At::Primary),
                (false, true) => Some(At::Lost),
                (false, false) => None,
            },
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
            lost: self.at == Some(At::Lost),
            discontinuity: self.discontinuity,
            independent: self.independent,
            epoch: self.epoch,
        })
    }
}

#[cfg(test)]
mod tests;
