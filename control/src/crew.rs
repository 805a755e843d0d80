//! Whoever does to Docker what the units ask for, and asks it for figures.

use std::{collections::HashMap, sync::Arc, time::Duration};

use millrace_boundary::Monotonic;
use tokio::task::JoinSet;

use crate::{
    fleet::docker::{Client, FleetName, Hands},
    statistics::{Round, Statistics, Total, Usage},
    units::{Outcome, Units},
};

/// Something came of it.
#[derive(Debug)]
pub(crate) enum News {
    /// Work is done.
    Done(Box<Outcome>),
    /// Figures were read; with the last of a round, how that went.
    Measured(Option<Round>),
    /// Docker was lost or found.
    Linked,
}

/// The figures of the last rounds, for answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// By container.
    pub(crate) of: HashMap<Arc<str>, Usage>,
    /// Of all together.
    pub(crate) total: Total,
    /// Time between two rounds.
    pub(crate) interval: Duration,
}

/// The crew of one daemon.
#[derive(Debug)]
pub(crate) struct Crew {
    client: Client,
    fleet: FleetName,
    hands: Option<Hands>,
    works: JoinSet<Outcome>,
    statistics: Statistics,
}

impl Crew {
    /// To be called on the runtime that it will work on.
    pub(crate) fn new(client: Client, fleet: FleetName, now: Monotonic) -> Self {
        Self { client, fleet, hands: None, works: JoinSet::new(), statistics: Statistics::new(now) }
    }

    /// Waits for the next news; may be dropped at any time.
    pub(crate) async fn news(&mut self) -> News {
        tokio::select! {
            // One that panicked is our own mistake, and aborts a release build.
            Some(Ok(outcome)) = self.works.join_next() => News::Done(Box::new(outcome)),
            () = self.client.changed() => {
                self.relink();
                News::Linked
            }
            round = self.statistics.advance() => News::Measured(round),
        }
    }

    /// Takes up the connection that there is now.
    pub(crate) fn relink(&mut self) {
        let daemon = self.client.daemon();
        self.statistics.ask(daemon.as_ref().map(|daemon| daemon.docker().clone()));
        self.hands = daemon.map(|daemon| Hands::new(daemon.docker(), self.fleet.clone()));
    }

    /// Begins what the units want done.
    pub(crate) fn work(&mut self, units: &mut Units) {
        while let Some(work) = units.take_work() {
            self.works.spawn(work.run(self.hands.clone()));
        }
    }

    /// These containers are the engines now, each with the one whose network it
    /// uses, if it does.
    pub(crate) fn engines(
        &mut self,
        ids: impl IntoIterator<Item = (Arc<str>, Option<Arc<str>>)>,
        now: Monotonic,
    ) {
        self.statistics.set_engines(ids, now);
    }

    /// What is known of their figures.
    pub(crate) fn figures(&self, ids: impl IntoIterator<Item = Arc<str>>) -> Figures {
        let of = ids.into_iter().filter_map(|id| Some((Arc::clone(&id), *self.statistics.of(&id)?)));
        Figures { of: of.collect(), total: self.statistics.total(), interval: self.statistics.interval() }
    }

    /// The hands, for what answers need at once, such as a log.
    pub(crate) fn hands(&self) -> Option<&Hands> {
        self.hands.as_ref()
    }
}
