//! Engines are added: woken where there are paused ones, else created.

use std::{cmp::Reverse, time::Duration};

use millrace_boundary::Monotonic;

use super::{
    Autoscaler,
    breaker::Leave,
    forecast::STEADY,
    view::{Held, Observation, Plan, Tally, UnitId, UnitState, UnitView, Why},
};

/// An engine that has been mending for longer than this may be taken away where
/// a new one is needed and there is no room: a restart and a boot are long over.
pub(super) const MENDING_LONGEST: Duration = Duration::from_secs(60);

/// Engines being added, as they come: paused ones first.
struct Adding<'a> {
    /// Paused engines, the next one last.
    paused: Vec<&'a UnitView>,
    unpause: Vec<UnitId>,
    create: usize,
    /// More than this are never to be created.
    most: usize,
    /// Slots of one new engine.
    capacity: u32,
    /// Slots added.
    slots: u32,
}

impl Adding<'_> {
    fn engines(&self) -> usize {
        self.unpause.len() + self.create
    }

    /// Wakes paused ones alone.
    fn wake(&mut self, slots: u32) {
        while self.slots < slots && !self.paused.is_empty() && self.one() {}
    }

    /// Adds one more, unless there are none to add.
    fn one(&mut self) -> bool {
        if let Some(unit) = self.paused.pop() {
            self.unpause.push(unit.id);
            self.slots = self.slots.saturating_add(unit.capacity);
        } else if self.create < self.most {
            self.create += 1;
            self.slots = self.slots.saturating_add(self.capacity);
        } else {
            return false;
        }
        true
    }

    fn cover(&mut self, slots: u32, most: usize) {
        let most = self.engines().saturating_add(most);
        while self.slots < slots && self.engines() < most && self.one() {}
    }
}

impl Autoscaler {
    /// What is to be added now, or why it is not; nothing when there is enough.
    pub(super) fn grow(&mut self, seen: &Observation<'_>, tally: &Tally, now: Monotonic) -> Plan {
        let is_manual = self.policy.manual.is_some();
        let supply = tally.supply(seen.found_free);
        let mut paused: Vec<_> = seen.units.iter().filter(|unit| unit.state == UnitState::Paused).collect();
        paused.sort_by_key(|unit| Reverse((unit.drifted, unit.id)));
        let mut adding = Adding {
            paused,
            unpause: Vec::new(),
            create: 0,
            most: self.policy.max,
            capacity: self.policy.slots(),
            slots: 0,
        };
        let mut why = Why::Enough;

        if !is_manual {
            // An engine that boots is no reason to let who waits wait for it
            // while another one could play at once.
            adding.wake(seen.waiting.saturating_sub(self.at_once(seen, tally)));
            adding.cover(seen.waiting.saturating_sub(supply), usize::MAX);
            if adding.engines() > 0 {
                why = Why::Waiting;
            }
        }
        let below = self.below_floor(tally, now);
        while adding.engines() < below && adding.one() {
            if why == Why::Enough {
                why = if is_manual { Why::Manual } else { Why::BelowMin };
            }
        }
        let urgent = adding.create;

        let needed = seen.waiting.saturating_add(self.policy.spare_slots);
        let expected = needed.saturating_add(self.expected_ahead(now));
        let lack = expected.saturating_sub(supply);
        let since = Self::standing(&mut self.lacking_since, lack > 0 && !is_manual, now);
        if since.is_some_and(|since| now.since(since) >= self.policy.sustained) {
            let before = adding.engines();
            adding.cover(lack, self.policy.step_up);
            if why == Why::Enough && adding.engines() > before {
                why = if needed > supply { Why::Headroom } else { Why::Forecast };
            }
        }

        let Adding { unpause, create: wanted, .. } = adding;
        let (create, held) = self.start(wanted, tally, now);
        let mut plan = Plan { create, unpause, why, held, ..Plan::nothing(None) };
        if plan.is_empty() && held == Some(Held::AtMax) {
            plan = self.make_room(urgent, seen, now);
        }
        if plan.is_empty() {
            plan.why = Why::Enough;
        } else {
            self.last_step = now;
            self.lacking_since = None;
            self.woken.extend(&plan.unpause);
        }
        plan
    }

    /// Slots that are free now, or as soon as an engine that was woken is awake.
    fn at_once(&self, seen: &Observation<'_>, tally: &Tally) -> u32 {
        let woken = seen.units.iter().filter(|unit| self.woken.contains(&unit.id)).map(UnitView::free);
        woken.fold(tally.ready_free.saturating_add(seen.found_free), u32::saturating_add)
    }

    /// Engines missing from the floor. One that is gone counts at once; one that
    /// ails is given time to recover before another one takes its place.
    fn below_floor(&mut self, tally: &Tally, now: Monotonic) -> usize {
        let short = self.policy.floor().saturating_sub(tally.running());
        let since = Self::standing(&mut self.short_since, short > 0, now);
        let is_standing = since.is_some_and(|since| now.since(since) >= self.policy.sustained);
        if is_standing { short } else { short.saturating_sub(tally.ailing) }
    }

    /// Slots to add for what the hour promises: none soon after a step down.
    fn expected_ahead(&self, now: Monotonic) -> u32 {
        let is_steady = self.last_removal.is_none_or(|at| now.since(at) >= STEADY);
        if is_steady { self.forecast.ahead() } else { 0 }
    }

    /// Starts as many of the wanted ones as may be, and says what is in the way
    /// of the rest.
    fn start(&mut self, wanted: usize, tally: &Tally, now: Monotonic) -> (usize, Option<Held>) {
        let mut held = None;
        let mut allowed = wanted;
        let mut limit = |most: usize, reason: Held| {
            if most < allowed {
                (allowed, held) = (most, Some(reason));
            }
        };
        limit(self.policy.max.saturating_sub(tally.total), Held::AtMax);
        match self.breaker.leave(now) {
            Leave::All => {}
            Leave::One => limit(1, Held::BreakerTrial),
            Leave::NoneDuringTrial => limit(0, Held::BreakerTrial),
            Leave::NoneUntil(until) => limit(0, Held::BreakerOpen { until }),
        }
        let started = self.pace.take(allowed, self.policy.starts_per_minute, now);
        if started < allowed {
            held = Some(Held::Pace { until: self.pace.next(self.policy.starts_per_minute) });
        }
        if started > 0 {
            self.breaker.began(now);
        }
        (started, held)
    }

    /// Takes away engines that have been mending for too long, as many as new
    /// ones are wanted in their place. Not bound to a surplus, since it is the
    /// opposite of one, but to the cooldown between two removals.
    fn make_room(&mut self, wanted: usize, seen: &Observation<'_>, now: Monotonic) -> Plan {
        let mut plan = Plan::nothing(Some(Held::AtMax));
        let is_cool = self.last_removal.is_none_or(|at| now.since(at) >= self.policy.cooldown);
        // Without leave to create, the place would stay empty.
        let may_create = matches!(self.breaker.leave(now), Leave::All | Leave::One);
        let is_leaving = |unit: &&UnitView| {
            matches!(unit.state, UnitState::Draining | UnitState::Stopping) && unit.taken == 0
        };
        let missing = wanted.saturating_sub(seen.units.iter().filter(is_leaving).count());
        if !is_cool || !may_create || missing == 0 {
            return plan;
        }
        let mut stuck: Vec<(Monotonic, UnitId)> = self
            .mending
            .iter()
            .filter(|(_, since)| now.since(*since) >= MENDING_LONGEST)
            .filter_map(|(id, since)| {
                let unit = seen.units.iter().find(|unit| unit.id == *id)?;
                let is_removable = unit.taken == 0 && now.since(unit.born) >= self.policy.min_life;
                is_removable.then_some((*since, *id))
            })
            .collect();
        stuck.sort();
        plan.remove = stuck.into_iter().take(missing).map(|(_, id)| id).collect();
        if !plan.remove.is_empty() {
            plan.why = Why::MakeRoom;
            self.last_removal = Some(now);
        }
        plan
    }
}
