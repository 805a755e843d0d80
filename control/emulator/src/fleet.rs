//! The engines of one process: their ports, their deaths and returns.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Mutex,
    task::JoinHandle,
    time::Instant,
};

use crate::{
    Chaos, EmulatorError,
    behaviour::{Accept, Fate},
    engine::Engine,
    life::{self, Boot},
    serve,
};

/// Connections of one engine; further ones are closed at once.
const MAX_CONNECTIONS: usize = 8192;
const BACKLOG: u32 = 1024;
/// Ports tried when one has drifted onto another's.
const DRIFTS: u16 = 8;

/// Engines and what listens for them.
pub(crate) struct Fleet {
    pub(crate) engines: Vec<Arc<Engine>>,
    ports: Vec<Mutex<Port>>,
    chaos: Mutex<Vec<JoinHandle<()>>>,
}

struct Port {
    door: Door,
    /// Carries out the engine's fate.
    drive: Option<JoinHandle<()>>,
    /// Opens the port of an engine that is being started.
    boot: Option<JoinHandle<()>>,
}

/// What stands at a port.
enum Door {
    Listening(JoinHandle<()>),
    /// Bound without listening: nobody else takes the port, and connections
    /// are refused.
    Reserved(TcpSocket),
    /// Could not be bound again; tried anew at the next change.
    Lost,
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn accept_on(engine: &Arc<Engine>, listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(accept(Arc::clone(engine), listener))
}

impl Fleet {
    /// Binds a port for each engine and serves it.
    pub(crate) fn open(
        engines: Vec<Arc<Engine>>,
        addresses: &[SocketAddr],
    ) -> Result<Arc<Self>, EmulatorError> {
        let mut ports = Vec::new();
        for (engine, &address) in engines.iter().zip(addresses) {
            let failed = |source| EmulatorError::Bind { address, source };
            let socket = bound(address).map_err(failed)?;
            engine.state().address = socket.local_addr().map_err(failed)?;
            // A port that is not to be open yet never was, not even for a moment.
            let behaviour = engine.behaviour();
            let is_up = !matches!(behaviour.fate, Fate::BootNever | Fate::BootSlow { .. });
            engine.life.send_modify(|l| l.alive = is_up);
            let door = if is_up && behaviour.accept != Accept::Refuse {
                Door::Listening(accept_on(engine, socket.listen(BACKLOG).map_err(failed)?))
            } else {
                Door::Reserved(socket)
            };
            ports.push(Mutex::new(Port { door, drive: None, boot: None }));
        }
        Ok(Arc::new(Self { engines, ports, chaos: Mutex::default() }))
    }

    /// Takes up the scenario that was set for the engine.
    pub(crate) async fn adopt(self: &Arc<Self>, engine: usize) {
        let (Some(it), Some(port)) = (self.engines.get(engine), self.ports.get(engine)) else { return };
        let fate = it.state().fate;
        {
            let mut port = port.lock().await;
            let task = life::drive(Arc::clone(self), Arc::clone(it), fate);
            if let Some(old) = port.drive.replace(tokio::spawn(task)) {
                old.abort();
            }
        }
        self.settle(engine).await;
        // Those that wait for a place may find that there is no limit now.
        it.freed.notify_waiters();
        it.feel();
    }

    /// All sockets get RST, the port refuses, the sessions are forgotten. The
    /// process is said to have ended with status `exit`.
    pub(crate) async fn kill(&self, engine: usize, exit: i32) {
        let (Some(it), Some(port)) = (self.engines.get(engine), self.ports.get(engine)) else { return };
        if let Some(boot) = port.lock().await.boot.take() {
            boot.abort();
        }
        it.state().exit = Some(exit);
        it.life.send_modify(|l| {
            l.generation += 1;
            l.alive = false;
            l.paused = false;
        });
        self.settle(engine).await;
        let deadline = Instant::now() + Duration::from_secs(2);
        while it.state().connections > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        it.forget_sessions();
    }

    /// A new engine on the same port, which opens as soon as such an engine's
    /// does: at once when that takes no time, else later.
    pub(crate) async fn revive(self: &Arc<Self>, engine: usize) {
        let (Some(it), Some(port)) = (self.engines.get(engine), self.ports.get(engine)) else { return };
        let refuses = match it.state().fate {
            Fate::BootNever => return,
            Fate::BootSlow { refuses, .. } => refuses,
            _ => it.timing.boot_port,
        };
        if refuses.is_zero() {
            return self.open_door(engine).await;
        }
        let fleet = Arc::clone(self);
        let boot = tokio::spawn(async move {
            tokio::time::sleep(refuses).await;
            fleet.open_door(engine).await;
        });
        if let Some(old) = port.lock().await.boot.replace(boot) {
            old.abort();
        }
    }

    /// A new engine whose port opens now.
    pub(crate) async fn open_door(&self, engine: usize) {
        let (Some(it), Some(port)) = (self.engines.get(engine), self.ports.get(engine)) else { return };
        let fate = it.state().fate;
        if let Fate::PortDrift(by) = fate {
            let mut port = port.lock().await;
            let old = it.state().address;
            if let Door::Reserved(_) = port.door
                && let Some((socket, address)) = drifted(old, by)
            {
                it.state().address = address;
                port.door = Door::Reserved(socket);
            }
        }
        {
            let mut state = it.state();
            state.boot = Boot::begin(Instant::now(), fate, &it.timing);
            state.exit = None;
        }
        it.life.send_modify(|l| {
            l.alive = true;
            l.paused = false;
        });
        self.settle(engine).await;
    }

    /// Tells the engine to end, as SIGTERM does: it ends at once, or after the
    /// time that its fate says.
    pub(crate) async fn terminate(self: &Arc<Self>, engine: usize) {
        let Some(it) = self.engines.get(engine) else { return };
        let Fate::SlowShutdown(delay) = it.state().fate else { return self.kill(engine, 0).await };
        let (fleet, it) = (Arc::clone(self), Arc::clone(it));
        tokio::spawn(async move {
            let generation = it.life.borrow().generation;
            tokio::time::sleep(delay).await;
            // Whoever was killed meanwhile is another process by now.
            if it.life.borrow().generation == generation {
                fleet.kill(engine, 0).await;
            }
        });
    }

    /// Tells all engines to end and waits until they have.
    pub(crate) async fn terminate_all(self: &Arc<Self>) {
        for engine in 0..self.engines.len() {
            self.terminate(engine).await;
        }
        for it in &self.engines {
            // The sender is the engine's own, so that it is there.
            it.life.subscribe().wait_for(|l| !l.alive).await.ok();
        }
    }

    /// Carries out a plan of chaos in place of the one before, if any.
    pub(crate) async fn set_chaos(self: &Arc<Self>, chaos: Chaos) {
        let mut tasks = self.chaos.lock().await;
        for old in tasks.drain(..) {
            old.abort();
            // What it has set is gone only when it is.
            old.await.ok();
        }
        *tasks = chaos.start(self);
    }

    /// Makes the port listen or refuse, as the engine's life and scenario say.
    pub(crate) async fn settle(&self, engine: usize) {
        let (Some(it), Some(port)) = (self.engines.get(engine), self.ports.get(engine)) else { return };
        let mut port = port.lock().await;
        let accept = it.behaviour().accept;
        it.life
            .send_if_modified(|l| std::mem::replace(&mut l.accepts, accept != Accept::Backlog) != l.accepts);
        let wants = it.life.borrow().alive && accept != Accept::Refuse;
        let address = it.state().address;
        let door = std::mem::replace(&mut port.door, Door::Lost);
        port.door = match door {
            Door::Listening(task) if wants => Door::Listening(task),
            Door::Listening(task) => {
                task.abort();
                // Only the end of the task closes the listener.
                task.await.ok();
                bound(address).map_or(Door::Lost, Door::Reserved)
            }
            Door::Reserved(socket) if wants => {
                socket.listen(BACKLOG).map_or(Door::Lost, |l| Door::Listening(accept_on(it, l)))
            }
            Door::Lost if wants => bound(address)
                .and_then(|socket| socket.listen(BACKLOG))
                .map_or(Door::Lost, |l| Door::Listening(accept_on(it, l))),
            other => other,
        };
    }
}

/// A free port `by` above `address`, or a few times as far.
fn drifted(address: SocketAddr, by: u16) -> Option<(TcpSocket, SocketAddr)> {
    (1..=DRIFTS).find_map(|times| {
        let mut next = address;
        next.set_port(address.port().checked_add(by.checked_mul(times)?)?);
        bound(next).ok().map(|socket| (socket, next))
    })
}

/// Takes connections until the task is ended.
async fn accept(engine: Arc<Engine>, listener: TcpListener) {
    let mut life = engine.life.subscribe();
    loop {
        if life.wait_for(|l| !l.paused && l.accepts).await.is_err() {
            return;
        }
        let taken = tokio::select! {
            biased;
            _ = life.changed() => continue,
            taken = listener.accept() => taken,
        };
        let Ok((stream, peer)) = taken else {
            // Out of descriptors, mostly: the next try may do better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let place = Place::take(&engine);
        if let Some(place) = place {
            tokio::spawn(async move {
                serve::connection(Arc::clone(&place.0), stream, peer).await;
                drop(place);
            });
        }
    }
}

/// A connection's place in the engine's count.
struct Place(Arc<Engine>);

impl Place {
    fn take(engine: &Arc<Engine>) -> Option<Self> {
        let mut state = engine.state();
        if state.connections >= MAX_CONNECTIONS {
            return None;
        }
        state.connections += 1;
        Some(Self(Arc::clone(engine)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().connections -= 1;
    }
}
