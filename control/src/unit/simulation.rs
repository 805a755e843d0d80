//! Lives under random events: never two deeds at once, never stuck.

use std::time::Duration;

use millrace_boundary::Monotonic;

use super::{Ail, Deed, Effect, Event, Fault, Leave, Life, Look, Order, Sense, Stage};
use crate::{random::Random, unit::life::Limits};

const LIMITS: Limits = Limits { boot: Duration::from_secs(60), drain: Duration::from_secs(40) };
/// Longest deed of the fake daemon, in milliseconds.
const DEED: u64 = 5_000;

/// A container as it really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Real {
    None,
    Up,
    Frozen,
    Down,
}

struct World {
    life: Life,
    now: u64,
    real: Real,
    /// The deed under way, and when it is over.
    deed: Option<(Deed, u64)>,
    random: Random,
    good_at: u64,
    ail: Option<Ail>,
    taken: u32,
    step: u64,
    seed: u64,
}

impl World {
    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn sense(&self) -> Sense {
        let is_good = self.real == Real::Up && self.good_at <= self.now && self.ail.is_none();
        Sense { is_good, ail: self.ail, taken: self.taken, may_mend: true }
    }

    fn on(&mut self, event: Event) {
        let (sense, now) = (self.sense(), Monotonic(Duration::from_millis(self.now)));
        let mut effects = Vec::new();
        self.life.on(event, sense, now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Do(deed) => {
                    assert_eq!(self.deed, None, "seed {} step {}: two deeds at once", self.seed, self.step);
                    if deed == Deed::Pause {
                        assert_eq!(
                            self.taken, 0,
                            "seed {} step {}: paused under a stream",
                            self.seed, self.step
                        );
                    }
                    let took = 1 + self.random.below(DEED);
                    self.deed = Some((deed, self.now + took));
                }
                // Streams that are told to move do so, as a rule.
                Effect::Drain if !self.chance(4) => self.taken = 0,
                Effect::Drain | Effect::Undrain | Effect::Shelve | Effect::Wake | Effect::Tell(_) => {}
            }
        }
    }

    fn deed_over(&mut self, deed: Deed) {
        let faulty = self.random.below(20);
        let outcome = match faulty {
            0 => Err(Fault::Daemon),
            1 => Err(Fault::Refused),
            2 if self.real == Real::None && !matches!(deed, Deed::Make | Deed::Remake) => Err(Fault::Gone),
            _ => Ok(()),
        };
        if outcome.is_ok() {
            self.real = match deed {
                Deed::Make | Deed::Revive | Deed::Remake | Deed::Unpause => {
                    self.good_at = self.now + self.random.below(80_000);
                    self.ail = None;
                    Real::Up
                }
                Deed::Bury | Deed::Dispose => Real::None,
                Deed::Pause => Real::Frozen,
            };
        }
        self.on(Event::Done(deed, outcome));
    }

    fn step(&mut self) {
        self.step += 1;
        self.now += 250;
        if let Some((deed, over)) = self.deed
            && over <= self.now
        {
            self.deed = None;
            self.deed_over(deed);
        }
        if self.chance(400) && self.real == Real::Up {
            self.real = Real::Down;
            self.taken = 0;
        }
        if self.chance(600) && self.real == Real::Up {
            self.real = Real::Frozen;
        }
        if self.chance(300) {
            self.ail = match self.random.below(3) {
                0 => Some(Ail::Api),
                1 => Some(Ail::Starts),
                _ => None,
            };
        }
        if self.life.stage() == Stage::Ready && self.chance(10) {
            self.taken = u32::try_from(self.random.below(4)).unwrap();
        }
        if self.chance(4) {
            let look = match self.real {
                Real::None => Look::Absent,
                Real::Up => Look::Running { reachable: true },
                Real::Frozen => Look::Paused,
                Real::Down => Look::Down,
            };
            let begun = Monotonic(Duration::from_millis(self.now));
            self.on(Event::Seen(look, begun));
        }
        if self.chance(500) {
            let order = match self.random.below(7) {
                0 => Order::Drain,
                1 => Order::Undrain,
                2 => Order::Restart,
                3 => Order::Remake(Leave::Age),
                4 => Order::Pause,
                5 => Order::Wake,
                _ => Order::Undrain,
            };
            self.on(Event::Order(order));
        }
        self.on(Event::Tick);
    }
}

#[test]
fn no_unit_is_ever_stuck_or_has_two_deeds_at_once() {
    let seeds = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in seeds.map_or(0..256, |seed: u64| seed..seed + 1) {
        let mut effects = Vec::new();
        let life = Life::make(LIMITS, false, Monotonic(Duration::ZERO), &mut effects);
        let mut world = World {
            life,
            now: 0,
            real: Real::None,
            deed: Some((Deed::Make, 700)),
            random: Random::new(seed),
            good_at: 0,
            ail: None,
            taken: 0,
            step: 0,
            seed,
        };
        // Where nothing is done and nothing is to be waited for.
        let mut stands = 0u64;
        for _ in 0..20_000 {
            let before = (world.life.stage(), world.deed);
            world.step();
            if world.life.stage() == Stage::Gone {
                break;
            }
            let rests = matches!(world.life.stage(), Stage::Ready | Stage::Paused | Stage::Emptying(None, _));
            stands = if rests || before != (world.life.stage(), world.deed) { 0 } else { stands + 1 };
            // Quarantine is the longest wait of all.
            assert!(stands < 4 * 610, "seed {seed} step {}: stuck in {:?}", world.step, world.life);
        }
        // Whoever is told to go is gone in the end, whatever was under way.
        world.on(Event::Order(Order::Kill));
        for _ in 0..4_000 {
            if world.life.stage() != Stage::Gone {
                world.step();
            }
        }
        assert_eq!(world.life.stage(), Stage::Gone, "seed {seed}: {:?}", world.life);
        assert_eq!(world.deed, None, "seed {seed}");
    }
}
