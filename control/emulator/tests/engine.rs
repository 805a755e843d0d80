//! The checks that an emulator has to pass before anything is tested with it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use millrace_emulator::{At, Emulator, Profile, Scenario, infohash_of};
use support::*;

const FOR_EVER: Duration = Duration::ZERO;

#[test]
fn check_01_two_engines_send_the_same_bytes_of_a_broadcast() {
    let emulator = emulator(2);
    let id = id(Scenario::healthy(), 1);
    let bodies: Vec<_> = emulator
        .addresses()
        .into_iter()
        .map(|address| start(address, &id, "p").read(4_000_000).body)
        .collect();
    // The later of the two begins later in the same bytes.
    let (a, b) = (&bodies[0], &bodies[1]);
    let at = a.windows(188).step_by(188).position(|w| w == &b[..188]).expect("an overlap") * 188;
    let common = (a.len() - at).min(b.len());
    assert!(common > 2_000_000);
    assert!(a[at..at + common] == b[..common]);
}

#[test]
fn check_02_curl_plays_a_healthy_stream() {
    let emulator = emulator(1);
    let address = emulator.addresses()[0];
    let id = id(Scenario::healthy(), 2);
    let mut curl = Command::new("curl")
        .args(["-sSL", "--max-time", "3", &format!("http://{address}/ace/getstream?id={id}")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl has to be installed");
    let mut verifier = id.verifier().unwrap();
    let mut out = curl.stdout.take().unwrap();
    let mut piece = vec![0; 65_536];
    loop {
        let n = std::io::Read::read(&mut out, &mut piece).unwrap();
        if n == 0 {
            break;
        }
        verifier.push(&piece[..n], SystemTime::now());
    }
    curl.wait().unwrap();
    let report = verifier.report();
    assert!(
        report.packets > 26_000 && report.lost + report.corrupted + report.unaligned_bytes == 0,
        "{report:?}"
    );
    let counters = emulator.counters();
    assert_eq!((counters.starts, counters.playbacks), (1, 1));
    assert_eq!(
        (counters.misuse.missing_pid, counters.misuse.read_3xx_body),
        (1, 0),
        "curl hangs up on redirects"
    );
}

#[test]
fn check_03_without_a_pid_the_key_is_md5_of_the_peer_address() {
    let emulator = emulator(1);
    let address = emulator.addresses()[0];
    let id = id(Scenario::healthy(), 3);
    let key = |target: &str| path(get(address, target).json()["response"]["playback_url"].as_str().unwrap());
    let without = key(&format!("/ace/getstream?format=json&id={id}"));
    // printf 127.0.0.1 | md5sum
    assert_eq!(without, format!("/ace/r/{}/f528764d624db129b32c21fbca0cb8d6", id.infohash()));
    let with = |pid: &str| key(&format!("/ace/getstream?format=json&id={id}&pid={pid}"));
    assert_eq!(with("a"), with("a"));
    assert_ne!(with("a"), with("b"));
    // printf a | md5sum
    assert!(!with("a").ends_with("0cc175b9c0f1b6a831c399e269772661"));
}

#[test]
fn check_04_a_second_reader_gets_two_status_lines_and_the_first_keeps_its_bytes() {
    for profile in [Profile::V3_2_3, Profile::V3_2_11] {
        let emulator = emulator_of(profile);
        let session = start(emulator.addresses()[0], &id(Scenario::healthy(), 4), "p");
        let content = session.content();
        let mut first = Client::get(session.address, &content);
        assert_eq!(first.answer(LIMIT, 100_000).status(), 200);
        let second = get(session.address, &content);
        assert_eq!(second.head.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{second:?}");
        assert_eq!((second.body.len(), second.end), (0, End::Fin));
        let (more, end) = first.read_until(LIMIT, |all| all.len() > 6_000_000);
        assert_eq!((more.len() > 6_000_000, end), (true, End::Open));
        assert_eq!(emulator.counters().misuse.second_reader, 1);
    }
}

#[test]
fn check_05_after_stop_the_reader_ends_the_playlist_fails_and_the_session_is_unknown() {
    let emulator = emulator(1);
    let session = start(emulator.addresses()[0], &id(Scenario::healthy(), 5), "p");
    let mut reader = session.open();
    reader.answer(LIMIT, 100_000);
    let stop = session.stop();
    assert_eq!((stop.status(), stop.json()["response"].as_str()), (200, Some("ok")));
    let (_, end) = reader.read_until(LIMIT, |_| false);
    assert_eq!(end, End::Fin);
    let unknown = Some("unknown playback session id");
    assert_eq!(session.stat()["error"].as_str(), unknown);
    assert_eq!(session.stop().json()["error"].as_str(), unknown);
    assert_eq!(get(session.address, &session.playback).status(), 500);
    let target = format!("/ace/manifest.m3u8?format=json&id={}&pid=h", id(Scenario::healthy(), 6));
    let list = session_of(session.address, &get(session.address, &target));
    assert_eq!(get(session.address, &list.playback).status(), 200);
    list.stop();
    assert_eq!(get(session.address, &list.playback).status(), 500);
    assert_eq!(list.stat()["error"].as_str(), unknown);
    let c = emulator.counters();
    assert_eq!((c.starts, c.stops, c.playbacks, c.open_sessions, c.peak_sessions), (2, 2, 1, 0, 1));
    let content = c.per_content[&session.infohash];
    assert_eq!((content.starts, content.stops, content.playbacks, content.open_readers), (1, 1, 1, 0));
}

#[test]
fn check_06_redirects_have_no_length_and_held_ones_no_end() {
    let emulator = emulator(1);
    let address = emulator.addresses()[0];
    for (scenario, end) in [(Scenario::healthy(), End::Fin), (Scenario::redirect_held(), End::Open)] {
        let id = id(scenario, 6);
        let answer = Client::get(address, &format!("/ace/getstream?id={id}&pid=p"))
            .answer(Duration::from_secs(3), usize::MAX);
        assert_eq!((answer.status(), answer.end), (302, end), "{answer:?}");
        let lengths = [answer.header("content-length"), answer.header("transfer-encoding")];
        assert_eq!(lengths, [None, None]);
        let to = answer.header("location").unwrap();
        let body = if end == End::Fin { format!("Redirect to {to}") } else { String::new() };
        assert_eq!(answer.text(), body);
        assert!(to.starts_with(&format!("http://{address}/ace/r/{}/", id.infohash())));
    }
    eventually("both reads of a body are counted", || emulator.counters().misuse.read_3xx_body == 2);
}

#[test]
fn check_07_downloaded_counts_chunks_and_livepos_is_made_of_strings() {
    let emulator = emulator(1);
    let session = start(emulator.addresses()[0], &id(Scenario::healthy(), 7), "p");
    let mut statuses = Vec::new();
    let mut last = 0;
    eventually("dl with six seconds more", || {
        let stat = session.stat()["response"].clone();
        statuses.push(stat["status"].as_str().unwrap().to_owned());
        if let Some(downloaded) = stat["downloaded"].as_u64() {
            assert_eq!(downloaded % 16_384, 0);
            assert!(last <= downloaded);
            last = downloaded;
        }
        let is_dl = stat["status"] == "dl";
        assert_eq!(stat.get("livepos").is_some(), is_dl, "{stat}");
        if is_dl {
            let livepos = stat["livepos"].as_object().unwrap();
            assert_eq!(livepos.len(), 8);
            assert!(livepos.values().all(serde_json::Value::is_string), "{stat}");
        }
        last > 5_100_000
    });
    statuses.dedup();
    assert!(matches!(statuses.join(" ").as_str(), "idle prebuf dl" | "prebuf dl"), "{statuses:?}");
}

#[test]
fn check_08_a_stalled_session_still_says_dl() {
    let emulator = emulator(1);
    let session =
        start(emulator.addresses()[0], &id(Scenario::stall(At::Bytes(1_000_000), FOR_EVER), 8), "p");
    let mut reader = session.open();
    assert_eq!(reader.answer(LIMIT, 1_000_000).body.len(), 1_000_000);
    let (more, end) = reader.read_until(Duration::from_millis(300), |all| !all.is_empty());
    assert_eq!((more.len(), end), (0, End::Open));
    let before = session.stat()["response"].clone();
    let (more, end) = reader.read_until(Duration::from_millis(1500), |all| !all.is_empty());
    assert_eq!((more.len(), end), (0, End::Open));
    let after = session.stat()["response"].clone();
    assert_eq!((&after["status"], &after["downloaded"]), (&serde_json::json!("dl"), &before["downloaded"]));
    assert!(after["speed_down"].as_u64() < before["speed_down"].as_u64(), "{before} {after}");
}

#[test]
fn check_09_the_same_seed_gives_the_same_event_log() {
    let life = |seed| {
        let timing =
            millrace_emulator::Timing { start_jitter: Duration::from_millis(20), ..config(1).timing };
        let emulator =
            Emulator::start(millrace_emulator::EmulatorConfig { seed, timing, ..config(1) }).unwrap();
        for serial in 0..4 {
            for pid in ["a", "b"] {
                let session = start(emulator.addresses()[0], &id(Scenario::healthy(), serial), pid);
                session.read(10_000);
                session.stop();
            }
        }
        emulator.events(0)
    };
    let (first, again, other) = (life(7), life(7), life(8));
    assert!(first.len() > 30, "{first:#?}");
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn check_10_five_hundred_idle_engines_cost_nothing() {
    // In a process of its own, so that nobody else's work is counted.
    let mut program = Command::new(env!("CARGO_BIN_EXE_engine-emulator"))
        .args(["--engines", "500", "--first-port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(program.stdout.take().unwrap()));
    let ready =
        lines.by_ref().take(500).filter(|l| l.as_ref().is_ok_and(|l| l.starts_with("engine "))).count();
    let cpu = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = cpu();
    std::thread::sleep(Duration::from_secs(3));
    let used = cpu() - before;
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(ready, 500);
    // A tick is 10 ms: 1 % of a core over 3 s are three.
    assert!(used < 3, "{used} ticks in 3 s");
}

#[test]
fn profiles_differ_in_what_a_second_player_does() {
    for (profile, first_ends) in [(Profile::V3_2_3, true), (Profile::V3_2_11, false)] {
        let emulator = emulator_of(profile);
        let address = emulator.addresses()[0];
        let id = id(Scenario::healthy(), 9);
        let first = start(address, &id, "a");
        let mut reader = first.open();
        reader.answer(LIMIT, 100_000);
        let second = start(address, &id, "b");
        assert_eq!(emulator.counters().misuse.start_while_playing, 1);
        if first_ends {
            assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);
            assert!(!first.stat()["error"].is_null());
        } else {
            let playback = |s: &Session| s.stat()["response"]["playback_session_id"].clone();
            assert_eq!(playback(&first), playback(&second));
            second.stop();
            assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin, "a stop of one ends both");
        }
    }
}

#[test]
fn sessions_expire_only_when_nobody_cares() {
    let timing = millrace_emulator::Timing { expiry: Duration::from_millis(400), ..config(1).timing };
    let emulator = Emulator::start(millrace_emulator::EmulatorConfig { timing, ..config(1) }).unwrap();
    let address = emulator.addresses()[0];
    let read = start(address, &id(Scenario::healthy(), 10), "a");
    let polled = start(address, &id(Scenario::healthy(), 11), "b");
    let peeked = start(address, &id(Scenario::healthy(), 12), "c");
    let mut reader = read.open();
    reader.answer(LIMIT, 1000);
    for _ in 0..20 {
        reader.read_until(Duration::from_millis(50), |_| false);
        assert_eq!(polled.stat()["error"], serde_json::Value::Null);
        get(address, &format!("{}?skip_player_activity=1", peeked.stat));
    }
    assert_eq!(read.stat()["error"], serde_json::Value::Null);
    assert!(!peeked.stat()["error"].is_null());
    assert_eq!(emulator.counters().open_sessions, 2);
}

#[test]
fn selectors_count_in_their_order_and_files_can_be_posted() {
    let emulator = emulator(1);
    let address = emulator.addresses()[0];
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    let hash = |query: &str| {
        let answer = get(address, &format!("/ace/getstream?format=json&pid=p&{query}"));
        answer.json()["response"]["infohash"].as_str().map(str::to_owned)
    };
    assert_eq!(hash(&format!("infohash={b}&id={a}")), Some(infohash_of(&a)));
    assert_eq!(hash(&format!("url=http://x/&infohash={b}")), Some(b.clone()));
    assert_eq!(hash(&format!("magnet=magnet:?xt=urn:btih:{b}")), Some(b.clone()));
    assert_ne!(hash("url=http://x/"), hash("url=http://y/"));
    assert_eq!(hash("id=short"), None);
    assert_eq!(get(address, "/ace/getstream?format=json").status(), 500);
    let body = r#"{"transport_file_data": "QUJD"}"#;
    let request = format!(
        "POST /ace/getstream?format=json&pid=p HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let posted = Client::open(address, &request).unwrap().answer(LIMIT, usize::MAX);
    assert_eq!(posted.json()["response"]["infohash"].as_str().map(str::len), Some(40));
}

#[test]
fn service_calls_answer_as_documented() {
    let emulator = emulator(1);
    let address = emulator.addresses()[0];
    let known = id(Scenario::healthy(), 1);
    let missing = id(Scenario::metadata_failure(Duration::from_millis(1)), 2);
    let files = |id| format!("/server/api?api_version=3&method=get_media_files&content_id={id}");
    for (target, part, value) in [
        ("/webui/api/service?method=get_version", "/result/version", "\"3.2.11\""),
        ("/webui/api/service?method=get_version", "/result/code", "3021100"),
        ("/webui/api/service?method=x", "/error", "\"access denied\""),
        ("/server/api?api_version=3&method=get_status", "/result/playlist_loaded", "true"),
        ("/server/api?api_version=3&method=get_network_connection_status", "/result/connected", "true"),
        ("/server/api?api_version=3&method=x", "/error/message", "\"unknown method\""),
        (&files(known), "/result/infohash", &format!("\"{}\"", known.infohash())),
        (&files(known), "/result/type", "\"live\""),
        (&files(missing), "/error/message", "\"cannot get transport file\""),
    ] {
        let json = get(address, target).json();
        assert_eq!(json.pointer(part).map(ToString::to_string), Some(value.to_owned()), "{target}: {json}");
    }
    assert_eq!(emulator.counters().open_sessions, 0, "telling files opens no session");
    // One connection serves many small calls.
    let mut client = Client::get(address, "/webui/api/service?method=get_version");
    let one = client.answer(LIMIT, usize::MAX);
    std::io::Write::write_all(&mut client.stream, b"GET /nothing HTTP/1.1\n\n").unwrap();
    let two = client.answer(LIMIT, usize::MAX);
    assert_eq!((one.status(), two.status()), (200, 500));
}

#[test]
fn misuse_is_counted_by_its_kind() {
    let emulator = emulator(1);
    let address = emulator.addresses()[0];
    let send = |request: &str| Client::open(address, request).unwrap().answer(LIMIT, usize::MAX);
    send("HEAD /server/api?method=get_status HTTP/1.1\r\n\r\n");
    send("GET /server/api HTTP/1.1\r\nRange: bytes=0-\r\nAccept-Encoding: deflate, gzip\r\n\r\n");
    let id = id(Scenario::healthy(), 13);
    start(address, &id, "same");
    let session = start(address, &id, "same");
    // Hanging up on redirects is right, and counts as nothing.
    session.read(1000);
    let m = emulator.counters().misuse;
    assert_eq!((m.head, m.range, m.gzip, m.repeated_pid, m.missing_pid, m.read_3xx_body), (1, 1, 1, 1, 0, 0));
}

#[test]
fn a_killed_engine_resets_refuses_and_comes_back_empty() {
    let emulator = emulator(2);
    let addresses = emulator.addresses();
    let id = id(Scenario::healthy(), 14);
    let session = start(addresses[0], &id, "p");
    let mut reader = session.open();
    reader.answer(LIMIT, 1000);
    let mut other = start(addresses[1], &id, "p").open();
    other.answer(LIMIT, 1000);
    emulator.kill(0);
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset);
    assert!(std::net::TcpStream::connect(addresses[0]).is_err());
    assert_eq!(emulator.engine_counters(0).open_sessions, 0);
    emulator.revive(0);
    assert!(!session.stat()["error"].is_null());
    start(addresses[0], &id, "q").read(100_000);
    assert_eq!(other.read_until(Duration::from_millis(100), |_| false).1, End::Open);
}

#[test]
fn a_paused_engine_is_silent_until_resumed() {
    let emulator = emulator(1);
    let session = start(emulator.addresses()[0], &id(Scenario::healthy(), 15), "p");
    let mut reader = session.open();
    reader.read_until(Duration::from_millis(700), |all| all.len() > 5_000_000);
    emulator.pause(0);
    reader.read_until(Duration::from_millis(300), |_| false);
    let (silent, end) = reader.read_until(Duration::from_millis(400), |all| !all.is_empty());
    assert_eq!((silent.len(), end), (0, End::Open));
    let mut call = Client::get(session.address, "/webui/api/service?method=get_version");
    assert_eq!(call.answer(Duration::from_millis(200), usize::MAX).status(), 0);
    emulator.resume(0);
    assert_eq!(call.answer(LIMIT, usize::MAX).status(), 200);
    assert!(reader.read_until(LIMIT, |all| all.len() > 10_000).0.len() > 10_000);
}
