//! Continuity counters: the rule, and the last ones seen.

use super::{Packet, Pid};

/// What the rule of continuity counters says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be, or nothing can be said.
    Ok,
    /// The packet before it on its PID once more, which is legal once.
    Duplicate,
    /// Packets are missing, or somebody numbered them wrongly.
    Error {
        /// The counter that was due.
        expected: u8,
        /// The counter that came.
        found: u8,
    },
}

/// Checks the continuity counters of all PIDs.
///
/// Source: ISO/IEC 13818-1 §2.4.3.3. Counters rise by one, modulo 16, with each
/// packet that has payload, and stay with one that has none. A packet may be
/// sent twice in a row on its PID, identical but for the PCR. After
/// discontinuity_indicator any counter is right. The null PID is exempt.
///
/// 512 bytes for every 128 PIDs of which there are packets: 1 or 2 KiB for the
/// usual stream, 33 KiB for any. Whether a packet is identical is judged by 24
/// bits made from its first bytes, so that a packet costs one cache line.
#[derive(Clone, Debug)]
pub struct ContinuityChecker {
    /// Row of each run of [`ROW`] PIDs.
    row_of: [u8; Pid::COUNT / ROW],
    /// The first one stays blank: it is the row of all that had no packet.
    rows: Vec<[u32; ROW]>,
}

/// PIDs side by side.
const ROW: usize = 128;

// An entry: counter in bits 0..4, two flags, fingerprint in bits 8..32.
const COUNTER: u32 = 0x0F;
const SEEN: u32 = 0x10;
const REPEATABLE: u32 = 0x20;
const FINGERPRINT: u32 = 0xFFFF_FF00;

impl Default for ContinuityChecker {
    fn default() -> Self {
        Self::new()
    }
}

impl ContinuityChecker {
    /// Has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { row_of: [0; Pid::COUNT / ROW], rows: vec![[0; ROW]] }
    }

    /// The counter of the last packet on `pid`; none when there was no packet.
    #[must_use]
    pub fn last(&self, pid: Pid) -> Option<u8> {
        let entry = self.entry(pid);
        (entry & SEEN != 0).then_some((entry & COUNTER) as u8)
    }

    /// Judges the next packet of the stream and remembers its counter.
    pub fn check(&mut self, packet: Packet<'_>) -> Verdict {
        let pid = packet.pid();
        if pid == Pid::NULL {
            return Verdict::Ok;
        }
        let found = packet.continuity_counter();
        let entry = self.entry_mut(pid);
        let before = *entry;
        let last = (before & COUNTER) as u8;
        *entry = SEEN | u32::from(found);
        if packet.has_payload() {
            *entry |= REPEATABLE | fingerprint(packet);
        }
        if before & SEEN == 0 || packet.discontinuity() {
            return Verdict::Ok;
        }
        let is_repeated = packet.has_payload() && found == last && before & REPEATABLE != 0;
        if is_repeated && before & FINGERPRINT == *entry & FINGERPRINT {
            *entry &= !REPEATABLE;
            return Verdict::Duplicate;
        }
        let expected = (last + u8::from(packet.has_payload())) & 0x0F;
        if found == expected { Verdict::Ok } else { Verdict::Error { expected, found } }
    }

    /// The same for a packet that is known to have payload and no adaptation
    /// field. False, and nothing is remembered, unless its counter is the next.
    #[inline]
    pub(super) fn follows(&mut self, pid: Pid, counter: u8, first_bytes: [u8; 8]) -> bool {
        let due = SEEN | (u32::from(counter).wrapping_sub(1) & COUNTER);
        let entry = &mut self.rows[usize::from(self.row_of[pid.index() / ROW])][pid.index() % ROW];
        let follows = *entry & (SEEN | COUNTER) == due;
        if follows {
            *entry = SEEN | REPEATABLE | u32::from(counter) | mix(first_bytes);
        }
        follows
    }

    fn entry(&self, pid: Pid) -> u32 {
        self.rows[usize::from(self.row_of[pid.index() / ROW])][pid.index() % ROW]
    }

    fn entry_mut(&mut self, pid: Pid) -> &mut u32 {
        let row = &mut self.row_of[pid.index() / ROW];
        if *row == 0 {
            *row = u8::try_from(self.rows.len()).expect("at most 65 rows");
            self.rows.push([0; ROW]);
        }
        &mut self.rows[usize::from(*row)][pid.index() % ROW]
    }
}

/// Made from eight bytes behind the header, or behind where a PCR may be.
fn fingerprint(packet: Packet<'_>) -> u32 {
    let bytes = packet.bytes();
    let at = if packet.has_adaptation_field() { 12 } else { 4 };
    bytes[at..].first_chunk().map_or(0, |first| mix(*first))
}

#[inline]
fn mix(bytes: [u8; 8]) -> u32 {
    (u64::from_le_bytes(bytes).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32 & FINGERPRINT
}

/// Last continuity counter seen of each PID that matters; at most
/// [`Self::CAPACITY`].
#[derive(Clone)]
pub struct Continuity {
    len: u8,
    counters: [u8; Self::CAPACITY],
    pids: [u16; Self::CAPACITY],
}

impl Continuity {
    /// How many PIDs are remembered. Seventeen carry the PSI of as many
    /// programs as are looked at; no single program has as many streams as the
    /// rest.
    pub const CAPACITY: usize = 80;

    /// Of no PID.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: 0, counters: [0; Self::CAPACITY], pids: [0; Self::CAPACITY] }
    }

    /// The last counter on `pid`; none when it is not remembered. O(PIDs).
    #[must_use]
    pub fn last(&self, pid: Pid) -> Option<u8> {
        self.iter().find(|&(p, _)| p == pid).map(|(_, counter)| counter)
    }

    /// Remembers the low four bits of `counter` for `pid`, in place of what was
    /// known; a PID beyond the capacity is not remembered.
    pub fn set(&mut self, pid: Pid, counter: u8) {
        let len = usize::from(self.len);
        let at = self.pids[..len].iter().position(|&p| p == pid.get()).unwrap_or(len);
        if at < Self::CAPACITY {
            self.pids[at] = pid.get();
            self.counters[at] = counter & 0x0F;
            self.len += u8::from(at == len);
        }
    }

    /// All that is remembered, each PID once.
    pub fn iter(&self) -> impl Iterator<Item = (Pid, u8)> + '_ {
        let len = usize::from(self.len);
        self.pids[..len].iter().zip(&self.counters).map(|(&p, &c)| (Pid::from_low_bits(p), c))
    }

    /// What `checker` saw last on each of `pids`, which are distinct.
    pub(super) fn of(checker: &ContinuityChecker, pids: &[Pid]) -> Self {
        let mut all = Self::new();
        let seen = pids.iter().filter_map(|&pid| Some((pid, checker.last(pid)?)));
        for (i, (pid, counter)) in seen.take(Self::CAPACITY).enumerate() {
            all.pids[i] = pid.get();
            all.counters[i] = counter;
            all.len += 1;
        }
        all
    }
}

impl Default for Continuity {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Continuity {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Continuity {}

impl std::fmt::Debug for Continuity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ts::PACKET_LEN;

    #[derive(Clone, Copy)]
    enum Shape {
        Payload,
        Bare,
        Jump,
    }
    use Shape::{Bare, Jump, Payload};

    fn packet(pid: u16, shape: Shape, counter: u8, fill: u8) -> [u8; PACKET_LEN] {
        let mut p = [fill; PACKET_LEN];
        let [hi, lo] = pid.to_be_bytes();
        let (control, length, flags) = match shape {
            Payload => (0x10, fill, fill),
            Bare => (0x20, 183, 0),
            Jump => (0x30, 1, 0x80),
        };
        p[..6].copy_from_slice(&[0x47, hi, lo, control | counter, length, flags]);
        p
    }

    fn error(expected: u8, found: u8) -> Verdict {
        Verdict::Error { expected, found }
    }

    /// §2.4.3.3, continuity_counter; §2.4.3.5, discontinuity_indicator.
    #[test]
    fn counters_follow_the_rule_of_the_standard() {
        use Verdict::{Duplicate, Ok};
        // Each step: shape, counter, fill of the payload, verdict.
        type Step = (Shape, u8, u8, Verdict);
        let rows: [(&str, &[Step]); 11] = [
            ("rises by one", &[(Payload, 3, 1, Ok), (Payload, 4, 2, Ok), (Payload, 5, 3, Ok)]),
            ("wraps at sixteen", &[(Payload, 15, 1, Ok), (Payload, 0, 2, Ok)]),
            ("a gap", &[(Payload, 1, 1, Ok), (Payload, 3, 2, error(2, 3)), (Payload, 4, 3, Ok)]),
            ("backwards", &[(Payload, 1, 1, Ok), (Payload, 0, 2, error(2, 0))]),
            (
                "a duplicate is legal once",
                &[(Payload, 1, 1, Ok), (Payload, 1, 1, Duplicate), (Payload, 1, 1, error(2, 1))],
            ),
            (
                "goes on after a duplicate",
                &[(Payload, 1, 1, Ok), (Payload, 1, 1, Duplicate), (Payload, 2, 2, Ok)],
            ),
            ("the same counter with other bytes", &[(Payload, 1, 1, Ok), (Payload, 1, 2, error(2, 1))]),
            (
                "no payload, no step",
                &[(Payload, 1, 1, Ok), (Bare, 1, 0, Ok), (Bare, 1, 0, Ok), (Payload, 2, 2, Ok)],
            ),
            ("a step without payload", &[(Payload, 1, 1, Ok), (Bare, 2, 0, error(1, 2))]),
            (
                "payload after none has to step",
                &[(Payload, 1, 1, Ok), (Bare, 1, 0, Ok), (Payload, 1, 1, error(2, 1))],
            ),
            ("a signalled jump", &[(Payload, 1, 1, Ok), (Jump, 9, 0, Ok), (Payload, 10, 2, Ok)]),
        ];
        for (name, steps) in rows {
            let mut checker = ContinuityChecker::new();
            for (i, &(shape, counter, fill, verdict)) in steps.iter().enumerate() {
                let bytes = packet(0x100, shape, counter, fill);
                assert_eq!(checker.check(Packet::new(&bytes)), verdict, "{name}, step {i}");
                assert_eq!(checker.last(Pid::from_low_bits(0x100)), Some(counter), "{name}, step {i}");
            }
        }
    }

    #[test]
    fn pids_are_apart_and_null_packets_are_exempt() {
        let mut checker = ContinuityChecker::new();
        for (pid, counter) in
            [(0x100, 1), (0x101, 9), (0x1FFF, 4), (0x100, 2), (0x1FFF, 4), (0x101, 10), (0x1FFF, 4)]
        {
            assert_eq!(checker.check(Packet::new(&packet(pid, Payload, counter, 0))), Verdict::Ok);
        }
    }

    #[test]
    fn the_capacity_of_remembered_pids_is_kept() {
        let mut continuity = Continuity::new();
        for pid in 0..100 {
            continuity.set(Pid::from_low_bits(pid), 3);
        }
        continuity.set(Pid::from_low_bits(7), 0x15);
        assert_eq!(continuity.iter().count(), Continuity::CAPACITY);
        assert_eq!(continuity.last(Pid::from_low_bits(7)), Some(5));
        assert_eq!(continuity.last(Pid::from_low_bits(90)), None);
    }

    proptest! {
        /// The short way and the long one remember the same.
        #[test]
        fn the_fast_path_agrees_with_the_rule(packets in prop::collection::vec((0u16..3, 0u8..16, 0u8..2), 0..60)) {
            let (mut fast, mut plain) = (ContinuityChecker::new(), ContinuityChecker::new());
            for (pid, counter, fill) in packets {
                let bytes = packet(pid, Payload, counter, fill);
                let p = Packet::new(&bytes);
                let first = *p.payload().first_chunk().unwrap();
                let verdict = if fast.follows(p.pid(), counter, first) { Verdict::Ok } else { fast.check(p) };
                prop_assert_eq!(verdict, plain.check(p));
                prop_assert_eq!((fast.row_of, &fast.rows), (plain.row_of, &plain.rows));
            }
        }
    }
}
