//! Decoders of everything that a room may send, through FFmpeg.

use ffmpeg_next::codec::{Context, Flags, decoder, threading};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Dictionary, Error, Packet, error::EAGAIN, frame};

use crate::{CodecError, Colour, Decoded, quiet};

/// Beyond this an access unit is refused: 4K intra pictures stay far below.
pub const ACCESS_UNIT_BYTES_MAX: usize = 16 << 20;
/// Larger pictures are refused: a few bytes can announce 16384x16384, and a decoder would reserve memory for it. DCI 4K is 4096x2160.
pub const PICTURE_PIXELS_MAX: u32 = 4096 * 2304;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// Access units in Annex B (start codes).
    H264,
    /// Frames as RFC 6386 has them.
    Vp8,
    /// Frames or superframes with their index (VP9 bitstream specification, annex B).
    Vp9,
    /// Temporal units in the low-overhead format (AV1 specification, section 5.2): each OBU with its size.
    Av1,
}

impl VideoCodec {
    const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
        }
    }

    /// FFmpeg's own decoders, but for AV1: its own needs hardware.
    const fn decoder(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Av1 => "libdav1d",
        }
    }
}

/// One thread; pictures come in presentation order.
pub struct VideoDecoder {
    codec: VideoCodec,
    inner: decoder::Opened,
}

impl VideoDecoder {
    /// # Errors
    /// [`CodecError::Open`] when FFmpeg has no such decoder.
    pub fn new(codec: VideoCodec) -> Result<Self, CodecError> {
        quiet();
        let inner = open(codec).map_err(|e| CodecError::open(codec.name(), e))?;
        Ok(Self { codec, inner })
    }

    /// Takes one access unit and appends the pictures that are ready; their size may change at any time. An odd last row or column is dropped.
    ///
    /// A unit of VP8, VP9 or AV1 gives one picture, or none when it only updates a reference (an invisible alt-ref frame); of several spatial
    /// layers the highest is taken. H.264 holds pictures back as long as its headers say that they may be reordered.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] when it is empty, over [`ACCESS_UNIT_BYTES_MAX`], damaged, refers to something missing, larger than
    /// [`PICTURE_PIXELS_MAX`] or not 8 bit 4:2:0. The decoder stays usable; decode on from the next key frame.
    pub fn decode(&mut self, access_unit: &[u8], pts: i64, out: &mut Vec<Decoded>) -> Result<(), CodecError> {
        if access_unit.is_empty() || access_unit.len() > ACCESS_UNIT_BYTES_MAX {
            return Err(self.damaged(format!("{} bytes", access_unit.len())));
        }
        let mut packet = Packet::copy(access_unit);
        packet.set_pts(Some(pts));
        self.inner.send_packet(&packet).map_err(|e| self.damaged(e))?;
        self.drain(out)
    }

    /// Appends what is held back for reordering and readies the decoder for a new stream.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] when a picture held back cannot be decoded.
    pub fn finish(&mut self, out: &mut Vec<Decoded>) -> Result<(), CodecError> {
        let sent = self.inner.send_eof().map_err(|e| self.damaged(e));
        let drained = sent.and_then(|()| self.drain(out));
        self.inner.flush();
        drained
    }

    /// Takes everything out, also behind an error, so that the next unit finds the decoder ready; the first error counts.
    fn drain(&mut self, out: &mut Vec<Decoded>) -> Result<(), CodecError> {
        let (before, mut result) = (out.len(), Ok(()));
        loop {
            // Given away with the picture: the decoder takes its memory from a pool.
            let mut frame = frame::Video::empty();
            match self.inner.receive_frame(&mut frame) {
                Ok(()) => match self.picture(frame) {
                    Ok(picture) => {
                        if self.codec == VideoCodec::Vp9 {
                            // FFmpeg shows every spatial layer of a superframe, the highest last.
                            out.truncate(before);
                        }
                        out.push(picture);
                    }
                    Err(error) => result = result.and(Err(error)),
                },
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => return result,
                Err(error) if result.is_ok() => result = Err(self.damaged(error)),
                Err(_) => return result,
            }
        }
    }

    fn picture(&self, frame: frame::Video) -> Result<Decoded, CodecError> {
        if !matches!(frame.format(), Pixel::YUV420P | Pixel::YUVJ420P) {
            return Err(self.damaged(format!("{:?} is not 8 bit 4:2:0", frame.format())));
        }
        let colour = if self.codec == VideoCodec::Vp8 { Colour::BT601 } else { Colour::of(&frame) };
        Ok(Decoded::new(frame, colour))
    }

    fn damaged(&self, reason: impl ToString) -> CodecError {
        CodecError::damaged(self.codec.name(), reason)
    }
}

impl std::fmt::Debug for VideoDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VideoDecoder({:?})", self.codec)
    }
}

fn open(codec: VideoCodec) -> Result<decoder::Opened, Error> {
    // dav1d else holds pictures back for its threads.
    let flags = if codec == VideoCodec::Av1 { Flags::LOW_DELAY } else { Flags::empty() };
    // Report damage instead of painting over it: what is recorded must be known to be whole.
    open_bounded(codec.decoder(), flags, decoder::Check::EXPLODE)
}

/// One thread, and no picture beyond [`PICTURE_PIXELS_MAX`].
pub(crate) fn open_bounded(name: &str, flags: Flags, check: decoder::Check) -> Result<decoder::Opened, Error> {
    let found = decoder::find_by_name(name).ok_or(Error::DecoderNotFound)?;
    let mut context = Context::new_with_codec(found);
    context.set_threading(threading::Config { kind: threading::Type::None, count: 1, ..Default::default() });
    context.set_flags(flags);
    let mut decoder = context.decoder();
    decoder.check(check);
    let mut options = Dictionary::new();
    options.set("max_pixels", &PICTURE_PIXELS_MAX.to_string());
    decoder.open_with(options)
}
