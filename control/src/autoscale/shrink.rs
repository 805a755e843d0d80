//! Engines are taken away, or paused where paused ones are missing; and paused
//! ones are made in the background.

use std::cmp::Reverse;

use millrace_boundary::Monotonic;

use super::{
    Autoscaler,
    breaker::Leave,
    view::{Held, Observation, Plan, Tally, UnitState, UnitView, Why},
};

/// What would be left after what has been chosen so far.
#[derive(Clone, Copy)]
struct Left {
    /// Free slots of ready engines, found ones among them.
    free: u32,
    /// Engines that are ready or booting.
    healthy: usize,
    /// Engines that take streams.
    ready: usize,
    paused: usize,
    /// All that are not on their way out.
    staying: usize,
}

impl Autoscaler {
    /// What may go now, if anything.
    pub(super) fn shrink(&mut self, seen: &Observation<'_>, tally: &Tally, now: Monotonic) -> Plan {
        let mut left = Left {
            free: tally.ready_free.saturating_add(seen.found_free),
            healthy: tally.ready + tally.booting,
            ready: tally.ready,
            paused: tally.paused,
            staying: tally.total - tally.leaving,
        };
        let exists = seen.waiting == 0 && seen.units.iter().any(|unit| self.could_go(unit, left));
        let since = Self::standing(&mut self.surplus_since, exists, now);
        let is_manual = self.policy.manual.is_some();
        // What the operator has said need not prove itself.
        let has_stood = |since| is_manual || now.since(since) >= self.policy.surplus;
        if !since.is_some_and(has_stood) {
            return Plan::nothing(None);
        }
        let until = self.last_step + self.policy.cooldown;
        if now < until {
            return Plan::nothing(Some(Held::Cooldown { until }));
        }

        let mut plan = Plan::nothing(None);
        let most = if is_manual { usize::MAX } else { self.policy.step_down };
        let mut going: Vec<&UnitView> = seen.units.iter().filter(|unit| self.may_go(unit, now)).collect();
        going.sort_by_key(|unit| rank(unit));
        for unit in going {
            if plan.pause.len() + plan.remove.len() >= most {
                break;
            }
            if !self.could_go(unit, left) {
                continue;
            }
            let is_above = left.staying > self.policy.max;
            if plan.is_empty() {
                plan.why = if is_manual {
                    Why::Manual
                } else if is_above {
                    Why::AboveMax
                } else {
                    Why::Surplus
                };
            }
            if unit.state == UnitState::Ready {
                left.free -= unit.capacity.min(left.free);
                left.healthy -= 1;
                left.ready -= 1;
            }
            let is_wanted_paused = left.paused < self.policy.pool() && !is_above && !unit.drifted;
            if unit.state == UnitState::Ready && is_wanted_paused {
                left.paused += 1;
                plan.pause.push(unit.id);
            } else {
                left.paused -= usize::from(unit.state == UnitState::Paused);
                left.staying -= 1;
                plan.remove.push(unit.id);
            }
        }
        if !plan.is_empty() {
            self.last_step = now;
            self.last_removal = Some(now);
            self.surplus_since = None;
        }
        plan
    }

    /// Paused engines that are missing, where no surplus will make up for them.
    /// Counted over the whole fleet, so that one that is being made for it and
    /// still boots is not made again.
    pub(super) fn refill(&mut self, seen: &Observation<'_>, tally: &Tally, now: Monotonic) -> Plan {
        let wanted = tally
            .ready_taken
            .saturating_add(seen.waiting)
            .saturating_add(self.policy.spare_slots)
            .saturating_add(self.forecast.kept())
            .saturating_sub(seen.found_free);
        let engines = usize::try_from(wanted.div_ceil(self.policy.slots())).unwrap_or(usize::MAX);
        let engines = engines.max(self.policy.floor());
        let missing =
            (engines.saturating_add(self.policy.pool())).saturating_sub(tally.running() + tally.paused);
        // Lack of running engines is another matter.
        let missing = missing.min(self.policy.pool().saturating_sub(tally.paused));
        let since = Self::standing(&mut self.pool_low_since, missing > 0 && seen.waiting == 0, now);
        if since.is_none_or(|since| now.since(since) < self.policy.sustained) {
            return Plan::nothing(None);
        }
        // A trial is for an engine that is needed.
        if self.breaker.leave(now) != Leave::All {
            return Plan::nothing(None);
        }
        let room = self.policy.max.saturating_sub(tally.total);
        let wanted = missing.min(room).min(self.policy.step_up);
        let create_paused = self.pace.take_in_background(wanted, self.policy.starts_per_minute, now);
        if create_paused == 0 {
            return Plan::nothing(None);
        }
        self.last_step = now;
        self.pool_low_since = None;
        Plan { create_paused, why: Why::PoolLow, ..Plan::nothing(None) }
    }

    /// Whether the fleet could do without this engine, whatever it does.
    fn could_go(&self, unit: &UnitView, left: Left) -> bool {
        let floor = self.policy.floor();
        let is_above = left.staying > self.policy.max;
        let kept = self.policy.spare_slots.saturating_add(self.forecast.kept());
        let is_roomy = is_above || left.free >= unit.capacity.saturating_add(kept);
        match (unit.state, self.policy.manual) {
            (UnitState::Ready, Some(_)) => left.ready > floor,
            (UnitState::Ready, None) => is_roomy && left.healthy > floor,
            (UnitState::Degraded, Some(_)) => left.ready >= floor,
            (UnitState::Degraded, None) => is_roomy && left.healthy >= floor,
            // Not while it may be woken the next moment.
            (UnitState::Paused, Some(_)) => left.ready >= floor,
            (UnitState::Paused, None) => is_above || (left.paused > self.policy.pool() && left.free >= kept),
            // Health mends the mending; the others go already or are not there yet.
            (
                UnitState::Creating
                | UnitState::Booting
                | UnitState::Mending
                | UnitState::Draining
                | UnitState::Stopping,
                _,
            ) => false,
        }
    }

    /// Whether taking it away hurts nobody.
    fn may_go(&self, unit: &UnitView, now: Monotonic) -> bool {
        let is_idle = unit.taken == 0 && (unit.idle_since.is_some() || unit.state == UnitState::Paused);
        is_idle && now.since(unit.born) >= self.policy.min_life
    }
}

/// Who goes first: one of an old configuration, as it has to go anyway; then a
/// degraded one, which is of no use; then a paused one, which plays nothing;
/// then the youngest: the older have proven themselves, their peers and caches
/// are warm, and what a burst has added goes before what was there.
fn rank(unit: &UnitView) -> (bool, u8, Reverse<Monotonic>, super::UnitId) {
    let use_of_it = match unit.state {
        UnitState::Degraded => 0,
        UnitState::Paused => 1,
        _ => 2,
    };
    (!unit.drifted, use_of_it, Reverse(unit.born), unit.id)
}
