//! What is not worth decoding: pictures larger than their places, and, when composing cannot keep up, what is missed least.

use super::{Composition, Feed, Figure, Stage};
use crate::layout::{Place, Rect};
use crate::{MediaTime, TrackKey};
use std::collections::BTreeMap;

/// A place that has become smaller is told when it has stayed so for this long: of larger ones more comes back late. More than what lies in the
/// delay line: a larger one that is foreseen is still small until then.
const SMALLER_AFTER: i64 = 5 * MediaTime::PER_SECOND;
/// Of somebody who is not shown.
const LEAST: (u32, u32) = (16, 16);

/// Each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Economy {
    #[default]
    Nothing,
    /// Publishers' next smaller pictures, where they send several.
    Layers,
    /// Every second frame.
    Rate,
    /// Of the smaller tiles (of equal ones, of the later half) key frames only.
    Tiles,
}

/// The sizes that publishers' pictures should have.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    told: BTreeMap<TrackKey, (u32, u32)>,
    smaller_since: BTreeMap<TrackKey, MediaTime>,
    news: BTreeMap<TrackKey, (u32, u32)>,
}

impl Sizes {
    fn wish(&mut self, at: MediaTime, track: TrackKey, size: (u32, u32)) {
        let told = self.told.get(&track).copied();
        let is_smaller = told.is_some_and(|told| size.0 < told.0 && size.1 <= told.1 || size.0 <= told.0 && size.1 < told.1);
        if told == Some(size) || !is_smaller {
            self.smaller_since.remove(&track);
        }
        let lasts = is_smaller && at.0.saturating_sub(self.smaller_since.entry(track).or_insert(at).0) >= SMALLER_AFTER;
        if told != Some(size) && (!is_smaller || lasts) {
            self.told.insert(track, size);
            self.news.insert(track, size);
        }
    }
}

/// A camera's picture is taken to be 16:9; it fills its place.
fn size_for(rect: Rect) -> (u32, u32) {
    (rect.width.max(rect.height * 16 / 9), rect.height.max(rect.width * 9 / 16))
}

impl<U> Stage<U> {
    /// In force from the next frame on.
    pub fn economise(&mut self, economy: Economy) {
        if self.economy >= Economy::Tiles && economy < Economy::Tiles {
            self.feeds.values_mut().filter(|feed| feed.skipped).for_each(Feed::go_on);
        }
        self.economy = economy;
    }

    /// Tracks whose pictures should have another size than was told before, width and height: the smallest that still fill their places.
    pub fn take_sizes(&mut self) -> BTreeMap<TrackKey, (u32, u32)> {
        std::mem::take(&mut self.sizes.news)
    }

    /// What another composition will need larger is asked for before it is in force: it takes a second or two to come.
    pub fn foresee(&mut self, composition: &Composition) {
        let places = self.places(composition);
        // Before the first frame nothing is from any time.
        self.wish_sizes(self.from.max(MediaTime(0)), &places);
    }

    pub(super) fn wish_sizes(&mut self, at: MediaTime, places: &[Option<Place>]) {
        let halves = self.economy >= Economy::Layers;
        for (figure, place) in self.roster.iter().zip(places) {
            let Some(track) = figure.track else { continue };
            let (width, height) = place.map_or(LEAST, |place| size_for(place.rect));
            // What is written on a screen is lost first.
            let size = if halves && !figure.screen { (width / 2, height / 2) } else { (width, height) };
            self.sizes.wish(at, track, size);
        }
        let known = |track: &TrackKey| self.roster.iter().any(|figure| figure.track == Some(*track));
        self.sizes.told.retain(|track, _| known(track));
        self.sizes.smaller_since.retain(|track, _| known(track));
    }

    /// Whose pictures are left out but for key frames.
    pub(super) fn keys_only(&self, places: &[Option<Place>]) -> Vec<bool> {
        // Who has no place is not decoded anyway.
        let area = |place: &Place| place.rect.width * place.rect.height;
        let shown = || places.iter().flatten();
        let largest = shown().map(area).max().unwrap_or(0);
        let (smaller, half) = (shown().any(|place| area(place) < largest), shown().count().div_ceil(2));
        let mut seen = 0;
        let mut is_little = |place: &Option<Place>| {
            seen += usize::from(place.is_some());
            place.is_some_and(|place| if smaller { area(&place) < largest } else { seen > half })
        };
        places.iter().map(|place| is_little(place) && self.economy >= Economy::Tiles).collect()
    }
}

/// Of the smallest tiles nothing but key frames comes: an old picture is better than a place of background.
pub(super) fn is_shown(figure: &Figure, keys_only: bool, at: MediaTime) -> bool {
    at < figure.shown_until || keys_only && !figure.off && figure.shown_until > MediaTime(i64::MIN)
}
