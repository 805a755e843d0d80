//! `/api/v1/streams`.

use axum::{extract::State, response::Response};
use millrace_boundary::StreamSample;
use serde_json::json;

use crate::state::Shared;

/// Streams named in one answer: about half a megabyte.
const NAMED: usize = 1_000;

/// The streams of all shards, as of their last samples.
pub(super) async fn list(State(state): State<Shared>) -> Response {
    let state = state.lock();
    let all = || state.shards.iter().filter_map(|shard| shard.sample()).flat_map(|sample| &sample.streams);
    let named: Vec<&StreamSample> = all().take(NAMED).collect();
    super::json(json!({ "total": all().count(), "streams": named }))
}
