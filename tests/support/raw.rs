//! Requests sent as they are, byte by byte if need be.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// For an answer that needs no engine.
const ANSWER: Duration = Duration::from_secs(3);

/// A connection that sends each write at once.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, ANSWER).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_write_timeout(Some(ANSWER)).unwrap();
    socket
}

/// Reads until the server closes or `limit` has passed; whether it closed.
pub(crate) fn read_all(socket: &mut TcpStream, limit: Duration) -> (Vec<u8>, bool) {
    let deadline = Instant::now() + limit;
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (bytes, false);
        }
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.read(&mut piece) {
            Ok(0) => return (bytes, true),
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return (bytes, true),
        }
    }
}

/// Sends `request` whole, and reads the answer until the server closes.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> (Vec<u8>, bool) {
    let mut socket = connect(address);
    // A server that refuses early may have closed before the last byte.
    socket.write_all(request).ok();
    read_all(&mut socket, ANSWER)
}

/// The status of the first answer in `bytes`; 0 when there is none.
pub(crate) fn status_of(bytes: &[u8]) -> u16 {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    text.strip_prefix("HTTP/1.").and_then(|l| l.get(2..5)?.parse().ok()).unwrap_or(0)
}

/// The status of the first answer that comes; 0 when none does.
pub(crate) fn first_status(socket: &mut TcpStream) -> u16 {
    let deadline = Instant::now() + ANSWER;
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while !bytes.contains(&b'\n') && Instant::now() < deadline {
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        match socket.read(&mut piece) {
            Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    status_of(&bytes)
}
