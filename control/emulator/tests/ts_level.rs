//! What each scenario of the transport stream itself puts on the wire, the same
//! from every engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{collections::BTreeSet, time::SystemTime};

use millrace_emulator::{
    ContentId,
    signed::{AUDIO_PID, NULL_PID, Report, VIDEO_PID},
};
use support::{
    ts::{Packet, packets},
    *,
};

/// A little less than the ten seconds that come at once.
const BURST: usize = 4_900_000;
const SECOND: u64 = 27_000_000;
const STAMPS: u64 = 1 << 33;

fn report(id: &ContentId, body: &[u8]) -> Report {
    let mut verifier = id.verifier().unwrap();
    verifier.push(body, SystemTime::now());
    verifier.report()
}

fn body(text: &str, serial: u64) -> (ContentId, Vec<u8>) {
    let emulator = emulator(1);
    let id = scene(text, serial);
    let mut body = start(emulator.addresses()[0], &id, "p").read(BURST).body;
    body.truncate(body.len() / 188 * 188);
    (id, body)
}

fn count(all: &[Packet<'_>], pid: u16) -> usize {
    all.iter().filter(|p| p.pid() == pid).count()
}

fn pids(all: &[Packet<'_>]) -> BTreeSet<u16> {
    all.iter().map(Packet::pid).collect()
}

/// Steps from PCR to PCR in 27 MHz, back steps below zero.
fn clock_steps(all: &[Packet<'_>]) -> Vec<i64> {
    let clocks: Vec<_> = all.iter().filter_map(Packet::pcr).collect();
    let half = (STAMPS * 150).cast_signed();
    clocks
        .windows(2)
        .map(|w| (w[1].cast_signed() - w[0].cast_signed() + half).rem_euclid(2 * half) - half)
        .collect()
}

/// Steps that are no frame's 40 ms, to the second.
fn jumps(all: &[Packet<'_>]) -> BTreeSet<i64> {
    let second = SECOND.cast_signed();
    clock_steps(all)
        .into_iter()
        .filter(|s| !(0..second / 10).contains(s))
        .map(|s| (s + second / 2).div_euclid(second))
        .collect()
}

type Look = fn(&[Packet<'_>]);

/// Edited programmes: the verifier knows them, so nothing is wrong with them.
const EDITS: &[(&str, Look)] = &[
    ("audio-only", |all| {
        let pmt = all.iter().find_map(Packet::pmt).unwrap();
        assert_eq!((pmt.clock, pmt.streams), (VIDEO_PID, vec![(0x0f, AUDIO_PID)]));
        assert!(
            all.iter().filter(|p| p.pid() == VIDEO_PID).all(|p| p.0[3] & 0x30 == 0x20 && p.pcr().is_some())
        );
        assert!(count(all, AUDIO_PID) > 200 && count(all, NULL_PID) > 20_000);
    }),
    ("no-audio", |all| {
        assert_eq!(all.iter().find_map(Packet::pmt).unwrap().streams, [(0x1b, VIDEO_PID)]);
        assert!(count(all, AUDIO_PID) == 0 && count(all, NULL_PID) > 200 && count(all, VIDEO_PID) > 20_000);
    }),
    ("two-programs", |all| {
        assert_eq!(all.iter().find_map(Packet::pat).unwrap(), [0x1000, 0x1001]);
        let tables: BTreeSet<_> = all.iter().filter_map(Packet::pmt).map(|t| t.streams).collect();
        assert_eq!(tables.len(), 2, "{tables:?}");
        for (kind, pid) in tables.iter().flatten() {
            assert!([0x1b, 0x0f].contains(kind) && count(all, *pid) > 100, "{pid}");
        }
        assert!(count(all, NULL_PID) == 0);
    }),
    ("pts-jump(forward,2s)", |all| assert_eq!(jumps(all), [10].into())),
    ("pts-jump(back,2s)", |all| {
        assert_eq!(jumps(all), [-10].into());
        assert!(!all.iter().any(Packet::is_discontinuity));
    }),
    ("pts-jump(forward-signalled,2s)", |all| {
        assert_eq!(jumps(all), [10].into());
        let mut before = None;
        for p in all {
            let Some(clock) = p.pcr() else { continue };
            if let Some(before) = before.replace(clock) {
                assert_eq!(p.is_discontinuity(), clock.abs_diff(before) > SECOND);
            }
        }
    }),
    ("pts-jump(back-signalled,2s)", |all| {
        assert_eq!(jumps(all), [-10].into());
        assert!(all.iter().filter(|p| p.is_discontinuity()).count() >= 3);
    }),
    // The clock passes 2^33 as clocks do, once in each epoch.
    ("pts-jump(wrap,2s)", |all| {
        let raw: Vec<_> = all.iter().filter_map(Packet::pcr).collect();
        let wraps = raw.windows(2).filter(|w| w[1] < SECOND && (STAMPS - 90_000) * 300 < w[0]).count();
        assert!((4..=6).contains(&wraps), "{wraps}");
        assert_eq!(jumps(all), [-2].into());
    }),
    ("pts-jump(wrap-signalled,4s)", |all| {
        assert!(all.iter().filter(|p| p.is_discontinuity()).count() >= 1);
    }),
    ("pcr-missing(1s,2s)", |all| {
        let longest = clock_steps(all).into_iter().max().unwrap().cast_unsigned();
        assert!((SECOND..SECOND + SECOND / 10).contains(&longest), "{longest}");
        assert!(all.iter().filter_map(Packet::pcr).count() > 100);
    }),
    ("pcr-jitter", |all| {
        let steps = clock_steps(all);
        let (least, most) = (*steps.iter().min().unwrap(), *steps.iter().max().unwrap());
        let millis = SECOND.cast_signed() / 1000;
        assert!(-60 * millis <= least && least < 0 && 100 * millis < most && most <= 140 * millis);
    }),
    ("pmt-change(all,2s)", |all| {
        let tables: BTreeSet<_> = all.iter().filter_map(Packet::pmt).collect();
        assert!((5..=6).contains(&tables.len()), "{tables:?}");
        for t in tables {
            let moved = 0x10 * u16::from(t.version & 1);
            let kinds = if moved == 0 { (0x1b, 0x0f) } else { (0x24, 0x03) };
            assert_eq!(t.clock, VIDEO_PID + moved);
            assert_eq!(t.streams, [(kinds.0, VIDEO_PID + moved), (kinds.1, AUDIO_PID + moved)]);
        }
        // What a table says holds from that table on.
        let mut now = None;
        for p in all {
            now = p.pmt().or(now);
            if let Some(t) = now.as_ref().filter(|_| p.pid() & 0xff00 == 0x100) {
                assert!(t.streams.iter().any(|(_, pid)| *pid == p.pid()));
            }
        }
    }),
    ("pmt-change(version,2s)", |all| {
        let tables: BTreeSet<_> = all.iter().filter_map(Packet::pmt).collect();
        assert!(tables.len() >= 5 && tables.iter().all(|t| t.clock == VIDEO_PID));
    }),
    ("pmt-change(pids,2s)", |all| {
        assert_eq!(pids(all), [0, 0x100, 0x101, 0x110, 0x111, 0x1000].into());
    }),
    ("pmt-change(codec,2s)", |all| {
        assert_eq!(pids(all), [0, 0x100, 0x101, 0x1000].into());
        assert!(all.iter().filter_map(Packet::pmt).any(|t| t.streams[0].0 == 0x24));
    }),
    ("late-idr(5s)", |all| {
        let first = all.iter().position(|p| p.has_idr()).unwrap();
        let of = |part: &[Packet<'_>]| part.iter().find_map(Packet::pcr).unwrap();
        let wait = (of(&all[first..]) - of(all)) / (SECOND / 1000);
        assert!((4_800..=5_100).contains(&wait), "{wait} ms");
        assert!(all[first].is_random_access() && !all[..first].iter().any(Packet::is_random_access));
    }),
    ("tei-scrambled", |all| {
        let marked = all.iter().filter(|p| p.0[1] & 0x80 != 0 && p.0[3] & 0xc0 == 0x80).count();
        assert!(marked.abs_diff(all.len() / 10) < all.len() / 100, "{marked} of {}", all.len());
    }),
    ("tei-scrambled(tei,2)", |all| {
        assert!(all.iter().filter(|p| p.0[1] & 0x80 != 0).count() > all.len() / 3);
        assert!(all.iter().all(|p| p.0[3] & 0xc0 == 0));
    }),
    ("tei-scrambled(scrambled,1)", |all| {
        assert!(
            all.iter().all(|p| p.0[1] & 0x80 == 0 && (p.0[3] & 0xc0 != 0) != [0, 0x1000].contains(&p.pid()))
        );
    }),
    ("unmatched", |_| {}),
    ("healthy-bitrate(vbr)", |_| {}),
];

#[test]
fn edited_programmes_are_what_they_say_and_whole() {
    for (serial, (text, look)) in (0..).zip(EDITS) {
        let (id, body) = body(text, serial);
        let r = report(&id, &body);
        let wrong =
            r.lost + r.duplicated + r.reordered + r.corrupted + r.unaligned_bytes + r.continuity_errors;
        assert!(wrong == 0 && r.packets > 20_000, "{text}: {r:?}");
        println!("{text}");
        look(&packets(&body));
    }
}

#[test]
fn time_stamps_jump_with_the_clock() {
    let (_, body) = body("pts-jump(forward,2s)", 1);
    let mut clock = None;
    let mut seen = 0;
    for p in packets(&body) {
        clock = p.pcr().or(clock);
        if let (Some(clock), Some(pts)) = (clock, p.pts()) {
            // Half a second of delay, and what a frame lasts.
            let ahead = (STAMPS + pts - clock / 300) % STAMPS;
            assert!((45_000..=49_000).contains(&ahead), "{ahead}");
            seen += 1;
        }
    }
    assert!(seen > 400);
}

#[test]
fn damage_is_counted_as_what_it_is() {
    type Check = fn(&Report, usize);
    let rows: &[(&str, Check)] = &[
        ("cc-errors(1000)", |r, packets| {
            let about = packets as u64 / 1000;
            assert!(r.lost.abs_diff(about) <= 1 && r.continuity_errors.abs_diff(r.lost) <= 1, "{r:?}");
            assert_eq!(r.duplicated + r.corrupted + r.unaligned_bytes, 0, "{r:?}");
        }),
        ("cc-errors(5000,40)", |r, packets| {
            assert!(r.lost.abs_diff(packets as u64 / 5000 * 40) <= 80, "{r:?}");
        }),
        ("dup-packets(188000,2s)", |r, _| {
            // A thousand at a time; tables count by themselves.
            let again = r.duplicated + r.tables;
            assert!((3_000..=6_000).contains(&again) && r.lost == 0, "{r:?}");
            assert_eq!(r.corrupted + r.unaligned_bytes, 0, "{r:?}");
        }),
        ("lost-sync-run(65536,4s)", |r, _| {
            assert!(r.unaligned_bytes >= 65_536 && r.unaligned_bytes.is_multiple_of(4), "{r:?}");
            let runs = r.unaligned_bytes / 65_536;
            assert!((1..=3).contains(&runs) && r.lost.abs_diff(349 * runs) <= 4, "{r:?}");
        }),
        ("garbage(188)", |r, packets| {
            let places = packets as u64 / 500;
            assert!(r.lost <= 2 * places && r.unaligned_bytes + r.corrupted * 188 > 94 * places, "{r:?}");
        }),
        ("null-flood", |r, packets| {
            assert!(r.filler.abs_diff(packets as u64 / 10 * 9) <= 10 && r.lost + r.corrupted == 0, "{r:?}");
        }),
        ("late-psi(3s)", |r, _| {
            // Two tables every 80 ms.
            assert!((70..=78).contains(&r.lost) && !r.starts_right && r.corrupted == 0, "{r:?}");
        }),
    ];
    for (serial, (text, check)) in (0..).zip(rows) {
        println!("{text}");
        let (id, body) = body(text, serial);
        let r = report(&id, &body);
        check(&r, body.len() / 188);
    }
}

#[test]
fn a_run_without_sync_has_no_sync_byte_and_tables_come_late() {
    let (_, noisy) = body("lost-sync-run(65536,4s)", 1);
    let longest = noisy.split(|b| *b == 0x47).map(<[u8]>::len).max().unwrap();
    assert!((65_536..66_000).contains(&longest), "{longest}");

    let (_, late) = body("late-psi(2s)", 2);
    let all = packets(&late);
    let first = all.iter().position(|p| p.pat().is_some()).unwrap();
    let clock = |part: &[Packet<'_>]| part.iter().find_map(Packet::pcr).unwrap();
    let wait = (clock(&all[first..]) - clock(&all)) / (SECOND / 1000);
    assert!((1_900..=2_100).contains(&wait), "{wait} ms");
    assert!(all[first + 1].pmt().is_some());
}

#[test]
fn engines_with_one_scenario_send_one_stream() {
    let emulator = emulator(2);
    let texts = ["garbage(50)", "lost-sync-run(5000,2s)", "cc-errors(100)", "dup-packets(18800,1s)"];
    let others =
        ["pts-jump(back,2s)", "pcr-jitter", "pmt-change(all,2s)", "null-flood(50)", "loop-content(2s)"];
    for (serial, text) in (0..).zip(texts.into_iter().chain(others)) {
        let id = scene(text, serial);
        let bodies: Vec<_> =
            emulator.addresses().iter().map(|a| start(*a, &id, text).read(1_500_000).body).collect();
        let (a, b) = (&bodies[0], &bodies[1]);
        // Loops have the same bytes more than once: a long needle, late in one.
        let from = b.len() / 2;
        let needle = &b[from..from + 20_000];
        let at = a
            .windows(needle.len())
            .rposition(|w| w == needle)
            .unwrap_or_else(|| panic!("{text}: no overlap"));
        let common = (a.len() - at).min(b.len() - from);
        assert!(common > 100_000 && a[at..at + common] == b[from..from + common], "{text}: {common}");
    }
}

#[test]
fn unmatched_engines_send_other_bytes_with_the_same_time_stamps() {
    for (serial, kind, same_counters) in [(1, "both", false), (2, "counters", false), (3, "padding", true)] {
        let emulator = emulator(2);
        let id = scene(&format!("unmatched({kind})"), serial);
        let bodies: Vec<_> =
            emulator.addresses().iter().map(|a| start(*a, &id, "p").read(BURST).body).collect();
        let streams: Vec<_> = bodies.iter().map(|b| packets(&b[..b.len() / 188 * 188])).collect();
        let clocks: Vec<BTreeSet<_>> =
            streams.iter().map(|all| all.iter().filter_map(Packet::pts).collect()).collect();
        assert!(clocks[0].intersection(&clocks[1]).count() > 400, "{kind}: the programme is the same");
        let first: BTreeSet<_> = streams[0].iter().filter(|p| p.pid() == VIDEO_PID).map(|p| *p.0).collect();
        assert!(
            !streams[1].iter().any(|p| first.contains(p.0)),
            "{kind}: no packet of one is one of the other"
        );
        let counter = |all: &[Packet<'_>], pts| all.iter().find(|p| p.pts() == Some(pts)).unwrap().counter();
        let pts = *clocks[0].intersection(&clocks[1]).next().unwrap();
        assert_eq!(counter(&streams[0], pts) == counter(&streams[1], pts), same_counters, "{kind}");
        // Each is whole, and one after the other is seen for what it is.
        for body in &bodies {
            let r = report(&id, body);
            assert!(
                r.lost + r.corrupted + r.continuity_errors == 0 && r.variant_changes == 0,
                "{kind}: {r:?}"
            );
        }
        let half = bodies[0].len() / 376 * 188;
        let joined = [&bodies[0][..half], &bodies[1][half..bodies[1].len() / 188 * 188]].concat();
        let r = report(&id, &joined);
        assert!(r.variant_changes == 1 && r.corrupted == 0, "{kind}: {r:?}");
    }
}

#[test]
fn edits_reach_the_clip_as_well() {
    let emulator = emulator(2);
    let clip = |text: &str, serial| {
        millrace_emulator::ContentId::new(millrace_emulator::Content::Clip, text.parse().unwrap(), serial)
    };
    let read = |engine: usize, text: &str| {
        let mut body = start(emulator.addresses()[engine], &clip(text, 1), text).read(600_000).body;
        body.truncate(body.len() / 188 * 188);
        body
    };
    let plain = read(0, "healthy-live");
    assert!(packets(&plain).iter().filter_map(Packet::pmt).count() > 20);
    let sound = read(0, "audio-only");
    let all = packets(&sound);
    assert_eq!(all.iter().find_map(Packet::pmt).unwrap().streams, [(0x0f, AUDIO_PID)]);
    assert!(count(&all, NULL_PID) > 1000 && all.iter().filter_map(Packet::pcr).count() > 50);
    let marked = read(0, "tei-scrambled(tei,2)");
    assert!(packets(&marked).iter().filter(|p| p.0[1] & 0x80 != 0).count() > 500);
    let shifted = [read(0, "unmatched"), read(1, "unmatched")];
    let stamps: Vec<Vec<_>> = shifted
        .iter()
        .map(|b| packets(b).iter().filter_map(|p| Some((p.pts()?, p.pid(), p.counter()))).collect())
        .collect();
    let (mut same, mut equal) = (0, 0);
    for (pts, pid, counter) in &stamps[0] {
        if let Some(other) = stamps[1].iter().find(|o| (o.0, o.1) == (*pts, *pid)) {
            same += 1;
            equal += u32::from(other.2 == *counter);
        }
    }
    assert!(same > 100 && equal == 0, "{same} {equal}");
}
