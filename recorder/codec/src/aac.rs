//! AAC-LC by FFmpeg's own encoder, as ADTS frames.

use ffmpeg_next::codec::{Context, encoder};
use ffmpeg_next::format::sample::{Sample, Type};
use ffmpeg_next::{ChannelLayout, Dictionary, Error, Packet, Rational, error::EAGAIN, frame};

use crate::{Channels, CodecError, SAMPLE_RATE, quiet};

const CODEC: &str = "AAC";

// CPU per second of media and signal-to-noise ratio, FFmpeg 5.1.9, one core of the development machine, 48 kHz mono, modulated
// tones with noise, `ffmpeg -benchmark` over 120 s with reading the WAV included:
//                     48 kbit/s          64 kbit/s          digital silence
//   twoloop, all on     5.3 ms  21.5 dB    4.4 ms  23.3 dB    1.2 ms
//   twoloop, all off    6.6 ms  19.7 dB    4.1 ms  25.3 dB    1.1 ms
//   fast, all on        2.7 ms  24.1 dB    3.1 ms  25.7 dB    1.1 ms
//   fast, all off       2.6 ms  24.0 dB    2.8 ms  25.7 dB    1.1 ms
// "All" is TNS, PNS, M/S and intensity stereo. examples/codec_cost.rs measures this module: 2.1 ms.
const OPTIONS: [(&str, &str); 5] = [("aac_coder", "fast"), ("aac_tns", "0"), ("aac_pns", "0"), ("aac_ms", "0"), ("aac_is", "0")];

/// After so many frames of digital silence nothing of the sound before is left in the encoder's overlap, so that its next frame
/// is the one before again: it is repeated without encoding, and a muted microphone costs next to nothing.
const SILENT_FRAMES_SETTLED: u32 = 4;

const ADTS_HEADER_BYTES: usize = 7;
/// The length field of ADTS has 13 bits, header included.
const ADTS_FRAME_BYTES_MAX: usize = (1 << 13) - 1;
/// sampling_frequency_index of 48 kHz (ISO 14496-3 table 1.18).
const ADTS_48_KHZ: u8 = 3;

/// What to encode to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacProfile {
    pub channels: Channels,
    /// Average, all channels together, bit/s.
    pub bitrate_bps: u32,
}

/// 48 kHz interleaved `f32` to AAC-LC, one ADTS frame per 1024 samples.
///
/// Frame k, counted from 0 over all calls, decodes to the input samples from `k * 1024 - INITIAL_PADDING` on: the first holds
/// only the encoder's run-in, and `n` calls then [`AacEncoder::finish`] give `n + 1` frames.
pub struct AacEncoder {
    inner: encoder::Audio,
    frame: frame::Audio,
    packet: Packet,
    channels: Channels,
    next_sample: i64,
    silent_frames: u32,
    /// The frame to repeat once silence has settled; empty until then.
    silence: Vec<u8>,
}

impl AacEncoder {
    /// Samples per channel in one frame.
    pub const FRAME_SAMPLES: usize = 1024;
    /// Samples per channel by which the decoded sound lags the input: output times are the input's minus this.
    pub const INITIAL_PADDING: usize = 1024;

    /// # Errors
    /// [`CodecError::Open`] when FFmpeg has no `aac` encoder or one with another frame length or padding, or it refuses the profile.
    pub fn new(profile: AacProfile) -> Result<Self, CodecError> {
        quiet();
        let inner = open(profile).map_err(|e| CodecError::open(CODEC, e))?;
        // SAFETY: the context is open and owned by `inner`; a plain integer is read.
        let padding = unsafe { (*inner.as_ptr()).initial_padding };
        if padding != Self::INITIAL_PADDING as i32 || inner.frame_size() != Self::FRAME_SAMPLES as u32 {
            let found = inner.frame_size();
            return Err(CodecError::open(CODEC, format!("frames of {found} samples after {padding} of padding, 1024 after 1024 needed")));
        }
        let frame = blank_frame(profile.channels)?;
        Ok(Self {
            inner,
            frame,
            packet: Packet::empty(),
            channels: profile.channels,
            next_sample: 0,
            silent_frames: 0,
            silence: Vec::new(),
        })
    }

    /// Takes exactly [`Self::FRAME_SAMPLES`] per channel and appends the ADTS frames that are ready, in order: none or one.
    ///
    /// # Errors
    /// [`CodecError::Misuse`] for another length or a value that is not finite; [`CodecError::Encode`] when FFmpeg fails or
    /// [`Self::finish`] was called.
    pub fn encode(&mut self, pcm: &[f32], out: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        let channels = self.channels.count();
        if pcm.len() != Self::FRAME_SAMPLES * channels {
            return Err(CodecError::misuse(CODEC, format!("{} samples are not one frame", pcm.len())));
        }
        // FFmpeg fails for good on NaN and infinity.
        if !pcm.iter().all(|sample| sample.is_finite()) {
            return Err(CodecError::misuse(CODEC, "a sample is not a finite number"));
        }
        let silent = pcm.iter().all(|sample| *sample == 0.0);
        self.silent_frames = if silent { self.silent_frames.saturating_add(1) } else { 0 };
        if self.silent_frames > SILENT_FRAMES_SETTLED && !self.silence.is_empty() {
            out.push(self.silence.clone());
            return Ok(());
        }
        self.silence.clear();
        make_writable(&mut self.frame, CODEC)?;
        for channel in 0..channels {
            let from = pcm[channel..].iter().step_by(channels);
            let plane = self.frame.plane_mut::<f32>(channel);
            plane.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        self.frame.set_pts(Some(self.next_sample));
        self.next_sample += Self::FRAME_SAMPLES as i64;
        self.inner.send_frame(&self.frame).map_err(|e| CodecError::encode(CODEC, e))?;
        let before = out.len();
        self.drain(out)?;
        if self.silent_frames == SILENT_FRAMES_SETTLED && out.len() == before + 1 {
            self.silence.clone_from(&out[before]);
        }
        Ok(())
    }

    /// Appends what the encoder still holds. Nothing can be encoded afterwards.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when FFmpeg fails or this was called before.
    pub fn finish(&mut self, out: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        self.inner.send_eof().map_err(|e| CodecError::encode(CODEC, e))?;
        self.drain(out)
    }

    fn drain(&mut self, out: &mut Vec<Vec<u8>>) -> Result<(), CodecError> {
        loop {
            match self.inner.receive_packet(&mut self.packet) {
                Ok(()) => out.push(adts(self.packet.data().unwrap_or(&[]), self.channels)?),
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return Ok(()),
                Err(e) => return Err(CodecError::encode(CODEC, e)),
            }
        }
    }
}

impl std::fmt::Debug for AacEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AacEncoder({:?}, {} samples encoded)", self.channels, self.next_sample)
    }
}

fn layout(channels: Channels) -> ChannelLayout {
    match channels {
        Channels::Mono => ChannelLayout::MONO,
        Channels::Stereo => ChannelLayout::STEREO,
    }
}

fn open(profile: AacProfile) -> Result<encoder::Audio, Error> {
    let codec = encoder::find_by_name("aac").ok_or(Error::EncoderNotFound)?;
    let mut audio = Context::new_with_codec(codec).encoder().audio()?;
    audio.set_rate(SAMPLE_RATE as i32);
    audio.set_format(Sample::F32(Type::Planar));
    audio.set_channel_layout(layout(profile.channels));
    audio.set_bit_rate(profile.bitrate_bps as usize);
    audio.set_time_base(Rational(1, SAMPLE_RATE as i32));
    audio.open_with(Dictionary::from_iter(OPTIONS))
}

fn blank_frame(channels: Channels) -> Result<frame::Audio, CodecError> {
    let mut frame = frame::Audio::new(Sample::F32(Type::Planar), AacEncoder::FRAME_SAMPLES, layout(channels));
    frame.set_rate(SAMPLE_RATE);
    if frame.planes() != channels.count() {
        return Err(CodecError::open(CODEC, "out of memory"));
    }
    Ok(frame)
}

/// Before a frame is written again: gives it a buffer of its own if the encoder still holds the last one.
pub(crate) fn make_writable(frame: &mut frame::Frame, codec: &'static str) -> Result<(), CodecError> {
    // SAFETY: the frame is allocated, with buffers of its own, and `&mut` excludes any other use of it here; FFmpeg only swaps
    // its buffers, whose sizes stay, and no slice into them is alive.
    match unsafe { ffmpeg_next::ffi::av_frame_make_writable(frame.as_mut_ptr()) } {
        0.. => Ok(()),
        code => Err(CodecError::encode(codec, Error::from(code))),
    }
}

/// Prefixes the header of ISO 13818-7 section 6.2: MPEG-4, AAC-LC, no CRC, one raw data block, buffer fullness unknown.
fn adts(raw: &[u8], channels: Channels) -> Result<Vec<u8>, CodecError> {
    let length = raw.len() + ADTS_HEADER_BYTES;
    if raw.is_empty() || length > ADTS_FRAME_BYTES_MAX {
        return Err(CodecError::encode(CODEC, format!("a frame of {} bytes", raw.len())));
    }
    const LC_MINUS_ONE: u8 = 1;
    let channels = channels.count() as u8;
    let mut frame = Vec::with_capacity(length);
    frame.extend([
        0xff,
        0xf1,
        LC_MINUS_ONE << 6 | ADTS_48_KHZ << 2 | channels >> 2,
        (channels & 3) << 6 | (length >> 11) as u8,
        (length >> 3 & 0xff) as u8,
        (length << 5 & 0xe0) as u8 | 0x1f,
        0xfc,
    ]);
    frame.extend_from_slice(raw);
    Ok(frame)
}
