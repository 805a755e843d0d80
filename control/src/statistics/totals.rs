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

#[derive(Clone, Copy, Debug, Default)]
struct Container {
    rx: Steady,
    tx: Steady,
    read: Steady,
    write: Steady,
}

impl Container {
    fn add_to(&self, sums: &mut Sums) {
        for (sum, counter) in [
            (&mut sums.network_rx_bytes, self.rx),
            (&mut sums.network_tx_bytes, self.tx),
            (&mut sums.block_read_bytes, self.read),
            (&mut sums.block_write_bytes, self.write),
        ] {
            *sum = sum.saturating_add(counter.sum());
        }
    }
}

/// Of all engines, those that have gone included.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    gone: Sums,
    present: BTreeMap<Arc<str>, Container>,
}

impl Totals {
    pub(crate) fn read(&mut self, id: &Arc<str>, counters: &Counters) {
        let container = self.present.entry(Arc::clone(id)).or_default();
        container.rx.read(counters.network_rx_bytes);
        container.tx.read(counters.network_tx_bytes);
        container.read.read(counters.block_read_bytes);
        container.write.read(counters.block_write_bytes);
    }

    /// What it counted stays; nothing else does.
    pub(crate) fn forget(&mut self, id: &str) {
        if let Some(container) = self.present.remove(id) {
            container.add_to(&mut self.gone);
        }
    }

    /// O(containers).
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = self.gone;
        self.present.values().for_each(|container| container.add_to(&mut sums));
        sums
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
        assert_eq!((rx(&totals), totals.present.len()), (190, 1));
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
