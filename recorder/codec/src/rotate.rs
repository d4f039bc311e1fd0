//! Turning pictures upright: what the video-orientation extension (3GPP TS 26.114 section 7.4.5) asks of whoever shows them.

use crate::Picture;

/// Side of the squares in which a plane is turned by 90 degrees: eight rows of eight samples are eight registers.
const TILE: usize = 8;

/// Clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rotation {
    #[default]
    Upright,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Rotation {
    /// From degrees clockwise, a multiple of 90; anything else is taken for upright.
    pub const fn from_degrees(degrees: u16) -> Self {
        match degrees % 360 {
            90 => Self::Quarter,
            180 => Self::Half,
            270 => Self::ThreeQuarters,
            _ => Self::Upright,
        }
    }

    const fn swaps_sides(self) -> bool {
        matches!(self, Self::Quarter | Self::ThreeQuarters)
    }
}

impl Picture {
    /// This picture turned clockwise; its sides are swapped by a quarter and by three.
    #[must_use]
    pub fn rotated(self, rotation: Rotation) -> Self {
        if rotation == Rotation::Upright {
            return self;
        }
        let [y, u, v] = self.i420().planes().map(|(plane, width)| turned(plane, width, rotation));
        let (width, height) = if rotation.swaps_sides() { (self.height, self.width) } else { (self.width, self.height) };
        Self { width, height, y, u, v, ..self }
    }
}

/// A plane without padding, turned clockwise.
fn turned(plane: &[u8], width: usize, rotation: Rotation) -> Vec<u8> {
    match rotation {
        Rotation::Upright => plane.to_vec(),
        Rotation::Half => plane.iter().rev().copied().collect(),
        Rotation::Quarter => Quarter { plane, width, height: plane.len() / width.max(1), back: false }.turned(),
        Rotation::ThreeQuarters => Quarter { plane, width, height: plane.len() / width.max(1), back: true }.turned(),
    }
}

/// A plane whose rows become columns: clockwise, or `back`.
struct Quarter<'a> {
    plane: &'a [u8],
    width: usize,
    height: usize,
    back: bool,
}

impl Quarter<'_> {
    fn turned(&self) -> Vec<u8> {
        let mut out = vec![0; self.width * self.height];
        let (wide, high) = (self.width / TILE * TILE, self.height / TILE * TILE);
        for top in (0..high).step_by(TILE) {
            for left in (0..wide).step_by(TILE) {
                self.tile(top, left, &mut out);
            }
        }
        // What no whole tile covers: a strip at the right, one at the bottom.
        for row in 0..self.height {
            for column in if row < high { wide } else { 0 }..self.width {
                let (to_row, to_column) = self.place(row, column);
                out[to_row * self.height + to_column] = self.plane[row * self.width + column];
            }
        }
        out
    }

    /// Where a sample goes, as row and column.
    fn place(&self, row: usize, column: usize) -> (usize, usize) {
        if self.back { (self.width - 1 - column, row) } else { (column, self.height - 1 - row) }
    }

    fn tile(&self, top: usize, left: usize, out: &mut [u8]) {
        let mut rows = [0; TILE];
        for (i, packed) in rows.iter_mut().enumerate() {
            let row = if self.back { top + i } else { top + TILE - 1 - i };
            let samples = self.plane[row * self.width + left..].first_chunk::<TILE>();
            *packed = u64::from_le_bytes(*samples.expect("a whole tile"));
        }
        let first = if self.back { top } else { top + TILE - 1 };
        for (i, packed) in transposed(rows).into_iter().enumerate() {
            let (row, column) = self.place(first, left + i);
            out[row * self.height + column..][..TILE].copy_from_slice(&packed.to_le_bytes());
        }
    }
}

/// Byte `j` of element `i` goes to byte `i` of element `j`: halves of the square change places, then halves of those, three times.
fn transposed(mut rows: [u64; TILE]) -> [u64; TILE] {
    const STEPS: [(usize, u64); 3] = [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)];
    for (distance, mask) in STEPS {
        for i in (0..TILE).filter(|i| i & distance == 0) {
            let differ = (rows[i] >> (8 * distance) ^ rows[i + distance]) & mask;
            rows[i] ^= differ << (8 * distance);
            rows[i + distance] ^= differ;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Colour, I420};

    /// Every sample says where it is.
    fn numbered(width: u32, height: u32) -> Picture {
        let plane = |width: u32, height: u32| (0..width * height).map(|i| (i % 251) as u8).collect::<Vec<u8>>();
        let (half_width, half_height) = (width / 2, height / 2);
        let [u, v] = [plane(half_width, half_height), plane(half_width, half_height).into_iter().rev().collect()];
        Picture { width, height, y: plane(width, height), u, v, pts: 7, colour: Colour::default() }
    }

    fn sample(picture: &I420<'_>, plane: usize, x: u32, y: u32) -> u8 {
        let (plane, width) = picture.planes()[plane];
        plane[y as usize * width + x as usize]
    }

    #[test]
    fn each_sample_goes_where_the_turn_takes_it() {
        for (width, height) in [(2, 2), (6, 4), (8, 8), (34, 18), (180, 320), (1280, 722)] {
            let before = numbered(width, height);
            for (degrees, sides) in [(90, (height, width)), (180, (width, height)), (270, (height, width))] {
                let after = before.clone().rotated(Rotation::from_degrees(degrees));
                assert_eq!((after.width, after.height, after.pts), (sides.0, sides.1, 7));
                after.i420().check("rotation").expect("unpadded planes");
                for (plane, shift) in [(0, 0), (1, 1), (2, 1)] {
                    let (w, h) = (width >> shift, height >> shift);
                    for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))) {
                        let to = match degrees {
                            90 => (h - 1 - y, x),
                            180 => (w - 1 - x, h - 1 - y),
                            _ => (y, w - 1 - x),
                        };
                        let moved = sample(&after.i420(), plane, to.0, to.1);
                        assert_eq!(moved, sample(&before.i420(), plane, x, y), "{degrees} at {x},{y} of plane {plane}");
                    }
                }
            }
        }
    }

    #[test]
    fn turns_add_up() {
        let picture = numbered(34, 18);
        let turn = |picture: Picture, degrees| picture.rotated(Rotation::from_degrees(degrees));
        assert_eq!(turn(turn(picture.clone(), 90), 270), picture);
        assert_eq!(turn(turn(picture.clone(), 90), 90), turn(picture.clone(), 180));
        for unturned in [0, 360, 45] {
            assert_eq!(turn(picture.clone(), unturned), picture);
        }
    }
}
