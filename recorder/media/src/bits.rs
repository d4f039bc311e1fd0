//! Reading headers bit by bit.

/// Bits, the highest of each byte first.
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    bit: u8,
    zeros: u8,
    escaped: bool,
}

impl<'a> Bits<'a> {
    pub(crate) fn plain(data: &'a [u8]) -> Self {
        Self { data, at: 0, bit: 0, zeros: 0, escaped: false }
    }

    /// Of an RBSP: emulation prevention bytes (00 00 03) are skipped.
    pub(crate) fn rbsp(data: &'a [u8]) -> Self {
        Self { escaped: true, ..Self::plain(data) }
    }

    pub(crate) fn bit(&mut self) -> Option<u32> {
        if self.escaped && self.bit == 0 && self.zeros >= 2 && self.data.get(self.at) == Some(&3) {
            self.at += 1;
            self.zeros = 0;
        }
        let byte = *self.data.get(self.at)?;
        let value = byte >> (7 - self.bit) & 1;
        self.bit = (self.bit + 1) % 8;
        if self.bit == 0 {
            self.at += 1;
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        }
        Some(u32::from(value))
    }

    pub(crate) fn bits(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0u32, |value, _| Some(value << 1 | self.bit()?))
    }

    /// Exp-Golomb (ISO/IEC 14496-10 section 9.1).
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    pub(crate) fn se(&mut self) -> Option<i32> {
        let k = self.ue()?;
        let half = (k.div_ceil(2)) as i32;
        Some(if k % 2 == 1 { half } else { -half })
    }
}

/// Bytes from bits written as text, spaces ignored.
#[cfg(test)]
pub(crate) fn packed(text: &str) -> Vec<u8> {
    let bits: Vec<u8> = text.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
    bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (i, bit)| byte | bit << (7 - i))).collect()
}
