//! What every part of a shard shares: shard-local, so plain cells.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use millrace_boundary::{
    Cause, Counters, EngineTable, FromShard, Mailbox, Monotonic, Operation, Outcome, Recorder, ShardId,
};
use millrace_media::ts::MAX_PENDING;
use static_assertions::assert_not_impl_any;

use crate::{
    Config,
    hls::Seal,
    inbox::Peer,
    ingest::{
        Losses, Memory, READ_LIMIT, StartTimes,
        queue::{Queue, Tickets},
    },
    segment::{Held, Window},
    stream::Ended,
    turns::Turns,
};

/// Less memory than this is too little for a stream: at 8 Mbit/s it lasts for 16 s,
/// half of which is its window.
const LEAST_SHARE: u64 = 16 << 20;

/// What of a stream is kept at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Behind playout.
    pub(crate) time: Duration,
    /// In all, whatever its age.
    pub(crate) bytes: u64,
    /// Of media segments.
    pub(crate) segments: u64,
}

/// Counts that the limits of all shards together are held against, and the
/// order in which all of them wait for slots.
#[derive(Debug)]
pub(crate) struct Totals {
    viewers: AtomicU32,
    streams: AtomicU32,
    hedges: AtomicU32,
    /// What all segments take.
    held: Arc<Held>,
    pub(crate) tickets: Tickets,
    /// Of HLS viewers' tokens.
    pub(crate) seal: Seal,
}

/// One of a limited number, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    totals: Arc<Totals>,
    of: fn(&Totals) -> &AtomicU32,
}

impl Totals {
    /// Nothing yet, for this many shards.
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            viewers: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            hedges: AtomicU32::new(0),
            held: Arc::default(),
            tickets: Tickets::new(shards),
            seal: Seal::default(),
        }
    }

    /// One more viewer, unless there are `limit` already.
    pub(crate) fn viewer(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        self.permit(|t| &t.viewers, limit)
    }

    /// One more stream, unless there are `limit` already.
    pub(crate) fn stream(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        self.permit(|t| &t.streams, limit)
    }

    /// One more session beside one that plays, unless there are `limit` already.
    pub(crate) fn hedge(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        self.permit(|t| &t.hedges, limit)
    }

    fn permit(self: &Arc<Self>, of: fn(&Self) -> &AtomicU32, limit: u32) -> Option<Permit> {
        of(self)
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < limit).then_some(n + 1))
            .ok()
            .map(|_| Permit { totals: Arc::clone(self), of })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        (self.of)(&self.totals).fetch_sub(1, Ordering::AcqRel);
    }
}

/// One shard's surroundings.
pub(crate) struct Context {
    pub(crate) id: ShardId,
    pub(crate) config: Config,
    pub(crate) totals: Arc<Totals>,
    /// What the segments of its streams take.
    pub(crate) held: Arc<Held>,
    /// The way to every shard, this one included.
    pub(crate) peers: Vec<Mailbox<Peer>>,
    control: Mailbox<FromShard>,
    table: RefCell<Arc<EngineTable>>,
    counters: RefCell<Counters>,
    recorder: RefCell<Recorder>,
    stops: Rc<Cell<u32>>,
    draining: Cell<bool>,
    /// What is remembered of the contents that this shard owns.
    pub(crate) memory: RefCell<Memory>,
    /// Engines that were found to be gone, as long as the table may not say so.
    pub(crate) losses: RefCell<Losses>,
    /// Its streams that wait for a slot.
    pub(crate) queue: Queue,
    /// How long recent starts took.
    pub(crate) start_times: RefCell<StartTimes>,
    /// What every source reads into, one after the other.
    scratch: RefCell<Box<[u8]>>,
    /// When each of them does.
    pub(crate) turns: Rc<Turns>,
}

assert_not_impl_any!(Context: Send, Sync);

impl Context {
    pub(crate) fn new(
        id: ShardId,
        config: Config,
        totals: Arc<Totals>,
        peers: Vec<Mailbox<Peer>>,
        control: Mailbox<FromShard>,
    ) -> Rc<Self> {
        let held = Arc::new(Held::part_of(Arc::clone(&totals.held)));
        Rc::new(Self {
            id,
            config,
            totals,
            held,
            peers,
            control,
            // Nobody knows yet what there is: whoever comes before the first table waits for it.
            table: RefCell::new(Arc::new(EngineTable { growing: true, ..EngineTable::default() })),
            counters: RefCell::default(),
            recorder: RefCell::new(Recorder::new(id)),
            stops: Rc::default(),
            draining: Cell::new(false),
            memory: RefCell::default(),
            losses: RefCell::default(),
            queue: Queue::default(),
            start_times: RefCell::default(),
            scratch: RefCell::new(vec![0; READ_LIMIT + MAX_PENDING].into()),
            turns: Rc::default(),
        })
    }

    /// Lends the shard's read buffer, of [`READ_LIMIT`] bytes and what a source
    /// may have held back.
    pub(crate) fn with_scratch<T>(&self, with: impl FnOnce(&mut [u8]) -> T) -> T {
        with(&mut self.scratch.borrow_mut())
    }

    /// A place among the viewers of all shards.
    ///
    /// # Errors
    /// When there are as many as may be.
    pub(crate) fn viewer_permit(&self) -> Result<Permit, Ended> {
        let limit = self.config.viewer.max_viewers;
        let full = || Ended::new(Cause::AtCapacity, format!("{limit} viewers are connected"));
        self.totals.viewer(limit).ok_or_else(full)
    }

    /// A place among the streams of all shards.
    ///
    /// # Errors
    /// When there are as many as may be, or as memory allows.
    pub(crate) fn stream_permit(&self) -> Result<Permit, Ended> {
        let config = &self.config.stream;
        let by_memory = u32::try_from(config.memory / LEAST_SHARE).unwrap_or(u32::MAX).max(1);
        let limit = config.max_streams.min(by_memory);
        let full = || {
            let remedy = if by_memory < config.max_streams {
                ", for more of which streams.memory is too little"
            } else {
                ""
            };
            Ended::new(Cause::AtCapacity, format!("{limit} streams are running{remedy}"))
        };
        self.totals.stream(limit).ok_or_else(full)
    }

    /// A window that counts towards what all of them take.
    pub(crate) fn new_window(&self) -> Arc<Window> {
        Arc::new(Window::new(Arc::clone(&self.held)))
    }

    /// What may be kept of each stream now: while all of them take as much memory as
    /// they may, an equal share, half of it for the window and half for media
    /// segments that have left it.
    pub(crate) fn limits(&self) -> Limits {
        let config = &self.config.stream;
        let share = if self.totals.held.bytes() < config.memory {
            u64::MAX
        } else {
            config.memory / u64::from(self.totals.streams.load(Ordering::Relaxed)).max(1)
        };
        Limits {
            time: config.window,
            bytes: config.window_bytes.min(share / 2),
            segments: self.config.hls.window_bytes.min(share / 2),
        }
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> u16 {
        u16::try_from(self.peers.len()).unwrap_or(u16::MAX)
    }

    /// The engine table in use.
    pub(crate) fn table(&self) -> Arc<EngineTable> {
        Arc::clone(&self.table.borrow())
    }

    /// Adopts `table` if it is newer than the one in use. The old one is only
    /// released here: control holds it until it hears of the new one.
    pub(crate) fn adopt(&self, table: Arc<EngineTable>) {
        if table.epoch > self.table.borrow().epoch {
            self.table.replace(table);
            self.queue.call();
        }
        self.tell(FromShard::Adopted { shard: self.id, epoch: self.table.borrow().epoch });
    }

    /// Counts something.
    pub(crate) fn count(&self, with: impl FnOnce(&mut Counters)) {
        with(&mut self.counters.borrow_mut());
    }

    /// The counters as they are now.
    pub(crate) fn counters(&self) -> Counters {
        self.counters.borrow().clone()
    }

    /// An operation that began at `began` has ended `now`.
    pub(crate) fn record(&self, operation: Operation, began: Monotonic, now: Monotonic, outcome: Outcome) {
        let over = self.recorder.borrow_mut().record(operation, now.since(began), outcome, now);
        if let Some(second) = over {
            self.tell(FromShard::Performance(Box::new(second)));
        }
    }

    /// Tells control what operations took in the second that is over, if it is
    /// and was not told.
    pub(crate) fn close_second(&self, now: Monotonic) {
        let over = self.recorder.borrow_mut().close(now);
        if let Some(second) = over {
            self.tell(FromShard::Performance(Box::new(second)));
        }
    }

    /// Offers `message` to control; its type says what a loss costs.
    pub(crate) fn tell(&self, message: FromShard) {
        if self.control.offer(message).is_err() {
            self.count(|c| c.messages_lost += 1);
        }
    }

    /// Offers `message` to a shard; says whether it was taken.
    pub(crate) fn tell_peer(&self, shard: usize, message: Peer) -> bool {
        let taken = self.peers.get(shard).is_some_and(|peer| peer.offer(message).is_ok());
        if !taken {
            self.count(|c| c.messages_lost += 1);
        }
        taken
    }

    /// A stop is on its way to an engine, until the guard is dropped.
    pub(crate) fn stop_begins(&self) -> StopGuard {
        self.stops.set(self.stops.get() + 1);
        StopGuard(Rc::clone(&self.stops))
    }

    /// Stops on their way to engines.
    pub(crate) fn stops(&self) -> u32 {
        self.stops.get()
    }

    /// From now on nobody is admitted.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
    }

    /// Whether nobody is admitted any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// See [`Context::stop_begins`].
pub(crate) struct StopGuard(Rc<Cell<u32>>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Sixty-four random bits from the kernel: player ids and session ids.
pub(crate) fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // Cannot fail for so few bytes once the machine has booted; zeroes would
    // only make an id guessable, which nothing relies on.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok();
    u64::from_ne_bytes(bytes)
}
