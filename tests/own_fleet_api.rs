//! What people ask of a fleet in Docker, and what becomes of it there.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use millrace_emulator::Scenario;
use serde_json::{Value, json};
use support::{
    Server,
    crowd::{Crowd, assert_unbroken},
    docker::{Act, DockerProxy, Times},
    own_fleet::{self, OwnFleet, WITH_CONTROL, ask, engines, json_at, wait_ready},
    server::parse_answer,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(30);

/// The JSON of an answer of this status.
#[track_caller]
fn told(server: &Server, method: &str, path: &str, body: &str, status: u16) -> Value {
    let answer = ask(server.address(), method, path, "", body);
    assert_eq!(answer.status, status, "{method} {path} {body}: {}\n{}", answer.text(), server.log());
    serde_json::from_slice(&answer.body).unwrap()
}

#[track_caller]
fn refused(server: &Server, method: &str, path: &str, body: &str, status: u16, code: &str) {
    let answer = told(server, method, path, body, status);
    assert_eq!(answer["error"]["code"], code, "{method} {path} {body}: {answer}");
    assert!(answer["error"]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{answer}");
}

#[track_caller]
fn until(server: &Server, what: &str, is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    let met = wait_until(SOON, is_so);
    assert!(
        met,
        "not within {SOON:?}: {what}\n{:#}\n{}",
        json_at(server.address(), "/api/v1/engines"),
        server.log()
    );
    println!("{what}: {:?}", begun.elapsed());
}

/// Docker is asked at once, each time: once might be by chance.
#[track_caller]
fn has_docker_asked(server: &Server, proxy: &DockerProxy, path: &str, route: &str) {
    for _ in 0..3 {
        let before = proxy.count(route);
        told(server, "POST", path, "", 202);
        let is_asked = wait_until(Duration::from_secs(2), || proxy.count(route) > before);
        assert!(is_asked, "{path}: {:#?}", proxy.calls());
    }
}

/// What the API says of an engine by name.
fn engine(server: &Server, name: &str) -> Value {
    json_at(server.address(), &format!("/api/v1/engines/{name}"))
}

fn names(fleet: &OwnFleet) -> Vec<String> {
    fleet.containers().into_iter().map(|(name, _)| name).collect()
}

fn started_at(fleet: &OwnFleet, name: &str) -> String {
    fleet.docker.inspect(name)["State"]["StartedAt"].as_str().unwrap().to_owned()
}

fn config(min: usize, max: usize) -> String {
    // Nothing goes by itself while the test runs, and starts are not held up.
    format!(
        "network = \"host\"\nports = \"{}\"\nstop_grace = \"1s\"\n[fleet]\nmin = {min}\nmax = {max}\n\
         spare_slots = 0\nstarts_per_minute = 600\nmin_life = \"1h\"\nforecast = false\n",
        own_fleet::ports()
    )
}

#[test]
fn engines_are_made_restarted_and_removed_as_they_are_asked_to_be() {
    let Some(fleet) = OwnFleet::new(&config(1, 3)) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet.serve(Some(&proxy.uri()), &[]);
    wait_ready(&server, 1);
    let first = names(&fleet).remove(0);

    let seen = json_at(server.address(), "/api/v1/fleet");
    for (pointer, expected) in [
        ("/settings/min", json!(1)),
        ("/settings/max", json!(3)),
        ("/settings/manual", json!(null)),
        ("/engines/total", json!(1)),
        ("/engines/by_stage/ready", json!(1)),
        ("/breaker/state", json!("closed")),
        ("/image/state", json!("present")),
        ("/docker/answers", json!(true)),
        ("/docker/uri", json!(proxy.uri())),
        ("/template", json!("emulated")),
        ("/incidents", json!([])),
        ("/rolling/running", json!(false)),
    ] {
        assert_eq!(seen.pointer(pointer), Some(&expected), "{pointer}: {seen:#}");
    }
    let one = engine(&server, &first);
    let id = fleet.docker.containers()[0].id.clone();
    assert_eq!(
        (&one["managed"], &one["stage"], &one["healthy"]),
        (&json!("ours"), &json!("ready"), &json!(true))
    );
    assert_eq!(one["container"], id[..12], "{one}");
    assert_eq!(engine(&server, &id[..6])["id"], one["id"], "by the beginning of its id");
    assert_eq!(engine(&server, &one["id"].to_string())["name"], first, "by its number");

    // More of them.
    let made = told(&server, "POST", "/api/v1/provision", r#"{"count":2}"#, 202);
    assert_eq!((&made["created"], &made["held"]), (&json!(2), &json!(null)), "{made}");
    wait_ready(&server, 3);
    assert_eq!(names(&fleet).len(), 3);
    refused(&server, "POST", "/api/v1/provision", "", 409, "at_max");
    refused(&server, "POST", "/api/v1/provision/acestream", r#"{"any": "body"}"#, 409, "at_max");

    // Restarted in place.
    let before = started_at(&fleet, &first);
    told(&server, "POST", &format!("/api/v1/engines/{first}/restart"), "", 202);
    until(&server, "restarted", || {
        started_at(&fleet, &first) != before && engine(&server, &first)["healthy"] == true
    });
    assert_eq!(fleet.docker.inspect(&first)["Id"], json!(id), "it is the same container");
    assert_eq!(engine(&server, &first)["restarts"], 1);

    // Made anew.
    told(&server, "POST", &format!("/api/v1/engines/{first}/recreate"), "", 202);
    until(&server, "recreated", || !names(&fleet).contains(&first) && names(&fleet).len() == 3);
    wait_ready(&server, 3);

    // Drained, and its life knows.
    let second = names(&fleet).remove(0);
    let drained = told(&server, "POST", &format!("/api/v1/engines/{second}/drain"), "", 202);
    assert_eq!(
        (&drained["stage"], &drained["held"], &drained["state"]),
        (&json!("emptying"), &json!(true), &json!("draining"))
    );
    let undrained = told(&server, "DELETE", &format!("/api/v1/engines/{second}/drain"), "", 200);
    assert_eq!((&undrained["stage"], &undrained["held"]), (&json!("ready"), &json!(false)), "{undrained}");

    // Removed, in order and by force.
    told(&server, "POST", "/api/v1/scale/1", "", 200);
    refused(&server, "POST", "/api/v1/provision", "", 409, "at_max");
    told(&server, "DELETE", &format!("/api/v1/engines/{second}"), "", 202);
    until(&server, "removed", || !names(&fleet).contains(&second));
    let third = names(&fleet).remove(0);
    told(&server, "DELETE", &format!("/api/v1/engines/{third}?force=true"), "", 202);
    until(&server, "removed by force", || !names(&fleet).contains(&third));
    let scaled = told(&server, "POST", "/api/v1/scale/2", "", 200);
    assert_eq!((&scaled["settings"]["manual"], &scaled["stored"]), (&json!(2), &json!(false)), "{scaled}");
    wait_ready(&server, 2);
    let scaled = told(&server, "DELETE", "/api/v1/scale", "", 200);
    assert_eq!(scaled["settings"]["manual"], json!(null));
    let changed = told(&server, "PATCH", "/api/v1/fleet", r#"{"min":3,"max":4,"spare_slots":1}"#, 200);
    assert_eq!(
        (&changed["settings"]["min"], &changed["settings"]["max"]),
        (&json!(3), &json!(4)),
        "{changed}"
    );
    wait_ready(&server, 3);

    until(&server, "figures are read", || {
        let stats = json_at(server.address(), "/api/v1/engines/stats");
        stats["total"]["measured"] == 3 && stats["engines"][0]["usage"]["memory_bytes"].as_u64().is_some()
    });
    has_docker_asked(&server, &proxy, "/api/v1/reconcile", "GET /containers/json");
    has_docker_asked(&server, &proxy, "/api/v1/image/pull", "GET /images/{name}/json");
    let named = names(&fleet).remove(0);
    let usage = json_at(server.address(), &format!("/api/v1/engines/{named}/stats"));
    assert!(usage["usage"]["pids"].as_u64().is_some_and(|pids| pids > 0), "{usage}");

    let events = json_at(server.address(), "/api/v1/events?limit=1000");
    let codes: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap()).collect();
    for code in ["engine_ready", "engine_drains", "engine_mended", "engine_left"] {
        assert!(codes.contains(&code), "{code}: {codes:?}");
    }
    let last = events["events"].as_array().unwrap().last().unwrap()["id"].as_u64().unwrap();
    assert_eq!(json_at(server.address(), &format!("/api/v1/events?after={last}"))["events"], json!([]));

    let metrics = server.metrics();
    let of = |name: &str| *metrics.get(name).unwrap_or_else(|| panic!("{name}: {metrics:#?}"));
    assert_eq!((of("millrace_fleet_engines{stage=\"ready\"}"), of("millrace_docker_up")), (3.0, 1.0));
    assert_eq!((of("millrace_fleet_wanted_min"), of("millrace_fleet_wanted_max")), (3.0, 4.0));
    let made = of("millrace_fleet_deeds_total{deed=\"make\",outcome=\"done\"}");
    assert!((4.0..=6.0).contains(&made), "{made} made");
    assert_eq!(of("millrace_fleet_deeds_total{deed=\"restart\",outcome=\"done\"}"), 1.0);
    let (all, healthy) = (of("millrace_engine_seconds_total"), of("millrace_engine_healthy_seconds_total"));
    // A look a second may miss a restart that takes less.
    assert!(0.0 < healthy && healthy <= all, "{healthy} of {all}");

    bad_input(&server, &named);
}

#[test]
fn a_breaker_that_opened_is_reset() {
    let broken = format!("{}breaker_failures = 2\nbreaker_pause = \"1h\"\n", config(1, 2));
    let Some(fleet) = OwnFleet::new(&broken) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let create = "POST /containers/create";
    proxy.play(create, Act::disk_full(), Times::Next(2));
    let server = fleet.serve(Some(&proxy.uri()), &[]);
    let server =
        ["engines_cannot_be_made", "engine_deed_failed"].iter().fold(server, |s, code| s.allow(code));
    let breaker = || json_at(server.address(), "/api/v1/fleet")["breaker"].clone();
    until(&server, "opened", || breaker()["state"] == "open");
    refused(&server, "POST", "/api/v1/provision", "", 503, "breaker_open");
    let opened = breaker();
    let pause = Duration::from_secs_f64(opened["retry_in_seconds"].as_f64().unwrap());
    assert!(pause > Duration::from_secs(20), "{opened}");

    let begun = Instant::now();
    let reset = told(&server, "POST", "/api/v1/fleet/breaker/reset", "", 200);
    assert_eq!((&reset["state"], &breaker()["failures"]), (&json!("closed"), &json!(0)));
    wait_ready(&server, 1);
    assert!(begun.elapsed() < pause, "it would have been tried by then without being asked to");
    assert_eq!(proxy.count(create), 3, "{:#?}", proxy.calls());
}

fn bad_input(server: &Server, name: &str) {
    for (method, path, body, status, code) in [
        ("DELETE", "/api/v1/engines/nobody", "", 404, "engine_not_found"),
        ("POST", "/api/v1/engines/9999/restart", "", 404, "engine_not_found"),
        ("GET", "/api/v1/engines/abc/stats", "", 404, "engine_not_found"),
        ("GET", "/api/v1/engines/ffffffffffff/logs", "", 404, "engine_not_found"),
        ("GET", "/api/v1/containers/ffffffffffff/logs", "", 404, "engine_not_found"),
        ("PATCH", "/api/v1/fleet", r#"{"min":9}"#, 400, "bad_scale"),
        ("PATCH", "/api/v1/fleet", r#"{"mni":1}"#, 400, "bad_body"),
        ("POST", "/api/v1/scale/5", "", 400, "bad_scale"),
        ("POST", "/api/v1/scale/-1", "", 400, "bad_scale"),
        ("POST", "/api/v1/provision", r#"{"count":0}"#, 400, "bad_count"),
        ("POST", "/api/v1/provision", r#"{"count":11}"#, 400, "bad_count"),
        ("PUT", "/api/v1/fleet", "", 405, "method_not_allowed"),
        ("GET", "/api/v1/reconcile", "", 405, "method_not_allowed"),
        ("GET", "/api/v1/events?limit=0", "", 400, "bad_query"),
        ("GET", "/api/v1/templates/nothing", "", 404, "template_not_found"),
        ("POST", "/api/v1/templates/nothing/activate", "", 404, "template_not_found"),
        ("DELETE", "/api/v1/templates/emulated", "", 409, "template_active"),
        ("PUT", "/api/v1/templates/nano-ace", r#"{"variant":"nano-ace"}"#, 409, "template_built_in"),
        ("PUT", "/api/v1/templates/a", r#"{"variant":"custom","image":"Not An Image"}"#, 400, "bad_template"),
        ("PUT", "/api/v1/templates/a", r#"{"name":"b","variant":"jopsis"}"#, 400, "bad_template"),
        ("POST", "/api/v1/templates/emulated/rename", r#"{"to":"Bad Name"}"#, 400, "bad_template"),
        ("POST", "/api/v1/templates/emulated/rename", r#"{"to":"jopsis"}"#, 409, "template_exists"),
        ("POST", "/api/v1/templates/import", "[]", 400, "bad_template"),
    ] {
        refused(server, method, path, body, status, code);
    }
    for (method, path) in [
        ("GET", format!("/api/v1/engines/{name}/logs")),
        ("DELETE", format!("/api/v1/engines/{name}")),
        ("GET", "/api/v1/templates/export".to_owned()),
        ("POST", "/api/v1/provision".to_owned()),
    ] {
        let answer = ask(server.address(), method, &path, "X-Forwarded-For: 127.0.0.1\r\n", "");
        assert_eq!((answer.status, answer.text().contains("not_an_admin")), (403, true), "{path}");
    }
}

/// Reads on until this text has come.
#[track_caller]
fn read_until(from: &mut TcpStream, bytes: &mut Vec<u8>, text: &str) {
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(bytes).contains(text) {
        let count = from.read(&mut part).unwrap_or_else(|e| panic!("no {text:?}: {e}"));
        assert!(count > 0, "the end, and no {text:?}: {}", String::from_utf8_lossy(bytes));
        bytes.extend(&part[..count]);
    }
}

#[test]
fn every_engine_is_made_anew_under_a_stream_and_its_log_is_read() {
    let Some(fleet) = OwnFleet::new(&config(2, 3)) else { return };
    fleet.template(&WITH_CONTROL);
    let server = fleet.serve(None, &[]);
    wait_ready(&server, 2);
    let before = names(&fleet);
    let crowd = Crowd::new();
    let id = signed(RATE, Scenario::healthy(), 1);
    let place = crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
    until(&server, "it plays", || crowd.seen(place).run(RATE) >= Duration::from_secs(3));

    let engine = fleet.places(&server).remove(0);
    let used = &engine.name;
    let says = |line: &str| fleet.control(&engine, "/say", &json!({ "line": line }));
    (1..=6).for_each(|number| says(&format!("line {number}")));
    let log = |asked: &str| {
        let answer = ask(server.address(), "GET", &format!("/api/v1/engines/{used}/logs{asked}"), "", "");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=utf-8")));
        answer.text()
    };
    until(&server, "it has said all", || log("").contains("line 6\n"));
    // What it wrote to its standard output is among that.
    let written = fleet.docker.docker(&["logs", used]);
    assert!(!written.is_empty() && log("").contains(&format!("{written}\n")), "{written:?}: {}", log(""));
    let tail = log("?tail=5");
    let expected: String = (2..=6).map(|number| format!("engine-emulator: line {number}\n")).collect();
    assert_eq!(tail, expected);
    let as_before =
        told(&server, "GET", &format!("/api/v1/containers/{used}/logs?tail=5&timestamps=false"), "", 200);
    assert_eq!(as_before["logs"], tail);
    let mut followed = TcpStream::connect(server.address()).unwrap();
    followed.set_read_timeout(Some(SOON)).unwrap();
    let host = server.address();
    write!(followed, "GET /api/v1/engines/{used}/logs?tail=1&follow=true HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut bytes = Vec::new();
    read_until(&mut followed, &mut bytes, "line 6\n");
    says("while it is followed");
    read_until(&mut followed, &mut bytes, "while it is followed\n");

    let rolling = told(&server, "POST", "/api/v1/reprovision", "", 202);
    assert_eq!(rolling, json!({ "running": true, "total": 2, "done": 0 }));
    refused(&server, "POST", "/api/v1/reprovision", "", 409, "already_rolling");
    let mut done = BTreeSet::new();
    until(&server, "all are made anew", || {
        let rolling = json_at(server.address(), "/api/v1/reprovision");
        let ready = engines(&server, "ready").into_iter().filter(|name| !before.contains(name)).count();
        assert!(rolling["done"].as_u64().unwrap() <= ready as u64, "{rolling}, and {ready} are ready");
        done.insert(rolling["done"].as_u64().unwrap());
        rolling == json!({ "running": false, "total": 2, "done": 2 })
    });
    assert!(done.contains(&1), "one after the other: {done:?}");
    let idle = before.iter().find(|name| *name != used).unwrap();
    assert_eq!(drained(&server), [idle.as_str(), used], "who serves nobody first");
    wait_ready(&server, 2);
    let after = names(&fleet);
    assert!(after.len() == 2 && after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    followed.read_to_end(&mut bytes).expect("it ends with its engine");
    let answer = parse_answer(&bytes).expect("a whole answer");
    let lines = "engine-emulator: line 6\nengine-emulator: while it is followed\n";
    assert!(answer.status == 200 && answer.text().starts_with(lines), "{}", answer.text());

    // In place, and its stream moves before all the same.
    let used = fleet.places(&server).remove(0).name;
    let before = started_at(&fleet, &used);
    told(&server, "POST", &format!("/api/v1/engines/{used}/restart"), "", 202);
    until(&server, "restarted", || started_at(&fleet, &used) != before);
    let run = crowd.seen(place).run(RATE) + Duration::from_secs(2);
    until(&server, "it goes on", || crowd.seen(place).run(RATE) >= run);
    assert_unbroken("the viewer", &crowd.seen(place), RATE, run);
    assert_eq!(drained(&server).last(), Some(&used));
    assert!(!server.log().contains("source lost"), "{}", server.log());
    println!("longest gap while all engines were made anew: {:?}", crowd.seen(place).longest_gap);
}

/// Engines that were emptied, in order.
fn drained(server: &Server) -> Vec<String> {
    let events = json_at(server.address(), "/api/v1/events?limit=1000");
    let events = events["events"].as_array().unwrap().iter().filter(|e| e["code"] == "engine_drains");
    events.map(|event| event["engine"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn templates_outlive_the_server_and_a_disk_that_is_none_is_told() {
    let Some(fleet) = OwnFleet::new(&config(1, 2)) else { return };
    let mut server = fleet.serve(None, &["--keep-engines"]);
    wait_ready(&server, 1);
    let mine = json!({
        "variant": "custom", "image": support::docker::IMAGE,
        "command": ["--address", "0.0.0.0", "--first-port", "{http_port}"],
        "environment": { "MY_TOKEN": "hunter22", "PLAIN": "seen" },
    });
    let created = told(&server, "PUT", "/api/v1/templates/first", &mine.to_string(), 201);
    assert_eq!(created, json!({ "name": "first", "saved": "created", "stored": true }));
    let same = told(&server, "PUT", "/api/v1/templates/first", &mine.to_string(), 200);
    assert_eq!(same["saved"], "unchanged");
    let renamed = told(&server, "POST", "/api/v1/templates/first/rename", r#"{"to":"mine"}"#, 200);
    assert_eq!(renamed, json!({ "name": "mine", "was": "first", "stored": true }));
    let shown = json_at(server.address(), "/api/v1/templates/mine");
    assert_eq!(shown["environment"], json!({ "MY_TOKEN": "***", "PLAIN": "seen" }));
    assert!(!json_at(server.address(), "/api/v1/templates").to_string().contains("hunter22"));
    let before = names(&fleet);
    let active = told(&server, "POST", "/api/v1/templates/mine/activate", "", 200);
    assert_eq!(active, json!({ "active": "mine", "changed": true, "stored": true }));
    until(&server, "its engine is made of it", || {
        let all = fleet.docker.containers();
        let [one] = &all[..] else { return false };
        let environment = fleet.docker.inspect(&one.id)["Config"]["Env"].to_string();
        !before.contains(&one.name) && environment.contains("MY_TOKEN=hunter22")
    });
    wait_ready(&server, 1);
    let exported = told(&server, "GET", "/api/v1/templates/export", "", 200);
    assert!(exported["active"] == "mine" && exported.to_string().contains("hunter22"), "{exported}");
    assert!(server.terminate().0.success());
    drop(server);

    let after = names(&fleet);
    let server = fleet.serve(None, &["--keep-engines"]).allow("cannot be stored");
    wait_ready(&server, 1);
    assert_eq!(told(&server, "GET", "/api/v1/templates/export", "", 200), exported);
    assert_eq!(names(&fleet), after, "the engine is adopted, and not made anew");
    let imported = told(&server, "POST", "/api/v1/templates/import", &exported.to_string(), 200);
    assert_eq!(
        (&imported["created"], &imported["unchanged"]),
        (&json!([]), &json!(["emulated", "mine"])),
        "{imported}"
    );
    let gone = told(&server, "DELETE", "/api/v1/templates/emulated", "", 200);
    assert_eq!(gone, json!({ "deleted": "emulated", "stored": true }));
    let imported = told(&server, "POST", "/api/v1/templates/import", &exported.to_string(), 200);
    assert_eq!(
        (&imported["created"], &imported["unchanged"]),
        (&json!(["emulated"]), &json!(["mine"])),
        "{imported}"
    );
    assert_eq!(told(&server, "GET", "/api/v1/templates/export", "", 200), exported);

    // The data directory goes away under the server.
    let aside = fleet.data.path().with_extension("aside");
    std::fs::rename(fleet.data.path(), &aside).unwrap();
    refused(&server, "PUT", "/api/v1/templates/lost", &mine.to_string(), 500, "not_stored");
    assert_eq!(
        json_at(server.address(), "/api/v1/templates/lost")["name"],
        "lost",
        "it is in force all the same"
    );
    std::fs::rename(&aside, fleet.data.path()).unwrap();
    assert_eq!(told(&server, "DELETE", "/api/v1/templates/lost", "", 200)["stored"], true);
}
