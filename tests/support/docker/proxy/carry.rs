//! One connection: its requests to the daemon, the answers back.

use std::{
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::http::{Framing, Head},
    Act, Shared,
    body::{Source, framed, is_gone},
    route::route,
};

/// How often a held request looks whether it may go on.
const POLL: Duration = Duration::from_millis(5);

/// A request that is to be answered.
struct Asked {
    method: String,
    act: Option<(Act, u64)>,
}

/// Carries requests and answers until one end closes.
pub(super) fn carry(shared: &Shared, connection: u64, client: &UnixStream) -> io::Result<()> {
    let mut down = Source::new(client, None);
    let Some(mut bytes) = down.head()? else { return Ok(()) };
    // Without a daemon a request is counted all the same, and a fault may need none.
    let upstream = UnixStream::connect(&shared.upstream).ok();
    let mut up = upstream.as_ref().map(|stream| Source::new(stream, Some(client)));
    loop {
        let head = Head::parse(&bytes);
        let (method, target) = head.first.split_once(' ').unwrap_or(("", ""));
        let target = target.split(' ').next().unwrap_or("");
        let act = shared.called(connection, route(method, target), target);
        let asked = Asked { method: method.to_owned(), act };
        if let Some((Act::Hang, rule)) = asked.act {
            hold(client, || shared.is_lifted(rule))?;
        }
        let mut framing = head.request_framing();
        if let Some((Act::Answer(status, message), _)) = &asked.act {
            while down.part(&mut framing)?.is_some() {}
            refuse(client, *status, message)?;
        } else {
            let (Some(mut stream), Some(up)) = (upstream.as_ref(), up.as_mut()) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            stream.write_all(&bytes)?;
            while let Some(part) = down.part(&mut framing)? {
                stream.write_all(&framed(framing, &part))?;
            }
            if framing == Framing::Chunked {
                stream.write_all(b"0\r\n\r\n")?;
            }
            match answer(shared, client, up, &asked)? {
                Next::Request => {}
                Next::Tunnel => break,
                Next::End => return Ok(()),
            }
        }
        shared.answered(connection);
        match down.head()? {
            Some(next) => bytes = next,
            None => return Ok(()),
        }
    }
    match (upstream.as_ref(), up) {
        (Some(stream), Some(up)) => tunnel(client, stream, down.rest(), up.rest()),
        _ => Ok(()),
    }
}

/// What follows an answer.
enum Next {
    Request,
    /// No HTTP any more.
    Tunnel,
    End,
}

/// Carries one answer back.
fn answer(shared: &Shared, mut client: &UnixStream, up: &mut Source<'_>, asked: &Asked) -> io::Result<Next> {
    let (head, bytes) = loop {
        let bytes = up.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = Head::parse(&bytes);
        if head.status() != 100 {
            break (head, bytes);
        }
        client.write_all(&bytes)?;
    };
    match &asked.act {
        Some((Act::Delay(delay), _)) => {
            let until = Instant::now() + *delay;
            hold(client, || until <= Instant::now())?;
        }
        Some((Act::Lose, rule)) => hold(client, || shared.is_lifted(*rule))?,
        _ => {}
    }
    client.write_all(&bytes)?;
    if head.status() == 101 {
        return Ok(Next::Tunnel);
    }
    let mut framing = head.answer_framing(&asked.method);
    let (mut line, mut sent) = (Vec::new(), 0);
    while let Some(mut part) = up.part(&mut framing)? {
        match &asked.act {
            Some((Act::Swallow, _)) => continue,
            Some((Act::Duplicate, _)) => part = twice(&mut line, &part),
            Some((Act::Truncate(most), _)) if *most <= sent + part.len() => {
                part.truncate(most - sent);
                client.write_all(&framed(framing, &part))?;
                return Ok(Next::End);
            }
            _ => {}
        }
        sent += part.len();
        // An empty chunk would be the end.
        if !part.is_empty() {
            client.write_all(&framed(framing, &part))?;
        }
    }
    match framing {
        Framing::Chunked => client.write_all(b"0\r\n\r\n").map(|()| Next::Request),
        Framing::Length(_) => Ok(Next::Request),
        Framing::Close => Ok(Next::End),
    }
}

/// The whole lines of what has come, each twice; keeps the begun one.
fn twice(line: &mut Vec<u8>, part: &[u8]) -> Vec<u8> {
    let mut doubled = Vec::new();
    for &byte in part {
        line.push(byte);
        if byte == b'\n' {
            doubled.extend_from_slice(line);
            doubled.append(line);
        }
    }
    doubled
}

/// Waits; an error when the client has gone meanwhile.
fn hold(client: &UnixStream, is_over: impl Fn() -> bool) -> io::Result<()> {
    while !is_over() {
        if is_gone(client) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// An answer as the daemon gives it when it refuses.
fn refuse(mut client: &UnixStream, status: u16, message: &str) -> io::Result<()> {
    let body = serde_json::json!({ "message": message }).to_string() + "\n";
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Fault\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    client.write_all((head + &body).as_bytes())
}

/// Bytes both ways, until both have ended.
fn tunnel(client: &UnixStream, daemon: &UnixStream, up: Vec<u8>, down: Vec<u8>) -> io::Result<()> {
    let one_way = |mut from: &UnixStream, mut to: &UnixStream, ahead: Vec<u8>| {
        let copied = to.write_all(&ahead).and_then(|()| io::copy(&mut from, &mut to));
        to.shutdown(Shutdown::Write).ok();
        copied
    };
    thread::scope(|scope| {
        scope.spawn(|| one_way(client, daemon, up));
        one_way(daemon, client, down).map(drop)
    })
}
