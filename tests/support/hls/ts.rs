//! Transport stream packets and tables. Source: ISO/IEC 13818-1 §2.4.

/// Bytes of a packet.
pub(crate) const PACKET: usize = 188;
/// What each packet begins with.
pub(super) const SYNC: u8 = 0x47;
/// PID of the programme association table.
pub(super) const PAT: u16 = 0;
/// PID of null packets.
pub(super) const NULL: u16 = 0x1fff;
/// Time stamps of 90 kHz wrap here.
pub(super) const STAMPS: u64 = 1 << 33;
/// Longest section. Source: ISO/IEC 13818-1 §2.4.4.4.
const LONGEST_SECTION: usize = 1024;

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a>(pub(super) &'a [u8; PACKET]);

impl<'a> Packet<'a> {
    pub(super) fn pid(self) -> u16 {
        u16::from_be_bytes([self.0[1] & 0x1f, self.0[2]])
    }

    pub(super) fn starts_unit(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    pub(super) fn counter(self) -> u8 {
        self.0[3] & 15
    }

    pub(super) fn has_payload(self) -> bool {
        self.0[3] & 0x10 != 0
    }

    /// The adaptation field from its flags on; empty when there is none.
    fn field(self) -> &'a [u8] {
        if self.0[3] & 0x20 == 0 {
            return &[];
        }
        let length = usize::from(self.0[4]);
        self.0.get(5..5 + length).unwrap_or(&[])
    }

    fn flag(self, bit: u8) -> bool {
        self.field().first().is_some_and(|flags| flags & bit != 0)
    }

    pub(super) fn is_discontinuity(self) -> bool {
        self.flag(0x80)
    }

    pub(super) fn is_random_access(self) -> bool {
        self.flag(0x40)
    }

    pub(super) fn payload(self) -> &'a [u8] {
        let at = if self.0[3] & 0x20 == 0 { 4 } else { 5 + usize::from(self.0[4]) };
        if self.has_payload() { self.0.get(at..).unwrap_or(&[]) } else { &[] }
    }

    /// Equal to `other` but for a clock, as a repeated packet is. Source: §2.4.3.3.
    pub(super) fn repeats(self, other: Packet<'_>) -> bool {
        let clock = if self.flag(0x10) { 6..12 } else { 0..0 };
        let differs = |(place, (a, b)): (usize, (&u8, &u8))| a != b && !clock.contains(&place);
        !self.0.iter().zip(other.0).enumerate().any(differs)
    }

    /// The time stamp of the PES packet that starts here. Source: §2.4.3.6.
    pub(super) fn pts(self) -> Option<u64> {
        let payload = self.payload();
        let is_stamped = self.starts_unit() && payload.starts_with(&[0, 0, 1]) && payload.get(7)? & 0x80 != 0;
        let b = payload.get(9..14).filter(|_| is_stamped)?;
        let bits = |at: usize, mask: u8| b.get(at).map(|byte| u64::from(byte & mask));
        Some(
            bits(0, 0x0e)? << 29
                | bits(1, 0xff)? << 22
                | bits(2, 0xfe)? << 14
                | bits(3, 0xff)? << 7
                | bits(4, 0xfe)? >> 1,
        )
    }
}

/// The whole packets of `bytes`.
pub(super) fn packets(bytes: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    bytes.as_chunks::<PACKET>().0.iter().map(Packet)
}

/// A stream of a programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// stream_type.
    pub(crate) kind: u8,
    /// Its PID.
    pub(crate) pid: u16,
}

impl Stream {
    /// MPEG-1, MPEG-2, MPEG-4, H.264 and H.265. Source: §2.4.4.9.
    pub(super) fn is_picture(self) -> bool {
        matches!(self.kind, 0x01 | 0x02 | 0x10 | 0x1b | 0x24)
    }
}

/// Collects the section of a table from the packets of its PID.
#[derive(Debug, Default)]
pub(super) struct Section(Vec<u8>);

impl Section {
    /// Takes a packet; the section without its checksum, once it is whole. An
    /// error is one whose checksum is wrong.
    pub(super) fn push(&mut self, packet: Packet<'_>) -> Result<Option<Vec<u8>>, ()> {
        let payload = packet.payload();
        if packet.starts_unit() {
            let pointer = payload.first().map_or(0, |p| usize::from(*p));
            self.0 = payload.get(1 + pointer..).unwrap_or(&[]).to_vec();
        } else if !self.0.is_empty() {
            self.0.extend_from_slice(payload);
        }
        let [_, high, low, ..] = self.0[..] else { return Ok(None) };
        let length = 3 + usize::from(u16::from_be_bytes([high & 0x0f, low]));
        if self.0.len() < length {
            return Ok(None);
        }
        let mut section = std::mem::take(&mut self.0);
        section.truncate(length);
        if !(12..=LONGEST_SECTION).contains(&length) || checksum(&section) != 0 {
            return Err(());
        }
        section.truncate(length - 4);
        Ok(Some(section))
    }
}

/// CRC of a section; 0 over one with a right checksum. Source: §2.4.4 and annex A.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
        })
    })
}

/// PIDs of the programme map tables of a PAT section. Source: §2.4.4.3.
pub(super) fn programmes(section: &[u8]) -> Vec<u16> {
    let entries = section.get(8..).unwrap_or(&[]).as_chunks::<4>().0;
    // Number 0 is the network table.
    let programmes = entries.iter().filter(|e| e[..2] != [0, 0]);
    programmes.map(|e| u16::from_be_bytes([e[2] & 0x1f, e[3]])).collect()
}

/// The streams of a PMT section. Source: §2.4.4.8.
pub(super) fn streams(section: &[u8]) -> Vec<Stream> {
    let length = |high: u8, low: u8| usize::from(u16::from_be_bytes([high & 0x0f, low]));
    let descriptors = match section.get(10..12) {
        Some([high, low]) => length(*high, *low),
        _ => return Vec::new(),
    };
    let mut rest = section.get(12 + descriptors..).unwrap_or(&[]);
    let mut streams = Vec::new();
    while let [kind, pid_high, pid_low, high, low, behind @ ..] = rest {
        streams.push(Stream { kind: *kind, pid: u16::from_be_bytes([pid_high & 0x1f, *pid_low]) });
        rest = behind.get(length(*high, *low)..).unwrap_or(&[]);
    }
    streams
}
