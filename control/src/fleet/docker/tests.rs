//! In front of a daemon that answers what it is told to.

use std::{
    io::Write,
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    ContainerState, DockerError, DockerUri, Fate, Informer,
    container::Unusable,
    fake::{Fake, SocketPath, head_of},
    look_at_docker,
};

/// Longer than the pause between two looks that nothing asks for.
const SOON: Duration = Duration::from_secs(15);

/// Waits until the fleet is `names`; says how long that took.
async fn becomes(informer: &mut Informer, names: &[&str]) -> Duration {
    let begun = Instant::now();
    let is_so = async {
        while informer.members().iter().map(|m| &*m.name).ne(names.iter().copied()) {
            informer.changed().await;
        }
    };
    let is_met = tokio::time::timeout(SOON, is_so).await.is_ok();
    assert!(is_met, "{:?} and not {names:?}", informer.members());
    begun.elapsed()
}

#[tokio::test]
async fn a_change_is_seen_at_an_event_and_without_one_and_docker_is_only_asked() {
    let fake = Fake::start();
    fake.has(&["a"]);
    let mut informer = Informer::start(fake.path.uri());
    assert!(!informer.is_known());
    becomes(&mut informer, &["a"]).await;
    assert!(informer.is_known());
    // Before the event stream can be relied upon: nobody tells of it.
    fake.has(&["a", "b"]);
    becomes(&mut informer, &["a", "b"]).await;
    // From here on nothing would be looked at for ten seconds.
    fake.has(&["b"]);
    fake.tells();
    let took = becomes(&mut informer, &["b"]).await;
    assert!(took < Duration::from_secs(1), "{took:?} after the event");
    fake.has(&["b", "c"]);
    becomes(&mut informer, &["b", "c"]).await;
    fake.has(&[]);
    fake.hangs_up();
    becomes(&mut informer, &[]).await;

    let requests = fake.requests();
    let lists = requests.iter().filter(|r| r.contains("/containers/json"));
    assert!(lists.clone().count() >= 5, "{requests:#?}");
    for list in lists {
        assert!(list.contains("io.millrace.engine%3Dtrue") && list.contains("all=true"), "{list}");
    }
    // Whether or not the path begins with the version of the API.
    let asks = ["/version HTTP/1.1", "/events?", "/containers/json?"];
    let is_question = |r: &&String| r.starts_with("GET /") && asks.iter().any(|ask| r.contains(ask));
    assert!(requests.iter().all(|r| is_question(&r)), "{requests:#?}");
}

#[tokio::test]
async fn whoever_knows_of_a_change_has_it_looked_at_without_an_event_or_a_pause() {
    let fake = Fake::start();
    fake.has(&["a"]);
    let mut informer = Informer::start(fake.path.uri());
    becomes(&mut informer, &["a"]).await;
    let looks = || fake.requests().iter().filter(|r| r.contains("/containers/json")).count();
    let before = looks();
    fake.has(&["a", "b"]);
    (0..100).for_each(|_| informer.look_now());
    let took = becomes(&mut informer, &["a", "b"]).await;
    // The next look but for this one is due half a second after the first.
    assert!(took < Duration::from_millis(400), "{took:?}");
    assert!(looks() - before <= 2, "a hundred calls are no hundred looks");
}

#[tokio::test]
async fn events_without_end_cost_two_looks_a_second() {
    let fake = Fake::start();
    fake.has(&["a"]);
    let mut informer = Informer::start(fake.path.uri());
    becomes(&mut informer, &["a"]).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        fake.tells();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let requests = fake.requests();
    let lists = requests.iter().filter(|r| r.contains("/containers/json")).count();
    assert!((3..=8).contains(&lists), "{lists} looks in 3 s");
}

#[test]
fn every_answer_that_is_not_dockers_is_an_error_in_time() {
    let long = format!("HTTP/1.1 500 No\r\n\r\n{}", "x".repeat(100_000));
    for (name, answer) in [
        ("nothing", ""),
        ("half a head", "HTTP/1.1 200"),
        ("another server", "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello"),
        ("a long error", &long),
        ("no JSON", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        ("other JSON", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
        ("no version", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        ("a nonsensical version", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"ApiVersion\":\"ooo\"}"),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n"),
    ] {
        let path = SocketPath::new();
        let listener = UnixListener::bind(&path.0).unwrap();
        let answer = answer.to_owned();
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                head_of(&mut socket);
                socket.write_all(answer.as_bytes()).ok();
            }
        });
        let error = look_at_docker(&path.uri(), SOON).unwrap_err();
        assert!(matches!(error, DockerError::Failed(_)), "{name}: {error:?}");
        assert!(error.to_string().chars().count() <= 300, "{name}: {error}");
    }
}

#[test]
fn a_daemon_is_asked_by_tcp_as_well_by_name_or_address() {
    let fake = Fake::start();
    fake.has(&["a", "b"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = fake.path.0.clone();
    thread::spawn(move || {
        for mut asking in listener.incoming().flatten() {
            let mut daemon = UnixStream::connect(&path).unwrap();
            let (mut questions, mut to_daemon) = (asking.try_clone().unwrap(), daemon.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut questions, &mut to_daemon));
            thread::spawn(move || std::io::copy(&mut daemon, &mut asking));
        }
    });
    for host in ["127.0.0.1", "localhost"] {
        let look = look_at_docker(&DockerUri::Tcp { host: host.into(), port }, SOON).unwrap();
        assert_eq!((look.version.as_str(), look.engines), ("20.10.24", 2), "{host}");
    }
}

#[test]
fn a_daemon_that_cannot_be_reached_has_a_name_for_it() {
    let deaf = SocketPath::new();
    let _listener = UnixListener::bind(&deaf.0).unwrap();
    let gone = SocketPath::new();
    drop(UnixListener::bind(&gone.0).unwrap());
    let tcp = DockerUri::Tcp { host: "127.0.0.1".into(), port: 1 };
    let limit = Duration::from_millis(300);
    for (name, uri, expected) in [
        ("no socket", SocketPath::new().uri(), DockerError::NoSocket),
        ("nobody at the socket", gone.uri(), DockerError::Refused),
        ("nobody at the port", tcp, DockerError::Refused),
        ("deaf", deaf.uri(), DockerError::Silent(limit)),
    ] {
        let asked = Instant::now();
        let error = look_at_docker(&uri, limit).unwrap_err();
        assert_eq!(error.to_string(), expected.to_string(), "{name}");
        assert_eq!(error.remedy(), expected.remedy(), "{name}");
        assert!(asked.elapsed() < limit + Duration::from_secs(1), "{name}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn whatever_a_container_does_it_is_seen_and_only_those_that_run_are_engines() {
    let fake = Fake::start();
    fake.has_in_states(&[("a", "running"), ("b", "paused"), ("c", "exited"), ("d", "created")]);
    let mut informer = Informer::start(fake.path.uri());
    becomes(&mut informer, &["a"]).await;
    let seen = |informer: &Informer| -> Vec<_> {
        let one =
            |one: &super::Seen| (one.name.to_string(), one.state, one.address.clone().map(|a| a.port()));
        informer.seen().iter().map(one).collect()
    };
    let expected = [
        ("a", ContainerState::Running, Ok(1_097)),
        ("b", ContainerState::Paused, Ok(1_098)),
        ("c", ContainerState::Exited, Err(Unusable::NotRunning)),
        ("d", ContainerState::Created, Err(Unusable::NotRunning)),
    ];
    assert_eq!(seen(&informer), expected.map(|(name, state, address)| (name.to_owned(), state, address)));
    // What changes nothing for the engines is told as well.
    fake.has_in_states(&[("a", "running"), ("b", "running")]);
    fake.tells();
    becomes(&mut informer, &["a", "b"]).await;
    fake.has_in_states(&[("a", "running"), ("b", "running"), ("c", "created")]);
    fake.tells();
    tokio::time::timeout(SOON, informer.changed()).await.unwrap();
    assert_eq!(seen(&informer).len(), 3);
    assert_eq!(informer.members().len(), 2);
}

/// An event of a container with our label.
fn happens(action: &str, name: &str, nanos: i64) -> Value {
    json!({
        "Type": "container", "Action": action, "timeNano": nanos,
        "Actor": { "ID": format!("id-{name}"), "Attributes": { "io.millrace.engine": "true", "exitCode": "137" } },
    })
}

#[tokio::test]
async fn no_event_but_the_list_changes_who_is_there_and_a_death_is_told_once() {
    let fake = Fake::start();
    fake.has(&["a", "b"]);
    let mut informer = Informer::start(fake.path.uri());
    becomes(&mut informer, &["a", "b"]).await;
    let wait = Duration::from_millis(1_500);
    // Past the look that settles.
    tokio::time::sleep(wait).await;
    fake.requests();
    let known = informer.seen();
    // None of these is ours, or none of them is an event of a container.
    for (kind, id) in [("container", "other"), ("network", "net"), ("image", "id-a")] {
        fake.tells_of(&json!({ "Type": kind, "Action": "die", "Actor": { "ID": id, "Attributes": { "container": "other" } } }));
    }
    tokio::time::sleep(wait).await;
    assert_eq!(fake.requests(), [""; 0], "nobody looks for them");
    // Late: they are there. Repeated, and of someone unknown.
    for (action, name, nanos) in [
        ("oom", "a", 1),
        ("die", "a", 2),
        ("die", "a", 2),
        ("oom", "a", 1),
        ("destroy", "a", 3),
        ("die", "z", 4),
        ("start", "z", 5),
    ] {
        fake.tells_of(&happens(action, name, nanos));
    }
    fake.tells_of(&json!({ "Type": "network", "Action": "disconnect", "Actor": { "ID": "net", "Attributes": { "container": "id-a" } } }));
    tokio::time::sleep(wait).await;
    let lists = fake.requests();
    assert!(lists.iter().all(|r| r.contains("/containers/json?")), "{lists:#?}");
    assert!((2..=4).contains(&lists.len()), "{lists:#?}");
    assert_eq!(*informer.seen(), *known);
    let hints: Vec<_> = informer.hints().into_iter().map(|hint| (hint.id.to_string(), hint.what)).collect();
    let died = Fate::Died { exit_code: Some(137) };
    assert_eq!(hints, [("id-a".into(), Fate::Oom), ("id-a".into(), died), ("id-z".into(), died)]);
    assert_eq!(informer.hints(), []);
    assert_eq!(
        *informer.members(),
        *known
            .iter()
            .map(|one| super::super::Member {
                identity: one.id.clone(),
                name: one.name.clone(),
                address: *one.address.as_ref().unwrap(),
                source: None,
            })
            .collect::<Vec<_>>()
    );

    // A hint alone is a change: who waits for one looks.
    while tokio::time::timeout(Duration::from_millis(50), informer.changed()).await.is_ok() {}
    fake.tells_of(&happens("oom", "a", 9));
    tokio::time::timeout(Duration::from_millis(80), informer.changed()).await.unwrap();
    assert_eq!(informer.hints().len(), 1);
}

#[tokio::test]
async fn garbage_for_events_costs_a_connection_and_nothing_else() {
    let fake = Fake::start();
    fake.has(&["a"]);
    let mut informer = Informer::start(fake.path.uri());
    becomes(&mut informer, &["a"]).await;
    for (count, garbage) in
        (1..).zip(["hello\n", "{\"Type\":\"nonsense\"}\n", "{\"Type\":7}\n", "[]\n", "{\"Actor\":\"a\"}\n"])
    {
        while fake.listeners() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let known = informer.seen();
        // The first word about it is that it is lost.
        while tokio::time::timeout(Duration::from_millis(20), informer.changed()).await.is_ok() {}
        fake.sends(garbage);
        let outcome = tokio::time::timeout(SOON, async {
            while informer.docker_answers() {
                informer.changed().await;
            }
            let since = informer.unanswered_since();
            assert_eq!(*informer.seen(), *known, "{garbage}: nobody leaves with Docker");
            while !informer.docker_answers() {
                informer.changed().await;
            }
            since
        });
        assert!(outcome.await.unwrap().is_some(), "{garbage}");
        assert_eq!(*informer.seen(), *known, "{garbage}");
        assert_eq!(informer.hints(), [], "{garbage}");
    }
}

#[tokio::test]
async fn a_client_is_there_while_docker_answers_and_is_a_new_one_after_a_loss() {
    let socket = SocketPath::new();
    let mut informer = Informer::start(socket.uri());
    let mut client = informer.client();
    let since = informer.unanswered_since().unwrap();
    tokio::time::timeout(SOON, informer.changed()).await.unwrap();
    assert!(client.daemon().is_none() && !informer.docker_answers());
    assert_eq!(informer.unanswered_since(), Some(since), "since the start");

    let fake = Fake::start();
    std::os::unix::fs::symlink(&fake.path.0, &socket.0).unwrap();
    tokio::time::timeout(SOON, client.changed()).await.unwrap();
    let daemon = client.daemon().unwrap();
    assert!(informer.docker_answers());
    assert_eq!(daemon.docker().version().await.unwrap().version.as_deref(), Some("20.10.24"));

    std::fs::remove_file(&socket.0).unwrap();
    fake.hangs_up();
    tokio::time::timeout(SOON, client.changed()).await.unwrap();
    assert!(client.daemon().is_none());
    assert!(informer.unanswered_since().unwrap() > since);
    std::os::unix::fs::symlink(&fake.path.0, &socket.0).unwrap();
    tokio::time::timeout(SOON, client.changed()).await.unwrap();
    assert!(client.daemon().is_some() && informer.docker_answers());
}

#[tokio::test]
async fn an_engine_follows_the_container_that_lends_it_its_network() {
    let fake = Fake::start();
    let lender = "ab".repeat(32);
    let engine = json!({
        "Id": "e", "Names": ["/engine"], "State": "running", "Labels": { "io.millrace.engine": "true" },
        "HostConfig": { "NetworkMode": format!("container:{lender}") },
    });
    fake.said.lock().unwrap().containers = vec![engine];
    let lends = |state: &str, address: &str| {
        fake.said.lock().unwrap().others = vec![json!({
            "Id": lender, "Names": ["/gluetun"], "State": state,
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": address } } },
        })];
    };
    let restarts = || {
        let actor = json!({ "ID": lender, "Attributes": { "name": "gluetun" } });
        fake.tells_of(&json!({ "Type": "container", "Action": "start", "Actor": actor }));
    };
    let mut informer = Informer::start(fake.path.uri());
    for (name, state, address, expected) in [
        ("lent", "running", "172.17.0.2", Ok("172.17.0.2:6878")),
        ("with another address", "running", "172.17.0.3", Ok("172.17.0.3:6878")),
        ("stopped", "exited", "", Err(Unusable::LenderStopped(lender[..12].into()))),
        ("started again", "running", "172.17.0.4", Ok("172.17.0.4:6878")),
    ] {
        lends(state, address);
        restarts();
        let expected = expected.map(|address| address.parse().unwrap());
        let is_so = async {
            while informer.seen().first().is_none_or(|one| one.address != expected) {
                informer.changed().await;
            }
        };
        // Sooner than the look that comes by itself.
        let is_met = tokio::time::timeout(Duration::from_secs(3), is_so).await.is_ok();
        assert!(is_met, "{name}: {:?}", informer.seen());
    }
    assert_eq!((informer.lender("e").as_deref(), informer.lender("f")), (Some(lender.as_str()), None));
    let requests = fake.requests();
    assert!(requests.iter().any(|r| r.contains("containers/json?") && r.contains(&lender)), "{requests:#?}");
}

#[test]
fn a_look_counts_what_is_there_and_tells_of_the_host() {
    let fake = Fake::start();
    fake.has_in_states(&[
        ("a", "running"),
        ("b", "paused"),
        ("c", "exited"),
        ("d", "created"),
        ("e", "running"),
    ]);
    fake.said.lock().unwrap().containers[4]["Labels"]["io.millrace.port"] = json!("none");
    let look = look_at_docker(&fake.path.uri(), SOON).unwrap();
    assert_eq!((look.engines, look.paused, look.stopped, look.unusable.len()), (1, 1, 2, 1));
    assert_eq!(look.unusable[0].name, "e");
    assert_eq!((look.architecture.as_deref(), look.cgroup_version.as_deref()), (Some("x86_64"), Some("2")));
    assert_eq!((look.live_restore, look.tells_events), (Some(true), true));
}

#[tokio::test]
async fn no_number_of_dead_containers_hides_one_that_lives() {
    let fake = Fake::start();
    let container = |number: usize| {
        let state = if number % 1_000 == 999 { "running" } else { "exited" };
        json!({
            "Id": format!("id-{number}"), "Names": [format!("/e{number}")], "Created": 10_000 - number, "State": state,
            "Labels": { "io.millrace.engine": "true", "io.millrace.port": (number + 1).to_string() },
            "HostConfig": { "NetworkMode": "host" },
        })
    };
    // The newest first, as Docker lists them.
    fake.said.lock().unwrap().containers = (0..4_000).map(container).collect();
    let mut informer = Informer::start(fake.path.uri());
    becomes(&mut informer, &["e3999", "e2999", "e1999", "e999"]).await;
    assert_eq!(informer.seen().len(), 2_000);
}
