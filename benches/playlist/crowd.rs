//! Many clients on one thread, each with a connection that stays open and one
//! request at a time. What they cost is little: a `recv` and a `send` for an
//! answer, and of long answers the kernel forgets the bytes unread.

use std::{
    io::Write,
    net::{SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
    net::{RecvFlags, SendFlags},
};

/// Read at once of an answer's beginning: a whole playlist.
const READ: usize = 64 << 10;
/// Forgotten at once of a body, which is not copied.
const FORGET: usize = 1 << 20;
/// Events taken at once.
const EVENTS: usize = 1_024;
/// For one answer while a crowd gathers.
const SOON: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who has it.
    pub(crate) place: usize,
    /// When its last bytes were read.
    pub(crate) at: Instant,
    /// From the request, or from when that was due.
    pub(crate) took: Duration,
    /// Length of its body.
    pub(crate) bytes: u64,
}

struct Client {
    socket: OwnedFd,
    request: Vec<u8>,
    /// When the request that waits for an answer was sent, or was due.
    asked: Option<Instant>,
    head: Vec<u8>,
    /// Length of the body that follows, and how much of it is missing.
    body: Option<(u64, u64)>,
}

/// All of them.
pub(crate) struct Crowd {
    poller: OwnedFd,
    clients: Vec<Client>,
    scratch: Vec<u8>,
    events: Vec<Event>,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            poller: epoll::create(CreateFlags::CLOEXEC)?,
            clients: Vec::new(),
            scratch: vec![0; FORGET],
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// One more, who will ask for `path` over a connection that is idle.
    pub(crate) fn join(&mut self, socket: TcpStream, path: &str) -> Result<()> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let socket = OwnedFd::from(socket);
        let place = EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.poller, &socket, place, EventFlags::IN)?;
        let request = request(path);
        self.clients.push(Client { socket, request, asked: None, head: Vec::new(), body: None });
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// What one of them asks for from now on.
    pub(crate) fn wants(&mut self, place: usize, path: &str) {
        self.clients[place].request = request(path);
    }

    /// Bytes that have come of bodies which are not whole yet.
    pub(crate) fn under_way(&self) -> u64 {
        self.clients.iter().filter_map(|client| client.body).map(|(len, missing)| len - missing).sum()
    }

    /// Whether one of them still waits for its answer.
    pub(crate) fn waits(&self, place: usize) -> bool {
        self.clients[place].asked.is_some()
    }

    /// One of them asks, which was due at `due`.
    pub(crate) fn ask(&mut self, place: usize, due: Instant) -> Result<()> {
        let client = &mut self.clients[place];
        client.asked = Some(due);
        let sent = rustix::net::send(&client.socket, &client.request, SendFlags::NOSIGNAL)?;
        ensure!(sent == client.request.len(), "a request of {sent} bytes fills the connection");
        Ok(())
    }

    /// All of them ask at once.
    pub(crate) fn ask_all(&mut self) -> Result<()> {
        (0..self.len()).try_for_each(|place| self.ask(place, Instant::now()))
    }

    /// Waits for anything to come, for `limit` at most; adds the answers that
    /// are whole now.
    pub(crate) fn hear(&mut self, limit: Duration, answers: &mut Vec<Answer>) -> Result<()> {
        let wait = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
        self.events.clear();
        match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let place = usize::try_from(event.data.u64()).context("no such client")?;
            let client = &mut self.clients[place];
            let Some(bytes) = client.read(&mut self.scratch)? else { continue };
            let asked = client.asked.take().context("an answer without a request")?;
            let at = Instant::now();
            answers.push(Answer { place, at, took: at.saturating_duration_since(asked), bytes });
        }
        Ok(())
    }
}

impl Client {
    /// Reads what is there; the length of the body when the answer is whole.
    fn read(&mut self, scratch: &mut [u8]) -> Result<Option<u64>> {
        let read = match self.body {
            Some((_, missing)) => {
                let most = usize::try_from(missing).unwrap_or(FORGET).min(FORGET);
                rustix::net::recv(&self.socket, &mut scratch[..most], RecvFlags::TRUNC)
            }
            None => rustix::net::recv(&self.socket, &mut scratch[..READ], RecvFlags::empty()),
        };
        let read = match read {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Ok((_, 0)) => bail!("a connection was closed"),
            read => read?.1,
        };
        if let Some((len, missing)) = self.body {
            let missing = missing.checked_sub(read as u64).context("more than the answer")?;
            self.body = (missing > 0).then_some((len, missing));
            return Ok((missing == 0).then_some(len));
        }
        self.head.extend_from_slice(&scratch[..read]);
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let (len, here) = (length(&self.head[..end])?, (self.head.len() - end - 4) as u64);
        self.head.clear();
        let missing = len.checked_sub(here).context("more than the answer")?;
        self.body = (missing > 0).then_some((len, missing));
        Ok((missing == 0).then_some(len))
    }
}

/// The length of the body behind a head, which says that all is well.
fn length(head: &[u8]) -> Result<u64> {
    let head = std::str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "an answer begins {:?}", head.lines().next());
    let field = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    field.context("an answer without a length")?.parse().context("an odd length")
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// A connection, and the body that it answers `path` with; it stays open.
pub(crate) fn first_answer(address: SocketAddrV4, path: &str) -> Result<(TcpStream, String)> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SOON))?;
    let body = next_answer(&socket, path)?;
    Ok((socket, body))
}

/// What comes of asking for `path` over an idle connection.
pub(crate) fn next_answer(mut socket: &TcpStream, path: &str) -> Result<String> {
    socket.write_all(&request(path))?;
    let mut all = Vec::new();
    loop {
        let mut piece = [0; 16 << 10];
        let (_, read) = rustix::net::recv(socket, &mut piece, RecvFlags::empty())?;
        ensure!(read > 0, "no answer to {path}");
        all.extend_from_slice(&piece[..read]);
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let (body, len) = (end + 4, usize::try_from(length(&all[..end])?)?);
        if all.len() >= body + len {
            return Ok(String::from_utf8_lossy(&all[body..]).into_owned());
        }
    }
}
