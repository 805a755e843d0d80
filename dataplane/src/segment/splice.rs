//! Where two readings of one broadcast meet.
//!
//! Engines relay the same signed pieces, so that two of them give the same
//! packets, from different places on. A packet with a PCR occurs only once:
//! its fingerprint tells whether a second reading has reached it, and from
//! there on bytes are compared.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

use millrace_media::ts::{PACKET_LEN, Packet, Pcr, Pid};

/// Stream time over which fingerprints are kept: engines lie at most 15 s
/// apart, and a failover takes a few seconds.
const SPAN: Duration = Duration::from_secs(30);
/// Fingerprints kept at most; at the usual 25 to 40 a second [`SPAN`] is less.
const MOST: usize = 4_096;
/// The newest fingerprints, among which the place to compare from is looked for.
const NEAR: usize = 64;

/// One packet with a PCR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) fingerprint: u64,
    /// Absolute byte offset of the packet.
    pub(super) offset: u64,
    pub(super) pcr: Pcr,
}

/// The newest packets with a PCR. Every stream keeps them and few ever need
/// them, so they are kept small and looked through, not indexed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    marks: VecDeque<Mark>,
}

impl Marks {
    /// Adds the packet at `offset`, and forgets what is too old.
    pub(super) fn add(&mut self, packet: Packet<'_>, pcr: Pcr, offset: u64) {
        self.marks.push_back(Mark { fingerprint: fingerprint(packet), offset, pcr });
        while let Some(oldest) = self.marks.front()
            && (self.marks.len() > MOST || ahead(pcr, oldest.pcr).is_none_or(|by| by > SPAN))
        {
            self.marks.pop_front();
        }
    }

    /// Forgets what lies before `offset`.
    pub(super) fn forget_before(&mut self, offset: u64) {
        while self.marks.front().is_some_and(|m| m.offset < offset) {
            self.marks.pop_front();
        }
    }

    /// The oldest PCR kept.
    pub(super) fn first_pcr(&self) -> Option<Pcr> {
        self.marks.front().map(|m| m.pcr)
    }

    /// The newest PCR kept.
    pub(super) fn last_pcr(&self) -> Option<Pcr> {
        self.marks.back().map(|m| m.pcr)
    }

    /// The newest one.
    pub(super) fn newest(&self) -> Option<Mark> {
        self.marks.back().copied()
    }

    /// Where the newest packet that `other` has from its offset `from` on as well
    /// stands: here and there.
    pub(super) fn meets(&self, other: &Self, from: u64) -> Option<(u64, u64)> {
        let near = self.near();
        // Of equal ones the newest, here and there.
        let there = other.marks.iter().rev().take_while(|there| there.offset >= from);
        let common = there.filter_map(|there| Some((age_in(&near, there)?, there.offset)));
        let (age, there) = common.min_by_key(|(age, _): &(usize, u64)| *age)?;
        Some((self.marks[self.marks.len() - 1 - age].offset, there))
    }

    /// Whether one of the newest packets of `other` is here, wherever.
    pub(super) fn contains_newest_of(&self, other: &Self) -> bool {
        let near = other.near();
        self.marks.iter().rev().any(|here| age_in(&near, here).is_some())
    }

    /// The newest, in order of their fingerprints, and how many are newer.
    fn near(&self) -> Vec<(u64, usize)> {
        let mut near: Vec<_> =
            self.marks.iter().rev().take(NEAR).map(|here| here.fingerprint).zip(0..).collect();
        near.sort_unstable();
        near
    }
}

/// How many are newer than what is the same as `mark`.
fn age_in(near: &[(u64, usize)], mark: &Mark) -> Option<usize> {
    let at = near.partition_point(|(fingerprint, _)| *fingerprint < mark.fingerprint);
    let (fingerprint, age) = near.get(at)?;
    (*fingerprint == mark.fingerprint).then_some(*age)
}

/// By how much `a` is ahead of `b` on one clock; none when it is behind.
pub(super) fn ahead(a: Pcr, b: Pcr) -> Option<Duration> {
    let ticks = a.ticks_since(b);
    (ticks <= Pcr::MODULUS / 2).then(|| Pcr::duration(ticks))
}

/// How the packets of `candidate` go on where those of `chain` end. Null
/// packets carry nothing and count in neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// All of `chain` is there; what follows begins at this byte of `candidate`.
    Continues(usize),
    /// All of `candidate` is there, and more is to come.
    NotYet,
    /// They differ.
    Differs,
}

/// Compares packet by packet from a common one on.
pub(super) fn compare(chain: &[u8], candidate: &[u8]) -> Meeting {
    let mut here = carrying(chain).map(|(_, packet)| packet);
    let mut there = carrying(candidate);
    let mut end = 0;
    loop {
        match (here.next(), there.next()) {
            (None, _) => return Meeting::Continues(end),
            (Some(_), None) => return Meeting::NotYet,
            (Some(a), Some((_, b))) if a != b => return Meeting::Differs,
            (Some(_), Some((at, _))) => end = at + PACKET_LEN,
        }
    }
}

/// The packets that carry something, with their places in bytes.
fn carrying(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8; PACKET_LEN])> {
    let (packets, _) = bytes.as_chunks::<PACKET_LEN>();
    packets
        .iter()
        .enumerate()
        .filter(|(_, packet)| Packet::new(packet).pid() != Pid::NULL)
        .map(|(i, packet)| (i * PACKET_LEN, packet))
}

/// Of all bytes of the packet.
pub(super) fn fingerprint(packet: Packet<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(packet.bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use millrace_media::ts::NULL_PACKET;

    use super::*;

    fn packets(numbers: &[u8]) -> Vec<u8> {
        let packet = |n: &u8| match n {
            0 => NULL_PACKET,
            n => {
                let mut packet = [*n; PACKET_LEN];
                packet[..4].copy_from_slice(&[0x47, 0x01, 0x00, 0x10]);
                packet
            }
        };
        numbers.iter().flat_map(packet).collect()
    }

    #[test]
    fn bytes_go_on_where_the_chain_ends_whatever_null_packets_stand_between() {
        let at = |n: usize| n * PACKET_LEN;
        for (name, chain, candidate, meeting) in [
            ("the next packet", &[1, 2][..], &[1, 2, 3][..], Meeting::Continues(at(2))),
            ("nothing more yet", &[1, 2], &[1, 2], Meeting::Continues(at(2))),
            ("our filler", &[1, 2, 0, 0, 0], &[1, 2, 3], Meeting::Continues(at(2))),
            ("null packets of the broadcast", &[1, 2, 3], &[1, 0, 2, 0, 3, 4], Meeting::Continues(at(5))),
            ("behind", &[1, 2, 3], &[1, 2], Meeting::NotYet),
            ("a packet is missing", &[1, 2, 3], &[1, 3, 4], Meeting::Differs),
            ("a packet is missing here", &[1, 3], &[1, 2, 3], Meeting::Differs),
        ] {
            assert_eq!(compare(&packets(chain), &packets(candidate)), meeting, "{name}");
        }
    }

    #[test]
    fn marks_are_bounded_in_time_and_in_number_and_across_a_wrap() {
        let packet = |n: u32| {
            let mut bytes = NULL_PACKET;
            bytes[100..104].copy_from_slice(&n.to_le_bytes());
            bytes
        };
        let mut marks = Marks::default();
        let base = Pcr::MODULUS - 10 * Pcr::HZ;
        for n in 0..2_000u32 {
            let pcr = Pcr::from_ticks((base + u64::from(n) * Pcr::HZ / 25) % Pcr::MODULUS);
            marks.add(Packet::new(&packet(n)), pcr, u64::from(n) * 188);
        }
        assert_eq!(marks.marks.len(), 30 * 25 + 1);
        for n in 0..5_000u32 {
            marks.add(Packet::new(&packet(n)), Pcr::from_ticks(1), u64::from(n));
        }
        assert_eq!(marks.marks.len(), MOST);
        marks.forget_before(4_999);
        assert_eq!(marks.marks.len(), 1);
    }
}
