//! What happens to an engine, and what that asks for.

use std::time::Duration;

use millrace_boundary::{EngineEvidence, EngineState, Monotonic};

use crate::probe::{Answer, ProbeFailure};

/// What happened to the engine.
#[derive(Debug)]
pub(crate) enum Event {
    /// A probe is over.
    Probed(Result<Answer, ProbeFailure>),
    /// A shard learned something from using it.
    Used(EngineEvidence),
    /// Somebody wants it emptied.
    Drain,
    /// Somebody wants it used again.
    Undrain,
    /// It is kept ready for later, and answers nothing until it is woken.
    Paused,
    /// It is wanted now.
    Woken,
    /// Time passed.
    Tick,
}

/// How much the engine may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As many streams as it has slots.
    All,
    /// One more stream than it plays now.
    One,
}

/// What must now be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The published state changed.
    Turned {
        /// Before.
        from: EngineState,
        /// Now.
        to: EngineState,
        /// What turned it.
        why: Why,
    },
    /// Room for streams changed.
    Admit(Admission),
    /// The next probe should not wait for its turn.
    ProbeSoon,
    /// The next probe shall come this soon, unless it is due before.
    ProbeIn(Duration),
}

/// What turned an engine's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its API answers.
    ApiAnswers,
    /// Its API does not.
    ApiFails(ProbeFailure),
    /// It has no network, and a start failed.
    Offline,
    /// Starts fail in a row while the API is fine; paused for this long.
    StartsFail(Duration),
    /// The pause is over: one trial.
    PauseOver,
    /// A start worked.
    StartsWork,
    /// Somebody has asked for it to be emptied.
    DrainAsked,
    /// Somebody has asked for it to be used again.
    DrainUndone,
    /// It is kept for later.
    KeptForLater,
    /// It is wanted again.
    Wanted,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ApiAnswers => f.write_str("its API answers"),
            Self::ApiFails(failure) => write!(f, "its API fails: {failure}"),
            Self::Offline => f.write_str("it has no network and starts fail"),
            Self::StartsFail(pause) => write!(f, "starts fail, paused for {pause:?}"),
            Self::PauseOver => f.write_str("the pause is over, one trial"),
            Self::StartsWork => f.write_str("a start worked"),
            Self::DrainAsked => f.write_str("it is to be emptied"),
            Self::DrainUndone => f.write_str("it is not to be emptied any more"),
            Self::KeptForLater => f.write_str("it is paused, and kept for later"),
            Self::Wanted => f.write_str("it is woken"),
        }
    }
}

/// How a probe ended, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastProbe {
    /// When it was over.
    pub(crate) at: Monotonic,
    /// What was wrong, if anything.
    pub(crate) failure: Option<ProbeFailure>,
}
