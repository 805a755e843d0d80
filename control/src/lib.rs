//! Fleet, probes, statistics and the API, on one tokio thread.
//!
//! In reading order: `turn` is the loop; `fleet` says which engines there are,
//! `engine` is the life of one and `engines` the table made of all lives;
//! `unit` is the life of a container that Millrace runs itself, `units` all of
//! them, `autoscale` how many there shall be, `template` what they run, and
//! `journal` what has
//! happened to them, and `learned` what is kept of their demand; `shards` is what goes to shards and what
//! they told, `orders` what they are asked once, `sessions` what they tell of
//! streams; `performance` is how long things take, `statistics` what engines cost their host; `connection` and `api`
//! answer people and tools.
#![forbid(unsafe_code)]

mod api;
mod autoscale;
mod connection;
mod crew;
mod engine;
mod engines;
mod fleet;
mod inbox;
mod journal;
mod learned;
mod metrics;
mod orders;
mod performance;
mod probe;
mod random;
mod sessions;
mod shards;
mod state;
mod statistics;
mod template;
mod turn;
mod unit;
mod units;

use std::{future::Future, net::SocketAddr, time::Duration};

use millrace_boundary::{FromShard, Inbox, Mailbox, Output, ToShard};

pub use fleet::docker::{
    DiskLook, DockerError, DockerLook, DockerTls, DockerUri, ENGINE_LABEL, PORT_LABEL, SOURCE_LABEL,
    TlsError, UnusableContainer, look_at_docker,
};

pub use api::admins::Subnet;
pub use turn::DISMISS_LIMIT;
pub use units::{
    CacheKind, Container, DockerFleet, FleetLook, Pull, Recycle, Scale, Tried, look_at_fleet, try_fleet,
};

/// One engine of a fixed fleet.
#[derive(Clone, Copy, Debug)]
pub struct NamedEngine {
    /// Where its HTTP API and media are.
    pub address: SocketAddr,
    /// How it is asked for streams, if it is not as others are.
    pub source: Option<Output>,
}

impl From<SocketAddr> for NamedEngine {
    fn from(address: SocketAddr) -> Self {
        Self { address, source: None }
    }
}

/// Where the engines come from.
#[derive(Clone, Debug)]
pub enum FleetConfig {
    /// A fixed fleet: these engines.
    Fixed(Vec<NamedEngine>),
    /// This many emulated engines in this process, for a first look and for tests.
    Emulated(u16),
    /// The containers of a Docker daemon that carry [`ENGINE_LABEL`]: those that
    /// Millrace makes, and those that others run.
    Docker(Box<DockerFleet>),
}

/// What the control thread is told at start: plain values, already checked.
#[derive(Debug)]
pub struct ControlConfig {
    /// The engines.
    pub fleet: FleetConfig,
    /// Streams that one engine may play at once; 1 to 20.
    pub engine_capacity: u32,
    /// Time between two probes of one engine.
    pub probe_interval: Duration,
    /// Who may change the fleet: peers in one of these networks.
    pub admins: Vec<Subnet>,
    /// The address that the shards listen on.
    pub address: SocketAddr,
    /// The way to each shard, in order.
    pub shards: Vec<Mailbox<ToShard>>,
    /// What the shards say.
    pub inbox: Inbox<FromShard>,
}

/// How many engines there are when the server is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// All of them.
    pub engines: usize,
    /// Those that take streams.
    pub engines_ready: usize,
}

/// Why the control thread could not run.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No descriptor, no thread, or the emulated fleet cannot listen.
    #[error("cannot start the control thread")]
    Start(#[source] std::io::Error),
}

/// Runs until `shutdown` completes, then drains every shard and returns, at
/// the latest `drain_limit` later. `ready` is called once, when the engine
/// table has been adopted by every shard and at least one probe round is over;
/// a round is waited for 3 s at most, adoption without a limit. `alive` is
/// called about once a second for as long as this loop turns and every shard
/// reports: for a watchdog.
///
/// # Errors
/// When the runtime or the emulated fleet cannot be made.
pub fn run(
    config: ControlConfig,
    drain_limit: Duration,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(Readiness),
    alive: impl FnMut(),
) -> Result<(), ControlError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ControlError::Start)?;
    let ended = runtime.block_on(async {
        let fleet = fleet::Fleet::start(&config.fleet).map_err(ControlError::Start)?;
        let control = turn::Control::new(config, fleet).map_err(ControlError::Start)?;
        control.run(drain_limit, shutdown, ready, alive).await;
        Ok(())
    });
    // Without waiting for a name server that is being asked for Docker's host.
    runtime.shutdown_background();
    ended
}
