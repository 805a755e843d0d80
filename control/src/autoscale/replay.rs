//! The stress log of the system that this one replaces: it went from 7 engines
//! to 14 and back to 10 within minutes, half of them unhealthy. The same load
//! and the same ills, and an end to both.

use std::time::Duration;

use millrace_boundary::Monotonic;

use super::{
    Autoscaler, Observation, Policy, UnitId, UnitState, Why,
    world::{Luck, World},
};

/// Seconds and streams that come then.
const BURSTS: [(u64, usize); 4] = [(10, 8), (30, 6), (55, 7), (90, 5)];
/// When every second engine falls ill, and when those are given up.
const ILL: u64 = 100;
/// When the viewers leave, one a second.
const LEAVING: u64 = 400;
const END: u64 = 3_600;
const CAPACITY: u32 = 3;

fn at(quarter: u64) -> Monotonic {
    Monotonic(Duration::from_secs(50_000) + Duration::from_millis(250 * quarter))
}

/// Streams that have lost their engine, or never had one, take what is free.
fn seat(world: &mut World, viewers: &mut [Option<UnitId>]) -> u32 {
    let is_broken = |state| matches!(state, UnitState::Mending | UnitState::Stopping | UnitState::Booting);
    for unit in world.units.iter_mut().filter(|unit| is_broken(unit.view.state)) {
        unit.view.taken = 0;
        for viewer in viewers.iter_mut().filter(|viewer| **viewer == Some(unit.view.id)) {
            *viewer = None;
        }
    }
    for viewer in viewers.iter_mut().filter(|viewer| viewer.is_none()) {
        *viewer = world.seat();
    }
    u32::try_from(viewers.iter().filter(|viewer| viewer.is_none()).count()).unwrap()
}

#[test]
fn the_stress_log_makes_no_swing() {
    let policy = Policy { min: 4, max: 14, spare_slots: 2, capacity: CAPACITY, ..Policy::default() };
    let (cooldown, min_life) = (policy.cooldown, policy.min_life);
    let mut world = World::new(7, Luck { boot_fails: 0, boot: 25 });
    for _ in 0..7 {
        world.add(UnitState::Ready, CAPACITY, at(0) - Duration::from_secs(3_600));
    }
    let mut scaler = Autoscaler::new(policy, at(0));
    let mut viewers: Vec<Option<UnitId>> = vec![None; 14];
    let (mut most, mut waited_until, mut last_removal) = (0, 0, None::<Monotonic>);
    let (mut removals, mut created_late) = (0, 0);
    for quarter in 0..END * 4 {
        let (now, second) = (at(quarter), quarter / 4);
        if quarter % 4 == 0 {
            if let Some((_, come)) = BURSTS.iter().find(|(at, _)| *at == second) {
                viewers.extend(vec![None; *come]);
            }
            if second == ILL {
                for index in (0..world.units.len()).step_by(2) {
                    let after = Duration::from_secs(10 + index as u64);
                    world.hurt(index, UnitState::Degraded, Some(after), now);
                }
            }
            let leaves = second >= LEAVING && viewers.len() > 3;
            if let Some(id) = leaves.then(|| viewers.remove(0)).flatten() {
                world.leave(id, now);
            }
        }
        world.turn(&mut scaler, true, now);
        let waiting = seat(&mut world, &mut viewers);
        if waiting > 0 {
            waited_until = second;
        }
        let rest = Observation { units: &[], found_free: 0, waiting, hour: None, docker_answers: true };
        let plan = world.ask(&mut scaler, &rest, now);
        for id in plan.remove.iter().chain(&plan.pause) {
            let unit = world.find(*id);
            assert_eq!(unit.taken, 0, "second {second}: no engine under a viewer");
            assert!(now.since(unit.born) >= min_life, "second {second}: none below its minimum life");
            if plan.why != Why::MakeRoom {
                removals += 1;
            }
        }
        if !plan.remove.is_empty() {
            assert!(
                last_removal.is_none_or(|at| now.since(at) >= cooldown),
                "second {second}: one step a minute"
            );
            assert!(plan.why == Why::MakeRoom || plan.remove.len() == 1, "second {second}: one at a time");
            last_removal = Some(now);
        }
        if second > LEAVING + 60 {
            created_late += plan.create;
        }
        world.carry_out(&plan, CAPACITY, now);
        let total = world.units.len();
        assert!(total <= 14, "second {second}: {total} engines");
        most = most.max(total);
        if second == ILL + 30 {
            let ill = world.count(|state| matches!(state, UnitState::Degraded | UnitState::Mending));
            assert!(ill * 2 + 2 >= total, "{ill} of {total} are ill: the log is replayed");
        }
    }
    let ready = world.count(|state| state == UnitState::Ready);
    assert_eq!(most, 14, "the load asks for all there may be");
    assert!(waited_until < LEAVING, "capacity was restored before anybody left: {waited_until} s");
    assert!(
        (4..=5).contains(&ready) && world.units.len() == ready,
        "back to few, and all of them well: {ready}"
    );
    assert!(removals >= 5, "it was a way down: {removals}");
    assert_eq!(created_late, 0, "and none up again");
}
