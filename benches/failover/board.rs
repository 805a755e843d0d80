//! The server in front of emulated engines, and what its API tells of them.

use std::{
    net::{SocketAddr, SocketAddrV4},
    os::unix::process::CommandExt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use millrace_emulator::{ContentId, Emulator, EmulatorConfig, Timing};
use serde_json::Value;

use crate::{
    Options,
    support::{
        http::{address_in, get},
        process::{self, Process},
    },
};

/// For the server to start, engines to be found ready, streams to begin.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Replaces this process by the server; returns only when that fails.
pub(crate) fn launch(cpu: usize, command: &[String]) -> Result<()> {
    process::settle_in(cpu)?;
    let [program, args @ ..] = command else { bail!("nothing to launch") };
    // A revived engine is soon found ready again.
    let probes = ("MILLRACE_ENGINES_PROBE_INTERVAL", "500ms");
    bail!(std::process::Command::new(program).args(args).envs([probes]).exec());
}

/// A running server and its engines.
pub(crate) struct Scene {
    // Killed when dropped, which is before the engines end.
    _server: Process,
    /// The engines, by their index.
    pub(crate) emulator: Emulator,
    /// Where the server listens.
    pub(crate) address: SocketAddrV4,
    /// By the server's ids, the index of each engine.
    index: Vec<(u64, usize)>,
}

/// What the API tells at one time; of streams, up to a second old.
pub(crate) struct Board {
    streams: Value,
    /// Engines that are ready and play nothing.
    pub(crate) spare: usize,
}

impl Board {
    /// The id of the engine that plays `id`, while it is live.
    fn engine(&self, id: &ContentId) -> Option<u64> {
        let key = format!("id:{id}");
        let all = self.streams["streams"].as_array()?;
        let stream = all.iter().find(|stream| stream["key"] == key.as_str())?;
        (stream["state"] == "live").then(|| stream["engine"].as_u64()).flatten()
    }
}

impl Scene {
    /// Starts both; returns when all engines are ready.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let config =
            EmulatorConfig { engines: options.engines, timing: Timing::fast(), ..EmulatorConfig::default() };
        let emulator = Emulator::start(config)?;
        let mut args = vec!["launch".to_owned(), format!("--cpu={}", options.server_cpu), "--".to_owned()];
        args.push(options.millrace.display().to_string());
        args.extend("serve --listen 127.0.0.1:0 --engine-capacity 1 --cpus".split(' ').map(str::to_owned));
        args.push(options.server_cpu.to_string());
        for address in emulator.addresses() {
            args.extend(["--engine".to_owned(), format!("http://{address}")]);
        }
        let program = std::env::current_exe().context("cannot find this program")?;
        let server = Process::start("millrace", &program, &args)?;
        let address = server.wait_for(Duration::from_secs(10), address_in)?;
        let mut scene = Self { _server: server, emulator, address, index: Vec::new() };
        scene.await_ready()?;
        scene.index = scene.engines_by_id()?;
        Ok(scene)
    }

    fn await_ready(&self) -> Result<()> {
        let all = self.emulator.addresses().len();
        let deadline = Instant::now() + SOON;
        loop {
            let spare = self.board()?.spare;
            if spare == all {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{spare} of {all} engines are ready after {SOON:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn engines_by_id(&self) -> Result<Vec<(u64, usize)>> {
        let addresses = self.emulator.addresses();
        let engines = self.api("engines")?;
        let engines = engines["engines"].as_array().context("no list of engines")?;
        let index = engines.iter().map(|engine| {
            let address: SocketAddr = engine["address"].as_str()?.parse().ok()?;
            let index = addresses.iter().position(|known| *known == address)?;
            Some((engine["id"].as_u64()?, index))
        });
        index.collect::<Option<_>>().context("the API lists an engine that is none of ours")
    }

    fn api(&self, path: &str) -> Result<Value> {
        let body = get(self.address, &format!("/api/v1/{path}"))?;
        serde_json::from_str(&body).with_context(|| format!("/api/v1/{path} is no JSON"))
    }

    /// What the API tells now.
    pub(crate) fn board(&self) -> Result<Board> {
        let engines = self.api("engines")?;
        let engines = engines["engines"].as_array().context("no list of engines")?;
        let is_spare = |engine: &&Value| engine["state"] == "ready" && engine["slots"]["taken"] == 0;
        Ok(Board { streams: self.api("streams")?, spare: engines.iter().filter(is_spare).count() })
    }

    /// The index of the engine that plays `id`, when API and engine agree.
    pub(crate) fn playing(&self, board: &Board, id: &ContentId) -> Option<usize> {
        let wanted = board.engine(id)?;
        let (_, index) = self.index.iter().find(|(known, _)| *known == wanted)?;
        let counters = self.emulator.engine_counters(*index);
        let readers = counters.per_content.get(&id.infohash())?.open_readers;
        (readers == 1).then_some(*index)
    }

    /// A counter without labels, from `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let metrics = get(self.address, "/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no metric {name}"))
    }
}
