//! Units in order of time -> segments of one transport stream: where to cut, and what each segment is called.

use crate::audio::FRAME_90K;
use crate::decode_times::Order;
use crate::layout::Wanted;
use crate::names;
use crate::pictures::{Needs, Provenance};
use crate::ts::{Streams, TsMuxer};
use crate::{AudioOp, Codec, Continuation, GapReason, MediaTime, OpId, Seam, Snapshot, TrackKey, UnitMark, VideoOp, WallMicros};
use bytes::Bytes;

/// The first timestamp of a playlist: 10 s, so that no clock reference is negative.
const FIRST_PTS: i64 = 10 * MediaTime::PER_SECOND;
/// A key frame this much before the wished length is the cut.
pub(crate) const EARLY_90K: i64 = MediaTime::PER_SECOND / 2;
/// One frame of AAC at 48 kHz: a unit that came just when its sender left still has a length, in EXTINF too.
const SHORTEST: i64 = 1024 * MediaTime::PER_SECOND / 48_000;
/// What a segment may be longer than wished before it is cut without a key frame.
pub(crate) const HARD_EXTRA_SECONDS: u32 = 14;
/// Cut this much before the hard limit: the unit that crosses it is known only when it comes.
const HARD_MARGIN_90K: i64 = MediaTime::PER_SECOND;
/// A composite's pictures come from our own encoder; where some are left out, sound is cut by itself.
pub(crate) const EXACT_EXTRA_SECONDS: u32 = 1;
const EXACT_EXTRA_90K: i64 = MediaTime::PER_SECOND / 2;
/// EXTINF is rounded to be compared with the target duration (RFC 8216, section 4.3.3.1).
const TOO_LONG_EXTRA_90K: i64 = EXACT_EXTRA_SECONDS as i64 * MediaTime::PER_SECOND + MediaTime::PER_SECOND * 49 / 100;
/// The longest a single picture holds; a playlist without sound has no other unit to cut at.
const LONGEST_HOLD_90K: i64 = 11 * MediaTime::PER_SECOND;
/// A replay that begins this much behind the last finished segment lacks what was between: its journal had to be cut short.
const SEAM_MAX: i64 = MediaTime::PER_SECOND;
const MAX_SEGMENT_BYTES: u64 = 50 << 20;
/// How long a last picture is taken to last.
pub(crate) const FRAME_HOLD_90K: i64 = MediaTime::PER_SECOND / 30;

/// A playlist's timestamps begin anew, in its next volume, with the first segment after 24 h: 33 bits of 90 kHz last 26.5 h.
pub const VOLUME_90K: i64 = 24 * 3600 * MediaTime::PER_SECOND;

/// What a playlist wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Audio(AudioOp),
    Video {
        op: OpId,
        work: VideoOp,
    },
    /// Of a picture that passes untouched.
    Snapshot {
        snapshot: Snapshot,
        codec: Codec,
        data: Bytes,
    },
    /// A picture of the track with this record is written.
    Written(Provenance),
    /// A picture for this place is all that this track is needed for.
    Size(TrackKey, Wanted),
    /// Nothing of this track can be decoded until its publisher has sent a key frame.
    NeedKey(TrackKey),
    Append {
        n: u32,
        name: String,
        /// Of the segment.
        start: MediaTime,
        data: Bytes,
    },
    Close(Finished),
    /// What follows belongs to the playlist's next volume.
    NextVolume,
    Gap {
        start: MediaTime,
        end: MediaTime,
        reason: GapReason,
    },
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub n: u32,
    pub name: String,
    pub start: MediaTime,
    pub end: MediaTime,
    pub wall: WallMicros,
    pub discontinuity: bool,
    pub independent: bool,
    /// What came from here on is needed to write it again.
    pub needs_from: MediaTime,
    pub continuation: Continuation,
}

#[derive(Debug)]
struct Open {
    n: u32,
    name: String,
    start: MediaTime,
    discontinuity: bool,
    independent: bool,
    has_picture: bool,
    bytes: u64,
    needs_from: MediaTime,
}

/// What a segmenter is told at its start.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// What names begin with.
    pub base: String,
    pub streams: Streams,
    pub segment_seconds: u32,
    /// Of a composite: its segments end when they should.
    pub exact: bool,
    pub epoch: WallMicros,
    /// Where an earlier process left off; with a seam, what is in finished segments comes again.
    pub continuation: Continuation,
    /// Start of the volume's first segment and end of its last.
    pub earlier: Option<(MediaTime, MediaTime)>,
}

#[derive(Debug)]
pub(crate) struct Segmenter {
    base: String,
    streams: Streams,
    segment90k: i64,
    hard90k: i64,
    /// A segment this long is longer than the playlist says; None: it cannot be, sound is cut before.
    too_long90k: Option<i64>,
    epoch: WallMicros,
    mux: TsMuxer,
    /// Media time of the volume's first unit, where timestamps count from.
    origin: Option<MediaTime>,
    current: Option<Open>,
    next_n: u32,
    /// End of the last unit written.
    last_end: Option<MediaTime>,
    last_wall_ms: u64,
    discontinuity: bool,
    /// Of an earlier process, until what goes on from it has come.
    seam_end: Option<MediaTime>,
    /// The newest picture of a publisher.
    last_picture: Option<UnitMark>,
    /// Where the next frame of sound begins.
    sound_end: Option<MediaTime>,
    pub(crate) effects: Vec<Effect>,
}

fn margin(streams: Streams) -> i64 {
    if streams.audio { HARD_MARGIN_90K } else { LONGEST_HOLD_90K }
}

impl Segmenter {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let segment90k = i64::from(beginning.segment_seconds) * MediaTime::PER_SECOND;
        let hard = match beginning.exact {
            true => segment90k + EXACT_EXTRA_90K,
            false => segment90k + i64::from(HARD_EXTRA_SECONDS) * MediaTime::PER_SECOND - margin(beginning.streams),
        };
        let seam = beginning.continuation.seam;
        let continuation = beginning.continuation;
        let continuous = seam.filter(|seam| seam.continuous);
        // Timestamps of another volume say nothing.
        let decoded = seam.and_then(|seam| seam.decoded).filter(|_| beginning.earlier.is_some());
        let clock = continuous.and_then(|seam| seam.clock).filter(|_| beginning.earlier.is_some());
        Self {
            mux: TsMuxer::new(beginning.streams, &continuation.continuity_counters, decoded, clock),
            base: beginning.base,
            too_long90k: (beginning.exact && !beginning.streams.audio).then_some(segment90k + TOO_LONG_EXTRA_90K),
            streams: beginning.streams,
            segment90k,
            hard90k: hard,
            epoch: beginning.epoch,
            origin: beginning.earlier.map(|(start, _)| start),
            current: None,
            next_n: continuation.next_n,
            last_end: seam.map(|seam| seam.end).or(beginning.earlier.map(|(_, end)| end)),
            last_wall_ms: 0,
            discontinuity: beginning.earlier.is_some() && continuous.is_none(),
            seam_end: continuous.map(|seam| seam.end),
            last_picture: seam.and_then(|seam| seam.picture),
            sound_end: seam.and_then(|seam| seam.sound),
            effects: Vec::new(),
        }
    }

    pub(crate) fn last_end(&self) -> Option<MediaTime> {
        self.last_end
    }

    pub(crate) fn start(&self) -> Option<MediaTime> {
        self.current.as_ref().map(|c| c.start)
    }

    /// What came from here on is not in finished segments.
    pub(crate) fn needed_from(&self) -> Option<MediaTime> {
        self.current.as_ref().map(|open| open.needs_from)
    }

    /// A picture in its place; `fresh`: of another format than the one before it (size, or filler begins or ends).
    pub(crate) fn picture(&mut self, at: MediaTime, order: Order, key: bool, fresh: bool, data: &[u8], needs: Option<Needs>) {
        self.leave_hole(at);
        let shown = self.current.as_ref().is_some_and(|c| c.has_picture);
        let shortest = self.start().filter(|_| fresh && shown).map(|start| MediaTime(start.0 + SHORTEST));
        let at = shortest.map_or(at, |end| at.max(end));
        let length = self.start().map(|start| at.0 - start.0);
        match length {
            Some(_) if fresh && shown => self.cut(at, true),
            Some(length) if key && length >= self.segment90k - EARLY_90K => self.cut(at, false),
            Some(_) => self.cut_at_limit(at, data.len()),
            None => {}
        }
        let place = self.begin(at);
        self.mux.video(place + order.shown_after, place - order.decoded_before, key, data);
        self.wrote(data.len(), at.0 + FRAME_HOLD_90K);
        if let Some(open) = self.current.as_mut().filter(|c| !c.has_picture) {
            open.has_picture = true;
            open.independent = key;
        }
        if let (Some(open), Some(needs)) = (&mut self.current, needs) {
            open.needs_from = open.needs_from.min(needs.from);
            self.last_picture = needs.unit.or(self.last_picture);
        }
    }

    pub(crate) fn sound(&mut self, at: MediaTime, frame: Bytes) {
        let length = self.current.as_ref().map_or(0, |c| at.0 - c.start.0);
        if !self.streams.video && length >= self.segment90k {
            self.cut(at, false);
        }
        self.cut_at_limit(at, frame.len());
        let pts = self.begin(at);
        let bytes = frame.len();
        self.mux.audio(pts, frame);
        self.wrote(bytes, at.0 + FRAME_90K);
        self.sound_end = Some(MediaTime(at.0 + FRAME_90K));
    }

    /// While pictures are left out there is nothing to cut at but sound. Without it a segment ends with its last picture, and the next one is behind a
    /// hole, if it would be too long else.
    fn leave_hole(&mut self, at: MediaTime) {
        if let Some(end) = self.end_before(at) {
            self.cut(end, true);
        }
    }

    /// Where the last picture of what would be too long by `at` ends.
    fn end_before(&self, at: MediaTime) -> Option<MediaTime> {
        let (start, _) = self.start().zip(self.too_long90k).filter(|(start, limit)| at.0 - start.0 > *limit)?;
        self.last_end.map(|end| end.max(MediaTime(start.0 + SHORTEST))).filter(|end| *end < at)
    }

    fn cut_at_limit(&mut self, at: MediaTime, bytes: usize) {
        let Some(open) = &self.current else { return };
        if at.0 - open.start.0 >= self.hard90k || open.bytes + bytes as u64 > MAX_SEGMENT_BYTES {
            self.cut(at, false);
        }
    }

    /// Opens a segment if none is; returns the timestamp of `at`.
    fn begin(&mut self, at: MediaTime) -> i64 {
        let mut origin = *self.origin.get_or_insert(at);
        if self.current.is_none() {
            if at.0 - origin.0 >= VOLUME_90K {
                origin = at;
                self.next_volume(at);
            }
            self.open(at);
        }
        at.0 - origin.0 + FIRST_PTS
    }

    fn next_volume(&mut self, at: MediaTime) {
        self.origin = Some(at);
        self.discontinuity = false;
        self.mux.restart_clock();
        self.effects.push(Effect::NextVolume);
    }

    fn open(&mut self, at: MediaTime) {
        if let Some(end) = self.seam_end.take().filter(|end| at.0 - end.0 > SEAM_MAX) {
            self.discontinuity = true;
            self.effects.push(Effect::Gap { start: end, end: at, reason: GapReason::RecorderRestarted });
        }
        // Names are in milliseconds, and never twice the same.
        let wall_ms = (names::wall_at(self.epoch, at).0 / 1000).max(self.last_wall_ms + 1);
        self.last_wall_ms = wall_ms;
        self.current = Some(Open {
            n: self.next_n,
            name: names::segment_name(&self.base, WallMicros(wall_ms * 1000)),
            start: at,
            discontinuity: std::mem::take(&mut self.discontinuity),
            independent: !self.streams.video,
            has_picture: false,
            bytes: 0,
            needs_from: at,
        });
        self.next_n += 1;
        self.mux.begin_segment();
    }

    fn wrote(&mut self, bytes: usize, end: i64) {
        self.last_end = Some(self.last_end.map_or(MediaTime(end), |last| MediaTime(last.0.max(end))));
        if let Some(open) = &mut self.current {
            open.bytes += bytes as u64;
        }
    }

    fn cut(&mut self, at: MediaTime, discontinuity: bool) {
        self.close(at, !discontinuity);
        self.discontinuity = discontinuity;
    }

    /// The stay ends: what comes later is not continuous with it.
    pub(crate) fn end(&mut self, at: MediaTime) {
        // The last frame may reach beyond the end by less than its length; what comes later begins behind it.
        if let Some(start) = self.start() {
            let end = self.end_before(at).unwrap_or(at).max(MediaTime(start.0 + SHORTEST));
            self.close(end, false);
            self.last_end = self.last_end.max(Some(end));
        }
        self.discontinuity = self.origin.is_some();
        self.seam_end = None;
    }

    /// `continuous`: the next segment goes on from this one.
    fn close(&mut self, end: MediaTime, continuous: bool) {
        self.mux.flush_audio();
        self.flush();
        let Some(open) = self.current.take() else { return };
        assert!(end > open.start, "a segment has a length");
        self.effects.push(Effect::Close(Finished {
            n: open.n,
            name: open.name,
            start: open.start,
            end,
            wall: names::wall_at(self.epoch, open.start),
            discontinuity: open.discontinuity,
            independent: open.independent,
            needs_from: open.needs_from,
            continuation: Continuation {
                continuity_counters: self.mux.counters(),
                next_n: self.next_n,
                seam: Some(Seam {
                    end,
                    continuous,
                    sound: self.sound_end,
                    decoded: self.mux.last_decoded(),
                    clock: self.mux.clock(),
                    picture: self.last_picture,
                }),
            },
        }));
    }

    /// Hands out what the multiplexer has written.
    pub(crate) fn flush(&mut self) {
        let data = self.mux.take();
        if let (Some(open), false) = (&self.current, data.is_empty()) {
            self.effects.push(Effect::Append { n: open.n, name: open.name.clone(), start: open.start, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures whose clock was set back follow each other at once; where their size changes there is a cut all the same.
    #[test]
    fn a_segment_that_ends_where_it_began_has_a_length() {
        let beginning = Beginning {
            base: "p".into(),
            streams: Streams { video: true, audio: true },
            segment_seconds: 4,
            exact: false,
            epoch: WallMicros(0),
            continuation: Continuation::default(),
            earlier: None,
        };
        let mut segments = Segmenter::new(beginning);
        for at in 900_000..900_004 {
            segments.picture(MediaTime(at), Order::default(), true, true, &[0; 9], None);
        }
        segments.sound(MediaTime(900_000), Bytes::from_static(&[0; 9]));
        segments.end(MediaTime(990_000));
        let closed = segments.effects.iter().filter_map(|effect| match effect {
            Effect::Close(finished) => Some((finished.start.0, finished.end.0)),
            _ => None,
        });
        let spans: Vec<_> = closed.collect();
        assert_eq!(spans, [(900_000, 901_920), (901_920, 903_840), (903_840, 905_760), (905_760, 990_000)]);
    }
}
