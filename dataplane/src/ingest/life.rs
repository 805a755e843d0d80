//! The life of a stream: when to try, when to give up, when to let go.
//!
//! ```text
//!            ┌──────────── Unwatched ───────────┐
//!   Starting ◀──────────── Watched ──────────── StartingUnwatched
//!      │ Bytes                                        │ Bytes
//!      ▼                                              ▼
//!     Live  ◀──────────── Watched ──────────── Lingering
//!      └──────────────── Unwatched ───────────▶
//!   any ── budget or silence over, source ended, attempts used up, let go, drain ──▶ Ended
//! ```
//!
//! - Starting, StartingUnwatched: engines are being asked; over at the budget.
//! - Live: bytes flow; over when they stop for the silence limit.
//! - Lingering: as Live, without viewers; over when nobody returned in time.
//! - Ended: for good; a new request makes a new session.

use std::time::Duration;

use millrace_boundary::{Cause, Monotonic, StreamState};

/// Engines asked for one session, at most.
pub(super) const MAX_ENGINES: u8 = 3;
/// Engines asked for a content that the first ones do not find.
const MAX_ENGINES_FOR_CONTENT: u8 = 2;

/// Limits of a life, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) start_budget: Duration,
    pub(super) linger: Duration,
    pub(super) silence: Duration,
}

/// What happens to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody watches or waits.
    Watched,
    /// Nobody does any more.
    Unwatched,
    /// Playable bytes came.
    Bytes,
    /// One engine could not start the content.
    AttemptFailed(Cause),
    /// The running stream broke off.
    SourceEnded(Cause),
    /// Time passed.
    Tick,
    /// Nobody was there to be let go, and nobody can enter any more.
    Closed,
    /// The server is ending.
    Drain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Ask another engine.
    TryNext,
    /// Close the door if still nobody is there, and say so with `Closed`.
    LetGo,
    /// Stop whatever runs; the session is over.
    End(Cause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting { since: Monotonic },
    StartingUnwatched { since: Monotonic, empty: Monotonic },
    Live { heard: Monotonic },
    Lingering { heard: Monotonic, empty: Monotonic },
    Ended,
}

/// One stream's life.
#[derive(Debug)]
pub(super) struct Life {
    limits: Limits,
    state: State,
    attempts: u8,
}

impl Life {
    /// Begins with somebody waiting.
    pub(super) fn new(limits: Limits, now: Monotonic) -> Self {
        Self { limits, state: State::Starting { since: now }, attempts: 1 }
    }

    /// The state for people; `None` once it has ended.
    pub(super) fn state(&self) -> Option<StreamState> {
        match self.state {
            State::Starting { .. } | State::StartingUnwatched { .. } => Some(StreamState::Starting),
            State::Live { .. } => Some(StreamState::Live),
            State::Lingering { .. } => Some(StreamState::Lingering),
            State::Ended => None,
        }
    }

    /// When the start has to have succeeded.
    pub(super) fn start_deadline(&self) -> Option<Monotonic> {
        match self.state {
            State::Starting { since } | State::StartingUnwatched { since, .. } => {
                Some(since + self.limits.start_budget)
            }
            State::Live { .. } | State::Lingering { .. } | State::Ended => None,
        }
    }

    /// Moves on and names what must now be done; does no I/O itself.
    pub(super) fn on(&mut self, event: Event, now: Monotonic) -> Option<Effect> {
        let limits = self.limits;
        let over = |since: Monotonic, limit: Duration| now.since(since) >= limit;
        let end = |cause| (State::Ended, Some(Effect::End(cause)));
        let (next, effect) = match (self.state, event) {
            (State::Ended, _) => (State::Ended, None),
            (_, Event::Drain) => end(Cause::ShuttingDown),

            (State::Starting { since }, Event::Unwatched) => {
                (State::StartingUnwatched { since, empty: now }, None)
            }
            (State::StartingUnwatched { since, .. }, Event::Watched) => (State::Starting { since }, None),
            (State::Starting { .. }, Event::Bytes) => (State::Live { heard: now }, None),
            (State::StartingUnwatched { empty, .. }, Event::Bytes) => {
                (State::Lingering { heard: now, empty }, None)
            }
            (State::Starting { since } | State::StartingUnwatched { since, .. }, Event::Tick)
                if over(since, limits.start_budget) =>
            {
                end(Cause::StartTimeout)
            }
            (State::StartingUnwatched { empty, .. } | State::Lingering { empty, .. }, Event::Tick)
                if over(empty, limits.linger) =>
            {
                (self.state, Some(Effect::LetGo))
            }
            (State::StartingUnwatched { .. } | State::Lingering { .. }, Event::Closed) => {
                end(Cause::ViewersLeft)
            }
            // The budget may be noticed by the attempt that it cut short.
            (State::Starting { since } | State::StartingUnwatched { since, .. }, Event::AttemptFailed(_))
                if over(since, limits.start_budget) =>
            {
                end(Cause::StartTimeout)
            }
            (State::Starting { .. } | State::StartingUnwatched { .. }, Event::AttemptFailed(cause)) => {
                if self.another(cause) {
                    self.attempts += 1;
                    (self.state, Some(Effect::TryNext))
                } else {
                    end(cause)
                }
            }
            (State::Starting { .. } | State::StartingUnwatched { .. }, Event::SourceEnded(cause)) => {
                end(cause)
            }

            (State::Live { heard }, Event::Unwatched) => (State::Lingering { heard, empty: now }, None),
            (State::Lingering { heard, .. }, Event::Watched) => (State::Live { heard }, None),
            (State::Live { .. }, Event::Bytes) => (State::Live { heard: now }, None),
            (State::Lingering { empty, .. }, Event::Bytes) => (State::Lingering { heard: now, empty }, None),
            (State::Live { heard } | State::Lingering { heard, .. }, Event::Tick)
                if over(heard, limits.silence) =>
            {
                end(Cause::Stalled)
            }
            (
                State::Live { .. } | State::Lingering { .. },
                Event::SourceEnded(cause) | Event::AttemptFailed(cause),
            ) => end(cause),

            (State::Starting { .. }, Event::Watched | Event::Tick | Event::Closed)
            | (State::StartingUnwatched { .. }, Event::Unwatched | Event::Tick)
            | (State::Live { .. }, Event::Watched | Event::Tick | Event::Closed)
            | (State::Lingering { .. }, Event::Unwatched | Event::Tick) => (self.state, None),
        };
        self.state = next;
        effect
    }

    /// Whether another engine may do better after `cause`.
    fn another(&self, cause: Cause) -> bool {
        match cause {
            Cause::EngineUnreachable
            | Cause::EngineSilent
            | Cause::EngineError
            | Cause::StartFailed
            | Cause::NotTransportStream
            | Cause::EngineClosed
            | Cause::EngineReset => self.attempts < MAX_ENGINES,
            Cause::ContentUnavailable => self.attempts < MAX_ENGINES_FOR_CONTENT,
            Cause::ViewersLeft
            | Cause::ShuttingDown
            | Cause::Merged
            | Cause::NoEngine
            | Cause::EnginesFull
            | Cause::AtCapacity
            | Cause::ContentRestricted
            | Cause::StartTimeout
            | Cause::Stalled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        start_budget: Duration::from_secs(30),
        linger: Duration::from_secs(15),
        silence: Duration::from_secs(60),
    };

    fn run(script: &[(u64, Event)]) -> (Option<StreamState>, Vec<Effect>) {
        let at = |s| Monotonic(Duration::from_secs(1_000 + s));
        let mut life = Life::new(LIMITS, at(0));
        let mut effects = Vec::new();
        for &(second, event) in script {
            match life.on(event, at(second)) {
                Some(Effect::LetGo) => effects.extend(life.on(Event::Closed, at(second))),
                effect => effects.extend(effect),
            }
        }
        (life.state(), effects)
    }

    #[test]
    fn each_life_ends_as_it_must() {
        use Event::{AttemptFailed, Bytes, Closed, Drain, SourceEnded, Tick, Unwatched, Watched};
        let silent = Cause::EngineSilent;
        for (name, script, state, effects) in [
            ("plays", vec![(1, Bytes), (2, Tick)], Some(StreamState::Live), vec![]),
            ("budget", vec![(29, Tick), (30, Tick)], None, vec![Effect::End(Cause::StartTimeout)]),
            (
                "budget holds across attempts",
                vec![(20, AttemptFailed(silent)), (30, Tick)],
                None,
                vec![Effect::TryNext, Effect::End(Cause::StartTimeout)],
            ),
            (
                "no engine is tried after the budget",
                vec![(30, AttemptFailed(silent))],
                None,
                vec![Effect::End(Cause::StartTimeout)],
            ),
            (
                "three engines at most",
                vec![(1, AttemptFailed(silent)), (2, AttemptFailed(silent)), (3, AttemptFailed(silent))],
                None,
                vec![Effect::TryNext, Effect::TryNext, Effect::End(silent)],
            ),
            (
                "two engines agree that it does not exist",
                vec![
                    (1, AttemptFailed(Cause::ContentUnavailable)),
                    (2, AttemptFailed(Cause::ContentUnavailable)),
                ],
                None,
                vec![Effect::TryNext, Effect::End(Cause::ContentUnavailable)],
            ),
            (
                "no engine is final",
                vec![(1, AttemptFailed(Cause::NoEngine))],
                None,
                vec![Effect::End(Cause::NoEngine)],
            ),
            (
                "linger",
                vec![(1, Bytes), (2, Unwatched), (16, Tick), (17, Tick)],
                None,
                vec![Effect::End(Cause::ViewersLeft)],
            ),
            (
                "one returns in time",
                vec![(1, Bytes), (2, Unwatched), (16, Watched), (17, Tick)],
                Some(StreamState::Live),
                vec![],
            ),
            (
                "bytes while lingering do not prolong it",
                vec![(1, Bytes), (2, Unwatched), (16, Bytes), (17, Tick)],
                None,
                vec![Effect::End(Cause::ViewersLeft)],
            ),
            (
                "everybody leaves during the start",
                vec![(1, Unwatched), (16, Tick)],
                None,
                vec![Effect::End(Cause::ViewersLeft)],
            ),
            (
                "and one returns before the first byte",
                vec![(1, Unwatched), (3, Watched), (4, Bytes), (20, Tick)],
                Some(StreamState::Live),
                vec![],
            ),
            (
                "bytes come while nobody waits",
                vec![(1, Unwatched), (3, Bytes), (15, Tick), (16, Tick)],
                None,
                vec![Effect::End(Cause::ViewersLeft)],
            ),
            ("silence", vec![(1, Bytes), (60, Tick), (61, Tick)], None, vec![Effect::End(Cause::Stalled)]),
            (
                "the source ends",
                vec![(1, Bytes), (2, SourceEnded(Cause::EngineClosed)), (3, Tick)],
                None,
                vec![Effect::End(Cause::EngineClosed)],
            ),
            (
                "nobody is let go while somebody watches",
                vec![(1, Bytes), (20, Closed)],
                Some(StreamState::Live),
                vec![],
            ),
            ("drain", vec![(1, Bytes), (2, Drain), (3, Drain)], None, vec![Effect::End(Cause::ShuttingDown)]),
        ] {
            assert_eq!(run(&script), (state, effects), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_life_ends_once_and_stays_ended(steps: Vec<(u8, u8)>) {
            let mut now = 0;
            let script: Vec<_> = steps.iter().map(|(wait, kind)| {
                now += u64::from(*wait) / 8;
                let event = match kind % 9 {
                    0 => Event::Watched,
                    1 => Event::Unwatched,
                    2 | 3 => Event::Bytes,
                    4 => Event::AttemptFailed(Cause::ALL[usize::from(*kind) % Cause::ALL.len()]),
                    5 => Event::SourceEnded(Cause::EngineReset),
                    6 if *kind > 250 => Event::Drain,
                    _ => Event::Tick,
                };
                (now, event)
            }).collect();
            let (state, effects) = run(&script);
            let ends = effects.iter().filter(|e| matches!(e, Effect::End(_))).count();
            assert_eq!(ends, usize::from(state.is_none()));
            let tries = effects.iter().filter(|e| matches!(e, Effect::TryNext)).count();
            assert!(tries < usize::from(MAX_ENGINES));
        }
    }
}
