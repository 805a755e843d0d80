//! The programme that segments are cut from, by groups of pictures.

use std::{sync::LazyLock, time::Duration};

use crate::{
    Content, clip,
    signed::{Broadcast, Edit, PACKET_BYTES, PMT_PID, VIDEO_PID},
    source::broadcast_of,
};

/// A lap of the clip, and a group of pictures of it.
const LAP: Duration = Duration::from_millis(12_800);
const CLIP_GROUP: Duration = Duration::from_millis(1600);
/// Packets of the clip between two of a table, at most.
const MOST_BETWEEN_TABLES: u64 = 1000;
/// No group has as many packets.
const MOST_IN_GROUP: u64 = 1 << 32;

/// Packets of a lap of the clip at which a group begins, rising.
static CLIP_GROUPS: LazyLock<Vec<u64>> =
    LazyLock::new(|| (0..lap_packets()).filter(|&n| is_random_access(&clip_packet(n))).collect());

/// A programme as it was broadcast, without what scenarios do to streams.
#[derive(Clone, Copy, Debug)]
pub(super) enum Feed {
    Clip {
        phase: Duration,
    },
    Signed {
        number: u64,
        broadcast: Broadcast,
        /// Packets in a group.
        group: u64,
    },
}

fn lap_packets() -> u64 {
    clip::position_at(LAP, Duration::ZERO) / 188
}

fn clip_packet(n: u64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    clip::write(n, &Edit::None, &mut packet);
    packet
}

fn pid(packet: &[u8; PACKET_BYTES]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

/// Whether a picture that players can begin with begins here. Source: ISO/IEC
/// 13818-1 §2.4.3.5.
fn is_random_access(packet: &[u8; PACKET_BYTES]) -> bool {
    pid(packet) == VIDEO_PID && packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0
}

fn is_table(packet: &[u8; PACKET_BYTES]) -> bool {
    matches!(pid(packet), 0 | PMT_PID)
}

impl Feed {
    pub(super) fn new(content: Content, infohash: &str) -> Self {
        let number = broadcast_of(infohash);
        match content.broadcast(infohash) {
            None => Self::Clip { phase: Duration::from_millis(number % 12_800) },
            Some(broadcast) => Self::signed(number, broadcast),
        }
    }

    fn signed(number: u64, broadcast: Broadcast) -> Self {
        // The first packet that is not of group 0.
        let (mut inside, mut beyond) = (0, MOST_IN_GROUP);
        while inside + 1 < beyond {
            let middle = (inside + beyond) / 2;
            match broadcast.group_start(middle) {
                0 => inside = middle,
                _ => beyond = middle,
            }
        }
        Self::Signed { number, broadcast, group: beyond }
    }

    /// The same programme at half the mean rate, so many times; the clip has one
    /// rate.
    pub(super) fn variant(self, halvings: u32) -> Self {
        match self {
            Self::Signed { number, broadcast, .. } if halvings > 0 => {
                let rate = broadcast.bitrate_bps() >> halvings;
                let rate = u32::try_from(rate).unwrap_or(Broadcast::MAX_BITRATE_BPS);
                Self::signed(number, Broadcast::new(number, rate))
            }
            _ => self,
        }
    }

    /// Mean rate in bit/s.
    pub(super) fn bitrate_bps(&self) -> u64 {
        match self {
            Self::Clip { .. } => clip::bytes_per_second() * 8,
            Self::Signed { broadcast, .. } => broadcast.bitrate_bps(),
        }
    }

    /// Bytes of the programme sent before a time since the epoch.
    pub(super) fn position_at(&self, since_epoch: Duration) -> u64 {
        match self {
            Self::Clip { phase } => clip::position_at(since_epoch, *phase),
            Self::Signed { broadcast, .. } => broadcast.packet_at(since_epoch) * 188,
        }
    }

    /// Duration of a group, the longest where they differ.
    pub(super) fn group_nanos(&self) -> u128 {
        match self {
            Self::Clip { .. } => CLIP_GROUP.as_nanos(),
            // Every programme begins at its lowest rate.
            Self::Signed { broadcast, group, .. } => broadcast.time_of(*group).as_nanos(),
        }
    }

    /// Groups that end within `time` of the first; of the clip, of that of a lap.
    pub(super) fn groups_in(&self, time: Duration) -> u64 {
        match self {
            Self::Clip { .. } => {
                u64::try_from(time.as_nanos() / CLIP_GROUP.as_nanos()).unwrap_or(u64::MAX >> 32)
            }
            Self::Signed { broadcast, group, .. } => broadcast.packet_at(time) / group,
        }
    }

    /// When a group begins; of the clip, since the beginning of a lap.
    pub(super) fn group_time(&self, n: u64) -> Duration {
        match self {
            Self::Clip { .. } => {
                let nanos = CLIP_GROUP.as_nanos() * u128::from(n);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
            Self::Signed { broadcast, group, .. } => broadcast.time_of(n * group),
        }
    }

    /// The group on the air at a time since the epoch.
    pub(super) fn group_at(&self, since_epoch: Duration) -> u64 {
        self.group_of(self.position_at(since_epoch) / 188)
    }

    /// The group that a packet is of.
    fn group_of(&self, packet: u64) -> u64 {
        match self {
            Self::Clip { .. } => {
                let (lap, at) = (packet / lap_packets(), packet % lap_packets());
                let before = CLIP_GROUPS.partition_point(|&g| g <= at);
                (lap * count(CLIP_GROUPS.len()) + count(before)).saturating_sub(1)
            }
            Self::Signed { group, .. } => packet / group,
        }
    }

    /// First byte of a group.
    pub(super) fn group_position(&self, n: u64) -> u64 {
        let packet = match self {
            Self::Clip { .. } => {
                let per_lap = count(CLIP_GROUPS.len());
                let at = usize::try_from(n % per_lap).unwrap_or(0);
                n / per_lap * lap_packets() + CLIP_GROUPS[at]
            }
            Self::Signed { group, .. } => n * group,
        };
        packet * 188
    }

    /// A byte about the middle of a group where a packet begins that is no table.
    pub(super) fn inside_group(&self, n: u64) -> u64 {
        let mut packet = (self.group_position(n) + self.group_position(n + 1)) / 2 / 188;
        while is_table(&self.packet(packet)) {
            packet += 1;
        }
        packet * 188
    }

    /// Appends PAT and PMT as last sent before the group that begins at
    /// `position`; nothing when they follow there, or no group begins there.
    pub(super) fn tables_before(&self, position: u64, out: &mut Vec<u8>) {
        let at = position / 188;
        let is_start = self.group_position(self.group_of(at)) == position;
        if !is_start || is_table(&self.packet(at)) {
            return;
        }
        for wanted in [0, PMT_PID] {
            let mut before = (at.saturating_sub(MOST_BETWEEN_TABLES)..at).rev().map(|n| self.packet(n));
            if let Some(packet) = before.find(|p| pid(p) == wanted) {
                out.extend_from_slice(&packet);
            }
        }
    }

    /// Appends the bytes `from..to` of the programme.
    pub(super) fn read(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        let mut at = from;
        while at < to {
            let skip = at % 188;
            let take = (188 - skip).min(to - at);
            let range = |v: u64| usize::try_from(v).unwrap_or(PACKET_BYTES);
            out.extend_from_slice(&self.packet(at / 188)[range(skip)..range(skip + take)]);
            at += take;
        }
    }

    fn packet(&self, n: u64) -> [u8; PACKET_BYTES] {
        match self {
            Self::Clip { .. } => clip_packet(n),
            Self::Signed { broadcast, .. } => {
                let mut packet = [0; PACKET_BYTES];
                broadcast.write(n, &mut packet);
                packet
            }
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX >> 32)
}
