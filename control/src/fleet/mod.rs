//! Where engines come from.

pub(crate) mod docker;

use std::{future::pending, io, net::SocketAddr, sync::Arc};

use millrace_emulator::{Emulator, EmulatorConfig, Timing};

use millrace_boundary::Output;

use crate::{FleetConfig, NamedEngine};
use docker::Informer;

/// One engine of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Who: a container's id, or the address of an engine that has none.
    pub(crate) identity: Arc<str>,
    /// For people.
    pub(crate) name: Arc<str>,
    /// Where its HTTP API and media are.
    pub(crate) address: SocketAddr,
    /// How it is asked for streams, if it is not as others are.
    pub(crate) source: Option<Output>,
}

/// The fleet, and whatever keeps it running.
#[derive(Debug)]
pub(crate) enum Fleet {
    /// Engines that somebody else runs.
    Fixed(Vec<NamedEngine>),
    /// Engines of this process; they end when this is dropped.
    Emulated(Emulator),
    /// Containers, as they come and go.
    Docker(Informer),
}

impl Fleet {
    /// Starts what has to be started, on the runtime it will run on.
    ///
    /// # Errors
    /// When the emulated engines cannot listen.
    pub(crate) fn start(config: &FleetConfig) -> io::Result<Self> {
        match config {
            FleetConfig::Fixed(engines) => Ok(Self::Fixed(engines.clone())),
            FleetConfig::Emulated(count) => {
                // A first look should not take as long as a cold swarm does.
                let timing = Timing::fast();
                let config = EmulatorConfig { engines: *count, timing, ..EmulatorConfig::default() };
                Emulator::start(config).map(Self::Emulated).map_err(io::Error::other)
            }
            FleetConfig::Docker(fleet) => Ok(Self::Docker(Informer::start(fleet.uri.clone()))),
        }
    }

    /// Its engines now, in a stable order.
    pub(crate) fn members(&self) -> Arc<[Member]> {
        let named = |NamedEngine { address, source }: NamedEngine, name: Arc<str>| {
            let identity = address.to_string().into();
            Member { identity, name, address, source }
        };
        match self {
            Self::Fixed(engines) => engines.iter().map(|e| named(*e, e.address.to_string().into())).collect(),
            Self::Emulated(engines) => {
                let addresses = engines.addresses().into_iter().enumerate();
                addresses.map(|(i, address)| named(address.into(), format!("emulated-{i}").into())).collect()
            }
            Self::Docker(informer) => informer.members(),
        }
    }

    /// Returns when the engines may have changed; may be dropped at any time.
    pub(crate) async fn changed(&mut self) {
        match self {
            Self::Fixed(_) | Self::Emulated(_) => pending().await,
            Self::Docker(informer) => informer.changed().await,
        }
    }

    /// Whether it is known who belongs to it, or that this cannot be known now.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::Emulated(_) => true,
            Self::Docker(informer) => informer.is_known(),
        }
    }

    /// What to do when no engine is ready.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Fixed(_) | Self::Emulated(_) => "see /api/v1/engines for what is wrong with each",
            Self::Docker(_) => {
                "start containers with the label io.millrace.engine=true; /api/v1/engines lists those found"
            }
        }
    }
}
