//! Choices of the HTTP level: what answers look like, whatever they say.

use std::time::Duration;

/// How answers go over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Where redirects lead, and how they say so.
    pub redirect: Redirect,
    /// What is odd about heads.
    pub odd: Option<Odd>,
    /// JSON is sent as gzip, asked for or not.
    pub gzips: bool,
    /// `Content-Type` of the byte stream.
    pub content_type: ContentType,
    /// So many of a hundred requests are answered 500.
    pub error_percent: u32,
    /// What is no media hangs; media, and streams that run, do not.
    pub api_hangs: bool,
    /// So many connections are served at once; further ones wait.
    pub most_served: Option<u32>,
    /// An idle connection is closed just as the next request comes.
    pub closes_idle: bool,
    /// What `Server` says instead of the usual.
    pub server: Option<&'static str>,
    /// `Date` and `livepos` are ahead by this.
    pub clock_ahead: Duration,
}

/// Where redirects lead, and how they say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirect {
    /// To an absolute URL, with status 302.
    #[default]
    Usual,
    /// To a path.
    Relative,
    /// To the URL that was asked for.
    Loop,
    /// To the path on another host.
    OffHost,
    /// As usual, with this status line.
    Status(&'static str),
}

/// What is odd about the heads of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// Lines end in LF alone.
    BareLf,
    /// The status line has no reason phrase.
    NoReason,
    /// The version is 1.0, and the connection closes.
    Http10,
    /// There is no `Date`.
    NoDate,
    /// Each header comes twice.
    Duplicates,
    /// A length and chunks: the chunks count, the length is wrong.
    LengthAndChunks,
}

impl Odd {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("bare-lf", Self::BareLf),
        ("no-reason", Self::NoReason),
        ("http-1.0", Self::Http10),
        ("no-date", Self::NoDate),
        ("duplicates", Self::Duplicates),
        ("length-and-chunks", Self::LengthAndChunks),
    ];
}

/// `Content-Type` of the byte stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentType {
    /// `video/mp2t`.
    #[default]
    Usual,
    /// There is none.
    None,
    /// This one.
    Other(&'static str),
}
