//! From a track's packets to pictures that may be written: nothing between a loss and the next key frame (but what provably needs nothing
//! of what was lost), nothing of the SFU's own filler.

use crate::Codec;
use crate::assembler::{Assembled, Assembler};
use crate::decode_times::{DecodeTimes, Order, Times};
use crate::delay_line::Held;
use crate::depacketizer::{self, Depacketizer, Reference, Unit};
use bytes::Bytes;

/// A key frame that is followed this soon by another one is not shown, RTP ticks (1 ms): an SFU that switches between simulcast layers
/// twice sends both, one tick apart (livekit-probe.md section 4). Nor is the beginning of a picture whose layer it left meanwhile.
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
        let key_at = |packet: &Held| depacketizer::begins_key(self.codec, &packet.payload).then_some(packet.rtp);
        // What another timestamp ended is followed by this very packet.
        let keys = [key_at(packet), next.and_then(key_at)];
        let pictures = assembled.into_iter().zip(keys).filter_map(|(picture, key)| Some((picture?, key)));
        pictures.filter_map(|(picture, key)| self.picture(&picture, key.filter(|rtp| *rtp > picture.rtp))).collect()
    }

    /// The stream ended: what is open will not be completed by a later packet.
    pub(crate) fn resync(&mut self) {
        self.assembler = Assembler::default();
        self.depacketizer.loss(u64::from(u32::MAX));
        self.decode_times = DecodeTimes::default();
        (self.in_sync, self.size) = (false, None);
    }

    /// `next_key`: when a key frame is shown that follows at once. None when that takes this picture's place.
    fn picture(&mut self, assembled: &Assembled, next_key: Option<i64>) -> Option<VideoEvent> {
        let rtp = assembled.rtp;
        let superseded = next_key.is_some_and(|next| (1..=SUPERSEDED_WITHIN).contains(&(next - rtp)));
        if assembled.whole && !assembled.finished && next_key.is_some() {
            // The SFU left this layer in the middle of a picture: nothing is missing between the packets, and yet the rest never comes.
            if self.codec == Codec::H264 {
                // Or parameter sets have a time of their own.
                self.depacketizer.unit(&assembled.payloads);
            }
            return (!superseded).then_some(VideoEvent::Unusable { rtp });
        }
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
        if key && superseded {
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
        // VP9 says sizes beside any picture; LiveKit's blank ones are key frames, and another that is as small is none.
        if key || unit.size.is_some_and(|size| !is_blank(size)) {
            self.size = unit.size;
        }
        match unit.reference {
            Reference::Key => {
                self.blank = self.size.is_some_and(is_blank);
                self.in_sync = self.size.is_some();
            }
            Reference::Lost => self.in_sync = false,
            Reference::Intact | Reference::Skipped => {}
        }
    }
}

const fn is_blank((width, height): (u32, u32)) -> bool {
    width < LEAST_SIDE || height < LEAST_SIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of VP8 in order, each by RTP time, marker and payload.
    fn events(packets: &[(i64, bool, Vec<u8>)]) -> Vec<VideoEvent> {
        let held = |(rtp, marker, payload): &(i64, bool, Vec<u8>)| Held {
            rtp: *rtp,
            marker: *marker,
            rotation: 0,
            payload: Bytes::copy_from_slice(payload),
        };
        let packets: Vec<Held> = packets.iter().map(held).collect();
        let mut input = VideoInput::new(Codec::Vp8);
        (0..packets.len()).flat_map(|n| input.packet(0, &packets[n], packets.get(n + 1))).collect()
    }

    /// The first packet of a key frame so wide.
    fn key(width: u8) -> Vec<u8> {
        vec![0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, width, 0, 90, 0, 7]
    }

    /// Another packet of the same frame.
    fn more() -> Vec<u8> {
        vec![0x00, 7, 7]
    }

    fn delta() -> Vec<u8> {
        vec![0x10, 0x11, 0x02, 0x00, 7]
    }

    /// When, how wide, and whether a key frame; None: unusable.
    fn shown(events: &[VideoEvent]) -> Vec<(i64, Option<(u32, bool)>)> {
        let shown = |event: &VideoEvent| match event {
            VideoEvent::Picture(picture) => (picture.rtp, Some((picture.size.0, picture.key))),
            VideoEvent::Unusable { rtp } | VideoEvent::Blank { rtp } => (*rtp, None),
        };
        events.iter().map(shown).collect()
    }

    #[test]
    fn what_an_sfu_left_in_the_middle_of_a_picture_gives_way_to_the_other_layers_key_frame() {
        let before = [(0, true, key(200)), (6000, true, delta())];
        for cut in
            [vec![(12_000, false, key(200))], vec![(12_000, false, key(200)), (12_000, false, more())], vec![(12_000, false, delta())]]
        {
            let after = [(12_076, true, key(50)), (18_076, true, delta())];
            let events = events(&[&before[..], &cut, &after].concat());
            let expected = [(0, 200, true), (6000, 200, false), (12_076, 50, true), (18_076, 50, false)];
            assert_eq!(shown(&events), expected.map(|(rtp, width, key)| (rtp, Some((width, key)))), "{cut:?}");
        }
    }

    #[test]
    fn three_key_frames_in_a_row_are_one() {
        let events = events(&[(0, false, key(200)), (1, true, key(50)), (2, false, key(100)), (2, true, more()), (6000, true, delta())]);
        assert_eq!(shown(&events), [(2, Some((100, true))), (6000, Some((100, false)))]);
    }

    #[test]
    fn a_picture_that_was_left_and_whose_place_nothing_takes_is_told() {
        let events = events(&[(0, true, key(200)), (6000, false, delta()), (12_000, true, key(50))]);
        assert_eq!(shown(&events), [(0, Some((200, true))), (6000, None), (12_000, Some((50, true)))]);
    }

    /// Gateways that mark key frames alone, or a picture now and then.
    #[test]
    fn a_sender_whose_markers_are_not_regular_is_believed() {
        let group =
            |at: i64| [(at, true, key(200)), (at + 6000, false, delta()), (at + 12_000, false, delta()), (at + 18_000, false, delta())];
        let events = events(&[group(0), group(24_000), group(48_000)].concat());
        let expected = (0..11).map(|n| (n * 6000, Some((200, n % 4 == 0))));
        assert_eq!(shown(&events), expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_picture_without_its_marker_stays_if_another_one_is_before_the_key_frame() {
        let before = [(0, true, key(200)), (6000, true, delta())];
        let after = [(12_000, false, delta()), (18_000, true, delta()), (24_000, true, key(200))];
        let events = events(&[&before[..], &after].concat());
        let expected = [(0, true), (6000, false), (12_000, false), (18_000, false), (24_000, true)];
        assert_eq!(shown(&events), expected.map(|(rtp, key)| (rtp, Some((200, key)))));
    }

    #[test]
    fn a_sender_without_markers_is_believed() {
        let events = events(&[(0, false, key(200)), (6000, false, delta()), (12_000, false, key(50)), (18_000, false, delta())]);
        assert_eq!(shown(&events), [(0, Some((200, true))), (6000, Some((200, false))), (12_000, Some((50, true)))]);
    }
}
