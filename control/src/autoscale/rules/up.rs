//! When and how engines are added.

use std::time::Duration;

use super::{super::*, at, bare, ids, seen, unit, units, watch};
use UnitState::{Booting, Creating, Degraded, Draining, Mending, Paused, Ready, Stopping};

#[test]
fn streams_that_wait_are_answered_at_once_with_what_is_missing() {
    let full = (Ready, 3);
    for (name, of, found_free, waiting, create, wake, held) in [
        ("nobody", &[][..], 0, 0, 0, &[][..], None),
        ("one", &[], 0, 1, 1, &[], None),
        ("an engine's worth", &[], 0, 3, 1, &[], None),
        ("one more", &[], 0, 4, 2, &[], None),
        ("free slots will do", &[(Ready, 1)], 0, 2, 0, &[], None),
        ("not quite", &[(Ready, 1)], 0, 3, 1, &[], None),
        ("one that boots will do", &[(Booting, 0)], 0, 3, 0, &[], None),
        ("two that come", &[(Booting, 0), (Creating, 0)], 0, 7, 1, &[], None),
        ("what was found will do", &[full], 2, 2, 0, &[], None),
        ("not quite what was found", &[full], 2, 3, 1, &[], None),
        ("free slots nobody may take", &[(Degraded, 0), (Mending, 0), (Draining, 0)], 0, 1, 1, &[], None),
        ("paused ones first, as many as needed", &[(Paused, 0); 3], 0, 4, 0, &[1, 2], None),
        ("not one too many", &[(Paused, 0); 3], 0, 3, 0, &[1], None),
        ("none for free slots", &[(Paused, 0), (Ready, 0)], 0, 3, 0, &[], None),
        ("paused ones and one more", &[(Paused, 0)], 0, 4, 1, &[1], None),
        ("a paused one before one that boots", &[(Booting, 0), (Paused, 0)], 0, 2, 0, &[2], None),
        ("full", &[full; 6], 0, 1, 0, &[], Some(Held::AtMax)),
        ("more than full", &[full; 7], 0, 1, 0, &[], Some(Held::AtMax)),
        (
            "all count, whatever their state",
            &[(Stopping, 0), (Draining, 1), (Mending, 0), (Degraded, 2), full],
            0,
            9,
            1,
            &[],
            Some(Held::AtMax),
        ),
        (
            "paused ones count, and can be woken",
            &[full, full, full, full, full, (Paused, 0)],
            0,
            9,
            0,
            &[6],
            Some(Held::AtMax),
        ),
        ("absurdly many", &[], u32::MAX, u32::MAX, 0, &[], None),
        ("absurdly many and no more", &[full], 0, u32::MAX, 5, &[], Some(Held::AtMax)),
    ] {
        let units = units(of);
        let mut scaler = Autoscaler::new(bare(), at(0));
        let plan = scaler.plan(&Observation { found_free, waiting, ..seen(&units) }, at(0));
        assert_eq!((plan.create, plan.unpause.clone(), plan.held), (create, ids(wake), held), "{name}");
        assert!(
            (plan.remove.len(), plan.pause.len(), plan.create_paused) == (0, 0, 0),
            "{name}: nothing else"
        );
        let why = if create + wake.len() > 0 { Why::Waiting } else { Why::Enough };
        assert_eq!(plan.why, why, "{name}");
    }
}

#[test]
fn one_that_was_woken_is_counted_on_until_it_plays() {
    let mut units = units(&[(Paused, 0), (Paused, 0)]);
    let mut scaler = Autoscaler::new(bare(), at(0));
    let mut ask = |units: &[_], waiting| scaler.plan(&Observation { waiting, ..seen(units) }, at(0)).unpause;
    assert_eq!(ask(&units, 3), ids(&[1]));
    units[0].state = Booting;
    assert_eq!(ask(&units, 3), ids(&[]), "it wakes");
    assert_eq!(ask(&units, 4), ids(&[2]), "one more stream than it has slots");
    units[1].state = Booting;
    units[0] = unit(1, Ready, 3);
    assert_eq!(ask(&units, 1), ids(&[]));
    // Booting once more it is like any other that boots.
    units[0] = unit(1, Booting, 0);
    units[1].state = Paused;
    assert_eq!(ask(&units, 1), ids(&[2]));
}

#[test]
fn the_minimum_is_restored_at_once_and_time_is_given_to_who_ails() {
    for (name, of, create, wake, second) in [
        ("from nothing", &[][..], 2, &[][..], 0),
        ("one is gone", &[(Ready, 3)], 1, &[], 0),
        ("one that boots is one", &[(Ready, 3), (Booting, 0)], 0, &[], 0),
        ("one that is made is one", &[(Ready, 3), (Creating, 0)], 0, &[], 0),
        ("one that goes is none", &[(Ready, 3), (Draining, 2), (Stopping, 0)], 1, &[], 0),
        ("a paused one is woken", &[(Ready, 3), (Paused, 0)], 0, &[2], 0),
        ("one ails", &[(Ready, 3), (Degraded, 2)], 1, &[], 10),
        ("both ail", &[(Mending, 0), (Degraded, 2)], 2, &[], 10),
    ] {
        let (units, policy) = (units(of), Policy { min: 2, ..bare() });
        let mut scaler = Autoscaler::new(policy, at(0));
        let plans = watch(&mut scaler, &seen(&units), 0..11);
        let first =
            plans.first().map(|(second, plan)| (*second, plan.create, plan.unpause.clone(), plan.why));
        let expected = (create + wake.len() > 0).then(|| (second, create, ids(wake), Why::BelowMin));
        assert_eq!(first, expected, "{name}");
    }
    let (full, policy) = (units(&[(Ready, 3)]), Policy { min: 9, max: 1, ..bare() });
    let mut scaler = Autoscaler::new(policy, at(0));
    assert_eq!(scaler.plan(&seen(&full), at(0)), Plan::nothing(None), "a minimum above the maximum is that");
}

#[test]
fn headroom_is_made_when_its_lack_has_stood_and_in_steps() {
    for (name, spare_slots, of, found_free, waiting, create, wake) in [
        ("enough", 3, &[(Ready, 0)][..], 0, 0, 0, &[][..]),
        ("one slot missing", 4, &[(Ready, 0)], 0, 0, 1, &[]),
        ("an engine's worth and one", 7, &[(Ready, 0)], 0, 0, 2, &[]),
        ("no more than a step", 30, &[(Ready, 0)], 0, 0, 2, &[]),
        ("one that comes counts", 6, &[(Ready, 0), (Booting, 0)], 0, 0, 0, &[]),
        ("what was found counts", 4, &[(Ready, 0)], 1, 0, 0, &[]),
        ("who waits has the free slots", 3, &[(Ready, 0)], 0, 1, 1, &[]),
        ("a paused one first", 4, &[(Ready, 0), (Paused, 0)], 0, 0, 0, &[2]),
    ] {
        let units = units(of);
        let mut scaler = Autoscaler::new(Policy { spare_slots, paused: 1, ..bare() }, at(0));
        let seen = Observation { found_free, waiting, ..seen(&units) };
        let plans = watch(&mut scaler, &seen, 0..20);
        let up = plans.iter().find(|(_, plan)| plan.why == Why::Headroom);
        let up = up.map(|(second, plan)| (*second, plan.create, plan.unpause.clone()));
        assert_eq!(up, (create + wake.len() > 0).then(|| (10, create, ids(wake))), "{name}");
    }
}

#[test]
fn a_lack_that_ends_begins_anew_and_each_go_needs_its_own() {
    let (full, free) = (units(&[(Ready, 3)]), units(&[(Ready, 2)]));
    let mut scaler = Autoscaler::new(Policy { spare_slots: 1, ..bare() }, at(0));
    assert_eq!(watch(&mut scaler, &seen(&full), 0..10), []);
    assert_eq!(watch(&mut scaler, &seen(&free), 10..11), []);
    let seconds = |plans: Vec<(u64, Plan)>| plans.into_iter().map(|(second, _)| second).collect::<Vec<_>>();
    assert_eq!(seconds(watch(&mut scaler, &seen(&full), 11..45)), [21, 32, 43]);
}

#[test]
fn what_is_usual_at_this_hour_is_made_ready_but_never_more_than_doubled() {
    for (name, hour, peak, taken, create) in [
        ("the hour is not known", None, 40.0, 3, 0),
        ("an hour that is none", Some(168), 40.0, 3, 0),
        ("nothing is usual", Some(20), 0.0, 3, 0),
        ("less is usual", Some(20), 3.0, 3, 0),
        ("some more: five slots for two and a spare one", Some(20), 4.0, 2, 1),
        ("the next hour", Some(19), 4.0, 2, 1),
        ("the hour after that", Some(18), 4.0, 2, 0),
        ("far more: doubled, eight for three and a spare one", Some(20), 40.0, 3, 2),
        ("from nothing", Some(20), 40.0, 0, 0),
    ] {
        let mut scaler = Autoscaler::new(Policy { spare_slots: 1, step_up: 9, ..bare() }, at(0));
        let mut peaks = [0.0; HOURS];
        peaks[20] = peak;
        scaler.import_profile(&peaks).unwrap();
        // One free slot at least, so that live demand asks for nothing.
        let units = if taken == 3 { units(&[(Ready, 2), (Ready, 1)][..]) } else { units(&[(Ready, taken)]) };
        let plans = watch(&mut scaler, &Observation { hour, ..seen(&units) }, 0..11);
        let first = plans.first().map(|(second, plan)| (*second, plan.create, plan.why));
        let expected = (create > 0).then_some((10, create, Why::Forecast));
        let expected =
            if taken == 3 { expected.map(|(at, create, why)| (at, create - 1, why)) } else { expected };
        assert_eq!(first, expected, "{name}");
    }
}

#[test]
fn nothing_is_asked_of_a_docker_that_does_not_answer() {
    let units = units(&[(Paused, 0), (Ready, 0), (Ready, 0), (Ready, 0)]);
    let mut scaler = Autoscaler::new(Policy { min: 1, ..bare() }, at(0));
    for waiting in [0, 99] {
        let seen = Observation { waiting, docker_answers: false, ..seen(&units) };
        for second in 0..200 {
            assert_eq!(scaler.plan(&seen, at(second)), Plan::nothing(Some(Held::DockerSilent)));
        }
    }
    let seen = Observation { waiting: 99, ..seen(&units) };
    assert_eq!(scaler.plan(&seen, at(200)).unpause, ids(&[1]), "at once when it is back");
}

#[test]
fn what_was_learned_can_be_shown() {
    let mut scaler = Autoscaler::new(bare(), at(0));
    let units = units(&[(Ready, 2)]);
    scaler.plan(&Observation { hour: Some(7), ..seen(&units) }, at(0));
    let shown = serde_json::to_value(scaler.learned()).unwrap();
    assert_eq!((&shown["hour"], &shown["peak"]), (&7.into(), &2.into()));
    assert_eq!(shown["peaks"].as_array().unwrap().len(), HOURS);
    let mut later = Autoscaler::new(bare(), at(9));
    // An hour that is none ends the one before, and teaches nothing.
    for (hour, second) in [(168, 3_600), (u32::MAX, 7_200), (8, 10_800)] {
        scaler.plan(&Observation { hour: Some(hour), ..seen(&units) }, at(0) + Duration::from_secs(second));
    }
    later.import_profile(&scaler.export_profile()).unwrap();
    assert_eq!(later.export_profile()[6..9], [0.0, 1.0, 0.0]);
}
