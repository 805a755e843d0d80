//! From what the operator says to the fleet that is used.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use millrace_control::{DockerUri, ENGINE_LABEL, FleetConfig, NamedEngine, look_at_docker};

use crate::config::{DockerHost, EngineUrl, Settings};

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
pub(crate) fn choose(settings: &Settings) -> Result<Chosen, EnginesError> {
    let engines = &settings.engines;
    let asked_for = |fleet, kind| Chosen { fleet, kind, why: None };
    if !engines.urls.is_empty() {
        return Ok(asked_for(FleetConfig::Fixed(named(&engines.urls)?), "named"));
    }
    if engines.emulate != 0 {
        let count = u16::try_from(engines.emulate).unwrap_or(u16::MAX);
        return Ok(asked_for(FleetConfig::Emulated(count), "emulated"));
    }
    if let Some(uri) = &engines.docker {
        return Ok(asked_for(docker(settings, uri), kind(settings)));
    }
    Ok(fallback(settings))
}

fn docker(settings: &Settings, uri: &DockerUri) -> FleetConfig {
    let data_dir = settings.server.data_dir.as_deref();
    FleetConfig::Docker(Box::new(settings.fleet.at(uri.clone(), data_dir)))
}

fn kind(settings: &Settings) -> &'static str {
    if settings.fleet.makes_engines() { "managed" } else { "labelled" }
}

/// Docker if it answers, and may be used to make engines or runs some; else the
/// emulated ones.
fn fallback(settings: &Settings) -> Chosen {
    let nothing = match &settings.engines.docker_host {
        DockerHost::Unsupported(uri) => format!("DOCKER_HOST={uri} is not supported"),
        DockerHost::At(uri) => match look_at_docker(uri, LOOK_LIMIT) {
            Ok(look) if settings.fleet.makes_engines() || look.engines + look.unusable.len() > 0 => {
                let why = if settings.fleet.makes_engines() {
                    format!("no engine is named, so they are run in Docker at {uri}")
                } else {
                    format!("no engine is named, so those that run in Docker at {uri} are used")
                };
                return Chosen { fleet: docker(settings, uri), kind: kind(settings), why: Some(why) };
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

fn named(urls: &[EngineUrl]) -> Result<Vec<NamedEngine>, EnginesError> {
    let mut named: Vec<NamedEngine> = Vec::new();
    for url in urls {
        let address = resolve(url)?;
        if let Some(first) = named.iter().position(|other| other.address == address) {
            let first = urls[first].clone();
            return Err(EnginesError::Same { first, second: url.clone(), address });
        }
        named.push(NamedEngine { address, source: url.source });
    }
    Ok(named)
}
