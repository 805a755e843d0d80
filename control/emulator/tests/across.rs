//! Scenarios of one kind where those of another could get into their way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use millrace_emulator::{Content, ContentId, Scenario};
use support::*;

/// The segments of a playlist, whole.
fn segments(session: &Session) -> Vec<Vec<u8>> {
    let list = get(session.address, &session.playback);
    assert_eq!(list.status(), 200, "{list:?}");
    let text = list.text();
    let urls = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    urls.map(|url| get(session.address, &path(url)).body).collect()
}

#[test]
fn an_encrypted_content_plays_as_hls_only() {
    let (_emulator, address) = one();
    let id = scene("encrypted", 1);
    assert_eq!(get(address, &start(address, &id, "ts").playback).status(), 500);
    assert_genuine(&id, &segments(&start_hls(address, &id, "hls")).concat());
}

#[test]
fn a_rate_that_varies_is_cut_into_segments_too() {
    let (_emulator, address) = one();
    let id = ContentId::new(Content::Varying, Scenario::healthy(), 2);
    let session = start_hls(address, &id, "p");
    let bodies = segments(&session);
    assert_genuine(&id, &bodies.concat());
    assert!(bodies.iter().all(|body| ts::packets(body)[2].is_random_access()));
}

#[test]
fn a_playlist_is_as_far_behind_as_its_scenario_says() {
    let emulator = emulator(2);
    let id = id(Scenario::healthy(), 3);
    let mut newest = Vec::new();
    for (engine, scenario) in [(0, "edge-shift(0s)"), (1, "edge-shift(12s)")] {
        emulator.set_scenario(Some(engine), &id.to_string(), scenario.parse().unwrap());
        let bodies = segments(&start_hls(emulator.addresses()[engine], &id, "p"));
        newest.push(ts::packets(bodies.last().unwrap()).iter().find_map(ts::Packet::pcr).unwrap());
    }
    let seconds = (newest[0] - newest[1]) as f64 / 27_000_000.0;
    assert!((9.0..=14.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_rival_comes_whatever_is_set_for_other_contents() {
    let (emulator, address) = one();
    let session = start(address, &scene("session-replaced(500ms,1)", 4), "p");
    let mut reader = session.open();
    reader.read_until(LIMIT, |bytes| !bytes.is_empty());
    let other = id(Scenario::healthy(), 5).to_string();
    emulator.set_scenario(None, &other, "jitter".parse().unwrap());
    assert_eq!(reader.read_until(LIMIT, |_| false).1, End::Fin);
    assert_eq!(get(address, &session.playback).status(), 403);
}

#[test]
fn a_file_keeps_its_length_whatever_is_set_for_it() {
    let (emulator, address) = one();
    let id = scene("healthy-vod(60s)", 6);
    let mut reader = start(address, &id, "p").open();
    let (mut all, _) = reader.read_until(LIMIT, |all| all.len() > 100_000);
    emulator.set_scenario(None, &id.to_string(), "wrong-bitrate(unlimited)".parse().unwrap());
    let (rest, end) = reader.read_until(LIMIT, |rest| rest.len() > 60 << 20);
    all.extend(rest);
    let at = head_end(&all).unwrap();
    let told = format!("Content-Length: {}\r\n", all.len() - at);
    assert!(end == End::Fin && String::from_utf8_lossy(&all[..at]).contains(&told), "{end:?} {told}");
}

#[test]
fn a_lost_network_stalls_a_stream_that_lags_or_trickles() {
    for (serial, scenario) in (10..).zip(["edge-shift(2s)", "wrong-bitrate(1.3)", "slow-trickle(188,10ms)"]) {
        let (emulator, address) = one();
        let session = start(address, &scene(scenario, serial), "p");
        let mut reader = session.open();
        reader.read_until(LIMIT, |bytes| bytes.len() > 2000);
        emulator.set_engine_scenario(0, "network-lost".parse().unwrap());
        eventually("silence", || reader.read_until(400 * MS, |bytes| !bytes.is_empty()).0.is_empty());
        assert_eq!(session.told()["status"], "dl", "{scenario}");
    }
}
