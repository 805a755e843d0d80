use proptest::prelude::*;

use super::*;

/// Main, level 3.1, 640 × 480, no timing.
const SPS: [u8; 9] = [0x67, 0x4D, 0x40, 0x1F, 0xE8, 0x80, 0x50, 0x1E, 0xC8];

/// LC at 48 kHz, twenty bytes.
const AAC: [u8; 20] = [0xFF, 0xF1, 0x4C, 0x80, 2, 0x9F, 0xFC, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];

/// A program with these stream_types and descriptors, on PIDs from 0x100 on.
fn psi(streams: &[(u8, &[u8])]) -> Psi {
    let mut section = vec![2, 0xB0, 0, 0, 7, 0xC1, 0, 0, 0xE1, 0x00, 0xF0, 0];
    for (pid, (stream_type, info)) in (0..).zip(streams) {
        section.extend_from_slice(&[*stream_type, 0xE1, pid, 0xF0, u8::try_from(info.len()).unwrap()]);
        section.extend_from_slice(info);
    }
    section.extend_from_slice(&[0; 4]);
    let program = Program::parse(Pid::from_low_bits(0x50), &section).unwrap();
    Psi::new(Vec::new(), vec![program]).unwrap()
}

/// Packets of one PES packet.
fn pes(pid: u8, stream_id: u8, stream: &[u8]) -> Vec<u8> {
    let bytes = [&[0, 0, 1, stream_id, 0, 0, 0x80, 0, 0], stream].concat();
    let mut packets = Vec::new();
    for (index, payload) in bytes.chunks(PACKET_LEN - 6).enumerate() {
        let stuffing = PACKET_LEN - 6 - payload.len();
        packets.extend_from_slice(&[0x47, if index == 0 { 0x41 } else { 0x01 }, pid, 0x30]);
        packets.extend_from_slice(&[u8::try_from(stuffing + 1).unwrap(), 0]);
        packets.resize(packets.len() + stuffing, 0xFF);
        packets.extend_from_slice(payload);
    }
    packets
}

fn video(pid: u8) -> Vec<u8> {
    pes(pid, 0xE0, &[&[0, 0, 0, 1, 9, 0xF0, 0, 0, 0, 1][..], &SPS, &[0, 0, 1, 0x65, 0x88]].concat())
}

fn sound(pid: u8) -> Vec<u8> {
    pes(pid, 0xC0, &AAC.repeat(2))
}

fn codecs(streams: &[(u8, &[u8])], packets: &[u8]) -> Option<String> {
    Formats::of(&psi(streams), packets).codecs()
}

#[test]
fn each_name_is_listed_once_and_video_first() {
    let (avc, aac) = ((0x1B, &[][..]), (0x0F, &[][..]));
    let (both, two) = ([video(0), sound(1)].concat(), [video(0), sound(1), sound(2)].concat());
    for (name, streams, packets, expected) in [
        ("both", &[avc, aac][..], &both, Some("avc1.4D401F,mp4a.40.2")),
        ("sound first", &[aac, avc], &[sound(0), video(1)].concat(), Some("avc1.4D401F,mp4a.40.2")),
        ("twice the same", &[avc, aac, aac], &two, Some("avc1.4D401F,mp4a.40.2")),
        ("AC-3 too", &[avc, aac, (0x81, &[])], &both, Some("avc1.4D401F,mp4a.40.2,ac-3")),
        ("E-AC-3 of DVB", &[avc, (0x06, &[0x7A, 0])], &both, Some("avc1.4D401F,ec-3")),
        ("sound alone", &[aac], &sound(0), Some("mp4a.40.2")),
        ("video alone", &[avc], &video(0), Some("avc1.4D401F")),
        (
            "captions",
            &[avc, (0x06, &[0x59, 0]), (0x05, &[]), (0x86, &[]), (0x15, &[])],
            &both,
            Some("avc1.4D401F"),
        ),
    ] {
        assert_eq!(codecs(streams, packets).as_deref(), expected, "{name}");
    }
}

#[test]
fn half_a_list_is_none() {
    let (avc, aac) = ((0x1B, &[][..]), (0x0F, &[][..]));
    let both = [video(0), sound(1)].concat();
    for (name, streams, packets) in [
        ("no packets", &[avc, aac][..], &vec![]),
        ("no video yet", &[avc, aac], &sound(1)),
        ("no sound yet", &[avc, aac], &video(0)),
        ("one of two not yet", &[avc, aac, aac], &both),
        ("another coding", &[(0x24, &[]), aac], &both),
        ("DTS", &[avc, (0x82, &[])], &both),
        ("Opus", &[avc, (0x06, &[0x05, 4, b'O', b'p', b'u', b's'])], &both),
        ("AC-4", &[avc, (0x06, &[0x7F, 1, 0x15])], &both),
        ("AV1", &[avc, (0x06, &[0x05, 4, b'A', b'V', b'0', b'1'])], &both),
        ("VVC", &[(0x33, &[]), aac], &both),
        ("a second video", &[avc, aac, avc], &[both.clone(), video(2)].concat()),
        ("nothing to play", &[(0x06, &[]), (0x05, &[])], &both),
        ("no streams", &[], &both),
    ] {
        assert_eq!(codecs(streams, packets), None, "{name}");
    }
}

#[test]
fn what_tells_may_come_late_and_in_pieces() {
    let streams = [(0x1B, &[][..])];
    let expected = Formats::of(&psi(&streams), &video(0));
    let told = expected.video.clone().unwrap();
    assert_eq!((told.width, told.height, told.frame_rate), (640, 480, None));
    let other = pes(0, 0xE0, &[0, 0, 1, 0x41, 0x9A, 0, 0, 1, 0x67, 0x4D]);
    let late = [other.repeat(2000), video(0)].concat();
    // The set across two packets.
    let padding = |len| [&[0, 0, 1, 6][..], &vec![0x55; len], &[0, 0, 0, 1], &SPS, &[0, 0, 1, 0x65]].concat();
    let split = |len| pes(0, 0xE0, &padding(len));
    for (name, packets) in [("late", late), ("split", split(158)), ("in its start code", split(162))] {
        assert_eq!(Formats::of(&psi(&streams), &packets), expected, "{name}");
    }
    let unended = pes(0, 0xE0, &[&[0, 0, 1][..], &SPS].concat());
    assert_eq!(Formats::of(&psi(&streams), &unended), expected, "nothing behind it");
    let too_late = [other.repeat(LOOK_MAX / PACKET_LEN + 1), video(0)].concat();
    assert_eq!(Formats::of(&psi(&streams), &too_late).video, None);
}

#[test]
fn what_is_scrambled_or_in_error_is_not_read() {
    let streams = [(0x1B, &[][..]), (0x0F, &[]), (0x81, &[])];
    for (name, at, bits) in [("scrambled", 3, 0x80), ("in error", 1, 0x80), ("no sync", 0, 0x80)] {
        let mut packets = [video(0), sound(1)].concat();
        packets.as_chunks_mut::<PACKET_LEN>().0.iter_mut().for_each(|packet| packet[at] |= bits);
        let formats = Formats::of(&psi(&streams), &packets);
        let names: Vec<_> = formats.audio.iter().map(|audio| audio.codec).collect();
        assert_eq!((formats.video, names), (None, vec![None, Some("ac-3")]), "{name}");
    }
}

#[test]
fn rates_are_rounded_to_thousandths() {
    for (frames, seconds, expected) in [
        (25, 1, Some("25.000")),
        (30_000, 1001, Some("29.970")),
        (24_000, 1001, Some("23.976")),
        (60_000, 1001, Some("59.940")),
        (1, 1, Some("1.000")),
        (300, 1, Some("300.000")),
        (100, 3, Some("33.333")),
        (200, 3, Some("66.667")),
        (9994, 10_000, None),
        (3001, 10, None),
        (25, 0, None),
        (u64::from(u32::MAX), 1, None),
    ] {
        let rate = FrameRate::new(frames, seconds).map(|rate| rate.to_string());
        assert_eq!(rate.as_deref(), expected, "{frames} in {seconds}");
    }
}

proptest! {
    #[test]
    fn any_packets_can_be_looked_at(
        seed in prop::collection::vec((0u8..6, any::<bool>(), prop::collection::vec(any::<u8>(), 0..180)), 0..60),
    ) {
        let streams = [(0x24, &[][..]), (0x0F, &[]), (0x03, &[]), (0x11, &[]), (0x06, &[0x7A, 0]), (0x02, &[])];
        let mut packets = Vec::new();
        for (pid, is_start, bytes) in seed {
            packets.extend_from_slice(&[0x47, if is_start { 0x41 } else { 0x01 }, pid, 0x10]);
            packets.extend_from_slice(&bytes);
            packets.resize(packets.len().next_multiple_of(PACKET_LEN), 0);
        }
        let formats = Formats::of(&psi(&streams), &packets);
        prop_assert_eq!(formats.audio.len(), 4);
        prop_assert_eq!(formats.codecs(), None);
    }

    #[test]
    fn any_stream_can_be_looked_at(
        video in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..600),
        start in prop::sample::select(vec![&[0x67, 100][..], &[0x67, 77], &[0x42, 1, 1, 1], &[0xB3]]),
        sound in prop::collection::vec(prop_oneof![Just(0xFFu8), any::<u8>()], 0..600),
    ) {
        for video_type in [0x02, 0x1B, 0x24] {
            for sound_type in [0x03, 0x0F, 0x11] {
                let stream = [&[0, 0, 1][..], start, &video].concat();
                let packets = [pes(0, 0xE0, &stream), pes(1, 0xC0, &sound)].concat();
                let formats = Formats::of(&psi(&[(video_type, &[]), (sound_type, &[])]), &packets);
                if let Some(video) = &formats.video {
                    prop_assert!(video.width > 0 && video.height > 0);
                }
            }
        }
    }
}
