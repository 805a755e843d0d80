//! The shards: what has to reach them, and what they last told.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use millrace_boundary::{EngineTable, Epoch, Mailbox, Monotonic, Refused, ShardId, ShardSample, ToShard};

use crate::orders::{self, NotOrdered, Orders};

/// A table not yet adopted is offered again this often.
const OFFER_PAUSE: Duration = Duration::from_millis(100);
/// A drain not yet answered is offered again this often.
pub(crate) const DRAIN_PAUSE: Duration = Duration::from_millis(50);
/// Tables kept for one shard until it has let go of them. A shard that is
/// further behind than this frees the oldest itself, and has worse troubles.
const HELD: usize = 16;
/// A shard that has not reported for this long is silent.
pub(crate) const SILENT: Duration = Duration::from_secs(5);

/// Bit rates over the time between the last two samples, about a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// Read from engines, in bit/s.
    pub(crate) ingress_bps: u64,
    /// Handed to viewers, in bit/s.
    pub(crate) egress_bps: u64,
}

/// One shard, from here.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Who.
    pub(crate) id: ShardId,
    mailbox: Mailbox<ToShard>,
    adopted: Epoch,
    offered: Option<(Epoch, Monotonic)>,
    held: VecDeque<Arc<EngineTable>>,
    gone: bool,
    drained: bool,
    drain_offered: Option<Monotonic>,
    orders: Orders,
    sample: Option<Box<ShardSample>>,
    waiting: u32,
    heard: Monotonic,
    rates: Rates,
}

impl Shard {
    /// A shard that has said nothing yet; its silence counts from `now`.
    pub(crate) fn new(id: ShardId, mailbox: Mailbox<ToShard>, now: Monotonic) -> Self {
        Self {
            id,
            mailbox,
            adopted: Epoch(0),
            offered: None,
            held: VecDeque::new(),
            gone: false,
            drained: false,
            drain_offered: None,
            orders: Orders::default(),
            sample: None,
            waiting: 0,
            heard: now,
            rates: Rates::default(),
        }
    }

    /// Epoch in use there; 0 before the first table.
    pub(crate) fn adopted(&self) -> Epoch {
        self.adopted
    }

    /// The newest sample.
    pub(crate) fn sample(&self) -> Option<&ShardSample> {
        self.sample.as_deref()
    }

    /// Time since the newest sample, or since start before the first.
    pub(crate) fn silence(&self, now: Monotonic) -> Duration {
        now.since(self.heard)
    }

    /// Bit rates; zero once the shard is silent.
    pub(crate) fn rates(&self, now: Monotonic) -> Rates {
        if self.silence(now) < SILENT { self.rates } else { Rates::default() }
    }

    /// Streams there that wait for a slot, by its newest word; none once it is
    /// silent.
    pub(crate) fn waiting(&self, now: Monotonic) -> u32 {
        if self.silence(now) < SILENT { self.waiting } else { 0 }
    }

    /// So many streams there wait for a slot now.
    pub(crate) fn has_demand(&mut self, waiting: u32) {
        self.waiting = waiting;
    }

    /// Whether nothing is left to be drained.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether `table` has yet to be adopted by a shard that still lives.
    pub(crate) fn awaits(&self, table: &EngineTable) -> bool {
        !self.gone && self.adopted < table.epoch
    }

    /// Offers the newest table, if it is not in use there and was not offered
    /// a moment ago. A full queue costs one pause.
    pub(crate) fn offer(&mut self, table: &Arc<EngineTable>, now: Monotonic) {
        let a_moment_ago =
            self.offered.is_some_and(|(epoch, at)| epoch == table.epoch && now.since(at) < OFFER_PAUSE);
        if !self.awaits(table) || a_moment_ago {
            return;
        }
        self.offered = Some((table.epoch, now));
        match self.mailbox.offer(ToShard::Table(Arc::clone(table))) {
            Ok(()) => {
                if self.held.back().is_none_or(|newest| newest.epoch < table.epoch) {
                    self.held.push_back(Arc::clone(table));
                }
                if self.held.len() > HELD {
                    self.held.pop_front();
                }
            }
            Err(Refused::Full(_)) => {}
            Err(Refused::Gone(_)) => self.is_gone(),
        }
    }

    /// Offers the drain, unless it is done or was offered a moment ago.
    pub(crate) fn drain(&mut self, deadline: Monotonic, now: Monotonic) {
        let a_moment_ago = self.drain_offered.is_some_and(|at| now.since(at) < DRAIN_PAUSE);
        if self.drained || a_moment_ago {
            return;
        }
        self.drain_offered = Some(now);
        match self.mailbox.offer(ToShard::Drain { deadline }) {
            Ok(()) | Err(Refused::Full(_)) => {}
            Err(Refused::Gone(_)) => {
                self.is_gone();
                self.drained = true;
            }
        }
    }

    /// Gives an order that nobody will answer, such as to migrate a session.
    ///
    /// # Errors
    /// When too many orders wait already, or the shard has ended.
    pub(crate) fn order(&mut self, order: ToShard, now: Monotonic) -> Result<(), NotOrdered> {
        let given = self.orders.give(order, &self.mailbox, now);
        if given == Err(NotOrdered::Gone) {
            self.is_gone();
        }
        given
    }

    /// Offers the orders again that were not taken; gives up what is too old.
    pub(crate) fn deliver(&mut self, now: Monotonic) {
        let id = self.id;
        let delivered = self.orders.deliver(&self.mailbox, now, |order| {
            let order = orders::describe(&order);
            tracing::warn!(shard = %id, order, "shard took no order for a second, this one is given up");
        });
        if delivered.is_err() {
            self.is_gone();
        }
    }

    /// Whether it has orders to take.
    pub(crate) fn has_orders(&self) -> bool {
        self.orders.wait()
    }

    /// The shard has ended its drain.
    pub(crate) fn has_drained(&mut self) {
        self.drained = true;
    }

    /// The shard uses `epoch`; the tables before it are freed here. `newest`
    /// bounds what may be believed.
    pub(crate) fn has_adopted(&mut self, epoch: Epoch, newest: Epoch) {
        self.adopted = self.adopted.max(epoch.min(newest));
        while self.held.front().is_some_and(|table| table.epoch < self.adopted) {
            self.held.pop_front();
        }
    }

    /// The shard tells of itself.
    pub(crate) fn has_told(&mut self, sample: Box<ShardSample>, now: Monotonic) {
        if let Some(before) = &self.sample {
            let nanos = now.since(self.heard).as_nanos().max(1);
            let rate = |new: u64, old: u64| {
                let bits = u128::from(new.saturating_sub(old)) * 8;
                u64::try_from(bits * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
            };
            self.rates = Rates {
                ingress_bps: rate(sample.counters.ingress_bytes, before.counters.ingress_bytes),
                egress_bps: rate(sample.counters.egress_bytes, before.counters.egress_bytes),
            };
        }
        self.heard = now;
        self.waiting = sample.waiting;
        self.sample = Some(sample);
    }

    fn is_gone(&mut self) {
        if !self.gone && !self.drained {
            tracing::warn!(shard = %self.id, "shard has ended without being drained");
        }
        self.gone = true;
    }
}

#[cfg(test)]
mod tests {
    use millrace_boundary::{Counters, Doorbell, Driver, Inbox, latency_histogram, mailbox};

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }
    fn table(epoch: u64) -> Arc<EngineTable> {
        Arc::new(EngineTable { epoch: Epoch(epoch), ..EngineTable::default() })
    }
    fn shard(queue: usize) -> (Shard, Inbox<ToShard>) {
        let (tx, rx) = mailbox(queue, &Doorbell::new().unwrap());
        (Shard::new(ShardId(0), tx, at(0)), rx)
    }
    fn epochs(inbox: &Inbox<ToShard>) -> Vec<u64> {
        std::iter::from_fn(|| inbox.take())
            .map(|message| match message {
                ToShard::Table(table) => table.epoch.0,
                ToShard::Drain { .. } => 0,
                order => panic!("nobody ordered {order:?}"),
            })
            .collect()
    }

    #[test]
    fn a_table_is_offered_until_adopted_and_again_after_a_tenth_of_a_second() {
        let (mut shard, inbox) = shard(64);
        for (name, millis, epoch, seen) in [
            ("first", 0, 1, vec![1]),
            ("too soon", 99, 1, vec![]),
            ("again", 100, 1, vec![1]),
            ("a newer one at once", 101, 2, vec![2]),
            ("and again", 201, 2, vec![2]),
        ] {
            shard.offer(&table(epoch), at(millis));
            assert_eq!(epochs(&inbox), seen, "{name}");
        }
        shard.has_adopted(Epoch(1), Epoch(2));
        shard.offer(&table(2), at(400));
        assert_eq!(epochs(&inbox), [2], "an older adoption is not enough");
        shard.has_adopted(Epoch(2), Epoch(2));
        shard.has_adopted(Epoch(1), Epoch(2));
        shard.offer(&table(2), at(600));
        assert_eq!(epochs(&inbox), [0u64; 0], "adopted, and a late word changes nothing");
        shard.has_adopted(Epoch(99), Epoch(2));
        shard.offer(&table(3), at(700));
        assert_eq!(epochs(&inbox), [3], "nobody adopts what was never made");
    }

    #[test]
    fn the_last_drop_of_a_table_falls_here() {
        let (mut shard, inbox) = shard(64);
        let (first, second) = (table(1), table(2));
        shard.offer(&first, at(0));
        shard.offer(&second, at(1));
        drop(inbox.take());
        shard.has_adopted(Epoch(1), Epoch(2));
        assert_eq!(Arc::strong_count(&first), 2, "in use there, so kept here");
        drop(inbox.take());
        shard.has_adopted(Epoch(2), Epoch(2));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 2));
    }

    #[test]
    fn a_dead_or_deaf_shard_costs_a_bounded_number_of_tables() {
        let (mut shard, inbox) = shard(8);
        for epoch in 1..1_000 {
            shard.offer(&table(epoch), at(epoch));
            assert!(shard.held.len() <= HELD);
        }
        assert_eq!(epochs(&inbox), (1..=8).collect::<Vec<_>>(), "in order, the rest refused");
        drop(inbox);
        shard.offer(&table(1_000), at(2_000));
        assert!(!shard.awaits(&table(1_001)), "nobody is there to adopt");
        shard.drain(at(9_000), at(3_000));
        assert!(shard.is_drained(), "nor to drain");
    }

    #[test]
    fn the_newest_word_on_who_waits_counts_until_the_shard_falls_silent() {
        let (mut shard, _inbox) = shard(8);
        let sample = |waiting| {
            let nothing = latency_histogram;
            Box::new(ShardSample {
                shard: ShardId(0),
                driver: Driver::Epoll,
                epoch: Epoch(0),
                counters: Counters::default(),
                connections_open: 0,
                viewers: 0,
                viewers_waiting: 0,
                waiting,
                streams: Vec::new(),
                blocked: Vec::new(),
                segment_bytes: 0,
                lateness_us: nothing(),
                warm_join_us: nothing(),
                cold_join_us: nothing(),
            })
        };
        let silent = u64::try_from(SILENT.as_millis()).unwrap();
        assert_eq!(shard.waiting(at(0)), 0);
        shard.has_demand(7);
        assert_eq!(shard.waiting(at(1)), 7, "at once");
        shard.has_told(sample(5), at(1_000));
        assert_eq!(shard.waiting(at(1_000)), 5, "a word that was lost");
        shard.has_demand(6);
        assert_eq!(shard.waiting(at(999 + silent)), 6);
        shard.has_demand(9);
        assert_eq!(shard.waiting(at(1_000 + silent)), 0, "nobody knows what it plays");
        shard.has_told(sample(3), at(20_000));
        assert_eq!(shard.waiting(at(20_000)), 3);
    }

    #[test]
    fn a_drain_is_offered_every_fifty_milliseconds_until_drained() {
        let (mut shard, inbox) = shard(64);
        for (millis, offers) in [(0, 1), (49, 0), (50, 1), (60, 0), (100, 1)] {
            shard.drain(at(9_000), at(millis));
            assert_eq!(epochs(&inbox).len(), offers, "at {millis} ms");
        }
        shard.has_drained();
        shard.drain(at(9_000), at(200));
        assert_eq!(epochs(&inbox).len(), 0);
    }
}
