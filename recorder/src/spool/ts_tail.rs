//! Where a transport stream that was cut off ends in good order, and what it holds up to there.

use std::collections::BTreeMap;

const PACKET: usize = 188;
const SYNC: u8 = 0x47;
const NULL_PID: u16 = 0x1fff;
/// stream_id of H.222.0 section 2.4.3.7: audio 0xC0-0xDF, video 0xE0-0xEF.
const MEDIA_STREAM_IDS: std::ops::RangeInclusive<u8> = 0xc0..=0xef;
/// Shown as long as the last picture of a video stream, when nothing tells: 1/30 s.
const LAST_UNIT_90K: i64 = 3000;
const WRAP: i64 = 1 << 33;

/// What of a truncated segment can be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Length up to the last whole PES packet of every stream.
    pub(crate) keep: usize,
    /// From the first to the end of the last timestamp.
    pub(crate) duration90k: i64,
    /// The next continuity counter of each PID.
    pub(crate) continuity_counters: Vec<(u16, u8)>,
}

#[derive(Debug)]
struct Open {
    at: usize,
    /// Body bytes still missing; None: unbounded, whole only when the next one has begun.
    missing: Option<usize>,
}

/// None: no whole unit of media.
pub(crate) fn scan(stream: &[u8]) -> Option<Tail> {
    let whole = stream.len() / PACKET * PACKET;
    measure(stream, last_whole(&stream[..whole])?)
}

/// Of a stream that was not cut off: all of it. None: no media.
pub(crate) fn whole(stream: &[u8]) -> Option<Tail> {
    let keep = stream.chunks_exact(PACKET).take_while(|packet| packet[0] == SYNC).count() * PACKET;
    measure(stream, keep)
}

fn measure(stream: &[u8], keep: usize) -> Option<Tail> {
    let mut counters = BTreeMap::new();
    let (mut first, mut last) = (None::<i64>, None::<i64>);
    for packet in stream[..keep].chunks_exact(PACKET) {
        let pid = pid(packet);
        if pid != NULL_PID && payload(packet).is_some() {
            counters.insert(pid, (packet[3].wrapping_add(1)) & 0x0f);
        }
        if let Some(pts) = payload(packet).filter(|_| starts(packet)).and_then(pts) {
            first = Some(first.map_or(pts, |known| known.min(pts)));
            last = Some(last.map_or(pts, |known| known.max(pts)));
        }
    }
    let duration90k = (last? - first?).rem_euclid(WRAP) + LAST_UNIT_90K;
    Some(Tail { keep, duration90k, continuity_counters: counters.into_iter().collect() })
}

/// The end of the stream, or the start of the first PES packet that is not whole.
fn last_whole(stream: &[u8]) -> Option<usize> {
    let mut open: BTreeMap<u16, Open> = BTreeMap::new();
    let mut end = stream.len();
    let mut seen = false;
    for (index, packet) in stream.chunks_exact(PACKET).enumerate() {
        let at = index * PACKET;
        if packet[0] != SYNC {
            end = at;
            break;
        }
        let Some(payload) = payload(packet) else { continue };
        let pid = pid(packet);
        if starts(packet) {
            seen |= open.remove(&pid).is_some();
            if let Some(missing) = pes_length(payload) {
                open.insert(pid, Open { at, missing });
            }
        } else if let Some(unit) = open.get_mut(&pid) {
            unit.missing = unit.missing.map(|missing| missing.saturating_sub(payload.len()));
        }
        if open.get(&pid).is_some_and(|unit| unit.missing == Some(0)) {
            open.remove(&pid);
            seen = true;
        }
    }
    let cut = open.values().map(|unit| unit.at).min().unwrap_or(end).min(end);
    (seen && cut > 0).then_some(cut)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2])
}

fn starts(packet: &[u8]) -> bool {
    packet[1] & 0x40 != 0
}

/// Behind the adaptation field; None: there is none.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    match packet[3] >> 4 & 3 {
        1 => Some(&packet[4..]),
        3 => packet.get(5 + usize::from(packet[4])..),
        _ => None,
    }
}

/// For the start of a media PES packet: how much of it is still to come, None inside when it does not say.
fn pes_length(payload: &[u8]) -> Option<Option<usize>> {
    let header = payload.get(..6).filter(|header| header.starts_with(&[0, 0, 1]) && MEDIA_STREAM_IDS.contains(&header[3]))?;
    match u16::from_be_bytes([header[4], header[5]]) {
        0 => Some(None),
        length => Some(Some((usize::from(length) + 6).saturating_sub(payload.len()))),
    }
}

fn pts(payload: &[u8]) -> Option<i64> {
    pes_length(payload)?;
    let header = payload.get(..14).filter(|header| header[7] & 0x80 != 0)?;
    let part = |at: usize| i64::from(header[at]);
    Some((part(9) >> 1 & 7) << 30 | part(10) << 22 | (part(11) >> 1) << 15 | part(12) << 7 | part(13) >> 1)
}
