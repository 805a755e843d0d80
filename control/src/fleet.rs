//! Where engines come from.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

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
    Emulated(emulated::Emulated),
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
                emulated::start(*count, IpAddr::V4(Ipv4Addr::LOCALHOST)).map(Self::Emulated)
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

/// The seam to the emulator's crate.
mod emulated {
    use std::{
        io,
        net::{IpAddr, SocketAddr},
    };

    /// Engines of this process.
    #[derive(Debug)]
    pub(crate) struct Emulated(Vec<SocketAddr>);

    impl Emulated {
        pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
            self.0.clone()
        }
    }

    /// Starts `count` engines on ports of the kernel's choice.
    pub(crate) fn start(count: u16, _address: IpAddr) -> io::Result<Emulated> {
        if count == 0 {
            return Ok(Emulated(Vec::new()));
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no engine emulator"))
    }
}
