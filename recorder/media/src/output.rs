//! What a session tells the driver to do, and what it shows of itself.

use crate::{MediaTime, OpId, Source, TrackKey, WallMicros};
use bytes::Bytes;

/// One playlist and its encoder state; numbered by the session from 0, in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaylistKey(pub u32);

/// One segment of one playlist: `n` counts from 0 and is never reused within a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    pub playlist: PlaylistKey,
    pub n: u32,
}

/// Work for a playlist's audio chain (Opus decoder -> 48 kHz mono -> AAC-LC encoder), to be done in order.
/// Each is answered by one [`crate::Input::AudioEncoded`], before the next input is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioOp {
    /// A decoder for a new stream of packets (first packet, new SSRC, or after a long gap). The encoder goes on.
    Reset,
    /// Decode one Opus packet; exactly `samples` samples at 48 kHz are wanted (pad with silence or cut).
    Decode {
        packet: Bytes,
        samples: u32,
    },
    /// The packet before `next` is lost: decode `next`'s in-band FEC, or conceal.
    Recover {
        next: Bytes,
        samples: u32,
    },
    Conceal {
        samples: u32,
    },
    Silence {
        samples: u32,
    },
    /// Drop (negative) or insert (positive) this many samples, spread by resampling over the next `over` samples: clock drift.
    Compensate {
        samples: i32,
        over: u32,
    },
    /// Reserved, never sent: the session itself leaves out frames that begin before their stay (the encoder's priming among them).
    Prime,
    /// Flush the encoder: the last frames. The last operation of a playlist; pauses in between are bridged with silence, not with a new encoder.
    Finish,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Audio {
        playlist: PlaylistKey,
        op: AudioOp,
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
    },
    /// Store the playlist text, conditional on its own last ETag.
    PutPlaylist {
        op: OpId,
        name: String,
        body: String,
    },
    /// Serialise [`crate::Session::manifest`] and store it, conditional on its own last ETag.
    PutManifest {
        op: OpId,
    },
    RequestKeyframe {
        track: TrackKey,
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
    /// Packets lost on the network and not recovered.
    PacketLoss,
    /// A published track from which no picture came.
    NoPicture,
    DiskFull,
    /// A finished segment that no storage took.
    SegmentLost,
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

/// A line of the ledger: one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Name of the playlist object.
    pub playlist: String,
    pub n: u32,
    /// Object name of the segment.
    pub name: String,
    pub start: MediaTime,
    pub duration90k: i64,
    pub wall: WallMicros,
    pub bytes: u64,
    pub sha256: String,
    /// Empty until stored.
    pub etag: String,
    pub stored: bool,
    pub lost: bool,
    pub discontinuity: bool,
    pub independent: bool,
    pub epoch: u32,
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
    pub recorded: bool,
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
}

/// Everything that is known of the recording; the recorder serialises it as the manifest object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub epoch: u32,
    /// Wall clock at media time 0; None before the first media.
    pub epoch_time: Option<WallMicros>,
    pub ledger: Vec<LedgerEntry>,
    pub participants: Vec<ParticipantRecord>,
    pub tracks: Vec<TrackRecord>,
    pub gaps: Vec<Gap>,
    pub playlists: Vec<PlaylistRecord>,
    pub outcome: Option<Outcome>,
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
    Finished,
}

/// Warnings that do not end a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Degradation {
    CodecNotSupported,
    DiskFull,
    /// Storage does not take objects at the moment.
    StorageUnavailable,
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
    pub recorded90k: i64,
    pub backlog90k: i64,
    pub playlists_stored: u32,
    pub gaps: u32,
    pub gap90k: i64,
    pub last_gap: Option<Gap>,
    pub packets: u64,
    pub packets_lost: u64,
    pub degraded: Vec<Degradation>,
}
