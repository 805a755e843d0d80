//! The two message types: the whole list of what may be said.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use serde::Serialize;

use crate::{Cause, EngineEvidence, EngineId, EngineTable, Epoch, Monotonic, SecondSample, ShardSample};

/// A shard, by its place in the list of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ShardId(pub u16);

impl std::fmt::Display for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the control thread may say to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// The whole engine table. Adopted when its epoch is newer than the one
    /// held, so a table may be dropped, repeated or late.
    Table(Arc<EngineTable>),
    /// Admit no new viewer, end the rest and stop every engine session by
    /// `deadline`. Offered until `Drained`.
    Drain {
        /// When the shard has to be done.
        deadline: Monotonic,
    },
    /// Move a session to another engine. Lost, it stays; whoever asked sees
    /// that in its timeline.
    Migrate {
        /// The session's id.
        session: u64,
    },
    /// End a session and close its viewers; goes to every shard. Lost by the
    /// owner, it plays on; lost by another, that one's viewers are closed when
    /// they are next visited.
    Stop {
        /// The session's id.
        session: u64,
    },
    /// Let a content, or every one, be tried again although it failed. Lost,
    /// it rests for as long as it would have.
    Forgive {
        /// The content's key; none for all.
        key: Option<Box<str>>,
    },
}

/// What a shard may say to the control thread.
#[derive(Debug)]
pub enum FromShard {
    /// The epoch in use; repeated with every sample, so a loss only delays.
    Adopted {
        /// Who.
        shard: ShardId,
        /// The table's version.
        epoch: Epoch,
    },
    /// How many of its streams wait for a slot now. Told when that changes, at
    /// most every 20 ms, and repeated with every sample, so a loss only delays.
    Demand {
        /// Who.
        shard: ShardId,
        /// Streams; at most as many as there may be, `streams.max_streams`.
        waiting: u32,
    },
    /// Counters since start, so a loss is a gap in a graph. Boxed: rare and large.
    Sample(Box<ShardSample>),
    /// What operations took in a second that is over. Lost, that second lacks
    /// what ended in it on this shard, for good.
    Performance(Box<SecondSample>),
    /// A connection whose request is not a stream's. Lost, it is closed.
    Connection(Box<HandedConnection>),
    /// What using an engine has shown. Lost, the next probe or use shows it again.
    Evidence {
        /// The engine.
        engine: EngineId,
        /// What happened.
        evidence: EngineEvidence,
    },
    /// Something has happened to a session. Lost, its timeline has a gap.
    Session(Box<SessionNote>),
    /// Repeated until the shard is joined.
    Drained {
        /// Who.
        shard: ShardId,
    },
}

/// Something that has happened to a session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionNote {
    /// Its id, 16 hex digits.
    pub session: String,
    /// What the first viewer asked for.
    pub key: String,
    /// Who runs it.
    pub shard: ShardId,
    /// Seconds since the first viewer asked.
    pub at_seconds: f64,
    /// What happened, in a word.
    pub what: &'static str,
    /// On which engine.
    pub engine: Option<EngineId>,
    /// More of it, for people.
    pub detail: String,
    /// Why it ended, with the last note.
    pub ended: Option<Cause>,
}

/// A connection accepted by a shard that control is to answer.
#[derive(Debug)]
pub struct HandedConnection {
    /// The socket; non-blocking.
    pub socket: OwnedFd,
    /// What was read of it so far, from the first byte of the request on.
    /// At most 16 KiB.
    pub read: Box<[u8]>,
    /// The other end.
    pub peer: SocketAddr,
}

const fn may_cross_threads<T: Send + 'static>() {}
const _: () = may_cross_threads::<ToShard>();
const _: () = may_cross_threads::<FromShard>();
// Inboxes are allocated at start-up: a larger message is memory on every shard.
const _: () = assert!(size_of::<ToShard>() <= 24);
const _: () = assert!(size_of::<FromShard>() <= 32);
