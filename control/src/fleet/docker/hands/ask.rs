//! What is only asked: it changes nothing, and may be asked of any container.

use std::{collections::HashMap, pin::pin, time::Duration};

use bollard::{
    container::LogOutput,
    errors::Error,
    models::ContainerInspectResponse,
    query_parameters::{ListContainersOptions, LogsOptions},
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{sync::watch, time::timeout};

use super::{Hands, LOOK, within};
use crate::fleet::docker::{
    MAX_ENGINES,
    auth::Credentials,
    autopsy::{Autopsy, HostLook},
    classify::{Asked, meaning},
    error::DockerError,
    image::{ImageRef, PullPolicy},
    known::ContainerId,
    labels::FLEET_LABEL,
    logs::{Lines, LogLine, MOST_LINES, Tail},
    pull::{Progress, PullLimits, SILENCE, pull},
    secrets::Secrets,
};

/// For the tail of a log, which may lie in several files.
const LOG: Duration = Duration::from_secs(10);
/// For the sizes of all containers: the daemon walks through their files.
const SIZES: Duration = Duration::from_secs(60);

impl Hands {
    /// How a container is, or how it ended.
    ///
    /// # Errors
    /// When it is gone, or the daemon does not say.
    pub(crate) async fn inspect(&self, id: &ContainerId) -> Result<Autopsy, DockerError> {
        Ok(Autopsy::of(&self.look(id).await?))
    }

    /// The newest lines of its log, the oldest first: at most `lines` and 500,
    /// `bytes` and 64 KiB, without the secrets of its environment.
    ///
    /// # Errors
    /// When it is gone, or the daemon does not say.
    pub(crate) async fn log_tail(
        &self,
        id: &ContainerId,
        lines: usize,
        bytes: usize,
    ) -> Result<Vec<LogLine>, DockerError> {
        let found = self.look(id).await?;
        let options = log_options(lines, Follow::No);
        let read = async {
            let mut came = pin!(self.docker.logs(id.as_str(), Some(options)));
            let (mut whole, mut tail) = (Lines::new(secrets_of(&found)), Tail::new(lines, bytes));
            while let Some(output) = came.next().await {
                whole.add(&output.map_err(|error| meaning(Asked::Container(id.as_str()), error))?);
                std::iter::from_fn(|| whole.next()).for_each(|line| tail.add(line));
            }
            whole.end();
            std::iter::from_fn(|| whole.next()).for_each(|line| tail.add(line));
            Ok(tail.into_lines())
        };
        timeout(LOG, read).await.unwrap_or(Err(DockerError::Silent(LOG)))
    }

    /// The newest `tail` lines of its log, and each one as it is written until
    /// the container ends. No more is read than is taken.
    ///
    /// # Errors
    /// When it is gone or writes to a terminal, or the daemon does not say.
    pub(crate) async fn log_follow(
        &self,
        id: &ContainerId,
        tail: usize,
    ) -> Result<impl Stream<Item = Result<LogLine, DockerError>> + use<>, DockerError> {
        let found = self.look(id).await?;
        // Its output would be kept until a line ends, which it need not do.
        if found.config.as_ref().and_then(|config| config.tty) == Some(true) {
            return Err(DockerError::Terminal(id.to_string()));
        }
        let came = self.docker.logs(id.as_str(), Some(log_options(tail, Follow::Yes)));
        Ok(lines_of(id.clone(), came, Lines::new(secrets_of(&found))))
    }

    /// Bytes that each container of the fleet has written to its own layer.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub(crate) async fn disk_usage(&self) -> Result<HashMap<ContainerId, u64>, DockerError> {
        let label = format!("{FLEET_LABEL}={}", self.fleet);
        let options = ListContainersOptions {
            all: true,
            size: true,
            limit: i32::try_from(MAX_ENGINES).ok(),
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        };
        let found = within(SIZES, Asked::Host, self.docker.list_containers(Some(options))).await?;
        let size = |container: bollard::models::ContainerSummary| {
            let size = container.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            Some((ContainerId::parse(&container.id?)?, size))
        };
        Ok(found.into_iter().filter_map(size).collect())
    }

    /// The host of the daemon.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub(crate) async fn host(&self) -> Result<HostLook, DockerError> {
        Ok(HostLook::of(within(LOOK, Asked::Host, self.docker.info()).await?))
    }

    /// Whether an image is there.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub(crate) async fn image_present(&self, image: &ImageRef) -> Result<bool, DockerError> {
        let look = self.docker.inspect_image(image.as_str());
        match within(LOOK, Asked::Image(image.as_str()), look).await {
            Ok(_) => Ok(true),
            Err(DockerError::ImageMissing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that an image is there, pulling it as the policy says, for
    /// the host's architecture and within `limit`. Progress is told at most
    /// four times a second. Says how it has come to be there.
    ///
    /// # Errors
    /// When it is not there afterwards.
    pub(crate) async fn fetch(
        &self,
        image: &ImageRef,
        policy: PullPolicy,
        credentials: Option<&Credentials>,
        limit: Duration,
        progress: &watch::Sender<Progress>,
    ) -> Result<Fetched, DockerError> {
        let is_present = self.image_present(image).await?;
        match policy {
            PullPolicy::Missing | PullPolicy::Never if is_present => return Ok(Fetched::Present),
            PullPolicy::Never => return Err(DockerError::ImageMissing { image: image.to_string() }),
            PullPolicy::Missing | PullPolicy::Always => {}
        }
        let platform = self.host().await?.platform();
        let limits = PullLimits { silence: SILENCE, whole: limit };
        let tell = |state| {
            progress.send_replace(state);
        };
        match pull(&self.docker, image, &platform, credentials, limits, tell).await {
            Err(error) if is_present && can_wait(&error) => {
                let remedy = error.remedy();
                tracing::warn!(%image, %error, remedy, "an image cannot be refreshed; the one that is there is used");
                Ok(Fetched::Stale(error))
            }
            pulled => pulled.map(|()| Fetched::Pulled),
        }
    }
}

/// How an image has come to be there.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Nobody was asked for it.
    Present,
    /// The registry gave it, or said that it has no other.
    Pulled,
    /// It could not be refreshed, and the one that was there does.
    Stale(DockerError),
}

/// Whether the registry may well give it later.
fn can_wait(error: &DockerError) -> bool {
    matches!(
        error,
        DockerError::RegistryUnreachable { .. }
            | DockerError::PullLimited(_)
            | DockerError::PullStalled { .. }
            | DockerError::PullSlow { .. }
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    Yes,
    No,
}

fn log_options(tail: usize, follow: Follow) -> LogsOptions {
    LogsOptions {
        follow: follow == Follow::Yes,
        stdout: true,
        stderr: true,
        tail: tail.min(MOST_LINES).to_string(),
        ..LogsOptions::default()
    }
}

/// Of its environment and its command line.
fn secrets_of(container: &ContainerInspectResponse) -> Secrets {
    let Some(config) = &container.config else { return Secrets::default() };
    let environment = config.env.iter().flatten().filter_map(|variable| variable.split_once('='));
    let words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten());
    Secrets::of(environment, words.map(String::as_str))
}

fn lines_of(
    id: ContainerId,
    came: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
    lines: Lines,
) -> impl Stream<Item = Result<LogLine, DockerError>> {
    struct State<S> {
        came: S,
        lines: Lines,
        is_over: bool,
    }
    let state = State { came, lines, is_over: false };
    stream::unfold(state, move |mut state| {
        let id = id.clone();
        async move {
            loop {
                if let Some(line) = state.lines.next() {
                    return Some((Ok(line), state));
                }
                if state.is_over {
                    return None;
                }
                match state.came.next().await {
                    Some(Ok(output)) => state.lines.add(&output),
                    Some(Err(error)) => {
                        state.is_over = true;
                        let error = meaning(Asked::Container(id.as_str()), error);
                        return Some((Err(error), state));
                    }
                    None => {
                        state.is_over = true;
                        state.lines.end();
                    }
                }
            }
        }
    })
}
