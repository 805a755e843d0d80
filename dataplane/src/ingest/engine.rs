//! One engine over HTTP: start, play, resolve, stop.
//!
//! An engine is not trusted: every wait has a limit, every answer a cap, and of
//! a URL only path and query are used.

use std::{io, net::SocketAddr, time::Duration};

use millrace_boundary::{Cause, Monotonic};
use serde_json::Value;

use super::body::{Chunks, Framing};
use crate::{
    http::content::Content,
    rt::{AsyncReadRent, AsyncWriteRentExt, TcpStream, sleep, within},
};

/// A connection has to be accepted within this.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// An engine's response head may be this long.
const HEAD_LIMIT: usize = 16 << 10;
/// An engine's JSON may be this long.
const JSON_LIMIT: usize = 1 << 20;
/// A path and query returned by an engine may be this long.
const PATH_LIMIT: usize = 4 << 10;
/// Redirects followed, each over a new connection: the body of a redirect may
/// never end.
const REDIRECTS: usize = 5;
/// An engine has this long to answer a stop; the result is ignored.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Read at a time before the stream flows.
const READ: usize = 16 << 10;

/// Why something asked of an engine failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

/// A session that an engine has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Path and query of the transport stream.
    pub(super) playback: String,
    /// Path and query for commands; absent on direct sources.
    pub(super) command: Option<String>,
    /// The swarm.
    pub(super) infohash: Option<String>,
}

/// A transport stream about to flow.
pub(super) struct Playback {
    pub(super) socket: TcpStream,
    pub(super) framing: Framing,
    /// What came with the response head; never empty.
    pub(super) first: Vec<u8>,
}

/// Asks for `content` as the player `pid`.
pub(super) async fn start(
    engine: SocketAddr,
    content: &Content,
    pid: &str,
    deadline: Monotonic,
) -> Result<Opened, Failure> {
    let target = format!("/ace/getstream?format=json&pid={pid}&{}", content.query);
    let target = target.trim_end_matches('&');
    let answer = get(engine, target, content.body.as_deref(), deadline).await?;
    let json = answer.json(deadline).await?;
    opened(&json)
}

/// What the answer to a start says.
fn opened(json: &Value) -> Result<Opened, Failure> {
    if let Some(error) = json.get("error").filter(|e| !e.is_null()) {
        let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
        let reason = json.pointer("/extra_data/reason").and_then(Value::as_str).unwrap_or("");
        return Err(Failure::new(classify(&text, reason), format!("engine says: {}", clip(&text))));
    }
    let field = |name: &str| json.pointer(&format!("/response/{name}")).and_then(Value::as_str);
    let playback = field("playback_url")
        .and_then(path_and_query)
        .ok_or_else(|| Failure::new(Cause::EngineError, "engine answers without a playback URL"))?;
    let infohash = field("infohash").filter(|h| h.len() == 40 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(Opened {
        playback,
        command: field("command_url").and_then(path_and_query),
        infohash: infohash.map(str::to_ascii_lowercase),
    })
}

/// The cause behind an engine's error text.
fn classify(text: &str, reason: &str) -> Cause {
    const WORDS: &[(&str, Cause)] = &[
        ("failed to load content", Cause::ContentUnavailable),
        ("cannot get transport file", Cause::ContentUnavailable),
        ("cannot load transport file", Cause::ContentUnavailable),
        ("bad bencoded data", Cause::ContentUnavailable),
        ("failed to get manifest", Cause::ContentUnavailable),
        ("missing_option", Cause::ContentRestricted),
        ("premium", Cause::ContentRestricted),
        ("activate", Cause::ContentRestricted),
        ("subscription", Cause::ContentRestricted),
        ("start timeout", Cause::StartFailed),
        ("failed to start", Cause::StartFailed),
        ("download not found", Cause::StartFailed),
        ("got newer download", Cause::StartFailed),
        ("unknown playback session id", Cause::StartFailed),
    ];
    let text = text.to_ascii_lowercase();
    WORDS
        .iter()
        .find(|(words, _)| text.contains(words) || reason.contains(words))
        .map_or(Cause::EngineError, |(_, cause)| *cause)
}

/// The infohash of a content id, without opening a session; `None` when the
/// engine cannot tell.
pub(super) async fn resolve(engine: SocketAddr, id: &str, deadline: Monotonic) -> Option<String> {
    let target = format!("/server/api?api_version=3&method=get_media_files&content_id={id}");
    let json = get(engine, &target, None, deadline).await.ok()?.json(deadline).await.ok()?;
    let infohash = json.pointer("/result/infohash")?.as_str()?;
    (infohash.len() == 40 && infohash.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| infohash.to_ascii_lowercase())
}

/// Opens the transport stream behind `path`, waiting through prebuffering.
///
/// An engine that is not ready may hold the request without a header, answer
/// 500, or send an empty body: the last two are asked again.
pub(super) async fn play(engine: SocketAddr, path: &str, deadline: Monotonic) -> Result<Playback, Failure> {
    let mut pause = Duration::from_millis(500);
    loop {
        let last = match open(engine, path, deadline).await {
            Ok(Some(playback)) => return Ok(playback),
            Ok(None) => Failure::new(Cause::StartFailed, "engine sends an empty stream"),
            Err(failure)
                if failure.cause == Cause::StartFailed && !failure.detail.contains("failed to start") =>
            {
                failure
            }
            Err(failure) => return Err(failure),
        };
        if Monotonic::now() + pause >= deadline {
            return Err(last);
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(4));
    }
}

async fn open(engine: SocketAddr, path: &str, deadline: Monotonic) -> Result<Option<Playback>, Failure> {
    let mut path = path.to_owned();
    for _ in 0..=REDIRECTS {
        let mut answer = get(engine, &path, None, deadline).await?;
        match answer.status {
            200 => {
                if answer.rest.is_empty() {
                    answer.read_more(deadline).await?;
                }
                if looks_like_text(&answer.rest) {
                    return Err(Failure::new(
                        Cause::NotTransportStream,
                        "engine sends text instead of a stream",
                    ));
                }
                let Answer { socket, framing, rest, .. } = answer;
                return Ok((!rest.is_empty()).then_some(Playback { socket, framing, first: rest }));
            }
            301 | 302 | 303 | 307 | 308 => {
                path = answer.location.as_deref().and_then(path_and_query).ok_or_else(|| {
                    Failure::new(Cause::EngineError, "engine redirects without a usable location")
                })?;
            }
            403 => return Err(Failure::new(Cause::StartFailed, "engine says 403: the session was replaced")),
            status => {
                let text = answer.text(deadline).await;
                return Err(Failure::new(
                    classify(&text, ""),
                    format!("engine answers {status}: {}", clip(&text)),
                ));
            }
        }
    }
    Err(Failure::new(Cause::EngineError, format!("engine redirects more than {REDIRECTS} times")))
}

/// Tells the engine to stop a session.
pub(super) async fn stop(engine: SocketAddr, command: &str) {
    let separator = if command.contains('?') { '&' } else { '?' };
    let target = format!("{command}{separator}method=stop");
    let deadline = Monotonic::now() + STOP_LIMIT;
    if let Err(failure) = get(engine, &target, None, deadline).await {
        tracing::debug!(%engine, detail = failure.detail, "stop not confirmed");
    }
}

/// A response head, and the connection behind it.
struct Answer {
    socket: TcpStream,
    status: u16,
    location: Option<String>,
    framing: Framing,
    /// What was read beyond the head, framing included.
    rest: Vec<u8>,
}

async fn get(
    engine: SocketAddr,
    target: &str,
    body: Option<&str>,
    deadline: Monotonic,
) -> Result<Answer, Failure> {
    let socket = within(remaining(deadline).min(CONNECT_LIMIT), TcpStream::connect_addr(engine))
        .await
        .ok_or_else(|| Failure::new(Cause::EngineUnreachable, format!("engine {engine} does not accept")))?
        .map_err(|e| Failure::new(Cause::EngineUnreachable, format!("engine {engine}: {e}")))?;
    let request = request(engine, target, body);
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

fn request(engine: SocketAddr, target: &str, body: Option<&str>) -> String {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {engine}\r\nUser-Agent: VLC/3.0.21 LibVLC/3.0.21\r\n\
         Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
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
        if let Some(Parsed { status, location, framing, len }) = parse_head(&head)? {
            let rest = head.split_off(len);
            return Ok(Answer { socket, status, location, framing, rest });
        }
        if head.len() > HEAD_LIMIT {
            return Err(Failure::new(Cause::EngineError, "engine sends a head longer than 16 KiB"));
        }
    }
}

struct Parsed {
    status: u16,
    location: Option<String>,
    framing: Framing,
    len: usize,
}

fn parse_head(head: &[u8]) -> Result<Option<Parsed>, Failure> {
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
        Some(length) => Framing::Length(length.parse().map_err(|_| malformed(&"Content-Length"))?),
        None => Framing::Close,
    };
    let location = value("Location").map(str::to_owned);
    Ok(Some(Parsed { status, location, framing, len }))
}

impl Answer {
    /// Reads once more into `rest`; nothing more at the end of the stream.
    async fn read_more(&mut self, deadline: Monotonic) -> Result<usize, Failure> {
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

    async fn json(self, deadline: Monotonic) -> Result<Value, Failure> {
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
    async fn text(self, deadline: Monotonic) -> String {
        let soon = deadline.min(Monotonic::now() + Duration::from_secs(1));
        let body = self.body(4 << 10, soon).await.unwrap_or_default();
        String::from_utf8_lossy(&body).into_owned()
    }
}

/// Path and query of a URL, or of a path itself; `None` when it could not
/// stand in a request line.
fn path_and_query(url: &str) -> Option<String> {
    let path = match url.find("://") {
        Some(scheme) => {
            let rest = &url[scheme + 3..];
            &rest[rest.find('/')?..]
        }
        None => url,
    };
    let fits =
        path.starts_with('/') && path.len() <= PATH_LIMIT && path.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| path.to_owned())
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(512)];
    start.len() >= 32 && start.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

pub(super) fn remaining(deadline: Monotonic) -> Duration {
    deadline.since(Monotonic::now())
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Cause::EngineReset, format!("connection to the engine broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_path_and_query_of_a_url_are_used() {
        for (url, path) in [
            ("http://172.30.0.7:6878/ace/r/a/b", Some("/ace/r/a/b")),
            ("https://evil.example/x?y=1", Some("/x?y=1")),
            ("/ace/r/a", Some("/ace/r/a")),
            ("http://host", None),
            ("ace/r", None),
            ("/a b", None),
            ("/a\r\nX: y", None),
            ("", None),
        ] {
            assert_eq!(path_and_query(url).as_deref(), path, "{url}");
        }
    }

    #[test]
    fn an_answer_to_start_is_read_leniently() {
        let parse = |text: &str| {
            opened(&serde_json::from_str(text).unwrap())
                .map(|o| (o.playback, o.command, o.infohash))
                .map_err(|f| f.cause)
        };
        let h = "DBBDFFE5C552A4EF023DBAF223B789AAD8ADE1C5";
        for (text, outcome) in [
            (
                format!(
                    r#"{{"response":{{"playback_url":"http://x/p","command_url":"http://x/c","infohash":"{h}"}},"error":null}}"#
                ),
                Ok(("/p".into(), Some("/c".into()), Some(h.to_ascii_lowercase()))),
            ),
            (r#"{"response":{"playback_url":"http://x/p"}}"#.into(), Ok(("/p".into(), None, None))),
            (r#"{"response":{},"error":null}"#.into(), Err(Cause::EngineError)),
            (r#"{"response":null,"error":"failed to load content"}"#.into(), Err(Cause::ContentUnavailable)),
            (
                r#"{"response":null,"error":"x","extra_data":{"reason":"missing_option"}}"#.into(),
                Err(Cause::ContentRestricted),
            ),
            (r#"{"response":null,"error":{"code":1}}"#.into(), Err(Cause::EngineError)),
            (r#"{"response":null,"error":"mod_detected"}"#.into(), Err(Cause::EngineError)),
            (r#"[1,2]"#.into(), Err(Cause::EngineError)),
            (r#"null"#.into(), Err(Cause::EngineError)),
            (r#"{"response":{"playback_url":7}}"#.into(), Err(Cause::EngineError)),
        ] {
            assert_eq!(parse(&text), outcome, "{text}");
        }
    }

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
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Err(Cause::EngineError)),
            ("garbage", Err(Cause::EngineError)),
        ] {
            assert_eq!(status(text), outcome, "{text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(status(&many), Err(Cause::EngineError));
    }

    #[test]
    fn text_is_told_from_a_stream() {
        assert!(looks_like_text(b"<html><body>Internal Server Error</body></html>"));
        assert!(!looks_like_text(b"Gxxx"), "too short to tell");
        let mut packet = [b'G'; 188];
        packet[3] = 0x10;
        assert!(!looks_like_text(&packet));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_as_a_head_get_a_verdict(bytes: Vec<u8>) {
            parse_head(&bytes).ok();
        }
    }
}
