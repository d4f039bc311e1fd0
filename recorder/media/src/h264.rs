//! H.264 out of RTP (RFC 6184): access units by timestamp and marker, parameter sets, picture size.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// NAL unit types of ISO/IEC 14496-10 table 7-1 and RFC 6184 section 5.2 that matter here.
pub(crate) const IDR: u8 = 5;
const SEI: u8 = 6;
pub(crate) const SPS: u8 = 7;
pub(crate) const PPS: u8 = 8;
const AUD: u8 = 9;
const END_OF_STREAM: u8 = 11;
const FILLER_DATA: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// A larger access unit is taken for damage: 8 MB is beyond level 5.1's largest coded picture.
const MAX_UNIT_BYTES: usize = 8 << 20;

pub(crate) fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |b| b & 31)
}

/// What became of the packets of one timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    /// All NAL units of one picture, in order.
    Whole { rtp: i64, nals: Vec<Bytes> },
    /// Something of it is missing.
    Damaged { rtp: i64 },
}

#[derive(Debug)]
struct Partial {
    rtp: i64,
    nals: Vec<Bytes>,
    fragment: Option<BytesMut>,
    bytes: usize,
    damaged: bool,
}

/// Packets in order -> access units. Depacketises by NAL unit type, never by the negotiated mode (LiveKit sends mode 1 as mode 0).
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    current: Option<Partial>,
    lost_before_next: bool,
}

impl Assembler {
    /// Packets are missing before the next one.
    pub(crate) fn loss(&mut self) {
        if let Some(partial) = &mut self.current {
            partial.damaged = true;
        }
        self.lost_before_next = true;
    }

    /// RTP time of the access unit that is not complete yet.
    pub(crate) fn open(&self) -> Option<i64> {
        self.current.as_ref().map(|p| p.rtp)
    }

    /// At most two come out: a change of timestamp closes the last unit, the marker this one.
    pub(crate) fn push(&mut self, rtp: i64, marker: bool, payload: &Bytes) -> Vec<Assembled> {
        let mut out = Vec::new();
        if payload.is_empty() {
            return out; // padding, sent as bandwidth probe
        }
        if self.current.as_ref().is_some_and(|p| p.rtp != rtp) {
            out.extend(self.close());
        }
        let damaged = self.lost_before_next && !begins_picture(payload);
        let lost = std::mem::take(&mut self.lost_before_next);
        let partial =
            self.current.get_or_insert_with(|| Partial { rtp, nals: Vec::new(), fragment: None, bytes: 0, damaged: lost && damaged });
        partial.take(payload);
        if marker {
            out.extend(self.close());
        }
        out
    }

    fn close(&mut self) -> Option<Assembled> {
        let partial = self.current.take()?;
        let whole = !partial.damaged && partial.fragment.is_none() && !partial.nals.is_empty();
        Some(match whole {
            true => Assembled::Whole { rtp: partial.rtp, nals: partial.nals },
            false => Assembled::Damaged { rtp: partial.rtp },
        })
    }
}

impl Partial {
    fn take(&mut self, payload: &Bytes) {
        self.bytes += payload.len();
        let intact = self.bytes <= MAX_UNIT_BYTES
            && match nal_type(payload) {
                STAP_A => self.aggregated(payload),
                FU_A => self.fragmented(payload),
                1..=23 => {
                    self.nals.push(payload.clone());
                    true
                }
                _ => true, // types that nobody negotiates carry nothing for us
            };
        self.damaged |= !intact;
    }

    fn aggregated(&mut self, payload: &Bytes) -> bool {
        let mut at = 1;
        while at + 2 <= payload.len() {
            let size = usize::from(payload[at]) << 8 | usize::from(payload[at + 1]);
            at += 2;
            if size == 0 || at + size > payload.len() {
                return false;
            }
            self.nals.push(payload.slice(at..at + size));
            at += size;
        }
        at == payload.len()
    }

    fn fragmented(&mut self, payload: &Bytes) -> bool {
        let (Some(&indicator), Some(&header)) = (payload.first(), payload.get(1)) else {
            return false;
        };
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        if start {
            let mut nal = BytesMut::with_capacity(payload.len() * 4);
            nal.put_u8(indicator & 0xe0 | header & 0x1f);
            if self.fragment.replace(nal).is_some() {
                return false;
            }
        }
        let Some(nal) = &mut self.fragment else { return false };
        nal.put_slice(&payload[2..]);
        if end {
            self.nals.extend(self.fragment.take().map(BytesMut::freeze));
        }
        true
    }
}

/// Whether a packet can be the first of its access unit: something that precedes slices, or a slice with first_mb_in_slice = 0 (its ue(v) is a single 1 bit).
fn begins_picture(payload: &[u8]) -> bool {
    match nal_type(payload) {
        1..=5 => payload.get(1).is_some_and(|b| b & 0x80 != 0),
        FU_A => payload.get(1).is_some_and(|h| h & 0x80 != 0) && payload.get(2).is_some_and(|b| b & 0x80 != 0),
        SEI..=AUD | STAP_A => true,
        _ => false,
    }
}

/// Whether an RTP payload holds (a part of) an IDR picture: the quick look at intake.
pub(crate) fn payload_is_key(payload: &Bytes) -> bool {
    match nal_type(payload) {
        IDR => true,
        FU_A => payload.get(1).is_some_and(|h| h & 31 == IDR),
        STAP_A => {
            let mut at = 1;
            while at + 2 < payload.len() {
                if payload[at + 2] & 31 == IDR {
                    return true;
                }
                at += 2 + (usize::from(payload[at]) << 8 | usize::from(payload[at + 1]));
            }
            false
        }
        _ => false,
    }
}

/// The parameter sets in force, by id.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets {
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
}

impl ParameterSets {
    /// Remembers the sets of a unit and returns those that are new: these must be written even outside an IDR picture.
    pub(crate) fn learn(&mut self, nals: &[Bytes]) -> Vec<Bytes> {
        let mut new = Vec::new();
        for nal in nals {
            let (store, skip) = match nal_type(nal) {
                SPS => (&mut self.sps, 4),
                PPS => (&mut self.pps, 1),
                _ => continue,
            };
            let id = Bits::new(nal.get(skip..).unwrap_or_default()).ue();
            let Some(id) = id.filter(|id| *id < 256) else { continue };
            if store.insert(id, nal.clone()).as_ref() != Some(nal) {
                new.push(nal.clone());
            }
        }
        new
    }

    /// Size of the newest picture format; None while no SPS came.
    pub(crate) fn size(&self) -> Option<(u32, u32)> {
        self.sps.values().next().and_then(|sps| sps_size(sps))
    }

    fn all(&self) -> impl Iterator<Item = &Bytes> {
        self.sps.values().chain(self.pps.values())
    }
}

/// An access unit as a byte stream: AUD, parameter sets (all before an IDR picture, else only `new_sets`), then the rest.
pub(crate) fn annex_b(nals: &[Bytes], key: bool, sets: &ParameterSets, new_sets: &[Bytes]) -> Bytes {
    let mut out = BytesMut::with_capacity(nals.iter().map(|n| n.len() + 4).sum::<usize>() + 128);
    let mut put = |nal: &[u8]| {
        out.put_slice(&[0, 0, 0, 1]);
        out.put_slice(nal);
    };
    put(&[AUD, 0xf0]); // primary_pic_type 7: any slice type
    if key {
        sets.all().for_each(|nal| put(nal));
    } else {
        new_sets.iter().for_each(|nal| put(nal));
    }
    nals.iter().filter(|nal| !matches!(nal_type(nal), SPS..=END_OF_STREAM | FILLER_DATA)).for_each(|nal| put(nal));
    out.freeze()
}

/// Bits of an RBSP, emulation prevention bytes (00 00 03) skipped.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    bit: u8,
    zeros: u8,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, bit: 0, zeros: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.bit == 0 && self.zeros >= 2 && self.data.get(self.at) == Some(&3) {
            self.at += 1;
            self.zeros = 0;
        }
        let byte = *self.data.get(self.at)?;
        let value = byte >> (7 - self.bit) & 1;
        self.bit = (self.bit + 1) % 8;
        if self.bit == 0 {
            self.at += 1;
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        }
        Some(u32::from(value))
    }

    fn bits(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0u32, |value, _| Some(value << 1 | self.bit()?))
    }

    /// Exp-Golomb, section 9.1.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    fn se(&mut self) -> Option<i32> {
        let k = self.ue()?;
        let half = (k.div_ceil(2)) as i32;
        Some(if k % 2 == 1 { half } else { -half })
    }
}

/// Width and height in luma samples after cropping (section 7.3.2.1.1).
pub(crate) fn sps_size(sps: &[u8]) -> Option<(u32, u32)> {
    let profile = *sps.get(1)?;
    let mut bits = Bits::new(sps.get(4..)?);
    bits.ue()?; // seq_parameter_set_id
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = high_profile(&mut bits)?;
    }
    bits.ue()?; // log2_max_frame_num_minus4
    picture_order(&mut bits)?;
    bits.ue()?; // max_num_ref_frames
    bits.bit()?; // gaps_in_frame_num_value_allowed_flag
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let frame_only = bits.bit()?;
    if frame_only == 0 {
        bits.bit()?; // mb_adaptive_frame_field_flag
    }
    bits.bit()?; // direct_8x8_inference_flag
    let height = map_units.checked_mul(2 - frame_only)?;
    if bits.bit()? == 0 {
        return Some((width, height));
    }
    let (unit_x, unit_y) = match chroma {
        0 | 3 => (1, 2 - frame_only),
        1 => (2, 2 * (2 - frame_only)),
        _ => (2, 2 - frame_only),
    };
    let mut crop = |unit: u32| bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit);
    let (crop_x, crop_y) = (crop(unit_x)?, crop(unit_y)?);
    Some((width.checked_sub(crop_x)?, height.checked_sub(crop_y)?))
}

/// The fields that only High profiles have; returns chroma_format_idc.
fn high_profile(bits: &mut Bits) -> Option<u32> {
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.bit()?; // separate_colour_plane_flag
    }
    bits.ue()?; // bit_depth_luma_minus8
    bits.ue()?; // bit_depth_chroma_minus8
    bits.bit()?; // qpprime_y_zero_transform_bypass_flag
    if bits.bit()? == 1 {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.bit()? == 1 {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma)
}

fn scaling_list(bits: &mut Bits, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = (last.wrapping_add(bits.se()?)).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

fn picture_order(bits: &mut Bits) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}
