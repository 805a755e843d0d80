//! The start call: which content is meant, and what it is answered.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    BadJson, Behaviour, PlayerCounters,
    behaviour::{Accept, Lookup, StartAnswer},
    engine::Engine,
    http::{Conn, Request, answer},
    infohash_of,
    life::StartFate,
    player::Player,
    rng::forty_hex,
    serve::{Next, internal_error, origin, plain_500, send, send_json},
    session::Output,
    wire::{Style, redirect},
};

/// How a content was named. The order is that in which selectors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selector {
    ContentId,
    Infohash,
    Url,
    Magnet,
    TransportFile,
}

/// The selector that counts, its value and the infohash it leads to; no
/// infohash when it is no id at all.
fn selected(request: &Request) -> Option<(Selector, String, Option<String>)> {
    let is_hash = |v: &str| v.len() == 40 && v.bytes().all(|b| b.is_ascii_hexdigit());
    let by_query = [
        (Selector::ContentId, "content_id"),
        (Selector::ContentId, "id"),
        (Selector::Infohash, "infohash"),
        (Selector::Url, "url"),
        (Selector::Magnet, "magnet"),
    ]
    .into_iter()
    .find_map(|(selector, name)| Some((selector, request.parameter(name)?.to_owned())));
    let (selector, value) = match by_query {
        Some(found) => found,
        None => {
            let body: Value = serde_json::from_slice(&request.body).ok()?;
            let file = body.get("transport_file_data")?.as_str().filter(|f| !f.is_empty())?;
            (Selector::TransportFile, forty_hex(file))
        }
    };
    let infohash = match selector {
        Selector::ContentId => is_hash(&value).then(|| infohash_of(&value)),
        Selector::Infohash => is_hash(&value).then(|| value.to_ascii_lowercase()),
        Selector::Url | Selector::TransportFile => Some(forty_hex(&value)),
        Selector::Magnet => {
            let hash = value.split_once("btih:").and_then(|(_, rest)| rest.get(..40));
            Some(hash.filter(|h| is_hash(h)).map_or_else(|| forty_hex(&value), str::to_ascii_lowercase))
        }
    };
    Some((selector, value, infohash))
}

pub(crate) async fn start(engine: &Engine, conn: &mut Conn, request: &Request, output: Output) -> Next {
    let Some((selector, value, infohash)) = selected(request) else {
        return internal_error(engine, conn).await;
    };
    let is_json = request.parameter("format") == Some("json");
    let pid = request.parameter("pid").or_else(|| request.parameter("sid"));
    let player = Player::new(pid, conn.peer.ip());
    let Some(infohash) = infohash else {
        conn.wait(engine.slowed(engine.timing.start_failure)).await;
        return refuse(engine, conn, is_json, "failed to load content", None).await;
    };
    let Plan { behaviour, delay, starts, is_lost } = begin(engine, &player, selector, &value, &infohash);
    let _pending = Pending::new(engine, &infohash, &player.key);
    let fate = engine.state().start_fate(Instant::now(), &engine.timing);
    let luck = engine.state().luck(behaviour.wire.error_percent);
    conn.style = Style::of(engine.behaviour().wire, behaviour.wire);
    match behaviour.accept {
        Accept::Serve => {}
        Accept::Refuse | Accept::Reset => return Next::Reset,
        Accept::Hang | Accept::Backlog => return hang(conn).await,
    }
    if behaviour.all_500 || !luck || fate == StartFate::Error {
        return internal_error(engine, conn).await;
    }
    if let StartFate::Fails(after) = fate {
        return match conn.wait(after).await {
            true => refuse(engine, conn, is_json, "failed to load content", None).await,
            false => Next::Close,
        };
    }
    if behaviour.start.answer == StartAnswer::Hang || behaviour.wire.api_hangs {
        return hang(conn).await;
    }
    if behaviour.start.outlives_client {
        tokio::time::sleep(delay).await;
    } else if !conn.wait(delay).await {
        return Next::Close;
    }
    let not_found = is_lost
        || behaviour.lookup == Lookup::OnlyInfohash
            && selector == Selector::ContentId
            && !engine.state().is_fresh(&infohash, Instant::now());
    let asks = Asks { player: &player, value: &value, infohash: &infohash, output };
    match behaviour.start.answer {
        _ if not_found => refuse(engine, conn, is_json, "failed to load content", None).await,
        StartAnswer::Error(text) => refuse(engine, conn, is_json, text, None).await,
        StartAnswer::MissingOption => {
            let reason = json!({"reason": "missing_option", "option": "proxyServer"});
            refuse(engine, conn, is_json, "missing option", Some(reason)).await
        }
        StartAnswer::SupersededFirst(n) if starts <= u64::from(n) => {
            refuse(engine, conn, is_json, "got newer download", None).await
        }
        StartAnswer::Session | StartAnswer::Redirect | StartAnswer::SupersededFirst(_) => {
            open(engine, conn, request, asks, None).await
        }
        StartAnswer::Bad(bad) => open(engine, conn, request, asks, Some(bad)).await,
        StartAnswer::Hang => hang(conn).await,
    }
}

/// Who asks for what.
struct Asks<'a> {
    player: &'a Player,
    value: &'a str,
    infohash: &'a str,
    output: Output,
}

/// A start that is not answered yet; two of one content are misuse too.
struct Pending<'a> {
    engine: &'a Engine,
    what: (String, String),
}

impl<'a> Pending<'a> {
    fn new(engine: &'a Engine, infohash: &str, key: &str) -> Self {
        let what = (infohash.to_owned(), key.to_owned());
        engine.state().pending.push(what.clone());
        Self { engine, what }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut state = self.engine.state();
        if let Some(at) = state.pending.iter().position(|p| *p == self.what) {
            state.pending.swap_remove(at);
        }
    }
}

/// What a content is, told without opening a session. As quick as a known
/// start once the engine has met the content, as slow as a first one before.
pub(crate) async fn media_files(
    engine: &Engine,
    conn: &mut Conn,
    request: &Request,
) -> Result<Value, &'static str> {
    let not_found = "cannot get transport file";
    let found = selected(request).and_then(|(selector, value, infohash)| Some((selector, value, infohash?)));
    let Some((selector, value, infohash)) = found else {
        conn.wait(engine.slowed(engine.timing.start_failure)).await;
        return Err(not_found);
    };
    let (behaviour, is_fresh, lost) = {
        let mut state = engine.state();
        state.log(format!("files {infohash}"));
        let behaviour = state.wanted(&value, &infohash, engine.default_content).behaviour;
        let now = Instant::now();
        let lost = state.is_lost(behaviour.lookup, &infohash, now);
        (behaviour, state.is_fresh(&infohash, now), lost)
    };
    if let Some(after) = lost {
        conn.wait(after).await;
        return Err(not_found);
    }
    let is_unknown = behaviour.lookup == Lookup::OnlyInfohash && selector == Selector::ContentId && !is_fresh;
    if is_unknown || matches!(behaviour.start.answer, StartAnswer::Error(_)) {
        conn.wait(engine.slowed(behaviour.start.delay.unwrap_or(engine.timing.start_failure))).await;
        return Err(not_found);
    }
    if !is_fresh {
        conn.wait(engine.slowed(behaviour.start.delay.unwrap_or(engine.timing.start_first))).await;
        engine.state().learn(&infohash, Instant::now());
    }
    let name = format!("Broadcast {}", &infohash[..8]);
    Ok(json!({
        "files": [{"index": 0, "filename": name}], "name": name, "infohash": infohash,
        "transport_type": "bt", "type": if behaviour.vod.is_some() { "vod" } else { "live" }, "transport_file_cache_key": null,
    }))
}

/// How a start goes on.
struct Plan {
    behaviour: Behaviour,
    /// After how long.
    delay: Duration,
    /// Starts of the content so far, this one included.
    starts: u64,
    /// The catalogue does not find it.
    is_lost: bool,
}

/// Counts a start and says how it goes on, and after how long.
fn begin(engine: &Engine, player: &Player, selector: Selector, value: &str, infohash: &str) -> Plan {
    let now = Instant::now();
    let timing = &engine.timing;
    let mut state = engine.state();
    state.sweep(now, timing);
    state.counters.starts += 1;
    let mut spare = state.spare;
    let content = state.counters.content(infohash, &mut spare);
    content.starts += 1;
    let starts = content.starts;
    state.counters.count_player(infohash, &player.name(), PlayerCounters { starts: 1, ..Default::default() });
    state.judge_start(player.pid.as_deref(), &player.key, infohash);
    let behaviour = state.wanted(value, infohash, engine.default_content).behaviour;
    let jitter = state.rng.up_to(2 * timing.start_jitter);
    let lost = state.is_lost(behaviour.lookup, infohash, now);
    let usual = match behaviour.start.answer {
        _ if lost.is_some() => lost.unwrap_or_default(),
        _ if behaviour.lookup == Lookup::OnlyInfohash && selector == Selector::ContentId => {
            if state.is_fresh(infohash, now) { timing.start_known } else { timing.start_failure }
        }
        StartAnswer::Error(_) if selector == Selector::Infohash => timing.start_failure_infohash,
        StartAnswer::Error(_) => timing.start_failure,
        _ if behaviour.lookup == Lookup::OnlyInfohash => {
            state.learn(infohash, now);
            timing.start_known
        }
        _ if state.learn(infohash, now) => (timing.start_known + jitter).saturating_sub(timing.start_jitter),
        _ => timing.start_first,
    };
    let delay = state.slowed(behaviour.start.delay.unwrap_or(usual));
    state.log(format!("start {infohash} {} after {} ms", player.key, delay.as_millis()));
    Plan { behaviour, delay, starts, is_lost: lost.is_some() }
}

async fn hang(conn: &mut Conn) -> Next {
    conn.closed().await;
    Next::Close
}

async fn refuse(engine: &Engine, conn: &Conn, is_json: bool, text: &str, extra: Option<Value>) -> Next {
    if !is_json {
        return plain_500(engine, conn, text).await;
    }
    let mut value = json!({"response": null, "error": text});
    if let Some(extra) = extra {
        value["extra_data"] = extra;
    }
    send_json(engine, conn, &value).await
}

/// Opens or re-uses the session and tells of it.
async fn open(
    engine: &Engine,
    conn: &mut Conn,
    request: &Request,
    asks: Asks<'_>,
    bad: Option<BadJson>,
) -> Next {
    let (infohash, key) = (asks.infohash, asks.player.key.as_str());
    let opened = {
        let mut state = engine.state();
        let mut wanted = state.wanted(asks.value, infohash, engine.default_content);
        wanted.transcodes = is_transcoding(request);
        let behaviour = wanted.behaviour.clone();
        let session = state.open(engine, wanted, asks.player, asks.output, Instant::now());
        session.map(|s| (behaviour, s.playback_id.clone()))
    };
    engine.feel();
    let is_json = request.parameter("format") == Some("json");
    let Some((behaviour, playback_id)) = opened else {
        return refuse(engine, conn, is_json, "failed to start", None).await;
    };
    let playback = match asks.output {
        Output::Ts => format!("/ace/r/{infohash}/{key}"),
        Output::Hls => format!("/ace/m/{infohash}/{key}.m3u8"),
    };
    if !is_json || behaviour.start.answer == StartAnswer::Redirect {
        return redirect(engine, conn, request, &behaviour, &playback).await;
    }
    let origin = origin(conn, request, &behaviour);
    let client: i64 = request.parameter("client_session_id").and_then(|v| v.parse().ok()).unwrap_or(-1);
    let mut response = json!({
        "playback_url": format!("{origin}{playback}"),
        "stat_url": format!("{origin}/ace/stat/{infohash}/{key}"),
        "command_url": format!("{origin}/ace/cmd/{infohash}/{key}"),
        "infohash": infohash, "playback_session_id": playback_id,
        "is_live": u8::from(behaviour.vod.is_none()),
        "is_encrypted": u8::from(behaviour.encrypted), "client_session_id": client,
    });
    if request.parameter("use_api_events") == Some("1") {
        response["event_url"] = json!(format!("{origin}/ace/event/{infohash}/{key}"));
    }
    if let Some(map) = response.as_object_mut().filter(|_| behaviour.direct) {
        map.insert("is_direct".to_owned(), json!(1));
        for name in ["stat_url", "command_url", "event_url"] {
            map.remove(name);
        }
    }
    match bad {
        None => send_json(engine, conn, &json!({"response": response, "error": null})).await,
        Some(bad) => send_bad(engine, conn, bad, response).await,
    }
}

/// Whether a start asks for a transcoding.
fn is_transcoding(request: &Request) -> bool {
    ["transcode_audio", "transcode_mp3", "transcode_ac3"]
        .into_iter()
        .filter_map(|name| request.parameter(name))
        .any(|value| !matches!(value, "" | "0" | "false"))
}

async fn send_bad(engine: &Engine, conn: &Conn, bad: BadJson, mut response: Value) -> Next {
    let (ok, json_type) = ("200 OK", "application/json");
    let whole = |response: &Value| json!({"response": response, "error": null}).to_string();
    let bytes = match bad {
        BadJson::Truncated => {
            let text = whole(&response);
            answer(ok, json_type, &text[..text.len() / 2])
        }
        BadJson::Internal => {
            let text = "Internal Server Error, couldn't find resource";
            answer("500 Internal Server Error", "text/plain", text)
        }
        BadJson::Html => answer(ok, "text/html", "<html><body><h1>It works!</h1></body></html>"),
        BadJson::Jsonp => answer(ok, "text/javascript", &format!("callback({});", whole(&response))),
        BadJson::EmptyResponse => answer(ok, json_type, &whole(&json!({}))),
        BadJson::NoPlaybackUrl => {
            response["playback_url"].take();
            if let Some(map) = response.as_object_mut() {
                map.remove("playback_url");
            }
            answer(ok, json_type, &whole(&response))
        }
        BadJson::StringNumbers => {
            for name in ["is_live", "is_encrypted", "client_session_id"] {
                response[name] = json!(response[name].to_string());
            }
            answer(ok, json_type, &whole(&response))
        }
        BadJson::UnknownKeys => {
            response["vast_tags"] = json!([{"a": [1, null, {"b": 2.5e10}]}]);
            response["\u{fffd}"] = json!("\u{1f3a5}\"\\");
            answer(ok, json_type, &whole(&response))
        }
        BadJson::Huge => {
            response["filler"] = json!("x".repeat(5_000_000));
            answer(ok, json_type, &whole(&response))
        }
        BadJson::EmptyBody => answer(ok, json_type, ""),
    };
    send(engine, conn, &bytes).await
}
