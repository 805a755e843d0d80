//! The chain as its readers see it.

use std::{sync::Arc, time::Duration};

use millrace_boundary::Monotonic;
use millrace_media::ts::{PACKET_LEN, Pcr};

use super::{ChainWriter, Cursor, Window};

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
struct Maker {
    counters: [u8; 3],
    clock: u64,
    packets: u64,
}

impl Maker {
    fn new() -> Self {
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

    fn psi(&mut self, version: u8) -> Vec<u8> {
        let v = 0xc1 | (version & 31) << 1;
        let pat = vec![0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0x00];
        let pmt = vec![0x02, 0xb0, 18, 0, 1, v, 0, 0, 0xe1, 0x01, 0xf0, 0, 0x1b, 0xe1, 0x01, 0xf0, 0];
        let mut out = self.section(0, 0, pat).to_vec();
        out.extend(self.section(1, 0x100, pmt));
        out
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

    fn run(&mut self, packets: usize, group: usize) -> Vec<u8> {
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

fn feed(chain: &mut ChainWriter, mut bytes: &[u8], at: Monotonic) {
    while !bytes.is_empty() {
        let n = chain.push(bytes).unwrap();
        bytes = &bytes[n..];
        chain.publish(at).unwrap();
    }
}

/// All that a viewer at `cursor` can read now.
fn read(cursor: &mut Cursor) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let n = cursor.available();
        if n == 0 {
            return out;
        }
        let mut piece = vec![0; n];
        let at = cursor.offset as u64;
        assert_eq!(rustix::io::pread(cursor.segment.memfd(), &mut piece, at), Ok(n));
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
    feed(&mut chain, &bytes[..400_000], now(0));
    // Nothing is three seconds behind playout yet, so the oldest point serves.
    let (mut cursor, point) = window.join(Duration::from_secs(3)).unwrap();
    let from = usize::try_from(point.offset).unwrap();
    let mut seen = read(&mut cursor);
    feed(&mut chain, &bytes[400_000..], now(10));
    chain.finish(now(20)).unwrap();
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
fn psi_that_changes_with_every_packet_costs_no_segment_a_packet() {
    let mut maker = Maker::new();
    let (mut chain, window) = chain();
    let mut bytes = Vec::new();
    for version in 0..2_000u32 {
        bytes.extend(maker.psi((version % 32) as u8));
        bytes.extend(maker.video(true));
    }
    feed(&mut chain, &bytes, now(0));
    chain.finish(now(0)).unwrap();
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
