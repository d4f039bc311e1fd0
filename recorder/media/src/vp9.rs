//! VP9 out of RTP (RFC 9628): flexible and non-flexible mode, spatial layers of one picture joined into a superframe.

mod descriptor;

use crate::bits::Bits;
use crate::depacketizer::{Reference, Unit};
use crate::layers::Layers;
use bytes::{BufMut, Bytes, BytesMut};
use descriptor::Descriptor;
use std::collections::VecDeque;

/// A superframe index has three bits for their number (VP9 bitstream specification, annex B).
const FRAMES_MAX: usize = 8;
/// A reference is at most this many pictures back: P_DIFF has seven bits.
const REFERENCES_BACK_MAX: usize = 128;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    layers: Layers,
    /// Of each spatial layer, as the last scalability structure says.
    sizes: Vec<(u32, u32)>,
    /// Picture IDs that can be referred to, kept in flexible mode.
    known: VecDeque<u16>,
    /// Something was lost since the last key frame.
    lost: bool,
}

/// One picture's layer frames in order, and what their first packets say.
struct Layered {
    frames: Vec<BytesMut>,
    descriptors: Vec<Descriptor>,
}

impl Depacketizer {
    pub(crate) fn loss(&mut self) {
        self.layers.loss();
        self.lost = true;
    }

    pub(crate) fn unit(&mut self, payloads: &[Bytes]) -> Option<Unit> {
        let Layered { frames, descriptors } = layered(payloads)?;
        let (first, last) = (descriptors.first()?, descriptors.last()?);
        let header = FrameHeader::parse(frames.first()?);
        let key = is_key(first, header);
        self.learn_sizes(key, &descriptors);
        let layered_size = self.sizes.get(usize::from(last.spatial)).copied();
        let size = if key { layered_size.or(header?.size) } else { layered_size };
        Some(Unit { reference: self.reference(key, &descriptors), size, reordered: None, data: superframe(frames)? })
    }

    fn learn_sizes(&mut self, key: bool, descriptors: &[Descriptor]) {
        let structure = descriptors.iter().find_map(|descriptor| descriptor.sizes.as_ref());
        match structure {
            Some(sizes) => self.sizes.clone_from(sizes),
            None if key => self.sizes.clear(),
            None => {}
        }
    }

    fn reference(&mut self, key: bool, descriptors: &[Descriptor]) -> Reference {
        let first = &descriptors[0];
        let by_layers = self.layers.next(key, first.place);
        let Some((id, bits)) = first.place.picture_id.filter(|_| first.flexible || key) else { return by_layers };
        if key {
            self.lost = false;
            self.known.clear();
        }
        let back = |difference: &u8| id.wrapping_sub(u16::from(*difference)) & ((1 << bits) - 1) as u16;
        let mut references = descriptors.iter().flat_map(|descriptor| &descriptor.references).map(back);
        if !key && self.lost && !references.all(|reference| self.known.contains(&reference)) {
            return if first.place.temporal.unwrap_or(0) == 0 { Reference::Lost } else { Reference::Skipped };
        }
        self.known.push_back(id);
        if self.known.len() > REFERENCES_BACK_MAX {
            self.known.pop_front();
        }
        if key { Reference::Key } else { Reference::Intact }
    }
}

/// The picture's layer frames; None when one has no beginning or no end.
fn layered(payloads: &[Bytes]) -> Option<Layered> {
    let mut picture = Layered { frames: Vec::new(), descriptors: Vec::new() };
    let mut open = false;
    for payload in payloads {
        let descriptor = Descriptor::parse(payload)?;
        if descriptor.begins == open {
            return None;
        }
        let length = descriptor.length;
        open = !descriptor.ends;
        if descriptor.begins {
            if picture.frames.len() == FRAMES_MAX {
                return None; // before room is made for thousands
            }
            picture.frames.push(BytesMut::with_capacity(payloads.iter().map(Bytes::len).sum()));
            picture.descriptors.push(descriptor);
        }
        picture.frames.last_mut()?.put_slice(&payload[length..]);
    }
    (!open && picture.frames.iter().all(|frame| !frame.is_empty())).then_some(picture)
}

/// One frame as it is, several with an index behind them (VP9 bitstream specification, annex B): decoders find them by it.
fn superframe(mut frames: Vec<BytesMut>) -> Option<Bytes> {
    let sizes: Vec<u32> = frames.iter().map(|frame| u32::try_from(frame.len()).ok()).collect::<Option<_>>()?;
    let mut joined = frames.drain(..).reduce(|mut joined, frame| {
        joined.put_slice(&frame);
        joined
    })?;
    if sizes.len() > 1 {
        // Four bytes for each size.
        let marker = 0b110 << 5 | 3 << 3 | (sizes.len() - 1) as u8;
        joined.put_u8(marker);
        sizes.into_iter().for_each(|size| joined.put_u32_le(size));
        joined.put_u8(marker);
    }
    Some(joined.freeze())
}

/// The beginning of an uncompressed header (VP9 bitstream specification, section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHeader {
    key: bool,
    /// Of key frames.
    size: Option<(u32, u32)>,
}

impl FrameHeader {
    fn parse(frame: &[u8]) -> Option<Self> {
        let mut bits = Bits::plain(frame);
        if bits.bits(2)? != 2 {
            return None;
        }
        let profile = bits.bit()? | bits.bit()? << 1;
        if profile == 3 {
            bits.bit()?; // reserved_zero
        }
        let (existing, inter) = (bits.bit()?, bits.bit()?);
        if existing == 1 || inter == 1 {
            return Some(Self { key: false, size: None });
        }
        bits.bits(2)?; // show_frame, error_resilient_mode
        if bits.bits(24)? != 0x0049_8342 {
            return None;
        }
        colour(&mut bits, profile)?;
        let (width, height) = (bits.bits(16)? + 1, bits.bits(16)? + 1);
        Some(Self { key: true, size: Some((width, height)) })
    }
}

/// Skips color_config (section 6.2.2).
fn colour(bits: &mut Bits, profile: u32) -> Option<()> {
    const CS_RGB: u32 = 7;
    if profile >= 2 {
        bits.bit()?; // ten_or_twelve_bit
    }
    let space = bits.bits(3)?;
    if space != CS_RGB {
        bits.bit()?; // color_range
    }
    match (profile & 1, space) {
        (1, CS_RGB) => bits.bit()?, // reserved_zero
        (1, _) => bits.bits(3)?,    // subsampling_x, subsampling_y, reserved_zero
        (_, CS_RGB) => return None, // 4:4:4 needs profile 1 or 3
        _ => 0,
    };
    Some(())
}

fn is_key(first: &Descriptor, header: Option<FrameHeader>) -> bool {
    !first.predicted && first.spatial == 0 && header.is_some_and(|header| header.key)
}

/// A layer frame that needs no other of the same picture.
pub(crate) fn begins_picture(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_some_and(|descriptor| descriptor.begins && !descriptor.depends_on_lower)
}

pub(crate) fn payload_is_key(payload: &[u8]) -> bool {
    let begins = Descriptor::parse(payload).filter(|descriptor| descriptor.begins);
    begins.is_some_and(|descriptor| {
        // The size may lie in the next packet; whether it is a key frame does not.
        let frame = &payload[descriptor.length..];
        !descriptor.predicted && descriptor.spatial == 0 && frame_type_is_key(frame)
    })
}

fn frame_type_is_key(frame: &[u8]) -> bool {
    let Some(&first) = frame.first() else { return false };
    let profile_3 = first & 0x30 == 0x30;
    let (existing, inter) = if profile_3 { (first & 0x04, first & 0x02) } else { (first & 0x08, first & 0x04) };
    first >> 6 == 2 && existing == 0 && inter == 0
}
