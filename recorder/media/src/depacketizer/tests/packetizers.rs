//! Packetisers by the books.

use bytes::Bytes;
use proptest::sample::Index;

/// `data` in pieces of at least a byte.
fn pieces<'a>(data: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len())).collect();
    at.extend([0, data.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect()
}

/// RFC 7741: all extensions, 15 bit picture ID.
pub(super) fn vp8(frame: &[u8], id: u16, cuts: &[Index]) -> Vec<Bytes> {
    let packet = |(n, piece): (usize, &&[u8])| {
        let start = if n == 0 { 0x90 } else { 0x80 };
        let [high, low] = (id | 0x8000).to_be_bytes();
        [&[start, 0xf0, high, low, 1, 0x00], *piece].concat().into()
    };
    pieces(frame, cuts).iter().enumerate().map(packet).collect()
}

/// RFC 9628, non-flexible: `layers` are the spatial layers' frames of one picture.
pub(super) fn vp9(layers: &[Vec<u8>], key: bool, id: u16, cuts: &[Index]) -> Vec<Bytes> {
    let mut packets = Vec::new();
    for (spatial, frame) in layers.iter().enumerate() {
        let pieces = pieces(frame, cuts);
        for (n, piece) in pieces.iter().enumerate() {
            let structure = key && spatial == 0 && n == 0;
            let flags = [(!key, 0x40), (n == 0, 0x08), (n + 1 == pieces.len(), 0x04), (structure, 0x02)];
            let first = flags.iter().filter(|(set, _)| *set).fold(0xa0, |byte, (_, flag)| byte | flag);
            let mut packet = vec![first, (id & 0x7f) as u8, (spatial as u8) << 1 | u8::from(spatial > 0), 1];
            if structure {
                packet.push((layers.len() as u8 - 1) << 5 | 0x10);
                (0..layers.len())
                    .for_each(|layer| packet.extend([0, 160 >> (layers.len() - 1 - layer), 0, 96 >> (layers.len() - 1 - layer)]));
            }
            packet.extend_from_slice(piece);
            packets.push(packet.into());
        }
    }
    packets
}

/// The OBUs of a temporal unit in the low-overhead format, as header and payload.
fn obus(mut unit: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut obus = Vec::new();
    while !unit.is_empty() {
        assert_eq!(unit[0] & 0x06, 0x02, "a size and no extension");
        let (mut length, mut at) = (0usize, 1);
        loop {
            length |= usize::from(unit[at] & 0x7f) << (7 * (at - 1));
            at += 1;
            if unit[at - 1] & 0x80 == 0 {
                break;
            }
        }
        obus.push((unit[0] & !0x02, unit[at..at + length].to_vec()));
        unit = &unit[at + length..];
    }
    obus
}

/// The AV1 payload format: OBUs without sizes, fragmented where the cuts fall, counted in the header or not.
pub(super) fn av1(unit: &[u8], key: bool, counted: bool, cuts: &[Index]) -> Vec<Bytes> {
    let elements = obus(unit).into_iter().filter(|(header, _)| header >> 3 != 2);
    let elements: Vec<Vec<u8>> = elements.map(|(header, payload)| [vec![header], payload].concat()).collect();
    let ends: Vec<usize> = elements
        .iter()
        .scan(0, |end, element| {
            *end += element.len();
            Some(*end)
        })
        .collect();
    let all = elements.concat();
    let mut at = 0;
    let mut packets = Vec::new();
    for piece in pieces(&all, cuts) {
        let (start, end) = (at, at + piece.len());
        let mut borders: Vec<usize> = ends.iter().copied().filter(|e| *e > start && *e < end).collect();
        borders.extend([start, end]);
        borders.sort_unstable();
        let parts: Vec<&[u8]> = borders.windows(2).map(|pair| &all[pair[0]..pair[1]]).collect();
        let counted = counted && parts.len() <= 3;
        let continues = start > 0 && !ends.contains(&start);
        let flags = [(continues, 0x80), (!ends.contains(&end), 0x40), (key && start == 0, 0x08)];
        let header =
            flags.iter().filter(|(set, _)| *set).fold(if counted { (parts.len() as u8) << 4 } else { 0 }, |byte, (_, flag)| byte | flag);
        let mut packet = vec![header];
        for (n, part) in parts.iter().enumerate() {
            if !counted || n + 1 < parts.len() {
                let mut length = part.len();
                while length >= 0x80 {
                    packet.push(length as u8 | 0x80);
                    length >>= 7;
                }
                packet.push(length as u8);
            }
            packet.extend_from_slice(part);
        }
        packets.push(packet.into());
        at = end;
    }
    packets
}

/// RFC 6184 mode 1: single NAL units or fragments where the cuts fall.
pub(super) fn h264(nals: &[Vec<u8>], cuts: &[Index]) -> Vec<Bytes> {
    let mut packets = Vec::new();
    for nal in nals {
        let body = pieces(&nal[1..], cuts);
        if body.len() == 1 {
            packets.push(nal.clone().into());
            continue;
        }
        for (n, piece) in body.iter().enumerate() {
            let flags = if n == 0 { 0x80 } else { 0 } | if n + 1 == body.len() { 0x40 } else { 0 };
            packets.push([&[nal[0] & 0xe0 | 28, nal[0] & 0x1f | flags], *piece].concat().into());
        }
    }
    packets
}
