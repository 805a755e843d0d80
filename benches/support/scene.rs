//! The server in front of emulated engines.

use std::{
    net::{SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use millrace_emulator::{Emulator, EmulatorConfig, Timing};
use serde_json::Value;

use super::{
    http::{address_in, get},
    options::Common,
    process::Process,
};

/// For the server to start, engines to be found ready, streams to begin.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running server and its engines.
pub(crate) struct Scene {
    // Killed when dropped, which is before the engines end.
    server: Process,
    /// The engines, by their index.
    pub(crate) emulator: Emulator,
    /// Where the server listens.
    pub(crate) address: SocketAddrV4,
    /// By the server's ids, the index of each engine.
    index: Vec<(u64, usize)>,
    data: PathBuf,
}

impl Scene {
    /// Starts `engines` fast engines, which play `capacity` streams each, and a
    /// server with these settings, as `MILLRACE_NAME=VALUE`; returns when all
    /// engines are ready.
    pub(crate) fn start(common: &Common, engines: u16, capacity: usize, settings: &[&str]) -> Result<Self> {
        let config = EmulatorConfig { engines, timing: Timing::fast(), ..EmulatorConfig::default() };
        let emulator = Emulator::start(config)?;
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("scene-{}", std::process::id()));
        std::fs::create_dir_all(&data)?;
        let mut args = vec!["--data-dir".to_owned(), data.display().to_string()];
        args.extend(["--engine-capacity".to_owned(), capacity.to_string()]);
        for address in emulator.addresses() {
            args.extend(["--engine".to_owned(), format!("http://{address}")]);
        }
        let launch: Vec<_> = settings.iter().map(|setting| format!("--set={setting}")).collect();
        let server = common.start_server(&launch, &args)?;
        let address = server.wait_for(Duration::from_secs(10), address_in)?;
        let mut scene = Self { server, emulator, address, index: Vec::new(), data };
        scene.await_ready()?;
        scene.index = scene.engines_by_id()?;
        Ok(scene)
    }

    fn await_ready(&self) -> Result<()> {
        let all = self.emulator.addresses().len();
        let deadline = Instant::now() + SOON;
        loop {
            let engines = self.engines()?;
            let ready = engines.iter().filter(|engine| engine["state"] == "ready").count();
            if ready == all {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{ready} of {all} engines are ready after {SOON:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn engines_by_id(&self) -> Result<Vec<(u64, usize)>> {
        let addresses = self.emulator.addresses();
        let index = self.engines()?.into_iter().map(|engine| {
            let address: SocketAddr = engine["address"].as_str()?.parse().ok()?;
            let index = addresses.iter().position(|known| *known == address)?;
            Some((engine["id"].as_u64()?, index))
        });
        index.collect::<Option<_>>().context("the API lists an engine that is none of ours")
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What the API tells under `/api/v1/`.
    pub(crate) fn api(&self, path: &str) -> Result<Value> {
        let body = get(self.address, &format!("/api/v1/{path}"))?;
        serde_json::from_str(&body).with_context(|| format!("/api/v1/{path} is no JSON"))
    }

    /// What the API tells of each engine.
    pub(crate) fn engines(&self) -> Result<Vec<Value>> {
        let mut engines = self.api("engines")?;
        match engines["engines"].take() {
            Value::Array(engines) => Ok(engines),
            _ => anyhow::bail!("no list of engines"),
        }
    }

    /// The index of the engine with this id of the server's.
    pub(crate) fn index_of(&self, id: u64) -> Option<usize> {
        self.index.iter().find(|(known, _)| *known == id).map(|(_, index)| *index)
    }

    /// A counter without labels, from `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let metrics = get(self.address, "/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no metric {name}"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.server.kill();
        std::fs::remove_dir_all(&self.data).ok();
    }
}
