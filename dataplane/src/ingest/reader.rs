//! The connection that a stream comes over: from bytes as they come to whole
//! packets.

use std::os::fd::OwnedFd;

use millrace_boundary::Cause;
use millrace_media::ts::Aligner;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::engine::{Failure, Framing};
use crate::context::Context;

/// Read at most this much at a time, and between two looks at anything else.
pub(crate) const READ_LIMIT: usize = 64 << 10;
/// The same of what an engine has sent ahead: what is done with it takes some
/// 25 µs.
pub(super) const AHEAD_LIMIT: usize = 16 << 10;
/// So many of these are read in turns, and then there is a pause.
pub(super) const AHEAD_TURNS: usize = 4;

/// What one look at the connection came to.
#[derive(Debug)]
pub(super) enum Turn {
    /// So many bytes were read.
    Read(usize),
    /// There will be no more.
    Ended(Failure),
}

/// Bytes as they come made into whole packets; holds back what may yet become
/// one.
#[derive(Debug, Default)]
pub(super) struct Packets {
    aligner: Aligner,
    pending: Vec<u8>,
    noise: u64,
}

impl Packets {
    /// Bytes skipped to find packets again.
    pub(super) fn skipped(&self) -> u64 {
        self.aligner.skipped()
    }

    /// Bytes skipped since the last packet.
    pub(super) fn noise(&self) -> u64 {
        self.noise
    }

    /// What is held back becomes no packet any more.
    pub(super) fn drop_held(&mut self) {
        self.take(&mut [], true);
    }

    /// Puts what is held back to the front of `buffer`, where [`Self::take`]
    /// expects it; says how much.
    pub(super) fn lay_out(&self, buffer: &mut [u8]) -> usize {
        buffer[..self.pending.len()].copy_from_slice(&self.pending);
        self.pending.len()
    }

    /// Whole packets of `bytes`, which begin with what was held back. Where they
    /// are the last ones nothing is held back any more.
    pub(super) fn take<'a>(&mut self, bytes: &'a mut [u8], are_last: bool) -> &'a [u8] {
        let aligned = if are_last { self.aligner.finish(bytes) } else { self.aligner.align(bytes) };
        self.noise = if aligned.packets > 0 { 0 } else { self.noise + aligned.skipped };
        self.pending.clear();
        self.pending.extend_from_slice(&bytes[aligned.packets..aligned.packets + aligned.pending]);
        &bytes[..aligned.packets]
    }
}

/// The connection that the stream comes over, and what is held back of it.
pub(super) struct Reader {
    socket: OwnedFd,
    framing: Framing,
    packets: Packets,
}

impl Reader {
    pub(super) fn new(socket: OwnedFd, framing: Framing) -> Self {
        Self { socket, framing, packets: Packets::default() }
    }

    /// Its packets.
    pub(super) fn packets(&self) -> &Packets {
        &self.packets
    }

    /// Takes what came with the head of the answer.
    pub(super) fn take_first(
        &mut self,
        context: &Context,
        first: Vec<u8>,
        deliver: impl FnOnce(&[u8]) -> Result<(), Failure>,
    ) -> Turn {
        let len = first.len();
        context.count(|c| c.ingress_bytes += len as u64);
        let mut buffer = first;
        self.digest(&mut buffer, 0, len, deliver)
    }

    /// Reads `most` bytes at most, [`READ_LIMIT`] or fewer, once and without waiting,
    /// into the shard's buffer, which is in the cache; bytes move on from there.
    pub(super) fn turn(
        &mut self,
        context: &Context,
        most: usize,
        deliver: impl FnOnce(&[u8]) -> Result<(), Failure>,
    ) -> Turn {
        context.with_scratch(|buffer| {
            let held = self.packets.lay_out(buffer);
            match recv(&self.socket, &mut buffer[held..held + most], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    let end = Failure::new(Cause::EngineClosed, "the engine closed the stream");
                    Turn::Ended(deliver(self.packets.take(&mut buffer[..held], true)).err().unwrap_or(end))
                }
                Ok((n, _)) => {
                    context.count(|c| c.ingress_bytes += n as u64);
                    self.digest(buffer, held, n, deliver)
                }
                Err(Errno::AGAIN | Errno::INTR) => Turn::Read(0),
                Err(error) => Turn::Ended(broke(&error.into())),
            }
        })
    }

    /// `buffer` holds what was pending and then `n` bytes as they came.
    fn digest(
        &mut self,
        buffer: &mut [u8],
        held: usize,
        n: usize,
        deliver: impl FnOnce(&[u8]) -> Result<(), Failure>,
    ) -> Turn {
        let unframed = self.framing.unframe(&mut buffer[held..held + n]);
        let is_over = unframed.ended || unframed.broken;
        if let Err(failure) = deliver(self.packets.take(&mut buffer[..held + unframed.payload], is_over)) {
            return Turn::Ended(failure);
        }
        if unframed.broken {
            return Turn::Ended(Failure::new(Cause::EngineReset, "the engine breaks its chunked framing"));
        }
        if unframed.ended {
            return Turn::Ended(Failure::new(Cause::EngineClosed, "the engine closed the stream"));
        }
        Turn::Read(n)
    }
}

/// The connection to an engine broke with `error`.
pub(super) fn broke(error: &std::io::Error) -> Failure {
    Failure::new(Cause::EngineReset, format!("the connection to the engine broke: {error}"))
}
