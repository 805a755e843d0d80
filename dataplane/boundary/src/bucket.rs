//! The buckets that durations are counted in: log-linear, as those of an HDR
//! histogram, with an index that fits into two bytes and says how wide the
//! bucket is.

use std::time::Duration;

/// Points per octave are two to this power.
const POINT_BITS: u32 = 8;
const POINTS: u64 = 1 << POINT_BITS;

/// A range of durations, named by its middle.
///
/// The middles are points, 256 to an octave of nanoseconds. Odd points are the
/// middles of the narrowest buckets, whose ends are no more than 1/256 (0.4 %)
/// or 1 ns away from it; each further zero at the end of the index doubles that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// Longer durations are counted as this long: an hour.
    pub const LONGEST: Duration = Duration::from_secs(3_600);
    /// Points in all, up to the end of the octave of [`Self::LONGEST`]. Every
    /// other one is the middle of a narrowest bucket.
    pub const POINTS: usize = 8_960;
    /// The greatest [`Self::widened`]: one bucket per octave.
    pub const WIDEST: u32 = POINT_BITS - 1;

    /// The narrowest bucket that has `took` in it.
    #[must_use]
    pub fn of(took: Duration) -> Self {
        let nanos = u64::try_from(took.min(Self::LONGEST).as_nanos()).unwrap_or(u64::MAX);
        let octave = (u64::BITS - nanos.leading_zeros()).saturating_sub(POINT_BITS + 1);
        let point = u64::from(octave) * POINTS + (nanos >> octave);
        // Below `POINTS`, which the tests hold against the longest.
        Self(u16::try_from(point).unwrap_or(u16::MAX) | 1)
    }

    /// The bucket of this middle; `None` where no bucket has it.
    #[must_use]
    pub const fn at(index: u16) -> Option<Self> {
        if index > 0 && (index as usize) < Self::POINTS { Some(Self(index)) } else { None }
    }

    /// Its middle among all points: `1..POINTS`.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }

    /// Its middle in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        let point = self.0 as u64;
        if point < 2 * POINTS {
            return point;
        }
        let octave = point / POINTS - 1;
        (point - octave * POINTS) << octave
    }

    /// The bucket that has this one in it and is 2 to the power of `level` times
    /// as wide as the narrowest; itself where it is as wide already. Levels are
    /// `0..=WIDEST`.
    #[must_use]
    pub const fn widened(self, level: u32) -> Self {
        if self.0.trailing_zeros() >= level {
            return self;
        }
        let width = 2 << level;
        Self(self.0 / width * width + width / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every nanosecond up to a few octaves, and around every power of two beyond.
    fn durations() -> impl Iterator<Item = u64> {
        let powers = (10..42u32).flat_map(|power| {
            let low = 1u64 << power;
            (0..40).flat_map(move |step| {
                let at = low + low * step / 40;
                [at - 1, at, at + 1]
            })
        });
        (0..4_096).chain(powers).filter(|nanos| Duration::from_nanos(*nanos) <= Bucket::LONGEST)
    }

    fn of(nanos: u64) -> Bucket {
        Bucket::of(Duration::from_nanos(nanos))
    }

    #[test]
    fn no_duration_is_farther_from_the_middle_of_its_bucket_than_its_level_says() {
        for nanos in durations() {
            for level in 0..=Bucket::WIDEST {
                let middle = of(nanos).widened(level).nanos();
                let (away, allowed) =
                    (nanos.abs_diff(middle), (nanos >> (POINT_BITS - level)).max(1 << level));
                assert!(away <= allowed, "{nanos} ns at level {level}: {middle}");
            }
        }
    }

    #[test]
    fn longer_durations_have_later_buckets_and_none_lies_outside() {
        let mut all: Vec<_> = durations().collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| of(pair[0]) <= of(pair[1])));
        let longest = Bucket::of(Bucket::LONGEST);
        assert_eq!(Bucket::of(Duration::MAX), longest);
        for level in 0..=Bucket::WIDEST {
            let widened = longest.widened(level);
            assert_eq!(Bucket::at(widened.index()), Some(widened));
            let first = of(0).widened(level);
            assert_eq!(Bucket::at(first.index()), Some(first));
        }
        let end = u16::try_from(Bucket::POINTS).unwrap();
        assert!(Bucket::at(0).is_none() && Bucket::at(end).is_none() && Bucket::at(end - 1).is_some());
    }

    #[test]
    fn widening_goes_in_steps_or_at_once_and_a_wide_one_stays() {
        for nanos in durations() {
            for level in 0..=Bucket::WIDEST {
                let at_once = of(nanos).widened(level);
                let in_steps = (0..=level).fold(of(nanos), Bucket::widened);
                assert_eq!((at_once, at_once.widened(0)), (in_steps, at_once), "{nanos} ns, level {level}");
            }
        }
    }
}
