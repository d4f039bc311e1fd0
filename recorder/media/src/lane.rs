//! One playlist's way from the delay lines of its tracks into its stream, event by event in order of media time.

mod events;

use crate::audio::{self, Sound};
use crate::clock::ParticipantClock;
use crate::composite::Composite;
use crate::room::Person;
use crate::segmenter::Beginning;
use crate::snapshots::{CameraSnapshots, CanvasSnapshots, SnapshotPlan};
use crate::stage::{Composition, Economy, Outlook};
use crate::stream::{Origin, PICTURE_SOON, Stream};
use crate::track::Track;
use crate::video::VideoEvent;
use crate::{Manifest, MediaTime, OpId, ParticipantKey, Source, Tick, TrackKey, Transcoded, UnitMark};
pub(crate) use events::LaneEvent;
use std::collections::{BTreeMap, VecDeque};

/// In a composite a picture that is not complete is waited for so long behind everything else.
const OPEN_PATIENCE: i64 = MediaTime::PER_SECOND;
/// The last step of an overload, behind those of [`Economy`].
const LEAVES_OUT: u8 = Economy::Tiles as u8 + 1;

/// Ticks <-> media time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaClock {
    pub at: Tick,
    pub base: MediaTime,
}

impl MediaClock {
    pub(crate) fn media(&self, tick_us: i64) -> MediaTime {
        MediaTime(self.base.0 + MediaTime::from_micros(tick_us - self.at.0 as i64).0)
    }

    pub(crate) fn media_at(&self, now: Tick) -> MediaTime {
        self.media(now.0 as i64)
    }
}

#[derive(Debug)]
pub(crate) struct Lane {
    /// None: not known yet, or everybody's.
    pub participant: Option<ParticipantKey>,
    /// Media up to here has left the lines.
    pub horizon: Option<MediaTime>,
    /// Index of its record in the manifest; None until the first media.
    pub record: Option<usize>,
    /// Something has left the lines for it.
    pub written: bool,
    /// Name without extension.
    pub base: String,
    pub tracks: Vec<TrackKey>,
    pub events: VecDeque<(MediaTime, LaneEvent)>,
    pub stream: Option<Stream>,
    /// Everybody is in it.
    composite: Option<Composite>,
    /// Whose microphone, or whose share, was heard last.
    last_sound: BTreeMap<(ParticipantKey, Source), TrackKey>,
    /// Cameras that are published and not muted.
    wanted: Option<TrackKey>,
    /// Until it has a stream.
    snapshots: Option<CameraSnapshots>,
}

/// What a lane needs of its session while it is pumped.
pub(crate) struct Surroundings<'a> {
    pub tracks: &'a mut BTreeMap<TrackKey, Track>,
    pub people: &'a BTreeMap<ParticipantKey, Person>,
    pub time: MediaClock,
    pub manifest: &'a mut Manifest,
}

impl Surroundings<'_> {
    /// When the next packet in line of a track stands, in microseconds of the tick.
    fn head_time(&mut self, key: TrackKey) -> Option<i64> {
        let track = self.tracks.get_mut(&key)?;
        track.head_time(clock_of(self.people, track)?)
    }

    /// The same, if it leaves the line by `bound`.
    fn due(&mut self, key: TrackKey, bound: MediaTime) -> Option<i64> {
        let us = self.head_time(key)?;
        let is_due = self.time.media(us) <= bound || self.tracks.get(&key).is_some_and(Track::is_over_full);
        is_due.then_some(us)
    }

    /// Of an RTP time of the SSRC that is leaving the line.
    fn time_of(&self, track: &Track, rtp: i64) -> Option<MediaTime> {
        track.time_of(rtp, clock_of(self.people, track)?).map(|us| self.time.media(us))
    }
}

pub(crate) fn clock_of<'a>(people: &'a BTreeMap<ParticipantKey, Person>, track: &Track) -> Option<&'a ParticipantClock> {
    people.get(&track.participant).map(|person| &person.clock)
}

impl Lane {
    fn new(participant: Option<ParticipantKey>, base: String) -> Self {
        Self {
            participant,
            horizon: None,
            record: None,
            written: false,
            base,
            tracks: Vec::new(),
            events: VecDeque::new(),
            stream: None,
            composite: None,
            last_sound: BTreeMap::new(),
            wanted: None,
            snapshots: None,
        }
    }

    /// `since`: media before this is an earlier process'.
    pub(crate) fn of_one(participant: Option<ParticipantKey>, base: String, plan: Option<SnapshotPlan>, since: MediaTime) -> Self {
        let snapshots = plan.map(|plan| CameraSnapshots::new(plan, since, &base));
        Self { snapshots, ..Self::new(participant, base) }
    }

    pub(crate) fn of_everybody(composition: Composition, base: String, plan: Option<SnapshotPlan>, since: MediaTime) -> Self {
        let snapshots = plan.map(|plan| CanvasSnapshots::new(plan, since, &base));
        Self { composite: Some(Composite::new(composition, snapshots)), ..Self::new(None, base) }
    }

    /// What will be in force when what is in the lines has left them. Of whom nothing that has come so far is of use then.
    pub(crate) fn foresee(&mut self, before: Outlook<'_>, after: Outlook<'_>) -> Vec<TrackKey> {
        self.composite.as_mut().map_or_else(Vec::new, |composite| composite.foresee(before, after))
    }

    /// See [`crate::Report`].
    pub(crate) fn overload_step(&self) -> u8 {
        let economy = self.composite.as_ref().map_or(Economy::Nothing, Composite::economy);
        if self.stream.as_ref().is_some_and(Stream::leaves_out) { LEAVES_OUT } else { economy as u8 }
    }

    pub(crate) fn start(&mut self, beginning: Beginning) {
        let mut stream = Stream::new(beginning);
        stream.camera(MediaTime(0), self.wanted.is_some());
        stream.takes_snapshots(self.snapshots.take());
        self.stream = Some(stream);
    }

    pub(crate) fn has_work(&self, tracks: &BTreeMap<TrackKey, Track>) -> bool {
        let live = self.stream.as_ref().is_some_and(|s| !s.is_drained());
        live || !self.events.is_empty() || self.tracks.iter().any(|k| tracks.get(k).is_some_and(|t| t.first_packet.is_some()))
    }

    /// Moves everything up to `horizon` from the lines into the stream.
    pub(crate) fn pump(&mut self, around: &mut Surroundings, horizon: MediaTime) {
        loop {
            let next = self.events.front().map(|(at, _)| *at).filter(|at| *at <= horizon);
            let bound = next.unwrap_or(horizon);
            self.deliver(around, bound);
            let frontier = self.video_frontier(around, bound);
            match (&mut self.stream, &mut self.composite) {
                (Some(stream), Some(composite)) => {
                    composite.set_epoch(around.manifest.epoch_time);
                    composite.advance(stream, bound, frontier);
                }
                (Some(stream), None) => stream.advance(bound, frontier),
                (None, _) => {}
            }
            let Some((at, event)) = self.events.pop_front_if(|(at, _)| *at <= horizon) else { break };
            self.apply(around, at, event);
        }
        self.horizon = Some(horizon);
    }

    /// The stay ends.
    pub(crate) fn end(&mut self, at: MediaTime) {
        match (&mut self.stream, &mut self.composite) {
            (Some(stream), Some(composite)) => composite.end(stream, at),
            (Some(stream), None) => stream.end(at),
            (None, _) => {}
        }
    }

    /// The transcoder's answer.
    pub(crate) fn transcoded(&mut self, op: OpId, result: Transcoded) {
        let Some(stream) = &mut self.stream else { return };
        for (track, at) in stream.transcoded(op, result) {
            self.composite.iter_mut().for_each(|composite| composite.stuck(track, at));
        }
    }

    /// Every event, before any media.
    pub(crate) fn apply_all(&mut self, around: &mut Surroundings) {
        while let Some((at, event)) = self.events.pop_front() {
            self.apply(around, at, event);
        }
    }

    fn deliver(&mut self, around: &mut Surroundings, bound: MediaTime) {
        // What is taken from one track moves no other's head: of many people each is looked at once, not with every packet.
        let mut heads: Vec<(TrackKey, Option<i64>)> = self.tracks.iter().map(|key| (*key, around.due(*key, bound))).collect();
        while let Some((_, n)) = heads.iter().enumerate().filter_map(|(n, (_, us))| Some(((*us)?, n))).min() {
            let (key, us) = heads[n];
            let Some(us) = us else { break };
            self.deliver_one(around, key, around.time.media(us), us);
            heads[n].1 = around.due(key, bound);
        }
    }

    fn deliver_one(&mut self, around: &mut Surroundings, key: TrackKey, at: MediaTime, us: i64) {
        // It matters to the first sound of a stay.
        let begins = self.stream.as_ref().is_some_and(|stream| !stream.is_live());
        let soon = begins && self.picture_soon(around, at);
        let Some(track) = around.tracks.get_mut(&key) else { return };
        let Some((missing, held, fresh)) = track.pop(us) else { return };
        let unit = UnitMark { ssrc: track.ssrc(), rtp: held.rtp as u32, at };
        around.manifest.tracks[track.record].lost(missing, unit, track.replayed);
        if track.is_video() {
            for event in track.picture_events(missing, &held) {
                self.picture(around, key, event);
            }
        } else if !held.payload.is_empty() {
            let at = audio::captured(at);
            self.sound(around, key, unit, Sound { at, lost_before: missing, fresh, payload: held.payload }, soon);
        }
    }

    /// A camera's picture is in the line, not more than a second behind `at`.
    fn picture_soon(&self, around: &mut Surroundings, at: MediaTime) -> bool {
        self.tracks.iter().any(|key| {
            if !around.tracks.get(key).is_some_and(Track::is_video) {
                return false;
            }
            let head = around.head_time(*key).map(|us| around.time.media(us));
            let open = || around.tracks.get(key).and_then(|t| around.time_of(t, t.video.open()?));
            head.or_else(open).is_some_and(|head| head.0 - at.0 < PICTURE_SOON)
        })
    }

    fn sound(&mut self, around: &mut Surroundings, key: TrackKey, unit: UnitMark, mut sound: Sound, soon: bool) {
        // Of two microphones of one person the one published last is heard, a change of device: from its first sound on, and not from its
        // publication, which is known while the other's last seconds are still in the line.
        let place = |key: TrackKey| self.tracks.iter().position(|k| *k == key);
        let (Some(track), Some(stream)) = (around.tracks.get(&key), &mut self.stream) else { return };
        let whose = (track.participant, track.source);
        let superseded = self.last_sound.get(&whose).is_some_and(|last| place(*last) > place(key));
        let record = &mut around.manifest.tracks[track.record];
        record.receives(1, unit, track.replayed);
        if superseded {
            return;
        }
        let last = self.last_sound.insert(whose, key);
        sound.fresh |= last != Some(key);
        let used = match &mut self.composite {
            Some(composite) => {
                // Its voice begins where the other's ended.
                last.filter(|last| *last != key).into_iter().for_each(|last| composite.silence(last));
                composite.sound(stream, key, &sound, soon)
            }
            None => stream.sound(&sound, soon),
        };
        if used {
            record.writes(unit, track.replayed);
        }
    }

    fn picture(&mut self, around: &mut Surroundings, key: TrackKey, event: VideoEvent) {
        let rtp = match &event {
            VideoEvent::Picture(p) => p.rtp,
            VideoEvent::Unusable { rtp } | VideoEvent::Blank { rtp } => *rtp,
        };
        let Some(at) = around.tracks.get(&key).and_then(|track| around.time_of(track, rtp)) else { return };
        let (Some(track), Some(stream)) = (around.tracks.get_mut(&key), &mut self.stream) else { return };
        let record = &mut around.manifest.tracks[track.record];
        let unit = UnitMark { ssrc: track.ssrc(), rtp: rtp as u32, at };
        record.receives(track.video.take_received(), unit, track.replayed);
        match event {
            VideoEvent::Picture(picture) => {
                if std::mem::take(&mut track.blank) {
                    match &mut self.composite {
                        Some(composite) => composite.camera(at, key, !track.muted),
                        None => stream.camera(at, !track.muted),
                    }
                }
                record.saw(at, picture.size);
                let reason = track.transcodes(picture.key, picture.rotation);
                record.transcoded = record.transcoded.or(reason);
                let Track { record, codec, replayed, .. } = *track;
                let origin = Origin { track: key, record, unit, codec, transcode: reason.is_some(), replayed };
                match &mut self.composite {
                    Some(composite) => composite.picture(at, picture, &origin),
                    None => stream.picture(at, picture, &origin),
                }
            }
            VideoEvent::Unusable { .. } => {
                match &mut self.composite {
                    Some(composite) => composite.lost(key),
                    None => stream.lost(),
                }
                if !track.video.in_sync {
                    track.need_key();
                }
            }
            VideoEvent::Blank { .. } => {
                if !std::mem::replace(&mut track.blank, true) {
                    match &mut self.composite {
                        Some(composite) => composite.camera(at, key, false),
                        None => stream.camera(at, false),
                    }
                }
            }
        }
    }

    /// No picture before this time will come any more.
    fn video_frontier(&self, around: &Surroundings, bound: MediaTime) -> MediaTime {
        let cameras = self.tracks.iter().filter_map(|key| around.tracks.get(key).filter(|t| t.is_video()));
        let frontiers = cameras.map(|track| {
            // What one camera owes must not hold up everybody.
            let patience = if self.composite.is_some() { OPEN_PATIENCE } else { i64::MAX };
            let open = track
                .video
                .open()
                .and_then(|rtp| around.time_of(track, rtp))
                .map(|open| open.max(MediaTime(bound.0.saturating_sub(patience))));
            MediaTime(open.unwrap_or(bound).min(bound).0 - track.video.reordering().min(patience))
        });
        frontiers.fold(bound, MediaTime::min)
    }
}
