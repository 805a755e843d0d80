//! Turns of sources to read: whoever has come meanwhile is served first, and
//! between two of them the shard looks at who has.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use millrace_boundary::Monotonic;

use crate::rt::{Breath, Notify};

/// Reads between two looks at the kernel take about this long together: timers
/// are due by the millisecond, so that many sources wake at once.
const LIMIT: Duration = Duration::from_micros(30);
/// After a pause like this the shard has looked meanwhile.
const PAUSE: Duration = Duration::from_micros(20);

/// Who reads next on a shard.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: RefCell<VecDeque<Notify>>,
    /// Somebody has been called, and reads.
    is_taken: Cell<bool>,
    /// Called when somebody waits and nobody reads.
    bell: Notify,
    /// What reads took since the shard last looked at the kernel.
    spent: Cell<Duration>,
    /// When the last one ended.
    ended: Cell<Monotonic>,
}

/// The right to read, or a place among those who wait for it; ends when dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    call: Notify,
    began: Option<Monotonic>,
}

impl Turns {
    /// Waits for a turn: behind every task that is ready now, and all who wait.
    pub(crate) async fn take(&self) -> Turn<'_> {
        let mut turn = Turn { turns: self, call: Notify::default(), began: None };
        self.waiting.borrow_mut().push_back(turn.call.clone());
        self.go_on();
        turn.call.called().await;
        turn.began = Some(Monotonic::now());
        turn
    }

    fn go_on(&self) {
        if !self.is_taken.get() && !self.waiting.borrow().is_empty() {
            self.bell.call();
        }
    }

    /// Lets those who wait read, one after the other, for ever.
    pub(crate) async fn keep(self: Rc<Self>, breath: Breath) {
        loop {
            self.bell.called().await;
            if self.spent.get() >= LIMIT {
                if Monotonic::now().since(self.ended.get()) <= PAUSE {
                    breath.take().await;
                }
                self.spent.set(Duration::ZERO);
            }
            let next = self.waiting.borrow_mut().pop_front();
            if let Some(next) = next {
                self.is_taken.set(true);
                next.call();
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let now = Monotonic::now();
            self.turns.spent.set(self.turns.spent.get() + now.since(began));
            self.turns.ended.set(now);
        } else {
            let mut waiting = self.turns.waiting.borrow_mut();
            if let Some(place) = waiting.iter().position(|call| call.is(&self.call)) {
                waiting.remove(place);
                return;
            }
        }
        self.turns.is_taken.set(false);
        self.turns.go_on();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use millrace_boundary::Driver;

    use super::*;
    use crate::rt::{run, sleep, spawn};

    fn begun(driver: Driver) -> Rc<Turns> {
        let turns = Rc::<Turns>::default();
        spawn(Rc::clone(&turns).keep(Breath::new(driver).unwrap()));
        turns
    }

    #[test]
    fn who_has_come_goes_before_reads_and_the_shard_looks_between_them() {
        let seen = run(|driver| async move {
            let turns = begun(driver);
            let seen = Rc::<RefCell<Vec<&str>>>::default();
            let note = |what, seen: &Rc<RefCell<Vec<_>>>| seen.borrow_mut().push(what);
            for _ in 0..20 {
                let (turns, seen) = (Rc::clone(&turns), Rc::clone(&seen));
                spawn(async move {
                    let _turn = turns.take().await;
                    note("read", &seen);
                    let began = Monotonic::now();
                    while Monotonic::now().since(began) < Duration::from_millis(1) {}
                });
            }
            let shared = Rc::clone(&seen);
            spawn(async move { note("ready", &shared) });
            // Only a look at the kernel or the clock brings it.
            let shared = Rc::clone(&seen);
            spawn(async move {
                sleep(Duration::from_millis(5)).await;
                note("due", &shared);
            });
            sleep(Duration::from_millis(200)).await;
            seen.take()
        })
        .unwrap();
        assert_eq!((seen.len(), seen[0]), (22, "ready"), "{seen:?}");
        let due = seen.iter().position(|what| *what == "due").unwrap();
        assert!(due < 15, "twenty reads of a millisecond, and nobody looks: {seen:?}");
    }

    #[test]
    fn all_have_their_turn_in_order_and_one_that_leaves_holds_nobody_up() {
        const MANY: usize = 50;
        let seen = run(|driver| async move {
            let turns = begun(driver);
            let held = turns.take().await;
            let seen = Rc::<RefCell<Vec<usize>>>::default();
            let mut leaves: Vec<_> = (0..3).map(|_| Box::pin(turns.take())).collect();
            for number in 0..MANY {
                let (turns, seen) = (Rc::clone(&turns), Rc::clone(&seen));
                spawn(async move {
                    let _turn = turns.take().await;
                    seen.borrow_mut().push(number);
                });
            }
            // One leaves from among those who wait, one once it is called, and one
            // before it has asked.
            for leaves in &mut leaves[1..] {
                let first = poll_fn(|cx| Poll::Ready(leaves.as_mut().poll(cx))).await;
                assert!(first.is_pending(), "somebody reads");
            }
            let called = leaves.pop();
            drop(leaves);
            sleep(Duration::from_millis(50)).await;
            assert!(seen.borrow().is_empty(), "somebody reads");
            drop(held);
            sleep(Duration::from_millis(50)).await;
            assert!(seen.borrow().is_empty(), "the first of them is called");
            drop(called);
            sleep(Duration::from_millis(50)).await;
            seen.take()
        });
        assert_eq!(seen.unwrap(), (0..MANY).collect::<Vec<_>>());
    }
}
