//! Starts on a fleet that is partly broken, and of contents that are all dead;
//! and how soon things stop.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, Instant};

use millrace_emulator::Scenario;
use serde_json::Value;
use support::{
    crowd::{Crowd, End},
    pool::{engines, healthy, path_of, serve, serve_ready, signed},
    stage::{Setup, Stage, path},
    starts::{in_parallel, start},
    wait_until,
};

mod support;

const STARTS: u64 = 250;
/// Starts that are under way at the same time.
const AT_ONCE: usize = 25;
const BUDGET: Duration = Duration::from_secs(30);
/// Every start has an answer by then.
const ANSWERED: Duration = Duration::from_secs(32);
/// Twelve of forty.
const BROKEN: &[&str] = &[
    "refuse",
    "rst-on-accept",
    "hang-accept",
    "http-500-all",
    "api-ok-media-hang",
    "mod-detected",
    "metadata-hang",
    "no-peers",
    "start-failure-after-metadata",
    "text-body(html)",
    "stall(0b)",
    "disconnect-rst(0b)",
];

#[test]
fn with_thirty_percent_of_the_engines_broken_nearly_every_start_succeeds_soon() {
    let emulator = engines(40);
    for (engine, scenario) in BROKEN.iter().enumerate() {
        // Spread among the others, not first in their order.
        emulator.set_engine_scenario(engine * 3 + 1, scenario.parse().unwrap());
    }
    let server = serve(&emulator.addresses(), "[streams]\nlinger = \"0s\"\n").allow("engine turned");
    assert!(wait_until(BUDGET, || {
        let answer = server.get("/api/v1/status");
        let status: Value = serde_json::from_slice(&answer.body).unwrap();
        status["engines"]["ready"].as_u64().unwrap_or(0) >= 28
    }));
    let address = server.address();
    let paths = (0..STARTS).map(|serial| path_of(healthy(serial)));
    let done = in_parallel(AT_ONCE, paths, |path| start(address, &path, ANSWERED));
    let failed: Vec<_> = done.iter().filter(|s| s.status != 200 || !s.cause.is_empty()).collect();
    let mut took: Vec<_> = done.iter().map(|s| s.took).collect();
    took.sort_unstable();
    let mean = took.iter().sum::<Duration>() / u32::try_from(took.len()).unwrap();
    let p95 = took[took.len() * 95 / 100];
    eprintln!(
        "{STARTS} starts on engines that take 150 ms when well: {} failed, mean {mean:?}, p95 {p95:?}, max {:?}",
        failed.len(),
        took.last().unwrap()
    );
    let causes: Vec<_> = failed.iter().map(|s| (s.status, &s.cause, s.took)).collect();
    assert!(failed.len() * 100 < done.len(), "{causes:?}");
    assert!(mean < Duration::from_secs(5), "{mean:?}");
    assert!(p95 < Duration::from_secs(10), "{p95:?}");
    assert!(wait_until(BUDGET, || emulator.counters().open_readers == 0));
}

#[test]
fn dead_contents_get_definite_answers_and_then_instant_ones() {
    let emulator = engines(40);
    let server = serve_ready(&emulator, "[streams]\nlinger = \"0s\"\n").allow("engine turned");
    let scenarios = ["metadata-failure", "no-peers", "peers-no-data", "start-failure-after-metadata"];
    let scenario = |serial: u64| -> Scenario { scenarios[(serial % 4) as usize].parse().unwrap() };
    let paths = (0..100).map(|serial| path_of(signed(scenario(serial), serial)));
    let ask = |path: &str| start(server.address(), path, ANSWERED);
    for (first, again) in in_parallel(AT_ONCE, paths, |path| (ask(&path), ask(&path))) {
        assert!(matches!(first.status, 404 | 502 | 504), "{} {}", first.status, first.cause);
        assert!(first.took <= BUDGET + Duration::from_millis(500), "{}: {:?}", first.cause, first.took);
        assert_eq!((again.status, &*again.cause), (503, "content_blocked"), "after {}", first.cause);
        assert!(again.took < Duration::from_millis(50), "after {}: {:?}", first.cause, again.took);
    }
}

#[test]
fn a_stream_stops_within_a_tenth_of_a_second_and_a_hundred_within_one() {
    let config = "[engines]\ncapacity = 20\n[streams]\nlinger = \"0s\"\n".to_owned();
    let Some(mut stage) = Stage::start(&Setup { engines: 6, shards: 2, config, ..Setup::default() }) else {
        return;
    };
    let crowd = Crowd::new();
    // Twenty to be stopped one by one, each watched from both shards if chance
    // wills, and a hundred to be stopped at once.
    for serial in (0..100).chain((100..120).flat_map(|serial| [serial; 4])) {
        let id = healthy(serial);
        crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
    }
    crowd.wait_all(Duration::from_secs(30), "all begin", |seen| seen.bytes > 0);
    assert_eq!(stage.emulator.counters().open_sessions, 120);
    assert!(wait_until(Duration::from_secs(5), || stage.api("streams")["total"] == 120));
    let mut took: Vec<_> = (0..20_u64)
        .map(|nth| {
            let path = format!("/api/v1/streams/id%3A{}", healthy(100 + nth));
            let asked = Instant::now();
            let answer = stage.server.ask("DELETE", &path);
            assert_eq!(answer.status, 202, "{}", answer.text());
            let closed = || crowd.all().iter().filter(|seen| seen.end == Some(End::Closed)).count() as u64;
            let is_over =
                || stage.emulator.counters().open_sessions == 119 - nth && closed() == (nth + 1) * 4;
            assert!(wait_until(Duration::from_secs(5), is_over), "stream {nth}: {} closed", closed());
            asked.elapsed()
        })
        .collect();
    took.sort();
    eprintln!(
        "a stream stopped, its engine told and its four viewers closed: median {:?}, longest {:?}",
        took[10], took[19]
    );
    // The longest is the scheduler's.
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
    let (status, took) = stage.server.terminate();
    eprintln!("100 streams stopped in {took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let counters = stage.emulator.counters();
    assert_eq!((counters.open_sessions, counters.stops), (0, 120), "each engine was told");
}
