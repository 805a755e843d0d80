//! The floors: the runtime that our server has, with nothing on it but an
//! answer, and `sendfile` in a loop.

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::TcpListener as StdTcpListener,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::Path,
};

use monoio::{
    FusionDriver, FusionRuntime, RuntimeBuilder,
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
};
use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    fs::MemfdFlags,
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags},
};

use crate::support::socket;

/// As many as a shard has.
const ENTRIES: u32 = 1024;
/// Requests are shorter, and come whole.
const READ: usize = 2 << 10;
/// Sent at once, as our server does.
const SEND: usize = 256 << 10;

fn head(media_type: &str, len: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {len}\r\n\r\n")
}

/// Answers whatever is asked with the bytes of a file.
pub(crate) fn respond(file: &Path) -> io::Result<()> {
    let body = std::fs::read(file)?;
    let answer = [head("application/vnd.apple.mpegurl", body.len()).into_bytes(), body].concat();
    let answer: &'static [u8] = answer.leak();
    let listener = socket::listen(SocketFlags::empty(), None)?;
    let mut runtime = RuntimeBuilder::<FusionDriver>::new().with_entries(ENTRIES).build()?;
    // On epoll a blocking listener would block everything.
    rustix::io::ioctl_fionbio(&listener, matches!(runtime, FusionRuntime::Legacy(_)))?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(StdTcpListener::from(listener))?;
        loop {
            let (socket, _) = listener.accept().await?;
            monoio::spawn(answer_all(socket, answer));
        }
    })
}

async fn answer_all(mut socket: TcpStream, answer: &'static [u8]) {
    let mut buffer = Vec::with_capacity(READ);
    loop {
        let (read, returned) = socket.read(buffer).await;
        buffer = returned;
        if !matches!(read, Ok(1..)) || !buffer.ends_with(b"\r\n\r\n") {
            return;
        }
        let (written, _) = socket.write_all(answer).await;
        if written.is_err() {
            return;
        }
        buffer.clear();
    }
}

struct Taker {
    socket: OwnedFd,
    /// What is being sent, and up to where it has been.
    sending: Option<(usize, u64)>,
    next: usize,
}

/// Answers whatever is asked with one of the `sizes`, each connection in turn.
pub(crate) fn send_slices(sizes: &[usize]) -> io::Result<()> {
    let slices = sizes.iter().map(|&size| slice(size)).collect::<io::Result<Vec<_>>>()?;
    let listener = socket::listen(SocketFlags::NONBLOCK, None)?;
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    let own = listener.as_raw_fd();
    let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(&poller, &listener, EventData::new_u64(own as u64), EventFlags::IN)?;
    let mut takers: HashMap<RawFd, Taker> = HashMap::new();
    let mut events: Vec<Event> = Vec::with_capacity(1_024);
    loop {
        events.clear();
        match epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let fd = event.data.u64() as RawFd;
            if fd == own {
                while let Ok(socket) = rustix::net::accept_with(&listener, SocketFlags::NONBLOCK) {
                    let fd = socket.as_raw_fd();
                    epoll::add(&poller, &socket, EventData::new_u64(fd as u64), both)?;
                    takers.insert(fd, Taker { socket, sending: None, next: takers.len() % slices.len() });
                }
            } else if takers.get_mut(&fd).is_some_and(|taker| taker.go_on(&slices).is_err()) {
                takers.remove(&fd);
            }
        }
    }
}

impl Taker {
    /// Sends and reads until the kernel has no more room and no more bytes.
    fn go_on(&mut self, slices: &[(File, u64, Vec<u8>)]) -> Result<(), Errno> {
        loop {
            if let Some((index, offset)) = &mut self.sending {
                let (file, len, _) = &slices[*index];
                let left = (*len - *offset) as usize;
                match rustix::fs::sendfile(&self.socket, file, Some(offset), left.min(SEND)) {
                    Err(Errno::AGAIN) => return Ok(()),
                    sent => sent?,
                };
                if *offset < *len {
                    continue;
                }
                self.sending = None;
            }
            let mut request = [0u8; READ];
            match rustix::net::recv(&self.socket, &mut request, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return Ok(()),
                Ok((_, 0)) => return Err(Errno::CONNRESET),
                read => read?,
            };
            let (_, _, head) = &slices[self.next];
            rustix::net::send(&self.socket, head, SendFlags::NOSIGNAL | SendFlags::MORE)?;
            self.sending = Some((self.next, 0));
            self.next = (self.next + 1) % slices.len();
        }
    }
}

/// A memfd of so many bytes, its length, and what stands before it.
fn slice(size: usize) -> io::Result<(File, u64, Vec<u8>)> {
    let file = File::from(rustix::fs::memfd_create("slice", MemfdFlags::CLOEXEC)?);
    io::Write::write_all(&mut &file, &vec![0x47; size])?;
    Ok((file, size as u64, head("video/mp2t", size).into_bytes()))
}
