//! Rows 120 to 139: the HTTP level.

use super::{Choice, Count, Row, accept, healthy, names, row};
use crate::{
    Behaviour,
    behaviour::{Accept, ContentType, Framing, Odd, Redirect, Wire},
};

const ODD: [&str; Odd::ALL.len()] = names(&Odd::ALL);
const STATUSES: [(&str, Redirect); 4] = [
    ("301", Redirect::Status("301 Moved Permanently")),
    ("303", Redirect::Status("303 See Other")),
    ("307", Redirect::Status("307 Temporary Redirect")),
    ("308", Redirect::Status("308 Permanent Redirect")),
];
const STATUS: [&str; STATUSES.len()] = names(&STATUSES);
/// Lengths that are no length of a stream.
const LENGTHS: [(&str, &str); 4] = [
    ("huge", "9223372036854775807"),
    ("overflow", "18446744073709551616"),
    ("negative", "-1"),
    ("text", "many"),
];
const LENGTH: [&str; LENGTHS.len()] = names(&LENGTHS);
const TYPES: [(&str, ContentType); 3] = [
    ("octet-stream", ContentType::Other("application/octet-stream")),
    ("none", ContentType::None),
    ("html", ContentType::Other("text/html; charset=utf-8")),
];
const TYPE: [&str; TYPES.len()] = names(&TYPES);

fn wire(wire: Wire) -> Behaviour {
    Behaviour { wire, ..healthy() }
}

fn redirect(redirect: Redirect) -> Behaviour {
    wire(Wire { redirect, ..Wire::default() })
}

pub(super) static ROWS: &[Row] = &[
    row(120, "redirect-normal", &[], |_| healthy()),
    row(121, "redirect-relative", &[], |_| redirect(Redirect::Relative)),
    row(122, "redirect-loop", &[], |_| redirect(Redirect::Loop)),
    row(123, "redirect-off-host", &[], |_| redirect(Redirect::OffHost)),
    row(124, "redirect-status", &[Choice(&STATUS)], |p| redirect(p.choice(0, &STATUSES).1)),
    row(125, "odd-http", &[Choice(&ODD)], |p| {
        let odd = p.choice(0, &Odd::ALL).1;
        let framing = match odd {
            Odd::LengthAndChunks => Framing::Chunked { size: 65_536, adorned: false },
            _ => Framing::Close,
        };
        Behaviour { framing, ..wire(Wire { odd: Some(odd), ..Wire::default() }) }
    }),
    row(126, "framing-length", &[Choice(&LENGTH)], |p| Behaviour {
        framing: Framing::Length(p.choice(0, &LENGTHS).1),
        ..healthy()
    }),
    row(127, "gzip-anyway", &[], |_| wire(Wire { gzips: true, ..Wire::default() })),
    row(128, "content-type", &[Choice(&TYPE)], |p| {
        wire(Wire { content_type: p.choice(0, &TYPES).1, ..Wire::default() })
    }),
    row(129, "http-500-rate", &[Count], |p| {
        wire(Wire { error_percent: p.count_or(0, 30).min(100), ..Wire::default() })
    }),
    row(130, "hang-backlog", &[], |_| accept(Accept::Backlog)),
    row(131, "api-hang-media-ok", &[], |_| wire(Wire { api_hangs: true, ..Wire::default() })),
    row(132, "thread-exhaustion", &[Count], |p| {
        wire(Wire { most_served: Some(p.count_or(0, 10)), ..Wire::default() })
    }),
    row(133, "keepalive-close", &[], |_| wire(Wire { closes_idle: true, ..Wire::default() })),
];
