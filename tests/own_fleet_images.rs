//! Images come from a registry that wants to know who asks.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, time::Duration};

use millrace_emulator::Scenario;
use support::{
    crowd::{Crowd, assert_unbroken},
    docker::{DockerProxy, Dockerd, IMAGE, Registry},
    own_fleet::{self, OwnFleet, wait_ready},
    server::Server,
    stage::{path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(40);
const RUN: Duration = Duration::from_secs(2);
const PULL: &str = "POST /images/create";

fn config(image: &str, auth: &str) -> String {
    format!(
        "image = \"{image}\"\npull = \"missing\"\nauth_file = \"{auth}\"\nnetwork = \"host\"\nports = \"{}\"\n\
         [fleet]\nmin = 1\nmax = 2\nspare_slots = 0\n",
        own_fleet::ports()
    )
}

#[track_caller]
fn plays(server: &Server, serial: u64) {
    let (crowd, id) = (Crowd::new(), signed(RATE, Scenario::healthy(), serial));
    let viewer = crowd.ask(server.address(), &path(&id), id.verifier().unwrap());
    let has_run = || crowd.seen(viewer).run(RATE) >= RUN;
    assert!(wait_until(SOON, has_run), "{:#?}\n{}", crowd.seen(viewer), server.log());
    assert_unbroken("the viewer", &crowd.seen(viewer), RATE, RUN);
}

/// The image that each container of the fleet was made of.
fn images(fleet: &OwnFleet) -> Vec<String> {
    let of = |(name, _): &(String, String)| {
        fleet.docker.inspect(name)["Config"]["Image"].as_str().unwrap().to_owned()
    };
    fleet.containers().iter().map(of).collect()
}

fn remove_all(docker: &Dockerd, fleet: &OwnFleet, image: &str) {
    for (name, _) in fleet.containers() {
        docker.docker(&["rm", "--force", "--volumes", &name]);
    }
    docker.docker(&["rmi", image]);
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest_with_the_password_and_not_without() {
    let Some(mut fleet) = OwnFleet::new("") else { return };
    let Some(registry) = Registry::start() else { return };
    registry.log_in(&fleet.docker);
    let digest = registry.push(&fleet.docker, IMAGE, "engine:1");
    let tag = registry.reference("engine:1");
    // Else its layers would be there already.
    fleet.docker.docker(&["rmi", IMAGE]);
    let proxy = DockerProxy::new(&fleet.docker.socket());
    let right = fleet.docker.socket().with_file_name("config").join("config.json");
    let wrong = fleet.data.path().join("wrong.json");
    let (host, _) = tag.split_once('/').unwrap();
    // "viewer:wrong".
    fs::write(&wrong, format!(r#"{{"auths":{{"{host}":{{"auth":"dmlld2VyOndyb25n"}}}}}}"#)).unwrap();

    fleet.config = config(&tag, &wrong.display().to_string());
    let mut server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]).allow("image_missing");
    for word in [&format!("the registry does not give {tag}")[..], "docker login", "image_missing"] {
        assert!(server.logs_within(SOON, word), "{word}: {}", server.log());
    }
    assert_eq!((proxy.count(PULL), fleet.containers().len()), (1, 0), "{}", server.log());
    assert!(!server.log().contains("wrong"), "the password is in the log: {}", server.log());
    server.terminate();

    let right = right.display().to_string();
    for (serial, (name, image, rate)) in
        [("by tag", &tag, 400_000), ("by digest", &digest, u64::MAX)].into_iter().enumerate()
    {
        fleet.config = config(image, &right);
        registry.set_rate(rate);
        let mut server = fleet.serve(Some(&proxy.uri()), &["--keep-engines"]);
        if rate < u64::MAX {
            assert!(server.logs_within(SOON, "image is pulled"), "{name}: {}", server.log());
            let line = server.log();
            let line = line.lines().find(|line| line.contains("image is pulled")).unwrap().to_owned();
            println!("{line}");
            assert!(line.contains("bytes_total=") && line.contains("layers_total=1"), "{line}");
            registry.set_rate(u64::MAX);
        }
        assert!(
            wait_until(SOON, || own_fleet::engines(&server, "ready").len() == 1),
            "{name}: {}",
            server.log()
        );
        wait_ready(&server, 1);
        assert_eq!(images(&fleet), [image.as_str()], "{name}");
        plays(&server, serial as u64 + 1);
        server.terminate();
        remove_all(&fleet.docker, &fleet, image);
    }
    assert_eq!(proxy.count(PULL), 3, "one for each");
}
