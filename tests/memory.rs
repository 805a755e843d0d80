//! What all streams of a server take together stays within `streams.memory`, and
//! who watches notices nothing of it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Scenario};
use support::{
    audience::{Audience, assert_undisturbed},
    stage::{Setup, Stage, path, signed},
    wait_until,
};

mod support;

const RATE: u32 = 8_000_000;
const SOON: Duration = Duration::from_secs(20);
const WATCH: Duration = Duration::from_secs(25);

/// Bytes of the segments that the process has, as the kernel counts them.
fn in_segments(pid: u32) -> u64 {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let of_one = |path: std::path::PathBuf| {
        let target = fs::read_link(&path).ok()?;
        target.to_str()?.starts_with("/memfd:millrace-segment").then_some(())?;
        // In blocks of 512 bytes, whatever the page size.
        Some(fs::metadata(&path).ok()?.blocks() * 512)
    };
    descriptors.filter_map(|entry| of_one(entry.ok()?.path())).sum()
}

#[test]
fn all_streams_together_keep_to_their_memory_and_nobody_is_disturbed() {
    const STREAMS: u64 = 6;
    const MEMORY: u64 = 96 << 20;
    let setup = Setup {
        engines: 3,
        config: "[engines]\ncapacity = 4\n[streams]\nwindow = \"10m\"\nmemory = \"96MiB\"\n".into(),
        ..Setup::default()
    };
    let Some(stage) = Stage::start(&setup) else { return };
    let ids: Vec<ContentId> =
        (0..STREAMS).map(|serial| signed(RATE, Scenario::healthy(), 1 + serial)).collect();
    let audience = Audience::watch(stage.server.address(), &ids, ids.len());
    assert!(audience.all_play_within(SOON));

    let begun = Instant::now();
    let (mut most, mut last) = (0, 0);
    while begun.elapsed() < WATCH {
        last = in_segments(stage.server.pid());
        most = most.max(last);
        thread::sleep(Duration::from_millis(50));
    }
    println!("{most} bytes at most, {last} in the end");
    // Each may go on to the end of the segment that it writes.
    assert!(most <= MEMORY + STREAMS * (2 << 20), "{most} bytes of {MEMORY}");
    assert!(MEMORY / 2 <= most, "{most} bytes: there is no need to hold back");
    assert_undisturbed(&audience.leave(), Duration::from_secs(2));
}

#[test]
fn a_stream_that_would_have_too_little_is_refused() {
    let setup = Setup {
        engines: 2,
        config: "[engines]\ncapacity = 4\n[streams]\nwindow_bytes = \"8MiB\"\nmemory = \"40MiB\"\n".into(),
        ..Setup::default()
    };
    let Some(stage) = Stage::start(&setup) else { return };
    let ids: Vec<ContentId> = (0..2).map(|serial| signed(RATE, Scenario::healthy(), 1 + serial)).collect();
    let audience = Audience::watch(stage.server.address(), &ids, 4);
    assert!(audience.all_play_within(SOON));
    let third = path(&signed(RATE, Scenario::healthy(), 3));
    let answer = stage.server.get(&third);
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("2 streams are running, for more of which streams.memory is too little"));
    assert_undisturbed(&audience.leave(), Duration::from_secs(2));
    let has_room = || stage.metric("millrace_streams") < 2.0;
    assert!(wait_until(SOON, has_room), "{:#?}", stage.server.metrics());
}
