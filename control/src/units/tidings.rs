//! What units tell, in words.

use std::sync::Arc;

use super::{Units, fates::Ending, work::fault_of};
use crate::{
    fleet::docker::DockerError,
    journal::{Autopsy, Entry},
    unit::{Deed, Fault, Then, Tidings},
};

/// Every kind of deed.
const DEEDS: [Deed; 7] =
    [Deed::Make, Deed::Revive, Deed::Remake, Deed::Bury, Deed::Pause, Deed::Unpause, Deed::Dispose];

/// Deeds done since start, by kind and outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    done: [u64; DEEDS.len()],
    failed: [u64; DEEDS.len()],
}

impl Counts {
    pub(super) fn count(&mut self, deed: Deed, result: &Result<(), DockerError>) {
        let at = DEEDS.iter().position(|other| *other == deed).unwrap_or(0);
        match result {
            Ok(()) => self.done[at] += 1,
            // Not Docker's word on the deed.
            Err(error) if fault_of(error) == Fault::Daemon => {}
            Err(_) => self.failed[at] += 1,
        }
    }

    /// Each kind with how many were done, and how many failed.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Deed, u64, u64)> + '_ {
        DEEDS.into_iter().enumerate().map(|(at, deed)| (deed, self.done[at], self.failed[at]))
    }
}

/// How a container ended, for people: as Docker says, or else as was heard.
pub(super) fn how_it_ended(autopsy: Option<&Autopsy>, heard: Option<Ending>) -> String {
    let rumour = heard.map(|Ending { out_of_memory, exit_code }| Autopsy {
        out_of_memory,
        exit_code,
        ..Autopsy::default()
    });
    match autopsy.or(rumour.as_ref()) {
        Some(Autopsy { out_of_memory: true, exit_code, .. }) => {
            let code = exit_code.map_or(String::new(), |code| format!(" (status {code})"));
            format!("the kernel ended its container for its memory{code}")
        }
        Some(Autopsy { exit_code: Some(code), .. }) => format!("its container ended with status {code}"),
        Some(Autopsy { error: Some(error), .. }) => format!("its container ended: {error}"),
        Some(_) | None => "its container ended".to_owned(),
    }
}

impl Units {
    pub(super) fn tell(&mut self, place: usize, tidings: Tidings) {
        let unit = &mut self.list[place];
        let name = Arc::clone(&unit.name);
        let why = unit.leaving.map_or("", |why| why.as_str());
        let entry = match tidings {
            Tidings::Ready { took } => Entry::info(
                "engine_ready",
                format!("it takes streams {:.1} s after its start", took.as_secs_f64()),
            ),
            Tidings::Ails(ail) => Entry::warning("engine_ails", ail.as_str()),
            Tidings::Recovered => Entry::info("engine_recovered", "it is well again by itself"),
            Tidings::BootLimit(limit) => Entry::error(
                "engine_boot_limit",
                format!("it did not answer within {} s of its start", limit.as_secs()),
                "see its log at /api/v1/engines/{name}/logs; raise fleet.boot_limit if the host is slow",
            ),
            // Told with how it ended, once that is known.
            Tidings::Died => {
                unit.has_died = true;
                unit.died_as.clone_from(&unit.container);
                return;
            }
            Tidings::Vanished => {
                let heard = self.fates.take(unit.container.as_deref());
                let before = heard.map_or_else(String::new, |heard| {
                    format!("; before, {}", how_it_ended(None, Some(heard)))
                });
                Entry::warning("engine_vanished", format!("somebody has removed its container{before}"))
            }
            Tidings::Frozen => {
                Entry::warning("engine_frozen", "somebody has paused its container; it is woken")
            }
            Tidings::Mends(deed) => {
                let entry = match (deed, unit.leaving) {
                    (_, Some(why)) => format!("{} ({})", deed.as_str(), why.as_str()),
                    (_, None) => deed.as_str().to_owned(),
                };
                Entry::info("engine_mended", entry)
            }
            Tidings::Quarantined(pause) => Entry::error(
                "engine_quarantined",
                format!("it failed again and again, and is left alone for {} s", pause.as_secs()),
                "see the events engine_died and engine_boot_limit before this one for how its containers ended",
            ),
            Tidings::Drains(then) => {
                let what = match then {
                    Then::Restart => "then it is restarted",
                    Then::Remake => "then it is made anew",
                    Then::Remove => "then it is removed",
                    Then::Hold => "it stays so until it is undrained",
                };
                let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
                Entry::info("engine_drains", format!("its streams move, {what}{why}"))
            }
            Tidings::Forced { taken } => Entry::warning(
                "engine_not_empty",
                format!("{taken} streams could not move in time, and are moved as they break"),
            ),
            Tidings::Shelved => Entry::info("engine_paused", "it is kept paused until it is needed"),
            Tidings::Woken => Entry::info("engine_woken", "it is in use again"),
            Tidings::Left => Entry::info("engine_left", format!("it is removed ({why})")),
        };
        self.journal.write(entry.of(&name));
    }

    pub(super) fn tell_storm(&mut self, is_on: bool, ill: usize, all: usize) {
        if is_on {
            if !self.journal.is_open("engines_fail_together") {
                self.journal.open(
                    "engines_fail_together",
                    format!("{ill} of {all} engines ail, or many died within seconds: they share a cause"),
                    "look at what they share: their network or VPN, the host's memory and disk, the Docker daemon; \
                     they are mended one at a time meanwhile",
                );
            }
        } else {
            self.journal.close("engines_fail_together", "engines do not fail together any more");
        }
    }
}
