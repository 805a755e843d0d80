//! From one engine to another under the viewers: wherever the other one is in
//! the broadcast, on request, from standby, and where its bytes differ.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{thread, time::Duration};

use millrace_dataplane::{StreamConfig, ViewerConfig};
use millrace_emulator::{Content, ContentId, Scenario};
use serde_json::Value;
use support::{
    Viewer,
    crowd::{Crowd, assert_unbroken},
    pool::{engines, healthy, path_of},
    shards::{Shards, entries},
    stage::{Setup, Stage, path, signed},
    tool::{Tool, has},
    wait_until,
};

mod support;

const RATE: u32 = 2_000_000;
const SOON: Duration = Duration::from_secs(20);
const PROBES: &str = "[engines]\nprobe_interval = \"500ms\"\n";

fn stage(engines: u16, config: &str) -> Option<Stage> {
    let config = format!("{PROBES}{config}");
    Stage::start(&Setup { engines, config, allow: &["engine turned"], ..Setup::default() })
}

fn watch(stage: &Stage, id: &ContentId, viewers: usize) -> Crowd {
    let crowd = Crowd::new();
    for _ in 0..viewers {
        crowd.ask(stage.server.address(), &path(id), id.verifier().unwrap());
    }
    crowd.wait_all(SOON, "the stream begins", |seen| seen.bytes > 0);
    crowd
}

fn stream(stage: &Stage) -> Value {
    stage.api("streams")["streams"][0].clone()
}

/// The engine that plays the only stream, once it is live.
#[track_caller]
fn playing(stage: &Stage) -> usize {
    assert!(wait_until(SOON, || stream(stage)["state"] == "live"), "{}", stream(stage));
    usize::try_from(stream(stage)["engine"].as_u64().unwrap()).unwrap()
}

#[track_caller]
fn assert_exact(crowd: &Crowd, rate: u32, run: Duration) {
    for (place, seen) in crowd.all().iter().enumerate() {
        assert_unbroken(&format!("viewer {place}"), seen, rate, run);
        assert_eq!(seen.end, None, "viewer {place}");
        assert!(seen.longest_gap < Duration::from_secs(2), "viewer {place}: {:?}", seen.longest_gap);
    }
}

/// What the timeline of the only session says happened.
fn timeline(stage: &Stage) -> Vec<String> {
    let sessions = stage.api("sessions");
    let id = sessions["sessions"][0]["session"].as_str().unwrap().to_owned();
    let session = stage.api(&format!("sessions/{id}"));
    let notes = session["timeline"].as_array().unwrap();
    notes
        .iter()
        .map(|n| format!("{}: {}", n["what"].as_str().unwrap(), n["detail"].as_str().unwrap()))
        .collect()
}

#[test]
fn an_engine_up_to_fifteen_seconds_ahead_or_behind_continues_byte_by_byte() {
    thread::scope(|scope| {
        for (first, second) in [(0, 15), (15, 0), (8, 0), (0, 8)] {
            scope.spawn(move || {
                let Some(stage) = stage(2, "") else { return };
                let id = signed(RATE, Scenario::healthy(), first * 100 + second);
                let shift = |seconds: u64| format!("edge-shift({seconds}s)").parse::<Scenario>().unwrap();
                let content = id.to_string();
                // Whichever engine is chosen first is `first` behind the edge.
                for engine in 0..2 {
                    stage.emulator.set_scenario(Some(engine), &content, shift(first));
                }
                let crowd = watch(&stage, &id, 5);
                let victim = playing(&stage);
                stage.emulator.set_scenario(Some(1 - victim), &content, shift(second));
                crowd.wait_all(SOON, "a run before", |seen| seen.run(RATE) > Duration::from_secs(3));
                let before: Vec<_> = crowd.all().iter().map(|seen| seen.run(RATE)).collect();
                stage.emulator.kill(victim);
                let more = Duration::from_secs(4);
                let goes_on = wait_until(Duration::from_secs(30), || {
                    crowd.all().iter().zip(&before).all(|(seen, run)| seen.run(RATE) > *run + more)
                });
                assert!(goes_on, "{first} to {second}: {}, {:#?}", stream(&stage), timeline(&stage));
                assert_exact(&crowd, RATE, more);
            });
        }
    });
}

#[test]
fn a_stream_moves_on_request_and_off_an_engine_that_is_drained() {
    let Some(stage) = stage(3, "") else { return };
    let id = signed(RATE, Scenario::healthy(), 1);
    let crowd = watch(&stage, &id, 20);
    let moved = |from: usize| {
        assert!(wait_until(SOON, || playing(&stage) != from), "{:#?}", timeline(&stage));
        playing(&stage)
    };
    let first = playing(&stage);
    let answer = stage.server.ask("POST", &format!("/api/v1/streams/id%3A{id}/migrate"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let second = moved(first);
    let answer = stage.server.ask("POST", &format!("/api/v1/engines/{second}/drain"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let third = moved(second);
    assert!(third != second);
    crowd.wait_all(SOON, "a run", |seen| seen.run(RATE) > Duration::from_secs(8));
    assert_exact(&crowd, RATE, Duration::from_secs(8));
    let left = || stage.emulator.engine_counters(second).open_readers;
    assert!(wait_until(SOON, || left() == 0), "{} readers on the drained engine", left());
    let told = timeline(&stage);
    assert!(told.iter().filter(|note| note.starts_with("plays: exactly")).count() >= 2, "{told:#?}");
}

/// Probes take a while, and here nobody probes at all.
#[test]
fn an_engine_that_was_found_gone_is_asked_again_only_where_there_is_no_other() {
    let emulator = engines(3);
    let table = entries(&emulator.addresses(), 3);
    let mut shards = Shards::start(1, StreamConfig::default(), ViewerConfig::default());
    let ask = |shards: &Shards, serial| Viewer::ask(shards.address, &path_of(healthy(serial))).unwrap();
    shards.until("shards run", SOON, |s| s.samples.iter().all(Option::is_some));
    shards.publish(&table, false);
    let _first = ask(&shards, 1);
    shards.until("it plays", SOON, |s| s.sessions("plays").len() == 1);
    emulator.kill(0);
    shards.until("it has moved", SOON, |s| s.sessions("plays").len() == 2);
    let _second = ask(&shards, 2);
    shards.until("another one plays", SOON, |s| s.sessions("plays").len() == 3);
    assert_eq!(shards.sessions("lost").len(), 1, "{:#?}", shards.notes);
    assert_eq!(shards.sessions("failed"), [], "the first engine was asked: {:#?}", shards.notes);
    emulator.revive(0);
    shards.publish(&table[..1], false);
    let _third = ask(&shards, 3);
    shards.until("the only engine is asked", SOON, |s| s.sessions("plays").len() == 4);
}

/// The other engine has to send as much ahead as ten seconds are until it comes to
/// where the stream is; the one that plays is left once it has.
#[test]
fn a_stream_of_twenty_megabits_moves_before_its_engine_is_left() {
    const RATE: u32 = 20_000_000;
    let Some(stage) = stage(2, "") else { return };
    let id = signed(RATE, Scenario::healthy(), 1);
    let crowd = watch(&stage, &id, 1);
    let first = playing(&stage);
    crowd.wait_all(SOON, "a run before", |seen| seen.run(RATE) > Duration::from_secs(3));
    let answer = stage.server.ask("POST", &format!("/api/v1/streams/id%3A{id}/migrate"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let is_left = || timeline(&stage).iter().any(|note| note.starts_with("stopped"));
    assert!(wait_until(SOON, is_left), "{:#?}", timeline(&stage));
    let told = timeline(&stage);
    let moved = |note: &&String| note.starts_with("plays") || note.starts_with("stopped");
    let moves: Vec<_> = told.iter().filter(moved).skip(1).collect();
    assert_eq!(moves, ["plays: exactly where the chain ends", "stopped: "], "{told:#?}");
    assert!(wait_until(SOON, || playing(&stage) != first), "{told:#?}");
    crowd.wait_all(SOON, "a run", |seen| seen.run(RATE) > Duration::from_secs(8));
    assert_exact(&crowd, RATE, Duration::from_secs(8));
}

#[test]
fn a_source_on_standby_takes_over_at_once() {
    let Some(stage) = stage(4, "[streams]\nstandby_viewers = 3\n") else { return };
    let id = signed(RATE, Scenario::healthy(), 1);
    let crowd = watch(&stage, &id, 3);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(stream(&stage)["sources"], 1, "three are not more than three");
    crowd.ask(stage.server.address(), &path(&id), id.verifier().unwrap());
    assert!(wait_until(SOON, || stream(&stage)["sources"] == 2), "{}", stream(&stage));
    assert!(wait_until(SOON, || stage.emulator.counters().open_readers == 2));
    let starts = stage.emulator.counters().starts;
    let victim = playing(&stage);
    stage.emulator.kill(victim);
    assert!(wait_until(SOON, || playing(&stage) != victim));
    let told = timeline(&stage);
    let lost = told.iter().position(|note| note.starts_with("lost")).unwrap();
    assert!(told[lost + 1].starts_with("plays: exactly"), "nothing between loss and play: {told:#?}");
    assert!(stage.emulator.counters().starts >= starts);
    crowd.wait_all(SOON, "a run", |seen| seen.run(RATE) > Duration::from_secs(6));
    assert_exact(&crowd, RATE, Duration::from_secs(6));
}

#[test]
fn where_bytes_differ_a_decoder_sees_one_discontinuity_at_most_and_time_goes_on() {
    if !has("ffmpeg") {
        return;
    }
    let Some(stage) = stage(2, "") else { return };
    let id = ContentId::new(Content::Clip, "unmatched(both)".parse().unwrap(), 1);
    let url = format!("http://{}{}", stage.server.address(), path(&id));
    let args = ["-hide_banner", "-v", "warning", "-i", &url, "-t", "20", "-f", "framemd5", "-"];
    let decoder = Tool::start("ffmpeg", &args);
    let victim = playing(&stage);
    assert!(wait_until(SOON, || stage.metric("millrace_egress_bytes_total") > 500_000.0));
    thread::sleep(Duration::from_secs(3));
    stage.emulator.kill(victim);
    let outcome = decoder.ends_within(Duration::from_secs(60));
    assert!(outcome.status.success(), "{outcome:#?}");
    // What was cut, a picture or some sound, is lost: whatever its decoder says of
    // it. The demuxer reports it once, and nothing but that.
    let complaints: Vec<_> = outcome.stderr.lines().filter(|line| !line.is_empty()).collect();
    let of_the_cut = ["[h264 @", "[aac @", "Error while decoding", "corrupt", "Last message repeated"];
    let is_of_it = |line: &&&str| of_the_cut.iter().any(|words| line.contains(words));
    let by_demuxer = |words: &str| {
        let lines = complaints.iter().filter(|line| line.starts_with("[mpegts @") && line.contains(words));
        lines.count()
    };
    let others = complaints.iter().filter(|line| !is_of_it(line)).count();
    assert_eq!(others, by_demuxer("PES packet size mismatch"), "{complaints:#?}");
    assert!(others <= 1 && by_demuxer("corrupt") <= 1, "{complaints:#?}");
    // `stream, dts, pts, duration, …`: of each stream, time stamps only rise, and
    // leave something out at one place only, of a group of pictures or two.
    let mut last = [(i64::MIN, 0); 2];
    let (mut frames, mut gaps) = ([0; 2], [const { Vec::new() }; 2]);
    for line in outcome.stdout.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split(',').map(|field| field.trim().parse::<i64>());
        let (Some(Ok(stream)), Some(Ok(dts)), _, Some(Ok(length))) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let stream = usize::try_from(stream).unwrap();
        let (before, lasted) = last[stream];
        assert!(dts > before, "stream {stream}: {dts} after {before}");
        if frames[stream] > 0 && dts > before + lasted {
            gaps[stream].push((before, dts));
        }
        last[stream] = (dts, length);
        frames[stream] += 1;
    }
    // 25 pictures and 48,000 samples a second.
    for (gaps, second) in gaps.iter().zip([25, 48_000]) {
        let (from, to) = (gaps.first().map_or(0, |gap| gap.0), gaps.last().map_or(0, |gap| gap.1));
        assert!(to - from < second * 4, "{gaps:?}");
    }
    assert!(frames[0] > 400 && frames[1] > 500, "{frames:?}");
    assert_eq!(stage.emulator.engine_counters(1 - victim).playbacks, 1);
}
