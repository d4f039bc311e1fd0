//! Opus through libopus: FFmpeg's own decoder neither uses in-band FEC nor conceals.

use crate::{Channels, CodecError, SAMPLE_RATE};

const CODEC: &str = "Opus";

/// Longest Opus packet: 120 ms (RFC 6716 section 2.1.4), in samples per channel.
pub const PACKET_SAMPLES_MAX: usize = 5760;
/// What libopus can conceal is a whole number of these: 2.5 ms, in samples per channel.
pub const CONCEAL_STEP_SAMPLES: usize = 120;
/// 20 ms, what [`OpusEncoder`] takes at once, in samples per channel.
pub const ENCODE_SAMPLES: usize = 960;
/// Recommended output buffer of opus_encode; a 20 ms packet is at most 1275 bytes.
const PACKET_BYTES_MAX: usize = 4000;
/// What the encoder is told to expect; 0 would switch FEC off.
const EXPECTED_LOSS_PERCENT: i32 = 10;

impl From<Channels> for ::opus::Channels {
    fn from(channels: Channels) -> Self {
        match channels {
            Channels::Mono => Self::Mono,
            Channels::Stereo => Self::Stereo,
        }
    }
}

/// Opus to 48 kHz interleaved `f32`. A mono packet is decoded to both channels of a stereo decoder, a stereo one is mixed down by a mono decoder.
///
/// Feed each stream's packets in order, exactly one call per packet, present or lost: each call moves the decoder's state on.
/// On an error `out` is as it was.
#[derive(Debug)]
pub struct OpusDecoder {
    inner: ::opus::Decoder,
    channels: Channels,
}

impl OpusDecoder {
    /// # Errors
    /// [`CodecError::Open`] when memory is short.
    pub fn new(channels: Channels) -> Result<Self, CodecError> {
        let inner = ::opus::Decoder::new(SAMPLE_RATE, channels.into()).map_err(|e| CodecError::open(CODEC, e))?;
        Ok(Self { inner, channels })
    }

    /// Appends the packet's samples to `out`; returns how many per channel.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] when it is empty or no Opus packet.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<usize, CodecError> {
        let samples = Self::packet_samples(packet)?;
        self.append(packet, samples, false, out)
    }

    /// Recovers the packet **before** `next_packet`, of `samples` per channel, from the copy of it in `next_packet`
    /// (concealed where there is none). Then pass `next_packet` to [`Self::decode`].
    ///
    /// # Errors
    /// [`CodecError::Misuse`] when `samples` is not a multiple of [`CONCEAL_STEP_SAMPLES`] in 1..=[`PACKET_SAMPLES_MAX`];
    /// [`CodecError::Damaged`] when `next_packet` is no Opus packet.
    pub fn decode_fec(&mut self, next_packet: &[u8], samples: usize, out: &mut Vec<f32>) -> Result<usize, CodecError> {
        check_concealable(samples)?;
        Self::packet_samples(next_packet)?;
        self.append(next_packet, samples, true, out)
    }

    /// Invents `samples` per channel from what came before; fades to silence over repeated calls.
    ///
    /// # Errors
    /// [`CodecError::Misuse`] when `samples` is not a multiple of [`CONCEAL_STEP_SAMPLES`] in 1..=[`PACKET_SAMPLES_MAX`].
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, CodecError> {
        check_concealable(samples)?;
        self.append(&[], samples, false, out)
    }

    /// The packet's length in samples per channel at 48 kHz, read from its first bytes.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] when it is empty or claims more than 120 ms.
    pub fn packet_samples(packet: &[u8]) -> Result<usize, CodecError> {
        if packet.is_empty() {
            return Err(CodecError::damaged(CODEC, "empty packet"));
        }
        ::opus::packet::get_nb_samples(packet, SAMPLE_RATE).map_err(|e| CodecError::damaged(CODEC, e))
    }

    fn append(&mut self, packet: &[u8], samples: usize, fec: bool, out: &mut Vec<f32>) -> Result<usize, CodecError> {
        let (start, channels) = (out.len(), self.channels.count());
        out.resize(start + samples * channels, 0.0);
        let decoded = self.inner.decode_float(packet, &mut out[start..], fec);
        out.truncate(start + decoded.as_ref().map_or(0, |samples| samples * channels));
        decoded.map_err(|e| CodecError::damaged(CODEC, e))
    }
}

fn check_concealable(samples: usize) -> Result<(), CodecError> {
    if samples.is_multiple_of(CONCEAL_STEP_SAMPLES) && (1..=PACKET_SAMPLES_MAX).contains(&samples) {
        return Ok(());
    }
    Err(CodecError::misuse(CODEC, format!("{samples} samples is no multiple of 2.5 ms up to 120 ms")))
}

/// 48 kHz to Opus as a WebRTC sender makes it: voice, 20 ms packets, in-band FEC.
#[derive(Debug)]
pub struct OpusEncoder {
    inner: ::opus::Encoder,
    channels: Channels,
}

impl OpusEncoder {
    /// FEC needs about 16,000 bit/s a channel or more; above some 64,000 libopus prefers a mode without it.
    ///
    /// # Errors
    /// [`CodecError::Open`] when libopus does not take the bit rate (500..=512,000 bit/s).
    pub fn new(channels: Channels, bitrate_bps: u32) -> Result<Self, CodecError> {
        open_encoder(channels, bitrate_bps).map(|inner| Self { inner, channels }).map_err(|e| CodecError::open(CODEC, e))
    }

    /// One packet from exactly 20 ms: [`ENCODE_SAMPLES`] per channel, interleaved.
    ///
    /// # Errors
    /// [`CodecError::Misuse`] for any other length, [`CodecError::Encode`] when libopus fails.
    pub fn encode(&mut self, pcm: &[f32]) -> Result<Vec<u8>, CodecError> {
        if pcm.len() != ENCODE_SAMPLES * self.channels.count() {
            return Err(CodecError::misuse(CODEC, format!("{} samples are not 20 ms", pcm.len())));
        }
        self.inner.encode_vec_float(pcm, PACKET_BYTES_MAX).map_err(|e| CodecError::encode(CODEC, e))
    }
}

fn open_encoder(channels: Channels, bitrate_bps: u32) -> ::opus::Result<::opus::Encoder> {
    let mut encoder = ::opus::Encoder::new(SAMPLE_RATE, channels.into(), ::opus::Application::Voip)?;
    let bits = i32::try_from(bitrate_bps).unwrap_or(i32::MAX);
    encoder.set_bitrate(::opus::Bitrate::Bits(bits))?;
    encoder.set_signal(::opus::Signal::Voice)?;
    encoder.set_inband_fec(true)?;
    encoder.set_packet_loss_perc(EXPECTED_LOSS_PERCENT)?;
    Ok(encoder)
}
