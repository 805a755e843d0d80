//! What may be left of something that was begun and not finished is removed,
//! though nobody waits for it any more.

use std::{collections::HashMap, time::Duration};

use bollard::query_parameters::ListContainersOptions;
use tokio::{runtime::Handle, time::sleep};

use super::{Hands, LOOK, within};
use crate::fleet::docker::{
    classify::Asked,
    error::DockerError,
    known::{ContainerId, Standing},
    labels::{ATTEMPT_LABEL, FLEET_LABEL},
};

/// Pause after the first look; doubles.
const FIRST: Duration = Duration::from_secs(1);
/// Looks: the last one comes 63 s after the first. Whatever the daemon makes
/// later still is in the fleet's list, and an orphan there.
const LOOKS: u32 = 7;

/// What may be left.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The container of an attempt to create one.
    Attempt(String),
    /// This container.
    Container(ContainerId),
}

/// Removes what may be left when it is dropped.
#[derive(Debug)]
pub(super) struct Sweep(Option<(Hands, What)>);

impl Sweep {
    pub(super) fn armed(hands: &Hands, what: What) -> Self {
        Self(Some((hands.clone(), what)))
    }

    /// There is nothing to remove.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // Without a runtime this process ends, and the next one finds orphans.
        if let (Some((hands, what)), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(sweep(hands, what));
        }
    }
}

async fn sweep(hands: Hands, what: What) {
    let mut pause = FIRST;
    for _ in 0..LOOKS {
        match clean(&hands, &what).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, ?what, "cannot remove what is left"),
        }
        sleep(pause).await;
        pause *= 2;
    }
}

/// Whether there is nothing left to wait for.
async fn clean(hands: &Hands, what: &What) -> Result<bool, DockerError> {
    let id = match what {
        What::Container(id) => Some(id.clone()),
        What::Attempt(attempt) => found(hands, attempt).await?,
    };
    let Some(id) = id else { return Ok(false) };
    hands.remove(&id).await?;
    tracing::info!(container = %id, "removed what was left of an engine that could not be started");
    Ok(true)
}

/// The container of an attempt, once there is one.
async fn found(hands: &Hands, attempt: &str) -> Result<Option<ContainerId>, DockerError> {
    let labels = vec![format!("{ATTEMPT_LABEL}={attempt}"), format!("{FLEET_LABEL}={}", hands.fleet)];
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), labels)])),
        ..ListContainersOptions::default()
    };
    let found = within(LOOK, Asked::Host, hands.docker.list_containers(Some(options))).await?;
    let id = found.into_iter().next().and_then(|container| ContainerId::parse(&container.id?));
    if let Some(id) = &id {
        hands.known().note(id, Standing::Ours);
    }
    Ok(id)
}
