//! Cores that do not fall asleep.

use std::{hint::spin_loop, time::Duration};

use anyhow::{Context, Result};

use super::{
    options::own_program,
    process::{self, Process},
};

/// A core kept awake until this is dropped: to wake a sleeping one is the work of
/// a hypervisor where there is one, and takes it as long as its other guests want.
pub(crate) struct Awake(Process);

impl Awake {
    /// Keeps `cpu` busy whenever nobody else wants it. It is a process of its own,
    /// [`Spin`], since where the kernel groups by session it must yield as one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn keep(cpu: usize) -> Result<Self> {
        let args = ["spin".to_owned(), format!("--cpu={cpu}")];
        Process::start("spin", &own_program()?, &args).map(Self)
    }

    /// Time of the core that went into that.
    pub(crate) fn time(&self) -> Result<Duration> {
        process::run_time(self.0.pid())
    }
}

/// The part of a run that keeps a core awake.
#[derive(clap::Args)]
pub(crate) struct Spin {
    #[arg(long)]
    cpu: usize,
}

impl Spin {
    /// Returns only when it cannot begin.
    ///
    /// # Errors
    /// When there is no such core, or the kernel does not let it go last.
    pub(crate) fn run(&self) -> Result<()> {
        process::settle_in(self.cpu)?;
        process::go_last().context("cannot spin behind everybody else")?;
        loop {
            spin_loop();
        }
    }
}
