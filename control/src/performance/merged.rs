//! Seconds added up, and what is said of them.

use millrace_boundary::Bucket;
use serde::Serialize;

/// Durations of however many seconds.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// What all seconds have in common with this sum.
    pub(super) totals: Totals,
    /// Durations by the index of their bucket, up to the last that has any: at
    /// most 70 KiB.
    counts: Vec<u64>,
}

/// What is known of durations exactly, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) failures: u64,
    pub(super) total_nanos: u128,
    pub(super) shortest_nanos: u64,
    pub(super) longest_nanos: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { failures: 0, total_nanos: 0, shortest_nanos: u64::MAX, longest_nanos: 0 }
    }
}

impl Totals {
    pub(super) fn add(&mut self, other: &Self) {
        self.failures = self.failures.saturating_add(other.failures);
        self.total_nanos = self.total_nanos.saturating_add(other.total_nanos);
        self.shortest_nanos = self.shortest_nanos.min(other.shortest_nanos);
        self.longest_nanos = self.longest_nanos.max(other.longest_nanos);
    }
}

/// What is said of one operation: the predecessor's words, milliseconds, and all
/// zeros where there was nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Failures included, here and in all durations.
    pub(crate) count: u64,
    /// Exact, as are the shortest and the longest.
    pub(crate) avg_ms: f64,
    /// This and the other percentiles: the duration at place (n − 1) · p/100 of
    /// all in order, between two of them in proportion; within 0.8 %.
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) max_ms: f64,
    /// In percent of `count`.
    pub(crate) success_rate: f64,
}

impl Merged {
    /// So many durations more in a bucket.
    pub(super) fn count(&mut self, bucket: Bucket, count: u64) {
        let index = usize::from(bucket.index());
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(count);
    }

    /// O(buckets).
    pub(super) fn summary(&self) -> Summary {
        let count = self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        if count == 0 {
            return Summary::default();
        }
        let Totals { failures, total_nanos, shortest_nanos, longest_nanos } = self.totals;
        let worked = count.saturating_sub(failures);
        Summary {
            count,
            avg_ms: millis(total_nanos as f64 / count as f64),
            p50_ms: millis(self.percentile(50.0, count)),
            p95_ms: millis(self.percentile(95.0, count)),
            p99_ms: millis(self.percentile(99.0, count)),
            min_ms: millis(shortest_nanos as f64),
            max_ms: millis(longest_nanos as f64),
            success_rate: worked as f64 / count as f64 * 100.0,
        }
    }

    /// In nanoseconds; `count` are all there are, at least one.
    fn percentile(&self, percent: f64, count: u64) -> f64 {
        let place = (count - 1) as f64 * percent / 100.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to `count`")]
        let below = place.floor() as u64;
        let (low, high) = (self.nanos_at(below, count), self.nanos_at(below + 1, count));
        low + (high - low) * place.fract()
    }

    /// The duration at this place of all in order; past the last, the longest.
    fn nanos_at(&self, place: u64, count: u64) -> f64 {
        let (shortest, longest) = (self.totals.shortest_nanos, self.totals.longest_nanos);
        if place == 0 {
            return shortest as f64;
        }
        if place + 1 >= count {
            return longest as f64;
        }
        let mut before = 0u64;
        let here = (0..).zip(&self.counts).find_map(|(index, count)| {
            before = before.saturating_add(*count);
            (place < before).then_some(index)
        });
        let nanos = here.and_then(Bucket::at).map_or(longest, Bucket::nanos);
        // Apart only where a count has come to its limit.
        nanos.max(shortest).min(longest) as f64
    }
}

fn millis(nanos: f64) -> f64 {
    nanos / 1e6
}
