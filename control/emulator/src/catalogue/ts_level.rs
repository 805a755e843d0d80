//! What can be wrong with the transport stream itself: rows 69 to 79.

use std::time::Duration;

use super::{Row, damage, healthy, row};
use crate::{
    Behaviour, Damage, Edit, Every, Loss,
    scenario::{Parameter, Parameters},
    signed::{ClockJump, TableChange},
};

use Parameter::{Choice, Count, Time};

/// From fault to fault, in seconds, where the scenario does not say.
const EVERY: u64 = 20;
/// Of repetitions, in bytes: what a stream may have to keep.
const MOST_REPEATED: u32 = 4 << 20;

const JUMPS: [&str; 6] = ["forward", "back", "wrap", "forward-signalled", "back-signalled", "wrap-signalled"];
const TABLES: [&str; 4] = ["all", "version", "pids", "codec"];
const MARKS: [&str; 3] = ["both", "tei", "scrambled"];

fn edited(edit: Edit) -> Behaviour {
    Behaviour { edit, ..healthy() }
}

fn pts_jump(p: Parameters) -> Behaviour {
    use ClockJump::{Back, Forward, Wrap};
    let all = [Forward, Back, Wrap].map(|to| (to, false));
    let signalled = [Forward, Back, Wrap].map(|to| (to, true));
    let (to, signalled) = p.choice(0, &[all, signalled].concat());
    edited(Edit::ClockJump { to, signalled, every: p.time_or(1, EVERY) })
}

fn pmt_change(p: Parameters) -> Behaviour {
    use TableChange::{All, Codec, Pids, Version};
    let change = p.choice(0, &[All, Version, Pids, Codec]);
    edited(Edit::Tables { change, every: p.time_or(1, EVERY) })
}

fn tei_scrambled(p: Parameters) -> Behaviour {
    let (error, scrambled) = p.choice(0, &[(true, true), (true, false), (false, true)]);
    edited(Edit::Marked { error, scrambled, one_in: p.count_or(1, 10) })
}

pub(super) static ROWS: &[Row] = &[
    // So many bytes without sync; how often.
    row(69, "lost-sync-run", &[Count, Time], |p| {
        let noise = Every { bytes: p.count_or(0, 65_536).min(MOST_REPEATED), time: p.time_or(1, EVERY) };
        damage(Damage { noise: Some(noise), ..Damage::default() })
    }),
    // One packet in so many is lost, and so many in a row.
    row(70, "cc-errors", &[Count, Count], |p| {
        let loss = Loss { one_in: p.count_or(0, 10_000), burst: p.count_or(1, 1) };
        damage(Damage { loss: Some(loss), ..Damage::default() })
    }),
    // So many bytes come twice; how often.
    row(71, "dup-packets", &[Count, Time], |p| {
        let repeat = Every { bytes: p.count_or(0, 1 << 20).min(MOST_REPEATED), time: p.time_or(1, EVERY) };
        damage(Damage { repeat: Some(repeat), ..Damage::default() })
    }),
    row(72, "pts-jump", &[Choice(&JUMPS), Time], pts_jump),
    // For how long there is no PCR; how often.
    row(73, "pcr-missing", &[Time, Time], |p| {
        edited(Edit::PcrMissing { lasting: p.time_or(0, 5), every: p.time_or(1, EVERY) })
    }),
    row(74, "pcr-jitter", &[Time], |p| {
        edited(Edit::PcrJitter(p.time_if_any(0).unwrap_or(Duration::from_millis(50))))
    }),
    row(75, "late-psi", &[Time], |p| {
        damage(Damage { late_tables: Some(p.time_or(0, 3)), ..Damage::default() })
    }),
    row(76, "pmt-change", &[Choice(&TABLES), Time], pmt_change),
    row(77, "late-idr", &[Time], |p| edited(Edit::LongGroups(p.time_or(0, 10)))),
    // Percent of null packets, to the next that one to 99 for each other give.
    row(78, "null-flood", &[Count], |p| {
        let others = 100 - p.count_or(0, 90).min(99);
        let nulls = u8::try_from(100u32.div_ceil(others) - 1).unwrap_or(u8::MAX);
        damage(Damage { nulls, ..Damage::default() })
    }),
    row(79, "tei-scrambled", &[Choice(&MARKS), Count], tei_scrambled),
];
