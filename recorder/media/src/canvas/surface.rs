//! Samples: rectangles of planes are filled, copied and blended.

use super::{Planes, Yuv};
use crate::layout::{self, Rect};

/// Pixels.
pub(super) const fn area(rect: Rect) -> u64 {
    rect.width as u64 * rect.height as u64
}

pub(super) const fn contains(outer: Rect, inner: Rect) -> bool {
    let (right, bottom) = end(inner);
    let (outer_right, outer_bottom) = end(outer);
    outer.x <= inner.x && outer.y <= inner.y && right <= outer_right && bottom <= outer_bottom
}

/// What two have in common; all zero where that is nothing.
pub(super) fn intersection(one: Rect, other: Rect) -> Rect {
    let ((one_right, one_bottom), (other_right, other_bottom)) = (end(one), end(other));
    let (x, y) = (one.x.max(other.x), one.y.max(other.y));
    let (right, bottom) = (one_right.min(other_right), one_bottom.min(other_bottom));
    if right <= x || bottom <= y {
        return Rect { x: 0, y: 0, width: 0, height: 0 };
    }
    Rect { x, y, width: right - x, height: bottom - y }
}

const fn end(rect: Rect) -> (u32, u32) {
    (rect.x.saturating_add(rect.width), rect.y.saturating_add(rect.height))
}

/// The planes of the canvas, rows without padding. Every rectangle lies on it and is even.
pub(super) struct Surface {
    pub(super) size: layout::Canvas,
    pub(super) planes: [Vec<u8>; 3],
    /// Pixels.
    pub(super) written: u64,
}

impl Surface {
    pub(super) fn new(size: layout::Canvas) -> Self {
        let luma = size.width as usize * size.height as usize;
        Self { size, planes: [vec![0; luma], vec![0; luma / 4], vec![0; luma / 4]], written: 0 }
    }

    pub(super) const fn rect(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.size.width, height: self.size.height }
    }

    /// One colour over what is there.
    pub(super) fn flood(&mut self, rect: Rect, colour: Yuv, opacity_percent: u8) {
        self.written += area(rect);
        for (index, sample) in [colour.y, colour.u, colour.v].into_iter().enumerate() {
            for row in self.rows(index, rect) {
                match opacity_percent {
                    100 => row.fill(sample),
                    _ => row.iter_mut().for_each(|under| *under = blended(sample, *under, opacity_percent)),
                }
            }
        }
    }

    /// The part `clip` of a picture that lies at `at` over what is there.
    pub(super) fn put(&mut self, picture: Planes<'_>, at: Rect, clip: Rect, opacity_percent: u8) {
        self.written += area(clip);
        let of_picture = Rect { x: clip.x.saturating_sub(at.x), y: clip.y.saturating_sub(at.y), ..clip };
        for (index, plane) in [picture.y, picture.u, picture.v].into_iter().enumerate() {
            let [x, y, width, stride] = halved(index, [of_picture.x, of_picture.y, clip.width, picture.width]);
            let rows = plane.chunks_exact(stride.max(1)).skip(y).map(|row| &row[x..x + width]);
            for (under, row) in self.rows(index, clip).zip(rows) {
                match opacity_percent {
                    100 => under.copy_from_slice(row),
                    _ => under.iter_mut().zip(row).for_each(|(under, sample)| *under = blended(*sample, *under, opacity_percent)),
                }
            }
        }
    }

    /// The same of a picture that can be seen through.
    pub(super) fn put_through(&mut self, (picture, alpha): (Planes<'_>, &[u8]), at: Rect, clip: Rect, opacity_percent: u8) {
        self.written += area(clip);
        let (left, top) = (clip.x.saturating_sub(at.x), clip.y.saturating_sub(at.y));
        let width = picture.width as usize;
        let weight = |of: u32| ((of * u32::from(opacity_percent) + 50) / 100) as u16;
        for (index, plane) in [picture.y, picture.u, picture.v].into_iter().enumerate() {
            let [x, y, across, stride] = halved(index, [left, top, clip.width, picture.width]);
            let rows = plane.chunks_exact(stride.max(1)).enumerate().skip(y);
            for (under, (n, row)) in self.rows(index, clip).zip(rows) {
                for (column, (under, sample)) in (x..).zip(under.iter_mut().zip(&row[x..x + across])) {
                    let alpha = match index {
                        0 => u32::from(alpha[n * width + column]),
                        _ => quarter(alpha, width, 2 * column, 2 * n),
                    };
                    *under = through(*sample, *under, weight(alpha));
                }
            }
        }
    }

    fn rows(&mut self, index: usize, rect: Rect) -> impl Iterator<Item = &mut [u8]> {
        let [stride, x, y, width, height] = halved(index, [self.size.width, rect.x, rect.y, rect.width, rect.height]);
        self.planes[index].chunks_exact_mut(stride.max(1)).skip(y).take(height).map(move |row| &mut row[x..x + width])
    }
}

/// The mean of two by two.
fn quarter(plane: &[u8], width: usize, x: usize, y: usize) -> u32 {
    let two = |row: usize| u32::from(plane[row * width + x]) + u32::from(plane[row * width + x + 1]);
    (two(y) + two(y + 1) + 2) / 4
}

/// `weight` of 255.
fn through(over: u8, under: u8, weight: u16) -> u8 {
    ((u16::from(over) * weight + u16::from(under) * (255 - weight) + 127) / 255) as u8
}

/// Numbers of pixels, in samples of a plane.
fn halved<const N: usize>(plane: usize, pixels: [u32; N]) -> [usize; N] {
    pixels.map(|number| (number >> u32::from(plane > 0)) as usize)
}

/// To the nearest; 16 bits are enough, so that many samples fit a register.
fn blended(over: u8, under: u8, opacity_percent: u8) -> u8 {
    let opacity = u16::from(opacity_percent);
    ((u16::from(over) * opacity + u16::from(under) * (100 - opacity) + 50) / 100) as u8
}
