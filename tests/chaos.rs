//! Fleets and chaos: what happens when much happens at once, each row under the
//! name that it has among the scenarios of engines.
//!
//! `flash_crowd` has its smaller forms, on both drivers and on one shard and two,
//! in `tests/single_flight.rs`; a seeded storm of connections without streams is
//! in `tests/churn.rs`; starts on a fleet of which 30 % is broken are in
//! `tests/starts.rs`; and throughput is measured by `benches/fanout`, not here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{Chaos, ContentId, Emulator, EmulatorConfig, Misuse, Profile, Scenario, Timing};
use serde_json::Value;
use support::{
    Audience, Server, Viewer,
    crowd::{Crowd, assert_unbroken},
    mutate::Random,
    pool::{engines, engines_with, healthy, kept_waiting, path_of, serve_ready, session, status},
    rows::run_all,
    server::parse_answer,
    stage, wait_until,
};

mod support;

/// Rows that run at the same time. They mostly wait.
const AT_ONCE: usize = 4;

/// The longest first.
const ROWS: &[(&str, fn())] = &[
    ("split-quality", split_quality),
    ("mixed-soak", mixed_soak),
    ("correlated-vpn", correlated_vpn),
    ("zap-storm", zap_storm),
    ("proxy-restart", proxy_restart),
    ("flash-crowd", flash_crowd),
    ("many-contents (50 engines, 2 streams of 200 kbit/s on each)", many_contents),
    ("all-dead", all_dead),
    ("hedge-both-win", hedge_both_win),
];

#[test]
fn every_row_of_fleet_and_chaos_keeps_its_promise() {
    run_all(ROWS, AT_ONCE, |(name, row)| {
        let began = Instant::now();
        row();
        eprintln!("{name}: well after {:?}", began.elapsed());
    });
}

const RATE: u32 = 200_000;
/// For a start that nothing holds up, on a busy machine.
const START: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(20);
/// Every second, so that what the engines are told shows soon.
const PROBES: &str = "[engines]\nprobe_interval = \"1s\"\n";

/// A signed broadcast of 200 kbit/s, so that many of them are no load.
fn light(serial: u64) -> ContentId {
    stage::signed(RATE, Scenario::healthy(), serial)
}

/// All that was begun on the engines has been ended there, and every slot is free.
#[track_caller]
fn assert_all_given_back(server: &Server, emulator: &Emulator, limit: Duration) {
    let left = || {
        let counters = emulator.counters();
        (counters.open_sessions, counters.open_readers, status(server, "/engines/slots_taken"))
    };
    assert!(wait_until(limit, || left() == (0, 0, 0)), "sessions, readers, slots: {:?}", left());
}

fn flash_crowd() {
    let emulator = engines(3);
    let server = serve_ready(&emulator, "");
    let id = light(1);
    let crowd = Crowd::new();
    let began = Instant::now();
    for place in 0..500 {
        crowd.ask(server.address(), &path_of(id), id.verifier().unwrap());
        // The pace is the point: arrivals spread over two seconds.
        thread::sleep(Duration::from_millis(4 * (place + 1)).saturating_sub(began.elapsed()));
    }
    let run = Duration::from_secs(8);
    crowd.wait_all(SOON * 2, "everybody has a run", |seen| seen.run(RATE) >= run);
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("viewer {place}"), seen, RATE, run);
        assert_eq!(seen.end, None, "viewer {place}");
    }
    let counters = emulator.counters();
    assert_eq!((counters.starts, counters.playbacks, counters.open_readers), (1, 1, 1));
    assert_eq!(counters.misuse, Misuse::default());
    crowd.leave_all();
    assert_all_given_back(&server, &emulator, SOON * 2);
}

/// What becomes of the dead half.
const DEAD: &[&str] =
    &["metadata-failure", "no-peers", "peers-no-data", "start-failure-after-metadata", "metadata-hang"];

fn zap_storm() {
    const LIVING: u64 = 10;
    const LINGER: Duration = Duration::from_secs(3);
    let emulator = engines(12);
    let server = serve_ready(&emulator, "[streams]\nlinger = \"3s\"\n").allow("engine turned");
    let content = |serial: u64| match serial < LIVING {
        true => light(serial),
        false => {
            let fault = DEAD[usize::try_from(serial).unwrap() % DEAD.len()];
            stage::signed(RATE, fault.parse().unwrap(), serial)
        }
    };
    let played: Vec<_> = (0..LIVING).map(|_| AtomicU64::new(0)).collect();
    let over = Instant::now() + Duration::from_secs(24);
    thread::scope(|scope| {
        for viewer in 0..50 {
            let (server, played, content) = (&server, &played, &content);
            scope.spawn(move || {
                let mut random = Random(viewer);
                // Not all on the same beat.
                thread::sleep(Duration::from_millis(40 * viewer));
                while Instant::now() < over {
                    let serial = random.next() % (2 * LIVING);
                    let packets = zap(server, content(serial), Duration::from_secs(2));
                    if let Some(played) = played.get(usize::try_from(serial).unwrap()) {
                        played.fetch_add(packets, Ordering::Relaxed);
                    } else {
                        assert_eq!(packets, 0, "a dead content has a picture");
                    }
                }
            });
        }
    });
    for (serial, packets) in played.iter().enumerate() {
        assert!(packets.load(Ordering::Relaxed) > 0, "content {serial} was never played");
    }
    let full = server.metrics()["millrace_refusals_total{cause=\"engines_full\"}"];
    assert_eq!(full, 0.0, "engines were exhausted");
    assert_all_given_back(&server, &emulator, LINGER + SOON);
    let misuse = emulator.counters().misuse;
    assert_eq!(misuse, Misuse::default());
}

/// Watches for so long, every byte checked, and leaves; packets of the programme.
fn zap(server: &Server, id: ContentId, stay: Duration) -> u64 {
    let until = Instant::now() + stay;
    let mut viewer = Viewer::ask(server.address(), &path_of(id)).unwrap();
    let Ok((200, _)) = viewer.head(stay) else {
        // The pace is the point: a viewer looks at a refusal as long as at a picture.
        thread::sleep(until.saturating_duration_since(Instant::now()));
        return 0;
    };
    let mut verifier = id.verifier().unwrap();
    let mut piece = vec![0; 64 << 10];
    while let Ok(read @ 1..) = viewer.read_some(&mut piece, until) {
        verifier.push(&piece[..read], SystemTime::now());
    }
    thread::sleep(until.saturating_duration_since(Instant::now()));
    let report = verifier.report();
    assert!(report.first.is_none() || report.is_unbroken(), "{report:?}");
    report.packets - report.filler
}

/// Order and counts. Throughput is for an optimised build on a machine of its own.
fn many_contents() {
    let emulator = engines(50);
    let server = serve_ready(&emulator, "[engines]\ncapacity = 2\n");
    let crowd = Crowd::new();
    for serial in 0..100 {
        let id = light(serial);
        crowd.ask(server.address(), &path_of(id), id.verifier().unwrap());
    }
    let run = Duration::from_secs(6);
    crowd.wait_all(SOON * 2, "everybody has a run", |seen| seen.run(RATE) >= run);
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("content {place}"), seen, RATE, run);
    }
    for engine in 0..50 {
        let counters = emulator.engine_counters(engine);
        assert_eq!((counters.open_readers, counters.peak_sessions), (2, 2), "engine {engine}");
    }
    let counters = emulator.counters();
    assert_eq!((counters.starts, counters.playbacks, counters.stops), (100, 100, 0));
    assert_eq!(counters.misuse, Misuse::default());
    let (status, cause) = refusal(&server, light(100));
    assert_eq!((status, &*cause), (503, "engines_full"), "the 101st");
    crowd.leave_all();
    assert_all_given_back(&server, &emulator, SOON * 2);
}

/// The answer to a request that is refused: status and cause.
fn refusal(server: &Server, id: ContentId) -> (u16, String) {
    let mut viewer = Viewer::ask(server.address(), &path_of(id)).unwrap();
    let bytes = viewer.read_for(SOON).unwrap();
    let answer = parse_answer(&bytes).unwrap_or_else(|| panic!("no answer within {SOON:?}"));
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, json["error"]["cause"].as_str().unwrap_or("").to_owned())
}

/// For `SOAK_SECONDS`, 45 unless set, after the plan of `SOAK_SEED`.
fn mixed_soak() {
    const STREAMS: u64 = 10;
    /// Without a byte, filler included, beyond what the machine was busy.
    const GAP: Duration = Duration::from_secs(3);
    /// After the warm-up, a third of the time.
    const GROWTH: u64 = 8 << 20;
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (seconds, seed) = (number("SOAK_SECONDS", 45), number("SOAK_SEED", 1));
    let emulator = engines(12);
    let server = serve_ready(&emulator, &format!("{PROBES}capacity = 4\n")).allow("engine turned");
    let ids: Vec<_> = (0..STREAMS).map(healthy).collect();
    let audience = Audience::watch(server.address(), &ids, 2 * ids.len());
    assert!(audience.all_play_within(START));
    let (least, most) = match seconds {
        // A few changes of each stream, however short the time.
        0..600 => (Duration::from_secs(3), Duration::from_secs(9)),
        _ => (Duration::from_secs(60), Duration::from_secs(600)),
    };
    let contents = ids.iter().map(ToString::to_string).collect();
    emulator.set_chaos(Chaos { contents, seed, least, most });
    let began = Instant::now();
    let mut warm = None;
    while began.elapsed() < Duration::from_secs(seconds) {
        // The pace is the point: memory is looked at once a second.
        thread::sleep(Duration::from_secs(1));
        if warm.is_none() && began.elapsed() * 3 > Duration::from_secs(seconds) {
            warm = Some(server.rss());
        }
    }
    let (warm, rss) = (warm.unwrap(), server.rss());
    emulator.set_chaos(Chaos { contents: Vec::new(), seed, least, most });
    let gap = GAP + kept_waiting(&server);
    let seen = audience.leave();
    let longest = seen.iter().map(|seen| seen.longest_gap).max().unwrap();
    eprintln!("{seconds} s of seed {seed}: longest gap {longest:?}, {warm} bytes when warm, then {rss}");
    for (viewer, seen) in seen.iter().enumerate() {
        let id = ids[viewer % ids.len()];
        let told = || session(&server, id).unwrap();
        assert!(!seen.ended, "seed {seed}: viewer {viewer} was closed: {seen:#?} {:#}", told());
        assert_eq!(seen.report.unaligned_bytes, 0, "seed {seed}: viewer {viewer}");
        assert!(seen.longest_gap <= gap, "seed {seed}: viewer {viewer}: {:?} {:#}", seen.longest_gap, told());
    }
    assert!(rss.saturating_sub(warm) <= GROWTH, "seed {seed}: {rss} bytes of {warm}");
}

fn correlated_vpn() {
    const ENGINES: usize = 20;
    let emulator = engines(20);
    let server = serve_ready(&emulator, &format!("{PROBES}capacity = 2\n")).allow("engine turned");
    let crowd = Crowd::new();
    for serial in 0..20 {
        let id = light(serial);
        crowd.ask(server.address(), &path_of(id), id.verifier().unwrap());
    }
    crowd.wait_all(SOON, "the streams begin", |seen| seen.bytes > 0);
    let readers = |engines: std::ops::Range<usize>| -> Vec<u64> {
        engines.map(|engine| emulator.engine_counters(engine).open_readers).collect()
    };
    assert_eq!(readers(0..ENGINES), [1; ENGINES], "each engine plays one");
    let lost = 0..ENGINES / 2;
    for engine in lost.clone() {
        emulator.set_engine_scenario(engine, "network-lost".parse().unwrap());
    }
    let survivors = || readers(lost.end..ENGINES);
    let began = Instant::now();
    let are_moved =
        wait_until(Duration::from_secs(45), || survivors() == [2; 10] && readers(lost.clone()) == [0; 10]);
    let told = || (0..20).filter_map(|serial| session(&server, light(serial))).collect::<Vec<_>>();
    assert!(are_moved, "survivors {:?}, lost {:?}: {:#?}", survivors(), readers(lost), told());
    eprintln!("ten streams were moved in {:?}", began.elapsed());
    // Whoever was moved goes on, and whoever was not has noticed nothing.
    let before: Vec<_> = crowd.all().iter().map(|seen| seen.run(RATE)).collect();
    let more = Duration::from_secs(3);
    let go_on = wait_until(SOON, || {
        crowd.all().iter().zip(&before).all(|(seen, before)| seen.run(RATE) >= *before + more)
    });
    assert!(go_on, "{:#?}", crowd.all());
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("viewer {place}"), seen, RATE, more);
        assert_eq!(seen.end, None, "viewer {place}");
    }
    for engine in lost.end..ENGINES {
        let most = emulator.engine_counters(engine).peak_sessions;
        assert!(most <= 2, "survivor {engine} had {most} sessions at once");
    }
    let metrics = server.metrics();
    assert_eq!(metrics["millrace_streams_started_total"], 20.0, "each is one session from first to last");
    assert_eq!(emulator.counters().misuse, Misuse::default());
}

fn all_dead() {
    const PROMPT: Duration = Duration::from_secs(2);
    let emulator = engines(3);
    let server = serve_ready(&emulator, PROBES).allow("engine turned");
    let set = |scenario: Scenario| (0..3).for_each(|engine| emulator.set_engine_scenario(engine, scenario));
    set("refuse".parse().unwrap());
    let mut causes = BTreeSet::new();
    let ask = |causes: &mut BTreeSet<String>| {
        for serial in 0..3 {
            let asked = Instant::now();
            let (status, cause) = refusal(&server, healthy(serial));
            assert!(matches!(status, 502 | 503), "{status} {cause}");
            assert!(asked.elapsed() < PROMPT, "{cause} only after {:?}", asked.elapsed());
            causes.insert(cause);
        }
    };
    ask(&mut causes);
    assert!(wait_until(SOON, || status(&server, "/engines/ready") == 0), "the engines stay ready");
    ask(&mut causes);
    let honest = ["engine_unreachable", "no_engine"].map(str::to_owned);
    assert_eq!(causes, BTreeSet::from(honest));

    set(Scenario::healthy());
    assert!(wait_until(SOON, || status(&server, "/engines/ready") == 3), "{}", server.log());
    // The same contents: nobody holds against them that there was no engine.
    let ids = [0, 1, 2].map(healthy);
    let audience = Audience::watch(server.address(), &ids, 3);
    assert!(audience.all_play_within(START), "{:#?}", audience.seen());
    audience.leave();
}

fn hedge_both_win() {
    let emulator = engines(2);
    let server = serve_ready(&emulator, "");
    let id = healthy(1);
    // Both answer, and neither has a byte, until both have at the same instant.
    emulator.set_scenario(None, &id.to_string(), "stall(0b)".parse().unwrap());
    let audience = Audience::watch(server.address(), &[id], 1);
    let open = || emulator.counters().open_readers;
    assert!(wait_until(SOON, || open() == 2), "{} readers", open());
    emulator.set_scenario(None, &id.to_string(), Scenario::healthy());
    let both = Instant::now();
    let sessions = || emulator.counters().open_sessions;
    assert!(
        wait_until(SOON, || (open(), sessions()) == (1, 1)),
        "{} readers, {} sessions",
        open(),
        sessions()
    );
    let took = both.elapsed();
    eprintln!("the loser was stopped after {took:?}");
    assert!(took < Duration::from_secs(1) + kept_waiting(&server), "{took:?}");
    assert!(audience.all_play_within(START));
    let runs = || audience.seen()[0].report.packets > 2_000;
    assert!(wait_until(SOON, runs), "{:#?}", audience.seen());
    let counters = emulator.counters();
    assert_eq!((counters.starts, counters.playbacks, counters.stops), (2, 2, 1));
    assert_eq!(counters.misuse, Misuse::default());
    let seen = audience.leave().remove(0);
    assert!(seen.report.is_unbroken() && seen.report.signalled_jumps == 0 && !seen.ended, "{seen:#?}");
}

fn split_quality() {
    /// Half a minute until 0.8 can be told from 1; up to 20 s until a source that
    /// fits nowhere is taken as it is, the one that loops; and the same again
    /// until that one is known for what it is and left.
    const SETTLED: Duration = Duration::from_secs(100);
    const KEPT: Duration = Duration::from_secs(10);
    // Little ahead, so that it shows soon what is missing.
    let emulator = engines_with(3, |timing| Timing { burst: Duration::from_secs(1), ..timing });
    let server = serve_ready(&emulator, PROBES).allow("engine turned");
    let id = healthy(1);
    // Of equals the first is chosen first, so the worst come first.
    const BEST: u64 = 2;
    for (engine, scenario) in ["wrong-bitrate(0.8)", "loop-content(6s)", "edge-shift(12s)"].iter().enumerate()
    {
        emulator.set_scenario(Some(engine), &id.to_string(), scenario.parse().unwrap());
    }
    let audience = Audience::watch(server.address(), &[id], 1);
    assert!(audience.all_play_within(START));
    let plays = || -> Vec<u64> {
        let session = session(&server, id).unwrap();
        let notes = session["timeline"].as_array().unwrap();
        notes.iter().filter(|n| n["what"] == "plays").map(|n| n["engine"].as_u64().unwrap()).collect()
    };
    let began = Instant::now();
    let is_chosen = wait_until(SETTLED, || plays().last() == Some(&BEST));
    assert!(is_chosen, "{:?}: {:#}", plays(), session(&server, id).unwrap());
    let (took, before) = (began.elapsed(), plays());
    assert!(
        !wait_until(KEPT, || plays().len() > before.len()),
        "{:?}: {:#}",
        plays(),
        session(&server, id).unwrap()
    );
    eprintln!("the best was chosen after {took:?}, by way of {before:?}");
    assert!(before.len() <= 4, "flapped: {before:?}");
    let seen = audience.leave().remove(0);
    assert!(!seen.ended && seen.report.unaligned_bytes == 0, "{seen:#?}");
    assert!(seen.longest_gap < Duration::from_secs(2) + kept_waiting(&server), "{seen:#?}");
}

fn proxy_restart() {
    for profile in [Profile::V3_2_3, Profile::V3_2_11] {
        let expiry = Duration::from_secs(5);
        let timing = Timing { expiry, redirect_body: Duration::from_millis(250), ..Timing::fast() };
        let config = EmulatorConfig { engines: 2, profile, timing, ..Default::default() };
        let emulator = Emulator::start(config).unwrap();
        let ids = [1, 2, 3].map(healthy);
        let mut killed = serve_ready(&emulator, "");
        let audience = Audience::watch(killed.address(), &ids, 3);
        assert!(audience.all_play_within(START));
        killed.kill();
        let sessions = || emulator.counters().open_sessions;
        assert!(wait_until(START, || emulator.counters().open_readers == 0));
        assert_eq!(sessions(), 3, "{profile:?}: nobody has told the engines");
        assert!(audience.leave().iter().all(|seen| seen.report.is_unbroken()));

        let server = serve_ready(&emulator, "");
        let audience = Audience::watch(server.address(), &ids, 3);
        assert!(audience.all_play_within(START), "{profile:?}: {:#?}", audience.seen());
        // Beyond the end of those that nobody keeps alive any more.
        let went_on = Instant::now();
        let is_settled =
            || sessions() == 3 && emulator.counters().open_readers == 3 && went_on.elapsed() > expiry * 2;
        assert!(wait_until(SOON, is_settled), "{profile:?}: {} sessions", sessions());
        for (viewer, seen) in audience.leave().iter().enumerate() {
            let is_right = seen.report.is_unbroken() && seen.report.signalled_jumps == 0 && !seen.ended;
            assert!(is_right, "{profile:?}: viewer {viewer}: {seen:#?}");
        }
        let counters = emulator.counters();
        for id in ids {
            let pids = &counters.per_player[&id.infohash()];
            assert_eq!(pids.len(), 2, "{profile:?}: one pid before and one after: {pids:?}");
        }
        assert_eq!((counters.misuse.repeated_pid, counters.misuse.second_reader), (0, 0));
        drop(server);
    }
}
