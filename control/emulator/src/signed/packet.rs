//! Packet `n` of a broadcast.

use std::time::Duration;

use super::{AUDIO_PID, PACKET_BYTES, PMT_PID, VIDEO_PID};

/// Bits of a packet: a packet of a broadcast at `r` bit/s lasts `1504 / r` s.
const PACKET_BITS: u64 = 1504;
/// Frame pairs in a group of pictures.
const PAIRS_PER_GROUP: u64 = 25;
/// Presentation comes this long after the PCR of the same packet, in 90 kHz.
const DECODER_DELAY: u64 = 45_000;
/// Where the signature begins; it reaches to the packet's end.
const SIGNATURE_AT: usize = PACKET_BYTES - 27;
/// Where the checksum begins.
const CHECKSUM_AT: usize = PACKET_BYTES - 5;
/// First bytes of a signature.
const MAGIC: [u8; 2] = [0xcd, 0xd2];

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

static PAT: [u8; PACKET_BYTES] =
    section(0, &[0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | high(PMT_PID), low(PMT_PID)]);
#[rustfmt::skip]
static PMT: [u8; PACKET_BYTES] = section(PMT_PID, &[
    0x02, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe0 | high(VIDEO_PID), low(VIDEO_PID), 0xf0, 0,
    0x1b, 0xe0 | high(VIDEO_PID), low(VIDEO_PID), 0xf0, 0, // AVC video
    0x0f, 0xe0 | high(AUDIO_PID), low(AUDIO_PID), 0xf0, 0, // AAC audio with ADTS
]);

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
    rate: u64,
    /// Packets in one video frame.
    frame: u64,
}

/// What a packet of a broadcast is.
enum Kind {
    Pat,
    Pmt,
    VideoStart { random_access: bool },
    Video,
    Audio,
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
        let rate = u64::from(bitrate_bps.clamp(Self::MIN_BITRATE_BPS, Self::MAX_BITRATE_BPS));
        Self { id, rate, frame: rate / (25 * PACKET_BITS) }
    }

    /// The constant rate in bit/s.
    #[must_use]
    pub fn bitrate_bps(&self) -> u64 {
        self.rate
    }

    /// Number of the packet on the air `since_epoch`: floor(time × rate / 1504).
    #[must_use]
    pub fn packet_at(&self, since_epoch: Duration) -> u64 {
        let n = since_epoch.as_nanos() * u128::from(self.rate) / (u128::from(PACKET_BITS) * 1_000_000_000);
        u64::try_from(n).unwrap_or(u64::MAX)
    }

    /// When packet `n` is on the air, since the epoch; exact to a microsecond.
    #[must_use]
    pub fn time_of(&self, n: u64) -> Duration {
        Duration::from_micros(self.ticks(n, 1_000_000))
    }

    /// Number of the first packet of a group of pictures, its PAT, at or before `n`.
    #[must_use]
    pub fn group_start(&self, n: u64) -> u64 {
        n - n % (2 * self.frame * PAIRS_PER_GROUP)
    }

    /// Time of packet `n` in units of `1 / hertz` seconds, `hertz` at most
    /// 27,000,000: no product exceeds 64 bits.
    fn ticks(&self, n: u64, hertz: u64) -> u64 {
        // Every `rate` packets last exactly 1504 s.
        let (laps, rest) = (n / self.rate, (n % self.rate) * PACKET_BITS);
        let (seconds, rest) = (rest / self.rate, rest % self.rate);
        (laps * PACKET_BITS + seconds) * hertz + rest * hertz / self.rate
    }

    /// What packet `n` is, and how many of its PID came before it.
    fn place(&self, n: u64) -> (Kind, u64) {
        let frame = self.frame;
        let (pair, at) = (n / (2 * frame), n % (2 * frame));
        let videos = pair * (2 * frame - 4);
        match at {
            0 => (Kind::Pat, pair),
            1 => (Kind::Pmt, pair),
            2 => (Kind::VideoStart { random_access: pair % PAIRS_PER_GROUP == 0 }, videos),
            3 => (Kind::Audio, 2 * pair),
            _ if at < frame + 2 => (Kind::Video, videos + at - 3),
            _ if at == frame + 2 => (Kind::VideoStart { random_access: false }, videos + frame - 1),
            _ if at == frame + 3 => (Kind::Audio, 2 * pair + 1),
            _ => (Kind::Video, videos + at - 4),
        }
    }

    /// True when packet `n` is a random access point of the video.
    #[must_use]
    pub fn is_random_access(&self, n: u64) -> bool {
        matches!(self.place(n).0, Kind::VideoStart { random_access: true })
    }

    /// The table packet, PAT or PMT, at place `n`, if one stands there.
    #[must_use]
    pub fn is_table(&self, n: u64) -> bool {
        matches!(self.place(n).0, Kind::Pat | Kind::Pmt)
    }

    /// Writes packet `n`. About 60 ns.
    pub fn write(&self, n: u64, p: &mut [u8; PACKET_BYTES]) {
        let (kind, before) = self.place(n);
        let counter = (before & 15) as u8;
        match kind {
            Kind::Pat => {
                *p = PAT;
                p[3] |= counter;
            }
            Kind::Pmt => {
                *p = PMT;
                p[3] |= counter;
            }
            Kind::VideoStart { random_access } => {
                fill(self.id, n, p);
                header(p, VIDEO_PID, true, 0x30 | counter);
                let ticks = self.ticks(n, 27_000_000);
                p[4] = 7;
                p[5] = if random_access { 0x50 } else { 0x10 };
                p[6..12].copy_from_slice(&pcr(ticks));
                let mut at = pes_header(p, 12, 0xe0, 0, ticks / 300 + DECODER_DELAY);
                let units: [&[u8]; 4] =
                    if random_access { [AUD, SPS, PPS, IDR_SLICE] } else { [AUD, &[], &[], OTHER_SLICE] };
                for unit in units {
                    p[at..at + unit.len()].copy_from_slice(unit);
                    at += unit.len();
                }
                self.sign(n, p);
            }
            Kind::Video => {
                fill(self.id, n, p);
                header(p, VIDEO_PID, false, 0x10 | counter);
                self.sign(n, p);
            }
            Kind::Audio => {
                fill(self.id, n, p);
                header(p, AUDIO_PID, true, 0x10 | counter);
                let pts = self.ticks(n, 90_000) + DECODER_DELAY;
                let at = pes_header(p, 4, 0xc0, 178, pts);
                p[at..at + ADTS.len()].copy_from_slice(ADTS);
                self.sign(n, p);
            }
        }
    }

    fn sign(&self, n: u64, p: &mut [u8; PACKET_BYTES]) {
        p[SIGNATURE_AT..SIGNATURE_AT + 2].copy_from_slice(&MAGIC);
        spread(n, &mut p[SIGNATURE_AT + 2..SIGNATURE_AT + 12]);
        spread(self.ticks(n, 1_000_000), &mut p[SIGNATURE_AT + 12..CHECKSUM_AT]);
        let sum = checksum(p);
        spread(sum, &mut p[CHECKSUM_AT..]);
    }
}

/// The number in a signed packet, if the packet is whole.
pub(super) fn signed_number(p: &[u8; PACKET_BYTES]) -> Option<u64> {
    if p[SIGNATURE_AT..SIGNATURE_AT + 2] != MAGIC || gather(&p[CHECKSUM_AT..]) != checksum(p) {
        return None;
    }
    Some(gather(&p[SIGNATURE_AT + 2..SIGNATURE_AT + 12]))
}

/// The table of this PID but for its continuity counter, if there is one. An
/// adaptation field before it, as a server adds to signal a discontinuity, only
/// takes the place of stuffing.
pub(super) fn is_whole_table(p: &[u8; PACKET_BYTES]) -> bool {
    let field = if p[3] & 0x20 == 0 { 0 } else { 1 + usize::from(p[4]) };
    let Some(payload) = p.get(4 + field..) else { return false };
    let same = |t: &[u8; PACKET_BYTES]| {
        let (table, stuffing) = t[4..].split_at(payload.len());
        p[..3] == t[..3] && p[3] & 0xd0 == t[3] && payload == table && stuffing.iter().all(|b| *b == 0xff)
    };
    same(&PAT) || same(&PMT)
}

/// Fills with bytes that look random and are never zero, so that no start code
/// arises by chance.
fn fill(id: u64, n: u64, p: &mut [u8; PACKET_BYTES]) {
    let mut state = (id ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    for word in p[4..SIGNATURE_AT + 7].as_chunks_mut::<8>().0 {
        state = state.wrapping_add(0xa076_1d64_78bd_642f);
        let mixed = (state ^ (state >> 32)).wrapping_mul(0xe703_7ed1_a0b4_28db);
        *word = ((mixed ^ (mixed >> 29)) | 0x0101_0101_0101_0101).to_le_bytes();
    }
}

/// 35 bits over all bytes before the checksum.
fn checksum(p: &[u8; PACKET_BYTES]) -> u64 {
    const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
    let (words, rest) = p[..CHECKSUM_AT].as_chunks::<8>();
    let mut lanes = [0x51_7cc1_b727_220a_u64, 0x2545_f491_4f6c_dd1d];
    for (word, lane) in words.iter().zip([0usize, 1].into_iter().cycle()) {
        lanes[lane] = (lanes[lane].rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    for &byte in rest {
        lanes[0] = (lanes[0].rotate_left(23) ^ u64::from(byte)).wrapping_mul(FACTOR);
    }
    let sum = lanes[0] ^ lanes[1].rotate_left(31);
    (sum ^ (sum >> 32)) & 0x7_ffff_ffff
}

/// Writes `value` in 7 bit groups with the top bit set: no byte is zero.
fn spread(value: u64, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = 0x80 | (value.unbounded_shr(7 * u32::try_from(i).unwrap_or(u32::MAX)) & 0x7f) as u8;
    }
}

fn gather(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, b| (value << 7) | u64::from(b & 0x7f))
}

const fn high(v: u16) -> u8 {
    (v >> 8) as u8
}

const fn low(v: u16) -> u8 {
    (v & 0xff) as u8
}

fn header(p: &mut [u8; PACKET_BYTES], pid: u16, unit_start: bool, control: u8) {
    p[0] = 0x47;
    p[1] = if unit_start { 0x40 } else { 0 } | high(pid);
    p[2] = low(pid);
    p[3] = control;
}

/// Source: ISO/IEC 13818-1 §2.4.3.5; 27 MHz ticks, base × 300 + extension.
fn pcr(ticks: u64) -> [u8; 6] {
    let field = (((ticks / 300) & 0x1_ffff_ffff) << 15) | 0x7e00 | (ticks % 300);
    let b = field.to_be_bytes();
    [b[2], b[3], b[4], b[5], b[6], b[7]]
}

/// A PTS or DTS in 90 kHz behind its four bit prefix, the high half of
/// `prefix`. Source: ISO/IEC 13818-1 §2.4.3.6.
pub(crate) fn time_stamp(prefix: u8, ticks: u64) -> [u8; 5] {
    [
        prefix | 1 | ((ticks >> 29) & 0x0e) as u8,
        ((ticks >> 22) & 0xff) as u8,
        1 | ((ticks >> 14) & 0xfe) as u8,
        ((ticks >> 7) & 0xff) as u8,
        1 | ((ticks << 1) & 0xfe) as u8,
    ]
}

/// A PES header with a PTS in 90 kHz; returns where it ends. Source: ISO/IEC
/// 13818-1 §2.4.3.6.
fn pes_header(p: &mut [u8; PACKET_BYTES], at: usize, stream: u8, length: u8, pts: u64) -> usize {
    p[at..at + 9].copy_from_slice(&[0, 0, 1, stream, 0, length, 0x84, 0x80, 5]);
    p[at + 9..at + 14].copy_from_slice(&time_stamp(0x20, pts));
    at + 14
}

/// One packet with one section, whose checksum is added, and stuffing.
const fn section(pid: u16, body: &[u8]) -> [u8; PACKET_BYTES] {
    let mut p = [0xff; PACKET_BYTES];
    p[0] = 0x47;
    p[1] = 0x40 | high(pid);
    p[2] = low(pid);
    p[3] = 0x10;
    p[4] = 0;
    let mut crc = u32::MAX;
    let mut i = 0;
    while i < body.len() {
        p[5 + i] = body[i];
        crc ^= (body[i] as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        i += 1;
    }
    let sum = crc.to_be_bytes();
    let mut i = 0;
    while i < 4 {
        p[5 + body.len() + i] = sum[i];
        i += 1;
    }
    p
}
