//! What the phases came to, and the budgets that they are held against.

use millrace_emulator::signed::Report;

use crate::{
    Options, joins,
    others::{Kind, Turns},
    support::{budget::check, quantiles::Quantiles},
};

/// A faulty phase over the quiet ones around it: less than 5 % more.
const RATIO: f64 = 1.05;

/// The machine was as fast as usual where a piece of work took no more or less than
/// by this share.
const EVEN: f64 = 0.1;

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
    #[serde(skip)]
    pub(crate) slices: Vec<Slice>,
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
    /// The other streams.
    pub(crate) others: Turns,
    pub(crate) seconds: f64,
}

/// A second or less of a phase.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) joins: joins::Figures,
    /// CPU time of a fixed piece of work on the server's core.
    pub(crate) pace_ns: u64,
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
        let (joins, joined) = (joins_of(&self.slices), self.joined());
        let pace_us = usual_pace(&self.slices) / 1000.0;
        eprintln!(
            "{:<8}{:>21}{:>9}{:>20}{:>21}{:>7}{:>7.2}{:>8.3}{:>10.0}{:>7.0}{:>10.0}{:>9.1}{:>20}",
            self.kind.as_str(),
            self.lateness,
            self.packets,
            self.visits.map_or_else(|| "-".to_owned(), |visits| visits.to_string()),
            joins,
            joined,
            self.cpu_s,
            self.cpu_s_per_gib,
            self.foreign_share * 100.0,
            self.load_share * 100.0,
            self.load_foreign_share * 100.0,
            pace_us,
            format!("{}/{}/{}", self.others.asked, self.others.barren, self.others.ended),
        );
        let line = serde_json::json!({
            "bench": "bystanders", "kind": self.kind.as_str(), "streams": options.streams,
            "others": options.others, "rate_bps": options.rate_bps, "phase": self,
            "joins": joins, "joined": joined, "pace_us": pace_us,
        });
        println!("{line}");
    }

    fn joined(&self) -> usize {
        self.slices.iter().map(|slice| slice.joins.took_ns.len()).sum()
    }
}

/// Of all joins in `slices`.
fn joins_of<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> Quantiles<f64> {
    let took = slices.into_iter().flat_map(|slice| slice.joins.took_ns.iter().copied());
    Quantiles::of(took.collect()).map(|ns| ns as f64 / 1000.0)
}

fn usual_pace<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> f64 {
    median(slices.into_iter().map(|slice| slice.pace_ns as f64).collect())
}

/// A figure of a phase.
type Figure = fn(&Phase) -> f64;
const FIGURES: [(&str, Figure); 4] = [
    ("lateness p50", |phase| phase.lateness.p50_us as f64),
    ("lateness p99", |phase| phase.lateness.p99_us as f64),
    ("visit p99", |phase| phase.visits.map_or(0.0, |visits| visits.p99_us as f64)),
    ("CPU s/GiB", |phase| phase.cpu_s_per_gib),
];
/// Those with a budget.
const HELD: [&str; 3] = ["lateness p99", "join p50", "join p99"];

/// Returns how many budgets are missed.
pub(crate) fn judge(phases: &[Phase]) -> usize {
    let failed: u64 = phases.iter().map(|phase| phase.joins_failed).sum();
    judge_phases(phases) + judge_joins(phases) + check("joins failed", failed as f64, 0.0, failed == 0)
}

/// Compares each faulty phase with the mean of the two around it, which cancels
/// what drifts, and takes the medians of that.
fn judge_phases(phases: &[Phase]) -> usize {
    let judge = |(what, figure): (&'static str, Figure)| {
        let of = |phase: &Phase| figure(phase);
        let median_of =
            |figure: &dyn Fn(&[Phase]) -> f64| median(phases.windows(3).step_by(2).map(figure).collect());
        let around = |three: &[Phase]| (of(&three[0]) + of(&three[2])) / 2.0;
        let sides = [median_of(&around), median_of(&|three| of(&three[1]))];
        // What two phases of one kind differ by says what a ratio is worth.
        let noise = median_of(&|three| (of(&three[2]) / of(&three[0]) - 1.0).abs());
        tell(what, sides, median_of(&|three| of(&three[1]) / around(three)), noise)
    };
    FIGURES.into_iter().map(judge).sum()
}

/// Compares all joins of one kind with all of the other, of slices in which the
/// machine was as fast as usual.
fn judge_joins(phases: &[Phase]) -> usize {
    let slices = || phases.iter().flat_map(|phase| &phase.slices);
    let usual = usual_pace(slices());
    let is_usual = |slice: &&Slice| (slice.pace_ns as f64 / usual - 1.0).abs() <= EVEN;
    eprintln!(
        "{} of {} seconds count, in which {:.1} us of work took within {:.0} % of that",
        slices().filter(is_usual).count(),
        slices().count(),
        usual / 1000.0,
        EVEN * 100.0,
    );
    let joins = |step: usize, first: usize| {
        let phases = phases.iter().skip(first).step_by(step);
        joins_of(phases.flat_map(|phase| &phase.slices).filter(is_usual))
    };
    // Every other phase is quiet, and of those every other one.
    let (quiet, faulty, first, second) = (joins(2, 0), joins(2, 1), joins(4, 0), joins(4, 2));
    let judge = |what, of: fn(Quantiles<f64>) -> f64| {
        let noise = (of(second) / of(first) - 1.0).abs();
        tell(what, [of(quiet), of(faulty)], of(faulty) / of(quiet), noise)
    };
    judge("join p50", |joins| joins.p50_us) + judge("join p99", |joins| joins.p99_us)
}

/// Prints a figure; returns 1 when its budget is missed.
fn tell(what: &str, [quiet, faulty]: [f64; 2], ratio: f64, noise: f64) -> usize {
    eprintln!(
        "{what:<13} quiet {quiet:>11.3}  faulty {faulty:>11.3}  ratio {ratio:.3}  quiet among themselves {:.1} %",
        noise * 100.0
    );
    let line = serde_json::json!({
        "bench": "bystanders", "figure": what, "quiet": quiet, "faulty": faulty, "ratio": ratio,
        "noise": noise,
    });
    println!("{line}");
    if !HELD.contains(&what) {
        return 0;
    }
    check(&format!("{what} beside faults over that without"), ratio, RATIO, ratio < RATIO)
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
