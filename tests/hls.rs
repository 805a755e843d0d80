//! HLS as players get it: every rule of the standard holds over every playlist,
//! and the segments are the broadcast, packet by packet.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{ContentId, Scenario};
use support::{
    Server,
    engines::EngineProcess,
    hls::{
        client::Client,
        report::{Report, Settings},
        stream,
    },
    rows::run_all,
    stage::{Driver, Setup, Stage, signed},
    wait_until,
};

mod support;

const RATE: u32 = 2_000_000;

fn manifest(id: &ContentId) -> String {
    format!("/ace/manifest.m3u8?id={id}")
}

/// What signed packets cannot have: pictures that tell of themselves.
const OF_CODING: &[&str] = &["codecs", "resolution", "segment-random-access"];

/// Nothing is wrong but what the rules of `allowed` say.
#[track_caller]
fn assert_clean(name: &str, report: &Report, allowed: &[&str]) {
    let allowed: BTreeSet<_> = allowed.iter().collect();
    let wrong: Vec<_> = report.findings.iter().filter(|f| !allowed.contains(&f.complaint.rule)).collect();
    let first: Vec<_> = wrong.iter().take(10).map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{name}: {} complaints:\n{}", wrong.len(), first.join("\n"));
}

/// All runs are the broadcast of `id`, nothing lost, twice or changed.
#[track_caller]
fn assert_broadcast(name: &str, report: &Report, id: &ContentId, runs: usize) {
    let found = report.runs();
    assert_eq!(found.len(), runs, "{name}");
    for run in found {
        let (proof, complaints) = stream::prove(&run, id.verifier().unwrap());
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
        assert!(proof.first.is_some(), "{name}: {proof:?}");
    }
}

#[test]
fn every_rule_holds_and_segments_are_the_broadcast() {
    let usual = Settings::default();
    let ways = [
        ("plain reloads", usual),
        ("reloads that are held", Settings { blocking: true, ..usual }),
        ("parts", Settings { blocking: true, parts: true, ..usual }),
        ("updates", Settings { blocking: true, delta: true, ..usual }),
    ];
    let stages = [(Driver::Uring, 1), (Driver::Epoll, 2)];
    let stages = stages.map(|(driver, shards)| {
        // Long enough that there is something to leave out of an update.
        let config = "[hls]\nwindow = \"60s\"\n".to_owned();
        Stage::start(&Setup { driver, shards, config, ..Setup::default() })
    });
    let id = signed(RATE, Scenario::healthy(), 1);
    thread::scope(|scope| {
        for (stage, driver) in stages.iter().flatten().zip([Driver::Uring, Driver::Epoll]) {
            for (name, settings) in ways {
                let (id, address) = (&id, stage.server.address());
                scope.spawn(move || {
                    let name = format!("{name} on {}", driver.word());
                    let mut client = Client::open(address, &manifest(id), settings);
                    client.watch(Duration::from_secs(if settings.delta { 50 } else { 30 }));
                    let report = client.finish();
                    println!("{name}: {}", summary(&report));
                    assert_clean(&name, &report, OF_CODING);
                    assert!(report.segments.len() >= 6, "{name}: {}", report.segments.len());
                    assert_eq!(settings.parts, report.parts > 0, "{name}");
                    assert_eq!(settings.delta, report.updates > 0, "{name}");
                    assert_broadcast(&name, &report, id, 1);
                });
            }
        }
    });
}

fn summary(report: &Report) -> String {
    format!(
        "{} playlists, {} segments, {} parts, {} updates, {} asked for again, {} connections",
        report.playlists.len(),
        report.segments.len(),
        report.parts,
        report.updates,
        report.owed,
        report.connections,
    )
}

/// A scenario of the emulator, the least and the most discontinuities that are
/// told of it in a minute, and what else may be wrong since the source is.
const FAULTS: &[(&str, [usize; 2], &[&str])] = &[
    ("healthy-live", [0, 0], &[]),
    ("micro-stalls", [0, 0], &[]),
    ("jitter", [0, 0], &[]),
    ("unaligned-chunks", [0, 0], &[]),
    ("starts-mid-packet", [0, 0], &[]),
    ("burst-then-quiet", [0, 0], &[]),
    ("late-idr", [0, 0], &["independent-segments", "part-independent"]),
    ("null-flood", [0, 0], &[]),
    ("pts-jump(forward)", [1, 60], &[]),
    ("pts-jump(back)", [1, 60], &[]),
    ("pts-jump(wrap)", [0, 60], &[]),
    // By the broadcast's clock, so that one falls into every watch.
    ("source-restart(20s,2s)", [1, 60], &[]),
    ("pmt-change(version)", [0, 60], &[]),
    ("pmt-change(pids)", [1, 60], &[]),
    ("pcr-jitter", [0, 60], &[]),
    ("disconnect-fin(10s)", [0, 0], &[]),
    ("disconnect-rst(10s)", [0, 0], &[]),
    ("partial-packet-end(10s)", [0, 0], &[]),
];

#[test]
fn whatever_the_source_does_playlists_keep_every_rule() {
    // Half an hour of stream each with `PLAYLIST_MINUTES=30`.
    let minutes = std::env::var("PLAYLIST_MINUTES").ok().and_then(|given| given.parse::<u64>().ok());
    let span = minutes.map_or(Duration::from_secs(40), |minutes| Duration::from_secs(minutes * 60));
    let setup = Setup {
        engines: 6,
        config: "[engines]\ncapacity = 6\n".into(),
        allow: &["engine"],
        ..Setup::default()
    };
    let Some(stage) = Stage::start(&setup) else { return };
    let address = stage.server.address();
    run_all(FAULTS, FAULTS.len(), |(scenario, [least, most], allowed)| {
        let serial = 100 + FAULTS.iter().position(|row| row.0 == scenario).unwrap() as u64;
        let id = signed(RATE / 2, scenario.parse().unwrap(), serial);
        let settings = Settings { blocking: true, parts: true, ..Settings::default() };
        let mut client = Client::open(address, &manifest(&id), settings);
        client.watch(span);
        let report = client.finish();
        let told = report.segments.iter().filter(|segment| segment.discontinuity).count();
        println!("{scenario}: {told} discontinuities, {}", summary(&report));
        assert_clean(scenario, &report, &[OF_CODING, allowed].concat());
        assert!(report.segments.len() >= 4, "{scenario}: {}", summary(&report));
        let most = most * usize::try_from(span.as_secs().div_ceil(60)).unwrap();
        assert!((least..=most).contains(&told), "{scenario}: {told} discontinuities");
    });
}

/// Engines as processes, and the server in front of them.
fn fleet(engines: usize, cpus: &str) -> (Vec<EngineProcess>, Server) {
    let engines: Vec<_> =
        (0..engines).map(|n| EngineProcess::start(&["--fast", "--seed", &n.to_string()])).collect();
    let urls: Vec<_> = engines.iter().map(|engine| format!("http://{}", engine.address())).collect();
    let mut args = vec!["--listen", "127.0.0.1:0", "--cpus", cpus];
    urls.iter().for_each(|url| args.extend(["--engine", url]));
    let server = Server::start(&args).allow("engine turned");
    let is_ready = || server.get("/api/v1/engines").text().matches("\"ready\"").count() == engines.len();
    assert!(wait_until(SOON, is_ready), "{}", server.log());
    (engines, server)
}

/// The engine that plays the only stream.
fn playing(server: &Server) -> Option<usize> {
    let streams: serde_json::Value = serde_json::from_slice(&server.get("/api/v1/streams").body).unwrap();
    usize::try_from(streams["streams"][0]["engine"].as_u64()?).ok()
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn engines_are_killed_and_the_playlist_goes_on_with_the_next_packet() {
    let (mut engines, server) = fleet(3, "0,1");
    let id = signed(RATE, Scenario::healthy(), 2);
    let settings = Settings { blocking: true, parts: true, ..Settings::default() };
    let mut client = Client::open(server.address(), &manifest(&id), settings);
    let begun = Instant::now();
    for _ in 0..2 {
        client.watch(Duration::from_secs(6));
        engines[playing(&server).unwrap()].kill();
    }
    client.watch(Duration::from_secs(10));
    let report = client.finish();
    println!("killed twice in {:.1?}: {} segments", begun.elapsed(), report.segments.len());
    assert_clean("killed", &report, OF_CODING);
    assert_broadcast("killed", &report, &id, 1);
    assert!(report.segments.len() >= 5, "{}", report.segments.len());
}
