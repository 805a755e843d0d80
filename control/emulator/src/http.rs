//! HTTP/1.1 on a raw socket: the faults need control of every byte.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::net::sockopt::set_socket_linger;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::wire::Style;

const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 16 * 1024 * 1024;
/// Bytes taken of a client that sends while it is being answered.
const MAX_AHEAD: usize = 64 * 1024;
/// For a whole request to come.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// One connection of a client.
pub(crate) struct Conn {
    stream: Arc<TcpStream>,
    pub(crate) peer: SocketAddr,
    /// What rewrites its answers.
    pub(crate) style: Style,
    read: Vec<u8>,
}

/// A request, read leniently.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As sent.
    pub(crate) target: String,
    pub(crate) path: String,
    /// Decoded names and values in order.
    pub(crate) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first value of a query parameter; an empty one is none.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Reads a head; missing parts are empty.
    fn parse(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split('\n').map(|l| l.trim_end_matches('\r'));
        let mut first = lines.next().unwrap_or("").split_ascii_whitespace();
        let method = first.next().unwrap_or("").to_owned();
        let target = first.next().unwrap_or("");
        // An absolute target is as good as a path.
        let target = match target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
            _ => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |p: &str| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            (decode(name), decode(value))
        };
        let headers = lines.filter_map(|l| l.split_once(':'));
        Self {
            method,
            target: target.to_owned(),
            path: decode(path),
            query: query.split('&').filter(|p| !p.is_empty()).map(pair).collect(),
            headers: headers.map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect(),
            body: Vec::new(),
        }
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (b, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(((high << 4 | low) & 0xff) as u8);
                bytes = ahead;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Conn {
    pub(crate) fn new(stream: Arc<TcpStream>, peer: SocketAddr) -> Self {
        // A refused option costs latency only.
        stream.set_nodelay(true).ok();
        Self { stream, peer, style: Style::default(), read: Vec::new() }
    }

    /// The next request, or none when the client has left, is too slow or
    /// sends too much.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        timeout(REQUEST_TIME, self.read_request()).await.ok().flatten()
    }

    async fn read_request(&mut self) -> Option<Request> {
        let mut searched = 0;
        let (head, body) = loop {
            let found = head_end(&self.read, searched);
            if let Some(end) = found {
                break end;
            }
            searched = self.read.len().saturating_sub(3);
            if self.read.len() > MAX_HEAD || self.fill().await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let mut request = Request::parse(&self.read[..head]);
        let length = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0usize);
        if length > MAX_BODY {
            return None;
        }
        while self.read.len() < body + length {
            if self.fill().await.unwrap_or(0) == 0 {
                return None;
            }
        }
        let rest = self.read.split_off(body + length);
        request.body = self.read.split_off(body);
        self.read = rest;
        Some(request)
    }

    /// Whether something of a next request is here.
    pub(crate) async fn has_more(&mut self) -> bool {
        !self.read.is_empty() || matches!(timeout(REQUEST_TIME, self.stream.readable()).await, Ok(Ok(())))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            let mut bytes = [0; 4096];
            match self.stream.try_read(&mut bytes) {
                Ok(n) => {
                    self.read.extend_from_slice(&bytes[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Resolves when the client has left: true with an orderly end, false with
    /// RST. What the client sends meanwhile is kept, up to a limit. May be
    /// dropped at any point without loss.
    pub(crate) async fn closed(&mut self) -> bool {
        loop {
            if self.read.len() > MAX_AHEAD {
                std::future::pending::<()>().await;
            }
            match self.fill().await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Waits for `time`; false when the client left before.
    pub(crate) async fn wait(&mut self, time: Duration) -> bool {
        self.wait_until(Instant::now() + time).await
    }

    /// Waits until `when`; false when the client left before.
    pub(crate) async fn wait_until(&mut self, when: Instant) -> bool {
        tokio::select! {
            _ = self.closed() => false,
            () = tokio::time::sleep_until(when) => true,
        }
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Writes all, unless the client takes nothing for `patience`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
        while !bytes.is_empty() {
            timeout(patience, self.writable()).await.map_err(|_| io::ErrorKind::TimedOut)??;
            bytes = &bytes[self.try_write(bytes)?..];
        }
        Ok(())
    }

    /// The port it came in on.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Sends FIN and keeps reading.
    pub(crate) fn finish(&self) {
        // The other end may be gone already.
        rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).ok();
    }
}

/// Makes the close of a connection an RST.
pub(crate) fn close_resets(stream: &TcpStream) {
    // Without the option the close is an orderly one: a weaker fault.
    set_socket_linger(stream, Some(Duration::ZERO)).ok();
}

/// Where the head ends and where the body begins.
fn head_end(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    bytes.iter().enumerate().skip(from).filter(|(_, b)| **b == b'\n').find_map(|(at, _)| {
        match (bytes.get(at + 1), bytes.get(at + 2)) {
            (Some(b'\n'), _) => Some((at, at + 2)),
            (Some(b'\r'), Some(b'\n')) => Some((at, at + 3)),
            _ => None,
        }
    })
}

/// The lines that every answer of the engine begins with.
pub(crate) fn head(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nServer: BaseHTTP/0.6 Python/3.10.12\r\nDate: {}\r\n", date())
}

/// A whole small answer.
pub(crate) fn answer(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "{}Content-Type: {content_type}\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: {}\r\n\r\n{body}",
        head(status),
        body.len()
    )
    .into_bytes()
}

fn date() -> String {
    date_at(SystemTime::now())
}

/// A time as HTTP writes it. Source: RFC 9110 §5.6.7.
pub(crate) fn date_at(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {} {year} {h:02}:{m:02}:{s:02} GMT", MONTHS[month])
}

/// Year, month from 0 and day from 1 of a day since 1970, by the Gregorian
/// calendar with years that begin in March.
fn civil(days: u64) -> (u64, usize, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = (march_month + 2) % 12;
    let in_new_year = u64::from(month < 2);
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    (era * 400 + year + in_new_year, usize::try_from(month).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_leniently() {
        for (head, method, path, parameter) in [
            ("GET /a?id=1 HTTP/1.1\r\nHost: x\r\n", "GET", "/a", Some("1")),
            ("GET http://h:1/a%20b?x=&id=a%26+b\n", "GET", "/a b", Some("a& b")),
            ("GET", "GET", "", None),
            ("", "", "", None),
            ("GET http://h HTTP/1.0", "GET", "/", None),
            ("GET /a?url=http://x/&id=2 HTTP/1.1", "GET", "/a", Some("2")),
            ("GET /%zz?%=% HTTP/1.1", "GET", "/%zz", None),
        ] {
            let r = Request::parse(head.as_bytes());
            assert_eq!(
                (r.method.as_str(), r.path.as_str(), r.parameter("id")),
                (method, path, parameter),
                "{head}"
            );
        }
    }

    #[test]
    fn heads_end_with_any_empty_line() {
        for (bytes, end) in [
            ("a\r\n\r\nb", Some((2, 5))),
            ("a\n\nb", Some((1, 3))),
            ("a\r\n\n", Some((2, 4))),
            ("a\r\n\r", None),
            ("a\n", None),
        ] {
            assert_eq!(head_end(bytes.as_bytes(), 0), end, "{bytes:?}");
        }
    }

    #[test]
    fn days_are_dates() {
        for (days, date) in
            [(0, (1970, 0, 1)), (59, (1970, 2, 1)), (19_782, (2024, 1, 29)), (20_454, (2026, 0, 1))]
        {
            assert_eq!(civil(days), date, "{days}");
        }
    }
}
