//! Bounded queues between threads, each with a doorbell the receiver can poll.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that a receiver waits on. Several mailboxes may ring one bell.
///
/// A crossbeam receiver cannot be awaited, and a runtime without cross-thread
/// wakers sees nothing but descriptors: so the bell is a descriptor.
#[derive(Clone, Debug)]
pub struct Doorbell(Arc<OwnedFd>);

impl Doorbell {
    /// Makes a silent bell.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Makes the descriptor readable. Never blocks: a saturated counter is
    /// already readable.
    pub fn ring(&self) {
        // The only failure is EAGAIN at 2^64 - 2 unread rings: still readable.
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).ok();
    }

    /// Makes the descriptor unreadable again. To be called before draining the
    /// queues, so that an offer in between rings anew.
    pub fn silence(&self) {
        let mut count = [0u8; 8];
        rustix::io::read(&self.0, &mut count).ok();
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message that was not taken, given back.
#[derive(Debug, thiserror::Error)]
pub enum Refused<T> {
    /// The queue is full; what that costs stands at the message's type.
    #[error("the queue is full")]
    Full(T),
    /// The receiving thread has ended.
    #[error("the receiver is gone")]
    Gone(T),
}

/// The sending end.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Sender<T>,
    bell: Doorbell,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Mailbox<T> {
    /// Queues `message` and rings; never blocks.
    ///
    /// # Errors
    /// Gives the message back when the queue is full or nobody receives.
    pub fn offer(&self, message: T) -> Result<(), Refused<T>> {
        match self.queue.try_send(message) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(m)) => Err(Refused::Full(m)),
            Err(TrySendError::Disconnected(m)) => Err(Refused::Gone(m)),
        }
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Receiver<T>,
    bell: Doorbell,
}

impl<T> Inbox<T> {
    /// The next message, if one waits.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// The bell to wait on.
    #[must_use]
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }
}

/// A queue of at most `capacity` messages, allocated at once, ringing `bell`.
#[must_use]
pub fn mailbox<T>(capacity: usize, bell: &Doorbell) -> (Mailbox<T>, Inbox<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    (Mailbox { queue: sender, bell: bell.clone() }, Inbox { queue: receiver, bell: bell.clone() })
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn rings(bell: &Doorbell) -> bool {
        let mut fds = [PollFd::new(bell, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn an_offer_rings_until_silenced_and_a_full_queue_gives_back() {
        let bell = Doorbell::new().unwrap();
        let (tx, rx) = mailbox(2, &bell);
        assert!(!rings(&bell));
        tx.offer(1).unwrap();
        tx.offer(2).unwrap();
        assert!(matches!(tx.offer(3), Err(Refused::Full(3))));
        assert!(rings(&bell));
        bell.silence();
        assert!(!rings(&bell));
        assert_eq!((rx.take(), rx.take(), rx.take()), (Some(1), Some(2), None));
        drop(rx);
        assert!(matches!(tx.offer(4), Err(Refused::Gone(4))));
    }
}
