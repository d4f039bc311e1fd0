//! The black picture that stands in for a missing one.
//!
//! Made once, offline, with FFmpeg 5.1.8 and x264 0.164 and committed as bytes, so that recording needs no encoder:
//! `ffmpeg -f lavfi -i color=black:s=320x180:r=1 -frames:v 2 -pix_fmt yuv420p -c:v libx264 -profile:v baseline
//! -preset veryslow -x264-params keyint=1 -bsf:v 'filter_units=pass_types=5|7|8' -f h264 black_320x180.h264`

use bytes::Bytes;

/// Two access units, each SPS, PPS, IDR. They differ in idr_pic_id, as ISO/IEC 14496-10 section 7.4.3 demands of neighbouring IDR pictures.
const BLACK: &[u8] = include_bytes!("filler/black_320x180.h264");

/// NAL units of black picture number `n`.
pub(crate) fn black(n: u64) -> Vec<Bytes> {
    let units: Vec<&'static [u8]> = split(BLACK);
    let per_picture = units.len() / 2;
    let from = (n % 2) as usize * per_picture;
    units[from..from + per_picture].iter().map(|nal| Bytes::from_static(nal)).collect()
}

/// NAL units of a byte stream with start codes (Annex B). Only for the constant above: RTP has its own boundaries.
fn split(mut stream: &'static [u8]) -> Vec<&'static [u8]> {
    let mut units = Vec::new();
    while let Some(at) = stream.windows(3).position(|w| w == [0, 0, 1]) {
        stream = &stream[at + 3..];
        let end = stream.windows(3).position(|w| w == [0, 0, 1]).unwrap_or(stream.len());
        let unit = &stream[..end];
        units.push(unit.strip_suffix(&[0]).filter(|_| end < stream.len()).unwrap_or(unit));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h264;

    #[test]
    fn black_pictures_are_two_different_idrs_of_320x180() {
        let types = |n| black(n).iter().map(|nal| nal[0] & 31).collect::<Vec<_>>();
        assert_eq!((types(0), types(1)), (vec![7, 8, 5], vec![7, 8, 5]));
        assert_ne!(black(0)[2], black(1)[2]);
        assert_eq!(black(0)[0], black(1)[0]);
        assert_eq!(h264::Sps::parse(&black(0)[0]).map(|sps| sps.size), Some((320, 180)));
    }
}
