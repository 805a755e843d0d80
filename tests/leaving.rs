//! Leaving: nobody else notices, and what nobody needs any more is given back
//! once, in time.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use millrace_emulator::{ContentId, Misuse, Scenario, Timing};
use rustix::process::Signal;
use support::{
    crowd::{Crowd, End, assert_unbroken},
    stage::{Driver, Setup, Stage, fast, path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);
const RUN: Duration = Duration::from_secs(4);

fn lingering(linger: &str) -> String {
    format!("[streams]\nlinger = \"{linger}\"\n")
}

/// One more viewer, once the bytes have reached it.
fn watching(stage: &Stage, crowd: &Crowd, id: &ContentId) -> usize {
    let place = crowd.ask(stage.server.address(), &path(id), id.verifier().unwrap());
    assert!(wait_until(SOON, || crowd.seen(place).bytes > 0), "nothing came: {:#?}", crowd.seen(place));
    place
}

/// Waits until every engine has been given back, each session with one stop.
#[track_caller]
fn wait_given_back(stage: &Stage, limit: Duration) {
    let is_back = wait_until(limit, || {
        let counters = stage.emulator.counters();
        counters.stops == counters.starts
            && (counters.open_readers, counters.open_sessions, stage.slots_taken()) == (0, 0, 0)
    });
    let counters = stage.emulator.counters();
    assert!(is_back, "{} slots taken, {counters:#?}", stage.slots_taken());
    assert_eq!(counters.misuse, Misuse::default());
}

#[test]
fn whoever_leaves_takes_nothing_from_the_rest() {
    for (driver, shards) in [(Driver::Uring, 2), (Driver::Epoll, 1)] {
        let Some(stage) = Stage::start(&Setup { driver, shards, ..Setup::default() }) else { return };
        let id = signed(RATE, Scenario::healthy(), 1);
        let crowd = Crowd::new();
        let all: Vec<_> = (0..10).map(|_| watching(&stage, &crowd, &id)).collect();
        stage.wait_metric("millrace_viewers", 10.0);
        let fds = stage.server.open_fds();
        // The first one, who started it; then every other one.
        for place in all.iter().step_by(2) {
            crowd.leave(*place);
        }
        stage.wait_metric("millrace_viewers", 5.0);
        let is_closed = wait_until(SOON, || stage.server.open_fds() <= fds - 5 + 4);
        assert!(is_closed, "{} descriptors, {fds} before five left", stage.server.open_fds());
        for place in all.into_iter().filter(|place| place % 2 == 1) {
            let from = crowd.seen(place).run(RATE);
            assert!(wait_until(SOON, || crowd.seen(place).run(RATE) >= from + RUN));
            assert_unbroken(&format!("{driver:?}: viewer {place}"), &crowd.seen(place), RATE, RUN);
        }
        let counters = stage.emulator.counters();
        assert_eq!((counters.starts, counters.playbacks, counters.stops), (1, 1, 0));
        assert_eq!(stage.metric("millrace_viewers_ended_total{end=\"left\"}"), 5.0);
    }
}

#[test]
fn who_returns_within_the_linger_finds_the_stream_running() {
    let Some(stage) = Stage::start(&Setup { config: lingering("6s"), ..Setup::default() }) else { return };
    let id = signed(RATE, Scenario::healthy(), 2);
    let crowd = Crowd::new();
    for _ in 0..3 {
        watching(&stage, &crowd, &id);
    }
    let session = crowd.seen(0).header("millrace-session").unwrap().to_owned();
    crowd.leave_all();
    stage.wait_metric("millrace_streams{state=\"lingering\"}", 1.0);
    let back = watching(&stage, &crowd, &id);
    assert_eq!(crowd.seen(back).header("millrace-session"), Some(session.as_str()));
    // The linger of the first leaving has no say any more.
    let returned = Instant::now();
    let is_there = wait_until(Duration::from_secs(9), || {
        crowd.seen(back).end.is_some() || returned.elapsed() > Duration::from_secs(7)
    });
    assert!(is_there);
    assert_unbroken("who returned", &crowd.seen(back), RATE, Duration::from_secs(8));
    let counters = stage.emulator.counters();
    assert_eq!((counters.starts, counters.playbacks, counters.stops), (1, 1, 0));
    assert_eq!(stage.slots_taken(), 1);
}

#[test]
fn after_the_linger_the_engine_is_told_once_and_is_free() {
    let default = Duration::from_secs(15);
    for (config, linger) in [
        (String::new(), default),
        (lingering("0s"), Duration::ZERO),
        (lingering("1s"), Duration::from_secs(1)),
    ] {
        let Some(stage) = Stage::start(&Setup { config, shards: 2, ..Setup::default() }) else { return };
        let id = signed(RATE, Scenario::healthy(), 3);
        let crowd = Crowd::new();
        for _ in 0..4 {
            watching(&stage, &crowd, &id);
        }
        stage.wait_metric("millrace_viewers", 4.0);
        let fds = stage.server.open_fds();
        let left = Instant::now();
        crowd.leave_all();
        assert!(wait_until(linger + SOON, || stage.emulator.counters().stops > 0), "never told to stop");
        let after = left.elapsed();
        assert!(after >= linger, "told after {after:?}, and the linger is {linger:?}");
        assert!(after < linger + Duration::from_secs(2), "told only after {after:?} of {linger:?}");
        wait_given_back(&stage, SOON);
        assert_eq!(stage.emulator.counters().starts, 1);
        let ended = "millrace_streams_ended_total{cause=\"viewers_left\"}";
        stage.wait_metric(ended, 1.0);
        stage.wait_metric("millrace_segment_bytes", 0.0);
        assert!(stage.server.open_fds() < fds, "{} descriptors of {fds}", stage.server.open_fds());

        // And it can be had again.
        watching(&stage, &crowd, &id);
        assert_eq!(stage.emulator.counters().starts, 2);
    }
}

#[test]
fn who_asks_again_while_the_engine_is_being_stopped_is_not_stopped_with_it() {
    // The old session is stopped half a second after it is told so, and with it
    // whatever plays the swarm on that engine by then.
    let id = signed(RATE, Scenario::stop_hang(Duration::from_millis(500)), 4);
    for engines in [1, 2] {
        let setup = Setup { config: lingering("0s"), engines, ..Setup::default() };
        let Some(stage) = Stage::start(&setup) else { return };
        let crowd = Crowd::new();
        let first = watching(&stage, &crowd, &id);
        crowd.leave(first);
        assert!(wait_until(SOON, || stage.emulator.counters().stops == 1), "never told to stop");
        let again = crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        // Longer than the burst, so seconds of real time as well.
        let run = Duration::from_secs(12);
        let is_over = |place| crowd.seen(place).run(RATE) >= run || crowd.seen(place).end.is_some();
        assert!(wait_until(SOON, || is_over(again)), "{:#?}", crowd.seen(again));
        assert_unbroken(&format!("{engines} engines"), &crowd.seen(again), RATE, run);
        crowd.leave_all();
        wait_given_back(&stage, SOON);
        assert_eq!(stage.emulator.counters().starts, 2);
    }
}

#[test]
fn who_leaves_while_the_stream_starts_leaves_nothing_behind() {
    // While the engine answers the start, and while it prebuffers.
    for (name, first, prebuffer) in [("answering", 1500, 50), ("prebuffering", 20, 1500)] {
        let timing = Timing {
            start_first: Duration::from_millis(first),
            prebuffer: Duration::from_millis(prebuffer),
            ..fast()
        };
        for driver in [Driver::Uring, Driver::Epoll] {
            let setup = Setup { config: lingering("0s"), timing, driver, shards: 2, ..Setup::default() };
            let Some(stage) = Stage::start(&setup) else { return };
            let id = signed(RATE, Scenario::healthy(), 5);
            let crowd = Crowd::new();
            for _ in 0..8 {
                crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
            }
            let is_asked = || stage.emulator.counters().starts == 1;
            let is_open = || stage.emulator.counters().open_sessions == 1;
            assert!(wait_until(SOON, || if name == "answering" { is_asked() } else { is_open() }), "{name}");
            crowd.leave_all();
            let is_back = wait_until(SOON, || {
                let counters = stage.emulator.counters();
                (counters.open_sessions, counters.open_readers, stage.slots_taken()) == (0, 0, 0)
            });
            assert!(is_back, "{name}, {driver:?}: {:#?}", stage.emulator.counters());
            let counters = stage.emulator.counters();
            assert_eq!((counters.starts, counters.playbacks), (1, 0), "{name}, {driver:?}");
            // An answer that comes too late is stopped as well.
            assert_eq!(counters.stops, 1, "{name}, {driver:?}");
            stage.wait_metric("millrace_viewers_ended_total{end=\"left\"}", 8.0);
            stage.wait_metric("millrace_connections_open", 0.0);
        }
    }
}

#[test]
fn sigterm_tells_every_engine_once_and_ends_within_a_second() {
    for (driver, shards) in [(Driver::Uring, 2), (Driver::Uring, 1), (Driver::Epoll, 2)] {
        let setup = Setup { driver, shards, engines: 3, ..Setup::default() };
        let Some(mut stage) = Stage::start(&setup) else { return };
        let crowd = Crowd::new();
        for serial in 10..16 {
            let id = signed(RATE, Scenario::healthy(), serial);
            for _ in 0..3 {
                watching(&stage, &crowd, &id);
            }
        }
        let run = Duration::from_secs(4);
        crowd.wait_all(SOON, "everybody has a run", |seen| seen.run(RATE) >= run);
        let (status, took) = stage.server.terminate();
        assert_eq!(status.code(), Some(0), "{driver:?}, {shards} shards: {}", stage.server.log());
        assert!(took < Duration::from_secs(1), "{driver:?}, {shards} shards: {took:?}");
        let counters = stage.emulator.counters();
        assert_eq!((counters.starts, counters.stops, counters.open_sessions), (6, 6, 0), "{driver:?}");
        crowd.wait_all(SOON, "all are closed", |seen| seen.end == Some(End::Closed));
        for (place, seen) in crowd.all().iter().enumerate() {
            assert_unbroken(&format!("{driver:?}: viewer {place}"), seen, RATE, run);
        }
    }
}

#[test]
fn sigterm_while_a_stream_starts_refuses_who_waits_and_is_as_quick() {
    let timing = Timing { start_first: Duration::from_secs(20), ..fast() };
    let Some(mut stage) = Stage::start(&Setup { timing, shards: 2, ..Setup::default() }) else { return };
    let id = signed(RATE, Scenario::healthy(), 20);
    let crowd = Crowd::new();
    for _ in 0..6 {
        crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
    }
    assert!(wait_until(SOON, || stage.emulator.counters().starts == 1));
    stage.wait_metric("millrace_viewers_waiting", 6.0);
    let (status, took) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{}", stage.server.log());
    assert!(took < Duration::from_secs(1), "{took:?}");
    crowd.wait_all(SOON, "all are refused", |seen| seen.status == Some(503) && seen.end.is_some());
    assert!(crowd.all().iter().all(|seen| seen.head.contains("\"shutting_down\"")));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    // The stop is never confirmed in time, so the drain is still going on.
    let id = signed(RATE, Scenario::stop_hang(Duration::from_secs(20)), 21);
    let setup = Setup { allow: &["ended at once"], ..Setup::default() };
    let Some(mut stage) = Stage::start(&setup) else { return };
    let crowd = Crowd::new();
    watching(&stage, &crowd, &id);
    stage.server.signal(Signal::TERM);
    assert!(stage.server.logs_within(SOON, "ending: no new viewers"));
    let (status, took) = stage.server.terminate();
    assert_eq!(status.code(), Some(143), "{}", stage.server.log());
    assert!(took < Duration::from_millis(500), "{took:?}");
    crowd.wait_all(SOON, "the viewer is closed", |seen| seen.end.is_some());
}

#[test]
fn an_engine_that_never_confirms_a_stop_holds_nothing_up() {
    let id = signed(RATE, Scenario::stop_hang(Duration::from_secs(20)), 22);
    let Some(mut stage) = Stage::start(&Setup::default()) else { return };
    let crowd = Crowd::new();
    watching(&stage, &crowd, &id);
    let (status, took) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{}", stage.server.log());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(stage.emulator.counters().stops, 1);
}
