//! What the API and `/metrics` say, against what the shards told.
#![allow(clippy::unwrap_used, reason = "test code, though not inside a test function")]

mod support;

use std::time::{Duration, Instant};

use millrace_boundary::{
    BlockedContent, Cause, EngineEvidence, EngineId, Epoch, FromShard, ShardId, StreamState, ViewerEnd,
};
use support::{
    Obedient, Options, Server,
    engine::{FakeEngine, GOOD},
    eventually,
    prometheus::{check_histogram, parse},
    stream,
};

const SOON: Duration = Duration::from_secs(5);

/// Tells a sample that counts up with `n`, as a shard does each second.
fn tell(server: &Server, shard: u16, n: u64) {
    let mut sample = support::sample(shard, Epoch(1));
    sample.viewers = 3;
    sample.viewers_waiting = 1;
    sample.waiting = 2;
    sample.connections_open = 5;
    sample.segment_bytes = 1 << 20;
    sample.counters.ingress_bytes = n * 1_000;
    sample.counters.egress_bytes = n * 3_000;
    sample.counters.viewers_ended[ViewerEnd::Stalled.index()] = n;
    sample.counters.refusals[Cause::NoEngine.index()] = 2 * n;
    sample.counters.streams_ended[Cause::ViewersLeft.index()] = 3 * n;
    for us in 0..n * 10 {
        sample.lateness_us.record(us * 37 + 1).unwrap();
        sample.cold_join_us.record(us * 1_000_003 % 120_000_000 + 1).unwrap();
    }
    sample.streams = vec![
        stream("id:live\"\\\n", StreamState::Live),
        stream("id:starting", StreamState::Starting),
        stream("id:lingering", StreamState::Lingering),
        stream("id:stalled", StreamState::Stalled),
    ];
    sample.blocked = vec![BlockedContent {
        key: "id:resting".into(),
        cause: Cause::NoPeers,
        seconds_left: 30.0,
        failed_sessions: 3,
    }];
    server.control.offer(FromShard::Sample(Box::new(sample))).unwrap();
}

fn two_shards(engines: Vec<std::net::SocketAddr>) -> (Server, Vec<Obedient>) {
    let (server, inboxes) = Server::start(Options { engines, shards: 2, ..Options::default() });
    let shards = (0u16..).zip(inboxes).map(|(i, inbox)| Obedient::new(i, inbox, server.control.clone()));
    let shards = shards.collect();
    server.ready.recv_timeout(SOON).unwrap();
    (server, shards)
}

#[test]
fn status_adds_up_what_the_shards_told() {
    let (engine, nobody) = (FakeEngine::new(GOOD), FakeEngine::nobody());
    let (server, shards) = two_shards(vec![engine.address, nobody]);
    eventually("ready", SOON, || (server.engine(0)["state"] == "ready").then_some(()));
    let evidence = EngineEvidence::Started(Duration::from_millis(1_500));
    server.control.offer(FromShard::Evidence { engine: EngineId(0), evidence }).unwrap();
    let table =
        eventually("a ready engine", SOON, || Some(shards[0].table()).filter(|t| t.pick(&[]).is_ok()));
    let _playing = table.pick(&[]).unwrap();

    (0..2).for_each(|shard| tell(&server, shard, 10));
    let first = Instant::now();
    eventually("heard", SOON, || (server.get("/api/v1/status").json()["viewers"] == 6).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    (0..2).for_each(|shard| tell(&server, shard, 1_010));
    let between = first.elapsed();
    let status = eventually("rates", SOON, || {
        let status = server.get("/api/v1/status").json();
        (status["throughput"]["ingress_bps"].as_u64()? > 0).then_some(status)
    });
    // Two shards, a megabyte each, over the time between their samples.
    let expected = 2.0 * 8e6 / between.as_secs_f64();
    let ingress = status["throughput"]["ingress_bps"].as_f64().unwrap();
    assert!((0.7..1.3).contains(&(ingress / expected)), "{ingress} of {expected}");
    let egress = status["throughput"]["egress_bps"].as_f64().unwrap();
    assert!((2.9..3.1).contains(&(egress / ingress)));
    assert_eq!((&status["status"], &status["reasons"]), (&"ok".into(), &serde_json::json!([])));
    assert_eq!(status["streams"]["active"], 6, "two shards, three each that somebody wants");
    assert_eq!(status["streams"]["queued"], 4, "two of each shard");
    assert_eq!((&status["viewers"], &status["viewers_waiting"]), (&6.into(), &2.into()));
    assert_eq!(status["address"], "127.0.0.1:8000");
    // Between two samples, and of a shard that is none.
    for (shard, waiting) in [(1, 9), (7, 100)] {
        server.control.offer(FromShard::Demand { shard: ShardId(shard), waiting }).unwrap();
    }
    let queued = || server.get("/api/v1/status").json()["streams"]["queued"].as_u64();
    eventually("who waits now", SOON, || (queued() == Some(11)).then_some(()));
    let engines = serde_json::json!({
        "total": 2, "ready": 1, "degraded": 0, "draining": 0, "paused": 0, "booting": 1,
        "slots_total": 6, "slots_taken": 1
    });
    assert_eq!(status["engines"], engines);
    let shard = &status["shards"][1];
    assert_eq!((&shard["shard"], &shard["driver"]), (&1.into(), &"epoll".into()));
    assert_eq!((&shard["connections_open"], &shard["segment_bytes"]), (&5.into(), &(1 << 20).into()));
    assert!(shard["sample_age_seconds"].as_f64().unwrap() < 5.0 && shard["epoch"].as_u64().unwrap() >= 2);
    assert!(status["uptime_seconds"].as_f64().unwrap() > 0.0 && status["version"].is_string());

    let engines = server.get("/api/v1/engines").json();
    assert_eq!(engines["engines"][0], {
        let mut one = server.engine(0);
        for (field, inner) in [("since_seconds", None), ("last_probe", Some("age_seconds"))] {
            match inner {
                None => one[field] = engines["engines"][0][field].clone(),
                Some(inner) => one[field][inner] = engines["engines"][0][field][inner].clone(),
            }
        }
        one
    });
    assert_eq!(engines["engines"][0]["first_byte_seconds"], 1.5);
    assert_eq!(engines["engines"][0]["slots"], serde_json::json!({ "taken": 1, "capacity": 3 }));
    let streams = server.get("/api/v1/streams").json();
    assert_eq!((streams["total"].as_u64(), streams["streams"].as_array().unwrap().len()), (Some(8), 8));
    assert_eq!(streams["streams"][0]["key"], "id:live\"\\\n");

    let page = server.get("/");
    assert!(page.text().contains("http://tv.example:80/ace/getstream?id="), "{}", page.text());
    server.stop();
}

#[test]
fn a_shard_that_stops_reporting_is_named() {
    let engine = FakeEngine::new(GOOD);
    let (server, _shards) = two_shards(vec![engine.address]);
    tell(&server, 0, 1);
    tell(&server, 1, 1);
    assert_eq!(server.get("/healthz").status, 200);
    let silent = eventually("silence is noticed", Duration::from_secs(8), || {
        tell(&server, 0, 1);
        std::thread::sleep(Duration::from_millis(100));
        Some(server.get("/healthz")).filter(|health| health.status == 503)
    });
    assert_eq!(silent.problem(), "shard_silent");
    let message = silent.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "shard 1 has not reported for 5 s");
    let status = server.get("/api/v1/status").json();
    assert_eq!(
        (&status["status"], &status["reasons"][0]["code"]),
        (&"degraded".into(), &"shard_silent".into())
    );
    server.stop();
}

#[test]
fn metrics_are_well_formed_complete_and_counters_never_fall() {
    let engine = FakeEngine::new(GOOD);
    let (server, _shards) = two_shards(vec![engine.address]);
    let scrape = |n: u64| {
        (0..2).for_each(|shard| tell(&server, shard, n));
        eventually("heard", SOON, || {
            let page = server.get("/metrics");
            assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            let heard = format!("millrace_ingress_bytes_total {}\n", 2 * n * 1_000);
            page.text().contains(&heard).then(|| parse(page.text()))
        })
    };
    let (first, second) = (scrape(5), scrape(9));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, family) in &second {
        match family.kind.as_str() {
            "counter" => assert!(name.ends_with("_total"), "{name}"),
            "histogram" => check_histogram(name, family),
            // The predecessor called two of its gauges so.
            _ => assert!(!name.ends_with("_total") || name == "orch_engines_total", "{name}"),
        }
        if family.kind != "gauge" {
            for (series, before) in &first[name].samples {
                assert!(family.samples[series] >= *before, "{series:?} fell");
            }
        }
    }
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(l, v)| ((*l).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        *second[name].samples.get(&(name.to_owned(), labels)).unwrap_or_else(|| panic!("{name}"))
    };
    for (name, labels, expected) in [
        ("millrace_egress_bytes_total", &[][..], 54_000.0),
        ("acestream_proxy_bytes_ingress_total", &[], 18_000.0),
        ("acestream_proxy_bytes_egress_total", &[], 54_000.0),
        ("millrace_viewers_ended_total", &[("end", "stalled")], 18.0),
        ("millrace_refusals_total", &[("cause", "no_engine")], 36.0),
        ("millrace_streams_ended_total", &[("cause", "viewers_left")], 54.0),
        ("millrace_engines", &[("state", "ready")], 1.0),
        ("millrace_viewers", &[("shard", "1")], 3.0),
        ("millrace_streams", &[("state", "live")], 2.0),
        ("millrace_shard_info", &[("shard", "0"), ("driver", "epoll")], 1.0),
        ("millrace_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
        ("millrace_streams", &[("state", "stalled")], 2.0),
        ("millrace_streams", &[("state", "failing_over")], 0.0),
        ("millrace_streams", &[("state", "queued")], 0.0),
        ("millrace_streams_queued", &[], 4.0),
        ("millrace_contents_blocked", &[], 2.0),
        ("millrace_engines", &[("state", "draining")], 0.0),
        ("millrace_engines", &[("state", "paused")], 0.0),
        ("orch_total_streams", &[], 6.0),
        ("orch_active_streams", &[], 6.0),
        ("orch_engines_total", &[], 1.0),
        ("orch_healthy_engines", &[], 1.0),
        ("orch_unhealthy_engines", &[], 0.0),
        ("orch_used_engines", &[], 0.0),
    ] {
        assert_eq!(value(name, labels), expected, "{name}");
    }
    assert_eq!(second["millrace_refusals_total"].samples.len(), Cause::ALL.len());
    assert_eq!(second["millrace_viewers_ended_total"].samples.len(), ViewerEnd::ALL.len());
    assert!(value("process_resident_memory_bytes", &[]) > 1e6 && value("process_open_fds", &[]) > 5.0);
    let shard = |name: &str, suffix: &str| {
        second[name].samples[&(format!("{name}{suffix}"), vec![("shard".to_owned(), "0".to_owned())])]
    };
    assert_eq!(shard("millrace_shard_lateness_seconds", "_count"), 90.0);
    assert_eq!(shard("millrace_warm_join_seconds", "_count"), 0.0);
    // 90 values of 37 µs apart: the mean is 45 steps, to two digits.
    let mean = shard("millrace_shard_lateness_seconds", "_sum") / 90.0;
    assert!((mean / 1.647e-3 - 1.0).abs() < 0.02, "{mean}");
    server.stop();
}
