//! The real binary, as an operator and as systemd meet it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::PathBuf,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use support::command::{millrace, output, stderr, stdout};

mod support;

/// Answers every connection as an engine would.
fn fake_engine() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut head = [0; 4096];
            if socket.read(&mut head).unwrap() > 0 {
                let body = r#"{"result":{"version":"3.2.11","code":3021100},"error":null}"#;
                write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        }
    });
    address
}

#[test]
fn check_finds_what_is_there_and_fails_only_on_what_stops_the_server() {
    let engine = format!("http://{}", fake_engine());
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://{dead}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let tmp = env!("CARGO_TARGET_TMPDIR");
    let free = "127.0.0.1:0";
    for (name, args, code, expected) in [
        (
            "an engine",
            &["--listen", free, "--engine", &engine][..],
            0,
            format!("ok    engine: {engine} runs AceStream 3.2.11\n"),
        ),
        (
            "a trial where there is nothing to try",
            &["--listen", free, "--engine", &engine, "--trial"],
            0,
            "warn  trial: nothing was tried: with this configuration Millrace makes no engines in Docker ("
                .into(),
        ),
        (
            "a dead engine",
            &["--listen", free, "--engine", &dead],
            1,
            format!("fail  engine: {dead}: Connection refused"),
        ),
        (
            "an address in use",
            &["--listen", &taken],
            1,
            format!("fail  address: {taken}: Address already in use"),
        ),
        (
            "a data directory",
            &["--listen", free, "--data-dir", tmp],
            0,
            format!("ok    data directory: {tmp} is writable\n"),
        ),
        (
            "no data directory",
            &["--listen", free, "--data-dir", "/nonexistent"],
            1,
            "fail  data directory: /nonexistent: No such file".into(),
        ),
        (
            "a core that is not there",
            &["--listen", free, "--cpus", "1023"],
            1,
            "fail  cores: server.cpus names cores [1023]".into(),
        ),
    ] {
        let mut all = vec!["check"];
        all.extend(args);
        let text = output(&[], &all);
        let found = String::from_utf8(text.stdout).unwrap();
        assert_eq!(text.status.code(), Some(code), "{name}: {found}");
        assert!(found.contains(&expected), "{name}: {found}");
        let form = |l: &str| {
            ["ok    ", "warn  ", "fail  "].iter().any(|level| l.starts_with(level)) && l.contains(": ")
        };
        assert!(found.lines().all(form), "{name}: {found}");

        all.push("--json");
        let json = output(&[], &all);
        assert_eq!(json.status.code(), Some(code), "{name}");
        let json: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json.len(), found.lines().count(), "{name}");
        for finding in json {
            assert!(["ok", "warn", "fail"].contains(&finding["level"].as_str().unwrap()), "{finding}");
            assert_eq!(finding["level"] == "ok", finding["remedy"].is_null(), "{finding}");
        }
    }
}

/// A running server, ended by its id when the test ends.
struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(variables: &[(&str, &str)], args: &[&str]) -> Self {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        Self::of(millrace(variables, &args).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn of(mut child: Child) -> Self {
        let pipe = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || pipe.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that contains `part`.
    fn line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line with {part:?} after {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end and says how long it took.
    fn ended(&mut self, limit: Duration) -> (std::process::ExitStatus, Duration) {
        let asked = Instant::now();
        while asked.elapsed() < limit {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, asked.elapsed());
            }
            // There is no waiting for a child with a deadline; the limit above is one.
            thread::sleep(Duration::from_millis(5));
        }
        panic!("still running after {limit:?}: {:#?}", self.lines.try_iter().collect::<Vec<_>>());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn field<'l>(line: &'l str, name: &str) -> &'l str {
    let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => rest.split(' ').next().unwrap(),
    }
}

/// An engine that nobody started: the server serves all the same.
const NO_ENGINE: [&str; 2] = ["--engine", "http://127.0.0.1:1"];

#[test]
fn the_start_line_names_what_serves_and_a_signal_ends_it_in_time() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[], &NO_ENGINE);
        let line = server.line(" address=");
        assert!(line.contains(" INFO "), "{line}");
        assert!(!line.contains('\u{1b}'), "colours in a pipe: {line}");
        let address: SocketAddr = field(&line, "address").parse().unwrap();
        assert_ne!(address.port(), 0);
        assert!(["io_uring", "epoll"].contains(&field(&line, "driver")), "{line}");
        assert_eq!(field(&line, "engines"), "0 of 1 named ready");
        assert_eq!(field(&line, "play"), format!("http://{address}/ace/getstream?id=CONTENT_ID"));
        TcpStream::connect(address).unwrap();

        server.signal(signal);
        let (status, took) = server.ended(Duration::from_secs(3));
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[test]
fn the_url_of_the_start_line_plays() {
    let mut server = Server::start(&[], &["--emulate", "2"]);
    let line = server.line(" address=");
    assert_eq!(field(&line, "engines"), "2 of 2 emulated ready");
    let address = field(&line, "address");
    let play = field(&line, "play").strip_prefix(&format!("http://{address}")).unwrap();
    let mut player = TcpStream::connect(address).unwrap();
    player.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    write!(player, "GET {play} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut start = [0; 4096];
    player.read_exact(&mut start).unwrap();
    let start = String::from_utf8_lossy(&start);
    assert!(start.starts_with("HTTP/1.1 200 "), "{start}");
    assert!(start.contains("\r\n\r\nG"), "no transport stream packet after the head");
    server.signal(Signal::TERM);
    let (status, took) = server.ended(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn json_lines_carry_the_same_fields() {
    let mut server = Server::start(&[], &[&NO_ENGINE[..], &["--log", "json"]].concat());
    let line = server.line("\"address\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "INFO");
    assert!(line["address"].as_str().unwrap().parse::<SocketAddr>().is_ok(), "{line}");
}

#[test]
fn the_journal_gets_priorities_and_keeps_its_own_time() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("journal-{}", std::process::id()));
    let log = fs::File::create(&path).unwrap();
    let inode = log.metadata().unwrap();
    let stream = format!("{}:{}", inode.dev(), inode.ino());
    let variables = [("JOURNAL_STREAM", stream.as_str()), ("API_KEY", "warns")];
    let args = [&["serve", "--listen", "127.0.0.1:0"][..], &NO_ENGINE].concat();
    let mut child = millrace(&variables, &args).stderr(log).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    let lines = loop {
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("serving") || Instant::now() > deadline {
            break text;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(&path).ok();
    assert!(lines.contains("serving"), "{lines}");
    let starts: Vec<_> = lines.lines().map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    assert!(starts.contains(&"<4>") && starts.contains(&"<6>"), "{lines}");
    assert!(starts.iter().all(|start| ["<4>", "<6>"].contains(start)), "{lines}");
    assert!(lines.lines().all(|line| !line.contains("Z  ")), "no time of our own: {lines}");
}

#[test]
fn systemd_hears_of_the_start_of_every_healthy_moment_and_of_the_end() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("notify-{}", std::process::id()));
    fs::remove_file(&path).ok();
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let hear = |expected: &str| {
        let mut heard = Vec::new();
        let mut datagram = [0; 1024];
        while !heard.iter().any(|line| line == expected) {
            let count =
                socket.recv(&mut datagram).unwrap_or_else(|_| panic!("no {expected} after {heard:?}"));
            // One datagram at a time, whole: what belongs together comes together.
            heard.extend(String::from_utf8_lossy(&datagram[..count]).lines().map(str::to_owned));
        }
        heard
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut server = Server::start(&variables, &NO_ENGINE);
    let heard = hear("READY=1");
    assert!(heard.iter().any(|line| line.starts_with("STATUS=serving on 127.0.0.1:")), "{heard:?}");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    server.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(server.ended(Duration::from_secs(3)).0.code(), Some(0));
    fs::remove_file(&path).ok();
}

#[test]
fn what_the_predecessor_understood_is_named_in_one_line() {
    let variables = [
        ("PROXY_PREBUFFER_SECONDS", "4"),
        ("MIN_REPLICAS", "2"),
        ("VPN_ENABLED", "false"),
        ("API_KEY", "secret"),
    ];
    let mut server = Server::start(&variables, &NO_ENGINE);
    let line = server.line("variables of the predecessor");
    assert_eq!(
        field(&line, "understood"),
        "PROXY_PREBUFFER_SECONDS as viewers.prebuffer, MIN_REPLICAS as fleet.min"
    );
    assert_eq!(field(&line, "ignored"), "API_KEY, VPN_ENABLED");
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn what_keeps_the_server_from_starting_is_said_in_one_line() {
    for (name, args, expected) in [
        (
            "a name that does not resolve",
            &["--listen", "127.0.0.1:0", "--engine", "http://engine.invalid:6878"][..],
            "cannot resolve the engine http://engine.invalid:6878: ",
        ),
        (
            "one engine by two names",
            &["--listen", "127.0.0.1:0", "--engine", "http://127.0.0.1:1", "--engine", "http://127.1:1"],
            "the engines http://127.0.0.1:1 and http://127.1:1 are both at 127.0.0.1:1",
        ),
        ("a core that is not there", &["--cpus", "1023"], "server.cpus names cores [1023], but"),
    ] {
        let output = output(&[], &[&["serve"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = stderr(&output);
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("millrace: ") && last.contains(expected), "{name}: {said}");
    }
}

#[test]
fn an_address_in_use_is_named_even_when_a_server_of_ours_has_it() {
    let mut first = Server::start(&[], &NO_ENGINE);
    let taken = field(&first.line(" address="), "address").to_owned();
    let mut args = vec!["serve", "--listen", &taken];
    args.extend(NO_ENGINE);
    let mut second = millrace(&[], &args).stderr(Stdio::piped()).spawn().map(Server::of).unwrap();
    second.line(&format!("millrace: cannot listen on {taken}: Address already in use"));
    assert_eq!(second.ended(Duration::from_secs(3)).0.code(), Some(1));
}

#[test]
fn the_emulator_gets_every_argument_that_follows() {
    let help = stdout(&output(&[], &["engine-emulator", "--help"]));
    assert!(help.contains("--first-port"), "{help}");
    let wrong = output(&[], &["engine-emulator", "--first-port", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("--first-port"), "{}", stderr(&wrong));
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(stdout(&output(&[], &["version"])), format!("millrace {}\n", env!("CARGO_PKG_VERSION")));
}
