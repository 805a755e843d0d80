//! The programme's clock.

use std::time::Duration;

/// Program clock reference, in ticks of 27 MHz.
///
/// Range `0..MODULUS`; wraps about every 26.5 hours.
/// Source: ISO/IEC 13818-1 §2.4.3.5, `base × 300 + extension`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pcr(u64);

impl Pcr {
    /// Ticks per second of the system clock (§2.4.2.1).
    pub const HZ: u64 = 27_000_000;
    /// The first value that is not a PCR: 33 bits of base, 300 ticks each.
    pub const MODULUS: u64 = (1 << 33) * 300;

    /// `base` counts 90 kHz in 33 bits, `extension` counts 27 MHz in `0..300`;
    /// none when one of them is out of range.
    #[must_use]
    pub const fn new(base: u64, extension: u16) -> Option<Self> {
        if base < 1 << 33 && extension < 300 { Some(Self(base * 300 + extension as u64)) } else { None }
    }

    /// The PCR `ticks` after the zero of the clock, wrapped.
    #[must_use]
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks % Self::MODULUS)
    }

    /// The PCR that a clock started at zero shows after `time`, wrapped;
    /// rounded down to a tick.
    #[must_use]
    pub fn from_duration(time: Duration) -> Self {
        let ticks = time.as_nanos() * 27 / 1000 % u128::from(Self::MODULUS);
        // Below the modulus, so it fits.
        Self(u64::try_from(ticks).unwrap_or(0))
    }

    /// Ticks of 27 MHz since the zero of the clock; `0..MODULUS`.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// The 90 kHz part; below 2^33.
    #[must_use]
    pub const fn base(self) -> u64 {
        self.0 / 300
    }

    /// The 27 MHz part; `0..300`.
    #[must_use]
    pub const fn extension(self) -> u16 {
        (self.0 % 300) as u16
    }

    /// Ticks from `earlier` to `self`, across at most one wrap.
    #[must_use]
    pub const fn ticks_since(self, earlier: Self) -> u64 {
        (self.0 + Self::MODULUS - earlier.0) % Self::MODULUS
    }

    /// Time from `earlier` to `self`, across at most one wrap; rounded down to
    /// a nanosecond.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Self::duration(self.ticks_since(earlier))
    }

    /// How long `ticks` of 27 MHz last; rounded down to a nanosecond.
    #[must_use]
    pub const fn duration(ticks: u64) -> Duration {
        // The remainder is below 27,000,000, so the product stays below 2^35.
        Duration::from_secs(ticks / Self::HZ)
            .saturating_add(Duration::from_nanos(ticks % Self::HZ * 1000 / 27))
    }

    /// `self` moved on by `time`, wrapped; rounded down to a tick.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self((self.0 + Self::from_duration(time).0) % Self::MODULUS)
    }

    /// The six bytes of the adaptation field (§2.4.3.4): 33 bits of base, six
    /// reserved ones, nine bits of extension.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 6] {
        let bits = (self.base() << 15) | (0x3F << 9) | self.extension() as u64;
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Reads the six bytes of the adaptation field; none when the extension is
    /// not below 300.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 6]) -> Option<Self> {
        let [a, b, c, d, e, f] = bytes;
        let bits = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Self::new(bits >> 15, (bits & 0x1FF) as u16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAST: u64 = (1 << 33) - 1;

    fn pcr((base, extension): (u64, u16)) -> Pcr {
        Pcr::new(base, extension).unwrap()
    }

    #[test]
    fn ticks_are_counted_across_the_wrap() {
        for (name, from, to, ticks) in [
            ("same instant", (0, 0), (0, 0), 0),
            ("one 90 kHz tick", (0, 0), (1, 0), 300),
            ("one 27 MHz tick", (7, 298), (7, 299), 1),
            ("extension carries into base", (0, 299), (1, 0), 1),
            ("across the wrap", (LAST, 299), (0, 0), 1),
            ("backwards is almost a whole turn", (0, 1), (0, 0), Pcr::MODULUS - 1),
        ] {
            assert_eq!(pcr(to).ticks_since(pcr(from)), ticks, "{name}");
        }
    }

    /// §2.4.3.4 gives the bits, §2.4.3.5 the ranges.
    #[test]
    fn the_bytes_are_those_of_the_adaptation_field() {
        for (name, bytes, value) in [
            ("zero", [0, 0, 0, 0, 0x7E, 0], Some((0, 0))),
            ("one second", [0, 0, 0xAF, 0xC8, 0x7E, 0], Some((90_000, 0))),
            ("odd base, extension 299", [0, 0, 0, 0, 0xFF, 0x2B], Some((1, 299))),
            ("the last", [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x2B], Some((LAST, 299))),
            ("extension out of range", [0, 0, 0, 0, 0x7F, 0x2C], None),
        ] {
            assert_eq!(Pcr::from_bytes(bytes), value.map(pcr), "{name}");
            if let Some(value) = value {
                assert_eq!(pcr(value).to_bytes(), bytes, "{name}");
            }
        }
        assert_eq!(Pcr::new(LAST + 1, 0), None);
        assert_eq!(Pcr::new(0, 300), None);
    }

    #[test]
    fn durations_are_exact_to_the_nanosecond() {
        assert_eq!(Pcr::duration(27), Duration::from_micros(1));
        assert_eq!(Pcr::duration(Pcr::MODULUS), Duration::from_nanos(95_443_717_688_888));
        assert_eq!(Pcr::from_duration(Duration::from_secs(1)).base(), 90_000);
        let wrapped = pcr((LAST, 0)).plus(Duration::from_secs(1));
        assert_eq!(wrapped.since(pcr((LAST, 0))), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn arithmetic_holds_across_the_wrap(from in 0..Pcr::MODULUS, step in 0..Pcr::MODULUS) {
            let (a, b) = (Pcr::from_ticks(from), Pcr::from_ticks(from + step));
            prop_assert_eq!(b.ticks_since(a), step);
            prop_assert_eq!((a.ticks_since(b) + step) % Pcr::MODULUS, 0);
            prop_assert_eq!(Pcr::from_bytes(b.to_bytes()), Some(b));
            prop_assert_eq!(Pcr::new(b.base(), b.extension()), Some(b));
            let drift = Pcr::from_duration(Pcr::duration(step)).ticks();
            prop_assert!(step - drift <= 1, "rounding loses at most a tick");
        }
    }
}
