//! Where memory goes that nobody needs any more.
//!
//! The kernel takes long to close one mebibyte, for which time a shard would
//! serve nobody. So a thread does that for all shards which runs only while
//! nobody else wants its core, and of which the kernel takes the core away again
//! between two runs of pages. It may never get there: so what waits for it is
//! bounded, and a shard closes by itself, bit by bit, what is more than that.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
};

use crate::slice::run_last;

thread_local! {
    /// Nobody's any more, and still to be handed on; only on a shard's thread.
    static DISCARDED: RefCell<Option<Discarded>> = const { RefCell::new(None) };
}

/// Segments that may wait for the thread, and as many on each shard.
const QUEUE: usize = 32;

/// Closed by a shard at a time: one of so many that are too many.
const SHARE: usize = 64;

/// The way to the thread that closes what shards let go of.
#[derive(Clone, Debug)]
pub(crate) struct Discarder(SyncSender<OwnedFd>);

impl Discarder {
    /// # Errors
    /// When the process may have no more threads.
    pub(crate) fn start() -> io::Result<Self> {
        let (discarder, queue) = Self::without_thread();
        thread::Builder::new().name("discard".into()).spawn(move || {
            if let Err(error) = run_last() {
                tracing::debug!(%error, "memory is given back while others wait for the core");
            }
            queue.iter().for_each(drop);
        })?;
        Ok(discarder)
    }

    fn without_thread() -> (Self, Receiver<OwnedFd>) {
        let (to_thread, queue) = mpsc::sync_channel(QUEUE);
        (Self(to_thread), queue)
    }

    /// From now on what the calling thread lets go of waits for [`discard_some`].
    pub(crate) fn serve_thread(&self) {
        let discarder = self.clone();
        DISCARDED.set(Some(Discarded { waiting: VecDeque::new(), discarder }));
    }
}

struct Discarded {
    waiting: VecDeque<OwnedFd>,
    discarder: Discarder,
}

impl Discarded {
    /// Hands on as much as the thread has room for, and takes out some of what is
    /// then too much.
    fn some(&mut self) -> Vec<OwnedFd> {
        while let Some(next) = self.waiting.pop_front() {
            if let Err(mpsc::TrySendError::Full(next) | mpsc::TrySendError::Disconnected(next)) =
                self.discarder.0.try_send(next)
            {
                self.waiting.push_front(next);
                break;
            }
        }
        let over = self.waiting.len().saturating_sub(QUEUE);
        self.waiting.drain(..over.div_ceil(SHARE)).collect()
    }
}

/// Gives `own` back: at once, or where the thread is a shard's with [`discard_some`].
pub(super) fn discard(own: OwnedFd) {
    let mut own = Some(own);
    // A thread that ends gives back at once.
    let _over = DISCARDED.try_with(|discarded| {
        if let Ok(mut discarded) = discarded.try_borrow_mut()
            && let Some(discarded) = &mut *discarded
        {
            discarded.waiting.extend(own.take());
        }
    });
}

/// Has some of the memory given back that has waited longest; says whether this
/// thread had to do some of that by itself, and has perhaps to do more.
pub(crate) fn discard_some() -> bool {
    let some = DISCARDED.with_borrow_mut(|discarded| discarded.as_mut().map(Discarded::some));
    some.is_some_and(|some| !some.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{iter::repeat_with, os::unix::net::UnixStream};

    use rustix::net::{RecvFlags, recv};

    use super::*;

    /// Whether the other end has been closed.
    fn is_closed(end: &UnixStream) -> bool {
        recv(end, &mut [0; 1], RecvFlags::DONTWAIT) == Ok((0, 0))
    }

    /// Of so many that were let go of, the ends that tell.
    fn let_go(count: usize) -> Vec<UnixStream> {
        let pairs = repeat_with(|| UnixStream::pair().unwrap()).take(count);
        pairs
            .map(|(own, end)| {
                discard(own.into());
                end
            })
            .collect()
    }

    fn closed(ends: &[UnixStream]) -> usize {
        ends.iter().filter(|end| is_closed(end)).count()
    }

    #[test]
    fn a_thread_that_is_no_shards_gives_back_at_once() {
        assert_eq!(closed(&let_go(2)), 2);
        assert!(!discard_some(), "kept without being asked to");
    }

    #[test]
    fn what_waits_for_the_thread_is_bounded_and_a_shard_closes_the_rest_bit_by_bit() {
        let (discarder, queue) = Discarder::without_thread();
        discarder.serve_thread();
        let ends = let_go(2 * QUEUE);
        assert!(!discard_some() && closed(&ends) == 0, "both queues have room");
        let more = let_go(SHARE + 1);
        let rounds = repeat_with(discard_some).take_while(|some| *some).count();
        assert_eq!(rounds, SHARE, "two at first, then one at a time");
        let all: Vec<_> = ends.into_iter().chain(more).collect();
        assert!(all[QUEUE..].iter().take(SHARE + 1).all(is_closed), "the oldest behind what was handed on");
        assert_eq!(closed(&all), SHARE + 1);
        drop(queue);
        assert!(!discard_some(), "a thread that is gone is no reason to close what there is room for");
    }

    #[test]
    fn the_thread_closes_what_a_shard_lets_go_of() {
        Discarder::start().unwrap().serve_thread();
        let ends = let_go(3);
        assert!(!discard_some());
        // Reads of its end wait until it is closed.
        ends.iter().for_each(|end| assert_eq!(recv(end, &mut [0; 1], RecvFlags::empty()), Ok((0, 0))));
    }
}
