//! Orders to a shard. Nobody answers them, so each is offered until the queue
//! has taken it, for a second at most; whoever gave it can give it again.

use std::{collections::VecDeque, time::Duration};

use millrace_boundary::{Mailbox, Monotonic, Refused, ToShard};

/// An order not taken is offered again this often.
const PAUSE: Duration = Duration::from_millis(100);
/// An order not taken for this long is given up: about ten offers.
const PATIENCE: Duration = Duration::from_secs(1);
/// Orders that wait for room, beyond the 64 messages in the shard's own queue.
const WAITING: usize = 64;

/// Why an order was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOrdered {
    /// As many as may wait are waiting.
    #[error("the shard takes no more orders now")]
    Busy,
    /// The shard has ended.
    #[error("the shard has ended")]
    Gone,
}

/// The orders one shard has yet to take, in order.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: VecDeque<(Monotonic, ToShard)>,
    offered: Monotonic,
}

impl Orders {
    /// Whether some wait to be offered again.
    pub(crate) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Offers one now, or keeps it for [`Self::deliver`] behind those that wait.
    ///
    /// # Errors
    /// When too many wait, or nobody receives.
    pub(crate) fn give(
        &mut self,
        order: ToShard,
        mailbox: &Mailbox<ToShard>,
        now: Monotonic,
    ) -> Result<(), NotOrdered> {
        if self.waiting.len() >= WAITING {
            return Err(NotOrdered::Busy);
        }
        let is_first = self.waiting.is_empty();
        self.waiting.push_back((now, order));
        if is_first { self.offer(mailbox, now) } else { Ok(()) }
    }

    /// Offers those that wait again, unless that was a moment ago, and hands
    /// those that have waited too long to `given_up`.
    ///
    /// # Errors
    /// When nobody receives; nothing waits any more then.
    pub(crate) fn deliver(
        &mut self,
        mailbox: &Mailbox<ToShard>,
        now: Monotonic,
        mut given_up: impl FnMut(ToShard),
    ) -> Result<(), NotOrdered> {
        if self.waiting.is_empty() || now.since(self.offered) < PAUSE {
            return Ok(());
        }
        let outcome = self.offer(mailbox, now);
        while self.waiting.front().is_some_and(|(given, _)| now.since(*given) >= PATIENCE) {
            self.waiting.pop_front().into_iter().for_each(|(_, order)| given_up(order));
        }
        outcome
    }

    fn offer(&mut self, mailbox: &Mailbox<ToShard>, now: Monotonic) -> Result<(), NotOrdered> {
        self.offered = now;
        while let Some((given, order)) = self.waiting.pop_front() {
            match mailbox.offer(order) {
                Ok(()) => {}
                Err(Refused::Full(order)) => {
                    self.waiting.push_front((given, order));
                    break;
                }
                Err(Refused::Gone(_)) => {
                    self.waiting.clear();
                    return Err(NotOrdered::Gone);
                }
            }
        }
        Ok(())
    }
}

/// What an order asks for, for the log.
pub(crate) fn describe(order: &ToShard) -> String {
    match order {
        ToShard::Migrate { session } => format!("migrate session {session:016x}"),
        ToShard::Stop { session } => format!("stop session {session:016x}"),
        ToShard::Forgive { key: Some(key) } => format!("forgive {key}"),
        ToShard::Forgive { key: None } => "forgive every content".to_owned(),
        ToShard::Table(table) => format!("use engine table {}", table.epoch.0),
        ToShard::Drain { .. } => "drain".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use millrace_boundary::{Doorbell, Inbox, mailbox};

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }
    fn migrate(session: u64) -> ToShard {
        ToShard::Migrate { session }
    }
    fn sessions(inbox: &Inbox<ToShard>) -> Vec<u64> {
        std::iter::from_fn(|| inbox.take())
            .map(|order| match order {
                ToShard::Migrate { session } => session,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn an_order_not_taken_is_offered_again_in_order_and_once() {
        let (tx, rx) = mailbox(2, &Doorbell::new().unwrap());
        let mut orders = Orders::default();
        for session in 1..=4 {
            orders.give(migrate(session), &tx, at(1_000 + session)).unwrap();
        }
        assert_eq!((sessions(&rx), orders.wait()), (vec![1, 2], true));
        let deliver = |orders: &mut Orders, now| {
            orders.deliver(&tx, at(now), |order| panic!("{order:?} given up")).unwrap();
        };
        deliver(&mut orders, 1_102);
        assert_eq!(sessions(&rx), [0u64; 0], "offered a moment ago");
        deliver(&mut orders, 1_103);
        assert_eq!((sessions(&rx), orders.wait()), (vec![3, 4], false));
        deliver(&mut orders, 1_300);
        assert_eq!(sessions(&rx), [0u64; 0], "taken is taken");
    }

    #[test]
    fn a_deaf_shard_is_offered_an_order_for_a_second_and_a_dead_one_once() {
        let (tx, rx) = mailbox(1, &Doorbell::new().unwrap());
        tx.offer(migrate(0)).unwrap();
        let (mut orders, mut lost) = (Orders::default(), Vec::new());
        orders.give(migrate(7), &tx, at(10_000)).unwrap();
        let mut now = 10_000;
        while orders.wait() {
            now += 50;
            orders.deliver(&tx, at(now), |order| lost.push(describe(&order))).unwrap();
            assert!(now <= 11_000, "a bounded number of times");
        }
        assert_eq!((now, lost), (11_000, vec!["migrate session 0000000000000007".to_owned()]));
        for session in 0..WAITING as u64 {
            orders.give(migrate(session), &tx, at(20_000)).unwrap();
        }
        assert_eq!(orders.give(migrate(0), &tx, at(20_000)), Err(NotOrdered::Busy), "bounded memory");
        drop(rx);
        assert_eq!(orders.deliver(&tx, at(20_200), drop), Err(NotOrdered::Gone));
        assert!(!orders.wait());
        assert_eq!(orders.give(migrate(0), &tx, at(20_300)), Err(NotOrdered::Gone));
    }
}
