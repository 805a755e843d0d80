//! What the viewers saw, and the budgets that it is held against.

use millrace_emulator::signed::Report;

use crate::{Bytes, Options, support::quantiles::Quantiles, viewer::BackSteps};

/// Longest time without a byte on the socket, in microseconds: a reset is
/// noticed within a second, and filler comes at the latest a second after.
const SILENCE_US: u64 = 2_000_000;

/// What was seen of all kills; packets unless said otherwise.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From each kill to the first packet from another engine.
    pub(crate) gaps_us: Vec<u64>,
    /// For each kill, the longest time without a byte until the next one.
    pub(crate) silences_us: Vec<u64>,
    /// Viewers whose stream ended, or stood for too long.
    pub(crate) viewers_lost: u64,
    /// Viewers counted by the server beyond one per stream.
    pub(crate) reconnects: u64,
    /// Streams counted by the server beyond those asked for.
    pub(crate) restarts: u64,
    /// Time measured, in seconds.
    pub(crate) seconds: f64,
    /// Cores of the machine that were busy with anything.
    pub(crate) busy_cores: f64,
    packets: u64,
    lost: u64,
    duplicated: u64,
    /// Out of order, damaged, or bytes that belong to none.
    damaged: u64,
    continuity_errors: u64,
    jumps: u64,
    jumped: i64,
    back_steps: u64,
    furthest_back: u64,
    checksum: u64,
}

impl Outcome {
    /// Adds what one viewer's verifier found.
    pub(crate) fn add(&mut self, report: &Report, back: BackSteps) {
        self.packets += report.packets;
        self.lost += report.lost;
        self.duplicated += report.duplicated;
        self.damaged += report.reordered + report.corrupted + report.unaligned_bytes;
        self.continuity_errors += report.continuity_errors;
        self.jumps += report.signalled_jumps;
        self.jumped += report.jumped;
        self.back_steps += back.count;
        self.furthest_back = self.furthest_back.max(back.furthest);
        let run = report.last.unwrap_or(0) ^ report.first.unwrap_or(0).rotate_left(32);
        self.checksum = (self.checksum ^ run).wrapping_mul(0x0100_0000_01B3);
    }

    /// The table's first line.
    pub(crate) fn print_header() {
        eprintln!(
            "{:<11}{:>6}{:>24}{:>28}{:>6}{:>6}{:>6}{:>6}{:>7}{:>9}{:>10}{:>6}{:>8}",
            "bytes",
            "kills",
            "gap ms p50/p99/max",
            "silence ms p50/p99/max",
            "lost",
            "dup",
            "dam",
            "cc",
            "jumps",
            "skip ms",
            "back/ms",
            "ended",
            "seconds",
        );
    }

    /// Its line, and the same as JSON.
    pub(crate) fn print(&self, kind: Bytes, options: &Options) {
        let (gap, silence) = (Quantiles::of(self.gaps_us.clone()), Quantiles::of(self.silences_us.clone()));
        let packet_ms = 1504.0 * 1000.0 / f64::from(options.rate_bps);
        let skipped_ms = self.jumped as f64 * packet_ms / self.jumps.max(1) as f64;
        let back_ms = self.furthest_back as f64 * packet_ms;
        eprintln!(
            "{:<11}{:>6}{:>24}{:>28}{:>6}{:>6}{:>6}{:>6}{:>7}{:>9.0}{:>10}{:>6}{:>8.0}",
            kind.as_str(),
            self.gaps_us.len(),
            gap,
            silence,
            self.lost,
            self.duplicated,
            self.damaged,
            self.continuity_errors,
            self.jumps,
            skipped_ms,
            format!("{}/{back_ms:.0}", self.back_steps),
            self.viewers_lost,
            self.seconds,
        );
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        eprintln!(
            "{:.2} cores busy, load average {}, checksum {:016x}",
            self.busy_cores,
            load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            self.checksum,
        );
        let line = serde_json::json!({
            "bench": "failover", "bytes": kind.as_str(), "kills": self.gaps_us.len(),
            "streams": options.streams, "engines": options.engines, "rate_bps": options.rate_bps,
            "gap": gap, "silence": silence, "packets": self.packets, "lost": self.lost,
            "duplicated": self.duplicated, "damaged": self.damaged,
            "continuity_errors": self.continuity_errors, "signalled_jumps": self.jumps,
            "skipped_ms_per_jump": skipped_ms, "back_steps": self.back_steps,
            "furthest_back_ms": back_ms,
            "viewers_lost": self.viewers_lost, "reconnects": self.reconnects, "restarts": self.restarts,
            "seconds": self.seconds, "busy_cores": self.busy_cores,
        });
        println!("{line}");
    }

    /// Says which budgets are missed; returns how many.
    pub(crate) fn judge(&self, kind: Bytes) -> usize {
        let kills = self.gaps_us.len() as u64;
        let jumps = match kind {
            Bytes::Matched => 0,
            Bytes::Unmatched => kills,
        };
        let silence = self.silences_us.iter().copied().max().unwrap_or(u64::MAX);
        let budgets = [
            ("longest silence in µs", silence, SILENCE_US, silence <= SILENCE_US),
            ("packets lost", self.lost, 0, self.lost == 0),
            ("packets duplicated", self.duplicated, 0, self.duplicated == 0),
            ("packets damaged", self.damaged, 0, self.damaged == 0),
            ("continuity errors", self.continuity_errors, 0, self.continuity_errors == 0),
            ("signalled jumps", self.jumps, jumps, self.jumps == jumps),
            ("packets back in time", self.furthest_back, 0, self.furthest_back == 0),
            ("viewers lost", self.viewers_lost, 0, self.viewers_lost == 0),
            ("viewers that came again", self.reconnects, 0, self.reconnects == 0),
            ("streams that began again", self.restarts, 0, self.restarts == 0),
        ];
        let missed = budgets.iter().filter(|(.., is_kept)| !is_kept);
        for (what, figure, limit, _) in missed.clone() {
            eprintln!("budget MISSED: {what}: {figure}, budget {limit}");
        }
        let missed = missed.count();
        if missed == 0 {
            eprintln!("budget kept by {} bytes: silence at most {} s", kind.as_str(), SILENCE_US / 1_000_000);
        }
        missed
    }
}
