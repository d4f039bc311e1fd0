//! Decoded pictures of a composite, pixel by pixel: what colour is there, and whether the pictures that a test expects come, one after the other.

pub mod scene;

use crate::analyser::block_code::{self, Code, Rect};
use crate::analyser::decode::{self, Picture};
use anyhow::{Result, bail};
use std::fmt::Debug;
use std::path::PathBuf;

/// An edge may be so many pixels from where it belongs.
pub const OFF: usize = 2;
/// What encoding leaves of a flat colour, in each component.
pub const CLOSE: i32 = 12;
/// A canvas colour that is nobody's, and the same as luma and chroma (BT.601, limited range).
pub const BACKGROUND: &str = "#305090";
pub const BACKGROUND_YUV: [i32; 3] = [83, 161, 109];
const WHITE_FROM: i32 = 190;
const BLACK_TO: i32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shade {
    White,
    Black,
}

pub struct Frame<'a>(pub &'a Picture<'a>);

impl Frame<'_> {
    #[must_use]
    pub fn yuv(&self, (x, y): (usize, usize)) -> [i32; 3] {
        let (width, height) = (self.0.width, self.0.height);
        let chroma = |plane: usize| self.0.data[width * height * (4 + plane) / 4 + y / 2 * (width / 2) + x / 2];
        [self.0.data[y * width + x], chroma(0), chroma(1)].map(i32::from)
    }

    #[must_use]
    pub fn is(&self, at: (usize, usize), colour: [i32; 3]) -> bool {
        self.yuv(at).iter().zip(colour).all(|(found, expected)| (found - expected).abs() <= CLOSE)
    }

    #[must_use]
    pub fn shade(&self, at: (usize, usize)) -> Option<Shade> {
        match self.yuv(at)[0] {
            WHITE_FROM.. => Some(Shade::White),
            ..=BLACK_TO => Some(Shade::Black),
            _ => None,
        }
    }

    /// The code of a picture that was turned clockwise by so many degrees and lies in `rect`.
    #[must_use]
    pub fn code(&self, rect: Rect, degrees: usize) -> Option<Code> {
        let turned = !degrees.is_multiple_of(180);
        let (width, height) = if turned { (rect.height, rect.width) } else { (rect.width, rect.height) };
        let mut upright = vec![0; width * height];
        for (n, luma) in upright.iter_mut().enumerate() {
            let (x, y) = scene::turned((n % width, n / width), (width, height), degrees);
            *luma = *self.0.data.get((rect.y + y) * self.0.width + rect.x + x)?;
        }
        block_code::read(&upright, width, Rect { x: 0, y: 0, width, height })
    }
}

/// A person's colour.
#[must_use]
pub fn colour(id: u8) -> [i32; 3] {
    let (y, u, v) = block_code::colour(id);
    [y, u, v].map(i32::from)
}

/// How far a picture is from what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How much of it: less is nearer.
    pub wrong: usize,
    pub what: String,
}

/// What a picture can be.
pub trait Expected: Debug {
    /// None: it is so.
    fn differs(&self, frame: &Frame<'_>) -> Option<Fault>;
}

/// One after the other, each in some picture of the files.
pub fn all_are_seen(files: &[PathBuf], expected: &[impl Expected]) -> Result<()> {
    let (mut seen, mut nearest) = (0, None::<(i64, Fault)>);
    decode::pictures(files, |picture| {
        let Some(next) = expected.get(seen) else { return Ok(()) };
        match next.differs(&Frame(&picture)) {
            None => (seen, nearest) = (seen + 1, None),
            Some(fault) if nearest.as_ref().is_none_or(|(_, least)| fault.wrong < least.wrong) => nearest = Some((picture.pts_90k, fault)),
            Some(_) => {}
        }
        Ok(())
    })?;
    println!("{seen} of {} seen", expected.len());
    match expected.get(seen) {
        Some(next) => bail!("{next:?} is in no frame; nearest: {nearest:?}"),
        None => Ok(()),
    }
}
