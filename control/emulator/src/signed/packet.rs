//! Packet `n` of a broadcast.

use std::time::Duration;

use super::{
    Edit, NULL_PID, PACKET_BYTES,
    edit::{Moment, time_stamp, write_pcr},
    pace::{PACKET_BITS, Pace},
    signature::{self, Signed},
    tables::{self, Pids, pids},
};

/// Frame pairs in a group of pictures.
const PAIRS_PER_GROUP: u64 = 25;
/// A pair lasts so long, at the lowest rate of its broadcast.
const PAIR_TIME: Duration = Duration::from_millis(80);
/// Presentation comes this long after the PCR of the same packet, in 90 kHz.
const DECODER_DELAY: u64 = 45_000;
const SPS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3,
    3, 0x20, 0xf1, 0x83, 0x24, 0x80,
];
const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xcb, 0x83, 0xcb, 0x20];
const AUD: &[u8] = &[0, 0, 0, 1, 0x09, 0xf0];
const IDR_SLICE: &[u8] = &[0, 0, 0, 1, 0x65, 0x88];
const OTHER_SLICE: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a];
/// ADTS header of a 170 byte frame, 48 kHz, stereo. Source: ISO/IEC 13818-7 §6.2.
const ADTS: &[u8] = &[0xff, 0xf1, 0x4c, 0x80, 0x15, 0x5f, 0xfc];

/// A packet of `broadcast` at `bitrate_bps`; see [`Broadcast::write`].
#[must_use]
pub fn packet(broadcast: u64, bitrate_bps: u32, n: u64) -> [u8; PACKET_BYTES] {
    let mut bytes = [0; PACKET_BYTES];
    Broadcast::new(broadcast, bitrate_bps).write(n, &mut bytes);
    bytes
}

/// One broadcast: its bytes at any time, the same wherever they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast {
    id: u64,
    pace: Pace,
    /// Packets in one video frame.
    frame: u64,
    pairs_per_group: u64,
    edit: Edit,
}

/// What a packet of a broadcast is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pat,
    Pmt,
    VideoStart { random_access: bool },
    Video,
    Audio,
}

/// Where a packet stands.
struct Place {
    kind: Kind,
    /// Packets of its PID before it, edits of PIDs aside.
    before: u64,
    /// 0, or 1 for the second of two.
    programme: u16,
}

impl Broadcast {
    /// The lowest rate, in bit/s: five packets in a frame.
    pub const MIN_BITRATE_BPS: u32 = 200_000;
    /// The highest rate, in bit/s.
    pub const MAX_BITRATE_BPS: u32 = 1_000_000_000;

    /// Broadcast `id` at a constant `bitrate_bps`, brought into
    /// [`Self::MIN_BITRATE_BPS`] to [`Self::MAX_BITRATE_BPS`].
    #[must_use]
    pub fn new(id: u64, bitrate_bps: u32) -> Self {
        let rate = bitrate_bps.clamp(Self::MIN_BITRATE_BPS, Self::MAX_BITRATE_BPS);
        Self::paced(id, Pace::Constant(u64::from(rate)))
    }

    /// Broadcast `id` at a rate that changes every 10 s: 1.7 to 10 Mbit/s, and
    /// 4 Mbit/s in the mean.
    #[must_use]
    pub fn varying(id: u64) -> Self {
        Self::paced(id, Pace::Varying)
    }

    fn paced(id: u64, pace: Pace) -> Self {
        let frame = pace.least_bps() / (25 * PACKET_BITS);
        Self { id, pace, frame, pairs_per_group: PAIRS_PER_GROUP, edit: Edit::None }
    }

    /// The same broadcast with an edit.
    #[must_use]
    pub fn edited(mut self, edit: Edit) -> Self {
        if let Edit::LongGroups(length) = edit {
            let pairs = length.as_millis().div_ceil(PAIR_TIME.as_millis());
            self.pairs_per_group = u64::try_from(pairs).unwrap_or(u64::MAX).clamp(1, 1 << 20);
        }
        Self { edit, ..self }
    }

    /// Its edit.
    #[must_use]
    pub fn edit(&self) -> Edit {
        self.edit
    }

    /// The mean rate in bit/s; that of a constant one is exact.
    #[must_use]
    pub fn bitrate_bps(&self) -> u64 {
        self.pace.mean_bps()
    }

    /// Number of the packet on the air `since_epoch`: at a constant rate,
    /// floor(time × rate / 1504).
    #[must_use]
    pub fn packet_at(&self, since_epoch: Duration) -> u64 {
        self.pace.packet_at(since_epoch)
    }

    /// When packet `n` is on the air, since the epoch; exact to a microsecond.
    #[must_use]
    pub fn time_of(&self, n: u64) -> Duration {
        Duration::from_micros(self.pace.ticks(n, 1_000_000))
    }

    /// Number of the first packet of a group of pictures, its PAT, at or before `n`.
    #[must_use]
    pub fn group_start(&self, n: u64) -> u64 {
        n - n % self.group()
    }

    /// Packets in a group of pictures.
    fn group(&self) -> u64 {
        2 * self.frame * self.pairs_per_group
    }

    /// What packet `n` is, and how many of its PID came before it.
    fn place(&self, n: u64) -> Place {
        let frame = self.frame;
        let (pair, at) = (n / (2 * frame), n % (2 * frame));
        // Two programmes have every other pair each.
        let is_two = self.edit == Edit::TwoPrograms;
        let (rank, programme) = if is_two { (pair / 2, (pair & 1) as u16) } else { (pair, 0) };
        let videos = rank * (2 * frame - 4);
        let random_access = pair % self.pairs_per_group == 0;
        let (kind, before) = match at {
            0 => (Kind::Pat, pair),
            1 => (Kind::Pmt, rank),
            2 => (Kind::VideoStart { random_access }, videos),
            3 => (Kind::Audio, 2 * rank),
            _ if at < frame + 2 => (Kind::Video, videos + at - 3),
            _ if at == frame + 2 => (Kind::VideoStart { random_access: false }, videos + frame - 1),
            _ if at == frame + 3 => (Kind::Audio, 2 * rank + 1),
            _ => (Kind::Video, videos + at - 4),
        };
        Place { kind, before, programme }
    }

    /// Where packet `n` stands among the epochs of the edit.
    fn moment(&self, n: u64) -> Moment {
        let Some(length) = self.epoch() else { return Moment { n, ..Moment::default() } };
        let (epoch, first) = (n / length, n - n % length);
        let began = self.pace.ticks(first, 90_000);
        let since = self.pace.ticks(n, 90_000) - began;
        // A group begins with PAT, PMT and the packet with its first PCR.
        Moment { n, epoch, began, since, is_first_clock: n == first + 2 }
    }

    /// Packets in an epoch of the edit: whole groups, as near as can be.
    fn epoch(&self) -> Option<u64> {
        let every = self.edit.every()?;
        let wanted = u128::from(self.bitrate_bps()) * every.as_millis() / (1000 * u128::from(PACKET_BITS));
        let groups =
            u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(self.group() / 2) / self.group();
        Some(self.group() * groups.clamp(1, 1 << 20))
    }

    /// Packets on other PIDs in their turn, of those counted in [`Place::before`].
    fn elsewhere(&self, kind: Kind, m: &Moment) -> u64 {
        let Edit::Tables { change, .. } = self.edit else { return 0 };
        let Some(length) = self.epoch().filter(|_| change.moves_pids()) else { return 0 };
        let per_pair = match kind {
            Kind::Pat | Kind::Pmt => return 0,
            Kind::VideoStart { .. } | Kind::Video => 2 * self.frame - 4,
            Kind::Audio => 2,
        };
        m.epoch.div_ceil(2) * (length / (2 * self.frame) * per_pair)
    }

    /// True when packet `n` is a random access point of the video, or of the
    /// audio where there is no other.
    #[must_use]
    pub fn is_random_access(&self, n: u64) -> bool {
        match self.place(n).kind {
            Kind::VideoStart { random_access } => random_access && self.edit.has_video(),
            Kind::Audio => !self.edit.has_video(),
            _ => false,
        }
    }

    /// The table packet, PAT or PMT, at place `n`, if one stands there.
    #[must_use]
    pub fn is_table(&self, n: u64) -> bool {
        matches!(self.place(n).kind, Kind::Pat | Kind::Pmt)
    }

    /// Whether `p` is one of its tables, continuity counter aside.
    pub(super) fn has_table(&self, p: &[u8; PACKET_BYTES]) -> bool {
        tables::is_whole_table(&self.edit, p)
    }

    /// Writes packet `n`. About 60 ns.
    pub fn write(&self, n: u64, p: &mut [u8; PACKET_BYTES]) {
        let Place { kind, before, programme } = self.place(n);
        let moment = self.moment(n);
        let counter = (before.wrapping_sub(self.elsewhere(kind, &moment)) & 15) as u8;
        let Pids { video, audio } = pids(&self.edit, programme, moment.epoch);
        match kind {
            Kind::Pat => *p = *tables::pat(&self.edit),
            Kind::Pmt => *p = tables::pmt(&self.edit, programme, moment.epoch),
            Kind::VideoStart { random_access } => {
                fill(self.filling(), n, p);
                header(p, video, true, 0x30);
                self.begin_picture(n, random_access, p);
            }
            Kind::Video => {
                fill(self.filling(), n, p);
                header(p, video, false, 0x10);
            }
            Kind::Audio => {
                fill(self.filling(), n, p);
                header(p, audio, true, 0x10);
                let pts = self.pace.ticks(n, 90_000) + DECODER_DELAY;
                let at = pes_header(p, 4, 0xc0, 178, pts);
                p[at..at + ADTS.len()].copy_from_slice(ADTS);
            }
        }
        p[3] |= counter;
        if self.edit != Edit::None {
            self.edit.apply(&moment, p);
        }
        if !matches!(kind, Kind::Pat | Kind::Pmt) && p[3] & 0x10 != 0 && pid_of(p) != NULL_PID {
            signature::sign(self.signed_as(), n, self.pace.ticks(n, 1_000_000), p);
        }
    }

    /// The clock and the beginning of a picture.
    fn begin_picture(&self, n: u64, random_access: bool, p: &mut [u8; PACKET_BYTES]) {
        let ticks = self.pace.ticks(n, 27_000_000);
        p[4] = 7;
        p[5] = if random_access { 0x50 } else { 0x10 };
        write_pcr(p, ticks);
        let mut at = pes_header(p, 12, 0xe0, 0, ticks / 300 + DECODER_DELAY);
        let units: [&[u8]; 4] =
            if random_access { [AUD, SPS, PPS, IDR_SLICE] } else { [AUD, &[], &[], OTHER_SLICE] };
        for unit in units {
            p[at..at + unit.len()].copy_from_slice(unit);
            at += unit.len();
        }
    }

    /// What the bytes that fill packets follow from.
    fn filling(&self) -> u64 {
        match self.edit {
            Edit::Unmatched { variant, padding: true, .. } => self.id ^ u64::from(variant) << 32,
            _ => self.id,
        }
    }

    /// The same broadcast as it came in `p`, and the number of `p`, if that is a
    /// whole packet of it.
    pub(super) fn recognise(
        &self,
        p: &[u8; PACKET_BYTES],
        scratch: &mut [u8; PACKET_BYTES],
    ) -> Option<(u64, Self)> {
        let (number, variant) = signature::read(self.signed_as(), p)?;
        let mut broadcast = *self;
        if let Edit::Unmatched { counters, padding, .. } = self.edit {
            broadcast.edit = Edit::Unmatched { variant, counters, padding };
        }
        broadcast.write(number, scratch);
        broadcast.is_same(scratch, p).then_some((number, broadcast))
    }

    /// Whether the packets are equal. A server that joins unmatched runs has to
    /// write its own continuity counters, so they do not count there.
    pub(super) fn is_same(&self, a: &[u8; PACKET_BYTES], b: &[u8; PACKET_BYTES]) -> bool {
        a == b
            || (self.has_free_counters() && (a[3] ^ b[3]) & 0xf0 == 0 && a[..3] == b[..3] && a[4..] == b[4..])
    }

    fn has_free_counters(&self) -> bool {
        matches!(self.signed_as(), Signed::Variant(_))
    }

    fn signed_as(&self) -> Signed {
        match self.edit {
            Edit::Unmatched { variant, .. } => Signed::Variant(variant),
            _ => Signed::Plain,
        }
    }
}

fn pid_of(p: &[u8; PACKET_BYTES]) -> u16 {
    u16::from_be_bytes([p[1] & 0x1f, p[2]])
}

/// Fills with bytes that look random and are never zero, so that no start code
/// arises by chance.
fn fill(id: u64, n: u64, p: &mut [u8; PACKET_BYTES]) {
    let mut state = (id ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    for word in p[4..signature::AT + 7].as_chunks_mut::<8>().0 {
        state = state.wrapping_add(0xa076_1d64_78bd_642f);
        let mixed = (state ^ (state >> 32)).wrapping_mul(0xe703_7ed1_a0b4_28db);
        *word = ((mixed ^ (mixed >> 29)) | 0x0101_0101_0101_0101).to_le_bytes();
    }
}

fn header(p: &mut [u8; PACKET_BYTES], pid: u16, unit_start: bool, control: u8) {
    p[0] = 0x47;
    [p[1], p[2]] = pid.to_be_bytes();
    p[1] |= if unit_start { 0x40 } else { 0 };
    p[3] = control;
}

/// A PES header with a PTS in 90 kHz; returns where it ends. Source: ISO/IEC
/// 13818-1 §2.4.3.6.
fn pes_header(p: &mut [u8; PACKET_BYTES], at: usize, stream: u8, length: u8, pts: u64) -> usize {
    p[at..at + 9].copy_from_slice(&[0, 0, 1, stream, 0, length, 0x84, 0x80, 5]);
    p[at + 9..at + 14].copy_from_slice(&time_stamp(0x20, pts));
    at + 14
}
