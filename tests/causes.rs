//! Of every scripted fault, the cause that is told: of the session that ends, to
//! the viewer who is refused, and of the source that is left while others go on.
//! What the viewers get meanwhile is for `tests/faults.rs` and
//! `tests/scenarios.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Mutex, time::Duration};

use millrace_emulator::{ContentId, Emulator, Scenario, Timing};
use serde_json::Value;
use support::{
    Audience, Server, Viewer,
    pool::{engines_with, healthy, path_of, serve, serve_ready, session, signed},
    rows::run_all,
    server::parse_answer,
    wait_until,
};

mod support;

/// Rows that run at the same time. They mostly wait.
const AT_ONCE: usize = 32;
/// For what has to be told: the longest is a rate of 0.5, which takes as long
/// to show as there is stock to play from.
const TOLD: Duration = Duration::from_secs(40);
const SETTINGS: &str = "[engines]\nprobe_interval = \"1s\"\n\
    [streams]\nstart_budget = \"7s\"\nlongest_start = \"7s\"\nsilence_limit = \"6s\"\n";

/// Where the fault is.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// The only engine, before the server has met it.
    Unmet,
    /// The only engine, which was well until the content is asked for.
    Alone,
    /// The content, on all of three engines.
    Content,
    /// The content, on that of three engines which plays it, two seconds on.
    OneContent,
    /// That of three engines which plays, two seconds on.
    OneEngine,
    /// The only engine, two seconds on.
    OnlyEngine,
}
use Where::{Alone, Content, OneContent, OneEngine, OnlyEngine, Unmet};

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// No byte comes. Told to the viewer, by the session that ended, and of each
    /// attempt that failed.
    Refused,
    /// It ends, a while after it began or soon. Told by the session that ended.
    Ended,
    /// It goes on elsewhere. Told of the source that was left.
    Left,
}
use Fate::{Ended, Left, Refused};

/// Fault, place, fate, and the words that are true of it, the most specific
/// first.
type Row = (&'static str, Where, Fate, &'static [&'static str]);

/// The engine accepted, and nothing came of it.
const SILENT: &[&str] = &["engine_silent", "start_timeout"];
/// Playback began to be prepared, and took too long.
const SLOW: &[&str] = &["start_timeout"];
/// The engine knows the content and has an error instead of bytes.
const NOT_STARTED: &[&str] = &["start_failed", "start_timeout"];
const NONSENSE: &[&str] = &["engine_error"];
const TEXT: &[&str] = &["not_transport_stream"];
const RESTRICTED: &[&str] = &["content_restricted"];
const UNAVAILABLE: &[&str] = &["content_unavailable"];
const CLOSED: &[&str] = &["engine_closed"];
const RESET: &[&str] = &["engine_reset"];
/// The framing is broken off: an end as well as a breach.
const CUT: &[&str] = &["engine_reset", "engine_closed"];
/// The engine gives the session up and closes: one shows in its statistics, the
/// other in the bytes.
const EXPIRED: &[&str] = &["session_lost", "engine_closed"];
const STALLED: &[&str] = &["stalled"];
const STARVING: &[&str] = &["starving"];
/// Nothing can be asked, or what was asked answers with an error.
const UNUSABLE: &[&str] = &["no_engine", "engine_error"];

/// The longest first. Not here, since no session ends of them: what is survived
/// without leaving the engine, and `access-denied`, which means other hosts than
/// this one.
const ROWS: &[Row] = &[
    ("wrong-bitrate(0.5)", OneContent, Left, STARVING),
    ("starve-decay(4s)", OneContent, Left, STARVING),
    ("slow-trickle(188,1s)", OneContent, Left, STARVING),
    ("loop-content(4s)", Content, Left, &["looping"]),
    // 17.1
    ("healthy-vod(4s)", Content, Ended, &["content_ended"]),
    // 17.2
    ("slow-metadata(60s)", Content, Refused, SILENT),
    ("slow-start(60s)", Content, Refused, SLOW),
    ("slow-start-500(60s)", Content, Refused, NOT_STARTED),
    ("warmup-empty(1000)", Content, Refused, NOT_STARTED),
    ("metadata-failure", Content, Refused, UNAVAILABLE),
    ("metadata-failure(1s)", Content, Refused, UNAVAILABLE),
    ("catalogue-down", Content, Refused, SILENT),
    ("catalogue-down(1s)", Content, Refused, UNAVAILABLE),
    ("metadata-hang", Content, Refused, SILENT),
    ("late-success(20s)", Content, Refused, SILENT),
    ("start-failure-after-metadata", Content, Refused, &["start_failed"]),
    ("no-peers", Content, Refused, &["no_peers"]),
    ("peers-no-data", Content, Refused, &["peers_without_data"]),
    ("missing-option", Content, Refused, RESTRICTED),
    ("encrypted", Content, Refused, RESTRICTED),
    ("mod-detected", Content, Refused, NONSENSE),
    ("superseded(100)", Content, Refused, &["session_lost", "start_failed"]),
    ("bad-json(truncated)", Content, Refused, NONSENSE),
    ("bad-json(internal)", Content, Refused, NONSENSE),
    ("bad-json(html)", Content, Refused, NONSENSE),
    ("bad-json(jsonp)", Content, Refused, NONSENSE),
    ("bad-json(empty-response)", Content, Refused, NONSENSE),
    ("bad-json(no-playback-url)", Content, Refused, NONSENSE),
    ("bad-json(huge)", Content, Refused, NONSENSE),
    ("bad-json(empty-body)", Content, Refused, NONSENSE),
    // 17.3
    ("stall(0b)", Content, Refused, SLOW),
    ("stall(1s)", Content, Ended, STALLED),
    ("stall(0b)", OneContent, Left, STALLED),
    ("long-gap-recover(1s,60s)", Content, Ended, STALLED),
    ("slow-trickle(1,100ms)", Content, Refused, SLOW),
    ("disconnect-fin(0b)", Content, Refused, &["start_failed", "engine_closed"]),
    ("disconnect-fin(2s)", Content, Left, CLOSED),
    ("disconnect-fin(0b)", OneContent, Left, CLOSED),
    ("disconnect-rst(0b)", Content, Refused, &["engine_reset", "start_failed"]),
    ("disconnect-rst(2s)", Content, Left, RESET),
    ("disconnect-rst(0b)", OneContent, Left, RESET),
    ("disconnect-chunk(2s,no-end)", Content, Left, CUT),
    ("disconnect-chunk(2s,bad-size)", Content, Left, CUT),
    ("partial-packet-end(2s)", Content, Left, CLOSED),
    ("session-expired(3s)", Content, Left, EXPIRED),
    ("session-replaced(3s)", Content, Left, EXPIRED),
    // 17.4
    ("lost-sync-run(1000000,1s)", Content, Ended, TEXT),
    ("text-body(html)", Content, Refused, TEXT),
    ("text-body(json)", Content, Refused, TEXT),
    ("text-body(m3u8)", Content, Refused, TEXT),
    // 17.5
    ("redirect-loop", Content, Refused, NONSENSE),
    ("double-status", Content, Refused, NONSENSE),
    ("huge-headers-lines(300)", Content, Refused, NONSENSE),
    ("huge-headers-lines(100000)", Content, Refused, NONSENSE),
    ("huge-headers-line(65536)", Content, Refused, NONSENSE),
    ("huge-headers-line(1048576)", Content, Refused, NONSENSE),
    ("header-trickle(1s)", Content, Refused, SLOW),
    ("gzip-anyway", Content, Refused, NONSENSE),
    ("http-500-all", Content, Refused, NONSENSE),
    ("http-500-all", Alone, Refused, NONSENSE),
    ("http-500-rate(100)", Content, Refused, NONSENSE),
    // For a content alone, its start is reset.
    ("refuse", Content, Refused, RESET),
    ("refuse", Alone, Refused, &["engine_unreachable"]),
    ("rst-on-accept", Content, Refused, RESET),
    ("rst-on-accept", Alone, Refused, RESET),
    ("hang-accept", Content, Refused, SILENT),
    ("hang-accept", Alone, Refused, SILENT),
    ("hang-backlog", Alone, Refused, SILENT),
    ("api-hang-media-ok", Alone, Refused, SILENT),
    ("api-ok-media-hang", Alone, Refused, SILENT),
    // 17.6
    ("stat-lies(rosy)", Content, Refused, SLOW),
    ("stat-lies(rosy,2s)", Content, Ended, STALLED),
    ("stat-gone(2s,5s)", Content, Left, EXPIRED),
    // 17.8
    ("boot-never", Unmet, Refused, &["no_engine"]),
    ("boot-slow(60s)", Unmet, Refused, &["no_engine"]),
    ("start-limit(1)", OnlyEngine, Left, EXPIRED),
    ("crash(0s,3s)", OneEngine, Left, RESET),
    ("crash(0s,60s)", OnlyEngine, Ended, RESET),
    ("crash-loop(1s,2s)", OneEngine, Left, RESET),
    ("oom(0,1)", OneEngine, Left, RESET),
    ("network-lost", OneEngine, Left, STALLED),
    ("network-lost", OnlyEngine, Ended, STALLED),
    ("network-lost", Alone, Refused, SILENT),
    // Not the content's fault: the engine says that it is not connected.
    ("network-lost(0ms,1s)", Alone, Refused, UNUSABLE),
    ("port-drift", OneEngine, Left, RESET),
    ("port-drift", OnlyEngine, Ended, RESET),
    ("slow-shutdown(1s)", OneEngine, Left, CUT),
    ("disk-full(1s)", OneEngine, Left, STALLED),
    ("disk-full(1s)", OnlyEngine, Ended, STALLED),
    ("disk-full", Alone, Refused, NONSENSE),
];

/// What was told of one fault: of what, and the word.
type Telling = (&'static str, String);

#[test]
fn the_cause_told_is_the_right_one_for_95_of_100_scripted_faults() {
    let wrong = Mutex::new(Vec::new());
    let (count, best) = (Mutex::new(0usize), Mutex::new(0usize));
    run_all(ROWS, AT_ONCE, |(fault, place, fate, right)| {
        let told = play(fault, place, fate);
        let is_right = |(_, word): &Telling| right.contains(&word.as_str());
        *count.lock().unwrap() += 1;
        if told.iter().all(|(_, word)| *word == right[0]) {
            *best.lock().unwrap() += 1;
        }
        if !told.iter().all(is_right) {
            wrong.lock().unwrap().push(format!("{fault} {place:?}: {told:?}, right is {right:?}"));
        }
    });
    let (count, best, wrong) = (*count.lock().unwrap(), *best.lock().unwrap(), wrong.into_inner().unwrap());
    let right = count - wrong.len();
    let share = right as f64 * 100.0 / count as f64;
    eprintln!(
        "right {right} of {count}, {share:.1} %; the most specific cause for {best}; wrong: {wrong:#?}"
    );
    assert!(share >= 95.0, "{share:.1} % of {count}, wrong: {wrong:#?}");
}

/// Plays a fault and collects what is told of it, never nothing.
fn play(fault: &str, place: Where, fate: Fate) -> Vec<Telling> {
    let scenario: Scenario = fault.parse().unwrap();
    let count = if matches!(place, Content | OneContent | OneEngine) { 3 } else { 1 };
    // Little ahead, so that what is missing shows soon.
    let emulator = engines_with(count, |timing| Timing { burst: Duration::from_secs(4), ..timing });
    let id = if matches!(place, Content) { signed(scenario, 7) } else { healthy(7) };
    let server = match place {
        Unmet => {
            emulator.set_engine_scenario(0, scenario);
            serve(&emulator.addresses(), SETTINGS)
        }
        _ => serve_ready(&emulator, SETTINGS),
    };
    let server = server.allow("engine turned");
    if matches!(place, Alone) {
        emulator.set_engine_scenario(0, scenario);
    }
    if let Refused = fate {
        return refused(&server, id);
    }
    let audience = Audience::watch(server.address(), &[id], 1);
    if !matches!(place, Content) {
        assert!(audience.all_play_within(Duration::from_secs(10)), "{:?}", audience.seen());
        // The pace is the point: it is to have played for some time.
        std::thread::sleep(Duration::from_secs(2));
        befall(&emulator, place, scenario, id);
    }
    // What another content takes, this one loses.
    let limited = scenario.name() == "start-limit";
    let _other = limited.then(|| Audience::watch(server.address(), &[healthy(8)], 1));
    match fate {
        Ended => ended(&server, id),
        Left | Refused => vec![("source", left(&server, id))],
    }
}

/// Lets the fault happen to who plays.
fn befall(emulator: &Emulator, place: Where, scenario: Scenario, id: ContentId) {
    let engines = emulator.addresses().len();
    let playing = (0..engines).find(|engine| emulator.engine_counters(*engine).open_readers == 1).unwrap();
    if matches!(place, OneContent) {
        emulator.set_scenario(Some(playing), &id.to_string(), scenario);
        return;
    }
    emulator.set_engine_scenario(playing, scenario);
    // Both come only with the end of the process.
    match scenario.name() {
        "slow-shutdown" => emulator.terminate(playing),
        "port-drift" => {
            emulator.kill(playing);
            emulator.revive(playing);
        }
        _ => {}
    }
}

/// What the viewer is answered, why the session ended, and of every attempt that
/// failed what of.
fn refused(server: &Server, id: ContentId) -> Vec<Telling> {
    let mut viewer = Viewer::ask(server.address(), &path_of(id)).unwrap();
    let bytes = viewer.read_for(Duration::from_secs(20)).unwrap();
    let answer = parse_answer(&bytes).expect("an answer within 20 s");
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = json["error"]["cause"].as_str().unwrap_or("no cause");
    let mut told =
        vec![("viewer", format!("{word}{}", if answer.status == 200 { " and a picture" } else { "" }))];
    told.extend(ended(server, id));
    let session = session(server, id).unwrap();
    told.extend(notes(&session).filter(|n| n["what"] == "failed").map(|n| ("attempt", cause_in(n))));
    told
}

/// Why the session ended. A cause without evidence in words is none.
fn ended(server: &Server, id: ContentId) -> Vec<Telling> {
    let mut cause = String::new();
    let has_ended = || {
        let Some(session) = session(server, id).filter(|s| s["state"] == "ended") else { return false };
        let evidence = session["detail"].as_str().unwrap_or("");
        cause = session["cause"].as_str().unwrap_or("no cause").to_owned();
        if evidence.is_empty() {
            cause += " without evidence";
        }
        true
    };
    let is_over = wait_until(TOLD, has_ended);
    vec![("session", if is_over { cause } else { "not ended".to_owned() })]
}

/// Why the first source was left: what it was lost of, or what was held against
/// it before another one took over.
fn left(server: &Server, id: ContentId) -> String {
    const VERDICTS: &[&str] = &["stalled", "starving", "looping", "session_lost"];
    let mut told = "nothing".to_owned();
    let has_been_left = || {
        let Some(session) = session(server, id) else { return false };
        let first = notes(&session).position(|n| n["what"] == "plays").unwrap_or(0);
        for note in notes(&session).skip(first + 1) {
            let what = note["what"].as_str().unwrap();
            if what == "lost" || VERDICTS.contains(&what) {
                told = if what == "lost" { cause_in(note) } else { what.to_owned() };
                return true;
            }
            if what == "plays" || what == "ended" {
                return true;
            }
        }
        false
    };
    if wait_until(TOLD, has_been_left) { told } else { "not left".to_owned() }
}

fn notes(session: &Value) -> impl Iterator<Item = &Value> {
    session["timeline"].as_array().unwrap().iter()
}

/// `cause: evidence`, as a note says it.
fn cause_in(note: &Value) -> String {
    let detail = note["detail"].as_str().unwrap();
    match detail.split_once(": ") {
        Some((cause, evidence)) if !evidence.is_empty() => cause.to_owned(),
        _ => format!("{detail} without evidence"),
    }
}
