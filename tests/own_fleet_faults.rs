//! Engines of our own are broken in every way there is: viewers do not notice
//! while others have room, and the engine is mended or replaced in time.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::Scenario;
use serde_json::{Value, json};
use support::{
    crowd::{Crowd, Seen, assert_unbroken},
    own_fleet::{self, OwnFleet, Place, WITH_CONTROL, told, wait_ready},
    rows::run_all,
    server::Server,
    stage::{path, signed},
    wait_until,
};

mod support;

#[path = "own_fleet_faults/wear.rs"]
mod wear;

/// Rows that run at the same time, each with a daemon of its own. They mostly wait.
const AT_ONCE: usize = 5;

/// The longest first.
const ROWS: &[(&str, fn())] = &[
    ("disk full", wear::an_engine_whose_disk_is_full_is_emptied_and_started_again),
    ("limits", wear::engines_over_a_limit_are_emptied_and_made_anew),
    ("together", engines_that_fail_together_are_one_incident_and_no_mass_restart),
    ("crash loop", one_that_dies_again_and_again_is_left_alone_for_longer_each_time),
    ("boot never", engines_that_never_boot_are_given_up_and_those_that_play_go_on),
    ("frozen", frozen_exhausted_and_hung_engines_are_mended_in_place),
    ("wear", wear::engines_that_wear_out_are_made_anew_before_they_do),
    ("killed", killed_stopped_and_crashed_engines_are_started_again_in_place),
    ("cut off", engines_cut_off_or_removed_get_new_containers),
];

#[test]
fn whatever_befalls_an_engine_is_mended_and_viewers_do_not_notice() {
    run_all(ROWS, AT_ONCE, |(name, row)| {
        let began = Instant::now();
        row();
        println!("{name}: well after {:.1?}", began.elapsed());
    });
}

const RATE: u32 = 800_000;
/// For what takes a second or two.
const SOON: Duration = Duration::from_secs(30);
/// Played by each viewer before the first fault and after each.
const RUN: Duration = Duration::from_secs(4);
/// What viewers may lag behind the broadcast beyond what they did before: their
/// cushion is used up and not a second of filler stands for it.
const LAG: Duration = Duration::from_secs(3 + 6);
/// So many streams that every engine has one, and two have two.
const STREAMS: u64 = 5;

/// A fleet with viewers.
struct Rig {
    server: Server,
    crowd: Crowd,
    viewers: Vec<usize>,
    fleet: OwnFleet,
    engines: usize,
    begun: SystemTime,
    /// Names of engines that were broken before: the next rung is another one.
    struck: RefCell<Vec<String>>,
}

/// What is done to an engine, and what must come of it.
struct Fault {
    name: &'static str,
    act: fn(&Rig, &Place),
    /// The event that ends it.
    back: &'static str,
    /// From the deed to that event.
    limit: Duration,
    /// Whether its container stays.
    stays: bool,
    /// What the log says of it.
    words: &'static [&'static str],
}

impl Rig {
    /// `engines` of four slots each, and room for twice as many engines, so that
    /// none more is ever needed.
    fn new(engines: usize, fleet: &str, docker: &str, allow: &[&str]) -> Option<Self> {
        Self::on(support::docker::Dockerd::new()?, engines, fleet, docker, allow)
    }

    fn on(
        docker: support::docker::Dockerd,
        engines: usize,
        fleet: &str,
        more: &str,
        allow: &[&str],
    ) -> Option<Self> {
        let most = if fleet.contains("max =") { String::new() } else { format!("max = {}", engines * 2) };
        let config = format!(
            "ports = \"{}\"\n{more}\n[fleet]\nmin = {engines}\n{most}\nspare_slots = 2\n{fleet}\n\
             [engines]\ncapacity = 4\n[streams]\nlinger = \"0s\"\n",
            own_fleet::ports()
        );
        let begun = SystemTime::now();
        let fleet = OwnFleet::on(docker, &config)?;
        fleet.template_with_cache(&WITH_CONTROL, "/cache");
        Some(Self::serve(fleet, engines, allow, begun))
    }

    fn serve(fleet: OwnFleet, engines: usize, allow: &[&str], begun: SystemTime) -> Self {
        let server = fleet.serve(None, &["--keep-engines"]);
        let server =
            allow.iter().chain(&["IPv4 forwarding is disabled"]).fold(server, |s, text| s.allow(text));
        wait_ready(&server, engines);
        let mut rig = Self {
            server,
            crowd: Crowd::new(),
            viewers: Vec::new(),
            fleet,
            engines,
            begun,
            struck: RefCell::default(),
        };
        // One after the other: an engine that is new takes one stream, to see.
        (0..STREAMS).for_each(|serial| rig.watch(serial));
        rig.play(RUN);
        let busy = rig.fleet.places(&rig.server).iter().filter(|place| place.taken > 0).count();
        assert!(busy >= 2, "all streams on one engine");
        rig
    }

    fn watch(&mut self, serial: u64) {
        let id = signed(RATE, Scenario::healthy(), serial);
        let place = self.crowd.ask(self.server.address(), &path(&id), id.verifier().unwrap());
        let plays = wait_until(SOON, || self.crowd.seen(place).report.first.is_some());
        assert!(plays, "{:#?}\n{}", self.crowd.seen(place), self.server.log());
        self.viewers.push(place);
    }

    fn seen(&self) -> Vec<Seen> {
        self.viewers.iter().map(|place| self.crowd.seen(*place)).collect()
    }

    /// Waits until every viewer has played this much more, unbroken.
    #[track_caller]
    fn play(&self, more: Duration) {
        let before: Vec<_> = self.seen().iter().map(|seen| seen.run(RATE)).collect();
        let is_so = wait_until(SOON, || {
            self.seen().iter().zip(&before).all(|(seen, before)| seen.run(RATE) >= *before + more)
        });
        let seen = self.seen();
        assert!(is_so, "not {more:?} more in {SOON:?}: {seen:#?}\n{}", self.server.log());
        for (place, (seen, before)) in seen.iter().zip(&before).enumerate() {
            assert_unbroken(&format!("viewer {place}"), seen, RATE, *before + more);
        }
    }

    /// How far each viewer is behind the broadcast.
    fn delays(&self) -> Vec<Duration> {
        self.seen().iter().map(|seen| seen.report.last_delay.unwrap_or(Duration::MAX)).collect()
    }

    fn containers(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.fleet.docker.containers().into_iter().map(|c| c.id).collect();
        ids.sort();
        ids
    }

    /// The engine that plays most of those not broken before, once all are ready.
    fn busiest(&self) -> Place {
        wait_ready(&self.server, self.engines);
        let mut struck = self.struck.borrow_mut();
        let places = self.fleet.places(&self.server);
        let fresh = places.iter().find(|place| !struck.contains(&place.name) && place.taken > 0);
        let victim = fresh.unwrap_or_else(|| panic!("none of {places:?} plays, but for {struck:?}"));
        struck.push(victim.name.clone());
        victim.clone()
    }

    /// Breaks the engine that plays most; returns it and how long it was away.
    #[track_caller]
    fn strike(&self, fault: &Fault) -> (Place, Duration) {
        let victim = self.busiest();
        let (before, delays) = (self.containers(), self.delays());
        let known = told(&self.server, fault.back, None);
        let begun = Instant::now();
        (fault.act)(self, &victim);
        let is_back = wait_until(SOON, || told(&self.server, fault.back, None) > known);
        let took = begun.elapsed();
        assert!(is_back, "{}: no {} within {SOON:?}\n{}", fault.name, fault.back, self.server.log());
        self.play(RUN);
        let worst =
            self.delays().iter().zip(&delays).map(|(now, was)| now.saturating_sub(*was)).max().unwrap();
        let gap = self.seen().iter().map(|seen| seen.longest_gap).max().unwrap();
        println!(
            "{:<14} {took:>6.2?} until {}, {} streams on it; viewers: {worst:.2?} further behind, gap {gap:.2?}",
            fault.name, fault.back, victim.taken
        );
        assert!(worst <= LAG, "{}: viewers are {worst:?} further behind", fault.name);
        assert!(
            took <= fault.limit,
            "{}: {took:?}, not {:?}\n{}",
            fault.name,
            fault.limit,
            self.server.log()
        );
        for words in fault.words {
            let text = format!("{}: {words:?} is not in the log", fault.name);
            assert!(self.server.logs_within(Duration::ZERO, words), "{text}:\n{}", self.server.log());
        }
        if fault.words.iter().any(|words| words.contains("ended")) {
            self.has_last_words(fault, &victim);
        }
        wait_ready(&self.server, self.engines);
        let after = self.containers();
        assert_eq!(after.len(), self.engines, "{}: {after:?}", fault.name);
        assert_eq!(after.contains(&victim.id), fault.stays, "{}: {}", fault.name, self.server.log());
        let others = before.iter().filter(|id| **id != victim.id);
        assert!(others.clone().all(|id| after.contains(id)), "{}: others were replaced", fault.name);
        (victim, took)
    }

    /// The newest event of how the engine's container ended, with its last words.
    #[track_caller]
    fn has_last_words(&self, fault: &Fault, victim: &Place) {
        let answer = own_fleet::json_at(self.server.address(), "/api/v1/events?limit=1000");
        let events = answer["events"].as_array().unwrap().iter();
        let death = events.rev().find(|e| e["code"] == "engine_died" && e["engine"] == json!(victim.name));
        let autopsy = death.map_or(&Value::Null, |death| &death["autopsy"]);
        let lines = autopsy["log_tail"].as_array().map_or(0, Vec::len);
        assert!(lines > 0, "{}: the event does not tell its last words: {death:#?}", fault.name);
    }

    /// How many containers were ever made.
    fn made(&self) -> usize {
        let events = self.fleet.docker.events_since(self.begun);
        let is_it = |e: &&Value| e["Type"] == "container" && e["Action"] == "create";
        events.iter().filter(is_it).count()
    }
}

/// What every fault may say.
const DEATHS: [&str; 4] = [
    "event=\"engine_died\"",
    "engine turned: ",
    "a container labelled as engine",
    // Two probes may meet it while it goes and comes.
    "event=\"engine_ails\"",
];

fn docker(rig: &Rig, args: &[&str]) {
    rig.fleet.docker.docker(args);
}

const FIVE: Duration = Duration::from_secs(5);

fn killed_stopped_and_crashed_engines_are_started_again_in_place() {
    let Some(rig) = Rig::new(3, "", "network = \"host\"", &DEATHS) else { return };
    for fault in [
        Fault {
            name: "docker kill",
            act: |rig, victim| docker(rig, &["kill", &victim.name]),
            back: "engine_ready",
            limit: FIVE,
            stays: true,
            words: &["its container ended with status 137", "exit_code=137"],
        },
        Fault {
            name: "docker stop",
            act: |rig, victim| docker(rig, &["stop", &victim.name]),
            back: "engine_ready",
            limit: FIVE,
            stays: true,
            words: &["its container ended with status 0", "exit_code=0"],
        },
        Fault {
            name: "crash",
            act: |rig, victim| rig.fleet.control(victim, "/end", &json!({"after_ms": 0, "status": 9})),
            back: "engine_ready",
            limit: FIVE,
            stays: true,
            words: &["its container ended with status 9", "exit_code=9"],
        },
    ] {
        // Three within a quarter of a minute would be taken for one cause.
        std::thread::sleep(Duration::from_secs(4));
        rig.strike(&fault);
    }
    assert_eq!(rig.made(), rig.engines, "{}", rig.server.log());
}

fn frozen_exhausted_and_hung_engines_are_mended_in_place() {
    let allow = [DEATHS.as_slice(), &["event=\"engine_frozen\"", "event=\"engine_ails\""]].concat();
    let Some(rig) = Rig::new(3, "", "network = \"host\"\nmemory = \"128 MiB\"", &allow) else { return };
    for fault in [
        Fault {
            name: "docker pause",
            act: |rig, victim| docker(rig, &["pause", &victim.name]),
            back: "engine_woken",
            limit: FIVE,
            stays: true,
            words: &["event=\"engine_frozen\""],
        },
        Fault {
            name: "out of memory",
            act: |rig, victim| rig.fleet.control(victim, "/burden", &json!({"leak": 400 << 20})),
            back: "engine_ready",
            limit: FIVE,
            stays: true,
            words: &["the kernel ended its container for its memory", "out_of_memory=true"],
        },
        Fault {
            name: "hung API",
            act: |rig, victim| rig.fleet.control(victim, "/scenario", &json!({"scenario": "hang-accept"})),
            back: "engine_ready",
            limit: Duration::from_secs(20),
            stays: true,
            words: &["its API does not answer", "event=\"engine_drains\""],
        },
    ] {
        rig.strike(&fault);
    }
    assert_eq!(rig.made(), rig.engines, "{}", rig.server.log());
}

fn engines_cut_off_or_removed_get_new_containers() {
    let Some(mut docker_) = support::docker::Dockerd::new() else { return };
    if !docker_.start() {
        return;
    }
    docker_.network("streams");
    let allow = [DEATHS.as_slice(), &["event=\"engine_ails\"", "event=\"engine_vanished\""]].concat();
    let Some(rig) = Rig::on(docker_, 3, "", "network = \"streams\"", &allow) else { return };
    for fault in [
        Fault {
            name: "network cut",
            act: |rig, victim| docker(rig, &["network", "disconnect", "streams", &victim.name]),
            back: "engine_ready",
            limit: Duration::from_secs(8),
            stays: false,
            words: &["its container has no address"],
        },
        Fault {
            name: "docker rm",
            act: |rig, victim| docker(rig, &["rm", "--force", &victim.name]),
            back: "engine_ready",
            limit: Duration::from_secs(8),
            stays: false,
            words: &["somebody has removed its container"],
        },
    ] {
        rig.strike(&fault);
    }
    assert_eq!(rig.made(), rig.engines + 2, "{}", rig.server.log());
}

/// Waits for so many tellings of an event; says how long that took.
#[track_caller]
fn wait_told(rig: &Rig, event: &str, engine: Option<&str>, count: usize, limit: Duration) -> Duration {
    let begun = Instant::now();
    let is_so = wait_until(limit, || told(&rig.server, event, engine) >= count);
    let names = engine.unwrap_or("any");
    assert!(is_so, "{event} of {names}: not {count} times in {limit:?}\n{}", rig.server.log());
    begun.elapsed()
}

#[track_caller]
fn assert_logged(rig: &Rig, words: &str) {
    assert!(rig.server.logs_within(Duration::ZERO, words), "no {words:?} in\n{}", rig.server.log());
}

/// The containers now, by name, of those that were not there before.
fn newcomer(rig: &Rig, before: &[String]) -> Option<Place> {
    rig.fleet.places(&rig.server).into_iter().find(|place| !before.contains(&place.id))
}

fn one_that_dies_again_and_again_is_left_alone_for_longer_each_time() {
    let allow = [DEATHS.as_slice(), &["event=\"engine_quarantined\""]].concat();
    let Some(rig) = Rig::new(3, "max = 3", "network = \"host\"", &allow) else { return };
    let victim = rig.busiest();
    let before = rig.containers();
    let kill = |name: &str, ready: usize| {
        docker(&rig, &["kill", name]);
        wait_told(&rig, "engine_ready", None, ready, SOON)
    };
    println!("crash loop: in place after {:.2?}", kill(&victim.name, 4));
    assert_eq!(rig.containers(), before, "the first time it is started again");
    println!("crash loop: new container after {:.2?}", kill(&victim.name, 5));
    let second = newcomer(&rig, &before).unwrap();
    assert_eq!(rig.containers().len(), 3);
    docker(&rig, &["kill", &second.name]);
    wait_told(&rig, "engine_quarantined", None, 1, FIVE);
    let quarantined = Instant::now();
    assert_logged(&rig, "is left alone for 30 s");
    assert_eq!(rig.containers().len(), 2, "nothing of it is left meanwhile");
    rig.play(RUN);
    let rest = Duration::from_secs(29).saturating_sub(quarantined.elapsed());
    std::thread::sleep(rest);
    assert_eq!(rig.made(), 4, "it was made again too soon, or another one for it:\n{}", rig.server.log());
    wait_told(&rig, "engine_ready", None, 6, SOON);
    println!("crash loop: quarantined for {:.2?}", quarantined.elapsed());
    assert!(quarantined.elapsed() <= Duration::from_secs(36), "{:?}", quarantined.elapsed());
    wait_ready(&rig.server, 3);
    let third = newcomer(&rig, &before).unwrap();
    docker(&rig, &["kill", &third.name]);
    wait_told(&rig, "engine_quarantined", None, 2, FIVE);
    assert_logged(&rig, "is left alone for 60 s");
    rig.play(RUN);
    assert_eq!((rig.made(), told(&rig.server, "engines_fail_together", None)), (5, 0));
}

fn engines_that_never_boot_are_given_up_and_those_that_play_go_on() {
    let allow = [
        "event=\"engine_boot_limit\"",
        "event=\"engine_quarantined\"",
        "event=\"engines_keep_failing\"",
        "event=\"engines_fail_together\"",
        "event=\"engine_died\"",
    ];
    let fleet = "boot_limit = \"3s\"\nmax = 8";
    let Some(mut rig) = Rig::new(2, fleet, "network = \"host\"", &allow) else { return };
    // What the name stands for from now on listens nowhere.
    docker(&rig, &["create", "--name", "bad", support::docker::IMAGE]);
    let entrypoint = r#"ENTRYPOINT ["/engine-emulator", "--scenario", "boot-never"]"#;
    docker(&rig, &["commit", "--change", entrypoint, "bad", support::docker::IMAGE]);
    docker(&rig, &["rm", "bad"]);
    // Eight slots; all others wait, and engines are made for them.
    (STREAMS..8).for_each(|serial| rig.watch(serial));
    let waiting: Vec<_> = (8..28)
        .map(|serial| {
            let id = signed(RATE, Scenario::healthy(), serial);
            rig.crowd.ask(rig.server.address(), &path(&id), id.verifier().unwrap())
        })
        .collect();
    let took = wait_told(&rig, "engines_keep_failing", None, 1, Duration::from_secs(40));
    println!("boot never: given up after {took:.2?}, {} containers made", rig.made() - 1);
    assert_logged(&rig, "it did not answer within 3 s of its start");
    assert_logged(&rig, "5 engines in a row could not be made or did not become ready");
    assert_logged(&rig, "mend the template or the image, or raise fleet.boot_limit");
    let (restarts, made) = (told(&rig.server, "engine_mended", None), rig.made());
    assert!(restarts >= 2, "the ladder was not climbed:\n{}", rig.server.log());
    // Who waits is told so at once, since nothing comes.
    let refused = |place: &usize| rig.crowd.seen(*place).status.is_some_and(|status| status == 503);
    assert!(wait_until(SOON, || waiting.iter().all(refused)), "{}", rig.server.log());
    rig.play(RUN);
    assert!(rig.made() <= made + 1, "none is made for a while: {} and then {}", made, rig.made());
}

fn engines_that_fail_together_are_one_incident_and_no_mass_restart() {
    let allow = [DEATHS.as_slice(), &["event=\"engine_ails\"", "event=\"engines_fail_together\""]].concat();
    let Some(rig) = Rig::new(4, "max = 4", "network = \"host\"", &allow) else { return };
    let started = |rig: &Rig| -> Vec<Value> {
        let ids = rig.containers();
        ids.iter().map(|id| rig.fleet.docker.inspect(id)["State"]["StartedAt"].clone()).collect()
    };
    let (before, places) = (started(&rig), rig.fleet.places(&rig.server));
    let lost = Duration::from_secs(25);
    for place in &places {
        rig.fleet.control(place, "/scenario", &json!({"scenario": "network-lost(25s,2s)"}));
    }
    let begun = Instant::now();
    let took = wait_told(&rig, "engines_fail_together", None, 1, lost);
    println!("network lost by all: one incident after {took:.2?}");
    assert_logged(&rig, "look at what they share: their network or VPN");
    assert_eq!(told(&rig.server, "engine_mended", None), 0, "{}", rig.server.log());
    std::thread::sleep(lost.saturating_sub(begun.elapsed()));
    wait_ready(&rig.server, 4);
    let back = begun.elapsed().saturating_sub(lost);
    assert_eq!(started(&rig), before, "somebody was restarted:\n{}", rig.server.log());
    println!("network lost by all: all ready {back:.2?} after it came back");
    let runs: Vec<_> = rig.seen().iter().map(|seen| seen.run(RATE)).collect();
    let goes_on = wait_until(SOON, || {
        rig.seen().iter().zip(&runs).all(|(seen, before)| seen.run(RATE) >= *before + RUN)
    });
    assert!(goes_on, "{:#?}\n{}", rig.seen(), rig.server.log());
    assert!(rig.seen().iter().all(|seen| seen.end.is_none()));
    let over = || rig.server.logs_within(Duration::ZERO, "engines do not fail together any more");
    assert!(wait_until(SOON, over), "{}", rig.server.log());
    let incidents = told(&rig.server, "engines_fail_together", None);
    assert_eq!((incidents, rig.made()), (2, 4), "begun and over, once:\n{}", rig.server.log());
}
