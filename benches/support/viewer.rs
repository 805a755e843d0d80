//! One viewer's connection, from connect to its last byte.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType},
};

/// Longest response head accepted, in bytes.
const MAX_HEAD: usize = 4 << 10;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connecting, or the request is not yet sent.
    Connecting,
    /// Reading the response's head.
    Head,
    /// Reading the stream.
    Body,
    /// Refused before the stream: connection or status.
    Failed,
    /// Ended within the stream.
    Ended,
}

/// A viewer; never blocks.
pub(crate) struct Viewer {
    socket: OwnedFd,
    id: String,
    head: Vec<u8>,
    /// Where it is.
    pub(crate) phase: Phase,
    /// Bytes of the stream received.
    pub(crate) received: u64,
}

impl Viewer {
    /// Begins to connect; the request for the content `id` follows when the socket
    /// can be written.
    pub(crate) fn connect(address: SocketAddrV4, id: String) -> rustix::io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { socket, id, head: Vec::new(), phase: Phase::Connecting, received: 0 })
    }

    /// To be called when the socket can be written.
    pub(crate) fn request(&mut self) {
        let request = format!(
            "GET /ace/getstream?id={} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n",
            self.id,
        );
        let sent = rustix::net::send(&self.socket, request.as_bytes(), SendFlags::NOSIGNAL);
        self.phase = if sent == Ok(request.len()) { Phase::Head } else { Phase::Failed };
    }

    /// Reads and forgets up to `scratch.len()` bytes, without copying them
    /// once the stream flows. To be called when the socket can be read.
    pub(crate) fn discard(&mut self, scratch: &mut [u8]) {
        if self.phase == Phase::Body {
            let read = rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::TRUNC);
            self.count(read.map(|(_, length)| length));
        } else {
            self.read(scratch);
        }
    }

    /// Reads into `scratch` and returns the bytes of the stream among them.
    pub(crate) fn read<'a>(&mut self, scratch: &'a mut [u8]) -> &'a [u8] {
        let read =
            rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::empty()).map(|(_, length)| length);
        if self.phase == Phase::Body {
            let length = self.count(read);
            return &scratch[..length];
        }
        match read {
            Err(Errno::AGAIN | Errno::INTR) => return &[],
            Ok(length @ 1..) => self.head.extend_from_slice(&scratch[..length]),
            Ok(0) | Err(_) => {
                self.phase = Phase::Failed;
                return &[];
            }
        }
        let Some(at) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else {
            if self.head.len() > MAX_HEAD {
                self.phase = Phase::Failed;
            }
            return &[];
        };
        if !self.head.starts_with(b"HTTP/1.1 200 ") {
            self.phase = Phase::Failed;
            return &[];
        }
        self.phase = Phase::Body;
        let head = std::mem::take(&mut self.head);
        let body = head.len() - (at + 4);
        scratch[..body].copy_from_slice(&head[at + 4..]);
        self.received += body as u64;
        &scratch[..body]
    }

    fn count(&mut self, read: rustix::io::Result<usize>) -> usize {
        match read {
            Ok(length @ 1..) => {
                self.received += length as u64;
                length
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Ok(0) | Err(_) => {
                self.phase = Phase::Ended;
                0
            }
        }
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
