use std::f32::consts::TAU;
use std::io::Write;
use std::process::{Command, Stdio};

use recorder_codec::opus::OpusEncoder;

use super::*;

/// Of one packet.
const SAMPLES: usize = 960;

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
    let mut encoder = OpusEncoder::new(Channels::Mono, 48_000).expect("encoder");
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

/// What players decode (FFmpeg does), all channels together.
fn decoded(frames: &[Bytes]) -> Vec<f32> {
    let command = ["-v", "error", "-f", "aac", "-i", "-", "-f", "f32le", "-"];
    let mut ffmpeg = Command::new("ffmpeg").args(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ffmpeg");
    let (mut stdin, frames) = (ffmpeg.stdin.take().expect("a pipe"), frames.concat());
    let writing = std::thread::spawn(move || stdin.write_all(&frames));
    let output = ffmpeg.wait_with_output().expect("decoded");
    writing.join().expect("no panic").expect("written");
    output.stdout.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

/// A microphone: a tone from one packet to another.
struct Tone {
    track: TrackKey,
    hertz: f32,
    level: f32,
    packets: std::ops::Range<usize>,
    encoder: OpusEncoder,
}

impl Tone {
    fn new(track: u32, hertz: f32, level: f32, packets: std::ops::Range<usize>) -> Self {
        Self { track: TrackKey(track), hertz, level, packets, encoder: OpusEncoder::new(Channels::Mono, 64_000).expect("an encoder") }
    }

    fn ops(&mut self, packet: usize) -> Vec<AudioOp> {
        let tone = |n: usize| self.level * ((packet * SAMPLES + n) as f32 * self.hertz * TAU / 48_000.0).sin();
        let sound: Vec<f32> = (0..SAMPLES).map(tone).collect();
        let coded = self.encoder.encode(&sound).expect("a packet").into();
        let begin = (packet == self.packets.start).then_some(VoiceOp::Begin { at: (packet * SAMPLES) as i64 });
        let give = VoiceOp::Give(Box::new(AudioOp::Decode { packet: coded, samples: SAMPLES as u32 }));
        let end = (packet + 1 == self.packets.end).then_some(VoiceOp::End);
        let ops = begin.into_iter().chain([give]).chain(end);
        ops.map(|op| AudioOp::Voice(self.track, op)).collect()
    }
}

/// The mix of these tones, as AAC, decoded.
fn mixed_and_decoded(of: AudioProfile, tones: &mut [Tone], packets: usize) -> Vec<f32> {
    let mut chain = AudioChain::new(profile(of)).expect("codecs");
    let mut frames = Vec::new();
    for packet in 0..packets {
        for tone in tones.iter_mut().filter(|tone| tone.packets.contains(&packet)) {
            for op in tone.ops(packet) {
                frames.extend(chain.run(op).expect("carried out"));
            }
        }
        frames.extend(chain.run(AudioOp::Mix { samples: SAMPLES as u32 }).expect("mixed"));
    }
    frames.extend(chain.run(AudioOp::Finish).expect("flushed"));
    decoded(&frames)
}

/// The limiter keeps them at -1 dBFS; what AAC adds to a peak may not reach -0.3.
#[test]
fn seventeen_voices_at_full_scale_stay_below_full_scale_when_they_are_decoded() {
    const PACKETS: usize = 250;
    for of in [AudioProfile::Mono48, AudioProfile::Mono128, AudioProfile::Stereo192] {
        let mut tones: Vec<Tone> = (0..17).map(|n| Tone::new(n, 110.0 * 1.13f32.powi(n as i32), 1.0, 0..PACKETS)).collect();
        let heard = mixed_and_decoded(of, &mut tones, PACKETS);
        let peak = heard.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        let rms = (heard.iter().map(|sample| f64::from(sample * sample)).sum::<f64>() / heard.len() as f64).sqrt();
        println!("{of:?}: peak {:.2} dBFS, RMS {:.2} dBFS", 20.0 * peak.log10(), 20.0 * rms.log10());
        assert!(heard.len() >= PACKETS * SAMPLES && rms > 0.05, "they are heard: {rms}");
        assert!(20.0 * peak.log10() <= -0.3, "{of:?}: {:.2} dBFS", 20.0 * peak.log10());
    }
}

/// Somebody speaks all the time, others come and go in the middle of their words, fifty times.
#[test]
fn nobody_is_heard_to_click_who_joins_or_leaves() {
    const PACKETS: usize = 500;
    let bends = |others: bool| {
        let visits = (0..50u32).filter(|_| others).map(|n| {
            let start = 10 + 9 * n as usize;
            Tone::new(100 + n, 300.0, 0.1, start..start + 4)
        });
        let mut tones: Vec<Tone> = std::iter::once(Tone::new(1, 440.0, 0.1, 0..PACKETS)).chain(visits).collect();
        let heard = mixed_and_decoded(AudioProfile::Mono128, &mut tones, PACKETS);
        let settled = &heard[SAMPLES * 5..heard.len() - SAMPLES * 5];
        settled.windows(3).map(|three| (three[2] - 2.0 * three[1] + three[0]).abs()).fold(0.0, f32::max)
    };
    // The second difference of a tone is small; where a tone begins or ends at once it is as large as the sample itself.
    let (alone, with_others) = (bends(false), bends(true));
    println!("largest second difference: alone {alone:.5}, with others {with_others:.5}; a click's {:.5}", 0.1);
    assert!(with_others < 3.0 * alone.max(0.0005), "{with_others} with others, {alone} alone");
}
