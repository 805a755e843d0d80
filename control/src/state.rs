//! What the loop writes and the API reads.
//!
//! All on one thread: the lock is never contended and never held across an
//! await; it is there because handlers have to be `Send`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use millrace_boundary::{FromShard, HandedConnection, Monotonic};

use tokio::sync::{Notify, Semaphore};

use crate::{
    api::admins::Subnet,
    crew::Figures,
    engines::Engines,
    fleet::docker::Hands,
    performance::Performance,
    sessions::Sessions,
    shards::{SILENT, Shard},
    units::Units,
};

/// Whether new viewers are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Yes.
    Serving,
    /// No: until then the rest may finish.
    Draining {
        /// When the shards have to be done.
        deadline: Monotonic,
    },
}

/// Everything known.
#[derive(Debug)]
pub(crate) struct State {
    /// When the control thread started.
    pub(crate) started: Monotonic,
    /// When its loop last turned.
    pub(crate) turned: Monotonic,
    /// Where the shards listen.
    pub(crate) address: SocketAddr,
    /// Serving or draining.
    pub(crate) phase: Phase,
    /// The fleet.
    pub(crate) engines: Engines,
    /// Who may change the fleet.
    pub(crate) admins: Vec<Subnet>,
    /// What to do when no engine is ready.
    pub(crate) no_engine_remedy: &'static str,
    /// Whether any content id plays, as with emulated engines.
    pub(crate) plays_anything: bool,
    /// The shards, in order.
    pub(crate) shards: Vec<Shard>,
    /// What happened to sessions.
    pub(crate) sessions: Sessions,
    /// How long operations take.
    pub(crate) performance: Performance,
    /// The containers that are ours, where the fleet is in Docker.
    pub(crate) units: Option<Units>,
    /// What engines cost their host, as last read.
    pub(crate) figures: Figures,
    /// Docker's hands, while it answers, for what only it can tell.
    pub(crate) hands: Option<Hands>,
    /// Has the daemon asked at once which containers there are.
    pub(crate) nudge: Option<Arc<Notify>>,
    /// Held by whoever changes the templates until they are stored.
    pub(crate) storing: Arc<tokio::sync::Mutex<()>>,
    /// Places of those that follow a log.
    pub(crate) followers: Arc<Semaphore>,
    /// API connections open now.
    pub(crate) connections_open: usize,
    /// API connections refused since start, because there were too many.
    pub(crate) connections_refused: u64,
}

impl State {
    /// Takes a shard's message in; a connection is given back to be served.
    pub(crate) fn hear(&mut self, message: FromShard, now: Monotonic) -> Option<Box<HandedConnection>> {
        let newest = self.engines.table().epoch;
        match message {
            FromShard::Adopted { shard, epoch } => {
                if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
                    shard.has_adopted(epoch, newest);
                }
            }
            FromShard::Demand { shard, waiting } => {
                if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
                    shard.has_demand(waiting);
                }
            }
            FromShard::Sample(sample) => {
                if let Some(shard) = self.shards.get_mut(usize::from(sample.shard.0)) {
                    shard.has_adopted(sample.epoch, newest);
                    shard.has_told(sample, now);
                }
            }
            FromShard::Performance(second) => self.performance.hear(&second, now),
            FromShard::Session(note) => self.sessions.hear(*note),
            FromShard::Connection(connection) => return Some(connection),
            FromShard::Evidence { engine, evidence } => self.engines.used(engine, evidence, now),
            FromShard::Drained { shard } => {
                if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
                    shard.has_drained();
                }
            }
        }
        None
    }

    /// Time passed: engines move on, and shards are offered what they lack.
    pub(crate) fn tick(&mut self, now: Monotonic) {
        self.turned = now;
        self.engines.tick(now);
        let waiting = self.waiting(now);
        if let Some(units) = &mut self.units {
            units.tick(waiting, hour_of_week(), &mut self.engines, now);
        }
        self.offer_table(now);
        for shard in &mut self.shards {
            shard.deliver(now);
            if let Phase::Draining { deadline } = self.phase {
                shard.drain(deadline, now);
            }
        }
    }

    /// Offers the newest table to the shards that lack it.
    pub(crate) fn offer_table(&mut self, now: Monotonic) {
        for shard in &mut self.shards {
            shard.offer(self.engines.table(), now);
        }
    }

    /// Streams that wait for an engine's slot, on all shards that are heard.
    pub(crate) fn waiting(&self, now: Monotonic) -> u32 {
        self.shards.iter().map(|shard| shard.waiting(now)).fold(0, u32::saturating_add)
    }

    /// Whether each shard uses some table.
    pub(crate) fn all_have_a_table(&self) -> bool {
        self.shards.iter().all(|shard| shard.adopted().0 > 0)
    }

    /// Whether no shard has fallen silent.
    pub(crate) fn every_shard_reports(&self, now: Monotonic) -> bool {
        self.shards.iter().all(|shard| shard.silence(now) < SILENT)
    }

    /// Whether some shard has yet to take something: the newest table, or an
    /// order.
    pub(crate) fn some_lag_behind(&self) -> bool {
        self.shards.iter().any(|shard| shard.awaits(self.engines.table()) || shard.has_orders())
    }
}

/// From 0, midnight to Monday by UTC, to 167; none where the clock is wrong.
fn hour_of_week() -> Option<u32> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // 1970 began on a Thursday.
    u32::try_from((since.as_secs() / 3_600 + 72) % 168).ok()
}

/// The state, shared with handlers.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// Wraps it.
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// For one look or one change, never across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
