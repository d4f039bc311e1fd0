//! The pictures of a composite: every camera decoded, turned upright, scaled into its tile, painted on one canvas, the canvas encoded as H.264.
//! What did not change is not done again: a camera without a new picture is not scaled, a tile without one not painted.

mod images;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use recorder_codec::h264::{H264Config, H264Encoder, Latency, Preset, Rate};

use bytes::Bytes;
use recorder_codec::{CodecError, Colour, Crop, Decoded, I420, Picture, Rotation, Scaler, View, jpeg};
use recorder_media::canvas::{Canvas, Content, Fill, Pictures, Planes, Scene};
use recorder_media::stage::Visual;
use recorder_media::{ComposedPicture, Encoding, MediaTime, SourceUnit, TrackKey};

pub(crate) use images::Album;
use images::Images;

use crate::transcode::{Decoding, TranscodeError, access_unit};

/// A camera that is not shown keeps its decoder for this long.
const KEPT_90K: i64 = 60 * MediaTime::PER_SECOND;

/// A frame of the composite; None if none was asked for.
pub(crate) type Composed = (Option<ComposedPicture>, Vec<TrackKey>);

/// One thread's work; frames in order of time.
#[derive(Debug)]
pub(crate) struct Composer {
    shown: Shown,
    canvas: Option<Canvas<Visual>>,
    encoder: Option<(Format, H264Encoder)>,
    owes_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    size: (u32, u32),
    encoding: Encoding,
}

impl Composer {
    /// Shows the images that are in `album` at the time, and those that come later.
    pub(crate) fn new(album: Arc<Album>) -> Self {
        let shown = Shown { cameras: Cameras::default(), images: Images::new(album) };
        Self { shown, canvas: None, encoder: None, owes_key: false }
    }

    /// Decodes `units`, in their order, paints what changed by them or by a new `scene`, and encodes the whole, if there is an `encoding`: as an
    /// IDR picture if `force_key`, or if canvas or encoding are others than before. With the picture come the cameras of which something could
    /// not be decoded: nothing of them is, until a key frame.
    ///
    /// # Errors
    /// [`CodecError::Open`] and [`CodecError::Encode`] of the encoder: nothing that a unit could cause.
    pub(crate) fn frame(
        &mut self,
        at: MediaTime,
        scene: Option<Scene<Visual>>,
        units: Vec<(TrackKey, SourceUnit)>,
        encoding: Option<Encoding>,
        force_key: bool,
    ) -> Result<Composed, CodecError> {
        let (changed, undecodable) = self.shown.take(units, at);
        if let Some(scene) = scene {
            self.shown.prepare(&scene, at);
            match &mut self.canvas {
                Some(canvas) => canvas.set_scene(scene),
                None => self.canvas = Some(Canvas::new(scene)),
            }
        }
        self.owes_key |= force_key;
        let Some(canvas) = &mut self.canvas else { return Ok((None, undecodable)) };
        canvas.paint(&changed, &mut self.shown);
        let Some(encoding) = encoding else { return Ok((None, undecodable)) };
        let Planes { width, height, y, u, v, .. } = canvas.planes();
        let size = (width, height);
        let format = Format { size, encoding };
        let encoder = match self.encoder.take().filter(|(of, _)| *of == format) {
            Some((_, encoder)) => encoder,
            None => H264Encoder::new(&config(format))?,
        };
        let (_, encoder) = self.encoder.insert((format, encoder));
        let mut frames = Vec::with_capacity(1);
        encoder.encode(&I420 { width, height, y, u, v }, at.0, self.owes_key, &mut frames)?;
        let Some(frame) = frames.pop() else { return Ok((None, undecodable)) };
        self.owes_key &= !frame.keyframe;
        Ok((Some(ComposedPicture { key: frame.keyframe, size, data: access_unit(&frame) }), undecodable))
    }

    /// The canvas, or a camera's picture as it was decoded, as JPEG; None: there is none.
    pub(crate) fn still(&self, camera: Option<TrackKey>) -> Option<Bytes> {
        let encoded = match camera {
            None => {
                let Planes { width, height, y, u, v, .. } = self.canvas.as_ref()?.planes();
                jpeg(&I420 { width, height, y, u, v }, Colour::BT601)
            }
            Some(track) => {
                let picture = self.shown.cameras.0.get(&track)?.picture.as_ref()?.picture();
                jpeg(&picture.i420(), picture.colour)
            }
        };
        encoded.inspect_err(|error| tracing::warn!(%error, "a snapshot cannot be encoded")).ok().map(Bytes::from)
    }

    /// The encoder failed: the next picture is by another one.
    pub(crate) fn forget_encoder(&mut self) {
        (self.encoder, self.owes_key) = (None, true);
    }
}

fn config(Format { size: (width, height), encoding }: Format) -> H264Config {
    H264Config {
        width,
        height,
        frames_per_second: encoding.frames_per_second,
        rate: Rate::Average { kbps: encoding.kbps },
        colour: Colour::BT601,
        preset: Preset::Veryfast,
        latency: Latency::ZeroLatency,
        baseline: false,
        threads: 1,
    }
}

/// Everything that a tile may show.
#[derive(Debug)]
struct Shown {
    cameras: Cameras,
    images: Images,
}

impl Shown {
    /// What changed, and which cameras could not be decoded.
    fn take(&mut self, units: Vec<(TrackKey, SourceUnit)>, at: MediaTime) -> (Vec<Visual>, Vec<TrackKey>) {
        let (changed, undecodable) = self.cameras.take(units, at);
        let images = self.images.news().into_iter().map(Visual::Image);
        (changed.into_iter().map(Visual::Camera).chain(images).collect(), undecodable)
    }

    /// For what is to be painted from now on.
    fn prepare(&mut self, scene: &Scene<Visual>, at: MediaTime) {
        self.cameras.retain(scene, at);
        self.images.forget_sizes();
        self.images.write(&scene.texts);
    }
}

impl Pictures<Visual> for Shown {
    fn size(&self, source: Visual) -> Option<(u32, u32)> {
        match source {
            Visual::Camera(track) => self.cameras.0.get(&track)?.size(),
            other => self.images.size(other),
        }
    }

    fn is_see_through(&self, source: Visual) -> bool {
        self.images.is_see_through(source)
    }

    fn scaled(&mut self, source: Visual, fill: Fill) -> Option<Planes<'_>> {
        match source {
            Visual::Camera(track) => self.cameras.0.get_mut(&track)?.scaled(fill),
            other => self.images.scaled(other, fill),
        }
    }
}

fn planes(picture: &Picture) -> Planes<'_> {
    let Picture { width, height, y, u, v, .. } = picture;
    Planes { width: *width, height: *height, y, u, v, alpha: None }
}

#[derive(Debug, Default)]
struct Cameras(BTreeMap<TrackKey, Camera>);

/// One person's, as far as it is decoded.
#[derive(Debug)]
struct Camera {
    decoding: Decoding,
    used: MediaTime,
    picture: Option<Upright>,
    scaler: Scaler,
    /// Of this picture, for this place.
    scaled: Option<Fill>,
    /// Of the picture before.
    place: Option<Fill>,
    pixels: Picture,
}

impl Cameras {
    /// Whose picture changed, and of whom something could not be decoded.
    fn take(&mut self, units: Vec<(TrackKey, SourceUnit)>, at: MediaTime) -> (Vec<TrackKey>, Vec<TrackKey>) {
        let (mut changed, mut undecodable) = (Vec::new(), Vec::new());
        for (n, (track, unit)) in units.iter().enumerate() {
            let (track, is_newest) = (*track, !units[n + 1..].iter().any(|(other, _)| other == track));
            let camera = self.0.entry(track).or_insert_with(|| Camera::new(at));
            let before = camera.size();
            let noted = match camera.decode(unit, at) {
                Ok(true) => {
                    if is_newest {
                        camera.scale_ahead();
                    }
                    if unit.key {
                        undecodable.retain(|other| *other != track);
                    }
                    if let Some((width, height)) = camera.size().filter(|size| before != Some(*size)) {
                        tracing::info!(track = track.0, width, height, "pictures of another size");
                    }
                    &mut changed
                }
                Ok(false) => continue,
                Err(error) => {
                    tracing::debug!(%error, "a picture cannot be decoded");
                    &mut undecodable
                }
            };
            if !noted.contains(&track) {
                noted.push(track);
            }
        }
        (changed, undecodable)
    }

    /// Who is not shown any more needs no decoder; who is switched off may come back.
    fn retain(&mut self, scene: &Scene<Visual>, at: MediaTime) {
        let shown = |track: &TrackKey| scene.tiles.iter().any(|tile| tile.content == Content::Source(Visual::Camera(*track)));
        self.0.retain(|track, camera| {
            camera.place.take_if(|_| !shown(track));
            shown(track) || at.0 - camera.used.0 <= KEPT_90K
        });
    }
}

impl Camera {
    fn new(at: MediaTime) -> Self {
        Self {
            decoding: Decoding::default(),
            used: at,
            picture: None,
            scaler: Scaler::new(),
            scaled: None,
            place: None,
            pixels: Picture::default(),
        }
    }

    fn size(&self) -> Option<(u32, u32)> {
        self.picture.as_ref().map(Upright::size)
    }

    /// Whether there is another picture now.
    fn decode(&mut self, unit: &SourceUnit, at: MediaTime) -> Result<bool, TranscodeError> {
        let decoded = self.decoding.decode(unit.codec, &unit.data, unit.key, at.0)?;
        self.used = at;
        let Some(picture) = decoded else { return Ok(false) };
        self.picture = Some(Upright::new(picture, Rotation::from_degrees(unit.rotation)));
        self.scaled = None;
        Ok(true)
    }

    fn scale(&mut self, fill: Fill) -> Result<(), CodecError> {
        let Some(picture) = self.picture.as_ref().filter(|_| self.scaled != Some(fill)) else { return Ok(()) };
        let Fill { crop, inner } = fill;
        let crop = Crop { x: crop.x, y: crop.y, width: crop.width, height: crop.height };
        self.scaled = None;
        self.scaler.scale(picture.view(), crop, (inner.width, inner.height), &mut self.pixels)?;
        (self.scaled, self.place) = (Some(fill), Some(fill));
        Ok(())
    }

    /// For the place of the picture before, while this one is in the processor's caches: once all others are decoded it is not.
    fn scale_ahead(&mut self) {
        // What fails here fails, and is told, when the place is painted.
        let _ = self.place.map(|fill| self.scale(fill));
    }

    fn scaled(&mut self, fill: Fill) -> Option<Planes<'_>> {
        if let Err(error) = self.scale(fill) {
            tracing::warn!(%error, "a picture cannot be scaled");
            return None;
        }
        Some(planes(&self.pixels))
    }
}

/// A camera's picture as people see it.
#[derive(Debug)]
enum Upright {
    AsDecoded(Decoded),
    Turned(Picture),
}

impl Upright {
    fn new(decoded: Decoded, rotation: Rotation) -> Self {
        match rotation {
            Rotation::Upright => Self::AsDecoded(decoded),
            turned => Self::Turned(decoded.picture().rotated(turned)),
        }
    }

    fn size(&self) -> (u32, u32) {
        match self {
            Self::AsDecoded(decoded) => decoded.size(),
            Self::Turned(picture) => (picture.width, picture.height),
        }
    }

    fn view(&self) -> View<'_> {
        match self {
            Self::AsDecoded(decoded) => decoded.into(),
            Self::Turned(picture) => picture.into(),
        }
    }

    fn picture(&self) -> Cow<'_, Picture> {
        match self {
            Self::AsDecoded(decoded) => Cow::Owned(decoded.picture()),
            Self::Turned(picture) => Cow::Borrowed(picture),
        }
    }
}

#[cfg(test)]
mod tests;
