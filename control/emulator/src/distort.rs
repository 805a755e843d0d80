//! Stat answers as scenarios want them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::behaviour::{StatFault, StatTypes};

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
