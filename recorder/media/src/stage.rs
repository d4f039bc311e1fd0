//! Who is shown where at which moment, and which pictures make each frame of a composite: roster, rules of content, output clock.
//!
//! Told in order of media time what happens, each change before what comes at or behind it; answers with [`Frame`]s, one every 1/fps second of media time. `U` is an access unit.

mod economy;
mod feed;
mod images;

use crate::canvas::{Content, Scene, Tile, Yuv};
use crate::layout::{Canvas, Entry, Layout, Place, places};
use crate::{Encoding, MediaTime, ParticipantKey, TrackKey, WallMicros, names};
pub use economy::Economy;
use economy::{Sizes, is_shown};
use feed::Feed;
pub use images::{ImageKey, Images, Mark, UserImage, Visual, Watermark};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A camera that is switched off, or withdrawn, is shown this long, as the seed products do.
const HOLD_OFF: i64 = MediaTime::PER_SECOND * 7 / 2;
/// A camera that should send and does not is shown this long.
pub(crate) const HOLD_SILENT: i64 = MediaTime::PER_SECOND * 10;
/// A frame is made when pictures up to this much behind it are known: of two the nearer is shown. Slower pictures than 5 a second may be shown late.
pub const LOOK_AHEAD: i64 = MediaTime::PER_SECOND / 10;

/// What a job says of the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composition {
    pub layout: Layout,
    pub canvas: Canvas,
    pub background: Yuv,
    pub images: Images,
    pub encoding: Encoding,
}

/// One picture of the composite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<U> {
    pub at: MediaTime,
    pub canvas: Canvas,
    pub encoding: Encoding,
    /// To make it again takes what came from here on: the oldest key frame of those on the stage.
    pub needs_from: MediaTime,
    /// None: as the frame before.
    pub scene: Option<Scene<Visual>>,
    /// Cameras that are on and have a place and a picture.
    pub cameras: Vec<TrackKey>,
    /// To be decoded before it is painted: of each track in decoding order; the last is shown.
    pub units: Vec<(TrackKey, U)>,
}

/// What happens to those on the stage, or to the picture of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody publishes: who does is in the roster from the first time on. `video`: absent for sound; in place of the one before. A share is an entry of its own.
    Published { participant: ParticipantKey, uid: String, screen: bool, video: Option<TrackKey> },
    /// A camera is switched off (muted): its last picture holds for a while.
    Off(TrackKey),
    /// And on again: shown from its next picture on.
    On(TrackKey),
    /// A camera is withdrawn: as if switched off. A share is gone at once.
    Unpublished(TrackKey),
    /// Those behind move up.
    Left(ParticipantKey),
    /// Whoever of these is published from now on stands in this order, before all others: UIDs, and whether it is a share.
    Expect(Vec<(String, bool)>),
    /// Replaces the whole one.
    Compose(Composition),
}

/// How it is, or how it will be: with this picture, and without these people (false) and shares (true).
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    pub composition: &'a Composition,
    pub gone: &'a BTreeSet<(ParticipantKey, bool)>,
}

/// An entry of the roster: a person, or a person's screen share.
#[derive(Debug)]
struct Figure {
    participant: ParticipantKey,
    uid: String,
    screen: bool,
    /// Among those who were expected.
    rank: Option<usize>,
    track: Option<TrackKey>,
    off: bool,
    /// Its last picture is shown until then.
    shown_until: MediaTime,
}

#[derive(Debug)]
pub struct Stage<U> {
    composition: Composition,
    roster: Vec<Figure>,
    /// Each until they have come.
    expected: Vec<Option<(String, bool)>>,
    feeds: BTreeMap<TrackKey, Feed<U>>,
    /// In order of time; not in force yet.
    changes: VecDeque<(MediaTime, Change)>,
    /// Frames are made: from the first key frame on, or since [`Self::begin`].
    begun: bool,
    /// They are made from here on, even if no key frame comes.
    due: Option<MediaTime>,
    /// No frame before this.
    from: MediaTime,
    last: Option<Scene<Visual>>,
    needs_key: BTreeSet<TrackKey>,
    economy: Economy,
    sizes: Sizes,
    /// What the clocks showed at 0.
    epoch: Option<WallMicros>,
}

impl<U> Stage<U> {
    pub fn new(composition: Composition) -> Self {
        Self {
            composition,
            roster: Vec::new(),
            expected: Vec::new(),
            feeds: BTreeMap::new(),
            changes: VecDeque::new(),
            begun: false,
            due: None,
            from: MediaTime(i64::MIN),
            last: None,
            needs_key: BTreeSet::new(),
            economy: Economy::default(),
            sizes: Sizes::default(),
            epoch: None,
        }
    }

    /// What the clocks showed at the beginning of media time: for the time in the picture.
    pub const fn set_epoch(&mut self, epoch: Option<WallMicros>) {
        self.epoch = epoch;
    }

    /// In force from the first frame on that is not before `at`.
    pub fn change(&mut self, at: MediaTime, change: Change) {
        self.changes.push_back((at, change));
    }

    /// What is on its way and not in force yet. Cameras without a place, nothing of which is decoded, that get one by it: a key frame that is asked for now
    /// has come by then, and so has a larger picture.
    pub fn foresee(&mut self, before: Outlook<'_>, after: Outlook<'_>) -> Vec<TrackKey> {
        let (places, later) = (self.places(before), self.places(after));
        // Before the first frame nothing is from any time.
        self.wish_sizes(self.from.max(MediaTime(0)), &later);
        let shown = self
            .roster
            .iter()
            .zip(places.iter().zip(&later))
            .filter(|(figure, (before, after))| before.is_none() && after.is_some() && !figure.off);
        shown.filter_map(|(figure, _)| figure.track).collect()
    }

    fn settle(&mut self, until: MediaTime) {
        while let Some((at, change)) = self.changes.pop_front_if(|(at, _)| *at <= until) {
            match change {
                Change::Published { participant, uid, screen, video } => self.published(participant, uid, screen, video),
                Change::Off(track) => self.off(at, track),
                Change::On(track) => self.on(track),
                Change::Unpublished(track) => self.unpublished(at, track),
                Change::Left(participant) => self.left(participant),
                Change::Expect(order) => self.expected = order.into_iter().map(Some).collect(),
                Change::Compose(composition) => self.composition = composition,
            }
        }
    }

    fn published(&mut self, participant: ParticipantKey, uid: String, screen: bool, video: Option<TrackKey>) {
        let known = self.roster.iter_mut().find(|figure| figure.participant == participant && figure.screen == screen);
        let mut replaced = None;
        match known {
            Some(figure) => {
                if let Some(track) = video {
                    replaced = figure.track.replace(track).filter(|before| *before != track);
                    figure.off = false;
                    figure.shown_until = MediaTime(i64::MIN);
                }
            }
            None => {
                let rank = self.expected.iter().position(|who| who.as_ref().is_some_and(|(of, share)| *of == uid && *share == screen));
                rank.into_iter().for_each(|rank| self.expected[rank] = None);
                // Behind everybody, or where they are expected.
                let before = |rank: usize| self.roster.iter().position(|other| other.rank.is_none_or(|theirs| theirs > rank));
                let place = rank.and_then(before).unwrap_or(self.roster.len());
                let figure = Figure { participant, uid, screen, rank, track: video, off: false, shown_until: MediaTime(i64::MIN) };
                self.roster.insert(place, figure);
            }
        }
        if let Some(track) = video {
            self.feeds.entry(track).or_insert_with(Feed::new);
        }
        if let Some(track) = replaced {
            self.forget(track);
        }
    }

    fn off(&mut self, at: MediaTime, track: TrackKey) {
        for figure in self.roster.iter_mut().filter(|figure| figure.track == Some(track)) {
            figure.off = true;
            figure.shown_until = figure.shown_until.min(MediaTime(at.0 + HOLD_OFF));
        }
    }

    fn on(&mut self, track: TrackKey) {
        self.roster.iter_mut().filter(|figure| figure.track == Some(track)).for_each(|figure| figure.off = false);
    }

    fn unpublished(&mut self, at: MediaTime, track: TrackKey) {
        self.off(at, track);
        let is_share = |figure: &Figure| figure.screen && figure.track == Some(track);
        match self.roster.iter().any(is_share) {
            true => {
                self.roster.retain(|figure| !is_share(figure));
                self.forget(track);
            }
            false => self.feeds.get_mut(&track).into_iter().for_each(|feed| feed.waiting.clear()),
        }
    }

    fn left(&mut self, participant: ParticipantKey) {
        let gone: Vec<TrackKey> =
            self.roster.extract_if(.., |figure| figure.participant == participant).filter_map(|figure| figure.track).collect();
        gone.into_iter().for_each(|track| self.forget(track));
    }

    fn forget(&mut self, track: TrackKey) {
        self.feeds.remove(&track);
        self.needs_key.remove(&track);
    }

    /// The next access unit of a track that is published, or will be. Between a loss and a key frame there are none.
    pub fn unit(&mut self, at: MediaTime, track: TrackKey, key: bool, unit: U) {
        // It may be mapped to a moment before its publication.
        let feed = self.feeds.entry(track).or_insert_with(Feed::new);
        if key {
            (feed.in_sync, feed.asked) = (true, false);
            self.needs_key.remove(&track);
        }
        if feed.in_sync {
            feed.waiting.push_back((at, key, unit));
        }
    }

    /// What this track's decoder knows is of no use. The key frame from which it goes on, if that has come.
    pub fn lost(&mut self, track: TrackKey) -> Option<MediaTime> {
        let feed = self.feeds.get_mut(&track)?;
        feed.resync();
        feed.waiting.front().map(|(at, ..)| *at)
    }

    /// As [`Self::lost`]: the decoder could not decode something of the frame at `at`. It goes on by itself if a later frame has a key frame.
    pub fn stuck(&mut self, track: TrackKey, at: MediaTime) -> Option<MediaTime> {
        let newer = self.feeds.get(&track)?.key_at.filter(|key_at| *key_at > at);
        newer.or_else(|| self.lost(track))
    }

    /// Tracks that are shown and of which a key frame is missing, once each.
    pub fn take_needs_key(&mut self) -> Vec<TrackKey> {
        std::mem::take(&mut self.needs_key).into_iter().collect()
    }

    /// There are frames from here on at the latest, whoever is to be seen: sound has begun.
    pub fn begin_by(&mut self, at: MediaTime) {
        self.due = self.due.or(Some(at)).filter(|_| !self.begun);
    }

    /// From the first key frame on, or since there have to be.
    fn begin(&mut self, known: MediaTime) {
        let first = self.feeds.values().filter_map(|feed| feed.waiting.front()).map(|(at, ..)| *at);
        let begins = first.chain(self.due).min().filter(|at| *at <= known);
        if let Some(at) = begins {
            (self.begun, self.due) = (true, None);
            self.from = self.from.max(at);
        }
    }

    /// No frames until there is media again, of which nothing continues what was there. Who is in the roster stays.
    pub fn end(&mut self) {
        self.settle(MediaTime(i64::MAX));
        self.begun = false;
        self.due = None;
        self.last = None;
        self.feeds.values_mut().for_each(|feed| *feed = Feed::new());
        self.roster.iter_mut().for_each(|figure| figure.shown_until = MediaTime(i64::MIN));
    }

    /// The next frame, if there is a picture to begin with.
    pub fn begins(&self) -> Option<MediaTime> {
        if self.begun {
            return Some(self.next_tick());
        }
        let first = self.feeds.values().filter_map(|feed| feed.waiting.front()).map(|(at, ..)| *at).min()?;
        Some(first_tick(self.from.max(first), self.composition.encoding.frames_per_second))
    }

    /// The next frame tells the scene again: one that told it was not made.
    pub fn repeat_scene(&mut self) {
        self.last = None;
    }

    /// No frame before this time will come any more, when everything before `known` was told.
    pub fn frontier(&self, known: MediaTime) -> MediaTime {
        MediaTime(known.0.saturating_sub(LOOK_AHEAD)).max(self.from)
    }

    /// The frames that can be made when everything before `known` was told.
    pub fn frames(&mut self, known: MediaTime) -> Vec<Frame<U>> {
        let mut frames = Vec::new();
        if !self.begun {
            self.begin(known);
        }
        while self.begun {
            let at = self.next_tick();
            if at.0.saturating_add(LOOK_AHEAD) > known.0 {
                break;
            }
            if self.changes.front().is_some_and(|(change, _)| *change <= at) {
                self.settle(at);
                // It may be another clock now.
                continue;
            }
            frames.push(self.frame(at));
            self.from = MediaTime(at.0 + 1);
        }
        frames
    }

    fn next_tick(&self) -> MediaTime {
        let rate = self.composition.encoding.frames_per_second;
        let tick = first_tick(self.from, rate);
        let is_odd = (tick.0 * i64::from(rate.max(1)) + MediaTime::PER_SECOND / 2) / MediaTime::PER_SECOND % 2 == 1;
        if self.economy >= Economy::Rate && is_odd { first_tick(MediaTime(tick.0 + 1), rate) } else { tick }
    }

    fn frame(&mut self, at: MediaTime) -> Frame<U> {
        let places = self.places(Outlook { composition: &self.composition, gone: &BTreeSet::new() });
        self.wish_sizes(at, &places);
        let keys_only = self.keys_only(&places);
        let mut units = Vec::new();
        for ((figure, place), keys_only) in self.roster.iter_mut().zip(&places).zip(&keys_only) {
            let Some((track, feed)) = figure.track.and_then(|track| Some((track, self.feeds.get_mut(&track)?))) else { continue };
            if place.is_none() {
                feed.leave_out(at);
                continue;
            }
            if feed.skipped && !keys_only {
                feed.go_on();
            }
            let taken = if *keys_only { feed.take_key(at) } else { feed.take(at) };
            if !taken.is_empty() && !figure.off {
                figure.shown_until = feed.last.map_or(at, |last| MediaTime(last.0 + HOLD_SILENT));
            }
            units.extend(taken.into_iter().map(|unit| (track, unit)));
            if !figure.off && feed.asks() {
                self.needs_key.insert(track);
            }
        }
        let Composition { canvas, background, encoding, ref images, .. } = self.composition;
        let (mut texts, mut tiles, mut cameras) = (Vec::new(), Vec::from_iter(images.ground(canvas)), Vec::new());
        for ((figure, place), keys_only) in self.roster.iter().zip(places).zip(keys_only) {
            let Some(place) = place.map(|place| images.on_ground(place)) else { continue };
            let camera = figure.track.filter(|_| is_shown(figure, keys_only, at));
            cameras.extend(camera.filter(|_| !figure.off));
            let of_camera = |track| Tile { place, content: Content::Source(Visual::Camera(track)) };
            let tile = camera.map_or_else(|| images.in_place_of(figure, place), of_camera);
            let caption = images.caption(figure, &tile, canvas, &mut texts);
            tiles.extend([tile].into_iter().chain(caption));
        }
        let now = self.epoch.map(|epoch| names::wall_at(epoch, at));
        tiles.extend(images.watermarks(now, &mut texts));
        let scene = Scene { size: canvas, background, tiles, texts };
        let needs_from = self.needs_from(at, &scene);
        let changed = self.last.as_ref() != Some(&scene);
        if changed {
            self.last = Some(scene.clone());
        }
        Frame { at, canvas, encoding, needs_from, scene: changed.then_some(scene), cameras, units }
    }

    /// Of those that are seen: who has been switched off for long is not decoded from where it was.
    fn needs_from(&self, at: MediaTime, scene: &Scene<Visual>) -> MediaTime {
        let seen = scene.tiles.iter().filter_map(|tile| match tile.content {
            Content::Source(Visual::Camera(track)) => self.feeds.get(&track)?.key_at,
            Content::Source(Visual::Image(_) | Visual::Text(_)) | Content::Empty => None,
        });
        seen.fold(at, MediaTime::min)
    }

    /// Of everybody in the roster.
    fn places(&self, Outlook { composition, gone }: Outlook<'_>) -> Vec<Option<Place>> {
        let is_here = |figure: &&Figure| !gone.contains(&(figure.participant, figure.screen));
        let here: Vec<Entry<'_>> =
            self.roster.iter().filter(is_here).map(|figure| Entry { uid: &figure.uid, screen: figure.screen }).collect();
        let mut taken = places(&here, &composition.layout, composition.canvas).into_iter();
        self.roster.iter().map(|figure| is_here(&figure).then(|| taken.next().flatten()).flatten()).collect()
    }
}

/// Frame n of the clock is at n / fps seconds, rounded down to 1/90000: the first that is not before `from`.
fn first_tick(from: MediaTime, frames_per_second: u32) -> MediaTime {
    let rate = i64::from(frames_per_second.max(1));
    let tick = |n: i64| (n * MediaTime::PER_SECOND).div_euclid(rate);
    let n = (from.0.max(0) * rate).div_euclid(MediaTime::PER_SECOND);
    MediaTime((n..).map(tick).find(|at| *at >= from.0).unwrap_or(from.0))
}

#[cfg(test)]
mod tests;
