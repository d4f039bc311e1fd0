//! What the driver tells a session.

use bytes::Bytes;

/// A participant of the room, numbered by the driver; a re-joiner with the same identity is the same participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantKey(pub u32);

/// One publication of a track, numbered by the driver; published again = a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackKey(pub u32);

/// Names one operation that the driver carries out and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Microphone,
    Camera,
    ScreenShare,
    ScreenShareAudio,
}

/// The codec a track is published in, as far as a session tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// 2..=60
    pub segment_seconds: u32,
    pub idle_timeout_seconds: u32,
    pub max_duration_seconds: Option<u32>,
    /// After the end, storage has this long to take what is left (default of the job: 3600).
    pub drain_timeout_seconds: u32,
    /// LiveBroadcasting: idle = nobody publishes; Communication: idle = nobody else is there.
    pub idle_counts_publishers: bool,
    pub report_quality: ReportQuality,
    /// What an earlier process or attempt of this recording left (spool or storage); None at the first start.
    pub resume: Option<Resume>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKinds {
    AudioVideo,
    Audio,
    Video,
}

/// The state from which a session continues: the manifest as last known. Parts left open were closed and adopted by the driver:
/// they are entries of `ledger` with `stored: false`.
#[derive(Clone, Debug)]
pub struct Resume {
    pub manifest: crate::Manifest,
}

/// One RTP packet, RED and RTX already undone by the connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPacket {
    pub ssrc: u32,
    pub sequence: u16,
    /// 90 kHz for video, 48 kHz for Opus.
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Bytes,
    /// Rotation from the video-orientation extension (3GPP TS 26.114), degrees clockwise; 0 when absent.
    pub rotation: u16,
}

/// RTCP sender report (RFC 3550 section 6.4.1), taken at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Conditional write lost against a newer attempt (HTTP 412 with a higher epoch).
    Superseded,
}

/// What storage answered for a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub etag: String,
}

/// A finished segment file: its facts, computed by whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// Orders from the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End in good order: StopRequested (or Deleted).
    Stop(StopReason),
    /// End now, keep what is stored.
    Cancel,
    Limits {
        idle_timeout_seconds: u32,
        max_duration_seconds: Option<u32>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    StopRequested,
    Deleted,
    /// The SFU removed the recorder or the room was deleted.
    RemovedFromChannel,
    /// SIGTERM: close the segment, store, and end as [`crate::Outcome::Interrupted`]; no ENDLIST.
    Interrupted,
    /// The connection is gone for good (reconnect window over).
    Disconnected,
}

/// Everything that can happen to a session.
#[derive(Clone, Debug)]
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
    /// Answers [`crate::Output::Audio`]: the ADTS frames that came out, in order (possibly none).
    AudioEncoded {
        playlist: crate::PlaylistKey,
        frames: Vec<Bytes>,
    },
    /// Answers [`crate::Output::CloseSegment`].
    SegmentClosed {
        op: OpId,
        result: Result<SegmentFacts, String>,
    },
    /// Answers [`crate::Output::Upload`].
    Uploaded {
        op: OpId,
        result: Result<Stored, StoreError>,
    },
    /// Answers [`crate::Output::PutPlaylist`] and [`crate::Output::PutManifest`].
    Put {
        op: OpId,
        result: Result<(), StoreError>,
    },
    /// The spool is full (true) or has room again (false).
    SpoolFull(bool),
    Order(Order),
    /// The timer of [`crate::Session::next_wake`] fired.
    Wake,
}
