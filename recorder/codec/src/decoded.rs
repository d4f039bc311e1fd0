use ffmpeg_next::frame;

use crate::picture::{View, take_plane};
use crate::{Colour, Picture};

/// A picture where the decoder left it: nothing was copied. An odd last row or column of the frame is not part of it.
pub struct Decoded {
    /// Planar 4:2:0, 8 bits.
    frame: frame::Video,
    colour: Colour,
}

impl Decoded {
    pub(crate) const fn new(frame: frame::Video, colour: Colour) -> Self {
        Self { frame, colour }
    }

    /// Width and height, even.
    pub fn size(&self) -> (u32, u32) {
        (self.frame.width() & !1, self.frame.height() & !1)
    }

    /// A copy of its own, without padding.
    pub fn picture(&self) -> Picture {
        let (width, height) = self.size();
        let plane = |index: usize, shift: u32| {
            let mut samples = Vec::new();
            take_plane(&self.frame, index, (width >> shift, height >> shift), &mut samples);
            samples
        };
        let pts = self.frame.pts().unwrap_or(0);
        Picture { width, height, y: plane(0, 0), u: plane(1, 1), v: plane(2, 1), pts, colour: self.colour }
    }
}

impl<'a> From<&'a Decoded> for View<'a> {
    fn from(decoded: &'a Decoded) -> Self {
        let (frame, size) = (&decoded.frame, decoded.size());
        let plane = |index: usize| (frame.data(index), frame.stride(index));
        let (pts, colour) = (frame.pts().unwrap_or(0), decoded.colour);
        // libswscale takes frames whole.
        let whole = Some(frame).filter(|frame| (frame.width(), frame.height()) == size);
        Self { size, planes: [plane(0), plane(1), plane(2)], pts, colour, frame: whole }
    }
}

// The picture itself is personal data and stays out of every log.
impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (width, height) = self.size();
        write!(f, "Decoded({width}x{height}, pts {:?})", self.frame.pts())
    }
}
