//! What every bench of a whole server is told, and how it ends.

use std::{ffi::OsString, os::unix::process::CommandExt, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};

use super::process::{self, Process};

/// How much of a run is wanted.
#[derive(clap::Args)]
pub(crate) struct Size {
    /// A smoke test: tiny loads, less than half a minute.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Given by `cargo bench`; without it, as under `cargo test`, the run is tiny.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Size {
    /// Whether the run is to be a smoke test.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick || !self.bench
    }
}

/// Options that all of them take.
#[derive(clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) size: Size,
    /// Exit with 1 when a budget is missed.
    #[arg(long)]
    pub(crate) assert_budget: bool,
    /// The server's core.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_cpu: usize,
    /// The core of engines and viewers.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_cpu: usize,
    /// The binary to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_millrace"))]
    pub(crate) millrace: PathBuf,
}

impl Common {
    /// Whether the run is to be a smoke test.
    pub(crate) fn is_quick(&self) -> bool {
        self.size.is_quick()
    }

    /// How the program ends: `result` is the number of budgets missed.
    pub(crate) fn exit(&self, name: &str, result: Result<usize>) -> ExitCode {
        match result {
            Ok(missed) if self.assert_budget && missed > 0 => ExitCode::FAILURE,
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => failure(name, &error),
        }
    }

    /// Starts the binary on its core, through this program's own [`Launch`].
    pub(crate) fn start_server(&self, launch: &[String], args: &[String]) -> Result<Process> {
        let mut command = vec![self.millrace.display().to_string(), "serve".to_owned()];
        command.extend(["--listen", "127.0.0.1:0", "--cpus"].map(str::to_owned));
        command.push(self.server_cpu.to_string());
        command.extend_from_slice(args);
        self.launch("millrace", launch, &command)
    }

    /// Starts any program on the server's core in the same way.
    pub(crate) fn launch(&self, name: &str, launch: &[String], command: &[String]) -> Result<Process> {
        let mut all = vec!["launch".to_owned(), format!("--cpu={}", self.server_cpu)];
        all.extend_from_slice(launch);
        all.push("--".to_owned());
        all.extend_from_slice(command);
        Process::start(name, &own_program()?, &all)
    }
}

/// The end of a part of a run, which misses no budgets.
pub(crate) fn exit_part(name: &str, result: Result<()>) -> ExitCode {
    result.map_or_else(|error| failure(name, &error), |()| ExitCode::SUCCESS)
}

fn failure(name: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: {error:#}");
    ExitCode::FAILURE
}

/// Another program, on a core of ours and ending with us.
#[derive(clap::Args)]
pub(crate) struct Launch {
    #[arg(long)]
    cpu: usize,
    /// NAME=VALUE of its environment. Repeatable.
    #[arg(long = "set")]
    variables: Vec<String>,
    #[arg(last = true)]
    command: Vec<OsString>,
}

impl Launch {
    /// Replaces this process; returns only when that fails.
    pub(crate) fn run(self, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
        process::settle_in(self.cpu)?;
        prepare()?;
        let [program, args @ ..] = &self.command[..] else { bail!("nothing to launch") };
        let variables = self.variables.iter().filter_map(|text| text.split_once('='));
        bail!(std::process::Command::new(program).args(args).envs(variables).exec());
    }
}

/// Where this program is, to start parts of the run with.
pub(crate) fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}
