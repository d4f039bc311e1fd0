//! Redundant audio (RFC 2198), undone: the primary packet, and earlier ones where they are missing.

use bytes::Bytes;
use recorder_media::RtpPacket;

/// How far back duplicates are recognised, packets (20 s of 20 ms Opus; NACKed packets come within 10 s).
const WINDOW: usize = 1024;

/// One block of a RED payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) payload_type: u8,
    /// How much earlier than the packet's timestamp; 0 for the primary block, which is last.
    pub(crate) timestamp_offset: u32,
    pub(crate) payload: Bytes,
}

/// Takes a RED payload apart. None when it is damaged: a packet of which nothing can be trusted.
pub(crate) fn parse(payload: &Bytes) -> Option<Vec<Block>> {
    let mut headers = vec![];
    let mut at = 0;
    loop {
        let first = *payload.get(at)?;
        if first & 0x80 == 0 {
            headers.push((first, 0, None));
            at += 1;
            break;
        }
        let &[_, high, middle, low] = payload.get(at..)?.first_chunk::<4>()?;
        let fields = u32::from_be_bytes([0, high, middle, low]);
        headers.push((first & 0x7f, fields >> 10, Some((fields & 0x3ff) as usize)));
        at += 4;
    }
    let mut blocks = Vec::with_capacity(headers.len());
    for (payload_type, timestamp_offset, length) in headers {
        let end = length.map_or(payload.len(), |length| at + length);
        if end > payload.len() {
            return None;
        }
        blocks.push(Block { payload_type, timestamp_offset, payload: payload.slice(at..end) });
        at = end;
    }
    Some(blocks)
}

/// The sequence numbers of one stream that were delivered already.
#[derive(Debug)]
pub(crate) struct Delivered {
    seen: Box<[bool; WINDOW]>,
    highest: i64,
    first: i64,
}

impl Delivered {
    /// Begins with this packet; what precedes it is never rebuilt.
    pub(crate) fn new(first: u16) -> Self {
        Self { seen: Box::new([false; WINDOW]), highest: i64::from(first) - 1, first: i64::from(first) }
    }

    fn unwrap(&self, sequence: u16) -> i64 {
        self.highest + i64::from(sequence.wrapping_sub(self.highest as u16) as i16)
    }

    /// True the first time.
    pub(crate) fn insert(&mut self, sequence: u16) -> bool {
        let number = self.unwrap(sequence);
        if number > self.highest {
            let skipped = (number - self.highest).min(WINDOW as i64);
            for passed in number - skipped + 1..=number {
                self.seen[passed.rem_euclid(WINDOW as i64) as usize] = false;
            }
            self.highest = number;
        } else if self.highest - number >= WINDOW as i64 {
            return false;
        }
        !std::mem::replace(&mut self.seen[number.rem_euclid(WINDOW as i64) as usize], true)
    }

    /// Whether redundancy may fill this place.
    pub(crate) fn is_hole(&self, sequence: u16) -> bool {
        let number = self.unwrap(sequence);
        number >= self.first
            && self.highest - number < WINDOW as i64
            && (number > self.highest || !self.seen[number.rem_euclid(WINDOW as i64) as usize])
    }
}

/// What a packet yields, oldest first, each sequence number once. `None` for a damaged packet.
pub(crate) fn undo(packet: &RtpPacket, delivered: &mut Delivered) -> Option<Vec<RtpPacket>> {
    let mut blocks = parse(&packet.payload)?;
    let primary = blocks.pop()?;
    let mut packets = vec![];
    let redundant = blocks.len() as u16;
    for (index, block) in blocks.into_iter().enumerate() {
        let sequence = packet.sequence.wrapping_sub(redundant - index as u16);
        // An empty block stands for a packet that was not sent (RFC 2198 section 3 allows it).
        let of_use = !block.payload.is_empty() && block.timestamp_offset > 0 && block.payload_type == primary.payload_type;
        if of_use && delivered.is_hole(sequence) && delivered.insert(sequence) {
            let timestamp = packet.timestamp.wrapping_sub(block.timestamp_offset);
            packets.push(RtpPacket { sequence, timestamp, marker: false, payload: block.payload, ..packet.clone() });
        }
    }
    if delivered.insert(packet.sequence) {
        packets.push(RtpPacket { payload: primary.payload, ..packet.clone() });
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` at 960 ticks after its predecessor, with that predecessor as redundancy.
    fn packet(sequence: u16, previous: &str, text: &str) -> RtpPacket {
        let mut payload = vec![];
        if !previous.is_empty() {
            payload.push(0x80 | 111);
            payload.extend_from_slice(&((960u32 << 10 | previous.len() as u32) & 0xff_ffff).to_be_bytes()[1..]);
        }
        payload.push(111);
        payload.extend_from_slice(previous.as_bytes());
        payload.extend_from_slice(text.as_bytes());
        RtpPacket { ssrc: 1, sequence, timestamp: u32::from(sequence) * 960, marker: false, payload: payload.into(), rotation: 0 }
    }

    fn texts(packets: Option<Vec<RtpPacket>>) -> Vec<(u16, u32, String)> {
        let text = |p: &RtpPacket| String::from_utf8(p.payload.to_vec()).expect("test text");
        packets.expect("not damaged").iter().map(|p| (p.sequence, p.timestamp / 960, text(p))).collect()
    }

    #[test]
    fn redundancy_fills_a_hole_and_nothing_comes_twice() {
        let mut delivered = Delivered::new(10);
        assert_eq!(
            texts(undo(&packet(10, "nine", "ten"), &mut delivered)),
            [(10, 10, "ten".into())],
            "what precedes the start is not ours"
        );
        assert_eq!(texts(undo(&packet(11, "ten", "eleven"), &mut delivered)), [(11, 11, "eleven".into())]);
        assert_eq!(
            texts(undo(&packet(13, "twelve", "thirteen"), &mut delivered)),
            [(12, 12, "twelve".into()), (13, 13, "thirteen".into())]
        );
        assert_eq!(texts(undo(&packet(12, "eleven", "twelve"), &mut delivered)), [], "late original of a rebuilt packet");
        assert_eq!(texts(undo(&packet(13, "twelve", "thirteen"), &mut delivered)), []);
    }

    #[test]
    fn the_wrap_of_sequence_numbers_is_no_hole() {
        let mut delivered = Delivered::new(65535);
        assert!(delivered.insert(65535));
        let mut at_zero = packet(0, "last", "zero");
        at_zero.timestamp = 65536 * 960;
        assert_eq!(texts(undo(&at_zero, &mut delivered)).len(), 1);
        assert!(delivered.is_hole(2) && !delivered.is_hole(0) && !delivered.is_hole(65535));
    }

    #[test]
    fn old_duplicates_and_a_long_silence() {
        let mut delivered = Delivered::new(0);
        assert!(delivered.insert(0) && !delivered.insert(0));
        assert!(delivered.insert(30_000), "a jump");
        assert!(!delivered.insert(28_000), "older than the window");
        assert!(delivered.insert(29_999) && !delivered.insert(29_999));
    }

    #[test]
    fn damaged_payloads_yield_nothing() {
        let whole = packet(5, "abc", "defg").payload;
        assert_eq!(parse(&whole).map(|blocks| blocks.len()), Some(2));
        assert_eq!(parse(&Bytes::new()), None);
        assert_eq!(parse(&Bytes::from_static(&[0x80 | 111, 0, 0])), None, "header cut short");
        assert_eq!(parse(&Bytes::from_static(&[0x80 | 111, 0xff, 0xff, 0xff, 111, 1])), None, "block longer than the packet");
        assert_eq!(parse(&Bytes::from_static(&[0x80 | 111, 0, 0, 1])), None, "no primary block");
        let mut random = 7u32;
        for _ in 0..100_000 {
            let mut damaged = whole.to_vec();
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (random >> 8) as usize % damaged.len();
            damaged[at] = (random >> 24) as u8;
            damaged.truncate(1 + (random >> 16) as usize % whole.len());
            let _ = parse(&damaged.into());
        }
    }
}
