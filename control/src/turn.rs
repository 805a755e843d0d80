//! The loop of the control thread.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use millrace_boundary::{EngineId, Monotonic, Operation, ShardId};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    ControlConfig, FleetConfig, Readiness, api,
    connection::Connections,
    crew::{Crew, Figures, News},
    engines::Engines,
    fleet::{Fleet, docker::FleetName},
    inbox::Mail,
    learned::{self, Keeper},
    performance::Performance,
    probe::{self, Answer, ProbeFailure},
    random::Random,
    shards::DRAIN_PAUSE,
    state::{Phase, Shared, State},
    template::Templates,
    units::{Outcome, Units},
};

/// The first probe round is waited for this long before the server is ready.
const FIRST_ROUND: Duration = Duration::from_secs(3);
/// Pause between turns while a shard owes an answer.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Pause between turns when nothing happens: pauses end and scores fade.
const IDLE_PAUSE: Duration = Duration::from_millis(250);
/// Told to the shards as their deadline, this much before the real one: time
/// for the word `Drained` to arrive.
const DRAIN_MARGIN: Duration = Duration::from_millis(100);

/// For what was learned to be written down at the end, after the drain.
const KEEP_LIMIT: Duration = Duration::from_millis(50);

/// For containers to be removed at the end.
pub const DISMISS_LIMIT: Duration = Duration::from_secs(15);
/// Templates of one's own, in the data directory.
pub(crate) const TEMPLATES: &str = "templates.json";

/// What was learned of the demand, there.
const LEARNED: &str = "forecast.json";

/// How often a healthy server says so.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// News of the crew, or none for ever.
async fn news(crew: &mut Option<Crew>) -> News {
    match crew {
        Some(crew) => crew.news().await,
        None => std::future::pending().await,
    }
}

/// Lets the units know what was learned before.
fn take_over(units: &mut Units, file: PathBuf, now: Monotonic) -> Keeper {
    let read = learned::read(&file).and_then(|peaks| {
        let Some(peaks) = peaks else { return Ok(()) };
        units.take_over(&peaks).map_err(|error| format!("{}: {error}", file.display()))
    });
    if let Err(error) = read {
        tracing::warn!(error, "what was learned of the demand is of no use, and is learned anew");
    }
    Keeper::new(file, units.autoscaler().export_profile(), now)
}

type Probed = (EngineId, Result<Answer, ProbeFailure>);

/// The control thread's belongings.
#[derive(Debug)]
pub(crate) struct Control {
    state: Shared,
    mail: Mail,
    probes: JoinSet<Probed>,
    connections: Connections,
    router: Router,
    fleet: Fleet,
    /// Where the fleet is in Docker.
    crew: Option<Crew>,
    /// The last list of containers that was taken in.
    looked_at: Monotonic,
    keep_engines: bool,
    /// Where there is a place to keep what was learned.
    keeper: Option<Keeper>,
}

impl Control {
    /// Ready to run, on the runtime it will run on.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new(config: ControlConfig, fleet: Fleet) -> io::Result<Self> {
        let now = Monotonic::now();
        let mut engines =
            Engines::new(config.engine_capacity, config.probe_interval, Random::from_kernel(), now);
        engines.adopt(&fleet.members(), now);
        let (mut units, mut crew, mut keep_engines, mut keeper) = (None, None, true, None);
        let nudge = match &fleet {
            Fleet::Docker(informer) => Some(informer.nudge()),
            Fleet::Fixed(_) | Fleet::Emulated(_) => None,
        };
        if let (Fleet::Docker(informer), FleetConfig::Docker(settings)) = (&fleet, config.fleet) {
            let name = FleetName::parse(&settings.name).ok_or_else(|| {
                io::Error::other(format!(
                    "{:?} is no name of a fleet; allowed: {}",
                    settings.name,
                    FleetName::ALLOWED
                ))
            })?;
            keep_engines = settings.keep_engines;
            let file = settings.data_dir.as_ref().map(|dir| dir.join(TEMPLATES));
            let (templates, complaints) = Templates::load(file.as_deref());
            for complaint in complaints {
                tracing::warn!("{complaint}");
            }
            crew = Some(Crew::new(informer.client(), name.clone(), now));
            let learned = settings.data_dir.as_ref().map(|dir| dir.join(LEARNED));
            let mut all = Units::new(*settings, name, templates, now);
            all.set_capacity(config.engine_capacity);
            keeper = learned.map(|file| take_over(&mut all, file, now));
            engines.set_growing(all.is_growing(), now);
            units = Some(all);
        }
        let shards = (0u16..).zip(config.shards);
        let state = Shared::new(State {
            started: now,
            turned: now,
            address: config.address,
            phase: Phase::Serving,
            engines,
            admins: config.admins,
            no_engine_remedy: fleet.remedy(),
            plays_anything: matches!(fleet, Fleet::Emulated(_)),
            sessions: crate::sessions::Sessions::default(),
            performance: Performance::default(),
            shards: shards
                .map(|(id, mailbox)| crate::shards::Shard::new(ShardId(id), mailbox, now))
                .collect(),
            units,
            figures: Figures::default(),
            hands: None,
            nudge,
            storing: Arc::default(),
            followers: Arc::new(Semaphore::new(api::logs::FOLLOWERS)),
            connections_open: 0,
            connections_refused: 0,
        });
        Ok(Self {
            router: api::router(state.clone()),
            state,
            mail: Mail::new(config.inbox)?,
            probes: JoinSet::new(),
            connections: Connections::new(),
            fleet,
            crew,
            looked_at: Monotonic::default(),
            keep_engines,
            keeper,
        })
    }

    /// Runs until `shutdown` completes and the shards have drained, for at
    /// most `drain_limit` after that.
    pub(crate) async fn run(
        mut self,
        drain_limit: Duration,
        shutdown: impl Future<Output = ()>,
        ready: impl FnOnce(Readiness),
        mut alive: impl FnMut(),
    ) {
        let started = Monotonic::now();
        let mut told_alive = started;
        let mut ready = Some(ready);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let now = Monotonic::now();
            let pause = self.turn(now);
            self.keep_learned(now).await;
            if now.since(told_alive) >= ALIVE_INTERVAL && self.state.lock().every_shard_reports(now) {
                told_alive = now;
                alive();
            }
            if ready.is_some()
                && let Some(readiness) = self.readiness(started)
                && let Some(ready) = ready.take()
            {
                ready(readiness);
            }
            tokio::select! {
                () = &mut shutdown => break,
                () = self.event() => {}
                () = sleep(pause) => {}
            }
        }
        self.drain(drain_limit).await;
    }

    /// Writes down what was learned when it is time, and hears how that went.
    async fn keep_learned(&mut self, now: Monotonic) {
        let Some(keeper) = &mut self.keeper else { return };
        keeper.settle(Instant::now()).await;
        if keeper.is_due(now)
            && let Some(units) = &self.state.lock().units
        {
            keeper.write(units.autoscaler().export_profile(), now);
        }
    }

    /// Waits for the next event of whatever kind and applies it.
    async fn event(&mut self) {
        tokio::select! {
            () = self.mail.arrived() => self.read_mail(),
            Some(done) = self.probes.join_next() => {
                let (now, mut state) = (Monotonic::now(), self.state.lock());
                let more = std::iter::from_fn(|| self.probes.try_join_next());
                // A probe that panicked is our own mistake, and aborts a release build.
                for (engine, outcome) in std::iter::once(done).chain(more).flatten() {
                    state.engines.probed(engine, outcome, now);
                }
            }
            Some(()) = self.connections.closed() => {}
            () = self.fleet.changed() => self.listed(),
            news = news(&mut self.crew) => self.hear(news),
        }
    }

    /// Takes in who is in the fleet now.
    fn listed(&mut self) {
        let now = Monotonic::now();
        let mut state = self.state.lock();
        let State { engines, units, .. } = &mut *state;
        let (Some(units), Fleet::Docker(informer)) = (units.as_mut(), &mut self.fleet) else {
            engines.adopt(&self.fleet.members(), now);
            return;
        };
        units.daemon(informer.refusal(), informer.docker_answers(), now);
        units.hear(informer.hints());
        let begun = informer.looked_at();
        if begun <= self.looked_at {
            return;
        }
        self.looked_at = begun;
        let seen = informer.seen();
        engines.adopt(&units.members(&informer.members(), &seen), now);
        units.listed(&seen, begun, engines, now);
        if let Some(crew) = &mut self.crew {
            let ids = engines.all().iter().map(|engine| Arc::clone(engine.identity()));
            crew.engines(ids.map(|id| (Arc::clone(&id), informer.lender(&id))), now);
        }
    }

    fn hear(&mut self, news: News) {
        let now = Monotonic::now();
        let mut state = self.state.lock();
        let State { engines, units, figures, hands, performance, .. } = &mut *state;
        let (Some(units), Some(crew)) = (units, &mut self.crew) else { return };
        match news {
            News::Done(outcome) => {
                if let (Outcome::Unit { .. }, Fleet::Docker(informer)) = (&*outcome, &self.fleet) {
                    informer.look_now();
                }
                units.done(*outcome, engines, now);
            }
            News::Measured(round) => {
                if let Some(round) = round {
                    let operation = Operation::DockerStatsCollection;
                    performance.record(operation, round.began, now, round.outcome);
                }
                *figures = crew.figures(engines.all().iter().map(|engine| Arc::clone(engine.identity())));
                for (container, usage) in &figures.of {
                    units.measured(container, usage, now);
                }
            }
            News::Linked => *hands = crew.hands().cloned(),
        }
    }

    /// Does what is due, and says how long nothing else will be.
    fn turn(&mut self, now: Monotonic) -> Duration {
        let mut state = self.state.lock();
        state.connections_open = self.connections.open();
        state.connections_refused = self.connections.refused();
        state.tick(now);
        if let (Some(crew), Some(units)) = (&mut self.crew, &mut state.units) {
            crew.work(units);
        }
        while let Some((id, address)) = state.engines.next_due(now) {
            self.probes.spawn(async move { (id, probe::probe(address).await) });
        }
        let pause = match state.phase {
            Phase::Draining { .. } => DRAIN_PAUSE,
            Phase::Serving if state.some_lag_behind() => BUSY_PAUSE,
            Phase::Serving => IDLE_PAUSE,
        };
        state.engines.next_probe_at().map_or(pause, |at| pause.min(at.since(now)))
    }

    fn read_mail(&mut self) {
        let now = Monotonic::now();
        let mut state = self.state.lock();
        let (connections, router) = (&mut self.connections, &self.router);
        self.mail.take(|message| {
            if let Some(handed) = state.hear(message, now) {
                connections.serve(*handed, router);
            }
        });
    }

    /// How many engines are ready, once it may be said that the server is.
    fn readiness(&self, started: Monotonic) -> Option<Readiness> {
        let state = self.state.lock();
        let made = state.units.as_ref().is_none_or(Units::has_its_minimum);
        let probed = self.fleet.is_known() && made && state.engines.first_round_is_over();
        let waited = Monotonic::now().since(started) >= FIRST_ROUND;
        ((probed || waited) && state.all_have_a_table()).then(|| Readiness {
            engines: state.engines.all().len(),
            engines_ready: state.engines.states().ready,
        })
    }

    async fn drain(mut self, limit: Duration) {
        let end = Monotonic::now() + limit;
        let deadline = end - DRAIN_MARGIN.min(limit / 2);
        self.state.lock().phase = Phase::Draining { deadline };
        tracing::info!(limit_seconds = limit.as_secs_f64(), "draining");
        if let (Some(keeper), Some(units)) = (&mut self.keeper, &self.state.lock().units) {
            keeper.write(units.autoscaler().export_profile(), Monotonic::now());
        }
        loop {
            let now = Monotonic::now();
            let pause = self.turn(now);
            if self.state.lock().shards.iter().all(|shard| shard.is_drained()) {
                tracing::info!("drained");
                break;
            }
            if end <= now {
                break;
            }
            tokio::select! {
                () = self.event() => {}
                () = sleep(pause.min(end.since(now))) => {}
            }
        }
        for shard in self.state.lock().shards.iter().filter(|shard| !shard.is_drained()) {
            tracing::warn!(shard = %shard.id, "shard has not drained in time");
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.settle(Instant::now() + KEEP_LIMIT).await;
        }
        if !self.keep_engines {
            self.dismiss().await;
        }
    }

    /// Removes the containers that are ours.
    async fn dismiss(&mut self) {
        let end = Monotonic::now() + DISMISS_LIMIT;
        loop {
            let now = Monotonic::now();
            {
                let mut state = self.state.lock();
                let State { engines, units, .. } = &mut *state;
                let (Some(units), Some(crew)) = (units, &mut self.crew) else { return };
                units.leave_all(engines, now);
                crew.work(units);
                let left = units.all().len();
                if left == 0 {
                    tracing::info!("engines removed");
                    return;
                }
                if end <= now || crew.hands().is_none() {
                    tracing::warn!(
                        left,
                        remedy = "they are found again by the next start, or removed with docker rm --force",
                        "engines are left in Docker"
                    );
                    return;
                }
            }
            tokio::select! {
                news = news(&mut self.crew) => self.hear(news),
                () = sleep(BUSY_PAUSE) => {}
            }
        }
    }
}
