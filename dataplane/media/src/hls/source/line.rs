//! The segments that are due, in order: being fetched, or waiting for it.

use std::{collections::VecDeque, time::Duration};

use super::{Effect, Segment, seen::Mark};

/// How many segments are fetched at a time. The second one is on its way when
/// the first has ended, which hides the time an engine takes to answer.
pub const IN_FLIGHT: usize = 2;

/// How many segments are due at a time, those in flight included. What a list
/// has beyond that is taken from one of the next.
pub const WAITING_MOST: usize = 64;

/// Names one segment to be fetched; never the same again, and rising in the
/// order of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// How often a segment was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// For the first time.
    First,
    /// Once more, from its beginning. There is no third time.
    Second,
}

/// A segment to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// What to report its outcome with.
    pub ticket: Ticket,
    /// Path and query to ask for.
    pub uri: String,
    /// How long it plays, as the list tells; at most 600 s.
    pub duration: Duration,
    /// How often it was asked for.
    pub attempt: Attempt,
}

/// Why the bytes of a segment do not follow those that were delivered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The list says so, or an entry before it cannot be fetched.
    Tagged,
    /// Segments before it left the list before they could be fetched.
    Missed,
    /// The one before it could not be fetched, twice.
    Skipped,
    /// Others were listed in its place before.
    Replaced,
    /// Numbers began anew, or jumped: where it belongs is an estimate, and a
    /// segment before it may be missing or come twice.
    Renumbered,
    /// They may have begun anew: it follows, or it is as with these.
    Unsure,
}

/// What became of a segment that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Asked(Attempt),
    Fetched,
}

#[derive(Clone, Debug)]
struct Due {
    ticket: Ticket,
    mark: Mark,
    uri: String,
    duration: Duration,
    breaks: Option<Break>,
    progress: Progress,
}

impl Due {
    fn fetch(&self, attempt: Attempt) -> Effect {
        Effect::Fetch(Fetch { ticket: self.ticket, uri: self.uri.clone(), duration: self.duration, attempt })
    }
}

/// The queue of segments that are due; at most [`WAITING_MOST`]. Its first
/// [`IN_FLIGHT`] are being fetched, the first of all has its turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    due: VecDeque<Due>,
    /// For the next one that joins.
    owed: Option<Break>,
    tickets: u64,
    /// Whose turn was told of last.
    turn: Option<Ticket>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.due.len() < WAITING_MOST
    }

    /// The caller sees to it that there is room.
    pub(super) fn push(&mut self, segment: &Segment, mark: Mark) {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.due.push_back(Due {
            ticket,
            mark,
            uri: segment.uri.clone(),
            duration: segment.duration,
            // The first of all follows nothing.
            breaks: self.owed.take().filter(|_| 0 < ticket.0),
            progress: Progress::Waiting,
        });
    }

    /// What joins next does not follow what is before it.
    pub(super) fn owe(&mut self, breaks: Option<Break>) {
        self.owed = self.owed.or(breaks);
    }

    /// Takes out those that still wait and are gone, and tells how many and how
    /// long they were.
    pub(super) fn leave_out(&mut self, is_gone: impl Fn(&Mark) -> bool, why: Break) -> (u64, Duration) {
        let (mut count, mut sum) = (0, Duration::ZERO);
        let mut at = 0;
        while let Some(due) = self.due.get(at) {
            if due.progress == Progress::Waiting && is_gone(&due.mark) {
                count += 1;
                sum += due.duration;
                self.remove(at, why);
            } else {
                at += 1;
            }
        }
        (count, sum)
    }

    pub(super) fn fetched(&mut self, ticket: Ticket) {
        for due in self.due.iter_mut().take(IN_FLIGHT) {
            if due.ticket == ticket && due.progress != Progress::Waiting {
                due.progress = Progress::Fetched;
            }
        }
    }

    /// Asks once more, or gives it up; true for the latter.
    pub(super) fn failed(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) -> bool {
        let found = self.due.iter_mut().take(IN_FLIGHT).enumerate().find(|(_, due)| due.ticket == ticket);
        let Some((at, due)) = found else { return false };
        match due.progress {
            Progress::Waiting | Progress::Fetched => false,
            Progress::Asked(Attempt::First) => {
                due.progress = Progress::Asked(Attempt::Second);
                effects.push(due.fetch(Attempt::Second));
                false
            }
            Progress::Asked(Attempt::Second) => {
                effects.push(Effect::Skip(ticket));
                self.remove(at, Break::Skipped);
                true
            }
        }
    }

    /// Asks for what may be asked for, and gives turns until one is waited for.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        loop {
            for due in self.due.iter_mut().take(IN_FLIGHT) {
                if due.progress == Progress::Waiting {
                    due.progress = Progress::Asked(Attempt::First);
                    effects.push(due.fetch(Attempt::First));
                }
            }
            let Some(first) = self.due.front() else { return };
            if self.turn != Some(first.ticket) {
                self.turn = Some(first.ticket);
                effects.push(Effect::Turn { ticket: first.ticket, breaks: first.breaks });
            }
            if first.progress != Progress::Fetched {
                return;
            }
            self.due.pop_front();
        }
    }

    fn remove(&mut self, at: usize, why: Break) {
        self.due.remove(at);
        match self.due.get_mut(at) {
            Some(next) => next.breaks = next.breaks.or(Some(why)),
            None => self.owe(Some(why)),
        }
    }

    pub(super) fn invariants_hold(&self) -> bool {
        let is_in_order = self.due.iter().zip(self.due.iter().skip(1)).all(|(a, b)| a.ticket < b.ticket);
        let is_asked = |(i, due): (usize, &Due)| (i < IN_FLIGHT) != (due.progress == Progress::Waiting);
        self.due.len() <= WAITING_MOST && is_in_order && self.due.iter().enumerate().all(is_asked)
    }
}
