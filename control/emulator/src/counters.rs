//! What an engine counts of its clients.

use std::collections::BTreeMap;

use serde::Serialize;

/// Contents counted one by one; those beyond are in the sums only.
const MAX_CONTENTS: usize = 10_000;
/// Players counted one by one, each with a content.
const MAX_PLAYERS: usize = 10_000;

/// The kinds of paths an engine serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// `/ace/getstream`.
    Getstream,
    /// `/ace/manifest.m3u8`.
    Manifest,
    /// `/ace/r/…`: a playback address.
    Read,
    /// `/content/…`: the bytes.
    Content,
    /// `/ace/stat/…`.
    Stat,
    /// `/ace/cmd/…`.
    Command,
    /// `/ace/event/…`.
    Event,
    /// `/ace/m/…` and `/hls/m/…`: a playlist.
    Playlist,
    /// `/ace/c/…` and `/hls/c/…`: a segment.
    Segment,
    /// `/webui/api/service`.
    Service,
    /// `/server/api`.
    ServerApi,
    /// Anything else, unreadable requests included.
    Other,
}

/// Counters since the engine was created; `open_*` are the present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Start calls that named a content, whatever became of them.
    pub starts: u64,
    /// Stop commands for sessions that existed.
    pub stops: u64,
    /// Readers that got the head of a stream.
    pub playbacks: u64,
    /// Readers of streams now.
    pub open_readers: u64,
    /// Sessions now.
    pub open_sessions: u64,
    /// The most sessions there were at once; of several engines, the sum.
    pub peak_sessions: u64,
    /// Requests by the kind of their path.
    pub requests: BTreeMap<PathKind, u64>,
    /// Bytes of streams written, framing not counted.
    pub bytes: u64,
    /// By infohash, at most 10,000.
    pub per_content: BTreeMap<String, ContentCounters>,
    /// By infohash, and by pid (`address …` where none was given); at most
    /// 10,000 pairs.
    pub per_player: BTreeMap<String, BTreeMap<String, PlayerCounters>>,
    /// The longest time that a reader of a stream took nothing while there was
    /// something to take, in milliseconds.
    pub longest_read_gap_ms: u64,
    /// What clients should not do.
    pub misuse: Misuse,
}

/// Counters of one infohash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContentCounters {
    /// As [`Counters::starts`].
    pub starts: u64,
    /// As [`Counters::stops`].
    pub stops: u64,
    /// As [`Counters::playbacks`].
    pub playbacks: u64,
    /// As [`Counters::open_readers`].
    pub open_readers: u64,
}

/// Counters of one player of one content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlayerCounters {
    /// As [`Counters::starts`].
    pub starts: u64,
    /// As [`Counters::stops`].
    pub stops: u64,
    /// As [`Counters::playbacks`].
    pub playbacks: u64,
}

impl PlayerCounters {
    fn add(&mut self, other: Self) {
        self.starts += other.starts;
        self.stops += other.stops;
        self.playbacks += other.playbacks;
    }
}

/// What clients should not do towards an engine, and how often they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Misuse {
    /// Read the body of a redirect, or waited for its end.
    pub read_3xx_body: u64,
    /// Started without a pid.
    pub missing_pid: u64,
    /// Started with a pid used before on this engine.
    pub repeated_pid: u64,
    /// Sent HEAD.
    pub head: u64,
    /// Asked for a range.
    pub range: u64,
    /// Accepted gzip.
    pub gzip: u64,
    /// Read a session that has a reader.
    pub second_reader: u64,
    /// Started a content that already has a session here.
    pub start_while_playing: u64,
}

impl Counters {
    /// The counters of an infohash; a spare when there are too many.
    pub(crate) fn content<'a>(
        &'a mut self,
        infohash: &str,
        spare: &'a mut ContentCounters,
    ) -> &'a mut ContentCounters {
        if self.per_content.len() >= MAX_CONTENTS && !self.per_content.contains_key(infohash) {
            return spare;
        }
        self.per_content.entry(infohash.to_owned()).or_default()
    }

    /// Adds to the counters of a player of a content, unless there are too many.
    pub(crate) fn count_player(&mut self, infohash: &str, player: &str, more: PlayerCounters) {
        let known = self.per_player.get_mut(infohash).and_then(|players| players.get_mut(player));
        if let Some(counters) = known {
            counters.add(more);
        } else if self.per_player.values().map(BTreeMap::len).sum::<usize>() < MAX_PLAYERS {
            let players = self.per_player.entry(infohash.to_owned()).or_default();
            players.entry(player.to_owned()).or_default().add(more);
        }
    }

    /// Adds those of another engine.
    pub(crate) fn add(&mut self, other: &Self) {
        self.starts += other.starts;
        self.stops += other.stops;
        self.playbacks += other.playbacks;
        self.open_readers += other.open_readers;
        self.open_sessions += other.open_sessions;
        self.peak_sessions += other.peak_sessions;
        self.bytes += other.bytes;
        for (kind, n) in &other.requests {
            *self.requests.entry(*kind).or_default() += n;
        }
        for (infohash, c) in &other.per_content {
            let sum = self.per_content.entry(infohash.clone()).or_default();
            sum.starts += c.starts;
            sum.stops += c.stops;
            sum.playbacks += c.playbacks;
            sum.open_readers += c.open_readers;
        }
        for (infohash, players) in &other.per_player {
            let sums = self.per_player.entry(infohash.clone()).or_default();
            for (player, c) in players {
                sums.entry(player.clone()).or_default().add(*c);
            }
        }
        self.longest_read_gap_ms = self.longest_read_gap_ms.max(other.longest_read_gap_ms);
        let (m, o) = (&mut self.misuse, &other.misuse);
        m.read_3xx_body += o.read_3xx_body;
        m.missing_pid += o.missing_pid;
        m.repeated_pid += o.repeated_pid;
        m.head += o.head;
        m.range += o.range;
        m.gzip += o.gzip;
        m.second_reader += o.second_reader;
        m.start_while_playing += o.start_while_playing;
    }
}
