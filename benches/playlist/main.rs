//! Playlists and media segments: what HLS players cost and how long they wait.
//!
//! The real server has one stream, whose engine shares a core with the clients.
//! They poll its playlist as fast as they are answered and as players do, wait
//! for a cold stream and for the next part, and fetch segments. In the same run
//! and on the same core nginx serves the bytes of one of those playlists from
//! memory, a bare responder does on the runtime that the server has, and a bare
//! `sendfile` loop serves slices as long as the segments. Rounds alternate, and
//! medians are shown: of CPU time, as the scheduler counts it, of the server's
//! whole process.
//!
//! ```text
//! cargo bench --bench playlist                     everything
//! cargo bench --bench playlist -- --only closed --rounds 9 --seconds 2
//! cargo test --bench playlist                      tiny
//! ```
//!
//! The table goes to standard error, a JSON line per result to standard output.

#![expect(clippy::cast_possible_truncation, reason = "medians of whole numbers, and descriptors as data")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    polls::Pace,
    stage::Stage,
    support::{
        options::{Common, Launch, exit_part},
        process,
    },
    table::Table,
};

#[path = "../support/mod.rs"]
mod support;

mod bare;
mod bursts;
mod crowd;
mod delivery;
mod polls;
mod stage;
mod table;

#[derive(Parser)]
struct Options {
    /// Only this. Repeatable.
    #[arg(long)]
    only: Vec<Load>,
    /// Rounds of each load, of which the median is shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Time measured per round of a closed loop, and of segments.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Clients that ask again with each answer.
    Closed,
    /// Clients that ask as players do.
    Live,
    /// Clients of a cold stream.
    Cold,
    /// Clients that wait for the next part.
    Blocked,
    /// Clients that fetch segments.
    Segments,
}

/// Parts of a run, each its own process.
#[derive(Subcommand)]
enum Part {
    /// Answers with a file.
    #[command(hide = true)]
    Respond {
        #[arg(long)]
        cpu: usize,
        #[arg(long)]
        file: PathBuf,
    },
    /// Sends slices.
    #[command(hide = true)]
    Send {
        #[arg(long)]
        cpu: usize,
        #[arg(long = "size")]
        sizes: Vec<usize>,
    },
    /// Another program, on a core of ours and ending with us.
    #[command(hide = true)]
    Launch(Launch),
}

impl Part {
    fn run(self) -> Result<()> {
        match self {
            Self::Respond { cpu, file } => {
                process::settle_in(cpu)?;
                bare::respond(&file)?;
            }
            Self::Send { cpu, sizes } => {
                process::settle_in(cpu)?;
                bare::send_slices(&sizes)?;
            }
            Self::Launch(launch) => launch.run(|| Ok(()))?,
        }
        Ok(())
    }
}

impl Options {
    fn rounds(&self) -> usize {
        if self.common.is_quick() { 1 } else { self.rounds }
    }

    /// Bursts are over soon, but for what they wait for.
    fn bursts(&self) -> usize {
        if self.common.is_quick() { 2 } else { 2 * self.rounds + 1 }
    }

    fn measured(&self, pace: Pace) -> Duration {
        match pace {
            _ if self.common.is_quick() => Duration::from_millis(300),
            Pace::Closed => Duration::from_secs_f64(self.seconds.clamp(0.1, 600.0)),
            // Each asks twice at least.
            Pace::Live => Duration::from_secs(6),
        }
    }

    fn measures(&self, load: Load) -> bool {
        self.only.is_empty() || self.only.contains(&load)
    }
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if let Some(part) = options.part.take() {
        return exit_part("playlist", part.run());
    }
    options.common.exit("playlist", run(&options))
}

/// Runs what was asked for and returns how many budgets were missed.
fn run(options: &Options) -> Result<usize> {
    ensure!(options.rounds > 0, "there is nothing to measure");
    process::settle_in(options.common.load_cpu)?;
    let stage = Stage::set(options)?;
    let (closed, live, cold, fetching): (&[usize], _, _, _) = match options.common.is_quick() {
        true => (&[1, 50], 100, 10, 10),
        false => (&[1, 50, 200, 1_000], 1_000, 50, 200),
    };
    eprintln!(
        "servers on core {}, engine and clients on core {}; a playlist of {} bytes",
        options.common.server_cpu, options.common.load_cpu, stage.len
    );
    let mut table = Table::begin();
    for &clients in closed.iter().filter(|_| options.measures(Load::Closed)) {
        table.polls(Pace::Closed, clients, &polls::measure(&stage, Pace::Closed, clients, options)?);
    }
    if options.measures(Load::Live) {
        table.polls(Pace::Live, live, &polls::measure(&stage, Pace::Live, live, options)?);
    }
    if options.measures(Load::Cold) {
        table.cold(cold, &bursts::cold(&stage, cold, options.rounds())?);
    }
    if options.measures(Load::Blocked) {
        table.reloads(live, &bursts::reloads(&stage, live, options.bursts())?);
    }
    if options.measures(Load::Segments) {
        let (ours, bare) = delivery::measure(&stage, fetching, options)?;
        table.delivery(fetching, &ours, &bare);
    }
    Ok(table.missed)
}
