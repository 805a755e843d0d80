//! Choices for HLS: playlists and segments.

use std::time::Duration;

/// What is wrong with a session's HLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HlsFault {
    /// Nothing.
    #[default]
    None,
    /// The playlist is not there until this long after the start.
    NotReady(NotReady, Duration),
    /// One in `every` segments is missing.
    Missing {
        /// What comes instead.
        kind: Missing,
        /// From 1.
        every: u32,
    },
    /// One in so many segments ends inside a packet, before its announced end.
    Short(u32),
    /// A segment takes so many hundredths of its duration.
    Slow(u32),
    /// At every so many segments the time stamps go back by a thousand seconds.
    Discontinuity {
        /// Whether the playlist says so.
        tagged: bool,
        /// From 1.
        every: u32,
    },
    /// Numbers go wrong this long after the start.
    Sequence(Sequence, Duration),
    /// The playlist answers 403 from this long after the start.
    Forbidden(Duration),
    /// The first playlist is one of three variants.
    Master,
    /// The playlist is written in an unusual way.
    OddList(OddList),
    /// Segments begin inside a group of pictures, without PSI.
    NoIdr,
    /// From `from` after the start on, the last `lap` is served again and again.
    Loop {
        /// From here on.
        from: Duration,
        /// So much.
        lap: Duration,
    },
    /// Only segments keep the session alive.
    IdleExpiry,
}

/// What comes instead of a playlist that is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Silence.
    Held,
    /// Status 500 with a text.
    Error,
    /// A text that is no playlist.
    NoPlaylist,
    /// A playlist without segments.
    NoSegments,
}

impl NotReady {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("held", Self::Held),
        ("500", Self::Error),
        ("no-playlist", Self::NoPlaylist),
        ("no-segments", Self::NoSegments),
    ];
}

/// What comes instead of a listed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Status 404.
    NotFound,
    /// Status 500.
    Error,
    /// Status 200 without a byte.
    Empty,
    /// A redirect to the next piece.
    Redirect,
}

impl Missing {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 4] =
        [("404", Self::NotFound), ("500", Self::Error), ("empty", Self::Empty), ("redirect", Self::Redirect)];
}

/// How numbers in playlists go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// They begin anew at 0.
    Reset,
    /// They jump by 50.
    Jump,
    /// The list is again that of five segments ago.
    Back,
    /// The list stays the same for a minute.
    Repeat,
    /// Each segment is listed twice.
    Duplicate,
}

impl Sequence {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("reset", Self::Reset),
        ("jump", Self::Jump),
        ("back", Self::Back),
        ("repeat", Self::Repeat),
        ("duplicate", Self::Duplicate),
    ];
}

/// Unusual ways to write a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddList {
    /// All of the others at once.
    All,
    /// Lines end in CRLF.
    Crlf,
    /// A byte order mark comes first.
    Bom,
    /// There is no version tag.
    NoVersion,
    /// Durations are whole seconds.
    Integers,
    /// The target duration is below the segments' durations.
    ShortTarget,
    /// URLs are relative.
    Relative,
    /// There are comments, empty lines and unknown tags.
    Comments,
}

impl OddList {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 8] = [
        ("all", Self::All),
        ("crlf", Self::Crlf),
        ("bom", Self::Bom),
        ("no-version", Self::NoVersion),
        ("integers", Self::Integers),
        ("short-target", Self::ShortTarget),
        ("relative", Self::Relative),
        ("comments", Self::Comments),
    ];
}
