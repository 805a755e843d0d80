//! What the headers of an MPEG-1 or MPEG-2 video sequence tell.
//!
//! Source: ISO/IEC 13818-2 §6.2.2.1, §6.2.2.3 and §6.3.3; an MPEG-1 sequence is
//! one without the extension (§6.1.1.6).

use super::{FrameRate, VideoFormat, bits::Bits};

/// frame_rate_code from 1 on, as frames in so many seconds (table 6-4).
const FRAME_RATES: [(u64, u64); 8] =
    [(24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (30, 1), (50, 1), (60_000, 1001), (60, 1)];

/// Finds a sequence header and the unit behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    header: Option<Header>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    /// Low twelve bits of each.
    size: [u16; 2],
    frame_rate_code: u8,
}

impl Sequence {
    /// Takes the next unit, from the byte behind its start code on; gives the
    /// format once a sequence header came and what follows it has begun.
    pub(super) fn read(&mut self, unit: &[u8]) -> Option<VideoFormat> {
        let (code, body) = unit.split_first()?;
        if let Some(header) = self.header.take() {
            // extension_start_code, sequence_extension.
            return match (code, body.first().map(|byte| byte >> 4)) {
                (0xB5, Some(1)) => header.extended(body),
                _ => header.format("mp4v.6A", header.size, (1, 1)),
            };
        }
        if *code == 0xB3 {
            self.header = Header::read(body);
        }
        None
    }
}

impl Header {
    fn read(body: &[u8]) -> Option<Self> {
        let &[a, b, c, codes] = body.first_chunk()?;
        let size = [u16::from(a) << 4 | u16::from(b) >> 4, u16::from(b & 0x0F) << 8 | u16::from(c)];
        Some(Self { size, frame_rate_code: codes & 0x0F })
    }

    /// With sequence_extension.
    fn extended(self, body: &[u8]) -> Option<VideoFormat> {
        let mut bits = Bits::new(body);
        bits.skip(4)?;
        let profile = bits.byte()?;
        bits.skip(3)?; // progressive_sequence, chroma_format
        let more = [bits.number(2)?, bits.number(2)?];
        bits.skip(12 + 1 + 8 + 1)?; // bit rate, marker, buffer size, low_delay
        let factor = (bits.number(2)? + 1, bits.number(5)? + 1);
        let [width, height] =
            [0, 1].map(|side| u16::try_from(more[side]).ok().map(|more| self.size[side] | more << 12));
        self.format(object_type(profile), [width?, height?], factor)
    }

    fn format(
        self,
        codec: impl Into<Option<&'static str>>,
        size: [u16; 2],
        factor: (u32, u32),
    ) -> Option<VideoFormat> {
        let [width, height] = size;
        if width == 0 || height == 0 {
            return None;
        }
        let place = usize::from(self.frame_rate_code).checked_sub(1);
        let rate = place.and_then(|place| FRAME_RATES.get(place));
        let frame_rate = rate.and_then(|(frames, seconds)| {
            FrameRate::new(frames * u64::from(factor.0), seconds * u64::from(factor.1))
        });
        Some(VideoFormat { codec: codec.into().map(str::to_owned), width, height, frame_rate })
    }
}

/// The name that RFC 6381 §3.3 makes of the object type of the profile in
/// profile_and_level_indication (ISO/IEC 13818-2 tables 8-2 to 8-4; ISO/IEC
/// 14496-1 table 5).
fn object_type(profile_and_level: u8) -> Option<&'static str> {
    match profile_and_level {
        0x82 | 0x85 => Some("mp4v.65"), // 4:2:2, behind the escape bit
        0x10..=0x1F => Some("mp4v.64"), // High
        0x20..=0x2F => Some("mp4v.63"), // Spatially scalable
        0x30..=0x3F => Some("mp4v.62"), // SNR scalable
        0x40..=0x4F => Some("mp4v.61"), // Main
        0x50..=0x5F => Some("mp4v.60"), // Simple
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sequence_header behind its start code, and zeros.
    fn header(width: u16, height: u16, rate: u8) -> Vec<u8> {
        let [a, b] = (width << 4).to_be_bytes();
        let [c, d] = height.to_be_bytes();
        vec![0xB3, a, b | c & 0x0F, d, 0x20 | rate, 0xFF, 0xFF, 0xE0, 0]
    }

    fn extension(profile: u8, more: [u8; 2], factor: [u8; 2]) -> Vec<u8> {
        let [width, height] = more;
        let bytes = [0x10 | profile >> 4, profile << 4 | 2 | width >> 1, width << 7 | height << 5, 1, 0];
        [&[0xB5], &bytes[..], &[factor[0] << 5 | factor[1]]].concat()
    }

    fn read(units: &[Vec<u8>]) -> Option<(Option<String>, u16, u16, Option<String>)> {
        let mut sequence = Sequence::default();
        let format = units.iter().find_map(|unit| sequence.read(unit))?;
        Some((format.codec, format.width, format.height, format.frame_rate.map(|rate| rate.to_string())))
    }

    #[test]
    fn header_and_extension_tell_profile_size_and_rate() {
        let (gop, user) = (vec![0xB8, 0, 8, 0], vec![0xB2, 1, 2, 3]);
        let two = |first: &Vec<u8>, second: &Vec<u8>| vec![first.clone(), second.clone()];
        let main = extension(0x48, [0, 0], [0, 0]);
        for (name, units, expected) in [
            ("main", two(&header(720, 576, 3), &main), Some((Some("mp4v.61"), 720, 576, Some("25.000")))),
            ("1080", two(&header(1920, 1080, 4), &main), Some((Some("mp4v.61"), 1920, 1080, Some("29.970")))),
            ("MPEG-1", two(&header(352, 288, 3), &gop), Some((Some("mp4v.6A"), 352, 288, Some("25.000")))),
            (
                "behind others",
                [two(&gop, &user), two(&header(16, 16, 8), &main)].concat(),
                Some((Some("mp4v.61"), 16, 16, Some("60.000"))),
            ),
            (
                "large",
                two(&header(0, 1, 1), &extension(0x15, [1, 2], [0, 0])),
                Some((Some("mp4v.64"), 4096, 8193, Some("23.976"))),
            ),
            (
                "twice a third",
                two(&header(16, 16, 5), &extension(0x85, [0, 0], [1, 2])),
                Some((Some("mp4v.65"), 16, 16, Some("20.000"))),
            ),
            (
                "reserved",
                two(&header(16, 16, 9), &extension(0x8A, [0, 0], [0, 0])),
                Some((None, 16, 16, None)),
            ),
            (
                "no rate",
                two(&header(16, 16, 0), &extension(0x55, [0, 0], [0, 0])),
                Some((Some("mp4v.60"), 16, 16, None)),
            ),
            ("no width", two(&header(0, 16, 3), &main), None),
            ("cut short", two(&header(16, 16, 3)[..4].to_vec(), &main), None),
            ("extension cut short", two(&header(16, 16, 3), &main[..6].to_vec()), None),
            ("header alone", vec![header(720, 576, 3)], None),
        ] {
            let expected = expected.map(|(codec, width, height, rate)| {
                (codec.map(str::to_owned), width, height, rate.map(str::to_owned))
            });
            assert_eq!(read(&units), expected, "{name}");
        }
    }
}
