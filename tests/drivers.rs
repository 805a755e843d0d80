//! What is assumed of the kernel and of the runtime, on both drivers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{Scenario, Timing};
use support::{
    Viewer,
    crowd::{Crowd, assert_unbroken},
    stage::{Driver, Setup, Stage, fast, path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 8_000_000;
const SOON: Duration = Duration::from_secs(30);
const DRIVERS: [Driver; 2] = [Driver::Uring, Driver::Epoll];

/// A viewer that pauses until all that its socket holds has left the window,
/// again and again, gets the bytes that were queued and not what came later.
#[test]
fn bytes_in_flight_are_never_overwritten() {
    for driver in DRIVERS {
        let config = "[streams]\nwindow = \"2s\"\n\
            [viewers]\nprebuffer = \"1s\"\nmax_laps = 1000\nsend_buffer = \"1MiB\"\nunsent_limit = \"512KiB\"\n"
            .to_owned();
        let timing = Timing { burst: Duration::from_millis(500), ..fast() };
        let Some(stage) = Stage::start(&Setup { driver, timing, config, ..Setup::default() }) else {
            continue;
        };
        let id = signed(RATE, Scenario::healthy(), 1);
        let crowd = Crowd::new();
        for _ in 0..20 {
            let viewer = Viewer::ask_with_buffer(stage.server.address(), &path(&id), 16 << 10).unwrap();
            crowd.add(viewer, id.verifier().unwrap());
        }
        crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
        for round in 1..=2 {
            let before: Vec<_> = crowd.all().iter().map(|seen| seen.bytes).collect();
            (0..20).for_each(|place| crowd.pause(place));
            stage.wait_metric("millrace_laps_total", f64::from(20 * round));
            (0..20).for_each(|place| crowd.resume(place));
            let jumps = u64::try_from(round).unwrap();
            crowd.wait_all(SOON, "they go on", |seen| seen.report.signalled_jumps == jumps);
            for (place, seen) in crowd.all().iter().enumerate() {
                assert!(seen.report.is_unbroken(), "{driver:?}, viewer {place}: {seen:#?}");
                let held = seen.bytes - before[place];
                assert!(held > 100 << 10, "{driver:?}, viewer {place}: only {held} bytes were in flight");
            }
        }
    }
}

/// Processor time of all threads, in the kernel's hundredths of a second.
fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_shard_with_nothing_to_do_does_nothing() {
    for driver in DRIVERS {
        let config = "[streams]\nlinger = \"0s\"\n".to_owned();
        let Some(stage) = Stage::start(&Setup { driver, shards: 2, config, ..Setup::default() }) else {
            continue;
        };
        let span = Duration::from_secs(2);
        let used_in = |span| {
            let before = processor_time(stage.server.pid());
            // Time itself is what is measured here.
            thread::sleep(span);
            processor_time(stage.server.pid()) - before
        };
        let fresh = used_in(span);
        // After viewers, streams, and connections that were given to control.
        let id = signed(RATE, Scenario::healthy(), 2);
        let crowd = Crowd::new();
        for _ in 0..8 {
            crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        }
        crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
        crowd.leave_all();
        stage.wait_metric("millrace_connections_open", 0.0);
        assert!(wait_until(SOON, || stage.slots_taken() == 0));
        let used = used_in(span);
        eprintln!("{driver:?}: {fresh:?} fresh, {used:?} afterwards, of {span:?} on two shards");
        for used in [fresh, used] {
            assert!(used < span / 40, "{driver:?}: idle shards used {used:?} of {span:?}");
        }
    }
}

/// A connection moves from a shard's runtime to control's with what was read of
/// it, and the next request on it is control's as well.
#[test]
fn a_connection_can_be_handed_over_at_any_byte() {
    for driver in DRIVERS {
        let Some(stage) = Stage::start(&Setup { driver, shards: 2, ..Setup::default() }) else { continue };
        let request = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in [1, 4, 20, request.len() - 1, request.len()] {
            let mut socket = TcpStream::connect(stage.server.address()).unwrap();
            socket.set_nodelay(true).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            let (first, rest) = request.split_at(cut);
            socket.write_all(first).unwrap();
            if !rest.is_empty() {
                // So that the parts come apart; how they come is no matter.
                thread::sleep(Duration::from_millis(20));
                socket.write_all(rest).unwrap();
            }
            for again in 0..2 {
                let mut start = [0; 15];
                socket.read_exact(&mut start).unwrap();
                assert_eq!(&start, b"HTTP/1.1 200 OK", "{driver:?}, cut at {cut}, request {again}");
                let mut piece = [0; 16 << 10];
                let whole = wait_until(SOON, || {
                    let count = socket.read(&mut piece).unwrap();
                    piece[..count].ends_with(b"}") || piece[..count].ends_with(b"}\n")
                });
                assert!(whole, "{driver:?}, cut at {cut}, request {again}");
                if again == 0 {
                    socket.write_all(request).unwrap();
                }
            }
        }
    }
}

/// Each shard has a listener of its own on the one address, and the kernel
/// gives every one of them its share.
#[test]
fn the_kernel_spreads_connections_over_the_shards() {
    for driver in DRIVERS {
        let Some(stage) = Stage::start(&Setup { driver, shards: 2, ..Setup::default() }) else { continue };
        let id = signed(1_000_000, Scenario::healthy(), 3);
        let crowd = Crowd::new();
        for _ in 0..200 {
            crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        }
        crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
        stage.wait_metric("millrace_viewers", 200.0);
        for shard in 0..2 {
            let viewers = stage.metric(&format!("millrace_viewers{{shard=\"{shard}\"}}"));
            // Of 200 by a fair coin, fewer than 60 come up once in 10⁸ tries.
            assert!(viewers >= 60.0, "{driver:?}: shard {shard} has {viewers} of 200");
            let label = format!("millrace_shard_info{{shard=\"{shard}\",driver=\"{}\"}}", driver.word());
            assert_eq!(stage.metric(&label), 1.0);
        }
    }
}

/// One shard that works through a large crowd still answers everybody else.
#[test]
fn a_crowd_that_comes_at_once_keeps_nobody_waiting() {
    for driver in DRIVERS {
        let Some(stage) = Stage::start(&Setup { driver, ..Setup::default() }) else { continue };
        let id = signed(1_000_000, Scenario::healthy(), 4);
        let crowd = Crowd::new();
        crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
        // Each of them is sent a burst of a few hundred kilobytes at once.
        for _ in 0..500 {
            crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
        }
        let asked = Instant::now();
        assert_eq!(stage.server.get("/healthz").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{driver:?}: {:?}", asked.elapsed());
        crowd.wait_all(SOON, "all have a run", |seen| seen.run(1_000_000) > Duration::from_secs(4));
        for (place, seen) in crowd.all().iter().enumerate() {
            assert_unbroken(&format!("{driver:?}: viewer {place}"), seen, 1_000_000, Duration::from_secs(4));
            assert!(seen.first_byte.unwrap() < Duration::from_secs(2), "{driver:?}: {:?}", seen.first_byte);
        }
    }
}
