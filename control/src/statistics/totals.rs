//! Sums of counters that never fall, though containers restart and go.

use std::{collections::BTreeMap, sync::Arc};

use super::reading::Counters;

/// One counter of one container: what it had counted before its restarts, and
/// what it says now.
#[derive(Clone, Copy, Debug, Default)]
struct Steady {
    before: u64,
    last: u64,
}

impl Steady {
    /// One that is less than before began anew.
    fn read(&mut self, value: Option<u64>) {
        let Some(value) = value else { return };
        if value < self.last {
            self.before = self.before.saturating_add(self.last);
        }
        self.last = value;
    }

    const fn sum(self) -> u64 {
        self.before.saturating_add(self.last)
    }
}

/// In bytes, since this process began to read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Received from networks.
    pub(crate) network_rx_bytes: u64,
    /// Sent to them.
    pub(crate) network_tx_bytes: u64,
    /// Read from block devices.
    pub(crate) block_read_bytes: u64,
    /// Written to them.
    pub(crate) block_write_bytes: u64,
}

/// Of all engines, those that have gone included. Networks are counted by
/// themselves: engines that have theirs from one container are told its
/// counters each, and they count once.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    gone: Sums,
    /// Received and sent, by network.
    networks: BTreeMap<Arc<str>, [Steady; 2]>,
    /// Read and written, by engine.
    blocks: BTreeMap<Arc<str>, [Steady; 2]>,
}

impl Totals {
    /// From whoever speaks for the network.
    pub(crate) fn read_network(&mut self, network: &Arc<str>, counters: &Counters) {
        let [rx, tx] = self.networks.entry(Arc::clone(network)).or_default();
        rx.read(counters.network_rx_bytes);
        tx.read(counters.network_tx_bytes);
    }

    pub(crate) fn read_block(&mut self, id: &Arc<str>, counters: &Counters) {
        let [read, write] = self.blocks.entry(Arc::clone(id)).or_default();
        read.read(counters.block_read_bytes);
        write.read(counters.block_write_bytes);
    }

    /// What the others have counted stays; nothing else of them does.
    pub(crate) fn keep(&mut self, is_network: impl Fn(&str) -> bool, is_engine: impl Fn(&str) -> bool) {
        let Self { gone, networks, blocks } = self;
        networks.retain(|id, counters| is_network(id) || gone.take_network(counters));
        blocks.retain(|id, counters| is_engine(id) || gone.take_block(counters));
    }

    /// O(engines).
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = self.gone;
        for counters in self.networks.values() {
            sums.take_network(counters);
        }
        for counters in self.blocks.values() {
            sums.take_block(counters);
        }
        sums
    }
}

impl Sums {
    /// Says that it is gone.
    fn take_network(&mut self, [rx, tx]: &[Steady; 2]) -> bool {
        self.network_rx_bytes = self.network_rx_bytes.saturating_add(rx.sum());
        self.network_tx_bytes = self.network_tx_bytes.saturating_add(tx.sum());
        false
    }

    fn take_block(&mut self, [read, write]: &[Steady; 2]) -> bool {
        self.block_read_bytes = self.block_read_bytes.saturating_add(read.sum());
        self.block_write_bytes = self.block_write_bytes.saturating_add(write.sum());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn bytes(value: u64) -> Counters {
        let value = Some(value);
        Counters {
            network_rx_bytes: value,
            network_tx_bytes: value,
            block_read_bytes: value,
            block_write_bytes: value,
        }
    }

    impl Totals {
        fn read(&mut self, id: &Arc<str>, counters: &Counters) {
            self.read_network(id, counters);
            self.read_block(id, counters);
        }

        fn forget(&mut self, id: &str) {
            self.keep(|other| other != id, |other| other != id);
        }
    }

    #[test]
    fn what_was_counted_before_a_restart_or_by_one_that_is_gone_counts_on() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut totals = Totals::default();
        let rx = |totals: &Totals| totals.sums().network_rx_bytes;
        totals.read(&a, &bytes(100));
        totals.read(&b, &bytes(10));
        assert_eq!(rx(&totals), 110);
        totals.read(&a, &bytes(150));
        assert_eq!(rx(&totals), 160);
        totals.read(&a, &bytes(20));
        assert_eq!(rx(&totals), 180, "restarted");
        totals.read(&a, &Counters::default());
        assert_eq!(rx(&totals), 180, "not told");
        totals.read(&a, &bytes(30));
        assert_eq!(rx(&totals), 190);
        totals.forget("a");
        totals.forget("a");
        totals.forget("never there");
        assert_eq!((rx(&totals), totals.networks.len(), totals.blocks.len()), (190, 1, 1));
        totals.read(&b, &bytes(11));
        assert_eq!(rx(&totals), 191);
        let alone = Counters { block_write_bytes: Some(5), ..Counters::default() };
        totals.read(&a, &alone);
        assert_eq!((rx(&totals), totals.sums().block_write_bytes), (191, 196));
    }

    #[test]
    fn a_total_never_falls_and_is_the_sum_of_what_was_counted() {
        for seed in 0..256 {
            let mut random = Random::new(seed);
            let (mut totals, mut counted) = (Totals::default(), 0);
            let mut running: BTreeMap<Arc<str>, u64> = BTreeMap::new();
            let mut before = Sums::default();
            for step in 0..500 {
                let id: Arc<str> = random.below(8).to_string().into();
                match random.below(10) {
                    0 => {
                        running.remove(&id);
                        totals.forget(&id);
                    }
                    1 if running.contains_key(&id) => {
                        // Restarted; less was counted by the time that it is read.
                        let value = running[&id] / 2;
                        counted += value;
                        running.insert(Arc::clone(&id), value);
                        totals.read(&id, &bytes(value));
                    }
                    _ => {
                        let more = random.below(1_000);
                        counted += more;
                        let value = running.entry(Arc::clone(&id)).or_default();
                        *value += more;
                        totals.read(&id, &bytes(*value));
                    }
                }
                let now = totals.sums();
                for (then, now) in [
                    (before.network_rx_bytes, now.network_rx_bytes),
                    (before.network_tx_bytes, now.network_tx_bytes),
                    (before.block_read_bytes, now.block_read_bytes),
                    (before.block_write_bytes, now.block_write_bytes),
                ] {
                    assert!(then <= now, "seed {seed}, step {step}: {then} and then {now}");
                    assert_eq!(now, counted, "seed {seed}, step {step}");
                }
                before = now;
            }
        }
    }
}
