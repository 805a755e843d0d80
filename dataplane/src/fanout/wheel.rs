//! All viewers of a shard, visited in turn.
//!
//! Viewers sit in staggered slots; a turn visits one slot of each circle, so a
//! viewer is visited every 160 ms, and is then sent all that it is behind. There
//! is no wake-up per viewer and chunk, and few, large sends: their size decides
//! what a byte costs. Viewers of fast streams sit in shorter circles, so that a
//! visit's bytes fit into a socket's buffer at once.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::AsFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use millrace_boundary::{Cause, Monotonic, Operation, Outcome, ViewerEnd, latency_histogram};
use slab::Slab;
use static_assertions::assert_not_impl_any;

use super::{
    interest::Interest,
    slots::{Circle, Slots, Spot},
    viewer::{CATCH_UP_BYTES, Terms, VISIT_BYTES, Viewer, Visit},
};
use crate::{
    context::Context,
    http::response::Refusal,
    stream::{ContentKey, Ended, SessionId, Stream},
};

/// Longest step, less its last visit; in between the shard looks at its other
/// work. A visit takes some microseconds, or a hundred where 256 KiB are sent.
const STEP: Duration = Duration::from_micros(50);
/// The same of what is no viewer's turn.
const CATCH_UP_STEP: Duration = Duration::from_micros(15);
/// News taken in one step.
const NEWS: usize = 256;

/// The viewers of one shard.
pub(crate) struct Fanout {
    pub(super) context: Rc<Context>,
    pub(super) interest: Rc<Interest>,
    pub(super) viewers: Slab<Entry>,
    pub(super) generation: u32,
    slots: Slots,
    /// Visits beside those of the slots: more to send, or room again.
    pub(super) due: VecDeque<usize>,
    /// Viewers of streams that have nothing to join yet.
    pub(super) waiting: HashMap<SessionId, (Arc<Stream>, Vec<usize>)>,
    /// Viewers whose content's owner is being asked.
    pub(super) asking: HashMap<ContentKey, Vec<usize>>,
    closing: Vec<usize>,
    metrics: Metrics,
}

assert_not_impl_any!(Fanout: Send, Sync);

/// A viewer, and what the wheel knows of it.
pub(super) struct Entry {
    pub(super) viewer: Viewer,
    pub(super) generation: u32,
    /// Where in the slots, once it is being sent to.
    pub(super) spot: Option<Spot>,
    /// Its stream was live when it asked.
    pub(super) warm: bool,
    /// Has a slot, and has not been sent anything.
    pub(super) unserved: bool,
    /// Already in `due`.
    pub(super) queued: bool,
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
            slots: Slots::new(now),
            due: VecDeque::new(),
            waiting: HashMap::new(),
            asking: HashMap::new(),
            closing: Vec::new(),
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

    /// Viewers being sent to.
    pub(crate) fn sending(&self) -> usize {
        self.slots.len()
    }

    fn note_first_byte(&mut self, warm: bool, asked: Monotonic) {
        let now = Monotonic::now();
        let took = micros(now.since(asked)).max(1);
        let histogram = if warm { &mut self.metrics.warm_join_us } else { &mut self.metrics.cold_join_us };
        histogram.saturating_record(took);
        self.context.record(Operation::ViewerJoin, asked, now, Outcome::Worked);
    }

    /// The circle in which a visit of a viewer's stream is not cut short.
    pub(super) fn suitable_circle(&self, key: usize) -> Circle {
        let seat = self.viewers.get(key).and_then(|e| e.viewer.seat.as_ref());
        Circle::suitable(seat.map_or(0, |s| s.stream().window().rate_bps()))
    }

    pub(super) fn enter_slot(&mut self, key: usize, circle: Circle) {
        let viewers = self.viewers.len();
        if let Some(entry) = self.viewers.get_mut(key) {
            entry.spot = Some(self.slots.enter(key, circle, viewers));
        }
    }

    fn leave_slot(&mut self, key: usize) {
        let Some(spot) = self.viewers.get_mut(key).and_then(|e| e.spot.take()) else { return };
        if let Some(moved) = self.slots.leave(spot) {
            self.viewers[moved].spot = Some(spot);
        }
    }

    /// A visit was cut short: a shorter circle may suit the viewer better.
    fn reconsider_slot(&mut self, key: usize) {
        let Some(spot) = self.viewers.get(key).and_then(|e| e.spot) else { return };
        let circle = self.suitable_circle(key);
        if !circle.contains(spot) {
            self.leave_slot(key);
            self.enter_slot(key, circle);
        }
    }

    /// When there is something to do next.
    pub(crate) fn next_turn(&self) -> Monotonic {
        if self.waiting.is_empty() && self.asking.is_empty() && self.closing.is_empty() {
            self.slots.next_busy()
        } else {
            self.slots.due_at()
        }
    }

    /// The wheel stood still because there was nobody; it goes on from now.
    pub(crate) fn resume(&mut self, now: Monotonic) {
        self.slots.resume(now);
    }

    /// Does a part of what is due; says whether there is more of it.
    ///
    /// The slot whose turn it is comes first: viewers that catch up, of which
    /// there may be a crowd, get what time is left before the next turn.
    pub(crate) fn step(&mut self, now: Monotonic) -> bool {
        if !self.slots.is_open() {
            if now < self.slots.due_at() {
                return self.catch_up(now);
            }
            let is_first = self.slots.open();
            self.start_waiting(now);
            if is_first {
                self.humour_waiting(now);
                self.close_finished(now);
            }
        }
        let mut at = now;
        while at.since(now) < STEP {
            let Some(key) = self.slots.current() else {
                self.slots.close(now);
                break;
            };
            self.metrics.lateness_us.saturating_record(micros(at.since(self.slots.due_at())).max(1));
            self.visit(key, VISIT_BYTES, now);
            self.slots.pass(key);
            at = Monotonic::now();
        }
        true
    }

    /// Visits some of those that have more to get, or room again, in order.
    fn catch_up(&mut self, now: Monotonic) -> bool {
        let mut at = now;
        while at.since(now) < CATCH_UP_STEP {
            let Some(key) = self.due.pop_front() else { return false };
            if let Some(entry) = self.viewers.get_mut(key) {
                entry.queued = false;
                self.visit(key, CATCH_UP_BYTES, now);
            }
            at = Monotonic::now();
        }
        true
    }

    /// Sends a viewer at most `most` bytes.
    pub(super) fn visit(&mut self, key: usize, most: usize, now: Monotonic) {
        let Some(entry) = self.viewers.get_mut(key) else { return };
        let laps = entry.viewer.laps();
        let outcome = entry.viewer.visit(&Terms { config: &self.context.config.viewer, now, most });
        if entry.viewer.laps() != laps {
            self.context.count(|c| c.laps += 1);
        }
        // One that has left takes nothing; or it took its first bytes, and left then.
        let took_some = outcome != Visit::Ended(ViewerEnd::Left) || entry.viewer.unreported > 0;
        if std::mem::take(&mut entry.unserved) && took_some {
            let (warm, asked) = (entry.warm, entry.viewer.asked);
            self.note_first_byte(warm, asked);
        }
        match outcome {
            Visit::Done => {}
            Visit::Full => {
                if let Some(entry) = self.viewers.get(key) {
                    let token = token(key, entry.generation);
                    // Watched since it came, so this cannot fail.
                    self.interest.ask_for_room(entry.viewer.socket().as_fd(), token).ok();
                }
            }
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
                if entry.spot.is_some() && !std::mem::replace(&mut entry.queued, true) {
                    self.due.push_back(key);
                }
            }
        });
        for key in gone {
            self.remove(key, ViewerEnd::Left);
        }
        full
    }

    /// Answers a waiting viewer with the reason why it gets nothing; one that
    /// was sent headers can only be closed.
    pub(super) fn refuse(&mut self, key: usize, ended: &Ended, now: Monotonic) {
        let Some(entry) = self.viewers.get_mut(key) else { return };
        if entry.viewer.is_filling() {
            self.context.count(|c| c.refusals[ended.cause.index()] += 1);
            return self.close(key, ViewerEnd::StreamEnded, now);
        }
        entry.viewer.refuse(&Refusal::ended(ended), now);
        let asked = entry.viewer.asked;
        self.context.record(Operation::ViewerJoin, asked, Monotonic::now(), Outcome::Failed);
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
        if entry.viewer.is_filling() {
            let asked = entry.viewer.asked;
            self.context.record(Operation::ViewerJoin, asked, Monotonic::now(), Outcome::Failed);
        }
        entry.viewer.close(now);
        self.context.count(|c| c.viewers_ended[end.index()] += 1);
        self.closing.push(key);
    }

    /// Drops a viewer as it is.
    pub(super) fn remove(&mut self, key: usize, end: ViewerEnd) {
        self.leave_slot(key);
        self.report_egress(key);
        self.forget_waiting(key);
        let Some(entry) = self.viewers.try_remove(key) else { return };
        if entry.viewer.is_closing() {
            self.closing.retain(|k| *k != key);
            return;
        }
        self.context.count(|c| c.viewers_ended[end.index()] += 1);
    }

    /// It waits no longer.
    pub(super) fn forget_waiting(&mut self, key: usize) {
        let Some(entry) = self.viewers.get(key).filter(|e| e.spot.is_none()) else { return };
        if let Some(seat) = &entry.viewer.seat {
            if let Some((_, keys)) = self.waiting.get_mut(&seat.stream().session()) {
                keys.retain(|k| *k != key);
            }
        } else {
            self.asking.values_mut().for_each(|keys| keys.retain(|k| *k != key));
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

    /// Closes everybody who watches this session. Who waits for it is refused
    /// when its end is told.
    pub(crate) fn stop(&mut self, session: SessionId, now: Monotonic) {
        let watches = |entry: &Entry| {
            let seat = entry.viewer.seat.as_ref();
            seat.is_some_and(|seat| seat.stream().session() == session)
                && !entry.viewer.is_waiting()
                && !entry.viewer.is_closing()
        };
        let keys: Vec<_> = self.viewers.iter().filter(|(_, e)| watches(e)).map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, ViewerEnd::StreamEnded, now);
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

/// What the kernel is given to tell news of a viewer by.
pub(super) fn token(key: usize, generation: u32) -> u64 {
    (key as u64) << 32 | u64::from(generation)
}

fn split(token: u64) -> (usize, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of what `token` put together")]
    ((token >> 32) as usize, token as u32)
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
