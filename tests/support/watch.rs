//! The page that plays a stream, as its tests look at it.

use std::time::{Duration, Instant};

use millrace_emulator::{Content, ContentId, Scenario};
use serde_json::Value;

use super::{
    Server,
    chromium::{Chromium, Page},
};

/// For a page to open, for a stream to start, for words to change.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What tests read, as an object of its own.
pub(crate) const EVERYTHING: &str =
    "({ ...millrace, line: document.querySelector('#line').textContent, watched: window.watched })";

/// Notes in the page the longest time in milliseconds that the picture stood
/// still; gone when the page is loaded anew.
const WATCH: &str = "(() => { \
    const video = document.querySelector('video'), watched = window.watched = { still: 0 }; \
    let at = video.currentTime, since = performance.now(); \
    setInterval(() => { \
        const now = performance.now(); \
        watched.still = Math.max(watched.still, now - since); \
        if (video.currentTime !== at) { at = video.currentTime; since = now; } \
    }, 20) })()";

/// H.264 and AAC, 640 × 360.
pub(crate) fn clip(scenario: Scenario, serial: u64) -> ContentId {
    ContentId::new(Content::Clip, scenario, serial)
}

/// The page that plays `id` by `via`.
pub(crate) fn open<'a>(browser: &'a Chromium, server: &Server, id: ContentId, via: &str) -> Page<'a> {
    browser.open(&url(server, &format!("/watch/{id}?via={via}")))
}

/// An address of this server.
pub(crate) fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

/// Waits for a picture.
#[track_caller]
pub(crate) fn assert_plays(page: &Page<'_>) {
    let plays = page.holds_within(SOON, "millrace.state === 'live' && millrace.currentTime > 0");
    assert!(plays, "no picture: {}", page.evaluate(EVERYTHING));
}

/// Waits until the picture has moved by `seconds`, in hardly more than that.
#[track_caller]
pub(crate) fn assert_moves(page: &Page<'_>, seconds: f64) {
    let (from, began) = (current_time(page), Instant::now());
    let limit = Duration::from_secs_f64(seconds * 1.5 + 5.0);
    let moves = page.holds_within(limit, &format!("millrace.currentTime >= {}", from + seconds));
    let to = current_time(page);
    assert!(moves, "from {from} to {to} in {limit:?}: {}", page.evaluate(EVERYTHING));
    assert!(began.elapsed().as_secs_f64() > seconds * 0.8, "at the pace of the clock");
}

/// The media's time.
pub(crate) fn current_time(page: &Page<'_>) -> f64 {
    page.evaluate("millrace.currentTime").as_f64().expect("a number")
}

/// From now on it is noted how long the picture stands still at most.
pub(crate) fn watch(page: &Page<'_>) {
    page.evaluate(WATCH);
}

/// How long the picture stood still at most since [`watch`], in the same page.
#[track_caller]
pub(crate) fn longest_still(page: &Page<'_>) -> Duration {
    let millis = page.evaluate("window.watched?.still").as_f64();
    Duration::from_secs_f64(millis.expect("the page was loaded anew") / 1000.0)
}

/// The page asked this server alone, and nothing was held against it.
#[track_caller]
pub(crate) fn assert_clean(page: &Page<'_>, server: &Server) {
    let own = format!("http://{}/", server.address());
    let foreign = |url: &&String| !url.starts_with(&own) && !url.starts_with(&format!("blob:{own}"));
    let requests = page.requests();
    assert!(requests.len() > 3, "{requests:?}");
    let foreign: Vec<_> = requests.iter().filter(foreign).collect();
    assert!(foreign.is_empty(), "asked elsewhere: {foreign:?}");
    assert_eq!(page.complaints(), Vec::<String>::new());
}

/// A cause and a remedy are shown, and can be seen.
#[track_caller]
pub(crate) fn assert_problem(page: &Page<'_>, cause: &str, remedy: &str) {
    let now = page.evaluate(EVERYTHING);
    assert_eq!(now["error"]["cause"], cause, "{now}");
    let shown = page.evaluate("document.querySelector('#problem').innerText");
    let shown = shown.as_str().expect("text");
    assert!(shown.contains(remedy), "{shown}");
    assert!(page.evaluate("document.querySelector('#again').checkVisibility()") == true);
}

/// What the server tells of its only stream.
pub(crate) fn only_stream(server: &Server) -> Option<Value> {
    let told: Value = serde_json::from_slice(&server.get("/api/v1/streams").body).expect("JSON");
    let streams = told["streams"].as_array().expect("a list");
    assert!(streams.len() <= 1, "{told}");
    streams.first().cloned()
}
