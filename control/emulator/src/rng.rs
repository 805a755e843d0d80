//! Seeded randomness and the hash that ids and keys are made with.

use std::time::Duration;

use md5::{Digest, Md5};

/// A small generator (SplitMix64): the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x6a09_e667_f3bc_c908)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero when `bound` is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// A time up to `most`, to the millisecond.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.below(millis + 1))
    }
}

/// MD5 of `bytes` as 32 hex digits.
pub(crate) fn md5_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Md5::digest(bytes))
}

/// Forty hex digits that follow from `text`.
pub(crate) fn forty_hex(text: &str) -> String {
    let mut digits = md5_hex(text);
    digits.push_str(&md5_hex(format!("{text}+"))[..8]);
    digits
}

/// The first eight bytes of the MD5 of `text` as a number.
pub(crate) fn number_of(text: &str) -> u64 {
    Md5::digest(text).iter().take(8).fold(0, |n, &b| (n << 8) | u64::from(b))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut s, b| {
        // Writing to a string cannot fail.
        write!(s, "{b:02x}").ok();
        s
    })
}
