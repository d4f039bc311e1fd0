//! Sequence parameter sets (ISO/IEC 14496-10 section 7.3.2.1.1 and annex E), as far as a recorder needs them.

use crate::bits::Bits;

const BASELINE: u8 = 66;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sps {
    /// Width and height in luma samples after cropping.
    pub size: (u32, u32),
    /// How wide frame_num is.
    pub frame_num_bits: u32,
    pub separate_colour_planes: bool,
    /// So many pictures at most may precede one in decoding and follow it in output; None: it does not say.
    pub reordered: Option<u8>,
}

impl Sps {
    /// From a whole NAL unit.
    pub(crate) fn parse(nal: &[u8]) -> Option<Self> {
        let profile = *nal.get(1)?;
        let mut bits = Bits::rbsp(nal.get(4..)?);
        bits.ue()?; // seq_parameter_set_id
        let (mut chroma, mut separate_colour_planes) = (1, false);
        if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            (chroma, separate_colour_planes) = high_profile(&mut bits)?;
        }
        let frame_num_bits = bits.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
        let order_type = picture_order(&mut bits)?;
        bits.ue()?; // max_num_ref_frames
        bits.bit()?; // gaps_in_frame_num_value_allowed_flag
        let size = size(&mut bits, chroma)?;
        let none = profile == BASELINE || order_type == 2;
        let reordered = if none { Some(0) } else { reordered(&mut bits) };
        Some(Self { size, frame_num_bits, separate_colour_planes, reordered })
    }
}

fn size(bits: &mut Bits, chroma: u32) -> Option<(u32, u32)> {
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let frame_only = bits.bit()?;
    if frame_only == 0 {
        bits.bit()?; // mb_adaptive_frame_field_flag
    }
    bits.bit()?; // direct_8x8_inference_flag
    let height = map_units.checked_mul(2 - frame_only)?;
    if bits.bit()? == 0 {
        return Some((width, height));
    }
    let (unit_x, unit_y) = match chroma {
        0 | 3 => (1, 2 - frame_only),
        1 => (2, 2 * (2 - frame_only)),
        _ => (2, 2 - frame_only),
    };
    let mut crop = |unit: u32| bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit);
    let (crop_x, crop_y) = (crop(unit_x)?, crop(unit_y)?);
    Some((width.checked_sub(crop_x)?, height.checked_sub(crop_y)?))
}

/// The fields that only High profiles have; returns chroma_format_idc and separate_colour_plane_flag.
fn high_profile(bits: &mut Bits) -> Option<(u32, bool)> {
    let chroma = bits.ue()?;
    let separate = chroma == 3 && bits.bit()? == 1;
    bits.ue()?; // bit_depth_luma_minus8
    bits.ue()?; // bit_depth_chroma_minus8
    bits.bit()?; // qpprime_y_zero_transform_bypass_flag
    if bits.bit()? == 1 {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.bit()? == 1 {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some((chroma, separate))
}

fn scaling_list(bits: &mut Bits, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = (last.wrapping_add(bits.se()?)).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Returns pic_order_cnt_type.
fn picture_order(bits: &mut Bits) -> Option<u32> {
    let order_type = bits.ue()?;
    match order_type {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(order_type)
}

/// max_num_reorder_frames of the VUI.
fn reordered(bits: &mut Bits) -> Option<u8> {
    /// MaxDpbFrames is never more (section A.3.1).
    const REORDERED_MAX: u32 = 16;
    if bits.bit()? == 0 {
        return None; // no VUI
    }
    if bits.bit()? == 1 && bits.bits(8)? == 255 {
        bits.bits(32)?; // Extended_SAR
    }
    if bits.bit()? == 1 {
        bits.bit()?; // overscan_appropriate_flag
    }
    if bits.bit()? == 1 {
        bits.bits(4)?; // video_format, video_full_range_flag
        if bits.bit()? == 1 {
            bits.bits(24)?; // colour description
        }
    }
    if bits.bit()? == 1 {
        bits.ue()?; // chroma_sample_loc_type_top_field
        bits.ue()?; // and bottom
    }
    if bits.bit()? == 1 {
        bits.bits(32)?; // num_units_in_tick
        bits.bits(32)?; // time_scale
        bits.bit()?; // fixed_frame_rate_flag
    }
    let models = [hypothetical_decoder(bits)?, hypothetical_decoder(bits)?];
    if models.contains(&true) {
        bits.bit()?; // low_delay_hrd_flag
    }
    bits.bit()?; // pic_struct_present_flag
    if bits.bit()? == 0 {
        return None; // no bitstream restriction
    }
    bits.bit()?; // motion_vectors_over_pic_boundaries_flag
    for _ in 0..4 {
        bits.ue()?; // limits of sizes and vectors
    }
    bits.ue().filter(|frames| *frames <= REORDERED_MAX).map(|frames| frames as u8)
}

/// Section E.1.2; whether there is one.
fn hypothetical_decoder(bits: &mut Bits) -> Option<bool> {
    if bits.bit()? == 0 {
        return Some(false);
    }
    let buffers = bits.ue()?.min(31);
    bits.bits(8)?; // scales
    for _ in 0..=buffers {
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
    }
    bits.bits(20)?; // lengths of delays and offset
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::packed;

    /// High profile, id 0, 4:2:0, 8 bit, frame_num of 6 bits, order type 0, 4 references, 20 x 15 macroblocks, then `rest`.
    fn high(rest: &str) -> Option<Sps> {
        let start = "01100111 01100100 00000000 00001101 1 010 1 1 0 0 011 1 011 00101 0 000010100 0001111 1 1 0";
        Sps::parse(&packed(&format!("{start} {rest}")))
    }

    #[test]
    fn how_far_pictures_are_reordered() {
        let zeros = |n| "0".repeat(n);
        let restriction = "1 1 1 1 1 1 011 00101"; // two pictures
        let plain = format!("1 0 0 0 0 0 0 0 0 {restriction} 1");
        let sps = high(&plain).expect("a parameter set");
        assert_eq!((sps.size, sps.frame_num_bits, sps.reordered), ((320, 240), 6, Some(2)));
        let model = format!("1 010 {} 1 1 0 1 1 0 {}", zeros(8), zeros(20));
        let aspect = format!("1 11111111 {}", zeros(32));
        let colour = format!("1 0000 1 {}", zeros(24));
        let everything = format!("1 {aspect} 1 0 {colour} 1 1 1 1 {} {} 0 {model} {model} 0 0 {restriction} 1", zeros(32), zeros(32));
        assert_eq!(high(&everything).map(|sps| sps.reordered), Some(Some(2)));
        assert_eq!(high("0 1").map(|sps| sps.reordered), Some(None), "no VUI");
        assert_eq!(high("1 0 0 0 0 0 0 0 0 0 1").map(|sps| sps.reordered), Some(None), "no restriction");
        assert_eq!(high("1 0 0 0").map(|sps| sps.reordered), Some(None), "a torn VUI does not make the picture unusable");
    }
}
