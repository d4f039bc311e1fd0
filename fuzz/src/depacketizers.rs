//! Any payloads as packets of a track: what comes out can be handed to a decoder or a player.

use bytes::Bytes;
use recorder_media::Codec;
use recorder_media::fuzzing::{LinePacket, pictures};

const CODECS: [Codec; 4] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1];
/// The annex B start code and an access unit delimiter, before every H.264 picture.
const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

/// First byte: the codec. Then packets: flags (marker, loss before it, steps of its timestamp), length, payload.
pub(crate) fn run(data: &[u8]) {
    let Some((codec, mut rest)) = data.split_first() else { return };
    let codec = CODECS[usize::from(*codec) % CODECS.len()];
    let mut rtp = 0;
    let packets = std::iter::from_fn(|| {
        let (&[flags, low, high], behind) = rest.split_first_chunk::<3>()?;
        let (payload, behind) = behind.split_at(usize::from(u16::from_le_bytes([low, high])).min(behind.len()));
        rest = behind;
        rtp += 3000 * i64::from(flags >> 2 & 3);
        Some(LinePacket {
            missing: u64::from(flags >> 1 & 1),
            rtp,
            marker: flags & 1 != 0,
            rotation: u16::from(flags >> 4 & 3) * 90,
            payload: Bytes::copy_from_slice(payload),
        })
    });
    let shown = pictures(codec, packets);
    assert!(shown.first().is_none_or(|first| first.key), "nothing before the first key frame");
    for picture in shown {
        assert!(!picture.data.is_empty() && picture.size.0 >= 16 && picture.size.1 >= 16, "{picture:?}");
        assert!(codec != Codec::H264 || picture.data.starts_with(&DELIMITER), "{picture:?}");
    }
}
