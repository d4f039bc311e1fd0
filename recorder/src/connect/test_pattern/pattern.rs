//! The test picture and the test sound of one participant, as tests/stimulus/BLOCK_CODE.md says.

use recorder_codec::I420;

pub(crate) const SAMPLES_PER_SECOND: u64 = 48_000;
const COLUMNS: usize = 16;
const ROWS: usize = 18;
const SYNC: u16 = 0xACE1;
const PAYLOAD_ROWS: std::ops::RangeInclusive<usize> = 1..=6;
const FLASH_ROWS: std::ops::Range<usize> = 16..18;
/// A byte fills half a row.
const PAYLOAD_BYTES: usize = 12;
const WHITE: u8 = 235;
const BLACK: u8 = 16;
const NO_COLOUR: u8 = 128;
/// Flash and beep, milliseconds of each second.
const MARK_MS: u64 = 100;
const COLOURS: u8 = 18;
const LUMA: [u8; 3] = [60, 105, 150];
const CHROMA: [(u8, u8); 6] = [(168, 128), (148, 163), (108, 163), (88, 128), (108, 93), (148, 93)];

/// The twelve bytes that a picture carries.
pub(crate) fn payload(participant: u8, frame: u32, sent_unix_ms: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    bytes[0] = participant;
    bytes[1..5].copy_from_slice(&frame.to_be_bytes());
    bytes[5..10].copy_from_slice(&sent_unix_ms.to_be_bytes()[3..]);
    let check = crc16(&bytes[..10]);
    bytes[10..].copy_from_slice(&check.to_be_bytes());
    bytes
}

/// CRC-16/CCITT-FALSE.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// Paints the frames of one participant; only the rows that change are painted again.
#[derive(Debug)]
pub(crate) struct Painter {
    participant: u8,
    frames_per_second: u64,
    width: usize,
    height: usize,
    luma: Vec<u8>,
    cb: Vec<u8>,
    cr: Vec<u8>,
    flash: Option<bool>,
}

impl Painter {
    /// `width` and `height` are even.
    pub(crate) fn new(participant: u8, width: u32, height: u32, frames_per_second: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        let mut painter = Self {
            participant,
            frames_per_second: u64::from(frames_per_second),
            width,
            height,
            luma: vec![BLACK; width * height],
            cb: vec![NO_COLOUR; width * height / 4],
            cr: vec![NO_COLOUR; width * height / 4],
            flash: None,
        };
        painter.bits(0, SYNC);
        painter.colour();
        painter
    }

    /// The picture of frame `n`.
    pub(crate) fn paint(&mut self, frame: u32, sent_unix_ms: u64) -> I420<'_> {
        let bytes = payload(self.participant, frame, sent_unix_ms);
        for (row, pair) in PAYLOAD_ROWS.zip(bytes.chunks_exact(2)) {
            self.bits(row, u16::from_be_bytes([pair[0], pair[1]]));
        }
        let within_second = u64::from(frame) % self.frames_per_second;
        let flash = within_second * 1000 < MARK_MS * self.frames_per_second;
        if self.flash != Some(flash) {
            self.flash = Some(flash);
            for row in FLASH_ROWS {
                self.bits(row, if flash { u16::MAX } else { 0 });
            }
        }
        I420 { width: self.width as u32, height: self.height as u32, y: &self.luma, u: &self.cb, v: &self.cr }
    }

    fn column(&self, column: usize) -> usize {
        2 * (column * self.width / (2 * COLUMNS))
    }

    fn row(&self, row: usize) -> usize {
        2 * (row * self.height / (2 * ROWS))
    }

    /// One row of blocks, most significant bit first.
    fn bits(&mut self, row: usize, bits: u16) {
        let (top, bottom) = (self.row(row), self.row(row + 1));
        for column in 0..COLUMNS {
            let (left, right) = (self.column(column), self.column(column + 1));
            let level = if bits >> (COLUMNS - 1 - column) & 1 == 1 { WHITE } else { BLACK };
            self.luma[top * self.width..][left..right].fill(level);
        }
        let first = top * self.width;
        for line in top + 1..bottom {
            self.luma.copy_within(first..first + self.width, line * self.width);
        }
    }

    fn colour(&mut self) {
        let index = usize::from(self.participant % COLOURS);
        let (top, bottom) = (self.row(*PAYLOAD_ROWS.end() + 1), self.row(FLASH_ROWS.start));
        let (cb, cr) = CHROMA[index % CHROMA.len()];
        self.luma[top * self.width..bottom * self.width].fill(LUMA[index / CHROMA.len()]);
        let chroma = top / 2 * self.width / 2..bottom / 2 * self.width / 2;
        self.cb[chroma.clone()].fill(cb);
        self.cr[chroma].fill(cr);
    }
}

/// The sound of one participant, mono, full scale = 1.0.
#[derive(Debug)]
pub(crate) struct Voice {
    /// One second: tone and beep both make whole cycles in it.
    second: Vec<f32>,
}

impl Voice {
    pub(crate) fn new(participant: u8) -> Self {
        let index = f64::from(participant % COLOURS);
        let (tone, beep) = (400.0 + 150.0 * index, 4000.0 + 200.0 * index);
        let sample = |i: u64| {
            let angle = std::f64::consts::TAU * i as f64 / SAMPLES_PER_SECOND as f64;
            let mark = if i < SAMPLES_PER_SECOND * MARK_MS / 1000 { 0.25 * (beep * angle).sin() } else { 0.0 };
            let s16 = ((0.1 * (tone * angle).sin() + mark) * 32768.0).round();
            (s16 / 32768.0) as f32
        };
        Self { second: (0..SAMPLES_PER_SECOND).map(sample).collect() }
    }

    /// `count` samples from sample `first` of media time; they do not cross a second.
    pub(crate) fn samples(&self, first: u64, count: usize) -> &[f32] {
        &self.second[(first % SAMPLES_PER_SECOND) as usize..][..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a row of blocks back from the middle of each.
    fn read(picture: &I420<'_>, row: usize) -> u16 {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let y = (2 * (row * height / 36) + 2 * ((row + 1) * height / 36)) / 2;
        (0..COLUMNS).fold(0, |bits, column| {
            let x = (2 * (column * width / 32) + 2 * ((column + 1) * width / 32)) / 2;
            bits << 1 | u16::from(picture.y[y * width + x] > 125)
        })
    }

    #[test]
    fn the_vectors_of_the_specification() {
        let hex = |bytes: [u8; 12]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(crc16(b"123456789"), 0x29B1);
        assert_eq!(hex(payload(0, 0, 0)), "00000000000000000000e139");
        assert_eq!(hex(payload(3, 1000, 1_763_700_000_123)), "03000003e89aa4b6457b3f37");
        assert_eq!(hex(payload(255, u32::MAX, (1 << 40) - 1)), "ffffffffffffffffffffa6e1");
    }

    #[test]
    fn a_painted_picture_reads_back_at_any_size() {
        for (width, height) in [(96, 54), (320, 180), (640, 360), (1280, 720), (1918, 1078)] {
            let mut painter = Painter::new(3, width, height, 15);
            for frame in [0, 1, 15, 1000] {
                let picture = painter.paint(frame, 1_763_700_000_123);
                picture.check("test").expect("an I420 picture");
                let rows: Vec<u8> = PAYLOAD_ROWS.flat_map(|row| read(&picture, row).to_be_bytes()).collect();
                assert_eq!(rows, payload(3, frame, 1_763_700_000_123), "{width}x{height} frame {frame}");
                assert_eq!(read(&picture, 0), SYNC);
                let flash = if frame % 15 < 2 { u16::MAX } else { 0 };
                assert_eq!((read(&picture, 16), read(&picture, 17)), (flash, flash), "frame {frame}");
            }
        }
    }

    #[test]
    fn colours_are_where_they_belong() {
        let mut painter = Painter::new(7, 640, 360, 15);
        let picture = painter.paint(0, 0);
        let at = |x: usize, y: usize| (picture.y[y * 640 + x], picture.u[y / 2 * 320 + x / 2], picture.v[y / 2 * 320 + x / 2]);
        assert_eq!(at(320, 240), (105, 148, 163));
        assert_eq!(at(320, 140).1, 148, "row 7 begins at 140");
        assert_eq!((at(8, 8).1, at(8, 139).2, at(320, 321).1), (128, 128, 128));
    }

    #[test]
    fn the_beep_lasts_a_tenth_of_each_second() {
        let voice = Voice::new(2);
        let peak = |first: u64| voice.samples(first, 960).iter().fold(0f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak(0) > 0.3 && peak(3840) > 0.3 && peak(48_000 * 7) > 0.3);
        assert!((0.09..0.11).contains(&peak(4800)) && (0.09..0.11).contains(&peak(47_040)));
    }
}
