//! How a client is to go about it, and what it has seen.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{Complaint, rules::Expect};

/// How a client goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// What is known when it begins.
    pub(crate) expect: Expect,
    /// Time between two reloads that the server does not hold back.
    pub(crate) poll: Duration,
    /// Has the server hold back each reload until there is more.
    pub(crate) blocking: bool,
    /// Asks for delta updates.
    pub(crate) delta: bool,
    /// Fetches parts and what is hinted at.
    pub(crate) parts: bool,
    /// How far time stamps may be from durations.
    pub(crate) tolerance: Duration,
    /// For each request.
    pub(crate) limit: Duration,
    /// Keeps the bytes of segments.
    pub(crate) keep: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            expect: Expect { live: true, low_latency: false, age: Duration::ZERO },
            poll: Duration::from_millis(200),
            blocking: false,
            delta: false,
            parts: false,
            tolerance: Duration::from_millis(100),
            limit: Duration::from_secs(10),
            keep: true,
        }
    }
}

/// A complaint, and what about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) complaint: Complaint,
    /// What was asked for.
    pub(crate) target: String,
    /// Since the client began.
    pub(crate) at: Duration,
    /// The line of the playlist that it is about.
    pub(crate) line: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.at, self.target, self.complaint)?;
        if self.line.is_empty() { Ok(()) } else { write!(f, "\n    {}", self.line) }
    }
}

/// A segment that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) number: u64,
    pub(crate) target: String,
    /// Since the client began.
    pub(crate) at: Duration,
    pub(crate) duration: Duration,
    pub(crate) discontinuity: bool,
    pub(crate) length: usize,
    /// Empty when they are not kept.
    pub(crate) bytes: Vec<u8>,
}

/// What a client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// Playlists as they came, and when.
    pub(crate) playlists: Vec<(Duration, String)>,
    pub(crate) segments: Vec<Fetched>,
    /// Parts fetched.
    pub(crate) parts: u64,
    /// Delta updates that skipped something.
    pub(crate) updates: u64,
    /// Segments fetched once more after they had left the list.
    pub(crate) owed: u64,
    /// Connections made.
    pub(crate) connections: u64,
}

impl Report {
    /// The rules that were broken.
    pub(crate) fn rules(&self) -> BTreeSet<&'static str> {
        self.findings.iter().map(|f| f.complaint.rule).collect()
    }

    /// The bytes of all segments, in order, parted where a discontinuity was
    /// told or a segment is missing: each run is one stream.
    pub(crate) fn runs(&self) -> Vec<Vec<&[u8]>> {
        let is_one = |a: &Fetched, b: &Fetched| !b.discontinuity && a.number.checked_add(1) == Some(b.number);
        let runs = self.segments.chunk_by(is_one);
        runs.map(|run| run.iter().map(|s| s.bytes.as_slice()).collect()).collect()
    }
}
