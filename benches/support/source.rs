//! The smallest engine that plays: enough of the HTTP interface to start a
//! stream, and one shared programme sent to every session at its rate.
//!
//! Cheaper than the emulator by design: it shares a core with thousands of
//! viewers, and what it burns is missing there.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use super::feed::{Mux, PACKET, Store};

/// A new session gets this much at once, as engines do.
const BURST: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);
/// Most bytes sent to one session per tick, so that a burst delays nobody.
const PER_TICK: usize = 512 << 10;
const MAX_SESSIONS: usize = 1_024;
const MAX_REQUEST: usize = 16 << 10;

/// Listens on `engines` ports, prints them as one JSON line, and plays until
/// the process ends.
pub(crate) fn run(engines: usize, rate_bps: u64) -> io::Result<()> {
    let (sender, sessions) = channel();
    let mut ports = Vec::new();
    for _ in 0..engines {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        ports.push(listener.local_addr()?.port());
        let sender = sender.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || answer(socket, &sender).ok());
            }
        });
    }
    println!("{}", serde_json::json!({ "ports": ports }));
    play(&sessions, rate_bps)
}

/// Sends the programme to every session; the only thread that does.
fn play(sessions: &Receiver<TcpStream>, rate_bps: u64) -> io::Result<()> {
    struct Session {
        socket: TcpStream,
        cursor: u64,
    }
    let burst = rate_bps / 8 * BURST.as_secs() / PACKET as u64 * PACKET as u64;
    let mut mux = Mux::new(rate_bps);
    let mut store = Store::new(burst + (rate_bps / 2).max(4 << 20))?;
    let mut bytes = Vec::new();
    let mut playing: VecDeque<Session> = VecDeque::new();
    let start = Instant::now();
    for tick in 0u32.. {
        mux.fill_until(BURST + start.elapsed(), &mut bytes);
        store.append(&bytes)?;
        bytes.clear();
        for socket in sessions.try_iter() {
            if playing.len() < MAX_SESSIONS && socket.set_nonblocking(true).is_ok() {
                playing.push_back(Session { socket, cursor: store.head() - burst });
            }
        }
        playing.retain_mut(|session| {
            // A reader slower than the window is cut off, as an engine would.
            if session.cursor < store.tail() {
                return false;
            }
            let behind = usize::try_from(store.head() - session.cursor).unwrap_or(usize::MAX);
            let count = behind.min(PER_TICK);
            match rustix::fs::sendfile(&session.socket, store.file(), Some(&mut session.cursor), count) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => true,
                Err(_) => false,
            }
        });
        thread::sleep((TICK * (tick + 1)).saturating_sub(start.elapsed()));
    }
    Ok(())
}

/// Answers the requests of one connection until it closes or becomes a stream.
fn answer(mut socket: TcpStream, sessions: &Sender<TcpStream>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 2048];
            let read = socket.read(&mut piece)?;
            if read == 0 || buffer.len() > MAX_REQUEST {
                return Ok(());
            }
            buffer.extend_from_slice(&piece[..read]);
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let target = head.split(' ').nth(1).unwrap_or("/");
        if target.starts_with("/content/") {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n")?;
            sessions.send(socket).ok();
            return Ok(());
        }
        let body = body(target, &host(&head));
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        socket.write_all(answer.as_bytes())?;
    }
}

fn body(target: &str, host: &str) -> String {
    let parameter = |name: &str| {
        let (_, query) = target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    let response = match (target.split('?').next().unwrap_or("/"), parameter("method")) {
        ("/ace/getstream", _) => {
            // The infohash follows from the id, so different ids stay different streams.
            let id = parameter("infohash").or(parameter("id")).or(parameter("content_id")).unwrap_or("0");
            let infohash: String = id.chars().rev().filter(char::is_ascii_hexdigit).take(40).collect();
            let session = format!("{:0>40}", parameter("pid").unwrap_or("1").len());
            serde_json::json!({
                "playback_url": format!("http://{host}/content/{infohash}/0.1"),
                "stat_url": format!("http://{host}/ace/stat/{infohash}/1"),
                "command_url": format!("http://{host}/ace/cmd/{infohash}/1"),
                "infohash": infohash,
                "playback_session_id": session,
                "is_live": 1,
                "is_encrypted": 0,
                "client_session_id": -1,
            })
        }
        (path, _) if path.starts_with("/ace/cmd/") => serde_json::json!("ok"),
        (path, _) if path.starts_with("/ace/stat/") => {
            serde_json::json!({ "status": "dl", "peers": 9, "speed_down": 600, "speed_up": 0, "downloaded": 0 })
        }
        (_, Some("get_version")) => {
            let response = serde_json::json!({ "code": 3_021_100, "platform": "linux", "version": "3.2.11" });
            // This method alone answers with `result`.
            return serde_json::json!({ "result": response, "error": null }).to_string();
        }
        (_, Some("get_network_connection_status")) => {
            return serde_json::json!({ "result": { "connected": true }, "error": null }).to_string();
        }
        _ => serde_json::Value::Null,
    };
    serde_json::json!({ "response": response, "error": null }).to_string()
}

fn host(head: &str) -> String {
    let header = head.lines().find(|line| line.to_ascii_lowercase().starts_with("host:"));
    header.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, host)| host.trim().to_owned())
}
