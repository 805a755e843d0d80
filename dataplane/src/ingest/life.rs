//! The life of a stream: when to ask an engine, when another one as well, which
//! one to follow, when to give up, when to let go.
//!
//! ```text
//!              Ready             silence                  its engine is gone
//!   Starting ─────────▶ Live ───────────────▶ Stalled ──────────────────────┐
//!      │                ▲ ▲ │                   │ │                          ▼
//!      │                │ │ └── engine gone ────┼─┼─────────────────▶ FailingOver
//!      │                │ └──── Bytes, Ready ───┘ │                       │  │
//!      │                └──────────── Ready ──────┼───────────────────────┘  │
//!      ▼ budget over, all failed                  ▼ silence limit            ▼ budget over
//!    Ended ◀──────────────────────────────────────┴──────────────────────────┘
//!
//!                NoSlot, and no other engine is asked
//!   Starting, ────────────────────────────────────────▶ Queued ─┐ Called: asks;
//!   FailingOver ◀────────────────────────────────────── │   ▲───┘ NoSlot again
//!                Slot                                   │
//!                                                       ▼ Unavailable: as without
//!                                                         a queue; longest budget
//!                                                         over: Ended
//! ```
//!
//! - Starting: engines are asked, a second one beside the first when that takes
//!   long; over at the budget, which proof of progress extends.
//! - Queued: the same, or FailingOver, while no engine has a slot for it and the
//!   fleet grows, which is proof of progress. It asks when it is called, in its
//!   turn among those that wait (`queue`). Once the fleet does not grow any more
//!   the next question is answered as it would have been without waiting: a start
//!   has ended, a failover goes on.
//! - Live: one source, the active one, writes the chain. Others, the
//!   challengers, may read beside it: on standby, for a migration, or because
//!   the active one is distrusted.
//! - Stalled: the active one is silent and stays open; one challenger at a time
//!   is asked, with growing pauses, and left when it shows nothing for long.
//!   Whichever delivers first goes on.
//! - FailingOver: there is no active one; challengers are asked until the
//!   budget is over.
//! - Ended: for good; a new request makes a new session.
//!
//! In each but the last, a stream without viewers asks no further engine, and
//! is let go when nobody returned in time. Queued, it leaves its place to others,
//! and stands at the end again when somebody returned.

use std::time::Duration;

use millrace_boundary::{Cause, Monotonic, StreamState};

use super::{
    back_off::{BackOff, Pauses},
    event::{Effect, Event, SourceId, Why},
};

/// Engines asked for one start, at most.
pub(super) const MAX_STARTS: u8 = 3;
/// Engines that have to agree that a content cannot be had.
const CONTENT_WITNESSES: u8 = 2;
/// Challengers at the same time, at most; beside an active source there is one.
const MAX_CHALLENGERS: usize = 3;
/// Proof of progress that is older than this proves nothing any more.
const PROGRESS_HOLDS: Duration = Duration::from_secs(10);
/// A source that broke off sooner than this has not really played.
const SHORT_PLAY: Duration = Duration::from_millis(1_500);
/// So many short plays in a row, and the content is given up.
const SHORT_PLAYS: u32 = 6;
/// A challenger of a stalled stream that shows nothing for this long is left for
/// another one: engines that lost their network together hang alike.
const MUTE: Duration = Duration::from_secs(20);
/// Attempts after a loss that may fail before there are pauses.
const FREE_RETRIES: u8 = 3;
/// Pauses between attempts while nothing plays.
const URGENT: Pauses = Pauses { first: Duration::from_millis(500), longest: Duration::from_secs(8) };
/// Pauses between attempts beside a source that may yet do.
const PATIENT: Pauses = Pauses { first: Duration::from_secs(5), longest: Duration::from_secs(120) };

/// Limits of a life, from the configuration and from recent starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For a start, and for a failover, without proof of progress.
    pub(super) start_budget: Duration,
    /// The same with it.
    pub(super) longest_start: Duration,
    /// After this without a first byte another engine is asked as well.
    pub(super) hedge_after: Duration,
    /// How long a stream without viewers is kept.
    pub(super) linger: Duration,
    /// Silence that makes a stream stalled.
    pub(super) stall_after: Duration,
    /// Silence that ends it.
    pub(super) silence: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting { since: Monotonic, progress: Option<Monotonic> },
    Live { active: Active, heard: Monotonic },
    Stalled { active: Active, heard: Monotonic },
    FailingOver { since: Monotonic, progress: Option<Monotonic>, cause: Cause },
    Queued { since: Monotonic, progress: Option<Monotonic>, lost: Option<Cause>, cause: Cause },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Active {
    id: SourceId,
    since: Monotonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Watched,
    Empty { since: Monotonic },
}

#[derive(Clone, Copy, Debug)]
struct Challenger {
    id: SourceId,
    why: Why,
    asked: Monotonic,
    /// When it last proved progress, or was asked.
    heard: Monotonic,
}

/// One stream's life.
#[derive(Debug)]
pub(super) struct Life {
    limits: Limits,
    phase: Phase,
    audience: Audience,
    challengers: Vec<Challenger>,
    /// Sources begun.
    begun: u32,
    /// Engines asked since the start began.
    starts: u8,
    /// Of those, the ones that could not get the content.
    witnesses: u8,
    /// What the last failed attempt says.
    last: Option<Cause>,
    back_off: BackOff,
    /// Attempts that failed since the active source was lost.
    retries: u8,
    short_plays: u32,
}

impl Life {
    /// Begins with somebody waiting.
    pub(super) fn new(limits: Limits, now: Monotonic, effects: &mut Vec<Effect>) -> Self {
        let mut life = Self {
            limits,
            phase: Phase::Starting { since: now, progress: None },
            audience: Audience::Watched,
            challengers: Vec::new(),
            begun: 0,
            starts: 0,
            witnesses: 0,
            last: None,
            back_off: BackOff::default(),
            retries: 0,
            short_plays: 0,
        };
        life.start(Why::Needed, now, effects);
        life
    }

    /// The state for people; `None` once it has ended.
    pub(super) fn state(&self) -> Option<StreamState> {
        match (self.phase, self.audience) {
            (Phase::Ended, _) => None,
            (Phase::Starting { .. }, _) => Some(StreamState::Starting),
            (Phase::FailingOver { .. }, _) => Some(StreamState::FailingOver),
            (Phase::Queued { .. }, Audience::Watched) => Some(StreamState::Queued),
            (Phase::Queued { .. }, Audience::Empty { .. }) => Some(StreamState::Lingering),
            (Phase::Stalled { .. }, _) => Some(StreamState::Stalled),
            (Phase::Live { .. }, Audience::Watched) => Some(StreamState::Live),
            (Phase::Live { .. }, Audience::Empty { .. }) => Some(StreamState::Lingering),
        }
    }

    /// The source that writes the chain.
    pub(super) fn active(&self) -> Option<SourceId> {
        match self.phase {
            Phase::Live { active, .. } | Phase::Stalled { active, .. } => Some(active.id),
            Phase::Starting { .. } | Phase::FailingOver { .. } | Phase::Queued { .. } | Phase::Ended => None,
        }
    }

    /// What a challenger was begun for.
    pub(super) fn why(&self, id: SourceId) -> Option<Why> {
        self.challengers.iter().find(|c| c.id == id).map(|c| c.why)
    }

    /// Moves on and names what must now be done; does no I/O itself.
    pub(super) fn on(&mut self, event: Event, now: Monotonic, effects: &mut Vec<Effect>) {
        if let Event::Progress(id) = event
            && let Some(challenger) = self.challengers.iter_mut().find(|c| c.id == id)
        {
            challenger.heard = now;
        }
        match (self.phase, event) {
            (Phase::Ended, _) => {}
            (_, Event::Drain) => self.end(Cause::ShuttingDown, effects),
            (_, Event::Watched) => self.audience = Audience::Watched,
            (_, Event::Unwatched) => {
                if self.audience == Audience::Watched {
                    self.audience = Audience::Empty { since: now };
                }
            }
            (_, Event::Closed) => {
                if self.audience != Audience::Watched {
                    self.end(Cause::ViewersLeft, effects);
                }
            }
            (_, Event::Tick) => self.tick(now, effects),
            (_, Event::Unavailable(id, cause)) => self.unavailable(id, cause, now, effects),
            (_, Event::NoSlot(id, cause)) => self.no_slot(id, cause, now, effects),
            (Phase::Queued { .. }, Event::Called) => {
                if self.challengers.is_empty() {
                    self.start(Why::Needed, now, effects);
                }
            }
            (Phase::Queued { since, lost, .. }, Event::Slot(id)) if self.why(id).is_some() => {
                // The fleet has grown: whatever time that took, the engine gets some.
                self.phase = match lost {
                    None => Phase::Starting { since, progress: Some(now) },
                    Some(cause) => Phase::FailingOver { since, progress: Some(now), cause },
                };
            }
            (_, Event::Called | Event::Slot(_)) => {}
            (_, Event::Failed(id, cause)) => self.failed(id, cause, now, effects),
            (Phase::Starting { since, .. }, Event::Progress(id)) if self.why(id).is_some() => {
                self.phase = Phase::Starting { since, progress: Some(now) };
            }
            (Phase::FailingOver { since, cause, .. }, Event::Progress(id)) if self.why(id).is_some() => {
                self.phase = Phase::FailingOver { since, progress: Some(now), cause };
            }
            (_, Event::Ready(id)) => self.ready(id, now, effects),
            (Phase::Live { active, .. }, Event::Behind(id)) => {
                // The chain has to wait for it, so the active one is left now.
                if matches!(self.why(id), Some(Why::Migration | Why::Hedge)) {
                    effects.push(Effect::Stop(active.id));
                    self.phase = Phase::FailingOver { since: now, progress: None, cause: Cause::Stalled };
                }
            }
            (Phase::Live { active, .. }, Event::Bytes) => self.phase = Phase::Live { active, heard: now },
            (Phase::Stalled { active, .. }, Event::Bytes) => {
                self.stop_hedges(now, effects);
                self.phase = Phase::Live { active, heard: now };
            }
            (Phase::Live { .. }, Event::Distrusted) => self.hedge(now, effects),
            (Phase::Live { .. } | Phase::Stalled { .. }, Event::Migrate) => self.migrate(now, effects),
            (Phase::Live { .. }, Event::Guard(true)) => {
                if self.challengers.is_empty() && self.back_off.until <= now {
                    self.start(Why::Standby, now, effects);
                }
            }
            (_, Event::Guard(false)) => self.stop_all(effects, |c| c.why == Why::Standby),
            (
                Phase::Starting { .. } | Phase::FailingOver { .. } | Phase::Queued { .. },
                Event::Progress(_)
                | Event::Behind(_)
                | Event::Bytes
                | Event::Distrusted
                | Event::Migrate
                | Event::Guard(true),
            )
            | (Phase::Live { .. }, Event::Progress(_))
            | (
                Phase::Stalled { .. },
                Event::Progress(_) | Event::Behind(_) | Event::Distrusted | Event::Guard(true),
            ) => {}
        }
        debug_assert!(self.invariants_hold());
    }

    fn tick(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let limits = self.limits;
        match self.phase {
            Phase::Starting { since, progress } => {
                if self.is_over(since, progress, now) {
                    let content = self.last.filter(|cause| cause.is_content());
                    return self.end(content.unwrap_or(Cause::StartTimeout), effects);
                }
                if self.starts < MAX_STARTS {
                    self.hedge_late(now, effects);
                }
            }
            Phase::Live { active, heard } => {
                if now.since(heard) >= limits.stall_after {
                    self.phase = Phase::Stalled { active, heard };
                    self.hedge(now, effects);
                } else if now.since(active.since) >= SHORT_PLAY {
                    self.short_plays = 0;
                    if self.challengers.is_empty() && now.since(self.back_off.until) >= PATIENT.longest {
                        self.back_off = BackOff::default();
                    }
                }
            }
            Phase::Stalled { heard, .. } => {
                if now.since(heard) >= limits.silence {
                    return self.end(Cause::Stalled, effects);
                }
                self.stop_all(effects, |c| c.why == Why::Hedge && now.since(c.heard) >= MUTE);
                self.hedge(now, effects);
            }
            Phase::FailingOver { since, progress, cause } => {
                if self.is_over(since, progress, now) {
                    return self.end(cause, effects);
                }
                if self.challengers.is_empty() && self.back_off.until <= now {
                    self.start(Why::Needed, now, effects);
                }
                self.hedge_late(now, effects);
            }
            Phase::Queued { since, lost, cause, .. } => {
                if now.since(since) >= limits.longest_start {
                    return self.end(lost.or(self.last).unwrap_or(cause), effects);
                }
            }
            Phase::Ended => {}
        }
        if matches!(self.audience, Audience::Empty { since } if now.since(since) >= limits.linger) {
            effects.push(Effect::LetGo);
        }
    }

    /// Whether a budget is used up: the short one without fresh progress, the
    /// long one in any case.
    fn is_over(&self, since: Monotonic, progress: Option<Monotonic>, now: Monotonic) -> bool {
        let used = now.since(since);
        let is_fresh = progress.is_some_and(|at| now.since(at) < PROGRESS_HOLDS);
        used >= self.limits.longest_start || (used >= self.limits.start_budget && !is_fresh)
    }

    /// Asks one more engine when the newest one asked takes long.
    fn hedge_late(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        let newest = self.challengers.iter().map(|c| c.asked).max();
        if newest.is_some_and(|asked| now.since(asked) >= self.limits.hedge_after)
            && self.back_off.until <= now
        {
            self.start(Why::Hedge, now, effects);
        }
    }

    /// Asks one engine beside an active source that does not do.
    fn hedge(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        if let Some(standby) = self.challengers.iter_mut().find(|c| c.why == Why::Standby) {
            standby.why = Why::Hedge;
        } else if self.challengers.is_empty() && self.back_off.until <= now {
            self.start(Why::Hedge, now, effects);
        }
    }

    fn migrate(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        match self.challengers.first_mut() {
            Some(challenger) => challenger.why = Why::Migration,
            None => self.start(Why::Migration, now, effects),
        }
    }

    fn start(&mut self, why: Why, now: Monotonic, effects: &mut Vec<Effect>) {
        if self.audience != Audience::Watched || self.challengers.len() >= MAX_CHALLENGERS {
            return;
        }
        let id = SourceId(self.begun);
        self.begun += 1;
        self.starts = self.starts.saturating_add(1);
        self.challengers.push(Challenger { id, why, asked: now, heard: now });
        effects.push(Effect::Start(id, why));
    }

    fn ready(&mut self, id: SourceId, now: Monotonic, effects: &mut Vec<Effect>) {
        match (self.phase, self.why(id)) {
            (_, None) | (Phase::Ended, _) | (Phase::Live { .. }, Some(Why::Standby)) => return,
            (Phase::Live { active, .. } | Phase::Stalled { active, .. }, why) => {
                effects.push(Effect::Promote(id));
                effects.push(Effect::Stop(active.id));
                if why == Some(Why::Hedge) {
                    // Should this one do no better, the next is asked later.
                    self.back_off.grow(PATIENT, now);
                }
            }
            (Phase::Starting { .. } | Phase::FailingOver { .. } | Phase::Queued { .. }, _) => {
                effects.push(Effect::Promote(id));
            }
        }
        self.challengers.retain(|c| c.id != id);
        self.stop_all(effects, |_| true);
        if matches!(self.phase, Phase::Starting { .. }) {
            self.back_off = BackOff::default();
        }
        self.phase = Phase::Live { active: Active { id, since: now }, heard: now };
    }

    fn unavailable(&mut self, id: SourceId, cause: Cause, now: Monotonic, effects: &mut Vec<Effect>) {
        self.challengers.retain(|c| c.id != id);
        // No engine was asked.
        self.starts = self.starts.saturating_sub(1);
        match self.phase {
            Phase::Starting { .. } if self.challengers.is_empty() => {
                // With none left to ask, what the last one said stands.
                self.end(self.last.unwrap_or(cause), effects);
            }
            Phase::Queued { lost: None, .. } => self.end(self.last.unwrap_or(cause), effects),
            Phase::Queued { since, progress, lost: Some(cause), .. } => {
                self.phase = Phase::FailingOver { since, progress, cause };
                self.back_off.until = now + URGENT.first;
            }
            Phase::Starting { .. } | Phase::FailingOver { .. } => {
                self.back_off.until = now + URGENT.first;
            }
            Phase::Live { .. } | Phase::Stalled { .. } => self.back_off.grow(PATIENT, now),
            Phase::Ended => {}
        }
    }

    /// Waits for a slot, if nothing else is left to do.
    fn no_slot(&mut self, id: SourceId, cause: Cause, now: Monotonic, effects: &mut Vec<Effect>) {
        let is_alone = self.challengers.iter().all(|c| c.id == id);
        let next = match self.phase {
            // Nobody waits for a second engine to say that there is no such content.
            Phase::Starting { .. } if self.last.is_some_and(Cause::is_content) => None,
            Phase::Starting { since, progress } => Some((since, progress, None)),
            Phase::FailingOver { since, progress, cause } => Some((since, progress, Some(cause))),
            Phase::Queued { since, progress, lost, .. } => Some((since, progress, lost)),
            Phase::Live { .. } | Phase::Stalled { .. } | Phase::Ended => None,
        };
        let Some((since, progress, lost)) = next.filter(|_| is_alone) else {
            return self.unavailable(id, cause, now, effects);
        };
        self.challengers.clear();
        self.starts = self.starts.saturating_sub(1);
        self.phase = Phase::Queued { since, progress, lost, cause };
    }

    fn failed(&mut self, id: SourceId, cause: Cause, now: Monotonic, effects: &mut Vec<Effect>) {
        if self.active() == Some(id) {
            return self.lost(cause, now, effects);
        }
        let before = self.challengers.len();
        self.challengers.retain(|c| c.id != id);
        if self.challengers.len() == before {
            return;
        }
        match self.phase {
            Phase::Starting { since, progress } => {
                self.last = Some(cause);
                self.witnesses += u8::from(cause.is_content());
                if self.is_over(since, progress, now) {
                    self.end(if cause.is_content() { cause } else { Cause::StartTimeout }, effects);
                } else if !self.challengers.is_empty() {
                    // The other one may do; a third is asked when it takes long.
                } else if self.another(cause) {
                    self.start(Why::Needed, now, effects);
                    if self.challengers.is_empty() {
                        self.end(cause, effects);
                    }
                } else {
                    self.end(cause, effects);
                }
            }
            Phase::FailingOver { .. } => {
                // One engine down is often not alone: the first few others are
                // asked without a pause.
                if self.retries < FREE_RETRIES {
                    self.retries += 1;
                    if self.challengers.is_empty() {
                        self.start(Why::Needed, now, effects);
                    }
                } else {
                    self.back_off.grow(URGENT, now);
                }
            }
            Phase::Live { .. } | Phase::Stalled { .. } => self.back_off.grow(PATIENT, now),
            Phase::Queued { .. } | Phase::Ended => {}
        }
    }

    /// The active source has ended by itself.
    fn lost(&mut self, cause: Cause, now: Monotonic, effects: &mut Vec<Effect>) {
        let (Phase::Live { active, .. } | Phase::Stalled { active, .. }) = self.phase else { return };
        self.phase = Phase::FailingOver { since: now, progress: None, cause };
        let is_short = now.since(active.since) < SHORT_PLAY;
        self.short_plays = if is_short { self.short_plays + 1 } else { 0 };
        let is_final = self.short_plays >= SHORT_PLAYS || cause == Cause::ContentEnded;
        if self.audience != Audience::Watched || is_final {
            return self.end(cause, effects);
        }
        self.back_off = BackOff::default();
        self.retries = 0;
        if self.short_plays > 1 {
            self.back_off = BackOff { attempts: self.short_plays - 2, until: now };
            self.back_off.grow(URGENT, now);
        } else if self.challengers.is_empty() {
            self.start(Why::Needed, now, effects);
        }
    }

    /// Whether another engine may do better at the start after `cause`.
    fn another(&self, cause: Cause) -> bool {
        match cause.is_content() {
            true => self.witnesses < CONTENT_WITNESSES && self.starts < MAX_STARTS,
            false => cause.is_engine() && self.starts < MAX_STARTS,
        }
    }

    /// The active source goes on: what was asked because it did not is stopped.
    fn stop_hedges(&mut self, now: Monotonic, effects: &mut Vec<Effect>) {
        if self.challengers.iter().any(|c| c.why == Why::Hedge) {
            self.back_off.grow(PATIENT, now);
        }
        self.stop_all(effects, |c| c.why == Why::Hedge);
    }

    fn stop_all(&mut self, effects: &mut Vec<Effect>, which: impl Fn(&Challenger) -> bool) {
        self.challengers.retain(|c| {
            let stop = which(c);
            if stop {
                effects.push(Effect::Stop(c.id));
            }
            !stop
        });
    }

    fn end(&mut self, cause: Cause, effects: &mut Vec<Effect>) {
        effects.extend(self.active().map(Effect::Stop));
        self.stop_all(effects, |_| true);
        effects.push(Effect::End(cause));
        self.phase = Phase::Ended;
    }

    fn invariants_hold(&self) -> bool {
        let is_challenged = self.active().is_some_and(|active| self.why(active).is_some());
        let is_waiting = !matches!(self.phase, Phase::Starting { .. }) || !self.challengers.is_empty();
        let is_in_line = !matches!(self.phase, Phase::Queued { .. }) || self.challengers.len() <= 1;
        !is_challenged
            && is_waiting
            && is_in_line
            && self.challengers.len() <= MAX_CHALLENGERS
            && (self.phase != Phase::Ended || self.challengers.is_empty())
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "life_queue_tests.rs"]
mod queue_tests;

#[cfg(test)]
#[path = "life_simulation.rs"]
mod simulation;
