//! Ten thousand connections that come and go: everything is given back, and who
//! watches notices nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use millrace_emulator::{Misuse, Scenario};
use socket2::SockRef;
use support::{
    crowd::{Crowd, assert_unbroken},
    stage::{Driver, Setup, Stage, path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 2_000_000;
const SOON: Duration = Duration::from_secs(20);
const CONNECTIONS: u32 = 10_000;
const HEALTHY: usize = 20;
/// Resident memory may end so much above where a round of the same before left
/// it: less than 420 bytes for each connection.
const GROWTH: u64 = 4 << 20;

/// One connection that comes and goes, in one of seven ways.
fn visit(address: SocketAddr, path: &str, way: u32) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let linger = |socket: &TcpStream| SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    match way % 7 {
        0 => {}
        1 => linger(&socket),
        2 => socket.write_all(&request.as_bytes()[..request.len() / 2]).unwrap(),
        3 => socket.write_all(request.as_bytes()).unwrap(),
        4 => {
            socket.write_all(request.as_bytes()).unwrap();
            linger(&socket);
        }
        5 => {
            socket.write_all(request.as_bytes()).unwrap();
            let mut bytes = vec![0; 64 << 10];
            socket.read_exact(&mut bytes).unwrap();
            assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        _ => {
            socket.write_all(request.as_bytes()).unwrap();
            let mut start = [0; 1];
            socket.read_exact(&mut start).unwrap();
            linger(&socket);
        }
    }
}

fn churn(address: SocketAddr, path: &str, connections: u32) {
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let way = next.fetch_add(1, Ordering::Relaxed);
                    if way >= connections {
                        return;
                    }
                    visit(address, path, way);
                }
            });
        }
    });
}

/// All connections but those of the healthy have been noticed and closed.
#[track_caller]
fn wait_settled(stage: &Stage, connections: f64) {
    let accepted = (connections + HEALTHY as f64).round();
    let is_settled = wait_until(SOON, || {
        // Requests of the test itself are connections too, handed on at once.
        stage.metric("millrace_connections_total") >= accepted
            && stage.metric("millrace_connections_open") <= HEALTHY as f64 + 1.0
            && stage.metric("millrace_viewers") == HEALTHY as f64
            && stage.metric("millrace_viewers_waiting") == 0.0
    });
    assert!(is_settled, "{:#?}", stage.server.metrics());
}

fn everything_comes_back(driver: Driver, shards: usize) {
    let Some(stage) = Stage::start(&Setup { driver, shards, ..Setup::default() }) else { return };
    let address = stage.server.address();
    let id = signed(RATE, Scenario::healthy(), 1);
    let crowd = Crowd::new();
    for _ in 0..HEALTHY {
        crowd.ask(address, &path(&id), id.verifier().unwrap());
    }
    crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);

    // The same once before: what the allocator and the window keep is there.
    churn(address, &path(&id), CONNECTIONS);
    wait_settled(&stage, f64::from(CONNECTIONS));
    let (fds, rss) = (stage.server.open_fds(), stage.server.rss());

    churn(address, &path(&id), CONNECTIONS);
    wait_settled(&stage, f64::from(2 * CONNECTIONS));
    // The window's segments come and go one by one.
    let slack = 6;
    assert!(
        wait_until(SOON, || stage.server.open_fds() <= fds + slack),
        "{} of {fds}",
        stage.server.open_fds()
    );
    let grown = stage.server.rss().saturating_sub(rss);
    eprintln!("{driver:?}, {shards} shards: {grown} bytes more after {CONNECTIONS} connections");
    assert!(grown <= GROWTH, "{driver:?}, {shards} shards: {grown} bytes more than {rss}");

    assert_eq!(stage.slots_taken(), 1);
    assert_eq!(stage.metric("millrace_refusals_total"), 0.0);
    assert_eq!(stage.metric("millrace_messages_lost_total"), 0.0);
    let counters = stage.emulator.counters();
    assert_eq!((counters.starts, counters.playbacks, counters.stops), (1, 1, 0));
    assert_eq!(counters.misuse, Misuse::default());
    let run = Duration::from_secs(5);
    crowd.wait_all(SOON, "everybody has a run", |seen| seen.run(RATE) >= run);
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("{driver:?}: viewer {place}"), seen, RATE, run);
        assert_eq!(seen.end, None, "{driver:?}: viewer {place}");
        assert!(seen.longest_gap < Duration::from_secs(1), "viewer {place}: {:?}", seen.longest_gap);
    }
}

#[test]
fn ten_thousand_connections_leave_nothing_behind_on_io_uring() {
    everything_comes_back(Driver::Uring, 2);
}

#[test]
fn ten_thousand_connections_leave_nothing_behind_on_epoll() {
    everything_comes_back(Driver::Epoll, 2);
}
