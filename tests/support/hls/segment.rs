//! What the bytes of one segment have to be. Source: RFC 8216 §3.2, ISO/IEC
//! 13818-1, and Apple's HLS authoring specification.

use std::time::Duration;

use super::{
    Complaint,
    access::{self, Access},
    ts::{self, PACKET, Packet, SYNC, Section, Stream},
};

/// What a segment claims to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// Can be decoded by itself.
    pub(crate) independent: bool,
    /// As the playlist says, if it is measured.
    pub(crate) duration: Option<Duration>,
    /// How far its time stamps may be from that.
    pub(crate) tolerance: Duration,
}

/// What was found in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Packets.
    pub(crate) packets: usize,
    /// Packets of tables that it begins with.
    pub(crate) tables: usize,
    /// Streams by its map tables.
    pub(crate) streams: Vec<Stream>,
    /// The first time stamp, in 90 kHz, of the picture or, without one, of any.
    pub(crate) first: Option<u64>,
    /// From the first time stamp to the end of the last picture.
    pub(crate) duration: Option<Duration>,
}

/// Reads a segment: what is in it and what is wrong with it.
pub(crate) fn check(bytes: &[u8], claim: &Claim) -> (Facts, Vec<Complaint>) {
    let mut complaints = shape(bytes);
    if !complaints.is_empty() {
        return (Facts::default(), complaints);
    }
    let packets: Vec<_> = ts::packets(bytes).collect();
    let tables = Tables::read(&packets, &mut complaints);
    let mut facts =
        Facts { packets: packets.len(), tables: tables.leading, streams: tables.streams, ..Facts::default() };
    let picture = facts.streams.iter().find(|s| s.is_picture()).copied();
    if let Some(picture) = picture.filter(|_| claim.independent) {
        let own: Vec<_> = packets.iter().filter(|p| p.pid() == picture.pid).copied().collect();
        if let Access::None(why) = access::of(picture, &own) {
            let text = format!("the first picture is no random access point: {why}");
            complaints.push(Complaint::new("segment-random-access", text));
        }
    }
    if let Some(timed) = picture.or_else(|| facts.streams.first().copied()) {
        (facts.first, facts.duration) = times(&packets, timed.pid);
        complaints.extend(duration(facts.duration, claim));
    }
    (facts, complaints)
}

/// Whole packets, each with its sync byte.
fn shape(bytes: &[u8]) -> Vec<Complaint> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(PACKET) {
        let text = format!("{} bytes are no whole packets", bytes.len());
        return vec![Complaint::new("segment-length", text)];
    }
    let lost = ts::packets(bytes).position(|p| p.0[0] != SYNC);
    lost.map(|at| Complaint::new("segment-sync", format!("packet {at} has no sync byte")))
        .into_iter()
        .collect()
}

/// The tables of a segment.
#[derive(Debug, Default)]
struct Tables {
    /// Packets of tables before any other.
    leading: usize,
    maps: Vec<u16>,
    streams: Vec<Stream>,
}

impl Tables {
    /// A segment begins with PAT and PMTs, before all others.
    fn read(packets: &[Packet<'_>], complaints: &mut Vec<Complaint>) -> Self {
        let mut tables = Self { leading: leading(packets), ..Self::default() };
        if packets.first().is_none_or(|p| p.pid() != ts::PAT) {
            complaints.push(Complaint::new("segment-pat", "the first packet is no PAT"));
        }
        let (found, damaged) = sections(packets, ts::PAT);
        tables.maps = found.iter().flat_map(|section| ts::programmes(section)).collect();
        tables.maps.sort_unstable();
        tables.maps.dedup();
        if found.is_empty() && damaged == 0 {
            complaints.push(Complaint::new("segment-pat", "no whole PAT"));
        }
        let mut all_damaged = damaged;
        for map in &tables.maps {
            let (found, damaged) = sections(packets, *map);
            all_damaged += damaged;
            tables.streams.extend(found.iter().flat_map(|section| ts::streams(section)));
            // Where other tables come first that is told already.
            let head = packets.get(..tables.leading).filter(|head| !head.is_empty());
            let (led, damaged) = sections(head.unwrap_or(packets), *map);
            if led.is_empty() && damaged == 0 {
                let first: Vec<u16> = packets.iter().take(8).map(|p| p.pid()).collect();
                let text = format!("no whole PMT of PID {map} before other packets: PIDs {first:?}");
                complaints.push(Complaint::new("segment-pmt", text));
            }
        }
        let mut seen = Vec::new();
        tables.streams.retain(|s| {
            !seen.contains(s) && {
                seen.push(*s);
                true
            }
        });
        if 0 < all_damaged {
            complaints
                .push(Complaint::new("segment-psi", format!("{all_damaged} tables with a wrong checksum")));
        }
        tables
    }
}

/// The whole sections of a PID, and how many had a wrong checksum.
fn sections(packets: &[Packet<'_>], pid: u16) -> (Vec<Vec<u8>>, usize) {
    let mut section = Section::default();
    let (mut found, mut damaged) = (Vec::new(), 0);
    for packet in packets.iter().filter(|p| p.pid() == pid) {
        match section.push(*packet) {
            Ok(whole) => found.extend(whole),
            Err(()) => damaged += 1,
        }
    }
    (found, damaged)
}

/// How many packets of PAT and PMT stand at the beginning.
pub(super) fn leading(packets: &[Packet<'_>]) -> usize {
    let (found, _) = sections(packets, ts::PAT);
    let maps: Vec<u16> = found.iter().flat_map(|section| ts::programmes(section)).collect();
    packets.iter().take_while(|p| p.pid() == ts::PAT || maps.contains(&p.pid())).count()
}

/// The earliest time stamp of a PID, and how long all of it lasts.
fn times(packets: &[Packet<'_>], pid: u16) -> (Option<u64>, Option<Duration>) {
    let stamps: Vec<u64> = packets.iter().filter(|p| p.pid() == pid).filter_map(|p| p.pts()).collect();
    let Some(anchor) = stamps.first().copied() else { return (None, None) };
    // Signed distances, as pictures are reordered and stamps wrap.
    let from_anchor: Vec<i64> = stamps.iter().map(|stamp| distance(anchor, *stamp)).collect();
    let least = from_anchor.iter().min().copied().unwrap_or(0);
    let most = from_anchor.iter().max().copied().unwrap_or(0);
    let first = (anchor + ts::STAMPS).wrapping_add_signed(least) % ts::STAMPS;
    let spans = u64::try_from(stamps.len().saturating_sub(1)).unwrap_or(u64::MAX);
    // The last one lasts as long as the others do in the mean.
    let span = (most - least).unsigned_abs();
    let duration = span.checked_div(spans).map(|mean| ticks(span + mean));
    (Some(first), duration)
}

/// From one stamp to another, the shorter way round.
pub(super) fn distance(from: u64, to: u64) -> i64 {
    let ahead = (to + ts::STAMPS - from) % ts::STAMPS;
    let behind = ts::STAMPS - ahead;
    if ahead <= behind { ahead.cast_signed() } else { -behind.cast_signed() }
}

/// So many of 90 kHz.
pub(super) fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count.saturating_mul(100_000) / 9)
}

fn duration(found: Option<Duration>, claim: &Claim) -> Option<Complaint> {
    let (found, said) = (found?, claim.duration?);
    let is_far = claim.tolerance < found.abs_diff(said);
    is_far.then(|| {
        Complaint::new("segment-duration", format!("time stamps of {found:?}, the playlist says {said:?}"))
    })
}
