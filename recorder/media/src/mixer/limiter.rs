//! Keeps peaks under the ceiling by turning the gain down before them: look-ahead, all channels alike.

use std::collections::VecDeque;

/// A sample comes out when so many behind it are known, 5 ms.
pub(super) const LOOK_AHEAD: usize = 240;
/// -1 dBFS; the decibel is left for what AAC adds to a peak.
const CEILING: f32 = 0.891_250_9;
/// What comes out is judged with all that are looked ahead at.
const WINDOW: usize = LOOK_AHEAD + 1;
/// The gain returns by 6 dB in 100 ms: 10^(60 / 20 / 48,000) a sample. A peak 3 dB over is forgotten after 50 ms, one 12 dB over after 200:
/// within a syllable, so that nobody stays quiet behind another's peak. Within a period of the lowest voices (12 ms, of which the
/// look-ahead holds 5) it moves by less than half a decibel, so that it does not roughen them.
const RELEASE: f32 = 1.000_143_9;

/// The gain of a sample is the mean, over a window up to the newest sample, of a gain that falls at once as a peak comes into sight, stays
/// while it is in the window, and returns by [`RELEASE`]. Every value that the mean is taken of was made with the sample in sight, so that
/// none is higher than the sample needs; and a step becomes a ramp over the window.
#[derive(Debug)]
pub(super) struct Limiter {
    channels: usize,
    /// What came in last, [`LOOK_AHEAD`] samples once it is full.
    delayed: VecDeque<f32>,
    /// Number of the newest sample that was judged.
    newest: u64,
    /// Gains that samples in the window need, with their numbers. Rising: what a later one undercuts does not matter any more.
    needed: VecDeque<(u64, f32)>,
    /// The last [`WINDOW`] gains, and their sum.
    gains: VecDeque<f32>,
    total: f64,
    /// How many of the newest gains are 1, counted up to [`WINDOW`].
    calm: usize,
}

impl Limiter {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            channels,
            delayed: VecDeque::new(),
            newest: 0,
            needed: VecDeque::new(),
            gains: VecDeque::from(vec![1.0; WINDOW]),
            total: WINDOW as f64,
            calm: WINDOW,
        }
    }

    /// Takes whole samples and appends as many, those that came [`LOOK_AHEAD`] before; of the first ones nothing comes out.
    pub(super) fn limit(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.calm == WINDOW && samples.iter().all(|value| value.abs() <= CEILING) {
            self.delayed.extend(samples);
            let whole = self.delayed.len().saturating_sub(LOOK_AHEAD * self.channels);
            out.extend(self.delayed.drain(..whole));
            return;
        }
        for sample in samples.chunks_exact(self.channels) {
            let gain = self.gain(sample.iter().fold(0.0, |peak, value| value.abs().max(peak)));
            self.delayed.extend(sample);
            if self.delayed.len() > LOOK_AHEAD * self.channels {
                // The bound takes what rounding leaves above the ceiling.
                out.extend(self.delayed.drain(..self.channels).map(|value| (value * gain).clamp(-CEILING, CEILING)));
            }
        }
    }

    /// Appends what is held back.
    pub(super) fn finish(&mut self, out: &mut Vec<f32>) {
        self.limit(&vec![0.0; LOOK_AHEAD * self.channels], out);
    }

    /// The gain of the sample [`LOOK_AHEAD`] before the one with this peak.
    fn gain(&mut self, peak: f32) -> f32 {
        let last = self.gains.back().copied().unwrap_or(1.0);
        let gain = self.lowest_needed(peak).min(last * RELEASE);
        self.total += f64::from(gain) - f64::from(self.gains.pop_front().unwrap_or(1.0));
        self.gains.push_back(gain);
        self.calm = if gain < 1.0 { 0 } else { WINDOW.min(self.calm + 1) };
        if self.calm == WINDOW {
            self.total = WINDOW as f64;
        }
        (self.total / WINDOW as f64) as f32
    }

    /// Of the window up to the sample with this peak; 1 when all are under the ceiling.
    fn lowest_needed(&mut self, peak: f32) -> f32 {
        self.newest += 1;
        if peak > CEILING {
            let gain = CEILING / peak;
            while self.needed.pop_back_if(|(_, before)| *before >= gain).is_some() {}
            self.needed.push_back((self.newest, gain));
        }
        self.needed.pop_front_if(|(number, _)| *number + WINDOW as u64 <= self.newest);
        self.needed.front().map_or(1.0, |(_, gain)| *gain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The gain of each sample of a mono sound.
    fn gains(sound: &[f32]) -> Vec<f32> {
        let mut limiter = Limiter::new(1);
        let ahead = sound.iter().copied().chain([0.0; LOOK_AHEAD]);
        let gains: Vec<f32> = ahead.map(|value| limiter.gain(value.abs())).collect();
        gains[LOOK_AHEAD..].to_vec()
    }

    /// Quiet, with 3 ms at four times full scale.
    fn burst() -> Vec<f32> {
        (0..48_000).map(|n| if (20_000..20_144).contains(&n) { 4.0 } else { 0.5 }).collect()
    }

    #[test]
    fn the_gain_ramps_down_before_a_peak_and_returns_by_6_db_in_100_ms() {
        let gains = gains(&burst());
        let lowest = CEILING / 4.0;
        let ramp = (1.0 - lowest) / WINDOW as f32;
        for (n, pair) in gains.windows(2).enumerate() {
            let (fall, rise) = (pair[0] - pair[1], pair[1] / pair[0]);
            assert!(fall <= ramp * 1.001 && rise <= RELEASE + 1e-6, "{n}: {pair:?}");
        }
        assert!(gains[..20_000 - LOOK_AHEAD].iter().all(|gain| *gain == 1.0), "before the peak is in sight");
        assert!((gains[20_000] - lowest).abs() < 1e-6 && (gains[20_143] - lowest).abs() < 1e-6);
        // 13 dB take 217 ms and the window.
        let back = gains.iter().rposition(|gain| *gain < 1.0).expect("it was lower") - 20_143;
        assert!((10_440..10_440 + 2 * WINDOW + 10).contains(&back), "{back} samples");
    }

    /// Its peaks are nearer to each other than the look-ahead is long.
    #[test]
    fn a_tone_that_stays_over_the_ceiling_is_turned_down_and_not_bent() {
        let tone: Vec<f32> = (0..9_600).map(|n| 2.0 * (n as f32 * std::f32::consts::TAU / 240.0).sin()).collect();
        let gains = gains(&tone);
        for gain in &gains[LOOK_AHEAD..9_600 - LOOK_AHEAD] {
            assert!((gain - CEILING / 2.0).abs() < 1e-5, "{gain}");
        }
    }

    #[test]
    fn all_channels_are_turned_down_alike() {
        let sound: Vec<f32> = burst().into_iter().flat_map(|value| [value, -0.1]).collect();
        let (mut limiter, mut out) = (Limiter::new(2), Vec::new());
        limiter.limit(&sound, &mut out);
        limiter.finish(&mut out);
        assert_eq!(out.len(), sound.len());
        for ((sample, gain), n) in out.chunks(2).zip(gains(&burst())).zip(0..) {
            assert!((sample[1] - -0.1 * gain).abs() < 1e-7, "{n}: {sample:?}, gain {gain}");
        }
    }

    /// Values of which one in four is up to 17 times full scale, between them all is quiet.
    fn sound() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![3 => Just(0.2f32), 1 => -17f32..17.0];
        let stretch = (value, 1usize..400).prop_map(|(value, length)| vec![value; length]);
        prop::collection::vec(stretch, 1..40).prop_map(|stretches| stretches.concat())
    }

    proptest! {
        /// Not even before the last bound, which would bend it.
        #[test]
        fn no_gain_is_higher_than_its_sample_needs(sound in sound()) {
            for (value, gain) in sound.iter().zip(gains(&sound)) {
                prop_assert!(value.abs() * gain <= CEILING * 1.000_001, "{value} * {gain}");
            }
        }

        #[test]
        fn what_stays_below_the_ceiling_passes_bit_by_bit(
            sound in prop::collection::vec(-CEILING..=CEILING, 0..2_000),
            part in 1usize..500,
        ) {
            let (mut limiter, mut out) = (Limiter::new(1), Vec::new());
            sound.chunks(part).for_each(|part| limiter.limit(part, &mut out));
            limiter.finish(&mut out);
            prop_assert_eq!(out, sound);
        }
    }
}
