//! Images as people give them: what a file shows, what is refused, and that damage never does more than that.

use ffmpeg_next::color::Range;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::{Packet, Rational, codec, encoder, frame};
use recorder_codec::{CodecError, IMAGE_BYTES_MAX, Still};

/// Colour types of PNG (section 11.2.2).
const GREY: u8 = 0;
const RGB: u8 = 2;
const PALETTE: u8 = 3;
const GREY_ALPHA: u8 = 4;
const RGBA: u8 = 6;

/// The four corners of RGB, and what they are in BT.601, limited range.
const COLOURS: [([u8; 3], [u8; 3]); 4] =
    [([255, 0, 0], [81, 90, 240]), ([0, 255, 0], [145, 54, 34]), ([0, 0, 255], [41, 240, 110]), ([255, 255, 255], [235, 128, 128])];

struct Png {
    width: u32,
    height: u32,
    bits: u8,
    colour_type: u8,
    /// Chunks between IHDR and IDAT.
    extra: Vec<(&'static [u8; 4], Vec<u8>)>,
    /// Of all rows, without their filter bytes.
    samples: Vec<u8>,
}

impl Png {
    fn new(width: u32, height: u32, colour_type: u8, samples: Vec<u8>) -> Self {
        Self { width, height, bits: 8, colour_type, extra: Vec::new(), samples }
    }

    /// Every pixel the same.
    fn flat(width: u32, height: u32, colour_type: u8, pixel: &[u8]) -> Self {
        Self::new(width, height, colour_type, pixel.repeat((width * height) as usize))
    }

    fn bytes(&self) -> Vec<u8> {
        self.announcing(self.width, self.height)
    }

    fn announcing(&self, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
        chunk(b"IHDR", &[&sizes[..], &[self.bits, self.colour_type, 0, 0, 0]].concat(), &mut bytes);
        self.extra.iter().for_each(|(name, data)| chunk(name, data, &mut bytes));
        let row = self.samples.len() / self.height as usize;
        let rows = self.samples.chunks(row).flat_map(|row| [&[0], row].concat()).collect::<Vec<u8>>();
        chunk(b"IDAT", &stored(&rows), &mut bytes);
        chunk(b"IEND", &[], &mut bytes);
        bytes
    }
}

fn chunk(name: &[u8; 4], data: &[u8], out: &mut Vec<u8>) {
    let body = [&name[..], data].concat();
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(&body);
    let crc = body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    out.extend((!crc).to_be_bytes());
}

/// zlib without compression (RFC 1950, RFC 1951 section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.chunks(0xffff).count();
    for (n, block) in data.chunks(0xffff).enumerate() {
        out.push(u8::from(n + 1 == blocks));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| ((a + u32::from(*byte)) % 65_521, (a + u32::from(*byte) + b) % 65_521));
    out.extend((b << 16 | a).to_be_bytes());
    out
}

/// A picture that is `left` in its left half and `right` in the other: Y, U, V in full range.
fn jpeg(format: Pixel, width: u32, height: u32, left: [u8; 3], right: [u8; 3]) -> Vec<u8> {
    let mjpeg = encoder::find_by_name("mjpeg").expect("FFmpeg's own encoder");
    let mut settings = codec::Context::new_with_codec(mjpeg).encoder().video().expect("video");
    settings.set_width(width);
    settings.set_height(height);
    settings.set_format(format);
    settings.set_color_range(Range::JPEG);
    settings.set_time_base(Rational(1, 25));
    let mut encoder = settings.open().expect("opens");
    let mut picture = frame::Video::new(format, width, height);
    for (index, (left, right)) in left.into_iter().zip(right).enumerate() {
        let (stride, row) = (picture.stride(index), picture.plane_width(index) as usize);
        for samples in picture.data_mut(index).chunks_exact_mut(stride) {
            samples[..row / 2].fill(left);
            samples[row / 2..row].fill(right);
        }
    }
    picture.set_pts(Some(0));
    encoder.send_frame(&picture).expect("takes it");
    encoder.send_eof().expect("takes it");
    let mut packet = Packet::empty();
    encoder.receive_packet(&mut packet).expect("an image");
    packet.data().expect("bytes").to_vec()
}

/// With EXIF data that say nothing but how to turn it (Exif 2.3, sections 4.5.2 and 4.6.2).
fn oriented(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let directory = [0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
    let exif = [&b"Exif\0\0MM\0\x2a\0\0\0\x08"[..], &directory].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
}

fn decoded(bytes: &[u8]) -> Still {
    let still = Still::decode(bytes).unwrap_or_else(|e| panic!("{e}"));
    still.picture.i420().check("test").expect("unpadded planes");
    still
}

fn pixel(still: &Still, x: u32, y: u32) -> [u8; 3] {
    let picture = &still.picture;
    let (luma, chroma) = ((y * picture.width + x) as usize, (y / 2 * (picture.width / 2) + x / 2) as usize);
    [picture.y[luma], picture.u[chroma], picture.v[chroma]]
}

fn assert_near(seen: [u8; 3], expected: [u8; 3], tolerance: u8, what: &str) {
    let near = seen.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= tolerance);
    assert!(near, "{what}: {seen:?} is not {expected:?}");
}

#[test]
fn a_png_has_its_colours_where_they_were() {
    // Four squares of 8x8, one below the other.
    let rows = COLOURS.iter().flat_map(|(rgb, _)| rgb.repeat(64)).collect();
    let still = decoded(&Png::new(8, 32, RGB, rows).bytes());
    assert_eq!((still.picture.width, still.picture.height, still.alpha.is_some()), (8, 32, false));
    for (n, (rgb, yuv)) in COLOURS.into_iter().enumerate() {
        for (x, y) in [(0, 2), (7, 2), (3, 5)] {
            assert_near(pixel(&still, x, 8 * n as u32 + y), yuv, 1, &format!("{rgb:?}"));
        }
    }
}

#[test]
fn every_arrangement_of_a_png_is_read() {
    let palette = Png { extra: vec![(b"PLTE", vec![255, 0, 0, 0, 255, 0])], ..Png::flat(8, 8, PALETTE, &[1]) };
    let bits = Png { bits: 1, samples: vec![0xff; 8], ..Png::flat(8, 8, GREY, &[]) };
    let deep = Png { bits: 16, ..Png::flat(8, 8, RGB, &[0, 0, 0, 0, 255, 255]) };
    for (what, png, yuv) in [
        ("grey", Png::flat(8, 8, GREY, &[255]), [235, 128, 128]),
        ("black and white", bits, [235, 128, 128]),
        ("palette", palette, [145, 54, 34]),
        ("16 bits a sample", deep, [41, 240, 110]),
        ("opaque", Png::flat(8, 8, RGBA, &[255, 0, 0, 255]), [81, 90, 240]),
    ] {
        let still = decoded(&png.bytes());
        assert_near(pixel(&still, 4, 4), yuv, 1, what);
        assert_eq!(still.alpha, None, "{what}");
    }
}

#[test]
fn alpha_is_kept_and_lets_the_ground_through() {
    let half = [255, 0, 0, 255, 255, 0, 0, 0].repeat(32);
    let palette =
        Png { extra: vec![(b"PLTE", vec![255, 0, 0, 255, 0, 0]), (b"tRNS", vec![255, 0])], ..Png::new(8, 8, PALETTE, [0, 1].repeat(32)) };
    let deep = half.iter().flat_map(|sample| [*sample, *sample]).collect();
    for (what, png) in
        [("RGBA", Png::new(8, 8, RGBA, half)), ("palette", palette), ("16 bits a sample", Png { bits: 16, ..Png::new(8, 8, RGBA, deep) })]
    {
        let still = decoded(&png.bytes());
        assert_eq!(still.alpha.as_deref(), Some(&[255, 0].repeat(32)[..]), "{what}");
        assert_near(pixel(&still, 5, 5), [81, 90, 240], 1, what);
        let ground = [200, 30, 20];
        let picture = still.over(ground);
        // Luma is one or the other, chroma of two columns is half of each.
        assert!(picture.y[0].abs_diff(81) <= 1 && picture.y[1] == 200, "{what}: {:?}", &picture.y[..2]);
        assert!(picture.u[0].abs_diff(60) <= 1 && picture.v[0].abs_diff(130) <= 1, "{what}: {} {}", picture.u[0], picture.v[0]);
    }
    let grey = decoded(&Png::flat(8, 8, GREY_ALPHA, &[255, 51]).bytes());
    assert_eq!(grey.alpha, Some(vec![51; 64]));
    let picture = grey.over([16, 128, 128]);
    assert!(picture.y.iter().all(|y| *y == 60) && picture.u.iter().all(|u| *u == 128), "a fifth of white over black: {}", picture.y[0]);
}

#[test]
fn an_odd_last_row_and_column_are_left_out() {
    let pixels = (0..7 * 5).flat_map(|i| if i % 7 == 6 || i / 7 == 4 { [0, 0, 0] } else { [255, 255, 255] }).collect();
    let still = decoded(&Png::new(7, 5, RGB, pixels).bytes());
    assert_eq!((still.picture.width, still.picture.height), (6, 4));
    assert!(still.picture.y.iter().all(|y| *y == 235), "{:?}", still.picture.y);
    let still = decoded(&jpeg(Pixel::YUVJ420P, 33, 17, [255, 128, 128], [255, 128, 128]));
    assert_eq!((still.picture.width, still.picture.height), (32, 16));
}

#[test]
fn a_jpeg_comes_in_limited_range() {
    for format in [Pixel::YUVJ420P, Pixel::YUVJ422P, Pixel::YUVJ444P] {
        let still = decoded(&jpeg(format, 64, 32, [76, 85, 255], [255, 128, 128]));
        assert_eq!((still.picture.width, still.picture.height, still.alpha.is_some()), (64, 32, false));
        assert_near(pixel(&still, 8, 8), [81, 90, 240], 3, &format!("red, {format:?}"));
        assert_near(pixel(&still, 56, 24), [235, 128, 128], 3, &format!("white, {format:?}"));
    }
}

#[test]
fn a_jpeg_is_turned_upright() {
    let lying = jpeg(Pixel::YUVJ420P, 64, 32, [0, 128, 128], [255, 128, 128]);
    // Where the white half is then: its middle, and the middle of the black one.
    for (orientation, size, white, black) in [
        (1, (64, 32), (48, 16), (16, 16)),
        (3, (64, 32), (16, 16), (48, 16)),
        (6, (32, 64), (16, 48), (16, 16)),
        (8, (32, 64), (16, 16), (16, 48)),
        (77, (64, 32), (48, 16), (16, 16)),
    ] {
        let still = decoded(&oriented(&lying, orientation));
        assert_eq!((still.picture.width, still.picture.height), size, "orientation {orientation}");
        assert_near(pixel(&still, white.0, white.1), [235, 128, 128], 3, &format!("orientation {orientation}"));
        assert_near(pixel(&still, black.0, black.1), [16, 128, 128], 3, &format!("orientation {orientation}"));
    }
}

#[test]
fn a_png_with_too_few_rows_is_black_below() {
    let still = decoded(&Png::flat(16, 8, GREY, &[255]).announcing(16, 16));
    assert_near(pixel(&still, 4, 2), [235, 128, 128], 1, "what there is");
    assert_near(pixel(&still, 4, 14), [16, 128, 128], 1, "what there is not");
}

#[test]
fn what_is_refused_is_named() {
    let png = Png::flat(8, 8, RGB, &[1, 2, 3]).bytes();
    let announced = |width, height| Png::flat(8, 8, RGB, &[1, 2, 3]).announcing(width, height);
    let mut corrupted = png.clone();
    corrupted[60] ^= 1;
    // A frame header of 65,500 x 65,500.
    let huge = [&[0xff, 0xd8, 0xff, 0xc0, 0, 17, 8, 0xff, 0xdc, 0xff, 0xdc, 3][..], &[0; 60]].concat();
    for (bytes, word) in [
        (Vec::new(), "neither PNG nor JPEG"),
        (b"GIF89a and more".to_vec(), "neither PNG nor JPEG"),
        (b"<svg/>".to_vec(), "neither PNG nor JPEG"),
        (png[..20].to_vec(), "without a size"),
        (vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0], "without a size"),
        (vec![0xff, 0xd8, 0xff, 0xff, 0xff, 0xff], "without a size"),
        (announced(60_000, 60_000), "60000x60000"),
        (announced(4097, 2304), "4097x2304"),
        (announced(1, 64), "1x64"),
        (huge, "65500x65500"),
        (vec![0; IMAGE_BYTES_MAX + 1], "6291457 bytes"),
        (corrupted, "damaged"),
    ] {
        let Err(error @ CodecError::Image { .. }) = Still::decode(&bytes) else { panic!("{word}: was read") };
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[test]
fn whatever_is_damaged_nothing_breaks() {
    let photo = jpeg(Pixel::YUVJ420P, 64, 32, [76, 85, 255], [255, 128, 128]);
    for file in [Png::flat(16, 16, RGBA, &[9, 99, 199, 128]).bytes(), oriented(&photo, 6)] {
        let mut refused = 0;
        for at in 0..file.len() {
            for bit in [0x01, 0x80] {
                let mut flipped = file.clone();
                flipped[at] ^= bit;
                match Still::decode(&flipped) {
                    Ok(still) => still.picture.i420().check("test").expect("unpadded planes"),
                    Err(error) => refused += usize::from(matches!(error, CodecError::Image { .. })),
                }
            }
            // The end of file marker or chunk alone may be missing.
            let cut = Still::decode(&file[..at]);
            assert!(cut.is_err() || at + 12 >= file.len(), "{at} of {} bytes", file.len());
        }
        assert!(refused > file.len() / 4, "{refused} of {} were refused", 2 * file.len());
    }
}
