//! The sound of each playlist: Opus -> 48 kHz samples -> (of a composite: the mix of all ->) AAC-LC, by order of the session and answered at once.

use std::collections::HashMap;

use bytes::Bytes;
use recorder_codec::aac::{AacEncoder, AacProfile};
use recorder_codec::opus::{CONCEAL_STEP_SAMPLES, OpusDecoder, PACKET_SAMPLES_MAX};
use recorder_codec::{Channels, CodecError};
use recorder_media::mixer::{self, Mixer};
use recorder_media::{AudioOp, PlaylistKey, TrackKey, VoiceOp};
use recording_crds::recording::AudioProfile;

/// Agora Cloud Recording, audioProfile 0 to 2.
pub(crate) fn profile(profile: AudioProfile) -> AacProfile {
    let (channels, bitrate_bps) = match profile {
        AudioProfile::Mono48 => (Channels::Mono, 48_000),
        AudioProfile::Mono128 => (Channels::Mono, 128_000),
        AudioProfile::Stereo192 => (Channels::Stereo, 192_000),
    };
    AacProfile { channels, bitrate_bps }
}

#[derive(Debug)]
pub(crate) struct AudioChains {
    profile: AacProfile,
    chains: HashMap<PlaylistKey, AudioChain>,
}

impl AudioChains {
    pub(crate) fn new(profile: AacProfile) -> Self {
        Self { profile, chains: HashMap::new() }
    }

    /// # Errors
    /// When a codec cannot be opened or the encoder fails: nothing that a packet could cause.
    pub(crate) fn run(&mut self, playlist: PlaylistKey, op: AudioOp) -> Result<Vec<Bytes>, CodecError> {
        use std::collections::hash_map::Entry;
        let chain = match self.chains.entry(playlist) {
            Entry::Occupied(chain) => chain.into_mut(),
            Entry::Vacant(place) => place.insert(AudioChain::new(self.profile)?),
        };
        chain.run(op)
    }
}

#[derive(Debug)]
struct AudioChain {
    channels: Channels,
    voice: Voice,
    encoder: AacEncoder,
    /// Less than one AAC frame, waiting for more.
    pending: Vec<f32>,
    mix: Option<Mix>,
}

impl AudioChain {
    fn new(profile: AacProfile) -> Result<Self, CodecError> {
        let channels = profile.channels;
        Ok(Self { channels, voice: Voice::new(channels)?, encoder: AacEncoder::new(profile)?, pending: Vec::new(), mix: None })
    }

    fn run(&mut self, op: AudioOp) -> Result<Vec<Bytes>, CodecError> {
        let finish = op == AudioOp::Finish;
        match op {
            AudioOp::Voice(track, op) => self.mix.get_or_insert_with(|| Mix::new(self.channels)).voice(track, op)?,
            AudioOp::Mix { samples } => self.mix.get_or_insert_with(|| Mix::new(self.channels)).mix(samples, &mut self.pending),
            own => self.voice.take_in(own, &mut self.pending)?,
        }
        let mut frames = Vec::new();
        if finish && !self.pending.is_empty() {
            let whole = self.pending.len().next_multiple_of(self.frame());
            self.pending.resize(whole, 0.0);
        }
        self.encode(&mut frames)?;
        if finish {
            self.encoder.finish(&mut frames)?;
        }
        Ok(frames.into_iter().map(Bytes::from).collect())
    }

    /// Values in one frame of AAC.
    fn frame(&self) -> usize {
        AacEncoder::FRAME_SAMPLES * self.channels.count()
    }

    fn encode(&mut self, frames: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        let whole = self.pending.len() / self.frame() * self.frame();
        for block in self.pending[..whole].chunks_exact(self.frame()) {
            self.encoder.encode(block, frames)?;
        }
        self.pending.drain(..whole);
        Ok(())
    }
}

/// The voices of a composite.
#[derive(Debug)]
struct Mix {
    channels: Channels,
    mixer: Mixer,
    /// Each with the place of what it gives next.
    voices: HashMap<TrackKey, (Voice, i64)>,
    /// The place of what is mixed next.
    next: i64,
    given: Vec<f32>,
}

impl Mix {
    fn new(channels: Channels) -> Self {
        Self { channels, mixer: Mixer::new(mixed(channels)), voices: HashMap::new(), next: 0, given: Vec::new() }
    }

    fn voice(&mut self, track: TrackKey, op: VoiceOp) -> Result<(), CodecError> {
        match op {
            VoiceOp::Begin { at } => drop(self.voices.insert(track, (Voice::new(self.channels)?, at))),
            VoiceOp::Give(op) => {
                let Some((voice, place)) = self.voices.get_mut(&track) else { return Ok(()) };
                let silent = matches!(*op, AudioOp::Silence { .. });
                self.given.clear();
                voice.take_in(*op, &mut self.given)?;
                if !silent {
                    self.mixer.begin(track, mixed(self.channels), *place);
                    self.mixer.give(track, &self.given);
                }
                *place += (self.given.len() / self.channels.count()) as i64;
            }
            VoiceOp::End => {
                self.mixer.end(track);
                self.voices.remove(&track);
            }
        }
        Ok(())
    }

    fn mix(&mut self, samples: u32, out: &mut Vec<f32>) {
        self.next += i64::from(samples);
        self.mixer.mix(self.next + mixer::LAG, out);
    }
}

fn mixed(channels: Channels) -> mixer::Channels {
    match channels {
        Channels::Mono => mixer::Channels::Mono,
        Channels::Stereo => mixer::Channels::Stereo,
    }
}

/// One microphone. Counts are samples of each channel, which lie one beside the other.
#[derive(Debug)]
struct Voice {
    channels: Channels,
    decoder: OpusDecoder,
    compensation: Option<Compensation>,
    decoded: Vec<f32>,
}

impl Voice {
    fn new(channels: Channels) -> Result<Self, CodecError> {
        Ok(Self { channels, decoder: OpusDecoder::new(channels)?, compensation: None, decoded: Vec::new() })
    }

    /// Appends what an operation gives.
    fn take_in(&mut self, op: AudioOp, out: &mut Vec<f32>) -> Result<(), CodecError> {
        self.decoded.clear();
        match op {
            AudioOp::Reset => self.decoder = OpusDecoder::new(self.channels)?,
            AudioOp::Compensate { samples, over } => self.compensation = Compensation::new(samples, over),
            AudioOp::Decode { packet, samples } => {
                if self.decoder.decode(&packet, &mut self.decoded).is_err() {
                    self.conceal(samples as usize);
                }
                self.exactly(samples);
            }
            AudioOp::Recover { next, samples } => {
                let wanted = concealable(samples as usize);
                if self.decoder.decode_fec(&next, wanted, &mut self.decoded).is_err() {
                    self.conceal(samples as usize);
                }
                // What is too much lies furthest from the packet it leads up to.
                let surplus = self.decoded.len().saturating_sub(samples as usize * self.channels.count());
                self.decoded.drain(..surplus);
                self.exactly(samples);
            }
            AudioOp::Conceal { samples } => {
                self.conceal(samples as usize);
                self.exactly(samples);
            }
            AudioOp::Silence { samples } => self.exactly(samples),
            AudioOp::Finish | AudioOp::Voice(..) | AudioOp::Mix { .. } => {}
        }
        self.hand_on(out);
        Ok(())
    }

    /// As much as libopus conceals at once; the rest is silence.
    fn conceal(&mut self, samples: usize) {
        self.decoded.clear();
        let wanted = concealable(samples);
        if let Err(error) = self.decoder.conceal(wanted, &mut self.decoded) {
            tracing::debug!(%error, "nothing to conceal from");
        }
    }

    fn exactly(&mut self, samples: u32) {
        self.decoded.resize(samples as usize * self.channels.count(), 0.0);
    }

    fn hand_on(&mut self, out: &mut Vec<f32>) {
        let Self { compensation, decoded, channels, .. } = self;
        let mut samples = decoded.chunks_exact(channels.count());
        if let Some(under_way) = compensation {
            for sample in samples.by_ref() {
                under_way.push(sample, out);
                if under_way.is_over() {
                    *compensation = None;
                    break;
                }
            }
        }
        out.extend(samples.flatten());
    }
}

fn concealable(samples: usize) -> usize {
    samples.next_multiple_of(CONCEAL_STEP_SAMPLES).clamp(CONCEAL_STEP_SAMPLES, PACKET_SAMPLES_MAX)
}

/// `over` samples become `over + samples`, evenly, by linear interpolation: at most 0.5 % (media.md: 5 ms per second), where the
/// difference to a better filter cannot be heard.
#[derive(Debug)]
struct Compensation {
    over: u64,
    total: u64,
    taken: u64,
    given: u64,
    /// Of each channel.
    previous: [f32; 2],
}

impl Compensation {
    fn new(samples: i32, over: u32) -> Option<Self> {
        let total = u64::from(over).checked_add_signed(i64::from(samples))?;
        (over > 0 && total > 0).then_some(Self { over: u64::from(over), total, taken: 0, given: 0, previous: [0.0; 2] })
    }

    /// Output j stands at input position j * over / total; it is between the sample before and this one.
    fn push(&mut self, sample: &[f32], out: &mut Vec<f32>) {
        if self.taken == 0 {
            self.keep(sample);
        }
        let last = self.taken + 1 == self.over;
        while self.given < self.total && (last || self.given * self.over <= self.taken * self.total) {
            let position = self.given as f64 * self.over as f64 / self.total as f64;
            let fraction = (position - (self.taken as f64 - 1.0)).clamp(0.0, 1.0) as f32;
            out.extend(sample.iter().zip(self.previous).map(|(now, before)| before + (now - before) * fraction));
            self.given += 1;
        }
        self.keep(sample);
        self.taken += 1;
    }

    fn keep(&mut self, sample: &[f32]) {
        self.previous.iter_mut().zip(sample).for_each(|(kept, sample)| *kept = *sample);
    }

    const fn is_over(&self) -> bool {
        self.taken == self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(input: &[f32], samples: i32) -> Vec<f32> {
        let mut compensation = Compensation::new(samples, input.len() as u32).expect("a sensible order");
        let mut out = Vec::new();
        input.iter().for_each(|sample| compensation.push(&[*sample], &mut out));
        assert!(compensation.is_over());
        out
    }

    #[test]
    fn drift_is_absorbed_in_exactly_the_ordered_number_of_samples() {
        let tone: Vec<f32> = (0..48_000).map(|n| (n as f32 * 440.0 * std::f32::consts::TAU / 48_000.0).sin()).collect();
        for samples in [-240, -1, 1, 239, 240] {
            let out = resampled(&tone, samples);
            assert_eq!(out.len() as i32, 48_000 + samples);
            let step = out.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
            assert!(step < 0.06, "no click: the tone itself moves by 0.058 a sample, seen {step}");
        }
        assert!(Compensation::new(-10, 10).is_none() && Compensation::new(5, 0).is_none());
    }

    /// The session counts the same way (recorder-media, audio.rs), so that ending a resampling half-way leaves both with the same sum.
    #[test]
    fn resampling_gives_a_sample_as_soon_as_both_its_neighbours_are_known() {
        for samples in [-240, -7, 1, 240] {
            let (over, total) = (48_000u64, 48_000u64.saturating_add_signed(samples));
            let mut compensation = Compensation::new(samples as i32, over as u32).expect("a sensible order");
            let mut out = Vec::new();
            for taken in 1..=over {
                compensation.push(&[0.0], &mut out);
                let want = if taken == over { total } else { ((taken - 1) * total / over + 1).min(total) };
                assert_eq!(out.len() as u64, want, "{samples} over 48,000: after {taken}");
            }
        }
    }

    /// Twenty minutes of a sound card that is off by 200 ppm: 240 samples over a second, every 25 s.
    #[test]
    fn minutes_of_drift_are_absorbed_without_a_click() {
        const TONE: f64 = 440.0;
        let (mut voice, mut pending) = (Voice::new(Channels::Mono).expect("a codec"), Vec::new());
        let mut encoder = recorder_codec::opus::OpusEncoder::new(Channels::Mono, 48_000).expect("encoder");
        let (mut fed, mut given, mut last, mut worst) = (0i64, 0i64, [0f32; 2], 0f32);
        for packet in 0..60_000u64 {
            if packet % 1250 == 600 {
                let samples = if packet % 2500 == 600 { 240 } else { -240 };
                voice.take_in(AudioOp::Compensate { samples, over: 48_000 }, &mut pending).expect("ordered");
                fed += i64::from(samples);
            }
            let tone = |n: u64| (0.5 * ((packet * 960 + n) as f64 * TONE * std::f64::consts::TAU / 48_000.0).sin()) as f32;
            let sound: Vec<f32> = (0..960).map(tone).collect();
            let coded = encoder.encode(&sound).expect("packet").into();
            voice.take_in(AudioOp::Decode { packet: coded, samples: 960 }, &mut pending).expect("decoded");
            for sample in pending.drain(..) {
                // The second difference of a tone is small; of a sample left out or doubled it is as large as the first.
                let bend = (sample - 2.0 * last[1] + last[0]).abs();
                worst = if given > 9_600 { worst.max(bend) } else { worst };
                last = [last[1], sample];
                given += 1;
            }
            fed += 960;
        }
        assert_eq!(given, fed, "every sample is accounted for");
        let (first, second) = (0.5 * 0.0576, 0.5 * 0.0576 * 0.0576);
        println!("largest second difference {worst:.4}; the tone's own {second:.4}, a click's {first:.4}");
        assert!(worst < first / 2.0, "no click: {worst}");
    }

    #[test]
    fn every_op_yields_the_samples_it_was_asked_for() {
        for of in [AudioProfile::Mono48, AudioProfile::Stereo192] {
            every_op_yields(of);
        }
    }

    fn every_op_yields(of: AudioProfile) {
        let mut chain = AudioChain::new(profile(of)).expect("codecs");
        let garbage = Bytes::from_static(&[0xff, 0xff, 1, 2]);
        let ops = [
            AudioOp::Silence { samples: 1000 },
            AudioOp::Conceal { samples: 77 },
            AudioOp::Decode { packet: garbage.clone(), samples: 960 },
            AudioOp::Recover { next: garbage, samples: 961 },
            AudioOp::Reset,
            AudioOp::Compensate { samples: 24, over: 480 },
            AudioOp::Silence { samples: 4096 },
        ];
        let mut frames = 0;
        for op in ops {
            frames += chain.run(op).expect("carried out").len();
        }
        let fed = 1000 + 77 + 960 + 961 + 4096 + 24;
        assert_eq!(chain.pending.len(), fed % 1024 * chain.channels.count());
        frames += chain.run(AudioOp::Finish).expect("flushed").len();
        assert_eq!(frames, fed.div_ceil(1024) + 1, "n blocks give n + 1 frames");
    }
}
