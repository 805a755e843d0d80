//! Packetized elementary streams: their headers, and the bytes behind them.
//!
//! Source: ISO/IEC 13818-1 §2.4.3.6 and §2.4.3.7.

use super::Packet;

/// Bytes of a PES header up to and with PES_header_data_length.
const HEAD_LEN: usize = 9;

/// Ticks of a time stamp, after which it begins anew: about every 26.5 hours.
pub const STAMP_MODULUS: u64 = 1 << 33;
/// Ticks of a time stamp in a second.
pub const STAMP_HZ: u64 = 90_000;

/// When the access unit is to be decoded with which the PES packet begins that
/// starts in `packet`: its DTS, or its PTS where that is the same.
///
/// In ticks of 90 kHz, `0..2^33`. None when no PES packet starts there, when it
/// is scrambled or in error, when it has no time stamp, when that does not lie
/// within `packet`, and when a fixed bit of it is wrong.
///
/// Source: ISO/IEC 13818-1 §2.4.3.7, table 2-21.
#[must_use]
pub fn decode_time(packet: Packet<'_>) -> Option<u64> {
    if !is_readable(packet) || !packet.payload_unit_start() {
        return None;
    }
    let (head, rest) = packet.payload().split_first_chunk::<HEAD_LEN>()?;
    if !head.iter().enumerate().all(|(at, byte)| may_be_head(at, *byte)) {
        return None;
    }
    // PTS_DTS_flags.
    match head[7] >> 6 {
        0b10 if head[8] >= 5 => stamp(rest.first_chunk()?, 0x21),
        0b11 if head[8] >= 10 => {
            stamp(rest.first_chunk()?, 0x31)?;
            stamp(rest.get(5..)?.first_chunk()?, 0x11)
        }
        _ => None,
    }
}

/// Thirty-three bits between marker bits, behind the four that `first` has.
fn stamp(bytes: &[u8; 5], first: u8) -> Option<u64> {
    if bytes[0] & 0xF1 != first || bytes[2] & bytes[4] & 1 == 0 {
        return None;
    }
    let [a, b, c, d, e] = bytes.map(u64::from);
    Some((a >> 1 & 0x07) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Whether the payload of `packet` can be believed and read.
pub(super) fn is_readable(packet: Packet<'_>) -> bool {
    packet.has_sync() && !packet.transport_error() && packet.scrambling() == 0
}

/// Whether `byte` may stand `at` this place of the first nine: start code
/// prefix, a stream_id whose packets have the header with flags (table 2-21),
/// and the bits that begin the flags.
fn may_be_head(at: usize, byte: u8) -> bool {
    match at {
        0 | 1 => byte == 0,
        2 => byte == 1,
        // Without: program streams' map and directory, padding,
        // private_stream_2, ECM, EMM, DSM-CC and H.222.1 type E.
        3 => byte > 0xBC && !matches!(byte, 0xBE | 0xBF | 0xF0..=0xF2 | 0xF8 | 0xFF),
        6 => byte & 0xC0 == 0x80,
        _ => true,
    }
}

/// Takes the elementary stream out of the packets of one PID. Continuity is not
/// looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct PesReader {
    /// Bytes of the current PES packet's header that were met.
    met: usize,
    /// Bytes of all of it, as far as known: at least the nine that tell. None
    /// while there is no PES packet that can be read.
    header_len: Option<usize>,
}

impl PesReader {
    pub(super) const fn new() -> Self {
        Self { met: 0, header_len: None }
    }

    /// The bytes of the elementary stream in the next packet; empty up to the
    /// first one in which a PES packet starts.
    pub(super) fn read<'a>(&mut self, packet: Packet<'a>) -> &'a [u8] {
        if !is_readable(packet) {
            return &[];
        }
        if packet.payload_unit_start() {
            *self = Self { met: 0, header_len: Some(HEAD_LEN) };
        }
        let mut payload = packet.payload();
        while let (Some(header_len), [byte, rest @ ..]) = (self.header_len, payload) {
            if self.met == header_len {
                return payload;
            }
            self.header_len = match self.met {
                8 => Some(header_len + usize::from(*byte)),
                at => may_be_head(at, *byte).then_some(header_len),
            };
            self.met += 1;
            payload = rest;
        }
        &[]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ts::PACKET_LEN;

    /// A packet in which `payload` starts, with stuffing in front.
    fn start(payload: &[u8]) -> [u8; PACKET_LEN] {
        let mut bytes = [0xFF; PACKET_LEN];
        let stuffing = u8::try_from(PACKET_LEN - 5 - payload.len()).unwrap();
        bytes[..5].copy_from_slice(&[0x47, 0x41, 0x00, 0x30, stuffing]);
        if stuffing > 0 {
            bytes[5] = 0;
        }
        bytes[PACKET_LEN - payload.len()..].copy_from_slice(payload);
        bytes
    }

    #[test]
    fn a_time_stamp_is_read_where_all_fixed_bits_are_right() {
        const LAST: u64 = (1 << 33) - 1;
        let zero = [0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
        let with = |at: usize, byte: u8| {
            let mut bytes = zero.to_vec();
            bytes[at] = byte;
            bytes
        };
        let ones = [&zero[..9], &[0x2F, 0xFF, 0xFF, 0xFF, 0xFF]].concat();
        let both =
            [&[0, 0, 1, 0xE0, 0, 0, 0x80, 0xC0, 10, 0x31, 0, 1, 0, 1][..], &[0x11, 0, 1, 0, 3]].concat();
        for (name, payload, expected) in [
            ("zero", zero.to_vec(), Some(0)),
            ("all ones", ones, Some(LAST)),
            ("PTS and DTS", both.clone(), Some(1)),
            ("bit 30", with(9, 0x23), Some(1 << 30)),
            ("bit 22", with(10, 0x01), Some(1 << 22)),
            ("bit 15", with(11, 0x03), Some(1 << 15)),
            ("bit 7", with(12, 0x01), Some(1 << 7)),
            ("sound", with(3, 0xC0), Some(0)),
            ("private_stream_1", with(3, 0xBD), Some(0)),
            ("extended stream_id", with(3, 0xFD), Some(0)),
            ("private_stream_2", with(3, 0xBF), None),
            ("padding", with(3, 0xBE), None),
            ("program_stream_map", with(3, 0xBC), None),
            ("no start code", with(2, 2), None),
            ("MPEG-1 header", with(6, 0x0F), None),
            ("no time stamp", with(7, 0x00), None),
            ("the forbidden flags", with(7, 0x40), None),
            ("PTS alone marked as with DTS", with(9, 0x31), None),
            ("PTS with DTS marked as alone", [&both[..9], &[0x21], &both[10..]].concat(), None),
            ("no room in the header", with(8, 4), None),
            ("no room for the DTS", [&both[..8], &[9], &both[9..]].concat(), None),
            ("DTS marked as PTS", [&both[..14], &[0x31], &both[15..]].concat(), None),
            ("cut short in the DTS", both[..18].to_vec(), None),
            ("first marker", with(9, 0x20), None),
            ("second marker", with(11, 0x00), None),
            ("third marker", with(13, 0x00), None),
            ("cut short", zero[..13].to_vec(), None),
            ("no payload", vec![], None),
        ] {
            assert_eq!(decode_time(Packet::new(&start(&payload))), expected, "{name}");
        }
        for (name, at, byte) in
            [("goes on", 1, 0x01), ("in error", 1, 0xC1), ("scrambled", 3, 0xB0), ("no sync", 0, 0x48)]
        {
            let mut bytes = start(&zero);
            bytes[at] = byte;
            assert_eq!(decode_time(Packet::new(&bytes)), None, "{name}");
        }
    }

    #[test]
    fn the_elementary_stream_is_what_follows_each_header() {
        let header = [&[0, 0, 1, 0xC0, 0, 0, 0x80, 0, 3][..], &[0xFF; 3]].concat();
        let whole = [&header[..], b"stream"].concat();
        for split in 1..whole.len() {
            let (first, second) = (start(&whole[..split]), start(&whole[split..]));
            let mut reader = PesReader::new();
            assert!(reader.read(Packet::new(&goes_on(&second))).is_empty(), "nothing started");
            let got =
                [reader.read(Packet::new(&first)), reader.read(Packet::new(&goes_on(&second)))].concat();
            assert_eq!(got, b"stream", "{split}");
        }
        let mut reader = PesReader::new();
        let foreign = start(&[&[0, 0, 1, 0xBE], &whole[4..]].concat());
        assert!(reader.read(Packet::new(&foreign)).is_empty());
        assert!(reader.read(Packet::new(&goes_on(&start(b"padding")))).is_empty());
    }

    fn goes_on(packet: &[u8; PACKET_LEN]) -> [u8; PACKET_LEN] {
        let mut bytes = *packet;
        bytes[1] &= !0x40;
        bytes
    }

    proptest! {
        #[test]
        fn a_time_stamp_survives_being_written(ticks in 0..1u64 << 33) {
            let bits = |shift: u32, mask: u64| u8::try_from(ticks >> shift & mask).unwrap();
            let payload = [
                0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5,
                0x21 | bits(30, 7) << 1, bits(22, 0xFF), bits(15, 0x7F) << 1 | 1, bits(7, 0xFF), bits(0, 0x7F) << 1 | 1,
            ];
            prop_assert_eq!(decode_time(Packet::new(&start(&payload))), Some(ticks));
        }
    }
}
