//! What each codec costs: milliseconds of one core per second of media. `cargo run --release --example codec_cost`
//!
//! Single-threaded: the CPU time is the main thread's as Linux counts it, so a busy machine does not disturb.

use recorder_codec::aac::{AacEncoder, AacProfile};
use recorder_codec::h264::{H264Config, H264Encoder, Latency, Preset};
use recorder_codec::opus::{ENCODE_SAMPLES, OpusDecoder, OpusEncoder};
use recorder_codec::video::{VideoCodec, VideoDecoder};
use recorder_codec::{Channels, CodecError, Colour, Crop, I420, Picture, Rotation, SAMPLE_RATE, Scaler};

const SECONDS: usize = 60;
const PICTURE_SECONDS: usize = 5;

fn main() -> Result<(), CodecError> {
    println!("{}", recorder_codec::versions());
    let sound: Vec<f32> = (0..SAMPLE_RATE as usize * SECONDS).map(buzz).collect();
    aac("AAC 48 kbit/s mono, tones", &sound)?;
    aac("AAC 48 kbit/s mono, silence", &vec![0.0; sound.len()])?;
    opus(&sound)?;
    h264(Preset::Veryfast, Latency::Lookahead)?;
    h264(Preset::Veryfast, Latency::ZeroLatency)?;
    h264(Preset::Ultrafast, Latency::ZeroLatency)?;
    rotation();
    scaling()
}

/// A few moving tones and some noise.
fn buzz(i: usize) -> f32 {
    let t = i as f32 / SAMPLE_RATE as f32;
    let noise = (i.wrapping_mul(2_654_435_761) >> 8 & 0xff) as f32 / 256.0 - 0.5;
    let loud = 0.5 + 0.5 * (t * 19.0).sin();
    loud * ((t * 1300.0).sin() + 0.5 * (t * 7000.0 + (t * 5.0).sin()).sin()) * 0.3 + noise * 0.02
}

/// CPU time of this thread since its start.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.expect("the first field of schedstat is the time on the CPU") / 1e9
}

fn report(what: &str, since: f64, seconds: usize) {
    println!("{what}: {:.2} ms per second", (cpu_seconds() - since) * 1e3 / seconds as f64);
}

fn aac(what: &str, pcm: &[f32]) -> Result<(), CodecError> {
    let mut encoder = AacEncoder::new(AacProfile { channels: Channels::Mono, bitrate_bps: 48_000 })?;
    let (since, mut out) = (cpu_seconds(), Vec::new());
    for frame in pcm.chunks_exact(AacEncoder::FRAME_SAMPLES) {
        encoder.encode(frame, &mut out)?;
        out.clear();
    }
    report(what, since, SECONDS);
    Ok(())
}

fn opus(pcm: &[f32]) -> Result<(), CodecError> {
    let mut encoder = OpusEncoder::new(Channels::Mono, 32_000)?;
    let (mut decoder, mut out) = (OpusDecoder::new(Channels::Mono)?, Vec::new());
    let since = cpu_seconds();
    let packets = pcm.chunks_exact(ENCODE_SAMPLES).map(|frame| encoder.encode(frame));
    let packets = packets.collect::<Result<Vec<_>, _>>()?;
    report("Opus encode 32 kbit/s mono", since, SECONDS);
    let since = cpu_seconds();
    for packet in &packets {
        out.clear();
        decoder.decode(packet, &mut out)?;
    }
    report("Opus decode mono", since, SECONDS);
    Ok(())
}

fn h264(preset: Preset, latency: Latency) -> Result<(), CodecError> {
    const FPS: usize = 30;
    let (width, height) = (1280u32, 720u32);
    let config = H264Config { latency, preset, ..H264Config::transcoding(width, height, Colour::default()) };
    let luma = |n: usize| move |i: usize| ((i % 1280 + i / 1280 + 3 * n) / 3 % 220) as u8;
    let pictures: Vec<Vec<u8>> = (0..FPS).map(|n| (0..1280 * 720).map(luma(n)).collect()).collect();
    let grey = vec![128; 1280 * 720 / 4];
    let (mut encoder, mut frames) = (H264Encoder::new(&config)?, Vec::new());
    let since = cpu_seconds();
    for n in 0..FPS * PICTURE_SECONDS {
        let picture = I420 { width, height, y: &pictures[n % FPS], u: &grey, v: &grey };
        encoder.encode(&picture, n as i64 * 3000, n % 180 == 0, &mut frames)?;
    }
    encoder.finish(&mut frames)?;
    report(&format!("x264 720p30 {preset:?} {latency:?}"), since, PICTURE_SECONDS);
    let (mut decoder, mut seen) = (VideoDecoder::new(VideoCodec::H264)?, Vec::new());
    let since = cpu_seconds();
    for frame in &frames {
        decoder.decode(&frame.data, frame.pts, &mut seen)?;
        seen.clear();
    }
    report("H.264 decode 720p30", since, PICTURE_SECONDS);
    Ok(())
}

fn picture(width: u32, height: u32) -> Picture {
    let plane = |samples: u32| (0..samples).map(|i| i as u8).collect::<Vec<u8>>();
    let (luma, chroma) = (width * height, width * height / 4);
    Picture { width, height, y: plane(luma), u: plane(chroma), v: plane(chroma), pts: 0, colour: Colour::default() }
}

fn scaling() -> Result<(), CodecError> {
    for (from, to) in [((1280, 720), (320, 180)), ((1280, 720), (640, 360)), ((640, 360), (320, 180)), ((640, 360), (1280, 720))] {
        let (source, mut out, mut scaler) = (picture(from.0, from.1), Picture::default(), Scaler::new());
        let since = cpu_seconds();
        for _ in 0..30 * PICTURE_SECONDS {
            scaler.scale(&source, Crop::whole(&source), to, &mut out)?;
        }
        report(&format!("scaling of {}p30 to {}p", from.1, to.1), since, PICTURE_SECONDS);
    }
    Ok(())
}

fn rotation() {
    for degrees in [90, 180, 270] {
        let mut picture = picture(1280, 720);
        let since = cpu_seconds();
        for _ in 0..30 * PICTURE_SECONDS {
            picture = picture.rotated(Rotation::from_degrees(degrees));
        }
        report(&format!("rotation of 720p30 by {degrees}"), since, PICTURE_SECONDS);
    }
}
