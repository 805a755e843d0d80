//! Where a broadcast is cut into segments, and which of them a session shows.
//!
//! Cuts are counted from the epoch of all broadcasts, so that they are the same
//! on every engine; a session numbers its segments from 0.

use std::time::Duration;

use crate::{
    behaviour::{HlsFault, Sequence},
    engine::Engine,
    session::Session,
};

use super::feed::Feed;

/// Segments there are when a session begins.
const FIRST_SEGMENTS: u64 = 3;
/// Segments that a playlist lists at most.
const MOST_LISTED: u64 = 17;
/// Older segments that are still served.
const KEPT: u64 = 5;
/// Numbers that a sequence jumps by.
const JUMP: u64 = 50;
/// Segments that a sequence goes back by.
const BACK: u64 = 5;
/// For so long a list is repeated.
const REPEATED: Duration = Duration::from_secs(60);
/// What time stamps go back by at a discontinuity.
const STAMPS_BACK: Duration = Duration::from_secs(1000);

/// How a programme is cut.
#[derive(Clone, Copy, Debug)]
struct Cuts {
    feed: Feed,
    /// Mean duration of a segment in nanoseconds, at least that of a group.
    every: u128,
}

impl Cuts {
    fn new(feed: Feed, segment: Duration) -> Self {
        Self { feed, every: segment.as_nanos().max(feed.group_nanos()) }
    }

    /// The group of pictures that segment `k` begins with.
    fn group(&self, k: u64) -> u64 {
        let nanos = u64::try_from(u128::from(k) * self.every).unwrap_or(u64::MAX);
        self.feed.groups_in(Duration::from_nanos(nanos))
    }

    /// The segment on the air at a time since the epoch.
    fn segment_at(&self, since_epoch: Duration) -> u64 {
        let group = self.feed.group_at(since_epoch);
        let nanos = self.feed.group_time(group + 1).as_nanos();
        // Times are rounded down.
        let mut k = u64::try_from(nanos / self.every).unwrap_or(u64::MAX >> 32) + 1;
        while k > 0 && group < self.group(k) {
            k -= 1;
        }
        k
    }

    fn duration(&self, k: u64) -> Duration {
        let (from, to) = (self.group(k), self.group(k + 1));
        self.feed.group_time(to).saturating_sub(self.feed.group_time(from))
    }
}

/// One segment of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// First byte of the programme, and the one behind the last.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) duration: Duration,
}

/// Where a segment number leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The session's segment of this count.
    Segment(u64),
    /// It is gone; this number is still there.
    TooOld(u64),
    NotYet,
}

/// What a session shows of its broadcast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show {
    cuts: Cuts,
    /// The broadcast's segment that is the session's first.
    first: u64,
    /// Edge of the broadcast when the session began.
    began: Duration,
    pub(super) fault: HlsFault,
}

impl Show {
    pub(super) fn of(session: &Session, engine: &Engine, variant: u32) -> Self {
        let cuts = Cuts::new(
            Feed::new(session.content, &session.infohash).variant(variant),
            engine.timing.hls_segment,
        );
        let first = cuts.segment_at(session.began).saturating_sub(FIRST_SEGMENTS);
        Self { cuts, first, began: session.began, fault: session.behaviour.hls }
    }

    pub(super) fn feed(&self) -> Feed {
        self.cuts.feed
    }

    /// The session's newest whole segment.
    fn last(&self, edge: Duration) -> u64 {
        self.cuts.segment_at(edge).saturating_sub(self.first + 1)
    }

    /// Where numbers go wrong, once they do.
    fn wrong(&self, edge: Duration) -> Option<(Sequence, u64)> {
        let HlsFault::Sequence(kind, from) = self.fault else { return None };
        (self.began + from <= edge).then(|| (kind, self.last(self.began + from)))
    }

    /// First and last segment of the list, and the number of segment 0 of the
    /// session as an offset up and down.
    fn window(&self, edge: Duration) -> (u64, u64, u64, u64) {
        let listed = |last: u64| (last + 1).saturating_sub(MOST_LISTED);
        let last = self.last(edge);
        match self.wrong(edge) {
            Some((Sequence::Reset, at)) => {
                // The list begins anew too, as that of a new session.
                let base = (at + 1).saturating_sub(FIRST_SEGMENTS);
                (listed(last).max(base), last, 0, base)
            }
            Some((Sequence::Jump, _)) => (listed(last), last, JUMP, 0),
            Some((Sequence::Back, _)) => {
                let last = last.saturating_sub(BACK);
                (listed(last), last, 0, 0)
            }
            Some((Sequence::Repeat, at)) if edge < self.repeated_until() => (listed(at), at, 0, 0),
            _ => (listed(last), last, 0, 0),
        }
    }

    fn repeated_until(&self) -> Duration {
        match self.fault {
            HlsFault::Sequence(_, from) => self.began + from + REPEATED,
            _ => Duration::ZERO,
        }
    }

    /// The segments of the list: number and count in the session.
    pub(super) fn listed(&self, edge: Duration) -> Vec<(u64, u64)> {
        let (first, last, up, down) = self.window(edge);
        let times = if matches!(self.fault, HlsFault::Sequence(Sequence::Duplicate, _)) { 2 } else { 1 };
        (first..=last).flat_map(|n| std::iter::repeat_n(((n + up).saturating_sub(down), n), times)).collect()
    }

    /// The segment of a number that was listed.
    pub(super) fn find(&self, number: u64, edge: Duration) -> Found {
        let (first, _, up, down) = self.window(edge);
        // A number of the time before a jump is as good as gone.
        let n = number.saturating_add(down).saturating_sub(up);
        if self.last(edge) < n {
            Found::NotYet
        } else if n + KEPT < first {
            Found::TooOld((first + up).saturating_sub(down))
        } else {
            Found::Segment(n)
        }
    }

    /// Whether the time stamps of segment `n` do not follow those before.
    pub(super) fn is_break(&self, n: u64) -> bool {
        match self.fault {
            HlsFault::Discontinuity { every, .. } => n > 0 && n.is_multiple_of(u64::from(every.max(1))),
            _ => false,
        }
    }

    /// The bytes and duration of the session's segment `n`.
    pub(super) fn piece(&self, n: u64) -> Piece {
        let mut n = n;
        if let HlsFault::Loop { from, lap } = self.fault {
            let at = self.last(self.began + from);
            let segments = u64::try_from(lap.as_nanos() / self.cuts.every).unwrap_or(1).clamp(1, at + 1);
            if at < n {
                n = at + 1 - segments + (n - at - 1) % segments;
            }
        }
        let k = self.first + n;
        let feed = self.cuts.feed;
        let back = match self.fault {
            HlsFault::Discontinuity { every, .. } => {
                let breaks = n / u64::from(every.max(1));
                breaks * feed.groups_in(STAMPS_BACK)
            }
            _ => 0,
        };
        let edge = |k: u64| {
            let group = self.cuts.group(k).saturating_sub(back);
            match self.fault {
                HlsFault::NoIdr => feed.inside_group(group),
                _ => feed.group_position(group),
            }
        };
        Piece { from: edge(k), to: edge(k + 1), duration: self.cuts.duration(k) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Content;

    const CONTENTS: [Content; 4] = [
        Content::Clip,
        Content::Signed { bitrate_bps: 4_000_000 },
        Content::Signed { bitrate_bps: 200_000 },
        Content::Varying,
    ];

    fn show(content: Content, fault: HlsFault, segment: u64) -> Show {
        let cuts = Cuts::new(Feed::new(content, "x"), Duration::from_secs(segment));
        let began = Duration::from_secs(90_000_000);
        Show { cuts, first: cuts.segment_at(began).saturating_sub(FIRST_SEGMENTS), began, fault }
    }

    #[test]
    fn segments_follow_each_other_and_last_about_as_long_as_wanted() {
        for content in CONTENTS {
            let show = show(content, HlsFault::None, 5);
            for n in 0..100 {
                let (a, b) = (show.piece(n), show.piece(n + 1));
                assert_eq!(a.to, b.from, "{content:?} {n}");
                let seconds = a.duration.as_secs_f64();
                assert!((3.1..6.5).contains(&seconds), "{content:?} {n}: {seconds}");
            }
            let whole: Duration = (0..100).map(|n| show.piece(n).duration).sum();
            assert!((495.0..505.0).contains(&whole.as_secs_f64()), "{content:?}: {whole:?}");
        }
    }

    #[test]
    fn a_list_has_three_segments_at_first_and_grows_to_seventeen() {
        for content in CONTENTS {
            let show = show(content, HlsFault::None, 5);
            let mut lens = Vec::new();
            for seconds in 0..200 {
                let edge = show.began + Duration::from_secs(seconds);
                let listed = show.listed(edge);
                let newest = show.piece(listed.last().unwrap().1);
                // What is listed has been on the air.
                assert!(newest.to <= show.feed().position_at(edge), "{content:?} {seconds}");
                assert!(listed.iter().all(|&(number, n)| show.find(number, edge) == Found::Segment(n)));
                lens.push(listed.len());
            }
            assert_eq!((lens[0], lens[199]), (3, 17), "{content:?}");
            assert!(lens.windows(2).all(|w| w[0] <= w[1]), "{content:?}: {lens:?}");
        }
    }

    #[test]
    fn numbers_go_wrong_in_their_way_and_still_lead_to_segments() {
        let from = Duration::from_secs(20);
        for (kind, first_after, len) in [
            (Sequence::Reset, 0, 3),
            (Sequence::Jump, 50, 7),
            (Sequence::Back, 0, 2),
            (Sequence::Repeat, 0, 7),
            (Sequence::Duplicate, 0, 14),
        ] {
            let show = show(CONTENTS[1], HlsFault::Sequence(kind, from), 5);
            let edge = show.began + from + Duration::from_millis(10);
            let listed = show.listed(edge);
            assert_eq!((listed[0].0, listed.len()), (first_after, len), "{kind:?}: {listed:?}");
            assert!(
                listed.iter().all(|&(number, n)| show.find(number, edge) == Found::Segment(n)),
                "{kind:?}"
            );
        }
        let show = show(CONTENTS[1], HlsFault::Sequence(Sequence::Repeat, from), 5);
        let at = |seconds| show.listed(show.began + Duration::from_secs(seconds));
        assert_eq!(at(21), at(79));
        assert_ne!(at(21), at(81));
    }

    #[test]
    fn a_loop_shows_the_same_bytes_again() {
        let (from, lap) = (Duration::from_secs(20), Duration::from_secs(10));
        let show = show(CONTENTS[1], HlsFault::Loop { from, lap }, 5);
        let at = show.last(show.began + from);
        assert_eq!(show.piece(at + 2), show.piece(at));
        assert_eq!(show.piece(at + 1), show.piece(at - 1));
        assert_eq!(show.piece(at + 7), show.piece(at - 1));
    }
}
