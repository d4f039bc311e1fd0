//! Images in place of cameras, and behind everybody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use recorder_codec::{CodecError, Crop, Picture, Scaler, Still};
use recorder_media::canvas::{Fill, Planes, Text};
use recorder_media::stage::{ImageKey, Visual};

use super::{planes, text};

/// The images that have come: who fetches puts them in, who paints looks.
#[derive(Debug, Default)]
pub(crate) struct Album {
    images: Mutex<BTreeMap<ImageKey, Arc<Still>>>,
    /// Rises with each change.
    version: AtomicU64,
}

impl Album {
    pub(crate) fn put(&self, key: ImageKey, image: Still) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(image));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Of all together.
    pub(crate) fn pixels(&self) -> usize {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).values().map(|image| image.picture.y.len()).sum()
    }

    pub(crate) fn has(&self, key: ImageKey) -> bool {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> Vec<ImageKey> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    pub(crate) fn remove(&self, key: ImageKey) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What a canvas shows of an album.
#[derive(Debug)]
pub(super) struct Images {
    album: Arc<Album>,
    version: u64,
    shown: BTreeMap<ImageKey, Image>,
    /// Of the scene, in its order.
    texts: Vec<(Text, Image)>,
}

#[derive(Debug)]
struct Image {
    still: Arc<Still>,
    scaler: Scaler,
    /// Once for each size of place.
    scaled: Vec<Scaled>,
}

#[derive(Debug)]
struct Scaled {
    of: Fill,
    picture: Picture,
    alpha: Option<Vec<u8>>,
    /// Since the scene before this one.
    used: bool,
}

impl Images {
    pub(super) fn new(album: Arc<Album>) -> Self {
        Self { album, version: 0, shown: BTreeMap::new(), texts: Vec::new() }
    }

    /// Which have come, or gone, since the last time.
    pub(super) fn news(&mut self) -> Vec<ImageKey> {
        let version = self.album.version.load(Ordering::Acquire);
        if self.version == version {
            return Vec::new();
        }
        self.version = version;
        let images = self.album.images.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone: Vec<ImageKey> = self.shown.extract_if(.., |key, _| !images.contains_key(key)).map(|(key, _)| key).collect();
        let new = |(key, still): (&ImageKey, &Arc<Still>)| match self.shown.get(key) {
            Some(image) if Arc::ptr_eq(&image.still, still) => None,
            _ => Some((*key, Image::new(still.clone()))),
        };
        let new: Vec<_> = images.iter().filter_map(new).collect();
        let keys = gone.into_iter().chain(new.iter().map(|(key, _)| *key)).collect();
        self.shown.extend(new);
        keys
    }

    /// For another scene.
    pub(super) fn write(&mut self, texts: &[Text]) {
        let mut known = std::mem::take(&mut self.texts);
        let image = |text: &Text| {
            if let Some(place) = known.iter().position(|(of, _)| of == text) {
                return Some(known.swap_remove(place));
            }
            let drawn = text::draw(text).inspect_err(|error| tracing::warn!(%error, "a text cannot be drawn")).ok()?;
            Some((text.clone(), Image::new(Arc::new(drawn))))
        };
        self.texts = texts.iter().filter_map(image).collect();
    }

    fn of(&self, visual: Visual) -> Option<&Image> {
        match visual {
            Visual::Camera(_) => None,
            Visual::Image(key) => self.shown.get(&key),
            Visual::Text(n) => self.texts.get(n).map(|(_, image)| image),
        }
    }

    pub(super) fn size(&self, visual: Visual) -> Option<(u32, u32)> {
        let picture = &self.of(visual)?.still.picture;
        Some((picture.width, picture.height))
    }

    pub(super) fn is_see_through(&self, visual: Visual) -> bool {
        self.of(visual).is_some_and(|image| image.still.alpha.is_some())
    }

    pub(super) fn scaled(&mut self, visual: Visual, fill: Fill) -> Option<Planes<'_>> {
        let image = match visual {
            Visual::Camera(_) => None,
            Visual::Image(key) => self.shown.get_mut(&key),
            Visual::Text(n) => self.texts.get_mut(n).map(|(_, image)| image),
        };
        match image?.scale(fill) {
            Ok(scaled) => Some(Planes { alpha: scaled.alpha.as_deref(), ..planes(&scaled.picture) }),
            Err(error) => {
                tracing::warn!(%error, "an image cannot be scaled");
                None
            }
        }
    }

    /// Sizes that no place has any more are of no use.
    pub(super) fn forget_sizes(&mut self) {
        for image in self.shown.values_mut() {
            image.scaled.retain_mut(|scaled| std::mem::take(&mut scaled.used));
        }
    }
}

impl Image {
    fn new(still: Arc<Still>) -> Self {
        Self { still, scaler: Scaler::new(), scaled: Vec::new() }
    }

    fn scale(&mut self, of: Fill) -> Result<&Scaled, CodecError> {
        let size = (of.inner.width, of.inner.height);
        let same = |scaled: &Scaled| scaled.of.crop == of.crop && (scaled.of.inner.width, scaled.of.inner.height) == size;
        let place = match self.scaled.iter().position(same) {
            Some(place) => place,
            None => {
                let (crop, mut picture) =
                    (Crop { x: of.crop.x, y: of.crop.y, width: of.crop.width, height: of.crop.height }, Picture::default());
                self.scaler.scale(&self.still.picture, crop, size, &mut picture)?;
                let alpha = self.still.alpha.as_ref().map(|alpha| scaled_alpha(&self.still.picture, alpha, crop, size)).transpose()?;
                self.scaled.push(Scaled { of, picture, alpha, used: true });
                self.scaled.len() - 1
            }
        };
        self.scaled[place].used = true;
        Ok(&self.scaled[place])
    }
}

/// As if it were the luma of a grey picture.
fn scaled_alpha(of: &Picture, alpha: &[u8], crop: Crop, size: (u32, u32)) -> Result<Vec<u8>, CodecError> {
    let (width, height) = (of.width, of.height);
    let grey = vec![128; of.u.len()];
    let picture = Picture { width, height, y: alpha.to_vec(), u: grey.clone(), v: grey, ..Picture::default() };
    let mut scaled = Picture::default();
    Scaler::new().scale(&picture, crop, size, &mut scaled)?;
    Ok(scaled.y)
}
