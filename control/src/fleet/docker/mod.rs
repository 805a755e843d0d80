//! Engines that run as containers of a Docker daemon. `daemon`, `informer` and
//! `container` ask which there are; `hands` alone changes anything, and only
//! what carries our fleet's label.

mod address;
mod auth;
mod autopsy;
mod body;
mod classify;
mod container;
mod daemon;
mod disk;
mod error;
mod events;
mod hands;
mod image;
mod informer;
mod known;
mod labels;
mod logs;
mod look;
mod ports;
mod pull;
mod secrets;
mod spec;
mod tls;
mod uri;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub(crate) use informer::Informer;
#[cfg(test)]
pub(crate) use logs::Output;
pub(crate) use {
    container::{ContainerState, Seen},
    daemon::Daemon,
    events::{Fate, Hint},
    informer::Client,
};
pub use {
    disk::DiskLook,
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
/// How an engine is asked for streams, `ts` or `hls`; without it as the setting
/// says.
pub const SOURCE_LABEL: &str = "io.millrace.source";

/// Engines of one fleet at most. A daemon has trouble with fewer containers.
const MAX_ENGINES: usize = 1_000;

pub(crate) use {
    auth::{AuthError, Credentials, from_file as credentials},
    autopsy::HostLook,
    disk::look as look_at_disk,
    hands::{Fetched, Hands, Trial},
    image::{ImageRef, PullPolicy},
    known::ContainerId,
    labels::{FLEET_LABEL, FleetName, TRIAL_LABEL, marks},
    logs::LogLine,
    look::{Closely, look, look_within, until_done},
    ports::Ports,
    pull::Progress,
    spec::{Cache, EngineSpec, Limits, Network, Publish, SpecHash},
};
#[cfg(test)]
pub(crate) use {
    autopsy::Cgroup,
    container::Unusable,
    labels::{PORTS_LABEL, SPEC_LABEL},
};
