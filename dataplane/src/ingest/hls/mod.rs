//! An engine's HLS as a source: its playlist is followed, and its segments are
//! fetched, each once and in order.
//!
//! Nothing here outlives the source: what is asked for at a time are futures of
//! one task, and dropped with it.

mod fetch;
mod list;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use millrace_boundary::{Cause, Monotonic};
use millrace_media::hls::source::{Attempt, Break, Effect, Event, Follower, Ticket, Verdict};

use super::{
    engine::{Failure, Pool},
    reader::Packets,
    session::Session,
    source::Source,
};
use crate::{context::Context, rt::sleep};
use fetch::{Lane, fetch};
use list::Listing;

/// How often it is looked whether the source has ended when nothing happens.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A source whose segment has ended may bring nothing for so many target
/// durations: the next one is listed by then (RFC 8216 §6.2.1).
const PATIENCE_TARGETS: f64 = 1.5;

/// What all that is fetched for one source shares.
struct Run {
    source: Rc<Source>,
    session: Rc<Session>,
    context: Rc<Context>,
    pool: Rc<Pool>,
    packets: RefCell<Packets>,
}

impl Run {
    /// Hands on the whole packets of `bytes`, which begin with what was held
    /// back.
    fn deliver(&self, bytes: &mut [u8], are_last: bool) -> Result<(), Failure> {
        let mut packets = self.packets.borrow_mut();
        let whole = packets.take(bytes, are_last);
        self.session.packets(&self.context, &self.source, whole)?;
        self.source.note_skipped(&self.context, &packets)
    }

    /// A segment has ended, and its last packet with it.
    fn finish(&self) -> Result<(), Failure> {
        self.context.with_scratch(|buffer| {
            let held = self.packets.borrow().lay_out(buffer);
            self.deliver(&mut buffer[..held], true)
        })
    }
}

/// The playlist of a source, from the first that has segments on.
pub(super) struct Playlist {
    pool: Rc<Pool>,
    first: Listing,
}

/// Opens the playlist behind `path`, waiting through prebuffering.
pub(super) async fn open(
    context: &Rc<Context>,
    source: &Source,
    path: &str,
    deadline: Monotonic,
    refused: impl Fn(&Failure),
) -> Result<Playlist, Failure> {
    let pool = Rc::new(Pool::new(context, source.address));
    let first = list::first(context, &pool, path, deadline, refused).await?;
    Ok(Playlist { pool, first })
}

/// Follows it until the source breaks off, and calls `heard` after all that
/// happens.
pub(super) async fn read(
    source: &Rc<Source>,
    session: &Rc<Session>,
    context: &Rc<Context>,
    playlist: Playlist,
    mut heard: impl FnMut(),
) -> Failure {
    let Playlist { pool, first } = playlist;
    let run = Rc::new(Run {
        source: Rc::clone(source),
        session: Rc::clone(session),
        context: Rc::clone(context),
        pool,
        packets: RefCell::default(),
    });
    let watched = Rc::clone(&run.pool);
    let mut following = Following {
        run,
        engine_goes: Box::pin(async move { watched.engine_goes().await }),
        follower: Follower::new(),
        path: first.path.clone(),
        target: first.list.target,
        segments: Vec::new(),
        list: None,
        asked: first.asked,
    };
    let mut happened = Happened::Listed(Ok(first));
    loop {
        if let Err(failure) = following.apply(happened) {
            return failure;
        }
        heard();
        happened = following.next().await;
    }
}

type Asked<T> = Pin<Box<dyn Future<Output = T>>>;

/// A segment under way.
struct Segment {
    ticket: Ticket,
    lane: Rc<Lane>,
    /// None between two attempts.
    fetch: Option<Asked<Result<(), Failure>>>,
}

struct Following {
    run: Rc<Run>,
    follower: Follower,
    /// Where the list is.
    path: String,
    /// Its target duration.
    target: Duration,
    segments: Vec<Segment>,
    list: Option<Asked<Result<Listing, Option<Failure>>>>,
    /// When that was last asked for.
    asked: Monotonic,
    /// Comes when the engine does not even take connections any more.
    engine_goes: Asked<Failure>,
}

enum Happened {
    /// A list has come, or has not.
    Listed(Result<Listing, Option<Failure>>),
    /// A segment has.
    Fetched(Ticket, Result<(), Failure>),
    /// The list is to be asked for.
    Due,
    /// The engine is gone.
    Gone(Failure),
}

impl Following {
    /// What happens first.
    async fn next(&mut self) -> Happened {
        let now = Monotonic::now().0;
        let due = self.follower.poll_at().map_or(LONGEST_WAIT, |at| at.saturating_sub(now));
        let mut due = pin!(sleep(due.min(LONGEST_WAIT)));
        poll_fn(|cx| {
            for segment in &mut self.segments {
                let polled = segment.fetch.as_mut().map(|fetch| fetch.as_mut().poll(cx));
                if let Some(Poll::Ready(outcome)) = polled {
                    segment.fetch = None;
                    return Poll::Ready(Happened::Fetched(segment.ticket, outcome));
                }
            }
            if let Poll::Ready(failure) = self.engine_goes.as_mut().poll(cx) {
                return Poll::Ready(Happened::Gone(failure));
            }
            match &mut self.list {
                Some(list) => list.as_mut().poll(cx).map(Happened::Listed),
                None => due.as_mut().poll(cx).map(|()| Happened::Due),
            }
        })
        .await
    }

    /// Takes in what has happened.
    ///
    /// # Errors
    /// With what ends the source.
    fn apply(&mut self, happened: Happened) -> Result<(), Failure> {
        let now = Monotonic::now();
        let mut effects = Vec::new();
        match happened {
            Happened::Listed(Ok(listing)) => {
                self.list = None;
                self.target = listing.list.target;
                let event = Event::Listed { list: &listing.list, asked: listing.asked.0 };
                self.follower.on(event, now.0, &mut effects);
            }
            Happened::Listed(Err(Some(failure))) => return Err(failure),
            Happened::Listed(Err(None)) => {
                self.list = None;
                self.follower.on(Event::NotListed { asked: self.asked.0 }, now.0, &mut effects);
            }
            Happened::Fetched(ticket, Ok(())) => {
                self.forget(ticket);
                self.run.source.rest_until(now + self.target.mul_f64(PATIENCE_TARGETS));
                self.follower.on(Event::Fetched(ticket), now.0, &mut effects);
            }
            Happened::Fetched(_, Err(failure)) if ends_source(failure.cause) => return Err(failure),
            Happened::Fetched(ticket, Err(_)) => {
                self.follower.on(Event::Failed(ticket), now.0, &mut effects);
            }
            Happened::Due => self.ask_for_list(),
            Happened::Gone(failure) => return Err(failure),
        }
        effects.into_iter().for_each(|effect| self.perform(effect));
        if self.segments.is_empty() {
            self.run.session.is_read_up(&self.run.source);
        }
        match self.follower.verdict(now.0) {
            Verdict::Ended => Err(Failure::new(Cause::EngineClosed, "the playlist has ended")),
            Verdict::Starting | Verdict::Live | Verdict::Stale { .. } | Verdict::Looping => Ok(()),
        }
    }

    fn ask_for_list(&mut self) {
        if self.follower.poll_at().is_some() {
            let run = &self.run;
            self.asked = Monotonic::now();
            let list = list::next(Rc::clone(&run.context), Rc::clone(&run.pool), self.path.clone());
            self.list = Some(Box::pin(list));
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Fetch(wanted) => {
                if wanted.attempt == Attempt::First {
                    let lane = Rc::default();
                    self.segments.push(Segment { ticket: wanted.ticket, lane, fetch: None });
                }
                let run = Rc::clone(&self.run);
                if let Some(segment) = self.segments.iter_mut().find(|s| s.ticket == wanted.ticket) {
                    let fetch = fetch(run, Rc::clone(&segment.lane), wanted.uri);
                    segment.fetch = Some(Box::pin(fetch));
                }
            }
            Effect::Turn { ticket, breaks } => {
                if let Some(why) = breaks {
                    tracing::debug!(engine = %self.run.source.engine, ?why, "segments do not follow");
                    self.run.context.count(|c| c.hls_breaks += u64::from(why != Break::Unsure));
                    self.run.session.breaks(&self.run.source);
                }
                if let Some(segment) = self.segments.iter().find(|s| s.ticket == ticket) {
                    segment.lane.give_turn();
                }
            }
            Effect::Skip(ticket) => {
                self.run.context.count(|c| c.hls_skipped += 1);
                let is_first = self.segments.iter().any(|s| s.ticket == ticket && s.lane.has_turn());
                if is_first {
                    // What is held back of it ends here.
                    self.run.packets.borrow_mut().drop_held();
                }
                self.forget(ticket);
            }
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        self.segments.retain(|segment| segment.ticket != ticket);
    }
}

/// Whether no other segment will fare better than one that failed for `cause`.
const fn ends_source(cause: Cause) -> bool {
    matches!(cause, Cause::EngineUnreachable | Cause::NotTransportStream | Cause::AtCapacity)
}
