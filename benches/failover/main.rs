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

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::{
    outcome::Outcome,
    support::options::{Common, Launch, exit_part},
};

#[path = "../support/mod.rs"]
mod support;

mod board;
mod kills;
mod outcome;
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
    #[command(flatten)]
    common: Common,
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
    Launch(Launch),
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if let Some(Part::Launch(launch)) = options.part.take() {
        return exit_part("failover", launch.run(|| Ok(())));
    }
    let result = run(&mut options);
    options.common.exit("failover", result)
}

/// Runs what was asked for and returns how many budgets were missed.
fn run(options: &mut Options) -> Result<usize> {
    if options.common.is_quick() {
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
        options.rate_bps, options.common.server_cpu, options.common.load_cpu,
    );
    support::process::pin(options.common.load_cpu)?;
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
