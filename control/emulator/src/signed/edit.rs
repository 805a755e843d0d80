//! Edits: programmes other than the usual one, that are still a pure function
//! of packet number. A packet stands for a packet, so a verifier knows an edited
//! broadcast as well as the plain one.

use std::time::Duration;

use super::{AUDIO_PID, NULL_PID, PACKET_BYTES, PMT_PID, VIDEO_PID, tables};
use crate::rng::Rng;

/// Time stamps of 90 kHz wrap here. Source: ISO/IEC 13818-1 §2.4.3.7.
const STAMP_MODULUS: u64 = 1 << 33;
/// How far the clock jumps, in 90 kHz: ten seconds.
const JUMP: u64 = 900_000;

/// How a broadcast differs from the usual one. Where an edit changes over time
/// it does so by epochs, which begin with a group of pictures (in the clip, with
/// a lap) and are as near to the length asked for as that allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edit {
    /// As usual.
    #[default]
    None,
    /// Sound and a clock; null packets stand for the picture.
    AudioOnly,
    /// A picture; null packets stand for the sound.
    NoAudio,
    /// Two programmes, each with PIDs of its own, in turns of 80 ms. In the clip
    /// the PAT tells of a second programme that never comes.
    TwoPrograms,
    /// PCR, PTS and DTS jump at the beginning of each epoch.
    ClockJump {
        /// Where to.
        to: ClockJump,
        /// With discontinuity_indicator on the first PCR after it.
        signalled: bool,
        /// Length of an epoch.
        every: Duration,
    },
    /// No PCR at the beginning of each epoch.
    PcrMissing {
        /// For so long.
        lasting: Duration,
        /// Length of an epoch.
        every: Duration,
    },
    /// Each PCR is wrong by up to this, either way.
    PcrJitter(Duration),
    /// Each epoch has a PMT version of its own, and every other one differs.
    Tables {
        /// In what.
        change: TableChange,
        /// Length of an epoch.
        every: Duration,
    },
    /// A group of pictures, hence the way to the next IDR, has this length.
    LongGroups(Duration),
    /// Header bits are set on one packet of picture and sound in so many.
    Marked {
        /// transport_error_indicator.
        error: bool,
        /// transport_scrambling_control.
        scrambled: bool,
        /// At least 1.
        one_in: u32,
    },
    /// The same programme in other bytes, as an engine of its own would have it.
    Unmatched {
        /// Which variant, below 128.
        variant: u8,
        /// Continuity counters are shifted.
        counters: bool,
        /// What fills the packets differs; of the signed broadcast only.
        padding: bool,
    },
}

/// Where a clock jumps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockJump {
    /// Ten seconds on.
    Forward,
    /// Ten seconds back.
    Back,
    /// To shortly before the wrap of 33 bits, which comes in the middle of the
    /// epoch: about 26 hours on.
    Wrap,
}

/// In what a PMT differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// PIDs and stream types.
    All,
    /// The version alone.
    Version,
    /// The PIDs of picture and sound.
    Pids,
    /// The stream types, not the streams.
    Codec,
}

impl TableChange {
    pub(super) fn moves_pids(self) -> bool {
        matches!(self, Self::All | Self::Pids)
    }

    pub(super) fn is_of_codec(self) -> bool {
        matches!(self, Self::All | Self::Codec)
    }
}

/// Where a packet stands among the epochs of its edit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// Number of the packet.
    pub(crate) n: u64,
    /// Epochs before this one.
    pub(crate) epoch: u64,
    /// Time of the epoch's beginning, in 90 kHz.
    pub(crate) began: u64,
    /// Since then, in 90 kHz.
    pub(crate) since: u64,
    /// The first PCR of its epoch is in this packet.
    pub(crate) is_first_clock: bool,
}

impl Edit {
    /// The length of an epoch, if the edit has epochs.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        match *self {
            Self::ClockJump { every, .. } | Self::PcrMissing { every, .. } | Self::Tables { every, .. } => {
                Some(every)
            }
            Self::LongGroups(length) => Some(length),
            _ => None,
        }
    }

    pub(crate) fn has_video(&self) -> bool {
        *self != Self::AudioOnly
    }

    pub(crate) fn has_audio(&self) -> bool {
        *self != Self::NoAudio
    }

    /// The same programme as engine `engine` has it.
    pub(crate) fn on_engine(self, engine: usize) -> Self {
        match self {
            Self::Unmatched { counters, padding, .. } => {
                let variant = u8::try_from(engine % 128).unwrap_or(0);
                Self::Unmatched { variant, counters, padding }
            }
            other => other,
        }
    }

    /// What is added to every continuity counter.
    pub(super) fn counter_offset(&self) -> u8 {
        match *self {
            // Odd, so that sixteen engines in a row have sixteen offsets.
            Self::Unmatched { variant, counters: true, .. } => variant.wrapping_mul(5),
            _ => 0,
        }
    }

    /// Rewrites the tables of a packet that has the usual ones.
    pub(crate) fn apply_to_table(&self, m: &Moment, p: &mut [u8; PACKET_BYTES]) {
        let counter = p[3] & 15;
        let table = match u16::from_be_bytes([p[1] & 0x1f, p[2]]) {
            0 if *self == Self::TwoPrograms => *tables::pat(self),
            PMT_PID if matches!(self, Self::AudioOnly | Self::NoAudio | Self::Tables { .. }) => {
                tables::pmt(self, 0, m.epoch)
            }
            _ => return,
        };
        *p = table;
        p[3] |= counter;
    }

    /// Edits a packet of picture or sound, and the counter of any.
    pub(crate) fn apply(&self, m: &Moment, p: &mut [u8; PACKET_BYTES]) {
        let pid = u16::from_be_bytes([p[1] & 0x1f, p[2]]);
        let is_media = pid == VIDEO_PID || pid == AUDIO_PID;
        match *self {
            Self::AudioOnly if pid == VIDEO_PID => clock_only(p),
            Self::NoAudio if pid == AUDIO_PID => *p = null(),
            Self::ClockJump { to, signalled, .. } => {
                let shift = match to {
                    ClockJump::Forward => m.epoch * JUMP % STAMP_MODULUS,
                    ClockJump::Back => STAMP_MODULUS - m.epoch * JUMP % STAMP_MODULUS,
                    ClockJump::Wrap => {
                        let half = self.every().map_or(0, |every| ticks_90k(every) / 2);
                        STAMP_MODULUS - (m.began + half) % STAMP_MODULUS
                    }
                };
                shift_stamps(p, shift);
                if signalled && m.is_first_clock {
                    p[5] |= 0x80;
                }
            }
            Self::PcrMissing { lasting, .. } if has_pcr(p) && m.since < ticks_90k(lasting) => {
                p[5] &= !0x10;
                p[6..12].fill(0xff);
            }
            Self::PcrJitter(most) if has_pcr(p) => {
                let most = ticks_90k(most) * 300;
                let random = Rng::new(m.n).below(2 * most + 1);
                let wrong = read_pcr(p) + STAMP_MODULUS * 300 + random - most;
                write_pcr(p, wrong);
            }
            Self::Tables { .. } if is_media => {
                let pids = tables::pids(self, 0, m.epoch);
                let pid = if pid == VIDEO_PID { pids.video } else { pids.audio };
                p[1] = p[1] & 0xe0 | (pid >> 8) as u8;
                p[2] = (pid & 0xff) as u8;
            }
            Self::Marked { error, scrambled, one_in } if is_media && m.n.is_multiple_of(one_in.into()) => {
                p[1] |= if error { 0x80 } else { 0 };
                p[3] |= if scrambled { 0x80 } else { 0 };
            }
            _ => {}
        }
        let counter = (p[3] & 15).wrapping_add(self.counter_offset()) & 15;
        p[3] = p[3] & 0xf0 | counter;
    }
}

/// A null packet. Source: ISO/IEC 13818-1 §2.4.3.3.
pub(crate) fn null() -> [u8; PACKET_BYTES] {
    let mut p = [0xff; PACKET_BYTES];
    p[..4].copy_from_slice(&[0x47, (NULL_PID >> 8) as u8, (NULL_PID & 0xff) as u8, 0x10]);
    p
}

pub(crate) fn has_pcr(p: &[u8; PACKET_BYTES]) -> bool {
    p[3] & 0x20 != 0 && p[4] > 6 && p[5] & 0x10 != 0
}

/// Leaves the PCR of a packet, if it has one, and nothing else.
fn clock_only(p: &mut [u8; PACKET_BYTES]) {
    if !has_pcr(p) {
        *p = null();
        return;
    }
    // Without payload the counter stands still.
    p[1] &= 0x1f;
    p[3] = 0x20;
    p[4] = 183;
    p[5] = 0x10;
    p[12..].fill(0xff);
}

fn ticks_90k(time: Duration) -> u64 {
    u64::try_from(time.as_micros() * 9 / 100).unwrap_or(u64::MAX >> 20)
}

/// The PCR in 27 MHz. Source: ISO/IEC 13818-1 §2.4.3.5.
fn read_pcr(p: &[u8; PACKET_BYTES]) -> u64 {
    let field = p[6..12].iter().fold(0, |v, &b| (v << 8) | u64::from(b));
    (field >> 15) * 300 + (field & 0x1ff)
}

/// Writes a PCR of 27 MHz, modulo its range.
pub(crate) fn write_pcr(p: &mut [u8; PACKET_BYTES], ticks: u64) {
    let field = ((ticks / 300 % STAMP_MODULUS) << 15) | 0x7e00 | (ticks % 300);
    p[6..12].copy_from_slice(&field.to_be_bytes()[2..]);
}

/// Adds to PCR, PTS and DTS of a packet, in 90 kHz.
pub(crate) fn shift_stamps(p: &mut [u8; PACKET_BYTES], by: u64) {
    if has_pcr(p) {
        write_pcr(p, read_pcr(p) + by * 300);
    }
    let payload = if p[3] & 0x20 == 0 { 4 } else { 5 + usize::from(p[4]) };
    for at in stamps(p, payload).into_iter().filter(|&at| at != 0) {
        let moved = time_stamp(p[at] & 0xf0, (read_stamp(&p[at..]) + by) % STAMP_MODULUS);
        p[at..at + 5].copy_from_slice(&moved);
    }
}

/// Where PTS and DTS stand, zero for none. Source: ISO/IEC 13818-1 §2.4.3.6.
pub(crate) fn stamps(p: &[u8; PACKET_BYTES], payload: usize) -> [usize; 2] {
    let is_pes = p[1] & 0x40 != 0
        && p[3] & 0x10 != 0
        && p.get(payload..payload + 3) == Some(&[0, 0, 1])
        && payload + 19 <= PACKET_BYTES;
    let flags = p.get(payload + 7).copied().unwrap_or(0);
    match (is_pes, flags >> 6) {
        (true, 2) => [payload + 9, 0],
        (true, 3) => [payload + 9, payload + 14],
        _ => [0; 2],
    }
}

fn read_stamp(b: &[u8]) -> u64 {
    u64::from(b[0] >> 1 & 7) << 30
        | u64::from(b[1]) << 22
        | u64::from(b[2] >> 1) << 15
        | u64::from(b[3]) << 7
        | u64::from(b[4] >> 1)
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
