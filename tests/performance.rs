//! `/metrics/performance` against what was asked of the server, and against what
//! it says elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

use std::{collections::BTreeMap, time::Duration};

use millrace_emulator::{ContentId, Scenario};
use serde_json::Value;
use support::{
    Audience, Server,
    pool::{healthy, path_of, signed},
    wait_until,
};

mod support;

/// For starts, and for what is told of them.
const SOON: Duration = Duration::from_secs(20);
const OPERATIONS: [&str; 7] = [
    "docker_stats_collection",
    "engine_selection",
    "hls_manifest_generation",
    "hls_segment_fetch",
    "mpegts_chunk_read",
    "stream_start",
    "viewer_join",
];
const FIELDS: [&str; 8] =
    ["avg_ms", "count", "max_ms", "min_ms", "p50_ms", "p95_ms", "p99_ms", "success_rate"];

fn ask(server: &Server, query: &str) -> Value {
    let answer = server.get(&format!("/metrics/performance{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said.as_object().unwrap().len(), 2, "{said}");
    for (operation, summary) in said["operations"].as_object().unwrap() {
        let fields: Vec<_> = summary.as_object().unwrap().keys().collect();
        assert_eq!(fields, FIELDS, "{operation}");
    }
    said
}

fn number(said: &Value, operation: &str, field: &str) -> f64 {
    said["operations"][operation][field].as_f64().unwrap_or_else(|| panic!("{operation} {field}: {said}"))
}

fn count(server: &Server, query: &str, operation: &str) -> u64 {
    ask(server, query)["operations"][operation]["count"].as_u64().unwrap()
}

#[track_caller]
fn assert_near(what: &str, said: f64, truth: f64, allowed: f64) {
    assert!((said / truth - 1.0).abs() <= allowed, "{what}: {said} for {truth}");
}

/// By the definition, in milliseconds.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * percent / 100.0;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

#[test]
fn joins_starts_and_selections_are_counted_one_by_one_and_leave_a_short_window() {
    const STREAMS: u64 = 6;
    const VIEWERS: usize = 24;
    const DEAD: u64 = 3;
    let server = Server::start(&["--emulate", "4"]);
    let slow = |serial| signed(Scenario::slow_start(Duration::from_millis(300 + serial * 300)), serial);
    let ids: Vec<ContentId> = (0..STREAMS).map(slow).collect();
    let audience = Audience::watch(server.address(), &ids, VIEWERS);
    assert!(audience.all_play_within(SOON), "{}", server.log());
    let joined = |query: &str| count(&server, query, "viewer_join");
    assert!(wait_until(SOON, || joined("") == VIEWERS as u64), "{}", ask(&server, ""));

    // Each start is told one by one elsewhere.
    let mut took = Vec::new();
    let told = wait_until(SOON, || {
        let said: Value = serde_json::from_slice(&server.get("/api/v1/streams").body).unwrap();
        let streams = said["streams"].as_array().unwrap();
        took =
            streams.iter().filter_map(|stream| Some(stream["first_byte_seconds"].as_f64()? * 1e3)).collect();
        took.len() as u64 == STREAMS
    });
    assert!(told, "{took:?}");
    took.sort_by(f64::total_cmp);
    let said = ask(&server, "?operation=stream_start");
    let start = |field| number(&said, "stream_start", field);
    assert_eq!((start("count"), start("success_rate")), (STREAMS as f64, 100.0));
    for (field, truth, allowed) in [
        ("avg_ms", took.iter().sum::<f64>() / took.len() as f64, 1e-6),
        ("min_ms", took[0], 1e-6),
        ("max_ms", took[took.len() - 1], 1e-6),
        ("p50_ms", percentile(&took, 50.0), 0.01),
        ("p95_ms", percentile(&took, 95.0), 0.01),
        ("p99_ms", percentile(&took, 99.0), 0.01),
    ] {
        assert_near(field, start(field), truth, allowed);
    }

    // A content that no engine can start; and a request that is none.
    let dead = signed(Scenario::metadata_failure(Duration::from_millis(50)), 99);
    for _ in 0..DEAD {
        let answer = server.get(&path_of(dead));
        assert!(answer.status >= 400, "{}", answer.text());
    }
    assert_eq!(server.get("/ace/getstream?id=nonsense").status, 400);
    let all = VIEWERS as u64 + DEAD;
    assert!(wait_until(SOON, || joined("") == all), "{}", ask(&server, ""));
    // What is told elsewhere comes up to a second later.
    let metric = |name: &str| server.metrics()[&format!("millrace_{name}")];
    let refused = |metrics: BTreeMap<String, f64>| {
        let refusals = metrics.iter().filter(|(name, _)| name.starts_with("millrace_refusals_total"));
        refusals.map(|(_, count)| count).sum::<f64>()
    };
    assert!(wait_until(SOON, || refused(server.metrics()) == DEAD as f64), "{:?}", server.metrics());
    let (begun, engine_starts) = (metric("streams_started_total"), metric("engine_starts_total"));
    let counted = || count(&server, "", "stream_start") as f64 == begun;
    assert!(wait_until(SOON, counted), "{begun}: {}", ask(&server, ""));
    let said = ask(&server, "");
    assert_eq!(said["window_seconds"], "all");
    assert_eq!(said["operations"].as_object().unwrap().keys().collect::<Vec<_>>(), OPERATIONS);
    let share = |worked: f64, count: f64| worked / count * 100.0;
    assert!(begun > STREAMS as f64, "the dead one was begun");
    for (operation, count, worked) in [
        ("viewer_join", all as f64, VIEWERS as f64),
        ("stream_start", begun, STREAMS as f64),
        ("engine_selection", engine_starts, engine_starts),
        ("docker_stats_collection", 0.0, 0.0),
        ("hls_manifest_generation", 0.0, 0.0),
        ("hls_segment_fetch", 0.0, 0.0),
    ] {
        assert_eq!(number(&said, operation, "count"), count, "{operation}: {said}");
        let rate = number(&said, operation, "success_rate");
        let expected = if count > 0.0 { share(worked, count) } else { 0.0 };
        assert!((rate - expected).abs() < 1e-9, "{operation}: {rate} % for {expected} %");
    }
    let value = |operation, field| number(&said, operation, field);
    for operation in ["viewer_join", "stream_start", "engine_selection", "mpegts_chunk_read"] {
        let in_order = ["min_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"].map(|f| value(operation, f));
        assert!(in_order.is_sorted() && value(operation, "avg_ms") <= in_order[4], "{operation}: {said}");
        assert!(value(operation, "count") > 0.0 && in_order[4] > 0.0, "{operation}: {said}");
    }
    assert!(value("mpegts_chunk_read", "p50_ms") < 40.0, "the wait between two reads is none of it: {said}");

    // Five seconds later nobody has joined for five seconds, and bytes still come.
    assert!(wait_until(SOON, || joined("?window=5") == 0), "{}", ask(&server, "?window=5"));
    // Ten minutes, lest a machine that is slow needs longer than one for all this.
    let (short, long) = (ask(&server, "?window=5"), ask(&server, "?window=600"));
    assert_eq!((&short["window_seconds"], &long["window_seconds"]), (&5.into(), &600.into()));
    let chunks = |said: &Value| number(said, "mpegts_chunk_read", "count");
    assert!(chunks(&short) > 0.0 && chunks(&long) > chunks(&short), "{short}\n{long}");
    for (operation, before) in [("viewer_join", all as f64), ("stream_start", begun)] {
        assert_eq!(short["operations"][operation], zeros(), "{operation}");
        assert_eq!(number(&long, operation, "count"), before, "{operation}");
        let later = ask(&server, "");
        assert_eq!(later["operations"][operation], long["operations"][operation], "{operation}");
    }
    let seen = audience.leave();
    assert!(seen.iter().all(|seen| seen.report.is_unbroken() && !seen.ended), "{seen:?}");
}

fn zeros() -> Value {
    let mut zeros = Value::Object(FIELDS.iter().map(|field| ((*field).to_owned(), 0.0.into())).collect());
    zeros["count"] = 0.into();
    zeros
}

#[test]
fn a_refused_viewer_and_a_selection_without_an_engine_are_failures() {
    let server = Server::start(&["--engine", "http://127.0.0.1:9"]);
    for serial in 0..4 {
        assert_eq!(server.get(&path_of(healthy(serial))).status, 503);
    }
    let counted = || count(&server, "", "viewer_join") == 4;
    assert!(wait_until(SOON, counted), "{}", ask(&server, ""));
    let said = ask(&server, "");
    for operation in ["viewer_join", "stream_start", "engine_selection"] {
        assert_eq!(number(&said, operation, "count"), 4.0, "{operation}: {said}");
        assert_eq!(number(&said, operation, "success_rate"), 0.0, "{operation}: {said}");
        assert!(number(&said, operation, "max_ms") < 2_000.0, "{operation}: refused at once: {said}");
    }
    assert_eq!(said["operations"]["mpegts_chunk_read"], zeros());
}

#[test]
fn viewers_beyond_the_limit_are_joins_that_failed_and_no_starts() {
    let server = Server::start_with(&[("MILLRACE_VIEWERS_MAX", "1")], &["--emulate", "1"]);
    let audience = Audience::watch(server.address(), &[healthy(1)], 1);
    assert!(audience.all_play_within(SOON), "{}", server.log());
    for serial in [1, 1, 2] {
        assert_eq!(server.get(&path_of(healthy(serial))).status, 503);
    }
    assert!(wait_until(SOON, || count(&server, "", "viewer_join") == 4), "{}", ask(&server, ""));
    let said = ask(&server, "");
    assert_eq!(number(&said, "viewer_join", "success_rate"), 25.0, "{said}");
    assert_eq!(number(&said, "stream_start", "count"), 1.0, "{said}");
}

#[test]
fn what_is_asked_wrongly_gets_zeros_or_a_remedy() {
    let server = Server::start(&["--emulate", "1"]);
    for (query, operations) in [
        ("?operation=stream_start", vec!["stream_start"]),
        ("?operation=stream_event_handling", vec!["stream_event_handling"]),
        ("?operation=", vec![""]),
        ("?operation=%22%0a", vec!["\"\n"]),
        ("", OPERATIONS.to_vec()),
    ] {
        let said = ask(&server, query);
        let found = said["operations"].as_object().unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), operations, "{query}");
        assert!(found.values().all(|summary| *summary == zeros()), "{query}: {said}");
    }
    for (query, window) in
        [("?window=1", 1), ("?window=3600", 3_600), ("?operation=viewer_join&window=60", 60)]
    {
        assert_eq!(ask(&server, query)["window_seconds"], window, "{query}");
    }
    for window in ["0", "3601", "-1", "1.5", "", "all", "60s", "99999999999999999999"] {
        let answer = server.get(&format!("/metrics/performance?window={window}"));
        assert_eq!(answer.status, 400, "{window:?}: {}", answer.text());
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        let error = &error["error"];
        assert_eq!(error["code"], "bad_window", "{window:?}");
        assert!(error["message"].as_str().unwrap().contains("1 to 3600"), "{window:?}: {error}");
        assert!(!error["remedy"].as_str().unwrap().is_empty(), "{window:?}");
    }
    let both = ["/metrics/performance", "/api/v1/metrics/performance"].map(|path| server.get(path));
    assert_eq!(both[0].body, both[1].body);
    assert_eq!(server.ask("POST", "/metrics/performance").status, 405);
}
