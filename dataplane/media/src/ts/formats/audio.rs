//! What names a sound: descriptors, or the headers of its frames.

use super::bits::Bits;

/// How a stream of sound tells its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sound {
    /// The tables say it all.
    Named(&'static str),
    /// AAC in ADTS (ISO/IEC 13818-7 §6.2), or in LOAS (ISO/IEC 14496-3 §1.7);
    /// with the name of the profile that a descriptor claims.
    Adts(Option<&'static str>),
    /// See above.
    Loas(Option<&'static str>),
    /// MPEG-1 or MPEG-2 audio (ISO/IEC 11172-3, 13818-3).
    Mpeg,
    /// No coding that has a name here: DTS, AC-4, Opus and others.
    Unknown,
}

impl Sound {
    /// By stream_type and descriptors of a stream of sound.
    ///
    /// Source: ISO/IEC 13818-1 table 2-34; ATSC A/52 annexes A and G on 0x81
    /// and 0x87, and on registrations; ETSI EN 300 468 §6.2 and annexes D and H
    /// on the descriptors beside private data.
    pub(super) fn of(stream_type: u8, info: &[u8]) -> Self {
        match stream_type {
            0x03 | 0x04 => Self::Mpeg,
            0x0F => Self::Adts(claimed_aac(info)),
            0x11 => Self::Loas(claimed_aac(info)),
            0x81 => Self::Named("ac-3"),
            // Streams of discs have 0x84.
            0x84 | 0x87 => Self::Named("ec-3"),
            0x06 => descriptors(info)
                .find_map(|(tag, body)| match (tag, body) {
                    (0x6A, _) | (0x05, [b'A', b'C', b'-', b'3', ..]) => Some(Self::Named("ac-3")),
                    (0x7A, _) | (0x05, [b'E', b'A', b'C', b'3', ..]) => Some(Self::Named("ec-3")),
                    _ => None,
                })
                .unwrap_or(Self::Unknown),
            _ => Self::Unknown,
        }
    }

    /// The name for the attribute CODECS; `stream` is some of the elementary
    /// stream.
    pub(super) fn codec(self, stream: &[u8]) -> Option<&'static str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Adts(claimed) => adts(stream).and_then(|in_stream| aac(in_stream, claimed)),
            Self::Loas(claimed) => loas(stream).and_then(|in_stream| aac(in_stream, claimed)),
            Self::Mpeg => mpeg(stream),
            Self::Unknown => None,
        }
    }

    /// Whether [`Self::codec`] looks at the stream.
    pub(super) const fn is_told_by_stream(self) -> bool {
        matches!(self, Self::Adts(_) | Self::Loas(_) | Self::Mpeg)
    }
}

/// Tags and bodies, up to the first descriptor that does not fit.
pub(super) fn descriptors(mut info: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[tag, len], rest) = info.split_first_chunk::<2>()?;
        let (body, after) = rest.split_at_checked(usize::from(len))?;
        info = after;
        Some((tag, body))
    })
}

/// The profile that AAC_descriptor (ETSI EN 300 468 annex H) or
/// MPEG-4_audio_descriptor (ISO/IEC 13818-1 §2.6.38) gives, by
/// audioProfileLevelIndication (ISO/IEC 14496-3 table 1.14).
fn claimed_aac(info: &[u8]) -> Option<&'static str> {
    descriptors(info).find_map(|(tag, body)| match (tag, body.first()?) {
        (0x7C | 0x1C, 0x28..=0x2B) => Some(LC),
        (0x7C | 0x1C, 0x2C..=0x2F) => Some(HE),
        (0x7C | 0x1C, 0x30..=0x33) => Some(HE_V2),
        _ => None,
    })
}

/// AAC with low complexity.
const LC: &str = "mp4a.40.2";
/// The same with spectral band replication.
const HE: &str = "mp4a.40.5";
/// The same with parametric stereo.
const HE_V2: &str = "mp4a.40.29";

/// What frames of AAC say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aac {
    /// Of ISO/IEC 14496-3 table 1.17.
    object_type: u32,
    /// Index of ISO/IEC 14496-3 table 1.18; from 6 on it is 24 kHz or less.
    rate_index: u32,
}

/// What a player has to be able to play.
///
/// Spectral band replication need not be signalled, and shows then only deep in
/// the frames (ISO/IEC 14496-3 §1.6.5.3). Without a descriptor it is taken to
/// be there at 24 kHz and below, as hls.js does: who plays `mp4a.40.5` also
/// plays AAC without it.
fn aac(stream: Aac, claimed: Option<&'static str>) -> Option<&'static str> {
    match (stream.object_type, claimed) {
        (2, Some(claimed)) => Some(claimed),
        (2, None) if stream.rate_index >= 6 => Some(HE),
        (2, None) => Some(LC),
        (5, _) => Some(HE),
        (29, _) => Some(HE_V2),
        _ => None,
    }
}

/// A frame at the start of `stream` when another of the same kind follows it:
/// `frame` reads a header, and gives the length of the frame and what has to be
/// the same in the next.
fn followed<K: PartialEq>(stream: &[u8], frame: impl Fn(&[u8]) -> Option<(usize, K)>) -> Option<K> {
    let (len, kind) = frame(stream)?;
    let (_, next) = frame(stream.get(len..)?)?;
    (kind == next).then_some(kind)
}

/// adts_fixed_header and adts_variable_header (ISO/IEC 13818-7 §6.2).
fn adts(stream: &[u8]) -> Option<Aac> {
    let header = |stream: &[u8]| {
        let &[a, b, c, d, e, f, _] = stream.first_chunk()?;
        let len = usize::from(d & 0x03) << 11 | usize::from(e) << 3 | usize::from(f) >> 5;
        let rate_index = u32::from(c >> 2 & 0x0F);
        let is_one = a == 0xFF && b & 0xF6 == 0xF0 && rate_index < 13 && len >= 7;
        // All that is fixed.
        is_one.then_some((len, [b, c, d & 0xF0]))
    };
    let [_, c, _] = (0..stream.len()).find_map(|at| followed(&stream[at..], header))?;
    // profile_ObjectType is one less than the object type.
    Some(Aac { object_type: u32::from(c >> 6) + 1, rate_index: u32::from(c >> 2 & 0x0F) })
}

/// AudioSyncStream with AudioMuxElement( 1 ) (ISO/IEC 14496-3 §1.7.2, §1.7.3);
/// the first of one program and layer whose configuration is simple.
fn loas(stream: &[u8]) -> Option<Aac> {
    let header = |stream: &[u8]| {
        let &[a, b, c] = stream.first_chunk()?;
        let len = 3 + (usize::from(b & 0x1F) << 8 | usize::from(c));
        (a == 0x56 && b & 0xE0 == 0xE0).then_some((len, ()))
    };
    (0..stream.len())
        .find_map(|at| followed(&stream[at..], header).and_then(|()| mux_config(&stream[at + 3..])))
}

/// StreamMuxConfig of audioMuxVersion 0, up to AudioSpecificConfig.
fn mux_config(element: &[u8]) -> Option<Aac> {
    let mut bits = Bits::new(element);
    // useSameStreamMux, audioMuxVersion.
    if bits.flag()? || bits.flag()? {
        return None;
    }
    bits.skip(1 + 6)?; // allStreamsSameTimeFraming, numSubFrames
    // numProgram, numLayer.
    if bits.number(4 + 3)? != 0 {
        return None;
    }
    let object_type = bits.number(5)?; // 31 would be an escape, and is not understood.
    let rate_index = bits.number(4).filter(|index| *index < 13)?;
    Some(Aac { object_type, rate_index })
}

/// Bits a second in thousands by bitrate_index from 1 on: layer I, II and III of
/// MPEG-1, then layer I, and II and III of MPEG-2 (ISO/IEC 11172-3 §2.4.2.3,
/// ISO/IEC 13818-3 §2.4.2.3).
const KBPS: [[usize; 14]; 5] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// By layer. Layer III is `mp4a.40.34` (ISO/IEC 14496-3 table 1.17), which is
/// the one of its names that hls.js keeps where browsers do not know it.
///
/// Layer II has a name too, `mp4a.40.33`, but no browser says that it knows it,
/// so that hls.js would drop a stream whose sound Firefox plays. Hence none.
fn mpeg(stream: &[u8]) -> Option<&'static str> {
    let [b, _] = (0..stream.len()).find_map(|at| followed(&stream[at..], mpeg_frame))?;
    (b >> 1 & 0x03 == 1).then_some("mp4a.40.34")
}

/// Length of a frame by its header (ISO/IEC 11172-3 §2.4.1.3 and §2.4.3.1), and
/// version and layer, and the rate, which do not change.
fn mpeg_frame(stream: &[u8]) -> Option<(usize, [u8; 2])> {
    let &[a, b, c] = stream.first_chunk()?;
    if a != 0xFF || b & 0xE0 != 0xE0 {
        return None;
    }
    let (version, layer) = (b >> 3 & 0x03, b >> 1 & 0x03);
    // MPEG-1 is 3, MPEG-2 is 2, and its extension to lower rates 0; layer I is
    // 3, II is 2 and III is 1.
    let (row, samples) = match (version, layer) {
        (3, 3) => (0, 384),
        (3, 2) => (1, 1152),
        (3, 1) => (2, 1152),
        (0 | 2, 3) => (3, 384),
        (0 | 2, 2) => (4, 1152),
        (0 | 2, 1) => (4, 576),
        _ => return None,
    };
    let shift = match version {
        3 => 0,
        2 => 1,
        _ => 2,
    };
    let hz = [44_100, 48_000, 32_000].get(usize::from(c >> 2 & 0x03))? >> shift;
    let kbps = KBPS[row].get(usize::from(c >> 4).checked_sub(1)?)?;
    // Layer I counts in slots of four bytes.
    let slot = if layer == 3 { 4 } else { 1 };
    let len = (samples / 8 / slot * kbps * 1000 / hz + usize::from(c >> 1 & 1)) * slot;
    Some((len, [b & 0xFE, c & 0x0C]))
}

#[cfg(test)]
#[path = "audio_tests.rs"]
mod tests;
