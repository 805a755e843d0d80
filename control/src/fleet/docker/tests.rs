//! In front of a daemon that answers what it is told to.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{DockerError, DockerUri, Informer, look_at_docker};

const SOON: Duration = Duration::from_secs(5);

/// Never existed, or does no more once the test is over.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("millrace-docker-{}-{count}.sock", std::process::id())))
    }

    fn uri(&self) -> DockerUri {
        DockerUri::Unix { path: self.0.display().to_string() }
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

#[derive(Default)]
struct Said {
    requests: Vec<String>,
    containers: Vec<Value>,
    /// Connections that wait for events.
    events: Vec<UnixStream>,
}

/// A daemon of API version 1.41.
struct Fake {
    path: SocketPath,
    said: Arc<Mutex<Said>>,
}

impl Fake {
    fn start() -> Self {
        let (path, said) = (SocketPath::new(), Arc::<Mutex<Said>>::default());
        let listener = UnixListener::bind(&path.0).unwrap();
        let shared = Arc::clone(&said);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let said = Arc::clone(&shared);
                thread::spawn(move || answer(socket, &said));
            }
        });
        Self { path, said }
    }

    fn has(&self, names: &[&str]) {
        let container = |name: &&str| {
            let port = 1_000 + u32::from(name.as_bytes()[0]);
            json!({
                "Id": format!("id-{name}"), "Names": [format!("/{name}")], "Created": port,
                "Labels": { "io.millrace.engine": "true", "io.millrace.port": port.to_string() },
                "HostConfig": { "NetworkMode": "host" },
            })
        };
        self.said.lock().unwrap().containers = names.iter().map(container).collect();
    }

    /// Tells of something that happened to a container.
    fn tells(&self) {
        let event = "{\"Type\":\"container\",\"Action\":\"die\",\"id\":\"whoever\"}\n";
        for socket in &mut self.said.lock().unwrap().events {
            write!(socket, "{:x}\r\n{event}\r\n", event.len()).unwrap();
        }
    }

    /// Closes every stream of events.
    fn hangs_up(&self) {
        self.said.lock().unwrap().events.clear();
    }
}

fn head_of(socket: &mut UnixStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn answer(mut socket: UnixStream, said: &Mutex<Said>) {
    let head = head_of(&mut socket);
    let request = head.lines().next().unwrap_or_default().to_owned();
    let mut said = said.lock().unwrap();
    let body = if request.contains("/events?") {
        write!(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        said.events.push(socket.try_clone().unwrap());
        None
    } else if request.contains("/containers/json?") {
        Some(json!(said.containers))
    } else {
        Some(json!({ "ApiVersion": "1.41", "Version": "20.10.24" }))
    };
    said.requests.push(request);
    if let Some(body) = body.map(|body| body.to_string()) {
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

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

    let requests = std::mem::take(&mut fake.said.lock().unwrap().requests);
    let lists = requests.iter().filter(|r| r.contains("/containers/json"));
    assert!(lists.clone().count() >= 5, "{requests:#?}");
    for list in lists {
        assert!(list.contains("io.millrace.engine%3Dtrue") && list.contains("running"), "{list}");
    }
    // Whether or not the path begins with the version of the API.
    let asks = ["/version HTTP/1.1", "/events?", "/containers/json?"];
    let is_question = |r: &&String| r.starts_with("GET /") && asks.iter().any(|ask| r.contains(ask));
    assert!(requests.iter().all(|r| is_question(&r)), "{requests:#?}");
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
    let requests = std::mem::take(&mut fake.said.lock().unwrap().requests);
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
