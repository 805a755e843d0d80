//! From what sources bring to the chain: who writes it, and where one takes
//! over from another.

use std::{rc::Rc, sync::Arc, time::Duration};

use millrace_boundary::{Cause, Monotonic, Operation, Outcome, Output, StreamState};

use super::{
    chain::Chain,
    engine::{self, Failure},
    event::{Event, SourceId, Why},
    session::Session,
    source::Source,
};
use crate::{
    context::Context,
    hls::{Comes, Maker},
    rt::spawn,
    segment::{Candidate, Fit},
};

/// Filler is sent when nothing else was for this long, and sooner where it is known
/// that another engine has to begin first.
const FILLER_AFTER: Duration = Duration::from_secs(1);
const FILLER_SOON: Duration = Duration::from_millis(400);
/// A challenger that plays the chain's own past for this long after its first
/// packet does not catch up by itself.
const BEHIND_AFTER: Duration = Duration::from_secs(3);
/// A challenger that has brought packets for this long without a place to go on
/// from goes on at its newest join point.
const MEET_LIMIT: Duration = Duration::from_secs(20);
/// An engine tells its position within this after its first packet, or never.
const POSITION_LIMIT: Duration = Duration::from_millis(1_500);
/// An engine that was asked to go back has this long to do so.
const SEEK_LIMIT: Duration = Duration::from_secs(3);
/// How much further back it is asked to go: positions are whole seconds.
const SEEK_MARGIN: Duration = Duration::from_secs(2);
/// Of a source on standby, this much is kept.
const STANDBY_SECONDS: u64 = 20;
const STANDBY_BYTES: usize = 16 << 20;

impl Session {
    /// Whether `source` may read on: the active one reads at the pace of real
    /// time once what lies ahead of playout fills the window.
    pub(super) fn has_room(self: &Rc<Self>, context: &Rc<Context>, source: &Source) -> bool {
        if self.active() != Some(source.id) {
            return true;
        }
        let now = Monotonic::now();
        let has_room =
            self.chain.borrow_mut().as_mut().is_none_or(|chain| chain.make_room(context.limits(), now));
        if !has_room {
            // An engine that waits is not silent.
            self.apply(context, Event::Bytes, now);
        }
        has_room
    }

    /// Whether some of what `source` had brought when it took over is to be
    /// published yet.
    pub(super) fn has_backlog(&self, source: &Source) -> bool {
        self.active() == Some(source.id) && self.chain.borrow().as_ref().is_some_and(Chain::has_backlog)
    }

    /// Publishes some of that.
    ///
    /// # Errors
    /// As [`Self::packets`].
    pub(super) fn pump(&self, context: &Context) -> Result<(), Failure> {
        let now = Monotonic::now();
        let pumped = self.chain.borrow_mut().as_mut().map_or(Ok(false), |chain| chain.pump(now));
        self.tell_news(context);
        pumped.map(drop).map_err(|error| out_of_resources(&error))
    }

    /// Takes whole packets of a source.
    ///
    /// # Errors
    /// When there are no descriptors or memory for them.
    pub(super) fn packets(
        self: &Rc<Self>,
        context: &Rc<Context>,
        source: &Rc<Source>,
        packets: &[u8],
    ) -> Result<(), Failure> {
        if packets.is_empty() || !self.has(source) {
            return Ok(());
        }
        let now = Monotonic::now();
        if source.first_packet.get().is_none() {
            source.first_packet.set(Some(now));
            self.timeline.borrow_mut().note(context, "first_packet", Some(source.engine), "");
        }
        if self.active() == Some(source.id) {
            let added = self.chain.borrow_mut().as_mut().map_or(Ok(()), |chain| chain.append(packets, now));
            added.map_err(|error| out_of_resources(&error))?;
            self.tell_news(context);
            self.apply(context, Event::Bytes, now);
            self.note_started(context, source, now);
            return Ok(());
        }
        if let Some(candidate) = source.candidate.borrow_mut().as_mut() {
            candidate.push(packets);
            if let Some(psi) = candidate.psi() {
                self.stream.set_psi(psi);
            }
            let is_standby = self.life.borrow().why(source.id) == Some(Why::Standby);
            if is_standby && (candidate.len() > STANDBY_BYTES || candidate.seconds() > STANDBY_SECONDS) {
                candidate.keep(candidate.len() / 2);
            }
        }
        if self.state() == Some(StreamState::Stalled) {
            self.apply(context, Event::Progress(source.id), now);
        }
        self.assess_one(context, source, now);
        Ok(())
    }

    /// What `source` brings from now on does not continue what it brought.
    pub(super) fn breaks(&self, source: &Source) {
        if self.active() != Some(source.id) {
            // What came before it is no way to where it is now.
            if let Some(candidate) = source.candidate.borrow_mut().as_mut() {
                *candidate = Candidate::new();
            }
        } else if let Some(chain) = self.chain.borrow_mut().as_mut() {
            // Without memory for what was held back there is none for what follows,
            // which tells.
            chain.break_off(Monotonic::now()).ok();
        }
    }

    /// `source` has brought all that there is so far.
    pub(super) fn is_read_up(&self, source: &Source) {
        if self.active() == Some(source.id)
            && let Some(chain) = self.chain.borrow_mut().as_mut()
        {
            chain.land();
        }
    }

    /// Looks at what the chain needs: filler, and whether its source does.
    pub(super) fn look_at_chain(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        let mut chain = self.chain.borrow_mut();
        let Some(chain_now) = chain.as_mut() else { return };
        let verdict = chain_now.look(context.limits(), now);
        let errors = self.gauges.note(chain_now);
        context.count(|c| c.continuity_errors += errors);
        let is_failing_over = self.state() == Some(StreamState::FailingOver);
        let patience = if is_failing_over { FILLER_SOON } else { FILLER_AFTER };
        if chain_now.quiet_for(now) >= patience && self.has_played() {
            // Without memory for a packet there is none for what follows.
            chain_now.fill(now).ok();
        }
        let has_stock = chain_now.has_stock(now);
        drop(chain);
        self.tell_news(context);
        if self.source().is_some_and(|source| source.may_rest(now)) {
            // Its next segment is not due yet.
            self.apply(context, Event::Bytes, now);
        }
        if has_stock && self.active().is_some() {
            // An engine that has sent minutes ahead may rest until they are over.
            self.apply(context, Event::Bytes, now);
        } else if let Some(verdict) = verdict {
            if self.gauges.verdict.replace(Some(verdict)) != Some(verdict) {
                let engine = self.source().map(|s| s.engine);
                self.timeline.borrow_mut().note(context, verdict.as_str(), engine, "");
            }
            self.apply(context, Event::Distrusted, now);
        } else {
            self.gauges.verdict.set(None);
        }
    }

    /// Looks at what every challenger has brought.
    pub(super) fn assess(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        for source in &self.running() {
            if self.active() != Some(source.id) && source.first_packet.get().is_some() {
                self.assess_one(context, source, now);
            }
        }
    }

    /// Whether what a challenger has brought can be played.
    fn assess_one(self: &Rc<Self>, context: &Rc<Context>, source: &Rc<Source>, now: Monotonic) {
        let Some(first) = source.first_packet.get() else { return };
        let waited = now.since(first);
        let event = {
            let (candidate, chain) = (source.candidate.borrow(), self.chain.borrow());
            let Some(candidate) = candidate.as_ref() else { return };
            match chain.as_ref() {
                None => candidate.has_join().then_some(Event::Ready(source.id)),
                // Its end is not known yet.
                Some(chain) if chain.has_backlog() => None,
                Some(chain) => match chain.fit(candidate) {
                    Fit::Exact(_) => Some(Event::Ready(source.id)),
                    Fit::Apart(Some(_)) => match candidate.gap(chain.writer()) {
                        Some((_, ahead)) if self.may_seek(context, source, ahead, now) => None,
                        _ => Some(Event::Ready(source.id)),
                    },
                    Fit::Behind if waited >= BEHIND_AFTER => Some(Event::Behind(source.id)),
                    Fit::Behind => None,
                    Fit::Unknown | Fit::Apart(None) => {
                        (waited >= MEET_LIMIT && candidate.has_join()).then_some(Event::Ready(source.id))
                    }
                },
            }
        };
        if let Some(event) = event {
            self.apply(context, event, now);
        }
    }

    /// A challenger begins behind the end of the chain: asks its engine to go
    /// back to there, once. Says whether that is to be waited for.
    fn may_seek(
        self: &Rc<Self>,
        context: &Rc<Context>,
        source: &Rc<Source>,
        ahead: Duration,
        now: Monotonic,
    ) -> bool {
        if source.output == Output::Hls {
            // Its list begins where it does.
            return false;
        }
        if let Some(sought) = source.sought.get() {
            return now.since(sought) < SEEK_LIMIT;
        }
        let Some(command) = source.command.borrow().clone() else { return false };
        let Some(position) = source.stat.borrow().as_ref().map(|stat| stat.position) else { return false };
        let Some(position) = position else {
            // Told only once the session plays, at the next look.
            return source.first_packet.get().is_some_and(|first| now.since(first) < POSITION_LIMIT);
        };
        source.sought.set(Some(now));
        let target = position.saturating_sub((ahead + SEEK_MARGIN).as_secs());
        self.timeline.borrow_mut().note(context, "seeks", Some(source.engine), "to where the chain ends");
        let (source, address) = (Rc::clone(source), source.address);
        spawn(async move {
            if !engine::seek(address, &command, target).await {
                // It goes on from where it is.
                source.sought.set(Some(Monotonic::default()));
            }
        });
        true
    }

    /// From now on a challenger writes the chain, with what it has brought.
    pub(super) fn promote(
        self: &Rc<Self>,
        context: &Rc<Context>,
        id: SourceId,
        now: Monotonic,
    ) -> Option<Event> {
        let source = self.sources.borrow().iter().find(|s| s.id == id).cloned()?;
        let candidate = source.candidate.borrow_mut().take()?;
        let spliced = match &mut *self.chain.borrow_mut() {
            Some(chain) => chain.splice(candidate, now),
            none => {
                let shelf = Arc::clone(self.stream.shelf());
                let comes = if source.output == Output::Hls { Comes::BySegment } else { Comes::Steadily };
                let maker = Maker::new(shelf, &context.config.hls, context.limits().segments, comes);
                Chain::begin(self.stream.shared_window(), maker, candidate, now).map(|chain| {
                    *none = Some(chain);
                    "from its first packet"
                })
            }
        };
        self.tell_news(context);
        match spliced {
            Ok(how) => {
                self.stream.set_engine(Some(source.engine));
                self.tried.replace(vec![source.engine]);
                self.timeline.borrow_mut().note(context, "plays", Some(source.engine), how);
                tracing::info!(shard = %context.id, session = %self.stream.session(), engine = %source.engine, how,
                    "source plays");
                self.note_started(context, &source, now);
                None
            }
            Err(error) => {
                let failure = out_of_resources(&error);
                source.stop();
                self.last.replace(failure.detail);
                Some(Event::Failed(id, failure.cause))
            }
        }
    }

    /// Whoever waits for something new of its media segments is told of it.
    pub(super) fn tell_news(&self, context: &Context) {
        if self.chain.borrow_mut().as_mut().is_some_and(Chain::take_news) {
            self.stream.tell_waiting(context);
        }
    }

    fn note_started(&self, context: &Context, source: &Source, now: Monotonic) {
        if self.gauges.first_byte.get().is_some() || !self.has_played() {
            return;
        }
        let took = now.since(self.asked);
        self.gauges.first_byte.set(Some(took));
        context.record(Operation::StreamStart, self.asked, now, Outcome::Worked);
        context.start_times.borrow_mut().add(now.since(source.began));
        context.memory.borrow_mut().started(&self.content.key, now);
        tracing::info!(shard = %context.id, session = %self.stream.session(),
            stream = self.stream.key().display(), engine = %source.engine,
            seconds = took.as_secs_f64(), "stream plays");
    }
}

fn out_of_resources(error: &std::io::Error) -> Failure {
    Failure::new(Cause::AtCapacity, format!("cannot make a segment: {error}"))
}
