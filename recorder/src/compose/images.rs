//! Images in place of cameras, and behind everybody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use recorder_codec::{CodecError, Crop, Picture, Scaler, Still};
use recorder_media::canvas::{Fill, Planes, Yuv};
use recorder_media::stage::ImageKey;

use super::planes;

/// The images that have come: who fetches puts them in, who paints looks.
#[derive(Debug, Default)]
pub struct Album {
    images: Mutex<BTreeMap<ImageKey, Arc<Still>>>,
    /// Rises with each change.
    version: AtomicU64,
}

impl Album {
    pub fn put(&self, key: ImageKey, image: Still) {
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
    /// Behind what can be seen through.
    ground: Yuv,
    shown: BTreeMap<ImageKey, Image>,
}

#[derive(Debug)]
struct Image {
    still: Arc<Still>,
    scaler: Scaler,
    /// Once for each size of place.
    scaled: Vec<(Fill, Picture)>,
}

impl Images {
    pub(super) fn new(album: Arc<Album>) -> Self {
        Self { album, version: 0, ground: Yuv { y: 16, u: 128, v: 128 }, shown: BTreeMap::new() }
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

    pub(super) fn set_ground(&mut self, ground: Yuv) {
        if self.ground != ground {
            self.ground = ground;
            self.forget_sizes();
        }
    }

    pub(super) fn size(&self, key: ImageKey) -> Option<(u32, u32)> {
        let picture = &self.shown.get(&key)?.still.picture;
        Some((picture.width, picture.height))
    }

    pub(super) fn scaled(&mut self, key: ImageKey, fill: Fill) -> Option<Planes<'_>> {
        match self.shown.get_mut(&key)?.scale(fill, self.ground) {
            Ok(picture) => Some(planes(picture)),
            Err(error) => {
                tracing::warn!(%error, "an image cannot be scaled");
                None
            }
        }
    }

    /// Sizes that no place has any more are of no use.
    pub(super) fn forget_sizes(&mut self) {
        self.shown.values_mut().for_each(|image| image.scaled.clear());
    }
}

impl Image {
    fn new(still: Arc<Still>) -> Self {
        Self { still, scaler: Scaler::new(), scaled: Vec::new() }
    }

    fn scale(&mut self, fill: Fill, ground: Yuv) -> Result<&Picture, CodecError> {
        let Fill { crop, inner } = fill;
        let size = (inner.width, inner.height);
        let same = |(of, _): &(Fill, Picture)| of.crop == crop && (of.inner.width, of.inner.height) == size;
        let place = match self.scaled.iter().position(same) {
            Some(place) => place,
            None => {
                let mut pixels = Picture::default();
                // Only for now: large images take much.
                let opaque = self.still.alpha.is_some().then(|| Still::clone(&self.still).over([ground.y, ground.u, ground.v]));
                self.scaler.scale(
                    opaque.as_ref().unwrap_or(&self.still.picture),
                    Crop { x: crop.x, y: crop.y, width: crop.width, height: crop.height },
                    size,
                    &mut pixels,
                )?;
                self.scaled.push((fill, pixels));
                self.scaled.len() - 1
            }
        };
        Ok(&self.scaled[place].1)
    }
}
