//! For tests: a daemon that answers what it is told to.

use std::{
    collections::HashMap,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::DockerUri;

/// Never existed, or does no more once the test is over.
pub(crate) struct SocketPath(pub(crate) PathBuf);

impl SocketPath {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("millrace-docker-{}-{count}.sock", std::process::id())))
    }

    pub(crate) fn uri(&self) -> DockerUri {
        DockerUri::Unix { path: self.0.display().to_string() }
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// What the daemon does when it is asked for one container's statistics.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Says this, after a while.
    Says(Value, Duration),
    /// An error of its own.
    Fails,
    /// Never anything.
    Hangs,
}

#[derive(Default)]
pub(crate) struct Said {
    pub(crate) requests: Vec<String>,
    /// With our label.
    pub(crate) containers: Vec<Value>,
    /// Without it.
    pub(crate) others: Vec<Value>,
    /// By id.
    pub(crate) statistics: HashMap<String, Answer>,
    /// Questions for statistics that are being answered, and most at once.
    pub(crate) asked: usize,
    pub(crate) most_asked: usize,
    listeners: usize,
    /// Connections that wait for events.
    events: Vec<UnixStream>,
}

/// A daemon of API version 1.41.
pub(crate) struct Fake {
    pub(crate) path: SocketPath,
    pub(crate) said: Arc<Mutex<Said>>,
}

impl Fake {
    pub(crate) fn start() -> Self {
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

    /// Containers of these names and states, on the host's network.
    pub(crate) fn has_in_states(&self, all: &[(&str, &str)]) {
        let container = |(name, state): &(&str, &str)| {
            let port = 1_000 + u32::from(name.as_bytes()[0]);
            json!({
                "Id": format!("id-{name}"), "Names": [format!("/{name}")], "Created": port, "State": state,
                "Labels": { "io.millrace.engine": "true", "io.millrace.port": port.to_string() },
                "HostConfig": { "NetworkMode": "host" },
            })
        };
        self.said.lock().unwrap().containers = all.iter().map(container).collect();
    }

    /// Running ones.
    pub(crate) fn has(&self, names: &[&str]) {
        self.has_in_states(&names.iter().map(|name| (*name, "running")).collect::<Vec<_>>());
    }

    /// Tells of something that happened to an engine nobody has seen.
    pub(crate) fn tells(&self) {
        self.tells_of(&json!({
            "Type": "container", "Action": "start",
            "Actor": { "ID": "whoever", "Attributes": { "io.millrace.engine": "true" } },
        }));
    }

    pub(crate) fn tells_of(&self, event: &Value) {
        self.sends(&format!("{event}\n"));
    }

    /// To whoever waits for events.
    pub(crate) fn sends(&self, event: &str) {
        let send = |mut socket: &UnixStream| write!(socket, "{:x}\r\n{event}\r\n", event.len()).is_ok();
        self.said.lock().unwrap().events.retain(send);
    }

    /// How many times events were asked for.
    pub(crate) fn listeners(&self) -> usize {
        self.said.lock().unwrap().listeners
    }

    /// Closes every stream of events.
    pub(crate) fn hangs_up(&self) {
        self.said.lock().unwrap().events.clear();
    }

    /// What it was asked since this was called last.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap().requests)
    }
}

pub(crate) fn head_of(socket: &mut UnixStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn answer(mut socket: UnixStream, said: &Mutex<Said>) {
    let head = head_of(&mut socket);
    let request = head.lines().next().unwrap_or_default().to_owned();
    let mut said_now = said.lock().unwrap();
    said_now.requests.push(request.clone());
    let body = if request.contains("/events?") {
        write!(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok();
        if request.contains("until=") {
            write!(socket, "0\r\n\r\n").ok();
        } else {
            said_now.events.push(socket);
            said_now.listeners += 1;
        }
        return;
    } else if request.contains("/containers/json?") {
        // Filters are JSON, encoded for a URL.
        let is_ours = request.contains("io.millrace.engine");
        let all = if is_ours { said_now.containers.iter() } else { said_now.others.iter() };
        let is_live = |one: &&Value| !request.contains("status") || one["State"] != "exited";
        let limit =
            request.split_once("limit=").and_then(|(_, rest)| rest.split(['&', ' ']).next()?.parse().ok());
        json!(all.filter(is_live).take(limit.unwrap_or(usize::MAX)).collect::<Vec<_>>())
    } else if let Some(id) = request.split_once("/stats?").and_then(|(path, _)| path.rsplit('/').next()) {
        said_now.asked += 1;
        said_now.most_asked = said_now.most_asked.max(said_now.asked);
        let answer = said_now.statistics.get(id).cloned().unwrap_or(Answer::Fails);
        drop(said_now);
        let body = match answer {
            Answer::Says(body, after) => {
                thread::sleep(after);
                Some(body)
            }
            Answer::Fails => None,
            Answer::Hangs => {
                // Until the other side gives up.
                socket.read_to_end(&mut Vec::new()).ok();
                None
            }
        };
        said_now = said.lock().unwrap();
        said_now.asked -= 1;
        let Some(body) = body else {
            let no = "{\"message\":\"no\"}";
            write!(socket, "HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n{no}", no.len()).ok();
            return;
        };
        body
    } else if request.contains("/info") {
        json!({ "Architecture": "x86_64", "CgroupVersion": "2", "LiveRestoreEnabled": true })
    } else {
        json!({ "ApiVersion": "1.41", "Version": "20.10.24" })
    };
    drop(said_now);
    let body = body.to_string();
    write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok();
}
