//! From a chain to its media segments: done by the shard that writes it.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use millrace_boundary::Monotonic;
use millrace_media::ts::{Discontinuity, Formats, PACKET_LEN, Packet, Pid};

use super::{
    cutter::{Cut, Cutter, Lengths, Place},
    list::{Body, List, MediaSegment, Open, Part, Shelf},
};
use crate::{
    config::HlsConfig,
    segment::{ChainWriter, read_at},
};

/// Segments in a playlist at least, once there are so many.
const LEAST_LISTED: usize = 6;
/// While somebody asked within this, segments outlive the chain's window.
const ASKED_WITHIN: Duration = Duration::from_secs(60);
/// So many segments are looked into for what the stream is made of, from its
/// beginning and from each break.
const FORMAT_LOOKS: u32 = 3;
/// Of each, the first of these that tells, in bytes.
const FORMAT_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
/// Segments kept however large they are while somebody asks: with fewer a player
/// cannot begin.
const LEAST_KEPT: usize = 3;
/// Packets before a random access unit that may be its PAT and PMT.
const LEAD_IN: usize = 16;

/// How a stream comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// As time goes by.
    Steadily,
    /// A whole segment at a time, as from an engine that hands it out by HLS.
    BySegment,
}

/// Makes the media segments of one stream.
#[derive(Debug)]
pub(crate) struct Maker {
    shelf: Arc<Shelf>,
    cutter: Cutter,
    /// What lies ahead of what is live.
    ahead: VecDeque<Cut>,
    part_target: Duration,
    segments: VecDeque<Kept>,
    /// Breaks before the first of them.
    discontinuities: u64,
    writing: Option<Writing>,
    formats: Arc<Formats>,
    /// How often what the stream is made of is looked for yet.
    looks: u32,
    /// Wall clock less stream time.
    epoch: Option<SystemTime>,
    next_sequence: u64,
    /// The first one in the playlist; never falls.
    first_listed: u64,
    /// What the playlist lasts at least, once there is so much.
    window: Duration,
    /// Bytes kept at most, of segments that have ended.
    limit: u64,
    comes: Comes,
}

/// A media segment that has ended, and what players are owed of it.
#[derive(Debug)]
struct Kept {
    segment: Arc<MediaSegment>,
    /// What the longest playlist lasted that it was in.
    longest: Duration,
    /// Once it has left the playlist.
    owed_until: Option<Monotonic>,
}

/// Both clocks, and where the stream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: Monotonic,
    pub(crate) wall: SystemTime,
    /// Stream time up to which it is live: its head, unless an engine has sent
    /// minutes ahead.
    pub(crate) live: Duration,
}

/// The segment that is being written.
#[derive(Debug)]
struct Writing {
    /// A player can begin with it.
    independent: bool,
    /// Its first byte, which may lie before the unit that it begins with: PAT
    /// and PMT.
    from: u64,
    /// The first byte of its open part, and whether a player can begin there.
    part_from: u64,
    is_part_independent: bool,
    /// PAT and PMT, where the stream does not have them there itself.
    preface: Box<[u8]>,
    open: Open,
}

impl Maker {
    pub(crate) fn new(shelf: Arc<Shelf>, config: &HlsConfig, limit: u64, comes: Comes) -> Self {
        // Parts that come several at a time tell players nothing sooner, and those who
        // wait for the next one give up before it comes.
        let part = if comes == Comes::Steadily { config.part } else { Duration::ZERO };
        let lengths = Lengths { segment: config.segment, longest: config.longest, part };
        Self {
            shelf,
            cutter: Cutter::new(lengths),
            ahead: VecDeque::new(),
            part_target: part,
            segments: VecDeque::new(),
            discontinuities: 0,
            writing: None,
            formats: Arc::default(),
            looks: FORMAT_LOOKS,
            epoch: None,
            next_sequence: 0,
            first_listed: 0,
            window: config.window,
            limit,
            comes,
        }
    }

    /// Keeps at most so many bytes of segments that have ended from now on.
    pub(crate) fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    pub(crate) fn comes(&self) -> Comes {
        self.comes
    }

    /// Takes what the writer has found since last time, and shows players what
    /// ends up to the stream time `now.live`; says whether there is anything new.
    ///
    /// # Errors
    /// When the kernel cannot read its own memory.
    pub(crate) fn advance(&mut self, writer: &mut ChainWriter, now: Now) -> io::Result<bool> {
        let mut cuts = Vec::new();
        for mark in writer.take_units() {
            self.cutter.on(mark, &mut cuts);
        }
        self.ahead.extend(cuts);
        let mut has_news = false;
        while let Some(cut) = self.ahead.pop_front_if(|cut| cut.at() <= now.live) {
            has_news |= self.cut(cut, writer, now)?;
        }
        if has_news {
            self.show(writer, now);
        }
        Ok(has_news)
    }

    fn cut(&mut self, cut: Cut, writer: &ChainWriter, now: Now) -> io::Result<bool> {
        let (next, is_break, lengths) = match cut {
            Cut::Part { length, next } => {
                self.end_part(length, next.point.offset, writer);
                self.begin_part(&next);
                return Ok(true);
            }
            Cut::Begin(next) => (next, false, None),
            Cut::Segment { length, part_length, next, is_break, until } => {
                (next, is_break, Some((length, part_length, until)))
            }
        };
        let (from, preface) = beginning(writer, &next)?;
        if let Some((length, part_length, until)) = lengths {
            let to = until.unwrap_or(from);
            self.end_part(part_length, to, writer);
            self.end_segment(length, to, writer);
            self.look_for_formats(writer)?;
        }
        if is_break {
            self.looks = FORMAT_LOOKS;
        }
        if is_break || self.epoch.is_none() {
            self.epoch = now.wall.checked_sub(now.live);
        }
        let wall = self.epoch.and_then(|epoch| epoch.checked_add(next.at)).unwrap_or(now.wall);
        self.writing = Some(Writing {
            independent: next.independent,
            from,
            part_from: from,
            is_part_independent: next.independent,
            preface,
            open: Open { wall, is_break, parts: Vec::new() },
        });
        Ok(lengths.is_some())
    }

    /// The open part ends before the byte `to`, where it has any by then.
    fn end_part(&mut self, duration: Duration, to: u64, writer: &ChainWriter) {
        let has_parts = !self.part_target.is_zero();
        let Some(writing) = self.writing.as_mut().filter(|w| has_parts && w.part_from < to) else { return };
        let is_first = writing.open.parts.is_empty();
        let preface = if is_first { writing.preface.clone() } else { Box::default() };
        writing.open.parts.push(Arc::new(Part {
            duration,
            independent: writing.is_part_independent,
            body: Body { preface, slices: writer.slices(writing.part_from, to) },
        }));
    }

    fn begin_part(&mut self, first: &Place) {
        if let Some(writing) = &mut self.writing {
            writing.part_from = first.point.offset;
            writing.is_part_independent = first.independent;
        }
    }

    /// The segment that is being written ends before the byte `to`.
    fn end_segment(&mut self, duration: Duration, to: u64, writer: &ChainWriter) {
        let Some(Writing { independent, from, preface, open, .. }) = self.writing.take() else { return };
        let segment = Arc::new(MediaSegment {
            sequence: self.next_sequence,
            duration,
            is_break: open.is_break,
            independent,
            wall: open.wall,
            body: Body { preface, slices: writer.slices(from, to) },
            parts: open.parts,
        });
        self.segments.push_back(Kept { segment, longest: Duration::ZERO, owed_until: None });
        self.next_sequence += 1;
    }

    /// Looks what the newest segment is made of, unless that is known.
    fn look_for_formats(&mut self, writer: &ChainWriter) -> io::Result<()> {
        let Some(Kept { segment: newest, .. }) = self.segments.back().filter(|_| self.looks > 0) else {
            return Ok(());
        };
        let psi = newest.body.slices.first().and_then(|slice| slice.segment.psi());
        let Some(psi) = psi.or(writer.psi()) else { return Ok(()) };
        self.looks -= 1;
        for most in FORMAT_BYTES {
            let formats = Formats::of(psi, &newest.body.beginning(most)?);
            let is_known = formats.codecs().is_some();
            self.formats = Arc::new(formats);
            if is_known {
                self.looks = 0;
            }
            if is_known || newest.body.len() <= most as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Lets go of what is not needed any more, and shows the rest.
    fn show(&mut self, writer: &ChainWriter, now: Now) {
        let (Some(target), Some(newest)) = (self.cutter.target_duration(), self.segments.back()) else {
            return;
        };
        let newest = newest.segment.sequence;
        let (mut listed, mut time) = (0, Duration::ZERO);
        for Kept { segment, .. } in self.segments.iter().rev() {
            if segment.sequence < self.first_listed || (listed >= LEAST_LISTED && time >= self.window) {
                break;
            }
            listed += 1;
            time += segment.duration;
        }
        self.first_listed = newest + 1 - listed as u64;
        self.note_owed(target, time, now.monotonic);
        self.let_go(writer, now.monotonic);
        let first = self.segments.iter().take_while(|kept| kept.segment.sequence < self.first_listed).count();
        let breaks = self.segments.iter().take(first).filter(|kept| kept.segment.is_break).count();
        let Some(open) = self.writing.as_ref().map(|writing| writing.open.clone()) else { return };
        self.shelf.show(List::new(
            self.segments.iter().map(|kept| Arc::clone(&kept.segment)).collect(),
            first,
            self.discontinuities + breaks as u64,
            (target, self.part_target),
            open,
            Arc::clone(&self.formats),
        ));
    }

    /// A segment that leaves the playlist, which lasts `listed`, is owed to players for
    /// as long as the longest one that it was in and itself (RFC 8216 §6.2.2); for a
    /// target duration more it is kept, since they learn of that later.
    fn note_owed(&mut self, target: Duration, listed: Duration, now: Monotonic) {
        for kept in &mut self.segments {
            if kept.segment.sequence >= self.first_listed {
                kept.longest = kept.longest.max(listed);
            } else if kept.owed_until.is_none() {
                kept.owed_until = Some(now + kept.longest + kept.segment.duration + target);
            }
        }
    }

    /// Lets go of what is owed to nobody, if anybody asks at all, and of what the limit
    /// in bytes does not allow.
    fn let_go(&mut self, writer: &ChainWriter, now: Monotonic) {
        let is_asked_for = self.shelf.was_asked_within(ASKED_WITHIN, now);
        let mut bytes: u64 = self.segments.iter().map(|kept| kept.segment.body.len()).sum();
        while let Some(Kept { segment: oldest, owed_until, .. }) = self.segments.front() {
            let least = if is_asked_for || bytes <= self.limit { LEAST_KEPT } else { 1 };
            if self.segments.len() <= least {
                break;
            }
            let is_due = owed_until.is_some_and(|until| until <= now);
            let has_left = || oldest.body.slices.first().is_none_or(|slice| writer.has_left(&slice.segment));
            if !is_due && bytes <= self.limit && (is_asked_for || !has_left()) {
                break;
            }
            bytes -= oldest.body.len();
            self.discontinuities += u64::from(oldest.is_break);
            self.first_listed = self.first_listed.max(oldest.sequence + 1);
            self.segments.pop_front();
        }
    }
}

/// Where the segment begins that begins with `place`, and what has to be put
/// before it: PAT and PMT, unless the stream has them right there.
fn beginning(writer: &ChainWriter, place: &Place) -> io::Result<(u64, Box<[u8]>)> {
    let at = place.point.offset;
    let Some(segment) = writer.segment_at(at) else { return Ok((at, Box::default())) };
    let Some(psi) = segment.psi() else { return Ok((at, Box::default())) };
    let within = usize::try_from(at - segment.start()).unwrap_or(0);
    let lead_in = within.min(LEAD_IN * PACKET_LEN);
    let mut bytes = vec![0; lead_in];
    read_at(segment.memfd(), &mut bytes, (within - lead_in) as u64)?;
    match psi_before(&bytes, psi.main().pmt_pid()) {
        Some(packets) => Ok((at - (packets * PACKET_LEN) as u64, Box::default())),
        None => Ok((at, place.point.preface(psi, Discontinuity::None).into())),
    }
}

/// How many packets before the end of `bytes` a PAT stands that the PMT of this PID
/// follows at once, and nothing behind them but packets that carry no stream.
fn psi_before(bytes: &[u8], pmt: Pid) -> Option<usize> {
    let mut has_pmt = false;
    for (before, packet) in bytes.as_chunks::<PACKET_LEN>().0.iter().rev().enumerate() {
        let packet = Packet::new(packet);
        match packet.pid() {
            Pid::PAT if has_pmt => return Some(before + 1),
            pid if pid == pmt && packet.has_payload() => has_pmt = true,
            _ if has_pmt => return None,
            pid if pid == Pid::NULL || !packet.has_payload() => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
#[path = "maker_tests.rs"]
mod tests;
