//! What is not worth decoding: pictures larger than their places, and, when composing cannot keep up, what is missed least.

use super::{Feed, Figure, Stage};
use crate::layout::{Fit, Place, Wanted};
use crate::{MediaTime, TrackKey};
use std::collections::BTreeMap;

/// A place that has become smaller is told when it has stayed so for this long: of larger ones more comes back late. More than what lies in the
/// delay line: a larger one that is foreseen is still small until then.
const SMALLER_AFTER: i64 = 5 * MediaTime::PER_SECOND;
/// Of somebody who is not shown.
const LEAST: Wanted = Wanted { width: 16, height: 16, fit: Fit::Crop };

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
    told: BTreeMap<TrackKey, Wanted>,
    smaller_since: BTreeMap<TrackKey, MediaTime>,
    news: BTreeMap<TrackKey, Wanted>,
}

impl Sizes {
    fn wish(&mut self, at: MediaTime, track: TrackKey, wanted: Wanted) {
        let told = self.told.get(&track).copied();
        let fits = |told: &Wanted| {
            wanted.width <= told.width && wanted.height <= told.height && (wanted.fit == told.fit || wanted.fit == Fit::Fit)
        };
        let is_smaller = told.is_some_and(|told| told != wanted && fits(&told));
        if !is_smaller {
            self.smaller_since.remove(&track);
        }
        let lasts = is_smaller && at.0.saturating_sub(self.smaller_since.entry(track).or_insert(at).0) >= SMALLER_AFTER;
        if told != Some(wanted) && (!is_smaller || lasts) {
            self.told.insert(track, wanted);
            self.news.insert(track, wanted);
        }
    }
}

impl<U> Stage<U> {
    /// In force from the next frame on.
    pub fn economise(&mut self, economy: Economy) {
        if self.economy >= Economy::Tiles && economy < Economy::Tiles {
            self.feeds.values_mut().filter(|feed| feed.skipped).for_each(Feed::go_on);
        }
        self.economy = economy;
    }

    /// Tracks whose pictures should have another size than was told before.
    pub fn take_sizes(&mut self) -> BTreeMap<TrackKey, Wanted> {
        std::mem::take(&mut self.sizes.news)
    }

    pub(super) fn wish_sizes(&mut self, at: MediaTime, places: &[Option<Place>]) {
        let halves = self.economy >= Economy::Layers;
        for (figure, place) in self.roster.iter().zip(places) {
            let Some(track) = figure.track else { continue };
            let all = place.map_or(LEAST, |place| Wanted { width: place.rect.width, height: place.rect.height, fit: place.fit });
            // What is written on a screen is lost first.
            let wanted = if halves && !figure.screen { Wanted { width: all.width / 2, height: all.height / 2, ..all } } else { all };
            self.sizes.wish(at, track, wanted);
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
