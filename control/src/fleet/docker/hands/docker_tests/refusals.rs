//! What is refused, by us or by Docker, and that nothing is left of it.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::*;
use crate::fleet::docker::spec::Publish;

#[tokio::test]
async fn a_container_of_others_is_refused_and_not_touched() {
    let Some(daemon) = PrivateDocker::start() else { return };
    let hands = hands_on(&daemon).await;
    let run = |name: &str, labels: &[&str]| {
        let mut args = vec!["run", "--detach", "--net", "host", "--name", name];
        labels.iter().for_each(|label| args.extend(["--label", *label]));
        args.extend([IMAGE, "/tiny"]);
        daemon.docker(&args)
    };
    let state = |name: &str| daemon.docker(&["inspect", "--format", "{{json .State}}", name]);
    let engine = "io.millrace.engine=true";
    for (name, labels) in [
        ("nobodys", vec![]),
        ("somebodys", vec![engine]),
        ("neighbours", vec![engine, "io.millrace.fleet=other"]),
        ("no-engine", vec!["io.millrace.fleet=test"]),
    ] {
        let id = run(name, &labels);
        let before = state(name);
        let id = ContainerId::parse(&id).unwrap();
        let second = Duration::from_secs(1);
        for (verb, done) in [
            ("start", hands.start(&id).await),
            ("pause", hands.pause(&id).await),
            ("unpause", hands.unpause(&id).await),
            ("restart", hands.restart(&id, second).await),
            ("stop", hands.stop(&id, second).await),
            ("kill", hands.kill(&id).await),
            ("remove", hands.remove(&id).await),
        ] {
            let is_refused = matches!(&done, Err(DockerError::NotOurs { name: n, id: i }) if n == name && *i == id.to_string());
            assert!(is_refused, "{verb} {name}: {done:?}");
        }
        assert_eq!(state(name), before, "{name}");
        // It may be asked about.
        assert!(hands.inspect(&id).await.unwrap().running);
        let taken = hands.create(&spec(&[]), &ports(1), name).await.unwrap_err();
        assert!(
            matches!(&taken, DockerError::NameForeign { name: n, id: i } if n == name && *i == id.to_string()),
            "{taken:?}"
        );
    }
    // Ours, but by another one's knowledge, and by its name.
    let mine = hands.create(&spec(&[]), &ports(1), "mine").await.unwrap();
    let stranger = Hands::new(&daemon.connect("docker.sock").await, fleet());
    for by in ["mine", &mine.as_str()[..12]] {
        let refused = stranger.kill(&ContainerId::parse(by).unwrap()).await.unwrap_err();
        assert!(matches!(refused, DockerError::NotOurs { .. }), "{by}: {refused:?}");
    }
    let other = Hands::new(&daemon.connect("docker.sock").await, FleetName::parse("other").unwrap());
    assert!(matches!(other.remove(&mine).await, Err(DockerError::NotOurs { .. })));
    stranger.remove(&mine).await.unwrap();

    let mine = hands.create(&spec(&[]), &ports(1), "mine").await.unwrap();
    let taken = hands.create(&spec(&[]), &ports(2), "mine").await.unwrap_err();
    assert!(
        matches!(&taken, DockerError::NameTaken { name, id } if name == "mine" && *id == mine.to_string()),
        "{taken:?}"
    );
    hands.start(&mine).await.unwrap();
    let taken = hands.create(&spec(&[]), &ports(2), "mine").await.unwrap_err();
    assert!(
        matches!(&taken, DockerError::NameInUse { name, id } if name == "mine" && *id == mine.to_string()),
        "{taken:?}"
    );
}

#[tokio::test]
async fn what_docker_refuses_has_a_name_and_leaves_nothing() {
    let Some(daemon) = PrivateDocker::start() else { return };
    let hands = hands_on(&daemon).await;
    let listener = daemon.listen();
    let port = listener.local_addr().unwrap().port();
    let on = |network| EngineSpec { network, ..spec(&[]) };
    let named = |name: &str| on(Network::Named { name: name.into(), by: Publish::Address });
    daemon.docker(&["create", "--net", "host", "--name", "asleep", IMAGE, "/tiny"]);
    let before = daemon.docker(&["ps", "--all", "--quiet"]);

    let mut greedy = spec(&[]);
    greedy.limits.nano_cpus = Some(10_000_000_000_000);
    for (name, spec, ports, expected) in [
        ("no image", EngineSpec { image: "nothing:1".into(), ..spec(&[]) }, ports(1), "ImageMissing"),
        ("no network", named("nowhere"), ports(1), "NetworkMissing"),
        ("no lender", on(Network::Container("nobody".into())), ports(1), "LenderMissing"),
        ("a lender that sleeps", on(Network::Container("asleep".into())), ports(1), "LenderMissing"),
        ("a port in use", on(Network::Bridge), ports(port), "PortTaken"),
        ("too many CPUs", greedy, ports(1), "BadSpec"),
        ("no spec", EngineSpec { command: vec!["{".into()], ..spec(&[]) }, ports(1), "BadSpec"),
    ] {
        let made = hands.create(&spec, &ports, "engine-1").await;
        let error = match made {
            Ok(id) => hands.start(&id).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(format!("{error:?}").starts_with(expected), "{name}: {error:?}");
        if let DockerError::PortTaken(taken) = error {
            assert_eq!(taken, port);
        }
        assert_eq!(daemon.docker(&["ps", "--all", "--quiet"]), before, "{name}");
    }
    drop(listener);
    // One of ours has it; the one that ran once is kept when it cannot start.
    let first = hands.create(&on(Network::Bridge), &ports(port), "engine-1").await.unwrap();
    hands.start(&first).await.unwrap();
    hands.stop(&first, Duration::from_secs(1)).await.unwrap();
    let second = hands.create(&on(Network::Bridge), &ports(port), "engine-2").await.unwrap();
    hands.start(&second).await.unwrap();
    let taken = hands.start(&first).await.unwrap_err();
    assert!(matches!(taken, DockerError::PortTaken(p) if p == port), "{taken:?}");
    assert!(!hands.inspect(&first).await.unwrap().running);
    // On a network of its own it has an address, and publishes nothing.
    daemon.docker(&["network", "create", "engines"]);
    let third = hands.create(&named("engines"), &ports(port), "engine-3").await.unwrap();
    hands.start(&third).await.unwrap();
    let format = "{{.NetworkSettings.Networks.engines.IPAddress}} {{.NetworkSettings.Ports}}";
    let found = daemon.docker(&["inspect", "--format", format, "engine-3"]);
    assert!(found.starts_with("172.") && found.ends_with("map[]"), "{found}");
    // And one that shares it has none of its own.
    let lent = on(Network::Container("engine-3".into()));
    let fourth = hands.create(&lent, &ports(1), "engine-4").await.unwrap();
    hands.start(&fourth).await.unwrap();
}

/// Listens before the daemon. An answer to a create is lost with its
/// connection while `loses` is set.
fn lossy(daemon: &PrivateDocker, loses: &Arc<AtomicBool>) {
    let listener = UnixListener::bind(daemon.work().join("lossy.sock")).unwrap();
    let (to, loses) = (daemon.work().join("docker.sock"), Arc::clone(loses));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let daemon = UnixStream::connect(&to).unwrap();
            let is_create = Arc::new(AtomicBool::new(false));
            let pipe = |mut from: UnixStream,
                        mut to: UnixStream,
                        look: Option<Arc<AtomicBool>>,
                        lose: Option<Arc<AtomicBool>>| {
                thread::spawn(move || {
                    let mut buffer = [0; 64 << 10];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        if let Some(look) = &look {
                            look.store(
                                String::from_utf8_lossy(&buffer[..count]).contains("/containers/create"),
                                Ordering::SeqCst,
                            );
                        }
                        if lose.as_ref().is_some_and(|lose| lose.load(Ordering::SeqCst))
                            || to.write_all(&buffer[..count]).is_err()
                        {
                            break;
                        }
                    }
                    to.shutdown(std::net::Shutdown::Both).ok();
                });
            };
            let watched = loses.load(Ordering::SeqCst).then(|| Arc::clone(&is_create));
            pipe(client.try_clone().unwrap(), daemon.try_clone().unwrap(), Some(is_create), None);
            pipe(daemon, client, None, watched);
        }
    });
}

#[tokio::test]
async fn what_is_made_though_nobody_heard_of_it_is_removed() {
    let Some(daemon) = PrivateDocker::start() else { return };
    let loses = Arc::new(AtomicBool::new(false));
    lossy(&daemon, &loses);
    let count = || daemon.docker(&["ps", "--all", "--quiet"]).lines().count();
    let kept = hands_on(&daemon).await.create(&spec(&[]), &ports(1), "kept").await.unwrap();

    loses.store(true, Ordering::SeqCst);
    let hands = Hands::new(&daemon.connect("lossy.sock").await, fleet());
    let lost = hands.create(&spec(&[]), &ports(2), "lost").await.unwrap_err();
    assert!(is_unknown(&lost), "{lost:?}");
    assert_eq!(count(), 2, "Docker made it");
    assert!(becomes(Duration::from_secs(10), async || count() == 1).await, "it is still there");
    let Trial { made, left } = hands.try_out(&spec(&[]), &ports(2)).await;
    assert!(made.as_ref().is_err_and(is_unknown) && left.is_none(), "{made:?}, {left:?}");
    assert_eq!(count(), 1, "a trial ends when nothing is left of it");

    // Nor does one stay whose maker was told to stop waiting.
    let hands = hands_on(&daemon).await;
    let dropped = timeout(Duration::from_millis(2), hands.create(&spec(&[]), &ports(2), "dropped")).await;
    assert!(dropped.is_err());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(daemon.docker(&["ps", "--all", "--quiet", "--no-trunc"]), kept.to_string());
}
