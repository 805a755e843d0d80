//! One look at a daemon, for people.

use std::{future::Future, time::Duration};

use super::{
    DockerError, DockerUri,
    container::{ContainerState, Seen},
    daemon::{Daemon, word},
};

/// What one look at a daemon shows.
#[derive(Clone, Debug)]
pub struct DockerLook {
    /// Its version, such as `28.2.2`.
    pub version: String,
    /// Of its interface, as spoken with it: `(1, 41)` is that of Docker 20.10.
    pub api: (usize, usize),
    /// Of its host, such as `x86_64`; unknown when it does not say.
    pub architecture: Option<String>,
    /// Of its host's control groups, `1` or `2`; unknown when it does not say.
    pub cgroup_version: Option<String>,
    /// Whether containers outlive it; unknown when it does not say.
    pub live_restore: Option<bool>,
    /// Whether it tells of events when it is asked.
    pub tells_events: bool,
    /// Running containers with our label that can be used.
    pub engines: usize,
    /// Those with our label that are paused.
    pub paused: usize,
    /// Those with our label that do not run.
    pub stopped: usize,
    /// Those with our label that run, or are paused, and cannot be used.
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
    look_within(limit, async { Ok(look(uri, limit / 2).await?.docker) })
}

/// A look that has until then.
pub(crate) fn look_within<T>(
    limit: Duration,
    look: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, DockerError> {
    until_done(async { tokio::time::timeout(limit, look).await.unwrap_or(Err(DockerError::Silent(limit))) })
}

/// Blocks until it is done: each question within has a deadline of its own.
pub(crate) fn until_done<T>(done: impl Future<Output = Result<T, DockerError>>) -> Result<T, DockerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| DockerError::Failed(error.to_string()))?;
    let done = runtime.block_on(done);
    // Without waiting for a name server.
    runtime.shutdown_background();
    done
}

/// What one look shows, with what it was made by.
pub(crate) struct Closely {
    /// For people.
    pub(crate) docker: DockerLook,
    /// The daemon.
    pub(crate) daemon: Daemon,
    /// All containers with the engines' label.
    pub(crate) seen: Vec<Seen>,
}

/// `patience` is for what can be done without.
pub(crate) async fn look(uri: &DockerUri, patience: Duration) -> Result<Closely, DockerError> {
    let daemon = Daemon::connect(uri).await?;
    let (version, listing, host, tells_events) = tokio::join!(
        daemon.version(),
        daemon.engines(),
        daemon.host(patience),
        daemon.tells_events(patience)
    );
    let (version, found, host) = (version?, listing?.found, host.unwrap_or_default());
    let unusable = found.unusable().map(|(one, why)| UnusableContainer {
        name: one.name.to_string(),
        why: why.to_string(),
        remedy: why.remedy(),
    });
    let count =
        |is_one: fn(ContainerState) -> bool| found.seen.iter().filter(|one| is_one(one.state)).count();
    let api = daemon.docker().client_version();
    let docker = DockerLook {
        version,
        api: (api.major_version, api.minor_version),
        architecture: host.architecture.map(word),
        cgroup_version: host
            .cgroup_version
            .map(|version| word(version.to_string()))
            .filter(|v| !v.is_empty()),
        live_restore: host.live_restore_enabled,
        tells_events,
        engines: found.members.len(),
        paused: count(|state| state == ContainerState::Paused),
        stopped: count(|state| !matches!(state, ContainerState::Running | ContainerState::Paused)),
        unusable: unusable.collect(),
    };
    Ok(Closely { docker, daemon, seen: found.seen })
}
