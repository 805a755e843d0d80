//! The real server in front of emulated engines.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use millrace_emulator::{Content, ContentId, Emulator, EmulatorConfig, Profile, Scenario, Timing};
use serde_json::Value;

use super::{
    server::Server,
    wait::{skip, wait_until},
};

/// What shards wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The driver that the kernel gives by itself: io_uring.
    Uring,
    /// The driver that is left where io_uring is denied.
    Epoll,
}

impl Driver {
    /// The word in the log, the API and `/metrics`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// How a stage is set.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) driver: Driver,
    /// Shards, on the cores from 0 on.
    pub(crate) shards: usize,
    pub(crate) engines: u16,
    pub(crate) profile: Profile,
    pub(crate) timing: Timing,
    /// Of the server, as TOML.
    pub(crate) config: String,
    /// Where the server listens.
    pub(crate) listen: String,
    /// Texts of WARN and ERROR lines that may come.
    pub(crate) allow: &'static [&'static str],
}

impl Default for Setup {
    /// One fast engine, one shard on io_uring, the default configuration.
    fn default() -> Self {
        Self {
            driver: Driver::Uring,
            shards: 1,
            engines: 1,
            profile: Profile::default(),
            timing: fast(),
            config: String::new(),
            listen: "127.0.0.1:0".to_owned(),
            allow: &[],
        }
    }
}

/// A running server and its engines.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) emulator: Emulator,
    config: PathBuf,
}

impl Stage {
    /// Starts both; none, aloud, where this machine lacks io_uring or cores.
    pub(crate) fn start(setup: &Setup) -> Option<Self> {
        if setup.driver == Driver::Uring && io_uring::IoUring::new(1024).is_err() {
            skip("REQUIRE_URING", "the kernel refuses io_uring");
            return None;
        }
        if std::thread::available_parallelism().map_or(1, usize::from) < setup.shards {
            skip("REQUIRE_CORES", &format!("there are fewer than {} cores", setup.shards));
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stage-{}-{count}.toml", std::process::id());
        let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&config, &setup.config).expect("the configuration can be written");
        let emulator = Emulator::start(EmulatorConfig {
            engines: setup.engines,
            profile: setup.profile,
            timing: setup.timing,
            ..EmulatorConfig::default()
        })
        .expect("the emulator starts");
        let server = serve(setup, &emulator, &config);
        Some(Self { server, emulator, config })
    }

    /// A part of the API's answer under `/api/v1/`.
    pub(crate) fn api(&self, path: &str) -> Value {
        let answer = self.server.get(&format!("/api/v1/{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("the API answers JSON")
    }

    /// A metric: the sum over all its labels that begin with `name`, which may
    /// name labels too: `millrace_viewers` or `millrace_viewers{shard="0"}`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.server.metrics();
        let is_it = |key: &str| key == name || key.strip_prefix(name).is_some_and(|r| r.starts_with('{'));
        let found: Vec<_> = metrics.iter().filter(|(key, _)| is_it(key)).map(|(_, value)| value).collect();
        assert!(!found.is_empty(), "no metric {name}");
        found.into_iter().sum()
    }

    /// Waits until a metric has this value; samples come once a second.
    #[track_caller]
    pub(crate) fn wait_metric(&self, name: &str, value: f64) {
        let limit = Duration::from_secs(10);
        let mut last = f64::NAN;
        let is_so = wait_until(limit, || {
            last = self.metric(name);
            last == value
        });
        assert!(is_so, "{name} is {last} and not {value} within {limit:?}");
    }

    /// Slots of engines in use.
    pub(crate) fn slots_taken(&self) -> u64 {
        let engines = self.api("engines");
        let engines = engines["engines"].as_array().expect("a list of engines");
        engines.iter().map(|e| e["slots"]["taken"].as_u64().expect("a count")).sum()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_file(&self.config).ok();
    }
}

fn serve(setup: &Setup, emulator: &Emulator, config: &Path) -> Server {
    let cpus: Vec<_> = (0..setup.shards).map(|core| core.to_string()).collect();
    let mut args = vec!["--config".to_owned(), config.display().to_string()];
    args.extend(["--listen".to_owned(), setup.listen.clone(), "--cpus".to_owned(), cpus.join(",")]);
    for address in emulator.addresses() {
        args.extend(["--engine".to_owned(), format!("http://{address}")]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let server = match setup.driver {
        Driver::Uring => Server::start(&args),
        Driver::Epoll => Server::start_without_uring(&args).allow("the kernel refuses io_uring"),
    };
    let server = setup.allow.iter().fold(server, |server, text| server.allow(text));
    let driver = format!("driver=\"{}\"", setup.driver.word());
    assert!(server.logs_within(Duration::ZERO, &driver), "no {driver} in the log:\n{}", server.log());
    server
}

/// Fast engines that do not take a busy machine for a client that reads the
/// body of a redirect.
pub(crate) fn fast() -> Timing {
    Timing { redirect_body: Duration::from_secs(1), ..Timing::fast() }
}

/// An id that plays the signed broadcast at `bitrate_bps` in the way of `scenario`.
pub(crate) fn signed(bitrate_bps: u32, scenario: Scenario, serial: u64) -> ContentId {
    ContentId::new(Content::Signed { bitrate_bps }, scenario, serial)
}

/// The usual path of an id.
pub(crate) fn path(id: &ContentId) -> String {
    format!("/ace/getstream?id={id}")
}
