//! How many slots are usually taken at each hour of the week.

use std::time::Duration;

use millrace_boundary::Monotonic;
use serde::Serialize;

/// Hours of a week.
pub(crate) const HOURS: usize = 168;
/// More slots than any fleet here has; keeps foreign values sane.
const MOST: f32 = 10_000.0;
/// A new week weighs half, so that one odd evening is half forgotten a week later.
const WEIGHT: f32 = 0.5;
/// An hour seen for less than this may teach more, but not less: its peak may
/// lie in the part that was not seen.
const WHOLE: Duration = Duration::from_secs(50 * 60);

/// Why a profile was not taken over.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ProfileError {
    /// Not one value for each hour.
    #[error("a profile has {HOURS} values, one for each hour of the week, not {0}")]
    Length(usize),
    /// A value that is no number of slots.
    #[error("hour {hour} of the profile is {value}, not a number of slots from 0 to {MOST}")]
    Value {
        /// 0 to 167.
        hour: usize,
        /// What it was said to be.
        value: f32,
    },
}

/// Peaks of taken slots by hour of the week, averaged over weeks.
#[derive(Debug)]
pub(super) struct Profile {
    peaks: [f32; HOURS],
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    hour: usize,
    since: Monotonic,
    peak: u32,
}

/// What was learned, for people.
#[derive(Debug, Serialize)]
pub(super) struct Learned<'a> {
    /// Slots that are usually taken at the busiest moment of each hour of the week.
    peaks: &'a [f32],
    /// The hour of the week that is being learned, 0 to 167.
    hour: Option<usize>,
    /// The most slots taken in it so far.
    peak: Option<u32>,
}

impl Profile {
    pub(super) const fn new() -> Self {
        Self { peaks: [0.0; HOURS], current: None }
    }

    /// So many slots are taken now; `hour` is that of the week, where it is known.
    pub(super) fn observe(&mut self, hour: Option<usize>, taken: u32, now: Monotonic) {
        match (&mut self.current, hour) {
            (Some(current), Some(hour)) if current.hour == hour => current.peak = current.peak.max(taken),
            (current, hour) => {
                let ended = *current;
                *current = hour.map(|hour| Current { hour, since: now, peak: taken });
                if let Some(ended) = ended {
                    self.learn(ended, now);
                }
            }
        }
    }

    /// Slots that will probably be taken at some moment of this hour or the next.
    pub(super) fn expected(&self, hour: usize) -> u32 {
        let most = self.peaks[hour % HOURS].max(self.peaks[(hour + 1) % HOURS]);
        #[expect(clippy::cast_possible_truncation, reason = "0 to 10 000")]
        let slots = most.round() as u32;
        slots
    }

    /// For people.
    pub(super) fn learned(&self) -> Learned<'_> {
        let hour = self.current.map(|current| current.hour);
        Learned { peaks: &self.peaks, hour, peak: self.current.map(|current| current.peak) }
    }

    /// To keep over a restart; always [`HOURS`] values.
    pub(super) fn export(&self) -> Vec<f32> {
        self.peaks.to_vec()
    }

    /// Takes over what [`Self::export`] gave, or nothing of it.
    pub(super) fn import(&mut self, peaks: &[f32]) -> Result<(), ProfileError> {
        let array = <[f32; HOURS]>::try_from(peaks).map_err(|_| ProfileError::Length(peaks.len()))?;
        // NaN is in no range.
        if let Some((hour, value)) =
            peaks.iter().enumerate().find(|(_, value)| !(0.0..=MOST).contains(*value))
        {
            return Err(ProfileError::Value { hour, value: *value });
        }
        self.peaks = array;
        Ok(())
    }

    fn learn(&mut self, ended: Current, now: Monotonic) {
        let old = self.peaks[ended.hour];
        #[expect(clippy::cast_precision_loss, reason = "capped long before that matters")]
        let peak = (ended.peak as f32).min(MOST);
        let new = old + WEIGHT * (peak - old);
        self.peaks[ended.hour] = if now.since(ended.since) >= WHOLE { new } else { new.max(old) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Monotonic {
        Monotonic(Duration::from_secs(60 * minutes))
    }

    #[test]
    fn the_peak_of_an_hour_counts_half_each_week_once_the_hour_is_over() {
        let mut profile = Profile::new();
        for (week, (peak, learned)) in [(8, 4.0), (8, 6.0), (0, 3.0), (40, 21.5)].into_iter().enumerate() {
            let start = week as u64 * 10_080;
            let before = profile.peaks[20];
            profile.observe(Some(20), 0, at(start));
            profile.observe(Some(20), peak, at(start + 30));
            profile.observe(Some(20), peak / 2, at(start + 59));
            assert_eq!(profile.peaks[20], before, "not before its end");
            profile.observe(Some(21), 0, at(start + 60));
            assert_eq!(profile.peaks[20], learned, "week {week}");
            profile.observe(None, 0, at(start + 120));
        }
        assert_eq!(profile.peaks.iter().filter(|peak| **peak > 0.0).count(), 1, "and no other hour");
    }

    #[test]
    fn an_hour_seen_in_part_only_raises() {
        for (name, minutes, peak, learned) in [
            ("the whole hour, less", 50, 0, 5.0),
            ("a part, less", 49, 0, 10.0),
            ("a part, more", 1, 20, 15.0),
            ("a part, absurd", 1, u32::MAX, 5_005.0),
        ] {
            let mut profile = Profile::new();
            profile.import(&[10.0; HOURS]).unwrap();
            profile.observe(Some(3), peak, at(0));
            profile.observe(Some(4), 0, at(minutes));
            assert_eq!(profile.peaks[3], learned, "{name}");
        }
    }

    #[test]
    fn this_hour_and_the_next_are_expected_around_the_end_of_the_week() {
        let mut profile = Profile::new();
        let mut peaks = vec![0.0; HOURS];
        (peaks[0], peaks[10], peaks[167]) = (7.0, 3.4, 2.0);
        profile.import(&peaks).unwrap();
        for (hour, slots) in [(0, 7), (1, 0), (8, 0), (9, 3), (10, 3), (11, 0), (166, 2), (167, 7)] {
            assert_eq!(profile.expected(hour), slots, "hour {hour}");
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_nonsense_is_refused_whole() {
        let mut profile = Profile::new();
        let mut peaks: Vec<f32> = (0u16..168).map(f32::from).collect();
        profile.import(&peaks).unwrap();
        assert_eq!(profile.export(), peaks);
        for (hour, value) in [(0, f32::NAN), (5, f32::INFINITY), (9, -1.0), (167, 10_001.0)] {
            let good = std::mem::replace(&mut peaks[hour], value);
            let error = profile.import(&peaks).unwrap_err();
            assert!(matches!(error, ProfileError::Value { hour: told, .. } if told == hour), "{error}");
            peaks[hour] = good;
        }
        for length in [0, 167, 169] {
            assert_eq!(profile.import(&vec![1.0; length]), Err(ProfileError::Length(length)));
        }
        assert_eq!(profile.export(), peaks, "nothing of it was taken over");
    }
}
