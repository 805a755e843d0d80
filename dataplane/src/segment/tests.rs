//! The chain as its readers see it.

use std::{sync::Arc, time::Duration};

use millrace_boundary::Monotonic;
use millrace_media::ts::{ContinuityChecker, NULL_PACKET, PACKET_LEN, Packet, Pcr, Verdict};

use super::{Candidate, ChainWriter, Cursor, Fit, Window, read_at};
use crate::hls::Mark;

/// CRC-32/MPEG-2, ISO/IEC 13818-1 Annex A.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |mut crc, &b| {
        crc ^= u32::from(b) << 24;
        for _ in 0..8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 };
        }
        crc
    })
}

/// A small stream: PAT, PMT with a version, then video packets of which every
/// `group`th is a random access point, 40 ms of PCR apart.
pub(crate) struct Maker {
    counters: [u8; 3],
    clock: u64,
    packets: u64,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self { counters: [0; 3], clock: 0, packets: 0 }
    }

    fn section(&mut self, which: usize, pid: u16, mut section: Vec<u8>) -> [u8; PACKET_LEN] {
        section.extend(crc(&section).to_be_bytes());
        let mut packet = [0xff; PACKET_LEN];
        let [high, low] = pid.to_be_bytes();
        packet[..5].copy_from_slice(&[0x47, 0x40 | high, low, 0x10 | self.counters[which], 0]);
        packet[5..5 + section.len()].copy_from_slice(&section);
        self.counters[which] = (self.counters[which] + 1) & 15;
        packet
    }

    pub(crate) fn psi(&mut self, version: u8) -> Vec<u8> {
        let v = 0xc1 | (version & 31) << 1;
        let pat = vec![0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0x00];
        let pmt = vec![0x02, 0xb0, 18, 0, 1, v, 0, 0, 0xe1, 0x01, 0xf0, 0, 0x1b, 0xe1, 0x01, 0xf0, 0];
        let mut out = self.section(0, 0, pat).to_vec();
        out.extend(self.section(1, 0x100, pmt));
        out
    }

    /// The clock goes on from elsewhere.
    pub(crate) fn set_clock(&mut self, ticks: u64) {
        self.clock = ticks;
    }

    fn video(&mut self, random_access: bool) -> [u8; PACKET_LEN] {
        let mut packet = [self.packets.to_le_bytes()[0]; PACKET_LEN];
        let flags = if random_access { 0x50 } else { 0x10 };
        packet[..6].copy_from_slice(&[0x47, 0x41, 0x01, 0x30 | self.counters[2], 7, flags]);
        packet[6..12].copy_from_slice(&Pcr::new(self.clock / 300, 0).unwrap().to_bytes());
        packet[12..21].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0]);
        self.counters[2] = (self.counters[2] + 1) & 15;
        self.clock += 27_000_000 / 25;
        self.packets += 1;
        packet
    }

    pub(crate) fn run(&mut self, packets: usize, group: usize) -> Vec<u8> {
        (0..packets).flat_map(|i| self.video(i % group == 0)).collect()
    }
}

fn chain() -> (ChainWriter, Arc<Window>) {
    let window = Arc::<Window>::default();
    (ChainWriter::new(Arc::clone(&window), now(0)).unwrap(), window)
}

fn now(millis: u64) -> Monotonic {
    Monotonic(Duration::from_secs(1_000) + Duration::from_millis(millis))
}

fn feed(chain: &mut ChainWriter, bytes: &[u8], at: Monotonic) {
    for piece in bytes.chunks(347 * PACKET_LEN) {
        chain.append(piece, at).unwrap();
    }
}

/// All that a viewer at `cursor` can read now.
pub(crate) fn read(cursor: &mut Cursor) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let n = cursor.available();
        if n == 0 {
            return out;
        }
        let mut piece = vec![0; n];
        let at = cursor.offset as u64;
        read_at(cursor.segment.memfd(), &mut piece, at).unwrap();
        cursor.offset += n;
        out.extend(piece);
    }
}

#[test]
fn what_was_written_is_read_across_segments_from_the_join_point_on() {
    let mut maker = Maker::new();
    let mut bytes = maker.psi(0);
    bytes.extend(maker.run(20_000, 50));
    let (mut chain, window) = chain();
    let first = 2_000 * PACKET_LEN;
    feed(&mut chain, &bytes[..first], now(0));
    // Nothing is three seconds behind playout yet, so the oldest point serves.
    let (mut cursor, point) = window.join(Duration::from_secs(3)).unwrap();
    let from = usize::try_from(point.offset).unwrap();
    let mut seen = read(&mut cursor);
    feed(&mut chain, &bytes[first..], now(10));
    seen.extend(read(&mut cursor));
    assert_eq!(seen.len(), bytes.len() - from);
    assert!(seen == bytes[from..], "the same bytes in the same order");
    assert!(cursor.segment.sequence() >= 3, "over several segments");
}

#[test]
fn a_viewer_joins_at_the_newest_point_that_is_far_enough_behind() {
    let mut maker = Maker::new();
    let (mut chain, window) = chain();
    assert!(window.join(Duration::from_secs(3)).is_none() && !window.has_join());
    feed(&mut chain, &maker.psi(0), now(0));
    // 20 s of stream, a random access point every 2 s; the head at 19.96 s.
    feed(&mut chain, &maker.run(500, 50), now(0));
    assert!(window.has_join());
    let start = 2 * PACKET_LEN as u64;
    for (prebuffer, at) in [(0, 18), (1, 18), (2, 16), (3, 16), (10, 8), (60, 0)] {
        let (_, point) = window.join(Duration::from_secs(prebuffer)).unwrap();
        let offset = start + at * 25 * PACKET_LEN as u64;
        assert_eq!(point.offset, offset, "{prebuffer} s behind the head");
    }
}

#[test]
fn far_ahead_of_real_time_a_viewer_joins_at_playout() {
    let mut maker = Maker::new();
    let (mut chain, window) = chain();
    feed(&mut chain, &maker.psi(0), now(0));
    feed(&mut chain, &maker.run(300 * 25, 50), now(0));
    window.set_playout(Duration::from_secs(100));
    let (_, point) = window.join(Duration::from_secs(3)).unwrap();
    assert_eq!((point.offset / PACKET_LEN as u64 - 2) / 25, 100);
    // Once playout has come near the head, that is live again.
    window.set_playout(Duration::from_secs(290));
    let (_, point) = window.join(Duration::from_secs(3)).unwrap();
    assert_eq!((point.offset / PACKET_LEN as u64 - 2) / 25, 296);
}

#[test]
fn what_lies_behind_is_let_go_and_who_was_there_is_told() {
    let mut maker = Maker::new();
    let (mut chain, window) = chain();
    feed(&mut chain, &maker.psi(0), now(0));
    feed(&mut chain, &maker.run(100 * 25, 50), now(0));
    let (cursor, _) = window.join(Duration::from_secs(200)).unwrap();
    for _ in 0..4 {
        feed(&mut chain, &maker.run(100 * 25, 50), now(0));
    }
    let head = chain.head();
    chain.trim(Duration::from_secs(20), Duration::from_secs(30), u64::MAX);
    assert!(!window.has_left(&cursor.segment), "within the window");
    chain.trim(Duration::from_secs(400), Duration::from_secs(30), u64::MAX);
    assert!(window.has_left(&cursor.segment), "left behind");
    let kept = chain.kept_bytes();
    // Over the limit, what lies behind playout goes, and nothing else.
    chain.trim(head, Duration::from_secs(1_000), 1);
    assert!(chain.kept_bytes() < kept);
    let (_, point) = window.join(Duration::ZERO).unwrap();
    assert!(point.offset > 0, "the segment being written stays");
}

#[test]
fn a_clock_that_trembles_tells_the_same_time_and_is_no_other_clock() {
    let mut maker = Maker::new();
    let (mut chain, _window) = chain();
    feed(&mut chain, &maker.psi(0), now(0));
    for packet in 0..1_000_u64 {
        // Up to 60 ms late: more than from one packet to the next.
        let late = [0, 60, 20, 50, 10][usize::try_from(packet % 5).unwrap()];
        maker.set_clock((packet * 40 + late) * 27_000);
        feed(&mut chain, &maker.video(packet % 50 == 0), now(0));
    }
    let passed = chain.head().as_millis();
    assert!((39_900..=40_100).contains(&passed), "{passed} ms");
    assert!(!chain.take_units().iter().any(|mark| matches!(mark, Mark::Break)));
    maker.set_clock(27_000_000 * 30);
    feed(&mut chain, &maker.video(true), now(0));
    assert_eq!(chain.take_units().iter().filter(|mark| matches!(mark, Mark::Break)).count(), 1);
}

#[test]
fn without_pcr_the_time_of_arrival_moves_the_stream_on() {
    let mut maker = Maker::new();
    let (mut chain, _window) = chain();
    feed(&mut chain, &maker.psi(0), now(0));
    for second in 1..=10 {
        let mut packet = maker.video(false);
        packet[5] &= !0x10;
        feed(&mut chain, &packet.repeat(10), now(second * 1_500));
    }
    assert!(chain.head() >= Duration::from_secs(12), "{:?}", chain.head());
}

#[test]
fn what_comes_at_once_after_each_pause_counts_once() {
    let mut maker = Maker::new();
    let (mut chain, _window) = chain();
    // Four seconds every four seconds, as media segments do, and filler between,
    // which counts for little.
    for second in 0..40 {
        if second % 4 == 0 {
            feed(&mut chain, &[maker.psi(0), maker.run(100, 50)].concat(), now(second * 1_000));
        }
        feed(&mut chain, &NULL_PACKET, now(second * 1_000 + 999));
    }
    let head = chain.head();
    assert!((Duration::from_secs(39)..Duration::from_secs(43)).contains(&head), "{head:?}");
}

#[test]
fn psi_that_changes_with_every_packet_costs_no_segment_a_packet() {
    let mut maker = Maker::new();
    let (mut chain, window) = chain();
    let mut bytes = Vec::new();
    for version in 0..2_000u32 {
        bytes.extend(maker.psi((version % 32) as u8));
        bytes.extend(maker.video(true));
    }
    feed(&mut chain, &bytes, now(0));
    assert!(chain.segments() <= 2 + bytes.len() / (64 << 10), "{} segments", chain.segments());
    // It settles, and can be joined again.
    feed(&mut chain, &maker.psi(1), now(0));
    feed(&mut chain, &maker.run(1_000, 10), now(0));
    feed(&mut chain, &maker.run(1_000, 10), now(0));
    window.set_playout(chain.head());
    let (cursor, point) = window.join(Duration::ZERO).unwrap();
    assert!(point.offset > bytes.len() as u64);
    assert!(cursor.segment.psi().is_some());
}

/// A broadcast as two engines give it: packets `from..to` of one run, after the
/// PSI, which stands again before every tenth packet.
fn broadcast() -> Vec<[u8; PACKET_LEN]> {
    let mut maker = Maker::new();
    let mut out = Vec::new();
    for i in 0..3_000 {
        if i % 10 == 0 {
            let psi = maker.psi(0);
            out.extend(psi.as_chunks::<PACKET_LEN>().0);
        }
        out.push(maker.video(i % 50 == 0));
    }
    out
}

fn candidate(packets: &[[u8; PACKET_LEN]]) -> Candidate {
    let mut candidate = Candidate::new();
    for piece in packets.chunks(13) {
        candidate.push(piece.as_flattened());
    }
    candidate
}

#[test]
fn a_second_reading_continues_the_first_byte_by_byte_wherever_it_begins() {
    let all = broadcast();
    for (name, until, from, to) in [
        ("a little behind", 1_000, 990, 1_100),
        ("far behind", 1_000, 400, 1_010),
        ("just there", 1_000, 500, 1_000),
        ("hardly any overlap", 1_000, 988, 1_001),
        ("before packets without a clock", 998, 900, 1_010),
    ] {
        for (filler, before_end) in [(0, 0), (3, 0), (3, 2), (1_000, 2)] {
            let (mut chain, window) = chain();
            let (begin, end) = all[..until].split_at(until - before_end);
            feed(&mut chain, begin.as_flattened(), now(0));
            feed(&mut chain, &NULL_PACKET.repeat(filler), now(0));
            feed(&mut chain, end.as_flattened(), now(0));
            let candidate = candidate(&all[from..to]);
            let Fit::Exact(at) = candidate.fit(&chain) else {
                panic!("{name}: {:?}", candidate.fit(&chain));
            };
            chain.append(&candidate.bytes()[at..], now(1)).unwrap();
            let (mut cursor, _) = window.join(Duration::from_secs(100)).unwrap();
            let seen = read(&mut cursor);
            let kept: Vec<_> =
                seen.as_chunks::<PACKET_LEN>().0.iter().filter(|p| **p != NULL_PACKET).collect();
            assert_eq!(kept.len(), to - 2, "{name}");
            assert!(kept.iter().zip(&all[2..to]).all(|(a, b)| *a == b), "{name}");
        }
    }
}

#[test]
fn a_reading_that_has_not_reached_the_end_is_waited_for() {
    let all = broadcast();
    let (mut chain, _) = chain();
    feed(&mut chain, all[..2_000].as_flattened(), now(0));
    assert_eq!(candidate(&all[1_900..1_998]).fit(&chain), Fit::Behind, "by two packets");
    assert_eq!(candidate(&all[1_400..1_700]).fit(&chain), Fit::Behind, "by ten seconds");
    assert_eq!(candidate(&[]).fit(&chain), Fit::Unknown);
}

#[test]
fn a_reading_that_is_looked_at_again_and_again_fits_as_at_first_sight() {
    let all = broadcast();
    let mut met = 0;
    for (begin, grows) in [(700, 0), (1_600, 0), (1_300, 10), (1_700, 40)] {
        let (mut chain, _) = chain();
        feed(&mut chain, all[..1_500].as_flattened(), now(0));
        let mut growing = Candidate::new();
        for (until, step) in (begin..).step_by(20).zip(0..50) {
            growing.push(all[until..until + 20].as_flattened());
            let fit = growing.fit(&chain);
            assert_eq!(fit, candidate(&all[begin..until + 20]).fit(&chain), "from {begin} to {until}");
            met += u32::from(matches!(fit, Fit::Exact(_)));
            feed(&mut chain, all[1_500 + step * grows..1_500 + (step + 1) * grows].as_flattened(), now(0));
        }
    }
    assert!((40..160).contains(&met), "{met} of 200");
}

#[test]
fn where_bytes_differ_the_stream_goes_on_at_a_join_point_and_says_so() {
    let all = broadcast();
    let end = 1_000;
    let mut other = all.clone();
    other.iter_mut().for_each(|packet| packet[180] ^= 0x55);
    for (name, packets) in [("ahead", &all[1_100..1_400]), ("other bytes", &other[900..1_400])] {
        let (mut chain, window) = chain();
        feed(&mut chain, all[..end].as_flattened(), now(0));
        // In the other bytes the PSI is damaged, so it comes from before.
        let mut candidate = Candidate::new();
        candidate.push(all[..2].as_flattened());
        packets.chunks(13).for_each(|piece| candidate.push(piece.as_flattened()));
        let Fit::Apart(Some(join)) = candidate.fit(&chain) else {
            panic!("{name}: {:?}", candidate.fit(&chain));
        };
        let last = chain.last_pcr().unwrap();
        assert!(join.pcr.unwrap().ticks_since(last) < 10 * Pcr::HZ, "{name}: behind the end");
        chain.append(&candidate.packets_from(&join), now(1)).unwrap();
        let (mut cursor, _) = window.join(Duration::from_secs(100)).unwrap();
        let mut checker = ContinuityChecker::new();
        let mut signalled = false;
        for packet in read(&mut cursor).as_chunks::<PACKET_LEN>().0 {
            signalled |= Packet::new(packet).discontinuity();
            let verdict = checker.check(Packet::new(packet));
            assert!(!matches!(verdict, Verdict::Error { .. }), "{name}: {verdict:?}");
        }
        assert!(signalled, "{name}");
    }
}

#[test]
fn a_candidate_is_bounded_and_keeps_what_is_newest() {
    let all = broadcast();
    let mut candidate = candidate(&all[..1_000]);
    candidate.keep(100 * PACKET_LEN);
    assert_eq!(candidate.len(), 100 * PACKET_LEN);
    assert!(candidate.has_join() && candidate.psi().is_some());
    let (mut chain, _) = chain();
    feed(&mut chain, all[..950].as_flattened(), now(0));
    assert_eq!(candidate.fit(&chain), Fit::Exact(50 * PACKET_LEN));
}
