//! What came since a stream lost its place, until it is known how it goes on.

use millrace_media::ts::JoinPoint;

use super::jumps::Jumps;
use crate::segment::{Candidate, ChainWriter, Fit};

/// Held back at most while some stream behind the join point has no packet.
const UNCOUNTED_BYTES: usize = 1 << 20;
/// Held back at most while a join point is waited for.
const ADRIFT_BYTES: usize = 8 << 20;
/// Packets whose place is not known yet.
#[derive(Debug)]
pub(super) struct Adrift {
    candidate: Candidate,
    is_told: bool,
}

/// How a stream goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From where it was: these packets follow those before.
    On(Vec<u8>),
    /// With these packets, which tell first that they do not follow.
    Anew(Vec<u8>),
}

impl Adrift {
    /// The clock has jumped in front of `packets`.
    pub(super) fn jumped(packets: &[u8]) -> Self {
        let mut candidate = Candidate::new();
        candidate.push(packets);
        Self { candidate, is_told: false }
    }

    /// Somebody says that what comes does not follow, who may be wrong.
    pub(super) fn told() -> Self {
        Self { candidate: Candidate::new(), is_told: true }
    }

    pub(super) fn push(&mut self, packets: &[u8]) {
        self.candidate.push(packets);
    }

    /// How to go on behind `chain`, whose source looked as `jumps` knows; none
    /// until that shows.
    pub(super) fn way(&self, chain: &ChainWriter, jumps: &Jumps) -> Option<Way> {
        let candidate = &self.candidate;
        if self.is_told {
            let pid = chain.psi().and_then(|psi| psi.pcr_pid());
            if pid.is_some_and(|pid| jumps.is_next(candidate.bytes(), pid)) {
                return Some(Way::On(candidate.bytes().to_vec()));
            }
            match candidate.fit(chain) {
                Fit::Exact(from) => return Some(Way::On(candidate.bytes()[from..].to_vec())),
                // The chain's own past comes again; its end may too.
                Fit::Behind if candidate.len() <= ADRIFT_BYTES => return None,
                Fit::Behind | Fit::Apart(_) | Fit::Unknown => {}
            }
        }
        let is_whole =
            |join: &&JoinPoint| candidate.knows_counters_at(join) || candidate.len() > UNCOUNTED_BYTES;
        match candidate.first_join().filter(is_whole) {
            Some(join) => Some(Way::Anew(candidate.packets_from(join))),
            // Without a place to join it goes on as it came.
            None if candidate.len() > ADRIFT_BYTES => Some(Way::On(candidate.bytes().to_vec())),
            None => None,
        }
    }
}
