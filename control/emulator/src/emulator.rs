//! The handle on a fleet of emulated engines, which has its own thread.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{Chaos, Counters, EmulatorConfig, Scenario, control, engine::Engine, fleet::Fleet};

/// Exit status of an engine that a test kills.
pub(crate) const SIGKILL: i32 = 137;

/// Why no emulator was started.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// A port is taken or not ours to take.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The ports would go beyond 65,535.
    #[error("{engines} engines do not fit above port {first_port}")]
    Ports {
        /// How many.
        engines: u16,
        /// From where on.
        first_port: u16,
    },
    /// The system gives no thread or no runtime.
    #[error("cannot start the emulator's thread")]
    Thread(#[source] io::Error),
}

/// A running emulator. Clones are the same emulator; when the last is dropped,
/// all engines and their thread end.
#[derive(Clone)]
pub struct Emulator(Arc<Inner>);

struct Inner {
    engines: Vec<Arc<Engine>>,
    control: Option<SocketAddr>,
    /// Gone when the thread is to end.
    commands: Option<UnboundedSender<Command>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What only the emulator's own thread can do; answered when done, and each
/// caller waits for the answer, so the queue is as long as callers are many.
struct Command {
    engine: usize,
    what: What,
    done: mpsc::SyncSender<()>,
}

enum What {
    Kill,
    Revive,
    Adopt,
    Terminate,
    TerminateAll,
    Chaos(Chaos),
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl Emulator {
    /// Starts the engines on a thread of their own; returns when all listen.
    /// Raises the process's soft limit of descriptors to the hard one.
    ///
    /// # Errors
    /// When a port cannot be had, or no thread.
    pub fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        raise_descriptor_limit();
        let addresses = addresses(&config)?;
        let engines: Vec<_> = (0..usize::from(config.engines))
            .map(|i| Arc::new(Engine::new(i, config.profile, config.timing, config.content, config.seed)))
            .collect();
        if let Some(scenario) = config.scenario {
            engines.iter().for_each(|engine| engine.set_scenario(None, scenario));
        }
        let (commands, inbox) = unbounded_channel();
        let (ready, started) = mpsc::sync_channel(1);
        let all = engines.clone();
        let thread = std::thread::Builder::new()
            .name("engine-emulator".to_owned())
            .spawn(move || run(all, &addresses, config, inbox, &ready))
            .map_err(EmulatorError::Thread)?;
        // A thread that ends without a word has panicked.
        let gone = || EmulatorError::Thread(io::ErrorKind::BrokenPipe.into());
        let control = started.recv().unwrap_or_else(|_| Err(gone()))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self(Arc::new(Inner { engines, control, commands: Some(commands), thread })))
    }

    /// Where the engines listen now, by index.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.engines.iter().map(|e| e.state().address).collect()
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.0.control
    }

    /// Counters of all engines, added up.
    #[must_use]
    pub fn counters(&self) -> Counters {
        sum(&self.0.engines)
    }

    /// Counters of one engine; empty ones when there is no such engine.
    #[must_use]
    pub fn engine_counters(&self, engine: usize) -> Counters {
        self.0.engines.get(engine).map(|e| e.counters()).unwrap_or_default()
    }

    /// What happened on one engine, without times: the latest 4,096 events.
    /// The same requests in the same order with the same seed give the same.
    #[must_use]
    pub fn events(&self, engine: usize) -> Vec<String> {
        self.0.engines.get(engine).map(|e| e.events()).unwrap_or_default()
    }

    /// Sets how an engine behaves towards contents without a scenario of their
    /// own; also what its port does. Holds from the next request on.
    pub fn set_engine_scenario(&self, engine: usize, scenario: Scenario) {
        if let Some(it) = self.0.engines.get(engine) {
            it.set_scenario(None, scenario);
            self.command(engine, What::Adopt);
        }
    }

    /// Sets how one engine, or all, behave towards a content, by its id or
    /// infohash. Goes before what the id says. A stream that runs takes up at once
    /// when its bytes come and when it ends, as if its head had just been sent;
    /// all else holds from the next request on.
    pub fn set_scenario(&self, engine: Option<usize>, content: &str, scenario: Scenario) {
        for it in self.0.engines.iter().filter(|e| engine.is_none_or(|i| i == e.index)) {
            it.set_scenario(Some(content), scenario);
        }
    }

    /// Kills an engine: RST on all its sockets, its port refuses, its sessions
    /// are gone. Returns when that is so.
    pub fn kill(&self, engine: usize) {
        self.command(engine, What::Kill);
    }

    /// Tells an engine to end, as SIGTERM does: it dies at once, or as late as
    /// its scenario says. Returns at once.
    pub fn terminate(&self, engine: usize) {
        self.command(engine, What::Terminate);
    }

    /// Tells all engines to end, and returns when they have.
    pub fn terminate_all(&self) {
        self.command(0, What::TerminateAll);
    }

    /// Gives contents another scenario now and then, each on the engines that
    /// play it. Replaces the plan before; one without contents ends it, and the
    /// contents are as they were.
    pub fn set_chaos(&self, chaos: Chaos) {
        self.command(0, What::Chaos(chaos));
    }

    /// Starts a killed engine again on the same port, without sessions. Returns
    /// when the port is open or, where [`crate::Timing`] or the scenario says
    /// that this takes time, before it is.
    pub fn revive(&self, engine: usize) {
        self.command(engine, What::Revive);
    }

    /// Freezes an engine: sockets stay open, nothing is read, sent or accepted.
    pub fn pause(&self, engine: usize) {
        self.set_paused(engine, true);
    }

    /// Lets a paused engine run again.
    pub fn resume(&self, engine: usize) {
        self.set_paused(engine, false);
    }

    fn set_paused(&self, engine: usize, paused: bool) {
        if let Some(it) = self.0.engines.get(engine) {
            it.life.send_modify(|l| l.paused = paused);
        }
    }

    fn command(&self, engine: usize, what: What) {
        let (done, wait) = mpsc::sync_channel(1);
        if let Some(commands) = &self.0.commands
            && commands.send(Command { engine, what, done }).is_ok()
        {
            // An error means that the thread is gone, and the engines with it.
            wait.recv().ok();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.commands = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been printed there.
            thread.join().ok();
        }
    }
}

/// Counters of all these engines, added up.
pub(crate) fn sum(engines: &[Arc<Engine>]) -> Counters {
    let mut sum = Counters::default();
    for engine in engines {
        sum.add(&engine.counters());
    }
    sum
}

fn addresses(config: &EmulatorConfig) -> Result<Vec<SocketAddr>, EmulatorError> {
    let port = |i: u16| match config.first_port {
        0 => Some(0),
        first => first.checked_add(i),
    };
    let all = (0..config.engines).map(|i| port(i).map(|port| SocketAddr::new(config.address, port)));
    let too_many = EmulatorError::Ports { engines: config.engines, first_port: config.first_port };
    all.collect::<Option<_>>().ok_or(too_many)
}

fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Under the old limit fewer streams fit, and accept says so.
    setrlimit(Resource::Nofile, limit).ok();
}

/// Where the control API listens, once all ports are open.
type Started = Result<Option<SocketAddr>, EmulatorError>;

/// The emulator's thread.
fn run(
    engines: Vec<Arc<Engine>>,
    addresses: &[SocketAddr],
    config: EmulatorConfig,
    mut inbox: UnboundedReceiver<Command>,
    ready: &mpsc::SyncSender<Started>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            ready.send(Err(EmulatorError::Thread(source))).ok();
            return;
        }
    };
    runtime.block_on(async {
        let opened = async {
            let fleet = Fleet::open(engines, addresses)?;
            let control = match config.control {
                Some(address) => Some(control::open(Arc::clone(&fleet), config.process, address).await?),
                None => None,
            };
            Ok((fleet, control))
        };
        let fleet = match opened.await {
            Ok((fleet, control)) => {
                ready.send(Ok(control)).ok();
                fleet
            }
            Err(error) => {
                ready.send(Err(error)).ok();
                return;
            }
        };
        if config.scenario.is_some() {
            for engine in 0..fleet.engines.len() {
                fleet.adopt(engine).await;
            }
        }
        while let Some(command) = inbox.recv().await {
            match command.what {
                What::Kill => fleet.kill(command.engine, SIGKILL).await,
                What::Revive => fleet.revive(command.engine).await,
                What::Adopt => fleet.adopt(command.engine).await,
                What::Terminate => fleet.terminate(command.engine).await,
                What::Chaos(chaos) => fleet.set_chaos(chaos).await,
                What::TerminateAll => fleet.terminate_all().await,
            }
            command.done.send(()).ok();
        }
    });
}
