//! Viewers: good ones, slow ones, stalled ones, and ones that vanish.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde_json::Value;

use super::server::{Answer, parse_answer};

/// Longest response head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Longest wait to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A raw connection that asked for a path.
pub(crate) struct Viewer {
    socket: TcpStream,
    /// Bytes of the body that came with the head.
    rest: Vec<u8>,
}

impl Viewer {
    /// Connects and sends GET for `path`; reads nothing yet.
    pub(crate) fn ask(address: SocketAddr, path: &str) -> io::Result<Self> {
        Self::send(TcpStream::connect_timeout(&address, CONNECT)?, address, path)
    }

    /// The same with a receive buffer of `bytes` (which the kernel doubles), so
    /// that not reading is felt by the server soon.
    pub(crate) fn ask_with_buffer(address: SocketAddr, path: &str, bytes: usize) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Before connecting: the window's scale is fixed by the SYN.
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(CONNECT))?;
        rustix::net::connect(&socket, &address)?;
        Self::send(TcpStream::from(socket), address, path)
    }

    /// A viewer that will never read: it asks and stalls, holding little itself.
    pub(crate) fn stalled(address: SocketAddr, path: &str) -> io::Result<Self> {
        Self::ask_with_buffer(address, path, 4 << 10)
    }

    /// A viewer that has closed its sending side and still reads.
    pub(crate) fn half_open(address: SocketAddr, path: &str) -> io::Result<Self> {
        let viewer = Self::ask(address, path)?;
        viewer.socket.shutdown(Shutdown::Write)?;
        Ok(viewer)
    }

    fn send(mut socket: TcpStream, address: SocketAddr, path: &str) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(CONNECT))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8 (test)\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        Ok(Self { socket, rest: Vec::new() })
    }

    /// Reads the response head: status, and headers by lower-case name.
    pub(crate) fn head(&mut self, limit: Duration) -> io::Result<(u16, Vec<(String, String)>)> {
        let deadline = Instant::now() + limit;
        let mut bytes = Vec::new();
        let at = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            let mut piece = [0; 4096];
            let read = self.read_some(&mut piece, deadline)?;
            if read == 0 || bytes.len() > MAX_HEAD {
                return Err(io::Error::new(ErrorKind::InvalidData, "no response head"));
            }
            bytes.extend_from_slice(&piece[..read]);
        };
        self.rest = bytes.split_off(at + 4);
        let invalid = || io::Error::new(ErrorKind::InvalidData, "not a response head");
        let head = String::from_utf8(bytes).map_err(|_| invalid())?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(invalid)?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Ok((status, headers.collect()))
    }

    /// Gives `push` what comes until `deadline` or the end: whether it was the end,
    /// and the longest time without a byte. A connection that breaks panics.
    pub(crate) fn read_until(&mut self, deadline: Instant, mut push: impl FnMut(&[u8])) -> (bool, Duration) {
        let mut piece = vec![0; 64 << 10];
        let (mut longest, mut latest) = (Duration::ZERO, Instant::now());
        loop {
            let outcome = self.read_some(&mut piece, deadline);
            longest = longest.max(latest.elapsed());
            latest = Instant::now();
            match outcome {
                Ok(0) => return (true, longest),
                Ok(read) => push(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::TimedOut => return (false, longest),
                Err(error) => panic!("broken instead of closed: {error}"),
            }
        }
    }

    /// Is refused within `limit` with this status and cause; the answer's head and
    /// what it says of the error.
    pub(crate) fn expect_refusal(&mut self, limit: Duration, status: u16, cause: &str) -> (Answer, Value) {
        let asked = Instant::now();
        let bytes = self.read_for(limit).unwrap();
        let took = asked.elapsed();
        let answer = parse_answer(&bytes).unwrap_or_else(|| panic!("no answer within {limit:?}"));
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = json["error"]["cause"].as_str().unwrap_or("");
        assert_eq!((answer.status, said), (status, cause), "after {took:?}: {json}");
        assert!(took < limit, "closed only after {took:?}");
        let error = json["error"].clone();
        (answer, error)
    }

    /// Reads exactly `count` bytes of the body.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closes before, `TimedOut` at the deadline.
    pub(crate) fn read_exact(&mut self, count: usize, limit: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.read_some(&mut bytes[filled..], deadline)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(bytes)
    }

    /// Reads all that comes within `span`; less when the server closes.
    pub(crate) fn read_for(&mut self, span: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + span;
        let mut bytes = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            match self.read_some(&mut piece, deadline) {
                Ok(0) => return Ok(bytes),
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(bytes),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads at most `bytes_per_second`, for `span`; returns the bytes read.
    pub(crate) fn read_slowly(&mut self, bytes_per_second: usize, span: Duration) -> io::Result<usize> {
        let start = Instant::now();
        let mut piece = vec![0; (bytes_per_second / 20).max(1)];
        let mut total = 0;
        while start.elapsed() < span {
            // The pace is the point here: the next read is due when the rate allows it.
            let due = Duration::from_secs_f64(total as f64 / bytes_per_second as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()).min(span));
            match self.read_some(&mut piece, start + span) {
                Ok(0) => break,
                Ok(read) => total += read,
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Whether the server closes or resets within `limit`; reads all until then.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut piece = vec![0; 64 << 10];
        loop {
            match self.read_some(&mut piece, deadline) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::TimedOut,
            }
        }
    }

    /// The socket, for what this type does not do.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads what there is, waiting for it until `deadline`; 0 when the server
    /// has closed.
    ///
    /// # Errors
    /// `TimedOut` at the deadline.
    pub(crate) fn read_some(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        if !self.rest.is_empty() {
            let count = self.rest.len().min(into.len());
            into[..count].copy_from_slice(&self.rest[..count]);
            self.rest.drain(..count);
            return Ok(count);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(into) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                result => return result,
            }
        }
    }
}
