//! The rig of the Docker tests keeps its own promises: what it says it does to
//! a daemon is done, what it counts is counted, and nothing is left.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use support::{
    docker::{Act, Certs, DockerProxy, Dockerd, IMAGE, Registry, Times, Traces, free_port},
    get,
    tool::{self, Outcome},
    wait_until,
};

mod support;

const SOON: Duration = Duration::from_secs(20);
/// Nothing that is not there comes within this time.
const MOMENT: Duration = Duration::from_millis(300);
const VERSION: &str = "/webui/api/service?method=get_version";

/// A running daemon with the image; none where that cannot be.
fn daemon() -> Option<Dockerd> {
    let mut docker = Dockerd::new()?;
    docker.start().then(|| docker.make_image())?;
    Some(docker)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether an engine answers there.
fn plays(address: SocketAddr) -> bool {
    get(address, VERSION).is_ok_and(|answer| answer.status == 200)
}

#[track_caller]
fn wait_plays(address: SocketAddr) {
    assert!(wait_until(SOON, || plays(address)), "no engine answers at {address}");
}

fn pid(docker: &Dockerd, name: &str) -> i64 {
    docker.inspect(name)["State"]["Pid"].as_i64().unwrap()
}

fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = act();
    println!("{what}: {:?}", start.elapsed());
    result
}

#[test]
fn a_container_outlives_whatever_befalls_its_daemon() {
    let Some(mut docker) = Dockerd::new() else { return };
    if !timed("start of the daemon", || docker.start()) {
        return;
    }
    timed("linking the emulator, or finding it linked", support::docker::emulator);
    timed("import of the image", || docker.make_image());
    println!("storage {}, control groups {}", docker.storage(), docker.cgroup_version());
    let begun = SystemTime::now();
    let port = free_port();
    let address = local(port);
    timed("docker run", || docker.run_engine("first", port, &["--label", "a=b,c=d"], &[]));
    wait_plays(address);
    let (process, daemon) = (pid(&docker, "first"), docker.pid().unwrap());
    timed("docker pause", || docker.docker(&["pause", "first"]));
    assert!(get(address, VERSION).is_err(), "a paused engine answers nobody");
    assert_eq!(docker.containers()[0].state, "paused");
    timed("docker unpause", || docker.docker(&["unpause", "first"]));
    let container = &docker.containers()[0];
    assert_eq!((container.name.as_str(), container.state.as_str()), ("first", "running"));
    assert_eq!(container.labels["a"], "b,c=d");

    // What Docker itself costs, without a client to be started.
    let order = |method: &str, target: &str| timed(target, || docker.api(method, target, None));
    let create =
        json!({ "Image": IMAGE, "Cmd": ["--first-port", "0"], "HostConfig": { "NetworkMode": "host" } });
    let target = "/containers/create?name=second";
    timed(target, || docker.api("POST", target, Some(&create.to_string())));
    for what in ["start", "pause", "unpause", "restart", "stop"] {
        order("POST", &format!("/containers/second/{what}"));
    }
    order("DELETE", "/containers/second");
    assert_eq!(docker.containers().len(), 1);

    docker.pause_daemon();
    let config = ["--unix-socket", docker.socket().to_str().unwrap(), "-m", "0.3", "-s", "http://d/_ping"]
        .map(String::from);
    assert_eq!(curl(&config).status.code(), Some(28), "a frozen daemon takes the connection and is silent");
    assert!(plays(address));
    docker.resume();
    assert_eq!(curl(&config).stdout, "OK");

    docker.stop();
    assert_eq!(curl(&config).status.code(), Some(7), "nobody listens");
    assert!(plays(address));
    assert!(timed("start after an end", || docker.start()));
    let second = docker.pid().unwrap();
    docker.kill9();
    assert!(!Path::new(&format!("/proc/{second}")).exists() && plays(address));
    assert!(timed("start after a kill", || docker.start()));
    assert!(timed("restart", || docker.restart()));
    assert_eq!(pid(&docker, "first"), process, "the same process");
    assert!(plays(address));
    assert_ne!(docker.pid(), Some(daemon));

    timed("docker stop", || docker.docker(&["stop", "first"]));
    let state = &docker.inspect("first")["State"];
    assert_eq!((&state["ExitCode"], &state["OOMKilled"]), (&json!(0), &json!(false)), "it ends when told");
    let log = docker.docker(&["logs", "first"]);
    assert!(log.contains(&format!("engine 0 http://{address}")), "{log}");
    let events = docker.events_since(begun);
    let is_it = |e: &&Value| e["Type"] == "container" && e["Actor"]["Attributes"]["name"] == "first";
    let of_it = events.iter().filter(is_it).map(|e| e["Action"].as_str().unwrap());
    let last: Vec<_> = of_it.collect();
    assert!(last.ends_with(&["kill", "die", "stop"]) || last.ends_with(&["kill", "stop", "die"]), "{last:?}");
}

fn curl(args: &[String]) -> Outcome {
    tool::run("curl", &args.iter().map(String::as_str).collect::<Vec<_>>(), SOON)
}

#[test]
fn an_engine_is_reached_in_each_kind_of_network_and_two_daemons_know_nothing_of_each_other() {
    let (Some(mut docker), Some(other)) = (daemon(), daemon()) else { return };
    let networks = [docker.network("engines"), other.network("engines")];
    assert_ne!(networks[0], networks[1]);
    let (published, again) = (free_port(), free_port());
    for (docker, port) in [(&docker, published), (&other, again)] {
        let publish = format!("127.0.0.1:{port}:6878");
        let run = ["run", "--detach", "--name", "published", "--network", "engines", "--publish", &publish];
        docker.docker(&[&run[..], &[IMAGE, "--address", "0.0.0.0"]].concat());
        wait_plays(local(port));
        wait_plays((docker.address("published", "engines"), 6878).into());
    }
    let neighbour = ["run", "--detach", "--name", "neighbour", "--network", "container:published"];
    docker.docker(&[&neighbour[..], &[IMAGE, "--address", "0.0.0.0", "--first-port", "6900"]].concat());
    wait_plays((docker.address("published", "engines"), 6900).into());
    let host = free_port();
    docker.run_engine("host", host, &[], &[]);
    wait_plays(local(host));

    let names = |docker: &Dockerd| docker.containers().into_iter().map(|c| c.name).collect::<Vec<_>>();
    assert_eq!(names(&docker), ["host", "neighbour", "published"]);
    assert_eq!(names(&other), ["published"]);
    drop(other);
    assert!(plays(local(published)) && !plays(local(again)));

    // What the daemon publishes on the loopback goes through a process that ends
    // with it; whoever is reached in another way does not notice.
    let others = [(docker.address("published", "engines"), 6878).into(), local(host)];
    docker.stop();
    assert!(others.into_iter().all(plays) && !plays(local(published)));
    assert!(docker.start());
    wait_plays(local(published));
    assert!(others.into_iter().all(plays));
}

#[test]
fn nothing_is_left_of_a_daemon_whatever_the_test_did() {
    for how in ["running", "killed", "frozen", "panic"] {
        let Some(mut docker) = daemon() else { return };
        docker.network("engines");
        docker.docker(&["run", "--detach", "--network", "engines", IMAGE]);
        let traces = Traces::of(&docker);
        // The first process, dockerd, containerd, a shim and the engine; a
        // group, a bridge and a link at least.
        assert!(traces.processes.len() >= 5 && traces.paths.len() >= 3, "{how}: {:?}", traces.left());
        match how {
            "killed" => docker.kill9(),
            "frozen" => docker.pause_daemon(),
            _ => {}
        }
        let start = Instant::now();
        if how == "panic" {
            let panic = catch_unwind(AssertUnwindSafe(move || {
                let _docker = docker;
                panic!("on purpose");
            }));
            assert!(panic.is_err());
        } else {
            drop(docker);
        }
        println!("end, {how}: {:?}", start.elapsed());
        // The kernel takes the link of a namespace down a moment after it.
        assert!(wait_until(SOON, || traces.left().is_empty()), "{how}: {:?}", traces.left());
    }
}

/// An order for an emulator's control API.
fn order(control: SocketAddr, path: &str, body: &Value) {
    let (url, body) = (format!("http://{control}{path}"), body.to_string());
    let outcome = curl(&["-sS", "--fail-with-body", "-d", &body, &url].map(String::from));
    assert!(outcome.status.success(), "{path} {body}: {outcome:?}");
}

#[test]
fn real_limits_meet_real_burdens() {
    let Some(docker) = daemon() else { return };
    docker.network("engines");
    let run = |name: &str, options: &[&str], emulator: &[&str]| {
        let head = ["run", "--detach", "--name", name, "--network", "engines"];
        docker.docker(&[&head, options, &[IMAGE, "--address", "0.0.0.0"], emulator].concat());
    };
    let ended = |name: &str| {
        let state = || docker.inspect(name)["State"].clone();
        assert!(wait_until(SOON, || state()["Status"] == "exited"), "{name}: {:#}", state());
        (state()["ExitCode"].as_i64().unwrap(), state()["OOMKilled"].as_bool().unwrap())
    };
    let logs = |name: &str| {
        let outcome = docker.try_docker(&["logs", "--tail", "20", name]);
        outcome.stdout + &outcome.stderr
    };
    let says =
        |name: &str, what: &str| assert!(wait_until(SOON, || logs(name).contains(what)), "{}", logs(name));
    run("leaks", &["--memory", "48m", "--memory-swap", "48m"], &["--leak", "100000000"]);
    run("loops", &["--env", "EMULATOR_END_AFTER=100ms"], &["--end-status", "3"]);
    run("never", &[], &["--scenario", "boot-never"]);
    run("full", &["--tmpfs", "/cache:size=4m"], &["--cache-dir", "/cache", "--fill", "100000000"]);
    run("many", &["--pids-limit", "40"], &["--threads", "100"]);
    run(
        "ordered",
        &["--memory", "48m", "--memory-swap", "48m", "--cpus", "0.5"],
        &["--control", "0.0.0.0:6999"],
    );
    assert_eq!(ended("leaks"), (137, true), "{}", logs("leaks"));
    assert_eq!(ended("loops"), (3, false));
    says("loops", "a fault of its own after 100ms, status 3");
    let never = (docker.address("never", "engines"), 6878).into();
    says("never", "scenario boot-never");
    assert!(!plays(never));
    says("full", "cannot write /cache/fill-1 beyond 4");
    says("full", "No space left on device");
    says("many", "of 100 threads is all there are");

    // The same by order, and it is taken back by one.
    let address = docker.address("ordered", "engines");
    let (engine, control) = ((address, 6878).into(), (address, 6999).into());
    wait_plays(engine);
    let usage = || docker.api("GET", "/containers/ordered/stats?stream=false&one-shot=true", None);
    let memory = || usage()["memory_stats"]["usage"].as_u64().unwrap();
    let cpu = || usage()["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap();
    let (before, idle) = (memory(), cpu());
    order(control, "/burden", &json!({ "leak": 10_000_000, "burn": 1 }));
    assert!(
        wait_until(SOON, || memory() > before + 8_000_000 && cpu() > idle + 200_000_000),
        "{:#}",
        usage()
    );
    order(control, "/burden", &json!({}));
    assert!(wait_until(SOON, || memory() < before + 4_000_000), "{} of {before}", memory());
    order(control, "/say", &json!({ "line": "a line of the test" }));
    says("ordered", "a line of the test");
    assert!(plays(engine));
    order(control, "/end", &json!({ "after_ms": 0, "status": 7 }));
    assert_eq!(ended("ordered"), (7, false));
}

#[test]
fn the_proxy_counts_each_request_and_fails_as_it_is_told() {
    let Some(mut docker) = daemon() else { return };
    let mut proxy = DockerProxy::new(&docker.socket());
    let socket = proxy.socket();
    let ask = |limit: &str, args: &[&str]| {
        let always = ["-sS", "-m", limit, "-w", "%{http_code}", "--unix-socket", socket.to_str().unwrap()];
        curl(&[&always, args].concat().into_iter().map(String::from).collect::<Vec<_>>())
    };
    let begun = Instant::now();

    // One connection, several requests.
    let urls =
        ["http://d/v1.41/info", "http://d/version", "http://d/_ping", "http://d/v1.41/containers/json?all=1"];
    let outcome = ask("5", &urls);
    assert_eq!(outcome.stdout.matches("200").count(), 4, "{outcome:?}");
    let routes = || proxy.calls().iter().map(|call| call.route.clone()).collect::<Vec<_>>();
    assert_eq!(routes(), ["GET /info", "GET /version", "GET /_ping", "GET /containers/json"]);
    assert_eq!(proxy.count_since("*", begun), 4);
    assert_eq!(proxy.count_since("*", Instant::now()), 0);

    // By the real client, hijacked and endless answers included.
    let uri = proxy.uri();
    let client = |args: &[&str]| tool::run("docker", &[&["--host", &uri], args].concat(), SOON);
    let port = free_port().to_string();
    let run =
        ["run", "--name", "one", "--network", "host", IMAGE, "--first-port", &port, "--end-after", "300ms"];
    let outcome = client(&run);
    assert!(outcome.stdout.contains("engine 0 http://"), "attached: {outcome:?}");
    for (route, count) in [
        ("POST /containers/create", 1),
        ("POST /containers/{id}/attach", 1),
        ("POST /containers/{id}/wait", 1),
        ("POST /containers/{id}/start", 1),
    ] {
        assert_eq!(proxy.count(route), count, "{route}: {:?}", routes());
    }
    for (args, route) in [
        (&["start", "one"][..], "POST /containers/{id}/start"),
        (&["pause", "one"], "POST /containers/{id}/pause"),
        (&["unpause", "one"], "POST /containers/{id}/unpause"),
        (&["restart", "--time", "1", "one"], "POST /containers/{id}/restart"),
        (&["stop", "one"], "POST /containers/{id}/stop"),
        (&["stats", "--no-stream", "one"], "GET /containers/{id}/stats"),
        (&["image", "inspect", "a/b:c"], "GET /images/{name}/json"),
        (&["rm", "one"], "DELETE /containers/{id}"),
    ] {
        let before = proxy.count(route);
        let outcome = client(args);
        assert!(outcome.status.success() || args[0] == "image", "{args:?}: {outcome:?}");
        assert_eq!(proxy.count(route), before + 1, "{route}: {:?}", routes());
    }

    let create = r#"{"Image": "engine-emulator"}"#;
    let post = ["-d", create, "-H", "Content-Type: application/json", "http://d/containers/create"];
    let created = || docker.containers().len();
    // Refused with the daemon's words, twice and no more.
    proxy.play("POST /containers/create", Act::disk_full(), Times::Next(2));
    for expected in ["500", "500", "201"] {
        let outcome = ask("5", &post);
        assert!(outcome.stdout.ends_with(expected), "{outcome:?}");
        assert_eq!(outcome.stdout.contains("no space left on device"), expected == "500", "{outcome:?}");
    }
    assert_eq!(created(), 1);
    // The one set last goes first, and lets the one before do when it is used up.
    proxy.play("*", Act::Answer(500, "any".to_owned()), Times::Next(1));
    proxy.play("GET /version", Act::Answer(418, "this".to_owned()), Times::Next(1));
    for expected in ["418", "500", "200"] {
        assert!(ask("5", &["http://d/version"]).stdout.ends_with(expected), "{expected}");
    }
    // Held before the daemon has it, and after.
    for (act, more) in [(Act::Hang, 0), (Act::Lose, 1)] {
        let before = created();
        proxy.play("POST /containers/create", act.clone(), Times::Always);
        assert_eq!(ask("0.5", &post).status.code(), Some(28), "{act:?}");
        assert_eq!(created(), before + more, "{act:?}");
        assert!(wait_until(SOON, || proxy.under_way("POST /containers/create") == 0));
        assert!(ask("5", &["http://d/_ping"]).stdout.ends_with("OK200"), "other routes go on");
        proxy.lift();
    }
    let start = Instant::now();
    proxy.play("GET /version", Act::Delay(MOMENT), Times::Always);
    assert!(ask("5", &["http://d/version"]).stdout.ends_with("200") && start.elapsed() >= MOMENT);
    let took = || proxy.calls().last().and_then(|call| call.took);
    assert!(wait_until(SOON, || took().is_some_and(|took| took >= MOMENT)), "{:?}", took());
    proxy.play("GET /info", Act::Truncate(100), Times::Always);
    let outcome = ask("5", &["-o", "-", "http://d/info"]);
    assert_eq!((outcome.status.code(), outcome.stdout.len()), (Some(18), 103), "{outcome:?}");
    proxy.lift();

    // Events: as they are, swallowed, twice, cut.
    for (act, times) in [(None, 1), (Some(Act::Swallow), 0), (Some(Act::Duplicate), 2)] {
        proxy.lift();
        act.clone().into_iter().for_each(|act| proxy.play("GET /events", act, Times::Always));
        let stream = tool::Tool::start(
            "curl",
            &["-sSN", "--unix-socket", socket.to_str().unwrap(), "http://d/events"],
        );
        assert!(wait_until(SOON, || proxy.under_way("GET /events") == 1));
        let name = format!("seen-{times}");
        docker.docker(&["create", "--name", &name, IMAGE]);
        std::thread::sleep(MOMENT);
        assert_eq!(proxy.cut("GET /events"), 1);
        let outcome = stream.ends_within(SOON);
        assert_eq!(
            outcome.stdout.lines().filter(|l| l.contains(&name)).count(),
            times,
            "{act:?}: {outcome:?}"
        );
        assert_eq!(outcome.status.code(), Some(18), "cut, not ended: {outcome:?}");
    }
    proxy.close();
    assert_eq!(ask("5", &["http://d/_ping"]).status.code(), Some(7), "refused");
    proxy.open();
    assert!(ask("5", &["http://d/_ping"]).stdout.ends_with("OK200"));
    docker.stop();
    assert_eq!(ask("5", &["http://d/_ping"]).status.code(), Some(52), "no daemon, no answer");
}

#[test]
fn images_are_pulled_by_tag_and_digest_with_the_password_and_as_slowly_as_told() {
    let (Some(docker), Some(registry)) = (daemon(), Registry::start()) else { return };
    registry.log_in(&docker);
    let digest = timed("push", || registry.push(&docker, IMAGE, "engine:1"));
    let tag = registry.reference("engine:1");
    docker.docker(&["rmi", IMAGE]);
    registry.log_out(&docker);
    let refused = docker.try_docker(&["pull", &tag]);
    assert!(refused.stderr.contains("no basic auth credentials"), "{refused:?}");
    registry.log_in(&docker);
    for reference in [&tag, &digest] {
        timed("pull", || docker.docker(&["pull", reference]));
        docker.docker(&["run", "--rm", "--network", "none", reference, "scenarios"]);
        docker.docker(&["rmi", "--force", reference]);
    }
    let missing = docker.try_docker(&["pull", &registry.reference("engine:2")]);
    assert!(missing.stderr.contains("manifest unknown"), "{missing:?}");

    registry.set_rate(1_000_000);
    let start = Instant::now();
    docker.docker(&["pull", &tag]);
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    docker.docker(&["rmi", &tag]);
    registry.set_rate(0);
    let (uri, config) = (docker.uri(), docker.socket().with_file_name("config"));
    let pull = ["1", "docker", "--host", &uri, "--config", config.to_str().unwrap(), "pull", &tag];
    assert_eq!(tool::run("timeout", &pull, SOON).status.code(), Some(124), "a pull that hangs");
    assert!(docker.api("GET", "/images/json", None).as_array().unwrap().is_empty());
}

#[test]
fn with_tls_only_its_clients_are_served() {
    let (certs, strangers) = (Certs::new(), Certs::new());
    let Some(mut docker) = Dockerd::tls(&certs) else { return };
    if !docker.start() {
        return;
    }
    let url = docker.tls_uri().unwrap().replace("tcp:", "https:") + "/_ping";
    let ask = |authority: PathBuf, client: Option<PathBuf>| {
        let file = |dir: &Path, name: &str| dir.join(name).to_str().unwrap().to_owned();
        let mut args = vec!["-sS".to_owned(), "--cacert".to_owned(), file(&authority, "ca.pem"), url.clone()];
        if let Some(dir) = client {
            args.extend([
                "--cert".to_owned(),
                file(&dir, "cert.pem"),
                "--key".to_owned(),
                file(&dir, "key.pem"),
            ]);
        }
        curl(&args)
    };
    assert_eq!(ask(certs.client(), Some(certs.client())).stdout, "OK");
    for (why, outcome) in [
        ("no certificate", ask(certs.client(), None)),
        ("a stranger's", ask(certs.client(), Some(strangers.client()))),
        ("another daemon", ask(strangers.client(), Some(certs.client()))),
    ] {
        assert!(!outcome.status.success() && outcome.stdout.is_empty(), "{why}: {outcome:?}");
    }
}
