//! Histograms in a server's metrics.

use std::collections::BTreeMap;

use super::quantiles::Quantiles;

/// Of how late viewers are visited.
pub(crate) const LATENESS: &str = "millrace_shard_lateness_seconds";

/// A Prometheus histogram, all its label sets together: count at or below each
/// bound, the bound in nanoseconds.
pub(crate) type Buckets = BTreeMap<u64, u64>;

/// What `metrics` say of the histogram `name`, which is in seconds.
pub(crate) fn buckets(metrics: &str, name: &str) -> Buckets {
    let mut sums = Buckets::new();
    for line in metrics.lines() {
        let Some((labels, value)) =
            line.strip_prefix(name).and_then(|l| l.strip_prefix("_bucket{")?.split_once("} "))
        else {
            continue;
        };
        let bound = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(b, _)| b);
        let (Some(bound), Ok(count)) =
            (bound.and_then(|b| b.parse::<f64>().ok()), value.trim().parse::<f64>())
        else {
            continue;
        };
        *sums.entry((bound * 1e9).min(u64::MAX as f64) as u64).or_default() += count as u64;
    }
    sums
}

/// Quantiles of what came between two readings: upper bounds of their buckets,
/// and beyond the last of them its lower bound.
pub(crate) fn between(before: &Buckets, after: &Buckets) -> Option<Quantiles> {
    let counts: Vec<(u64, u64)> = after
        .iter()
        .map(|(&bound, &count)| (bound, count.saturating_sub(before.get(&bound).copied().unwrap_or(0))))
        .collect();
    let total = counts.last()?.1;
    let largest = counts.iter().map(|(bound, _)| *bound).filter(|bound| *bound < u64::MAX).max()?;
    let at = |share: f64| {
        let rank = (total as f64 * share).ceil() as u64;
        counts.iter().find(|(_, count)| *count >= rank).map_or(0, |(bound, _)| largest.min(*bound) / 1000)
    };
    (total > 0).then(|| Quantiles { p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) })
}
