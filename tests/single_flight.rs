//! Whatever asks for one content, however often and under which name: one
//! engine is asked once, and everybody gets every byte.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Misuse, Profile, Scenario, Timing};
use support::{
    crowd::{Crowd, End, assert_unbroken},
    stage::{Driver, Setup, Stage, fast, path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 2_000_000;
const SOON: Duration = Duration::from_secs(20);

/// What ends the stream under its viewers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ender {
    Engine,
    Server,
}

/// 200 viewers within a second, while the stream is cold.
fn crowd_on_a_cold_stream(driver: Driver, shards: usize, ender: Ender) {
    let run = Duration::from_secs(15);
    let id = signed(RATE, Scenario::healthy(), 1);
    let setup = Setup {
        driver,
        shards,
        timing: Timing { start_first: Duration::from_secs(2), ..fast() },
        // More of the engine's first burst, so that a long run takes less time.
        // And no long search for another engine after its death.
        config: "[viewers]\nprebuffer = \"8s\"\n[streams]\nstart_budget = \"4s\"\nlongest_start = \"4s\"\n"
            .to_owned(),
        // The engine that is killed below.
        allow: &["engine turned"],
        ..Setup::default()
    };
    let Some(mut stage) = Stage::start(&setup) else { return };
    let crowd = Crowd::new();
    let began = Instant::now();
    for place in 0..200 {
        crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        // The pace is the point: arrivals spread over most of a second.
        thread::sleep(Duration::from_millis(4 * (place + 1)).saturating_sub(began.elapsed()));
    }
    assert!(crowd.all().iter().all(|seen| seen.status.is_none()), "the stream was not cold any more");
    crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);

    stage.wait_metric("millrace_viewers", 200.0);
    let drivers = stage.api("status")["shards"].clone();
    for shard in drivers.as_array().unwrap() {
        assert!(shard["viewers"].as_u64() > Some(20), "a shard has too few: {shard}");
        let word = if driver == Driver::Uring { "uring" } else { "epoll" };
        assert_eq!(shard["driver"], word);
    }
    assert_eq!(drivers.as_array().unwrap().len(), shards);

    crowd.wait_all(SOON, "everybody has a run", |seen| seen.run(RATE) >= run);
    match ender {
        Ender::Engine => stage.emulator.kill(0),
        Ender::Server => assert!(stage.server.terminate().0.success()),
    }
    crowd.wait_all(SOON, "the server closes", |seen| seen.end == Some(End::Closed));
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("viewer {place}"), seen, RATE, run);
        if ender == Ender::Engine {
            // All that there was has been sent. A server that ends leaves who is
            // behind where it is.
            assert_eq!(seen.report.partial_bytes, 0, "viewer {place} ends with half a packet");
        }
    }
    let counters = stage.emulator.counters();
    assert_eq!((counters.starts, counters.playbacks), (1, 1));
    assert_eq!(counters.misuse, Misuse::default());
}

#[test]
fn a_cold_crowd_is_one_start_and_loses_nothing_on_io_uring() {
    crowd_on_a_cold_stream(Driver::Uring, 1, Ender::Engine);
}

#[test]
fn a_cold_crowd_is_one_start_and_loses_nothing_on_two_shards_on_io_uring() {
    crowd_on_a_cold_stream(Driver::Uring, 2, Ender::Server);
}

#[test]
fn a_cold_crowd_is_one_start_and_loses_nothing_on_epoll() {
    crowd_on_a_cold_stream(Driver::Epoll, 1, Ender::Server);
}

#[test]
fn a_cold_crowd_is_one_start_and_loses_nothing_on_two_shards_on_epoll() {
    crowd_on_a_cold_stream(Driver::Epoll, 2, Ender::Engine);
}

#[test]
fn every_spelling_of_an_id_is_one_stream_and_so_is_its_infohash() {
    for shards in [1, 2] {
        let Some(stage) = Stage::start(&Setup { shards, ..Setup::default() }) else { return };
        let id = signed(RATE, Scenario::healthy(), 2);
        let upper = id.to_string().to_uppercase();
        let crowd = Crowd::new();
        let ask = |path: &str| crowd.ask(stage.server.address(), path, id.verifier().unwrap());
        for path in [
            path(&id),
            format!("/ace/getstream?id={upper}"),
            format!("/ace/getstream?content_id={id}"),
            format!("/ace/getstream.ts?content_id={upper}&pid=7"),
            format!("/ace/{id}.ts"),
            format!("/ace/{upper}.ts?x=1"),
            format!("/ace/getstream?id=acestream%3A%2F%2F{id}"),
        ] {
            ask(&path);
        }
        crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
        // Known by now, so this joins it too, on whichever shard it lands.
        for _ in 0..8 {
            ask(&format!("/ace/getstream?infohash={}", id.infohash()));
        }
        let run = Duration::from_secs(4);
        crowd.wait_all(SOON, "everybody has a run", |seen| seen.run(RATE) >= run);
        let all = crowd.all();
        for (place, seen) in all.iter().enumerate() {
            assert_unbroken(&format!("viewer {place}, {shards} shards"), seen, RATE, run);
            assert_eq!(seen.header("millrace-session"), all[0].header("millrace-session"));
        }
        let counters = stage.emulator.counters();
        assert_eq!((counters.starts, counters.playbacks), (1, 1), "{shards} shards");
        assert_eq!(counters.misuse, Misuse::default());
        let is_one = wait_until(SOON, || stage.api("streams")["total"] == 1);
        assert!(is_one, "{}", stage.api("streams"));
    }
}

/// Who asks, in the order of asking, for one swarm that has two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    FirstId,
    SecondId,
    Infohash,
}

use Name::{FirstId as A, Infohash as H, SecondId as B};

const ORDERS: &[&[Name]] =
    &[&[A, B], &[B, A], &[A, H], &[H, A], &[A, B, H], &[A, H, B], &[H, A, B], &[H, B, A], &[B, H, A]];

/// Pauses between two arrivals, in milliseconds: the second one meets the first
/// before its start is asked for, while that is answered, while it prebuffers,
/// and playing.
const PAUSES: &[u64] = &[0, 60, 150, 600];
/// The same for three.
const SHORT_PAUSES: &[u64] = &[0, 60];

/// Two ids and the infohash of one swarm, in all orders: one session per engine
/// at most, in the end one alone, and nobody notices.
fn names_of_one_swarm(shards: usize, engines: u16, profile: Profile) {
    let start = Duration::from_millis(100);
    let timing = Timing { start_known: start, start_first: start, ..fast() };
    let config = "[streams]\nlinger = \"0s\"\n".to_owned();
    let setup = Setup { shards, engines, profile, timing, config, ..Setup::default() };
    let Some(stage) = Stage::start(&setup) else { return };
    let mut serial = 100;
    let pauses = |order: &[Name]| if order.len() == 2 { PAUSES } else { SHORT_PAUSES };
    let cases = ORDERS.iter().flat_map(|order| pauses(order).iter().map(move |pause| (order, pause)));
    for (order, pause) in cases {
        let pause = Duration::from_millis(*pause);
        serial += 2;
        let ids = [serial, serial + 1].map(|serial| signed(RATE, Scenario::shared_infohash(), serial));
        let case = format!("{order:?} {pause:?} apart, {shards} shards, {engines} engines");
        one_swarm(&case, &stage, &ids, order, pause);
        let is_free = wait_until(SOON, || {
            let counters = stage.emulator.counters();
            (counters.open_readers, counters.open_sessions, stage.slots_taken()) == (0, 0, 0)
        });
        assert!(is_free, "{case}: not given back: {:#?}", stage.emulator.counters());
        let c = stage.emulator.counters().per_content[&ids[0].infohash()];
        assert!(c.stops <= c.starts, "{case}: {c:?}");
        if engines == 1 {
            assert_eq!((c.starts, c.playbacks, c.stops), (1, 1, 1), "{case}");
        }
    }
    assert_eq!(stage.emulator.counters().misuse, Misuse::default());
}

fn one_swarm(case: &str, stage: &Stage, ids: &[ContentId; 2], order: &[Name], pause: Duration) {
    let crowd = Crowd::new();
    let began = Instant::now();
    for (nth, name) in (0u32..).zip(order) {
        // The pace is the point: it decides in which states the names meet.
        thread::sleep((pause * nth).saturating_sub(began.elapsed()));
        let path = match name {
            Name::FirstId => path(&ids[0]),
            Name::SecondId => path(&ids[1]),
            Name::Infohash => format!("/ace/getstream?infohash={}", ids[0].infohash()),
        };
        crowd.ask(stage.server.address(), &path, ids[0].verifier().unwrap());
    }
    let run = Duration::from_secs(4);
    crowd.wait_all(SOON, case, |seen| seen.run(RATE) >= run || seen.end.is_some());
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("{case}: viewer {place}"), seen, RATE, run);
        assert_eq!(seen.end, None, "{case}: viewer {place}");
    }
    let is_one = wait_until(SOON, || {
        let counters = stage.emulator.counters();
        (counters.open_readers, counters.open_sessions) == (1, 1)
    });
    assert!(is_one, "{case}: more than one upstream: {:#?}", stage.emulator.counters());
    crowd.leave_all();
}

#[test]
fn two_ids_of_one_swarm_are_one_session_of_an_engine() {
    names_of_one_swarm(1, 1, Profile::V3_2_11);
}

#[test]
fn two_ids_of_one_swarm_are_one_session_of_an_engine_whichever_shards_they_are_on() {
    names_of_one_swarm(2, 1, Profile::V3_2_3);
}

#[test]
fn two_ids_of_one_swarm_end_on_one_of_several_engines() {
    names_of_one_swarm(2, 3, Profile::V3_2_11);
}

#[test]
fn whoever_joins_a_warm_stream_begins_at_once_behind_the_head() {
    let prebuffer = Duration::from_secs(3);
    let id = signed(RATE, Scenario::healthy(), 3);
    let Some(stage) = Stage::start(&Setup { shards: 2, ..Setup::default() }) else { return };
    let crowd = Crowd::new();
    let first = crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
    // The engine's first burst is over when what comes is of the present.
    let is_live = || crowd.seen(first).report.last_delay.is_some_and(|age| age < Duration::from_secs(1));
    assert!(wait_until(SOON, is_live), "{:#?}", crowd.seen(first));
    let warm = Instant::now();
    for nth in 1..=50 {
        crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        // The pace is the point: a late joiner every 200 ms.
        thread::sleep((Duration::from_millis(200) * nth).saturating_sub(warm.elapsed()));
    }
    crowd.wait_all(SOON, "everybody has a run", |seen| seen.run(RATE) >= prebuffer);
    let all = crowd.all();
    for (place, seen) in all.iter().enumerate() {
        assert_unbroken(&format!("viewer {place}"), seen, RATE, prebuffer);
    }
    let late = &all[1..];
    let first_bytes: Vec<_> = late.iter().map(|seen| seen.first_byte.unwrap()).collect();
    let most = first_bytes.iter().max().unwrap();
    eprintln!("first byte of a warm stream: at most {most:?}");
    assert!(*most < Duration::from_secs(1), "{first_bytes:?}");
    for (place, seen) in late.iter().enumerate() {
        // The emulator's head is the present, so a packet's age is its distance
        // from there. A group of pictures lasts two seconds.
        let behind = seen.report.first_delay.unwrap();
        assert!(behind >= prebuffer, "viewer {place} begins only {behind:?} behind the head");
        assert!(behind < prebuffer + Duration::from_secs(4), "viewer {place} begins {behind:?} behind");
    }
    let firsts: Vec<_> = late.iter().map(|seen| seen.report.first.unwrap()).collect();
    assert!(firsts.is_sorted(), "a later one began earlier: {firsts:?}");
    assert!(firsts.first() < firsts.last(), "nobody's beginning moved on: {firsts:?}");
    assert_eq!(stage.emulator.counters().starts, 1);
}
