//! The viewers: one process, most of them read into nothing, a few for real.
//!
//! Commands come one a line on standard input, and each is answered by one
//! line of JSON: `status` and `mark` (which forgets the gaps seen so far) tell
//! the totals, `report` adds the gaps since the mark.

use std::{
    io,
    net::SocketAddrV4,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    fd::OwnedFd,
};

use crate::{
    case::id,
    checker::Checker,
    support::viewer::{Phase, Viewer},
};

/// Most bytes taken by one read.
const READ: usize = 1 << 20;
/// Most gaps kept between two marks; some 10 minutes of 20 viewers.
const MAX_GAPS: usize = 100_000;

/// Who is to watch what.
#[derive(Clone)]
pub(crate) struct Config {
    /// The server.
    pub(crate) address: SocketAddrV4,
    /// All viewers, the sample included.
    pub(crate) viewers: usize,
    /// Viewers that read for real, spread over the time of connecting.
    pub(crate) sample: usize,
    /// The n-th viewer watches stream n modulo this.
    pub(crate) streams: usize,
    /// New connections a second, at most.
    pub(crate) connects_per_second: u32,
    /// Arrivals this soon after the first of a visit belong to it.
    pub(crate) same_visit: Duration,
}

#[derive(Default)]
struct Totals {
    flowing: AtomicU64,
    failed: AtomicU64,
    ended: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    gaps_us: Mutex<Vec<u64>>,
}

/// Connects, reads and answers commands until standard input closes.
pub(crate) fn run(config: &Config) -> io::Result<()> {
    let totals = Totals::default();
    let every = (config.viewers / config.sample.max(1)).max(1);
    let is_sampled = |index: usize| index.is_multiple_of(every) && index / every < config.sample;
    let (sample, mass): (Vec<usize>, Vec<usize>) = (0..config.viewers).partition(|&index| is_sampled(index));
    thread::scope(|scope| {
        scope.spawn(|| watch(config, &mass, &totals, Reading::Discard));
        scope.spawn(|| {
            // Its clock is the outside observer's: it goes before the mass.
            rustix::process::nice(-10).ok();
            watch(config, &sample, &totals, Reading::Check)
        });
        for command in io::stdin().lines().map_while(io::Result::ok) {
            let gaps = {
                let mut gaps = totals.gaps_us.lock().expect("nobody panics with it");
                if command == "status" { Vec::new() } else { std::mem::take(&mut *gaps) }
            };
            let mut answer = serde_json::json!({
                "flowing": totals.flowing.load(Relaxed),
                "failed": totals.failed.load(Relaxed),
                "ended": totals.ended.load(Relaxed),
                "bytes": totals.bytes.load(Relaxed),
                "errors": totals.errors.load(Relaxed),
            });
            if command == "report" {
                answer["gaps_us"] = gaps.into();
            }
            println!("{answer}");
        }
        std::process::exit(0);
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Discard,
    Check,
}

struct Place {
    viewer: Option<Viewer>,
    checker: Checker,
    visit: Option<Instant>,
}

/// Connects the viewers of `indices`, each at its time, and reads them all.
fn watch(config: &Config, indices: &[usize], totals: &Totals, reading: Reading) -> io::Result<()> {
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    let mut places: Vec<Place> = Vec::with_capacity(indices.len());
    let mut scratch = vec![0; READ];
    let mut events = Vec::with_capacity(256);
    let start = Instant::now();
    loop {
        // One connection per turn, so that connecting delays no arrival by more.
        let mut wait = Timespec { tv_sec: 1, tv_nsec: 0 };
        if let Some(&index) = indices.get(places.len()) {
            let due = Duration::from_secs(index as u64) / config.connects_per_second;
            if due <= start.elapsed() {
                places.push(open(config, index, places.len(), &poller, totals));
                wait = Timespec { tv_sec: 0, tv_nsec: 0 };
            } else {
                wait = Timespec { tv_sec: 0, tv_nsec: 500_000 };
            }
        }
        events.clear();
        match epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let place = &mut places[event.data.u64() as usize];
            let ready = event.flags;
            on_ready(config, place, event.data, ready, &poller, totals, &mut scratch, reading)?;
        }
    }
}

fn open(config: &Config, index: usize, place: usize, poller: &OwnedFd, totals: &Totals) -> Place {
    let viewer = Viewer::connect(config.address, id(index % config.streams)).and_then(|viewer| {
        epoll::add(poller, &viewer, EventData::new_u64(place as u64), EventFlags::OUT)?;
        Ok(viewer)
    });
    if viewer.is_err() {
        totals.failed.fetch_add(1, Relaxed);
    }
    Place { viewer: viewer.ok(), checker: Checker::default(), visit: None }
}

#[expect(clippy::too_many_arguments, reason = "the loop's own state, lent for one event")]
fn on_ready(
    config: &Config,
    place: &mut Place,
    data: EventData,
    ready: EventFlags,
    poller: &OwnedFd,
    totals: &Totals,
    scratch: &mut [u8],
    reading: Reading,
) -> io::Result<()> {
    let Some(viewer) = &mut place.viewer else { return Ok(()) };
    if viewer.phase == Phase::Connecting {
        viewer.request();
        epoll::modify(poller, &*viewer, data, EventFlags::IN)?;
    } else if ready.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
        let before = viewer.received;
        match reading {
            Reading::Discard => viewer.discard(scratch),
            Reading::Check => {
                let bytes = viewer.read(scratch);
                let errors = place.checker.errors;
                place.checker.feed(bytes);
                totals.errors.fetch_add(place.checker.errors - errors, Relaxed);
                if !bytes.is_empty() {
                    note_arrival(config, &mut place.visit, totals);
                }
            }
        }
        totals.bytes.fetch_add(viewer.received - before, Relaxed);
        if before == 0 && viewer.received > 0 {
            totals.flowing.fetch_add(1, Relaxed);
        }
    }
    match viewer.phase {
        Phase::Failed => totals.failed.fetch_add(1, Relaxed),
        Phase::Ended => totals.ended.fetch_add(1, Relaxed),
        _ => return Ok(()),
    };
    place.viewer = None;
    Ok(())
}

fn note_arrival(config: &Config, visit: &mut Option<Instant>, totals: &Totals) {
    let now = Instant::now();
    let gap = visit.map(|first| now - first);
    if gap.is_some_and(|gap| gap < config.same_visit) {
        return;
    }
    *visit = Some(now);
    if let Some(gap) = gap {
        let mut gaps = totals.gaps_us.lock().expect("nobody panics with it");
        if gaps.len() < MAX_GAPS {
            gaps.push(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Joins `count` viewers to the live stream `id`, `at_once` of them at a time, and
/// returns the microseconds from connect to the first byte of the stream.
pub(crate) fn join(
    address: SocketAddrV4,
    id: &str,
    count: usize,
    at_once: usize,
    limit: Duration,
) -> io::Result<Joins> {
    let mut joins = Joins { first_byte_us: Vec::with_capacity(count), failed: 0 };
    let mut scratch = vec![0; 64 << 10];
    let mut events = Vec::with_capacity(256);
    let deadline = Instant::now() + limit;
    while joins.first_byte_us.len() + joins.failed < count && Instant::now() < deadline {
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        let mut batch = Vec::new();
        for place in 0..at_once.min(count - joins.first_byte_us.len() - joins.failed) {
            let start = Instant::now();
            let viewer = Viewer::connect(address, id.to_owned())?;
            epoll::add(&poller, &viewer, EventData::new_u64(place as u64), EventFlags::OUT)?;
            batch.push((start, Some(viewer)));
        }
        while batch.iter().any(|(_, viewer)| viewer.is_some()) && Instant::now() < deadline {
            events.clear();
            let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let (start, slot) = &mut batch[event.data.u64() as usize];
                let Some(viewer) = slot else { continue };
                if viewer.phase == Phase::Connecting {
                    viewer.request();
                    epoll::modify(&poller, &*viewer, event.data, EventFlags::IN)?;
                    continue;
                }
                let has_byte = !viewer.read(&mut scratch).is_empty();
                if has_byte {
                    joins.first_byte_us.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
                } else if matches!(viewer.phase, Phase::Failed | Phase::Ended) {
                    joins.failed += 1;
                } else {
                    continue;
                }
                *slot = None;
            }
        }
    }
    joins.failed = count - joins.first_byte_us.len();
    joins.first_byte_us.sort_unstable();
    Ok(joins)
}

/// How joins went.
pub(crate) struct Joins {
    /// Connect to first byte, sorted, in microseconds.
    pub(crate) first_byte_us: Vec<u64>,
    /// Joins without a byte.
    pub(crate) failed: usize,
}
