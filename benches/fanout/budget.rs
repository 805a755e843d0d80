//! The output, and the budgets that it is held against.

use crate::{
    case::Case,
    side::{Outcome, Side},
    support::budget::check,
};

/// CPU for a byte, against the floor.
const CPU_RATIO: f64 = 1.15;
/// Lateness p99 at five thousand viewers, in microseconds.
const LATENESS_US: u64 = 10_000;
/// A healthy viewer, server memory and both ends' sockets, in bytes.
const VIEWER_BYTES: i64 = 24 << 10;

/// The table's first line.
pub(crate) fn print_header() {
    eprintln!(
        "{:<14}{:<9}{:<6}{:>7}{:>7}{:>9}{:>7}{:>9}{:>9}{:>10}{:>21}{:>8}{:>21}{:>8}{:>9}{:>9}{:>9}{:>14}",
        "case",
        "side",
        "tcp",
        "CPU s",
        "core",
        "others",
        "load",
        "s/GiB",
        "Gbit/s",
        "GiB",
        "late ms p50/p99/max",
        "per ms",
        "gap+ ms p50/p99/max",
        "late %",
        "rss B/v",
        "tcp B/v",
        "slab B/v",
        "fail/end/err",
    );
}

/// One side's line, with its congestion control, and the same as JSON.
pub(crate) fn print(side: Side, case: &Case, congestion: &str, outcome: &Outcome) {
    eprintln!(
        "{:<14}{:<9}{:<6}{:>7.2}{:>6.0}%{:>8.0}%{:>6.0}%{:>9.3}{:>9.2}{:>10.2}{:>21}{:>8.0}{:>21}{:>8.1}{:>9}{:>9}{:>9}{:>14}",
        case.name,
        side.as_str(),
        congestion,
        outcome.cpu_s,
        outcome.cpu_share * 100.0,
        outcome.foreign_share * 100.0,
        outcome.load_share * 100.0,
        outcome.cpu_s_per_gib,
        outcome.throughput_bps / 1e9,
        outcome.bytes as f64 / f64::from(1 << 30),
        outcome.lateness.map_or_else(|| "-".to_owned(), |lateness| lateness.to_string()),
        outcome.period_us as f64 / 1000.0,
        outcome.gap_excess,
        outcome.late_share * 100.0,
        outcome.resident_per_viewer,
        outcome.tcp_per_viewer,
        outcome.slab_per_viewer,
        format!("{}/{}/{}", outcome.failed, outcome.ended, outcome.errors),
    );
    let line = serde_json::json!({
        "bench": "fanout", "case": case.name, "side": side.as_str(), "streams": case.streams,
        "viewers": case.viewers, "rate_bps": case.rate_bps, "congestion": congestion, "outcome": outcome,
    });
    println!("{line}");
}

/// Compares the sides of one load; returns how many budgets were missed.
pub(crate) fn judge(case: &Case, outcomes: &[(Side, Outcome)]) -> usize {
    let of = |wanted: Side| outcomes.iter().find(|(side, _)| *side == wanted).map(|(_, outcome)| outcome);
    let Some(ours) = of(Side::Millrace) else { return 0 };
    let mut missed = 0;
    let unwell = (ours.failed + ours.ended + ours.errors) as f64;
    missed += check("viewers failed, ended or in error", unwell, 0.0, unwell == 0.0);
    let ratio = of(Side::Raw).map(|floor| ours.cpu_s_per_gib / floor.cpu_s_per_gib);
    if case.name != "five-thousand" {
        if let Some(ratio) = ratio {
            eprintln!("CPU per byte is {ratio:.2} of the floor's");
        }
        return missed;
    }
    if let Some(ratio) = ratio {
        missed += check("CPU per byte over the floor's", ratio, CPU_RATIO, ratio <= CPU_RATIO);
    }
    let lateness = ours.lateness.map_or(u64::MAX, |lateness| lateness.p99_us);
    missed += check("lateness p99 in µs", lateness as f64, LATENESS_US as f64, lateness <= LATENESS_US);
    let bytes = ours.resident_per_viewer + ours.tcp_per_viewer;
    missed += check("bytes per viewer", bytes as f64, VIEWER_BYTES as f64, bytes <= VIEWER_BYTES);
    missed
}
