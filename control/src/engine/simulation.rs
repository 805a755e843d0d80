//! Engines live through hours of seeded trouble; after each step the rules
//! hold, judged by a plain log of what happened and not by the machine's fields.

use std::time::Duration;

use millrace_boundary::{Cause, EngineEvidence, EngineState, Monotonic};

use super::{
    blame::Blame,
    event::{Admission, Effect, Event},
    life::{Life, PAUSE_FIRST, PAUSE_LONGEST},
};
use crate::{
    probe::{Answer, ProbeFailure},
    random::Random,
};

/// What an outside observer remembers.
#[derive(Default)]
struct Log {
    probes: Vec<Result<Option<bool>, ProbeFailure>>,
    engine_failures_in_a_row: u32,
    degraded_at: Option<Monotonic>,
    is_drained: bool,
    is_paused: bool,
    /// Nothing good was heard since it could not be heard.
    is_unproven: bool,
    admission: Option<Admission>,
}

fn draw(random: &mut Random) -> Event {
    let failures = [
        ProbeFailure::Refused,
        ProbeFailure::Silent,
        ProbeFailure::Broken,
        ProbeFailure::Nonsense,
        ProbeFailure::Status(500),
    ];
    let cause =
        |random: &mut Random| Cause::ALL[usize::try_from(random.below(Cause::ALL.len() as u64)).unwrap()];
    match random.below(23) {
        0..=5 => {
            let connected = [None, Some(true), Some(false)][usize::try_from(random.below(3)).unwrap()];
            Event::Probed(Ok(Answer { version: "3.2.11".into(), platform: None, connected }))
        }
        6..=8 => Event::Probed(Err(failures[usize::try_from(random.below(5)).unwrap()])),
        9..=10 => Event::Used(EngineEvidence::Started(Duration::from_millis(random.next()))),
        11..=14 => Event::Used(EngineEvidence::StartFailed(cause(random))),
        15 => Event::Used(EngineEvidence::Broke(cause(random))),
        // Twice as often undone as asked for, so that there is more to see.
        20 => [Event::Drain, Event::Undrain, Event::Undrain]
            .into_iter()
            .nth(usize::try_from(random.below(3)).unwrap())
            .unwrap(),
        21 => [Event::Paused, Event::Woken, Event::Woken]
            .into_iter()
            .nth(usize::try_from(random.below(3)).unwrap())
            .unwrap(),
        _ => Event::Tick,
    }
}

fn live(seed: u64) {
    let mut random = Random::new(seed);
    let mut now = Monotonic(Duration::from_secs(1_000));
    let (mut life, mut log, mut effects) = (Life::new(now), Log::default(), Vec::new());
    for step in 0..2_000 {
        now = now + Duration::from_millis(random.below(8_000));
        let event = draw(&mut random);
        let context = format!("SIM_SEED={seed} step {step}: {event:?}");
        let (before, is_tick) = (life.state(), matches!(event, Event::Tick));
        let is_good_probe = matches!(event, Event::Probed(Ok(_)));
        let is_start = matches!(event, Event::Used(EngineEvidence::Started(_)));
        match &event {
            Event::Probed(_) | Event::Used(_) if log.is_paused => {}
            Event::Probed(outcome) => {
                log.is_unproven &= outcome.is_err();
                log.probes.push(outcome.as_ref().map(|a| a.connected).map_err(|e| *e));
            }
            Event::Used(EngineEvidence::Started(_)) => log.engine_failures_in_a_row = 0,
            Event::Used(EngineEvidence::StartFailed(cause)) => {
                let is_engine = matches!(
                    cause,
                    Cause::EngineUnreachable
                        | Cause::EngineSilent
                        | Cause::EngineError
                        | Cause::EngineClosed
                        | Cause::EngineReset
                );
                // Whoever has no network by its own word is to answer for the swarm too.
                let connected = log.probes.iter().rev().find_map(|probe| probe.ok());
                let is_offline = connected == Some(Some(false)) && Blame::of(*cause) == Blame::Unclear;
                log.engine_failures_in_a_row += u32::from(is_engine || is_offline);
            }
            Event::Drain => {
                log.is_drained = true;
                log.is_unproven |= std::mem::take(&mut log.is_paused);
            }
            Event::Undrain => log.is_drained = false,
            Event::Paused => log.is_paused = !log.is_drained,
            Event::Woken => {
                let was_paused = std::mem::take(&mut log.is_paused);
                log.is_unproven |= was_paused && log.probes.last().is_some_and(Result::is_err);
            }
            Event::Used(EngineEvidence::Broke(_)) | Event::Tick => {}
        }
        effects.clear();
        life.on(event, now, &mut effects);
        for effect in &effects {
            if let Effect::Admit(admission) = effect {
                log.admission = Some(*admission);
            }
        }
        let after = life.state();
        let turned = effects.iter().filter(|e| matches!(e, Effect::Turned { .. })).count();
        assert_eq!(turned, usize::from(before != after), "{context}: each turn is told once");

        let is_draining = after == EngineState::Draining;
        assert_eq!(is_draining, log.is_drained, "{context}: drained as long as somebody wants it");
        assert_eq!(after == EngineState::Paused, log.is_paused, "{context}: paused until woken");
        if is_draining || log.is_paused {
            assert_ne!(log.admission, Some(Admission::One), "{context}: no trial while it is emptied");
            continue;
        }

        let ever_answered = log.probes.iter().any(Result::is_ok);
        if !log.is_unproven {
            assert_eq!(
                after == EngineState::Booting,
                !ever_answered,
                "{context}: booting ends with an answer"
            );
        }
        let two_failed = log.probes.iter().rev().take(2).filter(|p| p.is_err()).count() == 2;
        if ever_answered && two_failed && !(log.is_unproven && after == EngineState::Booting) {
            assert_eq!(after, EngineState::Degraded, "{context}: two failed probes degrade");
        }
        if before != EngineState::Degraded && after == EngineState::Degraded {
            let probe_failed = log.probes.last().is_some_and(Result::is_err);
            assert!(
                probe_failed || log.engine_failures_in_a_row > 0,
                "{context}: a healthy engine is never degraded"
            );
            log.degraded_at = Some(now);
        }
        if before == EngineState::Degraded && after == EngineState::Ready {
            assert!(is_tick || is_good_probe || is_start, "{context}: only good news repairs");
            let rested = now.since(log.degraded_at.unwrap());
            if is_tick {
                assert!(rested >= PAUSE_FIRST, "{context}: a pause lasts");
                assert_eq!(log.admission, Some(Admission::One), "{context}: one trial");
            }
        }
        if after == EngineState::Degraded && log.probes.last().is_some_and(Result::is_ok) {
            // Nothing keeps an engine with a good API out for longer than the
            // longest pause, unless it says itself that it is offline.
            let mut probe = Vec::new();
            let offline = matches!(log.probes.last(), Some(Ok(Some(false))));
            let mut copy = life.clone();
            copy.on(Event::Tick, now + PAUSE_LONGEST, &mut probe);
            assert!(offline || copy.state() == EngineState::Ready, "{context}: a pause ends");
        }
        if matches!(log.admission, Some(Admission::One)) {
            assert_eq!(after, EngineState::Ready, "{context}: a trial is a ready engine");
        }
    }
}

#[test]
fn rules_hold_through_hours_of_trouble() {
    match std::env::var("SIM_SEED") {
        Ok(seed) => live(seed.parse().unwrap()),
        Err(_) => (0..256).for_each(live),
    }
}
