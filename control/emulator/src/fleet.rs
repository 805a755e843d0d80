//! The engines of one process: their ports, their deaths and returns.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Mutex,
    task::JoinHandle,
    time::Instant,
};

use crate::{EmulatorError, behaviour::Accept, engine::Engine, serve};

/// Connections of one engine; further ones are closed at once.
const MAX_CONNECTIONS: usize = 8192;
const BACKLOG: u32 = 1024;

/// Engines and what listens for them.
pub(crate) struct Fleet {
    pub(crate) engines: Vec<Arc<Engine>>,
    ports: Vec<Mutex<Port>>,
}

struct Port {
    address: SocketAddr,
    door: Door,
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
            let listener = bound(address)
                .and_then(|socket| socket.listen(BACKLOG))
                .map_err(|source| EmulatorError::Bind { address, source })?;
            let address = listener.local_addr().map_err(|source| EmulatorError::Bind { address, source })?;
            ports.push(Mutex::new(Port { address, door: Door::Listening(accept_on(engine, listener)) }));
        }
        Ok(Arc::new(Self { engines, ports }))
    }

    pub(crate) async fn addresses(&self) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for port in &self.ports {
            all.push(port.lock().await.address);
        }
        all
    }

    /// All sockets get RST, the port refuses, the sessions are forgotten.
    pub(crate) async fn kill(&self, engine: usize) {
        let Some(it) = self.engines.get(engine) else { return };
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

    /// A new engine on the same port.
    pub(crate) async fn revive(&self, engine: usize) {
        let Some(it) = self.engines.get(engine) else { return };
        it.life.send_modify(|l| {
            l.alive = true;
            l.paused = false;
        });
        self.settle(engine).await;
    }

    /// Makes the port listen or refuse, as the engine's life and scenario say.
    pub(crate) async fn settle(&self, engine: usize) {
        let (Some(it), Some(port)) = (self.engines.get(engine), self.ports.get(engine)) else { return };
        let mut port = port.lock().await;
        let wants = it.life.borrow().alive && it.behaviour().accept != Accept::Refuse;
        let address = port.address;
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

/// Takes connections until the task is ended.
async fn accept(engine: Arc<Engine>, listener: TcpListener) {
    let mut life = engine.life.subscribe();
    loop {
        if life.wait_for(|l| !l.paused).await.is_err() {
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
