//! Images of people: PNG and JPEG, through FFmpeg.

use ffmpeg_next::codec::{Flags as DecoderFlags, decoder};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::{Error, Packet, frame};

use crate::picture::take_plane;
use crate::video::{PICTURE_PIXELS_MAX, open_bounded};
use crate::{CodecError, Colour, Picture, Rotation, quiet};

/// Larger files are refused.
pub const IMAGE_BYTES_MAX: usize = 6 << 20;
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A decoded image, BT.601 in limited range; an odd last row or column is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Still {
    /// Its timestamp is 0.
    pub picture: Picture,
    /// For each sample of luma how much hides what lies beneath: 0 nothing, 255 all. None: all of it does.
    pub alpha: Option<Vec<u8>>,
}

impl Still {
    /// Decodes a whole file. JPEG is turned upright as its EXIF data asks; mirroring is not undone. While it works it may need 13 bytes
    /// for each pixel: 120 MiB for the largest image with 16 bits a sample.
    ///
    /// # Errors
    /// [`CodecError::Image`] when the bytes are neither PNG nor JPEG, more than [`IMAGE_BYTES_MAX`], damaged or cut off, or announce more than
    /// [`PICTURE_PIXELS_MAX`] or less than 2x2 pixels; sizes are checked before memory is spent.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        quiet();
        if bytes.len() > IMAGE_BYTES_MAX {
            return Err(CodecError::image(format!("it has {} bytes", bytes.len())));
        }
        let kind = Kind::of(bytes)?;
        let (width, height) = kind.size(bytes).ok_or_else(|| CodecError::image(format!("{} without a size", kind.name())))?;
        if u64::from(width) * u64::from(height) > u64::from(PICTURE_PIXELS_MAX) || width < 2 || height < 2 {
            return Err(CodecError::image(format!("{} of {width}x{height} pixels", kind.name())));
        }
        let decoded = kind.decode(bytes).map_err(|e| CodecError::image(format!("{} is damaged: {e}", kind.name())))?;
        let turned = orientation(&decoded);
        let Self { picture, alpha } = converted(&decoded)?;
        Ok(Self { picture: picture.rotated(turned), alpha: alpha.filter(|_| matches!(kind, Kind::Png)) })
    }

    /// The image on a ground of one colour (Y, U, V), so that nothing shines through any more.
    #[must_use]
    pub fn over(self, ground: [u8; 3]) -> Picture {
        let Self { mut picture, alpha: Some(alpha) } = self else { return self.picture };
        let blend = |sample: &mut u8, ground: u8, alpha: u32| {
            *sample = ((u32::from(*sample) * alpha + u32::from(ground) * (255 - alpha) + 127) / 255) as u8;
        };
        picture.y.iter_mut().zip(&alpha).for_each(|(sample, alpha)| blend(sample, ground[0], u32::from(*alpha)));
        let quarter = quartered(&alpha, picture.width as usize);
        picture.u.iter_mut().zip(&quarter).for_each(|(sample, alpha)| blend(sample, ground[1], *alpha));
        picture.v.iter_mut().zip(&quarter).for_each(|(sample, alpha)| blend(sample, ground[2], *alpha));
        picture
    }
}

impl std::fmt::Debug for Still {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Still({:?}, alpha {})", self.picture, self.alpha.is_some())
    }
}

/// Means of two by two.
fn quartered(plane: &[u8], width: usize) -> Vec<u32> {
    let mut means = Vec::with_capacity(plane.len() / 4);
    for rows in plane.chunks_exact(2 * width) {
        let (upper, lower) = rows.split_at(width);
        let sum = |pair: &[u8]| pair.iter().map(|sample| u32::from(*sample)).sum::<u32>();
        means.extend(upper.chunks_exact(2).zip(lower.chunks_exact(2)).map(|(upper, lower)| (sum(upper) + sum(lower) + 2) / 4));
    }
    means
}

#[derive(Clone, Copy)]
enum Kind {
    Png,
    Jpeg,
}

impl Kind {
    fn of(bytes: &[u8]) -> Result<Self, CodecError> {
        match bytes {
            _ if bytes.starts_with(PNG_SIGNATURE) => Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            _ => Err(CodecError::image("it is neither PNG nor JPEG")),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Png => "a PNG",
            Self::Jpeg => "a JPEG",
        }
    }

    /// Width and height as announced; the decoder holds the file to them.
    fn size(self, bytes: &[u8]) -> Option<(u32, u32)> {
        match self {
            // The first chunk is IHDR (PNG, section 5.6): length, type, width, height.
            Self::Png => Some((u32::from_be_bytes(*bytes.get(16..)?.first_chunk()?), u32::from_be_bytes(*bytes.get(20..)?.first_chunk()?))),
            Self::Jpeg => jpeg_size(bytes),
        }
    }

    fn decode(self, bytes: &[u8]) -> Result<frame::Video, Error> {
        let name = match self {
            Self::Png => "png",
            Self::Jpeg => "mjpeg",
        };
        // Check sums, and no grey in place of what is damaged.
        let check = decoder::Check::CRC | decoder::Check::EXPLODE;
        let mut decoder = open_bounded(name, DecoderFlags::empty(), check)?;
        decoder.send_packet(&Packet::copy(bytes))?;
        decoder.send_eof()?;
        let mut decoded = frame::Video::empty();
        decoder.receive_frame(&mut decoded)?;
        Ok(decoded)
    }
}

/// From the first frame header, SOF0 to SOF15 (ITU-T T.81, section B.2.2): marker, length, precision, height, width.
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)));
    let mut at = 2;
    loop {
        match *bytes.get(at..at + 2)? {
            // Fill bytes, and what stands alone: TEM, RST, SOI.
            [0xff, 0xff] => at += 1,
            [0xff, 0x01 | 0xd0..=0xd8] => at += 2,
            // DHT, JPG and DAC have numbers among the frame headers.
            [0xff, marker @ 0xc0..=0xcf] if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return Some((side(at + 7)?, side(at + 5)?)),
            [0xff, _] => at += 2 + side(at + 2)? as usize,
            _ => return None,
        }
    }
}

/// FFmpeg hands out EXIF's Orientation (tag 0x0112) as a number in text.
fn orientation(decoded: &frame::Video) -> Rotation {
    match decoded.metadata().get("Orientation").map(str::trim) {
        Some("3") => Rotation::Half,
        Some("6") => Rotation::Quarter,
        Some("8") => Rotation::ThreeQuarters,
        _ => Rotation::Upright,
    }
}

/// Any arrangement of samples to I420: libswscale takes BT.601 and limited range unless told otherwise. A chroma sample is the mean of those
/// that it stands for; bicubic would add up to 3 of ringing at edges.
fn converted(decoded: &frame::Video) -> Result<Still, CodecError> {
    let (format, width, height) = (decoded.format(), decoded.width(), decoded.height());
    let refused = |reason: &str| CodecError::image(format!("{format:?} of {width}x{height} pixels: {reason}"));
    let to = if has_alpha(format) { Pixel::YUVA420P } else { Pixel::YUV420P };
    let mut context = Context::get(format, width, height, to, width, height, Flags::AREA | Flags::ACCURATE_RND)
        .map_err(|_| refused("libswscale does not take it"))?;
    let mut out = frame::Video::new(to, width, height);
    if width < 2 || height < 2 || out.planes() < 3 {
        return Err(refused("too small, or out of memory"));
    }
    context.run(decoded, &mut out).map_err(|e| refused(&e.to_string()))?;
    let mut still = taken(&out);
    if matches!(format, Pixel::MonoBlack | Pixel::MonoWhite) {
        // libswscale gives these no range: white comes as 255.
        still.picture.y.iter_mut().for_each(|sample| *sample = if *sample < 128 { 16 } else { 235 });
    }
    Ok(still)
}

/// The planes without padding; alpha that hides nothing is left out.
fn taken(frame: &frame::Video) -> Still {
    let (width, height) = (frame.width() & !1, frame.height() & !1);
    let plane = |index: usize, shift: u32| {
        let mut samples = Vec::new();
        take_plane(frame, index, (width >> shift, height >> shift), &mut samples);
        samples
    };
    let picture = Picture { width, height, y: plane(0, 0), u: plane(1, 1), v: plane(2, 1), pts: 0, colour: Colour::BT601 };
    let alpha = (frame.planes() == 4).then(|| plane(3, 0));
    Still { picture, alpha: alpha.filter(|alpha| alpha.iter().any(|sample| *sample < 255)) }
}

/// Palettes may have it; else it is the second or the fourth component.
fn has_alpha(format: Pixel) -> bool {
    format == Pixel::PAL8 || format.descriptor().is_some_and(|descriptor| descriptor.nb_components().is_multiple_of(2))
}
