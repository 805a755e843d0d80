//! A small seeded generator, for jitter only.

use std::time::Duration;

/// `SplitMix64`: one word of state, good enough to spread probes apart.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same sequence.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed nobody can guess, or the clock where the kernel has none to give.
    pub(crate) fn from_kernel() -> Self {
        let mut seed = [0u8; 8];
        match rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK) {
            Ok(_) => Self::new(u64::from_ne_bytes(seed)),
            Err(_) => Self::new(u64::from(millrace_boundary::Monotonic::now().0.subsec_nanos())),
        }
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// `length` ± 20 %.
    pub(crate) fn jitter(&mut self, length: Duration) -> Duration {
        let permille = u32::try_from(800 + self.below(401)).unwrap_or(1000);
        length.saturating_mul(permille) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_fifth_uses_its_range_and_repeats_by_seed() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.jitter(Duration::from_secs(5))).collect::<Vec<_>>()
        };
        let drawn = draw(7);
        assert!(drawn.iter().all(|d| (4_000..=6_000).contains(&d.as_millis())));
        assert!(drawn.iter().any(|d| d.as_millis() < 4_100) && drawn.iter().any(|d| d.as_millis() > 5_900));
        assert_eq!(drawn, draw(7));
        assert_ne!(drawn, draw(8));
    }
}
