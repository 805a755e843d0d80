//! `/api/v1/events`: what has happened to the fleet.

use axum::{extract::State as Handle, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{fleet::units, input::Asked, problem::Problem};
use crate::state::Shared;

/// Events in one answer unless more are asked for.
const USUAL: usize = 100;
/// Most events in one answer.
const MOST: usize = 1_000;

/// Which events are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those with a higher id.
    after: Option<u64>,
    limit: Option<usize>,
}

/// The newest ones, oldest first.
pub(super) async fn list(
    Handle(state): Handle<Shared>,
    Asked(Wanted { after, limit }): Asked<Wanted>,
) -> Result<Response, Problem> {
    let limit = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        let why = format!("limit is {limit}, and 1 to {MOST} events are told at once");
        return Err(Problem::bad_request(
            "bad_query",
            why,
            "ask for fewer, and for those after the last one",
        ));
    }
    let state = state.lock();
    let events: Vec<_> = units(&state)?.journal.events(after, limit).collect();
    Ok(super::json(json!({ "events": events })))
}
