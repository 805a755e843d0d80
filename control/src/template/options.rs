//! The engine's options: their names, kinds and ranges.
//!
//! An engine ends at once on an option that it does not know or that is given
//! in the wrong form, so only options whose form is known stand here; others go
//! on the command line of a `custom` template. Where nobody documents a range,
//! it is wide enough for all sensible values and refuses slips of the hand.

use super::{TemplateError, Value, is_hidden, is_secret_option, shown};

/// What Millrace sets itself: where the engine listens, and for whom.
pub(super) const SET_BY_US: &[&str] = &[
    "api-port",
    "bind-all",
    "client-console",
    "fallback-to-dynamic-ports",
    "http-port",
    "https-port",
    "port",
    "random-port",
];

/// Options whose values are never shown.
pub(super) const SECRET: &[&str] = &["access-token", "password", "service-access-token"];

/// Bytes of a value.
pub(super) const VALUE: usize = 4 << 10;

const MIB: i64 = 1 << 20;
const TIB: i64 = 1 << 40;

/// What an option takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Nothing; `false` leaves it out, also where the variant sets it.
    Flag,
    /// A whole number in a range.
    Int(i64, i64),
    /// Bytes in a range.
    Bytes(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// An absolute path in the container.
    Path,
}

use Kind::{Bytes, Flag, Int, OneOf, Path, Text};

/// The engine's word for yes and no.
const SWITCH: Kind = Int(0, 1);
/// Seconds.
const INTERVAL: Kind = Int(1, 3_600);
/// Seconds.
const BUFFER: Kind = Int(1, 600);
/// Kilobytes a second; 0 is no limit.
const RATE: Kind = Int(0, 10_000_000);
const CACHE: Kind = Bytes(MIB, TIB);

/// All options, by name.
pub(super) const OPTIONS: &[(&str, Kind)] = &[
    ("access-token", Text),
    ("allow-user-config", Flag),
    ("auto-slots", SWITCH),
    ("cache-dir", Path),
    // In gigabytes.
    ("cache-limit", Int(1, 10_000)),
    ("cache-max-bytes", CACHE),
    ("check-live-pos-interval", INTERVAL),
    ("core-dlr-periodic-check-interval", INTERVAL),
    ("core-skip-have-before-playback-pos", SWITCH),
    ("disable-sentry", Flag),
    ("disable-upnp", Flag),
    ("disk-cache-limit", CACHE),
    ("download-limit", RATE),
    ("live-adjust-buffer-time", SWITCH),
    ("live-buffer", BUFFER),
    ("live-buffer-time", BUFFER),
    ("live-cache-auto-size", SWITCH),
    ("live-cache-auto-size-reserve", CACHE),
    ("live-cache-max-memory-percent", Int(1, 100)),
    ("live-cache-size", CACHE),
    ("live-cache-type", OneOf(&["disk", "memory", "hybrid"])),
    ("live-disable-multiple-read-threads", SWITCH),
    ("live-disk-cache-size", CACHE),
    ("live-max-buffer-time", BUFFER),
    ("live-mem-cache-size", CACHE),
    ("live-stop-main-read-thread", SWITCH),
    ("log-backup-count", Int(0, 1_000)),
    // A mask of what is logged; 355 is what support asks for.
    ("log-debug", Int(0, 65_535)),
    ("log-file", Path),
    ("log-max-size", Bytes(1 << 10, TIB)),
    ("log-modules", Text),
    ("log-stdout", Flag),
    ("login", Text),
    ("make-default-access-token", SWITCH),
    ("max-connections", Int(1, 10_000)),
    ("max-download-rate", RATE),
    ("max-download-speed", RATE),
    ("max-file-size", CACHE),
    ("max-peers", Int(1, 10_000)),
    ("max-upload-rate", RATE),
    ("max-upload-slots", Int(0, 1_000)),
    ("max-upload-speed", RATE),
    ("memory-cache-limit", CACHE),
    ("min-peers", Int(0, 10_000)),
    ("password", Text),
    ("refill-buffer-interval", INTERVAL),
    ("service-access-token", Text),
    ("service-remote-access", Flag),
    ("slots-manager-use-cpu-limit", SWITCH),
    ("state-dir", Path),
    ("stats-report-interval", INTERVAL),
    ("stats-report-peers", Flag),
    ("total-max-download-rate", RATE),
    ("total-max-upload-rate", RATE),
    ("upload-limit", RATE),
    ("use-internal-buffering", SWITCH),
    ("vod-buffer", BUFFER),
    ("vod-cache-size", CACHE),
    ("vod-cache-type", OneOf(&["disk", "memory"])),
    // Seconds; a year at most.
    ("vod-drop-max-age", Int(0, 31_536_000)),
    ("webrtc-allow-incoming-connections", SWITCH),
    ("webrtc-allow-outgoing-connections", SWITCH),
];

/// How an option is written on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Not at all.
    Absent,
    /// The option alone.
    Alone,
    /// The option, and this word after it.
    With(String),
}

/// How the option `name` is written with this value.
///
/// # Errors
/// When it is unknown, not for templates, or does not take the value.
pub(super) fn write(name: &str, value: &Value) -> Result<Written, TemplateError> {
    let field = || format!("parameters.{}", name.chars().take(64).collect::<String>());
    if SET_BY_US.contains(&name) {
        let allowed = "every option but those for ports, for who may call, and client-console";
        return Err(TemplateError::new(field(), "Millrace sets this option itself", allowed));
    }
    let known = OPTIONS.binary_search_by_key(&name, |(known, _)| *known);
    let Some((_, kind)) = known.ok().and_then(|at| OPTIONS.get(at)) else {
        let allowed = "the engine's options without their dashes, such as live-cache-type; \
                       others on the command line of a custom template";
        return Err(TemplateError::new(field(), "there is no such option", allowed));
    };
    let secret = is_secret_option(name);
    if secret && is_hidden(value) {
        let allowed = "the secret itself, where no template of this name has it";
        return Err(TemplateError::new(field(), "*** stands for no known secret", allowed));
    }
    kind.write(value).ok_or_else(|| {
        let wrong = match value {
            _ if secret => "is not possible".into(),
            Value::Flag(flag) => format!("is {flag}"),
            Value::Number(number) => format!("is {number}"),
            Value::Text(text) => format!("is {}", shown(text)),
        };
        TemplateError::new(field(), wrong, kind.allowed())
    })
}

impl Kind {
    fn write(self, value: &Value) -> Option<Written> {
        match (self, value) {
            (Flag, Value::Flag(true)) => Some(Written::Alone),
            (Flag, Value::Flag(false)) => Some(Written::Absent),
            (Int(least, most), Value::Number(number)) => {
                (least..=most).contains(number).then(|| Written::With(number.to_string()))
            }
            (Bytes(least, most), Value::Number(_) | Value::Text(_)) => {
                let bytes = bytes(value).filter(|bytes| (least..=most).contains(bytes))?;
                Some(Written::With(bytes.to_string()))
            }
            (OneOf(words), Value::Text(text)) => {
                words.contains(&text.as_str()).then(|| Written::With(text.clone()))
            }
            (Text, Value::Text(text)) => is_word(text).then(|| Written::With(text.clone())),
            (Path, Value::Text(text)) => is_path(text).then(|| Written::With(text.clone())),
            (Flag, Value::Number(_) | Value::Text(_))
            | (Int(..), Value::Flag(_) | Value::Text(_))
            | (Bytes(..), Value::Flag(_))
            | (OneOf(_) | Text | Path, Value::Flag(_) | Value::Number(_)) => None,
        }
    }

    fn allowed(self) -> String {
        match self {
            Flag => "true or false".into(),
            Int(least, most) => format!("a whole number from {least} to {most}"),
            Bytes(least, most) => format!(
                "bytes from {least} to {most}, as a number or with their unit: 268435456 or \"256MiB\""
            ),
            OneOf(words) => format!("one of {}", words.join(", ")),
            Text => format!(
                "a text of 1 to {VALUE} bytes without control characters that begins with neither - nor @"
            ),
            Path => format!(
                "an absolute path in the container without .. of at most {VALUE} bytes; \
                 no shell is there to expand ~"
            ),
        }
    }
}

fn bytes(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Flag(_) => return None,
        Value::Number(number) => return Some(*number),
        Value::Text(text) => text,
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(1 << shift)
}

/// One that the engine takes for a value: it reads a word with `-` as an
/// option, and one with `@` as the name of a file with options.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['-', '@']) && is_plain(text)
}

fn is_path(text: &str) -> bool {
    let below = text.strip_prefix('/').unwrap_or_default();
    !below.trim_matches('/').is_empty() && !below.split('/').any(|part| part == "..") && is_plain(text)
}

/// Short enough, and without control characters.
pub(super) fn is_plain(text: &str) -> bool {
    text.len() <= VALUE && !text.contains(char::is_control)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
