//! Engines that run as containers of a Docker daemon. `daemon`, `informer` and
//! `container` ask which there are; `hands` alone changes anything, and only
//! what carries our fleet's label.

pub(crate) mod auth;
pub(crate) mod body;
mod classify;
mod container;
mod daemon;
mod error;
pub(crate) mod hands;
pub(crate) mod image;
mod informer;
pub(crate) mod known;
pub(crate) mod labels;
pub(crate) mod logs;
pub(crate) mod look;
pub(crate) mod ports;
pub(crate) mod pull;
mod secrets;
pub(crate) mod spec;
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
