//! H.264 access units into RTP payloads (RFC 6184, packetization mode 1).

use bytes::Bytes;

/// RTP payload bytes; with headers of RTP, SRTP, UDP and IP it stays below any usual MTU.
const PAYLOAD_MAX: usize = 1200;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const SPS: u8 = 7;
const PPS: u8 = 8;

/// The payloads of one access unit in Annex B, in order; the marker belongs on the last. Parameter sets share a packet.
pub(crate) fn payloads(access_unit: &[u8]) -> Vec<Bytes> {
    let mut packets = vec![];
    let mut parameters: Vec<&[u8]> = vec![];
    for unit in units(access_unit) {
        if matches!(unit[0] & 31, SPS | PPS) {
            parameters.push(unit);
            continue;
        }
        aggregate(&mut parameters, &mut packets);
        if unit.len() <= PAYLOAD_MAX {
            packets.push(Bytes::copy_from_slice(unit));
        } else {
            fragment(unit, &mut packets);
        }
    }
    aggregate(&mut parameters, &mut packets);
    packets
}

/// Parameter sets are some 30 bytes: they fit together, always.
fn aggregate(parameters: &mut Vec<&[u8]>, packets: &mut Vec<Bytes>) {
    let Some(first) = parameters.first() else { return };
    let mut packet = vec![first[0] & 0x60 | STAP_A];
    for unit in parameters.drain(..) {
        packet.extend((unit.len() as u16).to_be_bytes());
        packet.extend(unit);
    }
    packets.push(packet.into());
}

fn fragment(unit: &[u8], packets: &mut Vec<Bytes>) {
    let (header, body) = (unit[0], &unit[1..]);
    let pieces = body.len().div_ceil(PAYLOAD_MAX - 2);
    for (index, piece) in body.chunks(PAYLOAD_MAX - 2).enumerate() {
        let start = u8::from(index == 0) << 7;
        let end = u8::from(index + 1 == pieces) << 6;
        let mut packet = vec![header & 0xe0 | FU_A, start | end | header & 31];
        packet.extend(piece);
        packets.push(packet.into());
    }
}

/// NAL units between start codes; empty ones are none.
fn units(access_unit: &[u8]) -> Vec<&[u8]> {
    let codes = access_unit.windows(3).enumerate().filter(|(_, window)| window == b"\0\0\x01").map(|(at, _)| at);
    let starts: Vec<usize> = codes.collect();
    let ends = starts.iter().skip(1).copied().chain([access_unit.len()]);
    let unit = |(&start, end): (&usize, usize)| {
        let unit = &access_unit[start + 3..end];
        // The zero byte of a following four-byte start code, and trailing_zero_8bits.
        let length = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &unit[..length]
    };
    starts.iter().zip(ends).map(unit).filter(|unit| !unit.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_in_one_packet_and_a_large_slice_in_pieces() {
        let mut unit = b"\0\0\0\x01\x67sps\0\0\0\x01\x68pps\0\0\x01\x65".to_vec();
        let slice: Vec<u8> = (0..3000).map(|i| (i % 251) as u8 | 1).collect();
        unit.extend(&slice);
        let packets = payloads(&unit);
        assert_eq!(packets[0], &b"\x78\0\x04\x67sps\0\x04\x68pps"[..]);
        assert!(packets.iter().all(|packet| packet.len() <= PAYLOAD_MAX));
        let flags: Vec<(u8, u8)> = packets[1..].iter().map(|packet| (packet[0], packet[1])).collect();
        assert_eq!(flags, [(0x7c, 0x85), (0x7c, 0x05), (0x7c, 0x45)]);
        let joined: Vec<u8> = packets[1..].iter().flat_map(|packet| packet[2..].to_vec()).collect();
        assert_eq!(joined, slice);
    }

    #[test]
    fn a_small_slice_is_a_packet_and_nothing_is_nothing() {
        assert_eq!(payloads(b"\0\0\x01\x41ab\0"), [&b"\x41ab"[..]]);
        assert!(payloads(b"").is_empty() && payloads(b"\0\0\x01").is_empty() && payloads(b"junk").is_empty());
    }
}
