//! `/api/v1/fleet` and what is asked of the fleet as a whole.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State as Handle,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millrace_boundary::Monotonic;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{admins::Admin, input::Body, key::Key, problem::Problem};
use crate::{
    state::{Shared, State},
    units::{Made, Rescale, Units, Unmade},
};

/// Engines made by one request at most.
const AT_ONCE: usize = 10;

/// The units of a fleet in Docker.
///
/// # Errors
/// When the fleet is another one.
pub(super) fn units(state: &State) -> Result<&Units, Problem> {
    state.units.as_ref().ok_or_else(Problem::no_docker_fleet)
}

/// The same, to be changed.
pub(super) fn units_mut(state: &mut State) -> Result<&mut Units, Problem> {
    state.units.as_mut().ok_or_else(Problem::no_docker_fleet)
}

/// All of it.
pub(super) async fn show(Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let (state, now) = (state.lock(), Monotonic::now());
    Ok(super::json(whole(&state, units(&state)?, now)))
}

fn whole(state: &State, units: &Units, now: Monotonic) -> Value {
    let settings = units.settings();
    let scale = &settings.scale;
    let breaker = units.autoscaler().breaker(now);
    let (answers, since) = units.docker_answers();
    let (ports, taken) = units.ports();
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for unit in units.all() {
        *stages.entry(unit.life.stage().as_str()).or_default() += 1;
    }
    let ready = units.all().iter().filter(|unit| unit.is_healthy(&state.engines)).count();
    let pull = units.image().progress().map(|progress| {
        json!({
            "bytes_done": progress.bytes_done,
            "bytes_total": progress.bytes_total,
            "layers_done": progress.layers_done,
            "layers_total": progress.layers_total,
        })
    });
    json!({
        "name": settings.name,
        "settings": scale_answer(units),
        "policy": {
            "why": units.last_plan.why,
            "held": units.last_plan.held,
            "waiting_streams": state.waiting(now),
        },
        "engines": { "total": units.all().len(), "healthy": ready, "by_stage": stages },
        "breaker": {
            "state": breaker.state,
            "failures": breaker.failures,
            "retry_in_seconds": breaker.until.map(|until| until.since(now).as_secs_f64()),
        },
        "image": {
            "reference": units.spec().map(|spec| &*spec.image),
            "state": units.image().as_str(),
            "progress": pull,
        },
        "template": units.template().map(|template| &*template.name),
        // A daemon's address holds no secret: no user, no password.
        "docker": {
            "uri": settings.uri.to_string(),
            "answers": answers,
            "since_seconds": now.since(since).as_secs_f64(),
        },
        "ports": { "first": ports.start(), "last": ports.end(), "taken": taken },
        "statistics_interval_seconds": state.figures.interval.as_secs_f64(),
        "rolling": units.rolling(),
        "incidents": units.journal.incidents().collect::<Vec<_>>(),
        "forecast": { "used": scale.forecast, "learned": units.autoscaler().learned() },
    })
}

fn scale_answer(units: &Units) -> Value {
    let scale = &units.settings().scale;
    json!({
        "min": scale.min,
        "max": scale.max,
        "spare_slots": scale.spare_slots,
        "paused": scale.paused,
        "manual": scale.manual,
        "capacity": units.autoscaler().policy().capacity,
        "cooldown_seconds": scale.cooldown.as_secs_f64(),
        "min_life_seconds": scale.min_life.as_secs_f64(),
        "sustained_seconds": scale.sustained.as_secs_f64(),
        "surplus_seconds": scale.surplus.as_secs_f64(),
        "step_up": scale.step_up,
        "step_down": scale.step_down,
        "starts_per_minute": scale.starts_per_minute,
    })
}

/// Numbers to be changed; those left out stay.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Change {
    min: Option<usize>,
    max: Option<usize>,
    spare_slots: Option<u32>,
    paused: Option<usize>,
    /// Null is without a number.
    #[serde(deserialize_with = "given")]
    manual: Option<Option<usize>>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<usize>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// Other numbers, until the server is restarted.
pub(super) async fn change(
    _: Admin,
    Handle(state): Handle<Shared>,
    Body(change): Body<Change>,
) -> Result<Response, Problem> {
    let Change { min, max, spare_slots, paused, manual } = change;
    rescale(&state, Rescale { min, max, spare_slots, paused, manual })
}

/// Exactly so many engines.
pub(super) async fn scale(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(count): Key,
) -> Result<Response, Problem> {
    let count =
        count.parse().map_err(|_| bad_scale("the path does not end in a number of engines".to_owned()))?;
    rescale(&state, Rescale { manual: Some(Some(count)), ..Rescale::default() })
}

/// As many as the policy says.
pub(super) async fn unscale(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    rescale(&state, Rescale { manual: Some(None), ..Rescale::default() })
}

fn rescale(state: &Shared, change: Rescale) -> Result<Response, Problem> {
    let mut state = state.lock();
    let units = units_mut(&mut state)?;
    units.rescale(change).map_err(bad_scale)?;
    tracing::info!(scale = ?units.settings().scale, "the fleet's numbers are changed");
    Ok(super::json(json!({
        "settings": scale_answer(units),
        "stored": false,
        "note": "in force until the server is restarted; set it in the configuration to keep it",
    })))
}

fn bad_scale(why: String) -> Problem {
    Problem::bad_request("bad_scale", why, "give min and manual at most max, and max at most 1000")
}

/// How many engines are to be made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Provision {
    count: Option<usize>,
}

/// Makes engines at once, one unless told otherwise.
pub(super) async fn provision(
    _: Admin,
    Handle(state): Handle<Shared>,
    Body(Provision { count }): Body<Provision>,
) -> Result<Response, Problem> {
    make(&state, count.unwrap_or(1))
}

/// The same under the predecessor's path, whose body is another one.
pub(super) async fn provision_one(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    make(&state, 1)
}

fn make(state: &Shared, count: usize) -> Result<Response, Problem> {
    if !(1..=AT_ONCE).contains(&count) {
        let why = format!("count is {count}, and 1 to {AT_ONCE} are made at once");
        return Err(Problem::bad_request("bad_count", why, "ask for fewer, and again"));
    }
    let (mut state, now) = (state.lock(), Monotonic::now());
    let Made { names, held } = units_mut(&mut state)?.provision(count, now).map_err(unmade)?;
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let held = held.map(|why| unmade(why).code);
    let answer = json!({ "created": names.len(), "engines": names, "held": held });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn unmade(why: Unmade) -> Problem {
    match why {
        Unmade::AtMax { limit } => Problem::conflict(
            "at_max",
            format!("there are as many engines as there may be: {limit}"),
            "raise fleet.max, by PATCH /api/v1/fleet until the next start; or leave manual mode with DELETE /api/v1/scale",
        ),
        Unmade::BreakerOpen { retry } => {
            let retry = retry.map_or_else(
                || "one is being tried".to_owned(),
                |retry: Duration| format!("one is tried in {} s", retry.as_secs() + 1),
            );
            Problem::unavailable(
                "breaker_open",
                format!("too many engines could not be made of late: {retry}"),
                "see the incidents of /api/v1/fleet for why; once that is mended, POST /api/v1/fleet/breaker/reset",
            )
        }
        Unmade::DockerLost => Problem::unavailable(
            "docker_lost",
            "Docker does not answer".to_owned(),
            "see the incidents of /api/v1/fleet for why",
        ),
        Unmade::Shared => Problem::conflict(
            "fleet_shared",
            "another server runs this fleet".to_owned(),
            "give each server a name of its own in docker.name, or ask the other one",
        ),
        Unmade::ImageMissing => Problem::unavailable(
            "image_missing",
            "the image is not there, or not yet".to_owned(),
            "see image and the incidents of /api/v1/fleet; POST /api/v1/image/pull looks again at once",
        ),
        Unmade::TemplateUnusable => Problem::conflict(
            "template_unusable",
            "the template in force cannot be used".to_owned(),
            "see the incidents of /api/v1/fleet for why; mend it, or activate another one",
        ),
        Unmade::PortsUsedUp => Problem::unavailable(
            "ports_used_up",
            "no port is left for an engine".to_owned(),
            "widen docker.ports, or end what listens there",
        ),
        Unmade::TooFast => Problem::unavailable(
            "too_many_starts",
            "as many engines were made within the last minute as may be".to_owned(),
            "ask again in a few seconds, or raise fleet.starts_per_minute",
        ),
    }
}

/// Has the daemon asked at once which containers there are.
pub(super) async fn reconcile(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let state = state.lock();
    units(&state)?;
    if let Some(nudge) = &state.nudge {
        nudge.notify_one();
    }
    Ok(accepted(json!({ "status": "reconciling" })))
}

/// Makes every engine anew, one at a time, its streams moved before.
pub(super) async fn reprovision(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let mut state = state.lock();
    let units = units_mut(&mut state)?;
    if units.rolling().running {
        return Err(Problem::conflict(
            "already_rolling",
            "all engines are being made anew already".to_owned(),
            "see GET /api/v1/reprovision for how far that is",
        ));
    }
    Ok(accepted(json!(units.replace_all())))
}

/// How far that is.
pub(super) async fn rolling(Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let state = state.lock();
    Ok(super::json(units(&state)?.rolling()))
}

/// Whatever kept engines from being made has been mended.
pub(super) async fn reset_breaker(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let (mut state, now) = (state.lock(), Monotonic::now());
    let units = units_mut(&mut state)?;
    units.reset_breaker();
    Ok(super::json(json!({ "state": units.autoscaler().breaker(now).state })))
}

/// Looks for the image again, and pulls it unless it is never to be pulled.
pub(super) async fn pull(_: Admin, Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let mut state = state.lock();
    let units = units_mut(&mut state)?;
    units.refresh_image();
    Ok(accepted(json!({
        "reference": units.spec().map(|spec| &*spec.image),
        "state": units.image().as_str(),
    })))
}

fn accepted(answer: Value) -> Response {
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
