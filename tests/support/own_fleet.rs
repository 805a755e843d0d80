//! The real server with a Docker daemon of the test's own, in which it runs its
//! engines: the emulator as an image.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::ContentId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    docker::{Call, Container, DockerProxy, Dockerd, IMAGE},
    get, raw,
    server::{Answer, Server, parse_answer},
    tool::Scratch,
    wait_until,
};

/// Longest wait for what takes a second.
const SOON: Duration = Duration::from_secs(30);
/// An engine whose emulator is told what to do, and asked what it has seen, at
/// the port of its API.
pub(crate) const CONTROLLED: [&str; 6] =
    ["--address", "0.0.0.0", "--first-port", "{http_port}", "--control", "127.0.0.1:{api_port}"];

/// A daemon with the image, and what servers on it share.
pub(crate) struct OwnFleet {
    pub(crate) docker: Dockerd,
    /// Where templates are; the server's data directory.
    pub(crate) data: Scratch,
    /// What each server is told beside the rest, as TOML.
    pub(crate) config: String,
}

impl OwnFleet {
    /// A running daemon with the image; none, aloud, where this machine has no
    /// Docker. `config` is for each server.
    pub(crate) fn new(config: &str) -> Option<Self> {
        Self::on(Dockerd::new()?, config)
    }

    /// The same with a daemon of the caller's, which is started if it is not.
    pub(crate) fn on(mut docker: Dockerd, config: &str) -> Option<Self> {
        if docker.pid().is_none() && !docker.start() {
            return None;
        }
        docker.make_image();
        let fleet = Self { docker, data: Scratch::new(), config: config.to_owned() };
        fleet.template(&["--address", "0.0.0.0", "--first-port", "{http_port}"]);
        Some(fleet)
    }

    /// What engines are started with from now on.
    pub(crate) fn template(&self, command: &[&str]) {
        let template = json!({
            "name": "emulated", "variant": "custom", "image": IMAGE, "command": command,
        });
        let all = json!({ "version": 1, "active": "emulated", "templates": [template] });
        fs::write(self.data.path().join("templates.json"), all.to_string()).expect("our own directory");
    }

    /// Starts a server on the daemon, or on what stands before it at `uri`.
    pub(crate) fn serve(&self, uri: Option<&str>, args: &[&str]) -> Server {
        let all = self.args(uri, args);
        Server::start(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What a server is told for that.
    pub(crate) fn args(&self, uri: Option<&str>, args: &[&str]) -> Vec<String> {
        let file = self.data.path().join("millrace.toml");
        // The host's network is the quickest, and ports of one's own keep the
        // fleets of parallel tests apart.
        let pull = if self.config.contains("\npull = ") { "" } else { "pull = \"never\"\n" };
        let config = format!("[docker]\n{pull}{}", self.config);
        fs::write(&file, config).expect("our own directory");
        let uri = uri.map_or_else(|| self.docker.uri(), str::to_owned);
        let (file, data) = (file.display().to_string(), self.data.path().display().to_string());
        let all = ["--docker", &uri, "--config", &file, "--data-dir", &data, "--cpus", "0"];
        all.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
    }

    /// The containers of the fleet that exist, in whatever state: name and state.
    pub(crate) fn containers(&self) -> Vec<(String, String)> {
        self.ours().into_iter().map(|c| (c.name, c.state)).collect()
    }

    /// The same with all that the daemon lists, in order of names.
    pub(crate) fn ours(&self) -> Vec<Container> {
        let all = self.docker.containers().into_iter();
        all.filter(|c| c.labels.get("io.millrace.fleet").is_some_and(|fleet| fleet == "millrace")).collect()
    }

    /// Ids of the fleet's containers, with when each was started last.
    pub(crate) fn lives(&self) -> BTreeMap<String, String> {
        let started = |id: &str| self.docker.inspect(id)["State"]["StartedAt"].to_string();
        self.ours().into_iter().map(|c| (c.id.clone(), started(&c.id))).collect()
    }

    /// What has happened to the fleet's containers since then, oldest first: of
    /// the last 256 events of any kind, which is what a daemon remembers.
    pub(crate) fn history(&self, since: SystemTime) -> Vec<Moment> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.docker.events_since(since).into_iter();
        let of_containers = events.filter(|e| {
            e["Type"] == "container" && e["Actor"]["Attributes"]["io.millrace.fleet"] == "millrace"
        });
        of_containers
            .map(|e| Moment {
                at: Duration::from_nanos(e["timeNano"].as_u64().expect("a time")),
                id: text(&e["Actor"]["ID"]),
                name: text(&e["Actor"]["Attributes"]["name"]),
                what: text(&e["Action"]),
            })
            .collect()
    }
}

/// One thing that `check` has looked at.
#[derive(Debug, Deserialize)]
pub(crate) struct Finding {
    pub(crate) level: String,
    pub(crate) what: String,
    pub(crate) found: String,
    /// Empty where nothing is wrong.
    #[serde(default)]
    pub(crate) remedy: String,
}

impl OwnFleet {
    /// What `check` finds with these further arguments, on the daemon at `uri`.
    pub(crate) fn check(&self, uri: &str, args: &[&str]) -> Vec<Finding> {
        self.check_by(Command::new(env!("CARGO_BIN_EXE_millrace")), uri, args)
    }

    /// The same of a server that is called in another way.
    pub(crate) fn check_by(&self, mut program: Command, uri: &str, args: &[&str]) -> Vec<Finding> {
        let all = self.args(Some(uri), &[&["--listen", "127.0.0.1:0", "--json"], args].concat());
        let output = program.arg("check").args(all).output().expect("it is there");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Level and words of what a trial finds.
    pub(crate) fn trial(&self, uri: &str) -> Vec<(String, String)> {
        let found = self.check(uri, &["--trial"]).into_iter().filter(|finding| finding.what == "trial");
        found.map(|finding| (finding.level, finding.found)).collect()
    }

    /// Containers of trials of this fleet.
    pub(crate) fn trials(&self) -> Vec<Container> {
        let is_it = |c: &Container| c.labels.get("io.millrace.trial").is_some_and(|of| of == "millrace");
        self.docker.containers().into_iter().filter(is_it).collect()
    }
}

/// Something that happened to a container.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Since 1970.
    pub(crate) at: Duration,
    pub(crate) id: String,
    pub(crate) name: String,
    /// `create`, `start`, `die`, `destroy`, …
    pub(crate) what: String,
}

/// How many there were at each moment, counting up at `more` and down at `less`.
pub(crate) fn counts(history: &[Moment], more: &str, less: &str) -> Vec<usize> {
    let mut count = 0;
    let mut all = Vec::new();
    for moment in history {
        count += usize::from(moment.what == more);
        count -= usize::from(moment.what == less);
        all.push(count);
    }
    all
}

/// Requests that change something, in order.
pub(crate) fn changes(proxy: &DockerProxy) -> Vec<Call> {
    proxy
        .calls()
        .into_iter()
        .filter(|call| !["GET ", "HEAD "].iter().any(|m| call.route.starts_with(m)))
        .collect()
}

/// A port of a container, by its word in our label.
pub(crate) fn port_of(container: &Container, word: &str) -> u16 {
    let label = container.labels.get("io.millrace.ports").expect("it is ours");
    let port = label.split(',').find_map(|one| one.strip_prefix(word)?.strip_prefix('='));
    port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no {word} in {label:?}"))
}

/// Where the emulator in a container of [`CONTROLLED`] is told what to do.
pub(crate) fn control_of(container: &Container) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port_of(container, "api")).into()
}

/// Ports for the engines of one fleet: none that another of this process has.
pub(crate) fn ports() -> String {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = NEXT.fetch_add(1, Ordering::Relaxed) % 10;
    // Below those that the kernel gives to connections.
    let first = 20_000 + (u16::try_from(std::process::id() % 25).expect("below 25")) * 400 + block * 40;
    format!("{first}-{}", first + 39)
}

/// An answer of the API.
pub(crate) fn json_at(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
    assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// Tells the emulator in a container of [`CONTROLLED`] to do something.
pub(crate) fn tell(container: &Container, path: &str, body: &Value) {
    let (address, body) = (control_of(container), body.to_string());
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let (answer, _) = raw::exchange(address, request.as_bytes());
    assert!(answer.starts_with(b"HTTP/1.1 200"), "POST {path}: {}", String::from_utf8_lossy(&answer));
}

/// The name of the engine that plays the stream of this id.
pub(crate) fn engine_of(server: &Server, id: &ContentId) -> Option<String> {
    let streams = json_at(server.address(), "/api/v1/streams");
    let key = json!(format!("id:{id}"));
    let engine = streams["streams"].as_array()?.iter().find(|s| s["key"] == key)?["engine"].as_u64()?;
    let engines = json_at(server.address(), "/api/v1/engines");
    let found = engines["engines"].as_array()?.iter().find(|e| e["id"].as_u64() == Some(engine))?;
    found["name"].as_str().map(str::to_owned)
}

/// Slots taken, by the engine's name.
pub(crate) fn taken(server: &Server) -> BTreeMap<String, u64> {
    let answer = json_at(server.address(), "/api/v1/engines");
    let engines = answer["engines"].as_array().expect("a list").iter();
    let name = |e: &Value| e["name"].as_str().expect("a name").to_owned();
    engines.map(|e| (name(e), e["slots"]["taken"].as_u64().expect("a count"))).collect()
}

/// Names of the engines by state.
pub(crate) fn engines(server: &Server, state: &str) -> Vec<String> {
    let answer = json_at(server.address(), "/api/v1/engines");
    let engines = answer["engines"].as_array().expect("a list").iter();
    engines
        .filter(|e| e["state"] == json!(state))
        .map(|e| e["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Each engine with its state and stage, what the log says of engines, and the
/// whole of both: first what fits a short report.
fn what_befell(server: &Server) -> String {
    let (answer, log) = (json_at(server.address(), "/api/v1/engines"), server.log());
    let engines = answer["engines"].as_array().expect("a list").iter();
    let states: Vec<_> = engines.map(|e| format!("{} {} {}", e["name"], e["state"], e["stage"])).collect();
    let of_engines = |line: &&str| line.contains("event=") || line.contains("millrace_control::units");
    let lines: Vec<_> = log.lines().filter(of_engines).collect();
    format!("{}\n{}\n{answer:#}\n{log}", states.join(", "), lines.join("\n"))
}

/// Waits until so many engines are ready, and says how long that took.
#[track_caller]
pub(crate) fn wait_ready(server: &Server, count: usize) -> Duration {
    let begun = Instant::now();
    let is_so = wait_until(SOON, || engines(server, "ready").len() == count);
    assert!(is_so, "not {count} ready: {}", what_befell(server));
    begun.elapsed()
}

/// One engine, as the API and Docker know it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Streams on it.
    pub(crate) taken: u64,
    /// Of its container.
    pub(crate) id: String,
}

/// The emulator's options for a control API of its own, which
/// [`OwnFleet::control`] finds.
pub(crate) const WITH_CONTROL: [&str; 6] =
    ["--address", "0.0.0.0", "--first-port", "{http_port}", "--control", "0.0.0.0:{api_port}"];

impl OwnFleet {
    /// The engines that the API lists and Docker has, the busiest first.
    pub(crate) fn places(&self, server: &Server) -> Vec<Place> {
        let containers = self.docker.containers();
        let answer = json_at(server.address(), "/api/v1/engines");
        let mut all: Vec<_> = answer["engines"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|engine| {
                let name = engine["name"].as_str()?.to_owned();
                let id = containers.iter().find(|c| c.name == name)?.id.clone();
                let address = engine["address"].as_str()?.parse().ok()?;
                Some(Place { name, address, taken: engine["slots"]["taken"].as_u64()?, id })
            })
            .collect();
        all.sort_by_key(|place| std::cmp::Reverse(place.taken));
        all
    }

    /// What engines are started with from now on, whose cache is in `dir`.
    pub(crate) fn template_with_cache(&self, command: &[&str], dir: &str) {
        let template = json!({
            "name": "emulated", "variant": "custom", "image": IMAGE, "command": command,
            "parameters": { "cache-dir": dir },
        });
        let all = json!({ "version": 1, "active": "emulated", "templates": [template] });
        fs::write(self.data.path().join("templates.json"), all.to_string()).expect("our own directory");
    }

    /// Tells the emulator of an engine that was started [`WITH_CONTROL`].
    #[track_caller]
    pub(crate) fn control(&self, place: &Place, path: &str, body: &Value) {
        assert!(self.try_control(place, path, body), "{path} {body}: refused by {place:?}");
    }

    /// The same with an engine that may be gone; whether it was told.
    pub(crate) fn try_control(&self, place: &Place, path: &str, body: &Value) -> bool {
        // The interface panics where there is no such container.
        let inspected = self.docker.try_docker(&["inspect", "--format", "{{json .Args}}", &place.id]);
        let args: Vec<String> = serde_json::from_str(&inspected.stdout).unwrap_or_default();
        let Some(at) = args.iter().position(|arg| *arg == "--control") else { return false };
        let port = args[at + 1].rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let status = post(SocketAddr::new(place.address.ip(), port), path, &body.to_string());
        status.is_ok_and(|status| status == "HTTP/1.1 200 OK")
    }
}

/// The status line of the answer to a POST.
fn post(address: SocketAddr, path: &str, body: &str) -> std::io::Result<String> {
    use std::io::{BufRead, BufReader, Write};
    let mut socket = std::net::TcpStream::connect_timeout(&address, SOON)?;
    socket.set_read_timeout(Some(SOON))?;
    let length = body.len();
    write!(
        socket,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// How many lines of the log tell of this event, of this engine if one is named.
pub(crate) fn told(server: &Server, event: &str, engine: Option<&str>) -> usize {
    let event = format!("event=\"{event}\"");
    let engine = engine.map(|engine| format!("engine=\"{engine}\""));
    let log = server.log();
    let is_it = |line: &&str| line.contains(&event) && engine.as_ref().is_none_or(|e| line.contains(e));
    log.lines().filter(is_it).count()
}

/// Ports for a fleet of up to fifty engines, apart from those of [`ports`].
pub(crate) fn many_ports() -> String {
    let first = 30_000 + u16::try_from(std::process::id() % 20).expect("below 20") * 100;
    format!("{first}-{}", first + 99)
}

/// A request with a body and further headers.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut socket = TcpStream::connect(address).expect("an answer in time");
    socket.set_read_timeout(Some(SOON)).expect("an answer in time");
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}");
    write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("an answer in time");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("an answer in time");
    parse_answer(&bytes).unwrap_or_else(|| panic!("{method} {path}: {}", String::from_utf8_lossy(&bytes)))
}
