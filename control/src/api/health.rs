//! Two questions of an orchestrator: restart it? send viewers?

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use millrace_boundary::Monotonic;
use serde_json::json;

use super::problem::Problem;
use crate::{
    shards::SILENT,
    state::{Phase, Shared},
};

/// 200 while the loop turns and every shard reports.
pub(super) async fn healthz(State(state): State<Shared>) -> Response {
    let (state, now) = (state.lock(), Monotonic::now());
    if now.since(state.turned) >= SILENT {
        let message = format!("the control loop last turned {} s ago", now.since(state.turned).as_secs());
        return Problem::unavailable("control_stuck", message, "restart the server").into_response();
    }
    let silent: Vec<_> = state
        .shards
        .iter()
        .filter(|shard| shard.silence(now) >= SILENT)
        .map(|shard| format!("shard {} has not reported for {} s", shard.id, shard.silence(now).as_secs()))
        .collect();
    if !silent.is_empty() {
        return Problem::unavailable("shard_silent", silent.join(", "), "restart the server").into_response();
    }
    super::json(json!({ "status": "ok" }))
}

/// 200 once viewers can be served, until the drain.
pub(super) async fn readyz(State(state): State<Shared>) -> Response {
    let state = state.lock();
    let ready = state.engines.states().ready;
    let problem = if state.phase != Phase::Serving {
        Problem::unavailable("draining", "the server is shutting down".into(), "use another server")
    } else if !state.all_have_a_table() {
        let missing: Vec<_> =
            state.shards.iter().filter(|s| s.adopted().0 == 0).map(|s| s.id.to_string()).collect();
        let message = format!("no engine table is in use yet on shard {}", missing.join(", "));
        Problem::unavailable("shards_starting", message, "try again in a second")
    } else if ready == 0 {
        let message = format!("none of {} engines is ready", state.engines.all().len());
        Problem::unavailable("no_engine", message, state.no_engine_remedy)
    } else {
        return super::json(json!({ "status": "ready", "engines_ready": ready }));
    };
    problem.into_response()
}
