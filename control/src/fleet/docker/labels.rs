//! What is written on a container of ours, and read back from it.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{ENGINE_LABEL, PORT_LABEL, ports::Ports, spec::SpecHash};

/// Whose it is: only containers with our fleet's name in it are ours to touch.
pub(crate) const FLEET_LABEL: &str = "io.millrace.fleet";
/// The [`SpecHash`] of what it was made from.
pub(crate) const SPEC_LABEL: &str = "io.millrace.spec";
/// All of its ports, as `http=19000,https=45000,api=62062,p2p=8621`.
pub(crate) const PORTS_LABEL: &str = "io.millrace.ports";
/// A word of its own for each attempt to create one, so that what is left of a
/// failed one can be told from what was there before.
pub(super) const ATTEMPT_LABEL: &str = "io.millrace.attempt";
/// The fleet's name on a container that was made to see what Docker says, and
/// that is no engine: none of the other labels stands beside it.
pub(crate) const TRIAL_LABEL: &str = "io.millrace.trial";
/// All of our labels begin so.
pub(super) const OURS: &str = "io.millrace.";

/// The predecessor's variant.
const VARIANT_LABEL: &str = "acestream.engine_variant";

/// The name of one fleet, so that several may share a daemon:
/// `[a-z0-9][a-z0-9_.-]{0,31}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FleetName(Arc<str>);

impl FleetName {
    /// What [`Self::parse`] takes, for people.
    pub(crate) const ALLOWED: &str =
        "1 to 32 of a-z, 0-9, \"_\", \".\" and \"-\", beginning with a letter or a digit";

    /// The name, if it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_sound = text.len() <= 32
            && text.starts_with(plain)
            && text.chars().all(|c| plain(c) || matches!(c, '_' | '.' | '-'));
        is_sound.then(|| Self(text.into()))
    }

    /// What the container of an engine is called.
    pub(crate) fn engine(&self, number: u32) -> String {
        format!("{self}-{number}")
    }
}

impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether ports of an engine are ports of its host as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// They are.
    Host,
    /// They are those of the container's own address, or of the container
    /// whose network it shares.
    Inside,
}

/// All labels of an engine: ours, and those that tools for the predecessor
/// read. Its mark of ownership is not among them: a running predecessor stops
/// what carries it and is not its own (see [`owner`]).
pub(super) fn write(
    fleet: &FleetName,
    spec: SpecHash,
    ports: &Ports,
    variant: &str,
    reach: Reach,
) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (ENGINE_LABEL.to_owned(), "true".to_owned()),
        (PORT_LABEL.to_owned(), ports.http.to_string()),
        (FLEET_LABEL.to_owned(), fleet.to_string()),
        (SPEC_LABEL.to_owned(), spec.to_string()),
        (PORTS_LABEL.to_owned(), ports.to_string()),
        (VARIANT_LABEL.to_owned(), variant.to_owned()),
        ("acestream.config_hash".to_owned(), spec.to_string()),
        ("acestream.config_generation".to_owned(), "1".to_owned()),
    ]);
    for (name, port) in ports.all().filter(|(name, _)| *name != "p2p") {
        labels.insert(format!("acestream.{name}_port"), port.to_string());
        if reach == Reach::Host {
            labels.insert(format!("host.{name}_port"), port.to_string());
        }
    }
    labels
}

/// What the labels of a container of some fleet say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Whose it is.
    pub(crate) fleet: FleetName,
    /// What it was made from; none is none of ours, and differs from each.
    pub(crate) spec: Option<SpecHash>,
    /// Its ports, if that is what the label holds.
    pub(crate) ports: Option<Ports>,
    /// The word for its variant; empty without one.
    pub(crate) variant: String,
}

/// Reads the labels of a container; none when it is in no fleet.
pub(crate) fn read(labels: &HashMap<String, String>) -> Option<Marks> {
    let is_engine = labels.get(ENGINE_LABEL).is_some_and(|value| value == "true");
    let fleet = FleetName::parse(labels.get(FLEET_LABEL)?).filter(|_| is_engine)?;
    Some(Marks {
        fleet,
        spec: labels.get(SPEC_LABEL).and_then(|text| SpecHash::parse(text)),
        ports: labels.get(PORTS_LABEL).and_then(|text| Ports::parse(text)),
        variant: labels.get(VARIANT_LABEL).cloned().unwrap_or_default(),
    })
}

/// The same of those that a list keeps.
pub(crate) fn marks(labels: &std::collections::BTreeMap<String, String>) -> Option<Marks> {
    read(&labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_has_a_short_plain_name() {
        let long = "a".repeat(32);
        for name in ["a", "main", "0.b_c-d", &long] {
            assert_eq!(FleetName::parse(name).unwrap().to_string(), name);
        }
        let longer = "a".repeat(33);
        for name in ["", "A", "-a", ".a", "_a", "a b", "a/b", "ä", "a\n", "a,b", &longer] {
            assert_eq!(FleetName::parse(name), None, "{name:?} is not {}", FleetName::ALLOWED);
        }
    }

    #[test]
    fn labels_are_read_as_they_are_written_and_tell_the_predecessors_tools() {
        let fleet = FleetName::parse("main").unwrap();
        let spec = SpecHash::parse("0123456789abcdef").unwrap();
        let all = Ports { http: 19000, https: Some(45000), api: Some(19001), p2p: Some(8621) };
        let one = Ports { http: 19002, https: None, api: None, p2p: None };
        let ours = [
            ("io.millrace.engine", "true"),
            ("io.millrace.fleet", "main"),
            ("io.millrace.spec", "0123456789abcdef"),
            ("acestream.engine_variant", "aceserve"),
            ("acestream.config_hash", "0123456789abcdef"),
            ("acestream.config_generation", "1"),
        ];
        let ports_of_all = [
            ("io.millrace.port", "19000"),
            ("io.millrace.ports", "http=19000,https=45000,api=19001,p2p=8621"),
            ("acestream.http_port", "19000"),
            ("acestream.https_port", "45000"),
            ("acestream.api_port", "19001"),
        ];
        let at_host = [("host.http_port", "19000"), ("host.https_port", "45000"), ("host.api_port", "19001")];
        let ports_of_one = [
            ("io.millrace.port", "19002"),
            ("io.millrace.ports", "http=19002"),
            ("acestream.http_port", "19002"),
        ];
        for (name, ports, reach, expected) in [
            ("all, at the host", all, Reach::Host, [&ports_of_all[..], &at_host].concat()),
            ("all, inside", all, Reach::Inside, ports_of_all.to_vec()),
            ("one, inside", one, Reach::Inside, ports_of_one.to_vec()),
        ] {
            let labels = write(&fleet, spec, &ports, "aceserve", reach);
            let expected = ours.iter().chain(&expected).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            assert_eq!(labels, expected.collect(), "{name}");
            let marks = Marks {
                fleet: fleet.clone(),
                spec: Some(spec),
                ports: Some(ports),
                variant: "aceserve".into(),
            };
            assert_eq!(read(&labels), Some(marks), "{name}");
        }
    }

    #[test]
    fn a_container_is_in_a_fleet_only_as_an_engine_with_its_name() {
        let labels = |labels: &[(&str, &str)]| -> HashMap<String, String> {
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let engine = (ENGINE_LABEL, "true");
        for (name, found, in_fleet) in [
            ("nothing", labels(&[]), false),
            ("an engine of others", labels(&[engine, (PORT_LABEL, "1")]), false),
            ("no engine", labels(&[(FLEET_LABEL, "main")]), false),
            ("half an engine", labels(&[(ENGINE_LABEL, "yes"), (FLEET_LABEL, "main")]), false),
            ("no name", labels(&[engine, (FLEET_LABEL, "Main")]), false),
            ("ours", labels(&[engine, (FLEET_LABEL, "main")]), true),
            (
                "ours in rags",
                labels(&[engine, (FLEET_LABEL, "main"), (SPEC_LABEL, "?"), (PORTS_LABEL, "?")]),
                true,
            ),
        ] {
            let marks = read(&found);
            assert_eq!(marks.is_some(), in_fleet, "{name}");
            assert!(marks.is_none_or(|marks| marks.spec.is_none() && marks.ports.is_none()), "{name}");
        }
    }
}
