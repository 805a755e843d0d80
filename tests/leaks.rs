//! Ten thousand starts that come to nothing: everything is given back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Misuse};
use support::{
    Viewer,
    stage::{Driver, Setup, Stage, path, signed},
    starts::{in_parallel, start},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);
const STARTS: u64 = 10_000;
/// Until then caches fill: what is remembered of sessions, and of contents.
const WARM: u64 = 2_000;
/// Starts that are under way at the same time.
const AT_ONCE: usize = 64;
/// One stream each: beside another one, a start may have to wait, and its viewer
/// leaves before the engine is asked.
const ENGINES: u16 = 200;
/// A stretch of starts that memory is measured over, and how often. It is measured
/// while they go on: at rest the allocator gives back some MiB, more or less.
const STRETCH: u64 = 2_000;
const MEASURED_EVERY: u64 = 20;
/// Resident memory may grow by so much from the first stretch after [`WARM`] to
/// the last one: some 400 bytes for each start, of which what is remembered of
/// contents takes the half.
const GROWTH: u64 = 5 << 19;
const READY: &str = "millrace_engines{state=\"ready\"}";

/// What a viewer makes of a start.
#[derive(Clone, Copy, Debug)]
enum Until {
    /// It waits for its refusal, which has this status.
    Refused(u16),
    /// It leaves after this, while the engine is still being asked.
    Bored(Duration),
}
use Until::{Bored, Refused};

/// Faults of contents; none is held against an engine.
const FAULTS: &[(&str, Until)] = &[
    ("metadata-failure(20ms)", Refused(404)),
    ("missing-option", Refused(403)),
    ("encrypted", Refused(403)),
    ("catalogue-down(20ms)", Refused(404)),
    ("slow-metadata(400ms)", Bored(Duration::from_millis(50))),
    ("late-success(400ms)", Bored(Duration::from_millis(50))),
    ("slow-start", Bored(Duration::from_millis(150))),
    ("no-peers", Bored(Duration::from_millis(150))),
    ("stall(0b)", Bored(Duration::from_millis(300))),
];

fn fault(serial: u64) -> (&'static str, Until) {
    FAULTS[usize::try_from(serial).unwrap() % FAULTS.len()]
}

/// A content for each serial.
fn content(serial: u64) -> ContentId {
    signed(RATE, fault(serial).0.parse().unwrap(), serial)
}

/// One start of a content that nobody has asked for before.
fn fail(stage: &Stage, serial: u64) {
    let (fault, until) = fault(serial);
    let path = path(&content(serial));
    match until {
        Refused(status) => {
            let start = start(stage.server.address(), &path, SOON);
            assert_eq!(start.status, status, "{fault} {serial}: {start:?}");
        }
        Bored(after) => {
            let mut viewer = Viewer::ask(stage.server.address(), &path).unwrap();
            let answer = viewer.head(after);
            assert!(answer.is_err(), "{fault} {serial}: {answer:?} within {after:?}");
        }
    }
}

/// No connection, viewer, session or slot is left, of the starts so far.
#[track_caller]
fn wait_settled(stage: &Stage, starts: u64) {
    let ended = || {
        let metrics = stage.server.metrics();
        let all = metrics.iter().filter(|(name, _)| name.starts_with("millrace_streams_ended_total"));
        all.map(|(_, value)| value).sum::<f64>()
    };
    let is_settled = wait_until(SOON, || {
        let counters = stage.emulator.counters();
        ended() == starts as f64
            // The question itself is one.
            && stage.metric("millrace_connections_open") <= 1.0
            && stage.metric("millrace_viewers") + stage.metric("millrace_viewers_waiting") == 0.0
            && stage.metric("millrace_streams") == 0.0
            && stage.metric("millrace_segment_bytes") == 0.0
            && stage.slots_taken() == 0
            && counters.open_sessions + counters.open_readers == 0
    });
    let counters = stage.emulator.counters();
    assert!(
        is_settled,
        "after {starts} starts: {} sessions and {} readers on engines, {} slots; {:#?}",
        counters.open_sessions,
        counters.open_readers,
        stage.slots_taken(),
        stage.server.metrics(),
    );
}

fn threads(stage: &Stage) -> usize {
    fs::read_dir(format!("/proc/{}/task", stage.server.pid())).unwrap().count()
}

/// The median of what was measured in the stretch of starts that begins with `from`.
fn median_from(measured: &[(u64, u64)], from: u64) -> u64 {
    let stretch = measured.iter().filter(|(serial, _)| (from..from + STRETCH).contains(serial));
    let mut sizes: Vec<_> = stretch.map(|(_, size)| *size).collect();
    sizes.sort_unstable();
    sizes[sizes.len() / 2]
}

fn nothing_is_left(driver: Driver, shards: usize) {
    let setup = Setup {
        driver,
        shards,
        engines: ENGINES,
        config: "[engines]\ncapacity = 1\n[streams]\nlinger = \"0s\"\n".to_owned(),
        ..Setup::default()
    };
    let Some(stage) = Stage::start(&setup) else { return };
    stage.wait_metric(READY, f64::from(ENGINES));
    let (fds, tasks) = (stage.server.open_fds(), threads(&stage));

    let began = Instant::now();
    let measured = in_parallel(AT_ONCE, 0..STARTS, |serial| {
        fail(&stage, serial);
        (serial % MEASURED_EVERY == 0).then(|| (serial, stage.server.rss()))
    });
    wait_settled(&stage, STARTS);
    let measured: Vec<_> = measured.into_iter().flatten().collect();
    let rss = median_from(&measured, WARM);
    let grown = median_from(&measured, STARTS - STRETCH).saturating_sub(rss);
    eprintln!("{driver:?}: {STARTS} starts in {:?}, {grown} bytes more than {rss}", began.elapsed());

    assert!(grown < GROWTH, "{driver:?}: {grown} bytes more than {rss} after {STARTS} starts");
    assert!(
        wait_until(SOON, || stage.server.open_fds() <= fds),
        "{driver:?}: {} descriptors of {fds}",
        stage.server.open_fds()
    );
    assert_eq!(threads(&stage), tasks, "{driver:?}: threads");
    assert_eq!(stage.metric("millrace_messages_lost_total"), 0.0);
    assert_eq!(stage.metric(READY), f64::from(ENGINES), "none was blamed");

    let counters = stage.emulator.counters();
    let was_asked = |serial: &u64| counters.per_content.contains_key(&content(*serial).infohash());
    let missed: Vec<_> = (0..STARTS).filter(|serial| !was_asked(serial)).collect();
    // Who is bored on a busy machine may leave before.
    assert!(missed.len() as u64 * 100 < STARTS, "{driver:?}: no engine was asked for {missed:?}");
    assert_eq!(counters.misuse, Misuse::default());
}

#[test]
fn ten_thousand_faulty_starts_leave_nothing_behind_on_io_uring() {
    nothing_is_left(Driver::Uring, 2);
}

#[test]
fn ten_thousand_faulty_starts_leave_nothing_behind_on_epoll() {
    nothing_is_left(Driver::Epoll, 2);
}
