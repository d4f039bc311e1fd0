//! What a playlist's chains of decoders and encoders are asked to do.

use crate::MediaTime;
use crate::Snapshot;
use crate::TrackKey;
use crate::canvas::Scene;
use crate::stage::Visual;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
    /// An output sample comes out as soon as the two inputs around it are known. `over` 0 ends what is under way.
    Compensate {
        samples: i32,
        over: u32,
    },
    /// What a voice of a composite does; nothing comes out by it.
    Voice(TrackKey, VoiceOp),
    /// The next samples of the mix go to the encoder: everything that voices have for these places, and for [`crate::mixer::LAG`] behind
    /// them, was given.
    Mix {
        samples: u32,
    },
    /// Flush the encoder: the last frames. The last operation of a playlist; pauses in between are bridged with silence, not with a new encoder.
    Finish,
}

/// One microphone of a composite, on its way into the mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoiceOp {
    /// What it gives stands at this place of the mix, in samples from the playlist's first, and behind.
    Begin {
        at: i64,
    },
    /// By a decoder of its own.
    Give(Box<AudioOp>),
    End,
}

/// What a canvas is encoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// Nominal, 1 to 60.
    pub frames_per_second: u32,
    /// 1000 bit/s, on average and at most over one second.
    pub kbps: u32,
}

/// One access unit of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUnit {
    pub codec: crate::Codec,
    /// Annex B for H.264, else as the codec's RTP payload format leaves it.
    pub data: Bytes,
    /// It can be decoded by itself.
    pub key: bool,
    /// Degrees clockwise by which it is to be turned: 0, 90, 180, 270.
    pub rotation: u16,
}

/// Work for a playlist's video chain (decoder -> upright -> H.264 encoder), to be done in order, off the event loop.
/// One picture comes out for each that goes in: nothing is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoOp {
    /// Answered by one [`crate::Input::VideoEncoded`]. Another codec than the last time means a new decoder, another size of what
    /// is decoded a new encoder and with it a key frame. After something undecodable nothing is decoded until `key`.
    Transcode {
        codec: crate::Codec,
        /// One whole access unit: Annex B for H.264, else as the codec's RTP payload format leaves it.
        data: Bytes,
        /// It can be decoded by itself.
        key: bool,
        /// Degrees clockwise by which it is to be turned: 0, 90, 180, 270.
        rotation: u16,
        /// Its place in time; strictly increasing within a playlist.
        at: MediaTime,
        /// An IDR picture is wanted; owed until one was made.
        force_key: bool,
        /// Of what is decoded; as those of `Compose`.
        snapshots: Vec<Snapshot>,
    },
    /// A frame of a composite: decode `units`, in their order, paint what changed by them or by a new `scene`, encode the whole.
    /// Answered by one [`crate::Input::VideoEncoded`].
    Compose {
        units: Vec<(TrackKey, SourceUnit)>,
        /// None: as before.
        scene: Option<Scene<Visual>>,
        /// None: what follows needs the units decoded, but the frame itself is in the recording already.
        encoding: Option<Encoding>,
        /// Its place in time; strictly increasing within a playlist.
        at: MediaTime,
        /// An IDR picture is wanted; owed until one was made.
        force_key: bool,
        /// Of the canvas as it is then, and of cameras as they are decoded then; each answered by one [`crate::Input::SnapshotTaken`].
        snapshots: Vec<Snapshot>,
    },
    /// Nothing comes for now: decoder, encoder and their thread may go once they have answered. Not answered itself.
    Finish,
}

impl VideoOp {
    /// What is wanted besides.
    pub fn snapshots_mut(&mut self) -> Option<&mut Vec<Snapshot>> {
        match self {
            Self::Compose { snapshots, .. } | Self::Transcode { snapshots, .. } => Some(snapshots),
            Self::Finish => None,
        }
    }
}
