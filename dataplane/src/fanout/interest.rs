//! Which viewers' sockets the kernel has news of.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{Timespec, epoll};

const FLAGS: epoll::EventFlags =
    epoll::EventFlags::OUT.union(epoll::EventFlags::RDHUP).union(epoll::EventFlags::ET);

/// One epoll instance for all viewers of a shard, edge-triggered; the runtime
/// waits on the instance itself.
///
/// So a viewer costs neither a task nor an operation in flight, a healthy one
/// causes no event at all (the kernel reports room only after a send was cut
/// short), and both drivers behave the same.
#[derive(Debug)]
pub(crate) struct Interest {
    instance: OwnedFd,
}

/// What is new with a viewer.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    /// As given to [`Interest::add`].
    pub(super) token: u64,
    /// The connection is dead in both directions.
    pub(super) dead: bool,
    /// The other end sends no more.
    pub(super) ended: bool,
}

impl Interest {
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { instance: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches `socket` until it is closed.
    ///
    /// # Errors
    /// When the kernel's limit of watches is reached.
    pub(super) fn add(&self, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.instance, socket, epoll::EventData::new_u64(token), FLAGS)?)
    }

    /// Has the kernel report room in `socket` though no send was cut short: once
    /// half of what may wait unsent is on its way, be that now.
    ///
    /// # Errors
    /// When the socket is not watched.
    pub(super) fn ask_for_room(&self, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::modify(&self.instance, socket, epoll::EventData::new_u64(token), FLAGS)?)
    }

    /// Takes up to `N` news; `false` when there were fewer.
    pub(super) fn take<const N: usize>(&self, mut each: impl FnMut(News)) -> bool {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; N];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((events, _)) = epoll::wait(&self.instance, &mut events[..], Some(&now)) else { return false };
        for event in events.iter() {
            let flags = event.flags;
            each(News {
                token: event.data.u64(),
                dead: flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP),
                ended: flags.contains(epoll::EventFlags::RDHUP),
            });
        }
        events.len() == N
    }
}

impl AsFd for Interest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.instance.as_fd()
    }
}
