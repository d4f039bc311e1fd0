//! The machine-readable test picture: writer and reader.
//!
//! The exact specification is `tests/stimulus/BLOCK_CODE.md`; `tests/stimulus/publisher.py` and the recorder's built-in
//! test pattern write the same. In short: 16 x 18 blocks; row 0 is a sync word, rows 1-6 carry participant id (8 bit),
//! frame number (32), sending time (40, unix ms) and CRC-16, most significant bit first, white = 1; rows 7-15 are the
//! participant's colour; rows 16-17 flash white for the first 100 ms of each second of participant media time.
//!
//! Why this survives: a block is at least 6 x 3 pixels, the reader averages its inner half only (ringing of H.264 stays
//! at the edges), and black and white are learned from the sync row of the same frame (so a range conversion does not matter).

pub const COLUMNS: usize = 16;
pub const ROWS: usize = 18;
/// Sync row and six rows of payload.
pub const CODE_ROWS: usize = 7;
pub const FLASH_ROW: usize = 16;
/// Eight ones and eight zeros: both levels are learned from as many blocks.
pub const SYNC: u16 = 0xACE1;
pub const WHITE: u8 = 235;
pub const BLACK: u8 = 16;
pub const NEUTRAL: u8 = 128;
/// Three frames at 30 fps, two at 15: long enough that a lost frame cannot hide a flash.
pub const FLASH_MS: u64 = 100;
/// Distinct colours, tones and beeps; ids repeat them modulo this.
pub const IDENTITIES: u8 = 18;
pub const TIME_BITS: u32 = 40;
/// Smallest picture or tile that is read: blocks of 6 x 3.
pub const MIN_WIDTH: usize = 96;
pub const MIN_HEIGHT: usize = 54;
/// White minus black in the sync row; the encoder leaves > 200, a grey or blank picture has 0.
pub const MIN_CONTRAST: i32 = 60;

const LUMA: [u8; 3] = [60, 105, 150];
const CHROMA: [(u8, u8); 6] = [(168, 128), (148, 163), (108, 163), (88, 128), (108, 93), (148, 93)];

/// Peak amplitude of the tone, of 1.0: -20 dBFS.
pub const TONE_LEVEL: f64 = 0.1;
/// Peak amplitude of the beep: -12 dBFS, so that tone and beep together do not clip in a mix of three.
pub const BEEP_LEVEL: f64 = 0.25;
pub const SAMPLE_RATE: u32 = 48_000;
/// The beep is as long as the flash.
pub const BEEP_SAMPLES: u64 = SAMPLE_RATE as u64 * FLASH_MS / 1000;

/// Hz. 400 .. 2950: inside what Opus keeps at any bit rate.
#[must_use]
pub fn tone_hz(participant: u8) -> f64 {
    f64::from(400 + 150 * u32::from(participant % IDENTITIES))
}

/// Hz. 4000 .. 7400: above every tone; a multiple of 200, so a 5 ms window holds whole cycles.
#[must_use]
pub fn beep_hz(participant: u8) -> f64 {
    f64::from(4000 + 200 * u32::from(participant % IDENTITIES))
}

/// (Y, U, V) of the middle of the picture.
#[must_use]
pub fn colour(participant: u8) -> (u8, u8, u8) {
    let k = usize::from(participant % IDENTITIES);
    let (u, v) = CHROMA[k % 6];
    (LUMA[k / 6], u, v)
}

/// Does frame `n` show the flash?
#[must_use]
pub fn flashes(n: u32, fps: u32) -> bool {
    u64::from(n) * 1000 % (u64::from(fps) * 1000) < FLASH_MS * u64::from(fps)
}

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Code {
    pub participant: u8,
    pub frame: u32,
    /// Unix milliseconds modulo 2^40.
    pub sent_ms: u64,
}

impl Code {
    /// Sync and payload, 112 bits.
    #[must_use]
    pub fn bytes(&self) -> [u8; 14] {
        let mut out = [0u8; 14];
        out[..2].copy_from_slice(&SYNC.to_be_bytes());
        out[2] = self.participant;
        out[3..7].copy_from_slice(&self.frame.to_be_bytes());
        out[7..12].copy_from_slice(&self.sent_ms.to_be_bytes()[3..]);
        let crc = crc16(&out[2..12]);
        out[12..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// The inverse of `bytes`; `None` when sync or CRC do not match.
    #[must_use]
    pub fn parse(b: &[u8; 14]) -> Option<Self> {
        if b[..2] != SYNC.to_be_bytes() || b[12..] != crc16(&b[2..12]).to_be_bytes() {
            return None;
        }
        Some(Self {
            participant: b[2],
            frame: u32::from_be_bytes([b[3], b[4], b[5], b[6]]),
            sent_ms: b[7..12].iter().fold(0, |v, x| v << 8 | u64::from(*x)),
        })
    }
}

/// CRC-16/CCITT-FALSE.
#[must_use]
pub fn crc16(data: &[u8]) -> u16 {
    data.iter()
        .fold(0xFFFF, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, |c, _| if c & 0x8000 != 0 { c << 1 ^ 0x1021 } else { c << 1 }))
}

/// Left edge of column `c` (0..=16) of a picture `w` wide; even, so that chroma has the same edges.
#[must_use]
pub fn column_x(c: usize, w: usize) -> usize {
    if c == COLUMNS { w } else { 2 * (c * w / 32) }
}

/// Top edge of row `r` (0..=18) of a picture `h` high.
#[must_use]
pub fn row_y(r: usize, h: usize) -> usize {
    if r == ROWS { h } else { 2 * (r * h / 36) }
}

/// A rectangle in a luma plane: a whole picture, or the tile of one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Rect {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// Reads the code out of `rect` of a luma plane. `None`: no code there (blank, cropped, mixed of two frames).
#[must_use]
pub fn read(luma: &[u8], stride: usize, rect: Rect) -> Option<Code> {
    if rect.width < MIN_WIDTH || rect.height < MIN_HEIGHT {
        return None;
    }
    let mean = |row: usize, column: usize| block_mean(luma, stride, rect, row, column);
    let is_one = |bit: usize| SYNC >> (15 - bit) & 1 == 1;
    let level = |one: bool| (0..COLUMNS).filter(|c| is_one(*c) == one).map(|c| mean(0, c)).sum::<i32>() / 8;
    let (white, black) = (level(true), level(false));
    if white - black < MIN_CONTRAST {
        return None;
    }
    let threshold = (white + black) / 2;
    let mut bytes = [0u8; 14];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = (0..8).fold(0, |v, bit| v << 1 | u8::from(mean(i / 2, i % 2 * 8 + bit) > threshold));
    }
    Code::parse(&bytes)
}

/// Mean of the flash rows over the levels of the sync row is not needed: half of full scale separates white from black.
#[must_use]
pub fn reads_flash(luma: &[u8], stride: usize, rect: Rect) -> bool {
    let sum: i32 = (0..COLUMNS).map(|c| block_mean(luma, stride, rect, FLASH_ROW, c)).sum();
    sum / COLUMNS as i32 > 128
}

/// Mean luma of the inner half (in both directions) of a block.
fn block_mean(luma: &[u8], stride: usize, rect: Rect, row: usize, column: usize) -> i32 {
    let inner = |a: usize, b: usize| {
        let margin = (b - a) / 4;
        (a + margin, (b - margin).max(a + margin + 1))
    };
    let (x0, x1) = inner(column_x(column, rect.width), column_x(column + 1, rect.width));
    let (y0, y1) = inner(row_y(row, rect.height), row_y(row + 1, rect.height));
    let mut sum = 0i32;
    for y in rect.y + y0..rect.y + y1 {
        let line = &luma[y * stride + rect.x + x0..y * stride + rect.x + x1];
        sum += line.iter().map(|p| i32::from(*p)).sum::<i32>();
    }
    sum / ((x1 - x0) * (y1 - y0)) as i32
}

/// Draws a whole I420 frame (`width * height * 3 / 2` bytes) into `out`.
pub fn draw(out: &mut [u8], width: usize, height: usize, fps: u32, code: Code) {
    assert!(width.is_multiple_of(2) && height.is_multiple_of(2) && out.len() == width * height * 3 / 2);
    let (y, u, v) = colour(code.participant);
    let (luma, chroma) = out.split_at_mut(width * height);
    luma.fill(y);
    let flash = if flashes(code.frame, fps) { WHITE } else { BLACK };
    luma[row_y(FLASH_ROW, height) * width..].fill(flash);
    let bytes = code.bytes();
    for row in 0..CODE_ROWS {
        for column in 0..COLUMNS {
            let bit = bytes[row * 2 + column / 8] >> (7 - column % 8) & 1;
            for line in row_y(row, height)..row_y(row + 1, height) {
                let at = line * width;
                luma[at + column_x(column, width)..at + column_x(column + 1, width)].fill(if bit == 1 { WHITE } else { BLACK });
            }
        }
    }
    for (plane, value) in chroma.chunks_exact_mut(width * height / 4).zip([u, v]) {
        plane.fill(value);
        plane[..row_y(CODE_ROWS, height) / 2 * (width / 2)].fill(NEUTRAL);
        plane[row_y(FLASH_ROW, height) / 2 * (width / 2)..].fill(NEUTRAL);
    }
}

/// Sample `i` of a participant's sound, s16.
#[must_use]
pub fn sample(participant: u8, i: u64) -> i16 {
    let rate = f64::from(SAMPLE_RATE);
    let wave = |hz: f64| (std::f64::consts::TAU * hz * (i % u64::from(SAMPLE_RATE)) as f64 / rate).sin();
    let beep = if i % u64::from(SAMPLE_RATE) < BEEP_SAMPLES { BEEP_LEVEL * wave(beep_hz(participant)) } else { 0.0 };
    ((TONE_LEVEL * wave(tone_hz(participant)) + beep) * 32767.0).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x29B1);
        let crc = |participant, frame, sent_ms| crc16(&Code { participant, frame, sent_ms }.bytes()[2..12]);
        assert_eq!(crc(0, 0, 0), 0xE139);
        assert_eq!(crc(3, 1000, 1_763_700_000_123 % (1 << TIME_BITS)), 0x3F37);
        assert_eq!(crc(255, u32::MAX, (1 << TIME_BITS) - 1), 0xA6E1);
    }

    #[test]
    fn reads_what_it_drew_at_every_size_and_place() {
        for (w, h) in [(96, 54), (214, 120), (320, 180), (640, 360), (1280, 720)] {
            let code = Code { participant: 200, frame: 0xDEAD_BEEF, sent_ms: 0xAB_CDEF_0123 };
            let mut frame = vec![0; w * h * 3 / 2];
            draw(&mut frame, w, h, 30, code);
            assert_eq!(read(&frame, w, Rect { x: 0, y: 0, width: w, height: h }), Some(code), "{w}x{h}");
        }
        assert_eq!(read(&[16; 320 * 180], 320, Rect { x: 0, y: 0, width: 320, height: 180 }), None);
    }

    #[test]
    fn a_wrong_bit_is_refused() {
        let mut bytes = Code { participant: 1, frame: 2, sent_ms: 3 }.bytes();
        bytes[5] ^= 1;
        assert_eq!(Code::parse(&bytes), None);
    }
}
