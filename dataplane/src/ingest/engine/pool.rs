//! Connections to one engine that are used again and again.
//!
//! One that the engine has closed while nobody used it costs nothing: the
//! request is sent once more over a new one.

use std::{cell::RefCell, net::SocketAddr, os::fd::AsFd, rc::Rc, time::Duration};

use millrace_boundary::Cause;
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{
    Failure,
    body::Framing,
    classify, clip,
    http::{CONNECT_LIMIT, HEAD_LIMIT, Keep, Parsed, broken, parse_head, request},
};
use crate::{
    context::Context,
    rt::{Link, Notify, TcpStream, into_owned, sleep, within},
};

/// Connections that are kept while nobody uses them: one source has two
/// segments and a playlist under way at most.
const IDLE_MOST: usize = 3;
/// Of a head, read at a time.
const READ: usize = 16 << 10;
/// An engine that sends nothing of an answer for this long sends no more.
pub(in crate::ingest) const PROGRESS_LIMIT: Duration = Duration::from_secs(5);
/// Of an answer that is an error, read at most.
const TEXT_LIMIT: usize = 4 << 10;
/// And for at most this long.
const TEXT_TIME: Duration = Duration::from_secs(1);

/// For so long after it has closed its connections a process that is killed may
/// still take others, which it never answers.
const LAST_BREATH: Duration = Duration::from_millis(200);
/// Connections tried, one after the other, to know that an engine is there.
const TRIES: usize = 3;

/// The connections.
pub(in crate::ingest) struct Pool {
    context: Rc<Context>,
    engine: SocketAddr,
    idle: RefCell<Vec<Link>>,
    /// One more is kept.
    kept: Notify,
}

/// A response head, and the body behind it.
pub(in crate::ingest) struct Reply {
    link: Link,
    pub(in crate::ingest) status: u16,
    pub(in crate::ingest) location: Option<String>,
    framing: Framing,
    /// What was read beyond the head, framing included.
    rest: Vec<u8>,
    /// The body has come to its end.
    is_over: bool,
    /// Another request may follow it.
    keeps_open: bool,
}

/// Why no answer came.
enum Lost {
    /// Not a byte of it: an engine that closes an idle connection does that.
    Before(Failure),
    /// Or what came is none.
    Within(Failure),
}

impl Lost {
    fn into_failure(self) -> Failure {
        match self {
            Self::Before(failure) | Self::Within(failure) => failure,
        }
    }
}

impl Pool {
    pub(in crate::ingest) fn new(context: &Rc<Context>, engine: SocketAddr) -> Self {
        Self { context: Rc::clone(context), engine, idle: RefCell::default(), kept: Notify::default() }
    }

    /// Asks for `target`; the head of the answer has to be there within `limit`.
    pub(in crate::ingest) async fn ask(&self, target: &str, limit: Duration) -> Result<Reply, Failure> {
        let answer = within(limit, self.exchange(target)).await;
        self.context.count(|c| c.hls_requests += 1);
        answer.ok_or_else(|| {
            Failure::new(Cause::EngineSilent, format!("engine {} does not answer in time", self.engine))
        })?
    }

    /// Takes the connection of an answer back, if it can be used again.
    pub(in crate::ingest) fn take_back(&self, reply: Reply) {
        if reply.is_over && reply.keeps_open && self.keep(reply.link) {
            self.kept.call();
        }
    }

    fn keep(&self, link: Link) -> bool {
        let mut idle = self.idle.borrow_mut();
        let has_room = idle.len() < IDLE_MOST;
        if has_room {
            idle.push(link);
        }
        has_room
    }

    /// Waits until the engine has closed a connection that nobody used and takes
    /// no other: it is gone, which is seen here long before the next question.
    ///
    /// One that only closes what is idle is tried once for each connection kept, or
    /// three times where it closes that as well.
    pub(in crate::ingest) async fn engine_goes(&self) -> Failure {
        loop {
            self.kept.called().await;
            if !self.is_closed_while_idle().await {
                continue;
            }
            self.idle.borrow_mut().retain(is_quiet);
            for _ in 0..TRIES {
                let link = match self.connect().await {
                    Ok(link) => link,
                    Err(failure) => return failure,
                };
                sleep(LAST_BREATH).await;
                if is_quiet(&link) {
                    self.keep(link);
                    break;
                }
            }
        }
    }

    /// Waits for something to come on the connection that is used last of all:
    /// an answer, or its end.
    async fn is_closed_while_idle(&self) -> bool {
        let twin = |link: &Link| link.as_fd().try_clone_to_owned().and_then(Link::new);
        let watched = self.idle.borrow().first().map(twin);
        let Some(Ok(watched)) = watched else { return false };
        watched.readable().await.is_ok()
            && !matches!(peek(&watched), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
    }

    async fn exchange(&self, target: &str) -> Result<Reply, Failure> {
        let request = request(self.engine, target, None, Keep::Open);
        if let Some(link) = self.idle() {
            match self.answer(link, request.as_bytes()).await {
                Ok(reply) => {
                    self.context.count(|c| c.hls_reused += 1);
                    return Ok(reply);
                }
                Err(Lost::Before(_)) => {}
                Err(Lost::Within(failure)) => return Err(failure),
            }
        }
        let link = self.connect().await?;
        self.answer(link, request.as_bytes()).await.map_err(Lost::into_failure)
    }

    /// The connection used last on which nothing has come since, not even its end.
    fn idle(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let link = idle.pop()?;
            if is_quiet(&link) {
                return Some(link);
            }
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let engine = self.engine;
        let failed =
            |e: std::io::Error| Failure::new(Cause::EngineUnreachable, format!("engine {engine}: {e}"));
        let socket = within(CONNECT_LIMIT, TcpStream::connect_addr(engine)).await.ok_or_else(|| {
            Failure::new(Cause::EngineUnreachable, format!("engine {engine} does not accept"))
        })?;
        into_owned(socket.map_err(failed)?).and_then(Link::new).map_err(failed)
    }

    async fn answer(&self, link: Link, request: &[u8]) -> Result<Reply, Lost> {
        let before = |e| Lost::Before(broken(&e));
        let mut left = request;
        while !left.is_empty() {
            match send(&link, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => left = &left[n..],
                Err(Errno::AGAIN | Errno::INTR) => link.writable().await.map_err(before)?,
                Err(error) => return Err(before(error.into())),
            }
        }
        let mut head = Vec::new();
        loop {
            link.readable().await.map_err(before)?;
            let read = self.context.with_scratch(|buffer| {
                recv(&link, &mut buffer[..READ], RecvFlags::DONTWAIT).map(|(n, _)| {
                    head.extend_from_slice(&buffer[..n]);
                    n
                })
            });
            let lost = if head.is_empty() { Lost::Before } else { Lost::Within };
            match read {
                Ok(0) => {
                    let detail = "engine closes without an answer";
                    return Err(lost(Failure::new(Cause::EngineError, detail)));
                }
                Ok(n) => self.context.count(|c| c.ingress_bytes += n as u64),
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(lost(broken(&error.into()))),
            }
            if let Some(parsed) = parse_head(&head).map_err(Lost::Within)? {
                let rest = head.split_off(parsed.len);
                return Ok(Reply::new(link, parsed, rest));
            }
            if head.len() > HEAD_LIMIT {
                let detail = "engine sends a head longer than 16 KiB";
                return Err(Lost::Within(Failure::new(Cause::EngineError, detail)));
            }
        }
    }
}

/// What a read would give, by its length: none at the end.
fn peek(link: &Link) -> Result<usize, Errno> {
    recv(link, &mut [0u8; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK).map(|(n, _)| n)
}

/// Whether nothing has come, not even the end.
fn is_quiet(link: &Link) -> bool {
    matches!(peek(link), Err(Errno::AGAIN))
}

impl Reply {
    fn new(link: Link, parsed: Parsed, rest: Vec<u8>) -> Self {
        let Parsed { status, location, framing, keeps_open, .. } = parsed;
        let is_over = matches!(framing, Framing::Length(0));
        let mut reply = Self { link, status, location, framing, rest, is_over, keeps_open };
        reply.look_behind(0);
        reply
    }

    /// What comes behind the end, so many bytes or more, would be taken for the
    /// next answer.
    fn look_behind(&mut self, surplus: usize) {
        if self.is_over && (surplus > 0 || !self.rest.is_empty()) {
            self.keeps_open = false;
        }
    }

    /// Whether all of the body was read.
    pub(in crate::ingest) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Waits until there is more of the body.
    pub(in crate::ingest) async fn readable(&self) -> Result<(), Failure> {
        if !self.rest.is_empty() {
            return Ok(());
        }
        let ready = within(PROGRESS_LIMIT, self.link.readable()).await;
        ready
            .ok_or_else(|| Failure::new(Cause::EngineSilent, "engine sends no more of an answer"))?
            .map_err(|e| broken(&e))
    }

    /// Reads once, without waiting; the payload is then at the front of `buffer`.
    ///
    /// # Errors
    /// When the body ends before its end.
    pub(in crate::ingest) fn read(&mut self, context: &Context, buffer: &mut [u8]) -> Result<usize, Failure> {
        let n = match self.rest.len().min(buffer.len()) {
            0 => match recv(&self.link, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.closed(),
                Ok((n, _)) => {
                    context.count(|c| c.ingress_bytes += n as u64);
                    n
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
                Err(error) => return Err(broken(&error.into())),
            },
            n => {
                buffer[..n].copy_from_slice(&self.rest[..n]);
                self.rest.drain(..n);
                n
            }
        };
        let unframed = self.framing.unframe(&mut buffer[..n]);
        if unframed.broken {
            return Err(Failure::new(Cause::EngineReset, "engine breaks its chunked framing"));
        }
        self.is_over = unframed.ended;
        let surplus = if matches!(self.framing, Framing::Length(_)) { n - unframed.payload } else { 0 };
        self.look_behind(surplus);
        Ok(unframed.payload)
    }

    fn closed(&mut self) -> Result<usize, Failure> {
        self.keeps_open = false;
        self.is_over = matches!(self.framing, Framing::Close);
        match self.is_over {
            true => Ok(0),
            false => Err(Failure::new(Cause::EngineReset, "engine closes before the end of an answer")),
        }
    }

    /// The whole body, up to the cap.
    pub(in crate::ingest) async fn body(
        &mut self,
        context: &Context,
        limit: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while !self.is_over {
            self.readable().await?;
            context.with_scratch(|buffer| {
                let n = self.read(context, &mut buffer[..READ])?;
                body.extend_from_slice(&buffer[..n]);
                Ok(())
            })?;
            if body.len() > limit {
                let detail = format!("engine answers more than {limit} bytes");
                return Err(Failure::new(Cause::EngineError, detail));
            }
        }
        Ok(body)
    }

    /// What an answer that is neither the thing asked for nor a redirect says.
    pub(in crate::ingest) async fn complaint(&mut self, context: &Context) -> Failure {
        let status = self.status;
        if status == 403 {
            return Failure::new(Cause::SessionLost, "engine says 403: the session was replaced");
        }
        let text = within(TEXT_TIME, self.body(context, TEXT_LIMIT)).await;
        let text = String::from_utf8_lossy(&text.and_then(Result::ok).unwrap_or_default()).into_owned();
        Failure::new(classify(&text, ""), format!("engine answers {status}: {}", clip(&text)))
    }
}
