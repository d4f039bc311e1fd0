//! The sequence header (AV1 specification, section 5.5), as far as the size.

use crate::bits::Bits;

/// Largest width and height of the sequence's frames.
pub(super) fn size(payload: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::plain(payload);
    bits.bits(4)?; // seq_profile, still_picture
    if bits.bit()? == 1 {
        bits.bits(5)?; // reduced_still_picture_header: seq_level_idx only
    } else {
        operating_points(&mut bits)?;
    }
    let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    Some((bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1))
}

fn operating_points(bits: &mut Bits) -> Option<()> {
    let mut delay_bits = None;
    if bits.bit()? == 1 {
        timing_info(bits)?;
        if bits.bit()? == 1 {
            delay_bits = Some(decoder_model_info(bits)?);
        }
    }
    let initial_display_delay = bits.bit()?;
    for _ in 0..=bits.bits(5)? {
        bits.bits(12)?; // operating_point_idc
        if bits.bits(5)? > 7 {
            bits.bit()?; // seq_tier, from level 4.0 on
        }
        if let Some(delay_bits) = delay_bits
            && bits.bit()? == 1
        {
            bits.bits(delay_bits)?; // decoder_buffer_delay
            bits.bits(delay_bits)?; // encoder_buffer_delay
            bits.bit()?; // low_delay_mode_flag
        }
        if initial_display_delay == 1 && bits.bit()? == 1 {
            bits.bits(4)?;
        }
    }
    Some(())
}

fn timing_info(bits: &mut Bits) -> Option<()> {
    bits.bits(32)?; // num_units_in_display_tick
    bits.bits(32)?; // time_scale
    if bits.bit()? == 1 {
        bits.ue()?; // num_ticks_per_picture_minus_1: uvlc is H.264's ue(v)
    }
    Some(())
}

/// Returns the width of the delay fields.
fn decoder_model_info(bits: &mut Bits) -> Option<u32> {
    let delay_bits = bits.bits(5)? + 1;
    bits.bits(32)?; // num_units_in_decoding_tick
    bits.bits(10)?; // widths of two more fields
    Some(delay_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::packed;

    #[test]
    fn sizes_behind_every_optional_field() {
        let size_320x180 = "1000 0111 100111111 10110011";
        let still = format!("0001 1 00000 {size_320x180}");
        assert_eq!(size(&packed(&still)), Some((320, 180)));
        let plain = format!("0000 0 0 0 00000 000000000000 00100 {size_320x180}");
        assert_eq!(size(&packed(&plain)), Some((320, 180)));
        let zeros = |n| "0".repeat(n);
        let timing = format!("1 {} {} 1 00101 1 00100 {} {}", zeros(32), zeros(32), zeros(32), zeros(10));
        let point = |level: &str, tier: &str| format!("{} {level} {tier} 1 00000 00000 0 1 0000", zeros(12));
        let full = format!("0000 0 {timing} 1 00001 {} {} {size_320x180}", point("01000", "1"), point("00111", ""));
        assert_eq!(size(&packed(&full)), Some((320, 180)));
        let bytes = packed(&full);
        assert!((0..bytes.len() - 1).all(|cut| size(&bytes[..cut]).is_none()), "a torn header has no size");
    }
}
