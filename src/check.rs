//! `check`: what of this machine will hold the server back, and the remedy.

mod disk;
mod docker_fleet;
mod trial;

use std::{fmt::Write, fs, net::TcpListener, path::Path, thread, time::Duration};

use anyhow::Result;
use millrace_control::{DockerError, DockerFleet, DockerLook, DockerUri, ENGINE_LABEL, look_at_docker};
use rustix::process::Resource;
use serde::Serialize;

use crate::{
    affinity,
    config::{Cores, DockerHost, EngineUrl, Settings},
    congestion, engines, limits, probe,
};

/// For all answers of a Docker daemon that was named.
const DOCKER_LIMIT: Duration = Duration::from_secs(5);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It will serve, but less well.
    Warn,
    /// It will not serve.
    Fail,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    level: Level,
    what: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, found: found.into(), remedy: None }
    }

    fn warn(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, what, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// How far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Nothing is changed.
    Look,
    /// What the server does to Docker at its start is done as well, and taken back.
    Trial,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// A line each.
    Text,
    /// An array of objects.
    Json,
}

/// Looks at everything. Takes as long as one engine that does not answer, and
/// a trial as long as the image takes to be pulled.
pub(crate) fn examine(settings: &Settings, depth: Depth) -> Vec<Finding> {
    let mut findings = vec![
        kernel(),
        uring(),
        descriptors(settings.viewers.max_viewers),
        locked_memory(),
        cores(&settings.server.cpus),
        listen(settings),
        congestion_control(settings.viewers.congestion.as_deref()),
        send_buffer(settings.viewers.send_buffer),
        tcp_memory(u64::from(settings.viewers.max_viewers) * u64::from(settings.viewers.send_buffer)),
    ];
    findings.extend(settings.server.data_dir.as_deref().map(data_dir));
    findings.extend(fleet(settings, depth));
    if depth == Depth::Trial && findings.iter().all(|finding| finding.what != trial::WHAT) {
        findings.push(trial::none());
    }
    findings
}

/// Whether the server cannot serve like this.
pub(crate) fn any_failure(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.level == Level::Fail)
}

/// The findings as a line each, or as a JSON array.
///
/// # Errors
/// Never, unless the program runs out of memory.
pub(crate) fn report(findings: &[Finding], format: Format) -> Result<String> {
    let mut out = String::new();
    match format {
        Format::Json => {
            out = serde_json::to_string_pretty(findings)?;
            out.push('\n');
        }
        Format::Text => {
            for Finding { level, what, found, remedy } in findings {
                let remedy = remedy.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
                writeln!(out, "{:4}  {what}: {found}{remedy}", level.as_str())?;
            }
        }
    }
    Ok(out)
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 10) {
        Finding::ok("kernel", format!("Linux {release}"))
    } else {
        Finding::warn(
            "kernel",
            format!("Linux {release}"),
            "5.10 or newer is tested and has io_uring as it is used here",
        )
    }
}

fn uring() -> Finding {
    match limits::uring_refusal() {
        None => Finding::ok("io_uring", "usable"),
        Some(refusal) => {
            let remedy = format!("shards will run on epoll; {}", refusal.remedy());
            Finding::warn("io_uring", refusal.to_string(), remedy)
        }
    }
}

fn descriptors(viewers: u32) -> Finding {
    let what = "open files";
    let Some(most) = limits::limit(Resource::Nofile).maximum else { return Finding::ok(what, "unlimited") };
    let found = format!("at most {most}");
    if most < limits::FEW_DESCRIPTORS {
        Finding::warn(what, found, limits::DESCRIPTORS_REMEDY)
    } else if most < u64::from(viewers) {
        let remedy = format!("fewer than viewers.max = {viewers}; {}", limits::DESCRIPTORS_REMEDY);
        Finding::warn(what, found, remedy)
    } else {
        Finding::ok(what, found)
    }
}

fn locked_memory() -> Finding {
    // Since Linux 5.12 urings are charged to the memory cgroup; before, to this limit.
    const ENOUGH: u64 = 8 << 20;
    match limits::limit(Resource::Memlock).current {
        Some(most) if most < ENOUGH => Finding::warn(
            "locked memory",
            format!("at most {} KiB", most >> 10),
            "an older kernel needs 8 MiB for io_uring: LimitMEMLOCK=8M, or ulimit -l 8192",
        ),
        Some(most) => Finding::ok("locked memory", format!("at most {} KiB", most >> 10)),
        None => Finding::ok("locked memory", "unlimited"),
    }
}

fn cores(wanted: &Cores) -> Finding {
    match affinity::choose(wanted) {
        Ok(cores) => Finding::ok("cores", format!("{} shards, on cores {cores:?}", cores.len())),
        Err(error) => Finding::fail("cores", error.to_string(), "list others with --cpus, or leave it out"),
    }
}

fn listen(settings: &Settings) -> Finding {
    let address = settings.server.listen;
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("address", format!("{address} is free")),
        Err(error) => {
            let remedy = "end the program that listens there, or choose another with --listen";
            Finding::fail("address", format!("{address}: {error}"), remedy)
        }
    }
}

/// Only told: a configuration that the kernel refuses does not come this far.
fn congestion_control(wanted: Option<&str>) -> Finding {
    let what = "congestion control";
    match (wanted, congestion::default()) {
        (Some(name), _) => Finding::ok(what, format!("{name}, by viewers.congestion")),
        (None, Some(name)) => Finding::ok(what, format!("{name}, the kernel's default")),
        (None, None) => Finding::ok(what, "the kernel's default"),
    }
}

fn send_buffer(wanted: u32) -> Finding {
    let what = "send buffer";
    let most =
        fs::read_to_string("/proc/sys/net/core/wmem_max").ok().and_then(|s| s.trim().parse::<u32>().ok());
    match most {
        Some(most) if most < wanted => Finding::warn(
            what,
            format!("net.core.wmem_max = {most} is less than viewers.send_buffer = {wanted}"),
            format!("sysctl -w net.core.wmem_max={wanted}"),
        ),
        Some(most) => Finding::ok(what, format!("net.core.wmem_max = {most}")),
        // A container's network namespace does not show it.
        None => Finding::ok(what, "net.core.wmem_max cannot be read here"),
    }
}

/// Send buffers of stalled viewers fill up; when all of TCP's memory is gone,
/// it is gone for everybody.
fn tcp_memory(wanted: u64) -> Finding {
    let what = "TCP memory";
    let limits = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok();
    let most = limits.and_then(|s| s.split_whitespace().nth(2)?.parse::<u64>().ok());
    let Some(pages) = most else { return Finding::ok(what, "net.ipv4.tcp_mem cannot be read here") };
    let most = pages.saturating_mul(rustix::param::page_size() as u64);
    let found = format!("{} MiB for all sockets", most >> 20);
    if most < wanted {
        let remedy = format!(
            "{} MiB if all viewers stalled with full buffers: lower viewers.max or viewers.send_buffer, or raise net.ipv4.tcp_mem",
            wanted >> 20
        );
        Finding::warn(what, found, remedy)
    } else {
        Finding::ok(what, found)
    }
}

fn data_dir(dir: &Path) -> Finding {
    let what = "data directory";
    let trial = dir.join(format!(".millrace-check-{}", std::process::id()));
    let written =
        fs::File::options().write(true).create_new(true).open(&trial).and_then(|_| fs::remove_file(&trial));
    match written {
        Ok(()) => Finding::ok(what, format!("{} is writable", dir.display())),
        Err(error) => Finding::fail(
            what,
            format!("{}: {error}", dir.display()),
            "create it and give it to the user that runs millrace, or name another with --data-dir",
        ),
    }
}

/// The engines that `serve` would use.
fn fleet(settings: &Settings, depth: Depth) -> Vec<Finding> {
    let engines = &settings.engines;
    let managed = |uri: &DockerUri| {
        let data_dir = settings.server.data_dir.as_deref();
        settings.fleet.makes_engines().then(|| settings.fleet.at(uri.clone(), data_dir))
    };
    let emulated = "emulated ones only; name real ones with --engine http://HOST:PORT or --docker URI";
    if !engines.urls.is_empty() {
        return engines_found(&engines.urls);
    }
    if engines.emulate != 0 {
        return vec![Finding::ok("engine", emulated)];
    }
    if let Some(uri) = &engines.docker {
        return match managed(uri) {
            Some(fleet) => own_fleet(&fleet, depth),
            None => docker(uri),
        };
    }
    match &engines.docker_host {
        DockerHost::At(uri) => match look_at_docker(uri, engines::LOOK_LIMIT) {
            Ok(_) if let Some(fleet) = managed(uri) => own_fleet(&fleet, depth),
            Ok(look) if look.engines + look.unusable.len() > 0 => docker_answers(uri, &look),
            Ok(look) => vec![
                Finding::ok("Docker", format!("{uri} runs Docker {} and no engine of ours", look.version)),
                Finding::ok("engine", emulated),
            ],
            Err(error) => vec![
                Finding::ok("Docker", format!("{uri}: {error}; not needed")),
                Finding::ok("engine", emulated),
            ],
        },
        DockerHost::Unsupported(uri) => vec![
            Finding::warn(
                "Docker",
                format!("DOCKER_HOST={uri}"),
                format!("supported is {}", DockerUri::ALLOWED),
            ),
            Finding::ok("engine", emulated),
        ],
    }
}

/// Engines that Millrace makes.
fn own_fleet(fleet: &DockerFleet, depth: Depth) -> Vec<Finding> {
    let mut findings = docker_fleet::examine(fleet, DOCKER_LIMIT);
    if depth == Depth::Trial {
        findings.extend(trial::run(fleet));
    }
    findings
}

/// A daemon that was named.
fn docker(uri: &DockerUri) -> Vec<Finding> {
    match look_at_docker(uri, DOCKER_LIMIT) {
        Ok(look) => docker_answers(uri, &look),
        Err(error) => vec![docker_refuses(uri, &error)],
    }
}

fn docker_refuses(uri: &DockerUri, error: &DockerError) -> Finding {
    Finding::fail("Docker", format!("{uri}: {error}"), error.remedy())
}

fn docker_answers(uri: &DockerUri, look: &DockerLook) -> Vec<Finding> {
    let (version, engines) = (&look.version, look.engines);
    let mut findings = vec![Finding::ok("Docker", format!("{uri} runs Docker {version}"))];
    findings.extend(docker_host(look));
    findings.push(match engines {
        0 => Finding::warn(
            "engine",
            format!("no usable container has the label {ENGINE_LABEL}=true"),
            format!("start one with docker run --label {ENGINE_LABEL}=true"),
        ),
        _ => Finding::ok("engine", format!("{engines} containers have the label {ENGINE_LABEL}=true")),
    });
    if look.paused + look.stopped > 0 {
        let found = format!("{} more are paused and {} do not run", look.paused, look.stopped);
        findings.push(Finding::ok("idle engines", found));
    }
    findings.extend(unusable(look));
    findings
}

fn unusable(look: &DockerLook) -> impl Iterator<Item = Finding> + '_ {
    look.unusable.iter().map(|container| {
        let found = format!("container {} cannot be used: {}", container.name, container.why);
        Finding::warn("engine", found, container.remedy)
    })
}

/// What its host is, and what it will and will not do for engines.
fn docker_host(look: &DockerLook) -> [Finding; 3] {
    let architecture = look.architecture.as_deref().unwrap_or("an unknown architecture");
    let cgroup = look.cgroup_version.as_deref().unwrap_or("of an unknown version");
    let restore = "Docker live-restore";
    [
        Finding::ok("Docker host", format!("{architecture}, control groups {cgroup}")),
        match look.live_restore {
            Some(true) => Finding::ok(restore, "engines go on while Docker is restarted"),
            Some(false) => Finding::warn(
                restore,
                "engines end when Docker is restarted",
                "set \"live-restore\": true in /etc/docker/daemon.json and reload Docker",
            ),
            None => Finding::ok(restore, "it does not say"),
        },
        if look.tells_events {
            Finding::ok("Docker events", "told when they are asked for")
        } else {
            Finding::warn("Docker events", "not told", "let whatever is before the socket pass on /events")
        },
    ]
}

/// All at once, so that many dead engines take no longer than one.
fn engines_found(urls: &[EngineUrl]) -> Vec<Finding> {
    let what = "engine";
    let look = &|url: &EngineUrl| match engines::resolve(url) {
        Err(error) => {
            let found = format!("{:#}", anyhow::Error::from(error));
            Finding::fail(what, found, "correct the name, or use the address")
        }
        Ok(address) => match probe::version(address) {
            Ok(version) => Finding::ok(what, format!("{url} runs AceStream {version}")),
            Err(error) => Finding::fail(
                what,
                format!("{url}: {error}"),
                "start the engine, or correct host and port; from a container, 127.0.0.1 is the container itself",
            ),
        },
    };
    thread::scope(|scope| {
        let looks: Vec<_> = urls.iter().map(|url| scope.spawn(move || look(url))).collect();
        looks.into_iter().filter_map(|l| l.join().ok()).collect()
    })
}
