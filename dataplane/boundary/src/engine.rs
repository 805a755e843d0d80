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
}

impl EngineState {
    /// The word used in JSON, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
        }
    }
}

/// The streams an engine plays now, and how many it may: shared by all shards.
#[derive(Debug)]
pub struct Slots {
    taken: AtomicU32,
    capacity: AtomicU32,
}

impl Slots {
    /// Free slots for an engine that may play `capacity` streams at once.
    #[must_use]
    pub fn new(capacity: u32) -> Arc<Self> {
        Arc::new(Self { taken: AtomicU32::new(0), capacity: AtomicU32::new(capacity) })
    }

    /// Streams playing or starting.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
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

    /// Takes one slot, or none when all are taken. Never exceeds the capacity.
    #[must_use]
    pub fn reserve(self: &Arc<Self>) -> Option<SlotGuard> {
        let capacity = self.capacity();
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |t| (t < capacity).then_some(t + 1))
            .ok()
            .map(|_| SlotGuard(Arc::clone(self)))
    }
}

/// One reserved slot; freed once, when dropped.
#[derive(Debug)]
pub struct SlotGuard(Arc<Slots>);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let before = self.0.taken.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a slot was freed twice");
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
    /// Whether it takes new streams.
    pub state: EngineState,
    /// Its slots.
    pub slots: Arc<Slots>,
    /// Failed starts of late, decayed by control; a penalty when picking.
    pub start_failures: u32,
    /// Smoothed time from start to first byte; zero when unknown.
    pub first_byte: Duration,
}

/// Every engine that the control thread knows of: an immutable snapshot.
#[derive(Clone, Debug, Default)]
pub struct EngineTable {
    /// Version.
    pub epoch: Epoch,
    /// The engines, in order of their ids.
    pub engines: Box<[EngineEntry]>,
}

impl EngineTable {
    /// The best engine that is ready, free and not in `avoid`, with one of its
    /// slots taken.
    ///
    /// Order: fewest taken slots plus recent failed starts, then the quicker
    /// first byte, then the lower id. Lock-free; O(engines), and O(engines²)
    /// only while every compare-and-swap is lost to another shard.
    ///
    /// # Errors
    /// Says whether there was no usable engine or no free slot.
    pub fn pick(&self, avoid: &[EngineId]) -> Result<(&EngineEntry, SlotGuard), NotPicked> {
        let mut lost: u32 = 0;
        loop {
            let mut usable = false;
            let best = self
                .engines
                .iter()
                .filter(|e| e.state == EngineState::Ready && !avoid.contains(&e.id))
                .inspect(|_| usable = true)
                .filter(|e| e.slots.taken() < e.slots.capacity())
                .min_by_key(|e| (e.slots.taken() + e.start_failures, e.first_byte, e.id));
            let Some(engine) = best else {
                return Err(if usable { NotPicked::Full } else { NotPicked::NoEngine });
            };
            if let Some(guard) = engine.slots.reserve() {
                return Ok((engine, guard));
            }
            // Another shard took the last slot. Each loss is somebody's win, so
            // this ends; the bound only guards against our own mistakes.
            lost += 1;
            if lost > 1_000_000 {
                return Err(NotPicked::Full);
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
    /// A start failed by the engine's fault: silence, refusal, nonsense.
    StartFailed(crate::Cause),
    /// A running stream broke by the engine's fault.
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
                address: ([127, 0, 0, 1], 6878).into(),
                state: EngineState::Ready,
                slots: Slots::new(c),
                start_failures: 0,
                first_byte: Duration::ZERO,
            })
            .collect();
        EngineTable { epoch: Epoch(1), engines }
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
