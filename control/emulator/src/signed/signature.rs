//! The signature in the last 27 bytes of a packet: its number, its time and a
//! checksum over all the rest.

use super::PACKET_BYTES;

/// Where the signature begins; it reaches to the packet's end.
pub(super) const AT: usize = PACKET_BYTES - 27;
/// Where the checksum begins.
const CHECKSUM_AT: usize = PACKET_BYTES - 5;
/// Bits of a packet's number in the signature; the variant follows.
const VARIANT_SHIFT: u32 = 56;
/// First bytes of a signature.
const MAGIC: [u8; 2] = [0xcd, 0xd2];

/// What a signature holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    /// The packet as it is.
    Plain,
    /// One of many forms of the packet, whatever its continuity counter.
    Variant(u8),
}

/// Signs packet `n`, which is on the air at `micros`.
pub(super) fn sign(signed: Signed, n: u64, micros: u64, p: &mut [u8; PACKET_BYTES]) {
    let variant = match signed {
        Signed::Plain => 0,
        Signed::Variant(variant) => u64::from(variant) << VARIANT_SHIFT,
    };
    p[AT..AT + 2].copy_from_slice(&MAGIC);
    spread(n | variant, &mut p[AT + 2..AT + 12]);
    spread(micros, &mut p[AT + 12..CHECKSUM_AT]);
    let sum = checksum(signed, p);
    spread(sum, &mut p[CHECKSUM_AT..]);
}

/// Number and variant in a signed packet, if the packet is whole.
pub(super) fn read(signed: Signed, p: &[u8; PACKET_BYTES]) -> Option<(u64, u8)> {
    if p[AT..AT + 2] != MAGIC || gather(&p[CHECKSUM_AT..]) != checksum(signed, p) {
        return None;
    }
    let both = gather(&p[AT + 2..AT + 12]);
    Some((both & ((1 << VARIANT_SHIFT) - 1), (both >> VARIANT_SHIFT & 0x7f) as u8))
}

fn checksum(signed: Signed, p: &[u8; PACKET_BYTES]) -> u64 {
    if signed == Signed::Plain {
        return sum(p);
    }
    let mut without = *p;
    without[3] &= 0xf0;
    sum(&without)
}

/// 35 bits over all bytes before the checksum.
fn sum(p: &[u8; PACKET_BYTES]) -> u64 {
    const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
    let (words, rest) = p[..CHECKSUM_AT].as_chunks::<8>();
    let mut lanes = [0x51_7cc1_b727_220a_u64, 0x2545_f491_4f6c_dd1d];
    for (word, lane) in words.iter().zip([0usize, 1].into_iter().cycle()) {
        lanes[lane] = (lanes[lane].rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    for &byte in rest {
        lanes[0] = (lanes[0].rotate_left(23) ^ u64::from(byte)).wrapping_mul(FACTOR);
    }
    let sum = lanes[0] ^ lanes[1].rotate_left(31);
    (sum ^ (sum >> 32)) & 0x7_ffff_ffff
}

/// Writes `value` in 7 bit groups with the top bit set: no byte is zero.
fn spread(value: u64, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = 0x80 | (value.unbounded_shr(7 * u32::try_from(i).unwrap_or(u32::MAX)) & 0x7f) as u8;
    }
}

fn gather(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, b| (value << 7) | u64::from(b & 0x7f))
}
