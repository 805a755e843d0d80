//! Where media segments and their parts end. Pure: told what the chain's index
//! finds, it says where to cut.
//!
//! ```text
//!            first random access unit
//!   Waiting ──────────────────────────▶ Cutting ──┐ a unit that can be decoded by itself, and enough time:
//!                                          ▲      │ the segment ends before it
//!                                          └──────┘ none for the longest a segment may be: before any unit
//! ```
//! A segment ends as soon as a unit is known to be one that can be decoded by
//! itself; whatever else ends before a unit does when the next one begins. Parts
//! end before the last unit that keeps them within their target.
//!
//! At a break the unit before it may be cut short, and what comes behind it, up
//! to one that can be decoded by itself, has lost what it refers to. All of that
//! is left out: there are decoders that give up at half a picture.

use std::time::Duration;

use millrace_media::ts::{JoinPoint, STAMP_HZ, STAMP_MODULUS};

/// What the index tells, in the order of the stream.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "marks are few and live in a vector")]
pub(crate) enum Mark {
    /// An access unit begins.
    Unit(Place),
    /// The newest unit can be decoded by itself; its offset.
    RandomAccess(u64),
    /// The clock or the streams do not go on as before.
    Break,
}

/// The beginning of an access unit.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where in the chain.
    pub(crate) point: JoinPoint,
    /// Stream time there, as the clock tells.
    pub(crate) at: Duration,
    /// When it is to be decoded, in ticks of 90 kHz.
    pub(crate) time: Option<u64>,
    /// It can be decoded by itself.
    pub(crate) independent: bool,
}

impl Place {
    /// From `earlier` to here: by the time stamps where they agree with the
    /// clock, which comes only with some packets.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let by_clock = self.at.saturating_sub(earlier.at);
        let stamps = self.time.zip(earlier.time);
        let by_stamps = stamps.map(|(later, earlier)| {
            let ticks = (later + STAMP_MODULUS - earlier) % STAMP_MODULUS;
            Duration::from_nanos(ticks * 1_000_000_000 / STAMP_HZ)
        });
        by_stamps.filter(|time| time.abs_diff(by_clock) < STAMPS_AGREE).unwrap_or(by_clock)
    }
}

/// Time stamps further from the clock than this tell of something else.
const STAMPS_AGREE: Duration = Duration::from_secs(1);

/// Where to cut.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// The first segment begins here.
    Begin(Place),
    /// A part ends.
    Part {
        /// How long it is.
        length: Duration,
        /// Where the next one begins.
        next: Place,
    },
    /// A segment and its last part end.
    Segment {
        /// How long it is.
        length: Duration,
        /// How long its last part is.
        part_length: Duration,
        /// Where the next one begins.
        next: Place,
        /// The next one does not go on from this one.
        is_break: bool,
        /// Where it ends, when that is not where the next one begins: what lies
        /// between is in neither.
        until: Option<u64>,
    },
}

impl Cut {
    /// Stream time of it.
    pub(crate) fn at(&self) -> Duration {
        match self {
            Self::Begin(next) | Self::Part { next, .. } | Self::Segment { next, .. } => next.at,
        }
    }
}

/// How long segments and parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// A segment ends at the random access unit nearest to this.
    pub(crate) segment: Duration,
    /// A segment is never longer than this, unless the stream's very first
    /// ones show that its random access units are further apart.
    pub(crate) longest: Duration,
    /// A part is never longer than this; zero for no parts.
    pub(crate) part: Duration,
}

/// Units further apart than this have lost others between them.
const GAP: Duration = Duration::from_secs(1);
/// No target duration is longer than this, whatever the stream.
const LONGEST_EVER: Duration = Duration::from_secs(12);
/// The first segments are short, so that a player has something to begin with:
/// so many times longer each than the one before.
const RAMP: Duration = Duration::from_secs(1);

/// Cuts one stream.
#[derive(Debug)]
pub(crate) struct Cutter {
    lengths: Lengths,
    /// Fixed with the end of the first segment.
    target_duration: Option<Duration>,
    segments: u32,
    /// Where the open segment and its open part began.
    open: Option<(Place, Place)>,
    /// A unit of which it is not known yet whether it can be decoded by itself.
    undecided: Option<Place>,
    /// Of the newest random access units, how far apart.
    group: Duration,
    last_random_access: Option<Place>,
    /// The newest unit, and how long the one before it was.
    last: Option<Place>,
    step: Duration,
    /// The last unit before a break, while the next segment has not begun.
    broken_at: Option<Place>,
    /// When the first unit came, while no segment has begun.
    first: Option<Duration>,
}

impl Cutter {
    pub(crate) fn new(lengths: Lengths) -> Self {
        Self {
            lengths,
            target_duration: None,
            segments: 0,
            open: None,
            undecided: None,
            group: Duration::ZERO,
            last_random_access: None,
            last: None,
            step: Duration::ZERO,
            broken_at: None,
            first: None,
        }
    }

    /// Whole seconds that no segment is longer than, as RFC 8216 §4.3.3.1
    /// rounds them; known with the first segment's end, and fixed from then on.
    pub(crate) fn target_duration(&self) -> Option<Duration> {
        self.target_duration
    }

    /// The next thing that the index has found.
    pub(crate) fn on(&mut self, mark: Mark, cuts: &mut Vec<Cut>) {
        match mark {
            Mark::Break => self.breaks(cuts),
            Mark::RandomAccess(offset) => {
                if let Some(unit) = self.undecided.take_if(|unit| unit.point.offset == offset) {
                    self.random_access(Place { independent: true, ..unit }, cuts);
                }
            }
            Mark::Unit(unit) => {
                let step = self.last.as_ref().map(|last| unit.since(last));
                match step {
                    Some(step) if step > GAP => self.breaks(cuts),
                    Some(step) if self.broken_at.is_none() => self.step = step,
                    _ => {}
                }
                self.decide(Some(&unit), cuts);
                self.last = Some(unit.clone());
                self.undecided = Some(unit);
            }
        }
    }

    fn breaks(&mut self, cuts: &mut Vec<Cut>) {
        self.decide(None, cuts);
        if self.open.is_some() && self.broken_at.is_none() {
            self.broken_at.clone_from(&self.last);
        }
        self.last_random_access = None;
    }

    fn random_access(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        if let Some(last) = self.last_random_access.replace(unit.clone()) {
            self.group = unit.since(&last);
        }
        let Some((begun, _)) = &self.open else {
            self.begin(unit, cuts);
            return;
        };
        let length = unit.since(begun);
        let wanted = self.lengths.segment.min(RAMP * (self.segments + 1));
        let next_is_late = length + self.group > self.longest();
        let is_nearest = length + self.group / 2 >= self.lengths.segment;
        let is_enough = length >= wanted || ((is_nearest || next_is_late) && !length.is_zero());
        if self.broken_at.is_some() || is_enough {
            self.end(unit, cuts);
        } else {
            // A part may have to end here yet.
            self.undecided = Some(unit);
        }
    }

    /// Nothing more will be known of the newest unit; `next` follows it.
    fn decide(&mut self, next: Option<&Place>, cuts: &mut Vec<Cut>) {
        let Some(unit) = self.undecided.take() else { return };
        let Some((begun, part)) = &self.open else {
            // Without a random access unit for so long there may never be one.
            let first = *self.first.get_or_insert(unit.at);
            if unit.at.saturating_sub(first) >= self.longest() {
                self.begin(unit, cuts);
            }
            return;
        };
        let reach =
            next.filter(|_| self.broken_at.is_none()).map_or(Duration::ZERO, |next| next.since(begun));
        if unit.since(begun) >= self.longest() || (reach > self.longest() && !unit.since(begun).is_zero()) {
            self.end(unit, cuts);
        } else if self.is_part_over(part, &unit, next) {
            self.end_part(unit, cuts);
        }
    }

    /// Whether the part that began at `part` has to end before `unit`, since it
    /// would be too long with what comes up to `next`.
    fn is_part_over(&self, part: &Place, unit: &Place, next: Option<&Place>) -> bool {
        let target = self.lengths.part;
        let (now, then) = (unit.since(part), next.unwrap_or(unit).since(part));
        !target.is_zero() && self.broken_at.is_none() && !now.is_zero() && (now >= target || then > target)
    }

    /// Length of a segment and of its last part that end at a break, and where
    /// they end: before the unit `last`, unless that is all there is.
    fn broken(&self, last: &Place, begun: &Place, part: &Place) -> (Duration, Duration, Option<u64>) {
        let (length, part_length) = (last.since(begun), last.since(part));
        if !length.is_zero() {
            return (length, part_length, Some(last.point.offset));
        }
        // As long as the one before, as far as that is allowed.
        let mut step = self.step.min(self.longest());
        if !self.lengths.part.is_zero() {
            step = step.min(self.lengths.part);
        }
        (step, step, None)
    }

    fn longest(&self) -> Duration {
        self.target_duration.unwrap_or(LONGEST_EVER)
    }

    fn begin(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        self.open = Some((unit.clone(), unit.clone()));
        cuts.push(Cut::Begin(unit));
    }

    fn end_part(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        let Some((_, part)) = &mut self.open else { return };
        let length = unit.since(part);
        *part = unit.clone();
        cuts.push(Cut::Part { length, next: unit });
    }

    fn end(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        let Some((begun, part)) = self.open.replace((unit.clone(), unit.clone())) else { return };
        let broken_at = self.broken_at.take();
        // Behind a break the clock tells nothing of what was before.
        let (length, part_length, until) = match &broken_at {
            Some(last) => self.broken(last, &begun, &part),
            None => (unit.since(&begun), unit.since(&part), None),
        };
        let seconds = Duration::from_secs_f64(length.as_secs_f64().ceil());
        self.target_duration.get_or_insert(self.lengths.longest.max(seconds));
        self.segments = self.segments.saturating_add(1);
        cuts.push(Cut::Segment { length, part_length, next: unit, is_break: broken_at.is_some(), until });
    }
}

#[cfg(test)]
#[path = "cutter_tests.rs"]
mod tests;
