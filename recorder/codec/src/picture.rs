use ffmpeg_next::color::{Primaries, Range, Space, TransferCharacteristic};
use ffmpeg_next::{encoder, frame};

use crate::CodecError;

/// A borrowed picture: planar 4:2:0, 8 bits, rows without padding.
///
/// `width` and `height` are even; `y` holds `width * height` bytes, `u` and `v` a quarter of that each.
#[derive(Clone, Copy)]
pub struct I420<'a> {
    pub width: u32,
    pub height: u32,
    pub y: &'a [u8],
    pub u: &'a [u8],
    pub v: &'a [u8],
}

impl<'a> I420<'a> {
    /// Checks what the type promises.
    ///
    /// # Errors
    /// [`CodecError::Misuse`] when a side is odd or zero, or a plane is not exactly as long as it must be.
    pub fn check(&self, codec: &'static str) -> Result<(), CodecError> {
        let luma = self.width as usize * self.height as usize;
        let even = self.width.is_multiple_of(2) && self.height.is_multiple_of(2) && luma > 0;
        if even && self.y.len() == luma && self.u.len() == luma / 4 && self.v.len() == luma / 4 {
            return Ok(());
        }
        Err(CodecError::misuse(codec, format!("{self:?} is not an I420 picture with even sides and unpadded planes")))
    }

    /// Y, U, V with the width of their rows.
    pub(crate) fn planes(&self) -> [(&'a [u8], usize); 3] {
        let width = self.width as usize;
        [(self.y, width), (self.u, width / 2), (self.v, width / 2)]
    }
}

// The picture itself is personal data and stays out of every log.
impl std::fmt::Debug for I420<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths = (self.y.len(), self.u.len(), self.v.len());
        write!(f, "I420({}x{}, planes of {lengths:?} bytes)", self.width, self.height)
    }
}

/// What can be scaled, borrowed: a [`Picture`], or a [`Decoded`](crate::Decoded) one.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Width and height, even.
    pub(crate) size: (u32, u32),
    /// Y, U, V with the distance of their rows.
    pub(crate) planes: [(&'a [u8], usize); 3],
    pub(crate) pts: i64,
    pub(crate) colour: Colour,
    /// FFmpeg's frame, if the picture is the whole of one.
    pub(crate) frame: Option<&'a frame::Video>,
}

impl View<'_> {
    /// Even sides, and planes that have all rows.
    pub(crate) fn is_whole(&self) -> bool {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let holds =
            |(plane, stride): (&[u8], usize), width: usize, height: usize| width <= stride && plane.len() >= stride * (height - 1) + width;
        let even = width.is_multiple_of(2) && height.is_multiple_of(2) && width * height > 0;
        even && holds(self.planes[0], width, height) && self.planes[1..].iter().all(|plane| holds(*plane, width / 2, height / 2))
    }
}

impl<'a> From<&'a Picture> for View<'a> {
    fn from(picture: &'a Picture) -> Self {
        let size = (picture.width, picture.height);
        Self { size, planes: picture.i420().planes(), pts: picture.pts, colour: picture.colour, frame: None }
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths = self.planes.map(|(plane, _)| plane.len());
        write!(f, "View({:?}, planes of {lengths:?} bytes)", self.size)
    }
}

/// How samples map to light (ISO/IEC 23091-2): copied from a decoded picture, given to an encoder. The default says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    range: Range,
    primaries: Primaries,
    transfer: TransferCharacteristic,
    matrix: Space,
}

impl Colour {
    /// What VP8 always is (RFC 6386 section 9.2).
    pub const BT601: Self =
        Self { range: Range::MPEG, primaries: Primaries::SMPTE170M, transfer: TransferCharacteristic::SMPTE170M, matrix: Space::SMPTE170M };

    /// The same colours once black is 16 and white 235.
    pub(crate) fn limited(self) -> Self {
        if self.is_full_range() { Self { range: Range::MPEG, ..self } } else { self }
    }

    /// Black is 0 and white 255, as in JPEG; what says nothing is limited.
    pub(crate) fn is_full_range(self) -> bool {
        self.range == Range::JPEG
    }

    pub(crate) fn of(frame: &frame::Video) -> Self {
        Self {
            range: frame.color_range(),
            primaries: frame.color_primaries(),
            transfer: frame.color_transfer_characteristic(),
            matrix: frame.color_space(),
        }
    }

    pub(crate) fn tell(self, encoder: &mut encoder::video::Video) {
        encoder.set_color_range(self.range);
        encoder.set_color_primaries(self.primaries);
        encoder.set_color_transfer_characteristic(self.transfer);
        encoder.set_colorspace(self.matrix);
    }
}

impl Default for Colour {
    fn default() -> Self {
        Self {
            range: Range::Unspecified,
            primaries: Primaries::Unspecified,
            transfer: TransferCharacteristic::Unspecified,
            matrix: Space::Unspecified,
        }
    }
}

impl std::fmt::Debug for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { range, primaries, transfer, matrix } = self;
        write!(f, "Colour({range:?}, {primaries:?}, {transfer:?}, {matrix:?})")
    }
}

/// An owned, decoded picture: the shape of [`I420`] and the timestamp its packet was given. The default is empty, to be written to.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
    /// 90 kHz ticks, as passed to the decoder with the access unit of this picture.
    pub pts: i64,
    pub colour: Colour,
}

impl Picture {
    /// The picture as encoders take it.
    pub fn i420(&self) -> I420<'_> {
        I420 { width: self.width, height: self.height, y: &self.y, u: &self.u, v: &self.v }
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({:?}, pts {})", self.i420(), self.pts)
    }
}

/// Writes a plane of the frame without its padding over what `out` holds. An odd last row or column of the frame may be left out.
pub(crate) fn take_plane(frame: &frame::Video, index: usize, (width, height): (u32, u32), out: &mut Vec<u8>) {
    let (width, height) = (width as usize, height as usize);
    out.clear();
    out.reserve_exact(width * height);
    let rows = frame.data(index).chunks_exact(frame.stride(index)).take(height);
    rows.for_each(|row| out.extend_from_slice(&row[..width]));
}
