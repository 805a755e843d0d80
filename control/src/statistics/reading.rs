//! What Docker says of one container's use of its host, by control groups of
//! either version, and what that means next to what it said before.

use bollard::models::{ContainerCpuStats, ContainerMemoryStats, ContainerStatsResponse};
use millrace_boundary::Monotonic;

/// No counter is larger: a JavaScript reader keeps each of them exact.
const MAX_COUNT: u64 = 1 << 53;
/// A limit from here on is none: control groups say so with a number.
const UNLIMITED: u64 = 1 << 60;
/// Cores that any host has at most.
const MAX_CORES: u32 = 8_192;

/// Counters since the container started, in bytes; one that Docker does not
/// tell, or not for this kind of network, is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Received, all interfaces together.
    pub(crate) network_rx_bytes: Option<u64>,
    /// Sent.
    pub(crate) network_tx_bytes: Option<u64>,
    /// Read from block devices.
    pub(crate) block_read_bytes: Option<u64>,
    /// Written to them.
    pub(crate) block_write_bytes: Option<u64>,
}

/// One container's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    cpu: Option<Cpu>,
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    counters: Counters,
    pids: Option<u64>,
    pids_limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpu {
    /// Time on cores since the container started, in nanoseconds.
    used_ns: u64,
    /// Of all cores since the host's start, at the same moment, in nanoseconds.
    system_ns: Option<u64>,
    /// Cores of the host.
    cores: Option<u32>,
}

/// What one container uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Between the last two readings; 100 is one core. None at the first
    /// reading, and at the first after a restart.
    pub(crate) cpu_percent: Option<f64>,
    /// Without the cache of files that is given back first, as `docker stats`
    /// has it.
    pub(crate) memory_bytes: Option<u64>,
    /// The host's memory where there is no limit; none when it is not told.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Since its start.
    pub(crate) counters: Counters,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
    /// None when there is none.
    pub(crate) pids_limit: Option<u64>,
    /// When it was read.
    pub(crate) at: Monotonic,
}

impl Reading {
    /// What is missing is none, and what is absurd is capped. There is none at
    /// all in what Docker says when it could not read the figures of a container
    /// that runs, as of one whose lender of a network is gone: an empty answer,
    /// which is from the year 1.
    pub(crate) fn of(answer: &ContainerStatsResponse) -> Option<Self> {
        if answer.read.as_deref().is_some_and(|read| read.starts_with("0001-")) {
            return None;
        }
        let networks = answer.networks.as_ref();
        let network = |bytes: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            networks.and_then(|all| sum(all.values().filter_map(bytes)))
        };
        let block = answer.blkio_stats.as_ref().and_then(|block| block.io_service_bytes_recursive.as_ref());
        let block = |wanted: &str| {
            let entries = block?.iter();
            let is_wanted =
                |op: &Option<String>| op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(wanted));
            sum(entries.filter(|entry| is_wanted(&entry.op)).filter_map(|entry| entry.value))
        };
        let memory = answer.memory_stats.as_ref();
        let pids = answer.pids_stats.as_ref();
        Some(Self {
            cpu: answer.cpu_stats.as_ref().and_then(cpu),
            memory_bytes: memory.and_then(in_use),
            memory_limit_bytes: memory.and_then(|m| m.limit).and_then(limit),
            counters: Counters {
                network_rx_bytes: network(|n| n.rx_bytes),
                network_tx_bytes: network(|n| n.tx_bytes),
                block_read_bytes: block("read"),
                block_write_bytes: block("write"),
            },
            pids: pids.and_then(|p| p.current).map(capped),
            pids_limit: pids.and_then(|p| p.limit).and_then(limit),
        })
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What it means, read at `at`, after an earlier one of the same container.
    pub(crate) fn usage(&self, at: Monotonic, before: Option<(&Self, Monotonic)>) -> Usage {
        let cpu_percent = before.and_then(|(before, then)| {
            let (earlier, later) = (before.cpu?, self.cpu?);
            // Less than before: it has been restarted.
            let used = later.used_ns.checked_sub(earlier.used_ns)?;
            percent(used, &earlier, &later, at.since(then).as_nanos())
        });
        Usage {
            cpu_percent,
            memory_bytes: self.memory_bytes,
            memory_limit_bytes: self.memory_limit_bytes,
            counters: self.counters,
            pids: self.pids,
            pids_limit: self.pids_limit,
            at,
        }
    }
}

/// Of one core. Over the host's own time where it is told, since that is read
/// when the container's is, and over ours otherwise.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn percent(used: u64, earlier: &Cpu, later: &Cpu, ours: u128) -> Option<f64> {
    let system = later.system_ns.zip(earlier.system_ns).and_then(|(now, then)| now.checked_sub(then));
    let elapsed = match (system.filter(|elapsed| *elapsed > 0), later.cores) {
        (Some(elapsed), Some(cores)) => elapsed as f64 / f64::from(cores),
        _ => ours as f64,
    };
    let most = f64::from(later.cores.unwrap_or(MAX_CORES)) * 100.0;
    (elapsed > 0.0).then(|| (used as f64 / elapsed * 100.0).min(most))
}

/// A stopped container answers as well, without all of it.
fn cpu(stats: &ContainerCpuStats) -> Option<Cpu> {
    let usage = stats.cpu_usage.as_ref()?;
    let per_core = usage.percpu_usage.as_ref().and_then(|all| u32::try_from(all.len()).ok());
    let cores = stats.online_cpus.filter(|cores| *cores > 0).or(per_core).filter(|cores| *cores > 0);
    Some(Cpu {
        used_ns: usage.total_usage?,
        system_ns: stats.system_cpu_usage,
        cores: cores.map(|cores| cores.min(MAX_CORES)),
    })
}

fn in_use(stats: &ContainerMemoryStats) -> Option<u64> {
    let usage = stats.usage?;
    // Version 1 of control groups, and then version 2.
    let inactive = |stats: &std::collections::HashMap<String, u64>| {
        stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied()
    };
    let inactive = stats.stats.as_ref().and_then(inactive).filter(|inactive| *inactive < usage);
    Some(capped(usage - inactive.unwrap_or(0)))
}

/// None for none at all: zero is not one either.
fn limit(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| (1..UNLIMITED).contains(limit)).map(capped)
}

fn sum(values: impl Iterator<Item = u64>) -> Option<u64> {
    Some(capped(values.fold(0, u64::saturating_add)))
}

fn capped(value: u64) -> u64 {
    value.min(MAX_COUNT)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    /// By Docker 20.10 on control groups of version 1, shortened.
    fn version_1() -> Value {
        json!({
            "read": "2024-05-02T09:14:05.120311127Z", "preread": "0001-01-01T00:00:00Z",
            "pids_stats": { "current": 31, "limit": 18_446_744_073_709_551_615_u64 },
            "blkio_stats": {
                "io_service_bytes_recursive": [
                    { "major": 8, "minor": 0, "op": "Read", "value": 4_096 },
                    { "major": 8, "minor": 0, "op": "Write", "value": 8_192 },
                    { "major": 8, "minor": 0, "op": "Sync", "value": 12_288 },
                    { "major": 8, "minor": 0, "op": "Async", "value": 0 },
                    { "major": 8, "minor": 0, "op": "Total", "value": 12_288 },
                    { "major": 8, "minor": 16, "op": "Read", "value": 1 },
                ],
                "io_queue_recursive": [], "sectors_recursive": [],
            },
            "num_procs": 0, "storage_stats": {},
            "cpu_stats": {
                "cpu_usage": { "total_usage": 5_000_000_000_u64, "percpu_usage": [3_000_000_000_u64, 2_000_000_000_u64],
                               "usage_in_kernelmode": 10, "usage_in_usermode": 20 },
                "system_cpu_usage": 1_000_000_000_000_u64, "online_cpus": 2,
                "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
            },
            "precpu_stats": { "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 } },
            "memory_stats": {
                "usage": 300_000_000, "max_usage": 310_000_000, "limit": 8_325_263_360_u64,
                "stats": { "cache": 1, "inactive_file": 7, "total_inactive_file": 100_000_000, "rss": 5 },
            },
            "name": "/engine", "id": "e",
            "networks": {
                "eth0": { "rx_bytes": 1_000, "rx_packets": 9, "tx_bytes": 10, "tx_packets": 1 },
                "eth1": { "rx_bytes": 500, "tx_bytes": 5 },
            },
        })
    }

    /// By Docker 28 on control groups of version 2, shortened.
    fn version_2() -> Value {
        json!({
            "read": "2025-11-02T09:14:05.120311127Z", "preread": "0001-01-01T00:00:00Z", "os_type": "linux",
            "pids_stats": { "current": 4, "limit": 512 },
            "blkio_stats": {
                "io_service_bytes_recursive": [
                    { "major": 254, "minor": 0, "op": "read", "value": 20 },
                    { "major": 254, "minor": 0, "op": "write", "value": 0 },
                ],
                "io_serviced_recursive": null,
            },
            "cpu_stats": {
                "cpu_usage": { "total_usage": 1_000_000_000, "usage_in_kernelmode": 1, "usage_in_usermode": 2 },
                "system_cpu_usage": 500_000_000_000_u64, "online_cpus": 4,
            },
            "memory_stats": {
                "usage": 50_000_000, "limit": 268_435_456, "stats": { "anon": 1, "file": 2, "inactive_file": 10_000_000 },
            },
            "networks": { "eth0": { "rx_bytes": 7, "tx_bytes": 8 } },
        })
    }

    fn reading(answer: Value) -> Reading {
        Reading::of(&serde_json::from_value(answer).unwrap()).unwrap()
    }

    /// As one that counts this much on the network.
    pub(crate) fn counting(bytes: u64, cpu_ns: u64) -> Value {
        let mut answer = version_2();
        answer["networks"]["eth0"]["rx_bytes"] = json!(bytes);
        answer["cpu_stats"]["cpu_usage"]["total_usage"] = json!(cpu_ns);
        answer
    }

    #[test]
    fn an_answer_of_either_version_is_read_and_what_it_lacks_is_none() {
        let counters = |rx, tx, read, write| Counters {
            network_rx_bytes: rx,
            network_tx_bytes: tx,
            block_read_bytes: read,
            block_write_bytes: write,
        };
        let changed = |path: &str, value: Value| {
            let mut answer = version_2();
            *answer.pointer_mut(path).unwrap() = value;
            answer
        };
        let all_2 = counters(Some(7), Some(8), Some(20), Some(0));
        let (huge, most) = (u64::MAX, Some(MAX_COUNT));
        for (name, answer, memory, limit, expected, pids) in [
            (
                "version 1",
                version_1(),
                Some(200_000_000),
                Some(8_325_263_360),
                counters(Some(1_500), Some(15), Some(4_097), Some(8_192)),
                (Some(31), None),
            ),
            ("version 2", version_2(), Some(40_000_000), Some(268_435_456), all_2, (Some(4), Some(512))),
            ("nothing", json!({}), None, None, Counters::default(), (None, None)),
            (
                "a stopped one's",
                json!({ "pids_stats": {}, "blkio_stats": { "io_service_bytes_recursive": null }, "memory_stats": {},
                        "cpu_stats": { "cpu_usage": { "total_usage": 0 }, "throttling_data": {} } }),
                None,
                None,
                Counters::default(),
                (None, None),
            ),
            (
                "on the host's network",
                changed("/networks", Value::Null),
                Some(40_000_000),
                Some(268_435_456),
                counters(None, None, Some(20), Some(0)),
                (Some(4), Some(512)),
            ),
            (
                "more cache than use",
                changed("/memory_stats/stats/inactive_file", json!(60_000_000)),
                Some(50_000_000),
                Some(268_435_456),
                all_2,
                (Some(4), Some(512)),
            ),
            (
                "no cache",
                changed("/memory_stats/stats", Value::Null),
                Some(50_000_000),
                Some(268_435_456),
                all_2,
                (Some(4), Some(512)),
            ),
            (
                "no limit",
                changed("/memory_stats/limit", json!(9_223_372_036_854_771_712_u64)),
                Some(40_000_000),
                None,
                all_2,
                (Some(4), Some(512)),
            ),
            (
                "a limit of nothing",
                changed("/pids_stats/limit", json!(0)),
                Some(40_000_000),
                Some(268_435_456),
                all_2,
                (Some(4), None),
            ),
            (
                "absurd use",
                changed("/memory_stats/usage", json!(huge)),
                most,
                Some(268_435_456),
                all_2,
                (Some(4), Some(512)),
            ),
            (
                "absurd counters",
                changed("/networks/eth0", json!({ "rx_bytes": huge, "tx_bytes": huge })),
                Some(40_000_000),
                Some(268_435_456),
                counters(most, most, Some(20), Some(0)),
                (Some(4), Some(512)),
            ),
            (
                "counters beyond their type together",
                changed(
                    "/networks",
                    json!({ "a": { "rx_bytes": huge }, "b": { "rx_bytes": huge, "tx_bytes": 1 } }),
                ),
                Some(40_000_000),
                Some(268_435_456),
                counters(most, Some(1), Some(20), Some(0)),
                (Some(4), Some(512)),
            ),
        ] {
            let usage = reading(answer).usage(Monotonic::default(), None);
            assert_eq!((usage.memory_bytes, usage.memory_limit_bytes), (memory, limit), "{name}");
            assert_eq!((usage.counters, (usage.pids, usage.pids_limit)), (expected, pids), "{name}");
            assert_eq!(usage.cpu_percent, None, "{name}");
        }
    }

    #[test]
    fn the_share_of_a_core_is_between_two_readings_of_our_own() {
        let cpu = |used: u64, system: Value, cores: Value| {
            reading(
                json!({ "cpu_stats": { "cpu_usage": { "total_usage": used }, "system_cpu_usage": system, "online_cpus": cores } }),
            )
        };
        let s = 1_000_000_000_u64;
        for (name, before, after, seconds, expected) in [
            // Four cores spend 8 s in 2 s; of those one and a half cores are ours.
            (
                "one and a half cores",
                cpu(s, json!(100 * s), json!(4)),
                cpu(4 * s, json!(108 * s), json!(4)),
                9,
                Some(150.0),
            ),
            ("nothing", cpu(s, json!(100 * s), json!(4)), cpu(s, json!(108 * s), json!(4)), 2, Some(0.0)),
            (
                "by our own clock",
                cpu(s, Value::Null, json!(4)),
                cpu(2 * s, Value::Null, json!(4)),
                2,
                Some(50.0),
            ),
            (
                "cores unknown",
                cpu(s, json!(100 * s), Value::Null),
                cpu(2 * s, json!(108 * s), Value::Null),
                4,
                Some(25.0),
            ),
            (
                "a host's time that stands",
                cpu(s, json!(s), json!(4)),
                cpu(2 * s, json!(s), json!(4)),
                2,
                Some(50.0),
            ),
            (
                "a host's time that falls",
                cpu(s, json!(9 * s), json!(4)),
                cpu(2 * s, json!(s), json!(4)),
                2,
                Some(50.0),
            ),
            ("restarted", cpu(9 * s, json!(100 * s), json!(4)), cpu(s, json!(108 * s), json!(4)), 2, None),
            ("no time between", cpu(s, Value::Null, json!(4)), cpu(2 * s, Value::Null, json!(4)), 0, None),
            (
                "more than all cores",
                cpu(0, json!(100 * s), json!(4)),
                cpu(u64::MAX, json!(101 * s), json!(4)),
                2,
                Some(400.0),
            ),
            (
                "absurd, cores unknown",
                cpu(0, Value::Null, Value::Null),
                cpu(u64::MAX, Value::Null, Value::Null),
                1,
                Some(819_200.0),
            ),
            ("not told before", reading(json!({})), cpu(s, json!(s), json!(4)), 2, None),
            ("not told now", cpu(s, json!(s), json!(4)), reading(json!({})), 2, None),
        ] {
            let then = Monotonic(Duration::from_secs(1_000));
            let usage = after.usage(then + Duration::from_secs(seconds), Some((&before, then)));
            assert_eq!(usage.cpu_percent, expected, "{name}");
        }
        let old = reading(version_1());
        let mut answer = version_1();
        answer["cpu_stats"] = json!({ "cpu_usage": { "total_usage": 6_000_000_000_u64, "percpu_usage": [1, 2] }, "system_cpu_usage": 1_004_000_000_000_u64 });
        let usage = reading(answer).usage(Monotonic::default(), Some((&old, Monotonic::default())));
        assert_eq!(usage.cpu_percent, Some(50.0), "cores counted by their own figures");
    }

    #[test]
    fn an_answer_without_figures_is_none() {
        // By Docker 20.10 of one that runs on the network of one that is gone.
        let answer = json!({
            "read": "0001-01-01T00:00:00Z", "preread": "0001-01-01T00:00:00Z", "pids_stats": {},
            "blkio_stats": { "io_service_bytes_recursive": null }, "num_procs": 0, "storage_stats": {},
            "cpu_stats": { "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
                           "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 } },
            "memory_stats": {}, "name": "/engine", "id": "e",
        });
        assert_eq!(Reading::of(&serde_json::from_value(answer).unwrap()), None);
    }
}
