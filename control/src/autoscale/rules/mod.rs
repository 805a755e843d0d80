//! Each rule by itself, in tables.

mod bounds;
mod down;
mod up;

use std::time::Duration;

use millrace_boundary::Monotonic;

use super::{Autoscaler, Observation, Plan, Policy, UnitId, UnitState, UnitView};

/// Seconds after the beginning, with a long time before it.
fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(100_000 + seconds))
}

/// Old, with three slots; idle for long where none is taken.
fn unit(id: u32, state: UnitState, taken: u32) -> UnitView {
    let born = at(0) - Duration::from_secs(5_000) + Duration::from_secs(u64::from(id));
    let idle_since = (taken == 0).then_some(born);
    UnitView { id: UnitId(id), state, taken, capacity: 3, born, idle_since, drifted: false }
}

/// Numbered from 1.
fn units(of: &[(UnitState, u32)]) -> Vec<UnitView> {
    (1..).zip(of).map(|(id, (state, taken))| unit(id, *state, *taken)).collect()
}

fn ids(of: &[u32]) -> Vec<UnitId> {
    of.iter().copied().map(UnitId).collect()
}

fn seen(units: &[UnitView]) -> Observation<'_> {
    Observation { units, found_free: 0, waiting: 0, hour: None, docker_answers: true }
}

/// No minimum and no spare slots, so that one rule acts at a time.
fn bare() -> Policy {
    Policy { min: 0, max: 6, spare_slots: 0, capacity: 3, ..Policy::default() }
}

/// Asks every second of the range and gives the plans that ask for something,
/// with their second. Nothing is carried out.
fn watch(scaler: &mut Autoscaler, seen: &Observation<'_>, seconds: std::ops::Range<u64>) -> Vec<(u64, Plan)> {
    seconds
        .map(|second| (second, scaler.plan(seen, at(second))))
        .filter(|(_, plan)| !plan.is_empty())
        .collect()
}
