use super::*;
use crate::unit::{Leave, Order};

const LIMITS: Limits = Limits { boot: Duration::from_secs(60), drain: Duration::from_secs(40) };

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_secs(1_000) + Duration::from_millis(millis))
}

const FINE: Sense = Sense { is_good: true, ail: None, taken: 0, may_mend: true };
const BOOTS: Sense = Sense { is_good: false, ..FINE };
const PLAYS: Sense = Sense { taken: 2, ..FINE };
const HANGS: Sense = Sense { ail: Some(Ail::Api), ..PLAYS };

/// What happens at a time, and how the engine is then.
type Step = (u64, Event, Sense);

fn run(life: &mut Life, steps: &[Step]) -> Vec<(u64, Effect)> {
    let mut all = Vec::new();
    for (millis, event, sense) in steps {
        let mut effects = Vec::new();
        // Lists are begun when they are there, unless a test says otherwise.
        let event = match *event {
            Event::Seen(look, begun) if begun == NOW => Event::Seen(look, at(*millis)),
            event => event,
        };
        life.on(event, *sense, at(*millis), &mut effects);
        all.extend(effects.into_iter().map(|effect| (*millis, effect)));
    }
    all
}

/// Those that do something, without the journal's.
fn deeds(effects: &[(u64, Effect)]) -> Vec<(u64, Effect)> {
    effects.iter().copied().filter(|(_, effect)| !matches!(effect, Effect::Tell(_))).collect()
}

fn done(deed: Deed) -> Event {
    Event::Done(deed, Ok(()))
}

/// One that takes streams since `at(0)`, made by us.
fn ready() -> Life {
    let mut life = Life::make(LIMITS, false, at(0), &mut Vec::new());
    run(&mut life, &[(0, done(Deed::Make), BOOTS), (0, Event::Tick, FINE)]);
    assert_eq!(life.stage(), Stage::Ready);
    life
}

/// When the step is.
const NOW: Monotonic = Monotonic(Duration::ZERO);
const RUNS: Event = Event::Seen(Look::Running { reachable: true }, NOW);
const DOWN: Event = Event::Seen(Look::Down, NOW);

#[test]
fn an_engine_is_made_boots_and_takes_streams() {
    let mut effects = Vec::new();
    let mut life = Life::make(LIMITS, false, at(0), &mut effects);
    assert_eq!(effects, [Effect::Do(Deed::Make)]);
    let told = run(
        &mut life,
        &[
            (100, Event::Tick, BOOTS),
            (200, done(Deed::Make), BOOTS),
            (900, Event::Tick, BOOTS),
            (1_200, Event::Tick, FINE),
        ],
    );
    assert_eq!(
        told,
        [
            (1_200, Effect::Tell(Tidings::Ready { took: Duration::from_secs(1) })),
            (1_200, Effect::Wake),
            (1_200, Effect::Undrain)
        ]
    );
    assert_eq!(life.stage(), Stage::Ready);
}

#[test]
fn one_that_cannot_be_made_is_gone_and_a_silent_docker_is_asked_again() {
    for (fault, expected) in
        [(Fault::Refused, Stage::Gone), (Fault::Gone, Stage::Gone), (Fault::Daemon, Stage::Making)]
    {
        let mut life = Life::make(LIMITS, false, at(0), &mut Vec::new());
        run(&mut life, &[(10, Event::Done(Deed::Make, Err(fault)), BOOTS)]);
        assert_eq!(life.stage(), expected, "{fault:?}");
    }
    let mut life = Life::make(LIMITS, false, at(0), &mut Vec::new());
    let mut now = 0;
    for pause in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        let failed = (now, Event::Done(Deed::Make, Err(Fault::Daemon)), BOOTS);
        let again = run(
            &mut life,
            &[failed, (now + pause - 1, Event::Tick, BOOTS), (now + pause, Event::Tick, BOOTS)],
        );
        now += pause;
        assert_eq!(again, [(now, Effect::Do(Deed::Make))], "after {pause} ms");
    }
}

#[test]
fn the_ladder_is_a_restart_another_container_and_quarantine_of_growing_length() {
    let mut life = ready();
    let mut now = 10_000;
    for (deed, quarantine) in [
        (Deed::Revive, None),
        (Deed::Remake, None),
        (Deed::Bury, Some(30)),
        (Deed::Bury, Some(60)),
        (Deed::Bury, Some(120)),
        (Deed::Bury, Some(240)),
        (Deed::Bury, Some(480)),
        (Deed::Bury, Some(600)),
        (Deed::Bury, Some(600)),
    ] {
        let begun = run(&mut life, &[(now, DOWN, BOOTS)]);
        assert_eq!(deeds(&begun), [(now, Effect::Do(deed))]);
        let mut over = run(&mut life, &[(now + 10, done(deed), BOOTS)]);
        now += 10;
        if let Some(seconds) = quarantine {
            let pause = Duration::from_secs(seconds);
            assert_eq!(over, [(now, Effect::Tell(Tidings::Quarantined(pause)))]);
            over = run(&mut life, &[(now + seconds * 1_000 - 1, Event::Tick, BOOTS)]);
            assert_eq!(over, [], "left alone");
            now += seconds * 1_000;
            over = run(&mut life, &[(now, Event::Tick, BOOTS)]);
            assert_eq!(deeds(&over), [(now, Effect::Do(Deed::Remake))]);
            run(&mut life, &[(now, done(Deed::Remake), BOOTS)]);
        }
        now += 100;
        run(&mut life, &[(now, Event::Tick, FINE)]);
        assert_eq!(life.stage(), Stage::Ready, "{deed:?}");
        now += 2_000;
    }
    // Well for five minutes, and all is forgotten.
    run(&mut life, &[(now + 299_000, Event::Tick, FINE), (now + 301_000, Event::Tick, FINE)]);
    let begun = run(&mut life, &[(now + 302_000, DOWN, BOOTS)]);
    assert_eq!(deeds(&begun), [(now + 302_000, Effect::Do(Deed::Revive))]);
}

#[test]
fn a_deed_that_does_not_work_leads_to_the_next_rung() {
    let mut life = ready();
    let begun = run(
        &mut life,
        &[
            (5_000, DOWN, BOOTS),
            (5_010, Event::Done(Deed::Revive, Err(Fault::Refused)), BOOTS),
            (5_020, Event::Done(Deed::Remake, Err(Fault::Refused)), BOOTS),
            (5_030, Event::Done(Deed::Bury, Err(Fault::Gone)), BOOTS),
        ],
    );
    assert_eq!(
        deeds(&begun),
        [
            (5_000, Effect::Do(Deed::Revive)),
            (5_010, Effect::Do(Deed::Remake)),
            (5_020, Effect::Do(Deed::Bury))
        ]
    );
    assert_eq!(life.stage(), Stage::Quarantined(at(35_030)));
}

#[test]
fn whoever_does_not_boot_in_time_or_dies_on_the_way_is_mended() {
    for (name, event, when) in [("never answers", Event::Tick, 60_000), ("dies", DOWN, 1_000)] {
        let mut life = Life::make(LIMITS, false, at(0), &mut Vec::new());
        run(&mut life, &[(0, done(Deed::Make), BOOTS)]);
        assert_eq!(run(&mut life, &[(when - 1, Event::Tick, BOOTS)]), [], "{name}");
        assert_eq!(
            deeds(&run(&mut life, &[(when, event, BOOTS)])),
            [(when, Effect::Do(Deed::Revive))],
            "{name}"
        );
    }
}

#[test]
fn an_ill_is_borne_for_a_while_and_streams_move_before_it_is_mended() {
    for (ail, patience) in
        [(Ail::Api, 3_000), (Ail::Offline, 60_000), (Ail::Starts, 30_000), (Ail::Unreachable, 1_000)]
    {
        let ill = Sense { ail: Some(ail), ..PLAYS };
        let mut life = ready();
        let quiet = run(&mut life, &[(2_000, Event::Tick, ill), (2_000 + patience - 1, Event::Tick, ill)]);
        assert_eq!(quiet, [(2_000, Effect::Tell(Tidings::Ails(ail)))], "{ail:?}");
        let over = 2_000 + patience;
        assert_eq!(deeds(&run(&mut life, &[(over, Event::Tick, ill)])), [(over, Effect::Drain)], "{ail:?}");
        let empty = Sense { taken: 0, ..ill };
        let first = if ail == Ail::Unreachable { Deed::Remake } else { Deed::Revive };
        assert_eq!(
            deeds(&run(&mut life, &[(over + 700, Event::Tick, ill), (over + 800, Event::Tick, empty)])),
            [(over + 800, Effect::Do(first))],
            "{ail:?}"
        );
    }
}

#[test]
fn an_ill_that_passes_is_no_mend_and_a_storm_mends_nobody() {
    let mut life = ready();
    let told = run(
        &mut life,
        &[
            (2_000, Event::Tick, HANGS),
            (4_900, Event::Tick, PLAYS),
            (8_000, Event::Tick, HANGS),
            (10_900, Event::Tick, HANGS),
        ],
    );
    assert_eq!(deeds(&told), []);
    assert_eq!((life.stage(), life.mends()), (Stage::Ailing(Ail::Api), 0));
    let storm = Sense { may_mend: false, ..HANGS };
    assert_eq!(run(&mut life, &[(60_000, Event::Tick, storm)]), []);
    assert_eq!(deeds(&run(&mut life, &[(61_000, Event::Tick, HANGS)])), [(61_000, Effect::Drain)]);
}

#[test]
fn streams_that_cannot_move_are_not_waited_for_for_ever() {
    let mut life = ready();
    run(&mut life, &[(2_000, Event::Tick, HANGS), (7_000, Event::Tick, HANGS)]);
    assert_eq!(run(&mut life, &[(16_999, Event::Tick, HANGS)]), []);
    assert_eq!(
        run(&mut life, &[(17_000, Event::Tick, HANGS)]),
        [
            (17_000, Effect::Tell(Tidings::Forced { taken: 2 })),
            (17_000, Effect::Tell(Tidings::Mends(Deed::Revive))),
            (17_000, Effect::Do(Deed::Revive))
        ]
    );
}

#[test]
fn orders_empty_an_engine_first() {
    let order = |order| Event::Order(order);
    for (given, then) in [
        (Order::Restart, Deed::Revive),
        (Order::Remake(Leave::Drifted), Deed::Remake),
        (Order::Remove(Leave::Asked), Deed::Dispose),
    ] {
        // With nobody on it at once.
        let mut life = ready();
        let at_once = deeds(&run(&mut life, &[(2_000, order(given), FINE)]));
        assert_eq!(at_once.last(), Some(&(2_000, Effect::Do(then))), "{given:?}");
        assert!(at_once.contains(&(2_000, Effect::Drain)), "{given:?}");
        // With streams when they have moved, or late.
        for (sense, when) in [(FINE, 3_000), (PLAYS, 42_000)] {
            let mut life = ready();
            let steps =
                [(2_000, order(given), PLAYS), (when - 1, Event::Tick, PLAYS), (when, Event::Tick, sense)];
            let all = deeds(&run(&mut life, &steps));
            let first = all.iter().find(|(_, effect)| matches!(effect, Effect::Do(_)));
            assert_eq!(first, Some(&(when, Effect::Do(then))), "{given:?}");
        }
        assert_eq!(life.mends(), 0, "an order is no ill");
    }
    // A kill waits for nobody.
    let mut life = ready();
    let killed = deeds(&run(&mut life, &[(2_000, order(Order::Kill), PLAYS)]));
    assert_eq!(killed, [(2_000, Effect::Drain), (2_000, Effect::Do(Deed::Dispose))]);
    run(&mut life, &[(2_100, done(Deed::Dispose), PLAYS)]);
    assert_eq!(life.stage(), Stage::Gone);
}

#[test]
fn a_drained_engine_stays_so_over_its_death_until_it_is_undrained() {
    let mut life = ready();
    let all = run(
        &mut life,
        &[
            (2_000, Event::Order(Order::Drain), PLAYS),
            (900_000, Event::Tick, PLAYS),
            (901_000, DOWN, BOOTS),
            (901_100, done(Deed::Revive), BOOTS),
            (902_200, Event::Tick, FINE),
        ],
    );
    assert_eq!(
        deeds(&all),
        [
            (2_000, Effect::Drain),
            (901_000, Effect::Do(Deed::Revive)),
            (902_200, Effect::Wake),
            (902_200, Effect::Drain)
        ]
    );
    assert_eq!(life.stage(), Stage::Emptying(None, Then::Hold));
    let free = deeds(&run(&mut life, &[(903_000, Event::Order(Order::Undrain), FINE)]));
    assert_eq!((free, life.stage()), (vec![(903_000, Effect::Undrain)], Stage::Ready));
}

#[test]
fn a_paused_engine_is_woken_at_once_and_never_paused_under_a_stream() {
    let mut life = ready();
    assert_eq!(run(&mut life, &[(2_000, Event::Order(Order::Pause), PLAYS)]), []);
    let paused = run(
        &mut life,
        &[
            (3_000, Event::Order(Order::Pause), FINE),
            (3_010, done(Deed::Pause), FINE),
            (9_000, Event::Seen(Look::Paused, NOW), FINE),
        ],
    );
    assert_eq!(deeds(&paused), [(3_000, Effect::Shelve), (3_000, Effect::Do(Deed::Pause))]);
    assert_eq!(life.stage(), Stage::Paused);
    let mut other = life.clone();
    let woken =
        run(&mut life, &[(10_000, Event::Order(Order::Wake), FINE), (10_010, done(Deed::Unpause), FINE)]);
    assert_eq!(
        deeds(&woken),
        [(10_000, Effect::Do(Deed::Unpause)), (10_010, Effect::Wake), (10_010, Effect::Undrain)]
    );
    // A shard took a slot in the moment before.
    assert_eq!(
        deeds(&run(&mut other, &[(10_000, Event::Tick, PLAYS)])),
        [(10_000, Effect::Do(Deed::Unpause))]
    );
    // Woken while it is being paused.
    let mut third = ready();
    let both = run(
        &mut third,
        &[
            (3_000, Event::Order(Order::Pause), FINE),
            (3_001, Event::Order(Order::Wake), FINE),
            (3_010, done(Deed::Pause), FINE),
        ],
    );
    assert_eq!(deeds(&both)[2..], [(3_010, Effect::Do(Deed::Unpause))]);
    // One that is made to be paused.
    let mut life = Life::make(LIMITS, true, at(0), &mut Vec::new());
    let made =
        run(&mut life, &[(0, done(Deed::Make), BOOTS), (900, Event::Tick, FINE), (950, Event::Tick, FINE)]);
    assert_eq!(deeds(&made).last(), Some(&(950, Effect::Do(Deed::Pause))));
}

#[test]
fn what_others_do_to_a_container_is_noticed_and_mended() {
    for (name, look, effects, stage) in [
        (
            "paused",
            Look::Paused,
            vec![Effect::Tell(Tidings::Frozen), Effect::Do(Deed::Unpause)],
            Stage::Waking,
        ),
        ("removed", Look::Absent, vec![Effect::Tell(Tidings::Vanished)], Stage::Gone),
        ("running", Look::Running { reachable: true }, vec![], Stage::Ready),
    ] {
        let mut life = ready();
        let seen = run(&mut life, &[(2_000, Event::Seen(look, NOW), PLAYS)]);
        assert_eq!(seen.into_iter().map(|(_, effect)| effect).collect::<Vec<_>>(), effects, "{name}");
        assert_eq!(life.stage(), stage, "{name}");
    }
    // A paused one that dies is paused again once it is well.
    let mut life = ready();
    run(&mut life, &[(3_000, Event::Order(Order::Pause), FINE), (3_010, done(Deed::Pause), FINE)]);
    let all = run(
        &mut life,
        &[
            (5_000, DOWN, BOOTS),
            (5_100, done(Deed::Revive), BOOTS),
            (6_200, Event::Tick, FINE),
            (6_300, Event::Tick, FINE),
        ],
    );
    assert_eq!(deeds(&all).last(), Some(&(6_300, Effect::Do(Deed::Pause))));
    // A paused one that somebody woke.
    let mut life = ready();
    run(&mut life, &[(3_000, Event::Order(Order::Pause), FINE), (3_010, done(Deed::Pause), FINE)]);
    run(&mut life, &[(5_000, RUNS, FINE)]);
    assert_eq!(life.stage(), Stage::Ready);
}

#[test]
fn a_list_older_than_the_last_deed_is_not_believed_nor_an_answer_nobody_waits_for() {
    let mut life = ready();
    run(&mut life, &[(5_000, DOWN, BOOTS), (5_100, done(Deed::Revive), BOOTS)]);
    let old = Event::Seen(Look::Absent, at(5_299));
    assert_eq!(run(&mut life, &[(5_200, DOWN, BOOTS), (9_000, old, BOOTS)]), []);
    assert_eq!(deeds(&run(&mut life, &[(9_100, DOWN, BOOTS)])), [(9_100, Effect::Do(Deed::Remake))]);
    assert_eq!(run(&mut life, &[(9_110, done(Deed::Revive), BOOTS), (9_120, DOWN, BOOTS)]), []);
    assert_eq!(life.stage(), Stage::Mending);
}

#[test]
fn whoever_is_to_go_goes_after_the_deed_under_way() {
    for (deed, outcome, expected) in [
        (Deed::Make, Ok(()), vec![Effect::Drain, Effect::Do(Deed::Dispose)]),
        (Deed::Make, Err(Fault::Refused), vec![Effect::Tell(Tidings::Left)]),
    ] {
        let mut life = Life::make(LIMITS, false, at(0), &mut Vec::new());
        assert_eq!(run(&mut life, &[(1, Event::Order(Order::Remove(Leave::Asked)), BOOTS)]), []);
        let after = run(&mut life, &[(2, Event::Done(deed, outcome), BOOTS)]);
        assert_eq!(after.into_iter().map(|(_, effect)| effect).collect::<Vec<_>>(), expected);
    }
    // In quarantine there is nothing to remove.
    let mut life = ready();
    run(
        &mut life,
        &[
            (5_000, DOWN, BOOTS),
            (5_010, Event::Done(Deed::Revive, Err(Fault::Gone)), BOOTS),
            (5_020, Event::Done(Deed::Remake, Err(Fault::Refused)), BOOTS),
            (5_030, done(Deed::Bury), BOOTS),
            (5_040, Event::Order(Order::Remove(Leave::Surplus)), BOOTS),
        ],
    );
    assert_eq!(life.stage(), Stage::Gone);
}
