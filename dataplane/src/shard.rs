//! One shard: its start and its loops.

use std::{
    cell::{Cell, RefCell},
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use millrace_boundary::{
    Cause, Doorbell, Driver, FromShard, HandedConnection, Inbox, Mailbox, Monotonic, Operation, Outcome,
    ShardId, ShardSample, ToShard, ViewerEnd, mailbox,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;

use crate::{
    Config,
    context::{Context, Totals},
    fanout::{Arrival, Fanout, Interest},
    hls::Hall,
    http::{
        content::{Content, Policy},
        players::{self, Patience},
        request::Wish,
        response::Refusal,
        server::{self, Over, Turned},
    },
    inbox::{Found, Peer, Registry},
    ingest::queue,
    rt::{self, Breath, Notify, Pollable, TcpListener, TcpStream, sleep, sleep_until, spawn, unless_called},
    segment::{Discarder, discard_some},
    slice::run_promptly,
    stream::{Ended, SessionId},
};

/// Messages of control that may wait. They are state, not diffs: a table that
/// is not taken is offered again.
const CONTROL_MAIL: usize = 64;
/// Messages of other shards that may wait. Full, viewers of streams owned by
/// the shard are refused with 503.
const PEER_MAIL: usize = 4096;
/// Connections that may be pending in the kernel, per shard.
const BACKLOG: i32 = 4096;
/// Connections whose request is still being read, per shard. Beyond, the
/// oldest ones have to finish or time out before more are accepted.
const READING: u32 = 4096;
/// How often sessions look at the clock.
const SESSION_TICK: Duration = Duration::from_millis(50);
/// Sessions are looked at for so long before the shard looks who has come.
const TICKS_AT_ONCE: Duration = Duration::from_micros(30);
/// How often control is told.
const SAMPLE: Duration = Duration::from_secs(1);
/// Streams named in a sample.
const NAMED_STREAMS: usize = 1_000;
/// Contents that rest after failures named in a sample.
const NAMED_BLOCKED: usize = 100;
/// A connection that the peer's machine no longer acknowledges is dropped.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// After a failed accept, which means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not offer this congestion control to the process.
    #[error("cannot use congestion control {name}")]
    Congestion {
        /// Its name.
        name: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The process has no descriptors, threads or memory left for a shard.
    #[error("cannot make a shard")]
    Shard(#[source] std::io::Error),
}

/// Shards that listen already and wait for their threads.
#[derive(Debug)]
pub struct Prepared {
    /// The address listened on, with the port the kernel chose.
    pub address: SocketAddr,
    /// Control's way to each shard, in order.
    pub mailboxes: Vec<Mailbox<ToShard>>,
    /// The shards; each is to be run on a thread of its own.
    pub seeds: Vec<ShardSeed>,
}

/// A shard before it has a thread.
#[derive(Debug)]
pub struct ShardSeed {
    id: ShardId,
    config: Config,
    listener: OwnedFd,
    bell: Doorbell,
    orders: Inbox<ToShard>,
    mail: Inbox<Peer>,
    peers: Vec<Mailbox<Peer>>,
    control: Mailbox<FromShard>,
    totals: Arc<Totals>,
    discarder: Discarder,
}

/// Binds one listener per shard and makes their mailboxes.
///
/// # Errors
/// When the address is taken, the process lacks descriptors, or the kernel
/// does not offer the congestion control.
pub fn prepare(config: Config, shards: u16, control: Mailbox<FromShard>) -> Result<Prepared, StartError> {
    let mut address = config.listen;
    let totals = Arc::new(Totals::new(shards));
    let discarder = Discarder::start().map_err(StartError::Shard)?;
    let (mut mailboxes, mut peers, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..shards {
        let listener = listen(address, &config)?;
        address = local_address(&listener).map_err(StartError::Shard)?;
        let bell = Doorbell::new().map_err(StartError::Shard)?;
        let (to_shard, orders) = mailbox(CONTROL_MAIL, &bell);
        let (to_peer, mail) = mailbox(PEER_MAIL, &bell);
        mailboxes.push(to_shard);
        peers.push(to_peer);
        seeds.push(ShardSeed {
            id: ShardId(index),
            config: config.clone(),
            listener,
            bell,
            orders,
            mail,
            peers: Vec::new(),
            control: control.clone(),
            totals: Arc::clone(&totals),
            discarder: discarder.clone(),
        });
    }
    for seed in &mut seeds {
        seed.peers.clone_from(&peers);
    }
    Ok(Prepared { address, mailboxes, seeds })
}

/// A listener whose options its connections inherit.
fn listen(address: SocketAddr, config: &Config) -> Result<OwnedFd, StartError> {
    let failed = |source| StartError::Listen { address: config.listen, source };
    let socket = socket(address, config).map_err(failed)?;
    // Here and not on each connection: to change it there doubles the CPU time.
    if let Some(name) = &config.viewer.congestion {
        sockopt::set_tcp_congestion(&socket, name)
            .map_err(|source| StartError::Congestion { name: name.clone(), source: source.into() })?;
    }
    rustix::net::bind(&socket, &address).map_err(|e| failed(e.into()))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|e| failed(e.into()))?;
    Ok(socket)
}

fn socket(address: SocketAddr, config: &Config) -> std::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_socket_send_buffer_size(&socket, config.viewer.send_buffer as usize)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    let millis = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, millis)?;
    SockRef::from(&socket).set_tcp_notsent_lowat(config.viewer.unsent_limit)?;
    Ok(socket)
}

fn local_address(listener: &OwnedFd) -> std::io::Result<SocketAddr> {
    let address = rustix::net::getsockname(listener)?;
    SocketAddr::try_from(address).map_err(Into::into)
}

impl ShardSeed {
    /// Runs the shard on this thread until the process ends; `started` hears
    /// which driver the kernel allows, before the first connection is accepted.
    ///
    /// # Errors
    /// When neither driver can be built.
    pub fn run(self, started: impl FnOnce(Driver)) -> Result<(), StartError> {
        self.discarder.serve_thread();
        if let Err(error) = run_promptly() {
            tracing::debug!(%error, "the shard has the usual slices of time");
        }
        rt::run(|driver| async move {
            let shard = Rc::new(Shard::new(self, driver)?);
            started(driver);
            shard.run().await
        })
        .map_err(StartError::Shard)?
        .map_err(StartError::Shard)
    }
}

/// A running shard.
struct Shard {
    context: Rc<Context>,
    driver: Driver,
    listener: TcpListener,
    bell: Doorbell,
    orders: Inbox<ToShard>,
    mail: Inbox<Peer>,
    registry: Rc<Registry>,
    hall: Hall,
    interest: Rc<Interest>,
    fanout: RefCell<Fanout>,
    /// Somebody has come to a wheel that stood still.
    arrival: Notify,
    reading: Cell<u32>,
}

impl Shard {
    fn new(seed: ShardSeed, driver: Driver) -> std::io::Result<Self> {
        let ShardSeed { id, config, listener, bell, orders, mail, peers, control, totals, discarder: _ } =
            seed;
        let context = Context::new(id, config, totals, peers, control);
        let interest = Rc::new(Interest::new()?);
        // A blocking listener blocks the whole shard on epoll; on io_uring a
        // non-blocking one gives EAGAIN instead of waiting.
        rustix::io::ioctl_fionbio(&listener, driver == Driver::Epoll)?;
        let registry = Rc::<Registry>::default();
        let hall = Hall::new(Rc::clone(&context), Rc::clone(&registry), driver);
        let fanout = Fanout::new(Rc::clone(&context), Rc::clone(&interest), Monotonic::now());
        Ok(Self {
            context,
            driver,
            listener: TcpListener::from_std(StdTcpListener::from(listener))?,
            bell,
            orders,
            mail,
            registry,
            hall,
            interest,
            fanout: RefCell::new(fanout),
            arrival: Notify::default(),
            reading: Cell::new(0),
        })
    }

    /// Runs all loops; the shard ends with the process.
    async fn run(self: Rc<Self>) -> std::io::Result<()> {
        let news = Pollable::new(&self.interest)?;
        let bell = Pollable::new(&self.bell)?;
        spawn(Rc::clone(&self).accept());
        spawn(Rc::clone(&self).turn(Breath::new(self.driver)?));
        spawn(Rc::clone(&self).hear(news, Breath::new(self.driver)?));
        spawn(Rc::clone(&self.context.turns).keep(Breath::new(self.driver)?));
        spawn(Rc::clone(&self).watch_sessions(Breath::new(self.driver)?));
        spawn(give_memory_back(Breath::new(self.driver)?));
        spawn(queue::serve(Rc::clone(&self.context)));
        spawn(queue::tell_demand(Rc::clone(&self.context)));
        spawn(Rc::clone(&self).report());
        spawn(tell_performance(Rc::clone(&self.context)));
        loop {
            bell.readable().await?;
            self.bell.silence();
            self.obey_all();
            while let Some(message) = self.mail.take() {
                self.read_mail(message);
            }
        }
    }

    /// Does what control has told so far.
    fn obey_all(self: &Rc<Self>) {
        while let Some(order) = self.orders.take() {
            self.obey(order);
        }
    }

    fn obey(self: &Rc<Self>, order: ToShard) {
        match order {
            ToShard::Table(table) => self.context.adopt(table),
            ToShard::Drain { deadline } => {
                if !self.context.is_draining() {
                    self.context.drain();
                    spawn(Rc::clone(self).drain(deadline));
                }
            }
            ToShard::Migrate { session } => {
                if let Some(session) = self.registry.session(SessionId(session)) {
                    session.migrate(&self.context, Monotonic::now());
                }
            }
            ToShard::Stop { session } => {
                let (id, now) = (SessionId(session), Monotonic::now());
                if let Some(session) = self.registry.session(id) {
                    session.stop(&self.context, now);
                }
                self.fanout.borrow_mut().stop(id, now);
            }
            ToShard::Forgive { key } => self.context.memory.borrow_mut().forgive(key.as_deref()),
        }
    }

    fn read_mail(&self, message: Peer) {
        match message {
            Peer::Open { content, from } => {
                let outcome = match self.registry.find(&self.context, &content) {
                    Found::Here(seat) => Ok(seat),
                    Found::Refused(ended) => Err(ended),
                    // Shards agree on owners, so this cannot be.
                    Found::Ask(_) => return,
                };
                let key = content.key;
                self.context.tell_peer(usize::from(from.0), Peer::Opened { key, outcome });
            }
            Peer::News(session) => self.hall.desk.news(session),
            Peer::Find { session, from } => {
                let stream = self.registry.stream(session);
                self.context.tell_peer(usize::from(from.0), Peer::Known { session, stream });
            }
            Peer::Known { session, stream } => self.hall.desk.known(session, stream),
            Peer::Watches { session, viewer } => {
                if let Some(stream) = self.registry.stream(session) {
                    // One who may not enter is refused when it asks here.
                    self.hall.desk.watches(&self.context, viewer, &stream, Monotonic::now()).ok();
                }
            }
            Peer::Opened { key, outcome } => {
                self.hall.opened(&key, &outcome);
                if let Ok(seat) = &outcome {
                    self.registry.learn(key.clone(), Arc::clone(seat.stream()));
                }
                self.fanout.borrow_mut().answered(&key, &outcome, Monotonic::now());
                self.arrival.call();
            }
            Peer::Claim { key, stream } => self.registry.claim(key, stream),
            Peer::SlotFreed => self.context.queue.call(),
        }
    }

    /// Accepts connections until the shard drains.
    async fn accept(self: Rc<Self>) {
        while !self.context.is_draining() {
            if self.reading.get() >= READING {
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    self.context.count(|c| c.connections += 1);
                    self.reading.set(self.reading.get() + 1);
                    spawn(Rc::clone(&self).serve(socket, peer));
                }
                Err(error) => {
                    tracing::warn!(shard = %self.context.id, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, socket: TcpStream, peer: SocketAddr) {
        let policy = Policy { private_urls: self.context.config.stream.private_urls };
        let turned = server::serve(socket, policy).await;
        self.reading.set(self.reading.get() - 1);
        // Whoever asks because control says that an engine is ready has to find it.
        self.obey_all();
        let over = match turned {
            Turned::Hls(socket, ask, rest) => {
                self.context.count(|c| c.requests += 1);
                self.hall.serve(socket, *ask, rest, policy).await
            }
            Turned::Over(over) => over,
        };
        match over {
            Over::Viewer(socket, wish) => {
                self.context.count(|c| c.requests += 1);
                self.admit(socket, &wish);
            }
            Over::Control(socket, read) => {
                self.context.count(|c| c.requests += 1);
                self.context.tell(FromShard::Connection(Box::new(HandedConnection { socket, read, peer })));
            }
            Over::Closed { refused } => self.context.count(|c| match refused {
                Some(_) => c.bad_requests += 1,
                None => c.requests += 1,
            }),
        }
    }

    /// Gives a viewer its stream, or a reason why not.
    fn admit(&self, socket: OwnedFd, wish: &Wish) {
        let now = Monotonic::now();
        let config = &self.context.config.viewer;
        let content = &wish.content;
        let permit = match self.context.viewer_permit() {
            Ok(permit) => permit,
            Err(ended) => return self.refuse(&socket, &ended, now),
        };
        let usual = Patience::Headers(config.headers_after);
        let patience =
            wish.patience.unwrap_or_else(|| players::patience(&wish.agent, &config.players, usual));
        let arrival = Arrival { socket, permit, asked: now, patience };
        match self.registry.find(&self.context, content) {
            Found::Here(seat) => self.fanout.borrow_mut().seat(arrival, seat, now),
            Found::Ask(owner) => self.ask(owner, arrival, content, now),
            Found::Refused(ended) => self.refuse(&arrival.socket, &ended, now),
        }
        self.arrival.call();
    }

    fn ask(&self, owner: usize, arrival: Arrival, content: &Content, now: Monotonic) {
        let first = self.fanout.borrow_mut().ask(arrival, &content.key);
        let message = Peer::Open { content: Box::new(content.clone()), from: self.context.id };
        if first && !self.context.tell_peer(owner, message) {
            let refused = Err(Ended::new(Cause::AtCapacity, "too many streams are being opened"));
            self.fanout.borrow_mut().answered(&content.key, &refused, now);
        }
    }

    fn refuse(&self, socket: &OwnedFd, ended: &Ended, asked: Monotonic) {
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        rustix::net::send(socket, &Refusal::ended(ended).to_bytes(), flags).ok();
        rustix::net::shutdown(socket, rustix::net::Shutdown::Write).ok();
        self.context.count(|c| {
            c.refusals[ended.cause.index()] += 1;
            c.viewers_ended[ViewerEnd::Refused.index()] += 1;
        });
        self.context.record(Operation::ViewerJoin, asked, Monotonic::now(), Outcome::Failed);
    }

    /// Turns the wheel; stands still while there is nobody.
    async fn turn(self: Rc<Self>, breath: Breath) {
        loop {
            if self.fanout.borrow().len() == 0 {
                self.arrival.called().await;
                self.fanout.borrow_mut().resume(Monotonic::now());
            }
            let next = self.fanout.borrow().next_turn();
            // Whoever arrives may have to be seen to before that.
            unless_called(&self.arrival, sleep_until(next)).await;
            while self.fanout.borrow_mut().step(Monotonic::now()) {
                breath.take().await;
            }
        }
    }

    async fn hear(self: Rc<Self>, news: Pollable, breath: Breath) {
        while news.readable().await.is_ok() {
            while self.fanout.borrow_mut().hear() {
                breath.take().await;
            }
            if self.fanout.borrow().has_due() {
                self.arrival.call();
            }
        }
    }

    async fn watch_sessions(self: Rc<Self>, breath: Breath) {
        loop {
            sleep(SESSION_TICK).await;
            let mut now = Monotonic::now();
            let mut began = now;
            for session in self.registry.sessions() {
                session.tick(&self.context, now);
                now = Monotonic::now();
                if now.since(began) >= TICKS_AT_ONCE {
                    breath.take().await;
                    now = Monotonic::now();
                    began = now;
                }
            }
            self.registry.sweep();
            self.hall.desk.sweep(&self.context, now);
        }
    }

    async fn report(self: Rc<Self>) {
        loop {
            self.context.tell(FromShard::Sample(Box::new(self.sample())));
            sleep(SAMPLE).await;
        }
    }

    fn sample(&self) -> ShardSample {
        let now = Monotonic::now();
        let mut fanout = self.fanout.borrow_mut();
        fanout.report();
        let sessions = self.registry.sessions();
        let metrics = fanout.metrics();
        ShardSample {
            shard: self.context.id,
            driver: self.driver,
            epoch: self.context.table().epoch,
            counters: self.context.counters(),
            connections_open: (fanout.len() + self.hall.open()) as u64 + u64::from(self.reading.get()),
            viewers: (fanout.sending() + self.hall.desk.guests()) as u64,
            viewers_waiting: fanout.waiting() as u64,
            waiting: self.context.queue.waiting(),
            segment_bytes: self.context.held.bytes(),
            streams: sessions
                .iter()
                .take(NAMED_STREAMS)
                .filter_map(|s| s.sample(&self.context, now))
                .collect(),
            blocked: self.context.memory.borrow().resting(NAMED_BLOCKED, now),
            lateness_us: metrics.lateness_us.clone(),
            warm_join_us: metrics.warm_join_us.clone(),
            cold_join_us: metrics.cold_join_us.clone(),
        }
    }

    /// Ends every viewer and every session, and says when that is done.
    async fn drain(self: Rc<Self>, deadline: Monotonic) {
        let now = Monotonic::now();
        self.fanout.borrow_mut().drain(now);
        for session in self.registry.sessions() {
            session.drain(&self.context, now);
        }
        while Monotonic::now() < deadline && (self.registry.running() > 0 || self.context.stops() > 0) {
            sleep(Duration::from_millis(5)).await;
            self.registry.sweep();
        }
        loop {
            self.context.tell(FromShard::Drained { shard: self.context.id });
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// On a task of its own: a shard that hardly gets to it still looks at its sessions.
async fn give_memory_back(breath: Breath) {
    loop {
        sleep(SESSION_TICK).await;
        while discard_some() {
            breath.take().await;
        }
    }
}

/// Tells control what operations took, as soon as a second is over, for ever.
async fn tell_performance(context: Rc<Context>) {
    loop {
        let second = Monotonic::now().0.as_secs();
        sleep_until(Monotonic(Duration::from_secs(second + 1))).await;
        context.close_second(Monotonic::now());
    }
}
