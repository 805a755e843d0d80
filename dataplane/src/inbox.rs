//! What shards say to each other, and who plays what.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use millrace_boundary::{Cause, Monotonic, ShardId};

use crate::{
    context::Context,
    http::content::Content,
    ingest::Session,
    stream::{ContentKey, Ended, Seat, SessionId, Stream},
};

/// What one shard may say to another.
#[derive(Debug)]
pub(crate) enum Peer {
    /// Viewers of `from` want this content, which the receiver owns. Lost, its
    /// viewers are refused at once.
    Open {
        /// What.
        content: Box<Content>,
        /// Who asks.
        from: ShardId,
    },
    /// The answer: a stream, held open by a seat until viewers have taken
    /// theirs. Lost, the viewers are refused when their start budget is over.
    Opened {
        /// What was asked for.
        key: ContentKey,
        /// Where it plays.
        outcome: Result<Seat, Ended>,
    },
    /// `stream` has turned out to play the swarm of this key, which the
    /// receiver owns. Lost, two streams may play the same swarm.
    Claim {
        /// The swarm's key.
        key: ContentKey,
        /// Who plays it.
        stream: Arc<Stream>,
    },
    /// There is something new for HLS of the stream of this session, for which
    /// somebody waits on the receiving shard. Lost, they look a second later.
    News(SessionId),
    /// A player on `from` shows a token of this session, which the receiver
    /// runs. Lost, the player is answered with 503 after a second.
    Find {
        /// Of the token.
        session: SessionId,
        /// Who asks.
        from: ShardId,
    },
    /// The answer: the stream, or that there is none.
    Known {
        /// What was asked for.
        session: SessionId,
        /// Its stream.
        stream: Option<Arc<Stream>>,
    },
    /// An HLS viewer of a stream that the receiver runs asked another shard for
    /// something. Lost, it is told once more a second later.
    Watches {
        /// The stream's.
        session: SessionId,
        /// Who.
        viewer: u64,
    },
    /// An engine's slot is free again, which the receiver's streams wait for.
    /// Lost, they look for it a tenth of a second later.
    SlotFreed,
}

/// The streams a shard knows of: those it owns, those that others own and its
/// viewers watch, and those it has to tell apart as owner of their swarm.
#[derive(Default)]
pub(crate) struct Registry {
    streams: RefCell<HashMap<ContentKey, Arc<Stream>>>,
    sessions: RefCell<Vec<Rc<Session>>>,
}

/// What came of asking for a content.
pub(crate) enum Found {
    /// It plays, or starts.
    Here(Seat),
    /// Its owner has to be asked.
    Ask(usize),
    /// It cannot be.
    Refused(Ended),
}

impl Registry {
    /// The stream for `content`, started if this shard owns it.
    pub(crate) fn find(&self, context: &Rc<Context>, content: &Content) -> Found {
        if let Some(seat) = self.seat(&content.key) {
            return Found::Here(seat);
        }
        let owner = content.key.owner(context.shards());
        if owner != usize::from(context.id.0) {
            return Found::Ask(owner);
        }
        if context.is_draining() {
            return Found::Refused(Ended::new(Cause::ShuttingDown, "the server is shutting down"));
        }
        if let Err(resting) = context.memory.borrow().admit(&content.key, Monotonic::now()) {
            return Found::Refused(resting.into());
        }
        let permit = match context.stream_permit() {
            Ok(permit) => permit,
            Err(full) => return Found::Refused(full),
        };
        let (session, seat) = Session::begin(context, content.clone(), permit);
        self.streams.borrow_mut().insert(content.key.clone(), Arc::clone(seat.stream()));
        self.sessions.borrow_mut().push(session);
        Found::Here(seat)
    }

    /// A seat in the open stream of `key`, following mergers.
    fn seat(&self, key: &ContentKey) -> Option<Seat> {
        let stream = self.streams.borrow().get(key).map(current)?;
        stream.enter()
    }

    /// Remembers where another shard plays `key`.
    pub(crate) fn learn(&self, key: ContentKey, stream: Arc<Stream>) {
        self.streams.borrow_mut().insert(key, stream);
    }

    /// The swarm of `key`, owned by this shard, turns out to be played by
    /// `stream`: merges it with the one that claimed it first. Of the two, one
    /// that an engine has opened a session for goes on, else the first one.
    pub(crate) fn claim(&self, key: ContentKey, stream: Arc<Stream>) {
        let mut streams = self.streams.borrow_mut();
        let first = streams.get(&key).map(current).filter(|s| s.is_open() && !Arc::ptr_eq(s, &stream));
        match first {
            Some(first) if first.engine().is_none() && stream.engine().is_some() && stream.is_open() => {
                first.merge_into(Arc::clone(&stream));
                streams.insert(key, Arc::clone(&stream));
            }
            Some(first) => stream.merge_into(first),
            None => {
                streams.insert(key, Arc::clone(&stream));
            }
        }
        stream.set_judged();
    }

    /// Forgets what has ended.
    pub(crate) fn sweep(&self) {
        self.streams.borrow_mut().retain(|_, s| current(s).is_open());
        self.sessions.borrow_mut().retain(|s| !s.is_over());
    }

    /// The stream of this session, if this shard runs it.
    pub(crate) fn stream(&self, id: SessionId) -> Option<Arc<Stream>> {
        self.session(id).map(|session| Arc::clone(session.stream()))
    }

    /// The session of this id, if this shard runs it.
    pub(crate) fn session(&self, id: SessionId) -> Option<Rc<Session>> {
        self.sessions.borrow().iter().find(|s| s.id() == id).cloned()
    }

    /// The sessions that this shard runs.
    pub(crate) fn sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().clone()
    }

    /// How many sessions this shard runs.
    pub(crate) fn running(&self) -> usize {
        self.sessions.borrow().len()
    }
}

/// The stream that viewers of `stream` are to watch now.
pub(crate) fn current(stream: &Arc<Stream>) -> Arc<Stream> {
    let mut stream = stream;
    // A merged stream is closed, and only open ones are merged into, so this ends.
    while let Some(into) = stream.merged() {
        stream = into;
    }
    Arc::clone(stream)
}
