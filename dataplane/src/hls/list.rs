//! The media segments of a stream, as all shards see them.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use millrace_boundary::Monotonic;
use millrace_media::ts::Formats;

use super::playlist::{self, Playlist};
use crate::segment::{Segment, read_at};

/// A run of published bytes.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Of this segment of the chain.
    pub(crate) segment: Arc<Segment>,
    /// Its first byte.
    pub(crate) from: usize,
    /// The first byte behind it.
    pub(crate) to: usize,
}

/// What is sent for a media segment or a part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// PAT and PMT, where the stream does not have them there itself.
    pub(crate) preface: Box<[u8]>,
    /// The stream's own packets.
    pub(crate) slices: Vec<Slice>,
}

impl Body {
    /// Its first bytes, at most `most` of them.
    ///
    /// # Errors
    /// When the kernel cannot read its own memory.
    pub(crate) fn beginning(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.preface[..self.preface.len().min(most)].to_vec();
        for slice in &self.slices {
            let (had, len) = (bytes.len(), slice.to - slice.from);
            bytes.resize(had + len.min(most - had), 0);
            read_at(slice.segment.memfd(), &mut bytes[had..], slice.from as u64)?;
        }
        Ok(bytes)
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        let slices = self.slices.iter().map(|slice| (slice.to - slice.from) as u64);
        self.preface.len() as u64 + slices.sum::<u64>()
    }
}

/// A part of a media segment.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) duration: Duration,
    /// A player can begin with it.
    pub(crate) independent: bool,
    pub(crate) body: Body,
}

/// A media segment that has ended.
#[derive(Debug)]
pub(crate) struct MediaSegment {
    /// Media sequence number.
    pub(crate) sequence: u64,
    pub(crate) duration: Duration,
    /// It does not go on from the one before.
    pub(crate) is_break: bool,
    /// A player can begin with it.
    pub(crate) independent: bool,
    /// When its first bytes came, had the stream never paused.
    pub(crate) wall: SystemTime,
    pub(crate) body: Body,
    pub(crate) parts: Vec<Arc<Part>>,
}

/// The segment that is being written.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// As of [`MediaSegment`].
    pub(crate) wall: SystemTime,
    pub(crate) is_break: bool,
    /// Those that have ended.
    pub(crate) parts: Vec<Arc<Part>>,
}

/// All there is at one moment; replaced whole.
#[derive(Debug)]
pub(crate) struct List {
    /// Those in the playlist, and before them those that have left it.
    pub(crate) segments: Vec<Arc<MediaSegment>>,
    /// The first one in the playlist.
    pub(crate) first: usize,
    /// Breaks before the first one in the playlist.
    pub(crate) discontinuities: u64,
    pub(crate) target_duration: Duration,
    /// Length of parts at most; zero without parts.
    pub(crate) part_target: Duration,
    pub(crate) open: Open,
    /// What the stream is made of, as far as it is understood.
    pub(crate) formats: Arc<Formats>,
    playlist: OnceLock<Playlist>,
    delta: OnceLock<Playlist>,
}

impl List {
    pub(crate) fn new(
        segments: Vec<Arc<MediaSegment>>,
        first: usize,
        discontinuities: u64,
        (target_duration, part_target): (Duration, Duration),
        open: Open,
        formats: Arc<Formats>,
    ) -> Self {
        Self {
            segments,
            first,
            discontinuities,
            target_duration,
            part_target,
            open,
            formats,
            playlist: OnceLock::new(),
            delta: OnceLock::new(),
        }
    }

    /// Those in the playlist.
    pub(crate) fn listed(&self) -> &[Arc<MediaSegment>] {
        &self.segments[self.first..]
    }

    /// The media sequence number of the segment that is being written.
    pub(crate) fn open_sequence(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.sequence + 1)
    }

    /// Whether there is this part of the segment of this number, or all of it.
    pub(crate) fn has(&self, sequence: u64, part: Option<usize>) -> bool {
        let open = self.open_sequence();
        sequence < open || (sequence == open && part.is_some_and(|part| part < self.open.parts.len()))
    }

    /// The segment of this number.
    pub(crate) fn segment(&self, sequence: u64) -> Option<&Arc<MediaSegment>> {
        let first = self.segments.first()?.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// A part of the segment of this number.
    pub(crate) fn part(&self, sequence: u64, part: usize) -> Option<&Arc<Part>> {
        let parts =
            if sequence == self.open_sequence() { &self.open.parts } else { &self.segment(sequence)?.parts };
        parts.get(part)
    }

    /// The playlist, written by whoever asks first; `begin` hears of it then.
    pub(crate) fn playlist(&self, begin: impl FnOnce()) -> &Playlist {
        written(&self.playlist, begin, || playlist::media(self, None))
    }

    /// The same without what a player has that has seen one lately.
    pub(crate) fn delta(&self, begin: impl FnOnce()) -> &Playlist {
        match playlist::skipped(self) {
            0 => self.playlist(begin),
            skipped => written(&self.delta, begin, || playlist::media(self, Some(skipped))),
        }
    }
}

/// Two who ask at once both begin and write; one of them in vain.
fn written(place: &OnceLock<Playlist>, begin: impl FnOnce(), write: impl FnOnce() -> Playlist) -> &Playlist {
    if let Some(there) = place.get() {
        return there;
    }
    begin();
    let new = write();
    place.get_or_init(|| new)
}

/// What a stream has for HLS, shared by the shards.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    list: ArcSwapOption<List>,
    /// When somebody last asked for something of it, in milliseconds, and 1.
    asked: AtomicU64,
    /// Until when a viewer is expected who has been given its address, in
    /// milliseconds.
    expected: AtomicU64,
    /// Shards on which somebody waits for news: a bit each, the last one for
    /// all beyond.
    waiting: AtomicU64,
}

impl Shelf {
    /// All there is now; nothing before the first segment has ended.
    pub(crate) fn list(&self) -> Option<Arc<List>> {
        self.list.load_full()
    }

    /// Replaces all there is.
    pub(crate) fn show(&self, list: List) {
        self.list.store(Some(Arc::new(list)));
    }

    /// A viewer has been given its address, and asks for more by then if at all.
    pub(crate) fn expect(&self, until: Monotonic) {
        self.expected.fetch_max(millis(until), Ordering::Relaxed);
    }

    /// Whether such a viewer may come yet.
    pub(crate) fn is_expected(&self, now: Monotonic) -> bool {
        millis(now) < self.expected.load(Ordering::Relaxed)
    }

    /// Somebody has asked for something of it.
    pub(crate) fn note_asked(&self, now: Monotonic) {
        self.asked.store(millis(now).saturating_add(1), Ordering::Relaxed);
    }

    /// Whether somebody has asked within `time`.
    pub(crate) fn was_asked_within(&self, time: Duration, now: Monotonic) -> bool {
        match self.asked.load(Ordering::Relaxed) {
            0 => false,
            asked => now.since(Monotonic(Duration::from_millis(asked - 1))) <= time,
        }
    }

    /// Somebody on this shard waits for news.
    pub(crate) fn wait(&self, shard: u16) {
        self.waiting.fetch_or(1 << shard.min(63), Ordering::AcqRel);
    }

    /// The shards on which somebody waited, who are now told.
    pub(crate) fn take_waiting(&self, shards: u16) -> impl Iterator<Item = u16> {
        let waiting = match self.waiting.load(Ordering::Acquire) {
            0 => 0,
            _ => self.waiting.swap(0, Ordering::AcqRel),
        };
        (0..shards).filter(move |shard| waiting & 1 << shard.min(&63) != 0)
    }
}

fn millis(at: Monotonic) -> u64 {
    u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX)
}
