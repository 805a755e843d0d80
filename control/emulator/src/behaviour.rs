//! What a scenario is made of: one choice for each phase of an engine's work.

use std::time::Duration;

use crate::{Content, Damage, Delivery, Edit, Profile};

mod hls;
mod http_level;
mod life;
mod session;

pub use hls::{HlsFault, Missing, NotReady, OddList, Sequence};
pub use http_level::{ContentType, Odd, Redirect, Wire};
pub use life::{Fate, Status, Version};
pub use session::{Events, StatFault, StatTypes};

/// How an engine behaves towards one content, phase by phase. The default is
/// healthy in every phase.
///
/// What is an engine's and not a content's counts when it is set for an engine:
/// [`Self::fate`], [`Self::status`], [`Self::version`], and of [`Self::wire`]
/// the number of connections served and what becomes of idle ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// What meets a new connection or, for a single content, its start.
    pub accept: Accept,
    /// Every path answers `500 Internal Server Error`.
    pub all_500: bool,
    /// What is played instead of what the id says.
    pub content: Option<Content>,
    /// How ids lead to infohashes.
    pub lookup: Lookup,
    /// The start call.
    pub start: Start,
    /// Which host the engine's URLs carry.
    pub urls: Urls,
    /// What the playback address does while the session is not ready.
    pub ready: Ready,
    /// Redirects do not end: the body is announced by nothing and never comes.
    pub redirect_held: bool,
    /// The head of the byte stream.
    pub head: Head,
    /// How the body is delimited.
    pub framing: Framing,
    /// What the body is.
    pub body: Body,
    /// When the bytes come.
    pub delivery: Delivery,
    /// How the programme differs from the usual one.
    pub edit: Edit,
    /// What happens to the packets.
    pub damage: Damage,
    /// The stop command.
    pub stop: Stop,
    /// A file of so much of the programme, instead of a live one.
    pub vod: Option<Duration>,
    /// Starts tell of an encrypted content, whose playback address answers 500.
    pub encrypted: bool,
    /// Starts carry neither stat nor command address.
    pub direct: bool,
    /// The playback address times out so long after a start with a transcode
    /// parameter.
    pub transcode_timeout: Option<Duration>,
    /// What stat says of the swarm.
    pub swarm: Swarm,
    /// The session rules of this content, instead of the engine's.
    pub profile: Option<Profile>,
    /// Another player takes the content over.
    pub rival: Option<Rival>,
    /// A pid used again so soon after its reader's end gets what was left.
    pub leftovers: Option<Duration>,
    /// More contents than this on the engine end the oldest session.
    pub max_contents: Option<u32>,
    /// How far the engine is behind the broadcast; `None` is its own lag.
    pub lag: Option<Duration>,
    /// A reader that takes nothing for so long loses its session; `None` is
    /// what [`crate::Timing`] says.
    pub no_read: Option<Duration>,
    /// How answers go over the wire.
    pub wire: Wire,
    /// The stat address.
    pub stat: StatFault,
    /// The event address.
    pub events: Events,
    /// Playlists and segments.
    pub hls: HlsFault,
    /// What becomes of the engine as a whole.
    pub fate: Fate,
    /// The status calls.
    pub status: Status,
    /// The version call.
    pub version: Version,
}

/// What stat says of the swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swarm {
    /// Peers come and data flows.
    #[default]
    Usual,
    /// Nobody.
    Empty,
    /// One to nine peers, who come and go and have nothing.
    Useless,
}

/// A player who is not there: it starts the content while somebody watches, and
/// so ends the watcher's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// So long after the stream's head.
    pub after: Duration,
    /// How many sessions of a content it ends.
    pub times: u32,
}

/// What meets a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// It is served.
    #[default]
    Serve,
    /// The port does not listen. For a single content: RST at its start.
    Refuse,
    /// RST at once.
    Reset,
    /// It is accepted and read, and never answered.
    Hang,
    /// The port listens and nothing is accepted. For a single content: as
    /// [`Accept::Hang`].
    Backlog,
}

/// How ids lead to infohashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// Each id has its infohash.
    #[default]
    Usual,
    /// Only `infohash=` finds the content at first; ten minutes after that,
    /// `id=` does so too.
    OnlyInfohash,
    /// Contents that the engine has not met cannot be looked up.
    Down {
        /// Starts fail after this.
        after: Duration,
        /// So long after the first of them all is well again; `None` for never.
        cured: Option<Duration>,
    },
}

/// The start call: when it is answered, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Time to the answer; `None` is what [`crate::Timing`] says.
    pub delay: Option<Duration>,
    /// The answer.
    pub answer: StartAnswer,
    /// The session is opened even when the client has left by then.
    pub outlives_client: bool,
}

/// What a start is answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAnswer {
    /// A session.
    #[default]
    Session,
    /// `failed to load content`, or another text, in an answer of status 200.
    Error(&'static str),
    /// A session, told by a redirect whatever format was asked for.
    Redirect,
    /// `got newer download` for the first so many starts, then a session.
    SupersededFirst(u32),
    /// An error for want of an option of the account.
    MissingOption,
    /// Something that is no proper answer.
    Bad(BadJson),
    /// Nothing, for ever.
    Hang,
}

/// Kinds of improper start answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadJson {
    /// A good answer cut in the middle.
    Truncated,
    /// `Internal Server Error, couldn't find resource` with status 500.
    Internal,
    /// An HTML page.
    Html,
    /// A good answer wrapped in a call.
    Jsonp,
    /// `{"response": {}, "error": null}`.
    EmptyResponse,
    /// A response without `playback_url`.
    NoPlaybackUrl,
    /// Numbers as strings; the session is good.
    StringNumbers,
    /// Keys nobody knows; the session is good.
    UnknownKeys,
    /// Five megabytes of JSON.
    Huge,
    /// No byte of body.
    EmptyBody,
}

impl BadJson {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 10] = [
        ("truncated", Self::Truncated),
        ("internal", Self::Internal),
        ("html", Self::Html),
        ("jsonp", Self::Jsonp),
        ("empty-response", Self::EmptyResponse),
        ("no-playback-url", Self::NoPlaybackUrl),
        ("string-numbers", Self::StringNumbers),
        ("unknown-keys", Self::UnknownKeys),
        ("huge", Self::Huge),
        ("empty-body", Self::EmptyBody),
    ];
}

/// Which host the engine's URLs carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urls {
    /// That of the request.
    #[default]
    Asked,
    /// This authority, scheme included.
    Fixed(&'static str),
}

/// What the playback address does while the session is not ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// Silence for the prebuffer time, then the redirect.
    #[default]
    Hold,
    /// The same, with this as the time since the start.
    HoldFor(Duration),
    /// Status 500 at once, every time until this long after the start.
    ErrorsFor(Duration),
    /// The session fails this long after the start: stat says `err`, the
    /// address 500 `failed to start`, and two seconds later it is unknown.
    FailsAfter(Duration),
    /// Silence, and 500 `start timeout` from so long after the start on.
    TimesOutAfter(Duration),
    /// Silence for ever.
    Never,
}

/// The head of the byte stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// As a healthy engine sends it.
    #[default]
    Usual,
    /// The first so many reads of a session: the head, then FIN.
    EmptyFirst(u32),
    /// Two status lines in a row.
    DoubleStatus,
    /// So many header lines more.
    ManyLines(u32),
    /// One header line of so many bytes.
    LongLine(u32),
    /// One byte of the head at a time, this far apart.
    Trickle(Duration),
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By the end of the connection.
    #[default]
    Close,
    /// In chunks.
    Chunked {
        /// Payload of a chunk, in bytes.
        size: u32,
        /// With chunk extensions, and trailers at the end.
        adorned: bool,
    },
    /// By the end of the connection, with this as `Content-Length`.
    Length(&'static str),
}

/// What the body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// The programme.
    #[default]
    Programme,
    /// A text, then the end.
    Text(&'static str),
}

/// The stop command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// It stops and says so.
    #[default]
    Usual,
    /// It answers only after this; nothing stops before.
    Hang(Duration),
    /// It answers 500 and stops nothing.
    Error,
    /// It answers that the session is unknown, and stops nothing.
    Unknown,
    /// It answers at once; bytes flow for so long after that.
    Late(Duration),
}
