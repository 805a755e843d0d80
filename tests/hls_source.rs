//! An engine's HLS as a source: whatever its playlists and segments do, viewers
//! get every packet in order, or are told where some are missing, and the
//! viewers of everything else notice nothing.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{ContentId, Emulator, EmulatorConfig, PathKind, Scenario, Timing, signed::Report};
use serde_json::Value;
use support::{
    Audience, Netns, Server, Viewer, assert_undisturbed,
    delay::delayed,
    engines::EngineProcess,
    get,
    pool::{engines_with, healthy, kept_waiting, path_of, serve, serve_ready, session, signed, status},
    rows::run_all,
    skip,
    stage::{Driver, Setup, Stage},
    wait_until,
};

mod support;

/// Rows that run at the same time. They mostly wait.
const AT_ONCE: usize = 13;
/// For a start that nothing holds up, on a busy machine.
const START: Duration = Duration::from_secs(8);
/// No viewer of a transport stream may be without bytes for longer.
const GAP: Duration = Duration::from_secs(1);
/// Those who watch something else meanwhile.
const AUDIENCE: usize = 4;
const SETTINGS: &str = "[engines]\ncapacity = 2\n\
    [streams]\nstart_budget = \"7s\"\nlongest_start = \"7s\"\nlinger = \"1s\"\nsilence_limit = \"20s\"\n";

/// What the viewer of a scenario gets.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Every packet, for so many seconds.
    Whole(u64),
    /// The same, with at least one jump that is signalled and nothing else amiss.
    Mended(u64),
    /// One or the other.
    Legal(u64),
    /// The same, and its session has this note.
    Noted(u64, &'static str),
    /// This status with this cause, and no byte of a stream.
    Refused(u16, &'static str),
}
use Expect::{Legal, Mended, Noted, Refused, Whole};

/// Scenario, what comes of it, and when at the latest its first byte or its
/// refusal has come, in milliseconds beyond a quick start.
const ROWS: &[(&str, Expect, u64)] = &[
    // The longest first.
    ("hls-slow-segment(150)", Whole(16), 3_000),
    ("hls-slow-segment(400)", Noted(14, "starving"), 10_000),
    ("hls-sequence(back,6s)", Legal(18), 0),
    ("hls-sequence(repeat,6s)", Noted(20, "hedged"), 0),
    ("hls-loop(4s,4s)", Noted(16, "looping"), 0),
    // The others in their order.
    ("healthy-hls", Whole(12), 0),
    ("hls-not-ready(held,3s)", Whole(8), 3_000),
    ("hls-not-ready(500,3s)", Whole(8), 5_000),
    ("hls-not-ready(no-playlist,3s)", Whole(8), 5_000),
    ("hls-not-ready(no-segments,3s)", Whole(8), 5_000),
    ("hls-not-ready(held,60s)", Refused(504, "start_timeout"), 4_000),
    ("hls-not-ready(500,60s)", Refused(502, "start_failed"), 4_000),
    ("hls-not-ready(no-playlist,60s)", Refused(502, "start_failed"), 4_000),
    ("hls-not-ready(no-segments,60s)", Refused(502, "start_failed"), 4_000),
    ("hls-missing-segments(404,4)", Mended(14), 0),
    ("hls-missing-segments(500,4)", Mended(14), 0),
    ("hls-missing-segments(empty,4)", Mended(14), 0),
    ("hls-missing-segments(redirect,4)", Mended(14), 0),
    ("hls-short-segment(4)", Mended(14), 0),
    ("hls-discontinuity(tagged,3)", Mended(14), 0),
    ("hls-discontinuity(untagged,3)", Mended(14), 0),
    ("hls-sequence(reset,6s)", Legal(13), 0),
    ("hls-sequence(jump,6s)", Legal(13), 0),
    ("hls-sequence(duplicate)", Whole(12), 0),
    ("hls-403(6s)", Whole(13), 0),
    ("hls-500-after-stop", Whole(8), 0),
    ("hls-master", Whole(10), 0),
    ("hls-odd-list(all)", Whole(10), 0),
    ("hls-odd-list(crlf)", Whole(5), 0),
    ("hls-odd-list(bom)", Whole(5), 0),
    ("hls-odd-list(no-version)", Whole(5), 0),
    ("hls-odd-list(integers)", Whole(5), 0),
    ("hls-odd-list(short-target)", Whole(5), 0),
    ("hls-odd-list(relative)", Whole(5), 0),
    ("hls-odd-list(comments)", Whole(5), 0),
    ("hls-no-idr", Whole(10), 0),
    ("hls-idle-expiry", Whole(14), 0),
];

fn name(text: &str) -> &str {
    text.split('(').next().unwrap()
}

fn by_hls(id: ContentId) -> String {
    format!("{}&source=hls", path_of(id))
}

/// Engines whose sessions end when nothing is asked of them for six seconds.
fn engines(count: u16) -> Emulator {
    engines_with(count, |timing| Timing { expiry: Duration::from_secs(6), ..timing })
}

#[test]
fn every_hls_scenario_gives_a_legal_stream_or_an_honest_answer_and_disturbs_nobody() {
    let of_hls = |name: &str| name == "healthy-hls" || name.starts_with("hls-");
    let catalogue: BTreeSet<_> = Scenario::catalogue().map(|s| name(&s).to_owned()).collect();
    let catalogue: BTreeSet<_> = catalogue.into_iter().filter(|name| of_hls(name)).collect();
    let tabled: BTreeSet<_> = ROWS.iter().map(|row| name(row.0).to_owned()).collect();
    assert_eq!(tabled, catalogue);
    run_all(ROWS, AT_ONCE, |(text, expect, beyond)| {
        row(text, expect, START + Duration::from_millis(beyond));
    });
}

/// Three engines with two slots each; a broadcast with an audience plays on
/// every one of them, one of these by HLS, so each attempt of the scenario has
/// company.
fn row(text: &str, expect: Expect, deadline: Duration) {
    let emulator = engines(3);
    let server = serve_ready(&emulator, SETTINGS);
    let audience = Audience::watch(server.address(), &[1, 2].map(healthy), AUDIENCE);
    let listed = Audience::watch_at(server.address(), &[healthy(3)], 1, by_hls);
    assert!(audience.all_play_within(START) && listed.all_play_within(START), "the others play before");

    let id = signed(text.parse().unwrap(), 7);
    check(&server, id, expect, deadline);

    assert_undisturbed(&audience.leave(), GAP + kept_waiting(&server));
    // A segment lasts two seconds.
    assert_undisturbed(&listed.leave(), GAP + Duration::from_secs(3) + kept_waiting(&server));
    assert_left(&server, &emulator);
}

/// Nothing is left open, and engines were well used.
fn assert_left(server: &Server, emulator: &Emulator) {
    let emptied = Duration::from_secs(1) + Duration::from_secs(3) + START;
    let taken = || status(server, "/engines/slots_taken");
    assert!(wait_until(emptied, || taken() == 0), "{} slots are taken by nobody", taken());
    let counters = || emulator.counters();
    assert!(wait_until(START, || counters().open_sessions == 0), "{} sessions", counters().open_sessions);
    assert_eq!(counters().misuse, Default::default());
}

/// Asks for `id` and compares what comes with what is expected.
fn check(server: &Server, id: ContentId, expect: Expect, deadline: Duration) {
    let asked = Instant::now();
    let mut viewer = Viewer::ask(server.address(), &by_hls(id)).unwrap();
    let left = || deadline.saturating_sub(asked.elapsed());
    if let Refused(status, cause) = expect {
        viewer.expect_refusal(deadline, status, cause);
        return;
    }
    let (Whole(seconds) | Mended(seconds) | Legal(seconds) | Noted(seconds, _)) = expect else {
        unreachable!()
    };
    assert_eq!(viewer.head(left()).unwrap().0, 200);
    let report = watch(&mut viewer, id, seconds);
    assert!(report.is_unbroken(), "{report:?}");
    match expect {
        Whole(_) => assert_eq!(report.signalled_jumps, 0, "{report:?}"),
        Mended(_) => assert!(report.signalled_jumps > 0, "{report:?}"),
        Noted(_, note) => {
            let told = session(server, id).unwrap();
            let notes = told["timeline"].as_array().unwrap();
            assert!(notes.iter().any(|n| n["what"] == note), "{told:#}");
        }
        Legal(_) | Refused(..) => {}
    }
}

/// Reads for `seconds`, to the last of which there has to be a picture.
fn watch(viewer: &mut Viewer, id: ContentId, seconds: u64) -> Report {
    let mut verifier = id.verifier().unwrap();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (ended, _) = viewer.read_until(deadline, |bytes| verifier.push(bytes, SystemTime::now()));
    assert!(!ended, "ended: {:?}", verifier.report());
    verifier.report()
}

/// Viewers of one stream.
const CROWD: usize = 50;

/// The value of a sample of `/metrics`.
fn metric(server: &Server, name: &str) -> f64 {
    server.metrics().get(name).copied().unwrap_or_else(|| panic!("no metric {name}"))
}

#[test]
fn each_segment_is_fetched_once_over_connections_that_are_used_again() {
    run_all(&[Driver::Uring, Driver::Epoll], 2, |driver| {
        let setup = Setup { driver, config: SETTINGS.to_owned(), ..Setup::default() };
        let Some(stage) = Stage::start(&setup) else { return };
        let began = Instant::now();
        let audience = Audience::watch_at(stage.server.address(), &[healthy(1)], CROWD, by_hls);
        assert!(audience.all_play_within(START));
        // The ratio of what is used again to the connections of the beginning.
        assert!(!wait_until(Duration::from_secs(36), || audience.seen().iter().any(|s| s.ended)));
        let seconds = began.elapsed().as_secs_f64();
        let asked = |kind: PathKind| stage.emulator.counters().requests.get(&kind).copied().unwrap_or(0);

        assert_eq!((asked(PathKind::Manifest), asked(PathKind::Getstream)), (1, 0));
        let (segments, lists) = (asked(PathKind::Segment) as f64, asked(PathKind::Playlist) as f64);
        // Three at the beginning, then one every two seconds.
        assert!(
            (3.0 + seconds / 2.1 - 2.0..3.0 + seconds / 1.9 + 2.0).contains(&segments),
            "{segments} segments"
        );
        assert!(lists < seconds + 5.0, "{lists} lists in {seconds} s");
        let metric = |name: &str| metric(&stage.server, &format!("millrace_hls_source_{name}_total"));
        let is_counted = || metric("fetches") >= segments && metric("requests") >= segments + lists;
        assert!(wait_until(START, is_counted), "{} of {segments}", metric("fetches"));
        let reuse = metric("reused") / metric("requests");
        println!("{driver:?}: {reuse:.3} of {} requests over used connections", metric("requests"));
        assert!(reuse > 0.9, "{reuse}");
        assert_eq!((metric("fetches_failed"), metric("skipped"), metric("breaks")), (0.0, 0.0, 0.0));
        assert_undisturbed(&audience.leave(), GAP + Duration::from_secs(3) + kept_waiting(&stage.server));
        assert_left(&stage.server, &stage.emulator);
    });
}

#[test]
fn a_segment_that_fails_is_asked_for_once_more_and_then_given_up() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, SETTINGS);
    let id = signed("hls-missing-segments(404,2)".parse().unwrap(), 1);
    let audience = Audience::watch_at(server.address(), &[id], 1, by_hls);
    let metric = |name: &str| metric(&server, &format!("millrace_hls_source_{name}_total"));
    assert!(wait_until(Duration::from_secs(30), || metric("skipped") >= 3.0));
    let (failed, skipped) = (metric("fetches_failed"), metric("skipped"));
    assert!((2.0 * skipped..=2.0 * skipped + 2.0).contains(&failed), "{failed} failed, {skipped} skipped");
    let report = audience.leave().remove(0).report;
    assert!(report.is_unbroken() && report.signalled_jumps >= 2, "{report:?}");
}

#[test]
fn an_engine_that_closes_idle_connections_costs_no_segment() {
    let emulator = engines(1);
    let engine = closing(emulator.addresses()[0]);
    let server = serve(&[engine], SETTINGS);
    assert!(wait_until(START, || status(&server, "/engines/ready") == 1));
    let audience = Audience::watch_at(server.address(), &[healthy(1)], 1, by_hls);
    assert!(audience.all_play_within(START));
    let metric = |name: &str| metric(&server, &format!("millrace_hls_source_{name}_total"));
    assert!(wait_until(Duration::from_secs(20), || metric("fetches") >= 6.0));
    assert_eq!((metric("reused"), metric("fetches_failed")), (0.0, 0.0));
    assert_undisturbed(&audience.leave(), GAP + Duration::from_secs(3) + kept_waiting(&server));
}

/// In front of an engine: a connection on which a second request comes is closed
/// without an answer, as one is that was idle for too long.
fn closing(engine: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let Ok(mut upstream) = TcpStream::connect(engine) else { continue };
            let (mut answer, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                std::io::copy(&mut answer, &mut to).ok();
                to.shutdown(Shutdown::Both).ok();
            });
            thread::spawn(move || {
                let mut request = vec![0; 16 << 10];
                // A client that has left closes both as well.
                let read = client.read(&mut request).unwrap_or(0);
                upstream.write_all(&request[..read]).ok();
                // The next request, or the end.
                client.peek(&mut request).ok();
                upstream.shutdown(Shutdown::Both).ok();
                client.shutdown(Shutdown::Both).ok();
            });
        }
    });
    address
}

#[test]
fn the_time_between_two_segments_is_no_silence() {
    let emulator = engines_with(2, |timing| Timing { hls_segment: Duration::from_secs(6), ..timing });
    let server = serve_ready(&emulator, "[streams]\nstall_after = \"1s\"\n");
    let audience = Audience::watch_at(server.address(), &[healthy(1)], 1, by_hls);
    assert!(audience.all_play_within(START));
    let segments = || emulator.counters().requests.get(&PathKind::Segment).copied().unwrap_or(0);
    assert!(wait_until(Duration::from_secs(40), || segments() >= 6), "{} segments", segments());
    let told = session(&server, healthy(1)).unwrap();
    let notes: Vec<_> =
        told["timeline"].as_array().unwrap().iter().map(|n| n["what"].as_str().unwrap()).collect();
    assert!(!notes.contains(&"stalled") && emulator.counters().starts == 1, "{notes:?}");
    assert_undisturbed(&audience.leave(), Duration::from_secs(8) + kept_waiting(&server));
}

#[test]
fn a_stream_that_is_stopped_closes_its_connections_and_its_session() {
    run_all(&[Driver::Uring, Driver::Epoll], 2, |driver| {
        let setup = Setup { driver, config: SETTINGS.to_owned(), ..Setup::default() };
        let Some(stage) = Stage::start(&setup) else { return };
        let port = stage.emulator.addresses()[0].port();
        let connections = || connected(port).unwrap();
        assert!(wait_until(START, || connections() == 0), "probes close their connections");
        // Segments are slow, so that two are under way.
        let id = signed("hls-slow-segment(150)".parse().unwrap(), 1);
        let mut viewer = Viewer::ask(stage.server.address(), &by_hls(id)).unwrap();
        viewer.read_exact(100_000, START).unwrap();
        assert!(connections() >= 2, "{} connections", connections());

        // Which streams there are is told once a second.
        let path = format!("/api/v1/streams/id%3A{id}");
        assert!(wait_until(START, || stage.server.ask("DELETE", &path).status == 202));
        let asked = Instant::now();
        assert!(viewer.is_closed_within(Duration::from_secs(1)));
        let counters = || stage.emulator.counters();
        assert!(wait_until(Duration::from_secs(1), || counters().stops == 1 && counters().open_sessions == 0));
        assert!(wait_until(Duration::from_secs(2), || connections() == 0), "{} stay open", connections());
        println!("{driver:?}: all was closed after {:?}", asked.elapsed());
    });
}

/// Connections to a local port.
fn connected(port: u16) -> Result<usize, String> {
    let filter = format!("dport = :{port}");
    let output = Command::new("ss").args(["-Htn", "state", "established", &filter]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).lines().count()).map_err(|e| format!("ss: {e}"))
}

#[test]
fn a_session_that_somebody_else_ends_is_begun_anew() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, SETTINGS);
    let id = healthy(1);
    let audience = Audience::watch_at(server.address(), &[id], 1, by_hls);
    assert!(audience.all_play_within(START));

    // A stop of one session of a content ends all of them.
    let engine = emulator.addresses()[0];
    let told = get(engine, &format!("/ace/manifest.m3u8?format=json&pid=other&id={id}")).unwrap();
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    let command = told["response"]["command_url"].as_str().unwrap();
    let path = &command[command.find("/ace/").unwrap()..];
    get(engine, &format!("{path}?method=stop")).unwrap();

    let starts = || emulator.counters().starts;
    assert!(wait_until(Duration::from_secs(8), || starts() == 3), "{} starts", starts());
    let lost = |n: &Value| n["what"] == "lost" && n["detail"].as_str().unwrap().starts_with("session_lost");
    let told = session(&server, id).unwrap();
    assert!(told["timeline"].as_array().unwrap().iter().any(lost), "{told:#}");
    let before = audience.seen()[0].report.last;
    assert!(wait_until(START, || audience.seen()[0].report.last > before), "goes on");
    assert_undisturbed(&audience.leave(), Duration::from_secs(8));
}

#[test]
fn an_engine_that_dies_is_left_for_another_at_once() {
    let engines = [(); 2].map(|()| EngineProcess::start(&["--fast", "--hls-segment", "5s"]));
    let addresses = engines.each_ref().map(EngineProcess::address);
    let server = serve(&addresses, SETTINGS).allow("engine turned");
    assert!(wait_until(START, || status(&server, "/engines/ready") == 2));
    let audience = Audience::watch_at(server.address(), &[healthy(1)], 3, by_hls);
    assert!(audience.all_play_within(START));
    let plays_on = |server: &Server| {
        let told = session(server, healthy(1)).unwrap();
        let notes = told["timeline"].as_array().unwrap().clone();
        notes.iter().rev().find(|n| n["what"] == "plays").and_then(|n| n["engine"].as_u64()).unwrap()
    };
    let fetches = || metric(&server, "millrace_hls_source_fetches_total");
    let before = fetches();
    assert!(wait_until(START, || fetches() > before));
    // The list has just changed, so nothing is asked for in the next seconds.
    let first = plays_on(&server);
    let mut engines = engines;
    engines[usize::try_from(first).unwrap()].kill();
    assert!(wait_until(Duration::from_secs(2), || plays_on(&server) != first), "another engine plays");
    let last = |audience: &Audience| audience.seen()[0].report.last;
    let before = last(&audience);
    assert!(wait_until(START, || last(&audience) > before), "goes on");
    assert_undisturbed(&audience.leave(), Duration::from_secs(6) + kept_waiting(&server));
}

#[test]
fn whoever_begins_a_stream_says_how_it_is_read_and_else_its_engine_or_the_setting_does() {
    let plain = path_of;
    let by_ts: fn(ContentId) -> String = |id| format!("{}&source=ts", path_of(id));
    let of_player: fn(ContentId) -> String = |id| format!("/ace/manifest.m3u8?id={id}&source=hls");
    for (setting, of_engine, paths, manifests, streams) in [
        ("ts", "", &[plain as fn(ContentId) -> String, by_hls][..], 0, 1),
        ("ts", "", &[by_hls, by_ts, plain][..], 1, 0),
        ("ts", "", &[of_player, plain][..], 1, 0),
        ("hls", "", &[plain, by_ts][..], 1, 0),
        ("hls", "", &[by_ts, plain][..], 0, 1),
        ("ts", "?source=hls", &[plain, by_ts][..], 1, 0),
        ("ts", "?source=hls", &[by_ts, plain][..], 0, 1),
        ("hls", "?source=ts", &[plain, by_hls][..], 0, 1),
    ] {
        let emulator = engines(1);
        let engine = format!("http://{}{of_engine}", emulator.addresses()[0]);
        let server =
            serve(&[], &format!("[engines]\nurls = [\"{engine}\"]\n[streams]\nsource = \"{setting}\"\n"));
        assert!(wait_until(START, || status(&server, "/engines/ready") == 1));
        let mut viewers = Vec::new();
        for path in paths {
            let mut viewer = Viewer::ask(server.address(), &path(healthy(1))).unwrap();
            assert_eq!(viewer.head(START).unwrap().0, 200);
            viewer.read_exact(7, START).unwrap();
            viewers.push(viewer);
        }
        let asked = |kind: PathKind| emulator.counters().requests.get(&kind).copied().unwrap_or(0);
        assert_eq!(
            (asked(PathKind::Manifest), asked(PathKind::Getstream)),
            (manifests, streams),
            "{setting} {of_engine}"
        );
        let refused = server.get(&format!("{}&source=rtmp", path_of(healthy(2))));
        assert_eq!(refused.status, 400);
        assert!(refused.text().contains("bad_parameter"), "{}", refused.text());
    }
}

/// What a packet takes to an engine, and back.
const ONE_WAY: Duration = Duration::from_millis(10);

#[test]
fn over_a_slow_link_a_used_connection_takes_at_most_half_as_long_as_a_new_one() {
    let netns = match Netns::new() {
        Ok(netns) => netns,
        Err(why) => return skip("REQUIRE_NETNS", &why),
    };
    let address = match delayed(&netns, ONE_WAY) {
        Ok(address) => address,
        Err(why) => return skip("REQUIRE_NETNS", &why),
    };
    let config = EmulatorConfig { address, timing: Timing::fast(), ..Default::default() };
    let emulator = netns.run(|| Emulator::start(config)).unwrap();
    let engine = format!("http://{}", emulator.addresses()[0]);
    let log = [("MILLRACE_LOG", "info,millrace_dataplane::ingest::hls=debug")];
    let server = Server::start_with(&log, &["--engine", &engine]);
    assert!(wait_until(START, || status(&server, "/engines/ready") == 1));

    // The second one's engine closes each connection behind its answer.
    let ids = [healthy(1), signed("odd-http(http-1.0)".parse().unwrap(), 2)];
    let audience = Audience::watch_at(server.address(), &ids, 2, by_hls);
    assert!(audience.all_play_within(START));
    let took = |id: ContentId| -> Vec<f64> {
        let (log, path) = (server.log(), format!("/ace/c/{}/", id.infohash()));
        let lines = log.lines().filter(|line| line.contains("segment fetched") && line.contains(&path));
        let seconds = lines.map(|line| line.split("seconds=").nth(1).unwrap().split(' ').next().unwrap());
        seconds.map(|seconds| seconds.parse().unwrap()).collect()
    };
    let enough = || ids.iter().all(|id| took(*id).len() >= 12);
    assert!(wait_until(Duration::from_secs(40), enough), "{:?}", ids.map(took));
    assert_undisturbed(&audience.leave(), GAP + Duration::from_secs(3) + kept_waiting(&server));
    let [used, new] = ids.map(|id| {
        let mut took = took(id);
        took.sort_by(f64::total_cmp);
        took[took.len() / 2]
    });
    println!("p50 of a segment: {used:.3} s over a used connection, {new:.3} s over a new one");
    assert!(used * 2.0 <= new, "{used} s and {new} s");
}
