//! Child processes that end with us, and what the kernel knows of them.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Resource, Rlimit, Signal},
    thread::CpuSet,
    time::{ClockId, clock_gettime},
};

/// Longest wait for one line of a child.
const ANSWER: Duration = Duration::from_secs(20);
/// Lines kept of a child that nobody reads from; later ones are dropped.
const LINES: usize = 4_096;

/// To be called first in every child, and by a bench that is its own load: dies
/// with its parent, runs on `cpu`
/// only, before what else the machine does if it may, and may open as many
/// descriptors as the hard limit allows.
pub(crate) fn settle_in(cpu: usize) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(cpu)?;
    // Niceness counts only within a session's group where the kernel groups by
    // session, so the group is raised as well. Both are for root only.
    rustix::process::setsid().ok();
    fs::write("/proc/self/autogroup", "-15").ok();
    rustix::process::nice(-10).ok();
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}

/// Keeps the calling thread, and those that it starts from now on, on `cpu`.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("no core {cpu}"))
}

/// Has the calling thread run as soon as it can, whatever else is on its core:
/// niceness shares time out, but an equal that runs is let finish its slice.
/// For root only; elsewhere it stays as it is.
pub(crate) fn go_first() {
    // SAFETY: all integers, for which zero is a value.
    let mut first: libc::sched_param = unsafe { std::mem::zeroed() };
    first.sched_priority = 1;
    // SAFETY: `first` is a whole structure, which the kernel only reads.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
}

/// CPU time of the calling thread.
pub(crate) fn thread_time_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// A running child; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    name: String,
}

impl Process {
    /// Starts `program`; its standard output and error arrive line by line.
    pub(crate) fn start(name: &str, program: &Path, args: &[String]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("NO_COLOR", "1")
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (sender, lines) = sync_channel(LINES);
        let outputs: [Option<Box<dyn io::Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(io::Result::ok) {
                    sender.try_send(line).ok();
                }
            });
        }
        Ok(Self { child, lines, name: name.to_owned() })
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line that `pick` makes something of.
    pub(crate) fn wait_for<T>(&self, wait: Duration, mut pick: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + wait;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(found) = pick(&line) {
                return Ok(found);
            }
            seen.push(line);
        }
        bail!("{} did not say what was waited for; it said:\n{}", self.name, seen.join("\n"))
    }

    /// Sends one command line and returns the JSON line that answers it.
    pub(crate) fn ask(&mut self, command: &str) -> Result<serde_json::Value> {
        let input = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(input, "{command}").with_context(|| format!("{} is gone", self.name))?;
        self.wait_for(ANSWER, |line| serde_json::from_str(line).ok())
    }

    /// Ends the child by its id and waits for it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// CPU time of a process with all its threads, the ended ones too: user and
/// system, in steps of 10 ms. Softirq work done in its sends is in it.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_cpu_time(&stat).context("cannot read the CPU time")
}

/// The same of the threads that live, as the scheduler counts it: in
/// nanoseconds, for times too short for [`cpu_time`].
pub(crate) fn run_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(stat) = fs::read_to_string(entry?.path().join("schedstat")) else {
            continue; // it has ended since
        };
        let running = stat.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
        nanos += running.context("the kernel does not count the time that threads run")?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Time that `cpu` was busy with anything, or taken by the hypervisor, since
/// the machine started.
pub(crate) fn busy_time(cpu: usize) -> Result<Duration> {
    busy_time_of(&format!("cpu{cpu} "))
}

/// The same of all cores together.
pub(crate) fn busy_time_of_all() -> Result<Duration> {
    busy_time_of("cpu ")
}

fn busy_time_of(name: &str) -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix(name)).context("no such core")?;
    // user nice system idle iowait irq softirq steal
    let ticks = line.split_whitespace().take(8).map_while(|field| field.parse::<u64>().ok());
    let busy: u64 =
        ticks.enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum();
    Ok(Duration::from_nanos(busy * (1_000_000_000 / rustix::param::clock_ticks_per_second())))
}

/// Name and CPU time of each thread.
pub(crate) fn cpu_time_by_task(pid: u32) -> Result<Vec<(String, Duration)>> {
    let mut tasks = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        let (Ok(name), Ok(stat)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("stat")))
        else {
            continue; // it has ended since
        };
        tasks.push((name.trim().to_owned(), parse_cpu_time(&stat).unwrap_or_default()));
    }
    Ok(tasks)
}

fn parse_cpu_time(stat: &str) -> Option<Duration> {
    // The name may hold spaces and brackets; fields are counted behind its last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_nanos(ticks * (1_000_000_000 / per_second)))
}

/// Memory of a process without its shared memory (segments are in that), and
/// what TCP holds in the whole machine, both ends of a loopback connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Anonymous and file-backed pages, in bytes.
    pub(crate) resident: u64,
    /// Mapped shared memory, in bytes.
    pub(crate) shared: u64,
    /// Socket buffers of the machine, in bytes.
    pub(crate) tcp: u64,
    /// Kernel objects of the machine, in bytes.
    pub(crate) slab: u64,
}

/// Reads [`Memory`] now.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let sockstat = fs::read_to_string("/proc/net/sockstat")?;
    let kib = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    let tcp = sockstat.lines().find(|line| line.starts_with("TCP:"));
    let pages = tcp.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    Ok(Memory {
        resident: kib(&status, "RssAnon:") + kib(&status, "RssFile:"),
        shared: kib(&status, "RssShmem:"),
        tcp: pages * rustix::param::page_size() as u64,
        slab: kib(&meminfo, "Slab:"),
    })
}
