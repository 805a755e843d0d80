//! The timelines of sessions, as shards tell them.

use std::collections::{HashMap, VecDeque};

use millrace_boundary::{Cause, EngineId, SessionNote, ShardId};
use serde::Serialize;

/// Sessions remembered; of more, the one that ended first is forgotten, or
/// else the one heard of first.
const MOST: usize = 2_000;
/// Notes kept of one session: the first ones, and its end.
const NOTES: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    /// Seconds since the first viewer asked.
    pub(crate) at_seconds: f64,
    /// In a word.
    pub(crate) what: &'static str,
    /// On which engine.
    pub(crate) engine: Option<EngineId>,
    /// For people.
    pub(crate) detail: String,
}

/// One session from its first note on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Session {
    /// Its id, 16 hex digits.
    pub(crate) session: String,
    /// What the first viewer asked for.
    pub(crate) key: String,
    /// Who runs it.
    pub(crate) shard: ShardId,
    /// Why it ended, once it has.
    pub(crate) cause: Option<Cause>,
    /// More of that, for people.
    pub(crate) detail: Option<String>,
    /// What happened, oldest first.
    pub(crate) timeline: Vec<Note>,
}

/// The newest sessions, running ones and ended ones.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: HashMap<String, Session>,
    /// In order of first notes.
    order: VecDeque<String>,
    /// In order of ends.
    ended: VecDeque<String>,
}

impl Sessions {
    /// Takes a note in.
    pub(crate) fn hear(&mut self, note: SessionNote) {
        if !self.all.contains_key(&note.session) {
            self.make_room();
            self.order.push_back(note.session.clone());
        }
        let session = self.all.entry(note.session.clone()).or_insert_with(|| Session {
            session: note.session.clone(),
            key: note.key,
            shard: note.shard,
            cause: None,
            detail: None,
            timeline: Vec::new(),
        });
        if let Some(cause) = note.ended {
            session.cause = Some(cause);
            session.detail = Some(note.detail.clone());
            self.ended.push_back(note.session);
        }
        if session.timeline.len() < NOTES || note.ended.is_some() {
            let SessionNote { at_seconds, what, engine, detail, .. } = note;
            session.timeline.push(Note { at_seconds, what, engine, detail });
        }
    }

    /// One session by its id.
    pub(crate) fn get(&self, id: &str) -> Option<&Session> {
        self.all.get(id)
    }

    /// All of them, the newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Session> {
        self.order.iter().rev().filter_map(|id| self.all.get(id))
    }

    fn make_room(&mut self) {
        while self.all.len() >= MOST {
            let oldest = self.ended.pop_front().or_else(|| self.order.front().cloned());
            let Some(id) = oldest else { return };
            self.all.remove(&id);
            self.order.retain(|other| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(session: u32, what: &'static str, ended: Option<Cause>) -> SessionNote {
        SessionNote {
            session: format!("{session:016x}"),
            key: "id:x".to_owned(),
            shard: ShardId(0),
            at_seconds: 1.0,
            what,
            engine: None,
            detail: what.to_owned(),
            ended,
        }
    }

    #[test]
    fn a_session_keeps_its_first_notes_and_its_end() {
        let mut sessions = Sessions::default();
        (0..1_000).for_each(|_| sessions.hear(note(1, "asked", None)));
        sessions.hear(note(1, "ended", Some(Cause::Stalled)));
        let session = sessions.get("0000000000000001").unwrap();
        assert_eq!((session.timeline.len(), session.cause), (NOTES + 1, Some(Cause::Stalled)));
        assert_eq!(session.timeline.last().unwrap().what, "ended");
    }

    #[test]
    fn of_too_many_the_ended_ones_go_first() {
        let mut sessions = Sessions::default();
        sessions.hear(note(0, "asked", None));
        for n in 1..10_000 {
            sessions.hear(note(n, "ended", Some(Cause::ViewersLeft)));
        }
        assert_eq!((sessions.all.len(), sessions.order.len()), (MOST, MOST));
        assert!(sessions.get("0000000000000000").is_some(), "it still runs");
        assert_eq!(sessions.newest().next().unwrap().session, format!("{:016x}", 9_999));
        for n in 10_000..20_000 {
            sessions.hear(note(n, "asked", None));
        }
        assert_eq!(sessions.all.len(), MOST);
    }
}
