//! HTTP as the Engine speaks it on its socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use super::daemon::LIMIT;

/// What the Engine answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Asks and reads the whole answer. HTTP/1.0, so that the end of the connection
/// is the end of the body.
pub(super) fn ask(socket: &Path, method: &str, target: &str, body: Option<&str>) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let body = body.unwrap_or("");
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("{method} {target}: not HTTP"));
    let end = head_end(&answer).ok_or_else(odd)?;
    let head = Head::parse(&answer[..end]);
    let status = head.first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(odd)?;
    Ok(Answer { status, body: answer.split_off(end) })
}

/// Where the body begins, when the head is whole.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// The head of a request or an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) first: String,
    headers: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    Close,
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or("").to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect();
        Self { first, headers }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// How the body of a request ends.
    pub(super) fn request_framing(&self) -> Framing {
        match self.framing() {
            Framing::Close => Framing::Length(0),
            framing => framing,
        }
    }

    /// How the body of an answer to `method` ends.
    pub(super) fn answer_framing(&self, method: &str) -> Framing {
        match self.status() {
            _ if method == "HEAD" => Framing::Length(0),
            100..=199 | 204 | 304 => Framing::Length(0),
            _ => self.framing(),
        }
    }

    fn framing(&self) -> Framing {
        if self.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        self.header("content-length").and_then(|v| v.parse().ok()).map_or(Framing::Close, Framing::Length)
    }

    /// Status of an answer; zero when it has none.
    pub(super) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}
