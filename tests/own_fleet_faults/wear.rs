//! Engines that use up what they have: memory, threads, disk, themselves.

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::Scenario;
use serde_json::json;

use super::{
    DEATHS, FIVE, RATE, RUN, Rig, SOON, assert_logged,
    support::{
        self,
        crowd::Crowd,
        own_fleet::{self, OwnFleet, WITH_CONTROL, told, wait_ready},
        stage::{path, signed},
        wait_until,
    },
    wait_told,
};

pub(super) fn engines_over_a_limit_are_emptied_and_made_anew() {
    // Without a sixth, which one that takes long to be emptied would call for.
    let fleet = "max = 5\nmax_memory = 25\nmax_pids = 50\nmax_cpu = 25\nmax_disk = \"8 MiB\"";
    let docker_ = "network = \"host\"\nmemory = \"160 MiB\"\npids = 200";
    let Some(rig) = Rig::new(5, fleet, docker_, &["a container labelled as engine"]) else { return };
    let places = rig.fleet.places(&rig.server);
    let before = rig.containers();
    // The first plays most. What it writes is memory here, and far below that limit.
    let burdens = [
        ("disk", json!({"fill": 12 << 20})),
        ("memory", json!({"leak": 2 << 20})),
        ("pids", json!({"threads": 150})),
        ("cpu", json!({"burn": 2})),
    ];
    for (place, (_, burden)) in places.iter().zip(&burdens) {
        rig.fleet.control(place, "/burden", burden);
    }
    let begun = Instant::now();
    let written = || {
        let size = rig.fleet.docker.docker(&["inspect", "--size", "--format", "{{.SizeRw}}", &places[0].id]);
        size.parse::<u64>().unwrap()
    };
    assert!(wait_until(FIVE, || written() >= 12 << 20), "{} bytes in its layer", written());
    for (place, (why, _)) in places.iter().zip(&burdens) {
        wait_told(&rig, "engine_drains", Some(&place.name), 1, Duration::from_secs(70));
        println!("over its {why}: drained {:.2?} after the burden", begun.elapsed());
        let events = own_fleet::json_at(rig.server.address(), "/api/v1/events?limit=1000");
        let events = events["events"].as_array().unwrap().iter();
        let drains = events.filter(|e| e["code"] == "engine_drains" && e["engine"] == json!(place.name));
        let words: Vec<_> = drains.map(|event| &event["message"]).collect();
        assert_eq!(words, [&json!(format!("its streams move, then it is made anew ({why})"))]);
        assert_logged(&rig, &format!("then it is made anew ({why})"));
    }
    wait_told(&rig, "engine_ready", None, 9, SOON);
    rig.play(RUN);
    wait_ready(&rig.server, 5);
    let after = rig.containers();
    assert_eq!((after.len(), rig.made()), (5, 9), "{}", rig.server.log());
    let kept: Vec<_> = before.iter().filter(|id| after.contains(id)).collect();
    assert_eq!(kept, [&places[4].id], "the one without a burden");
    assert_eq!(told(&rig.server, "engine_not_empty", None), 0);
}

pub(super) fn an_engine_whose_disk_is_full_is_emptied_and_started_again() {
    let Some(docker_) = support::docker::Dockerd::new() else { return };
    let allow = [DEATHS.as_slice(), &["event=\"engine_ails\""]].concat();
    let more = "network = \"host\"\ncache = \"tmpfs\"\ncache_size = \"8 MiB\"";
    let Some(rig) = Rig::on(docker_, 3, "max = 3", more, &allow) else { return };
    let victim = rig.busiest();
    rig.fleet.control(&victim, "/burden", &json!({"fill": 64 << 20}));
    let log = || {
        let outcome = rig.fleet.docker.try_docker(&["logs", &victim.name]);
        outcome.stdout + &outcome.stderr
    };
    assert!(wait_until(SOON, || log().contains("No space left")), "its disk does not fill up: {}", log());
    // What an engine does then.
    rig.fleet.control(&victim, "/scenario", &json!({"scenario": "disk-full(1s)"}));
    let begun = Instant::now();
    // Nobody knows before somebody wants something of it.
    let mut serial = 100;
    let is_mended = wait_until(Duration::from_secs(75), || {
        if told(&rig.server, "engine_mended", None) == 0 && begun.elapsed().as_secs() * 2 > serial - 100 {
            let id = signed(RATE, Scenario::healthy(), serial);
            serial += 1;
            let place = rig.crowd.ask(rig.server.address(), &path(&id), id.verifier().unwrap());
            let answered = wait_until(FIVE, || rig.crowd.seen(place).status.is_some());
            assert!(answered, "{}", rig.server.log());
            assert_eq!(rig.crowd.seen(place).status, Some(200), "{}", rig.server.log());
            rig.crowd.leave(place);
        }
        told(&rig.server, "engine_ready", None) >= 4
    });
    assert!(is_mended, "{}", rig.server.log());
    println!("disk full: mended {:.2?} after, {} starts", begun.elapsed(), serial - 100);
    assert_logged(&rig, "starts fail");
    rig.play(RUN);
    wait_ready(&rig.server, 3);
    assert_eq!((rig.containers().len(), rig.made()), (3, 3), "{}", rig.server.log());
}

pub(super) fn engines_that_wear_out_are_made_anew_before_they_do() {
    let Some(docker_) = support::docker::Dockerd::new() else { return };
    let config = format!(
        "network = \"host\"\nports = \"{}\"\n[fleet]\nmin = 3\nmax = 3\nspare_slots = 2\nmax_sessions = 6\nmin_life = \"1s\"\n\
         [engines]\ncapacity = 4\n[streams]\nlinger = \"0s\"\n",
        own_fleet::ports()
    );
    let begun = SystemTime::now();
    let Some(fleet) = OwnFleet::on(docker_, &config) else { return };
    // From the twelfth session on it fails, at the sixtieth its API hangs.
    fleet.template(&[WITH_CONTROL.as_slice(), &["--scenario", "degrade(12,1)"]].concat());
    let mut rig = Rig {
        server: fleet.serve(None, &["--keep-engines"]),
        crowd: Crowd::new(),
        viewers: Vec::new(),
        fleet,
        engines: 3,
        begun,
        struck: RefCell::default(),
    };
    wait_ready(&rig.server, 3);
    rig.watch(0);
    rig.watch(1);
    for serial in 10..50 {
        let id = signed(RATE, Scenario::healthy(), serial);
        let place = rig.crowd.ask(rig.server.address(), &path(&id), id.verifier().unwrap());
        let plays = wait_until(SOON, || rig.crowd.seen(place).report.first.is_some());
        assert!(plays, "{:#?}\n{}", rig.crowd.seen(place), rig.server.log());
        rig.crowd.leave(place);
    }
    rig.play(RUN);
    let anew = rig.server.log().matches("then it is made anew (sessions)").count();
    println!("degrade: {anew} engines made anew over 42 starts");
    assert!(anew >= 3, "{}", rig.server.log());
    wait_ready(&rig.server, 3);
    assert_eq!(told(&rig.server, "engine_ails", None), 0, "none wore out");
    assert_eq!(rig.containers().len(), 3, "{}", rig.server.log());
}
