//! A fleet that does what it is told, with the troubles of a real one.

use std::time::Duration;

use millrace_boundary::Monotonic;

use super::{Autoscaler, Observation, Plan, UnitId, UnitState, UnitView};
use crate::random::Random;

/// How well things go.
#[derive(Clone, Copy)]
pub(super) struct Luck {
    /// Boots that fail, out of a thousand.
    pub(super) boot_fails: u64,
    /// Seconds that a boot takes at most; 5 at least.
    pub(super) boot: u64,
}

/// One engine as it really is.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    pub(super) view: UnitView,
    /// When it passes from a state that does not last.
    next: Option<Monotonic>,
    /// It is to be paused once it has booted.
    is_for_pool: bool,
    /// It was created and nobody has been told how it went.
    is_owed: bool,
    /// Where it is degraded: that will pass.
    pub(super) recovers: bool,
}

/// All engines.
pub(super) struct World {
    pub(super) units: Vec<Unit>,
    pub(super) luck: Luck,
    pub(super) random: Random,
    /// When engines were started, newest last; for others to look at and clear.
    pub(super) starts: Vec<Monotonic>,
    born: u32,
    views: Vec<UnitView>,
}

impl World {
    pub(super) fn new(seed: u64, luck: Luck) -> Self {
        Self {
            units: Vec::new(),
            luck,
            random: Random::new(seed),
            starts: Vec::new(),
            born: 0,
            views: Vec::new(),
        }
    }

    /// Does all that the plan says.
    pub(super) fn carry_out(&mut self, plan: &Plan, capacity: u32, now: Monotonic) {
        for index in 0..plan.create + plan.create_paused {
            self.starts.push(now);
            self.add(UnitState::Creating, capacity, now);
            let unit = self.units.last_mut().unwrap();
            unit.is_for_pool = index >= plan.create;
            unit.is_owed = true;
            unit.next = Some(now + Duration::from_secs(1));
        }
        for unit in &mut self.units {
            let id = unit.view.id;
            if plan.unpause.contains(&id) {
                assert_eq!(unit.view.state, UnitState::Paused, "only a paused one is woken");
                unit.view.state = UnitState::Booting;
                unit.next = Some(now + Duration::from_millis(50));
            }
            if plan.pause.contains(&id) {
                assert_eq!(unit.view.state, UnitState::Ready, "only a ready one is paused");
                unit.view.state = UnitState::Paused;
                unit.next = None;
            }
            if plan.remove.contains(&id) {
                assert!(
                    !matches!(unit.view.state, UnitState::Draining | UnitState::Stopping),
                    "one that goes is not taken away again"
                );
                unit.view.state = UnitState::Stopping;
                unit.next = Some(now + Duration::from_secs(2));
            }
        }
    }

    pub(super) fn add(&mut self, state: UnitState, capacity: u32, now: Monotonic) {
        self.born += 1;
        let view = UnitView {
            id: UnitId(self.born),
            state,
            taken: 0,
            capacity,
            born: now,
            idle_since: Some(now),
            drifted: false,
        };
        self.units.push(Unit { view, next: None, is_for_pool: false, is_owed: false, recovers: false });
    }

    /// Moves on what is due. Says how many engines have fallen out of service.
    pub(super) fn turn(&mut self, scaler: &mut Autoscaler, docker: bool, now: Monotonic) -> usize {
        let mut lost = 0;
        for index in 0..self.units.len() {
            let unit = self.units[index];
            if unit.next.is_none_or(|next| now < next) {
                continue;
            }
            let (state, next) = match unit.view.state {
                // Without Docker nothing of this moves.
                UnitState::Creating | UnitState::Stopping | UnitState::Mending if !docker => continue,
                UnitState::Creating => {
                    let boot = 5 + self.random.below(self.luck.boot - 4);
                    (UnitState::Booting, Some(now + Duration::from_secs(boot)))
                }
                UnitState::Booting => {
                    let works = !unit.is_owed || self.random.below(1_000) >= self.luck.boot_fails;
                    if unit.is_owed {
                        self.units[index].is_owed = false;
                        scaler.created(works, now);
                    }
                    lost += usize::from(!works);
                    match (works, unit.is_for_pool) {
                        (false, _) => (UnitState::Stopping, Some(now + Duration::from_secs(2))),
                        (true, true) => (UnitState::Paused, None),
                        (true, false) => (UnitState::Ready, None),
                    }
                }
                UnitState::Degraded if unit.recovers => (UnitState::Ready, None),
                UnitState::Degraded => {
                    lost += 1;
                    (UnitState::Mending, Some(self.soon(300, now)))
                }
                UnitState::Mending => {
                    if self.random.below(3) == 0 && scaler.may_start(now) {
                        self.starts.push(now);
                        // Recreated: a new life, as bound to succeed as another.
                        self.units[index].is_owed = true;
                        self.units[index].view.born = now;
                        (UnitState::Booting, Some(self.soon(self.luck.boot, now)))
                    } else {
                        (UnitState::Ready, None)
                    }
                }
                UnitState::Stopping => (UnitState::Stopping, None),
                state @ (UnitState::Ready | UnitState::Paused | UnitState::Draining) => (state, None),
            };
            self.units[index].view.state = state;
            self.units[index].next = next;
            self.units[index].is_for_pool &= state != UnitState::Paused;
        }
        self.units.retain(|unit| unit.view.state != UnitState::Stopping || unit.next.is_some());
        lost
    }

    /// An engine that was well is so no longer; its streams are elsewhere.
    pub(super) fn hurt(&mut self, index: usize, to: UnitState, next: Option<Duration>, now: Monotonic) {
        let unit = &mut self.units[index];
        unit.view.state = to;
        unit.next = next.map(|after| now + after);
    }

    pub(super) fn soon(&mut self, seconds: u64, now: Monotonic) -> Monotonic {
        now + Duration::from_secs(1 + self.random.below(seconds))
    }

    /// One stream more, on the ready engine with the most room; where.
    pub(super) fn seat(&mut self) -> Option<UnitId> {
        let ready = self.units.iter_mut().filter(|unit| unit.view.state == UnitState::Ready);
        let unit = ready.max_by_key(|unit| unit.view.free()).filter(|unit| unit.view.free() > 0)?;
        unit.view.taken += 1;
        unit.view.idle_since = None;
        Some(unit.view.id)
    }

    /// One stream less.
    pub(super) fn leave(&mut self, id: UnitId, now: Monotonic) {
        if let Some(unit) = self.units.iter_mut().find(|unit| unit.view.id == id) {
            unit.view.taken -= 1;
            unit.view.idle_since = (unit.view.taken == 0).then_some(now);
        }
    }

    pub(super) fn count(&self, of: impl Fn(UnitState) -> bool) -> usize {
        self.units.iter().filter(|unit| of(unit.view.state)).count()
    }

    pub(super) fn find(&self, id: UnitId) -> &UnitView {
        &self.units.iter().find(|unit| unit.view.id == id).unwrap().view
    }

    /// Asks what is to be done.
    pub(super) fn ask(&mut self, scaler: &mut Autoscaler, rest: &Observation<'_>, now: Monotonic) -> Plan {
        self.views.clear();
        self.views.extend(self.units.iter().map(|unit| unit.view));
        scaler.plan(&Observation { units: &self.views, ..*rest }, now)
    }
}
