//! HLS: playlists and segments of a session.

mod cuts;
mod feed;
mod list;
mod segment;

use tokio::time::Instant;

use crate::{
    behaviour::{HlsFault, NotReady},
    engine::Engine,
    http::{Conn, Request, answer},
    ready::{Ready, until_ready},
    serve::{Hold, Next, forbidden, gone, internal_error, origin, other_output, plain_500, send},
    session::Output,
};

use cuts::Show;
pub(crate) use segment::segment;

/// `Content-Type` of playlists.
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

/// A rendition of the programme, by its name in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rendition {
    /// The only one, or one of several: each has half the rate of the one before.
    Variant(u32),
    /// Without video.
    Audio,
}

/// Renditions with video.
const VARIANTS: u32 = 3;

impl Rendition {
    fn named(name: &str) -> Option<Self> {
        match name {
            "audio" => Some(Self::Audio),
            _ => name.parse().ok().filter(|&v| v < VARIANTS).map(Self::Variant),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Variant(v) => v.to_string(),
            Self::Audio => "audio".to_owned(),
        }
    }

    /// The variant whose bytes it is made of.
    fn variant(self) -> u32 {
        match self {
            Self::Variant(v) => v,
            Self::Audio => VARIANTS - 1,
        }
    }
}

/// `/ace/m/<infohash>/<key>.m3u8`, and `/hls/m/<infohash>/<key>/<rendition>.m3u8`.
pub(crate) async fn playlist(
    engine: &Engine,
    conn: &mut Conn,
    request: &Request,
    infohash: &str,
    key: &str,
) -> Next {
    let now = Instant::now();
    let key = key.strip_suffix(".m3u8").unwrap_or(key);
    let found = engine.state().find(engine, now, |s| s.infohash == infohash && s.key == key).map(|s| {
        // Where only segments count, a playlist holds nothing.
        let hold = s.lives_by_stat().then(|| Hold::new(engine, s));
        (hold, s.number, s.output, Ready::of(s, &engine.timing))
    });
    let Some((_hold, number, output, ready)) = found else {
        return gone(engine, conn, infohash, key).await;
    };
    if output != Output::Hls {
        return other_output(engine, conn, &ready.behaviour).await;
    }
    let (fault, started) = (ready.behaviour.hls, ready.started);
    let origin = origin(conn, request, &ready.behaviour);
    if let Some(next) = until_ready(engine, conn, ready).await {
        return next;
    }
    match fault {
        HlsFault::Forbidden(from) if started + from <= now => return forbidden(engine, conn).await,
        HlsFault::NotReady(kind, time) if now < started + time => match kind {
            NotReady::Held if conn.wait_until(started + time).await => {}
            NotReady::Held => return Next::Close,
            NotReady::Error => return plain_500(engine, conn, "start timeout").await,
            NotReady::NoPlaylist => return send_list(engine, conn, "Loading, please wait\n").await,
            NotReady::NoSegments => return send_list(engine, conn, &list::empty()).await,
        },
        _ => {}
    }
    if !conn.wait(engine.slowed(engine.timing.api)).await {
        return Next::Close;
    }
    let edge = engine.edge(number);
    let shown = engine.state().session(number).map(|s| Show::of(s, engine, 0));
    // It may have ended while it was waited for.
    let Some(show) = shown else { return internal_error(engine, conn).await };
    let name = request.path.rsplit('/').next().and_then(|n| n.strip_suffix(".m3u8")).unwrap_or("");
    let text = match request.path.starts_with("/hls/") {
        false if fault == HlsFault::Master => list::master(&origin, infohash, key, show.feed()),
        false => show.playlist(edge, |n| format!("/ace/c/{infohash}/{n}.ts"), &origin),
        true => {
            let Some(rendition) = Rendition::named(name) else {
                return plain_500(engine, conn, "download not found").await;
            };
            let show = engine.state().session(number).map(|s| Show::of(s, engine, rendition.variant()));
            let Some(show) = show else { return internal_error(engine, conn).await };
            show.playlist(edge, |n| format!("/hls/c/{infohash}/{}/{n}.ts", rendition.name()), "")
        }
    };
    send_list(engine, conn, &text).await
}

async fn send_list(engine: &Engine, conn: &Conn, text: &str) -> Next {
    send(engine, conn, &answer("200 OK", PLAYLIST_TYPE, text)).await
}
