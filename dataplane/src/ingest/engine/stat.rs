//! What an engine says of a session, read leniently: bytes are believed before
//! this is.

use std::{net::SocketAddr, time::Duration};

use millrace_boundary::{Cause, Monotonic};
use serde_json::Value;

use super::{Failure, classify, clip, http::get};

/// An engine has this long to answer; it is asked again later in any case.
const LIMIT: Duration = Duration::from_secs(3);

/// A session's statistics; what is absent or of another type is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest) struct Stat {
    /// `prebuf`, `dl`, `buf`, `err` and others; at most 16 characters.
    pub(in crate::ingest) status: String,
    /// Why the status is `err`.
    pub(in crate::ingest) error: Option<String>,
    /// Peers connected.
    pub(in crate::ingest) peers: Option<u32>,
    /// From the swarm, in KiB/s.
    pub(in crate::ingest) speed_down: Option<u32>,
    /// To the swarm, in KiB/s.
    pub(in crate::ingest) speed_up: Option<u32>,
    /// From the swarm, in bytes; may step back.
    pub(in crate::ingest) downloaded: Option<u64>,
    /// To the swarm, in bytes.
    pub(in crate::ingest) uploaded: Option<u64>,
    /// Percent of the prebuffer.
    pub(in crate::ingest) progress: Option<u32>,
    /// Play position, in seconds since 1970.
    pub(in crate::ingest) position: Option<u64>,
    /// Newest position of the broadcast, in seconds since 1970.
    pub(in crate::ingest) live_last: Option<u64>,
    /// The engine gives it to no player but its own.
    pub(in crate::ingest) is_encrypted: bool,
}

/// Asks for the statistics of a session, without counting as a player.
///
/// # Errors
/// [`Cause::SessionLost`] when the engine does not know the session; other
/// causes say nothing about it.
pub(in crate::ingest) async fn stat(engine: SocketAddr, path: &str) -> Result<Stat, Failure> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let target = format!("{path}{separator}skip_player_activity=1");
    let deadline = Monotonic::now() + LIMIT;
    read(&get(engine, &target, None, deadline).await?.json(deadline).await?)
}

fn read(json: &Value) -> Result<Stat, Failure> {
    if let Some(error) = json.get("error").filter(|e| !e.is_null()) {
        let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
        let cause = match classify(&text, "") {
            Cause::SessionLost => Cause::SessionLost,
            _ => Cause::EngineError,
        };
        return Err(Failure::new(cause, format!("stat says: {}", clip(&text))));
    }
    let Some(stat) = json.get("response").filter(|r| r.is_object()) else {
        return Err(Failure::new(Cause::EngineError, "stat is empty"));
    };
    let number = |name: &str| whole(stat.get(name)?);
    let small = |name: &str| number(name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let live = |name: &str| whole(stat.pointer(&format!("/livepos/{name}"))?);
    let text = |name: &str| stat.get(name).and_then(Value::as_str);
    Ok(Stat {
        status: text("status").unwrap_or("idle").chars().take(16).collect(),
        error: text("error_message").filter(|t| !t.is_empty()).map(clip),
        peers: small("peers"),
        speed_down: small("speed_down").or_else(|| small("speedDown")),
        speed_up: small("speed_up").or_else(|| small("speedUp")),
        downloaded: number("downloaded"),
        uploaded: number("uploaded"),
        progress: small("progress"),
        position: live("pos"),
        live_last: live("live_last").or_else(|| live("last")),
        is_encrypted: number("is_encrypted") == Some(1),
    })
}

/// A number, or a text that is one; fractions are cut off, negative ones zero.
fn whole(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(n) => n.as_u64().map(|n| n as f64).or_else(|| n.as_f64())?,
        Value::String(s) => s.trim().parse::<f64>().ok().filter(|n| n.is_finite())?,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as it should")]
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Stat, Cause> {
        read(&serde_json::from_str(text).unwrap()).map_err(|f| f.cause)
    }

    #[test]
    fn numbers_may_be_texts_and_anything_may_be_absent() {
        let stat = parse(
            r#"{"response":{"status":"dl","peers":"11","speedDown":10.7,"downloaded":41943040,"progress":-1,
                "livepos":{"pos":"1767229204","live_last":"1767229210"}},"error":null}"#,
        )
        .unwrap();
        let expected = Stat {
            status: "dl".to_owned(),
            peers: Some(11),
            speed_down: Some(10),
            downloaded: Some(41_943_040),
            progress: Some(0),
            position: Some(1_767_229_204),
            live_last: Some(1_767_229_210),
            ..Stat::default()
        };
        assert_eq!(stat, expected);
        assert_eq!(parse(r#"{"response":{}}"#).unwrap().status, "idle");
        assert_eq!(parse(r#"{"response":{"peers":null,"livepos":7}}"#).unwrap().peers, None);
    }

    #[test]
    fn a_lost_session_is_told_from_an_answer_without_sense() {
        let lost = r#"{"response":null,"error":"unknown playback session id"}"#;
        assert_eq!(parse(lost), Err(Cause::SessionLost));
        for text in [r#"{"response":null,"error":{"code":0}}"#, "[]", "null", r#"{"response":"x"}"#] {
            assert_eq!(parse(text), Err(Cause::EngineError), "{text}");
        }
    }
}
