//! The configuration: read raw, checked once, handed down by value.
//!
//! A flag is stronger than a variable, a variable than the file, the file than
//! the default. Whatever is wrong is said at once, with its place.

mod complaint;
mod docker;
mod fleet;
mod keys;
mod kinds;
mod layers;
mod players;
mod predecessor;
mod print;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_control::{DockerUri, Subnet};
use millrace_dataplane::{HlsConfig, StreamConfig, ViewerConfig};

use crate::{congestion, limits};
use complaint::Complaint;
pub(crate) use complaint::Complaints;
pub(crate) use fleet::DockerHost;
use fleet::{choose_fleet, find_certificates};
use kinds::Given;
pub(crate) use kinds::{Cores, EngineUrl, LogFormat};
use layers::{Layers, Origin};
pub(crate) use predecessor::Found;

/// Variables of ours that are no setting: the file's name, and what is logged.
const OWN_VARIABLES: &[&str] = &["MILLRACE_CONFIG", "MILLRACE_LOG"];

/// Flags that set values, the same for every command that reads them.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    /// Configuration file; also MILLRACE_CONFIG
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on [default: 0.0.0.0:8000]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// An engine, as http://HOST:PORT; may be given several times
    #[arg(long, value_name = "URL")]
    engine: Vec<String>,
    /// Streams that one engine may play at once, 1 to 20 [default: 3]
    #[arg(long, value_name = "N")]
    engine_capacity: Option<String>,
    /// Run N emulated engines instead of real ones, 1 to 500
    #[arg(long, value_name = "N")]
    emulate: Option<String>,
    /// A Docker daemon whose containers labelled io.millrace.engine=true are the engines, as
    /// unix:///PATH or tcp://HOST:PORT
    #[arg(long, value_name = "URI")]
    docker: Option<String>,
    /// Leave engines running in Docker when the server ends
    #[arg(long)]
    keep_engines: bool,
    /// Cores to run on, one shard each, such as 0,2-3 [default: all]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Directory for state that outlives the process
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log: Option<String>,
}

impl Flags {
    fn read_into(&self, layers: &mut Layers) {
        for (flag, path, value) in [
            ("--listen", "server.listen", &self.listen),
            ("--cpus", "server.cpus", &self.cpus),
            ("--data-dir", "server.data_dir", &self.data_dir),
            ("--log", "server.log", &self.log),
            ("--emulate", "engines.emulate", &self.emulate),
            ("--docker", "engines.docker", &self.docker),
            ("--engine-capacity", "engines.capacity", &self.engine_capacity),
        ] {
            if let Some(value) = value {
                layers.set(path, Given::Word(value.clone()), Origin::Flag(flag));
            }
        }
        if self.keep_engines {
            layers.set("docker.keep_engines", Given::Word("true".into()), Origin::Flag("--keep-engines"));
        }
        if !self.engine.is_empty() {
            let urls = self.engine.iter().cloned().map(Given::Word).collect();
            layers.set("engines.urls", Given::List(urls), Origin::Flag("--engine"));
        }
    }
}

/// What the operator wants, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) engines: Engines,
    /// How engines in Docker are run.
    pub(crate) fleet: docker::Fleet,
    pub(crate) streams: StreamConfig,
    pub(crate) hls: HlsConfig,
    pub(crate) viewers: ViewerConfig,
}

/// Settings of the process.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) listen: SocketAddr,
    pub(crate) cpus: Cores,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) log: LogFormat,
    /// Who may change the fleet.
    pub(crate) admins: Vec<Subnet>,
}

/// Settings of the engines.
#[derive(Clone, Debug)]
pub(crate) struct Engines {
    /// Of the first three at most one is given.
    pub(crate) urls: Vec<EngineUrl>,
    pub(crate) emulate: u32,
    pub(crate) docker: Option<DockerUri>,
    /// The daemon to look at when none of them is given.
    pub(crate) docker_host: DockerHost,
    pub(crate) capacity: u32,
    pub(crate) probe_interval: Duration,
}

/// A configuration together with where each value came from.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    /// Which of the predecessor's variables were met.
    pub(crate) predecessor: Found,
    layers: Layers,
}

impl Config {
    /// Reads file, environment and flags.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub(crate) fn load(flags: &Flags) -> Result<Self, Complaints> {
        let variables: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self::from_sources(flags, &variables)
    }

    /// Reads one file and nothing else.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub(crate) fn load_file(file: &Path) -> Result<Self, Complaints> {
        Self::from_sources(&Flags { config: Some(file.to_owned()), ..Flags::default() }, &[])
    }

    pub(crate) fn from_sources(flags: &Flags, variables: &[(String, String)]) -> Result<Self, Complaints> {
        let mut complaints = Vec::new();
        let mut layers = Layers::default();
        let variables = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let named = variables.clone().find(|(name, value)| *name == "MILLRACE_CONFIG" && !value.is_empty());
        let file = flags.config.as_deref().or(named.map(|(_, file)| Path::new(file)));
        if let Some(file) = file {
            layers.read_file(file, &mut complaints);
        }
        let predecessor = layers.read_predecessor(variables.clone());
        layers.read_variables(variables.clone(), &mut complaints);
        flags.read_into(&mut layers);

        let docker_host = variables.clone().find(|(name, _)| *name == "DOCKER_HOST").map(|(_, uri)| uri);
        let mut settings = Settings::read(&layers, DockerHost::of(docker_host), &mut complaints);
        choose_fleet(&mut settings.engines, &mut layers);
        let value = |name: &str| variables.clone().find(|(n, _)| *n == name).map(|(_, v)| v.to_owned());
        find_certificates(&mut settings.engines, settings.fleet.tls(), value);
        cross_check(&settings, &layers, &mut complaints);
        ask_kernel(&settings.viewers, &layers, &mut complaints);
        if complaints.is_empty() {
            Ok(Self { settings, predecessor, layers })
        } else {
            Err(Complaints(complaints))
        }
    }
}

impl Settings {
    fn read(layers: &Layers, docker_host: DockerHost, complaints: &mut Vec<Complaint>) -> Self {
        // Sizes of sockets end at 16 MiB, so that they fit.
        let socket_size = |bytes: kinds::Bytes| u32::try_from(bytes.0).unwrap_or(u32::MAX);
        Self {
            server: Server {
                listen: layers.get(&keys::LISTEN, complaints),
                cpus: layers.get(&keys::CPUS, complaints),
                data_dir: layers.get(&keys::DATA_DIR, complaints),
                log: layers.get(&keys::LOG, complaints),
                admins: layers.get(&keys::ADMINS, complaints),
            },
            engines: Engines {
                urls: layers.get(&keys::URLS, complaints),
                emulate: layers.get(&keys::EMULATE, complaints),
                docker: layers.get(&keys::DOCKER, complaints),
                docker_host,
                capacity: layers.get(&keys::CAPACITY, complaints),
                probe_interval: layers.get(&keys::PROBE_INTERVAL, complaints),
            },
            fleet: docker::Fleet::read(layers, complaints),
            streams: StreamConfig {
                source: layers.get(&keys::SOURCE, complaints).0,
                start_budget: layers.get(&keys::START_BUDGET, complaints),
                longest_start: layers.get(&keys::LONGEST_START, complaints),
                linger: layers.get(&keys::LINGER, complaints),
                stall_after: layers.get(&keys::STALL_AFTER, complaints),
                silence_limit: layers.get(&keys::SILENCE_LIMIT, complaints),
                standby_viewers: layers.get(&keys::STANDBY_VIEWERS, complaints),
                window: layers.get(&keys::WINDOW, complaints),
                window_bytes: layers.get(&keys::WINDOW_BYTES, complaints).0,
                memory: match layers.get(&keys::MEMORY, complaints).0 {
                    0 => limits::memory() / 2,
                    bytes => bytes,
                },
                max_streams: layers.get(&keys::MAX_STREAMS, complaints),
                private_urls: layers.get(&keys::PRIVATE_URLS, complaints),
            },
            hls: HlsConfig {
                segment: layers.get(&keys::SEGMENT, complaints),
                longest: whole_seconds(layers.get(&keys::TARGET_DURATION, complaints)),
                part: layers.get(&keys::PART, complaints),
                window: layers.get(&keys::HLS_WINDOW, complaints),
                window_bytes: layers.get(&keys::HLS_WINDOW_BYTES, complaints).0,
            },
            viewers: ViewerConfig {
                prebuffer: layers.get(&keys::PREBUFFER, complaints),
                headers_after: layers.get(&keys::HEADERS_AFTER, complaints),
                players: layers.get(&keys::PLAYERS, complaints),
                stall_limit: layers.get(&keys::STALL_LIMIT, complaints),
                max_laps: layers.get(&keys::MAX_LAPS, complaints),
                max_viewers: layers.get(&keys::MAX_VIEWERS, complaints),
                send_buffer: socket_size(layers.get(&keys::SEND_BUFFER, complaints)),
                unsent_limit: socket_size(layers.get(&keys::UNSENT_LIMIT, complaints)),
                congestion: layers.get(&keys::CONGESTION, complaints).0,
            },
        }
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

fn cross_check(settings: &Settings, layers: &Layers, complaints: &mut Vec<Complaint>) {
    let Settings { engines, fleet, streams, hls, viewers, .. } = settings;
    let (min, max) = fleet.bounds();
    let was_given = |path: &str| layers.strongest(path).0.is_some();
    for (broken, left, right, rule) in [
        (
            !engines.urls.is_empty() && engines.emulate != 0,
            "engines.urls",
            "engines.emulate",
            "name real engines or emulate some, not both",
        ),
        (
            !engines.urls.is_empty() && engines.docker.is_some(),
            "engines.urls",
            "engines.docker",
            "name engines or have them found in Docker, not both",
        ),
        (
            engines.emulate != 0 && engines.docker.is_some(),
            "engines.emulate",
            "engines.docker",
            "emulate engines or have them found in Docker, not both",
        ),
        (
            // A default gives way.
            min > max && was_given("fleet.min") && was_given("fleet.max"),
            "fleet.min",
            "fleet.max",
            "the least must not be more than the most",
        ),
        (
            streams.window <= viewers.prebuffer,
            "streams.window",
            "viewers.prebuffer",
            "the window must be longer than the prebuffer",
        ),
        (
            // A default gives way.
            streams.memory < streams.window_bytes && was_given("streams.memory"),
            "streams.memory",
            "streams.window_bytes",
            "all streams together must not have less memory than one may take",
        ),
        (
            hls.segment > hls.longest,
            "hls.segment",
            "hls.target_duration",
            "a segment must not be longer than the target duration",
        ),
        (hls.part > hls.segment, "hls.part", "hls.segment", "a part must not be longer than a segment"),
        (
            viewers.send_buffer < viewers.unsent_limit,
            "viewers.send_buffer",
            "viewers.unsent_limit",
            "the send buffer must not be smaller than the unsent limit",
        ),
    ] {
        if broken {
            let shown = |path: &str| format!("{path} = {}", print::effective(layers, path));
            complaints.push(Complaint::Conflict {
                left: shown(left),
                left_at: layers.strongest(left).1,
                right: shown(right),
                right_at: layers.strongest(right).1,
                rule,
            });
        }
    }
}

/// What only the kernel can tell.
fn ask_kernel(viewers: &ViewerConfig, layers: &Layers, complaints: &mut Vec<Complaint>) {
    if let Some(refusal) = viewers.congestion.as_deref().and_then(congestion::refusal) {
        let path = "viewers.congestion";
        complaints.push(Complaint::Kernel {
            setting: format!("{path} = {}", print::effective(layers, path)),
            refusal,
            at: layers.strongest(path).1,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// For every key a value that is not its default.
    const OTHER: &[(&str, &str)] = &[
        ("server.listen", "[::1]:1234"),
        ("server.cpus", "0"),
        ("server.data_dir", "/tmp"),
        ("server.log", "json"),
        ("server.admins", "10.0.0.0/8,::1"),
        ("engines.urls", "http://a:1"),
        ("engines.emulate", "7"),
        ("engines.docker", "tcp://a:1"),
        ("engines.capacity", "20"),
        ("engines.probe_interval", "1s"),
        ("fleet.min", "1"),
        ("fleet.max", "60"),
        ("fleet.spare_slots", "0"),
        ("fleet.paused", "1"),
        ("fleet.manual", "4"),
        ("fleet.cooldown", "1s"),
        ("fleet.min_life", "1s"),
        ("fleet.sustained", "1s"),
        ("fleet.surplus", "1s"),
        ("fleet.step_up", "9"),
        ("fleet.step_down", "9"),
        ("fleet.starts_per_minute", "1"),
        ("fleet.forecast", "false"),
        ("fleet.breaker_failures", "1"),
        ("fleet.breaker_pause", "1s"),
        ("fleet.boot_limit", "1s"),
        ("fleet.drain_limit", "1s"),
        ("fleet.max_age", "1day"),
        ("fleet.max_sessions", "9"),
        ("fleet.max_memory", "0"),
        ("fleet.max_cpu", "9"),
        ("fleet.max_pids", "0"),
        ("fleet.max_disk", "1GiB"),
        ("docker.name", "other"),
        ("docker.tls", "/tmp"),
        ("docker.template", "jopsis"),
        ("docker.image", "a/b:c"),
        ("docker.pull", "never"),
        ("docker.pull_limit", "1s"),
        ("docker.auth_file", "/tmp/a"),
        ("docker.memory", "1GiB"),
        ("docker.cpu", "150"),
        ("docker.pids", "9"),
        ("docker.nofile", "9"),
        ("docker.log_size", "1MiB"),
        ("docker.log_files", "1"),
        ("docker.cache", "tmpfs"),
        ("docker.cache_size", "1MiB"),
        ("docker.network", "host"),
        ("docker.publish_on", "0.0.0.0"),
        ("docker.ports", "1-2"),
        ("docker.predecessor_label", "a=b"),
        ("docker.stop_grace", "1s"),
        ("docker.keep_engines", "true"),
        ("streams.source", "hls"),
        ("streams.start_budget", "1s"),
        ("streams.longest_start", "10m"),
        ("streams.linger", "0s"),
        ("streams.stall_after", "1m"),
        ("streams.silence_limit", "1h"),
        ("streams.standby_viewers", "5"),
        ("streams.window", "10m"),
        ("streams.window_bytes", "4GiB"),
        ("streams.memory", "1GiB"),
        ("streams.max_streams", "1"),
        ("streams.private_urls", "true"),
        ("hls.segment", "1s"),
        ("hls.target_duration", "20s"),
        ("hls.part", "0s"),
        ("hls.window", "10m"),
        ("hls.window_bytes", "1GiB"),
        ("viewers.prebuffer", "0s"),
        ("viewers.headers_after", "0s"),
        ("viewers.players", "tivimate=1.5"),
        ("viewers.stall_limit", "1s"),
        ("viewers.max_laps", "1000"),
        ("viewers.max", "1"),
        ("viewers.send_buffer", "16MiB"),
        ("viewers.unsent_limit", "4KiB"),
        // Every kernel with TCP has it.
        ("viewers.congestion", "reno"),
    ];

    fn with(path: &str, value: &str) -> Result<Config, Complaints> {
        Config::from_sources(&Flags::default(), &[(keys::variable(path), value.to_owned())])
    }

    #[test]
    fn every_key_reaches_a_setting_of_its_own() {
        let default = format!("{:?}", Config::from_sources(&Flags::default(), &[]).unwrap().settings);
        let mut seen = HashSet::from([default]);
        for key in keys::KEYS {
            let (_, value) =
                OTHER.iter().find(|(path, _)| *path == key.path()).expect("every key has another value");
            let settings = format!("{:?}", with(key.path(), value).unwrap().settings);
            assert!(seen.insert(settings), "{} changes nothing, or what another changes", key.path());
        }
    }

    #[test]
    fn every_default_is_allowed_and_reads_back() {
        for key in keys::KEYS {
            let toml = key.to_toml(None).unwrap();
            let (table, name) = key.path().split_once('.').unwrap();
            let mut layers = Layers::default();
            let mut complaints = Vec::new();
            layers.read_toml("t", &format!("[{table}]\n{name} = {toml}"), &mut complaints);
            assert!(complaints.is_empty(), "{complaints:?}");
            let given = layers.strongest(key.path()).0;
            assert!(given.is_some(), "{}", key.path());
            assert_eq!(key.to_toml(given).as_ref(), Some(&toml), "{}", key.path());
        }
    }

    #[test]
    fn a_platform_may_announce_a_service_of_our_name() {
        for (name, fine) in [
            ("MILLRACE_SERVICE_HOST", true),
            ("MILLRACE_SERVICE_PORT_HTTP", true),
            ("MILLRACE_PORT", true),
            ("MILLRACE_PORT_8000_TCP_ADDR", true),
            ("MILLRACE_PORTS", false),
            ("MILLRACE_SERVER_PORT", false),
        ] {
            let loaded =
                Config::from_sources(&Flags::default(), &[(name.into(), "tcp://10.0.0.1:8000".into())]);
            assert_eq!(loaded.is_ok(), fine, "{name}");
        }
    }
}
