//! `/api/v1/events`: what has happened to the fleet.

use axum::{extract::State as Handle, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{admins::Admin, fleet::units, input::Asked, problem::Problem};
use crate::{
    journal::{Autopsy, Event},
    state::Shared,
};

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

/// What a container has written is for administrators alone.
fn without_log(event: &Event) -> Event {
    let autopsy = event.autopsy.as_ref().map(|autopsy| Autopsy {
        exit_code: autopsy.exit_code,
        out_of_memory: autopsy.out_of_memory,
        error: autopsy.error.clone(),
        log_tail: Vec::new(),
    });
    let Event { id, at, code, severity, ref engine, ref message, ref remedy, .. } = *event;
    let (engine, message, remedy) = (engine.clone(), message.clone(), remedy.clone());
    Event { id, at, code, severity, engine, message, remedy, autopsy }
}

/// The newest ones, oldest first; the last lines of engines that died only for
/// administrators.
pub(super) async fn list(
    Handle(state): Handle<Shared>,
    admin: Result<Admin, Problem>,
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
    let events = units(&state)?.journal.events(after, limit);
    if admin.is_ok() {
        return Ok(super::json(json!({ "events": events.collect::<Vec<_>>() })));
    }
    let events: Vec<_> = events.map(without_log).collect();
    Ok(super::json(json!({ "events": events })))
}
