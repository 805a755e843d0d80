//! The command address of a session.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    PlayerCounters, Profile,
    behaviour::Stop,
    engine::Engine,
    http::{Conn, Request},
    serve::{Next, internal_error, send_json, unknown_session},
    session::Session,
    signed::EPOCH_UNIX_SECONDS,
    source,
    stat::WINDOW,
};

/// Carries a command out: `stop`, `liveseek`; others are answered and do nothing.
pub(crate) async fn command(
    engine: &Engine,
    conn: &mut Conn,
    request: &Request,
    infohash: &str,
    key: &str,
) -> Next {
    let now = Instant::now();
    let is_it = |s: &Session| s.infohash == infohash && s.key == key;
    let found = engine
        .state()
        .find(engine, now, |s| is_it(s) && s.is_known(now))
        .map(|s| (s.behaviour.clone(), s.player.clone()));
    let method = request.parameter("method").unwrap_or("");
    let Some((behaviour, player)) = found else {
        return send_json(engine, conn, &unknown_session()).await;
    };
    if method == "liveseek" {
        let value = match seek(engine, request, is_it) {
            Ok(()) => json!({"response": "ok", "error": null}),
            Err(why) => json!({"response": null, "error": why}),
        };
        return send_json(engine, conn, &value).await;
    }
    if method != "stop" {
        return send_json(engine, conn, &json!({"response": "ok", "error": null})).await;
    }
    {
        let mut state = engine.state();
        state.counters.stops += 1;
        let mut spare = state.spare;
        state.counters.content(infohash, &mut spare).stops += 1;
        state.counters.count_player(infohash, &player, PlayerCounters { stops: 1, ..Default::default() });
        state.log(format!("stop {infohash} {key}"));
    }
    let delay = match behaviour.stop {
        Stop::Usual | Stop::Late(_) => engine.slowed(engine.timing.stop),
        Stop::Hang(delay) => delay,
        Stop::Error => return internal_error(engine, conn).await,
        Stop::Unknown => return send_json(engine, conn, &unknown_session()).await,
    };
    conn.wait(delay).await;
    let profile = behaviour.profile.unwrap_or(engine.profile);
    let stopped = |s: &Session| match profile {
        Profile::V3_2_3 => is_it(s),
        Profile::V3_2_11 => s.infohash == infohash,
    };
    match behaviour.stop {
        Stop::Late(lasting) => {
            let late = engine.state().take(stopped);
            // Readers end when their session's sender is dropped.
            tokio::spawn(async move {
                tokio::time::sleep(lasting).await;
                drop(late);
            });
        }
        _ => engine.state().end(stopped),
    }
    send_json(engine, conn, &json!({"response": "ok", "error": null})).await
}

/// Moves a session to the broadcast position that is asked for in unix time, as
/// far as its window reaches.
fn seek(engine: &Engine, request: &Request, is_it: impl Fn(&Session) -> bool) -> Result<(), &'static str> {
    let position: u64 = request.parameter("pos").and_then(|pos| pos.parse().ok()).ok_or("missing pos")?;
    let now = Instant::now();
    let mut state = engine.state();
    let session = state.find(engine, now, is_it).ok_or("unknown playback session id")?;
    if session.behaviour.vod.is_some() {
        return Err("not a live stream");
    }
    let newest = source::now().saturating_sub(session.behaviour.lag.unwrap_or(engine.lag));
    let oldest = newest.saturating_sub(Duration::from_secs(WINDOW));
    let asked = Duration::from_secs(position.saturating_sub(EPOCH_UNIX_SECONDS));
    let position = asked.clamp(oldest, newest);
    session.last_active = now;
    session.seek.send_replace(Some((position, now)));
    let number = session.number;
    let back = (newest - position).as_secs();
    state.log(format!("seek {number} {back} s back"));
    Ok(())
}
