//! Healthy variants, and what can go wrong until a stream begins: rows 38 to 53.

use std::time::Duration;

use super::{Row, healthy, ready, row, start};
use crate::{
    Behaviour, Edit,
    behaviour::{Lookup, Ready, Start, StartAnswer, Swarm},
    scenario::{Parameter, Parameters},
};

use Parameter::{Count, Time};

/// An answer that needs no look-up comes after this.
const AT_ONCE: Duration = Duration::from_millis(300);

fn edited(edit: Edit) -> Behaviour {
    Behaviour { edit, ..healthy() }
}

fn starved(swarm: Swarm) -> Behaviour {
    Behaviour { swarm, ..ready(Ready::Never) }
}

fn late_success(p: Parameters) -> Behaviour {
    let start = Start { delay: Some(p.time_or(0, 20)), answer: StartAnswer::Session, outlives_client: true };
    Behaviour { start, ..healthy() }
}

pub(super) static ROWS: &[Row] = &[
    row(38, "healthy-vod", &[Time], |p| Behaviour { vod: Some(p.time_or(0, 60)), ..healthy() }),
    row(39, "audio-only", &[], |_| edited(Edit::AudioOnly)),
    row(40, "no-audio", &[], |_| edited(Edit::NoAudio)),
    row(41, "two-programs", &[], |_| edited(Edit::TwoPrograms)),
    row(42, "no-session-urls", &[], |_| Behaviour { direct: true, ..healthy() }),
    // How long a look-up takes to fail; when it works again, zero for never.
    row(43, "catalogue-down", &[Time, Time], |p| Behaviour {
        lookup: Lookup::Down { after: p.time_or(0, 45), cured: p.time_if_any(1) },
        ..healthy()
    }),
    row(44, "late-success", &[Time], late_success),
    row(45, "no-peers", &[], |_| starved(Swarm::Empty)),
    row(46, "peers-no-data", &[], |_| starved(Swarm::Useless)),
    row(47, "mod-detected", &[], |_| start(Some(AT_ONCE), StartAnswer::Error("mod_detected"))),
    // How many starts of a content are superseded on an engine.
    row(48, "superseded", &[Count], |p| start(None, StartAnswer::SupersededFirst(p.count_or(0, 1)))),
    row(49, "encrypted", &[], |_| Behaviour { encrypted: true, ..healthy() }),
    row(50, "json-ignored", &[], |_| start(None, StartAnswer::Redirect)),
    row(51, "transcode-broken", &[Time], |p| Behaviour {
        transcode_timeout: Some(p.time_or(0, 7)),
        ..healthy()
    }),
    // Starts take so long, so that two of them meet.
    row(52, "double-start-race", &[Time], |p| start(Some(p.time_or(0, 2)), StartAnswer::Session)),
    row(53, "start-limit", &[Count], |p| Behaviour { max_contents: Some(p.count_or(0, 2)), ..healthy() }),
];
