//! How long engines have taken of late from the question to the first byte.

use std::{collections::VecDeque, time::Duration};

/// Starts remembered.
const MOST: usize = 64;
/// Another engine is asked no sooner than this after the first one.
const SOONEST: Duration = Duration::from_secs(3);
/// And no later.
const LATEST: Duration = Duration::from_secs(10);

/// The newest starts of one shard.
#[derive(Debug, Default)]
pub(crate) struct StartTimes(VecDeque<Duration>);

impl StartTimes {
    /// One more start has succeeded.
    pub(crate) fn add(&mut self, took: Duration) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// When a start takes unusually long: the 95th percentile, from 3 to 10 s;
    /// 10 s while there are no starts to judge by. O(n log n) in 64.
    pub(crate) fn hedge_after(&self) -> Duration {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let nearest = (sorted.len() * 95).div_ceil(100).saturating_sub(1);
        sorted.get(nearest).copied().unwrap_or(LATEST).clamp(SOONEST, LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_engine_is_asked_after_the_usual_time() {
        let mut times = StartTimes::default();
        assert_eq!(times.hedge_after(), LATEST, "nothing known");
        (0..64).for_each(|_| times.add(Duration::from_millis(500)));
        assert_eq!(times.hedge_after(), SOONEST, "all quick");
        (1..=64).for_each(|n| times.add(Duration::from_millis(n * 100)));
        assert_eq!(times.hedge_after(), Duration::from_millis(6_100), "the 61st of 64");
        (0..64).for_each(|_| times.add(Duration::from_secs(60)));
        assert_eq!(times.hedge_after(), LATEST, "all slow");
    }
}
