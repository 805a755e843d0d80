//! One exchange with an engine: a request, the head of the answer, its body.

use std::{io, net::SocketAddr, time::Duration};

use millrace_boundary::{Cause, Monotonic};
use serde_json::Value;

use super::{
    Failure,
    body::{Chunks, Framing},
    classify, clip,
};
use crate::rt::{AsyncReadRent, AsyncWriteRentExt, TcpStream, within};

/// A connection has to be accepted within this.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// An engine's response head may be this long.
pub(super) const HEAD_LIMIT: usize = 16 << 10;
/// An engine's JSON may be this long.
const JSON_LIMIT: usize = 1 << 20;
/// Read at a time before the stream flows.
const READ: usize = 16 << 10;

/// A response head, and the connection behind it.
pub(super) struct Answer {
    pub(super) socket: TcpStream,
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) framing: Framing,
    /// What was read beyond the head, framing included.
    pub(super) rest: Vec<u8>,
}

/// Sends a request and reads the head of the answer.
pub(super) async fn get(
    engine: SocketAddr,
    target: &str,
    body: Option<&str>,
    deadline: Monotonic,
) -> Result<Answer, Failure> {
    let socket = within(remaining(deadline).min(CONNECT_LIMIT), TcpStream::connect_addr(engine))
        .await
        .ok_or_else(|| Failure::new(Cause::EngineUnreachable, format!("engine {engine} does not accept")))?
        .map_err(|e| Failure::new(Cause::EngineUnreachable, format!("engine {engine}: {e}")))?;
    let request = request(engine, target, body, Keep::Closed);
    let exchange = async {
        let mut socket = socket;
        let (sent, _) = socket.write_all(request.into_bytes()).await;
        sent.map_err(|e| broken(&e))?;
        read_head(socket).await
    };
    within(remaining(deadline), exchange).await.ok_or_else(|| {
        Failure::new(Cause::EngineSilent, format!("engine {engine} does not answer in time"))
    })?
}

/// What is asked to become of the connection behind the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Its end is that of the answer.
    Closed,
    /// Another request may follow.
    Open,
}

pub(super) fn request(engine: SocketAddr, target: &str, body: Option<&str>, keep: Keep) -> String {
    let method = if body.is_some() { "POST" } else { "GET" };
    let connection = match keep {
        Keep::Closed => "close",
        Keep::Open => "keep-alive",
    };
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {engine}\r\nUser-Agent: VLC/3.0.21 LibVLC/3.0.21\r\n\
         Accept: */*\r\nAccept-Encoding: identity\r\nConnection: {connection}\r\n"
    );
    if let Some(body) = body {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or(""));
    request
}

async fn read_head(mut socket: TcpStream) -> Result<Answer, Failure> {
    let mut head = Vec::new();
    let mut buffer = Vec::with_capacity(READ);
    loop {
        let (read, returned) = socket.read(buffer).await;
        buffer = returned;
        let n = read.map_err(|e| broken(&e))?;
        if n == 0 {
            return Err(Failure::new(Cause::EngineError, "engine closes without an answer"));
        }
        head.extend_from_slice(&buffer[..n]);
        if let Some(Parsed { status, location, framing, len, .. }) = parse_head(&head)? {
            let rest = head.split_off(len);
            return Ok(Answer { socket, status, location, framing, rest });
        }
        if head.len() > HEAD_LIMIT {
            return Err(Failure::new(Cause::EngineError, "engine sends a head longer than 16 KiB"));
        }
    }
}

pub(super) struct Parsed {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) framing: Framing,
    /// Whether another request may follow, as far as the head tells.
    pub(super) keeps_open: bool,
    pub(super) len: usize,
}

pub(super) fn parse_head(head: &[u8]) -> Result<Option<Parsed>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    let malformed = |e: &dyn std::fmt::Display| {
        Failure::new(Cause::EngineError, format!("engine sends a malformed head: {e}"))
    };
    let len = match response.parse(head).map_err(|e| malformed(&e))? {
        httparse::Status::Complete(len) if len <= HEAD_LIMIT => len,
        httparse::Status::Complete(_) => return Err(malformed(&"longer than 16 KiB")),
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.ok_or_else(|| malformed(&"no status"))?;
    let value = |name: &str| {
        let header = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        header.and_then(|h| std::str::from_utf8(h.value).ok()).map(str::trim)
    };
    let chunked = value("Transfer-Encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
    let framing = match value("Content-Length") {
        _ if chunked => Framing::Chunked(Chunks::default()),
        // Some engines write nonsense. Such a connection is not used twice, so
        // its end tells where the body ends.
        Some(length) => length.parse().map_or(Framing::Close, Framing::Length),
        None => Framing::Close,
    };
    let connection = value("Connection").unwrap_or("").to_ascii_lowercase();
    let is_kept = match response.version {
        Some(1) => !connection.contains("close"),
        _ => connection.contains("keep-alive"),
    };
    let keeps_open = is_kept && !matches!(framing, Framing::Close);
    let location = value("Location").map(str::to_owned);
    Ok(Some(Parsed { status, location, framing, keeps_open, len }))
}

impl Answer {
    /// Reads once more into `rest`; nothing more at the end of the stream.
    pub(super) async fn read_more(&mut self, deadline: Monotonic) -> Result<usize, Failure> {
        let (read, buffer) = within(remaining(deadline), self.socket.read(Vec::with_capacity(READ)))
            .await
            .ok_or_else(|| Failure::new(Cause::EngineSilent, "engine sends a head and no data in time"))?;
        let n = read.map_err(|e| broken(&e))?;
        self.rest.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    /// The payload, up to the cap.
    async fn body(mut self, limit: usize, deadline: Monotonic) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let mut piece = std::mem::take(&mut self.rest);
            let unframed = self.framing.unframe(&mut piece);
            body.extend_from_slice(&piece[..unframed.payload]);
            if body.len() > limit {
                return Err(Failure::new(
                    Cause::EngineError,
                    format!("engine answers more than {limit} bytes"),
                ));
            }
            if unframed.broken {
                return Err(Failure::new(Cause::EngineError, "engine breaks its chunked framing"));
            }
            if unframed.ended || self.read_more(deadline).await? == 0 {
                return Ok(body);
            }
        }
    }

    pub(super) async fn json(self, deadline: Monotonic) -> Result<Value, Failure> {
        let status = self.status;
        let body = self.body(JSON_LIMIT, deadline).await?;
        serde_json::from_slice(&body).map_err(|_| {
            let text = String::from_utf8_lossy(&body);
            Failure::new(
                classify(&text, ""),
                format!("engine answers {status} without JSON: {}", clip(&text)),
            )
        })
    }

    /// The first of a short text; whatever fails is left out.
    pub(super) async fn text(self, deadline: Monotonic) -> String {
        let soon = deadline.min(Monotonic::now() + Duration::from_secs(1));
        let body = self.body(4 << 10, soon).await.unwrap_or_default();
        String::from_utf8_lossy(&body).into_owned()
    }
}

fn remaining(deadline: Monotonic) -> Duration {
    deadline.since(Monotonic::now())
}

pub(super) fn broken(error: &io::Error) -> Failure {
    Failure::new(Cause::EngineReset, format!("connection to the engine broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_or_refused() {
        let status =
            |text: &str| parse_head(text.as_bytes()).map(|p| p.map(|p| p.status)).map_err(|f| f.cause);
        for (text, outcome) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(Some(200))),
            ("HTTP/1.0 302\r\nLocation: /x\r\n\r\n", Ok(Some(302))),
            ("HTTP/1.1 200 OK\nA: b\n\n", Ok(Some(200))),
            ("HTTP/1.1 200 OK\r\n", Ok(None)),
            ("HTTP/1.1 200 OK\r\nHTTP/1.1 500 Internal Server Error\r\n\r\n", Err(Cause::EngineError)),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Ok(Some(200))),
            ("garbage", Err(Cause::EngineError)),
        ] {
            assert_eq!(status(text), outcome, "{text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(status(&many), Err(Cause::EngineError));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_as_a_head_get_a_verdict(bytes: Vec<u8>) {
            parse_head(&bytes).ok();
        }
    }
}
