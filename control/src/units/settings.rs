//! What the operator wants of a fleet in Docker.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use crate::fleet::docker::{DockerUri, PullPolicy};

/// A fleet of containers that Millrace makes, watches and takes away; plain
/// values, already checked.
#[derive(Clone, Debug)]
pub struct DockerFleet {
    /// The daemon.
    pub uri: DockerUri,
    /// The fleet's name, in the label of each of its containers: of two servers
    /// that use one daemon each needs its own.
    pub name: String,
    /// What makes the engines of this fleet.
    pub scale: Scale,
    /// What an engine's container is given.
    pub container: Container,
    /// When an engine is replaced.
    pub recycle: Recycle,
    /// Where templates of one's own are stored; nowhere without a directory.
    pub data_dir: Option<PathBuf>,
    /// Whether the containers go on when the server ends.
    pub keep_engines: bool,
}

/// How many engines there shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Engines at least.
    pub min: usize,
    /// Engines at most, in whatever state; 0 makes none, and leaves those that
    /// others run.
    pub max: usize,
    /// Free slots kept beyond those taken.
    pub spare_slots: u32,
    /// Engines kept frozen beyond those that run.
    pub paused: usize,
    /// Exactly so many instead, without a policy.
    pub manual: Option<usize>,
    /// Between a step of any direction and a step down.
    pub cooldown: Duration,
    /// None younger is taken away.
    pub min_life: Duration,
    /// Lack of spare slots that stands for this long adds engines.
    pub sustained: Duration,
    /// A surplus that stands for this long takes one away.
    pub surplus: Duration,
    /// Engines added at once for spare slots.
    pub step_up: usize,
    /// Engines taken away at once.
    pub step_down: usize,
    /// Containers made in a minute, at most.
    pub starts_per_minute: u32,
    /// Whether the demand of the same hour in earlier weeks counts.
    pub forecast: bool,
    /// Failures after which none is made for a while.
    pub breaker_failures: u32,
    /// The longest such while.
    pub breaker_pause: Duration,
}

/// What an engine's container is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The template's name; the one activated last, when empty.
    pub template: String,
    /// The image, instead of the template's.
    pub image: Option<String>,
    /// When the image is pulled.
    pub pull: Pull,
    /// How long a pull may take.
    pub pull_limit: Duration,
    /// Docker's file of credentials for registries.
    pub auth_file: Option<PathBuf>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a core.
    pub milli_cpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Open descriptors.
    pub nofile: Option<u64>,
    /// Bytes of one log file.
    pub log_bytes: u64,
    /// Log files.
    pub log_files: u32,
    /// Where the engine's disk cache is kept.
    pub cache: CacheKind,
    /// Bytes of it where it is in memory.
    pub cache_bytes: u64,
    /// `bridge`, `host`, `container:NAME`, or the name of a network.
    pub network: String,
    /// The host's address that ports are published on.
    pub publish_on: IpAddr,
    /// The host's ports for engines.
    pub ports: RangeInclusive<u16>,
    /// A label `KEY=VALUE` for tools of the predecessor.
    pub predecessor_label: Option<(String, String)>,
    /// For a container to end by itself when it is stopped.
    pub stop_grace: Duration,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// When there is none.
    Missing,
    /// Once at each start, and when templates change.
    Always,
    /// Never.
    Never,
}

impl Pull {
    /// What is done where nobody asks for more.
    pub(super) const fn policy(self) -> PullPolicy {
        match self {
            Self::Missing => PullPolicy::Missing,
            Self::Always => PullPolicy::Always,
            Self::Never => PullPolicy::Never,
        }
    }
}

/// Where an engine's disk cache is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// In the container's own layer.
    Layer,
    /// In memory.
    Tmpfs,
    /// In a volume that goes with the container.
    Volume,
}

/// When an engine is replaced; zero is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recycle {
    /// From the start of its container until it answers.
    pub boot_limit: Duration,
    /// For its streams to move.
    pub drain_limit: Duration,
    /// Its age.
    pub max_age: Duration,
    /// Sessions that it has played.
    pub max_sessions: u64,
    /// Its memory, in percent of its limit.
    pub max_memory_percent: u32,
    /// Its CPU, in percent of one core.
    pub max_cpu_percent: u32,
    /// Its processes and threads, in percent of their limit.
    pub max_pids_percent: u32,
    /// Bytes it has written to its layer.
    pub max_disk: u64,
}
