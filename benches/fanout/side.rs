//! The two servers under the same load.

use std::{
    collections::BTreeMap,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::{
    Options,
    case::Case,
    support::{
        histogram::{Buckets, LATENESS, between, buckets},
        http::{address_in, get},
        options::own_program,
        process::{self, Memory, Process},
        quantiles::Quantiles,
    },
};

/// Most streams an engine plays.
const ENGINE_CAPACITY: usize = 20;
/// Longest visiting period that our server may use; gaps beyond it are late.
const LONGEST_PERIOD: Duration = Duration::from_millis(190);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// The sendfile wheel of this bench.
    Raw,
    /// The real binary.
    Millrace,
}

impl Side {
    /// The word in the output.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Millrace => "millrace",
        }
    }
}

/// A running server, with what feeds it.
pub(crate) struct Server {
    side: Side,
    process: Process,
    // Held for its life: the engines end with the server.
    _engines: Option<Process>,
    /// Where it listens.
    pub(crate) address: SocketAddrV4,
    data: Option<PathBuf>,
}

impl Server {
    /// Starts the server of `side` for the streams of `case`.
    pub(crate) fn start(side: Side, case: &Case, options: &Options) -> Result<Self> {
        match side {
            Side::Raw => Self::start_raw(case, options),
            Side::Millrace => Self::start_millrace(case, options),
        }
    }

    fn start_raw(case: &Case, options: &Options) -> Result<Self> {
        let mut args = vec![
            "raw-wheel".to_owned(),
            format!("--cpu={}", options.common.server_cpu),
            format!("--streams={}", case.streams),
            format!("--rate={}", case.rate_bps),
            format!("--slots={}", case.slots()),
        ];
        args.extend(options.congestion.iter().map(|name| format!("--congestion={name}")));
        let process = Process::start("the raw wheel", &own_program()?, &args)?;
        let address = process.wait_for(Duration::from_secs(5), address_in)?;
        Ok(Self { side: Side::Raw, process, _engines: None, address, data: None })
    }

    fn start_millrace(case: &Case, options: &Options) -> Result<Self> {
        let engines = case.streams.div_ceil(ENGINE_CAPACITY);
        let args = [
            "engines".to_owned(),
            format!("--cpu={}", options.common.load_cpu),
            format!("--count={engines}"),
            format!("--rate={}", case.rate_bps),
        ];
        let source = Process::start("the engines", &own_program()?, &args)?;
        let ports = source.wait_for(Duration::from_secs(5), |line| {
            serde_json::from_str::<Value>(line).ok()?.get("ports")?.as_array().cloned()
        })?;
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fanout-{}", source.pid()));
        std::fs::create_dir_all(&data)?;
        let mut launch = Vec::new();
        if options.no_uring {
            launch.push("--no-uring".to_owned());
        }
        let congestion = options.congestion.iter();
        launch.extend(congestion.map(|name| format!("--set=MILLRACE_VIEWERS_CONGESTION={name}")));
        let mut args = vec!["--data-dir".to_owned(), data.display().to_string()];
        args.extend(["--engine-capacity".to_owned(), ENGINE_CAPACITY.to_string()]);
        for port in ports {
            args.extend(["--engine".to_owned(), format!("http://127.0.0.1:{port}")]);
        }
        args.extend(options.server_args.iter().cloned());
        let process = options.common.start_server(&launch, &args)?;
        let address = process.wait_for(Duration::from_secs(10), address_in)?;
        Ok(Self { side: Side::Millrace, process, _engines: Some(source), address, data: Some(data) })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How late visits were since the last call, if the server knows by now.
    pub(crate) fn lateness(&mut self, before: &mut Buckets) -> Option<Quantiles> {
        match self.side {
            Side::Raw => {
                let answer = self.process.ask("report").ok()?;
                let figure = |name: &str| answer["lateness_us"][name].as_u64().unwrap_or(0);
                Some(Quantiles { p50_us: figure("p50"), p99_us: figure("p99"), max_us: figure("max") })
            }
            Side::Millrace => {
                let now = buckets(&get(self.address, "/metrics").ok()?, LATENESS);
                let quantiles = between(before, &now);
                *before = now;
                quantiles
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        if let Some(data) = &self.data {
            std::fs::remove_dir_all(data).ok();
        }
    }
}

/// What one side did under one load.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Outcome {
    /// CPU time of the server over the time measured: 1.0 is one core.
    pub(crate) cpu_share: f64,
    /// The same for all else on the server's core: well above zero, the
    /// lateness is not the server's own.
    pub(crate) foreign_share: f64,
    /// CPU time of the viewers' process over the time measured: near 1.0, they
    /// are what is measured.
    pub(crate) load_share: f64,
    /// CPU time of the server in seconds.
    pub(crate) cpu_s: f64,
    /// CPU time of each of its threads that used any, in seconds.
    pub(crate) cpu_s_by_task: Vec<(String, f64)>,
    /// Time measured, in seconds.
    pub(crate) seconds: f64,
    /// Bytes of the streams that viewers received.
    pub(crate) bytes: u64,
    /// CPU seconds for 2³⁰ bytes.
    pub(crate) cpu_s_per_gib: f64,
    /// Bits a second to all viewers.
    pub(crate) throughput_bps: f64,
    /// Visit minus the time it was due, as the server tells.
    pub(crate) lateness: Option<Quantiles>,
    /// Gap between visits beyond the period, as sampled viewers see.
    pub(crate) gap_excess: Quantiles,
    /// The period that `gap_excess` is beyond, in microseconds.
    pub(crate) period_us: u64,
    /// Share of gaps more than a tick beyond the period.
    pub(crate) late_share: f64,
    /// Gaps measured.
    pub(crate) gaps: usize,
    /// Anonymous and file pages of the server per viewer, over its state before
    /// the first one. Shared memory, where segments are, is not in it.
    pub(crate) resident_per_viewer: i64,
    /// Socket buffers per viewer, both ends.
    pub(crate) tcp_per_viewer: i64,
    /// Kernel objects per viewer, both ends.
    pub(crate) slab_per_viewer: i64,
    /// The server before the first viewer, shared memory excluded, in bytes.
    pub(crate) base_resident: u64,
    /// Viewers that got no byte of a stream: no connection, no 200, no data.
    pub(crate) failed: u64,
    /// Viewers cut off within a stream.
    pub(crate) ended: u64,
    /// Lost alignment and continuity errors that sampled viewers met.
    pub(crate) errors: u64,
}

/// Runs one side under one load.
pub(crate) fn measure(side: Side, case: &Case, options: &Options) -> Result<Outcome> {
    let mut server = Server::start(side, case, options)?;
    let base = process::memory(server.pid())?;
    let same_visit = case.period() / 4;
    let args = [
        "viewers".to_owned(),
        format!("--cpu={}", options.common.load_cpu),
        format!("--address={}", server.address),
        format!("--count={}", case.viewers),
        format!("--streams={}", case.streams),
        format!("--same-visit-us={}", same_visit.as_micros()),
    ];
    let mut load = Process::start("the viewers", &own_program()?, &args)?;
    let wait = Duration::from_secs(20 + case.viewers as u64 / 500);
    let deadline = Instant::now() + wait;
    loop {
        let status = load.ask("status")?;
        let of = |name: &str| status[name].as_u64().unwrap_or(0);
        if of("flowing") + of("failed") >= case.viewers as u64 {
            ensure!(of("flowing") > 0, "no viewer got a byte of a stream");
            break;
        }
        if Instant::now() > deadline {
            bail!("{} of {} viewers flow after {wait:?}", of("flowing"), case.viewers);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(options.settle());
    await_real_time(&mut load, case)?;

    let mut lateness_before = Buckets::default();
    server.lateness(&mut lateness_before);
    let first = load.ask("mark")?;
    let (start, cpu_start) = (Instant::now(), process::cpu_time(server.pid())?);
    let load_start = process::cpu_time(load.pid())?;
    let busy_start = process::busy_time(options.common.server_cpu)?;
    let tasks_start = process::cpu_time_by_task(server.pid())?;
    std::thread::sleep(options.measured());
    let last = load.ask("report")?;
    let (seconds, cpu_end) = (start.elapsed().as_secs_f64(), process::cpu_time(server.pid())?);
    let busy = (process::busy_time(options.common.server_cpu)? - busy_start).as_secs_f64();
    let load_cpu = (process::cpu_time(load.pid())? - load_start).as_secs_f64();
    let tasks_end = process::cpu_time_by_task(server.pid())?;
    let memory = process::memory(server.pid())?;
    let lateness = server.lateness(&mut lateness_before);

    let of = |name: &str| last[name].as_u64().unwrap_or(0);
    let bytes = of("bytes") - first["bytes"].as_u64().unwrap_or(0);
    let cpu_s = (cpu_end - cpu_start).as_secs_f64();
    let gaps: Vec<u64> = last["gaps_us"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    // The raw wheel's period is known; ours is what its viewers see, within what it may be.
    let period_us = match side {
        Side::Raw => case.period().as_micros() as u64,
        Side::Millrace => Quantiles::of(gaps.clone()).p50_us.min(LONGEST_PERIOD.as_micros() as u64),
    };
    let tick_us = crate::wheel::TICK.as_micros() as u64;
    let late = gaps.iter().filter(|&&gap| gap > period_us + tick_us).count();
    let per_viewer =
        |pick: fn(&Memory) -> u64| (pick(&memory) as i64 - pick(&base) as i64) / case.viewers as i64;
    Ok(Outcome {
        cpu_share: cpu_s / seconds,
        load_share: load_cpu / seconds,
        foreign_share: ((busy - cpu_s) / seconds).max(0.0),
        cpu_s,
        cpu_s_by_task: used_by_task(&tasks_start, tasks_end),
        seconds,
        bytes,
        cpu_s_per_gib: cpu_s / (bytes.max(1) as f64 / f64::from(1 << 30)),
        throughput_bps: bytes as f64 * 8.0 / seconds,
        lateness,
        gap_excess: Quantiles::of(gaps.iter().map(|gap| gap.saturating_sub(period_us)).collect()),
        period_us,
        late_share: late as f64 / gaps.len().max(1) as f64,
        gaps: gaps.len(),
        resident_per_viewer: per_viewer(|memory| memory.resident),
        tcp_per_viewer: per_viewer(|memory| memory.tcp),
        slab_per_viewer: per_viewer(|memory| memory.slab),
        base_resident: base.resident,
        failed: of("failed"),
        ended: of("ended"),
        errors: of("errors"),
    })
}

/// Viewers that came while the stream was cold have its first burst to catch up
/// with, as fast as the machine can send: that is over when they receive no more
/// than the streams' rate.
fn await_real_time(load: &mut Process, case: &Case) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(60);
    const PIECE: Duration = Duration::from_secs(1);
    let nominal = case.rate_bps as f64 / 8.0 * case.viewers as f64;
    let (start, mut calm) = (Instant::now(), 0);
    let mut before = load.ask("status")?["bytes"].as_u64().unwrap_or(0);
    while calm < 2 {
        ensure!(start.elapsed() < LIMIT, "viewers still catch up after {LIMIT:?}");
        let piece = Instant::now();
        std::thread::sleep(PIECE);
        let bytes = load.ask("status")?["bytes"].as_u64().unwrap_or(0);
        let rate = (bytes - before) as f64 / piece.elapsed().as_secs_f64();
        calm = if rate < 1.1 * nominal { calm + 1 } else { 0 };
        before = bytes;
    }
    Ok(())
}

fn used_by_task(start: &[(String, Duration)], end: Vec<(String, Duration)>) -> Vec<(String, f64)> {
    let mut used: BTreeMap<String, f64> = BTreeMap::new();
    for (name, time) in end {
        *used.entry(name).or_default() += time.as_secs_f64();
    }
    for (name, time) in start {
        if let Some(sum) = used.get_mut(name) {
            *sum -= time.as_secs_f64();
        }
    }
    used.into_iter().filter(|(_, seconds)| *seconds >= 0.005).collect()
}
