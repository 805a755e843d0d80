//! What an H.264 sequence parameter set tells.
//!
//! Source: ITU-T H.264 §7.3.2.1.1, §E.1.1 and §E.2.1.

use super::{
    FrameRate, VideoFormat,
    bits::{Bits, without_emulation_prevention},
};

/// profile_idc of those whose parameter sets tell chroma and bit depths.
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Reads a NAL unit; none when it is no sequence parameter set, or one that
/// contradicts itself before it has told the size of a frame.
pub(super) fn format(nal: &[u8]) -> Option<VideoFormat> {
    let (header, rest) = nal.split_first()?;
    // forbidden_zero_bit and nal_unit_type.
    if header & 0x9F != 7 {
        return None;
    }
    let rbsp = without_emulation_prevention(rest);
    let mut bits = Bits::new(&rbsp);
    let (profile, constraints, level) = (bits.byte()?, bits.byte()?, bits.byte()?);
    bits.golomb()?; // seq_parameter_set_id
    let chroma = if HIGH_PROFILES.contains(&profile) { skip_high(&mut bits)? } else { 1 };
    bits.golomb()?; // log2_max_frame_num_minus4
    skip_picture_order(&mut bits)?;
    bits.golomb()?; // max_num_ref_frames
    bits.flag()?; // gaps_in_frame_num_value_allowed_flag
    let (width_units, height_units) = (bits.golomb()?.checked_add(1)?, bits.golomb()?.checked_add(1)?);
    let map_units = if bits.flag()? { 1 } else { 2 };
    if map_units == 2 {
        bits.flag()?; // mb_adaptive_frame_field_flag
    }
    bits.flag()?; // direct_8x8_inference_flag
    let crop =
        if bits.flag()? { (0..4).map(|_| bits.golomb()).collect::<Option<Vec<_>>>()? } else { vec![0; 4] };
    // SubWidthC and SubHeightC of table 6-1; 1 without chroma or in planes.
    let (crop_width, crop_height) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let width = cropped(width_units, 16, [crop[0], crop[1]], crop_width)?;
    let height = cropped(height_units, 16 * map_units, [crop[2], crop[3]], crop_height * map_units)?;
    let codec = format!("avc1.{profile:02X}{constraints:02X}{level:02X}");
    Some(VideoFormat { codec: Some(codec), width, height, frame_rate: frame_rate(&mut bits) })
}

/// A side of a frame less what is cropped at both ends, in luma samples: §7.4.2.1.1.
fn cropped(units: u32, unit: u32, crop: [u32; 2], crop_unit: u32) -> Option<u16> {
    let crop = crop[0].checked_add(crop[1])?.checked_mul(crop_unit)?;
    let left = units.checked_mul(unit)?.checked_sub(crop)?;
    u16::try_from(left).ok().filter(|left| *left > 0)
}

/// What the high profiles have more, up to the scaling matrix; gives
/// ChromaArrayType.
fn skip_high(bits: &mut Bits<'_>) -> Option<u32> {
    let chroma = bits.golomb().filter(|chroma| *chroma <= 3)?;
    let in_planes = chroma == 3 && bits.flag()?;
    bits.skip_golomb(2)?; // bit_depth_luma_minus8, bit_depth_chroma_minus8
    bits.flag()?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(if in_planes { 0 } else { chroma })
}

/// §7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut Bits<'_>, len: u32) -> Option<()> {
    let mut last = 8;
    for _ in 0..len {
        last = (last + bits.signed_golomb()?).rem_euclid(256);
        if last == 0 {
            return Some(()); // The rest is as the last scale.
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.golomb()? {
        0 => bits.skip_golomb(1), // log2_max_pic_order_cnt_lsb_minus4
        1 => {
            bits.flag()?; // delta_pic_order_always_zero_flag
            bits.skip_golomb(2)?; // offset_for_non_ref_pic, offset_for_top_to_bottom_field
            let count = bits.golomb().filter(|count| *count <= 255)?;
            bits.skip_golomb(count)
        }
        2 => Some(()),
        _ => None,
    }
}

/// The rest of the set from vui_parameters_present_flag on, up to the timing. A
/// tick is a field's duration, whatever the pictures are (§E.2.1).
fn frame_rate(bits: &mut Bits<'_>) -> Option<FrameRate> {
    if !bits.flag()? {
        return None;
    }
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
    if !bits.flag()? {
        return None;
    }
    let (tick, scale) = (bits.number(32)?, bits.number(32)?);
    FrameRate::new(scale.into(), u64::from(tick) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::formats::bits::{BitWriter, with_emulation_prevention};

    /// From profile_idc to max_num_ref_frames and the flag behind it.
    fn head(profile: u64, more: impl FnOnce(BitWriter) -> BitWriter) -> BitWriter {
        let head = BitWriter::default().number(8, profile).number(8, 0x40).number(8, 31).golomb(0);
        more(head).golombs([0, 0, 2, 4]).number(1, 0)
    }

    /// From the size on; `frame` is frame_mbs_only_flag.
    fn sps(head: BitWriter, size: [u64; 2], frame: bool, crop: Option<[u64; 4]>) -> BitWriter {
        let bits = head.golombs(size.map(|side| side - 1)).number(1, frame.into());
        let bits = if frame { bits } else { bits.number(1, 1) }.number(1, 1);
        match crop {
            Some(crop) => bits.number(1, 1).golombs(crop),
            None => bits.number(1, 0),
        }
    }

    fn nal(bits: BitWriter) -> Vec<u8> {
        [&[0x67], &with_emulation_prevention(&bits.finish())[..]].concat()
    }

    fn size(bits: BitWriter) -> Option<(u16, u16)> {
        format(&nal(bits.number(1, 0))).map(|format| (format.width, format.height))
    }

    #[test]
    fn the_size_is_that_of_a_frame_after_cropping() {
        let main = || head(77, |bits| bits);
        let high = |chroma| {
            head(100, move |bits| {
                let bits = bits.golomb(chroma);
                if chroma == 3 { bits.number(1, 0) } else { bits }.golombs([0, 0]).number(2, 0)
            })
        };
        let planes = head(244, |bits| bits.golomb(3).number(1, 1).golombs([0, 0]).number(2, 0));
        for (name, bits, expected) in [
            ("whole macroblocks", sps(main(), [40, 30], true, None), Some((640, 480))),
            ("640 × 360", sps(main(), [40, 23], true, Some([0, 0, 0, 4])), Some((640, 360))),
            ("1080 lines", sps(high(1), [120, 68], true, Some([0, 0, 0, 4])), Some((1920, 1080))),
            ("1080 lines in fields", sps(high(1), [120, 34], false, Some([0, 0, 0, 2])), Some((1920, 1080))),
            ("4:0:0", sps(high(0), [120, 68], true, Some([0, 0, 0, 8])), Some((1920, 1080))),
            ("4:2:2", sps(high(2), [120, 68], true, Some([0, 1, 0, 8])), Some((1918, 1080))),
            ("4:4:4", sps(high(3), [120, 68], true, Some([1, 0, 8, 0])), Some((1919, 1080))),
            ("4:4:4 in planes", sps(planes, [120, 68], true, Some([1, 0, 8, 0])), Some((1919, 1080))),
            ("chroma_format_idc 4", sps(high(4), [120, 68], true, None), None),
            ("nothing left", sps(main(), [1, 1], true, Some([4, 4, 0, 0])), None),
            ("less than nothing", sps(main(), [1, 1], true, Some([0, 9, 0, 0])), None),
            ("too wide", sps(main(), [4096, 1], true, None), None),
            ("far too high", sps(main(), [1, 1 << 31], false, None), None),
            ("cropping that overflows", sps(main(), [1, 1], true, Some([0, 0, 1 << 31, 1 << 31])), None),
        ] {
            assert_eq!(size(bits), expected, "{name}");
        }
    }

    #[test]
    fn what_stands_before_the_size_is_stepped_over() {
        let matrix = |bits: BitWriter| {
            let bits = bits.golombs([1, 0, 0]).number(2, 0b01);
            // A whole list, one that ends early, none, and a list of 64.
            let bits = (0..16).fold(bits.number(1, 1), |bits, _| bits.signed_golomb(1));
            let bits = bits.number(1, 1).signed_golomb(4).signed_golomb(-12).number(4, 0);
            (0..64).fold(bits.number(1, 1), |bits, i| bits.signed_golomb(i % 2)).number(1, 0)
        };
        assert_eq!(size(sps(head(100, matrix), [40, 30], true, None)), Some((640, 480)));
        let order = |count: u64| {
            let bits = BitWriter::default().number(24, 0x42_00_1E).golombs([0, 0, 1]).number(1, 0);
            let bits = bits.signed_golomb(-1).signed_golomb(2).golomb(count);
            (0..count).fold(bits, |bits, i| bits.golomb(i)).golomb(1).number(1, 0)
        };
        assert_eq!(size(sps(order(255), [40, 30], true, None)), Some((640, 480)));
        assert_eq!(size(sps(order(256), [40, 30], true, None)), None);
    }

    #[test]
    fn the_frame_rate_is_half_the_rate_of_ticks() {
        let timing = |before: fn(BitWriter) -> BitWriter, tick, scale| {
            let bits = sps(head(77, |bits| bits), [40, 30], true, None).number(1, 1);
            let bits = before(bits).number(1, 1).number(32, tick).number(32, scale).number(1, 1);
            format(&nal(bits)).unwrap().frame_rate.map(|rate| rate.to_string())
        };
        let plain = |bits: BitWriter| bits.number(4, 0);
        // Sample shape, overscan, colours, chroma places.
        let all = |bits: BitWriter| {
            let bits = bits.number(9, 0x1FF).number(32, 0x0040_0021).number(2, 3).number(6, 0b11_0101);
            bits.number(24, 0x01_01_01).number(1, 1).golombs([0, 2])
        };
        for (name, before, tick, scale, expected) in [
            ("25", plain as fn(BitWriter) -> BitWriter, 1, 50, Some("25.000")),
            ("29.97", plain, 1001, 60_000, Some("29.970")),
            ("behind all else", all, 1001, 48_000, Some("23.976")),
            ("no tick", plain, 0, 50, None),
            ("no scale", plain, 1, 0, None),
            ("a clock and no rate", plain, 1, 90_000, None),
        ] {
            assert_eq!(timing(before, tick, scale).as_deref(), expected, "{name}");
        }
        let cut =
            nal(sps(head(77, |bits| bits), [40, 30], true, None).number(1, 1).number(4, 0).number(2, 3));
        assert_eq!(format(&cut).map(|format| (format.width, format.frame_rate)), Some((640, None)));
    }

    #[test]
    fn the_name_has_profile_constraints_and_level() {
        let name = |header: u8, start: u64| {
            let bits = BitWriter::default().number(24, start).golombs([0, 0, 2, 4]).number(1, 0);
            let mut nal = nal(sps(bits, [40, 30], true, None).number(1, 0));
            nal[0] = header;
            format(&nal).and_then(|format| format.codec)
        };
        assert_eq!(name(0x67, 0x42_E0_1E).as_deref(), Some("avc1.42E01E"));
        assert_eq!(name(0x27, 0x4D_40_0A).as_deref(), Some("avc1.4D400A"));
        // With an emulation prevention byte in it.
        assert_eq!(name(0x67, 0x42_00_00).as_deref(), Some("avc1.420000"));
        for (name_of, header) in [("PPS", 0x68), ("subset", 0x6F), ("forbidden bit", 0xE7)] {
            assert_eq!(name(header, 0x42_E0_1E), None, "{name_of}");
        }
        assert_eq!(format(&[]), None);
    }
}
