//! A trial, for people: what a server does to Docker at its start is done once
//! and taken back.

use millrace_boundary::Monotonic;
use tokio::sync::watch;

use super::{
    DockerFleet,
    ground::Ground,
    ports::{NoPort, Ports},
    work::{credentials_for, reference},
};
use crate::{
    fleet::docker::{
        Daemon, DockerError, EngineSpec, Fetched, Hands, Progress, TRIAL_LABEL, Trial, until_done,
    },
    template::Wants,
};

/// Something that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It can be done, in words.
    Done(String),
    /// A server would get by: what is wrong, and what helps.
    Lame(String, String),
    /// No engine would be made: what is wrong, and what helps.
    Failed(String, String),
}

impl Tried {
    fn failed(error: &DockerError) -> Self {
        Self::Failed(error.to_string(), error.remedy().to_owned())
    }
}

/// Pulls the image if the settings say so, makes one container as an engine's
/// and removes it without having started it. What an earlier trial has left is
/// removed before. Blocks for a few minutes at most, beside the pull.
#[must_use]
pub fn try_fleet(fleet: &DockerFleet) -> Vec<Tried> {
    let mut tried = Vec::new();
    if let Err(error) = until_done(try_all(fleet, &mut tried)) {
        tried.push(Tried::failed(&error));
    }
    tried
}

async fn try_all(fleet: &DockerFleet, tried: &mut Vec<Tried>) -> Result<(), DockerError> {
    let daemon = Daemon::connect(&fleet.uri).await?;
    let Ground { hands, spec, .. } = Ground::of(fleet, &daemon).await?;
    match hands.clear_trials().await {
        Ok(0) => {}
        Ok(count) => {
            tried.push(Tried::Done(format!("containers left of earlier trials, and removed now: {count}")))
        }
        Err(error) => tried.push(left(fleet, &error)),
    }
    let (spec, wants) = match spec {
        Ok(found) => found,
        Err(error) => {
            tried.push(Tried::Failed(error.message, error.remedy));
            return Ok(());
        }
    };
    match fetch(fleet, &hands, &spec, tried).await {
        Ok(fetched) => {
            tried.push(image(&spec, &fetched));
            make(fleet, &hands, &spec, wants, tried).await;
        }
        Err(error) => {
            let wrong = format!("image {}: {error}", spec.image);
            tried.push(Tried::Failed(wrong, error.remedy().to_owned()));
        }
    }
    Ok(())
}

async fn fetch(
    fleet: &DockerFleet,
    hands: &Hands,
    spec: &EngineSpec,
    tried: &mut Vec<Tried>,
) -> Result<Fetched, DockerError> {
    let settings = &fleet.container;
    let image = reference(&spec.image)?;
    let credentials = credentials_for(&image, settings.auth_file.clone()).await.unwrap_or_else(|error| {
        let wrong = format!("the registry is asked without credentials: {error}");
        tried.push(Tried::Lame(wrong, error.remedy().to_owned()));
        None
    });
    let (progress, _) = watch::channel(Progress::default());
    let policy = settings.pull.policy();
    hands.fetch(&image, policy, credentials.as_ref(), settings.pull_limit, &progress).await
}

fn image(spec: &EngineSpec, fetched: &Fetched) -> Tried {
    let image = &spec.image;
    match fetched {
        Fetched::Present => Tried::Done(format!("image {image} is there")),
        Fetched::Pulled => Tried::Done(format!("image {image} was pulled")),
        Fetched::Stale(error) => Tried::Lame(
            format!("image {image} cannot be refreshed, so the one that is there is used: {error}"),
            error.remedy().to_owned(),
        ),
    }
}

async fn make(fleet: &DockerFleet, hands: &Hands, spec: &EngineSpec, wants: Wants, tried: &mut Vec<Tried>) {
    // It is never started, so it does not matter who listens there.
    let leased = Ports::new(fleet.container.ports.clone()).lease(Monotonic::default(), wants, |_| true);
    let ports = match leased {
        Ok(ports) => ports,
        Err(error) => {
            tried.push(Tried::Failed(error.to_string(), NoPort::REMEDY.to_owned()));
            return;
        }
    };
    let Trial { made, left: remains } = hands.try_out(spec, &ports).await;
    match made {
        Ok(warnings) => {
            tried.push(Tried::Done("a container can be made; it was not started".to_owned()));
            tried.extend(warnings.into_iter().map(|warning| {
                let remedy =
                    "engines are made all the same; docker info tells what this host lacks".to_owned();
                Tried::Lame(format!("Docker warns: {warning}"), remedy)
            }));
        }
        Err(error) if is_got_by(&error) => {
            tried.push(Tried::Lame(error.to_string(), error.remedy().to_owned()));
        }
        Err(error) => tried.push(Tried::failed(&error)),
    }
    tried.extend(remains.map(|error| left(fleet, &error)));
}

/// The next engine has another name.
fn is_got_by(error: &DockerError) -> bool {
    matches!(
        error,
        DockerError::NameTaken { .. } | DockerError::NameInUse { .. } | DockerError::NameForeign { .. }
    )
}

fn left(fleet: &DockerFleet, error: &DockerError) -> Tried {
    let label = format!("{TRIAL_LABEL}={}", fleet.name);
    Tried::Lame(
        format!("a container of a trial may be left, with the label {label}: {error}"),
        format!(
            "try again, which removes it; or docker rm $(docker ps --all --quiet --filter label={label})"
        ),
    )
}
