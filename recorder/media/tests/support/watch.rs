//! What a reader sees of a playlist of hours: segments are read one by one and forgotten.

use super::reader::{Pes, Reader};
use super::sound::{Encoder, FRAME};
use recorder_media::Tick;

/// RFC 6716 section 2: what libopus' sound comes out late by.
pub const OPUS_DELAY: i64 = 312;

#[derive(Debug, Default)]
pub struct Watch {
    reader: Reader,
    /// PTS and number.
    pub pictures: Vec<(i64, u32)>,
    pub black: u64,
    pub sounds: Vec<(i64, u32)>,
}

impl Watch {
    pub fn segment(&mut self, data: &[u8]) {
        for pes in self.reader.segment(data) {
            self.pes(&pes);
        }
    }

    fn pes(&mut self, pes: &Pes) {
        match (pes.picture(), pes.sounds()) {
            (Some((pts, Some(number), ..)), _) => self.pictures.push((pts, number)),
            (Some(_), _) => self.black += 1,
            (None, sounds) => self.sounds.extend(sounds),
        }
    }

    /// PTS of a sample that went into the encoder.
    fn pts_of(&self, sample: i64) -> Option<i64> {
        let frame = sample / FRAME + 1;
        let index = self.sounds.binary_search_by_key(&(frame as u32), |(_, k)| *k).ok()?;
        Some(self.sounds[index].0 + (sample - (frame - 1) * FRAME) * 15 / 8)
    }

    /// Picture minus sound in ms, as it is in the file against as it was captured, for each picture: by the sound captured next before it.
    pub fn offsets(&self, encoder: &Encoder, pictures: &[Tick], sounds: &[Tick]) -> Vec<(f64, f64)> {
        let mut out = Vec::with_capacity(self.pictures.len());
        for (pts, n) in &self.pictures {
            let seen = pictures[*n as usize];
            let heard = sounds.partition_point(|at| *at <= seen);
            let placed = encoder.placed.binary_search_by_key(&(heard as u32), |(number, _)| number + 1);
            let Some((number, sample)) = placed.ok().map(|i| encoder.placed[i]) else { continue };
            let Some(sound) = self.pts_of(sample + OPUS_DELAY) else { continue };
            let captured_ms = (seen.0 as f64 - sounds[number as usize].0 as f64) / 1000.0;
            out.push((seen.0 as f64 / 1e6, (pts - sound) as f64 / 90.0 - captured_ms));
        }
        out
    }
}
