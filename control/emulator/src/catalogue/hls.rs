//! Rows 160 to 189: HLS.

use super::{Choice, Count, Row, Time, healthy, names, row};
use crate::{
    Behaviour,
    behaviour::{HlsFault, Missing, NotReady, OddList, Sequence},
};

const NOT_READY: [&str; NotReady::ALL.len()] = names(&NotReady::ALL);
const MISSING: [&str; Missing::ALL.len()] = names(&Missing::ALL);
const SEQUENCES: [&str; Sequence::ALL.len()] = names(&Sequence::ALL);
const LISTS: [&str; OddList::ALL.len()] = names(&OddList::ALL);
const MARKS: [&str; 2] = ["tagged", "untagged"];

fn hls(hls: HlsFault) -> Behaviour {
    Behaviour { hls, ..healthy() }
}

pub(super) static ROWS: &[Row] = &[
    row(160, "healthy-hls", &[], |_| healthy()),
    row(161, "hls-not-ready", &[Choice(&NOT_READY), Time], |p| {
        let kind = p.choice(0, &NotReady::ALL).1;
        hls(HlsFault::NotReady(kind, p.time_or(1, 10)))
    }),
    row(162, "hls-missing-segments", &[Choice(&MISSING), Count], |p| {
        hls(HlsFault::Missing { kind: p.choice(0, &Missing::ALL).1, every: p.count_or(1, 10) })
    }),
    row(163, "hls-short-segment", &[Count], |p| hls(HlsFault::Short(p.count_or(0, 4)))),
    row(164, "hls-slow-segment", &[Count], |p| hls(HlsFault::Slow(p.count_or(0, 150).min(10_000)))),
    row(165, "hls-discontinuity", &[Choice(&MARKS), Count], |p| {
        hls(HlsFault::Discontinuity { tagged: p.choice(0, &MARKS) == "tagged", every: p.count_or(1, 3) })
    }),
    row(166, "hls-sequence", &[Choice(&SEQUENCES), Time], |p| {
        let from = p.time_or(1, 20);
        hls(HlsFault::Sequence(p.choice(0, &Sequence::ALL).1, from))
    }),
    row(167, "hls-403", &[Time], |p| hls(HlsFault::Forbidden(p.time_or(0, 10)))),
    row(168, "hls-500-after-stop", &[], |_| healthy()),
    row(169, "hls-master", &[], |_| hls(HlsFault::Master)),
    row(170, "hls-odd-list", &[Choice(&LISTS)], |p| hls(HlsFault::OddList(p.choice(0, &OddList::ALL).1))),
    row(171, "hls-no-idr", &[], |_| hls(HlsFault::NoIdr)),
    row(172, "hls-loop", &[Time, Time], |p| {
        hls(HlsFault::Loop { from: p.time_or(0, 30), lap: p.time_or(1, 60) })
    }),
    row(173, "hls-idle-expiry", &[], |_| hls(HlsFault::IdleExpiry)),
];
