//! Engines of our own outlive the server and the Docker daemon, and those who
//! watch lose nothing but what they have to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Scenario};
use serde_json::{Value, json};
use support::{
    Server,
    crowd::{Crowd, assert_unbroken},
    docker::{Container, DockerProxy},
    own_fleet::{
        self, CONTROLLED, OwnFleet, changes, control_of, engine_of, engines, json_at, taken, tell, wait_ready,
    },
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 500_000;
const SOON: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(60);
const RUN: Duration = Duration::from_secs(5);
const CREATE: &str = "POST /containers/create";

fn on_host(docker: &str, more: &str) -> String {
    format!(
        "network = \"host\"\nports = \"{}\"\n{docker}[engines]\ncapacity = 3\n[streams]\nlinger = \"0s\"\n\
         [fleet]\nspare_slots = 0\nstarts_per_minute = 600\n{more}",
        own_fleet::ports()
    )
}

fn watch(crowd: &Crowd, address: SocketAddr, id: &ContentId) -> usize {
    crowd.ask(address, &path(id), id.verifier().unwrap())
}

#[track_caller]
fn goes_on(crowd: &Crowd, place: usize, run: Duration) {
    let is_done = || crowd.seen(place).run(RATE) >= run || crowd.seen(place).end.is_some();
    assert!(wait_until(run + LATER, is_done), "{:#?}", crowd.seen(place));
    assert_unbroken(&format!("viewer {place}"), &crowd.seen(place), RATE, run);
}

/// What an engine has counted of its clients.
fn counters(container: &Container) -> Value {
    json_at(control_of(container), "/counters")
}

/// Each pid that an engine was started with, and how often.
fn pids(all: &[Container]) -> BTreeMap<String, u64> {
    let mut pids = BTreeMap::new();
    for container in all {
        let counters = counters(container);
        for players in counters["per_player"].as_object().unwrap().values() {
            for (pid, player) in players.as_object().unwrap() {
                *pids.entry(pid.clone()).or_insert(0) += player["starts"].as_u64().unwrap();
            }
        }
    }
    pids
}

/// Streams that are read from each engine now.
fn readers(all: &[Container]) -> Vec<u64> {
    all.iter().map(|container| counters(container)["open_readers"].as_u64().unwrap()).collect()
}

/// The engines that play these, once the API knows of all.
fn playing(server: &Server, ids: &[ContentId]) -> BTreeSet<String> {
    let mut engines = BTreeSet::new();
    let is_known = wait_until(SOON, || {
        engines = ids.iter().filter_map(|id| engine_of(server, id)).collect();
        engines.len() == ids.len()
    });
    assert!(is_known, "not each on its own engine: {engines:?}\n{}", server.log());
    engines
}

#[test]
fn a_killed_server_finds_its_engines_again_and_viewers_their_streams() {
    let Some(fleet) = OwnFleet::new(&on_host("", "min = 7\nmax = 7\n")) else { return };
    fleet.template(&CONTROLLED);
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let mut first = fleet.serve(Some(&proxy.uri()), &[]);
    wait_ready(&first, 7);
    let ids: Vec<_> = (1..=20).map(|serial| signed(RATE, Scenario::healthy(), serial)).collect();
    let crowd = Crowd::new();
    for id in &ids {
        watch(&crowd, first.address(), id);
    }
    crowd.wait_all(LATER, "plays", |seen| seen.run(RATE) >= RUN);
    let (all, lives) = (fleet.ours(), fleet.lives());
    assert_eq!(lives.len(), 7);
    assert_eq!(readers(&all).iter().sum::<u64>(), 20);
    let used = pids(&all);
    let so_far = changes(&proxy).len();
    assert_eq!(so_far, 14, "seven made and started");

    first.kill();
    let killed = Instant::now();
    let second = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
    let up = killed.elapsed();
    let again = Crowd::new();
    for id in &ids {
        watch(&again, second.address(), id);
    }
    again.wait_all(LATER, "a picture", |seen| seen.picture.is_some());
    let mut pictures: Vec<_> = again.all().iter().map(|seen| seen.picture.unwrap()).collect();
    pictures.sort();
    println!(
        "killed; the next one listens after {up:?}; 20 viewers have a picture {:?} after they ask again (median), {:?} (last)",
        pictures[10], pictures[19]
    );
    // Whoever it finds is as good as its first probe says.
    assert!(up < Duration::from_millis(2_500), "{up:?}\n{}", second.log());
    let quick = pictures.iter().filter(|picture| **picture < Duration::from_secs(2)).count();
    assert!(quick >= 18 && pictures[19] < Duration::from_secs(5), "{pictures:?}\n{}", second.log());
    (0..20).for_each(|place| goes_on(&again, place, RUN));

    assert_eq!(fleet.lives(), lives, "each engine runs as it did");
    assert_eq!(changes(&proxy).len(), so_far, "{:#?}", &changes(&proxy)[so_far..]);
    let slots = taken(&second);
    assert!(
        slots.len() == 7 && slots.values().sum::<u64>() == 20 && slots.values().all(|n| *n <= 3),
        "{slots:?}"
    );
    let read = readers(&all);
    assert!(read.iter().sum::<u64>() == 20 && read.iter().all(|count| *count <= 3), "{read:?}");
    let now = pids(&all);
    assert!(now.values().all(|starts| *starts == 1), "a pid was used twice: {now:#?}");
    assert!(now.len() >= used.len() + 20, "{} and then {}", used.len(), now.len());
    for container in &all {
        assert_eq!(counters(container)["misuse"]["repeated_pid"], 0, "{}", container.name);
    }
}

/// Runs an engine that is not of our fleet, and otherwise labelled as if it were.
fn run_foreign(fleet: &OwnFleet, name: &str, more: &[&str]) {
    let port = support::docker::free_port();
    let spec = &fleet.ours()[0].labels["io.millrace.spec"];
    let own = [
        "engine=true".to_owned(),
        format!("port={port}"),
        format!("ports=http={port}"),
        format!("spec={spec}"),
    ];
    let own = own.map(|label| format!("io.millrace.{label}"));
    let labels = own.iter().flat_map(|label| ["--label", label]);
    let labels: Vec<_> = labels.chain(more.iter().copied()).collect();
    fleet.docker.run_engine(name, port, &labels, &[]);
}

#[test]
fn a_server_that_ends_leaves_its_engines_or_takes_them_along_and_no_others() {
    let Some(fleet) = OwnFleet::new(&on_host("", "min = 3\nmax = 3\n")) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let mut server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
    wait_ready(&server, 3);
    let lives = fleet.lives();
    let so_far = changes(&proxy).len();
    let (status, _) = server.terminate();
    assert!(status.success(), "{}", server.log());
    assert_eq!((fleet.lives(), changes(&proxy).len()), (lives.clone(), so_far), "all are left as they are");

    run_foreign(&fleet, "nobodys", &[]);
    run_foreign(&fleet, "others", &["--label", "io.millrace.fleet=other"]);
    let mut server = fleet.serve(Some(&proxy.uri()), &[]);
    wait_ready(&server, 5);
    assert_eq!(fleet.lives(), lives);
    let (status, took) = server.terminate();
    assert!(status.success(), "{}", server.log());
    println!("three engines removed at the end within {took:?}");
    let left: Vec<_> = fleet.docker.containers().into_iter().map(|c| (c.name, c.state)).collect();
    assert_eq!(left, ["nobodys", "others"].map(|name| (name.to_owned(), "running".to_owned())));
    assert!(took < SOON / 2, "{took:?}\n{}", server.log());
    assert_eq!(proxy.count("DELETE /containers/{id}"), 3);
}

#[test]
fn what_stopped_meanwhile_is_removed_and_what_is_old_is_replaced() {
    let Some(fleet) = OwnFleet::new(&on_host("", "min = 2\nmax = 3\n")) else { return };
    let mut server = fleet.serve(None, &["--keep-engines"]);
    wait_ready(&server, 2);
    server.terminate();
    let [stopped, old] = <[Container; 2]>::try_from(fleet.ours()).unwrap();
    fleet.docker.docker(&["stop", &stopped.name]);
    fleet.template(&["--address", "0.0.0.0", "--first-port", "{http_port}", "--seed", "2"]);

    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet.serve(Some(&proxy.uri()), &[]);
    let is_new = || {
        let all = fleet.ours();
        all.len() == 2 && all.iter().all(|c| c.id != stopped.id && c.id != old.id)
    };
    assert!(wait_until(LATER, is_new), "{:#?}\n{}", fleet.containers(), server.log());
    wait_ready(&server, 2);
    let log = server.log();
    let line =
        log.lines().find(|line| line.contains("event=\"stray_removed\"")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&stopped.name), "{line}");
    // What it has written is not for everybody.
    for (headers, is_told) in [("", true), ("X-Forwarded-For: 127.0.0.1\r\n", false)] {
        let answer = own_fleet::ask(server.address(), "GET", "/api/v1/events", headers, "");
        let events: Value = serde_json::from_slice(&answer.body).unwrap();
        let events = events["events"].as_array().unwrap();
        let removed = events.iter().find(|event| event["code"] == "stray_removed").unwrap();
        assert_eq!(removed["engine"], *stopped.name, "{removed:#}");
        assert_eq!(removed["autopsy"]["exit_code"], 0, "{removed:#}");
        let lines = removed["autopsy"]["log_tail"].as_array().unwrap();
        assert_eq!(!lines.is_empty(), is_told, "{headers}{removed:#}");
    }
    let specs: BTreeSet<_> = fleet.ours().iter().map(|c| c.labels["io.millrace.spec"].clone()).collect();
    assert!(specs.len() == 1 && !specs.contains(&old.labels["io.millrace.spec"]), "{specs:?}");
    assert_eq!(proxy.count(CREATE), 2, "one for each");
}

#[test]
fn nobody_who_watches_notices_that_docker_restarts_or_is_away() {
    // What is longer shows nothing more, but the issue's own figure is to be had.
    let is_long = std::env::var("OWN_FLEET_LONG").is_ok_and(|value| value == "1");
    let away = Duration::from_secs(if is_long { 30 } else { 12 });
    let Some(mut fleet) = OwnFleet::new(&on_host("", "min = 5\nmax = 5\n")) else { return };
    fleet.template(&CONTROLLED);
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet
        .serve(Some(&proxy.uri()), &[])
        .allow("Docker does not answer")
        // Of the engine that dies while Docker is away.
        .allow("engine turned")
        .allow("its API does not answer")
        .allow("its container ended with status 3");
    wait_ready(&server, 5);
    let begun = Instant::now();
    let ids: Vec<_> = (1..=4).map(|serial| signed(RATE, Scenario::healthy(), serial)).collect();
    let crowd = Crowd::new();
    let mut places: Vec<_> = ids[..3].iter().map(|id| watch(&crowd, server.address(), id)).collect();
    places.iter().for_each(|place| goes_on(&crowd, *place, RUN));
    let (all, lives) = (fleet.ours(), fleet.lives());
    let so_far = changes(&proxy).len();

    assert!(fleet.docker.restart());
    assert!(server.logs_within(SOON, "Docker answers now"), "{}", server.log());
    let incident = |word: &str| server.log().lines().filter(|line| line.contains(word)).count();
    assert_eq!(fleet.lives(), lives, "live-restore");

    fleet.docker.kill9();
    let killed = Instant::now();
    let (lost, found) = (incident("Docker does not answer"), incident("Docker answers now"));
    assert!(
        wait_until(SOON, || incident("Docker does not answer") > lost) || lost > found,
        "{}",
        server.log()
    );
    // Whoever comes meanwhile gets a slot that is free.
    places.push(watch(&crowd, server.address(), &ids[3]));
    goes_on(&crowd, places[3], Duration::from_secs(1));
    println!("a new stream without Docker: picture after {:?}", crowd.seen(places[3]).picture.unwrap());
    let playing = playing(&server, &ids);
    let idle = all.iter().find(|c| !playing.contains(&c.name)).unwrap();
    tell(idle, "/end", &json!({ "after_ms": 100, "status": 3 }));
    assert!(wait_until(SOON, || engines(&server, "ready").len() == 4), "{}", server.log());
    assert_eq!(incident("Docker answers now"), found, "the incident is open");
    while killed.elapsed() < away {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(changes(&proxy).len(), so_far, "{:#?}", &changes(&proxy)[so_far..]);

    assert!(fleet.docker.start());
    let back = Instant::now();
    assert!(wait_until(LATER, || incident("Docker answers now") > found), "{}", server.log());
    println!("Docker found again {:?} after its start", back.elapsed());
    let took = wait_ready(&server, 5);
    println!("the engine that died meanwhile was replaced {took:?} later");
    // For whatever else might be done.
    assert!(
        !wait_until(Duration::from_secs(3), || changes(&proxy).len() > so_far + 1),
        "{:#?}",
        changes(&proxy)
    );
    let done: Vec<_> = changes(&proxy)[so_far..].iter().map(|call| call.route.clone()).collect();
    assert_eq!(done, ["POST /containers/{id}/restart"], "of the one that died");
    let mut now = fleet.lives();
    assert_ne!(now.get(&idle.id), lives.get(&idle.id), "it was started anew");
    now.insert(idle.id.clone(), lives[&idle.id].clone());
    assert_eq!(now, lives, "the same containers, and no others");
    let run = begun.elapsed() - SOON.min(begun.elapsed() / 4);
    places[..3].iter().for_each(|place| goes_on(&crowd, *place, run));
    goes_on(&crowd, places[3], RUN);
}
