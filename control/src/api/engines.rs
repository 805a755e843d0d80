//! `/api/v1/engines`: those of the table, and those of ours that are not in it.

use axum::{
    Json,
    extract::State as Handle,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use millrace_boundary::{EngineId, EngineState, Monotonic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    admins::Admin,
    fleet::units,
    input::Asked,
    key::Key,
    problem::Problem,
    usage::{Figures, UsageAnswer},
};
use crate::{
    autoscale::UnitId,
    engines::Engine,
    fleet::docker::Ports,
    state::{Shared, State},
    unit::{Leave, Order, Stage, Then},
    units::Unit,
};

/// Digits of a container's id that name it at least.
const FEWEST_DIGITS: usize = 6;
/// Digits of a container's id that people see.
const SHORT: usize = 12;

#[derive(Serialize)]
struct EngineAnswer<'a> {
    id: Option<EngineId>,
    name: &'a str,
    address: Option<std::net::SocketAddr>,
    state: Option<EngineState>,
    since_seconds: Option<f64>,
    version: Option<&'a str>,
    platform: Option<&'a str>,
    slots: Slots,
    start_failures: u32,
    first_byte_seconds: Option<f64>,
    last_probe: Option<Probe>,
    managed: Managed,
    /// Streams that it has played since it was found.
    sessions: u64,
    healthy: bool,
    #[serde(flatten)]
    ours: Option<Ours<'a>>,
    usage: Option<UsageAnswer>,
}

/// Who makes it and takes it away.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Managed {
    Ours,
    Found,
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

/// What is known of one that is ours.
#[derive(Serialize)]
struct Ours<'a> {
    unit: u32,
    container: Option<&'a str>,
    stage: &'static str,
    stage_since_seconds: f64,
    age_seconds: f64,
    restarts: u32,
    drifted: bool,
    /// Why it is replaced or taken away, while it is.
    leaving: Option<&'static str>,
    /// Whether it is to be kept empty.
    held: bool,
    ports: PortsAnswer,
}

#[derive(Serialize)]
struct PortsAnswer {
    http: u16,
    https: Option<u16>,
    api: Option<u16>,
    p2p: Option<u16>,
}

impl<'a> Ours<'a> {
    fn of(unit: &'a Unit, now: Monotonic) -> Self {
        let Ports { http, https, api, p2p } = unit.ports;
        Self {
            unit: unit.id.0,
            container: unit.container.as_deref().map(short),
            stage: unit.life.stage().as_str(),
            stage_since_seconds: now.since(unit.life.since()).as_secs_f64(),
            age_seconds: now.since(unit.born).as_secs_f64(),
            restarts: unit.restarts,
            drifted: unit.drifted,
            leaving: unit.leaving.map(Leave::as_str),
            held: unit.life.is_held(),
            ports: PortsAnswer { http, https, api, p2p },
        }
    }
}

impl<'a> EngineAnswer<'a> {
    /// One of the two at least.
    fn of(engine: Option<&'a Engine>, unit: Option<&'a Unit>, figures: &Figures, now: Monotonic) -> Self {
        let life = engine.map(|engine| &engine.life);
        let name = engine.map(|engine| &*engine.name).or(unit.map(|unit| &*unit.name));
        let container = engine.map(|e| &**e.identity()).or(unit.and_then(|unit| unit.container.as_deref()));
        let is_ready = life.is_some_and(|life| life.state() == EngineState::Ready);
        Self {
            id: engine.map(|engine| engine.id),
            name: name.unwrap_or_default(),
            address: engine.map(|engine| engine.address),
            state: life.map(|life| life.state()),
            since_seconds: life.map(|life| now.since(life.since()).as_secs_f64()),
            version: life.and_then(|life| life.version()),
            platform: life.and_then(|life| life.platform()),
            slots: Slots {
                taken: engine.map_or(0, |engine| engine.slots.taken()),
                capacity: engine.map_or(0, |engine| engine.slots.capacity()),
            },
            start_failures: life.map_or(0, |life| life.penalty(now)),
            first_byte_seconds: life.and_then(|life| life.first_byte()).map(|d| d.as_secs_f64()),
            last_probe: life.and_then(|life| life.last_probe()).map(|probe| Probe {
                age_seconds: now.since(probe.at).as_secs_f64(),
                ok: probe.failure.is_none(),
                error: probe.failure.map(|failure| failure.to_string()),
            }),
            managed: if unit.is_some() { Managed::Ours } else { Managed::Found },
            sessions: engine.map_or(0, |engine| engine.sessions()),
            healthy: is_ready && unit.is_none_or(|unit| unit.life.stage() == Stage::Ready),
            ours: unit.map(|unit| Ours::of(unit, now)),
            usage: container.and_then(|id| figures.of.get(id)).map(|usage| UsageAnswer::of(usage, now)),
        }
    }
}

/// The beginning of a container's id.
pub(super) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// What a path names: an engine, a unit, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    engine: Option<EngineId>,
    /// Where it is ours.
    pub(super) unit: Option<UnitId>,
}

impl Named {
    /// By the engine's number, the container's name, or six or more digits of its
    /// id.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub(super) fn find(state: &State, text: &str) -> Result<Self, Problem> {
        let engines = state.engines.all();
        let all_units = state.units.as_ref().map_or(&[][..], |units| units.all());
        let number = text.parse().ok().map(EngineId).and_then(|id| state.engines.get(id));
        let is_id = text.len() >= FEWEST_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        let digits = is_id.then(|| text.to_ascii_lowercase());
        let begins = |id: &str| digits.as_deref().is_some_and(|digits| id.starts_with(digits));
        if let Some(engine) = number {
            return Ok(Self::of(state, engine));
        }
        let mut found: Vec<Self> = Vec::new();
        let named = engines.iter().filter(|e| *e.name == *text || begins(e.identity()));
        found.extend(named.map(|engine| Self::of(state, engine)));
        for unit in all_units {
            let is_it = *unit.name == *text || unit.container.as_deref().is_some_and(begins);
            if is_it && found.iter().all(|named| named.unit != Some(unit.id)) {
                found.push(Self { engine: None, unit: Some(unit.id) });
            }
        }
        match found[..] {
            [one] => Ok(one),
            [] => Err(Problem::no_such_engine(text)),
            _ => Err(Problem::conflict(
                "engine_ambiguous",
                format!("{} engines are called so", found.len()),
                "name one by its number or by more digits of its container's id from /api/v1/engines",
            )),
        }
    }

    fn of(state: &State, engine: &Engine) -> Self {
        let unit = state.units.as_ref().and_then(|units| units.of_container(engine.identity()));
        Self { engine: Some(engine.id), unit: unit.map(|unit| unit.id) }
    }

    fn answer(self, state: &State, now: Monotonic) -> Option<EngineAnswer<'_>> {
        let unit = self.unit.and_then(|id| state.units.as_ref()?.get(id));
        let engine = self.engine.and_then(|id| state.engines.get(id));
        (unit.is_some() || engine.is_some()).then(|| EngineAnswer::of(engine, unit, &state.figures, now))
    }
}

/// All engines, in order of ids; then units without one, oldest first.
pub(super) async fn list(Handle(state): Handle<Shared>) -> Response {
    let (state, now) = (state.lock(), Monotonic::now());
    let unit_of = |engine: &Engine| state.units.as_ref()?.of_container(engine.identity());
    let mut answers: Vec<_> = state
        .engines
        .all()
        .iter()
        .map(|engine| EngineAnswer::of(Some(engine), unit_of(engine), &state.figures, now))
        .collect();
    let units = state.units.iter().flat_map(|units| units.all());
    let is_apart = |unit: &&Unit| {
        unit.container.as_deref().is_none_or(|container| state.engines.by_identity(container).is_none())
    };
    answers
        .extend(units.filter(is_apart).map(|unit| EngineAnswer::of(None, Some(unit), &state.figures, now)));
    super::json(json!({ "engines": answers }))
}

/// The engine that the path names.
pub(super) async fn one(Handle(state): Handle<Shared>, Key(name): Key) -> Result<Response, Problem> {
    let state = state.lock();
    let named = Named::find(&state, &name)?;
    let answer = named.answer(&state, Monotonic::now());
    answer.map(super::json).ok_or_else(|| Problem::no_such_engine(&name))
}

/// Gives an engine no more streams and lets those it has move away, until
/// [`undrain`].
pub(super) async fn drain(Handle(state): Handle<Shared>, Key(name): Key) -> Result<Response, Problem> {
    change_use(&state, &name, Order::Drain, StatusCode::ACCEPTED)
}

/// Lets an engine be used again.
pub(super) async fn undrain(Handle(state): Handle<Shared>, Key(name): Key) -> Result<Response, Problem> {
    change_use(&state, &name, Order::Undrain, StatusCode::OK)
}

fn change_use(state: &Shared, name: &str, order: Order, status: StatusCode) -> Result<Response, Problem> {
    let (mut state, now) = (state.lock(), Monotonic::now());
    let named = Named::find(&state, name)?;
    let State { engines, units, .. } = &mut *state;
    match (named, units) {
        // Its life has to know, or it would be used again after a mend.
        (Named { unit: Some(unit), .. }, Some(units)) => drop(units.order(unit, order, engines, now)),
        (Named { engine: Some(engine), .. }, _) if order == Order::Drain => engines.drain(engine, now),
        (Named { engine: Some(engine), .. }, _) => engines.undrain(engine, now),
        _ => {}
    }
    state.offer_table(now);
    answer(&state, named, name, status, now)
}

fn answer(
    state: &State,
    named: Named,
    name: &str,
    status: StatusCode,
    now: Monotonic,
) -> Result<Response, Problem> {
    let answer = named.answer(state, now).ok_or_else(|| Problem::no_such_engine(name))?;
    Ok((status, Json(answer)).into_response())
}

/// How an engine is removed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Removal {
    /// At once, whoever is on it.
    force: bool,
}

/// Takes an engine of ours away; its streams move first.
pub(super) async fn remove(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
    Asked(Removal { force }): Asked<Removal>,
) -> Result<Response, Problem> {
    let order = if force { Order::Kill } else { Order::Remove(Leave::Asked) };
    order_ours(&state, &name, order)
}

/// Restarts the container of an engine of ours; its streams move first.
pub(super) async fn restart(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
) -> Result<Response, Problem> {
    order_ours(&state, &name, Order::Restart)
}

/// Gives an engine of ours another container; its streams move first.
pub(super) async fn recreate(
    _: Admin,
    Handle(state): Handle<Shared>,
    Key(name): Key,
) -> Result<Response, Problem> {
    order_ours(&state, &name, Order::Remake(Leave::Asked))
}

fn order_ours(state: &Shared, name: &str, order: Order) -> Result<Response, Problem> {
    let (mut state, now) = (state.lock(), Monotonic::now());
    let stage = {
        let units = units(&state)?;
        let unit = ours(&state, name)?;
        units.get(unit).map(|unit| unit.life.stage())
    };
    let named = Named::find(&state, name)?;
    if let (Some(stage), Order::Restart | Order::Remake(_)) = (stage, order)
        && !may_be_mended(stage)
    {
        return Err(Problem::conflict(
            "engine_busy",
            format!("something is being done to this engine: it is {}", stage.as_str()),
            "ask again when /api/v1/engines says that its stage is another one",
        ));
    }
    let State { engines, units, .. } = &mut *state;
    if let (Some(units), Some(unit)) = (units, named.unit) {
        units.order(unit, order, engines, now);
    }
    state.offer_table(now);
    // One without a container is gone at once.
    if named.answer(&state, now).is_none() {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "name": name, "stage": "gone" }))).into_response());
    }
    answer(&state, named, name, StatusCode::ACCEPTED, now)
}

/// The unit that the path names.
///
/// # Errors
/// When there is none of this name, or it is not ours.
pub(super) fn ours(state: &State, name: &str) -> Result<UnitId, Problem> {
    Named::find(state, name)?.unit.ok_or_else(|| {
        Problem::conflict(
            "not_ours",
            "Millrace has found this engine, and does not run it".to_owned(),
            "drain it with POST /api/v1/engines/{engine}/drain, and then stop it where it was started",
        )
    })
}

/// Whether an order to restart it, or to make it anew, would be heard.
fn may_be_mended(stage: Stage) -> bool {
    match stage {
        Stage::Booting
        | Stage::Ready
        | Stage::Ailing(_)
        | Stage::Emptying(_, Then::Restart | Then::Remake | Then::Hold)
        | Stage::Quarantined(_)
        | Stage::Paused => true,
        Stage::Emptying(_, Then::Remove)
        | Stage::Making
        | Stage::Mending
        | Stage::Burying(_)
        | Stage::Pausing
        | Stage::Waking
        | Stage::Leaving
        | Stage::Gone => false,
    }
}
