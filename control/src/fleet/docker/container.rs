//! From containers, as Docker lists them, to engines.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as Listed};
use millrace_boundary::Output;

use super::{
    MAX_ENGINES, PORT_LABEL, SOURCE_LABEL,
    address::{Lenders, Vantage, address, lender, names},
};
use crate::fleet::Member;

/// Labels that are kept begin with one of these: ours, and those of the systems
/// whose containers can be taken over.
const LABELS_KEPT: [&str; 3] = ["io.millrace.", "acestream.", "host."];
/// Of one label's value; longer ones are none of these systems'.
const MAX_VALUE_CHARS: usize = 256;
/// Of one container. Each system sets a dozen.
const MAX_LABELS: usize = 64;
/// Of an image's reference. A registry's limit is 255 and a digest.
const MAX_IMAGE_CHARS: usize = 512;

/// Why a container with our label cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// The label of the port is no port.
    #[error("its label {PORT_LABEL} is no port")]
    Port,
    /// The label of its source is none.
    #[error("its label {SOURCE_LABEL} is neither ts nor hls")]
    Source,
    /// It has neither a published port nor an address.
    #[error("it has no address and its port {0} is not published")]
    NoAddress(u16),
    /// It has no network: nothing of it runs.
    #[error("it does not run")]
    NotRunning,
    /// There is no container of the name whose network it uses.
    #[error("the container {0} whose network it uses is not there")]
    NoLender(Arc<str>),
    /// The container whose network it uses has none itself.
    #[error("the container {0} whose network it uses does not run")]
    LenderStopped(Arc<str>),
    /// Slots would be counted twice.
    #[error("it has the same address as {0}")]
    SameAs(Arc<str>),
    /// There are enough.
    #[error("there are more than {MAX_ENGINES} engines")]
    TooMany,
}

impl Unusable {
    /// What helps.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Port => "set it to a number from 1 to 65535",
            Self::Source => "set it to one of these, or leave it out",
            Self::NoAddress(_) => "publish it, or attach the container to a network",
            Self::NotRunning => "start it, or remove it",
            Self::NoLender(_) => "create that one again, and then this one",
            Self::LenderStopped(_) => "start that one, and then restart this one",
            Self::SameAs(_) => "give each its own port, and name it in the label io.millrace.port",
            Self::TooMany => "leave the label off the rest",
        }
    }
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerState {
    /// It has never run.
    Created,
    /// Its first process runs.
    Running,
    /// It is frozen, with all it has.
    Paused,
    /// It ended and Docker is about to start it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// It ended.
    Exited,
    /// Docker could not remove it.
    Dead,
}

/// A container with our label, whatever it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The container's id, in full.
    pub(crate) id: Arc<str>,
    /// For people.
    pub(crate) name: Arc<str>,
    /// What it does.
    pub(crate) state: ContainerState,
    /// Where its API is; only of running and paused ones.
    pub(crate) address: Result<SocketAddr, Unusable>,
    /// Those that [`LABELS_KEPT`] names.
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    /// When it was made, in seconds since 1970 by the daemon's clock.
    pub(crate) created: i64,
    /// The image it was made of, as it was named.
    pub(crate) image: String,
}

impl Seen {
    /// The engine in it, where its API is known.
    pub(crate) fn member(&self) -> Option<Member> {
        let address = *self.address.as_ref().ok()?;
        let source = self.labels.get(SOURCE_LABEL).and_then(|word| Output::named(word));
        Some(Member { identity: Arc::clone(&self.id), name: Arc::clone(&self.name), address, source })
    }
}

/// The containers of one listing, oldest first.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The engines.
    pub(super) members: Vec<Member>,
    /// All of them.
    pub(super) seen: Vec<Seen>,
    /// By id: whose network a container uses, as its own configuration has it.
    pub(super) lenders: BTreeMap<Arc<str>, Arc<str>>,
}

impl Found {
    /// Sorts out a listing of containers with our label.
    pub(super) fn of(mut containers: Vec<ContainerSummary>, vantage: &Vantage, lenders: &Lenders) -> Self {
        // Ids shall follow the age. Docker lists the newest first, and knows
        // better than the second that it tells.
        containers.reverse();
        containers.sort_by_key(|container| container.created);
        let mut seen: Vec<_> = containers
            .iter()
            .filter(|container| container.id.as_deref().is_some_and(|id| !id.is_empty()))
            .map(|container| see(container, address(container, vantage, lenders)))
            .collect();
        let mut at: HashMap<SocketAddr, Arc<str>> = HashMap::new();
        // A paused one takes no address from one that runs.
        for state in [ContainerState::Running, ContainerState::Paused] {
            for one in seen.iter_mut().filter(|one| one.state == state) {
                let Ok(address) = one.address else { continue };
                if let Some(other) = at.get(&address) {
                    one.address = Err(Unusable::SameAs(Arc::clone(other)));
                } else if at.len() >= MAX_ENGINES {
                    one.address = Err(Unusable::TooMany);
                } else {
                    at.insert(address, Arc::clone(&one.name));
                }
            }
        }
        let running = seen.iter().filter(|one| one.state == ContainerState::Running);
        let members = running.filter_map(Seen::member);
        let lent = containers.iter().filter_map(|one| Some((one.id.as_deref()?.into(), lender(one)?.into())));
        Self { members: members.collect(), seen, lenders: lent.collect() }
    }

    /// Those that run, or are paused, and cannot be used.
    pub(super) fn unusable(&self) -> impl Iterator<Item = (&Seen, &Unusable)> {
        let faults = self.seen.iter().filter_map(|one| Some((one, one.address.as_ref().err()?)));
        faults.filter(|(_, why)| **why != Unusable::NotRunning)
    }
}

fn see(container: &ContainerSummary, address: Result<SocketAddr, Unusable>) -> Seen {
    let (id, name) = who(container);
    let labels = container.labels.iter().flatten().filter(|(key, value)| {
        let is_kept = LABELS_KEPT.iter().any(|prefix| key.starts_with(prefix));
        is_kept && key.len() <= MAX_VALUE_CHARS && value.chars().nth(MAX_VALUE_CHARS).is_none()
    });
    // In order first, so that the same ones are kept each time.
    let labels: BTreeMap<_, _> = labels.collect();
    let labels = labels.into_iter().take(MAX_LABELS).map(|(key, value)| (key.clone(), value.clone()));
    let source = container.labels.as_ref().and_then(|labels| labels.get(SOURCE_LABEL));
    let is_known = source.is_none_or(|word| Output::named(word).is_some());
    Seen {
        id,
        name,
        state: state(container.state),
        address: if is_known { address } else { address.and(Err(Unusable::Source)) },
        labels: Arc::new(labels.collect()),
        created: container.created.unwrap_or_default(),
        image: container.image.iter().flat_map(|image| image.chars()).take(MAX_IMAGE_CHARS).collect(),
    }
}

/// One that is not understood is of no use: as one that has ended.
const fn state(listed: Option<Listed>) -> ContainerState {
    match listed {
        Some(Listed::CREATED) => ContainerState::Created,
        Some(Listed::RUNNING) => ContainerState::Running,
        Some(Listed::PAUSED) => ContainerState::Paused,
        Some(Listed::RESTARTING) => ContainerState::Restarting,
        Some(Listed::REMOVING) => ContainerState::Removing,
        Some(Listed::DEAD) => ContainerState::Dead,
        Some(Listed::EXITED | Listed::STOPPING | Listed::EMPTY) | None => ContainerState::Exited,
    }
}

/// Id and name.
fn who(container: &ContainerSummary) -> (Arc<str>, Arc<str>) {
    let id = container.id.as_deref().unwrap_or_default();
    let name = names(container).next();
    (id.into(), name.unwrap_or_else(|| id.get(..12).unwrap_or(id)).into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn listed(value: Value) -> ContainerSummary {
        serde_json::from_value(value).unwrap()
    }

    fn found(containers: Vec<ContainerSummary>) -> Found {
        Found::of(containers, &Vantage::outside([127, 0, 0, 1].into()), &Lenders::default())
    }

    /// On the host's network.
    fn container(id: usize, state: &str, created: usize, port: usize) -> ContainerSummary {
        listed(json!({
            "Id": id.to_string(), "Names": [format!("/e{id}")], "Created": created, "State": state,
            "Labels": { "io.millrace.engine": "true", "io.millrace.port": port.to_string() },
            "HostConfig": { "NetworkMode": "host" },
        }))
    }

    #[test]
    fn an_engine_is_called_as_its_container() {
        for (names, name) in [
            (json!(["/engine-a"]), "engine-a"),
            (json!(["/other/alias", "/engine-b"]), "engine-b"),
            (json!([]), "0123456789ab"),
            (Value::Null, "0123456789ab"),
            (json!(["/"]), "0123456789ab"),
        ] {
            let (identity, found) = who(&listed(json!({ "Id": "0123456789abcdef", "Names": names })));
            assert_eq!((&*identity, &*found), ("0123456789abcdef", name));
        }
        assert_eq!(&*who(&listed(json!({ "Id": "ä", "Names": [] }))).1, "ä");
    }

    #[test]
    fn an_engine_may_have_a_label_that_says_how_it_is_asked() {
        let labelled = |word: &str| {
            let mut one = container(0, "running", 0, 1);
            one.labels.as_mut().unwrap().insert(SOURCE_LABEL.to_owned(), word.to_owned());
            found(vec![one])
        };
        let sources = |found: &Found| found.members.iter().map(|member| member.source).collect::<Vec<_>>();
        assert_eq!(sources(&found(vec![container(0, "running", 0, 1)])), [None]);
        assert_eq!(sources(&labelled("hls")), [Some(Output::Hls)]);
        assert_eq!(sources(&labelled("ts")), [Some(Output::Ts)]);
        for word in ["", "HLS", "rtmp", &"h".repeat(300)] {
            let found = labelled(word);
            let why: Vec<_> = found.unusable().map(|(_, why)| why.clone()).collect();
            assert_eq!((sources(&found), why), (vec![], vec![Unusable::Source]), "{word}");
        }
    }

    #[test]
    fn all_are_seen_in_order_of_age_and_those_that_run_are_engines() {
        use ContainerState::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
        let states = [
            ("created", Created),
            ("running", Running),
            ("paused", Paused),
            ("restarting", Restarting),
            ("removing", Removing),
            ("exited", Exited),
            ("dead", Dead),
            ("stopping", Exited),
            ("", Exited),
        ];
        let mut all: Vec<_> =
            states.iter().enumerate().map(|(i, (s, _))| container(i, s, i, i + 1)).collect();
        all.reverse();
        all.push(listed(json!({ "Names": ["/nameless"], "State": "running" })));
        let found = found(all);
        assert!(found.seen.iter().map(|one| one.state).eq(states.iter().map(|(_, state)| *state)));
        assert_eq!(found.members.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["e1"]);
        assert_eq!(found.seen[2].address.as_ref().unwrap().port(), 3, "a paused one keeps its address");
        assert_eq!(found.seen.iter().filter(|one| one.address == Err(Unusable::NotRunning)).count(), 7);
        assert_eq!(found.unusable().count(), 0);
    }

    #[test]
    fn what_is_kept_of_a_container_is_bounded() {
        let mut labels = json!({
            "io.millrace.engine": "true", "io.millrace.config": "x".repeat(256), "io.millrace.long": "x".repeat(257),
            "acestream.http_port": "1", "host.http_port": "2", "com.docker.compose.project": "p",
            format!("host.{}", "k".repeat(300)): "",
        });
        let all = |labels: &Value| {
            let one =
                listed(json!({ "Id": "a", "Image": "i".repeat(9_000), "Labels": labels, "Created": 7 }));
            found(vec![one]).seen.remove(0)
        };
        let seen = all(&labels);
        let keys: Vec<_> = seen.labels.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["acestream.http_port", "host.http_port", "io.millrace.config", "io.millrace.engine"]
        );
        assert_eq!((seen.image.len(), seen.created), (MAX_IMAGE_CHARS, 7));
        for i in 0..1_000 {
            labels[format!("host.{i}")] = json!("");
        }
        assert_eq!(all(&labels).labels.len(), MAX_LABELS);
        assert_eq!(all(&labels), all(&labels));
    }

    #[test]
    fn the_oldest_that_runs_counts_where_two_share_an_address_and_a_thousand_are_enough() {
        let one_second = ["running"; 3].into_iter().zip([(1, 3), (3, 2), (2, 1)]);
        let one_second = one_second.map(|(state, (id, port))| container(id, state, 10, port)).collect();
        let all = found(one_second);
        assert_eq!(all.members.iter().map(|m| &*m.name).collect::<Vec<_>>(), ["e2", "e3", "e1"]);

        let unusable = |found: &Found| -> Vec<_> {
            found.unusable().map(|(one, why)| (one.name.to_string(), why.clone())).collect()
        };
        for (name, older, younger, member, other) in [
            ("both run", "running", "running", "e1", Some("e2")),
            ("the older is paused", "paused", "running", "e2", Some("e1")),
            ("the older has ended", "exited", "running", "e2", None),
        ] {
            let all = found(vec![container(2, younger, 20, 7), container(1, older, 10, 7)]);
            assert_eq!(all.members.iter().map(|m| &*m.name).collect::<Vec<_>>(), [member], "{name}");
            let expected = other.map(|other| (other.to_owned(), Unusable::SameAs(member.into())));
            assert_eq!(unusable(&all), expected.into_iter().collect::<Vec<_>>(), "{name}");
        }

        let all = found((0..=MAX_ENGINES).rev().map(|i| container(i, "running", i, i + 1)).collect());
        assert_eq!((all.members.len(), &*all.members[0].name), (MAX_ENGINES, "e0"));
        assert_eq!(unusable(&all), [("e1000".to_owned(), Unusable::TooMany)]);
    }
}
