//! Any request, sent in any way, is answered or closed in bounded time and
//! memory, and only a viewer starts an engine.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    io::Write,
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{Emulator, PathKind};
use serde_json::Value;
use support::{
    Audience, Server, assert_undisturbed,
    mutate::{Random, mutated},
    pool::{engines, healthy, path_of, serve_ready},
    raw::{connect, exchange, first_status, read_all, status_of},
    server::parse_answer,
    wait_until,
};

mod support;

/// For an answer that needs no engine.
const SOON: Duration = Duration::from_secs(3);
/// A request has ten seconds to be whole.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// What a hostile load may leave behind in memory: the allocator's slack for
/// two shards and the control thread.
const SLACK: u64 = 4 << 20;

/// The server answers, plays, and has not been harmed.
fn assert_healthy(server: &Server) {
    let answer = server.get("/healthz");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let audience = Audience::watch(server.address(), &[healthy(99)], 1);
    assert!(audience.all_play_within(SOON), "{:#?}", audience.seen());
    assert_undisturbed(&audience.leave(), SOON);
}

/// Connections that shards hold; one that control answers is not theirs.
fn connections(server: &Server) -> u64 {
    let json: Value = serde_json::from_slice(&server.get("/api/v1/status").body).unwrap();
    let shards = json["shards"].as_array().unwrap();
    shards.iter().map(|shard| shard["connections_open"].as_u64().unwrap()).sum()
}

fn starts(emulator: &Emulator) -> u64 {
    emulator.counters().starts
}

/// A request as a browser sends it.
fn realistic(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: VLC/3.0.21 LibVLC/3.0.21\r\n\
         Accept: */*\r\nAccept-Language: en-GB,en;q=0.9\r\nRange: bytes=0-\r\nIcy-MetaData: 1\r\n\
         Connection: close\r\n\r\n"
    )
}

#[test]
fn a_probe_is_answered_at_once_and_starts_nothing() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let id = healthy(1);
    for path in [path_of(id), format!("/ace/getstream.ts?id={id}"), format!("/ace/{id}.ts")] {
        for (method, expected) in [("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("DELETE", 405)] {
            for version in ["1.0", "1.1"] {
                for extra in ["", "Range: bytes=0-\r\n", "Range: bytes=1000-2000\r\n"] {
                    let request = format!("{method} {path} HTTP/{version}\r\nHost: a\r\n{extra}\r\n");
                    let asked = Instant::now();
                    let (bytes, closed) = exchange(server.address(), request.as_bytes());
                    let took = asked.elapsed();
                    assert_eq!(status_of(&bytes), expected, "{request}");
                    assert!(closed && took < Duration::from_millis(500), "{request}: {took:?}");
                    let is_bare = bytes.ends_with(b"\r\n\r\n");
                    assert_eq!(is_bare, expected < 300, "only a refusal has a body: {request}");
                }
            }
        }
    }
    for path in ["/", "/healthz", "/metrics", "/api/v1/status", "/api/v1/engines", "/nowhere"] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (bytes, closed) = exchange(server.address(), request.as_bytes());
        let expected = if path == "/nowhere" { 404 } else { 200 };
        assert!(closed && bytes.ends_with(b"\r\n\r\n"), "{path}");
        assert_eq!(status_of(&bytes), expected, "{path}");
    }
    assert_eq!(starts(&emulator), 0);
    assert_healthy(&server);
}

#[test]
fn a_scan_of_three_hundred_ids_and_a_thousand_short_visits_start_nothing() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    for serial in 0..300 {
        let path = path_of(healthy(serial));
        for (method, expected) in [("HEAD", 200), ("OPTIONS", 204)] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let (bytes, _) = exchange(server.address(), request.as_bytes());
            assert_eq!(status_of(&bytes), expected, "{path}");
        }
    }
    // A tenth of a second each, with nothing said, or half a request.
    let request = realistic(&path_of(healthy(1)));
    for round in 0..10 {
        let visitors: Vec<_> = (0..100)
            .map(|i| {
                let mut socket = connect(server.address());
                socket.write_all(&request.as_bytes()[..(i * 7 + round) % (request.len() - 1)]).unwrap();
                socket
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        drop(visitors);
    }
    assert!(wait_until(SOON, || connections(&server) == 0), "{} connections", connections(&server));
    assert_eq!(starts(&emulator), 0);
    assert_eq!(emulator.counters().requests.get(&PathKind::Getstream), None);
    assert_healthy(&server);
}

#[test]
fn however_a_request_is_split_it_is_the_same_request() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let wanted = realistic(&path_of(healthy(1)));
    // A head without an engine, a refusal, the API, and a picture.
    for (request, expected) in [
        (wanted.replacen("GET", "HEAD", 1), 200),
        (realistic("/ace/getstream?id=wrong"), 400),
        (realistic("/healthz"), 200),
        (wanted.clone(), 200),
    ] {
        let bytes = request.as_bytes();
        for at in 1..bytes.len() {
            let mut socket = connect(server.address());
            socket.write_all(&bytes[..at]).unwrap();
            // Time to read the one part before the other comes.
            thread::sleep(Duration::from_millis(1));
            socket.write_all(&bytes[at..]).unwrap();
            assert_eq!(first_status(&mut socket), expected, "split at {at}: {request}");
        }
        let mut socket = connect(server.address());
        for byte in bytes {
            socket.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(first_status(&mut socket), expected, "a byte at a time: {request}");
    }
    assert_eq!(starts(&emulator), 1, "one stream for all who asked for it");
    assert_healthy(&server);
}

#[test]
fn odd_and_hostile_requests_get_an_answer_or_a_close() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let id = healthy(1);
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let stream = path_of(id);
    let many = |n: usize| (0..n).map(|i| format!("X-{i}: y\r\n")).collect::<String>();
    let with = |lines: &str| format!("HEAD {stream} HTTP/1.1\r\n{lines}\r\n").into_bytes();
    let tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xaa\xbb\xcc\xdd\x00\x00\x20\x13\x01";
    let close = 0;
    for (name, request, expected) in [
        ("bare LF", head(&stream).replace("\r\n", "\n").into_bytes(), 200),
        ("empty lines before", format!("\r\n\r\n{}", head(&stream)).into_bytes(), 200),
        ("absolute form", head(&format!("http://example.org{stream}")).into_bytes(), 200),
        ("HTTP/1.0", head(&stream).replace("1.1", "1.0").into_bytes(), 200),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        ("HTTP/0.9", format!("GET {stream}\r\n\r\n").into_bytes(), 400),
        ("no version", format!("HEAD {stream} \r\n\r\n").into_bytes(), 400),
        ("lower case", head(&stream).to_lowercase().into_bytes(), 400),
        ("a colon before", with(": x\r\n"), 400),
        ("a folded line", with("A: b\r\n c: d\r\n"), 400),
        ("a space before the colon", with("A : b\r\n"), 400),
        ("a NUL in a name", with("A\0: b\r\n"), 400),
        ("a NUL in a value", with("A: b\0c\r\n"), 400),
        ("NULs", vec![0; 4096], 400),
        ("TLS", tls.to_vec(), 400),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), 400),
        ("SMTP", b"EHLO a\r\nMAIL FROM:<a@b>\r\nDATA\r\n.\r\n".to_vec(), 400),
        ("high bytes", (128..=255).cycle().take(4096).collect(), 400),
        ("100 header lines", with(&many(100)), 200),
        ("101 header lines", with(&many(101)), 431),
        ("a header of 15 KiB", with(&format!("A: {}\r\n", "x".repeat(15 << 10))), 200),
        ("a header of 17 KiB", with(&format!("A: {}\r\n", "x".repeat(17 << 10))), 431),
        ("headers of 1 MiB", with(&format!("A: {}\r\n", "x".repeat(1000)).repeat(1 << 10)), 431),
        ("a header of 1 MiB", with(&format!("A: {}\r\n", "x".repeat(1 << 20))), 431),
        ("a line of 9 KiB", head(&format!("{stream}&x={}", "y".repeat(9 << 10))).into_bytes(), 414),
        ("a line of 1 MiB", head(&format!("{stream}&x={}", "y".repeat(1 << 20))).into_bytes(), 414),
        ("a method of 1 MiB", vec![b'A'; 1 << 20], 414),
        ("an absurd length", with("Content-Length: 99999999999999999999999\r\n"), 200),
        ("a negative length", with("Content-Length: -1\r\n"), 200),
        ("two lengths and chunks", with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 200),
        ("an absurd length for the API", api("Content-Length: 99999999999999999999999\r\n"), 400),
        ("chunks for the API", api("Transfer-Encoding: chunked\r\n"), 200),
        ("an upgrade", with("Upgrade: h2c\r\nConnection: Upgrade\r\n"), 200),
        ("a body", [&with("Content-Length: 4\r\n")[..], b"abcd"].concat(), 200),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(), 404),
        ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(), 404),
        ("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(), 405),
        ("dots", head("/ace/../../../etc/passwd").into_bytes(), 404),
        ("encoded dots", head("/ace/%2e%2e%2fpasswd.ts").into_bytes(), 400),
        ("nothing at all", Vec::new(), close),
    ] {
        let mut socket = connect(server.address());
        socket.write_all(&request).ok();
        socket.shutdown(Shutdown::Write).ok();
        let (bytes, closed) = read_all(&mut socket, SOON);
        assert!(closed, "{name}: neither an answer nor a close; {} bytes", bytes.len());
        assert_eq!(status_of(&bytes), expected, "{name}: {}", String::from_utf8_lossy(&bytes));
        if bytes.len() > 1 && expected >= 400 && expected != 404 && expected != 405 {
            assert_one_json_error(name, &bytes);
        }
    }
    assert_eq!(starts(&emulator), 0);
    assert_healthy(&server);
}

fn api(lines: &str) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n0\r\n\r\n").into_bytes()
}

fn assert_one_json_error(name: &str, bytes: &[u8]) {
    let Some(answer) = parse_answer(bytes) else { panic!("{name}: {}", String::from_utf8_lossy(bytes)) };
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{name}: {e}"));
    for field in ["code", "message", "remedy"] {
        assert!(json["error"][field].as_str().is_some_and(|s| !s.is_empty()), "{name}: {json}");
    }
}

#[test]
fn a_bad_request_behind_a_good_one_is_refused_with_the_same_json() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let good = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let with = |lines: &str| format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
    for (name, bad, expected) in [
        ("NULs", vec![0; 4096], 400),
        ("high bytes", (128..=255).cycle().take(4096).collect(), 400),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(), 400),
        ("HTTP/0.9", b"GET /healthz\r\n\r\n".to_vec(), 400),
        ("a space before the colon", with("A : b\r\n"), 400),
        ("an absurd length", with("Content-Length: 99999999999999999999999\r\n"), 400),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        ("a header of 1 MiB", with(&format!("A: {}\r\n", "x".repeat(1 << 20))), 431),
        ("10,000 header lines", with(&"A: b\r\n".repeat(10_000)), 431),
        ("a line of 1 MiB", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).into_bytes(), 431),
    ] {
        let mut socket = connect(server.address());
        socket.write_all(good.as_bytes()).unwrap();
        assert_eq!(first_status(&mut socket), 200, "{name}");
        // A server that refuses early may have closed before the last byte.
        socket.write_all(&bad).ok();
        let (bytes, closed) = read_all(&mut socket, SOON);
        // Of the first answer a rest may be left.
        let at =
            bytes.windows(9).position(|w| w == b"HTTP/1.1 ").unwrap_or_else(|| panic!("{name}: {bytes:?}"));
        assert!(closed, "{name}");
        assert_eq!(status_of(&bytes[at..]), expected, "{name}");
        assert_one_json_error(name, &bytes[at..]);
        let answer = parse_answer(&bytes[at..]).unwrap();
        assert_eq!(answer.header("connection"), Some("close"), "{name}");
    }
    assert_eq!(starts(&emulator), 0);
    assert_healthy(&server);
}

#[test]
fn a_head_that_never_ends_is_given_up_after_ten_seconds() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    // A byte each second, for a stream and for the API; and nothing at all.
    let slow: Vec<_> = ["GET /ace/getstream?id=", "GET /healthz HTTP/1.1\r\nX: ", ""]
        .into_iter()
        .cycle()
        .take(30)
        .map(|text| {
            let address = server.address();
            thread::spawn(move || {
                let mut socket = connect(address);
                let began = Instant::now();
                socket.write_all(text.as_bytes()).unwrap();
                let mut bytes = Vec::new();
                while began.elapsed() < HEAD_TIME * 2 {
                    let (more, closed) = read_all(&mut socket, Duration::from_secs(1));
                    bytes.extend(more);
                    if closed {
                        return (text, Some(began.elapsed()), status_of(&bytes));
                    }
                    if !text.is_empty() {
                        socket.write_all(b"x").ok();
                    }
                }
                (text, None, 0)
            })
        })
        .collect();
    for thread in slow {
        let (text, closed, status) = thread.join().unwrap();
        let closed = closed.unwrap_or_else(|| panic!("{text:?} is still open"));
        let expected = if text.is_empty() { 0 } else { 408 };
        assert_eq!(status, expected, "{text:?} after {closed:?}");
        let in_time = HEAD_TIME - Duration::from_millis(50)..HEAD_TIME + Duration::from_secs(2);
        assert!(in_time.contains(&closed), "{text:?} was closed after {closed:?}");
    }
    assert!(wait_until(SOON, || connections(&server) == 0), "{} connections", connections(&server));
    assert_eq!(starts(&emulator), 0);
    assert_healthy(&server);
}

#[test]
fn a_stream_path_behind_another_request_is_sent_to_a_new_connection() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let path = path_of(healthy(1));
    let api = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let stream = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");

    let (bytes, closed) = exchange(server.address(), format!("{api}{stream}").as_bytes());
    let text = String::from_utf8_lossy(&bytes);
    assert!(closed && text.starts_with("HTTP/1.1 200"), "{text}");
    let second = text.find("HTTP/1.1 307").unwrap_or_else(|| panic!("no redirect: {text}"));
    let head = text[second..].to_ascii_lowercase();
    assert!(head.contains(&format!("location: {path}\r\n").to_ascii_lowercase()), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert_eq!(starts(&emulator), 0);

    // Behind a stream there is nothing to say: the connection is the stream's.
    let mut socket = connect(server.address());
    socket.write_all(format!("{stream}{api}").as_bytes()).unwrap();
    let (bytes, closed) = read_all(&mut socket, Duration::from_secs(2));
    assert!(!closed && status_of(&bytes) == 200);
    let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(bytes.len() > body + 188 * 100);
    assert!(bytes[body..].chunks(188).all(|packet| packet[0] == 0x47), "only packets follow the head");

    for path in ["/nowhere", "/ace", "/ace/", "/ace/x", "/ace/getstream/", "/ace/a/b.ts", "/ACE/getstream"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["error"]["code"], "not_found", "{path}");
    }
    drop(socket);
}

#[test]
fn two_thousand_damaged_requests_do_no_harm() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "[streams]\nlinger = \"0s\"\n");
    let seeds = [
        realistic(&path_of(healthy(1))).replacen("GET", "HEAD", 1),
        realistic("/ace/getstream?id=wrong"),
        realistic("/api/v1/status"),
        realistic("/healthz").repeat(3),
        format!("OPTIONS /ace/{}.ts HTTP/1.1\r\nHost: a\r\n\r\n", healthy(2)),
        "POST /api/v1/engines HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
    ];
    let run = |round: std::ops::Range<u64>| {
        for number in round {
            let mut random = Random(number);
            let seed = &seeds[random.below(seeds.len())];
            let request = mutated(&mut random, seed.as_bytes());
            let mut socket = connect(server.address());
            let half = random.below(request.len().max(1));
            let sent = socket.write_all(&request[..half]).and_then(|()| socket.write_all(&request[half..]));
            if sent.is_ok() {
                socket.shutdown(Shutdown::Write).ok();
            }
            let (bytes, closed) = read_all(&mut socket, SOON);
            let is_answer = bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 ");
            assert!(is_answer, "request {number}: {}", String::from_utf8_lossy(&bytes));
            // What became a good request for a stream is its viewer until we leave.
            let plays = bytes.windows(10).any(|w| w == b"video/mp2t");
            assert!(closed || plays, "request {number} is open: {}", String::from_utf8_lossy(&request));
        }
    };
    run(0..200);
    // What playing a stream takes is no harm, and is taken before.
    assert_healthy(&server);
    let before = (server.rss(), server.open_fds());
    thread::scope(|scope| {
        for worker in 0..4 {
            let run = &run;
            scope.spawn(move || run(200 + worker * 450..200 + (worker + 1) * 450));
        }
    });
    assert_healthy(&server);
    let grown = server.rss().saturating_sub(before.0);
    assert!(grown < SLACK, "grew by {} KiB", grown >> 10);
    let idle = || server.open_fds() <= before.1 + 8;
    assert!(wait_until(SOON * 4, idle), "{} descriptors of {}", server.open_fds(), before.1);
}

#[test]
fn large_requests_do_not_grow_the_server() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let huge: [Vec<u8>; 4] = [
        vec![b'A'; 1 << 20],
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n{}", "x".repeat(1 << 20))
            .into_bytes(),
    ];
    let round = |server: &Server| {
        thread::scope(|scope| {
            for request in &huge {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let (_, closed) = exchange(server.address(), request);
                        assert!(closed, "{:?}", String::from_utf8_lossy(&request[..20]));
                    });
                }
            }
        });
    };
    round(&server);
    let before = server.rss();
    for _ in 0..40 {
        round(&server);
    }
    let grown = server.rss().saturating_sub(before);
    assert!(grown < SLACK, "1,280 MiB of requests left {} KiB behind", grown >> 10);
    assert_eq!(starts(&emulator), 0);
    assert_healthy(&server);
}
