//! The viewers of the healthy streams, one of each, who take the lateness of
//! every packet.

use std::{
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
/// Of lateness; what is later counts as this late.
const LATEST_US: u64 = 120_000_000;

/// What was seen since it was last asked for.
#[derive(Debug)]
pub(crate) struct Figures {
    /// From a packet's broadcast to its arrival, in microseconds.
    lateness_us: Histogram<u64>,
    /// Bytes of the streams.
    pub(crate) bytes: u64,
}

impl Figures {
    fn new() -> Self {
        let lateness_us = Histogram::new_with_bounds(1, LATEST_US, 3).expect("constant bounds are valid");
        Self { lateness_us, bytes: 0 }
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
    /// One viewer for each of `ids`; returns when all streams have begun.
    pub(crate) fn watch(address: SocketAddrV4, ids: &[ContentId]) -> Result<Self> {
        let figures = Mutex::new(Figures::new());
        let shared = Arc::new(Shared { figures, is_over: AtomicBool::new(false) });
        let mut readings = Reading::begin(address, ids)?;
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

/// What the reading thread works with.
struct Reading {
    poller: OwnedFd,
    watchers: Vec<Watcher>,
    scratch: Vec<u8>,
}

impl Reading {
    fn begin(address: SocketAddrV4, ids: &[ContentId]) -> Result<Self> {
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
        Ok(Self { poller, watchers, scratch: vec![0; READ] })
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
            let Some(watcher) = self.watchers.get_mut(event.data.u64() as usize) else { continue };
            if watcher.viewer.phase == Phase::Connecting {
                watcher.viewer.request();
                epoll::modify(&self.poller, &watcher.viewer, event.data, EventFlags::IN)?;
            } else {
                watcher.read(&mut self.scratch, shared)?;
            }
        }
        Ok(())
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
