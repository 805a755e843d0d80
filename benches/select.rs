//! Picking an engine: a thousand picks at once over a hundred engines.
//!
//! Every round, all threads start at a barrier, pick and reserve until each has
//! made its share, hold what they got, and free it together. Checked in every
//! round: no engine above its capacity, no slot given twice, and exactly as
//! many winners as there are slots to win. `--assert-budget` exits with 1 when
//! the p99 of a pick is above its budget; without `--bench`, as under
//! `cargo test`, the run is tiny.

use std::{
    net::Ipv4Addr,
    process::ExitCode,
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;
use millrace_boundary::{EngineEntry, EngineId, EngineState, EngineTable, Epoch, NotPicked, Slots};

const ENGINES: u32 = 100;
const CAPACITY: u32 = 10;
/// Pick and reserve, p99, in nanoseconds.
const BUDGET_NS: u64 = 50_000;

#[derive(Parser)]
struct Options {
    /// Threads that pick.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Rounds per case.
    #[arg(long, default_value_t = 500)]
    rounds: usize,
    /// A smoke test: a few rounds.
    #[arg(long)]
    quick: bool,
    /// Exit with 1 when the budget is missed.
    #[arg(long)]
    assert_budget: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Outcome {
    pick_ns: Histogram<u64>,
    /// Most streams on one engine minus fewest, at the end of a round.
    worst_spread: u32,
    checksum: u64,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick || !options.bench {
        options.rounds = options.rounds.min(3);
    }
    let threads = options.threads.clamp(1, 64);
    let cpu_start = cpu_time();
    let start = Instant::now();
    let mut is_kept = true;
    for (name, picks) in [("half", 500), ("exact", 1_000), ("over", 1_500)] {
        let outcome = run(threads, options.rounds, picks);
        let quantile = |q| outcome.pick_ns.value_at_quantile(q);
        let (p50, p99, max) = (quantile(0.5), quantile(0.99), outcome.pick_ns.max());
        is_kept &= p99 < BUDGET_NS;
        eprintln!(
            "{name:<6} {picks:>5} picks, {threads} threads: p50 {p50:>6} p99 {p99:>6} max {max:>9} ns, \
             spread {}, checksum {:016x}",
            outcome.worst_spread, outcome.checksum,
        );
        let line = serde_json::json!({
            "bench": "select", "case": name, "picks": picks, "threads": threads, "rounds": options.rounds,
            "p50_ns": p50, "p99_ns": p99, "max_ns": max, "worst_spread": outcome.worst_spread,
        });
        println!("{line}");
    }
    let cpu = cpu_time() - cpu_start;
    eprintln!("CPU {:.2} s in {:.2} s", cpu.as_secs_f64(), start.elapsed().as_secs_f64());
    eprintln!("budget {}: p99 below {BUDGET_NS} ns", if is_kept { "kept" } else { "MISSED" });
    if is_kept || !options.assert_budget { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Picks `picks` engines at once, `rounds` times, and checks each round.
fn run(threads: usize, rounds: usize, picks: usize) -> Outcome {
    let table = table();
    let barrier = Barrier::new(threads + 1);
    let all = Mutex::new((new_histogram(), Vec::new()));
    let is_over = AtomicBool::new(false);
    let mut worst_spread = 0;
    let mut checksum = 0u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let share = picks / threads + usize::from(thread < picks % threads);
            let (table, barrier, all, is_over) = (&table, &barrier, &all, &is_over);
            scope.spawn(move || {
                let mut pick_ns = new_histogram();
                loop {
                    barrier.wait();
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut held = Vec::with_capacity(share);
                    for _ in 0..share {
                        let start = Instant::now();
                        let picked = table.pick(&[]);
                        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        pick_ns.saturating_record(nanos);
                        match picked {
                            Ok((engine, guard)) => held.push((engine.id, guard)),
                            Err(reason) => assert_eq!(reason, NotPicked::Full, "every engine is ready"),
                        }
                    }
                    all.lock().expect("nobody panics with it").1.extend(held.iter().map(|(id, _)| *id));
                    barrier.wait(); // all hold
                    barrier.wait(); // all was checked
                    drop(held);
                    barrier.wait(); // all is free
                }
                all.lock().expect("nobody panics with it").0.add(pick_ns).expect("same bounds");
            });
        }
        for _ in 0..rounds {
            barrier.wait();
            barrier.wait();
            let won = std::mem::take(&mut all.lock().expect("nobody panics with it").1);
            let spread = check_round(&table, &won, picks);
            worst_spread = worst_spread.max(spread);
            checksum = checksum.rotate_left(1) ^ won.iter().map(|id| u64::from(id.0) + 1).sum::<u64>();
            barrier.wait();
            barrier.wait();
            assert!(table.engines.iter().all(|engine| engine.slots.taken() == 0), "a slot was not freed");
        }
        is_over.store(true, Ordering::Relaxed);
        barrier.wait();
    });
    let pick_ns = all.into_inner().expect("nobody panics with it").0;
    Outcome { pick_ns, worst_spread, checksum }
}

/// Counts what was won per engine, from the winners and not from the table
/// alone; returns the difference between the fullest engine and the emptiest.
fn check_round(table: &EngineTable, won: &[EngineId], picks: usize) -> u32 {
    let slots = (ENGINES * CAPACITY) as usize;
    assert_eq!(won.len(), picks.min(slots), "winners");
    let mut per_engine = [0u32; ENGINES as usize];
    for id in won {
        per_engine[id.0 as usize] += 1;
    }
    for (engine, &count) in table.engines.iter().zip(&per_engine) {
        assert!(count <= CAPACITY, "engine {} plays {count}", engine.id);
        assert_eq!(engine.slots.taken(), count, "engine {}", engine.id);
    }
    let fewest = per_engine.iter().copied().min().unwrap_or(0);
    per_engine.iter().copied().max().unwrap_or(0) - fewest
}

fn table() -> EngineTable {
    let engines = (0..ENGINES).map(|id| EngineEntry {
        id: EngineId(id),
        name: format!("engine-{id}").into(),
        address: (Ipv4Addr::LOCALHOST, 6878).into(),
        source: None,
        state: EngineState::Ready,
        slots: Slots::new(CAPACITY),
        start_failures: 0,
        first_byte: Duration::from_millis(500),
    });
    EngineTable { epoch: Epoch(1), growing: false, engines: engines.collect() }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("constant bounds are valid")
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}
