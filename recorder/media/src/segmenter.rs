//! Units in order of time -> segments of one transport stream: where to cut, and what each segment is called.

use crate::audio::FRAME_90K;
use crate::names;
use crate::ts::{Streams, TsMuxer};
use crate::{AudioOp, GapReason, MediaTime, WallMicros};
use bytes::Bytes;

/// The first timestamp of a playlist: 10 s, so that no clock reference is negative.
const FIRST_PTS: i64 = 10 * MediaTime::PER_SECOND;
/// A key frame this much before the wished length is the cut.
const EARLY_90K: i64 = MediaTime::PER_SECOND / 2;
/// What a segment may be longer than wished before it is cut without a key frame.
pub(crate) const HARD_EXTRA_SECONDS: u32 = 14;
/// Cut this much before the hard limit: the unit that crosses it is known only when it comes.
const HARD_MARGIN_90K: i64 = MediaTime::PER_SECOND;
/// The longest a single picture holds; a playlist without sound has no other unit to cut at.
const LONGEST_HOLD_90K: i64 = 11 * MediaTime::PER_SECOND;
const MAX_SEGMENT_BYTES: u64 = 50 << 20;
/// How long a last picture is taken to last.
const FRAME_HOLD_90K: i64 = MediaTime::PER_SECOND / 30;

/// What a playlist wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Audio(AudioOp),
    Append { n: u32, name: String, data: Bytes },
    Close(Finished),
    Gap { start: MediaTime, end: MediaTime, reason: GapReason },
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
}

/// What a segmenter is told at its start.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// What names begin with.
    pub base: String,
    pub streams: Streams,
    pub segment_seconds: u32,
    pub epoch: WallMicros,
    /// Where an earlier process left off.
    pub counters: Vec<(u16, u8)>,
    pub next_n: u32,
    /// Start of the playlist's first segment and end of its last.
    pub earlier: Option<(MediaTime, MediaTime)>,
}

#[derive(Debug)]
pub(crate) struct Segmenter {
    base: String,
    streams: Streams,
    segment90k: i64,
    hard90k: i64,
    epoch: WallMicros,
    mux: TsMuxer,
    /// Media time of the playlist's first unit, where timestamps count from.
    origin: Option<MediaTime>,
    current: Option<Open>,
    next_n: u32,
    /// End of the last unit written.
    last_end: Option<MediaTime>,
    last_wall_ms: u64,
    discontinuity: bool,
    pub(crate) effects: Vec<Effect>,
}

impl Segmenter {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let segment90k = i64::from(beginning.segment_seconds) * MediaTime::PER_SECOND;
        let hard = segment90k + i64::from(HARD_EXTRA_SECONDS) * MediaTime::PER_SECOND;
        let margin = if beginning.streams.audio { HARD_MARGIN_90K } else { LONGEST_HOLD_90K };
        Self {
            mux: TsMuxer::new(beginning.streams, &beginning.counters),
            base: beginning.base,
            streams: beginning.streams,
            segment90k,
            hard90k: hard - margin,
            epoch: beginning.epoch,
            origin: beginning.earlier.map(|(start, _)| start),
            current: None,
            next_n: beginning.next_n,
            last_end: beginning.earlier.map(|(_, end)| end),
            last_wall_ms: 0,
            discontinuity: beginning.earlier.is_some(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn last_end(&self) -> Option<MediaTime> {
        self.last_end
    }

    pub(crate) fn start(&self) -> Option<MediaTime> {
        self.current.as_ref().map(|c| c.start)
    }

    pub(crate) fn counters(&self) -> Vec<(u16, u8)> {
        self.mux.counters()
    }

    pub(crate) fn next_n(&self) -> u32 {
        self.next_n
    }

    /// A picture; `fresh`: of another format than the one before it (size, or filler begins or ends).
    pub(crate) fn picture(&mut self, at: MediaTime, key: bool, fresh: bool, data: &[u8]) {
        let length = self.current.as_ref().map(|c| at.0 - c.start.0);
        let shown = self.current.as_ref().is_some_and(|c| c.has_picture);
        match length {
            Some(_) if fresh && shown => self.cut(at, true),
            Some(length) if key && length >= self.segment90k - EARLY_90K => self.cut(at, false),
            Some(_) => self.cut_at_limit(at, data.len()),
            None => {}
        }
        let pts = self.begin(at);
        self.mux.video(pts, key, data);
        self.wrote(data.len(), at.0 + FRAME_HOLD_90K);
        if let Some(open) = self.current.as_mut().filter(|c| !c.has_picture) {
            open.has_picture = true;
            open.independent = key;
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
    }

    fn cut_at_limit(&mut self, at: MediaTime, bytes: usize) {
        let Some(open) = &self.current else { return };
        if at.0 - open.start.0 >= self.hard90k || open.bytes + bytes as u64 > MAX_SEGMENT_BYTES {
            self.cut(at, false);
        }
    }

    /// Opens a segment if none is; returns the timestamp of `at`.
    fn begin(&mut self, at: MediaTime) -> i64 {
        let origin = *self.origin.get_or_insert(at);
        if self.current.is_none() {
            self.open(at);
        }
        at.0 - origin.0 + FIRST_PTS
    }

    fn open(&mut self, at: MediaTime) {
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
        self.close(at);
        self.discontinuity = discontinuity;
    }

    /// The stay ends: what comes later is not continuous with it.
    pub(crate) fn end(&mut self, at: MediaTime) {
        // The last frame may reach beyond the end by less than its length; what comes later begins behind it.
        if let Some(start) = self.start() {
            self.close(at.max(MediaTime(start.0 + 1)));
            self.last_end = self.last_end.max(Some(at));
        }
        self.discontinuity = self.origin.is_some();
    }

    fn close(&mut self, end: MediaTime) {
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
        }));
    }

    /// Hands out what the multiplexer has written.
    pub(crate) fn flush(&mut self) {
        let data = self.mux.take();
        if let (Some(open), false) = (&self.current, data.is_empty()) {
            self.effects.push(Effect::Append { n: open.n, name: open.name.clone(), data });
        }
    }
}
