//! One viewer's connection, from connect to its last byte.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType},
};

use crate::support::feed::{PACKET, VIDEO_PID};

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
    stream: usize,
    head: Vec<u8>,
    /// Where it is.
    pub(crate) phase: Phase,
    /// Bytes of the stream received.
    pub(crate) received: u64,
}

impl Viewer {
    /// Begins to connect; the request follows when the socket can be written.
    pub(crate) fn connect(address: SocketAddrV4, stream: usize) -> rustix::io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { socket, stream, head: Vec::new(), phase: Phase::Connecting, received: 0 })
    }

    /// To be called when the socket can be written.
    pub(crate) fn request(&mut self) {
        let request = format!(
            "GET /ace/getstream?id={:040x} HTTP/1.1\r\nHost: bench\r\nUser-Agent: fanout\r\n\r\n",
            0x1000 + self.stream,
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

/// Checks that what a viewer reads is the stream: aligned, and nothing of the
/// video lost or repeated.
#[derive(Default)]
pub(crate) struct Checker {
    carry: Vec<u8>,
    continuity: Option<u8>,
    /// Packets that did not begin with 0x47, and continuity errors.
    pub(crate) errors: u64,
}

impl Checker {
    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        if !self.carry.is_empty() {
            let missing = (PACKET - self.carry.len()).min(bytes.len());
            self.carry.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.carry.len() < PACKET {
                return;
            }
            let packet = std::mem::take(&mut self.carry);
            self.packet(&packet);
        }
        let (packets, rest) = bytes.as_chunks::<PACKET>();
        for packet in packets {
            self.packet(packet);
        }
        self.carry.extend_from_slice(rest);
    }

    fn packet(&mut self, packet: &[u8]) {
        if packet[0] != 0x47 {
            self.errors += 1;
            return;
        }
        let pid = u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2]);
        if pid != VIDEO_PID || packet[3] & 0x10 == 0 {
            return;
        }
        let counter = packet[3] & 0x0F;
        let has_discontinuity = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0;
        if !has_discontinuity && self.continuity.is_some_and(|last| (last + 1) & 0x0F != counter) {
            self.errors += 1;
        }
        self.continuity = Some(counter);
    }
}
