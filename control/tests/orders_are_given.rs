//! What people ask of streams, contents and engines, and what shards get to
//! hear of it.
#![allow(clippy::unwrap_used, reason = "test code, though not inside a test function")]

mod support;

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use millrace_boundary::{
    BlockedContent, Cause, EngineId, EngineState, Epoch, FromShard, ShardId, StreamSample, StreamState,
    ToShard,
};
use support::{
    Obedient, Options, Order, Server,
    engine::{Behaviour, FakeEngine, GOOD},
    eventually,
    http::Reader,
    sample, stream,
};

const SOON: Duration = Duration::from_secs(5);
const SWARM: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Two shards and as many good engines as asked for, all ready.
fn server(engines: usize) -> (Server, Vec<Obedient>, Vec<FakeEngine>) {
    let engines: Vec<_> = (0..engines).map(|_| FakeEngine::new(GOOD)).collect();
    let addresses = engines.iter().map(|e| e.address).collect();
    let (server, inboxes) = Server::start(Options { engines: addresses, shards: 2, ..Options::default() });
    let shards = (0u16..).zip(inboxes).map(|(i, inbox)| Obedient::new(i, inbox, server.control.clone()));
    let shards = shards.collect();
    assert_eq!(server.ready.recv_timeout(SOON), Ok(engines.len()));
    (server, shards, engines)
}

fn blocked(key: &str, seconds_left: f64) -> BlockedContent {
    BlockedContent { key: key.into(), cause: Cause::NoPeers, seconds_left, failed_sessions: 3 }
}

/// Tells of streams and contents on shard 1, and waits until that is heard.
fn tell(server: &Server, streams: Vec<StreamSample>, blocked: Vec<BlockedContent>) {
    let mut sample = sample(1, Epoch(1));
    (sample.viewers, sample.streams, sample.blocked) = (fresh(), streams, blocked);
    let viewers = sample.viewers;
    server.control.offer(FromShard::Sample(Box::new(sample))).unwrap();
    eventually("heard", SOON, || (server.get("/api/v1/status").json()["viewers"] == viewers).then_some(()));
}

/// A number not used before.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn played(key: &str, session: &str, state: StreamState, infohash: Option<&str>) -> StreamSample {
    StreamSample {
        session: session.into(),
        infohash: infohash.map(Into::into),
        shard: ShardId(1),
        ..stream(key, state)
    }
}

#[test]
fn a_stream_is_found_by_key_swarm_and_session_and_its_owner_is_told_to_move_it() {
    let (server, shards, _engines) = server(2);
    let url = "url:http://a.example/b c?d=é&e";
    tell(
        &server,
        vec![
            played("id:0123", "00000000000000ab", StreamState::Live, Some(SWARM)),
            played(url, "ffffffffffffffff", StreamState::Stalled, None),
        ],
        Vec::new(),
    );
    for (asked, key, session) in [
        ("id:0123", "id:0123", 0xab),
        ("id%3A0123", "id:0123", 0xab),
        ("00000000000000AB", "id:0123", 0xab),
        (SWARM, "id:0123", 0xab),
        (&format!("infohash:{}", SWARM.to_uppercase()), "id:0123", 0xab),
        ("url%3Ahttp%3A%2F%2Fa.example%2Fb%20c%3Fd%3D%C3%A9%26e", url, u64::MAX),
        ("ffffffffffffffff", url, u64::MAX),
    ] {
        let found = server.get(&format!("/api/v1/streams/{asked}"));
        assert_eq!((found.status, &found.json()["key"]), (200, &key.into()), "{asked}");
        assert_eq!((&found.json()["peers"], &found.json()["sources"]), (&7.into(), &1.into()));
        let answer = server.ask("POST", &format!("/api/v1/streams/{asked}/migrate"), "");
        assert_eq!(answer.status, 202, "{asked}: {answer:?}");
        let id = format!("{session:016x}");
        let told = serde_json::json!({ "session": id, "timeline": format!("/api/v1/sessions/{id}") });
        assert_eq!(answer.json(), told, "{asked}");
        let orders = eventually("told", SOON, || Some(shards[1].orders()).filter(|o| !o.is_empty()));
        assert_eq!(orders, [Order::Migrate(session)], "{asked}");
    }
    assert!(shards[0].orders().is_empty(), "not its owner");
    assert_eq!(server.get("/api/v1/streams/id:012").problem(), "stream_not_found");
    server.stop();
}

#[test]
fn a_stream_is_stopped_by_its_owner_and_its_viewers_by_every_shard() {
    let (server, shards, _engines) = server(2);
    for state in [StreamState::Starting, StreamState::Live, StreamState::Lingering] {
        tell(&server, vec![played("id:0123", "00000000000000ab", state, Some(SWARM))], Vec::new());
        let answer = server.ask("DELETE", "/api/v1/streams/id:0123", "");
        assert_eq!(
            (answer.status, &answer.json()["session"]),
            (202, &"00000000000000ab".into()),
            "{state:?}"
        );
        for shard in &shards {
            let orders = eventually("told", SOON, || Some(shard.orders()).filter(|o| !o.is_empty()));
            assert_eq!(orders, [Order::Stop(0xab)]);
        }
    }
    assert_eq!(server.ask("DELETE", "/api/v1/streams/id:012", "").problem(), "stream_not_found");
    server.stop();
}

#[test]
fn a_stream_that_cannot_move_is_said_to_be_so() {
    let (server, shards, engines) = server(2);
    let of = |state| played("id:0123", "00000000000000ab", state, Some(SWARM));
    let migrate = || server.ask("POST", "/api/v1/streams/id:0123/migrate", "");
    let between =
        [StreamState::Starting, StreamState::Queued, StreamState::FailingOver, StreamState::Lingering];
    for state in between {
        tell(&server, vec![of(state)], Vec::new());
        let answer = migrate();
        assert_eq!((answer.status, answer.problem().as_str()), (409, "stream_not_live"), "{state:?}");
    }
    let twice = [of(StreamState::Live), played("id:4567&_idx=2", "cd", StreamState::Live, Some(SWARM))];
    tell(&server, twice.to_vec(), Vec::new());
    let answer = server.ask("POST", &format!("/api/v1/streams/{SWARM}/migrate"), "");
    assert_eq!((answer.status, answer.problem().as_str()), (409, "stream_ambiguous"));

    let table = shards[0].table();
    let other = &table.engines[1].slots;
    let held: Vec<_> = (0..3).map(|taken| other.reserve_at(taken).unwrap()).collect();
    let full = migrate();
    assert_eq!(
        (full.status, full.problem().as_str()),
        (409, "no_other_engine"),
        "its own slots do not count"
    );
    tell(&server, vec![StreamSample { sources: 2, ..of(StreamState::Live) }], Vec::new());
    assert_eq!(migrate().status, 202, "another engine is asked already");
    drop(held);
    tell(&server, vec![of(StreamState::Live)], Vec::new());
    assert_eq!(migrate().status, 202);
    engines[1].behave(Behaviour::Raw(Vec::new()));
    eventually("degraded", SOON, || (server.engine(1)["state"] == "degraded").then_some(()));
    assert_eq!(migrate().problem(), "no_other_engine", "free but not ready");
    eventually("both told", SOON, || (shards[1].orders().len() == 2).then_some(()));
    server.stop();
}

#[test]
fn blocked_contents_are_listed_and_every_shard_is_told_to_forgive() {
    let (server, shards, _engines) = server(1);
    tell(&server, Vec::new(), vec![blocked("id:b/c", 30.0), blocked("id:a", 600.0), blocked("id:over", 0.0)]);
    let list = server.get("/api/v1/contents/blocked").json();
    let keys: Vec<_> = list["contents"].as_array().unwrap().iter().map(|c| c["key"].clone()).collect();
    assert_eq!((keys, &list["total"]), (vec!["id:a".into(), "id:b/c".into()], &2.into()), "what still rests");
    let first = &list["contents"][0];
    assert_eq!((&first["cause"], &first["failed_sessions"]), (&"no_peers".into(), &3.into()));
    assert!((590.0..600.0).contains(&first["seconds_left"].as_f64().unwrap()), "as time passes: {first}");

    for (path, told) in [
        ("/api/v1/contents/blocked/id%3Ab%2Fc", Order::Forgive(Some("id:b/c".into()))),
        ("/api/v1/contents/blocked", Order::Forgive(None)),
    ] {
        assert_eq!(server.ask("DELETE", path, "").status, 202, "{path}");
        for shard in &shards {
            let orders = eventually("told", SOON, || Some(shard.orders()).filter(|o| !o.is_empty()));
            assert_eq!(orders, std::slice::from_ref(&told), "{path}");
        }
    }
    let unknown = server.ask("DELETE", "/api/v1/contents/blocked/id%3Aover", "");
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "content_not_blocked"));
    // A shard that names as many as it may has perhaps not named this one.
    tell(&server, Vec::new(), (0..100).map(|i| blocked(&format!("id:{i}"), 9.0)).collect());
    assert_eq!(server.ask("DELETE", "/api/v1/contents/blocked/id%3Aover", "").status, 202);
    server.stop();
}

#[test]
fn a_drained_engine_is_left_alone_until_that_is_undone_whatever_it_answers() {
    let (server, shards, engines) = server(2);
    let is = |state| {
        let table = shards.iter().map(Obedient::table).all(|t| t.engines[0].state == state);
        table.then_some(())
    };
    for _ in 0..2 {
        let answer = server.ask("POST", "/api/v1/engines/0/drain", "");
        assert_eq!((answer.status, &answer.json()["state"]), (202, &"draining".into()));
    }
    eventually("told", SOON, || is(EngineState::Draining));
    let epoch = shards[0].epoch();
    let asked = engines[0].asked();
    eventually("probed", SOON, || (engines[0].asked() >= asked + 6).then_some(()));
    assert_eq!(
        (is(EngineState::Draining), shards[0].epoch()),
        (Some(()), epoch),
        "good answers change nothing"
    );
    let status = server.get("/api/v1/status").json();
    assert_eq!((&status["engines"]["draining"], &status["engines"]["ready"]), (&1.into(), &1.into()));
    assert!(server.get("/metrics").text().contains("millrace_engines{state=\"draining\"} 1\n"));
    assert!(shards[0].table().pick(&[EngineId(1)]).is_err(), "nobody is sent there");
    let table = shards[0].table();
    let held: Vec<_> = (0..3).map(|taken| table.engines[1].slots.reserve_at(taken).unwrap()).collect();
    let reasons = server.get("/api/v1/status").json()["reasons"].clone();
    assert_eq!(reasons[0]["code"], "engines_full", "its slots are no room: {reasons}");
    drop(held);

    engines[0].behave(Behaviour::Raw(Vec::new()));
    eventually("a failed probe", SOON, || (server.engine(0)["last_probe"]["ok"] == false).then_some(()));
    assert_eq!(server.engine(0)["state"], "draining", "nor do bad ones");
    engines[0].behave(GOOD);
    eventually("a good probe", SOON, || (server.engine(0)["last_probe"]["ok"] == true).then_some(()));
    for _ in 0..2 {
        let answer = server.ask("DELETE", "/api/v1/engines/0/drain", "");
        assert_eq!((answer.status, &answer.json()["state"]), (200, &"ready".into()));
    }
    eventually("told", SOON, || is(EngineState::Ready));
    server.stop();
}

#[test]
fn an_order_to_a_shard_with_a_full_queue_arrives_when_there_is_room() {
    let (server, inboxes) = Server::start(Options::default());
    // The queue holds 64 messages, tables among them; so many more may wait.
    let request = "DELETE /api/v1/contents/blocked HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = server.connect(request.as_bytes());
    client.write_all(request.repeat(199).as_bytes()).unwrap();
    let mut reader = Reader::new(client);
    let answers: Vec<_> = (0..200).map(|_| reader.answer()).collect();
    let accepted = answers.iter().take_while(|answer| answer.status == 202).count();
    assert!((65..=128).contains(&accepted), "{accepted} orders: more than the queue holds, and not all");
    for refused in &answers[accepted..] {
        assert_eq!((refused.status, refused.problem().as_str()), (503, "shard_busy"));
    }
    let mut taken = 0;
    eventually("all of them", SOON, || {
        while let Some(message) = inboxes[0].take() {
            taken += usize::from(matches!(message, ToShard::Forgive { key: None }));
        }
        (taken == accepted).then_some(())
    });
    server.stop();
}
