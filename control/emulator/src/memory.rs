//! What an engine remembers of sessions and readers that are over.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::session::Session;

/// Sessions and readers, of each kind.
const MAX_REMEMBERED: usize = 1024;
const MAX_CONTENTS: usize = 65_536;

/// Bounded: the oldest goes first.
#[derive(Default)]
pub(crate) struct Memory {
    /// When the catalogue was first found down, since the scenario was set.
    down_since: Option<Instant>,
    /// Infohash and key of sessions that another player has ended.
    replaced: VecDeque<(String, String)>,
    /// Sessions of each infohash that a rival has ended.
    rivals: BTreeMap<String, u32>,
    /// Infohash and key of readers that have ended, and when.
    left: VecDeque<(String, String, Instant)>,
}

fn push<T>(all: &mut VecDeque<T>, it: T) {
    if all.len() == MAX_REMEMBERED {
        all.pop_front();
    }
    all.push_back(it);
}

impl Memory {
    /// For how long the catalogue has been found down, from now on if it was not.
    pub(crate) fn catalogue_down_for(&mut self, now: Instant) -> Duration {
        now - *self.down_since.get_or_insert(now)
    }

    pub(crate) fn forget_catalogue(&mut self) {
        self.down_since = None;
    }

    /// Another player ends `session`.
    pub(crate) fn replaced(&mut self, session: &Session) {
        push(&mut self.replaced, (session.infohash.clone(), session.key.clone()));
    }

    /// Whether another player has ended this session.
    pub(crate) fn is_replaced(&self, infohash: &str, key: &str) -> bool {
        self.replaced.iter().any(|(other, by)| other == infohash && by == key)
    }

    /// The player has a session of the content again.
    pub(crate) fn admit(&mut self, infohash: &str, key: &str) {
        self.replaced.retain(|(other, by)| other != infohash || by != key);
    }

    /// A rival has taken a session of `infohash` over.
    pub(crate) fn rival_came(&mut self, infohash: &str) {
        if self.rivals.len() < MAX_CONTENTS || self.rivals.contains_key(infohash) {
            *self.rivals.entry(infohash.to_owned()).or_default() += 1;
        }
    }

    /// How often a rival has.
    pub(crate) fn rivals(&self, infohash: &str) -> u32 {
        self.rivals.get(infohash).copied().unwrap_or(0)
    }

    /// The reader of a session has ended.
    pub(crate) fn leave(&mut self, infohash: &str, key: &str, now: Instant) {
        push(&mut self.left, (infohash.to_owned(), key.to_owned(), now));
    }

    /// Whether a reader of this player and content has ended within `time`.
    pub(crate) fn has_left(&self, infohash: &str, key: &str, time: Duration, now: Instant) -> bool {
        self.left.iter().any(|(other, by, at)| other == infohash && by == key && now - *at < time)
    }
}
