//! `/api/v1/engines`.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use millrace_boundary::{EngineId, EngineState, Monotonic};
use serde::Serialize;

use super::problem::Problem;
use crate::{
    engines::{Engine, Engines},
    state::Shared,
};

#[derive(Serialize)]
struct EngineAnswer<'a> {
    id: EngineId,
    name: &'a str,
    address: std::net::SocketAddr,
    state: EngineState,
    since_seconds: f64,
    version: Option<&'a str>,
    platform: Option<&'a str>,
    slots: Slots,
    start_failures: u32,
    first_byte_seconds: Option<f64>,
    last_probe: Option<Probe>,
}

#[derive(Serialize)]
struct Slots {
    taken: u32,
    capacity: u32,
}

#[derive(Serialize)]
struct Probe {
    age_seconds: f64,
    ok: bool,
    error: Option<String>,
}

impl<'a> EngineAnswer<'a> {
    fn of(engine: &'a Engine, now: Monotonic) -> Self {
        let life = &engine.life;
        Self {
            id: engine.id,
            name: &engine.name,
            address: engine.address,
            state: life.state(),
            since_seconds: now.since(life.since()).as_secs_f64(),
            version: life.version(),
            platform: life.platform(),
            slots: Slots { taken: engine.slots.taken(), capacity: engine.slots.capacity() },
            start_failures: life.penalty(now),
            first_byte_seconds: life.first_byte().map(|d| d.as_secs_f64()),
            last_probe: life.last_probe().map(|probe| Probe {
                age_seconds: now.since(probe.at).as_secs_f64(),
                ok: probe.failure.is_none(),
                error: probe.failure.map(|failure| failure.to_string()),
            }),
        }
    }
}

/// All engines, in order of ids.
pub(super) async fn list(State(state): State<Shared>) -> Response {
    let (state, now) = (state.lock(), Monotonic::now());
    let engines: Vec<_> = state.engines.all().iter().map(|e| EngineAnswer::of(e, now)).collect();
    super::json(serde_json::json!({ "engines": engines }))
}

/// The engine whose id ends the path.
pub(super) async fn one(State(state): State<Shared>, uri: Uri) -> Response {
    let id = named(&uri);
    let state = state.lock();
    match id.parse().ok().and_then(|id| state.engines.get(EngineId(id))) {
        Some(engine) => super::json(EngineAnswer::of(engine, Monotonic::now())),
        None => Problem::no_such_engine(id).into_response(),
    }
}

/// Gives an engine no more streams and lets those it has move away, until
/// [`undrain`].
pub(super) async fn drain(State(state): State<Shared>, uri: Uri) -> Response {
    change(&state, &uri, Engines::drain, StatusCode::ACCEPTED)
}

/// Lets an engine be used again.
pub(super) async fn undrain(State(state): State<Shared>, uri: Uri) -> Response {
    change(&state, &uri, Engines::undrain, StatusCode::OK)
}

fn change(
    state: &Shared,
    uri: &Uri,
    change: fn(&mut Engines, EngineId, Monotonic),
    status: StatusCode,
) -> Response {
    let (mut state, now) = (state.lock(), Monotonic::now());
    if let Ok(id) = named(uri).parse().map(EngineId) {
        change(&mut state.engines, id, now);
        state.offer_table(now);
        if let Some(engine) = state.engines.get(id) {
            return (status, Json(EngineAnswer::of(engine, now))).into_response();
        }
    }
    Problem::no_such_engine(named(uri)).into_response()
}

/// The id in `/api/v1/engines/{id}` and below.
fn named(uri: &Uri) -> &str {
    uri.path().split('/').nth(4).unwrap_or_default()
}
