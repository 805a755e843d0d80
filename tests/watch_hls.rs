//! What a browser watches by HLS: close behind the broadcast, through whatever
//! the swarm does to it, and with words where it does not play.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    Server,
    chromium::Chromium,
    pool::{engines, serve_ready},
    wait_until,
    watch::{
        EVERYTHING, SOON, assert_clean, assert_moves, assert_plays, assert_problem, clip, current_time,
        only_stream, open, url,
    },
};

mod support;

/// Seconds from what is shown to the end of the newest part that the media
/// playlist at `list` has.
fn behind_newest_part(list: &str) -> String {
    format!(
        "(async () => {{ \
            const text = await (await fetch({list:?})).text(); \
            let end = 0; \
            for (const line of text.split('\\n')) {{ \
                const date = line.match(/^#EXT-X-PROGRAM-DATE-TIME:(.*)/); \
                const part = line.match(/^#EXT-X-PART:DURATION=([\\d.]+)/); \
                end = date ? Date.parse(date[1]) : part ? end + part[1] * 1000 : end; \
            }} \
            return (end - Date.parse(millrace.shownAt)) / 1000; }})()"
    )
}

/// The page looks at the playing position four times a second, and does not
/// correct less than this.
const CLOCK_SECONDS: f64 = 0.25;

#[test]
fn what_is_shown_is_three_target_parts_behind_the_newest_one_at_most() {
    let Some(browser) = Chromium::start() else { return };
    let server = Server::start(&["--emulate", "2"]);
    let page = browser.open(&url(&server, "/watch/0123456789abcdef0123456789abcdef01234567"));
    assert_plays(&page);
    let settled = "document.querySelector('video').playbackRate === 1 && millrace.latency < 3.25";
    assert!(page.holds_within(SOON, settled), "{}", page.evaluate(EVERYTHING));

    let requests = page.requests();
    let list = requests.iter().find(|url| url.ends_with("/index.m3u8")).expect("a media playlist");
    let text =
        server.get(list.split_once("/ace/").map(|(_, path)| format!("/ace/{path}")).as_deref().unwrap());
    let target =
        text.text().lines().find_map(|l| l.strip_prefix("#EXT-X-PART-INF:PART-TARGET=")?.parse().ok());
    let target: f64 = target.expect("a playlist with parts");
    let mut found = Vec::new();
    for _ in 0..20 {
        let (behind, latency) = (page.evaluate(&behind_newest_part(list)), page.evaluate("millrace.latency"));
        found.push((behind.as_f64().unwrap(), latency.as_f64().unwrap()));
        thread::sleep(Duration::from_millis(330));
    }
    let worst = found.iter().map(|(behind, _)| *behind).fold(f64::MIN, f64::max);
    let mean = found.iter().map(|(behind, _)| behind / found.len() as f64).sum::<f64>();
    let latency = found.iter().map(|(_, latency)| *latency).fold(f64::MIN, f64::max);
    println!(
        "behind the newest part's end: {mean:.2} s in the mean, {worst:.2} s at most; \
         behind the broadcast {latency:.2} s at most; a target part is {target} s"
    );
    assert!(worst <= 3.0 * target + CLOCK_SECONDS, "{found:.2?}");
    assert!(mean > 0.5, "there is something in stock: {found:.2?}");
    assert!(latency <= 3.0 * target + 2.0 * CLOCK_SECONDS, "{found:.2?}");

    // It waits for parts, and reads hardly anything but parts.
    let requests = page.requests();
    let asked = |what: &dyn Fn(&str) -> bool| {
        requests.iter().filter(|url| what(url.rsplit('/').next().unwrap_or_default())).count()
    };
    let held = asked(&|name| name.contains("_HLS_msn=") && name.contains("_HLS_part="));
    let parts = asked(&|name| name.ends_with(".ts") && name.matches('.').count() == 2);
    let segments = asked(&|name| name.ends_with(".ts") && name.matches('.').count() == 1);
    assert!(held >= 8 && parts >= 8 && segments * 4 < parts, "{held}, {parts}, {segments}: {requests:#?}");
    let refused: Vec<_> = page.answers().into_iter().filter(|(status, _)| *status != 200).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(page.evaluate("[millrace.fatalErrors, millrace.recoveries]"), json!([0, 0]));
    assert_clean(&page, &server);
}

#[test]
fn a_slow_start_is_waited_for_and_what_was_stopped_is_told_and_starts_anew() {
    let Some(browser) = Chromium::start() else { return };
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let id = clip("late-success(5s)".parse().unwrap(), 1);
    let page = open(&browser, &server, id, "hls");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let now = page.evaluate(EVERYTHING);
        let line = now["line"].as_str().unwrap();
        assert!(now["state"] == "starting" && line.starts_with("Starting"), "{now}");
        thread::sleep(Duration::from_millis(100));
    }
    let is_of_stream = |url: &str| url.contains("/ace/");
    assert!(page.requests().iter().any(|url| is_of_stream(url)));
    assert!(!page.answers().iter().any(|(_, url)| is_of_stream(url)), "held: {:?}", page.answers());
    assert_plays(&page);
    assert_moves(&page, 3.0);

    let now = page.evaluate(EVERYTHING);
    assert_eq!(now["session"], only_stream(&server).unwrap()["session"], "{now}");
    let session = now["session"].as_str().unwrap();
    assert_eq!(server.ask("DELETE", &format!("/api/v1/streams/{session}")).status, 202);
    let limit = Duration::from_secs(10);
    assert!(page.holds_within(limit, "millrace.state === 'ended'"), "{}", page.evaluate(EVERYTHING));
    assert_problem(&page, "stopped", "start it anew");
    assert_eq!(page.evaluate("millrace.fatalErrors"), 0);
    page.click("#again");
    assert_plays(&page);
    assert_eq!(page.evaluate("[millrace.via, millrace.fatalErrors]"), json!(["hls", 0]));
    assert_clean(&page, &server);
}

#[test]
fn a_page_is_one_viewer_while_it_is_open() {
    let Some(browser) = Chromium::start() else { return };
    let settings = "[hls]\nsegment = \"1s\"\ntarget_duration = \"2s\"\npart = \"500ms\"\n";
    let emulator = engines(1);
    let server = serve_ready(&emulator, settings);
    let viewers = || only_stream(&server).map_or(0, |stream| stream["viewers"].as_u64().unwrap());
    let page = open(&browser, &server, clip("healthy-live".parse().unwrap(), 1), "hls");
    assert_plays(&page);
    // Samples come once a second.
    assert!(wait_until(Duration::from_secs(3), || viewers() == 1), "{}", viewers());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(viewers(), 1);
        thread::sleep(Duration::from_millis(200));
    }
    page.close();
    // Three target durations, and a second until that is looked at.
    assert!(wait_until(Duration::from_secs(8), || viewers() == 0), "{}", viewers());
}

#[test]
fn clocks_that_jump_and_packets_that_are_lost_do_not_end_the_picture() {
    assert_undisturbed(&[
        "pts-jump(forward,6s)",
        "pts-jump(back,6s)",
        "pts-jump(forward-signalled,6s)",
        "pmt-change(pids,6s)",
        "cc-errors(800,1)",
    ]);
}

#[test]
#[ignore = "of 20 packets 16 may be the picture's, which no counter shows, and not every such place is found: --ignored runs it"]
fn packets_that_are_lost_in_a_row_do_not_end_the_picture() {
    assert_undisturbed(&["cc-errors(2000,20)"]);
}

/// Beside such losses the picture goes on whatever the decoder makes of them.
#[test]
fn a_decoder_that_gives_up_begins_anew() {
    let Some(browser) = Chromium::start() else { return };
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let page = open(&browser, &server, clip("cc-errors(2000,20)".parse().unwrap(), 1), "hls");
    assert_plays(&page);
    let from = current_time(&page);
    let moves = page.holds_within(SOON * 2, &format!("millrace.currentTime > {}", from + 25.0));
    let now = page.evaluate(EVERYTHING);
    assert!(moves && now["via"] == "hls" && now["error"].is_null(), "{now}");
}

/// Two laps of what happens to each of them pass without a fatal error.
fn assert_undisturbed(scenarios: &[&str]) {
    let Some(browser) = Chromium::start() else { return };
    let emulator = engines(3);
    let server = serve_ready(&emulator, "");
    let pages: Vec<_> = scenarios
        .iter()
        .map(|scenario| (scenario, open(&browser, &server, clip(scenario.parse().unwrap(), 1), "hls")))
        .collect();
    let from: Vec<_> = pages.iter().map(|(_, page)| (assert_plays(page), current_time(page)).1).collect();
    for ((scenario, page), from) in pages.iter().zip(from) {
        let moves = page.holds_within(SOON * 2, &format!("millrace.currentTime > {}", from + 13.0));
        let now = page.evaluate(EVERYTHING);
        println!("{scenario}: {} recoveries, the last {}", now["recoveries"], now["lastError"]);
        assert!(moves, "{scenario}: {now}");
        assert_eq!((&now["fatalErrors"], &now["via"]), (&json!(0), &json!("hls")), "{scenario}: {now}");
        assert!(now["recoveries"].as_u64() <= Some(MOST_RECOVERIES), "{scenario}: {now}");
        assert_clean(page, &server);
    }
}

/// A few holes in some fifteen seconds, and a decoder that began anew once.
const MOST_RECOVERIES: u64 = 6;
