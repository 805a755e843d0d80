//! A stream's published bytes: segments in a chain, one writer, many readers.
//!
//! A segment is a memfd that is only ever appended to. Its published length is
//! an atomic, bytes beyond it are never read, bytes before it never change: so
//! any shard may send from it without a lock, and pages still in flight in a
//! socket cannot be overwritten.

mod candidate;
mod discard;
mod memfd;
mod splice;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use millrace_media::ts::{JoinPoint, Psi};

pub(crate) use candidate::{Candidate, Fit};
pub(crate) use discard::{Discarder, discard_some};
pub(crate) use memfd::{Held, read_at};
pub(crate) use writer::{ChainWriter, STOCK, Window};

/// Join points kept of one segment; more are not recorded. At the largest
/// segment that is one per 16 KiB, far denser than any encoder's key frames.
const JOINS: usize = 64;

/// One append-only run of whole TS packets.
#[derive(Debug)]
pub(crate) struct Segment {
    memfd: memfd::Memory,
    sequence: u64,
    start: u64,
    published: AtomicUsize,
    psi: Option<Arc<Psi>>,
    joins: [OnceLock<Box<Join>>; JOINS],
    next: OnceLock<Arc<Segment>>,
}

/// A place where a viewer can begin.
#[derive(Debug)]
pub(crate) struct Join {
    /// What stands there.
    pub(crate) point: JoinPoint,
    /// Stream time there, since the chain began.
    pub(crate) at: Duration,
}

impl Segment {
    /// Place in the chain, from 0.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Offset of its first byte since the chain began.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes that may be read, a multiple of 188; only grows.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// The PSI in force in all of it.
    pub(crate) fn psi(&self) -> Option<&Arc<Psi>> {
        self.psi.as_ref()
    }

    /// The segment after it. Once there is one, `published` is final.
    pub(crate) fn next(&self) -> Option<&Arc<Segment>> {
        self.next.get()
    }

    /// Its join points, oldest first.
    pub(crate) fn joins(&self) -> impl DoubleEndedIterator<Item = &Join> {
        self.joins.iter().filter_map(|join| join.get().map(AsRef::as_ref))
    }

    /// What to send from.
    pub(crate) fn memfd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    fn add_join(&self, join: Join) {
        // Found slightly out of order at worst; a full list loses the newest.
        if let Some(free) = self.joins.iter().find(|j| j.get().is_none()) {
            free.set(Box::new(join)).ok();
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // A viewer that fell far behind may hold the only reference to a long
        // run of segments: freed in a loop, so that the stack stays flat.
        let mut next = self.next.take();
        while let Some(mut segment) = next.and_then(Arc::into_inner) {
            next = segment.next.take();
        }
    }
}

/// A viewer's place in the chain.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    /// The segment it is in.
    pub(crate) segment: Arc<Segment>,
    /// Bytes of that segment already sent.
    pub(crate) offset: usize,
}

impl Cursor {
    /// Bytes that can be sent now without leaving the segment. Moves on to the
    /// next segment when this one is used up.
    pub(crate) fn available(&mut self) -> usize {
        loop {
            // `next` first: with it, what is published is all there will be.
            let next = self.segment.next().cloned();
            let left = self.segment.published() - self.offset;
            match next {
                Some(next) if left == 0 => *self = Self { segment: next, offset: 0 },
                _ => return left,
            }
        }
    }
}
