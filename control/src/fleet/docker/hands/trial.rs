//! A container that is made as an engine's is, to see what Docker says of it:
//! it is never started, and removed again.

use std::{collections::HashMap, time::Duration};

use bollard::{models::ContainerSummary, query_parameters::ListContainersOptions};
use tokio::time::sleep;

use super::{Hands, LOOK, is_unknown, within};
use crate::fleet::docker::{
    classify::Asked,
    error::DockerError,
    known::{ContainerId, Standing},
    labels::TRIAL_LABEL,
    ports::Ports,
    spec::EngineSpec,
};

/// Containers of earlier trials that are removed at once.
const MOST_LEFT: i32 = 100;
/// Pauses before looks at what may be left of an attempt whose outcome is
/// unknown. What the daemon makes later still is left to the next trial.
const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What came of a trial.
#[derive(Debug)]
pub(crate) struct Trial {
    /// That a container was made, and what Docker warned of.
    pub(crate) made: Result<Vec<String>, DockerError>,
    /// Why something of it may be left.
    pub(crate) left: Option<DockerError>,
}

impl Hands {
    /// Makes a container from this spec that no server takes for an engine, and
    /// removes it.
    pub(crate) async fn try_out(&self, spec: &EngineSpec, ports: &Ports) -> Trial {
        match self.make_for_trial(spec, ports).await {
            Ok((id, warnings)) => Trial { made: Ok(warnings), left: self.remove(&id).await.err() },
            Err(error) => {
                let left = if is_unknown(&error) { self.clear_late().await.err() } else { None };
                Trial { made: Err(error), left }
            }
        }
    }

    /// Removes what is left of trials of this fleet, and says how many
    /// containers that were.
    ///
    /// # Errors
    /// When one may still be there.
    pub(crate) async fn clear_trials(&self) -> Result<usize, DockerError> {
        let of_this_fleet = format!("{TRIAL_LABEL}={}", self.fleet);
        let options = ListContainersOptions {
            all: true,
            limit: Some(MOST_LEFT),
            filters: Some(HashMap::from([("label".to_owned(), vec![of_this_fleet])])),
            ..ListContainersOptions::default()
        };
        let found = within(LOOK, Asked::Host, self.docker.list_containers(Some(options))).await?;
        let mut removed = 0;
        for id in found.iter().filter_map(|container| self.of_our_trial(container)) {
            self.known().note(&id, Standing::Ours);
            self.remove(&id).await?;
            removed += 1;
        }
        Ok(removed)
    }

    async fn make_for_trial(
        &self,
        spec: &EngineSpec,
        ports: &Ports,
    ) -> Result<(ContainerId, Vec<String>), DockerError> {
        // Names of engines end in a number.
        let name = format!("{}-{:016x}-trial", self.fleet, self.process);
        let mut body = spec.body(ports, &self.fleet, &name)?;
        body.labels = Some(HashMap::from([(TRIAL_LABEL.to_owned(), self.fleet.to_string())]));
        self.created(self.ask_to_create(body, &spec.image, &name).await).await
    }

    /// The daemon may have made it all the same, or be about to.
    async fn clear_late(&self) -> Result<(), DockerError> {
        let mut cleared = Ok(0);
        for pause in LOOKS {
            sleep(pause).await;
            cleared = self.clear_trials().await;
            if matches!(cleared, Ok(1..)) {
                break;
            }
        }
        cleared.map(drop)
    }

    /// Whatever the filter let through.
    fn of_our_trial(&self, container: &ContainerSummary) -> Option<ContainerId> {
        let fleet = container.labels.as_ref()?.get(TRIAL_LABEL)?;
        let id = ContainerId::parse(container.id.as_deref()?)?;
        (*fleet == self.fleet.to_string()).then_some(id)
    }
}
