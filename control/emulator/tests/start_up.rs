//! Healthy variants and start-up faults: what is on the wire, and what stat
//! says meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{Content, ContentId, Emulator, EmulatorConfig, Scenario, Timing};
use serde_json::Value;
use support::*;

fn error(address: SocketAddr, id: &ContentId, pid: &str) -> Value {
    start_json(address, &id.to_string(), pid).json()["error"].take()
}

fn version(address: SocketAddr) -> u16 {
    get(address, "/webui/api/service?method=get_version").status()
}

fn ranged(address: SocketAddr, target: &str, range: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nRange: {range}\r\n\r\n");
    Client::open(address, &request).unwrap().answer(LIMIT, usize::MAX)
}

#[test]
fn a_file_has_a_length_and_ranges_and_no_live_position() {
    let (emulator, address) = one();
    let id = scene("healthy-vod(4s)", 1);
    let answer = start_json(address, &id.to_string(), "p");
    assert_eq!(answer.json()["response"]["is_live"], 0);
    let session = session_of(address, &answer);
    let target = session.content();
    let whole = get(address, &target);
    let size = 4_000_000 / 8 * 4 / 188 * 188;
    assert_eq!((whole.status(), whole.body.len(), whole.header("accept-ranges")), (200, size, Some("bytes")));
    let mut verifier = id.verifier().unwrap();
    verifier.push(&whole.body, SystemTime::now());
    let r = verifier.report();
    assert!(r.is_unbroken() && r.partial_bytes == 0, "{r:?}");
    for (range, status, part) in [
        ("bytes=0-99", 206, Some(0..100)),
        ("bytes=1001-70000", 206, Some(1001..70_001)),
        (&format!("bytes={}-", size - 500), 206, Some(size - 500..size)),
        ("bytes=-188", 206, Some(size - 188..size)),
        ("bytes=5-99999999999", 206, Some(5..size)),
        (&format!("bytes={size}-"), 416, None),
        ("bytes=9-3", 416, None),
        ("lines=1-2", 416, None),
    ] {
        eventually("the reader's place is free", || emulator.counters().open_readers == 0);
        let answer = ranged(address, &target, range);
        assert_eq!(answer.status(), status, "{range}");
        match part {
            Some(part) => {
                let told = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                assert_eq!(answer.header("content-range"), Some(told.as_str()));
                assert!(answer.body == whole.body[part], "{range}");
            }
            None => assert_eq!(answer.header("content-range"), Some(format!("bytes */{size}").as_str())),
        }
    }
    let stat = session.told();
    assert_eq!((&stat["is_live"], stat.get("livepos")), (&0.into(), None), "{stat}");
    assert!(stat["total_progress"].as_u64() > Some(0), "{stat}");
    assert_eq!(emulator.counters().misuse.range, 0, "ranges of files are no misuse");
    let later = get(address, &format!("{}?method=liveseek&pos=1", session.command)).json();
    assert_eq!(later["error"], "not a live stream");
}

#[test]
fn a_rate_that_varies_comes_to_four_megabits() {
    let timing = Timing { burst: Duration::from_secs(80), ..Timing::fast() };
    let emulator = Emulator::start(EmulatorConfig { timing, ..config(1) }).unwrap();
    let id = scene("healthy-bitrate(vbr)", 1);
    let body = start(emulator.addresses()[0], &id, "p").read(39_500_000).body;
    let mut verifier = id.verifier().unwrap();
    verifier.push(&body, SystemTime::now());
    let r = verifier.report();
    assert!(r.lost + r.corrupted == 0 && body.len() >= 39_500_000, "{r:?}");
    let age = r.first_delay.unwrap();
    assert!((79..=81).contains(&age.as_secs()), "80 s are 40 MB: {age:?}");
    assert_eq!(id.content(), Content::Varying);
}

#[test]
fn a_session_without_addresses_plays() {
    let (_emulator, address) = one();
    let id = scene("no-session-urls", 1);
    let response = start_json(address, &id.to_string(), "p").json()["response"].take();
    assert_eq!((&response["is_direct"], response.get("stat_url")), (&1.into(), None));
    assert_eq!(response.get("command_url"), None);
    let target = path(response["playback_url"].as_str().unwrap());
    let to = path(get_head(address, &target).header("location").unwrap());
    assert!(Client::get(address, &to).answer(LIMIT, 100_000).body.len() >= 100_000);
}

#[test]
fn without_a_catalogue_only_known_contents_start_until_it_is_cured() {
    let (emulator, address) = one();
    let (known, new) = (id(Scenario::healthy(), 1), id(Scenario::healthy(), 2));
    start(address, &known, "a");
    emulator.set_engine_scenario(0, "catalogue-down(300ms,1500ms)".parse().unwrap());
    assert_eq!(error(address, &known, "b"), Value::Null);
    let asked = Instant::now();
    assert_eq!(error(address, &new, "c"), "failed to load content");
    assert!(asked.elapsed() >= 300 * MS);
    let swapped = get(address, &format!("/ace/getstream?format=json&infohash={}&pid=d", new.infohash()));
    assert_eq!(swapped.json()["error"], "failed to load content");
    let files = format!("/server/api?api_version=3&method=get_media_files&content_id={new}");
    assert_eq!(get(address, &files).json()["error"]["message"], "cannot get transport file");
    let connected = "/server/api?api_version=3&method=get_network_connection_status";
    assert_eq!(
        (version(address), &get(address, connected).json()["result"]["connected"]),
        (200, &true.into())
    );
    eventually("the cure", || error(address, &new, "e").is_null());
    assert!(asked.elapsed() >= 1500 * MS);

    emulator.set_engine_scenario(0, "catalogue-down(100ms)".parse().unwrap());
    assert_eq!(error(address, &id(Scenario::healthy(), 3), "f"), "failed to load content");
    emulator.set_engine_scenario(0, Scenario::healthy());
    assert_eq!(error(address, &id(Scenario::healthy(), 3), "g"), Value::Null, "cured without a restart");
}

#[test]
fn a_start_that_nobody_waits_for_still_opens_its_session() {
    let (emulator, address) = one();
    let id = scene("late-success(600ms)", 1);
    let target = format!("/ace/getstream?format=json&id={id}&pid=p");
    let gone = Client::get(address, &target).answer(100 * MS, usize::MAX);
    assert_eq!((gone.status(), emulator.counters().open_sessions), (0, 0));
    eventually("the orphan", || emulator.counters().open_sessions == 1);
    // Whoever stays is told, and can stop it.
    let session = start(address, &id, "p");
    session.stop();
    assert_eq!(emulator.counters().open_sessions, 0);
}

#[test]
fn swarms_without_data_stay_in_prebuffering() {
    let (_emulator, address) = one();
    let empty = start(address, &scene("no-peers", 1), "a");
    let useless = start(address, &scene("peers-no-data", 2), "b");
    let slow = start(address, &scene("slow-start(20s)", 3), "c");
    let mut silent = [&empty, &useless].map(|s| Client::get(address, &s.playback));
    let (mut peers, mut loaded, mut progress) = (Vec::new(), Vec::new(), Vec::new());
    let until = Instant::now() + 3500 * MS;
    while Instant::now() < until {
        for session in [&empty, &useless] {
            let stat = session.told();
            if stat["status"] != "idle" {
                let got = [&stat["downloaded"], &stat["speed_down"], &stat["progress"]];
                assert!(stat["status"] == "prebuf" && got.into_iter().all(|v| *v == 0), "{stat}");
            }
        }
        peers
            .extend([empty.told()["peers"].as_u64(), useless.told()["peers"].as_u64()].into_iter().flatten());
        let cold = slow.told();
        loaded.extend(cold["downloaded"].as_u64());
        progress.extend(cold["progress"].as_u64());
        std::thread::sleep(20 * MS);
    }
    let (none, some): (Vec<_>, Vec<_>) = peers.into_iter().partition(|p| *p == 0);
    assert!(none.len() > 10 && some.iter().all(|p| (1..=9).contains(p)));
    assert!(some.iter().collect::<std::collections::BTreeSet<_>>().len() > 2, "peers come and go");
    for client in &mut silent {
        assert_eq!(client.read_until(10 * MS, |all| !all.is_empty()), (vec![], End::Open));
    }
    // A cold start that gets on shows it.
    assert!(loaded.is_sorted() && loaded.last() > loaded.first() && loaded.iter().all(|d| d % 16_384 == 0));
    assert!(
        progress.is_sorted() && progress.last() >= Some(&10) && progress.last() < Some(&30),
        "{progress:?}"
    );
}

#[test]
fn starts_that_are_refused_for_a_reason() {
    let (emulator, address) = one();
    let modified = scene("mod-detected", 1);
    for pid in ["a", "b"] {
        assert_eq!(error(address, &modified, pid), "mod_detected");
    }
    let status = "/server/api?api_version=3&method=get_status";
    assert_eq!((version(address), get(address, status).status()), (200, 200), "it looks perfect");

    // An id that nobody knows is told sooner than an infohash that nobody has.
    let failing = scene("metadata-failure", 6).infohash();
    let asked = Instant::now();
    let answer = get(address, &format!("/ace/getstream?format=json&infohash={failing}&pid=x")).json();
    assert!(answer["error"] == "failed to load content" && asked.elapsed() >= 300 * MS, "{answer}");

    let superseded = scene("superseded(2)", 2);
    let answers: Vec<_> = ["c", "d", "e"].iter().map(|pid| error(address, &superseded, pid)).collect();
    assert_eq!(answers, ["got newer download".into(), "got newer download".into(), Value::Null]);
    assert_eq!(error(address, &scene("superseded", 3), "f"), "got newer download");
    assert_eq!(error(address, &scene("superseded", 3), "g"), Value::Null, "once, where nothing is said");

    let answer = start_json(address, &scene("json-ignored", 4).to_string(), "h");
    assert_eq!((answer.status(), answer.header("content-length")), (302, None));
    let read = path(answer.header("location").unwrap());
    assert!(read.starts_with("/ace/r/"), "{read}");
    let bytes = path(get_head(address, &read).header("location").unwrap());
    assert!(Client::get(address, &bytes).answer(LIMIT, 1000).body.len() >= 1000);
    assert_eq!(emulator.counters().misuse.repeated_pid, 0);
}

#[test]
fn an_encrypted_content_says_so_and_does_not_play() {
    let (_emulator, address) = one();
    let answer = start_json(address, &scene("encrypted", 1).to_string(), "p");
    assert_eq!(answer.json()["response"]["is_encrypted"], 1);
    let session = session_of(address, &answer);
    assert_eq!(get(address, &session.playback).status(), 500);
    assert_eq!(session.told()["is_encrypted"], 1);
}

#[test]
fn a_transcoder_that_is_broken_times_out_where_it_is_asked_for() {
    let (_emulator, address) = one();
    let id = scene("transcode-broken(700ms)", 1);
    let with = |pid: &str, parameters: &str| {
        let target = format!("/ace/getstream?format=json&id={id}&pid={pid}{parameters}");
        session_of(address, &get(address, &target))
    };
    let broken = with("a", "&transcode_audio=1");
    let asked = Instant::now();
    let answer = get(address, &broken.playback);
    assert_eq!((answer.status(), answer.text().as_str()), (500, "start timeout"));
    assert!(asked.elapsed() >= 600 * MS);
    assert_eq!(get(address, &broken.playback).text(), "start timeout", "again, and at once");
    broken.stop();
    assert!(with("b", "&transcode_ac3=0").read(1000).body.len() >= 1000);
    assert_eq!(get(address, &with("c", "&transcode_ac3=true").playback).text(), "start timeout");
}

#[test]
fn two_starts_that_meet_are_counted() {
    let (emulator, address) = one();
    let id = scene("double-start-race(700ms)", 1);
    let mut first = Client::get(address, &format!("/ace/getstream?format=json&id={id}&pid=a"));
    first.read_until(100 * MS, |_| false);
    assert_eq!(emulator.counters().misuse.start_while_playing, 0);
    let second = start(address, &id, "b");
    assert_eq!(first.answer(LIMIT, usize::MAX).status(), 200);
    assert_eq!(emulator.counters().misuse.start_while_playing, 1);
    assert!(second.told()["playback_session_id"].is_string());
    // A start that was given up is no rival any more.
    let other = scene("double-start-race(700ms)", 2);
    Client::get(address, &format!("/ace/getstream?format=json&id={other}&pid=c"))
        .read_until(50 * MS, |_| false);
    std::thread::sleep(100 * MS);
    start(address, &other, "d");
    assert_eq!(emulator.counters().misuse.start_while_playing, 1);
}

#[test]
fn one_content_more_than_the_limit_ends_the_oldest() {
    let (emulator, address) = one();
    let open = |serial: u64| {
        let session = start(address, &scene("start-limit(2)", serial), &serial.to_string());
        let mut reader = session.open();
        reader.answer(LIMIT, 6_000);
        (session, reader)
    };
    let (mut first, mut second) = (open(1), open(2));
    let same = start(address, &scene("start-limit(2)", 2), "other player");
    assert_eq!(emulator.counters().open_sessions, 3, "another player of a content is no other content");
    let (_third, _) = open(3);
    assert_eq!(first.1.read_until(LIMIT, |_| false).1, End::Fin);
    assert_eq!(first.0.stat()["error"], "unknown playback session id");
    assert_eq!(second.1.read_until(100 * MS, |_| false).1, End::Open);
    assert!(same.stat()["error"].is_null());
}

#[test]
fn parameters_left_out_are_those_of_the_table() {
    for (short, long) in [
        ("healthy-bitrate", "healthy-bitrate(vbr)"),
        ("healthy-vod", "healthy-vod(60s)"),
        ("catalogue-down", "catalogue-down(45s)"),
        ("late-success", "late-success(20s)"),
        ("superseded", "superseded(1)"),
        ("transcode-broken", "transcode-broken(7s)"),
        ("start-limit", "start-limit(2)"),
        ("micro-stalls", "micro-stalls(20s)"),
        ("long-gap-recover", "long-gap-recover(20s)"),
        ("starve-decay", "starve-decay(60s)"),
        ("wrong-bitrate", "wrong-bitrate(unlimited)"),
        ("disconnect-chunk", "disconnect-chunk(10s,no-end)"),
        ("session-expired", "session-expired(10s)"),
        ("old-pid-leftovers", "old-pid-leftovers(60s)"),
        ("session-replaced(5s)", "session-replaced(5s,1)"),
        ("burst-then-quiet", "burst-then-quiet(300s,270s)"),
        ("loop-content", "loop-content(60s)"),
        ("source-restart", "source-restart(60s,5s)"),
        ("jitter", "jitter(400ms)"),
        ("no-read-tolerance", "no-read-tolerance(30s)"),
        ("unmatched", "unmatched(both)"),
        ("lost-sync-run", "lost-sync-run(65536,20s)"),
        ("cc-errors", "cc-errors(10000,1)"),
        ("dup-packets", "dup-packets(1048576,20s)"),
        ("pts-jump", "pts-jump(forward,20s)"),
        ("pcr-missing", "pcr-missing(5s,20s)"),
        ("pcr-jitter", "pcr-jitter(50ms)"),
        ("late-psi", "late-psi(3s)"),
        ("pmt-change", "pmt-change(all,20s)"),
        ("late-idr", "late-idr(10s)"),
        ("null-flood", "null-flood(90)"),
        ("tei-scrambled", "tei-scrambled(both,10)"),
    ] {
        let of = |text: &str| text.parse::<Scenario>().unwrap();
        assert_eq!(of(short).behaviour(), of(long).behaviour(), "{short}");
        assert_ne!(of(long).behaviour(), Scenario::healthy().behaviour(), "{long}");
        assert_eq!(of(long).to_string().parse(), Ok(of(long)), "{long}");
    }
}
