//! One packet, as a view of its bytes.

use super::Pcr;

/// Bytes of a transport stream packet (ISO/IEC 13818-1 §2.4.3.2).
pub const PACKET_LEN: usize = 188;

/// The first byte of every packet (§2.4.3.3).
pub const SYNC_BYTE: u8 = 0x47;

/// A packet that says nothing: PID 0x1FFF, payload of ones (§2.4.3.3).
pub const NULL_PACKET: [u8; PACKET_LEN] = {
    let mut bytes = [0xFF; PACKET_LEN];
    bytes[0] = SYNC_BYTE;
    bytes[1] = 0x1F;
    bytes[3] = 0x10;
    bytes
};

/// Packet identifier, 13 bits (§2.4.3.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(u16);

impl Pid {
    /// Carries the program association table.
    pub const PAT: Self = Self(0);
    /// Carries null packets.
    pub const NULL: Self = Self(0x1FFF);
    /// How many there are.
    pub const COUNT: usize = 0x2000;

    /// None when `value` has more than 13 bits.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value < 0x2000 { Some(Self(value)) } else { None }
    }

    /// Takes the low 13 bits, as the tables of PSI carry them below three
    /// reserved ones.
    #[must_use]
    pub const fn from_low_bits(value: u16) -> Self {
        Self(value & 0x1FFF)
    }

    /// As a number below 2^13.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// As a place in a table of [`Self::COUNT`] entries.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether a program map or an elementary stream may use it: neither
    /// reserved for tables (below 0x10) nor the null PID (§2.4.3.3, table 2-3).
    #[must_use]
    pub const fn is_assignable(self) -> bool {
        0x10 <= self.0 && self.0 < 0x1FFF
    }
}

impl std::fmt::Debug for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pid({:#06x})", self.0)
    }
}

/// A view of one packet. Total: any 188 bytes can be looked at, and fields that
/// the bytes do not hold read as absent.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a>(&'a [u8; PACKET_LEN]);

impl<'a> Packet<'a> {
    /// Looks at `bytes`; what stands where the sync byte should be is the
    /// caller's business, see [`Self::has_sync`].
    #[must_use]
    pub const fn new(bytes: &'a [u8; PACKET_LEN]) -> Self {
        Self(bytes)
    }

    /// The first packet of `bytes`; none when they are fewer than 188.
    #[must_use]
    pub fn first_of(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Self)
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8; PACKET_LEN] {
        self.0
    }

    /// Whether it starts with the sync byte.
    #[must_use]
    pub const fn has_sync(self) -> bool {
        self.0[0] == SYNC_BYTE
    }

    /// transport_error_indicator: some bit of the packet is wrong.
    #[must_use]
    pub const fn transport_error(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// payload_unit_start_indicator: a PES packet starts with this payload, or
    /// a section within it.
    #[must_use]
    pub const fn payload_unit_start(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    /// The packet identifier.
    #[must_use]
    pub const fn pid(self) -> Pid {
        Pid::from_low_bits(u16::from_be_bytes([self.0[1], self.0[2]]))
    }

    /// transport_scrambling_control, two bits; zero is in the clear.
    #[must_use]
    pub const fn scrambling(self) -> u8 {
        self.0[3] >> 6
    }

    /// adaptation_field_control says that there is an adaptation field.
    #[must_use]
    pub const fn has_adaptation_field(self) -> bool {
        self.0[3] & 0x20 != 0
    }

    /// adaptation_field_control says that there is payload.
    #[must_use]
    pub const fn has_payload(self) -> bool {
        self.0[3] & 0x10 != 0
    }

    /// continuity_counter, four bits.
    #[must_use]
    pub const fn continuity_counter(self) -> u8 {
        self.0[3] & 0x0F
    }

    /// The adaptation field after its length byte; empty when there is none,
    /// when its length is zero (a single byte of stuffing), and when it claims
    /// more than the packet holds (§2.4.3.5: at most 183).
    #[must_use]
    pub fn adaptation_field(self) -> &'a [u8] {
        if !self.has_adaptation_field() {
            return &[];
        }
        self.0.get(5..5 + usize::from(self.0[4])).unwrap_or(&[])
    }

    fn adaptation_flag(self, mask: u8) -> bool {
        self.adaptation_field().first().is_some_and(|flags| flags & mask != 0)
    }

    /// discontinuity_indicator.
    #[must_use]
    pub fn discontinuity(self) -> bool {
        self.adaptation_flag(0x80)
    }

    /// random_access_indicator.
    #[must_use]
    pub fn random_access(self) -> bool {
        self.adaptation_flag(0x40)
    }

    /// The program clock reference, where there is a valid one.
    #[must_use]
    pub fn pcr(self) -> Option<Pcr> {
        if !self.adaptation_flag(0x10) {
            return None;
        }
        self.adaptation_field().get(1..)?.first_chunk().and_then(|bytes| Pcr::from_bytes(*bytes))
    }

    /// The payload; empty when there is none, and when the adaptation field
    /// claims more than the packet holds.
    #[must_use]
    pub fn payload(self) -> &'a [u8] {
        match (self.has_payload(), self.has_adaptation_field()) {
            (false, _) => &[],
            (true, false) => &self.0[4..],
            (true, true) => self.0.get(5 + usize::from(self.0[4])..).unwrap_or(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(head: &[u8]) -> [u8; PACKET_LEN] {
        let mut bytes = [0xEE; PACKET_LEN];
        bytes[..head.len()].copy_from_slice(head);
        bytes
    }

    /// §2.4.3.2, table 2-2.
    #[test]
    fn header_fields_are_where_the_standard_puts_them() {
        type Fields = (u16, bool, bool, u8, bool, bool, u8);
        let rows: [(&str, [u8; 4], Fields); 8] = [
            ("all clear", [0x47, 0, 0, 0], (0, false, false, 0, false, false, 0)),
            ("error bit", [0x47, 0x80, 0, 0], (0, true, false, 0, false, false, 0)),
            ("unit start", [0x47, 0x40, 0, 0], (0, false, true, 0, false, false, 0)),
            ("priority is no PID bit", [0x47, 0x20, 0, 0], (0, false, false, 0, false, false, 0)),
            ("the last PID", [0x47, 0x1F, 0xFF, 0], (0x1FFF, false, false, 0, false, false, 0)),
            ("both scrambling bits", [0x47, 0, 0, 0xC0], (0, false, false, 3, false, false, 0)),
            ("adaptation only", [0x47, 0, 0, 0x2F], (0, false, false, 0, true, false, 15)),
            ("payload only", [0x47, 1, 2, 0x17], (0x102, false, false, 0, false, true, 7)),
        ];
        for (name, head, fields) in rows {
            let bytes = packet(&head);
            let p = Packet::new(&bytes);
            let got = (
                p.pid().get(),
                p.transport_error(),
                p.payload_unit_start(),
                p.scrambling(),
                p.has_adaptation_field(),
                p.has_payload(),
                p.continuity_counter(),
            );
            assert_eq!(got, fields, "{name}");
        }
    }

    /// §2.4.3.4, table 2-6; §2.4.3.5 on the length.
    #[test]
    fn adaptation_fields_give_their_flags_and_leave_the_payload() {
        let pcr = Pcr::new(1, 0);
        for (name, head, flags, pcr, payload) in [
            ("none", &[0x47, 0, 0, 0x10][..], (false, false), None, 184),
            ("one byte of stuffing", &[0x47, 0, 0, 0x30, 0], (false, false), None, 183),
            ("discontinuity", &[0x47, 0, 0, 0x30, 1, 0x80], (true, false), None, 182),
            ("random access", &[0x47, 0, 0, 0x30, 1, 0x40], (false, true), None, 182),
            ("PCR", &[0x47, 0, 0, 0x30, 7, 0x10, 0, 0, 0, 0, 0xFE, 0], (false, false), pcr, 176),
            ("PCR cut short", &[0x47, 0, 0, 0x30, 6, 0x10, 0, 0, 0, 0, 0xFE], (false, false), None, 177),
            ("fills the packet", &[0x47, 0, 0, 0x20, 183, 0xC0], (true, true), None, 0),
            ("longest beside payload", &[0x47, 0, 0, 0x30, 182, 0], (false, false), None, 1),
            ("longer than the packet", &[0x47, 0, 0, 0x30, 184, 0xFF], (false, false), None, 0),
            ("flags without a field", &[0x47, 0, 0, 0x10, 1, 0xFF], (false, false), None, 184),
        ] {
            let bytes = packet(head);
            let p = Packet::new(&bytes);
            assert_eq!((p.discontinuity(), p.random_access()), flags, "{name}");
            assert_eq!(p.pcr(), pcr, "{name}");
            assert_eq!(p.payload().len(), payload, "{name}");
        }
    }

    #[test]
    fn a_null_packet_is_one() {
        let p = Packet::new(&NULL_PACKET);
        assert!(p.has_sync() && p.has_payload() && !p.has_adaptation_field() && !p.payload_unit_start());
        assert_eq!((p.pid(), p.payload().len()), (Pid::NULL, 184));
        assert_eq!(Pid::new(0x2000), None);
        assert!(Packet::first_of(&NULL_PACKET[1..]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_looked_at(head in any::<[u8; 16]>()) {
            let bytes = packet(&head);
            let p = Packet::new(&bytes);
            let parts = 4 + usize::from(p.has_adaptation_field()) + p.adaptation_field().len() + p.payload().len();
            prop_assert!(parts <= PACKET_LEN);
            if p.pcr().is_some() || p.random_access() || p.discontinuity() {
                prop_assert!(p.has_adaptation_field());
            }
        }
    }
}
