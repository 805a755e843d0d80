//! What engines cost their host, as Docker counts it. Asked in rounds and
//! kept, so that whoever wants to know waits for nobody.

mod reading;
mod rounds;
mod totals;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bollard::{Docker, query_parameters::StatsOptions};
use futures_util::StreamExt;
use millrace_boundary::{Monotonic, Outcome};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use reading::Reading;
use rounds::{Event, Rounds};
use totals::Totals;

#[cfg(test)]
pub(crate) use reading::Counters;
pub(crate) use {reading::Usage, totals::Sums};

/// For one container's answer. Docker needs some milliseconds for it.
const ANSWER: Duration = Duration::from_secs(2);
/// Containers that are asked about at once. Docker 20.10 answers all of them
/// with the next tick of its clock of a second, so that fewer would make the
/// rounds of many engines last for as many seconds.
const MAX_ASKS: usize = 32;
/// Engines that are asked about; the rest have no figures.
const MAX_ENGINES: usize = 1_000;
/// After so many answers in a row that did not come, the last one is of no use.
const MAX_MISSES: u32 = 3;

/// Of all engines together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Total {
    /// How many there are.
    pub(crate) engines: usize,
    /// How many of them have figures.
    pub(crate) measured: usize,
    /// 100 is one core.
    pub(crate) cpu_percent: f64,
    /// In use.
    pub(crate) memory_bytes: u64,
    /// Processes and threads.
    pub(crate) pids: u64,
    /// Of engines that have gone as well.
    pub(crate) sums: Sums,
}

/// One engine's figures.
#[derive(Debug, Default)]
struct Engine {
    last: Option<(Reading, Monotonic)>,
    usage: Option<Usage>,
    /// Answers that did not come since the last that did.
    missed: u32,
    /// The network whose counters are taken from it, if they are.
    speaks_for: Option<Arc<str>>,
}

/// A round that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// When the first question was asked.
    pub(crate) began: Monotonic,
    /// It failed when no engine answered.
    pub(crate) outcome: Outcome,
}

/// An answer, if one came, and when it did.
type Asked = (Arc<str>, Option<(Reading, Monotonic)>);

/// The figures, and the round that reads them anew.
#[derive(Debug)]
pub(crate) struct Statistics {
    docker: Option<Docker>,
    rounds: Rounds,
    engines: BTreeMap<Arc<str>, Engine>,
    totals: Totals,
    /// Of this round, those that have yet to be asked about.
    waiting: VecDeque<Arc<str>>,
    asks: JoinSet<Asked>,
    /// The round that runs, if it asks about any engine.
    round: Option<Round>,
}

impl Statistics {
    /// Without engines.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self {
            docker: None,
            rounds: Rounds::new(now),
            engines: BTreeMap::new(),
            totals: Totals::default(),
            waiting: VecDeque::new(),
            asks: JoinSet::new(),
            round: None,
        }
    }

    /// Whom to ask from now on; nobody while Docker does not answer.
    pub(crate) fn ask(&mut self, docker: Option<Docker>) {
        self.docker = docker;
    }

    /// These containers are the engines now, by id, each with the one that
    /// lends it its network, if any: those that run and those that are paused,
    /// whose counters will go on. The others are forgotten, except for what
    /// they have counted.
    pub(crate) fn set_engines(
        &mut self,
        engines: impl IntoIterator<Item = (Arc<str>, Option<Arc<str>>)>,
        now: Monotonic,
    ) {
        let networks: BTreeMap<_, _> = engines.into_iter().take(MAX_ENGINES).collect();
        self.engines.retain(|id, _| networks.contains_key(id));
        self.waiting.retain(|id| networks.contains_key(id));
        // The first of those on one network speaks for it.
        let mut spoken_for = BTreeSet::new();
        for (id, lender) in networks {
            let network = lender.unwrap_or_else(|| Arc::clone(&id));
            let engine = self.engines.entry(id).or_default();
            engine.speaks_for = spoken_for.insert(Arc::clone(&network)).then_some(network);
        }
        self.totals.keep(|network| spoken_for.contains(network), |id| self.engines.contains_key(id));
        self.rounds.on(Event::CountChanged(self.engines.len()), now);
    }

    /// One engine's figures, if there were any lately.
    pub(crate) fn of(&self, id: &str) -> Option<&Usage> {
        self.engines.get(id)?.usage.as_ref()
    }

    /// O(engines).
    pub(crate) fn total(&self) -> Total {
        let mut total = Total { engines: self.engines.len(), sums: self.totals.sums(), ..Total::default() };
        for usage in self.engines.values().filter_map(|engine| engine.usage.as_ref()) {
            total.measured += 1;
            total.cpu_percent += usage.cpu_percent.unwrap_or(0.0);
            total.memory_bytes = total.memory_bytes.saturating_add(usage.memory_bytes.unwrap_or(0));
            total.pids = total.pids.saturating_add(usage.pids.unwrap_or(0));
        }
        total
    }

    /// Time between two rounds, with as many engines as there are.
    pub(crate) const fn interval(&self) -> Duration {
        self.rounds.interval().0
    }

    /// Waits for the next thing to do, an answer or a round that is due, and
    /// does it. Tells of the round that was over with it, if it asked about any
    /// engine. May be dropped at any time and has to be called again.
    pub(crate) async fn advance(&mut self) -> Option<Round> {
        let pause = self.rounds.next_at().map(|at| at.since(Monotonic::now()));
        tokio::select! {
            Some(done) = self.asks.join_next() => {
                // One that panicked is our own mistake, and aborts a release build.
                if let Ok((id, answer)) = done {
                    self.answered(&id, answer);
                }
                self.go_on(Monotonic::now())
            }
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {
                let now = Monotonic::now();
                self.rounds.on(Event::RoundBegun, now);
                self.waiting = self.engines.keys().cloned().collect();
                self.round = (!self.waiting.is_empty()).then_some(Round { began: now, outcome: Outcome::Failed });
                self.go_on(now)
            }
        }
    }

    /// Asks about as many as may be asked about; ends the round with the last.
    fn go_on(&mut self, now: Monotonic) -> Option<Round> {
        while self.asks.len() < MAX_ASKS
            && let Some(id) = self.waiting.pop_front()
        {
            match self.docker.clone() {
                Some(docker) => drop(self.asks.spawn(ask(docker, id))),
                None => self.answered(&id, None),
            }
        }
        if !self.asks.is_empty() {
            return None;
        }
        self.rounds.on(Event::RoundOver, now);
        self.round.take()
    }

    fn answered(&mut self, id: &Arc<str>, answer: Option<(Reading, Monotonic)>) {
        if let (Some(_), Some(round)) = (&answer, &mut self.round) {
            round.outcome = Outcome::Worked;
        }
        // It may have gone meanwhile.
        let Some(engine) = self.engines.get_mut(id) else { return };
        let Some((reading, at)) = answer else {
            engine.missed = engine.missed.saturating_add(1);
            if engine.missed >= MAX_MISSES {
                engine.usage = None;
            }
            return;
        };
        engine.missed = 0;
        engine.usage = Some(reading.usage(at, engine.last.as_ref().map(|(last, at)| (last, *at))));
        engine.last = Some((reading, at));
        self.totals.read_block(id, reading.counters());
        if let Some(network) = &engine.speaks_for {
            self.totals.read_network(network, reading.counters());
        }
    }
}

/// One look at one container, without the second of which Docker's own share
/// of a core would be made.
async fn ask(docker: Docker, id: Arc<str>) -> Asked {
    let options = StatsOptions { stream: false, one_shot: true };
    let mut answers = docker.stats(&id, Some(options));
    let answer = timeout(ANSWER, answers.next()).await;
    let reading = answer.ok().flatten().and_then(Result::ok).and_then(|answer| Reading::of(&answer));
    drop(answers);
    (id, reading.map(|reading| (reading, Monotonic::now())))
}
