//! Engines that run as containers of a Docker daemon. Nothing here creates,
//! starts, stops or removes one: Docker is asked, never told.

mod container;
mod daemon;
mod error;
mod informer;
mod uri;

#[cfg(test)]
mod tests;

pub(crate) use informer::Informer;
pub use {
    daemon::{DockerLook, UnusableContainer, look_at_docker},
    error::DockerError,
    uri::DockerUri,
};

/// A running container with this label, set to `true`, is an engine of ours.
pub const ENGINE_LABEL: &str = "io.millrace.engine";

/// The label with the port of the engine's HTTP API inside the container,
/// 6878 without it.
pub const PORT_LABEL: &str = "io.millrace.port";

/// Engines of one fleet at most. A daemon has trouble with fewer containers.
const MAX_ENGINES: usize = 1_000;
