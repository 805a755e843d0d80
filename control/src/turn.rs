//! The loop of the control thread.

use std::{future::Future, io, time::Duration};

use axum::Router;
use millrace_boundary::{EngineId, Monotonic, ShardId};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    ControlConfig, Readiness, api,
    connection::Connections,
    engines::Engines,
    fleet::Fleet,
    inbox::Mail,
    probe::{self, Answer, ProbeFailure},
    random::Random,
    shards::DRAIN_PAUSE,
    state::{Phase, Shared, State},
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

/// How often a healthy server says so.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

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
        let shards = (0u16..).zip(config.shards);
        let state = Shared::new(State {
            started: now,
            turned: now,
            address: config.address,
            phase: Phase::Serving,
            engines,
            no_engine_remedy: fleet.remedy(),
            plays_anything: matches!(fleet, Fleet::Emulated(_)),
            sessions: crate::sessions::Sessions::default(),
            shards: shards
                .map(|(id, mailbox)| crate::shards::Shard::new(ShardId(id), mailbox, now))
                .collect(),
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
            () = self.fleet.changed() => {
                self.state.lock().engines.adopt(&self.fleet.members(), Monotonic::now());
            }
        }
    }

    /// Does what is due, and says how long nothing else will be.
    fn turn(&mut self, now: Monotonic) -> Duration {
        let mut state = self.state.lock();
        state.connections_open = self.connections.open();
        state.connections_refused = self.connections.refused();
        state.tick(now);
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
        let probed = self.fleet.is_known() && state.engines.first_round_is_over();
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
        loop {
            let now = Monotonic::now();
            let pause = self.turn(now);
            if self.state.lock().shards.iter().all(|shard| shard.is_drained()) {
                tracing::info!("drained");
                return;
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
    }
}
