//! Stands in for decoder and encoder: takes its time, and keeps to their contract as strictly as they do.

use super::reader::nals;
use super::{Lcg, number, slice, sps};
use bytes::Bytes;
use recorder_media::*;
use std::collections::BTreeMap;

/// What one playlist's chain knows.
#[derive(Clone, Debug, Default)]
struct Chain {
    unanswered: usize,
    /// It works on one picture after the other.
    free_at: u64,
    last_at: Option<MediaTime>,
    codec: Option<Codec>,
    decodable: bool,
    source_size: (u32, u32),
    encoding: Option<(u32, u32)>,
    owes_key: bool,
    cameras: BTreeMap<TrackKey, Camera>,
    canvas: Option<(u32, u32)>,
    /// Number of the picture that came last, where there is no canvas.
    newest: Option<u32>,
}

/// One decoder of a composite.
#[derive(Clone, Debug, Default)]
struct Camera {
    decodable: bool,
    last: Option<u32>,
}

/// What one frame of a composite is made of: number of each picture that is decoded for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    pub at: MediaTime,
    pub decoded: Vec<(TrackKey, u32)>,
    pub scene: Option<canvas::Scene<stage::Visual>>,
    pub key: bool,
    pub encoding: Option<Encoding>,
}

#[derive(Clone, Debug)]
pub struct Transcoder {
    /// Each picture takes this long ...
    pub least_us: u64,
    /// ... and up to this much more.
    pub spread_us: u64,
    /// Besides, for each access unit of a composite's frame.
    pub unit_us: u64,
    /// Percent of access units that turn out to be undecodable.
    pub undecodable: u64,
    pub rng: Lcg,
    pub ops: Vec<(PlaylistKey, VideoOp)>,
    pub frames: Vec<Composed>,
    chains: BTreeMap<PlaylistKey, Chain>,
}

impl Default for Transcoder {
    fn default() -> Self {
        Self {
            least_us: 8_000,
            spread_us: 8_000,
            unit_us: 0,
            undecodable: 0,
            rng: Lcg(5),
            ops: Vec::new(),
            frames: Vec::new(),
            chains: BTreeMap::new(),
        }
    }
}

impl Transcoder {
    /// When the answer comes, and what it is.
    pub fn run(&mut self, now: Tick, playlist: PlaylistKey, work: VideoOp) -> Option<(Tick, Transcoded)> {
        self.ops.push((playlist, work.clone()));
        let chain = self.chains.entry(playlist).or_default();
        let at = match &work {
            VideoOp::Transcode { at, .. } | VideoOp::Compose { at, .. } => *at,
            VideoOp::Finish => {
                // Encoder and decoder go; what is unanswered is answered all the same.
                *chain = Chain { unanswered: chain.unanswered, free_at: chain.free_at, last_at: chain.last_at, ..Chain::default() };
                return None;
            }
        };
        chain.unanswered += 1;
        assert!(chain.unanswered <= MAX_UNANSWERED_PICTURES, "more than agreed are under way");
        assert!(chain.last_at.is_none_or(|last| at > last), "{at:?} after {:?}", chain.last_at);
        chain.last_at = Some(at);
        let spread = if self.spread_us > 0 { self.rng.below(self.spread_us) } else { 0 };
        let units = if let VideoOp::Compose { units, .. } = &work { units.len() as u64 } else { 0 };
        chain.free_at = chain.free_at.max(now.0) + self.least_us + spread + units * self.unit_us;
        let damaged = self.rng.chance(self.undecodable);
        let result = match work {
            VideoOp::Transcode { codec, data, key, rotation, force_key, .. } => {
                chain.newest = if codec == Codec::Vp8 { vp8(&data) } else { h264(&data) }.map(|(_, n)| n);
                chain.transcode(codec, &data, key && !damaged, damaged, rotation, force_key)
            }
            VideoOp::Compose { units, scene, encoding, at, force_key, snapshots: _ } => {
                let (result, frame) = chain.compose(at, units, scene, encoding, force_key, damaged);
                self.frames.push(frame);
                result
            }
            VideoOp::Finish => unreachable!("answered above"),
        };
        Some((Tick(chain.free_at), result))
    }

    /// What a snapshot would show: of the canvas the time of the frame, of a camera the number of its picture.
    pub fn still(&self, playlist: PlaylistKey, camera: Option<TrackKey>) -> Option<Bytes> {
        let chain = self.chains.get(&playlist)?;
        let text = match camera {
            None if chain.canvas.is_none() => chain.newest?.to_string(),
            None => self.frames.last()?.at.0.to_string(),
            Some(track) => chain.cameras.get(&track)?.last?.to_string(),
        };
        Some(Bytes::from(text))
    }

    pub fn answered(&mut self, playlist: PlaylistKey) {
        if let Some(chain) = self.chains.get_mut(&playlist) {
            chain.unanswered -= 1;
        }
    }

    /// Chains that hold a decoder and an encoder.
    pub fn running(&self) -> usize {
        self.chains.values().filter(|c| c.codec.is_some()).count()
    }
}

impl Chain {
    fn compose(
        &mut self,
        at: MediaTime,
        units: Vec<(TrackKey, SourceUnit)>,
        scene: Option<canvas::Scene<stage::Visual>>,
        encoding: Option<Encoding>,
        force_key: bool,
        damaged: bool,
    ) -> (Transcoded, Composed) {
        let (mut undecodable, mut decoded) = (Vec::new(), Vec::new());
        for (track, SourceUnit { codec, data, key, .. }) in units {
            let camera = self.cameras.entry(track).or_default();
            let coded = if codec == Codec::Vp8 { vp8(&data) } else { h264(&data) };
            let number = coded.map(|(_, n)| n).filter(|_| !damaged);
            let follows = key || camera.decodable && number.is_some_and(|n| camera.last == n.checked_sub(1));
            camera.decodable = number.is_some() && follows;
            match number.filter(|_| follows) {
                Some(n) => {
                    camera.last = Some(n);
                    decoded.push((track, n));
                }
                None => undecodable.push(track),
            }
        }
        undecodable.dedup();
        self.canvas = scene.as_ref().map(|scene| (scene.size.width, scene.size.height)).or(self.canvas);
        let size = self.canvas.expect("a chain's first frame has a scene");
        self.owes_key |= force_key;
        let picture = encoding.map(|_| {
            let key = self.encoding != Some(size) || self.owes_key;
            (self.encoding, self.owes_key) = (Some(size), false);
            // Its number is its place in ticks of a thirtieth of a second.
            ComposedPicture { key, size, data: coded_picture(size, (at.0 / 3_000) as u32, key) }
        });
        let key = picture.as_ref().is_some_and(|picture| picture.key);
        (Transcoded::Composed { picture, undecodable }, Composed { at, decoded, scene, key, encoding })
    }

    fn transcode(&mut self, codec: Codec, data: &Bytes, key: bool, damaged: bool, rotation: u16, force_key: bool) -> Transcoded {
        let coded = if codec == Codec::Vp8 { vp8(data) } else { h264(data) };
        self.decodable = (key || self.decodable && self.codec == Some(codec)) && !damaged && coded.is_some();
        self.codec = Some(codec);
        self.owes_key |= force_key;
        let Some((new_size, n)) = coded.filter(|_| self.decodable) else { return Transcoded::Undecodable };
        self.source_size = new_size.unwrap_or(self.source_size);
        let (width, height) = self.source_size;
        let size = if rotation.is_multiple_of(180) { (width, height) } else { (height, width) };
        let key = self.encoding != Some(size) || self.owes_key;
        (self.encoding, self.owes_key) = (Some(size), false);
        Transcoded::Picture { key, size, data: coded_picture(size, n, key) }
    }
}

/// What our encoder would make of it.
fn coded_picture(size: (u32, u32), n: u32, key: bool) -> Bytes {
    let mut out = vec![0, 0, 0, 1, 9, 0xf0];
    let sets = [sps(size), vec![0x68, 0xce, 0x3c, 0x80]];
    for nal in sets.into_iter().filter(|_| key).chain([slice(n, key)]) {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(&nal);
    }
    Bytes::from(out)
}

/// Of a publisher's picture in H.264.
pub fn number_of(data: &Bytes) -> Option<u32> {
    h264(data).map(|(_, n)| n)
}

/// Size, if the access unit has one, and number; None: not what a publisher of ours encoded.
fn h264(data: &Bytes) -> Option<(Option<(u32, u32)>, u32)> {
    let nals = nals(data);
    let known = [(640, 360), (320, 240), (320, 180), (1280, 720), (8, 8), (16, 16), (1920, 1080)];
    let sets = nals.iter().find(|nal| nal[0] & 31 == 7);
    let size = sets.map(|found| known.into_iter().find(|size| sps(*size) == *found));
    if size == Some(None) {
        return None;
    }
    Some((size.flatten(), number(nals.last()?)?))
}

fn vp8(data: &Bytes) -> Option<(Option<(u32, u32)>, u32)> {
    let side = |at: usize| Some(u32::from(u16::from_le_bytes([*data.get(at)?, *data.get(at + 1)?])));
    let key = data.first()? & 1 == 0;
    let number = data.get(if key { 10..14 } else { 3..7 })?;
    let size = if key { Some((side(6)?, side(8)?)) } else { None };
    Some((size, u32::from_be_bytes(number.try_into().ok()?)))
}
