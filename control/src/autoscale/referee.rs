//! The rules, judged from outside: by what was seen and what was asked for,
//! never by what the policy remembers.

use std::{cmp::Ordering, collections::VecDeque, time::Duration};

use millrace_boundary::Monotonic;

use super::{
    Autoscaler, BreakerState, Observation, Plan, Policy, UnitState, UnitView, Why, growth::MENDING_LONGEST,
    view::Tally,
};

/// An hour's promise neither adds engines for this long after a step down, nor
/// are those it added taken away this soon.
const STEADY: Duration = Duration::from_secs(600);
/// Longest time between two looks, and a little.
const TURN: Duration = Duration::from_secs(16);

/// A step, and what stood at it.
#[derive(Clone, Copy)]
struct Step {
    at: Monotonic,
    /// Streams on ready engines, and those that wait.
    live: u32,
    /// Streams on any engine, and those that wait.
    all: u32,
    ailing: usize,
}

/// What an outside observer remembers.
pub(super) struct Referee {
    boot: Duration,
    last_step: Option<Monotonic>,
    last_down: Option<Step>,
    last_room_made: Option<Monotonic>,
    last_forecast: Option<Step>,
    half_open_start: Option<Monotonic>,
    starts: VecDeque<Monotonic>,
    /// When there was last no surplus.
    no_surplus_at: Monotonic,
    /// When something last was in the way of growing.
    hindered_at: Monotonic,
    /// When free slots last went away otherwise than by being taken.
    supply_fell_at: Monotonic,
    /// When free slots last appeared otherwise than by being left.
    supply_rose_at: Monotonic,
    below_floor_since: Option<Monotonic>,
    mending: Vec<(super::UnitId, Monotonic)>,
    jam_since: Option<Monotonic>,
    found_before: u32,
    /// How often each reason was given.
    pub(super) reasons: [u64; 10],
    /// Other things that happened: at least once, or the run proves little.
    pub(super) breaker_opened: u64,
}

impl Referee {
    pub(super) fn new(boot: Duration, now: Monotonic) -> Self {
        Self {
            boot,
            last_step: None,
            last_down: None,
            last_room_made: None,
            last_forecast: None,
            half_open_start: None,
            starts: VecDeque::new(),
            no_surplus_at: now,
            hindered_at: now,
            supply_fell_at: now,
            supply_rose_at: now,
            below_floor_since: None,
            mending: Vec::new(),
            jam_since: None,
            found_before: 0,
            reasons: [0; 10],
            breaker_opened: 0,
        }
    }

    /// An engine fell out of service, or the operator wants something else.
    pub(super) fn upset(&mut self, now: Monotonic) {
        self.hindered_at = now;
        (self.supply_fell_at, self.supply_rose_at) = (now, now);
    }

    /// Engines were started at these times, by whomever.
    pub(super) fn started(&mut self, starts: &mut Vec<Monotonic>, policy: &Policy) {
        let (rate, burst) = (policy.starts_per_minute, (policy.starts_per_minute / 3).clamp(2, 10));
        for start in starts.drain(..) {
            self.starts.push_back(start);
            for (before, first) in self.starts.iter().rev().enumerate() {
                let allowed = f64::from(burst) + start.since(*first).as_secs_f64() * f64::from(rate) / 60.0;
                assert!(
                    (before + 1) as f64 <= allowed + 1e-6,
                    "{before} starts and one more since {first:?}"
                );
            }
            while self.starts.len() > 100 {
                self.starts.pop_front();
            }
        }
    }

    /// Before the policy is asked.
    pub(super) fn look(
        &mut self,
        scaler: &Autoscaler,
        seen: &Observation<'_>,
        oldest: Option<Monotonic>,
        now: Monotonic,
    ) {
        let (policy, tally) = (scaler.policy(), Tally::of(seen.units));
        let breaker = scaler.breaker(now).state;
        if breaker != BreakerState::HalfOpen {
            self.half_open_start = None;
        }
        self.breaker_opened += u64::from(breaker == BreakerState::Open);
        match seen.found_free.cmp(&self.found_before) {
            Ordering::Less => self.supply_fell_at = now,
            Ordering::Equal => {}
            Ordering::Greater => self.supply_rose_at = now,
        }
        self.found_before = seen.found_free;
        if !seen.docker_answers || breaker != BreakerState::Closed || tally.total >= policy.max {
            self.hindered_at = now;
        }
        let roomy = tally.ready_free + seen.found_free >= policy.spare_slots + policy.capacity;
        let is_above = tally.total - tally.leaving > policy.max;
        let is_surplus = roomy || is_above || tally.paused > policy.paused;
        if policy.manual.is_none() && (!is_surplus || seen.waiting > 0 || !seen.docker_answers) {
            self.no_surplus_at = now;
        }
        self.nobody_waits_for_long(policy, &tally, oldest, now);
        self.broken_ones_make_room(policy, breaker, seen, &tally, now);
    }

    fn nobody_waits_for_long(
        &mut self,
        policy: &Policy,
        tally: &Tally,
        oldest: Option<Monotonic>,
        now: Monotonic,
    ) {
        let engines = u32::try_from(policy.max).unwrap();
        let pace = Duration::from_secs(60) * engines / policy.starts_per_minute;
        if let (Some(oldest), None) = (oldest, policy.manual) {
            let waited = now.since(oldest.max(self.hindered_at));
            assert!(
                waited <= self.boot + pace + TURN,
                "a stream waits for {waited:?} with nothing in the way"
            );
        }
        let floor = policy.manual.unwrap_or(policy.min).min(policy.max);
        if tally.running() >= floor {
            self.below_floor_since = None;
        } else {
            let since = *self.below_floor_since.get_or_insert(now);
            let stood = now.since(since.max(self.hindered_at));
            assert!(stood <= policy.sustained + pace + TURN, "below the minimum for {stood:?}");
        }
    }

    fn broken_ones_make_room(
        &mut self,
        policy: &Policy,
        breaker: BreakerState,
        seen: &Observation<'_>,
        tally: &Tally,
        now: Monotonic,
    ) {
        let is_mending = |unit: &UnitView| unit.state == UnitState::Mending;
        self.mending.retain(|(id, _)| seen.units.iter().any(|unit| unit.id == *id && is_mending(unit)));
        for unit in seen.units.iter().filter(|unit| is_mending(unit)) {
            if self.mending.iter().all(|(id, _)| *id != unit.id) {
                self.mending.push((unit.id, now));
            }
        }
        let is_stuck = self.mending.iter().any(|(id, since)| {
            let unit = seen.units.iter().find(|unit| unit.id == *id).unwrap();
            now.since(*since) >= MENDING_LONGEST && now.since(unit.born) >= policy.min_life
        });
        let is_jammed = is_stuck
            && seen.waiting > tally.supply(seen.found_free)
            && tally.total == policy.max
            && tally.leaving + tally.paused == 0
            && policy.manual.is_none();
        if !is_jammed || !seen.docker_answers || breaker != BreakerState::Closed {
            self.jam_since = None;
            return;
        }
        let stood = now.since(*self.jam_since.get_or_insert(now));
        assert!(stood <= policy.cooldown + TURN, "broken engines block for {stood:?}");
    }

    /// After the policy was asked, before it is carried out.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        scaler: &Autoscaler,
        breaker: BreakerState,
        seen: &Observation<'_>,
        now: Monotonic,
    ) {
        let (policy, tally) = (scaler.policy(), Tally::of(seen.units));
        if plan.is_empty() {
            assert_eq!(plan.why, Why::Enough, "no reason without a change");
            return;
        }
        self.reasons[plan.why as usize] += 1;
        assert!(seen.docker_answers, "nothing is asked of a silent Docker");
        let created = plan.create + plan.create_paused;
        if created > 0 {
            assert!(tally.total + created <= policy.max, "never above the maximum");
            match breaker {
                BreakerState::Closed => {}
                BreakerState::Open => panic!("created while the breaker is open"),
                BreakerState::HalfOpen => {
                    let since = self.half_open_start.replace(now);
                    assert!(created == 1 && since.is_none_or(|at| now.since(at) >= Duration::from_secs(180)));
                }
            }
        }
        let (live, all) = (tally.ready_taken + seen.waiting, tally.taken + seen.waiting);
        let step = Step { at: now, live, all, ailing: tally.ailing };
        if plan.why == Why::MakeRoom {
            self.judge_room(plan, policy, seen, &tally, now);
        } else if !plan.remove.is_empty() || !plan.pause.is_empty() {
            self.judge_down(plan, policy, seen, &tally, step);
        }
        if created + plan.unpause.len() > 0 {
            // More have come for other reasons, and may go when those are over.
            self.last_forecast = None;
        }
        if matches!(plan.why, Why::Headroom | Why::Forecast) {
            self.judge_up(plan, policy, seen, &tally, step);
        }
        self.last_step = Some(now);
    }

    fn judge_room(
        &mut self,
        plan: &Plan,
        policy: &Policy,
        seen: &Observation<'_>,
        tally: &Tally,
        now: Monotonic,
    ) {
        assert!(tally.total >= policy.max, "room is made where there is none");
        for id in &plan.remove {
            let unit = seen.units.iter().find(|unit| unit.id == *id).unwrap();
            assert_eq!((unit.state, unit.taken), (UnitState::Mending, 0), "only broken ones make room");
            assert!(now.since(unit.born) >= policy.min_life, "none below its minimum life");
            let since = self.mending.iter().find(|(mending, _)| mending == id).unwrap().1;
            assert!(now.since(since) >= MENDING_LONGEST, "not before it had time to mend");
        }
        let last = self.last_room_made.max(self.last_down.map(|step| step.at));
        assert!(last.is_none_or(|at| now.since(at) >= policy.cooldown), "one removal per cooldown");
        self.last_room_made = Some(now);
        self.no_surplus_at = now;
    }

    fn judge_down(
        &mut self,
        plan: &Plan,
        policy: &Policy,
        seen: &Observation<'_>,
        tally: &Tally,
        step: Step,
    ) {
        let now = step.at;
        assert!(self.last_step.is_none_or(|at| now.since(at) >= policy.cooldown), "a cooldown between steps");
        assert_eq!(seen.waiting, 0, "never down while streams wait");
        let is_manual = policy.manual.is_some();
        assert!(is_manual || plan.pause.len() + plan.remove.len() <= policy.step_down, "one step at a time");
        assert!(
            is_manual || now.since(self.no_surplus_at) >= policy.surplus,
            "only after a standing surplus"
        );
        let (mut free, mut healthy) = (tally.ready_free + seen.found_free, tally.ready + tally.booting);
        for id in plan.remove.iter().chain(&plan.pause) {
            let unit = seen.units.iter().find(|unit| unit.id == *id).unwrap();
            assert_eq!(unit.taken, 0, "no engine under a viewer");
            assert!(unit.idle_since.is_some() || unit.state == UnitState::Paused, "idle");
            assert!(now.since(unit.born) >= policy.min_life, "none below its minimum life");
            assert!(matches!(unit.state, UnitState::Ready | UnitState::Degraded | UnitState::Paused));
            if unit.state == UnitState::Ready {
                free -= unit.capacity;
                healthy -= 1;
            }
        }
        let floor = policy.manual.unwrap_or(policy.min).min(policy.max);
        assert!(healthy >= floor || plan.remove.iter().all(|id| !is_ready(seen, *id)), "the minimum is kept");
        if plan.why == Why::Surplus && tally.total - tally.leaving <= policy.max {
            let is_all_paused = tally.paused > policy.paused;
            assert!(free >= policy.spare_slots || is_all_paused, "spare slots are left");
        }
        if let Some(up) =
            self.last_forecast.filter(|up| now.since(up.at) < STEADY && plan.why == Why::Surplus)
        {
            assert!(
                step.all < up.all || up.ailing > 0 || self.supply_rose_at > up.at || tally.paused > 0,
                "what the hour promised is kept: {plan:?} {tally:?}"
            );
        }
        self.last_down = Some(step);
        self.no_surplus_at = now;
    }

    fn judge_up(&mut self, plan: &Plan, policy: &Policy, seen: &Observation<'_>, tally: &Tally, step: Step) {
        let slots = tally.supply(seen.found_free) + tally.ready_taken;
        if let Some(down) = self.last_down {
            let since = step.at.since(down.at);
            let is_flap = since < policy.surplus && step.live <= down.live && self.supply_fell_at < down.at;
            assert!(
                !is_flap,
                "up again {since:?} after a step down, with no more demand: {plan:?}, {tally:?}"
            );
            assert!(
                plan.why != Why::Forecast || since >= STEADY,
                "the hour's promise waits after a step down"
            );
        }
        if plan.why == Why::Forecast {
            assert!(
                slots < 2 * (step.all + policy.spare_slots),
                "at most what live demand asks for, doubled"
            );
            self.last_forecast = Some(step);
        }
    }
}

fn is_ready(seen: &Observation<'_>, id: super::UnitId) -> bool {
    seen.units.iter().any(|unit| unit.id == id && unit.state == UnitState::Ready)
}
