//! Segments over the wire.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{
    Rendition,
    cuts::{Found, Piece, Show},
    feed::Feed,
};
use crate::{
    behaviour::{HlsFault, Missing},
    engine::Engine,
    http::{Conn, Request, answer, head},
    serve::{Hold, Next, internal_error, plain_500, send},
    session::{Ended, Output},
    signed::VIDEO_PID,
    wire::redirect,
};

/// Bytes of one write.
const PIECE: u64 = 64 * 1024;
/// Bytes of a packet that a short segment still sends.
const CUT_IN_PACKET: usize = 100;
const PACKET: usize = 188;

/// `/ace/c/<infohash>/<number>.ts`, and `/hls/c/<infohash>/<rendition>/<number>.ts`.
pub(crate) async fn segment(engine: &Engine, conn: &mut Conn, request: &Request, infohash: &str) -> Next {
    let now = Instant::now();
    let (before, last) = request.path.rsplit_once('/').unwrap_or(("", ""));
    let rendition = match before.starts_with("/hls/") {
        false => Some(Rendition::Variant(0)),
        true => Rendition::named(before.rsplit('/').next().unwrap_or("")),
    };
    let number = last.strip_suffix(".ts").and_then(|n| n.parse::<u64>().ok());
    let (Some(rendition), Some(number)) = (rendition, number) else {
        return plain_500(engine, conn, "download not found").await;
    };
    // A segment's address has no key: the newest session of the content counts.
    let newest = {
        let state = engine.state();
        let is_it = |s: &&crate::session::Session| s.infohash == infohash && s.output == Output::Hls;
        state.sessions.iter().rev().find(is_it).map(|s| s.number)
    };
    let found = newest.and_then(|newest| {
        engine.state().find(engine, now, |s| s.number == newest).map(|s| {
            let is_ready = s.ready_at(&engine.timing).is_some_and(|ready| ready <= now);
            let show = Show::of(s, engine, rendition.variant());
            (Hold::new(engine, s), s.number, is_ready, show, s.behaviour.clone(), s.ended.subscribe())
        })
    });
    let Some((_hold, session, true, show, behaviour, mut ended)) = found else {
        return plain_500(engine, conn, "download not found").await;
    };
    if !conn.wait(engine.slowed(engine.timing.api)).await {
        return Next::Close;
    }
    let to = |number| format!("{before}/{number}.ts");
    let n = match show.find(number, engine.edge(session)) {
        Found::Segment(n) => n,
        Found::NotYet => return plain_500(engine, conn, "download not found").await,
        Found::TooOld(live) => return redirect(engine, conn, request, &behaviour, &to(live)).await,
    };
    let hits = |every: u32| (n + 1).is_multiple_of(u64::from(every.max(1)));
    match show.fault {
        HlsFault::Missing { kind, every } if hits(every) => match kind {
            Missing::NotFound => {
                send(engine, conn, &answer("404 Not Found", "text/plain", "Not Found")).await
            }
            Missing::Error => internal_error(engine, conn).await,
            Missing::Empty => send(engine, conn, &answer("200 OK", "video/MP2T", "")).await,
            Missing::Redirect => redirect(engine, conn, request, &behaviour, &to(number + 1)).await,
        },
        fault => {
            let pace = match fault {
                HlsFault::Slow(percent) => show.piece(n).duration * percent / 100,
                _ => Duration::ZERO,
            };
            let is_short = matches!(fault, HlsFault::Short(every) if hits(every));
            let body = Body::new(show.feed(), show.piece(n), rendition);
            body.send(engine, conn, pace, is_short, &mut ended).await
        }
    }
}

/// The bytes of a segment.
struct Body {
    feed: Feed,
    /// What comes before the programme's bytes, or is all there is.
    before: Vec<u8>,
    from: u64,
    to: u64,
}

impl Body {
    fn new(feed: Feed, piece: Piece, rendition: Rendition) -> Self {
        let mut before = Vec::new();
        feed.tables_before(piece.from, &mut before);
        let mut body = Self { feed, before, from: piece.from, to: piece.to };
        if rendition == Rendition::Audio {
            feed.read(piece.from, piece.to, &mut body.before);
            let whole = std::mem::take(&mut body.before);
            body.before = whole.chunks(PACKET).filter(|p| !is_video(p)).flatten().copied().collect();
            body.from = body.to;
        }
        body
    }

    fn len(&self) -> usize {
        self.before.len() + usize::try_from(self.to - self.from).unwrap_or(0)
    }

    /// Sends it within `pace` of time, or as fast as it goes. A short one ends
    /// in the middle, inside a packet.
    async fn send(
        self,
        engine: &Engine,
        conn: &mut Conn,
        pace: Duration,
        is_short: bool,
        ended: &mut watch::Receiver<Ended>,
    ) -> Next {
        let len = self.len();
        let lines = format!(
            "{}Content-Type: video/MP2T\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: {len}\r\n\r\n",
            head("200 OK")
        );
        if send(engine, conn, lines.as_bytes()).await != Next::Again {
            return Next::Close;
        }
        let until = if is_short { len / 2 / PACKET * PACKET + CUT_IN_PACKET } else { len };
        let began = Instant::now();
        let (mut at, mut sent) = (self.from, 0);
        let mut bytes = self.before;
        while sent < until {
            let end = self.to.min(at + PIECE);
            self.feed.read(at, end, &mut bytes);
            at = end;
            bytes.truncate(until - sent);
            tokio::select! {
                biased;
                _ = ended.changed() => return Next::Close,
                written = conn.write_all(&bytes, engine.timing.no_read) => {
                    if written.is_err() {
                        return Next::Close;
                    }
                }
            }
            sent += bytes.len();
            engine.state().counters.bytes += u64::try_from(bytes.len()).unwrap_or(0);
            bytes.clear();
            let due = began + pace.mul_f64(sent as f64 / len.max(1) as f64);
            if Instant::now() < due && !conn.wait_until(due).await {
                return Next::Close;
            }
            // A fast reader must not keep the streams waiting.
            tokio::task::yield_now().await;
        }
        engine.feel();
        if is_short { Next::Close } else { Next::Again }
    }
}

fn is_video(packet: &[u8]) -> bool {
    packet.get(1..3).is_some_and(|b| u16::from_be_bytes([b[0] & 0x1f, b[1]]) == VIDEO_PID)
}
