//! A strict validator of what is served as HLS, written from RFC 8216, its
//! successor draft-pantos-hls-rfc8216bis (here "bis") and Apple's authoring
//! rules. It shares nothing with the code under test.
//!
//! ```text
//! bytes ─ playlist ─► Media ─┬─ rules      one playlist by itself
//!                            ├─ history    against those before it
//!                            └─ delta      a delta update made whole
//!                    Multivariant ─ multivariant
//! bytes ─ segment ───────────── continuity, stream: against those before it
//! client: fetches all of it and asks all of the above
//! ```
//!
//! Whatever is wrong is a [`Complaint`]; nothing panics.

mod access;
pub(crate) mod client;
mod continuity;
pub(crate) mod delta;
pub(crate) mod history;
pub(crate) mod http;
mod lines;
mod low_latency;
mod model;
pub(crate) mod multivariant;
pub(crate) mod playlist;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod segment;
pub(crate) mod stream;
mod tags;
mod ts;
mod values;

use std::fmt;

pub(crate) use model::{Media, Part, Segment};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Which rule.
    pub(crate) rule: &'static str,
    /// The line of the playlist, from 1; 0 when it is about no line.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) text: String,
}

impl Complaint {
    /// About a line of a playlist.
    fn at(line: usize, rule: &'static str, text: impl Into<String>) -> Self {
        Self { rule, line, text: text.into() }
    }

    /// About no line.
    fn new(rule: &'static str, text: impl Into<String>) -> Self {
        Self::at(0, rule, text)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.rule, self.text),
            line => write!(f, "line {line}: {}: {}", self.rule, self.text),
        }
    }
}
