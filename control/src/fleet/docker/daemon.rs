//! One daemon: the three questions that are asked of it, each with a deadline.

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::EventMessage,
    query_parameters::{EventsOptions, ListContainersOptions},
};
use futures_util::Stream;
use tokio::net::{TcpStream, lookup_host};

use super::{DockerError, DockerUri, ENGINE_LABEL, MAX_ENGINES, container::Found};

/// For one answer. A busy daemon lists a thousand containers in a second.
const ANSWER: Duration = Duration::from_secs(5);

/// Events after which the list may differ.
const EVENTS: [&str; 5] = ["start", "die", "pause", "unpause", "rename"];

/// A daemon that has answered.
#[derive(Debug)]
pub(super) struct Daemon {
    docker: Docker,
    /// Where ports that its containers publish are reached.
    host: IpAddr,
}

impl Daemon {
    /// Asks for its version, so that both speak the older one's API.
    pub(super) async fn connect(uri: &DockerUri) -> Result<Self, DockerError> {
        // Below the deadlines here, bollard has one of its own for heads of answers.
        let limit = ANSWER.as_secs();
        let (docker, host) = match uri {
            DockerUri::Unix { path } => {
                (Docker::connect_with_unix(path, limit, API_DEFAULT_VERSION)?, Ipv4Addr::LOCALHOST.into())
            }
            DockerUri::Tcp { host, port } => {
                let address = reach(host, *port).await?;
                (Docker::connect_with_http(&address.to_string(), limit, API_DEFAULT_VERSION)?, address.ip())
            }
        };
        let docker = within(ANSWER, docker.negotiate_version()).await?;
        Ok(Self { docker, host })
    }

    /// Its own version, such as `28.2.2`.
    async fn version(&self) -> Result<String, DockerError> {
        let answer = within(ANSWER, self.docker.version()).await?;
        // It goes to a terminal.
        let version = answer.version.unwrap_or_default();
        Ok(version.chars().filter(|c| !c.is_control()).take(40).collect())
    }

    /// Its running containers with our label.
    pub(super) async fn engines(&self) -> Result<Found, DockerError> {
        let options = ListContainersOptions {
            // One more, so that too many are noticed.
            limit: i32::try_from(MAX_ENGINES + 1).ok(),
            filters: Some(filters([("status", "running".to_owned()), ("label", is_engine())])),
            ..ListContainersOptions::default()
        };
        Ok(Found::of(within(ANSWER, self.docker.list_containers(Some(options))).await?, self.host))
    }

    /// What happens to containers with our label, for as long as it tells; the
    /// request leaves with the first look at the stream.
    pub(super) fn events(&self) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
        let mut filters = filters([("type", "container".to_owned()), ("label", is_engine())]);
        filters.insert("event".to_owned(), EVENTS.map(str::to_owned).to_vec());
        self.docker.events(Some(EventsOptions { filters: Some(filters), ..EventsOptions::default() }))
    }
}

fn is_engine() -> String {
    format!("{ENGINE_LABEL}=true")
}

fn filters<const N: usize>(filters: [(&str, String); N]) -> HashMap<String, Vec<String>> {
    filters.into_iter().map(|(key, value)| (key.to_owned(), vec![value])).collect()
}

/// The first address of a host that takes a connection: a name may have one
/// that the daemon does not listen on, as `localhost` has.
async fn reach(host: &str, port: u16) -> Result<SocketAddr, DockerError> {
    let unresolved = |why: String| DockerError::Unresolved { host: host.to_owned(), why };
    let reach = async {
        let addresses = lookup_host((host, port)).await.map_err(|error| unresolved(error.to_string()))?;
        let mut refusal = unresolved("the name has no address".to_owned());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(_) => return Ok(address),
                Err(error) => refusal = error.into(),
            }
        }
        Err(refusal)
    };
    tokio::time::timeout(ANSWER, reach).await.unwrap_or(Err(DockerError::Silent(ANSWER)))
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, DockerError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Err(bollard::errors::Error::RequestTimeoutError)) | Err(_) => Err(DockerError::Silent(limit)),
        Ok(answer) => Ok(answer?),
    }
}

/// What one look at a daemon shows.
#[derive(Clone, Debug)]
pub struct DockerLook {
    /// Its version, such as `28.2.2`.
    pub version: String,
    /// Running containers with our label that can be used.
    pub engines: usize,
    /// The others with our label.
    pub unusable: Vec<UnusableContainer>,
}

/// A container with our label that cannot be used.
#[derive(Clone, Debug)]
pub struct UnusableContainer {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// What helps.
    pub remedy: &'static str,
}

/// Looks at a daemon once. Blocks for `limit` at most.
///
/// # Errors
/// When it cannot be reached or does not answer as Docker does in time.
pub fn look_at_docker(uri: &DockerUri, limit: Duration) -> Result<DockerLook, DockerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| DockerError::Failed(error.to_string()))?;
    let look = async {
        let daemon = Daemon::connect(uri).await?;
        let (version, found) = (daemon.version().await?, daemon.engines().await?);
        let unusable = found.unusable.iter().map(|(_, name, why)| UnusableContainer {
            name: name.to_string(),
            why: why.to_string(),
            remedy: why.remedy(),
        });
        Ok(DockerLook { version, engines: found.members.len(), unusable: unusable.collect() })
    };
    let look = runtime.block_on(async { tokio::time::timeout(limit, look).await });
    // Without waiting for a name server.
    runtime.shutdown_background();
    look.unwrap_or(Err(DockerError::Silent(limit)))
}
