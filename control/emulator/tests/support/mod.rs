//! A raw client: every byte of an answer can be looked at.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod ts;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use millrace_emulator::{Content, ContentId, Emulator, EmulatorConfig, Profile, Scenario, Timing};

pub(crate) const RATE: u32 = 4_000_000;
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
pub(crate) const S: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const VERSION: &str = "/webui/api/service?method=get_version";
pub(crate) const STATUS: &str = "/server/api?api_version=3&method=get_status";
pub(crate) const NETWORK: &str = "/server/api?api_version=3&method=get_network_connection_status";

pub(crate) fn config(engines: u16) -> EmulatorConfig {
    EmulatorConfig {
        engines,
        timing: Timing::fast(),
        content: Content::Signed { bitrate_bps: RATE },
        ..EmulatorConfig::default()
    }
}

pub(crate) fn emulator(engines: u16) -> Emulator {
    Emulator::start(config(engines)).unwrap()
}

/// An emulator of one engine, and where that is.
pub(crate) fn one() -> (Emulator, SocketAddr) {
    first_of(config(1))
}

/// The same with a control port.
pub(crate) fn one_controlled() -> (Emulator, SocketAddr) {
    first_of(EmulatorConfig { control: Some("127.0.0.1:0".parse().unwrap()), ..config(1) })
}

fn first_of(config: EmulatorConfig) -> (Emulator, SocketAddr) {
    let emulator = Emulator::start(config).unwrap();
    let address = emulator.addresses()[0];
    (emulator, address)
}

/// Gives the first engine this scenario.
pub(crate) fn set(emulator: &Emulator, scenario: &str) {
    emulator.set_engine_scenario(0, scenario.parse().unwrap());
}

pub(crate) fn emulator_of(profile: Profile) -> Emulator {
    Emulator::start(EmulatorConfig { profile, ..config(1) }).unwrap()
}

pub(crate) fn id(scenario: Scenario, serial: u64) -> ContentId {
    ContentId::new(Content::Signed { bitrate_bps: RATE }, scenario, serial)
}

/// A content that plays the scenario of this text.
pub(crate) fn scene(text: &str, serial: u64) -> ContentId {
    id(text.parse().unwrap_or_else(|e| panic!("{text}: {e}")), serial)
}

/// Bytes that prove to be the broadcast, without a gap from the first on.
pub(crate) fn assert_genuine(id: &ContentId, body: &[u8]) {
    let mut verifier = id.verifier().unwrap();
    verifier.push(body, std::time::SystemTime::now());
    let r = verifier.report();
    assert!(r.packets > 0 && r.lost + r.corrupted + r.unaligned_bytes + r.duplicated == 0, "{r:?}");
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
    /// Still open when enough had come, or when time was up.
    Open,
}

/// One answer: its head as sent, its status and what followed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    began: Instant,
}

impl Client {
    pub(crate) fn open(address: SocketAddr, request: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        stream.write_all(request.as_bytes())?;
        Ok(Self { stream, began: Instant::now() })
    }

    pub(crate) fn get(address: SocketAddr, target: &str) -> Self {
        Self::open(address, &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n")).unwrap()
    }

    /// Reads until `enough` holds, the end, or `limit`.
    pub(crate) fn read_until(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> (Vec<u8>, End) {
        let deadline = Instant::now() + limit;
        let (mut all, mut piece) = (Vec::new(), vec![0; 65_536]);
        while !enough(&all) && Instant::now() < deadline {
            match self.stream.read(&mut piece) {
                Ok(0) => return (all, End::Fin),
                Ok(n) => all.extend_from_slice(&piece[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return (all, End::Reset),
            }
        }
        (all, End::Open)
    }

    /// A whole answer with `body` bytes at least, or all of it.
    pub(crate) fn answer(&mut self, limit: Duration, body: usize) -> Answer {
        let (all, end) = self.read_until(limit, |all| match head_end(all) {
            Some(at) => all.len() - at >= content_length(&all[..at]).unwrap_or(body),
            None => false,
        });
        let at = head_end(&all).unwrap_or(all.len());
        let head = String::from_utf8_lossy(&all[..at]).into_owned();
        Answer { head, body: all[at..].to_vec(), end, took: self.began.elapsed() }
    }
}

pub(crate) fn head_end(all: &[u8]) -> Option<usize> {
    all.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.split_once("content-length: ")?.1.split("\r\n").next()?.parse().ok()
}

/// A small answer, whole.
pub(crate) fn get(address: SocketAddr, target: &str) -> Answer {
    Client::get(address, target).answer(LIMIT, usize::MAX)
}

/// The head of an answer, and the connection.
pub(crate) fn get_head(address: SocketAddr, target: &str) -> Answer {
    Client::get(address, target).answer(LIMIT, 0)
}

pub(crate) fn path(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest[rest.find('/').unwrap()..].to_owned()
}

/// A started session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) address: SocketAddr,
    pub(crate) infohash: String,
    pub(crate) playback: String,
    pub(crate) stat: String,
    pub(crate) command: String,
}

pub(crate) fn start_json(address: SocketAddr, id: &str, pid: &str) -> Answer {
    get(address, &format!("/ace/getstream?format=json&id={id}&pid={pid}"))
}

pub(crate) fn session_of(address: SocketAddr, answer: &Answer) -> Session {
    let json = answer.json();
    let part = |name: &str| json["response"][name].as_str().unwrap_or_else(|| panic!("{json}")).to_owned();
    Session {
        address,
        infohash: part("infohash"),
        playback: path(&part("playback_url")),
        stat: path(&part("stat_url")),
        command: path(&part("command_url")),
    }
}

pub(crate) fn start(address: SocketAddr, id: &ContentId, pid: &str) -> Session {
    session_of(address, &start_json(address, &id.to_string(), pid))
}

impl Session {
    /// The address of the bytes, which comes when the session is ready.
    pub(crate) fn content(&self) -> String {
        let answer = get_head(self.address, &self.playback);
        assert_eq!(answer.status(), 302, "{answer:?}");
        path(answer.header("location").unwrap())
    }

    pub(crate) fn open(&self) -> Client {
        Client::get(self.address, &self.content())
    }

    pub(crate) fn read(&self, body: usize) -> Answer {
        self.open().answer(LIMIT, body)
    }

    pub(crate) fn stat(&self) -> serde_json::Value {
        let answer = get(self.address, &self.stat);
        assert_eq!(answer.status(), 200);
        answer.json()
    }

    /// What stat says of a session that lives.
    pub(crate) fn told(&self) -> serde_json::Value {
        let mut stat = self.stat();
        assert!(stat["error"].is_null(), "{stat}");
        stat["response"].take()
    }

    pub(crate) fn stop(&self) -> Answer {
        get(self.address, &format!("{}?method=stop", self.command))
    }
}

/// Waits until `holds`, and fails after the limit.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes chunked framing; panics when it is wrong. Returns sizes and payload.
pub(crate) fn dechunk(mut body: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let (mut sizes, mut out) = (Vec::new(), Vec::new());
    while let Some(at) = body.windows(2).position(|w| w == b"\r\n") {
        let line = String::from_utf8_lossy(&body[..at]).into_owned();
        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        body = &body[at + 2..];
        if size == 0 || body.len() < size + 2 {
            break;
        }
        out.extend_from_slice(&body[..size]);
        assert_eq!(&body[size..size + 2], b"\r\n");
        sizes.push(size);
        body = &body[size + 2..];
    }
    (sizes, out)
}

pub(crate) fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

/// Status of an answer; 0 when there is none.
pub(crate) fn status(address: SocketAddr, target: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    Client::open(address, &request).map_or(0, |mut c| c.answer(LIMIT, usize::MAX).status())
}

/// A session of a healthy content, with a reader that has its head.
pub(crate) fn playing(address: SocketAddr, serial: u64) -> (Session, Client) {
    let session = start(address, &scene("healthy-live", serial), &format!("p{serial}"));
    let mut reader = session.open();
    assert_eq!(reader.answer(LIMIT, 0).status(), 200);
    (session, reader)
}

/// A session that plays as HLS.
pub(crate) fn start_hls(address: SocketAddr, id: &ContentId, pid: &str) -> Session {
    session_of(address, &get(address, &format!("/ace/manifest.m3u8?format=json&id={id}&pid={pid}")))
}
