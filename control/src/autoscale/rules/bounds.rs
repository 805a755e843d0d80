//! What bounds starts: the pace, the breaker, the maximum with broken engines.

use super::{super::*, at, bare, ids, seen, units, watch};
use UnitState::{Creating, Draining, Mending, Ready, Stopping};

fn held(scaler: &mut Autoscaler, waiting: u32, have: usize, second: u64) -> (usize, Option<Held>) {
    let units = units(&vec![(Creating, 3); have]);
    let plan = scaler.plan(&Observation { waiting, ..seen(&units) }, at(second));
    (plan.create, plan.held)
}

#[test]
fn starts_keep_their_pace_whoever_asks() {
    let mut scaler = Autoscaler::new(Policy { max: 99, ..bare() }, at(0));
    let until = |second| Some(Held::Pace { until: at(second) });
    assert_eq!(held(&mut scaler, 60, 0, 0), (10, until(2)), "a burst");
    assert_eq!(held(&mut scaler, 60, 10, 1), (0, until(2)));
    assert_eq!(held(&mut scaler, 60, 10, 2), (1, until(4)));
    assert!(!scaler.may_start(at(3)), "recreations are starts");
    assert!(scaler.may_start(at(4)));
    assert_eq!(held(&mut scaler, 60, 12, 4), (0, until(6)));
}

#[test]
fn nothing_is_created_while_the_breaker_is_open_and_one_when_it_is_half_open() {
    let mut scaler = Autoscaler::new(Policy { max: 99, ..bare() }, at(0));
    let fail = |scaler: &mut Autoscaler, second| (0..5).for_each(|_| scaler.created(false, at(second)));
    fail(&mut scaler, 0);
    let open = Some(Held::BreakerOpen { until: at(30) });
    assert_eq!(held(&mut scaler, 9, 0, 0), (0, open));
    assert!(!scaler.may_start(at(29)), "nor recreated");
    assert_eq!(held(&mut scaler, 9, 0, 29), (0, open));
    assert_eq!(scaler.breaker(at(29)).state, BreakerState::Open);
    assert_eq!(held(&mut scaler, 9, 0, 30), (1, Some(Held::BreakerTrial)));
    assert_eq!(scaler.breaker(at(30)).state, BreakerState::HalfOpen);
    assert_eq!(held(&mut scaler, 9, 1, 40), (0, Some(Held::BreakerTrial)));
    assert!(!scaler.may_start(at(40)), "a recreation would be a second trial");
    scaler.created(false, at(50));
    assert_eq!(
        held(&mut scaler, 9, 0, 109),
        (0, Some(Held::BreakerOpen { until: at(110) })),
        "twice as long"
    );
    assert!(scaler.may_start(at(110)), "a recreation may be the trial");
    assert_eq!(held(&mut scaler, 9, 0, 110), (0, Some(Held::BreakerTrial)));
    scaler.created(true, at(120));
    assert_eq!(held(&mut scaler, 9, 0, 120), (3, None));
    fail(&mut scaler, 130);
    scaler.reset_breaker();
    assert_eq!(held(&mut scaler, 9, 0, 131), (3, None), "reset by hand");
}

#[test]
fn paused_ones_are_woken_whatever_the_breaker_says() {
    let units = units(&[(UnitState::Paused, 0)]);
    let mut scaler = Autoscaler::new(bare(), at(0));
    scaler
        .set_policy(Policy { breaker: BreakerPolicy { failures: 1, ..BreakerPolicy::default() }, ..bare() });
    assert_eq!(scaler.policy().breaker.failures, 1);
    scaler.created(false, at(0));
    let plan = scaler.plan(&Observation { waiting: 9, ..seen(&units) }, at(0));
    assert_eq!((plan.create, plan.unpause), (0, ids(&[1])));
}

#[test]
fn engines_that_mend_for_ever_make_room_for_those_who_wait() {
    let old = (Ready, 3);
    for (name, of, waiting, min, removed) in [
        ("nobody waits", &[(Mending, 0), (Mending, 0), old, old][..], 0, 0, &[][..]),
        ("one is enough", &[(Mending, 0), (Mending, 0), old, old], 3, 0, &[1]),
        ("two are needed", &[(Mending, 0), (Mending, 0), old, old], 4, 0, &[1, 2]),
        ("more than there are", &[(Mending, 0), (Mending, 0), old, old], 40, 0, &[1, 2]),
        ("below the minimum", &[(Mending, 0), (Mending, 0), old, old], 0, 3, &[1]),
        ("something is on it", &[(Mending, 1), old, old, old], 9, 0, &[]),
        ("one goes already", &[(Mending, 0), (Stopping, 0), old, old], 3, 0, &[]),
        ("one goes when its viewers do", &[(Mending, 0), (Draining, 2), old, old], 3, 0, &[1]),
        ("none mends", &[old, old, old, old], 9, 0, &[]),
    ] {
        let (units, policy) = (units(of), Policy { max: 4, min, ..bare() });
        let mut scaler = Autoscaler::new(policy, at(0));
        let plans = watch(&mut scaler, &Observation { waiting, ..seen(&units) }, 0..120);
        let asked: Vec<_> = plans.into_iter().map(|(second, plan)| (second, plan.remove, plan.why)).collect();
        let expected = [(60, ids(removed), Why::MakeRoom)];
        assert_eq!(
            asked,
            if removed.is_empty() { &[][..] } else { &expected },
            "{name}: once, after a minute"
        );
    }
}

#[test]
fn no_room_is_made_without_leave_to_fill_it_nor_of_the_young() {
    let mut young = units(&[(Mending, 0), (Ready, 3)]);
    young[0].born = at(0);
    let mut scaler = Autoscaler::new(Policy { max: 2, ..bare() }, at(0));
    let seen = Observation { waiting: 3, ..seen(&young) };
    assert_eq!(watch(&mut scaler, &seen, 0..119), [], "a minute in mending, but not two of life");
    for _ in 0..5 {
        scaler.created(false, at(119));
    }
    assert_eq!(watch(&mut scaler, &seen, 119..149), [], "the breaker is open");
    assert_eq!(watch(&mut scaler, &seen, 149..150).len(), 1);

    let mending = units(&[(Mending, 0), (Ready, 3)]);
    let mut scaler = Autoscaler::new(Policy { max: 2, spare_slots: 9, ..bare() }, at(0));
    assert_eq!(watch(&mut scaler, &super::seen(&mending), 0..600), [], "nor for spare slots");
}
