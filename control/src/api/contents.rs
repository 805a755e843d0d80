//! `/api/v1/contents/blocked`: contents that rest after failures.

use axum::{
    Json,
    extract::State as Handle,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millrace_boundary::{BlockedContent, Monotonic, ToShard};
use serde_json::json;

use super::{key::Key, problem::Problem};
use crate::{
    shards::Shard,
    state::{Shared, State},
};

/// A shard names so many at most; who names fewer has named them all.
const NAMED_BY_A_SHARD: usize = 100;

/// The contents that rest now, in order of keys.
pub(super) async fn list(Handle(state): Handle<Shared>) -> Response {
    let contents = resting(&state.lock(), Monotonic::now());
    super::json(json!({ "total": contents.len(), "contents": contents }))
}

/// Lets one content be tried again.
pub(super) async fn forgive(Handle(state): Handle<Shared>, Key(key): Key) -> Result<Response, Problem> {
    let (mut state, now) = (state.lock(), Monotonic::now());
    let all_named = state.shards.iter().filter_map(Shard::sample).all(|s| s.blocked.len() < NAMED_BY_A_SHARD);
    if all_named && !resting(&state, now).iter().any(|content| content.key == key) {
        return Err(Problem::no_such_content(&key));
    }
    order_all(&mut state, Some(&key), now)?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "forgiven": key }))).into_response())
}

/// Lets every content be tried again.
pub(super) async fn forgive_all(Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    order_all(&mut state.lock(), None, Monotonic::now())?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "forgiven": "all" }))).into_response())
}

/// As of the last samples, and what has become of them since.
fn resting(state: &State, now: Monotonic) -> Vec<BlockedContent> {
    let mut contents = Vec::new();
    for shard in &state.shards {
        let age = shard.silence(now).as_secs_f64();
        let told = shard.sample().map_or(&[][..], |sample| &sample.blocked);
        let left = told.iter().filter(|content| content.seconds_left > age);
        contents.extend(
            left.map(|content| BlockedContent {
                seconds_left: content.seconds_left - age,
                ..content.clone()
            }),
        );
    }
    contents.sort_by(|a, b| a.key.cmp(&b.key));
    contents
}

/// To every shard, since only the owner knows its own. One that refuses does
/// not keep the order from the others.
fn order_all(state: &mut State, key: Option<&str>, now: Monotonic) -> Result<(), Problem> {
    let mut outcome = Ok(());
    for shard in &mut state.shards {
        let order = ToShard::Forgive { key: key.map(Into::into) };
        outcome = outcome.and(shard.order(order, now).map_err(|why| Problem::not_ordered(shard.id, why)));
    }
    outcome
}
