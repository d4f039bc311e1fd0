//! What is seen of somebody without a picture, and behind everybody.

use super::Figure;
use crate::TrackKey;
use crate::canvas::{Content, Tile};
use crate::layout::{Canvas, Empty, Fit, Place, Rect};
use serde::{Deserialize, Serialize};

/// An image, wherever it comes from; the same one has the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageKey(pub u64);

/// What a tile shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visual {
    Camera(TrackKey),
    Image(ImageKey),
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
}

impl Images {
    /// Beneath everything else.
    pub(super) fn ground(&self, canvas: Canvas) -> Option<Tile<Visual>> {
        let rect = Rect { x: 0, y: 0, width: canvas.width, height: canvas.height };
        let place = Place { rect, fit: Fit::Crop, empty: Empty::Background, opacity_percent: 100, z_order: i32::MIN };
        self.background.map(|image| Tile { place, content: Content::Source(Visual::Image(image)) })
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
