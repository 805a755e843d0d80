//! What is measured.

use std::time::Duration;

use crate::wheel::TICK;

/// One load.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Name on the command line and in the output.
    pub(crate) name: &'static str,
    /// Streams.
    pub(crate) streams: usize,
    /// Viewers of all streams together.
    pub(crate) viewers: usize,
    /// Rate of each stream, in bits a second.
    pub(crate) rate_bps: u64,
}

const fn case(name: &'static str, streams: usize, viewers: usize, mbps: u64) -> Case {
    Case { name, streams, viewers, rate_bps: mbps * 1_000_000 }
}

/// The loads of a full run.
pub(crate) const CASES: &[Case] = &[
    case("one", 1, 1, 4),
    case("hundred", 1, 100, 4),
    case("thousand", 1, 1_000, 4),
    case("five-thousand", 1, 5_000, 4),
    case("fat", 1, 500, 20),
    case("many", 200, 1_000, 4),
];

/// The loads of a smoke test.
pub(crate) const QUICK: &[Case] = &[case("one", 1, 1, 4), case("fifty", 1, 50, 4), case("few", 4, 20, 4)];

/// Names that are not loads: warm joins, the idle server, and the search for
/// the largest number of viewers.
pub(crate) const SPECIAL: [&str; 3] = ["join", "idle", "max-viewers"];

/// Of each stream, by its number.
pub(crate) fn id(stream: usize) -> String {
    format!("{:040x}", 0x1000 + stream)
}

impl Case {
    /// The same load with another number of viewers.
    pub(crate) fn with_viewers(&self, viewers: usize) -> Self {
        Self { viewers, ..self.clone() }
    }

    /// Slots of the raw wheel: a period of 160 ms, halved until what a stream
    /// brings in one period leaves a fifth of a visit to catch up with.
    pub(crate) fn slots(&self) -> usize {
        let mut slots = 16;
        while self.rate_bps / 8 * (TICK.as_millis() as u64) * slots / 1000 > crate::wheel::VISIT / 5 * 4 {
            slots /= 2;
        }
        usize::try_from(slots).expect("at most 16")
    }

    /// Time between two visits of the raw wheel.
    pub(crate) fn period(&self) -> Duration {
        TICK * u32::try_from(self.slots()).expect("at most 16")
    }
}
