//! Bytes of segments, by themselves and one behind the other.

use std::time::Duration;

use millrace_emulator::signed::{Broadcast, ClockJump, Edit, PACKET_BYTES as PACKET, Verifier};

use crate::{
    assert_only,
    support::{
        hls::{
            Complaint,
            segment::{self, Claim},
            stream::{Chain, compare, joined, prove},
        },
        mutate::{Random, mutated},
    },
};

const RATE: u32 = 200_000;
/// Packets in a group of pictures at that rate.
const GROUP: usize = 250;
const GROUP_TIME: Duration = Duration::from_millis(1880);

pub(crate) const CLAIM: Claim =
    Claim { independent: true, duration: Some(GROUP_TIME), tolerance: Duration::from_millis(50) };

/// So many groups of a broadcast, from its beginning.
fn groups(edit: Edit, count: usize) -> Vec<Vec<u8>> {
    let broadcast = Broadcast::new(7, RATE).edited(edit);
    let group = |n: usize| {
        let mut bytes = Vec::new();
        for n in n * GROUP..(n + 1) * GROUP {
            let mut packet = [0; PACKET];
            broadcast.write(u64::try_from(n).unwrap(), &mut packet);
            bytes.extend(packet);
        }
        bytes
    };
    (0..count).map(group).collect()
}

fn slices(segments: &[Vec<u8>]) -> Vec<&[u8]> {
    segments.iter().map(Vec::as_slice).collect()
}

/// The same segments cut before their first picture, with copies of the tables
/// put before each.
fn with_copied_tables(groups: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let whole = groups.concat();
    let cut = |n: usize| {
        let from = (n * GROUP + 2) * PACKET;
        let own = &whole[from..(from + GROUP * PACKET).min(whole.len())];
        // The last ones before it, which for the first are its own.
        let pair = if n == 0 { 0 } else { n * GROUP };
        [&whole[pair * PACKET..(pair + 2) * PACKET], own].concat()
    };
    (0..groups.len()).map(cut).collect()
}

/// The first segment, edited packet by packet.
fn edited(edit: impl Fn(&mut Vec<[u8; PACKET]>)) -> Vec<u8> {
    let mut packets = groups(Edit::None, 1)[0].as_chunks::<PACKET>().0.to_vec();
    edit(&mut packets);
    packets.concat()
}

#[test]
fn a_segment_is_read_as_it_was_made() {
    let segment = &groups(Edit::None, 1)[0];
    let (facts, complaints) = segment::check(segment, &CLAIM);
    assert_only("good", &complaints, "");
    assert_eq!((facts.packets, facts.tables, facts.first), (GROUP, 2, Some(45_000 + 1353)));
    let streams: Vec<_> = facts.streams.iter().map(|s| (s.kind, s.pid)).collect();
    assert_eq!(streams, [(0x1b, 0x100), (0x0f, 0x101)]);
    assert!(facts.duration.unwrap().abs_diff(GROUP_TIME) < Duration::from_millis(5), "{facts:?}");
}

#[test]
fn every_fault_of_a_segment_is_found() {
    let good = groups(Edit::None, 1).remove(0);
    for (name, bytes, rule) in [
        ("nothing", Vec::new(), "segment-length"),
        ("a byte short", good[..good.len() - 1].to_vec(), "segment-length"),
        ("a byte late", good[1..].to_vec(), "segment-length"),
        ("no sync byte", edited(|p| p[100][0] = 0x48), "segment-sync"),
        ("PMT before PAT", edited(|p| p.swap(0, 1)), "segment-pat"),
        ("a null packet first", edited(|p| p.insert(0, [0xff; PACKET].map(|b| b & 0x5f))), "segment-sync"),
        ("no PMT at the beginning", edited(|p| drop(p.drain(1..=1))), "segment-pmt"),
        ("a damaged PAT", edited(|p| p[0][10] ^= 1), "segment-psi"),
        ("a damaged PMT", edited(|p| p[1][10] ^= 1), "segment-psi"),
        ("the first picture lost its beginning", edited(|p| drop(p.drain(2..=2))), "segment-random-access"),
        (
            "no IDR picture first",
            edited(|p| {
                p[2][5] = 0x10;
                p[2][74] = 0x41;
            }),
            "segment-random-access",
        ),
        ("parameters missing", edited(|p| p[2][36] = 0x66), "segment-random-access"),
        ("no PES packet", edited(|p| p[2][14] = 2), "segment-random-access"),
        ("half of it", good[..GROUP / 2 * PACKET].to_vec(), "segment-duration"),
        ("a time that jumps", edited(|p| p[202][21] |= 0x0e), "segment-duration"),
    ] {
        assert_only(name, &segment::check(&bytes, &CLAIM).1, rule);
    }
    let dependent = edited(|p| drop(p.drain(2..=2)));
    let claim = Claim { independent: false, ..CLAIM };
    assert_only("independence is not claimed", &segment::check(&dependent, &claim).1, "");
    let measured = Claim { duration: None, ..CLAIM };
    assert_only("no duration is claimed", &segment::check(&good[..GROUP / 2 * PACKET], &measured).1, "");
}

/// The first segment with other pictures: their stream type, and the first bytes of one.
fn of_kind(kind: u8, picture: &[u8], is_indicated: bool) -> Vec<u8> {
    let with_checksum = |packet: &mut [u8; PACKET]| {
        packet[17] = kind;
        let crc = packet[5..27].iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
                if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
            })
        });
        packet[27..31].copy_from_slice(&crc.to_be_bytes());
    };
    edited(|packets| {
        packets.iter_mut().filter(|p| p[1] & 0x1f == 0x10).for_each(with_checksum);
        packets[2][26..].fill(0xaa);
        packets[2][26..26 + picture.len()].copy_from_slice(picture);
        packets[2][5] = if is_indicated { 0x50 } else { 0x10 };
    })
}

#[test]
fn random_access_points_are_known_in_every_codec() {
    let sps = [0, 0, 1, 0x67, 0x42];
    let hevc = [0, 0, 1, 0x46, 1, 0, 0, 1, 0x42, 1];
    for (name, kind, picture, is_indicated, is_one) in [
        ("H.264, IDR", 0x1b, [&sps[..], &[0, 0, 1, 0x65, 0x88]].concat(), false, true),
        ("H.264, I slice of type 7, told", 0x1b, [&sps[..], &[0, 0, 1, 0x41, 0x88]].concat(), true, true),
        ("H.264, I slice of type 2, told", 0x1b, [&sps[..], &[0, 0, 1, 0x41, 0xb0]].concat(), true, true),
        ("H.264, I slice, not told", 0x1b, [&sps[..], &[0, 0, 1, 0x41, 0x88]].concat(), false, false),
        ("H.264, P slice, told", 0x1b, [&sps[..], &[0, 0, 1, 0x41, 0x9a]].concat(), true, false),
        ("H.264, nothing", 0x1b, sps.to_vec(), true, false),
        ("H.265, IDR", 0x24, [&hevc[..], &[0, 0, 1, 0x26, 1]].concat(), false, true),
        ("H.265, CRA", 0x24, [&hevc[..], &[0, 0, 1, 0x2a, 1]].concat(), false, true),
        ("H.265, trailing", 0x24, [&hevc[..], &[0, 0, 1, 0x02, 1]].concat(), true, false),
        ("H.265, no parameters", 0x24, vec![0, 0, 1, 0x26, 1], true, false),
        ("MPEG-2, I", 0x02, vec![0, 0, 1, 0xb3, 0, 0, 0, 1, 0, 0, 0x08], false, true),
        ("MPEG-2, I, told", 0x02, vec![0, 0, 1, 0, 0, 0x08], true, true),
        ("MPEG-2, I, neither", 0x02, vec![0, 0, 1, 0, 0, 0x08], false, false),
        ("MPEG-2, P", 0x02, vec![0, 0, 1, 0xb3, 0, 0, 0, 1, 0, 0, 0x10], true, false),
        ("MPEG-4, told", 0x10, vec![0, 0, 1, 0xb6], true, true),
        ("MPEG-4, not told", 0x10, vec![0, 0, 1, 0xb6], false, false),
        ("sound alone", 0x0f, vec![], false, true),
    ] {
        let rule = if is_one { "" } else { "segment-random-access" };
        assert_only(name, &segment::check(&of_kind(kind, &picture, is_indicated), &CLAIM).1, rule);
    }
}

/// What is said of segments one behind the other.
fn chained(segments: &[Vec<u8>], discontinuity: Option<usize>) -> Vec<Complaint> {
    let mut chain = Chain::default();
    let mut push = |n: usize, bytes: &Vec<u8>| {
        chain.push(u64::try_from(n).unwrap(), bytes, &CLAIM, discontinuity == Some(n)).1
    };
    segments.iter().enumerate().flat_map(|(n, bytes)| push(n, bytes)).collect()
}

#[test]
fn segments_one_behind_the_other_are_one_stream() {
    let good = groups(Edit::None, 4);
    let copied = with_copied_tables(&good);
    for (name, segments) in [("cut at tables", &good), ("tables put before", &copied)] {
        let complaints = chained(&segments[..3], None);
        assert_only(name, &complaints, "");
        let (report, complaints) = prove(&slices(&segments[..3]), Verifier::new(7, RATE));
        assert_only(name, &complaints, "");
        assert_eq!(report.lost, 0, "{name}");
        let place = compare(&slices(segments), &good.concat());
        assert_eq!(place, Ok(2), "{name}: behind its tables");
    }
    assert_eq!(joined(&slices(&good)), good.concat());
    assert_eq!(joined(&slices(&copied)), good.concat(), "what was put before is taken away");
    assert_eq!(compare(&slices(&good[2..]), &good.concat()), Ok(2 * GROUP + 2));
}

#[test]
fn every_fault_between_segments_is_found() {
    let good = groups(Edit::None, 4);
    let without = |segment: usize, packet: usize| {
        let mut segments = good.clone();
        segments[segment].drain(packet * PACKET..(packet + 1) * PACKET);
        segments
    };
    let repeated = |times: usize| {
        let mut segments = good.clone();
        let packet = segments[1][50 * PACKET..51 * PACKET].repeat(times);
        segments[1].splice(51 * PACKET..51 * PACKET, packet);
        segments
    };
    let skipped = [&good[..1], &good[2..]].concat();
    let mut counters = with_copied_tables(&good)[..3].to_vec();
    counters[2][3] ^= 2;
    let every = GROUP_TIME;
    let jumped = Edit::ClockJump { to: ClockJump::Forward, signalled: false, every };
    let wrapped = Edit::ClockJump { to: ClockJump::Wrap, signalled: false, every: 40 * every };
    for (name, segments, discontinuity, rule) in [
        ("a packet lost", without(1, 50), None, "continuity"),
        ("the last packet lost", without(1, GROUP - 1), None, "continuity"),
        ("a packet twice", repeated(1), None, ""),
        ("a packet thrice", repeated(2), None, "continuity"),
        ("a discontinuity", skipped.clone(), Some(1), ""),
        ("tables with counters of their own", counters, None, "continuity"),
        ("a clock that jumps", groups(jumped, 3), None, "timeline"),
        ("a clock that jumps, told", groups(jumped, 2), Some(1), ""),
        ("a clock that wraps", groups(wrapped, 40), None, ""),
    ] {
        assert_only(name, &chained(&segments, discontinuity), rule);
    }
    let untold = chained(&skipped, None);
    let rules: Vec<_> = untold.iter().map(|c| c.rule).collect();
    assert_eq!(rules, ["continuity", "timeline"], "a discontinuity that is not told");
    assert_eq!(chained(&without(2, 77), None)[0].text, "1 of them, first PID 256 in packet 78 of segment 2");
}

/// The same segments with tables at their beginnings only, numbered by `counter`.
fn with_tables_at_first(groups: &[Vec<u8>], counter: impl Fn(usize) -> usize) -> Vec<Vec<u8>> {
    let of_one = |(n, group): (usize, &Vec<u8>)| {
        let mut packets = group.as_chunks::<PACKET>().0.to_vec();
        let (tables, rest) = packets.split_at_mut(2);
        tables.iter_mut().for_each(|p| p[3] = 0x10 | u8::try_from(counter(n) % 16).unwrap());
        let rest = rest.iter().filter(|p| matches!(p[1] & 0x1f, 1)).copied();
        tables.iter().copied().chain(rest).collect::<Vec<_>>().concat()
    };
    groups.iter().enumerate().map(of_one).collect()
}

#[test]
fn tables_may_repeat_a_counter_or_go_on() {
    let good = groups(Edit::None, 4);
    for (name, counter, rule) in [
        ("they go on", (|n| n) as fn(usize) -> usize, ""),
        ("across the wrap", |n| n + 14, ""),
        ("they repeat", |_| 3, ""),
        ("they jump", |n| 2 * n, "continuity"),
        ("they go back", |n| 8 - n, "continuity"),
    ] {
        assert_only(name, &chained(&with_tables_at_first(&good, counter), None), rule);
    }
}

#[test]
fn other_bytes_than_the_stream_s_are_found() {
    let good = groups(Edit::None, 4);
    let stream = good.concat();
    let edited = |edit: fn(&mut Vec<Vec<u8>>)| {
        let mut segments = good.clone();
        edit(&mut segments);
        segments
    };
    for (name, segments, text) in [
        ("a bit", edited(|s| s[1][30 * PACKET + 99] ^= 1), "packet 30 of segment 1"),
        ("a packet less", edited(|s| drop(s[2].drain(9 * PACKET..10 * PACKET))), "packet 9 of segment 2"),
        ("a packet more", edited(|s| s[2].extend_from_within(..PACKET)), "packet 250 of segment 2"),
        ("a segment less", edited(|s| drop(s.remove(1))), "packet 0 of segment 1"),
        ("two in the wrong order", edited(|s| s.swap(2, 3)), "packet 0 of segment 2"),
        ("another stream", edited(|s| s[0][5 * PACKET + 99] ^= 1), "not of this stream"),
        ("none", edited(|s| s.clear()), "no segments"),
    ] {
        let complaint = compare(&slices(&segments), &stream).unwrap_err();
        assert!(complaint.rule == "stream-bytes" && complaint.text.contains(text), "{name}: {complaint}");
    }
    for (name, segments) in [
        ("a bit", edited(|s| s[1][30 * PACKET + 99] ^= 1)),
        ("a packet less", edited(|s| drop(s[2].drain(9 * PACKET..10 * PACKET)))),
        ("two in the wrong order", edited(|s| s.swap(2, 3))),
        ("half a packet", edited(|s| s[3].truncate(9 * PACKET + 94))),
    ] {
        let (report, complaints) = prove(&slices(&segments), Verifier::new(7, RATE));
        // What is no packet is not put together: a segment's shape is another rule.
        assert_only(name, &complaints, if name == "half a packet" { "" } else { "signed" });
        assert!(report.packets > 700, "{name}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(2);
    let good = groups(Edit::None, 1).remove(0);
    let short = &good[..12 * PACKET];
    for _ in 0..2_000 {
        let mut bytes = mutated(&mut random, short);
        bytes.truncate(bytes.len() / PACKET * PACKET);
        for packet in bytes.as_chunks_mut::<PACKET>().0 {
            packet[0] = 0x47;
        }
        let segments = [short.to_vec(), bytes];
        chained(&segments, None);
        compare(&slices(&segments), &good).ok();
        prove(&slices(&segments), Verifier::new(7, RATE));
    }
}
