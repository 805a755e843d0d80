//! Whether what a source delivers is a stream: judged by the bytes alone.

use std::{collections::VecDeque, time::Duration};

use millrace_boundary::Monotonic;

/// What is wrong with a source that delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Less stream time comes than passes.
    Starving,
    /// What comes has come before.
    Looping,
}

impl Verdict {
    /// The word used in JSON and in timelines.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Starving => "starving",
            Self::Looping => "looping",
        }
    }
}

/// Between two samples of stream time.
const STEP: Duration = Duration::from_secs(1);
/// What lies ahead of playout while a source may be slow.
const RUNWAY: Duration = Duration::from_secs(5);
/// Samples over which the rate is judged.
const SAMPLES: usize = 10;
/// Playout that had to wait for so long, less what is forgiven, has starved.
const DEFICIT: Duration = Duration::from_secs(4);
/// Of each second, this much waiting is forgiven: clocks drift.
const FORGIVEN: f64 = 0.05;
/// Random access points remembered: minutes, at any usual distance.
const REMEMBERED: usize = 512;
/// Repetitions in a row that make a loop. A megabyte sent twice has fewer.
const REPEATED: u32 = 4;

/// Watches one source.
///
/// Starving is less than half of real time over ten seconds while there is no
/// stock ahead of playout, or playout that waits again and again. Looping is a
/// row of random access points, time stamps included, that were all seen
/// before.
#[derive(Debug)]
pub(super) struct Watch {
    samples: VecDeque<(Monotonic, Duration)>,
    deficit: Duration,
    played: Option<(Monotonic, Duration)>,
    points: VecDeque<u64>,
    repeated: u32,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            samples: VecDeque::with_capacity(SAMPLES + 1),
            deficit: Duration::ZERO,
            played: None,
            points: VecDeque::new(),
            repeated: 0,
        }
    }

    /// Stream time at the head and at playout, as they are `now`.
    pub(super) fn look(&mut self, head: Duration, playout: Duration, now: Monotonic) -> Option<Verdict> {
        self.note_playout(playout, now);
        let is_due = self.samples.back().is_none_or(|(then, _)| now.since(*then) >= STEP);
        if is_due {
            self.samples.push_back((now, head));
            if self.samples.len() > SAMPLES + 1 {
                self.samples.pop_front();
            }
        }
        let ahead = head.saturating_sub(playout);
        if self.deficit >= DEFICIT {
            return Some(Verdict::Starving);
        }
        let (since, from) = *self.samples.front()?;
        let took = now.since(since);
        let is_slow = took >= STEP * 10 && head.saturating_sub(from) * 2 < took;
        (is_slow && ahead < RUNWAY).then_some(Verdict::Starving)
    }

    /// How long playout has waited at the head.
    fn note_playout(&mut self, playout: Duration, now: Monotonic) {
        if let Some((then, before)) = self.played.replace((now, playout)) {
            let took = now.since(then);
            let waited = took.saturating_sub(playout.saturating_sub(before));
            self.deficit = (self.deficit + waited).saturating_sub(took.mul_f64(FORGIVEN)).min(DEFICIT * 2);
        }
    }

    /// A random access point, by the fingerprint of its first packet.
    pub(super) fn point(&mut self, fingerprint: u64) -> Option<Verdict> {
        if self.points.contains(&fingerprint) {
            self.repeated += 1;
        } else {
            self.repeated = 0;
            self.points.push_back(fingerprint);
            if self.points.len() > REMEMBERED {
                self.points.pop_front();
            }
        }
        (self.repeated >= REPEATED).then_some(Verdict::Looping)
    }

    /// Another source writes the chain from now on: its rate is judged anew.
    pub(super) fn restart(&mut self) {
        self.samples.clear();
        self.deficit = Duration::ZERO;
        self.played = None;
        self.repeated = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::pace::Playout;

    /// When a source whose head is `head(t)` at `t` seconds is found to starve,
    /// in seconds, within five minutes.
    fn starves(head: impl Fn(f64) -> f64) -> Option<u32> {
        let start = Monotonic(Duration::from_secs(1_000));
        let (mut watch, mut playout) = (Watch::new(), Playout::new(start));
        for step in 0..3_000 {
            let t = f64::from(step) / 10.0;
            let now = start + Duration::from_secs_f64(t);
            let head = Duration::from_secs_f64(head(t));
            let at = playout.advance(now, head);
            if watch.look(head, at, now) == Some(Verdict::Starving) {
                return Some(step / 10);
            }
        }
        None
    }

    #[test]
    fn a_rate_is_judged_by_stream_time_and_by_what_lies_ahead() {
        let gaps = |t: f64| if t % 20.0 < 15.0 { t } else { t - t % 20.0 + 15.0 };
        for (name, found, expected) in [
            ("real time", starves(|t| 10.0 + t), None),
            ("a little slow", starves(|t| 10.0 + t * 0.97), None),
            ("0.7 of real time", starves(|t| 10.0 + t * 0.7), Some(30..=60)),
            ("0.2 of real time", starves(|t| 10.0 + t * 0.2), Some(9..=12)),
            ("a trickle", starves(|t| 10.0 + t * 0.001), Some(9..=12)),
            ("gaps of 5 s, caught up", starves(|t| 10.0 + gaps(t)), None),
            ("five minutes at once, then nothing", starves(|_| 300.0), Some(293..=298)),
        ] {
            match (&expected, found) {
                (None, None) => {}
                (Some(range), Some(at)) if range.contains(&at) => {}
                _ => panic!("{name}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_loop_is_a_row_of_points_seen_before() {
        let mut watch = Watch::new();
        let laps: Vec<_> = (0..30).chain(0..30).map(|n| watch.point(n)).collect();
        let first = laps.iter().position(Option::is_some);
        assert_eq!(first, Some(30 + REPEATED as usize - 1));
        let mut watch = Watch::new();
        // Two points repeated once are no loop.
        assert!([1, 2, 3, 2, 3, 4, 5].iter().all(|n| watch.point(*n).is_none()));
    }
}
