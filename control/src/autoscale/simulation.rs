//! The policy lives through days with a fake fleet, fake viewers and a virtual
//! clock; after each step the referee looks. `SIM_SEED=7` replays one seed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use millrace_boundary::Monotonic;

use super::{
    Autoscaler, HOURS, Held, Observation, Policy, UnitId, UnitState, Why,
    referee::Referee,
    world::{Luck, World},
};
use crate::random::Random;

const SEEDS: u64 = 256;
const LENGTH: Duration = Duration::from_secs(48 * 3_600);

struct Viewer {
    at: Option<UnitId>,
    since: Monotonic,
    ends: Monotonic,
}

struct Simulation {
    random: Random,
    scaler: Autoscaler,
    world: World,
    referee: Referee,
    viewers: Vec<Viewer>,
    now: Monotonic,
    start: Monotonic,
    /// Seconds into the week at the start.
    offset: u64,
    /// Viewers at the busiest hour.
    peak: u64,
    uses_hours: bool,
    silent_until: Monotonic,
    broken_until: Monotonic,
    luck: Luck,
    found_free: u32,
    usual: Policy,
}

/// How busy an hour of the week is, in percent.
fn busy(hour: u64) -> u64 {
    const DAY: [u64; 24] =
        [40, 25, 15, 10, 8, 8, 10, 15, 20, 25, 28, 32, 40, 38, 34, 34, 38, 45, 60, 80, 100, 100, 85, 60];
    let is_weekend = hour / 24 >= 5;
    DAY[usize::try_from(hour % 24).unwrap()] * if is_weekend { 130 } else { 100 } / 100
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let start = Monotonic(Duration::from_secs(5_000));
        let min = pick(&mut random, &[0, 1, 2, 2, 3]);
        let usual = Policy {
            min,
            max: min + pick(&mut random, &[0, 1, 4, 4, 6, 10]),
            spare_slots: pick(&mut random, &[0, 1, 2, 4]),
            capacity: pick(&mut random, &[1, 2, 3, 3, 5]),
            paused: pick(&mut random, &[0, 0, 1, 2]),
            step_up: pick(&mut random, &[1, 2, 3]),
            step_down: pick(&mut random, &[1, 1, 2]),
            starts_per_minute: pick(&mut random, &[10, 30, 30, 60]),
            ..Policy::default()
        };
        let luck = Luck { boot_fails: pick(&mut random, &[0, 20, 100, 200]), boot: 25 };
        let peak = pick(&mut random, &[2, 6, 12, 25]);
        let mut scaler = Autoscaler::new(usual.clone(), start);
        // Mostly right, and a third of it quite wrong.
        let peaks: Vec<f32> = (0..HOURS as u64)
            .map(|hour| {
                let percent = if random.below(3) == 0 { random.below(200) } else { busy(hour) };
                (peak * percent) as f32 / 100.0
            })
            .collect();
        scaler.import_profile(&peaks).unwrap();
        Self {
            scaler,
            world: World::new(seed ^ 0x5EED, luck),
            referee: Referee::new(Duration::from_secs(27), start),
            viewers: Vec::new(),
            now: start,
            start,
            offset: random.below(7) * 86_400,
            peak,
            uses_hours: random.below(3) > 0,
            silent_until: start,
            broken_until: start,
            luck,
            found_free: 0,
            usual,
            random,
        }
    }

    /// One in so many seconds, over this step.
    fn happens(&mut self, seconds: u64, step: Duration) -> bool {
        let micros = u64::try_from(step.as_micros()).unwrap();
        self.random.below(seconds * 1_000_000) < micros
    }

    fn hour(&self) -> u64 {
        (self.offset + self.now.since(self.start).as_secs()) / 3_600 % HOURS as u64
    }

    fn step(&mut self) {
        let coming = |state| matches!(state, UnitState::Creating | UnitState::Booting);
        let is_busy = self.world.count(coming) > 0 || self.viewers.iter().any(|viewer| viewer.at.is_none());
        let millis = if is_busy { 250 + self.random.below(3_000) } else { 1_000 + self.random.below(14_000) };
        let step = Duration::from_millis(millis);
        self.now = self.now + step;
        self.trouble(step);
        let docker = self.now >= self.silent_until;
        self.world.luck.boot_fails = if self.now < self.broken_until { 1_000 } else { self.luck.boot_fails };
        if self.world.turn(&mut self.scaler, docker, self.now) > 0 {
            self.referee.upset(self.now);
        }
        self.demand(step);
        self.seat();
        self.ask(docker);
    }

    fn trouble(&mut self, step: Duration) {
        let now = self.now;
        if self.happens(8 * 3_600, step) {
            self.silent_until = self.world.soon(300, now);
        }
        if self.happens(16 * 3_600, step) {
            self.broken_until = self.world.soon(1_800, now);
        }
        if self.happens(3_600, step) {
            self.found_free = pick(&mut self.random, &[0, 0, 0, 1, 3]);
        }
        if self.happens(10 * 3_600, step) {
            self.change_policy();
        }
        for index in 0..self.world.units.len() {
            let unit = self.world.units[index].view;
            if unit.state != UnitState::Ready || !self.happens(7_200, step) {
                continue;
            }
            self.referee.upset(now);
            let soon = Duration::from_secs(5 + self.random.below(30));
            self.world.units[index].recovers = self.random.below(2) == 0;
            match self.random.below(8) {
                0 => self.world.hurt(index, UnitState::Draining, None, now),
                1..=3 => self.world.hurt(index, UnitState::Stopping, Some(soon / 4), now),
                _ => self.world.hurt(index, UnitState::Degraded, Some(soon), now),
            }
        }
        for index in 0..self.world.units.len() {
            let unit = self.world.units[index].view;
            if unit.state == UnitState::Draining && unit.taken == 0 {
                self.world.hurt(index, UnitState::Stopping, Some(Duration::from_secs(2)), now);
            }
            if self.random.below(20_000) == 0 {
                self.world.units[index].view.drifted = true;
            }
        }
    }

    fn change_policy(&mut self) {
        let mut policy = self.usual.clone();
        match self.random.below(4) {
            0 => policy.manual = Some(usize::try_from(self.random.below(8)).unwrap()),
            1 => policy.max = policy.max.saturating_sub(2).max(1),
            2 => policy.paused = 0,
            _ => {}
        }
        self.scaler.set_policy(policy);
        self.referee.upset(self.now);
    }

    fn demand(&mut self, step: Duration) {
        let now = self.now;
        let world = &mut self.world;
        self.viewers.retain(|viewer| {
            let stays = now < viewer.ends;
            if let (false, Some(id)) = (stays, viewer.at) {
                world.leave(id, now);
            }
            stays
        });
        let mut arrivals = 0;
        // Viewers stay for 20 minutes on average.
        let wanted = self.peak * busy(self.hour());
        if wanted > 0 && self.happens(1 + 120_000 / wanted, step) {
            arrivals += 1;
        }
        if self.happens(6 * 3_600, step) {
            arrivals += 5 + self.random.below(36);
        }
        for _ in 0..arrivals {
            let ends = self.world.soon(2_400, now);
            self.viewers.push(Viewer { at: None, since: now, ends });
        }
    }

    /// Viewers of engines that play no more wait like the others, the longest
    /// waiting first.
    fn seat(&mut self) {
        for viewer in &mut self.viewers {
            let is_cut = viewer.at.is_some_and(|id| {
                let unit = self.world.units.iter().find(|unit| unit.view.id == id);
                unit.is_none_or(|unit| {
                    matches!(unit.view.state, UnitState::Stopping | UnitState::Mending | UnitState::Booting)
                })
            });
            if is_cut {
                (viewer.at, viewer.since) = (None, self.now);
            }
        }
        for unit in &mut self.world.units {
            if matches!(unit.view.state, UnitState::Stopping | UnitState::Mending | UnitState::Booting) {
                unit.view.taken = 0;
                unit.view.idle_since.get_or_insert(self.now);
            }
        }
        let mut found = self.found_free;
        while let Some(viewer) =
            self.viewers.iter_mut().filter(|viewer| viewer.at.is_none()).min_by_key(|viewer| viewer.since)
        {
            match self.world.seat() {
                Some(id) => viewer.at = Some(id),
                None if found > 0 => {
                    // Plays elsewhere, out of sight.
                    found -= 1;
                    viewer.at = Some(UnitId(u32::MAX));
                    viewer.ends = self.now;
                }
                None => break,
            }
        }
    }

    fn ask(&mut self, docker: bool) {
        let now = self.now;
        let waiting = self.viewers.iter().filter(|viewer| viewer.at.is_none());
        let oldest = waiting.clone().map(|viewer| viewer.since).min();
        let rest = Observation {
            units: &[],
            found_free: self.found_free,
            waiting: u32::try_from(waiting.count()).unwrap(),
            hour: self.uses_hours.then(|| u32::try_from(self.hour()).unwrap()),
            docker_answers: docker,
        };
        let policy = self.scaler.policy().clone();
        self.referee.started(&mut self.world.starts, &policy);
        let before: Vec<_> = self.world.units.iter().map(|unit| unit.view).collect();
        let seen = Observation { units: &before, ..rest };
        self.referee.look(&self.scaler, &seen, oldest, now);
        let breaker = self.scaler.breaker(now).state;
        let plan = self.world.ask(&mut self.scaler, &rest, now);
        self.referee.judge(&plan, &self.scaler, breaker, &seen, now);
        self.world.carry_out(&plan, policy.slots(), now);
        self.referee.started(&mut self.world.starts, &policy);
        if plan.is_empty() {
            return;
        }
        let after: Vec<_> = self.world.units.iter().map(|unit| unit.view).collect();
        let mut again = self.world.ask(&mut self.scaler, &rest, now);
        if again.why == Why::MakeRoom && plan.held == Some(Held::AtMax) {
            // The first plan has taken all the room there was.
            let seen = Observation { units: &after, ..rest };
            self.referee.judge(&again, &self.scaler, breaker, &seen, now);
            self.world.carry_out(&again, policy.slots(), now);
            again = self.world.ask(&mut self.scaler, &rest, now);
        }
        assert!(again.is_empty(), "asked again: {again:?} after {plan:?}");
    }
}

/// Lives through one seed; says how often each reason was given and how often
/// the breaker was seen open.
fn live(seed: u64) -> [u64; 11] {
    let mut simulation = Simulation::new(seed);
    let mut step = 0u64;
    while simulation.now.since(simulation.start) < LENGTH {
        step += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| simulation.step()));
        if let Err(panic) = outcome {
            let after = simulation.now.since(simulation.start);
            let policy = simulation.scaler.policy();
            eprintln!("SIM_SEED={seed} step {step}, {after:?} in, {policy:?}");
            resume_unwind(panic);
        }
    }
    let mut counts = [0; 11];
    counts[..10].copy_from_slice(&simulation.referee.reasons);
    counts[10] = simulation.referee.breaker_opened;
    counts
}

#[test]
fn rules_hold_through_days_of_viewers_and_trouble() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        live(seed.parse().unwrap());
        return;
    }
    let next = AtomicU64::new(0);
    let work = || {
        let mut sum = [0u64; 11];
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return sum;
            }
            for (sum, count) in sum.iter_mut().zip(live(seed)) {
                *sum += count;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let sums: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    // A rule that nothing has tried has not been shown.
    for reason in 1..11 {
        let times: u64 = sums.iter().map(|sum| sum[reason]).sum();
        assert!(times >= 50, "reason {reason} was given {times} times");
    }
}
