//! Failover: what viewers see of a thousand engines killed under them.
//!
//! The real server plays streams of one viewer each from emulated engines that
//! take one stream each. Time and again the engine of a stream is killed: RST on
//! all its sockets, and its port refuses. The gap is the time from that to the
//! first packet at the viewer that was broadcast later, and so can only come
//! from another engine; the silence is the longest time around it without a byte
//! on the socket. Engines send the same bytes in one half of the run, and bytes
//! of their own in the other; there a jump is signalled, `skip` is what it leaves
//! out on average, and `back` how many went back, and how far.
//!
//! ```text
//! cargo bench --bench failover                     a thousand kills of each kind
//! cargo bench --bench failover -- --only matched --kills 100 --assert-budget
//! cargo test --bench failover                      tiny
//! ```
//!
//! The table goes to standard error, a JSON line per result to standard output.

#![expect(clippy::cast_possible_truncation, reason = "figures to print, and bytes cut out of wider words")]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::outcome::Outcome;

#[path = "../support/mod.rs"]
mod support;

mod kills;
mod outcome;
mod scene;
mod viewer;

/// Engines that have to be ready and free when another one is killed.
const SPARE: usize = 2;

#[derive(Parser)]
struct Options {
    /// Engines killed, with each kind of bytes.
    #[arg(long, default_value_t = 1_000)]
    kills: usize,
    /// Streams at once, one viewer each.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// Engines, one stream each.
    #[arg(long, default_value_t = 48)]
    engines: u16,
    /// Rate of each stream.
    #[arg(long, default_value_t = 2_000_000)]
    rate_bps: u32,
    /// One kind of bytes only.
    #[arg(long)]
    only: Option<Bytes>,
    /// A smoke test: a few kills.
    #[arg(long)]
    quick: bool,
    /// Exit with 1 when a budget is missed.
    #[arg(long)]
    assert_budget: bool,
    /// The server's core.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The core of engines and viewers.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// The binary to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_millrace"))]
    millrace: PathBuf,
    /// Given by `cargo bench`; without it, as under `cargo test`, the run is tiny.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Whether two engines send the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Bytes {
    /// They do: the splice is exact.
    Matched,
    /// Continuity counters and padding are each engine's own: the splice is a
    /// signalled jump.
    Unmatched,
}

impl Bytes {
    /// The word in the output.
    fn as_str(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Unmatched => "unmatched",
        }
    }

    /// The emulator's name for engines that behave like this.
    fn scenario(self) -> &'static str {
        match self {
            Self::Matched => "healthy-live",
            Self::Unmatched => "unmatched(both)",
        }
    }
}

#[derive(Subcommand)]
enum Part {
    /// The server, on a core of its own and ending with us.
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        cpu: usize,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    let result = match options.part.take() {
        Some(Part::Launch { cpu, command }) => scene::launch(cpu, &command).map(|()| 0),
        None => run(&mut options),
    };
    match result {
        Ok(missed) if options.assert_budget && missed > 0 => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for and returns how many budgets were missed.
fn run(options: &mut Options) -> Result<usize> {
    if options.quick || !options.bench {
        options.kills = options.kills.min(4);
        options.streams = options.streams.min(2);
        options.engines = options.engines.min(8);
    }
    let Options { kills, streams, engines, .. } = *options;
    ensure!(kills > 0 && streams > 0, "there is nothing to kill");
    let needed = 2 * streams + SPARE;
    if usize::from(engines) < needed {
        bail!("{streams} streams need {needed} engines: one each, one each to go to, and {SPARE} spare");
    }
    eprintln!(
        "{streams} streams of {} bit/s, {engines} engines; server on core {}, engines and viewers on core {}",
        options.rate_bps, options.server_cpu, options.load_cpu,
    );
    support::process::pin(options.load_cpu)?;
    let kinds = options.only.map_or_else(|| vec![Bytes::Matched, Bytes::Unmatched], |kind| vec![kind]);
    let mut missed = 0;
    Outcome::print_header();
    for kind in kinds {
        let outcome = kills::measure(kind, options)?;
        outcome.print(kind, options);
        missed += outcome.judge(kind);
    }
    Ok(missed)
}
