//! Bystanders: what viewers of healthy streams notice of faulty ones.
//!
//! The real server plays healthy streams of one viewer each from a pool of
//! emulated engines. Beside them, from the same pool, other streams come and go:
//! in one phase healthy ones too, in the next one with every fault of the
//! catalogue that befalls a content, in turn. What a fault ends is followed by the
//! next stream at once, and in quiet phases as many begin as in the faulty one
//! before: so the load is alike and the faults differ. Lateness is the time from
//! a packet's broadcast to its arrival, which has the server's visiting period in
//! it; a join is the time from connect to the arrival of the stream's first byte,
//! by a further viewer of a healthy one. Lateness of each faulty phase is held
//! against the mean of the quiet ones before and after it. Joins take some tens of
//! microseconds, which the machine may take one and a half times as long for while
//! others use its caches and memory: so a fixed piece of work is timed beside them,
//! and those count that fell into seconds in which it took about as long as usual.
//!
//! ```text
//! cargo bench --bench bystanders                   three pairs of phases
//! cargo bench --bench bystanders -- --pairs 5 --seconds 60 --assert-budget
//! cargo test --bench bystanders                    tiny
//! ```
//!
//! The table goes to standard error, a JSON line per result to standard output.

#![expect(clippy::cast_possible_truncation, reason = "figures to print, and places in short lists")]

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use millrace_emulator::{Content, ContentId, Scenario};

use crate::{
    audience::Audience,
    joins::Joins,
    others::{Kind, Others},
    outcome::{Phase, Slice},
    pace::Pace,
    support::{
        histogram::{self, Buckets},
        http::get,
        options::{Common, Launch, exit_part},
        process,
        scene::Scene,
    },
};

#[path = "../support/mod.rs"]
mod support;

mod audience;
mod faults;
mod joins;
mod others;
mod outcome;
mod pace;
mod stamp;

/// Streams that one engine plays at once.
const CAPACITY: usize = 4;
/// Of a phase, in which the machine is taken to be of one speed.
const SLICE: Duration = Duration::from_secs(1);
/// A start that fails does so while its viewer is there, and a stream that its
/// viewer has left is soon gone.
const SETTINGS: [&str; 3] =
    ["MILLRACE_STREAMS_LINGER=1s", "MILLRACE_STREAMS_START_BUDGET=5s", "MILLRACE_STREAMS_LONGEST_START=5s"];

#[derive(Parser)]
struct Options {
    /// Healthy streams that are measured.
    #[arg(long, default_value_t = 50)]
    streams: usize,
    /// Streams beside them at once.
    #[arg(long, default_value_t = 50)]
    others: usize,
    /// Engines, of four streams each.
    #[arg(long, default_value_t = 60)]
    engines: u16,
    /// Rate of each stream.
    #[arg(long, default_value_t = 1_000_000)]
    rate_bps: u32,
    /// Faulty phases; there is one quiet phase more.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Time measured per phase.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Joins per second.
    #[arg(long, default_value_t = 20)]
    joins: u32,
    /// Only faults whose text begins with this, such as stall. Repeatable.
    #[arg(long = "fault")]
    faults: Vec<String>,
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    part: Option<Part>,
}

impl Options {
    /// Longest time that one of the others is watched.
    fn stay(&self) -> Duration {
        Duration::from_secs(if self.common.is_quick() { 2 } else { 8 })
    }

    /// How long one of them was watched on average, when so many were asked for
    /// within `time`.
    fn mean_stay(&self, asked: u64, time: Duration) -> Duration {
        let each = time.mul_f64(self.others as f64 / asked.max(1) as f64);
        each.min(self.stay())
    }
}

#[derive(Subcommand)]
enum Part {
    /// The server, on a core of its own and ending with us.
    #[command(hide = true)]
    Launch(Launch),
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if let Some(Part::Launch(launch)) = options.part.take() {
        return exit_part("bystanders", launch.run(|| Ok(())));
    }
    let result = run(&mut options);
    options.common.exit("bystanders", result)
}

/// Runs all phases and returns how many budgets were missed.
fn run(options: &mut Options) -> Result<usize> {
    if options.common.is_quick() {
        (options.streams, options.others) = (options.streams.min(10), options.others.min(10));
        (options.engines, options.pairs) = (options.engines.min(12), 1);
        options.seconds = 3.0;
    }
    let Options { streams, others, engines, rate_bps, joins, .. } = *options;
    ensure!(streams > 0 && options.pairs > 0 && joins > 0, "there is nothing to measure");
    eprintln!(
        "{streams} healthy streams and {others} others of {rate_bps} bit/s, {engines} engines; \
         server on core {}, engines and viewers on core {}",
        options.common.server_cpu, options.common.load_cpu,
    );
    // As the server does: what else the machine does must not delay engines that
    // have just sent a burst, and so look like the server's doing.
    process::settle_in(options.common.load_cpu)?;
    let scene = Scene::start(&options.common, engines, CAPACITY, &SETTINGS)?;
    let content = Content::Signed { bitrate_bps: rate_bps };
    let ids: Vec<_> =
        (0..streams as u64).map(|serial| ContentId::new(content, Scenario::healthy(), serial)).collect();
    let audience = Audience::watch(scene.address, &ids)?;
    let joins = Joins::begin(scene.address, &ids, joins)?;
    let faults = faults::list(&options.faults)?;
    let config = others::Config { address: scene.address, places: others, rate_bps, faults };
    let others = Others::begin(config, Kind::Faulty, options.stay())?;
    // The first of them begin one after the other during one stay.
    thread::sleep(options.stay());
    let _ = others.take();
    thread::sleep(options.stay());
    let mut quiet_stay = options.mean_stay(others.take().asked, options.stay());

    let pace = Pace::begin(options.common.server_cpu)?;
    outcome::print_header();
    let mut phases = Vec::new();
    for number in 0..=2 * options.pairs {
        let (kind, stay) =
            if number % 2 == 0 { (Kind::Quiet, quiet_stay) } else { (Kind::Faulty, options.stay()) };
        others.turn(kind, stay);
        thread::sleep(stay);
        let phase = measure(kind, options, &scene, (&audience, &joins, &pace), &others)?;
        phase.print(options);
        if kind == Kind::Faulty {
            quiet_stay = options.mean_stay(phase.others.asked, Duration::from_secs_f64(phase.seconds));
        }
        phases.push(phase);
    }
    drop((others, joins, pace));
    let reports = audience.leave()?;
    tell_of_engines(&scene, &ids);
    Ok(outcome::judge(&phases) + outcome::judge_bytes(&reports))
}

fn measure(
    kind: Kind,
    options: &Options,
    scene: &Scene,
    (audience, joins, pace): (&Audience, &Joins, &Pace),
    others: &Others,
) -> Result<Phase> {
    let buckets = || -> Result<Buckets> {
        Ok(histogram::buckets(&get(scene.address, "/metrics")?, histogram::LATENESS))
    };
    let visits = buckets()?;
    let spent = || Spent::until_now(options, scene);
    let (start, before) = (Instant::now(), spent()?);
    // What was seen before is of no phase.
    drop((audience.take(), joins.take(), others.take(), pace.take()));
    let end = start + Duration::from_secs_f64(options.seconds.clamp(1.0, 3_600.0));
    let mut slices = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::sleep(left.min(SLICE));
        slices.push(Slice { joins: joins.take(), pace_ns: pace.take() });
    }
    let (figures, others) = (audience.take(), others.take());
    let spent = spent()?.since(&before);
    let seconds = start.elapsed().as_secs_f64();
    let joins = |count: fn(&Slice) -> u64| slices.iter().map(count).sum::<u64>();
    let bytes = figures.bytes + joins(|slice| slice.joins.bytes) + others.bytes;
    Ok(Phase {
        kind,
        lateness: figures.lateness(),
        packets: figures.packets(),
        visits: histogram::between(&visits, &buckets()?),
        joins_failed: joins(|slice| slice.joins.failed),
        cpu_s: spent.server,
        bytes,
        cpu_s_per_gib: spent.server / (bytes.max(1) as f64 / f64::from(1 << 30)),
        foreign_share: ((spent.server_core - spent.server) / seconds).max(0.0),
        load_share: spent.load / seconds,
        load_foreign_share: ((spent.load_core - spent.load) / seconds).max(0.0),
        slices,
        others,
        seconds,
    })
}

/// CPU time in seconds.
struct Spent {
    server: f64,
    /// Engines and viewers.
    load: f64,
    server_core: f64,
    load_core: f64,
}

impl Spent {
    fn until_now(options: &Options, scene: &Scene) -> Result<Self> {
        let Common { server_cpu, load_cpu, .. } = options.common;
        Ok(Self {
            server: process::cpu_time(scene.pid())?.as_secs_f64(),
            load: process::cpu_time(std::process::id())?.as_secs_f64(),
            server_core: process::busy_time(server_cpu)?.as_secs_f64(),
            load_core: process::busy_time(load_cpu)?.as_secs_f64(),
        })
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            server: self.server - earlier.server,
            load: self.load - earlier.load,
            server_core: self.server_core - earlier.server_core,
            load_core: self.load_core - earlier.load_core,
        }
    }
}

/// How the engines shared all that, and whether healthy streams stayed where
/// they were.
fn tell_of_engines(scene: &Scene, ids: &[ContentId]) {
    let counters: Vec<_> =
        (0..scene.emulator.addresses().len()).map(|engine| scene.emulator.engine_counters(engine)).collect();
    let mut starts: Vec<_> = counters.iter().map(|counters| counters.starts).collect();
    starts.sort_unstable();
    let (least, most) = (starts.first().copied().unwrap_or(0), starts.last().copied().unwrap_or(0));
    let median = starts.get(starts.len() / 2).copied().unwrap_or(0);
    let infohashes: Vec<_> = ids.iter().map(ContentId::infohash).collect();
    let of_healthy = |counters: &millrace_emulator::Counters| {
        infohashes.iter().filter_map(|hash| counters.per_content.get(hash)).map(|c| c.starts).sum::<u64>()
    };
    let healthy: Vec<_> = counters.iter().map(of_healthy).collect();
    let (sum, hosts) = (healthy.iter().sum::<u64>(), healthy.iter().filter(|starts| **starts > 0).count());
    eprintln!(
        "starts per engine: least {least}, median {median}, most {most}; the {} healthy streams took {sum} starts on {hosts} engines",
        ids.len(),
    );
    let line = serde_json::json!({
        "bench": "bystanders", "starts_per_engine": { "least": least, "median": median, "most": most },
        "healthy_starts": sum, "healthy_engines": hosts,
    });
    println!("{line}");
}
