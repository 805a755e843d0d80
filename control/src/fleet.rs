//! Where engines come from.

use std::{io, net::SocketAddr, sync::Arc};

use millrace_emulator::{Emulator, EmulatorConfig, Timing};

use crate::FleetConfig;

/// One engine of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// For people.
    pub(crate) name: Arc<str>,
    /// Where its HTTP API and media are.
    pub(crate) address: SocketAddr,
}

/// The fleet, and whatever keeps it running.
#[derive(Debug)]
pub(crate) enum Fleet {
    /// Engines that somebody else runs.
    Fixed(Vec<SocketAddr>),
    /// Engines of this process; they end when this is dropped.
    Emulated(Emulator),
}

impl Fleet {
    /// Starts what has to be started.
    ///
    /// # Errors
    /// When the emulated engines cannot listen.
    pub(crate) fn start(config: &FleetConfig) -> io::Result<Self> {
        match config {
            FleetConfig::Fixed(addresses) => Ok(Self::Fixed(addresses.clone())),
            FleetConfig::Emulated(count) => {
                // A first look should not take as long as a cold swarm does.
                let timing = Timing::fast();
                let config = EmulatorConfig { engines: *count, timing, ..EmulatorConfig::default() };
                Emulator::start(config).map(Self::Emulated).map_err(io::Error::other)
            }
        }
    }

    /// Its engines, in a stable order.
    pub(crate) fn members(&self) -> Vec<Member> {
        let (addresses, emulated) = match self {
            Self::Fixed(addresses) => (addresses.clone(), false),
            Self::Emulated(engines) => (engines.addresses(), true),
        };
        addresses
            .into_iter()
            .enumerate()
            .map(|(i, address)| Member {
                name: if emulated { format!("emulated-{i}").into() } else { address.to_string().into() },
                address,
            })
            .collect()
    }
}
