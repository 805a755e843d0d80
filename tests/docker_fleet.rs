//! Containers with our label are the engines, as they come and go, and Docker
//! is needed for nothing but to say which there are.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    process::Command,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Scenario};
use serde_json::{Value, json};
use support::{
    Server,
    crowd::{Crowd, assert_unbroken},
    docker::Dockerd,
    get,
    stage::{path, signed},
    tool::Scratch,
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);
/// An engine that came or left is known within this time.
const KNOWN: Duration = Duration::from_secs(3);
/// More than the burst, so that real time is in it.
const RUN: Duration = Duration::from_secs(12);
/// Engines are found, and none is made.
const FOUND_ONLY: (&str, &str) = ("MILLRACE_FLEET_MAX", "0");
const LABEL: [&str; 2] = ["--label", "io.millrace.engine=true"];

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run_labelled(docker: &Dockerd, name: &str) -> SocketAddr {
    let port = free_port();
    let label = format!("io.millrace.port={port}");
    docker.run_engine(name, port, &[LABEL[0], LABEL[1], "--label", &label], &[]);
    ([127, 0, 0, 1], port).into()
}

fn json(address: SocketAddr, path: &str) -> Value {
    serde_json::from_slice(&get(address, path).unwrap().body).unwrap()
}

/// Id, name, address and state of each engine, in order of ids.
fn engines(server: &Server) -> Vec<(u64, String, String, String)> {
    let answer = json(server.address(), "/api/v1/engines");
    let engines = answer["engines"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    engines
        .map(|e| (e["id"].as_u64().unwrap(), text(&e["name"]), text(&e["address"]), text(&e["state"])))
        .collect()
}

fn names(server: &Server) -> Vec<String> {
    engines(server).into_iter().map(|(_, name, ..)| name).collect()
}

#[track_caller]
fn wait_ready(server: &Server, expected: &[&str]) {
    let is_so = || {
        let now = engines(server);
        now.iter().all(|e| e.3 == "ready") && now.iter().map(|e| e.1.as_str()).eq(expected.iter().copied())
    };
    assert!(wait_until(SOON, is_so), "{:#?}; the log:\n{}", engines(server), server.log());
}

/// One more viewer, once it has seen `RUN` of its stream without a fault.
#[track_caller]
fn watches(server: &Server, crowd: &Crowd, id: &ContentId) -> usize {
    let place = crowd.ask(server.address(), &path(id), id.verifier().unwrap());
    goes_on(crowd, place, RUN);
    place
}

#[track_caller]
fn goes_on(crowd: &Crowd, place: usize, run: Duration) {
    let is_done = || crowd.seen(place).run(RATE) >= run || crowd.seen(place).end.is_some();
    assert!(wait_until(run + SOON, is_done), "{:#?}", crowd.seen(place));
    assert_unbroken(&format!("viewer {place}"), &crowd.seen(place), RATE, run);
}

/// The name of the engine that plays the only stream of this id.
fn engine_of(server: &Server, id: &ContentId) -> String {
    let streams = json(server.address(), "/api/v1/streams");
    let streams = streams["streams"].as_array().unwrap();
    let stream = streams.iter().find(|s| s["key"] == json!(format!("id:{id}"))).unwrap();
    let engines = engines(server);
    engines.iter().find(|e| Some(e.0) == stream["engine"].as_u64()).unwrap().1.clone()
}

#[test]
fn labelled_containers_are_the_engines_as_they_come_and_go() {
    let Some(mut docker) = Dockerd::new() else { return };
    let uri = docker.uri();
    // Before the daemon runs at all.
    let server = Server::start_with(&[FOUND_ONLY], &["--docker", &uri]).allow("Docker does not answer");
    assert!(server.logs_within(SOON, "Docker does not answer"), "{}", server.log());
    if !docker.start() {
        return;
    }
    docker.make_image();
    assert!(server.logs_within(SOON, "Docker answers now"), "{}", server.log());
    assert_eq!(server.get("/readyz").status, 503, "no engine, so not ready");

    let first = run_labelled(&docker, "first");
    run_labelled(&docker, "second");
    let (unlabelled, control) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    docker.run_engine(
        "unlabelled",
        unlabelled,
        &["--label", "io.millrace.engine=false"],
        &["--control", &control.to_string()],
    );
    wait_ready(&server, &["first", "second"]);
    assert_eq!(engines(&server)[0].2, first.to_string(), "where its label says");
    assert_eq!(server.get("/readyz").status, 200);
    they_are_seen(&uri);

    let crowd = Crowd::new();
    let id = signed(RATE, Scenario::healthy(), 1);
    let viewer = watches(&server, &crowd, &id);
    let playing = engine_of(&server, &id);
    let idle = if playing == "first" { "second" } else { "first" };
    let before = engines(&server);
    docker.docker(&["kill", idle]);
    assert!(wait_until(KNOWN, || names(&server) == [playing.as_str()]), "{:#?}", engines(&server));
    run_labelled(&docker, "third");
    assert!(wait_until(KNOWN, || names(&server) == [playing.as_str(), "third"]), "{:#?}", engines(&server));
    docker.docker(&["start", idle]);
    assert!(wait_until(KNOWN, || names(&server).len() == 3), "{:#?}", engines(&server));
    let after = engines(&server);
    assert!(after[0].0 <= 1 && after[1].0 == 2 && after[2].0 == 3, "an id of {before:?} is in {after:?}");
    docker.docker(&["kill", idle]);
    assert!(wait_until(KNOWN, || names(&server) == [playing.as_str(), "third"]), "{:#?}", engines(&server));
    wait_ready(&server, &[&playing, "third"]);

    // Without Docker the engines go on, and so does everything on them.
    let known = engines(&server);
    docker.stop();
    let complaints = || server.log().matches("Docker does not answer").count();
    assert!(wait_until(SOON, || complaints() == 2), "{}", server.log());
    let id = signed(RATE, Scenario::healthy(), 2);
    watches(&server, &crowd, &id);
    goes_on(&crowd, viewer, crowd.seen(viewer).run(RATE) + Duration::from_secs(2));
    assert_eq!(engines(&server), known);

    assert!(docker.start());
    assert!(wait_until(SOON, || server.log().matches("Docker answers now").count() == 2), "{}", server.log());
    docker.docker(&["start", idle]);
    assert!(wait_until(KNOWN, || names(&server).len() == 3), "{:#?}", engines(&server));
    assert_eq!(engines(&server)[..2], known);

    // Whoever plays when it dies is gone as well.
    docker.docker(&["kill", &playing]);
    assert!(wait_until(KNOWN, || !names(&server).contains(&playing)), "{:#?}", engines(&server));

    let counters = json(control, "/counters");
    let requests = counters["requests"].as_object().unwrap();
    assert!(requests.values().all(|count| *count == json!(0)), "the unlabelled one was asked: {counters}");
}

/// `check` names the daemon and counts its engines, and a server that is told
/// of no engine uses them.
fn they_are_seen(uri: &str) {
    for args in [&["--docker", uri][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.env_clear().envs([FOUND_ONLY, ("DOCKER_HOST", uri)]).args([
            "check",
            "--json",
            "--listen",
            "127.0.0.1:0",
        ]);
        let output = command.args(args).output().unwrap();
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = |what: &str| -> Vec<String> {
            let all = findings.as_array().unwrap().iter().filter(|f| f["what"] == what);
            all.map(|f| f["found"].as_str().unwrap().to_owned()).collect()
        };
        let docker = found("Docker");
        assert!(docker.len() == 1 && docker[0].starts_with(&format!("{uri} runs Docker 2")), "{docker:?}");
        assert_eq!(found("engine"), ["2 containers have the label io.millrace.engine=true"]);
    }
    let server = Server::start_with(&[FOUND_ONLY, ("DOCKER_HOST", uri)], &[]);
    let line = format!("no engine is named, so those that run in Docker at {uri} are used");
    assert!(server.logs_within(SOON, &line), "{}", server.log());
    assert!(server.logs_within(SOON, "2 of 2 labelled ready"), "{}", server.log());
}

#[test]
fn a_docker_that_does_not_answer_is_named_with_the_remedy_and_nobody_waits_for_it() {
    let socket = Scratch::new();
    let uri = format!("unix://{}", socket.path().join("docker.sock").display());
    let server =
        Server::start_with(&[FOUND_ONLY], &["--docker", &uri, "--cpus", "0"]).allow("Docker does not answer");
    assert!(server.logs_within(SOON, "0 of 0 labelled ready"), "{}", server.log());
    let log = server.log();
    assert!(log.contains("there is no such socket") && log.contains("start Docker"), "{log}");
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("io.millrace.engine=true"), "{}", ready.text());
    let asked = Instant::now();
    let stream = server.get(&path(&signed(RATE, Scenario::healthy(), 1)));
    assert_eq!(stream.status, 503);
    assert!(stream.text().contains("\"no_engine\""), "{}", stream.text());
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(server.get("/healthz").status, 200, "restarting it would not help");
    assert_eq!(server.log().matches("WARN").count(), 1, "{}", server.log());
}

#[test]
fn a_docker_that_nobody_named_is_waited_for_a_second_and_then_engines_are_emulated() {
    let socket = Scratch::new();
    let path = socket.path().join("docker.sock");
    // Takes connections and answers nobody.
    let _deaf = UnixListener::bind(&path).unwrap();
    let uri = format!("unix://{}", path.display());
    let started = Instant::now();
    let server = Server::start_with(&[("DOCKER_HOST", &uri)], &[]);
    assert!(server.logs_within(SOON, "so 2 emulated ones play a test picture"), "{}", server.log());
    assert!(server.log().contains(&format!("Docker at {uri}: no answer within 1s")), "{}", server.log());
    assert!(server.logs_within(SOON, "2 of 2 emulated ready"), "{}", server.log());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
