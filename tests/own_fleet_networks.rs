//! Engines in each kind of network, and a daemon at the end of TLS.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{process::Command, time::Duration};

use millrace_emulator::Scenario;
use support::{
    crowd::{Crowd, assert_unbroken},
    docker::{Certs, Dockerd, IMAGE},
    own_fleet::{self, OwnFleet, engines, wait_ready},
    server::Server,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(40);
const RUN: Duration = Duration::from_secs(2);

fn config(docker: &str) -> String {
    format!("ports = \"{}\"\n{docker}\n[fleet]\nmin = 2\nmax = 2\nspare_slots = 0\n", own_fleet::ports())
}

fn serve(fleet: &OwnFleet) -> Server {
    // Docker itself warns of hosts that forward nothing.
    fleet.serve(None, &["--keep-engines"]).allow("IPv4 forwarding is disabled")
}

/// Both engines are ready, and a stream plays.
#[track_caller]
fn plays(name: &str, server: &Server, serial: u64) {
    let took = wait_ready(server, 2);
    let (crowd, id) = (Crowd::new(), signed(RATE, Scenario::healthy(), serial));
    let viewer = crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
    let has_run = || crowd.seen(viewer).run(RATE) >= RUN;
    assert!(wait_until(SOON, has_run), "{name}: {:#?}\n{}", crowd.seen(viewer), server.log());
    assert_unbroken(name, &crowd.seen(viewer), RATE, RUN);
    println!("{name}: ready {took:?} after the start");
}

/// Ends the server and removes its engines.
fn over(fleet: &OwnFleet, mut server: Server) {
    server.terminate();
    for (name, _) in fleet.containers() {
        fleet.docker.docker(&["rm", "--force", "--volumes", &name]);
    }
}

/// A bridge of the host's, for a daemon's default network.
struct Bridge(String);

impl Bridge {
    fn new() -> Self {
        let pid = std::process::id();
        // Named so that the rig sweeps it away after a test that was killed.
        let bridge = Self(format!("mr{pid}b999"));
        let address = format!("10.231.{}.1/24", pid % 250);
        for args in [
            &["link", "add", &bridge.0, "type", "bridge"][..],
            &["addr", "add", &address, "dev", &bridge.0],
            &["link", "set", &bridge.0, "up"],
        ] {
            assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
        }
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "del", &self.0]).status().ok();
    }
}

#[test]
fn engines_play_on_a_bridge_with_published_ports() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bridge = Bridge::new();
    let Some(docker) = Dockerd::with_options(&[&format!("--bridge={}", bridge.0)]) else { return };
    let Some(fleet) = OwnFleet::on(docker, &config("network = \"bridge\"")) else { return };
    let server = serve(&fleet);
    plays("bridge", &server, 1);
    for (name, _) in fleet.containers() {
        let ports = fleet.docker.inspect(&name)["NetworkSettings"]["Ports"].to_string();
        assert!(ports.contains("127.0.0.1") && ports.contains("HostPort"), "{name}: {ports}");
    }
    over(&fleet, server);
}

#[test]
fn engines_play_in_the_hosts_network_in_one_of_their_own_and_in_anothers() {
    let Some(mut fleet) = OwnFleet::new(&config("network = \"host\"")) else { return };
    let server = serve(&fleet);
    plays("host", &server, 1);
    over(&fleet, server);

    fleet.docker.network("engines");
    fleet.config = config("network = \"engines\"");
    let server = serve(&fleet);
    plays("a network of their own", &server, 2);
    let (name, _) = fleet.containers().remove(0);
    let address = fleet.docker.address(&name, "engines");
    assert!(server.get("/api/v1/engines").text().contains(&address.to_string()), "by its own address");
    over(&fleet, server);

    fleet.docker.docker(&[
        "run",
        "--detach",
        "--name",
        "vpn",
        "--network",
        "engines",
        IMAGE,
        "--address",
        "0.0.0.0",
    ]);
    fleet.config = config("network = \"container:vpn\"");
    let texts = ["engine_", "engine turned", "engines_fail_together", "cannot be used"];
    let server = texts.iter().fold(serve(&fleet), |server, text| server.allow(text));
    plays("another's network", &server, 3);
    let known: Vec<_> = fleet.containers();
    // Its engines lose their network, and what they are made anew in has it.
    fleet.docker.docker(&["restart", "--time", "1", "vpn"]);
    let begun = std::time::Instant::now();
    // Their own restart puts them where the lender is now.
    let are_back =
        || server.log().matches("engine_mended").count() >= 2 && engines(&server, "ready").len() == 2;
    assert!(wait_until(Duration::from_secs(90), are_back), "{}", server.log());
    println!("another's network: back {:?} after a restart of the lender", begun.elapsed());
    plays("another's network, restarted", &server, 5);
    assert_eq!(fleet.containers().len(), known.len());
    over(&fleet, server);
}

#[test]
fn a_daemon_at_the_end_of_tls_is_given_its_certificates_in_each_of_two_ways() {
    let certs = Certs::new();
    let Some(docker) = Dockerd::tls(&certs) else { return };
    let directory = certs.client().display().to_string();
    let uri = docker.tls_uri().unwrap();
    let own = format!("network = \"host\"\ntls = \"{directory}\"");
    let Some(mut fleet) = OwnFleet::on(docker, &config(&own)) else { return };
    let server = fleet.serve(Some(&uri), &["--keep-engines"]);
    plays("docker.tls", &server, 1);
    over(&fleet, server);

    fleet.config = config("network = \"host\"");
    let args = fleet.args(Some(""), &["--keep-engines"]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let variables =
        [("DOCKER_HOST", uri.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", directory.as_str())];
    let server = Server::start_with(&variables, &args);
    let secure = uri.replace("tcp://", "https://");
    let line = format!("no engine is named, so they are run in Docker at {secure}");
    assert!(server.logs_within(SOON, &line), "{}", server.log());
    plays("Docker's variables", &server, 2);
    over(&fleet, server);
}
