//! One session of a stream: engines are asked, one is read, the end is told.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use millrace_boundary::{Cause, EngineEvidence, EngineId, Monotonic, NotPicked, StreamSample, StreamState};
use static_assertions::assert_not_impl_any;

use super::{
    engine::{self, Failure, Opened, Playback},
    lease::Lease,
    life::{Effect, Event, Life, Limits},
    pace::Playout,
};
use crate::{
    context::{Context, Permit, random},
    http::content::Content,
    inbox::Peer,
    rt::{CancelableAsyncReadRent, Canceller, Notify, sleep, spawn, unless_called},
    segment::{ChainWriter, STOCK},
    stream::{ContentKey, Ended, Seat, SessionId, Stream},
};

/// Read at most this much at a time.
const READ_LIMIT: usize = 256 << 10;
/// A read shorter than this is followed by a pause: viewers are visited every
/// 160 ms, so reading more often than that gains them nothing.
const SHORT_READ: usize = 64 << 10;
/// That pause on a stream that plays.
const READ_PAUSE: Duration = Duration::from_millis(40);
/// And before the first join point, when somebody waits for it.
const START_PAUSE: Duration = Duration::from_millis(5);
/// How often a full window is looked at again.
const FULL_WINDOW_PAUSE: Duration = Duration::from_millis(50);
/// This much without a single packet is not a transport stream.
const NOISE_LIMIT: u64 = 64 << 10;
/// An engine that accepts has this long to answer a start while others could
/// be asked. Content that no peer has makes healthy engines take 5 s.
const START_ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// An id is looked up, and what others begin or end on the engine is waited for,
/// within this before a stream is started beside them.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How often that wait looks again.
const RESOLVE_PAUSE: Duration = Duration::from_millis(5);
/// The owner of a swarm judges a claim within this, or is too busy to be waited
/// for.
const CLAIM_LIMIT: Duration = Duration::from_secs(1);
/// How often that wait looks again.
const CLAIM_PAUSE: Duration = Duration::from_millis(1);

/// What control is told once a second, kept as it happens.
#[derive(Debug, Default)]
struct Gauges {
    first_byte: Cell<Option<Duration>>,
    ingress: Cell<u64>,
    window_bytes: Cell<u64>,
    skipped: Cell<u64>,
    continuity_errors: Cell<u64>,
    sampled: Cell<(Monotonic, u64)>,
    /// Until when what the engine has sent ahead lasts, where that is a stock.
    stocked_until: Cell<Monotonic>,
}

/// One session.
pub(crate) struct Session {
    stream: Arc<Stream>,
    content: Content,
    asked: Monotonic,
    life: RefCell<Life>,
    quit: Notify,
    canceller: RefCell<Canceller>,
    engine: Cell<Option<EngineId>>,
    infohash: RefCell<Option<String>>,
    gauges: Gauges,
    /// Its end has been counted and told.
    told: Cell<bool>,
    /// Its task has come to its end.
    finished: Cell<bool>,
    _permit: Permit,
}

assert_not_impl_any!(Session: Send, Sync);

/// How one attempt with one engine went on.
enum Outcome {
    /// It did not get as far as playing.
    Failed(Failure),
    /// It played, and then broke off.
    Broke(Failure),
    /// The session is over for another reason.
    Over,
}

impl Session {
    /// Begins a session, with a seat for the viewer who asked.
    pub(crate) fn begin(context: &Rc<Context>, content: Content, permit: Permit) -> (Rc<Self>, Seat) {
        let now = Monotonic::now();
        let config = &context.config.stream;
        let limits = Limits {
            start_budget: config.start_budget,
            linger: config.linger,
            silence: config.silence_limit,
        };
        let stream = Stream::new(SessionId(random()), content.key.clone(), Arc::default());
        let seat = stream.enter().expect("a new stream is open");
        let session = Rc::new(Self {
            stream,
            content,
            asked: now,
            life: RefCell::new(Life::new(limits, now)),
            quit: Notify::default(),
            canceller: RefCell::default(),
            engine: Cell::new(None),
            infohash: RefCell::default(),
            gauges: Gauges::default(),
            told: Cell::new(false),
            finished: Cell::new(false),
            _permit: permit,
        });
        context.count(|c| c.streams_started += 1);
        tracing::info!(shard = %context.id, session = %session.stream.session(),
            stream = session.stream.key().display(), "stream asked for");
        spawn(Rc::clone(&session).run(Rc::clone(context)));
        (session, seat)
    }

    /// Whether it is over and its task has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.finished.get()
    }

    /// Looks at the clock and at who is there.
    pub(crate) fn tick(&self, context: &Context, now: Monotonic) {
        if let Some(ended) = self.stream.merged().and_then(|_| self.stream.ended()) {
            self.over(context, ended, now);
            return;
        }
        if now < self.gauges.stocked_until.get() {
            // An engine that has sent minutes ahead may rest until they are over.
            self.apply(context, Event::Bytes, now, None);
        }
        let watched = if self.stream.viewers() > 0 { Event::Watched } else { Event::Unwatched };
        self.apply(context, watched, now, None);
        self.apply(context, Event::Tick, now, None);
    }

    /// Ends it because the server ends.
    pub(crate) fn drain(&self, context: &Context, now: Monotonic) {
        self.apply(context, Event::Drain, now, None);
    }

    /// What control is told about it.
    pub(crate) fn sample(&self, context: &Context, now: Monotonic) -> Option<StreamSample> {
        let state: StreamState = self.life.borrow().state()?;
        let gauges = &self.gauges;
        let (then, before) = gauges.sampled.replace((now, gauges.ingress.get()));
        let seconds = now.since(then).as_secs_f64();
        let bits = gauges.ingress.get().saturating_sub(before) as f64 * 8.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, rounded")]
        let bitrate_bps = if seconds > 0.0 { (bits / seconds) as u64 } else { 0 };
        Some(StreamSample {
            session: self.stream.session().to_string(),
            key: self.stream.key().display(),
            infohash: self.infohash.borrow().clone(),
            state,
            engine: self.engine.get(),
            shard: context.id,
            viewers: self.stream.viewers(),
            age_seconds: now.since(self.asked).as_secs_f64(),
            first_byte_seconds: gauges.first_byte.get().map(|d| d.as_secs_f64()),
            bitrate_bps,
            ingress_bytes: gauges.ingress.get(),
            egress_bytes: self.stream.egress(),
            window_bytes: gauges.window_bytes.get(),
            skipped_bytes: gauges.skipped.get(),
            continuity_errors: gauges.continuity_errors.get(),
        })
    }

    /// Bytes kept for viewers.
    pub(crate) fn window_bytes(&self) -> u64 {
        self.gauges.window_bytes.get()
    }

    fn apply(&self, context: &Context, event: Event, now: Monotonic, detail: Option<&str>) -> Option<Effect> {
        let mut effect = self.life.borrow_mut().on(event, now);
        if effect == Some(Effect::LetGo) {
            if !self.stream.close_if_empty() {
                return None;
            }
            effect = self.life.borrow_mut().on(Event::Closed, now);
        }
        if let Some(Effect::End(cause)) = effect {
            let detail = detail.map_or_else(|| self.explain(cause), str::to_owned);
            self.over(context, &Ended { cause, detail }, now);
        }
        effect
    }

    fn explain(&self, cause: Cause) -> String {
        match cause {
            Cause::StartTimeout => {
                let seconds = Monotonic::now().since(self.asked).as_secs();
                format!("no playable data within {seconds} s")
            }
            Cause::Stalled => "the engine fell silent".to_owned(),
            Cause::ShuttingDown => "the server is shutting down".to_owned(),
            other => other.as_str().replace('_', " "),
        }
    }

    fn over(&self, context: &Context, ended: &Ended, now: Monotonic) {
        if self.told.replace(true) {
            return;
        }
        if self.life.borrow().state().is_some() {
            // Only a merger ends a life from outside.
            self.life.borrow_mut().on(Event::SourceEnded(ended.cause), now);
        }
        context.count(|c| c.streams_ended[ended.cause.index()] += 1);
        tracing::info!(shard = %context.id, session = %self.stream.session(),
            stream = self.stream.key().display(), cause = ended.cause.as_str(), detail = ended.detail,
            seconds = now.since(self.asked).as_secs_f64(), "stream ended");
        self.stream.end(ended.clone());
        self.quit.call();
        let canceller = self.canceller.take();
        self.canceller.replace(canceller.cancel());
    }

    async fn run(self: Rc<Self>, context: Rc<Context>) {
        let mut tried = Vec::new();
        let mut last: Option<Failure> = None;
        loop {
            let outcome = self.attempt(&context, &mut tried, last.as_ref()).await;
            self.engine.set(None);
            self.stream.set_engine(None);
            let now = Monotonic::now();
            let (event, failure) = match outcome {
                Outcome::Over => break,
                Outcome::Failed(failure) => (Event::AttemptFailed(failure.cause), failure),
                Outcome::Broke(failure) => (Event::SourceEnded(failure.cause), failure),
            };
            if self.apply(&context, event, now, Some(&failure.detail)) != Some(Effect::TryNext) {
                break;
            }
            tracing::info!(shard = %context.id, session = %self.stream.session(),
                cause = failure.cause.as_str(), detail = failure.detail, "trying another engine");
            last = Some(failure);
        }
        self.tick(&context, Monotonic::now());
        self.finished.set(true);
    }

    /// One engine, from picking it to the end of what it plays.
    async fn attempt(
        &self,
        context: &Rc<Context>,
        tried: &mut Vec<EngineId>,
        last: Option<&Failure>,
    ) -> Outcome {
        let Some(deadline) = self.life.borrow().start_deadline() else { return Outcome::Over };
        let table = context.table();
        let (entry, slot) = match table.pick(tried) {
            Ok(picked) => picked,
            // With none left to try, what the last one said stands.
            Err(reason) => return Outcome::Failed(last.cloned().unwrap_or_else(|| not_picked(reason))),
        };
        tried.push(entry.id);
        self.engine.set(Some(entry.id));
        let others = table.engines.len() > tried.len();
        let mut lease = Lease::new(context, entry.id, entry.address, slot);
        drop(table);

        if self.content.key.as_str().starts_with("infohash:") {
            lease.known();
        }
        if !lease.is_unknown() && self.resolve_and_claim(context, &lease, deadline).await {
            return Outcome::Over;
        }
        let began = Monotonic::now();
        let playback = match self.start(context, &mut lease, deadline, others).await {
            Some(Ok(playback)) => playback,
            Some(Err(failure)) => {
                // Whose fault it was is for control to judge.
                lease.report(EngineEvidence::StartFailed(failure.cause));
                return Outcome::Failed(failure);
            }
            None => {
                self.let_go(lease);
                return Outcome::Over;
            }
        };
        let failure = self.read(context, &lease, playback, began).await;
        let Some(failure) = failure else {
            self.let_go(lease);
            return Outcome::Over;
        };
        let played = self.life.borrow().start_deadline().is_none();
        lease.report(match played {
            true => EngineEvidence::Broke(failure.cause),
            false => EngineEvidence::StartFailed(failure.cause),
        });
        if played { Outcome::Broke(failure) } else { Outcome::Failed(failure) }
    }

    /// Gives the engine back after the session was ended from outside.
    fn let_go(&self, lease: Lease) {
        let merged = self.stream.merged();
        if merged.is_some_and(|into| into.engine() == Some(lease.engine())) {
            lease.leave_running();
            return;
        }
        match self.stream.ended().map(|e| e.cause) {
            // It had the whole budget and did not even answer.
            Some(Cause::StartTimeout) if !lease.is_opened() => {
                lease.report(EngineEvidence::StartFailed(Cause::EngineSilent));
            }
            Some(Cause::StartTimeout) => lease.report(EngineEvidence::StartFailed(Cause::StartTimeout)),
            Some(Cause::Stalled) => lease.report(EngineEvidence::Broke(Cause::Stalled)),
            _ => {}
        }
    }

    /// Beside other streams of the same engine, an id is resolved before it is
    /// started: a second session of a swarm that plays there already would end
    /// the first, now or when it is stopped. One that starts there and is not
    /// known yet is waited for, so that it claims its swarm first; one that is
    /// being stopped, so that the stop does not end this one. Says whether
    /// another stream has taken this one over.
    async fn resolve_and_claim(&self, context: &Rc<Context>, lease: &Lease, deadline: Monotonic) -> bool {
        let limit = deadline.min(Monotonic::now() + RESOLVE_LIMIT);
        let id = self.content.key.as_str().strip_prefix("id:").filter(|id| id.len() == 40);
        let infohash = match id {
            Some(id) => match unless_called(&self.quit, engine::resolve(lease.address(), id, limit)).await {
                Some(infohash) => infohash,
                None => return true,
            },
            None => None,
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
            Some(infohash) => self.claim(context, &infohash).await,
            None => self.stream.merged().is_some(),
        }
    }

    /// Tells the owner of the swarm that this stream plays it, and waits for
    /// its judgement. Says whether another stream has taken this one over.
    async fn claim(&self, context: &Rc<Context>, infohash: &str) -> bool {
        self.infohash.replace(Some(infohash.to_owned()));
        let key = ContentKey::infohash(infohash);
        if key == self.content.key || self.content.key.as_str().contains('&') {
            return self.stream.merged().is_some();
        }
        let owner = key.owner(context.shards());
        let (before, limit) = (self.stream.judged(), Monotonic::now() + CLAIM_LIMIT);
        if context.tell_peer(owner, Peer::Claim { key, stream: Arc::clone(&self.stream) }) {
            while self.stream.judged() == before && Monotonic::now() < limit {
                sleep(CLAIM_PAUSE).await;
            }
        }
        self.stream.merged().is_some()
    }

    /// `None` when the session was ended meanwhile.
    async fn start(
        &self,
        context: &Rc<Context>,
        lease: &mut Lease,
        deadline: Monotonic,
        others: bool,
    ) -> Option<Result<Playback, Failure>> {
        context.count(|c| c.engine_starts += 1);
        let pid = format!("{:016x}{:016x}", random(), random());
        let limit = match others {
            true => deadline.min(Monotonic::now() + START_ANSWER_LIMIT),
            false => deadline,
        };
        let opened = engine::start(lease.address(), &self.content, &pid, limit);
        let Opened { playback, command, infohash } = match unless_called(&self.quit, opened).await? {
            Ok(opened) => opened,
            Err(failure) => return Some(Err(failure)),
        };
        lease.opened(command);
        self.stream.set_engine(Some(lease.engine()));
        let merged = match infohash {
            Some(infohash) => self.claim(context, &infohash).await,
            None => self.stream.merged().is_some(),
        };
        lease.known();
        if merged {
            return None;
        }
        unless_called(&self.quit, engine::play(lease.address(), &playback, deadline)).await
    }

    /// Reads until the stream breaks off; `None` when the session was ended.
    async fn read(
        &self,
        context: &Rc<Context>,
        lease: &Lease,
        playback: Playback,
        began: Monotonic,
    ) -> Option<Failure> {
        let Playback { mut socket, mut framing, mut first } = playback;
        let now = Monotonic::now();
        self.gauges.first_byte.set(Some(now.since(self.asked)));
        let mut chain = match ChainWriter::new(self.stream.shared_window(), now) {
            Ok(chain) => chain,
            Err(error) => return Some(out_of_resources(&error)),
        };
        let mut playout = Playout::new(now);
        let mut started = false;

        let unframed = framing.unframe(&mut first);
        first.truncate(unframed.payload);
        let (mut ended, mut broken) = (unframed.ended, unframed.broken);
        let mut rest = &first[..];
        let mut read = 0;
        loop {
            while !rest.is_empty() {
                match chain.push(rest) {
                    Ok(n) => rest = &rest[n..],
                    Err(error) => return Some(out_of_resources(&error)),
                }
            }
            let now = Monotonic::now();
            let over = ended || broken;
            if let Err(error) = if over { chain.finish(now) } else { chain.publish(now) } {
                return Some(out_of_resources(&error));
            }
            self.note(&chain);
            let stats = chain.stats();
            if stats.skipped_in_a_row > NOISE_LIMIT || (over && stats.published == 0) {
                return Some(Failure::new(Cause::NotTransportStream, "the engine sends no transport stream"));
            }
            if chain.take_progress() && stats.joins > 0 {
                self.apply(context, Event::Bytes, now, None);
                if !std::mem::replace(&mut started, true) {
                    lease.report(EngineEvidence::Started(now.since(began)));
                    tracing::info!(shard = %context.id, session = %self.stream.session(),
                        stream = self.stream.key().display(), engine = %lease.engine(),
                        seconds = now.since(self.asked).as_secs_f64(), "stream plays");
                }
            }
            if broken {
                return Some(Failure::new(Cause::EngineReset, "the engine breaks its chunked framing"));
            }
            if ended {
                return Some(Failure::new(Cause::EngineClosed, "the engine closed the stream"));
            }
            self.make_room(context, &mut chain, &mut playout).await?;
            if read > 0 && read < SHORT_READ {
                let pause = if started { READ_PAUSE } else { START_PAUSE };
                unless_called(&self.quit, sleep(pause)).await?;
            }
            self.life.borrow().state()?;

            let tail = match chain.tail(READ_LIMIT) {
                Ok(tail) => tail,
                Err(error) => return Some(out_of_resources(&error)),
            };
            let handle = self.canceller.borrow().handle();
            let (result, tail) = socket.cancelable_read(tail, handle).await;
            self.life.borrow().state()?;
            match result {
                Ok(0) => ended = true,
                Ok(n) => {
                    read = n;
                    context.count(|c| c.ingress_bytes += n as u64);
                    self.gauges.ingress.set(self.gauges.ingress.get() + n as u64);
                    chain.took(&tail, |piece| {
                        let unframed = framing.unframe(piece);
                        (ended, broken) = (unframed.ended, unframed.broken);
                        unframed.payload
                    });
                }
                Err(error) => {
                    return Some(Failure::new(
                        Cause::EngineReset,
                        format!("the connection to the engine broke: {error}"),
                    ));
                }
            }
        }
    }

    /// Lets go of what lies behind, and waits while what lies ahead of playout
    /// fills the window: the engine is read at the pace of real time then.
    async fn make_room(
        &self,
        context: &Context,
        chain: &mut ChainWriter,
        playout: &mut Playout,
    ) -> Option<()> {
        let config = &context.config.stream;
        loop {
            let now = Monotonic::now();
            let at = playout.advance(now, chain.head());
            chain.window().set_playout(at);
            let ahead = chain.head().saturating_sub(at);
            if ahead > STOCK {
                self.gauges.stocked_until.set(now + ahead);
            }
            chain.trim(at, config.window, config.window_bytes);
            self.gauges.window_bytes.set(chain.kept_bytes());
            if chain.kept_bytes() <= config.window_bytes {
                return Some(());
            }
            // An engine that waits is not silent.
            self.apply(context, Event::Bytes, now, None);
            unless_called(&self.quit, sleep(FULL_WINDOW_PAUSE)).await?;
        }
    }

    fn note(&self, chain: &ChainWriter) {
        self.gauges.skipped.set(chain.stats().skipped);
        self.gauges.continuity_errors.set(chain.index_stats().continuity_errors);
    }
}

fn not_picked(reason: NotPicked) -> Failure {
    match reason {
        NotPicked::NoEngine => Failure::new(Cause::NoEngine, "no engine is ready"),
        NotPicked::Full => Failure::new(Cause::EnginesFull, "every engine plays as many streams as it may"),
    }
}

fn out_of_resources(error: &std::io::Error) -> Failure {
    Failure::new(Cause::AtCapacity, format!("cannot make a segment: {error}"))
}
