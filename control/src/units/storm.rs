//! Many engines ill at once are one incident, with a cause that they share: a
//! network, a host, a daemon. Restarting all of them would not mend it, and
//! would take away what still plays.

use std::{collections::VecDeque, time::Duration};

use millrace_boundary::Monotonic;

use crate::autoscale::UnitId;

/// Ills this close together belong together.
const TOGETHER: Duration = Duration::from_secs(15);
/// Fewer than this are chance.
const FEWEST: usize = 3;

/// What is known of ills of late.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    /// Which units fell ill, and when each did so last, oldest first; all within
    /// [`TOGETHER`].
    fell: VecDeque<(UnitId, Monotonic)>,
}

impl Storm {
    /// A unit has fallen ill, or died. One that does so again and again is one.
    pub(crate) fn fell(&mut self, unit: UnitId, now: Monotonic) {
        self.forget(now);
        self.fell.retain(|(other, _)| *other != unit);
        // As many as units there are, at most, matter.
        if self.fell.len() < 1_000 {
            self.fell.push_back((unit, now));
        }
    }

    fn forget(&mut self, now: Monotonic) {
        while self.fell.front().is_some_and(|(_, at)| now.since(*at) > TOGETHER) {
            self.fell.pop_front();
        }
    }

    /// Whether so many fell ill together that they share a cause: at least
    /// three, and half of all. `ill` are ill now, of `all` that run.
    pub(crate) fn is_on(&mut self, ill: usize, all: usize, now: Monotonic) -> bool {
        self.forget(now);
        let together = self.fell.len().max(ill);
        together >= FEWEST && together * 2 >= all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_and_half_of_all_within_fifteen_seconds_are_a_storm() {
        let at = |seconds: u64| Monotonic(Duration::from_secs(1_000 + seconds));
        for (name, fell, ill, all, now, on) in [
            ("nobody", &[][..] as &[u64], 0, 10, 0, false),
            ("both of two", &[0, 0], 2, 2, 0, false),
            ("three of six", &[0, 1, 2], 3, 6, 2, true),
            ("three of seven", &[0, 1, 2], 3, 7, 2, false),
            ("three that are well again already", &[0, 1, 2], 0, 6, 10, true),
            ("three over a minute, all still ill", &[0, 20, 40], 3, 6, 40, true),
            ("three over a minute", &[0, 20, 40], 1, 6, 40, false),
            ("three long ago", &[0, 1, 2], 0, 6, 18, false),
        ] {
            let mut storm = Storm::default();
            for (unit, second) in (0..).zip(fell) {
                storm.fell(UnitId(unit), at(*second));
            }
            assert_eq!(storm.is_on(ill, all, at(now)), on, "{name}");
        }
    }

    #[test]
    fn one_that_dies_again_and_again_is_no_storm() {
        let at = |seconds: u64| Monotonic(Duration::from_secs(1_000 + seconds));
        let mut storm = Storm::default();
        (0..5).for_each(|second| storm.fell(UnitId(7), at(second)));
        assert!(!storm.is_on(1, 3, at(4)));
        storm.fell(UnitId(8), at(4));
        storm.fell(UnitId(9), at(4));
        assert!(storm.is_on(1, 3, at(4)));
    }
}
