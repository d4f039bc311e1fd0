//! One playlist: pictures, sound and what stands in for them, merged in order of time.

use crate::audio::{AudioChain, Sound};
use crate::filler;
use crate::h264::{self, ParameterSets};
use crate::segmenter::{Beginning, Effect, Segmenter};
use crate::ts::Streams;
use crate::video::Picture;
use crate::{GapReason, MediaTime};
use bytes::Bytes;
use std::collections::VecDeque;

const SECOND: i64 = MediaTime::PER_SECOND;
/// A muted camera's last picture holds this long (as the seed products do), then black begins.
const HOLD_MUTED: i64 = SECOND * 7 / 2;
/// A camera that should send but does not: its last picture holds this long.
const HOLD_SILENT: i64 = SECOND * 10;
/// Sound waits this long for a picture that is already on its way, before black begins.
pub(crate) const PICTURE_SOON: i64 = SECOND;
/// One black picture per second.
const FILLER_INTERVAL: i64 = SECOND;

#[derive(Debug)]
enum Unit {
    Picture { at: MediaTime, key: bool, fresh: bool, data: Bytes },
    End(MediaTime),
}

impl Unit {
    fn at(&self) -> MediaTime {
        match self {
            Unit::Picture { at, .. } | Unit::End(at) => *at,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Showing {
    Nothing,
    Camera((u32, u32)),
    Filler,
}

#[derive(Debug)]
pub(crate) struct Stream {
    streams: Streams,
    audio: AudioChain,
    queue: VecDeque<Unit>,
    /// A stay is running: units are written, what is missing is filled.
    live: bool,
    showing: Showing,
    /// When the next black picture is due if no real one comes.
    filler_due: MediaTime,
    fillers: u64,
    /// A camera is published and not muted: its absence is a gap.
    camera_wanted: bool,
    last_picture: Option<MediaTime>,
    /// Since when pictures are missing after a loss.
    hole: Option<MediaTime>,
    /// Since when black stands in for a camera that should send.
    no_picture: Option<MediaTime>,
    video_frontier: MediaTime,
    segments: Segmenter,
}

impl Stream {
    pub(crate) fn new(beginning: Beginning) -> Self {
        Self {
            streams: beginning.streams,
            audio: AudioChain::default(),
            queue: VecDeque::new(),
            live: false,
            showing: Showing::Nothing,
            filler_due: MediaTime(i64::MAX),
            fillers: 0,
            camera_wanted: false,
            last_picture: None,
            hole: None,
            no_picture: None,
            video_frontier: MediaTime(i64::MIN),
            segments: Segmenter::new(beginning),
        }
    }

    pub(crate) fn segments(&self) -> &Segmenter {
        &self.segments
    }

    /// Everything was written and every encoder answer has come.
    pub(crate) fn is_drained(&self) -> bool {
        !self.live && self.queue.is_empty() && self.audio.idle()
    }

    /// What the playlist wants done; audio operations first, because the answers lead to more.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.audio.take_ops().into_iter().map(Effect::Audio).collect();
        let holes = std::mem::take(&mut self.audio.holes);
        effects.extend(holes.into_iter().map(|(start, length)| Effect::Gap {
            start,
            end: MediaTime(start.0 + length),
            reason: GapReason::PacketLoss,
        }));
        effects.append(&mut self.segments.effects);
        effects
    }

    /// A stay begins with a first unit at `at`; `picture_soon`: a camera's first picture is on its way.
    fn begin(&mut self, at: MediaTime, picture_soon: bool) {
        let start = self.segments.last_end().map_or(at, |end| end.max(at));
        self.live = true;
        self.showing = Showing::Nothing;
        if self.streams.audio {
            self.audio.begin(start);
        }
        let wait = if picture_soon { PICTURE_SOON } else { 0 };
        self.filler_due = if self.streams.video { MediaTime(start.0 + wait) } else { MediaTime(i64::MAX) };
        self.last_picture = Some(MediaTime(start.0 - 1));
    }

    pub(crate) fn picture(&mut self, at: MediaTime, picture: Picture) {
        if !self.live {
            if !picture.key {
                return;
            }
            self.begin(at, true);
        }
        self.fill(at);
        self.close_holes(at);
        let fresh = self.showing != Showing::Camera(picture.size);
        self.showing = Showing::Camera(picture.size);
        self.push_picture(at, picture.key, fresh, picture.data);
        self.filler_due = MediaTime(at.0 + if self.camera_wanted { HOLD_SILENT } else { HOLD_MUTED });
    }

    fn push_picture(&mut self, at: MediaTime, key: bool, fresh: bool, data: Bytes) {
        // Output timestamps strictly increase, whatever the clocks did.
        let at = self.last_picture.map_or(at, |last| at.max(MediaTime(last.0 + 1)));
        self.last_picture = Some(at);
        self.queue.push_back(Unit::Picture { at, key, fresh, data });
    }

    pub(crate) fn sound(&mut self, sound: &Sound, picture_soon: bool) -> bool {
        if !self.live {
            self.begin(sound.at, picture_soon);
        }
        self.audio.sound(sound)
    }

    /// Pictures were lost: the last one holds.
    pub(crate) fn lost(&mut self) {
        if let (true, Showing::Camera(_)) = (self.live, self.showing) {
            self.hole = self.hole.or(self.last_picture);
        }
    }

    fn close_holes(&mut self, at: MediaTime) {
        let open = [(self.hole.take(), GapReason::PacketLoss), (self.no_picture.take(), GapReason::NoPicture)];
        for (start, reason) in open {
            if let Some(start) = start.filter(|s| *s < at) {
                self.segments.effects.push(Effect::Gap { start, end: at, reason });
            }
        }
    }

    /// A camera is published and sends (true), or is muted, unpublished or gone (false).
    pub(crate) fn camera(&mut self, at: MediaTime, wanted: bool) {
        self.camera_wanted = wanted;
        if let (true, Showing::Camera(_)) = (self.live, self.showing) {
            let hold = if wanted { HOLD_SILENT } else { HOLD_MUTED };
            let from = if wanted { self.last_picture.unwrap_or(at) } else { at };
            let due = MediaTime(from.0.max(at.0) + hold);
            self.filler_due = if wanted { due } else { due.min(self.filler_due) };
        }
        if !wanted {
            self.close_holes(at);
        }
    }

    /// Black pictures that are due before `to`.
    fn fill(&mut self, to: MediaTime) {
        while self.live && self.streams.video && self.filler_due < to {
            let at = self.filler_due;
            let fresh = self.showing != Showing::Filler;
            if fresh && self.camera_wanted && self.showing != Showing::Nothing {
                self.no_picture = Some(at);
            }
            self.showing = Showing::Filler;
            let nals = filler::black(self.fillers);
            let mut sets = ParameterSets::default();
            sets.learn(&nals);
            self.fillers += 1;
            self.push_picture(at, true, fresh, h264::annex_b(&nals, true, &sets, &[]));
            self.filler_due = MediaTime(at.0 + FILLER_INTERVAL);
        }
    }

    /// All units up to `to` were given; none of video before `video_frontier` will come.
    pub(crate) fn advance(&mut self, to: MediaTime, video_frontier: MediaTime) {
        self.fill(to.min(video_frontier));
        self.audio.advance(to);
        self.video_frontier = video_frontier;
        self.merge();
    }

    /// The stay ends: everybody of this playlist is gone, or the recording is over.
    pub(crate) fn end(&mut self, at: MediaTime) {
        if !self.live {
            return;
        }
        self.fill(at);
        self.close_holes(at);
        if self.streams.audio {
            self.audio.end(at);
        }
        self.queue.push_back(Unit::End(at));
        self.live = false;
        self.video_frontier = MediaTime(i64::MIN);
        self.merge();
    }

    pub(crate) fn finish(&mut self) {
        if self.streams.audio {
            self.audio.finish();
        }
    }

    pub(crate) fn encoded(&mut self, frames: Vec<Bytes>) {
        self.audio.encoded(frames);
        self.merge();
    }

    /// Writes what is certain to be next.
    fn merge(&mut self) {
        loop {
            let unit = self.queue.front().map(Unit::at);
            let sound = self.audio.ready.front().map(|(at, _)| *at);
            let sound_frontier = if self.streams.audio { self.audio.frontier() } else { MediaTime(i64::MAX) };
            let video_from = match unit {
                Some(at) => at,
                None if self.streams.video => self.video_frontier,
                None => MediaTime(i64::MAX),
            };
            match (unit, sound) {
                (_, Some(at)) if at < video_from => self.write_sound(),
                (Some(at), _) if at <= sound_frontier || self.gave_up(at) => self.write_unit(),
                _ => break,
            }
        }
        self.segments.flush();
    }

    /// At the end of a stay nothing more comes once the encoder has answered everything.
    fn gave_up(&self, at: MediaTime) -> bool {
        matches!(self.queue.front(), Some(Unit::End(end)) if *end == at) && self.audio.idle()
    }

    fn write_sound(&mut self) {
        if let Some((at, frame)) = self.audio.ready.pop_front() {
            self.segments.sound(at, frame);
        }
    }

    fn write_unit(&mut self) {
        match self.queue.pop_front() {
            Some(Unit::Picture { at, key, fresh, data }) => self.segments.picture(at, key, fresh, &data),
            Some(Unit::End(at)) => self.segments.end(at),
            None => {}
        }
    }
}
