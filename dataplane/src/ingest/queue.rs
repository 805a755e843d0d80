//! The streams of a shard that wait for a slot, in the order in which they began
//! to, and the turns they take with those of other shards.
//!
//! A place has a ticket, drawn from one counter of the whole process. Slots are
//! offered to a shard's streams in the order of their tickets; a shard whose
//! first ticket is not the lowest of all leaves what is free to the others for a
//! moment, and no longer: one that is stuck keeps nobody waiting.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use millrace_boundary::{FromShard, Monotonic, StreamState};

use super::{event::Event, session::Session};
use crate::{
    context::Context,
    inbox::Peer,
    rt::{Notify, sleep, unless_called},
};

/// Whatever was missed is found after this, and slots are left to other shards
/// for no longer.
const TICK: Duration = Duration::from_millis(100);
/// While slots are left to other shards, this long until the next look.
const LEFT_TO_OTHERS: Duration = Duration::from_millis(2);
/// Between two messages to control about the same queue.
const DEMAND_PAUSE: Duration = Duration::from_millis(20);
/// In the place of a ticket: nobody here waits for what is free.
const NOBODY: u64 = u64::MAX;

/// A place in the order of all streams that wait, on whatever shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What shards see of each other's queues.
#[derive(Debug)]
pub(crate) struct Tickets {
    next: AtomicU64,
    shards: Box<[Seen]>,
}

#[derive(Debug)]
struct Seen {
    waiting: AtomicU32,
    /// The lowest ticket, those aside that could do nothing with what is free.
    first: AtomicU64,
}

impl Tickets {
    /// For this many shards.
    pub(crate) fn new(shards: u16) -> Self {
        let seen = || Seen { waiting: AtomicU32::new(0), first: AtomicU64::new(NOBODY) };
        Self { next: AtomicU64::new(0), shards: (0..shards).map(|_| seen()).collect() }
    }

    fn draw(&self) -> Ticket {
        Ticket(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn show(&self, shard: usize, waiting: u32, first: Option<Ticket>) {
        if let Some(seen) = self.shards.get(shard) {
            seen.waiting.store(waiting, Ordering::Release);
            seen.first.store(first.map_or(NOBODY, |ticket| ticket.0), Ordering::Release);
        }
    }

    /// Whether somebody waits, on whatever shard.
    pub(super) fn anybody(&self) -> bool {
        self.shards.iter().any(|seen| seen.waiting.load(Ordering::Acquire) > 0)
    }

    /// Whether a stream of another shard waits for longer than `ticket`.
    fn has_older(&self, shard: usize, ticket: Ticket) -> bool {
        let others = self.shards.iter().enumerate().filter(|(other, _)| *other != shard);
        others.map(|(_, seen)| seen.first.load(Ordering::Acquire)).any(|first| first < ticket.0)
    }

    /// The shards where somebody waits.
    fn waiting(&self) -> impl Iterator<Item = usize> {
        let all = self.shards.iter().enumerate();
        all.filter(|(_, seen)| seen.waiting.load(Ordering::Acquire) > 0).map(|(shard, _)| shard)
    }
}

struct Place {
    ticket: Ticket,
    session: Rc<Session>,
}

/// The queue of one shard. Each of its streams is in it once at most, so it is
/// as long as streams may be many.
#[derive(Default)]
pub(crate) struct Queue {
    places: RefCell<VecDeque<Place>>,
    /// Somebody came, or something became free.
    news: Notify,
    /// The number of places has changed.
    changed: Notify,
    told: Cell<u32>,
    /// Since when slots are left to other shards.
    leaves: Cell<Option<Monotonic>>,
}

impl Queue {
    /// Streams that wait.
    pub(crate) fn waiting(&self) -> u32 {
        u32::try_from(self.places.borrow().len()).unwrap_or(u32::MAX)
    }

    /// A slot may be free, or the table has changed.
    pub(crate) fn call(&self) {
        self.news.call();
    }

    /// Takes a stream in, by the ticket that it has or at the end. Returns the
    /// ticket.
    pub(super) fn join(&self, context: &Context, session: &Rc<Session>, ticket: Option<Ticket>) -> Ticket {
        let ticket = ticket.unwrap_or_else(|| context.totals.tickets.draw());
        let mut places = self.places.borrow_mut();
        let behind = places.partition_point(|place| place.ticket < ticket);
        places.insert(behind, Place { ticket, session: Rc::clone(session) });
        drop(places);
        self.show(context, None);
        self.news.call();
        ticket
    }

    pub(super) fn leave(&self, context: &Context, session: &Rc<Session>) {
        self.places.borrow_mut().retain(|place| !Rc::ptr_eq(&place.session, session));
        self.show(context, None);
    }

    /// Lets the others see how many wait, and the first of those behind `in_vain`,
    /// the last one that could do nothing with what is free.
    fn show(&self, context: &Context, in_vain: Option<Ticket>) {
        let tickets = self.places.borrow();
        let first = tickets.iter().map(|place| place.ticket).find(|ticket| Some(*ticket) > in_vain);
        let (shard, waiting) = (usize::from(context.id.0), self.waiting());
        context.totals.tickets.show(shard, waiting, first);
        if waiting != self.told.get() {
            self.changed.call();
        }
    }

    /// Calls those whose turn it is. Says when to look again at the latest.
    fn serve(&self, context: &Rc<Context>, now: Monotonic) -> Duration {
        let table = context.table();
        let shard = usize::from(context.id.0);
        let mut in_vain = None;
        let places: Vec<_> = self.places.borrow().iter().map(|p| (p.ticket, Rc::clone(&p.session))).collect();
        let mut leaves = None;
        for (ticket, session) in places {
            if table.growing {
                if table.free_slots() == 0 {
                    break;
                }
                if context.totals.tickets.has_older(shard, ticket) {
                    let since = self.leaves.get().unwrap_or(now);
                    if now.since(since) < TICK {
                        leaves = Some(since);
                        break;
                    }
                }
            }
            session.called(context, now);
            if session.is_queued() && table.free_slots() > 0 {
                in_vain = Some(ticket);
            }
        }
        self.show(context, in_vain);
        self.leaves.set(leaves);
        if leaves.is_some() { LEFT_TO_OTHERS } else { TICK }
    }
}

impl Session {
    /// Its turn among those that wait for a slot: asks for one if somebody still
    /// waits for it.
    pub(super) fn called(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        // One that was merged is closed at its next tick.
        if !self.told.get() && self.stream.ended().is_none() {
            self.look_at_viewers(context, now);
            self.apply(context, Event::Called, now);
        }
    }

    /// Whether it waits for a slot.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.get().is_some()
    }

    /// Stands in the queue for as long as its life says so.
    pub(super) fn stand_in_queue(self: &Rc<Self>, context: &Context, now: Monotonic) {
        match (self.state() == Some(StreamState::Queued), self.is_queued()) {
            (true, false) => {
                self.queued.set(Some(now));
                self.timeline.borrow_mut().note(context, "queued", None, &self.last.borrow());
                let ticket = self.ticket.get().filter(|_| !self.has_played());
                self.ticket.set(Some(context.queue.join(context, self, ticket)));
            }
            (false, true) => {
                self.queued.set(None);
                context.queue.leave(context, self);
                if self.state() != Some(StreamState::Starting) {
                    self.ticket.set(None);
                }
            }
            (true, true) | (false, false) => {}
        }
    }
}

/// Serves the queue of this shard as slots become free, for ever.
pub(crate) async fn serve(context: Rc<Context>) {
    let queue = &context.queue;
    let mut pause = TICK;
    loop {
        if queue.waiting() == 0 {
            queue.news.called().await;
        } else {
            unless_called(&queue.news, sleep(pause)).await;
        }
        pause = queue.serve(&context, Monotonic::now());
    }
}

/// Tells control how many wait, at once when that changes, for ever.
pub(crate) async fn tell_demand(context: Rc<Context>) {
    let queue = &context.queue;
    loop {
        queue.changed.called().await;
        let waiting = queue.waiting();
        if queue.told.replace(waiting) != waiting {
            context.tell(FromShard::Demand { shard: context.id, waiting });
            sleep(DEMAND_PAUSE).await;
        }
    }
}

/// A slot of `context`'s shard is free: whoever waits is called, on all shards.
pub(super) fn slot_freed(context: &Context) {
    for shard in context.totals.tickets.waiting() {
        if shard == usize::from(context.id.0) {
            context.queue.call();
        } else {
            context.tell_peer(shard, Peer::SlotFreed);
        }
    }
}
