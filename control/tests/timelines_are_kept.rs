//! What shards tell of sessions, as the API tells it on.
#![allow(clippy::unwrap_used, reason = "test code, though not inside a test function")]

mod support;

use std::time::Duration;

use millrace_boundary::{Cause, EngineId, FromShard, SessionNote, ShardId};
use support::{Obedient, Server, eventually};

const SOON: Duration = Duration::from_secs(5);

fn server() -> (Server, Obedient) {
    Server::with_engines(Vec::new())
}

fn note(session: u64, key: &str, at_seconds: f64, what: &'static str) -> SessionNote {
    SessionNote {
        session: format!("{session:016x}"),
        key: key.into(),
        shard: ShardId(0),
        at_seconds,
        what,
        engine: None,
        detail: String::new(),
        ended: None,
    }
}

fn tell(server: &Server, note: SessionNote) {
    let mut note = Some(note);
    eventually("room in the inbox", SOON, || {
        let message = FromShard::Session(Box::new(note.clone().unwrap()));
        server.control.offer(message).ok().and_then(|()| note.take())
    });
}

/// The answer once so many sessions are known.
fn list(server: &Server, query: &str, total: u64) -> Vec<String> {
    let path = format!("/api/v1/sessions{query}");
    let list = eventually(&path, SOON, || {
        Some(server.get(&path).json()).filter(|list| list["total"].as_u64() == Some(total))
    });
    let sessions = list["sessions"].as_array().unwrap();
    sessions.iter().map(|s| s["session"].as_str().unwrap().trim_start_matches('0').to_owned()).collect()
}

#[test]
fn a_session_is_told_from_the_first_request_to_its_end() {
    let (server, _shard) = server();
    tell(&server, note(0xabc, "id:0123", 0.0, "asked"));
    tell(&server, SessionNote { engine: Some(EngineId(4)), ..note(0xabc, "id:0123", 0.5, "starting") });
    let path = "/api/v1/sessions/0000000000000abc";
    let of = |notes: usize| {
        eventually("heard", SOON, || {
            let whole = Some(server.get(path)).filter(|answer| answer.status == 200)?.json();
            (whole["timeline"].as_array().unwrap().len() == notes).then_some(whole)
        })
    };
    let running = of(2);
    assert_eq!((&running["state"], &running["cause"]), (&"running".into(), &serde_json::Value::Null));
    assert_eq!(running["timeline"][1]["engine"], 4);
    let ended = SessionNote {
        detail: "engine 4 sent no data for 90 s".into(),
        ended: Some(Cause::Stalled),
        ..note(0xabc, "id:0123", 91.5, "ended")
    };
    tell(&server, ended);
    let ended = of(3);
    assert_eq!((&ended["state"], &ended["cause"]), (&"ended".into(), &"stalled".into()));
    assert_eq!((&ended["key"], &ended["session"]), (&"id:0123".into(), &"0000000000000abc".into()));
    let words: Vec<_> = ended["timeline"].as_array().unwrap().iter().map(|n| n["what"].clone()).collect();
    assert_eq!(words, ["asked", "starting", "ended"]);
    assert_eq!(server.get("/api/v1/sessions/0000000000000ABC").json(), ended, "however it is spelled");
    let summary = server.get("/api/v1/sessions").json()["sessions"][0].clone();
    let told = serde_json::json!({
        "session": "0000000000000abc", "key": "id:0123", "shard": 0, "state": "ended", "cause": "stalled",
        "detail": "engine 4 sent no data for 90 s", "engine": 4, "seconds": 91.5, "notes": 3
    });
    assert_eq!(summary, told);
    server.stop();
}

#[test]
fn sessions_are_listed_newest_first_by_key_and_state() {
    let (server, _shard) = server();
    for (session, key) in [(1, "id:a"), (2, "id:b c"), (3, "id:a"), (4, "id:a")] {
        tell(&server, note(session, key, 0.0, "asked"));
    }
    tell(&server, SessionNote { ended: Some(Cause::ViewersLeft), ..note(3, "id:a", 9.0, "ended") });
    assert_eq!(list(&server, "?state=ended", 1), ["3"]);
    for (query, total, sessions) in [
        ("", 4, vec!["4", "3", "2", "1"]),
        ("?", 4, vec!["4", "3", "2", "1"]),
        ("?limit=2", 4, vec!["4", "3"]),
        ("?limit=1000", 4, vec!["4", "3", "2", "1"]),
        ("?key=id%3Aa", 3, vec!["4", "3", "1"]),
        ("?key=id:b+c", 1, vec!["2"]),
        ("?key=id:b%20c", 1, vec!["2"]),
        ("?key=id", 0, vec![]),
        ("?state=running", 3, vec!["4", "2", "1"]),
        ("?state=running&key=id:a&limit=1", 2, vec!["4"]),
        ("?page=7", 4, vec!["4", "3", "2", "1"]),
    ] {
        assert_eq!(list(&server, query, total), sessions, "{query}");
    }
    server.stop();
}

#[test]
fn of_very_many_sessions_a_hundred_are_told_unless_more_are_asked_for() {
    let (server, _shard) = server();
    for session in 1..=3_000 {
        tell(&server, SessionNote { ended: Some(Cause::NoPeers), ..note(session, "id:a", 0.0, "ended") });
    }
    let newest = list(&server, "", 2_000);
    let is_heard = || (list(&server, "?limit=1", 2_000) == ["bb8"]).then_some(());
    eventually("the last one", SOON, is_heard);
    assert!(newest.len() == 100 && list(&server, "?limit=1000", 2_000).len() == 1_000);
    let forgotten = server.get("/api/v1/sessions/0000000000000001");
    assert_eq!((forgotten.status, forgotten.problem().as_str()), (404, "session_not_found"));
    server.stop();
}
