//! What is told of a fleet in Docker; its size is that of the fleet.

use millrace_boundary::Monotonic;

use super::text::{Kind, Page};
use crate::{
    autoscale::BreakerState,
    state::State,
    statistics::Usage,
    unit::{Deed, Stage},
    units::Units,
};

/// Incidents that there are, so that a series is there before the first.
const INCIDENTS: [&str; 9] = [
    "docker_lost",
    "engines_cannot_be_made",
    "engines_fail_together",
    "engines_keep_failing",
    "fleet_shared",
    "image_missing",
    "label_collision",
    "ports_used_up",
    "template_unusable",
];

/// Nothing without a fleet in Docker.
pub(super) fn write(page: &mut Page, state: &State, now: Monotonic) {
    let Some(units) = &state.units else { return };
    numbers(page, state, units, now);
    deeds(page, units);
    usage(page, state);
    predecessor(page, state, units, now);
}

fn numbers(page: &mut Page, state: &State, units: &Units, now: Monotonic) {
    let mut family = page.family(Kind::Gauge, "millrace_fleet_engines", "Engines of our own by stage.");
    for word in Stage::WORDS {
        let count = units.all().iter().filter(|unit| unit.life.stage().as_str() == word).count();
        family.sample(&[("stage", &word)], count);
    }
    let scale = &units.settings().scale;
    let least = scale.manual.unwrap_or(scale.min).min(scale.max);
    let broken = units.autoscaler().breaker(now).state != BreakerState::Closed;
    let (answers, _) = units.docker_answers();
    for (name, help, value) in [
        ("millrace_fleet_wanted_min", "Engines that there shall be at least.", least),
        ("millrace_fleet_wanted_max", "Engines that there may be at most.", units.most()),
        (
            "millrace_fleet_waiting_streams",
            "Streams that wait for an engine of our own.",
            usize::try_from(state.waiting(now)).unwrap_or(usize::MAX),
        ),
        ("millrace_fleet_breaker_open", "1 while no engine is made because too many failed.", broken.into()),
        ("millrace_docker_up", "1 while Docker answers.", answers.into()),
    ] {
        page.single(Kind::Gauge, name, help, value);
    }
    for (name, help, value) in [
        ("millrace_engine_seconds_total", "Time of engines that ought to serve.", units.served.seconds),
        (
            "millrace_engine_healthy_seconds_total",
            "Time of those that did; over the other, the rate of healthy engine-seconds.",
            units.served.healthy_seconds,
        ),
    ] {
        page.single(Kind::Counter, name, help, value);
    }
    let mut family =
        page.family(Kind::Gauge, "millrace_incidents", "1 while something is wrong in this way.");
    for code in INCIDENTS {
        family.sample(&[("code", &code)], u8::from(units.journal.is_open(code)));
    }
}

fn deeds(page: &mut Page, units: &Units) {
    let help = "What was done to containers, by what came of it.";
    let mut family = page.family(Kind::Counter, "millrace_fleet_deeds_total", help);
    for (deed, done, failed) in units.counts.all() {
        family.sample(&[("deed", &deed.as_str()), ("outcome", &"done")], done);
        family.sample(&[("deed", &deed.as_str()), ("outcome", &"failed")], failed);
    }
}

fn usage(page: &mut Page, state: &State) {
    type Figure = fn(&Usage) -> Option<f64>;
    #[expect(clippy::cast_precision_loss, reason = "no counter is over 2^53")]
    let gauges: [(&str, &str, Figure); 7] = [
        ("millrace_engine_cpu_percent", "CPU time; 100 is one core.", |u| u.cpu_percent),
        ("millrace_engine_memory_bytes", "Memory in use.", |u| u.memory_bytes.map(|n| n as f64)),
        ("millrace_engine_pids", "Processes and threads.", |u| u.pids.map(|n| n as f64)),
        ("millrace_engine_network_rx_bytes", "Received since its container started.", |u| {
            u.counters.network_rx_bytes.map(|n| n as f64)
        }),
        ("millrace_engine_network_tx_bytes", "Sent since its container started.", |u| {
            u.counters.network_tx_bytes.map(|n| n as f64)
        }),
        ("millrace_engine_block_read_bytes", "Read from disks since its container started.", |u| {
            u.counters.block_read_bytes.map(|n| n as f64)
        }),
        ("millrace_engine_block_write_bytes", "Written to disks since its container started.", |u| {
            u.counters.block_write_bytes.map(|n| n as f64)
        }),
    ];
    let (figures, engines) = (&state.figures, state.engines.all());
    for (name, help, figure) in gauges {
        let mut family = page.family(Kind::Gauge, name, help);
        for engine in engines {
            if let Some(value) = figures.of.get(engine.identity()).and_then(figure) {
                family.sample(&[("engine", &engine.id), ("name", &engine.name)], value);
            }
        }
    }
    let (total, sums) = (&figures.total, &figures.total.sums);
    page.single(Kind::Gauge, "millrace_engines_cpu_percent", "CPU time of all engines.", total.cpu_percent);
    page.single(Kind::Gauge, "millrace_engines_memory_bytes", "Memory of all engines.", total.memory_bytes);
    page.single(Kind::Gauge, "millrace_engines_pids", "Processes of all engines.", total.pids);
    for (name, help, value) in [
        (
            "millrace_engines_network_rx_bytes_total",
            "Received by engines, past ones too.",
            sums.network_rx_bytes,
        ),
        ("millrace_engines_network_tx_bytes_total", "Sent by engines, past ones too.", sums.network_tx_bytes),
        ("millrace_engines_block_read_bytes_total", "Read from disks by them.", sums.block_read_bytes),
        ("millrace_engines_block_write_bytes_total", "Written to disks by them.", sums.block_write_bytes),
    ] {
        page.single(Kind::Counter, name, help, value);
    }
    let interval = figures.interval.as_secs_f64();
    page.single(Kind::Gauge, "millrace_statistics_interval_seconds", "Time between two rounds.", interval);
}

/// Names that dashboards of the predecessor ask for, where they mean the same.
fn predecessor(page: &mut Page, state: &State, units: &Units, now: Monotonic) {
    let counts = state.engines.states();
    let used = state.engines.all().iter().filter(|engine| engine.slots.taken() > 0).count();
    let settings = units.settings();
    let desired = settings.scale.manual.unwrap_or(settings.scale.min).min(settings.scale.max);
    for (name, help, value) in [
        ("orch_engines_healthy", "Engines that take new streams.", counts.ready),
        ("orch_engines_unhealthy", "Engines that fail probes or starts.", counts.degraded),
        ("orch_engines_draining", "Engines that are being emptied.", counts.draining),
        ("orch_engines_used", "Engines that play a stream.", used),
        ("cp_desired_replicas", "Engines that there shall be at least.", desired),
    ] {
        page.single(Kind::Gauge, name, help, value);
    }
    let broken = units.autoscaler().breaker(now).state != BreakerState::Closed;
    page.family(Kind::Gauge, "cp_circuit_breaker_open", "1 while no engine is made.")
        .sample(&[("name", &"provisioning")], u8::from(broken));
    let made = units.counts.all().find(|(deed, ..)| *deed == Deed::Make);
    let (_, done, failed) = made.unwrap_or((Deed::Make, 0, 0));
    let mut family = page.family(Kind::Counter, "cp_provisioning_total", "Engines made.");
    family.sample(&[("result", &"success")], done);
    family.sample(&[("result", &"failure")], failed);
}
