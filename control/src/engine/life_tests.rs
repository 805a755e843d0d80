//! Each transition of an engine's life.

use millrace_boundary::Cause;

use super::*;

fn good(connected: Option<bool>) -> Event {
    Event::Probed(Ok(Answer { version: "3.2.11".into(), platform: None, connected }))
}
fn bad(failure: ProbeFailure) -> Event {
    Event::Probed(Err(failure))
}
fn failed(cause: Cause) -> Event {
    Event::Used(EngineEvidence::StartFailed(cause))
}
fn worked() -> Event {
    Event::Used(EngineEvidence::Started(Duration::from_secs(2)))
}

/// Plays `events` a second apart from a ready engine on.
fn after(events: impl IntoIterator<Item = Event>) -> (EngineState, Life) {
    let mut life = Life::new(Monotonic::default());
    let mut effects = Vec::new();
    let mut now = Monotonic(Duration::from_secs(100));
    life.on(good(Some(true)), now, &mut effects);
    for event in events {
        now = now + Duration::from_secs(1);
        life.on(event, now, &mut effects);
    }
    (life.state(), life)
}

#[test]
fn degrades_and_recovers_by_the_rules() {
    use EngineState::{Degraded, Ready};
    use ProbeFailure::{Nonsense, Refused, Silent};
    let silent = || failed(Cause::EngineSilent);
    let content = || failed(Cause::ContentUnavailable);
    for (name, events, state) in [
        ("nothing happened", vec![], Ready),
        ("one lost probe", vec![bad(Silent)], Ready),
        ("two lost probes", vec![bad(Silent), bad(Nonsense)], Degraded),
        ("a good probe between", vec![bad(Silent), good(None), bad(Silent)], Ready),
        ("one good probe repairs", vec![bad(Silent), bad(Silent), good(None)], Ready),
        ("refused, then a failed start", vec![bad(Refused), silent()], Degraded),
        ("a failed start, then refused", vec![silent(), bad(Refused)], Degraded),
        ("silent and a failed start are not enough", vec![bad(Silent), silent()], Ready),
        ("offline alone", vec![good(Some(false)), good(Some(false))], Ready),
        ("offline and a failed start", vec![good(Some(false)), silent()], Degraded),
        ("a failed start, then offline", vec![silent(), good(Some(false))], Degraded),
        ("offline, and only content fails", vec![good(Some(false)), content(), content(), content()], Ready),
        (
            "offline, and the swarm is not there",
            vec![good(Some(false)), failed(Cause::StartFailed)],
            Degraded,
        ),
        ("online, and the swarm is not there", vec![good(Some(true)), failed(Cause::StartFailed)], Ready),
        ("online again", vec![good(Some(false)), silent(), good(Some(true))], Ready),
        ("offline but starts work", vec![good(Some(false)), silent(), worked()], Ready),
        ("two failed starts", vec![silent(), silent()], Ready),
        ("three failed starts", vec![silent(), silent(), silent()], Degraded),
        ("a good probe does not repair starts", vec![silent(), silent(), silent(), good(None)], Degraded),
        ("a working start does", vec![silent(), silent(), silent(), worked()], Ready),
        ("a working start between", vec![silent(), silent(), worked(), silent()], Ready),
        ("a hundred content failures", (0..100).map(|_| content()).collect(), Ready),
        (
            "a hundred timeouts, nobody's for sure",
            (0..100).map(|_| failed(Cause::StartTimeout)).collect(),
            Ready,
        ),
    ] {
        assert_eq!(after(events).0, state, "{name}");
    }
}

#[test]
fn an_engine_whose_starts_failed_ails_until_one_works() {
    let silent = || failed(Cause::EngineSilent);
    let now = Monotonic(Duration::from_secs(100) + PAUSE_FIRST + Duration::from_secs(9));
    let mut life = after([silent(), silent(), silent()]).1;
    assert_eq!(life.ail(), Some(Ailment::Starts));
    life.on(Event::Tick, now, &mut Vec::new());
    assert_eq!((life.state(), life.ail()), (EngineState::Ready, Some(Ailment::Starts)), "on trial");
    let mut cured = life.clone();
    cured.on(worked(), now, &mut Vec::new());
    assert_eq!((cured.state(), cured.ail()), (EngineState::Ready, None));
    life.on(silent(), now, &mut Vec::new());
    assert_eq!((life.state(), life.ail()), (EngineState::Degraded, Some(Ailment::Starts)));
    let mut fresh = Life::new(now);
    fresh.put_on_trial();
    fresh.on(good(None), now, &mut Vec::new());
    assert_eq!((fresh.state(), fresh.ail()), (EngineState::Ready, None), "nothing has failed on it");
}

#[test]
fn an_engine_without_network_is_a_later_choice_until_it_has_one() {
    let now = Monotonic(Duration::from_secs(200));
    for (name, events, reluctance) in [
        ("offline", vec![good(Some(false))], OFFLINE),
        ("offline for long", vec![good(Some(false)), good(Some(false))], OFFLINE),
        ("online again", vec![good(Some(false)), good(Some(true))], 0),
        ("does not say", vec![good(None)], 0),
    ] {
        let life = after(events).1;
        assert_eq!((life.reluctance(now), life.penalty(now)), (reluctance, 0), "{name}");
    }
}

#[test]
fn a_drain_lasts_until_undone_and_then_what_was_heard_meanwhile_counts() {
    use EngineState::{Degraded, Draining, Ready};
    use ProbeFailure::Silent;
    let failing = || (0..3).map(|_| failed(Cause::EngineSilent));
    let drained = |events: Vec<Event>| [Event::Drain].into_iter().chain(events);
    for (name, events, state, room) in [
        ("nothing", vec![], Ready, Some(Admission::All)),
        ("good probes", vec![good(None), good(Some(true))], Ready, None),
        ("asked for again", vec![Event::Drain, Event::Tick], Ready, None),
        ("its API fails", vec![bad(Silent), bad(Silent)], Degraded, None),
        ("its API failed", vec![bad(Silent), bad(Silent), good(None)], Ready, None),
        ("offline, and a start failed", vec![good(Some(false)), failed(Cause::EngineSilent)], Degraded, None),
        ("starts fail in a row", failing().collect(), Ready, Some(Admission::One)),
        ("starts failed, one worked", failing().chain([worked()]).collect(), Ready, None),
    ] {
        let (while_drained, mut life) = after(drained(events));
        assert_eq!(while_drained, Draining, "{name}");
        let (now, mut effects) = (Monotonic(Duration::from_secs(1_000)), Vec::new());
        life.on(Event::Tick, now, &mut effects);
        assert_eq!((life.state(), effects.as_slice()), (Draining, &[][..]), "{name}: time ends no drain");
        life.on(Event::Undrain, now, &mut effects);
        assert_eq!((life.state(), life.since()), (state, now), "{name}");
        assert_eq!(effects[0], Effect::ProbeSoon, "{name}");
        let turned = Effect::Turned { from: Draining, to: state, why: Why::DrainUndone };
        assert_eq!(effects[1], turned, "{name}");
        let one = effects.contains(&Effect::Admit(Admission::One));
        assert_eq!(one, room == Some(Admission::One), "{name}: {effects:?}");
        effects.clear();
        life.on(Event::Undrain, now, &mut effects);
        assert_eq!((life.state(), effects.as_slice()), (state, &[][..]), "{name}: once is enough");
    }
}

#[test]
fn every_state_can_be_drained_and_one_that_never_answered_boots_on() {
    let (now, mut effects) = (Monotonic(Duration::from_secs(300)), Vec::new());
    let silent = || failed(Cause::EngineSilent);
    let (_, mut on_trial) = after([silent(), silent(), silent()]);
    on_trial.on(Event::Tick, now, &mut effects);
    for (name, mut life, from, to) in [
        ("booting", Life::new(now), EngineState::Booting, EngineState::Booting),
        ("ready", after([]).1, EngineState::Ready, EngineState::Ready),
        ("paused", after([silent(), silent(), silent()]).1, EngineState::Degraded, EngineState::Ready),
        ("on trial", on_trial, EngineState::Ready, EngineState::Ready),
        (
            "fails probes",
            after([bad(ProbeFailure::Silent), bad(ProbeFailure::Silent)]).1,
            EngineState::Degraded,
            EngineState::Degraded,
        ),
    ] {
        effects.clear();
        life.on(Event::Drain, now, &mut effects);
        let turned = Effect::Turned { from, to: EngineState::Draining, why: Why::DrainAsked };
        assert_eq!(effects[0], turned, "{name}");
        assert_eq!(effects.get(1), (name == "on trial").then_some(&Effect::Admit(Admission::All)), "{name}");
        life.on(Event::Undrain, now, &mut effects);
        assert_eq!(life.state(), to, "{name}");
    }
}

#[test]
fn a_paused_engine_is_deaf_and_woken_it_is_what_it_was_before() {
    use EngineState::{Booting, Degraded, Paused, Ready};
    use ProbeFailure::{Refused, Silent};
    let silent = || failed(Cause::EngineSilent);
    let failing = || (0..3).map(|_| silent());
    for (name, before, state, room) in [
        ("ready", vec![], Ready, None),
        ("ready after a good probe", vec![bad(Silent), good(None)], Ready, None),
        ("ready, but one probe was lost", vec![bad(Silent)], Booting, None),
        ("its API fails", vec![bad(Silent), bad(Refused)], Degraded, None),
        ("offline, and a start failed", vec![good(Some(false)), silent()], Degraded, None),
        ("starts fail in a row", failing().collect(), Ready, Some(Admission::One)),
        ("starts fail, and one probe was lost", failing().chain([bad(Silent)]).collect(), Booting, None),
        ("paused twice", vec![Event::Paused], Ready, None),
    ] {
        let heard = [bad(Refused), bad(Silent), silent(), silent(), silent(), worked(), good(Some(false))];
        let (_, before_it) = after(before.into_iter().chain([Event::Paused]));
        let (mut life, now, mut effects) = (before_it, Monotonic(Duration::from_secs(900)), Vec::new());
        let (probe, penalty) = (life.last_probe().unwrap().at, life.penalty(now));
        for event in heard.into_iter().chain([Event::Tick, Event::Undrain, Event::Paused]) {
            life.on(event, now, &mut effects);
        }
        assert_eq!((life.state(), effects.as_slice()), (Paused, &[][..]), "{name}");
        assert_eq!((life.last_probe().unwrap().at, life.penalty(now)), (probe, penalty), "{name}: deaf");
        life.on(Event::Woken, now, &mut effects);
        let turned = Effect::Turned { from: Paused, to: state, why: Why::Wanted };
        assert_eq!((life.state(), life.since()), (state, now), "{name}");
        let expected: Vec<_> =
            [Effect::ProbeSoon, turned].into_iter().chain(room.map(Effect::Admit)).collect();
        assert_eq!(effects, expected, "{name}");
        effects.clear();
        life.on(Event::Woken, now, &mut effects);
        assert_eq!((life.state(), effects.as_slice()), (state, &[][..]), "{name}: once is enough");
        life.on(good(Some(true)), now, &mut effects);
        assert_eq!(life.state(), Ready, "{name}: a good probe is enough");
    }
}

#[test]
fn every_state_but_draining_can_be_paused_and_a_drain_ends_a_pause() {
    use EngineState::{Booting, Degraded, Draining, Paused, Ready};
    let (now, mut effects) = (Monotonic(Duration::from_secs(300)), Vec::new());
    let silent = || failed(Cause::EngineSilent);
    let (_, mut on_trial) = after([silent(), silent(), silent()]);
    on_trial.on(Event::Tick, now, &mut effects);
    for (name, mut life, from) in [
        ("booting", Life::new(now), Booting),
        ("ready", after([]).1, Ready),
        ("degraded", after([silent(), silent(), silent()]).1, Degraded),
        ("on trial", on_trial, Ready),
    ] {
        effects.clear();
        life.on(Event::Paused, now, &mut effects);
        let turned = Effect::Turned { from, to: Paused, why: Why::KeptForLater };
        assert_eq!(effects[0], turned, "{name}");
        assert_eq!(effects.get(1), (name == "on trial").then_some(&Effect::Admit(Admission::All)), "{name}");
        if name == "booting" {
            life.on(Event::Woken, now, &mut effects);
            assert_eq!(life.state(), Booting, "it has never answered");
            life.on(Event::Paused, now, &mut effects);
        }
        life.on(Event::Drain, now, &mut effects);
        assert_eq!(life.state(), Draining, "{name}");
        life.on(Event::Paused, now, &mut effects);
        life.on(Event::Woken, now, &mut effects);
        assert_eq!(life.state(), Draining, "{name}: what is emptied is not kept");
        life.on(Event::Undrain, now, &mut effects);
        assert_eq!(life.state(), Booting, "{name}: it may be paused still");
        life.on(good(None), now, &mut effects);
        assert_eq!(life.state(), Ready, "{name}");
    }
}

#[test]
fn only_what_may_be_the_engines_fault_becomes_a_penalty() {
    for &cause in Cause::ALL {
        for event in [failed(cause), Event::Used(EngineEvidence::Broke(cause))] {
            let (_, life) = after([event]);
            let penalty = life.penalty(Monotonic(Duration::from_secs(101)));
            assert_eq!(penalty == 0, Blame::of(cause) == Blame::Elsewhere, "{cause:?}");
        }
    }
}

#[test]
fn a_paused_engine_gets_one_trial_and_its_pause_doubles_up_to_five_minutes() {
    let (_, mut life) = after((0..3).map(|_| failed(Cause::EngineSilent)));
    let mut now = Monotonic(Duration::from_secs(103));
    let mut effects = Vec::new();
    for seconds in [10u64, 20, 40, 80, 160, 300, 300] {
        let until = now + Duration::from_secs(seconds);
        life.on(Event::Tick, until - Duration::from_millis(1), &mut effects);
        assert_eq!((life.state(), effects.as_slice()), (EngineState::Degraded, &[][..]), "{seconds}");
        life.on(Event::Tick, until, &mut effects);
        assert_eq!(effects[1..], [Effect::Admit(Admission::One)], "{seconds}");
        now = until + Duration::from_secs(1);
        effects.clear();
        life.on(failed(Cause::EngineSilent), now, &mut effects);
        assert_eq!(life.state(), EngineState::Degraded);
        assert!(effects.contains(&Effect::Admit(Admission::All)));
        effects.clear();
    }
    life.on(Event::Tick, now + Duration::from_secs(300), &mut effects);
    effects.clear();
    life.on(worked(), now + Duration::from_secs(301), &mut effects);
    assert_eq!(
        (life.state(), effects.as_slice()),
        (EngineState::Ready, &[Effect::Admit(Admission::All)][..])
    );
    assert_eq!(life.next_pause, PAUSE_FIRST, "a working start forgives");
}
