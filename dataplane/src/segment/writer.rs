//! The one writer of a chain.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use millrace_boundary::Monotonic;
use millrace_media::ts::{Aligner, Event, IndexStats, Indexer, JoinPoint, Pcr, Psi};

use super::{
    Cursor, Join, Segment, Tail,
    memfd::{self, Writable},
};

/// Capacity of a chain's first segment: a stream that nobody keeps costs little.
const FIRST_SEGMENT_BYTES: usize = 256 << 10;
/// Capacity of every further segment.
const SEGMENT_BYTES: usize = 1 << 20;
/// A segment with less room than this is finished: reads stay worth their cost.
const LEAST_ROOM: usize = 16 << 10;
/// A change of PSI cuts a segment only when it is this long; until then nobody
/// joins. Else a stream that changes its PSI with every packet would cost a
/// segment a packet.
const LEAST_PSI_RUN: usize = 64 << 10;
/// A PCR step larger than this is a jump and not time that passed.
const LARGEST_PCR_STEP: Duration = Duration::from_secs(5);
/// Where PCR has not moved stream time for this long while bytes came, their
/// time of arrival does: windows stay bounded on any input.
const PCR_SILENCE: Duration = Duration::from_secs(1);

/// An engine further ahead of real time than this has sent a stock, not the
/// usual prebuffer of 10 to 15 s: it may rest, and viewers join at playout.
pub(crate) const STOCK: Duration = Duration::from_secs(30);

/// The part of a chain that is kept, as all shards see it: replaced whole when
/// a segment comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Window {
    segments: ArcSwap<Vec<Arc<Segment>>>,
    /// Sequence number of the oldest segment kept.
    oldest: AtomicU64,
    /// Stream time at the head, in microseconds.
    head_micros: AtomicU64,
    /// Stream time at which a viewer who watches without a pause is, in
    /// microseconds; see [`crate::ingest::pace`].
    playout_micros: AtomicU64,
    /// Mean rate since the chain began.
    rate_bps: AtomicU64,
    /// Whether a join point was ever found.
    joinable: AtomicBool,
}

impl Window {
    /// Whether there is a place to join.
    pub(crate) fn has_join(&self) -> bool {
        self.joinable.load(Ordering::Acquire)
    }

    /// Whether a viewer in `segment` has fallen out.
    pub(crate) fn has_left(&self, segment: &Segment) -> bool {
        segment.sequence() < self.oldest.load(Ordering::Relaxed)
    }

    /// Mean rate in stream time; 0 while unknown.
    pub(crate) fn rate_bps(&self) -> u64 {
        self.rate_bps.load(Ordering::Relaxed)
    }

    /// Stream time at the head.
    pub(crate) fn head(&self) -> Duration {
        Duration::from_micros(self.head_micros.load(Ordering::Acquire))
    }

    /// Tells where playout is.
    pub(crate) fn set_playout(&self, at: Duration) {
        self.playout_micros.store(micros(at), Ordering::Relaxed);
    }

    /// Where to join: the newest join point at least `prebuffer` behind the
    /// head, or the oldest one when there is none that far behind. While the
    /// engine is far ahead of real time the head is not live, and playout
    /// stands in for it: else a viewer would drain the burst's last seconds and
    /// then wait for as long as the engine is quiet.
    pub(crate) fn join(&self, prebuffer: Duration) -> Option<(Cursor, JoinPoint)> {
        let segments = self.segments.load();
        let playout = Duration::from_micros(self.playout_micros.load(Ordering::Relaxed));
        let head = self.head();
        let live = if head.saturating_sub(playout) > STOCK { playout + prebuffer } else { head };
        let target = live.saturating_sub(prebuffer);
        let mut oldest = None;
        for segment in segments.iter().rev() {
            for join in segment.joins().rev() {
                oldest = Some((segment, join));
                if join.at <= target {
                    return oldest.map(place);
                }
            }
        }
        oldest.map(place)
    }
}

fn place((segment, join): (&Arc<Segment>, &Join)) -> (Cursor, JoinPoint) {
    let offset = usize::try_from(join.point.offset - segment.start()).unwrap_or(0);
    (Cursor { segment: Arc::clone(segment), offset }, join.point.clone())
}

/// Takes what an engine sends and publishes it as aligned, indexed segments.
#[derive(Debug)]
pub(crate) struct ChainWriter {
    window: Arc<Window>,
    kept: VecDeque<Kept>,
    writable: Writable,
    aligner: Aligner,
    indexer: Indexer,
    events: Vec<Event>,
    psi: Option<Arc<Psi>>,
    last_pcr: Option<Pcr>,
    at: Duration,
    /// When `at` last moved.
    moved: Monotonic,
    stats: ChainStats,
    /// `stats.published` when progress was last asked for.
    noted: u64,
}

#[derive(Debug)]
struct Kept {
    segment: Arc<Segment>,
    /// Stream time at its end.
    end: Duration,
}

/// What a chain has counted since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChainStats {
    /// Bytes published.
    pub(crate) published: u64,
    /// Bytes skipped to find packets again.
    pub(crate) skipped: u64,
    /// Bytes skipped since the last packet.
    pub(crate) skipped_in_a_row: u64,
    /// Join points found.
    pub(crate) joins: u64,
}

impl ChainWriter {
    /// An empty chain with its first segment, shown in `window`.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left.
    pub(crate) fn new(window: Arc<Window>, now: Monotonic) -> io::Result<Self> {
        let (segment, writable) = open(0, 0, None, FIRST_SEGMENT_BYTES)?;
        let writer = Self {
            window,
            kept: VecDeque::from([Kept { segment, end: Duration::ZERO }]),
            writable,
            aligner: Aligner::new(),
            indexer: Indexer::new(),
            events: Vec::with_capacity(32),
            psi: None,
            last_pcr: None,
            at: Duration::ZERO,
            moved: now,
            stats: ChainStats::default(),
            noted: 0,
        };
        writer.show();
        Ok(writer)
    }

    /// The part of the chain that is kept, for every shard.
    pub(crate) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// What was counted.
    pub(crate) fn stats(&self) -> ChainStats {
        self.stats
    }

    /// Whether packets were published since this was last asked.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::replace(&mut self.noted, self.stats.published) != self.stats.published
    }

    /// What the index has counted.
    pub(crate) fn index_stats(&self) -> IndexStats {
        self.indexer.stats()
    }

    /// Stream time at the head.
    pub(crate) fn head(&self) -> Duration {
        self.at
    }

    /// Bytes kept, in memory.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.stats.published - self.kept.front().map_or(0, |k| k.segment.start())
    }

    /// Free room to read into, at most `limit` bytes.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left for a new segment.
    pub(crate) fn tail(&mut self, limit: usize) -> io::Result<Tail> {
        if self.writable.room() < LEAST_ROOM {
            self.roll()?;
        }
        Ok(self.writable.tail(limit))
    }

    /// Takes bytes that were read elsewhere, as far as there is room in one
    /// segment; returns how many.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left for a new segment.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writable.room() < LEAST_ROOM {
            self.roll()?;
        }
        Ok(self.writable.push(bytes))
    }

    /// Takes a read's buffer back. `unframe` compacts the bytes that were read
    /// and returns how many of them are payload; they are not published yet.
    pub(crate) fn took(&mut self, tail: &Tail, unframe: impl FnOnce(&mut [u8]) -> usize) {
        let before = self.writable.filled();
        self.writable.took(tail);
        let payload = unframe(self.writable.tail_mut(before));
        self.writable.truncate(before + payload);
    }

    /// Aligns, indexes and publishes what has been taken since the last call.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left for a new segment.
    pub(crate) fn publish(&mut self, now: Monotonic) -> io::Result<()> {
        self.advance(now, Aligner::align)
    }

    /// The input has ended: publishes a last packet held back for its successor.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(crate) fn finish(&mut self, now: Monotonic) -> io::Result<()> {
        self.advance(now, Aligner::finish)
    }

    fn advance(
        &mut self,
        now: Monotonic,
        align: impl FnOnce(&mut Aligner, &mut [u8]) -> millrace_media::ts::Aligned,
    ) -> io::Result<()> {
        let from = self.newest().published();
        let buffer = self.writable.tail_mut(from);
        let aligned = align(&mut self.aligner, buffer);
        debug_assert!(aligned.packets.is_multiple_of(188));
        self.writable.truncate(from + aligned.packets + aligned.pending);
        self.stats.skipped += aligned.skipped;
        if aligned.packets == 0 {
            self.stats.skipped_in_a_row += aligned.skipped;
            return Ok(());
        }
        self.stats.skipped_in_a_row = 0;
        self.stats.published += aligned.packets as u64;

        let mut events = std::mem::take(&mut self.events);
        let packets = &self.writable.tail_mut(from)[..aligned.packets];
        self.indexer.scan(packets, &mut events);
        let end = from + aligned.packets;
        let outcome = self.apply(&mut events, end, now);
        events.clear();
        self.events = events;
        outcome
    }

    /// Publishes up to `end` of the newest segment, cutting it where the PSI
    /// changes so that one PSI is in force in all of a segment.
    fn apply(&mut self, events: &mut Vec<Event>, end: usize, now: Monotonic) -> io::Result<()> {
        let mut end = end;
        for event in events.drain(..) {
            match event {
                Event::Pcr { pcr, discontinuity, .. } => self.tick(pcr, discontinuity, now),
                Event::Psi { offset, psi } => {
                    self.psi = Some(psi);
                    let newest = self.newest();
                    let cut = usize::try_from(offset.saturating_sub(newest.start())).unwrap_or(end).min(end);
                    if newest.psi().is_none() || cut >= LEAST_PSI_RUN {
                        self.set_published(cut);
                        self.roll()?;
                        end -= cut;
                    }
                }
                Event::Join(point) => self.add_join(point),
            }
        }
        let silent = now.since(self.moved);
        if silent > PCR_SILENCE {
            self.at += silent;
            self.moved = now;
        }
        self.set_published(end);
        if end >= LEAST_PSI_RUN && self.psi.is_some() && !self.psi_is_in_force(self.newest()) {
            self.roll()?;
        }
        self.window.head_micros.store(micros(self.at), Ordering::Release);
        let rate = (self.stats.published * 8_000_000).checked_div(micros(self.at)).unwrap_or(0);
        self.window.rate_bps.store(rate, Ordering::Relaxed);
        Ok(())
    }

    fn tick(&mut self, pcr: Pcr, discontinuity: bool, now: Monotonic) {
        if let Some(last) = self.last_pcr.replace(pcr)
            && !discontinuity
        {
            let step = Pcr::duration(pcr.ticks_since(last));
            if !step.is_zero() && step <= LARGEST_PCR_STEP {
                self.at += step;
                self.moved = now;
            }
        }
    }

    fn add_join(&mut self, point: JoinPoint) {
        let at = self.at;
        let owner = self.kept.iter().rev().find(|k| k.segment.start() <= point.offset);
        // One found so late that the PSI has changed since is of no use.
        if let Some(owner) = owner.filter(|k| self.psi_is_in_force(&k.segment)) {
            owner.segment.add_join(Join { point, at });
            self.stats.joins += 1;
            self.window.joinable.store(true, Ordering::Release);
        }
    }

    /// Whether `segment` has the newest PSI, and there is one.
    fn psi_is_in_force(&self, segment: &Segment) -> bool {
        match (&self.psi, segment.psi()) {
            (Some(newest), Some(its)) => Arc::ptr_eq(newest, its),
            _ => false,
        }
    }

    /// Drops what lies more than `window` behind `playout` in stream time, and
    /// of what is over `limit` bytes whatever lies behind `playout` at all. The
    /// segment being written always stays.
    pub(crate) fn trim(&mut self, playout: Duration, window: Duration, limit: u64) {
        let before = self.kept.len();
        while let Some(oldest) = self.kept.front()
            && self.kept.len() > 1
            && (oldest.end + window < playout || (self.kept_bytes() > limit && oldest.end < playout))
        {
            self.kept.pop_front();
        }
        if self.kept.len() != before {
            self.show();
        }
    }

    fn newest(&self) -> &Arc<Segment> {
        &self.kept.back().expect("a chain always has a newest segment").segment
    }

    fn set_published(&mut self, end: usize) {
        let at = self.at;
        let newest = self.kept.back_mut().expect("a chain always has a newest segment");
        newest.segment.published.store(end, Ordering::Release);
        newest.end = at;
    }

    /// Finishes the newest segment where it is published and begins the next
    /// with the bytes behind that point.
    fn roll(&mut self) -> io::Result<()> {
        let done = Arc::clone(self.newest());
        let published = done.published();
        let capacity = SEGMENT_BYTES.max(2 * (self.writable.filled() - published));
        let start = done.start() + published as u64;
        let (segment, mut writable) = open(done.sequence() + 1, start, self.psi.clone(), capacity)?;
        writable.push(self.writable.tail_mut(published));
        self.writable = writable;
        done.next.set(Arc::clone(&segment)).expect("only the writer links segments");
        self.kept.push_back(Kept { segment, end: self.at });
        self.show();
        Ok(())
    }

    /// Segments kept.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> usize {
        self.kept.len()
    }

    fn show(&self) {
        let segments = self.kept.iter().map(|k| Arc::clone(&k.segment)).collect::<Vec<_>>();
        self.window.oldest.store(segments.first().map_or(0, |s| s.sequence()), Ordering::Relaxed);
        self.window.segments.store(Arc::new(segments));
    }
}

fn open(
    sequence: u64,
    start: u64,
    psi: Option<Arc<Psi>>,
    capacity: usize,
) -> io::Result<(Arc<Segment>, Writable)> {
    let (memfd, writable) = memfd::create(capacity)?;
    let segment = Segment {
        memfd,
        sequence,
        start,
        published: AtomicUsize::new(0),
        psi,
        joins: [const { OnceLock::new() }; super::JOINS],
        next: OnceLock::new(),
    };
    Ok((Arc::new(segment), writable))
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
