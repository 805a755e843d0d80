//! HLS of a healthy engine, and each scenario of it, on the wire.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{net::SocketAddr, time::Instant};

use millrace_emulator::{Content, ContentId, Emulator, EmulatorConfig, Timing};
use support::*;

fn hls(address: SocketAddr, scenario: &str, serial: u64) -> (Session, ContentId) {
    let id = scene(scenario, serial);
    (start_hls(address, &id, &format!("p{serial}")), id)
}

/// A playlist as read: its sequence number and its URLs' paths with durations.
#[derive(Clone, Debug, PartialEq)]
struct List {
    sequence: u64,
    target: u64,
    entries: Vec<(String, f64)>,
    text: String,
}

fn list_at(address: SocketAddr, target: &str) -> List {
    let answer = get(address, target);
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/vnd.apple.mpegurl"));
    let text = answer.text();
    let tag = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().parse().unwrap());
    let mut entries = Vec::new();
    let mut duration = None;
    for line in text.lines().map(str::trim) {
        if let Some(value) = line.strip_prefix("#EXTINF:") {
            duration = value.trim_end_matches(',').parse().ok();
        } else if !line.starts_with('#') && !line.is_empty() && line != "\u{feff}#EXTM3U" {
            let at = line.find("/ace/").or(line.find("/hls/")).unwrap_or_else(|| panic!("{line}"));
            entries.push((line[at..].to_owned(), duration.take().unwrap()));
        }
    }
    List {
        sequence: tag("#EXT-X-MEDIA-SEQUENCE:").unwrap(),
        target: tag("#EXT-X-TARGETDURATION:").unwrap(),
        entries,
        text,
    }
}

fn list(session: &Session) -> List {
    list_at(session.address, &session.playback)
}

/// The list when `holds` of it.
fn list_when(session: &Session, what: &str, holds: impl Fn(&List) -> bool) -> List {
    let mut found = list(session);
    eventually(what, || {
        found = list(session);
        holds(&found)
    });
    found
}

/// The body of a segment, whole.
fn segment(address: SocketAddr, path: &str) -> Vec<u8> {
    let answer = get(address, path);
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("video/MP2T")), "{path}");
    assert_eq!(answer.body.len() % 188, 0);
    answer.body
}

/// The first PCR, in ticks of 90 kHz.
fn pcr(body: &[u8]) -> u64 {
    let mut packets = body.chunks(188);
    let with = packets.find(|p| p[3] & 0x20 != 0 && p[4] > 6 && p[5] & 0x10 != 0).unwrap();
    with[6..10].iter().fold(0, |v, &b| v << 8 | u64::from(b)) << 1 | u64::from(with[10] >> 7)
}

/// PIDs of the first three packets.
fn pids(body: &[u8]) -> [u16; 3] {
    [0, 188, 376].map(|at| u16::from_be_bytes([body[at + 1] & 0x1f, body[at + 2]]))
}

#[test]
fn a_healthy_list_grows_by_segments_that_are_the_broadcast() {
    let (emulator, address) = one();
    let (session, id) = hls(address, "healthy-hls", 1);
    assert!(session.playback.starts_with("/ace/m/") && session.playback.ends_with(".m3u8"));
    let first = list(&session);
    assert!(first.text.starts_with("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:"), "{}", first.text);
    assert!(!first.text.contains("#EXT-X-ENDLIST"));
    assert!(
        first.text.contains(&format!("\nhttp://{address}/ace/c/{}/0.ts\n", id.infohash())),
        "{}",
        first.text
    );
    // Three, and what a busy machine has let pass meanwhile.
    let had = first.entries.len();
    assert!(first.sequence == 0 && (3..=5).contains(&had), "{}", first.text);
    let grown = list_when(&session, "two more segments", |l| l.entries.len() >= had + 2);
    assert_eq!(grown.entries[..had], first.entries);
    assert!(grown.entries.iter().all(|e| e.1 <= grown.target as f64 && e.1 > 0.9));
    let bodies: Vec<_> = grown.entries.iter().map(|e| segment(address, &e.0)).collect();
    assert_genuine(&id, &bodies.concat());
    for body in &bodies {
        // PAT, PMT, and a picture that players can begin with.
        assert_eq!(pids(body), [0, 0x1000, 0x100]);
        assert_eq!(body[2 * 188 + 5] & 0x40, 0x40, "random access");
    }
    let seconds = bodies.concat().len() as f64 * 8.0 / f64::from(RATE);
    let told: f64 = grown.entries.iter().map(|e| e.1).sum();
    assert!((seconds - told).abs() < 0.01, "{seconds} {told}");
    // Any number of clients get the same.
    assert_eq!(segment(address, &grown.entries[1].0), bodies[1]);
    assert_eq!(emulator.counters().misuse.second_reader, 0);
    assert_eq!(session.stat()["response"]["status"], "dl");
    let redirect = get_head(address, &format!("/ace/manifest.m3u8?id={id}&pid=r"));
    assert!(redirect.header("location").unwrap().contains("/ace/m/"), "{redirect:?}");
}

#[test]
fn two_engines_cut_a_broadcast_at_the_same_places() {
    let emulator = emulator(2);
    let id = scene("healthy-hls", 1);
    let bodies: Vec<Vec<_>> = emulator
        .addresses()
        .into_iter()
        .map(|address| {
            let session = start_hls(address, &id, "p");
            list(&session).entries.iter().map(|e| segment(address, &e.0)).collect()
        })
        .collect();
    assert!(bodies[0].iter().filter(|body| bodies[1].contains(body)).count() >= 2);
}

#[test]
fn segments_of_the_clip_begin_with_tables_and_join() {
    let (_emulator, address) = one();
    let id = ContentId::new(Content::Clip, "healthy-hls".parse().unwrap(), 1);
    let list = list(&start_hls(address, &id, "p"));
    let mut clocks = Vec::new();
    for (path, duration) in &list.entries {
        let body = segment(address, path);
        assert_eq!(pids(&body), [0, 0x1000, 0x100]);
        assert_eq!(body[2 * 188 + 5] & 0x40, 0x40, "random access");
        clocks.push((pcr(&body), *duration));
    }
    for pair in clocks.windows(2) {
        let ticks = (pair[1].0 + (1 << 33) - pair[0].0) % (1 << 33);
        assert!((ticks as f64 / 90_000.0 - pair[0].1).abs() < 0.1, "{clocks:?}");
    }
}

#[test]
fn a_list_that_is_not_ready_comes_later() {
    let (_emulator, address) = one();
    for (serial, kind) in (1..).zip(["held", "500", "no-playlist", "no-segments"]) {
        let (session, _) = hls(address, &format!("hls-not-ready({kind},900ms)"), serial);
        let early = Client::get(address, &session.playback).answer(500 * MS, usize::MAX);
        let text = early.text();
        match kind {
            "held" => assert_eq!((early.status(), early.end), (0, End::Open)),
            "500" => assert_eq!((early.status(), text.as_str()), (500, "start timeout")),
            "no-playlist" => assert!(early.status() == 200 && !text.contains("#EXTM3U")),
            _ => assert!(text.starts_with("#EXTM3U") && !text.contains("#EXTINF")),
        }
        eventually(kind, || get(address, &session.playback).text().contains("#EXTINF"));
    }
}

#[test]
fn listed_segments_may_be_missing() {
    let (_emulator, address) = one();
    for (serial, kind, status) in [(1, "404", 404), (2, "500", 500), (3, "empty", 200), (4, "redirect", 302)]
    {
        let (session, id) = hls(address, &format!("hls-missing-segments({kind},2)"), serial);
        let entries = list(&session).entries;
        assert_genuine(&id, &segment(address, &entries[0].0));
        let missing = get_head(address, &entries[1].0);
        assert_eq!(missing.status(), status, "{kind}");
        match kind {
            "empty" => assert_eq!(missing.header("content-length"), Some("0")),
            "redirect" => assert_eq!(path(missing.header("location").unwrap()), entries[2].0),
            _ => {}
        }
    }
}

#[test]
fn short_and_slow_segments() {
    let (_emulator, address) = one();
    let (session, _) = hls(address, "hls-short-segment(2)", 1);
    let entries = list(&session).entries;
    segment(address, &entries[0].0);
    let (all, end) = Client::get(address, &entries[1].0).read_until(LIMIT, |_| false);
    let at = head_end(&all).unwrap();
    let announced: usize = String::from_utf8_lossy(&all[..at])
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: ")?.parse().ok())
        .unwrap();
    let sent = all.len() - at;
    assert!(end == End::Fin && sent < announced && sent % 188 == 100, "{sent} of {announced}");

    let (session, id) = hls(address, "hls-slow-segment(75)", 2);
    let (url, duration) = list(&session).entries[0].clone();
    let began = Instant::now();
    assert_genuine(&id, &segment(address, &url));
    let took = began.elapsed().as_secs_f64() / duration;
    assert!((0.74..1.2).contains(&took), "{took} of its duration");
}

#[test]
fn time_stamps_go_back_with_and_without_a_tag() {
    let (_emulator, address) = one();
    for (serial, kind, tags) in [(1, "tagged", 1), (2, "untagged", 0)] {
        let (session, _) = hls(address, &format!("hls-discontinuity({kind},2)"), serial);
        let list = list(&session);
        assert_eq!(list.text.matches("#EXT-X-DISCONTINUITY\n").count(), tags, "{}", list.text);
        let clocks: Vec<_> = list.entries.iter().map(|e| pcr(&segment(address, &e.0))).collect();
        let apart = |a: u64, b: u64| ((b + (1 << 33) - a) % (1 << 33)) as f64 / 90_000.0;
        assert!((apart(clocks[0], clocks[1]) - list.entries[0].1).abs() < 0.1, "{clocks:?}");
        assert!((990.0..1010.0).contains(&apart(clocks[2], clocks[1])), "{clocks:?}");
    }
}

#[test]
fn sequence_numbers_go_wrong() {
    let (_emulator, address) = one();
    let newest = |l: &List| l.sequence + l.entries.len() as u64 - 1;
    let (reset, id) = hls(address, "hls-sequence(reset,5s)", 1);
    let (back, _) = hls(address, "hls-sequence(back,5s)", 2);
    let (jump, _) = hls(address, "hls-sequence(jump,1s)", 3);
    let (repeat, _) = hls(address, "hls-sequence(repeat,100ms)", 4);
    let (duplicate, _) = hls(address, "hls-sequence(duplicate)", 5);

    let twice = list(&duplicate).entries;
    assert!(twice.chunks(2).all(|pair| pair[0] == pair[1]) && twice.len() >= 6, "{twice:?}");
    let stays = list_when(&repeat, "the time to repeat", |_| true);
    let jumped = list_when(&jump, "a jump", |l| l.sequence >= 50);
    assert!(jumped.entries[0].0.ends_with(&format!("/{}.ts", jumped.sequence)), "{jumped:?}");
    assert!(segment(address, &jumped.entries[0].0).len() > 100_000);

    let before = list_when(&reset, "growth", |l| newest(l) >= 3);
    let zero = segment(address, &before.entries[0].0);
    let after = list_when(&reset, "a reset", |l| newest(l) < 3);
    assert_eq!(after.sequence, 0);
    let bodies: Vec<_> = after.entries.iter().map(|e| segment(address, &e.0)).collect();
    assert_ne!(bodies[0], zero, "the numbers begin anew, the programme does not");
    assert_genuine(&id, &bodies.concat());

    list_when(&back, "a step back", |l| newest(l) < 2);
    assert_eq!(list(&repeat).entries, stays.entries);
    assert!(newest(&list(&jump)) > newest(&jumped));
}

#[test]
fn a_playlist_is_forbidden_from_a_time_on() {
    let (_emulator, address) = one();
    let (session, _) = hls(address, "hls-403(700ms)", 1);
    list(&session);
    eventually("403", || get(address, &session.playback).status() == 403);
}

#[test]
fn a_stopped_session_answers_500() {
    let (_emulator, address) = one();
    let (session, _) = hls(address, "hls-500-after-stop", 1);
    let entries = list(&session).entries;
    session.stop();
    assert_eq!(get(address, &session.playback).status(), 500);
    assert_eq!(get(address, &entries[0].0).status(), 500);
    assert_eq!(session.stat()["error"], "unknown playback session id");
}

#[test]
fn a_master_names_three_variants_and_the_sound() {
    let (_emulator, address) = one();
    let (session, id) = hls(address, "hls-master", 1);
    let text = get(address, &session.playback).text();
    assert_eq!(text.matches("#EXT-X-STREAM-INF:BANDWIDTH=").count(), 3, "{text}");
    let key = session.playback.rsplit('/').next().unwrap().strip_suffix(".m3u8").unwrap();
    let at = |name: &str| format!("/hls/m/{}/{key}/{name}.m3u8", id.infohash());
    for url in [
        format!("http://{address}{}", at("0")),
        at("1"),
        format!("../../..{}", at("2")),
        format!("URI=\"{}\"", at("audio")),
    ] {
        assert!(text.contains(&url), "{url} in {text}");
    }
    let mut sizes = Vec::new();
    for name in ["0", "1", "2", "audio"] {
        let list = list_at(address, &at(name));
        assert!(list.entries[0].0.starts_with(&format!("/hls/c/{}/{name}/", id.infohash())));
        sizes.push(segment(address, &list.entries[0].0).len());
        if name == "0" {
            assert_genuine(&id, &segment(address, &list.entries[0].0));
        }
    }
    assert!(sizes.windows(2).all(|w| w[1] < w[0]), "{sizes:?}");
    assert_eq!(get(address, &at("7")).status(), 500);
}

#[test]
fn lists_are_written_oddly() {
    let (_emulator, address) = one();
    for (serial, kind) in
        (1..).zip(["crlf", "bom", "no-version", "integers", "short-target", "relative", "comments", "all"])
    {
        let (session, _) = hls(address, &format!("hls-odd-list({kind})"), serial);
        let list = list(&session);
        let text = &list.text;
        let oddities = [
            ("crlf", text.contains("\r\n")),
            ("bom", text.starts_with('\u{feff}')),
            ("no-version", !text.contains("#EXT-X-VERSION")),
            ("integers", text.lines().filter(|l| l.starts_with("#EXTINF:")).all(|l| !l.contains('.'))),
            ("short-target", list.entries.iter().any(|e| e.1.round() > list.target as f64)),
            ("relative", text.contains("\n../")),
            ("comments", text.contains("# a comment")),
        ];
        for (name, is_so) in oddities {
            assert_eq!(is_so, name == kind || kind == "all", "{name} in {kind}: {text}");
        }
        segment(address, &list.entries[0].0);
    }
}

#[test]
fn segments_may_begin_inside_a_group_of_pictures() {
    let (_emulator, address) = one();
    let (session, id) = hls(address, "hls-no-idr", 1);
    let bodies: Vec<_> = list(&session).entries.iter().map(|e| segment(address, &e.0)).collect();
    for body in &bodies {
        assert!(!pids(body).contains(&0));
        let is_rai = |p: &[u8]| p[3] & 0x20 != 0 && p[4] > 0 && p[5] & 0x40 != 0;
        assert!(body.chunks(188).position(is_rai).unwrap() > 1000, "not before half a group");
    }
    assert_genuine(&id, &bodies.concat());
}

#[test]
fn a_loop_serves_the_same_bytes_under_new_numbers() {
    let (_emulator, address) = one();
    let (session, _) = hls(address, "hls-loop(100ms,4s)", 1);
    let list = list_when(&session, "two laps", |l| l.entries.len() >= 6);
    let bodies: Vec<_> = list.entries.iter().map(|e| segment(address, &e.0)).collect();
    // The third or the fourth is the first of a lap of two.
    assert!(bodies[3] == bodies[1] || bodies[4] == bodies[2]);
    assert_eq!(bodies[5], bodies[3]);
    assert_ne!(bodies[1], bodies[0]);
}

#[test]
fn only_segments_keep_a_session_where_the_scenario_says_so() {
    let timing = Timing { expiry: 600 * MS, ..config(1).timing };
    let emulator = Emulator::start(EmulatorConfig { timing, ..config(1) }).unwrap();
    let address = emulator.addresses()[0];
    let (polled, _) = hls(address, "hls-idle-expiry", 1);
    let (fetched, _) = hls(address, "hls-idle-expiry", 2);
    let (healthy, _) = hls(address, "healthy-hls", 3);
    let first = list(&fetched).entries[0].0.clone();
    eventually("the end of the session whose playlist alone is polled", || {
        assert_eq!(get_head(address, &first).status(), 200);
        assert_eq!(get(address, &healthy.playback).status(), 200);
        get(address, &polled.playback).status() == 500
    });
    assert_eq!(get(address, &fetched.playback).status(), 200);
}

#[test]
fn a_playlist_is_held_while_the_session_prebuffers() {
    let (_emulator, address) = one();
    let (session, _) = hls(address, "slow-start(800ms)", 1);
    let mut client = Client::get(address, &session.playback);
    assert_eq!(client.answer(400 * MS, usize::MAX).status(), 0);
    assert_eq!(session.stat()["response"]["status"], "prebuf");
    let answer = client.answer(LIMIT, usize::MAX);
    assert!(answer.text().contains("#EXTINF"), "{answer:?}");
}
