//! What is played: the bytes of a programme by position and time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{
    clip,
    rng::number_of,
    signed::{Broadcast, EPOCH_UNIX_SECONDS, PACKET_BYTES, PMT_PID},
};

/// Packets of the clip between two of a table.
const MOST_BETWEEN_PSI: u64 = 1000;

/// What a content id plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A real H.264 and AAC programme of about 0.5 Mbit/s, looped for ever.
    Clip,
    /// The signed broadcast of [`crate::signed`].
    Signed {
        /// Its constant rate in bit/s.
        bitrate_bps: u32,
    },
}

/// What content ids without a code play.
pub type DefaultContent = Content;

/// Number of the broadcast that `infohash` names: what [`crate::signed::Verifier`] asks for.
#[must_use]
pub fn broadcast_of(infohash: &str) -> u64 {
    number_of(&infohash.to_ascii_lowercase())
}

/// Time since the epoch of all broadcasts, by the wall clock.
pub(crate) fn now() -> Duration {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    unix.saturating_sub(Duration::from_secs(EPOCH_UNIX_SECONDS))
}

/// The programme of one infohash: the same bytes on every engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Clip { phase: Duration },
    Signed(Broadcast),
}

impl Source {
    pub(crate) fn new(content: Content, infohash: &str) -> Self {
        let number = broadcast_of(infohash);
        match content {
            Content::Clip => Self::Clip { phase: Duration::from_millis(number % 12_800) },
            Content::Signed { bitrate_bps } => Self::Signed(Broadcast::new(number, bitrate_bps)),
        }
    }

    /// Mean rate in bytes per second.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        match self {
            Self::Clip { .. } => clip::bytes_per_second(),
            Self::Signed(b) => b.bitrate_bps() / 8,
        }
    }

    /// Bytes of the programme sent before `since_epoch`.
    pub(crate) fn position_at(&self, since_epoch: Duration) -> u64 {
        match self {
            Self::Clip { phase } => clip::position_at(since_epoch, *phase),
            Self::Signed(b) => b.packet_at(since_epoch) * 188,
        }
    }

    /// The same programme at half the rate, so many times; the clip has one rate.
    pub(crate) fn variant(self, halvings: u32) -> Self {
        match self {
            Self::Clip { .. } => self,
            Self::Signed(b) => Self::Signed(b.at_rate(b.bitrate_bps() >> halvings)),
        }
    }

    /// Duration of a group of pictures.
    pub(crate) fn group_nanos(&self) -> u128 {
        match self {
            Self::Clip { .. } => clip::GROUP.as_nanos(),
            Self::Signed(b) => b.time_of(b.group_packets()).as_nanos(),
        }
    }

    /// When a group of pictures begins, since the epoch.
    pub(crate) fn group_time(&self, group: u64) -> Duration {
        match self {
            Self::Clip { phase } => clip::group_time(group).saturating_sub(*phase),
            Self::Signed(b) => b.time_of(group * b.group_packets()),
        }
    }

    /// The group of pictures on the air at a time since the epoch.
    pub(crate) fn group_at(&self, since_epoch: Duration) -> u64 {
        self.group_of(self.position_at(since_epoch))
    }

    /// First byte of a group of pictures.
    pub(crate) fn group_position(&self, group: u64) -> u64 {
        match self {
            Self::Clip { .. } => clip::group_position(group),
            Self::Signed(b) => group * b.group_packets() * 188,
        }
    }

    /// A byte about the middle of a group of pictures where a packet begins
    /// that is no PSI.
    pub(crate) fn inside_group(&self, group: u64) -> u64 {
        let (from, to) = (self.group_position(group), self.group_position(group + 1));
        let mut packet = (from + to) / 2 / 188;
        while self.is_psi(packet) {
            packet += 1;
        }
        packet * 188
    }

    /// Appends PAT and PMT as last sent before `position`, where a packet
    /// begins; nothing when they follow there, or when no group begins there.
    pub(crate) fn psi_before(&self, position: u64, out: &mut Vec<u8>) {
        let at = position / 188;
        let is_start = self.group_position(self.group_of(position)) == position;
        if !is_start || self.is_psi(at) {
            return;
        }
        for pid in [0, PMT_PID] {
            let found = (at.saturating_sub(MOST_BETWEEN_PSI)..at).rev().find(|&n| self.pid(n) == pid);
            if let Some(n) = found {
                self.read(n * 188, (n + 1) * 188, out);
            }
        }
    }

    fn group_of(&self, position: u64) -> u64 {
        match self {
            Self::Clip { .. } => clip::group_at(position),
            Self::Signed(b) => position / 188 / b.group_packets(),
        }
    }

    fn pid(&self, packet: u64) -> u16 {
        let mut bytes = [0; PACKET_BYTES];
        match self {
            Self::Clip { .. } => clip::write(packet, &mut bytes),
            Self::Signed(b) => b.write(packet, &mut bytes),
        }
        u16::from_be_bytes([bytes[1] & 0x1f, bytes[2]])
    }

    fn is_psi(&self, packet: u64) -> bool {
        let pid = self.pid(packet);
        pid == 0 || pid == PMT_PID
    }

    /// Appends the bytes `from..to` of the programme.
    pub(crate) fn read(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        let mut packet = [0; PACKET_BYTES];
        let mut at = from;
        while at < to {
            match self {
                Self::Clip { .. } => clip::write(at / 188, &mut packet),
                Self::Signed(b) => b.write(at / 188, &mut packet),
            }
            let skip = at % 188;
            let take = (188 - skip).min(to - at);
            let range = |v: u64| usize::try_from(v).unwrap_or(PACKET_BYTES);
            out.extend_from_slice(&packet[range(skip)..range(skip + take)]);
            at += take;
        }
    }
}
