//! Playback addresses of sessions that are not ready.

use tokio::{sync::watch, time::Instant};

use crate::{
    Behaviour, Timing, behaviour,
    engine::Engine,
    http::Conn,
    serve::{Next, plain_500},
    session::{Ended, Session},
};

/// What a session's playback address has to know of it.
pub(crate) struct Ready {
    pub(crate) behaviour: Behaviour,
    pub(crate) started: Instant,
    ready: behaviour::Ready,
    at: Option<Instant>,
    ended: watch::Receiver<Ended>,
}

impl Ready {
    pub(crate) fn of(session: &Session, timing: &Timing) -> Self {
        Self {
            behaviour: session.behaviour.clone(),
            started: session.started,
            ready: session.ready(),
            at: session.ready_at(timing),
            ended: session.ended.subscribe(),
        }
    }
}

/// Holds a playback address until its session is ready; an answer when it is
/// given at once, or the session never is.
pub(crate) async fn until_ready(engine: &Engine, conn: &mut Conn, mut ready: Ready) -> Option<Next> {
    let (now, started) = (Instant::now(), ready.started);
    match ready.ready {
        behaviour::Ready::ErrorsFor(time) if now < started + time => {
            let seconds = (now - started).as_secs();
            let text = if seconds.is_multiple_of(2) { "start timeout" } else { "download not found" };
            return Some(plain_500(engine, conn, text).await);
        }
        behaviour::Ready::FailsAfter(time) | behaviour::Ready::TimesOutAfter(time) => {
            let text = match ready.ready {
                behaviour::Ready::FailsAfter(_) => "failed to start",
                _ => "start timeout",
            };
            if hold_until(conn, Some(started + time), &mut ready.ended).await {
                return Some(plain_500(engine, conn, text).await);
            }
            return Some(Next::Close);
        }
        _ => {}
    }
    (!hold_until(conn, ready.at, &mut ready.ended).await).then_some(Next::Close)
}

/// Holds until `ready`; false when the client left or the session ended.
pub(crate) async fn hold_until(
    conn: &mut Conn,
    ready: Option<Instant>,
    ended: &mut watch::Receiver<Ended>,
) -> bool {
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
