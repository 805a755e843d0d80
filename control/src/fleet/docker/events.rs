//! What the daemon's events are good for: when to look, and what the list will
//! not say of a death.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bollard::models::{EventMessage, EventMessageTypeEnum};
use millrace_boundary::Monotonic;

use super::ENGINE_LABEL;

/// Kept until they are taken, the newest, and remembered to know them again.
const MAX_HINTS: usize = 64;

/// Events of containers that the daemon is asked for.
pub(super) const CONTAINER_EVENTS: [&str; 11] = [
    "create",
    "start",
    "die",
    "oom",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "stop",
    "kill",
    "health_status",
];

/// Events of networks that the daemon is asked for.
pub(super) const NETWORK_EVENTS: [&str; 2] = ["connect", "disconnect"];

/// What became of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The kernel ended a process of its container for its memory limit.
    Oom,
    /// The container's first process ended.
    Died {
        /// As a shell has it: 128 and the signal for one that ended it. Unknown
        /// when Docker does not tell it.
        exit_code: Option<i64>,
    },
}

/// Something that an event told of an engine. The list says what is so; this
/// only helps to say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The container's id.
    pub(crate) id: Arc<str>,
    /// What happened to it.
    pub(crate) what: Fate,
    /// When it was heard.
    pub(crate) at: Monotonic,
}

/// Whose events count: those of other containers on the host are many.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Ids of engines, and ids and names of those that lend them a network.
    names: HashSet<Arc<str>>,
}

impl Known {
    pub(super) fn of(
        engines: impl Iterator<Item = Arc<str>>,
        lenders: impl Iterator<Item = Arc<str>>,
    ) -> Self {
        Self { names: engines.chain(lenders).collect() }
    }

    /// Whether the list may differ after it.
    pub(super) fn concerns(&self, event: &EventMessage) -> bool {
        let Some(actor) = &event.actor else { return false };
        let attribute = |key: &str| actor.attributes.as_ref()?.get(key).map(String::as_str);
        let is_known = |name: Option<&str>| name.is_some_and(|name| self.names.contains(name));
        match event.typ {
            Some(EventMessageTypeEnum::CONTAINER) => {
                attribute(ENGINE_LABEL) == Some("true")
                    || is_known(actor.id.as_deref())
                    || is_known(attribute("name"))
            }
            Some(EventMessageTypeEnum::NETWORK) => is_known(attribute("container")),
            _ => false,
        }
    }
}

/// Who died of what, each once, in a bounded queue.
#[derive(Debug, Default)]
pub(super) struct Hints {
    waiting: VecDeque<Hint>,
    /// The last ones with Docker's own time in nanoseconds: a repeated event
    /// has the same.
    told: VecDeque<(Arc<str>, Fate, Option<i64>)>,
}

impl Hints {
    /// Keeps what the event tells of an engine's death; says whether it does.
    pub(super) fn hear(&mut self, event: &EventMessage, now: Monotonic) -> bool {
        let Some((id, what)) = death(event) else { return false };
        let id: Arc<str> = id.into();
        let told = (Arc::clone(&id), what, event.time_nano);
        if self.told.contains(&told) {
            return false;
        }
        push(&mut self.told, told);
        push(&mut self.waiting, Hint { id, what, at: now });
        true
    }

    /// Empties it, oldest first.
    pub(super) fn take(&mut self) -> Vec<Hint> {
        self.waiting.drain(..).collect()
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() >= MAX_HINTS {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Of containers with our label; who lends a network to one is none.
fn death(event: &EventMessage) -> Option<(&str, Fate)> {
    if event.typ != Some(EventMessageTypeEnum::CONTAINER) {
        return None;
    }
    let actor = event.actor.as_ref()?;
    let attributes = actor.attributes.as_ref()?;
    if attributes.get(ENGINE_LABEL).map(String::as_str) != Some("true") {
        return None;
    }
    let id = actor.id.as_deref().filter(|id| !id.is_empty() && id.len() <= 64)?;
    match event.action.as_deref()? {
        "oom" => Some((id, Fate::Oom)),
        "die" => {
            let exit_code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            Some((id, Fate::Died { exit_code }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn event(value: Value) -> EventMessage {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_events_of_engines_and_of_what_they_live_on_ask_for_a_look() {
        let known = Known::of(["e1".into()].into_iter(), ["v1".into(), "gluetun".into()].into_iter());
        let labelled = json!({ "io.millrace.engine": "true", "name": "new" });
        for (name, message, expected) in [
            (
                "labelled and new",
                json!({ "Type": "container", "Action": "start", "Actor": { "ID": "x", "Attributes": labelled } }),
                true,
            ),
            (
                "known",
                json!({ "Type": "container", "Action": "die", "Actor": { "ID": "e1", "Attributes": {} } }),
                true,
            ),
            (
                "known, without attributes",
                json!({ "Type": "container", "Action": "die", "Actor": { "ID": "e1" } }),
                true,
            ),
            ("a lender", json!({ "Type": "container", "Action": "start", "Actor": { "ID": "v1" } }), true),
            (
                "a lender's successor",
                json!({ "Type": "container", "Action": "start", "Actor": { "ID": "v2", "Attributes": { "name": "gluetun" } } }),
                true,
            ),
            (
                "another container",
                json!({ "Type": "container", "Action": "start", "Actor": { "ID": "o", "Attributes": { "name": "o" } } }),
                false,
            ),
            (
                "the label with another value",
                json!({ "Type": "container", "Actor": { "ID": "o", "Attributes": { "io.millrace.engine": "no" } } }),
                false,
            ),
            (
                "its network",
                json!({ "Type": "network", "Action": "disconnect", "Actor": { "ID": "n", "Attributes": { "container": "e1" } } }),
                true,
            ),
            (
                "another's network",
                json!({ "Type": "network", "Action": "disconnect", "Actor": { "ID": "n", "Attributes": { "container": "o" } } }),
                false,
            ),
            ("an image", json!({ "Type": "image", "Action": "pull", "Actor": { "ID": "e1" } }), false),
            ("no actor", json!({ "Type": "container", "Action": "die" }), false),
            ("nothing", json!({}), false),
        ] {
            assert_eq!(known.concerns(&event(message)), expected, "{name}");
        }
    }

    #[test]
    fn a_death_is_told_once_however_often_it_is_heard() {
        let died = |id: &str, action: &str, code: &str, nanos: i64| {
            event(json!({
                "Type": "container", "Action": action, "timeNano": nanos,
                "Actor": { "ID": id, "Attributes": { "io.millrace.engine": "true", "exitCode": code } },
            }))
        };
        let mut hints = Hints::default();
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        for (heard, message, is_new) in [
            (1, died("a", "oom", "", 5), true),
            (2, died("a", "die", "137", 6), true),
            (3, died("a", "die", "137", 6), false),
            (4, died("b", "die", "none", 6), true),
            (5, died("a", "start", "0", 7), false),
            (6, died("a", "die", "137", 8), true),
            (7, died("", "die", "1", 9), false),
            (8, died(&"x".repeat(65), "die", "1", 9), false),
        ] {
            assert_eq!(hints.hear(&message, at(heard)), is_new, "{heard}");
        }
        for unlabelled in [
            json!({ "Type": "container", "Action": "die", "Actor": { "ID": "v", "Attributes": { "exitCode": "1" } } }),
            json!({ "Type": "network", "Action": "die", "Actor": { "ID": "v", "Attributes": { "io.millrace.engine": "true" } } }),
            json!({ "Type": "container", "Action": "die" }),
        ] {
            assert!(!hints.hear(&event(unlabelled.clone()), at(9)), "{unlabelled}");
        }
        let died = |exit_code| Fate::Died { exit_code };
        let told = hints.take().into_iter().map(|h| (h.id.to_string(), h.what, h.at.0.as_secs()));
        let expected =
            [("a", Fate::Oom, 1), ("a", died(Some(137)), 2), ("b", died(None), 4), ("a", died(Some(137)), 6)];
        assert!(told.eq(expected.map(|(id, what, at)| (id.to_owned(), what, at))));
        assert_eq!(hints.take(), [], "taken");
    }

    #[test]
    fn of_many_deaths_the_last_are_kept() {
        let mut hints = Hints::default();
        for i in 0..1_000 {
            let attributes = json!({ "io.millrace.engine": "true", "exitCode": i.to_string() });
            let message = json!({ "Type": "container", "Action": "die", "timeNano": i, "Actor": { "ID": "a", "Attributes": attributes } });
            assert!(hints.hear(&event(message), Monotonic::default()));
        }
        assert_eq!(hints.told.len(), MAX_HINTS);
        let codes = hints.take().into_iter().map(|hint| hint.what);
        assert!(codes.eq((936..1_000).map(|code| Fate::Died { exit_code: Some(code) })));
    }
}
