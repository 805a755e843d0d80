//! A media playlist as it was read.

use std::time::Duration;

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// Its compatibility version, if it says one; if not it is 1.
    pub(crate) version: Option<u64>,
    /// Zero when it has none.
    pub(crate) target_duration: Duration,
    /// The media sequence number of the first segment, skipped ones included,
    /// if it is said; if not it is 0.
    pub(crate) media_sequence: Option<u64>,
    /// The same of discontinuities.
    pub(crate) discontinuity_sequence: Option<u64>,
    /// Each segment can be decoded without the one before.
    pub(crate) independent_segments: bool,
    /// Nothing will be added.
    pub(crate) has_ended: bool,
    /// EVENT or VOD.
    pub(crate) playlist_type: Option<String>,
    /// Longest part.
    pub(crate) part_target: Option<Duration>,
    /// What the server can do.
    pub(crate) server_control: Option<ServerControl>,
    /// Segments left out of a delta update.
    pub(crate) skipped: Option<u64>,
    /// Segments, in order.
    pub(crate) segments: Vec<Segment>,
    /// The parts of the segment that is not whole yet.
    pub(crate) open: Open,
    /// What will come next.
    pub(crate) hints: Vec<Hint>,
    /// What takes a version of its own.
    pub(crate) uses: Vec<Use>,
}

/// What the server can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerControl {
    pub(crate) line: usize,
    pub(crate) can_block_reload: bool,
    pub(crate) can_skip_until: Option<Duration>,
    pub(crate) can_skip_dateranges: bool,
    pub(crate) hold_back: Option<Duration>,
    pub(crate) part_hold_back: Option<Duration>,
}

/// A media segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The line of its URI.
    pub(crate) line: usize,
    pub(crate) uri: String,
    pub(crate) duration: Duration,
    /// When its first sample is, since 1970-01-01T00:00:00Z, if that is said.
    pub(crate) date_time: Option<Duration>,
    /// There is a discontinuity before it.
    pub(crate) discontinuity: bool,
    /// A sub-range of its URI.
    pub(crate) byte_range: Option<String>,
    pub(crate) parts: Vec<Part>,
}

/// The segment that is not whole yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) date_time: Option<Duration>,
    pub(crate) discontinuity: bool,
    pub(crate) parts: Vec<Part>,
}

/// A partial segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) line: usize,
    pub(crate) uri: String,
    pub(crate) duration: Duration,
    pub(crate) byte_range: Option<String>,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
}

/// A resource that will be there soon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) line: usize,
    pub(crate) is_part: bool,
    pub(crate) uri: String,
    /// It is a part of what the URI names.
    pub(crate) is_range: bool,
}

/// A feature that takes a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) line: usize,
    pub(crate) version: u64,
    pub(crate) what: &'static str,
}

impl Media {
    /// The media sequence number of the first segment that is listed or skipped.
    pub(crate) fn first(&self) -> u64 {
        self.media_sequence.unwrap_or(0)
    }

    /// That of the first segment that is listed.
    pub(crate) fn first_listed(&self) -> u64 {
        self.first().saturating_add(self.skipped.unwrap_or(0))
    }

    /// That of the segment behind the last one.
    pub(crate) fn end(&self) -> u64 {
        self.first_listed().saturating_add(count(&self.segments))
    }

    /// The listed segments with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, &Segment)> {
        let first = self.first_listed();
        (0..).map(move |place| first.saturating_add(place)).zip(&self.segments)
    }

    /// The listed segment of that number.
    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        let place = number.checked_sub(self.first_listed())?;
        self.segments.get(usize::try_from(place).ok()?)
    }

    /// How long all listed segments are.
    pub(crate) fn duration(&self) -> Duration {
        total(self.segments.iter().map(|s| s.duration))
    }

    /// The parts that are listed for the segment of that number.
    pub(crate) fn parts(&self, number: u64) -> &[Part] {
        match self.segment(number) {
            Some(segment) => &segment.parts,
            None if number == self.end() => &self.open.parts,
            None => &[],
        }
    }
}

/// How many there are.
pub(super) fn count<T>(things: &[T]) -> u64 {
    u64::try_from(things.len()).unwrap_or(u64::MAX)
}

/// The sum, as far as it can be told.
pub(super) fn total(durations: impl Iterator<Item = Duration>) -> Duration {
    durations.fold(Duration::ZERO, Duration::saturating_add)
}
