//! What the operator wants: plain values, already checked.

use std::time::Duration;

/// How many engines there shall be, as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Engines that take streams or are about to; above `max` it counts as `max`.
    pub(crate) min: usize,
    /// Engines in all, whatever their state: booting, draining, quarantined and
    /// paused ones too.
    pub(crate) max: usize,
    /// Free slots kept beyond what is taken.
    pub(crate) spare_slots: u32,
    /// Slots of one new engine; 1 to 20, 0 counts as 1.
    pub(crate) capacity: u32,
    /// Paused engines to hold ready; they count towards `max`.
    pub(crate) paused: usize,
    /// Exactly so many engines, at most `max`, whatever the demand.
    pub(crate) manual: Option<usize>,
    /// From a step of any direction to the next step down.
    pub(crate) cooldown: Duration,
    /// No engine younger than this is taken away.
    pub(crate) min_life: Duration,
    /// How long a lack has to stand before engines are added for it, where no
    /// stream waits.
    pub(crate) sustained: Duration,
    /// How long a surplus has to stand before a step down.
    pub(crate) surplus: Duration,
    /// Engines added in one go for headroom.
    pub(crate) step_up: usize,
    /// Engines taken away in one step.
    pub(crate) step_down: usize,
    /// Creations and recreations; 0 counts as 1.
    pub(crate) starts_per_minute: u32,
    /// When creating is given up for a while.
    pub(crate) breaker: BreakerPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min: 2,
            max: 6,
            spare_slots: 1,
            capacity: 3,
            paused: 0,
            manual: None,
            cooldown: Duration::from_secs(60),
            min_life: Duration::from_secs(120),
            sustained: Duration::from_secs(10),
            surplus: Duration::from_secs(60),
            step_up: 2,
            step_down: 1,
            starts_per_minute: 30,
            breaker: BreakerPolicy::default(),
        }
    }
}

impl Policy {
    /// Engines that there shall be at least: what the operator says in manual
    /// mode, else the minimum.
    pub(super) fn floor(&self) -> usize {
        self.manual.unwrap_or(self.min).min(self.max)
    }

    /// Paused engines that there shall be: none in manual mode, where the
    /// operator's number is all there is.
    pub(super) fn pool(&self) -> usize {
        if self.manual.is_some() { 0 } else { self.paused }
    }

    /// Slots of one new engine, at least 1.
    pub(super) fn slots(&self) -> u32 {
        self.capacity.max(1)
    }
}

/// When creating engines is given up for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BreakerPolicy {
    /// Failures within `window`, less the successes between, that open it; 1 to
    /// [`Self::MOST_FAILURES`].
    pub(crate) failures: usize,
    /// A failure older than this is forgotten.
    pub(crate) window: Duration,
    /// Time without creations after it opened.
    pub(crate) pause_first: Duration,
    /// The longest such time; it doubles up to here with each trial that fails.
    pub(crate) pause_longest: Duration,
}

impl BreakerPolicy {
    /// More failures than this are not remembered.
    pub(crate) const MOST_FAILURES: usize = 100;
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(600),
            pause_first: Duration::from_secs(30),
            pause_longest: Duration::from_secs(300),
        }
    }
}
