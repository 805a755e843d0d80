//! A stream's chain with what time it is in it.

use std::{io, sync::Arc, time::Duration};

use millrace_boundary::Monotonic;

use super::{
    pace::Playout,
    watch::{Verdict, Watch},
};
use crate::{
    config::StreamConfig,
    segment::{Candidate, ChainWriter, Fit, STOCK, Window},
};

/// The chain, playout, and the watch over who writes it.
#[derive(Debug)]
pub(super) struct Chain {
    writer: ChainWriter,
    playout: Playout,
    watch: Watch,
    /// When something was last appended, filler included.
    appended: Monotonic,
    /// Until when what the engine has sent ahead lasts, where that is a stock.
    stocked_until: Monotonic,
}

impl Chain {
    /// Begins with all that `candidate` has.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left.
    pub(super) fn begin(window: Arc<Window>, candidate: &Candidate, now: Monotonic) -> io::Result<Self> {
        let mut chain = Self {
            writer: ChainWriter::new(window, now)?,
            playout: Playout::new(now),
            watch: Watch::new(),
            appended: now,
            stocked_until: now,
        };
        chain.append(candidate.bytes(), now)?;
        Ok(chain)
    }

    /// Publishes whole packets.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn append(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        self.appended = now;
        self.writer.append(packets, now)
    }

    /// Goes on with what `candidate` has: exactly where the chain ends, or else
    /// at a join point with the discontinuity signalled. Says which.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn splice(&mut self, candidate: &Candidate, now: Monotonic) -> io::Result<&'static str> {
        self.watch.restart();
        let join = match candidate.fit(&self.writer) {
            Fit::Exact(from) => {
                self.append(&candidate.bytes()[from..], now)?;
                return Ok("exactly where the chain ends");
            }
            Fit::Apart(Some(join)) => Some(join),
            Fit::Apart(None) | Fit::Behind | Fit::Unknown => candidate.newest_join().cloned().map(Box::new),
        };
        let Some(join) = join else { return Ok("from its next packet") };
        self.append(&candidate.packets_from(&join), now)?;
        Ok("at a join point, discontinuity signalled")
    }

    /// What is published, and what is known of it.
    pub(super) fn writer(&self) -> &ChainWriter {
        &self.writer
    }

    /// Moves playout on, lets go of what lies behind it, and says whether there
    /// is room for more.
    pub(super) fn make_room(&mut self, config: &StreamConfig, now: Monotonic) -> bool {
        let head = self.writer.head();
        let at = self.playout.advance(now, head);
        self.writer.window().set_playout(at);
        let ahead = head.saturating_sub(at);
        if ahead > STOCK {
            self.stocked_until = now + ahead;
        }
        self.writer.trim(at, config.window, config.window_bytes);
        self.writer.kept_bytes() <= config.window_bytes
    }

    /// Looks at the clock, and at what the source has brought of late.
    pub(super) fn look(&mut self, config: &StreamConfig, now: Monotonic) -> Option<Verdict> {
        self.make_room(config, now);
        let (head, at) = (self.writer.head(), self.playout.at());
        let mut verdict = self.watch.look(head, at, now);
        for point in self.writer.take_points() {
            verdict = self.watch.point(point).or(verdict);
        }
        verdict
    }

    /// For how long nothing was appended.
    pub(super) fn quiet_for(&self, now: Monotonic) -> Duration {
        now.since(self.appended)
    }

    /// Whether the engine has sent more ahead than the usual prebuffer.
    pub(super) fn has_stock(&self, now: Monotonic) -> bool {
        now < self.stocked_until
    }
}
