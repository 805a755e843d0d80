//! What cannot be given is refused at once, with its cause and what helps, and
//! is given as soon as it can be.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    Answer, Audience, Server,
    pool::{engines, healthy, path_of, serve, serve_ready, signed, status},
    wait_until,
};

mod support;

/// A refusal that needs no engine has to be there within this.
const AT_ONCE: Duration = Duration::from_millis(200);
/// For a start that nothing holds up, and for a slot to be freed.
const SOON: Duration = Duration::from_secs(5);

/// The `error` object of a refusal, checked for what every refusal has.
fn error_of(answer: &Answer, path: &str) -> Value {
    let json: Value =
        serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", answer.text()));
    let error = json["error"].clone();
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{path}: {json}");
    for name in ["code", "message", "remedy"] {
        assert!(error[name].as_str().is_some_and(|text| !text.is_empty()), "{path}: no {name} in {json}");
    }
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("access-control-allow-origin", "*"),
        ("connection", "close"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{path}: {name}");
    }
    error
}

/// Asks for `path` and expects a refusal with 503 and this cause, at once.
fn assert_unavailable(server: &Server, path: &str, cause: &str) {
    let asked = Instant::now();
    let answer = server.get(path);
    let took = asked.elapsed();
    assert_eq!(answer.status, 503, "{path}: {}", answer.text());
    let error = error_of(&answer, path);
    assert_eq!(error["cause"], cause, "{path}: {error}");
    assert_eq!(error["code"], cause, "{path}: {error}");
    let seconds = error["retry_after_seconds"].as_u64().unwrap();
    assert!((1..=60).contains(&seconds), "{path}: {error}");
    assert_eq!(answer.header("retry-after"), Some(&*seconds.to_string()), "{path}");
    assert!(took < AT_ONCE, "{path}: refused only after {took:?}");
}

/// Asks until a viewer gets a whole picture.
fn assert_plays(server: &Server, serial: u64) {
    let plays = || {
        let viewer = Audience::watch(server.address(), &[healthy(serial)], 1);
        wait_until(Duration::from_secs(1), || viewer.seen()[0].report.first.is_some())
            && viewer.leave()[0].report.is_unbroken()
    };
    assert!(wait_until(SOON, plays), "still refused; the log:\n{}", server.log());
}

#[test]
fn without_an_engine_it_is_said_at_once_and_with_one_it_plays() {
    let emulator = engines(1);
    emulator.kill(0);
    let server = serve(&emulator.addresses(), "[engines]\nprobe_interval = \"500ms\"\n");
    for path in [path_of(healthy(1)), path_of(healthy(2)), format!("/ace/{}.ts", healthy(3))] {
        assert_unavailable(&server, &path, "no_engine");
    }
    emulator.revive(0);
    assert!(wait_until(SOON, || status(&server, "/engines/ready") == 1), "{}", server.log());
    assert_plays(&server, 1);
}

#[test]
fn when_all_engines_are_degraded_it_is_said_at_once_until_one_is_well() {
    let emulator = engines(2);
    let settings = "[engines]\nprobe_interval = \"500ms\"\n";
    let server = serve_ready(&emulator, settings).allow("engine turned");
    (0..2).for_each(|engine| emulator.kill(engine));
    assert!(wait_until(SOON * 2, || status(&server, "/engines/degraded") == 2), "{}", server.log());
    // Control knows before the shards do, by one message.
    let path = path_of(healthy(1));
    let told = || server.get(&path).text().contains("no_engine");
    assert!(wait_until(SOON, told));
    assert_unavailable(&server, &path, "no_engine");
    emulator.revive(1);
    assert!(wait_until(SOON * 2, || status(&server, "/engines/ready") == 1), "{}", server.log());
    assert_plays(&server, 1);
    assert_eq!(emulator.engine_counters(0).starts, 0);
}

#[test]
fn an_engine_that_ends_a_stream_when_another_begins_is_given_no_more_than_it_bears() {
    let emulator = engines(2);
    let settings = "[engines]\ncapacity = 4\n[streams]\nlinger = \"0s\"\nstart_budget = \"5s\"\nlongest_start = \"5s\"\n";
    let server = serve_ready(&emulator, settings).allow("engine ends a stream");
    let id = |serial| signed("start-limit(2)".parse().unwrap(), serial);
    let first: Vec<_> = (0..4)
        .map(|serial| {
            let viewer = Audience::watch(server.address(), &[id(serial)], 1);
            assert!(viewer.all_play_within(SOON), "stream {serial}");
            viewer
        })
        .collect();
    let capacities = || -> Vec<u64> {
        let engines: Value = serde_json::from_slice(&server.get("/api/v1/engines").body).unwrap();
        let engines = engines["engines"].as_array().unwrap().clone();
        engines.iter().map(|engine| engine["slots"]["capacity"].as_u64().unwrap()).collect()
    };
    assert_eq!(capacities(), [4, 4]);
    // One too many: streams end and move until both engines are known.
    let fifth = Audience::watch(server.address(), &[id(4)], 1);
    assert!(wait_until(SOON * 3, || capacities() == [2, 2]), "{:?}\n{}", capacities(), server.log());
    let seen = || -> Vec<_> { first.iter().chain([&fifth]).flat_map(Audience::seen).collect() };
    // It plays to the end of what it has.
    let ended = || seen().iter().filter(|seen| seen.ended).count();
    let open = || emulator.counters().open_sessions;
    let is_settled = || ended() == 1 && open() == 4 && status(&server, "/streams/active") == 4;
    assert!(wait_until(SOON * 3, is_settled), "{} ended, {} open\n{}", ended(), open(), server.log());
    let starts = emulator.counters().starts;
    for serial in 5..9 {
        assert_unavailable(&server, &path_of(id(serial)), "engines_full");
    }
    std::thread::sleep(SOON);
    assert_eq!((emulator.counters().starts, open()), (starts, 4), "nobody is disturbed any more");
    assert_eq!(ended(), 1, "one of the five was too many");
    for seen in seen() {
        assert!(seen.report.is_unbroken(), "{:?}", seen.report);
    }
}

#[test]
fn when_all_engines_are_full_it_is_said_at_once_until_a_stream_ends() {
    let emulator = engines(2);
    let server = serve_ready(&emulator, "[engines]\ncapacity = 1\n[streams]\nlinger = \"0s\"\n");
    let first = Audience::watch(server.address(), &[healthy(1)], 2);
    let second = Audience::watch(server.address(), &[healthy(2)], 2);
    assert!(first.all_play_within(SOON) && second.all_play_within(SOON));
    for serial in 3..13 {
        assert_unavailable(&server, &path_of(healthy(serial)), "engines_full");
    }
    assert_eq!(emulator.counters().starts, 2, "a refusal starts nothing");
    assert_plays(&server, 1);
    first.leave();
    assert_plays(&server, 3);
    let seen = second.leave();
    assert!(seen.iter().all(|s| s.report.is_unbroken() && !s.ended), "{seen:#?}");
}

#[test]
fn beyond_the_limit_of_streams_it_is_said_at_once_until_one_ends() {
    let emulator = engines(2);
    let server = serve_ready(&emulator, "[streams]\nmax_streams = 2\nlinger = \"0s\"\n");
    let first = Audience::watch(server.address(), &[healthy(1)], 1);
    let second = Audience::watch(server.address(), &[healthy(2)], 1);
    assert!(first.all_play_within(SOON) && second.all_play_within(SOON));
    for serial in 3..13 {
        assert_unavailable(&server, &path_of(healthy(serial)), "at_capacity");
    }
    assert_eq!(emulator.counters().starts, 2, "a refusal starts nothing");
    first.leave();
    assert_plays(&server, 3);
}

#[test]
fn beyond_the_limit_of_viewers_it_is_said_at_once_until_one_leaves() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "[viewers]\nmax = 5\n");
    let audience = Audience::watch(server.address(), &[healthy(1)], 4);
    let last = Audience::watch(server.address(), &[healthy(1)], 1);
    assert!(audience.all_play_within(SOON) && last.all_play_within(SOON));
    for serial in [1, 1, 2, 3] {
        assert_unavailable(&server, &path_of(healthy(serial)), "at_capacity");
    }
    assert_eq!(emulator.counters().starts, 1, "a refusal starts nothing");
    last.leave();
    assert_plays(&server, 1);
    let seen = audience.leave();
    assert!(seen.iter().all(|s| s.report.is_unbroken() && !s.ended), "{seen:#?}");
}

const HEX: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_wrong_parameter_is_named_with_what_is_wrong_and_costs_no_engine() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let too_long = format!("{HEX}0");
    let two = format!("{HEX}&infohash={HEX}");
    for (query, named, wrong) in [
        ("", "no content", "selected"),
        ("pid=1&format=json", "no content", "selected"),
        ("id=", "`id`", "40 hexadecimal digits"),
        ("id=xyz", "`id`", "40 hexadecimal digits"),
        (&format!("id={}", &HEX[1..]), "`id`", "40 hexadecimal digits"),
        (&format!("id={too_long}"), "`id`", "40 hexadecimal digits"),
        (&format!("id={}g", &HEX[1..]), "`id`", "40 hexadecimal digits"),
        (&format!("id=%20{HEX}"), "`id`", "40 hexadecimal digits"),
        (&format!("content_id={too_long}"), "`content_id`", "40 hexadecimal digits"),
        (&format!("infohash={too_long}"), "`infohash`", "40 hexadecimal digits"),
        ("infohash=../../etc/passwd", "`infohash`", "40 hexadecimal digits"),
        (&format!("id={two}"), "`id` and `infohash`", "both"),
        (&format!("id={HEX}&id={}0", &HEX[1..]), "`id` and `id`", "both"),
        ("id=%zz", "`id`", "percent-encoded"),
        ("id=%ff%fe", "`id`", "percent-encoded"),
        ("id=%00", "`id`", "percent-encoded"),
        ("url=", "`url`", "http or https URL"),
        ("url=file:///etc/passwd", "`url`", "http or https URL"),
        ("url=gopher://example.org/", "`url`", "http or https URL"),
        ("url=http://u:p@example.org/a", "`url`", "user name"),
        ("url=http://127.0.0.1:6878/a", "`url`", "private network"),
        ("url=http%3A%2F%2F169.254.169.254%2Flatest", "`url`", "private network"),
        ("torrent_url=http://[::1]/a", "`torrent_url`", "private network"),
        ("direct_url=http://localhost/a", "`direct_url`", "private network"),
        ("direct_url=ftp://example.org/a", "`direct_url`", "http or https URL"),
        ("magnet=magnet:?xt=urn:btih:1", "`magnet`", "magnet link"),
        ("magnet=http://example.org/", "`magnet`", "magnet link"),
        ("raw_data=", "`raw_data`", "base64"),
        ("raw_data=%3Cxml%3E", "`raw_data`", "base64"),
        (&format!("id={HEX}&file_indexes=x"), "`file_indexes`", "whole number from 0 to 9999"),
        (&format!("id={HEX}&file_indexes=0,1"), "`file_indexes`", "whole number from 0 to 9999"),
        (&format!("id={HEX}&_idx=10000"), "`_idx`", "whole number from 0 to 9999"),
        (&format!("id={HEX}&seekback=-1"), "`seekback`", "whole number from 0 to 86400"),
        (&format!("id={HEX}&live_delay=86401"), "`live_delay`", "whole number from 0 to 86400"),
    ] {
        let path = format!("/ace/getstream?{query}");
        let asked = Instant::now();
        let answer = server.get(&path);
        let took = asked.elapsed();
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        let error = error_of(&answer, &path);
        assert_eq!(error["code"], "bad_parameter", "{path}: {error}");
        assert_eq!(error.get("cause"), None, "{path}: nothing was tried: {error}");
        assert_eq!(answer.header("retry-after"), None, "{path}: asking again would not help");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(named) && message.contains(wrong), "{path}: {message}");
        assert!(took < AT_ONCE, "{path}: refused only after {took:?}");
    }
    for path in [format!("/ace/{too_long}.ts"), "/ace/.ts".to_owned(), "/ace/x.ts".to_owned()] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert_eq!(error_of(&answer, &path)["code"], "bad_parameter");
    }
    assert_eq!(emulator.counters().starts, 0);
    assert_plays(&server, 1);
}

#[test]
fn a_private_url_is_taken_where_the_operator_allows_it() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "[streams]\nprivate_urls = true\n");
    let mut viewer =
        support::Viewer::ask(server.address(), "/ace/getstream?url=http%3A%2F%2F10.0.0.1%2Fa").unwrap();
    assert_eq!(viewer.head(SOON).unwrap().0, 200);
    assert_eq!(emulator.counters().starts, 1);
}
