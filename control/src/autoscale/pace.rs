//! How fast engines may be started: a token bucket, kept as one instant.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// Starts in one go, at a rate that allows them.
const BURST: u32 = 10;
/// Fewer make no bucket: one for who waits, one for the background.
const SMALLEST_BURST: u32 = 2;

/// Starts taken so far, as the instant at which the bucket would be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    full_at: Monotonic,
}

/// A rate and what goes with it.
#[derive(Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    fn of(per_minute: u32) -> Self {
        let per_minute = per_minute.max(1);
        Self {
            interval: (Duration::from_secs(60) / per_minute).max(Duration::from_nanos(1)),
            burst: (per_minute / 3).clamp(SMALLEST_BURST, BURST),
        }
    }
}

impl Pace {
    /// Takes up to `wanted` starts and says how many; never more than a burst.
    pub(super) fn take(&mut self, wanted: usize, per_minute: u32, now: Monotonic) -> usize {
        self.take_above(0, wanted, Rate::of(per_minute), now)
    }

    /// The same for what nobody waits for: half of the bucket is left to others.
    pub(super) fn take_in_background(&mut self, wanted: usize, per_minute: u32, now: Monotonic) -> usize {
        let rate = Rate::of(per_minute);
        self.take_above(rate.burst / 2, wanted, rate, now)
    }

    /// When a start is to be had; not later than `now` when one is.
    pub(super) fn next(self, per_minute: u32) -> Monotonic {
        let rate = Rate::of(per_minute);
        self.full_at - rate.interval * (rate.burst - 1)
    }

    fn take_above(&mut self, reserve: u32, wanted: usize, rate: Rate, now: Monotonic) -> usize {
        let full_at = self.full_at.max(now);
        let left = (now + rate.interval * rate.burst).since(full_at).as_nanos() / rate.interval.as_nanos();
        let left = u32::try_from(left).unwrap_or(rate.burst).saturating_sub(reserve);
        let taken = u32::try_from(wanted).unwrap_or(u32::MAX).min(left);
        self.full_at = full_at + rate.interval * taken;
        taken as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_secs(1_000) + Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_then_the_rate_and_a_rest_fills_it_again() {
        for (name, per_minute, takes) in [
            (
                "thirty a minute",
                30,
                &[(0, 99, 10), (0, 1, 0), (1_999, 1, 0), (2_000, 9, 1), (8_000, 9, 3)][..],
            ),
            ("a long rest is one burst", 30, &[(0, 10, 10), (3_600_000, 99, 10)]),
            ("one a minute", 1, &[(0, 9, 2), (59_999, 1, 0), (60_000, 1, 1)]),
            ("none counts as one", 0, &[(0, 9, 2), (59_999, 1, 0), (60_000, 1, 1)]),
            ("very many", u32::MAX, &[(0, 99, 10), (1, 99, 10)]),
        ] {
            let mut pace = Pace::default();
            for (millis, wanted, taken) in takes {
                assert_eq!(pace.take(*wanted, per_minute, at(*millis)), *taken, "{name} at {millis} ms");
            }
        }
    }

    #[test]
    fn the_background_leaves_half_of_it() {
        for (per_minute, background, left) in [(30, 5, 5), (12, 2, 2), (1, 1, 1)] {
            let mut pace = Pace::default();
            assert_eq!(pace.take_in_background(99, per_minute, at(0)), background, "{per_minute} a minute");
            assert_eq!(pace.take_in_background(99, per_minute, at(0)), 0);
            assert_eq!(pace.take(99, per_minute, at(0)), left);
        }
    }

    #[test]
    fn it_says_when_the_next_one_is_to_be_had() {
        let mut pace = Pace::default();
        assert!(pace.next(30) <= at(0));
        pace.take(9, 30, at(0));
        assert!(pace.next(30) <= at(0), "one is left");
        pace.take(1, 30, at(0));
        assert_eq!(pace.next(30), at(2_000));
        assert_eq!(pace.take(1, 30, at(2_000)), 1);
    }

    #[test]
    fn a_rate_changed_on_the_way_neither_owes_nor_gives_more_than_a_burst() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(99, 1, at(0)), 2);
        assert_eq!(pace.take(99, 30, at(0)), 0, "still owed");
        assert_eq!(pace.take(99, 30, at(120_000)), 10);
    }
}
