//! When to ask for the list.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::MediaList;

/// Between two requests for the list there is as much at least: the shortest
/// target duration there is, and an engine makes lists in Python.
const LEAST: Duration = Duration::from_secs(1);
/// And as much at most: engines end sessions whose list nobody asks for.
const MOST: Duration = Duration::from_secs(10);
/// The target duration while none was told: it asks once a second.
const PACE_AT_START: Duration = Duration::from_secs(2);
/// The longest target duration that patience is measured by.
const PACE_MOST: Duration = Duration::from_secs(30);

/// Keeps the pace of requests.
///
/// Source: RFC 8216 §6.3.4: a target duration after the last request began
/// where the list had changed, else half of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poll {
    asked: Option<Duration>,
    wait: Duration,
    /// Target duration of the latest list.
    pace: Duration,
    /// Tells whether a list is the one before.
    fingerprint: u64,
    /// Whether the latest list had more that is new than there was room for.
    pub(super) has_more: bool,
}

impl Poll {
    pub(super) const fn new() -> Self {
        Self { asked: None, wait: LEAST, pace: PACE_AT_START, fingerprint: 0, has_more: false }
    }

    /// A list came of the request that began at `asked`.
    pub(super) fn listed(&mut self, list: &MediaList, asked: Duration) {
        let mut hasher = DefaultHasher::new();
        (list.sequence, list.is_ended).hash(&mut hasher);
        list.segments.iter().for_each(|s| s.uri.hash(&mut hasher));
        let fingerprint = hasher.finish();
        // One without segments is of an engine that is not ready.
        let has_changed = fingerprint != self.fingerprint && !list.segments.is_empty();
        self.fingerprint = fingerprint;
        self.pace = list.target;
        self.wait_from(asked, if has_changed { self.pace } else { self.pace / 2 });
    }

    /// None did.
    pub(super) fn not_listed(&mut self, asked: Duration) {
        self.wait_from(asked, self.pace / 2);
    }

    fn wait_from(&mut self, asked: Duration, wait: Duration) {
        self.asked = Some(asked);
        self.wait = wait.clamp(LEAST, MOST);
    }

    /// When the next request is due; as soon as may be where there is room for
    /// more of the list.
    pub(super) fn at(&self, has_room: bool) -> Duration {
        let wait = if self.has_more && has_room { LEAST } else { self.wait };
        self.asked.map_or(Duration::ZERO, |asked| asked.saturating_add(wait))
    }

    /// The target duration, as far as it is believed: at most 30 s.
    pub(super) fn pace(&self) -> Duration {
        self.pace.min(PACE_MOST)
    }
}
