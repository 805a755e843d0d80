//! Every setting there is: its place, its meaning, what is allowed, and its
//! default.

pub(crate) mod docker;

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use millrace_boundary::Output;
use millrace_control::{DockerUri, Subnet};
use millrace_dataplane::{HlsConfig, PlayerRule, StreamConfig, ViewerConfig};

use super::kinds::{Bytes, Congestion, Cores, EngineUrl, Given, Kind, LogFormat, OneOf};

/// One setting.
pub(crate) struct Key<K: Kind> {
    /// `table.key` in TOML; [`variable`] of it in the environment.
    path: &'static str,
    /// What it does, for the operator; a line of the example file per line.
    about: &'static str,
    range: K::Range,
    default: fn() -> K,
}

impl<K: Kind> Key<K> {
    /// The value, or none when it may not stand here.
    pub(crate) fn read(&self, given: &Given) -> Option<K> {
        K::read(given, &self.range)
    }

    /// The value when nobody sets one.
    pub(crate) fn default(&self) -> K {
        (self.default)()
    }
}

/// A setting of any kind.
pub(crate) trait AnyKey: Sync {
    /// `table.key`.
    fn path(&self) -> &'static str;
    /// What it does.
    fn about(&self) -> &'static str;
    /// What is allowed, for people.
    fn allowed(&self) -> String;
    /// The value as TOML: what was given, or else the default; none when what
    /// was given may not stand here.
    fn to_toml(&self, given: Option<&Given>) -> Option<String>;
}

impl<K: Kind> AnyKey for Key<K> {
    fn path(&self) -> &'static str {
        self.path
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn allowed(&self) -> String {
        K::allowed(&self.range)
    }

    fn to_toml(&self, given: Option<&Given>) -> Option<String> {
        let value = match given {
            Some(given) => self.read(given)?,
            None => self.default(),
        };
        Some(value.to_toml())
    }
}

/// The environment variable of a setting: `streams.linger` is
/// `MILLRACE_STREAMS_LINGER`.
pub(crate) fn variable(path: &str) -> String {
    format!("MILLRACE_{}", path.replace('.', "_").to_ascii_uppercase())
}

const fn seconds(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

const fn size(from: u64, to: u64) -> RangeInclusive<Bytes> {
    Bytes(from)..=Bytes(to)
}

/// Every setting, in the order in which they are printed.
pub(crate) const KEYS: &[&dyn AnyKey] = &[
    &LISTEN,
    &CPUS,
    &DATA_DIR,
    &LOG,
    &ADMINS,
    &URLS,
    &EMULATE,
    &DOCKER,
    &CAPACITY,
    &PROBE_INTERVAL,
    &docker::FLEET_MIN,
    &docker::FLEET_MAX,
    &docker::FLEET_SPARE,
    &docker::FLEET_PAUSED,
    &docker::FLEET_MANUAL,
    &docker::FLEET_COOLDOWN,
    &docker::FLEET_MIN_LIFE,
    &docker::FLEET_SUSTAINED,
    &docker::FLEET_SURPLUS,
    &docker::FLEET_STEP_UP,
    &docker::FLEET_STEP_DOWN,
    &docker::FLEET_STARTS,
    &docker::FLEET_FORECAST,
    &docker::FLEET_BREAKER_FAILURES,
    &docker::FLEET_BREAKER_PAUSE,
    &docker::FLEET_BOOT,
    &docker::FLEET_DRAIN,
    &docker::FLEET_MAX_AGE,
    &docker::FLEET_MAX_SESSIONS,
    &docker::FLEET_MAX_MEMORY,
    &docker::FLEET_MAX_CPU,
    &docker::FLEET_MAX_PIDS,
    &docker::FLEET_MAX_DISK,
    &docker::DOCKER_NAME,
    &docker::DOCKER_TLS,
    &docker::DOCKER_TEMPLATE,
    &docker::DOCKER_IMAGE,
    &docker::DOCKER_PULL,
    &docker::DOCKER_PULL_LIMIT,
    &docker::DOCKER_AUTH,
    &docker::DOCKER_MEMORY,
    &docker::DOCKER_CPU,
    &docker::DOCKER_PIDS,
    &docker::DOCKER_NOFILE,
    &docker::DOCKER_LOG_SIZE,
    &docker::DOCKER_LOG_FILES,
    &docker::DOCKER_CACHE,
    &docker::DOCKER_CACHE_SIZE,
    &docker::DOCKER_NETWORK,
    &docker::DOCKER_PUBLISH,
    &docker::DOCKER_PORTS,
    &docker::DOCKER_LABEL,
    &docker::DOCKER_GRACE,
    &docker::DOCKER_KEEP,
    &SOURCE,
    &START_BUDGET,
    &LONGEST_START,
    &LINGER,
    &STALL_AFTER,
    &SILENCE_LIMIT,
    &STANDBY_VIEWERS,
    &WINDOW,
    &WINDOW_BYTES,
    &MEMORY,
    &MAX_STREAMS,
    &PRIVATE_URLS,
    &SEGMENT,
    &TARGET_DURATION,
    &PART,
    &HLS_WINDOW,
    &HLS_WINDOW_BYTES,
    &PREBUFFER,
    &HEADERS_AFTER,
    &PLAYERS,
    &STALL_LIMIT,
    &MAX_LAPS,
    &MAX_VIEWERS,
    &SEND_BUFFER,
    &UNSENT_LIMIT,
    &CONGESTION,
];

pub(crate) const LISTEN: Key<SocketAddr> = Key {
    path: "server.listen",
    about: "Address and port for players, tools and monitoring alike.",
    range: (),
    default: || ([0, 0, 0, 0], 8000).into(),
};

pub(crate) const CPUS: Key<Cores> = Key {
    path: "server.cpus",
    about: "Cores to run on: one shard is pinned to each.\n\
            \"all\" means every core that the process may run on.",
    range: (),
    default: || Cores::All,
};

pub(crate) const DATA_DIR: Key<Option<PathBuf>> = Key {
    path: "server.data_dir",
    about: "Directory for state that outlives the process. Templates and what was learned\n\
            of the demand are kept in it;\n\
            `millrace check` proves that it can be written.",
    range: (),
    default: || None,
};

pub(crate) const LOG: Key<LogFormat> = Key {
    path: "server.log",
    about: "How log lines look. They go to standard error; the variable MILLRACE_LOG\n\
            (or else RUST_LOG) sets what is logged, such as \"debug\" or \"millrace_control=debug,info\".",
    range: (),
    default: || LogFormat::Text,
};

pub(crate) const ADMINS: Key<Vec<Subnet>> = Key {
    path: "server.admins",
    about: "Who may change the fleet over the API, and read engines' logs and templates' secrets:\n\
            addresses and networks, compared with the peer's own address. A request that has come\n\
            by way of a proxy is never an administrator's. Templates run programs on Docker's\n\
            host, and there is no password: name only whom you would let in there. 0.0.0.0/0 and\n\
            ::/0 are everybody. In the environment they are separated by commas.",
    range: (),
    default: || Subnet::LOCAL.into(),
};

pub(crate) const URLS: Key<Vec<EngineUrl>> = Key {
    path: "engines.urls",
    about: "The engines. Names are resolved once, at start. One with ?source=hls or ?source=ts\n\
            behind it is asked for streams in this way, whatever streams.source says.\n\
            In the environment the URLs are separated by commas.",
    range: (),
    default: Vec::new,
};

pub(crate) const EMULATE: Key<u32> = Key {
    path: "engines.emulate",
    about: "Emulated engines in this process instead of real ones, for a first look and for\n\
            tests. 0 means none, or 2 when there are no others. Of engines.urls, engines.emulate\n\
            and engines.docker the one from the strongest source counts; two from one source are\n\
            an error.",
    range: 0..=500,
    default: || 0,
};

pub(crate) const DOCKER: Key<Option<DockerUri>> = Key {
    path: "engines.docker",
    about: "The Docker daemon whose running containers with the label io.millrace.engine=true are\n\
            the engines, as they come and go. The label io.millrace.port is the port of an engine's\n\
            API, 6878 without it; io.millrace.source is ts or hls where it is not to be asked as\n\
            streams.source says. When no engines are set at all, the daemon of DOCKER_HOST, or else\n\
            of /var/run/docker.sock, is used if it answers within 1s and runs such a container.",
    range: (),
    default: || None,
};

pub(crate) const CAPACITY: Key<u32> = Key {
    path: "engines.capacity",
    about: "Streams that one engine may play at once. One that is seen to end a stream when another \
            begins gets only as many as it bears.",
    range: 1..=20,
    default: || 3,
};

pub(crate) const PROBE_INTERVAL: Key<Duration> = Key {
    path: "engines.probe_interval",
    about: "Time between two health probes of one engine.",
    range: Duration::from_millis(500)..=Duration::from_secs(300),
    default: || Duration::from_secs(5),
};

pub(crate) const SOURCE: Key<OneOf<Output>> = Key {
    path: "streams.source",
    about: "How engines are asked to hand streams out: as one transport stream each, or as a\n\
            playlist of media segments. What an engine's URL or its container's label\n\
            io.millrace.source says is stronger, and the parameter source= of the request that\n\
            begins a stream is strongest.",
    range: (),
    default: || OneOf(StreamConfig::default().source),
};

pub(crate) const START_BUDGET: Key<Duration> = Key {
    path: "streams.start_budget",
    about: "From the first request to the first playable byte, over all engines tried.",
    range: seconds(1, 300),
    default: || StreamConfig::default().start_budget,
};

pub(crate) const LONGEST_START: Key<Duration> = Key {
    path: "streams.longest_start",
    about: "The same while an engine proves that it gets somewhere, as a cold swarm may take a\n\
            minute, or while the stream waits for an engine that is being made.\n\
            Counts where it is longer than streams.start_budget.",
    range: seconds(1, 600),
    default: || StreamConfig::default().longest_start,
};

pub(crate) const STALL_AFTER: Key<Duration> = Key {
    path: "streams.stall_after",
    about: "A running stream that is silent for this long is stalled: another engine is asked\n\
            beside the silent one, and whichever delivers first goes on.",
    range: seconds(1, 60),
    default: || StreamConfig::default().stall_after,
};

pub(crate) const STANDBY_VIEWERS: Key<u32> = Key {
    path: "streams.standby_viewers",
    about: "A stream with more viewers than this has a second engine read along, so that the loss\n\
            of the first costs nothing. 0 means none. Takes spare engines only.",
    range: 0..=1_000_000,
    default: || StreamConfig::default().standby_viewers,
};

pub(crate) const LINGER: Key<Duration> = Key {
    path: "streams.linger",
    about: "How long a stream without viewers is kept for one who returns.",
    range: seconds(0, 86_400),
    default: || StreamConfig::default().linger,
};

pub(crate) const SILENCE_LIMIT: Key<Duration> = Key {
    path: "streams.silence_limit",
    about: "A running stream that is silent for this long has ended.",
    range: seconds(1, 3_600),
    default: || StreamConfig::default().silence_limit,
};

pub(crate) const WINDOW: Key<Duration> = Key {
    path: "streams.window",
    about: "What is kept of a stream for viewers to join and to lag in, in stream time.\n\
            Longer than viewers.prebuffer.",
    range: seconds(2, 600),
    default: || StreamConfig::default().window,
};

pub(crate) const WINDOW_BYTES: Key<Bytes> = Key {
    path: "streams.window_bytes",
    about: "The same in memory: the window of one stream never takes more.",
    range: size(1 << 20, 4 << 30),
    default: || Bytes(StreamConfig::default().window_bytes),
};

pub(crate) const MEMORY: Key<Bytes> = Key {
    path: "streams.memory",
    about: "What all of them take together, HLS segments included: beyond that each keeps an\n\
            equal share, of 16 MiB at least. \"0B\" for half of what the process may use.",
    range: size(0, 1 << 44),
    default: || Bytes(0),
};

pub(crate) const MAX_STREAMS: Key<u32> = Key {
    path: "streams.max_streams",
    about: "Streams at once, over all shards.",
    range: 1..=100_000,
    default: || StreamConfig::default().max_streams,
};

pub(crate) const PRIVATE_URLS: Key<bool> = Key {
    path: "streams.private_urls",
    about: "Whether transport file and direct URLs in requests may point at loopback, private\n\
            and link-local addresses. Only for networks whose every player is trusted.",
    range: (),
    default: || StreamConfig::default().private_urls,
};

pub(crate) const SEGMENT: Key<Duration> = Key {
    path: "hls.segment",
    about: "A media segment ends at the random access point nearest to this. Not longer than\n\
            hls.target_duration.",
    range: seconds(1, 20),
    default: || HlsConfig::default().segment,
};

pub(crate) const TARGET_DURATION: Key<Duration> = Key {
    path: "hls.target_duration",
    about: "No media segment is longer than this, rounded up to whole seconds, unless a stream's\n\
            first ones show that its random access points are further apart. Players begin three\n\
            target durations behind the newest segment.",
    range: seconds(2, 20),
    default: || HlsConfig::default().longest,
};

pub(crate) const PART: Key<Duration> = Key {
    path: "hls.part",
    about: "Length of a partial segment at most, for players that can follow more closely:\n\
            they begin three parts behind. Not longer than hls.segment; 0 for none.",
    range: seconds(0, 5),
    default: || HlsConfig::default().part,
};

pub(crate) const HLS_WINDOW: Key<Duration> = Key {
    path: "hls.window",
    about: "What a media playlist lasts at least, once there is so much; six segments in any\n\
            case. What has left it is kept for as long again while there are HLS viewers.",
    range: seconds(6, 600),
    default: || HlsConfig::default().window,
};

pub(crate) const HLS_WINDOW_BYTES: Key<Bytes> = Key {
    path: "hls.window_bytes",
    about: "The same in memory, those segments included that have left the list and may still\n\
            be asked for: with less than they take, players may miss some.",
    range: size(1 << 20, 4 << 30),
    default: || Bytes(HlsConfig::default().window_bytes),
};

pub(crate) const PREBUFFER: Key<Duration> = Key {
    path: "viewers.prebuffer",
    about: "How far behind the newest byte a viewer joins, in stream time: its cushion\n\
            against a swarm that hesitates.",
    range: seconds(0, 60),
    default: || ViewerConfig::default().prebuffer,
};

pub(crate) const HEADERS_AFTER: Key<Duration> = Key {
    path: "viewers.headers_after",
    about: "A viewer of a stream that has yet to start gets headers after this long, and filler\n\
            from then on, so that it does not give up. A stream that then fails can only close\n\
            the connection. Players known to be patient, and tools, wait for a real status instead.",
    range: Duration::ZERO..=Duration::from_secs(60),
    default: || ViewerConfig::default().headers_after,
};

pub(crate) const PLAYERS: Key<Vec<PlayerRule>> = Key {
    path: "viewers.players",
    about: "The same by player, before the built-in table: a part of the User-Agent, and seconds,\n\
            or \"status\" for a real status in any case. The parameter wait= of a request is stronger.\n\
            In the environment the rules are separated by commas.",
    range: (),
    default: Vec::new,
};

pub(crate) const STALL_LIMIT: Key<Duration> = Key {
    path: "viewers.stall_limit",
    about: "A viewer that takes nothing for this long is closed.",
    range: seconds(1, 3_600),
    default: || ViewerConfig::default().stall_limit,
};

pub(crate) const MAX_LAPS: Key<u32> = Key {
    path: "viewers.max_laps",
    about: "A viewer that fell out of the window this many times is closed.",
    range: 1..=1_000,
    default: || ViewerConfig::default().max_laps,
};

pub(crate) const MAX_VIEWERS: Key<u32> = Key {
    path: "viewers.max",
    about: "Viewers at once, waiting ones included, over all shards.",
    range: 1..=1_000_000,
    default: || ViewerConfig::default().max_viewers,
};

pub(crate) const SEND_BUFFER: Key<Bytes> = Key {
    path: "viewers.send_buffer",
    about: "The kernel's send buffer of each connection (SO_SNDBUF). The kernel grants at most\n\
            net.core.wmem_max.",
    range: size(16 << 10, 16 << 20),
    default: || Bytes(ViewerConfig::default().send_buffer.into()),
};

pub(crate) const UNSENT_LIMIT: Key<Bytes> = Key {
    path: "viewers.unsent_limit",
    about: "How much of it may wait unsent before a connection counts as full\n\
            (TCP_NOTSENT_LOWAT), and so nearly all that a stalled viewer holds.\n\
            At most viewers.send_buffer.",
    range: size(4 << 10, 16 << 20),
    default: || Bytes(ViewerConfig::default().unsent_limit.into()),
};

pub(crate) const CONGESTION: Key<Congestion> = Key {
    path: "viewers.congestion",
    about: "The kernel's congestion control for each connection (TCP_CONGESTION).\n\
            net.ipv4.tcp_available_congestion_control lists what it offers, and\n\
            net.ipv4.tcp_allowed_congestion_control what of that to others than root.",
    range: (),
    default: || Congestion(ViewerConfig::default().congestion),
};
