//! Heads and bodies as they come on a connection.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
};

use rustix::event::{PollFd, PollFlags, poll};

use super::super::http::{Framing, head_end};

/// Longest head.
const MAX_HEAD: usize = 64 << 10;
const PART: usize = 64 << 10;

/// Reads one end while it looks after the other: with that gone there is
/// nobody to read for.
pub(super) struct Source<'a> {
    stream: &'a UnixStream,
    other: Option<&'a UnixStream>,
    read: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn new(stream: &'a UnixStream, other: Option<&'a UnixStream>) -> Self {
        Self { stream, other, read: Vec::new() }
    }

    /// What has been read beyond the last body.
    pub(super) fn rest(self) -> Vec<u8> {
        self.read
    }

    /// Takes what comes; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if let Some(other) = self.other {
            wait_for(self.stream, other)?;
        }
        let mut part = [0; PART];
        let mut stream = self.stream;
        let count = stream.read(&mut part)?;
        self.read.extend(&part[..count]);
        Ok(count > 0)
    }

    /// The next head with its empty line; none at the end of the connection.
    pub(super) fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = head_end(&self.read) {
                return Ok(Some(self.read.drain(..end).collect()));
            }
            if self.read.len() > MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The next part of a body, without what frames it; none at its end.
    pub(super) fn part(&mut self, framing: &mut Framing) -> io::Result<Option<Vec<u8>>> {
        match framing {
            Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                if self.read.is_empty() && !self.fill()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let count = self.read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                Ok(Some(self.read.drain(..count).collect()))
            }
            Framing::Close => {
                if self.read.is_empty() && !self.fill()? {
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.read)))
            }
            Framing::Chunked => self.chunk(),
        }
    }

    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.until(|read| read.windows(2).position(|w| w == b"\r\n").map(|at| at + 2))?;
        let text = String::from_utf8_lossy(&line);
        let size = text.trim().split(';').next().unwrap_or("");
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut chunk = self.until(|read| (size + 2 <= read.len()).then_some(size + 2))?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    fn until(&mut self, end: impl Fn(&[u8]) -> Option<usize>) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = end(&self.read) {
                return Ok(self.read.drain(..end).collect());
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Waits until there is something to read on `stream`; an error when `other`
/// is gone.
fn wait_for(stream: &UnixStream, other: &UnixStream) -> io::Result<()> {
    let mut both = [PollFd::new(stream, PollFlags::IN), PollFd::new(other, PollFlags::RDHUP)];
    loop {
        match poll(&mut both, None) {
            Ok(_) if !both[1].revents().is_empty() => return Err(io::ErrorKind::BrokenPipe.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the other side has closed this connection.
pub(super) fn is_gone(stream: &UnixStream) -> bool {
    let mut one = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut one, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// A part of a body as the framing wants it.
pub(super) fn framed(framing: Framing, part: &[u8]) -> Vec<u8> {
    match framing {
        Framing::Chunked => [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat(),
        _ => part.to_vec(),
    }
}
