//! The output, and the budgets that it is held against.

use crate::{
    bursts::Burst,
    delivery::Delivery,
    polls::{Pace, Polls},
    stage::Side,
};

/// Requests for a CPU second, against nginx.
const OF_NGINX: f64 = 1.0;
/// The same, against the bare responder.
const OF_BARE: f64 = 0.8;
/// The 99th percentile at a live polling rate, in milliseconds.
const LIVE_MS: f64 = 10.0;
/// From the first segment to the last answer, in milliseconds.
const COLD_MS: f64 = 50.0;
/// CPU for a byte of a segment, against the floor.
const DELIVERY: f64 = 1.15;
/// From a part to the last answer that has it, in milliseconds.
const RELOAD_MS: f64 = 5.0;

/// The table; counts the budgets that are missed.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) missed: usize,
}

/// A figure with its limit.
struct Limit {
    figure: f64,
    sign: &'static str,
    limit: f64,
    unit: &'static str,
    is_kept: bool,
}

fn at_least(figure: f64, limit: f64) -> Limit {
    Limit { figure, sign: "≥", limit, unit: "", is_kept: figure >= limit }
}

fn at_most(figure: f64, limit: f64, unit: &'static str) -> Limit {
    Limit { figure, sign: "≤", limit, unit, is_kept: figure <= limit }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

impl Table {
    /// The table's first line.
    pub(crate) fn begin() -> Self {
        line("load", "figure", ["ours", "nginx", "bare"].map(str::to_owned), "ratio", "budget", "verdict");
        Self::default()
    }

    /// Clients that poll, by side.
    pub(crate) fn polls(&mut self, pace: Pace, clients: usize, sides: &[(Side, Polls)]) {
        let of = |side: Side| sides.iter().find(|(of, _)| *of == side).map(|(_, polls)| *polls);
        let Some(ours) = of(Side::Millrace) else { return };
        let cells = |text: &dyn Fn(Polls) -> String| {
            Side::ALL.map(|side| of(side).map_or_else(|| "-".to_owned(), text))
        };
        let load = match pace {
            Pace::Closed => format!("{clients}, closed loop"),
            Pace::Live => format!("{clients}, live rate"),
        };
        let rates = cells(&|polls| format!("{:.0}", polls.per_cpu_second));
        match pace {
            Pace::Closed => {
                let budgets = [(Side::Nginx, OF_NGINX), (Side::Bare, OF_BARE)];
                let ratio = |rival: Polls| ours.per_cpu_second / rival.per_cpu_second;
                let limits = budgets.into_iter().filter_map(|(side, limit)| Some((ratio(of(side)?), limit)));
                self.line(&load, "req/CPU s", rates, limits.map(|(ratio, limit)| at_least(ratio, limit)));
            }
            Pace::Live => self.line(&load, "req/CPU s", rates, []),
        }
        self.line(&load, "CPU s", cells(&|polls| format!("{:.3}", polls.cpu_s)), []);
        self.line(
            &load,
            "ms p50/p99/max",
            cells(&|polls| format_ms(&polls)),
            match pace {
                Pace::Closed => None,
                Pace::Live => Some(at_most(ms(ours.took.p99_us), LIVE_MS, "ms p99")),
            },
        );
        for (side, polls) in sides {
            json(&load, &format!("{side:?}").to_lowercase(), &serde_json::json!(polls));
        }
    }

    /// Clients of a cold stream.
    pub(crate) fn cold(&mut self, clients: usize, burst: &Burst) {
        let limit = at_most(ms(burst.after_first.max_us), COLD_MS, "ms");
        self.burst(&format!("{clients}, cold stream"), burst, limit);
    }

    /// Clients that wait for a part.
    pub(crate) fn reloads(&mut self, clients: usize, burst: &Burst) {
        let limit = at_most(ms(burst.after_first.max_us), RELOAD_MS, "ms");
        self.burst(&format!("{clients}, blocked"), burst, limit);
    }

    fn burst(&mut self, load: &str, burst: &Burst, limit: Limit) {
        let only = |text: String| [text, "-".to_owned(), "-".to_owned()];
        let Burst { after_first: after, cpu_ms } = burst;
        let text = format!("{:.1}/{:.1}/{:.1}", ms(after.p50_us), ms(after.p99_us), ms(after.max_us));
        self.line(load, "ms p50/p99/max", only(text), [limit]);
        self.line(load, "CPU ms", only(format!("{cpu_ms:.1}")), []);
        json(load, "millrace", &serde_json::json!(burst));
    }

    /// Segments, ours and the floor's.
    pub(crate) fn delivery(&mut self, clients: usize, ours: &Delivery, bare: &Delivery) {
        let load = format!("{clients}, segments");
        let cells = |text: fn(&Delivery) -> String| [text(ours), "-".to_owned(), text(bare)];
        let limit = at_most(ours.cpu_s_per_gib / bare.cpu_s_per_gib, DELIVERY, "");
        self.line(&load, "CPU s/GiB", cells(|of| format!("{:.3}", of.cpu_s_per_gib)), [limit]);
        self.line(&load, "CPU s", cells(|of| format!("{:.3}", of.cpu_s)), []);
        self.line(&load, "GiB", cells(|of| format!("{:.2}", of.bytes / f64::from(1 << 30))), []);
        for (side, delivery) in [("millrace", ours), ("bare", bare)] {
            json(&load, side, &serde_json::json!(delivery));
        }
    }

    fn line(
        &mut self,
        load: &str,
        figure: &str,
        cells: [String; 3],
        limits: impl IntoIterator<Item = Limit>,
    ) {
        let limits: Vec<_> = limits.into_iter().collect();
        let missed = limits.iter().filter(|limit| !limit.is_kept).count();
        self.missed += missed;
        let join = |text: &dyn Fn(&Limit) -> String| limits.iter().map(text).collect::<Vec<_>>().join(", ");
        let (ratio, budget) = (
            join(&|limit| format!("{:.2}", limit.figure)),
            join(&|limit| format!("{} {} {}", limit.sign, limit.limit, limit.unit).trim_end().to_owned()),
        );
        let verdict = match missed {
            _ if limits.is_empty() => "",
            0 => "kept",
            _ => "MISSED",
        };
        line(load, figure, cells, &ratio, &budget, verdict);
    }
}

fn format_ms(polls: &Polls) -> String {
    let took = &polls.took;
    format!("{:.2}/{:.2}/{:.1}", ms(took.p50_us), ms(took.p99_us), ms(took.max_us))
}

fn line(load: &str, figure: &str, cells: [String; 3], ratio: &str, budget: &str, verdict: &str) {
    let [ours, nginx, bare] = cells;
    let text =
        format!("{load:<20}{figure:<16}{ours:>18}{nginx:>18}{bare:>18}{ratio:>13}{budget:>17}  {verdict}");
    eprintln!("{}", text.trim_end());
}

fn json(load: &str, side: &str, outcome: &serde_json::Value) {
    let line = serde_json::json!({ "bench": "playlist", "load": load, "side": side, "outcome": outcome });
    println!("{line}");
}
