//! What an HEVC sequence parameter set tells.
//!
//! Source: ITU-T H.265 §7.3.2.2, §7.3.3, §E.2.1; ISO/IEC 14496-15 §E.3 on the
//! name.

use super::{
    FrameRate, VideoFormat,
    bits::{Bits, without_emulation_prevention},
};

/// How many pictures before, and how many behind, a reference picture set may
/// have (§7.4.8: fewer than the decoded picture buffer, which holds 16).
const REFERENCES_MAX: u32 = 16;

/// Reads a NAL unit; none when it is no sequence parameter set of the base
/// layer, or one that contradicts itself before it has told the size of a
/// picture.
///
/// Where pictures are fields, height and rate are of the frames they make.
pub(super) fn format(nal: &[u8]) -> Option<VideoFormat> {
    let (header, rest) = nal.split_first_chunk::<2>()?;
    // forbidden_zero_bit, nal_unit_type, nuh_layer_id.
    if header[0] != 33 << 1 || header[1] >> 3 != 0 {
        return None;
    }
    let rbsp = without_emulation_prevention(rest);
    let mut bits = Bits::new(&rbsp);
    bits.skip(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.number(3).filter(|more| *more <= 6)?;
    bits.flag()?; // sps_temporal_id_nesting_flag
    let codec = profile_tier_level(&mut bits, sub_layers)?;
    bits.golomb()?; // sps_seq_parameter_set_id
    // SubWidthC and SubHeightC of table 6-1; 1 without chroma or in planes.
    let (crop_width, crop_height) = match bits.golomb()? {
        1 => (2, 2),
        2 => (2, 1),
        0 => (1, 1),
        3 => bits.flag().map(|_| (1, 1))?,
        _ => return None,
    };
    let (width, height) = (bits.golomb()?, bits.golomb()?);
    let crop =
        if bits.flag()? { (0..4).map(|_| bits.golomb()).collect::<Option<Vec<_>>>()? } else { vec![0; 4] };
    let width = cropped(width, [crop[0], crop[1]], crop_width)?;
    let height = cropped(height, [crop[2], crop[3]], crop_height)?;
    let mut timing = Timing::default();
    if skip_to_vui(&mut bits, sub_layers).is_some() {
        timing.read(&mut bits);
    }
    let pictures = if timing.are_fields { 2 } else { 1 };
    let frame_rate = timing
        .tick_and_scale
        .and_then(|(tick, scale)| FrameRate::new(scale.into(), u64::from(tick) * u64::from(pictures)));
    Some(VideoFormat { codec: Some(codec), width, height: height.checked_mul(pictures)?, frame_rate })
}

/// A side of a picture less what is cropped at both ends, in luma samples:
/// §7.4.3.2.1.
fn cropped(side: u32, crop: [u32; 2], crop_unit: u32) -> Option<u16> {
    let crop = crop[0].checked_add(crop[1])?.checked_mul(crop_unit)?;
    u16::try_from(side.checked_sub(crop)?).ok().filter(|left| *left > 0)
}

/// profile_tier_level( 1, sub_layers ), as the name that ISO/IEC 14496-15 §E.3
/// makes of it: profile space and profile, compatibility flags in reverse
/// order, tier and level, and six bytes of constraints less the zeros at their
/// end.
///
/// `hvc1` although the parameter sets stand in the stream, as `hev1` would have
/// it: RFC 8216 and Apple's players know no other.
fn profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<String> {
    use std::fmt::Write;

    let space = ["", "A", "B", "C"].get(usize::try_from(bits.number(2)?).ok()?)?;
    let tier = if bits.flag()? { 'H' } else { 'L' };
    let profile = bits.number(5)?;
    let compatibility = bits.number(32)?.reverse_bits();
    let constraints = (0..6).map(|_| bits.byte()).collect::<Option<Vec<_>>>()?;
    let level = bits.byte()?;
    let present = (0..sub_layers).map(|_| Some((bits.flag()?, bits.flag()?))).collect::<Option<Vec<_>>>()?;
    if sub_layers > 0 {
        bits.skip(2 * (8 - usize::try_from(sub_layers).ok()?))?;
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 })?;
    }
    let mut name = format!("hvc1.{space}{profile}.{compatibility:X}.{tier}{level}");
    let told = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    constraints[..told].iter().try_for_each(|byte| write!(name, ".{byte:X}")).ok()?;
    Some(name)
}

/// From the conformance window to vui_parameters_present_flag; none when that
/// is not reached or not set.
fn skip_to_vui(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    bits.skip_golomb(2)?; // bit depths
    let order_bits = bits.golomb().filter(|more| *more <= 12)? + 4;
    let ordered_layers = if bits.flag()? { sub_layers + 1 } else { 1 };
    bits.skip_golomb(3 * ordered_layers)?;
    bits.skip_golomb(6)?; // block sizes, transform depths
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.flag()? {
        bits.skip(8)?; // PCM bit depths
        bits.skip_golomb(2)?;
        bits.flag()?;
    }
    skip_reference_sets(bits)?;
    if bits.flag()? {
        let count = bits.golomb().filter(|count| *count <= 32)?;
        for _ in 0..count {
            bits.number(order_bits + 1)?;
        }
    }
    bits.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    bits.flag()?.then_some(())
}

/// scaling_list_data: §7.3.4.
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag()? {
                bits.golomb()?; // scaling_list_pred_matrix_id_delta
                continue;
            }
            let has_dc = u32::from(size > 1);
            bits.skip_golomb(has_dc + (1 << (4 + (size << 1))).min(64))?;
        }
    }
    Some(())
}

/// The short-term reference picture sets: §7.3.7, and §7.4.8 on those told by
/// the difference to the set before.
fn skip_reference_sets(bits: &mut Bits<'_>) -> Option<()> {
    let count = bits.golomb().filter(|count| *count <= 64)?;
    // Picture order counts less the current one's, those before it first,
    // each side from the nearest on: the order in which flags refer to them.
    let mut set: Vec<i32> = Vec::new();
    for index in 0..count {
        if index > 0 && bits.flag()? {
            let is_negative = bits.flag()?;
            let by = i32::try_from(bits.golomb().filter(|by| *by < 1 << 15)?).ok()? + 1;
            let by = if is_negative { -by } else { by };
            let mut next = Vec::new();
            for from in set.iter().copied().chain([0]) {
                let is_used = bits.flag()? || bits.flag()?;
                if is_used && from + by != 0 {
                    next.push(from + by);
                }
            }
            next.sort_by_key(|delta| (*delta > 0, delta.unsigned_abs()));
            set = next;
        } else {
            let before = bits.golomb().filter(|count| *count <= REFERENCES_MAX)?;
            let behind = bits.golomb().filter(|count| *count <= REFERENCES_MAX)?;
            set.clear();
            for (count, sign) in [(before, -1), (behind, 1)] {
                let mut delta = 0;
                for _ in 0..count {
                    delta += sign * (i32::try_from(bits.golomb().filter(|by| *by < 1 << 15)?).ok()? + 1);
                    bits.flag()?; // used_by_curr_pic
                    set.push(delta);
                }
            }
        }
        if set.len() > 2 * REFERENCES_MAX as usize {
            return None;
        }
    }
    Some(())
}

/// What the VUI tells of time: §E.2.1.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    /// field_seq_flag.
    are_fields: bool,
    /// A picture's duration is so many ticks of so many a second.
    tick_and_scale: Option<(u32, u32)>,
}

impl Timing {
    /// Reads up to the timing, and keeps what came before the bits ended.
    fn read(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if bits.flag()? && bits.byte()? == 255 {
            bits.skip(32)?; // sar_width, sar_height
        }
        if bits.flag()? {
            bits.flag()?; // overscan_appropriate_flag
        }
        if bits.flag()? {
            bits.skip(4)?; // video_format, video_full_range_flag
            if bits.flag()? {
                bits.skip(24)?; // colour description
            }
        }
        if bits.flag()? {
            bits.skip_golomb(2)?; // places of chroma samples
        }
        bits.flag()?; // neutral_chroma_indication_flag
        self.are_fields = bits.flag()?;
        bits.flag()?; // frame_field_info_present_flag
        if bits.flag()? {
            bits.skip_golomb(4)?; // default display window
        }
        if bits.flag()? {
            self.tick_and_scale = Some((bits.number(32)?, bits.number(32)?));
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "hevc_tests.rs"]
mod tests;
