//! Viewers until their first byte: asked for, waiting, joined or refused.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use millrace_boundary::{Cause, Monotonic, ViewerEnd};

use super::{
    viewer::{CATCH_UP_BYTES, Viewer},
    wheel::{Entry, Fanout, token},
};
use crate::{
    context::Permit,
    http::players::Patience,
    inbox::current,
    stream::{ContentKey, Ended, Seat, Stream},
};

/// Beyond the longest start, for an answer that was lost between shards.
const HARD_END: Duration = Duration::from_secs(2);

/// A viewer that has just asked.
pub(crate) struct Arrival {
    /// The connection, non-blocking.
    pub(crate) socket: OwnedFd,
    /// Its place in the count of all viewers.
    pub(crate) permit: Permit,
    /// When the request was whole.
    pub(crate) asked: Monotonic,
    /// How long it waits for a status.
    pub(crate) patience: Patience,
}

impl Fanout {
    /// Viewers that wait for a first byte.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.values().map(|(_, v)| v.len()).sum::<usize>()
            + self.asking.values().map(Vec::len).sum::<usize>()
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
            viewer: Viewer::new(arrival.socket, arrival.permit, arrival.asked, arrival.patience),
            generation: self.generation,
            spot: None,
            warm: false,
            unserved: false,
            queued: false,
        };
        let key = self.viewers.insert(entry);
        let entry = &self.viewers[key];
        let token = token(key, entry.generation);
        if self.interest.add(entry.viewer.socket().as_fd(), token).is_err() {
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
            self.visit(key, CATCH_UP_BYTES, now);
        } else {
            self.due.push_back(key);
        }
    }

    /// Keeps those who wait from giving up, and ends those who have waited for
    /// longer than any start may take.
    pub(super) fn humour_waiting(&mut self, now: Monotonic) {
        let config = &self.context.config.stream;
        let limit = config.longest_start.max(config.start_budget) + HARD_END;
        let waiting = self.waiting.values().flat_map(|(_, keys)| keys).chain(self.asking.values().flatten());
        let keys: Vec<_> = waiting.copied().collect();
        for key in keys {
            let Some(entry) = self.viewers.get_mut(key) else { continue };
            let is_over = now.since(entry.viewer.asked) >= limit;
            match entry.viewer.humour(now) {
                Err(_) => self.remove(key, ViewerEnd::Left),
                Ok(_) if is_over => {
                    self.forget_waiting(key);
                    let ended = Ended::new(Cause::StartTimeout, "nobody answered for this content");
                    self.refuse(key, &ended, now);
                }
                Ok(true) => self.context.count(|c| c.viewers_humoured += 1),
                Ok(false) => {}
            }
        }
    }

    /// Starts those whose stream has begun, refuses those whose stream has
    /// ended, and moves those whose stream was merged.
    pub(super) fn start_waiting(&mut self, now: Monotonic) {
        if self.waiting.is_empty() {
            return;
        }
        let ready: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, (s, _))| s.ended().is_some() || s.window().is_open())
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
}

fn ended_of(stream: &Stream) -> Ended {
    stream.ended().cloned().unwrap_or_else(|| Ended::new(Cause::ViewersLeft, "the stream has just ended"))
}
