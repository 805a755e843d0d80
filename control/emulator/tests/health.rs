//! What engines tell of themselves, and what the control port tells and does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
};

use millrace_emulator::{Emulator, EmulatorConfig};
use serde_json::{Value, json};
use support::*;

#[test]
fn status_calls_raise_alarms_while_media_is_fine() {
    let (emulator, address) = one_controlled();
    let (_session, mut reader) = playing(address, 1);
    set(&emulator, "status-unhealthy(500)");
    assert_eq!(
        (status(address, STATUS), status(address, NETWORK), status(address, VERSION)),
        (500, 500, 200)
    );
    set(&emulator, "status-unhealthy(access-denied)");
    let denied = json!({"error": {"message": "access denied", "code": 0}});
    assert_eq!(get(address, STATUS).json(), denied);
    set(&emulator, "status-unhealthy(not-loaded)");
    assert_eq!(get(address, STATUS).json()["result"]["playlist_loaded"], false);
    set(&emulator, "status-unhealthy(disconnected)");
    assert_eq!(get(address, NETWORK).json(), json!({"result": {"connected": false}}));
    assert_eq!(get(address, STATUS).json()["result"]["playlist_loaded"], true);
    set(&emulator, "status-unhealthy(invalid)");
    assert!(serde_json::from_slice::<Value>(&get(address, STATUS).body).is_err());
    for kind in ["slow", "hang"] {
        set(&emulator, &format!("status-unhealthy({kind})"));
        let mut client = Client::get(address, STATUS);
        assert_eq!(client.answer(500 * MS, usize::MAX).status(), 0, "{kind}");
        if kind == "slow" {
            assert_eq!(client.answer(LIMIT, usize::MAX).status(), 200);
        }
    }
    assert!(reader.read_until(LIMIT, |all| all.len() > 5_000_000).0.len() > 5_000_000);
}

/// An address of this machine that is not the loopback's, if it has one.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the system only picks the address it would send from.
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn callers_from_outside_may_be_denied() {
    let Some(outer) = outer_address() else {
        println!("SKIP: this machine has no address but the loopback's");
        return;
    };
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let emulator = Emulator::start(EmulatorConfig { address, ..config(1) }).unwrap();
    let port = emulator.addresses()[0].port();
    let (outer, inner) = (SocketAddr::new(outer, port), SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(status(outer, VERSION), 200);
    set(&emulator, "access-denied");
    let denied = get(outer, VERSION);
    assert!(denied.status() == 500 && denied.text().starts_with("Internal"), "{denied:?}");
    assert_eq!(status(inner, VERSION), 200);
}

#[test]
fn other_builds_tell_so_and_play() {
    let (emulator, address) = one_controlled();
    for (serial, scenario, version, platform, server) in [
        (1, "old-version", "3.1.49", "linux", "BaseHTTP/0.3 Python/2.7.13"),
        (2, "android", "3.2.11", "android", "BaseHTTP/0.6 Python/3.8.16"),
    ] {
        set(&emulator, scenario);
        let result = get(address, VERSION).json()["result"].clone();
        assert_eq!([&result["version"], &result["platform"]], [version, platform], "{scenario}");
        let id = scene("healthy-live", serial);
        let session = start(address, &id, scenario);
        assert_eq!(get_head(address, &session.playback).header("server"), Some(server));
        let answer = session.read(100_000);
        assert_eq!(answer.header("server"), Some(server));
        assert_genuine(&id, &answer.body);
    }
}

#[test]
fn an_engine_may_live_in_another_time() {
    let (emulator, address) = one_controlled();
    let (session, _reader) = playing(address, 1);
    let last = || -> u64 {
        let stat = session.stat();
        stat["response"]["livepos"]["last_ts"].as_str().unwrap().parse().unwrap()
    };
    let (before, date) = (last(), get(address, VERSION).header("date").unwrap().to_owned());
    set(&emulator, "clock-skew(86400s)");
    assert!((86_400..86_410).contains(&(last() - before)));
    let skewed = get(address, VERSION).header("date").unwrap().to_owned();
    // Another day: weekday and day of the month differ.
    assert_ne!(date[..7], skewed[..7]);
}

#[test]
fn several_engines_share_a_fate_through_the_control_port() {
    let control = Some("127.0.0.1:0".parse().unwrap());
    let emulator = Emulator::start(EmulatorConfig { control, ..config(3) }).unwrap();
    let control = emulator.control_address().unwrap();
    let post = |target: &str, body: &str| {
        let request = format!("POST {target} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Client::open(control, &request).unwrap().answer(LIMIT, usize::MAX).status()
    };
    assert_eq!(post("/scenario", r#"{"engines": [0, 2], "scenario": "network-lost"}"#), 200);
    let connected: Vec<_> = emulator
        .addresses()
        .into_iter()
        .map(|a| get(a, NETWORK).json()["result"]["connected"].as_bool().unwrap())
        .collect();
    assert_eq!(connected, [false, true, false]);
    assert_eq!(get(control, "/engines").json()[2]["scenario"], "network-lost(0ms,0ms)");
    assert_eq!(post("/scenario", r#"{"scenario": "crash(0ms,300ms)"}"#), 200);
    eventually("all refuse", || emulator.addresses().into_iter().all(refuses));
    eventually("all are back", || emulator.addresses().into_iter().all(|a| status(a, VERSION) == 200));
    assert_eq!(post("/engines/1/terminate", ""), 200);
    assert!(refuses(emulator.addresses()[1]));
    assert_eq!(post("/scenario", r#"{"engines": [7], "scenario": "refuse"}"#), 404);
}

#[test]
fn counters_tell_players_apart() {
    let (emulator, address) = one_controlled();
    let id = scene("healthy-live", 1);
    let session = start(address, &id, "one");
    session.read(1000);
    start(address, &id, "two");
    session.stop();
    get(address, &format!("/ace/getstream?format=json&id={id}"));
    let counters = get(emulator.control_address().unwrap(), "/engines/0/counters").json();
    let players = &counters["per_player"][id.infohash()];
    assert_eq!(players["one"], json!({"starts": 1, "stops": 1, "playbacks": 1}), "{counters}");
    assert_eq!(players["two"], json!({"starts": 1, "stops": 0, "playbacks": 0}));
    assert_eq!(players["address 127.0.0.1"]["starts"], 1);
}

#[test]
fn the_longest_pause_of_a_reader_is_told() {
    let emulator = emulator(1);
    let fat = scene("healthy-bitrate(80000000)", 1);
    let session = start(emulator.addresses()[0], &fat, "p");
    let target = session.content();
    let mut stream = TcpStream::connect(session.address).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    std::thread::sleep(700 * MS);
    let mut taken = vec![0; 20_000_000];
    stream.read_exact(&mut taken).unwrap();
    eventually("a gap", || emulator.counters().longest_read_gap_ms >= 400);
}

#[test]
fn a_running_stream_takes_up_what_is_set_for_its_content() {
    let (emulator, address) = one_controlled();
    let (_other, mut undisturbed) = playing(address, 2);
    let id = scene("healthy-live", 1);
    let session = start(address, &id, "p");
    let mut reader = session.open();
    let mut all = reader.answer(LIMIT, 5_000_000).body;
    emulator.set_scenario(None, &id.to_string(), "stall(100000b,1s)".parse().unwrap());
    let mut silent = false;
    eventually("a silence", || {
        let (some, _) = reader.read_until(600 * MS, |bytes| !bytes.is_empty());
        silent = some.is_empty();
        all.extend(some);
        silent
    });
    all.extend(reader.read_until(LIMIT, |bytes| bytes.len() > 300_000).0);
    assert_genuine(&id, &all);
    emulator.set_scenario(None, &id.to_string(), "disconnect-rst(300ms)".parse().unwrap());
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Reset);
    assert_eq!(undisturbed.read_until(100 * MS, |_| false).1, End::Open);
}

#[test]
fn chaos_befalls_its_contents_and_ends_when_told_to() {
    let control = Some("127.0.0.1:0".parse().unwrap());
    let emulator = Emulator::start(EmulatorConfig { control, ..config(2) }).unwrap();
    let control = emulator.control_address().unwrap();
    let id = scene("healthy-live", 1);
    let post = |body: &str| {
        let request = format!("POST /chaos HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Client::open(control, &request).unwrap().answer(LIMIT, usize::MAX).status()
    };
    let order = format!(r#"{{"contents": ["{id}"], "seed": 5, "least_ms": 5, "most_ms": 20}}"#);
    assert_eq!(post(&order), 200);
    let chaos = || emulator.events(0).iter().filter(|e| e.starts_with("chaos ")).count();
    eventually("fifty changes", || chaos() >= 50);
    assert_eq!(post(r#"{"contents": [], "seed": 0, "least_ms": 0, "most_ms": 0}"#), 200);
    let (changes, address) = (chaos(), emulator.addresses()[0]);
    assert_genuine(&id, &start(address, &id, "p").read(300_000).body);
    assert_eq!(chaos(), changes);
    assert_eq!(post(r#"{"contents": 1}"#), 400);
}
