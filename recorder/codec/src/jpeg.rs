//! Pictures as files: JPEG, through FFmpeg.

use ffmpeg_next::codec::{Context, Flags, encoder, threading};
use ffmpeg_next::color::Range;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Error, Packet, Rational, frame};

use crate::{CodecError, Colour, I420, quiet};

const CODEC: &str = "JPEG";
/// Of FFmpeg's 2 to 31: about what libjpeg calls 90.
const QUANTISER: i32 = 2;

/// A baseline JFIF file of 4:2:0. What is in limited range, or says nothing of it, is stretched to the full range that JPEG has; the matrix stays:
/// JFIF's is BT.601, as that of cameras over WebRTC.
///
/// # Errors
/// [`CodecError::Misuse`] when the picture is not what [`I420`] promises, [`CodecError::Open`] and [`CodecError::Encode`] when FFmpeg refuses.
pub fn jpeg(picture: &I420<'_>, colour: Colour) -> Result<Vec<u8>, CodecError> {
    quiet();
    picture.check(CODEC)?;
    let mut encoder = open(picture.width, picture.height).map_err(|e| CodecError::open(CODEC, e))?;
    let frame = full_range(picture, colour)?;
    encoder.send_frame(&frame).and_then(|()| encoder.send_eof()).map_err(|e| CodecError::encode(CODEC, e))?;
    let mut packet = Packet::empty();
    encoder.receive_packet(&mut packet).map_err(|e| CodecError::encode(CODEC, e))?;
    packet.data().map(<[u8]>::to_vec).ok_or_else(|| CodecError::encode(CODEC, "a file without data"))
}

fn open(width: u32, height: u32) -> Result<encoder::Video, Error> {
    let codec = encoder::find_by_name("mjpeg").ok_or(Error::EncoderNotFound)?;
    let mut context = Context::new_with_codec(codec);
    context.set_threading(threading::Config { kind: threading::Type::None, count: 1, ..Default::default() });
    // No name of a program in the file.
    context.set_flags(Flags::BITEXACT);
    let mut video = context.encoder().video()?;
    video.set_width(width);
    video.set_height(height);
    video.set_format(Pixel::YUVJ420P);
    video.set_color_range(Range::JPEG);
    video.set_aspect_ratio(Rational(1, 1));
    video.set_time_base(Rational(1, 1));
    video.set_qmin(QUANTISER);
    video.set_qmax(QUANTISER);
    video.open()
}

fn full_range(picture: &I420<'_>, colour: Colour) -> Result<frame::Video, CodecError> {
    let mut frame = frame::Video::new(Pixel::YUVJ420P, picture.width, picture.height);
    if frame.planes() != 3 {
        return Err(CodecError::open(CODEC, "out of memory"));
    }
    frame.set_color_range(Range::JPEG);
    frame.set_pts(Some(0));
    let stretched = [stretched(16, 219, 0), stretched(128, 224, 128)];
    for (index, (plane, width)) in picture.planes().into_iter().enumerate() {
        let stride = frame.stride(index);
        let rows = frame.data_mut(index).chunks_exact_mut(stride).zip(plane.chunks_exact(width));
        match colour.is_full_range() {
            true => rows.for_each(|(to, from)| to[..width].copy_from_slice(from)),
            false => {
                let table = &stretched[index.min(1)];
                rows.for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, from)| *to = table[usize::from(*from)]));
            }
        }
    }
    Ok(frame)
}

/// `zero` and `span` of limited range (ITU-R BT.601 section 2.5.3) become `onto` and 255.
fn stretched(zero: i32, span: i32, onto: i32) -> [u8; 256] {
    std::array::from_fn(|sample| {
        let above = (sample as i32 - zero) * 255 * 2 + span;
        (onto + above.div_euclid(2 * span)).clamp(0, 255) as u8
    })
}
