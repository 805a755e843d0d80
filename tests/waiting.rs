//! Who waits for a stream to start is kept by filler for as long as there is
//! hope, and is told the truth as soon as there is none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{ContentId, Scenario, signed::Report};
use serde_json::Value;
use support::stage::{Setup, Stage, path, signed};

mod support;

const RATE: u32 = 2_000_000;

/// What a player with a read time-out has seen.
struct Seen {
    status: u16,
    /// From the request to the head.
    head_after: Duration,
    /// From the request to the first packet that is no filler.
    picture_after: Option<Duration>,
    report: Report,
    /// Whether the server closed the connection.
    closed: bool,
    took: Duration,
    body: Vec<u8>,
}

/// Asks as `agent` and reads until `seconds` of picture, the end, or `limit`.
/// Panics when nothing comes for `patience`.
fn play(
    stage: &Stage,
    id: &ContentId,
    query: &str,
    agent: &str,
    patience: Duration,
    limit: Duration,
) -> Seen {
    let mut socket = TcpStream::connect(stage.server.address()).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let asked = Instant::now();
    write!(socket, "GET {}{query} HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n", path(id)).unwrap();
    let (mut head, mut status, mut head_after) = (Vec::new(), 0, Duration::ZERO);
    let mut verifier = id.verifier().unwrap();
    let (mut picture_after, mut closed, mut body) = (None, false, Vec::new());
    let mut piece = vec![0; 64 << 10];
    while asked.elapsed() < limit {
        let read = match socket.read(&mut piece) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("{agent}: nothing for {patience:?}, {:?} after the request", asked.elapsed());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("{agent}: {error}"),
        };
        if read == 0 {
            closed = true;
            break;
        }
        let mut bytes = &piece[..read];
        if status == 0 {
            head.extend_from_slice(bytes);
            let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            status = String::from_utf8_lossy(&head[9..12]).parse().unwrap();
            head_after = asked.elapsed();
            bytes = &head[at + 4..];
        }
        body.extend_from_slice(&bytes[..bytes.len().min(4096)]);
        verifier.push(bytes, SystemTime::now());
        let report = verifier.report();
        if picture_after.is_none() && report.first.is_some() {
            picture_after = Some(asked.elapsed());
        }
        let enough = u64::from(RATE) / 1504 * 3;
        if report.first.zip(report.last).is_some_and(|(first, last)| last - first > enough) {
            break;
        }
    }
    let report = verifier.report();
    Seen { status, head_after, picture_after, report, closed, took: asked.elapsed(), body }
}

#[test]
fn players_with_short_time_outs_survive_a_cold_start_that_makes_progress() {
    const COLD: Duration = Duration::from_secs(45);
    let Some(stage) = Stage::start(&Setup { engines: 3, ..Setup::default() }) else { return };
    let id = signed(RATE, Scenario::slow_start(COLD), 1);
    let players = [
        (3, "Dispatcharr/0.9", ""),
        (3, "an unknown box", ""),
        (6, "Channels DVR", ""),
        (8, "TiviMate/5.1.0 (Android)", ""),
        (10, "Lavf/61.7.100", ""),
        (3, "curl/8.14.1", "&wait=1"),
        (60, "curl/8.14.1", ""),
    ];
    thread::scope(|scope| {
        let playing: Vec<_> = players
            .iter()
            .map(|(patience, agent, query)| {
                let (stage, id) = (&stage, &id);
                let patience = Duration::from_secs(*patience);
                scope.spawn(move || (agent, play(stage, id, query, agent, patience, COLD * 2)))
            })
            .collect();
        for (player, (patience, ..)) in playing.into_iter().zip(players) {
            let (agent, seen) = player.join().unwrap();
            assert_eq!(seen.status, 200, "{agent}");
            assert!(seen.report.is_unbroken(), "{agent}: {:?}", seen.report);
            let picture = seen.picture_after.unwrap();
            assert!(picture >= COLD && picture < COLD + Duration::from_secs(6), "{agent}: {picture:?}");
            let is_humoured = seen.head_after < Duration::from_secs(3);
            assert_eq!(is_humoured, patience < 60, "{agent}: headers after {:?}", seen.head_after);
            assert_eq!(seen.report.filler > 30, is_humoured, "{agent}: {:?}", seen.report);
        }
    });
    assert_eq!(stage.emulator.counters().misuse, Default::default());
}

#[test]
fn a_dead_content_is_answered_for_within_thirty_seconds_and_then_at_once() {
    let Some(stage) = Stage::start(&Setup { engines: 3, ..Setup::default() }) else { return };
    let patience = Duration::from_secs(40);
    for (scenario, status, cause, limit) in [
        ("metadata-failure", 404, "content_unavailable", 30),
        ("start-failure-after-metadata", 502, "start_failed", 30),
    ] {
        let id = signed(RATE, scenario.parse().unwrap(), 2);
        let first = play(&stage, &id, "", "curl/8", patience, patience);
        assert_eq!(first.status, status, "{scenario}");
        let said: Value = serde_json::from_slice(&first.body).unwrap();
        assert_eq!(said["error"]["cause"], cause, "{scenario}: {said}");
        assert!(first.took < Duration::from_secs(limit), "{scenario}: {:?}", first.took);

        let starts = stage.emulator.counters().starts;
        for agent in ["curl/8", "TiviMate/5"] {
            let again = play(&stage, &id, "", agent, patience, patience);
            assert_eq!(again.status, 503, "{scenario}, {agent}");
            let said: Value = serde_json::from_slice(&again.body).unwrap();
            assert_eq!(said["error"]["cause"], "content_blocked", "{scenario}, {agent}: {said}");
            let wait = said["error"]["retry_after_seconds"].as_u64().unwrap();
            assert!((1..=5).contains(&wait), "{scenario}: {wait} s");
            // A deadline that a refusal from memory cannot miss.
            assert!(again.head_after < Duration::from_millis(50), "{scenario}: {:?}", again.head_after);
        }
        assert_eq!(stage.emulator.counters().starts, starts, "{scenario}: an engine was asked again");
    }
}

#[test]
fn a_player_that_was_sent_headers_is_closed_when_there_is_no_hope() {
    let Some(stage) = Stage::start(&Setup { engines: 2, ..Setup::default() }) else { return };
    let id = signed(RATE, Scenario::metadata_hang(), 3);
    let seen = play(&stage, &id, "", "ExoPlayer", Duration::from_secs(3), Duration::from_secs(40));
    assert!(seen.closed && seen.status == 200, "status {}", seen.status);
    assert_eq!(seen.report.first, None);
    let seconds = seen.took.as_secs_f64();
    assert!((29.0..31.5).contains(&seconds), "closed after {seconds} s");
    assert!(seen.report.filler >= 25, "{:?}", seen.report);
    // Whoever asks for a status gets one.
    let answer = stage.server.get(&format!("{}&wait=soon", path(&id)));
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn the_operator_and_the_request_say_how_patient_a_player_is() {
    let config = "[streams]\nlinger = \"0s\"\n[viewers]\nheaders_after = \"1s\"\nplayers = [\"vlc=0\", \"mpv=status\"]\n".to_owned();
    let Some(stage) = Stage::start(&Setup { config, ..Setup::default() }) else { return };
    let id = signed(RATE, Scenario::slow_start(Duration::from_secs(4)), 4);
    let patience = Duration::from_secs(20);
    for (agent, query, from, to) in [
        ("VLC/3.0.21", "", 0.0, 0.6),
        ("unknown", "", 1.0, 1.8),
        ("mpv 0.35", "", 3.5, 9.0),
        ("unknown", "&wait=status", 3.5, 9.0),
        ("mpv 0.35", "&wait=2", 2.0, 2.8),
    ] {
        let seen = play(&stage, &id, query, agent, patience, patience);
        let after = seen.head_after.as_secs_f64();
        assert_eq!(seen.status, 200, "{agent}{query}");
        assert!((from..to).contains(&after), "{agent}{query}: headers after {after} s");
        assert!(seen.report.is_unbroken(), "{agent}{query}: {:?}", seen.report);
        // The next one meets a cold stream again.
        stage.wait_metric("millrace_viewers", 0.0);
        assert!(support::wait_until(Duration::from_secs(25), || stage.slots_taken() == 0));
    }
}
