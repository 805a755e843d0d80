//! Turns of sources to read: between two of them the shard looks at who has come.

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
/// So many are let go on at once at most.
const MOST: usize = 16;

/// Who reads next on a shard.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: RefCell<VecDeque<Notify>>,
    /// Called when somebody waits.
    bell: Notify,
    /// What reads took since the shard last looked at the kernel.
    spent: Cell<Duration>,
    /// When the last one ended.
    ended: Cell<Monotonic>,
}

impl Turns {
    /// Waits for a turn, of which [`Self::done`] is to be told. May be dropped.
    pub(crate) async fn take(&self) {
        if Monotonic::now().since(self.ended.get()) > PAUSE {
            self.spent.set(Duration::ZERO);
        }
        if self.waiting.borrow().is_empty() && self.spent.get() < LIMIT {
            return;
        }
        let turn = Notify::default();
        self.waiting.borrow_mut().push_back(turn.clone());
        self.bell.call();
        turn.called().await;
    }

    /// One has read from `began` to `now`.
    pub(crate) fn done(&self, began: Monotonic, now: Monotonic) {
        self.spent.set(self.spent.get() + now.since(began));
        self.ended.set(now);
    }

    /// Lets those who wait go on, for ever: as many at a time as the limit allows
    /// by what the ones before them took.
    pub(crate) async fn keep(self: Rc<Self>, breath: Breath) {
        loop {
            self.bell.called().await;
            let mut at_once = 1;
            while !self.waiting.borrow().is_empty() {
                breath.take().await;
                let spent = self.spent.take();
                at_once = if spent < LIMIT { (at_once + 1).min(MOST) } else { (at_once / 2).max(1) };
                let next: Vec<_> = {
                    let mut waiting = self.waiting.borrow_mut();
                    let all = waiting.len();
                    waiting.drain(..at_once.min(all)).collect()
                };
                next.iter().for_each(Notify::call);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;
    use crate::rt::{run, sleep, spawn};

    #[test]
    fn all_have_their_turn_in_order_and_one_that_leaves_holds_nobody_up() {
        let seen = run(|driver| async move {
            let turns = Rc::<Turns>::default();
            spawn(Rc::clone(&turns).keep(Breath::new(driver).unwrap()));
            turns.take().await;
            let began = Monotonic::now();
            turns.done(began, began + LIMIT * 1_000);

            let mut leaves = Box::pin(turns.take());
            let first = poll_fn(|cx| Poll::Ready(leaves.as_mut().poll(cx))).await;
            assert!(first.is_pending(), "the limit is reached");
            drop(leaves);
            let seen = Rc::<RefCell<Vec<usize>>>::default();
            for number in 0..3 * MOST {
                let (turns, seen) = (Rc::clone(&turns), Rc::clone(&seen));
                spawn(async move {
                    turns.take().await;
                    seen.borrow_mut().push(number);
                    let began = Monotonic::now();
                    turns.done(began, began + LIMIT);
                });
            }
            assert!(seen.borrow().is_empty(), "nobody before the shard has looked");
            sleep(Duration::from_millis(500)).await;
            seen.take()
        });
        assert_eq!(seen.unwrap(), (0..3 * MOST).collect::<Vec<_>>());
    }
}
