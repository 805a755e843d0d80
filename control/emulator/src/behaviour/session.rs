//! Choices for what a session tells: stat and events.

use std::time::Duration;

/// What the stat address tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatFault {
    /// The truth.
    #[default]
    None,
    /// An empty response until this long after the start.
    EmptyFor(Duration),
    /// The truth in unusual types.
    Types(StatTypes),
    /// `dl`, 20 peers and 2,000 KB/s, whatever flows.
    Rosy,
    /// No peers and no speed, whatever flows.
    Bleak,
    /// `downloaded` falls by 5 MiB once in this time.
    BackStep(Duration),
    /// `livepos` stays what it was at the start.
    LiveposFrozen,
    /// No `livepos`.
    LiveposAbsent,
    /// `livepos` is ahead by this.
    LiveposAhead(Duration),
    /// No answer.
    Hang,
    /// Status 500.
    Error,
    /// The truth, this late.
    Slow(Duration),
    /// The session is unknown from `after` the reader's head on, though bytes
    /// flow for `lasting` more.
    Gone {
        /// From here on.
        after: Duration,
        /// For so long.
        lasting: Duration,
    },
}

/// Unusual types in a stat answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatTypes {
    /// Numbers as strings.
    Strings,
    /// Numbers as floats.
    Floats,
    /// Null in place of numbers.
    Nulls,
    /// Of the numbers, only every other one.
    Missing,
    /// `speedDown` and `speedUp`.
    CamelCase,
}

impl StatTypes {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("strings", Self::Strings),
        ("floats", Self::Floats),
        ("nulls", Self::Nulls),
        ("missing", Self::Missing),
        ("camel-case", Self::CamelCase),
    ];
}

/// What the event address tells. The first poll of a session is answered at
/// once, later ones are held, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Events {
    /// Nothing: each poll is held for its whole time.
    #[default]
    Hold,
    /// `live_changed`.
    LiveChanged,
    /// `download_stopped`, for want of an option.
    DownloadStopped,
    /// `live_changed` as JSON in a JSON string.
    DoubleEncoded,
    /// Status 500 each time.
    Error,
}

impl Events {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("live-changed", Self::LiveChanged),
        ("download-stopped", Self::DownloadStopped),
        ("double-encoded", Self::DoubleEncoded),
        ("hold", Self::Hold),
        ("500", Self::Error),
    ];
}
