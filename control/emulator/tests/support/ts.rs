//! A look at transport stream packets, on its own terms.

/// One packet. Source: ISO/IEC 13818-1 §2.4.3.
pub(crate) struct Packet<'a>(pub(crate) &'a [u8; 188]);

/// A PMT: version, PID of the clock, stream types and PIDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pmt {
    pub(crate) version: u8,
    pub(crate) clock: u16,
    pub(crate) streams: Vec<(u8, u16)>,
}

pub(crate) fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
    let all: Vec<_> = bytes.as_chunks::<188>().0.iter().map(Packet).collect();
    assert!(all.iter().all(|p| p.0[0] == 0x47), "not aligned");
    all
}

impl Packet<'_> {
    pub(crate) fn pid(&self) -> u16 {
        u16::from_be_bytes([self.0[1] & 0x1f, self.0[2]])
    }

    pub(crate) fn counter(&self) -> u8 {
        self.0[3] & 15
    }

    fn flags(&self) -> u8 {
        if self.0[3] & 0x20 != 0 && self.0[4] > 0 { self.0[5] } else { 0 }
    }

    pub(crate) fn is_discontinuity(&self) -> bool {
        self.flags() & 0x80 != 0
    }

    pub(crate) fn is_random_access(&self) -> bool {
        self.flags() & 0x40 != 0
    }

    fn payload(&self) -> &[u8] {
        match self.0[3] & 0x30 {
            0x10 => &self.0[4..],
            0x30 => &self.0[5 + usize::from(self.0[4])..],
            _ => &[],
        }
    }

    /// In 27 MHz.
    pub(crate) fn pcr(&self) -> Option<u64> {
        let field = self.0[6..12].iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
        (self.flags() & 0x10 != 0).then(|| (field >> 15) * 300 + (field & 0x1ff))
    }

    /// In 90 kHz.
    pub(crate) fn pts(&self) -> Option<u64> {
        let p = self.payload();
        let is_pes = self.0[1] & 0x40 != 0 && p.len() > 14 && p[..3] == [0, 0, 1] && p[7] & 0x80 != 0;
        let bits = |i: usize| u64::from(p[i]);
        is_pes.then(|| {
            (bits(9) >> 1 & 7) << 30 | bits(10) << 22 | (bits(11) >> 1) << 15 | bits(12) << 7 | bits(13) >> 1
        })
    }

    pub(crate) fn has_idr(&self) -> bool {
        self.payload().windows(4).any(|w| w == [0, 0, 1, 0x65])
    }

    fn section(&self, table: u8) -> Option<&[u8]> {
        let p = if self.0[1] & 0x40 != 0 { self.payload() } else { &[] };
        let s = p.get(1 + usize::from(*p.first()?)..).filter(|s| s.len() > 2 && s[0] == table)?;
        s.get(..3 + (usize::from(s[1] & 15) << 8 | usize::from(s[2])))
    }

    /// PIDs of the PMTs, when this is a PAT whose checksum is right.
    pub(crate) fn pat(&self) -> Option<Vec<u16>> {
        let s = self.section(0).filter(|_| self.pid() == 0)?;
        assert_eq!(crc(s), 0);
        let entries = s[8..s.len() - 4].as_chunks::<4>().0;
        Some(entries.iter().map(|e| u16::from_be_bytes([e[2] & 0x1f, e[3]])).collect())
    }

    pub(crate) fn pmt(&self) -> Option<Pmt> {
        let s = self.section(2).filter(|_| self.pid() & 0xfff0 == 0x1000)?;
        assert_eq!(crc(s), 0);
        let streams = s[12..s.len() - 4].as_chunks::<5>().0;
        Some(Pmt {
            version: s[5] >> 1 & 31,
            clock: u16::from_be_bytes([s[8] & 0x1f, s[9]]),
            streams: streams.iter().map(|e| (e[0], u16::from_be_bytes([e[1] & 0x1f, e[2]]))).collect(),
        })
    }
}

fn crc(section: &[u8]) -> u32 {
    section.iter().fold(u32::MAX, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b) << 24, |c, _| c << 1 ^ if c >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}
