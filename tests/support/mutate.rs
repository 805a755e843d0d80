//! Bytes made worse, the same way for the same seed.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

/// `seed` made worse in one to eight places.
pub(crate) fn mutated(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    const SPICE: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"\0",
        b"%",
        b"%00",
        b" ",
        b":",
        b"?",
        b"&id=",
        b"HTTP/1.1",
        b"GET ",
        b"Content-Length: 18446744073709551616\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\xff\xfe",
        b"../",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len().max(1));
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = (random.next() & 0xff) as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(at.min(end)..at.min(end), piece);
            }
            4 => {
                let (byte, count) = ((random.next() & 0xff) as u8, random.below(3_000));
                let at = at.min(bytes.len());
                bytes.splice(at..at, std::iter::repeat_n(byte, count));
            }
            _ => {
                let at = at.min(bytes.len());
                bytes.splice(at..at, SPICE[random.below(SPICE.len())].iter().copied());
            }
        }
    }
    bytes
}
