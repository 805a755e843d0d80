//! Pauses between attempts.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// Exponential pauses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// When the next attempt may be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackOff {
    /// Pauses so far.
    pub(super) attempts: u32,
    /// The end of the last one.
    pub(super) until: Monotonic,
}

impl BackOff {
    /// Makes the next attempt wait, twice as long as the last time.
    pub(super) fn grow(&mut self, pauses: Pauses, now: Monotonic) {
        let pause = pauses.first.saturating_mul(1 << self.attempts.min(16)).min(pauses.longest);
        self.attempts += 1;
        self.until = now + pause;
    }
}
