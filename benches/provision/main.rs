//! Provisioning: from a stream that needs an engine to the one it is given, and
//! what Docker itself costs of that.
//!
//! The real server runs its engines, the emulator as an image, in a Docker
//! daemon of the bench's own. Time and again a stream asks for an engine that
//! takes one stream: one that is ready and idle, one that is paused and has to be
//! woken, one that has yet to be made. Then it leaves, and the fleet goes back to
//! where it was. From the request to the slot is what the session's timeline
//! says; a proxy in front of the daemon's socket says how long Docker's calls
//! took, the container's log when its engine listened. The rest is ours.
//!
//! ```text
//! cargo bench --bench provision                    a hundred rounds of each case
//! cargo bench --bench provision -- --only warm --rounds 1000
//! cargo test --bench provision                     tiny
//! ```
//!
//! The table goes to standard error, a JSON line per case to standard output.
//! Ends with 1 when a budget is missed, unless the run is tiny.

#![expect(clippy::cast_possible_truncation, reason = "figures to print, and bytes cut out of wider words")]

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

use crate::{
    case::Case,
    outcome::Outcome,
    rig::own_fleet::OwnFleet,
    support::options::{Size, exit_part},
};

#[allow(clippy::unwrap_used, reason = "it is made for tests, which may panic")]
#[path = "../../tests/support/mod.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

mod case;
mod outcome;
mod rounds;

#[derive(Parser)]
struct Options {
    /// Streams that ask for an engine, in each case.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// One case only.
    #[arg(long)]
    only: Option<Case>,
    #[command(flatten)]
    size: Size,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.size.is_quick() {
        options.rounds = options.rounds.min(3);
    }
    exit_part("provision", run(&options))
}

fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "there is nothing to measure");
    let Some(mut fleet) = OwnFleet::new("") else { return Ok(()) };
    let cases = options.only.map_or_else(|| Case::ALL.to_vec(), |case| vec![case]);
    let mut missed = 0;
    Outcome::print_header();
    for case in cases {
        let outcome = rounds::measure(case, &mut fleet, options.rounds)?;
        outcome.print(case);
        if !options.size.is_quick() {
            missed += outcome.judge(case);
        }
    }
    outcome::print_provenance();
    ensure!(missed == 0, "{missed} budgets are missed");
    Ok(())
}
