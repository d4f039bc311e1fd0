//! From a track's packets to pictures that may be written: nothing between a loss and the next key frame (but what provably needs nothing
//! of what was lost), nothing of the SFU's own filler.

use crate::Codec;
use crate::assembler::{Assembled, Assembler};
use crate::decode_times::{DecodeTimes, Order, Times};
use crate::delay_line::Held;
use crate::depacketizer::{self, Depacketizer, Reference, Unit};
use bytes::Bytes;

/// A key frame that is followed this soon by another one is not shown, RTP ticks (1 ms): an SFU that switches between simulcast layers
/// twice sends both, one tick apart (livekit-probe.md section 4).
const SUPERSEDED_WITHIN: i64 = 90;
/// LiveKit's blank pictures are 2x2 or 8x8; no camera sends less than a macroblock.
const LEAST_SIDE: u32 = 16;

/// A picture that can be decoded, if all before it were since the last key frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Its place in decoding order, unwrapped RTP time: strictly increases, and is when it is shown unless the stream has B-frames.
    pub rtp: i64,
    pub order: Order,
    pub key: bool,
    /// As the stream's headers say, before rotation.
    pub size: (u32, u32),
    /// What to turn it by before it is shown, degrees clockwise.
    pub rotation: u16,
    /// The codec's own access unit, as [`Unit::data`].
    pub data: Bytes,
}

impl Picture {
    pub(crate) fn upright_size(&self) -> (u32, u32) {
        let (width, height) = self.size;
        if self.rotation.is_multiple_of(180) { (width, height) } else { (height, width) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VideoEvent {
    Picture(Picture),
    /// A picture at this RTP time cannot be written: damaged, or it refers to one that is.
    Unusable {
        rtp: i64,
    },
    /// The SFU's filler: as if muted.
    Blank {
        rtp: i64,
    },
}

#[derive(Debug)]
pub(crate) struct VideoInput {
    codec: Codec,
    assembler: Assembler,
    depacketizer: Depacketizer,
    decode_times: DecodeTimes,
    size: Option<(u32, u32)>,
    /// Pictures can be decoded: a key frame came, and nothing was lost since that others need.
    pub(crate) in_sync: bool,
    blank: bool,
    /// Whole access units from the first key frame on, without key frames whose place another one takes, until they are taken.
    pub(crate) received: u64,
}

impl VideoInput {
    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            codec,
            assembler: Assembler::default(),
            depacketizer: Depacketizer::new(codec),
            decode_times: DecodeTimes::default(),
            size: None,
            in_sync: false,
            blank: false,
            received: 0,
        }
    }

    pub(crate) fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }

    /// RTP time of the picture that is not complete yet.
    pub(crate) fn open(&self) -> Option<i64> {
        self.assembler.open()
    }

    /// A picture may come whose place is this much before the time of its packets, RTP ticks: 0 without B-frames.
    pub(crate) fn reordering(&self) -> i64 {
        self.decode_times.furthest
    }

    /// The next packet of the line, `missing` of them lost before it, and the one behind it, if it has come.
    pub(crate) fn packet(&mut self, missing: u64, packet: &Held, next: Option<&Held>) -> Vec<VideoEvent> {
        if missing > 0 {
            self.assembler.loss();
            self.depacketizer.loss(missing);
        }
        let assembled = self.assembler.push(packet, |payload| self.depacketizer.begins_picture(payload));
        let superseded = next.filter(|next| depacketizer::begins_key(self.codec, &next.payload)).map(|next| next.rtp);
        assembled.into_iter().flatten().filter_map(|picture| self.picture(&picture, superseded)).collect()
    }

    /// The stream ended: what is open will not be completed by a later packet.
    pub(crate) fn resync(&mut self) {
        self.assembler = Assembler::default();
        self.depacketizer.loss(u64::from(u32::MAX));
        self.decode_times = DecodeTimes::default();
        (self.in_sync, self.size) = (false, None);
    }

    /// `next_key`: when a key frame is shown that has already come. None when that takes this picture's place.
    fn picture(&mut self, assembled: &Assembled, next_key: Option<i64>) -> Option<VideoEvent> {
        let rtp = assembled.rtp;
        let unit = if assembled.whole { self.depacketizer.unit(&assembled.payloads) } else { None };
        let Some(unit) = unit else {
            self.depacketizer.damaged(&assembled.payloads);
            return Some(VideoEvent::Unusable { rtp });
        };
        self.notice(&unit);
        if self.blank {
            return Some(VideoEvent::Blank { rtp });
        }
        let key = unit.reference == Reference::Key;
        if key && next_key.is_some_and(|next| (1..=SUPERSEDED_WITHIN).contains(&(next - rtp))) {
            return None;
        }
        self.received += u64::from(self.size.is_some());
        let Some(size) = self.size.filter(|_| self.in_sync && unit.reference != Reference::Skipped) else {
            return Some(VideoEvent::Unusable { rtp });
        };
        let Times { place, order } = self.decode_times.next(rtp, key, unit.reordered);
        let rotation = assembled.rotation;
        Some(VideoEvent::Picture(Picture { rtp: place, order, key, size, rotation, data: unit.data }))
    }

    /// What a whole unit says about itself and those to come.
    fn notice(&mut self, unit: &Unit) {
        let key = unit.reference == Reference::Key;
        if key || unit.size.is_some() {
            self.size = unit.size;
        }
        match unit.reference {
            Reference::Key => {
                self.blank = self.size.is_some_and(|(width, height)| width < LEAST_SIDE || height < LEAST_SIDE);
                self.in_sync = self.size.is_some();
            }
            Reference::Lost => self.in_sync = false,
            Reference::Intact | Reference::Skipped => {}
        }
    }
}
