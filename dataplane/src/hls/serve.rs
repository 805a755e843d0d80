//! One connection of an HLS player, request by request.

use std::{mem::MaybeUninit, os::fd::OwnedFd, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use millrace_boundary::{Cause, Driver, Monotonic, Operation, Outcome};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, sockopt},
};

use super::{
    answer::Answer,
    desk::{Desk, why_closed},
    list::{Body, List, Slice},
    playlist,
    request::{Ask, AtLeast, Want},
    token::{Seal, Token},
};
use crate::{
    context::{Context, random},
    http::{
        content::{Content, Policy},
        request::{Asked, HEAD_LIMIT, parse},
        response::Refusal,
        server::{Over, small_answer},
    },
    inbox::{Found, Peer, Registry, current},
    rt::{Link, Notify, unless_called, within},
    stream::{ContentKey, Ended, Seat, Stream},
};

/// A connection without a request is kept for this long: several reloads.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// A request has to be whole within this, from its first byte.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Whoever waits looks again after this, should a message have been lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The same of who waits for a segment or a part; longer than a part lasts, so
/// that it is seldom needed.
const BLOCKED_LOOK: Duration = Duration::from_secs(2);
/// A home shard has this long to say which stream a session is.
const FIND_LIMIT: Duration = Duration::from_secs(1);
/// Whoever has been given an address has this long to ask for more, during which
/// the stream is not let go.
const EXPECTED_FOR: Duration = Duration::from_secs(6);
/// An owner has this long to open a content's stream.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// A blocked request is answered after so many target durations at the latest
/// (draft-pantos-hls-rfc8216bis §6.2.5.2).
const BLOCKED_FOR: u32 = 3;
/// Asked for what comes more segments later than this, a playlist is refused
/// (the same).
const MOST_AHEAD: u64 = 2;
/// Connections kept open between two requests, per shard.
const MOST_OPEN: usize = 16_384;
/// From so many connections on some are likely to be answered at the same time.
const MANY: usize = 16;
/// Read at a time; requests are smaller.
const READ: usize = 2 << 10;
/// A viewer that asks often is noted this often.
const NOTE_PAUSE: Duration = Duration::from_secs(1);
/// Sent between two looks at anything else.
const SEND_LIMIT: usize = 256 << 10;
/// After the last answer, this long for the other end to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Where HLS players of one shard are served.
pub(crate) struct Hall {
    context: Rc<Context>,
    registry: Rc<Registry>,
    driver: Driver,
    seal: Seal,
    pub(crate) desk: Desk,
    open: std::cell::Cell<usize>,
}

/// Why there is no answer to give.
enum Off {
    /// The player is gone.
    Left,
    /// It is told why.
    Refused(Refusal),
    /// It is to ask elsewhere.
    Elsewhere(String),
}

impl From<Ended> for Off {
    fn from(ended: Ended) -> Self {
        Self::Refused(Refusal::ended(&ended))
    }
}

/// One connection.
struct Connection {
    link: Link,
    /// What has been read of requests to come.
    read: Vec<u8>,
    /// Whose last request it was.
    known: Option<Known>,
}

/// A viewer that has asked over a connection.
struct Known {
    /// The token as text, and what it says.
    text: Box<str>,
    token: Token,
    /// When it was noted that the viewer is there.
    noted: Option<Monotonic>,
}

impl Hall {
    pub(crate) fn new(context: Rc<Context>, registry: Rc<Registry>, driver: Driver) -> Self {
        let seal = context.totals.seal.clone();
        Self { context, registry, driver, seal, desk: Desk::default(), open: std::cell::Cell::new(0) }
    }

    /// Answers `ask` and what follows it on the connection, of which `rest` has
    /// been read already, until it ends or turns out to be somebody else's.
    pub(crate) async fn serve(&self, socket: OwnedFd, ask: Ask, rest: Vec<u8>, policy: Policy) -> Over {
        let Ok(link) = Link::new(socket) else { return Over::Closed { refused: None } };
        link.let_wait(self.driver == Driver::Uring);
        self.open.set(self.open.get() + 1);
        let over = self.serve_all(Connection { link, read: rest, known: None }, ask, policy).await;
        self.open.set(self.open.get() - 1);
        over
    }

    /// Connections being served.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    async fn serve_all(&self, mut connection: Connection, mut ask: Ask, policy: Policy) -> Over {
        loop {
            let stays = ask.keeps_open && self.open.get() <= MOST_OPEN && !self.context.is_draining();
            let (answer, stays) = match self.answer(&mut connection, &ask, stays).await {
                Ok(answer) => (answer, stays),
                Err(Off::Left) => return Over::Closed { refused: None },
                Err(Off::Elsewhere(location)) => (Answer::elsewhere(&location, stays), stays),
                Err(Off::Refused(refusal)) => (Answer::refusal(&refusal), false),
            };
            if !self.send(&mut connection.link, answer, ask.is_head).await {
                return Over::Closed { refused: None };
            }
            if !stays {
                connection.finish().await;
                return Over::Closed { refused: None };
            }
            match connection.next(policy).await {
                None => return Over::Closed { refused: None },
                Some(Asked::Hls(next, len)) => {
                    connection.read.drain(..len);
                    self.context.count(|c| c.requests += 1);
                    ask = *next;
                }
                Some(Asked::Stream(wish)) => return Over::Viewer(connection.link.into_owned(), wish),
                Some(Asked::Other) => {
                    return Over::Control(connection.link.into_owned(), connection.read.into_boxed_slice());
                }
                Some(asked) => {
                    let (bytes, refused) = small_answer(asked);
                    self.send_small(&mut connection.link, bytes.into()).await;
                    connection.finish().await;
                    return Over::Closed { refused };
                }
            }
        }
    }

    async fn answer(&self, connection: &mut Connection, ask: &Ask, open: bool) -> Result<Answer, Off> {
        match &ask.want {
            Want::Preflight => Ok(Answer::preflight()),
            Want::Multivariant(_) if ask.is_head => Ok(Answer::playlist_head(open)),
            Want::Multivariant(content) => {
                let began = Monotonic::now();
                let begun = self.begin(connection, content).await;
                let outcome = match begun {
                    Ok(_) => Some(Outcome::Worked),
                    Err(Off::Left) => None,
                    Err(Off::Refused(_) | Off::Elsewhere(_)) => Some(Outcome::Failed),
                };
                if let Some(outcome) = outcome {
                    self.context.record(Operation::ViewerJoin, began, Monotonic::now(), outcome);
                }
                let (stream, list) = begun?;
                let token = self.token(&stream);
                Ok(Answer::own_playlist(&playlist::multivariant(&list, &token), stream.session(), open))
            }
            Want::Playlist { token, at_least, may_skip } => {
                let (token, stream) = self.viewer(connection, token).await?;
                let list = self.at_least(connection, token, &stream, *at_least).await?;
                let mut began = None;
                let begin = || began = Some(Monotonic::now());
                let playlist = if *may_skip { list.delta(begin) } else { list.playlist(begin) };
                if let Some(began) = began {
                    let operation = Operation::HlsManifestGeneration;
                    self.context.record(operation, began, Monotonic::now(), Outcome::Worked);
                }
                Ok(Answer::playlist(playlist, ask.takes_gzip, ask.has.as_deref(), open))
            }
            Want::Media { token, sequence, part } => {
                let (token, stream) = self.viewer(connection, token).await?;
                let (body, seconds) = self.media(connection, token, &stream, *sequence, *part).await?;
                Ok(Answer::media(body, stream, seconds, open))
            }
        }
    }

    /// The address of a viewer who begins, relative to that of the multivariant
    /// playlist.
    fn token(&self, stream: &Stream) -> String {
        let home = stream.key().owner(self.context.shards());
        let home = u16::try_from(home).unwrap_or(u16::MAX);
        self.seal.write(Token { session: stream.session(), home, viewer: random() })
    }

    /// The stream of `content`, started if need be, once it has a segment.
    async fn begin(
        &self,
        connection: &mut Connection,
        content: &Content,
    ) -> Result<(Arc<Stream>, Arc<List>), Off> {
        let mut seat = self.seat(content).await?;
        let deadline = Monotonic::now() + self.context.config.stream.longest_start;
        loop {
            let stream = Arc::clone(seat.stream());
            let bell = self.desk.bell(&self.context, &stream);
            stream.shelf().note_asked(Monotonic::now());
            if let Some(list) = stream.shelf().list().filter(|list| !list.listed().is_empty()) {
                stream.shelf().expect(Monotonic::now() + EXPECTED_FOR);
                return Ok((stream, list));
            }
            if stream.ended().is_some() {
                seat = current(&stream).enter().ok_or_else(|| why_closed(&current(&stream)))?;
                continue;
            }
            if Monotonic::now() >= deadline {
                return Err(
                    Ended::new(Cause::StartTimeout, "no picture could be cut out of it in time").into()
                );
            }
            connection.unless_gone(&bell, LOOK_AGAIN).await?;
            self.still_serving()?;
        }
    }

    /// A place in the stream of `content`, wherever it is run.
    async fn seat(&self, content: &Content) -> Result<Seat, Off> {
        match self.registry.find(&self.context, content) {
            Found::Here(seat) => Ok(seat),
            Found::Refused(ended) => Err(ended.into()),
            Found::Ask(owner) => {
                let opening = self.desk.open(&content.key);
                let message = Peer::Open { content: Box::new(content.clone()), from: self.context.id };
                let asked = self.context.tell_peer(owner, message);
                if asked {
                    within(OPEN_LIMIT, opening.bell.called()).await;
                }
                let late = || Ended::new(Cause::AtCapacity, "too many streams are being opened");
                Ok(opening.outcome.take().unwrap_or_else(|| Err(late()))?)
            }
        }
    }

    /// Whose request it is, and of which stream.
    async fn viewer(&self, connection: &mut Connection, text: &str) -> Result<(Token, Arc<Stream>), Off> {
        let unknown = || {
            Refusal::not_found(
                "this address was not given out here, or its stream has ended",
                "Begin again at /ace/manifest.m3u8.",
            )
        };
        let known = match connection.known.take().filter(|known| *known.text == *text) {
            Some(known) => known,
            None => {
                let token = self.seal.read(text).ok_or_else(|| Off::Refused(unknown()))?;
                Known { text: text.into(), token, noted: None }
            }
        };
        let Known { token, noted, .. } = connection.known.insert(known);
        let token = *token;
        let stream = self.stream(token).await.ok_or_else(|| Off::Refused(unknown()))?;
        if let Some(ended) = stream.ended() {
            let now = current(&stream);
            if stream.merged().is_some() && now.is_open() {
                return Err(Off::Elsewhere(format!("/ace/hls/{}/index.m3u8", self.token(&now))));
            }
            return Err(ended.clone().into());
        }
        let now = Monotonic::now();
        if noted.is_none_or(|noted| now.since(noted) >= NOTE_PAUSE) {
            self.desk.seen(&self.context, token, &stream, now)?;
            *noted = Some(now);
        }
        Ok((token, stream))
    }

    async fn stream(&self, token: Token) -> Option<Arc<Stream>> {
        if token.home == self.context.id.0 {
            return self.registry.stream(token.session);
        }
        if let Some(stream) = self.desk.stream(token.session) {
            return Some(stream);
        }
        let bell = self.desk.find(token.session);
        let message = Peer::Find { session: token.session, from: self.context.id };
        if self.context.tell_peer(usize::from(token.home), message) {
            within(FIND_LIMIT, bell.called()).await;
        }
        self.desk.stream(token.session)
    }

    /// The list once it has `at_least` that.
    async fn at_least(
        &self,
        connection: &mut Connection,
        token: Token,
        stream: &Arc<Stream>,
        at_least: Option<AtLeast>,
    ) -> Result<Arc<List>, Off> {
        let (mut begun, mut bell) = (None, None);
        loop {
            if let Some(list) = stream.shelf().list() {
                let Some(AtLeast { sequence, part }) = at_least else { return Ok(list) };
                if list.has(sequence, part) {
                    return Ok(list);
                }
                if sequence > list.open_sequence() + MOST_AHEAD {
                    return Err(Off::Refused(Refusal::bad_parameter(
                        format!(
                            "segment {sequence} is too far ahead: {} is being written",
                            list.open_sequence()
                        ),
                        "Ask for the segment that follows the playlist's last one.",
                    )));
                }
                let begun = *begun.get_or_insert_with(Monotonic::now);
                if begun + list.target_duration * BLOCKED_FOR <= Monotonic::now() {
                    return Err(Ended::new(Cause::Stalled, "the stream does not go on").into());
                }
            }
            self.wait(connection, token, stream, &mut bell).await?;
        }
    }

    /// What is to be sent for a segment or a part, and for how long that may be
    /// kept, in seconds.
    async fn media(
        &self,
        connection: &mut Connection,
        token: Token,
        stream: &Arc<Stream>,
        sequence: u64,
        part: Option<usize>,
    ) -> Result<(Body, u64), Off> {
        let gone = || {
            Off::Refused(Refusal::not_found(
                "there is no such segment, or no longer",
                "Take addresses from the newest playlist.",
            ))
        };
        let (begun, mut bell) = (Monotonic::now(), None);
        loop {
            let list = stream.shelf().list().ok_or_else(gone)?;
            let found = match part {
                None => list.segment(sequence).map(|segment| &segment.body),
                Some(part) => list.part(sequence, part).map(|part| &part.body),
            };
            if let Some(body) = found {
                return Ok((body.clone(), list.target_duration.as_secs() * u64::from(BLOCKED_FOR)));
            }
            // The one that players are told to ask for ahead of time.
            let is_next = sequence == list.open_sequence() && part == Some(list.open.parts.len());
            if !is_next || begun + list.target_duration * BLOCKED_FOR <= Monotonic::now() {
                return Err(gone());
            }
            self.wait(connection, token, stream, &mut bell).await?;
        }
    }

    /// Puts up a bell where there is none, for the caller to look once more before
    /// it waits; then waits for it, or for the time to look again.
    async fn wait(
        &self,
        connection: &mut Connection,
        token: Token,
        stream: &Arc<Stream>,
        bell: &mut Option<Notify>,
    ) -> Result<(), Off> {
        let Some(bell) = bell.take() else {
            *bell = Some(self.desk.bell(&self.context, stream));
            return Ok(());
        };
        // The connection is not watched meanwhile, which for a thousand who wait
        // for one part would cost as much as their answers.
        let is_silent = within(BLOCKED_LOOK, bell.called()).await.is_none();
        if is_silent && connection.read.len() < HEAD_LIMIT && !connection.take() {
            return Err(Off::Left);
        }
        self.still_serving()?;
        if let Some(ended) = stream.ended() {
            return Err(ended.clone().into());
        }
        Ok(self.desk.seen(&self.context, token, stream, Monotonic::now())?)
    }

    fn still_serving(&self) -> Result<(), Off> {
        match self.context.is_draining() {
            true => Err(Ended::new(Cause::ShuttingDown, "the server is shutting down").into()),
            false => Ok(()),
        }
    }

    /// Sends an answer; says whether the connection is of use afterwards.
    async fn send(&self, link: &mut Link, answer: Answer, is_head: bool) -> bool {
        let Answer { bytes, head, media } = answer;
        match media {
            _ if is_head => self.send_small(link, bytes.slice(..head)).await,
            None => self.send_small(link, bytes).await,
            Some((stream, slices)) => {
                if !self.send_bytes(link, &bytes, SendFlags::MORE).await {
                    return false;
                }
                // What is sent from memory of the kernel cannot be told by flag not to wait.
                link.let_wait(false);
                let is_sent = self.send_slices(link, &slices, &stream).await;
                link.let_wait(self.driver == Driver::Uring);
                is_sent
            }
        }
    }

    /// Where there are many connections, with what others are sent at the same
    /// time: one call for all, and later by a turn of the loop.
    async fn send_small(&self, link: &mut Link, bytes: Bytes) -> bool {
        if self.open.get() < MANY {
            return self.send_bytes(link, &bytes, SendFlags::empty()).await;
        }
        let limit = self.context.config.viewer.stall_limit;
        within(limit, link.send(bytes)).await.is_some_and(|sent| sent.is_ok())
    }

    async fn send_bytes(&self, link: &Link, mut bytes: &[u8], flags: SendFlags) -> bool {
        let flags = flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !bytes.is_empty() {
            match rustix::net::send(link, bytes, flags) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.has_room(link).await => {}
                Err(_) => return false,
            }
        }
        true
    }

    async fn send_slices(&self, link: &Link, slices: &[Slice], stream: &Stream) -> bool {
        let mut since_look = 0;
        for slice in slices {
            let (mut offset, to) = (slice.from as u64, slice.to as u64);
            while offset < to {
                let left = usize::try_from(to - offset).unwrap_or(SEND_LIMIT).min(SEND_LIMIT);
                let sent = match rustix::fs::sendfile(link, slice.segment.memfd(), Some(&mut offset), left) {
                    Ok(sent) => sent,
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => 0,
                    Err(_) => return false,
                };
                self.context.count(|c| c.egress_bytes += sent as u64);
                stream.add_egress(sent as u64);
                since_look += sent;
                let is_full = sent < left;
                if is_full {
                    // The kernel holds a last packet that is not full back for what was to
                    // follow, and where packets are larger than what may wait unsent, as on
                    // the loopback, asks for no more before its timer of 200 ms. This sends it.
                    sockopt::set_tcp_nodelay(link, true).ok();
                }
                if is_full || since_look >= SEND_LIMIT {
                    if !self.has_room(link).await {
                        return false;
                    }
                    since_look = 0;
                }
            }
        }
        true
    }

    /// Waits for room; says whether it came in time.
    async fn has_room(&self, link: &Link) -> bool {
        within(self.context.config.viewer.stall_limit, link.writable())
            .await
            .is_some_and(|ready| ready.is_ok())
    }

    /// An owner has answered.
    pub(crate) fn opened(&self, key: &ContentKey, outcome: &Result<Seat, Ended>) {
        self.desk.opened(key, outcome);
    }
}

impl Connection {
    /// Waits for the bell, for `limit` at most, while the player is there.
    async fn unless_gone(&mut self, bell: &Notify, limit: Duration) -> Result<(), Off> {
        let deadline = Monotonic::now() + limit;
        loop {
            let left = deadline.since(Monotonic::now());
            // One who sends its next request early is not looked at meanwhile.
            if left.is_zero() || self.read.len() >= HEAD_LIMIT {
                within(left, bell.called()).await;
                return Ok(());
            }
            match within(left, unless_called(bell, self.link.readable())).await {
                None | Some(None) => return Ok(()),
                Some(Some(_)) if self.take() => {}
                Some(Some(_)) => return Err(Off::Left),
            }
        }
    }

    /// Reads what is there; says whether there may be more.
    fn take(&mut self) -> bool {
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; READ];
        match rustix::net::recv(&self.link, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok(((read, _), _)) => {
                self.read.extend_from_slice(read);
                !read.is_empty()
            }
            Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }

    /// The next request, or none when there will be none.
    async fn next(&mut self, policy: Policy) -> Option<Asked> {
        let mut deadline = None;
        loop {
            if !self.read.is_empty() {
                match parse(&self.read, policy) {
                    Asked::More if self.read.len() > HEAD_LIMIT => {
                        return Some(Asked::Refuse(Refusal::head_too_large("head longer than 16 KiB")));
                    }
                    Asked::More => {}
                    asked => return Some(asked),
                }
                deadline.get_or_insert_with(|| Monotonic::now() + HEAD_TIME);
            }
            let left = deadline.map_or(IDLE_TIME, |deadline| deadline.since(Monotonic::now()));
            let (read, buffer) = within(left, self.link.read(std::mem::take(&mut self.read), READ)).await?;
            self.read = buffer;
            if read.ok()? == 0 {
                return None;
            }
        }
    }

    /// Says that no more will come, and lets the other end read what came.
    async fn finish(mut self) {
        rustix::net::shutdown(&self.link, Shutdown::Write).ok();
        let deadline = Monotonic::now() + CLOSE_TIME;
        loop {
            self.read.clear();
            let left = deadline.since(Monotonic::now());
            let is_readable = within(left, self.link.readable()).await.is_some_and(|ready| ready.is_ok());
            if left.is_zero() || !is_readable || !self.take() {
                return;
            }
        }
    }
}
