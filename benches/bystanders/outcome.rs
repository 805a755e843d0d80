//! What the phases came to, and the budgets that they are held against.

use millrace_emulator::signed::Report;

use crate::{
    Options,
    others::{Kind, Turns},
    support::{budget::check, quantiles::Quantiles},
};

/// A faulty phase over the quiet ones around it: less than 5 % more.
const RATIO: f64 = 1.05;

/// One phase.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Phase {
    #[serde(skip)]
    pub(crate) kind: Kind,
    /// From broadcast to arrival, of every packet of the healthy streams.
    pub(crate) lateness: Quantiles,
    /// Packets of that.
    pub(crate) packets: u64,
    /// Visits after their time, as the server tells of all viewers.
    pub(crate) visits: Option<Quantiles>,
    /// First bytes of further viewers of the healthy streams.
    pub(crate) joins: Quantiles<f64>,
    pub(crate) joined: usize,
    pub(crate) joins_failed: u64,
    /// CPU time of the server in seconds.
    pub(crate) cpu_s: f64,
    /// Bytes to all viewers.
    pub(crate) bytes: u64,
    /// CPU seconds for 2³⁰ of them.
    pub(crate) cpu_s_per_gib: f64,
    /// Share of the server's core that all else took.
    pub(crate) foreign_share: f64,
    /// Share of the other core that engines and viewers took.
    pub(crate) load_share: f64,
    /// And all else there: well above zero, lateness is not the server's own.
    pub(crate) load_foreign_share: f64,
    /// CPU time of a fixed piece of work on the server's core.
    pub(crate) pace_us: f64,
    /// The other streams.
    pub(crate) others: Turns,
    pub(crate) seconds: f64,
}

impl Kind {
    /// The word in the output.
    fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Faulty => "faulty",
        }
    }
}

/// The table's first line.
pub(crate) fn print_header() {
    eprintln!(
        "{:<8}{:>21}{:>9}{:>20}{:>21}{:>7}{:>7}{:>8}{:>10}{:>7}{:>10}{:>9}{:>20}",
        "kind",
        "late ms p50/p99/max",
        "packets",
        "visit ms p50/99/max",
        "join ms p50/p99/max",
        "joins",
        "CPU s",
        "s/GiB",
        "foreign %",
        "load %",
        "foreign %",
        "pace us",
        "asked/barren/ended",
    );
}

impl Phase {
    /// Its line, and the same as JSON.
    pub(crate) fn print(&self, options: &Options) {
        eprintln!(
            "{:<8}{:>21}{:>9}{:>20}{:>21}{:>7}{:>7.2}{:>8.3}{:>10.0}{:>7.0}{:>10.0}{:>9.1}{:>20}",
            self.kind.as_str(),
            self.lateness,
            self.packets,
            self.visits.map_or_else(|| "-".to_owned(), |visits| visits.to_string()),
            self.joins,
            self.joined,
            self.cpu_s,
            self.cpu_s_per_gib,
            self.foreign_share * 100.0,
            self.load_share * 100.0,
            self.load_foreign_share * 100.0,
            self.pace_us,
            format!("{}/{}/{}", self.others.asked, self.others.barren, self.others.ended),
        );
        let line = serde_json::json!({
            "bench": "bystanders", "kind": self.kind.as_str(), "streams": options.streams,
            "others": options.others, "rate_bps": options.rate_bps, "phase": self,
        });
        println!("{line}");
    }
}

/// A figure of a phase.
type Figure = fn(&Phase) -> f64;
const FIGURES: [(&str, Figure); 6] = [
    ("lateness p50", |phase| phase.lateness.p50_us as f64),
    ("lateness p99", |phase| phase.lateness.p99_us as f64),
    ("visit p99", |phase| phase.visits.map_or(0.0, |visits| visits.p99_us as f64)),
    ("join p50", |phase| phase.joins.p50_us),
    ("join p99", |phase| phase.joins.p99_us),
    ("CPU s/GiB", |phase| phase.cpu_s_per_gib),
];
/// Those with a budget.
const HELD: [&str; 3] = ["lateness p99", "join p50", "join p99"];

/// Compares each faulty phase with the mean of the two around it, which cancels
/// what drifts; returns how many budgets the medians of that miss.
pub(crate) fn judge(phases: &[Phase]) -> usize {
    let mut missed = 0;
    for (what, figure) in FIGURES {
        let of = |phase: &Phase| figure(phase);
        let ratio = |three: &[Phase]| of(&three[1]) / ((of(&three[0]) + of(&three[2])) / 2.0);
        let ratio = median(phases.windows(3).step_by(2).map(ratio).collect());
        // What two phases of one kind differ by says what a ratio is worth.
        let noise = |three: &[Phase]| (of(&three[2]) / of(&three[0]) - 1.0).abs();
        let noise = median(phases.windows(3).step_by(2).map(noise).collect());
        let median_of = |kind| median(phases.iter().filter(|phase| phase.kind == kind).map(of).collect());
        let (quiet, faulty) = (median_of(Kind::Quiet), median_of(Kind::Faulty));
        eprintln!(
            "{what:<13} quiet {quiet:>11.3}  faulty {faulty:>11.3}  ratio {ratio:.3}  quiet among themselves {:.1} %",
            noise * 100.0
        );
        let line = serde_json::json!({
            "bench": "bystanders", "figure": what, "quiet": quiet, "faulty": faulty, "ratio": ratio,
            "noise": noise,
        });
        println!("{line}");
        if HELD.contains(&what) {
            missed += check(&format!("{what} beside faults over that without"), ratio, RATIO, ratio < RATIO);
        }
    }
    let failed: u64 = phases.iter().map(|phase| phase.joins_failed).sum();
    missed + check("joins failed", failed as f64, 0.0, failed == 0)
}

/// Whether all that the healthy viewers got was right; returns 1 when it was not.
pub(crate) fn judge_bytes(reports: &[Report]) -> usize {
    let is_right = |report: &&Report| report.is_unbroken() && report.signalled_jumps == 0;
    for damaged in reports.iter().filter(|report| !is_right(report)) {
        eprintln!("damaged: {damaged:?}");
    }
    let wrong = reports.iter().filter(|report| !is_right(report)).count();
    check("healthy viewers with a packet wrong", wrong as f64, 0.0, wrong == 0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
