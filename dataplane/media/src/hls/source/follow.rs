//! Following a live playlist: what to fetch, in which order, and when to look
//! again.
//!
//! ```text
//!              segments are listed          the list has ended,
//!                                           and all of it is due
//!   Starting ──────────────────▶ Following ─────────────────────▶ Ended
//!    │    ▲                       │    ▲                          │   ▲
//!    └────┘ none, or no list      └────┘ each list                └───┘ lists
//! ```
//!
//! - *Starting.* An engine that is not ready has no list, or one without
//!   segments. Of the first segments the newest are due: ten seconds and three
//!   of them, where there are so many; all of them where the list has ended.
//! - *Following.* Each list is laid against what was listed before, see
//!   [`Place`]. What is new is due, in order. What left the list unfetched, or
//!   could not be fetched twice, leaves a break in front of the next.
//! - *Ended.* Nothing more will be due.
//!
//! In each state up to two segments are being fetched; the first that is due
//! has its turn, and the next one's comes when that was fetched or given up.

use std::time::Duration;

use super::{
    Break, Fetch, MediaList, Ticket,
    line::Line,
    poll::Poll,
    seen::{Listing, Mark, Place, SEEN_MOST, Seen},
};

/// What is due of the first list at least, where it has so much: that much
/// must be there before players begin. RFC 8216 §6.3.3 asks for three target
/// durations.
const START_DURATION: Duration = Duration::from_secs(10);
const START_LEAST: usize = 3;
/// And at most, however short they are.
const START_MOST: usize = 10;

/// Target durations without anything new after which a list is stale. A list
/// has something new in each (§6.2.1 allows one and a half).
const STALE_TARGETS: u32 = 3;

/// Lists that went on in number without anything new, after which they loop.
const LOOP_LISTS: u32 = 3;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A media playlist arrived, `asked` for at that time.
    Listed {
        /// What it says.
        list: &'a MediaList,
        /// When its request began, by the clock of `now`.
        asked: Duration,
    },
    /// None arrived, for whatever reason.
    NotListed {
        /// When the request began.
        asked: Duration,
    },
    /// All bytes of a segment are there.
    Fetched(Ticket),
    /// A segment was refused, broke off, was empty or led elsewhere.
    Failed(Ticket),
}

/// What is to be done now, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for this segment. At most two are asked for and neither fetched nor
    /// given up.
    Fetch(Fetch),
    /// From now on the bytes of this one are delivered, those that came before
    /// included; with a break they do not follow those delivered last. Once for
    /// each segment, in order. It may be there already, or be given up later.
    Turn {
        /// Whose bytes.
        ticket: Ticket,
        /// Goes in front of its first byte.
        breaks: Option<Break>,
    },
    /// It was given up: none of its bytes are delivered any more.
    Skip(Ticket),
}

/// How the list does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No segments were listed yet.
    Starting,
    /// It had something new of late.
    Live,
    /// Nothing new came for three target durations.
    Stale {
        /// For how long nothing new came.
        since_new: Duration,
    },
    /// Its numbers go on while it lists what it did before.
    Looping,
    /// It has ended, and all that was due was fetched or given up.
    Ended,
}

/// Counts since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowStats {
    /// Segments that were due.
    pub due: u64,
    /// Of these, those that left the list before they were asked for.
    pub left: u64,
    /// Of these, those that could not be fetched, twice.
    pub skipped: u64,
    /// Lists that nothing led to from those before.
    pub renumbered: u64,
}

/// Follows a live playlist. See the module for how.
///
/// Times are since any one moment, the same for all calls, and never go back.
/// Holds at most 64 segments that are due, each with a URI of at most 2 KiB,
/// and 56 bytes of each of 512 that were listed.
#[derive(Clone, Debug)]
pub struct Follower {
    state: State,
    line: Line,
    poll: Poll,
    stats: FollowStats,
}

#[derive(Clone, Debug)]
enum State {
    Starting,
    Following(Following),
    Ended,
}

#[derive(Clone, Debug)]
struct Following {
    seen: Seen,
    /// When a list had something new.
    new_at: Duration,
    /// The highest number in that list and those since.
    end: u64,
    /// Lists since then that went on in number alone.
    vain: u32,
    /// A list since then may have been an old one or of numbers that began anew.
    is_in_doubt: bool,
}

impl Default for Follower {
    fn default() -> Self {
        Self::new()
    }
}

impl Follower {
    /// Has seen nothing; the list is to be asked for at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Starting,
            line: Line::default(),
            poll: Poll::new(),
            stats: FollowStats::default(),
        }
    }

    /// Takes in what happened and appends what is to be done. Tickets of no
    /// segment in flight mean nothing. O(segments) for a list, else O(1).
    pub fn on(&mut self, event: Event<'_>, now: Duration, effects: &mut Vec<Effect>) {
        let state = std::mem::replace(&mut self.state, State::Ended);
        self.state = match (state, event) {
            (State::Starting, Event::Listed { list, asked }) => {
                self.poll.listed(list, asked);
                match Listing::of(list) {
                    Some(listing) => self.begin(list, &listing, now),
                    None if list.is_ended => State::Ended,
                    None => State::Starting,
                }
            }
            (State::Following(following), Event::Listed { list, asked }) => {
                self.poll.listed(list, asked);
                match Listing::of(list) {
                    Some(listing) => self.go_on(following, list, &listing, now),
                    None if list.is_ended => State::Ended,
                    None => State::Following(following),
                }
            }
            (state @ (State::Starting | State::Following(_)), Event::NotListed { asked }) => {
                self.poll.not_listed(asked);
                state
            }
            (State::Ended, Event::Listed { .. } | Event::NotListed { .. }) => State::Ended,
            (state, Event::Fetched(ticket)) => {
                self.line.fetched(ticket);
                state
            }
            (state, Event::Failed(ticket)) => {
                self.stats.skipped += u64::from(self.line.failed(ticket, effects));
                state
            }
        };
        self.line.settle(effects);
        debug_assert!(self.invariants_hold());
    }

    /// When the list is to be asked for again, by the clock of `on`; none when
    /// it has ended. A target duration after the last request began where the
    /// list had changed, else half of it (RFC 8216 §6.3.4); but never more often
    /// than once a second, nor less than every ten.
    #[must_use]
    pub fn poll_at(&self) -> Option<Duration> {
        match self.state {
            State::Ended => None,
            State::Starting | State::Following(_) => Some(self.poll.at(self.line.has_room())),
        }
    }

    /// How the list does at this time. That segments cannot be fetched is not
    /// in it: that is told by [`Effect::Skip`].
    #[must_use]
    pub fn verdict(&self, now: Duration) -> Verdict {
        match &self.state {
            State::Starting => Verdict::Starting,
            State::Following(following) => {
                let since_new = now.saturating_sub(following.new_at);
                if LOOP_LISTS <= following.vain {
                    Verdict::Looping
                } else if self.poll.pace() * STALE_TARGETS <= since_new {
                    Verdict::Stale { since_new }
                } else {
                    Verdict::Live
                }
            }
            State::Ended if self.line.is_empty() => Verdict::Ended,
            State::Ended => Verdict::Live,
        }
    }

    /// Counts since the beginning.
    #[must_use]
    pub const fn stats(&self) -> FollowStats {
        self.stats
    }

    /// The first list with segments.
    fn begin(&mut self, list: &MediaList, listing: &Listing<'_>, now: Duration) -> State {
        let mut following =
            Following { seen: Seen::default(), new_at: now, end: listing.end, vain: 0, is_in_doubt: false };
        // One that has ended is no live one, and is played from its beginning.
        let from = match list.is_ended {
            true => 0,
            false => listing.newest(START_DURATION, START_LEAST, START_MOST),
        };
        following.pass(listing, from);
        self.take(&mut following.seen, listing, from, &[]);
        self.after(list, following)
    }

    /// Any later one.
    fn go_on(
        &mut self,
        mut following: Following,
        list: &MediaList,
        listing: &Listing<'_>,
        now: Duration,
    ) -> State {
        let since_new = now.saturating_sub(following.new_at);
        let (place, known) = following.seen.place(listing, since_new, self.poll.pace());
        let is_gone = |mark: &Mark| mark.sequence < listing.begin() && !listing.has(mark);
        self.poll.has_more = false;
        match place {
            Place::Behind { is_proven } => following.is_in_doubt |= !is_proven,
            Place::Known => {
                self.stats.left += self.line.leave_out(is_gone, Break::Missed).0;
                if following.end < listing.end {
                    following.end = listing.end;
                    following.vain += 1;
                }
            }
            Place::From(from, breaks) => {
                self.stats.left += self.line.leave_out(is_gone, Break::Missed).0;
                // What comes after a loop is what was made since, wherever it stands.
                let looped = (0 < following.vain).then_some(Break::Replaced);
                // A list that stood still for longer than what is new in it lasts may have
                // the old names for other segments.
                let stood_still = listing.duration_of_new(from, &known) + self.poll.pace() < since_new;
                let is_unsure =
                    (following.is_in_doubt || stood_still) && following.seen.compare(listing) != Some(true);
                self.line.owe(breaks.or(looped).or(is_unsure.then_some(Break::Unsure)));
                self.take(&mut following.seen, listing, from, &known);
                following.had_new(listing, now);
            }
            Place::Ahead | Place::Anew => {
                if place == Place::Anew {
                    following.seen.clear();
                }
                // What was due before is in the list under other names, or gone.
                let (left, duration) = self.line.leave_out(|_| true, Break::Renumbered);
                self.stats.left += left;
                self.stats.renumbered += 1;
                self.line.owe(Some(Break::Renumbered));
                // To the nearest segment.
                let wanted = (since_new + duration).saturating_sub(listing.mean_duration() / 2);
                let from = listing.newest(wanted, 1, START_MOST);
                following.pass(listing, from);
                self.take(&mut following.seen, listing, from, &[]);
                following.had_new(listing, now);
            }
        }
        self.after(list, following)
    }

    /// Makes due what the list has from `from` on and is not `known`, as far as
    /// there is room.
    fn take(&mut self, seen: &mut Seen, listing: &Listing<'_>, from: usize, known: &[bool]) {
        for (at, listed) in listing.segments.iter().enumerate().skip(from) {
            if known.get(at) == Some(&true) {
                self.line.owe(Some(Break::Replaced));
                continue;
            }
            if !self.line.has_room() {
                self.poll.has_more = true;
                return;
            }
            self.line.owe(listed.is_discontinuous.then_some(Break::Tagged));
            self.line.push(listed.segment, listed.mark);
            seen.push(listed.mark);
            self.stats.due += 1;
        }
    }

    fn after(&self, list: &MediaList, following: Following) -> State {
        if list.is_ended && !self.poll.has_more { State::Ended } else { State::Following(following) }
    }

    fn invariants_hold(&self) -> bool {
        let is_bounded = match &self.state {
            State::Following(following) => (1..=SEEN_MOST).contains(&following.seen.len()),
            State::Starting => self.line.is_empty(),
            State::Ended => true,
        };
        is_bounded && self.line.invariants_hold()
    }
}

impl Following {
    /// Counts what the list has before `from` as seen.
    fn pass(&mut self, listing: &Listing<'_>, from: usize) {
        listing.segments.iter().take(from).for_each(|listed| self.seen.push(listed.mark));
    }

    fn had_new(&mut self, listing: &Listing<'_>, now: Duration) {
        self.new_at = now;
        self.end = listing.end;
        self.vain = 0;
        self.is_in_doubt = false;
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
