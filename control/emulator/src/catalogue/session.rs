//! Rows 140 to 159: stat, commands and events.

use super::{At, Choice, Row, Time, delivery, healthy, names, row};
use crate::{
    Behaviour, Cut, Delivery, End,
    behaviour::{Events, StatFault, StatTypes, Stop},
};

const TYPES: [&str; StatTypes::ALL.len()] = names(&StatTypes::ALL);
const EVENTS: [&str; Events::ALL.len()] = names(&Events::ALL);
const LIES: [&str; 2] = ["rosy", "bleak"];

fn stat(stat: StatFault) -> Behaviour {
    Behaviour { stat, ..healthy() }
}

pub(super) static ROWS: &[Row] = &[
    row(140, "stat-empty", &[Time], |p| stat(StatFault::EmptyFor(p.time_or(0, 2)))),
    row(141, "stat-types", &[Choice(&TYPES)], |p| stat(StatFault::Types(p.choice(0, &StatTypes::ALL).1))),
    // The second parameter is where a rosy stat's bytes stop: zero, before the first.
    row(142, "stat-lies", &[Choice(&LIES), At], |p| match p.choice(0, &LIES) {
        "bleak" => stat(StatFault::Bleak),
        _ => {
            let stall = Delivery { stall: Some((p.at(1), None)), ..Delivery::default() };
            Behaviour { stat: StatFault::Rosy, ..delivery(stall) }
        }
    }),
    row(143, "stat-back-step", &[Time], |p| stat(StatFault::BackStep(p.time_or(0, 10)))),
    row(144, "livepos-frozen", &[], |_| stat(StatFault::LiveposFrozen)),
    row(145, "livepos-absent", &[], |_| stat(StatFault::LiveposAbsent)),
    row(146, "livepos-skewed", &[Time], |p| stat(StatFault::LiveposAhead(p.time_or(0, 3600)))),
    row(147, "stat-hang", &[], |_| stat(StatFault::Hang)),
    row(148, "stat-500", &[], |_| stat(StatFault::Error)),
    row(149, "stat-slow", &[Time], |p| stat(StatFault::Slow(p.time_or(0, 3)))),
    row(150, "stat-gone", &[Time, Time], |p| {
        let (after, lasting) = (p.time(0), p.time_or(1, 5));
        let at = crate::At::Time(after + lasting);
        let cut = Some(Cut { at, end: End::Fin });
        Behaviour {
            stat: StatFault::Gone { after, lasting },
            ..delivery(Delivery { cut, ..Delivery::default() })
        }
    }),
    row(151, "stop-ok", &[], |_| healthy()),
    row(152, "stop-unknown", &[], |_| Behaviour { stop: Stop::Unknown, ..healthy() }),
    row(153, "stop-late", &[Time], |p| Behaviour { stop: Stop::Late(p.time_or(0, 3)), ..healthy() }),
    row(154, "event-poll", &[Choice(&EVENTS)], |p| Behaviour {
        events: p.choice(0, &Events::ALL).1,
        ..healthy()
    }),
];
