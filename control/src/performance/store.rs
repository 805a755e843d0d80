//! One operation: its seconds of the last hour, and the sum of all.

use std::{collections::VecDeque, ops::Range};

use millrace_boundary::{Monotonic, OperationSample};

use super::{
    WindowSeconds,
    merged::Merged,
    slot::{Slot, add_whole},
};

/// Seconds kept before the running one: the longest window, and one more for as
/// long as the newest second is not settled.
const KEPT: u64 = WindowSeconds::MOST as u64 + 1;

/// One operation's durations.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Seconds that have something in them, in order, none twice: at most
    /// `KEPT` and the running one.
    slots: VecDeque<Slot>,
    all: Merged,
}

impl Store {
    /// Adds what was told of a second. Told too late, or of one that is yet to
    /// come, which no shard can know of, it is in the sum of all alone.
    /// O(what is in the second); one out of order O(seconds).
    pub(super) fn add(&mut self, second: u64, sample: &OperationSample, now: Monotonic) {
        add_whole(sample, &mut self.all);
        let running = now.0.as_secs();
        while self.slots.front().is_some_and(|slot| slot.second + KEPT < running) {
            self.slots.pop_front();
        }
        if second > running || second + KEPT < running {
            return;
        }
        let at = self.slots.partition_point(|slot| slot.second < second);
        if self.slots.get(at).is_none_or(|slot| slot.second != second) {
            self.slots.insert(at, Slot::new(second));
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.add(sample);
        }
    }

    /// Since the start.
    pub(super) fn all(&self) -> &Merged {
        &self.all
    }

    /// These seconds, as far as they are kept.
    pub(super) fn between(&self, seconds: Range<u64>) -> Merged {
        let first = self.slots.partition_point(|slot| slot.second < seconds.start);
        let end = self.slots.partition_point(|slot| slot.second < seconds.end);
        let mut sum = Merged::default();
        self.slots.range(first..end.max(first)).for_each(|slot| slot.add_to(&mut sum));
        sum
    }

    /// Seconds kept, and bytes on the heap without the sum of all.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let slots = self.slots.capacity() * size_of::<Slot>();
        (self.slots.len(), slots + self.slots.iter().map(Slot::heap_bytes).sum::<usize>())
    }
}
