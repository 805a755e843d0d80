//! What meets connections and requests before anybody looks at their paths.

use std::net::IpAddr;

use tokio::time::Instant;

use crate::{
    Behaviour, PathKind,
    behaviour::{Accept, Fate},
    engine::Engine,
    http::Conn,
    serve::{Next, internal_error},
    wire::Style,
};

/// One of the engine's threads, each of which serves one connection.
pub(crate) struct Thread<'a>(&'a Engine);

impl<'a> Thread<'a> {
    /// Waits for a free one; none when the client left before.
    pub(crate) async fn take(engine: &'a Engine, conn: &mut Conn) -> Option<Self> {
        loop {
            let freed = engine.freed.notified();
            {
                let most = engine.behaviour().wire.most_served;
                let mut state = engine.state();
                if most.is_none_or(|most| state.serving < most) {
                    state.serving += 1;
                    return Some(Self(engine));
                }
            }
            tokio::select! {
                () = freed => {}
                _ = conn.closed() => return None,
            }
        }
    }
}

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        self.0.state().serving -= 1;
        self.0.freed.notify_one();
    }
}

/// What meets a request before its path is looked at, by the engine's state
/// and by what was set for it and for the content of a running session.
pub(crate) async fn gate(
    engine: &Engine,
    conn: &mut Conn,
    kind: PathKind,
    behaviour: &Behaviour,
    content: &Behaviour,
) -> Option<Next> {
    let now = Instant::now();
    conn.style = Style::of(behaviour.wire, content.wire);
    if behaviour.accept == Accept::Hang {
        conn.closed().await;
        return Some(Next::Close);
    }
    let (boot, is_worn_out, luck) = {
        let mut state = engine.state();
        (
            state.boot,
            state.is_worn_out(),
            state.luck(behaviour.wire.error_percent.max(content.wire.error_percent)),
        )
    };
    let is_booting = now < boot.api_at && (kind != PathKind::Service || now < boot.version_at);
    let is_denied = behaviour.fate == Fate::AccessDenied && is_remote(conn.peer.ip());
    if behaviour.all_500 || is_booting || is_denied || !luck {
        return Some(internal_error(engine, conn).await);
    }
    let is_media =
        matches!(kind, PathKind::Read | PathKind::Content | PathKind::Playlist | PathKind::Segment);
    if (behaviour.wire.api_hangs || content.wire.api_hangs || is_worn_out) && !is_media {
        conn.closed().await;
        return Some(Next::Close);
    }
    None
}

/// Whether a caller is one that an engine without `--bind-all` refuses.
fn is_remote(peer: IpAddr) -> bool {
    !peer.to_canonical().is_loopback()
}
