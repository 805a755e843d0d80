//! Pulling an image, with an eye on how it gets on.

use std::{collections::HashMap, pin::pin, time::Duration};

use bollard::{Docker, models::CreateImageInfo, query_parameters::CreateImageOptions};
use futures_util::StreamExt;
use hyper::header::HeaderValue;
use tokio::time::{Instant, timeout_at};

use super::{
    auth::Credentials,
    classify::{Asked, meaning},
    error::DockerError,
    image::ImageRef,
};

/// A pull that shows no progress for longer has stalled.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);
/// Between two reports of progress.
const REPORTS: Duration = Duration::from_millis(250);
/// Layers that are counted. Docker knows 127 of an image at most.
const MOST_LAYERS: usize = 256;
/// Where Docker is told who asks.
const AUTH: &str = "x-registry-auth";

/// What a pull may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PullLimits {
    /// Longest time without progress; [`SILENCE`] unless a test cannot wait.
    pub(crate) silence: Duration,
    /// Longest time in all.
    pub(crate) whole: Duration,
}

/// How far a pull is. Totals grow while layers become known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Downloaded, of the layers that are not there already.
    pub(crate) bytes_done: u64,
    /// Of those whose size is known.
    pub(crate) bytes_total: u64,
    /// Layers that are there.
    pub(crate) layers_done: usize,
    /// Layers.
    pub(crate) layers_total: usize,
}

/// One layer's way, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Downloading,
    Downloaded,
    Extracting,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layer {
    phase: Phase,
    /// Downloaded, or extracted; of `total`.
    current: u64,
    total: u64,
}

/// What Docker has told of the layers.
#[derive(Debug, Default)]
struct Tally {
    layers: HashMap<String, Layer>,
}

impl Tally {
    /// Whether that was progress: the same again, and waiting to try again,
    /// are none.
    fn note(&mut self, info: &CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (&info.id, &info.status) else { return false };
        let phase = match status.as_str() {
            "Pulling fs layer" | "Waiting" => Phase::Waiting,
            "Downloading" => Phase::Downloading,
            "Verifying Checksum" | "Download complete" => Phase::Downloaded,
            "Extracting" => Phase::Extracting,
            "Pull complete" | "Already exists" => Phase::Done,
            _ => return false,
        };
        if !self.layers.contains_key(id) && self.layers.len() >= MOST_LAYERS {
            return false;
        }
        let known = self.layers.get(id).copied();
        let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let detail = info.progress_detail.as_ref();
        let layer = Layer {
            phase,
            current: number(detail.and_then(|detail| detail.current)).unwrap_or(0),
            // Later phases do not tell it again.
            total: number(detail.and_then(|detail| detail.total))
                .or(known.map(|layer| layer.total))
                .unwrap_or(0),
        };
        self.layers.insert(id.clone(), layer);
        known != Some(layer)
    }

    fn progress(&self) -> Progress {
        let mut progress = Progress { layers_total: self.layers.len(), ..Progress::default() };
        for layer in self.layers.values() {
            progress.bytes_total = progress.bytes_total.saturating_add(layer.total);
            progress.bytes_done = progress.bytes_done.saturating_add(match layer.phase {
                Phase::Waiting => 0,
                Phase::Downloading => layer.current.min(layer.total),
                Phase::Downloaded | Phase::Extracting | Phase::Done => layer.total,
            });
            progress.layers_done += usize::from(layer.phase == Phase::Done);
        }
        progress
    }
}

/// Pulls `image` for `platform`, such as `linux/arm64`, and tells of progress
/// at most four times a second, and of the end. Dropped, it ends the pull.
///
/// # Errors
/// When the registry or the daemon does not do it, or not within the limits.
pub(crate) async fn pull(
    docker: &Docker,
    image: &ImageRef,
    platform: &str,
    credentials: Option<&Credentials>,
    limits: PullLimits,
    mut tell: impl FnMut(Progress),
) -> Result<(), DockerError> {
    // Docker decodes the URL's variant of base64, and bollard encodes the other one.
    let docker = docker.clone().with_request_modifier(|mut request| {
        let headers = request.headers_mut();
        let auth = headers
            .get(AUTH)
            .and_then(|auth| auth.to_str().ok())
            .map(|a| a.replace('+', "-").replace('/', "_"));
        if let Some(mut auth) = auth.and_then(|auth| HeaderValue::from_str(&auth).ok()) {
            auth.set_sensitive(true);
            headers.insert(AUTH, auth);
        }
        request
    });
    let options = CreateImageOptions {
        from_image: Some(image.as_str().to_owned()),
        // Without a tag all of them would come.
        tag: (image.tag().is_none() && image.digest().is_none()).then(|| "latest".to_owned()),
        platform: platform.to_owned(),
        ..CreateImageOptions::default()
    };
    let credentials = credentials.map(|credentials| credentials.to_docker(image.registry()));
    let mut answers = pin!(docker.create_image(Some(options), None, credentials));
    let asked = Asked::Image(image.as_str());
    let begun = Instant::now();
    let end = begun + limits.whole;
    let (mut tally, mut moved_at, mut told_at) = (Tally::default(), begun, None::<Instant>);
    loop {
        let stalled_at = moved_at + limits.silence;
        let Ok(answer) = timeout_at(stalled_at.min(end), answers.next()).await else {
            return Err(over(image, limits, Instant::now() >= end));
        };
        let Some(answer) = answer else { break };
        let now = Instant::now();
        if tally.note(&answer.map_err(|error| meaning(asked, error))?) {
            moved_at = now;
            if told_at.is_none_or(|told| now.duration_since(told) >= REPORTS) {
                told_at = Some(now);
                tell(tally.progress());
            }
        } else if now >= stalled_at || now >= end {
            // Told of again and again, nothing has come for as long.
            return Err(over(image, limits, now >= end));
        }
    }
    tell(tally.progress());
    Ok(())
}

fn over(image: &ImageRef, limits: PullLimits, is_whole: bool) -> DockerError {
    let image = image.to_string();
    if is_whole {
        DockerError::PullSlow { image, limit: limits.whole }
    } else {
        DockerError::PullStalled { image, silence: limits.silence }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_counted_over_layers_and_repeats_are_none() {
        let mut tally = Tally::default();
        for (i, (id, status, [current, total], is_progress, [done, of, layers, all])) in [
            ("3.2", "Pulling from x/engine", [0, 0], false, [0, 0, 0, 0]),
            ("a", "Pulling fs layer", [0, 0], true, [0, 0, 0, 1]),
            ("b", "Pulling fs layer", [0, 0], true, [0, 0, 0, 2]),
            ("c", "Already exists", [0, 0], true, [0, 0, 1, 3]),
            ("b", "Waiting", [0, 0], false, [0, 0, 1, 3]),
            ("a", "Downloading", [10, 100], true, [10, 100, 1, 3]),
            ("a", "Downloading", [10, 100], false, [10, 100, 1, 3]),
            ("a", "Retrying in 5 seconds", [0, 0], false, [10, 100, 1, 3]),
            ("b", "Downloading", [20, 50], true, [30, 150, 1, 3]),
            ("a", "Download complete", [0, 0], true, [120, 150, 1, 3]),
            ("a", "Extracting", [5, 100], true, [120, 150, 1, 3]),
            ("a", "Extracting", [6, 100], true, [120, 150, 1, 3]),
            ("a", "Pull complete", [0, 0], true, [120, 150, 2, 3]),
            ("b", "Downloading", [-1, -1], true, [100, 150, 2, 3]),
        ]
        .into_iter()
        .enumerate()
        {
            let detail = if total == 0 { json!({}) } else { json!({ "current": current, "total": total }) };
            let info = json!({ "id": id, "status": status, "progressDetail": detail });
            let moved = tally.note(&serde_json::from_value(info).unwrap());
            assert_eq!(moved, is_progress, "{i}: {id} {status}");
            let expected = Progress {
                bytes_done: done,
                bytes_total: of,
                layers_done: usize::try_from(layers).unwrap(),
                layers_total: usize::try_from(all).unwrap(),
            };
            assert_eq!(tally.progress(), expected, "{i}: {id} {status}");
        }
    }

    #[test]
    fn layers_without_number_are_not_kept() {
        let mut tally = Tally::default();
        for i in 0..10_000 {
            let info = json!({ "id": i.to_string(), "status": "Waiting" });
            tally.note(&serde_json::from_value(info).unwrap());
        }
        assert_eq!(tally.layers.len(), MOST_LAYERS);
    }
}
