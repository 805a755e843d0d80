//! What the segments of a stream have to be, one behind the other.

use std::time::{Duration, SystemTime};

use millrace_emulator::signed::{Report, Verifier};

use super::{
    Complaint,
    continuity::Continuity,
    segment::{self, Claim, Facts},
    ts::{self, PACKET},
};

/// Fewest packets that tell a place in a stream.
const PROBE: usize = 8;

/// Segments in their order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    continuity: Continuity,
    /// First time stamp and duration of the segment before.
    before: Option<(u64, Duration)>,
}

impl Chain {
    /// Takes the next segment, of that number: all that is wrong with it by
    /// itself, with its counters and with its time behind the one before.
    pub(crate) fn push(
        &mut self,
        number: u64,
        bytes: &[u8],
        claim: &Claim,
        is_discontinuity: bool,
    ) -> (Facts, Vec<Complaint>) {
        let (facts, mut complaints) = segment::check(bytes, claim);
        if facts.packets == 0 {
            // Nothing is known of what comes behind it either.
            *self = Self::default();
            return (facts, complaints);
        }
        let packets: Vec<_> = ts::packets(bytes).collect();
        complaints.extend(self.continuity.push(number, &packets, is_discontinuity));
        if let (Some((first, duration)), Some(now), false) = (self.before, facts.first, is_discontinuity) {
            let moved = segment::distance(first, now);
            let passed = segment::ticks(moved.unsigned_abs());
            if moved < 0 || claim.tolerance < passed.abs_diff(duration) {
                let text = format!("segment {number} begins {moved} ticks after one of {duration:?}");
                complaints.push(Complaint::new("timeline", text));
            }
        }
        self.before = facts.first.zip(claim.duration.or(facts.duration));
        (facts, complaints)
    }
}

/// Segments put together, without tables that were put before them: those at
/// the beginning of a segment, but the first, whose counters repeat.
pub(crate) fn joined(segments: &[&[u8]]) -> Vec<u8> {
    let mut joined: Vec<u8> = Vec::new();
    let mut counters = [None; 1 << 13];
    for bytes in segments {
        let packets: Vec<_> = ts::packets(bytes).collect();
        let leading = if joined.is_empty() { 0 } else { segment::leading(&packets) };
        for (at, packet) in packets.iter().enumerate() {
            let Some(last) = counters.get_mut(usize::from(packet.pid())) else { continue };
            if leading <= at || *last != Some(packet.counter()) {
                *last = Some(packet.counter());
                joined.extend_from_slice(packet.0);
            }
        }
    }
    joined
}

/// Compares segments, put together, with the stream that they were cut from.
/// Any number of the tables that a segment begins with may have been put there.
/// Returns the packet of `stream` with which the first one begins.
pub(crate) fn compare(segments: &[&[u8]], stream: &[u8]) -> Result<usize, Complaint> {
    let stream = stream.as_chunks::<PACKET>().0;
    let mut start = None;
    let mut place = 0;
    for (number, bytes) in segments.iter().enumerate() {
        let segment = bytes.as_chunks::<PACKET>().0;
        let packets: Vec<_> = ts::packets(bytes).collect();
        let leading = segment::leading(&packets);
        if start.is_none() {
            place = find(segment.get(leading..).unwrap_or(&[]), stream)?;
            // From here on as it goes: the tables of the first are left out.
            start = Some(place);
            place = follow(number, segment, leading..=leading, stream, place)?;
        } else {
            place = follow(number, segment, 0..=leading, stream, place)?;
        }
    }
    start.ok_or_else(|| Complaint::new("stream-bytes", "no segments"))
}

/// Where a segment begins in the stream.
fn find(segment: &[[u8; PACKET]], stream: &[[u8; PACKET]]) -> Result<usize, Complaint> {
    let probe = segment.get(..PROBE.min(segment.len())).unwrap_or(&[]);
    let found = stream.windows(probe.len().max(1)).position(|window| window == probe);
    found.ok_or_else(|| Complaint::new("stream-bytes", "the first segment is not of this stream"))
}

/// The place behind a segment that is at `place` with one of these counts of
/// packets put before it.
fn follow(
    number: usize,
    segment: &[[u8; PACKET]],
    prepended: std::ops::RangeInclusive<usize>,
    stream: &[[u8; PACKET]],
    place: usize,
) -> Result<usize, Complaint> {
    // The first difference with so many, where most was the same.
    let (mut most, mut first) = (0, 0);
    for prepended in prepended {
        let own = segment.get(prepended..).unwrap_or(&[]);
        let due = stream.get(place..).unwrap_or(&[]);
        let same = own.iter().zip(due).take_while(|(a, b)| a == b).count();
        if same == own.len() {
            return Ok(place + same);
        }
        if most < same {
            (most, first) = (same, prepended + same);
        }
    }
    let text = format!("packet {first} of segment {number} is not what comes next in the stream");
    Err(Complaint::new("stream-bytes", text))
}

/// Has the segments of a signed broadcast proved: every packet there, once, in
/// order and whole.
pub(crate) fn prove(segments: &[&[u8]], mut verifier: Verifier) -> (Report, Vec<Complaint>) {
    verifier.push(&joined(segments), SystemTime::now());
    let report = verifier.report();
    let is_proved = report.is_unbroken() && report.partial_bytes == 0;
    let complaints =
        if is_proved { Vec::new() } else { vec![Complaint::new("signed", format!("{report:?}"))] };
    (report, complaints)
}
