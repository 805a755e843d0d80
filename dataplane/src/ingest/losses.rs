//! Engines that were just found to be gone.

use std::{collections::VecDeque, time::Duration};

use millrace_boundary::{Cause, EngineId, Monotonic};

/// By then a probe has told, and the engine table says what is known.
const TELLS: Duration = Duration::from_secs(2);
/// Remembered at most; of more, the newest.
const MOST: usize = 256;

/// What a shard has seen of engines, and the table that it has may not say yet.
#[derive(Debug, Default)]
pub(crate) struct Losses(VecDeque<(Monotonic, EngineId)>);

impl Losses {
    /// A connection to `engine` broke off or was refused for `cause`.
    pub(super) fn note(&mut self, engine: EngineId, cause: Cause, now: Monotonic) {
        if !matches!(cause, Cause::EngineReset | Cause::EngineClosed | Cause::EngineUnreachable) {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, engine));
    }

    /// Those that had better not be asked now if others can be.
    pub(super) fn engines(&mut self, now: Monotonic) -> impl Iterator<Item = EngineId> {
        while self.0.front().is_some_and(|(at, _)| now.since(*at) >= TELLS) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, engine)| *engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_just_gone_is_told_for_two_seconds() {
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let mut losses = Losses::default();
        for (engine, cause, seconds) in [
            (1, Cause::EngineReset, 10),
            (2, Cause::ContentUnavailable, 10),
            (3, Cause::EngineUnreachable, 11),
            (4, Cause::EngineClosed, 11),
        ] {
            losses.note(EngineId(engine), cause, at(seconds));
        }
        for (seconds, told) in [(11, &[1, 3, 4][..]), (12, &[3, 4]), (13, &[])] {
            let engines: Vec<_> = losses.engines(at(seconds)).map(|engine| engine.0).collect();
            assert_eq!(engines, told, "{seconds} s");
        }
        for engine in 0..1_000 {
            losses.note(EngineId(engine), Cause::EngineReset, at(20));
        }
        let newest: Vec<_> = losses.engines(at(20)).collect();
        assert_eq!((newest.len(), newest.first()), (MOST, Some(&EngineId(744))));
    }
}
