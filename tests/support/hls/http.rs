//! Requests over a connection that is kept, with deadlines.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Longest head.
const MAX_HEAD: usize = 32 << 10;
/// Longest body.
const MAX_BODY: usize = 256 << 20;

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A connection to a server, made when it is needed.
#[derive(Debug)]
pub(crate) struct Connection {
    address: SocketAddr,
    socket: Option<TcpStream>,
    buffer: Vec<u8>,
    /// Something of the present answer has come.
    is_answered: bool,
    /// How often it was made.
    pub(crate) opened: u64,
}

impl Connection {
    /// None yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, socket: None, buffer: Vec::new(), is_answered: false, opened: 0 }
    }

    /// Asks for `target`, or for some bytes of it, `(offset, length)`; an error
    /// is why there is no whole answer within `limit`.
    pub(crate) fn get(
        &mut self,
        target: &str,
        range: Option<(u64, u64)>,
        limit: Duration,
    ) -> Result<Answer, String> {
        let deadline = Instant::now() + limit;
        let range = range.map_or_else(String::new, |(offset, length)| {
            format!("Range: bytes={offset}-{}\r\n", offset.saturating_add(length).saturating_sub(1))
        });
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hls-validator\r\nAccept-Encoding: identity\r\n{range}\r\n",
            self.address
        );
        let was_open = self.socket.is_some();
        let answer = self.exchange(&request, deadline);
        match answer {
            // It was closed while nobody asked: not this request's fault.
            Err((true, _)) if was_open => self.exchange(&request, deadline),
            other => other,
        }
        .map_err(|(_, why)| why)
    }

    /// One attempt; an error says whether nothing had come yet.
    fn exchange(&mut self, request: &str, deadline: Instant) -> Result<Answer, (bool, String)> {
        self.is_answered = false;
        let answer = self.try_exchange(request, deadline);
        let is_kept = answer.as_ref().is_ok_and(|a| a.header("connection") != Some("close"));
        if !is_kept {
            self.socket = None;
            self.buffer.clear();
        }
        answer.map_err(|why| (!self.is_answered, why))
    }

    fn try_exchange(&mut self, request: &str, deadline: Instant) -> Result<Answer, String> {
        if self.socket.is_none() {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let socket = TcpStream::connect_timeout(&self.address, left).map_err(text)?;
            socket.set_nodelay(true).map_err(text)?;
            socket.set_write_timeout(Some(left)).map_err(text)?;
            self.socket = Some(socket);
            self.opened += 1;
        }
        let Some(socket) = &mut self.socket else { return Err("no connection".to_owned()) };
        socket.write_all(request.as_bytes()).map_err(text)?;
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if MAX_HEAD < self.buffer.len() || !self.more(deadline)? {
                return Err(format!("no head after {} bytes", self.buffer.len()));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let mut answer = parse_head(&head).ok_or("a head that is none")?;
        answer.body = self.body(&answer, deadline)?;
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer, deadline: Instant) -> Result<Vec<u8>, String> {
        if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return self.chunks(deadline);
        }
        if matches!(answer.status, 204 | 304) {
            return Ok(Vec::new());
        }
        match answer.header("content-length").map(str::parse) {
            Some(Ok(length)) => self.take(length, deadline),
            Some(Err(_)) => Err("a Content-Length that is none".to_owned()),
            None => {
                while self.more(deadline)? {}
                Ok(std::mem::take(&mut self.buffer))
            }
        }
    }

    /// Source: RFC 9112 §7.1.
    fn chunks(&mut self, deadline: Instant) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.line(deadline)?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| format!("a chunk of {line:?} bytes"))?;
            if size == 0 {
                while !self.line(deadline)?.is_empty() {}
                return Ok(body);
            }
            if MAX_BODY < body.len().saturating_add(size) {
                return Err("too long a body".to_owned());
            }
            body.extend(self.take(size, deadline)?);
            if !self.line(deadline)?.is_empty() {
                return Err("a chunk without an end".to_owned());
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String, String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).map_err(text);
            }
            if MAX_HEAD < self.buffer.len() || !self.more(deadline)? {
                return Err("a chunked body that breaks off".to_owned());
            }
        }
    }

    fn take(&mut self, length: usize, deadline: Instant) -> Result<Vec<u8>, String> {
        if MAX_BODY < length {
            return Err("too long a body".to_owned());
        }
        while self.buffer.len() < length {
            if !self.more(deadline)? {
                return Err(format!("closed after {} of {length} bytes", self.buffer.len()));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads some; false when the server has closed.
    fn more(&mut self, deadline: Instant) -> Result<bool, String> {
        let Some(socket) = &mut self.socket else { return Ok(false) };
        let mut piece = [0; 64 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("not there in time, {} bytes came", self.buffer.len()));
            }
            socket.set_read_timeout(Some(left)).map_err(text)?;
            match socket.read(&mut piece) {
                Ok(read) => {
                    self.buffer.extend_from_slice(piece.get(..read).unwrap_or(&[]));
                    self.is_answered |= read > 0;
                    return Ok(read > 0);
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(text(e)),
            }
        }
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn parse_head(head: &[u8]) -> Option<Answer> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines.map(|line| line.split_once(':'));
    let headers =
        headers.map(|h| h.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())));
    Some(Answer { status, headers: headers.collect::<Option<_>>()?, body: Vec::new() })
}

/// The path and query that `uri` means in the document at `base`, on the same
/// server. Source: RFC 3986 §5.2.
pub(crate) fn resolve(base: &str, uri: &str, address: SocketAddr) -> Option<String> {
    let uri = uri.split('#').next().unwrap_or("");
    if let Some(rest) = uri.strip_prefix("http://") {
        let rest = rest.strip_prefix(&address.to_string())?;
        return match rest.as_bytes().first() {
            Some(b'/') => Some(rest.to_owned()),
            None | Some(b'?') => Some(format!("/{rest}")),
            Some(_) => None,
        };
    }
    let has_scheme = uri.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
    if has_scheme || uri.starts_with("//") {
        return None;
    }
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let base = base.split('?').next().unwrap_or("");
    let whole = match path.as_bytes().first() {
        None => base.to_owned(),
        Some(b'/') => path.to_owned(),
        Some(_) => format!("{}/{path}", base.rsplit_once('/').map_or("", |(dir, _)| dir)),
    };
    let mut kept: Vec<&str> = Vec::new();
    for segment in whole.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    Some(format!("/{}{query}", kept.join("/")))
}
