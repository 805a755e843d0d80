//! What HLS players and others may ask for, and what they are answered.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use millrace_emulator::{ContentId, Scenario};
use support::{
    crowd::{Crowd, assert_unbroken},
    raw,
    server::{Answer, parse_answer},
    stage::{Setup, Stage, path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 1_000_000;
const SOON: Duration = Duration::from_secs(20);
/// A target duration of two seconds: whoever is silent for six has left.
const SHORT: &str = "[hls]\nsegment = \"1s\"\ntarget_duration = \"2s\"\n[streams]\nlinger = \"1s\"\n";

fn manifest(id: &ContentId) -> String {
    format!("/ace/manifest.m3u8?id={id}")
}

/// One request on a connection of its own, with these header lines.
fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let (bytes, _) = raw::exchange(address, request.as_bytes());
    parse_answer(&bytes).unwrap_or_else(|| panic!("{method} {path}: {}", String::from_utf8_lossy(&bytes)))
}

fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "")
}

/// The path of the media playlist of a new viewer.
fn playlist_of(stage: &Stage, id: &ContentId) -> String {
    let answer = get(stage.server.address(), &manifest(id));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    format!("/ace/{}", text.lines().last().unwrap())
}

/// The newest whole segment in a playlist.
fn newest(playlist: &str) -> u64 {
    let names = playlist.lines().filter(|line| !line.starts_with('#'));
    names.filter_map(|line| line.strip_suffix(".ts")?.parse().ok()).next_back().unwrap()
}

#[test]
fn whatever_is_asked_for_there_is_the_right_answer_and_nothing_is_started() {
    let Some(stage) = Stage::start(&Setup { config: SHORT.into(), ..Setup::default() }) else { return };
    let address = stage.server.address();
    let id = signed(RATE, Scenario::healthy(), 1);
    let list = playlist_of(&stage, &id);
    let base = list.trim_end_matches("index.m3u8").to_owned();
    let token = base.split('/').nth(3).unwrap().to_owned();
    let forged = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    let text = get(address, &list).text();
    let known = newest(&text);
    for (name, method, target, status, code) in [
        ("no content", "GET", "/ace/manifest.m3u8".to_owned(), 400, "bad_parameter"),
        ("a bad id", "GET", "/ace/manifest.m3u8?id=xyz".into(), 400, "bad_parameter"),
        ("two contents", "GET", format!("{}&infohash={id}", manifest(&id)), 400, "bad_parameter"),
        ("a private URL", "GET", "/ace/manifest.m3u8?url=http://127.0.0.1/".into(), 400, "bad_parameter"),
        ("another method", "POST", manifest(&id), 405, "method_not_allowed"),
        ("no token", "GET", "/ace/hls/index.m3u8".into(), 404, "not_found"),
        ("a forged token", "GET", format!("/ace/hls/{forged}/index.m3u8"), 404, "not_found"),
        ("a forged token's segment", "GET", format!("/ace/hls/{forged}/0.ts"), 404, "not_found"),
        ("a short token", "GET", "/ace/hls/abc/index.m3u8".into(), 404, "not_found"),
        ("another name", "GET", format!("{base}other.m3u8"), 404, "not_found"),
        ("a segment to come", "GET", format!("{base}{}.ts", known + 50), 404, "not_found"),
        ("a part to come", "GET", format!("{base}{}.7.ts", known + 50), 404, "not_found"),
        ("a huge number", "GET", format!("{base}99999999999999999999.ts"), 404, "not_found"),
        ("a reload without a number", "GET", format!("{list}?_HLS_msn="), 400, "bad_parameter"),
        ("a negative number", "GET", format!("{list}?_HLS_msn=-1"), 400, "bad_parameter"),
        ("a part alone", "GET", format!("{list}?_HLS_part=0"), 400, "bad_parameter"),
        ("a reload far ahead", "GET", format!("{list}?_HLS_msn={}", known + 50), 400, "bad_parameter"),
        ("an update of another kind", "GET", format!("{list}?_HLS_skip=PERHAPS"), 400, "bad_parameter"),
    ] {
        let answer = ask(address, method, &target, "");
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["error"]["code"], code, "{name}");
        assert!(json["error"]["remedy"].as_str().is_some_and(|remedy| remedy.len() > 8), "{name}: {json}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{name}");
    }
    // The only one that was asked for well; a sample later it is still so.
    stage.wait_metric("millrace_streams_started_total", 1.0);
    thread::sleep(Duration::from_millis(1_200));
    stage.wait_metric("millrace_streams_started_total", 1.0);
    // A request without an end, and one that is no HTTP.
    for (bytes, status) in [(&b"GET /ace/hls/ \x01\r\n\r\n"[..], 400), (&[b'a'; 20_000], 400)] {
        let (answer, _) = raw::exchange(address, bytes);
        assert!((status..500).contains(&raw::status_of(&answer)), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(get(address, &list).status == 200);
}

#[test]
fn answers_can_be_kept_compressed_and_asked_for_by_head() {
    let Some(stage) = Stage::start(&Setup::default()) else { return };
    let address = stage.server.address();
    let id = signed(RATE, Scenario::healthy(), 2);
    for (method, target) in [("HEAD", manifest(&id)), ("OPTIONS", manifest(&id))] {
        let begun = Instant::now();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (bytes, _) = raw::exchange(address, request.as_bytes());
        assert!(matches!(raw::status_of(&bytes), 200 | 204), "{}", String::from_utf8_lossy(&bytes));
        assert!(begun.elapsed() < Duration::from_secs(2), "{method} waits for a stream");
    }
    assert_eq!(stage.api("streams")["streams"].as_array().unwrap().len(), 0, "nothing has been started");

    let list = playlist_of(&stage, &id);
    let plain = get(address, &list);
    assert_eq!(plain.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(plain.header("access-control-allow-origin"), Some("*"));
    let etag = plain.header("etag").unwrap().to_owned();
    // Between two parts all of these see the same playlist; one may fall in between.
    let same = wait_until(SOON, || {
        let fresh = get(address, &list);
        let etag = fresh.header("etag").unwrap().to_owned();
        let kept = ask(address, "GET", &list, &format!("If-None-Match: {etag}\r\n"));
        let small = ask(address, "GET", &list, "Accept-Encoding: br, gzip;q=0.5\r\n");
        let mut text = String::new();
        GzDecoder::new(&small.body[..]).read_to_string(&mut text).unwrap();
        assert_eq!(small.header("content-encoding"), Some("gzip"));
        assert!(small.body.len() < text.len(), "{} of {}", small.body.len(), text.len());
        kept.status == 304
            && kept.body.is_empty()
            && text == fresh.text()
            && small.header("etag") == Some(&etag)
    });
    assert!(same);
    let other = ask(address, "GET", &list, "If-None-Match: \"0.0\"\r\nAccept-Encoding: gzip;q=0\r\n");
    assert_eq!((other.status, other.header("content-encoding")), (200, None));
    assert!(other.header("etag").is_some_and(|now| !now.is_empty()) && !etag.is_empty());

    let segment = format!("{}{}.ts", list.trim_end_matches("index.m3u8"), newest(&plain.text()));
    let whole = ask(address, "GET", &segment, "Range: bytes=0-\r\n");
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("video/mp2t")));
    assert!(whole.header("cache-control").unwrap().starts_with("max-age="));
    assert_eq!(whole.body.len() % 188, 0);
    let head = format!("HEAD {segment} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let (head, _) = raw::exchange(address, head.as_bytes());
    let length = format!("Content-Length: {}\r\n", whole.body.len());
    assert!(String::from_utf8_lossy(&head).contains(&length) && head.ends_with(b"\r\n\r\n"));
}

#[test]
fn one_connection_serves_playlists_segments_the_api_and_a_stream() {
    let Some(stage) = Stage::start(&Setup::default()) else { return };
    let id = signed(RATE, Scenario::healthy(), 3);
    let list = playlist_of(&stage, &id);
    let base = list.trim_end_matches("index.m3u8");
    let mut socket = raw::connect(stage.server.address());
    let mut buffer = Vec::new();
    let mut answer = |request: &str, socket: &mut std::net::TcpStream| {
        socket.write_all(request.as_bytes()).unwrap();
        let mut piece = [0; 64 << 10];
        loop {
            let at = buffer.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(at) = at {
                let head = String::from_utf8_lossy(&buffer[..at]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                let length: usize = length.unwrap_or("0").trim().parse().unwrap();
                if buffer.len() >= at + 4 + length {
                    buffer.drain(..at + 4 + length);
                    return head;
                }
            }
            let read = socket.read(&mut piece).unwrap();
            assert!(read > 0, "closed");
            buffer.extend_from_slice(&piece[..read]);
        }
    };
    for target in [list.as_str(), &format!("{base}0.ts"), &list, &format!("{base}0.0.ts")] {
        let head = answer(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), &mut socket);
        assert!(head.starts_with("http/1.1 200") && head.contains("connection: keep-alive"), "{head}");
    }
    // Two at once, one of them in two pieces.
    socket.write_all(format!("GET {list} HTTP/1.1\r\nHost: x\r\n\r\nGET {base}0.").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(50));
    let head = answer("ts HTTP/1.1\r\nHost: x\r\n\r\n", &mut socket);
    assert!(head.contains("mpegurl"), "{head}");
    let head = answer("", &mut socket);
    assert!(head.contains("video/mp2t"), "{head}");
    let head = answer("GET /api/v1/streams HTTP/1.1\r\nHost: x\r\n\r\n", &mut socket);
    assert!(head.starts_with("http/1.1 200") && head.contains("application/json"), "{head}");

    let mut socket = raw::connect(stage.server.address());
    let head = answer(&format!("GET {list} HTTP/1.1\r\nHost: x\r\n\r\n"), &mut socket);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    socket.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(&id)).as_bytes()).unwrap();
    let mut first = [0; 4_096];
    let mut read = 0;
    while read < 2_000 {
        read += socket.read(&mut first[read..]).unwrap();
    }
    let text = String::from_utf8_lossy(&first[..read]);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("video/mp2t"), "{text}");
}

#[test]
fn viewers_are_known_by_their_token_and_gone_when_they_are_silent() {
    for shards in [1, 2] {
        let config = SHORT.to_owned();
        let Some(stage) = Stage::start(&Setup { shards, config, ..Setup::default() }) else { return };
        let address = stage.server.address();
        let id = signed(RATE, Scenario::healthy(), 4);
        let viewers = || stage.api("streams")["streams"][0]["viewers"].as_u64().unwrap_or(0);
        // Whoever only looks is nobody.
        (0..20).for_each(|_| drop(playlist_of(&stage, &id)));
        assert!(viewers() <= 1, "{}", viewers());
        let lists: Vec<_> = (0..3).map(|_| playlist_of(&stage, &id)).collect();
        let begun = Instant::now();
        let mut most = 0;
        while begun.elapsed() < Duration::from_secs(8) {
            // New connections each, so that any shard has to answer.
            for list in &lists {
                let answer = get(address, list);
                assert_eq!(answer.status, 200, "{shards} shards: {}", answer.text());
            }
            most = most.max(viewers());
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!((viewers(), most), (3, 3), "{shards} shards");
        let crowd = Crowd::new();
        let place = crowd.ask(address, &path(&id), id.verifier().unwrap());
        let is_counted = || viewers() == 4;
        assert!(wait_until(Duration::from_secs(3), is_counted), "{shards} shards: {}", viewers());
        assert_eq!(stage.slots_taken(), 1, "one reader for all of them");
        let silent = Instant::now();
        assert!(wait_until(SOON, || viewers() == 1), "{shards} shards: {}", viewers());
        let after = silent.elapsed();
        assert!((Duration::from_secs(3)..Duration::from_secs(10)).contains(&after), "{after:?}");
        assert_unbroken("the one that stays", &crowd.seen(place), RATE, Duration::from_secs(5));
        crowd.leave(place);
        let is_over = || stage.api("streams")["streams"].as_array().unwrap().is_empty();
        assert!(wait_until(SOON, is_over), "{shards} shards");
        stage.wait_metric("millrace_viewers", 0.0);
        let answer = get(address, &lists[0]);
        assert_eq!(answer.status, 404, "{shards} shards: the stream is over: {}", answer.text());
    }
}

#[test]
fn a_crowd_that_comes_cold_is_answered_together_and_a_dead_content_says_so() {
    let config = "[streams]\nstart_budget = \"3s\"\nlongest_start = \"3s\"\n".to_owned();
    let Some(stage) = Stage::start(&Setup { shards: 2, config, ..Setup::default() }) else { return };
    let address = stage.server.address();
    let id = signed(RATE, Scenario::healthy(), 5);
    let ended: Vec<_> = thread::scope(|scope| {
        let ask = |_| scope.spawn(|| (get(address, &manifest(&id)), Instant::now()));
        (0..50).map(ask).collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(ended.iter().all(|(answer, _)| answer.status == 200), "{:?}", ended[0].0);
    let (first, last) = (ended.iter().map(|e| e.1).min().unwrap(), ended.iter().map(|e| e.1).max().unwrap());
    println!("50 cold clients: answered within {:?}", last - first);
    assert!(last - first < Duration::from_secs(1), "{:?}", last - first);
    assert_eq!(stage.slots_taken(), 1);

    let dead = signed(RATE, "no-peers".parse().unwrap(), 6);
    let begun = Instant::now();
    let answer = get(address, &manifest(&dead));
    assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && begun.elapsed() < Duration::from_secs(8));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(json["error"]["cause"].as_str().is_some(), "{json}");
}

#[test]
fn one_who_leaves_while_waiting_is_noticed() {
    let config = "[streams]\nlinger = \"1s\"\n".to_owned();
    let Some(stage) = Stage::start(&Setup { config, ..Setup::default() }) else { return };
    let slow = signed(RATE, "metadata-hang".parse().unwrap(), 7);
    let mut socket = raw::connect(stage.server.address());
    socket.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", manifest(&slow)).as_bytes()).unwrap();
    let streams = || stage.api("streams")["streams"].as_array().unwrap().len();
    assert!(wait_until(SOON, || streams() == 1), "it is asked for");
    drop(socket);
    assert!(wait_until(Duration::from_secs(6), || streams() == 0), "nobody waits for it any more");
}

#[test]
fn a_stream_waits_for_whoever_has_just_been_given_its_address() {
    let config = SHORT.replace("linger = \"1s\"", "linger = \"0s\"");
    let Some(stage) = Stage::start(&Setup { config, ..Setup::default() }) else { return };
    let id = signed(RATE, Scenario::healthy(), 8);
    let list = playlist_of(&stage, &id);
    thread::sleep(Duration::from_secs(2));
    let answer = get(stage.server.address(), &list);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let is_over = || stage.api("streams")["streams"].as_array().unwrap().is_empty();
    assert!(wait_until(SOON, is_over), "nobody asks any more");
}
