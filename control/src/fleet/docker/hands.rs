//! What is done to Docker: containers of our fleet are made, moved and removed,
//! and no other is ever touched.

mod ask;
mod sweep;
mod trial;

#[cfg(test)]
mod deadline_tests;
#[cfg(test)]
mod docker_tests;
#[cfg(test)]
mod private_docker;

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bollard::{
    Docker,
    models::{ContainerCreateBody, ContainerCreateResponse, ContainerInspectResponse},
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, KillContainerOptions, RemoveContainerOptions,
        RestartContainerOptions, StopContainerOptions,
    },
};
use tokio::time::{sleep, timeout};

use super::{
    body::SpecError,
    classify::{Asked, meaning},
    error::DockerError,
    known::{ContainerId, Known, Standing},
    labels::{self, ATTEMPT_LABEL, FleetName},
    ports::Ports,
    spec::EngineSpec,
};
use crate::random::Random;
use sweep::{Sweep, What};

pub(crate) use {ask::Fetched, trial::Trial};

/// For a look at one container.
const LOOK: Duration = Duration::from_secs(5);
/// For making one: a busy disk copies an image's files for some drivers.
const CREATE: Duration = Duration::from_secs(60);
/// For starting one: networks, mounts and the runtime.
const START: Duration = Duration::from_secs(60);
/// For pausing, unpausing and killing one.
const SIGNAL: Duration = Duration::from_secs(10);
/// Beside the grace, for stopping one.
const STOP: Duration = Duration::from_secs(15);
/// For removing one, until it is gone.
const REMOVE: Duration = Duration::from_secs(30);
/// Between two looks at one that somebody else removes.
const GONE_YET: Duration = Duration::from_millis(200);
/// Longest grace: more is a mistake of the caller's.
const MOST_GRACE: Duration = Duration::from_secs(3_600);
/// bollard's own deadline, above all of ours: ours are the ones that count.
const BOLLARD: Duration = Duration::from_secs(86_400);

/// Acts on one daemon for one fleet. Cheap to clone; clones know the same
/// containers.
#[derive(Clone, Debug)]
pub(crate) struct Hands {
    docker: Docker,
    fleet: FleetName,
    known: Arc<Mutex<Known>>,
    /// Names attempts to create: this process, and how many there were.
    process: u64,
    attempts: Arc<AtomicU64>,
}

impl From<SpecError> for DockerError {
    fn from(error: SpecError) -> Self {
        Self::BadSpec(error.to_string())
    }
}

impl Hands {
    /// Hands on the daemon of `docker`.
    pub(crate) fn new(docker: &Docker, fleet: FleetName) -> Self {
        Self {
            docker: docker.clone().with_timeout(BOLLARD),
            fleet,
            known: Arc::default(),
            process: Random::from_kernel().next(),
            attempts: Arc::default(),
        }
    }

    /// Makes a container and does not start it. What is left of an attempt
    /// whose outcome is unknown, or that is dropped before it has one, is
    /// removed as soon as the daemon lets us.
    ///
    /// # Errors
    /// When nothing was made.
    pub(crate) async fn create(
        &self,
        spec: &EngineSpec,
        ports: &Ports,
        name: &str,
    ) -> Result<ContainerId, DockerError> {
        let mut body = spec.body(ports, &self.fleet, name)?;
        let attempt = format!("{:016x}-{}", self.process, self.attempts.fetch_add(1, Ordering::Relaxed));
        body.labels.get_or_insert_default().insert(ATTEMPT_LABEL.to_owned(), attempt.clone());
        let sweep = Sweep::armed(self, What::Attempt(attempt));
        let made = self.ask_to_create(body, &spec.image, name).await;
        if made.as_ref().err().is_none_or(|error| !is_unknown(error)) {
            sweep.disarm();
        }
        let (id, warnings) = self.created(made).await?;
        for warning in warnings {
            tracing::warn!(container = name, %warning, "Docker warns");
        }
        Ok(id)
    }

    async fn ask_to_create(
        &self,
        body: ContainerCreateBody,
        image: &str,
        name: &str,
    ) -> Result<ContainerCreateResponse, DockerError> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), platform: String::new() };
        let asked = Asked::Create { image, name };
        within(CREATE, asked, self.docker.create_container(Some(options), body)).await
    }

    /// The new container, which is ours from now on, and what Docker warns of.
    async fn created(
        &self,
        made: Result<ContainerCreateResponse, DockerError>,
    ) -> Result<(ContainerId, Vec<String>), DockerError> {
        match made {
            Ok(made) => {
                let id = ContainerId::parse(&made.id)
                    .ok_or_else(|| DockerError::Failed("Docker gave a container no id".to_owned()))?;
                self.known().note(&id, Standing::Fresh);
                Ok((id, made.warnings.iter().map(|warning| super::error::brief(warning)).collect()))
            }
            Err(DockerError::NameTaken { name, id }) => Err(self.who_has(name, id).await),
            Err(error) => Err(error),
        }
    }

    /// Starts a container. One that [`Self::create`] made and that never ran is
    /// removed when it cannot be started, or when this is dropped meanwhile.
    ///
    /// # Errors
    /// When it does not run afterwards.
    pub(crate) async fn start(&self, id: &ContainerId) -> Result<(), DockerError> {
        self.is_ours(id).await?;
        let is_fresh = self.known().standing(id) == Some(Standing::Fresh);
        let sweep = is_fresh.then(|| Sweep::armed(self, What::Container(id.clone())));
        let started =
            within(START, Asked::Container(id.as_str()), self.docker.start_container(id.as_str(), None))
                .await;
        match &started {
            Ok(()) => self.known().note(id, Standing::Ours),
            // What the daemon does not answer for goes later.
            Err(error) if is_unknown(error) => return started,
            Err(_) if is_fresh && self.remove(id).await.is_err() => return started,
            Err(_) => {}
        }
        if let Some(sweep) = sweep {
            sweep.disarm();
        }
        started
    }

    /// Freezes a container; one that is frozen already stays so.
    ///
    /// # Errors
    /// When it is not frozen afterwards.
    pub(crate) async fn pause(&self, id: &ContainerId) -> Result<(), DockerError> {
        self.is_ours(id).await?;
        let paused =
            within(SIGNAL, Asked::Container(id.as_str()), self.docker.pause_container(id.as_str())).await;
        self.or_is(id, paused, |state| state.paused == Some(true)).await
    }

    /// Lets a frozen container go on; one that runs goes on running.
    ///
    /// # Errors
    /// When it does not run afterwards.
    pub(crate) async fn unpause(&self, id: &ContainerId) -> Result<(), DockerError> {
        self.is_ours(id).await?;
        let goes_on =
            within(SIGNAL, Asked::Container(id.as_str()), self.docker.unpause_container(id.as_str())).await;
        self.or_is(id, goes_on, |state| state.running == Some(true) && state.paused != Some(true)).await
    }

    /// Stops and starts a container in place; it is killed after `grace`.
    ///
    /// # Errors
    /// When it was not started again.
    pub(crate) async fn restart(&self, id: &ContainerId, grace: Duration) -> Result<(), DockerError> {
        self.is_ours(id).await?;
        let (grace, t) = whole_seconds(grace);
        let options = RestartContainerOptions { signal: None, t: Some(t) };
        let restarted = self.docker.restart_container(id.as_str(), Some(options));
        let restarted = within(grace + STOP + START, Asked::Container(id.as_str()), restarted).await;
        if restarted.is_ok() {
            self.known().note(id, Standing::Ours);
        }
        restarted
    }

    /// SIGTERM, and SIGKILL after `grace`. One that has stopped already is left so.
    ///
    /// # Errors
    /// When it may still run.
    pub(crate) async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), DockerError> {
        self.is_ours(id).await?;
        let (grace, t) = whole_seconds(grace);
        let options = StopContainerOptions { signal: None, t: Some(t) };
        let stopped = self.docker.stop_container(id.as_str(), Some(options));
        within(grace + STOP, Asked::Container(id.as_str()), stopped).await
    }

    /// SIGKILL. One that has stopped already is left so.
    ///
    /// # Errors
    /// When it may still run.
    pub(crate) async fn kill(&self, id: &ContainerId) -> Result<(), DockerError> {
        self.is_ours(id).await?;
        let options = KillContainerOptions { signal: "SIGKILL".to_owned() };
        let killed = self.docker.kill_container(id.as_str(), Some(options));
        let killed = within(SIGNAL, Asked::Container(id.as_str()), killed).await;
        self.or_is(id, killed, |state| state.running == Some(false)).await
    }

    /// Removes a container, running or not, with its anonymous volumes, and
    /// returns when it is gone.
    ///
    /// # Errors
    /// When it may still be there.
    pub(crate) async fn remove(&self, id: &ContainerId) -> Result<(), DockerError> {
        let asked = Asked::Container(id.as_str());
        let removed = timeout(REMOVE, async {
            self.is_ours(id).await?;
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            let removed = self.docker.remove_container(id.as_str(), Some(options)).await;
            match removed.map_err(|error| meaning(asked, error)) {
                // Somebody else removes it.
                Err(DockerError::Conflict(why)) if why.contains("already in progress") => loop {
                    self.look(id).await?;
                    sleep(GONE_YET).await;
                },
                removed => removed,
            }
        });
        match removed.await {
            Err(_) => Err(DockerError::Silent(REMOVE)),
            Ok(Ok(()) | Err(DockerError::Gone(_))) => {
                self.known().forget(id);
                Ok(())
            }
            Ok(removed) => removed,
        }
    }

    /// `done`, or success when the container is as it should be all the same.
    async fn or_is(
        &self,
        id: &ContainerId,
        done: Result<(), DockerError>,
        is_so: impl Fn(&bollard::models::ContainerState) -> bool,
    ) -> Result<(), DockerError> {
        let Err(error @ (DockerError::Conflict(_) | DockerError::Failed(_))) = done else { return done };
        let state = self.look(id).await?.state.unwrap_or_default();
        if is_so(&state) { Ok(()) } else { Err(error) }
    }

    /// Whose the name is that was asked for.
    async fn who_has(&self, name: String, id: String) -> DockerError {
        let Some(known) = ContainerId::parse(&id) else { return DockerError::NameForeign { name, id } };
        match self.look(&known).await {
            Ok(found) if !self.carries_our_label(&found) => DockerError::NameForeign { name, id },
            Ok(found) => match found.state.and_then(|state| state.running) {
                Some(true) => DockerError::NameInUse { name, id },
                _ => DockerError::NameTaken { name, id },
            },
            Err(DockerError::Gone(_)) => {
                DockerError::Conflict(format!("the name {name} has just become free"))
            }
            Err(error) => error,
        }
    }

    /// Makes sure that a container is ours before it is touched.
    async fn is_ours(&self, id: &ContainerId) -> Result<(), DockerError> {
        if self.known().standing(id).is_some() {
            return Ok(());
        }
        let found = self.look(id).await?;
        // Docker finds containers by name and by the beginning of an id as well.
        let is_it = found.id.as_deref() == Some(id.as_str());
        if is_it && self.carries_our_label(&found) {
            self.known().note(id, Standing::Ours);
            return Ok(());
        }
        let name = found.name.unwrap_or_default().trim_start_matches('/').to_owned();
        Err(DockerError::NotOurs { name, id: id.to_string() })
    }

    fn carries_our_label(&self, found: &ContainerInspectResponse) -> bool {
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        labels.and_then(labels::read).is_some_and(|marks| marks.fleet == self.fleet)
    }

    async fn look(&self, id: &ContainerId) -> Result<ContainerInspectResponse, DockerError> {
        let look = self.docker.inspect_container(id.as_str(), None::<InspectContainerOptions>);
        let found = within(LOOK, Asked::Container(id.as_str()), look).await;
        if let Err(DockerError::Gone(_)) = found {
            self.known().forget(id);
        }
        found
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the daemon may have done it all the same.
fn is_unknown(error: &DockerError) -> bool {
    matches!(error, DockerError::Silent(_) | DockerError::Closed | DockerError::Failed(_))
}

/// As Docker counts it, rounded up.
fn whole_seconds(grace: Duration) -> (Duration, i32) {
    let grace = grace.min(MOST_GRACE);
    let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    (Duration::from_secs(seconds), i32::try_from(seconds).unwrap_or(i32::MAX))
}

/// An answer of the daemon's, or that there was none in time.
async fn within<T>(
    limit: Duration,
    asked: Asked<'_>,
    answer: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, DockerError> {
    match timeout(limit, answer).await {
        Err(_) | Ok(Err(bollard::errors::Error::RequestTimeoutError)) => Err(DockerError::Silent(limit)),
        Ok(answer) => answer.map_err(|error| meaning(asked, error)),
    }
}
