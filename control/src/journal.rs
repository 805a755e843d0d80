//! What has happened to the fleet, newest last, and what is wrong now.
//!
//! Events are remarkable moments; an incident is a state that lasts, and is
//! told once when it begins and once when it is over.

use std::{
    collections::{BTreeMap, VecDeque},
    time::SystemTime,
};

use serde::Serialize;

/// Events kept; the oldest goes first.
const EVENTS: usize = 2_000;
/// Kinds of incident open at the same time: their codes are our own words, so
/// this is never met.
const INCIDENTS: usize = 64;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// The fleet does its work.
    Info,
    /// Something is wrong, and is being mended.
    Warning,
    /// Somebody has to do something.
    Error,
}

/// A moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    /// Rises by one with each.
    pub(crate) id: u64,
    /// Seconds since 1970.
    pub(crate) at: f64,
    /// For programs: `snake_case`, never changed.
    pub(crate) code: &'static str,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// The container's name, where it is about one.
    pub(crate) engine: Option<String>,
    /// For people.
    pub(crate) message: String,
    /// What helps, where somebody has to.
    pub(crate) remedy: Option<String>,
    /// How a container ended.
    pub(crate) autopsy: Option<Autopsy>,
}

/// How a container ended, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Autopsy {
    /// The status of its process.
    pub(crate) exit_code: Option<i64>,
    /// Whether the kernel ended it for its memory.
    pub(crate) out_of_memory: bool,
    /// Docker's own words.
    pub(crate) error: Option<String>,
    /// Its last lines, oldest first.
    pub(crate) log_tail: Vec<String>,
}

/// A state that lasts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Incident {
    /// For programs: `snake_case`, never changed.
    pub(crate) code: &'static str,
    /// Seconds since 1970.
    pub(crate) since: f64,
    /// The newest word of it.
    pub(crate) message: String,
    /// What helps.
    pub(crate) remedy: String,
    /// How often it was met since it began.
    pub(crate) times: u64,
}

/// Events and incidents.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: VecDeque<Event>,
    next_id: u64,
    incidents: BTreeMap<&'static str, Incident>,
}

/// Before it is written down.
#[derive(Debug)]
pub(crate) struct Entry {
    code: &'static str,
    severity: Severity,
    engine: Option<String>,
    message: String,
    remedy: Option<String>,
    autopsy: Option<Autopsy>,
}

impl Entry {
    /// The fleet does its work.
    pub(crate) fn info(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Info, message.into())
    }

    /// Something is wrong, and is being mended.
    pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    /// Somebody has to do something, and this helps.
    pub(crate) fn error(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(code, Severity::Error, message.into()) }
    }

    fn new(code: &'static str, severity: Severity, message: String) -> Self {
        Self { code, severity, engine: None, message, remedy: None, autopsy: None }
    }

    /// It is about this engine.
    pub(crate) fn of(mut self, engine: &str) -> Self {
        self.engine = Some(engine.to_owned());
        self
    }

    /// This is how its container ended.
    pub(crate) fn with(mut self, autopsy: Option<Autopsy>) -> Self {
        self.autopsy = autopsy;
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Tell,
    Knows,
}

impl Entry {
    fn log(&self) {
        let Self { code, severity, engine, message, remedy, autopsy } = self;
        let (name, remedy) = (engine.as_deref(), remedy.as_deref());
        let exit_code = autopsy.as_ref().and_then(|a| a.exit_code);
        let out_of_memory = autopsy.as_ref().and_then(|a| a.out_of_memory.then_some(true));
        match severity {
            Severity::Info => tracing::info!(event = code, engine = name, "{message}"),
            Severity::Warning | Severity::Error => {
                tracing::warn!(event = code, engine = name, exit_code, out_of_memory, remedy, "{message}");
            }
        }
    }
}

impl Journal {
    /// Writes an event down, and tells the log.
    pub(crate) fn write(&mut self, entry: Entry) {
        entry.log();
        self.keep(entry);
    }

    fn keep(&mut self, entry: Entry) {
        let Entry { code, severity, engine, message, remedy, autopsy } = entry;
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        let id = self.next_id;
        self.next_id += 1;
        let at = unix_seconds();
        self.events.push_back(Event { id, at, code, severity, engine, message, remedy, autopsy });
    }

    /// Something is wrong, still or anew; told once for as long as it lasts.
    pub(crate) fn open(&mut self, code: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.begin(code, message.into(), remedy.into(), Log::Tell);
    }

    /// The same where the log has been told already.
    pub(crate) fn open_quietly(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.begin(code, message.into(), remedy.into(), Log::Knows);
    }

    fn begin(&mut self, code: &'static str, message: String, remedy: String, log: Log) {
        if let Some(incident) = self.incidents.get_mut(code) {
            incident.times += 1;
            incident.message = message;
            incident.remedy = remedy;
            return;
        }
        let entry = Entry::error(code, message.clone(), remedy.clone());
        if log == Log::Tell {
            entry.log();
        }
        self.keep(entry);
        if self.incidents.len() < INCIDENTS {
            let since = unix_seconds();
            self.incidents.insert(code, Incident { code, since, message, remedy, times: 1 });
        }
    }

    /// It is over, if it was open.
    pub(crate) fn close(&mut self, code: &'static str, message: &str) {
        if let Some(incident) = self.incidents.remove(code) {
            let took = unix_seconds() - incident.since;
            self.write(Entry::info(code, format!("{message} (after {took:.1} s)")));
        }
    }

    /// Whether something is wrong in this way now.
    pub(crate) fn is_open(&self, code: &str) -> bool {
        self.incidents.contains_key(code)
    }

    /// What is wrong now, by code.
    pub(crate) fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// At most `limit` events of an id above `after`, the newest ones, oldest
    /// first.
    pub(crate) fn events(&self, after: Option<u64>, limit: usize) -> impl Iterator<Item = &Event> {
        let newer = self.events.iter().filter(move |event| after.is_none_or(|after| event.id > after));
        let count = newer.clone().count();
        newer.skip(count.saturating_sub(limit))
    }
}

/// The wall clock, for people: nothing is decided by it.
fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_events_are_kept_and_told_in_order() {
        let mut journal = Journal::default();
        for i in 0..EVENTS + 5 {
            journal.write(Entry::info("made", format!("{i}")).of("a"));
        }
        assert_eq!(journal.events(None, usize::MAX).count(), EVENTS);
        let ids = |after, limit| journal.events(after, limit).map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(None, 2), [2_003, 2_004]);
        assert_eq!(ids(Some(2_002), 10), [2_003, 2_004]);
        assert_eq!(ids(Some(2_004), 10), [0u64; 0]);
        assert_eq!(ids(None, 0), [0u64; 0]);
    }

    #[test]
    fn an_incident_is_told_when_it_begins_and_when_it_is_over() {
        let mut journal = Journal::default();
        journal.close("docker_lost", "Docker answers again");
        for i in 0..3 {
            journal.open("docker_lost", format!("try {i}"), "start it");
        }
        assert_eq!(journal.events(None, 10).count(), 1);
        let open: Vec<_> = journal.incidents().map(|i| (i.code, i.times, i.message.as_str())).collect();
        assert_eq!(open, [("docker_lost", 3, "try 2")]);
        journal.close("docker_lost", "Docker answers again");
        assert_eq!((journal.incidents().count(), journal.is_open("docker_lost")), (0, false));
        let last = journal.events(None, 1).next().unwrap();
        assert!(last.message.starts_with("Docker answers again"), "{last:?}");
        assert_eq!(last.severity, Severity::Info);
    }
}
