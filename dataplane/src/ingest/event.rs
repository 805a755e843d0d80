//! What happens to a stream, and what is then to be done: the words between its
//! life and those who run it.

use millrace_boundary::Cause;

/// A source of one stream, in the order of their beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceId(pub(super) u32);

/// What a source is begun for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The stream starts, or has lost its source.
    Needed,
    /// Another one takes long, is silent, or is distrusted.
    Hedge,
    /// The active one is to be left.
    Migration,
    /// In case the active one is lost.
    Standby,
}

impl Why {
    /// The word used in timelines.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Needed => "asked",
            Self::Hedge => "hedged",
            Self::Migration => "migrating",
            Self::Standby => "standby",
        }
    }
}

/// What happens to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody watches or waits.
    Watched,
    /// Nobody does any more.
    Unwatched,
    /// No engine can be had for this source.
    Unavailable(SourceId, Cause),
    /// No engine can be had for this source now, and one may be in a while.
    NoSlot(SourceId, Cause),
    /// A slot may be free, and nobody who waits for longer wants it.
    Called,
    /// An engine's slot was had for this source.
    Slot(SourceId),
    /// The engine proves that it gets somewhere.
    Progress(SourceId),
    /// What a challenger has brought can be played from now on.
    Ready(SourceId),
    /// A challenger plays what the chain has already, and does not catch up.
    Behind(SourceId),
    /// The active source delivered.
    Bytes,
    /// A source has ended.
    Failed(SourceId, Cause),
    /// The active source delivers, but not what it should.
    Distrusted,
    /// The active source is to be left for another engine.
    Migrate,
    /// Whether a source on standby is wanted.
    Guard(bool),
    /// Time passed.
    Tick,
    /// Nobody was there to be let go, and nobody can enter any more.
    Closed,
    /// The server is ending.
    Drain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Begin a source with an engine.
    Start(SourceId, Why),
    /// From now on this source writes the chain.
    Promote(SourceId),
    /// End a source and its session on the engine.
    Stop(SourceId),
    /// Close the door if still nobody is there, and say so with `Closed`.
    LetGo,
    /// The session is over; every source has been stopped.
    End(Cause),
}
