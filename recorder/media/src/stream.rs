//! One playlist: pictures, sound and what stands in for them, merged in order of time.

mod holes;
mod joint;

use crate::audio::{self, AudioChain, Sound};
use crate::decode_times::Order;
use crate::filler;
use crate::h264::{self, ParameterSets};
use crate::pictures::{Acceptance, Composing, CutPlan, Format, Needs, Pictures, Provenance, Ready, Source};
use crate::segmenter::{self, Beginning, Effect, FRAME_HOLD_90K, Segmenter};
use crate::snapshots::CameraSnapshots;
use crate::ts::Streams;
use crate::video::Picture;
use crate::written::Written;
use crate::{Codec, Encoding, GapReason, MediaTime, OpId, TrackKey, Transcoded, UnitMark};
use bytes::Bytes;
use holes::Holes;
use joint::Joint;

const SECOND: i64 = MediaTime::PER_SECOND;
/// A muted camera's last picture holds this long (as the seed products do), then black begins.
const HOLD_MUTED: i64 = SECOND * 7 / 2;
/// A camera that should send but does not: its last picture holds this long.
const HOLD_SILENT: i64 = SECOND * 10;
/// Sound waits this long for a picture that is already on its way, before black begins.
pub(crate) const PICTURE_SOON: i64 = SECOND;
/// Pictures that are decoded in another order than they are shown in may come this much behind the sound: an interval of slow video.
const BEHIND_SOUND: i64 = SECOND / 20;
/// While frames of a composite are left out, one is made this often ...
const HELD_APART: i64 = SECOND;
/// ... but only one of so many.
const HELD_FRAMES: i64 = 8;
/// One black picture per second.
const FILLER_INTERVAL: i64 = SECOND;

/// What became of a frame of a composite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Frame,
    /// The encoder is too far behind, but there was none for a second: players do not go on where the next picture is far.
    Still,
    /// The encoder is too far behind.
    Nothing,
}

/// Where a picture comes from and what has to be done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub track: TrackKey,
    /// Index in the manifest's tracks.
    pub record: usize,
    pub unit: UnitMark,
    pub codec: Codec,
    pub transcode: bool,
    /// Its track was replayed.
    pub replayed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Showing {
    Nothing,
    Camera(Format),
    Filler,
}

#[derive(Debug)]
pub(crate) struct Stream {
    streams: Streams,
    joint: Joint,
    /// Of a composite: every picture is ours, nothing has to stand in for one.
    composite: bool,
    pub(crate) audio: AudioChain,
    pictures: Pictures,
    plan: CutPlan,
    /// A stay is running: units are written, what is missing is filled.
    live: bool,
    showing: Showing,
    /// When the next black picture is due if no real one comes.
    filler_due: MediaTime,
    fillers: u64,
    /// A camera is published and not muted: its absence is a gap.
    camera_wanted: bool,
    last_picture: Option<MediaTime>,
    holes: Holes,
    video_frontier: MediaTime,
    /// Time of the sound that was written last.
    sound_written: MediaTime,
    written: Written,
    /// When the publisher's last key frame was.
    key_at: MediaTime,
    segments: Segmenter,
    /// Of one person's pictures.
    snapshots: Option<CameraSnapshots>,
}

impl Stream {
    pub(crate) fn new(beginning: Beginning) -> Self {
        Self {
            streams: beginning.streams,
            joint: Joint::new(beginning.continuation.seam),
            composite: beginning.exact,
            audio: if beginning.exact { AudioChain::of_composite() } else { AudioChain::default() },
            pictures: Pictures::default(),
            plan: CutPlan::new(i64::from(beginning.segment_seconds) * SECOND, segmenter::EARLY_90K),
            live: false,
            showing: Showing::Nothing,
            filler_due: MediaTime(i64::MAX),
            fillers: 0,
            camera_wanted: false,
            last_picture: None,
            holes: Holes::default(),
            video_frontier: MediaTime(i64::MIN),
            sound_written: MediaTime(i64::MIN),
            written: Written::default(),
            key_at: MediaTime(0),
            segments: Segmenter::new(beginning),
            snapshots: None,
        }
    }

    pub(crate) fn takes_snapshots(&mut self, snapshots: Option<CameraSnapshots>) {
        self.snapshots = snapshots;
    }

    /// Everything was written and every encoder answer has come.
    pub(crate) fn is_drained(&self) -> bool {
        !self.live && self.pictures.is_empty() && self.audio.idle()
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
        effects.extend(self.pictures.take_ops().into_iter().map(|(op, work)| Effect::Video { op, work }));
        effects
    }

    /// A stay begins with a first unit at `at`; `picture_soon`: a camera's first picture is on its way.
    pub(crate) fn begin(&mut self, at: MediaTime, picture_soon: bool) {
        // What is not written yet of an earlier stay ends with its End; its last picture may last a little longer.
        let unwritten = self.pictures.back().map(|end| MediaTime(end.0 + FRAME_HOLD_90K));
        let start = at.max(self.segments.last_end().max(unwritten).unwrap_or(at));
        self.live = true;
        self.plan.begin(start);
        self.showing = Showing::Nothing;
        if self.streams.audio {
            match self.joint.sound_from(at) {
                Some(first) => self.audio.join(first),
                None => self.audio.begin(start),
            }
        }
        let wait = if picture_soon { PICTURE_SOON } else { 0 };
        let fills = self.streams.video && !self.composite;
        self.filler_due = if fills { MediaTime(start.0 + wait) } else { MediaTime(i64::MAX) };
        self.last_picture = Some(MediaTime(start.0 - 1));
    }

    /// From when on what came is not in finished segments yet, or what comes can be decoded only with it.
    pub(crate) fn needed_from(&self) -> Option<MediaTime> {
        let shows = self.live && matches!(self.showing, Showing::Camera(_));
        let key = Some(self.key_at).filter(|_| shows);
        [self.segments.needed_from(), self.pictures.oldest(), key].into_iter().flatten().min()
    }

    pub(crate) fn picture(&mut self, at: MediaTime, picture: Picture, origin: &Origin) {
        if picture.key {
            self.key_at = at;
        }
        if !self.live {
            if !picture.key {
                return;
            }
            // Sound that was captured with it comes out of its decoder as if it were older.
            self.begin(if self.streams.audio { audio::captured(at) } else { at }, true);
        }
        if picture.key && !origin.transcode {
            self.key_snapshot(at, &picture, origin);
        }
        let hold = if self.camera_wanted { HOLD_SILENT } else { HOLD_MUTED };
        if self.joint.has_picture(&origin.unit) {
            self.filler_due = self.filler_due.max(MediaTime(at.0 + hold));
            return self.push_again(at, picture, origin);
        }
        if origin.transcode && !origin.replayed && !self.accepts(at, picture.key, origin.track) {
            return;
        }
        self.fill(at);
        let resumed = self.holes.break_off();
        self.close_holes(at);
        self.push_camera(at, picture, origin, resumed);
        self.filler_due = MediaTime(at.0 + hold);
    }

    /// What passes untouched is not decoded but for this.
    fn key_snapshot(&mut self, at: MediaTime, picture: &Picture, origin: &Origin) {
        let snapshot = self.snapshots.as_mut().and_then(|snapshots| snapshots.take(at));
        let effect = |snapshot| Effect::Snapshot { snapshot, codec: origin.codec, data: picture.data.clone() };
        self.segments.effects.extend(snapshot.map(effect));
    }

    /// It is in a finished segment: what follows may need it in order to be decoded.
    fn push_again(&mut self, at: MediaTime, picture: Picture, origin: &Origin) {
        if !origin.transcode {
            return;
        }
        let at = self.joint.again(at);
        let of = self.provenance(origin);
        let Picture { key, rotation, data, .. } = picture;
        let snapshot = self.snapshots.as_mut().and_then(|snapshots| snapshots.take(at));
        let source = Source { track: origin.track, of, codec: origin.codec, key, rotation, force_key: false, again: true, data, snapshot };
        self.pictures.transcode(at, source);
    }

    fn provenance(&self, origin: &Origin) -> Provenance {
        let &Origin { record, unit, replayed, .. } = origin;
        Provenance { record, unit, key_at: self.key_at, replayed }
    }

    fn accepts(&mut self, at: MediaTime, key: bool, track: TrackKey) -> bool {
        let acceptance = self.pictures.accepts(at, key);
        if acceptance == Acceptance::WantsKey {
            self.segments.effects.push(Effect::NeedKey(track));
        }
        if acceptance != Acceptance::Accepted {
            self.holes.leave_out(self.last_picture);
        }
        acceptance == Acceptance::Accepted
    }

    fn push_camera(&mut self, at: MediaTime, picture: Picture, origin: &Origin, resumed: bool) {
        let format = match origin.transcode {
            true => Format::Transcoded(origin.codec, picture.upright_size()),
            false => Format::Passed(picture.size),
        };
        let Picture { key, order, rotation, data, .. } = picture;
        let fresh = self.showing != Showing::Camera(format);
        self.showing = Showing::Camera(format);
        let joined = self.joint.join(at);
        let at = self.next_time(joined);
        let &Origin { track, codec, transcode, .. } = origin;
        let of = self.provenance(origin);
        if transcode {
            let force_key = fresh || resumed || self.plan.is_due(at);
            self.plan.picture(at, force_key, fresh);
            let snapshot = self.snapshots.as_mut().and_then(|snapshots| snapshots.take(at));
            self.pictures.transcode(at, Source { track, of, codec, key, rotation, force_key, again: false, data, snapshot });
        } else {
            self.plan.picture(at, key, fresh);
            self.pictures.retire();
            let (needs, of) = (Some(Needs::from(&of)), vec![of]);
            self.pictures.push(at, Ready::Picture { order, key, format, data, needs, of, again: false });
        }
    }

    /// Output timestamps strictly increase, and nothing comes behind what is written already, whatever the clocks did.
    fn next_time(&mut self, at: MediaTime) -> MediaTime {
        let at = self
            .last_picture
            .max(self.joint.last_again())
            .map_or(at, |last| at.max(MediaTime(last.0 + 1)))
            .max(MediaTime(self.sound_written.0.saturating_sub(BEHIND_SOUND)));
        self.last_picture = Some(at);
        at
    }

    pub(crate) fn has_pictures(&self) -> bool {
        self.streams.video
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// What else the session is to do, or to know.
    pub(crate) fn tell(&mut self, effects: impl IntoIterator<Item = Effect>) {
        self.segments.effects.extend(effects);
    }

    /// How much of what may wait for the transcoder does, in hundredths; and whether less is made because of that.
    pub(crate) fn economises(&mut self, at: MediaTime, so: impl FnOnce(i64) -> bool) {
        self.pictures.economises = so(self.pictures.filled_percent(at));
    }

    /// A frame of a composite with a canvas of this size. `replayed`: of a journal, which comes all at once and is none too much.
    pub(crate) fn frame(&mut self, at: MediaTime, canvas: (u32, u32), frame: Composing, replayed: bool) -> Made {
        if !self.live {
            self.begin(at, false);
        }
        if self.joint.has_frame(at) {
            let at = self.joint.again(at);
            self.pictures.compose(at, Composing { encoding: None, ..frame });
            return Made::Frame;
        }
        let accepts = replayed || self.pictures.accepts(at, true) == Acceptance::Accepted;
        let resumed = accepts && self.holes.leaves_out();
        if accepts {
            self.close_holes(at);
        } else {
            self.holes.leave_out(self.last_picture);
            if !self.is_held_due(at, frame.encoding) {
                return Made::Nothing;
            }
        }
        let format = Format::Composed(canvas);
        let fresh = self.showing != Showing::Camera(format);
        self.showing = Showing::Camera(format);
        let at = self.next_time(at);
        let force_key = fresh || resumed || self.plan.is_due(at);
        self.plan.picture(at, force_key, fresh);
        self.key_at = frame.needs_from;
        self.pictures.compose(at, Composing { force_key, ..frame });
        if accepts { Made::Frame } else { Made::Still }
    }

    /// A frame is made although frames are left out.
    fn is_held_due(&self, at: MediaTime, encoding: Option<Encoding>) -> bool {
        let rate = encoding.map_or(1, |encoding| i64::from(encoding.frames_per_second.max(1)));
        let apart = HELD_APART.max(HELD_FRAMES * SECOND / rate);
        // A segment is cut where one begins.
        let is_due = self.plan.is_due(at) || self.last_picture.is_none_or(|last| at.0 - last.0 >= apart);
        is_due && self.pictures.may_hold(at)
    }

    /// What is transcoded of this stream needs no transcoder for now: its track is gone.
    pub(crate) fn retire(&mut self) {
        self.pictures.retire();
    }

    /// The transcoder's answer; tracks of which nothing can be decoded until a key frame, and since when.
    pub(crate) fn transcoded(&mut self, op: OpId, result: Transcoded) -> Vec<(TrackKey, MediaTime)> {
        let stuck = self.pictures.answered(op, result);
        self.segments.effects.extend(stuck.iter().map(|(track, _)| Effect::NeedKey(*track)));
        self.merge();
        stuck
    }

    /// The transcoder is not waited for any longer.
    pub(crate) fn give_up_pictures(&mut self) {
        self.pictures.give_up();
        self.merge();
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        self.pictures.is_overloaded()
    }

    /// Pictures are left out.
    pub(crate) fn leaves_out(&self) -> bool {
        self.pictures.leaves_out()
    }

    /// Pictures that wait for the transcoder.
    pub(crate) fn waiting90k(&self) -> i64 {
        self.pictures.back().map_or(0, |newest| self.pictures.behind(newest))
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
            self.holes.lose(self.last_picture);
        }
    }

    fn close_holes(&mut self, at: MediaTime) {
        self.segments.effects.extend(self.holes.close(at));
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
                self.holes.begin_absence(at);
            }
            self.showing = Showing::Filler;
            let nals = filler::black(self.fillers);
            let mut sets = ParameterSets::default();
            sets.learn(&nals);
            self.fillers += 1;
            let data = h264::annex_b(&nals, true, &sets, &[]);
            let due = self.next_time(at);
            self.plan.picture(due, true, fresh);
            let (order, format) = (Order::default(), Format::Filler);
            self.pictures.push(due, Ready::Picture { order, key: true, format, data, needs: None, of: Vec::new(), again: false });
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
        self.pictures.push(at, Ready::End);
        self.pictures.retire();
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
            let unit = self.pictures.front();
            let sound = self.audio.ready.front().map(|(at, _)| *at);
            let sound_frontier = if self.streams.audio { self.audio.frontier() } else { MediaTime(i64::MAX) };
            let video_from = match unit {
                Some((at, _)) => at,
                None if self.streams.video => self.video_frontier,
                None => MediaTime(i64::MAX),
            };
            match (unit, sound) {
                (_, Some(at)) if at < video_from => self.write_sound(),
                (Some((at, true)), _) if at <= sound_frontier || self.gave_up() => self.write_unit(),
                _ => break,
            }
        }
        // In larger pieces: while answers of the encoder are outstanding, more is about to be written.
        if self.audio.idle() {
            self.segments.flush();
        }
    }

    /// At the end of a stay nothing more comes once the encoder has answered everything.
    fn gave_up(&self) -> bool {
        self.pictures.next_is_end() && self.audio.idle()
    }

    fn write_sound(&mut self) {
        if let Some((at, frame)) = self.audio.ready.pop_front() {
            if self.joint.has_sound(at) {
                return;
            }
            self.sound_written = at;
            self.segments.sound(at, frame);
        }
    }

    fn write_unit(&mut self) {
        if let Some((at, ready)) = self.pictures.pop() {
            self.written.unit(at, ready, &mut self.segments);
            self.plan.cut(self.segments.start());
        }
    }
}
