//! `/api/v1/status`: how it is, in one answer.

use axum::{extract::State as Handle, response::Response};
use millrace_boundary::{Driver, Epoch, Monotonic, ShardId, StreamState};
use serde::Serialize;

use crate::{
    shards::{SILENT, Shard},
    state::{Phase, Shared, State},
};

#[derive(Serialize)]
struct Status {
    status: Verdict,
    reasons: Vec<Reason>,
    version: &'static str,
    uptime_seconds: f64,
    address: std::net::SocketAddr,
    draining: bool,
    shards: Vec<ShardStatus>,
    engines: EngineTotals,
    streams: StreamTotals,
    viewers: u64,
    viewers_waiting: u64,
    throughput: Throughput,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Degraded,
    Unavailable,
}

#[derive(Serialize)]
struct Reason {
    code: &'static str,
    message: String,
    #[serde(skip)]
    verdict: Verdict,
}

#[derive(Serialize)]
struct ShardStatus {
    shard: ShardId,
    driver: Option<Driver>,
    epoch: Epoch,
    connections_open: u64,
    viewers: u64,
    viewers_waiting: u64,
    segment_bytes: u64,
    sample_age_seconds: Option<f64>,
}

#[derive(Serialize)]
struct EngineTotals {
    total: usize,
    ready: usize,
    degraded: usize,
    draining: usize,
    paused: usize,
    booting: usize,
    slots_total: u64,
    slots_taken: u64,
}

#[derive(Serialize)]
struct StreamTotals {
    active: usize,
    queued: u32,
}

#[derive(Serialize)]
struct Throughput {
    ingress_bps: u64,
    egress_bps: u64,
}

pub(super) async fn status(Handle(state): Handle<Shared>) -> Response {
    super::json(Status::of(&state.lock(), Monotonic::now()))
}

impl Status {
    fn of(state: &State, now: Monotonic) -> Self {
        let samples = || state.shards.iter().filter_map(Shard::sample);
        let counts = state.engines.states();
        let engines = EngineTotals {
            total: state.engines.all().len(),
            ready: counts.ready,
            degraded: counts.degraded,
            draining: counts.draining,
            paused: counts.paused,
            booting: counts.booting,
            slots_total: state.engines.all().iter().map(|e| u64::from(e.slots.capacity())).sum(),
            slots_taken: state.engines.all().iter().map(|e| u64::from(e.slots.taken())).sum(),
        };
        let reasons = reasons(state, &engines, now);
        let rates = state.shards.iter().map(|shard| shard.rates(now));
        Self {
            status: reasons.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Ok),
            reasons,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.since(state.started).as_secs_f64(),
            address: state.address,
            draining: state.phase != Phase::Serving,
            shards: state.shards.iter().map(|shard| ShardStatus::of(shard, now)).collect(),
            engines,
            streams: StreamTotals {
                active: samples().flat_map(|s| &s.streams).filter(|s| is_active(s.state)).count(),
                queued: state.waiting(now),
            },
            viewers: samples().map(|s| s.viewers).sum(),
            viewers_waiting: samples().map(|s| s.viewers_waiting).sum(),
            throughput: rates.fold(Throughput { ingress_bps: 0, egress_bps: 0 }, |sum, r| Throughput {
                ingress_bps: sum.ingress_bps.saturating_add(r.ingress_bps),
                egress_bps: sum.egress_bps.saturating_add(r.egress_bps),
            }),
        }
    }
}

/// Whether somebody watches or waits for it.
const fn is_active(state: StreamState) -> bool {
    match state {
        StreamState::Starting
        | StreamState::Queued
        | StreamState::Live
        | StreamState::Stalled
        | StreamState::FailingOver => true,
        StreamState::Lingering => false,
    }
}

fn reasons(state: &State, engines: &EngineTotals, now: Monotonic) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut add = |verdict, code, message| reasons.push(Reason { code, message, verdict });
    if state.phase != Phase::Serving {
        add(Verdict::Unavailable, "draining", "the server is shutting down".to_owned());
    }
    if engines.ready == 0 {
        add(Verdict::Unavailable, "no_engine", format!("none of {} engines is ready", engines.total));
    } else if engines.degraded > 0 {
        let message = format!("{} of {} engines are degraded", engines.degraded, engines.total);
        add(Verdict::Degraded, "engines_degraded", message);
    }
    if engines.ready > 0 && state.engines.table().free_slots() == 0 {
        let message = format!("all slots of {} ready engines are taken", engines.ready);
        add(Verdict::Degraded, "engines_full", message);
    }
    for shard in &state.shards {
        if shard.silence(now) >= SILENT {
            let message =
                format!("shard {} has not reported for {} s", shard.id, shard.silence(now).as_secs());
            add(Verdict::Degraded, "shard_silent", message);
        }
    }
    reasons
}

impl ShardStatus {
    fn of(shard: &Shard, now: Monotonic) -> Self {
        let sample = shard.sample();
        Self {
            shard: shard.id,
            driver: sample.map(|s| s.driver),
            epoch: shard.adopted(),
            connections_open: sample.map_or(0, |s| s.connections_open),
            viewers: sample.map_or(0, |s| s.viewers),
            viewers_waiting: sample.map_or(0, |s| s.viewers_waiting),
            segment_bytes: sample.map_or(0, |s| s.segment_bytes),
            sample_age_seconds: sample.map(|_| shard.silence(now).as_secs_f64()),
        }
    }
}
