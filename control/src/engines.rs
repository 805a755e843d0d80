//! All engines: whose turn it is to be probed, and the table made of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use millrace_boundary::{
    EngineEntry, EngineEvidence, EngineId, EngineState, EngineTable, Epoch, Monotonic, Output, Slots,
};

use crate::{
    engine::{Admission, Crowding, Effect, Event, Life},
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

/// One engine and what belongs to it for as long as its fleet has it.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Who.
    pub(crate) id: EngineId,
    /// Who for the fleet.
    identity: Arc<str>,
    /// For people.
    pub(crate) name: Arc<str>,
    /// Where.
    pub(crate) address: std::net::SocketAddr,
    /// How it is asked for streams, if it is not as others are.
    source: Option<Output>,
    /// Its life.
    pub(crate) life: Life,
    /// How many streams it was seen to bear.
    pub(crate) crowding: Crowding,
    /// Its slots; every table points at the same ones.
    pub(crate) slots: Arc<Slots>,
    sessions: u64,
    /// Streams that it may play at once when nothing has to be tried first.
    bears: u32,
    admission: Admission,
    next_probe: Monotonic,
    probing: bool,
    /// It was paused, or started again, while it was being probed.
    misprobed: bool,
}

impl Engine {
    /// Who for the fleet: a container's id.
    pub(crate) fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// Streams that it has played since it was found.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Streams that it may play at once, as soon as it has shown that it works.
    pub(crate) fn bears(&self) -> u32 {
        self.bears
    }

    /// Slots that are free, those included that it gets once it has shown that.
    pub(crate) fn free(&self) -> u32 {
        self.bears.saturating_sub(self.slots.taken())
    }

    /// Whether it takes one stream, and more as soon as that has started.
    pub(crate) fn is_tried(&self) -> bool {
        self.admission == Admission::One && self.life.state() == EngineState::Ready
    }

    fn is_paused(&self) -> bool {
        self.life.state() == EngineState::Paused
    }

    fn may_be_probed(&self) -> bool {
        !self.probing && !self.is_paused()
    }

    /// Gives it the slots that it may have of the `configured` ones.
    fn admit(&mut self, configured: u32) {
        let bears = self.crowding.most().map_or(configured, |most| most.min(configured));
        self.bears = bears;
        self.slots.set_capacity(match self.admission {
            Admission::All => bears,
            Admission::One => bears.min(self.slots.taken().saturating_add(1)),
        });
    }
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
    /// Takes none until woken.
    pub(crate) paused: usize,
}

/// Every engine of the fleet, in order of ids.
#[derive(Debug)]
pub(crate) struct Engines {
    /// Ids rise and none is used twice.
    list: Vec<Engine>,
    next_id: u32,
    capacity: u32,
    /// Engines are being made, or may be.
    growing: bool,
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
    /// None yet, and no table either: the first one comes with [`Self::adopt`].
    pub(crate) fn new(capacity: u32, probe_interval: Duration, random: Random, now: Monotonic) -> Self {
        Self {
            list: Vec::new(),
            next_id: 0,
            capacity,
            growing: false,
            probe_interval,
            random,
            in_flight: 0,
            probes: ProbeCounts::default(),
            effects: Vec::new(),
            table: Arc::default(),
            table_at: now,
            turned: false,
        }
    }

    /// Makes `members` the whole fleet: whoever is new is due to be probed at
    /// once, whoever is missing is gone for good, and the rest goes on. An
    /// engine at another address is another engine.
    pub(crate) fn adopt(&mut self, members: &[Member], now: Monotonic) {
        let key = |identity: &Arc<str>, address| (Arc::clone(identity), address);
        let mut wanted: HashMap<_, _> =
            members.iter().map(|member| (key(&member.identity, member.address), member)).collect();
        self.list.retain_mut(|engine| match wanted.remove(&key(&engine.identity, engine.address)) {
            Some(member) => {
                engine.name = Arc::clone(&member.name);
                true
            }
            None => {
                let (taken, address) = (engine.slots.taken(), engine.address);
                tracing::info!(engine = %engine.id, name = %engine.name, %address, taken, "engine left");
                false
            }
        });
        // In the order of the fleet.
        for member in members {
            let is_new = wanted.remove(&key(&member.identity, member.address)).is_some();
            // Ids are spent after 136 years of one new engine a second.
            let Some(following) = self.next_id.checked_add(1).filter(|_| is_new) else { continue };
            let id = EngineId(std::mem::replace(&mut self.next_id, following));
            tracing::debug!(engine = %id, name = %member.name, address = %member.address, "engine found");
            self.list.push(Engine {
                id,
                identity: Arc::clone(&member.identity),
                name: Arc::clone(&member.name),
                address: member.address,
                source: member.source,
                life: Life::new(now),
                crowding: Crowding::default(),
                slots: Slots::new(self.capacity),
                sessions: 0,
                bears: self.capacity,
                admission: Admission::All,
                next_probe: now,
                probing: false,
                misprobed: false,
            });
        }
        self.refresh(now);
    }

    /// All of them, in order of ids.
    pub(crate) fn all(&self) -> &[Engine] {
        &self.list
    }

    /// The one of this container. O(engines).
    pub(crate) fn by_identity(&self, identity: &str) -> Option<&Engine> {
        self.list.iter().find(|engine| *engine.identity == *identity)
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: EngineId) -> Option<&Engine> {
        self.list.get(self.place(id)?)
    }

    fn place(&self, id: EngineId) -> Option<usize> {
        self.list.binary_search_by_key(&id, |engine| engine.id).ok()
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
                EngineState::Paused => counts.paused += 1,
            }
        }
        counts
    }

    /// Whether each engine that can be probed has been, at least once.
    pub(crate) fn first_round_is_over(&self) -> bool {
        self.list.iter().all(|e| e.life.last_probe().is_some() || e.is_paused())
    }

    /// The next engine due for a probe, marked as being probed.
    pub(crate) fn next_due(&mut self, now: Monotonic) -> Option<(EngineId, std::net::SocketAddr)> {
        if self.in_flight >= PROBES_AT_ONCE {
            return None;
        }
        let engine = self
            .list
            .iter_mut()
            .filter(|e| e.may_be_probed() && e.next_probe <= now)
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
        self.list.iter().filter(|e| e.may_be_probed()).map(|e| e.next_probe).min()
    }

    /// A probe begun by [`Self::next_due`] is over, of an engine that may have
    /// left meanwhile.
    pub(crate) fn probed(&mut self, id: EngineId, outcome: Result<Answer, ProbeFailure>, now: Monotonic) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(place) = self.place(id) {
            let engine = &mut self.list[place];
            engine.probing = false;
            if std::mem::take(&mut engine.misprobed) {
                return;
            }
        }
        match outcome {
            Ok(_) => self.probes.good += 1,
            Err(_) => self.probes.failed += 1,
        }
        self.on(id, Event::Probed(outcome), now);
    }

    /// A shard used an engine. Engines nobody knows are ignored.
    pub(crate) fn used(&mut self, id: EngineId, evidence: EngineEvidence, now: Monotonic) {
        self.on(id, Event::Used(evidence), now);
        if let (EngineEvidence::Started(_), Some(place)) = (evidence, self.place(id)) {
            self.list[place].sessions += 1;
        }
        if let Some(engine) = self.place(id).and_then(|place| self.list.get_mut(place))
            && engine.crowding.used(evidence, engine.slots.taken(), now)
        {
            engine.admit(self.capacity);
            let capacity = engine.slots.capacity();
            tracing::warn!(engine = %id, name = %engine.name, capacity, "engine ends a stream when another begins: it gets no more than it bears");
        }
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

    /// An engine is stopped on purpose and kept for later, until [`Self::wake`]:
    /// it is not probed, and the table says so at once. One that is being emptied
    /// is not paused. Engines nobody knows are ignored.
    pub(crate) fn pause(&mut self, id: EngineId, now: Monotonic) {
        self.on(id, Event::Paused, now);
        if let Some(engine) = self.place(id).and_then(|place| self.list.get_mut(place)) {
            // What is under way will say of it what its pause is to blame for.
            engine.misprobed |= engine.probing && engine.is_paused();
        }
        self.refresh(now);
    }

    /// A paused engine is wanted: it takes streams at once if it did well before
    /// its pause, and is probed.
    pub(crate) fn wake(&mut self, id: EngineId, now: Monotonic) {
        self.on(id, Event::Woken, now);
        self.refresh(now);
    }

    /// Whether engines are being made, or may be: streams that find no slot wait
    /// while that is so. The table says so at once.
    pub(crate) fn set_growing(&mut self, growing: bool, now: Monotonic) {
        self.growing = growing;
        self.refresh(now);
    }

    /// The engine's container was started again: nothing that was heard of it
    /// before counts, and it is probed at once. Containers nobody knows are ignored.
    pub(crate) fn renew(&mut self, identity: &str, now: Monotonic) {
        let Some(engine) = self.list.iter_mut().find(|engine| *engine.identity == *identity) else { return };
        engine.life = Life::new(now);
        engine.crowding = Crowding::default();
        engine.sessions = 0;
        engine.admission = Admission::All;
        engine.admit(self.capacity);
        engine.next_probe = now;
        engine.misprobed |= engine.probing;
        self.refresh(now);
    }

    /// A container that was just made: its API alone proves little, and the first
    /// start on it decides. To be said before it has answered.
    pub(crate) fn put_on_trial(&mut self, identity: &str) {
        if let Some(engine) = self.list.iter_mut().find(|engine| *engine.identity == *identity) {
            engine.life.put_on_trial();
        }
    }

    /// Time passed: pauses end, failures fade, and the table follows.
    pub(crate) fn tick(&mut self, now: Monotonic) {
        for i in 0..self.list.len() {
            let id = self.list[i].id;
            self.on(id, Event::Tick, now);
            let engine = &mut self.list[i];
            if engine.crowding.tick(self.capacity, now) {
                engine.admit(self.capacity);
                tracing::info!(engine = %id, name = %engine.name, capacity = engine.slots.capacity(), "engine is tried with one stream more");
            }
        }
        if self.turned || now.since(self.table_at) >= TABLE_PAUSE {
            self.refresh(now);
        }
    }

    fn on(&mut self, id: EngineId, event: Event, now: Monotonic) {
        let Some(engine) = self.place(id).and_then(|place| self.list.get_mut(place)) else { return };
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
                Effect::Admit(admission) => {
                    engine.admission = admission;
                    engine.admit(self.capacity);
                }
                Effect::ProbeSoon => {
                    let last = engine.life.last_probe().map_or(Monotonic::default(), |p| p.at);
                    engine.next_probe = engine.next_probe.min((last + PROBE_PAUSE).max(now));
                }
                Effect::ProbeIn(pause) => engine.next_probe = engine.next_probe.min(now + pause),
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
            source: e.source,
            state: e.life.state(),
            slots: Arc::clone(&e.slots),
            start_failures: e.life.reluctance(now),
            first_byte: e.life.first_byte().unwrap_or_default(),
        };
        let differs = |e: &Engine, old: &EngineEntry| {
            old.id != e.id
                || old.name != e.name
                || old.state != e.life.state()
                || old.start_failures != e.life.reluctance(now)
                || old.first_byte != e.life.first_byte().unwrap_or_default()
        };
        let same = self.table.epoch > Epoch(0)
            && self.table.growing == self.growing
            && self.list.len() == self.table.engines.len()
            && !self.list.iter().zip(&self.table.engines).any(|(e, old)| differs(e, old));
        if !same {
            let epoch = Epoch(self.table.epoch.0 + 1);
            let engines = self.list.iter().map(entry).collect();
            self.table = Arc::new(EngineTable { epoch, growing: self.growing, engines });
            self.table_at = now;
        }
    }
}

#[cfg(test)]
mod tests;
