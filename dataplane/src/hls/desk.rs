//! What one shard knows of HLS players: who waits for what, and who is there.
//!
//! A viewer's home is the shard that runs its stream; there it has a place in
//! the stream's count. Another shard that it asks for something tells its home,
//! once a second at most.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use millrace_boundary::Monotonic;

use super::token::Token;
use crate::{
    context::{Context, Permit},
    inbox::Peer,
    rt::Notify,
    stream::{ContentKey, Ended, Seat, SessionId, Stream},
};

/// A viewer's home is told of it so often.
const TELL_PAUSE: Duration = Duration::from_secs(1);
/// Before the first playlist says how long a viewer may be silent.
const USUAL_TARGET: Duration = Duration::from_secs(6);
/// A viewer that asks for nothing for so many target durations has left.
const SILENT_FOR: u32 = 3;

/// What comes of asking a stream's owner for it.
pub(crate) type Opened = Result<Seat, Ended>;

/// The desk of one shard.
#[derive(Default)]
pub(crate) struct Desk {
    /// Those who wait for something new of a stream.
    waiting: RefCell<HashMap<SessionId, Vec<Notify>>>,
    /// Those who wait for the owner of a content, and what it has said.
    opening: RefCell<HashMap<ContentKey, Vec<Rc<Opening>>>>,
    /// Those who wait to hear which stream a session is.
    finding: RefCell<HashMap<SessionId, Vec<Notify>>>,
    /// Streams that other shards run.
    streams: RefCell<HashMap<SessionId, Arc<Stream>>>,
    /// Viewers of streams that this shard runs.
    guests: RefCell<HashMap<u64, Guest>>,
    /// When the home of a viewer was last told.
    told: RefCell<HashMap<u64, Monotonic>>,
}

/// One who waits for a content's owner.
#[derive(Default)]
pub(crate) struct Opening {
    pub(crate) bell: Notify,
    pub(crate) outcome: RefCell<Option<Opened>>,
}

struct Guest {
    seat: Seat,
    seen: Monotonic,
    _permit: Permit,
}

impl Desk {
    /// A bell that rings with the next news of `stream`. Whoever gives up
    /// waiting drops it; [`Desk::sweep`] takes it away.
    pub(crate) fn bell(&self, context: &Context, stream: &Stream) -> Notify {
        let bell = Notify::default();
        self.waiting.borrow_mut().entry(stream.session()).or_default().push(bell.clone());
        stream.shelf().wait(context.id.0);
        bell
    }

    /// There is something new of the stream of this session.
    pub(crate) fn news(&self, session: SessionId) {
        let bells = self.waiting.borrow_mut().remove(&session);
        bells.into_iter().flatten().for_each(|bell| bell.call());
    }

    /// One more waits for the owner of `key`.
    pub(crate) fn open(&self, key: &ContentKey) -> Rc<Opening> {
        let opening = Rc::<Opening>::default();
        let mut all = self.opening.borrow_mut();
        let of_it = all.entry(key.clone()).or_default();
        of_it.retain(|opening| Rc::strong_count(opening) > 1);
        of_it.push(Rc::clone(&opening));
        opening
    }

    /// The owner of `key` has answered.
    pub(crate) fn opened(&self, key: &ContentKey, outcome: &Opened) {
        for opening in self.opening.borrow_mut().remove(key).into_iter().flatten() {
            let seat = match outcome {
                Ok(seat) => seat.stream().enter().ok_or_else(|| why_closed(seat.stream())),
                Err(ended) => Err(ended.clone()),
            };
            opening.outcome.replace(Some(seat));
            opening.bell.call();
        }
    }

    /// A stream that another shard runs, where it is known.
    pub(crate) fn stream(&self, session: SessionId) -> Option<Arc<Stream>> {
        self.streams.borrow().get(&session).cloned()
    }

    /// A bell that rings when the home of `session` has answered.
    pub(crate) fn find(&self, session: SessionId) -> Notify {
        let bell = Notify::default();
        let mut finding = self.finding.borrow_mut();
        let of_it = finding.entry(session).or_default();
        of_it.retain(|bell| !bell.is_alone());
        of_it.push(bell.clone());
        bell
    }

    /// The home of `session` has answered.
    pub(crate) fn known(&self, session: SessionId, stream: Option<Arc<Stream>>) {
        if let Some(stream) = stream {
            self.streams.borrow_mut().insert(session, stream);
        }
        let bells = self.finding.borrow_mut().remove(&session);
        bells.into_iter().flatten().for_each(|bell| bell.call());
    }

    /// The viewer of `token` has asked for something of `stream`.
    ///
    /// # Errors
    /// When it is new, and may not enter.
    pub(crate) fn seen(
        &self,
        context: &Context,
        token: Token,
        stream: &Arc<Stream>,
        now: Monotonic,
    ) -> Result<(), Ended> {
        stream.shelf().note_asked(now);
        if token.home == context.id.0 {
            return self.watches(context, token.viewer, stream, now);
        }
        let mut told = self.told.borrow_mut();
        if told.get(&token.viewer).is_none_or(|last| now.since(*last) >= TELL_PAUSE) {
            told.insert(token.viewer, now);
            let message = Peer::Watches { session: token.session, viewer: token.viewer };
            context.tell_peer(usize::from(token.home), message);
        }
        Ok(())
    }

    /// A viewer of a stream that this shard runs has asked somebody for something.
    ///
    /// # Errors
    /// When it is new, and may not enter.
    pub(crate) fn watches(
        &self,
        context: &Context,
        viewer: u64,
        stream: &Arc<Stream>,
        now: Monotonic,
    ) -> Result<(), Ended> {
        let mut guests = self.guests.borrow_mut();
        if let Some(guest) = guests.get_mut(&viewer) {
            guest.seen = now;
            return Ok(());
        }
        let permit = context.viewer_permit()?;
        let seat = stream.enter().ok_or_else(|| why_closed(stream))?;
        context.count(|c| c.viewers_started += 1);
        guests.insert(viewer, Guest { seat, seen: now, _permit: permit });
        Ok(())
    }

    /// Viewers of streams that this shard runs.
    pub(crate) fn guests(&self) -> usize {
        self.guests.borrow().len()
    }

    /// Forgets who has left, and what has ended.
    pub(crate) fn sweep(&self, context: &Context, now: Monotonic) {
        self.guests.borrow_mut().retain(|_, guest| {
            let target = guest.seat.stream().shelf().list().map_or(USUAL_TARGET, |list| list.target_duration);
            let stays = now.since(guest.seen) < target * SILENT_FOR && guest.seat.stream().is_open();
            if !stays {
                context.count(|c| c.viewers_ended[millrace_boundary::ViewerEnd::Left.index()] += 1);
            }
            stays
        });
        self.told.borrow_mut().retain(|_, last| now.since(*last) < TELL_PAUSE);
        self.streams.borrow_mut().retain(|_, stream| stream.is_open() || stream.merged().is_some());
        let is_awaited = |bells: &mut Vec<Notify>| {
            bells.retain(|bell| !bell.is_alone());
            !bells.is_empty()
        };
        self.waiting.borrow_mut().retain(|_, bells| is_awaited(bells));
        self.finding.borrow_mut().retain(|_, bells| is_awaited(bells));
    }
}

/// Why nobody may enter `stream`.
pub(crate) fn why_closed(stream: &Stream) -> Ended {
    let usual = || Ended::new(millrace_boundary::Cause::ViewersLeft, "the stream has just ended");
    stream.ended().cloned().unwrap_or_else(usual)
}
