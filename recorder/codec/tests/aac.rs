//! AAC frames are where the timestamps say they are. Decoded by FFmpeg's own decoder.

use ffmpeg_next::codec::{Context, Id, decoder};
use ffmpeg_next::{Packet, frame};
use recorder_codec::aac::{AacEncoder, AacProfile};
use recorder_codec::{Channels, CodecError};

mod signal;
use signal::{goertzel, tone};

const FRAME: usize = AacEncoder::FRAME_SAMPLES;

fn encoder(channels: Channels) -> AacEncoder {
    let bitrate_bps = 64_000 * channels.count() as u32;
    AacEncoder::new(AacProfile { channels, bitrate_bps }).expect("encoder")
}

fn encode(channels: Channels, pcm: &[f32]) -> Vec<Vec<u8>> {
    let (mut encoder, mut frames) = (encoder(channels), Vec::new());
    for chunk in pcm.chunks_exact(FRAME * channels.count()) {
        encoder.encode(chunk, &mut frames).expect("frame");
    }
    encoder.finish(&mut frames).expect("end");
    frames
}

/// The samples of each channel.
fn decode(frames: &[Vec<u8>], channels: usize) -> Vec<Vec<f32>> {
    let codec = decoder::find(Id::AAC).expect("FFmpeg has an AAC decoder");
    let mut decoder = Context::new_with_codec(codec).decoder().open().expect("decoder");
    let (mut sound, mut out) = (frame::Audio::empty(), vec![Vec::new(); channels]);
    for adts in frames {
        decoder.send_packet(&Packet::copy(adts)).expect("valid ADTS");
        while decoder.receive_frame(&mut sound).is_ok() {
            assert_eq!((sound.planes(), sound.rate()), (channels, 48_000));
            (0..channels).for_each(|c| out[c].extend_from_slice(sound.plane::<f32>(c)));
        }
    }
    out
}

#[test]
fn an_impulse_comes_out_initial_padding_later() {
    // The last one comes after silence that is repeated, not encoded.
    for at in [3000, 4096, 10_001, 40_961] {
        let mut pcm = vec![0.0; FRAME * 48];
        pcm[at] = 0.9;
        let heard = decode(&encode(Channels::Mono, &pcm), 1).remove(0);
        let loudest = |x: &[f32]| (0..x.len()).max_by(|&a, &b| x[a].abs().total_cmp(&x[b].abs()));
        let peak = loudest(&heard).expect("sound");
        assert_eq!(peak, at + AacEncoder::INITIAL_PADDING, "impulse at {at}");
    }
}

#[test]
fn a_tone_keeps_its_pitch_loudness_and_channel() {
    let (left, right) = (tone(440.0, FRAME * 48), tone(1000.0, FRAME * 48));
    let pcm: Vec<f32> = left.iter().zip(&right).flat_map(|(&l, &r)| [l, r]).collect();
    let heard = decode(&encode(Channels::Stereo, &pcm), 2);
    for (side, own, other) in [(0, 440.0, 1000.0), (1, 1000.0, 440.0)] {
        let settled = &heard[side][4 * FRAME..][..40 * FRAME];
        let (own, other) = (goertzel(settled, own), goertzel(settled, other));
        assert!((own - 0.5).abs() < 0.03 && other < 0.01, "channel {side}: {own}, other {other}");
    }
}

#[test]
fn n_frames_in_give_n_plus_one_out_with_sound_headers() {
    for (channels, config) in [(Channels::Mono, 1), (Channels::Stereo, 2)] {
        let frames = encode(channels, &vec![0.0; FRAME * 10 * channels.count()]);
        assert_eq!(frames.len(), 11);
        for frame in &frames {
            assert_eq!(frame[..2], [0xff, 0xf1], "sync, MPEG-4, no CRC");
            assert_eq!(frame[2] >> 6, 1, "LC");
            assert_eq!(frame[2] >> 2 & 15, 3, "48 kHz");
            assert_eq!((frame[2] & 1) << 2 | frame[3] >> 6, config, "channels");
            let [a, b, c] = [frame[3] & 3, frame[4], frame[5]].map(usize::from);
            assert_eq!(a << 11 | b << 3 | c >> 5, frame.len(), "length");
            assert_eq!(frame[6] & 3, 0, "one block");
        }
        let bytes: usize = frames.iter().map(Vec::len).sum();
        assert!(bytes < 11 * 40, "silence is small: {bytes}");
    }
}

#[test]
fn repeated_silence_is_what_the_encoder_would_have_written() {
    let mut pcm = tone(440.0, FRAME * 40);
    pcm[FRAME * 10..FRAME * 30].fill(0.0);
    // -0.0 == 0.0 is silence too; the smallest number is not, and sounds the same.
    let mut encoded_silence = pcm.clone();
    encoded_silence[FRAME * 10..FRAME * 30].fill(f32::MIN_POSITIVE);
    let (repeated, encoded) = (encode(Channels::Mono, &pcm), encode(Channels::Mono, &encoded_silence));
    assert_eq!(repeated.len(), 41);
    assert_eq!(repeated[..32], encoded[..32], "byte for byte until the sound returns");
    let heard = decode(&repeated, 1).remove(0);
    assert!(heard[FRAME * 13..FRAME * 30].iter().all(|x| x.abs() < 1e-4), "silence is silent");
    let late = &heard[FRAME * 34..FRAME * 40];
    assert!((goertzel(late, 440.0) - 0.5).abs() < 0.03, "the tone is back");
}

#[test]
fn misuse_is_an_error_and_consumes_nothing() {
    let (mut encoder, mut out) = (encoder(Channels::Mono), Vec::new());
    for bad in [vec![], vec![0.0; 1023], vec![0.0; 2048], vec![f32::NAN; FRAME]] {
        assert!(matches!(encoder.encode(&bad, &mut out), Err(CodecError::Misuse { .. })));
    }
    encoder.encode(&[0.0; FRAME], &mut out).expect("still usable");
    encoder.finish(&mut out).expect("end");
    assert_eq!(out.len(), 2);
    assert!(matches!(encoder.encode(&[0.0; FRAME], &mut out), Err(CodecError::Encode { .. })));
    assert!(encoder.finish(&mut out).is_err());
}
