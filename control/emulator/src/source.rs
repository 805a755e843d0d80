//! What is played: the bytes of a programme by position and time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{
    clip,
    rng::number_of,
    signed::{Broadcast, EPOCH_UNIX_SECONDS, PACKET_BYTES},
};

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
