//! Who may change the fleet, and what a fleet that is not in Docker says.
#![allow(clippy::unwrap_used, reason = "test code, though not inside a test function")]

mod support;

use std::time::Duration;

use millrace_control::Subnet;
use support::{
    Obedient, Options, Server,
    engine::{FakeEngine, GOOD},
    http::{Answer, Reader},
};

const SOON: Duration = Duration::from_secs(5);

/// What is for administrators alone.
const GUARDED: [(&str, &str); 20] = [
    ("PATCH", "/api/v1/fleet"),
    ("POST", "/api/v1/fleet/breaker/reset"),
    ("POST", "/api/v1/provision"),
    ("POST", "/api/v1/provision/acestream"),
    ("POST", "/api/v1/scale/2"),
    ("DELETE", "/api/v1/scale"),
    ("POST", "/api/v1/reconcile"),
    ("POST", "/api/v1/reprovision"),
    ("POST", "/api/v1/image/pull"),
    ("DELETE", "/api/v1/engines/0"),
    ("POST", "/api/v1/engines/0/restart"),
    ("POST", "/api/v1/engines/0/recreate"),
    ("GET", "/api/v1/engines/0/logs"),
    ("GET", "/api/v1/containers/aaaaaa/logs"),
    ("GET", "/api/v1/templates/export"),
    ("POST", "/api/v1/templates/import"),
    ("PUT", "/api/v1/templates/a"),
    ("DELETE", "/api/v1/templates/a"),
    ("POST", "/api/v1/templates/a/activate"),
    ("POST", "/api/v1/templates/a/rename"),
];

/// What anybody may ask.
const OPEN: [&str; 7] = [
    "/api/v1/fleet",
    "/api/v1/events",
    "/api/v1/templates",
    "/api/v1/templates/a",
    "/api/v1/reprovision",
    "/api/v1/engines/stats",
    "/api/v1/engines/0/stats",
];

fn server(admins: Vec<Subnet>) -> (Server, Obedient, FakeEngine) {
    let engine = FakeEngine::new(GOOD);
    let options = Options { engines: vec![engine.address], admins, ..Options::default() };
    let (server, mut inboxes) = Server::start(options);
    let shard = Obedient::new(0, inboxes.remove(0), server.control.clone());
    assert_eq!(server.ready.recv_timeout(SOON), Ok(1));
    (server, shard, engine)
}

fn ask(server: &Server, method: &str, path: &str, host: &str, headers: &str) -> Answer {
    let body = if method == "POST" && path.ends_with("/rename") { r#"{"to":"b"}"# } else { "{}" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Reader::new(server.connect(request.as_bytes())).answer()
}

fn code(answer: &Answer) -> (u16, String) {
    let json = answer.json();
    assert!(json["error"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{json}");
    (answer.status, json["error"]["code"].as_str().unwrap().to_owned())
}

#[test]
fn whoever_is_no_administrator_changes_nothing_and_reads_no_secret() {
    let (server, _shard, _engine) = server(Subnet::LOCAL.into());
    for (method, path) in GUARDED {
        for (name, host, headers, expected) in [
            ("an administrator", "127.0.0.1:8000", "", (409, "no_docker_fleet")),
            ("by a private name", "nas.lan:8000", "", (409, "no_docker_fleet")),
            (
                "a page of our own",
                "localhost:8000",
                "Origin: http://localhost:8000\r\n",
                (409, "no_docker_fleet"),
            ),
            ("X-Forwarded-For", "localhost", "X-Forwarded-For: 10.0.0.1\r\n", (403, "not_an_admin")),
            ("even an empty one", "localhost", "X-Forwarded-For:\r\n", (403, "not_an_admin")),
            ("X-Real-IP", "localhost", "x-real-ip: 127.0.0.1\r\n", (403, "not_an_admin")),
            ("Forwarded", "localhost", "Forwarded: for=127.0.0.1\r\n", (403, "not_an_admin")),
            ("Via", "localhost", "Via: 1.1 proxy\r\n", (403, "not_an_admin")),
            (
                "a page of another site",
                "localhost",
                "Origin: http://evil.example\r\n",
                (403, "foreign_origin"),
            ),
            ("a name of anybody's", "evil.example", "", (403, "not_an_admin")),
        ] {
            let (status, code) = code(&ask(&server, method, path, host, headers));
            assert_eq!((status, code.as_str()), expected, "{method} {path}: {name}");
        }
    }
    server.stop();
}

#[test]
fn only_peers_in_the_networks_of_the_settings_are_administrators() {
    for (admins, may) in [
        (vec!["10.0.0.0/8"], false),
        (vec![], false),
        (vec!["::/0"], false),
        (vec!["10.0.0.0/8", "127.0.0.1"], true),
        (vec!["0.0.0.0/0"], true),
    ] {
        let networks = admins.iter().map(|text| Subnet::parse(text).unwrap()).collect();
        let (server, _shard, _engine) = server(networks);
        let answer = ask(&server, "POST", "/api/v1/reconcile", "localhost", "");
        let expected = if may { (409, "no_docker_fleet") } else { (403, "not_an_admin") };
        let (status, code) = code(&answer);
        assert_eq!((status, code.as_str()), expected, "{admins:?}");
        // What was open to everybody before still is.
        let drained = ask(&server, "POST", "/api/v1/engines/0/drain", "tv.example", "Via: 1.1 proxy\r\n");
        assert_eq!(drained.status, 202, "{admins:?}");
        server.stop();
    }
}

#[test]
fn a_fleet_that_is_not_in_docker_says_so() {
    let (server, _shard, _engine) = server(Subnet::LOCAL.into());
    for path in OPEN {
        let answer = ask(&server, "GET", path, "tv.example", "Via: 1.1 proxy\r\n");
        assert_eq!(code(&answer), (409, "no_docker_fleet".to_owned()), "{path}");
    }
    let engine = server.engine(0);
    assert_eq!((&engine["managed"], &engine["healthy"]), (&"found".into(), &true.into()), "{engine}");
    assert!(engine.get("stage").is_none() && engine["usage"].is_null(), "{engine}");
    for (method, path, expected) in [
        ("POST", "/api/v1/provision/x", (404, "not_found")),
        ("GET", "/api/v1/provision", (405, "method_not_allowed")),
        ("PUT", "/api/v1/templates", (405, "method_not_allowed")),
        ("GET", "/api/v1/events?limit=x", (400, "bad_query")),
        ("GET", "/api/v1/events?since=1", (400, "bad_query")),
        ("GET", "/api/v1/engines/0/logs?tail=-1", (400, "bad_query")),
        ("GET", "/api/v1/engines/0/logs?follow=maybe", (400, "bad_query")),
        ("DELETE", "/api/v1/engines/0?force=1", (400, "bad_query")),
    ] {
        let (status, code) = code(&ask(&server, method, path, "localhost", ""));
        assert_eq!((status, code.as_str()), expected, "{method} {path}");
    }
    for body in ["{", "[]", r#"{"count":"x"}"#, r#"{"counts":1}"#, "\u{1}"] {
        let request = format!(
            "POST /api/v1/provision HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = Reader::new(server.connect(request.as_bytes())).answer();
        assert_eq!(code(&answer), (400, "bad_body".to_owned()), "{body}");
    }
    server.stop();
}

#[test]
fn only_an_import_may_be_long_and_that_not_without_end() {
    let (server, _shard, _engine) = server(Subnet::LOCAL.into());
    for (path, length, expected) in [
        ("/api/v1/provision", 64 << 10, (400, "bad_body")),
        ("/api/v1/provision", (64 << 10) + 1, (413, "body_too_large")),
        ("/api/v1/templates/import", 1 << 20, (409, "no_docker_fleet")),
        ("/api/v1/templates/import", (1 << 20) + 1, (413, "body_too_large")),
    ] {
        use std::io::Write;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut socket = server.connect(head.as_bytes());
        let body = format!("\"{}\"", "x".repeat(length - 2));
        // One that is refused by its head is not read.
        socket.write_all(body.as_bytes()).ok();
        let (status, code) = code(&Reader::new(socket).answer());
        assert_eq!((status, code.as_str()), expected, "{path} {length}");
    }
    server.stop();
}
