//! What happens to the packets on their way: loss, repetition, noise. All of it
//! follows from the place of a packet in the programme, so that engines with the
//! same scenario send the same bytes, late tables and the first byte excepted.

use std::time::Duration;

/// What happens to the packets; the default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes missing of the first packet of a reader.
    pub skip: u8,
    /// Random bytes inserted after every 500 packets.
    pub garbage: u32,
    /// Random bytes, none of which is a sync byte, instead of packets.
    pub noise: Option<Every>,
    /// Packets lost.
    pub loss: Option<Loss>,
    /// Bytes that come once more as soon as they have come; whole packets.
    pub repeat: Option<Every>,
    /// A reader gets PAT and PMT only after so much of the programme.
    pub late_tables: Option<Duration>,
    /// Null packets after each packet.
    pub nulls: u8,
    /// Which packets there are at all.
    pub timeline: Timeline,
}

/// So many bytes, so often in programme time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    /// How many bytes.
    pub bytes: u32,
    /// How often.
    pub time: Duration,
}

/// Packets lost: the first `burst` of every `one_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// At least 1.
    pub one_in: u32,
    /// In a row.
    pub burst: u32,
}

/// How the programme runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timeline {
    /// For ever.
    #[default]
    Straight,
    /// The last `lap` before each hundredth lap is played a hundred times: the
    /// source has died, and what the swarm has kept goes round.
    Loop {
        /// What goes round.
        lap: Duration,
    },
    /// The source begins anew with packet 0 every so often, after a gap.
    Restart {
        /// From beginning to beginning, gap included.
        every: Duration,
        /// Without a packet.
        gap: Duration,
    },
}
