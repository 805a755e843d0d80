//! A control thread among fakes: shards are mailboxes that the test holds,
//! engines are small servers that behave as told.
#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "test code, though not inside a test function")]

pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod prometheus;

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use millrace_boundary::{
    Counters, Doorbell, Driver, EngineId, EngineTable, Epoch, FromShard, HandedConnection, Inbox, Mailbox,
    ShardId, ShardSample, StreamSample, StreamState, ToShard, latency_histogram, mailbox,
};
use millrace_control::{ControlConfig, FleetConfig, Readiness, Subnet, run};

/// Polls until `condition` gives something, or fails the test.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running control thread.
pub(crate) struct Server {
    pub(crate) control: Mailbox<FromShard>,
    pub(crate) ready: mpsc::Receiver<usize>,
    /// Times it has said that it is alive.
    pub(crate) alive: Arc<AtomicU32>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    listener: TcpListener,
}

pub(crate) struct Options {
    pub(crate) engines: Vec<SocketAddr>,
    pub(crate) shards: usize,
    pub(crate) probe_interval: Duration,
    pub(crate) drain_limit: Duration,
    pub(crate) admins: Vec<Subnet>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engines: Vec::new(),
            shards: 1,
            probe_interval: Duration::from_millis(100),
            drain_limit: Duration::from_secs(1),
            admins: Subnet::LOCAL.into(),
        }
    }
}

impl Server {
    /// Starts one; the inboxes are those of its shards.
    pub(crate) fn start(options: Options) -> (Self, Vec<Inbox<ToShard>>) {
        let (control, inbox) = mailbox(4_096, &Doorbell::new().unwrap());
        let (shards, inboxes) = (0..options.shards).map(|_| mailbox(64, &Doorbell::new().unwrap())).unzip();
        let config = ControlConfig {
            fleet: FleetConfig::Fixed(options.engines.into_iter().map(Into::into).collect()),
            engine_capacity: 3,
            probe_interval: options.probe_interval,
            admins: options.admins,
            address: ([127, 0, 0, 1], 8_000).into(),
            shards,
            inbox,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, ready) = mpsc::channel();
        let alive = Arc::new(AtomicU32::new(0));
        let beats = Arc::clone(&alive);
        let thread = std::thread::spawn(move || {
            let shutdown = async {
                stopped.await.ok();
            };
            let ready = move |ready: Readiness| tell.send(ready.engines_ready).unwrap();
            let alive = || {
                beats.fetch_add(1, Ordering::Relaxed);
            };
            run(config, options.drain_limit, shutdown, ready, alive).unwrap();
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (Self { control, ready, alive, stop: Some(stop), thread: Some(thread), listener }, inboxes)
    }

    /// One with obedient shards and these engines.
    pub(crate) fn with_engines(engines: Vec<SocketAddr>) -> (Self, Obedient) {
        let (server, mut inboxes) = Self::start(Options { engines, ..Options::default() });
        let shard = Obedient::new(0, inboxes.remove(0), server.control.clone());
        (server, shard)
    }

    /// A connection as a client has it, after a shard has read `first` of it.
    pub(crate) fn connect(&self, first: &[u8]) -> TcpStream {
        use std::io::{Read, Write};
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut accepted, peer) = self.listener.accept().unwrap();
        client.write_all(first).unwrap();
        let mut read = vec![0u8; first.len()];
        accepted.read_exact(&mut read).unwrap();
        accepted.set_nonblocking(true).unwrap();
        let socket = OwnedFd::from(accepted);
        let handed = HandedConnection { socket, read: read.into(), peer };
        self.control.offer(FromShard::Connection(Box::new(handed))).unwrap();
        client
    }

    /// The answer to one GET on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> http::Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: tv.example:80\r\nConnection: close\r\n\r\n");
        http::Reader::new(self.connect(request.as_bytes())).answer()
    }

    /// The answer to a request that is not a GET, with `headers` that each end
    /// in a line break.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> http::Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: tv.example:80\r\nConnection: close\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        http::Reader::new(self.connect(request.as_bytes())).answer()
    }

    /// What `/api/v1/engines/{id}` says.
    pub(crate) fn engine(&self, id: usize) -> serde_json::Value {
        self.get(&format!("/api/v1/engines/{id}")).json()
    }

    /// Asks for the end, and says how long it took.
    pub(crate) fn stop(mut self) -> Duration {
        let begun = Instant::now();
        self.shutdown();
        self.thread.take().unwrap().join().expect("the control thread did not panic");
        begun.elapsed()
    }

    /// Asks for the end.
    pub(crate) fn shutdown(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

pub(crate) fn sample(shard: u16, epoch: Epoch) -> ShardSample {
    ShardSample {
        shard: ShardId(shard),
        driver: Driver::Epoll,
        epoch,
        counters: Counters::default(),
        connections_open: 0,
        viewers: 0,
        viewers_waiting: 0,
        waiting: 0,
        streams: Vec::new(),
        blocked: Vec::new(),
        segment_bytes: 0,
        lateness_us: latency_histogram(),
        warm_join_us: latency_histogram(),
        cold_join_us: latency_histogram(),
    }
}

/// A stream that two viewers watch on engine 0.
pub(crate) fn stream(key: &str, state: StreamState) -> StreamSample {
    StreamSample {
        session: "00112233aabbccdd".into(),
        key: key.into(),
        infohash: None,
        state,
        engine: Some(EngineId(0)),
        sources: 1,
        verdict: None,
        shard: ShardId(0),
        viewers: 2,
        age_seconds: 12.5,
        first_byte_seconds: Some(1.25),
        bitrate_bps: 4_000_000,
        ingress_bytes: 1,
        egress_bytes: 2,
        window_bytes: 3,
        skipped_bytes: 4,
        continuity_errors: 5,
        clock_jumps: 0,
        peers: Some(7),
        speed_down_kib: Some(500),
        speed_up_kib: Some(20),
        downloaded_bytes: Some(1 << 30),
        uploaded_bytes: Some(1 << 20),
        position_unix: Some(1_700_000_000),
        live_last_unix: Some(1_700_000_010),
    }
}

/// An order that a shard has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Migrate(u64),
    Stop(u64),
    Forgive(Option<String>),
}

/// A shard that adopts, samples and drains at once, on a thread of its own.
pub(crate) struct Obedient {
    end: Arc<AtomicBool>,
    epoch: Arc<AtomicU64>,
    table: Arc<std::sync::Mutex<Arc<EngineTable>>>,
    orders: Arc<std::sync::Mutex<Vec<Order>>>,
    thread: Option<JoinHandle<()>>,
}

impl Obedient {
    pub(crate) fn new(shard: u16, inbox: Inbox<ToShard>, control: Mailbox<FromShard>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let epoch = Arc::new(AtomicU64::new(0));
        let table = Arc::new(std::sync::Mutex::new(Arc::new(EngineTable::default())));
        let orders = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (ended, newest, held) = (Arc::clone(&end), Arc::clone(&epoch), Arc::clone(&table));
        let taken = Arc::clone(&orders);
        let thread = std::thread::spawn(move || {
            let id = ShardId(shard);
            control.offer(FromShard::Sample(Box::new(sample(shard, Epoch(0))))).ok();
            while !ended.load(Ordering::Relaxed) {
                match inbox.take() {
                    Some(ToShard::Table(table)) if table.epoch.0 > newest.load(Ordering::Relaxed) => {
                        newest.store(table.epoch.0, Ordering::Relaxed);
                        control.offer(FromShard::Adopted { shard: id, epoch: table.epoch }).ok();
                        *held.lock().unwrap() = table;
                    }
                    Some(ToShard::Table(_)) => {}
                    Some(ToShard::Stop { session }) => taken.lock().unwrap().push(Order::Stop(session)),
                    Some(ToShard::Migrate { session }) => taken.lock().unwrap().push(Order::Migrate(session)),
                    Some(ToShard::Forgive { key }) => {
                        taken.lock().unwrap().push(Order::Forgive(key.map(String::from)));
                    }
                    Some(ToShard::Drain { .. }) => drop(control.offer(FromShard::Drained { shard: id })),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Self { end, epoch, table, orders, thread: Some(thread) }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    /// The orders taken since this was last asked.
    pub(crate) fn orders(&self) -> Vec<Order> {
        std::mem::take(&mut self.orders.lock().unwrap())
    }

    pub(crate) fn table(&self) -> Arc<EngineTable> {
        Arc::clone(&self.table.lock().unwrap())
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
