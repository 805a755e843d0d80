//! What is to be done to Docker, and what came of it.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    autoscale::UnitId,
    fleet::docker::{
        AuthError, ContainerId, Credentials, DockerError, EngineSpec, FleetName, Hands, HostLook, ImageRef,
        Ports, Progress, PullPolicy, credentials,
    },
    journal::Autopsy,
    unit::{Deed, Fault},
};

use super::Lease;

/// Lines kept of a container that has ended.
const TAIL_LINES: usize = 40;
/// Bytes of them.
const TAIL_BYTES: usize = 8 << 10;
/// For a file of credentials.
const FILE: Duration = Duration::from_secs(5);

/// What a container is made from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) spec: Arc<EngineSpec>,
    pub(crate) ports: Ports,
    pub(crate) name: Arc<str>,
}

/// Something to be done to Docker.
#[derive(Debug)]
pub(crate) enum Work {
    /// A deed to a unit.
    Unit {
        unit: UnitId,
        deed: Deed,
        /// The container there is.
        container: Option<Arc<str>>,
        /// For deeds that make one.
        recipe: Option<Recipe>,
        /// For a container to end by itself.
        grace: Duration,
    },
    /// What kind of host it is, and whether the fleet is ours to run.
    Host { fleet: FleetName, lease: Option<Arc<Lease>> },
    /// The image is made sure of.
    Image {
        image: String,
        policy: PullPolicy,
        limit: Duration,
        /// Docker's file of credentials.
        auth_file: Option<PathBuf>,
        progress: watch::Sender<Progress>,
    },
    /// A container of ours without a unit is removed.
    Stray { container: Arc<str>, name: Arc<str> },
    /// How much each container of ours has written to its layer.
    Disk,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Unit {
        unit: UnitId,
        deed: Deed,
        /// The container there is now.
        container: Option<Arc<str>>,
        result: Result<(), DockerError>,
        autopsy: Option<Autopsy>,
        took: Duration,
    },
    /// Without a lease another server runs the fleet.
    Host(Result<(HostLook, Option<Arc<Lease>>), DockerError>),
    Image {
        image: String,
        result: Result<(), DockerError>,
    },
    Stray {
        container: Arc<str>,
        name: Arc<str>,
        autopsy: Option<Autopsy>,
        result: Result<(), DockerError>,
    },
    Disk(Result<HashMap<ContainerId, u64>, DockerError>),
}

impl Work {
    /// Does it. Each call to Docker has its deadline below this.
    pub(crate) async fn run(self, hands: Option<Hands>) -> Outcome {
        let Some(hands) = hands else { return self.undone() };
        match self {
            Self::Unit { unit, deed, container, recipe, grace } => {
                let begun = Instant::now();
                let mut container = container;
                let mut autopsy = None;
                let result =
                    run_deed(&hands, deed, &mut container, recipe.as_ref(), grace, &mut autopsy).await;
                Outcome::Unit { unit, deed, container, result, autopsy, took: begun.elapsed() }
            }
            Self::Host { fleet, lease } => Outcome::Host(hands.host().await.map(|host| {
                let held = lease.filter(|lease| lease.is_for(&host, &fleet));
                let lease = held.or_else(|| Lease::take(&host, &fleet).map(Arc::new));
                (host, lease)
            })),
            Self::Image { image, policy, limit, auth_file, progress } => {
                let result = fetch(&hands, &image, policy, limit, auth_file, &progress).await;
                Outcome::Image { image, result }
            }
            Self::Stray { container, name } => {
                let (autopsy, result) = match id_of(Some(&container)) {
                    Ok(id) => (autopsy(&hands, &id).await, hands.remove(&id).await),
                    Err(error) => (None, Err(error)),
                };
                Outcome::Stray { container, name, autopsy, result }
            }
            Self::Disk => Outcome::Disk(hands.disk_usage().await),
        }
    }

    /// Docker does not answer.
    fn undone(self) -> Outcome {
        let silent = || DockerError::Closed;
        match self {
            Self::Unit { unit, deed, container, .. } => Outcome::Unit {
                unit,
                deed,
                container,
                result: Err(silent()),
                autopsy: None,
                took: Duration::ZERO,
            },
            Self::Host { .. } => Outcome::Host(Err(silent())),
            Self::Image { image, .. } => Outcome::Image { image, result: Err(silent()) },
            Self::Stray { container, name } => {
                Outcome::Stray { container, name, autopsy: None, result: Err(silent()) }
            }
            Self::Disk => Outcome::Disk(Err(silent())),
        }
    }
}

async fn run_deed(
    hands: &Hands,
    deed: Deed,
    container: &mut Option<Arc<str>>,
    recipe: Option<&Recipe>,
    grace: Duration,
    ended: &mut Option<Autopsy>,
) -> Result<(), DockerError> {
    match deed {
        Deed::Make => make(hands, container, recipe).await,
        Deed::Revive => {
            let id = id_of(container.as_ref())?;
            *ended = autopsy(hands, &id).await;
            hands.restart(&id, grace).await
        }
        Deed::Remake => {
            bury(hands, container, ended).await?;
            make(hands, container, recipe).await
        }
        Deed::Bury => bury(hands, container, ended).await,
        Deed::Pause => hands.pause(&id_of(container.as_ref())?).await,
        Deed::Unpause => hands.unpause(&id_of(container.as_ref())?).await,
        Deed::Dispose => {
            if container.is_none() {
                return Ok(());
            }
            let id = id_of(container.as_ref())?;
            // In order first; whatever it does not obey, the removal ends.
            let stopped = match grace {
                Duration::ZERO => hands.kill(&id).await,
                grace => hands.stop(&id, grace).await,
            };
            match stopped {
                Ok(()) | Err(DockerError::Gone(_)) => {}
                Err(error) if fault_of(&error) == Fault::Daemon => return Err(error),
                Err(error) => tracing::debug!(container = %id, %error, "cannot be stopped, so it is removed"),
            }
            hands.remove(&id).await?;
            *container = None;
            Ok(())
        }
    }
}

/// How it ended, and then there is nothing left of it.
async fn bury(
    hands: &Hands,
    container: &mut Option<Arc<str>>,
    ended: &mut Option<Autopsy>,
) -> Result<(), DockerError> {
    if container.is_some() {
        let id = id_of(container.as_ref())?;
        *ended = autopsy(hands, &id).await;
        hands.remove(&id).await?;
        *container = None;
    }
    Ok(())
}

fn id_of(container: Option<&Arc<str>>) -> Result<ContainerId, DockerError> {
    let text = container.map_or("", |id| &**id);
    ContainerId::parse(text).ok_or_else(|| DockerError::Gone(text.to_owned()))
}

async fn make(
    hands: &Hands,
    container: &mut Option<Arc<str>>,
    recipe: Option<&Recipe>,
) -> Result<(), DockerError> {
    // A unit without a recipe is never asked to be made.
    let none = || DockerError::BadSpec("there is nothing to make it from".to_owned());
    let Recipe { spec, ports, name } = recipe.ok_or_else(none)?;
    let id = hands.create(spec, ports, name).await?;
    // It removes what it cannot start.
    hands.start(&id).await?;
    *container = Some(id.as_str().into());
    Ok(())
}

async fn fetch(
    hands: &Hands,
    image: &str,
    policy: PullPolicy,
    limit: Duration,
    auth_file: Option<PathBuf>,
    progress: &watch::Sender<Progress>,
) -> Result<(), DockerError> {
    let image = reference(image)?;
    let credentials = credentials_for(&image, auth_file).await.unwrap_or_else(|error| {
        let error = format!("{error}; {}", error.remedy());
        tracing::warn!(%error, "the registry is asked without credentials");
        None
    });
    hands.fetch(&image, policy, credentials.as_ref(), limit, progress).await.map(drop)
}

/// The image that a spec names.
pub(super) fn reference(image: &str) -> Result<ImageRef, DockerError> {
    let wrong = || DockerError::BadSpec(format!("{image:?} names no image; allowed: {}", ImageRef::ALLOWED));
    ImageRef::parse(image).ok_or_else(wrong)
}

/// What its registry is shown, as far as the file says in time.
pub(super) async fn credentials_for(
    image: &ImageRef,
    auth_file: Option<PathBuf>,
) -> Result<Option<Credentials>, AuthError> {
    let Some(file) = auth_file else { return Ok(None) };
    let registry = image.registry().to_owned();
    // It may lie on a disk that does not answer.
    let read = tokio::task::spawn_blocking(move || credentials(&file, &registry));
    match tokio::time::timeout(FILE, read).await {
        Ok(Ok(credentials)) => credentials,
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// What a failure means for the unit.
pub(super) fn fault_of(error: &DockerError) -> Fault {
    match error {
        DockerError::NoSocket
        | DockerError::Denied
        | DockerError::Refused
        | DockerError::Silent(_)
        | DockerError::Unresolved { .. }
        | DockerError::Tls(_)
        | DockerError::Closed => Fault::Daemon,
        DockerError::Gone(_) => Fault::Gone,
        _ => Fault::Refused,
    }
}

/// How a container ended; what cannot be asked is left out.
async fn autopsy(hands: &Hands, id: &ContainerId) -> Option<Autopsy> {
    let found = hands.inspect(id).await.ok()?;
    let log_tail = hands.log_tail(id, TAIL_LINES, TAIL_BYTES).await.unwrap_or_default();
    Some(Autopsy {
        exit_code: (!found.running).then_some(found.exit_code).flatten(),
        out_of_memory: found.oom_killed,
        error: (!found.error.is_empty()).then_some(found.error),
        log_tail: log_tail.into_iter().map(|line| line.text).collect(),
    })
}
