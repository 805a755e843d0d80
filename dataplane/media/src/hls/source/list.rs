//! Playlists as they come: tolerant of how they are written, strict about what
//! can be played.
//!
//! A line that cannot be understood is passed over and counted. A segment that
//! cannot be fetched for that keeps its number, and the next one is marked as
//! not following. Only what would make foreign bytes look like a transport
//! stream (encryption, fragments, byte ranges) refuses a whole list.

use std::{fmt, time::Duration};

use super::{
    MasterList,
    attributes::attribute,
    master::{Masters, Variant},
    resolve,
};

/// The longest body that is read, in bytes. An engine's have about 2 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// The most entries of a list: segments, or variants, or renditions. An hour
/// and more of the shortest segments there are; an engine lists 17.
pub const MAX_ENTRIES: usize = 4096;

/// The longest line that is looked at, in bytes, without its end and the spaces
/// around it.
pub const MAX_LINE: usize = 8192;

/// The longest duration that is believed.
const MAX_DURATION: Duration = Duration::from_secs(600);

/// What a target duration is at least: it is whole seconds (§4.3.3.1).
const LEAST_TARGET: Duration = Duration::from_secs(1);

/// The target duration where neither it nor any segment's duration is told; an
/// engine's segments last 3.7 to 6.3 s.
const USUAL_TARGET: Duration = Duration::from_secs(5);

/// The highest media sequence number that is believed, so that a list's last
/// one is a number too.
const MAX_SEQUENCE: u64 = u64::MAX >> 1;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playlist {
    /// The segments of one rendition.
    Media(MediaList),
    /// Several renditions, each with a list of its own.
    Master(MasterList),
}

/// A media playlist (RFC 8216 §4.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaList {
    /// Media sequence number of what is listed first, whether or not that can
    /// be fetched; 0 where the list does not tell. At most 2⁶³ − 1.
    pub sequence: u64,
    /// Discontinuity sequence number of what is listed first, where it is told.
    pub discontinuity_sequence: Option<u64>,
    /// The target duration, 1 s to 600 s. Never less than the longest segment,
    /// rounded to whole seconds (§4.3.3.1), whatever the list claims.
    pub target: Duration,
    /// What can be fetched, by rising numbers; at most [`MAX_ENTRIES`], and
    /// none while an engine is not ready.
    pub segments: Vec<Segment>,
    /// Whether no further segment will come (`EXT-X-ENDLIST`).
    pub is_ended: bool,
    /// Lines that had to be passed over: too long, no text, or a value or URI
    /// that cannot be read. Comments and unknown tags are not among them.
    pub ignored: usize,
}

/// A media segment of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its media sequence number.
    pub sequence: u64,
    /// Path and query to ask for, as [`resolve`] makes them.
    pub uri: String,
    /// How long it lasts, at most 600 s; the target duration where the list
    /// does not tell.
    pub duration: Duration,
    /// Whether it does not follow the one before: `EXT-X-DISCONTINUITY`, or an
    /// entry between them that cannot be fetched.
    pub is_discontinuous: bool,
}

/// Why a body is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// It does not begin with `#EXTM3U`: an engine that is not ready answers
    /// with some other text. Ask again, as during a start.
    NotAPlaylist,
    /// It is longer than [`MAX_BODY`].
    TooLong {
        /// Bytes of the body.
        len: usize,
    },
    /// It lists more than [`MAX_ENTRIES`].
    TooMany,
    /// Its segments are no transport streams that can be read. Asking again
    /// will not help.
    Unsupported(Unsupported),
}

/// What segments are, where they cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// Under an `EXT-X-KEY` with a method other than `NONE`.
    Encrypted,
    /// Under an `EXT-X-MAP`: fragmented MP4.
    Fragmented,
    /// Parts of resources (`EXT-X-BYTERANGE`).
    ByteRanges,
    /// Key frames alone (`EXT-X-I-FRAMES-ONLY`).
    KeyFramesOnly,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPlaylist => f.write_str("the body does not begin with #EXTM3U"),
            Self::TooLong { len } => {
                write!(f, "the playlist has {len} bytes, more than {MAX_BODY}")
            }
            Self::TooMany => write!(f, "the playlist has more than {MAX_ENTRIES} entries"),
            Self::Unsupported(what) => write!(f, "the playlist's segments are {what}"),
        }
    }
}

impl std::error::Error for ListError {}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypted => "encrypted",
            Self::Fragmented => "fragmented MP4",
            Self::ByteRanges => "byte ranges",
            Self::KeyFramesOnly => "key frames alone",
        })
    }
}

/// Reads a playlist that was asked for under `path`, a path with or without a
/// query; the last one, where the answer was redirected. O(length).
///
/// Lines may end in CRLF, a byte order mark and blank lines may come first; of
/// a tag that stands twice the last one counts. A list with both segments and
/// variants is read as one of segments.
///
/// # Errors
/// [`ListError`], for what cannot be played.
pub fn parse(body: &[u8], path: &str) -> Result<Playlist, ListError> {
    if MAX_BODY < body.len() {
        return Err(ListError::TooLong { len: body.len() });
    }
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut lines = body.split(|&b| b == b'\n').skip_while(|line| line.trim_ascii().is_empty());
    if !lines.next().is_some_and(is_header) {
        return Err(ListError::NotAPlaylist);
    }
    let mut reader = Reader::new(path);
    for line in lines {
        let line = line.trim_ascii();
        match str::from_utf8(line) {
            Ok(text) if line.len() <= MAX_LINE => reader.line(text)?,
            _ => reader.unreadable(line)?,
        }
    }
    reader.finish()
}

/// Some write attributes behind it.
fn is_header(line: &[u8]) -> bool {
    line.trim_ascii()
        .strip_prefix(b"#EXTM3U")
        .is_some_and(|rest| rest.first().is_none_or(|b| b.is_ascii_whitespace() || *b == b','))
}

/// What the next line that is a URI will be.
enum Due<'a> {
    /// Nothing: it is passed over.
    Nothing,
    /// A segment of this duration, where it is told.
    Segment(Option<Duration>),
    /// A variant with these attributes.
    Variant(&'a str),
}

/// Reads line by line.
struct Reader<'a> {
    path: &'a str,
    due: Due<'a>,
    sequence: u64,
    discontinuity_sequence: Option<u64>,
    target: Duration,
    /// Durations are settled at the end, when the target duration is known.
    segments: Vec<(Segment, Option<Duration>)>,
    /// Segments, and what took a number without being one.
    entries: usize,
    /// What holds for the next segment alone.
    is_discontinuous: bool,
    is_gap: bool,
    has_range: bool,
    /// What holds for all that follow.
    is_encrypted: bool,
    has_map: bool,
    key_frames_only: bool,
    is_ended: bool,
    ignored: usize,
    is_master: bool,
    masters: Masters<'a>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a str) -> Self {
        Self {
            path,
            due: Due::Nothing,
            sequence: 0,
            discontinuity_sequence: None,
            target: Duration::ZERO,
            segments: Vec::new(),
            entries: 0,
            is_discontinuous: false,
            is_gap: false,
            has_range: false,
            is_encrypted: false,
            has_map: false,
            key_frames_only: false,
            is_ended: false,
            ignored: 0,
            is_master: false,
            masters: Masters::default(),
        }
    }

    fn line(&mut self, line: &'a str) -> Result<(), ListError> {
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('#') {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            return self.tag(tag.trim_ascii_end(), value.trim_ascii());
        }
        match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Nothing => self.ignored += 1,
            Due::Segment(duration) => self.segment(Some(line), duration)?,
            Due::Variant(attributes) => match resolve(self.path, line) {
                Ok(uri) => self.masters.variant(uri, attributes)?,
                Err(_) => self.ignored += 1,
            },
        }
        Ok(())
    }

    /// A line that is too long, or no text.
    fn unreadable(&mut self, line: &[u8]) -> Result<(), ListError> {
        self.ignored += 1;
        if line.starts_with(b"#") {
            return Ok(());
        }
        match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Segment(duration) => self.segment(None, duration),
            Due::Nothing | Due::Variant(_) => Ok(()),
        }
    }

    fn tag(&mut self, tag: &str, value: &'a str) -> Result<(), ListError> {
        match tag {
            "#EXTINF" => self.due = Due::Segment(self.seconds(value)),
            "#EXT-X-TARGETDURATION" => self.target = self.seconds(value).unwrap_or(self.target),
            "#EXT-X-MEDIA-SEQUENCE" => self.sequence = self.number(value).unwrap_or(self.sequence),
            "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                self.discontinuity_sequence = self.number(value).or(self.discontinuity_sequence);
            }
            "#EXT-X-DISCONTINUITY" => self.is_discontinuous = true,
            "#EXT-X-GAP" => self.is_gap = true,
            "#EXT-X-BYTERANGE" => self.has_range = true,
            "#EXT-X-KEY" => self.is_encrypted = attribute(value, "METHOD") != Some("NONE"),
            "#EXT-X-MAP" => self.has_map = true,
            "#EXT-X-I-FRAMES-ONLY" => self.key_frames_only = true,
            "#EXT-X-ENDLIST" => self.is_ended = true,
            "#EXT-X-STREAM-INF" => {
                self.is_master = true;
                self.due = Due::Variant(value);
            }
            "#EXT-X-MEDIA" => self.masters.rendition(value)?,
            _ => {}
        }
        Ok(())
    }

    /// The next entry; none for a URI that could not be read.
    fn segment(&mut self, uri: Option<&str>, duration: Option<Duration>) -> Result<(), ListError> {
        let unsupported = [
            (self.is_encrypted, Unsupported::Encrypted),
            (self.has_map, Unsupported::Fragmented),
            (self.has_range, Unsupported::ByteRanges),
            (self.key_frames_only, Unsupported::KeyFramesOnly),
        ];
        if let Some((_, what)) = unsupported.into_iter().find(|(is_so, _)| *is_so) {
            return Err(ListError::Unsupported(what));
        }
        if self.entries == MAX_ENTRIES {
            return Err(ListError::TooMany);
        }
        let sequence = self.entries as u64;
        self.entries += 1;
        let is_gap = std::mem::take(&mut self.is_gap);
        let uri = uri.and_then(|uri| {
            let resolved = resolve(self.path, uri).ok();
            self.ignored += usize::from(resolved.is_none());
            resolved
        });
        match uri {
            Some(uri) if !is_gap => {
                let is_discontinuous = std::mem::take(&mut self.is_discontinuous);
                let segment = Segment { sequence, uri, duration: Duration::ZERO, is_discontinuous };
                self.segments.push((segment, duration));
            }
            _ => self.is_discontinuous = true,
        }
        Ok(())
    }

    fn finish(self) -> Result<Playlist, ListError> {
        if self.entries == 0 && self.is_master {
            return Ok(Playlist::Master(self.masters.finish()));
        }
        let longest = self.segments.iter().filter_map(|(_, duration)| *duration).max();
        let target = match (longest, self.target) {
            (None, Duration::ZERO) => USUAL_TARGET,
            (longest, told) => rounded(longest.unwrap_or(Duration::ZERO)).max(told).max(LEAST_TARGET),
        };
        let settled = |(segment, duration): (Segment, Option<Duration>)| Segment {
            sequence: self.sequence + segment.sequence,
            duration: duration.unwrap_or(target),
            ..segment
        };
        Ok(Playlist::Media(MediaList {
            sequence: self.sequence,
            discontinuity_sequence: self.discontinuity_sequence,
            target,
            segments: self.segments.into_iter().map(settled).collect(),
            is_ended: self.is_ended,
            ignored: self.ignored,
        }))
    }

    /// Seconds, whole or with decimals, up to a comma; none, and counted, when
    /// they are no such number or beyond [`MAX_DURATION`].
    fn seconds(&mut self, value: &str) -> Option<Duration> {
        let seconds = value.split(',').next().unwrap_or("").trim_ascii().parse().ok();
        let duration = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let duration = duration.filter(|d| *d <= MAX_DURATION);
        self.ignored += usize::from(duration.is_none());
        duration
    }

    /// A decimal number up to [`MAX_SEQUENCE`]; none, and counted, when it is
    /// not one.
    fn number(&mut self, value: &str) -> Option<u64> {
        let number = value.parse().ok().filter(|n| *n <= MAX_SEQUENCE);
        self.ignored += usize::from(number.is_none());
        number
    }
}

/// To whole seconds, half a second up.
fn rounded(duration: Duration) -> Duration {
    Duration::from_secs((duration + Duration::from_millis(500)).as_secs())
}

impl Playlist {
    /// Its segments, where it is a media playlist.
    #[must_use]
    pub const fn media(&self) -> Option<&MediaList> {
        match self {
            Self::Media(list) => Some(list),
            Self::Master(_) => None,
        }
    }

    /// The variant to read instead, where it is a master playlist that has one.
    #[must_use]
    pub fn variant(&self) -> Option<&Variant> {
        match self {
            Self::Media(_) => None,
            Self::Master(list) => list.best(),
        }
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
