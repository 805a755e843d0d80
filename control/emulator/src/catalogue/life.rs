//! Rows 190 to 219: an engine's life and health.

use super::{Choice, Count, Row, Time, healthy, names, row};
use crate::{
    Behaviour,
    behaviour::{Fate, Status, Version, Wire},
};

const STATUSES: [&str; Status::ALL.len()] = names(&Status::ALL);

fn fate(fate: Fate) -> Behaviour {
    Behaviour { fate, ..healthy() }
}

pub(super) static ROWS: &[Row] = &[
    row(190, "boot-slow", &[Time, Time], |p| {
        fate(Fate::BootSlow { refuses: p.time_or(0, 10), fails: p.time_or(1, 20) })
    }),
    row(191, "boot-never", &[], |_| fate(Fate::BootNever)),
    row(192, "crash", &[Time, Time], |p| fate(Fate::Crash { after: p.time(0), down: p.time_or(1, 5) })),
    row(193, "crash-loop", &[Time, Time], |p| {
        fate(Fate::CrashLoop { up: p.time_or(0, 20), down: p.time_or(1, 10) })
    }),
    // Sessions, then MiB served.
    row(194, "oom", &[Count, Count], |p| {
        let any = |n: u32| (n != 0).then_some(n);
        fate(Fate::Oom { sessions: any(p.count(0)), bytes: any(p.count(1)).map(|n| u64::from(n) << 20) })
    }),
    row(195, "degrade", &[Count, Count], |p| {
        fate(Fate::Degrade { sessions: p.count_or(0, 20), megabytes: p.count_or(1, 20) })
    }),
    row(196, "cpu-starved", &[Count], |p| fate(Fate::CpuStarved(p.count_or(0, 5).min(1000)))),
    row(197, "status-unhealthy", &[Choice(&STATUSES)], |p| Behaviour {
        status: p.choice(0, &Status::ALL).1,
        ..healthy()
    }),
    row(198, "network-lost", &[Time, Time], |p| {
        fate(Fate::NetworkLost { lasting: p.time_if_any(0), start_fails: p.time_or(1, 45) })
    }),
    row(199, "access-denied", &[], |_| fate(Fate::AccessDenied)),
    row(200, "port-drift", &[Count], |p| fate(Fate::PortDrift(u16::try_from(p.count_or(0, 2)).unwrap_or(2)))),
    row(201, "old-version", &[], |_| Behaviour {
        version: Version::Old,
        wire: Wire { server: Some("BaseHTTP/0.3 Python/2.7.13"), ..Wire::default() },
        ..healthy()
    }),
    row(202, "android", &[], |_| Behaviour {
        version: Version::Android,
        wire: Wire { server: Some("BaseHTTP/0.6 Python/3.8.16"), ..Wire::default() },
        ..healthy()
    }),
    row(203, "slow-shutdown", &[Time], |p| fate(Fate::SlowShutdown(p.time_or(0, 10)))),
    row(204, "disk-full", &[Time], |p| fate(Fate::DiskFull(p.time_or(0, 5)))),
    row(205, "clock-skew", &[Time], |p| {
        let clock_ahead = p.time_or(0, 3 * 3600);
        Behaviour { wire: Wire { clock_ahead, ..Wire::default() }, ..healthy() }
    }),
];
