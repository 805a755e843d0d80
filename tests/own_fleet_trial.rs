//! `check --trial` takes back what it does, touches nothing of others, and no
//! server notices it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, thread, time::Duration};

use support::{
    docker::{Act, Container, DockerProxy, Times},
    own_fleet::{self, OwnFleet, engines},
    server::Server,
};

mod support;

const CREATE: &str = "POST /containers/create";
const REMOVE: &str = "DELETE /containers/{id}";
const IMAGE: (&str, &str) = ("ok", "image engine-emulator is there");
const MADE: (&str, &str) = ("ok", "a container can be made; it was not started");

/// A fleet of one engine.
fn config() -> String {
    let ports = own_fleet::ports();
    format!("network = \"host\"\nports = \"{ports}\"\n[fleet]\nmin = 1\nmax = 2\nspare_slots = 0")
}

/// Each finding of a trial, in order: its level, and words that are in it.
#[track_caller]
fn finds(name: &str, found: &[(String, String)], expected: &[(&str, &str)]) {
    let fits = |((level, words), (of, part)): (&(String, String), &(&str, &str))| {
        level == of && words.contains(part)
    };
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(fits), "{name}: {found:#?}");
}

/// Containers that a trial has to leave alone, beside one of an earlier trial.
fn others(fleet: &OwnFleet) -> Vec<Container> {
    for (name, label) in [
        ("cut", "io.millrace.trial=millrace"),
        ("neighbours", "io.millrace.trial=other"),
        ("millrace-0123456789abcdef-trial", "io.millrace.trials=millrace"),
    ] {
        fleet.docker.docker(&["create", "--name", name, "--label", label, "engine-emulator"]);
    }
    let mut all = fleet.docker.containers();
    all.retain(|container| container.name != "cut");
    all
}

#[test]
fn a_trial_is_taken_back_and_no_server_notices_it() {
    let Some(fleet) = OwnFleet::new(&config()) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet.serve(None, &["--keep-engines"]);
    own_fleet::wait_ready(&server, 1);
    let known = others(&fleet);
    let seen = |server: &Server| {
        let of = |path| own_fleet::json_at(server.address(), path);
        let (events, fleet) = (of("/api/v1/events?limit=1000"), of("/api/v1/fleet"));
        (server.log(), events, fleet["incidents"].clone(), engines(server, "ready"))
    };
    let before = seen(&server);
    let left = |count| format!("containers left of earlier trials, and removed now: {count}");

    finds("what another left", &fleet.trial(&fleet.docker.uri()), &[("ok", &left(1)), IMAGE, MADE]);
    finds("nothing left", &fleet.trial(&fleet.docker.uri()), &[IMAGE, MADE]);
    assert_eq!(fleet.docker.containers(), known);

    proxy.play(REMOVE, Act::Answer(500, "not now".into()), Times::Always);
    let stays = ("warn", "a container of a trial may be left, with the label io.millrace.trial=millrace: ");
    finds("one that stays", &fleet.trial(&proxy.uri()), &[IMAGE, MADE, stays]);
    let [trial] = &fleet.trials()[..] else { panic!("{:#?}", fleet.docker.containers()) };
    assert_eq!((trial.labels.len(), &*trial.state), (1, "created"), "{trial:?}");
    // Longer than whatever is taken for a mistake of our own is left.
    thread::sleep(Duration::from_secs(12));
    assert_eq!(fleet.trials().len(), 1, "it is no stray");
    assert_eq!(seen(&server), before);
    finds("one more that stays", &fleet.trial(&proxy.uri()), &[stays, IMAGE, MADE, stays]);
    proxy.lift();
    finds("both", &fleet.trial(&proxy.uri()), &[("ok", &left(2)), IMAGE, MADE]);
    assert_eq!(fleet.docker.containers(), known);
    assert_eq!(seen(&server), before);
}

#[test]
fn whatever_a_trial_meets_is_told_and_nothing_is_left() {
    let own = config();
    let Some(mut fleet) = OwnFleet::new(&own) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let auth = fleet.data.path().join("auth.json");
    fs::write(&auth, "{").unwrap();
    let away = "127.0.0.1:1/engine:1";
    fleet.docker.docker(&["tag", "engine-emulator", away]);
    fleet.docker.docker(&["create", "--name", "somebodys", "engine-emulator"]);
    let known = fleet.docker.containers();
    let stale = format!("image = \"{away}\"\npull = \"always\"\nauth_file = \"{}\"\n", auth.display());
    let id = &known[0].id;
    let taken = format!("Conflict. The container name \"/x\" is already in use by container \"{id}\".");
    for (name, config, act, expected) in [
        ("an answer that is lost", own.clone(), Some(Act::Truncate(0)), &[IMAGE, ("fail", "")][..]),
        ("a full disk", own.clone(), Some(Act::disk_full()), &[IMAGE, ("fail", "no space left: mkdir")]),
        (
            "a plug-in that says no",
            own.clone(),
            Some(Act::Answer(403, "no".into())),
            &[IMAGE, ("fail", "the daemon does not allow it: no")],
        ),
        (
            "a name that is taken",
            own.clone(),
            Some(Act::Answer(409, taken)),
            &[IMAGE, ("warn", "-trial is taken by container")],
        ),
        (
            "a limit that is none",
            format!("cpu = 100000\n{own}"),
            None,
            &[IMAGE, ("fail", "the container cannot be made as set: ")],
        ),
        (
            "a registry that is away",
            stale + &own,
            None,
            &[
                ("warn", "the registry is asked without credentials: "),
                ("warn", "cannot be refreshed, so the one that is there is used: "),
                MADE,
            ],
        ),
        ("no template", format!("template = \"x\"\n{own}"), None, &[("fail", "there is no template \"x\"")]),
        (
            "no fleet",
            own.replace("min = 1\nmax = 2", "min = 0\nmax = 0"),
            None,
            &[("warn", "nothing was tried: with this configuration Millrace makes no engines in Docker")],
        ),
    ] {
        fleet.config = config;
        act.into_iter().for_each(|act| proxy.play(CREATE, act, Times::Next(1)));
        finds(name, &fleet.trial(&proxy.uri()), expected);
        proxy.lift();
        assert_eq!(fleet.docker.containers(), known, "{name}");
    }
    fleet.template(&own_fleet::CONTROLLED);
    fleet.config = "network = \"host\"\nports = \"20000-20000\"".to_owned();
    let none = ("fail", "all ports from 20000 to 20000 are taken");
    finds("a port for an engine that wants two", &fleet.trial(&proxy.uri()), &[IMAGE, none]);
}
