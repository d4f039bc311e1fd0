//! Packets in order -> the packets of one picture: boundaries come from RTP timestamp and marker, never from the payload.

use crate::delay_line::Held;
use bytes::Bytes;

/// A larger picture is taken for damage: 8 MB is beyond the largest coded picture of H.264 level 5.1.
const MAX_UNIT_BYTES: usize = 8 << 20;

/// An SFU may leave one picture after the other in the middle; gateways that mark a picture now and then are rare.
const TRUST: u8 = 2;

/// All packets of one timestamp that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub rtp: i64,
    /// As the last packet has it: where senders put the video-orientation extension (3GPP TS 26.114 section 7.4.5).
    pub rotation: u16,
    /// In order, none empty.
    pub payloads: Vec<Bytes>,
    /// None of them is missing.
    pub whole: bool,
    /// It ends with the marker, as those before it did.
    pub finished: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    current: Option<Assembled>,
    bytes: usize,
    lost_before_next: bool,
    /// Pictures without a marker until one is believed to be whole without: [`TRUST`] behind one that had it.
    trust: u8,
}

impl Assembler {
    /// Packets are missing before the next one.
    pub(crate) fn loss(&mut self) {
        if let Some(current) = &mut self.current {
            current.whole = false;
        }
        self.lost_before_next = true;
    }

    /// RTP time of the picture that is not complete yet.
    pub(crate) fn open(&self) -> Option<i64> {
        self.current.as_ref().map(|current| current.rtp)
    }

    /// A change of timestamp closes the last picture, the marker this one. `begins`: whether a payload can be a picture's first.
    pub(crate) fn push(&mut self, packet: &Held, begins: impl FnOnce(&[u8]) -> bool) -> [Option<Assembled>; 2] {
        if packet.payload.is_empty() {
            return [None, None]; // padding, sent as bandwidth probe
        }
        let earlier = self.current.take_if(|current| current.rtp != packet.rtp);
        self.trust = self.trust.saturating_sub(u8::from(earlier.is_some()));
        let lost = std::mem::take(&mut self.lost_before_next);
        let current = self.current.get_or_insert_with(|| {
            self.bytes = 0;
            let whole = !lost || begins(&packet.payload);
            Assembled { rtp: packet.rtp, rotation: 0, payloads: Vec::new(), whole, finished: self.trust == 0 }
        });
        self.bytes += packet.payload.len();
        current.rotation = packet.rotation;
        if self.bytes <= MAX_UNIT_BYTES {
            current.payloads.push(packet.payload.clone());
        } else {
            current.whole = false;
        }
        if !packet.marker {
            return [earlier, None];
        }
        (self.trust, current.finished) = (TRUST, true);
        [earlier, self.current.take()]
    }
}
