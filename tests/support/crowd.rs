//! Many viewers, read by one thread, each with a verifier of its own.

use std::{
    io::{self, ErrorKind, Read},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::signed::{Report, Verifier};
use rustix::event::{Timespec, epoll};

use super::{viewer::Viewer, wait::wait_until};

/// Longest head, or body of a refusal, that is kept.
const MAX_HEAD: usize = 16 << 10;

/// Viewers that read as fast as they can unless they are told to pause.
/// Dropped, they all leave.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: OwnedFd,
    members: Mutex<Vec<Member>>,
    is_over: AtomicBool,
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said that no more will come.
    Closed,
    /// The server, or its kernel, reset it.
    Reset,
    /// The viewer left.
    Left,
}

/// What one viewer has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Status code, once the head has come.
    pub(crate) status: Option<u16>,
    /// Whole head, and the body when it is no stream.
    pub(crate) head: String,
    /// From the request to the first byte of the stream.
    pub(crate) first_byte: Option<Duration>,
    /// The same to the first packet that is no filler.
    pub(crate) picture: Option<Duration>,
    /// Longest time without a byte since the first one, the present included.
    pub(crate) longest_gap: Duration,
    /// How it ended, if it has.
    pub(crate) end: Option<End>,
    /// From the request to that end.
    pub(crate) ended_after: Option<Duration>,
    /// Bytes of the stream.
    pub(crate) bytes: u64,
    /// What the verifier says of them.
    pub(crate) report: Report,
}

impl Seen {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// Stream time from the first packet to the last, at `bitrate_bps`.
    pub(crate) fn run(&self, bitrate_bps: u32) -> Duration {
        let packets = match (self.report.first, self.report.last) {
            (Some(first), Some(last)) => last - first + 1,
            _ => 0,
        };
        Duration::from_micros(packets * 1504 * 1_000_000 / u64::from(bitrate_bps))
    }
}

struct Member {
    socket: Option<TcpStream>,
    is_paused: bool,
    head: Vec<u8>,
    status: Option<u16>,
    verifier: Verifier,
    asked: Instant,
    first: Option<Instant>,
    picture: Option<Instant>,
    latest: Option<Instant>,
    longest_gap: Duration,
    end: Option<(End, Instant)>,
    bytes: u64,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
        let shared = Arc::new(Shared { epoll, members: Mutex::default(), is_over: AtomicBool::new(false) });
        let reading = Arc::clone(&shared);
        let reader = std::thread::spawn(move || reading.read_all());
        Self { shared, reader: Some(reader) }
    }

    /// One more viewer of `path`; returns its place, which counts from 0.
    pub(crate) fn ask(&self, address: SocketAddr, path: &str, verifier: Verifier) -> usize {
        self.add(Viewer::ask(address, path).expect("the server accepts"), verifier)
    }

    /// One more viewer that has asked already and read nothing yet.
    pub(crate) fn add(&self, viewer: Viewer, verifier: Verifier) -> usize {
        let socket = viewer.socket().try_clone().expect("a descriptor");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut members = self.shared.lock();
        let place = members.len();
        self.shared.watch(&socket, place);
        members.push(Member {
            socket: Some(socket),
            is_paused: false,
            head: Vec::new(),
            status: None,
            verifier,
            asked: Instant::now(),
            first: None,
            picture: None,
            latest: None,
            longest_gap: Duration::ZERO,
            end: None,
            bytes: 0,
        });
        place
    }

    /// The viewer stops reading.
    pub(crate) fn pause(&self, place: usize) {
        let mut members = self.shared.lock();
        if let Some(socket) = &members[place].socket {
            epoll::delete(&self.shared.epoll, socket).expect("it was watched");
            members[place].is_paused = true;
        }
    }

    /// The viewer reads again.
    pub(crate) fn resume(&self, place: usize) {
        let mut members = self.shared.lock();
        if let Some(socket) = &members[place].socket {
            self.shared.watch(socket, place);
            members[place].is_paused = false;
        }
    }

    /// The viewer closes its connection.
    pub(crate) fn leave(&self, place: usize) {
        let mut members = self.shared.lock();
        let member = &mut members[place];
        if member.socket.take().is_some() {
            member.end = Some((End::Left, Instant::now()));
        }
    }

    /// All viewers close their connections.
    pub(crate) fn leave_all(&self) {
        let count = self.shared.lock().len();
        (0..count).for_each(|place| self.leave(place));
    }

    /// What one viewer has seen so far.
    pub(crate) fn seen(&self, place: usize) -> Seen {
        self.shared.lock()[place].seen()
    }

    /// What all have seen so far, in their order.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.shared.lock().iter().map(Member::seen).collect()
    }

    /// Waits until `condition` holds of every viewer; panics with the first one
    /// that it does not hold of.
    #[track_caller]
    pub(crate) fn wait_all(&self, limit: Duration, what: &str, condition: impl Fn(&Seen) -> bool) {
        let is_met = wait_until(limit, || self.shared.lock().iter().all(|m| condition(&m.seen())));
        if !is_met {
            let all = self.all();
            let (place, seen) = all.iter().enumerate().find(|(_, s)| !condition(s)).expect("one is not");
            let count = all.iter().filter(|s| !condition(s)).count();
            panic!("{what}: not so for {count} of {} within {limit:?}; viewer {place}: {seen:#?}", all.len());
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            // Its panic was printed where it happened.
            let has_panicked = reader.join().is_err();
            assert!(!has_panicked || std::thread::panicking(), "the crowd's reader panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, socket: &TcpStream, place: usize) {
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).expect("it can be watched");
    }

    fn read_all(&self) {
        let mut buffer = vec![0; 256 << 10];
        let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        while !self.is_over.load(Ordering::Acquire) {
            let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
            let Ok((events, _)) = epoll::wait(&self.epoll, &mut events[..], Some(&pause)) else { continue };
            for event in events.iter() {
                let place = usize::try_from(event.data.u64()).expect("a place");
                // Locked for one viewer at a time, so that others may look.
                self.lock()[place].read(&mut buffer);
            }
        }
    }
}

impl Member {
    fn read(&mut self, buffer: &mut [u8]) {
        let Some(socket) = self.socket.as_mut().filter(|_| !self.is_paused) else { return };
        match socket.read(buffer) {
            Ok(0) => self.finish(End::Closed),
            Ok(count) => self.take(&buffer[..count]),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.finish(End::Reset),
        }
    }

    fn finish(&mut self, end: End) {
        self.note_gap(Instant::now());
        self.socket = None;
        self.end = Some((end, Instant::now()));
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.status == Some(200) {
            return self.body(bytes);
        }
        self.head.extend_from_slice(bytes);
        assert!(self.head.len() < MAX_HEAD + bytes.len(), "a head or refusal over {MAX_HEAD} bytes");
        let Some(at) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else { return };
        let line = String::from_utf8_lossy(&self.head[..at]);
        self.status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        if self.status == Some(200) {
            let rest = self.head.split_off(at + 4);
            self.body(&rest);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.note_gap(now);
        self.latest = Some(now);
        self.bytes += bytes.len() as u64;
        self.verifier.push(bytes, SystemTime::now());
        if self.picture.is_none() && self.verifier.report().first.is_some() {
            self.picture = Some(now);
        }
    }

    fn note_gap(&mut self, now: Instant) {
        if let Some(latest) = self.latest {
            self.longest_gap = self.longest_gap.max(now - latest);
        }
    }

    fn seen(&self) -> Seen {
        let open = self.latest.filter(|_| self.socket.is_some());
        Seen {
            status: self.status,
            head: String::from_utf8_lossy(&self.head).into_owned(),
            first_byte: self.first.map(|first| first - self.asked),
            picture: self.picture.map(|picture| picture - self.asked),
            longest_gap: self.longest_gap.max(open.map_or(Duration::ZERO, |latest| latest.elapsed())),
            end: self.end.map(|(end, _)| end),
            ended_after: self.end.map(|(_, at)| at - self.asked),
            bytes: self.bytes,
            report: self.verifier.report(),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Whole packets, from PAT, PMT and a random access point on, none lost, twice,
/// out of order or damaged, and no jump; at least `run` of stream time.
#[track_caller]
pub(crate) fn assert_unbroken(name: &str, seen: &Seen, bitrate_bps: u32, run: Duration) {
    assert_eq!(seen.status, Some(200), "{name}: {seen:#?}");
    let is_right = seen.report.is_unbroken() && seen.report.signalled_jumps == 0;
    assert!(is_right, "{name}: the stream is damaged: {seen:#?}");
    let got = seen.run(bitrate_bps);
    assert!(got >= run, "{name}: only {got:?} of {run:?}: {seen:#?}");
}
