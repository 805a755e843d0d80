//! Health under chaos: of many engines of our own one is killed or hung every few
//! seconds, while streams with viewers begin and end all the time.
//!
//! The promise is for 20 engines, one of which is struck every 10 s;
//! `CHAOS_SECONDS=600` is the whole of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::Scenario;
use serde_json::json;
use support::{
    crowd::Crowd,
    mutate::Random,
    own_fleet::{self, OwnFleet, WITH_CONTROL, json_at, told, wait_ready},
    server::Server,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 300_000;
/// Between two looks at every engine from outside.
const PROBE: Duration = Duration::from_millis(250);
/// For an engine to say its version; a healthy one takes milliseconds.
const ANSWER: Duration = Duration::from_millis(1_500);
/// A start that takes longer has failed, as players see it.
const START: Duration = Duration::from_secs(15);
/// How long streams play, in seconds.
const PLAYS: std::ops::Range<usize> = 5..20;
/// Stream time that may be missing at the end: what a viewer is behind when it
/// joins, and as much again as a failover takes.
const BEHIND: Duration = Duration::from_secs(10);

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Whether an engine answers, asked past the server.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect_timeout(&address, ANSWER)?;
        socket.set_read_timeout(Some(ANSWER))?;
        write!(socket, "GET /webui/api/service?method=get_version HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let mut start = [0; 12];
        match socket.read_exact(&mut start) {
            Ok(()) => Ok(&start == b"HTTP/1.1 200"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    };
    ask().unwrap_or(false)
}

/// Looks at each engine that there should be until the end; counts looks, and
/// those at which it answered and the server used it.
fn watch(server: SocketAddr, engines: usize, is_over: &AtomicBool) -> (u64, u64) {
    let (looks, healthy) = (AtomicU64::new(0), AtomicU64::new(0));
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let list = json_at(server, "/api/v1/engines");
        let list = list["engines"].as_array().unwrap();
        let used = list.iter().filter(|engine| engine["state"] == "ready");
        let addresses: Vec<SocketAddr> =
            used.map(|engine| engine["address"].as_str().unwrap().parse().unwrap()).collect();
        let good: usize = thread::scope(|scope| {
            let asked: Vec<_> =
                addresses.iter().map(|address| scope.spawn(move || usize::from(answers(*address)))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).sum()
        });
        looks.fetch_add(engines as u64, Ordering::Relaxed);
        healthy.fetch_add(good.min(engines) as u64, Ordering::Relaxed);
        thread::sleep(PROBE.saturating_sub(begun.elapsed()));
    }
    (healthy.into_inner(), looks.into_inner())
}

/// Kills one engine, hangs the next, and so on.
fn strike(fleet: &OwnFleet, server: &Server, random: &mut Random, count: u64) -> bool {
    let places = fleet.places(server);
    if places.is_empty() {
        return false;
    }
    let victim = &places[random.below(places.len())];
    if count.is_multiple_of(2) {
        fleet.docker.try_docker(&["kill", &victim.name]).status.success()
    } else {
        fleet.try_control(victim, "/scenario", &json!({"scenario": "hang-accept"}))
    }
}

#[test]
fn most_engines_are_healthy_and_hardly_a_stream_fails() {
    let seconds = Duration::from_secs(variable("CHAOS_SECONDS", 60));
    let engines = usize::try_from(variable("CHAOS_ENGINES", 20)).unwrap();
    let pause = Duration::from_secs(variable("CHAOS_PAUSE", 10));
    let seed = variable("CHAOS_SEED", 1);
    // Room for those that take the place of whoever is in quarantine.
    let most = engines + engines.div_ceil(4);
    let config = format!(
        "network = \"host\"\nports = \"{}\"\n[fleet]\nmin = {engines}\nmax = {most}\nspare_slots = 2\n\
         [engines]\ncapacity = 4\n[streams]\nlinger = \"0s\"\n",
        own_fleet::many_ports()
    );
    let Some(fleet) = OwnFleet::new(&config) else { return };
    fleet.template(&WITH_CONTROL);
    let server = fleet.serve(None, &["--keep-engines"]);
    let server =
        ["engine_died", "engine_ails", "engine_quarantined", "engine_not_empty", "engines_fail_together"]
            .iter()
            .fold(server, |server, text| server.allow(text));
    let server = server.allow("engine turned: ").allow("a container labelled as engine");
    wait_ready(&server, engines);

    // As many streams as half of all slots, each with one viewer.
    let streams = engines * 2;
    let crowd = Crowd::new();
    let mut random = Random(seed);
    let is_over = AtomicBool::new(false);
    let (mut starts, mut failed) = (0_u64, Vec::new());
    let mut longest_start = Duration::ZERO;
    let mut strikes = 0;
    let (healthy, looks) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(server.address(), engines, &is_over));
        let begun = Instant::now();
        let mut next_fault = begun + pause;
        // Place in the crowd, when it was asked for, when it leaves.
        let mut open: Vec<(usize, Instant, Instant)> = Vec::new();
        while begun.elapsed() < seconds {
            let now = Instant::now();
            if next_fault <= now {
                strikes += u64::from(strike(&fleet, &server, &mut random, strikes));
                next_fault += pause;
            }
            open.retain(|&(place, asked, leaves)| {
                let seen = crowd.seen(place);
                let age = asked.elapsed();
                let refused = seen.status.is_some_and(|status| status != 200);
                let late = seen.report.first.is_none() && age > START;
                let ended = seen.end.is_some();
                if refused || late || ended {
                    failed.push(format!(
                        "after {age:.1?}: {:?} {:?}, {:?}",
                        seen.status, seen.end, seen.report
                    ));
                    crowd.leave(place);
                    return false;
                }
                if leaves <= now {
                    longest_start = longest_start.max(seen.first_byte.unwrap_or(age));
                    let is_behind = seen.run(RATE) + BEHIND < age;
                    if !seen.report.is_unbroken() || is_behind {
                        failed.push(format!("played {:.1?} of {age:.1?}: {:?}", seen.run(RATE), seen.report));
                    }
                    crowd.leave(place);
                    return false;
                }
                true
            });
            if open.len() < streams {
                starts += 1;
                let id = signed(RATE, Scenario::healthy(), starts);
                let place = crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
                let plays = Duration::from_secs((PLAYS.start + random.below(PLAYS.len())) as u64);
                open.push((place, now, now + plays));
            }
            thread::sleep(Duration::from_millis(50));
        }
        is_over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    crowd.leave_all();
    let share = healthy as f64 / looks as f64;
    let failures = failed.len() as f64 / starts as f64;
    println!(
        "{engines} engines, {seconds:?}, one fault every {pause:?}: {strikes} faults; healthy {:.2} % of \
         engine-seconds; {} of {starts} streams failed ({:.2} %); longest start {longest_start:.2?}",
        share * 100.0,
        failed.len(),
        failures * 100.0
    );
    let mut events = HashMap::new();
    for event in
        ["engine_died", "engine_ails", "engine_mended", "engine_quarantined", "engines_fail_together"]
    {
        events.insert(event, told(&server, event, None));
    }
    println!("told of: {events:?}; metrics: {:?}", healthy_metrics(&server));
    assert!(strikes * pause.as_secs() + 2 * pause.as_secs() >= seconds.as_secs(), "only {strikes} faults");
    assert!(share > 0.95, "only {:.2} % healthy\n{}", share * 100.0, server.log());
    assert!(failures < 0.01, "{failed:#?}\n{}", server.log());
    assert!(wait_until(Duration::from_secs(60), || fleet.containers().len() <= most));
}

/// What the server itself counts of health, where it does.
fn healthy_metrics(server: &Server) -> Vec<(String, f64)> {
    server.metrics().into_iter().filter(|(name, _)| name.contains("engine_seconds")).collect()
}
