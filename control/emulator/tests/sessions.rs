//! Each scenario of stat, commands and events shows what its name says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use millrace_emulator::Profile;
use serde_json::{Value, json};
use support::*;

/// A session in `dl`, with a reader that has its first bytes.
fn playing(address: SocketAddr, scenario: &str, serial: u64) -> (Session, Client) {
    let session = start(address, &scene(scenario, serial), &format!("p{serial}"));
    let mut reader = session.open();
    assert_eq!(reader.answer(LIMIT, 0).status(), 200);
    (session, reader)
}

fn stat(session: &Session) -> Value {
    session.stat()["response"].clone()
}

/// Bytes come, and are read.
fn flows(reader: &mut Client) -> bool {
    reader.read_until(LIMIT, |all| all.len() > 50_000).0.len() > 50_000
}

#[test]
fn stat_is_empty_at_first() {
    let (_emulator, address) = one();
    let session = start(address, &scene("stat-empty(800ms)", 1), "p");
    assert_eq!(session.stat(), json!({"response": {}, "error": null}));
    eventually("a filled stat", || stat(&session)["status"].is_string());
}

#[test]
fn stat_comes_in_unusual_types() {
    let (_emulator, address) = one();
    let kinds = [
        ("strings", json!("11"), "speed_down"),
        ("floats", json!(11.0), "speed_down"),
        ("nulls", Value::Null, "speed_down"),
        ("camel-case", json!(11), "speedDown"),
    ];
    let play = |(serial, kind): (u64, &str)| playing(address, &format!("stat-types({kind})"), serial);
    let playing_all: Vec<_> = (1..).zip(kinds.iter().map(|k| k.0)).map(play).collect();
    for ((session, _reader), (kind, peers, speed)) in playing_all.iter().zip(kinds) {
        eventually(kind, || stat(session)["peers"] == peers);
        let stat = stat(session);
        assert!(stat.get(speed).is_some() && stat["status"] == "dl", "{kind}: {stat}");
    }
    let (session, _reader) = playing(address, "stat-types(missing)", 5);
    let (whole, _other) = playing(address, "healthy-live", 6);
    let numbers = |s: &Session| stat(s).as_object().unwrap().values().filter(|v| v.is_number()).count();
    assert_eq!(numbers(&session), numbers(&whole).div_ceil(2));
}

#[test]
fn stat_lies_both_ways() {
    let (_emulator, address) = one();
    let (session, mut reader) = playing(address, "stat-lies(rosy)", 1);
    let (bytes, end) = reader.read_until(500 * MS, |all| !all.is_empty());
    assert_eq!((bytes.len(), end), (0, End::Open));
    let told = stat(&session);
    assert_eq!(
        [&told["status"], &told["peers"], &told["speed_down"]],
        [&json!("dl"), &json!(20), &json!(2000)]
    );
    let later = start(address, &scene("stat-lies(rosy,300000b)", 2), "later");
    let mut reader = later.open();
    assert_eq!(reader.answer(LIMIT, 300_000).body.len(), 300_000);
    assert_eq!(reader.read_until(300 * MS, |all| !all.is_empty()), (vec![], End::Open));
    assert_eq!(stat(&later)["peers"], 20);
    let (session, mut reader) = playing(address, "stat-lies(bleak)", 3);
    assert!(flows(&mut reader));
    let told = stat(&session);
    assert_eq!([&told["status"], &told["peers"], &told["speed_down"]], [&json!("dl"), &json!(0), &json!(0)]);
}

#[test]
fn downloaded_falls_now_and_then() {
    let (_emulator, address) = one();
    let (session, _reader) = playing(address, "stat-back-step(600ms)", 1);
    let mut last = 0;
    let mut fell = 0;
    eventually("two falls", || {
        let downloaded = stat(&session)["downloaded"].as_u64().unwrap();
        assert_eq!(downloaded % 16_384, 0);
        fell += u32::from(downloaded + 4_000_000 < last);
        last = downloaded;
        fell == 2
    });
}

#[test]
fn livepos_is_frozen_absent_or_skewed() {
    let (_emulator, address) = one();
    let last = |s: &Session| stat(s)["livepos"]["last_ts"].as_str().map(|v| v.parse::<u64>().unwrap());
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (frozen, _a) = playing(address, "livepos-frozen", 1);
    let (absent, _b) = playing(address, "livepos-absent", 2);
    let (skewed, _c) = playing(address, "livepos-skewed(3600s)", 3);
    let (healthy, _d) = playing(address, "healthy-live", 4);
    let (before, moved) = (last(&frozen).unwrap(), last(&healthy).unwrap() + 2);
    eventually("the healthy one moves", || last(&healthy).unwrap() >= moved);
    // The start is measured in parts of seconds, the frozen time in whole ones.
    assert!(last(&frozen).unwrap() <= before + 1);
    assert_eq!((last(&absent), &stat(&absent)["status"]), (None, &json!("dl")));
    assert!((3598..=3602).contains(&(last(&skewed).unwrap() - unix())));
    assert_eq!(stat(&skewed)["livepos"]["is_live"], "1");
}

#[test]
fn stat_hangs_fails_or_is_slow_while_bytes_flow() {
    let (_emulator, address) = one();
    let (hang, mut a) = playing(address, "stat-hang", 1);
    assert_eq!(Client::get(address, &hang.stat).answer(300 * MS, usize::MAX).status(), 0);
    let (error, mut b) = playing(address, "stat-500", 2);
    assert_eq!(get(address, &error.stat).status(), 500);
    let (slow, mut c) = playing(address, "stat-slow(500ms)", 3);
    let answer = get(address, &slow.stat);
    assert!(answer.took >= 500 * MS && answer.json()["response"]["status"] == "dl", "{answer:?}");
    assert!([&mut a, &mut b, &mut c].into_iter().all(flows));
}

#[test]
fn a_session_can_be_gone_before_its_bytes_are() {
    let (_emulator, address) = one();
    let (session, mut reader) = playing(address, "stat-gone(300ms,1500ms)", 1);
    assert_eq!(stat(&session)["status"], "dl");
    eventually("gone", || session.stat()["error"] == "unknown playback session id");
    assert_eq!(session.stop().json()["error"], "unknown playback session id");
    assert!(flows(&mut reader), "bytes still flow");
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);
    assert_eq!(get(address, &session.playback).status(), 500);
}

#[test]
fn stops_answer_and_stop_as_their_scenario_says() {
    let (_emulator, address) = one();
    let (ok, mut reader) = playing(address, "stop-ok", 1);
    assert_eq!(ok.stop().json(), json!({"response": "ok", "error": null}));
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);

    let (unknown, mut reader) = playing(address, "stop-unknown", 2);
    assert_eq!(unknown.stop().json()["error"], "unknown playback session id");
    assert!(flows(&mut reader) && unknown.stat()["error"].is_null(), "it goes on");

    let (late, mut reader) = playing(address, "stop-late(1500ms)", 3);
    let began = std::time::Instant::now();
    assert_eq!(late.stop().json()["response"], "ok");
    assert_eq!(late.stat()["error"], "unknown playback session id");
    assert!(flows(&mut reader));
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);
    assert!(began.elapsed() >= 1400 * MS, "bytes flowed on: {:?}", began.elapsed());
}

#[test]
fn events_are_polled_where_they_are_asked_for() {
    let (_emulator, address) = one();
    let ask = |scenario: &str, serial| {
        let id = scene(scenario, serial);
        let query = format!("format=json&use_api_events=1&id={id}&pid=e{serial}");
        let json = get(address, &format!("/ace/getstream?{query}")).json();
        let url = path(json["response"]["event_url"].as_str().unwrap());
        (session_of(address, &get(address, &format!("/ace/getstream?{query}"))), url)
    };
    let without = start_json(address, &scene("healthy-live", 9).to_string(), "w").json();
    assert!(without["response"].get("event_url").is_none());
    let changed = json!({"name": "live_changed", "params": {"is_live": 0}});
    for (serial, kind, first) in [
        (1, "live-changed", changed.clone()),
        (
            2,
            "download-stopped",
            json!({
                "name": "download_stopped", "params": {"reason": "missing_option", "option": "proxyServer"}
            }),
        ),
        (3, "double-encoded", json!(changed.to_string())),
    ] {
        let (session, url) = ask(&format!("event-poll({kind})"), serial);
        assert_eq!(get(address, &url).json()["response"], first, "{kind}");
        let second = get(address, &url);
        assert!(second.took >= 450 * MS && second.json()["response"].is_null(), "held: {second:?}");
        let mut held = Client::get(address, &url);
        held.read_until(100 * MS, |_| false);
        session.stop();
        assert_eq!(held.answer(LIMIT, usize::MAX).json()["error"], "unknown playback session id");
    }
    let (_session, url) = ask("event-poll(hold)", 4);
    assert!(get(address, &url).took >= 450 * MS);
    let (_session, url) = ask("event-poll(500)", 5);
    assert_eq!(get(address, &url).status(), 500);
}

#[test]
fn profiles_differ_in_what_another_player_or_format_meets() {
    for (profile, replaced, other) in [(Profile::V3_2_3, 403, 403), (Profile::V3_2_11, 200, 500)] {
        let emulator = emulator_of(profile);
        let address = emulator.addresses()[0];
        let id = scene("healthy-hls", 1);
        let hls = |pid: &str| {
            let target = format!("/ace/manifest.m3u8?format=json&id={id}&pid={pid}");
            session_of(address, &get(address, &target)).playback
        };
        let first = hls("a");
        assert_eq!(get(address, &first).status(), 200);
        let second = hls("b");
        assert_eq!(get(address, &first).status(), replaced, "{profile:?}");
        let as_ts = start(address, &id, "b");
        assert_eq!(get_head(address, &as_ts.playback).status(), other, "{profile:?}");
        assert_eq!(get(address, &second).status(), 200, "the list plays on");
    }
}
