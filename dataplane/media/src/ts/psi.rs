//! Program specific information: what the tables say.

use super::{Continuity, Pid};

/// How many programs of a PAT are looked at.
pub(super) const PROGRAMS_MAX: usize = 16;

/// How many streams of a program are looked at.
const STREAMS_MAX: usize = 64;

/// Service information, where a stream has it (ETSI EN 300 468 table 1): NIT,
/// SDT, EIT and TDT. Not read, but their packets are counted too.
pub(super) const SI_PIDS: [Pid; 4] =
    [Pid::from_low_bits(0x10), Pid::from_low_bits(0x11), Pid::from_low_bits(0x12), Pid::from_low_bits(0x14)];

/// A video coding whose pictures are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// ISO/IEC 11172-2 or 13818-2; stream_type 1 or 2.
    Mpeg2,
    /// ISO/IEC 14496-10; stream_type 0x1B.
    H264,
    /// ISO/IEC 23008-2; stream_type 0x24.
    Hevc,
}

/// What an elementary stream is, as far as it matters for joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Video that is understood.
    Video(VideoCodec),
    /// Sound of any coding.
    Audio,
    /// Anything else.
    Other,
}

/// One elementary stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Where it is.
    pub pid: Pid,
    /// stream_type (ISO/IEC 13818-1 table 2-34).
    pub stream_type: u8,
    /// What the type and the descriptors make of it.
    pub kind: StreamKind,
}

/// One program, as its PMT section tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub(super) number: u16,
    pub(super) pmt_pid: Pid,
    pub(super) pcr_pid: Option<Pid>,
    pub(super) streams: Vec<Stream>,
    pub(super) section: Box<[u8]>,
}

/// Program specific information in force.
///
/// Made of PAT and PMT sections whose CRC was right. Holds at most 16 programs
/// with 64 streams each; what lies beyond is not looked at, but stays in the
/// sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Psi {
    pat: Vec<Box<[u8]>>,
    programs: Vec<Program>,
    tracked: Vec<Pid>,
}

impl Program {
    /// Reads a PMT section whose CRC was verified (§2.4.4.8); none when its
    /// lengths contradict each other.
    pub(super) fn parse(pmt_pid: Pid, section: &[u8]) -> Option<Self> {
        let head = section.first_chunk::<12>()?;
        let number = u16::from_be_bytes([head[3], head[4]]);
        let pcr_pid = Pid::from_low_bits(u16::from_be_bytes([head[8], head[9]]));
        let streams = entries(section)?.map(|e| e.map(|(stream, _)| stream)).collect::<Option<Vec<_>>>()?;
        let pcr_pid = (pcr_pid != Pid::NULL).then_some(pcr_pid);
        Some(Self { number, pmt_pid, pcr_pid, streams, section: section.into() })
    }

    /// program_number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Where its PMT is.
    #[must_use]
    pub const fn pmt_pid(&self) -> Pid {
        self.pmt_pid
    }

    /// Where its PCR is; none when it has no clock.
    #[must_use]
    pub const fn pcr_pid(&self) -> Option<Pid> {
        self.pcr_pid
    }

    /// Its elementary streams, in the order of the PMT.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// [`Self::streams`], each with its descriptors.
    pub(super) fn described_streams(&self) -> impl Iterator<Item = (Stream, &[u8])> {
        entries(&self.section).into_iter().flatten().flatten()
    }

    /// Its first video stream that is understood.
    #[must_use]
    pub fn video(&self) -> Option<(Pid, VideoCodec)> {
        self.streams.iter().find_map(|s| match s.kind {
            StreamKind::Video(codec) => Some((s.pid, codec)),
            StreamKind::Audio | StreamKind::Other => None,
        })
    }

    /// Its sound, in the order of the PMT.
    pub fn audio(&self) -> impl Iterator<Item = Pid> + '_ {
        self.streams.iter().filter(|s| s.kind == StreamKind::Audio).map(|s| s.pid)
    }
}

impl Psi {
    /// None without a program.
    pub(super) fn new(pat: Vec<Box<[u8]>>, programs: Vec<Program>) -> Option<Self> {
        if programs.is_empty() {
            return None;
        }
        let mut psi = Self { pat, programs, tracked: Vec::new() };
        let main = psi.main();
        let mut pids = vec![Pid::PAT];
        pids.extend(psi.programs.iter().map(|p| p.pmt_pid));
        pids.extend(SI_PIDS);
        pids.extend(main.pcr_pid);
        pids.extend(main.video().map(|(pid, _)| pid));
        pids.extend(main.audio());
        pids.extend(psi.programs.iter().flat_map(|p| p.streams.iter().map(|s| s.pid).chain(p.pcr_pid)));
        for pid in pids {
            if psi.tracked.len() < Continuity::CAPACITY && !psi.tracked.contains(&pid) {
                psi.tracked.push(pid);
            }
        }
        Some(psi)
    }

    /// The sections of the PAT, in their order, each with its header and CRC.
    pub fn pat_sections(&self) -> impl Iterator<Item = &[u8]> {
        self.pat.iter().map(|s| &**s)
    }

    /// The programs whose PMT is known, in the order of the PAT; at least one.
    #[must_use]
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// The program that decides where viewers join: the first with video that
    /// is understood, else the first with sound, else the first.
    #[must_use]
    pub fn main(&self) -> &Program {
        let with_video = self.programs.iter().find(|p| p.video().is_some());
        let with_audio = || self.programs.iter().find(|p| p.audio().next().is_some());
        with_video.or_else(with_audio).unwrap_or(&self.programs[0])
    }

    /// Where the main program's PCR is.
    #[must_use]
    pub fn pcr_pid(&self) -> Option<Pid> {
        self.main().pcr_pid
    }

    /// The main program's video, where there is one that is understood.
    #[must_use]
    pub fn video(&self) -> Option<(Pid, VideoCodec)> {
        self.main().video()
    }

    /// The main program's sound.
    #[must_use]
    pub fn audio(&self) -> Vec<Pid> {
        self.main().audio().collect()
    }

    /// The elementary streams of all programs.
    pub fn streams(&self) -> impl Iterator<Item = Stream> + '_ {
        self.programs.iter().flat_map(|p| p.streams.iter().copied())
    }

    /// The PIDs that matter: PAT, PMTs, service information, then the main
    /// program's, then the rest; distinct, at most [`Continuity::CAPACITY`].
    #[must_use]
    pub fn tracked(&self) -> &[Pid] {
        &self.tracked
    }
}

/// The streams of a PMT section with their descriptors, without those that are
/// not looked at; none in place of what does not fit (§2.4.4.8).
fn entries(section: &[u8]) -> Option<impl Iterator<Item = Option<(Stream, &[u8])>>> {
    let (head, rest) = section.split_at_checked(12)?;
    let info_len = usize::from(u16::from_be_bytes([head[10] & 0x0F, head[11]]));
    let (_, rest) = rest.split_at_checked(info_len)?;
    let mut rest = rest.get(..rest.len().checked_sub(4)?)?;
    let mut count = 0;
    Some(std::iter::from_fn(move || {
        while !rest.is_empty() {
            let Some((stream, info, after)) = split_entry(rest) else {
                rest = &[];
                return Some(None);
            };
            rest = after;
            if stream.pid.is_assignable() && count < STREAMS_MAX {
                count += 1;
                return Some(Some((stream, info)));
            }
        }
        None
    }))
}

/// The first entry of the second loop of a PMT, its descriptors, and the rest.
fn split_entry(entries: &[u8]) -> Option<(Stream, &[u8], &[u8])> {
    let (&[stream_type, pid_hi, pid_lo, len_hi, len_lo], rest) = entries.split_first_chunk::<5>()?;
    let pid = Pid::from_low_bits(u16::from_be_bytes([pid_hi, pid_lo]));
    let (info, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([len_hi & 0x0F, len_lo])))?;
    Some((Stream { pid, stream_type, kind: kind(stream_type, info) }, info, after))
}

/// Source: ISO/IEC 13818-1 table 2-34; ATSC A/53-3 and A/52 for 0x81 and 0x87;
/// ETSI EN 300 468 §6.1 for the descriptors beside private data.
fn kind(stream_type: u8, descriptors: &[u8]) -> StreamKind {
    match stream_type {
        0x01 | 0x02 => StreamKind::Video(VideoCodec::Mpeg2),
        0x1B => StreamKind::Video(VideoCodec::H264),
        0x24 => StreamKind::Video(VideoCodec::Hevc),
        0x03 | 0x04 | 0x0F | 0x11 | 0x1C | 0x81 | 0x82 | 0x84..=0x87 => StreamKind::Audio,
        0x06 if describes_audio(descriptors) => StreamKind::Audio,
        _ => StreamKind::Other,
    }
}

/// Whether a descriptor of AC-3, E-AC-3, DTS or AAC is there, or a registration
/// of one of them or of Opus.
fn describes_audio(mut descriptors: &[u8]) -> bool {
    while let [tag, len, rest @ ..] = descriptors {
        let Some((body, after)) = rest.split_at_checked(usize::from(*len)) else { return false };
        let registered = || {
            body.first_chunk::<4>()
                .is_some_and(|id| matches!(id, b"AC-3" | b"EAC3" | b"Opus" | b"DTS1" | b"DTS2" | b"DTS3"))
        };
        match tag {
            0x6A | 0x7A | 0x7B | 0x7C => return true,
            0x05 if registered() => return true,
            _ => descriptors = after,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §2.4.4.8, table 2-28; the CRC is not looked at here.
    fn pmt(streams: &[u8]) -> Vec<u8> {
        [&[2, 0xB0, 0, 0, 7, 0xC1, 0, 0, 0xE1, 0x00, 0xF0, 2, 9, 9], streams, &[0; 4]].concat()
    }

    #[test]
    fn stream_types_and_descriptors_name_the_kind() {
        use StreamKind::{Audio, Other, Video};
        for (stream_type, descriptors, expected) in [
            (0x02, &[][..], Video(VideoCodec::Mpeg2)),
            (0x1B, &[], Video(VideoCodec::H264)),
            (0x24, &[], Video(VideoCodec::Hevc)),
            (0x0F, &[], Audio),
            (0x03, &[], Audio),
            (0x06, &[], Other),
            (0x06, &[0x59, 1, 0], Other),
            (0x06, &[0x52, 1, 0, 0x7A, 1, 0], Audio),
            (0x06, &[0x05, 4, b'A', b'C', b'-', b'3'], Audio),
            (0x06, &[0x05, 9, b'A', b'C', b'-', b'3'], Other),
            (0x05, &[], Other),
        ] {
            let len = u8::try_from(descriptors.len()).unwrap();
            let entry = [&[stream_type, 0xE1, 0x01, 0xF0, len], descriptors].concat();
            let program = Program::parse(Pid::from_low_bits(0x50), &pmt(&entry)).unwrap();
            assert_eq!((program.number, program.pcr_pid), (7, Pid::new(0x100)));
            assert_eq!(
                program.streams,
                [Stream { pid: Pid::from_low_bits(0x101), stream_type, kind: expected }],
                "{stream_type:#x} {descriptors:x?}"
            );
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        for (name, section) in [
            ("stream info beyond the section", pmt(&[0x1B, 0xE1, 1, 0xF0, 1])),
            ("half a stream", pmt(&[0x1B, 0xE1, 1])),
            ("no room for the CRC", pmt(&[])[..15].to_vec()),
            ("program info beyond the section", [&pmt(&[])[..10], &[0xFF, 0xFF, 0, 0]].concat()),
            ("nothing", vec![]),
        ] {
            assert_eq!(Program::parse(Pid::from_low_bits(0x50), &section), None, "{name}");
        }
    }

    #[test]
    fn streams_beyond_the_cap_and_reserved_pids_are_left_out() {
        let many = [0x0F, 0xE1, 0x01, 0xF0, 0].repeat(80);
        let program = Program::parse(Pid::from_low_bits(0x50), &pmt(&many)).unwrap();
        assert_eq!(program.streams.len(), STREAMS_MAX);
        let reserved = [0x0F, 0xE0, 0x0F, 0xF0, 0, 0x0F, 0xFF, 0xFF, 0xF0, 0];
        assert!(Program::parse(Pid::from_low_bits(0x50), &pmt(&reserved)).unwrap().streams.is_empty());
    }
}
