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
//! ```
//!
//! `Trial` is published as ready with room for one stream: the first start
//! after a pause decides, and not a whole fleet's worth of viewers.

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
/// Failed starts in a row that pause an engine whose API is fine.
const START_FAILURES: u32 = 3;
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
        }
    }
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
            Event::Probed(Ok(answer)) => self.probe_good(answer, now),
            Event::Probed(Err(failure)) => self.probe_failed(failure, now),
            Event::Used(EngineEvidence::Started(first_byte)) => self.start_worked(first_byte),
            Event::Used(EngineEvidence::StartFailed(cause)) => match Blame::of(cause) {
                Blame::Engine => {
                    effects.push(Effect::ProbeSoon);
                    self.start_failed(now)
                }
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
                State::Booting | State::Ready | State::Trial | State::Degraded(_) => (self.state, None),
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
            State::Booting => (State::Ready, Some(Why::ApiAnswers)),
            State::Ready | State::Trial | State::Degraded(Ail::Api) if self.is_offline() => {
                (State::Degraded(Ail::Offline), Some(Why::Offline))
            }
            State::Degraded(Ail::Offline) if self.is_offline() => (self.state, None),
            State::Degraded(Ail::Api | Ail::Offline) => {
                self.start_failures = 0;
                (State::Ready, Some(Why::ApiAnswers))
            }
            State::Ready | State::Trial | State::Degraded(Ail::Starts { .. }) => (self.state, None),
        }
    }

    fn probe_failed(&mut self, failure: ProbeFailure, now: Monotonic) -> (State, Option<Why>) {
        self.last_probe = Some(LastProbe { at: now, failure: Some(failure) });
        self.probe_failures = self.probe_failures.saturating_add(1);
        match (self.state, self.failing_api()) {
            (State::Booting | State::Degraded(Ail::Api), _) | (_, None) => (self.state, None),
            (
                State::Ready | State::Trial | State::Degraded(Ail::Offline | Ail::Starts { .. }),
                Some(failure),
            ) => (State::Degraded(Ail::Api), Some(Why::ApiFails(failure))),
        }
    }

    fn start_worked(&mut self, first_byte: Duration) -> (State, Option<Why>) {
        self.first_byte.add(first_byte);
        self.start_failures = 0;
        self.failed_start_since_good_probe = false;
        self.next_pause = PAUSE_FIRST;
        match self.state {
            State::Trial | State::Degraded(Ail::Offline | Ail::Starts { .. }) => {
                (State::Ready, Some(Why::StartsWork))
            }
            // A start begun before the API fell silent proves nothing about it.
            State::Booting | State::Ready | State::Degraded(Ail::Api) => (self.state, None),
        }
    }

    fn start_failed(&mut self, now: Monotonic) -> (State, Option<Why>) {
        self.lately_failed.add(now);
        self.start_failures = self.start_failures.saturating_add(1);
        self.failed_start_since_good_probe = true;
        let on_trial = self.state == State::Trial;
        match self.state {
            // Starts begun before the fall are still failing: already answered.
            State::Booting | State::Degraded(_) => (self.state, None),
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
        let answered = self.state == State::Booting || self.version.is_some();
        let healthy_when_ready = self.state != State::Ready
            || (self.start_failures < START_FAILURES && self.probe_failures < PROBE_FAILURES);
        paused_in_range && answered && healthy_when_ready
    }
}

#[cfg(test)]
mod tests {
    use millrace_boundary::Cause;

    use super::*;

    fn good(connected: Option<bool>) -> Event {
        Event::Probed(Ok(Answer { version: "3.2.11".into(), platform: None, connected }))
    }
    fn bad(failure: ProbeFailure) -> Event {
        Event::Probed(Err(failure))
    }
    fn failed(cause: Cause) -> Event {
        Event::Used(EngineEvidence::StartFailed(cause))
    }
    fn worked() -> Event {
        Event::Used(EngineEvidence::Started(Duration::from_secs(2)))
    }

    /// Plays `events` a second apart from a ready engine on.
    fn after(events: impl IntoIterator<Item = Event>) -> (EngineState, Life) {
        let mut life = Life::new(Monotonic::default());
        let mut effects = Vec::new();
        let mut now = Monotonic(Duration::from_secs(100));
        life.on(good(Some(true)), now, &mut effects);
        for event in events {
            now = now + Duration::from_secs(1);
            life.on(event, now, &mut effects);
        }
        (life.state(), life)
    }

    #[test]
    fn degrades_and_recovers_by_the_rules() {
        use EngineState::{Degraded, Ready};
        use ProbeFailure::{Nonsense, Refused, Silent};
        let silent = || failed(Cause::EngineSilent);
        let content = || failed(Cause::ContentUnavailable);
        for (name, events, state) in [
            ("nothing happened", vec![], Ready),
            ("one lost probe", vec![bad(Silent)], Ready),
            ("two lost probes", vec![bad(Silent), bad(Nonsense)], Degraded),
            ("a good probe between", vec![bad(Silent), good(None), bad(Silent)], Ready),
            ("one good probe repairs", vec![bad(Silent), bad(Silent), good(None)], Ready),
            ("refused, then a failed start", vec![bad(Refused), silent()], Degraded),
            ("a failed start, then refused", vec![silent(), bad(Refused)], Degraded),
            ("silent and a failed start are not enough", vec![bad(Silent), silent()], Ready),
            ("offline alone", vec![good(Some(false)), good(Some(false))], Ready),
            ("offline and a failed start", vec![good(Some(false)), silent()], Degraded),
            ("a failed start, then offline", vec![silent(), good(Some(false))], Degraded),
            (
                "offline, and only content fails",
                vec![good(Some(false)), content(), content(), content()],
                Ready,
            ),
            ("online again", vec![good(Some(false)), silent(), good(Some(true))], Ready),
            ("offline but starts work", vec![good(Some(false)), silent(), worked()], Ready),
            ("two failed starts", vec![silent(), silent()], Ready),
            ("three failed starts", vec![silent(), silent(), silent()], Degraded),
            ("a good probe does not repair starts", vec![silent(), silent(), silent(), good(None)], Degraded),
            ("a working start does", vec![silent(), silent(), silent(), worked()], Ready),
            ("a working start between", vec![silent(), silent(), worked(), silent()], Ready),
            ("a hundred content failures", (0..100).map(|_| content()).collect(), Ready),
            (
                "a hundred timeouts, nobody's for sure",
                (0..100).map(|_| failed(Cause::StartTimeout)).collect(),
                Ready,
            ),
        ] {
            assert_eq!(after(events).0, state, "{name}");
        }
    }

    #[test]
    fn only_what_may_be_the_engines_fault_becomes_a_penalty() {
        for &cause in Cause::ALL {
            for event in [failed(cause), Event::Used(EngineEvidence::Broke(cause))] {
                let (_, life) = after([event]);
                let penalty = life.penalty(Monotonic(Duration::from_secs(101)));
                assert_eq!(penalty == 0, Blame::of(cause) == Blame::Elsewhere, "{cause:?}");
            }
        }
    }

    #[test]
    fn a_paused_engine_gets_one_trial_and_its_pause_doubles_up_to_five_minutes() {
        let (_, mut life) = after((0..3).map(|_| failed(Cause::EngineSilent)));
        let mut now = Monotonic(Duration::from_secs(103));
        let mut effects = Vec::new();
        for seconds in [10u64, 20, 40, 80, 160, 300, 300] {
            let until = now + Duration::from_secs(seconds);
            life.on(Event::Tick, until - Duration::from_millis(1), &mut effects);
            assert_eq!((life.state(), effects.as_slice()), (EngineState::Degraded, &[][..]), "{seconds}");
            life.on(Event::Tick, until, &mut effects);
            assert_eq!(effects[1..], [Effect::Admit(Admission::One)], "{seconds}");
            now = until + Duration::from_secs(1);
            effects.clear();
            life.on(failed(Cause::EngineSilent), now, &mut effects);
            assert_eq!(life.state(), EngineState::Degraded);
            assert!(effects.contains(&Effect::Admit(Admission::All)));
            effects.clear();
        }
        life.on(Event::Tick, now + Duration::from_secs(300), &mut effects);
        effects.clear();
        life.on(worked(), now + Duration::from_secs(301), &mut effects);
        assert_eq!(
            (life.state(), effects.as_slice()),
            (EngineState::Ready, &[Effect::Admit(Admission::All)][..])
        );
        assert_eq!(life.next_pause, PAUSE_FIRST, "a working start forgives");
    }
}
