//! Events of a session, by long polls.

use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    behaviour::Events,
    engine::Engine,
    http::Conn,
    serve::{Next, internal_error, send_json, unknown_session},
    session::Ended,
};

/// `/ace/event/…`: blocks until there is an event, or for its time.
pub(crate) async fn poll(engine: &Engine, conn: &mut Conn, infohash: &str, key: &str) -> Next {
    let now = Instant::now();
    let found = engine.state().find(engine, now, |s| s.infohash == infohash && s.key == key).map(|s| {
        s.polls += 1;
        (s.behaviour.events, s.polls == 1, s.ended.subscribe())
    });
    let Some((events, is_first, ended)) = found else {
        return send_json(engine, conn, &unknown_session()).await;
    };
    let live_changed = json!({"name": "live_changed", "params": {"is_live": 0}});
    let event = match events {
        Events::Error => return internal_error(engine, conn).await,
        Events::LiveChanged if is_first => live_changed,
        Events::DownloadStopped if is_first => {
            let params = json!({"reason": "missing_option", "option": "proxyServer"});
            json!({"name": "download_stopped", "params": params})
        }
        Events::DoubleEncoded if is_first => json!(live_changed.to_string()),
        _ => match hold(engine, conn, ended).await {
            Held::Passed => Value::Null,
            Held::Left => return Next::Close,
            Held::Ended => return send_json(engine, conn, &unknown_session()).await,
        },
    };
    send_json(engine, conn, &json!({"response": event, "error": null})).await
}

/// How a poll without an event went.
enum Held {
    Passed,
    /// The client left.
    Left,
    /// The session is over.
    Ended,
}

async fn hold(engine: &Engine, conn: &mut Conn, mut ended: watch::Receiver<Ended>) -> Held {
    tokio::select! {
        biased;
        _ = ended.changed() => Held::Ended,
        stays = conn.wait(engine.timing.event_hold) => if stays { Held::Passed } else { Held::Left },
    }
}
