//! Creating is given up for a while when it keeps failing.
//!
//! ```text
//!            failures within the window            pause over, one begins
//!   Closed ─────────────────────────────▶ Open ───────────────────────────▶ Trial
//!     ▲                                    ▲                                  │
//!     │                                    └──── it fails: pause doubled ─────┤
//!     └───────────────────────────────────────── it works ────────────────────┘
//! ```
//!
//! An open breaker whose pause is over is what others call half-open. A trial
//! of which nothing is heard gives way to another one after [`TRIAL_LONGEST`].

use std::{collections::VecDeque, time::Duration};

use millrace_boundary::Monotonic;
use serde::Serialize;

use super::policy::BreakerPolicy;

/// Longer than any creation with its boot takes; whoever began it is gone.
const TRIAL_LONGEST: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Monotonic },
    Trial { since: Monotonic },
}

/// How it stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BreakerState {
    /// Engines are created as needed.
    Closed,
    /// None is created.
    Open,
    /// One may be created, or is being created, and decides.
    HalfOpen,
}

/// The breaker as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerLook {
    /// How it stands.
    pub(crate) state: BreakerState,
    /// Failures that count, at most [`BreakerPolicy::MOST_FAILURES`].
    pub(crate) failures: usize,
    /// While open: when one will be let through.
    pub(crate) until: Option<Monotonic>,
}

/// What may be created now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// As many as wanted.
    All,
    /// One, to see.
    One,
    /// None before this.
    NoneUntil(Monotonic),
    /// None until it is known how the one before went.
    NoneDuringTrial,
}

/// Failures of late and what follows from them.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    failed: VecDeque<Monotonic>,
    /// How often in a row it opened.
    openings: u32,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self { state: State::Closed, failed: VecDeque::new(), openings: 0 }
    }

    /// What may be created now.
    pub(super) fn leave(&self, now: Monotonic) -> Leave {
        match self.state {
            State::Closed => Leave::All,
            State::Open { until } if now < until => Leave::NoneUntil(until),
            State::Trial { since } if now.since(since) < TRIAL_LONGEST => Leave::NoneDuringTrial,
            State::Open { .. } | State::Trial { .. } => Leave::One,
        }
    }

    /// At least one creation began, after [`Self::leave`] allowed it.
    pub(super) fn began(&mut self, now: Monotonic) {
        if self.state != State::Closed {
            self.state = State::Trial { since: now };
        }
    }

    /// A creation has ended. News of one that began before the breaker opened
    /// changes nothing; during a trial it is taken for the trial's.
    pub(super) fn ended(&mut self, worked: bool, policy: &BreakerPolicy, now: Monotonic) {
        if !worked {
            self.failed.push_back(now);
        }
        self.forget(policy, now);
        match (self.state, worked) {
            (State::Open { .. }, _) => {}
            (State::Closed, true) => {
                // One for one: where most work, failures never add up.
                self.failed.pop_front();
            }
            (State::Closed, false) => {
                if self.failed.len() >= threshold(policy) {
                    self.open(policy, now);
                }
            }
            (State::Trial { .. }, true) => self.reset(),
            (State::Trial { .. }, false) => self.open(policy, now),
        }
    }

    /// Closes it and forgets all failures.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(super) fn look(&self, policy: &BreakerPolicy, now: Monotonic) -> BreakerLook {
        let (state, until) = match (self.state, self.leave(now)) {
            (State::Closed, _) => (BreakerState::Closed, None),
            (_, Leave::NoneUntil(until)) => (BreakerState::Open, Some(until)),
            (State::Open { .. } | State::Trial { .. }, _) => (BreakerState::HalfOpen, None),
        };
        let failures = self.failed.iter().filter(|at| now.since(**at) < policy.window).count();
        BreakerLook { state, failures, until }
    }

    fn open(&mut self, policy: &BreakerPolicy, now: Monotonic) {
        let pause = policy.pause_first.saturating_mul(1 << self.openings.min(16));
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open { until: now + pause.min(policy.pause_longest) };
    }

    fn forget(&mut self, policy: &BreakerPolicy, now: Monotonic) {
        let is_old = |at: &Monotonic| now.since(*at) >= policy.window;
        while self.failed.len() > threshold(policy) || self.failed.front().is_some_and(is_old) {
            self.failed.pop_front();
        }
    }
}

fn threshold(policy: &BreakerPolicy) -> usize {
    policy.failures.clamp(1, BreakerPolicy::MOST_FAILURES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(10_000 + seconds))
    }

    fn after(news: &[(u64, bool)]) -> Breaker {
        let mut breaker = Breaker::new();
        for (second, worked) in news {
            breaker.ended(*worked, &BreakerPolicy::default(), at(*second));
        }
        breaker
    }

    #[test]
    fn five_failures_within_the_window_open_it() {
        for (name, news, leave, failures) in [
            ("nothing", &[][..], Leave::All, 0),
            ("four", &[(0, false), (1, false), (2, false), (3, false)], Leave::All, 4),
            (
                "five",
                &[(0, false), (1, false), (2, false), (3, false), (4, false)],
                Leave::NoneUntil(at(34)),
                5,
            ),
            (
                "the first one too long ago",
                &[(0, false), (1, false), (2, false), (3, false), (600, false)],
                Leave::All,
                4,
            ),
            (
                "one that worked between makes up for one",
                &[(0, false), (1, false), (2, true), (3, false), (4, false), (5, false)],
                Leave::All,
                4,
            ),
            (
                "more failures than that all the same",
                &[(0, false), (1, false), (2, true), (3, false), (4, false), (5, false), (6, false)],
                Leave::NoneUntil(at(36)),
                5,
            ),
            (
                "late news does not lengthen the pause",
                &[(0, false), (1, false), (2, false), (3, false), (4, false), (20, false), (21, true)],
                Leave::NoneUntil(at(34)),
                5,
            ),
        ] {
            let breaker = after(news);
            let last = at(news.last().map_or(0, |(second, _)| *second));
            let look = breaker.look(&BreakerPolicy::default(), last);
            assert_eq!((breaker.leave(last), look.failures), (leave, failures), "{name}");
        }
    }

    #[test]
    fn one_trial_decides_and_each_that_fails_doubles_the_pause() {
        let policy = BreakerPolicy::default();
        let mut breaker = after(&[(0, false); 5]);
        let mut now = at(0);
        for pause in [30, 60, 120, 240, 300, 300] {
            let until = now + Duration::from_secs(pause);
            assert_eq!(breaker.leave(until - Duration::from_millis(1)), Leave::NoneUntil(until));
            assert_eq!(breaker.look(&policy, now).until, Some(until));
            assert_eq!(breaker.leave(until), Leave::One);
            assert_eq!(breaker.look(&policy, until).state, BreakerState::HalfOpen);
            breaker.began(until);
            assert_eq!(breaker.leave(until), Leave::NoneDuringTrial, "one, not two");
            now = until + Duration::from_secs(20);
            breaker.ended(false, &policy, now);
        }
        now = now + Duration::from_secs(300);
        breaker.began(now);
        breaker.ended(true, &policy, now);
        let closed = BreakerLook { state: BreakerState::Closed, failures: 0, until: None };
        assert_eq!((breaker.leave(now), breaker.look(&policy, now)), (Leave::All, closed));
        for _ in 0..5 {
            breaker.ended(false, &policy, now);
        }
        assert_eq!(
            breaker.leave(now),
            Leave::NoneUntil(now + Duration::from_secs(30)),
            "from the start again"
        );
    }

    #[test]
    fn a_trial_nobody_reports_gives_way_to_another() {
        let mut breaker = after(&[(0, false); 5]);
        breaker.began(at(30));
        assert_eq!(breaker.leave(at(209)), Leave::NoneDuringTrial);
        assert_eq!(breaker.leave(at(210)), Leave::One);
    }

    #[test]
    fn failures_without_end_take_no_memory() {
        let breaker = after(&[(0, false); 10_000]);
        assert_eq!(breaker.failed.len(), 5);
    }
}
