//! What goes through libopus comes out again, and losses are mended as well as they can be.

use recorder_codec::opus::{CONCEAL_STEP_SAMPLES, ENCODE_SAMPLES, OpusDecoder, OpusEncoder};
use recorder_codec::{Channels, CodecError};

mod signal;
use signal::{correlation, goertzel, tone};

/// Like a voice: a 140 Hz buzz whose pitch and loudness move, so that a lost packet cannot be guessed from its past.
fn voice(samples: usize) -> Vec<f32> {
    let mut phase = 0.0f32;
    let step = |i: usize| {
        let t = i as f32 / 48_000.0;
        phase += std::f32::consts::TAU * (140.0 + 60.0 * (t * 23.0).sin()) / 48_000.0;
        let loud = 0.5 + 0.5 * (t * 51.0).sin();
        loud * (1..8).map(|h| (phase * h as f32).sin() / (8.0 * h as f32)).sum::<f32>()
    };
    (0..samples).map(step).collect()
}

fn packets(channels: Channels, bitrate: u32, pcm: &[f32]) -> Vec<Vec<u8>> {
    let mut encoder = OpusEncoder::new(channels, bitrate).expect("encoder");
    let frames = pcm.chunks_exact(ENCODE_SAMPLES * channels.count());
    frames.map(|frame| encoder.encode(frame).expect("packet")).collect()
}

#[test]
fn a_tone_survives_the_round_trip() {
    let sent = tone(440.0, 48_000);
    let mut decoder = OpusDecoder::new(Channels::Mono).expect("decoder");
    let mut heard = Vec::new();
    for packet in packets(Channels::Mono, 64_000, &sent) {
        assert_eq!(OpusDecoder::packet_samples(&packet), Ok(ENCODE_SAMPLES));
        assert_eq!(decoder.decode(&packet, &mut heard), Ok(ENCODE_SAMPLES));
    }
    assert_eq!(heard.len(), sent.len());
    let settled = &heard[4800..43_200];
    let energy = settled.iter().map(|x| x * x).sum::<f32>() / settled.len() as f32;
    // A sine of amplitude a has mean square a^2 / 2; the rest is noise.
    let at_tone = goertzel(settled, 440.0).powi(2) / 2.0;
    assert!(at_tone / energy > 0.98, "{at_tone} of {energy} is the tone");
    assert!((at_tone / 0.125 - 1.0).abs() < 0.2, "loudness kept: {at_tone}");
}

/// recorder-media takes this off the time of every sound.
#[test]
fn sound_comes_out_312_samples_late() {
    let sent = voice(48_000);
    for bitrate in [16_000, 24_000, 32_000, 48_000, 64_000] {
        let mut decoder = OpusDecoder::new(Channels::Mono).expect("decoder");
        let mut heard = Vec::new();
        packets(Channels::Mono, bitrate, &sent).iter().for_each(|packet| {
            decoder.decode(packet, &mut heard).expect("decoded");
        });
        let likeness = |lag: usize| correlation(&sent[9_600..38_400], &heard[9_600 + lag..38_400 + lag]);
        let lag = (0..960).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).expect("a lag");
        println!("{bitrate} bit/s: {lag} samples, likeness {:.3}", likeness(lag));
        // At low rates SILK's own filters move it by a little.
        assert!(lag.abs_diff(312) <= 24, "{bitrate} bit/s: {lag} samples");
    }
}

#[test]
fn stereo_keeps_the_channels_apart() {
    let left = tone(440.0, 48_000);
    let sent: Vec<f32> = left.iter().flat_map(|&l| [l, 0.0]).collect();
    let mut decoder = OpusDecoder::new(Channels::Stereo).expect("decoder");
    let mut heard = Vec::new();
    for packet in packets(Channels::Stereo, 128_000, &sent) {
        assert_eq!(decoder.decode(&packet, &mut heard), Ok(ENCODE_SAMPLES));
    }
    let side = |i: usize| heard[9600..].iter().skip(i).step_by(2).map(|x| x * x).sum::<f32>();
    assert!(side(0) > 50.0 * side(1), "{} and {}", side(0), side(1));
}

#[test]
fn a_lost_packet_is_recovered_better_than_concealed() {
    let sent = packets(Channels::Mono, 32_000, &voice(ENCODE_SAMPLES * 50));
    let (mut recovered, mut concealed, mut losses) = (0.0, 0.0, 0);
    for lost in (10..48).step_by(4) {
        let decode_to = |end: usize| {
            let mut decoder = OpusDecoder::new(Channels::Mono).expect("decoder");
            let mut out = Vec::new();
            for packet in &sent[..end] {
                decoder.decode(packet, &mut out).expect("sound packet");
            }
            (decoder, out)
        };
        let truth = decode_to(lost + 1).1.split_off(lost * ENCODE_SAMPLES);
        let (mut decoder, _) = decode_to(lost);
        let mut fec = Vec::new();
        assert_eq!(decoder.decode_fec(&sent[lost + 1], ENCODE_SAMPLES, &mut fec), Ok(ENCODE_SAMPLES));
        let (mut decoder, _) = decode_to(lost);
        let mut plc = Vec::new();
        assert_eq!(decoder.conceal(ENCODE_SAMPLES, &mut plc), Ok(ENCODE_SAMPLES));
        recovered += correlation(&truth, &fec);
        concealed += correlation(&truth, &plc);
        losses += 1;
    }
    let (recovered, concealed) = (recovered / losses as f32, concealed / losses as f32);
    assert!(recovered > 0.8 && recovered > concealed + 0.1, "FEC {recovered}, concealment {concealed}");
}

#[test]
fn damage_and_misuse_are_errors_and_leave_the_output_alone() {
    let mut decoder = OpusDecoder::new(Channels::Stereo).expect("decoder");
    let mut out = vec![1.0; 3];
    // Code 3 with 0 frames; code 3 with 63 frames of 20 ms; a two-frame packet of odd length; nothing.
    for bad in [&[0xffu8, 0x00][..], &[0xfb, 0x3f, 1, 2], &[0xf9, 1, 2, 3, 4, 5][..4], &[]] {
        let result = decoder.decode(bad, &mut out);
        assert!(matches!(result, Err(CodecError::Damaged { .. })), "{bad:?}: {result:?}");
        assert_eq!(out, [1.0; 3]);
    }
    for samples in [0, CONCEAL_STEP_SAMPLES - 1, 5880, usize::MAX] {
        assert!(matches!(decoder.conceal(samples, &mut out), Err(CodecError::Misuse { .. })));
    }
    let mut encoder = OpusEncoder::new(Channels::Mono, 32_000).expect("encoder");
    assert!(matches!(encoder.encode(&[0.0; 961]), Err(CodecError::Misuse { .. })));
}
