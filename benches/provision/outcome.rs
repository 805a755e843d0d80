//! What the rounds of a case took, and the budgets that this is held against.

use std::{process::Command, time::Duration};

use crate::{
    case::Case,
    support::{budget, quantiles::Quantiles},
};

/// One stream's way to its engine.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// From its request to its slot.
    pub(crate) need: Duration,
    /// From connecting to the first packet of the stream.
    pub(crate) first_byte: Duration,
    /// Docker's calls, in the order of [`Case::calls`].
    pub(crate) docker: Vec<Duration>,
    /// From the start of its container until its engine listens.
    pub(crate) boot: Duration,
}

impl Round {
    /// What neither Docker nor the engine takes.
    fn ours(&self) -> Duration {
        let others = self.docker.iter().sum::<Duration>() + self.boot;
        self.need.saturating_sub(others)
    }
}

/// All rounds of a case.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rounds: Vec<Round>,
    /// CPU time of the server meanwhile, in steps of 10 ms.
    pub(crate) cpu: Duration,
}

impl Outcome {
    /// The table's first line.
    pub(crate) fn print_header() {
        eprintln!(
            "{:<6}{:>8}  {:<32}{:>24}{:>16}",
            "case", "rounds", "what", "ms p50/p99/max", "CPU ms/round"
        );
    }

    /// Its lines, and the same as JSON.
    pub(crate) fn print(&self, case: Case) {
        let docker: Vec<_> =
            (0..case.calls().len()).map(|call| self.of(|round| round.docker[call])).collect();
        let (need, ours) = (self.of(|round| round.need), self.of(Round::ours));
        let (boot, first_byte) = (self.of(|round| round.boot), self.of(|round| round.first_byte));
        let cpu_ms = self.cpu.as_secs_f64() * 1_000.0 / self.rounds.len() as f64;
        eprintln!(
            "{:<6}{:>8}  {:<32}{:>24}{cpu_ms:>16.1}",
            case.as_str(),
            self.rounds.len(),
            "need to slot",
            need
        );
        let line = |what: &str, figures: Quantiles| eprintln!("{:<14}  {what:<32}{figures:>24}", "");
        for (what, took) in case.calls().iter().zip(&docker) {
            line(what, *took);
        }
        if case.boots() {
            line("engine boots", boot);
        }
        line("ours", ours);
        line("connect to first packet", first_byte);
        let calls: serde_json::Map<_, _> = case
            .calls()
            .iter()
            .zip(&docker)
            .map(|(what, took)| ((*what).to_owned(), serde_json::json!(took)))
            .collect();
        let json = serde_json::json!({
            "bench": "provision", "case": case.as_str(), "rounds": self.rounds.len(), "need": need,
            "docker": calls, "boot": boot, "ours": ours, "first_byte": first_byte, "cpu_ms_per_round": cpu_ms,
        });
        println!("{json}");
    }

    /// Says which budgets are kept; returns how many are missed.
    pub(crate) fn judge(&self, case: Case) -> usize {
        let budget = case.budget();
        let ms = |us: u64| us as f64 / 1_000.0;
        let check = |what: &str, figure_us: u64, limit: Option<Duration>| {
            let Some(limit) = limit else { return 0 };
            let (figure, limit) = (ms(figure_us), limit.as_secs_f64() * 1_000.0);
            budget::check(&format!("{} {what} in ms", case.as_str()), figure, limit, figure < limit)
        };
        check("need to slot, p50,", self.of(|round| round.need).p50_us, budget.whole_p50)
            + check("ours, p99,", self.of(Round::ours).p99_us, budget.ours_p99)
    }

    fn of(&self, figure: impl Fn(&Round) -> Duration) -> Quantiles {
        let micros = |round| u64::try_from(figure(round).as_micros()).unwrap_or(u64::MAX);
        Quantiles::of(self.rounds.iter().map(micros).collect())
    }
}

/// What the figures were got from: commit, machine, command.
pub(crate) fn print_provenance() {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = said("git", &["describe", "--always", "--dirty"]).unwrap_or_default();
    let kernel = said("uname", &["-srm"]).unwrap_or_default();
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> =
        cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": ")).collect();
    let model = models.first().map_or("unknown", |(_, model)| model);
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    eprintln!("commit {commit}; {kernel}, {} cores of {model}; provision {command}", models.len());
}
