//! The client, against a server of its own.

use std::{thread, time::Duration};

use crate::{
    origin::{AGE, Fault, Origin, Parts, packets, verifier},
    support::hls::{
        client::Client,
        http::resolve,
        report::{Fetched, Report, Settings},
        rules::Expect,
        stream::{compare, prove},
    },
};

/// Reloads, segments and what is owed, all several times.
const SPAN: Duration = Duration::from_secs(5);

fn settings(parts: bool) -> Settings {
    Settings {
        expect: Expect { live: true, low_latency: parts, age: AGE },
        poll: Duration::from_millis(100),
        parts,
        ..Settings::default()
    }
}

/// What a client reports that goes about it in this way, and what was asked for.
fn watched(fault: Fault, parts: Parts, path: &str, settings: Settings) -> (Report, Vec<String>) {
    let origin = Origin::start(fault, parts);
    let mut client = Client::open(origin.address, path, settings);
    client.watch(SPAN);
    (client.finish(), origin.asked())
}

fn told(report: &Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_live_stream_is_followed_in_every_way() {
    let plain = settings(false);
    let parts = settings(true);
    let held = Settings { blocking: true, ..plain };
    let all = Settings { blocking: true, delta: true, ..parts };
    let ways = [
        ("polled", Parts::None, "/master.m3u8", plain),
        ("held", Parts::None, "/master.m3u8", held),
        ("redirected", Parts::None, "/go.m3u8", held),
        ("redirected from there", Parts::None, "/moved.m3u8", held),
        ("delta updates", Parts::None, "/master.m3u8", Settings { delta: true, ..plain }),
        ("parts", Parts::Files, "/master.m3u8", Settings { blocking: true, ..parts }),
        ("ranges", Parts::Ranges, "/a/live.m3u8", Settings { blocking: true, ..parts }),
        ("parts and delta updates", Parts::Files, "/master.m3u8", all),
    ];
    let watching = ways.map(|(name, parts, path, settings)| {
        (name, settings, thread::spawn(move || watched(Fault::None, parts, path, settings)))
    });
    for (name, settings, watching) in watching {
        let (report, asked) = watching.join().unwrap();
        assert_eq!(told(&report), [""; 0], "{name}");
        // Fifteen are listed at first, and in five seconds come eleven more.
        assert!(report.segments.len() >= 23, "{name}: {} segments", report.segments.len());
        assert!(report.owed >= 5, "{name}: {} owed", report.owed);
        assert_eq!(report.connections, 1, "{name}");
        assert_eq!(report.updates > 5, settings.delta, "{name}: {} updates", report.updates);
        assert_eq!(report.parts > 30, settings.parts, "{name}: {} parts", report.parts);
        let is_asked = |directive: &str| asked.iter().any(|target| target.contains(directive));
        assert_eq!(is_asked("_HLS_msn="), settings.blocking, "{name}");
        assert_eq!(is_asked("&_HLS_part="), settings.blocking && settings.parts, "{name}");
        assert_eq!(is_asked("_HLS_skip=YES"), settings.delta, "{name}");
        let redirected = asked.iter().filter(|target| target.starts_with("/go.m3u8")).count();
        assert_eq!(redirected, usize::from(name.starts_with("redirected")), "{name}: once and for all");
        assert_eq!(is_asked("?session=1&_HLS_msn="), name.starts_with("redirected"), "{name}");

        let numbers: Vec<_> = report.segments.iter().map(|s| s.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{name}: {numbers:?}");
        let runs = report.runs();
        let [bytes] = &runs[..] else { panic!("{name}: {} runs", runs.len()) };
        let (proof, complaints) = prove(bytes, verifier());
        assert_eq!(complaints, [], "{name}");
        assert_eq!(proof.packets, 60 * u64::try_from(numbers.len()).unwrap(), "{name}");
        let stream = packets(0, (numbers.last().unwrap() + 1) * 60);
        let first = usize::try_from(numbers[0] * 60).unwrap();
        assert_eq!(compare(bytes, &stream), Ok(first + 2), "{name}");
    }
}

#[test]
fn every_fault_of_a_live_stream_is_found() {
    let plain = settings(false);
    let parts = Settings { blocking: true, ..settings(true) };
    let faults = [
        (Fault::LosesPackets, plain, &["continuity"][..]),
        (Fault::ForgetsSegments, plain, &["removed-gone"]),
        (Fault::StandsStill, plain, &["stale"]),
        (Fault::HoldsNothing, Settings { blocking: true, ..plain }, &["held-reload"]),
        (Fault::SkipsTooMuch, Settings { delta: true, ..plain }, &["skip"]),
        (Fault::ShortParts, parts, &["part-bytes"]),
        (Fault::OddParts, parts, &["part-bytes", "part-length"]),
        (Fault::Elsewhere, plain, &["other-server"]),
        (Fault::PlainText, plain, &["content-type"]),
        (Fault::BreaksOff, plain, &["http"]),
        (Fault::NarrowBand, plain, &["bandwidth"]),
    ];
    let watching = faults.map(|(fault, settings, rules)| {
        (
            fault,
            rules,
            thread::spawn(move || {
                let parts = if settings.parts { Parts::Files } else { Parts::None };
                watched(fault, parts, "/master.m3u8", settings).0
            }),
        )
    });
    for (fault, rules, watching) in watching {
        let report = watching.join().unwrap();
        let found: Vec<_> = report.rules().into_iter().collect();
        assert_eq!(found, rules, "{fault:?}: {:#?}", told(&report));
    }
}

#[test]
fn a_report_is_parted_into_runs() {
    let fetched = |number: u64, discontinuity: bool| Fetched {
        number,
        target: String::new(),
        at: SPAN,
        duration: SPAN,
        discontinuity,
        length: 1,
        bytes: vec![u8::try_from(number).unwrap()],
    };
    let segments =
        vec![fetched(3, true), fetched(4, false), fetched(5, true), fetched(6, false), fetched(8, false)];
    let report = Report { segments, ..Report::default() };
    assert_eq!(report.runs(), [vec![&[3][..], &[4]], vec![&[5], &[6]], vec![&[8]]]);
}

#[test]
fn a_pause_that_is_known_is_no_fault() {
    let origin = Origin::start(Fault::StandsStill, Parts::None);
    let mut client =
        Client::open(origin.address, "/a/live.m3u8", Settings { keep: false, ..settings(false) });
    client.turn();
    client.pause(SPAN);
    client.watch(SPAN - Duration::from_secs(1));
    let report = client.finish();
    assert_eq!(told(&report), [""; 0]);
    assert!(report.segments.iter().all(|s| s.length == 60 * 188 && s.bytes.is_empty()));
}

#[test]
fn what_cannot_be_had_is_told() {
    let origin = Origin::start(Fault::None, Parts::None);
    let missing = Client::open(origin.address, "/a/no.m3u8", settings(false)).finish();
    assert_eq!(told(&missing).len(), 1);
    assert!(told(&missing)[0].ends_with("/a/no.m3u8: http: status 404 with 0 bytes"), "{:?}", told(&missing));
    let address = origin.address;
    drop(origin);
    let gone = Client::open(address, "/master.m3u8", settings(false)).finish();
    assert_eq!(gone.rules().into_iter().collect::<Vec<_>>(), ["http"]);
}

#[test]
fn references_are_resolved() {
    let address = "127.0.0.1:80".parse().unwrap();
    for (base, uri, target) in [
        ("/a/b/c.m3u8", "d.ts", Some("/a/b/d.ts")),
        ("/a/b/c.m3u8?x=/y/z", "d.ts?e=1", Some("/a/b/d.ts?e=1")),
        ("/a/b/c.m3u8", "../d.ts", Some("/a/d.ts")),
        ("/a/b/c.m3u8", "../../../d.ts", Some("/d.ts")),
        ("/a/b/c.m3u8", "./d/./e.ts", Some("/a/b/d/e.ts")),
        ("/a/b/c.m3u8", "/d.ts#f", Some("/d.ts")),
        ("/a/b/c.m3u8", "?x=1", Some("/a/b/c.m3u8?x=1")),
        ("/a/b/c.m3u8", "http://127.0.0.1:80/d.ts", Some("/d.ts")),
        ("/a/b/c.m3u8", "http://127.0.0.1:80", Some("/")),
        ("/a/b/c.m3u8", "http://127.0.0.1:8000/d.ts", None),
        ("/a/b/c.m3u8", "//other/d.ts", None),
        ("/a/b/c.m3u8", "https://127.0.0.1:80/d.ts", None),
    ] {
        assert_eq!(resolve(base, uri, address).as_deref(), target, "{base} {uri}");
    }
}
