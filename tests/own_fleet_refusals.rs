//! What Docker refuses is told with its remedy, tried again with pauses that
//! grow, and takes nothing from whoever watches.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::Scenario;
use serde_json::Value;
use support::{
    crowd::{Crowd, assert_unbroken},
    docker::{Act, DockerProxy, Registry, Times},
    own_fleet::{self, Finding, OwnFleet, engines},
    server::Server,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(30);
/// For this long it is watched how often something is tried.
const WINDOW: Duration = Duration::from_secs(8);
const CREATE: &str = "POST /containers/create";
const PULL: &str = "POST /images/create";
const LIST: &str = "GET /containers/json";
/// The breaker lets two fail and one more each three seconds: five in the
/// window, and two that were under way.
const CREATES: std::ops::RangeInclusive<usize> = 2..=7;

/// A fleet of one engine and a half-open door: three seconds after two failures
/// it is tried once more.
fn config(docker: &str, fleet: &str) -> String {
    format!(
        "{docker}\n[fleet]\nmin = 1\nmax = 2\nspare_slots = 0\nbreaker_failures = 2\nbreaker_pause = \"3s\"\n{fleet}"
    )
}

fn on_host() -> String {
    format!("network = \"host\"\nports = \"{}\"", own_fleet::ports())
}

/// Something that goes wrong, and what is to be seen of it.
struct Case {
    name: &'static str,
    /// Of the server, as TOML.
    config: String,
    /// Codes of the events that the log warns of.
    codes: &'static [&'static str],
    /// Error and remedy, as in the log.
    says: &'static [&'static str],
    /// What is tried, and how often within the window.
    tries: (&'static str, std::ops::RangeInclusive<usize>),
    /// What `check` says of it.
    check: &'static [Finds],
}

/// How `check` is asked, and level and words of what it says.
struct Finds(Asked, &'static str, &'static str);

/// How `check` is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Plainly,
    /// From where the daemon's disk is seen.
    BesideTheDaemon,
    Trial,
    /// Where the daemon has the faults that the server sees.
    TrialByProxy,
}

/// A daemon with an engine that somebody else runs, on which all is watched.
struct Scene {
    fleet: OwnFleet,
    proxy: DockerProxy,
    crowd: Crowd,
    serial: u64,
}

impl Scene {
    fn new() -> Option<Self> {
        let fleet = OwnFleet::new("")?;
        let port = support::docker::free_port();
        let labels = ["--label", "io.millrace.engine=true", "--label", &format!("io.millrace.port={port}")];
        fleet.docker.run_engine("always", port, &labels, &[]);
        let proxy = DockerProxy::new(&fleet.docker.socket());
        Some(Self { fleet, proxy, crowd: Crowd::new(), serial: 0 })
    }

    /// A server with this configuration, and a viewer whose stream flows.
    fn serve(&mut self, config: &str, codes: &[&str]) -> (Server, usize) {
        self.fleet.config = config.to_owned();
        let server = self.fleet.serve(Some(&self.proxy.uri()), &["--keep-engines"]);
        // Docker itself warns of hosts that forward nothing.
        let server = server.allow("IPv4 forwarding is disabled");
        let server = codes.iter().fold(server, |server, code| server.allow(code));
        let is_there = || engines(&server, "ready").iter().any(|name| name == "always");
        assert!(wait_until(SOON, is_there), "{}", server.log());
        self.serial += 1;
        let id = signed(RATE, Scenario::healthy(), self.serial);
        let viewer = self.crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
        let flows = || self.crowd.seen(viewer).run(RATE) >= Duration::from_secs(1);
        assert!(wait_until(SOON, flows), "{:#?}\n{}", self.crowd.seen(viewer), server.log());
        (server, viewer)
    }

    /// The viewer's stream has gone on for as long as that was.
    #[track_caller]
    fn went_on(&self, name: &str, viewer: usize, begun: Instant) {
        let run = begun.elapsed().saturating_sub(Duration::from_secs(3));
        assert_unbroken(name, &self.crowd.seen(viewer), RATE, run);
    }

    /// What `check` finds.
    fn check(&self, asked: Asked) -> Vec<Finding> {
        let docker = &self.fleet.docker;
        match asked {
            Asked::Plainly => self.fleet.check(&docker.uri(), &[]),
            Asked::BesideTheDaemon => {
                let target = docker.pid().unwrap().to_string();
                let mut beside = Command::new("nsenter");
                beside.args(["--mount", "--target", &target, env!("CARGO_BIN_EXE_millrace")]);
                self.fleet.check_by(beside, &docker.uri(), &[])
            }
            Asked::Trial => self.fleet.check(&docker.uri(), &["--trial"]),
            Asked::TrialByProxy => self.fleet.check(&self.proxy.uri(), &["--trial"]),
        }
    }

    /// What `check` says of a case; a trial in the words of the log.
    fn is_found(&self, case: &Case, server: &Server) {
        for Finds(asked, level, words) in case.check {
            let found = self.check(*asked);
            let it = found.iter().find(|f| f.level == *level && f.found.contains(words));
            let remedy = it.map_or("", |f| &f.remedy);
            assert!(!remedy.is_empty(), "{}: {found:#?}", case.name);
            if matches!(asked, Asked::Trial | Asked::TrialByProxy) {
                let log = server.log();
                assert!(log.contains(words) && log.contains(remedy), "{}: {remedy}\n{log}", case.name);
            }
            assert_eq!(self.fleet.trials(), [], "{}", case.name);
        }
    }

    /// Plays a case until it is told, and checks all but how it ends.
    fn plays(&mut self, case: &Case) -> (Server, usize, Instant) {
        let begun = Instant::now();
        let before = self.proxy.count(case.tries.0);
        let (server, viewer) = self.serve(&case.config, case.codes);
        for word in case.says {
            assert!(server.logs_within(SOON, word), "{}: no {word:?}\n{}", case.name, server.log());
        }
        self.tells(case, &server);
        if let Some(rest) = (begun + WINDOW).checked_duration_since(Instant::now()) {
            thread::sleep(rest);
        }
        let (tries, took) = (self.proxy.count(case.tries.0) - before, begun.elapsed());
        println!("{}: {tries} × {} in {took:?}", case.name, case.tries.0);
        let late = usize::try_from(took.saturating_sub(WINDOW).as_secs() / 3).unwrap();
        let most = *case.tries.1.end() + late;
        let fits = (*case.tries.1.start()..=most).contains(&tries);
        assert!(fits, "{}: {tries} × {} in {took:?}\n{}", case.name, case.tries.0, server.log());
        self.is_found(case, &server);
        self.went_on(case.name, viewer, begun);
        assert_eq!(server.get("/healthz").status, 200, "{}", case.name);
        (server, viewer, begun)
    }

    /// The API has an event of each code, with what helps, and something is open.
    fn tells(&self, case: &Case, server: &Server) {
        let answer = own_fleet::json_at(server.address(), "/api/v1/events?limit=1000");
        let events = answer["events"].as_array().unwrap();
        for code in case.codes {
            let has_remedy =
                |e: &&Value| e["code"] == *code && e["remedy"].as_str().is_some_and(|r| !r.is_empty());
            assert!(events.iter().find(has_remedy).is_some(), "{}: no {code}: {answer:#}", case.name);
        }
        let fleet = own_fleet::json_at(server.address(), "/api/v1/fleet");
        let open = fleet["incidents"].as_array().unwrap();
        assert!(!open.is_empty(), "{}: nothing is wrong: {fleet:#}", case.name);
    }

    /// It is mended: an engine of our own comes, and the viewer has seen nothing.
    #[track_caller]
    fn recovers(&self, name: &str, server: &Server, viewer: usize, begun: Instant) {
        let comes = || engines(server, "ready").iter().any(|name| name.starts_with("millrace-"));
        assert!(wait_until(SOON, comes), "{name}: {}", server.log());
        self.went_on(name, viewer, begun);
    }

    /// Ends the server, and removes what it made.
    fn over(&self, mut server: Server, viewer: usize) {
        self.crowd.leave(viewer);
        server.terminate();
        for (name, _) in self.fleet.containers() {
            self.fleet.docker.docker(&["rm", "--force", "--volumes", &name]);
        }
    }
}

#[test]
fn what_cannot_be_made_is_told_with_its_remedy_and_seldom_tried() {
    let Some(mut scene) = Scene::new() else { return };
    let image = |image: &str, pull: &str| {
        format!("image = \"{image}\"\npull = \"{pull}\"\npull_limit = \"2s\"\n{}", on_host())
    };
    let network = |network: &str| format!("network = \"{network}\"\nports = \"{}\"", own_fleet::ports());
    let no_creates = (CREATE, 0..=0);
    let cases = [
        Case {
            name: "an image that is not there and not pulled",
            config: config(&image("nobody/has-it:1", "never"), ""),
            codes: &["image_missing"],
            says: &[
                "image nobody/has-it:1: there is no image nobody/has-it:1",
                "let it be pulled when it is missing",
            ],
            tries: ("GET /images/{name}/json", 1..=2),
            check: &[
                Finds(Asked::Plainly, "fail", "nobody/has-it:1 is not there"),
                Finds(Asked::Trial, "fail", "image nobody/has-it:1: there is no image nobody/has-it:1"),
            ],
        },
        Case {
            name: "a registry that refuses",
            config: config(&image("127.0.0.1:1/engine:1", "missing"), ""),
            codes: &["image_missing"],
            says: &["cannot reach the registry of 127.0.0.1:1/engine:1", "correct the registry's name"],
            tries: (PULL, 1..=2),
            check: &[Finds(Asked::Trial, "fail", "cannot reach the registry of 127.0.0.1:1/engine:1")],
        },
        Case {
            name: "a network that is missing",
            config: config(&network("nowhere"), ""),
            codes: &["engines_cannot_be_made", "engine_deed_failed"],
            says: &["the network is missing", "docker network create"],
            tries: (CREATE, CREATES),
            check: &[Finds(Asked::Plainly, "fail", "there is no network nowhere")],
        },
        Case {
            name: "a lender that is missing",
            config: config(&network("container:nobody"), ""),
            codes: &["engines_cannot_be_made", "engine_deed_failed"],
            says: &["whose network is shared is missing", "start that container, or correct its name"],
            tries: (CREATE, CREATES),
            check: &[Finds(
                Asked::Plainly,
                "fail",
                "the container nobody, whose network is shared, is not there",
            )],
        },
        Case {
            name: "a template that is unknown",
            config: config(&format!("template = \"nothing\"\n{}", on_host()), ""),
            codes: &["template_unusable"],
            says: &["there is no template \"nothing\"", "name one of /api/v1/templates"],
            tries: no_creates,
            check: &[Finds(Asked::Plainly, "fail", "there is no template \"nothing\"")],
        },
    ];
    for case in cases {
        let (server, viewer, _) = scene.plays(&case);
        assert!(scene.fleet.containers().is_empty(), "{}: {:?}", case.name, scene.fleet.containers());
        scene.over(server, viewer);
    }
}

#[test]
fn what_is_mended_is_found_out_and_containers_of_others_are_left_alone() {
    let Some(mut scene) = Scene::new() else { return };
    // Of three ports two are somebody's.
    let first = 27_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 3;
    let mut held: Vec<_> = (first..first + 2).map(|p| TcpListener::bind(("0.0.0.0", p)).unwrap()).collect();
    let narrow = format!("network = \"host\"\nports = \"{first}-{}\"", first + 2);
    let case = Case {
        name: "ports that are used up",
        config: config(&narrow, "").replace("min = 1", "min = 2"),
        codes: &["ports_used_up"],
        says: &["are taken", "widen docker.ports"],
        tries: (CREATE, 1..=1),
        check: &[Finds(Asked::Plainly, "fail", "1 of 3 from")],
    };
    let (server, viewer, begun) = scene.plays(&case);
    scene.recovers(case.name, &server, viewer, begun);
    held.pop();
    let both = || engines(&server, "ready").len() == 3;
    assert!(wait_until(SOON, both), "{}", server.log());
    assert!(server.logs_within(SOON, "a port is free again"), "{}", server.log());
    assert_eq!(scene.fleet.containers().len(), 2);
    scene.over(server, viewer);
    drop(held);

    let docker = &scene.fleet.docker;
    let label = "io.millrace.fleet=millrace";
    let port = support::docker::free_port();
    let at = format!("io.millrace.port={port}");
    let labels = ["--label", "io.millrace.engine=true", "--label", &at, "--label", label];
    docker.run_engine("stranger", port, &labels, &[]);
    docker.docker(&[
        "create",
        "--name",
        "still",
        "--label",
        "io.millrace.engine=true",
        "--label",
        label,
        "engine-emulator",
    ]);
    docker.docker(&["create", "--name", "millrace-1", "engine-emulator"]);
    let foreign = || scene_containers(&scene, &["stranger", "still", "millrace-1"]);
    let before = foreign();
    let case = Case {
        name: "labels and a name that others have",
        config: config(&on_host(), ""),
        codes: &["label_collision", "engine_deed_failed", "engines_cannot_be_made"],
        says: &[
            "carries the label of this fleet, and not the rest of ours",
            "or its label io.millrace.fleet",
            "the name millrace-1 is taken by container",
            "Millrace leaves it alone",
        ],
        tries: (CREATE, 2..=3),
        check: &[
            Finds(Asked::Plainly, "warn", "container stranger carries the label of the fleet"),
            Finds(Asked::Plainly, "warn", "the name millrace-1 is taken by container"),
        ],
    };
    let (server, viewer, begun) = scene.plays(&case);
    scene.recovers(case.name, &server, viewer, begun);
    // Longer than whatever is taken for a mistake of our own is left.
    thread::sleep((begun + Duration::from_secs(14)).saturating_duration_since(Instant::now()));
    assert_eq!(scene_containers(&scene, &["stranger", "still", "millrace-1"]), before, "{}", server.log());
    scene.fleet.docker.docker(&["rm", "--force", "stranger", "still", "millrace-1"]);
    assert!(
        server.logs_within(SOON, "no container of others carries this fleet's label"),
        "{}",
        server.log()
    );
    scene.over(server, viewer);

    scene.proxy.play(CREATE, Act::disk_full(), Times::Always);
    let case = Case {
        name: "a disk that is full",
        config: config(&on_host(), ""),
        codes: &["engines_cannot_be_made", "engine_deed_failed"],
        says: &["no space left", "docker system df"],
        tries: (CREATE, CREATES),
        check: &[Finds(Asked::TrialByProxy, "fail", "no space left")],
    };
    let (server, viewer, begun) = scene.plays(&case);
    scene.proxy.lift();
    scene.recovers(case.name, &server, viewer, begun);
    assert!(server.logs_within(SOON, "an engine has been made"), "{}", server.log());
    scene.over(server, viewer);

    // And one that really is.
    let port = support::docker::free_port();
    scene.fleet.docker.run_engine("filler", port, &[], &["--fill", "8000000000", "--cache-dir", "/"]);
    let case = Case {
        name: "a disk that is full by itself",
        config: config(&on_host(), ""),
        codes: &["engines_cannot_be_made", "engine_deed_failed"],
        says: &["no space left", "docker system df"],
        tries: (CREATE, CREATES),
        check: &[
            Finds(Asked::BesideTheDaemon, "fail", "no container can be made"),
            Finds(Asked::Trial, "fail", "no space left"),
        ],
    };
    let is_full = || {
        let made = scene.fleet.docker.try_docker(&["create", "--name", "probe", "engine-emulator"]);
        scene.fleet.docker.try_docker(&["rm", "probe"]);
        !made.status.success()
    };
    assert!(wait_until(SOON, is_full), "the disk does not get full");
    let (server, viewer, begun) = scene.plays(&case);
    scene.fleet.docker.docker(&["rm", "--force", "filler"]);
    scene.recovers(case.name, &server, viewer, begun);
    scene.over(server, viewer);
}

/// Id and state of each of these containers.
fn scene_containers(scene: &Scene, names: &[&str]) -> Vec<(String, String)> {
    let all = scene.fleet.docker.containers().into_iter();
    all.filter(|c| names.contains(&c.name.as_str())).map(|c| (c.id, c.state)).collect()
}

#[test]
fn a_daemon_that_fails_takes_nothing_away_and_is_asked_ever_less() {
    let Some(mut scene) = Scene::new() else { return };
    let (server, viewer) = scene.serve(&config(&on_host(), ""), &["Docker does not answer"]);
    let begun = Instant::now();
    scene.recovers("at first", &server, viewer, begun);
    let known = scene.fleet.docker.containers();
    let lost = |count: usize| {
        let is_told = || server.log().matches("Docker does not answer").count() == count;
        assert!(wait_until(SOON, is_told), "{count}: {}", server.log());
    };
    let found = |count: usize| {
        let is_told = || server.log().matches("Docker answers now").count() == count;
        assert!(wait_until(SOON, is_told), "{count}: {}", server.log());
    };

    // Pauses of 0.25 s to 5 s, and whatever was under way.
    let asked = |proxy: &DockerProxy, name: &str, since: Instant, most: usize| {
        thread::sleep((since + WINDOW).saturating_duration_since(Instant::now()));
        let calls = proxy.count_since("*", since);
        println!("{name}: {calls} calls in {:?}", since.elapsed());
        assert!(calls <= most, "{name}: {calls} calls: {:#?}", proxy.calls());
    };
    let since = Instant::now();
    scene.proxy.play("*", Act::Answer(500, "a fault of its own".into()), Times::Always);
    lost(1);
    assert!(server.logs_within(SOON, "a fault of its own"), "{}", server.log());
    asked(&scene.proxy, "faults", since, 10);
    scene.proxy.lift();
    found(1);

    scene.proxy.close();
    lost(2);
    scene.proxy.open();
    found(2);
    scene.went_on("faults and a closed socket", viewer, begun);

    // As slow as answers are waited for: it may count as lost or not, and
    // nothing is done twice.
    let since = Instant::now();
    scene.proxy.play("*", Act::Delay(Duration::from_secs(5)), Times::Always);
    scene.proxy.cut("*");
    asked(&scene.proxy, "slow answers", since, 12);
    scene.went_on("slow answers", viewer, begun);
    scene.proxy.lift();
    let calm = || {
        server.log().matches("Docker does not answer").count()
            == server.log().matches("Docker answers now").count()
    };
    assert!(wait_until(SOON, calm), "{}", server.log());
    assert_eq!(scene.fleet.docker.containers(), known, "nothing was made or removed");
    scene.went_on("all of it", viewer, begun);
    assert_eq!(engines(&server, "ready").len(), 2);
    scene.over(server, viewer);
}

#[test]
fn without_events_all_is_found_by_looking_again() {
    let Some(mut scene) = Scene::new() else { return };
    scene.proxy.play("GET /events", Act::Swallow, Times::Always);
    let begun = Instant::now();
    let (server, viewer) =
        scene.serve(&config(&on_host(), ""), &["engine_died", "engine turned", "engine_ails"]);
    scene.recovers("the first engine", &server, viewer, begun);
    let made = begun.elapsed();
    // Past the look that follows one's own deeds.
    thread::sleep(Duration::from_secs(2));
    let name = scene.fleet.containers()[0].0.clone();
    scene.fleet.docker.docker(&["kill", &name]);
    let killed = Instant::now();
    assert!(server.logs_within(SOON, "its container ended with status 137"), "{}", server.log());
    let told = killed.elapsed();
    scene.recovers("after its death", &server, viewer, begun);
    let (again, lists) = (killed.elapsed(), scene.proxy.count_since(LIST, killed));
    println!(
        "without events: made in {made:?}, a death told after {told:?}, mended after {again:?}, {lists} lists"
    );
    assert!(told <= Duration::from_secs(13) && lists <= 6, "{told:?}, {lists} lists");
    assert_eq!(scene.fleet.containers().len(), 1);
    scene.over(server, viewer);
}

#[test]
fn a_pull_that_hangs_ends_in_time_and_is_seldom_tried() {
    let (Some(mut scene), Some(registry)) = (Scene::new(), Registry::start()) else { return };
    registry.log_in(&scene.fleet.docker);
    registry.push(&scene.fleet.docker, "engine-emulator", "engine:1");
    registry.set_rate(0);
    let image = registry.reference("engine:1");
    let auth = scene.fleet.docker.socket().with_file_name("config").join("config.json");
    let docker = format!(
        "image = \"{image}\"\npull = \"missing\"\npull_limit = \"2s\"\nauth_file = \"{}\"\n{}",
        auth.display(),
        on_host()
    );
    let case = Case {
        name: "a pull that hangs",
        config: config(&docker, ""),
        codes: &["image_missing"],
        says: &["took longer than 2s", "pull the image by hand, or allow more time"],
        tries: (PULL, 1..=2),
        check: &[Finds(Asked::Trial, "fail", "took longer than 2s")],
    };
    let (server, viewer, begun) = scene.plays(&case);
    registry.set_rate(u64::MAX);
    scene.recovers(case.name, &server, viewer, begun);
    assert!(server.logs_within(SOON, "the image is there"), "{}", server.log());
    scene.over(server, viewer);

    scene.fleet.docker.docker(&["rmi", &image]);
    for how in ["was pulled", "is there"] {
        let found = scene.fleet.trial(&scene.fleet.docker.uri());
        assert!(found[0] == ("ok".to_owned(), format!("image {image} {how}")), "{found:#?}");
        assert_eq!(scene.fleet.trials(), []);
    }
}

#[test]
fn a_socket_that_is_not_ours_is_named_with_the_remedy_and_used_once_it_is() {
    let Some(fleet) = OwnFleet::new(&config(&on_host(), "")) else { return };
    let socket = fleet.docker.socket();
    let allow = |mode| fs::set_permissions(&socket, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o600);
    let as_nobody = fleet.data.path().join("as-nobody");
    let binary = env!("CARGO_BIN_EXE_millrace");
    let words =
        format!("#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups {binary} \"$@\"\n");
    fs::write(&as_nobody, words).unwrap();
    fs::set_permissions(&as_nobody, fs::Permissions::from_mode(0o755)).unwrap();
    let args = fleet.args(None, &["--keep-engines"]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let server = Server::start_program(Path::new(&as_nobody), &args).allow("Docker does not answer");
    for word in ["permission denied", "SupplementaryGroups=docker"] {
        assert!(server.logs_within(SOON, word), "{word}: {}", server.log());
    }
    assert_eq!(server.get("/healthz").status, 200);
    let check = Command::new(&as_nobody).arg("check").args(&args).args(["--listen", "127.0.0.1:0"]).output();
    let found = String::from_utf8(check.unwrap().stdout).unwrap();
    let line =
        found.lines().find(|line| line.starts_with("fail  Docker: ")).unwrap_or_else(|| panic!("{found}"));
    assert!(line.contains("permission denied") && line.contains("SupplementaryGroups=docker"), "{line}");
    allow(0o666);
    let comes = || engines(&server, "ready").len() == 1;
    assert!(wait_until(SOON, comes), "{}", server.log());
    assert_eq!(server.log().matches("Docker does not answer").count(), 1, "{}", server.log());
}

#[test]
fn two_servers_with_one_name_run_the_fleet_one_after_the_other() {
    let Some(fleet) = OwnFleet::new(&config(&on_host(), "").replace("min = 1", "min = 2")) else { return };
    let mut first = fleet.serve(None, &["--keep-engines"]).allow("engine_died");
    own_fleet::wait_ready(&first, 2);
    let second = fleet.serve(None, &["--keep-engines"]).allow("fleet_shared").allow("engine_died");
    for word in ["another server of this host runs the fleet", "a name of its own in docker.name"] {
        assert!(second.logs_within(SOON, word), "{word}: {}", second.log());
    }
    own_fleet::wait_ready(&second, 2);
    let (crowd, id) = (Crowd::new(), signed(RATE, Scenario::healthy(), 1));
    let viewer = crowd.ask(second.address(), &path(&id), id.verifier().unwrap());
    let flows = || crowd.seen(viewer).run(RATE) >= Duration::from_secs(2);
    assert!(wait_until(SOON, flows), "as they are found: {}", second.log());
    crowd.leave(viewer);

    let mut known = fleet.containers();
    let starts = |name: &str| {
        let log = fleet.docker.inspect(name);
        log["State"]["StartedAt"].as_str().unwrap().to_owned()
    };
    fleet.docker.docker(&["kill", &known[0].0]);
    assert!(first.logs_within(SOON, "engine_mended"), "{}", first.log());
    own_fleet::wait_ready(&first, 2);
    own_fleet::wait_ready(&second, 2);
    let begun = starts(&known[0].0);
    assert!(!second.log().contains("engine_mended"), "only one mends: {}", second.log());
    assert_eq!(fleet.containers(), known);

    first.terminate();
    assert!(second.logs_within(SOON, "the fleet is this server's now"), "{}", second.log());
    assert!(second.logs_within(SOON, "engine_adopted"), "{}", second.log());
    assert_eq!((starts(&known[0].0), fleet.containers()), (begun, known.clone()), "kept as they were");
    let gone = known.remove(1).0;
    fleet.docker.docker(&["kill", &gone]);
    assert!(second.logs_within(SOON, "engine_mended"), "{}", second.log());
    own_fleet::wait_ready(&second, 2);
    assert_eq!(fleet.containers().len(), 2);
}
