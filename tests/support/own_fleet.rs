//! The real server with a Docker daemon of the test's own, in which it runs its
//! engines: the emulator as an image.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    docker::{Dockerd, IMAGE},
    get,
    server::Server,
    tool::Scratch,
    wait_until,
};

/// Longest wait for what takes a second.
const SOON: Duration = Duration::from_secs(30);

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

    /// The same with a daemon of the caller's, which is started.
    pub(crate) fn on(mut docker: Dockerd, config: &str) -> Option<Self> {
        if !docker.start() {
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
        let all = self.docker.containers().into_iter();
        let ours = all.filter(|c| c.labels.get("io.millrace.fleet").is_some());
        let mut all: Vec<_> = ours.map(|c| (c.name, c.state)).collect();
        all.sort();
        all
    }
}

/// Ports for the engines of one fleet: none that another of this process has.
pub(crate) fn ports() -> String {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let block = NEXT.fetch_add(1, Ordering::Relaxed) % 20;
    // Below those that the kernel gives to connections.
    let first = 20_000 + (u16::try_from(std::process::id() % 25).expect("below 25")) * 400 + block * 20;
    format!("{first}-{}", first + 39)
}

/// An answer of the API.
pub(crate) fn json_at(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
    assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
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

/// Waits until so many engines are ready, and says how long that took.
#[track_caller]
pub(crate) fn wait_ready(server: &Server, count: usize) -> Duration {
    let begun = Instant::now();
    let is_so = wait_until(SOON, || engines(server, "ready").len() == count);
    assert!(is_so, "{:#}\n{}", json_at(server.address(), "/api/v1/engines"), server.log());
    begun.elapsed()
}
