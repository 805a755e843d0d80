//! Every transition into the queue, in it, and out of it.

use Effect::{End, LetGo, Promote, Start, Stop};
use Event::{
    Behind, Bytes, Called, Closed, Distrusted, Drain, Failed, Guard, Migrate, NoSlot, Progress, Ready, Slot,
    Tick, Unavailable, Unwatched, Watched,
};

use super::{
    tests::{ABSENT, BROKEN, check, run, s},
    *,
};

const FULL: Cause = Cause::EnginesFull;
const NONE: Cause = Cause::NoEngine;

fn asks(n: u32) -> Effect {
    Start(s(n), Why::Needed)
}

#[test]
fn a_start_without_a_slot_waits_for_one_while_the_fleet_grows() {
    let queued = Some(StreamState::Queued);
    let starting = Some(StreamState::Starting);
    let live = Some(StreamState::Live);
    check(vec![
        ("waits", vec![(0, NoSlot(s(0), FULL)), (1, Tick), (31, Tick), (89, Tick)], queued, vec![]),
        (
            "asks when called, and each time",
            vec![(0, NoSlot(s(0), FULL)), (1, Called), (1, NoSlot(s(1), NONE)), (2, Called)],
            queued,
            vec![asks(1), asks(2)],
        ),
        ("once at a time", vec![(0, NoSlot(s(0), FULL)), (1, Called), (1, Called)], queued, vec![asks(1)]),
        (
            "gets a slot, and plays",
            vec![(0, NoSlot(s(0), FULL)), (1, Called), (1, Slot(s(1))), (2, Ready(s(1)))],
            live,
            vec![asks(1), Promote(s(1))],
        ),
        (
            "has time to play, however late the slot came",
            vec![(0, NoSlot(s(0), FULL)), (70, Called), (70, Slot(s(1))), (72, Called), (74, Tick)],
            starting,
            vec![asks(1)],
        ),
        (
            "but an engine that proves nothing is given up",
            vec![(0, NoSlot(s(0), FULL)), (70, Called), (70, Slot(s(1))), (74, Tick), (80, Tick)],
            None,
            vec![asks(1), Stop(s(1)), End(Cause::StartTimeout)],
        ),
        (
            "has as many engines as one that did not wait",
            vec![
                (0, NoSlot(s(0), FULL)),
                (1, Called),
                (1, NoSlot(s(1), FULL)),
                (2, Called),
                (2, Slot(s(2))),
                (3, Failed(s(2), BROKEN)),
                (4, Failed(s(3), BROKEN)),
                (5, Failed(s(4), BROKEN)),
            ],
            None,
            vec![asks(1), asks(2), asks(3), asks(4), End(BROKEN)],
        ),
        (
            "the fleet grows no more",
            vec![(0, NoSlot(s(0), FULL)), (1, Called), (1, Unavailable(s(1), NONE))],
            None,
            vec![asks(1), End(NONE)],
        ),
        ("waited for long", vec![(0, NoSlot(s(0), FULL)), (90, Tick)], None, vec![End(FULL)]),
        (
            "waited for long, and no engine is left",
            vec![(0, NoSlot(s(0), FULL)), (1, Called), (1, NoSlot(s(1), NONE)), (90, Tick)],
            None,
            vec![asks(1), End(NONE)],
        ),
        (
            "no other engine: another one is waited for",
            vec![(1, Failed(s(0), BROKEN)), (1, NoSlot(s(1), NONE)), (2, Tick)],
            queued,
            vec![asks(1)],
        ),
        (
            "what the first one said stands",
            vec![(1, Failed(s(0), BROKEN)), (1, NoSlot(s(1), NONE)), (90, Tick)],
            None,
            vec![asks(1), End(BROKEN)],
        ),
        (
            "at once where it is the content's fault",
            vec![(1, Failed(s(0), ABSENT)), (1, NoSlot(s(1), NONE))],
            None,
            vec![asks(1), End(ABSENT)],
        ),
        (
            "a hedge does not wait",
            vec![(5, Tick), (5, NoSlot(s(1), FULL)), (6, Called), (6, Tick), (7, Slot(s(2)))],
            starting,
            vec![Start(s(1), Why::Hedge), Start(s(2), Why::Hedge)],
        ),
        (
            "everybody leaves, and one returns",
            vec![(0, NoSlot(s(0), FULL)), (1, Unwatched), (2, Called), (3, Watched), (4, Called)],
            queued,
            vec![asks(1)],
        ),
        (
            "everybody leaves",
            vec![(0, NoSlot(s(0), FULL)), (1, Unwatched), (15, Tick), (16, Tick), (16, Closed)],
            None,
            vec![LetGo, End(Cause::ViewersLeft)],
        ),
        ("drain", vec![(0, NoSlot(s(0), FULL)), (1, Drain)], None, vec![End(Cause::ShuttingDown)]),
        (
            "nothing else moves it",
            vec![
                (0, NoSlot(s(0), FULL)),
                (1, Ready(s(0))),
                (1, Failed(s(0), BROKEN)),
                (1, Slot(s(0))),
                (1, Bytes),
                (1, Migrate),
                (1, Guard(true)),
                (1, Distrusted),
                (1, Progress(s(0))),
                (1, Behind(s(0))),
            ],
            queued,
            vec![],
        ),
    ]);
    let left = run(&[(0, NoSlot(s(0), FULL)), (1, Unwatched)]).0;
    assert_eq!(left, Some(StreamState::Lingering), "nobody waits, so it has no place");
}

#[test]
fn a_lost_source_waits_for_a_slot_as_well() {
    let queued = Some(StreamState::Queued);
    let over = Some(StreamState::FailingOver);
    let lost = || vec![(1, Ready(s(0))), (20, Failed(s(0), BROKEN)), (20, NoSlot(s(1), FULL))];
    let then = |more: &[(u64, Event)]| [&lost(), more].concat();
    let after = |more: &[Effect]| [&[Promote(s(0)), asks(1)], more].concat();
    check(vec![
        (
            "waits, and asks when called only",
            then(&[(21, Tick), (51, Tick), (109, Tick)]),
            queued,
            after(&[]),
        ),
        (
            "gets a slot, and plays",
            then(&[(70, Called), (70, Slot(s(2))), (72, Ready(s(2)))]),
            Some(StreamState::Live),
            after(&[asks(2), Promote(s(2))]),
        ),
        ("gets a slot late", then(&[(70, Called), (70, Slot(s(2))), (74, Tick)]), over, after(&[asks(2)])),
        (
            "the fleet grows no more: as without a queue",
            then(&[(30, Called), (30, Unavailable(s(2), FULL)), (30, Tick), (31, Tick), (50, Tick)]),
            None,
            after(&[asks(2), asks(3), Stop(s(3)), End(BROKEN)]),
        ),
        ("waited for long", then(&[(110, Tick)]), None, after(&[End(BROKEN)])),
        (
            "not beside one that is asked",
            then(&[(21, Called), (21, Slot(s(2))), (26, Tick), (26, NoSlot(s(3), FULL))]),
            over,
            after(&[asks(2), Start(s(3), Why::Hedge)]),
        ),
        (
            "one that plays does not wait",
            vec![(1, Ready(s(0))), (4, Tick), (4, NoSlot(s(1), FULL)), (5, Called), (6, Slot(s(1)))],
            Some(StreamState::Stalled),
            vec![Promote(s(0)), Start(s(1), Why::Hedge)],
        ),
    ]);
}
