//! Where a fleet is to be run and what its engines would be made from, for
//! those who look at it without running it.

use super::{
    DockerFleet,
    spec::{self, Unusable},
};
use crate::{
    fleet::docker::{Daemon, DockerError, EngineSpec, FleetName, Hands, HostLook},
    template::{Templates, Wants},
    turn::TEMPLATES,
};

pub(super) struct Ground {
    pub(super) fleet: FleetName,
    pub(super) hands: Hands,
    pub(super) host: HostLook,
    /// What engines would be made from, as the server has it at its start.
    pub(super) spec: Result<(EngineSpec, Wants), Unusable>,
}

impl Ground {
    /// Asks what host it is.
    ///
    /// # Errors
    /// When the daemon does not say in time.
    pub(super) async fn of(settings: &DockerFleet, daemon: &Daemon) -> Result<Self, DockerError> {
        let fleet = FleetName::parse(&settings.name)
            .ok_or_else(|| DockerError::BadSpec(format!("{:?} is no name of a fleet", settings.name)))?;
        let hands = Hands::new(daemon.docker(), fleet.clone());
        let host = hands.host().await?;
        let file = settings.data_dir.as_ref().map(|dir| dir.join(TEMPLATES));
        let (templates, _) = Templates::load(file.as_deref());
        let spec = spec::of(&settings.container, &templates, &host);
        Ok(Self { fleet, hands, host, spec })
    }
}
