//! One look at an engine, for `check`.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Long enough for a slow VPN, short enough for somebody who watches.
const LIMIT: Duration = Duration::from_secs(2);

/// An answer is a line of JSON; what is longer is not an engine's.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Asks an engine for its version.
///
/// # Errors
/// When it cannot be reached within [`LIMIT`], or does not answer as an engine.
pub(crate) fn version(address: SocketAddr) -> io::Result<String> {
    let deadline = Instant::now() + LIMIT;
    let mut socket = TcpStream::connect_timeout(&address, LIMIT)?;
    socket.set_write_timeout(Some(LIMIT))?;
    // In one piece: some servers take the first packet for the whole request.
    let request = format!(
        "GET /webui/api/service?method=get_version HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // Each byte may come late, the whole may not.
    while answer.len() < MAX_ANSWER_BYTES {
        if let Some(version) = version_in(&answer) {
            return Ok(version);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it does not answer like an AceStream engine"))
}

/// `result.version` of a whole answer. From brace to brace, so that neither
/// framing nor the header fields matter.
fn version_in(answer: &[u8]) -> Option<String> {
    let first = answer.iter().position(|b| *b == b'{')?;
    let last = answer.iter().rposition(|b| *b == b'}')?;
    let json: serde_json::Value = serde_json::from_slice(answer.get(first..=last)?).ok()?;
    let version = json.get("result")?.get("version")?.as_str()?;
    // It goes to a terminal.
    Some(version.chars().filter(|c| !c.is_control()).take(40).collect())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn the_version_is_found_in_any_framing_and_nonsense_is_refused() {
        let json =
            r#"{"result": {"platform": "linux", "version": "3.2.11", "code": 3021100}, "error": null}"#;
        for (name, answer, version) in [
            (
                "a body by length",
                format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{json}"),
                Some("3.2.11"),
            ),
            ("a chunk", format!("HTTP/1.1 200 OK\r\n\r\n51\r\n{json}\r\n0\r\n\r\n"), Some("3.2.11")),
            ("an error", "HTTP/1.1 200 OK\r\n\r\n{\"result\":null,\"error\":\"x\"}".into(), None),
            ("another server", "HTTP/1.1 404 Not Found\r\n\r\n<html>".into(), None),
            ("nothing", String::new(), None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut head = [0; 1024];
                assert!(socket.read(&mut head).unwrap() > 0);
                socket.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(super::version(address).ok().as_deref(), version, "{name}");
            server.join().unwrap();
        }
    }

    #[test]
    fn an_engine_that_never_answers_is_left_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = Instant::now();
        let error = version(listener.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(asked.elapsed() < LIMIT + Duration::from_secs(1));
    }
}
