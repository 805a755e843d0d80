//! Telling from the first bytes of an access unit whether decoding may start
//! there.

use super::VideoCodec;

/// How far into an access unit its first coded picture is looked for. Parameter
/// sets and messages before it fill a few KiB at most.
const LOOK_MAX: u32 = 32 * 1024;

/// What is known of an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not enough yet.
    Undecided,
    /// Decoding may start here: an H.264 IDR picture (ITU-T H.264 §7.4.1.2.4,
    /// nal_unit_type 5), an HEVC IRAP picture (ITU-T H.265 §7.4.2.2, 16 to 23),
    /// or an MPEG-2 sequence header with an I picture (ISO/IEC 13818-2 §6.1.1).
    RandomAccess,
    /// It may not.
    Other,
}

/// Reads one PES packet, from its first byte, up to its first coded picture.
#[derive(Clone, Debug)]
pub(super) struct PictureSearch {
    codec: VideoCodec,
    /// Bytes of the PES packet read.
    read: u32,
    /// Bytes of the PES header, once known; at least the nine that tell.
    header_len: u32,
    /// The last four bytes of the elementary stream.
    window: u32,
    sequence_header: bool,
    /// Bytes read behind an MPEG-2 picture start code.
    picture_bytes: Option<u8>,
}

impl PictureSearch {
    pub(super) const fn new(codec: VideoCodec) -> Self {
        Self { codec, read: 0, header_len: 9, window: u32::MAX, sequence_header: false, picture_bytes: None }
    }

    /// Reads on. Once decided, nothing more is to be fed.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Found {
        for &byte in bytes {
            let found = if self.read < self.header_len { self.on_header(byte) } else { self.on_stream(byte) };
            self.read += 1;
            if found != Found::Undecided {
                return found;
            }
        }
        if self.read < LOOK_MAX { Found::Undecided } else { Found::Other }
    }

    /// ISO/IEC 13818-1 §2.4.3.6: start code prefix, stream_id of video or of an
    /// extension, length, two bytes of flags, length of the rest of the header.
    fn on_header(&mut self, byte: u8) -> Found {
        let is_right = match self.read {
            0 | 1 => byte == 0,
            2 => byte == 1,
            3 => matches!(byte, 0xE0..=0xEF | 0xFD),
            6 => byte & 0xC0 == 0x80,
            8 => {
                self.header_len += u32::from(byte);
                true
            }
            _ => true,
        };
        if is_right { Found::Undecided } else { Found::Other }
    }

    fn on_stream(&mut self, byte: u8) -> Found {
        self.window = self.window << 8 | u32::from(byte);
        let follows_prefix = self.window >> 8 == 1;
        match self.codec {
            VideoCodec::Mpeg2 => self.on_mpeg2(byte, follows_prefix),
            // Its first bit is forbidden_zero_bit in both.
            _ if !follows_prefix || byte & 0x80 != 0 => Found::Undecided,
            VideoCodec::H264 => match byte & 0x1F {
                5 => Found::RandomAccess,
                1..=4 => Found::Other,
                _ => Found::Undecided,
            },
            VideoCodec::Hevc => match byte >> 1 & 0x3F {
                16..=23 => Found::RandomAccess,
                0..=31 => Found::Other,
                _ => Found::Undecided,
            },
        }
    }

    /// ISO/IEC 13818-2 §6.2.1 on start codes, §6.2.3 on the picture header: ten
    /// bits of temporal_reference, three of picture_coding_type.
    fn on_mpeg2(&mut self, byte: u8, follows_prefix: bool) -> Found {
        match self.picture_bytes {
            Some(0) => {
                self.picture_bytes = Some(1);
                return Found::Undecided;
            }
            Some(_) if self.sequence_header && byte >> 3 & 0x07 == 1 => return Found::RandomAccess,
            Some(_) => return Found::Other,
            None => {}
        }
        match byte {
            0x00 if follows_prefix => self.picture_bytes = Some(0),
            0xB3 if follows_prefix => self.sequence_header = true,
            // A slice: the picture it belongs to began in an earlier PES packet.
            0x01..=0xAF if follows_prefix => return Found::Other,
            _ => {}
        }
        Found::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::{Found::*, VideoCodec::*, *};

    fn pes(header_rest: usize, stream: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0, u8::try_from(header_rest).unwrap()];
        bytes.resize(9 + header_rest, 0xFF);
        bytes.extend_from_slice(stream);
        bytes
    }

    #[test]
    fn the_first_coded_picture_decides() {
        let (aud, sps, sei) = ([0, 0, 0, 1, 9, 0xF0], [0, 0, 0, 1, 0x67, 1, 2], [0, 0, 1, 6, 6, 1, 0x80]);
        let h264 = |last: u8| [&aud[..], &sps, &sei, &[0, 0, 1, last, 0x88]].concat();
        let (vps, hevc_sps) = ([0, 0, 0, 1, 0x40, 1, 12], [0, 0, 1, 0x42, 1, 1]);
        let hevc = |kind: u8| [&vps[..], &hevc_sps, &[0, 0, 1, kind << 1, 1]].concat();
        let (sequence, gop) = ([0, 0, 1, 0xB3, 0x2D, 2, 0x40], [0, 0, 1, 0xB8, 0, 8, 0]);
        let mpeg2 = |coding_type: u8| [0, 0, 1, 0, 0x00, 0x40 | coding_type << 3 | 7];
        for (name, codec, stream, expected) in [
            ("IDR after AUD, SPS and SEI", H264, h264(0x65), RandomAccess),
            ("IDR, nal_ref_idc 1", H264, h264(0x25), RandomAccess),
            ("a P slice", H264, h264(0x41), Other),
            ("a P slice that would be an HEVC VPS", H264, vec![0, 0, 1, 0x41, 0x9A], Other),
            ("a B slice before an IDR", H264, [h264(0x01), h264(0x65)].concat(), Other),
            ("data partition A", H264, h264(0x42), Other),
            ("parameter sets alone", H264, [&aud[..], &sps].concat(), Undecided),
            ("a recovery point is not enough", H264, [&sei[..], &[0, 0, 1, 0x41]].concat(), Other),
            ("the forbidden bit", H264, vec![0, 0, 1, 0xE5, 0, 0, 1, 0x41], Other),
            ("a type without a start code", H264, vec![0, 1, 0x65, 0, 0, 2, 0x65], Undecided),
            ("IDR_W_RADL", Hevc, hevc(19), RandomAccess),
            ("CRA", Hevc, hevc(21), RandomAccess),
            ("BLA_W_LP", Hevc, hevc(16), RandomAccess),
            ("the last IRAP", Hevc, hevc(23), RandomAccess),
            ("TRAIL_R", Hevc, hevc(1), Other),
            ("RASL_R", Hevc, hevc(9), Other),
            ("parameter sets alone, HEVC", Hevc, [&vps[..], &hevc_sps].concat(), Undecided),
            ("sequence, GOP, I", Mpeg2, [&sequence[..], &gop, &mpeg2(1)].concat(), RandomAccess),
            ("sequence, I without GOP", Mpeg2, [&sequence[..], &mpeg2(1)].concat(), RandomAccess),
            ("I without sequence", Mpeg2, [&gop[..], &mpeg2(1)].concat(), Other),
            ("sequence with P", Mpeg2, [&sequence[..], &mpeg2(2)].concat(), Other),
            ("a slice comes first", Mpeg2, [&[0, 0, 1, 1], &sequence[..], &mpeg2(1)].concat(), Other),
        ] {
            let bytes = pes(10, &stream);
            assert_eq!(PictureSearch::new(codec).feed(&bytes), expected, "{name}");
            let mut split = PictureSearch::new(codec);
            let found =
                bytes.iter().map(|b| split.feed(&[*b])).find(|f| *f != Undecided).unwrap_or(Undecided);
            assert_eq!(found, expected, "{name}, byte by byte");
        }
    }

    /// ISO/IEC 13818-1 §2.4.3.6.
    #[test]
    fn pes_headers_are_stepped_over_and_foreign_ones_refused() {
        let idr = [0, 0, 1, 0x65];
        for rest in [0, 5, 255] {
            assert_eq!(
                PictureSearch::new(H264).feed(&pes(rest, &idr)),
                RandomAccess,
                "{rest} bytes of header"
            );
        }
        // A header whose stuffing looks like a picture.
        let mut tricky = pes(4, &[0, 0, 1, 0x41]);
        tricky[9..13].copy_from_slice(&idr);
        assert_eq!(PictureSearch::new(H264).feed(&tricky), Other);
        for (name, at, byte) in
            [("prefix", 2, 0), ("audio", 3, 0xC0), ("padding", 3, 0xBE), ("marker", 6, 0x40)]
        {
            let mut bytes = pes(0, &idr);
            bytes[at] = byte;
            assert_eq!(PictureSearch::new(H264).feed(&bytes), Other, "{name}");
        }
    }

    #[test]
    fn the_search_is_bounded() {
        let mut search = PictureSearch::new(H264);
        assert_eq!(search.feed(&pes(0, &[0xAA; 1000])), Undecided);
        assert_eq!(search.feed(&[0xAA; LOOK_MAX as usize]), Other);
    }
}
