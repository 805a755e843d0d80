//! What an engine's container is made from.

use std::{fmt, net::IpAddr};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::secrets::{HIDDEN, Secrets};

/// Stands before the text that is hashed; another one is another hash of all.
const HASH_OF: &str = "millrace engine 1\n";

/// Where an engine's ports are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// Docker's default network; the ports are published.
    Bridge,
    /// A network somebody made.
    Named {
        /// Its name or id.
        name: String,
        /// Where engines are reached on it.
        by: Publish,
    },
    /// The host's own.
    Host,
    /// That of the container of this name or id.
    Container(String),
}

/// How engines on a network of its own are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Publish {
    /// By the container's own address; no port is published.
    Address,
    /// By published ports.
    Ports,
}

/// What a container may use. None is no limit, and Docker's default for
/// shared memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Limits {
    /// Memory in bytes, without swap beyond it; 6 MiB or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
    /// CPU time in thousand-millionths of one CPU; 10,000,000 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nano_cpus: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pids: Option<u32>,
    /// Open files of one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nofile: Option<u64>,
    /// Of one file of its log, in bytes.
    pub(crate) log_bytes: u64,
    /// Files of its log, 1 or more.
    pub(crate) log_files: u32,
    /// `/dev/shm`, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shm_bytes: Option<u64>,
}

/// Where an engine keeps what it has downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cache {
    /// In the container's own layer.
    Layer,
    /// In memory, which counts against the container's.
    Tmpfs {
        /// At most.
        bytes: u64,
    },
    /// On a volume without a name, removed with the container.
    Volume,
}

/// All that makes an engine's container but its name and ports. Equal specs
/// have equal hashes, and so have those that differ in the order of their
/// environment or extra labels alone.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(crate) struct EngineSpec {
    /// A reference, as Docker takes it.
    pub(crate) image: String,
    /// Instead of the image's. Placeholders are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Instead of the image's, unless empty. Placeholders are filled in:
    /// `{http_port}`, `{https_port}`, `{api_port}`, `{p2p_port}`; `{{` and
    /// `}}` are braces.
    pub(crate) command: Vec<String>,
    /// Over the image's. Placeholders of values are filled in.
    pub(crate) environment: Vec<(String, String)>,
    /// Where the image keeps its cache; needed unless that is the layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_dir: Option<String>,
    /// What is put there.
    pub(crate) cache: Cache,
    /// What it may use.
    pub(crate) limits: Limits,
    /// Where its ports are.
    pub(crate) network: Network,
    /// The host's address for published ports, as a rule 127.0.0.1. The port
    /// for peers is published on all addresses: peers are elsewhere.
    pub(crate) publish_on: IpAddr,
    /// A word for the label.
    pub(crate) variant: String,
    /// Further labels; ours cannot be among them.
    pub(crate) extra_labels: Vec<(String, String)>,
}

/// Names and numbers, but neither values of the environment nor secrets.
impl fmt::Debug for EngineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, entrypoint, command, environment, cache_dir, cache, limits, network, .. } = self;
        let words = || entrypoint.iter().flatten().chain(command).map(String::as_str);
        let secrets = Secrets::of(environment.iter().map(|(k, v)| (&**k, &**v)), words());
        let words: Vec<_> = words().map(|word| secrets.redact(word)).collect();
        let names: Vec<_> = environment.iter().map(|(name, _)| (name, HIDDEN)).collect();
        f.debug_struct("EngineSpec")
            .field("image", image)
            .field("words", &words)
            .field("environment", &names)
            .field("cache", &(cache, cache_dir))
            .field("limits", limits)
            .field("network", network)
            .field("publish_on", &self.publish_on)
            .field("variant", &self.variant)
            .finish_non_exhaustive()
    }
}

impl EngineSpec {
    /// The first eight bytes of the SHA-256 of a text that has all of it.
    pub(crate) fn hash(&self) -> SpecHash {
        let mut ordered = self.clone();
        ordered.environment.sort();
        ordered.extra_labels.sort();
        // Of plain fields in a fixed order; those that are not set are left
        // out, so that a new one changes no hash until somebody sets it.
        let text = serde_json::to_string(&ordered).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(format!("{HASH_OF}{text}")).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        SpecHash([a, b, c, d, e, f, g, h])
    }
}

/// Tells one [`EngineSpec`] from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpecHash([u8; 8]);

impl SpecHash {
    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hash = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(text, 16).ok().filter(|_| is_hash).map(|number| Self(number.to_be_bytes()))
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpecHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpecHash({self})")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A spec with something in each field.
    pub(in crate::fleet) fn example() -> EngineSpec {
        let text = |text: &str| text.to_owned();
        EngineSpec {
            image: text("ghcr.io/example/engine:3.2"),
            entrypoint: Some(vec![text("/engine")]),
            command: ["--http-port", "{http_port}", "--access-token", "tok-5678"].map(text).to_vec(),
            environment: vec![(text("PASSWORD"), text("hunter22")), (text("HTTP_PORT"), text("{http_port}"))],
            cache_dir: Some(text("/cache")),
            cache: Cache::Tmpfs { bytes: 1 << 28 },
            limits: Limits {
                memory_bytes: Some(1 << 30),
                nano_cpus: Some(1_500_000_000),
                pids: Some(512),
                nofile: Some(8192),
                log_bytes: 10 << 20,
                log_files: 3,
                shm_bytes: Some(64 << 20),
            },
            network: Network::Bridge,
            publish_on: Ipv4Addr::LOCALHOST.into(),
            variant: text("engine"),
            extra_labels: vec![(text("b"), text("2")), (text("a"), text("1"))],
        }
    }

    #[test]
    fn a_hash_stays_what_it_is_across_versions() {
        // Another value recreates every engine that runs at an update.
        assert_eq!(example().hash().to_string(), "fcbdd8eff21be8e5");
        let bare = EngineSpec {
            entrypoint: None,
            command: Vec::new(),
            environment: Vec::new(),
            cache_dir: None,
            cache: Cache::Layer,
            limits: Limits {
                memory_bytes: None,
                nano_cpus: None,
                pids: None,
                nofile: None,
                log_bytes: 1 << 20,
                log_files: 1,
                shm_bytes: None,
            },
            network: Network::Host,
            extra_labels: Vec::new(),
            ..example()
        };
        assert_eq!(bare.hash().to_string(), "bf403f9605b9ef6f");
        let hash = bare.hash();
        assert_eq!(SpecHash::parse(&hash.to_string()), Some(hash));
        for text in ["", "0123", "0123456789ABCDEF", "+123456789abcdef", "0123456789abcdef0"] {
            assert_eq!(SpecHash::parse(text), None, "{text}");
        }
    }

    #[test]
    fn whatever_changes_the_container_changes_the_hash_and_nothing_else_does() {
        type Change = fn(&mut EngineSpec);
        let changes: [(&str, Change, bool); 17] = [
            ("nothing", |_| (), true),
            ("order of the environment", |s| s.environment.reverse(), true),
            ("order of labels", |s| s.extra_labels.reverse(), true),
            ("order of the command", |s| s.command.reverse(), false),
            ("image", |s| s.image.push('0'), false),
            ("entrypoint", |s| s.entrypoint = None, false),
            ("a secret", |s| s.environment[0].1.push('!'), false),
            ("cache", |s| s.cache = Cache::Volume, false),
            ("cache's place", |s| s.cache_dir = Some("/c".into()), false),
            ("memory", |s| s.limits.memory_bytes = Some(1), false),
            ("memory for CPU", |s| s.limits.memory_bytes = s.limits.nano_cpus.take(), false),
            ("log", |s| s.limits.log_files = 4, false),
            ("network", |s| s.network = Network::Host, false),
            ("another's network", |s| s.network = Network::Container("bridge".into()), false),
            ("publish", |s| s.publish_on = Ipv4Addr::UNSPECIFIED.into(), false),
            ("variant", |s| s.variant.clear(), false),
            ("label", |s| s.extra_labels.truncate(1), false),
        ];
        for (name, change, is_same) in changes {
            let mut spec = example();
            change(&mut spec);
            assert_eq!(spec.hash() == example().hash(), is_same, "{name}");
        }
        let by = |by| EngineSpec { network: Network::Named { name: "n".into(), by }, ..example() };
        assert_ne!(by(Publish::Address).hash(), by(Publish::Ports).hash());
    }

    #[test]
    fn a_spec_shows_no_secret() {
        let shown = format!("{:?}", example());
        for (text, is_shown) in
            [("hunter22", false), ("tok-5678", false), ("PASSWORD", true), ("--access-token", true)]
        {
            assert_eq!(shown.contains(text), is_shown, "{text} in {shown}");
        }
    }
}
