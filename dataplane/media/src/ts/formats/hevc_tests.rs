use super::*;
use crate::ts::formats::bits::{BitWriter, with_emulation_prevention};

/// profile_tier_level of Main, level 3.1, with the constraints that most
/// encoders signal.
const MAIN: (u64, u64, u64, u64) = (0x01, 0x6000_0000, 0x9000_0000_0000, 93);

/// Up to chroma_format_idc, with no sub-layers.
fn head((profile, compatibility, constraints, level): (u64, u64, u64, u64)) -> BitWriter {
    let bits = BitWriter::default().number(8, 1).number(8, profile).number(32, compatibility);
    bits.number(48, constraints).number(8, level).golomb(0)
}

/// Size and conformance window, 4:2:0.
fn sized(bits: BitWriter, size: [u64; 2], crop: Option<[u64; 4]>) -> BitWriter {
    let bits = bits.golomb(1).golombs(size);
    match crop {
        Some(crop) => bits.number(1, 1).golombs(crop),
        None => bits.number(1, 0),
    }
}

fn nal(bits: BitWriter) -> Vec<u8> {
    [&[0x42, 0x01], &with_emulation_prevention(&bits.finish())[..]].concat()
}

fn size(bits: BitWriter) -> Option<(u16, u16)> {
    format(&nal(bits)).map(|format| (format.width, format.height))
}

/// Bit depths, picture order of 8 bits, one sub-layer's ordering, block sizes.
fn coding(bits: BitWriter) -> BitWriter {
    bits.golombs([0, 0, 4]).number(1, 1).golombs([4, 2, 0]).golombs([0, 3, 0, 3, 1, 1])
}

/// The VUI with nothing but timing.
fn vui(bits: BitWriter, are_fields: u64, tick: u64, scale: u64) -> BitWriter {
    let bits = bits.number(2, 3).number(1, 1).number(4, 0).number(3, are_fields << 1).number(1, 0);
    bits.number(1, 1).number(32, tick).number(32, scale)
}

fn rate(bits: BitWriter) -> Option<String> {
    format(&nal(bits)).unwrap().frame_rate.map(|rate| rate.to_string())
}

#[test]
fn the_name_has_profile_compatibility_tier_level_and_constraints() {
    for (profile, expected) in [
        (MAIN, "hvc1.1.6.L93.90"),
        ((0x02, 0x2000_0000, 0xB000_0000_0000, 153), "hvc1.2.4.L153.B0"),
        ((0x22, 0x2000_0000, 0xB000_0000_0000, 120), "hvc1.2.4.H120.B0"),
        ((0x04, 0x0800_0000, 0x9E08_0000_0000, 120), "hvc1.4.10.L120.9E.8"),
        ((0x41, 0x6000_0000, 0, 30), "hvc1.A1.6.L30"),
        ((0xC1, 0x8000_0001, 0x0000_0000_0001, 255), "hvc1.C1.80000001.L255.0.0.0.0.0.1"),
    ] {
        let format = format(&nal(sized(head(profile), [64, 64], None))).unwrap();
        assert_eq!(format.codec.as_deref(), Some(expected));
    }
}

#[test]
fn only_sequence_parameter_sets_of_the_base_layer_are_read() {
    let set = nal(sized(head(MAIN), [64, 64], None));
    assert!(format(&set).is_some());
    for (name, header) in
        [("VPS", [0x40, 1]), ("PPS", [0x44, 1]), ("layer 1", [0x42, 9]), ("layer 32", [0x43, 1])]
    {
        let mut other = set.clone();
        other[..2].copy_from_slice(&header);
        assert_eq!(format(&other), None, "{name}");
    }
    assert_eq!(format(&[0x42]), None);
}

#[test]
fn the_size_is_that_of_a_picture_after_cropping() {
    let chroma =
        |idc: u64, more: u32| head(MAIN).golomb(idc).number(more, 0).golombs([1920, 1088]).number(1, 1);
    for (name, bits, expected) in [
        ("whole blocks", sized(head(MAIN), [640, 360], None), Some((640, 360))),
        ("1080 lines", sized(head(MAIN), [1920, 1088], Some([0, 0, 0, 4])), Some((1920, 1080))),
        ("4:0:0", chroma(0, 0).golombs([1, 0, 8, 0]), Some((1919, 1080))),
        ("4:2:2", chroma(2, 0).golombs([1, 0, 8, 0]), Some((1918, 1080))),
        ("4:4:4", chroma(3, 1).golombs([1, 0, 8, 0]), Some((1919, 1080))),
        ("chroma_format_idc 4", chroma(4, 0).golombs([1, 0, 8, 0]), None),
        ("nothing left", sized(head(MAIN), [64, 64], Some([16, 16, 0, 0])), None),
        ("less than nothing", sized(head(MAIN), [64, 64], Some([0, 0, 0, 33])), None),
        ("too wide", sized(head(MAIN), [1 << 16, 64], None), None),
        ("cropping that overflows", sized(head(MAIN), [64, 64], Some([1 << 31, 1 << 31, 0, 0])), None),
    ] {
        assert_eq!(size(bits), expected, "{name}");
    }
}

#[test]
fn sub_layers_are_stepped_over() {
    // Two more: the first with profile and level, the second with a level.
    let bits = BitWriter::default().number(8, 0x05).number(8, 1).number(32, 0x6000_0000);
    let bits = bits.number(48, 0x9000_0000_0000).number(8, 93).number(4, 0b1101).number(12, 0);
    let bits = bits.number(32, 1).number(32, 2).number(24, 3).number(8, 60).number(8, 90).golomb(0);
    let bits = sized(bits, [640, 360], None).golombs([0, 0, 4]);
    // Ordering of all three, then of the highest alone.
    let all = |bits: BitWriter| bits.number(1, 1).golombs([4, 2, 0]).golombs([4, 2, 0]).golombs([4, 2, 0]);
    let rest = all(bits).golombs([0, 3, 0, 3, 1, 1]).number(4, 0).golomb(0).number(1, 0);
    assert_eq!(rate(vui(rest, 0, 1, 25)).as_deref(), Some("25.000"));
    let seven = BitWriter::default().number(8, 0x0F).number(32, 0).number(32, 0);
    assert_eq!(size(sized(seven.number(32, 0).golomb(0), [64, 64], None)), None);
}

#[test]
fn what_stands_before_the_timing_is_stepped_over() {
    let start = || coding(sized(head(MAIN), [640, 360], None));
    let lists = |bits: BitWriter| {
        let bits = (0..6).fold(bits.number(2, 3), |bits, i| bits.number(1, 0).golomb(i));
        let bits =
            (0..6).fold(bits, |bits, _| (0..64).fold(bits.number(1, 1), |bits, i| bits.signed_golomb(-i)));
        let bits =
            (0..6).fold(bits, |bits, _| (0..65).fold(bits.number(1, 1), |bits, i| bits.signed_golomb(i)));
        bits.number(1, 0).golomb(0).number(1, 0).golomb(1)
    };
    // One set of two and one; one from it with the first and the current
    // picture left out, which makes two; one from that, whose first falls on
    // the current picture; one from that, with two flags.
    let sets = |bits: BitWriter| {
        let bits = bits
            .golomb(4)
            .golombs([2, 1])
            .golomb(0)
            .number(1, 1)
            .golomb(1)
            .number(1, 1)
            .golomb(3)
            .number(1, 1);
        // -1, -3, 4; by -1: -2, -4, 3, -1.
        let bits = bits
            .number(1, 1)
            .number(1, 1)
            .golomb(0)
            .number(2, 0b00)
            .number(1, 1)
            .number(2, 0b01)
            .number(2, 0);
        // -4, 3; by 4: 0, 7, 4.
        let bits = bits.number(1, 1).number(1, 0).golomb(3).number(3, 0b111);
        // 4, 7; by 1: 5, 8, 1.
        bits.number(1, 1).number(1, 0).golomb(0).number(3, 0b111)
    };
    let no_sets = |bits: BitWriter| bits.golomb(0);
    for (name, bits) in [
        ("the least", no_sets(start().number(1, 0).number(3, 0)).number(1, 0)),
        ("default lists", no_sets(start().number(2, 0b10).number(3, 0)).number(1, 0)),
        ("lists", no_sets(lists(start()).number(3, 0)).number(1, 0)),
        (
            "PCM",
            no_sets(start().number(1, 0).number(3, 1).number(8, 0x77).golombs([0, 2]).number(1, 1))
                .number(1, 0),
        ),
        ("sets", sets(start().number(1, 0).number(3, 0)).number(1, 0)),
        (
            "long-term",
            no_sets(start().number(1, 0).number(3, 0)).number(1, 1).golomb(2).number(9, 5).number(9, 6),
        ),
    ] {
        assert_eq!(rate(vui(bits, 0, 1001, 30_000)).as_deref(), Some("29.970"), "{name}");
    }
    for (name, bits) in [
        ("too many sets", start().number(4, 0).golomb(65)),
        ("too many pictures", start().number(4, 0).golombs([1, 17])),
        ("too far", start().number(4, 0).golombs([1, 1, 0, 1 << 15])),
        ("too many long-term", no_sets(start().number(4, 0)).number(1, 1).golomb(33)),
        ("cut short", start()),
    ] {
        assert_eq!(rate(bits), None, "{name}");
    }
}

#[test]
fn two_fields_are_a_frame() {
    let bits = |are_fields| {
        let bits = coding(sized(head(MAIN), [1920, 540], None)).number(4, 0).golomb(0).number(1, 0);
        vui(bits, are_fields, 1, 50)
    };
    for (are_fields, height, rate) in [(0, 540, "50.000"), (1, 1080, "25.000")] {
        let format = format(&nal(bits(are_fields))).unwrap();
        assert_eq!((format.height, format.frame_rate.unwrap().to_string().as_str()), (height, rate));
    }
}

#[test]
fn everything_a_vui_may_have_before_the_timing_is_stepped_over() {
    let bits = coding(sized(head(MAIN), [640, 360], None)).number(4, 0).golomb(0).number(1, 0).number(3, 7);
    let bits = bits.number(9, 0x1FF).number(32, 0x0040_0021).number(2, 3).number(6, 0b11_0101);
    let bits = bits.number(24, 0x01_01_01).number(1, 1).golombs([0, 2]).number(3, 0);
    let bits = bits.number(1, 1).golombs([0, 1, 2, 3]);
    assert_eq!(rate(bits.number(1, 1).number(32, 1).number(32, 60)).as_deref(), Some("60.000"));
}
