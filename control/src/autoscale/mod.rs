//! How many engines there shall be: a pure policy over what is seen.
//!
//! In reading order: `policy` is what the operator wants, `view` what is seen
//! and what is answered; `growth` adds engines and `shrink` takes them away;
//! `forecast` and `profile` know what is usual at this hour, `pace` and
//! `breaker` bound what is started.
//!
//! Each call of [`Autoscaler::plan`] looks at the whole fleet and says what is
//! to be done at once; the caller does it before it calls again, so that the
//! next observation shows it and nothing is asked for twice. Up is quick and
//! down is slow:
//!
//! - streams that wait and a lost minimum are answered at once, a lack of free
//!   slots when it has stood for [`Policy::sustained`];
//! - an engine goes when a surplus has stood for [`Policy::surplus`] without a
//!   break and the last change is [`Policy::cooldown`] ago: an empty one, at
//!   least [`Policy::min_life`] old, and never while a stream waits;
//! - up begins below `spare_slots` free, down at `spare_slots` and an engine's
//!   slots: a step down never is the reason of a step up.

mod breaker;
mod forecast;
mod growth;
mod pace;
mod policy;
mod profile;
mod shrink;
mod view;

#[cfg(test)]
mod referee;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod world;

use millrace_boundary::Monotonic;

use breaker::{Breaker, Leave};
pub(crate) use breaker::{BreakerLook, BreakerState};
use forecast::Forecast;
use pace::Pace;
pub(crate) use policy::{BreakerPolicy, Policy};
use profile::Profile;
pub(crate) use profile::{HOURS, ProfileError};
use view::Tally;
#[cfg(test)]
use view::Why;
pub(crate) use view::{Held, Observation, Plan, UnitId, UnitState, UnitView};

/// The policy and what it remembers; a few KiB, whatever happens.
#[derive(Debug)]
pub(crate) struct Autoscaler {
    policy: Policy,
    pace: Pace,
    breaker: Breaker,
    profile: Profile,
    forecast: Forecast,
    /// The last change of any direction; at first the beginning, so that what
    /// was found at start is not taken away before it was looked at.
    last_step: Monotonic,
    /// The last time an engine was taken away.
    last_removal: Option<Monotonic>,
    /// Since when free slots have been missing.
    lacking_since: Option<Monotonic>,
    /// Since when fewer engines than the floor have been well.
    short_since: Option<Monotonic>,
    /// Since when paused engines have been missing.
    pool_low_since: Option<Monotonic>,
    /// Since when an engine could go.
    surplus_since: Option<Monotonic>,
    /// Engines that are mending and since when; no more than there are.
    mending: Vec<(UnitId, Monotonic)>,
    /// Engines woken that do not take streams yet; no more than there are.
    woken: Vec<UnitId>,
}

impl Autoscaler {
    /// Without memory, at `now`.
    pub(crate) fn new(policy: Policy, now: Monotonic) -> Self {
        Self {
            policy,
            pace: Pace::default(),
            breaker: Breaker::new(),
            profile: Profile::new(),
            forecast: Forecast::default(),
            last_step: now,
            last_removal: None,
            lacking_since: None,
            short_since: None,
            pool_low_since: None,
            surplus_since: None,
            mending: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// What the operator wants from now on; nothing learned is lost.
    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What the operator wants.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is to be done at once. To be called on each change and a few times
    /// a second; O(engines).
    pub(crate) fn plan(&mut self, seen: &Observation<'_>, now: Monotonic) -> Plan {
        let tally = Tally::of(seen.units);
        self.remember(seen, now);
        self.look_ahead(seen, &tally, now);
        if !seen.docker_answers {
            // What is seen may be long past.
            self.surplus_since = None;
            return Plan::nothing(Some(Held::DockerSilent));
        }
        let up = self.grow(seen, &tally, now);
        // Above the maximum a lack is no reason to stay there.
        let is_above = tally.total - tally.leaving > self.policy.max;
        if !up.is_empty() || (up.held.is_some() && !is_above) {
            (self.surplus_since, self.pool_low_since) = (None, None);
            return up;
        }
        let down = self.shrink(seen, &tally, now);
        if !down.is_empty() || down.held.is_some() {
            return down;
        }
        if up.held.is_some() { up } else { self.refill(seen, &tally, now) }
    }

    /// A creation that was asked for has ended, a recreation allowed by
    /// [`Self::may_start`] as well: it worked when the engine became ready for
    /// the first time, it failed when it was not created, not started or not
    /// ready by its deadline. To be told once for each.
    pub(crate) fn created(&mut self, worked: bool, now: Monotonic) {
        self.breaker.ended(worked, &self.policy.breaker, now);
    }

    /// Whether an engine may be recreated now. Takes it from the pace of all
    /// starts, and is the one trial of a half-open breaker.
    pub(crate) fn may_start(&mut self, now: Monotonic) -> bool {
        let is_free = matches!(self.breaker.leave(now), Leave::All | Leave::One);
        let starts = is_free && self.pace.take(1, self.policy.starts_per_minute, now) == 1;
        if starts {
            self.breaker.began(now);
        }
        starts
    }

    /// How the breaker of creations stands.
    pub(crate) fn breaker(&self, now: Monotonic) -> BreakerLook {
        self.breaker.look(&self.policy.breaker, now)
    }

    /// Closes the breaker: whatever was wrong has been mended.
    pub(crate) fn reset_breaker(&mut self) {
        self.breaker.reset();
    }

    /// What is usual at which hour, for people.
    pub(crate) fn learned(&self) -> impl serde::Serialize {
        self.profile.learned()
    }

    /// What is usual at which hour, to keep over a restart: [`HOURS`] values.
    pub(crate) fn export_profile(&self) -> Vec<f32> {
        self.profile.export()
    }

    /// Takes over what [`Self::export_profile`] gave.
    ///
    /// # Errors
    /// When it is not that: then nothing changes.
    pub(crate) fn import_profile(&mut self, peaks: &[f32]) -> Result<(), ProfileError> {
        self.profile.import(peaks)
    }

    fn remember(&mut self, seen: &Observation<'_>, now: Monotonic) {
        let is_mending = |unit: &&UnitView| unit.state == UnitState::Mending;
        self.mending.retain(|(id, _)| seen.units.iter().filter(is_mending).any(|unit| unit.id == *id));
        for unit in seen.units.iter().filter(is_mending) {
            if self.mending.iter().all(|(id, _)| *id != unit.id) {
                self.mending.push((unit.id, now));
            }
        }
        let comes = |unit: &&UnitView| matches!(unit.state, UnitState::Creating | UnitState::Booting);
        self.woken.retain(|id| seen.units.iter().filter(comes).any(|unit| unit.id == *id));
    }

    fn look_ahead(&mut self, seen: &Observation<'_>, tally: &Tally, now: Monotonic) {
        let hour = seen.hour.and_then(|hour| usize::try_from(hour).ok()).filter(|hour| *hour < HOURS);
        self.profile.observe(hour, tally.taken, now);
        let live = tally.taken.saturating_add(seen.waiting);
        let expected = hour.map_or(0, |hour| self.profile.expected(hour));
        self.forecast.look(expected, live, &self.policy, now);
    }

    /// Keeps the clock of a condition and says when it began to hold, if it does.
    fn standing(since: &mut Option<Monotonic>, holds: bool, now: Monotonic) -> Option<Monotonic> {
        *since = if holds { Some(since.unwrap_or(now)) } else { None };
        *since
    }
}
