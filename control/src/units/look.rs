//! One look at where a fleet is to be run, for people.

use std::time::Duration;

use bollard::query_parameters::{InspectContainerOptions, InspectNetworkOptions};

use super::{DockerFleet, spec};
use crate::{
    fleet::docker::{
        Closely, ContainerState, Daemon, DockerError, DockerLook, EngineSpec, FLEET_LABEL, FleetName, Hands,
        ImageRef, Network, look, look_within, marks,
    },
    template::Templates,
    turn::TEMPLATES,
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
    let name = FleetName::parse(&fleet.name)
        .ok_or_else(|| DockerError::BadSpec(format!("{:?} is no name of a fleet", fleet.name)))?;
    let hands = Hands::new(daemon.docker(), name);
    let host = hands.host().await?;
    let file = fleet.data_dir.as_ref().map(|dir| dir.join(TEMPLATES));
    let (templates, _) = Templates::load(file.as_deref());
    let (mut found, mut ports_of_one) = (None, 1);
    let image = match spec::of(&fleet.container, &templates, &host) {
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
    })
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
                Ok(Err(error)) => Err(unknown(error.into())),
                Err(_) => Err(unknown(DockerError::Silent(limit))),
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
                Ok(Err(error)) => Err(unknown(error.into())),
                Err(_) => Err(unknown(DockerError::Silent(limit))),
            }
        }
    }
}

fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

fn unknown(error: DockerError) -> (String, String) {
    (error.to_string(), error.remedy().to_owned())
}
