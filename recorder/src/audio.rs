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
mod tests;
