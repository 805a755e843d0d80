//! Each scenario of the HTTP level shows on the wire what its name says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use support::*;

#[test]
fn redirects_lead_where_the_scenario_says() {
    let (_emulator, address) = one();
    let here = format!("http://{address}");
    for (serial, scenario, status, origin, goes_on) in [
        (1, "redirect-normal", 302, here.as_str(), true),
        (2, "redirect-relative", 302, "", true),
        (3, "redirect-off-host", 302, "https://evil.example", true),
        (4, "redirect-loop", 302, &here, false),
        (5, "redirect-status(301)", 301, &here, true),
        (6, "redirect-status(303)", 303, &here, true),
        (7, "redirect-status(307)", 307, &here, true),
        (8, "redirect-status(308)", 308, &here, true),
    ] {
        let id = scene(scenario, serial);
        let target = format!("/ace/getstream?id={id}&pid=a{serial}");
        let first = get_head(address, &target);
        let to = first.header("location").unwrap();
        let next = if goes_on { "/ace/r/" } else { target.as_str() };
        assert_eq!(first.status(), status, "{scenario}");
        assert!(to.starts_with(&format!("{origin}{next}")), "{scenario}: {to}");
        let session = start(address, &id, &format!("b{serial}"));
        let second = get_head(address, &session.playback);
        let to = second.header("location").unwrap();
        let next = if goes_on { "/content/" } else { session.playback.as_str() };
        assert_eq!(second.status(), status, "{scenario}");
        assert!(to.starts_with(&format!("{origin}{next}")), "{scenario}: {to}");
        if goes_on {
            let path = to.strip_prefix(origin).unwrap();
            assert_genuine(&id, &Client::get(address, path).answer(LIMIT, 200_000).body);
        }
    }
}

/// All that comes until `enough`, as text, and what comes after the head.
fn raw(address: SocketAddr, target: &str, newline: &str, body: usize) -> (String, Vec<u8>) {
    let blank = newline.repeat(2);
    let at = |all: &[u8]| all.windows(blank.len()).position(|w| w == blank.as_bytes());
    let (all, _) = Client::get(address, target)
        .read_until(LIMIT, |all| at(all).is_some_and(|at| all.len() >= at + blank.len() + body));
    let end = at(&all).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&all))) + blank.len();
    (String::from_utf8_lossy(&all[..end]).into_owned(), all[end..].to_vec())
}

#[test]
fn odd_heads_are_odd_in_their_way_on_every_answer() {
    let (_emulator, address) = one();
    for (serial, kind, newline) in [
        (1, "bare-lf", "\n"),
        (2, "no-reason", "\r\n"),
        (3, "http-1.0", "\r\n"),
        (4, "no-date", "\r\n"),
        (5, "duplicates", "\r\n"),
        (6, "length-and-chunks", "\r\n"),
    ] {
        let id = scene(&format!("odd-http({kind})"), serial);
        let target = format!("/ace/getstream?format=json&id={id}&pid={kind}");
        let (head, body) = raw(address, &target, newline, 100);
        let is_odd = |head: &str| match kind {
            "bare-lf" => !head.contains('\r'),
            "no-reason" => head.starts_with("HTTP/1.1 200\r\n"),
            "http-1.0" => head.starts_with("HTTP/1.0 200 OK\r\n"),
            "no-date" => !head.contains("Date: "),
            "duplicates" => head.matches("Content-Type: ").count() == 2,
            _ => head.contains("Content-Length: ") && head.contains("Transfer-Encoding: chunked"),
        };
        assert!(is_odd(&head), "{kind}: {head}");
        let body = if kind == "length-and-chunks" { dechunk(&body).1 } else { body };
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let playback = path(json["response"]["playback_url"].as_str().unwrap());
        let (redirect, _) = raw(address, &playback, newline, 0);
        let to = redirect.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap();
        let (head, body) = raw(address, &path(to), newline, 300_000);
        assert!(is_odd(&head), "{kind}: {head}");
        let body = if kind == "length-and-chunks" { dechunk(&body).1 } else { body };
        assert_genuine(&id, &body);
    }
    let closing = scene("odd-http(http-1.0)", 7);
    let answer = Client::get(address, &format!("/ace/getstream?format=json&id={closing}&pid=z"))
        .read_until(LIMIT, |_| false);
    assert_eq!(answer.1, End::Fin, "1.0 closes");
}

#[test]
fn lengths_and_types_of_the_stream_mean_nothing() {
    let (_emulator, address) = one();
    for (serial, scenario, name, value) in [
        (1, "framing-length(huge)", "content-length", Some("9223372036854775807")),
        (2, "framing-length(overflow)", "content-length", Some("18446744073709551616")),
        (3, "framing-length(negative)", "content-length", Some("-1")),
        (4, "framing-length(text)", "content-length", Some("many")),
        (5, "content-type(octet-stream)", "content-type", Some("application/octet-stream")),
        (6, "content-type(none)", "content-type", None),
        (7, "content-type(html)", "content-type", Some("text/html; charset=utf-8")),
    ] {
        let id = scene(scenario, serial);
        let session = start(address, &id, scenario);
        let mut client = session.open();
        let (all, _) = client.read_until(LIMIT, |all| all.len() > 300_000);
        let at = head_end(&all).unwrap();
        let head = String::from_utf8_lossy(&all[..at]).into_owned();
        let answer = Answer { head, body: vec![], end: End::Open, took: MS };
        assert_eq!((answer.status(), answer.header(name)), (200, value), "{scenario}");
        assert_genuine(&id, &all[at..]);
    }
}

#[test]
fn json_comes_as_gzip_though_nobody_asked() {
    let (_emulator, address) = one();
    let answer = start_json(address, &scene("gzip-anyway", 1).to_string(), "p");
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let out = gzip.wait_with_output().unwrap();
    assert!(out.status.success());
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(json["response"]["playback_url"].is_string(), "{json}");
}

#[test]
fn a_share_of_requests_is_answered_500() {
    let (emulator, address) = one();
    set(&emulator, "http-500-rate(40)");
    let mut client = Client::get(address, VERSION);
    let mut errors = 0;
    for _ in 0..300 {
        errors += u32::from(client.answer(LIMIT, usize::MAX).status() == 500);
        client.stream.write_all(format!("GET {VERSION} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    }
    assert!((80..160).contains(&errors), "{errors} of 300");
    set(&emulator, "healthy-live");
    let always = scene("http-500-rate(100)", 1).to_string();
    assert_eq!(start_json(address, &always, "p").status(), 500);
    assert_eq!(get(address, VERSION).status(), 200, "only this content's requests");
}

#[test]
fn a_full_backlog_connects_and_never_answers() {
    let (emulator, address) = one();
    let session = start(address, &scene("healthy-live", 1), "p");
    let mut reader = session.open();
    reader.answer(LIMIT, 1000);
    set(&emulator, "hang-backlog");
    let mut waiting = Client::get(address, VERSION);
    assert_eq!(waiting.answer(400 * MS, usize::MAX).status(), 0);
    assert!(reader.read_until(LIMIT, |all| all.len() > 6_000_000).0.len() > 6_000_000);
    let requests = emulator.counters().requests;
    assert_eq!(requests.get(&millrace_emulator::PathKind::Service), None, "nothing was accepted");
    set(&emulator, "healthy-live");
    assert_eq!(waiting.answer(LIMIT, usize::MAX).status(), 200);
}

#[test]
fn an_api_that_hangs_leaves_media_alone() {
    let (emulator, address) = one();
    let (a, b) =
        (start(address, &scene("healthy-live", 1), "a"), start(address, &scene("healthy-live", 2), "b"));
    let mut reader = a.open();
    reader.answer(LIMIT, 1000);
    set(&emulator, "api-hang-media-ok");
    let again = format!("/ace/getstream?format=json&id={}&pid=c", scene("healthy-live", 3));
    for target in [VERSION, &a.stat, &a.command, &again] {
        let hung = Client::get(address, target).answer(200 * MS, usize::MAX);
        assert_eq!((hung.status(), hung.end), (0, End::Open), "{target}");
    }
    assert!(reader.read_until(LIMIT, |all| all.len() > 6_000_000).0.len() > 6_000_000);
    assert_eq!(b.read(1000).status(), 200);
}

#[test]
fn connections_beyond_the_threads_wait_for_one() {
    let (emulator, address) = one();
    set(&emulator, "thread-exhaustion(2)");
    let session = start(address, &scene("healthy-live", 1), "p");
    let mut reader = session.open();
    reader.answer(LIMIT, 1000);
    let idle = TcpStream::connect(address).unwrap();
    // The two that the start and the redirect needed are free again.
    let mut waiting = Client::get(address, VERSION);
    assert_eq!(waiting.answer(400 * MS, usize::MAX).status(), 0);
    assert!(reader.read_until(LIMIT, |all| all.len() > 100_000).0.len() > 100_000);
    drop(idle);
    assert_eq!(waiting.answer(LIMIT, usize::MAX).status(), 200);
}

#[test]
fn an_idle_connection_closes_as_the_next_request_comes() {
    let (emulator, address) = one();
    set(&emulator, "keepalive-close");
    let mut client = Client::get(address, VERSION);
    assert_eq!(client.answer(LIMIT, usize::MAX).status(), 200);
    let (early, end) = client.read_until(200 * MS, |_| false);
    assert_eq!((early.len(), end), (0, End::Open), "open while idle");
    let id = scene("healthy-live", 1);
    let request = format!("GET /ace/getstream?format=json&id={id}&pid=p HTTP/1.1\r\n\r\n");
    client.stream.write_all(request.as_bytes()).unwrap();
    let (bytes, end) = client.read_until(LIMIT, |_| false);
    assert!(bytes.is_empty() && end != End::Open, "{end:?}");
    assert_eq!(emulator.counters().starts, 0, "the request was not read");
    assert_eq!(start_json(address, &id.to_string(), "p").status(), 200, "a new connection is served");
}

#[test]
fn a_content_may_hang_at_its_start_alone() {
    let (_emulator, address) = one();
    let hung = scene("hang-backlog", 1);
    let target = format!("/ace/getstream?format=json&id={hung}&pid=p");
    assert_eq!(Client::get(address, &target).answer(300 * MS, 1).status(), 0);
    assert_eq!(get(address, VERSION).status(), 200);
}
