//! What the driver tells a session.

use crate::stage::Composition;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A participant of the room, numbered by the driver; a re-joiner with the same identity is the same participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ParticipantKey(pub u32);

/// One publication of a track, numbered by the driver; published again = a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackKey(pub u32);

/// Names one operation that the driver carries out and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    Microphone,
    Camera,
    ScreenShare,
    ScreenShareAudio,
}

/// The codec a track is published in, as far as a session tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Codec {
    Opus,
    H264,
    Vp8,
    Vp9,
    Av1,
    H265,
    /// Anything else, G.711 included; also end-to-end encrypted media.
    Other,
}

impl Codec {
    pub const fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::Vp8 | Self::Vp9 | Self::Av1 | Self::H265)
    }

    /// Whether players take it in MPEG-TS as it is; else its pictures are transcoded (media.md section 4).
    pub const fn passes_through(self) -> bool {
        matches!(self, Self::H264)
    }
}

/// How far a connector's sender reports can be trusted (media.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportQuality {
    /// The publisher's own clock is passed through (LiveKit, test pattern).
    Sender,
    /// The SFU's own clock (Janus).
    Relay,
}

/// What a session is told once, at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// `<recordingID>_<escaped channel>`: what every object name begins with.
    pub stem: String,
    /// This attempt's number, 1-based; rises with every new pod (the epoch of fencing).
    pub attempt: u32,
    pub media: MediaKinds,
    pub mode: Mode,
    /// Until [`Order::Subscription`] says otherwise.
    pub subscription: Subscription,
    /// 2..=60
    pub segment_seconds: u32,
    pub idle_timeout_seconds: u32,
    pub max_duration_seconds: Option<u32>,
    /// After the end, storage has this long to take what is left (default of the job: 3600).
    pub drain_timeout_seconds: u32,
    /// LiveBroadcasting: idle = nobody publishes; Communication: idle = nobody else is there.
    pub idle_counts_publishers: bool,
    /// There is a backup storage.
    pub backup: bool,
    pub report_quality: ReportQuality,
    /// None: none.
    pub snapshots: Option<crate::SnapshotPlan>,
    /// What an earlier process or attempt of this recording left (spool or storage); None at the first start.
    pub resume: Option<Resume>,
}

/// What comes of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A playlist for each person.
    Individual,
    /// One picture and one sound of everybody; until [`Order::Compose`] says otherwise.
    Composite(Composition),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKinds {
    AudioVideo,
    Audio,
    Video,
}

/// Whose media is recorded, by identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Microphones, and the sound of shared screens.
    pub audio: Selection,
    /// Cameras and shared screens.
    pub video: Selection,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    #[default]
    All,
    Only(BTreeSet<String>),
    Except(BTreeSet<String>),
}

/// The state from which a session continues: the manifest as last known. Parts left open were closed and adopted by the driver:
/// they are entries of `ledger` with `stored: false`.
#[derive(Clone, Debug)]
pub struct Resume {
    pub manifest: crate::Manifest,
    /// A journal follows: `ledger` then holds only what the saved manifest held, and the session is made at the journal's first tick.
    pub replay: Option<crate::Replay>,
}

/// One RTP packet, RED and RTX already undone by the connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpPacket {
    pub ssrc: u32,
    pub sequence: u16,
    /// 90 kHz for video, 48 kHz for Opus.
    pub timestamp: u32,
    pub marker: bool,
    #[serde(with = "payload")]
    pub payload: Bytes,
    /// Rotation from the video-orientation extension (3GPP TS 26.114), degrees clockwise; 0 when absent.
    pub rotation: u16,
}

/// RTCP sender report (RFC 3550 section 6.4.1), taken at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderReport {
    pub ssrc: u32,
    /// NTP timestamp, 32.32 fixed point seconds since 1900.
    pub ntp: u64,
    pub rtp: u32,
}

/// Why storage did not take an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Worth another try (time-out, 5xx, connection refused, throttled).
    Retryable(String),
    /// Will not get better by itself (no such bucket, access denied); still retried, slowly, until the drain time-out.
    Refused(String),
    /// What was to be stored is not there any more: no further try can help.
    Gone(String),
    /// Conditional write lost against a newer attempt (HTTP 412 with a higher epoch).
    Superseded,
}

/// What storage answered for a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub etag: String,
}

/// What became of one access unit given to the transcoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transcoded {
    /// H.264 in Annex B: access unit delimiter, then SPS and PPS if `key` (an IDR picture), then slices.
    Picture { key: bool, size: (u32, u32), data: Bytes },
    /// The access unit was taken in and shows nothing (a hidden reference frame).
    Hidden,
    /// It cannot be decoded, or refers to one that could not.
    Undecodable,
    /// A frame of a composite; None: nothing was asked for but to decode, or the encoder failed.
    Composed {
        picture: Option<ComposedPicture>,
        /// Tracks of which something could not be decoded: nothing of them is, until a key frame.
        undecodable: Vec<TrackKey>,
    },
}

/// As [`Transcoded::Picture`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposedPicture {
    pub key: bool,
    pub size: (u32, u32),
    pub data: Bytes,
}

/// A finished segment file: its facts, computed by whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// Orders from the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// End in good order: StopRequested (or Deleted).
    Stop(StopReason),
    /// End now, keep what is stored.
    Cancel,
    Limits {
        idle_timeout_seconds: u32,
        max_duration_seconds: Option<u32>,
        drain_timeout_seconds: u32,
    },
    /// Replaces [`Config::subscription`].
    Subscription(Subscription),
    /// Replaces the whole one of [`Config::mode`], from the next frame on; not for [`Mode::Individual`].
    Compose(Composition),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    StopRequested,
    Deleted,
    /// The SFU removed the recorder or the room was deleted.
    RemovedFromChannel,
    /// SIGTERM: close the segment, store, and end as [`crate::Outcome::Interrupted`]; no ENDLIST.
    Interrupted,
    /// The connection is gone for good (reconnect window over).
    Disconnected,
    /// A newer attempt has the recording: nothing more is written.
    Superseded,
}

/// Everything that can happen to a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// In the room: idle time runs from here.
    Connected,
    /// The connection to the room was lost; a gap begins until `Connected`.
    Disconnected,
    Joined {
        participant: ParticipantKey,
        /// As the room says it; goes to the manifest.
        identity: String,
        /// For object names (media.md section 5).
        escaped: String,
    },
    Left {
        participant: ParticipantKey,
    },
    Published {
        track: TrackKey,
        participant: ParticipantKey,
        source: Source,
        codec: Codec,
        muted: bool,
    },
    /// Also when the SFU stops sending for good.
    Unpublished {
        track: TrackKey,
    },
    Muted {
        track: TrackKey,
    },
    Unmuted {
        track: TrackKey,
    },
    Packet {
        track: TrackKey,
        packet: RtpPacket,
    },
    SenderReport {
        track: TrackKey,
        report: SenderReport,
    },
    /// The spool is full (true) or has room again (false).
    SpoolFull(bool),
    Order(Order),
    /// The journal of a process that died ends here.
    Restarted,
    // What is behind here is not journalled.
    /// All of the journal was handed in; what comes now is new.
    #[serde(skip)]
    Replayed,
    /// Answers [`crate::Output::Audio`]: the ADTS frames that came out, in order (possibly none).
    #[serde(skip)]
    AudioEncoded {
        playlist: crate::PlaylistKey,
        frames: Vec<Bytes>,
    },
    /// Answers [`crate::Output::Video`], in the order of a playlist's operations; later, not before the next input.
    #[serde(skip)]
    VideoEncoded {
        playlist: crate::PlaylistKey,
        op: OpId,
        result: Transcoded,
    },
    /// Answers [`crate::Output::CloseSegment`].
    #[serde(skip)]
    SegmentClosed {
        op: OpId,
        result: Result<SegmentFacts, String>,
    },
    /// The spool has the ledger's first so many entries, as chunks: they need not be kept in memory any more.
    #[serde(skip)]
    LedgerKept {
        entries: usize,
    },
    /// Answers [`crate::Output::Upload`] and [`crate::Output::Move`].
    #[serde(skip)]
    Uploaded {
        op: OpId,
        result: Result<Stored, StoreError>,
    },
    /// Answers [`crate::Output::PutPlaylist`], [`crate::Output::PutManifest`] and [`crate::Output::RemoveFromBackup`].
    #[serde(skip)]
    Put {
        op: OpId,
        result: Result<(), StoreError>,
    },
    /// Answers [`crate::Output::Snapshot`], or what a [`crate::VideoOp`] asked for, before that is answered: as JPEG; None: it could not be made.
    #[serde(skip)]
    SnapshotTaken {
        snapshot: crate::Snapshot,
        picture: Option<Bytes>,
    },
    /// Answers [`crate::Output::PutSnapshot`].
    #[serde(skip)]
    SnapshotPut {
        op: OpId,
        result: Result<(), StoreError>,
    },
    /// The timer of [`crate::Session::next_wake`] fired.
    #[serde(skip)]
    Wake,
}

/// `bytes` as serde knows them; the crate's own feature would have to be on for everybody who uses it.
mod payload {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(payload)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Bytes::copy_from_slice)
    }
}
