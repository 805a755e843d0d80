//! One daemon: the questions that are asked of it, each with a deadline.

use std::{
    collections::HashMap,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerSummary, EventMessage, SystemInfo},
    query_parameters::{EventsOptions, ListContainersOptions},
};
use futures_util::{Stream, StreamExt};
use tokio::net::{TcpStream, lookup_host};

use super::{
    DockerError, DockerTls, DockerUri, ENGINE_LABEL, MAX_ENGINES, TlsError,
    address::{Lenders, Vantage, lender, own_id},
    container::Found,
    events::{CONTAINER_EVENTS, Known, NETWORK_EVENTS},
};

/// For one answer. A busy daemon lists a thousand containers in a second.
const ANSWER: Duration = Duration::from_secs(5);

/// Containers of one listing, those that have ended included.
const MAX_LISTED: usize = 2 * MAX_ENGINES;

/// A daemon that has answered. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    docker: Docker,
    vantage: Vantage,
}

/// What one look at the containers shows.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) found: Found,
    /// Whose events count from now on.
    pub(super) known: Known,
}

impl Daemon {
    /// Asks for its version, so that both speak the older one's API, and where
    /// we are if we are in one of its containers.
    pub(crate) async fn connect(uri: &DockerUri) -> Result<Self, DockerError> {
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
            DockerUri::Tls { host, port, certificates } => {
                let directory = certificates.as_deref().ok_or(TlsError::NoDirectory)?;
                let address = reach(host, *port).await?;
                (DockerTls::in_directory(directory).docker(host, address, limit)?, address.ip())
            }
        };
        let docker = within(ANSWER, docker.negotiate_version()).await?;
        let mut daemon = Self { docker, vantage: Vantage::outside(host) };
        if let Some(own) = daemon.own_container().await {
            daemon.vantage = Vantage::inside(&own, host);
        }
        Ok(daemon)
    }

    /// For all that is not asked here.
    pub(crate) const fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Its own version, such as `28.2.2`.
    pub(super) async fn version(&self) -> Result<String, DockerError> {
        let answer = within(ANSWER, self.docker.version()).await?;
        Ok(word(answer.version.unwrap_or_default()))
    }

    /// What it says of its host, if it does so in time.
    pub(super) async fn host(&self, limit: Duration) -> Option<SystemInfo> {
        within(limit, self.docker.info()).await.ok()
    }

    /// Whether it tells of events: of none, from now until now.
    pub(super) async fn tells_events(&self, limit: Duration) -> bool {
        let options =
            EventsOptions { since: Some("0".into()), until: Some("1".into()), ..Default::default() };
        let mut events = self.docker.events(Some(options));
        within(limit, async { events.next().await.transpose() }).await.is_ok()
    }

    /// Its containers with our label, whatever they do.
    pub(super) async fn engines(&self) -> Result<Listing, DockerError> {
        let all = [("label", vec![is_engine()])];
        let mut containers = self.list(all.clone()).await?;
        if containers.len() > MAX_LISTED {
            // The oldest are left out, but of those that live none may be.
            let live = ["running", "paused"].map(str::to_owned).to_vec();
            let [label] = all;
            let live = self.list([label, ("status", live)]).await?;
            containers.retain(|one| live.iter().all(|other| other.id != one.id));
            containers.splice(..0, live);
            containers.truncate(MAX_LISTED);
        }
        let (ids, names) = Lenders::wanted(&containers);
        let mut lenders = Vec::new();
        if !ids.is_empty() {
            lenders.extend(self.list([("id", ids)]).await?);
        }
        if !names.is_empty() {
            let exactly = names.iter().map(|name| format!("^/?{name}$")).collect();
            lenders.extend(self.list([("name", exactly)]).await?);
        }
        let lenders = Lenders::of(lenders, &containers);
        let found = Found::of(containers, &self.vantage, &lenders);
        let engines = found.seen.iter().map(|one| one.id.clone());
        let known = Known::of(engines, lenders.names().map(Into::into));
        Ok(Listing { found, known })
    }

    /// Containers without our label that are called `prefix`, a dash and a number
    /// up to 9,999, whatever they do: names and ids, the newest 2,000 at most.
    pub(crate) async fn numbered(&self, prefix: &str) -> Result<HashMap<String, String>, DockerError> {
        let name = format!("^/?{}-[1-9][0-9]{{0,3}}$", prefix.replace('.', "[.]"));
        let found = self.list([("name", vec![name])]).await?.into_iter().take(MAX_LISTED);
        let others = found.filter(|one| one.labels.as_ref().is_none_or(|labels| !is_labelled(labels)));
        let named = |one: ContainerSummary| {
            let (names, id) = (one.names?, one.id?);
            Some(names.into_iter().map(move |name| (name.trim_start_matches('/').to_owned(), id.clone())))
        };
        Ok(others.filter_map(named).flatten().collect())
    }

    /// What happens to containers and to who is on which network, for as long
    /// as it tells; the request leaves with the first look at the stream. Those
    /// of networks have no label that could be asked for.
    pub(super) fn events(&self) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
        let names = CONTAINER_EVENTS.iter().chain(&NETWORK_EVENTS).map(|name| (*name).to_owned());
        let types = ["container", "network"].map(str::to_owned).to_vec();
        let filters = filters([("type", types), ("event", names.collect())]);
        self.docker.events(Some(EventsOptions { filters: Some(filters), ..EventsOptions::default() }))
    }

    /// All of them that fit, the newest first.
    async fn list<const N: usize>(
        &self,
        filter: [(&str, Vec<String>); N],
    ) -> Result<Vec<ContainerSummary>, DockerError> {
        let options = ListContainersOptions {
            all: true,
            // One more, so that too many are noticed.
            limit: i32::try_from(MAX_LISTED + 1).ok(),
            filters: Some(filters(filter)),
            ..ListContainersOptions::default()
        };
        within(ANSWER, self.docker.list_containers(Some(options))).await
    }

    /// The container we are in, or the one that lends it its network. A daemon
    /// that does not know it is another's.
    async fn own_container(&self) -> Option<ContainerSummary> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = self.container(own_id(&mounts)?).await?;
        match lender(&own) {
            Some(lender) => self.container(lender).await,
            None => Some(own),
        }
    }

    async fn container(&self, id: &str) -> Option<ContainerSummary> {
        let found = self.list([("id", vec![id.to_owned()])]).await.ok()?;
        found.into_iter().find(|container| container.id.as_deref() == Some(id))
    }
}

/// It goes to a terminal.
pub(super) fn word(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn is_labelled(labels: &HashMap<String, String>) -> bool {
    labels.get(ENGINE_LABEL).is_some_and(|value| value == "true")
}

fn is_engine() -> String {
    format!("{ENGINE_LABEL}=true")
}

fn filters<const N: usize>(filters: [(&str, Vec<String>); N]) -> HashMap<String, Vec<String>> {
    filters.into_iter().map(|(key, values)| (key.to_owned(), values)).collect()
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
