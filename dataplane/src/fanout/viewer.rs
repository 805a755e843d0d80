//! One viewer: a socket, a place in the chain, and the rules for slow ones.

use std::{os::fd::OwnedFd, time::Duration};

use millrace_boundary::{Monotonic, ViewerEnd};
use millrace_media::ts::{Continuity, Discontinuity, NULL_PACKET, PACKET_LEN};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown},
};

use super::room::room;
use crate::{
    config::ViewerConfig,
    context::Permit,
    http::{
        players::Patience,
        response::{Refusal, stream_head},
    },
    segment::{Cursor, read_at},
    stream::Seat,
};

/// Sent at most in one visit; 256 KiB is where a send's fixed cost has gone.
pub(super) const VISIT_BYTES: usize = 256 << 10;
/// The same of one that catches up, which is not its turn: whoever comes
/// meanwhile does not wait for more than some 25 µs of it.
pub(super) const CATCH_UP_BYTES: usize = 64 << 10;
/// Between two packets of filler: below the shortest limit of any player.
const FILLER_PAUSE: Duration = Duration::from_secs(1);
/// Filler that may wait for room in the socket.
const PENDING_FILLER: usize = 16 << 10;
/// A closed connection's own end is waited for this long, so that an answer
/// still under way is not reset.
const CLOSING: Duration = Duration::from_secs(2);

/// A connection that receives a stream, or is about to.
#[derive(Debug)]
pub(super) struct Viewer {
    socket: OwnedFd,
    /// Its place in the count of its stream; none while the owner is asked.
    pub(super) seat: Option<Seat>,
    place: Place,
    /// Bytes that come before what the cursor points at.
    pending: Vec<u8>,
    pending_sent: usize,
    /// Since when the socket has taken nothing.
    blocked: Option<Monotonic>,
    laps: u32,
    /// When it asked.
    pub(super) asked: Monotonic,
    patience: Patience,
    /// Bytes sent and not yet added to the stream's.
    pub(super) unreported: u64,
    _permit: Permit,
}

#[derive(Debug)]
enum Place {
    /// Nothing has been sent; the stream has to start.
    Waiting,
    /// Headers were sent, and filler is until the stream starts.
    Filling {
        /// When the last of it was sent.
        last: Monotonic,
        /// PAT and PMT were part of it.
        told: bool,
    },
    /// In the chain.
    At(Cursor),
    /// Fell out of the window; goes on at a join point when there is room.
    Lapped,
    /// Answered; the other end may still read.
    Closing(Monotonic),
}

/// What a visit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// All that there is has been sent, or the socket is full.
    Done,
    /// There is more, and room for it.
    More,
    /// There is more, and as much as may wait already does; the kernel does not
    /// know that its room is waited for.
    Full,
    /// The viewer is to be removed.
    Ended(ViewerEnd),
}

/// What may still be sent in a visit.
struct Left {
    bytes: usize,
    /// Because the socket takes no more.
    is_all_room: bool,
}

impl Left {
    /// Of a socket with so much room, in a visit of at most `most`. Where less than
    /// half of what may wait is free, the kernel tells when there is more.
    fn new(room: usize, most: usize, unsent_limit: u32) -> Self {
        let is_all_room = room < most;
        let is_enough = room >= unsent_limit as usize / 2;
        Self { bytes: if is_enough { room.min(most) } else { 0 }, is_all_room }
    }
}

/// What sends and counts in a visit.
pub(super) struct Terms<'a> {
    pub(super) config: &'a ViewerConfig,
    pub(super) now: Monotonic,
    /// Sent at most.
    pub(super) most: usize,
}

impl Viewer {
    pub(super) fn new(socket: OwnedFd, permit: Permit, asked: Monotonic, patience: Patience) -> Self {
        Self {
            socket,
            seat: None,
            place: Place::Waiting,
            pending: Vec::new(),
            pending_sent: 0,
            blocked: None,
            laps: 0,
            asked,
            patience,
            unreported: 0,
            _permit: permit,
        }
    }

    /// The connection.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether nothing has been sent yet.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.place, Place::Waiting)
    }

    /// Whether it only waits for the connection's end.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.place, Place::Closing(_))
    }

    /// Times it fell out of the window.
    pub(super) fn laps(&self) -> u32 {
        self.laps
    }

    /// The socket has room again.
    pub(super) fn unblock(&mut self) {
        self.blocked = None;
    }

    /// Takes its place in the chain if there is one to join; says whether.
    pub(super) fn join(&mut self, config: &ViewerConfig) -> bool {
        let Some(seat) = &self.seat else { return false };
        let Some((cursor, point)) = seat.stream().window().join(config.prebuffer) else { return false };
        let Some(psi) = cursor.segment.psi() else { return false };
        let discontinuity = match self.place {
            Place::Waiting => {
                self.pending = stream_head(Some(seat.stream().session()));
                Discontinuity::None
            }
            Place::Filling { told: false, .. } => Discontinuity::None,
            _ => Discontinuity::Signalled,
        };
        self.pending.extend(point.preface(psi, discontinuity));
        self.place = Place::At(cursor);
        true
    }

    /// Keeps a player that waits for its stream from giving up: headers when its
    /// patience ends, then a null packet each second, PAT and PMT before the
    /// first one that they are known for. Says whether headers were sent now.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn humour(&mut self, now: Monotonic) -> Result<bool, Errno> {
        let stream = self.seat.as_ref().map(Seat::stream);
        let psi = stream.and_then(|s| s.psi());
        let (told, begins) = match (&self.place, self.patience) {
            (Place::Waiting, Patience::Headers(after)) if now.since(self.asked) >= after => (false, true),
            (Place::Filling { last, told }, _) if now.since(*last) >= FILLER_PAUSE => (*told, false),
            _ => return Ok(false),
        };
        if begins {
            self.pending = stream_head(stream.map(|s| s.session()));
        }
        if let Some(psi) = psi.filter(|_| !told) {
            self.pending.extend(psi.preface(&Continuity::new(), Discontinuity::None));
        }
        // What the other end does not take yet is enough to keep it waiting.
        if self.pending.len() < PENDING_FILLER {
            self.pending.extend_from_slice(&NULL_PACKET);
        }
        self.place = Place::Filling { last: now, told: told || psi.is_some() };
        match self.send_pending() {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(begins),
            Err(error) => Err(error),
        }
    }

    /// Whether it has been sent headers and no stream.
    pub(super) fn is_filling(&self) -> bool {
        matches!(self.place, Place::Filling { .. })
    }

    /// Sends what the viewer is behind.
    pub(super) fn visit(&mut self, terms: &Terms<'_>) -> Visit {
        self.check_lap();
        if let Some(since) = self.blocked {
            let stalled = terms.now.since(since) >= terms.config.stall_limit;
            return if stalled { Visit::Ended(ViewerEnd::Stalled) } else { Visit::Done };
        }
        if self.laps > terms.config.max_laps {
            return Visit::Ended(ViewerEnd::Lapped);
        }
        match self.send(terms) {
            Ok(Visit::Full) => {
                self.blocked = Some(terms.now);
                Visit::Full
            }
            Ok(visit) => visit,
            Err(Errno::AGAIN) => {
                self.blocked = Some(terms.now);
                Visit::Done
            }
            Err(Errno::INTR) => Visit::More,
            Err(_) => Visit::Ended(ViewerEnd::Left),
        }
    }

    fn send(&mut self, terms: &Terms<'_>) -> Result<Visit, Errno> {
        // Read before the chain: once ended, what is published is all.
        let ended = self.seat.as_ref().is_some_and(|s| s.stream().ended().is_some());
        let mut left = None;
        loop {
            self.send_pending()?;
            match &mut self.place {
                Place::Waiting | Place::Filling { .. } | Place::Closing(_) => return Ok(Visit::Done),
                Place::Lapped if ended => return Ok(Visit::Ended(ViewerEnd::StreamEnded)),
                Place::Lapped => {
                    if !self.join(terms.config) {
                        return Ok(Visit::Done);
                    }
                }
                Place::At(cursor) => {
                    let available = cursor.available();
                    if available == 0 {
                        return Ok(if ended { Visit::Ended(ViewerEnd::StreamEnded) } else { Visit::Done });
                    }
                    let unsent_limit = terms.config.unsent_limit;
                    let left = left.get_or_insert_with(|| {
                        Left::new(room(&self.socket, unsent_limit), terms.most, unsent_limit)
                    });
                    if left.bytes == 0 {
                        return Ok(if left.is_all_room { Visit::Full } else { Visit::More });
                    }
                    let mut offset = cursor.offset as u64;
                    let n = rustix::fs::sendfile(
                        &self.socket,
                        cursor.segment.memfd(),
                        Some(&mut offset),
                        available.min(left.bytes),
                    )?;
                    cursor.offset += n;
                    left.bytes -= n.min(left.bytes);
                    self.unreported += n as u64;
                }
            }
        }
    }

    fn send_pending(&mut self) -> Result<(), Errno> {
        while self.pending_sent < self.pending.len() {
            let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            if matches!(self.place, Place::At(_)) {
                // A join point always has bytes behind it: one packet on the wire.
                flags |= SendFlags::MORE;
            }
            self.pending_sent += rustix::net::send(&self.socket, &self.pending[self.pending_sent..], flags)?;
        }
        if !self.pending.is_empty() {
            self.pending = Vec::new();
            self.pending_sent = 0;
        }
        Ok(())
    }

    /// A viewer that fell out of the window lets go of its segment at once, so
    /// that it holds no memory that others do not hold, but first keeps the
    /// rest of the packet it is in.
    fn check_lap(&mut self) {
        let (Place::At(cursor), Some(seat)) = (&self.place, &self.seat) else { return };
        if !seat.stream().window().has_left(&cursor.segment) {
            return;
        }
        let begun = cursor.offset % PACKET_LEN;
        if begun > 0 {
            let mut rest = [0u8; PACKET_LEN];
            let rest = &mut rest[..PACKET_LEN - begun];
            // Published and immutable, so this cannot fail.
            if read_at(cursor.segment.memfd(), rest, cursor.offset as u64).is_ok() {
                self.pending.extend_from_slice(rest);
            }
        }
        self.place = Place::Lapped;
        self.laps += 1;
    }

    /// Answers a waiting viewer with a refusal and closes.
    pub(super) fn refuse(&mut self, refusal: &Refusal, now: Monotonic) {
        // A fresh socket's buffer takes these few hundred bytes whole.
        rustix::net::send(&self.socket, &refusal.to_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL).ok();
        self.close(now);
    }

    /// Says that no more will come, and waits for the other end to see it.
    pub(super) fn close(&mut self, now: Monotonic) {
        self.seat = None;
        self.pending = Vec::new();
        rustix::net::shutdown(&self.socket, Shutdown::Write).ok();
        self.place = Place::Closing(now + CLOSING);
    }

    /// Discards what a closing connection still sends; says whether it is over.
    pub(super) fn is_closed(&self, now: Monotonic) -> bool {
        let Place::Closing(deadline) = self.place else { return false };
        let mut buffer = [0u8; 4096];
        for _ in 0..16 {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return true,
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return now >= deadline,
                Err(_) => return true,
            }
        }
        now >= deadline
    }
}
