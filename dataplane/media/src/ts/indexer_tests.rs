//! The promises of the index, each against streams made by hand.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::ts::{Discontinuity, NULL_PACKET, section::crc32};

const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
const H264: (u8, u16) = (0x1B, VIDEO);
const AAC: (u8, u16) = (0x0F, AUDIO);

const IDR: [u8; 8] = [0, 0, 0, 1, 0x65, 0x88, 0x84, 0];
const P_SLICE: [u8; 8] = [0, 0, 0, 1, 0x41, 0x9A, 0, 0];

/// Writes packets with right counters.
#[derive(Default)]
struct Mux {
    out: Vec<u8>,
    counters: HashMap<u16, u8>,
}

impl Mux {
    /// Packets of `pid` that carry `data`, the first with `flags` and `pcr` in
    /// its adaptation field.
    fn unit(&mut self, pid: u16, flags: u8, pcr: Option<u64>, data: &[u8]) -> u64 {
        let offset = self.out.len() as u64;
        let (mut rest, mut is_start) = (data, true);
        while is_start || !rest.is_empty() {
            let mut field = Vec::new();
            if is_start && (flags != 0 || pcr.is_some()) {
                field.push(flags | if pcr.is_some() { 0x10 } else { 0 });
                field.extend(pcr.iter().flat_map(|&ticks| Pcr::from_ticks(ticks).to_bytes()));
            }
            let room = 184 - if field.is_empty() { 0 } else { 1 + field.len() };
            let (now, later) = rest.split_at(rest.len().min(room));
            if now.len() < room {
                let length = 183 - now.len();
                field.resize(length.max(field.len()), 0xFF);
                if flags == 0 && pcr.is_none() && length > 0 {
                    field[0] = 0;
                }
            }
            let counter = self.counters.entry(pid).and_modify(|c| *c = (*c + 1) % 16).or_default();
            let has_field = now.len() < 184;
            let [hi, lo] = pid.to_be_bytes();
            let start = if is_start { 0x40 } else { 0 };
            self.out.extend([0x47, hi | start, lo, if has_field { 0x30 } else { 0x10 } | *counter]);
            if has_field {
                self.out.push(u8::try_from(field.len()).unwrap());
            }
            self.out.extend(field.iter().chain(now));
            (rest, is_start) = (later, false);
        }
        assert_eq!(self.out.len() % PACKET_LEN, 0);
        offset
    }

    fn pes(&mut self, pid: u16, flags: u8, pcr: Option<u64>, stream: &[u8]) -> u64 {
        let id = if pid == VIDEO { 0xE0 } else { 0xC0 };
        self.unit(pid, flags, pcr, &[&[0, 0, 1, id, 0, 0, 0x80, 0, 0], stream].concat())
    }

    fn sections(&mut self, pid: u16, sections: &[Vec<u8>]) -> u64 {
        let mut data = [&[0], sections.concat().as_slice()].concat();
        data.resize(data.len().next_multiple_of(184), 0xFF);
        self.unit(pid, 0, None, &data)
    }

    fn pat(&mut self, version: u8, programs: &[(u16, u16)]) -> u64 {
        self.sections(0, &[pat(version, (0, 0), programs)])
    }

    fn psi(&mut self, streams: &[(u8, u16)]) {
        self.pat(0, &[(1, PMT)]);
        self.sections(PMT, &[pmt(0, 1, VIDEO, streams)]);
    }
}

fn sealed(mut section: Vec<u8>) -> Vec<u8> {
    let [hi, lo] = u16::try_from(section.len() + 1).unwrap().to_be_bytes();
    section[1..3].copy_from_slice(&[0xB0 | hi, lo]);
    let crc = crc32(&section).to_be_bytes();
    section.extend(crc);
    section
}

/// ISO/IEC 13818-1 §2.4.4.3.
fn pat(version: u8, (number, last): (u8, u8), programs: &[(u16, u16)]) -> Vec<u8> {
    let mut section = vec![0, 0, 0, 0, 1, 0xC1 | version << 1, number, last];
    for (program, pid) in programs {
        section.extend([program.to_be_bytes(), (0xE000 | pid).to_be_bytes()].concat());
    }
    sealed(section)
}

/// §2.4.4.8.
fn pmt(version: u8, program: u16, pcr_pid: u16, streams: &[(u8, u16)]) -> Vec<u8> {
    let mut section = vec![2, 0, 0];
    section.extend(program.to_be_bytes());
    section.extend([0xC1 | version << 1, 0, 0]);
    section.extend([(0xE000 | pcr_pid).to_be_bytes(), [0xF0, 0]].concat());
    for (stream_type, pid) in streams {
        section.push(*stream_type);
        section.extend([(0xE000 | pid).to_be_bytes(), [0xF0, 0]].concat());
    }
    sealed(section)
}

fn index(stream: &[u8]) -> (Vec<Event>, IndexStats) {
    let (mut indexer, mut events) = (Indexer::new(), Vec::new());
    indexer.scan(stream, &mut events);
    (events, indexer.stats())
}

fn psis(events: &[Event]) -> Vec<(u64, Arc<Psi>)> {
    let psi =
        |e: &Event| if let Event::Psi { offset, psi } = e { Some((*offset, psi.clone())) } else { None };
    events.iter().filter_map(psi).collect()
}

fn joins(events: &[Event]) -> Vec<JoinPoint> {
    let join = |e: &Event| if let Event::Join(point) = e { Some(point.clone()) } else { None };
    events.iter().filter_map(join).collect()
}

fn join_offsets(mux: &Mux) -> Vec<u64> {
    joins(&index(&mux.out).0).iter().map(|j| j.offset).collect()
}

#[test]
fn psi_is_announced_when_complete_and_when_it_changes() {
    let mut mux = Mux::default();
    mux.pat(0, &[(0, 0x10), (1, PMT), (2, PMT), (3, 0x1001)]);
    mux.sections(PMT, &[pmt(0, 1, 0x300, &[(0x0F, 0x300)]), pmt(0, 2, VIDEO, &[H264, AAC])]);
    let complete = mux.sections(0x1001, &[pmt(0, 3, 0x1FFF, &[(0x02, 0x200)])]);
    mux.psi(&[]); // The PAT alone changes; program 1 is known: complete at once.
    let vanished = complete + 188;
    let moved = mux.sections(PMT, &[pmt(1, 1, 0x110, &[(0x24, 0x110)])]);
    mux.sections(PMT, &[pmt(1, 1, 0x110, &[(0x24, 0x110)])]);
    let (events, stats) = index(&mux.out);
    let got = psis(&events);
    let summary: Vec<_> =
        got.iter().map(|(at, p)| (*at, p.programs().len(), p.video().map(|v| v.0.get()))).collect();
    let emptied = vanished + 188;
    assert_eq!(
        summary,
        [(complete, 3, Some(VIDEO)), (vanished, 1, None), (emptied, 1, None), (moved, 1, Some(0x110))],
        "several sections in a packet, video of the second program, then one program"
    );
    let (_, psi) = &got[0];
    assert_eq!(
        (psi.main().number(), psi.pcr_pid(), psi.audio()),
        (2, Pid::new(VIDEO), vec![Pid::new(AUDIO).unwrap()])
    );
    assert_eq!(psi.programs()[2].pcr_pid(), None);
    assert_eq!((stats.psi_changes, stats.bad_sections, stats.continuity_errors), (4, 0, 0));
}

#[test]
fn sections_that_are_wrong_or_not_yet_in_force_change_nothing() {
    let good = pmt(0, 1, VIDEO, &[H264]);
    let mut bad_crc = good.clone();
    bad_crc[9] ^= 1;
    let mut next = pmt(1, 1, VIDEO, &[AAC]);
    next.truncate(next.len() - 4);
    next[5] &= !1;
    let next = sealed(next);
    for (name, section, bad) in [
        ("wrong CRC", bad_crc, 1),
        ("not yet current", next, 0),
        ("another program's", pmt(1, 9, VIDEO, &[AAC]), 0),
        ("another table", [&[0xC0][..], &good[1..]].concat(), 0),
        ("shorter than a header", vec![2, 0xB0, 2, 0, 0], 1),
    ] {
        let mut mux = Mux::default();
        mux.psi(&[H264]);
        mux.sections(PMT, &[section]);
        mux.sections(PMT, std::slice::from_ref(&good));
        let (events, stats) = index(&mux.out);
        assert_eq!((psis(&events).len(), stats.bad_sections), (1, bad), "{name}");
    }
}

#[test]
fn a_pat_of_two_sections_counts_when_both_are_there() {
    let mut mux = Mux::default();
    mux.sections(0, &[pat(0, (0, 1), &[(1, PMT)])]);
    mux.sections(PMT, &[pmt(0, 1, VIDEO, &[H264])]);
    assert_eq!(psis(&index(&mux.out).0).len(), 0);
    mux.sections(0, &[pat(0, (1, 1), &[(2, 0x1001)])]);
    mux.sections(0x1001, &[pmt(0, 2, 0x200, &[(0x1B, 0x200)])]);
    // Program 1's PMT came before the PAT that names it, so it is awaited.
    mux.sections(PMT, &[pmt(0, 1, VIDEO, &[H264])]);
    let (events, _) = index(&mux.out);
    let (_, psi) = psis(&events).pop().unwrap();
    assert_eq!((psi.programs().len(), psi.pat_sections().count()), (2, 2));
}

#[test]
fn a_missing_pmt_holds_the_others_back_for_a_second() {
    let mut mux = Mux::default();
    for tenth in 0..12 {
        mux.pat(0, &[(1, PMT), (2, 0x1001)]);
        mux.sections(PMT, &[pmt(0, 1, VIDEO, &[H264])]);
        mux.pes(VIDEO, 0, Some(tenth * Pcr::HZ / 10), &P_SLICE);
    }
    let got = psis(&index(&mux.out).0);
    // The clock starts with the first PCR; after the eleventh the next table tells.
    assert_eq!(got.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [11 * 3 * 188]);
    let with_late = mux.sections(0x1001, &[pmt(0, 2, 0x200, &[(0x1B, 0x200)])]);
    assert_eq!(
        psis(&index(&mux.out).0).last().map(|(at, p)| (*at, p.programs().len())),
        Some((with_late, 2))
    );
}

#[test]
fn join_points_are_the_random_access_points_of_the_video() {
    const RAI: u8 = 0x40;
    let split = |zeros: usize| [vec![0, 0, 1, 9, 0xF0], vec![0xFF; 166 + zeros], IDR.to_vec()].concat();
    for (name, pid, flags, stream, is_join) in [
        ("an IDR picture", VIDEO, 0, IDR.to_vec(), true),
        ("a P slice", VIDEO, 0, P_SLICE.to_vec(), false),
        ("the indicator on video", VIDEO, RAI, P_SLICE.to_vec(), true),
        ("the indicator on sound", AUDIO, RAI, IDR.to_vec(), false),
        ("an IDR start code on sound", AUDIO, 0, IDR.to_vec(), false),
        ("start code split after one byte", VIDEO, 0, split(3), true),
        ("start code split after two bytes", VIDEO, 0, split(2), true),
        ("start code split after three bytes", VIDEO, 0, split(1), true),
        ("start code split before the type", VIDEO, 0, split(0), true),
        ("an IDR picture 20 KiB in", VIDEO, 0, [vec![0xFF; 20_000], IDR.to_vec()].concat(), true),
        ("an IDR picture 40 KiB in", VIDEO, 0, [vec![0xFF; 40_000], IDR.to_vec()].concat(), false),
    ] {
        let mut mux = Mux::default();
        mux.pes(VIDEO, RAI, Some(5), &IDR); // Before any PSI: no point.
        mux.psi(&[H264, AAC]);
        mux.pes(VIDEO, 0, Some(1000), &P_SLICE);
        let at = mux.pes(pid, flags, None, &stream);
        mux.pes(VIDEO, 0, Some(2000), &P_SLICE);
        let got = joins(&index(&mux.out).0);
        assert_eq!(
            got.iter().map(|j| j.offset).collect::<Vec<_>>(),
            if is_join { vec![at] } else { vec![] },
            "{name}"
        );
        if let Some(point) = got.first() {
            let expected = [(0, 0), (PMT, 0), (VIDEO, 1)].map(|(pid, c)| (Pid::from_low_bits(pid), c));
            assert_eq!(point.pcr, Some(Pcr::from_ticks(1000)), "{name}");
            assert_eq!(point.continuity.iter().collect::<Vec<_>>(), expected, "{name}");
        }
    }
}

#[test]
fn a_point_takes_the_pcr_of_its_own_packet_and_pcrs_of_other_pids_are_ignored() {
    let mut mux = Mux::default();
    mux.psi(&[H264, AAC]);
    mux.pes(AUDIO, 0, Some(99), &[1]);
    let at = mux.pes(VIDEO, 0x80, Some(700), &IDR);
    let (events, _) = index(&mux.out);
    let pcr = Pcr::from_ticks(700);
    assert_eq!(events[1], Event::Pcr { offset: at, pcr, discontinuity: true });
    assert_eq!((joins(&events)[0].pcr, events.len()), (Some(pcr), 3));
}

#[test]
fn an_access_unit_with_a_missing_packet_is_no_join_point() {
    let mut mux = Mux::default();
    mux.psi(&[H264]);
    let at = mux.pes(VIDEO, 0, None, &[vec![0xFF; 400], IDR.to_vec()].concat());
    mux.pes(VIDEO, 0, None, &P_SLICE);
    assert_eq!(join_offsets(&mux), [at]);
    mux.out.drain(3 * 188..4 * 188);
    let (events, stats) = index(&mux.out);
    assert_eq!((joins(&events).len(), stats.continuity_errors), (0, 1));
}

#[test]
fn a_duplicate_is_counted_and_makes_no_second_point() {
    let mut mux = Mux::default();
    mux.psi(&[H264]);
    let at = usize::try_from(mux.pes(VIDEO, 0, Some(3), &IDR)).unwrap();
    mux.out.extend_from_within(at..);
    let (events, stats) = index(&mux.out);
    assert_eq!(
        (joins(&events).len(), stats.duplicates, stats.continuity_errors, stats.join_points),
        (1, 1, 0, 1)
    );
}

#[test]
fn sound_alone_is_joined_twice_a_second() {
    for (name, has_pcr, expected) in [("by PCR", true, 20), ("by bytes", false, 2)] {
        let mut mux = Mux::default();
        mux.pat(0, &[(1, PMT)]);
        mux.sections(PMT, &[pmt(0, 1, AUDIO, &[AAC])]);
        for n in 0..400u64 {
            mux.pes(AUDIO, 0, has_pcr.then_some(n * Pcr::HZ / 40), &[0xFF; 900]);
        }
        assert_eq!(join_offsets(&mux).len(), expected, "{name}");
    }
}

#[test]
fn video_without_random_access_falls_back_and_returns() {
    let mut mux = Mux::default();
    mux.psi(&[H264]);
    let seconds = |mux: &mut Mux, from: u64, to: u64| {
        (from * 25..to * 25).for_each(|n| _ = mux.pes(VIDEO, 0, Some(n * Pcr::HZ / 25), &P_SLICE));
    };
    seconds(&mut mux, 0, 10);
    assert_eq!(join_offsets(&mux).len(), 0, "ten seconds are not over");
    seconds(&mut mux, 10, 13);
    let fallback = join_offsets(&mux).len();
    assert!((5..=6).contains(&fallback), "{fallback} points in three seconds");
    let at = mux.pes(VIDEO, 0, None, &IDR);
    seconds(&mut mux, 13, 60);
    assert_eq!(join_offsets(&mux).last(), Some(&at), "a true point ends the fallback");
    let (_, stats) = index(&mux.out);
    assert_eq!((stats.join_points, stats.fallback_join_points), (fallback as u64 + 1, fallback as u64));
}

#[test]
fn damaged_and_scrambled_packets_are_counted_and_not_read() {
    let mut mux = Mux::default();
    mux.psi(&[H264]);
    let at = usize::try_from(mux.pes(VIDEO, 0, None, &IDR)).unwrap();
    mux.out.extend(NULL_PACKET);
    for (name, byte, bit, count) in [
        ("transport error", 1, 0x80, (1, 0)),
        ("scrambled", 3, 0x80, (0, 1)),
        ("no sync byte", 0, 0x01, (1, 0)),
    ] {
        let mut stream = mux.out.clone();
        stream[at + byte] |= bit;
        if byte == 0 {
            stream[at] = 0;
        }
        let (events, stats) = index(&stream);
        assert_eq!((joins(&events).len(), stats.null_packets, stats.packets), (0, 1, 4), "{name}");
        assert_eq!((stats.transport_errors, stats.scrambled), count, "{name}");
    }
}

/// What was before, the preface and what follows the point make one legal
/// stream (§2.4.3.3, §2.4.3.5), and the preface brings the same PSI.
#[test]
fn a_preface_fits_between_what_was_and_what_follows() {
    let many: Vec<(u8, u16)> = (0..60).map(|n| (0x0F, 0x200 + n)).collect();
    let streams: Vec<(u8, u16)> = [H264, AAC].into_iter().chain(many).collect();
    let mut mux = Mux::default();
    for _ in 0..9 {
        mux.psi(&streams);
        mux.pes(AUDIO, 0, None, &[0xFF; 300]);
        mux.pes(VIDEO, 0, Some(4000), &IDR);
        mux.pes(VIDEO, 0, None, &P_SLICE);
    }
    let (events, stats) = index(&mux.out);
    assert_eq!(stats.continuity_errors, 0);
    let (_, psi) = psis(&events).pop().unwrap();
    let points = joins(&events);
    assert_eq!(points.len(), 9);
    let old = &mux.out[..usize::try_from(points[1].offset).unwrap()];
    let point = &points[7];
    let new = &mux.out[usize::try_from(point.offset).unwrap()..];
    for (discontinuity, before) in [(Discontinuity::None, &[][..]), (Discontinuity::Signalled, old)] {
        for preface in [psi.preface(&point.continuity, discontinuity), point.preface(&psi, discontinuity)] {
            let (events, stats) = index(&[before, &preface, new].concat());
            assert_eq!(stats.continuity_errors, 0, "{discontinuity:?}");
            assert_eq!(psis(&events).len(), 1, "{discontinuity:?}");
            let (events, _) = index(&preface);
            assert_eq!(psis(&events)[0].1, psi, "{discontinuity:?}");
            let signals = preface.as_chunks().0.iter().filter(|p| Packet::new(p).discontinuity()).count();
            // PAT and PMT once each, then 62 streams.
            assert_eq!(signals, if discontinuity == Discontinuity::None { 0 } else { 64 });
        }
    }
    let preface = point.preface(&psi, Discontinuity::Signalled);
    let pcrs = preface.as_chunks().0.iter().filter_map(|p| Packet::new(p).pcr());
    assert_eq!(pcrs.collect::<Vec<_>>(), [Pcr::from_ticks(4000)]);
    let (_, unsignalled) = index(&[old, new].concat());
    assert!(unsignalled.continuity_errors > 0, "the jump itself is an error without a preface");
}

/// Packets that look like tables and pictures more often than chance.
fn hostile_packets() -> impl Strategy<Value = Vec<u8>> {
    let packet = (0usize..7, any::<[u8; 24]>(), any::<u8>()).prop_map(|(kind, noise, flips)| {
        let mut mux = Mux::default();
        match kind {
            0 => mux.psi(&[H264, AAC]),
            1 => mux.psi(&[(noise[0], VIDEO)]),
            2 => _ = mux.pes(VIDEO, noise[0] & 0xC0, Some(u64::from(noise[1]) * Pcr::HZ), &IDR),
            3 => _ = mux.pes(VIDEO, 0, None, &[&[0xFF; 300][..], &noise].concat()),
            4 => _ = mux.pat(noise[0] & 0x1F, &[(1, 0x1000 | u16::from(noise[1])), (2, PMT)]),
            _ => _ = mux.unit(u16::from(noise[0] & 1) * PMT, noise[1], None, &noise),
        }
        let end = mux.out.len();
        if flips < 128 {
            mux.out[usize::from(flips) % end] ^= noise[23];
        }
        mux.out
    });
    prop::collection::vec(packet, 0..40).prop_map(|packets| packets.concat())
}

proptest! {
    #[test]
    fn how_the_packets_are_split_into_calls_changes_nothing(
        stream in hostile_packets(),
        sizes in prop::collection::vec(1usize..20, 1..10),
    ) {
        let (expected, stats) = index(&stream);
        let (mut indexer, mut events, mut rest) = (Indexer::new(), Vec::new(), &stream[..]);
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(size * PACKET_LEN));
            indexer.scan(now, &mut events);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&events, &expected);
        prop_assert_eq!(indexer.stats(), stats);
        for point in joins(&events) {
            prop_assert_eq!(point.offset % PACKET_LEN as u64, 0);
            prop_assert!(point.offset < stream.len() as u64);
        }
    }

    #[test]
    fn arbitrary_bytes_are_scanned_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (_, stats) = index(&bytes);
        prop_assert_eq!(stats.packets, (bytes.len() / PACKET_LEN) as u64);
    }
}
