//! Putting sections together from the packets of one PID.
//!
//! Source: ISO/IEC 13818-1 §2.4.4.1 on pointer_field and stuffing.

use super::Packet;

/// The longest PAT or PMT section, header and CRC included: section_length is
/// at most 1021 (§2.4.4.4, §2.4.4.9).
pub(super) const SECTION_MAX: usize = 1024;

/// Header up to and with section_length.
const HEADER_LEN: usize = 3;

/// The sections of one PID.
///
/// Holds one unfinished section of at most [`SECTION_MAX`] bytes. Longer ones
/// (private tables may share the PID) are stepped over.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembler {
    section: Vec<u8>,
    /// Bytes of the current section that were met, kept or not; zero when none
    /// is being put together.
    met: usize,
}

impl Assembler {
    /// Takes the next packet of the PID that is neither a duplicate nor
    /// scrambled; `broken` says that packets before it are missing. Hands each
    /// section that it completes to `done`, unverified. Returns false when the
    /// payload contradicts itself.
    pub(super) fn push(&mut self, packet: Packet<'_>, broken: bool, mut done: impl FnMut(&[u8])) -> bool {
        if broken {
            self.met = 0;
        }
        let payload = packet.payload();
        if !packet.payload_unit_start() {
            if self.met > 0 {
                self.take(payload, &mut done);
            }
            return true;
        }
        let Some((tail, mut rest)) =
            payload.split_first().and_then(|(&pointer, after)| after.split_at_checked(usize::from(pointer)))
        else {
            self.met = 0;
            return false;
        };
        if self.met > 0 {
            self.take(tail, &mut done);
        }
        let consistent = self.met == 0;
        self.met = 0;
        // A table_id of 0xFF is stuffing up to the end of the packet.
        while rest.first().is_some_and(|&table_id| table_id != 0xFF) {
            rest = self.take(rest, &mut done);
        }
        consistent
    }

    /// Adds `bytes` to the current section or begins one with them; returns
    /// those behind its end.
    fn take<'a>(&mut self, bytes: &'a [u8], done: &mut impl FnMut(&[u8])) -> &'a [u8] {
        if self.met == 0 {
            self.section.clear();
        }
        let mut rest = bytes;
        if self.met < HEADER_LEN {
            let (header, after) = rest.split_at(rest.len().min(HEADER_LEN - self.met));
            self.section.extend_from_slice(header);
            self.met += header.len();
            rest = after;
        }
        let &[_, hi, lo, ..] = self.section.as_slice() else { return rest };
        let len = HEADER_LEN + usize::from(u16::from_be_bytes([hi & 0x0F, lo]));
        let (body, after) = rest.split_at(rest.len().min(len - self.met));
        if len <= SECTION_MAX {
            self.section.extend_from_slice(body);
        }
        self.met += body.len();
        if self.met == len {
            if len <= SECTION_MAX {
                done(&self.section);
            }
            self.met = 0;
        }
        after
    }
}

/// The CRC of §2.4.4 (annex A); zero over a section with its CRC.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i: u32 = 0;
        while i < 256 {
            let mut crc = i << 24;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 };
                bit += 1;
            }
            table[i as usize] = crc;
            i += 1;
        }
        table
    };
    bytes.iter().fold(u32::MAX, |crc, &b| crc << 8 ^ TABLE[usize::from((crc >> 24) as u8 ^ b)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::{NULL_PACKET, PACKET_LEN};

    fn packet(start: bool, payload: &[u8]) -> [u8; PACKET_LEN] {
        let mut p = NULL_PACKET;
        p[1] = if start { 0x40 } else { 0 };
        p[4..4 + payload.len()].copy_from_slice(payload);
        p
    }

    fn section(table_id: u8, len: u16) -> Vec<u8> {
        let [hi, lo] = (len - 3).to_be_bytes();
        let mut s = vec![table_id, 0xB0 | hi, lo];
        s.resize(usize::from(len), table_id);
        s
    }

    #[test]
    fn the_crc_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
        assert_eq!(crc32(b"123456789\x03\x76\xE6\xE7"), 0);
    }

    /// §2.4.4.1, §2.4.4.2.
    #[test]
    fn sections_come_out_whole() {
        let (a, b, long, private) = (section(1, 20), section(2, 60), section(3, 300), section(4, 2000));
        let start =
            |pointer: u8, parts: &[&[u8]]| packet(true, &[&[pointer], parts.concat().as_slice()].concat());
        let more = |part: &[u8]| packet(false, part);
        for (name, packets, expected) in [
            ("one in one", vec![start(0, &[&a])], vec![&a]),
            ("two in one", vec![start(0, &[&a, &b])], vec![&a, &b]),
            ("over two packets", vec![start(0, &[&long[..183]]), more(&long[183..])], vec![&long]),
            (
                "the end before the pointer's end, the next behind it",
                vec![start(0, &[&long[..183]]), start(117, &[&long[183..], &a])],
                vec![&long, &a],
            ),
            ("a pointer over foreign bytes", vec![start(9, &[&[7; 9], &a])], vec![&a]),
            ("a header split over packets", vec![start(182, &[&[7; 182], &a[..1]]), more(&a[1..])], vec![&a]),
            ("a middle without its start", vec![more(&long[183..]), start(0, &[&a])], vec![&a]),
            ("a start without its end", vec![start(0, &[&long[..183]]), start(0, &[&a])], vec![&a]),
            (
                "a long private one is stepped over",
                [
                    vec![start(0, &[&private[..183]])],
                    private[183..].chunks(184).map(more).collect(),
                    vec![start(0, &[&b])],
                ]
                .concat(),
                vec![&b],
            ),
            ("a pointer beyond the packet", vec![start(184, &[&a])], vec![]),
            ("stuffing only", vec![start(0, &[])], vec![]),
        ] {
            let mut assembler = Assembler::default();
            let mut got = Vec::new();
            for p in &packets {
                assembler.push(Packet::new(p), false, |s| got.push(s.to_vec()));
            }
            assert_eq!(got.iter().collect::<Vec<_>>(), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_packet_drops_the_section() {
        let long = section(3, 300);
        let mut assembler = Assembler::default();
        let first = packet(true, &[&[0], &long[..183]].concat());
        assert!(assembler.push(Packet::new(&first), false, |_| panic!("not yet")));
        let second = packet(false, &long[183..]);
        assert!(assembler.push(Packet::new(&second), true, |_| panic!("half of it is missing")));
    }
}
