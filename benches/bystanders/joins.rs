//! Viewers of the healthy streams who leave with their first byte, one after the
//! other.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use millrace_emulator::ContentId;

use super::stamp;
use crate::support::process;

/// A join that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(5);
/// Most bytes taken of an answer: its head and what comes in the same packet.
const READ: usize = 4 << 10;

/// What was seen since it was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// From connect to the first byte of the stream.
    pub(crate) took_ns: Vec<u64>,
    /// Joins that got no byte.
    pub(crate) failed: u64,
    /// Bytes of the streams.
    pub(crate) bytes: u64,
}

/// A thread of its own, so that nothing but the join is timed.
pub(crate) struct Joins {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    figures: Mutex<Figures>,
    is_over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joins {
    /// Joins one of `ids` after the other, `per_second` of them.
    pub(crate) fn begin(address: SocketAddrV4, ids: &[ContentId], per_second: u32) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        // Where no socket wants to know any more the kernel stops noting, at a price.
        let keep = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        stamp::ask(&keep)?;
        std::thread::Builder::new().name("joins".to_owned()).spawn(move || {
            let _keep = keep;
            // Its clock is the outside observer's, who does not share a core.
            process::go_first();
            let mut next = Instant::now();
            for number in 0u64.. {
                next += pause(number, Duration::from_secs(1) / per_second);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                if theirs.is_over.load(Ordering::Acquire) {
                    return;
                }
                let began = SystemTime::now();
                let joined = join(address, &ids[number as usize % ids.len()]);
                let mut figures = theirs.lock();
                match joined {
                    Ok((bytes, arrived)) => {
                        let took = arrived.duration_since(began).unwrap_or_default();
                        figures.bytes += bytes as u64;
                        figures.took_ns.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                    }
                    Err(_) => figures.failed += 1,
                }
            }
        })?;
        Ok(Self { shared })
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Figures {
        std::mem::take(&mut self.shared.lock())
    }
}

impl Drop for Joins {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
    }
}

/// Half of `mean` to one and a half, evenly: the server's work has periods, and
/// joins that kept step with them would see always the same part of it.
fn pause(number: u64, mean: Duration) -> Duration {
    // Multiples of the golden ratio, modulo one, in 32 bits.
    let share = number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff;
    mean.mul_f64(0.5 + share as f64 / f64::from(u32::MAX))
}

/// Bytes of the stream with which the first one came, and when the kernel had
/// them: the wait of this thread for its core, which the engines send from, is
/// not the server's.
fn join(address: SocketAddrV4, id: &str) -> io::Result<(usize, SystemTime)> {
    let mut socket = TcpStream::connect_timeout(&SocketAddr::V4(address), LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    stamp::ask(&socket)?;
    let request = format!("GET /ace/getstream?id={id} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let (mut answer, mut length) = (vec![0; READ], 0);
    loop {
        let (read, arrived) = stamp::read(&socket, &mut answer[length..])?;
        length += read;
        let head = answer[..length].windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        match head {
            Some(head) if length > head => {
                let is_stream = answer.starts_with(b"HTTP/1.1 200 ");
                let joined = is_stream.then_some((length - head, arrived));
                return joined.ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            _ if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}
