//! What happens to a unit, and what that asks for.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// What Docker's list says of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It runs; whether there is an address to reach it at.
    Running {
        /// False when it has none, as after its network was cut.
        reachable: bool,
    },
    /// Its processes are frozen.
    Paused,
    /// It exists and does not run.
    Down,
    /// It is not in the list.
    Absent,
}

/// What is wrong with an engine whose container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ail {
    /// Its API does not answer.
    Api,
    /// It has no network by its own word, and starts fail.
    Offline,
    /// Starts fail although its API answers.
    Starts,
    /// Its container has no address.
    Unreachable,
}

impl Ail {
    /// Borne for this long before the engine is mended: what passes by itself
    /// as a rule gets more time than what does not.
    pub(super) const fn patience(self) -> Duration {
        match self {
            // It has been asked twice already, for two seconds each time.
            Self::Api => Duration::from_secs(3),
            Self::Unreachable => Duration::from_secs(1),
            // Twice the pause that its life gives it after failed starts.
            Self::Starts => Duration::from_secs(30),
            // A restart seldom brings a network back.
            Self::Offline => Duration::from_secs(60),
        }
    }

    /// For people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "its API does not answer",
            Self::Offline => "it has no network and starts fail",
            Self::Starts => "starts fail",
            Self::Unreachable => "its container has no address",
        }
    }
}

/// What is known of the unit at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sense {
    /// Whether its engine has been found good since its container last started.
    pub(crate) is_good: bool,
    /// What is wrong with its engine, if anything.
    pub(crate) ail: Option<Ail>,
    /// Streams on it.
    pub(crate) taken: u32,
    /// Whether an engine whose container runs may be mended now: not while many
    /// ail together.
    pub(crate) may_mend: bool,
}

/// Why an engine is taken away or made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// More engines than are needed.
    Surplus,
    /// Somebody asked for it.
    Asked,
    /// It was made from other settings than those in force.
    Drifted,
    /// It has run for long enough.
    Age,
    /// It has played enough sessions.
    Sessions,
    /// It takes too much memory.
    Memory,
    /// It takes too much CPU.
    Cpu,
    /// It has too many processes.
    Pids,
    /// It has written too much to its disk.
    Disk,
}

impl Leave {
    /// For people, logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Surplus => "surplus",
            Self::Asked => "asked",
            Self::Drifted => "drifted",
            Self::Age => "age",
            Self::Sessions => "sessions",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Disk => "disk",
        }
    }
}

/// What follows once an engine is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Its container is restarted.
    Restart,
    /// It gets another container.
    Remake,
    /// It goes for good.
    Remove,
    /// Nothing: it is kept empty until somebody says otherwise.
    Hold,
}

/// What is done to the container; one deed at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Create and start.
    Make,
    /// Ask how it ended, and start it again.
    Revive,
    /// Ask how it ended, remove it, create and start another.
    Remake,
    /// Ask how it ended, and remove it.
    Bury,
    /// Freeze its processes.
    Pause,
    /// Let them go on.
    Unpause,
    /// Stop it in order, and remove it.
    Dispose,
}

impl Deed {
    /// For people.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Revive => "restart",
            Self::Remake => "recreate",
            Self::Bury => "clear away",
            Self::Pause => "pause",
            Self::Unpause => "wake",
            Self::Dispose => "remove",
        }
    }
}

/// Why a deed failed, as far as that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Docker does not answer: nothing is known of the engine.
    Daemon,
    /// The container is not there any more.
    Gone,
    /// Docker refuses, or it does not work.
    Refused,
}

/// What somebody or the policy wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Keep it empty.
    Drain,
    /// Use it again.
    Undrain,
    /// Empty it, and restart it.
    Restart,
    /// Empty it, and make it anew.
    Remake(Leave),
    /// Empty it, and take it away.
    Remove(Leave),
    /// Take it away now, whoever is on it.
    Kill,
    /// Freeze it until it is needed.
    Pause,
    /// It is needed.
    Wake,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A deed is over.
    Done(Deed, Result<(), Fault>),
    /// A list is there, which was begun then.
    Seen(Look, Monotonic),
    /// An order.
    Order(Order),
    /// Time passed.
    Tick,
}

/// What must now be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// To the container.
    Do(Deed),
    /// Its engine gets no more streams, and those it has move away.
    Drain,
    /// Its engine is used again.
    Undrain,
    /// Its engine is not to be used or probed until [`Effect::Wake`].
    Shelve,
    /// Its engine may be used at once.
    Wake,
    /// For the journal.
    Tell(Tidings),
}

/// What the journal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tidings {
    /// It takes streams, so long after its container was started.
    Ready {
        /// From the start of its container.
        took: Duration,
    },
    /// Something is wrong with it.
    Ails(Ail),
    /// It is well again by itself.
    Recovered,
    /// It did not become ready in time.
    BootLimit(Duration),
    /// Its container has ended.
    Died,
    /// Somebody has removed its container.
    Vanished,
    /// Somebody has frozen its container.
    Frozen,
    /// It is mended by this.
    Mends(Deed),
    /// It is left alone for this long.
    Quarantined(Duration),
    /// It is being emptied.
    Drains(Then),
    /// Its streams did not leave in time.
    Forced {
        /// Streams still there.
        taken: u32,
    },
    /// It is kept frozen.
    Shelved,
    /// It is in use again.
    Woken,
    /// It is gone.
    Left,
}
