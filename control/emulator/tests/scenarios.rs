//! Each scenario shows on the wire what its name says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    net::TcpStream,
    time::{Instant, SystemTime},
};

use millrace_emulator::{At, BadJson, Emulator, Scenario};
use support::*;

#[test]
fn ids_and_infohashes() {
    let (emulator, address) = one();
    let (a, b) = (id(Scenario::shared_infohash(), 2), id(Scenario::shared_infohash(), 3));
    assert_ne!(a.to_string(), b.to_string());
    assert_eq!(start(address, &a, "a").infohash, start(address, &b, "b").infohash);
    assert_eq!(emulator.counters().misuse.start_while_playing, 1);

    let id = id(Scenario::id_is_infohash(), 1);
    let by = |name: &str, pid: &str| {
        get(address, &format!("/ace/getstream?format=json&{name}={id}&pid={pid}")).json()
    };
    assert_eq!(by("id", "c")["error"], "failed to load content");
    assert_eq!(by("infohash", "d")["response"]["infohash"], id.to_string());
    assert_eq!(by("id", "e")["error"], serde_json::Value::Null);

    let faster = support::id(Scenario::healthy_bitrate(8_000_000), 1);
    let body = start(address, &faster, "f").read(9_000_000).body;
    assert!(body.len() > 8_000_000, "ten seconds of 8 Mbit/s");
    assert_genuine(&faster, &body);
}

#[test]
fn urls_of_other_hosts() {
    let (_emulator, address) = one();
    for (kind, origin) in [
        (0, "http://172.30.0.7:6878/"),
        (1, "http://localhost/"),
        (2, "http://127.0.0.1:1/"),
        (3, "https://evil.example/"),
    ] {
        let id = id(Scenario::internal_host(kind), 1);
        let answer = start_json(address, &id.to_string(), &format!("p{kind}"));
        assert!(answer.json()["response"]["playback_url"].as_str().unwrap().starts_with(origin));
        let redirect = get_head(address, &session_of(address, &answer).playback);
        assert!(redirect.header("location").unwrap().starts_with(origin));
        assert_eq!(session_of(address, &answer).read(1000).status(), 200, "the path is good");
    }
}

#[test]
fn starts_that_wait_fail_or_hang() {
    let (emulator, address) = one();
    let ask = |scenario, limit| {
        let id = id(scenario, 1);
        Client::get(address, &format!("/ace/getstream?format=json&id={id}&pid=p")).answer(limit, usize::MAX)
    };
    let slow = ask(Scenario::slow_metadata(700 * MS), LIMIT);
    assert!(slow.took >= 700 * MS && slow.json()["error"].is_null(), "{slow:?}");
    let failed = ask(Scenario::metadata_failure(600 * MS), LIMIT);
    assert!(failed.took >= 600 * MS && failed.status() == 200);
    assert_eq!(failed.text(), r#"{"error":"failed to load content","response":null}"#);
    let option = ask(Scenario::missing_option(), LIMIT).json();
    assert_eq!(option["extra_data"]["reason"], "missing_option");
    assert_eq!(option["extra_data"]["option"], "proxyServer");
    let hung = ask(Scenario::metadata_hang(), 600 * MS);
    assert_eq!((hung.head.len(), hung.end), (0, End::Open));
    assert_eq!(emulator.counters().starts, 4);
}

#[test]
fn improper_start_answers() {
    let (_emulator, address) = one();
    for (serial, (name, kind)) in (0..).zip(BadJson::ALL) {
        let id = id(Scenario::bad_json(kind), serial);
        let answer = start_json(address, &id.to_string(), name);
        let json = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let url = json.as_ref().and_then(|j| j.pointer("/response/playback_url")).is_some();
        let expected = match kind {
            BadJson::Internal => (500, false, false),
            BadJson::Truncated | BadJson::Html | BadJson::Jsonp | BadJson::EmptyBody => (200, false, false),
            BadJson::EmptyResponse | BadJson::NoPlaybackUrl => (200, true, false),
            BadJson::StringNumbers | BadJson::UnknownKeys | BadJson::Huge => (200, true, true),
        };
        assert_eq!((answer.status(), json.is_some(), url), expected, "{name}: {:.200}", answer.text());
        assert_eq!(answer.body.len() > 4_900_000, kind == BadJson::Huge, "{name}");
        assert_eq!(answer.body.is_empty(), kind == BadJson::EmptyBody, "{name}");
    }
}

#[test]
fn playback_addresses_that_are_not_ready() {
    let (_emulator, address) = one();
    let slow = start(address, &id(Scenario::slow_start(900 * MS), 1), "a");
    let mut client = Client::get(address, &slow.playback);
    assert_eq!(client.read_until(400 * MS, |all| !all.is_empty()), (vec![], End::Open));
    let stat = slow.stat()["response"].clone();
    assert_eq!(stat["status"], "prebuf");
    assert!(stat["downloaded"].as_u64() > Some(0) && stat["progress"].as_u64() > Some(0), "{stat}");
    assert_eq!(client.answer(LIMIT, 0).status(), 302);

    let errors = start(address, &id(Scenario::slow_start_500(800 * MS), 2), "b");
    let early = get(address, &errors.playback);
    assert_eq!((early.status(), early.header("content-type")), (500, Some("text/plain")));
    assert_eq!(early.text(), "start timeout");
    eventually("the redirect", || get_head(address, &errors.playback).status() == 302);

    let failing = start(address, &id(Scenario::start_failure_after_metadata(), 3), "c");
    let answer = get(address, &failing.playback);
    assert_eq!((answer.status(), answer.text().as_str()), (500, "failed to start"));
    let stat = failing.stat()["response"].clone();
    assert_eq!(
        (stat["status"].as_str(), stat["error_message"].as_str()),
        (Some("err"), Some("failed to start"))
    );
    eventually("the session is unknown", || failing.stat()["error"] == "unknown playback session id");

    let silent = id(Scenario::api_ok_media_hang(), 4);
    let target = format!("/ace/getstream?format=json&id={silent}&pid=d");
    assert_eq!(Client::get(address, &target).answer(500 * MS, 1).status(), 0);
    assert_eq!(get(address, "/webui/api/service?method=get_version").status(), 200);
}

#[test]
fn heads_of_every_kind() {
    let (emulator, address) = one();
    let warm = start(address, &id(Scenario::warmup_empty(2), 1), "a");
    for expected in [0, 0, 100_000] {
        let answer = warm.read(100_000);
        assert_eq!((answer.status(), answer.body.len() >= expected.max(1)), (200, expected > 0));
        drop(answer);
        eventually("the reader is gone", || emulator.counters().open_readers == 0);
    }
    let double = start(address, &id(Scenario::double_status(), 2), "b").read(1);
    assert!(
        double.head.starts_with("HTTP/1.1 200 OK\r\nHTTP/1.1 500 Internal Server Error\r\n"),
        "{double:?}"
    );
    assert_eq!((double.body.len(), double.end), (0, End::Fin));
    for (serial, scenario, lines, bytes) in [
        (3, Scenario::huge_headers_lines(300), 300, 4_000),
        (4, Scenario::huge_headers_line(65_536), 1, 65_536),
        (5, Scenario::huge_headers_line(1 << 20), 1, 1 << 20),
    ] {
        let answer = start(address, &id(scenario, serial), &serial.to_string()).read(1000);
        assert!(answer.status() == 200 && answer.head.len() > bytes && answer.head.lines().count() >= lines);
        assert!(answer.body.len() >= 1000);
    }
    let session = start(address, &id(Scenario::header_trickle(50 * MS), 6), "c");
    let (head, end) = session.open().read_until(600 * MS, |_| false);
    assert!((2..=13).contains(&head.len()) && end == End::Open, "{}", head.len());
    for (serial, kind, begin) in [(7, 0, "<html>"), (8, 1, "{"), (9, 2, "#EXTM3U")] {
        let answer =
            start(address, &id(Scenario::text_body(kind), serial), &serial.to_string()).read(usize::MAX);
        assert!(answer.text().starts_with(begin) && answer.end == End::Fin);
    }
}

#[test]
fn framings_carry_the_same_bytes() {
    let (_emulator, address) = one();
    for (serial, size, adorned) in [(1, 1, false), (2, 65_536, false), (3, 1 << 20, false), (4, 1000, true)] {
        let id = id(Scenario::framing_chunked(size, adorned), serial);
        let session = start(address, &id, &serial.to_string());
        let mut client = session.open();
        let answer = client.answer(LIMIT, 600_000);
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        session.stop();
        let (rest, end) = client.read_until(LIMIT, |_| false);
        let all = [answer.body, rest].concat();
        let last: &[u8] = if adorned { b"0;last\r\nX-Sum: 0\r\nX-End: yes\r\n\r\n" } else { b"0\r\n\r\n" };
        assert!(end == End::Fin && all.ends_with(last), "{serial}");
        let (sizes, payload) = dechunk(&all);
        assert!(sizes.iter().all(|&s| s <= size as usize));
        assert!(sizes.contains(&(size as usize)), "{sizes:?}");
        assert_eq!(all.windows(5).any(|w| w == b";name"), adorned);
        assert_genuine(&id, &payload);
    }
    let plain = start(address, &id(Scenario::framing_close(), 5), "p").read(1000);
    assert_eq!([plain.header("transfer-encoding"), plain.header("content-length")], [None, None]);
}

#[test]
fn endings_come_where_they_are_told_to() {
    let (_emulator, address) = one();
    for (serial, scenario, end, length) in [
        (1, Scenario::disconnect_fin(At::Bytes(300_000)), End::Fin, Some(300_000)),
        (2, Scenario::disconnect_rst(At::Bytes(300_000)), End::Reset, None),
        (3, Scenario::disconnect_fin(At::Time(1500 * MS)), End::Fin, None),
        (4, Scenario::partial_packet_end(At::Bytes(300_000)), End::Fin, None),
    ] {
        let id = id(scenario, serial);
        let answer = start(address, &id, &serial.to_string()).read(usize::MAX);
        assert_eq!(answer.end, end, "{scenario}");
        assert!(length.is_none_or(|l| l == answer.body.len()), "{scenario}");
        assert_genuine(&id, &answer.body);
        match serial {
            3 => assert!(answer.body.len() > 5_000_000),
            4 => assert_eq!((answer.body.len() % 188, answer.body.len() / 300_000), (100, 1)),
            _ => {}
        }
    }
}

#[test]
fn stalls_end_without_a_byte_twice_or_lost() {
    let (_emulator, address) = one();
    let id = id(Scenario::stall(At::Bytes(1_000_001), S), 1);
    let mut client = start(address, &id, "p").open();
    let answer = client.answer(LIMIT, 1_000_001);
    assert_eq!(answer.body.len(), 1_000_001);
    let silence = Instant::now();
    let (more, _) = client.read_until(LIMIT, |all| !all.is_empty());
    assert!(silence.elapsed() > 700 * MS, "{:?}", silence.elapsed());
    let (rest, _) = client.read_until(LIMIT, |all| all.len() > 4_500_000);
    assert_genuine(&id, &[answer.body, more, rest].concat());
}

#[test]
fn paces_other_than_the_broadcasts() {
    let (_emulator, address) = one();
    let id = id(Scenario::burst_then_quiet(40 * S, 2 * S), 1);
    let session = start(address, &id, "a");
    let mut client = session.open();
    let answer = client.answer(LIMIT, 19_900_000);
    assert!(answer.body.len() >= 19_900_000, "forty seconds at line speed");
    client.read_until(300 * MS, |_| false);
    let (silent, _) = client.read_until(S, |all| !all.is_empty());
    assert_eq!(silent.len(), 0);
    let before = session.stat()["response"]["downloaded"].as_u64();
    let (more, _) = client.read_until(LIMIT, |all| all.len() > 600_000);
    assert!(more.len() > 600_000 && session.stat()["response"]["downloaded"].as_u64() > before);

    let trickle = start(address, &support::id(Scenario::slow_trickle(1, 100 * MS), 2), "b");
    let (all, end) = trickle.open().read_until(1500 * MS, |_| false);
    let body = all.len() - head_end(&all).unwrap();
    assert!((5..=15).contains(&body) && end == End::Open, "{body}");
}

#[test]
fn packets_cut_mixed_and_moved() {
    let (_emulator, address) = one();
    let odd = id(Scenario::unaligned_chunks(), 1);
    assert_genuine(&odd, &start(address, &odd, "a").read(2_000_000).body);

    let id = id(Scenario::starts_mid_packet(), 2);
    let body = start(address, &id, "b").read(1_000_000).body;
    assert!((0..100).all(|i| body[88 + 188 * i] == 0x47), "in sync after 88 bytes");
    let mut verifier = id.verifier().unwrap();
    verifier.push(&body, SystemTime::now());
    assert_eq!((verifier.report().unaligned_bytes, verifier.report().lost), (88, 0));

    let id = support::id(Scenario::garbage(333), 3);
    let body = start(address, &id, "c").read(1_000_000).body;
    let mut verifier = id.verifier().unwrap();
    verifier.push(&body, SystemTime::now());
    let r = verifier.report();
    assert!(r.unaligned_bytes > 5 * 333 && r.lost <= 20, "{r:?}");
}

#[test]
fn stops_that_do_not_stop() {
    let (emulator, address) = one();
    let hang = start(address, &id(Scenario::stop_hang(900 * MS), 1), "a");
    let mut reader = hang.open();
    reader.answer(LIMIT, 6_000_000);
    let mut stop = Client::get(address, &format!("{}?method=stop", hang.command));
    assert_eq!(stop.answer(400 * MS, usize::MAX).status(), 0);
    assert_eq!(reader.read_until(10 * MS, |_| false).1, End::Open);
    assert_eq!(stop.answer(LIMIT, usize::MAX).status(), 200);
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);
    let broken = start(address, &id(Scenario::stop_500(), 2), "b");
    assert_eq!(broken.stop().status(), 500);
    assert_eq!(broken.stat()["error"], serde_json::Value::Null);
    assert_eq!(emulator.counters().stops, 2);
}

#[test]
fn engines_that_are_broken_as_a_whole() {
    let (emulator, address) = one();
    let version = "/webui/api/service?method=get_version";
    let request = format!("GET {version} HTTP/1.1\r\n\r\n");
    let id = id(Scenario::healthy(), 1);
    let session = start(address, &id, "p");
    let mut reader = session.open();
    reader.answer(LIMIT, 1000);

    emulator.set_engine_scenario(0, Scenario::http_500_all());
    assert_eq!(get(address, version).status(), 500);
    assert_eq!(get(address, &session.stat).status(), 500);
    emulator.set_engine_scenario(0, Scenario::refuse());
    assert!(TcpStream::connect(address).is_err());
    emulator.set_engine_scenario(0, Scenario::rst_on_accept());
    let reset = Client::open(address, &request).map(|mut c| c.read_until(LIMIT, |_| false));
    assert!(matches!(&reset, Err(_) | Ok((_, End::Reset))), "{reset:?}");
    emulator.set_engine_scenario(0, Scenario::hang_accept());
    let hung = Client::get(address, version).answer(500 * MS, usize::MAX);
    assert_eq!((hung.status(), hung.end), (0, End::Open));
    assert!(
        reader.read_until(LIMIT, |all| all.len() > 6_000_000).0.len() > 6_000_000,
        "a running stream runs on"
    );
    emulator.set_engine_scenario(0, Scenario::healthy());
    assert_eq!(get(address, version).status(), 200);
}

#[test]
fn scenarios_go_by_precedence() {
    let emulator = emulator(2);
    let first = emulator.addresses()[0];
    let error =
        |address, id: &str| start_json(address, id, &format!("{:?}", Instant::now())).json()["error"].clone();
    let plain = "0123456789".repeat(4);
    let coded = id(Scenario::missing_option(), 1).to_string();
    let healthy = id(Scenario::healthy(), 2).to_string();
    let null = serde_json::Value::Null;
    assert_eq!([error(first, &plain), error(first, &healthy)], [null.clone(), null.clone()]);
    assert_eq!(error(first, &coded), "missing option");
    emulator.set_engine_scenario(0, Scenario::metadata_failure(MS));
    assert_eq!(error(first, &plain), "failed to load content");
    assert_eq!(error(first, &healthy), "failed to load content", "a healthy code has no opinion");
    assert_eq!(error(first, &coded), "missing option");
    emulator.set_scenario(Some(0), &coded, Scenario::healthy());
    emulator.set_scenario(Some(0), &plain, Scenario::healthy());
    assert_eq!([error(first, &coded), error(first, &plain)], [null.clone(), null]);
    assert_eq!(error(emulator.addresses()[1], &coded), "missing option", "the other engine is as it was");
}

#[test]
fn the_control_port_does_what_the_library_does() {
    let control = Some("127.0.0.1:0".parse().unwrap());
    let emulator = Emulator::start(millrace_emulator::EmulatorConfig { control, ..config(2) }).unwrap();
    let (address, control) = (emulator.addresses()[0], emulator.control_address().unwrap());
    let post = |target: &str, body: &str| {
        let request = format!("POST {target} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Client::open(control, &request).unwrap().answer(LIMIT, usize::MAX).status()
    };
    let id = id(Scenario::healthy(), 1);
    start(address, &id, "p");
    let counters = get(control, "/counters").json();
    assert_eq!(
        (&counters["starts"], &counters["requests"]["getstream"]),
        (&1.into(), &1.into()),
        "{counters}"
    );
    assert_eq!(counters["per_content"][id.infohash()]["starts"], 1);
    assert_eq!(get(control, "/engines/1/counters").json()["starts"], 0);
    assert_eq!(get(control, "/engines").json()[0]["address"], address.to_string());
    let order = format!(r#"{{"engine": 0, "content": "{id}", "scenario": "missing-option"}}"#);
    assert_eq!(post("/scenario", &order), 200);
    assert_eq!(start_json(address, &id.to_string(), "q").json()["error"], "missing option");
    assert_eq!(post("/engines/0/kill", ""), 200);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(post("/engines/0/revive", ""), 200);
    assert_eq!(get(address, "/webui/api/service?method=get_version").status(), 200);
    for (target, body, status) in [
        ("/engines/2/kill", "", 404),
        ("/engines/0/explode", "", 404),
        ("/scenario", "{}", 400),
        ("/scenario", r#"{"scenario": "stall(x)"}"#, 400),
        ("/scenario", r#"{"engine": 9, "scenario": "refuse"}"#, 404),
    ] {
        assert_eq!(post(target, body), status, "{target} {body}");
    }
    assert_eq!(get(address, "/counters").status(), 500, "engines know nothing of control");
}
