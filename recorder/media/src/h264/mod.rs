//! H.264 out of RTP (RFC 6184): NAL units, parameter sets, picture size.

mod parameters;
mod sps;

use crate::bits::Bits;
use crate::depacketizer::{Reference, Unit};
use bytes::{BufMut, Bytes, BytesMut};

pub(crate) use parameters::ParameterSets;
pub(crate) use sps::Sps;

/// NAL unit types of ISO/IEC 14496-10 table 7-1 and RFC 6184 section 5.2 that matter here.
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;
const END_OF_STREAM: u8 = 11;
const FILLER_DATA: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |b| b & 31)
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    sets: ParameterSets,
    /// Packets lost since the last whole picture; pictures are not more.
    missing: u64,
    lost: bool,
    /// frame_num of the last reference picture.
    last_reference: Option<u32>,
}

impl Depacketizer {
    pub(crate) fn loss(&mut self, packets: u64) {
        self.missing = self.missing.saturating_add(packets);
    }

    pub(crate) fn unit(&mut self, payloads: &[Bytes]) -> Option<Unit> {
        let nals = nals(payloads)?;
        let new_sets = self.sets.learn(&nals);
        let key = nals.iter().any(|nal| nal_type(nal) == IDR);
        let sequence = if key { self.sequence(&nals) } else { None };
        let reference = self.reference(key, &nals);
        let data = annex_b(&nals, key, &self.sets, &new_sets);
        Some(Unit { reference, size: sequence.map(|s| s.size), reordered: sequence.and_then(|s| s.reordered), data })
    }

    /// Of the sequence that a picture belongs to. An SFU's filler has one of its own, and the camera's does not go away by it.
    fn sequence(&self, nals: &[Bytes]) -> Option<Sps> {
        let slice = nals.iter().find(|nal| matches!(nal_type(nal), 1..=IDR));
        let pps = slice.and_then(|nal| Slice::parameter_set(nal)).map(|(pps, _)| pps);
        pps.and_then(|pps| self.sets.sequence_of(pps)).or_else(|| self.sets.sequence())
    }

    /// frame_num counts reference pictures (ISO/IEC 14496-10 section 7.4.3): if it goes on by one, what was lost was none.
    fn reference(&mut self, key: bool, nals: &[Bytes]) -> Reference {
        let missing = std::mem::take(&mut self.missing);
        let slice = nals.iter().find(|nal| matches!(nal_type(nal), 1..=IDR)).and_then(|nal| Slice::parse(nal, &self.sets));
        let follows = slice.zip(self.last_reference).is_some_and(|(slice, last)| {
            let cycle = 1 << slice.frame_num_bits;
            missing < u64::from(cycle) && slice.frame_num == (last + 1) % cycle
        });
        self.lost = !key && (self.lost || missing > 0 && !follows);
        match slice {
            Some(slice) if slice.is_reference => self.last_reference = Some(slice.frame_num),
            Some(_) => {}
            None => self.last_reference = None,
        }
        match (key, self.lost) {
            (true, _) => Reference::Key,
            (false, false) => Reference::Intact,
            (false, true) => Reference::Lost,
        }
    }
}

/// The beginning of a slice header (section 7.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    /// Later pictures may refer to this one.
    is_reference: bool,
    frame_num: u32,
    frame_num_bits: u32,
}

impl Slice {
    /// The id of its picture parameter set, and what follows that.
    fn parameter_set(nal: &[u8]) -> Option<(u32, Bits<'_>)> {
        let mut bits = Bits::rbsp(nal.get(1..)?);
        bits.ue()?; // first_mb_in_slice
        bits.ue()?; // slice_type
        Some((bits.ue()?, bits))
    }

    fn parse(nal: &[u8], sets: &ParameterSets) -> Option<Self> {
        let (pps, mut bits) = Self::parameter_set(nal)?;
        let sequence = sets.sequence_of(pps)?;
        if sequence.separate_colour_planes {
            bits.bits(2)?; // colour_plane_id
        }
        let frame_num = bits.bits(sequence.frame_num_bits)?;
        Some(Self { is_reference: nal[0] & 0x60 != 0, frame_num, frame_num_bits: sequence.frame_num_bits })
    }
}

/// The NAL units of a picture's packets; None when a fragment has no beginning or no end, or a length is wrong.
///
/// By NAL unit type, never by the negotiated mode: LiveKit sends mode 1 as mode 0.
pub(crate) fn nals(payloads: &[Bytes]) -> Option<Vec<Bytes>> {
    let (mut nals, mut fragment) = (Vec::with_capacity(payloads.len()), None);
    for payload in payloads {
        match nal_type(payload) {
            STAP_A => aggregated(payload, &mut nals)?,
            FU_A => nals.extend(fragmented(payload, &mut fragment)?),
            1..=23 => nals.push(payload.clone()),
            _ => {} // types that nobody negotiates carry nothing for us
        }
    }
    (fragment.is_none() && !nals.is_empty()).then_some(nals)
}

fn aggregated(payload: &Bytes, nals: &mut Vec<Bytes>) -> Option<()> {
    let mut at = 1;
    while at < payload.len() {
        let size = usize::from(u16::from_be_bytes(*payload[at..].first_chunk()?));
        at += 2;
        if size == 0 || at + size > payload.len() {
            return None;
        }
        nals.push(payload.slice(at..at + size));
        at += size;
    }
    Some(())
}

/// None: it does not fit; Some(None): more of the NAL unit will come.
fn fragmented(payload: &Bytes, fragment: &mut Option<BytesMut>) -> Option<Option<Bytes>> {
    let [indicator, header] = *payload.first_chunk()?;
    let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
    if start {
        let mut nal = BytesMut::with_capacity(payload.len() * 4);
        nal.put_u8(indicator & 0xe0 | header & 0x1f);
        if fragment.replace(nal).is_some() {
            return None;
        }
    }
    fragment.as_mut()?.put_slice(&payload[2..]);
    Some(if end { fragment.take().map(BytesMut::freeze) } else { None })
}

/// Whether a packet can be the first of its access unit: something that precedes slices, or a slice with first_mb_in_slice = 0 (its ue(v) is a single 1 bit).
pub(crate) fn begins_picture(payload: &[u8]) -> bool {
    match nal_type(payload) {
        1..=5 => payload.get(1).is_some_and(|b| b & 0x80 != 0),
        FU_A => payload.get(1).is_some_and(|h| h & 0x80 != 0) && payload.get(2).is_some_and(|b| b & 0x80 != 0),
        SEI..=AUD | STAP_A => true,
        _ => false,
    }
}

/// Whether an RTP payload holds (a part of) an IDR picture.
pub(crate) fn payload_is_key(payload: &[u8]) -> bool {
    holds(payload, IDR)
}

pub(crate) fn holds_sps(payload: &[u8]) -> bool {
    holds(payload, SPS)
}

/// Whether an RTP payload holds (a part of) a NAL unit of this type.
fn holds(payload: &[u8], wanted: u8) -> bool {
    match nal_type(payload) {
        FU_A => payload.get(1).is_some_and(|h| h & 31 == wanted),
        STAP_A => {
            let mut at = 1;
            while at + 2 < payload.len() {
                if payload[at + 2] & 31 == wanted {
                    return true;
                }
                at += 2 + (usize::from(payload[at]) << 8 | usize::from(payload[at + 1]));
            }
            false
        }
        single => single == wanted,
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
