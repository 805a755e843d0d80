//! What is remembered of contents: which ones have failed of late and are not
//! tried again yet, and which ones are found by the other kind of id.
//!
//! Failures that any engine would have met are counted, with a half-life. After
//! each session that came to nothing the content rests, twice as long each
//! time; where nearly all of many attempts failed, it rests much longer. The
//! first session after a rest is the test: while it runs, everybody else who
//! asks waits in it.

use std::{collections::HashMap, time::Duration};

use millrace_boundary::{BlockedContent, Cause, Monotonic};

use crate::stream::{ContentKey, Ended};

/// Contents remembered; of more, the one longest untouched is forgotten.
const MOST: usize = 4_096;
/// Counts halve in this time.
const HALF_LIFE: Duration = Duration::from_secs(300);
/// The first rest after a session that came to nothing.
const FIRST_REST: Duration = Duration::from_secs(5);
/// So many attempts, of which more than [`FAILED_SHARE`] failed, open the
/// breaker.
const LEAST_ATTEMPTS: f64 = 5.0;
const FAILED_SHARE: f64 = 0.8;
/// The breaker's first rest, and its longest.
const OPEN_REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug)]
struct Record {
    /// When it was last touched; the counts are as of then.
    at: Monotonic,
    attempts: f64,
    failures: f64,
    /// Sessions in a row that came to nothing.
    in_vain: u32,
    /// Times in a row that the breaker opened.
    opened: u32,
    rests_until: Monotonic,
    cause: Cause,
    is_swapped: bool,
}

/// Why a content is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resting {
    /// What it failed with last.
    pub(crate) cause: Cause,
    /// For how long yet.
    pub(crate) left: Duration,
}

impl From<Resting> for Ended {
    fn from(resting: Resting) -> Self {
        let seconds = resting.left.as_secs_f64().ceil();
        let last = resting.cause.as_str().replace('_', " ");
        let detail =
            format!("this content failed of late ({last}) and is tried again in {seconds} s at the soonest");
        Self { retry_after: Some(resting.left), ..Self::new(Cause::ContentBlocked, detail) }
    }
}

/// The contents a shard owns, as far as they are worth remembering.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    contents: HashMap<ContentKey, Record>,
}

impl Memory {
    /// Whether the content may be tried now.
    ///
    /// # Errors
    /// With what it failed with, and how long it rests yet.
    pub(crate) fn admit(&self, key: &ContentKey, now: Monotonic) -> Result<(), Resting> {
        match self.contents.get(key) {
            Some(record) if now < record.rests_until => {
                Err(Resting { cause: record.cause, left: record.rests_until.since(now) })
            }
            _ => Ok(()),
        }
    }

    /// One engine could not start it.
    pub(crate) fn attempt_failed(&mut self, key: &ContentKey, cause: Cause, now: Monotonic) {
        if !cause.blames_content() && !self.contents.contains_key(key) {
            return;
        }
        let record = self.record(key, now);
        record.attempts += 1.0;
        if cause.blames_content() {
            record.failures += 1.0;
            record.cause = cause;
        }
    }

    /// It plays.
    pub(crate) fn started(&mut self, key: &ContentKey, now: Monotonic) {
        if let Some(record) = self.contents.get(key) {
            if record.is_swapped {
                let is_swapped = true;
                *self.record(key, now) = Record { is_swapped, ..Record::new(now) };
            } else {
                self.contents.remove(key);
            }
        }
    }

    /// A session of it has ended without a picture.
    pub(crate) fn gave_up(&mut self, key: &ContentKey, cause: Cause, now: Monotonic) {
        if !cause.blames_content() {
            return;
        }
        let record = self.record(key, now);
        record.cause = cause;
        // The end is an attempt as well where no engine has failed by itself.
        record.attempts = record.attempts.max(1.0);
        record.failures = record.failures.max(1.0);
        let mut rest = doubled(FIRST_REST, record.in_vain);
        record.in_vain += 1;
        if record.attempts >= LEAST_ATTEMPTS && record.failures > record.attempts * FAILED_SHARE {
            rest = rest.max(doubled(OPEN_REST, record.opened));
            record.opened += 1;
        }
        record.rests_until = now + rest;
    }

    /// The content is found by the other kind of id.
    pub(crate) fn swap(&mut self, key: &ContentKey) {
        let record = self.record(key, Monotonic::now());
        record.is_swapped = !record.is_swapped;
    }

    /// Whether that is so.
    pub(crate) fn is_swapped(&self, key: &ContentKey) -> bool {
        self.contents.get(key).is_some_and(|record| record.is_swapped)
    }

    /// Contents that rest now, at most `most`.
    pub(crate) fn resting(&self, most: usize, now: Monotonic) -> Vec<BlockedContent> {
        let resting = self.contents.iter().filter(|(_, record)| now < record.rests_until);
        resting
            .take(most)
            .map(|(key, record)| BlockedContent {
                key: key.display(),
                cause: record.cause,
                seconds_left: record.rests_until.since(now).as_secs_f64(),
                failed_sessions: record.in_vain,
            })
            .collect()
    }

    /// Lets a content, or all of them, be tried again.
    pub(crate) fn forgive(&mut self, key: Option<&str>) {
        match key {
            Some(key) => self.contents.retain(|k, _| k.as_str() != key && k.display() != key),
            None => self.contents.clear(),
        }
    }

    fn record(&mut self, key: &ContentKey, now: Monotonic) -> &mut Record {
        if self.contents.len() >= MOST && !self.contents.contains_key(key) {
            let oldest = self.contents.iter().min_by_key(|(_, record)| record.at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.contents.remove(&key));
        }
        let record = self.contents.entry(key.clone()).or_insert_with(|| Record::new(now));
        let halves = now.since(record.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        record.attempts *= 0.5f64.powf(halves);
        record.failures *= 0.5f64.powf(halves);
        record.at = now;
        // Long left alone, it begins anew.
        if now.since(record.rests_until) > LONGEST_REST {
            (record.in_vain, record.opened) = (0, 0);
        }
        record
    }
}

impl Record {
    fn new(now: Monotonic) -> Self {
        Self {
            at: now,
            attempts: 0.0,
            failures: 0.0,
            in_vain: 0,
            opened: 0,
            rests_until: now,
            cause: Cause::ContentUnavailable,
            is_swapped: false,
        }
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Monotonic {
        Monotonic(Duration::from_secs(10_000 + second))
    }

    fn key(n: u32) -> ContentKey {
        ContentKey::infohash(&format!("{n:040x}"))
    }

    /// Seconds of rest after a session that failed at `second`.
    fn fail(memory: &mut Memory, cause: Cause, attempts: u32, second: u64) -> Option<u64> {
        (0..attempts).for_each(|_| memory.attempt_failed(&key(1), cause, at(second)));
        memory.gave_up(&key(1), cause, at(second));
        memory.admit(&key(1), at(second)).err().map(|resting| resting.left.as_secs())
    }

    #[test]
    fn a_content_rests_longer_each_time_and_much_longer_once_the_breaker_opens() {
        let mut memory = Memory::default();
        let dead = Cause::ContentUnavailable;
        assert_eq!(fail(&mut memory, dead, 2, 0), Some(5));
        assert_eq!(memory.admit(&key(1), at(6)), Ok(()), "half-open");
        assert_eq!(fail(&mut memory, dead, 2, 6), Some(10));
        assert_eq!(fail(&mut memory, dead, 2, 20), Some(30), "the sixth attempt of six that failed");
        assert_eq!(fail(&mut memory, dead, 2, 60), Some(60));
        assert_eq!(fail(&mut memory, dead, 2, 130), Some(120));
        for lap in 0..20 {
            let rest = fail(&mut memory, dead, 2, 300 + lap * 901);
            assert!(rest <= Some(900), "{rest:?}");
        }
    }

    #[test]
    fn only_what_any_engine_would_have_met_counts() {
        let mut memory = Memory::default();
        for &cause in Cause::ALL.iter().filter(|cause| !cause.blames_content()) {
            assert_eq!(fail(&mut memory, cause, 9, 0), None, "{cause:?}");
        }
        assert!(memory.contents.is_empty());
        assert_eq!(fail(&mut memory, Cause::NoPeers, 1, 0), Some(5));
        // Engines that broke dilute the blame.
        (0..8).for_each(|_| memory.attempt_failed(&key(1), Cause::EngineReset, at(10)));
        assert_eq!(fail(&mut memory, Cause::NoPeers, 3, 10), Some(10), "the breaker stays closed");
    }

    #[test]
    fn a_picture_forgives_all_and_the_kind_of_id_is_kept() {
        let mut memory = Memory::default();
        memory.swap(&key(1));
        fail(&mut memory, Cause::NoPeers, 9, 0);
        memory.started(&key(1), at(40));
        assert_eq!(memory.admit(&key(1), at(40)), Ok(()));
        assert!(memory.is_swapped(&key(1)));
        assert_eq!(fail(&mut memory, Cause::NoPeers, 1, 50), Some(5));
        assert_eq!(memory.resting(9, at(50)).len(), 1);
        memory.forgive(Some(key(1).as_str()));
        assert_eq!(memory.admit(&key(1), at(50)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::default();
        for n in 0..10_000 {
            memory.gave_up(&key(n), Cause::NoPeers, at(u64::from(n)));
        }
        assert_eq!(memory.contents.len(), MOST);
        assert!(memory.contents.contains_key(&key(9_999)) && !memory.contents.contains_key(&key(0)));
    }
}
