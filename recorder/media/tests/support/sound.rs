//! The driver's audio chain without codecs: counts samples as the real one does, and remembers where each packet went.

use bytes::Bytes;
use recorder_media::{AudioOp, TrackKey, VoiceOp, mixer};
use std::collections::BTreeMap;

/// Samples per frame; the first frame is the encoder's run-in.
pub const FRAME: i64 = 1024;

/// Makes one fake ADTS frame per 1024 samples, with its number in it.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    /// Samples that came out of the resampler.
    pub fed: i64,
    frames: i64,
    /// Over, total, taken, given.
    resampling: Option<(i64, i64, i64, i64)>,
    /// Number of an Opus packet, and the sample at which it begins.
    pub placed: Vec<(u32, i64)>,
    /// Samples that no packet gave.
    pub silent: i64,
    pub concealed: i64,
    /// Orders to resample: sample, and what is added.
    pub compensations: Vec<(i64, i32)>,
    /// Of a composite: each counts its samples from the place where it began.
    voices: BTreeMap<TrackKey, Encoder>,
    /// Number of an Opus packet of a voice, and its place in the mix.
    pub heard: Vec<(TrackKey, u32, i64)>,
    /// Places before this one are mixed.
    complete: i64,
    /// Packets of voices whose place was mixed already.
    pub late: u32,
}

impl Encoder {
    pub fn run(&mut self, op: &AudioOp) -> Vec<Bytes> {
        match op {
            AudioOp::Decode { packet, samples } => {
                let number = packet.get(1..5).map_or(0, |n| u32::from_be_bytes(n.try_into().expect("four bytes")));
                self.placed.push((number, self.fed));
                self.feed(*samples);
            }
            AudioOp::Recover { samples, .. } | AudioOp::Conceal { samples } => {
                self.concealed += i64::from(*samples);
                self.feed(*samples);
            }
            AudioOp::Silence { samples } => {
                self.silent += i64::from(*samples);
                self.feed(*samples);
            }
            AudioOp::Compensate { samples, over } => {
                self.compensations.push((self.fed, *samples));
                self.resampling = (*over > 0).then(|| (i64::from(*over), i64::from(*over) + i64::from(*samples), 0, 0));
            }
            AudioOp::Mix { samples } => {
                self.feed(*samples);
                self.complete = self.fed + mixer::LAG;
            }
            AudioOp::Voice(track, op) => self.voice(*track, op),
            AudioOp::Reset | AudioOp::Finish => {}
        }
        let whole = self.fed / FRAME + i64::from(*op == AudioOp::Finish);
        let frames = (self.frames..whole).map(|k| Bytes::from(format!("{k:010}"))).collect();
        self.frames = whole.max(self.frames);
        frames
    }

    fn voice(&mut self, track: TrackKey, op: &VoiceOp) {
        match op {
            VoiceOp::Begin { at } => {
                let known = self.voices.insert(track, Self { fed: *at, ..Self::default() });
                assert!(known.is_none(), "{track:?} begins before it ends");
            }
            VoiceOp::Give(op) => {
                let voice = self.voices.get_mut(&track).expect("a voice begins before it gives");
                voice.run(op);
                for (number, at) in voice.placed.drain(..) {
                    self.late += u32::from(at < self.complete);
                    self.heard.push((track, number, at));
                }
            }
            VoiceOp::End => assert!(self.voices.remove(&track).is_some(), "{track:?} ends twice"),
        }
    }

    /// Sample by sample, by the rule that `AudioOp::Compensate` states.
    fn feed(&mut self, samples: u32) {
        if self.resampling.is_none() {
            self.fed += i64::from(samples);
            return;
        }
        for _ in 0..samples {
            let Some((over, total, taken, given)) = &mut self.resampling else {
                self.fed += 1;
                continue;
            };
            let last = *taken + 1 == *over;
            while *given < *total && (last || *given * *over <= *taken * *total) {
                *given += 1;
                self.fed += 1;
            }
            *taken += 1;
            if last {
                self.resampling = None;
            }
        }
    }
}
