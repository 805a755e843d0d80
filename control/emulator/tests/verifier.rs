//! The verifier finds each kind of damage, and nothing where there is none.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_emulator::signed::{
    AUDIO_PID, Broadcast, EPOCH_UNIX_SECONDS, NULL_PID, PACKET_BYTES, PMT_PID, Report, VIDEO_PID, Verifier,
    packet,
};

const ID: u64 = 0x1234_5678_9abc_def0;
const RATE: u32 = 4_000_000;

type Packets = Vec<[u8; PACKET_BYTES]>;

fn group(n: u64) -> u64 {
    let b = Broadcast::new(ID, RATE);
    b.group_start(b.packet_at(Duration::from_secs(60_000_000)) + n * 6000)
}

fn run(from: u64, count: u64) -> Packets {
    (from..from + count).map(|n| packet(ID, RATE, n)).collect()
}

fn verify(bytes: &[u8], pieces: usize) -> Report {
    let mut verifier = Verifier::new(ID, RATE);
    for piece in bytes.chunks(pieces) {
        verifier.push(piece, SystemTime::now());
    }
    verifier.report()
}

fn discontinuity(pid: u16, counter: u8) -> [u8; PACKET_BYTES] {
    let mut p = [0xff; PACKET_BYTES];
    let [high, low] = pid.to_be_bytes();
    p[..6].copy_from_slice(&[0x47, high, low, 0x20 | counter & 15, 183, 0x80]);
    p
}

fn null() -> [u8; PACKET_BYTES] {
    let mut p = [0; PACKET_BYTES];
    let [high, low] = NULL_PID.to_be_bytes();
    p[..4].copy_from_slice(&[0x47, high, low, 0x10]);
    p
}

/// What a server sends between two runs to announce a jump to `to`.
fn announcement(to: u64) -> Packets {
    let next = run(to, 20);
    let counter =
        |pid: u16| next.iter().find(|p| u16::from_be_bytes([p[1] & 0x1f, p[2]]) == pid).unwrap()[3] & 15;
    let before = |pid| discontinuity(pid, counter(pid).wrapping_sub(1));
    // PAT and PMT stand for those of the run, which begins after them.
    let tables = &next[..2];
    let mut all = vec![before(0), before(PMT_PID)];
    all.extend_from_slice(tables);
    all.extend([before(VIDEO_PID), before(AUDIO_PID)]);
    all
}

/// A table with discontinuity_indicator in an adaptation field before it.
fn signalling(table: &[u8; PACKET_BYTES]) -> [u8; PACKET_BYTES] {
    let mut p = *table;
    p[3] |= 0x20;
    p[4..6].copy_from_slice(&[1, 0x80]);
    p[6..].copy_from_slice(&table[4..PACKET_BYTES - 2]);
    p
}

#[test]
fn every_damage_is_found_and_nothing_else() {
    let start = group(0);
    let clean = run(start, 4000);
    type Damage = fn(&mut Packets);
    type Expected = fn(&mut Report);
    let rows: [(&str, Damage, Expected); 13] = [
        ("none", |_| {}, |_| {}),
        ("a packet is lost", |p| _ = p.remove(1000), |r| (r.lost, r.continuity_errors) = (1, 1)),
        ("a PAT is lost", |p| _ = p.remove(212 * 3), |r| (r.lost, r.continuity_errors) = (1, 1)),
        ("500 are lost", |p| drop(p.drain(1000..1500)), |r| r.lost = 500),
        ("one comes twice", |p| p.insert(1001, p[1000]), |r| r.duplicated = 1),
        ("one comes again later", |p| p.insert(1010, p[1000]), |r| r.duplicated = 1),
        ("two change places", |p| p.swap(1000, 1001), |r| r.reordered = 1),
        ("a bit flips", |p| p[1000][100] ^= 4, |r| r.corrupted = 1),
        ("a bit flips in a header", |p| p[1000][3] ^= 0x80, |r| r.corrupted = 1),
        ("a bit flips in a PMT", |p| p[212 * 3 + 1][20] ^= 1, |r| r.corrupted = 1),
        ("null packets", |p| p.splice(1000..1000, [null(); 5]).for_each(drop), |r| r.filler = 5),
        (
            "back to the beginning",
            |p| p.extend_from_slice(&p.clone()[2000..]),
            |r| (r.duplicated, r.tables) = (1982, 20),
        ),
        ("a hole at a PAT and PMT", |p| drop(p.drain(212 * 3 - 1..212 * 3 + 3)), |r| r.lost = 4),
    ];
    for (name, damage, expected) in rows {
        let mut packets = clean.clone();
        damage(&mut packets);
        let bytes = packets.concat();
        let found = verify(&bytes, 1000);
        assert_eq!(found, Report { ..verify(&bytes, 77_777) }.clone_delays(&found), "{name}: splits matter");
        let mut wanted = Report {
            packets: packets.len() as u64,
            starts_right: true,
            first: Some(start + 2),
            last: Some(start + 3999),
            tables: 2,
            ..found.blank()
        };
        expected(&mut wanted);
        // What a disorder does to continuity is the decoder's affair: that it
        // is noticed suffices.
        if wanted.continuity_errors == 0
            && wanted.lost + wanted.duplicated + wanted.reordered + wanted.corrupted > 0
        {
            wanted.continuity_errors = found.continuity_errors;
        }
        assert_eq!(found, wanted, "{name}");
        assert_eq!(found.is_unbroken(), matches!(name, "none" | "null packets"), "{name}");
    }
}

trait Compare {
    fn clone_delays(self, other: &Report) -> Report;
    fn blank(&self) -> Report;
}

impl Compare for Report {
    fn clone_delays(self, other: &Report) -> Report {
        let (first_delay, last_delay, max_delay) = (other.first_delay, other.last_delay, other.max_delay);
        Report { first_delay, last_delay, max_delay, ..self }
    }
    fn blank(&self) -> Report {
        Report::default().clone_delays(self)
    }
}

#[test]
fn stray_bytes_are_counted_and_cost_no_packet() {
    let start = group(0);
    let clean = run(start, 3000).concat();
    for (name, at, stray, starts_right) in [
        ("between packets", 188 * 1000, vec![1u8; 77], true),
        ("at the start", 0, vec![0; 5], false),
        ("many", 188 * 1000, vec![3; 4096], true),
        ("one byte", 188 * 1000, vec![9], true),
    ] {
        let mut bytes = clean.clone();
        bytes.splice(at..at, stray.iter().copied());
        for pieces in [1, 188, 1316, 100_000] {
            let r = verify(&bytes, pieces);
            assert_eq!(r.unaligned_bytes, stray.len() as u64, "{name} {pieces} {r:?}");
            assert_eq!((r.lost, r.corrupted, r.starts_right), (0, 0, starts_right), "{name} {pieces} {r:?}");
            assert!(!r.is_unbroken());
        }
    }
    // Cut inside a packet: what is left of it belongs to none.
    let mut cut = clean.clone();
    drop(cut.drain(188 * 1000 + 50..188 * 1001));
    let r = verify(&cut, 4096);
    assert!(r.corrupted + r.unaligned_bytes > 0 && !r.is_unbroken(), "{r:?}");
    // An incomplete packet at the very end is no damage.
    let r = verify(&clean[..clean.len() - 88], 4096);
    assert_eq!((r.partial_bytes, r.is_unbroken()), (100, true), "{r:?}");
}

#[test]
fn a_stream_has_to_begin_with_its_tables_and_a_random_access_point() {
    let start = group(0);
    let all = run(start, 1000);
    let from = |n: usize| all[n..].to_vec();
    let preface = |n: usize| [all[..2].to_vec(), from(n)].concat();
    for (name, packets, right) in [
        ("tables", from(0), true),
        ("null packets first", [vec![null(); 3], from(0)].concat(), true),
        ("tables again and again", [all[..2].to_vec(), vec![null()], from(2)].concat(), true),
        ("no PAT", from(1), false),
        ("no tables", from(2), false),
        ("tables, then mid group", preface(400), false),
        ("tables, then audio", preface(3), false),
    ] {
        let r = verify(&packets.concat(), 999);
        assert_eq!((r.starts_right, r.lost, r.corrupted), (right, 0, 0), "{name} {r:?}");
    }
    assert!(!verify(&[], 1).is_unbroken());
}

#[test]
fn a_jump_is_legal_only_when_announced_at_a_random_access_point() {
    let (start, to) = (group(0), group(1));
    let before = run(start, 1000);
    let jump = |announcement: Packets, to: u64| [before.clone(), announcement, run(to, 1000)].concat();
    let full = announcement(to);
    let signals = || full[4..].iter().copied();
    let in_tables: Packets = full[2..4].iter().map(signalling).chain(signals()).collect();
    let mut damaged = in_tables.clone();
    damaged[0][14] ^= 1;
    for (name, packets, signalled, unbroken) in [
        ("announced", jump(full.clone(), to + 2), 1, true),
        ("backwards", [run(to, 1000), announcement(start), run(start + 2, 500)].concat(), 1, true),
        ("announced in the tables", jump(in_tables.clone(), to + 2), 1, true),
        ("announced in a damaged table", jump(damaged, to + 2), 0, false),
        ("not announced", jump(vec![], to + 2), 0, false),
        ("tables only", jump(full[2..4].to_vec(), to + 2), 0, false),
        ("indicators only", jump([&full[..2], &full[4..]].concat(), to + 2), 0, false),
        ("no random access", jump(full.clone(), to + 4), 0, false),
        (
            "wrong counters",
            jump(
                [full[2..4].to_vec(), vec![discontinuity(VIDEO_PID, 9), discontinuity(AUDIO_PID, 9)]]
                    .concat(),
                to + 2,
            ),
            1,
            false,
        ),
    ] {
        let r = verify(&packets.concat(), 5000);
        assert_eq!((r.signalled_jumps, r.is_unbroken()), (signalled, unbroken), "{name} {r:?}");
    }
}

#[test]
fn delays_are_those_of_the_packets() {
    let start = group(0);
    let broadcast = Broadcast::new(ID, RATE);
    let sent = UNIX_EPOCH + Duration::from_secs(EPOCH_UNIX_SECONDS) + broadcast.time_of(start + 2);
    let mut verifier = Verifier::new(ID, RATE);
    verifier.push(&run(start, 3).concat(), sent + Duration::from_millis(1500));
    verifier.push(&run(start + 3, 2660).concat(), sent + Duration::from_millis(2000));
    let r = verifier.report();
    let millis = |d: Option<Duration>| d.unwrap().as_millis();
    assert_eq!((millis(r.first_delay), millis(r.max_delay), millis(r.last_delay) / 10), (1500, 1500, 99));
}

#[test]
fn the_schedule_keeps_its_promises_at_every_rate() {
    for rate in [200_000, 1_000_000, 4_000_000, 4_000_001, 40_000_000] {
        let b = Broadcast::new(ID, rate);
        let first = b.group_start(b.packet_at(Duration::from_secs(70_000_000)));
        let mut last = [first; 4];
        let mut counters = std::collections::HashMap::new();
        for n in first..first + 3 * 2 * u64::from(rate) / 1504 {
            let p = packet(ID, rate, n);
            let pid = u16::from_be_bytes([p[1] & 0x1f, p[2]]);
            let has_adaptation = p[3] & 0x20 != 0;
            let marks = [
                pid == 0,
                pid == PMT_PID,
                pid == VIDEO_PID && has_adaptation && p[5] & 0x10 != 0,
                pid == VIDEO_PID && has_adaptation && p[5] & 0x40 != 0,
            ];
            for ((mark, last), limit) in marks.into_iter().zip(&mut last).zip([100, 100, 40, 2000]) {
                if mark {
                    let gap = b.time_of(n).saturating_sub(b.time_of(*last));
                    assert!(
                        gap <= Duration::from_millis(limit) + Duration::from_micros(1),
                        "{rate} {n} {gap:?}"
                    );
                    *last = n;
                }
            }
            if let Some(before) = counters.insert(pid, p[3] & 15) {
                assert_eq!(p[3] & 15, (before + 1) & 15, "{rate} {n}");
            }
        }
        assert_eq!(b.packet_at(b.time_of(first) + Duration::from_micros(2)), first);
    }
}

#[test]
fn a_hostile_stream_costs_neither_stack_nor_memory() {
    // Alignment that is found and lost again and again.
    let mut bytes = Vec::new();
    while bytes.len() < 4_000_000 {
        for _ in 0..3 {
            bytes.extend_from_slice(&null());
        }
        bytes.push(0);
    }
    let r = verify(&bytes, bytes.len());
    assert!(r.filler > 10_000 && r.unaligned_bytes > 5_000, "{r:?}");
}
