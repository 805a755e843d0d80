//! What comes of doing in Docker once what the server does at its start.

use millrace_control::{DockerFleet, Tried, try_fleet};

use super::Finding;

/// What all of its findings are about.
pub(super) const WHAT: &str = "trial";

/// Tries it, and takes it back.
pub(super) fn run(fleet: &DockerFleet) -> Vec<Finding> {
    let finding = |tried| match tried {
        Tried::Done(words) => Finding::ok(WHAT, words),
        Tried::Lame(wrong, remedy) => Finding::warn(WHAT, wrong, remedy),
        Tried::Failed(wrong, remedy) => Finding::fail(WHAT, wrong, remedy),
    };
    try_fleet(fleet).into_iter().map(finding).collect()
}

/// It was asked for where there is nothing to try.
pub(super) fn none() -> Finding {
    Finding::warn(
        WHAT,
        "nothing was tried: with this configuration Millrace makes no engines in Docker",
        "--trial is for a fleet of its own: name a Docker daemon that answers with --docker, \
         leave fleet.max above 0, and name no engines with --engine or --emulate",
    )
}
