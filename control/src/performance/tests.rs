//! Against every single duration, sorted.
#![allow(clippy::cast_possible_truncation, reason = "numbers here are small")]

use millrace_boundary::{Bucket, Recorder};

use super::{slot::MOST_BUCKETS, *};

const HOUR: u64 = 3_600;

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// As often in each octave from `low` to `high`.
    fn spread(&mut self, low: f64, high: f64) -> u64 {
        let share = self.below(1 << 20) as f64 / (1 << 20) as f64;
        (low * (high / low).powf(share)) as u64
    }

    /// How long such an operation may take, in nanoseconds.
    fn nanos(&mut self, operation: Operation) -> u64 {
        match operation {
            Operation::HlsManifestGeneration => 1_500_000,
            Operation::HlsSegmentFetch => 40_000_000 + self.below(500_000_000),
            Operation::MpegtsChunkRead => self.spread(8e3, 3e5),
            Operation::DockerStatsCollection => [3_000_000, 2_000_000_000][self.below(2) as usize],
            Operation::StreamStart => self.spread(2e8, 6e10),
            Operation::EngineSelection => 150 + self.below(4_000),
            Operation::ViewerJoin => self.spread(3e4, 9e9),
        }
    }

    /// How many of them end within a second.
    fn count(&mut self, operation: Operation) -> u64 {
        match operation {
            Operation::HlsManifestGeneration => 50,
            Operation::HlsSegmentFetch | Operation::EngineSelection => 10,
            Operation::MpegtsChunkRead => 300,
            Operation::DockerStatsCollection => self.below(2),
            Operation::StreamStart => self.below(4),
            Operation::ViewerJoin => 1 + self.below(200),
        }
    }
}

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

fn window(seconds: u64) -> Window {
    Window::Seconds(WindowSeconds::new(seconds).unwrap())
}

/// One that has ended: in which second, after how many nanoseconds, and how.
type Ended = (u64, u64, Outcome);

/// What the definition says of these.
fn truth(ended: &[Ended], seconds: impl Fn(u64) -> bool) -> Summary {
    let of_it = || ended.iter().filter(|(second, ..)| seconds(*second));
    let mut sorted: Vec<f64> = of_it().map(|(_, nanos, _)| *nanos as f64 / 1e6).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Summary::default() };
    let percentile = |percent: f64| {
        let place = last as f64 * percent / 100.0;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    let worked = of_it().filter(|(.., outcome)| *outcome == Outcome::Worked).count();
    Summary {
        count: sorted.len() as u64,
        avg_ms: sorted.iter().sum::<f64>() / sorted.len() as f64,
        p50_ms: percentile(50.0),
        p95_ms: percentile(95.0),
        p99_ms: percentile(99.0),
        min_ms: sorted[0],
        max_ms: sorted[last],
        success_rate: worked as f64 / sorted.len() as f64 * 100.0,
    }
}

#[track_caller]
fn assert_true(said: &Summary, truth: &Summary, name: &str) {
    assert_eq!((said.count, said.min_ms, said.max_ms), (truth.count, truth.min_ms, truth.max_ms), "{name}");
    let away = |said: f64, truth: f64| if truth == 0.0 { said.abs() } else { (said / truth - 1.0).abs() };
    for (what, said, truth, allowed) in [
        ("avg", said.avg_ms, truth.avg_ms, 1e-9),
        ("success_rate", said.success_rate, truth.success_rate, 1e-9),
        ("p50", said.p50_ms, truth.p50_ms, 0.01),
        ("p95", said.p95_ms, truth.p95_ms, 0.01),
        ("p99", said.p99_ms, truth.p99_ms, 0.01),
    ] {
        assert!(away(said, truth) <= allowed, "{name}, {what}: {said} for {truth}");
    }
}

#[test]
fn counts_are_exact_and_quantiles_within_a_percent_over_every_window() {
    let (mut dice, mut performance) = (Dice(1), Performance::default());
    let mut shards = [Recorder::new(ShardId(0)), Recorder::new(ShardId(1))];
    let mut ended: Vec<Vec<Ended>> = vec![Vec::new(); Operation::ALL.len()];
    let (first, end) = (10_000, 10_200);
    for second in first..end {
        for operation in Operation::ALL {
            // A pause in which nothing ends.
            let count = if (10_150..10_155).contains(&second) { 0 } else { dice.count(*operation) };
            for n in 0..count {
                let nanos = dice.nanos(*operation);
                let outcome = if dice.below(10) == 0 { Outcome::Failed } else { Outcome::Worked };
                ended[operation.index()].push((second, nanos, outcome));
                let (took, now) = (Duration::from_nanos(nanos), at(second * 1_000 + n % 1_000));
                if *operation == Operation::DockerStatsCollection {
                    let began = Monotonic(now.0 - took);
                    performance.record(*operation, began, now, outcome);
                } else {
                    let over = shards[dice.below(2) as usize].record(*operation, took, outcome, now);
                    over.iter().for_each(|sample| performance.hear(sample, now));
                }
            }
        }
        let over = at((second + 1) * 1_000);
        for shard in &mut shards {
            shard.close(over).iter().for_each(|sample| performance.hear(sample, over));
        }
        if second % 7 != 0 && second + 1 < end {
            continue;
        }
        for operation in Operation::ALL {
            let (ended, name) = (&ended[operation.index()], format!("{operation:?} at {second}"));
            let all = performance.summary(*operation, Window::All, over);
            assert_true(&all, &truth(ended, |_| true), &name);
            // The newest second settles.
            let now = over + SETTLED;
            for seconds in [1, 5, 60, HOUR] {
                let said = performance.summary(*operation, window(seconds), now);
                assert_true(&said, &truth(ended, |s| s + seconds > second), &format!("{name}, {seconds} s"));
                let before = performance.summary(*operation, window(seconds), over);
                let of_before = truth(ended, |s| s + seconds >= second && s < second);
                assert_true(&before, &of_before, &format!("{name}, {seconds} s, too early for the last"));
            }
        }
    }
}

/// One start that took so many milliseconds, as a shard tells of it.
fn start(shard: u16, second: u64, millis: u64) -> SecondSample {
    let took = Duration::from_millis(millis);
    SecondSample {
        shard: ShardId(shard),
        second,
        operations: vec![OperationSample::of_one(Operation::StreamStart, took, Outcome::Worked)],
    }
}

#[test]
fn late_words_count_in_their_second_and_repeated_ones_once() {
    let mut performance = Performance::default();
    let now = at(100_300);
    for sample in [
        start(0, 95, 1),
        start(0, 96, 2),
        start(0, 96, 2),
        // Of another shard, in the same second and much later.
        start(1, 20, 3),
        start(1, 96, 4),
        start(0, 95, 1),
        // 97 was lost: a gap.
        start(0, 98, 5),
    ] {
        performance.hear(&sample, now);
    }
    let said = |window| performance.summary(Operation::StreamStart, window, now);
    for (name, window, count, shortest, longest) in [
        ("all", Window::All, 5, 1.0, 5.0),
        ("the gap, and before it nothing", window(3), 1, 5.0, 5.0),
        ("two shards", window(4), 3, 2.0, 5.0),
        ("the one before", window(5), 4, 1.0, 5.0),
        ("not so late", window(79), 4, 1.0, 5.0),
        ("late", window(80), 5, 1.0, 5.0),
        ("an hour, longer than the clock runs", window(HOUR), 5, 1.0, 5.0),
    ] {
        let said = said(window);
        assert_eq!((said.count, said.min_ms, said.max_ms), (count, shortest, longest), "{name}");
    }
    assert_eq!(said(window(1)), Summary::default());
    assert_eq!(performance.summary(Operation::ViewerJoin, Window::All, now), Summary::default());
}

#[test]
fn seconds_are_forgotten_after_an_hour_and_never_mixed_up_when_the_clock_jumps() {
    let mut performance = Performance::default();
    let store = |performance: &Performance| performance.operations[Operation::StreamStart.index()].size().0;
    let count = |performance: &Performance, window, millis| {
        performance.summary(Operation::StreamStart, window, at(millis)).count
    };
    // Two hours of one start a second: an hour is kept.
    for second in 0..2 * HOUR {
        performance.hear(&start(0, second + 1, 7), at((second + 2) * 1_000));
        assert!(store(&performance) <= HOUR as usize + 2);
    }
    let now = (2 * HOUR + 1) * 1_000 + 250;
    for seconds in [1, 2, 59, HOUR - 1, HOUR] {
        assert_eq!(count(&performance, window(seconds), now), seconds, "{seconds} s");
        assert_eq!(count(&performance, window(seconds), now - 1), seconds, "a second earlier");
    }
    // The machine stood still for ten minutes, or the clock has jumped.
    let later = now + 600_000;
    assert_eq!(count(&performance, window(600), later), 0);
    assert_eq!(count(&performance, window(601), later), 1);
    performance.hear(&start(0, later / 1_000 - 1, 9), at(later));
    assert_eq!(count(&performance, window(1), later), 1);
    assert_eq!(count(&performance, window(HOUR), later), HOUR - 600 + 1);
    // For days, during which nobody says anything: nothing of before is in a window.
    let days = later + 1_000 * 86_400 * 3;
    assert_eq!(count(&performance, window(HOUR), days), 0);
    performance.hear(&start(0, days / 1_000, 9), at(days));
    assert_eq!(store(&performance), 1);
    // From the future, and from before the hour: in the sum of all alone.
    performance.hear(&start(1, days / 1_000 + 5, 1), at(days));
    performance.hear(&start(2, days / 1_000 - HOUR - 2, 1), at(days));
    assert_eq!(store(&performance), 1);
    assert_eq!(count(&performance, window(HOUR), days + 10_000), 1);
    assert_eq!(count(&performance, Window::All, days), 2 * HOUR + 4);
}

#[test]
fn a_second_that_has_everything_in_it_loses_precision_as_stated_and_no_count() {
    for (name, low, high, widest) in [
        ("a factor of 4", 1e6, 4e6, 1.0 / 256.0),
        ("a factor of 100,000", 1e4, 1e9, 1.0 / 128.0),
        ("all there is", 3e2, 3.5e12, 1.0 / 64.0),
    ] {
        let (mut dice, mut performance) = (Dice(2), Performance::default());
        let mut ended = Vec::new();
        // In parts, as of many shards.
        for shard in 0..8 {
            let mut recorder = Recorder::new(ShardId(shard));
            for _ in 0..20_000 {
                let nanos = dice.spread(low, high);
                ended.push((50, nanos, Outcome::Worked));
                recorder.record(
                    Operation::ViewerJoin,
                    Duration::from_nanos(nanos),
                    Outcome::Worked,
                    at(50_000),
                );
            }
            performance.hear(&recorder.close(at(51_000)).unwrap(), at(51_000));
        }
        let bytes = performance.operations[Operation::ViewerJoin.index()].size().1;
        assert!(bytes < 3 * MOST_BUCKETS + 1_024, "{name}: {bytes}");
        let truth = truth(&ended, |_| true);
        let said = performance.summary(Operation::ViewerJoin, window(1), at(51_500));
        assert_eq!(
            (said.count, said.min_ms, said.max_ms),
            (truth.count, truth.min_ms, truth.max_ms),
            "{name}"
        );
        for (said, truth) in
            [(said.p50_ms, truth.p50_ms), (said.p95_ms, truth.p95_ms), (said.p99_ms, truth.p99_ms)]
        {
            assert!((said / truth - 1.0).abs() <= widest + 1e-9, "{name}: {said} for {truth}");
        }
        // The sum of all widens nothing.
        assert_true(&performance.summary(Operation::ViewerJoin, Window::All, at(51_500)), &truth, name);
    }
}

/// A thousand streams and five thousand joins a second, for an hour.
#[test]
fn an_hour_at_full_load_fits_into_eighteen_mebibytes() {
    let (mut dice, mut performance) = (Dice(3), Performance::default());
    let per_second = |operation| match operation {
        Operation::MpegtsChunkRead => 25_000,
        Operation::HlsSegmentFetch | Operation::HlsManifestGeneration => 500,
        Operation::ViewerJoin => 5_000,
        Operation::StreamStart | Operation::EngineSelection => 50,
        Operation::DockerStatsCollection => 1,
    };
    // Seconds are alike: of some of them the hour is made.
    let mut recorder = Recorder::new(ShardId(0));
    let mut seconds = Vec::new();
    for second in 1..=8 {
        for operation in Operation::ALL {
            for _ in 0..per_second(*operation) {
                let nanos = match operation {
                    Operation::HlsManifestGeneration => dice.spread(1e4, 1e6),
                    other => dice.nanos(*other),
                };
                recorder.record(*operation, Duration::from_nanos(nanos), Outcome::Worked, at(second * 1_000));
            }
        }
        seconds.extend(recorder.close(at((second + 1) * 1_000)));
    }
    for second in 0..HOUR + 10 {
        let sample = SecondSample { second: second + 1, ..seconds[second as usize % seconds.len()].clone() };
        performance.hear(&sample, at((second + 2) * 1_000));
    }
    let mut sum = 0;
    for operation in Operation::ALL {
        let (slots, bytes) = performance.operations[operation.index()].size();
        assert!(slots as u64 >= HOUR);
        println!("{}: {} KiB", operation.as_str(), bytes >> 10);
        sum += bytes;
    }
    let asked = std::time::Instant::now();
    let now = at((HOUR + 11) * 1_000 + 300);
    for operation in Operation::ALL {
        let said = performance.summary(*operation, window(HOUR), now);
        assert_eq!(said.count, HOUR * per_second(*operation));
    }
    println!("all together: {} KiB, an hour of it added up in {:?}", sum >> 10, asked.elapsed());
    assert!(sum < 18 << 20, "{sum} bytes");
}

#[test]
fn percentiles_lie_between_their_neighbours_in_proportion() {
    let said = |millis: &[u64]| {
        let mut performance = Performance::default();
        for took in millis {
            let now = at(70_000);
            let began = Monotonic(now.0 - Duration::from_millis(*took));
            performance.record(Operation::StreamStart, began, now, Outcome::Worked);
        }
        performance.summary(Operation::StreamStart, Window::All, at(71_000))
    };
    for (name, millis, p50, p95) in [
        ("one", &[300][..], 300.0, 300.0),
        ("two: half of the way, and nearly all of it", &[100, 200], 150.0, 195.0),
        ("three: one of them is the middle", &[100, 200, 300], 200.0, 290.0),
        ("four, in disorder", &[400, 100, 300, 200], 250.0, 385.0),
    ] {
        let said = said(millis);
        assert!((said.p50_ms / p50 - 1.0).abs() < 0.01, "{name}: {said:?}");
        assert!((said.p95_ms / p95 - 1.0).abs() < 0.01, "{name}: {said:?}");
    }
    let zero = said(&[0, 0]);
    assert_eq!((zero.count, zero.p50_ms, zero.success_rate), (2, 0.0, 100.0));
    assert_eq!(Bucket::of(Duration::ZERO).nanos(), 1, "so that it is kept within what was longest");
}

#[test]
fn a_window_has_from_one_second_to_an_hour() {
    for (seconds, is_window) in [(0, false), (1, true), (3_600, true), (3_601, false), (u64::MAX, false)] {
        assert_eq!(WindowSeconds::new(seconds).is_some(), is_window, "{seconds}");
    }
}
