//! The runtime, by name: the only file that builds one.

use std::{
    cell::RefCell,
    future::Future,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use millrace_boundary::{Doorbell, Driver, Monotonic};
use monoio::{
    FusionDriver, RuntimeBuilder,
    buf::{IoBuf, IoBufMut},
    net::UnixStream,
};

use rustix::{buffer::spare_capacity, io::Errno, net::RecvFlags};

pub(crate) use monoio::{
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
    spawn,
    time::sleep,
};

/// Submission queue entries of one shard. The queue is flushed when full, so
/// this bounds a batch and not the operations in flight.
const ENTRIES: u32 = 1024;

/// Runs `main` on this thread, on io_uring where the kernel allows it and on
/// epoll elsewhere.
///
/// # Errors
/// When neither driver can be built.
pub(crate) fn run<F: Future>(main: impl FnOnce(Driver) -> F) -> io::Result<F::Output> {
    let mut runtime = RuntimeBuilder::<FusionDriver>::new().with_entries(ENTRIES).enable_timer().build()?;
    let driver = match &runtime {
        monoio::FusionRuntime::Uring(_) => Driver::Uring,
        monoio::FusionRuntime::Legacy(_) => Driver::Epoll,
    };
    let output = runtime.block_on(main(driver));
    // A runtime must not be dropped with operations in flight: the kernel may
    // still write into their buffers. The process ends soon after this.
    std::mem::forget(runtime);
    Ok(output)
}

/// Takes a connection from the runtime, made non-blocking.
///
/// # Errors
/// When the socket cannot be made non-blocking.
#[expect(unsafe_code, reason = "the runtime gives its descriptors back raw")]
pub(crate) fn into_owned(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: `into_raw_fd` gives up the runtime's ownership of an open
    // descriptor, and nothing else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

/// Appends what has come on `socket` already, as far as `buffer` has room; none
/// of it where nothing has, not even the end.
#[expect(unsafe_code, reason = "the runtime lends its descriptors raw")]
pub(crate) fn read_now(socket: &TcpStream, buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
    // SAFETY: it is open for as long as `socket` is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    match rustix::net::recv(fd, spare_capacity(buffer), RecvFlags::DONTWAIT) {
        Ok((read, _)) => Some(Ok(read)),
        Err(Errno::AGAIN | Errno::INTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// What `future` gives within `limit`; it is dropped otherwise.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    monoio::time::timeout(limit, future).await.ok()
}

/// A descriptor that is only ever waited on: an eventfd, an epoll instance.
pub(crate) struct Pollable(UnixStream);

impl Pollable {
    /// The runtime offers readiness on its socket types alone, and asks nothing
    /// of the descriptor but that it can be polled.
    ///
    /// # Errors
    /// When the driver cannot register one more descriptor.
    pub(crate) fn new(fd: impl AsFd) -> io::Result<Self> {
        let own: OwnedFd = fd.as_fd().try_clone_to_owned()?;
        Ok(Self(UnixStream::from_std(StdUnixStream::from(own))?))
    }

    /// Waits until it is readable.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable(false).await
    }
}

/// A connection that is waited on for room and for bytes, and otherwise used
/// without waiting.
pub(crate) struct Link(UnixStream);

impl Link {
    /// Takes a non-blocking socket over.
    ///
    /// # Errors
    /// When the driver cannot register one more descriptor.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        // The runtime asks no more of it than of any other socket.
        Ok(Self(UnixStream::from_std(StdUnixStream::from(socket))?))
    }

    /// Waits until there are bytes, or the end.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable(false).await
    }

    /// Has [`Self::read`] wait in the kernel, which on io_uring saves a look at
    /// the socket and a call; or has nothing wait any more that is not asked to.
    /// Epoll needs sockets on which nothing waits.
    pub(crate) fn let_wait(&self, waits: bool) {
        // Fails for no open socket.
        rustix::io::ioctl_fionbio(self, !waits).ok();
    }

    /// Reads what comes next behind what is in `buffer`, at least `room` bytes of
    /// it if there are so many; none at the end. Bytes are lost if it is dropped.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn read(&mut self, mut buffer: Vec<u8>, room: usize) -> (io::Result<usize>, Vec<u8>) {
        buffer.reserve(room);
        let before = buffer.len();
        let (read, slice) = self.0.read(buffer.slice_mut(before..)).await;
        (read, slice.into_inner())
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn send(&mut self, bytes: impl IoBuf + 'static) -> io::Result<()> {
        self.0.write_all(bytes).await.0.map(drop)
    }

    /// Waits until there is room.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.0.writable(false).await
    }

    /// Gives the socket back, on which nothing waits.
    #[expect(unsafe_code, reason = "the runtime gives its descriptors back raw")]
    pub(crate) fn into_owned(self) -> OwnedFd {
        self.let_wait(false);
        // SAFETY: `into_raw_fd` gives up the runtime's ownership of an open
        // descriptor, and nothing else has it.
        unsafe { OwnedFd::from_raw_fd(self.0.into_raw_fd()) }
    }
}

impl AsFd for Link {
    #[expect(unsafe_code, reason = "the runtime lends its descriptors raw")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open for as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

/// Lets the shard look at the kernel between two pieces of a long job.
///
/// A task that wakes itself keeps the run queue full, and the runtime looks at
/// timers and completions only when it is empty. So this waits for a real
/// event, of which it makes sure that it comes at once.
pub(crate) struct Breath {
    driver: Driver,
    bell: Doorbell,
    pollable: Pollable,
}

impl Breath {
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new(driver: Driver) -> io::Result<Self> {
        let bell = Doorbell::new()?;
        // io_uring looks each time it is asked, so it may ring for ever.
        bell.ring();
        let pollable = Pollable::new(&bell)?;
        Ok(Self { driver, bell, pollable })
    }

    /// Returns after every other ready task and completion had its turn.
    pub(crate) async fn take(&self) {
        if self.driver == Driver::Uring {
            self.pollable.readable().await.ok();
            return;
        }
        self.bell.silence();
        let mut rung = pin!(self.pollable.readable());
        let mut asked = false;
        std::future::poll_fn(|cx| {
            let polled = rung.as_mut().poll(cx);
            if !std::mem::replace(&mut asked, true) {
                // Only now: rung before the first poll, the epoll driver would
                // find it ready and never leave the task.
                self.bell.ring();
            }
            match polled {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }
}

/// Wakes one waiting task of the same shard; a call without a waiter is kept.
#[derive(Clone, Default)]
pub(crate) struct Notify(Rc<RefCell<NotifyState>>);

#[derive(Default)]
struct NotifyState {
    called: bool,
    waiter: Option<Waker>,
}

impl Notify {
    /// Wakes the waiter, or lets the next one pass.
    pub(crate) fn call(&self) {
        let waiter = {
            let mut state = self.0.borrow_mut();
            state.called = true;
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Whether nobody else has it: neither one who calls nor one who waits.
    pub(crate) fn is_alone(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Whether `other` is the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Waits for a call; takes it.
    pub(crate) async fn called(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if std::mem::take(&mut state.called) {
                return Poll::Ready(());
            }
            state.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// What ends first: `future`, or a call on `notify`. For futures that may be
/// dropped: never a read whose bytes are still wanted.
pub(crate) async fn unless_called<F: Future>(notify: &Notify, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut called = pin!(notify.called());
    std::future::poll_fn(|cx| {
        if called.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Sleeps until `deadline`, to the runtime's millisecond.
pub(crate) async fn sleep_until(deadline: Monotonic) {
    let now = Monotonic::now();
    if deadline > now {
        sleep(deadline.since(now)).await;
    }
}
