//! One connection: requests by path, and what each is answered.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    Behaviour, PathKind, Profile,
    behaviour::{Accept, Ready, Urls},
    command,
    engine::Engine,
    http::{Conn, Request, answer, close_resets, head},
    play,
    session::{Ended, Session},
    start,
};

/// A client that still waits for a redirect's end after this reads its body.
const REDIRECT_PATIENCE: Duration = Duration::from_secs(2);
/// For a client to close after our FIN.
const LINGER: Duration = Duration::from_secs(5);

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Again,
    Close,
    Reset,
}

/// Serves a connection until it ends or its engine dies.
pub(crate) async fn connection(engine: Arc<Engine>, stream: TcpStream, peer: std::net::SocketAddr) {
    let stream = Arc::new(stream);
    let mut life = engine.life.subscribe();
    let born = life.borrow_and_update().generation;
    let mut work = Box::pin(serve(&engine, Conn::new(Arc::clone(&stream), peer)));
    let next = loop {
        // Nothing of a paused engine runs, its timers included.
        let paused = life.borrow_and_update().paused;
        tokio::select! {
            biased;
            changed = life.changed() => {
                if changed.is_err() || life.borrow().generation != born {
                    break Next::Reset;
                }
            }
            next = &mut work, if !paused => break next,
        }
    };
    if next == Next::Reset {
        close_resets(&stream);
    }
}

async fn serve(engine: &Engine, mut conn: Conn) -> Next {
    match engine.behaviour().accept {
        Accept::Serve | Accept::Hang => {}
        Accept::Refuse | Accept::Reset => return Next::Reset,
    }
    while let Some(request) = conn.request().await {
        match respond(engine, &mut conn, &request).await {
            Next::Again => {}
            Next::Close => {
                conn.finish();
                // Whoever does not close in time is closed.
                timeout(LINGER, conn.closed()).await.ok();
                return Next::Close;
            }
            Next::Reset => return Next::Reset,
        }
    }
    Next::Close
}

fn path_kind(path: &str) -> PathKind {
    match path {
        "/ace/getstream" => PathKind::Getstream,
        "/ace/manifest.m3u8" => PathKind::Manifest,
        "/webui/api/service" => PathKind::Service,
        "/server/api" | "/service/api" => PathKind::ServerApi,
        _ if path.starts_with("/ace/r/") => PathKind::Read,
        _ if path.starts_with("/content/") => PathKind::Content,
        _ if path.starts_with("/ace/stat/") => PathKind::Stat,
        _ if path.starts_with("/ace/cmd/") => PathKind::Command,
        _ => PathKind::Other,
    }
}

async fn respond(engine: &Engine, conn: &mut Conn, request: &Request) -> Next {
    let kind = path_kind(&request.path);
    count(engine, request, kind);
    let behaviour = engine.behaviour();
    if behaviour.accept == Accept::Hang {
        conn.closed().await;
        return Next::Close;
    }
    if behaviour.all_500 {
        return internal_error(engine, conn).await;
    }
    let mut parts =
        request.path.split('/').skip_while(|p| *p != "r" && *p != "content" && *p != "stat" && *p != "cmd");
    let (_, infohash, key) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match kind {
        PathKind::Getstream => start::start(engine, conn, request).await,
        PathKind::Read => read(engine, conn, request, infohash, key).await,
        PathKind::Content => content(engine, conn, request, infohash, key).await,
        PathKind::Stat => stat(engine, conn, request, infohash, key).await,
        PathKind::Command => command::command(engine, conn, request, infohash, key).await,
        PathKind::Service => service(engine, conn, request).await,
        PathKind::ServerApi => server_api(engine, conn, request).await,
        PathKind::Manifest | PathKind::Other => {
            let text = "Internal Server Error, couldn't find resource";
            send(engine, conn, &answer("500 Internal Server Error", "text/plain", text)).await
        }
    }
}

fn count(engine: &Engine, request: &Request, kind: PathKind) {
    let mut state = engine.state();
    *state.counters.requests.entry(kind).or_default() += 1;
    let misuse = &mut state.counters.misuse;
    misuse.head += u64::from(request.method == "HEAD");
    // Of a file a range may be had, which is known only when it is found.
    misuse.range += u64::from(request.header("range").is_some() && kind != PathKind::Content);
    let encodings = request.header("accept-encoding").unwrap_or("").to_ascii_lowercase();
    misuse.gzip += u64::from(encodings.contains("gzip"));
}

pub(crate) async fn send(engine: &Engine, conn: &Conn, bytes: &[u8]) -> Next {
    match conn.write_all(bytes, engine.timing.no_read).await {
        Ok(()) => Next::Again,
        Err(_) => Next::Close,
    }
}

pub(crate) async fn send_json(engine: &Engine, conn: &Conn, value: &Value) -> Next {
    send(engine, conn, &answer("200 OK", "application/json", &value.to_string())).await
}

pub(crate) async fn plain_500(engine: &Engine, conn: &Conn, text: &str) -> Next {
    send(engine, conn, &answer("500 Internal Server Error", "text/plain", text)).await
}

pub(crate) async fn internal_error(engine: &Engine, conn: &Conn) -> Next {
    plain_500(engine, conn, "Internal Server Error").await
}

/// Scheme and authority that URLs in answers begin with.
pub(crate) fn origin(conn: &Conn, request: &Request, behaviour: &Behaviour) -> String {
    match behaviour.urls {
        Urls::Fixed(origin) => origin.to_owned(),
        Urls::Asked => match (request.header("host"), conn.local()) {
            (Some(host), _) => format!("http://{host}"),
            (None, Some(local)) => format!("http://{local}"),
            (None, None) => "http://127.0.0.1:6878".to_owned(),
        },
    }
}

/// Sends a redirect the way the engine does: the body is announced by no
/// length and comes a little after the head, so that a client that reads it
/// can be told from one that hangs up.
pub(crate) async fn redirect(engine: &Engine, conn: &mut Conn, to: &str, held: bool) -> Next {
    let lines = format!("{}Location: {to}\r\nAccess-Control-Allow-Origin: *\r\n\r\n", head("302 Found"));
    if send(engine, conn, lines.as_bytes()).await == Next::Close {
        return Next::Close;
    }
    let pause = engine.timing.redirect_body;
    let waits = if held {
        let patience = REDIRECT_PATIENCE.min(engine.timing.redirect_hold);
        conn.wait(patience).await
    } else {
        if !conn.wait(pause).await {
            return Next::Close;
        }
        send(engine, conn, format!("Redirect to {to}").as_bytes()).await;
        if !conn.wait(4 * pause).await {
            return Next::Close;
        }
        conn.finish();
        // A client that closes with our bytes unread sends RST.
        timeout(LINGER, conn.closed()).await == Ok(true)
    };
    if waits {
        engine.state().counters.misuse.read_3xx_body += 1;
    }
    if held && waits {
        conn.wait(engine.timing.redirect_hold.saturating_sub(REDIRECT_PATIENCE)).await;
    }
    Next::Close
}

/// Keeps a session from expiring while a request for it is served.
pub(crate) struct Hold<'a> {
    engine: &'a Engine,
    number: u64,
}

impl<'a> Hold<'a> {
    pub(crate) fn new(engine: &'a Engine, session: &mut Session) -> Self {
        session.holders += 1;
        Self { engine, number: session.number }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.engine.state().session(self.number) {
            session.holders -= 1;
            session.last_active = Instant::now();
        }
    }
}

/// Holds until `ready`; false when the client left or the session ended.
async fn hold_until(conn: &mut Conn, ready: Option<Instant>, ended: &mut watch::Receiver<Ended>) -> bool {
    let ready = async {
        match ready {
            Some(ready) => tokio::time::sleep_until(ready).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = ended.changed() => false,
        _ = conn.closed() => false,
        () = ready => true,
    }
}

async fn read(engine: &Engine, conn: &mut Conn, request: &Request, infohash: &str, key: &str) -> Next {
    let now = Instant::now();
    let found = engine.state().find(engine, now, |s| s.infohash == infohash && s.key == key).map(|s| {
        (
            Hold::new(engine, s),
            s.behaviour.clone(),
            s.ready(),
            s.ready_at(&engine.timing),
            s.started,
            s.ticket.clone(),
            s.ended.subscribe(),
        )
    });
    let Some((_hold, behaviour, unready, ready, started, ticket, mut ended)) = found else {
        if engine.state().memory.is_replaced(infohash, key) {
            return send(engine, conn, &answer("403 Forbidden", "text/plain", "Forbidden")).await;
        }
        return plain_500(engine, conn, "download not found").await;
    };
    if behaviour.encrypted {
        return internal_error(engine, conn).await;
    }
    match unready {
        Ready::ErrorsFor(time) if now < started + time => {
            let seconds = (now - started).as_secs();
            let text = if seconds.is_multiple_of(2) { "start timeout" } else { "download not found" };
            return plain_500(engine, conn, text).await;
        }
        Ready::FailsAfter(time) | Ready::TimesOutAfter(time) => {
            let text =
                if matches!(unready, Ready::FailsAfter(_)) { "failed to start" } else { "start timeout" };
            if hold_until(conn, Some(started + time), &mut ended).await {
                return plain_500(engine, conn, text).await;
            }
            return Next::Close;
        }
        _ => {}
    }
    if !hold_until(conn, ready, &mut ended).await {
        return Next::Close;
    }
    let to = format!("{}/content/{infohash}/{ticket}", origin(conn, request, &behaviour));
    redirect(engine, conn, &to, behaviour.redirect_held).await
}

async fn content(engine: &Engine, conn: &mut Conn, request: &Request, infohash: &str, ticket: &str) -> Next {
    let found = engine
        .state()
        .find(engine, Instant::now(), |s| s.infohash == infohash && s.ticket == ticket)
        .map(|s| {
            let is_encrypted = s.behaviour.encrypted;
            (Hold::new(engine, s), s.number, is_encrypted, s.ready_at(&engine.timing), s.ended.subscribe())
        });
    let Some((_hold, number, is_encrypted, ready, mut ended)) = found else {
        return plain_500(engine, conn, "download not found").await;
    };
    if is_encrypted {
        return internal_error(engine, conn).await;
    }
    if !hold_until(conn, ready, &mut ended).await {
        return Next::Close;
    }
    let Some(reader) = play::Reader::take(engine, number) else {
        engine.state().counters.misuse.second_reader += 1;
        let twice = format!("HTTP/1.1 200 OK\r\n{}\r\n", head("200 OK"));
        send(engine, conn, twice.as_bytes()).await;
        return Next::Close;
    };
    reader.play(conn, request.header("range"), &mut ended).await
}

async fn stat(engine: &Engine, conn: &Conn, request: &Request, infohash: &str, key: &str) -> Next {
    let now = Instant::now();
    let value = {
        let mut state = engine.state();
        let newest =
            state.sessions.iter().rev().find(|s| s.infohash == infohash).map(|s| s.playback_id.clone());
        let session = state.find(engine, now, |s| s.infohash == infohash && s.key == key);
        session.map(|s| {
            if request.parameter("skip_player_activity") != Some("1") {
                s.last_active = now;
            }
            let profile = s.behaviour.profile.unwrap_or(engine.profile);
            let id = newest.filter(|_| profile == Profile::V3_2_11);
            let id = id.unwrap_or_else(|| s.playback_id.clone());
            json!({"response": s.stat(now, engine, &id), "error": null})
        })
    };
    send_json(engine, conn, &value.unwrap_or_else(unknown_session)).await
}

pub(crate) fn unknown_session() -> Value {
    json!({"response": null, "error": "unknown playback session id"})
}

fn version(engine: &Engine) -> Value {
    json!({"code": engine.profile.code(), "platform": "linux", "version": engine.profile.version()})
}

async fn service(engine: &Engine, conn: &mut Conn, request: &Request) -> Next {
    conn.wait(engine.timing.api).await;
    let value = match request.parameter("method") {
        Some("get_version") => {
            let mut result = version(engine);
            result["websocket_port"] = json!(45_123);
            json!({"result": result, "error": null})
        }
        _ => json!({"result": null, "error": "access denied"}),
    };
    match request.parameter("callback") {
        Some(call) if request.parameter("format") == Some("jsonp") => {
            let text = format!("{call}({value});");
            send(engine, conn, &answer("200 OK", "text/javascript", &text)).await
        }
        _ => send_json(engine, conn, &value).await,
    }
}

async fn server_api(engine: &Engine, conn: &mut Conn, request: &Request) -> Next {
    conn.wait(engine.timing.api).await;
    let result = match request.parameter("method") {
        Some("get_media_files") => start::media_files(engine, conn, request).await,
        Some("get_status") => Ok(json!({"playlist_loaded": true, "version": version(engine)})),
        Some("get_network_connection_status") => Ok(json!({"connected": true})),
        Some("get_api_access_token") if conn.peer.ip().is_loopback() => {
            Ok(json!({"token": crate::rng::forty_hex("token").repeat(2)[..64]}))
        }
        Some(_) => Err("unknown method"),
        None => Err("unknown protocol"),
    };
    let is_v3 = request.parameter("api_version") == Some("3");
    let value = match result {
        Ok(result) if is_v3 => json!({"result": result}),
        Ok(result) => json!({"result": result, "error": null}),
        Err(text) if is_v3 => json!({"error": {"message": text, "code": 0}}),
        Err(text) => json!({"result": null, "error": text}),
    };
    send_json(engine, conn, &value).await
}
