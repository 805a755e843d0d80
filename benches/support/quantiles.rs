//! Three figures of a distribution.

/// Three figures of a distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Quantiles {
    /// The median.
    pub(crate) p50_us: u64,
    /// The 99th percentile.
    pub(crate) p99_us: u64,
    /// The largest.
    pub(crate) max_us: u64,
}

impl Quantiles {
    /// Of `values`, in any order.
    pub(crate) fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |share: f64| {
            let rank = (values.len() as f64 * share).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self { p50_us: at(0.5), p99_us: at(0.99), max_us: values.last().copied().unwrap_or(0) }
    }
}

/// Milliseconds: median, 99th percentile, largest.
impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        f.pad(&format!("{:.1}/{:.1}/{:.1}", ms(self.p50_us), ms(self.p99_us), ms(self.max_us)))
    }
}
