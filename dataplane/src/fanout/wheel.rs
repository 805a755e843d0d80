//! All viewers of a shard, visited in turn.
//!
//! Viewers sit in staggered slots; a turn visits one slot of each circle, so a
//! viewer is visited every 160 ms, and is then sent all that it is behind. There
//! is no wake-up per viewer and chunk, and few, large sends: their size decides
//! what a byte costs. Viewers of fast streams sit in shorter circles, so that a
//! visit's bytes fit into a socket's buffer at once.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use millrace_boundary::{Cause, Monotonic, ViewerEnd, latency_histogram};
use slab::Slab;
use static_assertions::assert_not_impl_any;

use super::{
    interest::Interest,
    viewer::{Terms, Viewer, Visit},
};
use crate::{
    context::{Context, Permit},
    http::response::Refusal,
    inbox::current,
    stream::{ContentKey, Ended, Seat, SessionId, Stream},
};

/// Between two ticks.
const TICK: Duration = Duration::from_millis(5);
/// How many turns are in a second.
const TURNS_A_SECOND: u64 = 200;
/// Turns of the longest circle.
const TURNS: usize = 32;
/// The circles: slots of each, and so turns between two visits of a viewer.
const CIRCLES: [Range<usize>; 3] = [0..TURNS, TURNS..TURNS + 16, TURNS + 16..TURNS + 24];
/// All slots.
const SLOTS: usize = TURNS + 24;
/// The longest time between two visits.
const PERIOD: Duration = Duration::from_millis(5 * TURNS as u64);
/// A visit of more than this belongs into a shorter circle: with the default
/// send buffer a larger one is cut short and waits for room.
const VISIT_GOAL: u64 = 224 << 10;
/// Viewers that fill a slot before another one is used: about a
/// millisecond of sends, well below a turn.
const SLOT_VIEWERS: usize = 64;
/// Visits in one step, between which the shard looks at its other work.
const STEP: usize = 64;
/// Visits in one step to those that catch up: each may send 256 KiB.
const CATCH_UP_STEP: usize = 16;
/// News taken in one step.
const NEWS: usize = 256;

/// A viewer that has just asked.
pub(crate) struct Arrival {
    /// The connection, non-blocking.
    pub(crate) socket: OwnedFd,
    /// Its place in the count of all viewers.
    pub(crate) permit: Permit,
    /// When the request was whole.
    pub(crate) asked: Monotonic,
}

/// The viewers of one shard.
pub(crate) struct Fanout {
    context: Rc<Context>,
    interest: Rc<Interest>,
    viewers: Slab<Entry>,
    generation: u32,
    slots: Vec<Vec<usize>>,
    /// Visits beside those of the slots: more to send, or room again.
    due: VecDeque<usize>,
    /// Viewers of streams that have nothing to join yet.
    waiting: HashMap<SessionId, (Arc<Stream>, Vec<usize>)>,
    /// Viewers whose content's owner is being asked.
    asking: HashMap<ContentKey, Vec<usize>>,
    closing: Vec<usize>,
    turn: Turn,
    metrics: Metrics,
}

assert_not_impl_any!(Fanout: Send, Sync);

struct Entry {
    viewer: Viewer,
    generation: u32,
    /// Slot and place in it, once it is being sent to.
    slot: Option<(usize, usize)>,
    /// Its stream was live when it asked.
    warm: bool,
    /// Has a slot, and has not been sent anything.
    unserved: bool,
    /// Already in `due`.
    queued: bool,
}

/// Where the wheel is.
struct Turn {
    number: usize,
    circle: usize,
    next: usize,
    due_at: Monotonic,
    open: bool,
}

impl Turn {
    /// The slot of `circle` that the turn `ahead` of this one visits.
    fn slot(&self, circle: usize, ahead: usize) -> usize {
        let Range { start, end } = CIRCLES[circle];
        start + (self.number + ahead) % (end - start)
    }
}

/// What control is told of.
pub(crate) struct Metrics {
    /// How late viewers were visited, in microseconds.
    pub(crate) lateness_us: Histogram<u64>,
    /// From request to first byte where the stream was live already.
    pub(crate) warm_join_us: Histogram<u64>,
    /// The same where it was not.
    pub(crate) cold_join_us: Histogram<u64>,
}

impl Fanout {
    /// Nobody there yet.
    pub(crate) fn new(context: Rc<Context>, interest: Rc<Interest>, now: Monotonic) -> Self {
        Self {
            context,
            interest,
            viewers: Slab::new(),
            generation: 0,
            slots: vec![Vec::new(); SLOTS],
            due: VecDeque::new(),
            waiting: HashMap::new(),
            asking: HashMap::new(),
            closing: Vec::new(),
            turn: Turn { number: 0, circle: 0, next: 0, due_at: now, open: false },
            metrics: Metrics {
                lateness_us: latency_histogram(),
                warm_join_us: latency_histogram(),
                cold_join_us: latency_histogram(),
            },
        }
    }

    /// What was measured.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Connections held.
    pub(crate) fn len(&self) -> usize {
        self.viewers.len()
    }

    /// Viewers that wait for a first byte.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.values().map(|(_, v)| v.len()).sum::<usize>()
            + self.asking.values().map(Vec::len).sum::<usize>()
    }

    /// Viewers being sent to.
    pub(crate) fn sending(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// Takes a viewer of a stream that is known.
    pub(crate) fn seat(&mut self, arrival: Arrival, seat: Seat, now: Monotonic) {
        let Some(key) = self.insert(arrival) else { return };
        self.place(key, seat, now, true);
    }

    /// Takes a viewer whose content's owner is being asked; says whether it is
    /// the first one.
    pub(crate) fn ask(&mut self, arrival: Arrival, content: &ContentKey) -> bool {
        let Some(key) = self.insert(arrival) else { return false };
        let asking = self.asking.entry(content.clone()).or_default();
        asking.push(key);
        asking.len() == 1
    }

    /// The owner has answered.
    pub(crate) fn answered(&mut self, content: &ContentKey, outcome: &Result<Seat, Ended>, now: Monotonic) {
        for key in self.asking.remove(content).unwrap_or_default() {
            let seat = outcome.as_ref().map_err(Clone::clone).and_then(|held| {
                let stream = current(held.stream());
                stream.enter().ok_or_else(|| ended_of(&stream))
            });
            match seat {
                Ok(seat) => self.place(key, seat, now, false),
                Err(ended) => self.refuse(key, &ended, now),
            }
        }
    }

    fn insert(&mut self, arrival: Arrival) -> Option<usize> {
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry {
            viewer: Viewer::new(arrival.socket, arrival.permit, arrival.asked),
            generation: self.generation,
            slot: None,
            warm: false,
            unserved: false,
            queued: false,
        };
        let key = self.viewers.insert(entry);
        let entry = &self.viewers[key];
        let token = token(key, entry.generation);
        if self.interest.add(std::os::fd::AsFd::as_fd(entry.viewer.socket()), token).is_err() {
            self.viewers.remove(key);
            return None;
        }
        Some(key)
    }

    /// Gives a seated viewer its first bytes, or lets it wait for them.
    fn place(&mut self, key: usize, seat: Seat, now: Monotonic, warm: bool) {
        let stream = Arc::clone(seat.stream());
        let Some(entry) = self.viewers.get_mut(key) else { return };
        entry.viewer.seat = Some(seat);
        if entry.viewer.join(&self.context.config.viewer) {
            entry.warm = warm;
            self.begin(key, now);
        } else {
            let session = stream.session();
            self.waiting.entry(session).or_insert_with(|| (stream, Vec::new())).1.push(key);
        }
    }

    /// The viewer has joined: it has a slot from now on. On a warm stream it is
    /// sent to at once; a crowd that waited for a cold one is served in steps.
    fn begin(&mut self, key: usize, now: Monotonic) {
        self.enter_slot(key, self.suitable_circle(key));
        let entry = &mut self.viewers[key];
        entry.unserved = true;
        entry.queued = !entry.warm;
        self.context.count(|c| c.viewers_started += 1);
        if self.viewers[key].warm {
            self.visit(key, now);
        } else {
            self.due.push_back(key);
        }
    }

    fn note_first_byte(&mut self, warm: bool, asked: Monotonic) {
        let took = micros(Monotonic::now().since(asked)).max(1);
        let histogram = if warm { &mut self.metrics.warm_join_us } else { &mut self.metrics.cold_join_us };
        histogram.saturating_record(took);
    }

    /// The circle in which a visit of a viewer's stream is not cut short.
    fn suitable_circle(&self, key: usize) -> usize {
        let seat = self.viewers.get(key).and_then(|e| e.viewer.seat.as_ref());
        let bytes_a_turn = seat.map_or(0, |s| s.stream().window().rate_bps() / 8 / TURNS_A_SECOND);
        let fits = |slots: &Range<usize>| bytes_a_turn * slots.len() as u64 <= VISIT_GOAL;
        CIRCLES.iter().position(fits).unwrap_or(CIRCLES.len() - 1)
    }

    /// The slot of `circle` with the fewest viewers; of those, the farthest
    /// from its turn. Only as many slots are used as there are viewers for: a
    /// turn for a single viewer costs more than sending to it.
    fn lightest_slot(&self, circle: usize) -> usize {
        let slots = CIRCLES[circle].len();
        let used = (self.viewers.len() / SLOT_VIEWERS).next_power_of_two().min(slots);
        (1..=slots)
            .rev()
            .map(|ahead| self.turn.slot(circle, ahead))
            .filter(|slot| (slot - CIRCLES[circle].start).is_multiple_of(slots / used))
            .min_by_key(|&slot| self.slots[slot].len())
            .unwrap_or(0)
    }

    fn enter_slot(&mut self, key: usize, circle: usize) {
        let slot = self.lightest_slot(circle);
        if let Some(entry) = self.viewers.get_mut(key) {
            entry.slot = Some((slot, self.slots[slot].len()));
            self.slots[slot].push(key);
        }
    }

    /// A visit was cut short: a shorter circle may suit the viewer better.
    fn reconsider_slot(&mut self, key: usize) {
        let Some((slot, _)) = self.viewers.get(key).and_then(|e| e.slot) else { return };
        let circle = self.suitable_circle(key);
        if !CIRCLES[circle].contains(&slot) {
            self.leave_slot(key);
            self.enter_slot(key, circle);
        }
    }

    /// When there is something to do next.
    pub(crate) fn next_turn(&self) -> Monotonic {
        if !self.waiting.is_empty() || !self.closing.is_empty() {
            return self.turn.due_at;
        }
        let somebody = |ahead: usize| {
            (0..CIRCLES.len()).any(|circle| !self.slots[self.turn.slot(circle, ahead)].is_empty())
        };
        let empty = (0u32..).zip(0..TURNS).find(|&(_, ahead)| somebody(ahead));
        self.turn.due_at + empty.map_or(PERIOD, |(turns, _)| TICK * turns)
    }

    /// The wheel stood still because there was nobody; it goes on from now.
    pub(crate) fn resume(&mut self, now: Monotonic) {
        self.turn.due_at = now;
    }

    /// Does a part of what is due; says whether there is more of it.
    ///
    /// The slot whose turn it is comes first: viewers that catch up, of which
    /// there may be a crowd, get what time is left before the next turn.
    pub(crate) fn step(&mut self, now: Monotonic) -> bool {
        if !self.turn.open {
            if now < self.turn.due_at {
                return self.catch_up(now);
            }
            self.turn.open = true;
            (self.turn.circle, self.turn.next) = (0, 0);
            self.start_waiting(now);
            if self.turn.number == 0 {
                self.close_finished(now);
            }
        }
        for _ in 0..STEP {
            let slot = self.turn.slot(self.turn.circle, 0);
            let Some(&key) = self.slots[slot].get(self.turn.next) else {
                (self.turn.circle, self.turn.next) = (self.turn.circle + 1, 0);
                if self.turn.circle == CIRCLES.len() {
                    self.finish_turn(now);
                    return true;
                }
                continue;
            };
            let late = Monotonic::now().since(self.turn.due_at);
            self.metrics.lateness_us.saturating_record(micros(late).max(1));
            let before = self.slots[slot].len();
            self.visit(key, now);
            // A viewer that ended was replaced by the last one of the slot.
            if self.slots[slot].len() == before {
                self.turn.next += 1;
            }
        }
        true
    }

    /// Visits some of those that have more to get, or room again, in order.
    fn catch_up(&mut self, now: Monotonic) -> bool {
        for _ in 0..CATCH_UP_STEP {
            let Some(key) = self.due.pop_front() else { return false };
            if let Some(entry) = self.viewers.get_mut(key) {
                entry.queued = false;
                self.visit(key, now);
            }
        }
        true
    }

    fn finish_turn(&mut self, now: Monotonic) {
        self.turn.open = false;
        self.turn.number = (self.turn.number + 1) % TURNS;
        self.turn.due_at = self.turn.due_at + TICK;
        // More than a whole turn behind, catching up would only make sends
        // small: go on from here, with larger ones.
        if now.since(self.turn.due_at) > PERIOD {
            self.turn.due_at = now;
        }
    }

    fn visit(&mut self, key: usize, now: Monotonic) {
        let Some(entry) = self.viewers.get_mut(key) else { return };
        let laps = entry.viewer.laps();
        let outcome = entry.viewer.visit(&Terms { config: &self.context.config.viewer, now });
        if entry.viewer.laps() != laps {
            self.context.count(|c| c.laps += 1);
        }
        if std::mem::take(&mut entry.unserved) {
            let (warm, asked) = (entry.warm, entry.viewer.asked);
            self.note_first_byte(warm, asked);
        }
        match outcome {
            Visit::Done => {}
            Visit::More => {
                self.reconsider_slot(key);
                if let Some(entry) = self.viewers.get_mut(key).filter(|e| !e.queued) {
                    entry.queued = true;
                    self.due.push_back(key);
                }
            }
            Visit::Ended(ViewerEnd::StreamEnded) => self.close(key, ViewerEnd::StreamEnded, now),
            Visit::Ended(end) => self.remove(key, end),
        }
    }

    /// Whether somebody has more to get, or room again.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Looks at what the kernel has to say; says whether there may be more.
    pub(crate) fn hear(&mut self) -> bool {
        let interest = Rc::clone(&self.interest);
        let mut gone = Vec::new();
        let full = interest.take::<NEWS>(|news| {
            let (key, generation) = split(news.token);
            let Some(entry) = self.viewers.get_mut(key).filter(|e| e.generation == generation) else {
                return;
            };
            // One that has been sent nothing yet and closes its side is gone.
            // Later that is only known from a send: half-closing is legal.
            if news.dead || (news.ended && entry.viewer.is_waiting()) {
                gone.push(key);
            } else if !entry.viewer.is_closing() {
                entry.viewer.unblock();
                if entry.slot.is_some() && !std::mem::replace(&mut entry.queued, true) {
                    self.due.push_back(key);
                }
            }
        });
        for key in gone {
            self.remove(key, ViewerEnd::Left);
        }
        full
    }

    /// Starts those whose stream has begun, refuses those whose stream has
    /// ended, and moves those whose stream was merged.
    fn start_waiting(&mut self, now: Monotonic) {
        if self.waiting.is_empty() {
            return;
        }
        let ready: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, (s, _))| s.ended().is_some() || s.window().has_join())
            .map(|(session, _)| *session)
            .collect();
        for session in ready {
            let Some((stream, keys)) = self.waiting.remove(&session) else { continue };
            for key in keys {
                if let Some(seat) = self.viewers.get_mut(key).and_then(|e| e.viewer.seat.take()) {
                    self.start_one(key, seat, &stream, now);
                }
            }
        }
    }

    fn start_one(&mut self, key: usize, seat: Seat, stream: &Arc<Stream>, now: Monotonic) {
        if stream.merged().is_some() {
            let into = current(stream);
            match into.enter() {
                Some(seat) => self.place(key, seat, now, false),
                None => self.refuse(key, &ended_of(&into), now),
            }
        } else if let Some(ended) = stream.ended().filter(|_| !stream.window().has_join()) {
            drop(seat);
            self.refuse(key, ended, now);
        } else {
            self.place(key, seat, now, false);
        }
    }

    fn refuse(&mut self, key: usize, ended: &Ended, now: Monotonic) {
        let Some(entry) = self.viewers.get_mut(key) else { return };
        entry.viewer.refuse(&Refusal::ended(ended), now);
        self.context.count(|c| {
            c.refusals[ended.cause.index()] += 1;
            c.viewers_ended[ViewerEnd::Refused.index()] += 1;
        });
        self.closing.push(key);
    }

    /// Ends a viewer that has received all there was.
    fn close(&mut self, key: usize, end: ViewerEnd, now: Monotonic) {
        self.leave_slot(key);
        self.report_egress(key);
        let Some(entry) = self.viewers.get_mut(key) else { return };
        entry.viewer.close(now);
        self.context.count(|c| c.viewers_ended[end.index()] += 1);
        self.closing.push(key);
    }

    /// Drops a viewer as it is.
    fn remove(&mut self, key: usize, end: ViewerEnd) {
        self.leave_slot(key);
        self.report_egress(key);
        let Some(entry) = self.viewers.try_remove(key) else { return };
        if entry.viewer.is_closing() {
            self.closing.retain(|k| *k != key);
            return;
        }
        if let Some(seat) = entry.viewer.seat.as_ref().filter(|_| entry.slot.is_none()) {
            let session = seat.stream().session();
            if let Some((_, keys)) = self.waiting.get_mut(&session) {
                keys.retain(|k| *k != key);
            }
        } else if entry.slot.is_none() {
            self.asking.values_mut().for_each(|keys| keys.retain(|k| *k != key));
        }
        self.context.count(|c| c.viewers_ended[end.index()] += 1);
    }

    fn leave_slot(&mut self, key: usize) {
        let Some((slot, index)) = self.viewers.get_mut(key).and_then(|e| e.slot.take()) else { return };
        self.slots[slot].swap_remove(index);
        if let Some(&moved) = self.slots[slot].get(index) {
            self.viewers[moved].slot = Some((slot, index));
        }
    }

    fn close_finished(&mut self, now: Monotonic) {
        let mut closing = std::mem::take(&mut self.closing);
        closing.retain(|&key| {
            let over = self.viewers.get(key).is_none_or(|e| e.viewer.is_closed(now));
            if over {
                self.viewers.try_remove(key);
            }
            !over
        });
        self.closing = closing;
    }

    fn report_egress(&mut self, key: usize) {
        if let Some(viewer) = self.viewers.get_mut(key).map(|e| &mut e.viewer)
            && let Some(seat) = &viewer.seat
        {
            let bytes = std::mem::take(&mut viewer.unreported);
            seat.stream().add_egress(bytes);
            self.context.count(|c| c.egress_bytes += bytes);
        }
    }

    /// Adds what was sent to the streams' counts.
    pub(crate) fn report(&mut self) {
        let keys: Vec<_> = self.viewers.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.report_egress(key);
        }
    }

    /// Ends everybody, waiting ones with a refusal.
    pub(crate) fn drain(&mut self, now: Monotonic) {
        let ended = Ended::new(Cause::ShuttingDown, "the server is shutting down");
        self.waiting.clear();
        self.asking.clear();
        let keys: Vec<_> = self.viewers.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(entry) = self.viewers.get(key) else { continue };
            if entry.viewer.is_closing() {
                continue;
            }
            if entry.viewer.is_waiting() {
                self.refuse(key, &ended, now);
            } else {
                self.close(key, ViewerEnd::ShuttingDown, now);
            }
        }
    }
}

fn ended_of(stream: &Stream) -> Ended {
    stream.ended().cloned().unwrap_or_else(|| Ended::new(Cause::ViewersLeft, "the stream has just ended"))
}

fn token(key: usize, generation: u32) -> u64 {
    (key as u64) << 32 | u64::from(generation)
}

fn split(token: u64) -> (usize, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of what `token` put together")]
    ((token >> 32) as usize, token as u32)
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
