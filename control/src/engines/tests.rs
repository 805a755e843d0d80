//! What the table promises, to whoever comes, stays and leaves.

use millrace_boundary::Cause;

use super::*;

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(1_000_000 + millis))
}

fn member(name: &str, port: u16) -> Member {
    Member { identity: name.into(), name: name.into(), address: ([127, 0, 0, 1], port).into(), source: None }
}

fn engines(count: u16) -> Engines {
    let mut engines = Engines::new(3, Duration::from_secs(5), Random::new(1), at(0));
    let members: Vec<_> = (0..count).map(|i| member(&format!("e{i}"), i + 1)).collect();
    engines.adopt(&members, at(0));
    engines
}

fn good() -> Result<Answer, ProbeFailure> {
    Ok(Answer { version: "3.2.11".into(), platform: None, connected: None })
}

#[test]
fn the_epoch_rises_by_one_with_each_change_and_only_then() {
    let mut engines = engines(2);
    assert_eq!(engines.table().epoch, Epoch(1));
    engines.tick(at(500));
    assert_eq!(engines.table().epoch, Epoch(1), "nothing changed");
    engines.probed(EngineId(0), good(), at(600));
    engines.tick(at(600));
    assert_eq!(engines.table().epoch, Epoch(2), "a state");
    let failed = EngineEvidence::StartFailed(Cause::EngineSilent);
    for (name, millis, evidence, epoch, penalty) in [
        ("a score waits", 650, Some(failed), 2, 0),
        ("and comes", 700, None, 3, 1),
        ("once", 2_000, None, 3, 1),
        ("and fades", 40_000, None, 4, 0),
    ] {
        if let Some(evidence) = evidence {
            engines.used(EngineId(0), evidence, at(millis));
        }
        engines.tick(at(millis));
        let table = engines.table();
        assert_eq!((table.epoch.0, table.engines[0].start_failures), (epoch, penalty), "{name}");
    }
    let held = engines.table().engines[0].slots.reserve_at(0);
    engines.tick(at(50_000));
    assert!(held.is_some() && engines.table().engines[0].slots.taken() == 1, "slots outlive tables");
}

#[test]
fn probes_begin_at_once_then_spread_by_a_fifth_and_come_soon_after_a_failed_start() {
    let mut engines = engines(100);
    let due = |engines: &mut Engines, now| std::iter::from_fn(|| engines.next_due(now)).count();
    assert_eq!(due(&mut engines, at(0)), 100);
    assert_eq!(due(&mut engines, at(60_000)), 0, "never two probes of one engine");
    for id in 0..100 {
        engines.probed(EngineId(id), good(), at(10));
    }
    assert_eq!(due(&mut engines, at(3_999)), 0);
    let early = due(&mut engines, at(5_000));
    assert!((25..75).contains(&early), "{early} of 100 within the middle");
    assert_eq!(early + due(&mut engines, at(6_000)), 100);
    for id in 0..100 {
        engines.probed(EngineId(id), good(), at(6_000));
    }
    engines.used(EngineId(7), EngineEvidence::StartFailed(Cause::EngineSilent), at(6_100));
    assert_eq!(engines.next_probe_at(), Some(at(7_000)), "a second after the last");
}

#[test]
fn an_engine_that_boots_is_probed_more_often_than_one_that_plays_and_never_less() {
    let mut engines = engines(1);
    let id = EngineId(0);
    for (name, millis, soonest, latest) in [
        ("at first", 0, 50, 50),
        ("still", 400, 50, 50),
        ("an eighth of its age", 8_000, 1_000, 1_000),
        ("as often as any other", 400_000, 4_000, 6_000),
    ] {
        engines.next_due(at(millis)).expect(name);
        engines.probed(id, Err(ProbeFailure::Refused), at(millis));
        let next = engines.next_probe_at().unwrap().since(at(millis)).as_millis();
        assert!((soonest..=latest).contains(&next), "{name}: {next} ms");
    }
    engines.next_due(at(500_000)).unwrap();
    engines.probed(id, good(), at(500_000));
    engines.next_due(at(510_000)).unwrap();
    engines.probed(id, Err(ProbeFailure::Refused), at(510_000));
    let next = engines.next_probe_at().unwrap();
    assert!(next >= at(511_000), "one that has answered boots no more: {next:?}");
}

#[test]
fn an_engine_on_trial_has_room_for_one_stream_more() {
    let mut engines = engines(1);
    let id = EngineId(0);
    engines.probed(id, good(), at(0));
    let playing = engines.all()[0].slots.reserve_at(0).unwrap();
    for _ in 0..3 {
        engines.used(id, EngineEvidence::StartFailed(Cause::EngineSilent), at(1));
    }
    engines.tick(at(1));
    assert!(engines.table().pick(&[]).is_err());
    engines.tick(at(10_001));
    let table = Arc::clone(engines.table());
    let (_, trial) = table.pick(&[]).unwrap();
    assert!(table.pick(&[]).is_err(), "one trial, not a crowd");
    engines.used(id, EngineEvidence::Started(Duration::from_secs(1)), at(10_500));
    assert!(table.pick(&[]).is_ok());
    drop((playing, trial));
}

#[test]
fn a_flood_of_evidence_leaves_nothing_behind() {
    let mut engines = engines(2);
    for i in 0..10_000u32 {
        engines.used(EngineId(i % 5), EngineEvidence::Broke(Cause::EngineReset), at(0));
    }
    engines.tick(at(100));
    assert_eq!(engines.table().epoch, Epoch(2));
    assert!(engines.effects.is_empty());
    assert_eq!(engines.table().engines[1].start_failures, 100);
}

fn names(engines: &Engines) -> Vec<(u32, &str)> {
    engines.table().engines.iter().map(|e| (e.id.0, &*e.name)).collect()
}

#[test]
fn an_engine_that_left_is_in_no_table_and_its_id_is_nobodys_ever_after() {
    let mut engines = engines(3);
    let held = engines.table().engines[1].slots.reserve_at(0).unwrap();
    for (name, fleet, epoch, seen) in [
        ("nothing changed", vec![("e0", 1), ("e1", 2), ("e2", 3)], 1, vec![(0, "e0"), (1, "e1"), (2, "e2")]),
        ("one left", vec![("e2", 3), ("e0", 1)], 2, vec![(0, "e0"), (2, "e2")]),
        ("it is back", vec![("e0", 1), ("e1", 2), ("e2", 3)], 3, vec![(0, "e0"), (2, "e2"), (3, "e1")]),
        ("one moved", vec![("e0", 9), ("e1", 2), ("e2", 3)], 4, vec![(2, "e2"), (3, "e1"), (4, "e0")]),
        ("all left", vec![], 5, vec![]),
        ("one came", vec![("e0", 9)], 6, vec![(5, "e0")]),
    ] {
        let members: Vec<_> = fleet.into_iter().map(|(name, port)| member(name, port)).collect();
        engines.adopt(&members, at(10));
        engines.tick(at(500));
        assert_eq!((engines.table().epoch.0, names(&engines)), (epoch, seen), "{name}");
    }
    assert!(engines.get(EngineId(1)).is_none() && engines.get(EngineId(5)).is_some());
    assert!(engines.table().engines.iter().all(|e| e.slots.taken() == 0), "the slot was of another engine");
    drop(held);
}

#[test]
fn who_is_in_a_fleet_twice_is_one_engine_and_a_new_name_is_the_same_one() {
    let mut engines = engines(1);
    engines.probed(EngineId(0), good(), at(0));
    let renamed = Member { name: "new".into(), ..member("e0", 1) };
    engines.adopt(&[renamed.clone(), renamed], at(1));
    assert_eq!(names(&engines), [(0, "new")]);
    assert_eq!(engines.table().engines[0].state, EngineState::Ready);
}

#[test]
fn whoever_stays_notices_nothing_of_those_who_come_and_leave() {
    let mut engines = engines(2);
    for id in 0..2 {
        assert_eq!(engines.next_due(at(0)).unwrap().0, EngineId(id));
    }
    engines.adopt(&[member("e1", 2), member("e2", 3)], at(1));
    // The answer of the one that left, and evidence of its streams.
    engines.probed(EngineId(0), good(), at(2));
    engines.used(EngineId(0), EngineEvidence::Broke(Cause::EngineReset), at(2));
    assert_eq!(engines.next_due(at(2)).map(|(id, _)| id), Some(EngineId(2)), "new ones are probed at once");
    assert_eq!(engines.next_due(at(2)), None, "one is being probed, and goes on being so");
    engines.probed(EngineId(1), good(), at(3));
    engines.tick(at(3));
    let states: Vec<_> = engines.table().engines.iter().map(|e| e.state).collect();
    assert_eq!(states, [EngineState::Ready, EngineState::Booting]);
    assert_eq!((engines.probes().good, engines.in_flight), (2, 1));
}

#[test]
fn a_thousand_engines_may_change_every_second() {
    let mut engines = engines(0);
    for round in 0..100u16 {
        let members: Vec<_> = (0..1_000).map(|i| member(&format!("{round}-{i}"), i + 1)).collect();
        engines.adopt(&members, at(u64::from(round) * 1_000));
        while engines.next_due(at(u64::from(round) * 1_000)).is_some() {}
        for id in 0..1_000 {
            engines.probed(EngineId(u32::from(round) * 1_000 + id), good(), at(u64::from(round) * 1_000));
        }
    }
    assert_eq!(
        (engines.all().len(), engines.all()[0].id, engines.next_id),
        (1_000, EngineId(99_000), 100_000)
    );
}

#[test]
fn the_table_says_at_once_whether_the_fleet_grows_and_once() {
    let mut engines = engines(1);
    for (growing, epoch) in [(false, 1), (true, 2), (true, 2), (false, 3), (false, 3)] {
        engines.set_growing(growing, at(10));
        assert_eq!((engines.table().epoch.0, engines.table().growing), (epoch, growing));
    }
    engines.set_growing(true, at(20));
    engines.adopt(&[], at(20));
    assert_eq!((engines.table().epoch.0, engines.table().growing), (5, true), "whatever else changes");
}

#[test]
fn a_paused_engine_is_in_the_table_as_such_and_is_not_probed_until_woken() {
    let mut engines = engines(2);
    let id = EngineId(0);
    let counts = |engines: &Engines| (engines.states().ready, engines.states().paused);
    let pickable = |engines: &Engines| engines.table().pick(&[]).map(|(e, _)| e.id.0).ok();
    for _ in 0..2 {
        let due = engines.next_due(at(0)).unwrap().0;
        engines.probed(due, good(), at(1));
    }
    engines.drain(EngineId(1), at(2));
    assert_eq!((counts(&engines), pickable(&engines)), ((1, 0), Some(0)));
    let epoch = engines.table().epoch.0;

    engines.pause(id, at(10));
    assert_eq!((engines.table().epoch.0, engines.table().engines[0].state), (epoch + 1, EngineState::Paused));
    assert_eq!((counts(&engines), pickable(&engines)), ((0, 1), None), "at once");
    let due: Vec<_> = std::iter::from_fn(|| engines.next_due(at(60_000))).map(|(id, _)| id.0).collect();
    assert_eq!(due, [1], "nobody asks what cannot answer");
    assert_eq!(engines.next_probe_at(), None);

    engines.wake(id, at(70_000));
    assert_eq!((counts(&engines), pickable(&engines)), ((1, 0), Some(0)), "at once, without a probe");
    assert_eq!(engines.table().epoch.0, epoch + 2);
    assert_eq!(engines.next_due(at(70_000)).map(|(id, _)| id), Some(id), "and is probed");
    engines.pause(EngineId(7), at(70_000));
    engines.wake(EngineId(7), at(70_000));
    assert_eq!(engines.table().epoch.0, epoch + 2, "nobody is nobody");
}

#[test]
fn a_probe_that_a_pause_has_spoilt_says_nothing() {
    let mut engines = engines(1);
    let id = EngineId(0);
    engines.next_due(at(0)).unwrap();
    let answered = at(1);
    engines.probed(id, good(), answered);
    for (name, wakes_first, minute) in [("while it is paused", false, 1), ("after it was woken", true, 2)] {
        let at = |millis: u64| at(minute * 60_000 + millis);
        let before = (engines.probes().good, engines.probes().failed);
        assert!(engines.next_due(at(0)).is_some(), "{name}");
        engines.pause(id, at(1));
        if wakes_first {
            engines.wake(id, at(2));
        }
        engines.probed(id, Err(ProbeFailure::Silent), at(3));
        engines.wake(id, at(4));
        assert_eq!((engines.probes().good, engines.probes().failed), before, "{name}");
        let life = &engines.all()[0].life;
        assert_eq!((life.state(), life.last_probe().unwrap().at), (EngineState::Ready, answered), "{name}");
        assert_eq!(engines.in_flight, 0, "{name}");
    }
}

#[test]
fn the_first_round_does_not_wait_for_an_engine_that_is_paused() {
    let mut engines = engines(2);
    engines.probed(EngineId(0), good(), at(1));
    assert!(!engines.first_round_is_over());
    engines.pause(EngineId(1), at(2));
    assert!(engines.first_round_is_over());
}

#[test]
fn an_engine_started_again_is_probed_at_once_and_what_was_heard_before_is_forgotten() {
    let mut engines = engines(2);
    while let Some((id, _)) = engines.next_due(at(0)) {
        engines.probed(id, good(), at(10));
    }
    let failed = EngineEvidence::StartFailed(Cause::EngineSilent);
    (0..3).for_each(|_| engines.used(EngineId(1), failed, at(20)));
    engines.used(EngineId(1), EngineEvidence::Started(Duration::from_secs(1)), at(30));
    (0..3).for_each(|_| engines.used(EngineId(1), failed, at(40)));
    engines.tick(at(50));
    let told = |engines: &Engines| (engines.all()[1].life.state(), engines.all()[1].sessions());
    assert_eq!(told(&engines), (EngineState::Degraded, 1));
    assert!(engines.next_due(at(20_000)).is_some() && engines.next_due(at(20_000)).is_some());
    engines.renew("e1", at(20_001));
    assert_eq!(told(&engines), (EngineState::Booting, 0));
    assert_eq!(engines.table().engines[1].state, EngineState::Booting, "shards know");
    engines.probed(EngineId(1), good(), at(20_002));
    assert_eq!(told(&engines), (EngineState::Booting, 0), "that was asked of the one before");
    assert_eq!(engines.next_due(at(20_003)).map(|(id, _)| id), Some(EngineId(1)));
    let refused = || Err(ProbeFailure::Refused);
    engines.probed(EngineId(1), refused(), at(20_010));
    assert_eq!(engines.next_due(at(20_059)).map(|(id, _)| id), None);
    assert_eq!(engines.next_due(at(20_060)).map(|(id, _)| id), Some(EngineId(1)), "it comes any moment");
    engines.probed(EngineId(1), good(), at(20_511));
    assert_eq!(told(&engines), (EngineState::Ready, 0));
    assert_eq!(engines.next_due(at(22_000)).map(|(id, _)| id), None, "it is there");
    engines.renew("nobody", at(20_005));
}

#[test]
fn a_probe_that_failed_is_asked_again_soon_and_the_second_one_tells() {
    let mut engines = engines(1);
    let probe = |engines: &mut Engines, now, outcome| {
        assert!(engines.next_due(at(now)).is_some(), "at {now}");
        engines.probed(EngineId(0), outcome, at(now));
        engines.all()[0].life.state()
    };
    let silent = || Err(ProbeFailure::Silent);
    assert_eq!(probe(&mut engines, 0, good()), EngineState::Ready);
    assert_eq!(engines.next_due(at(3_900)), None);
    assert_eq!(probe(&mut engines, 7_000, silent()), EngineState::Ready, "one may be lost");
    assert_eq!(engines.next_due(at(7_999)), None);
    assert_eq!(probe(&mut engines, 8_000, silent()), EngineState::Degraded);
    assert_eq!(engines.next_due(at(11_900)), None, "it is known, and need not be asked often");
}
