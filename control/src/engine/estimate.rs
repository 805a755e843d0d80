//! Two small estimators: what happened lately, and what is usual.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// A count that loses half of itself every half-life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decaying {
    value: f64,
    at: Monotonic,
}

impl Decaying {
    /// After this long, one failure is half a failure.
    const HALF_LIFE: Duration = Duration::from_secs(30);
    /// Far above what changes a pick, so that a flood cannot outlast minutes.
    const MOST: f64 = 100.0;

    /// Adds one.
    pub(crate) fn add(&mut self, now: Monotonic) {
        *self = Self { value: (self.at(now) + 1.0).min(Self::MOST), at: now };
    }

    fn at(self, now: Monotonic) -> f64 {
        let half_lives = now.since(self.at).as_secs_f64() / Self::HALF_LIFE.as_secs_f64();
        self.value * 0.5f64.powf(half_lives)
    }

    /// What is left at `now`, to the nearest whole; at most 100.
    pub(crate) fn rounded(self, now: Monotonic) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
        let whole = self.at(now).round() as u32;
        whole
    }
}

/// Exponentially weighted moving average of a duration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Smoothed(Option<Duration>);

impl Smoothed {
    /// A new value weighs a fifth: the last ten starts make nine tenths.
    const WEIGHT: u32 = 5;
    /// Longer than any start budget; keeps a wrong clock from ruling for long.
    const LONGEST: Duration = Duration::from_secs(120);

    /// Takes a value in; the first one counts in full.
    pub(crate) fn add(&mut self, value: Duration) {
        let value = value.min(Self::LONGEST);
        self.0 = Some(match self.0 {
            None => value,
            Some(old) => (old * (Self::WEIGHT - 1) + value) / Self::WEIGHT,
        });
    }

    /// The average, once there was a value.
    pub(crate) fn get(self) -> Option<Duration> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn failures_halve_in_half_a_minute_and_never_pass_the_cap() {
        let mut count = Decaying::default();
        for _ in 0..4 {
            count.add(at(1_000));
        }
        for (seconds, left) in [(0, 4), (30, 2), (60, 1), (90, 1), (91, 0), (600, 0)] {
            assert_eq!(count.rounded(at(1_000 + seconds)), left, "after {seconds} s");
        }
        for _ in 0..10_000 {
            count.add(at(2_000));
        }
        assert_eq!(count.rounded(at(2_000)), 100);
        assert_eq!(count.rounded(at(0)), 100, "an earlier clock does not overflow");
    }

    #[test]
    fn the_average_starts_at_the_first_value_and_follows_a_fifth_of_each_step() {
        let mut average = Smoothed::default();
        assert_eq!(average.get(), None);
        for (value, expected) in [(1_000, 1_000), (2_000, 1_200), (1_200, 1_200), (u64::MAX, 24_960)] {
            average.add(Duration::from_millis(value));
            assert_eq!(average.get(), Some(Duration::from_millis(expected)));
        }
    }
}
