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
use millrace_media::ts::{Event, IndexStats, Indexer, JoinPoint, PACKET_LEN, Packet, Pcr, Psi};

use super::{Cursor, Held, Join, Segment, memfd, splice::Marks};
use crate::hls::{Mark, Place, Slice};

/// Capacity of a chain's first segment: a stream that nobody keeps costs little.
const FIRST_SEGMENT_BYTES: usize = 256 << 10;
/// Capacity of every further segment.
const SEGMENT_BYTES: usize = 1 << 20;
/// A change of PSI cuts a segment only when it is this long; until then nobody
/// joins. Else a stream that changes its PSI with every packet would cost a
/// segment a packet.
const LEAST_PSI_RUN: usize = 64 << 10;
/// A PCR step larger than this is a jump and not time that passed.
const LARGEST_PCR_STEP: Duration = Duration::from_secs(5);
/// A PCR that is this much before the last one is jitter. Legal streams have
/// less than a microsecond of it (ISO/IEC 13818-1 §2.4.2.1), what comes out of
/// swarms up to a tenth of a second.
const PCR_JITTER: Duration = Duration::from_millis(500);
/// Where PCR has not moved stream time for this long while bytes came, their
/// number or time of arrival does: windows stay bounded on any input.
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
    /// What the engine has sent ahead is still being read.
    filling: AtomicBool,
    /// What it counts towards.
    held: Arc<Held>,
}

impl Window {
    /// Empty; what comes to be in it counts as `held`.
    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self { held, ..Self::default() }
    }

    /// Whether there is a place to join.
    pub(crate) fn has_join(&self) -> bool {
        self.joinable.load(Ordering::Acquire)
    }

    /// Whether viewers may take it: not while what the engine has sent ahead is
    /// being read, of which they would get the oldest.
    pub(crate) fn is_open(&self) -> bool {
        self.has_join() && !self.filling.load(Ordering::Acquire)
    }

    /// What the engine has sent ahead is being read, or is read by now.
    pub(crate) fn set_filling(&self, is_filling: bool) {
        self.filling.store(is_filling, Ordering::Release);
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
        if !self.is_open() {
            return None;
        }
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

/// Takes packets and publishes them as indexed segments.
#[derive(Debug)]
pub(crate) struct ChainWriter {
    window: Arc<Window>,
    kept: VecDeque<Kept>,
    /// Of the newest segment, in bytes.
    capacity: usize,
    indexer: Indexer,
    psi: Option<Arc<Psi>>,
    last_pcr: Option<Pcr>,
    at: Duration,
    /// When `at` last moved, and up to where.
    moved: Monotonic,
    moved_at: u64,
    marks: Marks,
    published: u64,
    /// PCRs of the join points found since they were last taken.
    points: Vec<u64>,
    /// What of the index concerns media segments, since it was last taken.
    units: Vec<Mark>,
}

/// Join points remembered until they are taken.
const POINTS: usize = 64;

#[derive(Debug)]
struct Kept {
    segment: Arc<Segment>,
    /// Stream time at its end.
    end: Duration,
}

impl ChainWriter {
    /// An empty chain with its first segment, shown in `window`.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left.
    pub(crate) fn new(window: Arc<Window>, now: Monotonic) -> io::Result<Self> {
        let segment = open(0, 0, None, FIRST_SEGMENT_BYTES, &window)?;
        let writer = Self {
            window,
            kept: VecDeque::from([Kept { segment, end: Duration::ZERO }]),
            capacity: FIRST_SEGMENT_BYTES,
            indexer: Indexer::with_units(),
            psi: None,
            last_pcr: None,
            at: Duration::ZERO,
            moved: now,
            moved_at: 0,
            marks: Marks::default(),
            published: 0,
            points: Vec::new(),
            units: Vec::new(),
        };
        writer.show();
        Ok(writer)
    }

    /// The part of the chain that is kept, for every shard.
    pub(crate) fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// Bytes published since the chain began.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// The PCRs, in ticks, of the join points found since this was last called.
    pub(crate) fn take_points(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.points)
    }

    /// What of the index concerns media segments, since this was last called.
    pub(crate) fn take_units(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.units)
    }

    /// The segment that has the byte at the absolute offset `at`, if it is kept.
    pub(crate) fn segment_at(&self, at: u64) -> Option<&Arc<Segment>> {
        let of_it = self.kept.iter().rev().find(|kept| kept.segment.start() <= at);
        of_it.map(|kept| &kept.segment)
    }

    /// What is kept of the bytes from the absolute offset `from` to before `to`.
    pub(crate) fn slices(&self, from: u64, to: u64) -> Vec<Slice> {
        let of = |kept: &Kept| {
            let segment = &kept.segment;
            let within = |at: u64| {
                let at = usize::try_from(at.saturating_sub(segment.start())).unwrap_or(usize::MAX);
                at.min(segment.published())
            };
            let (from, to) = (within(from), within(to));
            (from < to).then(|| Slice { segment: Arc::clone(segment), from, to })
        };
        self.kept.iter().filter_map(of).collect()
    }

    /// Whether `segment` is not kept any more.
    pub(crate) fn has_left(&self, segment: &Segment) -> bool {
        self.window.has_left(segment)
    }

    /// What the index has counted.
    pub(crate) fn index_stats(&self) -> IndexStats {
        self.indexer.stats()
    }

    /// Stream time at the head.
    pub(crate) fn head(&self) -> Duration {
        self.at
    }

    /// The newest PCR.
    pub(crate) fn last_pcr(&self) -> Option<Pcr> {
        self.last_pcr
    }

    /// The PSI in force.
    pub(crate) fn psi(&self) -> Option<&Arc<Psi>> {
        self.psi.as_ref()
    }

    /// Fingerprints of the newest packets with a PCR.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Bytes kept, in memory.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.published - self.kept.front().map_or(0, |k| k.segment.start())
    }

    /// What was published from the absolute offset `from` on, at most `most` bytes
    /// of it; nothing when that is no longer kept.
    ///
    /// # Errors
    /// When the kernel cannot read its own memory.
    pub(crate) fn read_from(&self, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.kept.front().is_none_or(|k| from < k.segment.start()) {
            return Ok(out);
        }
        for Kept { segment, .. } in &self.kept {
            let (start, len) = (segment.start(), segment.published());
            let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(len).min(len);
            let before = out.len();
            out.resize(most.min(before + len - skip), 0);
            memfd::read_at(segment.memfd(), &mut out[before..], skip as u64)?;
        }
        Ok(out)
    }

    /// Indexes and publishes whole packets.
    ///
    /// # Errors
    /// When the process has no descriptor or memory left for a new segment.
    pub(crate) fn append(&mut self, packets: &[u8], now: Monotonic) -> io::Result<()> {
        debug_assert!(packets.len().is_multiple_of(PACKET_LEN));
        if packets.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        self.indexer.scan(packets, &mut events);
        self.apply(packets, events, now)
    }

    /// Writes `packets`, cutting the segment where the PSI changes so that one
    /// PSI is in force in all of a segment.
    fn apply(&mut self, packets: &[u8], events: Vec<Event>, now: Monotonic) -> io::Result<()> {
        let base = self.published;
        let within =
            |offset: u64| usize::try_from(offset.saturating_sub(base)).unwrap_or(0).min(packets.len());
        let mut written = 0;
        for event in events {
            match event {
                Event::Pcr { pcr, discontinuity, offset } => {
                    self.tick(pcr, discontinuity, offset, now);
                    if let Some(packet) = Packet::first_of(&packets[within(offset)..]) {
                        self.marks.add(packet, pcr, offset);
                    }
                }
                Event::Unit { point, time } => {
                    self.units.push(Mark::Unit(Place { point, at: self.at, time, independent: false }));
                }
                Event::RandomAccess(offset) => self.units.push(Mark::RandomAccess(offset)),
                Event::Psi { offset, psi } => {
                    let to = within(offset).max(written);
                    self.write(&packets[written..to])?;
                    written = to;
                    if self.psi.as_ref().is_some_and(|before| !goes_on(before, &psi)) {
                        self.units.push(Mark::Break);
                    }
                    self.psi = Some(psi);
                    let newest = self.newest();
                    if newest.psi().is_none() || newest.published() >= LEAST_PSI_RUN {
                        self.roll()?;
                    }
                }
                Event::Join(point) => {
                    // First its packet, so that the segment it lies in is known.
                    if point.offset >= base + written as u64 {
                        let to = within(point.offset + PACKET_LEN as u64);
                        self.write(&packets[written..to])?;
                        written = to;
                    }
                    self.add_join(point);
                }
            }
        }
        self.write(&packets[written..])?;
        let silent = now.since(self.moved);
        if silent > PCR_SILENCE {
            self.at += self.without_clock(silent);
            (self.moved, self.moved_at) = (now, self.published);
        }
        let stale = self.psi.is_some() && !self.psi_is_in_force(self.newest());
        if stale && self.newest().published() >= LEAST_PSI_RUN {
            self.roll()?;
        }
        self.window.head_micros.store(micros(self.at), Ordering::Release);
        let rate = (self.published * 8_000_000).checked_div(micros(self.at)).unwrap_or(0);
        self.window.rate_bps.store(rate, Ordering::Relaxed);
        Ok(())
    }

    /// Writes and publishes whole packets, in as many segments as they need.
    fn write(&mut self, mut packets: &[u8]) -> io::Result<()> {
        while !packets.is_empty() {
            let filled = self.newest().published();
            let room = (self.capacity - filled) / PACKET_LEN * PACKET_LEN;
            if room == 0 {
                self.roll()?;
                continue;
            }
            let (now, later) = packets.split_at(packets.len().min(room));
            memfd::write_at(self.newest().memfd(), now, filled as u64)?;
            let at = self.at;
            let newest = self.kept.back_mut().expect("a chain always has a newest segment");
            newest.segment.published.store(filled + now.len(), Ordering::Release);
            newest.end = at;
            self.published += now.len() as u64;
            packets = later;
        }
        Ok(())
    }

    fn tick(&mut self, pcr: Pcr, discontinuity: bool, offset: u64, now: Monotonic) {
        let Some(last) = self.last_pcr else {
            self.last_pcr = Some(pcr);
            return;
        };
        let step = Pcr::duration(pcr.ticks_since(last));
        if discontinuity || step > LARGEST_PCR_STEP {
            // Back by a little, it is late and not another clock.
            if !discontinuity && Pcr::duration(last.ticks_since(pcr)) <= PCR_JITTER {
                return;
            }
            self.units.push(Mark::Break);
        } else if !step.is_zero() {
            self.at += step;
            (self.moved, self.moved_at) = (now, offset);
        }
        self.last_pcr = Some(pcr);
    }

    /// Stream time of what came while no clock told it for `passed`: as much as
    /// the mean rate gives, so that a trickle does not pass for a stream; all
    /// that passed where there has never been a clock.
    fn without_clock(&self, passed: Duration) -> Duration {
        let bits = (self.published - self.moved_at) * 8;
        match self.window.rate_bps() {
            rate if rate > 0 && self.last_pcr.is_some() => {
                Duration::from_secs_f64(bits as f64 / rate as f64).min(passed)
            }
            _ => passed,
        }
    }

    fn add_join(&mut self, point: JoinPoint) {
        let at = self.at;
        let owner = self.kept.iter().rev().find(|k| k.segment.start() <= point.offset);
        // One found so late that the PSI has changed since is of no use.
        if let Some(owner) = owner.filter(|k| self.psi_is_in_force(&k.segment)) {
            if let Some(pcr) = point.pcr.filter(|_| self.points.len() < POINTS) {
                self.points.push(pcr.ticks());
            }
            owner.segment.add_join(Join { point, at });
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

    /// Finishes the newest segment where it is published and begins the next.
    fn roll(&mut self) -> io::Result<()> {
        let done = Arc::clone(self.newest());
        let start = done.start() + done.published() as u64;
        let segment = open(done.sequence() + 1, start, self.psi.clone(), SEGMENT_BYTES, &self.window)?;
        self.capacity = SEGMENT_BYTES;
        done.next.set(Arc::clone(&segment)).expect("only the writer links segments");
        done.memfd.finish(done.published());
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
    window: &Window,
) -> io::Result<Arc<Segment>> {
    Ok(Arc::new(Segment {
        memfd: memfd::Memory::new(capacity, Arc::clone(&window.held))?,
        sequence,
        start,
        published: AtomicUsize::new(0),
        psi,
        joins: [const { OnceLock::new() }; super::JOINS],
        next: OnceLock::new(),
    }))
}

/// Whether a player that reads `before` can read `after`.
fn goes_on(before: &Psi, after: &Psi) -> bool {
    before.pcr_pid() == after.pcr_pid() && before.main().streams() == after.main().streams()
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
