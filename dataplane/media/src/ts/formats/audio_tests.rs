use super::*;
use crate::ts::formats::bits::BitWriter;

/// A frame of 20 bytes with `profile_ObjectType` and `sampling_frequency_index`.
fn adts_frame(profile: u8, rate: u8) -> Vec<u8> {
    let mut frame = vec![0xFF, 0xF1, profile << 6 | rate << 2, 0x80, 20 >> 3, 20 << 5 | 0x1F, 0xFC];
    frame.resize(20, 0x11);
    frame
}

/// LOAS frame of 20 bytes.
fn loas_frame(element: BitWriter) -> Vec<u8> {
    let mut frame = [&[0x56, 0xE0, 17][..], &element.finish()].concat();
    frame.resize(20, 0);
    frame
}

/// From useSameStreamMux to AudioSpecificConfig.
fn mux(layers: u64, object_type: u64, rate: u64) -> BitWriter {
    BitWriter::default().number(2, 0).number(7, 0x40).number(7, layers).number(5, object_type).number(4, rate)
}

#[test]
fn tables_name_the_coding() {
    let (ac3, eac3) = (Sound::Named("ac-3"), Sound::Named("ec-3"));
    for (stream_type, info, expected) in [
        (0x03, &[][..], Sound::Mpeg),
        (0x04, &[], Sound::Mpeg),
        (0x0F, &[], Sound::Adts(None)),
        (0x0F, &[0x7C, 1, 0x29], Sound::Adts(Some("mp4a.40.2"))),
        (0x0F, &[0x0A, 4, b'e', b'n', b'g', 0, 0x7C, 2, 0x2C, 0], Sound::Adts(Some("mp4a.40.5"))),
        (0x0F, &[0x1C, 1, 0x30], Sound::Adts(Some("mp4a.40.29"))),
        (0x0F, &[0x7C, 1, 0xFE], Sound::Adts(None)),
        (0x0F, &[0x7C, 0], Sound::Adts(None)),
        (0x11, &[0x7C, 1, 0x2F], Sound::Loas(Some("mp4a.40.5"))),
        (0x81, &[], ac3),
        (0x87, &[], eac3),
        (0x84, &[], eac3),
        (0x06, &[0x6A, 1, 0], ac3),
        (0x06, &[0x52, 1, 0, 0x7A, 1, 0], eac3),
        (0x06, &[0x05, 4, b'A', b'C', b'-', b'3'], ac3),
        (0x06, &[0x05, 4, b'E', b'A', b'C', b'3'], eac3),
        (0x06, &[0x05, 4, b'O', b'p', b'u', b's'], Sound::Unknown),
        (0x06, &[0x7B, 1, 0], Sound::Unknown),
        (0x06, &[0x6A, 9, 0], Sound::Unknown),
        (0x82, &[], Sound::Unknown),
    ] {
        assert_eq!(Sound::of(stream_type, info), expected, "{stream_type:#x} {info:x?}");
    }
}

#[test]
fn frames_of_aac_name_their_profile() {
    for (name, frame, claimed, expected) in [
        ("LC at 48 kHz", adts_frame(1, 3), None, Some(LC)),
        ("LC at 32 kHz", adts_frame(1, 5), None, Some(LC)),
        ("LC at 24 kHz", adts_frame(1, 6), None, Some(HE)),
        ("LC at 24 kHz and no more", adts_frame(1, 6), Some(LC), Some(LC)),
        ("parametric stereo", adts_frame(1, 6), Some(HE_V2), Some(HE_V2)),
        ("Main", adts_frame(0, 3), Some(LC), None),
        ("SSR", adts_frame(2, 3), None, None),
        ("reserved rate", adts_frame(1, 13), None, None),
    ] {
        assert_eq!(Sound::Adts(claimed).codec(&frame.repeat(2)), expected, "{name}");
    }
    for (name, element, claimed, expected) in [
        ("LC", mux(0, 2, 3), None, Some(LC)),
        ("LC at 24 kHz", mux(0, 2, 6), None, Some(HE)),
        ("HE", mux(0, 5, 6), Some(LC), Some(HE)),
        ("HE v2", mux(0, 29, 6), None, Some(HE_V2)),
        ("escape", mux(0, 31, 3), None, None),
        ("two layers", mux(1, 2, 3), None, None),
        ("rate in full", mux(0, 2, 15), None, None),
        ("version 1", BitWriter::default().number(2, 1).number(30, 0), None, None),
        ("as before", BitWriter::default().number(2, 2).number(30, 0), None, None),
    ] {
        assert_eq!(Sound::Loas(claimed).codec(&loas_frame(element).repeat(2)), expected, "{name}");
    }
    // The configuration comes later.
    let later = [loas_frame(BitWriter::default().number(1, 1)), loas_frame(mux(0, 2, 3)).repeat(2)].concat();
    assert_eq!(Sound::Loas(None).codec(&later), Some(LC));
}

#[test]
fn a_header_counts_when_the_next_frame_has_it_too() {
    let (lc, main) = (adts_frame(1, 3), adts_frame(0, 3));
    for (name, stream, expected) in [
        ("two", [&lc[..], &lc].concat(), Some(LC)),
        ("behind the rest of another", [&lc[11..], &lc, &lc].concat(), Some(LC)),
        ("behind bytes that look like a header", [&main[..7], &lc, &lc].concat(), Some(LC)),
        ("one and the head of one", [&lc[..], &lc[..7]].concat(), Some(LC)),
        ("one", [&lc[..], &lc[..6]].concat(), None),
        ("two that differ", [&main[..], &lc].concat(), None),
        ("none", vec![], None),
    ] {
        assert_eq!(Sound::Adts(None).codec(&stream), expected, "{name}");
    }
}

#[test]
fn frames_of_mpeg_audio_have_the_length_of_the_standard() {
    for (name, header, expected) in [
        ("layer III, 128 kbps, 44.1 kHz", [0xFF, 0xFB, 0x90], Some(417)),
        ("the same, padded", [0xFF, 0xFB, 0x92], Some(418)),
        ("layer III, 320 kbps, 32 kHz", [0xFF, 0xFB, 0xE8], Some(1440)),
        ("layer II, 192 kbps, 48 kHz", [0xFF, 0xFD, 0xA4], Some(576)),
        ("layer I, 448 kbps, 48 kHz", [0xFF, 0xFF, 0xE4], Some(448)),
        ("MPEG-2 layer III, 64 kbps, 24 kHz", [0xFF, 0xF3, 0x84], Some(192)),
        ("MPEG-2.5 layer III, 8 kbps, 8 kHz", [0xFF, 0xE3, 0x18], Some(72)),
        ("MPEG-2 layer II, 160 kbps, 16 kHz", [0xFF, 0xF5, 0xE8], Some(1440)),
        ("free format", [0xFF, 0xFB, 0x00], None),
        ("forbidden bit rate", [0xFF, 0xFB, 0xF0], None),
        ("reserved sampling rate", [0xFF, 0xFB, 0x9C], None),
        ("reserved version", [0xFF, 0xEB, 0x90], None),
        ("reserved layer, as in ADTS", [0xFF, 0xF1, 0x90], None),
        ("no sync", [0xFF, 0x7B, 0x90], None),
    ] {
        assert_eq!(mpeg_frame(&header).map(|(len, _)| len), expected, "{name}");
    }
}

#[test]
fn only_layer_iii_has_a_name_that_players_take() {
    for (name, header, len, expected) in [
        ("layer III", [0xFF, 0xFB, 0x90], 417, Some("mp4a.40.34")),
        ("layer III of MPEG-2", [0xFF, 0xF3, 0x84], 192, Some("mp4a.40.34")),
        ("layer II", [0xFF, 0xFD, 0xA4], 576, None),
        ("layer I", [0xFF, 0xFF, 0xE4], 448, None),
    ] {
        let mut frame = header.to_vec();
        frame.resize(len, 0);
        assert_eq!(Sound::Mpeg.codec(&frame.repeat(2)), expected, "{name}");
        assert_eq!(Sound::Mpeg.codec(&frame), None, "{name}, once");
    }
}
