//! A stream's chain with what time it is in it.

use std::{
    borrow::Cow,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use millrace_boundary::Monotonic;
use millrace_media::ts::{NULL_PACKET, Psi};

use super::{
    adrift::{Adrift, Way},
    ahead::{Backlog, Leap},
    jumps::Jumps,
    pace::Playout,
    reader::AHEAD_LIMIT,
    watch::{Verdict, Watch},
};
use crate::{
    context::Limits,
    hls::{Maker, Now},
    segment::{Candidate, ChainWriter, Fit, STOCK, Window},
};

/// Jumps mended in one go at most; what has more goes on as it came.
const MOST_AT_ONCE: usize = 16;
/// A stock is read so many times as fast as it plays, with pauses within this.
const FASTER: u32 = 4;
const LEISURE_LEAST: Duration = Duration::from_millis(1);
const LEISURE_MOST: Duration = Duration::from_millis(200);
/// Held back for so long at most until the clock tells on which side of a jump
/// packets are: ten times what it may take.
const LONGEST_HELD: Duration = Duration::from_secs(1);

/// The chain, playout, and the watch over who writes it.
#[derive(Debug)]
pub(super) struct Chain {
    writer: ChainWriter,
    maker: Maker,
    /// There is something new for HLS players since that was last asked.
    has_news: bool,
    /// Nothing is shown to players yet: one that began while what the engine has
    /// sent ahead is being read would see the live edge leap.
    leap: Option<Leap>,
    playout: Playout,
    watch: Watch,
    /// When something was last appended, filler included.
    appended: Monotonic,
    /// Until when what the engine has sent ahead lasts, where that is a stock.
    stocked_until: Monotonic,
    jumps: Jumps,
    /// Packets of which the clock has yet to tell whether they come behind a
    /// jump.
    held: Vec<u8>,
    held_since: Option<Monotonic>,
    /// Of what its source had brought when it took over, what is to be published
    /// yet.
    backlog: Option<Backlog>,
    /// What came since the clock jumped without a word, or since somebody said that
    /// what follows does not continue, until it is known how it goes on.
    adrift: Option<Adrift>,
    /// Jumps mended.
    mended: u64,
}

impl Chain {
    /// Begins with all that `candidate` has, to be published by and by with
    /// [`Self::pump`].
    ///
    /// # Errors
    /// When the process has no descriptor or memory left.
    pub(super) fn begin(
        window: Arc<Window>,
        maker: Maker,
        candidate: Candidate,
        now: Monotonic,
    ) -> io::Result<Self> {
        window.set_filling(true);
        let leap = Leap::begin(now, maker.comes());
        let mut chain = Self {
            writer: ChainWriter::new(window, now)?,
            maker,
            has_news: false,
            leap: Some(leap),
            playout: Playout::new(now),
            watch: Watch::new(),
            appended: now,
            stocked_until: now,
            jumps: Jumps::new(),
            held: Vec::new(),
            held_since: None,
            backlog: None,
            adrift: None,
            mended: 0,
        };
        chain.take_over(candidate, 0, now)?;
        Ok(chain)
    }

    /// Goes on with what `candidate` has from its byte `at` on.
    fn take_over(&mut self, candidate: Candidate, at: usize, now: Monotonic) -> io::Result<()> {
        let psi = candidate.psi().cloned();
        self.backlog = Some(Backlog::new(candidate.into_bytes(), at, psi));
        self.pump(now).map(drop)
    }

    /// Publishes some of what a source had brought when it took over; says whether
    /// there is more. Minutes of stream at once would hold the shard up.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn pump(&mut self, now: Monotonic) -> io::Result<bool> {
        let Some(mut backlog) = self.backlog.take() else { return Ok(false) };
        let (piece, psi) = backlog.next();
        self.go_on(piece, psi, now)?;
        self.backlog = Some(backlog).filter(|backlog| !backlog.is_over());
        Ok(self.backlog.is_some())
    }

    /// Publishes all of that.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn flush(&mut self, now: Monotonic) -> io::Result<()> {
        while self.pump(now)? {}
        Ok(())
    }

    /// Whether there is any of that.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog.is_some()
    }

    /// Publishes whole packets of the active source. Where its clock jumps and
    /// nothing signals that, what follows is held back up to the next join
    /// point, and goes on there with the discontinuity signalled.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn append(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        self.flush(now)?;
        self.go_on(packets, None, now)
    }

    fn go_on(&mut self, packets: &[u8], psi: Option<&Arc<Psi>>, now: Monotonic) -> io::Result<()> {
        if let Some(adrift) = &mut self.adrift {
            adrift.push(packets);
            return self.find_way().map_or(Ok(()), |packets| self.judge(packets, psi, now));
        }
        if self.held.is_empty() {
            return self.judge(packets, psi, now);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(packets);
        self.judge(held, psi, now)
    }

    /// What is appended from now on does not continue what was: unless its
    /// counters and its clock do, or it has the chain's own end, it is held back
    /// up to the next join point, and goes on there with the discontinuity
    /// signalled.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn break_off(&mut self, now: Monotonic) -> io::Result<()> {
        self.flush(now)?;
        let held = self.take_held();
        self.adrift = Some(Adrift::told());
        if held.is_empty() { Ok(()) } else { self.publish(&held, now) }
    }

    /// The clock is where the PSI of the chain says, or else `psi`.
    fn judge<'a>(
        &mut self,
        packets: impl Into<Cow<'a, [u8]>>,
        psi: Option<&Arc<Psi>>,
        now: Monotonic,
    ) -> io::Result<()> {
        let mut packets = packets.into();
        for _ in 0..MOST_AT_ONCE {
            let pid = self.writer.psi().or(psi).and_then(|psi| psi.pcr_pid());
            let cut = self.jumps.look(&packets, pid);
            let (before, after) = packets.split_at(cut.goes_on);
            self.publish(before, now)?;
            if !cut.has_jumped {
                self.held_since = (!after.is_empty()).then(|| self.held_since.unwrap_or(now));
                self.held = after.to_vec();
                return Ok(());
            }
            self.mended += 1;
            self.adrift = Some(Adrift::jumped(after));
            match self.find_way() {
                Some(joined) => packets = joined.into(),
                None => return Ok(()),
            }
        }
        self.publish(&packets, now)
    }

    /// What goes on behind a jump or a break, once it is known.
    fn find_way(&mut self) -> Option<Vec<u8>> {
        let packets = match self.adrift.as_ref()?.way(&self.writer, &self.jumps)? {
            Way::On(packets) => packets,
            Way::Anew(packets) => {
                self.jumps = Jumps::new();
                packets
            }
        };
        self.adrift = None;
        Some(packets)
    }

    fn take_held(&mut self) -> Vec<u8> {
        self.held_since = None;
        self.jumps.forget_held();
        std::mem::take(&mut self.held)
    }

    fn publish(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        self.appended = now;
        self.writer.append(packets, now)?;
        self.show(now)
    }

    /// Shows HLS players what is live by now.
    fn show(&mut self, now: Monotonic) -> io::Result<()> {
        if self.leap.is_some() {
            return Ok(());
        }
        // Of minutes that an engine has sent ahead as much as of any other stream.
        let live = self.writer.head().min(self.playout.at() + STOCK);
        let now = Now { monotonic: now, wall: SystemTime::now(), live };
        self.has_news |= self.maker.advance(&mut self.writer, now)?;
        Ok(())
    }

    /// Whether there is something new for HLS players since this was last asked.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Publishes a packet of filler.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn fill(&mut self, now: Monotonic) -> io::Result<()> {
        self.publish(&NULL_PACKET, now)
    }

    /// Jumps of a source's clock that were mended.
    pub(super) fn mended(&self) -> u64 {
        self.mended
    }

    /// How `candidate` goes on from the chain's end: by what both have, or where
    /// they have nothing in common, by its counters and its clock.
    pub(super) fn fit(&self, candidate: &Candidate) -> Fit {
        let fit = candidate.fit(&self.writer);
        let is_clear = self.held.is_empty() && self.adrift.is_none() && self.backlog.is_none();
        let pid = self.writer.psi().and_then(|psi| psi.pcr_pid());
        let is_next = |pid| self.jumps.is_next(candidate.bytes(), pid);
        match fit {
            Fit::Apart(_) | Fit::Unknown if is_clear && pid.is_some_and(is_next) => Fit::Exact(0),
            fit => fit,
        }
    }

    /// Goes on with what `candidate` has: exactly where the chain ends, or else
    /// at a join point with the discontinuity signalled. Says which. All of it is
    /// published by and by with [`Self::pump`].
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn splice(&mut self, candidate: Candidate, now: Monotonic) -> io::Result<&'static str> {
        self.flush(now)?;
        let fit = self.fit(&candidate);
        self.watch.restart();
        self.take_held();
        self.adrift = None;
        let join = match fit {
            Fit::Exact(from) => {
                self.take_over(candidate, from, now)?;
                return Ok("exactly where the chain ends");
            }
            Fit::Apart(Some(join)) => Some(join),
            Fit::Apart(None) | Fit::Behind | Fit::Unknown => candidate.newest_join().cloned().map(Box::new),
        };
        self.jumps = Jumps::new();
        let Some(join) = join else { return Ok("from its next packet") };
        // It may have jumped while it was a challenger.
        let at = candidate.place_of(&join);
        self.append(&candidate.preface(&join), now)?;
        self.take_over(candidate, at, now)?;
        Ok("at a join point, discontinuity signalled")
    }

    /// What is published, and what is known of it.
    pub(super) fn writer(&self) -> &ChainWriter {
        &self.writer
    }

    /// Moves playout on, lets go of what lies behind it, and says whether there
    /// is room for more.
    pub(super) fn make_room(&mut self, limits: Limits, now: Monotonic) -> bool {
        let head = self.writer.head();
        let at = self.playout.advance(now, head);
        self.writer.window().set_playout(at);
        let ahead = head.saturating_sub(at);
        if ahead > STOCK {
            self.stocked_until = now + ahead;
        }
        self.maker.limit(limits.segments);
        self.writer.trim(at, limits.time, limits.bytes);
        self.writer.kept_bytes() <= limits.bytes
    }

    /// Looks at the clock, and at what the source has brought of late.
    pub(super) fn look(&mut self, limits: Limits, now: Monotonic) -> Option<Verdict> {
        if self.held_since.is_some_and(|since| now.since(since) >= LONGEST_HELD) {
            let held = self.take_held();
            // Without memory for these there is none for what follows, which tells.
            self.publish(&held, now).ok();
        }
        self.make_room(limits, now);
        self.look_at_leap(now);
        // Without memory for it there is none for what follows, which tells.
        self.show(now).ok();
        let (head, at) = (self.writer.head(), self.playout.at());
        let mut verdict = self.watch.look(head, at, now);
        for point in self.writer.take_points() {
            verdict = self.watch.point(point).or(verdict);
        }
        verdict
    }

    /// Whether what the engine has sent ahead is read by now.
    fn look_at_leap(&mut self, now: Monotonic) {
        let head = self.writer.head();
        if let Some(leap) = &mut self.leap
            && !leap.goes_on(head, now)
        {
            self.land();
        }
    }

    /// What the engine has sent ahead is read.
    pub(super) fn land(&mut self) {
        if self.leap.take().is_some() {
            self.writer.window().set_filling(false);
        }
    }

    /// For how long nothing was appended.
    pub(super) fn quiet_for(&self, now: Monotonic) -> Duration {
        now.since(self.appended)
    }

    /// What to pause between two reads for where the engine has sent more ahead than
    /// the usual prebuffer: so that it is read faster than it plays, and floods
    /// leave the core to others.
    pub(super) fn leisure(&self, now: Monotonic) -> Option<Duration> {
        let read = AHEAD_LIMIT as f64 / self.writer.published().max(1) as f64;
        let plays_for = self.writer.head().mul_f64(read.min(1.0));
        self.has_stock(now).then(|| (plays_for / FASTER).clamp(LEISURE_LEAST, LEISURE_MOST))
    }

    /// Whether the engine has sent more ahead than the usual prebuffer.
    pub(super) fn has_stock(&self, now: Monotonic) -> bool {
        now < self.stocked_until
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
