//! What differs between codecs on the way from RTP payloads to access units.

use crate::{Codec, av1, h264, vp8, vp9};
use bytes::Bytes;

/// One coded picture with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub reference: Reference,
    /// Width and height in samples, as far as this picture's headers tell; always with a key frame that can be decoded.
    pub size: Option<(u32, u32)>,
    /// So many pictures at most precede one in decoding and follow it when shown, as a key frame's headers say; None: nothing is said.
    pub reordered: Option<u8>,
    /// As decoders take it: H.264 as a byte stream with AUD and parameter sets before an IDR, a VP8 frame, a VP9 frame or superframe,
    /// an AV1 temporal unit.
    pub data: Bytes,
}

/// What a picture needs to be decoded, as far as it can be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// Nothing: decoding may begin here.
    Key,
    /// Only pictures that came.
    Intact,
    /// Something that was lost, and which those after it may do without.
    Skipped,
    /// Something that was lost: nothing can be decoded until the next key frame.
    Lost,
}

/// The state of one stream of packets.
#[derive(Debug)]
pub(crate) enum Depacketizer {
    H264(h264::Depacketizer),
    Vp8(vp8::Depacketizer),
    Vp9(vp9::Depacketizer),
    Av1(av1::Depacketizer),
    /// Nothing can be made of it.
    Foreign,
}

impl Depacketizer {
    pub(crate) fn new(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Self::H264(h264::Depacketizer::default()),
            Codec::Vp8 => Self::Vp8(vp8::Depacketizer::default()),
            Codec::Vp9 => Self::Vp9(vp9::Depacketizer::default()),
            Codec::Av1 => Self::Av1(av1::Depacketizer::default()),
            Codec::H265 | Codec::Opus | Codec::Other => Self::Foreign,
        }
    }

    /// Whether a payload can be the first of its picture.
    pub(crate) fn begins_picture(&self, payload: &[u8]) -> bool {
        match self {
            Self::H264(_) => h264::begins_picture(payload),
            Self::Vp8(_) => vp8::begins_picture(payload),
            Self::Vp9(_) => vp9::begins_picture(payload),
            Self::Av1(_) => av1::begins_picture(payload),
            Self::Foreign => false,
        }
    }

    /// So many packets are missing before the next unit.
    pub(crate) fn loss(&mut self, packets: u64) {
        match self {
            Self::H264(state) => state.loss(packets),
            Self::Vp8(state) => state.loss(),
            Self::Vp9(state) => state.loss(),
            Self::Av1(state) => state.loss(),
            Self::Foreign => {}
        }
    }

    /// Of the next picture only these packets came, or they do not fit together.
    pub(crate) fn damaged(&mut self, payloads: &[Bytes]) {
        match self {
            Self::Vp8(state) => state.damaged(payloads),
            _ => self.loss(1),
        }
    }

    /// All packets of one picture, in order; None when they do not fit together.
    pub(crate) fn unit(&mut self, payloads: &[Bytes]) -> Option<Unit> {
        match self {
            Self::H264(state) => state.unit(payloads),
            Self::Vp8(state) => state.unit(payloads),
            Self::Vp9(state) => state.unit(payloads),
            Self::Av1(state) => state.unit(payloads),
            Self::Foreign => None,
        }
    }
}

/// Whether an RTP payload holds (a part of) a key frame, for VP8, VP9 and AV1 its beginning: the quick look at intake.
pub(crate) fn payload_is_key(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::payload_is_key(payload),
        Codec::Vp8 => vp8::payload_is_key(payload),
        Codec::Vp9 => vp9::payload_is_key(payload),
        Codec::Av1 => av1::payload_is_key(payload),
        Codec::H265 | Codec::Opus | Codec::Other => false,
    }
}

/// Whether an RTP payload can be the first of a key frame: H.264's may hold no more than its parameter sets.
pub(crate) fn begins_key(codec: Codec, payload: &[u8]) -> bool {
    payload_is_key(codec, payload) || codec == Codec::H264 && h264::holds_sps(payload)
}

#[cfg(test)]
mod tests;
