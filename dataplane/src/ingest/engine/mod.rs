//! One engine over HTTP: start, play, resolve, stop.
//!
//! An engine is not trusted: every wait has a limit, every answer a cap, and of
//! a URL only path and query are used.

mod body;
mod http;
mod pool;
mod stat;

use std::{net::SocketAddr, time::Duration};

use millrace_boundary::{Cause, Monotonic, Output};
use serde_json::Value;

use crate::{
    http::content::Content,
    rt::{TcpStream, sleep},
};

pub(super) use body::Framing;
use http::{Answer, get};
pub(super) use pool::{PROGRESS_LIMIT, Pool, Reply};
pub(super) use stat::{Stat, stat};

/// A path and query returned by an engine may be this long.
const PATH_LIMIT: usize = 4 << 10;
/// Redirects followed, each over a new connection: the body of a redirect may
/// never end.
const REDIRECTS: usize = 5;
/// An engine has this long to answer a command; the result of a stop is ignored.
const STOP_LIMIT: Duration = Duration::from_secs(3);

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
    /// Path and query of the transport stream, or of the playlist.
    pub(super) playback: String,
    /// Path and query for commands; absent on direct sources.
    pub(super) command: Option<String>,
    /// Path and query of the session's statistics; absent on direct sources.
    pub(super) stat: Option<String>,
    /// The swarm.
    pub(super) infohash: Option<String>,
    /// It goes on for ever; what is not live has an end of its own.
    pub(super) is_live: bool,
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
    output: Output,
    pid: &str,
    deadline: Monotonic,
) -> Result<Opened, Failure> {
    let path = match output {
        Output::Ts => "/ace/getstream",
        Output::Hls => "/ace/manifest.m3u8",
    };
    let target = format!("{path}?format=json&pid={pid}&{}", content.query);
    let target = target.trim_end_matches('&');
    let answer = get(engine, target, content.body.as_deref(), deadline).await?;
    if let Some(path) = answer.location.as_deref().filter(|_| (300..400).contains(&answer.status)) {
        // The wish for JSON was ignored: this is where a player would be sent.
        return redirected(path);
    }
    let json = answer.json(deadline).await?;
    opened(&json)
}

/// What a redirect instead of an answer tells: the playback, and by its parts
/// the addresses that belong to the same session.
fn redirected(location: &str) -> Result<Opened, Failure> {
    let playback = path_and_query(location)
        .ok_or_else(|| Failure::new(Cause::EngineError, "engine redirects without a usable location"))?;
    let of_list = || playback.strip_prefix("/ace/m/")?.strip_suffix(".m3u8");
    let session = playback.strip_prefix("/ace/r/").or_else(of_list);
    let session = session.filter(|rest| !rest.contains('?')).map(str::to_owned);
    let infohash = session.as_deref().and_then(|s| s.split('/').next());
    let infohash = infohash.filter(|h| h.len() == 40 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(Opened {
        infohash: infohash.map(str::to_ascii_lowercase),
        command: session.as_ref().map(|s| format!("/ace/cmd/{s}")),
        stat: session.as_ref().map(|s| format!("/ace/stat/{s}")),
        playback,
        is_live: true,
    })
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
        stat: field("stat_url").and_then(path_and_query),
        infohash: infohash.map(str::to_ascii_lowercase),
        is_live: json
            .pointer("/response/is_live")
            .is_none_or(|live| !matches!(live.to_string().as_str(), "0" | "\"0\"")),
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
        ("got newer download", Cause::SessionLost),
        ("unknown playback session id", Cause::SessionLost),
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
/// 500, or send an empty body: the last two are told to `refused` and asked
/// again.
pub(super) async fn play(
    engine: SocketAddr,
    path: &str,
    deadline: Monotonic,
    refused: impl Fn(&Failure),
) -> Result<Playback, Failure> {
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
        refused(&last);
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
            403 => return Err(Failure::new(Cause::SessionLost, "engine says 403: the session was replaced")),
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

/// Asks the engine to go on from another position of the broadcast, in seconds
/// since 1970, on the connection that is being read. Says whether it agrees.
pub(super) async fn seek(engine: SocketAddr, command: &str, position: u64) -> bool {
    let separator = if command.contains('?') { '&' } else { '?' };
    let target = format!("{command}{separator}method=liveseek&pos={position}");
    let deadline = Monotonic::now() + STOP_LIMIT;
    let Ok(answer) = get(engine, &target, None, deadline).await else { return false };
    let answer = answer.json(deadline).await;
    answer.is_ok_and(|json| json.get("error").is_none_or(Value::is_null))
}

/// Path and query of a URL, or of a path itself; `None` when it could not
/// stand in a request line.
pub(super) fn path_and_query(url: &str) -> Option<String> {
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
    fn a_redirect_instead_of_json_tells_the_whole_session() {
        let infohash = "dbbdffe5c552a4ef023dbaf223b789aad8ade1c5";
        let key = "eb870779edd88bbbf12b6cf678698ce2";
        for playback in [format!("/ace/r/{infohash}/{key}"), format!("/ace/m/{infohash}/{key}.m3u8")] {
            let opened = redirected(&format!("http://h:1{playback}")).unwrap();
            assert_eq!(opened.playback, playback);
            assert_eq!(opened.command, Some(format!("/ace/cmd/{infohash}/{key}")));
            assert_eq!(opened.stat, Some(format!("/ace/stat/{infohash}/{key}")));
            assert_eq!(opened.infohash.as_deref(), Some(infohash));
        }
        assert_eq!(redirected("/content/x").unwrap().command, None);
        assert!(redirected("mailto:x").is_err());
    }

    #[test]
    fn text_is_told_from_a_stream() {
        assert!(looks_like_text(b"<html><body>Internal Server Error</body></html>"));
        assert!(!looks_like_text(b"Gxxx"), "too short to tell");
        let mut packet = [b'G'; 188];
        packet[3] = 0x10;
        assert!(!looks_like_text(&packet));
    }
}
