//! How fast the machine is: neighbours share its caches and its memory, and what
//! they do for half a minute looks like the doing of whatever was measured then.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::support::process;

/// Between two pieces of work.
const PAUSE: Duration = Duration::from_millis(50);
/// Sent in either direction.
const BYTES: usize = 512;

/// A thread on the server's core that does the same piece of work again and
/// again, and counts the CPU time that it takes.
pub(crate) struct Pace {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    took_ns: Mutex<Vec<u64>>,
    is_over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.took_ns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// Begins on `cpu`.
    pub(crate) fn begin(cpu: usize) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        thread::Builder::new().name("pace".to_owned()).spawn(move || {
            if process::pin(cpu).is_err() {
                return;
            }
            while !theirs.is_over.load(Ordering::Acquire) {
                let before = process::thread_time_ns();
                if work(&listener).is_ok() {
                    theirs.lock().push(process::thread_time_ns() - before);
                }
                thread::sleep(PAUSE);
            }
        })?;
        Ok(Self { shared })
    }

    /// What a piece of work took since the last call, in nanoseconds: the median.
    pub(crate) fn take(&self) -> u64 {
        let mut took = std::mem::take(&mut *self.shared.lock());
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or(0)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
    }
}

/// What a join is without a server: a connection, a question and an answer.
fn work(listener: &TcpListener) -> io::Result<()> {
    let mut bytes = [0; BYTES];
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(&bytes)?;
    server.read_exact(&mut bytes)?;
    server.write_all(&bytes)?;
    client.read_exact(&mut bytes)
}
