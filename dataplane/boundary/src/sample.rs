//! What shards count, once a second, for the control thread to add up.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Cause, EngineId, Epoch, ShardId, ViewerEnd};

/// How a shard waits for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring.
    Uring,
    /// epoll, where the kernel refuses io_uring.
    Epoll,
}

impl Driver {
    /// The word used in JSON, logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Counters since the shard started; they never fall.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed at once because the shard had as many as it may.
    pub connections_refused: u64,
    /// Requests parsed.
    pub requests: u64,
    /// Requests refused as malformed, too large or too slow.
    pub bad_requests: u64,
    /// Viewers that got a picture.
    pub viewers_started: u64,
    /// Viewers that got headers and filler because their stream took long to
    /// start.
    pub viewers_humoured: u64,
    /// Viewers that ended, by [`ViewerEnd::index`].
    pub viewers_ended: [u64; ViewerEnd::ALL.len()],
    /// Requests for a stream answered with a refusal, by [`Cause::index`].
    pub refusals: [u64; Cause::ALL.len()],
    /// Streams begun by this shard.
    pub streams_started: u64,
    /// Streams ended by this shard, by [`Cause::index`].
    pub streams_ended: [u64; Cause::ALL.len()],
    /// Engine sessions asked for.
    pub engine_starts: u64,
    /// Engine sessions told to stop.
    pub engine_stops: u64,
    /// Requests for playlists and media segments of engines that were answered, or
    /// were not in time.
    pub hls_requests: u64,
    /// Of these, those over a connection that was used before.
    pub hls_reused: u64,
    /// Media segments asked for, second attempts included, that came or failed.
    pub hls_fetches: u64,
    /// Of these, those that failed.
    pub hls_fetches_failed: u64,
    /// Media segments given up.
    pub hls_skipped: u64,
    /// Places where the next media segment does not follow, as an engine's
    /// playlist tells or because others are missing.
    pub hls_breaks: u64,
    /// Bytes read from engines, framing included.
    pub ingress_bytes: u64,
    /// Transport stream bytes handed to viewers' sockets.
    pub egress_bytes: u64,
    /// Bytes from engines skipped while searching for packet alignment.
    pub skipped_bytes: u64,
    /// Continuity counter errors met in what engines sent.
    pub continuity_errors: u64,
    /// Viewers moved to a newer join point because they fell out of the window.
    pub laps: u64,
    /// Messages not delivered because the receiver's queue was full.
    pub messages_lost: u64,
}

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// Choosing and asking engines; nothing to show yet.
    Starting,
    /// Waiting for a slot: every engine is full, or none is usable, and the
    /// fleet grows.
    Queued,
    /// Bytes flow.
    Live,
    /// The engine is silent; another one is being asked.
    Stalled,
    /// The engine is lost; another one is being asked.
    FailingOver,
    /// No viewer left; kept for one who returns.
    Lingering,
}

impl StreamState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Queued, Self::Live, Self::Stalled, Self::FailingOver, Self::Lingering];

    /// The word used in JSON and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Queued => "queued",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::FailingOver => "failing_over",
            Self::Lingering => "lingering",
        }
    }
}

/// One stream, as its owner shard sees it.
#[derive(Clone, Debug, Serialize)]
pub struct StreamSample {
    /// Id of this session, 16 hex digits; in the log too.
    pub session: String,
    /// The key the first viewer asked for: `id:<hex>`, `infohash:<hex>`, …
    pub key: String,
    /// The swarm, once an engine has named it.
    pub infohash: Option<String>,
    /// Where it is in its life.
    pub state: StreamState,
    /// The engine that plays it.
    pub engine: Option<EngineId>,
    /// Engines asked or read for it now.
    pub sources: u32,
    /// What is held against its engine now: `starving` or `looping`.
    pub verdict: Option<&'static str>,
    /// The shard that reads it.
    pub shard: ShardId,
    /// Viewers, waiting ones included, over all shards.
    pub viewers: u32,
    /// Seconds since the first viewer asked.
    pub age_seconds: f64,
    /// From the first request to the first byte of the engine.
    pub first_byte_seconds: Option<f64>,
    /// Bit rate over the last second.
    pub bitrate_bps: u64,
    /// Bytes of its packets since it began.
    pub ingress_bytes: u64,
    /// Bytes sent to viewers; behind by up to a second.
    pub egress_bytes: u64,
    /// Bytes kept for viewers to join and to lag in.
    pub window_bytes: u64,
    /// Bytes skipped while searching for packet alignment.
    pub skipped_bytes: u64,
    /// Continuity counter errors in what the engine sent.
    pub continuity_errors: u64,
    /// Times that its clock jumped without a word, and a discontinuity was
    /// signalled to viewers.
    pub clock_jumps: u64,
    /// Peers of the swarm, as the engine says.
    pub peers: Option<u32>,
    /// From the swarm, as the engine says, in KiB/s.
    pub speed_down_kib: Option<u32>,
    /// To the swarm, as the engine says, in KiB/s.
    pub speed_up_kib: Option<u32>,
    /// From the swarm, as the engine says, in bytes.
    pub downloaded_bytes: Option<u64>,
    /// To the swarm, as the engine says, in bytes.
    pub uploaded_bytes: Option<u64>,
    /// The engine's play position, in seconds since 1970.
    pub position_unix: Option<u64>,
    /// The broadcast's newest position, in seconds since 1970.
    pub live_last_unix: Option<u64>,
}

/// A content that is not tried now because it failed.
#[derive(Clone, Debug, Serialize)]
pub struct BlockedContent {
    /// Its key, for people.
    pub key: String,
    /// What it failed with last.
    pub cause: Cause,
    /// Until it is tried again, in seconds.
    pub seconds_left: f64,
    /// Sessions in a row that came to nothing.
    pub failed_sessions: u32,
}

/// All that a shard tells about itself, once a second.
#[derive(Clone, Debug)]
pub struct ShardSample {
    /// Who.
    pub shard: ShardId,
    /// How it waits.
    pub driver: Driver,
    /// The engine table in use.
    pub epoch: Epoch,
    /// Counters since start.
    pub counters: Counters,
    /// Connections open now, viewers included, those handed over not.
    pub connections_open: u64,
    /// Viewers being sent to now.
    pub viewers: u64,
    /// Viewers that wait for the first byte.
    pub viewers_waiting: u64,
    /// Streams it owns that wait for a slot.
    pub waiting: u32,
    /// The streams it owns; at most 1,000 are named.
    pub streams: Vec<StreamSample>,
    /// Contents that rest after failures; at most 100 are named.
    pub blocked: Vec<BlockedContent>,
    /// Memory in segments of the streams it owns, those included that HLS players
    /// may still ask for, in bytes.
    pub segment_bytes: u64,
    /// How late viewers were visited after their time, in microseconds.
    pub lateness_us: Histogram<u64>,
    /// From a request to the first byte handed to the socket, for streams that
    /// were already live, in microseconds.
    pub warm_join_us: Histogram<u64>,
    /// The same for viewers that waited for a stream to start.
    pub cold_join_us: Histogram<u64>,
}

/// An empty histogram of microseconds: 1 µs to 2 min at two digits, about
/// 23 KiB.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    let mut h = Histogram::new_with_bounds(1, 120_000_000, 2).expect("constant bounds are valid");
    h.auto(false);
    h
}
