//! Where real time is in a stream, whatever the pace it arrives at.

use std::time::Duration;

use millrace_boundary::Monotonic;

/// The place of a viewer who has watched from the start without a pause.
///
/// Moves with the clock and waits at the head. Most engines run 10 to 15 s
/// ahead of it for as long as they play; some send minutes at line speed and
/// then nothing for as long. Retention, joining and the pace of reading are
/// measured from here, so that such a stock is neither lost nor skipped.
#[derive(Debug)]
pub(crate) struct Playout {
    at: Duration,
    last: Monotonic,
}

impl Playout {
    /// Starts at stream time zero.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self { at: Duration::ZERO, last: now }
    }

    /// Moves on to `now`, at most to `head`; returns the stream time reached.
    pub(crate) fn advance(&mut self, now: Monotonic, head: Duration) -> Duration {
        self.at = (self.at + now.since(self.last)).min(head);
        self.last = now;
        self.at
    }

    /// The stream time reached.
    pub(crate) fn at(&self) -> Duration {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playout_runs_with_the_clock_and_never_past_the_head() {
        let s = Duration::from_secs;
        let mut playout = Playout::new(Monotonic(s(100)));
        for (name, now, head, at) in [
            ("a burst is not played at once", 100, 300, 0),
            ("with the clock", 110, 300, 10),
            ("silence of the engine is played off", 400, 300, 300),
            ("and waits at the head", 500, 301, 301),
            ("a clock that steps back does nothing", 450, 400, 301),
            ("then goes on", 460, 400, 311),
        ] {
            assert_eq!(playout.advance(Monotonic(s(now)), s(head)), s(at), "{name}");
        }
    }
}
