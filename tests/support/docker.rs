//! A real Docker Engine of the test's own, with the engine emulator as its
//! image, and what makes that Engine fail.
//!
//! | part | what it is |
//! | --- | --- |
//! | [`Dockerd`] | a daemon with its own storage, processes, bridges and control group |
//! | [`DockerProxy`] | a socket in front of the daemon's: counts requests, plays faults |
//! | [`Registry`] | where images are pulled from, with a password and at a chosen speed |
//! | [`Traces`] | what a daemon has on this machine, to see that nothing is left |
//! | [`Certs`] | an authority with a key for the daemon and one for its client |
//!
//! Each needs root and Debian's packages; see `.ci/setup`.

mod certs;
mod client;
mod daemon;
mod end;
mod http;
mod image;
mod network;
mod proxy;
mod registry;
mod relay;
mod traces;

pub(crate) use certs::Certs;
pub(crate) use client::Container;
pub(crate) use daemon::Dockerd;
pub(crate) use image::{IMAGE, emulator};
pub(crate) use network::free_port;
pub(crate) use proxy::{Act, Call, DockerProxy, Times};
pub(crate) use registry::Registry;
pub(crate) use traces::Traces;
