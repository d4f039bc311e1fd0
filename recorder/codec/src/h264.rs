//! H.264: x264 through FFmpeg, and FFmpeg's own decoder.

use ffmpeg_next::codec::{Context, Id, decoder, encoder, threading};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, error::EAGAIN, frame, picture};

use crate::aac::make_writable;
use crate::{CodecError, I420, Picture, quiet};

const CODEC: &str = "H.264";
/// Timestamps of this module, per second.
const TICKS_PER_SECOND: i32 = 90_000;
/// Beyond this an access unit is refused: 4K intra pictures stay far below.
pub const ACCESS_UNIT_BYTES_MAX: usize = 16 << 20;

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

/// What to encode to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H264Config {
    /// Even, pixels.
    pub width: u32,
    /// Even, pixels.
    pub height: u32,
    /// Nominal, for the rate control; timestamps need not keep to it.
    pub frames_per_second: u32,
    /// Average and VBV maximum over one second, in 1000 bit/s.
    pub bitrate_kbps: u32,
    pub preset: Preset,
    pub latency: Latency,
    /// Constrained baseline (no B-frames, no CABAC) instead of high.
    pub baseline: bool,
    /// Frame threads, at least 1; always 1 with [`Latency::ZeroLatency`].
    pub threads: u32,
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
        if !even(width) || !even(height) || config.frames_per_second == 0 || config.bitrate_kbps == 0 {
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
    video.set_bit_rate(config.bitrate_kbps as usize * 1000);
    video.open_with(encoder_options(config))
}

fn encoder_options(config: &H264Config) -> Dictionary<'static> {
    let kbps = config.bitrate_kbps;
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
    // A forced I picture becomes an IDR, not just an intra picture.
    options.set("forced-idr", "1");
    // Key frames only where forced, closed GOP, headers in band; VBV of one second.
    options.set(
        "x264-params",
        &format!("keyint=infinite:scenecut=0:open-gop=0:repeat-headers=1:sliced-threads=0:vbv-maxrate={kbps}:vbv-bufsize={kbps}"),
    );
    options
}

/// FFmpeg's H.264 decoder, one thread. Pictures come in presentation order.
pub struct H264Decoder {
    inner: decoder::Opened,
    frame: frame::Video,
}

impl H264Decoder {
    /// # Errors
    /// [`CodecError::Open`] when FFmpeg has no H.264 decoder.
    pub fn new() -> Result<Self, CodecError> {
        quiet();
        let inner = open_decoder().map_err(|e| CodecError::open(CODEC, e))?;
        Ok(Self { inner, frame: frame::Video::empty() })
    }

    /// Takes one access unit in Annex B and appends the pictures that are ready. An odd last row or column is dropped.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] when it is empty, over [`ACCESS_UNIT_BYTES_MAX`], damaged, refers to a missing SPS or PPS, or is
    /// not 8 bit 4:2:0. The decoder stays usable; decode on from the next key frame.
    pub fn decode(&mut self, access_unit: &[u8], pts: i64, out: &mut Vec<Picture>) -> Result<(), CodecError> {
        if access_unit.is_empty() || access_unit.len() > ACCESS_UNIT_BYTES_MAX {
            return Err(CodecError::damaged(CODEC, format!("{} bytes", access_unit.len())));
        }
        let mut packet = Packet::copy(access_unit);
        packet.set_pts(Some(pts));
        self.inner.send_packet(&packet).map_err(|e| CodecError::damaged(CODEC, e))?;
        self.drain(out)
    }

    /// Appends what is held back for reordering and readies the decoder for a new stream.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] when a picture held back cannot be decoded.
    pub fn finish(&mut self, out: &mut Vec<Picture>) -> Result<(), CodecError> {
        let sent = self.inner.send_eof().map_err(|e| CodecError::damaged(CODEC, e));
        let drained = sent.and_then(|()| self.drain(out));
        self.inner.flush();
        drained
    }

    fn drain(&mut self, out: &mut Vec<Picture>) -> Result<(), CodecError> {
        loop {
            match self.inner.receive_frame(&mut self.frame) {
                Ok(()) => out.push(decoded(&self.frame)?),
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return Ok(()),
                Err(e) => return Err(CodecError::damaged(CODEC, e)),
            }
        }
    }
}

impl std::fmt::Debug for H264Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "H264Decoder({}x{})", self.frame.width(), self.frame.height())
    }
}

fn open_decoder() -> Result<decoder::Opened, Error> {
    let codec = decoder::find(Id::H264).ok_or(Error::DecoderNotFound)?;
    let mut context = Context::new_with_codec(codec);
    context.set_threading(threading::Config { kind: threading::Type::None, count: 1, ..Default::default() });
    let mut decoder = context.decoder();
    // Report damage instead of painting over it: what is recorded must be known to be whole.
    decoder.check(decoder::Check::EXPLODE);
    decoder.open()
}

fn decoded(frame: &frame::Video) -> Result<Picture, CodecError> {
    if !matches!(frame.format(), Pixel::YUV420P | Pixel::YUVJ420P) {
        return Err(CodecError::damaged(CODEC, format!("{:?} is not 8 bit 4:2:0", frame.format())));
    }
    let (width, height) = (frame.width() & !1, frame.height() & !1);
    let plane = |index: usize, width: u32, height: u32| {
        let rows = frame.data(index).chunks_exact(frame.stride(index)).take(height as usize);
        rows.flat_map(|row| &row[..width as usize]).copied().collect::<Vec<u8>>()
    };
    Ok(Picture {
        width,
        height,
        y: plane(0, width, height),
        u: plane(1, width / 2, height / 2),
        v: plane(2, width / 2, height / 2),
        pts: frame.pts().unwrap_or(0),
    })
}
