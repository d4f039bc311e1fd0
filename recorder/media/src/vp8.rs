//! VP8 out of RTP (RFC 7741).

use crate::depacketizer::Unit;
use crate::layers::{Layers, Place};
use bytes::{BufMut, Bytes, BytesMut};

/// Frame tag and start code and size: the uncompressed header of a key frame (RFC 6386 section 9.1).
const KEY_HEADER: usize = 10;
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// The payload descriptor (section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Descriptor {
    /// Bytes.
    length: usize,
    /// First packet of the frame's first partition.
    begins: bool,
    /// Nothing refers to this frame.
    discardable: bool,
    place: Place,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let mut this = Self { length: 1, begins: first & 0x17 == 0x10, discardable: first & 0x20 != 0, place: Place::default() };
        if first & 0x80 == 0 {
            return Some(this);
        }
        let present = bytes.next()?;
        if present & 0x80 != 0 {
            let id = bytes.next()?;
            this.place.picture_id = Some(match id & 0x80 {
                0 => (u16::from(id), 7),
                _ => (u16::from_be_bytes([id & 0x7f, bytes.next()?]), 15),
            });
        }
        if present & 0x40 != 0 {
            this.place.base = Some(bytes.next()?);
        }
        if present & 0x30 != 0 {
            let layer = bytes.next()?;
            if present & 0x20 != 0 {
                this.place.temporal = Some(layer >> 6);
                this.place.switches_up = layer & 0x20 != 0;
            }
        }
        this.length = payload.len() - bytes.len();
        Some(this)
    }
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    layers: Layers,
}

impl Depacketizer {
    pub(crate) fn loss(&mut self) {
        self.layers.loss();
    }

    /// A picture of which only these packets came.
    pub(crate) fn damaged(&mut self, payloads: &[Bytes]) {
        if let Some(descriptor) = payloads.first().and_then(|first| Descriptor::parse(first)).filter(|d| d.discardable) {
            self.layers.discardable_lost(descriptor.place);
        }
        self.layers.loss();
    }

    pub(crate) fn unit(&mut self, payloads: &[Bytes]) -> Option<Unit> {
        let first = Descriptor::parse(payloads.first()?).filter(|descriptor| descriptor.begins)?;
        let data = frame(payloads)?;
        let key = is_key(&data);
        let size = if key { Some(key_size(&data)?) } else { None };
        Some(Unit { reference: self.layers.next(key, first.place), size, reordered: None, data })
    }
}

/// The frame: its packets without their descriptors.
fn frame(payloads: &[Bytes]) -> Option<Bytes> {
    let mut data = BytesMut::with_capacity(payloads.iter().map(Bytes::len).sum());
    for payload in payloads {
        data.put_slice(&payload[Descriptor::parse(payload)?.length..]);
    }
    (!data.is_empty()).then(|| data.freeze())
}

/// The inverse of the frame tag's lowest bit (RFC 6386 section 9.1).
fn is_key(frame: &[u8]) -> bool {
    frame.first().is_some_and(|tag| tag & 1 == 0)
}

/// Width and height without the upscaling hints; None when the header is damaged.
fn key_size(frame: &[u8]) -> Option<(u32, u32)> {
    let [_, _, _, a, b, c, width @ .., h0, h1] = *frame.first_chunk::<KEY_HEADER>()?;
    let size = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    let (width, height) = (size(width), size([h0, h1]));
    ([a, b, c] == START_CODE && width > 0 && height > 0).then_some((width, height))
}

pub(crate) fn begins_picture(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_some_and(|descriptor| descriptor.begins)
}

pub(crate) fn payload_is_key(payload: &[u8]) -> bool {
    let begins = Descriptor::parse(payload).filter(|descriptor| descriptor.begins);
    begins.is_some_and(|descriptor| is_key(&payload[descriptor.length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::depacketizer::Reference;

    /// LiveKit's blank picture (livekit-probe.md section 5), behind a descriptor.
    const BLANK: [u8; 15] = [0x90, 0x80, 0x81, 0x02, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x08, 0x00, 0x08, 0x00, 0xff];

    #[test]
    fn descriptors_of_every_length() {
        let parse = |bytes: &[u8]| Descriptor::parse(bytes);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x10]), Some(Descriptor { length: 1, begins: true, ..Descriptor::default() }));
        assert_eq!(parse(&[0x21]).map(|d| (d.begins, d.discardable)), Some((false, true)), "another partition");
        assert_eq!(parse(&[0x11]).map(|d| d.begins), Some(false), "the start of a later partition is not that of the frame");
        let all = parse(&[0x90, 0xf0, 0x92, 0x34, 7, 0b1010_0001, 9]).expect("a descriptor");
        let place = Place { picture_id: Some((0x1234, 15)), base: Some(7), temporal: Some(2), switches_up: true };
        assert_eq!((all.length, all.place), (6, place));
        let only_key_index = parse(&[0x90, 0x10, 0xff]).expect("a descriptor");
        assert_eq!((only_key_index.length, only_key_index.place), (3, Place::default()));
        for cut in 1..6 {
            assert_eq!(parse(&[0x90, 0xf0, 0x92, 0x34, 7, 0][..cut]), None);
        }
    }

    #[test]
    fn livekits_blank_picture_is_a_key_frame_of_8x8() {
        let unit = Depacketizer::default().unit(&[Bytes::from_static(&BLANK)]).expect("a picture");
        assert_eq!((unit.reference, unit.size, unit.data.len()), (Reference::Key, Some((8, 8)), 11));
        assert!(payload_is_key(&BLANK) && begins_picture(&BLANK));
    }

    #[test]
    fn a_key_frame_without_its_start_code_is_damage() {
        let mut torn = BLANK;
        torn[7] = 0;
        assert_eq!(Depacketizer::default().unit(&[Bytes::copy_from_slice(&torn)]), None);
        assert_eq!(Depacketizer::default().unit(&[Bytes::from_static(&BLANK[..9])]), None);
        assert_eq!(Depacketizer::default().unit(&[Bytes::from_static(&[0x00, 0x01])]), None, "does not begin a frame");
    }
}
