//! Many engines ill at once are one incident, with a cause that they share: a
//! network, a host, a daemon. Restarting all of them would not mend it, and
//! would take away what still plays.

use std::{collections::VecDeque, time::Duration};

use millrace_boundary::Monotonic;

/// Ills this close together belong together.
const TOGETHER: Duration = Duration::from_secs(15);
/// Fewer than this are chance.
const FEWEST: usize = 3;

/// What is known of ills of late.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    /// When units fell ill, oldest first; each within [`TOGETHER`].
    fell: VecDeque<Monotonic>,
}

impl Storm {
    /// A unit has fallen ill, or died.
    pub(crate) fn fell(&mut self, now: Monotonic) {
        self.forget(now);
        // As many as units there are, at most, matter.
        if self.fell.len() < 1_000 {
            self.fell.push_back(now);
        }
    }

    fn forget(&mut self, now: Monotonic) {
        while self.fell.front().is_some_and(|at| now.since(*at) > TOGETHER) {
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
            ("nobody", &[][..], 0, 10, 0, false),
            ("both of two", &[0, 0], 2, 2, 0, false),
            ("three of six", &[0, 1, 2], 3, 6, 2, true),
            ("three of seven", &[0, 1, 2], 3, 7, 2, false),
            ("three that are well again already", &[0, 1, 2], 0, 6, 10, true),
            ("three over a minute, all still ill", &[0, 20, 40], 3, 6, 40, true),
            ("three over a minute", &[0, 20, 40], 1, 6, 40, false),
            ("three long ago", &[0, 1, 2], 0, 6, 18, false),
        ] {
            let mut storm = Storm::default();
            for second in fell {
                storm.fell(at(*second));
            }
            assert_eq!(storm.is_on(ill, all, at(now)), on, "{name}");
        }
    }
}
