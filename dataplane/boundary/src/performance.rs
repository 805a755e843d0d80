//! How long operations take: counted as they end, told second by second.

use std::time::Duration;

use crate::{Bucket, Monotonic, ShardId, cause::closed_list};

closed_list! {
    /// What is measured.
    Operation {
        /// Writing one HLS playlist.
        HlsManifestGeneration = "hls_manifest_generation",
        /// Reading one HLS segment from an engine.
        HlsSegmentFetch = "hls_segment_fetch",
        /// One turn at an engine's connection that brought bytes: the time that
        /// the shard spends on reading, aligning, indexing and writing them, not
        /// the time that it waited for them. Failed: it brought the end of a
        /// live stream, or broke. What comes with the head of the answer is part
        /// of the start, and turns without bytes are none.
        MpegtsChunkRead = "mpegts_chunk_read",
        /// One round of asking Docker for the statistics of all engines, from
        /// the first question to the last answer. Failed: no engine answered.
        /// Rounds while there are no engines are none.
        DockerStatsCollection = "docker_stats_collection",
        /// From the first request for a stream to its first playable byte.
        /// Failed: it ended without one, for whatever cause; until then. One
        /// that was merged with another stream of its swarm is none.
        StreamStart = "stream_start",
        /// Picking an engine and reserving its slot. Failed: none was free.
        EngineSelection = "engine_selection",
        /// From a viewer's whole request to the first byte of the stream handed
        /// to its socket. Failed: it was refused; until then. One that leaves
        /// while it waits is none.
        ViewerJoin = "viewer_join",
    }
}

/// How an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Worked,
    /// As its [`Operation`] says of failures.
    Failed,
}

/// What one operation took in one second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationSample {
    /// Which.
    pub operation: Operation,
    /// Of those counted in `buckets`.
    pub failures: u64,
    /// Sum of the durations, in nanoseconds.
    pub total_nanos: u64,
    /// The shortest duration, in nanoseconds.
    pub shortest_nanos: u64,
    /// The longest duration, in nanoseconds.
    pub longest_nanos: u64,
    /// How many durations fell into each bucket: each bucket once, in any order,
    /// with a count of at least 1.
    pub buckets: Vec<(Bucket, u32)>,
}

impl OperationSample {
    /// Of a single one.
    #[must_use]
    pub fn of_one(operation: Operation, took: Duration, outcome: Outcome) -> Self {
        let nanos = nanos(took);
        Self {
            operation,
            failures: u64::from(outcome == Outcome::Failed),
            total_nanos: nanos,
            shortest_nanos: nanos,
            longest_nanos: nanos,
            buckets: vec![(Bucket::of(took), 1)],
        }
    }
}

/// What a shard's operations took in one second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondSample {
    /// Who.
    pub shard: ShardId,
    /// Which: whole seconds of [`Monotonic`] at its beginning. Each second is
    /// told once, in order.
    pub second: u64,
    /// At most one for each operation; those that did not happen are left out.
    pub operations: Vec<OperationSample>,
}

/// Counts the running second on a shard. About 190 KiB, made at once: recording
/// neither locks nor allocates.
#[derive(Debug)]
pub struct Recorder {
    shard: ShardId,
    second: u64,
    operations: [Running; Operation::ALL.len()],
}

/// One operation in the running second.
#[derive(Debug)]
struct Running {
    failures: u64,
    total_nanos: u64,
    shortest_nanos: u64,
    longest_nanos: u64,
    /// By half the bucket's index, which is odd.
    counts: Box<[u32]>,
    /// Those that are not zero.
    touched: Vec<Bucket>,
}

impl Running {
    fn new() -> Self {
        let buckets = Bucket::POINTS / 2;
        Self {
            failures: 0,
            total_nanos: 0,
            shortest_nanos: u64::MAX,
            longest_nanos: 0,
            counts: vec![0; buckets].into(),
            touched: Vec::with_capacity(buckets),
        }
    }

    fn record(&mut self, took: Duration, outcome: Outcome) {
        let bucket = Bucket::of(took);
        let count = &mut self.counts[usize::from(bucket.index() / 2)];
        if *count == 0 {
            self.touched.push(bucket);
        }
        *count = count.saturating_add(1);
        let nanos = nanos(took);
        self.failures += u64::from(outcome == Outcome::Failed);
        self.total_nanos = self.total_nanos.saturating_add(nanos);
        self.shortest_nanos = self.shortest_nanos.min(nanos);
        self.longest_nanos = self.longest_nanos.max(nanos);
    }

    /// What there is, if anything; nothing is left.
    fn take(&mut self, operation: Operation) -> Option<OperationSample> {
        if self.touched.is_empty() {
            return None;
        }
        let counts = &mut self.counts;
        let take = |bucket: Bucket| (bucket, std::mem::take(&mut counts[usize::from(bucket.index() / 2)]));
        let sample = OperationSample {
            operation,
            failures: std::mem::take(&mut self.failures),
            total_nanos: std::mem::take(&mut self.total_nanos),
            shortest_nanos: std::mem::replace(&mut self.shortest_nanos, u64::MAX),
            longest_nanos: std::mem::take(&mut self.longest_nanos),
            buckets: self.touched.iter().copied().map(take).collect(),
        };
        self.touched.clear();
        Some(sample)
    }
}

impl Recorder {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self { shard, second: 0, operations: std::array::from_fn(|_| Running::new()) }
    }

    /// One operation has ended `now`. The first of a new second returns what the
    /// one before it came to; one whose `now` was read before that counts in the
    /// new second. O(1), and once a second O(what there is).
    pub fn record(
        &mut self,
        operation: Operation,
        took: Duration,
        outcome: Outcome,
        now: Monotonic,
    ) -> Option<SecondSample> {
        let over = self.close(now);
        self.operations[operation.index()].record(took, outcome);
        over
    }

    /// What the running second came to, if it is over and there was anything in
    /// it.
    pub fn close(&mut self, now: Monotonic) -> Option<SecondSample> {
        let second = now.0.as_secs();
        if second <= self.second {
            return None;
        }
        let second = std::mem::replace(&mut self.second, second);
        let all = Operation::ALL.iter().zip(&mut self.operations);
        let operations: Vec<_> = all.filter_map(|(operation, running)| running.take(*operation)).collect();
        (!operations.is_empty()).then_some(SecondSample { shard: self.shard, second, operations })
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn each_second_is_told_once_with_what_ended_in_it() {
        let mut recorder = Recorder::new(ShardId(3));
        let ms = Duration::from_millis;
        let mut told = Vec::new();
        for (millis, took, outcome) in [
            (5_000, ms(7), Outcome::Worked),
            (5_999, ms(7), Outcome::Failed),
            // Over: the second of 5 s is told.
            (6_000, ms(20), Outcome::Worked),
            // Read before the last one; it may not go back.
            (5_999, ms(10), Outcome::Worked),
            // Nothing for a while.
            (60_500, ms(1), Outcome::Failed),
        ] {
            told.extend(recorder.record(Operation::ViewerJoin, took, outcome, at(millis)));
        }
        assert_eq!(recorder.close(at(60_999)), None, "it runs");
        told.extend(recorder.close(at(61_000)));
        assert_eq!(recorder.close(at(62_000)), None, "nothing is told of a second without anything");
        let sample = |failures, times: &[u64], buckets: &[(u64, u32)]| OperationSample {
            operation: Operation::ViewerJoin,
            failures,
            total_nanos: times.iter().sum::<u64>() * 1_000_000,
            shortest_nanos: times.iter().min().unwrap() * 1_000_000,
            longest_nanos: times.iter().max().unwrap() * 1_000_000,
            buckets: buckets.iter().map(|(millis, count)| (Bucket::of(ms(*millis)), *count)).collect(),
        };
        let of = |second, sample| SecondSample { shard: ShardId(3), second, operations: vec![sample] };
        assert_eq!(
            told,
            [
                of(5, sample(1, &[7, 7], &[(7, 2)])),
                of(6, sample(0, &[20, 10], &[(20, 1), (10, 1)])),
                of(60, sample(1, &[1], &[(1, 1)])),
            ]
        );
    }

    #[test]
    fn operations_are_kept_apart_and_named_once() {
        let mut recorder = Recorder::new(ShardId(0));
        for (n, operation) in (1..).zip(Operation::ALL) {
            for _ in 0..n {
                recorder.record(*operation, Duration::from_micros(n), Outcome::Worked, at(1_000));
            }
        }
        let told = recorder.close(at(2_000)).unwrap();
        let counts = told.operations.iter().map(|o| (o.operation, o.buckets[0].1));
        assert!(counts.eq(Operation::ALL.iter().copied().zip(1..)), "{told:?}");
    }

    #[test]
    fn one_alone_is_told_as_a_recorder_tells_it() {
        for (took, outcome) in [(Duration::ZERO, Outcome::Worked), (Duration::MAX, Outcome::Failed)] {
            let mut recorder = Recorder::new(ShardId(0));
            recorder.record(Operation::StreamStart, took, outcome, at(1_000));
            let told = recorder.close(at(2_000)).unwrap().operations;
            assert_eq!(told, [OperationSample::of_one(Operation::StreamStart, took, outcome)]);
        }
    }
}
