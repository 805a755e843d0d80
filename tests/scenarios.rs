//! Whatever one engine or one content does wrong, its viewer gets a picture or
//! an honest answer in time, and the viewers of everything else notice nothing.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{
    ContentId, Emulator, Scenario,
    signed::{Report, Verifier},
};
use support::{
    Audience, Server, Viewer, assert_undisturbed,
    pool::{engines, healthy, kept_waiting, path_of, serve_ready, signed, status},
    rows::run_all,
    wait_until,
};

mod support;

/// Rows that run at the same time. They mostly wait.
const AT_ONCE: usize = 8;
/// For a start that nothing holds up, on a busy machine.
const START: Duration = Duration::from_secs(5);
/// No other viewer may be without bytes for longer, on an idle machine.
const GAP: Duration = Duration::from_secs(1);
/// Those who watch something else meanwhile.
const AUDIENCE: usize = 20;

/// The start budget of the content table.
const BUDGET: Duration = Duration::from_secs(7);
/// The silence limit there.
const SILENCE: Duration = Duration::from_secs(4);
const SETTINGS: &str = "[engines]\ncapacity = 2\n\
    [streams]\nstart_budget = \"7s\"\nlongest_start = \"7s\"\nlinger = \"1s\"\nsilence_limit = \"4s\"\n";

/// What the viewer of a scenario gets.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// A picture that goes on, watched for so many seconds.
    Picture(u64),
    /// A picture that goes on, watched for three seconds, with at most the
    /// packets beside each insertion of so many bytes lost.
    Patched(u64),
    /// A picture, whole up to its end, and that end.
    PictureThenEnd,
    /// This status with this cause, and no byte of a stream.
    Refusal(u16, &'static str),
}
use Expect::{Patched, Picture, PictureThenEnd, Refusal};

/// Scenario, what comes of it, and when at the latest its first byte, its
/// refusal or its end has come, in milliseconds beyond a quick start.
const CONTENTS: &[(&str, Expect, u64)] = &[
    ("healthy-live", Picture(3), 0),
    ("healthy-bitrate(200000)", Picture(3), 0),
    ("healthy-bitrate(8000000)", Picture(3), 0),
    ("shared-infohash", Picture(3), 0),
    ("id-is-infohash", Picture(3), 0),
    ("internal-host(inner)", Picture(3), 0),
    ("internal-host(localhost)", Picture(3), 0),
    ("internal-host(wrong-port)", Picture(3), 0),
    ("internal-host(stranger)", Picture(3), 0),
    ("slow-metadata(3s)", Picture(2), 3_000),
    ("slow-metadata(60s)", Refusal(504, "start_timeout"), 4_000),
    ("slow-start(3s)", Picture(2), 3_000),
    ("slow-start(60s)", Refusal(504, "start_timeout"), 4_000),
    ("slow-start-500(3s)", Picture(2), 4_000),
    ("slow-start-500(60s)", Refusal(502, "start_failed"), 4_000),
    ("warmup-empty(2)", Picture(2), 2_000),
    ("warmup-empty(1000)", Refusal(502, "start_failed"), 4_000),
    ("metadata-failure", Refusal(404, "content_unavailable"), 0),
    ("metadata-failure(1s)", Refusal(404, "content_unavailable"), 2_000),
    ("metadata-hang", Refusal(504, "start_timeout"), 4_000),
    ("start-failure-after-metadata", Refusal(502, "start_failed"), 4_000),
    ("missing-option", Refusal(403, "content_restricted"), 0),
    ("bad-json(truncated)", Refusal(502, "engine_error"), 0),
    ("bad-json(internal)", Refusal(502, "engine_error"), 0),
    ("bad-json(html)", Refusal(502, "engine_error"), 0),
    ("bad-json(jsonp)", Refusal(502, "engine_error"), 0),
    ("bad-json(empty-response)", Refusal(502, "engine_error"), 0),
    ("bad-json(no-playback-url)", Refusal(502, "engine_error"), 0),
    ("bad-json(string-numbers)", Picture(2), 0),
    ("bad-json(unknown-keys)", Picture(2), 0),
    ("bad-json(huge)", Refusal(502, "engine_error"), 2_000),
    ("bad-json(empty-body)", Refusal(502, "engine_error"), 0),
    ("stall(0b)", Refusal(504, "start_timeout"), 4_000),
    ("stall(1s,2s)", Picture(6), 0),
    ("stall(1s)", PictureThenEnd, 1_000 + 4_000),
    ("disconnect-fin(0b)", Refusal(502, "start_failed"), 4_000),
    ("disconnect-fin(2s)", Picture(6), 0),
    ("disconnect-fin(1000000b)", Picture(3), 0),
    ("disconnect-rst(2s)", Picture(6), 0),
    ("partial-packet-end(2s)", Picture(6), 0),
    ("partial-packet-end(1000000b)", Picture(3), 0),
    ("unaligned-chunks", Picture(4), 3_000),
    ("starts-mid-packet", Picture(2), 0),
    ("garbage(1)", Patched(1), 0),
    ("garbage(188)", Patched(188), 0),
    ("garbage(4096)", Patched(4096), 0),
    ("burst-then-quiet(20s,3s)", Picture(5), 0),
    // Silent for twice the silence limit, with a stock that lasts longer.
    ("burst-then-quiet(40s,8s)", Picture(10), 0),
    ("slow-trickle(1,100ms)", Refusal(504, "start_timeout"), 4_000),
    // Less than two packets within the budget: no tables and picture by chance.
    ("slow-trickle(5,100ms)", Refusal(504, "start_timeout"), 4_000),
    ("text-body(html)", Refusal(502, "not_transport_stream"), 0),
    ("text-body(json)", Refusal(502, "not_transport_stream"), 0),
    ("text-body(m3u8)", Refusal(502, "not_transport_stream"), 0),
    ("redirect-held", Picture(2), 0),
    ("double-status", Refusal(502, "engine_error"), 0),
    ("huge-headers-lines(80)", Picture(2), 0),
    ("huge-headers-lines(300)", Refusal(502, "engine_error"), 0),
    ("huge-headers-lines(100000)", Refusal(502, "engine_error"), 2_000),
    ("huge-headers-line(8000)", Picture(2), 0),
    ("huge-headers-line(65536)", Refusal(502, "engine_error"), 0),
    ("huge-headers-line(1048576)", Refusal(502, "engine_error"), 2_000),
    ("header-trickle(10ms)", Picture(2), 3_000),
    ("header-trickle(1s)", Refusal(504, "start_timeout"), 4_000),
    ("framing-chunked(1)", Picture(3), 3_000),
    ("framing-chunked(188,1)", Picture(3), 0),
    ("framing-chunked(65536)", Picture(3), 0),
    ("framing-chunked(1048576,1)", Picture(3), 0),
    ("framing-close", Picture(2), 0),
    ("http-500-all", Refusal(502, "engine_error"), 0),
    ("refuse", Refusal(502, "engine_reset"), 0),
    ("rst-on-accept", Refusal(502, "engine_reset"), 0),
    ("hang-accept", Refusal(504, "start_timeout"), 4_000),
    ("api-ok-media-hang", Refusal(504, "start_timeout"), 4_000),
    ("stop-hang(10s)", Picture(2), 0),
    ("stop-500", Picture(2), 0),
];

#[test]
fn every_content_gives_a_picture_or_an_honest_answer_and_disturbs_nobody() {
    let catalogue: BTreeSet<_> = Scenario::catalogue().map(|s| name(&s).to_owned()).collect();
    let tabled: BTreeSet<_> = CONTENTS.iter().map(|row| name(row.0).to_owned()).collect();
    let unknown: Vec<_> = tabled.difference(&catalogue).collect();
    assert!(unknown.is_empty(), "rows without a scenario: {unknown:?}");
    run_all(CONTENTS, AT_ONCE, |(text, expect, beyond)| {
        content_row(text, expect, START + Duration::from_millis(beyond));
    });
}

fn name(text: &str) -> &str {
    text.split('(').next().unwrap()
}

/// Three engines with two slots each; a broadcast with an audience plays on
/// every one of them, so each attempt of the scenario has company.
fn content_row(text: &str, expect: Expect, deadline: Duration) {
    let emulator = engines(3);
    let server = serve_ready(&emulator, SETTINGS);
    let others = [1, 2, 3].map(healthy);
    let audience = Audience::watch(server.address(), &others, AUDIENCE);
    assert!(audience.all_play_within(START), "the others play before");

    let id = signed(text.parse().unwrap(), 7);
    check(&server, id, expect, deadline);

    let emptied = Duration::from_secs(1) + Duration::from_secs(3) + START;
    let taken = || status(&server, "/engines/slots_taken");
    assert!(wait_until(emptied, || taken() == 3), "{} slots are taken of 3 in use", taken());
    let more = Audience::watch(server.address(), &[4, 5, 6].map(healthy), 3);
    assert!(more.all_play_within(START), "every slot can be taken again: {:#?}", more.seen());
    assert_spared(&server, more);
    assert_spared(&server, audience);
    assert!(wait_until(emptied, || taken() == 0), "{} slots are taken by nobody", taken());
    assert_well_used(&emulator);
}

/// The audience has noticed nothing of what became of others.
fn assert_spared(server: &Server, audience: Audience) {
    assert_undisturbed(&audience.leave(), GAP + kept_waiting(server));
}

/// What every engine may expect of us, and that nothing is left open.
fn assert_well_used(emulator: &Emulator) {
    let counters = || emulator.counters();
    assert!(wait_until(START, || counters().open_readers == 0), "{} readers", counters().open_readers);
    assert_eq!(counters().misuse, Default::default());
}

/// Asks for `id` and compares what comes with what is expected.
fn check(server: &Server, id: ContentId, expect: Expect, deadline: Duration) {
    let asked = Instant::now();
    let mut viewer = Viewer::ask(server.address(), &path_of(id)).unwrap();
    let mut verifier = id.verifier().unwrap();
    let left = || deadline.saturating_sub(asked.elapsed());
    match expect {
        Refusal(status, cause) => {
            let (answer, error) = viewer.expect_refusal(deadline, status, cause);
            assert!(error["retry_after_seconds"].as_u64().unwrap() > 0);
            assert!(answer.header("retry-after").is_some());
        }
        Picture(seconds) => {
            assert_eq!(viewer.head(left()).unwrap().0, 200);
            let report = watch(&mut viewer, &mut verifier, seconds);
            assert!(report.is_unbroken() && report.signalled_jumps == 0, "{report:?}");
        }
        Patched(inserted) => {
            assert_eq!(viewer.head(left()).unwrap().0, 200);
            assert_patched(&watch(&mut viewer, &mut verifier, 3), inserted);
        }
        PictureThenEnd => {
            assert_eq!(viewer.head(left()).unwrap().0, 200);
            let ended = read(&mut viewer, &mut verifier, asked + deadline);
            let report = verifier.report();
            assert!(ended, "goes on after {:?}: {report:?}", asked.elapsed());
            assert!(report.is_unbroken() && report.signalled_jumps == 0, "{report:?}");
            assert_eq!(report.partial_bytes, 0, "the last packet is whole");
            assert!(report.packets > 1000, "{report:?}");
        }
    }
}

/// Reads until `deadline` or the end, and says whether it was the end.
fn read(viewer: &mut Viewer, verifier: &mut Verifier, deadline: Instant) -> bool {
    viewer.read_until(deadline, |bytes| verifier.push(bytes, SystemTime::now())).0
}

/// Reads for `seconds`, to the last of which there has to be a picture.
fn watch(viewer: &mut Viewer, verifier: &mut Verifier, seconds: u64) -> Report {
    let ended = read(viewer, verifier, Instant::now() + Duration::from_secs(seconds));
    let report = verifier.report();
    assert!(!ended, "ended: {report:?}");
    let late = report.last_delay.unwrap();
    assert!(late < Duration::from_secs(5), "fell {late:?} behind: {report:?}");
    report
}

/// Bytes inserted between packets shift nothing: what looks like packets among
/// them may pass, and what stands beside them may be lost, but no more.
fn assert_patched(report: &Report, inserted: u64) {
    let insertions = report.packets / 500 + 1;
    let is_fine = report.starts_right
        && report.duplicated == 0
        && report.reordered == 0
        && report.unaligned_bytes == 0
        && report.lost <= 2 * insertions
        && report.corrupted <= (2 + inserted / 188) * insertions;
    assert!(is_fine, "{report:?}");
}

/// With a second, healthy engine, and what one alone is worth.
const ENGINES: &[(&str, u16, &str)] = &[
    ("refuse", 502, "engine_unreachable"),
    ("rst-on-accept", 502, "engine_reset"),
    ("hang-accept", 504, "start_timeout"),
    ("http-500-all", 502, "engine_error"),
    ("api-ok-media-hang", 504, "start_timeout"),
];

#[test]
fn a_sick_engine_costs_time_and_not_the_picture_while_another_is_well() {
    run_all(ENGINES, AT_ONCE, |(text, ..)| {
        let emulator = engines(2);
        let server = serve_ready(&emulator, "[engines]\ncapacity = 3\n[streams]\nlinger = \"1s\"\n");
        let server = server.allow("engine turned");
        // The second stream of three goes to engine 1: so engine 0 is chosen next
        // once its third has left, whatever their times to the first byte.
        let others = [1, 2, 3].map(healthy);
        let audience = Audience::watch(server.address(), &others, AUDIENCE);
        assert!(audience.all_play_within(START));
        let sick = usize::from(emulator.engine_counters(0).open_readers != 1);
        emulator.set_engine_scenario(sick, text.parse().unwrap());

        // A silent engine has five seconds to tell the infohash, and ten to start
        // while others could be asked.
        check(&server, healthy(7), Picture(2), Duration::from_secs(15) + START);
        assert_eq!(emulator.engine_counters(1 - sick).open_readers, 3, "the healthy one plays it");
        assert_spared(&server, audience);
        emulator.set_engine_scenario(sick, Scenario::healthy());
        let taken = || status(&server, "/engines/slots_taken");
        assert!(wait_until(Duration::from_secs(8), || taken() == 0), "{} slots stay taken", taken());
        assert_well_used(&emulator);
    });
}

#[test]
fn a_sick_engine_alone_is_answered_for_with_its_cause() {
    run_all(ENGINES, AT_ONCE, |(text, status, cause)| {
        let emulator = engines(1);
        let server = serve_ready(&emulator, SETTINGS).allow("engine turned");
        let audience = Audience::watch(server.address(), &[healthy(1)], AUDIENCE);
        assert!(audience.all_play_within(START));
        emulator.set_engine_scenario(0, text.parse().unwrap());
        let deadline = if status == 504 { BUDGET + Duration::from_millis(500) } else { START };
        check(&server, healthy(7), Refusal(status, cause), deadline);
        assert_spared(&server, audience);
    });
}

#[test]
fn a_silent_engine_is_given_up_after_thirty_seconds_by_default() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let asked = Instant::now();
    let silent = signed(Scenario::metadata_hang(), 1);
    check(&server, silent, Refusal(504, "start_timeout"), Duration::from_millis(30_800));
    assert!(asked.elapsed() >= Duration::from_millis(29_900), "gave up after {:?}", asked.elapsed());
}

#[test]
fn a_stream_that_fell_silent_ends_after_its_limit_and_not_before() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, SETTINGS);
    let id = signed("stall(1000000b)".parse().unwrap(), 1);
    let began = Instant::now();
    check(&server, id, PictureThenEnd, START + SILENCE);
    assert!(began.elapsed() >= SILENCE, "ended after {:?}", began.elapsed());
}

#[test]
fn two_ids_of_one_swarm_are_read_once() {
    // With one engine the second id must not even be started, since that would
    // end the first; with two it is at worst started where the first is not.
    for count in [1, 2] {
        let emulator = engines(count);
        let server = serve_ready(&emulator, SETTINGS);
        let ids = [8, 9].map(|serial| signed(Scenario::shared_infohash(), serial));
        let first = Audience::watch(server.address(), &ids[..1], 5);
        assert!(first.all_play_within(START));
        let second = Audience::watch(server.address(), &ids[1..], 5);
        assert!(second.all_play_within(START));
        assert_eq!(emulator.counters().open_readers, 1, "readers of one swarm on {count} engines");
        assert_spared(&server, first);
        assert_spared(&server, second);
        assert_well_used(&emulator);
    }
}
