//! The clock as plain data.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the machine's monotonic clock, counted from its boot.
///
/// Comparable across threads of one machine, meaningless on another. Logic
/// takes it as an argument; only the edge of a loop calls [`Monotonic::now`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// Reads `CLOCK_MONOTONIC`; about 25 ns.
    #[must_use]
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = u32::try_from(t.tv_nsec).unwrap_or(0);
        Self(Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), nanos))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Monotonic {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}
