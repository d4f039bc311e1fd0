//! Pictures that do not pass untouched: decoded, turned upright, encoded as H.264. One thread for each playlist that needs it, because a
//! 720p picture takes 10 to 15 ms, and nothing in the event loop may.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use recorder_codec::h264::{EncodedFrame, H264Config, H264Encoder};
use recorder_codec::video::{VideoCodec, VideoDecoder};
use recorder_codec::{CodecError, Colour, Decoded, Picture, Rotation, jpeg};
use recorder_media::canvas::Scene;
use recorder_media::stage::Visual;
use recorder_media::{
    Codec, Encoding, Input, MAX_UNANSWERED_PICTURES, MediaTime, OpId, PlaylistKey, SourceUnit, TrackKey, Transcoded, VideoOp,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::compose::{Album, Composer};

/// Stands before every access unit (ISO/IEC 13818-1 section 2.14.1): primary_pic_type 7, any slice type.
const ACCESS_UNIT_DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

/// Why a picture did not come out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TranscodeError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("failed to decode a picture: one that it refers to is missing; the next key frame helps")]
    Reference,
    #[error("failed to decode a picture: it shows nothing")]
    Nothing,
    #[error("failed to encode a picture: the encoder holds it back")]
    HeldBack,
    #[error("failed to transcode {0:?}: only H.264, VP8, VP9 and AV1 are")]
    Codecless(Codec),
}

/// The threads that transcode. One ends when its playlist has nothing to transcode for now, and has answered what it was given.
#[derive(Debug)]
pub(crate) struct Transcoders {
    threads: HashMap<PlaylistKey, SyncSender<(OpId, VideoOp)>>,
    album: Arc<Album>,
    results: UnboundedSender<Input>,
}

impl Transcoders {
    /// `results`: where answers go; `album`: the images of composites.
    pub(crate) fn new(results: UnboundedSender<Input>, album: Arc<Album>) -> Self {
        Self { threads: HashMap::new(), album, results }
    }

    /// Hands an operation to its playlist's thread; never waits.
    pub(crate) fn run(&mut self, playlist: PlaylistKey, op: OpId, work: VideoOp) {
        if work == VideoOp::Finish {
            self.threads.remove(&playlist);
            return;
        }
        if !self.threads.contains_key(&playlist) {
            match self.spawn(playlist) {
                Ok(thread) => drop(self.threads.insert(playlist, thread)),
                Err(error) => tracing::error!(%error, "failed to start a thread for transcoding"),
            }
        }
        // The session leaves at most as many unanswered as the queue holds; without a thread the picture is lost, and said to be.
        let Some(thread) = self.threads.get(&playlist) else { return self.refuse(playlist, op, work) };
        match thread.try_send((op, work)) {
            Ok(()) => {}
            Err(TrySendError::Full((op, work)) | TrySendError::Disconnected((op, work))) => self.refuse(playlist, op, work),
        }
    }

    fn refuse(&self, playlist: PlaylistKey, op: OpId, mut work: VideoOp) {
        for snapshot in work.snapshots_mut().map(std::mem::take).unwrap_or_default() {
            let _ = self.results.send(Input::SnapshotTaken { snapshot, picture: None });
        }
        let _ = self.results.send(Input::VideoEncoded { playlist, op, result: Transcoded::Undecodable });
    }

    fn spawn(&self, playlist: PlaylistKey) -> std::io::Result<SyncSender<(OpId, VideoOp)>> {
        let (sender, work) = sync_channel(MAX_UNANSWERED_PICTURES);
        let (results, chain) = (self.results.clone(), Chain::new(self.album.clone()));
        thread::Builder::new().name(format!("transcode-{}", playlist.0)).spawn(move || answer_all(playlist, chain, &work, &results))?;
        Ok(sender)
    }
}

/// Until the sender is gone and the queue is empty.
fn answer_all(playlist: PlaylistKey, mut chain: Chain, work: &Receiver<(OpId, VideoOp)>, results: &UnboundedSender<Input>) {
    for (op, mut work) in work {
        let snapshots = work.snapshots_mut().map(std::mem::take).unwrap_or_default();
        chain.keeps = !snapshots.is_empty();
        let unwound = catch_unwind(AssertUnwindSafe(|| chain.run(work)));
        let result = unwound.unwrap_or_else(|_| {
            // Every operation is answered, or the recording would wait for it; what the chain was in the middle of is unknown.
            chain = Chain { owes_key: true, scene: chain.scene.take(), ..Chain::new(chain.album.clone()) };
            Transcoded::Undecodable
        });
        for snapshot in snapshots {
            let picture = catch_unwind(AssertUnwindSafe(|| chain.still(snapshot.camera))).ok().flatten();
            let _ = results.send(Input::SnapshotTaken { snapshot, picture });
        }
        if results.send(Input::VideoEncoded { playlist, op, result }).is_err() {
            return; // the recording is over
        }
    }
}

/// The decoder of one source, and whether what comes can be decoded.
#[derive(Debug, Default)]
pub(crate) struct Decoding {
    decoder: Option<(Codec, VideoDecoder)>,
    /// A key frame was decoded and nothing failed since.
    decodable: bool,
}

impl Decoding {
    /// None: the unit shows nothing. After an error nothing is decoded until `key`.
    pub(crate) fn decode(&mut self, codec: Codec, data: &[u8], key: bool, pts: i64) -> Result<Option<Decoded>, TranscodeError> {
        let is_known = self.decoder.as_ref().is_some_and(|(of, _)| *of == codec);
        let decodable = std::mem::take(&mut self.decodable) && is_known;
        if !is_known {
            self.decoder = Some((codec, VideoDecoder::new(video_codec(codec)?)?));
        }
        if !key && !decodable {
            return Err(TranscodeError::Reference);
        }
        let mut pictures = Vec::with_capacity(1);
        if let Some((_, decoder)) = &mut self.decoder {
            decoder.decode(data, pts, &mut pictures)?;
        }
        self.decodable = true;
        Ok(pictures.pop())
    }
}

/// Decoder and encoder of one playlist.
#[derive(Debug)]
struct Chain {
    decoding: Decoding,
    encoder: Option<Encoder>,
    /// A key frame was asked for and none was made yet.
    owes_key: bool,
    composer: Option<Composer>,
    /// Of the composite: the newest one.
    scene: Option<Scene<Visual>>,
    album: Arc<Album>,
    /// A snapshot is wanted of what is decoded next, and what that was.
    keeps: bool,
    kept: Option<Picture>,
}

#[derive(Debug)]
struct Encoder {
    size: (u32, u32),
    colour: Colour,
    inner: H264Encoder,
}

impl Chain {
    fn new(album: Arc<Album>) -> Self {
        let (decoding, encoder, composer) = (Decoding::default(), None, None);
        Self { decoding, encoder, owes_key: false, composer, scene: None, album, keeps: false, kept: None }
    }

    fn run(&mut self, work: VideoOp) -> Transcoded {
        let (codec, data, key, rotation, at, force_key) = match work {
            VideoOp::Transcode { codec, data, key, rotation, at, force_key, snapshots: _ } => (codec, data, key, rotation, at, force_key),
            VideoOp::Compose { units, scene, encoding, at, force_key, snapshots: _ } => {
                return self.compose(at, units, scene, encoding, force_key);
            }
            VideoOp::Finish => return Transcoded::Hidden,
        };
        self.owes_key |= force_key;
        let decoded = match self.decoding.decode(codec, &data, key, at.0) {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::debug!(%error, "a picture cannot be decoded");
                return Transcoded::Undecodable;
            }
        };
        let Some(decoded) = decoded else { return Transcoded::Hidden };
        let upright = decoded.picture().rotated(Rotation::from_degrees(rotation));
        let encoded = self.encode(&upright, at.0).unwrap_or_else(|error| {
            tracing::warn!(%error, "a picture cannot be encoded");
            (self.encoder, self.owes_key) = (None, true);
            Transcoded::Undecodable
        });
        self.kept = self.keeps.then_some(upright);
        encoded
    }

    fn compose(
        &mut self,
        at: MediaTime,
        units: Vec<(TrackKey, SourceUnit)>,
        scene: Option<Scene<Visual>>,
        encoding: Option<Encoding>,
        force_key: bool,
    ) -> Transcoded {
        let fresh = self.composer.is_none();
        if scene.is_some() {
            self.scene.clone_from(&scene);
        }
        let scene = scene.or_else(|| self.scene.clone().filter(|_| fresh));
        let composer = self.composer.get_or_insert_with(|| Composer::new(self.album.clone()));
        let composed = composer.frame(at, scene, units, encoding, force_key || fresh);
        let (picture, undecodable) = composed.unwrap_or_else(|error| {
            tracing::warn!(%error, "a frame cannot be encoded");
            composer.forget_encoder();
            (None, Vec::new())
        });
        Transcoded::Composed { picture, undecodable }
    }

    /// What was made last, as JPEG.
    fn still(&mut self, camera: Option<TrackKey>) -> Option<Bytes> {
        if let Some(composer) = &self.composer {
            return composer.still(camera);
        }
        let picture = self.kept.take()?;
        jpeg(&picture.i420(), picture.colour).ok().map(Bytes::from)
    }

    fn encode(&mut self, picture: &Picture, pts: i64) -> Result<Transcoded, TranscodeError> {
        let (size, colour) = ((picture.width, picture.height), picture.colour);
        let encoder = match self.encoder.take().filter(|e| e.size == size && e.colour == colour) {
            Some(encoder) => self.encoder.insert(encoder),
            None => {
                let inner = H264Encoder::new(&H264Config::transcoding(size.0, size.1, colour))?;
                self.encoder.insert(Encoder { size, colour, inner })
            }
        };
        let mut frames = Vec::with_capacity(1);
        encoder.inner.encode(&picture.i420(), pts, self.owes_key, &mut frames)?;
        let frame = frames.pop().ok_or(TranscodeError::HeldBack)?;
        self.owes_key &= !frame.keyframe;
        Ok(Transcoded::Picture { key: frame.keyframe, size, data: access_unit(&frame) })
    }
}

pub(crate) fn access_unit(frame: &EncodedFrame) -> Bytes {
    let mut unit = BytesMut::with_capacity(ACCESS_UNIT_DELIMITER.len() + frame.data.len());
    unit.put_slice(&ACCESS_UNIT_DELIMITER);
    unit.put_slice(&frame.data);
    unit.freeze()
}

pub(crate) fn video_codec(codec: Codec) -> Result<VideoCodec, TranscodeError> {
    match codec {
        Codec::H264 => Ok(VideoCodec::H264),
        Codec::Vp8 => Ok(VideoCodec::Vp8),
        Codec::Vp9 => Ok(VideoCodec::Vp9),
        Codec::Av1 => Ok(VideoCodec::Av1),
        Codec::Opus | Codec::H265 | Codec::Other => Err(TranscodeError::Codecless(codec)),
    }
}

#[cfg(test)]
mod tests;
