//! An engine's life and health: each scenario shows what its name says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use millrace_emulator::{Emulator, EmulatorConfig, Timing};
use serde_json::Value;
use support::*;

/// What the control port says of the engine.
fn told(emulator: &Emulator) -> Value {
    get(emulator.control_address().unwrap(), "/engines").json()[0].clone()
}

#[test]
fn a_slow_boot_refuses_then_fails_then_tells_its_version_then_works() {
    let (emulator, address) = one_controlled();
    let (_session, mut reader) = playing(address, 1);
    set(&emulator, "boot-slow(500ms,1500ms)");
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset, "it starts anew");
    eventually("refusal", || refuses(address));
    let mut seen = Vec::new();
    eventually("a good start", || {
        let start = format!("/ace/getstream?format=json&id={}&pid=q", scene("healthy-live", 2));
        let now = (status(address, VERSION), status(address, &start));
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        now == (200, 200)
    });
    // An order may fall between two polls.
    let order = [(0, 0), (500, 500), (200, 500), (200, 200)];
    assert!(order.iter().all(|step| seen.contains(step)), "{seen:?}");
    assert!(seen.iter().filter_map(|s| order.iter().position(|o| o == s)).is_sorted(), "{seen:?}");
}

#[test]
fn an_engine_may_never_boot() {
    let (emulator, address) = one_controlled();
    set(&emulator, "boot-never");
    eventually("refusal", || refuses(address));
    emulator.revive(0);
    assert!(refuses(address));
    set(&emulator, "healthy-live");
    emulator.revive(0);
    assert_eq!(status(address, VERSION), 200);
}

#[test]
fn a_real_boot_takes_its_time() {
    let timing =
        Timing { boot_port: 300 * MS, boot_api: 900 * MS, boot_playlist: 1500 * MS, ..Timing::fast() };
    let emulator = Emulator::start(EmulatorConfig { timing, ..config(1) }).unwrap();
    let address = emulator.addresses()[0];
    assert_eq!(get(address, STATUS).json()["result"]["playlist_loaded"], true, "it has run for long");
    emulator.kill(0);
    emulator.revive(0);
    let began = Instant::now();
    assert!(refuses(address));
    eventually("errors", || status(address, STATUS) == 500);
    eventually("status", || status(address, STATUS) == 200);
    assert!(began.elapsed() >= 850 * MS);
    assert_eq!(get(address, STATUS).json()["result"]["playlist_loaded"], false);
    eventually("the playlist", || get(address, STATUS).json()["result"]["playlist_loaded"] == true);
}

#[test]
fn a_crash_resets_refuses_and_comes_back_without_sessions() {
    let (emulator, address) = one_controlled();
    let (session, mut reader) = playing(address, 1);
    let idle = TcpStream::connect(address).unwrap();
    idle.set_read_timeout(Some(LIMIT)).unwrap();
    let began = Instant::now();
    set(&emulator, "crash(400ms,600ms)");
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset);
    assert!(began.elapsed() >= 390 * MS);
    let mut byte = [0];
    assert!((&idle).read(&mut byte).is_err(), "every socket gets RST");
    eventually("refusal", || refuses(address));
    assert_eq!(told(&emulator)["exit"], 139);
    eventually("a fresh engine", || status(address, VERSION) == 200);
    assert!(began.elapsed() >= 990 * MS);
    assert_eq!(session.stat()["error"], "unknown playback session id");
    assert_eq!(told(&emulator)["exit"], Value::Null);
    playing(address, 1);
}

#[test]
fn a_crash_loop_goes_on_until_it_is_taken_back() {
    let (emulator, address) = one_controlled();
    set(&emulator, "crash-loop(300ms,200ms)");
    let mut changes = 0;
    let mut was_up = true;
    eventually("three falls", || {
        let is_up = !refuses(address);
        changes += u32::from(is_up != was_up);
        was_up = is_up;
        changes >= 6
    });
    set(&emulator, "healthy-live");
    emulator.revive(0);
    for _ in 0..20 {
        std::thread::sleep(30 * MS);
        assert_eq!(status(address, VERSION), 200);
    }
}

#[test]
fn memory_ends_with_too_many_sessions_or_bytes() {
    let (emulator, address) = one_controlled();
    set(&emulator, "oom(1)");
    let (_session, mut reader) = playing(address, 1);
    let second = format!("/ace/getstream?format=json&id={}&pid=q", scene("healthy-live", 2));
    status(address, &second);
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset);
    eventually("status 137", || told(&emulator)["exit"] == 137);
    eventually("a restart", || status(address, VERSION) == 200);
    set(&emulator, "oom(0,3)");
    let before = emulator.counters().bytes;
    let (_session, mut reader) = playing(address, 3);
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset);
    // A reset takes with it what was not read yet.
    let sent = emulator.counters().bytes - before;
    assert!((3 << 20..4 << 20).contains(&sent), "{sent}");
}

#[test]
fn an_engine_wears_out_with_the_sessions_it_served() {
    let (emulator, address) = one_controlled();
    set(&emulator, "degrade(4,30)");
    let memory = |emulator: &Emulator| told(emulator)["memory_mib"].as_u64().unwrap();
    let fresh = memory(&emulator);
    let mut took = Vec::new();
    let mut failures = 0;
    let mut hung = false;
    for serial in 0..200 {
        let target = format!("/ace/getstream?format=json&id={}&pid={serial}", scene("healthy-live", serial));
        let answer = Client::get(address, &target).answer(Duration::from_secs(2), usize::MAX);
        if answer.status() == 0 {
            hung = true;
            break;
        }
        took.push(answer.took);
        match answer.json()["error"].as_str() {
            Some(_) => failures += 1,
            None => {
                // The last one's stop hangs as all else does.
                let stop = format!("{}?method=stop", session_of(address, &answer).command);
                Client::get(address, &stop).answer(Duration::from_secs(1), usize::MAX);
            }
        }
    }
    assert!(hung, "the API hangs at last");
    assert!((1..20).contains(&failures), "{failures} failures");
    assert!(took.iter().take(4).all(|t| *t < 60 * MS) && *took.last().unwrap() >= 80 * MS, "{took:?}");
    assert!(memory(&emulator) >= fresh + 20 * 30);
    emulator.kill(0);
    emulator.revive(0);
    assert_eq!((status(address, VERSION), memory(&emulator)), (200, fresh), "a new one is as good as new");
}

#[test]
fn without_cpu_all_is_late_and_streams_come_in_clumps() {
    let (emulator, address) = one_controlled();
    set(&emulator, "cpu-starved(20)");
    let id = scene("healthy-live", 1);
    let answer = start_json(address, &id.to_string(), "p");
    assert!(answer.took >= 390 * MS, "20 × 20 ms: {:?}", answer.took);
    let mut reader = session_of(address, &answer).open();
    reader.read_until(LIMIT, |all| all.len() > 5_000_000);
    let mut times: Vec<Duration> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        if !reader.read_until(20 * MS, |all| !all.is_empty()).0.is_empty() {
            times.push(began.elapsed());
        }
    }
    let gaps = times.windows(2).filter(|w| w[1] - w[0] > 350 * MS).count();
    assert!((3..=7).contains(&gaps), "{times:?}");
}

#[test]
fn a_lost_network_stalls_streams_and_fails_starts_until_it_is_back() {
    let (emulator, address) = one_controlled();
    let id = scene("healthy-live", 1);
    let session = start(address, &id, "p");
    let mut reader = session.open();
    let mut all = reader.answer(LIMIT, 5_000_000).body;
    let began = Instant::now();
    set(&emulator, "network-lost(2500ms,300ms)");
    assert_eq!(get(address, NETWORK).json()["result"]["connected"], false);
    let new = start_json(address, &scene("healthy-live", 2).to_string(), "q");
    assert!(new.took >= 300 * MS && new.json()["error"] == "failed to load content", "{new:?}");
    all.extend(reader.read_until(400 * MS, |_| false).0);
    let (silence, end) = reader.read_until(800 * MS, |bytes| !bytes.is_empty());
    assert_eq!((silence.len(), end), (0, End::Open));
    let stat = session.stat()["response"].clone();
    assert!(stat["status"] == "dl" && stat["speed_down"].as_u64() < Some(20), "{stat}");
    let (rest, _) = reader.read_until(LIMIT, |bytes| bytes.len() > 1_000_000);
    assert!(began.elapsed() >= 2400 * MS, "{:?}", began.elapsed());
    all.extend(rest);
    assert_genuine(&id, &all);
    assert_eq!(get(address, NETWORK).json()["result"]["connected"], true);
    playing(address, 3);
}

#[test]
fn a_port_may_drift_when_an_engine_starts_anew() {
    let (emulator, address) = one_controlled();
    set(&emulator, "port-drift");
    assert_eq!(status(address, VERSION), 200, "not before");
    emulator.kill(0);
    emulator.revive(0);
    let moved = emulator.addresses()[0];
    assert!(address.port() < moved.port() && (moved.port() - address.port()).is_multiple_of(2));
    assert!(refuses(address));
    assert_eq!(status(moved, VERSION), 200);
    assert_eq!(told(&emulator)["address"], moved.to_string());
}

#[test]
fn an_engine_may_take_its_time_to_end() {
    let (emulator, address) = one_controlled();
    let (_session, mut reader) = playing(address, 1);
    set(&emulator, "slow-shutdown(900ms)");
    let began = Instant::now();
    emulator.terminate(0);
    assert_eq!(status(address, VERSION), 200, "it goes on");
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset);
    assert!(began.elapsed() >= 890 * MS);
    eventually("refusal", || refuses(address));
    set(&emulator, "healthy-live");
    emulator.revive(0);
    let began = Instant::now();
    emulator.terminate(0);
    assert!(refuses(address) && began.elapsed() < 800 * MS, "a healthy one ends at once");
    assert_eq!(told(&emulator)["exit"], 0);
}

#[test]
fn a_full_disk_stalls_one_stream_after_another() {
    let (emulator, address) = one_controlled();
    let (_a, mut first) = playing(address, 1);
    let (_b, mut second) = playing(address, 2);
    for reader in [&mut first, &mut second] {
        reader.read_until(LIMIT, |all| all.len() > 4_990_000);
    }
    set(&emulator, "disk-full(1s)");
    let target = format!("/ace/getstream?format=json&id={}&pid=q", scene("healthy-live", 3));
    assert_eq!(status(address, &target), 500);
    // Reads both until the time; says which of them got something after `from`.
    let mut flows = |from: u64, to: u64, began: Instant| {
        let mut got = [false; 2];
        while began.elapsed() < Duration::from_millis(to) {
            for (i, reader) in [&mut first, &mut second].into_iter().enumerate() {
                let some = !reader.read_until(10 * MS, |all| !all.is_empty()).0.is_empty();
                got[i] |= some && began.elapsed() > Duration::from_millis(from);
            }
        }
        got
    };
    let began = Instant::now();
    assert_eq!(flows(0, 800, began), [true, true]);
    assert_eq!(flows(1400, 1900, began), [false, true]);
    assert_eq!(flows(2500, 3100, began), [false, false]);
}
