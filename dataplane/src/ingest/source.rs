//! One engine's session for a stream, from the question to the last byte.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use millrace_boundary::{Cause, EngineEvidence, EngineId, Monotonic, Operation, Outcome, Output};
use static_assertions::assert_not_impl_any;

use super::{
    engine::{self, Failure, Opened, Playback, Stat},
    event::SourceId,
    hls,
    lease::Lease,
    reader::{AHEAD_LIMIT, AHEAD_TURNS, Packets, READ_LIMIT, Reader, Turn, broke},
    session::Session,
};
use crate::{
    context::{Context, Permit, random},
    http::content::Content,
    rt::{Notify, into_owned, sleep, spawn, unless_called, within},
    segment::Candidate,
};

/// A read shorter than what there may be is followed by a pause: viewers are
/// visited every 160 ms, so reading more often than that gains them nothing.
const READ_PAUSE: Duration = Duration::from_millis(40);
/// And before viewers may take it, when somebody waits for that: at first, and up
/// to [`READ_PAUSE`] as a [`START_SHARE`]th of what that has taken so far.
const START_PAUSE: Duration = Duration::from_millis(5);
const START_SHARE: u32 = 32;
/// After a long read: time for the shard's other work.
const BREATH: Duration = Duration::from_millis(1);
/// How often a full window is looked at again.
const FULL_WINDOW_PAUSE: Duration = Duration::from_millis(50);
/// This much without a single packet is not a transport stream.
const NOISE_LIMIT: u64 = 64 << 10;
/// An engine that accepts has this long to answer a start. Contents that it has
/// to look up on a bad path take 45 s; others are asked meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The other kind of id is tried for this long: it answers at once when it is
/// the right one.
const SWAP_LIMIT: Duration = Duration::from_secs(10);
/// From the answer to the first byte; the stream's budget ends sooner unless
/// the engine proves progress.
const PLAY_LIMIT: Duration = Duration::from_secs(120);
/// An id is looked up, and what others begin or end on the engine is waited for,
/// within this before a stream is started beside them.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How often that wait looks again.
const RESOLVE_PAUSE: Duration = Duration::from_millis(5);
/// A slot whose start was given up is held for this long for the late answer;
/// the answer is waited for, and stopped, in any case.
const SLOT_PATIENCE: Duration = Duration::from_secs(3);
/// One that was asked this long before another one that plays, and has brought
/// nothing, is slow beyond what a swarm explains.
const OUTRUN: Duration = Duration::from_secs(3);
/// An engine that was left before it answered a start, this long after, is held
/// to be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cause of a failed start, for the engine's account: a content that has
/// played is there, so that whoever cannot find it lacks the network for it.
const fn judged(cause: Cause, has_played: bool) -> Cause {
    match cause {
        Cause::ContentUnavailable if has_played => Cause::StartFailed,
        cause => cause,
    }
}

/// Paths and queries of an open session.
struct Addresses {
    playback: String,
    stat: Option<String>,
}

/// One engine's session.
pub(super) struct Source {
    pub(super) id: SourceId,
    pub(super) engine: EngineId,
    pub(super) address: SocketAddr,
    pub(super) began: Monotonic,
    /// What it has brought while it is a challenger.
    pub(super) candidate: RefCell<Option<Candidate>>,
    /// When its first packet came.
    pub(super) first_packet: Cell<Option<Monotonic>>,
    /// What the engine says of the session.
    pub(super) stat: RefCell<Option<Stat>>,
    /// Path and query for commands, once the engine has answered.
    pub(super) command: RefCell<Option<String>>,
    /// When it was asked to go on from an earlier position.
    pub(super) sought: Cell<Option<Monotonic>>,
    /// How its engine hands the stream out.
    pub(super) output: Output,
    /// Until when it may bring nothing and is not silent.
    rests_until: Cell<Monotonic>,
    /// What it plays goes on for ever.
    is_live: Cell<bool>,
    quit: Notify,
    stopped: Cell<bool>,
    /// Control has heard that it plays.
    told: Cell<bool>,
    skipped: Cell<u64>,
    /// Its share in what hedging may take.
    _permit: Option<Permit>,
}

assert_not_impl_any!(Source: Send, Sync);

impl Source {
    /// Begins a session on the engine of `lease`.
    pub(super) fn begin(
        session: &Rc<Session>,
        context: &Rc<Context>,
        id: SourceId,
        lease: Lease,
        permit: Option<Permit>,
    ) -> Rc<Self> {
        let source = Rc::new(Self {
            id,
            engine: lease.engine(),
            address: lease.address(),
            began: Monotonic::now(),
            candidate: RefCell::new(Some(Candidate::new())),
            first_packet: Cell::new(None),
            stat: RefCell::new(None),
            command: RefCell::new(None),
            sought: Cell::new(None),
            output: session.output(context, lease.source()),
            rests_until: Cell::default(),
            is_live: Cell::new(true),
            quit: Notify::default(),
            stopped: Cell::new(false),
            told: Cell::new(false),
            skipped: Cell::new(0),
            _permit: permit,
        });
        spawn(Rc::clone(&source).run(Rc::clone(session), Rc::clone(context), lease));
        source
    }

    /// Ends it; the engine is told.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        self.quit.call();
    }

    /// Whether it was told to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Its segments come one at a time: until `then` it need not bring anything.
    pub(super) fn rest_until(&self, then: Monotonic) {
        self.rests_until.set(then);
    }

    /// Whether it may bring nothing now.
    pub(super) fn may_rest(&self, now: Monotonic) -> bool {
        now < self.rests_until.get()
    }

    /// Counts what was skipped to find packets.
    ///
    /// # Errors
    /// When that was all there is.
    pub(super) fn note_skipped(&self, context: &Context, packets: &Packets) -> Result<(), Failure> {
        let skipped = packets.skipped();
        context.count(|c| c.skipped_bytes += skipped - self.skipped.replace(skipped));
        if packets.noise() > NOISE_LIMIT {
            return Err(Failure::new(Cause::NotTransportStream, "the engine sends no transport stream"));
        }
        Ok(())
    }

    /// Bytes skipped to find packets again.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.get()
    }

    async fn run(self: Rc<Self>, session: Rc<Session>, context: Rc<Context>, lease: Lease) {
        let mut lease = Some(lease);
        let outcome = self.play(&session, &context, &mut lease).await;
        match outcome {
            Some(failure) => {
                if let Some(lease) = &lease {
                    context.losses.borrow_mut().note(self.engine, failure.cause, Monotonic::now());
                    // Whose fault it was is for control to judge.
                    lease.report(match self.is_active(&session) {
                        true => EngineEvidence::Broke(failure.cause),
                        false => EngineEvidence::StartFailed(judged(failure.cause, session.has_played())),
                    });
                }
                drop(lease);
                session.failed(&context, &self, &failure);
            }
            None => {
                if let Some(lease) = lease {
                    self.let_go(&session, lease);
                }
            }
        }
        session.gone(&self);
    }

    fn is_active(&self, session: &Session) -> bool {
        session.active() == Some(self.id)
    }

    /// `None` when it was told to end.
    async fn play(
        self: &Rc<Self>,
        session: &Rc<Session>,
        context: &Rc<Context>,
        lease: &mut Option<Lease>,
    ) -> Option<Failure> {
        let held = lease.as_mut()?;
        if session.content.key.as_str().starts_with("infohash:") {
            held.known();
        }
        if !held.is_unknown() && self.resolve_and_claim(session, context, held).await {
            return None;
        }
        let opened = match self.start(session, context, lease).await? {
            Ok(opened) => opened,
            Err(failure) => return Some(failure),
        };
        let held = lease.as_mut()?;
        let Addresses { playback, stat } = self.settle(session, context, held, opened).await?;
        let deadline = Monotonic::now() + PLAY_LIMIT;
        let refused = |failure: &Failure| session.refused(failure);
        let failure = match self.output {
            Output::Ts => {
                let played = engine::play(self.address, &playback, deadline, refused);
                match unless_called(&self.quit, played).await? {
                    Ok(playback) => self.read(session, context, held, playback).await?,
                    Err(failure) => return Some(self.reconsider(failure, stat).await),
                }
            }
            Output::Hls => {
                let opened = hls::open(context, self, &playback, deadline, refused);
                match unless_called(&self.quit, opened).await? {
                    Ok(playlist) => self.follow(session, context, held, playlist).await?,
                    Err(failure) => return Some(failure),
                }
            }
        };
        let is_end = failure.cause == Cause::EngineClosed && !self.is_live.get();
        let end = || Failure::new(Cause::ContentEnded, "the content has come to its end");
        Some(if is_end { end() } else { failure })
    }

    /// Gives the engine back after the session was ended from outside.
    fn let_go(&self, session: &Session, lease: Lease) {
        let merged = session.stream.merged();
        if merged.is_some_and(|into| into.engine() == Some(lease.engine())) {
            lease.leave_running();
            return;
        }
        let waited = Monotonic::now().since(self.began);
        if self.was_outrun(session) {
            // Blamed for silence where it has not even answered.
            let cause = if lease.is_opened() { Cause::StartTimeout } else { Cause::EngineSilent };
            lease.report(EngineEvidence::StartFailed(cause));
            return;
        }
        match session.stream.ended().map(|e| e.cause) {
            Some(Cause::StartTimeout) if lease.is_opened() => {
                lease.report(EngineEvidence::StartFailed(Cause::StartTimeout));
            }
            _ if !lease.is_opened() && waited >= PATIENCE => {
                lease.report(EngineEvidence::StartFailed(Cause::EngineSilent));
            }
            Some(Cause::Stalled) => lease.report(EngineEvidence::Broke(Cause::Stalled)),
            _ => {}
        }
    }

    /// Whether one that was begun later plays, and this one has brought nothing.
    fn was_outrun(&self, session: &Session) -> bool {
        let waited = Monotonic::now().since(self.began);
        let is_outrun = session.active().is_some_and(|active| active > self.id);
        is_outrun && self.first_packet.get().is_none() && waited >= OUTRUN
    }

    /// Beside other streams of the same engine, an id is resolved before it is
    /// started: a second session of a swarm that plays there already would end
    /// the first, now or when it is stopped. One that starts there and is not
    /// known yet is waited for, so that it claims its swarm first; one that is
    /// being stopped, so that the stop does not end this one. Says whether
    /// another stream has taken this one over, or this source was told to end.
    async fn resolve_and_claim(&self, session: &Session, context: &Rc<Context>, lease: &Lease) -> bool {
        let limit = Monotonic::now() + RESOLVE_LIMIT;
        let id = session.content.key.as_str().strip_prefix("id:").filter(|id| id.len() == 40);
        let infohash = match id {
            Some(id) if session.infohash().is_none() => {
                match unless_called(&self.quit, engine::resolve(lease.address(), id, limit)).await {
                    Some(infohash) => infohash,
                    None => return true,
                }
            }
            _ => None,
        };
        loop {
            // First: a session that has just ended is told to stop in a moment.
            if unless_called(&self.quit, sleep(RESOLVE_PAUSE)).await.is_none() {
                return true;
            }
            if !lease.has_unsettled_neighbour() || Monotonic::now() >= limit {
                break;
            }
        }
        match infohash {
            Some(infohash) => session.claim(context, &infohash).await,
            None => session.stream.merged().is_some(),
        }
    }

    /// Asks for the content, and once more with the other kind of id when the
    /// engine cannot find it. An engine that answers after it was left is told
    /// to stop what it began.
    async fn start(
        &self,
        session: &Rc<Session>,
        context: &Rc<Context>,
        lease: &mut Option<Lease>,
    ) -> Option<Result<Opened, Failure>> {
        context.count(|c| c.engine_starts += 1);
        let content = session.content_to_ask(context);
        let mut answer = self.ask(session, content.clone(), ANSWER_LIMIT, lease).await?;
        if matches!(&answer, Err(failure) if failure.cause == Cause::SessionLost) {
            // Another start has taken the session's place: a new one, once.
            answer = self.ask(session, content, ANSWER_LIMIT, lease).await?;
        }
        let first = match answer {
            Err(failure) if failure.cause == Cause::ContentUnavailable => failure,
            other => return Some(other),
        };
        let Some(other) = session.other_kind() else { return Some(Err(first)) };
        Some(match self.ask(session, other, SWAP_LIMIT, lease).await? {
            Ok(opened) => {
                session.other_kind_works(context);
                Ok(opened)
            }
            Err(_) => Err(first),
        })
    }

    async fn ask(
        &self,
        session: &Session,
        content: Content,
        limit: Duration,
        lease: &mut Option<Lease>,
    ) -> Option<Result<Opened, Failure>> {
        let (address, output) = (self.address, self.output);
        let deadline = Monotonic::now() + limit;
        let mut asked = Box::pin(async move {
            let pid = format!("{:016x}{:016x}", random(), random());
            engine::start(address, &content, output, &pid, deadline).await
        });
        let answer = unless_called(&self.quit, &mut asked).await;
        if answer.is_none()
            && let Some(mut lease) = lease.take()
        {
            if Monotonic::now().since(self.began) >= PATIENCE || self.was_outrun(session) {
                lease.report(EngineEvidence::StartFailed(Cause::EngineSilent));
            }
            spawn(async move {
                let in_time = within(SLOT_PATIENCE, &mut asked).await;
                if in_time.is_none() {
                    lease.free_slot();
                }
                let late = match in_time {
                    Some(answer) => answer,
                    None => asked.await,
                };
                if let Ok(late) = late {
                    lease.opened(late.command);
                }
            });
        }
        answer
    }

    /// From the engine's answer to where its bytes are; none when they are not
    /// wanted any more.
    async fn settle(
        self: &Rc<Self>,
        session: &Rc<Session>,
        context: &Rc<Context>,
        lease: &mut Lease,
        opened: Opened,
    ) -> Option<Addresses> {
        let Opened { playback, command, stat, infohash, is_live } = opened;
        self.is_live.set(is_live);
        self.command.replace(command.clone());
        lease.opened(command);
        session.opened(context, self);
        let merged = match infohash {
            Some(infohash) => session.claim(context, &infohash).await,
            None => session.stream.merged().is_some(),
        };
        lease.known();
        if merged || self.stopped.get() {
            return None;
        }
        if let Some(path) = stat.clone() {
            spawn(super::polling::poll(Rc::clone(self), Rc::clone(session), Rc::clone(context), path));
        }
        Some(Addresses { playback, stat })
    }

    /// An engine that refuses playback with an error of its own may have a
    /// reason that only its statistics tell.
    async fn reconsider(&self, failure: Failure, stat: Option<String>) -> Failure {
        let Some(path) = stat.filter(|_| failure.cause == Cause::EngineError) else { return failure };
        match engine::stat(self.address, &path).await {
            Ok(stat) if stat.is_encrypted => {
                let detail = "the content is encrypted, and its engine refuses to hand it out";
                Failure::new(Cause::ContentRestricted, detail)
            }
            _ => failure,
        }
    }

    /// Reads until the stream breaks off; `None` when it was told to end.
    async fn read(
        self: &Rc<Self>,
        session: &Rc<Session>,
        context: &Rc<Context>,
        lease: &Lease,
        playback: Playback,
    ) -> Option<Failure> {
        let Playback { socket, framing, first } = playback;
        let socket = match into_owned(socket) {
            Ok(socket) => socket,
            Err(error) => return Some(broke(&error)),
        };
        let mut reader = Reader::new(socket, framing);
        let (mut most, mut full) = (READ_LIMIT, 0);
        // Read since the kernel's buffer was last empty.
        let mut round = 0;
        let began = Monotonic::now();
        let mut turn = reader.take_first(context, first, |packets| session.packets(context, self, packets));
        loop {
            let noted = self.note_skipped(context, reader.packets());
            if self.stopped.get() {
                return None;
            }
            let read = if let Turn::Read(n) = turn { n } else { 0 };
            round = if full > 0 { round + read } else { read };
            full = if matches!(turn, Turn::Read(n) if n >= most) { full + 1 } else { 0 };
            most = if full > 0 { AHEAD_LIMIT } else { READ_LIMIT };
            let pause = match turn {
                Turn::Ended(failure) => return Some(failure),
                Turn::Read(_) if full > 0 => match session.leisure(self) {
                    Some(pause) => pause,
                    None if full % AHEAD_TURNS == 0 => BREATH,
                    None => Duration::ZERO,
                },
                // The engine may have more, which a challenger has to catch up with.
                Turn::Read(_) if session.stream.window().is_open() && round >= READ_LIMIT => {
                    session.haste(self, round).map_or(READ_PAUSE, |pause| pause.clamp(BREATH, READ_PAUSE))
                }
                Turn::Read(_) if session.stream.window().is_open() => READ_PAUSE,
                Turn::Read(_) => (Monotonic::now().since(began) / START_SHARE).clamp(START_PAUSE, READ_PAUSE),
            };
            if let Err(failure) = noted {
                return Some(failure);
            }
            self.tell_started(lease);
            if !pause.is_zero() {
                unless_called(&self.quit, sleep(pause)).await?;
            }
            while !session.has_room(context, self) {
                unless_called(&self.quit, sleep(FULL_WINDOW_PAUSE)).await?;
            }
            if let Err(failure) = unless_called(&self.quit, self.catch_up(session, context)).await? {
                return Some(failure);
            }
            let turn_to_read = unless_called(&self.quit, context.turns.take()).await?;
            let began = Monotonic::now();
            turn = reader.turn(context, most, |packets| session.packets(context, self, packets));
            if let Some(outcome) = self.judge(&turn) {
                context.record(Operation::MpegtsChunkRead, began, Monotonic::now(), outcome);
            }
            drop(turn_to_read);
        }
    }

    /// Publishes what it had brought when it took over.
    ///
    /// # Errors
    /// When there are no descriptors or memory for it.
    pub(super) async fn catch_up(&self, session: &Session, context: &Context) -> Result<(), Failure> {
        let mut pumped = 0;
        while session.has_backlog(self) {
            let turn = context.turns.take().await;
            session.pump(context)?;
            drop(turn);
            pumped += 1;
            if pumped % AHEAD_TURNS == 0 {
                sleep(BREATH).await;
            }
        }
        Ok(())
    }

    /// What a turn counts as; none where there was nothing to read.
    fn judge(&self, turn: &Turn) -> Option<Outcome> {
        match turn {
            Turn::Read(0) => None,
            Turn::Read(_) => Some(Outcome::Worked),
            // The end of what is not live is no failure.
            Turn::Ended(failure) if failure.cause == Cause::EngineClosed && !self.is_live.get() => None,
            Turn::Ended(_) => Some(Outcome::Failed),
        }
    }
    /// The same of a playlist's segments.
    async fn follow(
        self: &Rc<Self>,
        session: &Rc<Session>,
        context: &Rc<Context>,
        lease: &Lease,
        playlist: hls::Playlist,
    ) -> Option<Failure> {
        let read = hls::read(self, session, context, playlist, || self.tell_started(lease));
        unless_called(&self.quit, read).await
    }

    /// Control hears once that the engine has brought something.
    fn tell_started(&self, lease: &Lease) {
        let Some(first) = self.first_packet.get() else { return };
        if !self.told.replace(true) {
            lease.report(EngineEvidence::Started(first.since(self.began)));
        }
    }
}
