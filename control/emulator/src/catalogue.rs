//! The catalogue of scenarios, in tables. A row carries its number, which stands
//! in content ids and never changes: a new row takes a free one.

mod hls;
mod http_level;
mod life;
mod mid_stream;
mod session;
mod start_up;
mod ts_level;

use std::time::Duration;

use crate::{
    BadJson, Behaviour, Cut, Damage, Delivery, End,
    behaviour::{Accept, Body, Framing, Head, Lookup, Ready, Start, StartAnswer, Stop, Urls},
    scenario::{Parameter, Parameters},
};

use Parameter::{At, Choice, Count, Rate, Time};

/// One scenario of the catalogue.
pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) build: fn(Parameters) -> Behaviour,
}

const fn row(
    number: u8,
    name: &'static str,
    parameters: &'static [Parameter],
    build: fn(Parameters) -> Behaviour,
) -> Row {
    Row { number, name, parameters, build }
}

const BAD_JSON: [&str; BadJson::ALL.len()] = names(&BadJson::ALL);

/// The names of a list of kinds, for [`Choice`].
const fn names<T, const N: usize>(all: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut i = 0;
    while i < N {
        names[i] = all[i].0;
        i += 1;
    }
    names
}

const HOSTS: [&str; 4] = ["inner", "localhost", "wrong-port", "stranger"];
const TEXTS: [&str; 3] = ["html", "json", "m3u8"];
const HTML: &str = "<html><head><title>Error</title></head><body>Not available</body></html>\n";
const JSON: &str = "{\"response\": null, \"error\": \"unknown playback session id\"}";
const M3U8: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:5.0,\n/ace/c/0.ts\n";

fn healthy() -> Behaviour {
    Behaviour::default()
}

fn start(delay: Option<Duration>, answer: StartAnswer) -> Behaviour {
    Behaviour { start: Start { delay, answer, ..Start::default() }, ..healthy() }
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

fn cut(at: crate::At, end: End) -> Behaviour {
    delivery(Delivery { cut: Some(Cut { at, end }), ..Delivery::default() })
}

fn damage(damage: Damage) -> Behaviour {
    Behaviour { damage, ..healthy() }
}

fn accept(accept: Accept) -> Behaviour {
    Behaviour { accept, ..healthy() }
}

/// All tables, in the order of numbers.
static TABLES: &[&[Row]] = &[
    FIRST,
    start_up::ROWS,
    mid_stream::ROWS,
    ts_level::ROWS,
    http_level::ROWS,
    session::ROWS,
    hls::ROWS,
    life::ROWS,
];

/// Every row, in the order of numbers.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().copied().flatten()
}

/// What is played where no row says otherwise.
pub(crate) static HEALTHY: &Row = &FIRST[0];

/// The row with this number, if there is one.
pub(crate) fn row_of(number: u8) -> Option<&'static Row> {
    rows().find(|row| row.number == number)
}

/// The row with this name, if there is one.
pub(crate) fn row_named(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}

/// Rows 0 to 37.
static FIRST: &[Row] = &[
    row(0, "healthy-live", &[], |_| healthy()),
    row(1, "healthy-bitrate", &[Rate], |p| Behaviour { content: Some(p.content(0)), ..healthy() }),
    row(2, "shared-infohash", &[], |_| healthy()),
    row(3, "id-is-infohash", &[], |_| Behaviour { lookup: Lookup::OnlyInfohash, ..healthy() }),
    row(4, "internal-host", &[Choice(&HOSTS)], |p| Behaviour {
        urls: Urls::Fixed(p.choice(
            0,
            &["http://172.30.0.7:6878", "http://localhost", "http://127.0.0.1:1", "https://evil.example"],
        )),
        ..healthy()
    }),
    row(5, "slow-metadata", &[Time], |p| start(Some(p.time_or(0, 10)), StartAnswer::Session)),
    row(6, "slow-start", &[Time], |p| ready(Ready::HoldFor(p.time_or(0, 20)))),
    row(7, "slow-start-500", &[Time], |p| ready(Ready::ErrorsFor(p.time_or(0, 8)))),
    row(8, "warmup-empty", &[Count], |p| head(Head::EmptyFirst(p.count(0).max(1)))),
    row(9, "metadata-failure", &[Time], |p| {
        start(p.time_if_any(0), StartAnswer::Error("failed to load content"))
    }),
    row(10, "metadata-hang", &[], |_| start(None, StartAnswer::Hang)),
    row(11, "start-failure-after-metadata", &[], |_| ready(Ready::FailsAfter(Duration::from_secs(2)))),
    row(12, "missing-option", &[], |_| start(None, StartAnswer::MissingOption)),
    row(13, "bad-json", &[Choice(&BAD_JSON)], |p| {
        start(None, StartAnswer::Bad(p.choice(0, &BadJson::ALL).1))
    }),
    row(14, "stall", &[At, Time], |p| {
        delivery(Delivery { stall: Some((p.at(0), p.time_if_any(1))), ..Delivery::default() })
    }),
    row(15, "disconnect-fin", &[At], |p| cut(p.at(0), End::Fin)),
    row(16, "disconnect-rst", &[At], |p| cut(p.at(0), End::Reset)),
    row(17, "partial-packet-end", &[At], |p| cut(p.at(0), End::InPacket)),
    row(18, "unaligned-chunks", &[], |_| delivery(Delivery { odd_writes: true, ..Delivery::default() })),
    row(19, "starts-mid-packet", &[], |_| damage(Damage { skip: 100, ..Damage::default() })),
    row(20, "garbage", &[Count], |p| damage(Damage { garbage: p.count(0).min(4096), ..Damage::default() })),
    row(21, "burst-then-quiet", &[Time, Time], |p| {
        delivery(Delivery { burst: Some(p.time_or(0, 300)), quiet: p.time_or(1, 270), ..Delivery::default() })
    }),
    row(22, "slow-trickle", &[Count, Time], |p| {
        delivery(Delivery { trickle: Some((p.count(0).max(1), p.time(1))), ..Delivery::default() })
    }),
    row(23, "text-body", &[Choice(&TEXTS)], |p| Behaviour {
        body: Body::Text(p.choice(0, &[HTML, JSON, M3U8])),
        ..healthy()
    }),
    row(24, "redirect-held", &[], |_| Behaviour { redirect_held: true, ..healthy() }),
    row(25, "double-status", &[], |_| head(Head::DoubleStatus)),
    row(26, "huge-headers-lines", &[Count], |p| head(Head::ManyLines(p.count(0).min(100_000)))),
    row(27, "huge-headers-line", &[Count], |p| head(Head::LongLine(p.count(0).min(1 << 20)))),
    row(28, "header-trickle", &[Time], |p| head(Head::Trickle(p.time(0)))),
    row(29, "framing-chunked", &[Count, Count], |p| Behaviour {
        framing: Framing::Chunked { size: p.count(0).clamp(1, 1 << 20), adorned: p.count(1) != 0 },
        ..healthy()
    }),
    row(30, "framing-close", &[], |_| healthy()),
    row(31, "http-500-all", &[], |_| Behaviour { all_500: true, ..healthy() }),
    row(32, "refuse", &[], |_| accept(Accept::Refuse)),
    row(33, "rst-on-accept", &[], |_| accept(Accept::Reset)),
    row(34, "hang-accept", &[], |_| accept(Accept::Hang)),
    row(35, "api-ok-media-hang", &[], |_| Behaviour {
        ready: Ready::Never,
        ..start(None, StartAnswer::Hang)
    }),
    row(36, "stop-hang", &[Time], |p| Behaviour { stop: Stop::Hang(p.time_or(0, 10)), ..healthy() }),
    row(37, "stop-500", &[], |_| Behaviour { stop: Stop::Error, ..healthy() }),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_rise_and_names_differ() {
        assert!(rows().zip(rows().skip(1)).all(|(a, b)| a.number < b.number));
        assert_eq!(rows().map(|r| r.name).collect::<BTreeSet<_>>().len(), rows().count());
        // Ids that are written down somewhere must not change their meaning.
        for (number, name) in [
            (0, "healthy-live"),
            (14, "stall"),
            (30, "framing-close"),
            (37, "stop-500"),
            (79, "tei-scrambled"),
        ] {
            assert_eq!(row_of(number).map(|r| r.name), Some(name));
        }
        assert!(row_of(255).is_none());
    }
}
