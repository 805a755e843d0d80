//! Three figures of a distribution.

/// Three figures of a distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Quantiles<T = u64> {
    /// The median.
    pub(crate) p50_us: T,
    /// The 99th percentile.
    pub(crate) p99_us: T,
    /// The largest.
    pub(crate) max_us: T,
}

impl<T> Quantiles<T> {
    /// Each figure as `change` has it.
    pub(crate) fn map<U>(self, change: impl Fn(T) -> U) -> Quantiles<U> {
        let Self { p50_us, p99_us, max_us } = self;
        Quantiles { p50_us: change(p50_us), p99_us: change(p99_us), max_us: change(max_us) }
    }
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
        self.map(|us| us as f64).fmt(f)
    }
}

impl std::fmt::Display for Quantiles<f64> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50_us, p99_us, max_us } = self.map(|us| us / 1000.0);
        f.pad(&format!("{p50_us:.1}/{p99_us:.1}/{max_us:.1}"))
    }
}
