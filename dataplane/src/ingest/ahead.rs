//! What a source has brought ahead of time: how it is waited for, and how it is
//! published.

use std::{sync::Arc, time::Duration};

use millrace_boundary::Monotonic;
use millrace_media::ts::{PACKET_LEN, Psi};

use super::reader::AHEAD_LIMIT;
use crate::hls::Comes;

/// What an engine sends ahead when a stream begins comes at more than so many
/// times the pace of real time.
const PACE: u32 = 4;
/// It has come when that was not so in as many looks: an engine may pause in it.
const PAUSES: u32 = 2;
/// It is waited for this long at most.
const LONGEST: Duration = Duration::from_secs(1);
/// Of what a source had brought when it took over, published at once.
pub(super) const PIECE: usize = AHEAD_LIMIT / PACKET_LEN * PACKET_LEN;

/// What an engine has sent ahead is being read: how far that was when somebody
/// last looked.
#[derive(Debug)]
pub(super) struct Leap {
    began: Monotonic,
    looked: Monotonic,
    head: Duration,
    comes: Comes,
    /// Looks in a row at which little had come.
    pauses: u32,
}

impl Leap {
    /// Begins at stream time zero.
    pub(super) fn begin(now: Monotonic, comes: Comes) -> Self {
        Self { began: now, looked: now, head: Duration::ZERO, comes, pauses: 0 }
    }

    /// Whether it goes on now that the chain has come to `head`.
    pub(super) fn goes_on(&mut self, head: Duration, now: Monotonic) -> bool {
        let is_leap = head.saturating_sub(self.head) > now.since(self.looked) * PACE;
        self.pauses = if is_leap { 0 } else { self.pauses + 1 };
        (self.looked, self.head) = (now, head);
        let is_over = match self.comes {
            Comes::Steadily => self.pauses >= PAUSES,
            // Between two segments nothing comes: whoever fetches them tells.
            Comes::BySegment => false,
        };
        !is_over && now.since(self.began) < LONGEST
    }
}

/// Whole packets of which those before a place are published.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    at: usize,
    /// Their PSI, should the chain have none.
    psi: Option<Arc<Psi>>,
}

impl Backlog {
    /// Begins with the byte `at`.
    pub(super) fn new(bytes: Vec<u8>, at: usize, psi: Option<Arc<Psi>>) -> Self {
        Self { bytes, at, psi }
    }

    /// What is to be published next, and its PSI.
    pub(super) fn next(&mut self) -> (&[u8], Option<&Arc<Psi>>) {
        let from = self.at;
        self.at = (from + PIECE).min(self.bytes.len());
        (&self.bytes[from..self.at], self.psi.as_ref())
    }

    /// Whether there is nothing more.
    pub(super) fn is_over(&self) -> bool {
        self.at == self.bytes.len()
    }
}
