//! What a session tells the driver to do, and what it shows of itself.

use crate::layout::Wanted;
use crate::{AudioOp, Codec, Ledger, LedgerEntry, MediaTime, OpId, Snapshot, Source, TrackKey, VideoOp, WallMicros};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One playlist and its encoder state; numbered by the session from 0, in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaylistKey(pub u32);

/// One of the two storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Primary,
    Backup,
}

/// What is to go from the backup, because the primary has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Playlist(String),
    /// By their place in [`Manifest::ledger`].
    Segments(Vec<usize>),
    /// With its chunks.
    Manifest,
}

/// One segment of one playlist: `n` counts from 0 and is never reused within a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    pub playlist: PlaylistKey,
    pub n: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Audio {
        playlist: PlaylistKey,
        op: AudioOp,
    },
    /// `op` counts within the playlist. At most [`crate::MAX_UNANSWERED_PICTURES`] of a playlist are unanswered at a time.
    Video {
        playlist: PlaylistKey,
        op: OpId,
        work: VideoOp,
    },
    /// Append to the segment's `.part` file in the spool (created at the first append).
    Append {
        segment: SegmentKey,
        /// Object name without the prefix; the same in every append of the segment.
        name: String,
        data: Bytes,
    },
    /// The segment is complete: close it, compute its facts, answer `SegmentClosed`.
    CloseSegment {
        op: OpId,
        segment: SegmentKey,
        name: String,
    },
    /// Store it (If-None-Match: *), with `ledger` as object metadata; answer `Uploaded`; on success the spool copy may go.
    Upload {
        op: OpId,
        segment: SegmentKey,
        name: String,
        entry: LedgerEntry,
        to: Place,
    },
    /// Store at the primary, as `Upload` does, what the backup has; `Gone`: it has not.
    Move {
        op: OpId,
        name: String,
        entry: LedgerEntry,
    },
    /// Store the playlist text, conditional on its own last ETag.
    PutPlaylist {
        op: OpId,
        name: String,
        body: String,
        to: Place,
    },
    /// Serialise [`crate::Session::manifest`] and store it, conditional on its own last ETag.
    PutManifest {
        op: OpId,
        to: Place,
    },
    /// Remove it from the backup; what is not there is removed. Answer `Put`.
    RemoveFromBackup {
        op: OpId,
        what: Removal,
    },
    /// A key frame of a camera that passes untouched: decode it by itself, make a JPEG of it, answer `SnapshotTaken`.
    Snapshot {
        snapshot: Snapshot,
        codec: Codec,
        /// As [`crate::SourceUnit::data`].
        data: Bytes,
    },
    /// Store it at the primary; what is there already under this name is as good. Answer `SnapshotPut`.
    PutSnapshot {
        op: OpId,
        name: String,
        picture: Bytes,
    },
    RequestKeyframe {
        track: TrackKey,
    },
    /// The SFU should send this track (true), or need not any more (false). No track is wanted before this says so.
    Subscribe {
        track: TrackKey,
        wanted: bool,
    },
    /// The smallest pictures of this track that are large enough, where its publisher sends several sizes.
    Size {
        track: TrackKey,
        wanted: Wanted,
    },
    /// [`crate::Session::report`] changed in a way a reader wants to see at once.
    ReportChanged,
    /// The last output.
    Finished(Outcome),
}

/// Why a recording, or this process' part in it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    NoUsers,
    StopRequested,
    Deleted,
    MaxDurationReached,
    RemovedFromChannel,
    Disconnected,
    /// Only tracks of codecs that cannot be recorded.
    CodecNotSupported,
    /// Nothing was ever published.
    NoRecordedData,
    /// Some segments could not be stored until the drain time-out.
    UploaderFailed,
    Superseded,
    Cancelled,
    /// SIGTERM: another attempt goes on.
    Interrupted,
}

/// Why media is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The connection to the room was away.
    Disconnected,
    /// The recorder process was not there.
    RecorderRestarted,
    /// Packets lost on the network and not recovered, or sound that came too late for its place.
    PacketLoss,
    /// A published track from which no picture came.
    NoPicture,
    DiskFull,
    /// A finished segment that no storage took.
    SegmentLost,
    /// Pictures that could not be transcoded in time.
    Overloaded,
    /// Pictures that came whole but cannot be decoded.
    Undecodable,
}

/// A hole in the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub start: MediaTime,
    pub duration90k: i64,
    pub reason: GapReason,
    /// None: everybody.
    pub playlist: Option<String>,
    pub open: bool,
}

/// Why a stream's clock was not believed any more; from there on arrival tells the time until reports do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockFault {
    /// RTP time leapt by more than 500 ms although packets came one after the other.
    Jumped,
    /// Packets kept coming 500 ms later than before for 5 s, and no report says that RTP ran on: the sender's media stood.
    Moved,
    /// RTP time stood still for 500 ms while packets came.
    StoodStill,
    /// Reports put it more than 2 s from where its packets arrive, among the tracks of its participant.
    Apart,
}

/// A clock was overridden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockOverride {
    pub identity: String,
    pub source: Source,
    pub at: MediaTime,
    pub fault: ClockFault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantRecord {
    pub identity: String,
    /// Joined and left, media time; None: still there.
    pub stays: Vec<(MediaTime, Option<MediaTime>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackRecord {
    pub identity: String,
    pub source: Source,
    pub codec: crate::Codec,
    pub start: MediaTime,
    pub end: Option<MediaTime>,
    /// RTP packets received in sequence, without duplicates.
    pub packets: u64,
    pub lost: u64,
    /// Access units received whole from the first key frame on (video) or packets (audio), and how many were written.
    pub received_units: u64,
    pub written_units: u64,
    pub muted: Vec<(MediaTime, Option<MediaTime>)>,
    /// When the job's lists left it out.
    pub unsubscribed: Vec<(MediaTime, Option<MediaTime>)>,
    /// It has a playlist: some of it was to be recorded.
    pub recorded: bool,
    /// Why (some of) it is not recorded as it came but as H.264 of our own; None: it passed untouched.
    pub transcoded: Option<TranscodeReason>,
    /// Why nothing of it is recorded.
    pub unrecorded: Option<Unrecorded>,
    /// Sizes of pictures, each with when it was first seen: of a sender of several layers, those received.
    pub sizes: Vec<PictureSize>,
    /// The newest unit that `received_units` counts, and the newest that `written_units` does.
    pub received: Option<crate::UnitMark>,
    pub written: Option<crate::UnitMark>,
}

/// Why nothing of a track is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecorded {
    /// The job records the other kind only.
    MediaNotWanted,
    /// The job's lists leave its publisher out.
    NotSubscribed,
    CodecNotSupported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    pub at: MediaTime,
    pub width: u32,
    pub height: u32,
}

/// A sender that keeps changing its size (a shared window being dragged) is followed this far.
const SIZES_MAX: usize = 64;

impl TrackRecord {
    /// Over, if it was not before: what was still so ends with it.
    pub(crate) fn close(&mut self, at: MediaTime) {
        let end = *self.end.get_or_insert(at.max(self.start));
        for (start, until) in self.muted.iter_mut().chain(&mut self.unsubscribed).filter(|(_, until)| until.is_none()) {
            *until = Some(end.max(*start));
        }
    }

    /// Of one that was over at `end`: since when nothing was wanted of it, because it was muted or left out until then.
    pub(crate) fn wanted_until(&self, end: MediaTime) -> MediaTime {
        let off = self.muted.iter().chain(&self.unsubscribed).filter(|(_, until)| *until == Some(end));
        off.map(|(since, _)| *since).fold(end, MediaTime::min)
    }

    pub(crate) fn saw(&mut self, at: MediaTime, (width, height): (u32, u32)) {
        let known = self.sizes.iter().any(|size| (size.width, size.height) == (width, height));
        if !known && self.sizes.len() < SIZES_MAX {
            self.sizes.push(PictureSize { at, width, height });
        }
    }
}

/// Why pictures do not pass untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranscodeReason {
    /// Players do not take this codec in a transport stream.
    Codec,
    /// It is sent lying on its side (video-orientation extension); a transport stream cannot say so.
    Rotation,
    /// It is a part of a composite.
    Composed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaylistRecord {
    pub name: String,
    pub identity: String,
    pub has_video: bool,
    pub has_audio: bool,
    /// The playlist object exists in storage.
    pub stored: bool,
    pub ended: bool,
    /// Where timestamps and continuity counters go on after a resume.
    pub continuation: Continuation,
}

/// What a later process needs in order to go on with the same transport stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    pub continuity_counters: Vec<(u16, u8)>,
    pub next_n: u32,
    /// None: no segment is finished yet, or it is not known how.
    pub seam: Option<Seam>,
}

/// The end of the newest finished segment: where a process that is handed a journal goes on writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seam {
    pub end: MediaTime,
    /// What comes next goes on from it, without a discontinuity.
    pub continuous: bool,
    /// Where the next frame of sound begins.
    pub sound: Option<MediaTime>,
    /// Decoding time of the last picture: 90 kHz of the transport stream, not wrapped.
    pub decoded: Option<i64>,
    /// The last clock reference, likewise.
    pub clock: Option<i64>,
    /// The publisher's newest picture in it.
    pub picture: Option<crate::UnitMark>,
}

/// Everything that is known of the recording; the recorder serialises it as the manifest object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub epoch: u32,
    /// Everything that happened before is in it.
    pub as_of: MediaTime,
    /// Wall clock at media time 0; None before the first media.
    pub epoch_time: Option<WallMicros>,
    pub ledger: Ledger,
    pub participants: Vec<ParticipantRecord>,
    pub tracks: Vec<TrackRecord>,
    pub gaps: Vec<Gap>,
    pub clock_overrides: Vec<ClockOverride>,
    pub playlists: Vec<PlaylistRecord>,
    pub snapshots: SnapshotRecord,
    pub outcome: Option<Outcome>,
}

/// How many snapshots there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRecord {
    pub taken: u64,
    /// Confirmed by storage.
    pub stored: u64,
    /// Could not be made, or not be stored.
    pub lost: u64,
    /// By what their names begin with; for a replay of the journal.
    pub marks: BTreeMap<String, SnapshotMark>,
}

/// The newest moments of one picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMark {
    pub taken: Option<MediaTime>,
    /// Stored or lost.
    pub settled: Option<MediaTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for the room.
    Connecting,
    /// In the room, no media yet.
    Waiting,
    Recording,
    /// Ended; storing what is left.
    Draining,
    /// Told to go, storing what is left, or that is done; another process goes on.
    Interrupted,
    Finished,
}

/// Warnings that do not end a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Degradation {
    CodecNotSupported,
    DiskFull,
    /// Storage does not take objects at the moment.
    StorageUnavailable,
    /// Neither of both storages does.
    BackupUnavailable,
    /// Objects go to the backup, or still lie there.
    StoredInBackup,
    /// Pictures come faster than they can be transcoded: some are left out.
    Overloaded,
}

/// Counts for the report; no names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub state: State,
    pub connected: bool,
    pub participants: u32,
    pub first_media: Option<WallMicros>,
    pub recorded_files: u64,
    pub uploaded_files: u64,
    pub uploaded_bytes: u64,
    /// In the backup storage alone.
    pub backup_files: u64,
    pub recorded90k: i64,
    pub backlog90k: i64,
    /// Pictures that wait for the transcoder; of several playlists the most.
    pub transcoding90k: i64,
    /// How much less is asked of the transcoder than there would be: 0 nothing, 1 to 3 as [`Economy`](crate::stage::Economy), 4: pictures are left out.
    pub overload_step: u8,
    pub playlists_stored: u32,
    pub gaps: u32,
    pub gap90k: i64,
    pub last_gap: Option<Gap>,
    pub packets: u64,
    pub packets_lost: u64,
    pub snapshots: u64,
    pub snapshots_lost: u64,
    pub degraded: Vec<Degradation>,
}
