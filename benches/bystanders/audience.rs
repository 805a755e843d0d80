//! The viewers of the healthy streams: one of each to the end, who takes the
//! lateness of every packet, and many who only join.

use std::{
    collections::HashMap,
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use millrace_emulator::{
    ContentId, broadcast_of,
    signed::{Broadcast, EPOCH_UNIX_SECONDS, Report, Verifier},
};
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::Errno,
};

use crate::support::{
    quantiles::Quantiles,
    scene::SOON,
    viewer::{Phase, Viewer},
};

/// Most bytes taken by one read.
const READ: usize = 256 << 10;
/// A join that takes longer has failed.
const JOIN_LIMIT: Duration = Duration::from_secs(5);
/// Of lateness; what is later counts as this late.
const LATEST_US: u64 = 120_000_000;

/// What was seen since it was last asked for.
#[derive(Debug)]
pub(crate) struct Figures {
    /// From a packet's broadcast to its arrival, in microseconds.
    lateness_us: Histogram<u64>,
    /// From connect to the first byte of the stream.
    joins_us: Vec<u64>,
    /// Joins that got none.
    pub(crate) joins_failed: u64,
    /// Bytes of the streams, to viewers of both kinds.
    pub(crate) bytes: u64,
}

impl Figures {
    fn new() -> Self {
        let lateness_us = Histogram::new_with_bounds(1, LATEST_US, 3).expect("constant bounds are valid");
        Self { lateness_us, joins_us: Vec::new(), joins_failed: 0, bytes: 0 }
    }

    /// Of all packets.
    pub(crate) fn lateness(&self) -> Quantiles {
        let at = |share| self.lateness_us.value_at_quantile(share);
        Quantiles { p50_us: at(0.5), p99_us: at(0.99), max_us: self.lateness_us.max() }
    }

    /// Packets seen.
    pub(crate) fn packets(&self) -> u64 {
        self.lateness_us.len()
    }

    /// Of all joins.
    pub(crate) fn joins(&self) -> Quantiles {
        Quantiles::of(self.joins_us.clone())
    }

    /// Joins that got a byte.
    pub(crate) fn joined(&self) -> usize {
        self.joins_us.len()
    }
}

/// The viewers, read by one thread.
pub(crate) struct Audience {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<Result<Vec<Report>>>>,
}

struct Shared {
    figures: Mutex<Figures>,
    is_over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audience {
    /// One viewer for each of `ids`, and a join to one of them `join_every` so
    /// often; returns when all streams have begun.
    pub(crate) fn watch(address: SocketAddrV4, ids: &[ContentId], join_every: Duration) -> Result<Self> {
        let figures = Mutex::new(Figures::new());
        let shared = Arc::new(Shared { figures, is_over: AtomicBool::new(false) });
        let mut readings = Reading::begin(address, ids, join_every)?;
        let theirs = Arc::clone(&shared);
        let deadline = Instant::now() + SOON;
        while readings.watchers.iter().any(|watcher| watcher.last.is_none()) {
            readings.turn(&shared)?;
            ensure!(Instant::now() < deadline, "not every stream has begun after {SOON:?}");
        }
        let reader = std::thread::Builder::new().name("audience".to_owned()).spawn(move || {
            // Its clock is the outside observer's: it goes before engines and others.
            rustix::process::nice(-10).ok();
            while !theirs.is_over.load(Ordering::Acquire) {
                readings.turn(&theirs)?;
                readings.join(&theirs)?;
            }
            Ok(readings.watchers.iter().map(|watcher| watcher.verifier.report()).collect())
        })?;
        Ok(Self { shared, reader: Some(reader) })
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Figures {
        std::mem::replace(&mut self.shared.lock(), Figures::new())
    }

    /// Leaves, and tells what each viewer's verifier has found.
    ///
    /// # Errors
    /// When a stream was ended, or reading failed.
    pub(crate) fn leave(mut self) -> Result<Vec<Report>> {
        self.shared.is_over.store(true, Ordering::Release);
        let reader = self.reader.take().context("they have left")?;
        reader.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the audience panicked")))
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
    }
}

/// A viewer that stays.
struct Watcher {
    viewer: Viewer,
    verifier: Verifier,
    broadcast: Broadcast,
    /// Number of the latest packet.
    last: Option<u64>,
}

/// A viewer that leaves with its first byte.
struct Joiner {
    viewer: Viewer,
    began: Instant,
}

/// What the reading thread works with.
struct Reading {
    address: SocketAddrV4,
    ids: Vec<String>,
    poller: OwnedFd,
    watchers: Vec<Watcher>,
    /// By number, which goes on from the watchers'.
    joiners: HashMap<u64, Joiner>,
    next_number: u64,
    join_every: Duration,
    next_join: Instant,
    scratch: Vec<u8>,
}

impl Reading {
    fn begin(address: SocketAddrV4, ids: &[ContentId], join_every: Duration) -> Result<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut watchers = Vec::with_capacity(ids.len());
        for (number, id) in ids.iter().enumerate() {
            let millrace_emulator::Content::Signed { bitrate_bps } = id.content() else {
                anyhow::bail!("{id} is not signed at a constant rate");
            };
            let viewer = Viewer::connect(address, id.to_string())?;
            epoll::add(&poller, &viewer, EventData::new_u64(number as u64), EventFlags::OUT)?;
            let broadcast = Broadcast::new(broadcast_of(&id.infohash()), bitrate_bps);
            watchers.push(Watcher { viewer, verifier: Verifier::of(broadcast), broadcast, last: None });
        }
        Ok(Self {
            address,
            ids: ids.iter().map(ToString::to_string).collect(),
            poller,
            next_number: watchers.len() as u64,
            watchers,
            joiners: HashMap::new(),
            join_every,
            next_join: Instant::now(),
            scratch: vec![0; READ],
        })
    }

    /// Reads what has come, waiting for it a little.
    fn turn(&mut self, shared: &Shared) -> Result<()> {
        let mut events = Vec::<epoll::Event>::with_capacity(64);
        let wait = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let number = event.data.u64();
            let viewer = match self.watchers.get_mut(number as usize) {
                Some(watcher) => &mut watcher.viewer,
                None => match self.joiners.get_mut(&number) {
                    Some(joiner) => &mut joiner.viewer,
                    None => continue,
                },
            };
            if viewer.phase == Phase::Connecting {
                viewer.request();
                epoll::modify(&self.poller, &*viewer, event.data, EventFlags::IN)?;
            } else if let Some(watcher) = self.watchers.get_mut(number as usize) {
                watcher.read(&mut self.scratch, shared)?;
            } else {
                self.read_join(number, shared);
            }
        }
        Ok(())
    }

    /// Begins a join when it is time, and gives up the ones that take too long.
    fn join(&mut self, shared: &Shared) -> Result<()> {
        let before = self.joiners.len();
        self.joiners.retain(|_, joiner| joiner.began.elapsed() < JOIN_LIMIT);
        shared.lock().joins_failed += (before - self.joiners.len()) as u64;
        let began = Instant::now();
        if began < self.next_join {
            return Ok(());
        }
        self.next_join = began + self.join_every;
        let id = self.ids[self.next_number as usize % self.ids.len()].clone();
        let viewer = Viewer::connect(self.address, id)?;
        epoll::add(&self.poller, &viewer, EventData::new_u64(self.next_number), EventFlags::OUT)?;
        self.joiners.insert(self.next_number, Joiner { viewer, began });
        self.next_number += 1;
        Ok(())
    }

    fn read_join(&mut self, number: u64, shared: &Shared) {
        let Some(joiner) = self.joiners.get_mut(&number) else { return };
        let count = joiner.viewer.read(&mut self.scratch).len() as u64;
        let is_over = matches!(joiner.viewer.phase, Phase::Failed | Phase::Ended);
        if count == 0 && !is_over {
            return;
        }
        let took = joiner.began.elapsed();
        self.joiners.remove(&number);
        let mut figures = shared.lock();
        figures.bytes += count;
        match count {
            0 => figures.joins_failed += 1,
            _ => figures.joins_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

impl Watcher {
    fn read(&mut self, scratch: &mut [u8], shared: &Shared) -> Result<()> {
        let bytes = self.viewer.read(scratch);
        let arrived = SystemTime::now();
        self.verifier.push(bytes, arrived);
        let is_over = matches!(self.viewer.phase, Phase::Failed | Phase::Ended);
        ensure!(!is_over, "a healthy stream was refused or ended: {:?}", self.verifier.report());
        let before = self.last;
        self.last = self.verifier.report().last;
        let mut figures = shared.lock();
        figures.bytes += bytes.len() as u64;
        // What came first was on the air long before its viewer.
        let (Some(before), Some(last)) = (before, self.last) else { return Ok(()) };
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_UNIX_SECONDS);
        let now = arrived.duration_since(epoch).unwrap_or_default();
        for packet in before + 1..=last {
            let late = now.saturating_sub(self.broadcast.time_of(packet));
            figures.lateness_us.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}
