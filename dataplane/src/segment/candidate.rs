//! What a second reading of a broadcast has brought, while another one is
//! still the stream's or nothing is yet.

use std::{cell::Cell, collections::VecDeque, sync::Arc, time::Duration};

use millrace_media::ts::{
    Continuity, Discontinuity, Event, Indexer, JoinPoint, PACKET_LEN, Packet, Pcr, Psi,
};

use super::{
    ChainWriter,
    splice::{Mark, Marks, Meeting, ahead, compare},
};

/// Bytes kept at most: more than a burst of 10 s at 20 Mbit/s.
const MOST_BYTES: usize = 32 << 20;
/// Clocks further apart than this are different ones.
const SAME_CLOCK_SECONDS: u64 = 120;

/// Null packets, which a chain may have more of, are most often less than that.
const SOME_MORE: usize = 100 * PACKET_LEN;

/// How a candidate's packets go on from the end of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fit {
    /// There is nothing yet that tells.
    Unknown,
    /// They are the chain's own packets, and have not reached its end.
    Behind,
    /// They continue it without a gap from this byte of the candidate on.
    Exact(usize),
    /// They do not continue it. A join point behind the chain's end, where the
    /// clocks can be compared, is the place to go on at.
    Apart(Option<Box<JoinPoint>>),
}

/// Whole packets with their index, the newest [`MOST_BYTES`].
#[derive(Debug)]
pub(crate) struct Candidate {
    bytes: Vec<u8>,
    /// Absolute offset of the first byte kept.
    start: u64,
    indexer: Indexer,
    events: Vec<Event>,
    marks: Marks,
    joins: VecDeque<JoinPoint>,
    psi: VecDeque<(u64, Arc<Psi>)>,
    /// The end of a chain in which none of the marks was, and the last of them.
    unmet: Cell<Option<(Mark, u64)>>,
}

/// How `candidate` goes on where `chain` ends, both from a common packet on, which
/// stands at `here` in the chain. Of that no more is read than it takes to tell: a
/// candidate that has just come so far holds a few packets of what may be seconds.
fn compare_ends(chain: &ChainWriter, here: u64, candidate: &[u8]) -> Meeting {
    let mut most = candidate.len() + SOME_MORE;
    loop {
        // It is in memory; failing to read it is as if it differed.
        let Ok(end) = chain.read_from(here, most) else { return Meeting::Differs };
        match compare(&end, candidate) {
            Meeting::Continues(_) if end.is_empty() => return Meeting::Differs,
            Meeting::Continues(_) if end.len() == most => most *= 2,
            meeting => return meeting,
        }
    }
}

impl Candidate {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            indexer: Indexer::new(),
            events: Vec::new(),
            marks: Marks::default(),
            joins: VecDeque::new(),
            psi: VecDeque::new(),
            unmet: Cell::new(None),
        }
    }

    /// Takes whole packets in.
    pub(crate) fn push(&mut self, packets: &[u8]) {
        let base = self.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(packets);
        let mut events = std::mem::take(&mut self.events);
        self.indexer.scan(packets, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Psi { offset, psi } => self.psi.push_back((offset, psi)),
                Event::Join(point) => self.joins.push_back(point),
                // Its indexer does not tell of these.
                Event::Unit { .. } | Event::RandomAccess(_) => {}
                Event::Pcr { offset, pcr, .. } => {
                    let at = usize::try_from(offset.saturating_sub(base)).unwrap_or(0);
                    if let Some(packet) = packets.get(at..).and_then(Packet::first_of) {
                        self.marks.add(packet, pcr, offset);
                    }
                }
            }
        }
        self.events = events;
        if self.bytes.len() > MOST_BYTES {
            self.keep(MOST_BYTES / 2);
        }
    }

    /// Keeps the newest `most` bytes.
    pub(crate) fn keep(&mut self, most: usize) {
        let over = self.bytes.len().saturating_sub(most).next_multiple_of(PACKET_LEN).min(self.bytes.len());
        self.bytes.drain(..over);
        self.start += over as u64;
        let start = self.start;
        self.marks.forget_before(start);
        while self.joins.front().is_some_and(|j| j.offset < start) {
            self.joins.pop_front();
        }
        // The PSI in force at the start stays.
        while self.psi.get(1).is_some_and(|(offset, _)| *offset <= start) {
            self.psi.pop_front();
        }
    }

    /// Bytes kept.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a viewer could begin somewhere in it.
    pub(crate) fn has_join(&self) -> bool {
        !self.joins.is_empty()
    }

    /// The newest PSI.
    pub(crate) fn psi(&self) -> Option<&Arc<Psi>> {
        self.psi.back().map(|(_, psi)| psi)
    }

    /// Seconds of stream kept, by its clock.
    pub(crate) fn seconds(&self) -> u64 {
        self.span().map_or(0, |d| d.as_secs())
    }

    /// How long so many of its bytes play for.
    pub(crate) fn plays_for(&self, bytes: usize) -> Option<Duration> {
        Some(self.span()?.mul_f64(bytes as f64 / self.bytes.len().max(1) as f64))
    }

    fn span(&self) -> Option<Duration> {
        ahead(self.marks.last_pcr()?, self.marks.first_pcr()?)
    }

    /// All bytes kept.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How it goes on from the end of `chain`.
    pub(crate) fn fit(&self, chain: &ChainWriter) -> Fit {
        let marks = chain.marks();
        // What the chain's end was not met with before need not be looked at again.
        let unmet = self.unmet.get().filter(|(end, _)| marks.newest() == Some(*end));
        let met = marks.meets(&self.marks, unmet.map_or(0, |(_, to)| to));
        self.unmet.set(met.is_none().then(|| Some((marks.newest()?, self.marks.newest()?.offset))).flatten());
        if let Some((here, there)) = met {
            let from = usize::try_from(there.saturating_sub(self.start)).unwrap_or(0);
            match compare_ends(chain, here, &self.bytes[from..]) {
                Meeting::Continues(n) => return Fit::Exact(from + n),
                Meeting::NotYet => return Fit::Behind,
                Meeting::Differs => return self.apart(chain),
            }
        }
        if marks.contains_newest_of(&self.marks) {
            return Fit::Behind;
        }
        match (self.marks.first_pcr(), marks.first_pcr()) {
            (Some(mine), Some(its)) if is_same_clock(mine, its) && ahead(its, mine).is_some() => {
                // It begins before all that is remembered of the chain, and may
                // meet it yet.
                match self.marks.last_pcr().and_then(|last| ahead(last, its)) {
                    None => Fit::Unknown,
                    Some(_) => self.apart(chain),
                }
            }
            (Some(_), _) => self.apart(chain),
            (None, _) if self.has_join() => self.apart(chain),
            (None, _) => Fit::Unknown,
        }
    }

    /// By how much it begins behind the end of `chain`, and by how much its
    /// newest packet lies behind that end, on a clock that may be the same.
    pub(crate) fn gap(&self, chain: &ChainWriter) -> Option<(Duration, Duration)> {
        let end = chain.last_pcr()?;
        let first = ahead(self.marks.first_pcr()?, end).filter(|gap| gap.as_secs() < SAME_CLOCK_SECONDS)?;
        Some((first, ahead(self.marks.last_pcr()?, end)?))
    }

    /// The place to go on at when the bytes do not match.
    fn apart(&self, chain: &ChainWriter) -> Fit {
        let newest = self.joins.back().and_then(|j| j.pcr);
        let join = match (chain.last_pcr(), newest) {
            (Some(end), Some(newest)) if is_same_clock(end, newest) => {
                // Time stamps have to rise, so the very same point is not enough.
                let is_later = |pcr| ahead(pcr, end).is_some_and(|by| !by.is_zero());
                self.joins.iter().find(|j| j.pcr.is_some_and(is_later))
            }
            _ => self.joins.front(),
        };
        Fit::Apart(join.cloned().map(Box::new))
    }

    /// The oldest join point.
    pub(crate) fn first_join(&self) -> Option<&JoinPoint> {
        self.joins.front()
    }

    /// The newest join point, for when waiting for a better place has to end.
    pub(crate) fn newest_join(&self) -> Option<&JoinPoint> {
        self.joins.back()
    }

    /// The packets to go on with at `join`, what stands before them included:
    /// PAT, PMT, and on every PID the signal that it does not continue, counted
    /// so that what follows does.
    pub(crate) fn packets_from(&self, join: &JoinPoint) -> Vec<u8> {
        [&self.preface(join), self.from(join)].concat()
    }

    /// Of these, what stands before `join`.
    pub(crate) fn preface(&self, join: &JoinPoint) -> Vec<u8> {
        let Some(psi) = self.psi_at(join) else { return Vec::new() };
        let (continuity, _) = self.continuity_at(join, psi);
        JoinPoint { continuity, ..join.clone() }.preface(psi, Discontinuity::Signalled)
    }

    /// Whether each of the streams at `join` has a packet behind it, so that its
    /// counter there is known whatever came before.
    pub(crate) fn knows_counters_at(&self, join: &JoinPoint) -> bool {
        self.psi_at(join).is_none_or(|psi| self.continuity_at(join, psi).1)
    }

    fn psi_at(&self, join: &JoinPoint) -> Option<&Arc<Psi>> {
        let psi =
            self.psi.iter().rev().find(|(offset, _)| *offset <= join.offset).or_else(|| self.psi.front());
        psi.map(|(_, psi)| psi)
    }

    /// Where among the bytes kept it stands.
    pub(crate) fn place_of(&self, join: &JoinPoint) -> usize {
        usize::try_from(join.offset.saturating_sub(self.start)).unwrap_or(0).min(self.bytes.len())
    }

    fn from(&self, join: &JoinPoint) -> &[u8] {
        &self.bytes[self.place_of(join)..]
    }

    /// The counters that what follows `join` goes on from: by the first packet
    /// behind it, or else by the last one before. What stands before may be of
    /// another time than what follows. Says whether each stream has one behind.
    fn continuity_at(&self, join: &JoinPoint, psi: &Psi) -> (Continuity, bool) {
        let mut continuity = join.continuity.clone();
        let mut unknown = psi.tracked().to_vec();
        for bytes in self.from(join).as_chunks::<PACKET_LEN>().0 {
            if unknown.is_empty() {
                break;
            }
            let packet = Packet::new(bytes);
            if let Some(at) = unknown.iter().position(|pid| *pid == packet.pid()) {
                let counter = packet.continuity_counter();
                let before = if packet.has_payload() { counter.wrapping_sub(1) } else { counter };
                continuity.set(unknown.swap_remove(at), before);
            }
        }
        (continuity, psi.streams().all(|stream| !unknown.contains(&stream.pid)))
    }
}

/// Whether two values may be of one clock, a short time apart.
fn is_same_clock(a: Pcr, b: Pcr) -> bool {
    let near = |a, b| ahead(a, b).is_some_and(|by| by.as_secs() < SAME_CLOCK_SECONDS);
    near(a, b) || near(b, a)
}
