//! Every transition, as scripts.

use super::*;

pub(super) const LIMITS: Limits = Limits {
    start_budget: Duration::from_secs(30),
    longest_start: Duration::from_secs(90),
    hedge_after: Duration::from_secs(5),
    linger: Duration::from_secs(15),
    stall_after: Duration::from_secs(3),
    silence: Duration::from_secs(90),
};

/// What a script came to: the state after it, and all effects in order.
pub(super) fn run(script: &[(u64, Event)]) -> (Option<StreamState>, Vec<Effect>) {
    let at = |s| Monotonic(Duration::from_secs(1_000 + s));
    let mut effects = Vec::new();
    let mut life = Life::new(LIMITS, at(0), &mut effects);
    for &(second, event) in script {
        life.on(event, at(second), &mut effects);
    }
    (life.state(), effects)
}

pub(super) fn s(n: u32) -> SourceId {
    SourceId(n)
}

pub(super) const BROKEN: Cause = Cause::EngineReset;
pub(super) const ABSENT: Cause = Cause::ContentUnavailable;

use Effect::{End, LetGo, Promote, Start, Stop};
use Event::{
    Behind, Bytes, Closed, Distrusted, Drain, Failed, Guard, Migrate, Progress, Ready, Tick, Unavailable,
    Unwatched, Watched,
};

pub(super) type Row = (&'static str, Vec<(u64, Event)>, Option<StreamState>, Vec<Effect>);

pub(super) fn check(rows: Vec<Row>) {
    for (name, script, state, effects) in rows {
        let first = Start(s(0), Why::Needed);
        let expected: Vec<_> = [first].into_iter().chain(effects).collect();
        assert_eq!(run(&script), (state, expected), "{name}");
    }
}

#[test]
fn a_start_asks_engines_until_one_plays_or_the_budget_is_over() {
    let starting = Some(StreamState::Starting);
    let live = Some(StreamState::Live);
    check(vec![
        ("plays", vec![(1, Ready(s(0))), (2, Bytes), (3, Tick)], live, vec![Promote(s(0))]),
        (
            "a second one when it takes long",
            vec![(4, Tick), (5, Tick)],
            starting,
            vec![Start(s(1), Why::Hedge)],
        ),
        (
            "the first one wins after all",
            vec![(5, Tick), (6, Ready(s(0)))],
            live,
            vec![Start(s(1), Why::Hedge), Promote(s(0)), Stop(s(1))],
        ),
        (
            "the second one wins",
            vec![(5, Tick), (6, Ready(s(1))), (6, Ready(s(0))), (7, Failed(s(0), BROKEN))],
            live,
            vec![Start(s(1), Why::Hedge), Promote(s(1)), Stop(s(0))],
        ),
        (
            "a third one when the second takes long as well, and no fourth",
            vec![(5, Tick), (9, Tick), (10, Tick), (15, Tick), (16, Ready(s(2)))],
            live,
            vec![Start(s(1), Why::Hedge), Start(s(2), Why::Hedge), Promote(s(2)), Stop(s(0)), Stop(s(1))],
        ),
        (
            "three engines at most",
            vec![(1, Failed(s(0), BROKEN)), (2, Failed(s(1), BROKEN)), (3, Failed(s(2), BROKEN))],
            None,
            vec![Start(s(1), Why::Needed), Start(s(2), Why::Needed), End(BROKEN)],
        ),
        (
            "one fails while another is asked",
            vec![(5, Tick), (6, Failed(s(0), BROKEN)), (9, Tick), (10, Tick)],
            starting,
            vec![Start(s(1), Why::Hedge), Start(s(2), Why::Hedge)],
        ),
        (
            "two engines agree that it does not exist",
            vec![(1, Failed(s(0), ABSENT)), (2, Failed(s(1), ABSENT))],
            None,
            vec![Start(s(1), Why::Needed), End(ABSENT)],
        ),
        (
            "what an account lacks no engine has",
            vec![(1, Failed(s(0), Cause::ContentRestricted))],
            None,
            vec![End(Cause::ContentRestricted)],
        ),
        ("no engine", vec![(0, Unavailable(s(0), Cause::NoEngine))], None, vec![End(Cause::NoEngine)]),
        (
            "no other engine: what the first one said stands",
            vec![(1, Failed(s(0), BROKEN)), (1, Unavailable(s(1), Cause::NoEngine))],
            None,
            vec![Start(s(1), Why::Needed), End(BROKEN)],
        ),
        (
            "no other engine yet, for a hedge",
            vec![(5, Tick), (5, Unavailable(s(1), Cause::EnginesFull)), (5, Tick), (6, Tick)],
            starting,
            vec![Start(s(1), Why::Hedge), Start(s(2), Why::Hedge)],
        ),
        (
            "budget",
            vec![(5, Unwatched), (6, Watched), (29, Failed(s(9), BROKEN)), (30, Tick)],
            None,
            vec![Stop(s(0)), End(Cause::StartTimeout)],
        ),
        (
            "progress extends it",
            vec![(4, Tick), (25, Progress(s(0))), (30, Unwatched), (30, Tick), (34, Watched), (35, Tick)],
            None,
            vec![Stop(s(0)), End(Cause::StartTimeout)],
        ),
        (
            "but not for ever",
            vec![(4, Unwatched), (10, Watched), (89, Progress(s(0))), (90, Tick)],
            None,
            vec![Stop(s(0)), End(Cause::StartTimeout)],
        ),
    ]);
}

#[test]
fn a_stall_is_hedged_and_whoever_delivers_first_goes_on() {
    let stalled = Some(StreamState::Stalled);
    let live = Some(StreamState::Live);
    let hedge = || vec![Promote(s(0)), Start(s(1), Why::Hedge)];
    let after = |mut effects: Vec<Effect>, more: &[Effect]| {
        effects.extend(more);
        effects
    };
    check(vec![
        ("silence", vec![(1, Ready(s(0))), (3, Tick), (4, Tick), (5, Tick)], stalled, hedge()),
        ("it comes back", vec![(1, Ready(s(0))), (4, Tick), (5, Bytes)], live, after(hedge(), &[Stop(s(1))])),
        (
            "and falls silent again: the next one is asked later",
            vec![(1, Ready(s(0))), (4, Tick), (5, Bytes), (8, Tick), (9, Tick), (10, Tick)],
            stalled,
            after(hedge(), &[Stop(s(1)), Start(s(2), Why::Hedge)]),
        ),
        (
            "the other one delivers first",
            vec![(1, Ready(s(0))), (4, Tick), (6, Ready(s(1))), (6, Bytes)],
            live,
            after(hedge(), &[Promote(s(1)), Stop(s(0))]),
        ),
        (
            "the silent one breaks off",
            vec![(1, Ready(s(0))), (4, Tick), (6, Failed(s(0), BROKEN)), (7, Ready(s(1)))],
            live,
            after(hedge(), &[Promote(s(1))]),
        ),
        (
            "no spare engine",
            vec![
                (1, Ready(s(0))),
                (4, Tick),
                (4, Unavailable(s(1), Cause::EnginesFull)),
                (8, Tick),
                (9, Tick),
            ],
            stalled,
            after(hedge(), &[Start(s(2), Why::Hedge)]),
        ),
        (
            "the other one shows nothing",
            vec![(1, Ready(s(0))), (4, Tick), (23, Tick), (24, Tick), (25, Ready(s(2)))],
            live,
            after(hedge(), &[Stop(s(1)), Start(s(2), Why::Hedge), Promote(s(2)), Stop(s(0))]),
        ),
        (
            "the other one gets somewhere",
            vec![(1, Ready(s(0))), (4, Tick), (15, Progress(s(1))), (24, Tick), (34, Tick), (35, Tick)],
            stalled,
            after(hedge(), &[Stop(s(1)), Start(s(2), Why::Hedge)]),
        ),
        (
            "for too long",
            vec![(1, Ready(s(0))), (4, Tick), (91, Tick)],
            None,
            after(hedge(), &[Stop(s(0)), Stop(s(1)), End(Cause::Stalled)]),
        ),
        (
            "distrusted although it delivers",
            vec![(1, Ready(s(0))), (2, Distrusted), (3, Bytes), (4, Distrusted), (5, Ready(s(1)))],
            live,
            after(hedge(), &[Promote(s(1)), Stop(s(0))]),
        ),
        (
            "nobody is there to be served",
            vec![(1, Ready(s(0))), (2, Unwatched), (5, Tick), (17, Tick), (17, Closed)],
            None,
            vec![Promote(s(0)), LetGo, Stop(s(0)), End(Cause::ViewersLeft)],
        ),
    ]);
}

#[test]
fn a_lost_source_is_replaced_until_the_budget_is_over() {
    let live = Some(StreamState::Live);
    let over = Some(StreamState::FailingOver);
    let lost = || vec![Promote(s(0)), Start(s(1), Why::Needed)];
    let after = |mut effects: Vec<Effect>, more: &[Effect]| {
        effects.extend(more);
        effects
    };
    check(vec![
        ("at once", vec![(1, Ready(s(0))), (20, Failed(s(0), BROKEN))], over, lost()),
        (
            "and plays",
            vec![(1, Ready(s(0))), (20, Failed(s(0), BROKEN)), (21, Ready(s(1))), (22, Bytes)],
            live,
            after(lost(), &[Promote(s(1))]),
        ),
        (
            "the next one fails as well",
            vec![
                (1, Ready(s(0))),
                (20, Failed(s(0), BROKEN)),
                (20, Failed(s(1), BROKEN)),
                (20, Failed(s(2), BROKEN)),
                (20, Failed(s(3), BROKEN)),
                (20, Failed(s(4), BROKEN)),
                (20, Tick),
                (21, Tick),
            ],
            over,
            after(lost(), &[2, 3, 4, 5].map(|n| Start(s(n), Why::Needed))),
        ),
        (
            "a second one beside one that takes long",
            vec![(1, Ready(s(0))), (20, Failed(s(0), BROKEN)), (25, Tick), (26, Ready(s(2)))],
            live,
            after(lost(), &[Start(s(2), Why::Hedge), Promote(s(2)), Stop(s(1))]),
        ),
        (
            "none can be had",
            vec![
                (1, Ready(s(0))),
                (20, Failed(s(0), BROKEN)),
                (20, Unavailable(s(1), Cause::NoEngine)),
                (20, Tick),
                (21, Tick),
                (50, Tick),
            ],
            None,
            after(lost(), &[Start(s(2), Why::Needed), Stop(s(2)), End(BROKEN)]),
        ),
        (
            "what breaks off again and again is given up",
            (0..6u32)
                .flat_map(|n| {
                    let t = 1 + u64::from(n) * 6;
                    [(t, Ready(s(n))), (t + 1, Failed(s(n), BROKEN)), (t + 5, Tick)]
                })
                .collect(),
            None,
            (0..6u32)
                .flat_map(|n| [Promote(s(n)), if n < 5 { Start(s(n + 1), Why::Needed) } else { End(BROKEN) }])
                .collect(),
        ),
        (
            "not where the content is over",
            vec![(1, Ready(s(0))), (20, Failed(s(0), Cause::ContentEnded))],
            None,
            vec![Promote(s(0)), End(Cause::ContentEnded)],
        ),
        (
            "not for nobody",
            vec![(1, Ready(s(0))), (19, Unwatched), (20, Failed(s(0), BROKEN))],
            None,
            vec![Promote(s(0)), End(BROKEN)],
        ),
    ]);
}

#[test]
fn a_source_is_left_without_a_pause_and_one_on_standby_costs_none() {
    let live = Some(StreamState::Live);
    check(vec![
        (
            "migration",
            vec![(1, Ready(s(0))), (2, Migrate), (3, Bytes), (4, Ready(s(1)))],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Migration), Promote(s(1)), Stop(s(0))],
        ),
        (
            "migration to one that is behind waits for it",
            vec![(1, Ready(s(0))), (2, Migrate), (4, Behind(s(1))), (9, Ready(s(1)))],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Migration), Stop(s(0)), Promote(s(1))],
        ),
        (
            "migration that fails changes nothing",
            vec![(1, Ready(s(0))), (2, Migrate), (3, Failed(s(1), BROKEN)), (4, Bytes), (5, Tick)],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Migration)],
        ),
        (
            "standby waits, whatever it has",
            vec![(1, Ready(s(0))), (2, Guard(true)), (3, Ready(s(1))), (3, Behind(s(1))), (3, Guard(true))],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Standby)],
        ),
        (
            "standby takes over",
            vec![(1, Ready(s(0))), (2, Guard(true)), (12, Failed(s(0), BROKEN)), (12, Ready(s(1)))],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Standby), Promote(s(1))],
        ),
        (
            "standby answers a stall",
            vec![(1, Ready(s(0))), (2, Guard(true)), (4, Tick), (4, Ready(s(1)))],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Standby), Promote(s(1)), Stop(s(0))],
        ),
        (
            "standby is no longer wanted",
            vec![(1, Ready(s(0))), (2, Guard(true)), (3, Guard(false))],
            live,
            vec![Promote(s(0)), Start(s(1), Why::Standby), Stop(s(1))],
        ),
    ]);
}

#[test]
fn a_stream_is_let_go_when_nobody_returned() {
    check(vec![
        (
            "linger",
            vec![
                (1, Ready(s(0))),
                (2, Unwatched),
                (3, Bytes),
                (16, Bytes),
                (16, Tick),
                (17, Bytes),
                (17, Tick),
            ],
            Some(StreamState::Lingering),
            vec![Promote(s(0)), LetGo],
        ),
        (
            "and nobody entered",
            vec![(1, Ready(s(0))), (2, Unwatched), (17, Bytes), (17, Tick), (17, Closed)],
            None,
            vec![Promote(s(0)), LetGo, Stop(s(0)), End(Cause::ViewersLeft)],
        ),
        (
            "one returns in time",
            vec![(1, Ready(s(0))), (2, Unwatched), (16, Watched), (17, Bytes), (17, Tick), (17, Closed)],
            Some(StreamState::Live),
            vec![Promote(s(0))],
        ),
        (
            "everybody leaves during the start",
            vec![(1, Unwatched), (6, Tick), (16, Tick), (16, Closed)],
            None,
            vec![LetGo, Stop(s(0)), End(Cause::ViewersLeft)],
        ),
        (
            "drain",
            vec![(1, Ready(s(0))), (2, Guard(true)), (3, Drain), (3, Drain)],
            None,
            vec![Promote(s(0)), Start(s(1), Why::Standby), Stop(s(0)), Stop(s(1)), End(Cause::ShuttingDown)],
        ),
    ]);
}
