//! H.264 by x264 through FFmpeg.

use ffmpeg_next::codec::{Context, encoder, threading};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, error::EAGAIN, frame, picture};

use crate::aac::make_writable;
use crate::{CodecError, Colour, I420, quiet};

const CODEC: &str = "H.264";
/// Timestamps of this module, per second.
const TICKS_PER_SECOND: i32 = 90_000;

/// x264's speed against quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    Ultrafast,
    Veryfast,
}

/// Whether the encoder may hold frames back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// One frame out for each frame in; no B-frames; one thread, because x264's frame threads hold frames back.
    ZeroLatency,
    /// Better quality per bit: x264 looks ahead some 10 to 40 frames and uses B-frames unless `baseline`.
    Lookahead,
}

/// What x264 spends bits by. Both keep to a VBV of one second at `max` or the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// 1000 bit/s on average, and at most over one second.
    Average { kbps: u32 },
    /// x264's constant rate factor (0 = lossless .. 51), no more than `max_kbps` over one second.
    Quality { crf: u8, max_kbps: u32 },
}

impl Rate {
    fn max_kbps(self) -> u32 {
        match self {
            Self::Average { kbps } => kbps,
            Self::Quality { max_kbps, .. } => max_kbps,
        }
    }
}

/// What to encode to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H264Config {
    /// Even, pixels.
    pub width: u32,
    /// Even, pixels.
    pub height: u32,
    /// Nominal, for the rate control; timestamps need not keep to it.
    pub frames_per_second: u32,
    pub rate: Rate,
    /// Written to the stream, so that players show what was recorded.
    pub colour: Colour,
    pub preset: Preset,
    pub latency: Latency,
    /// Constrained baseline (no B-frames, no CABAC) instead of high.
    pub baseline: bool,
    /// Frame threads, at least 1; always 1 with [`Latency::ZeroLatency`].
    pub threads: u32,
}

/// x264's constant rate factor for pictures that arrive lossy already.
///
/// Measured: 5 s of 720p30 through libvpx (real time, 2 Mbit/s) as a sender, decoded, then these settings (FFmpeg 5.1.9, x264 0.164);
/// PSNR and SSIM of all planes against what was decoded, and SSIM against the original beside the sender's own:
/// ```text
///                      a still life, moving      the same with grain of a camera
///   crf 18   3.66 Mbit/s  51.0 dB  .9958         5.07 Mbit/s  47.9 dB  .9916
///   crf 20   2.60 Mbit/s  50.0 dB  .9948         4.98 Mbit/s  47.9 dB  .9916
///   crf 22   1.89 Mbit/s  49.2 dB  .9938         3.67 Mbit/s  46.6 dB  .9890
///   crf 24   1.37 Mbit/s  48.4 dB  .9928         2.57 Mbit/s  45.6 dB  .9863
///   SSIM against the original, crf 22: .9928 (sender .9934) and .9360 (sender .9331)
/// ```
const TRANSCODING_CRF: u8 = 22;
/// One bit for so many pixels at most, for what CRF alone would make too large. libwebrtc's own limits (kSimulcastFormats: 5 Mbit/s at
/// 1080p30, 2.5 at 720p30, 0.7 at 360p30, 0.2 at 180p30) are one bit for 12.4, 11, 9.9 and 8.6: a sender at its limit fits 1.4 to 2 times.
const TRANSCODING_PIXELS_PER_BIT: u64 = 6;
/// Rate control counts each picture as a thirtieth of a second: to go by timestamps x264 would have to hold a picture back. So the limit is one
/// for each picture, and grows with the frame rate.
const TRANSCODING_FRAMES_PER_SECOND: u32 = 30;

impl H264Config {
    /// For pictures that were decoded from another codec, or turned: one access unit for each picture at once, key frames only where forced
    /// (and the first); timestamps may be as uneven as they come. 720p30 costs 0.12 (smooth) to 0.3 (grain) CPU seconds per second.
    pub fn transcoding(width: u32, height: u32, colour: Colour) -> Self {
        let pixels = u64::from(width) * u64::from(height) * u64::from(TRANSCODING_FRAMES_PER_SECOND);
        let max_kbps = (pixels / TRANSCODING_PIXELS_PER_BIT / 1000).clamp(500, 40_000) as u32;
        Self {
            width,
            height,
            frames_per_second: TRANSCODING_FRAMES_PER_SECOND,
            rate: Rate::Quality { crf: TRANSCODING_CRF, max_kbps },
            colour,
            preset: Preset::Veryfast,
            latency: Latency::ZeroLatency,
            baseline: false,
            threads: 1,
        }
    }
}

/// One access unit in Annex B (start codes), in decoding order.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// Without access unit delimiter; SPS and PPS stand before each IDR.
    pub data: Vec<u8>,
    /// 90 kHz ticks, as given to [`H264Encoder::encode`].
    pub pts: i64,
    /// 90 kHz ticks, strictly increasing, <= `pts`; with B-frames the first ones lie before the first `pts` and may be negative.
    pub dts: i64,
    /// An IDR.
    pub keyframe: bool,
}

impl std::fmt::Debug for EncodedFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { data, pts, dts, keyframe } = self;
        write!(f, "EncodedFrame({} bytes, pts {pts}, dts {dts}, keyframe {keyframe})", data.len())
    }
}

/// x264. The first frame is an IDR; after it exactly those frames that the caller forces.
pub struct H264Encoder {
    inner: encoder::Video,
    frame: frame::Video,
    packet: Packet,
    last_pts: Option<i64>,
}

impl H264Encoder {
    /// # Errors
    /// [`CodecError::Misuse`] for odd or zero sides or a zero rate, [`CodecError::Open`] when FFmpeg has no libx264 or it refuses.
    pub fn new(config: &H264Config) -> Result<Self, CodecError> {
        quiet();
        let (width, height) = (config.width, config.height);
        let even = |side: u32| side.is_multiple_of(2) && (2..=16_384).contains(&side);
        if !even(width) || !even(height) || config.frames_per_second == 0 || config.rate.max_kbps() == 0 {
            return Err(CodecError::misuse(CODEC, format!("impossible settings {config:?}")));
        }
        let inner = open_encoder(config).map_err(|e| CodecError::open(CODEC, e))?;
        let frame = frame::Video::new(Pixel::YUV420P, width, height);
        if frame.planes() != 3 {
            return Err(CodecError::open(CODEC, "out of memory"));
        }
        Ok(Self { inner, frame, packet: Packet::empty(), last_pts: None })
    }

    /// Takes one picture at `pts` (90 kHz ticks, strictly increasing) and appends the access units that are ready.
    ///
    /// # Errors
    /// [`CodecError::Misuse`] when the picture is not of the configured size or `pts` does not increase; [`CodecError::Encode`]
    /// when x264 fails or [`Self::finish`] was called.
    pub fn encode(&mut self, picture: &I420<'_>, pts: i64, force_keyframe: bool, out: &mut Vec<EncodedFrame>) -> Result<(), CodecError> {
        picture.check(CODEC)?;
        if (picture.width, picture.height) != (self.frame.width(), self.frame.height()) {
            return Err(CodecError::misuse(CODEC, format!("{picture:?} is not of the canvas's size")));
        }
        if self.last_pts.is_some_and(|last| pts <= last) {
            return Err(CodecError::misuse(CODEC, format!("pts {pts} does not increase")));
        }
        make_writable(&mut self.frame, CODEC)?;
        for (index, (plane, width)) in picture.planes().into_iter().enumerate() {
            let stride = self.frame.stride(index);
            let rows = self.frame.data_mut(index).chunks_exact_mut(stride);
            rows.zip(plane.chunks_exact(width)).for_each(|(to, from)| to[..width].copy_from_slice(from));
        }
        self.frame.set_pts(Some(pts));
        self.frame.set_kind(if force_keyframe { picture::Type::I } else { picture::Type::None });
        self.last_pts = Some(pts);
        self.inner.send_frame(&self.frame).map_err(|e| CodecError::encode(CODEC, e))?;
        self.drain(out)
    }

    /// Appends what x264 still holds. Nothing can be encoded afterwards.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when x264 fails or this was called before.
    pub fn finish(&mut self, out: &mut Vec<EncodedFrame>) -> Result<(), CodecError> {
        self.inner.send_eof().map_err(|e| CodecError::encode(CODEC, e))?;
        self.drain(out)
    }

    fn drain(&mut self, out: &mut Vec<EncodedFrame>) -> Result<(), CodecError> {
        loop {
            match self.inner.receive_packet(&mut self.packet) {
                Ok(()) => out.push(encoded(&self.packet)?),
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return Ok(()),
                Err(e) => return Err(CodecError::encode(CODEC, e)),
            }
        }
    }
}

impl std::fmt::Debug for H264Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "H264Encoder({}x{})", self.frame.width(), self.frame.height())
    }
}

fn encoded(packet: &Packet) -> Result<EncodedFrame, CodecError> {
    let (Some(data), Some(pts), Some(dts)) = (packet.data(), packet.pts(), packet.dts()) else {
        return Err(CodecError::encode(CODEC, "a packet without data or time"));
    };
    Ok(EncodedFrame { data: data.to_vec(), pts, dts, keyframe: packet.is_key() })
}

fn open_encoder(config: &H264Config) -> Result<encoder::Video, Error> {
    let codec = encoder::find_by_name("libx264").ok_or(Error::EncoderNotFound)?;
    let mut context = Context::new_with_codec(codec);
    let threads = match config.latency {
        Latency::ZeroLatency => 1,
        Latency::Lookahead => config.threads.max(1) as usize,
    };
    // An explicit type also undoes the sliced threads of tune=zerolatency.
    context.set_threading(threading::Config { kind: threading::Type::Frame, count: threads, ..Default::default() });
    let mut video = context.encoder().video()?;
    video.set_width(config.width);
    video.set_height(config.height);
    video.set_format(Pixel::YUV420P);
    video.set_time_base(Rational(1, TICKS_PER_SECOND));
    video.set_frame_rate(Some(Rational(config.frames_per_second as i32, 1)));
    if let Rate::Average { kbps } = config.rate {
        video.set_bit_rate(kbps as usize * 1000);
    }
    config.colour.tell(&mut video);
    video.open_with(encoder_options(config))
}

fn encoder_options(config: &H264Config) -> Dictionary<'static> {
    let kbps = config.rate.max_kbps();
    let mut options = Dictionary::new();
    options.set(
        "preset",
        match config.preset {
            Preset::Ultrafast => "ultrafast",
            Preset::Veryfast => "veryfast",
        },
    );
    if config.latency == Latency::ZeroLatency {
        options.set("tune", "zerolatency");
    }
    options.set("profile", if config.baseline { "baseline" } else { "high" });
    if let Rate::Quality { crf, .. } = config.rate {
        options.set("crf", &crf.to_string());
    }
    // A forced I picture becomes an IDR, not just an intra picture.
    options.set("forced-idr", "1");
    // Key frames only where forced, closed GOP, headers in band; VBV of one second. Weighted prediction is for fades, which no camera makes: it costs
    // 2 to 7% of x264's time and gains next to nothing (SSIM of 8 s of 720p30 at 2 Mbit/s with and without: test pattern 23.54 and 23.54 dB, a moving fractal with
    // grain 10.55 and 10.55, text that scrolls 23.79 and 23.76; without blocks of 8x8 it would be 10 to 20% more, and 0.06 to 0.3 dB less).
    let fixed = "keyint=infinite:scenecut=0:open-gop=0:repeat-headers=1:sliced-threads=0:weightp=0";
    options.set("x264-params", &format!("{fixed}:vbv-maxrate={kbps}:vbv-bufsize={kbps}"));
    options
}
