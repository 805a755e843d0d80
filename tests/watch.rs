//! Whoever has but a browser watches: the page plays in a real one, says what
//! is wrong where it does not, and asks nobody but this server.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::time::{Duration, Instant};

use millrace_emulator::Scenario;
use serde_json::json;
use support::{
    Server,
    chromium::Chromium,
    engines::EngineProcess,
    pool::{engines, serve, serve_ready, status},
    wait_until,
    watch::{
        EVERYTHING, SOON, assert_clean, assert_moves, assert_plays, assert_problem, clip, current_time,
        longest_still, only_stream, open, url, watch,
    },
};

mod support;

/// How long a picture has to move to be believed.
const WATCHED_SECONDS: f64 = 8.0;
/// A picture that stands still for longer has stalled; less is a busy machine's doing.
const LONGEST_STILL: Duration = Duration::from_millis(700);

#[test]
fn a_transport_stream_plays_until_it_is_stopped_without_an_error() {
    let Some(browser) = Chromium::start() else { return };
    let server = Server::start(&["--emulate", "2"]);
    let page = browser.open(&url(&server, "/watch/0123456789abcdef0123456789abcdef01234567?via=ts"));
    assert_plays(&page);
    assert_moves(&page, WATCHED_SECONDS);
    let now = page.evaluate(EVERYTHING);
    assert_eq!((&now["via"], &now["engine"]), (&json!("ts"), &json!("mpegts.js")), "{now}");
    assert_eq!((&now["fatalErrors"], &now["state"]), (&json!(0), &json!("live")), "{now}");
    // A cold stream begins with what its engine had in stock.
    let latency = now["latency"].as_f64().unwrap();
    assert!((0.0..20.0).contains(&latency), "{now}");
    let media = page.evaluate(
        "(() => { const v = document.querySelector('video'); return { width: v.videoWidth, height: v.videoHeight, \
         frames: v.getVideoPlaybackQuality().totalVideoFrames, sound: v.webkitAudioDecodedByteCount } })()",
    );
    assert_eq!((&media["width"], &media["height"]), (&json!(640), &json!(360)));
    assert!(media["frames"].as_u64() > Some(200) && media["sound"].as_u64() > Some(10_000), "{media}");

    // Keys and buttons do what they say.
    page.press("l");
    assert!(page.holds_within(SOON, "millrace.latency < 4 && millrace.state === 'live'"));
    page.press("m");
    assert!(page.holds_within(SOON, "document.querySelector('video').muted"));
    page.click("#play");
    assert!(page.holds_within(SOON, "millrace.state === 'paused' && document.querySelector('video').paused"));
    page.click("#play");
    assert!(page.holds_within(SOON, "millrace.state === 'live'"));

    let session = now["session"].as_str().unwrap();
    assert_eq!(server.ask("DELETE", &format!("/api/v1/streams/{session}")).status, 202);
    assert!(page.holds_within(SOON, "millrace.state === 'ended'"), "{}", page.evaluate(EVERYTHING));
    assert_problem(&page, "stopped", "start it anew");
    page.click("#again");
    assert_plays(&page);
    assert_clean(&page, &server);
}

#[test]
fn hls_is_played_unless_the_transport_stream_is_asked_for() {
    let Some(browser) = Chromium::start() else { return };
    let server = Server::start(&["--emulate", "2"]);
    let page = browser.open(&url(&server, "/watch/0123456789abcdef0123456789abcdef01234567"));
    let shown = || page.evaluate("[millrace.via, millrace.engine, millrace.fatalErrors, location.search]");
    assert_plays(&page);
    assert_eq!(shown(), json!(["hls", "hls.js", 0, ""]));
    assert!(!page.requests().iter().any(|url| url.contains("/ace/getstream")));

    page.press("v");
    assert!(page.holds_within(SOON, "millrace.via === 'ts'"), "{}", page.evaluate(EVERYTHING));
    assert_plays(&page);
    assert_eq!(shown(), json!(["ts", "mpegts.js", 0, "?via=ts"]));

    page.click("#via-hls");
    assert!(page.holds_within(SOON, "millrace.via === 'hls'"), "{}", page.evaluate(EVERYTHING));
    assert_plays(&page);
    assert_eq!(shown(), json!(["hls", "hls.js", 0, "?via=hls"]));
    assert_clean(&page, &server);
}

#[test]
fn what_cannot_be_decoded_by_hls_is_tried_as_a_transport_stream_and_then_told() {
    let Some(browser) = Chromium::start() else { return };
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    // Every other six seconds its tables name codecs that its packets do not have.
    let id = clip("pmt-change(codec,6s)".parse().unwrap(), 1);
    let page = browser.open(&url(&server, &format!("/watch/{id}")));
    assert!(page.holds_within(SOON, "millrace.state === 'failed'"), "{}", page.evaluate(EVERYTHING));
    assert_eq!(page.evaluate("[millrace.via, millrace.error.code]"), json!(["ts", "undecodable"]));
    let shown = page.evaluate("document.querySelector('#problem').innerText");
    assert!(shown.as_str().unwrap().contains("Play it the other way"), "{shown}");
    let first_of = |path: &str| page.requests().iter().position(|url| url.contains(path)).unwrap();
    assert!(first_of("/ace/manifest.m3u8") < first_of("/ace/getstream"));
}

/// How it is played, and how engines hand it out.
const WAYS: [(&str, &str); 3] = [("hls", "ts"), ("ts", "ts"), ("hls", "hls")];

#[test]
fn the_loss_of_an_engine_is_not_seen() {
    let Some(browser) = Chromium::start() else { return };
    let mut scenes = WAYS.map(|(via, source)| {
        // Segments as long as those of real engines.
        let start = |_| EngineProcess::start(&["--fast", "--hls-segment", "5s"]);
        let engines: Vec<_> = (0..2).map(start).collect();
        let addresses: Vec<_> = engines.iter().map(EngineProcess::address).collect();
        let settings = format!("[engines]\nprobe_interval = \"500ms\"\n[streams]\nsource = \"{source}\"\n");
        let server = serve(&addresses, &settings).allow("engine turned");
        assert!(wait_until(SOON, || status(&server, "/engines/ready") == 2));
        let page = open(&browser, &server, clip(Scenario::healthy(), 1), via);
        (engines, server, page)
    });
    for (_, _, page) in &scenes {
        assert_plays(page);
        watch(page);
    }
    let from = scenes.each_ref().map(|(_, _, page)| (Instant::now(), current_time(page)));
    // All play meanwhile.
    assert_moves(&scenes[0].2, WATCHED_SECONDS);
    for ((engines, server, page), way) in scenes.iter_mut().zip(WAYS) {
        let playing = only_stream(server).unwrap()["engine"].as_u64().unwrap();
        engines[usize::try_from(playing).unwrap()].kill();
        let has_moved = || only_stream(server).is_some_and(|s| s["engine"].as_u64() == Some(1 - playing));
        assert!(wait_until(SOON, has_moved), "{way:?}: {}", page.evaluate(EVERYTHING));
    }
    for (((_, server, page), way), (began, from)) in scenes.iter().zip(WAYS).zip(from) {
        assert_moves(page, WATCHED_SECONDS);
        let (media, clock) = (current_time(page) - from, began.elapsed().as_secs_f64());
        let now = page.evaluate(EVERYTHING);
        println!("{way:?}: {media:.2} s in {clock:.2} s, longest still {:?}", longest_still(page));
        // HLS catches up at a tenth faster at most.
        assert!((-1.0..clock * 0.1 + 1.0).contains(&(media - clock)), "{way:?}: {media} in {clock}: {now}");
        assert!(longest_still(page) < LONGEST_STILL, "{way:?}: {now}");
        assert_eq!(
            (&now["via"], &now["fatalErrors"], &now["recoveries"], &now["state"]),
            (&json!(way.0), &json!(0), &json!(0), &json!("live")),
            "{way:?}: {now}"
        );
        assert_clean(page, server);
    }
}

#[test]
fn clocks_that_jump_and_packets_that_are_lost_do_not_end_the_picture() {
    let Some(browser) = Chromium::start() else { return };
    let emulator = engines(2);
    let server = serve_ready(&emulator, "");
    let pages: Vec<_> = [
        // Jumps of ten seconds each, which the server signals.
        ("pts-jump(forward,6s)", 15.0),
        ("pts-jump(back,6s)", 15.0),
        ("pts-jump(wrap,6s)", 15.0),
        // Of what is missing as much is skipped, so that less is there to be shown.
        ("cc-errors(800,1)", 5.0),
    ]
    .into_iter()
    .map(|(scenario, seconds)| {
        (scenario, seconds, open(&browser, &server, clip(scenario.parse().unwrap(), 1), "ts"))
    })
    .collect();
    for (scenario, seconds, page) in pages {
        let moves = page.holds_within(SOON * 2, &format!("millrace.currentTime > {seconds}"));
        let now = page.evaluate(EVERYTHING);
        assert!(moves, "{scenario}: {now}");
        assert_eq!((&now["fatalErrors"], &now["recoveries"]), (&json!(0), &json!(0)), "{scenario}: {now}");
        assert_clean(&page, &server);
    }
}

#[test]
fn a_server_that_goes_is_waited_for_in_words() {
    let Some(browser) = Chromium::start() else { return };
    let mut server = Server::start(&["--emulate", "1"]);
    let address = server.address().to_string();
    let id = clip(Scenario::healthy(), 1);
    let pages = ["hls", "ts"].map(|via| (via, open(&browser, &server, id, via)));
    pages.iter().for_each(|(_, page)| assert_plays(page));
    server.kill();
    for (via, page) in &pages {
        let waits = page.holds_within(
            SOON,
            "millrace.state === 'reconnecting' && \
             /does not answer\\. Next try in/.test(document.querySelector('#line').textContent)",
        );
        assert!(waits, "{via}: {}", page.evaluate(EVERYTHING));
    }
    let server = Server::start(&["--emulate", "1", "--listen", &address]);
    for (via, page) in &pages {
        assert_plays(page);
        assert_moves(page, 2.0);
        assert_eq!(page.evaluate("millrace.via"), json!(via));
        assert_clean(page, &server);
    }
}

#[test]
fn a_content_that_does_not_play_is_told_with_cause_and_remedy() {
    let Some(browser) = Chromium::start() else { return };
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    for (scenario, cause, remedy) in [
        ("metadata-failure", "content_unavailable", "Check the id, or try again later."),
        ("missing-option", "content_restricted", "This content needs an option that the engines lack."),
    ] {
        for (serial, via) in [(1, "hls"), (2, "ts")] {
            let page = open(&browser, &server, clip(scenario.parse().unwrap(), serial), via);
            assert!(page.holds_within(SOON, "millrace.state === 'failed'"), "{scenario} by {via}");
            assert_problem(&page, cause, remedy);
            assert_eq!(page.evaluate("[millrace.via, millrace.fatalErrors]"), json!([via, 0]));
            assert_clean(&page, &server);
        }
    }
    // What only the stream's own path can judge is told in its words.
    let page = browser.open(&url(&server, "/watch?magnet=nothing"));
    assert!(page.holds_within(SOON, "millrace.state === 'failed'"));
    let shown = page.evaluate("document.querySelector('#problem').innerText");
    assert!(shown.as_str().unwrap().contains("is not a BitTorrent magnet link"), "{shown}");
}

#[test]
fn an_address_that_names_no_stream_is_refused_by_a_page() {
    let server = Server::start(&["--emulate", "1"]);
    let id = "0123456789ABCDEF0123456789abcdef01234567";
    for (path, expected) in [
        (format!("/watch/{id}"), 200),
        (format!("/watch/{id}?via=hls&x=1"), 200),
        (format!("/watch?infohash={id}"), 200),
        (format!("/watch?id=acestream%3A%2F%2F{id}"), 200),
        ("/watch?magnet=magnet%3A%3Fxt%3Durn%3Abtih%3A2".to_owned(), 200),
        ("/watch".to_owned(), 400),
        ("/watch/".to_owned(), 400),
        ("/watch/1234".to_owned(), 400),
        ("/watch/%ff".to_owned(), 400),
        ("/watch/%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(), 400),
        (format!("/watch?infohash={}", &id[1..]), 400),
        (format!("/watch/{id}?via=dash"), 400),
        (format!("/watch/{id}/more"), 404),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, expected, "{path}: {}", answer.text());
        if expected == 404 {
            continue;
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {name}");
        }
        assert!(!answer.text().contains("<script>"), "{path}: {}", answer.text());
    }

    let Some(browser) = Chromium::start() else { return };
    let page = browser.open(&url(&server, "/watch/1234"));
    assert_eq!(page.status(), Some(400));
    let shown = page.evaluate("document.body.innerText");
    for words in ["`id` is not 40 hexadecimal digits", "give the 40 hexadecimal digits of acestream://…"] {
        assert!(shown.as_str().unwrap().contains(words), "{shown}");
    }
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn files_of_the_page_are_kept_for_ever() {
    let server = Server::start(&["--emulate", "1"]);
    let page = server.get("/watch?infohash=0123456789abcdef0123456789abcdef01234567").text();
    let files: Vec<_> = page.split('"').filter(|text| text.starts_with("/panel/")).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = server.get(file);
        assert_eq!(answer.status, 200, "{file}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"), "{file}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{file}");
    }
    assert_eq!(server.get("/panel/0000000000000000/watch.js").status, 404, "of another version");
}
