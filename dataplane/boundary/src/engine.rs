//! The engine table: what every shard needs to pick an engine by itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

/// An engine, for as long as this process runs; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EngineId(pub u32);

impl std::fmt::Display for EngineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Version of the engine table, rising by one with each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Epoch(pub u64);

/// What an engine may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// Not yet answered a probe since it was found.
    Booting,
    /// Takes new streams.
    Ready,
    /// Keeps its streams, takes no new ones: it fails probes or starts.
    Degraded,
    /// Takes no new streams, and those it has move to other engines.
    Draining,
    /// Kept ready, and not usable until woken.
    Paused,
}

impl EngineState {
    /// The word used in JSON, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Paused => "paused",
        }
    }

    /// Whether its streams are to move to other engines.
    #[must_use]
    pub const fn is_leaving(self) -> bool {
        matches!(self, Self::Draining)
    }
}

/// The streams an engine plays now, and how many it may: shared by all shards.
#[derive(Debug)]
pub struct Slots {
    /// The count, and [`UNKNOWN`].
    taken: AtomicU32,
    /// Of those taken, the ones whose session is being stopped.
    stopping: AtomicU32,
    capacity: AtomicU32,
}

/// Set in `taken` while the stream that found the engine idle starts and
/// nobody can say yet which swarm it plays.
const UNKNOWN: u32 = 1 << 31;

impl Slots {
    /// Free slots for an engine that may play `capacity` streams at once.
    #[must_use]
    pub fn new(capacity: u32) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicU32::new(0),
            stopping: AtomicU32::new(0),
            capacity: AtomicU32::new(capacity),
        })
    }

    /// Streams playing or starting.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed) & !UNKNOWN
    }

    /// Whether a stream starts here whose swarm nobody knows yet. Who plays a
    /// known swarm beside it waits, lest both turn out to play the same one.
    #[must_use]
    pub fn has_unknown(&self) -> bool {
        self.taken.load(Ordering::Acquire) & UNKNOWN != 0
    }

    /// Whether a session is being stopped here. A stop ends every session of
    /// its swarm, and one that starts meanwhile may be of the same.
    #[must_use]
    pub fn has_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) > 0
    }

    /// Streams allowed at once.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Changes the limit; slots above a lowered limit stay until freed.
    pub fn set_capacity(&self, capacity: u32) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// Takes one slot if still `taken` are taken and that is below the capacity.
    /// The first one is unknown until its holder says otherwise.
    #[must_use]
    pub fn reserve_at(self: &Arc<Self>, taken: u32) -> Option<SlotGuard> {
        let now = self.taken.load(Ordering::Relaxed);
        if now & !UNKNOWN != taken || taken >= self.capacity() {
            return None;
        }
        let is_unknown = taken == 0;
        let next = if is_unknown { UNKNOWN | 1 } else { now + 1 };
        self.taken.compare_exchange(now, next, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(SlotGuard { slots: Arc::clone(self), is_unknown, is_stopping: false })
    }
}

/// One reserved slot; freed once, when dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slots: Arc<Slots>,
    is_unknown: bool,
    is_stopping: bool,
}

impl SlotGuard {
    /// The slots that it is one of.
    #[must_use]
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Whether it was the first one and [`Self::known`] has not been called:
    /// the engine plays nothing else that this could collide with, and others
    /// wait until the swarm is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// The swarm played in this slot is known from now on.
    pub fn known(&mut self) {
        if std::mem::take(&mut self.is_unknown) {
            self.slots.taken.fetch_and(!UNKNOWN, Ordering::AcqRel);
        }
    }

    /// The session in this slot is being stopped, until the slot is freed.
    pub fn stopping(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.slots.stopping.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.known();
        if self.is_stopping {
            self.slots.stopping.fetch_sub(1, Ordering::AcqRel);
        }
        let before = self.slots.taken.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & !UNKNOWN > 0, "a slot was freed twice");
    }
}

/// How an engine is asked to hand a stream out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// As one transport stream over one connection.
    Ts,
    /// As a playlist of media segments.
    Hls,
}

impl Output {
    /// Each word with what it means.
    pub const WORDS: &'static [(&'static str, Self)] = &[("ts", Self::Ts), ("hls", Self::Hls)];

    /// What a word means.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, output)| *output)
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Hls => "hls",
        }
    }
}

/// One engine as the shards see it.
#[derive(Clone, Debug)]
pub struct EngineEntry {
    /// The engine.
    pub id: EngineId,
    /// For people: container name, or the address.
    pub name: Arc<str>,
    /// Where its HTTP API and media are.
    pub address: SocketAddr,
    /// How it is asked for streams whose first viewer does not say, if it is not as
    /// others are.
    pub source: Option<Output>,
    /// Whether it takes new streams.
    pub state: EngineState,
    /// Its slots.
    pub slots: Arc<Slots>,
    /// Failed starts of late, decayed by control, and more where the engine has no
    /// network; a penalty when picking.
    pub start_failures: u32,
    /// Smoothed time from start to first byte; zero when unknown.
    pub first_byte: Duration,
}

impl EngineEntry {
    /// Lower is better; one number, so that a scan compares once.
    fn rank(&self, taken: u32) -> u128 {
        let load = taken.saturating_add(self.start_failures);
        let first_byte = u64::try_from(self.first_byte.as_nanos()).unwrap_or(u64::MAX);
        u128::from(load) << 96 | u128::from(first_byte) << 32 | u128::from(self.id.0)
    }
}

/// Every engine that the control thread knows of: an immutable snapshot.
#[derive(Clone, Debug, Default)]
pub struct EngineTable {
    /// Version.
    pub epoch: Epoch,
    /// Engines are being made, or may be: whoever finds no slot may wait for one.
    pub growing: bool,
    /// The engines, in order of their ids.
    pub engines: Box<[EngineEntry]>,
}

impl EngineTable {
    /// Slots free now on engines that take new streams. O(engines).
    #[must_use]
    pub fn free_slots(&self) -> u32 {
        let ready = self.engines.iter().filter(|e| e.state == EngineState::Ready);
        ready.map(|e| e.slots.capacity().saturating_sub(e.slots.taken())).fold(0, u32::saturating_add)
    }

    /// Whether an engine takes new streams, as far as it has slots. O(engines).
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.engines.iter().any(|e| e.state == EngineState::Ready)
    }

    /// The best engine that is ready, free and not in `avoid`, with one of its
    /// slots taken.
    ///
    /// Order: fewest taken slots plus recent failed starts, then the quicker
    /// first byte, then the lower id. Lock-free; O(engines) for each
    /// compare-and-swap lost to another shard, and one.
    ///
    /// # Errors
    /// Says whether there was no usable engine or no free slot.
    pub fn pick(&self, avoid: &[EngineId]) -> Result<(&EngineEntry, SlotGuard), NotPicked> {
        loop {
            let mut usable = false;
            let mut best: Option<(u128, &EngineEntry, u32)> = None;
            for engine in &*self.engines {
                if engine.state != EngineState::Ready || avoid.contains(&engine.id) {
                    continue;
                }
                usable = true;
                let taken = engine.slots.taken();
                if taken >= engine.slots.capacity() {
                    continue;
                }
                let rank = engine.rank(taken);
                if best.is_none_or(|(least, ..)| rank < least) {
                    best = Some((rank, engine, taken));
                }
            }
            let Some((_, engine, taken)) = best else {
                return Err(if usable { NotPicked::Full } else { NotPicked::NoEngine });
            };
            // Only the count that was ranked is taken: else a crowd that ranked
            // the same engine at the same time would all land on it. Each loss
            // is another shard's win or news, so this ends.
            if let Some(guard) = engine.slots.reserve_at(taken) {
                return Ok((engine, guard));
            }
        }
    }
}

/// Why no engine was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPicked {
    /// None is ready, or all of them were to be avoided.
    #[error("no usable engine")]
    NoEngine,
    /// All slots of the usable engines are taken.
    #[error("all engine slots are taken")]
    Full,
}

/// What a shard learned about an engine from using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEvidence {
    /// A stream began to flow, this long after it was asked for.
    Started(Duration),
    /// A start failed, by whoever's fault.
    StartFailed(crate::Cause),
    /// A running stream broke off, by whoever's fault.
    Broke(crate::Cause),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(capacities: &[u32]) -> EngineTable {
        let engines = capacities
            .iter()
            .zip(0u32..)
            .map(|(&c, id)| EngineEntry {
                id: EngineId(id),
                name: format!("e{id}").into(),
                source: None,
                address: ([127, 0, 0, 1], 6878).into(),
                state: EngineState::Ready,
                slots: Slots::new(c),
                start_failures: 0,
                first_byte: Duration::ZERO,
            })
            .collect();
        EngineTable { epoch: Epoch(1), growing: false, engines }
    }

    #[test]
    fn picks_spread_fill_and_refuse_with_the_reason() {
        let table = table(&[2, 2]);
        let mut held = Vec::new();
        let mut order = Vec::new();
        while let Ok((e, g)) = table.pick(&[]) {
            order.push(e.id.0);
            held.push(g);
        }
        assert_eq!(order, [0, 1, 0, 1]);
        assert_eq!(table.pick(&[]).err(), Some(NotPicked::Full));
        assert_eq!(table.pick(&[EngineId(0), EngineId(1)]).err(), Some(NotPicked::NoEngine));
        assert_eq!(EngineTable::default().pick(&[]).err(), Some(NotPicked::NoEngine));
        held.clear();
        assert_eq!(table.engines.iter().map(|e| e.slots.taken()).sum::<u32>(), 0);
    }

    #[test]
    fn only_a_ready_engine_is_picked_and_has_slots_to_give() {
        use EngineState::{Booting, Degraded, Draining, Paused, Ready};
        for state in [Booting, Ready, Degraded, Draining, Paused] {
            let mut table = table(&[2]);
            table.engines[0].state = state;
            let (slots, picked) = (table.free_slots(), table.pick(&[]).map(|_| ()));
            let expected = if state == Ready { (2, Ok(())) } else { (0, Err(NotPicked::NoEngine)) };
            assert_eq!((slots, picked), expected, "{}", state.as_str());
            assert_eq!(state.is_leaving(), state == Draining, "{}", state.as_str());
        }
    }

    #[test]
    fn only_the_first_slot_is_unknown_and_a_freed_one_leaves_no_mark() {
        let slots = Slots::new(3);
        assert!(!slots.has_unknown());
        let mut first = slots.reserve_at(slots.taken()).unwrap();
        let second = slots.reserve_at(slots.taken()).unwrap();
        assert_eq!((first.is_unknown(), second.is_unknown()), (true, false));
        assert_eq!((slots.has_unknown(), slots.taken()), (true, 2));
        first.known();
        assert_eq!((slots.has_unknown(), slots.taken()), (false, 2));
        first.stopping();
        assert!(slots.has_stopping());
        drop(first);
        assert!(!slots.has_stopping());
        let third = slots.reserve_at(slots.taken()).unwrap();
        assert!(!third.is_unknown(), "the engine was not idle");
        drop((second, third));
        let again = slots.reserve_at(slots.taken()).unwrap();
        assert!(again.is_unknown());
        drop(again);
        assert_eq!((slots.has_unknown(), slots.taken()), (false, 0));
        assert!(Slots::new(0).reserve_at(0).is_none());
    }

    #[test]
    fn many_threads_never_exceed_capacity() {
        let table = table(&[3; 10]);
        let won: usize = std::thread::scope(|s| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        let mut held = Vec::new();
                        while let Ok((_, g)) = table.pick(&[]) {
                            held.push(g);
                        }
                        let n = held.len();
                        std::mem::forget(held);
                        n
                    })
                })
                .collect();
            all.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(won, 30);
        assert!(table.engines.iter().all(|e| e.slots.taken() == 3));
    }
}
