//! One stream as its owner shard runs it: sources are begun and ended as its
//! life says, one of them writes the chain, the end is told.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use millrace_boundary::{
    Cause, EngineEntry, EngineId, EngineTable, Monotonic, NotPicked, Operation, Outcome, Output, SlotGuard,
    StreamState,
};
use static_assertions::assert_not_impl_any;

use super::{
    chain::Chain,
    engine::Failure,
    event::{Effect, Event, SourceId, Why},
    gauges::Gauges,
    lease::Lease,
    life::{Life, Limits},
    polling::Finding,
    queue::Ticket,
    source::Source,
    timeline::Timeline,
};
use crate::{
    context::{Context, Permit, random},
    http::content::Content,
    inbox::Peer,
    rt::sleep,
    stream::{ContentKey, Seat, SessionId, Stream},
};

/// The owner of a swarm judges a claim within this, or is too busy to be waited
/// for.
const CLAIM_LIMIT: Duration = Duration::from_secs(1);
/// How often that wait looks again.
const CLAIM_PAUSE: Duration = Duration::from_millis(1);

/// What a challenger's engine has sent ahead is read so many times as fast as it
/// plays: ten seconds in half of one, whatever the rate, and for other streams of
/// the shard not all at once.
const CATCHES_UP: u32 = 20;

/// One session.
pub(crate) struct Session {
    pub(super) stream: Arc<Stream>,
    pub(super) content: Content,
    pub(super) asked: Monotonic,
    pub(super) gauges: Gauges,
    pub(super) timeline: RefCell<Timeline>,
    pub(super) life: RefCell<Life>,
    pub(super) sources: RefCell<Vec<Rc<Source>>>,
    /// Engines asked since the stream last played.
    pub(super) tried: RefCell<Vec<EngineId>>,
    pub(super) chain: RefCell<Option<Chain>>,
    pub(super) infohash: RefCell<Option<String>>,
    /// The other kind of id was tried already.
    pub(super) swapped: Cell<bool>,
    /// What an engine has answered, again and again, instead of bytes.
    pub(super) refused: RefCell<Option<String>>,
    /// Why the last source ended, in words.
    pub(super) last: RefCell<String>,
    /// Since when it waits for a slot.
    pub(super) queued: Cell<Option<Monotonic>>,
    /// Its place in the order of those that do; a start keeps it over all engines
    /// that it tries.
    pub(super) ticket: Cell<Option<Ticket>>,
    /// Its end has been counted and told.
    pub(super) told: Cell<bool>,
    _permit: Permit,
}

assert_not_impl_any!(Session: Send, Sync);

impl Session {
    /// Begins a session, with a seat for the viewer who asked.
    pub(crate) fn begin(context: &Rc<Context>, content: Content, permit: Permit) -> (Rc<Self>, Seat) {
        let now = Monotonic::now();
        let config = &context.config.stream;
        let limits = Limits {
            start_budget: config.start_budget,
            longest_start: config.longest_start.max(config.start_budget),
            hedge_after: context.start_times.borrow().hedge_after(),
            linger: config.linger,
            stall_after: config.stall_after,
            silence: config.silence_limit,
        };
        let id = SessionId(random());
        let stream = Stream::new(id, content.key.clone(), context.new_window());
        let seat = stream.enter().expect("a new stream is open");
        let mut effects = Vec::new();
        let life = Life::new(limits, now, &mut effects);
        let session = Rc::new(Self {
            timeline: RefCell::new(Timeline::new(id, &content.key, now)),
            stream,
            content,
            asked: now,
            gauges: Gauges::default(),
            life: RefCell::new(life),
            sources: RefCell::default(),
            tried: RefCell::default(),
            chain: RefCell::default(),
            infohash: RefCell::default(),
            swapped: Cell::new(false),
            refused: RefCell::default(),
            last: RefCell::default(),
            queued: Cell::new(None),
            ticket: Cell::new(None),
            told: Cell::new(false),
            _permit: permit,
        });
        context.count(|c| c.streams_started += 1);
        tracing::info!(shard = %context.id, session = %session.stream.session(),
            stream = session.stream.key().display(), "stream asked for");
        session.perform(context, effects, now);
        (session, seat)
    }

    /// What all shards know of it.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Its id.
    pub(crate) fn id(&self) -> SessionId {
        self.stream.session()
    }

    /// Whether it is over and nothing of it runs any more.
    pub(crate) fn is_over(&self) -> bool {
        self.told.get() && self.sources.borrow().is_empty()
    }

    /// Its sources but those that were told to end.
    pub(super) fn running(&self) -> Vec<Rc<Source>> {
        self.sources.borrow().iter().filter(|s| !s.is_stopped()).cloned().collect()
    }

    /// Looks at the clock, at who is there, and at what challengers have.
    pub(crate) fn tick(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        if self.told.get() {
            return;
        }
        if let Some(ended) = self.stream.merged().and_then(|_| self.stream.ended()) {
            self.close(context, &ended.clone(), now);
            return;
        }
        self.look_at_chain(context, now);
        self.look_at_viewers(context, now);
        let viewers = self.stream.viewers();
        let standby = context.config.stream.standby_viewers;
        self.apply(context, Event::Guard(standby > 0 && viewers > standby), now);
        self.look_at_engine(context, now);
        self.assess(context, now);
        self.apply(context, Event::Tick, now);
    }

    /// Looks whether somebody is there.
    pub(super) fn look_at_viewers(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        let watched = if self.stream.viewers() > 0 { Event::Watched } else { Event::Unwatched };
        self.apply(context, watched, now);
    }

    /// Ends it because the server ends.
    pub(crate) fn drain(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        self.apply(context, Event::Drain, now);
    }

    /// Leaves its engine for another one, without a pause if that can be.
    pub(crate) fn migrate(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        self.timeline.borrow_mut().note(context, "migration_asked", None, "");
        self.apply(context, Event::Migrate, now);
    }

    /// The source that writes the chain.
    pub(super) fn active(&self) -> Option<SourceId> {
        self.life.borrow().active()
    }

    /// Its state; `None` once it has ended.
    pub(super) fn state(&self) -> Option<StreamState> {
        self.life.borrow().state()
    }

    /// The engine that plays it, or is asked first.
    pub(super) fn source(&self) -> Option<Rc<Source>> {
        let active = self.active();
        let sources = self.running();
        sources.iter().find(|s| Some(s.id) == active).or_else(|| sources.first()).cloned()
    }

    /// Whether `source` is still one of its own.
    pub(super) fn has(&self, source: &Source) -> bool {
        !source.is_stopped() && self.sources.borrow().iter().any(|s| s.id == source.id)
    }

    /// Whether somebody waits for what `source` will bring.
    pub(super) fn is_waiting_for(&self, source: &Source) -> bool {
        self.active() != Some(source.id)
    }

    /// Whether a viewer has had something to join.
    pub(super) fn has_played(&self) -> bool {
        self.stream.window().has_join()
    }

    /// What to pause between two reads of `source` for, where it has sent far ahead
    /// of time and nobody waits for it.
    pub(super) fn leisure(&self, source: &Source) -> Option<Duration> {
        if self.is_waiting_for(source) {
            return None;
        }
        self.chain.borrow().as_ref().and_then(|chain| chain.leisure(Monotonic::now()))
    }

    /// What to pause for behind so many bytes of `source`, where it is to catch up
    /// with the stream.
    pub(super) fn haste(&self, source: &Source, bytes: usize) -> Option<Duration> {
        let candidate = source.candidate.borrow();
        candidate.as_ref()?.plays_for(bytes).map(|plays_for| plays_for / CATCHES_UP)
    }

    /// The swarm, once it is known.
    pub(super) fn infohash(&self) -> Option<String> {
        self.infohash.borrow().clone()
    }

    /// What to ask an engine for: the kind of id that is known to work.
    pub(super) fn content_to_ask(&self, context: &Context) -> Content {
        let swap = context.memory.borrow().is_swapped(&self.content.key);
        let other = swap.then(|| self.content.other_kind()).flatten();
        other.unwrap_or_else(|| self.content.clone())
    }

    /// How an engine is asked to hand it out: as whoever came first wished, or as
    /// is usual with the engine.
    pub(super) fn output(&self, context: &Context, engine: Option<Output>) -> Output {
        self.content.output.or(engine).unwrap_or(context.config.stream.source)
    }

    /// The same digits as the other kind of id, once.
    pub(super) fn other_kind(&self) -> Option<Content> {
        let other = self.content.other_kind()?;
        (!self.swapped.replace(true)).then_some(other)
    }

    /// An engine has found the content by the other kind of id.
    pub(super) fn other_kind_works(&self, context: &Context) {
        context.memory.borrow_mut().swap(&self.content.key);
    }

    /// An engine has opened a session for it.
    pub(super) fn opened(&self, context: &Context, source: &Source) {
        if self.active().is_none() {
            self.stream.set_engine(Some(source.engine));
        }
        self.timeline.borrow_mut().note(context, "answered", Some(source.engine), "");
    }

    /// Tells the owner of the swarm that this stream plays it, and waits for
    /// its judgement. Says whether another stream has taken this one over.
    pub(super) async fn claim(&self, context: &Rc<Context>, infohash: &str) -> bool {
        let key = ContentKey::infohash(infohash);
        let is_known = self.infohash.replace(Some(infohash.to_owned())).as_deref() == Some(infohash);
        // A running stream has claimed it long ago.
        if key == self.content.key
            || self.content.key.as_str().contains('&')
            || (is_known && self.has_played())
        {
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

    /// What an engine says of a session.
    pub(super) fn told(self: &Rc<Self>, context: &Rc<Context>, source: &Rc<Source>, finding: Finding) {
        let now = Monotonic::now();
        let is_active = self.active() == Some(source.id);
        if let Some(stat) = source.stat.borrow().as_ref().filter(|_| !self.has_played()) {
            self.gauges.note_swarm(stat.peers.unwrap_or(0), stat.downloaded.unwrap_or(0));
        }
        match finding {
            Finding::Nothing => {}
            Finding::Progress => self.apply(context, Event::Progress(source.id), now),
            // Its bytes tell the truth; but it had better be replaced.
            Finding::Failed(_) | Finding::Lost if is_active || source.first_packet.get().is_some() => {
                if is_active {
                    self.timeline.borrow_mut().note(
                        context,
                        "session_lost",
                        Some(source.engine),
                        "says stat",
                    );
                    self.apply(context, Event::Distrusted, now);
                }
            }
            Finding::Failed(text) => {
                self.failed(context, source, &Failure::new(Cause::StartFailed, format!("stat says: {text}")));
            }
            Finding::Lost => {
                let detail = "the engine does not know the session any more";
                self.failed(context, source, &Failure::new(Cause::SessionLost, detail));
            }
        }
    }

    /// An engine answers with an error instead of bytes, and is asked again.
    pub(super) fn refused(&self, failure: &Failure) {
        self.refused.replace(Some(failure.detail.clone()));
    }

    /// A source has ended by itself.
    pub(super) fn failed(self: &Rc<Self>, context: &Rc<Context>, source: &Source, failure: &Failure) {
        if !self.has(source) {
            return;
        }
        let now = Monotonic::now();
        let was_active = self.active() == Some(source.id);
        source.stop();
        if was_active && let Some(chain) = self.chain.borrow_mut().as_mut() {
            // Without memory for it there is none for what follows, which tells.
            chain.flush(now).ok();
        }
        tracing::info!(shard = %context.id, session = %self.stream.session(), engine = %source.engine,
            cause = failure.cause.as_str(), detail = failure.detail,
            "{}", if was_active { "source lost" } else { "attempt failed" });
        let what = if was_active { "lost" } else { "failed" };
        let words = format!("{}: {}", failure.cause.as_str(), failure.detail);
        self.timeline.borrow_mut().note(context, what, Some(source.engine), &words);
        if !was_active {
            context.memory.borrow_mut().attempt_failed(&self.content.key, failure.cause, now);
        }
        self.last.replace(failure.detail.clone());
        if was_active {
            self.tried.replace(vec![source.engine]);
        }
        self.apply(context, Event::Failed(source.id, failure.cause), now);
        // One on standby may have what is needed.
        self.assess(context, now);
    }

    /// A source has come to its end, as it was told to or by itself.
    pub(super) fn gone(&self, source: &Source) {
        self.sources.borrow_mut().retain(|s| s.id != source.id);
    }

    /// A source on an engine that is being emptied is left.
    fn look_at_engine(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        let Some(active) = self.active() else { return };
        let sources = self.running();
        let engine = sources.iter().find(|s| s.id == active).map(|s| s.engine);
        let table = context.table();
        let is_leaving = |id| table.engines.iter().any(|e| e.id == id && e.state.is_leaving());
        let has_challenger = sources.len() > 1;
        if engine.is_some_and(is_leaving) && !has_challenger && self.gauges.may_migrate(now) {
            self.migrate(context, now);
        }
    }

    /// Something has happened: does what its life says.
    pub(super) fn apply(self: &Rc<Self>, context: &Rc<Context>, event: Event, now: Monotonic) {
        let mut effects = Vec::new();
        let before = self.state();
        self.life.borrow_mut().on(event, now, &mut effects);
        if self.state() == Some(StreamState::Stalled) && before != Some(StreamState::Stalled) {
            let engine = self.source().map(|source| source.engine);
            let words = format!("silent for {:?}", context.config.stream.stall_after);
            self.timeline.borrow_mut().note(context, "stalled", engine, &words);
        }
        self.perform(context, effects, now);
    }

    fn perform(self: &Rc<Self>, context: &Rc<Context>, effects: Vec<Effect>, now: Monotonic) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            tracing::debug!(shard = %context.id, session = %self.stream.session(), ?effect, "effect");
            let event = match effect {
                Effect::Start(id, why) => self.begin_source(context, id, why, now),
                Effect::Promote(id) => self.promote(context, id, now),
                Effect::Stop(id) => {
                    self.stop_source(context, id);
                    None
                }
                Effect::LetGo if self.stream.shelf().is_expected(now) => None,
                Effect::LetGo => self.stream.close_if_empty().then_some(Event::Closed),
                Effect::End(cause) => {
                    self.end(context, cause, now);
                    None
                }
            };
            if let Some(event) = event {
                let mut more = Vec::new();
                self.life.borrow_mut().on(event, now, &mut more);
                effects.extend(more);
            }
        }
        self.stand_in_queue(context, now);
    }

    /// Picks an engine and begins a source with it.
    fn begin_source(
        self: &Rc<Self>,
        context: &Rc<Context>,
        id: SourceId,
        why: Why,
        now: Monotonic,
    ) -> Option<Event> {
        let table = context.table();
        let in_use: Vec<_> = self.sources.borrow().iter().map(|s| s.engine).collect();
        let mut avoid = self.tried.borrow().clone();
        avoid.extend(&in_use);
        let has_chain = self.chain.borrow().is_some();
        // Whoever came earlier is served before a start that has just come or may be
        // quicker with another engine; a stream that plays, or did, before all.
        let is_late = match why {
            Why::Needed => !has_chain && !self.is_queued(),
            Why::Hedge => !has_chain,
            Why::Standby => true,
            Why::Migration => false,
        };
        if is_late && table.growing && context.totals.tickets.anybody() {
            let reason = if table.has_ready() { NotPicked::Full } else { NotPicked::NoEngine };
            let cause = not_picked(reason).cause;
            return Some(self.no_slot(&table, id, Failure::new(cause, "others wait for a slot already")));
        }
        let is_beside = has_chain && matches!(why, Why::Hedge | Why::Standby);
        let permit = match is_beside {
            true => match context.totals.hedge(table.free_slots().div_ceil(2)) {
                Some(permit) => Some(permit),
                None => return Some(Event::Unavailable(id, Cause::EnginesFull)),
            },
            false => None,
        };
        // A stream that has played may return to an engine that lost it.
        let at_least: &[&[EngineId]] = if has_chain { &[&avoid, &in_use] } else { &[&avoid] };
        let gone: Vec<_> = context.losses.borrow_mut().engines(now).chain(avoid.iter().copied()).collect();
        match select(context, &table, &gone, at_least) {
            Ok((entry, slot)) => {
                if let Some(since) = self.queued.get() {
                    let waited = format!("after {:.3} s", now.since(since).as_secs_f64());
                    self.timeline.borrow_mut().note(context, "slot", Some(entry.id), &waited);
                }
                self.tried.borrow_mut().push(entry.id);
                let lease = Lease::new(context, entry, slot);
                self.timeline.borrow_mut().note(context, why.as_str(), Some(entry.id), &entry.name);
                let source = Source::begin(self, context, id, lease, permit);
                self.sources.borrow_mut().push(source);
                Some(Event::Slot(id))
            }
            Err(reason) => Some(self.no_slot(&table, id, not_picked(reason))),
        }
    }

    fn no_slot(&self, table: &EngineTable, id: SourceId, failure: Failure) -> Event {
        let Failure { cause, detail } = failure;
        // What an engine has said tells more.
        if self.tried.borrow().is_empty() || self.last.borrow().is_empty() {
            self.last.replace(detail);
        }
        if table.growing { Event::NoSlot(id, cause) } else { Event::Unavailable(id, cause) }
    }

    fn stop_source(&self, context: &Context, id: SourceId) {
        let source = self.sources.borrow().iter().find(|s| s.id == id).cloned();
        if let Some(source) = source {
            self.timeline.borrow_mut().note(context, "stopped", Some(source.engine), "");
            source.stop();
        }
    }
}

/// Reserves a slot of an engine that is none of `avoid`, or else of one that is
/// none of the first of `at_least`, and so on.
fn select<'a>(
    context: &Context,
    table: &'a EngineTable,
    avoid: &[EngineId],
    at_least: &[&[EngineId]],
) -> Result<(&'a EngineEntry, SlotGuard), NotPicked> {
    let began = Monotonic::now();
    let picked =
        at_least.iter().fold(table.pick(avoid), |picked, avoid| picked.or_else(|_| table.pick(avoid)));
    let outcome = if picked.is_ok() { Outcome::Worked } else { Outcome::Failed };
    context.record(Operation::EngineSelection, began, Monotonic::now(), outcome);
    picked
}

fn not_picked(reason: NotPicked) -> Failure {
    match reason {
        NotPicked::NoEngine => Failure::new(Cause::NoEngine, "no engine is ready"),
        NotPicked::Full => Failure::new(Cause::EnginesFull, "every engine plays as many streams as it may"),
    }
}
