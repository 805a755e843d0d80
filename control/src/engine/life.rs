//! One engine's life, as a pure machine.
//!
//! ```text
//!               first good probe
//!     Booting ───────────────────▶ Ready ◀────────────────── a start works ─┐
//!                                  │   ▲                                    │
//!      probes fail, or offline and │   │ API: a good probe                  │
//!      a start failed, or starts   │   │ Offline: connected, or a start     │
//!      fail in a row               ▼   │ works                              │
//!                                 Degraded ── Starts: pause over ────────▶ Trial
//!                                      ▲                                    │
//!                                      └── anything that degrades Ready, or ┘
//!                                          one failed start: pause doubled
//!
//!                drain                    undrain, by what was heard meanwhile
//!     any state ───────▶ Draining ─────▶ Booting   it has never answered
//!                         │    ▲         Degraded  its API fails, or it is offline
//!                         └────┘         Trial     its starts failed in a row
//!                    anything else       Ready     nothing is held against it
//!
//!                     paused                woken, by what was heard before
//!     any but Draining ──────▶ Paused ─────▶ Ready or Trial   its last probe was good
//!                               │ ▲  │       Degraded         as after a drain
//!                               └─┘  │       Booting          else
//!                     anything else  └─────▶ Draining         drain; it boots anew
//!                                                             when that is undone
//! ```
//!
//! `Trial` is published as ready with room for one stream: the first start
//! after a pause decides, and not a whole fleet's worth of viewers. `Draining`
//! listens and counts like the others, but only an undrain ends it. `Paused` is
//! deaf: an engine that is stopped on purpose proves nothing.

use std::time::Duration;

use millrace_boundary::{EngineEvidence, EngineState, Monotonic};

use super::{
    blame::Blame,
    estimate::{Decaying, Smoothed},
    event::{Admission, Effect, Event, LastProbe, Why},
};
use crate::probe::{Answer, ProbeFailure};

/// Failed probes in a row that degrade: one may be a lost packet.
const PROBE_FAILURES: u32 = 2;
/// An engine that boots is probed again after this part of the time that it has
/// booted for, so that little is added to it.
const BOOT_PART: u32 = 8;
/// But not sooner than this.
const BOOT_PAUSE: Duration = Duration::from_millis(50);
/// Failed starts in a row that pause an engine whose API is fine.
const START_FAILURES: u32 = 3;
/// Streams that an engine without network counts as busier: as many as any may
/// play.
const OFFLINE: u32 = 20;
/// First pause of an engine whose starts fail.
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(10);
/// Longest pause: an engine repaired by hand is back within five minutes.
pub(super) const PAUSE_LONGEST: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Booting,
    Ready,
    Trial,
    Degraded(Ail),
    Draining,
    Paused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ail {
    Api,
    Offline,
    Starts { until: Monotonic },
}

impl State {
    const fn published(self) -> EngineState {
        match self {
            Self::Booting => EngineState::Booting,
            Self::Ready | Self::Trial => EngineState::Ready,
            Self::Degraded(_) => EngineState::Degraded,
            Self::Draining => EngineState::Draining,
            Self::Paused => EngineState::Paused,
        }
    }
}

/// Why an engine takes no streams although nobody asked for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// Its API does not answer.
    Api,
    /// It has no network by its own word, and starts fail.
    Offline,
    /// Starts fail in a row although its API answers.
    Starts,
}

/// One engine's life.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Life {
    state: State,
    since: Monotonic,
    last_probe: Option<LastProbe>,
    probe_failures: u32,
    start_failures: u32,
    failed_start_since_good_probe: bool,
    connected: Option<bool>,
    next_pause: Duration,
    /// No start has worked on it, and one has to.
    is_unproven: bool,
    lately_failed: Decaying,
    first_byte: Smoothed,
    version: Option<Box<str>>,
    platform: Option<Box<str>>,
}

impl Life {
    /// An engine just found.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self {
            state: State::Booting,
            since: now,
            last_probe: None,
            probe_failures: 0,
            start_failures: 0,
            failed_start_since_good_probe: false,
            connected: None,
            next_pause: PAUSE_FIRST,
            is_unproven: false,
            lately_failed: Decaying::default(),
            first_byte: Smoothed::default(),
            version: None,
            platform: None,
        }
    }

    /// The state that shards and people see.
    pub(crate) fn state(&self) -> EngineState {
        self.state.published()
    }

    /// When that state began.
    pub(crate) fn since(&self) -> Monotonic {
        self.since
    }

    /// Failures of late, decayed; at most 100.
    pub(crate) fn penalty(&self, now: Monotonic) -> u32 {
        self.lately_failed.rounded(now)
    }

    /// What is wrong with it, if it takes no streams for that.
    pub(crate) fn ail(&self) -> Option<Ailment> {
        match self.state {
            State::Degraded(Ail::Api) => Some(Ailment::Api),
            State::Degraded(Ail::Offline) => Some(Ailment::Offline),
            State::Degraded(Ail::Starts { .. }) => Some(Ailment::Starts),
            // Nothing else is told of one that is being emptied.
            State::Draining if self.failing_api().is_some() => Some(Ailment::Api),
            // A pause that is over cures nothing: only a start that works does.
            State::Trial if self.start_failures >= START_FAILURES => Some(Ailment::Starts),
            State::Booting | State::Ready | State::Trial | State::Draining | State::Paused => None,
        }
    }

    /// Its first start decides whether it takes more: its API alone proves little.
    pub(crate) fn put_on_trial(&mut self) {
        self.is_unproven = true;
    }

    /// By how many streams it counts as busier than it is: its failures of late,
    /// and more than any engine plays where it says that it has no network. Alone
    /// that pauses nothing, but whoever else has room is asked first.
    pub(crate) fn reluctance(&self, now: Monotonic) -> u32 {
        let offline = if self.connected == Some(false) { OFFLINE } else { 0 };
        self.penalty(now) + offline
    }

    /// Usual time from start to first byte.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get()
    }

    /// The newest probe.
    pub(crate) fn last_probe(&self) -> Option<LastProbe> {
        self.last_probe
    }

    /// What the engine calls its version.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What the engine calls its platform.
    pub(crate) fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// Moves the engine on and names what must now be done; does no I/O itself.
    pub(crate) fn on(&mut self, event: Event, now: Monotonic, effects: &mut Vec<Effect>) {
        let (next, why) = match event {
            Event::Probed(_) | Event::Used(_) if self.state == State::Paused => (self.state, None),
            Event::Probed(Ok(answer)) => self.probe_good(answer, now),
            Event::Probed(Err(failure)) => {
                let judged = self.probe_failed(failure, now);
                match judged.0 {
                    State::Booting => {
                        let pause = (now.since(self.since) / BOOT_PART).max(BOOT_PAUSE);
                        effects.push(Effect::ProbeIn(pause));
                    }
                    // One may be a lost packet: the next one tells, and soon.
                    State::Ready | State::Trial => effects.push(Effect::ProbeSoon),
                    State::Degraded(_) | State::Draining | State::Paused => {}
                }
                judged
            }
            Event::Used(EngineEvidence::Started(first_byte)) => self.start_worked(first_byte),
            Event::Used(EngineEvidence::StartFailed(cause)) => match Blame::of(cause) {
                Blame::Engine => {
                    effects.push(Effect::ProbeSoon);
                    self.start_failed(now)
                }
                // By its own word it has no network: that is what the start failed of.
                Blame::Unclear if self.connected == Some(false) => self.start_failed(now),
                Blame::Unclear => self.doubted(now),
                Blame::Elsewhere => (self.state, None),
            },
            Event::Used(EngineEvidence::Broke(cause)) => match Blame::of(cause) {
                Blame::Engine => {
                    effects.push(Effect::ProbeSoon);
                    self.doubted(now)
                }
                Blame::Unclear => self.doubted(now),
                Blame::Elsewhere => (self.state, None),
            },
            Event::Tick => match self.state {
                State::Degraded(Ail::Starts { until }) if until <= now => {
                    (State::Trial, Some(Why::PauseOver))
                }
                State::Booting
                | State::Ready
                | State::Trial
                | State::Degraded(_)
                | State::Draining
                | State::Paused => (self.state, None),
            },
            Event::Drain => {
                if self.state == State::Paused {
                    // Nobody knows what it will be like when it runs again.
                    self.version = None;
                }
                (State::Draining, Some(Why::DrainAsked))
            }
            Event::Undrain => match self.state {
                State::Draining => {
                    effects.push(Effect::ProbeSoon);
                    (self.judged(), Some(Why::DrainUndone))
                }
                State::Booting | State::Ready | State::Trial | State::Degraded(_) | State::Paused => {
                    (self.state, None)
                }
            },
            Event::Paused => match self.state {
                State::Draining => (self.state, None),
                State::Booting | State::Ready | State::Trial | State::Degraded(_) | State::Paused => {
                    (State::Paused, Some(Why::KeptForLater))
                }
            },
            Event::Woken => match self.state {
                State::Paused => {
                    effects.push(Effect::ProbeSoon);
                    (self.as_before(), Some(Why::Wanted))
                }
                State::Booting | State::Ready | State::Trial | State::Degraded(_) | State::Draining => {
                    (self.state, None)
                }
            },
        };
        self.turn(next, why, now, effects);
        debug_assert!(self.invariants_hold());
    }

    fn probe_good(&mut self, answer: Answer, now: Monotonic) -> (State, Option<Why>) {
        self.last_probe = Some(LastProbe { at: now, failure: None });
        self.probe_failures = 0;
        self.failed_start_since_good_probe = false;
        self.connected = answer.connected;
        self.version = Some(answer.version);
        self.platform = answer.platform;
        match self.state {
            // Starts that failed before a pause or a drain have not been judged yet.
            State::Booting if self.start_failures >= START_FAILURES => (State::Trial, Some(Why::ApiAnswers)),
            State::Booting if self.is_unproven => (State::Trial, Some(Why::ApiAnswers)),
            State::Booting => (State::Ready, Some(Why::ApiAnswers)),
            State::Ready | State::Trial | State::Degraded(Ail::Api) if self.is_offline() => {
                (State::Degraded(Ail::Offline), Some(Why::Offline))
            }
            State::Degraded(Ail::Offline) if self.is_offline() => (self.state, None),
            State::Degraded(Ail::Api | Ail::Offline) => {
                self.start_failures = 0;
                (State::Ready, Some(Why::ApiAnswers))
            }
            State::Ready
            | State::Trial
            | State::Degraded(Ail::Starts { .. })
            | State::Draining
            | State::Paused => (self.state, None),
        }
    }

    fn probe_failed(&mut self, failure: ProbeFailure, now: Monotonic) -> (State, Option<Why>) {
        self.last_probe = Some(LastProbe { at: now, failure: Some(failure) });
        self.probe_failures = self.probe_failures.saturating_add(1);
        match (self.state, self.failing_api()) {
            (State::Booting | State::Degraded(Ail::Api) | State::Draining | State::Paused, _) | (_, None) => {
                (self.state, None)
            }
            (
                State::Ready | State::Trial | State::Degraded(Ail::Offline | Ail::Starts { .. }),
                Some(failure),
            ) => (State::Degraded(Ail::Api), Some(Why::ApiFails(failure))),
        }
    }

    fn start_worked(&mut self, first_byte: Duration) -> (State, Option<Why>) {
        self.first_byte.add(first_byte);
        self.is_unproven = false;
        self.start_failures = 0;
        self.failed_start_since_good_probe = false;
        self.next_pause = PAUSE_FIRST;
        match self.state {
            State::Trial | State::Degraded(Ail::Offline | Ail::Starts { .. }) => {
                (State::Ready, Some(Why::StartsWork))
            }
            // A start begun before the API fell silent proves nothing about it.
            State::Booting | State::Ready | State::Degraded(Ail::Api) | State::Draining | State::Paused => {
                (self.state, None)
            }
        }
    }

    fn start_failed(&mut self, now: Monotonic) -> (State, Option<Why>) {
        self.lately_failed.add(now);
        self.start_failures = self.start_failures.saturating_add(1);
        self.failed_start_since_good_probe = true;
        let on_trial = self.state == State::Trial;
        match self.state {
            // Starts begun before the fall are still failing: already answered.
            State::Booting | State::Degraded(_) | State::Draining | State::Paused => (self.state, None),
            State::Ready | State::Trial => {
                if let Some(failure) = self.failing_api() {
                    (State::Degraded(Ail::Api), Some(Why::ApiFails(failure)))
                } else if self.is_offline() {
                    (State::Degraded(Ail::Offline), Some(Why::Offline))
                } else if on_trial || self.start_failures >= START_FAILURES {
                    let pause = self.next_pause;
                    self.next_pause = (pause * 2).min(PAUSE_LONGEST);
                    (State::Degraded(Ail::Starts { until: now + pause }), Some(Why::StartsFail(pause)))
                } else {
                    (self.state, None)
                }
            }
        }
    }

    /// A later choice, and nothing more.
    fn doubted(&mut self, now: Monotonic) -> (State, Option<Why>) {
        self.lately_failed.add(now);
        (self.state, None)
    }

    /// Where it stands by what was heard of it, whatever state it was in.
    fn judged(&self) -> State {
        if self.version.is_none() {
            State::Booting
        } else if self.failing_api().is_some() {
            State::Degraded(Ail::Api)
        } else if self.is_offline() {
            State::Degraded(Ail::Offline)
        } else if self.start_failures >= START_FAILURES {
            // The time it was left alone was its pause.
            State::Trial
        } else {
            State::Ready
        }
    }

    /// Where it stands after a pause, in which nothing was heard of it.
    fn as_before(&self) -> State {
        let was_good = self.last_probe.is_some_and(|probe| probe.failure.is_none());
        match self.judged() {
            // A lost probe does not degrade, but proves nothing either.
            State::Ready | State::Trial if !was_good => State::Booting,
            state => state,
        }
    }

    /// What is wrong with the API, once it is enough to act on: two failed
    /// probes, or one refused connection that a failed start confirms.
    fn failing_api(&self) -> Option<ProbeFailure> {
        let failure = self.last_probe?.failure?;
        let confirmed = failure == ProbeFailure::Refused && self.failed_start_since_good_probe;
        (confirmed || self.probe_failures >= PROBE_FAILURES).then_some(failure)
    }

    /// Without network by its own word, and a start has failed since one worked.
    fn is_offline(&self) -> bool {
        self.connected == Some(false) && self.start_failures > 0
    }

    fn turn(&mut self, next: State, why: Option<Why>, now: Monotonic, effects: &mut Vec<Effect>) {
        let before = self.state;
        self.state = next;
        if let (Some(why), true) = (why, before.published() != next.published()) {
            self.since = now;
            effects.push(Effect::Turned { from: before.published(), to: next.published(), why });
        }
        match (before == State::Trial, next == State::Trial) {
            (false, true) => effects.push(Effect::Admit(Admission::One)),
            (true, false) => effects.push(Effect::Admit(Admission::All)),
            (false, false) | (true, true) => {}
        }
    }

    fn invariants_hold(&self) -> bool {
        let paused_in_range = (PAUSE_FIRST..=PAUSE_LONGEST).contains(&self.next_pause);
        let answered =
            matches!(self.state, State::Booting | State::Draining | State::Paused) || self.version.is_some();
        let healthy_when_ready = self.state != State::Ready
            || (self.start_failures < START_FAILURES && self.probe_failures < PROBE_FAILURES);
        paused_in_range && answered && healthy_when_ready
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
