//! `/api/v1/sessions`: what happened to streams, those that ended too.

use axum::{
    extract::{Query, State as Handle, rejection::QueryRejection},
    response::Response,
};
use millrace_boundary::{Cause, EngineId, ShardId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{key::Key, problem::Problem};
use crate::{sessions::Session, state::Shared};

/// Sessions in one answer unless more are asked for.
const USUAL: usize = 100;
/// Most sessions in one answer: about a third of a megabyte.
const MOST: usize = 1_000;

/// Which sessions are wanted, as it stands in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    limit: Option<String>,
    key: Option<String>,
    state: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Running,
    Ended,
}

impl Stage {
    fn of(session: &Session) -> Self {
        if session.cause.is_some() { Self::Ended } else { Self::Running }
    }
}

/// A session without its timeline.
#[derive(Serialize)]
struct Summary<'a> {
    session: &'a str,
    key: &'a str,
    shard: ShardId,
    state: Stage,
    cause: Option<Cause>,
    detail: Option<&'a str>,
    /// The engine of the newest note that names one.
    engine: Option<EngineId>,
    /// Seconds from the first viewer's request to the newest note.
    seconds: f64,
    notes: usize,
}

impl<'a> Summary<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            session: &session.session,
            key: &session.key,
            shard: session.shard,
            state: Stage::of(session),
            cause: session.cause,
            detail: session.detail.as_deref(),
            engine: session.timeline.iter().rev().find_map(|note| note.engine),
            seconds: session.timeline.last().map_or(0.0, |note| note.at_seconds),
            notes: session.timeline.len(),
        }
    }
}

/// A session with its timeline.
#[derive(Serialize)]
struct Whole<'a> {
    state: Stage,
    #[serde(flatten)]
    session: &'a Session,
}

/// The newest sessions that match, the newest first.
pub(super) async fn list(
    Handle(state): Handle<Shared>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Ok(Query(wanted)) = wanted else {
        return Err(bad_query("the query is not made of limit, key and state, each at most once".to_owned()));
    };
    let limit = limit(wanted.limit.as_deref())?;
    let stage = stage(wanted.state.as_deref())?;
    let state = state.lock();
    let matches = |session: &&Session| {
        wanted.key.as_ref().is_none_or(|key| *key == session.key)
            && stage.is_none_or(|stage| stage == Stage::of(session))
    };
    let total = state.sessions.newest().filter(matches).count();
    let named: Vec<_> = state.sessions.newest().filter(matches).take(limit).map(Summary::of).collect();
    Ok(super::json(json!({ "total": total, "sessions": named })))
}

/// The session whose id ends the path.
pub(super) async fn one(Handle(state): Handle<Shared>, Key(id): Key) -> Result<Response, Problem> {
    if id.len() != 16 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Problem::bad_session_id(&id));
    }
    let state = state.lock();
    let session =
        state.sessions.get(&id.to_ascii_lowercase()).ok_or_else(|| Problem::no_such_session(&id))?;
    Ok(super::json(Whole { state: Stage::of(session), session }))
}

fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(USUAL) };
    let count = text.parse().ok().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| bad_query(format!("`limit` is not a whole number from 1 to {MOST}")))
}

fn stage(text: Option<&str>) -> Result<Option<Stage>, Problem> {
    match text {
        None => Ok(None),
        Some("running") => Ok(Some(Stage::Running)),
        Some("ended") => Ok(Some(Stage::Ended)),
        Some(_) => Err(bad_query("`state` is neither running nor ended".to_owned())),
    }
}

fn bad_query(message: String) -> Problem {
    Problem::bad_request("bad_parameter", message, "ask like ?limit=100&state=running&key=id%3A0123…")
}
