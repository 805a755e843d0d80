//! What is no plain load: joins, the idle server, the most viewers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    Options,
    case::{CASES, Case, QUICK, id},
    load,
    side::{self, Server, Side},
    support::{
        budget::check,
        process,
        quantiles::Quantiles,
        viewer::{Phase, Viewer},
    },
};

/// First byte of a warm stream, p99.
const WARM_JOIN_US: u64 = 20_000;
/// The server without a stream.
const IDLE_BYTES: u64 = 40 << 20;
/// Viewers of a core, as a share of what the floor serves.
const VIEWERS_RATIO: f64 = 0.85;
/// Most gaps that may be late for a number of viewers to count as served.
const LATE_SHARE: f64 = 0.01;
/// Descriptors are limited to 20,000 on both ends.
const MOST_VIEWERS: usize = 19_000;
/// The search ends when it knows the number this well.
const SEARCH_STEP: usize = 250;

/// A thousand joins to a live stream, one by one and a hundred at once.
pub(crate) fn joins(options: &Options) -> Result<usize> {
    let case = CASES[0].clone();
    let server = Server::start(Side::Millrace, &case, options)?;
    // Held, so that the stream stays live between joins.
    let mut first = Viewer::connect(server.address, id(0))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut scratch = vec![0; 64 << 10];
    while first.received == 0 {
        std::thread::sleep(Duration::from_millis(10));
        match first.phase {
            Phase::Connecting => first.request(),
            _ => {
                first.read(&mut scratch);
            }
        }
        ensure!(Instant::now() < deadline, "the stream did not start");
    }
    std::thread::sleep(options.settle());
    let count = if options.common.size.quick { 100 } else { 1_000 };
    let mut missed = 0;
    for at_once in [1, 100] {
        let joins = load::join(server.address, &id(0), count, at_once, Duration::from_secs(60))?;
        let Quantiles { p50_us, p99_us, max_us } = Quantiles::of(joins.first_byte_us);
        eprintln!(
            "join           {count} joins, {at_once} at once: first byte p50 {p50_us} p99 {p99_us} max {max_us} µs"
        );
        let line = serde_json::json!({
            "bench": "fanout", "case": "join", "at_once": at_once, "joins": count, "failed": joins.failed,
            "p50_us": p50_us, "p99_us": p99_us, "max_us": max_us,
        });
        println!("{line}");
        missed += check("joins failed", joins.failed as f64, 0.0, joins.failed == 0);
        let is_kept = p99_us <= WARM_JOIN_US;
        missed += check("warm join p99 in µs", p99_us as f64, WARM_JOIN_US as f64, is_kept);
    }
    Ok(missed)
}

/// The server's memory before anybody asked for a stream.
pub(crate) fn idle(options: &Options) -> Result<usize> {
    let server = Server::start(Side::Millrace, &CASES[0], options)?;
    std::thread::sleep(options.settle());
    let memory = process::memory(server.pid())?;
    let bytes = memory.resident + memory.shared;
    eprintln!("idle           {:.1} MiB resident", bytes as f64 / f64::from(1 << 20));
    println!("{}", serde_json::json!({ "bench": "fanout", "case": "idle", "resident_bytes": bytes }));
    Ok(check("idle bytes", bytes as f64, IDLE_BYTES as f64, bytes <= IDLE_BYTES))
}

/// Searches the most viewers at 4 Mbit/s that each side serves in time.
pub(crate) fn max_viewers(options: &Options) -> Result<usize> {
    let (case, mut low, mut high) =
        if options.common.size.quick { (&QUICK[0], 100, 200) } else { (&CASES[0], 0, MOST_VIEWERS) };
    let start = (low, high);
    let mut found = Vec::new();
    for side in options.sides() {
        (low, high) = start;
        let mut next = if options.common.size.quick { high } else { 6_000 };
        while high - low > SEARCH_STEP.min(start.1 / 4) {
            let case = case.with_viewers(next);
            // A disturbance makes too many of enough, never enough of too many: so a miss has to repeat.
            if keeps_up(side, &case, options) || keeps_up(side, &case, options) {
                low = next;
            } else {
                high = next;
            }
            next = usize::midpoint(low, high);
            if high == start.1 && low == high - 1 {
                break;
            }
        }
        eprintln!("max-viewers    {}: {low}", side.as_str());
        let line = serde_json::json!({
            "bench": "fanout", "case": "max-viewers", "side": side.as_str(), "viewers": low,
        });
        println!("{line}");
        found.push((side, low as f64));
    }
    let [(Side::Raw, floor), (Side::Millrace, ours)] = found[..] else { return Ok(0) };
    let ratio = ours / floor.max(1.0);
    Ok(check("viewers over the floor's", ratio, VIEWERS_RATIO, ratio >= VIEWERS_RATIO))
}

fn keeps_up(side: Side, case: &Case, options: &Options) -> bool {
    let outcome = match side::measure(side, case, options) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("               {} with {}: {error:#}", side.as_str(), case.viewers);
            return false;
        }
    };
    let whole =
        outcome.bytes as f64 >= case.rate_bps as f64 / 8.0 * case.viewers as f64 * outcome.seconds * 0.98;
    let is_kept = outcome.late_share <= LATE_SHARE
        && outcome.cpu_share < 0.995
        && outcome.failed + outcome.ended + outcome.errors == 0
        && whole;
    eprintln!(
        "               {} with {}: {:.0} % of the core (others {:.0} %, load {:.0} %), {:.1} % late, {:.2} Gbit/s: {}",
        side.as_str(),
        case.viewers,
        outcome.cpu_share * 100.0,
        outcome.foreign_share * 100.0,
        outcome.load_share * 100.0,
        outcome.late_share * 100.0,
        outcome.throughput_bps / 1e9,
        if is_kept { "served" } else { "too many" },
    );
    is_kept
}
