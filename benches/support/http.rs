//! Where a server listens, and what its API answers.

use std::{
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// The address in a start line: a JSON line of our own, a field of a JSON log
/// line at any depth, or `address=` in a text one.
pub(crate) fn address_in(line: &str) -> Option<SocketAddrV4> {
    let (_, rest) = line.split_once("address")?;
    let rest = rest.trim_start_matches(['"', '=', ':', ' ']).trim_start_matches("http://");
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// A blocking GET with a deadline; the body of a 200.
pub(crate) fn get(address: SocketAddrV4, path: &str) -> Result<String> {
    let limit = Duration::from_secs(5);
    let mut socket = TcpStream::connect_timeout(&address.into(), limit)?;
    socket.set_read_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(16 << 20).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "GET {path}: {}", head.lines().next().unwrap_or(""));
    Ok(body.to_owned())
}
