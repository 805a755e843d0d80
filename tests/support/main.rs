//! The helpers of the whole-system tests keep their own promises.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use support::{
    Netns, Server, Viewer, deny_uring, get,
    log::is_complaint,
    server::{address_in, parse_answer, parse_metrics},
    skip, wait_until,
};

#[path = "mod.rs"]
mod support;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_start_line_gives_its_address() {
    for (line, address) in [
        (
            "2026-01-01T00:00:00Z  INFO millrace: serving address=127.0.0.1:6890 cores=1",
            Some("127.0.0.1:6890"),
        ),
        (
            r#"{"level":"INFO","fields":{"message":"serving","address":"127.0.0.1:6890"}}"#,
            Some("127.0.0.1:6890"),
        ),
        ("INFO serving address=[::1]:80", Some("[::1]:80")),
        ("INFO engine found name=e1", None),
        ("INFO no address= yet", None),
    ] {
        assert_eq!(address_in(line), address.map(|a| a.parse().unwrap()), "{line}");
    }
}

#[test]
fn a_complaint_is_known_by_its_level() {
    for (line, expected) in [
        ("2026-01-01T00:00:00Z  WARN millrace: disk is full", true),
        ("2026-01-01T00:00:00Z ERROR millrace: bad", true),
        (r#"{"timestamp":"t","level":"ERROR","fields":{}}"#, true),
        ("thread 'main' panicked at src/main.rs:1:1:", true),
        ("2026-01-01T00:00:00Z  INFO millrace: an engine said ERROR", false),
        (r#"{"level":"INFO","fields":{"message":"WARN"}}"#, false),
    ] {
        assert_eq!(is_complaint(line), expected, "{line}");
    }
}

#[test]
fn answers_are_whole_or_nothing() {
    for (name, bytes, body) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Some("hi")),
        ("until close", "HTTP/1.1 200 OK\r\n\r\nhi", Some("hi")),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n",
            Some("hi"),
        ),
        ("short of its length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", None),
        ("last chunk missing", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", None),
        ("no head", "HTTP/1.1 200 OK\r\n", None),
    ] {
        let answer = parse_answer(bytes.as_bytes());
        assert_eq!(answer.map(|a| a.text()), body.map(str::to_owned), "{name}");
    }
}

#[test]
fn metrics_are_read_with_their_labels() {
    let text = "# TYPE a counter\na 1\nb{x=\"1 2\",le=\"+Inf\"} 2.5\nc 3 1700000000\n";
    let metrics: Vec<_> = parse_metrics(text).into_iter().collect();
    let expected = [("a", 1.0), ("b{x=\"1 2\",le=\"+Inf\"}", 2.5), ("c", 3.0)];
    assert_eq!(metrics, expected.map(|(name, value)| (name.to_owned(), value)));
}

/// Does what a script says instead of serving.
fn stand_in(script: &str, args: &[&str]) -> Server {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/stand-in");
    Server::start_program(&program, &[&[script], args].concat())
}

/// Lives until SIGTERM.
const LIVES: &str = "while :; do sleep 0.02; done";

#[test]
fn a_server_is_started_asked_and_ended() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let script = format!("shift 2; echo \"INFO serving address={address} $*\" >&2; {LIVES}");
    let mut server = stand_in(&script, &["--cpus", "0"]);
    let serving = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = socket.read(&mut request).unwrap();
        assert!(request[..read].starts_with(b"GET /metrics HTTP/1.1\r\n"));
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nx 7\n").unwrap();
    });
    assert_eq!(server.address(), address);
    assert_eq!(server.metrics()["x"], 7.0);
    serving.join().unwrap();
    assert!(server.log().contains("--cpus 0 --listen 127.0.0.1:0 --data-dir"), "{}", server.log());
    assert!(server.open_fds() >= 3);
    assert!(server.rss() > 0);
    let (status, took) = server.terminate();
    assert!(status.success());
    assert!(took < SOON);
}

#[test]
fn an_unlisted_complaint_or_an_early_end_fails_the_test() {
    let start = "echo 'INFO serving address=127.0.0.1:1'";
    for (name, script, allowed, fails) in [
        ("quiet", LIVES.to_owned(), "", false),
        ("warns", format!("echo ' WARN millrace: odd' >&2; echo done; {LIVES}"), "", true),
        ("allowed", format!("echo ' WARN millrace: odd' >&2; echo done; {LIVES}"), "odd", false),
        ("ends", "echo done".to_owned(), "", true),
    ] {
        let mut server = stand_in(&format!("{start}; {script}"), &[]);
        if !allowed.is_empty() {
            server = server.allow(allowed);
        }
        if name != "quiet" {
            assert!(server.logs_within(SOON, "done"), "{name}");
        }
        if name == "ends" {
            let stat = format!("/proc/{}/stat", server.pid());
            let is_zombie = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
            assert!(wait_until(SOON, is_zombie));
        }
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(server)));
        assert_eq!(dropped.is_err(), fails, "{name}");
    }
}

#[test]
fn no_start_line_fails_with_the_log_and_without_waiting() {
    let start = Instant::now();
    let panic =
        catch_unwind(|| stand_in("echo 'what went wrong' >&2; exit 3", &[])).err().expect("it cannot start");
    assert!(panic.downcast_ref::<String>().unwrap().contains("what went wrong"));
    assert!(start.elapsed() < SOON);
}

#[test]
fn without_uring_only_uring_is_denied() {
    let setup = || {
        let mut parameters = [0u64; 64];
        // SAFETY: io_uring_setup reads and writes 120 bytes; the array has more and outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        (fd, std::io::Error::last_os_error().raw_os_error())
    };
    // On a thread of its own: the filter never comes off again.
    thread::spawn(move || {
        deny_uring().unwrap();
        assert_eq!(setup(), (-1, Some(libc::EPERM)));
        assert!(fs::read_to_string("/proc/self/stat").is_ok());
        // What is executed from here inherits the filter and still runs.
        let output = Command::new("grep").args(["^Seccomp:", "/proc/self/status"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "Seccomp:\t2");
    })
    .join()
    .unwrap();
    let (fd, error) = setup();
    if fd < 0 {
        return skip("REQUIRE_URING", &format!("io_uring_setup fails with {error:?} even without a filter"));
    }
    // SAFETY: the descriptor is open and nobody else's.
    drop(unsafe {
        <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(i32::try_from(fd).unwrap())
    });
}

/// A listener that gives every connection to `serve`.
fn serve(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(socket));
        }
    });
    address
}

#[test]
fn viewers_read_within_deadlines() {
    let address = serve(|mut socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n0123456789").unwrap();
        // Holds the connection until the viewer closes.
        let mut request = Vec::new();
        socket.read_to_end(&mut request).ok();
    });
    let mut viewer = Viewer::ask(address, "/x").unwrap();
    let (status, headers) = viewer.head(SOON).unwrap();
    assert_eq!(status, 200);
    assert_eq!(headers, [("content-type".to_owned(), "video/mp2t".to_owned())]);
    assert_eq!(viewer.read_exact(4, SOON).unwrap(), b"0123");
    assert_eq!(viewer.read_for(Duration::from_millis(50)).unwrap(), b"456789");
    let late = viewer.read_exact(1, Duration::from_millis(50)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    assert!(!viewer.is_closed_within(Duration::from_millis(50)));
    // The server above closes when the request ends, which a half-open viewer's does.
    let mut half_open = Viewer::half_open(address, "/x").unwrap();
    assert!(half_open.is_closed_within(SOON));
    assert!(get("127.0.0.1:1".parse().unwrap(), "/").is_err());
}

#[test]
fn a_stalled_viewer_takes_little_and_a_slow_one_its_rate() {
    let (sender, written) = channel();
    let address = serve(move |mut socket| {
        let mut head = [0; 1024];
        assert!(socket.read(&mut head).unwrap() > 0);
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 16 << 10).unwrap();
        socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut total = 0;
        while total < 1 << 20 {
            match socket.write(&[0; 4096]) {
                Ok(count) => total += count,
                Err(_) => break,
            }
        }
        sender.send(total).unwrap();
    });
    let _stalled = Viewer::stalled(address, "/x").unwrap();
    let taken = written.recv_timeout(SOON).unwrap();
    assert!(taken < 64 << 10, "a stalled viewer took {taken} bytes");

    let mut slow = Viewer::ask_with_buffer(address, "/x", 4 << 10).unwrap();
    let read = slow.read_slowly(100_000, Duration::from_millis(500)).unwrap();
    assert!((20_000..=60_000).contains(&read), "read {read} bytes at 100 kB/s in 0.5 s");
}

#[test]
fn a_vanished_peer_is_silent() {
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(why) => return skip("REQUIRE_NETNS", &why),
    };
    let listener = TcpListener::bind((netns.host(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut viewer = netns.run(|| Viewer::ask(address, "/x")).unwrap();
    let (mut socket, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), netns.peer());
    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert_eq!(viewer.head(SOON).unwrap().0, 200);

    netns.vanish().unwrap();
    // Bytes leave and are never acknowledged: no reset, no unreachable host.
    rustix::net::sockopt::set_tcp_user_timeout(&socket, 400).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.write_all(b"into the void").unwrap();
    let mut request = [0; 1024];
    assert!(socket.read(&mut request).unwrap() > 0, "the request came before");
    let error = socket.read(&mut request).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error}");
    assert!(viewer.read_for(Duration::from_millis(20)).unwrap().is_empty());
}
