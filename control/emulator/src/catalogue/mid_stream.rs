//! What can go wrong once a stream runs: rows 54 to 68.

use std::time::Duration;

use super::{Row, cut, damage, delivery, healthy, row};
use crate::{
    Behaviour, Cut, Damage, Delivery, Edit, End, Gaps, Leap, Pace, Profile, Rival, Timeline,
    behaviour::Framing,
    scenario::{Parameter, Parameters},
};

use Parameter::{At, Choice, Count, Factor, Time};

const CHUNK_ENDS: [&str; 2] = ["no-end", "bad-size"];
const UNMATCHED: [&str; 3] = ["both", "counters", "padding"];

fn pace(pace: Pace) -> Behaviour {
    delivery(Delivery { pace, ..Delivery::default() })
}

fn timeline(timeline: Timeline) -> Behaviour {
    damage(Damage { timeline, ..Damage::default() })
}

fn disconnect_chunk(p: Parameters) -> Behaviour {
    let end = p.choice(1, &[End::NoLastChunk, End::BadChunk]);
    let delivery = Delivery { cut: Some(Cut { at: p.at_or(0, 10), end }), ..Delivery::default() };
    Behaviour { framing: Framing::Chunked { size: 65_536, adorned: false }, delivery, ..healthy() }
}

fn unmatched(p: Parameters) -> Behaviour {
    let (counters, padding) = p.choice(0, &[(true, true), (true, false), (false, true)]);
    Behaviour { edit: Edit::Unmatched { variant: 0, counters, padding }, ..healthy() }
}

fn session_replaced(p: Parameters) -> Behaviour {
    let rival = p.time_if_any(0).map(|after| Rival { after, times: p.count_or(1, 1) });
    Behaviour { profile: Some(Profile::V3_2_3), rival, ..healthy() }
}

pub(super) static ROWS: &[Row] = &[
    // From silence to silence, 20 s; how long each is, zero for 1 to 5 s.
    row(54, "micro-stalls", &[Time, Time], |p| {
        let gaps = Some(Gaps { every: p.time_or(0, 20), lasting: p.time_if_any(1) });
        delivery(Delivery { gaps, ..Delivery::default() })
    }),
    // When the silence comes, 20 s; how long it is, zero for 30 to 80 s.
    row(55, "long-gap-recover", &[Time, Time], |p| {
        let leap = Some(Leap { after: p.time_or(0, 20), lasting: p.time_if_any(1) });
        delivery(Delivery { leap, ..Delivery::default() })
    }),
    // How long each step of the decay takes.
    row(56, "starve-decay", &[Time], |p| pace(Pace::Decay { step: p.time_or(0, 60) })),
    row(57, "wrong-bitrate", &[Factor], |p| {
        let thousandths = p.count(0);
        pace(Pace::Factor((thousandths != 0).then_some(thousandths)))
    }),
    row(58, "disconnect-chunk", &[At, Choice(&CHUNK_ENDS)], disconnect_chunk),
    row(59, "session-expired", &[At], |p| cut(p.at_or(0, 10), End::Expired)),
    row(60, "old-pid-leftovers", &[Time], |p| Behaviour { leftovers: Some(p.time_or(0, 60)), ..healthy() }),
    // When a rival of its own comes, zero for none; how many times.
    row(61, "session-replaced", &[Time, Count], session_replaced),
    row(62, "stop-kills-sibling", &[], |_| Behaviour { profile: Some(Profile::V3_2_11), ..healthy() }),
    row(63, "loop-content", &[Time], |p| timeline(Timeline::Loop { lap: p.time_or(0, 60) })),
    // From beginning to beginning, 60 s; the gap, 5 s.
    row(64, "source-restart", &[Time, Time], |p| {
        timeline(Timeline::Restart { every: p.time_or(0, 60), gap: p.time_or(1, 5) })
    }),
    row(65, "edge-shift", &[Time], |p| Behaviour { lag: Some(p.time(0)), ..healthy() }),
    row(66, "jitter", &[Time], |p| {
        let jitter = p.time_if_any(0).unwrap_or(Duration::from_millis(400));
        delivery(Delivery { jitter: Some(jitter), ..Delivery::default() })
    }),
    row(67, "no-read-tolerance", &[Time], |p| Behaviour { no_read: Some(p.time_or(0, 30)), ..healthy() }),
    row(68, "unmatched", &[Choice(&UNMATCHED)], unmatched),
];
