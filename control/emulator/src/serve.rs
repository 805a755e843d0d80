//! One connection: requests by path, and what each is answered.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    Behaviour, PathKind, Profile,
    behaviour::{Accept, StatFault, Urls},
    command,
    distort::{Asked, distort},
    engine::Engine,
    events,
    gate::{Thread, gate},
    hls,
    http::{Conn, Request, answer, close_resets, head},
    play,
    ready::{Ready, hold_until, until_ready},
    service,
    session::{Output, Session},
    start, wire,
};

/// For a client to close after our FIN.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

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
        Accept::Serve | Accept::Hang | Accept::Backlog => {}
        Accept::Refuse | Accept::Reset => return Next::Reset,
    }
    let Some(_thread) = Thread::take(engine, &mut conn).await else { return Next::Close };
    let mut answered = false;
    loop {
        if answered && engine.behaviour().wire.closes_idle {
            conn.has_more().await;
            conn.finish();
            // What came is not read, so that RST follows FIN.
            return Next::Close;
        }
        let Some(request) = conn.request().await else { return Next::Close };
        let next = respond(engine, &mut conn, &request).await;
        answered = true;
        match next {
            Next::Again if !conn.style.closes() => {}
            Next::Again | Next::Close => {
                conn.finish();
                // Whoever does not close in time is closed.
                timeout(LINGER, conn.closed()).await.ok();
                return Next::Close;
            }
            Next::Reset => return Next::Reset,
        }
    }
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
        _ if path.starts_with("/ace/event/") => PathKind::Event,
        _ if path.starts_with("/ace/m/") || path.starts_with("/hls/m/") => PathKind::Playlist,
        _ if path.starts_with("/ace/c/") || path.starts_with("/hls/c/") => PathKind::Segment,
        _ => PathKind::Other,
    }
}

async fn respond(engine: &Engine, conn: &mut Conn, request: &Request) -> Next {
    let kind = path_kind(&request.path);
    count(engine, request, kind);
    // Second and third part of the path, after `/ace/stat` and its like.
    let at = if kind == PathKind::Content { 1 } else { 2 };
    let mut parts = request.path.split('/').skip(1 + at);
    let (infohash, key) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let behaviour = engine.behaviour();
    let playing = engine.state().set_for_session(engine, infohash);
    if let Some(next) = gate(engine, conn, kind, &behaviour, &playing).await {
        return next;
    }
    match kind {
        PathKind::Getstream => start::start(engine, conn, request, Output::Ts).await,
        PathKind::Manifest => start::start(engine, conn, request, Output::Hls).await,
        PathKind::Read => read(engine, conn, request, infohash, key).await,
        PathKind::Content => content(engine, conn, request, infohash, key).await,
        PathKind::Stat => stat(engine, conn, request, infohash, key).await,
        PathKind::Command => command::command(engine, conn, request, infohash, key).await,
        PathKind::Event => events::poll(engine, conn, infohash, key).await,
        PathKind::Playlist => hls::playlist(engine, conn, request, infohash, key).await,
        PathKind::Segment => hls::segment(engine, conn, request, infohash).await,
        PathKind::Service => service::service(engine, conn, request).await,
        PathKind::ServerApi => service::server_api(engine, conn, request).await,
        PathKind::Other => {
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
    let rewritten = conn.style.rewrite(bytes);
    match conn.write_all(rewritten.as_deref().unwrap_or(bytes), engine.timing.no_read).await {
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

pub(crate) async fn forbidden(engine: &Engine, conn: &Conn) -> Next {
    send(engine, conn, &answer("403 Forbidden", "text/plain", "Forbidden")).await
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

/// The session plays in the other format.
pub(crate) async fn other_output(engine: &Engine, conn: &Conn, behaviour: &Behaviour) -> Next {
    match behaviour.profile.unwrap_or(engine.profile) {
        Profile::V3_2_3 => forbidden(engine, conn).await,
        Profile::V3_2_11 => internal_error(engine, conn).await,
    }
}

/// There is no such session, or no longer.
pub(crate) async fn gone(engine: &Engine, conn: &Conn, infohash: &str, key: &str) -> Next {
    let is_replaced = engine.state().memory.is_replaced(infohash, key);
    match is_replaced {
        true => forbidden(engine, conn).await,
        false => plain_500(engine, conn, "download not found").await,
    }
}

async fn read(engine: &Engine, conn: &mut Conn, request: &Request, infohash: &str, key: &str) -> Next {
    let now = Instant::now();
    let found = engine
        .state()
        .find(engine, now, |s| s.infohash == infohash && s.key == key)
        .map(|s| (Hold::new(engine, s), s.output, s.ticket.clone(), Ready::of(s, &engine.timing)));
    let Some((_hold, output, ticket, ready)) = found else {
        return gone(engine, conn, infohash, key).await;
    };
    let behaviour = ready.behaviour.clone();
    if output != Output::Ts {
        return other_output(engine, conn, &behaviour).await;
    }
    // A playlist is to be had all the same.
    if behaviour.encrypted {
        return internal_error(engine, conn).await;
    }
    if let Some(next) = until_ready(engine, conn, ready).await {
        return next;
    }
    let to = format!("/content/{infohash}/{ticket}");
    wire::redirect(engine, conn, request, &behaviour, &to).await
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

async fn stat(engine: &Engine, conn: &mut Conn, request: &Request, infohash: &str, key: &str) -> Next {
    let clock_ahead = engine.behaviour().wire.clock_ahead;
    let now = Instant::now();
    let told = {
        let mut state = engine.state();
        let newest =
            state.sessions.iter().rev().find(|s| s.infohash == infohash).map(|s| s.playback_id.clone());
        let session = state.find(engine, now, |s| s.infohash == infohash && s.key == key && s.is_known(now));
        session.map(|s| {
            if request.parameter("skip_player_activity") != Some("1") && s.lives_by_stat() {
                s.last_active = now;
            }
            let profile = s.behaviour.profile.unwrap_or(engine.profile);
            let id = newest.filter(|_| profile == Profile::V3_2_11);
            let id = id.unwrap_or_else(|| s.playback_id.clone());
            let mut stat = s.stat(now, engine, &id);
            let fault = s.behaviour.stat;
            distort(&mut stat, fault, Asked { age: now - s.started, clock_ahead });
            (fault, json!({"response": stat, "error": null}))
        })
    };
    let (fault, value) = told.unwrap_or_else(|| (StatFault::None, unknown_session()));
    match fault {
        StatFault::Hang => {
            conn.closed().await;
            return Next::Close;
        }
        StatFault::Error => return internal_error(engine, conn).await,
        StatFault::Slow(time) if !conn.wait(time).await => return Next::Close,
        _ => {}
    }
    send_json(engine, conn, &value).await
}

pub(crate) fn unknown_session() -> Value {
    json!({"response": null, "error": "unknown playback session id"})
}
