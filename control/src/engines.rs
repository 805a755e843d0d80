//! All engines: whose turn it is to be probed, and the table made of them.

use std::{sync::Arc, time::Duration};

use millrace_boundary::{
    EngineEntry, EngineEvidence, EngineId, EngineState, EngineTable, Epoch, Monotonic, Slots,
};

use crate::{
    engine::{Admission, Effect, Event, Life},
    fleet::Member,
    probe::{Answer, ProbeFailure},
    random::Random,
};

/// Probes at once: two descriptors each, well below the 20,000 that the
/// process may have, and more than any fleet of one machine.
const PROBES_AT_ONCE: usize = 512;
/// A probe brought forward still leaves the engine this much time.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// Scores change with each start; the table for them alone this often at most.
const TABLE_PAUSE: Duration = Duration::from_millis(100);

/// One engine and what belongs to it for as long as the process runs.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Who.
    pub(crate) id: EngineId,
    /// For people.
    pub(crate) name: Arc<str>,
    /// Where.
    pub(crate) address: std::net::SocketAddr,
    /// Its life.
    pub(crate) life: Life,
    /// Its slots; every table points at the same ones.
    pub(crate) slots: Arc<Slots>,
    next_probe: Monotonic,
    probing: bool,
}

/// How many probes ended which way, since start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProbeCounts {
    /// Good ones.
    pub(crate) good: u64,
    /// Failed ones.
    pub(crate) failed: u64,
}

/// Engines by state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StateCounts {
    /// Not yet answered.
    pub(crate) booting: usize,
    /// Takes streams.
    pub(crate) ready: usize,
    /// Takes none.
    pub(crate) degraded: usize,
    /// Takes none, and its streams move.
    pub(crate) draining: usize,
}

/// Every engine of the fleet, in order of ids.
#[derive(Debug)]
pub(crate) struct Engines {
    list: Vec<Engine>,
    capacity: u32,
    probe_interval: Duration,
    random: Random,
    in_flight: usize,
    probes: ProbeCounts,
    effects: Vec<Effect>,
    table: Arc<EngineTable>,
    table_at: Monotonic,
    turned: bool,
}

impl Engines {
    /// Engines just found, due to be probed at once.
    pub(crate) fn new(
        members: Vec<Member>,
        capacity: u32,
        probe_interval: Duration,
        random: Random,
        now: Monotonic,
    ) -> Self {
        let list = (0u32..)
            .zip(members)
            .map(|(id, member)| Engine {
                id: EngineId(id),
                name: member.name,
                address: member.address,
                life: Life::new(now),
                slots: Slots::new(capacity),
                next_probe: now,
                probing: false,
            })
            .collect();
        let mut engines = Self {
            list,
            capacity,
            probe_interval,
            random,
            in_flight: 0,
            probes: ProbeCounts::default(),
            effects: Vec::new(),
            table: Arc::default(),
            table_at: now,
            turned: true,
        };
        engines.refresh(now);
        engines
    }

    /// All of them, in order of ids.
    pub(crate) fn all(&self) -> &[Engine] {
        &self.list
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: EngineId) -> Option<&Engine> {
        self.list.get(usize::try_from(id.0).ok()?)
    }

    /// The newest table; its epoch rises by one with each change.
    pub(crate) fn table(&self) -> &Arc<EngineTable> {
        &self.table
    }

    /// Probes ended so far.
    pub(crate) fn probes(&self) -> ProbeCounts {
        self.probes
    }

    /// How many are in which state.
    pub(crate) fn states(&self) -> StateCounts {
        let mut counts = StateCounts::default();
        for engine in &self.list {
            match engine.life.state() {
                EngineState::Booting => counts.booting += 1,
                EngineState::Ready => counts.ready += 1,
                EngineState::Degraded => counts.degraded += 1,
                EngineState::Draining => counts.draining += 1,
            }
        }
        counts
    }

    /// Whether each engine has been probed at least once.
    pub(crate) fn first_round_is_over(&self) -> bool {
        self.list.iter().all(|e| e.life.last_probe().is_some())
    }

    /// The next engine due for a probe, marked as being probed.
    pub(crate) fn next_due(&mut self, now: Monotonic) -> Option<(EngineId, std::net::SocketAddr)> {
        if self.in_flight >= PROBES_AT_ONCE {
            return None;
        }
        let engine = self
            .list
            .iter_mut()
            .filter(|e| !e.probing && e.next_probe <= now)
            .min_by_key(|e| e.next_probe)?;
        engine.probing = true;
        engine.next_probe = now + self.random.jitter(self.probe_interval);
        self.in_flight += 1;
        Some((engine.id, engine.address))
    }

    /// When the next probe is due, if one may begin at all.
    pub(crate) fn next_probe_at(&self) -> Option<Monotonic> {
        if self.in_flight >= PROBES_AT_ONCE {
            return None;
        }
        self.list.iter().filter(|e| !e.probing).map(|e| e.next_probe).min()
    }

    /// A probe begun by [`Self::next_due`] is over.
    pub(crate) fn probed(&mut self, id: EngineId, outcome: Result<Answer, ProbeFailure>, now: Monotonic) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Ok(_) => self.probes.good += 1,
            Err(_) => self.probes.failed += 1,
        }
        if let Some(engine) = usize::try_from(id.0).ok().and_then(|i| self.list.get_mut(i)) {
            engine.probing = false;
        }
        self.on(id, Event::Probed(outcome), now);
    }

    /// A shard used an engine. Engines nobody knows are ignored.
    pub(crate) fn used(&mut self, id: EngineId, evidence: EngineEvidence, now: Monotonic) {
        self.on(id, Event::Used(evidence), now);
    }

    /// An engine is to be emptied until [`Self::undrain`]; the table says so at
    /// once. Engines nobody knows are ignored.
    pub(crate) fn drain(&mut self, id: EngineId, now: Monotonic) {
        self.on(id, Event::Drain, now);
        self.refresh(now);
    }

    /// An engine is to be used again, as far as it is healthy.
    pub(crate) fn undrain(&mut self, id: EngineId, now: Monotonic) {
        self.on(id, Event::Undrain, now);
        self.refresh(now);
    }

    /// Time passed: pauses end, failures fade, and the table follows.
    pub(crate) fn tick(&mut self, now: Monotonic) {
        for i in 0..self.list.len() {
            let id = self.list[i].id;
            self.on(id, Event::Tick, now);
        }
        if self.turned || now.since(self.table_at) >= TABLE_PAUSE {
            self.refresh(now);
        }
    }

    fn on(&mut self, id: EngineId, event: Event, now: Monotonic) {
        let Some(engine) = usize::try_from(id.0).ok().and_then(|i| self.list.get_mut(i)) else { return };
        engine.life.on(event, now, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Turned { from, to, why } => {
                    self.turned = true;
                    let (from, to) = (from.as_str(), to.as_str());
                    let epoch = self.table.epoch.0 + 1;
                    if to == EngineState::Degraded.as_str() {
                        tracing::warn!(engine = %id, name = %engine.name, epoch, from, to, "engine turned: {why}");
                    } else {
                        tracing::info!(engine = %id, name = %engine.name, epoch, from, to, "engine turned: {why}");
                    }
                }
                Effect::Admit(Admission::All) => engine.slots.set_capacity(self.capacity),
                Effect::Admit(Admission::One) => {
                    engine.slots.set_capacity(self.capacity.min(engine.slots.taken().saturating_add(1)));
                }
                Effect::ProbeSoon => {
                    let last = engine.life.last_probe().map_or(Monotonic::default(), |p| p.at);
                    engine.next_probe = engine.next_probe.min((last + PROBE_PAUSE).max(now));
                }
            }
        }
    }

    /// Makes a new table if the lives differ from the newest one.
    fn refresh(&mut self, now: Monotonic) {
        self.turned = false;
        let entry = |e: &Engine| EngineEntry {
            id: e.id,
            name: Arc::clone(&e.name),
            address: e.address,
            state: e.life.state(),
            slots: Arc::clone(&e.slots),
            start_failures: e.life.penalty(now),
            first_byte: e.life.first_byte().unwrap_or_default(),
        };
        let differs = |e: &Engine, old: &EngineEntry| {
            old.state != e.life.state()
                || old.start_failures != e.life.penalty(now)
                || old.first_byte != e.life.first_byte().unwrap_or_default()
        };
        let same = self.table.epoch > Epoch(0)
            && self.list.len() == self.table.engines.len()
            && !self.list.iter().zip(&self.table.engines).any(|(e, old)| differs(e, old));
        if !same {
            let epoch = Epoch(self.table.epoch.0 + 1);
            self.table = Arc::new(EngineTable { epoch, engines: self.list.iter().map(entry).collect() });
            self.table_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_boundary::Cause;

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(1_000_000 + millis))
    }

    fn engines(count: u16) -> Engines {
        let members = (0..count)
            .map(|i| Member { name: format!("e{i}").into(), address: ([127, 0, 0, 1], 1 + i).into() })
            .collect();
        Engines::new(members, 3, Duration::from_secs(5), Random::new(1), at(0))
    }

    fn good() -> Result<Answer, ProbeFailure> {
        Ok(Answer { version: "3.2.11".into(), platform: None, connected: None })
    }

    #[test]
    fn the_epoch_rises_by_one_with_each_change_and_only_then() {
        let mut engines = engines(2);
        assert_eq!(engines.table().epoch, Epoch(1));
        engines.tick(at(500));
        assert_eq!(engines.table().epoch, Epoch(1), "nothing changed");
        engines.probed(EngineId(0), good(), at(600));
        engines.tick(at(600));
        assert_eq!(engines.table().epoch, Epoch(2), "a state");
        let failed = EngineEvidence::StartFailed(Cause::EngineSilent);
        for (name, millis, evidence, epoch, penalty) in [
            ("a score waits", 650, Some(failed), 2, 0),
            ("and comes", 700, None, 3, 1),
            ("once", 2_000, None, 3, 1),
            ("and fades", 40_000, None, 4, 0),
        ] {
            if let Some(evidence) = evidence {
                engines.used(EngineId(0), evidence, at(millis));
            }
            engines.tick(at(millis));
            let table = engines.table();
            assert_eq!((table.epoch.0, table.engines[0].start_failures), (epoch, penalty), "{name}");
        }
        let held = engines.table().engines[0].slots.reserve_at(0);
        engines.tick(at(50_000));
        assert!(held.is_some() && engines.table().engines[0].slots.taken() == 1, "slots outlive tables");
    }

    #[test]
    fn probes_begin_at_once_then_spread_by_a_fifth_and_come_soon_after_a_failed_start() {
        let mut engines = engines(100);
        let due = |engines: &mut Engines, now| std::iter::from_fn(|| engines.next_due(now)).count();
        assert_eq!(due(&mut engines, at(0)), 100);
        assert_eq!(due(&mut engines, at(60_000)), 0, "never two probes of one engine");
        for id in 0..100 {
            engines.probed(EngineId(id), good(), at(10));
        }
        assert_eq!(due(&mut engines, at(3_999)), 0);
        let early = due(&mut engines, at(5_000));
        assert!((25..75).contains(&early), "{early} of 100 within the middle");
        assert_eq!(early + due(&mut engines, at(6_000)), 100);
        for id in 0..100 {
            engines.probed(EngineId(id), good(), at(6_000));
        }
        engines.used(EngineId(7), EngineEvidence::StartFailed(Cause::EngineSilent), at(6_100));
        assert_eq!(engines.next_probe_at(), Some(at(7_000)), "a second after the last");
    }

    #[test]
    fn an_engine_on_trial_has_room_for_one_stream_more() {
        let mut engines = engines(1);
        let id = EngineId(0);
        engines.probed(id, good(), at(0));
        let playing = engines.all()[0].slots.reserve_at(0).unwrap();
        for _ in 0..3 {
            engines.used(id, EngineEvidence::StartFailed(Cause::EngineSilent), at(1));
        }
        engines.tick(at(1));
        assert!(engines.table().pick(&[]).is_err());
        engines.tick(at(10_001));
        let table = Arc::clone(engines.table());
        let (_, trial) = table.pick(&[]).unwrap();
        assert!(table.pick(&[]).is_err(), "one trial, not a crowd");
        engines.used(id, EngineEvidence::Started(Duration::from_secs(1)), at(10_500));
        assert!(table.pick(&[]).is_ok());
        drop((playing, trial));
    }

    #[test]
    fn a_flood_of_evidence_leaves_nothing_behind() {
        let mut engines = engines(2);
        for i in 0..10_000u32 {
            engines.used(EngineId(i % 5), EngineEvidence::Broke(Cause::EngineReset), at(0));
        }
        engines.tick(at(100));
        assert_eq!(engines.table().epoch, Epoch(2));
        assert!(engines.effects.is_empty());
        assert_eq!(engines.table().engines[1].start_failures, 100);
    }
}
