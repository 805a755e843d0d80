//! `/metrics`: counters of all shards added up, gauges per shard and engine.

mod counters;
mod fleet;
mod process;
mod text;

use hdrhistogram::Histogram;
use millrace_boundary::{EngineState, Monotonic, ShardSample, StreamState};

use crate::{
    shards::{SILENT, Shard},
    state::State,
};
use text::{Kind, Page};

/// Of the answer.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the histograms, in microseconds: a millisecond apart around the
/// wheel's slots, where lateness is decided, and coarse up to the start budget.
const BOUNDS_US: [u64; 31] = [
    100,
    250,
    500,
    1_000,
    2_000,
    3_000,
    4_000,
    5_000,
    6_000,
    8_000,
    10_000,
    12_000,
    15_000,
    20_000,
    30_000,
    50_000,
    75_000,
    100_000,
    150_000,
    200_000,
    300_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    15_000_000,
    20_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
];

/// The whole page. Its size is that of the fleet and the shards.
pub(crate) fn render(state: &State, now: Monotonic) -> String {
    let mut page = Page::new();
    about(&mut page, state, now);
    counters::write(&mut page, state);
    shards(&mut page, state, now);
    engines(&mut page, state, now);
    fleet::write(&mut page, state, now);
    predecessor(&mut page, state);
    process(&mut page);
    page.finish()
}

fn about(page: &mut Page, state: &State, now: Monotonic) {
    page.family(Kind::Gauge, "millrace_build_info", "Always 1; the version is a label.")
        .sample(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    let uptime = now.since(state.started).as_secs_f64();
    page.single(Kind::Gauge, "millrace_uptime_seconds", "Time since start.", uptime);
    let open = state.connections_open;
    page.single(Kind::Gauge, "millrace_api_connections_open", "API connections open now.", open);
    page.single(
        Kind::Counter,
        "millrace_api_connections_refused_total",
        "API connections refused because there were too many.",
        state.connections_refused,
    );
}

fn shards(page: &mut Page, state: &State, now: Monotonic) {
    let told = || state.shards.iter().filter_map(|shard| Some((&shard.id, shard.sample()?)));
    let mut family =
        page.family(Kind::Gauge, "millrace_shard_info", "Always 1; how the shard waits is a label.");
    for (id, sample) in told() {
        family.sample(&[("shard", id), ("driver", &sample.driver.as_str())], 1);
    }
    let mut family = page.family(Kind::Gauge, "millrace_shard_up", "1 while the shard reports.");
    for shard in &state.shards {
        family.sample(&[("shard", &shard.id)], u8::from(shard.silence(now) < SILENT));
    }
    let mut family = page.family(Kind::Gauge, "millrace_shard_epoch", "Epoch of the engine table in use.");
    for shard in &state.shards {
        family.sample(&[("shard", &shard.id)], shard.adopted().0);
    }
    let mut family =
        page.family(Kind::Gauge, "millrace_shard_sample_age_seconds", "Time since the shard reported.");
    for shard in &state.shards {
        family.sample(&[("shard", &shard.id)], shard.silence(now).as_secs_f64());
    }
    type Gauge = fn(&ShardSample) -> u64;
    let gauges: [(&str, &str, Gauge); 4] = [
        ("millrace_connections_open", "Connections open now, viewers included.", |s| s.connections_open),
        ("millrace_viewers", "Viewers being sent to now.", |s| s.viewers),
        ("millrace_viewers_waiting", "Viewers that wait for the first byte.", |s| s.viewers_waiting),
        ("millrace_segment_bytes", "Memory in segments.", |s| s.segment_bytes),
    ];
    for (name, help, value) in gauges {
        let mut family = page.family(Kind::Gauge, name, help);
        for (id, sample) in told() {
            family.sample(&[("shard", id)], value(sample));
        }
    }
    type Latency = fn(&ShardSample) -> &Histogram<u64>;
    let latencies: [(&str, &str, Latency); 3] = [
        ("millrace_shard_lateness_seconds", "How late viewers were visited after their time.", |s| {
            &s.lateness_us
        }),
        ("millrace_warm_join_seconds", "From a request to its first byte, for streams already live.", |s| {
            &s.warm_join_us
        }),
        (
            "millrace_cold_join_seconds",
            "From a request to its first byte, for viewers that waited for a stream to start.",
            |s| &s.cold_join_us,
        ),
    ];
    for (name, help, histogram) in latencies {
        let mut family = page.family(Kind::Histogram, name, help);
        for (id, sample) in told() {
            let (buckets, sum) = cumulative(histogram(sample));
            family.histogram(&[("shard", id)], &buckets, histogram(sample).len(), sum);
        }
    }
}

/// Buckets and sum in seconds. A recorded value is known to two digits only,
/// and counts below a bound when all that it may have been is below.
#[expect(clippy::cast_precision_loss, reason = "microseconds up to two minutes, and sums for graphs")]
fn cumulative(histogram: &Histogram<u64>) -> (Vec<(f64, u64)>, f64) {
    let mut below = [0u64; BOUNDS_US.len()];
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let count = step.count_since_last_iteration();
        sum += histogram.median_equivalent(step.value_iterated_to()) as f64 * count as f64 / 1e6;
        let first = BOUNDS_US.partition_point(|&bound| bound < step.value_iterated_to());
        below[first..].iter_mut().for_each(|total| *total += count);
    }
    let seconds = |us: u64| us as f64 / 1e6;
    (BOUNDS_US.iter().zip(below).map(|(&bound, count)| (seconds(bound), count)).collect(), sum)
}

fn engines(page: &mut Page, state: &State, now: Monotonic) {
    let counts = state.engines.states();
    let mut family = page.family(Kind::Gauge, "millrace_engines", "Engines by state.");
    for (word, count) in [
        (EngineState::Booting, counts.booting),
        (EngineState::Ready, counts.ready),
        (EngineState::Degraded, counts.degraded),
        (EngineState::Draining, counts.draining),
        (EngineState::Paused, counts.paused),
    ] {
        family.sample(&[("state", &word.as_str())], count);
    }
    let epoch = state.engines.table().epoch.0;
    page.single(Kind::Gauge, "millrace_engine_table_epoch", "Epoch of the newest engine table.", epoch);
    let probes = state.engines.probes();
    let mut family = page.family(Kind::Counter, "millrace_probes_total", "Probes of engines, by result.");
    family.sample(&[("result", &"ok")], probes.good);
    family.sample(&[("result", &"failed")], probes.failed);

    let all = state.engines.all();
    let mut family =
        page.family(Kind::Gauge, "millrace_engine_ready", "1 while the engine takes new streams.");
    for e in all {
        let ready = u8::from(e.life.state() == EngineState::Ready);
        family.sample(&[("engine", &e.id), ("name", &e.name)], ready);
    }
    let mut family =
        page.family(Kind::Gauge, "millrace_engine_slots", "Streams the engine may play at once.");
    for e in all {
        family.sample(&[("engine", &e.id), ("name", &e.name)], e.slots.capacity());
    }
    let mut family = page.family(Kind::Gauge, "millrace_engine_slots_taken", "Streams the engine plays.");
    for e in all {
        family.sample(&[("engine", &e.id), ("name", &e.name)], e.slots.taken());
    }
    let mut family =
        page.family(Kind::Gauge, "millrace_engine_start_failures", "Failures of late, halved every 30 s.");
    for e in all {
        family.sample(&[("engine", &e.id), ("name", &e.name)], e.life.penalty(now));
    }
    let mut family = page.family(
        Kind::Gauge,
        "millrace_engine_first_byte_seconds",
        "Usual time from start to first byte.",
    );
    for e in all {
        if let Some(first_byte) = e.life.first_byte() {
            family.sample(&[("engine", &e.id), ("name", &e.name)], first_byte.as_secs_f64());
        }
    }
    let mut family = page.family(Kind::Gauge, "millrace_streams", "Streams by state.");
    for word in StreamState::ALL {
        let count = streams(state).filter(|s| **s == word).count();
        family.sample(&[("state", &word.as_str())], count);
    }
    let help = "Streams that wait for an engine's slot while the fleet grows.";
    page.single(Kind::Gauge, "millrace_streams_queued", help, state.waiting(now));
    let blocked: usize =
        state.shards.iter().filter_map(Shard::sample).map(|sample| sample.blocked.len()).sum();
    let help = "Contents that rest after failures, at most 100 of each shard.";
    page.single(Kind::Gauge, "millrace_contents_blocked", help, blocked);
}

fn streams(state: &State) -> impl Iterator<Item = &StreamState> {
    state.shards.iter().filter_map(Shard::sample).flat_map(|sample| &sample.streams).map(|s| &s.state)
}

/// Names that dashboards of the predecessor ask for, where they mean the same.
fn predecessor(page: &mut Page, state: &State) {
    let counts = state.engines.states();
    let total = state.engines.all().len();
    let used = state.engines.all().iter().filter(|e| e.slots.taken() > 0).count();
    let active = streams(state).filter(|s| **s != StreamState::Lingering).count();
    for (name, help, value) in [
        ("orch_total_streams", "Active streams.", active),
        ("orch_active_streams", "Active streams.", active),
        ("orch_engines_total", "Engines.", total),
        ("orch_healthy_engines", "Engines that take new streams.", counts.ready),
        ("orch_unhealthy_engines", "Engines that fail probes or starts.", counts.degraded),
        ("orch_used_engines", "Engines that play a stream.", used),
    ] {
        page.single(Kind::Gauge, name, help, value);
    }
    let sum = |value: fn(&ShardSample) -> u64| -> u64 {
        state.shards.iter().filter_map(Shard::sample).map(value).fold(0, u64::saturating_add)
    };
    page.single(
        Kind::Counter,
        "acestream_proxy_bytes_ingress_total",
        "Bytes read from engines.",
        sum(|s| s.counters.ingress_bytes),
    );
    page.single(
        Kind::Counter,
        "acestream_proxy_bytes_egress_total",
        "Bytes sent to viewers.",
        sum(|s| s.counters.egress_bytes),
    );
}

/// Under the names that every Prometheus dashboard knows.
fn process(page: &mut Page) {
    let usage = process::usage();
    let help = "Processor time of all threads.";
    page.single(Kind::Counter, "process_cpu_seconds_total", help, usage.cpu_seconds);
    if let Some(bytes) = usage.resident_bytes {
        page.single(Kind::Gauge, "process_resident_memory_bytes", "Memory in use.", bytes);
    }
    if let Some(count) = usage.open_fds {
        page.single(Kind::Gauge, "process_open_fds", "Descriptors open.", count);
    }
}

#[cfg(test)]
mod tests {
    use millrace_boundary::latency_histogram;

    use super::*;

    #[test]
    fn buckets_rise_end_with_everything_and_put_values_where_they_belong() {
        let mut histogram = latency_histogram();
        for (us, times) in [(100, 1), (900, 2), (30_000, 3), (119_000_000, 1)] {
            histogram.record_n(us, times).unwrap();
        }
        let (buckets, sum) = cumulative(&histogram);
        let at = |bound: f64| buckets.iter().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!([at(0.0001), at(0.0005), at(0.001), at(0.02), at(0.05)], [1, 1, 3, 3, 6]);
        assert_eq!((at(60.0), at(120.0)), (6, 7), "the last bucket has all");
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert!((sum - 119.0919).abs() < 1.2, "{sum} within two digits");
    }
}
