//! Stat answers as scenarios want them, and events.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    behaviour::{Events, StatFault, StatTypes},
    engine::Engine,
    http::Conn,
    serve::{Next, internal_error, send_json, unknown_session},
    session::Ended,
};

/// What `downloaded` falls by: 5 MiB, a whole number of chunks.
const STEP_BACK: u64 = 5 << 20;

/// How much of the time since a session's start a stat answer is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Since the session's start.
    pub(crate) age: Duration,
    /// The engine's clock is ahead by this.
    pub(crate) clock_ahead: Duration,
}

/// Makes the truth what `fault` says.
pub(crate) fn distort(stat: &mut Value, fault: StatFault, asked: Asked) {
    move_livepos(stat, i128::from(asked.clock_ahead.as_secs()));
    match fault {
        StatFault::None
        | StatFault::Hang
        | StatFault::Error
        | StatFault::Slow(_)
        | StatFault::Gone { .. } => {}
        StatFault::EmptyFor(time) if asked.age < time => *stat = json!({}),
        StatFault::EmptyFor(_) => {}
        StatFault::Types(types) => *stat = retyped(std::mem::take(stat), types),
        StatFault::Rosy => lie(stat, 20, 2000),
        StatFault::Bleak => lie(stat, 0, 0),
        StatFault::BackStep(time) => {
            // The second half of each period is behind the first.
            let is_behind = asked.age.as_millis() * 2 / time.as_millis().max(1) % 2 == 1;
            if is_behind && let Some(downloaded) = stat["downloaded"].as_u64() {
                stat["downloaded"] = json!(downloaded.saturating_sub(STEP_BACK));
            }
        }
        StatFault::LiveposFrozen => move_livepos(stat, -i128::from(asked.age.as_secs())),
        StatFault::LiveposAbsent => {
            if let Some(stat) = stat.as_object_mut() {
                stat.remove("livepos");
            }
        }
        StatFault::LiveposAhead(time) => move_livepos(stat, i128::from(time.as_secs())),
    }
}

fn lie(stat: &mut Value, peers: u64, speed: u64) {
    if stat["status"] == "dl" {
        stat["peers"] = json!(peers);
        stat["speed_down"] = json!(speed);
    }
}

fn move_livepos(stat: &mut Value, by: i128) {
    let Some(livepos) = stat.get_mut("livepos").and_then(Value::as_object_mut) else { return };
    for (name, value) in livepos.iter_mut() {
        let seconds = value.as_str().and_then(|v| v.parse::<i128>().ok());
        if let Some(seconds) = seconds.filter(|_| name != "is_live" && name != "buffer_pieces") {
            *value = json!((seconds + by).to_string());
        }
    }
}

fn retyped(value: Value, types: StatTypes) -> Value {
    match value {
        Value::Number(n) => match types {
            StatTypes::Strings => json!(n.to_string()),
            StatTypes::Floats => n.as_f64().map_or(Value::Null, |n| json!(n)),
            StatTypes::Nulls => Value::Null,
            StatTypes::Missing | StatTypes::CamelCase => Value::Number(n),
        },
        Value::Object(map) => Value::Object(retyped_map(map, types)),
        other => other,
    }
}

fn retyped_map(map: Map<String, Value>, types: StatTypes) -> Map<String, Value> {
    let mut numbers = 0;
    let mut out = Map::new();
    for (name, value) in map {
        numbers += usize::from(value.is_number());
        if types == StatTypes::Missing && value.is_number() && numbers % 2 == 0 {
            continue;
        }
        let name = match (types, name.as_str()) {
            (StatTypes::CamelCase, "speed_down") => "speedDown".to_owned(),
            (StatTypes::CamelCase, "speed_up") => "speedUp".to_owned(),
            _ => name,
        };
        out.insert(name, retyped(value, types));
    }
    out
}

/// `/ace/event/…`: blocks until there is an event, or for its time.
pub(crate) async fn event(engine: &Engine, conn: &mut Conn, infohash: &str, key: &str) -> Next {
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
