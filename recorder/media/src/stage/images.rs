//! What is seen besides cameras: behind everybody, in place of somebody without a picture, above everything; names.

use super::Figure;
use crate::canvas::{Content, Text, Tile};
use crate::layout::{Canvas, Empty, Fit, Place, Rect};
use crate::names::Civil;
use crate::{TrackKey, WallMicros};
use serde::{Deserialize, Serialize};

/// An image, wherever it comes from; the same one has the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageKey(pub u64);

/// What a tile shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visual {
    Camera(TrackKey),
    Image(ImageKey),
    /// Of the scene's texts.
    Text(usize),
}

/// Of one person, or of all: [`Images`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserImage {
    pub uid: String,
    pub image: ImageKey,
    pub fit: Fit,
}

/// In place of cameras; shares have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Fills the canvas, beneath everybody.
    pub background: Option<ImageKey>,
    /// Of those who have none of their own.
    pub default_user: Option<ImageKey>,
    pub users: Vec<UserImage>,
    /// Above everybody; the later ones above the earlier.
    pub watermarks: Vec<Watermark>,
    /// In each place the name of who has it: its height in hundredths of the canvas' height.
    pub caption_percent: Option<u8>,
}

/// Above everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    pub mark: Mark,
    pub rect: Rect,
    /// 0..=100.
    pub opacity_percent: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Whole, in the middle of its place.
    Image(ImageKey),
    Text(String),
    /// UTC, to the second, of what is seen.
    Time,
}

impl Images {
    /// Beneath everything else.
    pub(super) fn ground(&self, canvas: Canvas) -> Option<Tile<Visual>> {
        let rect = Rect { x: 0, y: 0, width: canvas.width, height: canvas.height };
        let place = Place { rect, fit: Fit::Crop, empty: Empty::Background, opacity_percent: 100, z_order: i32::MIN };
        self.background.map(|image| Tile { place, content: Content::Source(Visual::Image(image)) })
    }

    /// Above everything else; `now`: what a clock shows.
    pub(super) fn watermarks(&self, now: Option<WallMicros>, texts: &mut Vec<Text>) -> Vec<Tile<Visual>> {
        let tile = |&Watermark { ref mark, rect, opacity_percent }: &Watermark| {
            let visual = match mark {
                Mark::Image(image) => Visual::Image(*image),
                Mark::Text(line) => written(line.clone(), rect, texts),
                Mark::Time => written(clock(now?), rect, texts),
            };
            let place = Place { rect, fit: Fit::Fit, empty: Empty::Transparent, opacity_percent, z_order: i32::MAX };
            Some(Tile { place, content: Content::Source(visual) })
        };
        self.watermarks.iter().filter_map(tile).collect()
    }

    /// At the bottom of somebody's place; at its top if that is the whole canvas: others may stand on it.
    pub(super) fn caption(&self, figure: &Figure, of: &Tile<Visual>, canvas: Canvas, texts: &mut Vec<Text>) -> Option<Tile<Visual>> {
        let height = (canvas.height * u32::from(self.caption_percent?) / 100).min(of.place.rect.height / 2).max(2) & !1;
        if of.content == Content::Empty && of.place.empty == Empty::Transparent && self.background.is_none() {
            return None;
        }
        let Rect { x, y, width, height: whole } = of.place.rect;
        let bottom = if (width, whole) == (canvas.width, canvas.height) { 0 } else { whole - height };
        let rect = Rect { x, y: (y + bottom) & !1, width, height };
        let place = Place { rect, fit: Fit::Fit, empty: Empty::Transparent, ..of.place };
        Some(Tile { place, content: Content::Source(written(figure.uid.clone(), rect, texts)) })
    }

    /// Where nothing is to be seen is what is behind everybody.
    pub(super) fn on_ground(&self, place: Place) -> Place {
        let empty = if self.background.is_some() { Empty::Transparent } else { place.empty };
        Place { empty, ..place }
    }

    /// Of somebody whose camera shows nothing: their image, that of all, else what is behind.
    pub(super) fn in_place_of(&self, figure: &Figure, mut place: Place) -> Tile<Visual> {
        let own = self.users.iter().find(|user| user.uid == figure.uid).map(|user| (user.image, user.fit));
        let any = own.or(self.default_user.map(|image| (image, Fit::Crop))).filter(|_| !figure.screen);
        let content = any.map_or(Content::Empty, |(image, _)| Content::Source(Visual::Image(image)));
        place.fit = any.map_or(place.fit, |(_, fit)| fit);
        Tile { place, content }
    }
}

fn written(line: String, Rect { width, height, .. }: Rect, texts: &mut Vec<Text>) -> Visual {
    texts.push(Text { line, width, height });
    Visual::Text(texts.len() - 1)
}

/// Like `2026-11-22 14:30:35Z`.
fn clock(now: WallMicros) -> String {
    let iso = Civil::from_wall(now).iso();
    iso.get(..19).map(|seconds| seconds.replace('T', " ") + "Z").unwrap_or(iso)
}
