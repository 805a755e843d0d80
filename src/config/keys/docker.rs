//! Settings of the engines that Millrace runs itself, in Docker.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use millrace_control::{CacheKind, Pull};

use super::{
    super::kinds::{Alphabet, Bytes, Keep, Label, OneOf, PortRange, Text},
    Key, seconds, size,
};

pub(crate) const FLEET_MIN: Key<u32> = Key {
    path: "fleet.min",
    about: "Engines that run at least. At most fleet.max.",
    range: 0..=1_000,
    default: || 2,
};

pub(crate) const FLEET_MAX: Key<u32> = Key {
    path: "fleet.max",
    about: "Engines in all, whatever they are at: starting, being mended or paused ones count.\n\
            0 makes none, and only containers that others run are used.",
    range: 0..=1_000,
    default: || 6,
};

pub(crate) const FLEET_SPARE: Key<u32> = Key {
    path: "fleet.spare_slots",
    about: "Free slots kept beyond those taken, so that a new stream need not wait for an engine.",
    range: 0..=20_000,
    default: || 3,
};

pub(crate) const FLEET_PAUSED: Key<u32> = Key {
    path: "fleet.paused",
    about: "Engines kept paused beyond those that run: they take memory and no CPU, and are woken\n\
            within a tenth of a second.",
    range: 0..=1_000,
    default: || 0,
};

pub(crate) const FLEET_MANUAL: Key<u32> = Key {
    path: "fleet.manual",
    about: "Exactly so many engines, whatever the demand. 0 leaves it to the rules above and below.",
    range: 0..=1_000,
    default: || 0,
};

pub(crate) const FLEET_COOLDOWN: Key<Duration> = Key {
    path: "fleet.cooldown",
    about: "From any change of the number of engines until one may be taken away.",
    range: seconds(0, 86_400),
    default: || Duration::from_secs(60),
};

pub(crate) const FLEET_MIN_LIFE: Key<Duration> = Key {
    path: "fleet.min_life",
    about: "An engine younger than this is not taken away.",
    range: seconds(0, 86_400),
    default: || Duration::from_secs(120),
};

pub(crate) const FLEET_SUSTAINED: Key<Duration> = Key {
    path: "fleet.sustained",
    about: "Spare slots have to be missing for this long before engines are added for them.\n\
            Streams that wait for a slot get engines at once.",
    range: seconds(0, 3_600),
    default: || Duration::from_secs(10),
};

pub(crate) const FLEET_SURPLUS: Key<Duration> = Key {
    path: "fleet.surplus",
    about: "More engines than are needed have to be there for this long before one is taken away.",
    range: seconds(0, 86_400),
    default: || Duration::from_secs(60),
};

pub(crate) const FLEET_STEP_UP: Key<u32> = Key {
    path: "fleet.step_up",
    about: "Engines added at once for spare slots.",
    range: 1..=100,
    default: || 2,
};

pub(crate) const FLEET_STEP_DOWN: Key<u32> =
    Key { path: "fleet.step_down", about: "Engines taken away at once.", range: 1..=100, default: || 1 };

pub(crate) const FLEET_STARTS: Key<u32> = Key {
    path: "fleet.starts_per_minute",
    about: "Containers made in a minute, at most.",
    range: 1..=6_000,
    default: || 30,
};

pub(crate) const FLEET_FORECAST: Key<bool> = Key {
    path: "fleet.forecast",
    about: "Whether the demand of the same hour in earlier weeks adds spare slots.",
    range: (),
    default: || true,
};

pub(crate) const FLEET_BREAKER_FAILURES: Key<u32> = Key {
    path: "fleet.breaker_failures",
    about: "When this many containers could not be made or did not become ready within ten\n\
            minutes, none is made for a while; then one is tried.",
    range: 1..=100,
    default: || 5,
};

pub(crate) const FLEET_BREAKER_PAUSE: Key<Duration> = Key {
    path: "fleet.breaker_pause",
    about: "The longest such while; the first is 30 s, and each is twice the one before.",
    range: seconds(1, 86_400),
    default: || Duration::from_secs(300),
};

pub(crate) const FLEET_BOOT: Key<Duration> = Key {
    path: "fleet.boot_limit",
    about: "An engine that does not answer this long after the start of its container is mended.",
    range: seconds(1, 3_600),
    default: || Duration::from_secs(60),
};

pub(crate) const FLEET_DRAIN: Key<Duration> = Key {
    path: "fleet.drain_limit",
    about: "Streams have this long to move before an engine is restarted, replaced or removed.",
    range: seconds(0, 86_400),
    default: || Duration::from_secs(60),
};

pub(crate) const FLEET_MAX_AGE: Key<Duration> = Key {
    path: "fleet.max_age",
    about: "An engine older than this is replaced, its streams moved before. \"0s\" means never.",
    range: Duration::ZERO..=Duration::from_secs(366 * 86_400),
    default: || Duration::ZERO,
};

pub(crate) const FLEET_MAX_SESSIONS: Key<u32> = Key {
    path: "fleet.max_sessions",
    about: "An engine that has played this many sessions is replaced, fleet.min_life after its start\n\
            at the earliest. 0 means never.",
    range: 0..=u32::MAX,
    default: || 0,
};

pub(crate) const FLEET_MAX_MEMORY: Key<u32> = Key {
    path: "fleet.max_memory",
    about: "An engine whose memory stands at this many percent of its limit (docker.memory, or\n\
            the host's) for half a minute is replaced. 0 means never.",
    range: 0..=100,
    default: || 90,
};

pub(crate) const FLEET_MAX_CPU: Key<u32> = Key {
    path: "fleet.max_cpu",
    about: "The same for its CPU time, in percent of one core. 0 means never.",
    range: 0..=100_000,
    default: || 0,
};

pub(crate) const FLEET_MAX_PIDS: Key<u32> = Key {
    path: "fleet.max_pids",
    about: "The same for its processes and threads, in percent of docker.pids. 0 means never.",
    range: 0..=100,
    default: || 90,
};

pub(crate) const FLEET_MAX_DISK: Key<Bytes> = Key {
    path: "fleet.max_disk",
    about: "An engine that has written this much to its container is replaced. \"0B\" means never.",
    range: size(0, 1 << 50),
    default: || Bytes(10 << 30),
};

pub(crate) const DOCKER_NAME: Key<Text> = Key {
    path: "docker.name",
    about: "The fleet's name, in a label of each of its containers and in their names. No other\n\
            container is ever touched. Two servers that use one daemon need two names.",
    range: Alphabet {
        beside: "_.-",
        longest: 32,
        may_be_empty: false,
        words: "1 to 32 lower-case letters, digits and . - _, beginning with a letter or digit",
    },
    default: || Text("millrace".into()),
};

pub(crate) const DOCKER_TLS: Key<Option<PathBuf>> = Key {
    path: "docker.tls",
    about: "Directory with ca.pem, cert.pem and key.pem for a daemon that is reached by TLS.\n\
            Docker's own DOCKER_CERT_PATH and DOCKER_TLS_VERIFY are understood as well.",
    range: (),
    default: || None,
};

pub(crate) const DOCKER_TEMPLATE: Key<Text> = Key {
    path: "docker.template",
    about: "The template that engines are made from; /api/v1/templates lists them. Empty for the\n\
            one activated last.",
    range: Alphabet {
        beside: "_.-",
        longest: 63,
        may_be_empty: true,
        words: "the name of a template, or \"\"",
    },
    default: || Text(String::new()),
};

pub(crate) const DOCKER_IMAGE: Key<Text> = Key {
    path: "docker.image",
    about: "The image, instead of the template's: a reference, or one with a digest.",
    range: Alphabet {
        beside: "_.-/:@",
        longest: 255,
        may_be_empty: true,
        words: "an image reference such as \"HOST/NAME:TAG\" or \"NAME@sha256:…\", or \"\" for the template's",
    },
    default: || Text(String::new()),
};

pub(crate) const DOCKER_PULL: Key<OneOf<Pull>> = Key {
    path: "docker.pull",
    about: "When the image is pulled: when there is none, at each start, or never.",
    range: (),
    default: || OneOf(Pull::Missing),
};

pub(crate) const DOCKER_PULL_LIMIT: Key<Duration> = Key {
    path: "docker.pull_limit",
    about: "How long a pull may take. One without progress ends after a minute.",
    range: seconds(1, 86_400),
    default: || Duration::from_secs(900),
};

pub(crate) const DOCKER_AUTH: Key<Option<PathBuf>> = Key {
    path: "docker.auth_file",
    about: "Docker's file of credentials for registries, such as /root/.docker/config.json.",
    range: (),
    default: || None,
};

pub(crate) const DOCKER_MEMORY: Key<Bytes> = Key {
    path: "docker.memory",
    about: "Memory of one engine. \"0B\" sets no limit; with one, at least 32 MiB.",
    range: size(0, 1 << 47),
    default: || Bytes(0),
};

pub(crate) const DOCKER_CPU: Key<u32> = Key {
    path: "docker.cpu",
    about: "CPU time of one engine, in percent of one core. 0 sets no limit.",
    range: 0..=100_000,
    default: || 0,
};

pub(crate) const DOCKER_PIDS: Key<u32> = Key {
    path: "docker.pids",
    about: "Processes and threads of one engine. 0 sets no limit.",
    range: 0..=4_000_000,
    default: || 0,
};

pub(crate) const DOCKER_NOFILE: Key<u32> = Key {
    path: "docker.nofile",
    about: "Open descriptors of one engine. 0 leaves the daemon's default.",
    range: 0..=1_000_000,
    default: || 0,
};

pub(crate) const DOCKER_LOG_SIZE: Key<Bytes> = Key {
    path: "docker.log_size",
    about: "Size of one log file of an engine.",
    range: size(16 << 10, 1 << 30),
    default: || Bytes(10 << 20),
};

pub(crate) const DOCKER_LOG_FILES: Key<u32> = Key {
    path: "docker.log_files",
    about: "Log files of an engine; the oldest goes.",
    range: 1..=100,
    default: || 3,
};

pub(crate) const DOCKER_CACHE: Key<OneOf<CacheKind>> = Key {
    path: "docker.cache",
    about: "Where an engine's disk cache is: in the container's layer, in memory, or in a volume\n\
            that goes with the container.",
    range: (),
    default: || OneOf(CacheKind::Layer),
};

pub(crate) const DOCKER_CACHE_SIZE: Key<Bytes> = Key {
    path: "docker.cache_size",
    about: "Its size where it is in memory.",
    range: size(1 << 20, 1 << 40),
    default: || Bytes(512 << 20),
};

pub(crate) const DOCKER_NETWORK: Key<Text> = Key {
    path: "docker.network",
    about: "\"bridge\" publishes each engine's ports on the host; \"host\" shares the host's network;\n\
            \"container:NAME\" shares that of another container, such as a VPN's; any other word is\n\
            the name of a network that exists.",
    range: Alphabet {
        beside: "_.-:",
        longest: 255,
        may_be_empty: false,
        words: "\"bridge\", \"host\", \"container:NAME\" or the name of a network",
    },
    default: || Text("bridge".into()),
};

pub(crate) const DOCKER_PUBLISH: Key<IpAddr> = Key {
    path: "docker.publish_on",
    about: "The host's address that engines' ports are published on.",
    range: (),
    default: || Ipv4Addr::LOCALHOST.into(),
};

pub(crate) const DOCKER_PORTS: Key<PortRange> = Key {
    path: "docker.ports",
    about: "The host's ports for engines. Each is tried before it is given.",
    range: (),
    default: || PortRange(19_000..=19_999),
};

pub(crate) const DOCKER_LABEL: Key<Label> = Key {
    path: "docker.predecessor_label",
    about: "One more label on each container, for tools of the acestream-orchestrator. One that\n\
            runs removes what carries its label.",
    range: (),
    default: || Label(None),
};

pub(crate) const DOCKER_GRACE: Key<Duration> = Key {
    path: "docker.stop_grace",
    about: "A container that is stopped has this long to end by itself.",
    range: seconds(0, 300),
    default: || Duration::from_secs(3),
};

pub(crate) const DOCKER_KEEP: Key<OneOf<Keep>> = Key {
    path: "docker.keep_engines",
    about: "Whether containers go on when the server ends, to be found again by the next one:\n\
            \"auto\" is \"true\" under systemd, and \"false\" elsewhere.",
    range: (),
    default: || OneOf(Keep::Supervised),
};
