//! The `millrace` binary: wires configuration, cores, shards, the control
//! thread, signals and the exit status.
#![forbid(unsafe_code)]

mod affinity;
mod check;
mod config;
mod congestion;
mod engines;
mod limits;
mod logging;
mod probe;
mod supervise;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

use config::{Complaints, Config, Flags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status of a wrong command line or configuration, as clap has it too.
const WRONG_CONFIGURATION: u8 = 2;

/// One address in front of a pool of AceStream engines.
#[derive(Parser)]
#[command(name = "millrace", version, about, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every setting can be given in a TOML file (--config), as a variable MILLRACE_TABLE_KEY, and the
most used ones as flags; flags are stronger than variables, variables than the file.
`millrace config print` lists them all with their values.";

#[derive(Subcommand)]
enum Command {
    /// Serve streams until SIGTERM or SIGINT
    Serve(Flags),
    /// Examine kernel, limits, address and engines, and say how to mend what is wrong
    Check {
        #[command(flatten)]
        flags: Flags,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
        /// Try in Docker what the server would do at its start, and take it back: pull the image if
        /// docker.pull says so, make one container as an engine's and remove it without starting it
        #[arg(long)]
        trial: bool,
    },
    /// Run an emulated AceStream engine; its own flags follow (see engine-emulator --help)
    #[command(disable_help_flag = true)]
    EngineEmulator {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Show or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the version
    Version,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print the configuration in force as commented TOML, with who set each value
    Print(Flags),
    /// Check one file and nothing else
    Check {
        /// The file
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    // Before the heap grows.
    limits::use_small_pages();
    match run(Arguments::parse().command) {
        Ok(status) => status,
        Err(error) if error.is::<Complaints>() => {
            eprintln!("millrace: {error}");
            ExitCode::from(WRONG_CONFIGURATION)
        }
        Err(error) => {
            eprintln!("millrace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(flags) => {
            let config = Config::load(&flags)?;
            logging::start(config.settings.server.log)?;
            return supervise::serve(&config);
        }
        Command::Check { flags, json, trial } => {
            let depth = if trial { check::Depth::Trial } else { check::Depth::Look };
            let findings = check::examine(&Config::load(&flags)?.settings, depth);
            print(&check::report(&findings, if json { check::Format::Json } else { check::Format::Text })?)?;
            return Ok(if check::any_failure(&findings) { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        Command::EngineEmulator { args } => {
            let name = OsString::from("millrace engine-emulator");
            return Ok(millrace_emulator::cli(std::iter::once(name).chain(args)));
        }
        Command::Config(ConfigCommand::Print(flags)) => print(&Config::load(&flags)?.to_toml())?,
        Command::Config(ConfigCommand::Check { file }) => {
            Config::load_file(&file)?;
            print(&format!("{}: ok\n", file.display()))?;
        }
        Command::Version => print(concat!("millrace ", env!("CARGO_PKG_VERSION"), "\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. A reader who has seen enough, as `head` has, is
/// no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
