//! Docker is asked as often as its engines are many, and hardly at all while
//! there are none; what it says adds up, and nobody waits for it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::Scenario;
use serde_json::Value;
use support::{
    crowd::Crowd,
    docker::{Act, Call, DockerProxy, Dockerd, Times},
    own_fleet::{self, OwnFleet, ask, engines, json_at, wait_ready},
    rows::run_all,
    server::Server,
    stage::{path, signed},
    wait_until,
};

mod support;

/// All at the same time, each with a daemon of its own. They mostly wait.
const ROWS: &[(&str, fn())] = &[
    ("none", a_fleet_without_engines_asks_docker_six_times_a_minute),
    ("few", figures_are_read_every_three_seconds_for_few_engines_and_every_two_for_more),
    ("many", figures_of_many_engines_are_read_every_two_seconds),
    ("totals", totals_never_fall_though_engines_go_and_restart),
];

#[test]
fn figures_are_read_seldom_enough_and_add_up() {
    run_all(ROWS, ROWS.len(), |(name, row)| {
        let began = Instant::now();
        row();
        println!("{name}: well after {:.1?}", began.elapsed());
    });
}

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

/// A server for exactly so many engines, once all that follows their start is over.
fn serve(fleet: &mut OwnFleet, proxy: &DockerProxy, first: u16, count: usize) -> Server {
    fleet.config = config(first, count);
    let server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
    let took = wait_ready(&server, count);
    println!("{count:2} engines ready after {took:?}");
    thread::sleep(SETTLED);
    server
}

/// Each server looks at disks when it has come, and then once a minute.
#[track_caller]
fn assert_looks_at_disks(proxy: &DockerProxy, servers: usize, begun: Instant) {
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).unwrap();
    let looks = proxy.calls().iter().filter(|call| is_look_at_disks(call)).count();
    println!("{looks} looks at disks by {servers} servers in {:?}", begun.elapsed());
    assert!((servers..=servers + minutes).contains(&looks), "{looks} looks in {minutes} minutes");
}

fn figures_are_read_every_three_seconds_for_few_engines_and_every_two_for_more() {
    let first = 17_100;
    let Some(mut fleet) = OwnFleet::new(&config(first, 1)) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let begun = Instant::now();
    let mut server = serve(&mut fleet, &proxy, first, 1);
    rounds(&proxy, 1, 3);
    server.terminate();
    let server = serve(&mut fleet, &proxy, first, 5);
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
    assert_looks_at_disks(&proxy, 2, begun);
}

fn figures_of_many_engines_are_read_every_two_seconds() {
    let first = 17_200;
    let Some(mut fleet) = OwnFleet::new(&config(first, 10)) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let begun = Instant::now();
    let mut server = serve(&mut fleet, &proxy, first, 10);
    rounds(&proxy, 10, 2);
    server.terminate();
    let _server = serve(&mut fleet, &proxy, first, 20);
    rounds(&proxy, 20, 2);
    assert_looks_at_disks(&proxy, 2, begun);
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

const RATE: u32 = 2_000_000;
const POLL: Duration = Duration::from_millis(200);
/// Enough that a counter that begins anew is seen to.
const MUCH: u64 = 2_000_000;
/// Of Docker's answers. Longer, and they would not count.
const SLOW: Duration = Duration::from_millis(1_800);
const USAGE: &str = "/api/v1/engines/stats";
const COUNTERS: [&str; 4] = ["network_rx_bytes", "network_tx_bytes", "block_read_bytes", "block_write_bytes"];

/// What is told of traffic, looked at again and again.
struct Watch<'a> {
    server: &'a Server,
    /// Totals of the API and of `/metrics`, in the order of [`COUNTERS`].
    totals: [[u64; 4]; 2],
    /// What each engine has sent, by name, by what was told of it last.
    sent: BTreeMap<String, u64>,
    /// Those with a series or an answer of their own.
    named: BTreeSet<String>,
    /// Sent by engines before they counted anew.
    before: u64,
    samples: usize,
}

impl<'a> Watch<'a> {
    fn new(server: &'a Server) -> Self {
        let (sent, named) = (BTreeMap::new(), BTreeSet::new());
        Self { server, totals: [[0; 4]; 2], sent, named, before: 0, samples: 0 }
    }

    /// No total is less than it was.
    #[track_caller]
    fn look(&mut self) {
        let answer = json_at(self.server.address(), USAGE);
        let metrics = self.server.metrics();
        let told = COUNTERS.map(|counter| answer["total"][counter].as_u64().unwrap());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of bytes")]
        let series = COUNTERS.map(|counter| metrics[&format!("millrace_engines_{counter}_total")] as u64);
        let totals = [told, series];
        for (now, was) in totals.as_flattened().iter().zip(self.totals.as_flattened()) {
            assert!(now >= was, "{:?} and then {totals:?}\n{}", self.totals, self.server.log());
        }
        self.totals = totals;
        self.samples += 1;

        let engines = answer["engines"].as_array().unwrap().iter();
        let sent = engines.clone().filter_map(|e| Some((name(e), e["usage"]["network_tx_bytes"].as_u64()?)));
        for (name, now) in sent {
            let was = self.sent.insert(name, now).unwrap_or(0);
            self.before += if now < was { was } else { 0 };
        }
        let of_one = metrics.keys().filter_map(|key| key.strip_prefix("millrace_engine_"));
        let series =
            of_one.filter_map(|key| Some(key.split_once("name=\"")?.1.split_once('"')?.0.to_owned()));
        self.named = engines.map(name).chain(series).collect();
    }

    /// Looks until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.look();
            if is_so(self) {
                println!("{what}: {:.1?}", begun.elapsed());
                return;
            }
            let log = self.server.log();
            assert!(begun.elapsed() < SOON, "not {what}: {:?}, {:?}\n{log}", self.sent, self.totals);
            thread::sleep(POLL);
        }
    }

    /// Who has sent most of those that are there, and how much.
    fn busiest(&self) -> (String, u64) {
        let there = self.sent.iter().filter(|(name, _)| self.named.contains(*name));
        let (name, sent) = there.max_by_key(|(_, sent)| **sent).unwrap();
        (name.clone(), *sent)
    }

    /// What is received and sent goes on to count.
    #[track_caller]
    fn rises(&mut self) {
        let then = self.totals;
        self.until("totals rise", |it| {
            it.totals.iter().zip(&then).all(|(now, was)| now[0] > was[0] && now[1] > was[1])
        });
    }
}

fn name(engine: &Value) -> String {
    engine["name"].as_str().unwrap().to_owned()
}

fn totals_never_fall_though_engines_go_and_restart() {
    let Some(mut docker) = Dockerd::new() else { return };
    if !docker.start() {
        return;
    }
    docker.network("engines");
    let config = format!(
        "network = \"engines\"\nports = \"{}\"\n[fleet]\nmin = 3\nmax = 4\nspare_slots = 0\n\
         [engines]\ncapacity = 4\n",
        own_fleet::ports()
    );
    let Some(fleet) = OwnFleet::on(docker, &config) else { return };
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let texts = [
        "IPv4 forwarding is disabled",
        "engine_died",
        "engine_vanished",
        "engine_ails",
        "engine turned",
        "engines_fail_together",
    ];
    let server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
    let server = texts.iter().fold(server, |server, text| server.allow(text));
    wait_ready(&server, 3);
    let crowd = Crowd::new();
    for serial in 1..=3 {
        let id = signed(RATE, Scenario::healthy(), serial);
        crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
    }
    let mut watch = Watch::new(&server);
    watch.until("much is sent by three", |it| it.sent.values().filter(|sent| **sent >= MUCH).count() == 3);
    let [deleted, removed, killed]: [String; 3] =
        watch.sent.keys().cloned().collect::<Vec<_>>().try_into().unwrap();

    let answer = ask(server.address(), "DELETE", &format!("/api/v1/engines/{deleted}"), "", "");
    assert_eq!(answer.status, 202, "{}", answer.text());
    watch.until("one that is deleted is told of no more", |it| !it.named.contains(&deleted));
    watch.rises();
    assert!(!server.log().contains("source lost"), "its stream moves before: {}", server.log());
    fleet.docker.docker(&["rm", "--force", &removed]);
    watch.until("one that is removed is told of no more", |it| !it.named.contains(&removed));
    watch.rises();
    let container = fleet.docker.inspect(&killed)["Id"].clone();
    let was = watch.sent[&killed];
    fleet.docker.docker(&["kill", &killed]);
    watch.until("one that is restarted counts anew", |it| it.sent[&killed] < was);
    assert_eq!(fleet.docker.inspect(&killed)["Id"], container, "in place");
    watch.rises();
    // Nor does one fall where Docker's list never shows that the engine was away.
    let list = "GET /containers/json";
    let (restarted, was) = watch.busiest();
    proxy.play(list, Act::Hang, Times::Always);
    fleet.docker.docker(&["restart", "--time", "0", &restarted]);
    proxy.lift();
    watch.until("another one counts anew", |it| it.sent[&restarted] < was);
    watch.rises();

    let (told, seen) = (watch.totals[0][1], watch.before + watch.sent.values().sum::<u64>());
    println!("{told} bytes sent, {seen} by what was told of each, {} samples", watch.samples);
    // The last that one counted may have been told for less than a moment.
    assert!((seen..=seen + seen / 5).contains(&told), "{told} bytes sent, and not {seen}");

    let begun = Instant::now();
    proxy.play("*", Act::Delay(SLOW), Times::Always);
    let one = format!("/api/v1/engines/{killed}/stats");
    let paths = [USAGE, &one, "/api/v1/engines", "/api/v1/fleet", "/metrics"];
    let took = paths.iter().cycle().take(50).map(|path| {
        // More than one round's time in all.
        thread::sleep(POLL / 2);
        let asked = Instant::now();
        assert_eq!(server.get(path).status, 200, "{path}");
        (asked.elapsed(), proxy.under_way(STATS) > 0)
    });
    let took: Vec<_> = took.collect();
    let meanwhile = took.iter().filter(|(_, is_slow)| *is_slow).count();
    let worst = took.iter().map(|(took, _)| *took).max().unwrap();
    println!("while Docker takes {SLOW:?}: {worst:.1?} at most, {meanwhile} of 50 while it was asked");
    assert!(meanwhile >= 15, "{meanwhile} answers while Docker was asked: {:#?}", proxy.calls());
    assert!(worst < SLOW / 3, "{worst:?} in {:?}", begun.elapsed());
    watch.look();
}
