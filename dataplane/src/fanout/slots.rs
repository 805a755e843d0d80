//! Whose turn it is: circles of slots, visited one slot of each at a turn.

use std::{ops::Range, time::Duration};

use millrace_boundary::Monotonic;

/// Between two turns.
const TICK: Duration = Duration::from_millis(5);
/// How many turns are in a second.
const TURNS_A_SECOND: u64 = 200;
/// Turns of the longest circle.
const TURNS: usize = 32;
/// The circles: slots of each, and so turns between two visits of a viewer.
const CIRCLES: [Range<usize>; 3] = [0..TURNS, TURNS..TURNS + 16, TURNS + 16..TURNS + 24];
/// All slots.
const SLOTS: usize = TURNS + 24;
/// The longest time between two visits.
const PERIOD: Duration = Duration::from_millis(5 * TURNS as u64);
/// A visit of more than this belongs into a shorter circle: with the default
/// send buffer a larger one is cut short and waits for room.
const VISIT_GOAL: u64 = 224 << 10;
/// Viewers that fill a slot before another one is used: about a
/// millisecond of sends, well below a turn.
const SLOT_VIEWERS: usize = 64;

/// One of [`CIRCLES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circle(usize);

impl Circle {
    /// The longest in which a visit to a stream of `rate_bps` is not cut short.
    pub(super) fn suitable(rate_bps: u64) -> Self {
        let bytes_a_turn = rate_bps / 8 / TURNS_A_SECOND;
        let fits = |slots: &Range<usize>| bytes_a_turn * slots.len() as u64 <= VISIT_GOAL;
        Self(CIRCLES.iter().position(fits).unwrap_or(CIRCLES.len() - 1))
    }

    /// Whether `spot` is in it.
    pub(super) fn contains(self, spot: Spot) -> bool {
        CIRCLES[self.0].contains(&spot.slot)
    }
}

/// A slot, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    slot: usize,
    index: usize,
}

/// The slots with the viewers in them, by key, and the turn.
#[derive(Debug)]
pub(super) struct Slots {
    members: Vec<Vec<usize>>,
    /// Of the turn, in `0..TURNS`.
    number: usize,
    due_at: Monotonic,
    /// Where the turn is, once it has begun.
    at: Option<At>,
}

/// The viewer that a turn comes to next.
#[derive(Clone, Copy, Debug)]
struct At {
    circle: usize,
    index: usize,
}

impl Slots {
    /// Empty; the first turn is due at `now`.
    pub(super) fn new(now: Monotonic) -> Self {
        Self { members: vec![Vec::new(); SLOTS], number: 0, due_at: now, at: None }
    }

    /// Viewers in all slots; a sum over them.
    pub(super) fn len(&self) -> usize {
        self.members.iter().map(Vec::len).sum()
    }

    /// The slot of `circle` that the turn `ahead` of this one visits.
    fn slot(&self, circle: usize, ahead: usize) -> usize {
        let Range { start, end } = CIRCLES[circle];
        start + (self.number + ahead) % (end - start)
    }

    /// The slot of `circle` with the fewest viewers; of those, the farthest
    /// from its turn. Only as many slots are used as there are viewers for, of
    /// `viewers` on the shard: a turn for a single viewer costs more than
    /// sending to it.
    fn lightest(&self, circle: usize, viewers: usize) -> usize {
        let slots = CIRCLES[circle].len();
        let used = (viewers / SLOT_VIEWERS).next_power_of_two().min(slots);
        (1..=slots)
            .rev()
            .map(|ahead| self.slot(circle, ahead))
            .filter(|slot| (slot - CIRCLES[circle].start).is_multiple_of(slots / used))
            .min_by_key(|&slot| self.members[slot].len())
            .unwrap_or(0)
    }

    /// Puts a viewer into a slot of `circle`; `viewers` are on the shard.
    pub(super) fn enter(&mut self, key: usize, Circle(circle): Circle, viewers: usize) -> Spot {
        let slot = self.lightest(circle, viewers);
        self.members[slot].push(key);
        Spot { slot, index: self.members[slot].len() - 1 }
    }

    /// Takes the viewer at `spot` out; gives the one that is there now.
    pub(super) fn leave(&mut self, spot: Spot) -> Option<usize> {
        self.members[spot.slot].swap_remove(spot.index);
        self.members[spot.slot].get(spot.index).copied()
    }

    /// When the turn is due, or was.
    pub(super) fn due_at(&self) -> Monotonic {
        self.due_at
    }

    /// When the next turn with somebody in it is due; a period from now when
    /// there is none.
    pub(super) fn next_busy(&self) -> Monotonic {
        let somebody =
            |ahead: usize| (0..CIRCLES.len()).any(|c| !self.members[self.slot(c, ahead)].is_empty());
        let empty = (0u32..).zip(0..TURNS).find(|&(_, ahead)| somebody(ahead));
        self.due_at + empty.map_or(PERIOD, |(turns, _)| TICK * turns)
    }

    /// The wheel stood still because there was nobody; it goes on from `now`.
    pub(super) fn resume(&mut self, now: Monotonic) {
        self.due_at = now;
    }

    /// Whether a turn has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.at.is_some()
    }

    /// Begins the turn; says whether it is the first of a round.
    pub(super) fn open(&mut self) -> bool {
        self.at = Some(At { circle: 0, index: 0 });
        self.number == 0
    }

    /// The viewer that the open turn has come to; none when it has seen all.
    pub(super) fn current(&mut self) -> Option<usize> {
        let mut at = self.at?;
        while at.circle < CIRCLES.len() {
            if let Some(&key) = self.members[self.slot(at.circle, 0)].get(at.index) {
                self.at = Some(at);
                return Some(key);
            }
            at = At { circle: at.circle + 1, index: 0 };
        }
        None
    }

    /// The viewer `key` has been visited. One that left its slot on that
    /// occasion was replaced by the last of the slot, who is next.
    pub(super) fn pass(&mut self, key: usize) {
        let Some(At { circle, index }) = self.at else { return };
        if self.members[self.slot(circle, 0)].get(index) == Some(&key) {
            self.at = Some(At { circle, index: index + 1 });
        }
    }

    /// Ends the turn; the next one is due a tick later.
    pub(super) fn close(&mut self, now: Monotonic) {
        self.at = None;
        self.number = (self.number + 1) % TURNS;
        self.due_at = self.due_at + TICK;
        // More than a whole period behind, catching up would only make sends
        // small: go on from here, with larger ones.
        if now.since(self.due_at) > PERIOD {
            self.due_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const START: Monotonic = Monotonic(Duration::ZERO);

    /// Whom each of `turns` turns visits, in order.
    fn turns(slots: &mut Slots, turns: usize) -> Vec<Vec<usize>> {
        let one = |slots: &mut Slots| {
            slots.open();
            let mut seen = Vec::new();
            while let Some(key) = slots.current() {
                seen.push(key);
                slots.pass(key);
            }
            slots.close(slots.due_at());
            seen
        };
        (0..turns).map(|_| one(slots)).collect()
    }

    #[test]
    fn a_fast_stream_is_visited_so_often_that_a_visit_fits_the_socket() {
        for (name, rate_bps, period) in [
            ("unknown", 0, 32),
            ("4 Mbit/s", 4_000_000, 32),
            ("11.4 Mbit/s", 11_400_000, 32),
            ("20 Mbit/s", 20_000_000, 16),
            ("40 Mbit/s", 40_000_000, 8),
            ("1 Gbit/s", 1_000_000_000, 8),
        ] {
            let mut slots = Slots::new(START);
            let circle = Circle::suitable(rate_bps);
            assert!(circle.contains(slots.enter(7, circle, 1)), "{name}");
            let visits: Vec<_> = turns(&mut slots, 64)
                .iter()
                .enumerate()
                .filter(|(_, v)| !v.is_empty())
                .map(|(t, _)| t)
                .collect();
            assert_eq!(visits.len(), 64 / period, "{name}");
            assert!(visits.windows(2).all(|w| w[1] - w[0] == period), "{name}: {visits:?}");
        }
    }

    #[test]
    fn few_viewers_share_a_slot_and_many_are_spread_evenly() {
        for (viewers, used) in [(1, 1), (64, 1), (130, 2), (1_000, 16), (5_000, 32)] {
            let mut slots = Slots::new(START);
            for key in 0..viewers {
                // All of them are known before the first has a slot.
                slots.enter(key, Circle(0), viewers);
            }
            assert_eq!(slots.len(), viewers);
            let sizes: Vec<_> = turns(&mut slots, TURNS).iter().map(Vec::len).filter(|n| *n > 0).collect();
            assert_eq!(sizes.len(), used, "{viewers}");
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{viewers}: {sizes:?}");
        }
    }

    #[test]
    fn whoever_leaves_during_a_turn_makes_nobody_be_missed_or_seen_twice() {
        let mut slots = Slots::new(START);
        let mut spots: HashMap<_, _> = (0..10).map(|key| (key, slots.enter(key, Circle(0), 10))).collect();
        while slots.members[slots.slot(0, 0)].is_empty() {
            turns(&mut slots, 1);
        }
        slots.open();
        let mut seen = Vec::new();
        while let Some(key) = slots.current() {
            seen.push(key);
            // Every third one ends, and the last of the slot takes its place.
            if key % 3 == 0
                && let Some(moved) = slots.leave(spots[&key])
            {
                spots.insert(moved, spots[&key]);
            }
            slots.pass(key);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert_eq!(slots.len(), 6);
    }

    #[test]
    fn the_wheel_sleeps_until_somebody_is_due_and_goes_on_from_here_when_far_behind() {
        let mut slots = Slots::new(START);
        assert_eq!(slots.next_busy(), START + PERIOD);
        slots.enter(1, Circle(0), 1);
        assert_eq!(slots.next_busy(), START);
        assert_eq!(turns(&mut slots, 1), [[1]]);
        assert_eq!(slots.next_busy(), START + PERIOD);
        assert!(turns(&mut slots, TURNS - 1).iter().all(Vec::is_empty));
        assert_eq!((slots.due_at(), slots.next_busy()), (START + PERIOD, START + PERIOD));
        assert_eq!(turns(&mut slots, 1), [[1]]);

        let at = slots.due_at();
        for (late, next) in [(PERIOD, at + TICK), (PERIOD * 2, at + PERIOD * 2)] {
            let mut slots = Slots::new(at);
            slots.open();
            slots.close(at + late);
            assert_eq!(slots.due_at(), next, "{late:?} late");
        }
    }
}
