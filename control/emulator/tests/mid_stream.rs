//! Faults of a running stream: what is on the wire, and what stat says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use millrace_emulator::{ContentId, Emulator, EmulatorConfig, Profile, Timing, signed::Report};
use support::*;

/// Of a stream at [`RATE`], in bytes per second.
const PER_SECOND: usize = RATE as usize / 8;

/// One engine that sends `burst` of stream at line speed.
fn bursting(burst: Duration) -> (Emulator, SocketAddr) {
    let timing = Timing { burst, ..Timing::fast() };
    let emulator = Emulator::start(EmulatorConfig { timing, ..config(1) }).unwrap();
    let address = emulator.addresses()[0];
    (emulator, address)
}

fn report(id: &ContentId, body: &[u8]) -> Report {
    let mut verifier = id.verifier().unwrap();
    verifier.push(body, SystemTime::now());
    verifier.report()
}

/// Reads for `time` and tells the body with the longest silence in it.
fn watch(client: &mut Client, time: Duration) -> (Vec<u8>, Duration) {
    let (mut last, mut longest, mut length) = (Instant::now(), Duration::ZERO, 0);
    let (all, _) = client.read_until(time, |all| {
        if all.len() != length {
            length = all.len();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        false
    });
    let head = if all.starts_with(b"HTTP/") { head_end(&all).unwrap() } else { 0 };
    (all[head..].to_vec(), longest)
}

fn live(stat: &serde_json::Value, name: &str) -> i64 {
    stat["livepos"][name].as_str().unwrap().parse().unwrap()
}

fn unix() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

#[test]
fn short_silences_come_again_and_lose_nothing() {
    let (_emulator, address) = bursting(S);
    let id = scene("micro-stalls(1s,600ms)", 1);
    let (body, longest) = watch(&mut start(address, &id, "p").open(), 4500 * MS);
    assert!((500 * MS..900 * MS).contains(&longest), "{longest:?}");
    assert_genuine(&id, &body);
    // Whatever a silence held back has come after it.
    assert!(body.len() > 9 * PER_SECOND / 2, "{}", body.len());
}

#[test]
fn after_a_long_silence_the_stream_goes_on_live() {
    let (_emulator, address) = bursting(S);
    let id = scene("long-gap-recover(500ms,2s)", 1);
    let session = start(address, &id, "p");
    let mut client = session.open();
    let (before, _) = watch(&mut client, 1500 * MS);
    assert_eq!(session.told()["peers"], 1, "starved meanwhile");
    let (after, _) = watch(&mut client, 2500 * MS);
    let r = report(&id, &[before, after].concat());
    let missing = usize::try_from(r.lost).unwrap() * 188;
    assert!(missing.abs_diff(2 * PER_SECOND) < PER_SECOND / 4, "{r:?}");
    assert_eq!(r.duplicated + r.corrupted + r.unaligned_bytes, 0, "{r:?}");
    assert!(r.last_delay < Some(S), "live again: {r:?}");
}

#[test]
fn rates_sag_and_rise_as_told_and_stat_follows() {
    let (_emulator, address) = bursting(S);
    // The burst of one second, and so much in four seconds more.
    for (serial, text, seconds, speed) in [
        (1, "starve-decay(1s)", 1.0 + 1.0 + 0.8 + 0.5 + 0.2, 97),
        (2, "wrong-bitrate(0.7)", 1.0 + 4.0 * 0.7, 341),
        (3, "wrong-bitrate(1.3)", 1.0 + 4.0 * 1.3, 634),
    ] {
        let id = scene(text, serial);
        let session = start(address, &id, text);
        let mut client = session.open();
        let (body, _) = watch(&mut client, 4 * S);
        let got = body.len() as f64 / PER_SECOND as f64;
        assert!((got - seconds).abs() < 0.35, "{text}: {got} s instead of {seconds}");
        assert_genuine(&id, &body);
        let stat = session.told();
        assert_eq!(
            (stat["status"].as_str(), stat["speed_down"].as_u64()),
            (Some("dl"), Some(speed)),
            "{text}"
        );
        let downloaded = stat["downloaded"].as_u64().unwrap();
        assert!(downloaded.is_multiple_of(16_384));
        assert!(downloaded.abs_diff(body.len() as u64) < PER_SECOND as u64 / 2, "{text}: {stat}");
        session.stop();
    }
    let id = scene("wrong-bitrate(unlimited)", 4);
    let body = start(address, &id, "p").read(40_000_000).body;
    assert!(body.len() >= 40_000_000, "more than a minute ahead of the air");
    assert_genuine(&id, &body);
}

#[test]
fn chunks_that_end_badly() {
    let (_emulator, address) = bursting(S);
    for (serial, kind) in [(1, "no-end"), (2, "bad-size")] {
        let id = scene(&format!("disconnect-chunk(300000b,{kind})"), serial);
        let answer = start(address, &id, kind).read(usize::MAX);
        assert_eq!((answer.header("transfer-encoding"), answer.end), (Some("chunked"), End::Fin));
        let is_bad = answer.body.ends_with(b"\r\nzz\r\n");
        assert_eq!(is_bad, kind == "bad-size");
        assert!(!answer.body.ends_with(b"\r\n0\r\n\r\n"), "no last chunk");
        let framed = if is_bad { &answer.body[..answer.body.len() - 4] } else { &answer.body[..] };
        let payload = dechunk(framed).1;
        assert_eq!(payload.len(), 300_000);
        assert_genuine(&id, &payload);
    }
}

#[test]
fn an_expired_session_ends_and_is_unknown() {
    let (_emulator, address) = bursting(S);
    let session = start(address, &scene("session-expired(300000b)", 1), "p");
    let answer = session.read(usize::MAX);
    assert_eq!((answer.body.len(), answer.end), (300_000, End::Fin));
    assert_eq!(session.stat()["error"], "unknown playback session id");
    assert_eq!(get(address, &session.playback).text(), "download not found");
}

#[test]
fn an_old_pid_gets_what_was_left_and_a_new_one_the_stream() {
    let (emulator, address) = bursting(10 * S);
    let id = scene("old-pid-leftovers(1500ms)", 1);
    let read = |pid: &str| start(address, &id, pid).read(11 * PER_SECOND / 2);
    let free = || eventually("the reader is gone", || emulator.counters().open_readers == 0);
    let first = read("a");
    assert!(first.body.len() >= 11 * PER_SECOND / 2 && first.end == End::Open, "{}", first.body.len());
    drop(first);
    free();
    let left = read("a");
    let seconds = left.body.len() as f64 / PER_SECOND as f64;
    assert!((1.9..=5.1).contains(&seconds) && left.end == End::Fin, "{seconds} s");
    assert_genuine(&id, &left.body);
    assert_eq!(read("b").end, End::Open);
    free();
    std::thread::sleep(1600 * MS);
    assert_eq!(read("a").end, End::Open, "long enough after");
}

#[test]
fn a_rival_takes_the_session_over_as_often_as_told() {
    let (_emulator, address) = bursting(S);
    let id = scene("session-replaced(500ms,2)", 1);
    for pid in ["a", "b"] {
        let session = start(address, &id, pid);
        let answer = session.read(usize::MAX);
        assert!(answer.end == End::Fin && answer.body.len() > PER_SECOND, "{}", answer.body.len());
        assert_eq!(get(address, &session.playback).status(), 403);
        assert_eq!(session.stat()["error"], "unknown playback session id");
    }
    let kept = start(address, &id, "c");
    assert_eq!(watch(&mut kept.open(), 1200 * MS).0.len() / PER_SECOND, 2, "no more than twice");
    assert!(kept.stat()["error"].is_null());
}

#[test]
fn session_rules_can_be_those_of_the_other_profile() {
    let emulator = emulator_of(Profile::V3_2_11);
    let address = emulator.addresses()[0];
    let replaced = scene("session-replaced", 1);
    let (first, _) = (start(address, &replaced, "a"), start(address, &replaced, "b"));
    assert_eq!(first.stat()["error"], "unknown playback session id");
    assert_eq!(get(address, &first.playback).status(), 403);

    let emulator = emulator_of(Profile::V3_2_3);
    let address = emulator.addresses()[0];
    let siblings = scene("stop-kills-sibling", 2);
    let viewer = start(address, &siblings, "a");
    let mut reader = viewer.open();
    reader.answer(LIMIT, 1000);
    let probe = start(address, &siblings, "b");
    let playback = |s: &Session| s.told()["playback_session_id"].clone();
    assert_eq!(playback(&viewer), playback(&probe));
    probe.stop();
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);
    assert_eq!(viewer.stat()["error"], "unknown playback session id");
}

#[test]
fn a_dead_source_goes_round_and_its_window_stays_behind() {
    let (_emulator, address) = bursting(10 * S);
    let id = scene("loop-content(2s)", 1);
    let lap = 2 * PER_SECOND / 188;
    let read = |pid| {
        let session = start(address, &id, pid);
        let body = session.read(9 * PER_SECOND).body;
        (report(&id, &body), body, session)
    };
    // The source dies anew after a hundred laps: one of two reads in a row may
    // meet that, and not both.
    let (r, body, session) = match read("p") {
        (met, ..) if met.lost >= lap as u64 => read("q"),
        read => read,
    };
    // At least three laps are there whole, and each begins where the last did.
    assert!(usize::try_from(r.duplicated + r.tables).unwrap() > 3 * lap / 2 && r.lost < lap as u64, "{r:?}");
    assert_eq!(r.corrupted + r.unaligned_bytes, 0, "{r:?}");
    let clocks: Vec<_> =
        support::ts::packets(&body[..body.len() / 188 * 188]).iter().filter_map(|p| p.pcr()).collect();
    let back = clocks.windows(2).filter(|w| w[1] < w[0]).map(|w| (w[0] - w[1]) / 27_000).collect::<Vec<_>>();
    assert!(back.len() >= 3, "{back:?}");
    assert!((1_900..2_000).contains(&back[0]), "the clock goes back by a lap: {back:?} ms");

    // The window stands still while time passes.
    let (before, at) = (session.told(), unix());
    std::thread::sleep(2200 * MS);
    let after = session.told();
    let behind = |stat: &serde_json::Value, now: i64| now - live(stat, "live_last");
    let grown = behind(&after, unix()) - behind(&before, at);
    // Once in a hundred laps a newer end is taken.
    assert!((1..=3).contains(&grown) || grown < -100, "{grown}");
}

#[test]
fn a_source_that_restarts_counts_from_nothing() {
    let (_emulator, address) = bursting(10 * S);
    let id = scene("source-restart(4s,1s)", 1);
    let session = start(address, &id, "p");
    let mut client = session.open();
    let answer = client.answer(LIMIT, 6 * PER_SECOND);
    let (more, longest) = watch(&mut client, 5 * S);
    assert!((600 * MS..1400 * MS).contains(&longest), "a gap of a second: {longest:?}");
    let body = [answer.body, more].concat();
    let clocks: Vec<_> =
        support::ts::packets(&body[..body.len() / 188 * 188]).iter().filter_map(|p| p.pcr()).collect();
    let restarts: Vec<_> = clocks.windows(2).filter(|w| w[1] < w[0]).map(|w| w[1]).collect();
    assert!(restarts.len() >= 3 && restarts.iter().all(|c| *c < 27_000_000 / 10), "{restarts:?}");
    assert!(clocks.iter().all(|c| *c < 3 * 27_000_000 + 27_000_000 / 10));
    let stat = session.told();
    let window = live(&stat, "live_last") - live(&stat, "live_first");
    assert!((0..=4).contains(&window), "the window begins anew: {stat}");
}

#[test]
fn a_restart_is_told_from_packets_that_come_late() {
    let id = scene("healthy-live", 1);
    let broadcast =
        millrace_emulator::signed::Broadcast::new(millrace_emulator::broadcast_of(&id.infohash()), RATE);
    let run = |from: u64| -> Vec<u8> {
        let mut p = [0; 188];
        (from..from + 2000)
            .flat_map(|n| {
                broadcast.write(n, &mut p);
                p
            })
            .collect()
    };
    let late = broadcast.group_start(10_000_000_000);
    let r = report(&id, &[run(late), run(0)].concat());
    assert_eq!((r.restarts, r.lost, r.duplicated, r.reordered, r.first), (1, 0, 0, 0, Some(2)), "{r:?}");
    assert!(!r.is_unbroken());
}

#[test]
fn an_engine_can_be_behind_by_a_fixed_time() {
    let timing = Timing { lag: 15 * S, ..Timing::fast() };
    let emulator = Emulator::start(EmulatorConfig { timing, ..config(2) }).unwrap();
    let delay = |engine: usize, id: &ContentId| {
        let body = start(emulator.addresses()[engine], id, &engine.to_string()).read(1_000_000).body;
        report(id, &body).first_delay.unwrap()
    };
    let at = |shift: u64, delay: Duration| delay.abs_diff(Duration::from_secs(10 + shift)) < S;
    let id = scene("edge-shift(7s)", 1);
    assert!(at(7, delay(0, &id)) && at(7, delay(1, &id)));
    // One engine of one content can be told so too.
    let plain = support::id(millrace_emulator::Scenario::healthy(), 2);
    emulator.set_scenario(Some(0), &plain.to_string(), "edge-shift(0s)".parse().unwrap());
    emulator.set_scenario(Some(1), &plain.to_string(), "edge-shift(12s)".parse().unwrap());
    assert!(at(0, delay(0, &plain)) && at(12, delay(1, &plain)));
}

#[test]
fn writes_come_irregularly_and_all_the_same() {
    let (_emulator, address) = bursting(S);
    let id = scene("jitter(900ms)", 1);
    let (body, longest) = watch(&mut start(address, &id, "p").open(), 5 * S);
    assert!((300 * MS..1100 * MS).contains(&longest), "{longest:?}");
    assert_genuine(&id, &body);
    assert!(body.len() > 5 * PER_SECOND, "{}", body.len());
}

#[test]
fn a_reader_that_takes_nothing_loses_its_session() {
    let (_emulator, address) = bursting(S);
    let fast = start(address, &scene("wrong-bitrate(unlimited)", 2), "b");
    // A rate that no socket holds for long.
    let id = ContentId::new(
        millrace_emulator::Content::Signed { bitrate_bps: 400_000_000 },
        "no-read-tolerance(600ms)".parse().unwrap(),
        3,
    );
    let slow = start(address, &id, "c");
    let _unread = slow.open();
    let _other = fast.open();
    eventually("the session is gone", || !slow.stat()["error"].is_null());
    assert!(fast.stat()["error"].is_null(), "others have thirty seconds");
}

#[test]
fn a_seek_moves_the_reader_where_it_is_and_position_follows() {
    let (emulator, address) = bursting(2 * S);
    let id = support::id(millrace_emulator::Scenario::healthy(), 1);
    let session = start(address, &id, "p");
    let mut client = session.open();
    let before = client.answer(LIMIT, 500_000).body;
    let seek = |back: i64| {
        let target = format!("{}?method=liveseek&pos={}", session.command, unix() - back);
        get(address, &target).json()
    };
    assert_eq!(seek(600)["response"], "ok");
    let (after, end) = client.read_until(3 * S, |_| false);
    assert_eq!(end, End::Open);
    let body = [before, after].concat();
    let r = report(&id, &body);
    assert_eq!((r.corrupted, r.unaligned_bytes), (0, 0), "{r:?}");
    assert_eq!(r.restarts, 1, "it goes on before where it began: {r:?}");
    let old = r.last_delay.unwrap().as_secs();
    assert!((590..=600).contains(&old), "{old}");
    // At the position's pace: two seconds at once and three in three.
    let since = (r.last.unwrap() - r.first.unwrap()) * 1504 / u64::from(RATE);
    assert!((3..=6).contains(&since), "{since}");
    let behind = unix() - live(&session.told(), "pos");
    assert!((598..=603).contains(&behind), "{behind}");

    // Back to what is on the air, as far as that is known.
    assert_eq!(seek(-100)["response"], "ok");
    let (more, _) = client.read_until(3 * S, |_| false);
    let r = report(&id, &[body, more].concat());
    assert!(r.last_delay < Some(S) && r.corrupted == 0, "{r:?}");
    assert_eq!(get(address, &format!("{}?method=liveseek", session.command)).json()["error"], "missing pos");
    // Beyond the window is the window's end.
    assert_eq!(seek(100_000)["response"], "ok");
    let behind = unix() - live(&session.told(), "pos");
    assert!((1795..=1803).contains(&behind), "{behind}");
    assert_eq!(emulator.events(0).iter().filter(|e| e.starts_with("seek ")).count(), 3);
}

#[test]
fn the_same_seed_gives_the_same_event_log() {
    let texts =
        ["superseded", "session-expired(100000b)", "session-replaced(200ms)", "start-limit(1)", "jitter"];
    let life = |seed| {
        let timing = Timing { burst: S, ..Timing::fast() };
        let emulator = Emulator::start(EmulatorConfig { seed, timing, ..config(1) }).unwrap();
        let address = emulator.addresses()[0];
        for (serial, text) in (0..).zip(texts) {
            for pid in ["a", "b"] {
                let answer = start_json(address, &scene(text, serial).to_string(), pid);
                if answer.json()["error"].is_null() {
                    let session = session_of(address, &answer);
                    session.open().answer(LIMIT, 700_000);
                    eventually("the reader is gone", || emulator.counters().open_readers == 0);
                    session.stop();
                }
            }
        }
        emulator.events(0)
    };
    let (first, again) = (life(3), life(3));
    assert!(first.len() > 25, "{first:#?}");
    assert_eq!(first, again);
    assert_ne!(first, life(4));
}
