//! Fan-out: our server against a bare sendfile wheel, in one run.
//!
//! Both serve the same viewers the same bytes from the same core; the engines
//! and the viewers share another one. The wheel has no HTTP, no ingest and no
//! accounting: it is the floor. The table goes to standard error, a JSON line
//! per result to standard output.
//!
//! ```text
//! cargo bench --bench fanout                       every load, joins, idle memory
//! cargo bench --bench fanout -- --case five-thousand --seconds 30
//! cargo bench --bench fanout -- --case fat --congestion cubic
//! cargo bench --bench fanout -- --max-viewers --assert-budget
//! cargo test --bench fanout                        tiny, the wheel only
//! ```

#![expect(clippy::cast_possible_truncation, reason = "figures to print, and bytes cut out of wider words")]

use std::{net::SocketAddrV4, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::{
    case::Case,
    side::Side,
    support::options::{Common, Launch, exit_part},
};

#[path = "../support/mod.rs"]
mod support;

mod budget;
mod case;
mod checker;
mod load;
mod probe;
#[path = "../../tests/support/seccomp.rs"]
mod seccomp;
mod side;
mod wheel;

/// Viewers that read for real and take the time of each read.
const SAMPLE: usize = 20;

#[derive(Parser)]
struct Options {
    /// Run only this load: one, hundred, thousand, five-thousand, fat, many,
    /// join, idle, max-viewers. Repeatable.
    #[arg(long = "case")]
    cases: Vec<String>,
    /// Time measured per load.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// One side only.
    #[arg(long)]
    only: Option<Side>,
    /// Search the largest number of viewers served in time.
    #[arg(long)]
    max_viewers: bool,
    /// Deny io_uring to our server, as Docker does.
    #[arg(long)]
    no_uring: bool,
    /// Congestion control of both sides; default is the machine's own.
    #[arg(long)]
    congestion: Option<String>,
    /// One more argument for it. Repeatable.
    #[arg(long = "server-arg", allow_hyphen_values = true)]
    server_args: Vec<String>,
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    part: Option<Part>,
}

impl Options {
    fn measured(&self) -> Duration {
        Duration::from_secs_f64(if self.common.size.quick { 1.0 } else { self.seconds.clamp(0.5, 600.0) })
    }

    fn settle(&self) -> Duration {
        if self.common.size.quick { Duration::from_millis(300) } else { Duration::from_secs(3) }
    }

    /// Of the server's sockets, by name.
    fn congestion_in_use(&self) -> Result<String> {
        if let Some(name) = &self.congestion {
            return Ok(name.clone());
        }
        let name = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
        Ok(name.trim().to_owned())
    }

    fn sides(&self) -> Vec<Side> {
        self.only.map_or_else(|| vec![Side::Raw, Side::Millrace], |side| vec![side])
    }
}

/// Parts of a run, each its own process.
#[derive(Subcommand)]
enum Part {
    /// The floor.
    #[command(hide = true)]
    RawWheel {
        #[arg(long)]
        cpu: usize,
        #[arg(long)]
        streams: usize,
        #[arg(long)]
        rate: u64,
        #[arg(long)]
        slots: usize,
        #[arg(long)]
        congestion: Option<String>,
    },
    /// Engines that play.
    #[command(hide = true)]
    Engines {
        #[arg(long)]
        cpu: usize,
        #[arg(long)]
        count: usize,
        #[arg(long)]
        rate: u64,
    },
    /// Viewers.
    #[command(hide = true)]
    Viewers {
        #[arg(long)]
        cpu: usize,
        #[arg(long)]
        address: SocketAddrV4,
        #[arg(long)]
        count: usize,
        #[arg(long)]
        streams: usize,
        #[arg(long)]
        same_visit_us: u64,
    },
    /// Another program, on a core of ours and ending with us.
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        no_uring: bool,
        #[command(flatten)]
        launch: Launch,
    },
}

impl Part {
    fn run(self) -> Result<()> {
        match self {
            Self::RawWheel { cpu, streams, rate, slots, congestion } => {
                support::process::settle_in(cpu)?;
                wheel::run(&wheel::Config { streams, rate_bps: rate, slots, congestion })?;
            }
            Self::Engines { cpu, count, rate } => {
                support::process::settle_in(cpu)?;
                support::source::run(count, rate)?;
            }
            Self::Viewers { cpu, address, count, streams, same_visit_us } => {
                support::process::settle_in(cpu)?;
                load::run(&load::Config {
                    address,
                    viewers: count,
                    sample: SAMPLE,
                    streams,
                    connects_per_second: 2_000,
                    same_visit: Duration::from_micros(same_visit_us),
                })?;
            }
            Self::Launch { no_uring, launch } => {
                launch.run(|| if no_uring { Ok(seccomp::deny_uring()?) } else { Ok(()) })?;
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if let Some(part) = options.part.take() {
        return exit_part("fanout", part.run());
    }
    if !options.common.size.bench {
        // `cargo test` builds no release server, so there is nothing to compare.
        options.common.size.quick = true;
        options.only = options.only.or(Some(Side::Raw));
    }
    options.common.exit("fanout", run(&options))
}

/// Runs what was asked for and returns how many budgets were missed.
fn run(options: &Options) -> Result<usize> {
    let loads: &[Case] = if options.common.size.quick { case::QUICK } else { case::CASES };
    let known =
        |name: &String| loads.iter().any(|c| c.name == name) || case::SPECIAL.contains(&name.as_str());
    if let Some(name) = options.cases.iter().find(|name| !known(name)) {
        bail!("there is no case {name:?}");
    }
    let everything = options.cases.is_empty() && !options.max_viewers;
    let wanted = |name: &str| everything || options.cases.iter().any(|case| case == name);
    let congestion = options.congestion_in_use()?;
    let Common { server_cpu, load_cpu, .. } = options.common;
    eprintln!("server on core {server_cpu}, engines and viewers on core {load_cpu}");
    let mut missed = 0;
    budget::print_header();
    for case in loads.iter().filter(|case| wanted(case.name)) {
        let mut outcomes = Vec::new();
        for side in options.sides() {
            let outcome = side::measure(side, case, options)?;
            budget::print(side, case, &congestion, &outcome);
            outcomes.push((side, outcome));
        }
        missed += budget::judge(case, &outcomes);
    }
    if options.sides().contains(&Side::Millrace) {
        if wanted("join") {
            missed += probe::joins(options)?;
        }
        if wanted("idle") {
            missed += probe::idle(options)?;
        }
    }
    if options.max_viewers || options.cases.iter().any(|case| case == "max-viewers") {
        missed += probe::max_viewers(options)?;
    }
    Ok(missed)
}
