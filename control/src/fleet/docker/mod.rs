//! Engines that run as containers of a Docker daemon. What is here asks
//! Docker which there are and what becomes of them.
#![cfg_attr(not(test), expect(dead_code, reason = "wired with the units"))]

mod address;
mod container;
mod daemon;
mod error;
mod events;
mod informer;
mod look;
mod tls;
mod uri;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub(crate) use informer::Informer;
#[allow(unused_imports, reason = "wired with the units")]
pub(crate) use {
    container::{ContainerState, Seen, Unusable},
    daemon::Daemon,
    events::{Fate, Hint},
    informer::Client,
};
pub use {
    error::DockerError,
    look::{DockerLook, UnusableContainer, look_at_docker},
    tls::{DockerTls, TlsError},
    uri::DockerUri,
};

/// A container with this label, set to `true`, is an engine of ours.
pub const ENGINE_LABEL: &str = "io.millrace.engine";

/// The label with the port of the engine's HTTP API inside the container,
/// 6878 without it.
pub const PORT_LABEL: &str = "io.millrace.port";

/// Engines of one fleet at most. A daemon has trouble with fewer containers.
const MAX_ENGINES: usize = 1_000;
