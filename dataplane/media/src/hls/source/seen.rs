//! What was listed so far, and where a new list goes on from it.
//!
//! Sequence numbers alone do not tell: engines begin them anew, jump, and list
//! a segment under several. Names alone do not either: with the numbers the
//! names begin anew. So a list is laid against the newest segment seen that is
//! in it, by name and duration, or by number and path; what follows there is
//! new, unless it was seen before that.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{Break, MediaList, Segment};

/// How many segments are remembered: those of 40 minutes, as engines cut. What
/// is served again has to lie within.
pub(super) const SEEN_MOST: usize = 512;

/// How far a list that says nothing of its bytes may lie behind before its
/// numbers are taken for new ones. A cache or an engine that answers with an
/// old list has caught up by as many segments; numbers that begin anew would
/// be waited for as long.
const BACK_MOST: u64 = 10;

/// Target durations by which numbers may run ahead of the clock.
const AHEAD_MOST: u32 = 3;

/// The shortest mean duration that numbers are compared with the clock by.
const SHORTEST: Duration = Duration::from_millis(100);

/// A segment as it is remembered, whatever the length of its URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    discontinuity_sequence: Option<u64>,
    path: u64,
    uri: u64,
    duration: Duration,
}

// A follower says how much it holds.
const _: () = assert!(size_of::<Mark>() == 56);

impl Mark {
    /// What tells it from others in whatever list.
    const fn name(&self) -> (u64, Duration) {
        (self.uri, self.duration)
    }
}

/// A segment of the list at hand.
pub(super) struct Listed<'a> {
    pub(super) mark: Mark,
    pub(super) segment: &'a Segment,
    /// Also that of equal ones before it, which were left out.
    pub(super) is_discontinuous: bool,
}

/// A list's segments, each once: where one is listed again, with the same name
/// and duration, the first counts.
pub(super) struct Listing<'a> {
    pub(super) segments: Vec<Listed<'a>>,
    by_name: HashMap<(u64, Duration), usize>,
    /// The number of what the list has last, left out or not.
    pub(super) end: u64,
}

impl<'a> Listing<'a> {
    /// None without segments. O(segments).
    pub(super) fn of(list: &'a MediaList) -> Option<Self> {
        let end = list.segments.last()?.sequence;
        let (mut segments, mut by_name) = (Vec::with_capacity(list.segments.len()), HashMap::new());
        let mut is_discontinuous = false;
        let mut discontinuities = list.discontinuity_sequence;
        for segment in &list.segments {
            is_discontinuous |= segment.is_discontinuous;
            discontinuities = discontinuities.map(|n| n + u64::from(segment.is_discontinuous));
            let path = segment.uri.split('?').next().unwrap_or("");
            let mark = Mark {
                sequence: segment.sequence,
                discontinuity_sequence: discontinuities,
                path: hash(path),
                uri: hash(&segment.uri),
                duration: segment.duration,
            };
            by_name.entry(mark.name()).or_insert_with(|| {
                let is_discontinuous = std::mem::take(&mut is_discontinuous);
                segments.push(Listed { mark, segment, is_discontinuous });
                segments.len() - 1
            });
        }
        Some(Self { segments, by_name, end })
    }

    /// The number of its first segment.
    pub(super) fn begin(&self) -> u64 {
        self.segments.first().map_or(0, |s| s.mark.sequence)
    }

    fn by_number(&self, mark: &Mark) -> Option<usize> {
        self.segments.binary_search_by_key(&mark.sequence, |s| s.mark.sequence).ok()
    }

    /// Where a segment is in it: its own name comes first, then its path under
    /// its number, since a query may be a token that changes.
    fn find(&self, mark: &Mark) -> Option<usize> {
        let numbered = self.by_number(mark);
        let is = |same: fn(&Mark, &Mark) -> bool| numbered.filter(|&at| same(&self.segments[at].mark, mark));
        is(|a, b| a.uri == b.uri)
            .or_else(|| self.by_name.get(&mark.name()).copied())
            .or_else(|| is(|a, b| a.path == b.path))
    }

    /// Whether a segment is in it.
    pub(super) fn has(&self, mark: &Mark) -> bool {
        self.find(mark).is_some()
    }

    /// From where on its last segments give `duration`: at least `least` of
    /// them and at most `most`, as far as it has them.
    pub(super) fn newest(&self, duration: Duration, least: usize, most: usize) -> usize {
        let (mut count, mut sum) = (0, Duration::ZERO);
        for listed in self.segments.iter().rev().take(most) {
            if least <= count && duration <= sum {
                break;
            }
            sum += listed.mark.duration;
            count += 1;
        }
        self.segments.len() - count
    }

    /// Of what it has from `from` on and is not `known`.
    pub(super) fn duration_of_new(&self, from: usize, known: &[bool]) -> Duration {
        let all = self.segments.iter().zip(known).skip(from);
        all.filter(|(_, is_known)| !**is_known).map(|(s, _)| s.mark.duration).sum()
    }

    pub(super) fn mean_duration(&self) -> Duration {
        let sum: Duration = self.segments.iter().map(|s| s.mark.duration).sum();
        let count = u32::try_from(self.segments.len().max(1)).unwrap_or(u32::MAX);
        (sum / count).max(SHORTEST)
    }
}

/// The same within a process, which is all that is needed of it.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Where a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing in it is new.
    Known,
    /// It is of an earlier time, or its numbers began anew so near that nothing
    /// proves which.
    Behind { is_proven: bool },
    /// What is new begins here; some of it may have been seen all the same.
    From(usize, Option<Break>),
    /// Nothing leads to it from what was seen. Its numbers are higher.
    Ahead,
    /// The same, and numbers and names begin anew: what was seen means nothing
    /// any more.
    Anew,
}

/// The newest segments that were listed, oldest first; at most [`SEEN_MOST`].
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    marks: VecDeque<Mark>,
}

impl Seen {
    pub(super) fn push(&mut self, mark: Mark) {
        if self.marks.len() == SEEN_MOST {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Lays `list` against what was seen, and tells of each of its segments
    /// whether it was. `since_new` is the time since a list had something new,
    /// `pace` the target duration. O(seen + segments).
    ///
    /// What is seen last under another number than before has that from now on.
    pub(super) fn place(
        &mut self,
        list: &Listing<'_>,
        since_new: Duration,
        pace: Duration,
    ) -> (Place, Vec<bool>) {
        let mut known = vec![false; list.segments.len()];
        let mut anchor = None;
        for (age, mark) in self.marks.iter().rev().enumerate() {
            if let Some(at) = list.find(mark) {
                known[at] = true;
                anchor.get_or_insert((age, at));
            }
        }
        let Some(last) = self.marks.back_mut() else { return (Place::From(0, None), known) };
        let place = match anchor {
            None => unrelated(*last, list, since_new, pace),
            Some((age, at)) => {
                let is_last = age == 0;
                if is_last {
                    last.sequence = list.segments[at].mark.sequence;
                }
                let last = last.sequence;
                if known[at + 1..].contains(&false) {
                    Place::From(at + 1, (!is_last).then_some(Break::Replaced))
                } else if !is_last && list.end < last {
                    self.judge(list, last)
                } else {
                    Place::Known
                }
            }
        };
        (place, known)
    }

    /// Whether a list of which all was seen, and which lies behind, is an old
    /// one or has new bytes under old names.
    fn judge(&self, list: &Listing<'_>, last: u64) -> Place {
        match self.compare(list) {
            Some(false) => Place::Anew,
            Some(true) => Place::Behind { is_proven: true },
            None if last - list.end <= BACK_MOST => Place::Behind { is_proven: false },
            None => Place::Anew,
        }
    }

    /// Whether a list has the same under the numbers of what was seen, if that
    /// can be known. Durations tell, where they are not all alike: a segment has
    /// its own to the microsecond.
    pub(super) fn compare(&self, list: &Listing<'_>) -> Option<bool> {
        let mut is_judged = vec![false; list.segments.len()];
        let mut durations = Vec::new();
        for mark in self.marks.iter().rev() {
            let Some(at) = list.by_number(mark) else { continue };
            // The newest of a number counts.
            if std::mem::replace(&mut is_judged[at], true) {
                continue;
            }
            let listed = &list.segments[at].mark;
            if listed.path != mark.path || listed.duration != mark.duration {
                return Some(false);
            }
            durations.push(listed.duration);
        }
        (3 <= durations.len() && durations.iter().any(|d| *d != durations[0])).then_some(true)
    }
}

/// Of a list that has nothing of what was seen.
fn unrelated(last: Mark, list: &Listing<'_>, since_new: Duration, pace: Duration) -> Place {
    let Some(first) = list.segments.first() else { return Place::Known };
    let Some(ahead) = first.mark.sequence.checked_sub(last.sequence) else { return Place::Anew };
    let Some(missed) = ahead.checked_sub(1) else { return Place::Anew };
    let missed_for = list.mean_duration().as_nanos() * u128::from(missed);
    if missed == 0 {
        let is_told = match (last.discontinuity_sequence, first.mark.discontinuity_sequence) {
            (Some(before), Some(after)) => before != after,
            _ => false,
        };
        Place::From(0, is_told.then_some(Break::Tagged))
    } else if missed_for <= (since_new + pace * AHEAD_MOST).as_nanos() {
        Place::From(0, Some(Break::Missed))
    } else {
        Place::Ahead
    }
}
