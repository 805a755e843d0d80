//! Fifty further streams, beside those that are measured: each place starts one,
//! watches it for a while or to its end, and starts the next.

use std::{
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Result;
use millrace_emulator::{Content, ContentId, Scenario};
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::Errno,
};

use crate::support::viewer::{Phase, Viewer};

/// Most bytes taken by one read.
const READ: usize = 1 << 20;
/// Between a stream that ends before its time and the next one.
const PAUSE: Duration = Duration::from_millis(100);
/// Serials of the streams that are measured are below.
const FIRST_SERIAL: u64 = 1_000_000;

/// What kind of streams the others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All is well with them.
    Quiet,
    /// Each has a fault, one after the other of the list.
    Faulty,
}

/// What became of them since it was last asked.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Turns {
    /// Streams asked for.
    pub(crate) asked: u64,
    /// Of those that are over, the ones without a byte of a body.
    pub(crate) barren: u64,
    /// The ones that the server ended after that.
    pub(crate) ended: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
}

/// Who they are.
pub(crate) struct Config {
    pub(crate) address: SocketAddrV4,
    /// Streams at once.
    pub(crate) places: usize,
    /// Of each stream.
    pub(crate) rate_bps: u32,
    pub(crate) faults: Vec<Scenario>,
}

struct State {
    kind: Kind,
    /// Longest watching of one of them.
    stay: Duration,
    turns: Turns,
}

/// The others, on a thread of their own; dropped, they leave.
pub(crate) struct Others {
    shared: Arc<(Mutex<State>, AtomicBool)>,
    thread: Option<JoinHandle<()>>,
}

impl Others {
    /// Begins with those of this kind, each watched for `stay` at most.
    pub(crate) fn begin(config: Config, kind: Kind, stay: Duration) -> Result<Self> {
        let state = State { kind, stay, turns: Turns::default() };
        let shared = Arc::new((Mutex::new(state), AtomicBool::new(false)));
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("others".to_owned()).spawn(move || {
            if let Err(error) = run(&config, &theirs.0, &theirs.1) {
                eprintln!("the others ended: {error:#}");
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on they are of this kind: all leave, and begin one after the other.
    pub(crate) fn turn(&self, kind: Kind, stay: Duration) {
        let mut state = lock(&self.shared.0);
        (state.kind, state.stay) = (kind, stay);
    }

    /// What became of them since the last call.
    pub(crate) fn take(&self) -> Turns {
        std::mem::take(&mut lock(&self.shared.0).turns)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.shared.1.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed there.
            thread.join().ok();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the streams at once.
struct Place {
    viewer: Option<Viewer>,
    /// When the viewer leaves, or the first one comes.
    until: Instant,
}

fn run(config: &Config, state: &Mutex<State>, is_over: &AtomicBool) -> Result<()> {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut scratch = vec![0; READ];
    let mut events = Vec::with_capacity(64);
    let mut places: Vec<Place> = Vec::new();
    let (mut kind, mut serial) = (None, FIRST_SERIAL);
    while !is_over.load(Ordering::Acquire) {
        let (wanted, stay) = {
            let state = lock(state);
            (state.kind, state.stay)
        };
        if kind.replace(wanted) != Some(wanted) {
            let begin = |place: usize| stay.mul_f64(place as f64 / config.places as f64);
            let start = Instant::now();
            places = (0..config.places).map(|n| Place { viewer: None, until: start + begin(n) }).collect();
        }
        let now = Instant::now();
        for (number, place) in places.iter_mut().enumerate().filter(|(_, place)| place.until <= now) {
            if let Some(viewer) = place.viewer.take() {
                lock(state).turns.barren += u64::from(viewer.received == 0);
            }
            let fault = &config.faults[serial as usize % config.faults.len()];
            let scenario = if wanted == Kind::Faulty { *fault } else { Scenario::healthy() };
            let content = Content::Signed { bitrate_bps: config.rate_bps };
            let id = ContentId::new(content, scenario, serial).to_string();
            serial += 1;
            *place = Place { viewer: Some(open(config, id, number, &poller)?), until: now + stay };
            lock(state).turns.asked += 1;
        }
        events.clear();
        let wait = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        match epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let place = &mut places[event.data.u64() as usize];
            on_ready(place, event, &poller, &mut scratch, state)?;
        }
    }
    Ok(())
}

fn open(config: &Config, id: String, number: usize, poller: &OwnedFd) -> Result<Viewer> {
    let viewer = Viewer::connect(config.address, id)?;
    epoll::add(poller, &viewer, EventData::new_u64(number as u64), EventFlags::OUT)?;
    Ok(viewer)
}

fn on_ready(
    place: &mut Place,
    event: &epoll::Event,
    poller: &OwnedFd,
    scratch: &mut [u8],
    state: &Mutex<State>,
) -> Result<()> {
    let Some(viewer) = &mut place.viewer else { return Ok(()) };
    if viewer.phase == Phase::Connecting {
        viewer.request();
        epoll::modify(poller, &*viewer, event.data, EventFlags::IN)?;
        return Ok(());
    }
    let before = viewer.received;
    viewer.discard(scratch);
    let mut state = lock(state);
    state.turns.bytes += viewer.received - before;
    let (received, phase) = (viewer.received, viewer.phase);
    if matches!(phase, Phase::Failed | Phase::Ended) {
        state.turns.barren += u64::from(received == 0);
        state.turns.ended += u64::from(received > 0);
        *place = Place { viewer: None, until: Instant::now() + PAUSE };
    }
    Ok(())
}
