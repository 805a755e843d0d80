//! From what the operator says to the fleet that is used.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use millrace_control::{ENGINE_LABEL, FleetConfig, look_at_docker};

use crate::config::{DockerHost, EngineUrl, Engines};

/// The emulated fleet when nobody names an engine.
pub(crate) const FALLBACK: u16 = 2;

/// A Docker that nobody named is waited for no longer.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(1);

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

/// The fleet to run, and how it came about.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) fleet: FleetConfig,
    /// What its engines are called in the log.
    pub(crate) kind: &'static str,
    /// For the log, when nobody asked for this fleet.
    pub(crate) why: Option<String>,
}

/// The fleet to run. Looks at the default Docker when none is given.
///
/// # Errors
/// When a name does not resolve, or two are the same engine.
pub(crate) fn choose(engines: &Engines) -> Result<Chosen, EnginesError> {
    let asked_for = |fleet, kind| Chosen { fleet, kind, why: None };
    if !engines.urls.is_empty() {
        return Ok(asked_for(FleetConfig::Fixed(addresses(&engines.urls)?), "named"));
    }
    if engines.emulate != 0 {
        let count = u16::try_from(engines.emulate).unwrap_or(u16::MAX);
        return Ok(asked_for(FleetConfig::Emulated(count), "emulated"));
    }
    if let Some(uri) = &engines.docker {
        return Ok(asked_for(FleetConfig::Docker(uri.clone()), "labelled"));
    }
    Ok(fallback(&engines.docker_host))
}

/// Docker if it runs engines, else the emulated ones.
fn fallback(docker_host: &DockerHost) -> Chosen {
    let nothing = match docker_host {
        DockerHost::Unsupported(uri) => format!("DOCKER_HOST={uri} is not supported"),
        DockerHost::At(uri) => match look_at_docker(uri, LOOK_LIMIT) {
            Ok(look) if look.engines + look.unusable.len() > 0 => {
                let why = format!("no engine is named, so those that run in Docker at {uri} are used");
                return Chosen { fleet: FleetConfig::Docker(uri.clone()), kind: "labelled", why: Some(why) };
            }
            Ok(_) => format!("no container of {uri} has the label {ENGINE_LABEL}=true"),
            Err(error) => format!("Docker at {uri}: {error}"),
        },
    };
    let why = format!(
        "no engine is named, so {FALLBACK} emulated ones play a test picture; \
         name real ones with --engine http://HOST:PORT ({nothing})"
    );
    Chosen { fleet: FleetConfig::Emulated(FALLBACK), kind: "emulated", why: Some(why) }
}

fn addresses(urls: &[EngineUrl]) -> Result<Vec<SocketAddr>, EnginesError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for url in urls {
        let address = resolve(url)?;
        if let Some(first) = addresses.iter().position(|other| *other == address) {
            let first = urls[first].clone();
            return Err(EnginesError::Same { first, second: url.clone(), address });
        }
        addresses.push(address);
    }
    Ok(addresses)
}
