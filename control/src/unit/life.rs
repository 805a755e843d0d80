//! One unit's life, as a pure machine.
//!
//! ```text
//!           made              found good                    ails
//!  Making ───────▶ Booting ──────────────▶ Ready ◀──────────────────▶ Ailing
//!    │              ▲  │ limit, died        │ │ died     recovers       │
//!    │ refused      │  ▼                    │ ▼                         │ patience over,
//!    │              Mending ◀──────────────────────────────────────┐   │ and it is empty
//!    │              ▲  │ the third time   │                        │   ▼
//!    │   pause over │  ▼                  │ drained, restarted,    ├─ Emptying
//!    │              Quarantined           │ made anew, removed     │   │
//!    ▼                                    └────────────────────────────┤
//!   Gone ◀── Leaving ◀─────────────────────────────────────────────────┘
//!
//!                  idle, asked            needed
//!           Ready ────────────▶ Pausing ─▶ Paused ─▶ Waking ─▶ Ready
//! ```
//!
//! - Mending climbs a ladder: the container is restarted the first time, made
//!   anew the second; from the third time on it is cleared away and left alone
//!   for 30 s, twice as long each further time. Whoever is well for
//!   [`STEADY`] begins at the foot again.
//! - Emptying: the engine gets no more streams and those it has move; over when
//!   it is empty or its time is up.
//! - One deed at a time is done to a container. While Docker does not answer, a
//!   deed is tried again with growing pauses and counts for nothing.
//! - What a list says is believed only when it was begun after the last deed: it
//!   may show what was before.

mod orders;

use std::time::Duration;

use millrace_boundary::Monotonic;

use super::event::{Ail, Deed, Effect, Event, Fault, Look, Sense, Then, Tidings};

/// So long without an ill, and an engine has proved itself.
pub(crate) const STEADY: Duration = Duration::from_secs(300);
/// An ailing engine is emptied for this long before it is mended: its streams
/// need about a second to move.
const AILING_LIMIT: Duration = Duration::from_secs(10);
/// Quarantine after the first two mends did not help.
const QUARANTINE_FIRST: Duration = Duration::from_secs(30);
/// Longest quarantine.
const QUARANTINE_LONGEST: Duration = Duration::from_secs(600);
/// First pause before a deed that Docker did not answer is tried again; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause.
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Docker's list may lag behind its deeds by so much.
const QUIET: Duration = Duration::from_millis(200);

/// Limits of a life, from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the start of its container until its engine is good.
    pub(crate) boot: Duration,
    /// For an engine to be emptied on request.
    pub(crate) drain: Duration,
}

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its container is being made.
    Making,
    /// Its container runs, and its engine has yet to be found good.
    Booting,
    /// It takes streams.
    Ready,
    /// Its container runs, and something is wrong.
    Ailing(Ail),
    /// Its streams are to move; until when, and what follows.
    Emptying(Option<Monotonic>, Then),
    /// It is being mended.
    Mending,
    /// It is cleared away, to be left alone for that long.
    Burying(Duration),
    /// It is left alone.
    Quarantined(Monotonic),
    /// Its container is being frozen.
    Pausing,
    /// Its container is frozen, ready to be used at once.
    Paused,
    /// Its container is being woken.
    Waking,
    /// It is being removed.
    Leaving,
    /// It is no more.
    Gone,
}

impl Stage {
    /// Each word that [`Self::as_str`] has.
    pub(crate) const WORDS: [&'static str; 13] = [
        "making",
        "booting",
        "ready",
        "ailing",
        "emptying",
        "mending",
        "burying",
        "quarantined",
        "pausing",
        "paused",
        "waking",
        "leaving",
        "gone",
    ];

    /// For programs.
    pub(crate) const fn as_str(self) -> &'static str {
        let at = match self {
            Self::Making => 0,
            Self::Booting => 1,
            Self::Ready => 2,
            Self::Ailing(_) => 3,
            Self::Emptying(..) => 4,
            Self::Mending => 5,
            Self::Burying(_) => 6,
            Self::Quarantined(_) => 7,
            Self::Pausing => 8,
            Self::Paused => 9,
            Self::Waking => 10,
            Self::Leaving => 11,
            Self::Gone => 12,
        };
        Self::WORDS[at]
    }
}

/// One unit's life.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    limits: Limits,
    stage: Stage,
    since: Monotonic,
    /// When its container was last started.
    started: Monotonic,
    /// Mends since it last proved itself.
    mends: u32,
    /// The deed under way.
    deed: Option<Deed>,
    /// The deed to be tried again, and when.
    retry: Option<(Deed, Monotonic)>,
    retry_pause: Duration,
    /// Lists begun before this are not believed.
    quiet_until: Monotonic,
    /// It is to be kept empty.
    held: bool,
    /// It is to be frozen once it is ready and empty.
    shelve: bool,
    /// It is to be removed once the deed under way is over.
    doomed: bool,
}

impl Life {
    /// A unit whose container is to be made, and frozen once ready if it is to
    /// be `shelved`.
    pub(crate) fn make(limits: Limits, shelved: bool, now: Monotonic, effects: &mut Vec<Effect>) -> Self {
        let mut life = Self::at(limits, Stage::Making, now);
        life.shelve = shelved;
        life.begin(Deed::Make, effects);
        life
    }

    /// A unit whose container was there already.
    pub(crate) fn adopt(limits: Limits, look: Look, now: Monotonic) -> Self {
        let stage = if look == Look::Paused { Stage::Paused } else { Stage::Booting };
        Self::at(limits, stage, now)
    }

    fn at(limits: Limits, stage: Stage, now: Monotonic) -> Self {
        Self {
            limits,
            stage,
            since: now,
            started: now,
            mends: 0,
            deed: None,
            retry: None,
            retry_pause: RETRY_FIRST,
            quiet_until: now,
            held: false,
            shelve: false,
            doomed: false,
        }
    }

    /// Where it stands.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Since when.
    pub(crate) fn since(&self) -> Monotonic {
        self.since
    }

    /// When its container was last started.
    pub(crate) fn started(&self) -> Monotonic {
        self.started
    }

    /// Mends since it last proved itself.
    pub(crate) fn mends(&self) -> u32 {
        self.mends
    }

    /// Whether it is kept empty on request.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Moves on and names what must now be done; does no I/O itself.
    pub(crate) fn on(&mut self, event: Event, sense: Sense, now: Monotonic, effects: &mut Vec<Effect>) {
        match event {
            Event::Done(deed, outcome) if self.deed == Some(deed) => {
                self.deed = None;
                self.quiet_until = now + QUIET;
                self.done(deed, outcome, now, effects);
            }
            // Of a deed that nobody waits for any more.
            Event::Done(..) => {}
            Event::Seen(look, begun) if self.deed.is_none() && self.quiet_until <= begun => {
                self.seen(look, now, effects);
            }
            Event::Seen(..) => {}
            Event::Order(order) => {
                self.ordered(order, sense, now, effects);
                self.tick(sense, now, effects);
            }
            Event::Tick => self.tick(sense, now, effects),
        }
        debug_assert!(self.invariants_hold(), "{self:?}");
    }

    fn begin(&mut self, deed: Deed, effects: &mut Vec<Effect>) {
        self.retry = None;
        self.deed = Some(deed);
        effects.push(Effect::Do(deed));
    }

    fn enter(&mut self, stage: Stage, now: Monotonic) {
        if self.stage != stage {
            self.stage = stage;
            self.since = now;
        }
    }

    fn done(&mut self, deed: Deed, outcome: Result<(), Fault>, now: Monotonic, effects: &mut Vec<Effect>) {
        if outcome == Err(Fault::Daemon) {
            self.retry = Some((deed, now + self.retry_pause));
            self.retry_pause = (self.retry_pause * 2).min(RETRY_LONGEST);
            return;
        }
        self.retry_pause = RETRY_FIRST;
        if self.doomed && self.stage != Stage::Leaving {
            return self.settle_doom(deed, outcome, now, effects);
        }
        match (deed, outcome) {
            (Deed::Make, Ok(())) | (Deed::Revive | Deed::Remake, Ok(())) => {
                self.started = now;
                self.enter(Stage::Booting, now);
            }
            (Deed::Make, Err(_)) => self.enter(Stage::Gone, now),
            (Deed::Revive, Err(_)) => {
                self.mends = self.mends.max(1);
                self.mend(now, effects);
            }
            (Deed::Remake, Err(_)) => {
                self.mends = self.mends.max(2);
                self.mend(now, effects);
            }
            // What is left of it goes with the next one that is made.
            (Deed::Bury, Ok(()) | Err(_)) => {
                let pause = match self.stage {
                    Stage::Burying(pause) => pause,
                    _ => QUARANTINE_FIRST,
                };
                self.enter(Stage::Quarantined(now + pause), now);
                effects.push(Effect::Tell(Tidings::Quarantined(pause)));
            }
            (Deed::Pause, Ok(())) => {
                self.enter(Stage::Paused, now);
                effects.push(Effect::Tell(Tidings::Shelved));
                if !self.shelve {
                    self.wake(now, effects);
                }
            }
            (Deed::Pause, Err(_)) => {
                self.shelve = false;
                self.used(now, effects);
            }
            (Deed::Unpause, Ok(())) => {
                effects.push(Effect::Tell(Tidings::Woken));
                self.used(now, effects);
            }
            (Deed::Unpause, Err(_)) => {
                effects.push(Effect::Wake);
                self.mend(now, effects);
            }
            (Deed::Dispose, Ok(()) | Err(Fault::Gone)) => {
                self.enter(Stage::Gone, now);
                effects.push(Effect::Tell(Tidings::Left));
            }
            (Deed::Dispose, Err(_)) => self.retry = Some((Deed::Dispose, now + RETRY_LONGEST)),
        }
    }

    /// A deed is over that was under way when somebody wanted the unit gone.
    fn settle_doom(
        &mut self,
        deed: Deed,
        outcome: Result<(), Fault>,
        now: Monotonic,
        effects: &mut Vec<Effect>,
    ) {
        match (deed, outcome) {
            (Deed::Make, Err(_)) | (Deed::Bury, Ok(())) => {
                self.enter(Stage::Gone, now);
                effects.push(Effect::Tell(Tidings::Left));
            }
            _ => self.leave(now, effects),
        }
    }

    fn seen(&mut self, look: Look, now: Monotonic, effects: &mut Vec<Effect>) {
        match (self.stage, look) {
            // There is no container that it could be about.
            (Stage::Making | Stage::Burying(_) | Stage::Quarantined(_) | Stage::Gone, _) => {}
            (Stage::Leaving, Look::Absent) => {
                self.retry = None;
                self.enter(Stage::Gone, now);
                effects.push(Effect::Tell(Tidings::Left));
            }
            // A retry is pending, which says more.
            (Stage::Leaving | Stage::Mending | Stage::Pausing | Stage::Waking, _) => {}
            (_, Look::Absent) => {
                effects.push(Effect::Tell(Tidings::Vanished));
                self.enter(Stage::Gone, now);
            }
            (Stage::Emptying(_, Then::Remove), Look::Down) => self.leave(now, effects),
            (
                Stage::Booting | Stage::Ready | Stage::Ailing(_) | Stage::Emptying(..) | Stage::Paused,
                Look::Down,
            ) => {
                if self.stage == Stage::Paused {
                    self.shelve = true;
                    effects.push(Effect::Wake);
                }
                effects.push(Effect::Tell(Tidings::Died));
                self.mend(now, effects);
            }
            (Stage::Paused, Look::Running { .. }) => {
                self.shelve = false;
                self.used(now, effects);
            }
            (Stage::Paused, Look::Paused) => {}
            (Stage::Booting | Stage::Ready | Stage::Ailing(_) | Stage::Emptying(..), Look::Paused) => {
                effects.push(Effect::Tell(Tidings::Frozen));
                self.enter(Stage::Waking, now);
                self.begin(Deed::Unpause, effects);
            }
            (
                Stage::Booting | Stage::Ready | Stage::Ailing(_) | Stage::Emptying(..),
                Look::Running { .. },
            ) => {}
        }
    }

    fn tick(&mut self, sense: Sense, now: Monotonic, effects: &mut Vec<Effect>) {
        if let Some((deed, at)) = self.retry
            && at <= now
        {
            self.begin(deed, effects);
        }
        if self.deed.is_some() || self.retry.is_some() {
            return;
        }
        match self.stage {
            Stage::Booting if sense.is_good => {
                effects.push(Effect::Tell(Tidings::Ready { took: now.since(self.started) }));
                self.used(now, effects);
            }
            Stage::Booting if now.since(self.started) >= self.limits.boot => {
                effects.push(Effect::Tell(Tidings::BootLimit(self.limits.boot)));
                self.mend(now, effects);
            }
            Stage::Ready => match sense.ail {
                Some(ail) => {
                    effects.push(Effect::Tell(Tidings::Ails(ail)));
                    self.enter(Stage::Ailing(ail), now);
                }
                None => {
                    if now.since(self.since) >= STEADY {
                        self.mends = 0;
                    }
                    if self.shelve && sense.taken == 0 {
                        self.pause(now, effects);
                    }
                }
            },
            Stage::Ailing(known) => match sense.ail {
                None => {
                    effects.push(Effect::Tell(Tidings::Recovered));
                    self.enter(Stage::Ready, now);
                }
                // The first ill's time counts.
                Some(ail) => {
                    // Of one that has an address again it has yet to be seen whether it answers.
                    let patience = match known {
                        Ail::Unreachable => ail.patience(),
                        _ => known.patience().min(ail.patience()),
                    };
                    let is_over = now.since(self.since) >= patience;
                    self.stage = Stage::Ailing(ail);
                    if is_over && sense.may_mend {
                        if ail == Ail::Unreachable {
                            self.mends = self.mends.max(1);
                        }
                        if sense.taken == 0 {
                            self.mend(now, effects);
                        } else {
                            let then = if self.mends == 0 { Then::Restart } else { Then::Remake };
                            self.mends += 1;
                            self.empty(Some(now + AILING_LIMIT), then, now, effects);
                        }
                    }
                }
            },
            Stage::Emptying(until, then) if then != Then::Hold => {
                let is_late = until.is_some_and(|until| until <= now);
                if is_late && sense.taken > 0 {
                    effects.push(Effect::Tell(Tidings::Forced { taken: sense.taken }));
                }
                if is_late || sense.taken == 0 {
                    self.follow(then, now, effects);
                }
            }
            Stage::Quarantined(until) if until <= now => self.repair(Deed::Remake, now, effects),
            // A shard took a slot in the moment before it was shelved.
            Stage::Paused if sense.taken > 0 => self.wake(now, effects),
            Stage::Booting
            | Stage::Emptying(..)
            | Stage::Making
            | Stage::Mending
            | Stage::Burying(_)
            | Stage::Quarantined(_)
            | Stage::Pausing
            | Stage::Paused
            | Stage::Waking
            | Stage::Leaving
            | Stage::Gone => {}
        }
    }

    fn follow(&mut self, then: Then, now: Monotonic, effects: &mut Vec<Effect>) {
        match then {
            Then::Restart => self.repair(Deed::Revive, now, effects),
            Then::Remake => self.repair(Deed::Remake, now, effects),
            Then::Remove => self.leave(now, effects),
            Then::Hold => {}
        }
    }

    /// It takes streams, unless it is to be kept empty.
    fn used(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        effects.push(Effect::Wake);
        self.enter(Stage::Ready, now);
        if self.held {
            self.empty(None, Then::Hold, now, effects);
        } else {
            effects.push(Effect::Undrain);
        }
    }

    fn empty(&mut self, until: Option<Monotonic>, then: Then, now: Monotonic, effects: &mut Vec<Effect>) {
        effects.push(Effect::Drain);
        effects.push(Effect::Tell(Tidings::Drains(then)));
        self.enter(Stage::Emptying(until, then), now);
    }

    fn pause(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        effects.push(Effect::Shelve);
        self.enter(Stage::Pausing, now);
        self.begin(Deed::Pause, effects);
    }

    fn wake(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        self.shelve = false;
        if self.stage == Stage::Paused {
            self.enter(Stage::Waking, now);
            self.begin(Deed::Unpause, effects);
        }
    }

    /// The next rung of the ladder.
    fn mend(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        self.mends = self.mends.saturating_add(1);
        match self.mends {
            1 => self.repair(Deed::Revive, now, effects),
            2 => self.repair(Deed::Remake, now, effects),
            times => {
                let doublings = (times - 3).min(10);
                let pause = QUARANTINE_FIRST.saturating_mul(1 << doublings).min(QUARANTINE_LONGEST);
                self.enter(Stage::Burying(pause), now);
                self.begin(Deed::Bury, effects);
            }
        }
    }

    fn repair(&mut self, deed: Deed, now: Monotonic, effects: &mut Vec<Effect>) {
        effects.push(Effect::Tell(Tidings::Mends(deed)));
        self.enter(Stage::Mending, now);
        self.begin(deed, effects);
    }

    /// Removes the container, at once or after the deed under way.
    fn leave(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        self.doomed = true;
        if self.deed.is_some() || self.stage == Stage::Leaving {
            return;
        }
        match self.stage {
            Stage::Quarantined(_) => {
                self.retry = None;
                self.enter(Stage::Gone, now);
                effects.push(Effect::Tell(Tidings::Left));
            }
            _ => {
                effects.push(Effect::Drain);
                self.enter(Stage::Leaving, now);
                self.begin(Deed::Dispose, effects);
            }
        }
    }

    fn invariants_hold(&self) -> bool {
        let owes = match self.stage {
            Stage::Making
            | Stage::Mending
            | Stage::Burying(_)
            | Stage::Pausing
            | Stage::Waking
            | Stage::Leaving => true,
            Stage::Booting
            | Stage::Ready
            | Stage::Ailing(_)
            | Stage::Emptying(..)
            | Stage::Quarantined(_)
            | Stage::Paused
            | Stage::Gone => false,
        };
        owes == (self.deed.is_some() || self.retry.is_some())
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
