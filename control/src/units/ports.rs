//! The host ports of engines: really free, and given to one engine at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use millrace_boundary::Monotonic;

use crate::{fleet::docker::Ports as OfEngine, template::Wants};

/// A port that Docker found taken is left alone for this long.
const BURNT: Duration = Duration::from_secs(60);

/// No port is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all ports from {} to {} are taken", .range.start(), .range.end())]
pub(crate) struct NoPort {
    /// Those there are.
    pub(crate) range: RangeInclusive<u16>,
}

impl NoPort {
    /// What helps.
    pub(crate) const REMEDY: &str =
        "widen docker.ports, or end what listens there; engines of other servers count as well";
}

/// The ports of a range, and whose they are.
#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    taken: BTreeSet<u16>,
    burnt: BTreeMap<u16, Monotonic>,
    /// Where the next search begins: a port just given back is the last to be
    /// given again, since its old connections may still be dying.
    next: u16,
}

impl Ports {
    /// All free.
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        let next = *range.start();
        Self { range, taken: BTreeSet::new(), burnt: BTreeMap::new(), next }
    }

    /// Takes a port that is nobody's and passes `is_free`. O(range) at worst.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn take(
        &mut self,
        now: Monotonic,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Result<u16, NoPort> {
        self.burnt.retain(|_, until| now < *until);
        let (first, last) = (*self.range.start(), *self.range.end());
        let candidates = (self.next..=last).chain(first..self.next.max(first));
        let found = candidates
            .filter(|port| !self.taken.contains(port) && !self.burnt.contains_key(port))
            .find(|port| is_free(*port));
        let port = found.ok_or_else(|| NoPort { range: self.range.clone() })?;
        self.taken.insert(port);
        self.next = if port == last { first } else { port + 1 };
        Ok(port)
    }

    /// Takes the ports of one engine, as many as its command line names.
    ///
    /// # Errors
    /// When one is missing; then none is taken.
    pub(crate) fn lease(
        &mut self,
        now: Monotonic,
        wants: Wants,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<OfEngine, NoPort> {
        let mut leased = Vec::new();
        for wanted in [true, wants.https, wants.api, wants.p2p] {
            let port = match wanted {
                true => self.take(now, &is_free).map(Some),
                false => Ok(None),
            };
            match port {
                Ok(port) => leased.push(port),
                Err(error) => {
                    self.release(leased.into_iter().flatten());
                    return Err(error);
                }
            }
        }
        let at = |place: usize| leased.get(place).copied().flatten();
        Ok(OfEngine { http: at(0).unwrap_or_default(), https: at(1), api: at(2), p2p: at(3) })
    }

    /// These are taken by an engine that was there before.
    pub(crate) fn reserve(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.taken.extend(ports);
    }

    /// Nobody has these any more.
    pub(crate) fn release(&mut self, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            self.taken.remove(&port);
        }
    }

    /// Somebody else has it: it is not given for a while.
    pub(crate) fn burn(&mut self, port: u16, now: Monotonic) {
        self.burnt.insert(port, now + BURNT);
    }

    /// How many are taken by engines.
    pub(crate) fn taken(&self) -> usize {
        self.taken.len()
    }
}

/// Whether nobody listens on `port` of this machine, as the kernel says.
pub(crate) fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(Duration::from_secs(100));

    #[test]
    fn ports_go_round_and_each_is_given_once() {
        let mut ports = Ports::new(10..=13);
        ports.reserve([11]);
        let take = |ports: &mut Ports, now| ports.take(now, |port| port != 12).ok();
        assert_eq!(take(&mut ports, NOW), Some(10));
        assert_eq!(take(&mut ports, NOW), Some(13), "11 is reserved, 12 is somebody else's");
        assert_eq!(take(&mut ports, NOW), None);
        ports.release([10, 11]);
        assert_eq!(take(&mut ports, NOW), Some(10));
        ports.burn(11, NOW);
        assert_eq!(ports.take(NOW, |_| true).ok(), Some(12));
        let refused = ports.take(NOW, |_| true).unwrap_err();
        assert_eq!(refused.to_string(), "all ports from 10 to 13 are taken");
        assert_eq!(ports.take(NOW + BURNT, |_| true).ok(), Some(11), "burnt for a minute");
        assert_eq!(ports.taken(), 4);
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }

    #[test]
    fn the_last_port_there_is_can_be_given() {
        let mut ports = Ports::new(65_535..=65_535);
        assert_eq!(ports.take(NOW, |_| true), Ok(65_535));
        ports.release([65_535]);
        assert_eq!(ports.take(NOW, |_| true), Ok(65_535));
    }
}
