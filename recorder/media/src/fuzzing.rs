//! What fuzz targets reach besides the session: nothing here is for programs.

use crate::Codec;
use crate::delay_line::Held;
use crate::depacketizer::payload_is_key;
use crate::video::{Picture, VideoEvent, VideoInput};
use bytes::Bytes;

/// One packet behind the delay line.
#[derive(Clone, Debug)]
pub struct LinePacket {
    /// Packets lost before it.
    pub missing: u64,
    pub rtp: i64,
    pub marker: bool,
    pub rotation: u16,
    pub payload: Bytes,
}

impl LinePacket {
    fn held(self) -> (u64, Held) {
        let Self { missing, rtp, marker, rotation, payload } = self;
        (missing, Held { rtp, marker, rotation, payload })
    }
}

/// A picture that would be decoded or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub rtp: i64,
    pub key: bool,
    pub size: (u32, u32),
    pub data: Bytes,
}

/// The pictures in a track's packets.
pub fn pictures(codec: Codec, packets: impl IntoIterator<Item = LinePacket>) -> Vec<Shown> {
    let mut input = VideoInput::new(codec);
    let mut shown = Vec::new();
    let mut packets = packets.into_iter().map(LinePacket::held).peekable();
    while let Some((missing, held)) = packets.next() {
        payload_is_key(codec, &held.payload);
        let events = input.packet(missing, &held, packets.peek().map(|(_, next)| next));
        shown.extend(events.into_iter().filter_map(|event| match event {
            VideoEvent::Picture(Picture { rtp, key, size, data, .. }) => Some(Shown { rtp, key, size, data }),
            VideoEvent::Unusable { .. } | VideoEvent::Blank { .. } => None,
        }));
    }
    shown
}
