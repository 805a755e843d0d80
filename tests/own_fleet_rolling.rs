//! Engines of our own are replaced one at a time, and streams move before.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{ContentId, Scenario};
use support::{
    Server,
    crowd::{Crowd, assert_unbroken},
    docker::{DockerProxy, free_port},
    own_fleet::{self, Moment, OwnFleet, counts, engine_of, engines, wait_ready},
    pool::session,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(60);
const COMMAND: [&str; 4] = ["--address", "0.0.0.0", "--first-port", "{http_port}"];

fn on_host(more: &str) -> String {
    format!(
        "network = \"host\"\nports = \"{}\"\n[fleet]\nstarts_per_minute = 600\n{more}",
        own_fleet::ports()
    )
}

fn watch(crowd: &Crowd, server: &Server, id: &ContentId) -> usize {
    crowd.ask(server.address(), &path(id), id.verifier().unwrap())
}

/// How many were killed while a replacement was still missing: one at a time
/// means that each is made before the next one goes.
fn assert_one_at_a_time(history: &[Moment]) {
    let mut missing = BTreeSet::new();
    for moment in history {
        match moment.what.as_str() {
            "die" => {
                assert!(missing.is_empty(), "{} goes while {missing:?} has no replacement", moment.name);
                missing.insert(&moment.name);
            }
            "start" => missing.clear(),
            _ => {}
        }
    }
}

/// Streams move before their engine goes: none has lost it.
#[track_caller]
fn assert_none_lost(server: &Server) {
    assert!(server.log().contains("source plays"), "{}", server.log());
    assert!(!server.log().contains("source lost"), "{}", server.log());
}

#[test]
fn engines_of_an_old_template_are_replaced_one_at_a_time_without_a_break() {
    let Some(fleet) = OwnFleet::new(&on_host("min = 3\nmax = 4\nspare_slots = 0\nsustained = \"60s\"\n"))
    else {
        return;
    };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let mut before = fleet.serve(None, &["--keep-engines"]);
    wait_ready(&before, 3);
    let old: BTreeSet<_> = fleet.ours().into_iter().map(|c| c.id).collect();
    let old_names: Vec<_> = fleet.ours().into_iter().map(|c| c.name).collect();
    let old_spec = fleet.ours()[0].labels["io.millrace.spec"].clone();
    before.terminate();
    assert_eq!(fleet.ours().into_iter().map(|c| c.id).collect::<BTreeSet<_>>(), old, "they are kept");

    fleet.template(&[&COMMAND[..], &["--seed", "2"]].concat());
    let since = SystemTime::now();
    let crowd = Crowd::new();
    let id = signed(RATE, Scenario::healthy(), 1);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let begun = Instant::now();
    // The viewer comes before it is ready: it may say so when all is done.
    let (server, place) = thread::scope(|scope| {
        let coming = scope.spawn(|| {
            assert!(wait_until(SOON, || TcpStream::connect(address).is_ok()), "nobody listens");
            crowd.ask(address, &path(&id), id.verifier().unwrap())
        });
        // On this thread, with whose end it would be killed.
        let server = fleet.serve(Some(&proxy.uri()), &["--listen", &address.to_string()]);
        (server, coming.join().unwrap())
    });
    let mut fewest = usize::MAX;
    let mut has_been_full = false;
    let is_over = wait_until(LATER, || {
        let ready = engines(&server, "ready").len();
        has_been_full |= ready == 3;
        if has_been_full {
            fewest = fewest.min(ready);
        }
        ready == 3 && fleet.ours().iter().all(|c| !old.contains(&c.id))
    });
    assert!(is_over, "{:#?}\n{}", fleet.containers(), server.log());
    let whole = session(&server, id).unwrap();
    let notes = whole["timeline"].as_array().unwrap().iter();
    let on: BTreeSet<_> = notes.filter_map(|note| note["engine"].as_u64()).collect();
    println!("three engines replaced {:?} after the start; the stream was on {on:?}", begun.elapsed());
    assert!(fewest >= 2, "only {fewest} were ready at some time\n{}", server.log());
    assert!(on.len() >= 2, "the stream has moved: {whole:#}");
    let run = begun.elapsed();
    assert!(wait_until(run + SOON, || crowd.seen(place).run(RATE) >= run), "{:#?}", crowd.seen(place));
    assert_unbroken("the viewer", &crowd.seen(place), RATE, run);
    assert_none_lost(&server);

    let now = fleet.ours();
    assert_eq!(now.len(), 3, "{now:#?}");
    let specs: BTreeSet<_> = now.iter().map(|c| c.labels["io.millrace.spec"].clone()).collect();
    assert!(specs.len() == 1 && !specs.contains(&old_spec), "{specs:?} after {old_spec}");
    assert_eq!(proxy.count("POST /containers/create"), 3, "one for each");
    assert_eq!(proxy.count("DELETE /containers/{id}"), 3);
    // The next one goes only when the new one is ready.
    let mut coming = None;
    for line in server.log().lines() {
        let is_old = old_names.iter().any(|name| line.contains(&format!("engine=\"{name}\"")));
        if line.contains("event=\"engine_drains\"") {
            assert_eq!(coming.replace(line.to_owned()), None, "and yet: {line}");
        } else if line.contains("event=\"engine_ready\"") && !is_old {
            coming = None;
        }
    }
    let history = fleet.history(since);
    assert_one_at_a_time(&history);
    let starts = history.iter().filter(|m| m.what == "start").count();
    assert_eq!(starts, 3, "{history:#?}");
}

#[test]
fn an_engine_that_is_old_is_replaced_and_its_stream_moves_unbroken() {
    let Some(fleet) =
        OwnFleet::new(&on_host("min = 2\nmax = 3\nspare_slots = 0\nsustained = \"60s\"\nmax_age = \"6s\"\n"))
    else {
        return;
    };
    let since = SystemTime::now();
    let server = fleet.serve(None, &[]);
    wait_ready(&server, 2);
    let crowd = Crowd::new();
    let id = signed(RATE, Scenario::healthy(), 1);
    let place = watch(&crowd, &server, &id);
    // A stream moves once in ten seconds at most.
    // Of the stream, of which the first ten seconds come at once: time for two moves.
    let run = Duration::from_secs(35);
    let mut on = Vec::new();
    let mut fewest = usize::MAX;
    let is_over = wait_until(run + SOON, || {
        fewest = fewest.min(engines(&server, "ready").len());
        if let Some(engine) = engine_of(&server, &id)
            && on.last() != Some(&engine)
        {
            on.push(engine);
        }
        crowd.seen(place).run(RATE) >= run
    });
    assert!(is_over, "{:#?}\n{}", crowd.seen(place), server.log());
    assert_unbroken("the viewer", &crowd.seen(place), RATE, run);
    assert_none_lost(&server);
    let history = fleet.history(since);
    let made = history.iter().filter(|m| m.what == "create").count();
    println!("{made} engines made for two places within {run:?}; the stream was on {on:?}");
    assert!(made >= 4 && on.len() >= 2, "{made} made; {on:?}");
    assert!(fewest >= 1, "none was ready at some time");
    assert_one_at_a_time(&history);
    assert!(
        counts(&history, "start", "die").into_iter().skip_while(|count| *count < 2).all(|count| count >= 1)
    );
    for died in history.iter().filter(|m| m.what == "die") {
        let made = history.iter().find(|m| m.id == died.id && m.what == "create").unwrap();
        assert!(died.at - made.at >= Duration::from_secs(5), "{} lived {:?}", died.name, died.at - made.at);
    }
}

#[test]
fn an_engine_that_has_played_its_sessions_is_replaced_and_its_streams_move_unbroken() {
    let config = on_host(
        "min = 2\nmax = 3\nspare_slots = 3\nsustained = \"1s\"\nmax_sessions = 3\nmin_life = \"5s\"\n",
    );
    let Some(fleet) = OwnFleet::new(&config) else { return };
    let server = fleet.serve(None, &[]);
    wait_ready(&server, 2);
    let old: BTreeSet<_> = fleet.ours().into_iter().map(|c| c.id).collect();
    let crowd = Crowd::new();
    let ids: Vec<_> = (1..=5).map(|serial| signed(RATE, Scenario::healthy(), serial)).collect();
    let mut places = Vec::new();
    for id in &ids {
        let place = watch(&crowd, &server, id);
        assert!(wait_until(SOON, || crowd.seen(place).picture.is_some()), "{}", server.log());
        places.push(place);
    }
    // Of five streams on two engines, three are on one.
    let replaced = || fleet.ours().iter().filter(|c| old.contains(&c.id)).count() <= 1;
    assert!(wait_until(LATER, replaced), "{:#?}\n{}", fleet.containers(), server.log());
    let run = Duration::from_secs(10);
    for &place in &places {
        assert!(wait_until(run + SOON, || crowd.seen(place).run(RATE) >= run), "{:#?}", crowd.seen(place));
        assert_unbroken(&format!("viewer {place}"), &crowd.seen(place), RATE, run);
    }
    places[1..].iter().for_each(|place| crowd.leave(*place));
    let names = fleet.containers();
    println!("{names:?} after five streams");
    assert!(wait_until(LATER, || engines(&server, "ready").len() == 2), "{}", server.log());
    let before = crowd.seen(places[0]).run(RATE);
    assert!(wait_until(SOON, || crowd.seen(places[0]).run(RATE) >= before + run));
    assert_unbroken("who stays", &crowd.seen(places[0]), RATE, before + run);
    assert_none_lost(&server);
}
