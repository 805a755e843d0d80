//! How many streams an engine really bears, learned from streams that end when
//! others begin: some engines end the oldest session without a word.

use std::time::Duration;

use millrace_boundary::{Cause, EngineEvidence, Monotonic};

/// Times in a row that a stream ended while another began until that counts:
/// once is chance.
const TIMES: u32 = 2;
/// By so much the news of an end and of a beginning may be out of order.
const SLACK: Duration = Duration::from_secs(1);
/// After this the engine is tried with one stream more, and twice as long after
/// each trial that ended a stream again.
const TRIAL_AFTER: Duration = Duration::from_secs(600);
/// The longest of those times.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

/// What is known of one engine's capacity.
#[derive(Debug, Default)]
pub(crate) struct Crowding {
    /// When a stream last ended that the engine closed.
    closed: Option<Monotonic>,
    times: u32,
    learned: Option<Learned>,
    /// Until the next trial; kept when all it is said to bear is tried.
    pause: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    most: u32,
    trial_at: Monotonic,
}

impl Crowding {
    /// Streams that it bears, where that was learned.
    pub(crate) fn most(&self) -> Option<u32> {
        self.learned.map(|learned| learned.most)
    }

    /// A shard used the engine, of which `taken` slots are taken now. Says
    /// whether [`Self::most`] has changed.
    pub(crate) fn used(&mut self, evidence: EngineEvidence, taken: u32, now: Monotonic) -> bool {
        match evidence {
            EngineEvidence::Broke(Cause::EngineClosed) => {
                self.closed = Some(now);
                false
            }
            EngineEvidence::Started(took) => self.started(took, taken, now),
            EngineEvidence::Broke(_) | EngineEvidence::StartFailed(_) => false,
        }
    }

    fn started(&mut self, took: Duration, taken: u32, now: Monotonic) -> bool {
        let crowded_out = self.closed.take().is_some_and(|at| now.since(at) <= took + SLACK);
        if !crowded_out {
            // As many as this play side by side.
            if self.learned.is_none_or(|learned| taken > learned.most) {
                self.times = 0;
            }
            return false;
        }
        self.times += 1;
        // Having learned it once, one time is enough.
        if self.times < TIMES && self.learned.is_none() {
            return false;
        }
        let pause = self.pause.map_or(TRIAL_AFTER, |pause| (pause * 2).min(LONGEST));
        self.pause = Some(pause);
        let most = taken.max(1);
        let before = self.most();
        self.learned = Some(Learned { most, trial_at: now + pause });
        before != Some(most)
    }

    /// Time passed; `configured` is the capacity it is said to have. Says
    /// whether [`Self::most`] has changed.
    pub(crate) fn tick(&mut self, configured: u32, now: Monotonic) -> bool {
        let Some(learned) = self.learned.as_mut().filter(|learned| learned.trial_at <= now) else {
            return false;
        };
        learned.most += 1;
        learned.trial_at = now + self.pause.unwrap_or(TRIAL_AFTER);
        if learned.most >= configured {
            self.learned = None;
            self.times = TIMES - 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: EngineEvidence = EngineEvidence::Broke(Cause::EngineClosed);
    const STARTED: EngineEvidence = EngineEvidence::Started(Duration::from_secs(2));

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(10_000 + seconds))
    }

    #[test]
    fn streams_that_end_when_others_begin_teach_the_capacity() {
        let reset = EngineEvidence::Broke(Cause::EngineReset);
        for (name, news, most) in [
            ("nothing", &[][..], None),
            ("starts that end nobody", &[(0, STARTED, 1), (5, STARTED, 2), (9, STARTED, 3)], None),
            ("once is chance", &[(0, CLOSED, 2), (1, STARTED, 2)], None),
            ("twice is not", &[(0, CLOSED, 2), (1, STARTED, 2), (9, CLOSED, 2), (10, STARTED, 2)], Some(2)),
            (
                "a start between that ends nobody",
                &[(0, CLOSED, 2), (1, STARTED, 2), (5, STARTED, 3), (9, CLOSED, 2), (10, STARTED, 2)],
                None,
            ),
            (
                "long before the start",
                &[(0, CLOSED, 2), (4, STARTED, 2), (9, CLOSED, 2), (13, STARTED, 2)],
                None,
            ),
            ("broken otherwise", &[(0, reset, 2), (1, STARTED, 2), (9, reset, 2), (10, STARTED, 2)], None),
            (
                "one stream at a time",
                &[(0, CLOSED, 0), (1, STARTED, 0), (9, CLOSED, 0), (10, STARTED, 0)],
                Some(1),
            ),
        ] {
            let mut crowding = Crowding::default();
            let changes = news.iter().filter(|(s, it, taken)| crowding.used(*it, *taken, at(*s))).count();
            assert_eq!((crowding.most(), changes), (most, usize::from(most.is_some())), "{name}");
        }
    }

    #[test]
    fn one_stream_too_many_is_tried_ever_later_as_well() {
        let mut crowding = Crowding::default();
        let teach = |crowding: &mut Crowding, now| {
            crowding.used(CLOSED, 2, at(now));
            crowding.used(STARTED, 2, at(now + 1))
        };
        teach(&mut crowding, 0);
        assert!(teach(&mut crowding, 10));
        let mut now = 11;
        for pause in [600, 1_200, 2_400] {
            assert!(!crowding.tick(3, at(now + pause - 1)));
            assert!(crowding.tick(3, at(now + pause)));
            assert_eq!(crowding.most(), None, "all that it is said to bear");
            assert!(teach(&mut crowding, now + pause), "once is enough");
            now += pause + 1;
        }
    }

    #[test]
    fn a_capacity_learned_is_tried_again_and_ever_later() {
        let mut crowding = Crowding::default();
        for second in [0, 10] {
            crowding.used(CLOSED, 2, at(second));
            crowding.used(STARTED, 2, at(second + 1));
        }
        let mut now = 11;
        for pause in [600, 1_200, 2_400] {
            assert!(!crowding.tick(4, at(now + pause - 1)));
            assert!(crowding.tick(4, at(now + pause)));
            assert_eq!(crowding.most(), Some(3), "tried with one more");
            crowding.used(CLOSED, 2, at(now + pause + 1));
            assert!(crowding.used(STARTED, 2, at(now + pause + 2)), "which ended one again");
            assert_eq!(crowding.most(), Some(2));
            now += pause + 2;
        }
        // Well again: one more each time, up to what it is said to bear.
        assert!(crowding.tick(4, at(now + 4_800)));
        crowding.used(STARTED, 3, at(now + 4_900));
        assert!(crowding.tick(4, at(now + 9_600)));
        assert_eq!(crowding.most(), None);
    }
}
