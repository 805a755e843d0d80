//! When and which engines are taken away or paused, and the paused ones.

use std::time::Duration;

use super::{super::*, at, bare, ids, seen, unit, units, watch};
use UnitState::{Booting, Creating, Degraded, Draining, Mending, Paused, Ready};

/// Asks for an hour, twice a second, and does what is asked at once.
fn live(scaler: &mut Autoscaler, units: &mut Vec<UnitView>) -> Vec<(u64, Plan)> {
    let mut asked = Vec::new();
    for second in 0..3_600 {
        for _ in 0..2 {
            let plan = scaler.plan(&seen(units), at(second));
            units.retain(|unit| !plan.remove.contains(&unit.id));
            for unit in units.iter_mut() {
                if plan.pause.contains(&unit.id) {
                    unit.state = Paused;
                }
            }
            for _ in 0..plan.create_paused {
                let id = 100 + u32::try_from(units.len()).unwrap();
                units.push(UnitView { born: at(second), ..unit(id, Paused, 0) });
            }
            if !plan.is_empty() {
                asked.push((second, plan));
            }
        }
    }
    asked
}

#[test]
fn an_engine_goes_when_a_surplus_has_stood_and_one_each_cooldown() {
    let idle = (Ready, 0);
    for (name, policy, of, removed) in [
        (
            "down to the minimum, youngest first",
            bare_min(2),
            &[idle; 5][..],
            &[(60, 5), (120, 4), (180, 3)][..],
        ),
        ("down to none", bare(), &[idle; 2], &[(60, 2), (120, 1)]),
        ("none under a viewer", bare_min(1), &[(Ready, 1), (Ready, 0), (Ready, 1)], &[(60, 2)]),
        ("all in use", bare(), &[(Ready, 1), (Ready, 1)], &[]),
        ("booting ones are counted as well", bare_min(2), &[idle, idle, (Booting, 0)], &[(60, 2)]),
        ("ailing ones are not", bare_min(2), &[idle, idle, (Mending, 0)], &[]),
        ("a degraded one first", bare_min(1), &[idle, (Degraded, 0), idle], &[(60, 2), (120, 3)]),
        (
            "a degraded one with the rest at the minimum",
            bare_min(2),
            &[idle, (Degraded, 0), idle],
            &[(60, 2)],
        ),
        ("a degraded one with viewers stays", bare_min(1), &[idle, (Degraded, 1), idle], &[(60, 3)]),
        ("enough spare ones are left", Policy { spare_slots: 3, ..bare() }, &[idle; 3], &[(60, 3), (120, 2)]),
        ("one slot too few", Policy { spare_slots: 4, ..bare() }, &[idle; 3], &[(60, 3)]),
        (
            "free slots of others do not count",
            Policy { spare_slots: 3, ..bare() },
            &[idle, (Draining, 1)],
            &[],
        ),
        (
            "a longer cooldown",
            Policy { cooldown: Duration::from_secs(300), ..bare() },
            &[idle; 2],
            &[(300, 2), (600, 1)],
        ),
        (
            "a longer surplus",
            Policy { surplus: Duration::from_secs(200), ..bare() },
            &[idle; 2],
            &[(200, 2), (400, 1)],
        ),
    ] {
        let mut units = units(of);
        let mut scaler = Autoscaler::new(policy, at(0));
        let asked = live(&mut scaler, &mut units);
        let gone: Vec<_> =
            asked.iter().flat_map(|(second, plan)| plan.remove.iter().map(|id| (*second, id.0))).collect();
        assert_eq!(gone, removed, "{name}");
        assert!(asked.iter().all(|(_, plan)| plan.why == Why::Surplus && plan.create == 0), "{name}");
    }
}

fn bare_min(min: usize) -> Policy {
    Policy { min, ..bare() }
}

#[test]
fn drifted_ones_go_first_and_the_busy_the_young_and_the_restless_stay() {
    let base = || units(&[(Ready, 0), (Ready, 0), (Ready, 0), (Ready, 0)]);
    for (name, change, second, first) in [
        ("as they are", (|_: &mut UnitView| {}) as fn(&mut UnitView), 60, 4),
        ("drifted", |unit| unit.drifted = unit.id == UnitId(2), 60, 2),
        (
            "not known to be idle",
            |unit| unit.idle_since = unit.idle_since.filter(|_| unit.id != UnitId(4)),
            60,
            3,
        ),
        (
            "one is young",
            |unit| {
                if unit.id == UnitId(4) {
                    unit.born = at(0)
                }
            },
            60,
            3,
        ),
        ("in use, whatever is said", |unit| unit.taken = u32::from(unit.id == UnitId(4)), 60, 3),
        ("all are young", |unit| unit.born = at(0), 120, 1),
        ("all are too young for long", |unit| unit.born = at(500), 620, 1),
    ] {
        let mut units = base();
        units.iter_mut().for_each(change);
        let mut scaler = Autoscaler::new(bare_min(1), at(0));
        let asked = live(&mut scaler, &mut units);
        assert_eq!((asked[0].0, asked[0].1.remove.clone()), (second, ids(&[first])), "{name}");
    }
}

#[test]
fn a_surplus_that_is_broken_begins_anew() {
    let (idle, busy) = (units(&[(Ready, 0), (Ready, 0)]), units(&[(Ready, 2), (Ready, 3)]));
    for (name, broken, second) in [
        ("not broken", seen(&idle), 60),
        ("a stream waits", Observation { waiting: 1, ..seen(&idle) }, 91),
        ("Docker is silent", Observation { docker_answers: false, ..seen(&idle) }, 91),
        ("slots are taken", seen(&busy), 91),
    ] {
        let mut scaler = Autoscaler::new(bare_min(1), at(0));
        assert_eq!(watch(&mut scaler, &seen(&idle), 0..30), [], "{name}");
        assert_eq!(watch(&mut scaler, &broken, 30..31), [], "{name}");
        let asked = watch(&mut scaler, &seen(&idle), 31..100);
        assert_eq!(asked.first().map(|(second, _)| *second), Some(second), "{name}");
    }
}

#[test]
fn a_step_up_puts_the_next_step_down_off() {
    let idle = units(&[(Ready, 0), (Ready, 0), (Ready, 0)]);
    let mut scaler = Autoscaler::new(Policy { surplus: Duration::from_secs(5), ..bare_min(1) }, at(0));
    assert_eq!(scaler.plan(&Observation { waiting: 10, ..seen(&idle) }, at(55)).create, 1);
    let until = at(115);
    for second in 56..115 {
        let plan = scaler.plan(&seen(&idle), at(second));
        let held = (second >= 61).then_some(Held::Cooldown { until });
        assert_eq!(plan, Plan::nothing(held), "second {second}");
    }
    assert_eq!(scaler.plan(&seen(&idle), until).remove, ids(&[3]));
}

#[test]
fn a_step_has_its_size() {
    for (step_down, spare_slots, removed) in [
        (0, 0, &[][..]),
        (1, 0, &[6]),
        (2, 0, &[6, 5]),
        (9, 0, &[6, 5, 4, 3]),
        (9, 9, &[6, 5, 4]),
        (9, 10, &[6, 5]),
    ] {
        let idle = units(&[(Ready, 0); 6]);
        let mut scaler = Autoscaler::new(Policy { step_down, spare_slots, ..bare_min(2) }, at(0));
        let asked = watch(&mut scaler, &seen(&idle), 0..61);
        assert_eq!(asked.first().map_or(vec![], |(_, plan)| plan.remove.clone()), ids(removed));
    }
}

#[test]
fn above_the_maximum_an_engine_goes_without_leaving_spare_ones() {
    let idle = units(&[(Ready, 0), (Ready, 0), (Ready, 3)]);
    let mut scaler = Autoscaler::new(Policy { spare_slots: 50, max: 2, ..bare_min(1) }, at(0));
    let asked = watch(&mut scaler, &seen(&idle), 0..61);
    let [(60, plan)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((plan.remove.clone(), plan.why), (ids(&[2]), Why::AboveMax));
}

#[test]
fn by_hand_there_are_exactly_so_many() {
    let idle = (Ready, 0);
    for (name, manual, of, asked) in [
        ("from nothing", 3, &[][..], Some((0, 3, &[][..], &[][..]))),
        ("no more than the maximum", 9, &[], Some((0, 6, &[], &[]))),
        ("as many as there are", 2, &[idle, (Booting, 0)], None),
        ("a paused one is woken first", 2, &[idle, (Paused, 0)], Some((0, 0, &[2], &[]))),
        ("all that are too many, at once", 1, &[idle; 4], Some((60, 0, &[], &[4, 3, 2]))),
        ("those in use stay", 0, &[(Ready, 1), idle, (Ready, 2)], Some((60, 0, &[], &[2]))),
        ("until those that come are there", 1, &[idle, (Creating, 0)], None),
        ("paused ones are too many", 1, &[idle, (Paused, 0)], Some((60, 0, &[], &[2]))),
        ("so are degraded ones", 1, &[idle, (Degraded, 0)], Some((60, 0, &[], &[2]))),
        ("one that ails is replaced in a while", 1, &[(Mending, 0)], Some((10, 1, &[], &[]))),
    ] {
        let policy = Policy { manual: Some(manual), spare_slots: 50, paused: 2, ..bare() };
        let units = units(of);
        let mut scaler = Autoscaler::new(policy, at(0));
        let plans = watch(&mut scaler, &seen(&units), 0..61);
        let first = plans.first().map(|(second, plan)| {
            assert_eq!((plan.why, plan.create_paused, plan.pause.len()), (Why::Manual, 0, 0), "{name}");
            (*second, plan.create, plan.unpause.clone(), plan.remove.clone())
        });
        let expected = asked.map(|(second, create, wake, gone)| (second, create, ids(wake), ids(gone)));
        assert_eq!(first, expected, "{name}");
    }
    let full = units(&[(Ready, 3)]);
    let mut scaler = Autoscaler::new(Policy { manual: Some(1), ..bare() }, at(0));
    let seen = Observation { waiting: 9, ..seen(&full) };
    assert_eq!(watch(&mut scaler, &seen, 0..61), [], "whoever waits");
}

#[test]
fn paused_ones_are_kept_ready_from_the_surplus_or_made() {
    let idle = (Ready, 0);
    for (name, policy, of, asked) in [
        ("made, in a while", bare_min(2), &[idle, idle][..], &[(10, 1, &[][..], &[][..])][..]),
        ("a surplus one is paused", bare_min(2), &[idle; 3], &[(60, 0, &[3], &[])]),
        ("and the rest goes", bare_min(2), &[idle; 4], &[(60, 0, &[4], &[]), (120, 0, &[], &[3])]),
        ("there already", bare_min(2), &[idle, idle, (Paused, 0)], &[]),
        ("too many", bare_min(2), &[idle, idle, (Paused, 0), (Paused, 0)], &[(60, 0, &[], &[4])]),
        ("it is on its way", bare_min(2), &[idle, idle, (Creating, 0)], &[]),
        ("no room", Policy { max: 2, ..bare_min(2) }, &[idle, idle], &[]),
        (
            "not for want of running ones alone",
            Policy { spare_slots: 6, ..bare() },
            &[idle, idle, (Paused, 0)],
            &[],
        ),
    ] {
        let mut units = units(of);
        let mut scaler = Autoscaler::new(Policy { paused: 1, ..policy }, at(0));
        let plans = live(&mut scaler, &mut units);
        let plans: Vec<_> = plans
            .into_iter()
            .map(|(second, plan)| (second, plan.create_paused, plan.pause, plan.remove))
            .collect();
        let asked: Vec<_> =
            asked.iter().map(|(at, made, put, gone)| (*at, *made, ids(put), ids(gone))).collect();
        assert_eq!(plans, asked, "{name}");
    }
}

#[test]
fn paused_ones_are_made_in_the_background_of_those_who_wait() {
    let policy = || Policy { paused: 50, max: 99, step_up: 50, ..bare() };
    let mut scaler = Autoscaler::new(policy(), at(0));
    let wait = Observation { waiting: 1, ..seen(&[]) };
    let booting = units(&[(Booting, 0)]);
    assert_eq!(scaler.plan(&wait, at(0)).create, 1);
    let wait = Observation { waiting: 1, ..seen(&booting) };
    assert_eq!(watch(&mut scaler, &wait, 0..60), [], "none while a stream waits");
    let made = watch(&mut scaler, &seen(&booting), 60..71);
    assert_eq!(
        made.iter().map(|(second, plan)| (*second, plan.create_paused)).collect::<Vec<_>>(),
        [(70, 5)]
    );
    let wait = Observation { waiting: 99, ..seen(&booting) };
    assert_eq!(scaler.plan(&wait, at(70)).create, 5, "half of the burst was left");

    let mut scaler = Autoscaler::new(policy(), at(0));
    for _ in 0..5 {
        scaler.created(false, at(0));
    }
    assert_eq!(watch(&mut scaler, &seen(&[]), 0..100), [], "nor is the one trial spent on it");
}

#[test]
fn a_paused_one_stays_while_slots_are_missing() {
    let units = units(&[(Ready, 0), (Paused, 0)]);
    let sustained = Duration::from_secs(100);
    let mut scaler = Autoscaler::new(Policy { spare_slots: 4, sustained, ..bare() }, at(0));
    let asked = watch(&mut scaler, &seen(&units), 0..101);
    let [(100, plan)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((plan.unpause.clone(), plan.why), (ids(&[2]), Why::Headroom));
}

#[test]
fn what_the_hour_promised_is_not_given_up_nor_asked_for_again_at_once() {
    let mut scaler = Autoscaler::new(Policy { spare_slots: 1, step_up: 9, ..bare_min(1) }, at(0));
    let mut peaks = [0.0; HOURS];
    peaks[20] = 9.0;
    scaler.import_profile(&peaks).unwrap();
    let four = units(&[(Ready, 3), (Ready, 1), (Ready, 0), (Ready, 0)]);
    let hour = |hour| Observation { hour: Some(hour), ..seen(&four) };
    assert_eq!(watch(&mut scaler, &hour(20), 0..600), [], "nine are usual: all are kept");
    let gone = watch(&mut scaler, &hour(21), 600..2_000);
    assert_eq!(gone.first().map(|(second, _)| *second), Some(1_260), "ten minutes more");
    let three = units(&[(Ready, 3), (Ready, 1), (Ready, 0)]);
    let last = gone.last().unwrap().0;
    let again = watch(&mut scaler, &Observation { hour: Some(20), ..seen(&three) }, 2_000..4_000);
    assert_eq!(again.first().map(|(second, plan)| (*second, plan.why)), Some((last + 610, Why::Forecast)));
}
