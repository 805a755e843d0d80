//! Docker is asked as often as its engines are many, and hardly at all while
//! there are none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    thread,
    time::{Duration, Instant},
};

use support::{
    docker::{Call, DockerProxy},
    own_fleet::{OwnFleet, engines, wait_ready},
    server::Server,
    wait_until,
};

mod support;

const STATS: &str = "GET /containers/{id}/stats";

/// Four rounds at three seconds, six at two.
const WINDOW: Duration = Duration::from_secs(12);
const MINUTE: Duration = Duration::from_secs(60);
/// After the last thing that has happened, all looks that follow it are over.
const SETTLED: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(20);

/// A fleet of exactly so many engines, each started as fast as Docker can.
fn config(first_port: u16, count: usize) -> String {
    let manual = if count == 0 { "min = 0\nspare_slots = 0\n".into() } else { format!("manual = {count}\n") };
    let ports = format!("network = \"host\"\nports = \"{first_port}-{}\"\n", first_port + 59);
    format!("{ports}[fleet]\nmax = 20\nstarts_per_minute = 6000\nstep_up = 100\n{manual}")
}

/// A list with how much each container has written.
fn is_look_at_disks(call: &Call) -> bool {
    call.route == "GET /containers/json" && call.target.contains("size=true")
}

/// How often each engine was asked within a window; once a minute there is a
/// look at disks, and a list each ten seconds. Never too often; too seldom
/// where Docker itself takes seconds to answer, which passes with the load.
#[track_caller]
fn rounds(proxy: &DockerProxy, count: usize, interval: u64) {
    assert!((0..3).any(|_| is_asked(proxy, count, interval)), "{count} engines: too seldom, three times");
}

#[track_caller]
fn is_asked(proxy: &DockerProxy, count: usize, interval: u64) -> bool {
    let begun = Instant::now();
    thread::sleep(WINDOW);
    let (asked, all) = (proxy.count_since(STATS, begun), proxy.count_since("*", begun));
    let expected = count * usize::try_from(WINDOW.as_secs() / interval).unwrap();
    println!("{count:2} engines: {} a minute for figures, {} in all", asked * 5, all * 5);
    assert!(asked <= expected + count, "{count} engines: {asked} and not {expected}");
    let others = all - asked;
    assert!(others <= 6, "{count} engines: {others} calls for other things: {:#?}", proxy.calls());
    asked + count >= expected
}

#[test]
fn a_fleet_without_engines_asks_docker_six_times_a_minute() {
    let Some(fleet) = OwnFleet::new(&config(17_000, 0)) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
    let is_known = || proxy.count("GET /containers/json") >= 2 && proxy.count("GET /images/{name}/json") > 0;
    assert!(wait_until(SOON, is_known), "{}", server.log());
    thread::sleep(SETTLED);
    let begun = Instant::now();
    thread::sleep(MINUTE);
    let calls: Vec<_> = proxy.calls().into_iter().filter(|call| begun <= call.at).collect();
    println!(" 0 engines: {} a minute in all", calls.len());
    // Lists alone, so that a container that events did not tell of is found.
    assert!(calls.iter().all(|call| call.route == "GET /containers/json"), "{calls:#?}");
    assert!((5..=6).contains(&calls.len()), "{calls:#?}");
    assert!(fleet.containers().is_empty() && engines(&server, "ready").is_empty());
}

#[test]
fn figures_are_read_every_three_seconds_for_few_engines_and_every_two_for_many() {
    let first = 17_100;
    let Some(mut fleet) = OwnFleet::new(&config(first, 1)) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let begun = Instant::now();
    let mut servers = 0;
    let mut serve = |fleet: &mut OwnFleet, count: usize| -> Server {
        fleet.config = config(first, count);
        servers += 1;
        let server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
        let took = wait_ready(&server, count);
        println!("{count:2} engines ready after {took:?}");
        thread::sleep(SETTLED);
        server
    };
    let mut server = serve(&mut fleet, 1);
    rounds(&proxy, 1, 3);
    server.terminate();
    let mut server = serve(&mut fleet, 5);
    rounds(&proxy, 5, 3);

    // One that somebody else runs counts as well.
    let port = (first + 90).to_string();
    let labels = ["--label", "io.millrace.engine=true", "--label", &format!("io.millrace.port={port}")];
    fleet.docker.run_engine("found", first + 90, &labels, &[]);
    switches(&server, &proxy, 6, 2);
    thread::sleep(SETTLED);
    rounds(&proxy, 6, 2);
    fleet.docker.docker(&["rm", "--force", "found"]);
    switches(&server, &proxy, 5, 3);
    server.terminate();

    let mut server = serve(&mut fleet, 10);
    rounds(&proxy, 10, 2);
    server.terminate();
    let server = serve(&mut fleet, 20);
    rounds(&proxy, 20, 2);
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).unwrap();
    let looks = proxy.calls().iter().filter(|call| is_look_at_disks(call)).count();
    println!("{looks} looks at disks by 4 servers in {:?}", begun.elapsed());
    assert!((4..=4 + minutes).contains(&looks), "{looks} looks in {minutes} minutes");
    drop(server);
}

/// The first pause between two rounds with so many engines is already as long
/// as it is to be.
#[track_caller]
fn switches(server: &Server, proxy: &DockerProxy, count: usize, seconds: u64) {
    assert!(wait_until(SOON, || engines(server, "ready").len() == count), "{}", server.log());
    let begun = Instant::now();
    let whole = |calls: usize| wait_until(SOON, || proxy.count_since(STATS, begun) >= calls);
    // The round that is due by the interval before, and two by the new one.
    assert!(whole(3 * count), "{:#?}", proxy.calls());
    let at: Vec<_> = proxy.calls().into_iter().filter(|c| c.route == STATS && begun <= c.at).collect();
    let (first, second, third) = (at[0].at, at[count].at, at[2 * count].at);
    let pause = third - second;
    println!("{count:2} engines: the round after the switch comes {pause:?} after the one before");
    let expected = Duration::from_secs(seconds);
    assert!(pause.abs_diff(expected) < Duration::from_millis(400), "{count} engines: {pause:?}");
    assert!(first - begun <= expected + Duration::from_millis(400), "not within one interval");
}
