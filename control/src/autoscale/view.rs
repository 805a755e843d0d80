//! What the policy is shown and what it answers.

use std::fmt;

use millrace_boundary::Monotonic;

/// One engine's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitId(pub(crate) u32);

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an engine is good for, as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UnitState {
    /// Its container is being made.
    Creating,
    /// It runs and has not answered yet.
    Booting,
    /// It takes streams.
    Ready,
    /// It takes no new streams for now.
    Degraded,
    /// It is being restarted or recreated, or is in quarantine.
    Mending,
    /// It takes no new streams and goes when it is empty.
    Draining,
    /// Frozen, with nothing on it, to be woken at once.
    Paused,
    /// It is being stopped and removed.
    Stopping,
}

/// One engine as the policy sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnitView {
    /// Its place.
    pub(crate) id: UnitId,
    /// What it is good for.
    pub(crate) state: UnitState,
    /// Slots taken.
    pub(crate) taken: u32,
    /// Slots in all.
    pub(crate) capacity: u32,
    /// When its container was made.
    pub(crate) born: Monotonic,
    /// Since when nothing uses it; `None` while something does or may.
    pub(crate) idle_since: Option<Monotonic>,
    /// Made to a configuration that is no longer the one wanted.
    pub(crate) drifted: bool,
}

impl UnitView {
    pub(super) fn free(&self) -> u32 {
        self.capacity.saturating_sub(self.taken)
    }
}

/// What there is, all of it at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation<'a> {
    /// Our engines, each once.
    pub(crate) units: &'a [UnitView],
    /// Free slots of engines that run without being ours.
    pub(crate) found_free: u32,
    /// Streams that wait for a slot.
    pub(crate) waiting: u32,
    /// The hour of the week, 0 to 167, where the time of day is to count.
    pub(crate) hour: Option<u32>,
    /// Whether what is asked for can be done at all.
    pub(crate) docker_answers: bool,
}

/// What is to be done at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Engines to create.
    pub(crate) create: usize,
    /// Engines to create and to pause as soon as they have booted.
    pub(crate) create_paused: usize,
    /// Paused engines to wake.
    pub(crate) unpause: Vec<UnitId>,
    /// Ready, empty engines to pause.
    pub(crate) pause: Vec<UnitId>,
    /// Empty engines to take away.
    pub(crate) remove: Vec<UnitId>,
    /// The reason for all of it.
    pub(crate) why: Why,
    /// Why it is less than wanted.
    pub(crate) held: Option<Held>,
}

impl Plan {
    /// Nothing is to be done.
    pub(super) const fn nothing(held: Option<Held>) -> Self {
        Self {
            create: 0,
            create_paused: 0,
            unpause: Vec::new(),
            pause: Vec::new(),
            remove: Vec::new(),
            why: Why::Enough,
            held,
        }
    }

    /// Whether there is nothing to carry out.
    pub(crate) fn is_empty(&self) -> bool {
        self.create == 0
            && self.create_paused == 0
            && self.unpause.is_empty()
            && self.pause.is_empty()
            && self.remove.is_empty()
    }
}

/// Why the number of engines changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// It does not.
    Enough,
    /// Streams wait for a slot.
    Waiting,
    /// Fewer engines than the minimum.
    BelowMin,
    /// Fewer free slots than wanted, for a while.
    Headroom,
    /// More streams are to be expected at this hour.
    Forecast,
    /// Fewer paused engines than wanted, for a while.
    PoolLow,
    /// An engine is not needed, for a while.
    Surplus,
    /// More engines than the maximum.
    AboveMax,
    /// Broken engines are in the way of new ones.
    MakeRoom,
    /// The operator has said how many.
    Manual,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enough => "as many as needed",
            Self::Waiting => "streams wait for a slot",
            Self::BelowMin => "fewer engines than the minimum",
            Self::Headroom => "too few free slots",
            Self::Forecast => "more streams are usual at this hour",
            Self::PoolLow => "too few paused engines",
            Self::Surplus => "more engines than needed",
            Self::AboveMax => "more engines than the maximum",
            Self::MakeRoom => "broken engines take the place of new ones",
            Self::Manual => "the number set by hand",
        })
    }
}

/// Why less is done than is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// There may be no more engines.
    AtMax,
    /// A step down has to wait this long.
    Cooldown {
        /// When it is over.
        until: Monotonic,
    },
    /// Creating has failed too often.
    BreakerOpen {
        /// When one will be tried.
        until: Monotonic,
    },
    /// Creating has failed too often, and one is being tried.
    BreakerTrial,
    /// Too many have been started of late.
    Pace {
        /// When the next one may start.
        until: Monotonic,
    },
    /// Docker does not answer.
    DockerSilent,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMax => "there are as many engines as may be",
            Self::Cooldown { .. } => "the last change is not long ago",
            Self::BreakerOpen { .. } => "creating engines has failed too often",
            Self::BreakerTrial => "creating engines has failed too often, one is being tried",
            Self::Pace { .. } => "as many engines as may have been started of late",
            Self::DockerSilent => "Docker does not answer",
        })
    }
}

/// An observation added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// All engines, whatever their state.
    pub(super) total: usize,
    pub(super) ready: usize,
    pub(super) booting: usize,
    /// Creating or booting.
    pub(super) coming: usize,
    /// Degraded or mending.
    pub(super) ailing: usize,
    pub(super) paused: usize,
    /// Draining or stopping.
    pub(super) leaving: usize,
    /// Slots taken on all engines.
    pub(super) taken: u32,
    /// Slots taken on ready engines.
    pub(super) ready_taken: u32,
    /// Free slots of ready engines.
    pub(super) ready_free: u32,
    /// Slots of coming engines.
    pub(super) coming_free: u32,
}

impl Tally {
    pub(super) fn of(units: &[UnitView]) -> Self {
        let mut tally = Self { total: units.len(), ..Self::default() };
        for unit in units {
            tally.taken = tally.taken.saturating_add(unit.taken);
            match unit.state {
                UnitState::Creating | UnitState::Booting => {
                    tally.coming += 1;
                    tally.booting += usize::from(unit.state == UnitState::Booting);
                    tally.coming_free = tally.coming_free.saturating_add(unit.free());
                }
                UnitState::Ready => {
                    tally.ready += 1;
                    tally.ready_taken = tally.ready_taken.saturating_add(unit.taken);
                    tally.ready_free = tally.ready_free.saturating_add(unit.free());
                }
                UnitState::Degraded | UnitState::Mending => tally.ailing += 1,
                UnitState::Draining | UnitState::Stopping => tally.leaving += 1,
                UnitState::Paused => tally.paused += 1,
            }
        }
        tally
    }

    /// Engines that take streams or will soon.
    pub(super) fn running(&self) -> usize {
        self.ready + self.coming
    }

    /// Slots that are free or will be soon, `found` among them.
    pub(super) fn supply(&self, found: u32) -> u32 {
        self.ready_free.saturating_add(self.coming_free).saturating_add(found)
    }
}
