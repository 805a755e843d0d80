//! A life among random engines, viewers and clocks. `SIM_SEED=7` replays one.

use std::collections::HashMap;

use super::{tests::LIMITS, *};

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What an engine does with a source, decided when it is asked.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// Milliseconds from the question to its first packet; none for never.
    plays_at: Option<u64>,
    /// When it breaks off.
    breaks_at: Option<u64>,
    cause: Cause,
    /// Silent between these.
    silent: (u64, u64),
    proves: bool,
    behind: bool,
}

/// The world around one life.
struct World {
    life: Life,
    random: Random,
    now: u64,
    slots: u32,
    /// Whoever finds no slot may wait for one.
    growing: bool,
    /// No engine ever comes, and somebody waits for it.
    is_stuck: bool,
    /// Since when it waits.
    queued: Option<u64>,
    taken: HashMap<SourceId, Fate>,
    begun: HashMap<SourceId, u64>,
    /// Slots freed, by source: each exactly once.
    freed: HashMap<SourceId, u32>,
    active: Option<SourceId>,
    viewers: u32,
    ended: Option<Cause>,
    /// When something that a viewer can see last happened.
    served: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut effects = Vec::new();
        let life = Life::new(LIMITS, Self::time(0), &mut effects);
        let is_stuck = random.one_in(8);
        let slots = if is_stuck { 0 } else { u32::try_from(random.below(5)).unwrap() };
        let growing = is_stuck || random.one_in(2);
        let mut world = Self {
            life,
            random,
            now: 0,
            slots,
            growing,
            is_stuck,
            queued: None,
            taken: HashMap::new(),
            begun: HashMap::new(),
            freed: HashMap::new(),
            active: None,
            viewers: 1,
            ended: None,
            served: 0,
        };
        world.perform(effects);
        world
    }

    fn time(millis: u64) -> Monotonic {
        Monotonic(Duration::from_secs(1_000) + Duration::from_millis(millis))
    }

    fn on(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.life.on(event, Self::time(self.now), &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert!(self.ended.is_none(), "{effect:?} after the end");
            match effect {
                Effect::Start(id, _) => {
                    assert!(!self.begun.contains_key(&id), "{id:?} begun twice");
                    assert!(self.viewers > 0, "an engine asked for nobody");
                    if u32::try_from(self.taken.len()).unwrap() >= self.slots {
                        let cause = Cause::EnginesFull;
                        let answer = if self.growing { Event::NoSlot } else { Event::Unavailable };
                        self.on(answer(id, cause));
                        continue;
                    }
                    let fate = self.fate();
                    self.begun.insert(id, self.now);
                    self.taken.insert(id, fate);
                    assert!(self.taken.len() <= 3, "more than two beside the active one");
                    self.on(Event::Slot(id));
                    assert!(!self.is_queued(), "queued with a slot");
                }
                Effect::Promote(id) => {
                    assert!(self.taken.contains_key(&id), "{id:?} is not held");
                    assert_ne!(self.active, Some(id), "promoted twice");
                    self.active = Some(id);
                    self.served = self.now;
                }
                Effect::Stop(id) => self.free(id),
                Effect::LetGo => {
                    if self.viewers == 0 {
                        self.on(Event::Closed);
                    }
                }
                Effect::End(cause) => {
                    assert!(self.taken.is_empty(), "sources outlive the stream: {:?}", self.taken);
                    self.ended = Some(cause);
                }
            }
        }
        if self.ended.is_none() {
            // One owner: whoever writes is the one that the life names, and it is held.
            if let Some(active) = self.life.active() {
                assert!(self.taken.contains_key(&active), "{active:?} writes without a slot");
                assert_eq!(self.active, Some(active));
            }
        }
    }

    fn is_queued(&self) -> bool {
        self.life.state() == Some(StreamState::Queued)
    }

    /// The queue calls, as it does when something changes and now and then.
    fn call(&mut self) {
        if self.is_queued() {
            assert!(self.taken.is_empty(), "queued with a slot: {:?}", self.taken);
            let since = *self.queued.get_or_insert(self.now);
            // The longest budget, and a step's jump.
            assert!(self.now - since <= 90_000 + 21_000, "queued for ever");
            let may_ask = self.slots > 0 || !self.growing;
            if may_ask || self.random.one_in(3) {
                self.on(Event::Called);
                assert_eq!(self.is_queued(), !may_ask, "in the queue for nothing, or out of it");
            }
        } else if self.random.one_in(10) {
            self.on(Event::Called);
        }
        if !self.is_queued() {
            self.queued = None;
        }
    }

    fn free(&mut self, id: SourceId) {
        assert!(self.taken.remove(&id).is_some(), "{id:?} freed, but not held");
        *self.freed.entry(id).or_default() += 1;
        if self.active == Some(id) {
            self.active = None;
        }
    }

    fn fate(&mut self) -> Fate {
        let random = &mut self.random;
        let causes = [Cause::EngineReset, Cause::ContentUnavailable, Cause::EngineSilent, Cause::StartFailed];
        let plays_at = (!random.one_in(3)).then(|| random.below(40_000));
        let silent_from = random.below(60_000);
        Fate {
            plays_at,
            breaks_at: (!random.one_in(3)).then(|| random.below(80_000)),
            cause: causes[usize::try_from(random.below(4)).unwrap()],
            silent: (silent_from, silent_from + random.below(100_000)),
            proves: random.one_in(2),
            behind: random.one_in(4),
        }
    }

    /// A step of a few milliseconds to seconds.
    fn step(&mut self) {
        self.now +=
            if self.random.one_in(50) { self.random.below(20_000) } else { 1 + self.random.below(400) };
        if !self.is_stuck && self.random.one_in(40) {
            self.viewers = u32::try_from(self.random.below(3)).unwrap();
        }
        if !self.is_stuck && self.random.one_in(60) {
            self.slots = u32::try_from(self.random.below(5)).unwrap();
        }
        if !self.is_stuck && self.random.one_in(60) {
            self.growing = !self.growing;
        }
        self.on(if self.viewers > 0 { Event::Watched } else { Event::Unwatched });
        let guard = self.random.one_in(2);
        self.on(Event::Guard(guard));
        if self.random.one_in(100) {
            self.on(Event::Migrate);
        }
        if self.random.one_in(100) {
            self.on(Event::Distrusted);
        }
        let mut held: Vec<_> = self.taken.keys().copied().collect();
        held.sort_unstable();
        for id in held {
            self.play(id);
        }
        // Late news of sources that are gone changes nothing.
        if self.random.one_in(10) {
            let late = SourceId(u32::try_from(self.random.below(20)).unwrap());
            if !self.taken.contains_key(&late) {
                self.on(Event::Ready(late));
                self.on(Event::Failed(late, Cause::EngineReset));
            }
        }
        self.call();
        self.on(Event::Tick);
    }

    fn play(&mut self, id: SourceId) {
        let Some(fate) = self.taken.get(&id).copied() else { return };
        let age = self.now - self.begun[&id];
        if fate.breaks_at.is_some_and(|at| age >= at) {
            // The source ends by itself and gives its slot back.
            self.free(id);
            self.on(Event::Failed(id, fate.cause));
        } else if fate.plays_at.is_none_or(|at| age < at) {
            if fate.proves {
                self.on(Event::Progress(id));
            }
        } else if self.life.active() == Some(id) {
            if !(fate.silent.0..fate.silent.1).contains(&age) {
                self.served = self.now;
                self.on(Event::Bytes);
            }
        } else if fate.behind && self.random.one_in(3) {
            self.on(Event::Behind(id));
        } else {
            self.on(Event::Ready(id));
        }
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    for step in 0..4_000 {
        if world.ended.is_some() {
            break;
        }
        world.step();
        assert!(world.life.state().is_some() || world.ended.is_some(), "seed {seed}, step {step}");
        // A viewer gets data or an end: the longest budget, and a step's jump.
        let waits = world.now - world.served;
        let is_waiting = world.viewers > 0 && world.ended.is_none();
        assert!(!is_waiting || waits <= 91_000 + 21_000 + 90_000, "seed {seed}: {waits} ms without anything");
    }
    if world.ended.is_none() {
        world.on(Event::Drain);
    }
    assert!(world.ended.is_some() && world.taken.is_empty(), "seed {seed}: {:?}", world.taken);
    assert!(world.begun.keys().all(|id| world.freed.get(id) == Some(&1)), "seed {seed}: {:?}", world.freed);
}

#[test]
fn whatever_happens_each_slot_is_freed_once_and_nobody_waits_for_ever() {
    if let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        return live(seed);
    }
    (0..512).for_each(live);
}
