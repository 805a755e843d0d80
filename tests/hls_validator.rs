//! The validator of HLS streams finds what is wrong, and nothing else: for each
//! rule something good, and the same made worse.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "hls_validator/ffmpeg.rs"]
mod ffmpeg;
#[path = "hls_validator/live.rs"]
mod live;
#[path = "hls_validator/origin.rs"]
mod origin;
#[path = "hls_validator/playlists.rs"]
mod playlists;
#[path = "hls_validator/reloads.rs"]
mod reloads;
#[path = "hls_validator/segments.rs"]
mod segments;

use std::collections::BTreeSet;

use support::hls::Complaint;

/// The rules that were broken.
fn rules(complaints: &[Complaint]) -> BTreeSet<&'static str> {
    complaints.iter().map(|c| c.rule).collect()
}

/// Complaints of this one rule, or of none when it is empty.
#[track_caller]
fn assert_only(name: &str, complaints: &[Complaint], rule: &str) {
    let due: BTreeSet<_> = [rule].into_iter().filter(|r| !r.is_empty()).collect();
    let said: Vec<_> = complaints.iter().map(ToString::to_string).collect();
    assert_eq!(rules(complaints), due, "{name}: {said:#?}");
}

/// `text` with the first `from` in it replaced by `to`.
#[track_caller]
fn changed(name: &str, text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{name}: there is no {from:?}");
    text.replacen(from, to, 1)
}
