//! Reading the fields of a parameter set.

/// Bits, the most significant first. Each read gives none when too few are
/// left.
#[derive(Clone, Debug)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read, at most those there are.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A flag, u(1).
    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit != 0)
    }

    /// An unsigned number of `count` bits, at most 32: u(count).
    pub(super) fn number(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// A number of eight bits.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.number(8).and_then(|value| u8::try_from(value).ok())
    }

    /// Steps over `count` bits.
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at.checked_add(count)?;
        (at <= self.bytes.len() * 8).then(|| self.at = at)
    }

    /// An Exp-Golomb code, ue(v): `0..2^32 - 1` (ITU-T H.264 §9.1).
    pub(super) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros >= 32 {
            return None;
        }
        Some((1u32 << zeros) - 1 + self.number(zeros)?)
    }

    /// Steps over `count` Exp-Golomb codes, whether ue(v) or se(v).
    pub(super) fn skip_golomb(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.golomb().map(drop))
    }

    /// A signed Exp-Golomb code, se(v) (ITU-T H.264 §9.1.1).
    pub(super) fn signed_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.golomb()?);
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

/// `nal` without its emulation prevention bytes: the 3 of each 00 00 03
/// (ITU-T H.264 §7.4.1, H.265 §7.4.2).
pub(super) fn without_emulation_prevention(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Writes what [`Bits`] reads.
#[cfg(test)]
#[derive(Default)]
pub(super) struct BitWriter {
    bits: Vec<bool>,
}

#[cfg(test)]
impl BitWriter {
    pub(super) fn number(mut self, count: u32, value: u64) -> Self {
        self.bits.extend((0..count).rev().map(|shift| value >> shift & 1 != 0));
        self
    }

    pub(super) fn golomb(self, value: u64) -> Self {
        let len = (value + 1).ilog2();
        self.number(2 * len + 1, value + 1)
    }

    pub(super) fn signed_golomb(self, value: i64) -> Self {
        let code = value.unsigned_abs() * 2;
        self.golomb(if value > 0 { code - 1 } else { code })
    }

    pub(super) fn golombs<const N: usize>(self, values: [u64; N]) -> Self {
        values.into_iter().fold(self, Self::golomb)
    }

    /// With rbsp_trailing_bits.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bits = self.bits;
        bits.push(true);
        bits.resize(bits.len().next_multiple_of(8), false);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
    }
}

/// Puts emulation prevention bytes in.
#[cfg(test)]
pub(super) fn with_emulation_prevention(rbsp: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// ITU-T H.264 table 9-2 and 9-3.
    #[test]
    fn exp_golomb_codes_are_those_of_the_table() {
        for (name, bytes, unsigned, signed) in [
            ("1", &[0b1000_0000][..], Some(0), Some(0)),
            ("010", &[0b0100_0000], Some(1), Some(1)),
            ("011", &[0b0110_0000], Some(2), Some(-1)),
            ("00100", &[0b0010_0000], Some(3), Some(2)),
            ("00111", &[0b0011_1000], Some(6), Some(-3)),
            ("0001000", &[0b0001_0000], Some(7), Some(4)),
            ("the last", &[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE], Some(u32::MAX - 1), Some(-0x7FFF_FFFF)),
            ("too long", &[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], None, None),
            ("cut short", &[0b0000_0001], None, None),
            ("no end", &[0], None, None),
            ("nothing", &[], None, None),
        ] {
            assert_eq!(Bits::new(bytes).golomb(), unsigned, "{name}");
            assert_eq!(Bits::new(bytes).signed_golomb(), signed, "{name}");
        }
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let mut bits = Bits::new(&[0xA5, 0xFF]);
        assert_eq!((bits.flag(), bits.number(3), bits.byte()), (Some(true), Some(2), Some(0x5F)));
        assert_eq!((bits.number(5), bits.skip(5)), (None, None));
        let mut bits = Bits::new(&[0xA5, 0xFF]);
        assert_eq!((bits.skip(16), bits.flag()), (Some(()), None));
        assert_eq!((Bits::new(&[0; 8]).number(32), Bits::new(&[1]).skip(usize::MAX)), (Some(0), None));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            values in prop::collection::vec(0..u64::from(u32::MAX), 0..20),
            signed in prop::collection::vec(-0x7FFF_FFFFi64..0x7FFF_FFFF, 0..20),
        ) {
            let written = values.iter().fold(BitWriter::default(), |w, v| w.golomb(*v));
            let written = signed.iter().fold(written, |w, v| w.signed_golomb(*v)).finish();
            let carried = with_emulation_prevention(&written);
            prop_assert!(carried.windows(3).all(|w| w[..2] != [0, 0] || w[2] > 2));
            let bytes = without_emulation_prevention(&carried);
            prop_assert_eq!(&bytes, &written);
            let mut bits = Bits::new(&bytes);
            for value in values {
                prop_assert_eq!(bits.golomb().map(u64::from), Some(value));
            }
            for value in signed {
                prop_assert_eq!(bits.signed_golomb(), Some(value));
            }
        }
    }
}
