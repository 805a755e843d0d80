//! Viewers that read slowly, or not at all, or have vanished: they end by their
//! limits or go on at a join point, they hold little memory, and nobody else
//! notices.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Scenario, Timing};
use support::{
    Netns, Viewer,
    crowd::{Crowd, Seen, assert_unbroken},
    skip,
    sockets::private_send_memory,
    stage::{Driver, Setup, Stage, fast, path, signed},
    wait_until,
};

mod support;

/// Fast, so that a window of two seconds is a few segments.
const RATE: u32 = 8_000_000;
const SOON: Duration = Duration::from_secs(30);
const HEALTHY: usize = 200;
/// A receive buffer that fills at once.
const SMALL: usize = 4 << 10;
/// A receive buffer whose window is as wide as makes a difference to a sender.
const WIDE: usize = 256 << 10;

/// Engines that are hardly ahead of real time, so that the window is all that a
/// viewer can lag in.
fn timing() -> Timing {
    Timing { burst: Duration::from_millis(500), ..fast() }
}

/// A window that a stalled viewer falls out of within seconds.
fn short_window(stall_limit: &str, max_laps: u32) -> String {
    format!(
        "[streams]\nwindow = \"2s\"\n\
         [viewers]\nprebuffer = \"1s\"\nstall_limit = \"{stall_limit}\"\nmax_laps = {max_laps}\n\
         send_buffer = \"64KiB\"\nunsent_limit = \"16KiB\"\n"
    )
}

fn healthy(stage: &Stage, id: &ContentId, count: usize) -> Crowd {
    let crowd = Crowd::new();
    for _ in 0..count {
        crowd.ask(stage.server.address(), &path(id), id.verifier().unwrap());
    }
    crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
    crowd
}

/// One that reads nothing after what fits into a few kilobytes.
fn stalled(stage: &Stage, crowd: &Crowd, id: &ContentId) -> usize {
    let viewer = Viewer::ask_with_buffer(stage.server.address(), &path(id), SMALL).unwrap();
    let place = crowd.add(viewer, id.verifier().unwrap());
    assert!(wait_until(SOON, || crowd.seen(place).bytes > 0));
    crowd.pause(place);
    place
}

#[track_caller]
fn assert_undisturbed(crowd: &Crowd, run: Duration) {
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("healthy viewer {place}"), seen, RATE, run);
        assert_eq!(seen.end, None, "healthy viewer {place}");
        assert!(seen.longest_gap < Duration::from_secs(1), "healthy viewer {place}: {:?}", seen.longest_gap);
    }
}

/// Right from the first byte on but for jumps that it was told of.
#[track_caller]
fn assert_jumped(seen: &Seen) {
    assert!(seen.report.is_unbroken(), "damage beside the jump: {seen:#?}");
    assert!(seen.report.signalled_jumps >= 1, "no jump: {seen:#?}");
}

#[test]
fn stalled_viewers_end_by_their_limit_or_go_on_at_a_join_point_and_nobody_notices() {
    let config = short_window("8s", 5);
    let Some(stage) = Stage::start(&Setup { shards: 2, config, timing: timing(), ..Setup::default() }) else {
        return;
    };
    let id = signed(RATE, Scenario::healthy(), 1);
    let healthy = healthy(&stage, &id, HEALTHY);
    let slow = Crowd::new();
    let began = Instant::now();
    for _ in 0..100 {
        stalled(&stage, &slow, &id);
    }
    // All of them have fallen out of the window, and the first half goes on.
    stage.wait_metric("millrace_laps_total", 100.0);
    assert!(began.elapsed() < Duration::from_secs(7), "the laps came too late: {:?}", began.elapsed());
    (0..50).for_each(|place| slow.resume(place));
    let goes_on = |seen: &Seen| seen.report.signalled_jumps >= 1 || seen.end.is_some();
    assert!(wait_until(SOON, || (0..50).all(|place| goes_on(&slow.seen(place)))));
    let run = Duration::from_secs(2);
    let seen: Vec<_> = (0..50).map(|place| slow.seen(place)).collect();
    assert!(
        wait_until(SOON, || (0..50).all(|place| slow.seen(place).run(RATE) > seen[place].run(RATE) + run))
    );
    for place in 0..50 {
        let seen = slow.seen(place);
        assert_eq!((seen.end, seen.report.signalled_jumps), (None, 1), "viewer {place}: {seen:#?}");
        assert_jumped(&seen);
    }
    // The other half never reads again.
    stage.wait_metric("millrace_viewers_ended_total{end=\"stalled\"}", 50.0);
    assert!(began.elapsed() >= Duration::from_secs(8), "closed before the limit");
    assert!(began.elapsed() < Duration::from_secs(14), "closed too late: {:?}", began.elapsed());
    stage.wait_metric("millrace_viewers", (HEALTHY + 50) as f64);
    assert_undisturbed(&healthy, Duration::from_secs(8));
    assert_eq!(stage.emulator.counters().starts, 1);
}

#[test]
fn viewers_at_a_kilobyte_a_second_are_closed_and_nobody_notices() {
    let config = short_window("4s", 3);
    let setup = Setup { driver: Driver::Epoll, config, timing: timing(), ..Setup::default() };
    let Some(stage) = Stage::start(&setup) else { return };
    let id = signed(RATE, Scenario::healthy(), 2);
    let healthy = healthy(&stage, &id, HEALTHY);
    let ask = || Viewer::ask_with_buffer(stage.server.address(), &path(&id), SMALL).unwrap();
    let mut slow: Vec<_> = (0..100).map(|_| ask()).collect();
    let is_over = AtomicBool::new(false);
    let closed = "millrace_viewers_ended_total";
    thread::scope(|scope| {
        // All of them on one thread: each takes 256 bytes, four times a second.
        scope.spawn(|| {
            let mut piece = [0; 256];
            while !is_over.load(Ordering::Acquire) {
                let next = Instant::now() + Duration::from_millis(250);
                for viewer in &mut slow {
                    let mut socket = viewer.socket();
                    socket.set_nonblocking(true).unwrap();
                    // What comes is no matter, nor whether the server has closed.
                    let _read = socket.read(&mut piece);
                }
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let ended = || {
            let of = |end: &str| stage.metric(&format!("{closed}{{end=\"{end}\"}}"));
            of("stalled") + of("lapped")
        };
        let all_ended = wait_until(SOON, || ended() == 100.0);
        is_over.store(true, Ordering::Release);
        assert!(all_ended, "only {} of 100 were closed", ended());
    });
    stage.wait_metric("millrace_viewers", HEALTHY as f64);
    assert_undisturbed(&healthy, Duration::from_secs(4));
}

#[test]
fn a_viewer_that_is_lapped_too_often_is_closed() {
    let Some(stage) =
        Stage::start(&Setup { config: short_window("1m", 2), timing: timing(), ..Setup::default() })
    else {
        return;
    };
    let id = signed(RATE, Scenario::healthy(), 3);
    let healthy = healthy(&stage, &id, 1);
    let slow = Crowd::new();
    let place = stalled(&stage, &slow, &id);
    for laps in 1..=3 {
        stage.wait_metric("millrace_laps_total", f64::from(laps));
        assert_eq!(slow.seen(place).end, None, "closed after {} laps", laps - 1);
        slow.resume(place);
        let jumps = if laps <= 2 { u64::from(laps as u32) } else { 2 };
        let goes_on = wait_until(SOON, || {
            let seen = slow.seen(place);
            seen.end.is_some() || (laps <= 2 && seen.report.signalled_jumps == jumps)
        });
        assert!(goes_on, "{:#?}", slow.seen(place));
        slow.pause(place);
    }
    let seen = slow.seen(place);
    assert!(seen.end.is_some(), "{seen:#?}");
    assert_eq!(seen.report.signalled_jumps, 2);
    assert_jumped(&seen);
    stage.wait_metric("millrace_viewers_ended_total{end=\"lapped\"}", 1.0);
    assert_undisturbed(&healthy, Duration::from_secs(4));
}

#[test]
fn half_requests_are_answered_in_the_end_and_nobody_notices() {
    for driver in [Driver::Uring, Driver::Epoll] {
        let Some(stage) = Stage::start(&Setup { driver, timing: timing(), ..Setup::default() }) else {
            return;
        };
        let id = signed(RATE, Scenario::healthy(), 4);
        let healthy = healthy(&stage, &id, 50);
        let began = Instant::now();
        let mut half: Vec<_> = (0..100)
            .map(|_| {
                let mut socket = TcpStream::connect(stage.server.address()).unwrap();
                socket.write_all(b"GET /ace/getstream?id=").unwrap();
                socket.set_read_timeout(Some(SOON)).unwrap();
                socket
            })
            .collect();
        let open = (healthy.all().len() + 100) as f64;
        stage.wait_metric("millrace_connections_open", open);
        for socket in &mut half {
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{driver:?}: {answer}");
        }
        let took = began.elapsed();
        assert!((9..15).contains(&took.as_secs()), "{driver:?}: closed after {took:?}");
        stage.wait_metric("millrace_connections_open", open - 100.0);
        assert_eq!(stage.metric("millrace_bad_requests_total"), 100.0, "{driver:?}");
        assert_undisturbed(&healthy, Duration::from_secs(10));
    }
}

#[test]
fn viewers_whose_machine_has_vanished_are_dropped_and_nobody_notices() {
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(why) => return skip("REQUIRE_NETNS", &why),
    };
    let config = short_window("5s", 5);
    let listen = format!("{}:0", netns.host());
    let Some(stage) =
        Stage::start(&Setup { shards: 2, config, listen, timing: timing(), ..Setup::default() })
    else {
        return;
    };
    let id = signed(RATE, Scenario::healthy(), 5);
    let healthy = healthy(&stage, &id, 50);
    let there = Crowd::new();
    let ask = || {
        let all = (0..50).map(|_| Viewer::ask(stage.server.address(), &path(&id)).unwrap());
        all.collect::<Vec<_>>()
    };
    for viewer in netns.run(ask) {
        there.add(viewer, id.verifier().unwrap());
    }
    there.wait_all(SOON, "bytes cross the link", |seen| seen.run(RATE) > Duration::from_secs(1));
    let fds = stage.server.open_fds();
    netns.vanish().unwrap();
    let vanished = Instant::now();
    let gone = || {
        let of = |end: &str| stage.metric(&format!("millrace_viewers_ended_total{{end=\"{end}\"}}"));
        of("stalled") + of("left")
    };
    assert!(wait_until(SOON, || gone() == 50.0), "{} of 50 are gone", gone());
    eprintln!("vanished viewers dropped after {:?}", vanished.elapsed());
    assert!(vanished.elapsed() < Duration::from_secs(12), "{:?}", vanished.elapsed());
    stage.wait_metric("millrace_viewers", 50.0);
    assert!(wait_until(SOON, || stage.server.open_fds() + 45 <= fds), "{} of {fds}", stage.server.open_fds());
    assert_undisturbed(&healthy, Duration::from_secs(5));
    assert!(there.all().iter().all(|seen| seen.end.is_none()), "they were told, so they had not vanished");
}

/// What 400 stalled viewers take over 400 that are not there, all told.
///
/// The method, as everything is counted that is the server's:
/// - resident memory of the process but for shared memory, before and after;
/// - what the kernel charges to the server's sockets for sending (`w` of
///   `skmem`) less the payload that is queued: the buffers' heads and their
///   bookkeeping;
/// - the payload itself. It consists of pages of the segments, of which a socket
///   holds a reference. As long as the window holds them too they are the
///   stream's; in the worst case, when every viewer stalls at a place of its own
///   and the window has moved on, each is the last to hold its own;
/// - the few hundred bytes of head, PAT, PMT and join packet, which are copied
///   into the socket, and the kernel's socket, file, inode and epoll entry:
///   8 KiB for each viewer.
#[test]
fn a_stalled_viewer_takes_at_most_64_kib_even_if_it_stalls_alone() {
    const STALLED: usize = 400;
    // Over a link with packets of a usual size: on loopback the kernel sends
    // pieces of 64 KiB whole or not at all.
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(why) => return skip("REQUIRE_NETNS", &why),
    };
    // The kernel itself fills a queue in pieces of up to half of the largest
    // window it has seen, and of 64 KiB at most. A player that has paused had a
    // wide one, and stands anywhere in a piece: 400 together tell what one takes.
    for (driver, buffer, read) in
        [(Driver::Uring, SMALL, 1), (Driver::Uring, WIDE, 1_000_000), (Driver::Epoll, WIDE, 1_000_000)]
    {
        // The default buffers; a window that is left within seconds, and nobody
        // closed before that.
        let config = "[streams]\nwindow = \"4s\"\n[viewers]\nstall_limit = \"2m\"\n".to_owned();
        let listen = format!("{}:0", netns.host());
        let Some(stage) =
            Stage::start(&Setup { driver, config, listen, timing: timing(), ..Setup::default() })
        else {
            return;
        };
        let id = signed(RATE, Scenario::healthy(), 6);
        let healthy = healthy(&stage, &id, 1);
        // Each reads less than `read` bytes, another number each, and no more.
        let ask = |buffer, read| {
            let one = |place: usize| {
                let mut viewer = Viewer::ask_with_buffer(stage.server.address(), &path(&id), buffer).unwrap();
                viewer.read_exact(place * 7_919 % read, SOON).unwrap();
                viewer
            };
            let all: Vec<_> = netns.run(|| (0..STALLED).map(one).collect());
            stage.wait_metric("millrace_viewers", (STALLED + 1) as f64);
            all
        };
        // A round before, so that what the allocator keeps is not counted.
        drop(ask(SMALL, 1));
        stage.wait_metric("millrace_viewers", 1.0);
        let before = stage.server.rss() + private_send_memory(stage.server.address().port()).unwrap().bytes;
        let laps = || stage.metric("millrace_laps_total");
        // Of those before, some may have fallen out before they left.
        let earlier = laps();
        let viewers = ask(buffer, read);
        assert!(wait_until(SOON, || laps() >= earlier + STALLED as f64), "{} laps after {earlier}", laps());
        let sockets = private_send_memory(stage.server.address().port()).unwrap();
        assert!(sockets.count > STALLED, "only {} sockets were found", sockets.count);
        let after = stage.server.rss() + sockets.bytes;
        let private = after.saturating_sub(before) / STALLED as u64 + (8 << 10);
        let queued = sockets.queued / STALLED as u64;
        eprintln!(
            "{driver:?}, a receive buffer of {} KiB: {} KiB of its own and {} KiB of pages queued, each",
            buffer >> 10,
            private >> 10,
            queued >> 10
        );
        assert!(
            private + queued <= 64 << 10,
            "{driver:?}, a receive buffer of {buffer}: a stalled viewer takes {private} + {queued} bytes"
        );
        // The limit of 32 KiB, and what is on its way.
        assert!(queued <= 36 << 10, "{driver:?}, a receive buffer of {buffer}: {queued} bytes are queued");
        assert!(queued > 8 << 10, "nothing is queued, so nobody is stalled");
        drop(viewers);
        assert_undisturbed(&healthy, Duration::from_secs(4));
    }
}
