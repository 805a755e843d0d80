//! Streams that wait, without those that have just had a slot.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// What shards tell of those who wait is no older than this: they tell at once,
/// and their samples say it again.
const SETTLED: Duration = Duration::from_millis(500);

/// What was told last. Slots are seen at once and words come a moment later:
/// whoever has a slot by now may still be among those who are said to wait, and
/// is no reason to add an engine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    told: u32,
    /// Slots taken when it was told.
    taken: u32,
    /// When both were as they are here.
    at: Monotonic,
}

impl Demand {
    /// How many wait, `told` of whom are told by shards while `taken` slots are.
    pub(super) fn look(&mut self, told: u32, taken: u32, now: Monotonic) -> u32 {
        let is_news = told != self.told || taken <= self.taken || now.since(self.at) >= SETTLED;
        if is_news {
            *self = Self { told, taken, at: now };
        }
        told.saturating_sub(taken.saturating_sub(self.taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_just_had_a_slot_does_not_wait() {
        type Look = (u64, u32, u32, u32);
        let cases: [(&str, &[Look]); 5] = [
            ("a slot is seen before the word", &[(0, 1, 4, 1), (10, 1, 5, 0), (20, 0, 5, 0)]),
            ("some of many", &[(0, 9, 4, 9), (10, 9, 7, 6), (20, 6, 7, 6), (30, 6, 9, 4)]),
            ("a new one comes first", &[(0, 0, 4, 0), (10, 0, 5, 0), (20, 1, 5, 1), (30, 1, 5, 1)]),
            (
                "it is somebody else's",
                &[(0, 1, 4, 1), (10, 1, 5, 0), (499, 1, 5, 0), (500, 1, 5, 1), (510, 1, 5, 1)],
            ),
            ("one leaves", &[(0, 2, 4, 2), (10, 2, 3, 2), (20, 2, 4, 1), (30, 1, 4, 1)]),
        ];
        for (name, looks) in cases {
            let mut demand = Demand::default();
            for (millis, told, taken, expected) in looks {
                let now = Monotonic(Duration::from_secs(1_000) + Duration::from_millis(*millis));
                assert_eq!(demand.look(*told, *taken, now), *expected, "{name} at {millis} ms");
            }
        }
    }
}
