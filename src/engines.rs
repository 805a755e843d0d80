//! From the engines that the operator names to addresses.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use millrace_control::FleetConfig;

use crate::config::{EngineUrl, Engines};

/// The emulated fleet when nobody names an engine.
pub(crate) const FALLBACK: u16 = 2;

/// Why the engines cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnginesError {
    /// The name server does not know the host.
    #[error("cannot resolve the engine {url}")]
    Unresolved {
        url: EngineUrl,
        #[source]
        source: io::Error,
    },
    /// Counting its slots twice would overload it.
    #[error("the engines {first} and {second} are both at {address}")]
    Same { first: EngineUrl, second: EngineUrl, address: SocketAddr },
}

/// The address of one engine.
///
/// # Errors
/// When its name does not resolve.
pub(crate) fn resolve(url: &EngineUrl) -> Result<SocketAddr, EnginesError> {
    let unresolved = |source| EnginesError::Unresolved { url: url.clone(), source };
    let mut addresses = (url.host.as_str(), url.port).to_socket_addrs().map_err(unresolved)?;
    addresses.next().ok_or_else(|| unresolved(io::Error::other("the name has no address")))
}

/// The fleet to run.
///
/// # Errors
/// When a name does not resolve, or two are the same engine.
pub(crate) fn fleet(engines: &Engines) -> Result<FleetConfig, EnginesError> {
    if engines.urls.is_empty() {
        let count = u16::try_from(engines.emulate).unwrap_or(u16::MAX);
        return Ok(FleetConfig::Emulated(if count == 0 { FALLBACK } else { count }));
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for url in &engines.urls {
        let address = resolve(url)?;
        if let Some(first) = addresses.iter().position(|other| *other == address) {
            let first = engines.urls[first].clone();
            return Err(EnginesError::Same { first, second: url.clone(), address });
        }
        addresses.push(address);
    }
    Ok(FleetConfig::Fixed(addresses))
}
