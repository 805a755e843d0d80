//! The floor: sendfile on a wheel and nothing else. No HTTP, no ingest, no
//! accounting, one thread.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags},
    thread::{ClockId, clock_nanosleep_absolute},
    time::Timespec,
};

use crate::support::{
    feed::{Mux, PACKET, Store},
    socket,
};

/// Time between two slots of the wheel.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Most bytes of one visit.
pub(crate) const VISIT: u64 = 256 << 10;
/// Streams are written every fourth tick, each in its own.
const WRITE_EVERY: u64 = 4;
/// Connections taken per tick.
const ACCEPTS: usize = 64;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n";

/// What to serve.
pub(crate) struct Config {
    /// Streams; the n-th connection gets stream n modulo this.
    pub(crate) streams: usize,
    /// Rate of each stream, in bits a second.
    pub(crate) rate_bps: u64,
    /// Slots of the wheel: the period is this many ticks.
    pub(crate) slots: usize,
    /// Congestion control set on the listener, or the machine's own.
    pub(crate) congestion: Option<String>,
}

struct Viewer {
    socket: OwnedFd,
    stream: usize,
    cursor: u64,
}

struct Stats {
    lateness_us: Histogram<u64>,
    sent: u64,
    partial: u64,
    gone: u64,
    viewers: u64,
}

/// Serves until standard input closes; prints its address first.
pub(crate) fn run(config: &Config) -> io::Result<()> {
    let listener = socket::listen(SocketFlags::NONBLOCK, config.congestion.as_deref())?;
    let wanted = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Mutex::new(new_stats()));
    answer_commands(Arc::clone(&wanted), Arc::clone(&shared));
    serve(config, &listener, &wanted, &shared)
}

fn serve(config: &Config, listener: &OwnedFd, wanted: &AtomicBool, shared: &Mutex<Stats>) -> io::Result<()> {
    // Six seconds are more than any viewer that is alive lags.
    let window = (config.rate_bps / 8 * 6).max(4 << 20);
    let mut mux = Mux::new(config.rate_bps);
    let mut stores = (0..config.streams).map(|_| Store::new(window)).collect::<io::Result<Vec<_>>>()?;
    // One programme for all: the newest four pieces, each stream one of them behind at most.
    let mut pending = vec![Vec::new(); config.streams.min(WRITE_EVERY as usize)];
    let mut slots: Vec<Vec<Viewer>> = (0..config.slots).map(|_| Vec::new()).collect();
    let mut accepted = 0;
    let mut stats = new_stats();
    let mut piece = Vec::new();
    let start = now();
    for tick in 0u64.. {
        let due = start + TICK * u32::try_from(tick).unwrap_or(u32::MAX);
        if now() < due {
            let nanos = due.subsec_nanos().into();
            clock_nanosleep_absolute(
                ClockId::Monotonic,
                &Timespec { tv_sec: due.as_secs() as i64, tv_nsec: nanos },
            )?;
        }
        mux.fill_until(TICK * u32::try_from(tick + 1).unwrap_or(u32::MAX), &mut piece);
        for phase in &mut pending {
            phase.extend_from_slice(&piece);
        }
        piece.clear();
        let phase = (tick % WRITE_EVERY) as usize;
        if let Some(bytes) = pending.get_mut(phase) {
            for store in stores.iter_mut().skip(phase).step_by(WRITE_EVERY as usize) {
                store.append(bytes)?;
            }
            bytes.clear();
        }
        accept(listener, &stores, &mut slots, &mut accepted, &mut stats);
        let slot = (tick % config.slots as u64) as usize;
        visit_all(&mut slots[slot], &stores, due, &mut stats);
        if wanted.load(Ordering::Acquire) {
            let mut taken = shared.lock().expect("nobody panics with it");
            *taken = std::mem::replace(&mut stats, new_stats());
            taken.viewers = slots.iter().map(|slot| slot.len() as u64).sum();
            wanted.store(false, Ordering::Release);
        }
    }
    Ok(())
}

/// Visits every viewer of a slot: one sendfile of all it is behind.
fn visit_all(slot: &mut Vec<Viewer>, stores: &[Store], due: Duration, stats: &mut Stats) {
    let mut index = 0;
    while let Some(viewer) = slot.get_mut(index) {
        let late = now().saturating_sub(due);
        stats.lateness_us.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        let store = &stores[viewer.stream];
        if viewer.cursor < store.tail() {
            viewer.cursor = store.head();
        }
        let count = (store.head() - viewer.cursor).min(VISIT) as usize;
        match rustix::fs::sendfile(&viewer.socket, store.file(), Some(&mut viewer.cursor), count) {
            Ok(sent) => {
                stats.sent += sent as u64;
                stats.partial += u64::from(sent < count);
            }
            Err(Errno::AGAIN) => stats.partial += 1,
            Err(_) => {
                stats.gone += 1;
                slot.swap_remove(index);
                continue;
            }
        }
        index += 1;
    }
}

fn accept(
    listener: &OwnedFd,
    stores: &[Store],
    slots: &mut [Vec<Viewer>],
    accepted: &mut usize,
    stats: &mut Stats,
) {
    for _ in 0..ACCEPTS {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let Ok(socket) = rustix::net::accept_with(listener, flags) else { return };
        let mut request = [0u8; 1024];
        // Whatever has come of the request; a socket closed with bytes unread resets.
        rustix::net::recv(&socket, &mut request, RecvFlags::empty()).ok();
        if rustix::net::send(&socket, RESPONSE, SendFlags::NOSIGNAL) != Ok(RESPONSE.len()) {
            stats.gone += 1;
            continue;
        }
        let stream = *accepted % stores.len();
        let store = &stores[stream];
        // Half a second at once, from a packet's start, as a joining viewer would get.
        let behind = (64 << 10) / PACKET as u64 * PACKET as u64;
        let cursor = store.head().saturating_sub(behind).max(store.tail().next_multiple_of(PACKET as u64));
        let mut viewer = Viewer { socket, stream, cursor: cursor.min(store.head()) };
        let count = (store.head() - viewer.cursor) as usize;
        if count > 0 {
            rustix::fs::sendfile(&viewer.socket, store.file(), Some(&mut viewer.cursor), count).ok();
        }
        slots[*accepted % slots.len()].push(viewer);
        *accepted += 1;
    }
}

/// Any line asks for the statistics since the last one; the end of input ends us.
fn answer_commands(wanted: Arc<AtomicBool>, shared: Arc<Mutex<Stats>>) {
    std::thread::spawn(move || {
        for _ in io::stdin().lines().map_while(io::Result::ok) {
            wanted.store(true, Ordering::Release);
            while wanted.load(Ordering::Acquire) {
                std::thread::sleep(TICK / 4);
            }
            let stats = shared.lock().expect("nobody panics with it");
            let quantile = |q| stats.lateness_us.value_at_quantile(q);
            println!(
                "{}",
                serde_json::json!({
                    "lateness_us": { "p50": quantile(0.5), "p99": quantile(0.99), "max": stats.lateness_us.max() },
                    "visits": stats.lateness_us.len(), "sent": stats.sent, "partial": stats.partial,
                    "gone": stats.gone, "viewers": stats.viewers,
                })
            );
        }
        std::process::exit(0);
    });
}

fn new_stats() -> Stats {
    let lateness_us = Histogram::new_with_bounds(1, 120_000_000, 3).expect("constant bounds are valid");
    Stats { lateness_us, sent: 0, partial: 0, gone: 0, viewers: 0 }
}

fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, u32::try_from(time.tv_nsec).unwrap_or(0))
}
