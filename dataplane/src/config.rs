//! What the data plane is told at start: plain values, already checked.

use std::{net::SocketAddr, time::Duration};

use millrace_boundary::Output;

use crate::http::players::PlayerRule;

/// Settings of every shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; each shard has its own listener on it (`SO_REUSEPORT`).
    pub listen: SocketAddr,
    /// What a stream may take.
    pub stream: StreamConfig,
    /// What a viewer may take.
    pub viewer: ViewerConfig,
    /// How streams are cut into media segments.
    pub hls: HlsConfig,
}

/// Settings of a stream.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// How engines are asked for streams whose first viewer does not say.
    pub source: Output,
    /// From the first request to the first playable byte, over all engines
    /// tried.
    pub start_budget: Duration,
    /// The same while an engine proves that it gets somewhere, or the stream waits
    /// for one that is being made.
    pub longest_start: Duration,
    /// A running stream that is silent for this long is stalled: another engine
    /// is asked beside the one that is silent.
    pub stall_after: Duration,
    /// A stream with more viewers than this has a second engine read along;
    /// 0 for none.
    pub standby_viewers: u32,
    /// How long a stream without viewers is kept for one who returns.
    pub linger: Duration,
    /// A running stream that is silent for this long has ended.
    pub silence_limit: Duration,
    /// Length of the window: what is kept for viewers to join and to lag in.
    pub window: Duration,
    /// The window's limit in bytes, for one stream.
    pub window_bytes: u64,
    /// What all windows and media segments take together, in bytes.
    pub memory: u64,
    /// Streams at once, over all shards.
    pub max_streams: u32,
    /// Whether transport file and direct URLs may point at loopback, private
    /// and link-local addresses.
    pub private_urls: bool,
}

/// Settings of HLS.
#[derive(Clone, Debug)]
pub struct HlsConfig {
    /// A media segment ends at the random access point nearest to this.
    pub segment: Duration,
    /// The target duration, in whole seconds: no media segment is longer, unless
    /// a stream's first ones show that its random access points are further
    /// apart.
    pub longest: Duration,
    /// Length of a partial segment at most; zero for none.
    pub part: Duration,
    /// What a playlist lasts at least, once there is so much; six segments in
    /// any case.
    pub window: Duration,
    /// What the media segments of one stream take at most, those included that have
    /// left its playlist and may still be asked for, in bytes.
    pub window_bytes: u64,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(4),
            longest: Duration::from_secs(6),
            part: Duration::from_secs(1),
            window: Duration::from_secs(24),
            window_bytes: 256 << 20,
        }
    }
}

/// Settings of a viewer.
#[derive(Clone, Debug)]
pub struct ViewerConfig {
    /// How far behind the newest byte a viewer joins, in stream time.
    pub prebuffer: Duration,
    /// A viewer of a stream that has yet to start gets headers after this long,
    /// and filler from then on, unless a rule for its player says otherwise.
    pub headers_after: Duration,
    /// Rules for players, before those of the built-in table.
    pub players: Vec<PlayerRule>,
    /// A viewer that takes nothing for this long is closed.
    pub stall_limit: Duration,
    /// A viewer that fell out of the window this many times is closed.
    pub max_laps: u32,
    /// Viewers at once, waiting ones included, over all shards.
    pub max_viewers: u32,
    /// `SO_SNDBUF` of each connection, in bytes.
    pub send_buffer: u32,
    /// Bytes that may wait unsent in each connection: the kernel reports room from
    /// half of it on (`TCP_NOTSENT_LOWAT`).
    pub unsent_limit: u32,
    /// `TCP_CONGESTION` of each connection; none is the kernel's default.
    pub congestion: Option<String>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            source: Output::Ts,
            start_budget: Duration::from_secs(30),
            longest_start: Duration::from_secs(90),
            stall_after: Duration::from_secs(3),
            standby_viewers: 0,
            linger: Duration::from_secs(15),
            silence_limit: Duration::from_secs(90),
            window: Duration::from_secs(30),
            window_bytes: 64 << 20,
            memory: 4 << 30,
            max_streams: 1_000,
            private_urls: false,
        }
    }
}

impl Default for ViewerConfig {
    fn default() -> Self {
        Self {
            prebuffer: Duration::from_secs(3),
            headers_after: Duration::from_millis(2_500),
            players: Vec::new(),
            stall_limit: Duration::from_secs(20),
            max_laps: 5,
            max_viewers: 20_000,
            send_buffer: 256 << 10,
            // With it a viewer that stalls alone takes 40 to 50 KiB; larger ones
            // save a fast viewer nothing.
            unsent_limit: 32 << 10,
            congestion: None,
        }
    }
}
