//! `/api/v1/engines/stats`: what engines cost their host, from the last round.

use axum::{extract::State as Handle, response::Response};
use millrace_boundary::Monotonic;
use serde::Serialize;
use serde_json::json;

use super::{
    engines::{ours, short},
    fleet::units,
    key::Key,
    problem::Problem,
};
pub(super) use crate::crew::Figures;
use crate::{state::Shared, statistics::Usage};

/// One container's use of its host; what Docker does not tell is null.
#[derive(Serialize)]
pub(super) struct UsageAnswer {
    /// 100 is one core.
    cpu_percent: Option<f64>,
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    pids: Option<u64>,
    /// These four since its container started.
    network_rx_bytes: Option<u64>,
    network_tx_bytes: Option<u64>,
    block_read_bytes: Option<u64>,
    block_write_bytes: Option<u64>,
    age_seconds: f64,
}

impl UsageAnswer {
    pub(super) fn of(usage: &Usage, now: Monotonic) -> Self {
        Self {
            cpu_percent: usage.cpu_percent,
            memory_bytes: usage.memory_bytes,
            memory_limit_bytes: usage.memory_limit_bytes,
            pids: usage.pids,
            network_rx_bytes: usage.counters.network_rx_bytes,
            network_tx_bytes: usage.counters.network_tx_bytes,
            block_read_bytes: usage.counters.block_read_bytes,
            block_write_bytes: usage.counters.block_write_bytes,
            age_seconds: now.since(usage.at).as_secs_f64(),
        }
    }
}

/// Of every engine in Docker, and of all together.
pub(super) async fn all(Handle(state): Handle<Shared>) -> Result<Response, Problem> {
    let (state, now) = (state.lock(), Monotonic::now());
    units(&state)?;
    let figures = &state.figures;
    let engines = state.engines.all().iter().map(|engine| {
        let usage = figures.of.get(engine.identity()).map(|usage| UsageAnswer::of(usage, now));
        json!({
            "id": engine.id,
            "name": &*engine.name,
            "container": short(engine.identity()),
            "usage": usage,
        })
    });
    let (total, sums) = (&figures.total, &figures.total.sums);
    Ok(super::json(json!({
        "interval_seconds": figures.interval.as_secs_f64(),
        "engines": engines.collect::<Vec<_>>(),
        "total": {
            "engines": total.engines,
            "measured": total.measured,
            "cpu_percent": total.cpu_percent,
            "memory_bytes": total.memory_bytes,
            "pids": total.pids,
            "network_rx_bytes": sums.network_rx_bytes,
            "network_tx_bytes": sums.network_tx_bytes,
            "block_read_bytes": sums.block_read_bytes,
            "block_write_bytes": sums.block_write_bytes,
        },
    })))
}

/// Of one.
pub(super) async fn one(Handle(state): Handle<Shared>, Key(name): Key) -> Result<Response, Problem> {
    let (state, now) = (state.lock(), Monotonic::now());
    let all = units(&state)?;
    let unit = all.get(ours(&state, &name)?);
    let container = unit.and_then(|unit| unit.container.as_deref());
    let usage = container.and_then(|id| state.figures.of.get(id)).map(|usage| UsageAnswer::of(usage, now));
    Ok(super::json(json!({
        "name": unit.map(|unit| &*unit.name),
        "container": container.map(short),
        "interval_seconds": state.figures.interval.as_secs_f64(),
        "usage": usage,
    })))
}
