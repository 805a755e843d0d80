//! What is played: the packets of a programme by place and time, and what is
//! done to them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{
    Behaviour, clip,
    damage::{Damage, Every, Timeline},
    rng::{Rng, number_of},
    signed::{Broadcast, EPOCH_UNIX_SECONDS, Edit, PACKET_BYTES, null},
};

/// Packets between insertions of garbage.
const GARBAGE_EVERY: u64 = 500;
/// What files are made of was on the air from then on.
const FILE_TIME: Duration = Duration::from_secs(30 * 86_400);
/// Laps of a loop before a newer one is taken.
const LAPS: u64 = 100;

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
    /// The signed broadcast at a rate of 1.7 to 10 Mbit/s that changes every 10 s.
    Varying,
}

/// What content ids without a code play.
pub type DefaultContent = Content;

/// Number of the broadcast that `infohash` names: what [`crate::signed::Verifier`] asks for.
#[must_use]
pub fn broadcast_of(infohash: &str) -> u64 {
    number_of(&infohash.to_ascii_lowercase())
}

impl Content {
    /// The broadcast it is, if it is a signed one.
    pub(crate) fn broadcast(self, infohash: &str) -> Option<Broadcast> {
        let number = broadcast_of(infohash);
        match self {
            Self::Clip => None,
            Self::Signed { bitrate_bps } => Some(Broadcast::new(number, bitrate_bps)),
            Self::Varying => Some(Broadcast::varying(number)),
        }
    }
}

/// Time since the epoch of all broadcasts, by the wall clock.
pub(crate) fn now() -> Duration {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    unix.saturating_sub(Duration::from_secs(EPOCH_UNIX_SECONDS))
}

#[derive(Clone, Copy, Debug)]
enum Programme {
    Clip { phase: Duration, edit: Edit },
    Signed(Broadcast),
}

/// The programme of one infohash, as an engine sends it. Places count packets
/// since the epoch of all broadcasts; damage makes more or fewer bytes of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    programme: Programme,
    damage: Damage,
    is_damaged: bool,
}

impl Source {
    pub(crate) fn new(content: Content, infohash: &str, behaviour: &Behaviour, engine: usize) -> Self {
        let edit = behaviour.edit.on_engine(engine);
        let programme = match content.broadcast(infohash) {
            Some(broadcast) => Programme::Signed(broadcast.edited(edit)),
            None => {
                let phase = Duration::from_millis(broadcast_of(infohash) % 12_800);
                Programme::Clip { phase, edit }
            }
        };
        let damage = behaviour.damage;
        Self { programme, damage, is_damaged: damage != Damage::default() }
    }

    /// Mean rate in bytes per second, as sent.
    pub(crate) fn bytes_per_second(&self) -> u64 {
        let rate = match self.programme {
            Programme::Clip { .. } => clip::bytes_per_second(),
            Programme::Signed(b) => b.bitrate_bps() / 8,
        };
        rate * (1 + u64::from(self.damage.nulls))
    }

    /// Packets in `time` at the mean rate, one at least.
    pub(crate) fn packets_in(&self, time: Duration) -> u64 {
        let rate = u128::from(self.bytes_per_second() / (1 + u64::from(self.damage.nulls)));
        u64::try_from(rate * time.as_millis() / 188_000).unwrap_or(u64::MAX >> 16).max(1)
    }

    /// The place on the air `since_epoch`.
    pub(crate) fn place_at(&self, since_epoch: Duration) -> u64 {
        match &self.programme {
            Programme::Clip { phase, .. } => clip::position_at(since_epoch, *phase) / 188,
            Programme::Signed(b) => b.packet_at(since_epoch),
        }
    }

    /// Where a reader begins who is to have what was on the air at `place`.
    pub(crate) fn reader_start(&self, place: u64) -> u64 {
        match self.programme {
            // The way to the next point to begin at is as long as it can be.
            Programme::Signed(b) if matches!(b.edit(), Edit::LongGroups(_)) => b.group_start(place) + 3,
            _ => place,
        }
    }

    /// Where a file of this programme begins.
    pub(crate) fn file_start(&self) -> u64 {
        match self.programme {
            Programme::Clip { .. } => 0,
            Programme::Signed(b) => b.group_start(b.packet_at(FILE_TIME)),
        }
    }

    /// How long a file of so much of the programme is, in bytes; below 4 GiB.
    pub(crate) fn file_bytes(&self, length: Duration) -> u32 {
        let bytes = self.packets_in(length).saturating_mul(188);
        u32::try_from(bytes).unwrap_or(u32::MAX / 188 * 188)
    }

    /// The place after a silence of the source, when `place` falls into one.
    pub(crate) fn silent_until(&self, place: u64) -> Option<u64> {
        let Timeline::Restart { every, .. } = self.damage.timeline else { return None };
        let every = self.packets_in(every);
        self.packet_of(place).is_none().then(|| place - place % every + every)
    }

    /// The packet that stands at `place`, if there is one.
    fn packet_of(&self, place: u64) -> Option<u64> {
        match self.damage.timeline {
            Timeline::Straight => Some(place),
            Timeline::Loop { lap } => {
                let lap = self.packets_in(lap);
                let died = place - place % (LAPS * lap);
                Some((died + (place - died) % lap).saturating_sub(lap))
            }
            Timeline::Restart { every, gap } => {
                let every = self.packets_in(every);
                let played = every.saturating_sub(self.packets_in(gap)).max(1);
                Some(place % every).filter(|n| *n < played)
            }
        }
    }

    /// How far behind `place` the newest is that the source has sent, and how
    /// far back the oldest is, where the programme does not run straight on.
    pub(crate) fn window(&self, place: u64) -> (u64, Option<u64>) {
        match self.damage.timeline {
            Timeline::Straight => (0, None),
            Timeline::Loop { lap } => (place % (LAPS * self.packets_in(lap)), None),
            Timeline::Restart { every, .. } => (0, Some(place % self.packets_in(every))),
        }
    }

    /// Appends what is sent at `place` to a reader who began at `first`.
    pub(crate) fn emit(&self, place: u64, first: u64, out: &mut Vec<u8>) {
        if !self.is_damaged {
            self.packet(place, out);
            return;
        }
        let Some(n) = self.packet_of(place) else { return };
        if !self.noise(place, out) && !self.is_lost(place) {
            let before = out.len();
            self.packet(n, out);
            let is_table = matches!(out.get(before + 1..before + 3), Some([0x40, 0] | [0x50, _]));
            let wait = self.damage.late_tables.map_or(0, |time| self.packets_in(time));
            if is_table && place < first + wait {
                out.truncate(before);
            }
        }
        for _ in 0..self.damage.nulls {
            out.extend_from_slice(&null());
        }
        if let Some(every) = self.damage.repeat {
            let (period, count) = (self.packets_in(every.time), u64::from(every.bytes) / 188);
            if place % period == period - 1 && place >= first + count {
                (place + 1 - count..=place)
                    .filter_map(|p| self.packet_of(p))
                    .for_each(|n| self.packet(n, out));
            }
        }
        if self.damage.garbage > 0 && place % GARBAGE_EVERY == GARBAGE_EVERY - 1 {
            let mut rng = Rng::new(place);
            for _ in 0..self.damage.garbage {
                let random = rng.next();
                // Every eighth looks like the beginning of a packet.
                let byte = if random & 0x700 == 0 { 0x47 } else { (random & 0xff) as u8 };
                out.push(byte);
            }
        }
    }

    /// Whether the packet at `place` gives way to noise, which is appended.
    fn noise(&self, place: u64, out: &mut Vec<u8>) -> bool {
        let Some(Every { bytes, time }) = self.damage.noise else { return false };
        let at = place % self.packets_in(time);
        if at == 0 {
            let mut rng = Rng::new(place);
            out.extend((0..bytes).map(|_| match (rng.next() & 0xff) as u8 {
                0x47 => 0x48,
                other => other,
            }));
        }
        at < u64::from(bytes).div_ceil(188)
    }

    fn is_lost(&self, place: u64) -> bool {
        let Some(loss) = self.damage.loss else { return false };
        place % u64::from(loss.one_in.max(1)) < u64::from(loss.burst)
    }

    fn packet(&self, n: u64, out: &mut Vec<u8>) {
        let mut packet = [0; PACKET_BYTES];
        match &self.programme {
            Programme::Clip { edit, .. } => clip::write(n, edit, &mut packet),
            Programme::Signed(b) => b.write(n, &mut packet),
        }
        out.extend_from_slice(&packet);
    }
}
