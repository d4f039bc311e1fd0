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

/// An owned, decoded picture: the shape of [`I420`] and the timestamp its packet was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
    /// 90 kHz ticks, as passed to the decoder with the access unit of this picture.
    pub pts: i64,
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
