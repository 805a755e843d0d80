//! Starts on a fleet that is partly broken, and of contents that are all dead;
//! and how soon things stop.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::Scenario;
use serde_json::Value;
use support::{
    Server, Viewer,
    crowd::{Crowd, End},
    pool::{engines, healthy, path_of, serve, serve_ready, signed},
    stage::{Setup, Stage, path},
    wait_until,
};

mod support;

const STARTS: u64 = 250;
/// Starts that are under way at the same time.
const AT_ONCE: usize = 25;
const BUDGET: Duration = Duration::from_secs(30);
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

/// What became of one start: the status, the time to the first byte of the
/// body, and the cause of a refusal.
struct Start {
    status: u16,
    took: Duration,
    cause: String,
}

/// Asks for `path` and waits for the first byte of the body, then leaves.
fn start(server: &Server, path: &str) -> Start {
    let asked = Instant::now();
    let mut viewer = Viewer::ask(server.address(), path).unwrap();
    let limit = BUDGET + Duration::from_secs(2);
    let Ok((status, _)) = viewer.head(limit) else {
        return Start { status: 0, took: asked.elapsed(), cause: "no answer".to_owned() };
    };
    let took = asked.elapsed();
    if status == 200 {
        let mut piece = [0; 188];
        let read = viewer.read_some(&mut piece, asked + limit).unwrap_or(0);
        let cause = if read > 0 { "" } else { "no byte" }.to_owned();
        return Start { status, took: asked.elapsed(), cause };
    }
    let body = viewer.read_for(Duration::from_secs(2)).unwrap();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    Start { status, took, cause: json["error"]["cause"].as_str().unwrap_or("").to_owned() }
}

/// Does `what` with each of `paths`, [`AT_ONCE`] at the same time.
fn in_parallel<T: Send>(paths: Vec<String>, what: impl Fn(String) -> T + Sync) -> Vec<T> {
    let next = Mutex::new(paths.into_iter());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(path) = { next.lock().unwrap().next() } {
                    let it = what(path);
                    done.lock().unwrap().push(it);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

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
    let paths = (0..STARTS).map(|serial| path_of(healthy(serial))).collect();
    let done = in_parallel(paths, |path| start(&server, &path));
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
    let paths: Vec<_> = (0..100).map(|serial| path_of(signed(scenario(serial), serial))).collect();
    for (first, again) in in_parallel(paths, |path| (start(&server, &path), start(&server, &path))) {
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
