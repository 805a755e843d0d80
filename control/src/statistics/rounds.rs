//! When containers are asked for their statistics: in rounds, the more often
//! the more engines there are.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// Time between the beginnings of two rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Duration);

impl Interval {
    /// With this many engines. Without any, a round asks nothing.
    pub(crate) const fn for_engines(count: usize) -> Self {
        Self(Duration::from_secs(match count {
            0 => 10,
            1..=5 => 3,
            6.. => 2,
        }))
    }
}

/// What happens to the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There are this many engines now.
    CountChanged(usize),
    /// The round that was due has begun.
    RoundBegun,
    /// All of its answers are there, or given up.
    RoundOver,
}

/// The rounds. Each begins an interval after the one before it began, by the
/// interval of the count of now; at once when that was longer ago. While one
/// runs none begins; one that came due meanwhile begins when it is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    count: usize,
    /// When the last one began; none did before the first.
    begun: Option<Monotonic>,
    is_running: bool,
    /// When there is nothing to count from.
    start: Monotonic,
}

impl Rounds {
    /// The first is due at once.
    pub(crate) const fn new(now: Monotonic) -> Self {
        Self { count: 0, begun: None, is_running: false, start: now }
    }

    pub(crate) fn on(&mut self, event: Event, now: Monotonic) {
        match event {
            Event::CountChanged(count) => self.count = count,
            Event::RoundBegun => {
                debug_assert!(!self.is_running, "two rounds at once");
                self.begun = Some(now);
                self.is_running = true;
            }
            Event::RoundOver => self.is_running = false,
        }
    }

    /// When the next one begins; may be past. None while one runs.
    pub(crate) fn next_at(&self) -> Option<Monotonic> {
        let due = self.begun.map_or(self.start, |begun| begun + self.interval().0);
        (!self.is_running).then_some(due)
    }

    pub(crate) const fn interval(&self) -> Interval {
        Interval::for_engines(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    /// When rounds began until `until`, each taking `takes`, while the count
    /// changes as it is told.
    fn begun(changes: &[(u64, usize)], takes: u64, until: u64) -> Vec<u64> {
        let (mut rounds, mut begun, mut over) = (Rounds::new(at(0)), Vec::new(), None);
        for now in 0..until {
            for (_, count) in changes.iter().filter(|(when, _)| *when == now) {
                rounds.on(Event::CountChanged(*count), at(now));
            }
            if over == Some(now) {
                rounds.on(Event::RoundOver, at(now));
            }
            if rounds.next_at().is_some_and(|next| next <= at(now)) {
                rounds.on(Event::RoundBegun, at(now));
                begun.push(now);
                over = Some(now + takes);
            }
        }
        begun
    }

    #[test]
    fn rounds_come_as_often_as_engines_are_many() {
        let hour = 3_600_000;
        for (count, seconds) in [(0, 10), (1, 3), (5, 3), (6, 2), (10, 2), (20, 2), (1_000, 2)] {
            assert_eq!(Interval::for_engines(count), Interval(Duration::from_secs(seconds)), "{count}");
            let begun = begun(&[(0, count)], 40, hour);
            assert_eq!(begun.len() as u64, 3_600 / seconds, "{count} engines");
            for minute in 0..60 {
                let of_it = begun.iter().filter(|at| **at / 60_000 == minute).count() as u64;
                assert_eq!(of_it, 60 / seconds, "{count} engines, minute {minute}");
            }
        }
    }

    #[test]
    fn a_change_of_the_count_counts_at_once_and_no_round_is_lost_or_doubled() {
        for (name, changes, takes, until, expected) in [
            ("more", &[(0, 0), (1_000, 6)][..], 10, 7_000, &[0, 2_000, 4_000, 6_000][..]),
            (
                "more, when the new interval is over already",
                &[(0, 0), (7_500, 1)],
                10,
                14_000,
                &[0, 7_500, 10_500, 13_500],
            ),
            ("fewer", &[(0, 6), (2_500, 5)], 10, 9_000, &[0, 2_000, 5_000, 8_000]),
            ("none", &[(0, 5), (3_500, 0)], 10, 24_000, &[0, 3_000, 13_000, 23_000]),
            ("to and fro", &[(0, 5), (100, 6), (200, 5), (300, 6), (400, 5)], 10, 7_000, &[0, 3_000, 6_000]),
            ("due and then fewer", &[(0, 6), (2_000, 5)], 10, 7_000, &[0, 3_000, 6_000]),
            ("a round that lasts", &[(0, 6)], 2_500, 8_000, &[0, 2_500, 5_000, 7_500]),
            ("a round that lasts while more come", &[(0, 0), (500, 6)], 5_000, 8_000, &[0, 5_000]),
            ("a round that lasts for long", &[(0, 6)], 7_000, 15_000, &[0, 7_000, 14_000]),
        ] {
            assert_eq!(begun(changes, takes, until), expected, "{name}");
        }
    }
}
