//! What an HLS multivariant playlist says of a stream: the names, the size and
//! the rate of what is in it.
//!
//! The tables say which streams there are; the rest is read from the first
//! parameter set or frames of each.

mod audio;
mod h264;
mod hevc;
mod mpeg2;

mod bits;
mod units;

use std::fmt;

use self::{
    audio::{Sound, descriptors},
    mpeg2::Sequence,
    units::Units,
};
use super::{PACKET_LEN, Packet, Pid, Program, Psi, Stream, StreamKind, VideoCodec, pes::PesReader};

/// How many bytes of packets are looked at.
const LOOK_MAX: usize = 1 << 20;

/// How much of a stream of sound is kept to be looked at: two of the longest
/// frames of AAC (ISO/IEC 13818-7 §6.2: 13 bits of length), with room for the
/// rest of one before them. Other frames are shorter.
const SOUND_MAX: usize = 3 << 13;

/// What is in the main program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// Its first video. None when there is none that is understood, and when no
    /// parameter set or header that tells was found.
    pub video: Option<VideoFormat>,
    /// Its sound, in the order of the PMT; at most 64.
    pub audio: Vec<AudioFormat>,
    /// Whether a stream that a player might decode is not told of above: the
    /// first video not found, a second one, or a coding that is not understood.
    is_partial: bool,
}

/// Video, as its parameter sets or headers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// Its name after RFC 6381; none when it has none.
    pub codec: Option<String>,
    /// Luma samples across a frame after cropping, from 1 on. They need not be
    /// square.
    pub width: u16,
    /// Lines of a frame after cropping, from 1 on.
    pub height: u16,
    /// None where timing is absent or no plausible rate.
    pub frame_rate: Option<FrameRate>,
}

/// Sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// Where it is.
    pub pid: Pid,
    /// Its name after RFC 6381; none when it has none that players take, and
    /// when no frame that tells was found.
    pub codec: Option<&'static str>,
}

/// Frames a second, from 1 to 300. Shown with three decimals, as in the
/// attribute FRAME-RATE (RFC 8216 §4.3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    /// In thousandths, rounded.
    thousandths: u32,
}

impl FrameRate {
    /// So many frames in so many seconds; none outside of the range, where
    /// timing is that of a clock rather than of frames.
    fn new(frames: u64, seconds: u64) -> Option<Self> {
        let thousandths = (frames * 1000 + seconds / 2).checked_div(seconds)?;
        let thousandths = u32::try_from(thousandths).ok()?;
        (1000..=300_000).contains(&thousandths).then_some(Self { thousandths })
    }

    /// In thousandths of a frame, `1000..=300_000`.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.thousandths
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.thousandths / 1000, self.thousandths % 1000)
    }
}

impl Formats {
    /// Looks at the streams of `psi`'s main program in `packets`, best from a
    /// join point on: whole packets, of which the first MiB is read, continuity
    /// not looked at. Allocates up to 24 KiB for each stream of sound and 2 KiB
    /// for video while it does.
    #[must_use]
    pub fn of(psi: &Psi, packets: &[u8]) -> Self {
        let program = psi.main();
        let mut video = program.video().map(|(pid, codec)| VideoLook::new(pid, codec));
        let mut sounds: Vec<SoundLook> = sounds(program).collect();
        let (packets, _) = packets[..packets.len().min(LOOK_MAX)].as_chunks::<PACKET_LEN>();
        for packet in packets {
            let packet = Packet::new(packet);
            let pid = packet.pid();
            video.iter_mut().filter(|look| look.pid == pid).for_each(|look| look.read(packet));
            sounds.iter_mut().filter(|look| look.pid == pid).for_each(|look| look.read(packet));
        }
        let video = video.and_then(VideoLook::finish);
        let is_partial = has_more(program) || video.is_some() != program.video().is_some();
        Self { video, audio: sounds.into_iter().map(SoundLook::finish).collect(), is_partial }
    }

    /// The attribute CODECS (RFC 8216 §4.3.4.2): each name once, video first.
    ///
    /// It has to name every format that a player needs, so there is none when a
    /// stream that a player might decode has no name or was not told, and none
    /// when there is no stream.
    #[must_use]
    pub fn codecs(&self) -> Option<String> {
        if self.is_partial {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        if let Some(video) = &self.video {
            names.push(video.codec.as_deref()?);
        }
        for audio in &self.audio {
            let name = audio.codec?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.join(","))
    }
}

/// The look at the video.
struct VideoLook {
    pid: Pid,
    codec: VideoCodec,
    reader: PesReader,
    units: Units,
    sequence: Sequence,
    found: Option<VideoFormat>,
}

impl VideoLook {
    fn new(pid: Pid, codec: VideoCodec) -> Self {
        let (units, sequence) = (Units::new(), Sequence::default());
        Self { pid, codec, reader: PesReader::new(), units, sequence, found: None }
    }

    fn read(&mut self, packet: Packet<'_>) {
        if self.found.is_none() {
            let (codec, sequence) = (self.codec, &mut self.sequence);
            self.found = self.units.read(self.reader.read(packet), |unit| format(codec, sequence, unit));
        }
    }

    fn finish(mut self) -> Option<VideoFormat> {
        let last = || format(self.codec, &mut self.sequence, self.units.last()?);
        self.found.or_else(last)
    }
}

fn format(codec: VideoCodec, sequence: &mut Sequence, unit: &[u8]) -> Option<VideoFormat> {
    match codec {
        VideoCodec::Mpeg2 => sequence.read(unit),
        VideoCodec::H264 => h264::format(unit),
        VideoCodec::Hevc => hevc::format(unit),
    }
}

/// The look at one stream of sound.
struct SoundLook {
    pid: Pid,
    sound: Sound,
    reader: PesReader,
    stream: Vec<u8>,
}

impl SoundLook {
    fn read(&mut self, packet: Packet<'_>) {
        if self.sound.is_told_by_stream() && self.stream.len() < SOUND_MAX {
            self.stream.extend_from_slice(self.reader.read(packet));
        }
    }

    fn finish(self) -> AudioFormat {
        AudioFormat { pid: self.pid, codec: self.sound.codec(&self.stream) }
    }
}

fn sounds(program: &Program) -> impl Iterator<Item = SoundLook> {
    program.described_streams().filter(|(stream, _)| is_sound(*stream)).map(|(stream, info)| SoundLook {
        pid: stream.pid,
        sound: Sound::of(stream.stream_type, info),
        reader: PesReader::new(),
        stream: Vec::new(),
    })
}

/// Sound, but for 0x86: outside of discs that is splice information (ANSI/SCTE
/// 35 §8.1).
fn is_sound(stream: Stream) -> bool {
    stream.kind == StreamKind::Audio && stream.stream_type != 0x86
}

/// Whether there is a stream that a player might decode beside the sound and
/// the first video.
fn has_more(program: &Program) -> bool {
    let videos = program.streams().iter().filter(|stream| matches!(stream.kind, StreamKind::Video(_)));
    let others = program.described_streams().filter(|(stream, _)| stream.kind == StreamKind::Other);
    videos.count() > 1 || others.into_iter().any(|(stream, info)| may_be_decoded(stream.stream_type, info))
}

/// Whether a stream of no kind that is understood may be video or sound.
///
/// Source of what is not: ISO/IEC 13818-1 table 2-34 on sections, private data,
/// MHEG, DSM-CC, metadata and text; 0x90 to 0x92 are the captions of discs.
fn may_be_decoded(stream_type: u8, info: &[u8]) -> bool {
    match stream_type {
        0x05 | 0x07..=0x0E | 0x12..=0x1A | 0x1D | 0x90..=0x92 => false,
        0x06 => descriptors(info).any(|(tag, body)| match (tag, body) {
            // Registrations of video, and of sound in LPCM.
            (
                0x05,
                [b'A', b'V', b'0', b'1', ..] | [b'H', b'E', b'V', b'C', ..] | [b'V', b'C', b'-', b'1', ..],
            ) => true,
            (0x05, [b'd', b'r', b'a', b'c', ..] | [b'B', b'S', b'S', b'D', ..]) => true,
            // ETSI EN 300 468 §6.4: DTS-HD, DTS Neural, AC-4, DTS-UHD.
            (0x7F, [0x0E | 0x0F | 0x15 | 0x21, ..]) => true,
            _ => false,
        }),
        _ => true,
    }
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
