//! The mix as who listens to it hears it: what stands where, how loud, and that nothing clicks.

use proptest::prelude::*;
use recorder_media::TrackKey;
use recorder_media::mixer::{AHEAD_MAX, Channels, LAG, Mixer};

/// -1 dBFS: 10^(-1 / 20).
const CEILING: f32 = 0.891_250_9;
/// 5 ms.
const FADE: usize = 240;
const ANN: TrackKey = TrackKey(1);
const BEN: TrackKey = TrackKey(2);

fn mono() -> Mixer {
    Mixer::new(Channels::Mono)
}

fn tone(hertz: f64, amplitude: f64, samples: usize) -> Vec<f32> {
    let radians = hertz * std::f64::consts::TAU / 48_000.0;
    (0..samples).map(|n| (amplitude * (n as f64 * radians).sin()) as f32).collect()
}

/// Noise of this peak; another for each seed.
fn noise(seed: u32, peak: f32, samples: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * peak
    };
    std::iter::repeat_with(next).take(samples).collect()
}

/// All that is left to come, up to `until`.
fn finished(mut mixer: Mixer, until: i64, mut out: Vec<f32>) -> Vec<f32> {
    mixer.mix(until, &mut out);
    mixer.finish(&mut out);
    out
}

/// Of a tone it is small; where the tone is cut it is as large as the first.
fn worst_bend(sound: &[f32]) -> f32 {
    sound.windows(3).map(|three| (three[2] - 2.0 * three[1] + three[0]).abs()).fold(0.0, f32::max)
}

/// Amplitude of one tone in a sound (Goertzel); exact over whole periods.
fn amplitude_of(hertz: f64, sound: &[f32]) -> f64 {
    let radians = hertz * std::f64::consts::TAU / 48_000.0;
    let (mut last, mut before) = (0.0, 0.0);
    for value in sound {
        (last, before) = (f64::from(*value) + 2.0 * radians.cos() * last - before, last);
    }
    let power = last * last + before * before - 2.0 * radians.cos() * last * before;
    power.sqrt() * 2.0 / sound.len() as f64
}

#[test]
fn the_mix_is_the_sum_sample_for_sample_behind_the_fades() {
    let (a, b) = (noise(1, 0.3, 9_600), noise(2, 0.3, 4_800));
    let mut mixer = mono();
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.begin(BEN, Channels::Mono, 960);
    a.chunks(960).for_each(|packet| mixer.give(ANN, packet));
    b.chunks(480).for_each(|packet| mixer.give(BEN, packet));
    let out = finished(mixer, 9_600, Vec::new());
    let alone: Vec<usize> = (FADE..960).chain(5_760..9_600 - FADE).collect();
    assert!(alone.iter().all(|n| out[*n] == a[*n]), "one voice is bit-exact, also between packets");
    let both = 960 + FADE..5_760 - FADE;
    assert!(both.clone().all(|n| out[n] == a[n] + b[n - 960]), "two are their sum");
    assert_eq!(out.len(), 9_600);
}

#[test]
fn nine_tones_keep_their_level() {
    let tones = [200.0, 315.0, 440.0, 620.0, 880.0, 1_250.0, 1_760.0, 2_480.0, 3_500.0];
    let mut mixer = mono();
    for (key, hertz) in (0..).zip(tones) {
        mixer.begin(TrackKey(key), Channels::Mono, 0);
        mixer.give(TrackKey(key), &tone(hertz, 0.1, 60_000));
    }
    let out = finished(mixer, 60_000, Vec::new());
    for hertz in tones {
        let decibel = 20.0 * (amplitude_of(hertz, &out[4_800..52_800]) / 0.1).log10();
        assert!(decibel.abs() < 0.5, "{hertz} Hz is off by {decibel:.3} dB");
    }
}

#[test]
fn channels_are_matched_at_the_same_loudness() {
    let stereo: Vec<f32> = tone(440.0, 0.4, 4_800).into_iter().flat_map(|value| [value, 0.5 * value]).collect();
    let mut mixer = Mixer::new(Channels::Stereo);
    mixer.begin(ANN, Channels::Stereo, 0);
    mixer.give(ANN, &stereo);
    mixer.begin(BEN, Channels::Mono, 4_800);
    mixer.give(BEN, &tone(440.0, 0.4, 4_800));
    let out = finished(mixer, 9_600, Vec::new());
    assert_eq!(out.len(), 2 * 9_600);
    assert_eq!(out[2 * FADE..2 * (4_800 - FADE)], stereo[2 * FADE..2 * (4_800 - FADE)]);
    assert!(out[2 * 4_800..].chunks(2).all(|sample| sample[0] == sample[1]));
    assert_eq!(out[2 * 7_000], tone(440.0, 0.4, 4_800)[2_200]);

    let mut mixer = mono();
    mixer.begin(ANN, Channels::Stereo, 0);
    mixer.give(ANN, &stereo);
    let out = finished(mixer, 4_800, Vec::new());
    assert!((FADE..4_800 - FADE).all(|n| out[n] == (stereo[2 * n] + stereo[2 * n + 1]) / 2.0));
}

/// Ann speaks throughout; Ben joins, has a hole, begins elsewhere, is left behind by the mix and leaves, always amid a loud tone.
#[test]
fn nothing_clicks_where_a_voice_begins_stops_or_has_a_hole() {
    let loud = tone(440.0, 0.4, 24_000);
    let mut mixer = mono();
    let mut out = Vec::new();
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.give(ANN, &tone(300.0, 0.4, 48_000));
    mixer.begin(BEN, Channels::Mono, 5_027);
    mixer.give(BEN, &loud[27..3_000]);
    mixer.begin(BEN, Channels::Mono, 9_000);
    mixer.give(BEN, &loud[60..4_000]);
    mixer.begin(BEN, Channels::Mono, 12_500);
    mixer.give(BEN, &loud[100..2_000]);
    mixer.mix(20_000, &mut out);
    mixer.give(BEN, &loud[2_000..12_000]);
    mixer.end(BEN);
    mixer.begin(BEN, Channels::Mono, 24_400);
    mixer.give(BEN, &loud[27..2_000]);
    mixer.end(BEN);
    let out = finished(mixer, 40_000, out);
    let calm = worst_bend(&tone(440.0, 0.4, 4_800)) + worst_bend(&tone(300.0, 0.4, 4_800));
    let click = worst_bend(&[&loud[..3_000], &[0.0; 100][..]].concat());
    let worst = worst_bend(&out);
    assert!(click > 10.0 * calm, "the measure tells a click: {click:.5}, the tones' own {calm:.5}");
    assert!(worst < 1.5 * calm, "no click: {worst:.5}, the tones' own {calm:.5}");
    let heard = |range: std::ops::Range<usize>| amplitude_of(440.0, &out[range]) > 0.3;
    assert!(heard(5_400..7_600) && heard(9_400..12_600) && heard(20_300..24_000) && heard(24_700..26_100), "he is heard all the same");
    assert!(!heard(8_100..8_900) && !heard(15_000..19_900) && !heard(26_400..36_000));
}

#[test]
fn what_is_faded_out_at_the_end_of_the_mix_is_what_goes_on_there() {
    let mut mixer = mono();
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.give(ANN, &[0.5; 4_800]);
    let out = finished(mixer, 2_400, Vec::new());
    assert_eq!((out.len(), out[2_400 - FADE - 1]), (2_400, 0.5));
    assert!(out[2_399] < 0.001 && out[2_400 - FADE..].is_sorted_by(|a, b| a >= b));
}

#[test]
fn what_comes_for_a_complete_place_is_dropped_and_the_rest_stays_in_place() {
    let sound = noise(3, 0.5, 9_600);
    let (mut mixer, mut out) = (mono(), Vec::new());
    mixer.mix(3_000, &mut out);
    mixer.begin(ANN, Channels::Mono, -600);
    sound.chunks(1_000).for_each(|packet| mixer.give(ANN, packet));
    let out = finished(mixer, 9_600, out);
    assert!(out[..3_000].iter().all(|value| *value == 0.0));
    assert_eq!(out[3_000 + FADE..9_000 - FADE], sound[3_600 + FADE..9_600 - FADE]);
}

#[test]
fn a_place_is_given_once() {
    let mut mixer = mono();
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.give(ANN, &[0.2; 2_000]);
    mixer.begin(ANN, Channels::Mono, 1_000);
    mixer.give(ANN, &[0.4; 2_000]);
    let out = finished(mixer, 4_000, Vec::new());
    assert_eq!((out[1_500], out[2_500], out[3_500]), (0.2, 0.4, 0.0));
}

#[test]
fn a_voice_that_is_too_far_ahead_is_silent_there_and_keeps_its_place() {
    let ahead = AHEAD_MAX as usize;
    let (mut mixer, mut out) = (mono(), Vec::new());
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.give(ANN, &vec![0.25; ahead + 4_800]);
    mixer.mix(AHEAD_MAX, &mut out);
    mixer.give(ANN, &[0.5; 4_800]);
    let out = finished(mixer, AHEAD_MAX + 9_600, out);
    assert_eq!(out[ahead - FADE - 1], 0.25);
    assert!(out[ahead..ahead + 4_800].iter().all(|value| *value == 0.0));
    assert!(out[ahead + 4_800 + FADE..ahead + 9_600 - FADE].iter().all(|value| *value == 0.5));
}

#[test]
fn an_ended_voice_is_heard_no_more_until_it_begins_again() {
    let mut mixer = mono();
    mixer.give(ANN, &[0.5; 1_000]);
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.give(ANN, &[0.25; 1_000]);
    mixer.end(ANN);
    mixer.give(ANN, &[0.5; 1_000]);
    mixer.begin(ANN, Channels::Mono, 1_000);
    mixer.give(ANN, &[0.5; 1_000]);
    let out = finished(mixer, 3_000, Vec::new());
    assert_eq!((out[500], out[1_500], out[2_500]), (0.25, 0.5, 0.0));
    assert!(out[999] < 0.001 && out[1_000] < 0.001, "another stay, though close");
}

#[test]
fn no_number_is_silence_and_infinity_is_loud() {
    let mut mixer = mono();
    mixer.begin(ANN, Channels::Mono, 0);
    mixer.give(ANN, &[f32::NAN; 1_000]);
    mixer.give(ANN, &[f32::INFINITY, f32::NEG_INFINITY]);
    mixer.give(ANN, &[0.5; 20_000]);
    let out = finished(mixer, 21_000, Vec::new());
    assert!(out.iter().all(|value| value.abs() <= CEILING));
    assert_eq!((out[500], out[20_500]), (0.0, 0.5));
}

/// A stretch of one voice: silence before it, its length, and whether the voice ends behind it.
type Stretch = (u16, u16, bool);

fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
    let pause = prop_oneof![Just(0u16), 0..300u16, 0..3_000u16];
    prop::collection::vec((pause, 1..2_500u16, any::<bool>()), 1..5)
}

/// Gives a voice's stretches in packets of `part` samples.
struct Speaker {
    key: TrackKey,
    channels: Channels,
    /// Place and sound.
    left: Vec<(i64, Vec<f32>, bool)>,
    given: usize,
    part: usize,
}

impl Speaker {
    fn new(key: u32, peak: f32, stretches: &[Stretch], part: usize) -> Self {
        let channels = if key.is_multiple_of(3) { Channels::Stereo } else { Channels::Mono };
        let mut place = 0;
        let mut left = Vec::new();
        for (n, (pause, length, ends)) in (0..).zip(stretches) {
            place += i64::from(*pause);
            left.push((place, noise(key * 8 + n, peak, usize::from(*length) * channels.count()), *ends));
            place += i64::from(*length);
        }
        left.reverse();
        Self { key: TrackKey(key), channels, left, given: 0, part }
    }

    /// At least all before `until`.
    fn give(&mut self, mixer: &mut Mixer, until: i64) {
        while let Some((place, sound, ends)) = self.left.last().filter(|next| next.0 + (self.given as i64) < until) {
            if self.given == 0 {
                mixer.begin(self.key, self.channels, *place);
            }
            let width = self.channels.count();
            let packet = &sound[self.given * width..sound.len().min((self.given + self.part) * width)];
            mixer.give(self.key, packet);
            self.given += packet.len() / width;
            if self.given * width == sound.len() {
                if *ends {
                    mixer.end(self.key);
                }
                self.left.pop();
                self.given = 0;
            }
        }
    }
}

fn room(voices: &[(Vec<Stretch>, usize)], peak: f32) -> Vec<Speaker> {
    (0..).zip(voices).map(|(key, (stretches, part))| Speaker::new(key, peak, stretches, *part)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_it_is_given_and_mixed_makes_no_difference(
        voices in prop::collection::vec((stretches(), 1..1_500usize), 1..5),
        steps in prop::collection::vec((1..2_000i64, 0..2_000i64), 1..40),
        stereo in any::<bool>(),
        peak in prop_oneof![Just(0.1f32), Just(1.0f32)],
    ) {
        const END: i64 = 16_000;
        let channels = if stereo { Channels::Stereo } else { Channels::Mono };
        let mut whole = Mixer::new(channels);
        for mut speaker in room(&voices, peak) {
            speaker.part = usize::MAX >> 8;
            speaker.give(&mut whole, i64::MAX);
        }
        let want = finished(whole, END, Vec::new());

        let (mut mixer, mut out, mut until) = (Mixer::new(channels), Vec::new(), 0);
        let mut speakers = room(&voices, peak);
        for (step, ahead) in steps.iter().cycle() {
            until = END.min(until + step);
            speakers.iter_mut().for_each(|speaker| speaker.give(&mut mixer, until + ahead));
            mixer.mix(until, &mut out);
            prop_assert_eq!(out.len(), (until - LAG).max(0) as usize * channels.count());
            if until == END {
                break;
            }
        }
        mixer.finish(&mut out);
        prop_assert_eq!(out.len(), END as usize * channels.count());
        let differs = out.iter().zip(&want).position(|(a, b)| a.to_bits() != b.to_bits());
        prop_assert_eq!(differs, None);
    }

    #[test]
    fn the_ceiling_holds_however_many_shout(voices in prop::collection::vec((stretches(), Just(960)), 1..=17), peak in 0.5f32..2.0) {
        let mut mixer = mono();
        room(&voices, peak).iter_mut().for_each(|speaker| speaker.give(&mut mixer, i64::MAX));
        let out = finished(mixer, 24_000, Vec::new());
        prop_assert_eq!(out.len(), 24_000);
        prop_assert_eq!(out.iter().find(|value| value.is_nan() || value.abs() > CEILING), None);
    }
}

#[test]
fn the_ceiling_holds_with_seventeen_at_full_scale_in_step() {
    let mut mixer = mono();
    let square: Vec<f32> = (0..24_000).map(|n| if n / 120 % 2 == 0 { 1.0 } else { -1.0 }).collect();
    for key in 0..17 {
        mixer.begin(TrackKey(key), Channels::Mono, i64::from(key) * 100);
        mixer.give(TrackKey(key), &square);
    }
    let out = finished(mixer, 26_000, Vec::new());
    let peak = out.iter().fold(0.0f32, |peak, value| peak.max(value.abs()));
    assert!((CEILING - 0.001..=CEILING).contains(&peak), "{peak}");
}
