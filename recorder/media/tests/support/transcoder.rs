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
}

#[derive(Clone, Debug)]
pub struct Transcoder {
    /// Each picture takes this long ...
    pub least_us: u64,
    /// ... and up to this much more.
    pub spread_us: u64,
    /// Percent of access units that turn out to be undecodable.
    pub undecodable: u64,
    pub rng: Lcg,
    pub ops: Vec<(PlaylistKey, VideoOp)>,
    chains: BTreeMap<PlaylistKey, Chain>,
}

impl Default for Transcoder {
    fn default() -> Self {
        Self { least_us: 8_000, spread_us: 8_000, undecodable: 0, rng: Lcg(5), ops: Vec::new(), chains: BTreeMap::new() }
    }
}

impl Transcoder {
    /// When the answer comes, and what it is.
    pub fn run(&mut self, now: Tick, playlist: PlaylistKey, work: VideoOp) -> Option<(Tick, Transcoded)> {
        self.ops.push((playlist, work.clone()));
        let chain = self.chains.entry(playlist).or_default();
        let VideoOp::Transcode { codec, data, key, rotation, at, force_key } = work else {
            // Encoder and decoder go; what is unanswered is answered all the same.
            *chain = Chain { unanswered: chain.unanswered, free_at: chain.free_at, last_at: chain.last_at, ..Chain::default() };
            return None;
        };
        chain.unanswered += 1;
        assert!(chain.unanswered <= MAX_UNANSWERED_PICTURES, "more than agreed are under way");
        assert!(chain.last_at.is_none_or(|last| at > last), "{at:?} after {:?}", chain.last_at);
        chain.last_at = Some(at);
        let spread = if self.spread_us > 0 { self.rng.below(self.spread_us) } else { 0 };
        chain.free_at = chain.free_at.max(now.0) + self.least_us + spread;
        let damaged = self.rng.chance(self.undecodable);
        let result = chain.transcode(codec, &data, key && !damaged, damaged, rotation, force_key);
        Some((Tick(chain.free_at), result))
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
        let mut out = vec![0, 0, 0, 1, 9, 0xf0];
        let sets = [sps(size), vec![0x68, 0xce, 0x3c, 0x80]];
        for nal in sets.into_iter().filter(|_| key).chain([slice(n, key)]) {
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(&nal);
        }
        Transcoded::Picture { key, size, data: Bytes::from(out) }
    }
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
