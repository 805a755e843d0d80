//! Aligning and indexing a transport stream, in bytes per second of one core.
//!
//! ```text
//! cargo bench --bench ts_scan -- [--quick] [--assert-budget]
//! ```
//!
//! Builds a stream like a 4 Mbit/s broadcast (H.264 at 25 frames a second, AAC,
//! PAT and PMT ten times a second, some null packets) and takes it 64 KiB at a
//! time, in two ways. *Warm* is an ingest: each piece was just copied behind
//! what the last one left pending, as a read does; the copy is not timed.
//! *Cold* walks over the stream where it lies, far beyond every cache, and is
//! what the budget is for, per second of CPU time: on a machine that does other
//! things besides, that is what repeats.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use millrace_media::ts::{Aligned, Aligner, Event, Indexer, NULL_PACKET, PACKET_LEN, Pcr};

/// Bytes per read.
const READ_LEN: usize = 64 << 10;

/// Below this, per second of CPU time, `--assert-budget` fails.
const BUDGET_GIB_PER_SECOND: f64 = 5.0;

fn main() -> ExitCode {
    let has = |flag: &str| std::env::args().any(|a| a == flag);
    // Plain `cargo test` runs benches too, and without `--bench`.
    let quick = has("--quick") || !has("--bench");
    let (stream_len, rounds) = if quick { (4 << 20, 3) } else { (256 << 20, 9) };

    let mut stream = broadcast(stream_len);
    let warm: Vec<Run> = (0..rounds).map(|_| scan_warm(&stream)).collect();
    let cold: Vec<Run> = (0..rounds).map(|_| scan_cold(&mut stream)).collect();
    let first = (warm[0].checksum, warm[0].joins);
    if warm.iter().chain(&cold).any(|run| (run.checksum, run.joins) != first) {
        eprintln!("rounds disagree");
        return ExitCode::FAILURE;
    }
    report("warm", warm, stream.len());
    let speed = report("cold", cold, stream.len());
    println!("ts_scan: {} MiB, {} join points, checksum {:016x}", stream.len() >> 20, first.1, first.0);
    if has("--assert-budget") && speed < BUDGET_GIB_PER_SECOND {
        eprintln!("below the budget of {BUDGET_GIB_PER_SECOND} GiB/s");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints one line; returns GiB per second of CPU time, of the median round.
fn report(name: &str, mut runs: Vec<Run>, len: usize) -> f64 {
    let gib = len as f64 / (1u64 << 30) as f64;
    runs.sort_by_key(|run| run.wall);
    let (wall, slowest) = (runs[runs.len() / 2].wall, runs[runs.len() - 1].wall);
    runs.sort_by_key(|run| run.cpu);
    let cpu = runs[runs.len() / 2].cpu.as_secs_f64() / gib;
    println!(
        "ts_scan {name}: {:.2} GiB/s median of {}, slowest {:.2}; {cpu:.4} CPU s/GiB, {:.2} GiB per CPU second",
        gib / wall.as_secs_f64(),
        runs.len(),
        gib / slowest.as_secs_f64(),
        1.0 / cpu,
    );
    1.0 / cpu
}

struct Run {
    wall: Duration,
    cpu: Duration,
    joins: u64,
    checksum: u64,
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// What is timed, and a checksum of what came out.
struct Scanner {
    aligner: Aligner,
    indexer: Indexer,
    events: Vec<Event>,
    run: Run,
}

impl Scanner {
    fn new() -> Self {
        let run =
            Run { wall: Duration::ZERO, cpu: Duration::ZERO, joins: 0, checksum: 0xCBF2_9CE4_8422_2325 };
        Self { aligner: Aligner::new(), indexer: Indexer::new(), events: Vec::new(), run }
    }

    fn take(&mut self, buf: &mut [u8]) -> Aligned {
        let (wall_before, cpu_before) = (Instant::now(), cpu());
        let aligned = self.aligner.align(buf);
        self.indexer.scan(&buf[..aligned.packets], &mut self.events);
        self.run.cpu += cpu() - cpu_before;
        self.run.wall += wall_before.elapsed();
        aligned
    }

    fn finish(mut self) -> Run {
        let stats = self.indexer.stats();
        let mut sum =
            |value: u64| self.run.checksum = (self.run.checksum ^ value).wrapping_mul(0x0100_0000_01B3);
        sum(stats.packets);
        sum(stats.continuity_errors);
        for event in self.events {
            match event {
                Event::Psi { offset, .. } => sum(offset),
                Event::Join(point) => sum(point.offset),
                Event::Pcr { offset, pcr, .. } => sum(offset ^ pcr.ticks()),
                // Not told of to this indexer.
                Event::Unit { .. } | Event::RandomAccess(_) => {}
            }
        }
        self.run.joins = stats.join_points;
        self.run
    }
}

fn scan_warm(stream: &[u8]) -> Run {
    let mut scanner = Scanner::new();
    let mut buf = vec![0; READ_LEN * 2];
    let mut pending = 0;
    for read in stream.chunks(READ_LEN) {
        let filled = pending + read.len();
        buf[pending..filled].copy_from_slice(read);
        let aligned = scanner.take(&mut buf[..filled]);
        buf.copy_within(aligned.packets..aligned.packets + aligned.pending, 0);
        pending = aligned.pending;
    }
    scanner.finish()
}

fn scan_cold(stream: &mut [u8]) -> Run {
    let mut scanner = Scanner::new();
    let (mut at, mut filled) = (0, 0);
    while filled < stream.len() {
        filled = stream.len().min(filled + READ_LEN);
        at += scanner.take(&mut stream[at..filled]).packets;
    }
    scanner.finish()
}

/// Writes packets with right counters.
struct Mux {
    out: Vec<u8>,
    counters: [u8; 0x2000],
    noise: u64,
}

const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;

/// A stream of at least `len` bytes, whole groups of fifty pictures.
fn broadcast(len: usize) -> Vec<u8> {
    let mut mux = Mux { out: Vec::with_capacity(len + (2 << 20)), counters: [0; 0x2000], noise: 1 };
    let mut picture = 0u64;
    while mux.out.len() < len || !picture.is_multiple_of(50) {
        if picture.is_multiple_of(5) {
            mux.section(0, &PAT);
            mux.section(PMT, &PMT_SECTION);
        }
        let pcr = Pcr::from_ticks(picture * Pcr::HZ / 25);
        let is_key = picture.is_multiple_of(50);
        // 20 KB a picture on average: one of 160 KB, 49 of 17 KB.
        let (head, len) = if is_key { (&IDR[..], 160_000) } else { (&P_SLICE[..], 17_000) };
        mux.pes(VIDEO, 0xE0, Some((pcr, is_key)), head, len);
        mux.pes(AUDIO, 0xC0, None, &[0xFF, 0xF1], 640);
        mux.out.extend_from_slice(&NULL_PACKET);
        picture += 1;
    }
    mux.out
}

const IDR: [u8; 32] = [
    0, 0, 0, 1, 9, 0xF0, 0, 0, 0, 1, 0x67, 0x64, 0, 0x1F, 0xAC, 0xD9, 0, 0, 0, 1, 0x68, 0xEB, 0xE3, 0xCB, 0,
    0, 1, 0x65, 0x88, 0x84, 0x21, 0xA0,
];
const P_SLICE: [u8; 12] = [0, 0, 0, 1, 9, 0xF0, 0, 0, 1, 0x41, 0x9A, 0x24];
/// Program 1 on PID 0x1000.
const PAT: [u8; 16] = [0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0, 0x2A, 0xB1, 0x04, 0xB2];
/// H.264 on PID 0x100 with the PCR, AAC on PID 0x101.
const PMT_SECTION: [u8; 26] = [
    2, 0xB0, 23, 0, 1, 0xC1, 0, 0, 0xE1, 0, 0xF0, 0, 0x1B, 0xE1, 0, 0xF0, 0, 0x0F, 0xE1, 1, 0xF0, 0, 0x2F,
    0x44, 0xB9, 0x9B,
];

impl Mux {
    fn header(&mut self, pid: u16, is_start: bool, control: u8) {
        let counter = &mut self.counters[usize::from(pid)];
        let [hi, lo] = pid.to_be_bytes();
        self.out.extend([0x47, hi | if is_start { 0x40 } else { 0 }, lo, control | *counter]);
        *counter = (*counter + 1) & 0x0F;
    }

    fn section(&mut self, pid: u16, section: &[u8]) {
        self.header(pid, true, 0x10);
        self.out.push(0);
        self.out.extend_from_slice(section);
        self.out.resize(self.out.len().next_multiple_of(PACKET_LEN), 0xFF);
    }

    fn pes(&mut self, pid: u16, id: u8, clock: Option<(Pcr, bool)>, head: &[u8], len: usize) {
        let mut unit = vec![0, 0, 1, id, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
        unit.extend_from_slice(head);
        while unit.len() < len {
            self.noise =
                self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            unit.extend(((self.noise >> 7) | 0x0101_0101_0101_0101).to_le_bytes());
        }
        let mut rest = &unit[..];
        let mut field: Vec<u8> = clock.map_or(Vec::new(), |(pcr, is_key)| {
            [&[if is_key { 0x50 } else { 0x10 }][..], &pcr.to_bytes()].concat()
        });
        let mut is_start = true;
        while !rest.is_empty() {
            let room = if field.is_empty() { 184 } else { 183 - field.len() };
            let (now, later) = rest.split_at(rest.len().min(room));
            if now.len() < room {
                field.resize(183 - now.len(), 0xFF);
                if !is_start && let Some(flags) = field.first_mut() {
                    *flags = 0;
                }
            }
            if now.len() == 184 {
                self.header(pid, is_start, 0x10);
            } else {
                self.header(pid, is_start, 0x30);
                self.out.push(u8::try_from(field.len()).unwrap_or(0));
                self.out.extend_from_slice(&field);
            }
            self.out.extend_from_slice(now);
            (rest, is_start) = (later, false);
            field.clear();
        }
    }
}
