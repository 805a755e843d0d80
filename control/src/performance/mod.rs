//! How long operations take, over any window of whole seconds up to an hour and
//! since the start: what shards tell, second by second, added up.
//!
//! Memory is bounded: of an operation at most 3,602 seconds are kept, of each at
//! most [`slot::MOST_BUCKETS`] buckets of 2 or 3 bytes; one without anything takes
//! none. An hour at full load is 16 MiB, as the tests have it; if each operation
//! filled each second of an hour with all the buckets it may have, 80 MiB.

mod merged;
mod slot;
mod store;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use millrace_boundary::{Monotonic, Operation, OperationSample, Outcome, SecondSample, ShardId};

pub(crate) use merged::Summary;
use store::Store;

/// A second can be asked for this long after it is over: shards have told of it
/// by then.
const SETTLED: Duration = Duration::from_millis(250);

/// How far back to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// To the start.
    All,
    /// So many whole seconds: the newest that are over, and settled.
    Seconds(WindowSeconds),
}

/// `1..=3600` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSeconds(u16);

impl WindowSeconds {
    /// The longest window.
    pub(crate) const MOST: u16 = 3_600;

    /// None outside of `1..=3600`.
    pub(crate) fn new(seconds: u64) -> Option<Self> {
        u16::try_from(seconds).ok().filter(|seconds| (1..=Self::MOST).contains(seconds)).map(Self)
    }

    /// The number.
    pub(crate) const fn get(self) -> u16 {
        self.0
    }
}

/// All operations.
#[derive(Debug, Default)]
pub(crate) struct Performance {
    operations: [Store; Operation::ALL.len()],
    /// The newest second that each shard has told of.
    told: BTreeMap<ShardId, u64>,
}

impl Performance {
    /// Takes in what a shard tells of a second. However late it comes it counts
    /// in its own second; what was told already counts no second time.
    pub(crate) fn hear(&mut self, sample: &SecondSample, now: Monotonic) {
        if self.told.get(&sample.shard).is_some_and(|told| sample.second <= *told) {
            return;
        }
        self.told.insert(sample.shard, sample.second);
        for operation in &sample.operations {
            self.operations[operation.operation.index()].add(sample.second, operation, now);
        }
    }

    /// One operation of this thread, which began at `began`, has ended `now`.
    pub(crate) fn record(
        &mut self,
        operation: Operation,
        began: Monotonic,
        now: Monotonic,
        outcome: Outcome,
    ) {
        let sample = OperationSample::of_one(operation, now.since(began), outcome);
        self.operations[operation.index()].add(now.0.as_secs(), &sample, now);
    }

    /// What one operation has taken. O(seconds with anything in them).
    pub(crate) fn summary(&self, operation: Operation, window: Window, now: Monotonic) -> Summary {
        let store = &self.operations[operation.index()];
        match window {
            Window::All => store.all().summary(),
            Window::Seconds(seconds) => {
                // From `first` to before `end`.
                let end = now.0.saturating_sub(SETTLED).as_secs();
                let first = end.saturating_sub(u64::from(seconds.get()));
                store.between(first..end).summary()
            }
        }
    }
}
