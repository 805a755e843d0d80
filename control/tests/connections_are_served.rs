//! Connections that a shard hands over, as players, tools and attackers use them.

mod support;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use support::{Server, http::Reader};

fn server() -> (Server, support::Obedient) {
    Server::with_engines(Vec::new())
}

#[test]
fn a_request_may_be_split_anywhere_between_shard_and_socket() {
    let (server, _shard) = server();
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nUser-Agent: VLC/3.0\r\n\r\n";
    for split in 0..=request.len() {
        let mut client = server.connect(&request[..split]);
        client.write_all(&request[split..]).unwrap();
        let answer = Reader::new(client).answer();
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#), "split at {split}");
    }
    server.stop();
}

#[test]
fn requests_follow_one_another_pipelined_or_not() {
    let (server, _shard) = server();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let pipelined =
        format!("{}{}HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", get("/healthz"), get("/no/such"));
    for split in [0, 10, 40, pipelined.len()] {
        let mut client = server.connect(&pipelined.as_bytes()[..split]);
        client.write_all(&pipelined.as_bytes()[split..]).unwrap();
        let mut reader = Reader::new(client);
        assert_eq!(reader.answer().status, 200);
        assert_eq!(reader.answer().problem(), "not_found");
        let head = reader.try_answer(false).unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some("15")));
        for _ in 0..100 {
            reader.socket.write_all(get("/healthz").as_bytes()).unwrap();
            assert_eq!(reader.answer().status, 200);
        }
    }
    server.stop();
}

#[test]
fn a_stream_asked_for_later_is_sent_to_a_new_connection() {
    let (server, _shard) = server();
    for method in ["GET", "HEAD"] {
        for target in
            ["/ace/getstream?id=0123&pid=a%20b", "/ace/manifest.m3u8?infohash=ff", "/ace/hls/1/2.ts"]
        {
            let mut client = server.connect(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
            client.write_all(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            let mut reader = Reader::new(client);
            assert_eq!(reader.answer().status, 200);
            let answer = reader.try_answer(method == "GET").unwrap();
            assert_eq!((answer.status, answer.header("location")), (307, Some(target)));
            assert_eq!(answer.header("connection"), Some("close"));
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            assert!(reader.is_closed());
        }
    }
    let request = b"OPTIONS /ace/getstream?id=1 HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n\r\n";
    let preflight = Reader::new(server.connect(request)).answer();
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    // What a shard itself hands over would only come round again.
    let first = server.get("/ace/unknown");
    assert_eq!((first.status, first.problem().as_str()), (404, "not_found"));
    server.stop();
}

#[test]
fn refusals_have_one_shape() {
    let (server, _shard) = server();
    for (request, status, code, allow) in [
        ("GET /nothing HTTP/1.1", 404, "not_found", None),
        ("GET /api/v1 HTTP/1.1", 404, "not_found", None),
        ("GET /api/v1/engines/0 HTTP/1.1", 404, "engine_not_found", None),
        ("GET /api/v1/engines/%ff HTTP/1.1", 400, "bad_key", None),
        ("GET /api/v1/engines/99999999999 HTTP/1.1", 404, "engine_not_found", None),
        ("POST /api/v1/status HTTP/1.1", 405, "method_not_allowed", Some("GET,HEAD")),
        ("DELETE / HTTP/1.1", 405, "method_not_allowed", Some("GET,HEAD")),
        ("BREW /metrics HTTP/1.1", 405, "method_not_allowed", Some("GET,HEAD")),
        ("POST /ace/getstream?id=1 HTTP/1.1", 405, "method_not_allowed", Some("GET, HEAD, OPTIONS")),
        ("GET /api/v1/status HTTP/1.1\r\nContent-Length: 65537", 413, "body_too_large", None),
        ("POST /api/v1/engines/0/drain HTTP/1.1", 404, "engine_not_found", None),
        ("DELETE /api/v1/engines/x/drain HTTP/1.1", 404, "engine_not_found", None),
        ("GET /api/v1/engines/0/drain HTTP/1.1", 405, "method_not_allowed", Some("POST,DELETE")),
        ("GET /api/v1/streams/id%3A0123 HTTP/1.1", 404, "stream_not_found", None),
        ("GET /api/v1/streams/%ff HTTP/1.1", 400, "bad_key", None),
        ("POST /api/v1/streams/id%3A0123/migrate HTTP/1.1", 404, "stream_not_found", None),
        ("GET /api/v1/streams/id%3A0123/migrate HTTP/1.1", 405, "method_not_allowed", Some("POST")),
        ("GET /api/v1/sessions/0123456789abcdef HTTP/1.1", 404, "session_not_found", None),
        ("GET /api/v1/sessions/0123456789abcde HTTP/1.1", 400, "bad_session_id", None),
        ("GET /api/v1/sessions/0123456789abcdeg HTTP/1.1", 400, "bad_session_id", None),
        ("GET /api/v1/sessions?limit=0 HTTP/1.1", 400, "bad_parameter", None),
        ("GET /api/v1/sessions?limit=1001 HTTP/1.1", 400, "bad_parameter", None),
        ("GET /api/v1/sessions?limit=-1 HTTP/1.1", 400, "bad_parameter", None),
        ("GET /api/v1/sessions?limit=1&limit=2 HTTP/1.1", 400, "bad_parameter", None),
        ("GET /api/v1/sessions?state=dead HTTP/1.1", 400, "bad_parameter", None),
        ("DELETE /api/v1/contents/blocked/id%3A0123 HTTP/1.1", 404, "content_not_blocked", None),
    ] {
        let client = server.connect(format!("{request}\r\nHost: a\r\n\r\n").as_bytes());
        let answer = Reader::new(client).answer();
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{request}");
        assert_eq!(answer.header("allow"), allow, "{request}");
    }
    server.stop();
}

#[test]
fn a_page_of_another_site_may_look_and_change_nothing() {
    let (server, shard) = server();
    for (method, origin, status) in [
        ("DELETE", "", 202),
        ("DELETE", "Origin: http://tv.example:80\r\n", 202),
        ("DELETE", "Origin: http://TV.example\r\n", 202),
        ("DELETE", "Origin: http://evil.example\r\n", 403),
        ("DELETE", "Origin: http://tv.example:8000\r\n", 403),
        ("DELETE", "Origin: null\r\n", 403),
        ("DELETE", "Origin: \r\n", 403),
        ("DELETE", "Origin: \u{ff}\r\n", 403),
        ("DELETE", "Origin: http://tv.example\r\nOrigin: http://evil.example\r\n", 403),
        ("POST", "Origin: http://evil.example\r\n", 403),
        ("BREW", "Origin: http://evil.example\r\n", 403),
        ("GET", "Origin: http://evil.example\r\n", 200),
    ] {
        let answer = server.ask(method, "/api/v1/contents/blocked", origin);
        assert_eq!(answer.status, status, "{method} {origin}: {answer:?}");
        if status == 403 {
            assert_eq!(answer.problem(), "foreign_origin");
        }
        let taken = || Some(shard.orders()).filter(|orders| orders.len() == 1);
        if status == 202 {
            support::eventually("the order", Duration::from_secs(5), taken);
        } else {
            assert!(shard.orders().is_empty(), "{method} {origin}");
        }
    }
    let foreign = server.ask("POST", "/ace/getstream?id=1", "Origin: http://evil.example\r\n");
    assert_eq!(foreign.status, 403);
    server.stop();
}

#[test]
fn floods_and_garbage_are_refused_in_the_same_shape_and_end_nothing_but_their_connection() {
    let (server, _shard) = server();
    let many: String = (0..2_000).map(|i| format!("X-{i}: y\r\n")).collect();
    let cases: [(&str, Vec<u8>, u16, &str); 7] = [
        ("many headers", format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes(), 431, "head_too_large"),
        (
            "one endless header",
            [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'y'; 200_000]].concat(),
            431,
            "head_too_large",
        ),
        ("an endless path", [b"GET /".as_slice(), &vec![b'y'; 200_000]].concat(), 431, "head_too_large"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(50), 400, "bad_request"),
        ("zeros", vec![0; 100_000], 400, "bad_request"),
        ("words", b"EHLO a\r\nMAIL FROM:<a@b>\r\n\r\n".to_vec(), 400, "bad_request"),
        (
            "two lengths",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
            400,
            "bad_request",
        ),
    ];
    let good = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    for (name, bad, status, code) in cases {
        // First on its connection, behind an answered request, and pipelined.
        for (before, wait) in [(&b""[..], false), (good, true), (good, false), (&good.repeat(20), false)] {
            let bytes = if wait { before.to_vec() } else { [before, &bad].concat() };
            let read = bytes.len().min(16 << 10);
            let mut client = server.connect(&bytes[..read]);
            client.write_all(&bytes[read..]).ok();
            let mut reader = Reader::new(client);
            for _ in 0..before.len() / good.len() {
                assert_eq!(reader.answer().status, 200, "{name}");
            }
            if wait {
                reader.socket.write_all(&bad).ok();
            }
            let answer = reader.try_answer(true).unwrap_or_else(|| panic!("{name}: no answer"));
            assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{name}");
            assert_eq!(answer.header("connection"), Some("close"), "{name}");
            assert!(reader.is_closed(), "{name}");
            assert_eq!(server.get("/healthz").status, 200, "{name}");
        }
    }
    server.stop();
}

#[test]
fn a_head_that_drips_is_cut_off_after_ten_seconds() {
    let (server, _shard) = server();
    let begun = Instant::now();
    let mut client = server.connect(b"GET / HTTP/1.1\r\nX: ");
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0u8; 64];
    loop {
        assert!(begun.elapsed() < Duration::from_secs(15), "it is cut off");
        client.write_all(b"y").ok();
        match std::io::Read::read(&mut client, &mut buffer) {
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => break,
        }
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(9_800)..Duration::from_secs(13)).contains(&took), "{took:?}");
    server.stop();
}

#[test]
fn the_connection_beyond_the_limit_is_told_so_and_closed() {
    let (server, _shard) = server();
    let mut held: Vec<_> = (0..1_024).map(|_| server.connect(b"")).collect();
    let mut beyond = Reader::new(server.connect(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"));
    let answer = beyond.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "too_many_connections"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(beyond.is_closed());
    // Those that are in are served, and one that leaves makes room.
    let mut first = held.swap_remove(0);
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut first = Reader::new(first);
    assert_eq!(first.answer().status, 200);
    assert!(first.is_closed());
    support::eventually("room", Duration::from_secs(5), || {
        (server.get("/healthz").status == 200).then_some(())
    });
    drop(held);
    server.stop();
}

#[test]
fn shutdown_closes_connections() {
    let (server, _shard) = server();
    let mut reader = Reader::new(server.connect(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(reader.answer().status, 200);
    server.stop();
    assert!(reader.is_closed());
}
