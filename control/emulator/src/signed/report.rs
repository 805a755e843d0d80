//! What a verifier found.

use std::time::Duration;

use serde::Serialize;

/// What arrived, counted in packets unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whole packets received, of every kind.
    pub packets: u64,
    /// Null packets and packets with an adaptation field only.
    pub filler: u64,
    /// PAT and PMT packets beyond those of the unbroken run: the preface, and
    /// repetitions at a jump.
    pub tables: u64,
    /// Missing from the run and not come later.
    pub lost: u64,
    /// Come again after they had come.
    pub duplicated: u64,
    /// Come after a later one.
    pub reordered: u64,
    /// Aligned, but not a packet of this broadcast.
    pub corrupted: u64,
    /// Continuity counters that break ISO/IEC 13818-1 §2.4.3.3 on any PID.
    pub continuity_errors: u64,
    /// Bytes that belong to no packet.
    pub unaligned_bytes: u64,
    /// Bytes of an incomplete packet at the very end; no error.
    pub partial_bytes: u64,
    /// Jumps announced by PAT, PMT and discontinuity indicators that land at a
    /// random access point.
    pub signalled_jumps: u64,
    /// Packets left out by signalled jumps, less those that came again.
    pub jumped: i64,
    /// Times that the run went on far before its first packet, as when a source
    /// counts anew; `first` and `last` are of the latest run.
    pub restarts: u64,
    /// Times that the packets went on as another engine has them; only of
    /// [`Edit::Unmatched`](super::Edit::Unmatched).
    pub variant_changes: u64,
    /// The first packets other than filler were PAT, PMT and a random access
    /// point of the video, and no stray byte came before.
    pub starts_right: bool,
    /// Number of the first packet of the run.
    pub first: Option<u64>,
    /// Number of the latest packet of the run.
    pub last: Option<u64>,
    /// Age of the first packet when it arrived.
    pub first_delay: Option<Duration>,
    /// Age of the latest packet when it arrived, sampled once per push.
    pub last_delay: Option<Duration>,
    /// Greatest age, sampled at each push.
    pub max_delay: Option<Duration>,
}

impl Report {
    /// True when every byte was right from the first on, and no packet of the
    /// run is missing. Signalled jumps are allowed; who does not expect one
    /// asks for [`Report::signalled_jumps`] too.
    #[must_use]
    pub fn is_unbroken(&self) -> bool {
        self.first.is_some()
            && self.starts_right
            && self.lost == 0
            && self.duplicated == 0
            && self.reordered == 0
            && self.restarts == 0
            && self.corrupted == 0
            && self.continuity_errors == 0
            && self.unaligned_bytes == 0
    }
}
