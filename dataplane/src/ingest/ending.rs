//! The end of a session: its cause, and who is told.

use std::rc::Rc;

use millrace_boundary::{Cause, Monotonic, Operation, Outcome};

use super::{event::Event, session::Session};
use crate::{context::Context, stream::Ended};

impl Session {
    /// Ends it for a cause that its life names.
    pub(super) fn end(&self, context: &Context, cause: Cause, now: Monotonic) {
        let (cause, detail) = self.explain(cause, now);
        self.over(context, &Ended::new(cause, detail), now);
    }

    /// Ends it for a reason from outside.
    pub(super) fn close(self: &Rc<Self>, context: &Rc<Context>, ended: &Ended, now: Monotonic) {
        self.over(context, ended, now);
        self.apply(context, Event::Drain, now);
    }

    /// Ends it because somebody asked for that.
    pub(crate) fn stop(self: &Rc<Self>, context: &Rc<Context>, now: Monotonic) {
        self.close(context, &Ended::new(Cause::Stopped, "somebody asked for its end"), now);
    }

    /// The cause with what the engine said of the swarm, and the words for it.
    fn explain(&self, cause: Cause, now: Monotonic) -> (Cause, String) {
        let seconds = now.since(self.asked).as_secs();
        match cause {
            Cause::StartTimeout => match self.gauges.swarm.get() {
                _ if self.refused.borrow().is_some() => {
                    let refused = self.refused.borrow().clone().unwrap_or_default();
                    (Cause::StartFailed, format!("{refused}, for {seconds} s"))
                }
                Some((0, 0)) => (Cause::NoPeers, format!("no peer was found within {seconds} s")),
                Some((peers, 0)) => {
                    (Cause::PeersWithoutData, format!("{peers} peers gave nothing within {seconds} s"))
                }
                _ => (cause, format!("no playable data within {seconds} s")),
            },
            Cause::Stalled => (cause, "the engine fell silent, and no other one could take over".to_owned()),
            Cause::ShuttingDown => (cause, "the server is shutting down".to_owned()),
            other => match self.last.borrow().as_str() {
                "" => (other, other.as_str().replace('_', " ")),
                last => (other, last.to_owned()),
            },
        }
    }

    fn over(&self, context: &Context, ended: &Ended, now: Monotonic) {
        if self.told.replace(true) {
            return;
        }
        // What there is of it is for those who wait.
        self.stream.window().set_filling(false);
        context.count(|c| c.streams_ended[ended.cause.index()] += 1);
        if self.gauges.first_byte.get().is_none() {
            context.memory.borrow_mut().gave_up(&self.content.key, ended.cause, now);
            if ended.cause != Cause::Merged {
                context.record(Operation::StreamStart, self.asked, now, Outcome::Failed);
            }
        }
        tracing::info!(shard = %context.id, session = %self.stream.session(),
            stream = self.stream.key().display(), cause = ended.cause.as_str(), detail = ended.detail,
            seconds = now.since(self.asked).as_secs_f64(), "stream ended");
        self.timeline.borrow_mut().end(context, ended.cause, &ended.detail);
        self.stream.end(ended.clone());
        self.stream.tell_waiting(context);
    }
}
