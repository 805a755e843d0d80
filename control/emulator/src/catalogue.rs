//! The catalogue of scenarios. A row's place is its number in content ids, so
//! new rows go to the end.

use std::time::Duration;

use crate::{
    Content,
    behaviour::{
        Accept, BadJson, Behaviour, Body, Cut, Damage, Delivery, Framing, Head, Lookup, Ready, Start,
        StartAnswer, Stop, Urls,
    },
    scenario::{Parameter, Parameters},
};

use Parameter::{At, Choice, Count, Time};

/// One scenario of the catalogue.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) build: fn(Parameters) -> Behaviour,
}

const fn row(
    name: &'static str,
    parameters: &'static [Parameter],
    build: fn(Parameters) -> Behaviour,
) -> Row {
    Row { name, parameters, build }
}

const BAD_JSON: [&str; BadJson::ALL.len()] = {
    let mut names = [""; BadJson::ALL.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = BadJson::ALL[i].0;
        i += 1;
    }
    names
};
const HOSTS: [&str; 4] = ["inner", "localhost", "wrong-port", "stranger"];
const TEXTS: [&str; 3] = ["html", "json", "m3u8"];
const HTML: &str = "<html><head><title>Error</title></head><body>Not available</body></html>\n";
const JSON: &str = "{\"response\": null, \"error\": \"unknown playback session id\"}";
const M3U8: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:5.0,\n/ace/c/0.ts\n";

fn healthy() -> Behaviour {
    Behaviour::default()
}

fn start(delay: Option<Duration>, answer: StartAnswer) -> Behaviour {
    Behaviour { start: Start { delay, answer }, ..healthy() }
}

fn ready(ready: Ready) -> Behaviour {
    Behaviour { ready, ..healthy() }
}

fn head(head: Head) -> Behaviour {
    Behaviour { head, ..healthy() }
}

fn delivery(delivery: Delivery) -> Behaviour {
    Behaviour { delivery, ..healthy() }
}

fn cut(at: crate::behaviour::At, reset: bool, in_packet: bool) -> Behaviour {
    delivery(Delivery { cut: Some(Cut { at, reset, in_packet }), ..Delivery::default() })
}

fn damage(damage: Damage) -> Behaviour {
    Behaviour { damage, ..healthy() }
}

fn accept(accept: Accept) -> Behaviour {
    Behaviour { accept, ..healthy() }
}

pub(crate) static CATALOGUE: &[Row] = &[
    row("healthy-live", &[], |_| healthy()),
    row("healthy-bitrate", &[Count], |p| Behaviour {
        content: Some(Content::Signed { bitrate_bps: p.count(0) }),
        ..healthy()
    }),
    row("shared-infohash", &[], |_| healthy()),
    row("id-is-infohash", &[], |_| Behaviour { lookup: Lookup::OnlyInfohash, ..healthy() }),
    row("internal-host", &[Choice(&HOSTS)], |p| Behaviour {
        urls: Urls::Fixed(p.choice(
            0,
            &["http://172.30.0.7:6878", "http://localhost", "http://127.0.0.1:1", "https://evil.example"],
        )),
        ..healthy()
    }),
    row("slow-metadata", &[Time], |p| start(Some(p.time(0)), StartAnswer::Session)),
    row("slow-start", &[Time], |p| ready(Ready::HoldFor(p.time(0)))),
    row("slow-start-500", &[Time], |p| ready(Ready::ErrorsFor(p.time(0)))),
    row("warmup-empty", &[Count], |p| head(Head::EmptyFirst(p.count(0)))),
    row("metadata-failure", &[Time], |p| {
        start(p.time_if_any(0), StartAnswer::Error("failed to load content"))
    }),
    row("metadata-hang", &[], |_| start(None, StartAnswer::Hang)),
    row("start-failure-after-metadata", &[], |_| ready(Ready::FailsAfter(Duration::from_secs(2)))),
    row("missing-option", &[], |_| start(None, StartAnswer::MissingOption)),
    row("bad-json", &[Choice(&BAD_JSON)], |p| start(None, StartAnswer::Bad(p.choice(0, &BadJson::ALL).1))),
    row("stall", &[At, Time], |p| {
        delivery(Delivery { stall: Some((p.at(0), p.time_if_any(1))), ..Delivery::default() })
    }),
    row("disconnect-fin", &[At], |p| cut(p.at(0), false, false)),
    row("disconnect-rst", &[At], |p| cut(p.at(0), true, false)),
    row("partial-packet-end", &[At], |p| cut(p.at(0), false, true)),
    row("unaligned-chunks", &[], |_| delivery(Delivery { odd_writes: true, ..Delivery::default() })),
    row("starts-mid-packet", &[], |_| damage(Damage { skip: 100, ..Damage::default() })),
    row("garbage", &[Count], |p| damage(Damage { garbage: p.count(0).min(4096), ..Damage::default() })),
    row("burst-then-quiet", &[Time, Time], |p| {
        delivery(Delivery { burst: Some(p.time(0)), quiet: p.time(1), ..Delivery::default() })
    }),
    row("slow-trickle", &[Count, Time], |p| {
        delivery(Delivery { trickle: Some((p.count(0).max(1), p.time(1))), ..Delivery::default() })
    }),
    row("text-body", &[Choice(&TEXTS)], |p| Behaviour {
        body: Body::Text(p.choice(0, &[HTML, JSON, M3U8])),
        ..healthy()
    }),
    row("redirect-held", &[], |_| Behaviour { redirect_held: true, ..healthy() }),
    row("double-status", &[], |_| head(Head::DoubleStatus)),
    row("huge-headers-lines", &[Count], |p| head(Head::ManyLines(p.count(0).min(100_000)))),
    row("huge-headers-line", &[Count], |p| head(Head::LongLine(p.count(0).min(1 << 20)))),
    row("header-trickle", &[Time], |p| head(Head::Trickle(p.time(0)))),
    row("framing-chunked", &[Count, Count], |p| Behaviour {
        framing: Framing::Chunked { size: p.count(0).clamp(1, 1 << 20), adorned: p.count(1) != 0 },
        ..healthy()
    }),
    row("framing-close", &[], |_| healthy()),
    row("http-500-all", &[], |_| Behaviour { all_500: true, ..healthy() }),
    row("refuse", &[], |_| accept(Accept::Refuse)),
    row("rst-on-accept", &[], |_| accept(Accept::Reset)),
    row("hang-accept", &[], |_| accept(Accept::Hang)),
    row("api-ok-media-hang", &[], |_| Behaviour { ready: Ready::Never, ..start(None, StartAnswer::Hang) }),
    row("stop-hang", &[Time], |p| Behaviour { stop: Stop::Hang(p.time(0)), ..healthy() }),
    row("stop-500", &[], |_| Behaviour { stop: Stop::Error, ..healthy() }),
];
