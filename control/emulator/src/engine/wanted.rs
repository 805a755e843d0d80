//! What is asked of an engine, and what it knows of it beforehand.

use std::time::Duration;

use tokio::time::Instant;

use super::State;
use crate::{Behaviour, Content, ContentId, Scenario, behaviour::Lookup};

const MAX_PIDS: usize = 65_536;
const MAX_KNOWN: usize = 65_536;

/// What a start asks for.
pub(crate) struct Wanted {
    pub(crate) asked: String,
    pub(crate) infohash: String,
    pub(crate) content: Content,
    pub(crate) behaviour: Behaviour,
    pub(crate) transcodes: bool,
}

impl State {
    /// What is played for an id or infohash, and how: what was set for the
    /// content, else what its code says, else what was set for the engine.
    pub(crate) fn wanted(&self, asked: &str, infohash: &str, default_content: Content) -> Wanted {
        let code = ContentId::decode(asked).or_else(|| ContentId::decode(infohash));
        let set = |id: &str| self.by_content.get(id).copied();
        let scenario = set(&asked.to_ascii_lowercase())
            .or_else(|| set(infohash))
            .or_else(|| code.map(|c| c.scenario()).filter(|s| *s != Scenario::healthy()))
            .or(self.scenario)
            .unwrap_or_default();
        let behaviour = scenario.behaviour();
        let content = behaviour.content.or(code.map(|c| c.content())).unwrap_or(default_content);
        Wanted {
            asked: asked.to_owned(),
            infohash: infohash.to_owned(),
            content,
            behaviour,
            transcodes: false,
        }
    }

    /// Notes that `infohash` was loaded; true when it was known before.
    pub(crate) fn learn(&mut self, infohash: &str, now: Instant) -> bool {
        if self.known.contains_key(infohash) {
            return true;
        }
        if self.known.len() < MAX_KNOWN {
            self.known.insert(infohash.to_owned(), now);
        }
        false
    }

    /// Whether `infohash` was loaded within the last ten minutes.
    pub(crate) fn is_fresh(&self, infohash: &str, now: Instant) -> bool {
        self.known.get(infohash).is_some_and(|&at| now - at < Duration::from_secs(600))
    }

    /// Counts what a start should not have done.
    pub(crate) fn judge_start(&mut self, pid: Option<&str>, key: &str, infohash: &str) {
        match pid {
            None => self.counters.misuse.missing_pid += 1,
            Some(pid) => {
                let number = crate::rng::number_of(pid);
                if self.pids.contains(&number) {
                    self.counters.misuse.repeated_pid += 1;
                } else if self.pids.len() < MAX_PIDS {
                    self.pids.insert(number);
                }
            }
        }
        let is_pending = self.pending.iter().any(|(other, by)| other == infohash && by != key);
        if is_pending || self.sessions.iter().any(|s| s.infohash == infohash && s.key != key) {
            self.counters.misuse.start_while_playing += 1;
        }
    }

    /// Whether the catalogue, of this behaviour, fails to find `infohash`.
    pub(crate) fn is_lost(&mut self, lookup: Lookup, infohash: &str, now: Instant) -> Option<Duration> {
        let Lookup::Down { after, cured } = lookup else { return None };
        if self.known.contains_key(infohash) {
            return None;
        }
        let down = self.memory.catalogue_down_for(now);
        cured.is_none_or(|cured| down < cured).then_some(after)
    }
}
