//! What the head of a PES packet tells of time.

use super::Packet;

/// Ticks of a time stamp, before it begins anew (ISO/IEC 13818-1 §2.4.3.7).
pub const STAMP_MODULUS: u64 = 1 << 33;
/// Ticks of a time stamp in a second.
pub const STAMP_HZ: u64 = 90_000;

/// When the access unit is to be decoded that begins with the PES packet that
/// starts in `packet`: its DTS, or else its PTS, in ticks of 90 kHz below
/// 2^33. None when no PES packet with such a stamp starts there, its head does
/// not fit into the packet, or a marker bit is wrong.
///
/// Source: ISO/IEC 13818-1 §2.4.3.6 and §2.4.3.7.
#[must_use]
pub fn decode_time(packet: Packet<'_>) -> Option<u64> {
    if !packet.payload_unit_start() || packet.scrambling() != 0 {
        return None;
    }
    let pes = packet.payload();
    let flags = match pes {
        [0, 0, 1, _, _, _, marker, flags, ..] if marker >> 6 == 0b10 => flags >> 6,
        _ => return None,
    };
    match flags {
        0b10 => stamp(pes.get(9..14)?, 0b0010),
        0b11 => {
            stamp(pes.get(9..14)?, 0b0011)?;
            stamp(pes.get(14..19)?, 0b0001)
        }
        _ => None,
    }
}

/// Thirty-three bits in five bytes, behind `prefix` and between marker bits.
fn stamp(bytes: &[u8], prefix: u8) -> Option<u64> {
    let &[a, b, c, d, e] = bytes else { return None };
    if a >> 4 != prefix || a & c & e & 1 == 0 {
        return None;
    }
    let high = u64::from(a >> 1 & 0b111) << 30;
    let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
    Some(high | middle | u64::from(u16::from_be_bytes([d, e]) >> 1))
}

#[cfg(test)]
mod tests {
    use super::{super::PACKET_LEN, *};

    fn write(value: u64, prefix: u8) -> [u8; 5] {
        let bits = |from: u64, mask: u64| u8::try_from(value >> from & mask).unwrap();
        [
            prefix << 4 | bits(30, 7) << 1 | 1,
            bits(22, 0xFF),
            bits(15, 0x7F) << 1 | 1,
            bits(7, 0xFF),
            bits(0, 0x7F) << 1 | 1,
        ]
    }

    fn packet(pes: &[u8]) -> [u8; PACKET_LEN] {
        let mut bytes = [0xFF; PACKET_LEN];
        bytes[..4].copy_from_slice(&[0x47, 0x41, 0x00, 0x10]);
        bytes[4..4 + pes.len()].copy_from_slice(pes);
        bytes
    }

    fn head(flags: u8, stamps: &[[u8; 5]]) -> Vec<u8> {
        let mut pes = vec![0, 0, 1, 0xE0, 0, 0, 0x80, flags << 6, 10];
        stamps.iter().for_each(|stamp| pes.extend(stamp));
        pes
    }

    #[test]
    fn the_time_to_decode_is_read_and_anything_else_is_none() {
        for value in [0, 1, 0x7FFF, 0x8000, 0x1234_5678, STAMP_MODULUS - 1] {
            let other = value ^ 0x1_5555_5555;
            for (pes, found) in [
                (head(0b10, &[write(value, 0b0010)]), Some(value)),
                (head(0b11, &[write(other, 0b0011), write(value, 0b0001)]), Some(value)),
                (head(0b10, &[write(value, 0b0011)]), None),
                (head(0b11, &[write(other, 0b0011), write(value, 0b0010)]), None),
                (head(0b00, &[write(value, 0b0010)]), None),
                (head(0b01, &[write(value, 0b0010)]), None),
            ] {
                assert_eq!(decode_time(Packet::new(&packet(&pes))), found, "{pes:02x?}");
            }
        }
        let whole = head(0b10, &[write(5, 0b0010)]);
        let spoilt = |at: usize, bits: u8| {
            let mut bytes = packet(&whole);
            bytes[at] ^= bits;
            decode_time(Packet::new(&bytes))
        };
        assert_eq!(spoilt(1, 0x40), None, "no unit starts");
        assert_eq!(spoilt(3, 0x80), None, "scrambled");
        for at in [4, 5, 6, 10] {
            assert_eq!(spoilt(at, 0x40), None, "byte {at}");
        }
        for at in [13, 15, 17] {
            assert_eq!(spoilt(at, 1), None, "marker in byte {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_packet_gets_a_verdict(bytes: [u8; PACKET_LEN]) {
            let found = decode_time(Packet::new(&bytes));
            proptest::prop_assert!(found.is_none_or(|time| time < STAMP_MODULUS));
        }
    }
}
