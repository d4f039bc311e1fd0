//! Pictures of another size, through libswscale.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame;
use ffmpeg_next::software::scaling::{Context, Flags};

use crate::picture::{View, take_plane};
use crate::video::PICTURE_PIXELS_MAX;
use crate::{CodecError, Picture};

const CODEC: &str = "libswscale";

/// A part of a picture, in pixels from its upper left corner; all even, because a chroma sample covers two by two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Crop {
    pub const fn whole(picture: &Picture) -> Self {
        Self { x: 0, y: 0, width: picture.width, height: picture.height }
    }

    fn is_part_of(&self, (width, height): (u32, u32)) -> bool {
        let within = |start: u32, length: u32, whole: u32| start.checked_add(length).is_some_and(|end| end <= whole);
        within(self.x, self.width, width) && within(self.y, self.height, height)
    }
}

/// One for each tile: what it sets up (0.1 to 0.4 ms) is kept as long as sizes stay.
#[derive(Default)]
pub struct Scaler {
    pass: Option<Pass>,
}

impl Scaler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a part of `source`, scaled `to` width and height, over what `out` holds; its memory is used again. Full range becomes limited,
    /// the matrix stays. A part of the right size is copied.
    ///
    /// # Errors
    /// [`CodecError::Misuse`] when a number is odd, a side zero, the part beyond the picture or `to` beyond [`PICTURE_PIXELS_MAX`];
    /// [`CodecError::Open`] when libswscale refuses the sizes. `out` is then as it was.
    pub fn scale<'a>(&mut self, source: impl Into<View<'a>>, crop: Crop, to: (u32, u32), out: &mut Picture) -> Result<(), CodecError> {
        let source = source.into();
        check(&source, crop, to)?;
        let sizes = Sizes { from: (crop.width, crop.height), to, full_range: source.colour.is_full_range() };
        if sizes.from == to && !sizes.full_range {
            copy(&source, crop, out);
        } else if sizes.from == (2 * to.0, 2 * to.1) && !sizes.full_range {
            halve(&source, crop, out);
        } else {
            self.pass(sizes)?.run(&source, crop, out)?;
        }
        (out.width, out.height) = to;
        (out.pts, out.colour) = (source.pts, source.colour.limited());
        Ok(())
    }

    fn pass(&mut self, sizes: Sizes) -> Result<&mut Pass, CodecError> {
        let pass = match self.pass.take() {
            Some(pass) if pass.sizes == sizes => pass,
            _ => Pass::new(sizes)?,
        };
        Ok(self.pass.insert(pass))
    }
}

impl std::fmt::Debug for Scaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scaler({:?})", self.pass.as_ref().map(|pass| pass.sizes))
    }
}

/// Width and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    from: (u32, u32),
    to: (u32, u32),
    full_range: bool,
}

impl Sizes {
    /// Area from two thirds of the size downwards, else bicubic.
    ///
    /// Measured: milliseconds for a picture, and PSNR against a picture in which each pixel is the mean of what it covers; on it are stripes
    /// with hard edges, a zone plate and soft waves (FFmpeg 5.1.9, one core at 2.3 GHz):
    /// ```text
    ///                        fast bilinear     bilinear          bicubic           area
    ///   1280x720 to 320x180  0.10 ms 13.4 dB   0.33 ms 27.9 dB   0.57 ms 31.0 dB   0.12 ms 43.2 dB
    ///            to 640x360  0.35 ms 20.6 dB   0.38 ms 29.7 dB   0.70 ms 36.1 dB   0.35 ms 45.5 dB
    ///            to 768x432  0.40 ms 23.8 dB   0.45 ms 31.7 dB   0.81 ms 36.2 dB   0.33 ms 35.3 dB
    ///            to 1024x576 0.43 ms 32.9 dB   0.51 ms 32.0 dB   0.98 ms 36.4 dB   0.48 ms 33.4 dB
    ///   640x360  to 426x240  0.19 ms 22.5 dB   0.22 ms 27.2 dB   0.31 ms 31.7 dB   0.16 ms 30.8 dB
    ///            to 1280x720 0.39 ms 21.0 dB   0.30 ms 22.8 dB   0.36 ms 25.1 dB   0.31 ms 22.8 dB
    /// ```
    fn filter(&self) -> Flags {
        let shrinks = |from: u32, to: u32| 2 * from >= 3 * to;
        if shrinks(self.from.0, self.to.0) && shrinks(self.from.1, self.to.1) { Flags::AREA } else { Flags::BICUBIC }
    }
}

/// libswscale reads and writes a few samples past the ends of rows, which is safe between frames only, whose rows are padded. A copy into one
/// costs as much as the cheaper filters (of 720p: 0.15 ms), so what is the whole of a decoded frame is read where it lies.
struct Pass {
    sizes: Sizes,
    context: Context,
    format: Pixel,
    /// Made for the first part that is not a whole frame.
    from: Option<frame::Video>,
    to: frame::Video,
}

// SAFETY: an SwsContext has no ties to the thread that made it; `Pass` owns it and gives it out to nobody.
unsafe impl Send for Pass {}

impl Pass {
    fn new(sizes: Sizes) -> Result<Self, CodecError> {
        crate::quiet();
        let Sizes { from, to, full_range } = sizes;
        // The J says full range.
        let format = if full_range { Pixel::YUVJ420P } else { Pixel::YUV420P };
        let context = Context::get(format, from.0, from.1, Pixel::YUV420P, to.0, to.1, sizes.filter())
            .map_err(|_| CodecError::open(CODEC, format!("it refuses {sizes:?}")))?;
        Ok(Self { sizes, context, format, from: None, to: allocated(Pixel::YUV420P, to)? })
    }

    fn run(&mut self, source: &View<'_>, crop: Crop, out: &mut Picture) -> Result<(), CodecError> {
        let is_whole = |frame: &&frame::Video| (frame.width(), frame.height(), frame.format()) == (crop.width, crop.height, self.format);
        let run = match source.frame.filter(is_whole) {
            Some(frame) => self.context.run(frame, &mut self.to),
            None => {
                let from = match self.from.take() {
                    Some(from) => from,
                    None => allocated(self.format, self.sizes.from)?,
                };
                let from = self.from.insert(from);
                read(from, source, crop);
                self.context.run(from, &mut self.to)
            }
        };
        run.map_err(|e| CodecError::misuse(CODEC, e))?;
        self.write(out);
        Ok(())
    }

    fn write(&self, out: &mut Picture) {
        let (width, height) = self.sizes.to;
        take_plane(&self.to, 0, (width, height), &mut out.y);
        take_plane(&self.to, 1, (width / 2, height / 2), &mut out.u);
        take_plane(&self.to, 2, (width / 2, height / 2), &mut out.v);
    }
}

fn allocated(format: Pixel, (width, height): (u32, u32)) -> Result<frame::Video, CodecError> {
    let frame = frame::Video::new(format, width, height);
    if frame.planes() == 3 { Ok(frame) } else { Err(CodecError::open(CODEC, "out of memory")) }
}

fn read(into: &mut frame::Video, source: &View<'_>, crop: Crop) {
    for index in 0..3 {
        let stride = into.stride(index);
        let rows = into.data_mut(index).chunks_exact_mut(stride);
        rows.zip(part(source, index, crop)).for_each(|(to, from)| to[..from.len()].copy_from_slice(from));
    }
}

fn check(source: &View<'_>, crop: Crop, (width, height): (u32, u32)) -> Result<(), CodecError> {
    let even = [crop.x, crop.y, crop.width, crop.height, width, height].iter().all(|number| number.is_multiple_of(2));
    let some = [crop.width, crop.height, width, height].iter().all(|side| *side > 0);
    let small = u64::from(width) * u64::from(height) <= u64::from(PICTURE_PIXELS_MAX);
    if even && some && small && source.is_whole() && crop.is_part_of(source.size) {
        return Ok(());
    }
    Err(CodecError::misuse(CODEC, format!("{crop:?} of {source:?} cannot become {width}x{height}")))
}

fn copy(source: &View<'_>, crop: Crop, out: &mut Picture) {
    for (index, plane) in [&mut out.y, &mut out.u, &mut out.v].into_iter().enumerate() {
        plane.clear();
        part(source, index, crop).for_each(|row| plane.extend_from_slice(row));
    }
}

/// Each sample is the mean of two by two, as libswscale's area has it. What everybody sends is most often twice as large as a quarter of the
/// canvas, and this takes 0.03 ms for 720p; libswscale, to which
/// no size is special, takes 0.35.
fn halve(source: &View<'_>, crop: Crop, out: &mut Picture) {
    for (index, plane) in [&mut out.y, &mut out.u, &mut out.v].into_iter().enumerate() {
        let [width, height] = [crop.width, crop.height].map(|side| (side >> (1 + u32::from(index > 0))) as usize);
        plane.resize(width * height, 0);
        let mut rows = part(source, index, crop);
        for to in plane.chunks_exact_mut(width) {
            let (Some(upper), Some(lower)) = (rows.next(), rows.next()) else { return };
            halve_rows(to, upper, lower);
        }
    }
}

fn halve_rows(to: &mut [u8], upper: &[u8], lower: &[u8]) {
    // Both samples of a pair in one number of 16 bits: that is how registers add eight pairs at once.
    let sum = |pair: &[u8; 2]| {
        let both = u16::from_le_bytes(*pair);
        (both & 0xff) + (both >> 8)
    };
    let pairs = upper.as_chunks().0.iter().zip(lower.as_chunks().0);
    for (to, (upper, lower)) in to.iter_mut().zip(pairs) {
        *to = ((sum(upper) + sum(lower) + 2) >> 2) as u8;
    }
}

/// Rows of one plane of a part.
fn part<'a>(source: &View<'a>, index: usize, crop: Crop) -> impl Iterator<Item = &'a [u8]> {
    let (plane, stride) = source.planes[index];
    let [x, y, width, height] = [crop.x, crop.y, crop.width, crop.height].map(|number| (number >> u32::from(index > 0)) as usize);
    // The last row of a plane may end before its padding does.
    plane.chunks(stride).skip(y).take(height).map(move |row| &row[x..x + width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Colour;
    use ffmpeg_next::color::Range;

    /// Every sample by a formula of plane, column and row.
    fn drawn(width: u32, height: u32, sample: impl Fn(usize, u32, u32) -> u8) -> Picture {
        let plane = |index: usize| {
            let shift = u32::from(index > 0);
            (0..height >> shift).flat_map(|y| (0..width >> shift).map(move |x| (x, y))).map(|(x, y)| sample(index, x, y)).collect()
        };
        Picture { width, height, y: plane(0), u: plane(1), v: plane(2), pts: 7, colour: Colour::default() }
    }

    fn numbered(width: u32, height: u32) -> Picture {
        drawn(width, height, |plane, x, y| (31 * x + 7 * y + 50 * plane as u32) as u8)
    }

    fn scaled(source: &Picture, crop: Crop, to: (u32, u32)) -> Picture {
        let mut out = Picture::default();
        Scaler::new().scale(source, crop, to, &mut out).expect("scales");
        out.i420().check("test").expect("unpadded planes");
        assert_eq!((out.width, out.height, out.pts), (to.0, to.1, source.pts));
        out
    }

    fn full_range() -> Colour {
        let mut frame = frame::Video::empty();
        frame.set_color_range(Range::JPEG);
        Colour::of(&frame)
    }

    #[test]
    fn a_part_of_the_right_size_is_copied() {
        let source = numbered(34, 18);
        let crop = Crop { x: 4, y: 6, width: 22, height: 10 };
        let moved = |plane: usize, x: u32, y: u32| (31 * x + 7 * y + 50 * plane as u32) as u8;
        let expected = drawn(22, 10, |plane, x, y| if plane == 0 { moved(0, x + 4, y + 6) } else { moved(plane, x + 2, y + 3) });
        assert_eq!(scaled(&source, crop, (22, 10)), expected);
        assert_eq!(scaled(&source, Crop::whole(&source), (34, 18)), source);
    }

    #[test]
    fn half_the_size_are_the_means_of_two_by_two() {
        // Steep steps would show a row or a column too far; 84 and 20 are no multiples of any register.
        let level = |x: u32, y: u32| 20 + (x / 8 * 24 + y / 4 * 16) % 200;
        let source = drawn(84, 20, |plane, x, y| (level(x, y) + plane as u32) as u8);
        let expected = drawn(42, 10, |plane, x, y| (level(2 * x, 2 * y) + plane as u32) as u8);
        let out = scaled(&source, Crop::whole(&source), (42, 10));
        for (out, expected) in [(&out.y, &expected.y), (&out.u, &expected.u), (&out.v, &expected.v)] {
            assert!(out.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{out:?} is not {expected:?}");
        }
    }

    #[test]
    fn halves_are_rounded_to_the_nearest_and_what_libswscale_makes_of_them() {
        let noise = |plane: usize, x: u32, y: u32| ((x * 7919 + y * 104_729 + plane as u32 * 31).wrapping_mul(2_654_435_761) >> 13) as u8;
        let source = drawn(172, 52, noise);
        let crop = Crop { x: 4, y: 8, width: 148, height: 36 };
        let mean = |plane: usize, x: u32, y: u32| {
            let (left, top) = if plane == 0 { (4, 8) } else { (2, 4) };
            let of = |right: u32, low: u32| u32::from(noise(plane, left + 2 * x + right, top + 2 * y + low));
            ((of(0, 0) + of(1, 0) + of(0, 1) + of(1, 1)) as f64 / 4.0 + 0.5).floor() as u8
        };
        let out = scaled(&source, crop, (74, 18));
        assert_eq!(out, drawn(74, 18, mean));
        let mut theirs = Picture::default();
        let sizes = Sizes { from: (148, 36), to: (74, 18), full_range: false };
        Pass::new(sizes).and_then(|mut pass| pass.run(&(&source).into(), crop, &mut theirs)).expect("scales");
        for (ours, theirs) in [(&out.y, &theirs.y), (&out.u, &theirs.u), (&out.v, &theirs.v)] {
            assert!(ours.iter().zip(theirs).all(|(a, b)| a.abs_diff(*b) <= 1), "{ours:?} is not {theirs:?}");
        }
    }

    #[test]
    fn only_the_part_is_seen() {
        // Four quarters of one colour each: nothing of a neighbour may come in.
        let colour = |plane: usize, right: bool, low: bool| 40 + 20 * plane as u8 + 90 * u8::from(right) + 45 * u8::from(low);
        let source = drawn(64, 48, |plane, x, y| {
            let (half_width, half_height) = if plane == 0 { (32, 24) } else { (16, 12) };
            colour(plane, x >= half_width, y >= half_height)
        });
        for (right, low) in [(false, false), (true, false), (false, true), (true, true)] {
            let crop = Crop { x: 32 * u32::from(right), y: 24 * u32::from(low), width: 32, height: 24 };
            for to in [(16, 12), (8, 6), (10, 22), (24, 18), (30, 24), (34, 26), (64, 48), (100, 2)] {
                let out = scaled(&source, crop, to);
                for (index, plane) in [out.y, out.u, out.v].into_iter().enumerate() {
                    let expected = colour(index, right, low);
                    assert!(plane.iter().all(|sample| *sample == expected), "plane {index} of {crop:?} to {to:?}: {plane:?}");
                }
            }
        }
    }

    #[test]
    fn full_range_becomes_limited() {
        for (from, to) in [((64, 48), (64, 48)), ((64, 48), (32, 24)), ((64, 48), (100, 60))] {
            for (grey, chroma, limited) in [(0, 0, [16, 16]), (255, 255, [235, 240]), (128, 128, [126, 128])] {
                let flat = drawn(from.0, from.1, |plane, _, _| if plane == 0 { grey } else { chroma });
                let out = scaled(&Picture { colour: full_range(), ..flat }, Crop { x: 0, y: 0, width: from.0, height: from.1 }, to);
                assert!(!out.colour.is_full_range() && out.colour != Colour::default(), "{:?}", out.colour);
                let near = |plane: &[u8], level: u8| plane.iter().all(|sample| sample.abs_diff(level) <= 1);
                assert!(near(&out.y, limited[0]) && near(&out.u, limited[1]) && near(&out.v, limited[1]), "{grey} is {}", out.y[0]);
            }
        }
    }

    #[test]
    fn what_was_scaled_before_leaves_no_trace() {
        let (large, small) = (numbered(160, 90), drawn(64, 64, |plane, x, y| (x * y) as u8 ^ plane as u8));
        let full = Picture { colour: full_range(), ..small.clone() };
        let part = Crop { x: 10, y: 4, width: 64, height: 64 };
        let orders =
            [(&large, Crop::whole(&large), (40, 22)), (&small, Crop::whole(&small), (40, 22)), (&full, Crop::whole(&full), (40, 22))];
        let others = [(&large, part, (40, 22)), (&large, part, (64, 64)), (&small, Crop::whole(&small), (120, 80))];
        let (mut scaler, mut out) = (Scaler::new(), Picture::default());
        for (source, crop, to) in orders.into_iter().chain(others).chain(orders).chain(others) {
            scaler.scale(source, crop, to, &mut out).expect("scales");
            assert_eq!(out, scaled(source, crop, to), "{crop:?} to {to:?}");
        }
    }

    #[test]
    fn extreme_sizes_pass() {
        let (large, small) = (drawn(4096, 2304, |_, _, _| 90), drawn(2, 2, |_, _, _| 90));
        let strip = Crop { x: 0, y: 0, width: 4096, height: 2 };
        for (source, crop, to) in [
            (&large, Crop::whole(&large), (2, 2)),
            (&small, Crop::whole(&small), (1920, 1080)),
            (&large, strip, (1280, 2)),
            (&small, Crop::whole(&small), (4096, 2304)),
        ] {
            let out = scaled(source, crop, to);
            // Thousands of weights do not add up to one exactly.
            assert!(out.y.iter().chain(&out.u).chain(&out.v).all(|sample| sample.abs_diff(90) <= 1), "{crop:?} to {to:?}");
        }
    }

    #[test]
    fn misuse_is_an_error_and_leaves_the_picture_alone() {
        let source = numbered(64, 48);
        let whole = Crop::whole(&source);
        let mut out = numbered(8, 8);
        for (crop, to) in [
            (Crop { x: 1, ..whole }, (32, 24)),
            (Crop { x: 2, ..whole }, (32, 24)),
            (Crop { y: u32::MAX - 1, ..whole }, (32, 24)),
            (Crop { width: 0, ..whole }, (32, 24)),
            (Crop { height: 46, y: 4, ..whole }, (32, 24)),
            (whole, (33, 24)),
            (whole, (32, 0)),
            (whole, (4096, 2306)),
        ] {
            let result = Scaler::new().scale(&source, crop, to, &mut out);
            assert!(matches!(result, Err(CodecError::Misuse { .. })), "{crop:?} to {to:?}: {result:?}");
        }
        let torn = Picture { y: vec![0; 10], ..source.clone() };
        assert!(matches!(Scaler::new().scale(&torn, whole, (32, 24), &mut out), Err(CodecError::Misuse { .. })));
        assert_eq!(out, numbered(8, 8));
    }

    #[test]
    fn a_scaler_may_move_between_threads() {
        let source = numbered(64, 48);
        let (mut scaler, mut out) = (Scaler::new(), Picture::default());
        scaler.scale(&source, Crop::whole(&source), (32, 24), &mut out).expect("scales");
        let expected = out.clone();
        let elsewhere = std::thread::spawn(move || scaler.scale(&source, Crop::whole(&source), (32, 24), &mut out).map(|()| out));
        assert_eq!(elsewhere.join().expect("no panic"), Ok(expected));
    }
}
