//! A stream's chain with what time it is in it.

use std::{io, sync::Arc, time::Duration};

use millrace_boundary::Monotonic;
use millrace_media::ts::{JoinPoint, NULL_PACKET, PACKET_LEN, Packet};

use super::{
    pace::Playout,
    watch::{Verdict, Watch},
};
use crate::{
    config::StreamConfig,
    segment::{Candidate, ChainWriter, Fit, STOCK, Window},
};

/// A clock that goes on by more than this, or back by more than [`BACKWARDS`],
/// without saying so has jumped; less is jitter, or lost packets.
const FORWARDS: Duration = Duration::from_secs(8);
const BACKWARDS: Duration = Duration::from_secs(1);
/// Held back at most while some stream behind the join point has no packet.
const UNCOUNTED_BYTES: usize = 1 << 20;
/// Held back at most while a join point is waited for.
const ADRIFT_BYTES: usize = 8 << 20;

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
    /// What came since the clock jumped without a word, until it can be joined.
    adrift: Option<Candidate>,
    /// Jumps mended.
    jumps: u64,
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
            adrift: None,
            jumps: 0,
        };
        chain.append(candidate.bytes(), now)?;
        Ok(chain)
    }

    /// Publishes whole packets of the active source. Where its clock jumps and
    /// nothing signals that, what follows is held back up to the next join
    /// point, and goes on there with the discontinuity signalled.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn append(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        if self.adrift.is_some() {
            return self.drift(packets, now);
        }
        let (before, after) = packets.split_at(self.jump(packets).unwrap_or(packets.len()));
        self.publish(before, now)?;
        if after.is_empty() {
            return Ok(());
        }
        self.jumps += 1;
        self.adrift = Some(Candidate::new());
        self.drift(after, now)
    }

    fn drift(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        let Some(mut candidate) = self.adrift.take() else { return Ok(()) };
        candidate.push(packets);
        let is_whole =
            |join: &&JoinPoint| candidate.knows_counters_at(join) || candidate.len() > UNCOUNTED_BYTES;
        match candidate.first_join().filter(is_whole) {
            Some(join) => self.publish(&candidate.packets_from(join), now),
            // Without a place to join it goes on as it came.
            None if candidate.len() > ADRIFT_BYTES => self.publish(candidate.bytes(), now),
            None => {
                self.adrift = Some(candidate);
                Ok(())
            }
        }
    }

    /// Where in `packets` the clock jumps and nothing signals it: behind the
    /// last packet that told the old time, since nobody can say to which side
    /// of the jump those without a clock belong.
    fn jump(&self, packets: &[u8]) -> Option<usize> {
        let pid = self.writer.psi()?.pcr_pid()?;
        let mut last = self.writer.last_pcr()?;
        let mut behind_last = 0;
        for (i, bytes) in packets.as_chunks::<PACKET_LEN>().0.iter().enumerate() {
            let packet = Packet::new(bytes);
            if packet.pid() != pid || !packet.has_sync() || packet.transport_error() {
                continue;
            }
            let Some(pcr) = packet.pcr() else { continue };
            let (forwards, backwards) = (pcr.since(last), last.since(pcr));
            let has_jumped = if forwards <= backwards { forwards > FORWARDS } else { backwards > BACKWARDS };
            if has_jumped && !packet.discontinuity() {
                return Some(behind_last);
            }
            last = pcr;
            behind_last = (i + 1) * PACKET_LEN;
        }
        None
    }

    fn publish(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        self.appended = now;
        self.writer.append(packets, now)
    }

    /// Publishes a packet of filler.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn fill(&mut self, now: Monotonic) -> io::Result<()> {
        self.publish(&NULL_PACKET, now)
    }

    /// Jumps of a source's clock that were mended.
    pub(super) fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Goes on with what `candidate` has: exactly where the chain ends, or else
    /// at a join point with the discontinuity signalled. Says which.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn splice(&mut self, candidate: &Candidate, now: Monotonic) -> io::Result<&'static str> {
        self.watch.restart();
        self.adrift = None;
        let join = match candidate.fit(&self.writer) {
            Fit::Exact(from) => {
                self.append(&candidate.bytes()[from..], now)?;
                return Ok("exactly where the chain ends");
            }
            Fit::Apart(Some(join)) => Some(join),
            Fit::Apart(None) | Fit::Behind | Fit::Unknown => candidate.newest_join().cloned().map(Box::new),
        };
        let Some(join) = join else { return Ok("from its next packet") };
        // It may have jumped while it was a challenger.
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

#[cfg(test)]
mod tests {
    use millrace_media::ts::{ContinuityChecker, Pcr, Verdict as Count};

    use super::*;
    use crate::segment::tests::{Maker, read};

    const SECOND: u64 = 27_000_000;

    /// What a viewer reads of a stream whose clock stands at `clock` from the
    /// 500th packet on, and how many jumps were mended.
    fn seen(clock: u64) -> (Vec<u8>, u64) {
        let mut maker = Maker::new();
        maker.set_clock(100 * SECOND);
        let mut first = maker.psi(0);
        first.extend(maker.run(500, 50));
        let mut candidate = Candidate::new();
        candidate.push(&first);
        let window = Arc::<Window>::default();
        let now = Monotonic(Duration::from_secs(1));
        let mut chain = Chain::begin(Arc::clone(&window), &candidate, now).unwrap();
        maker.set_clock(clock);
        let mut second = maker.run(10, 100);
        second.extend(maker.psi(0));
        second.extend(maker.run(500, 50));
        for piece in second.chunks(7 * PACKET_LEN) {
            chain.append(piece, now).unwrap();
        }
        let (mut cursor, _) = window.join(Duration::from_secs(1_000)).unwrap();
        (read(&mut cursor), chain.jumps())
    }

    #[test]
    fn a_clock_that_jumps_without_a_word_is_mended_and_jitter_is_not() {
        // At 25 packets a second the clock would stand at 120 s.
        let ticks = |millis: u64| millis * SECOND / 1_000;
        for (name, clock, jumps) in [
            ("goes on", ticks(120_000), 0),
            ("50 ms of jitter", ticks(119_950), 0),
            ("two seconds lost", ticks(122_000), 0),
            ("ten seconds on", ticks(130_000), 1),
            ("ten seconds back", ticks(110_000), 1),
            ("from zero", 0, 1),
            ("from the end of its range", Pcr::MODULUS - SECOND * 40, 1),
        ] {
            let (bytes, mended) = seen(clock);
            assert_eq!(mended, jumps, "{name}");
            let packets = bytes.as_chunks::<PACKET_LEN>().0;
            // Without a jump nothing is held back; else all before the next join point.
            let expected = if jumps == 0 { 1_012 } else { 1_000 + 3 };
            assert_eq!(packets.len(), expected, "{name}");
            let mut checker = ContinuityChecker::new();
            let right = packets.iter().all(|p| !matches!(checker.check(Packet::new(p)), Count::Error { .. }));
            assert!(right, "{name}: a continuity error");
            let signals = packets.iter().filter(|p| Packet::new(p).discontinuity()).count();
            assert_eq!(signals > 0, jumps > 0, "{name}");
        }
    }
}
