//! One operation in one second, as small as what was in it.

use millrace_boundary::{Bucket, OperationSample};

use super::merged::{Merged, Totals};

/// Buckets of one second. Where durations fill more, all of the second's buckets
/// are widened until they do not, and no count is lost. The narrowest are exact
/// to 0.4 %. Twice as wide they are to 0.8 %, and enough for durations that lie
/// within a factor of 180,000. Four times as wide they are to 1.6 %, and enough
/// for all there are.
pub(super) const MOST_BUCKETS: usize = Bucket::POINTS / 8;

/// What took how long in a second, all shards together.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Whole seconds of the monotonic clock at its beginning.
    pub(super) second: u64,
    totals: Totals,
    /// For each bucket, in order: how much its index is above that of the one
    /// before, and the count; both seven bits to a byte, the lowest first, the
    /// last byte below 128.
    encoded: Box<[u8]>,
}

impl Slot {
    /// Without anything in it.
    pub(super) fn new(second: u64) -> Self {
        Self { second, ..Self::default() }
    }

    /// O(buckets, log buckets).
    pub(super) fn add(&mut self, sample: &OperationSample) {
        self.totals.add(&totals(sample));
        let told = sample.buckets.iter().map(|(bucket, count)| (*bucket, u64::from(*count)));
        let mut buckets: Vec<_> = decode(&self.encoded).chain(told).collect();
        buckets.sort_unstable_by_key(|(bucket, _)| *bucket);
        let mut level = 0;
        loop {
            buckets.dedup_by(|next, kept| {
                let is_same = next.0 == kept.0;
                if is_same {
                    kept.1 = kept.1.saturating_add(next.1);
                }
                is_same
            });
            if buckets.len() <= MOST_BUCKETS || level == Bucket::WIDEST {
                break;
            }
            level += 1;
            // Wider buckets come in the same order.
            buckets.iter_mut().for_each(|(bucket, _)| *bucket = bucket.widened(level));
        }
        self.encoded = encode(&buckets);
    }

    pub(super) fn add_to(&self, sum: &mut Merged) {
        sum.totals.add(&self.totals);
        for (bucket, count) in decode(&self.encoded) {
            sum.count(bucket, count);
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.encoded.len()
    }
}

/// Adds a second to a sum without widening anything.
pub(super) fn add_whole(sample: &OperationSample, sum: &mut Merged) {
    sum.totals.add(&totals(sample));
    for (bucket, count) in &sample.buckets {
        sum.count(*bucket, u64::from(*count));
    }
}

fn totals(sample: &OperationSample) -> Totals {
    Totals {
        failures: sample.failures,
        total_nanos: sample.total_nanos.into(),
        shortest_nanos: sample.shortest_nanos,
        longest_nanos: sample.longest_nanos,
    }
}

fn encode(buckets: &[(Bucket, u64)]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(buckets.len() * 3);
    let mut before = 0;
    for (bucket, count) in buckets {
        write(&mut bytes, u64::from(bucket.index() - before));
        write(&mut bytes, *count);
        before = bucket.index();
    }
    bytes.into()
}

fn decode(encoded: &[u8]) -> impl Iterator<Item = (Bucket, u64)> {
    let (mut bytes, mut index) = (encoded.iter(), 0u16);
    std::iter::from_fn(move || {
        index = index.saturating_add(u16::try_from(read(&mut bytes)?).ok()?);
        Some((Bucket::at(index)?, read(&mut bytes)?))
    })
}

fn write(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [lowest, ..] = value.to_le_bytes();
        if value < 0x80 {
            return bytes.push(lowest);
        }
        bytes.push(lowest | 0x80);
        value >>= 7;
    }
}

fn read<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = *bytes.next()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}
