//! Engines that hang, refuse and talk nonsense, and what becomes of them.

mod support;

use std::time::{Duration, Instant};

use millrace_boundary::{Cause, EngineEvidence, EngineId, EngineState, FromShard};
use support::{
    Options, Server,
    engine::{Behaviour, FakeEngine, GOOD},
    eventually,
};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_hung_engine_is_degraded_within_two_probes_and_ready_after_one_good_answer() {
    let engine = FakeEngine::new(GOOD);
    let (server, shard) = Server::with_engines(vec![engine.address]);
    let state = |wanted| {
        let shard = &shard;
        move || shard.table().engines.first().is_some_and(|e| e.state == wanted).then_some(())
    };
    eventually("ready", SOON, state(EngineState::Ready));
    let found = server.engine(0);
    assert_eq!((&found["version"], &found["platform"]), (&"3.2.11".into(), &"linux".into()));
    assert_eq!(found["last_probe"]["ok"], true);

    engine.behave(Behaviour::Hang);
    let (hung, before) = (Instant::now(), engine.asked());
    eventually("degraded", Duration::from_secs(8), state(EngineState::Degraded));
    assert!(hung.elapsed() < Duration::from_millis(5_500), "{:?}", hung.elapsed());
    let asked = engine.asked() - before;
    assert!((2..=3).contains(&asked), "{asked} connections, one of them perhaps begun before");
    assert_eq!(server.engine(0)["last_probe"]["error"], "no answer in time");

    engine.behave(GOOD);
    eventually("ready again", SOON, state(EngineState::Ready));
    server.stop();
}

#[test]
fn a_round_over_fifty_engines_of_which_half_hang_lasts_one_deadline() {
    let engines: Vec<_> =
        (0..50).map(|i| FakeEngine::new(if i % 2 == 0 { GOOD } else { Behaviour::Hang })).collect();
    let begun = Instant::now();
    let (server, _shard) = Server::with_engines(engines.iter().map(|e| e.address).collect());
    let ready = server.ready.recv_timeout(SOON).unwrap();
    let round = begun.elapsed();
    println!("first round over 50 engines, 25 hanging: {round:?}");
    assert_eq!(ready, 25);
    assert!(round <= Duration::from_millis(2_500), "{round:?}");
    server.stop();
}

#[test]
fn nonsense_of_many_kinds_leaves_the_engine_booting_with_the_reason() {
    let raw = |s: &str| Behaviour::Raw(s.into());
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\n\r\n", FakeEngine::nobody());
    let mut flood = b"HTTP/1.1 200 OK\r\n".to_vec();
    (0..5_000).for_each(|i| flood.extend_from_slice(format!("X-{i}: y\r\n").as_bytes()));
    let cases: Vec<(&str, Behaviour, &str)> = vec![
        ("closes at once", raw(""), "connection broke"),
        ("not HTTP", raw("SSH-2.0-OpenSSH\r\n\r\n"), "connection broke"),
        ("half a head", raw("HTTP/1.1 200 OK\r\nContent-Le"), "connection broke"),
        ("half a body", raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"), "connection broke"),
        ("a flood of headers", Behaviour::Raw(flood), "connection broke"),
        ("endless head", Behaviour::Raw(vec![b'A'; 1 << 20]), "connection broke"),
        (
            "bad chunks",
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "connection broke",
        ),
        ("no JSON", Behaviour::Body(b"Internal Server Error".to_vec()), "answer makes no sense"),
        ("not UTF-8", Behaviour::Body(vec![0xFF; 100]), "answer makes no sense"),
        ("nothing", Behaviour::Body(Vec::new()), "answer makes no sense"),
        ("deep", Behaviour::Body(vec![b'['; 60_000]), "answer makes no sense"),
        (
            "denied",
            Behaviour::Body(br#"{"result":null,"error":"access denied"}"#.to_vec()),
            "answer makes no sense",
        ),
        ("an error", raw("HTTP/1.1 500 Oops\r\nContent-Length: 8\r\n\r\nInternal"), "HTTP status 500"),
        ("a redirect", Behaviour::RawThenHang(redirect.into()), "HTTP status 302"),
        ("five megabytes", Behaviour::Large(5 << 20), "answer too large"),
        (
            "a head, then silence",
            Behaviour::RawThenHang(b"HTTP/1.1 200 OK\r\n\r\n{".to_vec()),
            "no answer in time",
        ),
    ];
    let engines: Vec<_> = cases.iter().map(|(_, b, _)| FakeEngine::new(b.clone())).collect();
    let mut addresses: Vec<_> = engines.iter().map(|e| e.address).collect();
    addresses.push(FakeEngine::nobody());
    let (server, _shard) = Server::with_engines(addresses);
    assert_eq!(server.ready.recv_timeout(SOON).unwrap(), 0);
    let expected =
        cases.iter().map(|(name, _, error)| (*name, *error)).chain([("nobody", "connection refused")]);
    for (i, (name, error)) in expected.enumerate() {
        let found = server.engine(i);
        assert_eq!(found["state"], "booting", "{name}");
        assert_eq!(found["last_probe"]["error"], error, "{name}");
    }
    server.stop();
}

#[test]
fn an_unusable_answer_about_the_network_is_no_failure() {
    let engine = FakeEngine::new(Behaviour::Good { connected: r#""perhaps""# });
    let (server, _shard) = Server::with_engines(vec![engine.address]);
    assert_eq!(server.ready.recv_timeout(SOON).unwrap(), 1);
    server.stop();
}

#[test]
fn an_engine_whose_starts_fail_is_closed_at_once_while_its_api_looks_perfect() {
    let engine = FakeEngine::new(GOOD);
    let (server, shard) = Server::with_engines(vec![engine.address]);
    assert_eq!(server.ready.recv_timeout(SOON).unwrap(), 1);
    let tell = |cause| {
        let evidence = EngineEvidence::StartFailed(cause);
        server.control.offer(FromShard::Evidence { engine: EngineId(0), evidence }).unwrap();
    };
    (0..20).for_each(|_| tell(Cause::ContentUnavailable));
    (0..3).for_each(|_| tell(Cause::EngineSilent));
    eventually("degraded", SOON, || {
        shard.table().engines.first().is_some_and(|e| e.state == EngineState::Degraded).then_some(())
    });
    let found = server.engine(0);
    assert_eq!((&found["start_failures"], &found["last_probe"]["ok"]), (&3.into(), &true.into()), "{found}");
    server.stop();
}

#[test]
fn ten_thousand_pieces_of_evidence_pass_without_a_trace() {
    let engine = FakeEngine::new(GOOD);
    let (server, shard) = Server::with_engines(vec![engine.address]);
    server.ready.recv_timeout(SOON).unwrap();
    let resident = |server: &Server| {
        let page = server.get("/metrics");
        let line =
            page.text().lines().find(|l| l.starts_with("process_resident_memory_bytes")).unwrap().to_owned();
        line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let flood = |server: &Server, count: u32| {
        for i in 0..count {
            let evidence = EngineEvidence::Started(Duration::from_millis(u64::from(i)));
            eventually("room in the inbox", SOON, || {
                server.control.offer(FromShard::Evidence { engine: EngineId(i % 7), evidence }).ok()
            });
        }
    };
    flood(&server, 1_000);
    let (before, epoch, begun) = (resident(&server), shard.epoch().0, Instant::now());
    flood(&server, 10_000);
    let after = resident(&server);
    let most = begun.elapsed().as_millis() / 100 + 2;
    let tables = u128::from(shard.epoch().0 - epoch);
    println!(
        "10,000 messages in {:?}: {tables} tables, {} bytes more",
        begun.elapsed(),
        after.saturating_sub(before)
    );
    assert!(tables <= most, "{tables} tables, at most one a tenth of a second");
    assert!(after < before + (2 << 20), "{before} → {after}");
    server.stop();
}

#[test]
fn an_empty_fleet_is_said_to_be_empty() {
    let (server, mut inboxes) = Server::start(Options::default());
    let _shard = support::Obedient::new(0, inboxes.remove(0), server.control.clone());
    assert_eq!(server.ready.recv_timeout(SOON).unwrap(), 0);
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.problem().as_str()), (503, "no_engine"));
    assert_eq!(server.get("/api/v1/status").json()["status"], "unavailable");
    server.stop();
}
