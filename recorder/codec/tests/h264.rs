//! Key frames are where they were ordered, pictures come back, damage is an error.

use recorder_codec::h264::{EncodedFrame, H264Config, H264Encoder, Latency, Preset, Rate};
use recorder_codec::video::{VideoCodec, VideoDecoder};
use recorder_codec::{CodecError, Colour, Decoded, I420, Picture};

const FORCED: [usize; 3] = [7, 8, 30];
const FRAMES: usize = 60;
const TICKS: i64 = 3000;

fn config(latency: Latency, baseline: bool) -> H264Config {
    let preset = if baseline { Preset::Ultrafast } else { Preset::Veryfast };
    H264Config {
        width: 320,
        height: 180,
        frames_per_second: 30,
        rate: Rate::Average { kbps: 1500 },
        colour: Colour::default(),
        preset,
        latency,
        baseline,
        threads: 2,
    }
}

/// A moving gradient; from frame 45 on inverted, a cut that would tempt x264's scene detection.
fn scene(n: usize) -> Picture {
    let flip = if n >= 45 { 255 } else { 0 };
    let luma = |i: usize| ((i % 320 + i / 320 + n * 2) / 2 % 220) as u8 ^ flip;
    let chroma = |i: usize| (96 + (i % 160 + n) % 64) as u8 ^ flip;
    Picture {
        width: 320,
        height: 180,
        y: (0..320 * 180).map(luma).collect(),
        u: (0..160 * 90).map(chroma).collect(),
        v: (0..160 * 90).rev().map(chroma).collect(),
        pts: n as i64 * TICKS,
        colour: Colour::default(),
    }
}

fn encode(config: &H264Config) -> Vec<EncodedFrame> {
    let mut encoder = H264Encoder::new(config).expect("encoder");
    let mut out = Vec::new();
    for n in 0..FRAMES {
        let picture = scene(n);
        encoder.encode(&picture.i420(), picture.pts, FORCED.contains(&n), &mut out).expect("frame");
        if config.latency == Latency::ZeroLatency {
            assert_eq!(out.len(), n + 1, "one out for each in");
        }
    }
    encoder.finish(&mut out).expect("end");
    out
}

/// NAL unit types in order, from the start codes.
fn nal_types(annex_b: &[u8]) -> Vec<u8> {
    let starts = annex_b.windows(4).filter(|w| w[..3] == [0, 0, 1]);
    starts.map(|w| w[3] & 31).collect()
}

fn psnr(a: &Picture, b: &Picture) -> f64 {
    let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
    let error = a.y.iter().zip(&b.y).map(square).sum::<f64>() / a.y.len() as f64;
    10.0 * (255.0f64.powi(2) / error.max(1e-9)).log10()
}

fn configs() -> Vec<H264Config> {
    let both = |baseline| [Latency::ZeroLatency, Latency::Lookahead].map(|l| config(l, baseline));
    [false, true].into_iter().flat_map(both).collect()
}

#[test]
fn key_frames_are_exactly_where_forced_and_carry_their_headers() {
    for config in configs() {
        let frames = encode(&config);
        assert_eq!(frames.len(), FRAMES);
        for frame in &frames {
            let n = (frame.pts / TICKS) as usize;
            assert_eq!(frame.keyframe, n == 0 || FORCED.contains(&n), "frame {n} of {config:?}");
            let mut types = nal_types(&frame.data);
            types.retain(|nal| *nal != 6); // SEI
            // One slice a picture: sliced threads are off.
            let expected: &[u8] = if frame.keyframe { &[7, 8, 5] } else { &[1] };
            assert_eq!(types, expected, "frame {n} of {config:?}");
        }
        assert!(frames.is_sorted_by(|a, b| a.dts < b.dts), "dts increase");
        assert!(frames.iter().all(|f| f.dts <= f.pts));
        let reordered = !frames.is_sorted_by_key(|f| f.pts);
        assert_eq!(reordered, config.latency == Latency::Lookahead && !config.baseline);
    }
}

#[test]
fn pictures_come_back_with_their_timestamps() {
    for config in configs() {
        let mut decoder = VideoDecoder::new(VideoCodec::H264).expect("decoder");
        let mut seen = Vec::new();
        for frame in encode(&config) {
            decoder.decode(&frame.data, frame.pts, &mut seen).expect("whole frame");
        }
        decoder.finish(&mut seen).expect("end");
        assert_eq!(seen.len(), FRAMES, "{config:?}");
        for (n, picture) in seen.iter().map(Decoded::picture).enumerate() {
            let (sent, n) = (scene(n), n as i64);
            assert_eq!((picture.width, picture.height, picture.pts), (320, 180, n * TICKS));
            let psnr = psnr(&sent, &picture);
            assert!(psnr > 30.0, "frame {n}: {psnr} dB with {config:?}");
        }
    }
}

#[test]
fn damaged_access_units_are_errors_and_the_next_key_frame_mends() {
    let frames = encode(&config(Latency::ZeroLatency, true));
    let mut decoder = VideoDecoder::new(VideoCodec::H264).expect("decoder");
    let mut seen = Vec::new();
    let before_headers = decoder.decode(&frames[1].data, 0, &mut seen);
    assert!(matches!(before_headers, Err(CodecError::Damaged { .. })), "{before_headers:?}");
    for junk in [vec![], vec![0; 100], (0..200).collect::<Vec<u8>>(), vec![0xff; 300]] {
        let result = decoder.decode(&junk, 0, &mut seen);
        assert!(matches!(result, Err(CodecError::Damaged { .. })), "{result:?}");
    }
    decoder.decode(&frames[0].data, 0, &mut seen).expect("key frame");
    let torn = &frames[1].data[..frames[1].data.len() / 2];
    assert!(decoder.decode(torn, TICKS, &mut seen).is_err(), "half a frame");
    seen.clear();
    decoder.decode(&frames[30].data, 30 * TICKS, &mut seen).expect("key frame");
    decoder.finish(&mut seen).expect("end");
    let mended = seen.last().expect("a picture").picture();
    assert!(mended.pts == 30 * TICKS && psnr(&scene(30), &mended) > 30.0);
}

#[test]
fn misuse_is_an_error() {
    let good = config(Latency::ZeroLatency, true);
    for bad in [
        H264Config { width: 321, ..good.clone() },
        H264Config { height: 0, ..good.clone() },
        H264Config { frames_per_second: 0, ..good.clone() },
    ] {
        assert!(matches!(H264Encoder::new(&bad), Err(CodecError::Misuse { .. })));
    }
    let mut encoder = H264Encoder::new(&good).expect("encoder");
    let (picture, mut out) = (scene(0), Vec::new());
    let mut short = picture.i420();
    short.u = &short.u[1..];
    assert!(matches!(encoder.encode(&short, 0, false, &mut out), Err(CodecError::Misuse { .. })));
    encoder.encode(&picture.i420(), 5, false, &mut out).expect("frame");
    let again = encoder.encode(&picture.i420(), 5, false, &mut out);
    assert!(matches!(again, Err(CodecError::Misuse { .. })), "pts must increase");
}

#[test]
fn codecs_may_move_between_threads_and_versions_are_told() {
    fn is_send<T: Send>() {}
    is_send::<H264Encoder>();
    is_send::<VideoDecoder>();
    is_send::<recorder_codec::aac::AacEncoder>();
    is_send::<recorder_codec::opus::OpusDecoder>();
    is_send::<recorder_codec::opus::OpusEncoder>();
    let versions = recorder_codec::versions();
    assert!(versions.contains("FFmpeg") && versions.contains("libopus"), "{versions}");
    println!("{versions}");
}

/// Noise that no encoder can shrink, as a camera at `frames_per_second` sends it for 4 seconds; sum of the bytes.
fn noise_bytes(frames_per_second: i64) -> usize {
    let (width, height) = (320, 180);
    let mut encoder = H264Encoder::new(&H264Config::transcoding(width, height, Colour::default())).expect("encoder");
    let (mut state, mut out) = (1u32, Vec::new());
    let mut noise = |samples: u32| {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..samples).map(next).collect::<Vec<u8>>()
    };
    for n in 0..4 * frames_per_second {
        let (y, u, v) = (noise(width * height), noise(width * height / 4), noise(width * height / 4));
        let pts = n * 90_000 / frames_per_second;
        let picture = Picture { width, height, y, u, v, pts, colour: Colour::default() };
        encoder.encode(&picture.i420(), pts, n == 0, &mut out).expect("frame");
        assert_eq!(out.last().map(|frame| (frame.pts, frame.dts)), Some((pts, pts)), "one out for each in, at its time");
    }
    out.iter().map(|frame| frame.data.len()).sum()
}

#[test]
fn transcoding_gives_each_picture_at_once_and_keeps_to_its_limit() {
    // 500 kbit/s, the least limit, is 2083 bytes for a thirtieth of a second; the buffer of one second may be spent once.
    for frames_per_second in [10, 30, 60] {
        let (bytes, limit) = (noise_bytes(frames_per_second), 2083 * 4 * frames_per_second as usize + 62_500);
        assert!((limit / 2..limit).contains(&bytes), "{bytes} bytes at {frames_per_second} pictures a second, {limit} allowed");
    }
}

#[test]
fn transcoding_tells_players_the_colours_of_what_it_was_given() {
    let mut encoder = H264Encoder::new(&H264Config { width: 160, height: 96, ..vp8_like() }).expect("encoder");
    let (y, c) = (vec![100; 160 * 96], vec![90; 80 * 48]);
    let mut out = Vec::new();
    let picture = I420 { width: 160, height: 96, y: &y, u: &c, v: &c };
    encoder.encode(&picture, 0, true, &mut out).expect("frame");
    let (mut decoder, mut seen) = (VideoDecoder::new(VideoCodec::H264).expect("decoder"), Vec::new());
    decoder.decode(&out[0].data, 0, &mut seen).expect("whole");
    let seen = seen[0].picture();
    assert_eq!(seen.colour, vp8_like().colour);
    assert_ne!(seen.colour, Colour::default());
}

/// As for a picture that came out of the VP8 decoder: BT.601.
fn vp8_like() -> H264Config {
    let vp8 = include_bytes!("../../media/tests/streams/vp8.ivf");
    let first = &vp8[44..44 + u32::from_le_bytes([vp8[32], vp8[33], vp8[34], vp8[35]]) as usize];
    let (mut decoder, mut seen) = (VideoDecoder::new(VideoCodec::Vp8).expect("decoder"), Vec::new());
    decoder.decode(first, 0, &mut seen).expect("key frame");
    let seen = seen[0].picture();
    H264Config::transcoding(seen.width, seen.height, seen.colour)
}
