//! What happened to a session, told to control as it happens.

use millrace_boundary::{Cause, EngineId, FromShard, Monotonic, SessionNote};

use crate::{
    context::Context,
    stream::{ContentKey, SessionId},
};

/// Notes of one session; of more only the end is told.
const MOST: u32 = 200;

/// Tells what happens to one session.
#[derive(Debug)]
pub(super) struct Timeline {
    session: SessionId,
    key: String,
    asked: Monotonic,
    notes: u32,
}

impl Timeline {
    pub(super) fn new(session: SessionId, key: &ContentKey, asked: Monotonic) -> Self {
        Self { session, key: key.display(), asked, notes: 0 }
    }

    /// Something has happened, on `engine` if on one.
    pub(super) fn note(
        &mut self,
        context: &Context,
        what: &'static str,
        engine: Option<EngineId>,
        detail: &str,
    ) {
        self.notes += 1;
        if self.notes <= MOST {
            self.tell(context, what, engine, detail, None);
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, context: &Context, cause: Cause, detail: &str) {
        self.tell(context, "ended", None, detail, Some(cause));
    }

    fn tell(
        &self,
        context: &Context,
        what: &'static str,
        engine: Option<EngineId>,
        detail: &str,
        ended: Option<Cause>,
    ) {
        context.tell(FromShard::Session(Box::new(SessionNote {
            session: self.session.to_string(),
            key: self.key.clone(),
            shard: context.id,
            at_seconds: Monotonic::now().since(self.asked).as_secs_f64(),
            what,
            engine,
            detail: detail.to_owned(),
            ended,
        })));
    }
}
