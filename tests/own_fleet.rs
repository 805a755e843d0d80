//! Engines of our own: from none to as many as are needed, and back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use millrace_emulator::{ContentId, Scenario};
use support::{
    Server,
    crowd::{Crowd, assert_unbroken},
    docker::{Container, DockerProxy},
    own_fleet::{self, OwnFleet, changes, counts, engine_of, engines, port_of, taken, wait_ready},
    pool::session,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
/// Of one stream among many.
const LOW: u32 = 300_000;
const SOON: Duration = Duration::from_secs(20);
/// For many streams on a busy machine.
const LATER: Duration = Duration::from_secs(60);
const RUN: Duration = Duration::from_secs(8);
const CREATE: &str = "POST /containers/create";
const STOP: &str = "POST /containers/{id}/stop";
const REMOVE: &str = "DELETE /containers/{id}";

/// The host's network is the quickest, and makes ports those of the host.
fn on_host(more: &str) -> String {
    format!(
        "network = \"host\"\nports = \"{}\"\npredecessor_label = \"ondemand.app=orch\"\n{more}",
        own_fleet::ports()
    )
}

fn watch(crowd: &Crowd, server: &Server, id: &ContentId) -> usize {
    crowd.ask(server.address(), &path(id), id.verifier().unwrap())
}

#[track_caller]
fn goes_on(crowd: &Crowd, place: usize, rate: u32, run: Duration) {
    let is_done = || crowd.seen(place).run(rate) >= run || crowd.seen(place).end.is_some();
    assert!(wait_until(run + LATER, is_done), "{:#?}", crowd.seen(place));
    assert_unbroken(&format!("viewer {place}"), &crowd.seen(place), rate, run);
}

#[test]
fn from_nothing_to_the_least_engines_ready_and_playing() {
    let Some(fleet) = OwnFleet::new(&on_host("[fleet]\nmin = 2\nmax = 4\n")) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let begun = Instant::now();
    let server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
    wait_ready(&server, 2);
    println!("two engines ready {:?} after the start", begun.elapsed());
    let crowd = Crowd::new();
    let ids: Vec<_> = (1..=2).map(|serial| signed(RATE, Scenario::healthy(), serial)).collect();
    let places: Vec<_> = ids.iter().map(|id| watch(&crowd, &server, id)).collect();
    places.into_iter().for_each(|place| goes_on(&crowd, place, RATE, RUN));
    assert_eq!(taken(&server).into_values().collect::<Vec<_>>(), [1, 1], "each engine plays one");
    let routes: BTreeMap<_, _> = changes(&proxy).into_iter().fold(BTreeMap::new(), |mut all, call| {
        *all.entry(call.route).or_insert(0) += 1;
        all
    });
    let expected = [(CREATE, 2), ("POST /containers/{id}/start", 2)];
    assert_eq!(routes, expected.map(|(route, count)| (route.to_owned(), count)).into());
}

/// All of the labels that tools look for, ours and the predecessor's.
fn assert_labels(all: &[Container]) {
    let spec = all[0].labels.get("io.millrace.spec").unwrap();
    let mut ports = BTreeSet::new();
    for container in all {
        let port = port_of(container, "http").to_string();
        let expected = [
            ("io.millrace.engine", "true"),
            ("io.millrace.fleet", "millrace"),
            ("io.millrace.port", &port),
            ("io.millrace.spec", spec),
            ("acestream.config_hash", spec),
            ("acestream.config_generation", "1"),
            ("acestream.engine_variant", "custom"),
            ("acestream.http_port", &port),
            ("host.http_port", &port),
            ("ondemand.app", "orch"),
        ];
        for (label, value) in expected {
            assert_eq!(
                container.labels.get(label).map(String::as_str),
                Some(value),
                "{label}: {container:#?}"
            );
        }
        let number = container.name.strip_prefix("millrace-").map(str::parse::<u32>);
        assert!(matches!(number, Some(Ok(_))), "{}", container.name);
        ports.insert(port);
    }
    assert_eq!(ports.len(), all.len(), "a port was given twice");
}

#[test]
fn forty_waiting_streams_get_their_engines_and_those_go_when_they_have_left() {
    const COOLDOWN: Duration = Duration::from_secs(2);
    const MIN_LIFE: Duration = Duration::from_secs(15);
    // Of what is counted on a machine with other things to do.
    const SLACK: Duration = Duration::from_millis(500);
    // With what is to be spare, a fifteenth is wanted.
    let config = on_host(
        "[engines]\ncapacity = 3\n[streams]\nlinger = \"0s\"\n[fleet]\nmin = 2\nmax = 14\nspare_slots = 3\n\
         starts_per_minute = 600\ncooldown = \"2s\"\nmin_life = \"15s\"\nsurplus = \"1s\"\nsustained = \"1s\"\n",
    );
    let Some(fleet) = OwnFleet::new(&config) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let since = SystemTime::now();
    let server = fleet.serve(Some(&proxy.uri()), &[]);
    wait_ready(&server, 2);

    let crowd = Crowd::new();
    let ids: Vec<_> = (1..=40).map(|serial| signed(LOW, Scenario::healthy(), serial)).collect();
    let asked = Instant::now();
    for id in &ids {
        watch(&crowd, &server, id);
    }
    crowd.wait_all(LATER, "a picture", |seen| seen.picture.is_some());
    let mut pictures: Vec<_> = crowd.all().iter().map(|seen| seen.picture.unwrap()).collect();
    pictures.sort();
    wait_ready(&server, 14);
    println!(
        "40 streams: picture after {:?} (median), {:?} (last); 14 engines ready {:?} after they asked",
        pictures[20],
        pictures[39],
        asked.elapsed()
    );
    crowd.wait_all(LATER, "plays", |seen| seen.run(LOW) >= RUN || seen.end.is_some());
    (0..40).for_each(|place| assert_unbroken(&format!("viewer {place}"), &crowd.seen(place), LOW, RUN));
    // Longer than too few spare slots have to stand.
    assert!(!wait_until(Duration::from_secs(3), || proxy.count(CREATE) > 14), "{}", server.log());
    assert_eq!((proxy.count(CREATE), proxy.count(STOP), proxy.count(REMOVE)), (14, 0, 0));
    assert_eq!(taken(&server).values().sum::<u64>(), 40);
    let all = fleet.ours();
    assert_eq!(all.len(), 14);
    assert_labels(&all);

    // Two stay, on the youngest engines: the first to go, were they idle.
    let is_known = || ids.iter().all(|id| engine_of(&server, id).is_some());
    assert!(wait_until(SOON, is_known), "{}", server.log());
    let number = |name: &str| name.strip_prefix("millrace-").unwrap().parse::<u32>().unwrap();
    let mut on: BTreeMap<_, _> = BTreeMap::new();
    for (place, id) in ids.iter().enumerate() {
        on.insert(number(&engine_of(&server, id).unwrap()), place);
    }
    assert_eq!(on.len(), 14, "each plays");
    let stay = [on.pop_last(), on.pop_last()].map(|youngest| youngest.unwrap().1);
    let mut kept = stay.map(|place| engine_of(&server, &ids[place]).unwrap());
    kept.sort();
    let left = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let leaving = Instant::now();
    (0..40).filter(|place| !stay.contains(place)).for_each(|place| crowd.leave(place));
    assert!(wait_until(LATER, || proxy.count(REMOVE) >= 12), "{:#?}\n{}", fleet.containers(), server.log());
    println!("down to two engines {:?} after the others left", leaving.elapsed());
    assert_eq!(proxy.count(CREATE), 14, "not one more");
    let expected: Vec<_> = kept.iter().map(|name| (name.clone(), "running".to_owned())).collect();
    let are_left = wait_until(SOON, || fleet.containers() == expected);
    assert!(are_left, "those that play stay: {:?}, and not {expected:?}", fleet.containers());
    assert_eq!(engines(&server, "ready").len(), 2);
    let total = leaving.elapsed();
    stay.into_iter().for_each(|place| goes_on(&crowd, place, LOW, total));
    assert_eq!(proxy.count(STOP), 12);
    // Nothing goes beyond the least, though nobody plays.
    stay.into_iter().for_each(|place| crowd.leave(place));
    assert!(!wait_until(COOLDOWN * 2, || proxy.count(REMOVE) > 12), "{}", server.log());
    assert_eq!(taken(&server).into_values().collect::<Vec<_>>(), [0, 0]);

    let calls = changes(&proxy);
    let stops: Vec<_> = calls.iter().filter(|call| call.route == STOP).map(|call| call.at).collect();
    let pauses: Vec<_> = stops.windows(2).map(|two| two[1] - two[0]).collect();
    println!("between two removals: {pauses:?}");
    assert!(pauses.iter().all(|pause| *pause + SLACK >= COOLDOWN), "{pauses:?}");
    let history = fleet.history(since);
    assert_eq!(counts(&history, "create", "destroy").into_iter().max(), Some(14));
    for killed in history.iter().filter(|moment| moment.what == "kill") {
        let made = history.iter().find(|m| m.id == killed.id && m.what == "create").unwrap();
        assert!(killed.at - made.at >= MIN_LIFE, "{} lived {:?}", made.name, killed.at - made.at);
        assert!(killed.at >= left && !kept.contains(&killed.name), "{killed:?} with a stream on it");
    }
    let made: BTreeSet<_> = history.iter().filter(|m| m.what == "create").map(|m| &m.name).collect();
    assert_eq!(made.len(), 14, "a name was given twice");
}

#[test]
fn a_paused_engine_is_woken_for_a_stream_and_the_pool_is_filled_again() {
    const UNPAUSE: &str = "POST /containers/{id}/unpause";
    let config = on_host(
        "[engines]\ncapacity = 1\n[fleet]\nmin = 1\nmax = 5\npaused = 2\nspare_slots = 0\n\
         starts_per_minute = 600\nsustained = \"1s\"\n",
    );
    let Some(fleet) = OwnFleet::new(&config) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet.serve(Some(&proxy.uri()), &[]);
    let pool = |running, paused| {
        let all = fleet.containers();
        let count = |state: &str| all.iter().filter(|(_, s)| s == state).count();
        (count("running"), count("paused")) == (running, paused)
            && engines(&server, "paused").len() == paused
            && engines(&server, "ready").len() == running
    };
    assert!(wait_until(LATER, || pool(1, 2)), "{:#?}\n{}", fleet.containers(), server.log());
    assert_eq!(proxy.count(CREATE), 3);

    let crowd = Crowd::new();
    let ids: Vec<_> = (1..=2).map(|serial| signed(RATE, Scenario::healthy(), serial)).collect();
    let first = watch(&crowd, &server, &ids[0]);
    goes_on(&crowd, first, RATE, Duration::from_secs(1));
    assert_eq!(proxy.count(UNPAUSE), 0);
    let asked = Instant::now();
    let second = watch(&crowd, &server, &ids[1]);
    crowd.wait_all(SOON, "a picture", |seen| seen.picture.is_some());
    let whole = session(&server, ids[1]).unwrap();
    let at = |what: &str| {
        let timeline = whole["timeline"].as_array().unwrap().iter();
        timeline.clone().find(|note| note["what"] == what).and_then(|note| note["at_seconds"].as_f64())
    };
    let (queued, slot) = (at("queued").unwrap(), at("slot").unwrap());
    println!(
        "a stream had a paused engine's slot {:.0} ms after it queued, and a picture after {:?}",
        (slot - queued) * 1e3,
        crowd.seen(second).picture.unwrap()
    );
    assert!(slot - queued < 1.0, "{whole:#}");
    assert!(wait_until(SOON, || pool(2, 2)), "{:#?}\n{}", fleet.containers(), server.log());
    let since: Vec<_> = changes(&proxy).into_iter().filter(|call| call.at >= asked).collect();
    let routes: Vec<_> = since.iter().map(|call| call.route.as_str()).collect();
    let expected = [UNPAUSE, CREATE, "POST /containers/{id}/start", "POST /containers/{id}/pause"];
    assert_eq!(routes, expected, "woken first, refilled after");
    [first, second].into_iter().for_each(|place| goes_on(&crowd, place, RATE, RUN));
}
