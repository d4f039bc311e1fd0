//! AV1 out of RTP (AOMedia's "RTP Payload Format For AV1"): OBUs joined into temporal units of the low-overhead format.

mod sequence;

use crate::depacketizer::{Reference, Unit};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// OBU types (AV1 specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// A temporal delimiter with its size, 0.
const DELIMITER: [u8; 2] = [TEMPORAL_DELIMITER << 3 | HAS_SIZE, 0];
/// Bits of an OBU header (section 5.3.2).
const EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// Bits of the aggregation header: the first element continues one, the last will be continued, a coded video sequence begins.
const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    lost: bool,
}

impl Depacketizer {
    pub(crate) fn loss(&mut self) {
        self.lost = true;
    }

    pub(crate) fn unit(&mut self, payloads: &[Bytes]) -> Option<Unit> {
        let obus = obus(payloads)?;
        let header = obus.iter().find(|obu| obu_type(obu) == SEQUENCE_HEADER).and_then(|obu| payload(obu));
        // A new sequence is a key frame with its header; without one nothing can be decoded.
        let key = payload_is_key(payloads.first()?) && header.is_some();
        let size = if key { sequence::size(header?) } else { None };
        self.lost &= !key;
        let reference = match (key, self.lost) {
            (true, _) => Reference::Key,
            (false, false) => Reference::Intact,
            (false, true) => Reference::Lost,
        };
        Some(Unit { reference, size, reordered: None, data: temporal_unit(&obus)? })
    }
}

fn obu_type(obu: &[u8]) -> u8 {
    obu.first().map_or(0, |header| header >> 3 & 15)
}

/// An OBU's header, one or two bytes long.
fn header_length(obu: &[u8]) -> Option<usize> {
    let length = if obu.first()? & EXTENSION != 0 { 2 } else { 1 };
    (obu.len() >= length).then_some(length)
}

/// An OBU without header and size; None when its own size is wrong.
fn payload(obu: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = obu.split_at(header_length(obu)?);
    if header[0] & HAS_SIZE == 0 {
        return Some(rest);
    }
    let size = leb128(&mut rest)?;
    rest.get(..size)
}

/// Section 4.10.5, at most 32 bits; advances behind it.
fn leb128(bytes: &mut impl Buf) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..56).step_by(7) {
        let byte = if bytes.has_remaining() { bytes.get_u8() } else { return None };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| value as usize);
        }
    }
    None
}

fn put_leb128(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The OBUs of a temporal unit's packets; None when a fragment has no beginning or no end, or a length is wrong.
fn obus(payloads: &[Bytes]) -> Option<Vec<Bytes>> {
    let (mut obus, mut fragment): (Vec<Bytes>, Option<BytesMut>) = (Vec::new(), None);
    for packet in payloads {
        let header = *packet.first()?;
        let elements = elements(packet.slice(1..), header >> 4 & 3)?;
        let last = elements.len().checked_sub(1)?;
        if (header & CONTINUES != 0) != fragment.is_some() {
            return None;
        }
        for (n, element) in elements.into_iter().enumerate() {
            let continued = n == last && header & CONTINUED != 0;
            match (&mut fragment, continued) {
                (None, false) => obus.push(element),
                (None, true) => fragment = Some(BytesMut::from(&element[..])),
                (Some(begun), _) => {
                    begun.put_slice(&element);
                    if !continued {
                        obus.extend(fragment.take().map(BytesMut::freeze));
                    }
                }
            }
        }
    }
    let whole = fragment.is_none() && !obus.is_empty() && obus.iter().all(|obu| !obu.is_empty());
    whole.then_some(obus)
}

/// The OBU elements behind an aggregation header that announces `count` of them, 0: each with its length.
fn elements(mut rest: Bytes, count: u8) -> Option<Vec<Bytes>> {
    let mut elements = Vec::new();
    while rest.has_remaining() {
        let bare = count > 0 && elements.len() + 1 == usize::from(count);
        let length = if bare { rest.len() } else { leb128(&mut rest)? };
        if length > rest.len() {
            return None;
        }
        elements.push(rest.split_to(length));
    }
    (count == 0 || elements.len() == usize::from(count)).then_some(elements)
}

/// Delimiter, then each OBU with its size; what decoders ignore is left out (section 5 of the payload format).
fn temporal_unit(obus: &[Bytes]) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(obus.iter().map(|obu| obu.len() + 4).sum::<usize>() + DELIMITER.len());
    out.put_slice(&DELIMITER);
    for obu in obus.iter().filter(|obu| !matches!(obu_type(obu), TEMPORAL_DELIMITER | TILE_LIST | PADDING)) {
        let (header, payload) = (&obu[..header_length(obu)?], payload(obu)?);
        out.put_u8(header[0] | HAS_SIZE);
        out.put_slice(&header[1..]);
        put_leb128(&mut out, payload.len());
        out.put_slice(payload);
    }
    (out.len() > DELIMITER.len()).then(|| out.freeze())
}

/// Only a new sequence is sure to need nothing before it, and only with it is a temporal unit known to begin here.
pub(crate) fn begins_picture(payload: &[u8]) -> bool {
    payload_is_key(payload)
}

pub(crate) fn payload_is_key(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & (NEW_SEQUENCE | CONTINUES) == NEW_SEQUENCE)
}
