//! Everybody in one playlist: pictures go to the stage, which makes frames of them; sound becomes voices, which the driver mixes.

mod cameras;

use crate::audio::{AudioChain, Sound};
use crate::pictures::{Composing, Provenance};
use crate::room::Person;
use crate::segmenter::Effect;
use crate::snapshots::CanvasSnapshots;
use crate::stage::{Change, Composition, Economy, Frame, Outlook, Stage};
use crate::stream::{Made, Origin, PICTURE_SOON, Stream};
use crate::track::is_video;
use crate::video::Picture;
use crate::{AudioOp, GapReason, MediaTime, ParticipantKey, Source, SourceUnit, TrackKey, VoiceOp, WallMicros};
use cameras::{Cameras, Whose};
use std::collections::{BTreeMap, BTreeSet};

/// Of what may wait for the transcoder (a minute, 32 MB), in hundredths: from there on less is composed, early enough that what waits already can be
/// worked off meanwhile ...
const LAYERS_PERCENT: i64 = 55;
const RATE_PERCENT: i64 = 60;
const TILES_PERCENT: i64 = 80;
/// ... until no more than this waits.
const RECOVERED_PERCENT: i64 = 16;

#[derive(Debug)]
pub(crate) struct Composite {
    stage: Stage<Unit>,
    cameras: Cameras,
    voices: BTreeMap<TrackKey, AudioChain>,
    /// Of whom something is taken, until they leave.
    present: BTreeSet<ParticipantKey>,
    /// What comes is of a journal.
    replayed: bool,
    /// Frames are left out: cameras of which something was in them.
    stale: BTreeSet<TrackKey>,
    /// When the first unit came: nothing is missing before that.
    since: Option<MediaTime>,
    /// What the session is to do or to know.
    effects: Vec<Effect>,
    /// Voices that nothing comes of any more.
    silenced: Vec<TrackKey>,
    economy: Economy,
    snapshots: Option<CanvasSnapshots>,
}

/// An access unit on its way to a frame.
#[derive(Debug)]
struct Unit {
    of: Provenance,
    data: SourceUnit,
}

impl Composite {
    pub(crate) fn new(composition: Composition, snapshots: Option<CanvasSnapshots>) -> Self {
        Self {
            stage: Stage::new(composition),
            cameras: Cameras::default(),
            voices: BTreeMap::new(),
            present: BTreeSet::new(),
            replayed: false,
            stale: BTreeSet::new(),
            since: None,
            effects: Vec::new(),
            silenced: Vec::new(),
            economy: Economy::default(),
            snapshots,
        }
    }

    /// In force from the next frame on.
    pub(crate) fn compose(&mut self, at: MediaTime, composition: Composition) {
        self.stage.change(at, Change::Compose(composition));
    }

    pub(crate) const fn set_epoch(&mut self, epoch: Option<WallMicros>) {
        self.stage.set_epoch(epoch);
    }

    pub(crate) fn foresee(&mut self, before: Outlook<'_>, after: Outlook<'_>) -> Vec<TrackKey> {
        self.stage.foresee(before, after)
    }

    /// An earlier process had these on its stage, in this order.
    pub(crate) fn expect(&mut self, at: MediaTime, order: Vec<(String, bool)>) {
        self.stage.change(at, Change::Expect(order));
    }

    pub(crate) const fn economy(&self) -> Economy {
        self.economy
    }

    /// Nobody is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// Somebody's track is taken; a camera shows nothing before [`Self::camera`] says that it should send.
    pub(crate) fn enters(&mut self, at: MediaTime, (participant, person): (ParticipantKey, &Person), source: Source, track: TrackKey) {
        self.present.insert(participant);
        match source {
            Source::ScreenShareAudio => {}
            _ if is_video(source) => {
                let whose = (participant, source == Source::ScreenShare);
                self.cameras.enters(track, whose, &person.identity);
                self.snapshots.iter_mut().for_each(|snapshots| snapshots.enters(track, source, &person.escaped));
                self.choose(at, whose);
            }
            _ => {
                let uid = person.identity.clone();
                self.stage.change(at, Change::Published { participant, uid, screen: false, video: None });
            }
        }
    }

    /// A camera should send (true), or is muted or sends the SFU's filler (false).
    pub(crate) fn camera(&mut self, at: MediaTime, track: TrackKey, wanted: bool) {
        let Some(camera) = self.cameras.get_mut(track).filter(|camera| camera.wanted != wanted) else { return };
        if camera.is_shown() {
            if !wanted {
                self.effects.extend(camera.holes(at, true, self.since));
            }
            self.stage.change(at, if wanted { Change::On(track) } else { Change::Off(track) });
        }
        (camera.wanted, camera.last) = (wanted, wanted.then_some(at));
        let whose = camera.whose;
        whose.into_iter().for_each(|whose| self.choose(at, whose));
    }

    /// A track is withdrawn, or left out from now on.
    pub(crate) fn withdrawn(&mut self, at: MediaTime, track: TrackKey) {
        self.camera(at, track, false);
        if let Some(camera) = self.cameras.remove(track) {
            self.stage.change(at, Change::Unpublished(track));
            camera.whose.into_iter().for_each(|whose| self.choose(at, whose));
        }
        self.silence(track);
    }

    /// Of somebody's cameras the right one is shown from now on.
    fn choose(&mut self, at: MediaTime, whose: Whose) {
        let Some((before, track, identity)) = self.cameras.choose(whose) else { return };
        if let Some(before) = before {
            self.effects.extend(before.holes(at, true, self.since));
            before.last = None;
        }
        let ((participant, screen), uid) = (whose, identity.to_owned());
        self.stage.change(at, Change::Published { participant, uid, screen, video: Some(track) });
        let Some(camera) = self.cameras.get_mut(track) else { return };
        camera.last = camera.wanted.then_some(at);
        self.stage.change(at, if camera.wanted { Change::On(track) } else { Change::Off(track) });
    }

    /// Nothing more is heard by this track.
    pub(crate) fn silence(&mut self, track: TrackKey) {
        if self.voices.remove(&track).is_some() {
            self.silenced.push(track);
        }
    }

    pub(crate) fn left(&mut self, at: MediaTime, participant: ParticipantKey) {
        self.present.remove(&participant);
        self.cameras.left(participant);
        self.stage.change(at, Change::Left(participant));
    }

    pub(crate) fn picture(&mut self, at: MediaTime, picture: Picture, origin: &Origin) {
        self.replayed = origin.replayed;
        let camera = self.cameras.of(origin.track);
        if picture.key {
            camera.key_at = Some(at);
        }
        let Some(key_at) = camera.key_at.filter(|_| camera.may_be_shown()) else { return };
        self.effects.extend(camera.holes(at, picture.key, self.since));
        self.since.get_or_insert(at);
        camera.last = Some(at);
        let &Origin { track, record, unit, codec, replayed, .. } = origin;
        let of = Provenance { record, unit, key_at, replayed };
        let Picture { key, rotation, data, .. } = picture;
        self.stage.unit(at, track, key, Unit { of, data: SourceUnit { codec, data, key, rotation } });
    }

    /// Pictures of this track were lost: the last one holds.
    pub(crate) fn lost(&mut self, track: TrackKey) {
        if let Some(camera) = self.cameras.get_mut(track).filter(|camera| camera.may_be_shown() && camera.key_at.is_some()) {
            camera.hole = camera.hole.or(camera.last);
        }
    }

    /// What the driver's decoder of this track knows is of no use.
    pub(crate) fn stuck(&mut self, track: TrackKey, at: MediaTime) {
        let key = self.stage.stuck(track, at);
        let Some(camera) = self.cameras.get_mut(track).filter(|camera| camera.may_be_shown()) else { return };
        match key {
            Some(end) => self.effects.extend((at < end).then_some(Effect::Gap { start: at, end, reason: GapReason::Undecodable })),
            None => camera.stuck = camera.stuck.or(Some(at)),
        }
    }

    /// A packet of a microphone; `soon`: a first picture is on its way. Returns whether it was used.
    pub(crate) fn sound(&mut self, stream: &mut Stream, track: TrackKey, sound: &Sound, soon: bool) -> bool {
        self.since.get_or_insert(sound.at);
        if !stream.is_live() {
            stream.begin(self.stage.begins().map_or(sound.at, |first| first.min(sound.at)), false);
        }
        self.stage.begin_by(MediaTime(sound.at.0 + if soon { PICTURE_SOON } else { 0 }));
        let voice = self.voices.entry(track).or_insert_with(|| {
            let mut voice = AudioChain::default();
            voice.begin(sound.at);
            let at = stream.audio.place_of(sound.at);
            stream.audio.order(AudioOp::Voice(track, VoiceOp::Begin { at }));
            voice
        });
        let used = voice.sound(sound);
        give(stream, track, voice);
        used
    }

    /// All units up to `to` were given; no picture before `known` will come.
    pub(crate) fn advance(&mut self, stream: &mut Stream, to: MediaTime, known: MediaTime) {
        self.hand_on(stream);
        self.economise(stream, known);
        self.frames(stream, known, MediaTime(i64::MAX));
        stream.tell(self.stage.take_sizes().into_iter().map(|(track, size)| Effect::Size(track, size)));
        let mut mixed = to;
        for (track, voice) in &mut self.voices {
            voice.advance(to);
            give(stream, *track, voice);
            mixed = voice.cursor().map_or(mixed, |cursor| mixed.min(cursor));
        }
        stream.advance(mixed, self.stage.frontier(known));
        stream.tell(self.stage.take_needs_key().into_iter().map(Effect::NeedKey));
    }

    /// What waits is worked off first; then less is asked for, step by step, until it is.
    fn economise(&mut self, stream: &mut Stream, at: MediaTime) {
        // A journal comes all at once.
        if self.replayed {
            return;
        }
        let before = self.economy;
        stream.economises(at, |percent| {
            self.economy = match percent {
                TILES_PERCENT.. => Economy::Tiles,
                RATE_PERCENT.. => before.max(Economy::Rate),
                LAYERS_PERCENT.. => before.max(Economy::Layers),
                ..=RECOVERED_PERCENT => Economy::Nothing,
                _ => before,
            };
            self.economy > Economy::Nothing
        });
        if self.economy != before {
            self.stage.economise(self.economy);
        }
    }

    fn hand_on(&mut self, stream: &mut Stream) {
        stream.tell(self.effects.drain(..));
        for track in self.silenced.drain(..) {
            stream.audio.order(AudioOp::Voice(track, VoiceOp::End));
        }
    }

    /// The stay ends: nothing that comes continues what was there.
    pub(crate) fn end(&mut self, stream: &mut Stream, at: MediaTime) {
        self.frames(stream, MediaTime(at.0.saturating_add(crate::stage::LOOK_AHEAD)), at);
        for camera in self.cameras.all().filter(|camera| camera.may_be_shown()) {
            self.effects.extend(camera.holes(at, true, self.since));
            (camera.last, camera.key_at) = (None, None);
        }
        // A journal ends with the stay that it breaks off.
        self.replayed = false;
        self.stale.clear();
        self.stage.end();
        self.silenced.extend(std::mem::take(&mut self.voices).into_keys());
        self.hand_on(stream);
        stream.end(at);
    }

    /// The frames that can be made when everything before `known` was told, as far as they are before `end`.
    fn frames(&mut self, stream: &mut Stream, known: MediaTime, end: MediaTime) {
        if !stream.has_pictures() {
            return;
        }
        let mut made = None;
        for mut frame in self.stage.frames(known).into_iter().filter(|frame| frame.at < end) {
            let units: Vec<_> = self.decodable(std::mem::take(&mut frame.units));
            let tracks: Vec<TrackKey> = units.iter().map(|(track, _)| *track).collect();
            let (of, units): (Vec<_>, Vec<_>) = units.into_iter().map(|(track, unit)| ((track, unit.of), (track, unit.data))).unzip();
            let Frame { at, canvas, encoding, needs_from, scene, cameras, .. } = frame;
            // The canvas' alone while there is too little time for everything.
            let cameras = if self.economy >= Economy::Tiles { Vec::new() } else { cameras };
            let snapshots = self.snapshots.as_ref().map_or_else(Vec::new, |snapshots| snapshots.due(at, &cameras));
            let moment = snapshots.first().map(|canvas| canvas.moment);
            let work = Composing { units, scene, encoding: Some(encoding), force_key: false, of, needs_from, snapshots };
            let now = *made.insert(stream.frame(at, (canvas.width, canvas.height), work, self.replayed));
            if now != Made::Nothing {
                self.snapshots.iter_mut().zip(moment).for_each(|(snapshots, moment)| snapshots.taken(moment));
            }
            if now != Made::Frame {
                self.stale.extend(tracks);
                self.stage.repeat_scene();
            }
        }
        // Key frames are asked for once there is use for them.
        if made == Some(Made::Frame) {
            for track in std::mem::take(&mut self.stale) {
                self.stage.lost(track);
            }
        }
    }

    /// Behind what was left out nothing is of use but a key frame.
    fn decodable(&mut self, units: Vec<(TrackKey, Unit)>) -> Vec<(TrackKey, Unit)> {
        let is_decodable = |(track, unit): &(TrackKey, Unit)| {
            if unit.data.key {
                self.stale.remove(track);
            }
            !self.stale.contains(track)
        };
        units.into_iter().filter(is_decodable).collect()
    }
}

/// What a voice orders goes in order with everything else of the sound.
fn give(stream: &mut Stream, track: TrackKey, voice: &mut AudioChain) {
    for op in voice.take_ops() {
        stream.audio.order(AudioOp::Voice(track, VoiceOp::Give(Box::new(op))));
    }
    stream.audio.holes.append(&mut voice.holes);
}
