//! Where media segments and their parts end. Pure: told what the chain's index
//! finds, it says where to cut.
//!
//! ```text
//!            first random access unit
//!   Waiting ──────────────────────────▶ Cutting ──┐ a unit that can be decoded by itself, and enough time:
//!                                          ▲      │ the segment ends before it
//!                                          └──────┘ none for the longest a segment may be: before any unit
//! ```
//! A unit is decided when it is known what is in it: at once where it can be
//! decoded by itself, else when the next one begins. Between two segments' ends
//! parts end before the last unit that keeps them within their target.

use std::time::Duration;

use millrace_media::ts::{JoinPoint, STAMP_HZ, STAMP_MODULUS};

/// What the index tells, in the order of the stream.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "marks are few and live in one reused vector")]
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
    /// A part ends before this unit.
    Part(Place),
    /// A segment and its last part end before this unit.
    Segment {
        /// Where the next one begins.
        next: Place,
        /// The next one does not go on from this one.
        is_break: bool,
    },
}

/// How long segments and parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// A segment ends at the first random access unit after this.
    pub(crate) segment: Duration,
    /// A segment is never longer than this, unless the stream's very first
    /// ones show that its random access units are further apart.
    pub(crate) longest: Duration,
    /// A part is never longer than this; zero for no parts.
    pub(crate) part: Duration,
}

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
    is_broken: bool,
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
            is_broken: false,
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
            Mark::Break => {
                self.decide(None, cuts);
                self.is_broken = true;
                self.last_random_access = None;
            }
            Mark::RandomAccess(offset) => {
                if let Some(unit) = self.undecided.take_if(|unit| unit.point.offset == offset) {
                    self.random_access(Place { independent: true, ..unit }, cuts);
                }
            }
            Mark::Unit(unit) => {
                self.decide(Some(&unit), cuts);
                self.undecided = Some(unit);
            }
        }
    }

    fn random_access(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        if let Some(last) = self.last_random_access.replace(unit.clone()) {
            self.group = unit.since(&last);
        }
        let Some((begun, part)) = &self.open else {
            self.begin(unit, cuts);
            return;
        };
        let length = unit.since(begun);
        let wanted = self.lengths.segment.min(RAMP * (self.segments + 1));
        let next_is_late = length + self.group > self.longest();
        if self.is_broken || length >= wanted || (next_is_late && !length.is_zero()) {
            self.end(unit, cuts);
        } else if self.is_part_over(part, &unit, None) {
            self.end_part(unit, cuts);
        }
    }

    /// What was not decided yet cannot be decoded by itself; `next` follows it.
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
        let reach = next.filter(|_| !self.is_broken).map_or(Duration::ZERO, |next| next.since(begun));
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
        !target.is_zero() && !self.is_broken && !now.is_zero() && (now >= target || then > target)
    }

    fn longest(&self) -> Duration {
        self.target_duration.unwrap_or(LONGEST_EVER)
    }

    fn begin(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        self.open = Some((unit.clone(), unit.clone()));
        self.is_broken = false;
        cuts.push(Cut::Begin(unit));
    }

    fn end_part(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        if let Some((_, part)) = &mut self.open {
            *part = unit.clone();
        }
        cuts.push(Cut::Part(unit));
    }

    fn end(&mut self, unit: Place, cuts: &mut Vec<Cut>) {
        if let (Some((begun, _)), None) = (&self.open, self.target_duration) {
            let seconds = unit.since(begun).as_secs_f64().ceil();
            self.target_duration = Some(self.lengths.longest.max(Duration::from_secs_f64(seconds)));
        }
        self.segments = self.segments.saturating_add(1);
        self.open = Some((unit.clone(), unit.clone()));
        let is_break = std::mem::take(&mut self.is_broken);
        cuts.push(Cut::Segment { next: unit, is_break });
    }
}
