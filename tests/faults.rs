//! Every fault of an engine that has a name, and what its viewer gets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{Emulator, Scenario, signed::Report};
use support::{
    Viewer,
    pool::{engines, healthy, path_of, serve_ready, signed},
    rows::run_all,
};

mod support;

/// Rows that run at the same time. They mostly wait.
const AT_ONCE: usize = 10;
const SETTINGS: &str = "[engines]\nprobe_interval = \"1s\"\n[streams]\nstart_budget = \"12s\"\nlongest_start = \"12s\"\n\
    silence_limit = \"20s\"\n";

/// What the viewer of a fault gets.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Every packet, for so many seconds.
    Whole(u64),
    /// A picture that goes on for so many seconds, with signalled jumps and
    /// nothing else amiss.
    Mended(u64),
    /// A picture that goes on, with the damage that the engine did: it is the
    /// broadcast's own, and counted.
    Passed(u64),
    /// Every packet, and then the end of the content.
    Ended(u64),
    /// This status with this cause, and no byte of a stream.
    Refused(u16, &'static str),
}
use Expect::{Ended, Mended, Passed, Refused, Whole};

/// Faults of a content, the same on all of three engines.
const CONTENTS: &[(&str, Expect)] = &[
    // 17.1
    ("healthy-vod(4s)", Ended(3)),
    ("audio-only", Whole(3)),
    ("no-audio", Whole(3)),
    ("two-programs", Whole(3)),
    ("no-session-urls", Whole(3)),
    // 17.2
    // Fails after 45 s, which is beyond the budget here.
    ("catalogue-down", Refused(504, "start_timeout")),
    ("late-success(4s)", Whole(3)),
    ("no-peers", Refused(504, "no_peers")),
    ("peers-no-data", Refused(504, "peers_without_data")),
    ("mod-detected", Refused(502, "engine_error")),
    ("superseded(1)", Whole(3)),
    ("encrypted", Refused(403, "content_restricted")),
    ("json-ignored", Whole(3)),
    ("transcode-broken", Whole(3)),
    ("double-start-race", Whole(3)),
    ("start-limit(3)", Whole(3)),
    // 17.3
    ("micro-stalls(4s,2s)", Whole(12)),
    ("long-gap-recover(3s,8s)", Mended(16)),
    ("starve-decay(20s)", Whole(15)),
    ("wrong-bitrate(0.7)", Whole(10)),
    ("wrong-bitrate(1.3)", Whole(10)),
    ("disconnect-chunk(2s,bad-size)", Whole(8)),
    ("disconnect-chunk(2s,no-end)", Whole(8)),
    ("session-expired(3s)", Whole(8)),
    ("old-pid-leftovers(3s)", Whole(6)),
    ("session-replaced(3s)", Whole(8)),
    ("stop-kills-sibling", Whole(3)),
    ("loop-content(4s)", Mended(14)),
    ("source-restart(4s,2s)", Mended(12)),
    ("edge-shift(7s)", Whole(4)),
    ("jitter", Whole(4)),
    ("no-read-tolerance", Whole(4)),
    ("unmatched(both)", Whole(4)),
    // 17.4
    ("lost-sync-run", Passed(8)),
    ("cc-errors", Passed(5)),
    ("dup-packets", Passed(8)),
    ("pts-jump(forward,4s)", Mended(10)),
    ("pts-jump(back,4s)", Mended(10)),
    ("pts-jump(wrap,4s)", Mended(10)),
    ("pts-jump(forward-signalled,4s)", Passed(8)),
    ("pts-jump(back-signalled,4s)", Passed(8)),
    ("pts-jump(wrap-signalled,4s)", Passed(8)),
    ("pcr-missing", Whole(8)),
    ("pcr-jitter", Whole(5)),
    ("late-psi(3s)", Whole(5)),
    ("pmt-change", Passed(8)),
    ("late-idr(5s)", Whole(6)),
    ("null-flood", Whole(4)),
    ("tei-scrambled", Passed(4)),
    // 17.5
    ("redirect-normal", Whole(3)),
    ("redirect-relative", Whole(3)),
    ("redirect-loop", Refused(502, "engine_error")),
    ("redirect-off-host", Whole(3)),
    ("redirect-status(307)", Whole(3)),
    ("odd-http", Whole(3)),
    ("framing-length(huge)", Whole(3)),
    ("framing-length(overflow)", Whole(3)),
    ("framing-length(negative)", Whole(3)),
    ("framing-length(text)", Whole(3)),
    ("gzip-anyway", Refused(502, "engine_error")),
    ("content-type", Whole(3)),
    ("http-500-rate(30)", Whole(3)),
    ("keepalive-close", Whole(3)),
    // 17.6
    ("stat-empty(4s)", Whole(3)),
    ("stat-types", Whole(3)),
    ("stat-lies(rosy,3s)", Whole(12)),
    ("stat-lies(bleak)", Whole(5)),
    ("stat-back-step", Whole(5)),
    ("livepos-frozen", Whole(5)),
    ("livepos-absent", Whole(3)),
    ("livepos-skewed(1s)", Whole(3)),
    ("stat-hang", Whole(8)),
    ("stat-500", Whole(5)),
    ("stat-slow", Whole(8)),
    ("stat-gone(3s,5s)", Whole(12)),
    ("stop-ok", Whole(3)),
    ("stop-unknown", Whole(3)),
    ("stop-late", Whole(3)),
    ("event-poll", Whole(3)),
];

/// Faults of the engine that plays, from three seconds on; two others are well.
const ENGINES: &[(&str, u64)] = &[
    // 17.5
    ("hang-backlog", 10),
    ("api-hang-media-ok", 8),
    ("thread-exhaustion(1)", 8),
    // 17.8
    ("boot-slow", 8),
    ("boot-never", 8),
    ("crash(1s,3s)", 8),
    ("crash-loop(2s,2s)", 8),
    ("oom", 8),
    ("degrade", 6),
    ("cpu-starved(5)", 8),
    ("status-unhealthy", 6),
    ("network-lost", 14),
    ("access-denied", 6),
    ("port-drift", 8),
    ("old-version", 5),
    ("android", 5),
    ("slow-shutdown", 6),
    ("disk-full", 14),
    ("clock-skew", 5),
];

/// Every way of one engine is used as its manner asks, and nothing stays open.
fn assert_well_used(emulator: &Emulator) {
    let misuse = emulator.counters().misuse;
    assert_eq!(misuse, Default::default());
}

/// Faults that `tests/scenarios.rs` has tables for.
const ELSEWHERE: &[&str] = &[
    "healthy-live",
    "healthy-bitrate",
    "shared-infohash",
    "id-is-infohash",
    "internal-host",
    "slow-metadata",
    "slow-start",
    "slow-start-500",
    "warmup-empty",
    "metadata-failure",
    "metadata-hang",
    "start-failure-after-metadata",
    "missing-option",
    "bad-json",
    "stall",
    "disconnect-fin",
    "disconnect-rst",
    "partial-packet-end",
    "unaligned-chunks",
    "starts-mid-packet",
    "garbage",
    "burst-then-quiet",
    "slow-trickle",
    "text-body",
    "redirect-held",
    "double-status",
    "huge-headers-lines",
    "huge-headers-line",
    "header-trickle",
    "framing-chunked",
    "framing-close",
    "http-500-all",
    "refuse",
    "rst-on-accept",
    "hang-accept",
    "api-ok-media-hang",
    "stop-hang",
    "stop-500",
];

#[test]
fn every_fault_that_has_a_name_has_a_row() {
    let name = |text: &str| text.split('(').next().unwrap().to_owned();
    let rows = CONTENTS.iter().map(|row| row.0).chain(ENGINES.iter().map(|row| row.0));
    let tabled: BTreeSet<_> = rows.chain(ELSEWHERE.iter().copied()).map(name).collect();
    let catalogue: BTreeSet<_> = Scenario::catalogue().map(|s| name(&s)).collect();
    // Engines are not read by HLS yet.
    let missing: Vec<_> = catalogue
        .difference(&tabled)
        .filter(|name| !name.starts_with("hls-") && *name != "healthy-hls")
        .collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert!(tabled.is_subset(&catalogue), "{:?}", tabled.difference(&catalogue));
}

#[test]
fn every_fault_of_a_content_gives_what_its_row_says() {
    run_all(CONTENTS, AT_ONCE, |(text, expect)| {
        let emulator = engines(3);
        let server = serve_ready(&emulator, SETTINGS).allow("engine turned");
        let id = signed(text.parse::<Scenario>().unwrap(), 7);
        let mut viewer = Viewer::ask(server.address(), &path_of(id)).unwrap();
        let mut verifier = id.verifier().unwrap();
        let limit = Duration::from_secs(20);
        if let Refused(status, cause) = expect {
            viewer.expect_refusal(limit, status, cause);
            assert_well_used(&emulator);
            return;
        }
        let (status, _) = viewer.head(limit).unwrap();
        assert_eq!(status, 200);
        let seconds = match expect {
            Whole(seconds) | Mended(seconds) | Passed(seconds) => seconds,
            Ended(_) | Refused(..) => limit.as_secs(),
        };
        let push = |bytes: &[u8]| verifier.push(bytes, SystemTime::now());
        let (ended, longest) = viewer.read_until(Instant::now() + Duration::from_secs(seconds), push);
        let report = verifier.report();
        let is_right = match expect {
            Whole(_) => !ended && report.is_unbroken() && report.signalled_jumps == 0,
            Mended(_) => {
                let is_bridged = report.is_unbroken() && report.signalled_jumps == 0;
                let is_marked = report.continuity_errors == 0 && report.signalled_jumps > 0;
                !ended && report.unaligned_bytes == 0 && (is_bridged || is_marked)
            }
            Passed(_) => !ended && report.unaligned_bytes == 0,
            Ended(run) => ended && report.is_unbroken() && run_of(&report) >= Duration::from_secs(run),
            Refused(..) => true,
        };
        assert!(is_right, "ended {ended}: {report:?}");
        assert!(longest < Duration::from_secs(2), "{longest:?} without a byte: {report:?}");
        // Counted in packets: the numbers of some go back.
        assert!(report.packets - report.filler > 1_300, "no picture for two seconds: {report:?}");
        assert_well_used(&emulator);
    });
}

#[test]
fn every_fault_of_an_engine_is_survived_while_others_are_well() {
    run_all(ENGINES, AT_ONCE, |(text, seconds)| {
        let emulator = engines(3);
        let server = serve_ready(&emulator, SETTINGS).allow("engine turned");
        let id = healthy(7);
        let mut viewer = Viewer::ask(server.address(), &path_of(id)).unwrap();
        let mut verifier = id.verifier().unwrap();
        assert_eq!(viewer.head(Duration::from_secs(10)).unwrap().0, 200);
        let mut push = |bytes: &[u8]| verifier.push(bytes, SystemTime::now());
        let (ended, _) = viewer.read_until(Instant::now() + Duration::from_secs(3), &mut push);
        assert!(!ended);
        let playing = (0..3).find(|engine| emulator.engine_counters(*engine).open_readers == 1).unwrap();
        emulator.set_engine_scenario(playing, text.parse().unwrap());
        let (ended, longest) = viewer.read_until(Instant::now() + Duration::from_secs(seconds), &mut push);
        let report = verifier.report();
        assert!(!ended && report.is_unbroken() && report.signalled_jumps == 0, "ended {ended}: {report:?}");
        assert!(longest < Duration::from_secs(2), "{longest:?} without a byte: {report:?}");
        // With the burst before, it has to be beyond what was there at the fault.
        let late = report.last_delay.unwrap();
        assert!(late < Duration::from_secs(8), "fell {late:?} behind: {report:?}");
        // And somebody else still gets the content of another id.
        let mut other = Viewer::ask(server.address(), &path_of(healthy(8))).unwrap();
        assert_eq!(other.head(Duration::from_secs(15)).unwrap().0, 200);
    });
}

/// Stream time from the first packet to the last.
fn run_of(report: &Report) -> Duration {
    let packets = report.first.zip(report.last).map_or(0, |(first, last)| last.saturating_sub(first));
    Duration::from_micros(packets * 1504)
}
