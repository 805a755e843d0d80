//! Waiting for the doorbell.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use millrace_boundary::{FromShard, Inbox};
use tokio::io::{Interest, unix::AsyncFd};

/// Messages taken before other work has its turn.
const PER_TURN: usize = 1_024;

/// The inbox, awaitable.
#[derive(Debug)]
pub(crate) struct Mail {
    inbox: Inbox<FromShard>,
    bell: AsyncFd<OwnedFd>,
}

impl Mail {
    /// To be called on the runtime that will wait.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new(inbox: Inbox<FromShard>) -> io::Result<Self> {
        let bell = inbox.bell().as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor may change or close; this one is owned"
        )]
        let bell = AsyncFd::with_interest(bell, Interest::READABLE)?;
        Ok(Self { inbox, bell })
    }

    /// Waits until something may have come. Loses nothing when dropped: the
    /// bell stays rung until [`Self::take`].
    pub(crate) async fn arrived(&self) {
        match self.bell.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // Only while the runtime shuts down.
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands the waiting messages to `apply`, a bounded number of them, and
    /// rings again for the rest.
    pub(crate) fn take(&self, mut apply: impl FnMut(FromShard)) {
        // Before the queue is drained, so that an offer in between rings anew.
        self.inbox.bell().silence();
        for _ in 0..PER_TURN {
            let Some(message) = self.inbox.take() else { return };
            apply(message);
        }
        self.inbox.bell().ring();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_boundary::{Doorbell, Epoch, ShardId, mailbox};

    use super::*;

    #[tokio::test]
    async fn all_mail_arrives_however_much_waits() {
        let bell = Doorbell::new().unwrap();
        let (tx, rx) = mailbox(5_000, &bell);
        let mail = Mail::new(rx).unwrap();
        for count in [1usize, 2, PER_TURN, PER_TURN + 1, 5_000] {
            for _ in 0..count {
                tx.offer(FromShard::Adopted { shard: ShardId(0), epoch: Epoch(1) }).unwrap();
            }
            let mut taken = 0;
            while taken < count {
                tokio::time::timeout(Duration::from_secs(5), mail.arrived()).await.expect("the bell rings");
                let before = taken;
                mail.take(|_| taken += 1);
                assert!(taken - before <= PER_TURN, "a turn is bounded");
            }
            assert_eq!(taken, count);
        }
    }
}
