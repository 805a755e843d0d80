//! Scenarios by name: a row of the catalogue and its parameters.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    At, BadJson, Behaviour, Content,
    catalogue::{HEALTHY, Row, row_named, row_of, rows},
};

/// One scenario: a row of the catalogue with its two parameters. As text it is
/// `name` or `name(parameters)`: `stall(2s,10s)`, `disconnect-rst(1000000b)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scenario {
    number: u8,
    parameters: [u32; 2],
}

/// What a parameter means; each is kept in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// Milliseconds; as text `45s` or `4600ms`.
    Time,
    /// A count, or bytes.
    Count,
    /// Bit/s; as text `4000000`, or `vbr` for zero.
    Rate,
    /// Thousandths; as text `0.7`, or `unlimited` for zero.
    Factor,
    /// Milliseconds with the top bit set, or bytes; as text `3s` or `1000b`.
    At,
    /// Place in a list of names.
    Choice(&'static [&'static str]),
}

const AT_IS_TIME: u32 = 1 << 31;

/// Parameters of a row, as its behaviour is built from them.
#[derive(Clone, Copy)]
pub(crate) struct Parameters([u32; 2]);

impl Parameters {
    pub(crate) fn count(self, i: usize) -> u32 {
        self.0[i]
    }

    pub(crate) fn time(self, i: usize) -> Duration {
        Duration::from_millis(u64::from(self.0[i]))
    }

    /// The signed broadcast at this rate.
    pub(crate) fn content(self, i: usize) -> Content {
        match self.0[i] {
            0 => Content::Varying,
            bitrate_bps => Content::Signed { bitrate_bps },
        }
    }

    /// The time, or none when it is zero.
    pub(crate) fn time_if_any(self, i: usize) -> Option<Duration> {
        (self.0[i] != 0).then(|| self.time(i))
    }

    /// The time, or so many seconds when it is zero.
    pub(crate) fn time_or(self, i: usize, seconds: u64) -> Duration {
        self.time_if_any(i).unwrap_or(Duration::from_secs(seconds))
    }

    /// The count, or another when it is zero.
    pub(crate) fn count_or(self, i: usize, other: u32) -> u32 {
        if self.0[i] == 0 { other } else { self.0[i] }
    }

    pub(crate) fn at(self, i: usize) -> At {
        match self.0[i] & AT_IS_TIME {
            0 => At::Bytes(self.0[i]),
            _ => At::Time(Duration::from_millis(u64::from(self.0[i] & !AT_IS_TIME))),
        }
    }

    /// The point, or so many seconds after the head when it is zero.
    pub(crate) fn at_or(self, i: usize, seconds: u64) -> At {
        if self.0[i] == 0 { At::Time(Duration::from_secs(seconds)) } else { self.at(i) }
    }

    pub(crate) fn choice<T: Copy>(self, i: usize, all: &[T]) -> T {
        all[usize::try_from(self.0[i]).unwrap_or(0) % all.len()]
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn at(at: At) -> u32 {
    match at {
        At::Bytes(n) => n.min(AT_IS_TIME - 1),
        At::Time(t) => millis(t).min(AT_IS_TIME - 1) | AT_IS_TIME,
    }
}

macro_rules! scenarios {
    ($($(#[$doc:meta])* $name:ident = $text:literal ($($arg:ident: $type:ty => $value:expr),*);)+) => {
        impl Scenario {
            $($(#[$doc])* #[must_use] pub fn $name($($arg: $type),*) -> Self {
                Self::named($text, &[$($value),*])
            })+
        }
    };
}

scenarios! {
    /// All well. In a content id: no opinion, what the engine is set to holds.
    healthy = "healthy-live" ();
    /// All well, at a constant rate of the signed broadcast.
    healthy_bitrate = "healthy-bitrate" (bitrate_bps: u32 => bitrate_bps);
    /// The ids with serials 2k and 2k + 1 have one infohash.
    shared_infohash = "shared-infohash" ();
    /// `id=` fails, `infohash=` works.
    id_is_infohash = "id-is-infohash" ();
    /// URLs carry another host: 0 an inner address, 1 localhost, 2 a wrong port, 3 a stranger.
    internal_host = "internal-host" (kind: u32 => kind);
    /// The start call takes `delay`.
    slow_metadata = "slow-metadata" (delay: Duration => millis(delay));
    /// The playback address is silent until `after` the start.
    slow_start = "slow-start" (after: Duration => millis(after));
    /// The playback address answers 500 until `after` the start.
    slow_start_500 = "slow-start-500" (after: Duration => millis(after));
    /// The first `reads` reads end at once.
    warmup_empty = "warmup-empty" (reads: u32 => reads);
    /// `failed to load content` after `delay`; zero for the timing's own.
    metadata_failure = "metadata-failure" (delay: Duration => millis(delay));
    /// The start call is never answered.
    metadata_hang = "metadata-hang" ();
    /// The session starts and fails two seconds later.
    start_failure_after_metadata = "start-failure-after-metadata" ();
    /// The content needs an option of the account.
    missing_option = "missing-option" ();
    /// An improper start answer.
    bad_json = "bad-json" (kind: BadJson => BadJson::ALL.iter().zip(0..).find(|(k, _)| k.1 == kind).map_or(0, |(_, i)| i));
    /// Silence from `from` on for `lasting`; zero for ever.
    stall = "stall" (from: At => at(from), lasting: Duration => millis(lasting));
    /// An orderly end.
    disconnect_fin = "disconnect-fin" (end: At => at(end));
    /// RST.
    disconnect_rst = "disconnect-rst" (end: At => at(end));
    /// An orderly end inside a packet.
    partial_packet_end = "partial-packet-end" (end: At => at(end));
    /// Odd write sizes.
    unaligned_chunks = "unaligned-chunks" ();
    /// The first byte is inside a packet.
    starts_mid_packet = "starts-mid-packet" ();
    /// `bytes` random bytes after every 500 packets.
    garbage = "garbage" (bytes: u32 => bytes);
    /// `burst` of stream time at line speed, then silence for `quiet`.
    burst_then_quiet = "burst-then-quiet" (burst: Duration => millis(burst), quiet: Duration => millis(quiet));
    /// `bytes` at a time, `apart`, for ever.
    slow_trickle = "slow-trickle" (bytes: u32 => bytes, apart: Duration => millis(apart));
    /// A text instead of the stream: 0 HTML, 1 JSON, 2 a playlist.
    text_body = "text-body" (kind: u32 => kind);
    /// Redirects whose body never ends.
    redirect_held = "redirect-held" ();
    /// Two status lines.
    double_status = "double-status" ();
    /// So many header lines.
    huge_headers_lines = "huge-headers-lines" (lines: u32 => lines);
    /// One header line of so many bytes, at most 1 MiB.
    huge_headers_line = "huge-headers-line" (bytes: u32 => bytes);
    /// The head byte by byte.
    header_trickle = "header-trickle" (apart: Duration => millis(apart));
    /// Chunks of `size` bytes; with `adorned` 1 also extensions and trailers.
    framing_chunked = "framing-chunked" (size: u32 => size, adorned: bool => u32::from(adorned));
    /// The end of the connection ends the body.
    framing_close = "framing-close" ();
    /// Every path answers 500.
    http_500_all = "http-500-all" ();
    /// The port does not listen.
    refuse = "refuse" ();
    /// RST as soon as a connection is accepted.
    rst_on_accept = "rst-on-accept" ();
    /// Accepts and never answers.
    hang_accept = "hang-accept" ();
    /// Versions and status are fine, starts and streams silent.
    api_ok_media_hang = "api-ok-media-hang" ();
    /// A stop is answered only after `delay`.
    stop_hang = "stop-hang" (delay: Duration => millis(delay));
    /// A stop answers 500.
    stop_500 = "stop-500" ();
}

impl Scenario {
    fn named(name: &str, parameters: &[u32]) -> Self {
        let row = row_named(name);
        debug_assert!(row.is_some(), "{name} is not in the catalogue");
        let parameter = |i: usize| parameters.get(i).copied().unwrap_or(0);
        Self { number: row.map_or(0, |row| row.number), parameters: [parameter(0), parameter(1)] }
    }

    /// The scenario with this number in a content id, if there is one.
    #[must_use]
    pub fn from_code(number: u8, parameters: [u32; 2]) -> Option<Self> {
        row_of(number).map(|_| Self { number, parameters })
    }

    /// Its number and parameters in a content id.
    #[must_use]
    pub fn code(&self) -> (u8, [u32; 2]) {
        (self.number, self.parameters)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.row().name
    }

    /// What it does in each phase.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        (self.row().build)(Parameters(self.parameters))
    }

    /// What it plays, if that is not left to the content id.
    #[must_use]
    pub fn content(&self) -> Option<Content> {
        self.behaviour().content
    }

    /// Every scenario, as text with parameter kinds, in the order of numbers.
    pub fn catalogue() -> impl Iterator<Item = String> {
        rows().map(describe)
    }

    fn row(&self) -> &'static Row {
        row_of(self.number).unwrap_or(HEALTHY)
    }
}

/// A row's name, with the kinds of its parameters.
fn describe(row: &Row) -> String {
    let kinds: Vec<_> = row.parameters.iter().map(Parameter::describe).collect();
    if kinds.is_empty() { row.name.to_owned() } else { format!("{}({})", row.name, kinds.join(",")) }
}

impl Parameter {
    fn describe(&self) -> String {
        match self {
            Self::Time => "time".to_owned(),
            Self::Count => "count".to_owned(),
            Self::Rate => "bit/s or vbr".to_owned(),
            Self::Factor => "factor".to_owned(),
            Self::At => "bytes or time".to_owned(),
            Self::Choice(names) => names.join("|"),
        }
    }

    fn show(&self, value: u32) -> String {
        match self {
            Self::Time => format!("{value}ms"),
            Self::Rate if value == 0 => "vbr".to_owned(),
            Self::Count | Self::Rate => value.to_string(),
            Self::Factor if value == 0 => "unlimited".to_owned(),
            Self::Factor => format!("{}.{:03}", value / 1000, value % 1000),
            Self::At if value & AT_IS_TIME == 0 => format!("{value}b"),
            Self::At => format!("{}ms", value & !AT_IS_TIME),
            Self::Choice(names) => {
                let at = usize::try_from(value).unwrap_or(0) % names.len();
                names[at].to_owned()
            }
        }
    }

    fn read(&self, text: &str) -> Option<u32> {
        match self {
            Self::Time => read_time(text),
            Self::Rate if text == "vbr" => Some(0),
            Self::Count | Self::Rate => text.parse().ok(),
            Self::Factor if text == "unlimited" => Some(0),
            Self::Factor => read_factor(text),
            Self::At => match text.strip_suffix('b') {
                Some(bytes) => bytes.parse().ok().filter(|n| n & AT_IS_TIME == 0),
                None => read_time(text).filter(|n| n & AT_IS_TIME == 0).map(|n| n | AT_IS_TIME),
            },
            Self::Choice(names) => names.iter().zip(0..).find(|(n, _)| **n == text).map(|(_, i)| i),
        }
    }
}

/// Milliseconds of `45s` or `4600ms`.
pub(crate) fn read_time(text: &str) -> Option<u32> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok(),
        None => text.strip_suffix('s')?.parse::<u32>().ok()?.checked_mul(1000),
    }
}

/// Thousandths in a decimal number; further digits are refused.
fn read_factor(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if 3 < part.len() || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(part)
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row();
        let shown: Vec<_> = row.parameters.iter().zip(self.parameters).map(|(p, v)| p.show(v)).collect();
        f.write_str(row.name)?;
        if shown.is_empty() { Ok(()) } else { write!(f, "({})", shown.join(",")) }
    }
}

/// Why a text names no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// No row has this name.
    #[error("there is no scenario {0}")]
    Unknown(String),
    /// A parameter is of another kind, or there are too many.
    #[error("{scenario} does not take {given}")]
    Parameter {
        /// The row and what it takes.
        scenario: String,
        /// What was given.
        given: String,
    },
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    /// Parameters left out are zero.
    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let (name, given) = match text.strip_suffix(')').and_then(|t| t.split_once('(')) {
            Some((name, given)) => (name, given),
            None => (text, ""),
        };
        let row = row_named(name).ok_or_else(|| ScenarioError::Unknown(name.to_owned()))?;
        let mut parameters = [0; 2];
        for (i, part) in given.split(',').map(str::trim).filter(|p| !p.is_empty()).enumerate() {
            let value = row.parameters.get(i).and_then(|kind| kind.read(part));
            parameters[i.min(1)] = value.ok_or_else(|| ScenarioError::Parameter {
                scenario: describe(row),
                given: given.to_owned(),
            })?;
        }
        Ok(Self { number: row.number, parameters })
    }
}

impl TryFrom<String> for Scenario {
    type Error = ScenarioError;
    fn try_from(text: String) -> Result<Self, ScenarioError> {
        text.parse()
    }
}

impl From<Scenario> for String {
    fn from(scenario: Scenario) -> Self {
        scenario.to_string()
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self::healthy()
    }
}
