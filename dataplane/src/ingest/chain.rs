//! A stream's chain with what time it is in it.

use std::{
    borrow::Cow,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use millrace_boundary::Monotonic;
use millrace_media::ts::{NULL_PACKET, PACKET_LEN, Psi};

use super::{
    adrift::{Adrift, Way},
    jumps::Jumps,
    pace::Playout,
    reader::AHEAD_LIMIT,
    watch::{Verdict, Watch},
};
use crate::{
    config::StreamConfig,
    hls::{Maker, Now},
    segment::{Candidate, ChainWriter, Fit, STOCK, Window},
};

/// Jumps mended in one go at most; what has more goes on as it came.
const MOST_AT_ONCE: usize = 16;
/// Of what a source had brought when it took over, published at once.
const PIECE: usize = AHEAD_LIMIT / PACKET_LEN * PACKET_LEN;
/// A stock is read so many times as fast as it plays, with pauses within this.
const FASTER: u32 = 4;
const LEISURE_LEAST: Duration = Duration::from_millis(1);
const LEISURE_MOST: Duration = Duration::from_millis(200);
/// What an engine sends ahead when a stream begins comes at more than so many
/// times the pace of real time.
const LEAP: u32 = 4;
/// It is waited for this long at most.
const LONGEST_LEAP: Duration = Duration::from_secs(1);
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

/// Whole packets of which those before a place are published.
#[derive(Debug)]
struct Backlog {
    bytes: Vec<u8>,
    at: usize,
    /// Their PSI, should the chain have none.
    psi: Option<Arc<Psi>>,
}

/// How far a chain was when somebody last looked.
#[derive(Clone, Copy, Debug)]
struct Leap {
    began: Monotonic,
    looked: Monotonic,
    head: Duration,
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
        let mut chain = Self {
            writer: ChainWriter::new(window, now)?,
            maker,
            has_news: false,
            leap: Some(Leap { began: now, looked: now, head: Duration::ZERO }),
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
        self.backlog = Some(Backlog { bytes: candidate.into_bytes(), at, psi });
        self.pump(now).map(drop)
    }

    /// Publishes some of what a source had brought when it took over; says whether
    /// there is more. Minutes of stream at once would hold the shard up.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn pump(&mut self, now: Monotonic) -> io::Result<bool> {
        let Some(Backlog { bytes, at, psi }) = self.backlog.take() else { return Ok(false) };
        let to = (at + PIECE).min(bytes.len());
        self.go_on(&bytes[at..to], psi.as_ref(), now)?;
        let has_more = to < bytes.len();
        self.backlog = has_more.then_some(Backlog { bytes, at: to, psi });
        Ok(has_more)
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

    /// Goes on with what `candidate` has: exactly where the chain ends, or else
    /// at a join point with the discontinuity signalled. Says which. All of it is
    /// published by and by with [`Self::pump`].
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn splice(&mut self, candidate: Candidate, now: Monotonic) -> io::Result<&'static str> {
        self.flush(now)?;
        self.watch.restart();
        self.take_held();
        self.adrift = None;
        let join = match candidate.fit(&self.writer) {
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
        if self.held_since.is_some_and(|since| now.since(since) >= LONGEST_HELD) {
            let held = self.take_held();
            // Without memory for these there is none for what follows, which tells.
            self.publish(&held, now).ok();
        }
        self.make_room(config, now);
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
        let Some(Leap { began, looked, head: had }) = self.leap else { return };
        let head = self.writer.head();
        let is_leaping = head.saturating_sub(had) > now.since(looked) * LEAP;
        let goes_on = is_leaping && now.since(began) < LONGEST_LEAP;
        self.leap = goes_on.then_some(Leap { began, looked: now, head });
        if !goes_on {
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
mod tests {
    use millrace_media::ts::{ContinuityChecker, Packet, Pcr, Verdict as Count};

    use super::*;
    use crate::{
        config::HlsConfig,
        segment::tests::{Maker, read},
    };

    const SECOND: u64 = 27_000_000;

    fn cut() -> crate::hls::Maker {
        crate::hls::Maker::new(Arc::default(), &HlsConfig::default(), u64::MAX, crate::hls::Comes::Steadily)
    }

    /// What a viewer reads of a stream that begins with `first` and goes on in
    /// `pieces`, and how many jumps were mended.
    fn seen<'a>(first: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, u64) {
        let mut candidate = Candidate::new();
        candidate.push(first);
        let window = Arc::<Window>::default();
        let now = Monotonic(Duration::from_secs(1));
        let mut chain = Chain::begin(Arc::clone(&window), cut(), candidate, now).unwrap();
        for piece in pieces {
            chain.append(piece, now).unwrap();
        }
        chain.flush(now).unwrap();
        window.set_filling(false);
        let (mut cursor, _) = window.join(Duration::from_secs(1_000)).unwrap();
        (read(&mut cursor), chain.mended())
    }

    /// Places where the counters break, and packets that signal a discontinuity.
    fn breaks_and_signals(bytes: &[u8]) -> (usize, usize) {
        let packets = bytes.as_chunks::<PACKET_LEN>().0;
        let mut checker = ContinuityChecker::new();
        let breaks = packets.iter().filter(|p| matches!(checker.check(Packet::new(p)), Count::Error { .. }));
        (breaks.count(), packets.iter().filter(|p| Packet::new(p).discontinuity()).count())
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
            let mut maker = Maker::new();
            maker.set_clock(100 * SECOND);
            let first = [maker.psi(0), maker.run(500, 50)].concat();
            maker.set_clock(clock);
            let second = [maker.run(10, 100), maker.psi(0), maker.run(500, 50)].concat();
            let (bytes, mended) = seen(&first, second.chunks(7 * PACKET_LEN));
            assert_eq!(mended, jumps, "{name}");
            // Without a jump nothing is held back; else all before the next join point.
            let expected = if jumps == 0 { 1_012 } else { 1_000 + 3 };
            assert_eq!(bytes.len() / PACKET_LEN, expected, "{name}");
            let (breaks, signals) = breaks_and_signals(&bytes);
            assert_eq!(breaks, 0, "{name}");
            assert_eq!(signals > 0, jumps > 0, "{name}");
        }
    }

    #[test]
    fn a_source_that_begins_anew_is_mended_wherever_its_bytes_are_split() {
        let lap = || {
            let mut maker = Maker::new();
            (0..4).flat_map(|_| [maker.psi(0), maker.run(13, 13)].concat()).collect::<Vec<_>>()
        };
        let stream = [lap(), lap(), lap(), lap(), lap()].concat();
        for first in [60, 61, 62, 63, 100, 300] {
            for piece in 1..60 {
                let (first, rest) = stream.split_at(first * PACKET_LEN);
                let (bytes, mended) = seen(first, rest.chunks(piece * PACKET_LEN));
                let (breaks, signals) = breaks_and_signals(&bytes);
                // At each of four places PAT, PMT and video say so.
                let place = format!("{} packets first, then {piece} at a time", first.len() / PACKET_LEN);
                assert_eq!((mended, breaks, signals), (4, 0, 12), "{place}");
                // Nothing is left out, or one group where a read ends between PAT and PMT.
                let packets = bytes.len() / PACKET_LEN;
                assert!((300 - 2 - 4 * 15..=300 + 4).contains(&packets), "{place}: {packets}");
            }
        }
    }

    #[test]
    fn a_break_that_is_told_is_signalled_unless_what_comes_goes_on() {
        let mut maker = Maker::new();
        let stream: Vec<u8> = (0..6).flat_map(|_| [maker.psi(0), maker.run(50, 50)].concat()).collect();
        let lap = 52;
        let packets = |from: usize, to: usize| &stream[from * PACKET_LEN..to * PACKET_LEN];
        // What comes first ends at a packet, what follows begins at one, and where
        // that is signalled it goes on at one.
        for (name, end, from, join) in [
            ("nothing is missing", 2 * lap, 2 * lap, None),
            ("nothing, within a group", 2 * lap + 9, 2 * lap + 9, None),
            ("a group comes again", 2 * lap, lap, None),
            ("part of one comes again", 2 * lap + 9, 2 * lap, None),
            ("a group is missing", 2 * lap, 3 * lap, Some(3 * lap + 2)),
            ("part of one is missing", 2 * lap + 9, 3 * lap, Some(3 * lap + 2)),
            ("it goes on within a group", 2 * lap, 3 * lap + 9, Some(4 * lap + 2)),
        ] {
            for piece in 1..60 {
                let mut candidate = Candidate::new();
                candidate.push(packets(0, end));
                let window = Arc::<Window>::default();
                let now = Monotonic(Duration::from_secs(1));
                let mut chain = Chain::begin(Arc::clone(&window), cut(), candidate, now).unwrap();
                chain.break_off(now).unwrap();
                for piece in packets(from, 6 * lap).chunks(piece * PACKET_LEN) {
                    chain.append(piece, now).unwrap();
                }
                window.set_filling(false);
                let (mut cursor, _) = window.join(Duration::from_secs(1_000)).unwrap();
                let seen = read(&mut cursor);
                let place = format!("{name}, {piece} at a time");
                assert_eq!(breaks_and_signals(&seen).0, 0, "{place}");
                match join {
                    None => assert!(stream.ends_with(&seen), "{place}"),
                    Some(join) => {
                        assert!(seen.ends_with(packets(join, 6 * lap)), "{place}");
                        assert!(breaks_and_signals(&seen).1 > 0, "{place}");
                    }
                }
                assert_eq!(chain.mended(), 0, "{place}: the clock is not to blame");
            }
        }
    }

    /// Seconds until what comes is found to starve: `trickle` PAT and PMT, which
    /// have no clock, each second, behind twenty seconds in real time.
    fn starves(trickle: usize) -> Option<u64> {
        let config = StreamConfig::default();
        let start = Monotonic(Duration::from_secs(1_000));
        let mut maker = Maker::new();
        let mut candidate = Candidate::new();
        candidate.push(&[maker.psi(0), maker.run(25, 25)].concat());
        let mut chain = Chain::begin(Arc::default(), cut(), candidate, start).unwrap();
        (1..120).find(|second| {
            let now = start + Duration::from_secs(*second);
            let packets = match second {
                0..20 => maker.run(25, 25),
                _ => (0..trickle).flat_map(|_| maker.psi(0)).collect(),
            };
            chain.append(&packets, now).unwrap();
            let verdict = chain.look(&config, now);
            verdict == Some(Verdict::Starving)
        })
    }

    #[test]
    fn a_trickle_starves_though_no_clock_says_so_and_a_stream_that_lost_its_clock_does_not() {
        let found = starves(1);
        assert!(found.is_some_and(|second| (22..40).contains(&second)), "{found:?}");
        assert_eq!(starves(25), None);
    }

    #[test]
    fn what_is_held_back_is_given_out_in_time_when_no_clock_comes() {
        let start = Monotonic(Duration::from_secs(1_000));
        let mut maker = Maker::new();
        let mut candidate = Candidate::new();
        candidate.push(&[maker.psi(0), maker.run(25, 25)].concat());
        let mut chain = Chain::begin(Arc::default(), cut(), candidate, start).unwrap();
        // Counters from the start again, and no clock.
        chain.append(&Maker::new().psi(0), start).unwrap();
        let config = StreamConfig::default();
        let published = [0, 500, 999, 1_000].map(|millis| {
            chain.look(&config, start + Duration::from_millis(millis));
            chain.writer().published() / PACKET_LEN as u64
        });
        assert_eq!(published, [27, 27, 27, 29]);
    }

    #[test]
    fn a_stock_is_read_four_times_as_fast_as_it_plays() {
        let start = Monotonic(Duration::from_secs(1_000));
        let mut maker = Maker::new();
        let mut candidate = Candidate::new();
        candidate.push(&[maker.psi(0), maker.run(25 * 20, 50)].concat());
        let mut chain = Chain::begin(Arc::default(), cut(), candidate, start).unwrap();
        chain.flush(start).unwrap();
        chain.look(&StreamConfig::default(), start);
        assert_eq!(chain.leisure(start), None, "a prebuffer");
        chain.append(&maker.run(25 * 40, 50), start).unwrap();
        chain.look(&StreamConfig::default(), start);
        // 4,700 bytes a second: what is read at once plays for seconds.
        assert_eq!(chain.leisure(start), Some(LEISURE_MOST), "a minute");
        // With four hundred packets to each of its own.
        chain.append(&NULL_PACKET.repeat(1_500 * 400), start).unwrap();
        let pause = chain.leisure(start).unwrap();
        let pace = AHEAD_LIMIT as f64 / pause.as_secs_f64();
        let own = chain.writer().published() as f64 / chain.writer().head().as_secs_f64();
        assert!((3.9..4.1).contains(&(pace / own)), "{pause:?}: {pace} of {own}");
    }

    #[test]
    fn what_a_source_had_brought_is_published_by_and_by_and_all_of_it_before_what_follows() {
        let start = Monotonic(Duration::from_secs(1_000));
        let mut maker = Maker::new();
        let all = [maker.psi(0), maker.run(1_000, 50)].concat();
        let (had, follows) = all.split_at(900 * PACKET_LEN);
        for pumps in 0..8 {
            let mut candidate = Candidate::new();
            candidate.push(had);
            let window = Arc::<Window>::default();
            let mut chain = Chain::begin(Arc::clone(&window), cut(), candidate, start).unwrap();
            let mut published = vec![chain.writer().published()];
            for _ in 0..pumps {
                let has_more = chain.pump(start).unwrap();
                assert_eq!(has_more, chain.has_backlog(), "{pumps}");
                published.push(chain.writer().published());
            }
            let pieces = (1..=pumps + 1).map(|pieces| (pieces * PIECE).min(had.len()) as u64);
            assert_eq!(published, pieces.collect::<Vec<_>>(), "{pumps}");
            chain.append(follows, start).unwrap();
            assert!(!chain.has_backlog(), "{pumps}");
            window.set_filling(false);
            assert!(
                read(&mut window.join(Duration::from_secs(1_000)).unwrap().0)
                    .ends_with(&all[2 * PACKET_LEN..]),
                "{pumps}"
            );
        }
    }

    #[test]
    fn hls_players_see_a_stream_once_what_was_sent_ahead_is_read() {
        let start = Monotonic(Duration::from_secs(1_000));
        let config = StreamConfig::default();
        // Seconds of stream that come within each twentieth of a second, and what
        // players have listed after it.
        for (name, comes, seen) in [
            ("six seconds at once", &[6, 0][..], &[0, 4][..]),
            ("twelve, in pieces", &[2, 4, 6, 0, 0], &[0, 0, 0, 8, 8]),
            ("without an end", &[2; 21], &[[0; 20].as_slice(), &[24]].concat()),
        ] {
            let shelf = Arc::<crate::hls::Shelf>::default();
            let cut = crate::hls::Maker::new(
                Arc::clone(&shelf),
                &HlsConfig::default(),
                u64::MAX,
                crate::hls::Comes::Steadily,
            );
            let mut maker = Maker::new();
            let mut candidate = Candidate::new();
            candidate.push(&maker.psi(0));
            let window = Arc::<Window>::default();
            let mut chain = Chain::begin(Arc::clone(&window), cut, candidate, start).unwrap();
            let listed = comes.iter().enumerate().map(|(tick, seconds)| {
                let now = start + Duration::from_millis(50) * u32::try_from(tick).unwrap();
                chain.append(&maker.run(seconds * 25, 50), now).unwrap();
                chain.look(&config, now);
                assert_eq!(window.is_open(), shelf.list().is_some(), "{name}: TS and HLS alike");
                let Some(list) = shelf.list() else { return 0 };
                let newest = list.listed().last().unwrap();
                let live = newest.wall + newest.duration;
                assert!(live <= SystemTime::now(), "{name}: its end is told to be in the future");
                list.listed().iter().map(|segment| segment.duration.as_secs()).sum()
            });
            assert_eq!(listed.collect::<Vec<_>>(), seen, "{name}");
        }
    }

    #[test]
    fn lost_packets_are_no_jump_and_nothing_more_is_lost() {
        let mut maker = Maker::new();
        let first = [maker.psi(0), maker.run(50, 50)].concat();
        maker.run(3, 50);
        let psi = maker.psi(0);
        maker.psi(0);
        let second = [psi, maker.psi(0), maker.run(50, 25)].concat();
        for piece in 1..60 {
            let (bytes, mended) = seen(&first, second.chunks(piece * PACKET_LEN));
            assert_eq!((mended, bytes.len()), (0, first.len() + second.len() - 2 * PACKET_LEN), "{piece}");
        }
    }
}
