//! One look at where a fleet is to be run, for people.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use bollard::query_parameters::{InspectContainerOptions, InspectNetworkOptions};

use super::{DockerFleet, ground::Ground};
use crate::fleet::docker::{
    Closely, ContainerState, Daemon, DiskLook, DockerError, DockerLook, EngineSpec, FLEET_LABEL, FleetName,
    Hands, ImageRef, Network, Seen, look, look_at_disk, look_within, marks,
};

/// What one look shows.
#[derive(Clone, Debug)]
pub struct FleetLook {
    /// The daemon.
    pub docker: DockerLook,
    /// The image that engines would be made from, and whether it is there; or
    /// why there is none, with what helps.
    pub image: Result<(String, bool), (String, String)>,
    /// Where engines would be, in words; or what is wrong with it, with what helps.
    pub network: Result<String, (String, String)>,
    /// Ports of one engine.
    pub ports_of_one: usize,
    /// Whether the ports are this host's, so that they can be tried here.
    pub ports_are_here: bool,
    /// Ports of the containers of this fleet.
    pub ports: Vec<u16>,
    /// Memory of the daemon's host in bytes; 0 when it does not say.
    pub host_memory: u64,
    /// Containers of this fleet that run, paused ones among them.
    pub running: usize,
    /// Those that do not.
    pub stopped: usize,
    /// Names of containers of others that carry this fleet's label.
    pub colliding: Vec<String>,
    /// Of the first names that a server would give its engines, those that
    /// containers of others have, with what helps.
    pub taken_names: Vec<(String, String)>,
    /// Room on the daemon's disk; or why it cannot be told from here.
    pub disk: Result<DiskLook, String>,
}

/// Looks once at where a fleet is to be run. Blocks for `limit` at most.
///
/// # Errors
/// When the daemon cannot be reached or does not answer as Docker does in time.
pub fn look_at_fleet(fleet: &DockerFleet, limit: Duration) -> Result<FleetLook, DockerError> {
    look_within(limit, closely(fleet, limit / 2))
}

async fn closely(fleet: &DockerFleet, patience: Duration) -> Result<FleetLook, DockerError> {
    let Closely { docker, daemon, seen } = look(&fleet.uri, patience).await?;
    let (ground, numbered) = tokio::join!(Ground::of(fleet, &daemon), daemon.numbered(&fleet.name));
    let (Ground { fleet: name, hands, host, spec }, numbered) = (ground?, numbered?);
    let (mut found, mut ports_of_one) = (None, 1);
    let image = match spec {
        Err(error) => Err((error.message, error.remedy)),
        Ok((spec, wants)) => {
            ports_of_one += [wants.https, wants.api, wants.p2p].into_iter().filter(|wanted| *wanted).count();
            let image = image(&hands, &spec).await;
            found = Some(spec);
            image
        }
    };
    let network = match &found {
        Some(spec) => network(&daemon, &spec.network, patience).await,
        None => Ok("not looked at".to_owned()),
    };
    // Those of another container's network, or host, cannot be tried from here.
    let is_lent = matches!(found.as_ref().map(|spec| &spec.network), Some(Network::Container(_)));
    let ports_are_here = !is_lent && matches!(fleet.uri, crate::DockerUri::Unix { .. });
    let (mut running, mut stopped) = (0, 0);
    let (mut ports, mut colliding) = (Vec::new(), Vec::new());
    for one in seen.iter().filter(|one| one.labels.get(FLEET_LABEL).is_some_and(|of| *of == fleet.name)) {
        match marks(&one.labels).and_then(|marks| marks.ports) {
            None => colliding.push(one.name.to_string()),
            Some(of_it) => {
                ports.extend(of_it.all().map(|(_, port)| port));
                let runs = matches!(one.state, ContainerState::Running | ContainerState::Paused);
                running += usize::from(runs);
                stopped += usize::from(!runs);
            }
        }
    }
    Ok(FleetLook {
        docker,
        image,
        network,
        ports_of_one,
        ports_are_here,
        ports,
        host_memory: host.mem_total,
        running,
        stopped,
        colliding,
        taken_names: taken_names(&name, fleet.scale.max, &seen, &numbered),
        disk: look_at_disk(&fleet.uri, &host.root_dir, patience).await,
    })
}

/// Whose names the fleet would run into: `others` are containers without our
/// label, and those of engines are passed over by whoever names one.
fn taken_names(
    fleet: &FleetName,
    count: usize,
    seen: &[Seen],
    others: &HashMap<String, String>,
) -> Vec<(String, String)> {
    let engines: HashSet<&str> = seen.iter().map(|one| &*one.name).collect();
    let names = (1..).map(|number| fleet.engine(number)).filter(|name| !engines.contains(name.as_str()));
    let taken = names.take(count).filter_map(|name| {
        let id = others.get(&name)?.clone();
        Some(in_words(DockerError::NameForeign { name, id }))
    });
    taken.collect()
}

async fn image(hands: &Hands, spec: &EngineSpec) -> Result<(String, bool), (String, String)> {
    let Some(image) = ImageRef::parse(&spec.image) else {
        let wrong = format!("{:?} names no image", spec.image);
        return Err((wrong, format!("correct it; allowed is {}", ImageRef::ALLOWED)));
    };
    match hands.image_present(&image).await {
        Ok(is_there) => Ok((spec.image.clone(), is_there)),
        Err(error) => Err((format!("{image}: {error}"), error.remedy().to_owned())),
    }
}

async fn network(daemon: &Daemon, network: &Network, limit: Duration) -> Result<String, (String, String)> {
    let docker = daemon.docker();
    match network {
        Network::Bridge => Ok("Docker's own bridge, ports published on the host".to_owned()),
        Network::Host => Ok("the host's".to_owned()),
        Network::Named { name, .. } => {
            let asked = docker.inspect_network(name, None::<InspectNetworkOptions>);
            match tokio::time::timeout(limit, asked).await {
                Ok(Ok(_)) => Ok(name.clone()),
                Ok(Err(error)) if is_missing(&error) => Err((
                    format!("there is no network {name}"),
                    format!("create it: docker network create {name}; or correct docker.network"),
                )),
                Ok(Err(error)) => Err(in_words(error.into())),
                Err(_) => Err(in_words(DockerError::Silent(limit))),
            }
        }
        Network::Container(lender) => {
            let missing = |why: &str| {
                let remedy = format!("start it: docker start {lender}; or correct docker.network");
                Err((format!("the container {lender}, whose network is shared, {why}"), remedy))
            };
            let asked = docker.inspect_container(lender, None::<InspectContainerOptions>);
            match tokio::time::timeout(limit, asked).await {
                Ok(Ok(found)) => match found.state.and_then(|state| state.running) {
                    Some(true) => Ok(format!("that of the container {lender}")),
                    Some(false) | None => missing("does not run"),
                },
                Ok(Err(error)) if is_missing(&error) => missing("is not there"),
                Ok(Err(error)) => Err(in_words(error.into())),
                Err(_) => Err(in_words(DockerError::Silent(limit))),
            }
        }
    }
}

fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

fn in_words(error: DockerError) -> (String, String) {
    (error.to_string(), error.remedy().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn of_the_first_names_those_of_others_are_told() {
        let seen = |name: &str| Seen {
            id: "e".into(),
            name: name.into(),
            state: ContainerState::Running,
            address: Ok(([127, 0, 0, 1], 1).into()),
            labels: Arc::default(),
            created: 0,
            image: String::new(),
        };
        let engines = ["main-1", "main-3"].map(seen);
        let others = ["main-2", "main-4", "main-5", "main-6", "other-4"];
        let others = others.map(|name| (name.to_owned(), format!("id-{name}"))).into();
        let fleet = FleetName::parse("main").unwrap();
        let taken = taken_names(&fleet, 3, &engines, &others);
        let told: Vec<_> = taken.iter().map(|(wrong, _)| wrong.as_str()).collect();
        let expected = ["main-2", "main-4", "main-5"].map(|name| {
            format!("the name {name} is taken by container id-{name}, which is not of this fleet")
        });
        assert_eq!(told, expected);
        assert!(taken.iter().all(|(_, remedy)| remedy.contains("Millrace leaves it alone")), "{taken:?}");
    }
}
