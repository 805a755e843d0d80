//! `/api/v1/engines/{engine}/logs`: what an engine's container writes.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State as Handle,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{admins::Admin, engines::ours, fleet::units, input::Asked, key::Key, problem::Problem};
use crate::{
    fleet::docker::{ContainerId, DockerError, Hands, LogLine},
    state::Shared,
};

/// Who follows a log at the same time: each holds a connection to Docker open.
pub(crate) const FOLLOWERS: usize = 8;
/// Lines of a tail unless others are asked for.
const USUAL: usize = 100;
/// Most lines of a tail.
const MOST: usize = 500;
/// Bytes of a tail.
const BYTES: usize = 64 << 10;
/// For Docker to begin to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Nobody follows for longer.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Nor for longer without a line: whoever has left is noticed only by writing.
const SILENCE: Duration = Duration::from_secs(600);

/// What is wanted of the log.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    tail: Option<usize>,
    follow: bool,
}

/// What the predecessor's path is asked beside the number of lines has no
/// meaning here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WantedOnce {
    tail: Option<usize>,
}

/// The newest lines, and those to come when it is followed.
pub(super) async fn read(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
    Asked(Wanted { tail, follow }): Asked<Wanted>,
) -> Result<Response, Problem> {
    let tail = lines(tail)?;
    let (hands, id, followers) = container(&state, &name)?;
    let body = if follow {
        let permit = followers.try_acquire_owned().map_err(|_| too_many())?;
        let begun = timeout(ANSWER, hands.log_follow(&id, tail)).await;
        let lines = begun.unwrap_or(Err(DockerError::Silent(ANSWER))).map_err(unread)?;
        Body::from_stream(followed(lines, permit))
    } else {
        Body::from(text(&hands.log_tail(&id, tail, BYTES).await.map_err(unread)?))
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

/// In the predecessor's shape.
pub(super) async fn read_as_before(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
    Asked(WantedOnce { tail }): Asked<WantedOnce>,
) -> Result<Response, Problem> {
    let tail = lines(tail)?;
    let (hands, id, _) = container(&state, &name)?;
    let read = hands.log_tail(&id, tail, BYTES).await.map_err(unread)?;
    let at = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    let at = rfc3339(at.unwrap_or_default());
    Ok(super::json(json!({ "logs": text(&read), "container_id": id.as_str(), "fetched_at": at })))
}

fn lines(tail: Option<usize>) -> Result<usize, Problem> {
    let tail = tail.unwrap_or(USUAL);
    if tail > MOST {
        let why = format!("tail is {tail}, and {MOST} lines are kept to be told");
        return Err(Problem::bad_request("bad_query", why, "ask for fewer lines"));
    }
    Ok(tail)
}

fn container(state: &Shared, name: &str) -> Result<(Hands, ContainerId, Arc<Semaphore>), Problem> {
    let state = state.lock();
    let all = units(&state)?;
    let unit = all.get(ours(&state, name)?);
    let id = unit.and_then(|unit| ContainerId::parse(unit.container.as_deref()?)).ok_or_else(|| {
        Problem::conflict(
            "no_container",
            "this engine has no container now".to_owned(),
            "see the events of /api/v1/events for how its last one ended, with the end of its log",
        )
    })?;
    let hands = state.hands.clone().ok_or_else(|| {
        Problem::unavailable(
            "docker_lost",
            "Docker does not answer".to_owned(),
            "see the incidents of /api/v1/fleet for why",
        )
    })?;
    Ok((hands, id, Arc::clone(&state.followers)))
}

fn too_many() -> Problem {
    Problem::unavailable(
        "too_many_followers",
        format!("{FOLLOWERS} logs are being followed"),
        "end one of them, or read the tail alone",
    )
}

fn unread(error: DockerError) -> Problem {
    Problem::unavailable("log_unreadable", error.to_string(), error.remedy())
}

fn text(lines: &[LogLine]) -> String {
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

/// Lines as they come, until there are no more, or it was long enough.
fn followed(
    lines: impl Stream<Item = Result<LogLine, DockerError>> + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<String, std::convert::Infallible>> + Send + 'static {
    let end = Instant::now() + LONGEST;
    stream::unfold((Box::pin(lines), permit), move |(mut lines, permit)| async move {
        let at = end.min(Instant::now() + SILENCE);
        match timeout_at(at, lines.next()).await {
            Ok(Some(Ok(line))) => Some((Ok(format!("{}\n", line.text)), (lines, permit))),
            Ok(Some(Err(_)) | None) | Err(_) => None,
        }
    })
}

/// As RFC 3339 has it, in UTC.
fn rfc3339(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / 86_400, since_1970.as_secs() % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::docker::Output;

    #[test]
    fn a_moment_is_written_as_rfc_3339_has_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
    }

    fn line(text: &str) -> Result<LogLine, DockerError> {
        Ok(LogLine { output: Output::Stdout, text: text.to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_follows_gives_its_place_back_at_the_end() {
        let one = || Arc::new(Semaphore::new(1));
        let places = one();
        let permit = Arc::clone(&places).try_acquire_owned().unwrap();
        let ends = stream::iter([line("a"), line("b"), Err(DockerError::Closed), line("c")]);
        let read: Vec<_> = followed(ends, permit).map(Result::unwrap).collect().await;
        assert_eq!((read, places.available_permits()), (vec!["a\n".to_owned(), "b\n".to_owned()], 1));

        let permit = places.try_acquire_owned().unwrap();
        let begun = Instant::now();
        let silent = stream::iter([line("a")]).chain(stream::pending());
        assert_eq!(followed(silent, permit).count().await, 1);
        assert_eq!(begun.elapsed().as_secs(), SILENCE.as_secs(), "nobody waits for ever");

        let permit = one().try_acquire_owned().unwrap();
        let begun = Instant::now();
        let endless = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Some((line("a"), ()))
        });
        let count = followed(endless, permit).count().await;
        assert!((59..=60).contains(&count), "{count}");
        assert_eq!(begun.elapsed().as_secs(), LONGEST.as_secs());
    }
}
