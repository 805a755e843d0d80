//! Whose fault an end is.

use millrace_boundary::Cause;

/// Who is to answer for a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The engine: counts towards pausing it.
    Engine,
    /// Engine or swarm, one start alone cannot tell: makes the engine a later
    /// choice for a while, and pauses nothing.
    Unclear,
    /// The content, the viewers or this server: never held against an engine.
    Elsewhere,
}

impl Blame {
    /// Total on purpose: a new cause does not compile until it is judged.
    pub(crate) const fn of(cause: Cause) -> Self {
        match cause {
            Cause::EngineUnreachable
            | Cause::EngineSilent
            | Cause::EngineError
            | Cause::EngineClosed
            | Cause::EngineReset => Self::Engine,
            // A channel nobody seeds looks the same as an engine that lost its
            // peers. Were it the engine's, one player retrying one dead channel
            // would close a small fleet to everybody.
            Cause::StartTimeout
            | Cause::StartFailed
            | Cause::Stalled
            | Cause::NotTransportStream
            | Cause::NoPeers
            | Cause::PeersWithoutData
            | Cause::SessionLost => Self::Unclear,
            Cause::ViewersLeft
            | Cause::ShuttingDown
            | Cause::Stopped
            | Cause::Merged
            | Cause::NoEngine
            | Cause::EnginesFull
            | Cause::AtCapacity
            | Cause::ContentUnavailable
            | Cause::ContentRestricted
            | Cause::ContentEnded
            | Cause::ContentBlocked => Self::Elsewhere,
        }
    }
}
